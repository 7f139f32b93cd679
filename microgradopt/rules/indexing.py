"""Rules of selection: indexing in all its forms, and functions composed of it (take, sort, compress)."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from microgradopt.rules.registry import arrays, composed, composite, derivative

Array = Any


@composite(lambda h, out, g, index, shape: h[index], smooth=True)
def scatter(g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of the given shape with g added at `index`: what indexing is, backwards. Repeated positions add up."""
    result = np.zeros_like(g, order="C", shape=shape)
    if repeats_nothing(index):
        result[index] = g
    else:
        np.add.at(result, index, g)
    return result


def repeats_nothing(index: Any) -> bool:
    """Slices, integers and boolean masks name every position at most once; lists and arrays of integers may not."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is ... or isinstance(part, int | slice | np.integer) or _is_mask(part) for part in parts
    )


def _is_mask(part: Any) -> bool:
    return hasattr(part, "dtype") and bool(part.dtype == bool)


derivative(operator.getitem, lambda g, out, a, index: scatter(g, index, a.shape), smooth=True)


@composed(np.take)
def _take(a: Array, indices: Any, axis: int | None = None) -> Array:
    # True and False are the positions 1 and 0 here, not a mask; and an empty list is one of no positions.
    (positions,) = arrays(indices)
    positions = positions.astype(np.intp, casting="same_kind" if positions.size else "unsafe")
    if axis is None:
        return np.ravel(a)[positions]
    return a[(*(slice(None),) * normalize_axis_index(axis, a.ndim), positions)]


@composed(np.take_along_axis)
def _take_along_axis(arr: Array, indices: Any, axis: int | None = -1) -> Array:
    source, along = (np.ravel(arr), 0) if axis is None else (arr, axis)
    return np.take_along_axis.__wrapped__(source, indices, along)  # type: ignore[attr-defined]


@composed(np.sort)
def _sort(a: Array, axis: int | None = -1, *, stable: bool | None = None) -> Array:
    return _take_along_axis(a, np.argsort(a, axis=axis, stable=stable), axis)


@composed(np.partition)
def _partition(a: Array, kth: Any, axis: int | None = -1) -> Array:
    return _take_along_axis(a, np.argpartition(a, kth, axis=axis), axis)


@composed(np.compress)
def _compress(condition: Any, a: Array, axis: int | None = None) -> Array:
    if np.ndim(condition) != 1:
        raise ValueError(f"compress: the condition is a vector, not of shape {np.shape(condition)}")
    return _take(a, np.flatnonzero(condition), axis)


composed(np.extract)(lambda condition, arr: np.ravel(arr)[np.flatnonzero(condition)])
