"""Why is my loss stuck? One verdict, the evidence for it, and what to do.

"Training is stuck" and "the gradient is small" are two things (the lecture's L7): a loss stays where it is at a minimum
or a saddle, where the gradient is small; but also when the steps are so long that they leap from wall to wall, or so
short that nothing moves, or lost in the noise of the batches, or when dead or saturated units let no gradient through.
Each of these leaves its own marks in the loss so far, in the gradient, and in the curvature against the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.anomaly import detect_anomaly
from microgradopt.critical.evidence import FEWEST, TINY, WINDOW, WORTH, Evidence, Record
from microgradopt.critical.point import NOT_CRITICAL, CriticalPoint
from microgradopt.critical.units import Layer
from microgradopt.errors import NonFiniteError
from microgradopt.notebook import shown, table
from microgradopt.objective import Objective, check_objective
from microgradopt.optim.optimizer import Optimizer

Array = npt.NDArray[Any]

MINIMUM, SADDLE, BOUNCING, CREEPING = "local minimum", "saddle point", "bouncing", "creeping"
PLATEAU, EXPLODING, NOISE, IMPROVING = "plateau", "exploding", "noise floor", "still improving"

_CLEAR = 3.0  # standard errors that make a trend
_CREEPING = 0.02  # of the limit of stability
_STUCK_UNITS = 0.8  # of a layer's units
_VANISHED = 1e-5  # a layer's share of the curvature, against the largest
_SPREAD = 0.2  # of the batches' gradient norms, against their mean: without noise they change little by little
_NOISY = 2.0  # the noise of the batches' gradients, against the gradient
_GROWN = 10.0  # the loss, against what it was at the start; and it goes on growing
_A_FEW = 5  # updates that tell where the start was, or that it is not a burst
_BETTER = 3.0  # how many times more than the gradient a way out has to gain


@dataclass(frozen=True)
class Diagnosis:
    """Why the loss is where it is.

    * verdict: "local minimum", "saddle point", "bouncing", "creeping", "plateau", "exploding", "noise floor" or "still
      improving".
    * evidence: the measurements it rests on, in words. action: what to do, in words; and, where it is of that kind,
      lr: the learning rate that would do; theta: where to go on from, (n,); batch_factor: how many times larger the
      batches should be.
    * point: the verdict on θ as a critical point. layers: what the activations are doing.
    """

    verdict: str
    evidence: Sequence[str]
    action: str
    lr: float | None = None
    theta: Array | None = field(default=None, repr=False)
    batch_factor: float | None = None
    point: CriticalPoint | None = field(default=None, repr=False)
    layers: tuple[Layer, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.verdict, *(f"  · {line}" for line in self.evidence), f"  → {self.action}"])

    def _repr_html_(self) -> str:
        numbers = {"lr": self.lr, "batch factor": self.batch_factor}
        rows = [("evidence", line) for line in self.evidence]
        rows += [("what to do", self.action)]
        rows += [(name, f"{number:.3g}") for name, number in numbers.items() if number is not None]
        rows += [("layer", str(layer)) for layer in self.layers]
        rows += [("critical point", self.point.verdict)] if self.point else []
        return shown(table(f"diagnosis: {self.verdict}", rows))


def diagnose(
    objective: Objective,
    optimizer: Optimizer | None = None,
    history: Record | None = None,
    rng: np.random.Generator | int | None = 0,
) -> Diagnosis:
    """What keeps the loss from falling, at the objective's present θ.

    objective: the loss on all data (of batches, the history and the optimizer know). optimizer: as it is after its
    last step; without it nothing is said of learning rates. history: `training.History`, or anything with lists `loss`
    and `gradient_norm` of the updates so far; without it nothing is said of trends and noise. rng: for Lanczos' method.

    In this order: numbers that are not finite, or a loss that has grown and grows; a layer that passes no gradient at
    all; a loss that falls still; units that pass no gradient; steps beyond the limit of stability (`optim.stability`);
    the noise of batches; a large gradient that gains nothing; steps far below the limit; a saddle; weights that the
    loss hardly knows of; a minimum. What a step or a way out gains is measured, by a line search.

    Raises ValueError for an optimizer that has none of the objective's parameters.

    >>> import microgradopt as mg
    >>> diagnose(mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0])).verdict
    'saddle point'
    """
    check_objective("diagnose", objective)
    if not isinstance(optimizer, Optimizer | None):
        raise TypeError(f"diagnose: optimizer is the one that trained, or None, not {optimizer!r:.60}")
    if not (history is None or (hasattr(history, "loss") and hasattr(history, "gradient_norm"))):
        raise TypeError(f"diagnose: history has lists loss and gradient_norm, or is None, not {history!r:.60}")
    with nullcontext() if optimizer is None else optimizer.evaluating():
        case = Evidence(objective, optimizer, history, np.random.default_rng(rng))
        for question in (
            _exploding,
            _dead_layer,
            _improving,
            _stuck_units,
            _bouncing,
            _noise,
            _leaping,
            _creeping,
            _saddle,
            _vanished,
            _minimum,
        ):
            answer = question(case)
            if answer is not None:
                return answer
        return _nothing_wrong(case)


# The questions, in order. Each answers with a diagnosis, or does not --------------------------------------------------


def _exploding(case: Evidence) -> Diagnosis | None:
    finite = np.isfinite(case.losses) & np.isfinite(case.norms)
    now = math.isfinite(case.value) and bool(np.isfinite(case.gradient).all())
    start = float(np.median(case.losses[:_A_FEW])) if len(case.losses) else math.nan
    grown = case.losses - start > _GROWN * abs(start)
    growing = grown.any() and grown[-_A_FEW:].all() and case.losses[-1] > case.losses[:-_A_FEW].max(initial=-math.inf)
    if now and finite.all() and not growing:
        return None
    evidence = []
    if not finite.all():
        evidence.append(f"the loss or the gradient stops being finite at update {int(np.argmin(finite))}")
    if grown.any():
        evidence.append(f"the loss is {_GROWN:g} times what it was at the start from update {int(grown.argmax())} on")
    if not now:
        evidence.append(f"at θ the loss is {case.value:.3g} and the gradient norm {case.norm:.3g}{_culprit(case)}")
    shrink = 0.1 if not now or not case.ratio else min(0.1, 0.5 / case.ratio)
    lr = None if case.optimizer is None else case.optimizer.lr * shrink
    rate = "a smaller learning rate" if lr is None else f"lr = {lr:.3g}"
    return Diagnosis(
        EXPLODING, evidence, f"go back to the last good state and go on with {rate}, or clip gradients", lr=lr
    )


def _culprit(case: Evidence) -> str:
    """The operation that makes the first number that is not finite."""
    try:
        with detect_anomaly(), np.errstate(all="ignore"):
            case.objective.value_and_gradient()
    except NonFiniteError as error:
        return f"; first in {error}"
    return ""


def _dead_layer(case: Evidence) -> Diagnosis | None:
    """All units of a layer: nothing before it learns, even if the loss falls for what is behind it."""
    return _stuck(case, 1.0)


def _improving(case: Evidence) -> Diagnosis | None:
    progress, clarity = case.trend
    if progress < WORTH or clarity < _CLEAR:
        return None
    evidence = [f"the loss falls by {progress:.1%} of itself in {WINDOW} updates ({clarity:.1f} standard errors)"]
    # One good step that does more than 200 updates: then they are too short, though the loss does fall.
    if _is_short(case) and case.descent.measured > progress * abs(case.value):
        return _too_short(case, evidence)
    return Diagnosis(IMPROVING, evidence, "go on")


def _stuck_units(case: Evidence) -> Diagnosis | None:
    return _stuck(case, _STUCK_UNITS)


def _stuck(case: Evidence, share: float) -> Diagnosis | None:
    stuck = [layer for layer in case.layers if layer.stuck >= share * layer.units]
    if not stuck:
        return None
    action = (
        "no gradient comes through them: initialise the layers before them again, with smaller weights or a smaller "
        "learning rate, or normalise the inputs; for relus, a leaky one"
    )
    return Diagnosis(PLATEAU, [*map(str, stuck), _flat(case)], action, layers=tuple(case.layers))


def _bouncing(case: Evidence) -> Diagnosis | None:
    """Above the limit of stability."""
    if case.ratio is None or case.ratio <= 1 or not case.worth(case.descent.measured):
        return None
    evidence = [
        _flat(case),
        f"{_rate(case)} is {case.ratio:.3g} times the limit of stability of {_name(case)} at this curvature: each step "
        "leaps over the bottom, onto the opposite wall",
        _best_step(case),
    ]
    action = f"lr = {case.stable_lr:.3g}, half the limit, or a schedule that falls to it"
    return Diagnosis(BOUNCING, evidence, action, lr=case.stable_lr)


def _noise(case: Evidence) -> Diagnosis | None:
    recent = case.norms[-FEWEST // 2 :]
    if len(case.norms) < FEWEST or case.optimizer is None or recent.std() < _SPREAD * recent.mean():
        return None
    if np.median(recent) < _NOISY * case.norm:
        return None
    if not max(case.descent.measured, case.newton_gain) >= WORTH / 10 * abs(case.value):
        return None
    noise = math.sqrt(float(np.mean(np.square(recent))) - case.norm**2)
    factor = (noise / max(case.norm, TINY)) ** 2
    evidence = [
        _flat(case),
        f"the batches' gradients have norm {float(np.median(recent)):.3g}, the gradient of all data {case.norm:.3g}: "
        f"noise is {noise / max(case.norm, TINY):.2g} times the signal",
        f"on all data Newton's step promises {case.newton_gain:.3g}; the gradient gives {case.descent.measured:.3g}",
    ]
    lr = case.optimizer.lr / 10
    action = (
        f"lr = {lr:.3g}, a tenth (or a schedule that falls), or batches up to {min(factor, 1e4):.0f} times as large"
    )
    return Diagnosis(NOISE, evidence, action, lr=lr, batch_factor=factor)


def _leaping(case: Evidence) -> Diagnosis | None:
    """Stuck, though the gradient is large (L7): a step leads up, or should bring the loss down and does not."""
    if len(case.losses) < FEWEST or case.optimizer is None or not case.worth(case.descent.measured):
        return None
    if not case.overshoot and case.foretold < abs(case.value):
        return None
    shrink = max(case.overshoot, 10.0)
    evidence = [_flat(case)]
    if case.overshoot:
        evidence.append(f"a plain step leads up, and is {case.overshoot:.2g} times as long as the best one")
    else:
        evidence.append(f"if the gradient held over a step, {WINDOW} updates would gain {case.foretold:.3g}")
    evidence += ["the steps leap from wall to wall", _best_step(case)]
    lr = case.optimizer.lr / shrink
    return Diagnosis(BOUNCING, evidence, f"lr = {lr:.3g}, or a schedule that falls to it", lr=lr)


def _best_step(case: Evidence) -> str:
    return f"the best step in the direction of the next one would lower the loss by {case.descent.measured:.3g}"


def _creeping(case: Evidence) -> Diagnosis | None:
    return _too_short(case, [_flat(case)]) if _is_short(case) else None


def _is_short(case: Evidence) -> bool:
    """Far below the limit of stability, and one good step gains more than 200 plain ones."""
    if case.ratio is None or not 0 < case.ratio < _CREEPING:
        return False
    return case.descent.measured > max(case.foretold, WORTH * abs(case.value))


def _too_short(case: Evidence, evidence: list[str]) -> Diagnosis:
    evidence += [
        f"{_rate(case)} is {case.ratio:.1g} of the limit of stability of {_name(case)} at this point",
        _best_step(case),
    ]
    action = f"lr = {case.stable_lr:.3g}, half the limit, here and where that step leads"
    return Diagnosis(CREEPING, evidence, action, lr=case.stable_lr)


def _saddle(case: Evidence) -> Diagnosis | None:
    way = case.way_out
    if way is None or not case.worth(way.measured) or way.measured < _BETTER * case.descent.measured:
        return None
    point = case.point
    evidence = [
        f"gradient norm {case.norm:.3g}; the best step along the gradient gains {case.descent.measured:.3g}",
        f"the most negative eigenvalue of the Hessian is {point.eigenvalues[0]:.3g} (tolerance {point.tolerance:.1g})",
        str(way),
    ]
    action = "go on from there: .theta; inside training, optim.PerturbedGD or optim.Newton does it by itself"
    return Diagnosis(SADDLE, evidence, action, theta=way.theta, point=point)


def _vanished(case: Evidence) -> Diagnosis | None:
    curvatures = case.weight_curvatures
    if len(curvatures) < 2 or min(curvatures) >= _VANISHED * max(curvatures):
        return None
    listed = ", ".join(f"{size:.1g}" for size in curvatures)
    evidence = [f"the loss hardly knows of some weights: layer by layer, its curvature is {listed}", _flat(case)]
    action = (
        "the gradient vanishes on its way back: an initialisation that keeps its size (nn.init), relu or tanh for "
        "sigmoid, LayerNorm between the layers, or fewer layers"
    )
    return Diagnosis(PLATEAU, evidence, action, layers=tuple(case.layers))


def _minimum(case: Evidence) -> Diagnosis | None:
    gains = [case.descent.measured, case.newton_gain, case.way_out.measured if case.way_out else 0.0]
    if case.point.kind == NOT_CRITICAL and (case.worth(max(gains)) or len(case.losses) < FEWEST):
        return None  # without a history, nothing tells what a gain is worth
    evidence = [] if case.point.kind == NOT_CRITICAL else [case.point.explanation]
    evidence += [
        f"loss {case.value:.4g}, gradient norm {case.norm:.3g}",
        f"gains within reach: {gains[0]:.2g} along the gradient, {gains[1]:.2g} by Newton's step, {gains[2]:.2g} along "
        "negative curvature",
    ]
    action = "what loss is left cannot be got from here: start elsewhere, or use a larger network, or other features"
    return Diagnosis(MINIMUM, evidence, action, point=case.point)


def _nothing_wrong(case: Evidence) -> Diagnosis:
    gains = (
        f"Newton's step promises {case.newton_gain:.3g}, the best step along the gradient {case.descent.measured:.3g}"
    )
    if len(case.losses) < FEWEST:
        return Diagnosis(IMPROVING, [gains, "no history to see a trend in"], "go on")
    action = "a method that knows the curvature: optim.LBFGS or optim.NewtonCG; or momentum, or Adam"
    return Diagnosis(
        PLATEAU, [_flat(case), gains, "the loss surface is much steeper in some directions than in others"], action
    )


def _flat(case: Evidence) -> str:
    if len(case.losses) < FEWEST:
        return f"loss {case.value:.4g}, gradient norm {case.norm:.3g}"
    recent = case.losses[-WINDOW:]
    return (
        f"over the last {len(recent)} updates the loss was {recent.mean():.4g} ± {recent.std():.2g}, without a clear "
        f"fall, while the gradient norm is {case.norm:.3g}"
    )


def _rate(case: Evidence) -> str:
    return f"lr = {case.optimizer.lr:.3g}" if case.optimizer else "the learning rate"


def _name(case: Evidence) -> str:
    return type(case.optimizer).__name__
