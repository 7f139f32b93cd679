"""microgradopt, as its users write it."""

from __future__ import annotations

from typing import Any

import numpy as np
from problems import LR, MOONS_DECAY, MOONS_LR, Chain, Contender, Problem

import microgradopt as mg
from microgradopt import nn
from microgradopt.curvature import HessianOperator

NAME = "microgradopt"

LOSSES = {"mse": nn.mse_loss, "cross_entropy": nn.cross_entropy, "hinge": nn.hinge_loss}


def network(problem: Problem) -> nn.MLP:
    model = nn.MLP(problem.sizes, nn.Tanh if problem.loss == "mse" else nn.ReLU, dtype=problem.dtype)
    for parameter, weight in zip(model.parameters(), problem.weights, strict=True):
        parameter.data = weight
    return model


def gradient(problem: Problem) -> Contender:
    model, loss = network(problem), LOSSES[problem.loss]
    parameters = list(model.parameters())

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        loss(model(problem.x), problem.y).backward()

    return Contender(run, lambda _: [parameter.grad for parameter in parameters])


def adam(problem: Problem) -> Contender:
    gradient_first = gradient(problem)
    gradients = gradient_first.read(gradient_first.run())
    parameters = list(network(problem).parameters())
    for parameter, g in zip(parameters, gradients, strict=True):
        parameter.grad = g
    optimizer = mg.optim.Adam(parameters, lr=LR)
    return Contender(optimizer.step, lambda _: [parameter.data for parameter in parameters])


def training_step(problem: Problem) -> Contender:
    model, loss = network(problem), LOSSES[problem.loss]
    optimizer = mg.optim.Adam(model.parameters(), lr=LR)

    def run() -> None:
        optimizer.zero_grad()
        loss(model(problem.x), problem.y).backward()
        optimizer.step()

    return Contender(run, lambda _: [parameter.data for parameter in model.parameters()])


def hvp(problem: Problem) -> Contender:
    model, loss = network(problem), LOSSES[problem.loss]
    parameters = list(model.parameters())
    return Contender(
        lambda: mg.hvp(loss(model(problem.x), problem.y), parameters, problem.vectors), lambda result: result
    )


def product(problem: Problem) -> Contender:
    """The same from a `HessianOperator`, which has recorded the gradient already."""
    model, loss = network(problem), LOSSES[problem.loss]
    objective = mg.Objective.of(model, lambda: loss(model(problem.x), problem.y))
    H = HessianOperator(objective)
    v = np.concatenate([vector.ravel() for vector in problem.vectors])
    return Contender(lambda: H @ v, objective.vector.split)


def hessian(problem: Problem) -> Contender:
    model, loss = network(problem), LOSSES[problem.loss]
    parameters = list(model.parameters())
    return Contender(lambda: mg.hessian(loss(model(problem.x), problem.y), parameters), lambda result: [result])


# Compiled -------------------------------------------------------------------------------------------------------------


def compiled_gradient(problem: Problem) -> Contender:
    model, loss = network(problem), LOSSES[problem.loss]
    parameters = list(model.parameters())

    @mg.compile
    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        loss(model(problem.x), problem.y).backward()

    return Contender(run, lambda _: [parameter.grad for parameter in parameters])


def compiled_adam(problem: Problem) -> Contender:
    gradient_first = gradient(problem)
    gradients = gradient_first.read(gradient_first.run())
    parameters = list(network(problem).parameters())
    for parameter, g in zip(parameters, gradients, strict=True):
        parameter.grad = g
    optimizer = mg.optim.Adam(parameters, lr=LR)
    return Contender(mg.compile(optimizer.step), lambda _: [parameter.data for parameter in parameters])


def compiled_training_step(problem: Problem) -> Contender:
    model, loss = network(problem), LOSSES[problem.loss]
    optimizer = mg.optim.Adam(model.parameters(), lr=LR)

    @mg.compile
    def run() -> None:
        optimizer.zero_grad()
        loss(model(problem.x), problem.y).backward()
        optimizer.step()

    return Contender(run, lambda _: [parameter.data for parameter in model.parameters()])


def compiled_hvp(problem: Problem) -> Contender:
    model, loss = network(problem), LOSSES[problem.loss]
    parameters = list(model.parameters())
    product = mg.compile(lambda: mg.hvp(loss(model(problem.x), problem.y), parameters, problem.vectors))
    return Contender(product, lambda result: result)


def compiled_hessian(problem: Problem) -> Contender:
    model, loss = network(problem), LOSSES[problem.loss]
    parameters = list(model.parameters())
    second = mg.compile(lambda: mg.hessian(loss(model(problem.x), problem.y), parameters, symmetric=True))
    return Contender(second, lambda result: [result])


# Scalars, and micrograd's demo ----------------------------------------------------------------------------------------


def chain(problem: Chain) -> Contender:
    def leaf(value: float) -> mg.Tensor:
        return mg.Tensor(value, requires_grad=True)

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

    return Contender(run, lambda gradients: [np.array([float(g) for g in gradients])])


def moons(problem: Problem) -> Contender:
    model = network(problem)
    parameters = list(model.parameters())
    optimizer = mg.optim.SGD(parameters, lr=MOONS_LR)

    def run() -> None:
        optimizer.zero_grad()
        penalty = sum((p * p).sum() for p in parameters)
        (nn.hinge_loss(model(problem.x), problem.y) + MOONS_DECAY * penalty).backward()
        optimizer.step()

    return Contender(run, lambda _: [parameter.data for parameter in parameters])


def scalar_moons(problem: Problem) -> Contender:
    """micrograd's own program, scalar by scalar: a Tensor for every number."""
    scalars = [[mg.Tensor(value, requires_grad=True) for value in w.ravel()] for w in problem.weights]
    every = [p for group in scalars for p in group]
    layers = []
    for weights, biases, array in zip(scalars[::2], scalars[1::2], problem.weights[::2], strict=True):
        fan_in = array.shape[1]
        layers.append([(weights[i * fan_in : (i + 1) * fan_in], bias) for i, bias in enumerate(biases)])

    def score(x: list[Any]) -> Any:
        for layer in layers:
            x = [sum((w * v for w, v in zip(weights, x, strict=True)), bias) for weights, bias in layer]
            if layer is not layers[-1]:
                x = [nn.functional.relu(v) for v in x]
        return x[0]

    def run() -> None:
        for p in every:
            p.grad = None
        losses = [
            nn.functional.relu(1 + -y * score(x))
            for x, y in zip(problem.x.tolist(), problem.y[:, 0].tolist(), strict=True)
        ]
        loss = sum(losses) * (1.0 / len(losses)) + MOONS_DECAY * sum(p * p for p in every)
        loss.backward()
        for p in every:
            p.data = p.data - MOONS_LR * p.grad

    def read(_: Any) -> list[Any]:
        flat = iter([p.item() for p in every])
        return [np.array([next(flat) for _ in range(w.size)]).reshape(w.shape) for w in problem.weights]

    return Contender(run, read)
