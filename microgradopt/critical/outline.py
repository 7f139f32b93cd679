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
from microgradopt.critical.nonsmooth import kinks
from microgradopt.critical.point import DEGENERATE, NEAR, NO_NEGATIVE, NOT_CRITICAL, SADDLE, CriticalPoint, Margin
from microgradopt.curvature.lanczos import eigenpairs
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import minres
from microgradopt.errors import NonFiniteError
from microgradopt.objective import Objective

Array = npt.NDArray[Any]

_ROUNDING = 10.0  # rounding makes up to so many n ε ‖H‖ of an eigenvalue
_DRIFT = 4.0  # on the way to the critical point, eigenvalues drift by up to so many times the change of H measured
_PROBES = 8
_RADII = 10.0 ** np.arange(-5, 1)  # of the size of θ, at which the loss is asked
_NOISE = 1e2  # units of rounding of the loss
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
    if not (math.isfinite(H.value) and np.isfinite(H.gradient).all()):
        raise NonFiniteError(f"classify: the loss is {H.value}, the gradient norm {np.linalg.norm(H.gradient)}")
    started = time.perf_counter()
    pairs = eigenpairs(H, k=3, which="both", max_products=max_products, rng=rng)
    seconds = _time_to_decide(objective.n, (time.perf_counter() - started) / pairs.products)
    rounding = _rounding(H, rng)
    size = size_of(theta)
    step = minres(H, -H.gradient, max_iter=max_products).x
    left = float(np.linalg.norm(H @ step + H.gradient))
    distance = float(np.linalg.norm(step)) / size if left <= rounding * size else math.inf
    near = distance <= NEAR
    tolerance = rounding
    if near and step.any():
        there = HessianOperator(objective, theta + step)
        V = pairs.vectors
        tolerance += _DRIFT * float(np.linalg.norm(there @ V - V * pairs.values, 2))
    negative, positive = pairs.values < -tolerance, pairs.values > tolerance
    gradient_norm = float(np.linalg.norm(H.gradient))
    critical = near if gradient_tolerance is None else gradient_norm <= gradient_tolerance
    on_kinks = kinks(objective, theta, step if near else None)
    kind = SADDLE if negative.any() and positive.any() else DEGENERATE if negative.any() else NO_NEGATIVE
    is_saddle = near and critical and not on_kinks and kind == SADDLE
    seen = _seen(objective, theta, pairs.vectors, H.value, size) if is_saddle else ""
    sizes = np.abs(pairs.values)
    smallest = [sizes[which].min() / tolerance if which.any() else math.inf for which in (negative, positive)]
    return CriticalPoint(
        objective=objective,
        kind=kind if critical else NOT_CRITICAL,
        certified=bool(seen),
        theta=theta,
        value=H.value,
        gradient_norm=gradient_norm,
        distance=distance,
        negative=int(negative.sum()),
        zero=int((~(negative | positive)).sum()),
        positive=int(positive.sum()),
        tolerance=tolerance,
        margin=Margin(smallest[0], math.inf, smallest[1]),
        eigenvalues=pairs.values,
        eigenvectors=pairs.vectors,
        flat=pairs.vectors[:, ~(negative | positive)],
        kinks=tuple(on_kinks),
        evidence=(seen,) if seen else (),
        complete=False,
        products=H.products,
        to_decide=(float(pairs.residuals[0]), seconds),
    )


def _seen(objective: Objective, theta: Array, vectors: Array, value: float, size: float) -> str:
    """That the loss itself falls along the lowest eigenvector and rises along the highest, in words; "" if not."""
    noise = _NOISE * float(np.finfo(theta.dtype).eps) * abs(value)
    down = escape(objective, theta, vectors[:, 0], size)
    rises = [objective.value(theta + sign * t * size * vectors[:, -1]) - value for t in _RADII for sign in (1, -1)]
    up = max((rise for rise in rises if math.isfinite(rise)), default=0.0)
    if not (down.measured > noise and up > noise):
        return ""
    return (
        f"the loss falls by {down.measured:.2g} along the lowest eigenvector, and rises by {up:.2g} along the highest"
    )


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
    norm = float(np.sqrt(np.mean(np.sum(HU * HU, axis=0))))
    # The elements of Uᵀ(H − Hᵀ)U have the variance of ‖H − Hᵀ‖_F².
    asymmetry = float(np.sqrt(np.mean(np.square(U.T @ HU - HU.T @ U))))
    return max(_ROUNDING * H.shape[0] * float(np.finfo(H.dtype).eps) * norm, asymmetry)
