"""Escape: leave a critical point that is no minimum, downhill, and measure how much that gains.

Along v with vᵀH v = λ < 0 the loss falls: L(θ + t v) ≈ L + t gᵀv + ½ λ t². How far to go the curvature tells too: it
rises along the way, λ(t) ≈ λ + λ' t + ½ λ'' t², and the model is lowest where its slope has come back to zero, at
gᵀv + λ t + ½ λ' t² + ⅙ λ'' t³ = 0. From there a line search walks, measuring.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.notebook import shown, table
from microgradopt.objective import Objective

Array = npt.NDArray[Any]

_PROBE = 1e-2  # how far along a direction, for θ of size 1, the change of curvature is measured
_DOUBLINGS = 10  # of the step, at most
_HALVINGS = 30
_SECTIONS = 25  # golden sections: the best step to five digits
_RANDOM = 20  # directions to try where none is known to lead down
_GOLDEN = (5**0.5 - 1) / 2


class Escape(NamedTuple):
    """A way down from a critical point.

    direction: unit vector, (n,). curvature: vᵀH v along it. step: how far. theta: where that leads, (n,). value: the
    loss there. predicted: the decrease the fourth-order model promises at its lowest point. measured: the decrease
    found at `theta`. evaluations: of the loss, on the way.
    """

    direction: Array
    curvature: float
    step: float
    theta: Array
    value: float
    predicted: float
    measured: float
    evaluations: int

    def __str__(self) -> str:
        return (
            f"a step of {self.step:.3g} along a direction of curvature {self.curvature:.3g} lowers the loss by "
            f"{self.measured:.4g}, to {self.value:.4g} (predicted: {self.predicted:.4g})"
        )

    def _repr_html_(self) -> str:
        rows = {
            "loss at the start": f"{self.value + self.measured:.6g}",
            "loss at the end": f"{self.value:.6g}",
            "decrease, measured": f"{self.measured:.4g}",
            "decrease, predicted": f"{self.predicted:.4g}",
            "step": f"{self.step:.3g}",
            "curvature along it": f"{self.curvature:.3g}",
            "evaluations of the loss": self.evaluations,
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
    return max((_walk(objective, theta, value, u, -abs(slope), curvature, size) for u in downhill), key=_measured)


def search(objective: Objective, theta: Array, flat: Array, size: float, rng: np.random.Generator) -> Escape:
    """The best escape along the flat directions, the columns of `flat`, and along random mixtures of them."""
    mixtures = flat @ rng.standard_normal((flat.shape[1], _RANDOM))
    directions = np.concatenate([flat[:, :_RANDOM], mixtures], axis=1)
    return max((escape(objective, theta, v, size) for v in directions.T), key=_measured)


def _measured(found: Escape) -> float:
    return found.measured


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
    step = _highest(drop, start)
    end = theta + step * v
    measured = drop(step) if step else 0.0
    return Escape(v, curvature, step, end, value - measured, predicted, measured, evaluations)


def _model(
    objective: Objective, theta: Array, v: Array, slope: float, curvature: float, size: float
) -> tuple[float, float]:
    """Where along v the fourth-order model of the loss is lowest, and how much lower it is there."""
    h = _PROBE * size
    ahead, behind = (float(v @ objective.hvp(v, theta + t * v)) for t in (h, -h))
    third, fourth = (ahead - behind) / (2 * h), (ahead - 2 * curvature + behind) / h**2
    cubic = np.array([fourth / 6, third / 2, curvature, slope])
    roots = np.roots(cubic) if np.isfinite(cubic).all() else np.array([])
    forward = [float(t.real) for t in roots if abs(t.imag) < 1e-9 * abs(t) and t.real > 0]
    t = min(forward, default=size)  # a model that has no lowest point goes as far as θ is large
    return t, -(slope * t + curvature * t**2 / 2 + third * t**3 / 6 + fourth * t**4 / 24)


def _highest(drop: Callable[[float], float], t: float) -> float:
    """The step near t where the drop is highest; 0 where there is none."""
    reached = drop(t)
    for _ in range(_HALVINGS):
        if reached > 0:
            break
        t /= 2
        reached = drop(t)
    else:
        return 0.0
    for _ in range(_DOUBLINGS):
        further = drop(2 * t)
        if further <= reached:
            break
        t, reached = 2 * t, further
    low, high = t / 2, 2 * t
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = drop(left), drop(right)
    for _ in range(_SECTIONS):
        if at_left >= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = drop(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = drop(right)
    return max([(reached, t), (at_left, left), (at_right, right)])[1]
