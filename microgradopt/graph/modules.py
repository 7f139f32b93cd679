"""Which module was at work when a value was made: the frames of a picture."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from microgradopt.nn.module import Call, Module


class Frame(NamedTuple):
    """One call of a module. path: its dotted name. kind: its class. call: when it began, by the clock."""

    path: str
    kind: str
    call: int

    @property
    def title(self) -> str:
        """The module in words: "encoder.0: Linear"."""
        return f"{self.path}: {self.kind}"


class Calls:
    """The latest calls of modules, and of the modules inside of them. names: modules by name; all else is passed over.

    >>> import microgradopt as mg
    >>> Calls({"net": mg.nn.Linear(1, 1, rng=0)}).at(0)
    ()
    """

    def __init__(self, names: Mapping[str, Any]) -> None:
        roots = [(name, x) for name, x in names.items() if isinstance(x, Module)]
        found: dict[int, tuple[Call, Frame, Module]] = {}
        for name, root in roots:
            for path, module in root.named_modules(name):
                for call in module.calls():  # a module with several names has one frame, with the first of them
                    found.setdefault(call.start, (call, Frame(path, type(module).__name__, call.start), module))
        self._starts = sorted(found)
        self._calls = [found[start] for start in self._starts]

    def at(self, date: int) -> tuple[Frame, ...]:
        """The calls that were at work then, the outermost first; but not the root of a model, which has no name."""
        return tuple(frame for _, frame, _ in self._around(date) if frame.path)

    def unrecorded(self, date: int, x: Any) -> list[Any]:
        """What an array was computed from that a call at this date used, and that no recorded call has made.

        The arguments of the module that was at work which need no gradient, where the array has their shape, and is
        none of the module's own.
        """
        around = self._around(date)
        if not around:
            return []
        call, _, module = around[-1]
        given = [argument for ref in call.unrecorded if (argument := ref()) is not None]
        is_old = any(x is y for y in [*given, *vars(module).values()])
        return [] if is_old else [y for y in given if y.shape == x.shape]

    def _around(self, date: int) -> list[tuple[Call, Frame, Module]]:
        before = self._calls[: bisect.bisect_right(self._starts, date)]
        return [each for each in before if date < each[0].end]


def numbered(frames: Iterable[Frame]) -> dict[Frame, str]:
    """Which of its module's calls each is, in order: "2 of 5"; "" of a module that was called once."""
    calls: dict[str, list[Frame]] = {}
    for frame in dict.fromkeys(frames):
        calls.setdefault(frame.path, []).append(frame)
    return {
        frame: f"{i} of {len(own)}" if len(own) > 1 else ""
        for own in calls.values()
        for i, frame in enumerate(own, start=1)
    }
