"""The verdict where there are too many parameters for the whole Hessian: the ends of the spectrum, by products H v.

Negative curvature is proved when it is found; that there is none is not.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.critical.escape import escape, size_of
from microgradopt.critical.local import is_noise
from microgradopt.critical.noise import Measured, first_order, measured
from microgradopt.critical.nonsmooth import kinks
from microgradopt.critical.point import DEGENERATE, NEAR, NO_NEGATIVE, NOT_CRITICAL, SADDLE, CriticalPoint, counted
from microgradopt.curvature.lanczos import eigenpairs, tridiagonal
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import minres, norm, scale_of
from microgradopt.errors import NonFiniteError
from microgradopt.objective import Objective

Array = npt.NDArray[Any]

_ROUNDING = 10.0  # rounding makes up to so many n ε ‖H‖ of an eigenvalue
_DRIFT = 4.0  # on the way to the critical point, eigenvalues drift by up to so many times the change of H measured
_PROBES = 8
_NEWTON = 8  # steps to the critical point, at most
_SOLVED = 1e-14  # of ‖H‖: what soft directions leave of the gradient is small beside the stiff ones
_RADII = 10.0 ** np.arange(-5, 1)  # of the size of θ, at which the loss is asked
_VECTORS = 300  # of a Krylov space, at most: the memory
_HESSIANS, _SPECTRA = 6, 2  # that `classify` computes at least: at θ, its noise, and where Newton's steps lead
_SOME = 200  # rows, whose eigenvalues are timed


def outlined(
    objective: Objective,
    theta: Array,
    gradient_tolerance: float | None,
    max_products: int,
    rng: np.random.Generator,
) -> CriticalPoint:
    """See `classify`. Of the values that Lanczos' method finds, vᵀH v for orthonormal v, as many eigenvalues at least
    are below or above 0, converged or not (Cauchy's interlacing theorem).
    """
    H = HessianOperator(objective, theta)
    gradient_norm = norm(H.gradient)
    if not (math.isfinite(H.value) and math.isfinite(gradient_norm)):
        raise NonFiniteError(f"classify: the loss is {H.value}, the gradient norm {gradient_norm}")
    started = time.perf_counter()
    pairs = eigenpairs(H, k=3, which="both", max_products=max_products, rng=rng)
    seconds = _time_to_decide(objective.n, (time.perf_counter() - started) / pairs.products)
    V, here = pairs.vectors, measured(objective, theta, rng, pairs.vectors)
    tolerance = _rounding(H, rng) + max(norm(V.T @ each) for each in here.hessians)
    end = _settled(objective, theta, max_products, rng)
    distance = math.inf if end is None else float(np.linalg.norm(end - theta)) / size_of(theta)
    near = distance <= NEAR
    step = end - theta if near and end is not None else np.zeros_like(theta)
    if step.any():
        there = HessianOperator(objective, theta + step)
        tolerance += _DRIFT * float(np.linalg.norm(there @ V - V * pairs.values, 2))
    counts = counted(pairs.values, tolerance)
    negative, positive = counts["negative"] > 0, counts["positive"] > 0
    critical = near if gradient_tolerance is None else gradient_norm <= gradient_tolerance
    on_kinks = kinks(objective, theta, step)
    kind = SADDLE if negative and positive else DEGENERATE if negative else NO_NEGATIVE
    # In float32 the noise of stiff directions is larger than the slopes that soft ones have.
    is_double = theta.dtype == np.float64
    is_saddle = near and critical and not on_kinks and kind == SADDLE and is_double
    evidence = _evidence(objective, here, theta, V, rng) if is_saddle else ()
    return CriticalPoint(
        objective=objective,
        kind=kind if critical else NOT_CRITICAL,
        certified=bool(evidence),
        theta=theta,
        value=H.value,
        gradient_norm=gradient_norm,
        distance=distance,
        **counts,
        eigenvalues=pairs.values,
        eigenvectors=V,
        flat=V[:, np.abs(pairs.values) <= tolerance],
        kinks=tuple(on_kinks),
        evidence=evidence,
        complete=False,
        products=H.products,
        to_decide=(float(pairs.residuals[0]), seconds),
    )


def _settled(objective: Objective, theta: Array, max_products: int, rng: np.random.Generator) -> Array | None:
    """Where Newton's steps bring the gradient down to its own noise, along every direction; None where they do not.

    As near 0 the noise becomes smaller with every step, that of where the step began will do, for two steps in a row:
    a slope that the noise at the start has hidden stays, and is seen after the second.
    """
    rested = False
    H, here = HessianOperator(objective, theta), first_order(objective, theta, rng)
    for _ in range(_NEWTON):
        if _rests(H, here, here, max_products):
            return theta
        theta = theta + minres(H, -H.gradient, tol=_SOLVED, max_iter=max_products).x
        H, there = HessianOperator(objective, theta), first_order(objective, theta, rng)
        before, rested = rested, _rests(H, there, here, max_products)
        if before and rested:
            return theta
        if not (rested or norm(there.gradient) <= norm(here.gradient) / 2):
            break
        here = there
    return None


def _rests(H: HessianOperator, there: Measured, here: Measured, max_products: int) -> bool:
    """Whether a gradient is zero but for the noise of another place: along the Ritz vectors of the Krylov space of g.

    They part g into directions of different curvature. Those of like curvature are asked together, as the noise of the
    stiff ones would hide what is left of g along the others.
    """
    g, leak = there.gradient, _ROUNDING * float(np.finfo(H.dtype).eps) * norm(there.gradient)
    if not g.any() or not is_noise(g, here.gradients, leak):
        return not g.any()
    krylov = tridiagonal(H, g / scale_of(g), min(max_products, _VECTORS))
    values, Y = krylov.ritz()
    along, of_noise = norm(g) * Y[0], here.gradients @ krylov.basis @ Y
    sizes = np.abs(values) / max(float(np.abs(values).max()), float(np.finfo(float).tiny))
    decades = np.floor(np.log10(np.maximum(sizes, _ROUNDING * H.shape[0] * float(np.finfo(H.dtype).eps))))
    return all(is_noise(along[decades == d], of_noise[:, decades == d], leak) for d in np.unique(decades))


def _evidence(
    objective: Objective, here: Measured, theta: Array, V: Array, rng: np.random.Generator
) -> tuple[str, ...]:
    """That the loss itself falls along the lowest eigenvector and rises along the highest, in words; () if not."""
    size = size_of(theta)
    ways = [escape(objective, theta, V[:, 0], size).theta]
    ways += [theta + sign * t * size * V[:, -1] for t in _RADII for sign in (1, -1)]
    changes = [_change(objective, here, there, rng) for there in ways]
    fall, rise = -changes[0], max(changes[1:])
    if not (fall > 0 and rise > 0):
        return ()
    return (
        f"the loss falls by {fall:.2g} along the lowest eigenvector, and rises by {rise:.2g} along the highest",
        "Newton's steps bring the gradient down to its own noise, along directions of each size of curvature",
    )


def _change(objective: Objective, here: Measured, theta: Array, rng: np.random.Generator) -> float:
    """How the loss changes on the way to θ; 0 where that is noise, or not finite."""
    try:
        there = first_order(objective, theta, rng)
    except NonFiniteError:
        return 0.0
    change = there.value - here.value
    return change if here.value_noise + there.value_noise < abs(change) < math.inf else 0.0


def _time_to_decide(n: int, seconds_for_a_product: float) -> float:
    """About how many seconds the whole Hessian, some times, and its eigenvalues would take."""
    some = np.diag(np.arange(float(_SOME)))
    started = time.perf_counter()
    np.linalg.eigh(some + some.T)
    eigenvalues = (time.perf_counter() - started) * (n / _SOME) ** 3
    return _HESSIANS * n * seconds_for_a_product + _SPECTRA * eigenvalues


def _rounding(H: HessianOperator, rng: np.random.Generator) -> float:
    """max(10 n ε ‖H‖_F, ‖H − Hᵀ‖_F), both estimated from random vectors: E‖H u‖² = ‖H‖_F² for normal u."""
    U = rng.standard_normal((H.shape[0], _PROBES)).astype(H.dtype)
    HU = H @ U
    # The elements of Uᵀ(H − Hᵀ)U have the variance of ‖H − Hᵀ‖_F².
    asymmetry = norm(U.T @ HU - HU.T @ U) / _PROBES
    return max(_ROUNDING * H.shape[0] * float(np.finfo(H.dtype).eps) * norm(HU) / _PROBES**0.5, asymmetry)
