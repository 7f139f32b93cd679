"""Task 10: warm-up, then decay.

At the start Adam's σ comes from very few gradients, and cannot be trusted. So the learning rate begins small and grows
for W updates. This is the warm-up. Then it falls, so that the last steps are small:

    s = t + 1                         t = 0 at the first update
    ηᵗ = peak · s / W                 while s ≤ W: a straight line up
    ηᵗ = peak · √(W / s)              after that

       η │     peak
         │     ╱‾─__
         │    ╱     ‾‾──___
         │   ╱             ‾‾‾‾──
         │  ╱
         └─────┴───────────────── s
               W

Both lines give `peak` at s = W, so there is no jump.

Fill the hole: return ηᵗ, a number.
"""

import numpy as np


def learning_rate(t, peak, warmup):
    """ηᵗ. t: the number of updates before this one. peak: the largest rate. warmup: W, how many updates it grows."""
    return ...


if __name__ == "__main__":  # try it: python task_10_warm_up.py
    print(np.array([learning_rate(t, peak=1.0, warmup=4) for t in (0, 1, 3, 15)]))
    # right: [0.25 0.5  1.   0.5 ]
