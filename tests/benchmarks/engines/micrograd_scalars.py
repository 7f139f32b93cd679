"""micrograd. Its backward pass recurses once per operation of a chain: room is made for that."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from micrograd.engine import Value
from micrograd.nn import MLP
from problems import MOONS_DECAY, MOONS_LR, Array, Chain, Contender, Problem

NAME = "micrograd"


def chain(problem: Chain) -> Contender:
    x = Value(problem.x)
    w, b = (Value(problem.w), Value(problem.b)) if problem.weights else (problem.w, problem.b)
    leaves = [x, w, b] if problem.weights else [x]

    def run() -> list[float]:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(2 * problem.n + 1000)
        for one in leaves:
            one.grad = 0
        y = x
        for _ in range(problem.n // 2):
            y = y * w
            y = y + b
        y.backward()
        sys.setrecursionlimit(limit)
        return [one.grad for one in leaves]

    return Contender(run, lambda gradients: [np.array(gradients)])


def moons(problem: Problem) -> Contender:
    """One step of demo.ipynb: the maximum-margin loss with L2 on all the data, and gradient descent."""
    model = MLP(problem.sizes[0], list(problem.sizes[1:]))
    neurons = [neuron for layer in model.layers for neuron in layer.neurons]
    rows = [row for w in problem.weights[::2] for row in w]
    biases = np.concatenate(problem.weights[1::2])
    for neuron, row, bias in zip(neurons, rows, biases, strict=True):
        neuron.w, neuron.b = [Value(float(w)) for w in row], Value(float(bias))

    def run() -> None:
        inputs = [list(map(Value, row)) for row in problem.x.tolist()]
        scores = list(map(model, inputs))
        losses = [(1 + -y * score).relu() for y, score in zip(problem.y[:, 0].tolist(), scores, strict=True)]
        data_loss = sum(losses) * (1.0 / len(losses))
        loss = data_loss + MOONS_DECAY * sum(p * p for p in model.parameters())
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= MOONS_LR * p.grad

    def read(_: Any) -> list[Array]:
        arrays = []
        for layer in model.layers:
            arrays.append(np.array([[w.data for w in neuron.w] for neuron in layer.neurons]))
            arrays.append(np.array([neuron.b.data for neuron in layer.neurons]))
        return arrays

    return Contender(run, read)


scalar_moons = moons
