"""Frames: the calls of modules, and loops, in the picture of a computation."""

from __future__ import annotations

from typing import Any

import graphviz

from microgradopt.graph.graph import Node
from microgradopt.graph.modules import Frame, numbered
from microgradopt.picture import words
from microgradopt.picture.loops import Loop, View
from microgradopt.picture.render import Drawing

QUIET = "#666666"  # the grey of what is not the computation itself
_DEEP = 16  # frames in each other; nobody looks for more, and what is put into frames is copied by each

Frames = tuple[Frame, ...]


class Framed:
    """A picture with its frames, one inside of the other. They are drawn when they are closed."""

    def __init__(self, drawing: Drawing, view: View) -> None:
        self._open: dict[Frames, Any] = {(): drawing}
        called = numbered(frame for node in view.nodes for frame in node.frames)
        self._titles = {frame: frame.title + words.prefixed(", call ", number) for frame, number in called.items()}
        self._loops: dict[Node, tuple[Frames, Frame]] = {}
        for number, loop in enumerate(view.loops):
            around, frame = _around(loop), Frame("", "", number)
            self._titles[frame] = f"loop: × {loop.times}"
            self._loops.update(dict.fromkeys(loop.body, (around, frame)))

    def of(self, node: Node) -> Frames:
        """The frames of a node: its modules, and between them the loop that it is in."""
        frames = node.frames[:_DEEP]
        if node not in self._loops:
            return frames
        around, loop = self._loops[node]
        return (*around, loop, *frames[len(around) :])

    def at(self, frames: Frames) -> Any:
        """The drawing that goes into these frames."""
        for i in range(1, len(frames) + 1):
            if frames[:i] not in self._open:
                frame = graphviz.Digraph(f"cluster_{len(self._open)}")
                look = {"style": "rounded", "color": "#bbbbbb", "fontcolor": QUIET, "labeljust": "l"}
                if not frames[i - 1].path:
                    look |= {"style": "rounded,bold", "color": "#7a7a7a"}
                frame.attr(label=words.lines(words.cut(self._titles[frames[i - 1]])), **look)
                self._open[frames[:i]] = frame
        return self._open[frames]

    def close(self) -> None:
        """Put every frame into the one around it, the innermost first."""
        for frames in sorted(self._open, key=len, reverse=True):
            if frames:
                self._open[frames[:-1]].subgraph(self._open[frames])


def _around(loop: Loop) -> Frames:
    """The frames that all of a loop is in."""
    around: Frames = loop.body[0].frames[:_DEEP]
    for node in loop.body:
        while node.frames[: len(around)] != around:
            around = around[:-1]
    return around
