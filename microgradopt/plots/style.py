"""What all pictures share: colours and markers, axes, the legend."""

from __future__ import annotations

import re
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.legend import Legend

COLOURS = {"negative": "#c0392b", "zero": "#7f8c8d", "positive": "#2471a3"}
# Those of Okabe and Ito for the lecture's five: to be told apart by colour-blind readers too.
OPTIMIZER_COLOURS = {
    "SGD": "#0072b2",
    "Momentum": "#e69f00",
    "RMS": "#009e73",
    "RMSprop": "#cc79a7",
    "Adam": "#d55e00",
    "Nesterov": "#7a4900",
    "Adagrad": "#56b4e9",
    "Adadelta": "#999933",
    "NAdam": "#aa3377",
    "RAdam": "#332288",
    "AdamW": "#882255",
    "Lion": "#000000",
    "Newton": "#666666",
    "LBFGS": "#117733",
}
_OTHER_NAMES = {"gradient descent": "SGD", "Root Mean Square": "RMS", "L-BFGS": "LBFGS"}
MARKERS = {"local minimum": "o", "saddle point": "X", "local maximum": "^", "degenerate": "D", "not critical": "s"}


def optimizer_colour(name: str) -> str | None:
    """The colour of an optimizer in all pictures, by the name that a label begins with; None for others.

    The name is that of its class or the lecture's, in capitals or not.

    >>> optimizer_colour("gradient descent, η = 0.1") == optimizer_colour("SGD") == OPTIMIZER_COLOURS["SGD"]
    True
    """
    for known in (*OPTIMIZER_COLOURS, *_OTHER_NAMES):
        if re.match(rf"{known}\b", name, re.IGNORECASE):
            return OPTIMIZER_COLOURS[_OTHER_NAMES.get(known, known)]
    return None


def legend_below(ax: Axes, columns: int = 1) -> Legend:
    """What the lines and markers are, under the axes, where it covers nothing. Wants layout="constrained".

    >>> ax = plt.figure(layout="constrained").gca()
    >>> _ = ax.plot([0.0, 1.0], label="Adam")
    >>> [text.get_text() for text in legend_below(ax).get_texts()]
    ['Adam']
    """
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "borderaxespad": 4.0}  # below ticks
    return ax.legend(**place, ncols=columns, fontsize="small", frameon=False)


def axes_of(ax: Axes | None) -> Axes:
    """The axes to draw into, by default a new figure's."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def close(*axes: Axes) -> None:
    """Forget the figures that were made for these axes: pyplot keeps every figure until it is closed.

    >>> close(plt.figure().gca())
    """
    for ax in axes:
        plt.close(ax.figure)  # type: ignore[arg-type]  # of a subfigure nothing is closed
