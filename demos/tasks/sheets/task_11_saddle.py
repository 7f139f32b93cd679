"""Task 11: leave a saddle.

Where the gradient is 0, the Hessian H decides what kind of point it is. A step of length s along an eigenvector v of H,
with eigenvalue λ, changes the loss by about ½ λ s²:

    all λ > 0              "minimum"      every step goes up
    all λ < 0              "maximum"      every step goes down
    some λ < 0, some > 0   "saddle"       along v of a negative λ the loss falls

            up  (along v₂)        the lecture's net L = (1 − w₁w₂)² at (0, 0):
             ↑
    down ←── ● ──→ down (v₁)      H = │  0  −2 │     λ = −2 and +2
             ↓                        │ −2   0 │
            up

`np.linalg.eigh(H)` gives the eigenvalues, the lowest first, and a matrix. The eigenvectors are its columns.

Fill the hole: return the kind of the point, and the eigenvector of the lowest eigenvalue. At a minimum there is no way
down: return None in place of the vector. (No eigenvalue is 0 here.)
"""

import numpy as np


def way_out(H):
    """The kind of a point with gradient 0, and the direction in which the loss falls most. H: the Hessian, (n, n)."""
    return ..., ...


if __name__ == "__main__":  # try it: python task_11_saddle.py
    print(way_out(np.array([[0.0, -2.0], [-2.0, 0.0]])))
    # right: saddle, and [0.707, 0.707] or [-0.707, -0.707]: both ways lead down
