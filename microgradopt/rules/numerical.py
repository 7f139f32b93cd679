"""Making arrays, integration, interpolation, polynomials, convolution; and what is trivial for real numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgradopt.rules.registry import arrays, composed, composite, derivative, existing, numpys_own

Array = Any

# Real numbers ---------------------------------------------------------------------------------------------------------

derivative(np.real, lambda g, out, val: g, smooth=True)
derivative(np.real_if_close, lambda g, out, a, tol=100: g, smooth=True)
derivative(np.imag, lambda g, out, val: np.zeros_like(g), smooth=True)
derivative(np.angle, lambda g, out, z, deg=False: np.zeros_like(g), jump=lambda out, z, deg=False: np.abs(z))

# Making arrays --------------------------------------------------------------------------------------------------------


@composed(np.linspace)
def _linspace(
    start: Array,
    stop: Array,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    # Python's own numbers leave float32 as it is.
    ends = [x if isinstance(x, int | float) else arrays(x)[0] for x in (start, stop)]
    own = np.result_type(*ends, 0.0)
    start, stop = (x.astype(own) for x in np.broadcast_arrays(*arrays(*ends)))
    t: Any = np.linspace(0.0, 1.0, num, endpoint=endpoint, dtype=own).reshape((-1,) + (1,) * start.ndim)
    points = np.moveaxis(start * (1 - t) + stop * t, 0, axis)
    points = points if dtype is None else points.astype(dtype)
    return (points, (stop - start) / ((num - bool(endpoint)) or math.nan)) if retstep else points


@composed(np.full_like)
def _full_like(
    a: Array, fill_value: Array, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None
) -> Array:
    ones = np.ones_like(a, dtype, order, subok, shape)
    return (ones * fill_value).astype(ones.dtype)


@composed(np.full)  # which NumPy hands over where it is told like=
def _full(shape: Any, fill_value: Array, dtype: Any = None, order: Any = "C") -> Array:
    (fill_value,) = arrays(fill_value)
    ones = np.ones(shape, dtype or fill_value.dtype, order)
    return (ones * fill_value).astype(ones.dtype)


composed(*existing("astype"))(lambda x, dtype, *, copy=True: x.astype(dtype))


# Integration and interpolation ----------------------------------------------------------------------------------------


@composed(np.trapezoid)
def _trapezoid(y: Array, x: Array = None, dx: float = 1.0, axis: int = -1) -> Array:
    (y,) = arrays(y)
    last = np.moveaxis(y, axis, -1)
    if x is not None:
        (x,) = arrays(x)
        dx = np.diff(x if x.ndim == 1 else np.moveaxis(x, axis, -1))
    return np.sum(dx * (last[..., 1:] + last[..., :-1]) / 2, axis=-1)


@composed(np.interp)
def _interp(x: Array, xp: Array, fp: Array, left: Any = None, right: Any = None) -> Array:
    """Between two neighbours in xp, linear. A kink at each of them."""
    x, xp, fp = arrays(x, xp, fp)
    if xp.shape != fp.shape or xp.ndim != 1 or not len(xp):
        raise ValueError(
            f"interp: xp and fp are vectors of one length, 1 at least, not of shapes {xp.shape}, {fp.shape}"
        )
    if len(xp) == 1:
        inside = fp[0] + 0 * x
    else:
        after = np.clip(np.searchsorted(xp, x, side="right"), 1, len(xp) - 1)
        x0, x1, f0, f1 = _at(xp, after - 1), _at(xp, after), _at(fp, after - 1), _at(fp, after)
        inside = f0 + (f1 - f0) / (x1 - x0) * (x - x0)
    low = np.where(x < xp[0], fp[0] if left is None else left, inside)
    return np.where(x > xp[-1], fp[-1] if right is None else right, low)


def _at(values: Array, places: Array) -> Array:
    """values[places], also of plain values at places that are being traced."""
    return np.take_along_axis(values, np.ravel(places), 0).reshape(np.shape(places))


# Polynomials and convolution ------------------------------------------------------------------------------------------


@composed(np.polyval)
def _polyval(p: Array, x: Array) -> Array:
    p, x = arrays(p, x)
    value = np.zeros(x.shape, np.result_type(p.dtype, x.dtype))
    for i in range(len(p)):
        value = value * x + p[i]
    return value


@composite(
    lambda g, out, a, v: np.convolve(g, v[::-1], "valid"),
    lambda g, out, a, v: np.convolve(g, a[::-1], "valid"),
    smooth=True,
)
def full_convolution(a: Array, v: Array) -> Array:
    """Σ_k a_k v_{n−k} for all n where both have elements. a, v: vectors."""
    return np.convolve(a, v)


@composed(np.convolve)
def _convolve(a: Array, v: Array, mode: Any = "full") -> Array:
    a, v = np.atleast_1d(*arrays(a, v))
    if a.ndim != 1 or v.ndim != 1 or not len(a) or not len(v):
        raise ValueError(f"convolve: two vectors with elements are wanted, not shapes {a.shape} and {v.shape}")
    full, length = full_convolution(a, v), len(np.convolve(np.zeros(len(a)), np.zeros(len(v)), mode))
    start = (len(full) - length) // 2
    return full[start : start + length]


@composed(np.correlate)
def _correlate(a: Array, v: Array, mode: Any = "valid") -> Array:
    a, v = np.atleast_1d(*arrays(a, v))
    # NumPy slides the shorter one, and reads the result backwards where that is a.
    return _convolve(a, v[::-1], mode) if len(a) >= len(v) else _convolve(v, a[::-1], mode)[::-1]


numpys_own(*existing("cumulative_sum", "cumulative_prod"))
