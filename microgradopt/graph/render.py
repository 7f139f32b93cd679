"""From DOT to pictures: by Graphviz where it is installed, else by graphviz-pure, a package that needs nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


class GraphvizMissingError(RuntimeError):
    """A picture is wanted, and there is nothing on this machine to draw it with."""


def picture(source: str, format: str = "svg", engine: str = "dot") -> bytes:
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
    """The SVG of a graph in the DOT language. Raises as `picture` does."""
    return picture(source).decode("utf-8")


def _pure() -> str | None:
    """The command of the package graphviz-pure: on the path, or beside the Python that runs."""
    beside = Path(sys.executable).parent / "graphviz-pure"
    return shutil.which("graphviz-pure") or (str(beside) if beside.exists() else None)
