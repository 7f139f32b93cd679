"""The readers of the graph: trace it, draw it, step through it, print it as NumPy, compile it.

Drawing is loaded on first use: it needs the package graphviz, and the rest does not.
"""

from typing import TYPE_CHECKING

from microgradopt.graph.compiled import Compiled, compile, source
from microgradopt.graph.graph import Edge, Graph, Node
from microgradopt.graph.program import Source
from microgradopt.graph.reader import trace
from microgradopt.graph.tracer import StaleProgramError, TracingError
from microgradopt.lazy import on_use

if TYPE_CHECKING:
    from microgradopt.graph.drawing import Drawing, draw
    from microgradopt.graph.page import Page, explain
    from microgradopt.graph.render import GraphvizMissingError

__all__ = [
    "Compiled",
    "Drawing",
    "Edge",
    "Graph",
    "GraphvizMissingError",
    "Node",
    "Page",
    "Source",
    "StaleProgramError",
    "TracingError",
    "compile",
    "draw",
    "explain",
    "source",
    "trace",
]

__getattr__ = on_use(
    __name__,
    {"Drawing": "drawing", "draw": "drawing", "Page": "page", "explain": "page", "GraphvizMissingError": "render"},
)
