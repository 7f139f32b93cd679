"""Kinks: where the loss is put together of smooth pieces, and a Hessian says nothing about the piece beyond."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.objective import Objective
from microgradopt.rules.registry import KINKS, name_of
from microgradopt.sweep import graph_of
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

_ROUNDING = 1e3  # a distance below this many units of rounding is no distance


class Kink(NamedTuple):
    """An operation of the loss that sits on a kink.

    function: its name. shape: of its result. place: its number, from 0, among the operations with kinks, in order of
    computation. elements: (m, ndim), the indices of the elements that do.
    """

    function: str
    shape: tuple[int, ...]
    place: int
    elements: Array

    def __str__(self) -> str:
        units = np.unique(self.elements[:, -1]).tolist() if self.elements.shape[1] > 1 else []
        named = f" (units {', '.join(map(str, units[:6]))}{', ...' if len(units) > 6 else ''})" if units else ""
        return f"{self.function} number {self.place}, {len(self.elements)} of {self.shape}{named}"


def kinks(objective: Objective, theta: Array, step: Array | None = None) -> list[Kink]:
    """The operations that are on a kink at θ, or pass one on the way to θ + step, as far as the graph can tell.

    An element is on its kink when its distance from it is below what rounding, or the step, can make of it. Found are
    kinks of functions that are known to have them (relu, abs, max, clip, ``np.where``, norms at 0, ...); a Python
    ``if``, and the order that ``np.sort`` found, leave no trace in the graph.
    """
    with objective.at(theta) as loss:
        here = _distances(loss)
    moved = here
    if step is not None and step.any():
        with objective.at(theta + step) as loss:
            moved = _distances(loss)
    found = []
    for place, (node, distance, reach) in enumerate(here):
        # On another path through the program nothing can be compared; then only what is met here is looked at.
        change = np.abs(moved[place][1] - distance) if len(moved) == len(here) else 0.0
        elements = np.argwhere(distance <= reach + 2 * change)
        if len(elements):
            found.append(Kink(name_of(node.function), node.shape, place, elements))  # type: ignore[arg-type]
    return found


def _distances(loss: Tensor) -> list[tuple[Tensor, Array, float]]:
    """Of every operation with kinks, in order: how far its elements are from them, and how far rounding reaches."""
    found = []
    for node in graph_of([loss]).nodes if loss.requires_grad else []:
        distance = KINKS.get(node._function)  # type: ignore[arg-type]
        if distance is not None:
            floats = [v for v in node._values if np.asarray(v).dtype.kind == "f"]
            scale = max((np.abs(v).max(initial=0.0) for v in floats), default=0.0)
            reach = _ROUNDING * np.finfo(node.dtype).eps * float(scale)
            far = distance(node._data, *node._values, **node._kwargs)
            found.append((node, np.minimum(far, np.finfo(node.dtype).max / 4), reach))  # infinitely far, but a number
    return found
