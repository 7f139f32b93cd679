"""Order statistics, statistics that pass over NaN, and covariances: said in terms of sorting, sums and products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgradopt.rules.reductions import Axis, checked_axes, count
from microgradopt.rules.registry import arrays, composed

Array = Any

# Order statistics -----------------------------------------------------------------------------------------------------


@composed(np.quantile)
def _quantile(a: Array, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Array:
    """Each quantile lies between two neighbours in sorted order; NumPy's own quantile of 0, 1, 2, … says where."""
    (a,), (q,) = arrays(a), arrays(q)
    axes = checked_axes(a.ndim, axis)
    others = tuple(i for i in range(a.ndim) if i not in axes)
    n = count(a.shape, axes)
    sorted_ = np.sort(np.transpose(a, axes + others).reshape((n, *(a.shape[i] for i in others))), axis=0)
    place = np.quantile(np.arange(float(n)), q, method=method)  # type: ignore[call-overload]
    below = np.floor(place).astype(int)
    weight = (place - below).astype(a.dtype).reshape(q.shape + (1,) * len(others))
    result = sorted_[below] * (1 - weight) + sorted_[np.minimum(below + 1, n - 1)] * weight
    result = np.where(np.isnan(sorted_[-1]), math.nan, result)  # NaNs are sorted to the end
    if not keepdims:
        return result
    return result.reshape(q.shape + tuple(1 if i in axes else size for i, size in enumerate(a.shape)))


@composed(np.percentile)
def _percentile(a: Array, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Array:
    return _quantile(a, np.true_divide(q, 100), axis, method=method, keepdims=keepdims)


@composed(np.median)
def _median(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    return _quantile(a, 0.5, axis, keepdims=keepdims)


# Without NaNs ---------------------------------------------------------------------------------------------------------


def _filled(a: Array, value: float) -> tuple[Array, Array]:
    """a with `value` in place of NaNs, and where it has numbers."""
    numbers = ~np.isnan(a)
    return np.where(numbers, a, value), numbers


@composed(np.nansum)
def _nansum(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    return np.sum(_filled(a, 0.0)[0], axis=axis, keepdims=keepdims)


@composed(np.nanmean)
def _nanmean(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    return np.mean(_filled(a, 0.0)[0], axis=axis, keepdims=keepdims, where=~np.isnan(a))


@composed(np.nanvar)
def _nanvar(a: Array, axis: Axis = None, *, ddof: float = 0, correction: float = 0, keepdims: bool = False) -> Array:
    filled, numbers = _filled(a, 0.0)
    return np.var(filled, axis=axis, ddof=ddof or correction, keepdims=keepdims, where=numbers)


@composed(np.nanstd)
def _nanstd(a: Array, axis: Axis = None, *, ddof: float = 0, correction: float = 0, keepdims: bool = False) -> Array:
    filled, numbers = _filled(a, 0.0)
    return np.std(filled, axis=axis, ddof=ddof or correction, keepdims=keepdims, where=numbers)


def _nan_extremum(extremum: Any, worst: float, a: Array, axis: Axis, keepdims: bool) -> Array:
    filled, numbers = _filled(a, worst)
    result = extremum(filled, axis=axis, keepdims=keepdims)
    return np.where(np.any(numbers, axis=axis, keepdims=keepdims), result, math.nan)


@composed(np.nanmax)
def _nanmax(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    return _nan_extremum(np.max, -math.inf, a, axis, keepdims)


@composed(np.nanmin)
def _nanmin(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    return _nan_extremum(np.min, math.inf, a, axis, keepdims)


# Covariances ----------------------------------------------------------------------------------------------------------


@composed(np.cov)
def _cov(m: Array, y: Array = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None) -> Array:
    """(X − mean)(X − mean)ᵀ / (n − ddof), a variable in each row of X."""
    X = _variables(m, rowvar)
    if y is not None:
        X = np.concatenate([X, _variables(y, rowvar)], axis=0)
    X = X - np.mean(X, axis=1, keepdims=True)
    free = X.shape[1] - ((0 if bias else 1) if ddof is None else ddof)
    return np.squeeze(X @ X.T / (free if free > 0 else math.nan))


def _variables(m: Array, rowvar: bool) -> Array:
    (m,) = arrays(m)
    rows = np.reshape(m, (1, -1)) if m.ndim < 2 else m
    return rows.T if not rowvar and m.ndim == 2 else rows


@composed(np.corrcoef)
def _corrcoef(x: Array, y: Array = None, rowvar: bool = True) -> Array:
    c = np.cov(x, y, rowvar)
    if c.ndim == 0:
        return c / c
    deviations = np.sqrt(np.diagonal(c))
    return c / deviations[:, None] / deviations
