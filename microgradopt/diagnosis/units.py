"""What the units of a network are doing: which are dead or saturated, layer by layer, as the loss's graph shows it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from microgradopt import nn
from microgradopt.objective import Objective, check_objective
from microgradopt.rules.registry import KNOWN, name_of
from microgradopt.sweep import graph_of
from microgradopt.tensor import Tensor

_SATURATED = 1e-2  # of the slope at its steepest: an activation with less passes hardly any gradient back


class Layer(NamedTuple):
    """The units of one activation.

    place: its number, from 0, in order. units: how many. stuck: how many of them let no gradient through, on any
    sample: relus that are 0 (dead), tanhs and sigmoids at their ends (saturated). flat: the share of all activations,
    over units and samples, that let none through.
    """

    place: int
    function: str
    units: int
    stuck: int
    flat: float = 0.0

    def __str__(self) -> str:
        if self.function == "relu":
            return f"relu layer {self.place}: {self.stuck} of {self.units} units dead"
        told = f"{self.function} layer {self.place}: {self.stuck} of {self.units} units saturated"
        return f"{told}, {self.flat:.0%} of activations"


def layers(objective: Objective) -> list[Layer]:
    """The activations of the network behind the objective, at its θ. Units stand along the last axis.

    >>> import microgradopt as mg
    >>> model = mg.nn.MLP((2, 3, 1), mg.nn.Tanh, rng=0)
    >>> layers(mg.Objective.of(model, lambda: model(np.ones((4, 2))).sum()))[0].stuck
    0
    """
    check_objective("layers", objective)
    found: list[Layer] = []
    with objective.at() as loss:
        nodes = graph_of([loss]).nodes if loss.requires_grad else []
    for node in nodes:
        for function, x, out in _activations(node):
            slopes = KNOWN[function].rules[0](1.0, out, x) / KNOWN[function].steepest  # type: ignore[misc]
            best = slopes.reshape(-1, slopes.shape[-1]).max(axis=0)
            stuck, flat = int(np.sum(best < _SATURATED)), float(np.mean(slopes < _SATURATED))
            found.append(Layer(len(found), name_of(function), len(best), stuck, flat))
    return found


def _activations(node: Tensor) -> list[tuple[Any, Any, Any]]:
    """The activation that a node is: the function, its input and output. ``np.maximum(x, 0)`` is a relu too.

    A network of another framework is one node, and tells its activations itself.
    """
    for value in node.values:
        if hasattr(value, "activations"):
            return list(value.activations(*node.values))
    is_relu = node.function is np.maximum and any(np.ndim(v) == 0 and v == 0 for v in node.values)
    function: Any = nn.functional.relu if is_relu else node.function
    if KNOWN[function].steepest is None or node.ndim == 0:
        return []
    return [(function, next(v for v in node.values if np.shape(v) == node.shape), node.value)]
