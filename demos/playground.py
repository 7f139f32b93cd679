"""A playground: choose a surface, an optimizer and its settings, and watch the way it takes.

``marimo run demos/playground.py`` opens it in the browser; no network is needed. As a script,
``python demos/playground.py [--quick]``, it prints what its first page says.
"""

import marimo

app = marimo.App(width="full", app_title="microgradopt: playground")

with app.setup:
    import functools
    import math
    import sys
    from collections.abc import Callable
    from dataclasses import dataclass, field
    from typing import Any

    import marimo as mo
    import numpy as np
    from formulas import RULES, Line, tex
    from lab import digits
    from matplotlib.axes import Axes
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure

    import microgradopt as mg
    from microgradopt import Objective, critical, nn, optim, plots
    from microgradopt.training import History

    # The lecture's ten points: CP before and after evolution, y = b + w x.
    X_LECTURE = (338, 333, 328, 207, 226, 25, 179, 60, 208, 606)
    Y_LECTURE = (640, 633, 619, 393, 428, 27, 193, 66, 226, 1591)

    # What the sliders can be set to.
    RATES = [float(f"{digit}e{power}") for power in range(-8, 2) for digit in (1, 2, 5)] + [100.0]
    MEMORY = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999]
    HYPERPARAMETERS = {
        "momentum": (MEMORY, r"momentum $\lambda$"),
        "alpha": (MEMORY, r"memory $\alpha$"),
        "beta1": (MEMORY, r"memory of $g$, $\beta_1$"),
        "beta2": (MEMORY, r"memory of $g^2$, $\beta_2$"),
        "weight_decay": ([0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.5], r"weight decay $\kappa$"),
    }
    UPDATES = [10, 20, 50, 100, 200, 300, 500, 1000]


# Surfaces -------------------------------------------------------------------------------------------------------------


@app.class_definition
@dataclass(frozen=True)
class Surface:
    """A loss to walk on.

    f: of two parameters, a Tensor of shape (2,) or a grid of shape (2, rows, columns); None for the digits net.
    formula: in TeX. names: of the parameters, in TeX. extent: of the picture. rates: a learning rate that does for
    gradient descent, for the optimizers that divide by σ, and for Lion. updates: how many show something.
    """

    formula: str
    f: Callable[[Any], Any] | None = None
    start: tuple[float, ...] = (0.0,)
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0)
    names: tuple[str, str] = ("w_1", "w_2")
    rates: tuple[float, float, float] = (0.05, 0.05, 0.02)
    updates: int = 100


@app.function
def squared_error(w: Any) -> Any:
    """The lecture's regression: the sum of squared errors of y = b + w x on the ten points. w holds b and w."""
    return sum((y - (w[0] + w[1] * x)) ** 2 for x, y in zip(X_LECTURE, Y_LECTURE, strict=True))


@app.function
def surfaces() -> dict[str, Surface]:
    """What there is to choose from."""
    return {
        "The lecture's net": Surface(
            r"L = (1 - w_1 w_2)^2", lambda w: (1 - w[0] * w[1]) ** 2, (1.6, -1.4), (-2.2, 2.2, -2.2, 2.2)
        ),
        "The lecture's regression": Surface(
            r"L = \sum_n (y_n - b - w x_n)^2", squared_error, (-120.0, -4.0), (-210.0, -90.0, -5.0, 5.0),
            ("b", "w"), (5e-7, 1.0, 0.5), 300,
        ),
        "Himmelblau": Surface(
            r"L = (w_1^2 + w_2 - 11)^2 + (w_1 + w_2^2 - 7)^2",
            lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2,
            (-0.4, -1.2), (-5.0, 5.0, -5.0, 5.0), rates=(0.005, 0.1, 0.05),
        ),
        "Rosenbrock": Surface(
            r"L = (1 - w_1)^2 + 100 (w_2 - w_1^2)^2",
            lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2,
            (-1.2, 1.0), (-2.0, 2.0, -1.0, 3.0), rates=(5e-4, 0.05, 0.02), updates=300,
        ),
        "Beale": Surface(
            r"L = (1.5 - w_1 + w_1 w_2)^2 + (2.25 - w_1 + w_1 w_2^2)^2 + (2.625 - w_1 + w_1 w_2^3)^2",
            lambda w: sum((c - w[0] + w[0] * w[1] ** k) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
            (-1.0, 1.5), (-4.5, 4.5, -2.5, 2.5), rates=(0.005, 0.05, 0.02), updates=300,
        ),
        "Monkey saddle": Surface(
            r"L = w_1^3 - 3 w_1 w_2^2", lambda w: w[0] ** 3 - 3 * w[0] * w[1] ** 2, (1.0, 0.01), (-1.5, 1.5, -1.5, 1.5)
        ),
        "Digits net": Surface(
            r"L = -\tfrac{1}{300} \sum_n \ln p_\theta(y_n \mid x_n)",
            rates=(0.5, 0.01, 0.002), names=(r"\theta_i", r"\theta_j"),
        ),
    }  # fmt: skip


@app.function
def objective_of(name: str, start: tuple[float, ...]) -> Objective:
    """The loss, at its start: two parameters; or, for the digits net, (seed,) of the weights."""
    surface = surfaces()[name]
    if surface.f is not None:
        return Objective(surface.f, list(start), compile=mg.compile)
    train, _ = digits(0, train=300)
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=int(start[0]))
    return Objective.of(model, lambda: nn.cross_entropy(model(train.X), train.y), compile=mg.compile)


# Optimizers -----------------------------------------------------------------------------------------------------------


@app.function
def optimizers() -> dict[str, tuple[type[optim.Optimizer], dict[str, float], int]]:
    """Class; hyperparameters with where their sliders start; which of a surface's learning rates does for it."""
    betas = {"beta1": 0.9, "beta2": 0.999}
    return {
        "SGD": (optim.SGD, {"momentum": 0.0, "weight_decay": 0.0}, 0),
        "Momentum": (optim.Momentum, {"momentum": 0.9}, 0),
        "RMS": (optim.RMS, {}, 1),
        "Adagrad": (optim.Adagrad, {"weight_decay": 0.0}, 1),
        "RMSprop": (optim.RMSprop, {"alpha": 0.9, "weight_decay": 0.0}, 1),
        "Adam": (optim.Adam, {**betas, "weight_decay": 0.0}, 1),
        "AdamW": (optim.AdamW, {**betas, "weight_decay": 0.01}, 1),
        "NAdam": (optim.NAdam, {**betas, "weight_decay": 0.0}, 1),
        "Lion": (optim.Lion, {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0}, 2),
    }


@app.class_definition
@dataclass(frozen=True)
class Settings:
    """All that a run depends on. hyper: the hyperparameters by name, sorted, so that settings can be looked up."""

    surface: str
    optimizer: str
    lr: float
    updates: int
    start: tuple[float, ...]
    hyper: tuple[tuple[str, float], ...] = ()
    decay: bool = False
    warmup: int = 0


@app.function
def make_optimizer(settings: Settings, parameters: Any) -> optim.Optimizer:
    """The optimizer with its schedule: η, or η/√(t+1); risen to in a line."""
    schedules = optim.schedules
    rate = schedules.InverseSqrt(settings.lr) if settings.decay else schedules.Constant(settings.lr)
    hyper = dict(settings.hyper)
    if "beta1" in hyper:
        hyper["betas"] = (hyper.pop("beta1"), hyper.pop("beta2"))
    cls = optimizers()[settings.optimizer][0]
    return cls(parameters, lr=schedules.Warmup(settings.warmup, rate) if settings.warmup else rate, **hyper)


# The way --------------------------------------------------------------------------------------------------------------


@app.class_definition
@dataclass(frozen=True)
class Step:
    """One update, in the two parameters that are shown: θ and g (2,) before it, η, the state before, and θ after."""

    theta: np.ndarray
    g: np.ndarray
    lr: float
    state: dict[str, Any]
    after: np.ndarray


@app.class_definition
@dataclass(frozen=True, eq=False)
class Run:
    """A trajectory: thetas (updates + 1, n); the loss and the norm of the gradient at each; a record of each update.

    shown: the two parameters whose numbers are shown. stopped: why it ended early, or "".
    """

    settings: Settings
    objective: Objective = field(repr=False)
    thetas: np.ndarray = field(repr=False)
    history: History = field(repr=False)
    steps: list[Step] = field(repr=False)
    shown: np.ndarray
    stopped: str = ""


@app.function
@functools.lru_cache(maxsize=32)
def walk(settings: Settings) -> Run:
    """Let the optimizer go. Where a loss, gradient or parameter is no longer finite, the way ends before it."""
    objective = objective_of(settings.surface, settings.start)
    optimizer = make_optimizer(settings, objective.parameters)
    history, thetas, steps, stopped = History(), [objective.theta], [], ""
    value, g = objective.value_and_gradient()
    # In the net many pixels are always black, and their weights have no gradient: show two that have.
    shown = np.arange(2) if objective.n == 2 else np.sort(np.argsort(-np.abs(g))[:2])
    with np.errstate(all="ignore"):
        history.append(value, float(np.linalg.norm(g)), optimizer.lr, 0.0)
        for t in range(settings.updates):
            lr, state = optimizer.lr, optimizer.state_dict()["state"][0]
            for parameter, part in zip(objective.parameters, objective.vector.split(g), strict=True):
                parameter.grad = part
            before, used = objective.theta, g[shown]
            optimizer.step()
            value, g = objective.value_and_gradient()
            theta, norm = objective.theta, float(np.linalg.norm(g))
            if not (math.isfinite(value) and math.isfinite(norm) and np.isfinite(theta).all()):
                stopped = f"Diverged: after update {t + 1} the loss is {value:g} and the gradient norm {norm:g}."
                break
            kept = {key: x[shown] if np.ndim(x) else x for key, x in state.items() if key != "params"}
            steps.append(Step(before[shown], used, lr, kept, theta[shown]))
            thetas.append(theta)
            history.append(value, norm, optimizer.lr, 0.0)
    return Run(settings, objective, np.array(thetas), history, steps, shown, stopped)


@app.function
def outcome(run: Run) -> str:
    """What came of it, in a sentence or two."""
    loss, norm, s = run.history.loss, run.history.gradient_norm, run.settings
    made = f"{s.optimizer} with η = {s.lr:g}, {len(run.steps)} updates"
    end = "" if len(run.thetas[-1]) > 2 else f" at ({run.thetas[-1][0]:.5g}, {run.thetas[-1][1]:.5g})"
    told = f"{made}: the loss goes from {loss[0]:.5g} to {loss[-1]:.5g}{end}; the gradient norm is {norm[-1]:.3g}."
    if not run.stopped:
        return told
    helps = "This surface has no lowest point" if s.surface == "Monkey saddle" else "A smaller learning rate may help"
    return f"{run.stopped} The pictures show the way until then. {helps}. {told}"


# The formula ----------------------------------------------------------------------------------------------------------


@app.function
def update_lines(settings: Settings, step: Step, i: int) -> list[Line]:
    """The optimizer's formula for parameter i of those shown, computed from θ, g and the state before the update."""
    hyper, theta, g, lr = dict(settings.hyper), float(step.theta[i]), float(step.g[i]), step.lr
    old = {key: float(x[i]) if np.ndim(x) else x for key, x in step.state.items()}
    decay, t = hyper.get("weight_decay", 0.0), step.state["t"] + 1
    lines: list[Line] = []
    decoupled = settings.optimizer in ("AdamW", "Lion")
    if decay and decoupled:
        shrunk = (1 - lr * decay) * theta
        numbers = rf"(1 - {tex(lr)} \cdot {tex(decay)}) \cdot {tex(theta, True)}"
        lines.append(Line(r"\theta", r"(1 - \eta \kappa)\, \theta", numbers, shrunk))
        theta = shrunk
    elif decay:
        numbers = rf"{tex(g)} + {tex(decay)} \cdot {tex(theta, True)}"
        lines.append(Line("g", r"g + \kappa\, \theta", numbers, g + decay * theta))
        g = lines[-1].value
    return lines + RULES[settings.optimizer](hyper, theta, g, lr, old, t)


@app.function
def formula_blocks(run: Run, t: int) -> list[str]:
    """The update from θᵗ to θᵗ⁺¹ as Markdown: in symbols, and with the numbers of either parameter."""
    if not run.steps:
        return ["No update was finite: there are no numbers to show."]
    step, names = run.steps[t], parameter_names(run)
    both = [update_lines(run.settings, step, i) for i in range(2)]
    symbols = r" \\ ".join(rf"{line.name} &\leftarrow {line.symbols}" for line in both[0])
    blocks = [rf"$$\begin{{aligned}} {symbols} \end{{aligned}}$$"]
    for name, lines, theta, g in zip(names, both, step.theta, step.g, strict=True):
        given = rf"{name} = {tex(theta)},\quad g = {tex(g)},\quad \eta = {tex(step.lr)}"
        rows = r" \\ ".join(rf"{line.name} &\leftarrow {line.numbers} = \mathbf{{{tex(line.value)}}}" for line in lines)
        blocks.append(f"For ${given}$:\n\n" + rf"$$\begin{{aligned}} {rows} \end{{aligned}}$$")
    return blocks


@app.function
def parameter_names(run: Run) -> tuple[str, str]:
    """What the two parameters shown are called, in TeX."""
    if run.objective.n == 2:
        return surfaces()[run.settings.surface].names
    return tuple(rf"\theta_{{{i}}}" for i in run.shown)


# The plane of the picture ---------------------------------------------------------------------------------------------


@app.class_definition
@dataclass(frozen=True, eq=False)
class Picture:
    """A plane through parameter space, origin + a u + b v, and the loss on a grid of it.

    path: the trajectory on it, (updates + 1, 2). share: how much of the trajectory's movement lies in it.
    """

    origin: np.ndarray
    plane: tuple[np.ndarray, np.ndarray]
    extent: tuple[float, float, float, float]
    a: np.ndarray
    b: np.ndarray
    values: np.ndarray
    path: np.ndarray
    share: float = 1.0

    def point(self, a: float, b: float) -> np.ndarray:
        """Where in Rⁿ the point (a, b) of the picture is."""
        return self.origin + a * self.plane[0] + b * self.plane[1]


@app.function
@functools.lru_cache(maxsize=16)
def picture(settings: Settings) -> Picture:
    """For two parameters, the whole plane; for the net, the one in which its trajectory moves most, through its end."""
    run, surface = walk(settings), surfaces()[settings.surface]
    if surface.f is not None:
        a, b = np.linspace(*surface.extent[:2], 121), np.linspace(*surface.extent[2:], 121)
        values = surface.f(np.array(np.meshgrid(a, b)))
        return Picture(np.zeros(2), (np.eye(2)[0], np.eye(2)[1]), surface.extent, a, b, values, run.thetas)
    plane, share = main_plane(run.thetas)
    path = plots.on_plane(run.thetas, run.thetas[-1], plane)
    low, high = path.min(axis=0), path.max(axis=0)
    margin = 0.25 * np.maximum(high - low, 0.2 * max(float(np.max(high - low)), 1e-3))
    a, b = (np.linspace(lo, hi, 33) for lo, hi in zip(low - margin, high + margin, strict=True))
    u, v = plane
    with np.errstate(all="ignore"):
        values = np.array([[run.objective.value(run.thetas[-1] + x * u + y * v) for x in a] for y in b])
    finite = np.isfinite(values)
    values[~finite] = values[finite].max(initial=run.history.loss[-1])
    return Picture(run.thetas[-1], plane, (a[0], a[-1], b[0], b[-1]), a, b, values, path, share)


@app.function
def main_plane(thetas: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """The two leading principal axes of a trajectory; where it has too few points, two of the parameters' axes."""
    if len(thetas) < 3 or np.linalg.matrix_rank(thetas - thetas.mean(axis=0)) < 2:
        return (np.eye(thetas.shape[1])[0], np.eye(thetas.shape[1])[1]), 0.0
    _, plane, share = plots.principal_axes(thetas)
    return plane, share


# What kind of point ---------------------------------------------------------------------------------------------------


@app.class_definition
@dataclass(frozen=True, eq=False)
class Verdict:
    """What is found at a point: the point itself, the critical point Newton's method leads to, and the way out.

    way_from: the point that the escape starts at. no_way: why there is none.
    """

    here: critical.CriticalPoint
    nearest: critical.CriticalPoint | None
    way: Any = None
    way_from: critical.CriticalPoint | None = None
    no_way: str = ""


@app.function
def judge(objective: Objective, theta: np.ndarray) -> Verdict:
    """Classify θ, search the critical point near it, and the way out of that, or of θ where there is none.

    With many parameters no critical point is searched: Newton's method takes too long for a click.
    """
    here = critical.classify(objective, theta)
    found = critical.find(objective, [theta], max_iter=100).points if objective.n == 2 else []
    nearest = found[0] if found else None
    start = here if nearest is None else nearest
    try:
        return Verdict(here, nearest, start.escape(), start)
    except ValueError as error:
        return Verdict(here, nearest, no_way=str(error))


@app.function
def eigenvalue_text(point: critical.CriticalPoint) -> str:
    """All eigenvalues of a small Hessian; of a large one, the ends."""
    values = [f"{x:.5g}" for x in point.eigenvalues]
    return ", ".join(values if len(values) <= 6 else [*values[:3], "...", *values[-3:]])


@app.function
def verdict_text(verdict: Verdict) -> str:
    """The verdict as Markdown."""
    parts = [point_text("The point clicked", verdict.here)]
    if verdict.nearest is not None:
        parts.append(point_text("The critical point that Newton's method leads to from there", verdict.nearest))
    elif len(verdict.here.theta) == 2:
        parts.append("Newton's method finds no critical point from there.")
    else:
        parts.append("With so many parameters no critical point is searched from there.")
    if verdict.way is None:
        parts.append(f"**No way out**: {verdict.no_way}.")
    else:
        way = "the point clicked" if verdict.way_from is verdict.here else "the critical point"
        parts.append(
            f"**Escape** from {way}: a step of {verdict.way.step:.4g} along a direction of curvature "
            f"{verdict.way.curvature:.4g}, to L = {verdict.way.value:.5g}. "
            f"Decrease predicted {verdict.way.predicted:.5g}, measured {verdict.way.measured:.5g}."
            + ("" if len(verdict.here.theta) == 2 else " The picture shows how much of it lies in the plane.")
        )
    return "\n\n".join(parts)


@app.function
def point_text(title: str, point: critical.CriticalPoint) -> str:
    """One point as Markdown."""
    x, y = np.round(point.theta[:2], 12) + 0.0  # no 1e-165, and no −0
    where = f" ({x:.5g}, {y:.5g})" if len(point.theta) == 2 else ""
    sure = "certified" if point.certified else "not certified"
    return (
        f"**{title}**{where}: **{point.kind}** ({sure}) at L = {point.value:.6g}. {point.explanation} "
        f"Eigenvalues of the Hessian: {eigenvalue_text(point)}."
    )


# Pictures -------------------------------------------------------------------------------------------------------------


@app.function
def draw_surface(run: Run, shown: Picture, t: int, verdict: Verdict | None = None) -> Axes:
    """The error surface, the trajectory with θᵗ marked, and what was found where one clicked."""
    figure = Figure(figsize=(6.2, 5.2), dpi=100)
    # Fixed places: the surface stays where it is under the mouse when the legend grows.
    ax, beside = figure.add_axes((0.11, 0.21, 0.68, 0.77)), figure.add_axes((0.81, 0.21, 0.035, 0.77))
    # Each colour covers as much of the picture as any other: no surface is all one colour.
    levels = plots.equal_area(shown.values)
    drawn = ax.contourf(shown.a, shown.b, shown.values, levels=levels, cmap="viridis", norm=BoundaryNorm(levels, 256))
    plots.colour_bar(drawn, cax=beside)
    low, high = np.array(shown.extent[::2]), np.array(shown.extent[1::2])
    path = np.clip(shown.path, low - 20 * (high - low), high + 20 * (high - low))
    colour = plots.optimizer_colour(run.settings.optimizer)
    plots.path(path, ax, linewidth=1.0, markersize=3, color=colour, label="trajectory")
    marks: dict[str, Any] = {"markeredgecolor": "black", "linestyle": "none", "zorder": 5}
    ax.plot(*path[0], "o", color="white", markersize=6, label="start", **marks)
    ax.plot(*path[t], "o", color="#e74c3c", markersize=9, label=f"t = {t}", **marks)
    if verdict is not None:
        draw_verdict(verdict, shown, ax, marks)
    ax.set_xlim(*shown.extent[:2])
    ax.set_ylim(*shown.extent[2:])
    names = parameter_names(run) if run.objective.n == 2 else ("a", "b")
    ax.set_xlabel(f"${names[0]}$" if run.objective.n == 2 else "along the first principal axis")
    ax.set_ylabel(f"${names[1]}$" if run.objective.n == 2 else "along the second principal axis")
    figure.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=3, fontsize="small")
    return ax


@app.function
def draw_verdict(verdict: Verdict, shown: Picture, ax: Axes, marks: dict[str, Any]) -> None:
    """The point clicked, the critical point near it, and the way out."""

    def at(theta: np.ndarray) -> np.ndarray:
        return plots.on_plane(theta[None], shown.origin, shown.plane)[0]

    ax.plot(*at(verdict.here.theta), "P", color="#00d2d3", markersize=10, label="clicked", **marks)
    if verdict.nearest is not None:
        marker = plots.MARKERS.get(verdict.nearest.kind, "s")
        ax.plot(*at(verdict.nearest.theta), marker, color="white", markersize=9, label=verdict.nearest.kind, **marks)
    if verdict.way is not None and verdict.way_from is not None:
        ends = np.array([at(verdict.way_from.theta), at(verdict.way.theta)])
        ax.plot(*ends.T, color="#ff3838", linewidth=2, zorder=4, label="escape")
        ax.annotate("", ends[1], ends[0], arrowprops={"arrowstyle": "-|>", "color": "#ff3838", "lw": 2}, zorder=4)


@app.function
def draw_history(run: Run, t: int) -> Figure:
    """Loss and gradient norm before every update and after the last, and where t is."""
    figure = Figure(figsize=(4.9, 4.4), dpi=100, layout="constrained")
    ax = plots.history(run.history, figure.add_subplot())
    if min(run.history.loss) < 0:
        # A logarithm shows no negative loss; and where that has no bottom, the end would leave no room for the rest.
        ax.set_yscale("symlog", linthresh=1.0)
        ax.set_ylim(max(1.5 * min(run.history.loss), -1e6), 1e6 if max(run.history.gradient_norm) > 1e6 else None)
    ax.axvline(t, color="#e74c3c", linewidth=1, linestyle="--")
    ax.set_title("Loss and gradient norm", fontsize="medium")
    ax.grid(alpha=0.3)
    return figure


# The page -------------------------------------------------------------------------------------------------------------


@app.cell
def _():
    mo.md("""
    # Playground

    Choose an error surface, an optimizer and its settings. Move t along the trajectory to see each update in numbers.
    Click on the surface: what kind of point is there, and where is the way out?
    """)
    return


@app.cell
def _():
    surface = mo.ui.dropdown(list(surfaces()), value="The lecture's net", label="surface", allow_select_none=False)
    optimizer = mo.ui.dropdown(list(optimizers()), value="Momentum", label="optimizer", allow_select_none=False)
    decay = mo.ui.checkbox(label=r"decay: $\eta / \sqrt{t + 1}$")
    warmup = mo.ui.slider(0, 50, step=5, value=0, label="warm-up, updates", show_value=True, debounce=True)
    get_click, set_click = mo.state(None)
    return decay, get_click, optimizer, set_click, surface, warmup


@app.cell
def _(surface):
    place = surfaces()[surface.value]
    if place.f is None:
        start = mo.ui.array([mo.ui.number(0, 99, step=1, value=0, label="seed of weights")])
    else:
        start = mo.ui.array(
            [
                mo.ui.number(
                    *place.extent[2 * k : 2 * k + 2], step=0.01, value=place.start[k], label=f"start ${place.names[k]}$"
                )
                for k in range(2)
            ]
        )
    quick = "--quick" in sys.argv
    updates = mo.ui.slider(
        steps=UPDATES, value=20 if quick else place.updates, label="updates", show_value=True, debounce=True
    )
    return place, start, updates


@app.cell
def _(optimizer, place):
    kind = optimizers()[optimizer.value]
    lr = mo.ui.slider(
        steps=RATES, value=place.rates[kind[2]], label=r"learning rate $\eta$", show_value=True, debounce=True
    )
    hyper = mo.ui.dictionary(
        {
            name: mo.ui.slider(
                steps=HYPERPARAMETERS[name][0],
                value=value,
                label=HYPERPARAMETERS[name][1],
                show_value=True,
                debounce=True,
            )
            for name, value in kind[1].items()
        }
    )
    return hyper, lr


@app.cell
def _(decay, hyper, lr, optimizer, place, start, surface, updates, warmup):
    mo.hstack(
        [
            mo.vstack([surface, mo.md(f"${place.formula}$"), *start.elements, updates]),
            mo.vstack([optimizer, lr, *hyper.elements.values()]),
            mo.vstack([decay, warmup]),
        ],
        justify="start",
        align="start",
        gap=3,
        wrap=True,
    )
    return


@app.cell
def _(decay, hyper, lr, optimizer, start, surface, updates, warmup):
    settings = Settings(
        surface=surface.value,
        optimizer=optimizer.value,
        lr=float(lr.value),
        updates=int(updates.value),
        start=tuple(map(float, start.value)),
        hyper=tuple(sorted(hyper.value.items())),
        decay=decay.value,
        warmup=int(warmup.value),
    )
    run = walk(settings)
    shown = picture(settings)
    # On two parameters a click stays where it is when the optimizer changes; the net's plane turns with the trajectory.
    canvas = surface.value if run.objective.n == 2 else settings
    return canvas, run, shown


@app.cell
def _(run, shown):
    if mo.app_meta().mode == "script":
        print(outcome(run))
    plane = f" The plane holds {shown.share:.1%} of the trajectory's movement." if run.objective.n > 2 else ""
    mo.callout(mo.md(outcome(run) + plane), kind="danger" if run.stopped else "info")
    return


@app.cell
def _(run):
    time = mo.ui.slider(0, max(len(run.steps) - 1, 1), value=0, label="at update t", show_value=True, full_width=True)
    return (time,)


@app.cell
def _(canvas, get_click, run, shown):
    clicked = get_click()
    verdict = None
    if clicked is not None and clicked[0] == canvas:
        verdict = judge(run.objective, shown.point(*clicked[1:]))
    return (verdict,)


@app.cell
def _(run, shown, time, verdict):
    now = min(time.value, max(len(run.steps) - 1, 0))
    # debounce: the selection arrives when the button is released, and a click is a box of size 0
    chart = mo.ui.matplotlib(draw_surface(run, shown, now, verdict), debounce=True)
    return chart, now


@app.cell
def _(canvas, chart, set_click):
    if chart.value:
        box = chart.value
        set_click((canvas, (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2))
    return


@app.cell
def _(time):
    time  # noqa: B018  (marimo shows a cell's last expression)
    return


@app.cell
def _(chart, now, run):
    mo.hstack([chart, draw_history(run, now)], justify="start", align="start", wrap=True, gap=1)
    return


@app.cell
def _(verdict):
    mo.callout(mo.md("Click on the surface to classify a point." if verdict is None else verdict_text(verdict)))
    return


@app.cell
def _(now, run):
    symbols, *numbers = formula_blocks(run, now)
    mo.vstack(
        [
            mo.md(f"### Update {now}, {run.settings.optimizer}\n\n{symbols}"),
            mo.hstack(
                [mo.vstack([mo.md(block)]) for block in numbers],
                justify="space-around",
                align="start",
                wrap=True,
                gap=2,
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
