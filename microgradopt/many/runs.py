"""ManyRuns: trainings, in groups that are trained together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from microgradopt.errors import NonFiniteError
from microgradopt.history import History
from microgradopt.many.together import Group, alone, going
from microgradopt.program.tracer import TracingError
from microgradopt.run import Run

_BEFORE = 2  # updates that each run makes alone: then gradients and the optimizer's state are there


class ManyRuns:
    """k trainings, each update of all of them as one computation.

    runs: of `training.Run`, each with a model and an optimizer of its own. Those whose updates are the same program
    (models of one shape, optimizers of one class, batches of one size) are trained together, whatever their data,
    learning rates, schedules, hyperparameters and seeds; others by themselves. compile: what makes an update quick,
    ``mg.compile``, or with another engine ``functools.partial(mg.compile, engine="numba")``; None is ``mg.compile``.

    Each update is what `Run.update` gives from the same state, to rounding. The first updates each run makes by itself,
    one on each size of batch; what the program gives is compared, and a run for which that is something else goes on by
    itself. A run that diverges ends with its last good state, and the reason in `stopped`; the others go on.

    Raises ValueError for runs that share parameters, TypeError for what is no Run.

    >>> import microgradopt as mg
    >>> import numpy as np
    >>> X = np.arange(4.0).reshape(4, 1)
    >>> models = [mg.nn.Linear(1, 1, rng=seed) for seed in range(3)]
    >>> runs = [mg.training.Run(m, mg.nn.mse_loss, mg.optim.SGD(m.parameters(), lr=0.2), X, 2 * X) for m in models]
    >>> [run.loss[-1] < 1e-6 for run in ManyRuns(runs).train(200).runs]
    [True, True, True]
    """

    def __init__(self, runs: Sequence[Run], compile: Callable[[Any], Any] | None = None) -> None:
        self.runs = list(runs)
        for run in self.runs:
            if not isinstance(run, Run):
                raise TypeError(f"ManyRuns: a list of training.Run is wanted, not of {type(run).__name__}")
        moved = [parameter for run in self.runs for parameter in run.optimizer.parameters()]
        if len(set(moved)) < len(moved):
            raise ValueError(
                "ManyRuns: two runs move the same parameters; each needs a model and an optimizer of its own"
            )
        self._compile = compile
        self._groups: list[Group] | None = None

    def train(self, updates: int) -> Self:
        """So many updates of each run that has not stopped, in batches as they come."""
        with contextlib.ExitStack() as stack:
            for run in going(self.runs):
                stack.enter_context(run.training())
            if self._groups is None:
                first = min(updates, _BEFORE)
                for run in going(self.runs):
                    alone(run, first)
                updates -= first
                self._groups = list(_grouped(going(self.runs), self._compile))
            for group in self._groups:
                group.train(updates)
        return self

    @property
    def source(self) -> str:
        """The text of the loops used last, in plain NumPy: values have a leading axis, one entry for each run."""
        return "\n".join(group.source for group in self._groups or () if group.source)


# Runs whose updates are the same program ------------------------------------------------------------------------------


def _grouped(runs: list[Run], compile: Callable[[Any], Any] | None) -> Iterator[Group]:
    """The runs in groups that can be trained together; what goes with no other is a group of one."""
    while runs:
        group = Group(runs[0], compile)
        with contextlib.suppress(TracingError, NonFiniteError):
            for run in runs[1:]:
                group.take(run)
        yield group
        runs = [run for run in runs if run not in group.runs]


# In several processes ------------------------------------------------------------------------------------------------


def shared(runs: list[Run], compile: Callable[[Any], Any] | None, updates: int, jobs: int) -> None:
    """Train the runs in several processes, by joblib: each takes some of them, and what they have become comes back."""
    from joblib import Parallel, delayed, effective_n_jobs  # an extra

    parts = [runs[i :: effective_n_jobs(jobs)] for i in range(min(len(runs), effective_n_jobs(jobs)))]
    found = Parallel(n_jobs=jobs)(delayed(_trained)(part, compile, updates) for part in parts)
    for part, states in zip(parts, found, strict=True):
        for run, state in zip(part, states, strict=True):
            _take_over(run, state)


def _trained(runs: list[Run], compile: Callable[[Any], Any] | None, updates: int) -> list[tuple[Any, ...]]:
    """What the runs have become after some updates."""
    ManyRuns(runs, compile).train(updates)
    return [_state(run) for run in runs]


def _state(run: Run) -> tuple[Any, ...]:
    buffers = [getattr(module, name) for module, name in run.buffers]
    gradients = [parameter.grad for parameter in run.vector.parameters]
    history = {name: getattr(run, name) for name in vars(History())}
    return run.vector.theta(), run.optimizer.state_dict(), history, buffers, gradients, run.rng, run.stopped


def _take_over(run: Run, state: tuple[Any, ...]) -> None:
    theta, optimizer, history, buffers, gradients, run.rng, run.stopped = state
    run.vector.write(theta)
    run.optimizer.load_state_dict(optimizer)
    for name, values in history.items():
        getattr(run, name)[:] = values
    for (module, name), value in zip(run.buffers, buffers, strict=True):
        setattr(module, name, value)
    for parameter, gradient in zip(run.vector.parameters, gradients, strict=True):
        parameter.grad = gradient
    with run.training():  # model and optimizer are left in evaluation
        pass
