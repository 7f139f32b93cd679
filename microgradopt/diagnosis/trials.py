"""Trying things on a copy: the same number of updates with one thing changed, and what the loss does."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.diagnosis.changes import Change
from microgradopt.errors import NonFiniteError
from microgradopt.nn.module import Module
from microgradopt.run import Run

Array = npt.NDArray[Any]

_STATE = (np.ndarray, np.random.Generator, int, float)
_POINTS = 40  # at which the loss on all data is measured along a trial
_LAST = 10  # of them whose mean is where it came to


@dataclass(frozen=True)
class Trial:
    """One experiment. losses: on all data, at `updates`, both (k,), the first before any. theta: where it came to.

    validation: the losses on the validation data there, if there are any. lr: the learning rate at the end. step: ‖Δθ‖
    of an update, the median.
    """

    change: Change
    updates: Array = field(repr=False)
    losses: Array = field(repr=False)
    validation: Array = field(repr=False)
    theta: Array = field(repr=False)
    lr: float
    step: float

    @property
    def name(self) -> str:
        """What was changed."""
        return self.change.name

    @property
    def reached(self) -> float:
        """The loss that it came to: the mean over the last quarter of the updates, as a batch's noise moves it."""
        return _mean(self.losses[-_LAST:])

    @property
    def begun(self) -> float:
        """The mean over the first quarter, after θ itself."""
        return _mean(self.losses[1 : _LAST + 1])

    @property
    def validated(self) -> float:
        """As `reached`, on the validation data; NaN without."""
        return _mean(self.validation[-_LAST:]) if len(self.validation) else math.nan

    def __str__(self) -> str:
        told = f"{self.name}: loss {self.losses[0]:.4g} → {self.reached:.4g}"
        return told if self.change.cost else f"{told} in {self.updates[-1]} updates"


def _mean(losses: Array) -> float:
    return float(np.mean(losses)) if np.isfinite(losses).all() else math.inf


class Trials:
    """Tries changes of a run, each once, while there is budget left. Nothing of the run is changed.

    updates: of each trial. budget: of all of them together. tick: called after each trial, for a progress bar.
    """

    def __init__(self, run: Run, updates: int, budget: int, tick: Callable[[], object]) -> None:
        self.run, self.updates, self.left, self._tick = run, updates, budget, tick
        self.done: dict[str, Trial] = {}
        self.skipped: list[str] = []

    def __call__(self, change: Change) -> Trial | None:
        """The trial of a change; None where the budget is spent."""
        if change.name in self.done:
            return self.done[change.name]
        cost = change.cost or self.updates
        if self.left < cost:
            self.skipped.append(change.name)
            return None
        self.left -= cost
        with np.errstate(all="ignore"), self.run.vector.copied(), kept(self.run.model):
            trial = self._follow(change)
        self.done[change.name] = trial
        self._tick()
        return trial

    def _follow(self, change: Change) -> Trial:
        changed = change.make(self.run)
        total = change.iterations or self.updates
        at = np.unique(np.linspace(0, total, min(total, _POINTS) + 1).astype(int))
        losses, validation = [_measured(changed)], [_validated(changed)]
        for a, b in itertools.pairwise(at):
            if not changed.stopped and math.isfinite(losses[-1]):
                changed.train(int(b - a))
            losses.append(_measured(changed))
            validation.append(_validated(changed))
        step = float(np.median(changed.step_norm)) if changed.step_norm else 0.0
        validated = np.array(validation if changed.validation is not None else [])
        end = changed.vector.theta().copy()
        return Trial(change, at, np.array(losses), validated, end, changed.optimizer.lr, step)


@contextlib.contextmanager
def kept(model: Module | None) -> Iterator[None]:
    """Afterwards what modules hold besides parameters (running means, generators, their mode) is what it was before."""
    modules = [] if model is None else [module for _, module in model.named_modules()]
    held = [
        (module, {key: copy.deepcopy(value) for key, value in vars(module).items() if isinstance(value, _STATE)})
        for module in modules
    ]
    modes = [module.training for module in modules]
    try:
        yield
    finally:
        for (module, state), mode in zip(held, modes, strict=True):
            vars(module).update(state)
            module.training = mode


def _measured(run: Run) -> float:
    """The loss on all data; infinite where it is not finite, or training has had to stop."""
    if run.stopped:
        return math.inf
    try:
        value = run.value()
    except NonFiniteError:
        return math.inf
    return value if math.isfinite(value) else math.inf


def _validated(run: Run) -> float:
    return math.nan if run.validation is None else run.loss_on(*run.validation)
