"""From DOT to pictures: by Graphviz where it is installed, else by graphviz-pure, a package that needs nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import graphviz


class GraphvizMissingError(RuntimeError):
    """A picture is wanted, and there is nothing on this machine to draw it with."""


def rendered(source: str, format: str = "svg", engine: str = "dot") -> bytes:
    """The picture of a graph in the DOT language.

    source: DOT. format: "svg", "png", "pdf" or another that Graphviz knows. engine: the layout, "dot" or "neato", ...

    Raises GraphvizMissingError where neither ``dot`` nor ``graphviz-pure`` is found, RuntimeError with what Graphviz
    has to say about a source that it does not take.
    """
    program = shutil.which("dot") or _pure()
    if program is None:
        raise GraphvizMissingError(
            "no Graphviz to draw with: install it (https://graphviz.org/download, or apt install graphviz), or "
            "pip install 'microgradopt[viz]', which needs no system package. The picture's DOT text is in .source"
        )
    command = [program, f"-K{engine}", f"-T{format}"]
    done = subprocess.run(command, input=source.encode("utf-8"), capture_output=True, check=False)
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
    either, drawing raises GraphvizMissingError, and a notebook shows the text instead.

    >>> import microgradopt as mg
    >>> x = mg.Tensor(2.0, requires_grad=True)
    >>> type(mg.draw(x * x)).__name__
    'Drawing'
    """

    def pipe(self, format: str | None = None, **options: Any) -> Any:
        """The picture as bytes, or, with ``encoding=``, as text. As ``graphviz.Digraph.pipe``.

        format: "svg" by default, "png", "pdf", ... Graphviz-pure takes the options engine and encoding, and has no use
        for the others. Raises GraphvizMissingError, where there is nothing to draw with.
        """
        if shutil.which("dot"):
            return super().pipe(format, **options)
        drawn = rendered(self.source, format or self.format, options.get("engine") or self.engine)
        encoding = options.get("encoding")
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
        if shutil.which("dot"):
            options |= {"directory": directory, "view": view, "cleanup": cleanup, "format": format}
            return str(super().render(filename, **options))
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
