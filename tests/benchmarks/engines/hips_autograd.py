"""HIPS autograd. It has no optimizers on lists of arrays; only derivatives are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import autograd
import autograd.numpy as np
from autograd.scipy.special import logsumexp
from problems import MOONS_DECAY, MOONS_LR, Array, Chain, Contender, Problem

NAME = "HIPS autograd"


def loss_of(problem: Problem) -> Callable[..., Any]:
    """The loss as a function of the list of weights."""
    x, y, rows = problem.x, problem.y, np.arange(problem.batch)
    tanh = problem.loss == "mse"

    def loss(weights: list[Any]) -> Any:
        h = x
        for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            h = np.dot(h, w.T) + b
            h = np.tanh(h) if tanh else np.maximum(h, 0)
        out = np.dot(h, weights[-2].T) + weights[-1]
        if tanh:
            return np.mean((out - y) ** 2)
        if problem.loss == "hinge":
            return np.mean(np.maximum(1 - y * out, 0)) + MOONS_DECAY * sum([np.sum(w * w) for w in weights])
        return np.mean(logsumexp(out, axis=1) - out[rows, y])

    return loss


def gradient(problem: Problem) -> Contender:
    gradient_of = autograd.grad(loss_of(problem))
    return Contender(lambda: gradient_of(problem.weights), list)


def hvp(problem: Problem) -> Contender:
    gradient_of = autograd.grad(loss_of(problem))

    def along(weights: list[Any]) -> Any:
        return sum([np.sum(g * v) for g, v in zip(gradient_of(weights), problem.vectors, strict=True)])

    product = autograd.grad(along)
    return Contender(lambda: product(problem.weights), list)


def hessian(problem: Problem) -> Contender:
    loss = loss_of(problem)
    ends = [int(n) for n in np.cumsum([w.size for w in problem.weights])]
    theta = np.concatenate([w.ravel() for w in problem.weights])

    def value(flat: Array) -> Any:
        parts = [flat[i:j] for i, j in zip([0, *ends[:-1]], ends, strict=True)]
        return loss([part.reshape(w.shape) for part, w in zip(parts, problem.weights, strict=True)])

    second = autograd.hessian(value)
    return Contender(lambda: second(theta), lambda result: [result])


def chain(problem: Chain) -> Contender:
    def value(x: Any, w: Any, b: Any) -> Any:
        for _ in range(problem.n // 2):
            x = x * w
            x = x + b
        return x

    gradient_of = autograd.grad(value, (0, 1, 2) if problem.weights else (0,))
    return Contender(lambda: gradient_of(problem.x, problem.w, problem.b), lambda result: [np.array(result)])


def moons(problem: Problem) -> Contender:
    weights, gradient_of = problem.copied_weights(), autograd.grad(loss_of(problem))

    def run() -> None:
        for w, g in zip(weights, gradient_of(weights), strict=True):
            w -= MOONS_LR * g

    return Contender(run, lambda _: weights)
