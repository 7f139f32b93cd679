"""Escape: leave a critical point that is no minimum, downhill, and measure how much that gains.

Along v with vᵀH v = λ < 0 the loss falls: L(θ + t v) ≈ L + t gᵀv + ½ λ t². The curvature also tells how far to go: it
rises along the way, λ(t) ≈ λ + λ' t + ½ λ'' t², and the model is lowest where its slope has come back to zero, at
gᵀv + λ t + ½ λ' t² + ⅙ λ'' t³ = 0. From there a line search walks, measuring.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.notebook import shown, table
from microgradopt.objective import Objective

Array = npt.NDArray[Any]

_PROBE = 1e-2  # how far along a direction, for θ of size 1, the change of curvature is measured
_MEASURED = 3  # so often at most, each time at a hundredth of the step of the model before
_NONE = 1e-13  # of the largest term of the model: a term as small as that is rounding
_SEEN = 4.0  # times the step at which curvature changes the loss by its rounding
_DOUBLINGS = 10  # of the step, at most
_HALVINGS = 100  # so that a θ of 0, which tells no length, may have units of 1e-30
_SECTIONS = 25  # golden sections: the best step to five digits
_RANDOM = 20  # directions to try where none is known to lead down
_GOLDEN = (5**0.5 - 1) / 2


class Escape(NamedTuple):
    """A way down from a critical point.

    direction: unit vector, (n,). curvature: vᵀH v along it. step: how far. theta: where that leads, (n,). value: the
    loss there. predicted: the decrease the fourth-order model promises at its lowest point. measured: the decrease
    found at `theta`. evaluations: of the loss, on the way. ended: "" at a lowest point; else why it was not followed
    further: a loss may fall without end, or overflow.
    """

    direction: Array
    curvature: float
    step: float
    theta: Array
    value: float
    predicted: float
    measured: float
    evaluations: int
    ended: str = ""

    def __str__(self) -> str:
        told = (
            f"a step of {self.step:.3g} along a direction of curvature {self.curvature:.3g} lowers the loss by "
            f"{self.measured:.4g}, to {self.value:.4g} (predicted: {self.predicted:.4g})"
        )
        return f"{told}; {self.ended}" if self.ended else told

    def _repr_html_(self) -> str:
        rows = {
            "loss at the start": f"{self.value + self.measured:.6g}",
            "loss at the end": f"{self.value:.6g}",
            "decrease, measured": f"{self.measured:.4g}",
            "decrease, predicted": f"{self.predicted:.4g}",
            "step": f"{self.step:.3g}",
            "curvature along it": f"{self.curvature:.3g}",
            "evaluations of the loss": self.evaluations,
            "ended": self.ended or "at a lowest point",
        }
        return shown(table("Escape", rows.items()))


def size_of(theta: Array) -> float:
    """What is a long way for θ, and what its distances are relative to: max(1, ‖θ‖)."""
    return max(1.0, float(np.linalg.norm(theta)))


def escape(objective: Objective, theta: Array, v: Array, size: float) -> Escape:
    """Walk from θ along v or −v, whichever the gradient says leads down, as far as the loss is found to fall.

    v: a direction, (n,), of any length. size: of θ, what is a long way. Where the gradient along v is exactly 0, both
    ways are walked, and the better one is given. Where the loss was not found to fall, step and measured are 0.
    """
    value, gradient = objective.value_and_gradient(theta)
    if not v.any():
        return Escape(v, 0.0, 0.0, theta, value, 0.0, 0.0, 0)
    v = v / np.linalg.norm(v)
    curvature, slope = float(v @ objective.hvp(v, theta)), float(gradient @ v)
    downhill = [v, -v] if slope == 0 else [v if slope < 0 else -v]
    ways = [_walk(objective, theta, value, u, -abs(slope), curvature, size) for u in downhill]
    return max(ways, key=operator.attrgetter("measured"))


def search(objective: Objective, theta: Array, flat: Array, size: float, rng: np.random.Generator) -> Escape:
    """The best escape along the flat directions, the columns of `flat`, and along random mixtures of them."""
    mixtures = flat @ rng.standard_normal((flat.shape[1], _RANDOM))
    directions = np.concatenate([flat[:, :_RANDOM], mixtures], axis=1)
    return max((escape(objective, theta, v, size) for v in directions.T), key=operator.attrgetter("measured"))


def _walk(
    objective: Objective, theta: Array, value: float, v: Array, slope: float, curvature: float, size: float
) -> Escape:
    evaluations = 0

    def drop(t: float) -> float:
        nonlocal evaluations
        evaluations += 1
        with np.errstate(all="ignore"):
            change = value - objective.value(theta + t * v)
        return change if np.isfinite(change) else -np.inf

    start, predicted = _model(objective, theta, v, slope, curvature, size)
    if curvature < 0:
        start = max(start, _SEEN * float(np.sqrt(2 * np.finfo(theta.dtype).eps * (abs(value) / -curvature))))
    step, ended = _highest(drop, start)
    end = theta + step * v
    measured = drop(step) if step else 0.0
    return Escape(v, curvature, step, end, objective.value(end), max(0.0, predicted), measured, evaluations, ended)


def _model(
    objective: Objective, theta: Array, v: Array, slope: float, curvature: float, size: float
) -> tuple[float, float]:
    """Where along v the fourth-order model of the loss is lowest, and how much lower it is there.

    A model that has no lowest point goes as far as θ is large.
    """
    t, reach, third, fourth = size, 0.0, 0.0, 0.0
    for _ in range(_MEASURED):
        if reach / 10 <= t <= 10 * reach:
            break
        reach, h = t, _PROBE * t
        ahead, behind = (float(v @ objective.hvp(v, theta + way * v)) for way in (h, -h))
        third, fourth = (ahead - behind) / (2 * h), (ahead - 2 * curvature + behind) / h / h
        t = h * _lowest(np.array([fourth / 6 * h * h * h, third / 2 * h * h, curvature * h, slope])) or size
    return t, -(((fourth * t / 24 + third / 6) * t + curvature / 2) * t + slope) * t


def _lowest(cubic: Array) -> float:
    """The smallest positive root of a cubic; 0 where there is none. Its terms, at 1, are of the model's slope."""
    cubic = np.where(np.abs(cubic) > _NONE * np.abs(cubic).max(), cubic, 0.0)
    roots = np.roots(cubic) if np.isfinite(cubic).all() else np.array([])
    return min((float(s.real) for s in roots if abs(s.imag) < 1e-9 * abs(s) and s.real > 0), default=0.0)


def _highest(drop: Callable[[float], float], t: float) -> tuple[float, str]:
    """The step near t where the drop is highest, 0 where there is none; and why it is not known to be the highest."""
    reached = drop(t)
    for _ in range(_HALVINGS):
        if reached > 0:
            break
        t /= 2
        reached = drop(t)
    else:
        return 0.0, ""
    for _ in range(_DOUBLINGS):
        further = drop(2 * t)
        if further == -np.inf:
            return t, "at twice that step the loss is not finite"
        if further <= reached:
            return _refined(drop, t, reached), ""
        t, reached = 2 * t, further
    return t, "the loss still falls there, and was followed no further"


def _refined(drop: Callable[[float], float], best: float, reached: float) -> float:
    """The step between half and twice the best one so far where the drop is highest, by golden sections."""
    low, high = best / 2, 2 * best
    for _ in range(_SECTIONS):
        further = high if high - best > best - low else low
        t = best + (1 - _GOLDEN) * (further - best)
        found = drop(t)
        if found > reached:
            low, high = (best, high) if t > best else (low, best)
            best, reached = t, found
        elif t > best:
            high = t
        else:
            low = t
    return best
