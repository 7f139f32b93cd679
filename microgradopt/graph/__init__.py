"""The readers of the graph: trace it, draw it, step through it, print it as NumPy, compile it."""

from microgradopt.graph.compile import compile
from microgradopt.graph.graph import Edge, Graph, Node
from microgradopt.graph.trace import trace

__all__ = ["Edge", "Graph", "Node", "compile", "trace"]
