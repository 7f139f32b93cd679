"""Why is my loss stuck? Causes with their signatures, tried on copies: what is confirmed is the answer.

"Training is stuck" and "the gradient is small" are two things (the lecture's L7), and a loss may stand still for some
thirty reasons. So nothing is inferred from a threshold alone. First the question whether it is stuck at all: going on
is compared with the best that any experiment reached in as many updates. Then every cause whose signature is there is
tried: the same number of updates with the cause removed. It is the cause if that gains clearly more than going on, and
no less than the cures of its rivals.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from microgradopt.critical.point import MINIMUM
from microgradopt.critical.walk import CRITICAL, KINKS, nearest
from microgradopt.diagnosis import changes, curve, data, network, steps, surface
from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.case import Case
from microgradopt.diagnosis.result import Considered, Diagnosis
from microgradopt.diagnosis.suspicion import Cause, Suspicion
from microgradopt.diagnosis.trials import Trial, Trials, kept
from microgradopt.history import History
from microgradopt.nn.module import Module
from microgradopt.objective import Objective
from microgradopt.optim.first_order import SGD
from microgradopt.optim.optimizer import Optimizer
from microgradopt.run import Run

HEALTHY, UNDECIDED = "healthy", "undecided"
UPDATES = 200  # of each trial, where the budget allows it
_TRIALS = 24  # that the budget is divided among

# Each is asked in this order. What is found of the first ones leaves nothing to be asked.
_FIRST: tuple[Cause, ...] = (
    data.not_finite, network.wrong_sign, steps.ascending, steps.not_cleared, steps.exploding, surface.overfitting,
    surface.separable, surface.no_lower_bound,
)  # fmt: skip
_CAUSES: tuple[Cause, ...] = (
    data.all_the_same, data.contradicting_labels, data.in_order, data.unlike_scales, steps.no_rate,
    network.softmax_over_one, network.softmax_over_samples, network.broadcast, network.unreached, network.strangers,
    network.probabilities_before_the_loss, network.out_of_reach, data.unlike_targets, steps.forgotten, steps.clipping,
    steps.weight_decay, steps.momentum, network.frozen, network.identical_units, network.stuck_units,
    network.vanishing_gradient, network.no_activation, network.zero_gradient, steps.noise, steps.too_long,
    steps.too_short, surface.saddle, surface.badly_conditioned,
)  # fmt: skip


def diagnose(
    run: Run | Objective | None = None,
    optimizer: Optimizer | None = None,
    history: History | None = None,
    *,
    budget: int | None = None,
    progress: bool = False,
    rng: np.random.Generator | int | None = 0,
) -> Diagnosis:
    """What keeps the loss from falling, at the present θ: found by trying, on copies.

    run: the training, as `training.fit` returns it or as `training.Run` makes one: then model, data, batches, clipping
    and validation data can be changed to try what each does. Or an `Objective`, the loss on all data, with the
    optimizer as it is after its last step, and the history, anything with lists ``loss`` and ``gradient_norm``; what
    could not be tried is then said. With the history alone: what it excludes, and what to measure next.
    budget: how many updates all experiments together may take; by default as many as the training has had, and 4,800
    at least (seconds, for small networks). progress: show a bar (tqdm). rng: for Lanczos' method.

    An experiment is a copy of the training with one thing changed, for 200 updates or as the budget allows. Nothing of
    the training is changed: parameters, gradients, the optimizer, and what modules (and a loss that is an object) hold
    in attributes, lists, dicts, arrays and generators are put back; what their code writes to elsewhere is not.

    A loss is stuck where going on closes less than 5% of the gap to the best loss that any experiment reached. A cause
    is confirmed by its signature, measured, and by its cure, tried: it closes a fifth of the gap at least, and half of
    what the best cure of a rival closes. An error in the program (a softmax before a loss that has its own) needs no
    experiment; it is not the cause where a rival's cure explains more. "undecided" is an answer: then `considered` and
    `trials` say what was seen.

    Raises ValueError for an optimizer that has none of the objective's parameters, TypeError for other arguments than
    these.

    >>> import microgradopt as mg
    >>> diagnose(mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0])).verdict
    'saddle point'
    """
    if not (history is None or hasattr(history, "loss")):
        raise TypeError(f"diagnose: history has lists loss and gradient_norm, or is None, not {history!r:.60}")
    if run is None:
        if history is None:
            raise TypeError("diagnose: a Run, an Objective or a history is wanted; training.fit returns a Run")
        verdict, evidence, action = curve.read(history)
        return Diagnosis(verdict, evidence, action)
    if budget is not None and not budget >= 0:
        raise ValueError(f"diagnose: budget is a number of updates from 0, not {budget!r}")
    has_optimizer = isinstance(run, Run) or optimizer is not None
    run = _as_run(run, optimizer, history)
    budget = max(len(run), UPDATES * _TRIALS) if budget is None else budget
    updates = int(np.clip(budget // _TRIALS, 1, UPDATES))
    with ExitStack() as stack:
        trials = Trials(run, updates, budget)
        if progress:
            from tqdm.auto import tqdm  # an extra

            trials.tick = stack.enter_context(tqdm(desc="experiments", unit=" trials")).update
        stack.enter_context(kept(run.model, run.loss_function))
        if run.model is not None:
            Module.train(run.model)
        stack.enter_context(run.optimizer.evaluating())
        return _Judge(Case(run, has_optimizer, trials, np.random.default_rng(rng))).answer()


def _as_run(run: Any, optimizer: Any, history: Any) -> Run:
    """The training; of an objective without an optimizer one in which nothing moves."""
    if isinstance(run, Run):
        if optimizer is not None or history is not None:
            raise TypeError("diagnose: a Run has its optimizer and history already; leave them out")
        return run
    if not isinstance(run, Objective):
        raise TypeError(
            f"diagnose: a Run (training.fit returns one) or an Objective is wanted, not {type(run).__name__}: "
            "training.Run(model, loss, optimizer, X, y), or mg.Objective.of(model, lambda: loss)"
        )
    if not isinstance(optimizer, Optimizer | None):
        raise TypeError(f"diagnose: optimizer is the one that trained, or None, not {optimizer!r:.60}")
    if optimizer is None:
        return Run.of(run, SGD(run.parameters, lr=0.0), history)
    optimizer.check_moves("diagnose", run.parameters)
    found = Run.of(run, optimizer, history)
    if not optimizer.wants_closure:
        found.max_norm = _clipped_to(found)
    return found


def _clipped_to(run: Run) -> float | None:
    """The norm that one's own loop clips to, if what it has left in `.grad` is a small part of the gradient.

    And it is parallel to the gradient of all data, or its norm is a round number, as 0.001: then it may be a batch's.
    """
    left, norms = run.vector.gradient(), run.gradient_norm
    held = float(np.linalg.norm(left))
    if not (len(norms) and 0 < held < norms[-1] / limit.TENFOLD):
        return None
    if abs(held - float(f"{held:.1e}")) < limit.SAME * held:
        return held
    gradient = run.objective.gradient()  # a step of that length has hardly changed it
    size = float(np.linalg.norm(gradient))
    is_parallel = float(left @ gradient) > (1 - limit.WORTH) * held * size
    return held if is_parallel and abs(size - norms[-1]) < limit.TENTH * size else None


class _Judge:
    """Asks the causes one after the other, tries their cures, and decides.

    cured: the causes whose signature is there, each with the best trial of its cures.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.cured: list[tuple[Suspicion, Trial | None]] = []

    def answer(self) -> Diagnosis:
        """The diagnosis."""
        proved = next(self._suspected(_FIRST), None)
        if proved is not None:
            self.cured = [(proved, self._best(proved))]
            return self._confirmed(*self.cured[0])
        case = self.case
        for change in self._always():
            case.trials(change)
        suspicions = list(self._suspected(_CAUSES))
        self.cured = [(suspicion, self._best(suspicion)) for suspicion in suspicions]
        chosen = self._chosen()
        if case.is_gap_worth and case.progress >= limit.STUCK and not (chosen and self._is_error(*chosen)):
            return self._healthy()
        return self._confirmed(*chosen) if chosen else self._minimum() or self._undecided()

    def _always(self) -> Iterator[changes.Change]:
        """What is tried of every run: going on, other rates, L-BFGS."""
        if self.case.has_optimizer:
            yield changes.AS_BEFORE
        if self.case.has_rate:
            yield changes.learning_rate(self.case.rate * 10)
            yield changes.learning_rate(self.case.rate / 10)
        yield changes.LBFGS_100

    def _suspected(self, causes: tuple[Cause, ...]) -> Iterator[Suspicion]:
        for cause in causes:
            with np.errstate(all="ignore"):
                suspicion = cause(self.case)
            if suspicion is not None:
                yield suspicion

    def _best(self, suspicion: Suspicion) -> Trial | None:
        """The best trial of its cures."""
        tried = [trial for trial in map(self.case.trials, suspicion.cures) if trial is not None]
        return min(tried, key=suspicion.measure, default=None)

    def _chosen(self) -> tuple[Suspicion, Trial | None] | None:
        """The first cause that is proved, or whose cure closes enough of the gap and as much as its rivals' do."""
        case = self.case
        # L-BFGS beats most methods, and a new start is another training: neither is a rival's cure.
        rivals = [trial for _, trial in self.cured if trial is not None and not trial.change.restarts]
        best = max((case.closes(trial) for trial in rivals if trial.change != changes.LBFGS_100), default=0.0)
        # An error may be harmless (a part that is not used, one target out of reach): if something else explains more.
        is_explained = best >= limit.HALF and case.gap > limit.TENTH * abs(case.now)
        for suspicion, trial in self.cured:
            is_harmless = is_explained and not suspicion.is_certain and case.closes(trial) < limit.RIVAL * best
            if suspicion.is_proof and not is_harmless:
                return suspicion, trial
            is_cured = case.is_gap_worth and case.closes(trial) >= max(limit.CURED, limit.RIVAL * best)
            if is_cured and self._is_of_this(suspicion, trial):
                return suspicion, trial
        return None

    def _is_of_this(self, suspicion: Suspicion, trial: Trial | None) -> bool:
        """Whether a cure is better on validation data than going on, if it is judged there.

        And, if it begins anew, clearly better than new weights alone, where these are none of the cures.
        """
        before, fresh = self.case.as_before, network.fresh(self.case)
        if trial is None:
            return True
        if suspicion.on_validation and before is not None and not suspicion.is_better(trial, before):
            return False
        is_anew = trial.change.restarts and fresh.name not in [cure.name for cure in suspicion.cures]
        alone = self.case.trials(fresh) if is_anew else None
        return alone is None or trial.reached < alone.reached - limit.CURED * abs(alone.reached)

    def _is_error(self, suspicion: Suspicion, trial: Trial | None) -> bool:
        """Whether it is an error in the program, and without it twice as much of the gap is closed as by going on.

        Where there is no cure to try the gap is not known: then the loss itself has to fall, to be called healthy.
        """
        case, before = self.case, self.case.as_before
        if not suspicion.is_proof or before is None:
            return False
        if not suspicion.cures:
            return before.losses[0] - before.reached < limit.STUCK * abs(case.now)
        return case.closes(trial) > 2 * case.progress

    # Answers

    def _confirmed(self, suspicion: Suspicion, trial: Trial | None) -> Diagnosis:
        case = self.case
        before = None if trial is None else case.as_before
        if trial is not None and before is not None and not suspicion.is_better(trial, before):
            trial = None  # no help
        evidence, action = [suspicion.seen], suspicion.action
        more: dict[str, Any] = {}
        if trial is not None:
            more = {"change": trial.change, "lr": trial.change.lr}
            evidence += [f"tried, {trial}", *([f"without that, {before}"] if before is not None else [])]
            if trial.change.lr is not None:
                action = f"lr = {trial.change.lr:.3g}, which was tried: {action}"
        if suspicion.cause == "saddle point" and case.way_out is not None:
            more["theta"] = case.way_out.theta
        return self._diagnosis(suspicion.cause, evidence, action, suspicion, **more)

    def _healthy(self) -> Diagnosis:
        case, before = self.case, self.case.as_before
        assert before is not None
        evidence = [
            f"going on, the loss falls from {before.losses[0]:.4g} to {before.reached:.4g} in {before.updates[-1]} "
            f"updates: {case.progress:.0%} of the way to {case.best:.4g}, the best that any experiment reached"
        ]
        if case.reading.right is not None:
            evidence.append(f"accuracy {case.reading.right:.1%}")
        return self._diagnosis(HEALTHY, evidence, "go on: the loss is still improving")

    def _minimum(self) -> Diagnosis | None:
        """A minimum, here or close by, where nothing that was tried gains anything."""
        case = self.case
        if case.is_gap_worth or not case.trials.done or case.blocked:  # these are flat, as no gradient comes through
            return None
        seen = case.point.explanation
        if case.point.kind != MINIMUM:
            near = nearest(case.objective, rng=0)
            is_minimum = near.end == KINKS or (near.end == CRITICAL and near.point.kind == MINIMUM)
            if not is_minimum or near.gain > limit.LEAST * abs(case.value):
                return None
            seen = str(near)
        most = f"the most, {max(case.gap, 0):.2g}"
        gains = f"nothing that was tried gains a hundredth of the loss {case.value:.4g}; {most}"
        action = "this network has found its minimum for these data: a larger one, other features, or another start"
        return self._diagnosis(MINIMUM, [seen, gains], action)

    def _undecided(self) -> Diagnosis:
        case = self.case
        evidence = [] if case.as_before is None else [str(case.as_before)]
        if not case.has_optimizer:
            evidence.append("not known how it is trained: give the optimizer and the history, or a Run")
        if case.trials.done:
            evidence.append(
                f"the best that was tried, {min(case.trials.done.values(), key=lambda trial: trial.reached)}"
            )
        return self._diagnosis(UNDECIDED, evidence, "no cause was confirmed: see what was tried")

    def _diagnosis(
        self, verdict: str, evidence: list[str], action: str, confirmed: Suspicion | None = None, **more: Any
    ) -> Diagnosis:
        case = self.case
        not_tried = [f"{name} (budget)" for name in dict.fromkeys(case.trials.skipped)]
        if not case.has_data and case.has_optimizer:
            not_tried.append("other batches, inputs, layers (these need a training.Run)")
        considered = [Considered(s.cause, s.seen, trial, case.closes(trial), s is confirmed) for s, trial in self.cured]
        return Diagnosis(
            verdict, evidence, action, considered=considered, trials=list(case.trials.done.values()),
            not_tried=not_tried, point=vars(case).get("point"), layers=vars(case).get("layers", []), run=case.run,
            **more,
        )  # fmt: skip
