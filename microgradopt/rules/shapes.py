"""Rules of functions that move elements about: reshaping, permuting, joining, splitting, padding, differences.

Those that only rearrange elements have a rule of one line. The others are composed of these, or of indexing, whose
rule is in indexing.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from microgradopt.rules.indexing import scatter
from microgradopt.rules.registry import NotDifferentiableError, composed, derivative, existing, numpys_own

Array = Any
Axes = int | tuple[int, ...] | None

derivative(np.reshape, lambda g, out, a, shape: g.reshape(a.shape), smooth=True)
derivative(
    np.transpose,
    lambda g, out, a, axes=None: np.transpose(g, None if axes is None else tuple(_inverse(axes))),
    smooth=True,
    sign="xᵀ",
)
derivative(np.broadcast_to, lambda g, out, array, shape: g, broadcasts=True, smooth=True)
derivative(np.copy, lambda g, out, a: g, smooth=True)
derivative(np.squeeze, lambda g, out, a, axis=None: g.reshape(a.shape), smooth=True)
derivative(np.expand_dims, lambda g, out, a, axis: g.reshape(a.shape), smooth=True)
derivative(np.ravel, lambda g, out, a: g.reshape(a.shape), smooth=True)
derivative(np.swapaxes, lambda g, out, a, axis1, axis2: np.swapaxes(g, axis1, axis2), smooth=True)
derivative(np.moveaxis, lambda g, out, a, source, destination: np.moveaxis(g, destination, source), smooth=True)
derivative(np.flip, lambda g, out, m, axis=None: np.flip(g, axis), smooth=True)
derivative(np.roll, lambda g, out, a, shift, axis=None: np.roll(g, _negated(shift), axis), smooth=True)
# The triangle of a vector is that of a matrix with the vector in every row.
derivative(np.tril, lambda g, out, m, k=0: np.tril(g, k), broadcasts=True, smooth=True)
derivative(np.triu, lambda g, out, m, k=0: np.triu(g, k), broadcasts=True, smooth=True)


def _inverse(axes: int | Sequence[int]) -> list[int]:
    """The permutation that undoes `axes`."""
    axes = [axes] if isinstance(axes, int) else axes
    positive = [axis % len(axes) for axis in axes]
    return sorted(range(len(axes)), key=positive.__getitem__)


def _negated(shift: Any) -> Any:
    return tuple(-s for s in shift) if isinstance(shift, tuple | list) else -shift


composed(np.matrix_transpose, np.linalg.matrix_transpose, sign="xᵀ")(lambda x: np.swapaxes(x, -1, -2))
composed(np.fliplr)(lambda m: np.flip(m, 1))
composed(np.flipud)(lambda m: np.flip(m, 0))
numpys_own(np.rollaxis)


@composed(np.rot90)
def _rot90(m: Array, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Array:
    first, second = (normalize_axis_index(axis, m.ndim) for axis in axes)
    if first == second:
        raise ValueError(f"rot90: axes {axes} of shape {m.shape} are one; a plane has two")
    flipped = np.flip(m, [(), (second,), (first, second), (first,)][k % 4])
    return np.swapaxes(flipped, first, second) if k % 2 else flipped


# Joining --------------------------------------------------------------------------------------------------------------


def _pieces(
    g: Array,
    out: Array,
    arrays: Sequence[Array],
    axis: int | None = 0,
    *,
    dtype: Any = None,
    casting: Any = "same_kind",
) -> list[Array] | Array:
    """One cotangent per joined array: the slices of g they went to. axis=None joins the arrays flattened.

    One array stands for the list of its rows.
    """
    along = 0 if axis is None else axis % out.ndim
    before = (slice(None),) * along
    ends = np.cumsum([math.prod(a.shape) if axis is None else a.shape[along] for a in arrays]).tolist()
    starts = [0, *ends[:-1]]
    pieces = [g[(*before, slice(i, j))].reshape(a.shape) for a, i, j in zip(arrays, starts, ends, strict=True)]
    return pieces if isinstance(arrays, list) else np.stack(pieces)


derivative(np.concatenate, _pieces, smooth=True)


@composed(np.stack)
def _stack(arrays: Sequence[Array], axis: int = 0, *, dtype: Any = None, casting: Any = "same_kind") -> Array:
    return np.concatenate([np.expand_dims(a, axis) for a in arrays], axis=axis, dtype=dtype, casting=casting)


numpys_own(np.vstack, np.hstack, np.dstack)


@composed(np.column_stack)
def _column_stack(tup: Sequence[Array]) -> Array:
    return np.concatenate([np.reshape(a, (-1, 1)) if np.ndim(a) < 2 else a for a in tup], axis=1)


@composed(np.block)
def _block(arrays: Any) -> Array:
    """Nested lists: the innermost are joined along the last axis, those around them along the last but one, ..."""
    depth, leaves = 0, [arrays]
    while isinstance(leaves[0], list):
        depth += 1
        leaves = [part for block in leaves for part in (block if isinstance(block, list) else [block])]
    ndim = max([depth, *(np.ndim(leaf) for leaf in leaves)])

    def joined(block: Any, axis: int) -> Array:
        if isinstance(block, list) != (axis < 0):
            raise ValueError("block: the lists are not all nested equally deep")
        if axis < 0:
            return np.concatenate([joined(part, axis + 1) for part in block], axis=axis)
        return np.reshape(block, (1,) * (ndim - np.ndim(block)) + np.shape(block))

    return joined(arrays, -depth)


@composed(np.append)
def _append(arr: Array, values: Array, axis: int | None = None) -> Array:
    if axis is None:
        return np.concatenate([np.ravel(arr), np.ravel(values)])
    return np.concatenate([arr, values], axis=axis)


def _atleast(*new_axes: tuple[int, ...]) -> Any:
    """The body of ``np.atleast_*d``. new_axes: of an array with no axis, with one, ..."""

    def body(*arys: Array) -> Array:
        results = tuple(a if np.ndim(a) >= len(new_axes) else np.expand_dims(a, new_axes[np.ndim(a)]) for a in arys)
        return results[0] if len(results) == 1 else results

    return body


composed(np.atleast_1d)(_atleast((0,)))
composed(np.atleast_2d)(_atleast((0, 1), (0,)))
composed(np.atleast_3d)(_atleast((0, 1, 2), (0, 2), (2,)))


@composed(np.broadcast_arrays)
def _broadcast_arrays(*args: Array) -> tuple[Array, ...]:
    shape = np.broadcast_shapes(*(np.shape(a) for a in args))
    return tuple(np.broadcast_to(a, shape) for a in args)


@composed(np.meshgrid)
def _meshgrid(*xi: Array, indexing: str = "xy") -> tuple[Array, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing is 'xy' or 'ij', not {indexing!r}")
    places = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        places[:2] = [1, 0]
    along = [[-1 if i == place else 1 for i in range(len(xi))] for place in places]
    return _broadcast_arrays(*(np.reshape(x, shape) for x, shape in zip(xi, along, strict=True)))


# Splitting: basic slices ----------------------------------------------------------------------------------------------


@composed(np.array_split)
def _array_split(ary: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    before = (slice(None),) * normalize_axis_index(axis, ary.ndim)
    places = [part.tolist() for part in np.array_split(np.arange(ary.shape[axis]), indices_or_sections)]
    return [ary[(*before, slice(part[0], part[-1] + 1) if part else slice(0))] for part in places]


@composed(np.split)
def _split(ary: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    if np.ndim(indices_or_sections) == 0 and ary.shape[axis] % indices_or_sections:
        raise ValueError(
            f"split: an axis of length {ary.shape[axis]} has no {indices_or_sections} equal parts; "
            "np.array_split makes unequal ones"
        )
    return _array_split(ary, indices_or_sections, axis)


numpys_own(np.vsplit, np.hsplit, np.dsplit, *existing("unstack"))


# Repeating ------------------------------------------------------------------------------------------------------------


@composed(np.repeat)
def _repeat(a: Array, repeats: Any, axis: int | None = None) -> Array:
    length = a.size if axis is None else a.shape[axis]
    return np.take(a, np.repeat(np.arange(length), repeats), axis=axis)


@composed(np.tile)
def _tile(A: Array, reps: Any) -> Array:
    counts = (reps,) if np.ndim(reps) == 0 else tuple(reps)
    ndim = max(A.ndim, len(counts))
    shape = (1,) * (ndim - A.ndim) + A.shape
    counts = (1,) * (ndim - len(counts)) + counts
    # Each axis n becomes a pair (count, n) of which the first is broadcast.
    pairs = [size for n in shape for size in (1, n)]
    wide = [size for c, n in zip(counts, shape, strict=True) for size in (c, n)]
    return np.broadcast_to(A.reshape(pairs), wide).reshape([c * n for c, n in zip(counts, shape, strict=True)])


# Diagonals ------------------------------------------------------------------------------------------------------------


@composed(np.diagonal)
def _diagonal(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    last = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = last.shape[-2:]
    length = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    i = np.arange(length)
    return last[..., i - min(offset, 0), i + max(offset, 0)]


numpys_own(np.linalg.diagonal)


@composed(np.diag)
def _diag(v: Array, k: int = 0) -> Array:
    if v.ndim == 2:
        return np.diagonal(v, k)
    if v.ndim != 1:
        raise ValueError(f"diag: wants a vector or a matrix, not shape {v.shape}")
    i, size = np.arange(len(v)), len(v) + abs(k)
    return scatter(v, (i - min(k, 0), i + max(k, 0)), (size, size))


# Padding --------------------------------------------------------------------------------------------------------------


@composed(np.pad)
def _pad(array: Array, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Array:
    """Any mode that copies elements: the padded positions are looked up by padding the element numbers."""
    numbers = np.arange(1, math.prod(array.shape) + 1).reshape(array.shape)
    if mode == "constant":
        source = np.pad(numbers, pad_width)
        outside = np.pad(np.zeros(array.shape, array.dtype), pad_width, constant_values=constant_values)
        return scatter(np.ravel(array), source > 0, source.shape) + outside
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise NotDifferentiableError(
            f"pad: mode {mode!r} has no derivative rule; use constant, edge, reflect, symmetric or wrap"
        )
    return np.ravel(array)[np.pad(numbers, pad_width, mode=mode) - 1]  # type: ignore[call-overload]


# Differences ----------------------------------------------------------------------------------------------------------


@composed(np.diff)
def _diff(a: Array, n: int = 1, axis: int = -1) -> Array:
    if n < 0:
        raise ValueError(f"diff: of order {n}; 0 at least")
    before = (slice(None),) * normalize_axis_index(axis, a.ndim)
    for _ in range(n):
        a = a[(*before, slice(1, None))] - a[(*before, slice(None, -1))]
    return a


@composed(np.gradient)
def _gradient(f: Array, *varargs: Any, axis: Axes = None, edge_order: Any = 1) -> Any:
    """np.gradient is linear in f, with weights that depend on the spacing alone: along an axis, a banded matrix."""
    axes = tuple(range(f.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    if len(spacings) != len(axes):
        raise TypeError(f"gradient: {len(axes)} axes need 0, 1 or {len(axes)} spacings, not {len(varargs)}")
    results = []
    for i, spacing in zip(axes, spacings, strict=True):
        weights: Any = np.gradient(np.eye(f.shape[i], dtype=f.dtype), spacing, axis=0, edge_order=edge_order)
        results.append(np.moveaxis(np.tensordot(f, weights, axes=(i, 1)), -1, i))
    return results[0] if len(results) == 1 else tuple(results)
