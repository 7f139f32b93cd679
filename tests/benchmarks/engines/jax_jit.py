"""JAX in its fastest way: under jax.jit, steps on flat vectors whose buffers are donated. Compiling is not timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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


def stepped(function: Callable[..., Any], read: Callable[[Any], list[Any]], *state: Any) -> Contender:
    """A compiled function from a state to the next one, its memory donated. read: gives the weights of a state."""
    jitted = jax.jit(function, donate_argnums=tuple(range(len(state))))
    held = [tuple(map(jnp.array, state))]

    def run() -> Any:
        held[0] = jax.block_until_ready(jitted(*held[0]))
        return held[0]

    return Contender(run, lambda result: [np.asarray(w) for w in read(result[0])])


def adam_update(theta: Any, g: Any, m: Any, v: Any, t: Any) -> tuple[Any, ...]:
    t = t + 1
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g * g
    scale1, scale2 = (1 / (1 - jnp.asarray(beta, theta.dtype) ** t) for beta in (BETA1, BETA2))
    return theta - LR * (m * scale1) / (jnp.sqrt(v * scale2) + EPS), m, v, t


def flat(problem: Problem) -> tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]:
    """θ, what makes weights of it, and the loss as a function of it.

    By slices: at 784-128-10 a scan takes half the time that it takes with jax.flatten_util.ravel_pytree.
    """
    shapes = [w.shape for w in problem.weights]
    ends = np.cumsum([0, *(w.size for w in problem.weights)]).tolist()
    theta, loss = jnp.concatenate([w.ravel() for w in start(problem)]), loss_of(problem)

    def weights_of(theta: Any) -> list[Any]:
        return [theta[i:j].reshape(shape) for i, j, shape in zip(ends[:-1], ends[1:], shapes, strict=True)]

    return theta, weights_of, lambda theta: loss(weights_of(theta))


def adam_step(problem: Problem) -> tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any], Any]]:
    """A training step from (θ, m, v, t) to the next ones, where it starts, and what makes weights of θ."""
    theta, weights_of, loss = flat(problem)
    gradient_of = jax.grad(loss)
    begin = theta, jnp.zeros_like(theta), jnp.zeros_like(theta), jnp.zeros((), problem.dtype)
    return lambda theta, m, v, t: adam_update(theta, gradient_of(theta), m, v, t), begin, weights_of


def gradient(problem: Problem) -> Contender:
    both = called(jax.value_and_grad(loss_of(problem)), start(problem))
    return Contender(both.run, lambda result: [np.asarray(g) for g in result[1]])


def adam(problem: Problem) -> Contender:
    theta, weights_of, loss = flat(problem)
    g = jax.grad(loss)(theta)
    zeros = jnp.zeros_like(theta)
    return stepped(
        lambda theta, m, v, t: adam_update(theta, g, m, v, t),
        weights_of,
        theta,
        zeros,
        zeros,
        jnp.zeros((), problem.dtype),
    )


def training_step(problem: Problem) -> Contender:
    step, begin, weights_of = adam_step(problem)
    return stepped(step, weights_of, *begin)


def hvp(problem: Problem) -> Contender:
    """Forward over reverse, JAX's own advice."""
    gradient_of = jax.grad(loss_of(problem))
    vectors = [jnp.asarray(v) for v in problem.vectors]
    return called(lambda weights, v: jax.jvp(gradient_of, (weights,), (v,))[1], start(problem), vectors)


def hessian(problem: Problem) -> Contender:
    theta, _, loss = flat(problem)
    return called(jax.hessian(loss), theta)


def moons(problem: Problem) -> Contender:
    theta, weights_of, loss = flat(problem)
    gradient_of = jax.grad(loss)
    return stepped(lambda theta: (theta - MOONS_LR * gradient_of(theta),), weights_of, theta)
