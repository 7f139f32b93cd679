"""Group: runs that are trained together, and what they hold meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from microgradopt.errors import NonFiniteError
from microgradopt.graph.graph import Node
from microgradopt.many.traced import Traced, engine_of
from microgradopt.optim.saving import whole
from microgradopt.program.loop import Given
from microgradopt.program.program import Program, Ways
from microgradopt.program.repeat import AT_ONCE, own
from microgradopt.program.state import near
from microgradopt.run import Array, Run

_BYTES = 2**25  # of the batches that are drawn before


def going(runs: list[Run]) -> list[Run]:
    """Those that have not stopped."""
    return [run for run in runs if not run.stopped]


def alone(run: Run, updates: int) -> None:
    """Train one run by itself."""
    try:
        run.updates(updates)
    except NonFiniteError as error:
        run.stopped = str(error)


class Group:
    """Runs that are trained together, and the programs and loops of their updates, by the shapes of batches.

    checked: the programs that were compared, for each run, with an update that it made by itself. apart: the runs for
    which that gave something else, and which are trained by themselves.
    """

    def __init__(self, lead: Run, compile: Callable[[Any], Any] | None) -> None:
        self.runs = [lead]
        self._engine = engine_of(compile, lead)
        self._loops: dict[Any, Any] = {}
        self.source = ""
        self._traced: dict[Any, Traced] = {}
        self.checked: set[Traced] = set()
        self.apart: set[Run] = set()

    def take(self, run: Run) -> None:
        """Train a run with the others from now on, if it goes with them."""
        if self._goes_with(self.runs[0], run):
            self.runs.append(run)

    def _goes_with(self, lead: Run, run: Run) -> bool:
        """Whether the next updates of both are the same program, on batches of the same sizes."""
        return _kind(run) == _kind(lead) and self.traced(_first_batch(self.runs[0])).fits(run, _first_batch(run))

    def traced(self, batch: tuple[Array, ...]) -> Traced:
        """The program of an update on batches like this one."""
        key = tuple((x.shape, x.dtype) for x in batch)
        if key not in self._traced:
            self._traced[key] = Traced(going(self.runs)[0], batch)
        return self._traced[key]

    def loop(self, program: Program, given: dict[Node, Given], k: int) -> Any:
        """k runs of this program, in a loop."""
        key = program, k, *((x.each, x.stacked) for x in given.values())
        if key not in self._loops:
            self._loops[key] = self._engine(program, given, k)
        self.source = self._loops[key].text
        return self._loops[key]

    def train(self, updates: int) -> None:
        """So many updates of each run that has not stopped: together, where nothing was changed since."""
        runs, together = going(self.runs), []
        with contextlib.suppress(NonFiniteError):  # there is no program of an update that fails
            if len(runs) > 1:
                together = [run for run in runs if run not in self.apart and self._goes_with(runs[0], run)]
        if len(together) < 2:
            together = []
        for run in runs:
            if run not in together:
                alone(run, updates)
        if together:
            self._train(together, updates)

    def _train(self, runs: list[Run], updates: int) -> None:
        together = _Together(self, runs)
        try:
            while together.done < updates and together.alive.any():
                together.advance(updates - together.done)
        finally:
            whole(together.write)
        for run, done in together.ended.items():
            with np.errstate(all="ignore"):
                if not run.stopped:
                    alone(run, min(1, updates - done))  # says why it goes no further
            if not run.stopped:
                alone(run, updates - done - 1)


def _kind(run: Run) -> Any:
    """What runs that are trained together have in common: batches, and which terms of the formulas there are."""
    groups = [
        {key: bool(value) for key, value in group.items() if key != "params"} for group in run.optimizer.param_groups
    ]
    left = None if run.epoch is None else run.epoch.left
    batches = _samples(run), run.batch_size, run.shuffle, run.validation is None, left
    return [type(run.model), type(run.optimizer), groups, batches]


def _mark(rate: Any) -> Any:
    """Something that is equal for learning rates that are."""
    try:
        hash(rate)
    except TypeError:
        return id(rate)
    return rate


def _first_batch(run: Run) -> tuple[Array, ...]:
    samples = _samples(run)
    return run.taken(np.arange(min(run.batch_size or samples, samples)))


def _samples(run: Run) -> int:
    """How many there are; 0 where the data are not known."""
    return 0 if run.X is None else len(run.X)


def _near(x: Any, y: Any) -> bool:
    """Whether arrays are the same but for rounding, which is measured by the largest number."""
    x, y = np.asarray(x), np.asarray(y)
    if y.dtype.kind != "f":
        return near(x, y, 0.0)
    return near(x, y, np.finfo(y.dtype).eps ** 0.5 * np.max(np.abs(y), initial=0.0, where=np.isfinite(y)))


class _Together:
    """Runs while they are trained together: what they read and write is here, and in the runs only at the end.

    kept: what the slots hold, by the text that reads them: parameters, the optimizer's state, hyperparameters. alive:
    the runs that go on. ended: of the others, after how many updates.
    """

    def __init__(self, group: Group, runs: list[Run]) -> None:
        self.group, self.runs, self.lead = group, runs, runs[0]
        self.alive = np.ones(len(runs), bool)
        self.kept: dict[str, Given] = {}
        self.ended: dict[Run, int] = {}
        self.done = self._written = 0
        self._ways: dict[Traced, list[Ways]] = {}
        self._last: tuple[Traced, list[Given]] | None = None

    # Updates

    def advance(self, n: int) -> None:
        """Some updates, at most n."""
        started = time.perf_counter()
        if self.lead.validation is not None:
            self.write()
        at_once = self._at_once(n)
        drawn = {run: run.next_orders(at_once) for run in self.runs if run not in self.ended}
        some = next(iter(drawn.values()))
        orders = [drawn.get(run, some) for run in self.runs]
        n, is_checked = len(some), True
        try:
            traced = self.group.traced(self.lead.taken(some[0]))
            is_checked = traced in self.group.checked
            n = n if is_checked else 1
            results = [np.empty((n, len(self.runs))) for _ in range(3)]
            done, ends = self._computed(traced, [order[:n] for order in orders], results)
        except Exception:  # no program for stacks; or where NumPy raises, each run decides by itself what happens
            done, self.alive[:] = np.zeros(len(self.runs), int), False
        else:
            if not is_checked:
                self._check(traced, orders, ends)
                return
            self._keep(traced, ends)
            self._record(done, results, n, (time.perf_counter() - started) / (n * len(self.runs)))
        for i in np.flatnonzero(done < n):
            run = self.runs[i]
            if run not in self.ended:
                self.ended[run] = self.done + int(done[i])
                run.put_back(some[done[i] :])
        self.done += n

    def _computed(self, traced: Traced, orders: list[Array], results: list[Array]) -> tuple[Array, list[Given]]:
        """How many updates each run made, and what the last one wrote; nothing is kept yet."""
        given = self._given(traced, self._data(orders), len(results[0]))
        loop = self.group.loop(traced.program, given, len(self.runs))
        done, ends = loop(len(results[0]), given, results, self.alive)
        return done, [Given(x, stacked=loop.is_of_each_run(j)) for j, x in enumerate(ends)]

    def _check(self, traced: Traced, orders: list[Array], ends: list[Given]) -> None:
        """One update that each run makes by itself; who comes to something else than the program has given, leaves."""
        self.write()
        self._last = None
        self._ways.clear()
        self.kept.clear()
        self.done = self._written = self.done + 1
        for r, run in enumerate(self.runs):
            if run in self.ended:
                continue
            run.put_back(orders[r])
            with np.errstate(all="ignore"):
                alone(run, 1)
            if not self._has(r, traced, ends):
                self.group.apart.add(run)
            if run.stopped or run in self.group.apart:
                self.ended[run], self.alive[r] = self.done, False
        self.group.checked.add(traced)

    def _has(self, r: int, traced: Traced, ends: list[Given]) -> bool:
        """Whether a run holds what the program has computed for it, to rounding."""
        held = dict(zip(traced.program.slots, traced.ways(self.runs[r]).read(list(traced.batch)), strict=True))
        pairs = zip(traced.program.effects, ends, strict=True)
        return all(_near(x.value[r] if x.stacked else x.value, held[e.slot]) for e, x in pairs if e.slot in held)

    def _at_once(self, n: int) -> int:
        """How many updates to draw the batches of, at most n."""
        bytes_of_one = sum(x.nbytes for x in _first_batch(self.lead)) * len(self.runs)
        return min(n, AT_ONCE) if self.lead.is_endless else max(1, min(n, AT_ONCE, _BYTES // bytes_of_one))

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

    def _given(self, traced: Traced, data: tuple[Given, ...], n: int) -> dict[Node, Given]:
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
            mark = _mark(optimizer.param_groups[i][key]), optimizer._steps[i]
            if mark not in known:
                known[mark] = [
                    optimizer.rate(key, i, self.done - self._written + t) for t in range(n if scheduled else 1)
                ]
            columns.append(known[mark])
        if len(known) == 1:
            return Given(columns[0] if scheduled else columns[0][0], scheduled)
        table = np.array(columns).T
        return Given(table if scheduled else table[0], scheduled, True)

    # What runs hold

    def _gather(self, traced: Traced) -> None:
        """Take from the runs what the program reads, if it is not here yet."""
        if traced in self._ways:
            return
        program = traced.program
        ways = self._ways[traced] = [traced.ways(run) for run in self.runs]
        written = {effect.slot for effect in program.effects}
        columns = zip(*(each.read(list(traced.batch)) for each in ways), strict=True)
        for node, column in zip(program.slots, columns, strict=True):
            text, is_same = program.reads[node], all(x is column[0] for x in column)
            if node in written or not (is_same or (np.ndim(column[0]) == 0 and all(x == column[0] for x in column))):
                self.kept.setdefault(text, Given(np.stack(column), stacked=True))
            else:
                self.kept.setdefault(text, Given(column[0]))

    def _keep(self, traced: Traced, ends: list[Given]) -> None:
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
        self._written = self.done
        for r, ways in enumerate(self._ways[traced]):
            effects = zip(traced.program.effects, ends, strict=True)
            ways.write(list(traced.batch), [own(effect, x.value[r] if x.stacked else x.value) for effect, x in effects])

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
