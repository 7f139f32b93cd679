"""What kind of point is this?

Near a point with ∇L = 0 the loss is L(θ + v) ≈ L(θ) + ½ vᵀH v, so that the signs of H's eigenvalues decide: all
positive, a local minimum; all negative, a maximum; both, a saddle. A computer knows neither the gradient nor an
eigenvalue exactly. So every sign is decided against what rounding, and not being quite there, can do to it; and what
cannot be decided is said to be undecided.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.critical.escape import size_of
from microgradopt.critical.nonsmooth import Kink, kinks
from microgradopt.critical.point import (
    DEGENERATE,
    MAXIMUM,
    MINIMUM,
    NO_NEGATIVE,
    NOT_CRITICAL,
    ON_KINK,
    SADDLE,
    CriticalPoint,
    Margin,
)
from microgradopt.critical.symmetry import explained, symmetries
from microgradopt.curvature.lanczos import eigenpairs
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import minres
from microgradopt.curvature.spectrum import dense_spectrum
from microgradopt.deprecated import old_arguments
from microgradopt.errors import NonFiniteError
from microgradopt.objective import Objective

Array = npt.NDArray[Any]

_ROUNDING = 10.0  # rounding makes up to so many n ε ‖H‖ of an eigenvalue
_DRIFT = 4.0  # on the way to the critical point, eigenvalues drift by up to so many times the change of H measured
_NEAR = 1e-3  # how far the critical point may be, for θ of size 1


@np.errstate(divide="ignore", invalid="ignore")  # singular points are named in the verdict
@old_arguments(products="max_products")
def classify(
    objective: Objective,
    theta: npt.ArrayLike | None = None,
    gradient_tolerance: float | None = None,
    dense_up_to: int = 2000,
    max_products: int = 500,
    rng: np.random.Generator | int | None = 0,
) -> CriticalPoint:
    """The verdict on θ: local minimum, local maximum, saddle point, degenerate, or not critical.

    theta: (n,); by default the objective's own. gradient_tolerance: count the point as critical when ‖g‖ is at most
    this, as the lecture does with 1e-3; such a verdict is certified only if it would have been without. dense_up_to:
    for larger n only the ends of the spectrum are computed, by Lanczos' method with about `max_products` products H v;
    then negative curvature can be proved, but not its absence. rng: a Generator or a seed, for Lanczos' start and for
    trying symmetries.

    θ is critical when the critical point that Newton's step H⁺g leads to is within 1e-3 of the size of θ, and what
    gradient there is along flat directions is rounding. An eigenvalue is zero when it is within the tolerance
    τ = max(10 n ε ‖H‖_F, ‖H − Hᵀ‖_F) + 4 ‖H(θ + H⁺g) − H(θ)‖_F (Weyl's inequality; for ε that of θ's dtype). Both are
    relative: scaling the loss changes no verdict.

    Flat directions that are symmetries of the loss (`symmetries`), with all other curvature positive, make a minimum
    that is not strict; with flat directions that are not explained the point is degenerate. One negative and one
    positive eigenvalue make a saddle, whatever the others are.

    A place where the loss is not smooth (`kinks`) is never certified; where the Hessian is not finite there, the kind
    is "on a kink".

    Raises NonFiniteError where loss, gradient or, away from such places, the Hessian are not finite.

    >>> import microgradopt as mg
    >>> classify(mg.Objective(lambda w: w[0] ** 2 - w[1] ** 2, [0.0, 0.0])).kind
    'saddle point'
    """
    rng = np.random.default_rng(rng)
    H = HessianOperator(objective, theta)
    theta = objective.theta if theta is None else np.array(theta, H.dtype)
    _check_finite(H)
    try:
        spectrum = _dense(H) if objective.n <= dense_up_to else _ends(H, max_products, rng)
    except NonFiniteError:
        if found := kinks(objective, theta):
            return _on_kink(objective, theta, H, found)
        raise
    step, stray = _newton_step(H, spectrum, max_products)
    size = size_of(theta)
    distance = float(np.linalg.norm(step)) / size
    near = distance <= _NEAR and stray <= spectrum.rounding * size
    tolerance = spectrum.rounding + (_DRIFT * _drift(objective, theta, step, spectrum) if near else 0.0)
    negative, zero, positive = _split(spectrum, tolerance)
    gradient_norm = float(np.linalg.norm(H.gradient))
    critical = near if gradient_tolerance is None else gradient_norm <= gradient_tolerance
    on_kinks = kinks(objective, theta, step if near else None)
    why: tuple[int, list[str]] = (0, [])
    if critical and spectrum.complete and zero.any():
        row_norms = np.linalg.norm(spectrum.vectors * spectrum.values, axis=1)
        families = symmetries(objective, theta, row_norms <= spectrum.rounding, spectrum.norm, size, rng)
        why = explained(families, theta, spectrum.vectors[:, zero], size)
    counts = int(negative.sum()), int(zero.sum()), int(positive.sum())
    kind = _kind(*counts, why[0], spectrum.complete) if critical else NOT_CRITICAL
    return CriticalPoint(
        objective=objective,
        kind=kind,
        certified=near and critical and not on_kinks and kind not in (DEGENERATE, NO_NEGATIVE),
        theta=theta,
        value=H.value,
        gradient_norm=gradient_norm,
        distance=distance if stray <= spectrum.rounding * size else math.inf,
        negative=counts[0],
        zero=counts[1],
        positive=counts[2],
        tolerance=tolerance,
        margin=_margin(np.abs(spectrum.values), tolerance, negative, zero, positive),
        eigenvalues=spectrum.values,
        eigenvectors=spectrum.vectors,
        explained=why[0],
        symmetries=tuple(why[1]),
        kinks=tuple(on_kinks),
        complete=spectrum.complete,
        products=H.products,
    )


def _on_kink(objective: Objective, theta: Array, H: HessianOperator, found: list[Kink]) -> CriticalPoint:
    """The verdict where there are no second derivatives."""
    return CriticalPoint(
        objective=objective,
        kind=ON_KINK,
        certified=False,
        theta=theta,
        value=H.value,
        gradient_norm=float(np.linalg.norm(H.gradient)),
        distance=math.inf,
        negative=0,
        zero=0,
        positive=0,
        tolerance=0.0,
        margin=Margin(math.inf, math.inf, math.inf),
        eigenvalues=np.zeros(0, H.dtype),
        eigenvectors=np.zeros((objective.n, 0), H.dtype),
        explained=0,
        symmetries=(),
        kinks=tuple(found),
        complete=False,
        products=H.products,
    )


def _kind(negative: int, zero: int, positive: int, explained: int, complete: bool) -> str:
    if negative and positive:
        return SADDLE
    if not complete:
        return DEGENERATE if negative else NO_NEGATIVE
    if zero > explained or not (negative or positive):
        return DEGENERATE
    return MINIMUM if positive else MAXIMUM


def _margin(sizes: Array, tolerance: float, negative: Array, zero: Array, positive: Array) -> Margin:
    def ratio(numerator: float, denominator: float) -> float:
        return numerator / denominator if denominator > 0 else math.inf

    smallest = [ratio(sizes[which].min(), tolerance) if which.any() else math.inf for which in (negative, positive)]
    return Margin(smallest[0], ratio(tolerance, sizes[zero].max(initial=0.0)), smallest[1])


# What is known of the spectrum ----------------------------------------------------------------------------------------


class _Spectrum(NamedTuple):
    """values: ascending. vectors: columns. rounding: the tolerance where the gradient is 0. norm: ‖H‖_F."""

    values: Array
    vectors: Array
    rounding: float
    norm: float
    complete: bool


def _dense(H: HessianOperator) -> _Spectrum:
    matrix = H.dense()
    if not np.isfinite(matrix).all():
        raise NonFiniteError(f"classify: the Hessian of shape {H.shape} is not finite; mg.detect_anomaly() finds where")
    values, vectors, asymmetry, norm = dense_spectrum(matrix)
    return _Spectrum(values, vectors, _rounding(H, norm, asymmetry), norm, True)


def _ends(H: HessianOperator, max_products: int, rng: np.random.Generator) -> _Spectrum:
    """A few eigenvalues from both ends. ‖H‖_F is estimated from random vectors: E‖H u‖² = ‖H‖_F² for normal u."""
    pairs = eigenpairs(H, k=3, which="both", max_products=max_products, rng=rng)
    U = rng.standard_normal((H.shape[0], 8)).astype(H.dtype)
    HU = H @ U
    norm = float(np.sqrt(np.mean(np.sum(HU * HU, axis=0))))
    products_of_pairs = U.T @ HU
    # The elements of U^T (H - H^T) U have the variance of ||H - H^T||_F^2.
    asymmetry = float(np.sqrt(np.mean(np.square(products_of_pairs - products_of_pairs.T))))
    return _Spectrum(pairs.values, pairs.vectors, _rounding(H, norm, asymmetry), norm, False)


def _rounding(H: HessianOperator, norm: float, asymmetry: float) -> float:
    """max(10 n ε ‖H‖_F, ‖H − Hᵀ‖_F)."""
    return max(_ROUNDING * H.shape[0] * float(np.finfo(H.dtype).eps) * norm, asymmetry)


def _split(spectrum: _Spectrum, tolerance: float) -> tuple[Array, Array, Array]:
    """Which values are negative, zero and positive.

    Of the values that Lanczos finds, vᵀH v for orthonormal v, as many eigenvalues at least are below or above 0,
    converged or not (Cauchy's interlacing theorem).
    """
    negative, positive = spectrum.values < -tolerance, spectrum.values > tolerance
    return negative, ~(negative | positive), positive


# How near the critical point is ---------------------------------------------------------------------------------------


def _newton_step(H: HessianOperator, spectrum: _Spectrum, max_products: int) -> tuple[Array, float]:
    """−H⁺g, the step to the critical point; and how much gradient is left along directions without curvature."""
    if not spectrum.complete:
        solution = minres(H, -H.gradient, max_iter=max_products)
        return solution.x, float(np.linalg.norm(H @ solution.x + H.gradient))
    along = spectrum.vectors.T @ H.gradient
    curved = np.abs(spectrum.values) > spectrum.rounding
    step = -spectrum.vectors[:, curved] @ (along[curved] / spectrum.values[curved])
    return step, float(np.linalg.norm(along[~curved]))


def _drift(objective: Objective, theta: Array, step: Array, spectrum: _Spectrum) -> float:
    """How much H changes on the way: ‖H(θ + step) − H(θ)‖_F; matrix-free, on the eigenvectors that are known."""
    if not step.any():
        return 0.0
    there = HessianOperator(objective, theta + step)
    V = spectrum.vectors
    HV, norm = (there.dense() @ V, None) if spectrum.complete else (there @ V, 2)
    return float(np.linalg.norm(HV - V * spectrum.values, norm))


def _check_finite(H: HessianOperator) -> None:
    if not (math.isfinite(H.value) and np.isfinite(H.gradient).all()):
        raise NonFiniteError(
            f"classify: the loss is {H.value} and the gradient norm {np.linalg.norm(H.gradient)}: there is nothing to "
            "classify; mg.detect_anomaly() finds the operation that made it"
        )
