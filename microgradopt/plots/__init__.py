"""Pictures of losses: error surfaces, paths on them, slices, spectra, histories, decision boundaries. With matplotlib.

Every function draws into `ax`, by default a new figure's, and gives the Axes back. Those of `directions` give
directions to draw along.
"""

from microgradopt.page.explorable import live
from microgradopt.plots.directions import filter_normalised, on_plane, principal_axes
from microgradopt.plots.measured import density, diagnosis, history, spectrum
from microgradopt.plots.style import COLOURS, MARKERS, OPTIMIZER_COLOURS, close, legend_below, optimizer_colour
from microgradopt.plots.surfaces import (
    animation,
    colour_bar,
    decision_boundary,
    equal_area,
    mark,
    path,
    slice_along,
    surface,
    trajectories,
)

__all__ = [
    "COLOURS",
    "MARKERS",
    "OPTIMIZER_COLOURS",
    "animation",
    "close",
    "colour_bar",
    "decision_boundary",
    "density",
    "diagnosis",
    "equal_area",
    "filter_normalised",
    "history",
    "legend_below",
    "live",
    "mark",
    "on_plane",
    "optimizer_colour",
    "path",
    "principal_axes",
    "slice_along",
    "spectrum",
    "surface",
    "trajectories",
]
