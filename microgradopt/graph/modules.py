"""Which module was at work when a value was made: the frames of a picture."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from microgradopt.nn.module import Module


class Frame(NamedTuple):
    """One call of a module. path: its dotted name. kind: its class. call: when it began, by the clock."""

    path: str
    kind: str
    call: int


class Calls:
    """The latest calls of modules, and of the modules inside of them. names: modules by name; all else is passed over.

    >>> import microgradopt as mg
    >>> Calls({"net": mg.nn.Linear(1, 1, rng=0)}).at(0)
    ()
    """

    def __init__(self, names: Mapping[str, Any]) -> None:
        roots = [(name, x) for name, x in names.items() if isinstance(x, Module)]
        self._calls = sorted(
            (start, end, Frame(path, type(module).__name__, start))
            for name, root in roots
            for path, module in root.named_modules(name)
            for start, end in module.calls()
        )
        self._starts = [start for start, _, _ in self._calls]

    def at(self, date: int) -> tuple[Frame, ...]:
        """The calls that were at work then, the outermost first; but not the root of a model, which has no name."""
        before = self._calls[: bisect.bisect_left(self._starts, date)]
        return tuple(frame for _, end, frame in before if date < end and frame.path)


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
