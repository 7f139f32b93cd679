"""Pictures of losses: error surfaces, paths on them, slices, spectra, histories, decision boundaries. With matplotlib.

Every function draws into `ax`, by default a new figure's, and gives the Axes back. Those at the end give directions to
draw along.
"""

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
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from microgradopt.critical.point import CriticalPoint
from microgradopt.curvature.spectrum import SpectralDensity
from microgradopt.diagnosis import Diagnosis
from microgradopt.mode import no_grad
from microgradopt.objective import Objective
from microgradopt.page.explorable import live as live  # exported
from microgradopt.training import History

Array = npt.NDArray[Any]

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
    ax = _axes(ax)
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


def _line(ax: Axes, thetas: npt.ArrayLike, **style: Any) -> Line2D:
    """A path, outlined in white, so that it is seen on every colour of a surface."""
    (line,) = ax.plot(*np.asarray(thetas).T, **style)
    line.set_path_effects([withStroke(linewidth=line.get_linewidth() + 1.6, foreground="white")])
    return line


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


def _colour(name: str, colours: Mapping[str, str] | None) -> str | None:
    return (colours or {}).get(name) or optimizer_colour(name)


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


def legend_below(ax: Axes, columns: int = 1) -> Legend:
    """What the lines and markers are, under the axes, where it covers nothing. Wants layout="constrained".

    >>> ax = path([[0.0, 0.0], [1.0, 1.0]], plt.figure(layout="constrained").gca(), label="Adam")
    >>> [text.get_text() for text in legend_below(ax).get_texts()]
    ['Adam']
    """
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "borderaxespad": 4.0}  # below ticks
    return ax.legend(**place, ncols=columns, fontsize="small", frameon=False)


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
    """The eigenvalues of the Hessian in order, coloured by sign; those within the tolerance, the band, are zero.

    >>> import microgradopt as mg
    >>> spectrum(mg.critical.classify(mg.Objective(lambda w: np.sum(w * w), [0.0, 0.0]))).get_xlabel()
    'eigenvalue number'
    """
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
    linear = max(min(smallest, 1.0), 10 * tolerance, 1e-12)
    ax.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(linear)), linscale=1.0)  # a tick, not one within
    ax.yaxis.get_major_locator().set_params(numticks=9)  # type: ignore[call-arg]
    ax.autoscale()
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlabel("eigenvalue number" if point.complete else "eigenvalue number, of those found")
    ax.set_ylabel("eigenvalue of the Hessian")
    ax.set_title(f"{point.kind}{'' if point.certified else ' (not certified)'}", fontsize="medium")
    ax.legend(fontsize="small")
    return ax


def density(found: SpectralDensity, ax: Axes | None = None, sigma: float | None = None, resolution: int = 801) -> Axes:
    """The distribution of the Hessian's eigenvalues, each smoothed by a Gaussian of width sigma; logarithmic.

    sigma: by default 1/100 of the range of the eigenvalues; where all are alike, of their size.

    >>> import microgradopt as mg
    >>> density(mg.curvature.spectral_density(np.diag([1.0, 2.0, 3.0]), probes=2, steps=3)).get_yscale()
    'log'
    """
    ax = _axes(ax)
    nodes = found.nodes[found.weights > 0]
    low, high = nodes.min(), nodes.max()
    if sigma is None:
        is_one = high - low <= 1e-10 * abs(high)  # but for rounding
        sigma = (abs(high) or 1.0) / 100 if is_one else (high - low) / 100
    t = np.linspace(low - 4 * sigma, high + 4 * sigma, resolution)
    values = found.density(t, sigma)
    ax.semilogy(t, values, color="black", linewidth=0.8)
    for name, which in (("negative", t < 0), ("positive", t >= 0)):
        ax.fill_between(t, values, 1e-12, where=which, color=COLOURS[name], alpha=0.4, linewidth=0)
    ax.set_ylim(max(values.max() * 1e-7, 1e-12), values.max() * 2)
    ax.set_xlabel("eigenvalue of the Hessian")
    ax.set_ylabel("density")
    return ax


def history(run: History, ax: Axes | None = None, **style: Any) -> Axes:
    """Loss and gradient norm of every update, on one logarithmic axis: a flat loss is not a small gradient.

    Where there is a validation loss, it is drawn too; where it rises and the loss falls, the network overfits.

    >>> run = History()
    >>> run.append(1.0, 2.0, 0.1, 0.0)
    >>> history(run).get_xlabel()
    'update'
    """
    if not (hasattr(run, "loss") and hasattr(run, "gradient_norm")):
        raise TypeError(f"history: wants a training.History, not {run!r:.60}")
    ax = _axes(ax)
    ax.semilogy(run.loss, **{"label": "loss", "color": "#2471a3", "linewidth": 1.2, **style})
    ax.semilogy(run.gradient_norm, **{"label": "gradient norm", "color": "#e67e22", "linewidth": 0.8, **style})
    validated = np.array(getattr(run, "validation_loss", []), float)
    at = np.flatnonzero(np.isfinite(validated))
    if len(at):
        ax.semilogy(at, validated[at], **{"label": "validation loss", "color": "#c0392b", "linewidth": 1.5, **style})
    ax.set_xlabel("update")
    ax.legend(fontsize="small")
    return ax


def diagnosis(found: Diagnosis, ax: Axes | None = None) -> Axes:
    """What was tried: the loss so far, grey, and from now on that of every experiment.

    Going on as before is black, the experiment that the verdict rests on red, all others grey.

    >>> from microgradopt import Objective, critical
    >>> diagnosis(critical.diagnose(Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0]))).get_xlabel()
    'update, from now on'
    """
    if not (hasattr(found, "trials") and hasattr(found, "change")):
        raise TypeError(f"diagnosis: wants what critical.diagnose returns, not {found!r:.60}")
    ax = _axes(ax)
    longest = max((trial.updates[-1] for trial in found.trials), default=1)
    so_far = np.array(found.run.loss[-longest:] if found.run is not None else [], float)
    now = found.trials[0].losses[0] if found.trials else 1.0
    ax.plot(np.arange(-len(so_far), 0), _near(so_far, now), color=COLOURS["zero"], linewidth=0.5)
    colours = {"going on as before": "black"}
    if found.change is not None:
        colours[found.change.name] = COLOURS["negative"]
    for trial in found.trials:
        told: dict[str, Any] = {"color": COLOURS["zero"], "linewidth": 0.5}
        if trial.name in colours:
            told = {"color": colours[trial.name], "label": trial.name}
        at = trial.updates * (longest / max(trial.updates[-1], 1))
        ax.plot(at, _near(trial.losses, now), **told)
    losses = np.concatenate([_near(so_far, now), *(_near(trial.losses, now) for trial in found.trials)])
    losses = losses[np.isfinite(losses)]
    if len(losses) and losses.min() > 0:
        ax.set_yscale("log")
        ax.set_ylim(max(losses.min() / 1.5, 1e-5 * now), 5 * min(max(now, np.median(losses)), losses.max()))
    ax.axvline(0, color="black", linewidth=0.5, linestyle=":")
    ax.set(xlabel="update, from now on", ylabel="loss", title=found.verdict)
    if ax.get_legend_handles_labels()[0]:
        legend_below(ax)
    return ax


def _near(losses: Array, now: float) -> Array:
    """Losses, without those that have run away from the one now, which no axis could show."""
    bound = 1e6 * abs(now) if np.isfinite(now) and now else 1e6
    return np.where(np.abs(losses) < bound, losses, np.nan)


def decision_boundary(
    scores: Callable[[Array], Any], X: Array, y: Array, ax: Axes | None = None, resolution: int = 200
) -> Axes:
    """Which class a classifier chooses where, in the plane, and the samples in the colours of their own classes.

    scores: takes points (m, 2), gives a Tensor or an array: (m, classes), the highest wins; or (m,) or (m, 1), class 1
    where it is positive. X: (samples, 2). y: their classes, integers from 0.

    >>> decision_boundary(lambda X: X, np.eye(2), np.array([0, 1]), resolution=5).get_aspect()
    'auto'
    """
    ax = _axes(ax)
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


# Directions to draw along ---------------------------------------------------------------------------------------------


def filter_normalised(objective: Objective, rng: np.random.Generator | int | None = 0) -> Array:
    """A random direction, (n,), in which every unit's weights move in proportion to their own size.

    Each row of a weight matrix (what leads to one unit) is scaled to the norm that it has in θ; biases do not move. Two
    networks that are the same function after rescaling a layer then look the same. Li et al. 2018, section 4.

    >>> import microgradopt as mg
    >>> W = mg.Tensor(np.eye(2), requires_grad=True)
    >>> objective = mg.Objective.of([W], lambda: np.sum(W * W))
    >>> np.linalg.norm(filter_normalised(objective).reshape(2, 2), axis=1).round(6)
    array([1., 1.])
    """
    rng = np.random.default_rng(rng)
    parts = []
    for parameter in objective.parameters:
        random = rng.normal(size=parameter.shape)
        in_row = tuple(range(1, parameter.ndim))
        own, size = (np.sqrt(np.sum(x * x, axis=in_row, keepdims=True)) for x in (parameter.data, random))
        parts.append(random * own / size if parameter.ndim > 1 else np.zeros_like(random))
    return objective.vector.join(parts)


def principal_axes(thetas: npt.ArrayLike) -> tuple[Array, tuple[Array, Array], float]:
    """The plane in which a trajectory moves most: its centre (n,), two orthonormal axes, and their share of ‖θ − θ̄‖².

    thetas: (steps, n), at least three steps of two parameters. Random planes show nothing of a trajectory, as in many
    dimensions a random direction is orthogonal to it. Li et al. 2018, section 7.

    >>> principal_axes([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 2.0, 0.0]])[2]
    1.0
    """
    thetas = np.asarray(thetas)
    centre = thetas.mean(axis=0)
    _, sizes, axes = np.linalg.svd(thetas - centre, full_matrices=False)
    share = float(np.sum(sizes[:2] ** 2) / np.sum(sizes**2))
    return centre, (axes[0], axes[1]), share


def on_plane(thetas: npt.ArrayLike, origin: Array, plane: tuple[Array, Array]) -> Array:
    """Where points of Rⁿ, (steps, n), lie on a plane: (steps, 2), the coordinates of the nearest points on it.

    >>> on_plane([[1.0, 2.0, 3.0]], np.zeros(3), (np.eye(3)[0], np.eye(3)[1])).round(6)
    array([[1., 2.]])
    """
    return np.linalg.lstsq(np.stack(plane, axis=1), (np.asarray(thetas) - origin).T)[0].T


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def close(*axes: Axes) -> None:
    """Forget the figures that were made for these axes: pyplot keeps every figure until it is closed.

    >>> close(decision_boundary(lambda X: X, np.eye(2), np.array([0, 1]), resolution=5))
    """
    for ax in axes:
        plt.close(ax.figure)  # type: ignore[arg-type]  # of a subfigure nothing is closed
