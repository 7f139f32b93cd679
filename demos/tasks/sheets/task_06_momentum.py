"""Task 6: the lecture's momentum.

An update repeats a part λ of the movement before it, and adds a step against the gradient:

    m⁰ = 0
    mᵗ⁺¹ = λ mᵗ − ηᵗ gᵗ            the movement
    θᵗ⁺¹ = θᵗ + mᵗ⁺¹

         the movement before     the gradient step     both together
              λ mᵗ  ───→    +       −ηᵗ gᵗ  ↓      =       ↘  mᵗ⁺¹

The learning rate η is inside m: a step keeps the size that it had, even if η changes later.

Between two updates m is kept in the dictionary `state`, which is empty at first. `state.get("m", 0.0)` is 0 at the
first update, and m after that.

Fill the hole: compute the movement, keep it in `state`, and return the new θ.
"""

import numpy as np


def momentum_step(theta, g, state, lr, lam):
    """The new θ. theta, g: arrays of the same shape. state: a dictionary. lr: the learning rate η. lam: λ."""
    return ...


if __name__ == "__main__":  # try it: python task_06_momentum.py
    theta, state = np.array([0.0]), {}
    for lr in (0.1, 0.01):
        theta = momentum_step(theta, np.array([1.0]), state, lr, lam=0.9)
        print(theta)
    # right: [-0.1], then [-0.2]
