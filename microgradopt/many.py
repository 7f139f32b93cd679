"""ManyRuns: trainings of one shape, as one.

One update of one run is traced; its program is then called on stacks: θ, the optimizer's state, batches, learning rates
and hyperparameters get a leading axis, one entry for each run (program/loop.py). What a run has of its own is found by
walking through it and the first run side by side.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from types import CellType, FunctionType
from typing import Any, Self

import numpy as np

from microgradopt.errors import NonFiniteError
from microgradopt.graph.graph import Node
from microgradopt.optim.saving import whole
from microgradopt.program.compiled import Compiled
from microgradopt.program.loop import Given
from microgradopt.program.program import Program, Ways, is_so
from microgradopt.program.trace import traced
from microgradopt.program.tracer import TracingError
from microgradopt.run import Array, History, Run

_BEFORE = 2  # updates that each run makes alone: then gradients and the optimizer's state are there
_BYTES = 2**25  # of the batches that are drawn before


class ManyRuns:
    """k trainings, each update of all of them as one computation.

    runs: of `training.Run`, each with a model and an optimizer of its own. Those whose updates are the same program
    (models of one shape, optimizers of one class, batches of one size) are trained together, whatever their data,
    learning rates, schedules, hyperparameters and seeds; others by themselves. compile: what makes an update quick,
    ``mg.compile``, or with another engine ``functools.partial(mg.compile, engine="numba")``; None is ``mg.compile``.

    Each update is what `Run.update` gives from the same state, to rounding. A run that diverges ends with its last good
    state, and the reason in `stopped`; the others go on.

    Raises ValueError for runs that share parameters, TypeError for what is no Run.

    >>> import microgradopt as mg
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
        self._compile = Compiled if compile is None else compile
        self._groups: list[_Group | Run] | None = None

    def train(self, updates: int) -> Self:
        """So many updates of each run that has not stopped, in batches as they come."""
        left = {run: updates for run in self.runs if not run.stopped}
        with contextlib.ExitStack() as stack:
            for run in left:
                stack.enter_context(run.training())
            if self._groups is None:
                for run in left:
                    left[run] -= _alone(run, min(updates, _BEFORE))
                self._groups = list(_grouped([run for run in left if not run.stopped], self._compile))
            for group in self._groups:
                if isinstance(group, _Group):
                    group.train([run for run in group.runs if not run.stopped], left[group.runs[0]])
                elif not group.stopped:
                    _alone(group, left[group])
        return self

    @property
    def source(self) -> str:
        """The text of the loops used last, in plain NumPy: values have a leading axis, one entry for each run."""
        return "\n".join(group.source for group in self._groups or () if isinstance(group, _Group))


def _alone(run: Run, updates: int) -> int:
    """Train one run by itself; how many updates were wanted."""
    try:
        run.updates(updates)
    except NonFiniteError as error:
        run.stopped = str(error)
    return updates


def shared(runs: list[Run], compile: Callable[[Any], Any] | None, updates: int, jobs: int) -> None:
    """Train the runs in several processes, by joblib: each takes some of them, and what they have become comes back."""
    from joblib import Parallel, delayed, effective_n_jobs  # an extra

    parts = [runs[i :: effective_n_jobs(jobs)] for i in range(min(len(runs), effective_n_jobs(jobs)))]
    found = Parallel(n_jobs=jobs)(delayed(_trained)(part, compile, updates) for part in parts)
    for part, states in zip(parts, found, strict=True):
        for run, state in zip(part, states, strict=True):
            _take_over(run, *state)


def _trained(runs: list[Run], compile: Callable[[Any], Any] | None, updates: int) -> list[tuple[Any, ...]]:
    """What the runs have become after some updates."""
    ManyRuns(runs, compile).train(updates)
    return [
        (run.vector.theta(), run.optimizer.state_dict(), {name: getattr(run, name) for name in vars(History())})
        + ([getattr(module, name) for module, name in run.buffers], run.rng, run.stopped)
        for run in runs
    ]


def _take_over(
    run: Run, theta: Array, optimizer: Any, history: dict[str, list[float]], buffers: list[Any], rng: Any, stopped: str
) -> None:
    run.vector.write(theta)
    run.optimizer.load_state_dict(optimizer)
    for name, values in history.items():
        getattr(run, name)[:] = values
    for (module, name), value in zip(run.buffers, buffers, strict=True):
        setattr(module, name, value)
    run.rng, run.stopped = rng, stopped
    with contextlib.ExitStack() as stack:  # model and optimizer are left in evaluation
        stack.enter_context(run.training())


# Runs whose updates are the same program ------------------------------------------------------------------------------


def _grouped(runs: list[Run], compile: Callable[[Any], Any]) -> Iterator[_Group | Run]:
    """The runs in groups that can be trained together, and those that cannot."""
    while runs:
        lead, *others = runs
        together = _Group(lead, compile)
        try:
            taken = [run for run in others if together.takes(run)]
        except TracingError:
            taken = []
        yield together if taken else lead
        runs = [run for run in others if run not in taken]


class _Traced:
    """The program of an update on batches of one shape, and how to read and write the slots of each run."""

    def __init__(self, lead: Run, batch: tuple[Array, ...]) -> None:
        function = _function(lead)
        self.lead, self.batch = lead, batch
        self.program = Program(traced(function, batch, {}, list(batch), (), free=True))
        self.program.let_go()

    def ways(self, run: Run) -> Ways:
        """Those of the program, with what a run has in place of what the first one has."""
        found: dict[int, Any] = {}
        _side_by_side(_function(self.lead), _function(run), found)
        return self.program.ways(lambda x: _counterpart(x, found))


def _function(run: Run) -> Any:
    """An update of a run, as it is written."""
    return getattr(run.step, "__wrapped__", run.step)


def _counterpart(x: Any, found: dict[int, Any]) -> Any:
    """What another run has in place of x. A list that was made while tracing has such things in it."""
    if id(x) in found:
        return found[id(x)]
    return [found.get(id(part), part) for part in x] if type(x) is list else x


def _side_by_side(x: Any, y: Any, found: dict[int, Any]) -> None:
    """Note what stands in y where something stands in x, all the way down."""
    stack = [(x, y)]
    while stack:
        x, y = stack.pop()
        if x is y or id(x) in found or type(x) is not type(y):
            continue
        found[id(x)] = y
        stack += _inside(x, y)


def _inside(x: Any, y: Any) -> list[tuple[Any, Any]]:
    if isinstance(x, FunctionType):
        return list(zip(x.__closure__ or (), y.__closure__ or (), strict=False))
    if isinstance(x, CellType):
        return [(x.cell_contents, y.cell_contents)]
    if isinstance(x, list | tuple):
        return list(zip(x, y, strict=False))
    if isinstance(x, dict):
        return [(value, y[key]) for key, value in x.items() if key in y]
    if isinstance(x, np.ndarray):
        return []
    slots = [name for cls in type(x).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(x, name)]
    pairs = [(getattr(x, name), getattr(y, name)) for name in slots if hasattr(y, name)]
    own = getattr(x, "__dict__", None)
    if isinstance(own, dict):
        inner = (own["__wrapped__"], vars(y)["__wrapped__"]) if "__wrapped__" in own else (own, vars(y))
        pairs.append(inner)
    return pairs


# A group of runs ------------------------------------------------------------------------------------------------------


class _Group:
    """Runs that are trained together, and the programs and loops of their updates, by the shapes of batches."""

    def __init__(self, lead: Run, compile: Callable[[Any], Any]) -> None:
        self.runs = [lead]
        self._engine = compile(_function(lead)).engine
        self._loops: dict[Any, Any] = {}
        self.source = ""
        self._traced: dict[Any, _Traced] = {}

    def takes(self, run: Run) -> bool:
        """Whether a run goes with the others; then it does from now on."""
        if _kind(run) != _kind(self.runs[0]):
            return False
        batch = _first_batch(self.runs[0])
        is_taken = is_so(self.traced(batch).ways(run).fits, list(_first_batch(run)))
        if is_taken:
            self.runs.append(run)
        return is_taken

    def traced(self, batch: tuple[Array, ...]) -> _Traced:
        """The program of an update on batches like this one."""
        key = tuple((x.shape, x.dtype) for x in batch)
        if key not in self._traced:
            self._traced[key] = _Traced(self.runs[0], batch)
        return self._traced[key]

    def loop(self, program: Program, given: dict[Node, Given], k: int) -> Any:
        """k runs of this program, in a loop."""
        key = program, k, *(frozenset(node for node, x in given.items() if x[i]) for i in (1, 2))
        if key not in self._loops:
            self._loops[key] = self._engine(program, given, k)
        self.source = self._loops[key].text
        return self._loops[key]

    def train(self, runs: list[Run], updates: int) -> None:
        """So many updates of each of these runs, which are of the group."""
        if len(runs) < 2 or not updates:
            for run in runs:
                _alone(run, updates)
            return
        going = _Going(self, runs)
        try:
            while going.done < updates and going.alive.any():
                going.advance(updates - going.done)
        finally:
            whole(going.write)
        for run, (done, batch) in going.ended.items():
            try:
                with np.errstate(all="ignore"):
                    run.update(*batch)  # says why it goes no further
            except NonFiniteError as error:
                run.stopped = str(error)
            else:
                _alone(run, updates - done - 1)


def _kind(run: Run) -> Any:
    """What runs that are trained together have in common: batches, and which terms of the formulas there are."""
    groups = [
        {key: bool(value) for key, value in group.items() if key != "params"} for group in run.optimizer.param_groups
    ]
    left = None if run.epoch is None else run.epoch.left
    return [type(run.model), type(run.optimizer), groups, len(run.X), run.batch_size, run.shuffle, left]


def _first_batch(run: Run) -> tuple[Array, ...]:
    return run.taken(np.arange(min(run.batch_size or len(run.X), len(run.X))))


class _Going:
    """Runs while they are trained together: what they read and write is here, and in the runs only at the end.

    kept: what the slots hold, by the text that reads them: parameters, the optimizer's state, hyperparameters. alive:
    the runs that have not diverged. ended: of the others, after how many updates, and on which batch.
    """

    def __init__(self, group: _Group, runs: list[Run]) -> None:
        self.group, self.runs, self.lead = group, runs, runs[0]
        self.alive = np.ones(len(runs), bool)
        self.kept: dict[str, Given] = {}
        self.ended: dict[Run, tuple[int, tuple[Array, ...]]] = {}
        self.done = 0
        self._ways: dict[_Traced, list[Ways]] = {}
        self._last: tuple[_Traced, list[Given]] | None = None

    # Updates

    def advance(self, n: int) -> int:
        """Some updates, at most n; how many."""
        started = time.perf_counter()
        if self.lead.validation is not None:
            self.write()
        orders = [run.next_orders(self._at_once(n)) for run in self.runs]
        n = len(orders[0])
        data = self._data(orders)
        traced = self.group.traced(self.lead.taken(orders[0][0]))
        given = self._given(traced, data, n)
        loop = self.group.loop(traced.program, given, len(self.runs))
        results = [np.empty((n, len(self.runs))) for _ in range(3)]
        done, ends = loop(n, given, results, self.alive)
        self._keep(traced, [Given(x, stacked=loop.is_of_each_run(j)) for j, x in enumerate(ends)])
        self._record(done, results, n, (time.perf_counter() - started) / (n * len(self.runs)))
        for i in np.flatnonzero(done < n):
            run, place = self.runs[i], min(done[i], n - 1)
            self.ended.setdefault(run, (self.done + int(done[i]), run.taken(orders[i][place])))
        self.done += n
        return n

    def _at_once(self, n: int) -> int:
        """How many updates to draw the batches of, at most n."""
        bytes_of_one = sum(x.nbytes for x in _first_batch(self.lead)) * len(self.runs)
        return n if self.lead.is_endless else max(1, min(n, _BYTES // bytes_of_one))

    def _data(self, orders: list[Array]) -> tuple[Given, ...]:
        """Inputs and targets: (updates, runs, ...), without an axis for what is the same."""
        lead, each = self.lead, not self.lead.is_endless
        chosen = orders if each else [order[0] for order in orders]
        same_data = all(run.X is lead.X and run.y is lead.y for run in self.runs)
        if same_data and all(np.array_equal(order, chosen[0]) for order in chosen[1:]):
            return tuple(Given(x, each) for x in lead.taken(chosen[0]))
        if same_data:
            return tuple(Given(x, each, True) for x in lead.taken(np.stack(chosen, int(each))))
        taken = [run.taken(order) for run, order in zip(self.runs, chosen, strict=True)]
        return tuple(Given(np.stack(parts, int(each)), each, True) for parts in zip(*taken, strict=True))

    def _given(self, traced: _Traced, data: tuple[Given, ...], n: int) -> dict[Node, Given]:
        """What the loop gets for each slot."""
        self._gather(traced)
        program = traced.program
        given: dict[Node, Given] = {}
        for node in program.slots:
            text = program.reads[node]
            if node in program.rates:
                _, key, i = program.rates[node]
                given[node] = self._rate(key, i, n)
            else:
                given[node] = data[int(text[5:-1])] if text.startswith("args[") else self.kept[text]
        return given

    def _rate(self, key: str, i: int, n: int) -> Given:
        """A learning rate: of each update, where it follows a schedule; of each run, where they differ."""
        scheduled = any(callable(run.optimizer.param_groups[i][key]) for run in self.runs)
        known: dict[Any, list[float]] = {}  # a schedule that runs share is asked once
        columns = []
        for run in self.runs:
            optimizer = run.optimizer
            mark = optimizer.param_groups[i][key], optimizer._steps[i]
            if mark not in known:
                known[mark] = [optimizer.rate(key, i, self.done + t) for t in range(n if scheduled else 1)]
            columns.append(known[mark])
        if len(known) == 1:
            return Given(columns[0] if scheduled else columns[0][0], scheduled)
        table = np.array(columns).T
        return Given(table if scheduled else table[0], scheduled, True)

    # What runs hold

    def _gather(self, traced: _Traced) -> None:
        """Take from the runs what the program reads, if it is not here yet."""
        if traced in self._ways:
            return
        program = traced.program
        ways = self._ways[traced] = [traced.ways(run) for run in self.runs]
        written = {effect.slot for effect in program.effects}
        columns = zip(*(each.read(list(traced.batch)) for each in ways), strict=True)
        for node, column in zip(program.slots, columns, strict=True):
            text, is_same = program.reads[node], all(x is column[0] for x in column)
            if node in written or not (is_same or (np.ndim(column[0]) == 0 and len({*column}) == 1)):
                self.kept.setdefault(text, Given(np.stack(column), stacked=True))
            else:
                self.kept.setdefault(text, Given(column[0]))

    def _keep(self, traced: _Traced, ends: list[Given]) -> None:
        """What the updates have written."""
        self._last = traced, ends
        for effect, end in zip(traced.program.effects, ends, strict=True):
            if effect.slot in traced.program.reads:
                self.kept[traced.program.reads[effect.slot]] = end

    def write(self) -> None:
        """Give the runs what they hold now. May be done twice."""
        if self._last is None:
            return
        traced, ends = self._last
        for r, ways in enumerate(self._ways[traced]):
            ways.write(list(traced.batch), [_own(end.value[r] if end.stacked else end.value) for end in ends])

    def _record(self, done: Array, results: list[Array], n: int, seconds: float) -> None:
        """Lines in the histories."""
        rates = self._rate("lr", 0, n) if "lr" in self.lead.optimizer.param_groups[0] else Given(1.0)
        table = np.asarray(rates.value)
        table = table if rates.stacked or table.ndim == 0 else table[:, None]
        lrs = np.broadcast_to(table, (n, len(self.runs)))
        for r, run in enumerate(self.runs):
            made = done[r]
            losses, lengths, steps, lr = (x[:made, r].tolist() for x in (*results, lrs))
            run.extend(losses, lengths, lr, [seconds] * made, steps)


def _own(x: Any) -> Any:
    """A value as a run keeps it: an array of its own, or one of Python's numbers."""
    return (
        x.copy() if isinstance(x, np.ndarray) and x.ndim else x.item() if isinstance(x, np.generic | np.ndarray) else x
    )
