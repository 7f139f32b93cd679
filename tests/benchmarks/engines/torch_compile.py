"""PyTorch under torch.compile, functions of a flat θ, whole steps in place. Compiling is not timed.

On one core of an AMD EPYC, for 2-16-16-1, 64-32-10 and 784-128-10, in µs: a training step 79, 112, 1460, on lists of
weights 76, 112, 1540; eager, with fused Adam, 234, 234, 1530. An HVP 117, 140, 1880, eager 325, 320, 2700.
It needs a C++ compiler; where none works, importing this raises ImportError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from problems import BETA1, BETA2, EPS, LR, Contender, Problem

from engines.torch_eager import arrays, flat, joined, network

NAME = "torch.compile"

try:
    torch.compile(lambda x: x.sin() + 1)(torch.zeros(2))
except Exception as error:
    raise ImportError(f"torch.compile does not work here: {str(error).strip().partition(chr(10))[0]}") from error


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.reset()  # or what was compiled of the same lines, for other problems, counts as this
    return torch.compile(function, fullgraph=True, dynamic=False)


def adam_stepped(theta: Any, gradient_of: Callable[[Any], Any]) -> Callable[[], Any]:
    """What makes a step of Adam, in place; of many runs where θ has a row for each. It returns θ."""

    def step(theta: Any, m: Any, v: Any, t: Any) -> None:
        g = gradient_of(theta)
        t.add_(1)
        m.lerp_(g, 1 - BETA1)
        v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
        theta.sub_(LR * (m / (1 - BETA1**t)) / ((v / (1 - BETA2**t)).sqrt() + EPS))

    t = torch.zeros(1, dtype=theta.dtype)  # not 0-d: of a 0-d float64 torch 2.13 loses the write, and gives nan
    state = theta, torch.zeros_like(theta), torch.zeros_like(theta), t
    step = compiled(step)

    def run() -> Any:
        step(*state)
        return theta

    return run


def gradient(problem: Problem) -> Contender:
    theta, loss, read = flat(problem)
    function = compiled(torch.func.grad(loss))
    return Contender(lambda: function(theta), read)


def adam(problem: Problem) -> Contender:
    theta, loss, read = flat(problem)
    g = torch.func.grad(loss)(theta)
    return Contender(adam_stepped(theta, lambda _: g), read)


def training_step(problem: Problem) -> Contender:
    theta, loss, read = flat(problem)
    return Contender(adam_stepped(theta, torch.func.grad(loss)), read)


def many_steps(problem: Problem, runs: int) -> Contender:
    """vmap of grad: 8.9, 41, 1400 µs for each of 32 runs; the gradient of products of stacks 8.5, 42, 1570."""
    _, loss, read = flat(problem)
    thetas = torch.stack([joined(network(problem.of_run(r))[1]) for r in range(runs)])

    def stacked(thetas: Any) -> Any:
        return [np.stack(each) for each in zip(*map(read, thetas), strict=True)]

    return Contender(adam_stepped(thetas, torch.func.vmap(torch.func.grad(loss))), stacked)


def hvp(problem: Problem) -> Contender:
    theta, loss, read = flat(problem)
    v = joined([torch.from_numpy(vector) for vector in problem.vectors])
    product = compiled(lambda theta, v: torch.func.vjp(torch.func.grad(loss), theta)[1](v)[0])
    return Contender(lambda: product(theta, v), read)


def hessian(problem: Problem) -> Contender:
    theta, loss, _ = flat(problem)
    second = compiled(torch.func.jacrev(torch.func.grad(loss), chunk_size=128))
    return Contender(lambda: second(theta), lambda H: arrays([H]))
