"""From where training ended to what is nearby: a critical point, a kink, a flat place, or a way to infinity.

Where training stops the gradient is seldom 0. So a copy walks on downhill, and then one of four things is true, and
measured: a critical point is there, of some kind; the loss falls for ever along a direction (data that can be
separated); it is lowest on its kinks, where a gradient does not vanish (ReLU); or what is left to gain is little.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.critical.escape import size_of
from microgradopt.critical.nonsmooth import kinks, places
from microgradopt.critical.point import DEGENERATE, NO_NEGATIVE, NOT_CRITICAL, ON_KINK, CriticalPoint
from microgradopt.critical.verdict import classify
from microgradopt.errors import NonFiniteError
from microgradopt.objective import Objective, check_objective
from microgradopt.optim.closure import ClosureOptimizer
from microgradopt.optim.lbfgs import LBFGS
from microgradopt.optim.second_order import Newton, NewtonCG
from microgradopt.rules.registry import SINGULAR
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

CRITICAL, INFINITY, KINKS, FLAT, FALLING = "critical", "infinity", "kinks", "flat", "still falling"
_NAMES = {
    DEGENERATE: "degenerate point",
    NO_NEGATIVE: "critical point where no negative curvature was found",
}

_DENSE = 400  # parameters up to which the walk ends with whole Hessians
_SADDLES = 3  # so many are left on the way down, at most
_STILL = 1e-12  # of the size of θ: a step as short is none
_ITERATIONS = 300  # of L-BFGS in a round, and in a trial
_PART = 10  # of them between two points of the way
_ROUNDS = 5  # of L-BFGS at most
_LITTLE = 1e-5  # of the loss: a round that gains less is the last
_SAMPLES = 50  # at each radius
_RADII = 10.0 ** np.arange(-6, 0)  # of the size of θ
_TRIED = f"L-BFGS ({_ITERATIONS} iterations) and {_SAMPLES * len(_RADII)} samples nearby"
_TIMES = 10.0  # `left` is so many times what the trials gained,
_LEAST = 1e-4  # and at least this share of the loss
_WORTH = 1e-2  # of the loss: where more is left, the loss is still falling
_ON_KINK = 1e-6  # of the size of θ: a kink within reach of such a step is one
_LEFT = 0.1  # of the gain of the walk: its direction is asked from where as much was left
_NEAR = np.geomspace(1, 4, 61)  # times the distance, along a direction, from point to point
_BEYOND = 2.0 ** np.arange(3, 11)  # and further out
_GONE = 1e-6  # of the fall: when no more is left, the loss is as good as at its limit
_ROUNDING = 1e2  # a fall below so many units of rounding is none


class Nearest(NamedTuple):
    """What is nearby, downhill from θ.

    end: "critical", "infinity", "kinks", "flat" or "still falling". point: the verdict on where the walk ended.
    distance: ‖θ* − θ‖. gain: L(θ) − L(θ*). steps: how many it took, ten iterations of L-BFGS as one. left: more than
    L-BFGS and samples still gained from there; 0 where that was not asked. direction: a unit vector, (n,), along which
    the loss falls for ever from θ*, or None. falls: the loss at 1, 2 and 4 times the distance along it, or empty.
    """

    end: str
    point: CriticalPoint
    distance: float
    gain: float
    steps: int
    left: float = 0.0
    direction: Array | None = None
    falls: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.end == INFINITY:
            near, twice, far = (f"{loss:.3g}" for loss in self.falls)
            return (
                f"the loss falls towards infinity along this direction: {near}, at twice the distance {twice}, at four "
                f"times {far}; up to 1,024 times it does not rise"
            )
        gain, left, far = f"{max(0.0, self.gain):.3g}", f"{self.left:.2g}", f"{self.distance:.3g} away"
        if self.end == CRITICAL:
            kind = _NAMES.get(self.point.kind, self.point.kind)
            return f"{gain} above a {kind} ({'certified' if self.point.certified else 'not certified'}), {far}"
        where = f"{gain} lower, {far}"
        if self.end == KINKS:
            return f"{where}, it is lowest on its kinks: {_TRIED} gain less than {left}"
        if self.end == FALLING:
            return f"still falling: {where}, {_TRIED} gain a tenth of {left} more"
        lowest = f"λ_min = {self.point.eigenvalues[0]:.2g}, the gradient norm {self.point.gradient_norm:.2g}"
        return f"{where}, it is flat to within {left}: {lowest}; {_TRIED} gain less than that"


def nearest(
    objective: Objective,
    theta: npt.ArrayLike | None = None,
    max_iter: int = 100,
    rng: np.random.Generator | int | None = 0,
) -> Nearest:
    """Walk downhill from θ on a copy, and say what is there.

    theta: (n,); by default the objective's own, which stays. max_iter: steps of Newton's method at most, by conjugate
    gradients and then, for n up to 400, with whole Hessians. rng: for samples, and as for `classify`.

    1. `optim.NewtonCG` walks, and then `optim.Newton`; on a loss with kinks `optim.LBFGS`, in rounds of 300 iterations,
       until one gains less than 1e-5 of the loss. From a saddle `CriticalPoint.escape` leads on.
    2. "infinity" is asked from where a tenth of the way down was left, along the way and along θ itself: the loss has
       to fall strictly from 1 to 4 times the distance, in 60 steps, until a millionth of that fall is left, and not to
       rise up to 1,024 times. A gradient of exactly 0, at the end or there, is that of a floor instead.
    3. "critical" is what `classify` says.
    4. Else 300 iterations of L-BFGS, with little memory and with much, and 300 samples at distances from 1e-6 to 0.1 of
       the size of θ are tried. `left` is ten times what they gained, and at least 1e-4 of the loss: a margin for what
       was not tried. "kinks" where there are some within 1e-6 of the size of θ, else "flat"; "still
       falling" where `left` is 1% of the loss, and more than the rounding of the loss at the start.

    Raises what `classify` raises.

    Source: L-BFGS at kinks: Lewis and Overton 2013. Separable data: Soudry et al. 2018.

    >>> import microgradopt as mg
    >>> print(nearest(mg.Objective(lambda w: (w[0] - 1) ** 2 + (w[1] * w[0] - 2) ** 2, [2.0, 2.0])))
    5 above a local minimum (certified), 1 away
    """
    check_objective("nearest", objective)
    start = objective.theta if theta is None else np.array(theta, objective.theta.dtype)
    rng = np.random.default_rng(rng)
    way = [start]
    with np.errstate(all="ignore"):
        for _ in range(_SADDLES + 1):
            way = _downhill(objective, way, max_iter)
            way[-1] = _without_rounding(objective, way)
            point = classify(objective, way[-1], rng=rng)
            if not (point.certified and point.strict) and (found := _for_ever(objective, way, rng)) is not None:
                return found
            if point.kind in (NOT_CRITICAL, ON_KINK) or not point.negative:
                break
            way.append(point.escape(rng).theta)
        return _ended(objective, way, point, rng)


def _ended(objective: Objective, way: list[Array], point: CriticalPoint, rng: np.random.Generator) -> Nearest:
    """The answer where the walk has come to an end."""
    on_kinks = point.kind in (NOT_CRITICAL, ON_KINK, DEGENERATE) and _is_on_kinks(objective, point.theta)
    if point.kind not in (NOT_CRITICAL, ON_KINK) and not on_kinks:
        return Nearest(CRITICAL, point, *_gone(objective, way))
    left = _left(objective, point.theta, rng)
    limits = np.finfo(point.theta.dtype)
    enough = max(_WORTH * abs(point.value), float(limits.eps) * abs(objective.value(way[0])), float(limits.tiny))
    end = FALLING if left > enough else KINKS if on_kinks else FLAT
    return Nearest(end, point, *_gone(objective, way), left)


def _gone(objective: Objective, way: list[Array]) -> tuple[float, float, int]:
    """distance, gain and steps of a way."""
    start, end = way[0], way[-1]
    return float(np.linalg.norm(end - start)), objective.value(start) - objective.value(end), len(way) - 1


# The walk -------------------------------------------------------------------------------------------------------------


def _downhill(objective: Objective, way: list[Array], max_iter: int) -> list[Array]:
    """The way, and after it what each method goes on with where the one before has come to its end."""
    way = _walked(objective, way, NewtonCG, max_iter)
    # A distance that rounding does not move does not depend on θ: a constant divisor is no kink.
    if not any(place.reach.any() for place in places(objective, way[-1])) and objective.n <= _DENSE:
        return _walked(objective, way, Newton, max_iter)
    for _ in range(_ROUNDS):
        before = objective.value(way[-1])
        way = _walked(objective, way, _lbfgs, _ITERATIONS // _PART)
        if before - objective.value(way[-1]) <= _LITTLE * abs(before):
            break
    return way


def _without_rounding(objective: Objective, way: list[Array]) -> Array:
    """The end of a way, 0 where a parameter is less than the rounding of where it was, if that is no higher.

    From a minimum at 0 Newton's steps leave 1e-20 and then 1e-40, but never 0: by itself no number is small.
    """
    end, largest = way[-1], np.max(np.abs(way), axis=0)
    there = np.where(np.abs(end) <= np.finfo(end.dtype).eps * largest, 0, end).astype(end.dtype)
    return there if objective.value(there) <= objective.value(end) else end


def _lbfgs(parameters: list[Tensor], history_size: int = 100) -> LBFGS:
    return LBFGS(parameters, max_iter=_PART, history_size=history_size, tolerance_change=0.0, tolerance_grad=0.0)


def _walked(
    objective: Objective, way: list[Array], method: Callable[[list[Tensor]], ClosureOptimizer], steps: int
) -> list[Array]:
    """The way with the steps of an optimizer after it. The objective's θ and gradients stay."""
    way = list(way)
    with objective.vector.copied(way[-1]):
        optimizer = method(objective.parameters)
        for _ in range(steps):
            try:
                optimizer.step(lambda: objective.backward(optimizer.wants_graph))
            except (NonFiniteError, ValueError):  # at a singular point, or where the loss overflows: no further
                return way
            way.append(objective.theta)
            if optimizer.stopped or np.linalg.norm(way[-1] - way[-2]) <= _STILL * size_of(way[-1]):
                break
    return way


# What is there --------------------------------------------------------------------------------------------------------


def _for_ever(objective: Objective, way: list[Array], rng: np.random.Generator) -> Nearest | None:
    """The answer where the loss falls towards infinity.

    It is asked from where some of the way down was left: at the end the loss may be 0 to rounding, or at a minimum.
    """
    values = np.array([objective.value(theta) for theta in way])
    left = values - values[-1]
    place = int(np.flatnonzero(left > _LEFT * left[0])[-1]) if left[0] > 0 else 0
    here, start = way[place], way[0]
    if not objective.gradient(way[-1]).any():  # a floor: what falls for ever has one, be it 1e-17 where the loss is 0
        return None
    falling = [
        (tuple(objective.value(origin + t * (here - origin)) for t in (1, 2, 4)), here - origin)
        for origin in (start, np.zeros_like(start))
        if _falls(objective, origin, here - origin)
    ]
    if not falling:
        return None
    losses, ray = min(falling, key=lambda each: each[0][-1])
    return Nearest(
        INFINITY,
        classify(objective, here, dense_up_to=_DENSE, rng=rng),
        *_gone(objective, way[: place + 1]),
        direction=ray / float(np.linalg.norm(ray)),
        falls=losses,
    )


def _falls(objective: Objective, origin: Array, ray: Array) -> bool:
    """Whether the loss falls strictly along a ray, as far as rounding lets see, and does not rise far out."""
    times = np.append(_NEAR, _BEYOND)
    values = np.array([objective.value(origin + t * ray) for t in times])
    if not np.isfinite(values).all():
        return False
    left, rounding = values - values[-1], _ROUNDING * float(np.finfo(origin.dtype).eps)
    # Where it is as good as at its limit. If the gradient is exactly 0 there, it is a floor.
    gone = int(np.argmax(left <= max(_GONE * left[0], rounding * max(abs(values[0]), abs(values[-1])))))
    if gone == 0 or not objective.gradient(origin + times[gone] * ray).any():
        return False
    near = values[: len(_NEAR)]
    strictly = bool((np.diff(near[: gone + 1]) < 0).all())
    after = values[min(gone, len(_NEAR) - 1) :]
    rises = after[1:] - np.minimum.accumulate(after)[:-1] > rounding * np.abs(after[1:])
    return strictly and not rises.any()


def _is_on_kinks(objective: Objective, theta: Array) -> bool:
    """Whether a short step along the gradient reaches a kink."""
    g = objective.gradient(theta)
    step = g * (_ON_KINK * size_of(theta) / (float(np.linalg.norm(g)) or 1.0))
    return any(each.kind != SINGULAR for each in kinks(objective, theta, -step))


def _left(objective: Objective, theta: Array, rng: np.random.Generator) -> float:
    """More than what L-BFGS, with little memory and with much, and samples at several radii still gain."""
    value, tried = objective.value(theta), []
    for radius in np.repeat(_RADII * size_of(theta), _SAMPLES):
        v = rng.normal(size=theta.size)
        tried.append(objective.value(theta + radius * v / np.linalg.norm(v)))
    for memory in (10, 100):
        trial = functools.partial(_lbfgs, history_size=memory)
        tried.append(objective.value(_walked(objective, [theta], trial, _ITERATIONS // _PART)[-1]))
    gained = value - float(np.nanmin(tried))
    return max(_TIMES * gained, _LEAST * abs(value), float(np.finfo(theta.dtype).tiny))
