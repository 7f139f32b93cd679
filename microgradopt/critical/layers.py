"""What the units of a network are doing: which are dead or saturated, layer by layer, as the loss's graph shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt import nn
from microgradopt.objective import Objective
from microgradopt.rules.registry import name_of
from microgradopt.sweep import graph_of

Array = npt.NDArray[Any]

_SATURATED = 1e-2  # of the slope at its steepest: an activation with less passes hardly any gradient back

# The slope of each activation, given its output, relative to the steepest.
_SLOPES: dict[Callable[..., Any], Callable[[Array, Array], Array]] = {
    nn.functional.relu: lambda out, x: np.where(x > 0, 1.0, 0.0),
    nn.functional.sigmoid: lambda out, x: 4 * out * (1 - out),
    nn.functional.elu: lambda out, x: np.exp(np.minimum(x, 0)),
    np.tanh: lambda out, x: 1 - out * out,
}


class Layer(NamedTuple):
    """The units of one activation.

    place: its number, from 0, in order. units: how many. stuck: how many of them let no gradient through, on any
    sample: relus that are 0 (dead), tanhs and sigmoids at their ends (saturated).
    """

    place: int
    function: str
    units: int
    stuck: int

    def __str__(self) -> str:
        what = "dead" if self.function == "relu" else "saturated"
        return f"{self.function} layer {self.place}: {self.stuck} of {self.units} units {what}"


def layers(objective: Objective) -> list[Layer]:
    """The activations of the network behind the objective, at its θ. Units stand along the last axis."""
    found: list[Layer] = []
    with objective.at() as loss:
        nodes = graph_of([loss]).nodes if loss.requires_grad else []
    for node in nodes:
        slope_of, function = _slope(node.function, node._values)
        if slope_of is None or node.ndim == 0:
            continue
        slopes = slope_of(node._data, next(v for v in node._values if np.shape(v) == node.shape))
        best = slopes.reshape(-1, slopes.shape[-1]).max(axis=0)
        found.append(Layer(len(found), function, len(best), int(np.sum(best < _SATURATED))))
    return found


def _slope(function: Any, values: tuple[Any, ...]) -> tuple[Callable[[Array, Array], Array] | None, str]:
    """The slope of an activation; ``np.maximum(x, 0)`` is a relu too."""
    if function is np.maximum and any(np.ndim(v) == 0 and v == 0 for v in values):
        return _SLOPES[nn.functional.relu], "relu"
    return _SLOPES.get(function), name_of(function)
