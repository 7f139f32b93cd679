"""A run of an optimizer: every point that it comes to, and what it knew at each; and the same run as a training."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from play.optimizers import Settings, make_optimizer
from play.surfaces import objective_of, surfaces

import microgradopt as mg
from microgradopt import Objective, nn, training
from microgradopt.training import History


@dataclass(frozen=True)
class Step:
    """One update, in the two parameters that are shown: θ and g (2,) before it, η, the state before, and θ after."""

    theta: np.ndarray
    g: np.ndarray
    lr: float
    state: dict[str, Any]
    after: np.ndarray


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

    def at(self, t: int) -> int:
        """t, or the last update where the run ended before."""
        return min(t, len(self.steps))


@functools.lru_cache(maxsize=32)
def walk(settings: Settings) -> Run:
    """Let the optimizer go. Where a loss, gradient or parameter is no longer finite, the run ends before it."""
    objective = objective_of(settings.surface, settings.start)
    optimizer = make_optimizer(settings, objective.parameters)
    history, thetas, steps, stopped = History(), [objective.theta], [], ""
    value, g = objective.value_and_gradient()
    # In the digits net many pixels are always black, and their weights have no gradient: show two that have.
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
                stopped = f"Diverged: after update {t + 1} the loss or its gradient is too large to be computed."
                break
            kept = {key: x[shown] if np.ndim(x) else x for key, x in state.items() if key != "params"}
            steps.append(Step(before[shown], used, lr, kept, theta[shown]))
            thetas.append(theta)
            history.append(value, norm, optimizer.lr, 0.0)
    return Run(settings, objective, np.array(thetas), history, steps, shown, stopped)


def parameter_names(run: Run) -> tuple[str, str]:
    """What the two parameters shown are called, in TeX."""
    if run.objective.n == 2:
        return surfaces()[run.settings.surface].names
    return tuple(rf"\theta_{{{i}}}" for i in run.shown)


def training_of(settings: Settings) -> training.Run:
    """The same run as the library's own training, to be diagnosed: of a net, with its model and data."""
    net = surfaces()[settings.surface].net
    if net is None:
        objective = objective_of(settings.surface, settings.start)
        made = training.Run.of(objective, make_optimizer(settings, objective.parameters))
    else:
        model, data = net.model(settings.start[0]), net.samples()
        optimizer = make_optimizer(settings, model.parameters())
        made = training.Run(model, nn.cross_entropy, optimizer, data.X, data.y, compile=mg.compile)
    with np.errstate(all="ignore"):
        return made.train(settings.updates)
