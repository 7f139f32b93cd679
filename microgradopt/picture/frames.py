"""Frames: the modules of a computation, in its picture."""

from __future__ import annotations

from typing import Any

import graphviz

from microgradopt.picture import words
from microgradopt.picture.render import Drawing

QUIET = "#666666"  # the grey of what is not the computation itself
_DEEP = 16  # frames in each other; nobody looks for more, and what is put into frames is copied by each


class Frames:
    """A frame for each module, inside of that of the module around it. They are drawn when they are closed."""

    def __init__(self, drawing: Drawing) -> None:
        self._open: dict[str, Any] = {"": drawing}

    def at(self, path: str) -> Any:
        """The drawing that a module's nodes go into."""
        path = around = ".".join(path.split(".")[:_DEEP])
        while around not in self._open:
            frame = graphviz.Digraph(f"cluster_{len(self._open)}")
            look = {"style": "rounded", "color": "#bbbbbb", "fontcolor": QUIET, "labeljust": "l"}
            frame.attr(label=words.lines(words.cut(around)), **look)
            self._open[around] = frame
            around = _parent(around)
        return self._open[path]

    def close(self) -> None:
        """Put every frame into the one around it, the innermost first."""
        for path in sorted(self._open, key=lambda path: -path.count(".")):
            if path:
                self._open[_parent(path)].subgraph(self._open[path])


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
