"""Functions and networks whose critical points are known exactly (shared/known_truths.md)."""

import numpy as np

import microgradopt as mg
from microgradopt import Objective


def lecture(w, decay=0.0):
    return (1 - w[0] * w[1]) ** 2 + decay * (w * w).sum()


def himmelblau(p):
    x, y = p[0], p[1]
    return (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2


HIMMELBLAU = {
    "local minimum": {
        (3.0, 2.0): 0.0,
        (3.584428, -1.848127): 0.0,
        (-3.779310, -3.283186): 0.0,
        (-2.805118, 3.131313): 0.0,
    },
    "saddle point": {
        (3.385154, 0.073852): 13.3119,
        (0.086678, 2.884255): 67.7192,
        (-3.073026, -0.081353): 104.0152,
        (-0.127961, -1.953715): 178.3372,
    },
    "local maximum": {(-0.270845, -0.923039): 181.6165},
}


def rosenbrock(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


DEGENERATE = {
    "monkey saddle": (lambda p: p[0] ** 3 - 3 * p[0] * p[1] ** 2, 2),
    "quartic valley": (lambda p: p[0] ** 2 + p[1] ** 4, 2),
    "quartic ridge": (lambda p: p[0] ** 2 - p[1] ** 4, 2),
    "cubic": (lambda p: p[0] ** 2 + p[1] ** 3, 2),
    "Peano": (lambda p: (p[1] - p[0] ** 2) * (p[1] - 3 * p[0] ** 2), 2),
    "three layers": (lambda w: 0.5 * (w[0] * w[1] * w[2] - 1) ** 2, 3),
}


def polished(objective, theta, steps=8):
    """θ after Newton's method, with the dense Hessian and NumPy's solver: to rounding."""
    theta = np.array(theta, float)
    for _ in range(steps):
        theta = theta - np.linalg.lstsq(objective.hessian(theta), objective.gradient(theta), rcond=1e-10)[0]
    return theta


def linear_net(d_in, hidden, singular_values, kept, rng):
    """½‖W₂ W₁ − M‖² at the critical point that keeps the modes `kept` of M, unused hidden units zero.

    M is square, of full rank, with the given singular values. Returns the objective, at that point.
    """
    m = len(singular_values)
    U, V = (np.linalg.qr(rng.normal(size=(d, m)))[0] for d in (m, d_in))
    M = U @ np.diag(singular_values) @ V.T
    W1, W2 = np.zeros((hidden, d_in)), np.zeros((m, hidden))
    for unit, mode in enumerate(kept):
        W1[unit] = np.sqrt(singular_values[mode]) * V[:, mode]
        W2[:, unit] = np.sqrt(singular_values[mode]) * U[:, mode]
    mix = np.linalg.qr(rng.normal(size=(hidden, hidden)))[0]  # the hidden basis is free
    first, second = mg.Tensor(mix @ W1, requires_grad=True), mg.Tensor(W2 @ mix.T, requires_grad=True)
    return Objective.of([first, second], lambda: 0.5 * ((second @ first - M) ** 2).sum())
