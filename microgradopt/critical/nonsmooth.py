"""Kinks: where the loss is put together of smooth pieces, and a Hessian says nothing about the piece beyond.

Every function says in its record where it is not smooth (rules/registry.py). A composite that says nothing is looked
into: its body is run on tensors. Comparisons, and other questions that the loss asks of its values, leave no node in
the graph: an observer is told of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.mode import Observer, observed
from microgradopt.objective import Objective
from microgradopt.rules.registry import KNOWN, name_of
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

_ROUNDING = 1e3  # a distance below this many units of rounding is no distance
_DRAWS = 3  # ways in which the arguments are moved to see how far rounding reaches


class Kink(NamedTuple):
    """An operation of the loss that sits where it is not smooth.

    kind: kink, jump or singular point. function: its name. shape: of its distances from there. place: its number,
    from 0, among the operations that are not smooth everywhere, in order of computation. elements: (m, ndim), the
    indices of the elements that sit there.
    """

    kind: str
    function: str
    shape: tuple[int, ...]
    place: int
    elements: Array

    def __str__(self) -> str:
        units = np.unique(self.elements[:, -1]).tolist() if self.elements.shape[1] > 1 else []
        named = f" (units {', '.join(map(str, units[:6]))}{', ...' if len(units) > 6 else ''})" if units else ""
        return f"{self.kind} of {self.function} number {self.place}, {len(self.elements)} of {self.shape}{named}"


class Place(NamedTuple):
    """A call that is not smooth everywhere. distance: how far each element is from there. reach: that of rounding."""

    kind: str
    function: str
    distance: Array
    reach: Array


def kinks(objective: Objective, theta: Array, step: Array | None = None) -> list[Kink]:
    """The operations that are not smooth at θ, or pass such a place on the way to θ + step.

    An element is there when its distance is below what rounding, or the step, can make of it. Found are functions that
    are not smooth everywhere (relu, abs, max, ``np.where``, log at 0, norms at 0, floor, ...), and comparisons, masks,
    ``if``, ``argmin`` and orders that the loss takes from tensors. What it takes from ``.data`` or ``.item()`` is not.

    >>> import microgradopt as mg
    >>> [k.function for k in kinks(mg.Objective(lambda w: np.sum(np.abs(w)), [1.0]), np.array([0.0]))]
    ['absolute']
    """
    here = places(objective, theta)
    # At the end alone a place in the middle of the way would be as far as at the start.
    ways = [] if step is None or not step.any() else [places(objective, theta + t * step) for t in (0.5, 1.0)]
    found = []
    for number, place in enumerate(here):
        change = np.zeros_like(place.distance)
        for moved in ways:
            # On another path through the program nothing can be compared; then only what is met here is looked at.
            if len(moved) == len(here) and moved[number].distance.shape == place.distance.shape:
                change = np.maximum(change, np.abs(moved[number].distance - place.distance))
        elements = np.argwhere(place.distance <= place.reach + 2 * change)
        if len(elements):
            found.append(Kink(place.kind, place.function, place.distance.shape, number, elements))
    return found


def places(objective: Objective, theta: Array) -> list[Place]:
    """The calls of the loss at θ that are not smooth everywhere, in order."""
    watch = _Watch()
    with observed(watch), objective.at(theta):
        pass
    with np.errstate(all="ignore"):
        return [place for call in watch.calls for place in _places(name_of(call.function), call)]


class _Call(NamedTuple):
    """A call as it was made. values: of the inputs, at that time; of leaves they may be others by now."""

    function: Any
    inputs: tuple[Any, ...]
    values: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any


class _Watch(Observer):
    """Remembers the calls that a gradient flows through, and the questions."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []

    def recorded(self, tensor: Tensor, function: Any, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        if tensor.needs_grad:
            self.calls.append(_Call(function, inputs, values, tensor.kwargs, tensor.value))

    def asked(
        self, function: Any, inputs: tuple[Any, ...], values: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        self.calls.append(_Call(function, inputs, values, kwargs, out))


def _places(name: str, call: _Call) -> Iterator[Place]:
    """Where one call is not smooth. name: of the call, or of the composite that it is made in."""
    known = KNOWN[call.function]
    if known.breaks is None:
        yield from _inside(name, known.call, call)
        return
    for kind, distance in known.breaks:
        far = _bounded(distance(call.out, *call.values, **call.kwargs))
        reach = np.zeros_like(far)
        rng = np.random.default_rng(0)
        for _ in range(_DRAWS):
            moved = [_moved(x, value, rng) for x, value in zip(call.inputs, call.values, strict=True)]
            reach = np.maximum(reach, np.abs(_bounded(distance(call.out, *moved, **call.kwargs)) - far))
        yield Place(kind, name, far, reach)


def _inside(name: str, body: Any, call: _Call) -> Iterator[Place]:
    """Where the body of a composite is not smooth: it is run on tensors of the same values."""
    watch = _Watch()
    inputs = [
        Tensor(value, requires_grad=x.needs_grad) if type(x) is Tensor else x
        for x, value in zip(call.inputs, call.values, strict=True)
    ]
    with observed(watch):
        body(*inputs, **call.kwargs)
    for inner in watch.calls:
        yield from _places(name, inner)


def _moved(x: Any, value: Any, rng: np.random.Generator) -> Any:
    """The value of an argument, moved at random by as much as rounding may have moved it, if it depends on θ at all."""
    if type(x) is list:
        return [_moved(part, inner, rng) for part, inner in zip(x, value, strict=True)]
    if type(x) is not Tensor or not x.needs_grad or not hasattr(value, "dtype"):
        return value
    size = _ROUNDING * np.finfo(value.dtype).eps * np.max(np.abs(value), initial=0.0)
    return value + (size * rng.uniform(-1, 1, value.shape)).astype(value.dtype)


def _bounded(distance: Any) -> Array:
    """Distances as an array; infinitely far, but a number. One that is not known is none."""
    return np.clip(np.nan_to_num(np.asarray(distance, float), nan=0.0), 0.0, np.finfo(float).max / 8)
