"""Error surfaces, slices of them, paths on them, and what a classifier chooses where."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm
from matplotlib.contour import ContourSet
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from microgradopt.critical.point import CriticalPoint
from microgradopt.mode import no_grad
from microgradopt.objective import Objective
from microgradopt.plots.style import MARKERS, axes_of, optimizer_colour

Array = npt.NDArray[Any]


def surface(
    objective: Objective,
    plane: tuple[Array, Array] | None = None,
    origin: npt.ArrayLike | None = None,
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0),
    resolution: int = 81,
    levels: int | Sequence[float] = 24,
    ax: Axes | None = None,
) -> Axes:
    """The loss on a plane through parameter space, as filled contours: L(origin + a·u + b·v) over a and b.

    plane: u and v, (n,) each; may be left out for two parameters, and are then the axes. Eigenvectors of the Hessian
    show more than random directions do. origin: (n,), by default 0. extent: of a and of b, (from, to, from, to).
    levels: how many colours, each for an equal part of the area (`equal_area`); or which losses part the colours.

    >>> import microgradopt as mg
    >>> surface(mg.Objective(lambda w: w[0] ** 2 - w[1] ** 2, [1.0, 1.0])).get_xlabel()
    '$w_1$'
    """
    if plane is None and objective.n != 2:
        raise ValueError(f"surface: the loss has {objective.n} parameters: say on which plane, plane=(u, v)")
    if plane is not None and [np.shape(direction) for direction in plane] != 2 * [(objective.n,)]:
        raise ValueError(
            f"surface: plane is two directions (u, v) of {objective.n} numbers each, not {plane!r:.60}; "
            "which part of it is shown is extent=(from, to, from, to)"
        )
    u, v = np.eye(objective.n)[:2] if plane is None else np.asarray(plane)
    start = np.zeros(objective.n) if origin is None else np.asarray(origin)
    a, b = np.linspace(*extent[:2], resolution), np.linspace(*extent[2:], resolution)
    with no_grad():
        values = objective.values([start + i * u + j * v for j in b for i in a]).reshape(len(b), len(a))
    ax = axes_of(ax)
    bounds: Any = levels
    beyond: Any = "max"
    if isinstance(levels, int | np.integer):
        bounds, beyond = equal_area(values, int(levels)), "neither"
    norm = BoundaryNorm(bounds, 256, extend=beyond)
    colour_bar(ax.contourf(a, b, values, levels=bounds, cmap="viridis", norm=norm, extend=beyond), ax=ax)
    ax.set_xlabel("$w_1$" if plane is None else "along u")
    ax.set_ylabel("$w_2$" if plane is None else "along v")
    return ax


def equal_area(values: Array, colours: int = 24) -> Array:
    """Losses that part a grid of them into colours of equal area, from the lowest to the highest: their quantiles.

    A surface with a narrow valley or a steep wall is then not all of one colour. Gives at most colours + 1 levels:
    fewer where many values are the same.

    >>> equal_area(np.array([[0.0, 1.0, 4.0], [9.0, 16.0, 1000.0]]), 2)
    array([   0. ,    6.5, 1000. ])
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("equal_area: none of the values is finite")
    levels = np.unique(np.quantile(finite, np.linspace(0, 1, colours + 1)))
    around = 1e-6 * max(1.0, abs(float(levels[0])))
    return levels if len(levels) > 1 else np.array([levels[0] - around, levels[0] + around])


def colour_bar(drawn: ContourSet, **where: Any) -> Colorbar:
    """The bar that says which loss a colour is, with so many digits that no two labels are alike.

    drawn: what contourf gives. where: ax= or cax=, as for matplotlib's colorbar.

    >>> ax = plt.figure().gca()
    >>> bar = colour_bar(ax.contourf(np.eye(3), levels=[0, 0.0001, 0.5, 2e7]), ax=ax)
    >>> [label.get_text() for label in bar.ax.get_yticklabels()]
    ['0', '0.0001', '0.5', '2e7']
    """
    levels = list(drawn.levels)
    ticks = levels[:: max(1, len(levels) // 8)]
    bar = drawn.axes.figure.colorbar(drawn, label="loss", **where)
    bar.set_ticks(ticks, labels=_told_apart(ticks))
    bar.minorticks_off()
    return bar


def _told_apart(values: Sequence[float]) -> list[str]:
    """Numbers with two digits, or with as many more as it takes for all to differ."""
    for digits in range(2, 18):
        rounded = [float(f"{x:.{digits}g}") for x in values]
        if len(set(rounded)) == len(values):
            break
    return [re.sub(r"e\+?(-?)0*", r"e\1", f"{x:.{max(digits, 5)}g}") for x in rounded]


def mark(points: Sequence[CriticalPoint], ax: Axes) -> Axes:
    """Critical points of two parameters, each kind with its marker.

    >>> import microgradopt as mg
    >>> point = mg.critical.classify(mg.Objective(lambda w: w[0] ** 2 - w[1] ** 2, [1.0, 1.0]), [0.0, 0.0])
    >>> len(mark([point], plt.figure().gca()).collections)
    1
    """
    for kind in dict.fromkeys(point.kind for point in points):
        x, y = np.array([point.theta for point in points if point.kind == kind]).T
        ax.scatter(
            x, y, marker=MARKERS.get(kind, "s"), s=70, edgecolors="black", facecolors="white", label=kind, zorder=3
        )
    return ax


def path(thetas: Sequence[Array], ax: Axes, **style: Any) -> Axes:
    """A path of two parameters, step by step; in its optimizer's colour if its label begins with that one's name.

    >>> path([[0.0, 0.0], [1.0, 1.0]], plt.figure().gca(), label="Adam, lr = 0.1").lines[0].get_color()
    '#d55e00'
    """
    colour = optimizer_colour(str(style.get("label"))) or "#e67e22"
    _line(ax, thetas, **{"color": colour, "marker": ".", "zorder": 2, **style})
    return ax


def trajectories(paths: Mapping[str, Array], ax: Axes, colours: Mapping[str, str] | None = None, **style: Any) -> Axes:
    """Several paths of two parameters by name, each in a colour of its own, from a white dot to a coloured one.

    paths: (steps, 2) each. colours: by name; by default that of the optimizer whose name it begins with. style: of the
    lines.

    >>> trajectories({"momentum, λ = 0.9": np.eye(2)}, plt.figure().gca()).lines[0].get_color()
    '#e69f00'
    """
    for name, thetas in paths.items():
        look = {"label": name, "color": _colour(name, colours), "linewidth": 1.5, "zorder": 2}
        line = _line(ax, thetas, **look | style)
        x, y = np.asarray(thetas).T
        ax.scatter(x[-1], y[-1], s=36, color=line.get_color(), edgecolors="black", linewidths=0.6, zorder=4)
        ax.scatter(x[0], y[0], s=36, color="white", edgecolors="black", linewidths=0.6, zorder=3)
    return ax


def animation(
    paths: Mapping[str, Array],
    ax: Axes,
    frames: int = 60,
    trail: int | None = None,
    colours: Mapping[str, str] | None = None,
) -> FuncAnimation:
    """The same paths in the same colours, run at the same pace: frame k shows all of them up to the same step.

    paths: (steps, 2) each. trail: how many steps stay to be seen behind each; None: all. colours: as in `trajectories`.
    Returns matplotlib's FuncAnimation: ``.save("race.gif", writer="pillow")``. Limits are those that `ax` has.

    >>> "Animation" in animation({"a": np.eye(2)}, plt.figure().gca(), frames=2).to_jshtml()
    True
    """
    nothing = np.empty((0, 2))
    lines = [_line(ax, nothing, color=_colour(name, colours), linewidth=1.5, label=name) for name in paths]
    heads = [ax.plot([], [], "o", markersize=6, markeredgecolor="black", color=line.get_color())[0] for line in lines]
    longest = max(map(len, paths.values()))
    ends = np.linspace(1, longest, frames).round().astype(int)

    def draw(frame: int) -> list[Any]:
        end = ends[frame]
        for line, head, thetas in zip(lines, heads, paths.values(), strict=True):
            shown = np.asarray(thetas)[: min(end, len(thetas))]
            line.set_data(*(shown if trail is None else shown[-trail:]).T)
            head.set_data(*shown[-1:].T)
        ax.set_title(f"update {end - 1}")
        return [*lines, *heads]

    return FuncAnimation(ax.get_figure(), draw, frames=frames, interval=80)  # type: ignore[arg-type]


def _line(ax: Axes, thetas: npt.ArrayLike, **style: Any) -> Line2D:
    """A path, outlined in white, so that it is seen on every colour of a surface."""
    (line,) = ax.plot(*np.asarray(thetas).T, **style)
    line.set_path_effects([withStroke(linewidth=line.get_linewidth() + 1.6, foreground="white")])
    return line


def _colour(name: str, colours: Mapping[str, str] | None) -> str | None:
    return (colours or {}).get(name) or optimizer_colour(name)


def slice_along(
    objective: Objective,
    theta: npt.ArrayLike,
    direction: Array,
    extent: tuple[float, float],
    resolution: int = 101,
    ax: Axes | None = None,
) -> Axes:
    """The loss along a direction v, L(θ + t v), and its quadratic model L + t gᵀv + ½ t² vᵀH v.

    >>> import microgradopt as mg
    >>> bowl = mg.Objective(lambda w: w[0] ** 2 + w[1] ** 2, [1.0, 1.0])
    >>> len(slice_along(bowl, [0.0, 0.0], np.array([1.0, 0.0]), (-1.0, 1.0)).lines) > 0
    True
    """
    theta, direction, t = np.asarray(theta), np.asarray(direction), np.linspace(*extent, resolution)
    value, gradient = objective.value_and_gradient(theta)
    slope, curvature = float(gradient @ direction), float(direction @ objective.hvp(direction, theta))
    with no_grad():
        values = objective.values([theta + s * direction for s in t])
    ax = axes_of(ax)
    model = value + t * slope + t**2 * curvature / 2
    shown = (model >= values.min() - np.ptp(values) / 2) & (model <= values.max() + np.ptp(values) / 2)
    ax.plot(t, values, label="loss")
    ax.plot(t[shown], model[shown], linestyle="--", label="quadratic model")
    ax.set_xlabel("t, along v")
    ax.set_ylabel("loss")
    ax.legend()
    return ax


def decision_boundary(
    scores: Callable[[Array], Any], X: Array, y: Array, ax: Axes | None = None, resolution: int = 200
) -> Axes:
    """Which class a classifier chooses where, in the plane, and the samples in the colours of their own classes.

    scores: takes points (m, 2), gives a Tensor or an array: (m, classes), the highest wins; or (m,) or (m, 1), class 1
    where it is positive. X: (samples, 2). y: their classes, integers from 0.

    >>> decision_boundary(lambda X: X, np.eye(2), np.array([0, 1]), resolution=5).get_aspect()
    'auto'
    """
    ax = axes_of(ax)
    X, y = np.asarray(X), np.asarray(y)
    margin = 0.08 * np.ptp(X, axis=0)
    axes = [np.linspace(low, high, resolution) for low, high in zip(X.min(0) - margin, X.max(0) + margin, strict=True)]
    points = np.stack(np.meshgrid(*axes), axis=-1)
    with no_grad():
        found = np.asarray(getattr(scores(points.reshape(-1, 2)), "data", None)).reshape(resolution, resolution, -1)
    chosen = found.argmax(axis=-1) if found.shape[-1] > 1 else (found[..., 0] > 0).astype(int)
    classes = int(max(y.max(), chosen.max())) + 1
    palette = [plt.get_cmap("tab10")(label % 10) for label in range(classes)]
    ax.contourf(*axes, chosen, levels=np.arange(classes + 1) - 0.5, colors=palette, alpha=0.25)
    ax.scatter(X[:, 0], X[:, 1], c=[palette[label] for label in y], s=12, edgecolors="black", linewidths=0.3)
    ax.set_xlabel("$x_1$")
    ax.set_ylabel("$x_2$")
    return ax
