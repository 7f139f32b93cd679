"""JAX in its fastest way: under jax.jit, buffers donated, no thread of its own. Compiling is not timed.

Each choice was measured, in CPU time on one core of an AMD EPYC, for 2-16-16-1, 64-32-10, and 784-128-10:

- without asynchronous dispatch, which hands each call to another thread: a training step 22, 41 µs; with it 51, 63 µs;
- a step's arguments: lists of weights 43, 53, 1116 µs; θ, m, v as a vector each 18, 34, 1157 µs; all of Adam's state
  as one vector 13, 30, 1216 µs. So one vector for small nets, lists for large ones. Donating brings 3% there;
- the gradient and the HVP: lists 23, 35, 884 and 30, 47, 1200 µs; a flat θ 14, 28, 950 and 19, 39, 1250 µs;
- the Hessian: jax.hessian 2.0, 220 ms; products with all columns by vmap 1.7, 192 ms; one by one by lax.map 2.7, 96 ms;
- inside lax.scan: lists 6.5, 21, 1000 µs; a flat θ 7.0, 22, 1080 µs; unrolled 4 times 7.8, 23 µs.

XLA's width of vectors, one-hot labels in place of indices, and (in, out) weights change less than 5%.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from problems import BETA1, BETA2, EPS, LR, MOONS_DECAY, MOONS_LR, Contender, Problem

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_enable_async_dispatch", False)

NAME = "jax.jit"
LARGE = 50_000  # parameters, from which on lists of weights are quicker than one vector
MANY = 1000  # columns of a Hessian, from which on they are quicker one by one


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


def joined(arrays: list[Any]) -> Any:
    return jnp.concatenate([a.ravel() for a in arrays])


def splitter(arrays: list[Any]) -> Callable[[Any], list[Any]]:
    """What makes arrays of these shapes of one vector. By slices: ravel_pytree takes twice as long at 784-128-10."""
    shapes = [a.shape for a in arrays]
    ends = np.cumsum([0, *(a.size for a in arrays)]).tolist()
    return lambda vector: [vector[i:j].reshape(s) for i, j, s in zip(ends[:-1], ends[1:], shapes, strict=True)]


def is_large(problem: Problem) -> bool:
    return sum(w.size for w in problem.weights) >= LARGE


def placed(problem: Problem) -> tuple[Callable[..., Any], Callable[[list[Any]], Any], Callable[[Any], list[Any]]]:
    """The loss as a function of what is quicker, a list of weights or a flat θ; what makes this of a list; and back."""
    loss, split = loss_of(problem), splitter(start(problem))
    if is_large(problem):
        return loss, list, list
    return lambda theta: loss(split(theta)), joined, split


def called(function: Callable[..., Any], read: Callable[[Any], list[Any]], *args: Any) -> Contender:
    """A compiled function on the same arguments each time."""
    jitted = jax.jit(function)
    return Contender(lambda: jax.block_until_ready(jitted(*args)), lambda result: [np.asarray(a) for a in read(result)])


def stepped(function: Callable[[Any], Any], state: Any, read: Callable[[Any], list[Any]]) -> Contender:
    """A compiled function from a state to the next one, its memory donated. read: gives the weights of a state."""
    jitted = jax.jit(function, donate_argnums=0)
    held = [jax.tree.map(jnp.array, state)]

    def run() -> Any:
        held[0] = jax.block_until_ready(jitted(held[0]))
        return held[0]

    return Contender(run, lambda state: [np.asarray(w) for w in read(state)])


# Adam: a state is (weights, m, v, t), three lists of arrays and a number ----------------------------------------------


def adam_start(weights: list[Any]) -> tuple[Any, ...]:
    zeros = [jnp.zeros_like(w) for w in weights]
    return weights, zeros, zeros, jnp.zeros((), weights[0].dtype)


def adam_update(state: tuple[Any, ...], gradients: list[Any]) -> tuple[Any, ...]:
    weights, ms, vs, t = state
    t = t + 1
    scale1, scale2 = (1 / (1 - jnp.asarray(beta, t.dtype) ** t) for beta in (BETA1, BETA2))
    ms = [BETA1 * m + (1 - BETA1) * g for m, g in zip(ms, gradients, strict=True)]
    vs = [BETA2 * v + (1 - BETA2) * g * g for v, g in zip(vs, gradients, strict=True)]
    weights = [w - LR * (m * scale1) / (jnp.sqrt(v * scale2) + EPS) for w, m, v in zip(weights, ms, vs, strict=True)]
    return weights, ms, vs, t


def adam_step(problem: Problem) -> Callable[[Any, Any], tuple[Any, Any]]:
    """A training step: the next state, and the loss; for lax.scan, and by vmap for many runs."""
    value_and_gradient = jax.value_and_grad(loss_of(problem))

    def step(state: Any, _: Any) -> tuple[Any, Any]:
        value, gradients = value_and_gradient(state[0])
        return adam_update(state, gradients), value

    return step


def one_vector(step: Callable[[Any], Any], state: tuple[Any, ...], read: Callable[[Any], list[Any]]) -> Contender:
    """A step of a state with a flat θ, all of it held in one vector."""
    leaves, structure = jax.tree.flatten(state)
    split = splitter(leaves)

    def packed(vector: Any) -> Any:
        return joined(jax.tree.leaves(step(jax.tree.unflatten(structure, split(vector)))))

    return stepped(packed, joined(leaves), lambda vector: read(vector[: leaves[0].size]))


# Workloads ------------------------------------------------------------------------------------------------------------


def gradient(problem: Problem) -> Contender:
    loss, place, read = placed(problem)
    return called(jax.grad(loss), read, place(start(problem)))


def adam(problem: Problem) -> Contender:
    """On vectors in any case: lists take 55, 53, 201 µs, a vector each 10, 12, 157 µs, one for all 6, 8, 253 µs."""
    weights = start(problem)
    split, g = splitter(weights), joined(jax.grad(loss_of(problem))(weights))
    state = adam_start([joined(weights)])
    if is_large(problem):
        return stepped(lambda state: adam_update(state, [g]), state, lambda state: split(state[0][0]))
    return one_vector(lambda state: adam_update(state, [g]), state, split)


def training_step(problem: Problem) -> Contender:
    weights, gradient_of = start(problem), jax.grad(loss_of(problem))
    if is_large(problem):
        return stepped(lambda state: adam_update(state, gradient_of(state[0])), adam_start(weights), lambda s: s[0])
    split = splitter(weights)

    def step(state: Any) -> Any:
        return adam_update(state, [joined(gradient_of(split(state[0][0])))])

    return one_vector(step, adam_start([joined(weights)]), split)


def hvp(problem: Problem) -> Contender:
    """Forward over reverse, JAX's own advice. The other orders take the same, to 3%."""
    loss, place, read = placed(problem)
    vectors = place([jnp.asarray(v) for v in problem.vectors])
    return called(lambda w, v: jax.jvp(jax.grad(loss), (w,), (v,))[1], read, place(start(problem)), vectors)


def hessian(problem: Problem) -> Contender:
    weights, gradient_of = start(problem), jax.grad(loss_of(problem))
    theta, split = joined(weights), splitter(weights)
    each = jax.vmap if theta.size < MANY else lambda product: lambda vectors: jax.lax.map(product, vectors)

    def second(theta: Any) -> Any:
        def product(v: Any) -> Any:
            return joined(jax.jvp(gradient_of, (split(theta),), (split(v),))[1])

        return each(product)(jnp.eye(theta.size, dtype=theta.dtype))

    return called(second, lambda H: [H], theta)


def moons(problem: Problem) -> Contender:
    loss, place, read = placed(problem)

    def descent(w: Any) -> Any:
        return jax.tree.map(lambda w, g: w - MOONS_LR * g, w, jax.grad(loss)(w))

    return stepped(descent, place(start(problem)), read)
