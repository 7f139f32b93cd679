"""Rules of linear algebra: norms, inverses and determinants, and the decompositions.

Matrices stand in the last two axes; leading axes are batches. Formulas: Giles, "An extended collection of matrix
derivative results for forward and reverse mode algorithmic differentiation" (2008); for the decompositions also
Townsend, "Differentiating the singular value decomposition" (2016) and Murray, "Differentiation of the Cholesky
decomposition" (2016).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgradopt.rules.elementwise import _times, direction
from microgradopt.rules.reductions import Axis, checked_axes, kept, together
from microgradopt.rules.registry import NotDifferentiableError, composed, composite, derivative, numpys_own

Array = Any

# Norms ----------------------------------------------------------------------------------------------------------------


@composite(
    lambda g, out, x, axis, keepdims: kept(g, x.shape, axis) * direction(x, kept(out, x.shape, axis)),
    kink=lambda out, x, axis, keepdims: out,
    sign="‖x‖",
)
def euclidean_norm(x: Array, axis: Axis, keepdims: bool) -> Array:
    """sqrt(Σ x²) over `axis`. At 0 its subgradient is 0, so that norm(x)**2 has the gradient it should."""
    if isinstance(axis, int):
        return np.linalg.norm(x, axis=axis, keepdims=keepdims)
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


@composed(np.linalg.norm, sign="‖x‖")
def _norm(x: Array, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Array:
    axes = checked_axes(x.ndim, axis)
    if len(axes) == 1:
        return _vector_norm(x, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    if (ord, axis) == (None, None) or (len(axes), ord) in ((2, None), (2, "fro")):
        return euclidean_norm(x, axes, keepdims)
    if len(axes) == 2:
        result = _matrix_norm(np.moveaxis(x, axes, (-2, -1)), ord)
        return kept(result, x.shape, axes) if keepdims else result
    raise ValueError(f"norm: ord={ord!r} is for vectors and matrices, not for {len(axes)} axes of shape {x.shape}")


composed(np.linalg.matrix_norm)(lambda x, *, keepdims=False, ord="fro": _norm(x, ord, (-2, -1), keepdims))


@composed(np.linalg.vector_norm)
def _vector_norm(x: Array, /, *, axis: Axis = None, keepdims: bool = False, ord: Any = 2) -> Array:
    axes = checked_axes(x.ndim, axis)
    if ord == 2:
        return euclidean_norm(x, axes[0] if len(axes) == 1 else axes, keepdims)
    if isinstance(ord, str):
        raise ValueError(f"norm: ord={ord!r} is not a norm of vectors; it takes two axes, or a number")
    if ord == 0:
        raise NotDifferentiableError("norm: ord=0 counts nonzero elements and has no derivative; ord=1 is its relative")
    if math.isinf(ord):
        extremum = np.max if ord > 0 else np.min
        return extremum(np.abs(x), axis=axes, keepdims=keepdims)
    if len(axes) == 1:
        return _power_norm(x, ord, axes[0], keepdims)
    result = _power_norm(together(x, axes), ord, 0, False)
    return kept(result, x.shape, axes) if keepdims else result


@composite(
    lambda g, out, x, ord, axis, keepdims: (
        kept(g, x.shape, axis) * _times(np.sign(x), direction(np.abs(x), kept(out, x.shape, axis)) ** (ord - 1))
    ),
    kink=lambda out, x, ord, axis, keepdims: np.min(np.abs(x), axis=axis, initial=math.inf),
)
def _power_norm(x: Array, ord: float, axis: int, keepdims: bool) -> Array:
    """(Σ |x|ᵖ)^(1/p), p = `ord`. At 0 its subgradient is 0."""
    return np.linalg.norm(x, ord, axis, keepdims)


def _matrix_norm(x: Array, ord: Any) -> Array:
    if ord in ("nuc", 2, -2):
        reduce: Any = {"nuc": np.sum, 2: np.max, -2: np.min}[ord]
        return reduce(np.linalg.svdvals(x), axis=-1)
    if ord in (1, -1, math.inf, -math.inf):
        extremum = np.max if ord > 0 else np.min
        return extremum(np.sum(np.abs(x), axis=-2 if abs(ord) == 1 else -1), axis=-1)
    raise ValueError(f"norm: ord={ord!r} is not a matrix norm; use 'fro', 'nuc', inf, -inf, 1, -1, 2 or -2")


# Inverses and determinants --------------------------------------------------------------------------------------------


def _from_singular(out: Array, a: Array, *args: Any, **kwargs: Any) -> Array:
    """How far the matrix is from a singular one, in the 2-norm: its smallest singular value."""
    return np.linalg.svd(a, compute_uv=False).min(axis=-1, initial=math.inf)


derivative(np.linalg.inv, lambda g, out, a: -(out.mT @ g @ out.mT), singular=_from_singular, sign="x⁻¹")


def _solve_b(g: Array, out: Array, a: Array, b: Array) -> Array:
    # A vector b goes with every matrix of a batch; a stack of results would be taken for the columns of one matrix.
    return np.linalg.solve(a.mT, g[..., None])[..., 0] if b.ndim == 1 else np.linalg.solve(a.mT, g)


def _solve_a(g: Array, out: Array, a: Array, b: Array) -> Array:
    gb = _solve_b(g, out, a, b)
    return -(gb[..., :, None] * out[..., None, :]) if b.ndim == 1 else -(gb @ out.mT)


derivative(np.linalg.solve, _solve_a, _solve_b, broadcasts=True, singular=_from_singular)


def _pinv_rule(
    g: Array, out: Array, a: Array, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue
) -> Array:
    """With P = A⁺: −Pᵀ G Pᵀ + (I − A P) Gᵀ P Pᵀ + Pᵀ P Gᵀ (I − P A). Golub & Pereyra 1973, equation 4.12."""
    rows, columns = (np.eye(n, dtype=a.dtype) for n in a.shape[-2:])
    a = _symmetric(np.tril(a) * 2 - a * rows) if hermitian else a  # of which NumPy reads one triangle
    inside = -(out.mT @ g @ out.mT)
    result = inside + (rows - a @ out) @ g.mT @ out @ out.mT + out.mT @ out @ g.mT @ (columns - out @ a)
    return _symmetric(result) if hermitian else result


def _from_lower_rank(
    out: Array, a: Array, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue
) -> Array:
    """How near a singular value is to the cut below which it counts as zero: there the rank jumps."""
    s = np.linalg.svd(a, compute_uv=False, hermitian=hermitian)
    if rcond is None:
        default = max(a.shape[-2:]) * np.finfo(a.dtype).eps if rtol is None else rtol
        rcond = 1e-15 if rtol is np._NoValue else default
    cut = np.asarray(rcond)[..., None] * s.max(axis=-1, keepdims=True, initial=0)
    return np.abs(s - cut).min(axis=-1, initial=math.inf)


derivative(np.linalg.pinv, _pinv_rule, jump=_from_lower_rank)


def _cofactor_rule(g: Array, out: Array, a: Array) -> Array:
    """In the bases of the SVD, with W_ij = Π_{k≠i,j} s_k and Ĝ = det(U) det(V) Uᵀ G V.

    Each cofactor is a minor, linear in every element. The gradient is det(U) det(V) U (diag(W diag Ĝ) − W ∘ Ĝᵀ) Vᵀ,
    where W has a zero diagonal.
    """
    u, s, vt = np.linalg.svd(a)
    identity = np.eye(s.shape[-1], dtype=bool)
    others = np.where(identity[:, None, :] | identity, 1, s[..., None, None, :]).prod(axis=-1)
    weights = np.where(identity, 0, others)
    turned = u.mT @ g @ vt.mT
    diagonal = np.sum(weights * np.sum(np.where(identity, turned, 0), axis=-1)[..., None, :], axis=-1)
    inner = np.where(identity, diagonal[..., None, :], -weights * turned.mT)
    return np.linalg.det(u @ vt)[..., None, None] * (u @ inner @ vt)


@composite(_cofactor_rule, smooth=True)
def cofactors(a: Array) -> Array:
    """The matrix of cofactors, the gradient of the determinant: from the SVD, so that singular matrices have it too.

    A = U S Vᵀ: C = det(U) det(V) U diag(Π_{j≠i} s_j) Vᵀ.
    """
    u, s, vt = np.linalg.svd(a)
    others = np.where(np.eye(s.shape[-1], dtype=bool), 1, s[..., None, :]).prod(axis=-1)
    return np.linalg.det(u @ vt)[..., None, None] * ((u * others[..., None, :]) @ vt)


derivative(np.linalg.det, lambda g, out, a: g[..., None, None] * cofactors(a), smooth=True)


# Decompositions -------------------------------------------------------------------------------------------------------
# g and out are tuples, as the results are; a part of g is None if no gradient flows into it. Where values are equal,
# their vectors are not determined and have no derivative: what flows through them is divided by 0, and is not finite.


def _slogdet_rule(g: Array, out: Array, a: Array) -> Array:
    return np.zeros_like(a) if g[1] is None else g[1][..., None, None] * np.linalg.inv(a).mT


derivative(np.linalg.slogdet, _slogdet_rule, singular=_from_singular)


def _symmetric(a: Array) -> Array:
    return (a + a.mT) / 2


def _antisymmetric(a: Array) -> Array:
    return (a - a.mT) / 2


def _cholesky_rule(g: Array, out: Array, a: Array, upper: bool = False) -> Array:
    """With A = L Lᵀ and P = Φ(Lᵀ G), Φ = lower triangle, diagonal halved: the gradient is sym(L⁻ᵀ P L⁻¹)."""
    lower, g_lower = (out.mT, g.mT) if upper else (out, g)
    product = lower.mT @ g_lower
    phi = np.tril(product) - product * (np.eye(a.shape[-1], dtype=a.dtype) / 2)
    inverse = np.linalg.inv(lower)
    return _symmetric(inverse.mT @ phi @ inverse)


derivative(np.linalg.cholesky, _cholesky_rule, singular=_from_singular)

_ROUNDING = 16  # units of rounding, of the largest, by which computed eigenvalues and singular values may be off


@composite(lambda h, out, values: np.sum(_antisymmetric(h), axis=-2) * 2, smooth=True)
def gaps(values: Array) -> Array:
    """values[j] − values[i], (..., n, n). Those of rounding are 0: which way the vectors turn there is not known."""
    difference = values[..., None, :] - values[..., :, None]
    top = np.max(np.abs(values), axis=-1, keepdims=True, initial=0)[..., None]
    return np.where(np.abs(difference) <= _ROUNDING * np.finfo(values.dtype).eps * top, 0, difference)


def _from_tie(out: Array, a: Array, *args: Any, **kwargs: Any) -> Array:
    """How near two eigenvalues or singular values are to each other."""
    values = out if isinstance(out, np.ndarray) else next(part for part in out if part.ndim == a.ndim - 1)
    return np.abs(np.diff(values, axis=-1)).min(axis=-1, initial=math.inf)


def _diagonal(values: Array) -> Array:
    return values[..., None] * np.eye(values.shape[-1], dtype=values.dtype)


def _turned(turn: Array, gap: Array) -> Array:
    """turn / gap off the diagonal."""
    identity = np.eye(turn.shape[-1], dtype=bool)
    return np.where(identity, 0, turn / np.where(identity, 1, gap))


def _eigh_rule(g: Array, out: Array, a: Array, UPLO: str = "L") -> Array:
    """A = V diag(w) Vᵀ: the gradient is V (diag(ḡw) + (Vᵀ ḡv) / gaps) Vᵀ, made symmetric."""
    g_values, g_vectors = g
    values, vectors = out
    inner = 0 if g_values is None else _diagonal(g_values)
    if g_vectors is not None:
        inner = inner + _turned(vectors.mT @ g_vectors, gaps(values))
    return _symmetric(vectors @ inner @ vectors.mT)


derivative(np.linalg.eigh, _eigh_rule, kink=_from_tie)


def _of_values(vectors: Array, g: Array) -> Array:
    return _symmetric((vectors * g[..., None, :]) @ vectors.mT)


# The gradient of eigenvalues alone needs no gaps: at equal ones it is that of their sum.
derivative(np.linalg.eigvalsh, lambda g, out, a, UPLO="L": _of_values(np.linalg.eigh(a, UPLO)[1], g), kink=_from_tie)


def _svd_rule(g: Array, out: Array, a: Array) -> Array:
    """A = U diag(s) Vᵀ, with P and Q the antisymmetric parts of Uᵀ ḡu and Vᵀ ḡv: the gradient is

    U (diag(ḡs) + (P + Q) / (s_j − s_i) + (P − Q) / (s_j + s_i)) Vᵀ, and what leaves the spaces of U and V.
    """
    u, s, vt = out
    g_u, g_s, g_vt = (np.zeros_like(x) if part is None else part for x, part in zip(out, g, strict=True))
    inner = _diagonal(g_s)
    if g[0] is not None or g[2] is not None:
        turn_u, turn_v = _antisymmetric(u.mT @ g_u), _antisymmetric(vt @ g_vt.mT)
        sums = s[..., None, :] + s[..., :, None]
        inner = inner + _turned(turn_u + turn_v, gaps(s)) + _turned(turn_u - turn_v, sums)
    result = u @ inner @ vt
    if g[0] is not None and a.shape[-2] > a.shape[-1]:
        result = result + ((g_u - u @ (u.mT @ g_u)) / s[..., None, :]) @ vt
    if g[2] is not None and a.shape[-1] > a.shape[-2]:
        result = result + u @ ((g_vt - (g_vt @ vt.mT) @ vt) / s[..., :, None])
    return result


@composite(_svd_rule, kink=_from_tie, singular=lambda out, a: out[1].min(axis=-1, initial=math.inf))
def thin_svd(a: Array) -> Array:
    """U, s, Vᵀ with A = U diag(s) Vᵀ and min(m, n) singular values."""
    return np.linalg.svd(a, full_matrices=False)


@composed(np.linalg.svd)
def _svd(a: Array, full_matrices: bool = True, compute_uv: bool = True) -> Array:
    if not compute_uv:
        return np.linalg.svdvals(a)
    if full_matrices and a.ndim > 1 and a.shape[-1] != a.shape[-2]:
        raise NotDifferentiableError(
            f"linalg.svd: the full U and V of a {a.shape} matrix are not determined by it; use full_matrices=False"
        )
    return thin_svd(a)


def _svdvals_rule(g: Array, out: Array, x: Array) -> Array:
    u, _, vt = thin_svd(x)
    return (u * g[..., None, :]) @ vt


derivative(
    np.linalg.svdvals,
    _svdvals_rule,
    kink=lambda out, x: np.minimum(_from_tie(out, x), out.min(axis=-1, initial=math.inf)),
)
numpys_own(np.linalg.trace)
