"""Why is my loss stuck? One verdict, the evidence for it, and what to do.

"Training is stuck" and "the gradient is small" are two things (the lecture's L7): a loss stays where it is at a minimum
or a saddle, where the gradient is small; but also when the steps are so long that they leap from wall to wall, or so
short that nothing moves, or lost in the noise of the batches, or when dead or saturated units let no gradient through.
Each of these leaves its own marks in the loss so far, in the gradient, and in the curvature against the learning rate.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from microgradopt.critical.classify import classify
from microgradopt.critical.escape import Escape, escape
from microgradopt.critical.layers import Layer, layers
from microgradopt.critical.point import DEGENERATE, NOT_CRITICAL, CriticalPoint
from microgradopt.curvature.lanczos import eigenpairs
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import conjugate_gradient
from microgradopt.errors import NonFiniteError
from microgradopt.mode import detect_anomaly
from microgradopt.objective import Objective
from microgradopt.optim.optimizer import Optimizer
from microgradopt.optim.stability import step_scale

Array = npt.NDArray[Any]

MINIMUM, SADDLE, BOUNCING, CREEPING = "local minimum", "saddle point", "bouncing", "creeping"
PLATEAU, EXPLODING, NOISE, IMPROVING = "plateau", "exploding", "noise floor", "still improving"

_PRODUCTS = 150  # with H, for the ends of its spectrum, where there are more parameters than that
_DENSE = 400  # parameters up to which all of the Hessian's eigenvalues are computed
_WINDOW = 200  # updates of the history that count as the present
_BLOCKS = 10  # that the window is divided into
_FEWEST = 20  # updates that a history needs to tell anything
_CLEAR = 3.0  # standard errors that make a trend
_WORTH = 0.01  # of the loss: a gain that is worth having, per window
_CREEPING = 0.02  # of the limit of stability
_STUCK_UNITS = 0.8  # of a layer's units
_VANISHED = 1e-5  # a layer's share of the curvature, against the largest
_SPREAD = 0.2  # of the batches' gradient norms, against their mean: without noise they change little by little
_NOISY = 2.0  # the noise of the batches' gradients, against the gradient
_GROWN = 10.0  # the loss, against what it was at the start; and it goes on growing
_A_FEW = 5  # updates that tell where the start was, or that it is not a burst
_BETTER = 3.0  # how many times more than the gradient a way out has to gain
_TINY = float(np.finfo(float).tiny)


class Record(Protocol):
    """What is read of a history: see `training.History`."""

    loss: list[float]
    gradient_norm: list[float]


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
    evidence: tuple[str, ...]
    action: str
    lr: float | None = None
    theta: Array | None = field(default=None, repr=False)
    batch_factor: float | None = None
    point: CriticalPoint | None = field(default=None, repr=False)
    layers: tuple[Layer, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.verdict, *(f"  · {line}" for line in self.evidence), f"  → {self.action}"])


def diagnose(
    objective: Objective,
    optimizer: Optimizer | None = None,
    history: Record | None = None,
    rng: np.random.Generator | int = 0,
) -> Diagnosis:
    """What keeps the loss from falling, at the objective's present θ.

    objective: the loss on all data (of batches, the history and the optimizer know). optimizer: as it is after its
    last step; without it nothing is said of learning rates. history: `training.History`, or anything with lists `loss`
    and `gradient_norm` of the updates so far; without it nothing is said of trends and noise. rng: for Lanczos' method.

    In this order: numbers that are not finite, or a loss that has grown and grows; a loss that falls still; units that
    pass no gradient; steps beyond the limit of stability (`optim.stability`); the noise of batches; a large gradient
    that gains nothing; steps far below the limit; a saddle; weights that the loss hardly knows of; a minimum. What a
    step or a way out gains is measured, by a line search.
    """
    case = _Case(objective, optimizer, history, np.random.default_rng(rng))
    for question in (
        _exploding,
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


# What is measured, each thing when it is first asked for --------------------------------------------------------------


class _Case:
    """A loss that may be stuck, and all that can be measured about it."""

    def __init__(
        self, objective: Objective, optimizer: Optimizer | None, history: Record | None, rng: np.random.Generator
    ) -> None:
        self.objective, self.optimizer, self.rng = objective, optimizer, rng
        self.theta = objective.theta
        self.losses = np.array([] if history is None else history.loss, float)
        self.norms = np.array([] if history is None else history.gradient_norm, float)
        with np.errstate(all="ignore"):
            self.value, self.gradient = objective.value_and_gradient()
            self.norm = float(np.linalg.norm(self.gradient))
        self.size = max(1.0, float(np.linalg.norm(self.theta)))

    @functools.cached_property
    def scale(self) -> Array | None:
        """d, the step that the optimizer makes of a gradient, in limits of stability: see `optim.stability`."""
        return None if self.optimizer is None else step_scale(self.optimizer, self.objective.vector)

    @functools.cached_property
    def ratio(self) -> float | None:
        """The learning rate against the limit of stability: λ_max(D^½ H D^½). None where it is not known."""
        if self.scale is None or not self.scale.any():
            return None
        root = np.sqrt(self.scale)
        scaled = _Scaled(HessianOperator(self.objective), root)
        return float(eigenpairs(scaled, 1, "largest", tol=1e-2, max_products=100, rng=self.rng).values[-1])

    @functools.cached_property
    def trend(self) -> tuple[float, float]:
        """How much the loss falls in 200 updates, relative to itself, and how many standard errors that is.

        A line is fitted to the means of ten blocks: single losses are not independent where training goes to and fro.
        """
        recent = self.losses[-_WINDOW:]
        if len(recent) < _FEWEST:
            return 0.0, 0.0
        means = np.array([block.mean() for block in np.array_split(recent, _BLOCKS)])
        t = np.arange(_BLOCKS) - (_BLOCKS - 1) / 2
        slope = float(t @ means / (t @ t))
        residuals = means - means.mean() - slope * t
        error = math.sqrt(float(residuals @ residuals) / (_BLOCKS - 2) / float(t @ t))
        fall = -slope * _BLOCKS * _WINDOW / len(recent)
        return fall / max(abs(float(means.mean())), _TINY), -slope / max(error, _TINY)

    @functools.cached_property
    def point(self) -> CriticalPoint:
        return classify(self.objective, dense_up_to=_DENSE, products=_PRODUCTS, rng=self.rng)

    @functools.cached_property
    def layers(self) -> list[Layer]:
        return layers(self.objective)

    @functools.cached_property
    def descent(self) -> Escape:
        """The best that one step in the optimizer's direction can do: −D g, or −g, with a perfect step length."""
        direction = self.gradient if self.scale is None or not self.scale.any() else self.scale * self.gradient
        return escape(self.objective, self.theta, direction, self.size)

    @functools.cached_property
    def newton_gain(self) -> float:
        """What Newton's step promises, where the curvature is positive: ½ gᵀH⁺g."""
        H = HessianOperator(self.objective)
        p = conjugate_gradient(H, -self.gradient, tol=1e-3, max_iterations=50).x
        return -float(self.gradient @ p + p @ (H @ p) / 2)

    @functools.cached_property
    def way_out(self) -> Escape | None:
        try:
            return self.point.escape(self.rng) if self.point.negative or self.point.kind == DEGENERATE else None
        except ValueError:
            return None

    @functools.cached_property
    def overshoot(self) -> float:
        """How many times longer than the best step in its direction a plain step is; 0 if a plain step goes down.

        A plain step is −2 d g: for gradient descent −η g, and for other methods what is as near their limit.
        """
        if self.scale is None or not self.scale.any() or not self.descent.step:
            return 0.0
        step = 2 * self.scale * self.gradient
        with np.errstate(all="ignore"):
            falls = self.objective.value(self.theta - step) < self.value
        return 0.0 if falls else float(np.linalg.norm(step)) / self.descent.step

    @property
    def foretold(self) -> float:
        """What 200 plain steps would gain, did the gradient stay what it is."""
        return 0.0 if self.scale is None else _WINDOW * float(self.gradient @ (2 * self.scale * self.gradient))

    def worth(self, gain: float) -> bool:
        """Whether a gain is worth having: a hundredth of the loss."""
        return gain >= _WORTH * abs(self.value)

    def said(self, verdict: str, evidence: list[str], action: str, **advice: Any) -> Diagnosis:
        return Diagnosis(verdict, tuple(evidence), action, **advice)


class _Scaled:
    """D^½ H D^½, as an operator."""

    def __init__(self, H: HessianOperator, root: Array) -> None:
        self.H, self.root, self.shape, self.dtype = H, root, H.shape, H.dtype

    def __matmul__(self, v: Array) -> Array:
        return self.root * (self.H @ (self.root * v))


# The questions, in order. Each answers with a diagnosis, or does not --------------------------------------------------


def _exploding(case: _Case) -> Diagnosis | None:
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
    return case.said(
        EXPLODING, evidence, f"go back to the last good state and go on with {rate}, or clip gradients", lr=lr
    )


def _culprit(case: _Case) -> str:
    """The operation that makes the first number that is not finite."""
    try:
        with detect_anomaly(), np.errstate(all="ignore"):
            case.objective.value_and_gradient()
    except NonFiniteError as error:
        return f"; first in {error}"
    return ""


def _improving(case: _Case) -> Diagnosis | None:
    progress, clarity = case.trend
    if progress < _WORTH or clarity < _CLEAR:
        return None
    evidence = [f"the loss falls by {progress:.1%} of itself in {_WINDOW} updates ({clarity:.1f} standard errors)"]
    # One good step that does more than 200 updates: then they are too short, though the loss does fall.
    if _is_short(case) and case.descent.measured > progress * abs(case.value):
        return _too_short(case, evidence)
    return case.said(IMPROVING, evidence, "go on")


def _stuck_units(case: _Case) -> Diagnosis | None:
    stuck = [layer for layer in case.layers if layer.stuck >= _STUCK_UNITS * layer.units]
    if not stuck:
        return None
    action = (
        "no gradient comes through them: initialise the layers before them again, with smaller weights or a smaller "
        "learning rate, or normalise the inputs; for relus, a leaky one"
    )
    return case.said(PLATEAU, [*map(str, stuck), _flat(case)], action, layers=tuple(case.layers))


def _bouncing(case: _Case) -> Diagnosis | None:
    """Above the limit of stability."""
    if case.optimizer is None or case.ratio is None or case.ratio <= 1 or not case.worth(case.descent.measured):
        return None
    lr = case.optimizer.lr / (2 * case.ratio)
    evidence = [
        _flat(case),
        f"lr = {case.optimizer.lr:.3g} is {case.ratio:.3g} times the limit of stability of {_name(case)} at this "
        "curvature: each step leaps over the bottom, onto the opposite wall",
        _best_step(case),
    ]
    return case.said(BOUNCING, evidence, f"lr = {lr:.3g}, half the limit, or a schedule that falls to it", lr=lr)


def _noise(case: _Case) -> Diagnosis | None:
    recent = case.norms[-_FEWEST // 2 :]
    if len(case.norms) < _FEWEST or case.optimizer is None or recent.std() < _SPREAD * recent.mean():
        return None
    if np.median(recent) < _NOISY * case.norm:
        return None
    if not max(case.descent.measured, case.newton_gain) >= _WORTH / 10 * abs(case.value):
        return None
    noise = math.sqrt(float(np.mean(np.square(recent))) - case.norm**2)
    factor = (noise / max(case.norm, _TINY)) ** 2
    evidence = [
        _flat(case),
        f"the batches' gradients have norm {float(np.median(recent)):.3g}, the gradient of all data {case.norm:.3g}: "
        f"noise is {noise / max(case.norm, _TINY):.2g} times the signal",
        f"on all data Newton's step promises {case.newton_gain:.3g}; the gradient gives {case.descent.measured:.3g}",
    ]
    lr = case.optimizer.lr / 10
    action = (
        f"lr = {lr:.3g}, a tenth (or a schedule that falls), or batches up to {min(factor, 1e4):.0f} times as large"
    )
    return case.said(NOISE, evidence, action, lr=lr, batch_factor=factor)


def _leaping(case: _Case) -> Diagnosis | None:
    """Stuck, though the gradient is large (L7): a step leads up, or should bring the loss down and does not."""
    if len(case.losses) < _FEWEST or case.optimizer is None or not case.worth(case.descent.measured):
        return None
    if not case.overshoot and case.foretold < abs(case.value):
        return None
    shrink = max(case.overshoot, 10.0)
    evidence = [_flat(case)]
    if case.overshoot:
        evidence.append(f"a plain step leads up, and is {case.overshoot:.2g} times as long as the best one")
    else:
        evidence.append(f"if the gradient held over a step, {_WINDOW} updates would gain {case.foretold:.3g}")
    evidence += ["the steps leap from wall to wall", _best_step(case)]
    lr = case.optimizer.lr / shrink
    return case.said(BOUNCING, evidence, f"lr = {lr:.3g}, or a schedule that falls to it", lr=lr)


def _best_step(case: _Case) -> str:
    return f"the best step in the direction of the next one would lower the loss by {case.descent.measured:.3g}"


def _creeping(case: _Case) -> Diagnosis | None:
    return _too_short(case, [_flat(case)]) if _is_short(case) else None


def _is_short(case: _Case) -> bool:
    """Far below the limit of stability, and one good step gains more than 200 plain ones."""
    if case.ratio is None or not 0 < case.ratio < _CREEPING:
        return False
    return case.descent.measured > max(case.foretold, _WORTH * abs(case.value))


def _too_short(case: _Case, evidence: list[str]) -> Diagnosis:
    assert case.optimizer is not None
    assert case.ratio is not None  # _is_short
    lr = case.optimizer.lr / (2 * case.ratio)
    evidence += [
        f"lr = {case.optimizer.lr:.3g} is {case.ratio:.1g} of the limit of stability of {_name(case)} at this point",
        _best_step(case),
    ]
    return case.said(CREEPING, evidence, f"lr = {lr:.3g}, half the limit", lr=lr)


def _saddle(case: _Case) -> Diagnosis | None:
    way = case.way_out
    if way is None or not case.worth(way.measured) or way.measured < _BETTER * case.descent.measured:
        return None
    point = case.point
    evidence = [
        f"gradient norm {case.norm:.3g}; the best step along the gradient gains {case.descent.measured:.3g}",
        f"the most negative eigenvalue of the Hessian is {point.eigenvalues[0]:.3g} (tolerance {point.tolerance:.1g})",
        str(way),
    ]
    action = (
        "go on from there: .theta; inside training, optim.PerturbedGD or optim.SaddleFreeNewton do it by themselves"
    )
    return case.said(SADDLE, evidence, action, theta=way.theta, point=point)


def _vanished(case: _Case) -> Diagnosis | None:
    vector, H = case.objective.vector, HessianOperator(case.objective)
    weights = [part for part, p in zip(vector.slices, vector.parameters, strict=True) if p.ndim >= 2]
    curvatures = []
    for part in weights:
        v = np.zeros(H.shape[0], H.dtype)
        v[part] = case.rng.standard_normal(part.stop - part.start)
        curvatures.append(float(np.linalg.norm((H @ v)[part]) / np.linalg.norm(v)))
    if len(weights) < 2 or min(curvatures) >= _VANISHED * max(curvatures):
        return None
    listed = ", ".join(f"{size:.1g}" for size in curvatures)
    evidence = [f"the loss hardly knows of some weights: layer by layer, its curvature is {listed}", _flat(case)]
    action = (
        "the gradient vanishes on its way back: an initialisation that keeps its size (nn.init), relu or tanh for "
        "sigmoid, LayerNorm between the layers, or fewer layers"
    )
    return case.said(PLATEAU, evidence, action, layers=tuple(case.layers))


def _minimum(case: _Case) -> Diagnosis | None:
    gains = [case.descent.measured, case.newton_gain, case.way_out.measured if case.way_out else 0.0]
    if case.point.kind == NOT_CRITICAL and case.worth(max(gains)):
        return None
    evidence = [] if case.point.kind == NOT_CRITICAL else [case.point.explanation]
    evidence += [
        f"loss {case.value:.4g}, gradient norm {case.norm:.3g}",
        f"gains within reach: {gains[0]:.2g} along the gradient, {gains[1]:.2g} by Newton's step, {gains[2]:.2g} along "
        "negative curvature",
    ]
    action = "what loss is left cannot be got from here: start elsewhere, or use a larger network, or other features"
    return case.said(MINIMUM, evidence, action, point=case.point)


def _nothing_wrong(case: _Case) -> Diagnosis:
    gains = (
        f"Newton's step promises {case.newton_gain:.3g}, the best step along the gradient {case.descent.measured:.3g}"
    )
    if len(case.losses) < _FEWEST:
        return case.said(IMPROVING, [gains, "no history to see a trend in"], "go on")
    action = "a method that knows the curvature: optim.LBFGS or optim.NewtonCG; or momentum, or Adam"
    return case.said(
        PLATEAU, [_flat(case), gains, "the loss surface is much steeper in some directions than in others"], action
    )


def _flat(case: _Case) -> str:
    if len(case.losses) < _FEWEST:
        return f"loss {case.value:.4g}, gradient norm {case.norm:.3g}"
    recent = case.losses[-_WINDOW:]
    return (
        f"over the last {len(recent)} updates the loss was {recent.mean():.4g} ± {recent.std():.2g}, without a clear "
        f"fall, while the gradient norm is {case.norm:.3g}"
    )


def _name(case: _Case) -> str:
    return type(case.optimizer).__name__
