"""PyTorch, eager mode."""

from __future__ import annotations

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
    optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)  # one loop in C++: the quickest
    return Contender(optimizer.step, lambda _: arrays(parameters))


def training_step(problem: Problem) -> Contender:
    (model, parameters, x, y), loss = network(problem), LOSSES[problem.loss]
    optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return Contender(run, lambda _: arrays(parameters))


def hvp(problem: Problem) -> Contender:
    (model, parameters, x, y), loss = network(problem), LOSSES[problem.loss]
    vectors = [torch.from_numpy(v) for v in problem.vectors]

    def run() -> Any:
        gradients = torch.autograd.grad(loss(model(x), y), parameters, create_graph=True)
        return torch.autograd.grad(gradients, parameters, vectors)

    return Contender(run, arrays)


def hessian(problem: Problem) -> Contender:
    """torch.func.hessian over the flat θ: one vectorised pass, many times quicker than column by column."""
    (model, parameters, x, y), loss = network(problem), LOSSES[problem.loss]
    names, sizes = [name for name, _ in model.named_parameters()], [p.numel() for p in parameters]
    theta = torch.cat([p.detach().reshape(-1) for p in parameters])

    def value(flat: Any) -> Any:
        parts = [part.reshape(p.shape) for part, p in zip(flat.split(sizes), parameters, strict=True)]
        return loss(torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (x,)), y)

    second = torch.func.hessian(value)
    return Contender(lambda: second(theta), lambda result: arrays([result]))


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
