"""Noise: how far rounding, and an objective that answers differently each time, move a loss and its derivatives.

The computation that the loss has recorded is run again with θ and every intermediate value moved by a unit in the last
place, as rounding may have moved them (Monte Carlo arithmetic: Parker 1997). What comes out differently is noise: also
where large terms cancel inside of the loss, which no bound made of the result alone can tell.

A loss that is computed elsewhere has recorded nothing. It is asked at five points in a row on each side: the fourth
difference of what is smooth is as good as zero, and that of noise with standard deviation σ has the deviation √70 σ
(Hamming 1962; Moré and Wild 2011, "Estimating computational noise").
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt import tree
from microgradopt.autodiff import grad, hessian
from microgradopt.curvature.operator import HessianOperator
from microgradopt.external import ExternalLoss
from microgradopt.objective import Objective, check_depends
from microgradopt.rules.outputs import pick
from microgradopt.sweep import graph_of
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

_RUNS = 3
_SAFETY = 4.0  # noise is said to be so many times the largest difference that was seen
_ROW = (1, 2, 3, 4, 5)  # times the distance of the points in a row
_ULPS = (8, 9)  # units in the last place by which θ is moved
_DISTANCES = (1e-4, 1e-7)  # of the points, as shares of each parameter: noise is alike at both, structure is not
_ANOTHER = (2.0, 1e-3)  # other steps of a difference of gradients, in units of its own
_ROUGH = 1e-6  # the least relative error of a difference of gradients, even where two steps agree
_BY_CHANCE = 100.0  # times more where a plain repetition differs: a few random answers may be alike


class Measured(NamedTuple):
    """A loss and its derivatives at a point, and how each differs from run to run.

    value, gradient (n,), hessian: H V, (n, k). value_noise: a bound. gradients (runs, n), hessians (runs, n, k): the
    differences, times a factor of safety.
    """

    value: float
    gradient: Array
    hessian: Array
    value_noise: float
    gradients: Array
    hessians: Array

    def over(self, scale: float) -> Measured:
        """All of it divided by a power of two."""
        return Measured._make(each / scale for each in self)


def measured(objective: Objective, theta: Array, rng: np.random.Generator, V: Array | None = None) -> Measured:
    """The loss, its gradient and H V at θ, in double precision; and their noise. V: (n, k); by default all of H."""
    run = _run_again if objective.external_loss is None else _run_elsewhere
    here, differences = run(objective, theta, rng, V)
    repeats = all(np.all(each == 0) for each in differences[0])
    safety = _SAFETY if repeats else _SAFETY * _BY_CHANCE
    values, gradients, hessians = zip(*differences, strict=True)
    value_noise = safety * max(map(abs, values)) + float(np.finfo(theta.dtype).eps) * abs(here[0])
    return Measured._make([*here, value_noise, safety * np.stack(gradients), safety * np.stack(hessians)])


Derivatives = list[Any]  # value, gradient and Hessian, or how each differs


def first_order(objective: Objective, theta: Array, rng: np.random.Generator) -> Measured:
    """The loss and its gradient alone, and their noise."""
    return measured(objective, theta, rng, np.zeros((len(theta), 0)))


def _minus(some: Derivatives, others: Derivatives) -> Derivatives:
    return [x - y for x, y in zip(some, others, strict=True)]


def _run_again(
    objective: Objective, theta: Array, rng: np.random.Generator, V: Array | None
) -> tuple[Derivatives, list[Derivatives]]:
    """The derivatives at θ, and their differences: of a plain repetition, and of runs with everything moved."""
    parameters = objective.vector.parameters

    def second(loss: Tensor) -> Array:
        if V is None:
            return hessian(loss, parameters)
        return HessianOperator.of(loss, objective.vector) @ V if V.size else V

    def derived(loss: Tensor) -> Derivatives:
        g = objective.vector.join(grad(loss, parameters, allow_unused=True))
        return [loss.item(), g.astype(float), second(loss).astype(float)]

    def plain() -> Derivatives:
        with objective.at(theta) as loss:
            check_depends(loss, parameters)
            return derived(loss)

    here = plain()
    differences = [_minus(plain() if V is None or V.size else here, here)]
    for _ in range(_RUNS):
        with objective.at(_moved(theta, rng)) as loss:
            differences.append(_minus(derived(_rerun(loss, rng)), here))
    return here, differences


def _run_elsewhere(
    objective: Objective, theta: Array, rng: np.random.Generator, V: Array | None
) -> tuple[Derivatives, list[Derivatives]]:
    """The same for a loss that is computed elsewhere. Without products, a difference with other steps is noise too."""
    loss: Any = objective.external_loss
    along = np.eye(len(theta)) if V is None else V

    def asked(at: Array, second: bool = True) -> Derivatives:
        value, gradient = objective.value_and_gradient(at)
        HV = loss.products(at, along) if second else np.zeros_like(along)
        return [value, gradient.astype(float), HV.astype(float)]

    here, again = asked(theta), asked(theta)
    differences, size = [_minus(again, here)], np.abs(theta).astype(float)
    if along.size:  # what is 0 moves by as much as changes the loss by its size
        bend = np.abs(np.diag(here[2])) if V is None else np.linalg.norm(here[2])
        curved = np.sqrt(np.divide(abs(here[0]), bend, out=np.ones_like(size), where=size == 0))
        size = np.where(size == 0, np.clip(np.nan_to_num(curved, nan=1.0), 0, 1), size)
    way = size * rng.choice([-1, 1], len(size))
    for side in (1, -1):  # each for itself: a jump at θ is none of either
        one, other = (asked(_on(theta, side * t * np.finfo(theta.dtype).eps * way), False) for t in _ULPS)
        rows = [[asked(_on(theta, side * t * d * way), side > 0) for t in _ROW] for d in _DISTANCES]
        moving = [row for row in rows if any(each[0] != row[0][0] for each in row)] or rows[:1]
        fourths = [
            [(a - 4 * b + 6 * c - 4 * d + e) / 70**0.5 for a, b, c, d, e in zip(*row, strict=True)] for row in moving
        ]
        differences += [_minus(other, one), [min(same, key=np.linalg.norm) for same in zip(*fourths, strict=True)]]
    if along.size:
        differences += [[0.0, np.zeros_like(size), each] for each in _of_products(loss, theta, along, here[2], rng)]
    return here, differences


def _of_products(loss: ExternalLoss, theta: Array, V: Array, HV: Array, rng: np.random.Generator) -> list[Array]:
    """How H V differs from what other steps give; or, where it is computed, from the gradients along a random way.

    With normal u, E ‖E u‖² = ‖E‖²_F for the error E of H V, so that one product tells whether it is another function's.
    """
    if not loss.has_products:
        return [loss.products(theta, V, stretch) - HV for stretch in _ANOTHER]
    u = rng.normal(size=V.shape[1])
    once, twice = loss.difference(theta, V @ u), loss.difference(theta, V @ u, stretch=2.0)
    wrong = once - HV @ u
    if not np.linalg.norm(wrong) > 10 * np.linalg.norm(once - twice) + _ROUGH * np.linalg.norm(once):
        return []
    return [np.outer(wrong, u) / np.linalg.norm(u)]


def _on(theta: Array, step: Array) -> Array:
    return (theta + step).astype(theta.dtype)


def _moved(x: Any, rng: np.random.Generator) -> Any:
    """An array or tensor, moved by up to a unit in the last place."""
    return x * (1 + np.finfo(x.dtype).eps * rng.uniform(-1, 1, x.shape)).astype(x.dtype)


def _rerun(loss: Tensor, rng: np.random.Generator) -> Tensor:
    """The loss, computed once more from its graph, each intermediate value moved as rounding may have moved it."""
    made: dict[Tensor, Any] = {}

    def again(x: Any) -> Any:
        return made.get(x, x) if type(x) is Tensor else x

    def moved(x: Any) -> Any:
        return _moved(x, rng) if type(x) is Tensor else x

    for node in graph_of([loss]).nodes:
        if node.function is pick:  # of several results, which are there as a tuple
            made[node] = made[node.inputs[0]][node.inputs[1]]
        else:
            made[node] = tree.mapped(moved, node.function(*tree.mapped(again, node.inputs), **node.kwargs))  # type: ignore[misc]
    return made.get(loss, loss)
