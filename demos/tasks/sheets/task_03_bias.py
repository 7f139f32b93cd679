"""Task 3: undo broadcasting.

A layer adds one bias for each of its units to a table of numbers: one row for each sample, one column for each unit.
NumPy uses the same bias in every row. That is called broadcasting.

    out = z + b          z: (samples, units)     b: (units,)

      b₀  b₁   is used as    b₀  b₁       Each copy has      g₀₀  g₀₁
                             b₀  b₁       a derivative of    g₁₀  g₁₁
                             b₀  b₁       its own:           g₂₀  g₂₁

A bias that is used three times gets the sum of three derivatives:

    ∂L/∂bⱼ = Σᵢ gᵢⱼ

Fill the hole: return ∂L/∂b. It has the shape of b.
"""

import numpy as np


def bias_rule(g):
    """∂L/∂b of out = z + b, of shape (units,). g: ∂L/∂out, of shape (samples, units)."""
    return ...


if __name__ == "__main__":  # try it: python task_03_bias.py
    print(bias_rule(g=np.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])))
    # right: [111. 222.]
