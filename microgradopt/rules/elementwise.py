"""Rules of elementwise functions: arithmetic, powers, logarithms, angles, and the functions with kinks.

Broadcasting never appears here: the sweep undoes it. Conventions, stated once:

* At a kink the rule takes one subgradient: 0 for ``abs``; one half each where ``maximum`` or ``minimum`` ties.
* How far a call is from a kink is said beside its rule (``kinked``).
* Where a derivative is infinite but nothing flows (a cotangent of exactly 0), the product 0 · ∞ is taken as 0. So
  ``np.where(x > 0, np.log(x), 0.0)`` has gradient 0, not NaN, at x = 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgradopt.rules.registry import composed, composite, derivative, kinked

Array = Any  # an ndarray, or whatever else speaks NumPy


def nonzero(g: Array, x: Array) -> Array:
    """The denominator x, with 1 in place of 0 where the cotangent g is 0: nothing flows, so 0/0 shall be 0."""
    if type(x) in (int, float) and x:  # as it is: a Python number takes part in g's own dtype, an array of it would not
        return x
    return x + ((x == 0) & (g == 0))


# Arithmetic -----------------------------------------------------------------------------------------------------------

derivative(np.add, lambda g, out, x, y: g, lambda g, out, x, y: g)
derivative(np.subtract, lambda g, out, x, y: g, lambda g, out, x, y: -g)
derivative(np.multiply, lambda g, out, x, y: g * y, lambda g, out, x, y: g * x)
derivative(
    np.divide,
    lambda g, out, x, y: g / nonzero(g, y),
    lambda g, out, x, y: -g * x / nonzero(g, y) ** 2,
)
derivative(np.negative, lambda g, out, x: -g)
derivative(np.positive, lambda g, out, x: g)
derivative(np.conjugate, lambda g, out, x: g)
derivative(np.reciprocal, lambda g, out, x: -g / nonzero(g, x) ** 2)
derivative(np.square, lambda g, out, x: g * 2 * x)

# x mod y = x − y·floor(x / y), and fmod truncates instead of flooring.
derivative(
    np.remainder,
    lambda g, out, x, y: g,
    lambda g, out, x, y: -g * np.floor_divide(x, y),
)
# The quotient is read off the result, as x / y may round up to the next integer (1 / 0.1 is 10, fmod(1, 0.1) is not 0).
derivative(np.fmod, lambda g, out, x, y: g, lambda g, out, x, y: -g * np.rint((x - out) / y))


# x⁰ = 1 everywhere, so its derivative is 0 everywhere, at x = 0 too; and 0ʸ = 0 for y > 0, whatever log 0 is. The
# exponent stays y − 1 for y = 0, where the derivative by y of y·xʸ⁻¹ is 1/x.
def _base_rule(g: Array, out: Array, x: Array, y: Array) -> Array:
    singular = (x == 0) & ((y == 0) | (g == 0) & (y < 1))
    return g * y * (x + singular) ** (y - 1)


def _exponent_rule(g: Array, out: Array, x: Array, y: Array) -> Array:
    return g * out * np.log(x + (x == 0)).astype(out.dtype)  # x may be a Python number, whose logarithm is a float64


derivative(np.power, _base_rule, _exponent_rule)
derivative(np.float_power, _base_rule, _exponent_rule)


@kinked(np.power, np.float_power)
def _from_branch_point(out: Array, x: Array, y: Array) -> Array:
    """x = 0 is a kink of x^1.5 or 1/x, none of x² or x⁰."""
    return np.where((np.asarray(y) >= 0) & (np.rint(y) == y), math.inf, np.abs(x))


@composed(np.divmod)
def _divmod(x: Array, y: Array) -> tuple[Array, Array]:
    return np.floor_divide(x, y), np.remainder(x, y)


@composed(np.modf)
def _modf(x: Array) -> tuple[Array, Array]:
    return x - np.trunc(x), np.trunc(x)


# Exponentials and logarithms ------------------------------------------------------------------------------------------

derivative(np.exp, lambda g, out, x: g * out)
derivative(np.expm1, lambda g, out, x: g * (out + 1))
derivative(np.exp2, lambda g, out, x: g * out * math.log(2))
derivative(np.log, lambda g, out, x: g / nonzero(g, x))
derivative(np.log1p, lambda g, out, x: g / nonzero(g, 1 + x))
derivative(np.log2, lambda g, out, x: g / nonzero(g, x * math.log(2)))
derivative(np.log10, lambda g, out, x: g / nonzero(g, x * math.log(10)))
# The sum over −∞ alone is −∞, with derivative 0.
derivative(
    np.logaddexp,
    lambda g, out, x, y: g * np.exp(x - np.where(out == -math.inf, 0, out)),
    lambda g, out, x, y: g * np.exp(y - np.where(out == -math.inf, 0, out)),
)
derivative(
    np.logaddexp2,
    lambda g, out, x, y: g * np.exp2(x - np.where(out == -math.inf, 0, out)),
    lambda g, out, x, y: g * np.exp2(y - np.where(out == -math.inf, 0, out)),
)
derivative(np.ldexp, lambda g, out, x, exponent: np.ldexp(g, exponent), None)

# Roots: infinite slope at 0.
derivative(np.sqrt, lambda g, out, x: g / (2 * nonzero(g, out)))
derivative(np.cbrt, lambda g, out, x: g / (3 * nonzero(g, out) ** 2))
# The length of (0, 0) has subgradient 0, so that a squared distance stays smooth where it vanishes.
derivative(
    np.hypot,
    lambda g, out, x, y: g * x / (out + (out == 0)),
    lambda g, out, x, y: g * y / (out + (out == 0)),
)


@kinked(np.sqrt, np.cbrt)
def _from_zero(out: Array, x: Array) -> Array:
    return np.abs(x)


@kinked(np.hypot)
def _length(out: Array, x: Array, y: Array) -> Array:
    return out


# Angles ---------------------------------------------------------------------------------------------------------------

derivative(np.sin, lambda g, out, x: g * np.cos(x))
derivative(np.cos, lambda g, out, x: -g * np.sin(x))
derivative(np.tan, lambda g, out, x: g * (1 + out * out))
derivative(np.arcsin, lambda g, out, x: g / nonzero(g, np.sqrt((1 - x) * (1 + x))))
derivative(np.arccos, lambda g, out, x: -g / nonzero(g, np.sqrt((1 - x) * (1 + x))))
derivative(np.arctan, lambda g, out, x: g / (1 + x * x))
derivative(np.sinh, lambda g, out, x: g * np.cosh(x))
derivative(np.cosh, lambda g, out, x: g * np.sinh(x))
derivative(np.tanh, lambda g, out, x: g * (1 - out * out))
derivative(np.arcsinh, lambda g, out, x: g / np.sqrt(1 + x * x))
derivative(np.arccosh, lambda g, out, x: g / nonzero(g, np.sqrt((x - 1) * (x + 1))))
derivative(np.arctanh, lambda g, out, x: g / nonzero(g, (1 - x) * (1 + x)))
derivative(
    np.arctan2,
    lambda g, out, y, x: g * x / nonzero(g, x * x + y * y),
    lambda g, out, y, x: -g * y / nonzero(g, x * x + y * y),
)
for to_radians in (np.deg2rad, np.radians):
    derivative(to_radians, lambda g, out, x: g * (math.pi / 180))
for to_degrees in (np.rad2deg, np.degrees):
    derivative(to_degrees, lambda g, out, x: g * (180 / math.pi))


@composite(lambda g, out, x, order: g * sinc_derivative(x, order + 1), None)
def sinc_derivative(x: Array, order: int) -> Array:
    """The derivative of sinc(x) = sin(πx)/(πx) of the given order, accurate at and near 0.

    With y = πx and f = sin(y)/y: differentiating y·f = sin(y) n times gives y·fₙ = sin(y + nπ/2) − n·fₙ₋₁, stable
    for large y; near 0 the Taylor series fₙ = Σₖ (−1)ᵏ y²ᵏ⁻ⁿ (2k)! / ((2k−n)! (2k+1)!) takes over.
    """
    y = math.pi * x
    near = np.abs(y) < order + 1
    small, large = np.where(near, y, 0), np.where(near, 1, y)
    series = sum(
        (-1) ** k / (math.factorial(2 * k - order) * (2 * k + 1)) * small ** (2 * k - order)
        for k in range((order + 1) // 2, 2 * order + 14)
    )
    closed = np.sin(large) / large
    for n in range(1, order + 1):
        closed = (np.sin(large + n * math.pi / 2) - n * closed) / large
    return math.pi**order * np.where(near, series, closed)


derivative(np.sinc, lambda g, out, x: g * sinc_derivative(x, 1))

# Kinks ----------------------------------------------------------------------------------------------------------------

derivative(np.absolute, lambda g, out, x: g * np.sign(x))
derivative(np.fabs, lambda g, out, x: g * np.sign(x))
derivative(
    np.copysign,
    lambda g, out, x, y: g * np.copysign(np.sign(x), np.sign(x) * y),
    lambda g, out, x, y: np.zeros_like(g),
)
derivative(
    np.maximum,
    lambda g, out, x, y: np.where(x == y, g / 2, np.where(x > y, g, 0)),
    lambda g, out, x, y: np.where(x == y, g / 2, np.where(y > x, g, 0)),
)
derivative(
    np.minimum,
    lambda g, out, x, y: np.where(x == y, g / 2, np.where(x < y, g, 0)),
    lambda g, out, x, y: np.where(x == y, g / 2, np.where(y < x, g, 0)),
)
# fmax and fmin prefer a number to a NaN.
derivative(
    np.fmax,
    lambda g, out, x, y: np.where(x == y, g / 2, np.where((x > y) | np.isnan(y), g, 0)),
    lambda g, out, x, y: np.where(x == y, g / 2, np.where((y > x) | np.isnan(x), g, 0)),
)
derivative(
    np.fmin,
    lambda g, out, x, y: np.where(x == y, g / 2, np.where((x < y) | np.isnan(y), g, 0)),
    lambda g, out, x, y: np.where(x == y, g / 2, np.where((y < x) | np.isnan(x), g, 0)),
)


kinked(np.absolute, np.fabs)(_from_zero)


@kinked(np.maximum, np.minimum, np.fmax, np.fmin)
def _difference(out: Array, x: Array, y: Array) -> Array:
    return np.abs(np.subtract(x, y))


# Inside the bounds, and on them, x gets the gradient (as in PyTorch); outside, the bound that was taken.
@composite(
    lambda g, out, x, low, high: np.where((low <= x) & (x <= high), g, 0),
    lambda g, out, x, low, high: np.where((x < low) & (low <= high), g, 0),
    lambda g, out, x, low, high: np.where((x > high) | (low > high), g, 0),
    broadcasts=True,
)
def clip(x: Array, low: Array, high: Array) -> Array:
    """x limited to [low, high], elementwise: min(max(x, low), high)."""
    return np.clip(x, low, high)


@kinked(clip)
def _from_bounds(out: Array, x: Array, low: Array, high: Array) -> Array:
    return np.minimum(np.abs(x - low), np.abs(x - high))


@composed(np.clip)
def _clip(a: Array, a_min: Array = None, a_max: Array = None, *, min: Array = None, max: Array = None) -> Array:
    if not (min is max is None or a_min is a_max is None):
        raise ValueError("clip: give the bounds as a_min and a_max or as min and max, not as both")
    low = a_min if min is None else min
    high = a_max if max is None else max
    return clip(a, -math.inf if low is None else low, math.inf if high is None else high)


# A condition is a question: it moves in steps, and has derivative 0.
derivative(
    np.where,
    lambda g, out, condition, x, y: np.zeros_like(condition),
    lambda g, out, condition, x, y: np.where(condition, g, 0),
    lambda g, out, condition, x, y: np.where(condition, 0, g),
    broadcasts=True,
)


# The values alone do not show how near the condition is to changing. But a continuous function that is pieced together
# changes pieces where they are equal.
@kinked(np.where)
def _from_other_piece(out: Array, condition: Array, x: Array, y: Array) -> Array:
    return np.abs(np.subtract(x, y))


@composed(np.select)
def _select(condlist: Array, choicelist: Array, default: Array = 0) -> Array:
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        if np.asarray(condition).dtype != bool:
            raise TypeError(f"select: conditions are booleans, not {np.asarray(condition).dtype}")
        default = np.where(condition, choice, default)
    return default


derivative(
    np.nan_to_num,
    lambda g, out, x, *, nan=0.0, posinf=None, neginf=None: np.where(np.isfinite(x), g, 0),
)

# Steps: flat wherever they have a derivative --------------------------------------------------------------------------

for step in (np.sign, np.floor, np.ceil, np.trunc, np.rint):
    derivative(step, lambda g, out, x: np.zeros_like(g))
derivative(np.fix, lambda g, out, x: np.zeros_like(g))
for rounding in (np.round, np.around):
    derivative(rounding, lambda g, out, a, decimals=0: np.zeros_like(g))
derivative(np.floor_divide, lambda g, out, x, y: np.zeros_like(g), lambda g, out, x, y: np.zeros_like(g))
kinked(np.sign)(_from_zero)


@kinked(np.floor, np.ceil, np.trunc, np.fix)
def _from_integer(out: Array, x: Array) -> Array:
    return np.abs(x - np.rint(x))


# The value at 0 is the second argument.
derivative(np.heaviside, lambda g, out, x, y: np.zeros_like(g), lambda g, out, x, y: np.where(x == 0, g, 0))
