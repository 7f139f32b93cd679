"""From DOT to pictures: by Graphviz where it is installed, else by graphviz-pure, a package that needs nothing else."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graphviz

_PATIENCE = 20.0  # seconds that a layout may take


class GraphvizMissingError(RuntimeError):
    """A picture is wanted, and there is nothing on this machine to draw it with."""


class LayoutTimeoutError(RuntimeError):
    """Graphviz has not finished the layout of a graph in time."""


def rendered(source: str, format: str = "svg", engine: str = "dot", timeout: float | None = None) -> bytes:
    """The picture of a graph in the DOT language.

    source: DOT. format: "svg", "png", "pdf" or another that Graphviz knows. engine: the layout, "dot" or "neato", ...
    timeout: in seconds, after which it is given up; None for never.

    Raises GraphvizMissingError where neither ``dot`` nor ``graphviz-pure`` is found, LayoutTimeoutError where it takes
    too long, RuntimeError with what Graphviz has to say about a source that it does not take.
    """
    program = shutil.which("dot") or _pure()
    if program is None:
        raise GraphvizMissingError(
            "no Graphviz to draw with: install it (https://graphviz.org/download, or apt install graphviz), or "
            "pip install 'microgradopt[viz]', which needs no system package. The picture's DOT text is in .source"
        )
    command = [program, f"-K{engine}", f"-T{format}"]
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise LayoutTimeoutError(f"{' '.join(command)}: not finished after {timeout:g} seconds") from None
    if done.returncode or not done.stdout:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode('utf-8', 'replace').strip() or 'no picture'}")
    return done.stdout


def svg(source: str) -> str:
    """The SVG of a graph in the DOT language. Raises as `rendered` does."""
    return rendered(source).decode("utf-8")


def _pure() -> str | None:
    """The command of the package graphviz-pure: on the path, or beside the Python that runs."""
    return shutil.which("graphviz-pure") or shutil.which("graphviz-pure", path=str(Path(sys.executable).parent))


class Drawing(graphviz.Digraph):  # type: ignore[misc]
    """A picture of a graph: `source` is its DOT text, `render` and `pipe` draw it; notebooks show it by themselves.

    It is drawn by Graphviz's ``dot``, or where that is not installed by graphviz-pure (``microgradopt[viz]``). Without
    either, drawing raises GraphvizMissingError, and a notebook shows the text instead. A layout that takes more than 20
    seconds is given up, and a picture with more folded is drawn in its place, with a warning.

    description: the picture in words; an SVG has it for those who do not see it.

    >>> import microgradopt as mg
    >>> x = mg.Tensor(2.0, requires_grad=True)
    >>> type(mg.draw(x * x)).__name__
    'Drawing'
    """

    description = ""
    smaller: Callable[[], Drawing] | None = None

    def pipe(self, format: str | None = None, **options: Any) -> Any:
        """The picture as bytes, or, with ``encoding=``, as text. As ``graphviz.Digraph.pipe``.

        format: "svg" by default, "png", "pdf", ... options: engine and encoding. Raises GraphvizMissingError, where
        there is nothing to draw with.
        """
        kind, encoding = format or self.format, options.get("encoding")
        try:
            timeout = _PATIENCE if self.smaller else None
            drawn = rendered(self.source, kind, options.get("engine") or self.engine, timeout)
        except LayoutTimeoutError as error:
            assert self.smaller is not None  # without, there is no timeout
            warnings.warn(f"draw: {error}; a picture with more folded is drawn instead", stacklevel=2)
            return self.smaller().pipe(format, **options)
        drawn = _told(drawn, self.description) if kind == "svg" else drawn
        return drawn if encoding is None else drawn.decode(encoding)

    def render(
        self,
        filename: str | Path | None = None,
        directory: str | Path | None = None,
        view: bool = False,
        cleanup: bool = False,
        format: str | None = None,
        **options: Any,
    ) -> str:
        """Write the DOT text, and the picture beside it, whose path is returned. As ``graphviz.Digraph.render``.

        format: "svg" by default; else as the name in ``outfile=`` ends. cleanup: keep the picture alone. view: open it.

        Raises GraphvizMissingError, where there is nothing to draw with; nothing is written then.
        """
        outfile = options.get("outfile")
        if outfile is not None:
            format = format or Path(outfile).suffix[1:]
            filename = filename or Path(outfile).with_suffix(".gv")
        kind = format or self.format
        drawn = self.pipe(kind, engine=options.get("engine"))
        saved = self.save(filename, directory=directory)
        target = Path(outfile or f"{saved}.{kind}")
        target.write_bytes(drawn)
        if cleanup:
            Path(saved).unlink()
        if view:
            self._view(str(target), format=kind, quiet=bool(options.get("quiet_view")))
        return str(target)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **options: Any) -> dict[str, Any]:
        """What a notebook shows: the picture; where it cannot be drawn, the reason and the DOT text."""
        try:
            shown: dict[str, Any] = super()._repr_mimebundle_(include, exclude, **options)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            return {"text/plain": f"{error}\n\n{self.source}"}
        return shown


def _told(drawn: bytes, description: str) -> bytes:
    """An SVG with a description, which is read out in place of the picture."""
    words = html.escape(description).encode()
    said = b'role="img" aria-label="' + words + b'" '
    return re.sub(
        rb"<svg ([^>]*>)", lambda svg: b"<svg " + said + svg[1] + b"\n<desc>" + words + b"</desc>", drawn, count=1
    )
