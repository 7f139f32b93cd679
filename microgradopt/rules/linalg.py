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

from microgradopt.rules.elementwise import nonzero
from microgradopt.rules.reductions import Axis, checked_axes, kept
from microgradopt.rules.registry import NotDifferentiableError, arrays, composed, composite, derivative, kinked

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


derivative(np.matmul, _left, _right, broadcasts=True)


@composed(np.dot)
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


@composed(np.outer)
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
)
def contract(x: Array, y: Array, a: str, b: str, c: str) -> Array:
    """einsum("a,b->c", x, y), where no label repeats within a, and each stands in at least two of a, b, c."""
    return np.einsum(f"{a},{b}->{c}", x, y, optimize=True)


@composed(np.einsum)
def _einsum(subscripts: Any, *operands: Array, optimize: Any = False) -> Array:
    if not isinstance(subscripts, str):
        raise TypeError('einsum: write the subscripts as a string, "ij,jk->ik"')
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
    lambda g, out, x, axis, keepdims: kept(g / (out + (out == 0)), x.shape, axis) * x,
    None,
    None,
)
def euclidean_norm(x: Array, axis: Axis, keepdims: bool) -> Array:
    """sqrt(Σ x²) over `axis`. At 0 its subgradient is 0, so that norm(x)**2 has the gradient it should."""
    return np.linalg.norm(x, axis=axis, keepdims=keepdims) if isinstance(axis, int) else _flat_norm(x, axis, keepdims)


@kinked(euclidean_norm)
def _norm_itself(out: Array, x: Array, axis: Axis, keepdims: bool) -> Array:
    return out


def _flat_norm(x: Array, axis: Axis, keepdims: bool) -> Array:
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


@composed(np.linalg.norm)
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
    total = np.sum(np.abs(x) ** ord, axis=axis, keepdims=keepdims)
    # Of 0 the root has no derivative, and the norm subgradient 0.
    return np.where(total == 0, 0.0, (total + (total == 0)) ** (1 / ord))


def _matrix_norm(x: Array, ord: Any) -> Array:
    if ord in ("nuc", 2, -2):
        reduce: Any = {"nuc": np.sum, 2: np.max, -2: np.min}[ord]
        return reduce(thin_svd(x)[1], axis=-1)
    if ord in (1, -1, math.inf, -math.inf):
        extremum = np.max if ord > 0 else np.min
        return extremum(np.sum(np.abs(x), axis=-2 if abs(ord) == 1 else -1), axis=-1)
    raise ValueError(f"norm: ord={ord!r} is not a matrix norm; use 'fro', 'nuc', inf, -inf, 1, -1, 2 or -2")


# Inverses and determinants --------------------------------------------------------------------------------------------

derivative(np.linalg.inv, lambda g, out, a: -(out.mT @ g @ out.mT))


def _solve_b(g: Array, out: Array, a: Array, b: Array) -> Array:
    # A vector b goes with every matrix of a batch; a stack of results would be taken for the columns of one matrix.
    return np.linalg.solve(a.mT, g[..., None])[..., 0] if b.ndim == 1 else np.linalg.solve(a.mT, g)


def _solve_a(g: Array, out: Array, a: Array, b: Array) -> Array:
    gb = _solve_b(g, out, a, b)
    return -(gb[..., :, None] * out[..., None, :]) if b.ndim == 1 else -(gb @ out.mT)


derivative(np.linalg.solve, _solve_a, _solve_b, broadcasts=True)


def _cofactor_rule(g: Array, out: Array, a: Array) -> Array:
    """C = det(A) A⁻ᵀ, so that ⟨G, dC⟩ = ⟨G, A⁻ᵀ⟩ ⟨C, dA⟩ − det(A) ⟨A⁻ᵀ Gᵀ A⁻ᵀ, dA⟩."""
    inverse = np.linalg.inv(a).mT
    return np.sum(g * inverse, axis=(-2, -1), keepdims=True) * out - out @ g.mT @ inverse


@composite(_cofactor_rule)
def cofactors(a: Array) -> Array:
    """The matrix of cofactors, the gradient of the determinant: from the SVD, so that singular matrices have it too.

    A = U S Vᵀ: C = det(U) det(V) U diag(Π_{j≠i} s_j) Vᵀ. (Its own derivative, by the inverse, needs A regular.)
    """
    u, s, vt = np.linalg.svd(a)
    others = np.where(np.eye(s.shape[-1], dtype=bool), 1, s[..., None, :]).prod(axis=-1)
    return np.linalg.det(u @ vt)[..., None, None] * ((u * others[..., None, :]) @ vt)


derivative(np.linalg.det, lambda g, out, a: g[..., None, None] * cofactors(a))


# Decompositions: g and out are tuples, as the results are -------------------------------------------------------------


def _slogdet_rule(g: Array, out: Array, a: Array) -> Array:
    _, g_log = g
    return g_log[..., None, None] * np.linalg.inv(a).mT


derivative(np.linalg.slogdet, _slogdet_rule)


def _symmetric(a: Array) -> Array:
    return (a + a.mT) / 2


def _cholesky_rule(g: Array, out: Array, a: Array, upper: bool = False) -> Array:
    """With A = L Lᵀ and P = Φ(Lᵀ G), Φ = lower triangle, diagonal halved: the gradient is sym(L⁻ᵀ P L⁻¹)."""
    lower, g_lower = (out.mT, g.mT) if upper else (out, g)
    product = lower.mT @ g_lower
    phi = np.tril(product) - product * (np.eye(a.shape[-1], dtype=a.dtype) / 2)
    inverse = np.linalg.inv(lower)
    return _symmetric(inverse.mT @ phi @ inverse)


derivative(np.linalg.cholesky, _cholesky_rule)


def _gaps(values: Array) -> tuple[Array, Array]:
    """gaps[i, j] = values[j] − values[i], with 1 on the diagonal; and the identity as a mask."""
    identity = np.eye(values.shape[-1], dtype=bool)
    return values[..., None, :] - values[..., :, None] + identity, identity


def _eigh_rule(g: Array, out: Array, a: Array, UPLO: str = "L") -> Array:
    """A = V diag(w) Vᵀ: the gradient is V (diag(ḡw) + (Vᵀ ḡv) / gaps) Vᵀ, made symmetric.

    Eigenvectors of equal eigenvalues have no derivative: unless nothing flows into them, it comes out infinite.
    """
    g_values, g_vectors = g
    values, vectors = out
    gaps, identity = _gaps(values)
    turning = np.where(identity, 0, vectors.mT @ g_vectors)
    inner = np.where(identity, g_values[..., None, :], turning / nonzero(turning, gaps))
    return _symmetric(vectors @ inner @ vectors.mT)


derivative(np.linalg.eigh, _eigh_rule)


@composed(np.linalg.eigvalsh)
def _eigvalsh(a: Array, UPLO: Any = "L") -> Array:
    return np.linalg.eigh(a, UPLO)[0]


def _svd_rule(g: Array, out: Array, a: Array) -> Array:
    g_u, g_s, g_vt = g
    u, s, vt = out
    gaps, identity = _gaps(s * s)
    turn_u, turn_v = u.mT @ g_u, vt @ g_vt.mT
    # Divided before they are made symmetric: where singular values are equal the difference could be 0, the ratio not.
    turn_u, turn_v = turn_u / nonzero(turn_u, gaps), turn_v / nonzero(turn_v, gaps)
    inner = (turn_u + turn_u.mT) * s[..., None, :] + s[..., :, None] * (turn_v + turn_v.mT)
    inner = np.where(identity, g_s[..., None, :], inner)
    # What leaves the spaces that the thin U and V span, when A is not square.
    out_u = g_u - u @ (u.mT @ g_u)
    out_v = g_vt - (g_vt @ vt.mT) @ vt
    columns, rows = nonzero(out_u, s[..., None, :]), nonzero(out_v, s[..., :, None])
    return u @ inner @ vt + (out_u / columns) @ vt + u @ (out_v / rows)


@composite(_svd_rule)
def thin_svd(a: Array) -> Array:
    """U, s, Vᵀ with A = U diag(s) Vᵀ and min(m, n) singular values."""
    return np.linalg.svd(a, full_matrices=False)


@composed(np.linalg.svd)
def _svd(a: Array, full_matrices: bool = True, compute_uv: bool = True) -> Array:
    if not compute_uv:
        return thin_svd(a)[1]
    if full_matrices and a.shape[-1] != a.shape[-2]:
        raise NotDifferentiableError(
            f"linalg.svd: the full U and V of a {a.shape} matrix are not determined by it; use full_matrices=False"
        )
    return thin_svd(a)


@composed(np.linalg.svdvals)
def _svdvals(x: Array, /) -> Array:
    return thin_svd(x)[1]


@composed(np.linalg.trace)
def _linalg_trace(x: Array, /, *, offset: int = 0) -> Array:
    return np.trace(x, offset, -2, -1)
