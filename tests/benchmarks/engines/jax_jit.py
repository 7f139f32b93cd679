"""JAX, everything under jax.jit. Compiling is not timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from problems import BETA1, BETA2, EPS, LR, MOONS_DECAY, MOONS_LR, Contender, Problem

jax.config.update("jax_enable_x64", True)

NAME = "jax.jit"


def loss_of(problem: Problem) -> Callable[..., Any]:
    """The loss as a function of the list of weights."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)
    activation = jnp.tanh if problem.loss == "mse" else jax.nn.relu

    def loss(weights: list[Any]) -> Any:
        h = x
        for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            h = activation(h @ w.T + b)
        out = h @ weights[-2].T + weights[-1]
        if problem.loss == "mse":
            return jnp.mean((out - y) ** 2)
        if problem.loss == "hinge":
            return jnp.mean(jax.nn.relu(1 - y * out)) + MOONS_DECAY * sum((w * w).sum() for w in weights)
        return -jnp.mean(jax.nn.log_softmax(out)[jnp.arange(len(y)), y])

    return loss


def start(problem: Problem) -> list[Any]:
    return [jnp.asarray(w) for w in problem.weights]


def called(function: Callable[..., Any], *args: Any) -> Contender:
    """A compiled function on the same arguments each time."""
    jitted = jax.jit(function)
    return Contender(
        lambda: jax.block_until_ready(jitted(*args)), lambda result: [np.asarray(a) for a in jax.tree.leaves(result)]
    )


def stepped(function: Callable[..., Any], weights: list[Any], *state: Any) -> Contender:
    """A compiled function from (weights, state) to the next ones."""
    jitted = jax.jit(function)
    held = [(weights, *state)]

    def run() -> Any:
        held[0] = jax.block_until_ready(jitted(*held[0]))
        return held[0]

    return Contender(run, lambda result: [np.asarray(w) for w in result[0]])


def adam_update(weights: list[Any], g: list[Any], m: list[Any], v: list[Any], t: Any) -> tuple[Any, ...]:
    t = t + 1
    m = [BETA1 * a + (1 - BETA1) * b for a, b in zip(m, g, strict=True)]
    v = [BETA2 * a + (1 - BETA2) * b * b for a, b in zip(v, g, strict=True)]
    scale1, scale2 = (1 / (1 - jnp.asarray(beta, weights[0].dtype) ** t) for beta in (BETA1, BETA2))
    new = [w - LR * (a * scale1) / (jnp.sqrt(b * scale2) + EPS) for w, a, b in zip(weights, m, v, strict=True)]
    return new, m, v, t


def gradient(problem: Problem) -> Contender:
    both = called(jax.value_and_grad(loss_of(problem)), start(problem))
    return Contender(both.run, lambda result: [np.asarray(g) for g in result[1]])


def adam(problem: Problem) -> Contender:
    weights = start(problem)
    g = jax.grad(loss_of(problem))(weights)
    zeros = [jnp.zeros_like(w) for w in weights]
    held = [(weights, zeros, zeros, jnp.zeros((), problem.dtype))]
    jitted = jax.jit(lambda g, weights, m, v, t: adam_update(weights, g, m, v, t))

    def run() -> Any:
        held[0] = jax.block_until_ready(jitted(g, *held[0]))
        return held[0]

    return Contender(run, lambda result: [np.asarray(w) for w in result[0]])


def training_step(problem: Problem) -> Contender:
    gradient_of, weights = jax.grad(loss_of(problem)), start(problem)
    zeros = [jnp.zeros_like(w) for w in weights]
    return stepped(
        lambda weights, m, v, t: adam_update(weights, gradient_of(weights), m, v, t),
        weights, zeros, zeros, jnp.zeros((), problem.dtype),
    )  # fmt: skip


def hvp(problem: Problem) -> Contender:
    """Forward over reverse, JAX's own advice."""
    gradient_of = jax.grad(loss_of(problem))
    vectors = [jnp.asarray(v) for v in problem.vectors]
    return called(lambda weights, v: jax.jvp(gradient_of, (weights,), (v,))[1], start(problem), vectors)


def hessian(problem: Problem) -> Contender:
    loss, weights = loss_of(problem), start(problem)
    flat, unflatten = ravel_pytree(weights)
    return called(jax.hessian(lambda theta: loss(unflatten(theta))), flat)


def moons(problem: Problem) -> Contender:
    gradient_of = jax.grad(loss_of(problem))

    def update(weights: list[Any]) -> tuple[list[Any]]:
        return ([w - MOONS_LR * g for w, g in zip(weights, gradient_of(weights), strict=True)],)

    return stepped(update, start(problem))
