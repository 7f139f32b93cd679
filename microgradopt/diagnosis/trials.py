"""Trying things on a copy: the same number of updates with one thing changed, and what the loss does."""

from __future__ import annotations

import contextlib
import functools
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
from microgradopt.vector import ParameterVector

Array = npt.NDArray[Any]

_POINTS = 40  # at which the loss on all data is measured along a trial
_LAST = 10  # of them whose mean is where it came to


@dataclass(frozen=True)
class Trial:
    """One experiment. losses: on all data, at `updates`, both (k,), the first before any. theta: where it came to.

    validation: the losses on the validation data there, NaN without. lr: the learning rate at the end. step: ‖Δθ‖ of an
    update, the median.
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
        """As `reached`, on the validation data; infinite without."""
        return _mean(self.validation[-_LAST:])

    def __str__(self) -> str:
        told = f"{self.name}: loss {self.losses[0]:.4g} → {self.reached:.4g}"
        return told if self.change.cost else f"{told} in {self.updates[-1]} updates"


def _mean(losses: Array) -> float:
    return float(np.mean(losses)) if np.isfinite(losses).all() else math.inf


class Trials:
    """Tries changes of a run, each once, while there is budget left. Nothing of the run is changed.

    updates: of each trial. budget: of all of them together. tick: called after each trial, for a progress bar. vector:
    all tensors that an update may write to, those of the optimizer that are none of the model's as well.
    """

    tick: Callable[[], object] | None = None

    def __init__(self, run: Run, updates: int, budget: int) -> None:
        self.run, self.updates, self.left = run, updates, budget
        self.vector = ParameterVector(dict.fromkeys([*run.vector.parameters, *run.optimizer.parameters()]))
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
        with np.errstate(all="ignore"), self.vector.copied(), kept(self.run.model, self.run.loss_function):
            trial = self._follow(change)
        self.done[change.name] = trial
        if self.tick is not None:
            self.tick()
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
        end = changed.vector.theta().copy()
        return Trial(change, at, np.array(losses), np.array(validation), end, changed.optimizer.lr, step)


def _measured(run: Run) -> float:
    """The loss on all data; infinite where it is not finite, or training has had to stop."""
    with contextlib.suppress(NonFiniteError):
        if not run.stopped and math.isfinite(value := run.value()):
            return value
    return math.inf


def _validated(run: Run) -> float:
    return math.nan if run.validation is None else run.loss_on(*run.validation)


# What an update may change besides parameters -------------------------------------------------------------------------


@contextlib.contextmanager
def kept(*owners: Any) -> Iterator[None]:
    """Afterwards the attributes of a model, and of a loss that is an object, hold what they held before.

    With what is in them: arrays, generators, lists, dicts and modules. Not the tensors: see `ParameterVector.copied`.
    """
    left: list[Any] = [vars(owner) for owner in owners if hasattr(owner, "__dict__")]
    back: dict[int, Callable[[], object]] = {}
    while left:
        x = left.pop()
        if id(x) not in back:
            back[id(x)] = _as_it_is(x)
            left += _parts(x)
    try:
        yield
    finally:
        for put_back in back.values():
            put_back()


def _parts(x: Any) -> list[Any]:
    if isinstance(x, Module):
        return [vars(x)]
    if isinstance(x, dict):
        return list(x.values())
    return list(x) if isinstance(x, list | tuple) else []


def _as_it_is(x: Any) -> Callable[[], object]:
    """A function that gives an object the content that it has now."""
    if isinstance(x, list):
        return functools.partial(x.__setitem__, slice(None), list(x))
    if isinstance(x, dict):
        return functools.partial(_refill, x, dict(x))
    if isinstance(x, np.ndarray) and x.flags.writeable:
        return functools.partial(np.copyto, x, x.copy())
    if isinstance(x, np.random.Generator):
        return functools.partial(setattr, x.bit_generator, "state", x.bit_generator.state)
    if isinstance(x, np.random.RandomState):
        return functools.partial(x.set_state, x.get_state())
    return lambda: None


def _refill(x: dict[Any, Any], items: dict[Any, Any]) -> None:
    x.clear()
    x.update(items)
