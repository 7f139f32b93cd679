"""What kind of point is this?

Near a point with ∇L = 0 the loss is L(θ + v) ≈ L(θ) + ½ vᵀH v, so that the signs of H's eigenvalues decide: all
positive, a local minimum; all negative, a maximum; both, a saddle. A computer knows neither the gradient nor an
eigenvalue exactly. So they are decided against their own noise, in units of their own (local.py); critical is what
Newton's steps confirm; flat directions are followed (flat.py), kinks asked of the records (nonsmooth.py); and before a
verdict is certified, it is attacked (attack.py).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.critical.attack import breaks
from microgradopt.critical.flat import is_surface
from microgradopt.critical.local import Local, local, settled
from microgradopt.critical.nonsmooth import Kink, kinks
from microgradopt.critical.outline import outlined
from microgradopt.critical.point import (
    DEGENERATE,
    ELSEWHERE,
    MAXIMUM,
    MINIMUM,
    NEAR,
    NOT_CRITICAL,
    ON_KINK,
    SADDLE,
    CriticalPoint,
    counted,
)
from microgradopt.critical.symmetry import symmetries
from microgradopt.curvature.solvers import norm
from microgradopt.deprecated import old_arguments
from microgradopt.errors import NonFiniteError
from microgradopt.objective import Objective, check_objective

Array = npt.NDArray[Any]

_BENT = 0.1  # a relative change of the curvature that can be seen
_FURTHER = 10.0 ** np.arange(6, 300, 6)  # times the step


@old_arguments(products="max_products")
@np.errstate(all="ignore")  # singular points are named in the verdict
def classify(
    objective: Objective,
    theta: npt.ArrayLike | None = None,
    gradient_tolerance: float | None = None,
    dense_up_to: int = 2000,
    max_products: int = 500,
    rng: np.random.Generator | int | None = 0,
) -> CriticalPoint:
    """The verdict on θ: local minimum, local maximum, saddle point, degenerate, or not critical.

    theta: (n,); by default the objective's own; or the OptimizeResult of SciPy: its x, and `evidence` begins with what
    SciPy said. gradient_tolerance: count the point as critical when ‖g‖ is at most this, as the lecture does with 1e-3;
    such a verdict is certified only if it would have been without. dense_up_to: for larger n only the ends of the
    spectrum are computed, by Lanczos' method with about `max_products` products H v; then negative curvature can be
    proved, but not its absence, and nothing is certified in float32. rng: a Generator or a seed, for all that is tried.

    1. Units: H is replaced by D H D, with D diagonal so that every row has size 1, which changes no sign (Sylvester).
       Scaling a parameter or the loss changes no verdict.
    2. θ is critical when Newton's steps −H⁺g bring the gradient down to its own noise, and stay within 1e-3 of the size
       of θ. The noise is measured: the computation is run again with each intermediate value moved by rounding.
    3. An eigenvalue is zero when it is within the noise of D H D. Flat directions do no harm where they are tangent to
       a surface of critical points: it is walked, and the whole gradient has to stay zero (Morse-Bott lemma). With
       other flat directions the point is degenerate. One negative and one positive eigenvalue make a saddle, whatever
       the others are.
    4. Where the loss is not smooth (`kinks`) nothing is certified; where the Hessian is not finite there, the kind is
       "on a kink".
    5. Before a verdict is certified, the loss is asked at points nearby. `evidence` says what was tried.

    Raises NonFiniteError where loss, gradient or, away from such places, the Hessian are not finite.

    >>> import microgradopt as mg
    >>> classify(mg.Objective(lambda w: w[0] ** 2 - w[1] ** 2, [0.0, 0.0])).kind
    'saddle point'
    """
    check_objective("classify", objective)
    if hasattr(theta, "success"):
        result: Any = theta
        answer = classify(objective, result.x, gradient_tolerance, dense_up_to, max_products, rng)
        said = f"SciPy: success={result.success}, {result.message!r}; it is: {answer.kind}"
        return replace(answer, evidence=(said, *answer.evidence))
    rng = np.random.default_rng(rng)
    theta = objective.theta if theta is None else np.array(theta, objective.theta.dtype)
    if objective.n > dense_up_to:
        return outlined(objective, theta, gradient_tolerance, max_products, rng)
    try:
        start = local(objective, theta, rng)
    except NonFiniteError:
        if found := kinks(objective, theta):
            return _on_kink(objective, theta, found)
        raise
    end = settled(start, rng)
    distance = _distance(start, end)
    near = distance <= NEAR or (end is not None and _is_small(start, end))
    gradient_norm = float(np.linalg.norm(start.gradient / start.units)) * start.scale
    critical = near if gradient_tolerance is None else gradient_norm <= gradient_tolerance
    point = end if near and end is not None else start
    on_kinks = kinks(objective, theta, point.theta - theta)
    counts = counted(point.values, point.tolerance)
    negative, zero, positive = (counts[sign] for sign in ("negative", "zero", "positive"))
    is_saddle = negative > 0 and positive > 0
    explained, reasons = _explained(point, rng) if zero and critical and near and not is_saddle else (0, [])
    kind = _kind(negative, zero, positive, explained) if critical else NOT_CRITICAL
    certifiable = near and critical and kind != DEGENERATE and not on_kinks
    found_breaks, ways = breaks(point, {MINIMUM: 1, MAXIMUM: -1}.get(kind, 0), rng) if certifiable else ([], 0)
    certifiable = certifiable and ways > 0
    kind = DEGENERATE if found_breaks else kind
    evidence = _evidence(point, explained, ways) if certifiable else []
    values, vectors = np.linalg.eigh(start.hessian)
    values *= start.scale
    return CriticalPoint(
        objective=objective,
        kind=kind,
        certified=certifiable and not found_breaks,
        theta=theta,
        value=start.value * start.scale,
        gradient_norm=gradient_norm,
        distance=distance,
        **counts,
        eigenvalues=values.astype(theta.dtype),
        eigenvectors=vectors.astype(theta.dtype),
        flat=np.linalg.qr(point.units[:, None] * point.flat)[0],
        units=point.units,
        explained=explained,
        symmetries=tuple(reasons),
        kinks=tuple(on_kinks),
        evidence=tuple(evidence),
        broken=tuple(found_breaks),
        products=objective.n,
    )


def _distance(start: Local, end: Local | None) -> float:
    """How far the critical point is: the largest change of a parameter, relative to it; infinite where there is none.

    Parameter by parameter, as a norm would be that of the stiffest, or largest, alone.
    """
    if end is None:
        return math.inf
    change, size = np.abs(end.theta - start.theta).astype(float), np.abs(start.theta).astype(float)
    return float(np.divide(change, size, out=np.where(change > 0, np.inf, 0.0), where=size > 0).max())


def _is_small(start: Local, end: Local) -> bool:
    """Whether the way to a critical point at 0 is short beside that on which the curvature changes.

    Near 0 the size of θ is no measure. A quadratic has no such length: nothing but its critical point is critical.
    """
    far = np.abs(end.theta - start.theta) > NEAR * np.abs(start.theta)
    if norm((end.theta / start.units)[far]) > NEAR * norm((start.theta / start.units)[far]):
        return False
    step = (end.theta - start.theta) / start.units
    way = end.units * step
    bent = end.objective.hvp(way, end.theta)

    def change(times: float) -> float:
        there = end.objective.hvp(way, end.theta + times * way)
        return norm(end.units * (there - bent)) / norm(end.units * bent)

    return change(1 / NEAR) <= _BENT and any(change(times) > _BENT for times in _FURTHER)


def _explained(point: Local, rng: np.random.Generator) -> tuple[int, list[str]]:
    """How many of the flat directions do no harm, and why."""
    zero = point.flat.shape[1]
    named, why = symmetries(point, rng)
    if not point.curved.any() or not is_surface(point, rng):
        return named if named < zero else 0, why
    rest = [f"{zero - named} by following them: the gradient stays zero"] if named < zero else []
    return zero, [*why, *rest]


def _evidence(point: Local, explained: int, ways: int) -> list[str]:
    """What a verdict has survived, in words. Nothing is certified on a kink."""
    left, noise = norm(point.gradient), max(map(norm, point.noise))
    told = [
        f"Newton's steps bring the gradient down to {left:.1g}, in units of its own, where its noise is {noise:.1g}",
        f"{len(point.theta)} eigenvalues in units of their own, decided against a noise of {point.tolerance:.1g}",
    ]
    told += [f"{explained} flat directions followed, both ways: the gradient stays zero"] if explained else []
    elsewhere = point.objective.external_loss
    if elsewhere is None:
        told.append("no operation is on a kink, at a jump or at a singular point")
    else:
        told.append(f"{'that it is smooth was said' if elsewhere.smooth else 'kinks were not seen'}: {ELSEWHERE}")
    return [*told, f"the loss changes along {ways} ways nearby, and its first change is as foretold along each"]


def _kind(negative: int, zero: int, positive: int, explained: int) -> str:
    if negative and positive:
        return SADDLE
    if zero > explained or not (negative or positive):
        return DEGENERATE
    return MINIMUM if positive else MAXIMUM


def _on_kink(objective: Objective, theta: Array, found: list[Kink]) -> CriticalPoint:
    """The verdict where there are no second derivatives."""
    value, gradient = objective.value_and_gradient(theta)
    none = np.zeros((objective.n, 0), theta.dtype)
    return CriticalPoint(
        objective=objective,
        kind=ON_KINK,
        certified=False,
        theta=theta,
        value=value,
        gradient_norm=float(np.linalg.norm(gradient)),
        eigenvalues=none[0],
        eigenvectors=none,
        flat=none,
        kinks=tuple(found),
        complete=False,
        products=objective.n,
    )
