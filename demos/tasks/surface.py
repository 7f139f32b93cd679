"""Tasks 11 and 12: leave a saddle; and why is this run stuck?"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import microgradopt as mg
from demos.tasks.answers import pair, saved
from demos.tasks.checking import Case, Part, Task
from demos.tasks.learner import Complaint, Function
from microgradopt import critical, nn, optim, plots
from microgradopt.training import Run

Array = np.ndarray

# 11: the way out ------------------------------------------------------------------------------------------------------

NAMES = ("the kind", "the direction")


def way_out(H: Array) -> tuple[str, Array | None]:
    """The kind of the point, and the eigenvector of the lowest eigenvalue, if that is negative."""
    values, vectors = np.linalg.eigh(H)
    if values[0] > 0:
        return "minimum", None
    return "saddle" if values[-1] > 0 else "maximum", vectors[:, 0]


def _with_a_sign(function: Function, case: Case) -> Iterator[Part]:
    """The parts of the answer. Of v and −v, which are both right, always the same one."""
    kind, direction = pair(function(case["H"].copy()), NAMES)
    yield "the kind", kind
    if isinstance(kind, str):
        yield "the direction", "None" if direction is None else _turned(direction)


def _turned(direction: Any) -> Any:
    """A vector at length 1, turned so that its first element of some size is positive. All else as it is."""
    v = np.array(direction, dtype=float) if isinstance(direction, np.ndarray | list | tuple) else direction
    if not (isinstance(v, np.ndarray) and v.ndim == 1 and v.any()):
        return v
    v = v / np.linalg.norm(v)
    return v * np.sign(v[np.abs(v) > 0.1][0])


def _hessian(values: list[float], vectors: Array) -> Array:
    """A Hessian with these eigenvalues, and these eigenvectors as columns."""
    return np.round(vectors @ np.diag(values) @ vectors.T, 12)


AXES = np.array([[2.0, -1.0, 2.0], [2.0, 2.0, -1.0], [-1.0, 2.0, 2.0]]) / 3  # orthogonal, and not symmetric
HALF = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)


def _by_powers(case: Case) -> Mapping[str, Any]:
    """The direction by the power method on c − H, whose largest eigenvalue is H's lowest; the kind by vᵀH v."""
    H = case["H"]
    c = np.linalg.norm(H)
    lowest, highest = (_power(sign * H + c * np.eye(len(H))) for sign in (-1, 1))
    bottom, top = lowest @ H @ lowest, highest @ H @ highest
    kind = "minimum" if bottom > 0 else "maximum" if top < 0 else "saddle"
    return {"the kind": kind, "the direction": "None" if kind == "minimum" else _turned(lowest)}


def _power(A: Array) -> Array:
    """The eigenvector of the highest eigenvalue, of a matrix that has none below 0."""
    v = np.arange(1.0, len(A) + 1)
    for _ in range(300):
        v = A @ v
        v /= np.linalg.norm(v)
    return v


def _by_diagonal(H: Array) -> tuple[str, Array]:
    low, high = np.diag(H).min(), np.diag(H).max()
    kind = "minimum" if low > 0 else "maximum" if high < 0 else "saddle"
    return kind, np.eye(len(H))[np.diag(H).argmin()]


def _by_lowest_alone(H: Array) -> tuple[str, Array | None]:
    values, vectors = np.linalg.eigh(H)
    return ("minimum", None) if values[0] > 0 else ("maximum", vectors[:, 0])


def _from_the_origin(function: Function, picture: Path) -> str:
    from demos.lab import panels

    net = mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0])
    _, v = function(net.hessian())
    v = np.array(v) / np.linalg.norm(v)
    way = np.outer(np.linspace(0, np.sqrt(2), 8), v)
    figure, axes = panels(1, 2, width=5.4, height=4.4)
    plots.surface(net, extent=(-2, 2, -2, 2), resolution=61, ax=axes[0])
    plots.path(way, axes[0], color="black", label="your way out")
    plots.legend_below(axes[0])
    plots.slice_along(net, way[0], v, (-1.8, 1.8), ax=axes[1])
    axes[1].set_title("The loss along your direction")
    saved(figure, picture)
    s, reached = 0.1, net.value(way[-1])
    return (
        "The saddle of the lecture's net L = (1 − w₁w₂)², where gradient descent stood still in task 5. A step of 0.1 "
        f"along your direction lowers the loss by {1 - net.value(s * v):.6f} (½ λ s² says 0.01). A step of √2 "
        f"leads all the way down: the loss is {net.value(way[0]):g} before, {reached:.4f} after."
    )


# 12: why is this run stuck? -------------------------------------------------------------------------------------------

LARGE, SMALL, SADDLE, MINIMUM = "learning rate too large", "learning rate too small", "saddle point", "local minimum"
CAUSES, CURES = (SADDLE, MINIMUM, LARGE, SMALL), ("escape", "lr / 10", "lr * 100", "train longer")


def verdicts() -> dict[str, tuple[str, str]]:
    """For each run, its cause and its cure."""
    return {
        "A": ("learning rate too large", "lr / 10"),
        "B": ("saddle point", "escape"),
        "C": ("learning rate too small", "lr * 100"),
    }


RIGHT = verdicts()


def stuck(name: str) -> Run:
    """One of the three runs, after its last update."""
    from demos.lab import moons

    lr, updates = {"A": (0.6, 1600), "B": (0.1, 600), "C": (1e-4, 600)}[name]
    data, model = moons(0), nn.MLP((2, 8, 1), nn.Tanh, rng=0)
    if name == "B":
        for parameter in model.parameters():
            parameter.data = np.zeros(parameter.shape)
    target = np.where(data.y == 1, 1.0, -1.0)[:, None]
    optimizer = optim.SGD(model.parameters(), lr=lr)
    return Run(model, nn.mse_loss, optimizer, data.X, target, compile=mg.compile).train(updates)


@functools.cache
def tried(name: str, cure: str) -> tuple[float, float]:
    """The loss of a run, and that of 500 updates after a cure."""
    run = stuck(name)
    before = run.value()
    if cure == "escape":
        if np.linalg.norm(run.objective.gradient()) < 1e-6:  # elsewhere there is nothing to escape from
            run.objective.theta = critical.classify(run.objective).escape().theta
    else:
        factor = {"lr / 10": 0.1, "lr * 100": 100, "train longer": 1}[cure]
        run.optimizer.param_groups[0]["lr"] *= factor
    with np.errstate(all="ignore"):
        try:
            return before, run.train(500).value()
        except mg.NonFiniteError:
            return before, np.inf


def _row(function: Function, case: Case) -> Iterator[Part]:
    """The cause, or the cure, of one run. A cure is tried."""
    answer, run, asked = function(), case["run"], case["asked"]
    if answer is not None and not (isinstance(answer, dict) and run in answer):
        raise Complaint(f'A dictionary with the keys "A", "B" and "C" is wanted; "{run}" is not there.')
    names = (f"the cause of {run}", f"the cure of {run}")
    value = pair(answer and answer[run], names)[asked == "cure"]
    known = CURES if asked == "cure" else CAUSES
    if isinstance(value, str) and value not in known:
        raise Complaint(f'Run {run}: "{value}" is not in the list. It is one of: {", ".join(known)}.')
    if isinstance(value, str) and asked == "cure":
        _try(run, value)
    yield f"the {asked} of {run}", value


def _try(run: str, cure: str) -> None:
    before, after = tried(run, cure)
    if after > before / 2:
        raise Complaint(
            f'Run {run}: "{cure}" was tried on the run. Its loss was {before:.3f}; 500 updates later it is {after:.3f}.'
            f" That is no cure. What follows from the cause, {RIGHT[run][0]}?"
        )


def _as_known(case: Case) -> Mapping[str, Any]:
    run, asked = case.values()
    return {f"the {asked} of {run}": RIGHT[run][asked == "cure"]}


def _blaming(run: str, cause: str) -> Function:
    """Right, but for one cause."""
    return lambda: RIGHT | {run: (cause, RIGHT[run][1])}


def _cured(function: Function, picture: Path) -> str:
    from demos.lab import panels

    figure, axes = panels(1, 3, width=4)
    lines = []
    for ax, (name, (cause, cure)) in zip(axes, function().items(), strict=True):
        before, after = tried(name, cure)
        lines.append(f"  {name}: {cause}. {cure}: the loss was {before:.3f}, 500 updates later it is {after:.3f}.")
        losses = [tried(name, other)[1] for other in CURES]
        heights = np.nan_to_num(losses, posinf=0)
        labels = ["" if np.isfinite(loss) else "∞" for loss in losses]
        bars = ax.bar(CURES, heights, color=["C2" if other == cure else "C7" for other in CURES])
        ax.bar_label(bars, labels)
        ax.axhline(before, color="black", linestyle=":", label="the loss before")
        ax.tick_params(axis="x", rotation=30)
        ax.legend(fontsize="small")
        ax.set_title(f"{name}: {cause}")
    axes[0].set_ylabel("loss after 500 more updates")
    saved(figure, picture)
    return "\n".join(["Your cures were tried on the runs:", *lines, "For a run of your own: critical.diagnose(run)."])


TASKS = [
    Task(
        11,
        way_out,
        [
            {"H": _hessian([-1.0, 2.0, 5.0], AXES)},
            {"H": np.array([[0.0, -2.0], [-2.0, 0.0]])},
            {"H": _hessian([-3.0, -1.0], HALF)},
            {"H": _hessian([0.5, 2.0, 4.0], AXES)},
        ],
        _with_a_sign,
        _by_powers,
        {
            "This is the eigenvector of the *highest* eigenvalue: along it the loss rises most. Take the lowest one.": (
                lambda H: (way_out(H)[0], np.linalg.eigh(H)[1][:, -1])
            ),
            "This is a row of the matrix. The eigenvectors are its columns: vectors[:, 0].": (
                lambda H: (way_out(H)[0], np.linalg.eigh(H)[1][0])
            ),
            "You have read the diagonal of H. At the lecture's saddle it is (0, 0), and tells nothing. The signs of "
            "the eigenvalues decide.": _by_diagonal,
            "A point with a negative eigenvalue need not be a maximum: look at the highest eigenvalue too. If it is "
            "positive, it is a saddle.": _by_lowest_alone,
            "A point whose eigenvalues are all negative is a maximum, not a saddle: every way leads down.": (
                lambda H: (way_out(H)[0].replace("maximum", "saddle"), way_out(H)[1])
            ),
            "At a minimum there is no way down: give None in place of the direction.": (
                lambda H: (way_out(H)[0], np.linalg.eigh(H)[1][:, 0])
            ),
        },
        "Begin with values, vectors = np.linalg.eigh(H). values[0] is the lowest, values[-1] the highest. The way "
        "out is vectors[:, 0].",
        _from_the_origin,
    ),
    Task(
        12,
        verdicts,
        [{"run": run, "asked": asked} for run in RIGHT for asked in ("cause", "cure")],
        _row,
        _as_known,
        {
            "Run A is not at a saddle point: its gradient norm is 1.1, and at a saddle it is 0.": _blaming("A", SADDLE),
            "Run A is not at a minimum: its gradient norm is 1.1, and at a minimum it is 0. A flat loss is not a small "
            "gradient.": _blaming("A", MINIMUM),
            "Run A takes steps that are too long, not too short: the cosine is −1, so each step goes back on the one "
            "before, and λ_max has reached 2/η.": _blaming("A", SMALL),
            "Run B is not at a minimum: λ_min is −1.3. Along its eigenvector the loss falls.": _blaming("B", MINIMUM),
            "Run B does not jump to and fro: its gradient is 0, so it does not move at all. λ_max is far below 2/η.": (
                _blaming("B", LARGE)
            ),
            "Run B does not move whatever the learning rate is: η · 0 = 0. Its gradient is 0.": _blaming("B", SMALL),
            "Run C is not at a saddle point: its gradient norm is 1.3, and at a saddle it is 0. That λ_min < 0 says "
            "nothing without that.": _blaming("C", SADDLE),
            "Run C is not at a minimum: its gradient norm is 1.3, and at a minimum it is 0.": _blaming("C", MINIMUM),
            "Run C does not jump to and fro: its cosine is +1, all steps go the same way. λ_max is far below 2/η: the "
            "steps could be thousands of times as long.": _blaming("C", LARGE),
        },
        "First ‖g‖: is it 0? If it is, look at λ_min. If not, compare λ_max with 2/η, and look at the cosine.",
        _cured,
    ),
]
