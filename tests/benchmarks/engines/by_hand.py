"""What a careful person would write in NumPy, with the derivatives worked out on paper. No tricks, nothing shared.

Every program here is checked against microgradopt (test_compare.py, and before each measurement).
"""

from __future__ import annotations

import numpy as np
from problems import BETA1, BETA2, EPS, LR, MOONS_DECAY, MOONS_LR, Array, Chain, Contender, Problem

NAME = "hand-written NumPy"


# Three layers, tanh, mean squared error -------------------------------------------------------------------------------


def gradient_mse(weights: list[Array], x: Array, y: Array) -> tuple[float, list[Array]]:
    """The loss and its gradient."""
    w1, b1, w2, b2, w3, b3 = weights
    h1 = np.tanh(x @ w1.T + b1)
    h2 = np.tanh(h1 @ w2.T + b2)
    error = h2 @ w3.T + b3 - y
    loss = np.mean(error * error)

    d3 = error * (2 / error.size)
    d2 = (d3 @ w3) * (1 - h2 * h2)
    d1 = (d2 @ w2) * (1 - h1 * h1)
    return loss, [d1.T @ x, d1.sum(axis=0), d2.T @ h1, d2.sum(axis=0), d3.T @ h2, d3.sum(axis=0)]


def hvp_mse(weights: list[Array], vectors: list[Array], x: Array, y: Array) -> list[Array]:
    """H v by the R-operator (Pearlmutter 1994): r of a quantity is its derivative when the weights move along v."""
    w1, b1, w2, b2, w3, b3 = weights
    v1, c1, v2, c2, v3, c3 = vectors
    h1 = np.tanh(x @ w1.T + b1)
    h2 = np.tanh(h1 @ w2.T + b2)
    s1, s2 = 1 - h1 * h1, 1 - h2 * h2
    rh1 = s1 * (x @ v1.T + c1)
    rh2 = s2 * (rh1 @ w2.T + h1 @ v2.T + c2)
    scale = 2 / y.size
    d3 = (h2 @ w3.T + b3 - y) * scale
    rd3 = (rh2 @ w3.T + h2 @ v3.T + c3) * scale

    e2 = d3 @ w3
    d2 = e2 * s2
    rd2 = (rd3 @ w3 + d3 @ v3) * s2 - 2 * e2 * h2 * rh2
    e1 = d2 @ w2
    rd1 = (rd2 @ w2 + d2 @ v2) * s1 - 2 * e1 * h1 * rh1
    return [
        rd1.T @ x, rd1.sum(axis=0),
        rd2.T @ h1 + d2.T @ rh1, rd2.sum(axis=0),
        rd3.T @ h2 + d3.T @ rh2, rd3.sum(axis=0),
    ]  # fmt: skip


# Two layers, relu, cross-entropy with labels --------------------------------------------------------------------------


def gradient_cross_entropy(weights: list[Array], x: Array, y: Array) -> tuple[float, list[Array]]:
    """The loss and its gradient."""
    w1, b1, w2, b2 = weights
    rows = np.arange(len(y))
    h = x @ w1.T + b1
    np.maximum(h, 0, out=h)
    z = h @ w2.T + b2
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z)
    total = p.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - z[rows, y])

    p /= total
    p[rows, y] -= 1
    p /= len(y)
    d = p @ w2
    d *= h > 0
    return loss, [d.T @ x, d.sum(axis=0), p.T @ h, p.sum(axis=0)]


def hvp_cross_entropy(weights: list[Array], vectors: list[Array], x: Array, y: Array) -> list[Array]:
    """H v by the R-operator."""
    w1, b1, w2, b2 = weights
    v1, c1, v2, c2 = vectors
    h = x @ w1.T + b1
    active = h > 0
    h *= active
    rh = (x @ v1.T + c1) * active
    z = h @ w2.T + b2
    rz = rh @ w2.T + h @ v2.T + c2
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rd2 = p * (rz - (p * rz).sum(axis=1, keepdims=True)) / len(y)
    d2 = p
    d2[np.arange(len(y)), y] -= 1
    d2 /= len(y)

    rd1 = (rd2 @ w2 + d2 @ v2) * active
    return [rd1.T @ x, rd1.sum(axis=0), rd2.T @ h + d2.T @ rh, rd2.sum(axis=0)]


GRADIENTS = {"mse": gradient_mse, "cross_entropy": gradient_cross_entropy}
HVPS = {"mse": hvp_mse, "cross_entropy": hvp_cross_entropy}


class Adam:
    """Kingma and Ba 2015, in place on each parameter."""

    def __init__(self, weights: list[Array]) -> None:
        self.weights, self.t = weights, 0
        self.m, self.v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]

    def step(self, gradients: list[Array]) -> None:
        self.t += 1
        correction1, correction2 = 1 - BETA1**self.t, 1 - BETA2**self.t
        for w, g, m, v in zip(self.weights, gradients, self.m, self.v, strict=True):
            m *= BETA1
            m += (1 - BETA1) * g
            v *= BETA2
            v += (1 - BETA2) * g * g
            w -= LR * (m / correction1) / (np.sqrt(v / correction2) + EPS)


# The workloads --------------------------------------------------------------------------------------------------------


def gradient(problem: Problem) -> Contender:
    program = GRADIENTS[problem.loss]
    return Contender(lambda: program(problem.weights, problem.x, problem.y), lambda result: result[1])


def adam(problem: Problem) -> Contender:
    gradients = GRADIENTS[problem.loss](problem.weights, problem.x, problem.y)[1]
    optimizer = Adam(problem.copied_weights())
    return Contender(lambda: optimizer.step(gradients), lambda _: optimizer.weights)


def training_step(problem: Problem) -> Contender:
    program, optimizer = GRADIENTS[problem.loss], Adam(problem.copied_weights())

    def run() -> float:
        loss, gradients = program(optimizer.weights, problem.x, problem.y)
        optimizer.step(gradients)
        return loss

    return Contender(run, lambda _: optimizer.weights)


def hvp(problem: Problem) -> Contender:
    program = HVPS[problem.loss]
    return Contender(lambda: program(problem.weights, problem.vectors, problem.x, problem.y), lambda result: result)


def hessian(problem: Problem) -> Contender:
    """One Hessian-vector product for each unit vector."""
    program = HVPS[problem.loss]
    ends = np.cumsum([w.size for w in problem.weights])

    def column(unit: Array) -> Array:
        parts = np.split(unit, ends[:-1])
        vectors = [part.reshape(w.shape) for part, w in zip(parts, problem.weights, strict=True)]
        return np.concatenate([part.ravel() for part in program(problem.weights, vectors, problem.x, problem.y)])

    units = np.eye(ends[-1], dtype=problem.dtype)
    return Contender(lambda: np.array([column(unit) for unit in units]), lambda result: [result])


def chain(problem: Chain) -> Contender:
    """On Python's own floats, which are the quickest for this."""
    w, b = problem.w, problem.b

    def run() -> tuple[float, float, float]:
        y, before = problem.x, []
        for _ in range(problem.n // 2):
            before.append(y)
            y = y * w
            y = y + b
        g, gw, gb = 1.0, 0.0, 0.0
        for y in reversed(before):
            if problem.weights:
                gb += g
                gw += g * y
            g *= w
        return g, gw, gb

    return Contender(run, lambda result: [np.array(result[: 3 if problem.weights else 1])])


def moons(problem: Problem) -> Contender:
    """One step of micrograd's demo: gradient of the hinge loss with L2, and a step of gradient descent."""
    weights = problem.copied_weights()
    x, y = problem.x, problem.y

    def run() -> float:
        w1, b1, w2, b2, w3, b3 = weights
        h1 = np.maximum(x @ w1.T + b1, 0)
        h2 = np.maximum(h1 @ w2.T + b2, 0)
        margin = 1 - y * (h2 @ w3.T + b3)
        loss = np.mean(np.maximum(margin, 0)) + MOONS_DECAY * sum((w * w).sum() for w in weights)

        d3 = np.where(margin > 0, -y, 0) / y.size
        d2 = (d3 @ w3) * (h2 > 0)
        d1 = (d2 @ w2) * (h1 > 0)
        gradients = [d1.T @ x, d1.sum(axis=0), d2.T @ h1, d2.sum(axis=0), d3.T @ h2, d3.sum(axis=0)]
        for w, g in zip(weights, gradients, strict=True):
            w -= MOONS_LR * (g + 2 * MOONS_DECAY * w)
        return loss

    return Contender(run, lambda _: weights)
