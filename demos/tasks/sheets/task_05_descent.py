"""Task 5: gradient descent.

The gradient g points to where the loss rises fastest. One update goes the other way. The learning rate η sets how far.

    θᵗ⁺¹ = θᵗ − η gᵗ

      L │ ╲
        │  ●→              at ● the slope g is negative,
        │   ╲      ╱       so −η g is a step to the right
        │    ╲____╱
        └────────────── θ

Fill the hole: return the new θ.
"""

import numpy as np


def descend(theta, g, lr):
    """The new θ. theta, g: arrays of the same shape. lr: the learning rate η."""
    return ...


if __name__ == "__main__":  # try it: python task_05_descent.py
    print(descend(theta=np.array([1.0, 2.0]), g=np.array([10.0, -10.0]), lr=0.1))
    # right: [0. 3.]
