"""The plane of the picture: all of parameter space where there are two parameters, a cut through it for a net."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from play.optimizers import Settings
from play.surfaces import objective_of, surfaces
from play.trajectory import walk

from microgradopt import plots


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane through parameter space, origin + a u + b v, and the loss on a grid of it.

    paths: the trajectory of each run on it, (updates + 1, 2). share: how much of their movement lies in it.
    """

    origin: np.ndarray
    axes: tuple[np.ndarray, np.ndarray]
    extent: tuple[float, float, float, float]
    a: np.ndarray
    b: np.ndarray
    values: np.ndarray
    paths: list[np.ndarray]
    share: float = 1.0

    def point(self, a: float, b: float) -> np.ndarray:
        """Where in Rⁿ the point (a, b) of the picture is."""
        return self.origin + a * self.axes[0] + b * self.axes[1]

    def seen(self, theta: np.ndarray) -> np.ndarray:
        """Where in the picture a point θ of Rⁿ is, or the point of the plane nearest to it."""
        return plots.on_plane(theta[None], self.origin, self.axes)[0]


@functools.lru_cache(maxsize=16)
def plane_of(chosen: tuple[Settings, ...]) -> Plane:
    """The plane that shows these runs, all on one surface.

    Two parameters are shown as they are. For a net it is the plane in which the trajectories move most, through the end
    of the first.
    """
    runs, surface = [walk(settings) for settings in chosen], surfaces()[chosen[0].surface]
    if surface.f is not None:
        a, b = np.linspace(*surface.extent[:2], 121), np.linspace(*surface.extent[2:], 121)
        values = surface.f(np.array(np.meshgrid(a, b)))
        axes = (np.array([1.0, 0.0]), np.array([0.0, 1.0]))
        return Plane(np.zeros(2), axes, surface.extent, a, b, values, [run.thetas for run in runs])
    thetas, end = np.concatenate([run.thetas for run in runs]), runs[0].thetas[-1]
    axes, share = main_axes(thetas)
    paths = [plots.on_plane(run.thetas, end, axes) for run in runs]
    low, high = np.concatenate(paths).min(axis=0), np.concatenate(paths).max(axis=0)
    margin = 0.25 * np.maximum(high - low, 0.2 * max(float(np.max(high - low)), 1e-3))
    a, b = (np.linspace(lo, hi, 33) for lo, hi in zip(low - margin, high + margin, strict=True))
    (u, v), loss = axes, objective_of(chosen[0].surface, chosen[0].start)
    with np.errstate(all="ignore"):
        values = np.array([[loss.value(end + x * u + y * v) for x in a] for y in b])
    finite = np.isfinite(values)
    values[~finite] = values[finite].max(initial=runs[0].history.loss[-1])
    return Plane(end, axes, (a[0], a[-1], b[0], b[-1]), a, b, values, paths, share)


def main_axes(thetas: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """The two leading principal axes of a trajectory; where it has too few points, two of the parameters' axes."""
    if len(thetas) < 3 or np.linalg.matrix_rank(thetas - thetas.mean(axis=0)) < 2:
        return (np.eye(thetas.shape[1])[0], np.eye(thetas.shape[1])[1]), 0.0
    _, axes, share = plots.principal_axes(thetas)
    return axes, share


# The mouse on the picture ---------------------------------------------------------------------------------------------


def handle_of(plane: Plane, theta: np.ndarray) -> dict[str, tuple[float, float]]:
    """A small box around the start, as far as it is in the picture: what is dragged to move it."""
    low, high = np.array(plane.extent[::2]), np.array(plane.extent[1::2])
    half = 0.02 * (high - low)
    sides = [np.clip((x - h, x + h), a, b).tolist() for x, h, a, b in zip(theta, half, low, high, strict=True)]
    return {"x": tuple(sides[0]), "y": tuple(sides[1])}


def selected(plane: Plane, box: Any, handle: dict[str, tuple[float, float]] | None) -> tuple[str, np.ndarray]:
    """What was done with the mouse: "nothing", "dragged" the handle, or "clicked"; and by how far, or where.

    box: what marimo calls a selection. A click is one of size 0; a handle that is dragged keeps its size.
    """
    low, high = np.array([box.x_min, box.y_min]), np.array([box.x_max, box.y_max])
    if handle is not None:
        before, after = np.array([handle["x"], handle["y"]]).T
        by = (low + high - before - after) / 2
        unit = np.array(plane.extent[1::2]) - np.array(plane.extent[::2])
        if np.all(np.abs(high - low - (after - before)) < 1e-3 * unit):
            return ("nothing" if np.all(np.abs(by) < 1e-3 * unit) else "dragged"), by
    return "clicked", (low + high) / 2
