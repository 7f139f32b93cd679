"""Order statistics, statistics that leave out NaNs, and covariances: composed of sorting, sums and products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgradopt.rules.reductions import Axis, checked_axes, kept, mean_where, moment, narrow, only, together, wide
from microgradopt.rules.registry import arrays, composed

Array = Any

# Order statistics -----------------------------------------------------------------------------------------------------


# Methods of np.quantile that give an element, and never what lies between two.
_ELEMENTS = ("inverted_cdf", "closest_observation", "lower", "higher", "nearest")


def _sorted(a: Array, axes: tuple[int, ...]) -> Array:
    """a sorted along `axes` together, which become the first axis; NaN alone, and no share to any, if one is NaN."""
    sorted_ = np.sort(together(a, axes), axis=0)  # NaNs last
    return sorted_ * np.where(np.isnan(sorted_[-1:]), math.nan, 1).astype(a.dtype)


@composed(np.quantile)
def _quantile(a: Array, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Array:
    """Each quantile lies between two neighbours in sorted order; NumPy's own quantile of 0, 1, 2, … says where."""
    (a,), q = arrays(a), np.asarray(q)  # of a tensor that needs a gradient this is refused: none flows to q
    axes = checked_axes(a.ndim, axis)
    sorted_ = _sorted(a, axes)
    n = len(sorted_)
    place = np.quantile(np.arange(float(n)), q, method=method)  # type: ignore[call-overload]
    below = np.floor(place).astype(int)
    low, high = sorted_[below], sorted_[np.minimum(below + 1, n - 1)]
    w = (place - below).astype(a.dtype).reshape(q.shape + (1,) * (sorted_.ndim - 1))
    # As NumPy: from the nearer end, so that each end is met exactly.
    between = np.where(w < 0.5, low + (high - low) * w, high - (high - low) * (1 - w))
    result = low if method in _ELEMENTS else between
    if not keepdims:
        return result
    return result.reshape(q.shape + tuple(1 if i in axes else size for i, size in enumerate(a.shape)))


@composed(np.percentile)
def _percentile(a: Array, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Array:
    return _quantile(a, np.true_divide(np.asarray(q), 100), axis, method=method, keepdims=keepdims)


@composed(np.median)
def _median(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """The mean of the middle element, or of the two in the middle."""
    axes = checked_axes(a.ndim, axis)
    sorted_ = _sorted(a, axes)
    n = len(sorted_)
    result = np.mean(sorted_[(n - 1) // 2 : n // 2 + 1], axis=0)
    return kept(result, a.shape, axes) if keepdims else result


# Without NaNs ---------------------------------------------------------------------------------------------------------


@composed(np.nanmedian)
def _nanmedian(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """The same, of each column's numbers alone."""
    axes = checked_axes(a.ndim, axis)
    sorted_ = np.sort(together(a, axes), axis=0)
    n = np.sum(~np.isnan(sorted_), axis=0, keepdims=True)
    middle = np.concatenate([np.maximum(n - 1, 0) // 2, n // 2])
    result = np.mean(np.take_along_axis(sorted_, middle, 0) if len(sorted_) else sorted_, axis=0)
    return kept(result, a.shape, axes) if keepdims else result


def _filled(a: Array, value: float) -> tuple[Array, Array]:
    """a with `value` in place of NaNs, and where it has numbers."""
    numbers = ~np.isnan(a)
    return only(a, numbers, value), numbers


@composed(np.nansum)
def _nansum(
    a: Array, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, initial: Any = 0, where: Any = True
) -> Array:
    return np.sum(_filled(a, 0.0)[0], axis, dtype, keepdims=keepdims, initial=initial, where=where)


@composed(np.nanmean)
def _nanmean(a: Array, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, where: Any = True) -> Array:
    a = a if dtype is None else a.astype(dtype)
    return narrow(mean_where(wide(a), axis, keepdims, ~np.isnan(a) & where), a)


def _of_numbers(whole: Any) -> Any:
    """What `moment` computes, of the numbers alone. NaN where no degree of freedom is left, as NumPy's."""

    def compute(a: Array, axis: Axis, ddof: float, keepdims: bool, where: Any) -> Array:
        numbers = ~np.isnan(a) & where
        result = whole(a, axis, ddof=ddof, keepdims=keepdims, where=numbers)
        return np.where(np.sum(numbers, axis=axis, keepdims=keepdims) > ddof, result, math.nan)

    return compute


composed(np.nanvar)(moment(_of_numbers(np.var)))
composed(np.nanstd)(moment(_of_numbers(np.std)))


def _nan_extremum(extremum: Any, worst: float) -> Any:
    """The body of ``np.nanmax`` and ``np.nanmin``."""

    def body(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
        filled, numbers = _filled(a, worst)
        result = extremum(filled, axis=axis, keepdims=keepdims)
        return np.where(np.any(numbers, axis=axis, keepdims=keepdims), result, math.nan)

    return body


composed(np.nanmax)(_nan_extremum(np.max, -math.inf))
composed(np.nanmin)(_nan_extremum(np.min, math.inf))


# Covariances ----------------------------------------------------------------------------------------------------------


@composed(np.cov)
def _cov(m: Array, y: Array = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None) -> Array:
    """(X − mean)(X − mean)ᵀ / (n − ddof), a variable in each row of X."""
    X = _variables(m, rowvar)
    if y is not None:
        X = np.concatenate([X, _variables(y, rowvar)], axis=0)
    X = X - np.mean(X, axis=1, keepdims=True)
    free = X.shape[1] - ((0 if bias else 1) if ddof is None else ddof)
    return np.squeeze(X @ X.T * np.true_divide(1, max(free, 0)).item())


def _variables(m: Array, rowvar: bool) -> Array:
    (m,) = arrays(m)
    if m.ndim > 2:
        raise ValueError(f"cov: a vector or a matrix is wanted, not shape {m.shape}")
    rows = np.reshape(m, (1, -1)) if m.ndim < 2 else m
    return rows.T if not rowvar and m.ndim == 2 else rows


@composed(np.corrcoef)
def _corrcoef(x: Array, y: Array = None, rowvar: bool = True) -> Array:
    c = np.cov(x, y, rowvar)
    if c.ndim == 0:
        return c / c
    deviations = np.sqrt(np.diagonal(c))
    return c / deviations[:, None] / deviations
