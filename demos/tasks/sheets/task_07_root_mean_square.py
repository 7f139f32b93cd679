"""Task 7: Root Mean Square.

One learning rate for all parameters is too large for the steep ones, or too small for the flat ones. So it is divided
by σ. Each parameter has its own σ: the root of the mean of its squared gradients so far.

    σᵢᵗ = √( ((gᵢ⁰)² + (gᵢ¹)² + … + (gᵢᵗ)²) / (t + 1) )
    θᵢᵗ⁺¹ = θᵢᵗ − η / σᵢᵗ · gᵢᵗ

         steep: g = 100, σ = 100   →   a step of η
         flat:  g = 0.1, σ = 0.1   →   a step of η

At the first update t = 0, and the sum has one square. The dictionary `state` keeps from update to update what you put
there: the sum of the squares, and their number.

Fill the hole: return the new θ.
"""

import numpy as np


def rms_step(theta, g, state, lr):
    """The new θ. theta, g: arrays of the same shape. state: a dictionary, empty at first. lr: the learning rate η."""
    return ...


if __name__ == "__main__":  # try it: python task_07_root_mean_square.py
    theta, state = np.array([0.0, 0.0]), {}
    for g in ([100.0, -0.1], [0.0, -0.1]):
        theta = rms_step(theta, np.array(g), state, lr=0.1)
        print(theta)
    # right: [-0.1  0.1], then [-0.1  0.2]
