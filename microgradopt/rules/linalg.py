"""Rules of linear algebra: products in every dimension case, and the decompositions.

Matrices stand in the last two axes; leading axes are batches. Formulas: Giles, "An extended collection of matrix
derivative results for forward and reverse mode algorithmic differentiation" (2008); for the decompositions also
Townsend, "Differentiating the singular value decomposition" (2016) and Murray, "Differentiation of the Cholesky
decomposition" (2016).
"""

from __future__ import annotations

import functools
import math
import operator
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from microgradopt.rules.elementwise import _times, direction
from microgradopt.rules.reductions import Axis, checked_axes, kept
from microgradopt.rules.registry import NotDifferentiableError, arrays, composed, composite, derivative, existing

Array = Any

# Products -------------------------------------------------------------------------------------------------------------


def _left(g: Array, out: Array, x: Array, y: Array) -> Array:
    if y.ndim == 1:
        return g[..., None] * y
    if x.ndim == 1:
        return (y @ g[..., None])[..., 0]
    return g @ y.mT


def _right(g: Array, out: Array, x: Array, y: Array) -> Array:
    if x.ndim == 1:
        return g * x if y.ndim == 1 else x[:, None] * g[..., None, :]
    if y.ndim == 1:
        return (x.mT @ g[..., None])[..., 0]
    return x.mT @ g


derivative(np.matmul, _left, _right, broadcasts=True, smooth=True, sign="@")


@composed(np.dot, sign="·")
def _dot(a: Array, b: Array) -> Array:
    a, b = arrays(a, b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if a.ndim <= 2 and b.ndim <= 2:
        return a @ b
    return np.tensordot(a, b, axes=(-1, max(b.ndim - 2, 0)))


@composed(np.inner)
def _inner(a: Array, b: Array) -> Array:
    a, b = arrays(a, b)
    return a * b if a.ndim == 0 or b.ndim == 0 else np.tensordot(a, b, axes=(-1, -1))


@composed(np.vdot)
def _vdot(a: Array, b: Array) -> Array:
    return np.ravel(a) @ np.ravel(b)


@composed(np.outer, sign="⊗")
def _outer(a: Array, b: Array) -> Array:
    return np.ravel(a)[:, None] * np.ravel(b)


@composed(np.linalg.outer)
def _linalg_outer(x1: Array, x2: Array, /) -> Array:
    x1, x2 = arrays(x1, x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"linalg.outer: wants two vectors, not shapes {x1.shape} and {x2.shape}")
    return x1[:, None] * x2


@composed(np.vecdot, np.linalg.vecdot)
def _vecdot(x1: Array, x2: Array, *, axis: int = -1) -> Array:
    # `axis` is that of each operand by itself; only the others broadcast.
    rows, columns = (np.moveaxis(x, axis, -1) for x in arrays(x1, x2))
    return (rows[..., None, :] @ columns[..., None])[..., 0, 0]


@composed(np.linalg.matmul)
def _linalg_matmul(x1: Array, x2: Array, /) -> Array:
    return np.matmul(x1, x2)


@composed(*existing("matvec"))
def _matvec(x1: Array, x2: Array) -> Array:
    x1, x2 = arrays(x1, x2)
    return (x1 @ x2[..., None])[..., 0]


@composed(*existing("vecmat"))
def _vecmat(x1: Array, x2: Array) -> Array:
    x1, x2 = arrays(x1, x2)
    return (x1[..., None, :] @ x2)[..., 0, :]


@composed(np.kron)
def _kron(a: Array, b: Array) -> Array:
    a, b = arrays(a, b)
    ndim = max(a.ndim, b.ndim)
    rows = (1,) * (ndim - a.ndim) + a.shape
    columns = (1,) * (ndim - b.ndim) + b.shape
    product = a.reshape([k for n in rows for k in (n, 1)]) * b.reshape([k for n in columns for k in (1, n)])
    return product.reshape([n * m for n, m in zip(rows, columns, strict=True)])


@composed(np.cross)
def _cross(a: Array, b: Array, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Array:
    if axis is not None:
        axisa = axisb = axisc = axis
    u, v = np.moveaxis(a, axisa, 0), np.moveaxis(b, axisb, 0)
    if len(u) != 3 or len(v) != 3:
        raise ValueError(f"cross: vectors of length {len(u)} and {len(v)}; the cross product lives in 3 dimensions")
    parts = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]
    return np.stack(parts, axis=axisc)


@composed(np.linalg.cross)
def _linalg_cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    return _cross(x1, x2, axis=axis)


@composed(np.tensordot, np.linalg.tensordot)
def _tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    a, b = arrays(a, b)
    first, second = (range(-axes, 0), range(axes)) if isinstance(axes, int | np.integer) else axes
    over_a, over_b = list(normalize_axis_tuple(first, a.ndim)), list(normalize_axis_tuple(second, b.ndim))
    free_a = [i for i in range(a.ndim) if i not in over_a]
    free_b = [i for i in range(b.ndim) if i not in over_b]
    inner_a, inner_b = [a.shape[i] for i in over_a], [b.shape[i] for i in over_b]
    if inner_a != inner_b:
        raise ValueError(f"tensordot: shapes {a.shape} and {b.shape} do not match over axes {over_a} and {over_b}")
    outer_a, outer_b = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    left = np.transpose(a, free_a + over_a).reshape((math.prod(outer_a), math.prod(inner_a)))
    right = np.transpose(b, over_b + free_b).reshape((math.prod(inner_b), math.prod(outer_b)))
    return (left @ right).reshape(outer_a + outer_b)


@composed(np.linalg.multi_dot)
def _multi_dot(arrays: Sequence[Array]) -> Array:
    if len(arrays) < 2:
        raise ValueError("linalg.multi_dot: wants two arrays at least")
    return functools.reduce(np.dot, arrays)


@composed(np.linalg.matrix_power)
def _matrix_power(a: Array, n: int) -> Array:
    n = operator.index(n)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(f"linalg.matrix_power: wants square matrices, not shape {a.shape}")
    if n < 0:
        return _matrix_power(np.linalg.inv(a), -n)
    if n == 0:
        return a * 0.0 + np.eye(a.shape[-1], dtype=a.dtype)
    half = _matrix_power(a, n // 2) if n > 1 else None
    return a if half is None else half @ half @ a if n % 2 else half @ half


# Einsum: first within each operand (diagonals, lonely sums), then pair by pair. ---------------------------------------


@composite(
    lambda g, out, x, y, a, b, c: contract(g, y, c, b, a),
    lambda g, out, x, y, a, b, c: contract(g, x, c, a, b),
    None,
    None,
    None,
    smooth=True,
)
def contract(x: Array, y: Array, a: str, b: str, c: str) -> Array:
    """einsum("a,b->c", x, y), where no label repeats within a, and each stands in at least two of a, b, c."""
    return np.einsum(f"{a},{b}->{c}", x, y, optimize=True)


@composed(np.einsum)
def _einsum(subscripts: Any, *operands: Array, optimize: Any = False) -> Array:
    if not isinstance(subscripts, str):
        subscripts, operands = _as_string([subscripts, *operands])
    labels, result = _explicit(subscripts.replace(" ", ""), [np.ndim(x) for x in operands])
    terms = [_without_repeats(x, a, subscripts) for x, a in zip(operands, labels, strict=True)]
    sizes: dict[str, int] = {}
    for x, a in terms:
        for label, n in zip(a, np.shape(x), strict=True):
            known = sizes.get(label, 1)
            if known != n and 1 not in (known, n):
                raise ValueError(f"einsum: an axis of {subscripts!r} has length {known} here and {n} there")
            sizes[label] = n if known == 1 else known
    terms = [_unstretched(x, a, sizes) for x, a in terms]
    while len(terms) > 1:
        (x, a), (y, b), *rest = terms
        later = {*result, *"".join(label for _, label in rest)}
        x, a = _summed(x, a, later | {*b})
        y, b = _summed(y, b, later | {*a})
        c = "".join(label for label in dict.fromkeys(a + b) if label in later)
        terms = [(contract(x, y, a, b, c), c), *rest]
    x, a = _summed(*terms[0], {*result})
    return np.transpose(x, [a.index(label) for label in result])


def _as_string(args: list[Any]) -> tuple[str, tuple[Array, ...]]:
    """The other form of einsum, x, [0, 1], y, [1, 2], [0, 2], as "ab,bc->ac" and the operands."""
    operands, lists = args[: len(args) // 2 * 2 : 2], args[1::2]
    result = [args[-1]] if len(args) % 2 else []
    labels = sorted({label for part in [*lists, *result] for label in part if label is not ...})
    letters = {**dict(zip(labels, string.ascii_letters, strict=False)), ...: "..."}
    terms = ["".join(letters[label] for label in part) for part in [*lists, *result]]
    return "->".join([",".join(terms[: len(lists)]), *terms[len(lists) :]]), tuple(operands)


def _explicit(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """Labels of each operand and of the result, with the ellipses and an implicit result spelled out."""
    left, arrow, result = subscripts.partition("->")
    labels = left.split(",")
    if len(labels) != len(ndims):
        raise ValueError(f"einsum: {subscripts!r} names {len(labels)} operands, and {len(ndims)} are given")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        result = ("..." if "..." in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    unused = "".join(c for c in string.ascii_letters if c not in subscripts)
    widths = [n - len(a) + 3 if "..." in a else 0 for a, n in zip(labels, ndims, strict=True)]
    widest = max(widths)
    if widest > 0 and "..." not in result:
        raise ValueError(f"einsum: the result of {subscripts!r} leaves out the axes of the ellipsis")
    labels = [a.replace("...", unused[widest - w : widest]) for a, w in zip(labels, widths, strict=True)]
    if any(len(a) != n for a, n in zip(labels, ndims, strict=True)):
        raise ValueError(f"einsum: {subscripts!r} does not fit operands of {ndims} dimensions")
    return labels, result.replace("...", unused[:widest])


def _without_repeats(x: Array, a: str, subscripts: str) -> tuple[Array, str]:
    """The diagonal of x along every label that repeats in a."""
    for label in a:
        while a.count(label) > 1:
            i, j = a.index(label), a.rindex(label)
            n, m = np.shape(x)[i], np.shape(x)[j]
            if n != m:
                raise ValueError(f"einsum: an axis of {subscripts!r} has length {n} here and {m} there")
            x = np.diagonal(x, axis1=i, axis2=j)
            a = a[:i] + a[i + 1 : j] + a[j + 1 :] + label
    return x, a


def _unstretched(x: Array, a: str, sizes: dict[str, int]) -> tuple[Array, str]:
    """x without the axes of length 1 that broadcast to the length they have elsewhere: nothing depends on these."""
    wide = tuple(i for i, label in enumerate(a) if np.shape(x)[i] != sizes[label])
    return (np.squeeze(x, wide) if wide else x), "".join(label for i, label in enumerate(a) if i not in wide)


def _summed(x: Array, a: str, needed: set[str]) -> tuple[Array, str]:
    """x summed over its labels that nothing else needs."""
    lonely = tuple(i for i, label in enumerate(a) if label not in needed)
    return (np.sum(x, axis=lonely) if lonely else x), "".join(label for label in a if label in needed)


# Norms ----------------------------------------------------------------------------------------------------------------


@composite(
    lambda g, out, x, axis, keepdims: kept(g, x.shape, axis) * direction(x, kept(out, x.shape, axis)),
    None,
    None,
    kink=lambda out, x, axis, keepdims: out,
    sign="‖x‖",
)
def euclidean_norm(x: Array, axis: Axis, keepdims: bool) -> Array:
    """sqrt(Σ x²) over `axis`. At 0 its subgradient is 0, so that norm(x)**2 has the gradient it should."""
    return np.linalg.norm(x, axis=axis, keepdims=keepdims) if isinstance(axis, int) else _flat_norm(x, axis, keepdims)


def _flat_norm(x: Array, axis: Axis, keepdims: bool) -> Array:
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


@composed(np.linalg.norm, sign="‖x‖")
def _norm(x: Array, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Array:
    axes = checked_axes(x.ndim, axis)
    if (ord, axis) == (None, None) or (len(axes), ord) in ((1, None), (1, 2), (2, None), (2, "fro")):
        return euclidean_norm(x, axes[0] if len(axes) == 1 else axes, keepdims)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) == 2:
        last = np.moveaxis(x, axes, (-2, -1))
        result = _matrix_norm(last, ord)
        return kept(result, x.shape, axes) if keepdims else result
    raise ValueError(f"norm: ord={ord!r} is for vectors and matrices, not for {len(axes)} axes of shape {x.shape}")


@composed(np.linalg.vector_norm)
def _linalg_vector_norm(x: Array, /, *, axis: Axis = None, keepdims: bool = False, ord: Any = 2) -> Array:
    axes = checked_axes(x.ndim, axis)
    if ord == 2:
        return euclidean_norm(x, axes, keepdims)
    others = tuple(i for i in range(x.ndim) if i not in axes)
    result = _vector_norm(np.transpose(x, others + axes).reshape([*(x.shape[i] for i in others), -1]), ord, -1, False)
    return kept(result, x.shape, axes) if keepdims else result


@composed(np.linalg.matrix_norm)
def _linalg_matrix_norm(x: Array, /, *, keepdims: bool = False, ord: Any = "fro") -> Array:
    return _norm(x, ord, (-2, -1), keepdims)


def _vector_norm(x: Array, ord: Any, axis: int, keepdims: bool) -> Array:
    if isinstance(ord, str):
        raise ValueError(f"norm: ord={ord!r} is not a norm of vectors; it takes two axes, or a number")
    if ord == 0:
        raise NotDifferentiableError("norm: ord=0 counts nonzero elements and has no derivative; ord=1 is its relative")
    if math.isinf(ord):
        extremum = np.max if ord > 0 else np.min
        return extremum(np.abs(x), axis=axis, keepdims=keepdims)
    return _power_norm(x, ord, axis, keepdims)


@composite(
    lambda g, out, x, ord, axis, keepdims: (
        kept(g, x.shape, axis) * _times(np.sign(x), direction(np.abs(x), kept(out, x.shape, axis)) ** (ord - 1))
    ),
    None,
    None,
    None,
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


def _pinv_rule(g: Array, out: Array, a: Array, rcond: Any = None, *, rtol: Any = None) -> Array:
    """With P = A⁺: −Pᵀ G Pᵀ + (I − A P) Gᵀ P Pᵀ + Pᵀ P Gᵀ (I − P A). Golub & Pereyra 1973, equation 4.12."""
    rows, columns = (np.eye(n, dtype=a.dtype) for n in a.shape[-2:])
    inside = -(out.mT @ g @ out.mT)
    return inside + (rows - a @ out) @ g.mT @ out @ out.mT + out.mT @ out @ g.mT @ (columns - out @ a)


def _from_lower_rank(out: Array, a: Array, *args: Any, **kwargs: Any) -> Array:
    """How near a singular value is to the cut below which it counts as zero: there the rank jumps."""
    s = np.linalg.svd(a, compute_uv=False)
    cut = 1e-15 * s.max(axis=-1, keepdims=True, initial=0)
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


def _off_diagonal(x: Array) -> Array:
    return np.where(np.eye(x.shape[-1], dtype=bool), 0, x)


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


@composite(lambda g, out, a, UPLO: _of_values(np.linalg.eigh(a, UPLO)[1], g), None, kink=_from_tie)
def eigenvalues(a: Array, UPLO: Any) -> Array:
    """Of a symmetric matrix, ascending. Their gradient needs no gaps: at equal ones it is that of their sum."""
    return np.linalg.eigvalsh(a, UPLO)


@composed(np.linalg.eigvalsh)
def _eigvalsh(a: Array, UPLO: Any = "L") -> Array:
    return eigenvalues(a, UPLO)


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
        return singular_values(a)
    if full_matrices and a.shape[-1] != a.shape[-2]:
        raise NotDifferentiableError(
            f"linalg.svd: the full U and V of a {a.shape} matrix are not determined by it; use full_matrices=False"
        )
    return thin_svd(a)


def _of_singular_values(parts: Any, g: Array) -> Array:
    u, _, vt = parts
    return (u * g[..., None, :]) @ vt


@composite(
    lambda g, out, a: _of_singular_values(thin_svd(a), g),
    kink=lambda out, a: np.minimum(_from_tie(out, a), out.min(axis=-1, initial=math.inf)),
)
def singular_values(a: Array) -> Array:
    """Of a matrix, descending. Their gradient needs no gaps."""
    return np.linalg.svd(a, compute_uv=False)


@composed(np.linalg.svdvals)
def _svdvals(x: Array, /) -> Array:
    return singular_values(x)


@composed(np.linalg.trace)
def _linalg_trace(x: Array, /, *, offset: int = 0) -> Array:
    return np.trace(x, offset, -2, -1)
