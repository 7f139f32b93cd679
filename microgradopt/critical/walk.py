"""From where training ended to the nearest critical point: of what kind it is, how far, and how much lower."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.critical.escape import size_of
from microgradopt.critical.point import NOT_CRITICAL, CriticalPoint
from microgradopt.critical.verdict import classify
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import trust_region_step
from microgradopt.objective import Objective, check_objective

Array = npt.NDArray[Any]

_FAR = 1e3  # times the size of θ: it is followed no further
_STILL = 1e-3  # of the way: a last step as long as this, and no end is in sight
_SMALLEST = 1e-12  # of the size of θ


class Nearest(NamedTuple):
    """Where Newton's steps downhill lead to.

    point: the verdict there. distance: ‖θ* − θ‖. gain: L(θ) − L(θ*). steps: how many it took. last: how long the last
    of them was.
    """

    point: CriticalPoint
    distance: float
    gain: float
    steps: int
    last: float

    def __str__(self) -> str:
        if self.point.kind != NOT_CRITICAL:
            return f"{self.gain:.3g} above a {self.point.verdict}, {self.distance:.3g} away"
        way = f"after {self.steps} steps downhill, {self.distance:.3g} away and {self.gain:.3g} lower"
        if self.last > _STILL * self.distance:
            return f"no critical point within reach: {way}, the loss still falls, as it does towards infinity"
        lowest = self.point.eigenvalues[0]
        return f"no critical point {way}: the gradient norm is {self.point.gradient_norm:.3g}, λ_min = {lowest:.2g}"


def nearest(
    objective: Objective,
    theta: npt.ArrayLike | None = None,
    max_iter: int = 60,
    rng: np.random.Generator | int | None = 0,
) -> Nearest:
    """Walk downhill from θ by Newton's method with a trust region, and say what is there.

    theta: (n,); by default the objective's own, which stays. max_iter: steps at most, each with a whole Hessian. rng:
    as for `classify`. Raises what `classify` raises.

    >>> import microgradopt as mg
    >>> print(nearest(mg.Objective(lambda w: (w[0] - 1) ** 2 + (w[1] * w[0] - 2) ** 2, [2.0, 2.0])))
    5 above a local minimum (certified), 1 away
    """
    check_objective("nearest", objective)
    start = objective.theta if theta is None else np.array(theta, objective.theta.dtype)
    value = first = objective.value(start)
    end, radius, steps, last = start, size_of(start), 0, 0.0
    with np.errstate(all="ignore"):
        for steps in range(1, max_iter + 1):  # noqa: B007 (told afterwards)
            H = HessianOperator(objective, end)
            values, vectors = np.linalg.eigh(H.dense())
            p = trust_region_step(values, vectors, H.gradient, radius)
            foretold = -float(H.gradient @ p + p @ (vectors @ (values * (vectors.T @ p))) / 2)
            new = objective.value(end + p)
            ratio = (value - new) / foretold if foretold > 0 and math.isfinite(new) else 0.0
            length = float(np.linalg.norm(p))
            radius = length / 4 if ratio < 0.25 else 2 * radius if ratio > 0.75 and length > 0.9 * radius else radius
            if ratio > 1e-4:
                end, value, last = end + p, new, length
            if min(length, radius) <= _SMALLEST * size_of(end) or np.linalg.norm(end) > _FAR * size_of(start):
                break
    return Nearest(
        classify(objective, end, rng=rng),
        float(np.linalg.norm(end - start)),
        first - objective.value(end),
        steps,
        last,
    )
