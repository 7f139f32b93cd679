"""The program of an update, and its counterpart in other runs."""

from __future__ import annotations

from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import numpy as np

from microgradopt.program.compiled import Compiled
from microgradopt.program.program import Program, Ways
from microgradopt.program.trace import traced
from microgradopt.run import Array, Run


class Traced:
    """The program of an update on batches of one shape, and how to read and write the slots of each run."""

    def __init__(self, lead: Run, batch: tuple[Array, ...]) -> None:
        function = plain_step(lead)
        self.lead, self.batch = lead, batch
        self.program = Program(traced(function, batch, {}, list(batch), (), free=True))
        self.program.let_go()

    def ways(self, run: Run) -> Ways:
        """Those of the program, with what a run has in place of what the first one has."""
        found: dict[int, Any] = {}
        _side_by_side(plain_step(self.lead), plain_step(run), found)
        return self.program.ways(lambda x: _counterpart(x, found))


def plain_step(run: Run) -> Any:
    """An update of a run, as it is written."""
    return getattr(run.step, "__wrapped__", run.step)


def _counterpart(x: Any, found: dict[int, Any]) -> Any:
    """What another run has in place of x. A list that was made while tracing has such things in it."""
    if id(x) in found:
        return found[id(x)]
    return [found.get(id(part), part) for part in x] if type(x) is list else x


def _side_by_side(x: Any, y: Any, found: dict[int, Any]) -> None:
    """Note what stands in y where something stands in x, all the way down."""
    stack = [(x, y)]
    while stack:
        x, y = stack.pop()
        if x is y or id(x) in found or type(x) is not type(y):
            continue
        found[id(x)] = y
        stack += _inside(x, y)


def _inside(x: Any, y: Any) -> list[tuple[Any, Any]]:
    if isinstance(x, FunctionType):
        return list(zip(x.__closure__ or (), y.__closure__ or (), strict=False))
    if isinstance(x, CellType):
        return [(x.cell_contents, y.cell_contents)]
    if isinstance(x, list | tuple):
        return list(zip(x, y, strict=False))
    if isinstance(x, dict):
        return [(value, y[key]) for key, value in x.items() if key in y]
    if isinstance(x, np.ndarray):
        return []
    slots = [name for cls in type(x).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(x, name)]
    pairs = [(getattr(x, name), getattr(y, name)) for name in slots if hasattr(y, name)]
    own = getattr(x, "__dict__", None)
    if isinstance(own, dict):
        inner = (own["__wrapped__"], vars(y)["__wrapped__"]) if "__wrapped__" in own else (own, vars(y))
        pairs.append(inner)
    return pairs


def engine_of(compile: Callable[[Any], Any] | None, run: Run) -> Callable[..., Any]:
    """What makes loops."""
    return (Compiled if compile is None else compile)(plain_step(run)).engine
