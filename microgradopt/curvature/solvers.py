"""Solvers that second-order methods are made of: linear systems by products alone, and the trust region's step.

A symmetric matrix A is whatever has a product ``A @ v``: an array, or a `HessianOperator`, which is never formed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.deprecated import old_arguments

Array = npt.NDArray[Any]

_NEWTON = 100  # iterations of the secular equation, which takes about 5
_POOR, _GOOD = 0.25, 0.75  # of the promised decrease
_ON_BOUNDARY = 0.99  # of the radius


def power_of_two(x: float) -> float:
    """The largest one that is not above x; 1 where x is 0 or not finite."""
    return math.ldexp(0.5, math.frexp(x)[1]) if 0 < x < math.inf else 1.0


def scale_of(x: Array) -> float:
    """A power of two near the largest |x|: to divide by it rounds nothing, and then no square overflows or vanishes."""
    return power_of_two(float(np.abs(x).max(initial=0.0)))


def norm(x: Array) -> float:
    """‖x‖₂, or ‖x‖_F, also where squares would overflow or vanish."""
    scale = scale_of(x)
    return scale * float(np.linalg.norm(x / scale))


class Solution(NamedTuple):
    """What a solver found.

    x: (n,). residual: ‖b − A x‖, as the iteration knows it. iterations: products with A in the iteration. status:
    "converged", "boundary" (of the trust region), "negative curvature" or "iterations" (too many). direction: d, (n,),
    with dᵀA d ≤ 0, where such curvature stopped the iteration; else None.
    """

    x: Array
    residual: float
    iterations: int
    status: str
    direction: Array | None


@old_arguments(max_iterations="max_iter")
def conjugate_gradient(
    A: Any, b: npt.ArrayLike, radius: float = math.inf, tol: float = 1e-10, max_iter: int | None = None
) -> Solution:
    """Truncated conjugate gradients: the minimum of ½ xᵀA x − bᵀx, within ‖x‖ ≤ radius.

    .. code-block:: text

        α = rᵀr / dᵀA d;   x ← x + α d;   r ← r − α A d;   β = r₊ᵀr₊ / rᵀr;   d ← r + β d

    For a positive definite A that is A x = b. Where x would leave the ball, it ends on the boundary. Where a direction
    has dᵀA d ≤ 0, it goes along d to the boundary; with an infinite radius it stops, and gives x so far, and d.

    tol: of ‖b − A x‖ / ‖b‖. max_iter: by default 10 n.

    Source: Steihaug 1983; Toint 1981; Nocedal & Wright 2006, algorithm 7.2.

    >>> conjugate_gradient(np.array([[2.0, 0.0], [0.0, 4.0]]), [2.0, 2.0]).x
    array([1. , 0.5])
    """
    b = _vector("conjugate_gradient", A, b)
    unit = scale_of(b)
    r, radius = b / unit, radius / unit
    x, d, squared = np.zeros_like(r), r, float(r @ r)

    def solution(x: Array, r: Array, k: int, status: str, direction: Array | None = None) -> Solution:
        return Solution(unit * x, unit * norm(r), k, status, direction)

    enough = tol * math.sqrt(squared)
    limit = 10 * r.size if max_iter is None else max_iter
    for k in range(limit):
        if math.sqrt(squared) <= enough:
            return solution(x, r, k, "converged")
        Ad = A @ d
        curvature = float(d @ Ad)
        if curvature <= 0:
            t = _to_boundary(x, d, radius) if radius < math.inf else 0.0
            return solution(x + t * d, r - t * Ad, k + 1, "negative curvature", d)
        t = squared / curvature
        if radius < math.inf and norm(x + t * d) >= radius:
            t = _to_boundary(x, d, radius)
            return solution(x + t * d, r - t * Ad, k + 1, "boundary")
        x, r = x + t * d, r - t * Ad
        before, squared = squared, float(r @ r)
        d = r + (squared / before) * d
    return solution(x, r, limit, "converged" if math.sqrt(squared) <= enough else "iterations")


def _vector(name: str, A: Any, b: npt.ArrayLike) -> Array:
    b = np.asarray(b)
    if b.ndim != 1 or not b.size or tuple(np.shape(A)) not in ((), (b.size, b.size)):
        raise ValueError(f"{name}: b is a vector of shape (n,), and A (n, n); not {b.shape} and {tuple(np.shape(A))}")
    if not np.isfinite(b).all():
        raise ValueError(f"{name}: b, of shape {b.shape}, is not finite")
    return b if b.dtype.kind == "f" else b.astype(float)


def _to_boundary(x: Array, d: Array, radius: float) -> float:
    """t ≥ 0 with ‖x + t d‖ = radius, for an x inside."""
    unit = power_of_two(radius)
    x, radius = x / unit, radius / unit
    a, b, c = float(d @ d), float(x @ d), float(x @ x) - radius**2
    root = math.sqrt(max(b * b - a * c, 0.0))
    return unit * (-c / (b + root) if b > 0 else (root - b) / a)  # the form without cancellation


@old_arguments(max_iterations="max_iter")
def minres(
    A: Any,
    b: npt.ArrayLike,
    tol: float = 1e-10,
    max_iter: int | None = None,
    *,
    stop_at_negative_curvature: bool = False,
) -> Solution:
    """MINRES: the x in the Krylov space of b with the smallest ‖b − A x‖, for a symmetric A, indefinite or singular.

    For a singular A and a b in its range that is the shortest solution; for b outside of it, a least-squares solution,
    known by its residual. Ends, "converged", at ‖b − A x‖ ≤ tol ‖b‖, or at ‖A r‖ ≤ tol ‖A‖ ‖r‖, for least squares.

    stop_at_negative_curvature: stop at the first residual r = b − A x with rᵀA r ≤ 0 and give it as the direction, as
    Newton-MR does. With b = −g it is a descent direction: gᵀr = −‖r‖². It is told from the recurrence, at no cost, and
    then confirmed by one more product. Before it has been found, A is positive on all that was seen, and x is a
    direction of descent as well. max_iter: by default 10 n.

    Source: Paige & Saunders 1975; Liu & Roosta 2022, "MINRES: from negative curvature detection to monotonicity
    properties", algorithm 1; Roosta, Liu, Xu & Mahoney 2022, "Newton-MR".

    >>> minres(np.array([[0.0, 2.0], [2.0, 0.0]]), [2.0, 4.0]).x.round(12)
    array([2., 1.])
    """
    b = _vector("minres", A, b)
    unit = scale_of(b)
    r = b / unit
    x, size = np.zeros_like(r), norm(r)

    def solution(k: int, status: str, direction: Array | None = None) -> Solution:
        return Solution(unit * x, unit * phi, k, status, direction)

    # As in algorithm 1: v Lanczos vectors; α, β the tridiagonal matrix; c, s reflections; φ = ‖r‖; d directions of x.
    phi, beta, c, s, delta, epsilon, largest = size, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0
    if size == 0:
        return solution(0, "converged")
    v, v_before = r / size, np.zeros_like(r)
    d, d_before = np.zeros_like(r), np.zeros_like(r)
    limit = 10 * r.size if max_iter is None else max_iter
    for k in range(limit):
        q = A @ v
        alpha = float(v @ q)
        q = q - alpha * v - beta * v_before
        beta_after = norm(q)
        largest = max(largest, math.hypot(alpha, beta, beta_after))  # column of the tridiagonal matrix: ≤ ‖A‖
        delta_k, gamma = c * delta + s * alpha, s * delta - c * alpha
        epsilon_after, delta = s * beta_after, -c * beta_after
        if math.hypot(gamma, delta) <= tol * largest:  # ‖A r‖ / ‖r‖
            return solution(k + 1, "converged")
        if stop_at_negative_curvature and c * gamma >= 0 and float(r @ (A @ r)) <= 0:  # rᵀA r = −φ² c γ
            return solution(k + 1, "negative curvature", unit * r)
        rho = math.hypot(gamma, beta_after)
        c, s = gamma / rho, beta_after / rho
        d, d_before = (v - delta_k * d - epsilon * d_before) / rho, d
        x = x + c * phi * d
        epsilon, beta = epsilon_after, beta_after
        v, v_before = q / beta if beta else q, v
        r = s * s * r - (s * phi) * c * v
        phi *= s
        if phi <= tol * size:
            return solution(k + 1, "converged")
    return solution(limit, "iterations")


def trust_region_step(values: Array, vectors: Array, g: Array, radius: float) -> Array:
    """The p of ‖p‖ ≤ radius where gᵀp + ½ pᵀH p is lowest, exactly, for H = V diag(λ) Vᵀ; of shape (n,).

    .. code-block:: text

        (H + σ I) p = −g,   σ ≥ max(0, −λ₁),   σ (radius − ‖p‖) = 0

    values: λ, (n,), ascending, and vectors: V, (n, n), as ``numpy.linalg.eigh`` gives them. σ is where 1 / ‖p(σ)‖,
    which is concave, equals 1 / radius: Newton's method from the left finds it. In the hard case g has no part along
    the eigenvector of λ₁ < 0, and p(−λ₁) ends inside: p then goes on along that eigenvector to the boundary. So a step
    is made at a saddle too, where g = 0.

    What rounding cannot tell from zero counts as zero, or p would follow the noise: an eigenvalue below n ε max |λ|, a
    part of g below n ε ‖g‖. There is then no step in a direction that has neither slope nor curvature.

    Source: Moré & Sorensen 1983; Conn, Gould & Toint 2000, chapter 7; Nocedal & Wright 2006, section 4.3.

    >>> trust_region_step(np.array([2.0, 4.0]), np.eye(2), np.array([-2.0, -4.0]), radius=5.0)
    array([1., 1.])
    """
    unit = power_of_two(radius)
    scale = power_of_two(max(-float(values[0]), float(values[-1]), float(np.abs(g).max()) / unit))
    values, g, radius = values / scale, g / unit / scale, radius / unit
    noise = values.size * float(np.finfo(values.dtype).eps)
    values = np.where(np.abs(values) <= noise * np.abs(values).max(), 0, values)
    c = vectors.T @ g
    sloped = np.where(np.abs(c) <= noise * np.linalg.norm(c), 0, c)
    least = max(0.0, -float(values[0]))
    gaps = values + least

    def at(shift: float) -> Array:
        """−p(σ) in the eigenvectors' coordinates, for σ = least + shift."""
        return np.divide(sloped, gaps + shift, out=np.zeros_like(sloped), where=sloped != 0)

    if not np.any((gaps == 0) & (sloped != 0)):
        p = at(0.0)
        size = norm(p)
        if size <= radius:
            if least:  # the hard case
                p[0] = math.copysign(math.sqrt(radius**2 - size**2), c[0])
            return -unit * (vectors @ p)
    # Each part of p alone is at most as long as p: this σ is on the left of the solution, and within its reach.
    shift = max(0.0, float(np.max(np.abs(sloped) / radius - gaps)))
    for _ in range(_NEWTON):
        p = at(shift)
        size = norm(p)
        slope = float(np.sum(np.divide(p * p, gaps + shift, out=np.zeros_like(p), where=p != 0)))
        change = size**2 / slope * (size - radius) / radius
        if shift + change <= shift:
            break
        shift += change
    return -unit * (vectors @ p)


def trust_region_radius(radius: float, length: float, ratio: float) -> float:
    """The next Δ, after a step p of that length: ¼ ‖p‖ if ρ < ¼; 2 Δ if ρ > ¾ and ‖p‖ = Δ; else Δ.

    ratio: ρ, the decrease that was found over that which the model promised; NaN counts as none.

    Source: Nocedal & Wright 2006, algorithm 4.1.

    >>> trust_region_radius(1.0, 1.0, 0.9), trust_region_radius(1.0, 0.5, 0.9), trust_region_radius(1.0, 1.0, 0.1)
    (2.0, 1.0, 0.25)
    """
    if not ratio >= _POOR:
        return length / 4
    return 2 * radius if ratio > _GOOD and length > _ON_BOUNDARY * radius else radius
