"""Functions that answer from the values alone, exactly as NumPy does: comparisons, positions, counts.

An answer jumps where it changes. Each function says how far its arguments are from another answer, because an `if`, a
mask or an index that depends on the answer makes the loss jump, or kink, there.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from microgradopt.rules.reductions import lead
from microgradopt.rules.registry import question

Array = Any


def _difference(out: Array, x: Array, y: Array, *args: Any, **kwargs: Any) -> Array:
    """How far apart two numbers are that are compared."""
    x, y = np.asarray(x), np.asarray(y)
    return np.abs(np.subtract(x, y, dtype=float)) if x.dtype.kind in "fiub" and y.dtype.kind in "fiub" else math.inf


def _from_zero(out: Array, x: Array, *args: Any, **kwargs: Any) -> Array:
    """How far a number is from 0, which counts as False."""
    return np.abs(x) if np.asarray(x).dtype.kind in "fiu" else np.full(np.shape(x), math.inf)


def _nearest_to_zero(out: Array, *args: Array) -> Array:
    return functools.reduce(np.minimum, [_from_zero(out, x) for x in args])


def _gaps(out: Array, a: Array, axis: int | None = -1, *args: Any, **kwargs: Any) -> Array:
    """How far apart neighbours are in sorted order."""
    a = np.asarray(a)
    return np.diff(np.sort(a, axis=axis), axis=-1 if axis is None else axis)


def _lead(extremum: Any) -> Any:
    """How far the second largest, or smallest, is behind."""
    return lambda out, a, axis=None, **kwargs: lead(extremum(a, axis=axis), np.asarray(a), axis)


def _nearest(out: Array, a: Array, v: Array, *args: Any, **kwargs: Any) -> Array:
    """How far each of some values is from the nearest element of an array."""
    a, v = np.ravel(a), np.asarray(v)
    return np.min(np.abs(v[..., None] - a), axis=-1, initial=math.inf)


def _as_a_whole(out: Array, a1: Array, a2: Array, *args: Any, **kwargs: Any) -> Array:
    """How far apart arrays are that are compared as a whole. Those whose shapes do not go together stay unequal."""
    try:
        return _difference(out, a1, a2)
    except ValueError:
        return np.asarray(math.inf)


def _from_tolerance(
    out: Array, a: Array, b: Array, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Array:
    return np.abs(np.abs(np.subtract(a, b)) - (atol + rtol * np.abs(b)))


# Comparisons and logic
for comparison, symbol in zip(
    (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal), "=≠<≤>≥", strict=True
):
    question(comparison, jump=_difference, sign=symbol)
question(np.array_equal, np.array_equiv, jump=_as_a_whole)
question(np.isin, jump=lambda out, element, test_elements, *args, **kwargs: _nearest(out, test_elements, element))
for logical, symbol in ((np.logical_and, "∧"), (np.logical_or, "∨"), (np.logical_xor, "⊻"), (np.logical_not, "¬")):
    question(logical, jump=_nearest_to_zero, sign=symbol)
question(bool, np.all, np.any, np.nonzero, np.flatnonzero, np.argwhere, np.count_nonzero, np.signbit, jump=_from_zero)
question(np.isclose, np.allclose, jump=_from_tolerance)

# Positions and orders
question(np.argmax, np.nanargmax, jump=_lead(np.max))
question(np.argmin, np.nanargmin, jump=_lead(np.min))
question(np.argsort, np.lexsort, jump=_gaps)
question(np.argpartition, jump=lambda out, a, kth, axis=-1, **kwargs: _gaps(out, a, axis=axis))
question(np.searchsorted, jump=_nearest)
question(np.digitize, jump=lambda out, x, bins, right=False: _nearest(out, bins, x))
question(np.linalg.matrix_rank, smooth=True)

# What kind of number: in the finite the answer stays
question(np.isnan, np.isinf, np.isfinite, np.isposinf, np.isneginf, np.isreal, np.iscomplex, np.spacing, smooth=True)

# Shapes and types
question(
    np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.common_type, np.iscomplexobj, np.isrealobj, static=True
)
question(np.min_scalar_type, np.shares_memory, np.may_share_memory, smooth=True)
question(np.zeros_like, np.ones_like, np.empty_like, smooth=True)

# Words and files
question(np.array2string, np.array_repr, np.array_str, np.savetxt, smooth=True)
