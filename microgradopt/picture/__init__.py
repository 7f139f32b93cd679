"""The picture of a computation, drawn by Graphviz."""

from microgradopt.picture.drawing import draw
from microgradopt.picture.on_error import draw_on_error
from microgradopt.picture.render import Drawing, GraphvizMissingError

__all__ = ["Drawing", "GraphvizMissingError", "draw", "draw_on_error"]
