"""The graph: a computation as a plain value, what it costs, and its calls as text."""

from microgradopt.deprecated import moved
from microgradopt.graph.graph import Edge, Graph, Node
from microgradopt.graph.reader import trace

__all__ = ["Edge", "Graph", "Node", "trace"]

__getattr__ = moved(
    __name__,
    dict.fromkeys(("Compiled", "Source", "StaleProgramError", "TracingError", "compile", "source"), "program")
    | dict.fromkeys(("Drawing", "GraphvizMissingError", "draw"), "picture")
    | dict.fromkeys(("Page", "explain"), "page"),
)
