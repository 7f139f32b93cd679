"""Task 9: Adam.

Adam is momentum and RMSProp together. m is an average of the gradients, v an average of their squares. In both, old
gradients fade:

    m ← β₁ m + (1 − β₁) g            v ← β₂ v + (1 − β₂) g²          both are 0 at first
    m̂ = m / (1 − β₁ᵗ)                v̂ = v / (1 − β₂ᵗ)               t = 1 at the first update, then 2, …
    θ ← θ − η · m̂ / (√v̂ + ε)

Why divide by 1 − βᵗ? Let every gradient be 1 and β = 0.9. The average begins at 0, so it is too small for a while:

    t          1      2      3      10
    m       0.10   0.19   0.27    0.65
    1 − βᵗ  0.10   0.19   0.27    0.65       m / (1 − βᵗ) is 1 from the first update on

Fill the hole: return the new θ. Keep m, v and t in `state`, which is empty at first.
"""

import numpy as np


def adam_step(theta, g, state, lr, beta1, beta2, eps):
    """The new θ. theta, g: arrays of the same shape. state: a dictionary. lr: η. beta1, beta2, eps: β₁, β₂, ε."""
    return ...


if __name__ == "__main__":  # try it: python task_09_adam.py
    theta, state = np.array([0.0, 0.0]), {}
    for g in ([1.0, -5.0], [1.0, 0.0]):
        theta = adam_step(theta, np.array(g), state, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8)
        print(theta.round(4))
    # right: [-0.1  0.1], then [-0.2    0.167]
