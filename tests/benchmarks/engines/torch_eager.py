"""PyTorch, eager mode. Compiled, it is in torch_compile.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from problems import LR, MOONS_DECAY, MOONS_LR, Array, Chain, Contender, Problem

NAME = "torch eager"

F = torch.nn.functional
LOSSES = {"mse": F.mse_loss, "cross_entropy": F.cross_entropy}


def network(problem: Problem) -> tuple[torch.nn.Module, list[Any], Any, Any]:
    """The model, its parameters, and the data."""
    modules: list[torch.nn.Module] = []
    for fan_in, fan_out in zip(problem.sizes[:-1], problem.sizes[1:], strict=True):
        modules += [torch.nn.Linear(fan_in, fan_out), torch.nn.Tanh() if problem.loss == "mse" else torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1]).to(torch.from_numpy(problem.x).dtype)
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter, weight in zip(parameters, problem.weights, strict=True):
            parameter.copy_(torch.from_numpy(weight))
    return model, parameters, torch.from_numpy(problem.x), torch.from_numpy(problem.y)


def arrays(tensors: list[Any]) -> list[Array]:
    return [tensor.detach().numpy() for tensor in tensors]


def gradient(problem: Problem) -> Contender:
    (model, parameters, x, y), loss = network(problem), LOSSES[problem.loss]

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        loss(model(x), y).backward()

    return Contender(run, lambda _: arrays([parameter.grad for parameter in parameters]))


def adam(problem: Problem) -> Contender:
    (model, parameters, x, y), loss = network(problem), LOSSES[problem.loss]
    loss(model(x), y).backward()
    theta = joined(parameters).requires_grad_()
    theta.grad = joined([p.grad for p in parameters])
    optimizer = torch.optim.Adam([theta], lr=LR, fused=True)  # one loop in C++, over one tensor: the quickest
    return Contender(optimizer.step, lambda _: arrays(split(theta, parameters)))


def training_step(problem: Problem) -> Contender:
    (model, parameters, x, y), loss = network(problem), LOSSES[problem.loss]
    optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return Contender(run, lambda _: arrays(parameters))


def hvp(problem: Problem) -> Contender:
    """Reverse over reverse. torch.func's vjp and jvp of grad take twice and four times as long."""
    (model, parameters, x, y), loss = network(problem), LOSSES[problem.loss]
    vectors = [torch.from_numpy(v) for v in problem.vectors]

    def run() -> Any:
        gradients = torch.autograd.grad(loss(model(x), y), parameters, create_graph=True)
        return torch.autograd.grad(gradients, parameters, vectors)

    return Contender(run, arrays)


def flat(problem: Problem) -> tuple[Any, Callable[[Any], Any], Callable[[Any], list[Array]]]:
    """θ, the loss as a function of it, and what reads a θ. Without modules: functional_call costs 18 µs, compiled."""
    _, parameters, x, y = network(problem)
    activation, loss = torch.tanh if problem.loss == "mse" else torch.relu, LOSSES[problem.loss]

    def value(theta: Any) -> Any:
        weights = split(theta, parameters)
        h = F.linear(x, *weights[:2])
        for w, b in zip(weights[2::2], weights[3::2], strict=True):
            h = F.linear(activation(h), w, b)
        return loss(h, y)

    return joined(parameters), value, lambda theta: arrays(split(theta, parameters))


def joined(tensors: Sequence[Any]) -> Any:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def split(theta: Any, like: list[Any]) -> list[Any]:
    parts = theta.split([p.numel() for p in like])
    return [part.reshape(p.shape) for part, p in zip(parts, like, strict=True)]


def hessian(problem: Problem) -> Contender:
    """torch.func, all rows or 128 rows at once. On an AMD EPYC, for n = 337 and n = 2410, in ms:

    torch.func.hessian 7.5, 270; jacrev of jacrev 6.6, 235; jacrev of grad 5.5, 261, by 128 rows 5.9, 126;
    autograd.grad with is_grads_batched 8.2, 243, by 128 rows 8.3, 135; jacfwd of grad 7.1, 293.
    """
    theta, value, _ = flat(problem)
    second = torch.func.jacrev(torch.func.grad(value), chunk_size=128 if theta.numel() > 1000 else None)
    return Contender(lambda: second(theta), lambda result: arrays([result]))


def many_steps(problem: Problem, runs: int) -> Contender:
    """A training step of many runs, by products of stacks: the sum of their losses has each run's own gradient.

    For 32 runs, in µs of each: 16, 49, 1530; by torch.func's vmap of grad and Adam by hand 26, 59, 1580.
    """
    _, _, x, y = network(problem)
    starts = [problem.of_run(r).weights for r in range(runs)]
    weights = [torch.from_numpy(np.stack(each)).requires_grad_() for each in zip(*starts, strict=True)]
    activation, loss = torch.tanh if problem.loss == "mse" else torch.relu, LOSSES[problem.loss]
    optimizer = torch.optim.Adam(weights, lr=LR, fused=True)
    targets = y.repeat(runs, *(1,) * (y.ndim - 1))

    def run() -> None:
        optimizer.zero_grad()
        h = x.expand(runs, *x.shape)
        for w, b in zip(weights[::2], weights[1::2], strict=True):
            h = torch.baddbmm(b.unsqueeze(1), h if w is weights[0] else activation(h), w.transpose(1, 2))
        (runs * loss(h.flatten(0, 1), targets)).backward()  # a mean over all, of batches of one size
        optimizer.step()

    return Contender(run, lambda _: arrays(weights))


def chain(problem: Chain) -> Contender:
    def leaf(value: float) -> Any:
        return torch.tensor(value, dtype=torch.float64, requires_grad=True)

    x = leaf(problem.x)
    w, b = (leaf(problem.w), leaf(problem.b)) if problem.weights else (problem.w, problem.b)
    leaves = [x, w, b] if problem.weights else [x]

    def run() -> list[Any]:
        for one in leaves:
            one.grad = None
        y = x
        for _ in range(problem.n // 2):
            y = y * w
            y = y + b
        y.backward()
        return [one.grad for one in leaves]

    return Contender(run, lambda gradients: [np.array([g.item() for g in gradients])])


def moons(problem: Problem) -> Contender:
    model, parameters, x, y = network(problem)
    optimizer = torch.optim.SGD(parameters, lr=MOONS_LR)

    def run() -> None:
        optimizer.zero_grad()
        penalty = sum((p * p).sum() for p in parameters)
        (torch.relu(1 - y * model(x)).mean() + MOONS_DECAY * penalty).backward()
        optimizer.step()

    return Contender(run, lambda _: arrays(parameters))
