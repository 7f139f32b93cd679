"""Pictures of losses: error surfaces, paths on them, slices along a direction, spectra. With matplotlib.

Every function draws into `ax`, by default a new figure's, and gives the Axes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.ticker import MaxNLocator

from microgradopt.critical.point import CriticalPoint
from microgradopt.mode import no_grad
from microgradopt.objective import Objective

Array = npt.NDArray[Any]

COLOURS = {"negative": "#c0392b", "zero": "#7f8c8d", "positive": "#2471a3"}
MARKERS = {"local minimum": "o", "saddle point": "X", "local maximum": "^", "degenerate": "D", "not critical": "s"}


def surface(
    objective: Objective,
    plane: tuple[Array, Array] | None = None,
    origin: npt.ArrayLike | None = None,
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0),
    resolution: int = 81,
    levels: int | Sequence[float] = 30,
    ax: Axes | None = None,
) -> Axes:
    """The loss on a plane through parameter space, as filled contours: L(origin + a·u + b·v) over a and b.

    plane: u and v, (n,) each; may be left out for two parameters, and are then the axes. Eigenvectors of the Hessian
    show more than random directions do. origin: (n,), by default 0. extent: of a and of b, (from, to, from, to).
    levels: how many, or which, each with a colour of its own.
    """
    u, v = np.eye(objective.n)[:2] if plane is None else plane
    if plane is None and objective.n != 2:
        raise ValueError(f"surface: the loss has {objective.n} parameters: say on which plane, plane=(u, v)")
    start = np.zeros(objective.n) if origin is None else np.asarray(origin)
    a, b = np.linspace(*extent[:2], resolution), np.linspace(*extent[2:], resolution)
    with no_grad():
        values = np.array([[objective.value(start + i * u + j * v) for i in a] for j in b])
    ax = _axes(ax)
    norm = None if isinstance(levels, int) else BoundaryNorm(levels, 256, extend="max")
    drawn = ax.contourf(a, b, values, levels=levels, cmap="viridis", norm=norm, extend="max")
    ax.figure.colorbar(drawn, ax=ax, label="loss")
    ax.set_xlabel("$w_1$" if plane is None else "along u")
    ax.set_ylabel("$w_2$" if plane is None else "along v")
    return ax


def mark(points: Sequence[CriticalPoint], ax: Axes) -> Axes:
    """Critical points of two parameters, each kind with its marker."""
    for kind in dict.fromkeys(point.kind for point in points):
        x, y = np.array([point.theta for point in points if point.kind == kind]).T
        ax.scatter(
            x, y, marker=MARKERS.get(kind, "s"), s=70, edgecolors="black", facecolors="white", label=kind, zorder=3
        )
    return ax


def path(thetas: Sequence[Array], ax: Axes, **style: Any) -> Axes:
    """A path of two parameters, step by step."""
    ax.plot(*np.array(thetas).T, **{"color": "#e67e22", "marker": ".", "zorder": 2, **style})
    return ax


def slice_along(
    objective: Objective,
    theta: npt.ArrayLike,
    direction: Array,
    extent: tuple[float, float],
    resolution: int = 101,
    ax: Axes | None = None,
) -> Axes:
    """The loss along a direction v, L(θ + t v), and its quadratic model L + t gᵀv + ½ t² vᵀH v."""
    theta, t = np.asarray(theta), np.linspace(*extent, resolution)
    value, gradient = objective.value_and_gradient(theta)
    slope, curvature = float(gradient @ direction), float(direction @ objective.hvp(direction, theta))
    with no_grad():
        values = np.array([objective.value(theta + s * direction) for s in t])
    ax = _axes(ax)
    model = value + t * slope + t**2 * curvature / 2
    shown = (model >= values.min() - np.ptp(values) / 2) & (model <= values.max() + np.ptp(values) / 2)
    ax.plot(t, values, label="loss")
    ax.plot(t[shown], model[shown], linestyle="--", label="quadratic model")
    ax.set_xlabel("t, along v")
    ax.set_ylabel("loss")
    ax.legend()
    return ax


def spectrum(point: CriticalPoint, ax: Axes | None = None) -> Axes:
    """The eigenvalues of the Hessian in order, coloured by sign; those within the tolerance, the band, are zero."""
    ax = _axes(ax)
    values, tolerance = point.eigenvalues, point.tolerance
    places = np.arange(len(values))
    signs = {"negative": values < -tolerance, "zero": np.abs(values) <= tolerance, "positive": values > tolerance}
    for name, which in signs.items():
        if which.any():
            label = f"{int(which.sum())} {name}"
            ax.scatter(places[which], values[which], s=14, color=COLOURS[name], label=label, zorder=2)
    ax.axhspan(-tolerance, tolerance, color=COLOURS["zero"], alpha=0.3)
    ax.axhline(0, color="black", linewidth=0.5)
    smallest = np.abs(values[~signs["zero"]]).min(initial=np.inf)
    ax.set_yscale("symlog", linthresh=max(min(smallest, 1.0), 10 * tolerance, 1e-12), linscale=0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("eigenvalue number" if point.complete else "eigenvalue number, of those found")
    ax.set_ylabel("eigenvalue of the Hessian")
    ax.set_title(f"{point.kind}{'' if point.certified else ' (not certified)'}", fontsize="medium")
    ax.legend(fontsize="small")
    return ax


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax
