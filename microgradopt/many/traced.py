"""The program of an update, and its counterpart in other runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np

from microgradopt.program.compiled import Compiled
from microgradopt.program.program import Program, Ways
from microgradopt.program.trace import traced
from microgradopt.run import Array, Run
from microgradopt.tensor import Tensor


class Traced:
    """The program of an update on batches of one shape, and how to read and write the slots of each run."""

    def __init__(self, lead: Run, batch: tuple[Array, ...]) -> None:
        function = plain_step(lead)
        self.lead, self.batch = lead, batch
        self.program = Program(traced(function, batch, {}, list(batch), (), free=True))
        self.program.let_go()
        self._ways: dict[Run, Ways] = {}

    def ways(self, run: Run) -> Ways:
        """Those of the program, with what a run has in place of what the first one has."""
        if run not in self._ways:
            found: dict[int, Any] = {}
            _side_by_side(plain_step(self.lead), plain_step(run), found)
            ways = self.program.ways(lambda x: _counterpart(x, found))
            is_alike = run is self.lead or found  # else it would be asked whether the first one fits
            self._ways[run] = ways if is_alike else ways._replace(fits=lambda leaves: False)
        return self._ways[run]

    def fits(self, run: Run, batch: tuple[Array, ...]) -> bool:
        """Whether an update of this run, on this batch, is the same program."""
        return self.ways(run).fits(list(batch))


def plain_step(run: Run) -> Any:
    """An update of a run, as it is written."""
    return getattr(run.step, "__wrapped__", run.step)


def _counterpart(x: Any, found: dict[int, Any]) -> Any:
    """What another run has in place of x. A list that was made while tracing has such things in it."""
    if id(x) in found:
        return found[id(x)]
    if type(x) is list and any(id(part) in found for part in x):
        return [found.get(id(part), part) for part in x]
    return x


def _side_by_side(x: Any, y: Any, found: dict[int, Any]) -> None:
    """Note what stands in y where something stands in x, all the way down; nothing for what is of another kind."""
    stack = [(x, y)]
    while stack:
        x, y = stack.pop()
        if x is not y and id(x) not in found and _is_alike(x, y):
            found[id(x)] = y
            stack += _inside(x, y)


def _is_alike(x: Any, y: Any) -> bool:
    """Whether y may stand in place of x, in all that nobody watches: what cannot change, as in a tuple, is the same."""
    if x is y:
        return True
    if type(x) is not type(y) or isinstance(x, type | ModuleType | np.ufunc):
        return False
    if isinstance(x, FunctionType):  # those around a composite are all of one code
        return x.__code__ is y.__code__ and _codes_inside(x) == _codes_inside(y)
    if isinstance(x, np.ndarray | Tensor):
        return (x.shape, x.dtype) == (y.shape, y.dtype)
    if (parts := _fixed(x)) is not None:
        return len(parts) == len(_fixed(y) or ()) and all(map(_is_alike, parts, _fixed(y) or ()))
    return isinstance(x, CellType | list | dict) or hasattr(x, "__dict__")


def _codes_inside(x: FunctionType) -> list[Any]:
    return [getattr(cell.cell_contents, "__code__", None) for cell in x.__closure__ or () if cell != CellType()]


def _fixed(x: Any) -> tuple[Any, ...] | None:
    """The parts of an object that cannot change; None where each is watched, or there are none."""
    if isinstance(x, tuple):
        return x
    if isinstance(x, functools.partial):
        return x.func, *x.args
    return (x.__func__, x.__self__) if hasattr(x, "__func__") and hasattr(x, "__self__") else None


def _inside(x: Any, y: Any) -> list[tuple[Any, Any]]:
    if isinstance(x, FunctionType):
        pairs = [(getattr(x, name), getattr(y, name)) for name in ("__dict__", "__defaults__", "__kwdefaults__")]
        return [*pairs, *zip(x.__closure__ or (), y.__closure__ or (), strict=True)]
    if isinstance(x, CellType):
        return [] if CellType() in (x, y) else [(x.cell_contents, y.cell_contents)]
    if isinstance(x, list):
        return list(zip(x, y, strict=False))
    if isinstance(x, dict):
        return [(value, y[key]) for key, value in x.items() if key in y]
    if isinstance(x, np.ndarray):
        return []
    parts = _fixed(x)
    pairs = [] if parts is None else list(zip(parts, _fixed(y) or (), strict=True))
    if isinstance(x, functools.partial):
        pairs.append((x.keywords, y.keywords))
    slots = [name for cls in type(x).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(x, name)]
    pairs += [(getattr(x, name), getattr(y, name)) for name in slots if hasattr(y, name)]
    own = getattr(x, "__dict__", None)
    if isinstance(own, dict):
        inner = (own["__wrapped__"], vars(y)["__wrapped__"]) if "__wrapped__" in own else (own, vars(y))
        pairs.append(inner)
    return pairs


def engine_of(compile: Callable[[Any], Any] | None, run: Run) -> Callable[..., Any]:
    """What makes loops."""
    return (Compiled if compile is None else compile)(plain_step(run)).engine
