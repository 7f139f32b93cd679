"""Rules of reductions: sums, products, extrema, moments, running sums, and the stable log-sum-exp family."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from microgradopt.rules.elementwise import direction
from microgradopt.rules.registry import arrays, composed, composite, derivative, existing
from microgradopt.rules.values import expect

Array = Any
Axis = int | tuple[int, ...] | None


def reduced_axes(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The axes that a reduction removes, as non-negative numbers. For rules: NumPy has checked them.

    It lets a number, of shape (), be summed over axis −1 or 0, which are not there.
    """
    if axis is None or not shape:
        return tuple(range(len(shape)))
    axes = axis if isinstance(axis, tuple) else (axis,)
    return tuple(int(i) % len(shape) for i in axes)


def checked_axes(ndim: int, axis: Axis) -> tuple[int, ...]:
    """The same for bodies, which nobody has checked: raises for axes that are not there, or are there twice."""
    axes: tuple[int, ...] = normalize_axis_tuple(range(ndim) if axis is None else axis, ndim)
    return axes


def kept(reduced: Array, shape: tuple[int, ...], axis: Axis) -> Array:
    """A reduced array with the axes it lost put back at length 1, whether or not keepdims had kept them."""
    axes = reduced_axes(shape, axis)
    return reduced.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))


def together(a: Array, axes: tuple[int, ...]) -> Array:
    """a with `axes` as one, the first."""
    others = tuple(i for i in range(a.ndim) if i not in axes)
    return np.transpose(a, axes + others).reshape((count(a.shape, axes), *(a.shape[i] for i in others)))


def count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements go into one element of the result. A Python int, so that float32 stays float32."""
    return math.prod(shape[i] for i in reduced_axes(shape, axis))


def wide(x: Array) -> Array:
    """float16 as float32, as sums and counts leave its range beyond 65,504; all else as it is."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def narrow(x: Array, a: Array) -> Array:
    """What was computed in a wider type than the float16 of a, in float16 again."""
    return x.astype(np.float16) if a.dtype == np.float16 else x


# Sums and means -------------------------------------------------------------------------------------------------------

derivative(
    np.sum,
    lambda g, out, a, axis=None, dtype=None, *, keepdims=False, initial=0, where=True: _spread(g, a, axis, where),
    smooth=True,
    sign="Σ",
)
derivative(
    np.mean,
    lambda g, out, a, axis=None, dtype=None, *, keepdims=False, where=True: _spread(
        wide(g) / _counted(a, axis, keepdims, where), a, axis, where
    ),
    smooth=True,
)


def _spread(g: Array, a: Array, axis: Axis, where: Any = True) -> Array:
    """What was summed over `axis`, given to each summand; 0 to those that `where` left out."""
    everywhere = np.broadcast_to(kept(g, a.shape, axis), a.shape)
    return everywhere if where is True else np.where(where, everywhere, 0)


def _counted(a: Array, axis: Axis, keepdims: bool, where: Any) -> Any:
    """How many elements were summed, for each element of the result; NaN for none."""
    if where is True:
        return count(a.shape, axis)
    counts = np.sum(np.broadcast_to(where, a.shape), axis=axis, keepdims=keepdims)
    return np.where(counts > 0, counts, math.nan).astype(wide(a).dtype)


# Moments: var = Σ(a − mean)² / (n − ddof), and d std = d var / (2 std). A constant has std 0 and subgradient 0.


@composite(
    lambda g, out, a, axis, ddof, keepdims: (
        kept(g, a.shape, axis) * (2 / _degrees(a, axis, ddof)) * (a - a.mean(axis=axis, keepdims=True))
    ),
    smooth=True,
    sign="σ²",
)
def variance(a: Array, axis: Axis, ddof: float, keepdims: bool) -> Array:
    """Σ(a − mean)² / (n − ddof) along `axis`, as ``np.var``."""
    return np.var(a, axis=axis, ddof=ddof, keepdims=keepdims)


@composite(
    lambda g, out, a, axis, ddof, keepdims: (
        kept(g, a.shape, axis)
        * (1 / _degrees(a, axis, ddof))
        * direction(a - a.mean(axis=axis, keepdims=True), kept(out, a.shape, axis))
    ),
    kink=lambda out, *args, **kwargs: out,
)
def deviation(a: Array, axis: Axis, ddof: float, keepdims: bool) -> Array:
    """The square root of `variance`, as ``np.std``."""
    return np.std(a, axis=axis, ddof=ddof, keepdims=keepdims)


@composite(lambda g, out, a, where, value: np.where(where, g, 0), smooth=True)
def only(a: Array, where: Array, value: float) -> Array:
    """a where `where` holds, else a constant: what is left out, not a choice of two pieces that may meet in a kink."""
    return np.where(where, a, value)


def mean_where(a: Array, axis: Axis, keepdims: bool, where: Any) -> Array:
    """The mean of the elements where `where` holds; NaN of none. Summed in pairs, as NumPy sums without `where`."""
    return np.sum(only(a, where, 0), axis=axis, keepdims=keepdims) / _counted(a, axis, keepdims, where)


def moment(compute: Any) -> Any:
    """The body of ``np.var`` and its kin: NumPy's arguments, for compute(a, axis, ddof, keepdims, where)."""

    def body(
        a: Array,
        axis: Axis = None,
        dtype: Any = None,
        *,
        ddof: float = 0,
        correction: float = 0,
        keepdims: bool = False,
        where: Any = True,
    ) -> Array:
        if ddof and correction:
            raise ValueError("var, std: ddof and correction are one number; give one of them")
        a = a if dtype is None else a.astype(dtype)
        return compute(a, axis, ddof or correction, keepdims, where)

    return body


def _of_deviations(whole: Any, of: Any) -> Any:
    """What `moment` computes: `whole`, or, where not all elements count, `of` their deviations."""

    def compute(a: Array, axis: Axis, ddof: float, keepdims: bool, where: Any) -> Array:
        if where is True:
            # One number alone does not deviate: there is no kink.
            return (whole if count(a.shape, axis) > 1 else variance)(a, axis, ddof, keepdims)
        x = wide(a)
        deviations = only(x - mean_where(x, axis, True, where), where, 0)
        free = np.maximum(_counted(a, axis, keepdims, where) - ddof, 0)
        return narrow(of(deviations, axis, keepdims, free), a)

    return compute


composed(np.var, sign="σ²")(
    moment(_of_deviations(variance, lambda x, axis, keepdims, free: np.sum(x * x, axis=axis, keepdims=keepdims) / free))
)
composed(np.std, sign="σ")(  # by a norm, which has a subgradient at 0
    moment(
        _of_deviations(
            deviation,
            lambda x, axis, keepdims, free: np.linalg.vector_norm(x, axis=axis, keepdims=keepdims) / np.sqrt(free),
        )
    )
)


def _degrees(a: Array, axis: Axis, ddof: float) -> float:
    """n − ddof; NaN where no degree of freedom is left, as the value itself is then NaN or infinite."""
    return max(count(a.shape, axis) - ddof, 0) or math.nan


@composed(np.average)
def _average(a: Array, axis: Axis = None, weights: Array = None, *, keepdims: bool = False) -> Array:
    if weights is None:
        return np.mean(a, axis=axis, keepdims=keepdims)
    a, weights = arrays(a, weights)
    if weights.shape != a.shape:
        if axis is None:
            raise TypeError(f"average: say along which axes of {a.shape} the weights of shape {weights.shape} go")
        axes = checked_axes(a.ndim, axis)
        if weights.shape != tuple(a.shape[i] for i in axes):
            raise ValueError(f"average: weights of shape {weights.shape} do not fit axes {axes} of shape {a.shape}")
        weights = np.transpose(weights, sorted(range(len(axes)), key=axes.__getitem__))
        weights = weights.reshape([n if i in axes else 1 for i, n in enumerate(a.shape)])
        weights = np.broadcast_to(weights, a.shape)
    total = np.sum(weights, axis=axis, keepdims=keepdims)
    if not expect(np.all(total != 0)):
        raise ZeroDivisionError("average: the weights sum to 0")
    return np.sum(a * weights, axis=axis, keepdims=keepdims) / total


# Products: trees and scans of multiplications, whose derivatives, to any order, need no division and so no care at 0. -


@composed(np.prod, sign="Π")
def _prod(
    a: Array, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, initial: Any = 1, where: Any = True
) -> Array:
    a = a if dtype is None else a.astype(dtype)
    a = a if where is True else only(a, where, 1)
    axes = checked_axes(a.ndim, axis)
    factors = together(a, axes)
    while len(factors) > 1:
        half = len(factors) // 2
        pairs = factors[:half] * factors[half : 2 * half]
        factors = np.concatenate([pairs, factors[2 * half :]])
    # The product of nothing is 1; a sum over nothing, 0, keeps the graph.
    result = factors[0] if len(factors) else factors.sum(axis=0) + 1
    if not (initial is None or (type(initial) is int and initial == 1)):
        result = (result * initial).astype(result.dtype)
    return kept(result, a.shape, axis) if keepdims else result


@composed(np.cumprod)
def _cumprod(a: Array, axis: int | None = None, dtype: Any = None) -> Array:
    a = a if dtype is None else a.astype(dtype)
    scan = np.ravel(a) if axis is None else np.moveaxis(a, axis, 0)
    step = 1
    while step < len(scan):
        scan = np.concatenate([scan[:step], scan[step:] * scan[:-step]])
        step *= 2
    return scan if axis is None else np.moveaxis(scan, 0, axis)


# A running sum, read backwards, is a running sum of the cotangents.
derivative(
    np.cumsum,
    lambda g, out, a, axis=None, dtype=None: np.flip(np.cumsum(np.flip(g, axis or 0), axis or 0), axis or 0).reshape(
        a.shape
    ),
    smooth=True,
)


# Extrema: ties share the gradient evenly ------------------------------------------------------------------------------


def _shared(
    g: Array,
    out: Array,
    a: Array,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Array:
    winners = (a == kept(out, a.shape, axis)) if where is True else (a == kept(out, a.shape, axis)) & where
    winners = wide(winners.astype(a.dtype))
    counts = winners.sum(axis=axis, keepdims=True)
    if initial is not np._NoValue:  # which may have won alone
        counts = counts + ((counts == 0) & (kept(out, a.shape, axis) == initial))
    return kept(g, a.shape, axis) * (winners / counts)


def lead(
    out: Array,
    a: Array,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Array:
    """Distance from the extremum to the next best, an element or the initial value; infinite if there is none."""
    behind = np.where(where, np.abs(a - kept(out, a.shape, axis)), math.inf)
    best = (behind == 0).sum(axis=axis)
    distance = np.min(np.where(behind == 0, math.inf, behind), axis=axis, initial=math.inf)
    if initial is not np._NoValue:
        gap = np.abs(np.reshape(out, np.shape(distance)) - initial)
        best = best + (gap == 0)
        distance = np.minimum(distance, np.where(gap == 0, math.inf, gap))
    return np.where(best > 1, 0, distance)


for name in ("max", "amax", "min", "amin"):
    for extremum in existing(name):
        derivative(extremum, _shared, kink=lead, sign=name.removeprefix("a"))


@composed(np.ptp)
def _ptp(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)


composed(np.trace)(lambda a, offset=0, axis1=0, axis2=1: np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1))


# Log-sum-exp and its family: shifted by the maximum, so that nothing overflows. ---------------------------------------


@composite(
    lambda g, out, a, axis=None, keepdims=False: kept(g, a.shape, axis) * _parts(kept(out, a.shape, axis), a, axis),
    smooth=True,
    sign="ln Σ eˣ",
)
def logsumexp(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """log Σ exp(a) along `axis`, without overflow: max a + log Σ exp(a − max a).

    a: floats of any shape. axis: None (all), an int or a tuple. keepdims: keep the axis with length 1.
    The derivative is softmax(a). The sum over −∞ alone is −∞, with derivative 0.

    >>> float(logsumexp(np.array([1000.0, 1000.0])).round(4))
    1000.6931
    """
    top = np.max(a, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):  # log 0 is what the sum over −∞ alone is
        total = narrow(np.log(wide(np.exp(a - top)).sum(axis=axis, keepdims=True)), a) + top
    return total if keepdims else total.reshape(np.sum(top, axis=axis).shape)


def _parts(out: Array, a: Array, axis: Axis) -> Array:
    """The part of each exp(a) in the sum. Not exp(a − out), as `out` has lost what is small beside it."""
    none = out == -math.inf
    return np.where(none, 0, softmax(np.where(none, 0, a), axis))


@composite(lambda g, out, a, axis=-1: out * (g - (g * out).sum(axis=axis, keepdims=True)), smooth=True)
def softmax(a: Array, axis: Axis = -1) -> Array:
    """exp(a) / Σ exp(a) along `axis`, without overflow. Shape and dtype of `a`.

    >>> softmax(np.array([0.0, 0.0, 1000.0]))
    array([0., 0., 1.])
    """
    powers = wide(np.exp(a - a.max(axis=axis, keepdims=True)))
    return narrow(powers / powers.sum(axis=axis, keepdims=True), a)


@composite(lambda g, out, a, axis=-1: g - np.exp(out) * g.sum(axis=axis, keepdims=True), smooth=True)
def log_softmax(a: Array, axis: int = -1) -> Array:
    """a − log Σ exp(a) along `axis`, without overflow. Shape and dtype of `a`.

    >>> log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    shifted = a - a.max(axis=axis, keepdims=True)
    return shifted - narrow(np.log(wide(np.exp(shifted)).sum(axis=axis, keepdims=True)), a)
