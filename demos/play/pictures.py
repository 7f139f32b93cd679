"""The pictures of the playground: surface with trajectories, history, decision boundaries, what a diagnosis tried.

Each run has the colour of its optimizer in all of them; the second is dashed, as it may be the same optimizer.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from play.plane import Plane
from play.points import Verdict
from play.surfaces import objective_of, surfaces
from play.trajectory import Run, parameter_names

from microgradopt import critical, plots
from microgradopt.training import accuracy

LINES = ("-", (0, (3, 1)))
FOUND = {"markeredgecolor": "black", "linestyle": "none", "zorder": 5}


def name_of(run: Run) -> str:
    """What a run is called in a legend: its colour follows from how the name begins."""
    return f"{run.settings.optimizer}, η = {run.settings.lr:g}"


def address(figure: Figure) -> str:
    """The figure as a picture, in the address itself: no file is left behind, and none is to be fetched."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def draw_surface(runs: Sequence[Run], plane: Plane, t: int, verdict: Verdict | None = None) -> Axes:
    """The error surface, each trajectory bold up to θᵗ and faint after it, and what was found where one clicked."""
    figure = Figure(figsize=(6.2, 5.5), dpi=100)
    # Fixed places: the surface stays where it is under the mouse when the legend grows.
    ax, beside = figure.add_axes((0.115, 0.18, 0.675, 0.805)), figure.add_axes((0.81, 0.18, 0.035, 0.805))
    # Each colour covers as much of the picture as any other: no surface is all one colour.
    levels = plots.equal_area(plane.values)
    drawn = ax.contourf(plane.a, plane.b, plane.values, levels=levels, cmap="viridis", norm=BoundaryNorm(levels, 256))
    plots.colour_bar(drawn, cax=beside)
    low, high = np.array(plane.extent[::2]), np.array(plane.extent[1::2])
    for run, path, line in zip(runs, plane.paths, LINES, strict=False):
        way = np.clip(path, low - 20 * (high - low), high + 20 * (high - low))
        ax.plot(*way.T, color="white", alpha=0.5, linewidth=1.0, marker=".", markersize=2.5, zorder=1)
        until_now = way[: run.at(t) + 1]
        plots.trajectories({name_of(run): until_now}, ax, linestyle=line, linewidth=1.8)
        colour = plots.optimizer_colour(run.settings.optimizer)
        ax.plot(*until_now.T, linestyle="none", marker=".", markersize=6, color=colour, zorder=2.5)
    if verdict is not None:
        draw_verdict(verdict, plane, ax)
    ax.set_xlim(*plane.extent[:2])
    ax.set_ylim(*plane.extent[2:])
    is_whole = runs[0].objective.n == 2
    names = [f"${name}$" for name in parameter_names(runs[0])]
    ax.set_xlabel(names[0] if is_whole else "along the first principal axis")
    ax.set_ylabel(names[1] if is_whole else "along the second principal axis")
    figure.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=3, fontsize="small")
    return ax


def draw_verdict(verdict: Verdict, plane: Plane, ax: Axes) -> None:
    """The point clicked, the critical point near it, and the way out, as far as it is in the picture."""
    marks: dict[str, Any] = FOUND
    ax.plot(*plane.seen(verdict.here.theta), "P", color="#00d2d3", markersize=10, label="clicked", **marks)
    if verdict.nearest is not None:
        marker = plots.MARKERS.get(verdict.nearest.kind, "s")
        ax.plot(
            *plane.seen(verdict.nearest.theta), marker, color="white", markersize=9, label=verdict.nearest.kind, **marks
        )
    if verdict.way is not None:
        start, end = plane.seen(verdict.way_from.theta), plane.seen(verdict.way.theta)
        end = start + within(start, end - start, plane) * (end - start)
        ax.plot(*np.array([start, end]).T, color="#ff3838", linewidth=2, zorder=4, label="way out")
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "#ff3838", "lw": 2}, zorder=4)


def within(start: np.ndarray, way: np.ndarray, plane: Plane) -> float:
    """The part of a way, at most all of it, that does not leave the picture."""
    edges = np.where(way > 0, plane.extent[1::2], plane.extent[::2]) - start
    reach = [float(edge / step) for edge, step in zip(edges, way, strict=True) if step]
    return max(0.0, min([1.0, *reach]))


def draw_history(runs: Sequence[Run], t: int, height: float = 3.2) -> Figure:
    """Loss and gradient norm before every update and after the last, and where t is."""
    figure = Figure(figsize=(4.7, height), dpi=100)
    ax = figure.add_axes((0.13, 0.5 / height, 0.84, 1 - 0.6 / height))
    for run, line in zip(runs, LINES, strict=False):
        plots.history(run.history, ax, color=plots.optimizer_colour(run.settings.optimizer))
        loss, norm = ax.lines[-2:]
        loss.set(linestyle=line, label=f"loss, {run.settings.optimizer}")
        norm.set(linestyle=":", linewidth=1.1, label="gradient norm")
    losses, norms = (np.concatenate([getattr(run.history, name) for run in runs]) for name in ("loss", "gradient_norm"))
    # A run that explodes or falls for ever leaves room for the other one, and for its own beginning.
    most = 1e4 * max(1.0, *(max(run.history.loss[0], run.history.gradient_norm[0]) for run in runs))
    if max(losses.max(), norms.max()) > most:
        ax.set_ylim(top=most)
    if losses.min() < 0:
        ax.set_yscale("symlog", linthresh=1.0)  # a logarithm shows no negative loss
        ax.set_ylim(bottom=max(1.5 * losses.min(), -most))
    ax.axvline(t, color="#e74c3c", linewidth=1, linestyle="--")
    ax.legend(fontsize="small")
    ax.grid(alpha=0.3)
    ax.minorticks_off()
    return figure


def draw_boundaries(runs: Sequence[Run], t: int) -> Figure:
    """Which class each net chooses where, after t updates, and the samples in the colours of their classes."""
    figure = Figure(figsize=(4.7, 2.6), dpi=100)
    for k, run in enumerate(runs):
        net = surfaces()[run.settings.surface].net
        assert net is not None
        objective, data = objective_of(run.settings.surface, run.settings.start), net.samples()
        objective.theta, model = run.thetas[run.at(t)], objective.model
        ax = figure.add_axes((0.13 + 0.46 * k, 0.17, 0.84 if len(runs) == 1 else 0.38, 0.7))
        plots.decision_boundary(model, data.X, data.y, ax, resolution=80)
        right = f"{run.settings.optimizer} after {run.at(t)}: {accuracy(model(data.X), data.y):.1%} right"
        ax.set_title(right, fontsize="small", color=plots.optimizer_colour(run.settings.optimizer))
        if k:
            ax.set_ylabel("")
    return figure


def draw_diagnosis(found: critical.Diagnosis) -> Figure:
    """The loss of the run, and of every experiment that went on from its end."""
    figure = Figure(figsize=(5.2, 3.6), dpi=100, layout="constrained")
    plots.diagnosis(found, figure.add_subplot())
    return figure
