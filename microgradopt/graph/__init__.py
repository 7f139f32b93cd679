"""The readers of the graph: trace it, draw it, step through it, print it as NumPy, compile it."""

from microgradopt.graph.compile import Compiled, compile, source
from microgradopt.graph.draw import Drawing, draw
from microgradopt.graph.explain import Page, explain
from microgradopt.graph.graph import Edge, Graph, Node
from microgradopt.graph.program import Source
from microgradopt.graph.render import GraphvizMissingError
from microgradopt.graph.trace import trace
from microgradopt.graph.tracer import TracingError

__all__ = [
    "Compiled",
    "Drawing",
    "Edge",
    "Graph",
    "GraphvizMissingError",
    "Node",
    "Page",
    "Source",
    "TracingError",
    "compile",
    "draw",
    "explain",
    "source",
    "trace",
]
