"""Task 8: RMSProp.

Root Mean Square never forgets: a steep place long ago still makes steps short. In RMSProp old gradients fade. The new
square counts 1 − α, all older ones together count α:

    σ⁰ = |g⁰|
    σᵗ = √( α (σᵗ⁻¹)² + (1 − α) (gᵗ)² )        t = 1, 2, …
    θᵗ⁺¹ = θᵗ − η / σᵗ · gᵗ

    the weights of the squares at α = 0.5:    old … ▁ ▂ ▄ █ new       each is half of the next one

At the first update `state` is empty, and σ is |g⁰| itself.

Fill the hole: return the new θ. Keep σ or σ² in `state`.
"""

import numpy as np


def rmsprop_step(theta, g, state, lr, alpha):
    """The new θ. theta, g: arrays of the same shape. state: a dictionary. lr: the learning rate η. alpha: α."""
    return ...


if __name__ == "__main__":  # try it: python task_08_rmsprop.py
    theta, state = np.array([0.0]), {}
    for g in (3.0, 1.0):
        theta = rmsprop_step(theta, np.array([g]), state, lr=0.1, alpha=0.5)
        print(theta.round(4))
    # right: [-0.1], then [-0.1447]
