"""Rules of products in every dimension case: matmul and its relatives, tensordot, einsum.

Matrices stand in the last two axes; leading axes are batches.
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

from microgradopt.rules.registry import arrays, composed, composite, derivative, existing, numpys_own

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


composed(np.vdot)(lambda a, b: np.ravel(a) @ np.ravel(b))


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


numpys_own(np.linalg.matmul)


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


composed(np.linalg.cross)(lambda x1, x2, *, axis=-1: _cross(x1, x2, axis=axis))


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
    if set(subscripts) - set(string.ascii_letters + ",.->"):
        raise ValueError(f"einsum: the labels in {subscripts!r} are to be letters")
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
