"""The picture of a computation, drawn by Graphviz."""

from microgradopt.picture.drawing import draw
from microgradopt.picture.render import Drawing, GraphvizMissingError

__all__ = ["Drawing", "GraphvizMissingError", "draw"]
