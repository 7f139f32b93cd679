"""draw_on_error: where a computation fails, the picture of it, with the call that failed in red."""

from __future__ import annotations

import collections
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import ref

from microgradopt.graph.graph import Graph, finite
from microgradopt.graph.reader import Names
from microgradopt.mode import Observer, Switched
from microgradopt.nn.module import Module
from microgradopt.picture.drawing import draw
from microgradopt.picture.failed import first_not_finite, leading_to, marked, variables
from microgradopt.picture.render import Drawing
from microgradopt.rules.registry import name_of
from microgradopt.tensor import Tensor

_NOTED = 1000  # results that are remembered, the newest
_TEXT = (".dot", ".gv")


def draw_on_error(path: str | os.PathLike[str] | None = None, names: Names | None = None) -> DrawnOnError:
    """Draw what led to an error in the block: ``with mg.draw_on_error("wrong.svg"):``. Also a decorator.

    The call that failed is red, with the shapes that met in it and the first sentence of the error. Where a backward
    pass failed, the forward call is red whose derivative was being computed. Where no call failed (a KeyError), the
    results so far are drawn, and the error stands below. Of large graphs the newest 60 calls are shown.

    The error itself does not change, but gets a note that says where the picture is: in the file, in the notebook, and
    in ``wrong.drawing`` after ``with mg.draw_on_error() as wrong:``. If drawing fails, the note says why.

    A NaN is no error. If the block ends with a result that is not finite, the first value that is not finite is red,
    and a RuntimeWarning says so. With `detect_anomaly` it is an error, at the call that made it.

    path: the file, in the format of its ending: "wrong.svg", "wrong.png", ...; ".dot" and ".gv" are DOT text and need
    no Graphviz. Without Graphviz this text is written in place of a picture.
    names: as for `draw`; by default the variables of the functions in the traceback.

    Holds for the current thread. Nested blocks draw one picture each.

    Raises TypeError if path is no file name or names is no module or mapping; ValueError for a path without an ending.

    >>> import numpy as np, microgradopt as mg
    >>> x, w = np.ones((8, 3)), mg.Tensor(np.ones((4, 3)), requires_grad=True)
    >>> try:
    ...     with draw_on_error() as wrong:
    ...         x @ w
    ... except ValueError:
    ...     print("(8, 3) with (4, 3)" in wrong.drawing.source)
    True
    """
    if path is not None and not isinstance(path, str | os.PathLike):
        raise TypeError(f"draw_on_error: path is the name of a file, not {type(path).__name__}")
    if names is not None and not isinstance(names, Mapping | Module):
        raise TypeError(f"draw_on_error: names is a module, or a dictionary by name, not {type(names).__name__}")
    if path is not None and not Path(path).suffix:
        raise ValueError(f'draw_on_error: a path ends with its format, "wrong.svg" or "wrong.dot"; not {str(path)!r}')
    return DrawnOnError(None if path is None else Path(path), names)


class DrawnOnError(Switched):
    """What `draw_on_error` gives. drawing: the picture; None while nothing has failed."""

    def __init__(self, path: Path | None, names: Names | None) -> None:
        self._path, self._names, self._results = path, names, _Results()
        self._before: BaseException | None = None
        self.drawing: Drawing | None = None
        super().__init__(self._results)

    def _recreate_cm(self) -> DrawnOnError:
        return DrawnOnError(self._path, self._names)

    def __enter__(self) -> DrawnOnError:  # type: ignore[override]
        self._results.made.clear()
        self._before = sys.exception()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        error, before, self._before = raised[1], self._before, None
        results = self._results.alive()
        if isinstance(error, Exception):
            told = self._offer(lambda: leading_to(error, results, self._names, before))
            error.add_note(f"draw_on_error: {told}")
        elif error is None and results and not finite(results[-1].value):
            names = variables([sys._getframe(1)]) if self._names is None else self._names
            x = first_not_finite(results[-1])
            told = self._offer(lambda: marked(x, results[-1], "the first value that is not finite", names))
            made = f"in {name_of(x.function)}" if x.function is not None else "in what was given"
            message = f"draw_on_error: the result is not finite, first {made}; {told}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _offer(self, graph: Callable[[], Graph]) -> str:
        """Draw, write and show the graph; in words, where it is. Raises nothing: it must not hide the error."""
        try:
            self.drawing = draw(graph())
            written = "" if self._path is None else _write(self.drawing, self._path)
            shown = "the graph up to here is drawn above" if _show(self.drawing) else ""
        except Exception as problem:
            return f"no picture: {type(problem).__name__}: {problem}"
        return written or shown or 'to write the graph up to here, give a path: draw_on_error("wrong.svg")'


class _Results(Observer):
    """Remembers the newest results, and does not keep them alive."""

    def __init__(self) -> None:
        self.made: collections.deque[ref[Tensor]] = collections.deque(maxlen=_NOTED)

    def recorded(self, tensor: Tensor, function: Any, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        if tensor.function is not None:
            self.made.append(ref(tensor))

    def alive(self) -> list[Tensor]:
        """Those that are still there, the newest last."""
        return [tensor for each in self.made if (tensor := each()) is not None]


def _show(drawing: Drawing) -> bool:
    """Show the picture in a notebook; whether this is one."""
    notebook = sys.modules.get("IPython")
    if notebook is None or notebook.get_ipython() is None:
        return False
    importlib.import_module("IPython.display").display(drawing)
    return True


def _write(drawing: Drawing, path: Path) -> str:
    """Write the picture, or its text where it cannot be drawn; in words, where it is."""
    reason, ending = "", path.suffix.lower()
    if ending not in _TEXT:
        try:
            path.write_bytes(drawing.pipe(ending[1:]))
        except RuntimeError as error:
            path, ending, reason = path.with_suffix(".dot"), ".dot", f", as text: {str(error).partition('. ')[0]}"
    if ending in _TEXT:
        path.write_text(drawing.source, encoding="utf-8")
    return f"the graph up to here is in {path}{reason}"
