"""Rules of elementwise functions: arithmetic, powers, logarithms, angles, and the functions with kinks.

Broadcasting never appears here: the sweep undoes it. Conventions, stated once:

* At a kink the rule takes one subgradient: 0 for ``abs``; one half each where ``maximum`` or ``minimum`` ties. The
  subgradient is constant there: the second derivative of abs(x)**2 at 0 is 0, and not 2.
* A NaN wins no comparison: where ``maximum``, ``minimum`` or ``clip`` gives NaN, the slope is 0.
* Where a derivative is infinite and the cotangent is exactly 0, the product 0 · ∞ is taken as 0 (`over`, `_times`). So
  ``np.where(x > 0, np.log(x), 0.0)`` has gradient 0, not NaN, at x = 0. For exp(log x) at 0 it gives 0 as well, where
  the truth is 1: so NumPy's own "invalid value" is raised or warned of, as ``np.errstate`` says.
* Everything else is right or NaN, at second order too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgradopt.rules.registry import composed, composite, derivative, existing

Array = Any  # an ndarray, or whatever else speaks NumPy


# Cotangents through infinite slopes -----------------------------------------------------------------------------------


@composite(
    lambda h, out, g, x: over(h, x),
    lambda h, out, g, x: -over(h * out, x),
    broadcasts=True,
    singular=lambda out, g, x: np.abs(x),
    plain=lambda g, x: g / x,
)
def _quotient(g: Array, x: Array) -> Array:
    return np.where((g == 0) & (x == 0), 0, g / x)


def over(g: Array, x: Array) -> Array:
    """g / x for a cotangent g; 0 where both are 0: nothing flows. NumPy's "invalid value" tells of it."""
    return g / x if type(x) in (int, float) and x else _quotient(g, x)


@composite(
    lambda h, out, g, x, y: _denominator_share(h, x, y),
    lambda h, out, g, x, y: _denominator_share(g, h, y),
    lambda h, out, g, x, y: -2 * over(h * out, y),
    broadcasts=True,
    singular=lambda out, g, x, y: np.abs(y),
    plain=lambda g, x, y: -g * x / y**2,
)
def _denominator_share(g: Array, x: Array, y: Array) -> Array:
    """−g x / y² for a cotangent g; 0 where g and y are 0. Without y², which leaves the range long before x / y does."""
    return np.where((g == 0) & (y == 0), 0, -(g / y) * (x / y))


@composite(
    lambda h, out, g, slope: _times(h, slope),
    lambda h, out, g, slope: _times(h, g),
    broadcasts=True,
    smooth=True,
    plain=lambda g, slope: g * slope,
)
def _times(g: Array, slope: Array) -> Array:
    """g · slope for a cotangent g; 0 where g is 0 and the slope infinite. NumPy's "invalid value" tells of it."""
    return np.where((g == 0) & np.isinf(slope), 0, g * slope)


@composite(
    lambda h, out, x, length: h / length,
    lambda h, out, x, length: -h * out / length,
    broadcasts=True,
    singular=lambda out, x, length: length,
    plain=lambda x, length: x / length,
)
def direction(x: Array, length: Array) -> Array:
    """x / length, and the subgradient 0 of the length where that is 0. There a second derivative is not finite."""
    return x / (length + (length == 0))


def _from_zero(out: Array, x: Array) -> Array:
    return np.abs(x)


# Arithmetic -----------------------------------------------------------------------------------------------------------

derivative(np.add, lambda g, out, x, y: g, lambda g, out, x, y: g, smooth=True, sign="+")
derivative(np.subtract, lambda g, out, x, y: g, lambda g, out, x, y: -g, smooth=True, sign="−")
derivative(np.multiply, lambda g, out, x, y: g * y, lambda g, out, x, y: g * x, smooth=True, sign="×")
derivative(
    np.divide,
    lambda g, out, x, y: over(g, y),
    lambda g, out, x, y: _denominator_share(g, x, y),
    singular=lambda out, x, y: np.abs(y),
    sign="÷",
)
derivative(np.negative, lambda g, out, x: -g, smooth=True, sign="−x")
for unchanged in (np.positive, np.conjugate):
    derivative(unchanged, lambda g, out, x: g, smooth=True)
derivative(np.reciprocal, lambda g, out, x: _denominator_share(g, 1.0, x), singular=_from_zero, sign="1/x")
derivative(np.square, lambda g, out, x: g * 2 * x, smooth=True, sign="x²")


def _from_ends(out: Array, x: Array) -> Array:
    """How far from −1 and 1, where the slope of an angle is infinite."""
    return np.abs(1 - np.abs(x))


def from_multiple(out: Array, x: Array, y: Array) -> Array:
    """How far x is from a multiple of y."""
    return np.abs(x - y * np.rint(np.divide(x, y)))


def from_other_multiple(out: Array, x: Array, y: Array = 1) -> Array:
    """How far x is from a multiple of y other than 0: truncating does not jump at 0."""
    quotient = np.divide(x, y)
    return np.abs(x - y * np.copysign(np.maximum(np.abs(np.rint(quotient)), 1), quotient))


# x mod y = x − y·floor(x / y), and fmod truncates instead of flooring.
derivative(
    np.remainder,
    lambda g, out, x, y: g,
    lambda g, out, x, y: -g * np.floor_divide(x, y),
    jump=from_multiple,
    sign="mod",
)
# The quotient is read off the result, as x / y may round up to the next integer (1 / 0.1 is 10, fmod(1, 0.1) is not 0).
derivative(np.fmod, lambda g, out, x, y: g, lambda g, out, x, y: -g * np.rint((x - out) / y), jump=from_other_multiple)


composed(np.divmod)(lambda x, y: (np.floor_divide(x, y), np.remainder(x, y)))
composed(np.modf)(lambda x: (x - np.trunc(x), np.trunc(x)))

# Powers ---------------------------------------------------------------------------------------------------------------


@composite(
    lambda h, out, x, y: _times(h * y, _power_slope(x, y - 1)),
    lambda h, out, x, y: _times(h, np.power(x, y - 1)) + _times(h * out, np.log(x)),
    broadcasts=True,
    singular=lambda out, x, y: from_branch_point(out, x, y),
    plain=lambda x, y: y * x ** (y - 1),
)
def _power_slope(x: Array, y: Array) -> Array:
    """The derivative of xʸ by x, y·xʸ⁻¹; 0 for y = 0, at x = 0 too, as x⁰ = 1 everywhere."""
    constant = y == 0
    return np.where(constant, 0, y * np.power(np.where(constant, 1, x), y - 1))


@composite(
    lambda h, out, x, y: _times(h * _power_slope(x, y), np.log(x)) + _times(h, np.power(x, y - 1)),
    lambda h, out, x, y: _times(h * out, np.log(x)),
    broadcasts=True,
    singular=lambda out, x, y: np.abs(x),
    plain=lambda x, y: x**y * np.log(x),
)
def _power_log(x: Array, y: Array) -> Array:
    """The derivative of xʸ by y, xʸ log x; 0 for x = 0 and y > 0, as 0ʸ = 0 there."""
    constant = np.equal(x, 0) & np.greater(y, 0)
    return np.where(constant, 0, np.power(x, y) * np.log(np.where(constant, 1, x)))


def _base_rule(g: Array, out: Array, x: Array, y: Array) -> Array:
    if type(y) in (int, float) and (y >= 1 or y == 0):  # polynomials: nowhere singular
        return g * y * x ** max(y - 1, 0)
    return _times(g, _power_slope(x, y))


def _exponent_rule(g: Array, out: Array, x: Array, y: Array) -> Array:
    return g * _power_log(out.dtype.type(x) if type(x) in (int, float) else x, y)  # in out's dtype, not in float64


def from_branch_point(out: Array, x: Array, y: Array) -> Array:
    """How far from x = 0, which is singular for x^1.5 and 1/x, but not for x² and x⁰."""
    return np.where((np.asarray(y) >= 0) & (np.rint(y) == y), math.inf, np.abs(x))


for power in (np.power, np.float_power):
    derivative(power, _base_rule, _exponent_rule, singular=from_branch_point, sign="xʸ")

# Exponentials and logarithms ------------------------------------------------------------------------------------------

derivative(np.exp, lambda g, out, x: g * out, smooth=True, sign="eˣ")
derivative(np.expm1, lambda g, out, x: g * np.exp(x), smooth=True, sign="eˣ − 1")  # out + 1 loses small ones
derivative(np.exp2, lambda g, out, x: g * out * math.log(2), smooth=True, sign="2ˣ")
derivative(np.log, lambda g, out, x: over(g, x), singular=_from_zero, sign="ln")
derivative(np.log1p, lambda g, out, x: over(g, 1 + x), singular=lambda out, x: np.abs(1 + x), sign="ln(1 + x)")
derivative(np.log2, lambda g, out, x: over(g, x * math.log(2)), singular=_from_zero, sign="log₂")
derivative(np.log10, lambda g, out, x: over(g, x * math.log(10)), singular=_from_zero, sign="log₁₀")


def _log_of_sum(function: Any, power: Any) -> None:
    """log(bˣ + bʸ), by powers of b. The sum over −∞ alone is −∞, with derivative 0."""

    def part(out: Array, x: Array, y: Array) -> Array:
        """The part of bˣ in the sum. Of both powers, as `out` alone has lost what is small beside it."""
        none = out == -math.inf
        own, other = (power(z - np.where(none, 0, out)) for z in (x, y))
        return own / (own + other + none)

    derivative(
        function, lambda g, out, x, y: g * part(out, x, y), lambda g, out, x, y: g * part(out, y, x), smooth=True
    )


_log_of_sum(np.logaddexp, np.exp)
_log_of_sum(np.logaddexp2, np.exp2)
derivative(np.ldexp, lambda g, out, x, exponent: np.ldexp(g, exponent), smooth=True)

# Roots: infinite slope at 0.
derivative(np.sqrt, lambda g, out, x: over(g, 2 * out), singular=_from_zero, sign="√")
derivative(np.cbrt, lambda g, out, x: over(g, 3 * out * out), singular=_from_zero, sign="∛")
# The length of (0, 0) has subgradient 0.
derivative(
    np.hypot,
    lambda g, out, x, y: g * direction(x, out),
    lambda g, out, x, y: g * direction(y, out),
    kink=lambda out, x, y: out,
)

# Angles ---------------------------------------------------------------------------------------------------------------

derivative(np.sin, lambda g, out, x: g * np.cos(x), smooth=True)
derivative(np.cos, lambda g, out, x: -g * np.sin(x), smooth=True)
derivative(np.tan, lambda g, out, x: g * (1 + out * out), singular=lambda out, x: np.abs(np.cos(x)))
derivative(np.arcsin, lambda g, out, x: over(g, np.sqrt((1 - x) * (1 + x))), singular=_from_ends)
derivative(np.arccos, lambda g, out, x: -over(g, np.sqrt((1 - x) * (1 + x))), singular=_from_ends)
derivative(np.arctan, lambda g, out, x: g / (1 + x * x), smooth=True)
derivative(np.sinh, lambda g, out, x: g * np.cosh(x), smooth=True)
derivative(np.cosh, lambda g, out, x: g * np.sinh(x), smooth=True)
derivative(np.tanh, lambda g, out, x: g * (1 - out * out), smooth=True, steepest=1.0)
derivative(np.arcsinh, lambda g, out, x: g / np.hypot(1, x), smooth=True)
derivative(
    np.arccosh,
    lambda g, out, x: over(g, np.sqrt(x - 1) * np.sqrt(x + 1)),  # one root of the product would overflow
    singular=lambda out, x: np.abs(x - 1),
)
derivative(np.arctanh, lambda g, out, x: over(g, (1 - x) * (1 + x)), singular=_from_ends)
# The gradient of the angle is (x, −y) / r²; without r², which leaves the range long before the quotient does.
derivative(
    np.arctan2,
    lambda g, out, y, x: over(over(g, np.hypot(x, y)) * x, np.hypot(x, y)),
    lambda g, out, y, x: -over(over(g, np.hypot(x, y)) * y, np.hypot(x, y)),
    jump=lambda out, y, x: np.where(np.asarray(x) < 0, np.abs(y), math.inf),
    singular=lambda out, y, x: np.hypot(x, y),
)
for to_radians in (np.deg2rad, np.radians):
    derivative(to_radians, lambda g, out, x: g * (math.pi / 180), smooth=True)
for to_degrees in (np.rad2deg, np.degrees):
    derivative(to_degrees, lambda g, out, x: g * (180 / math.pi), smooth=True)


@composite(lambda g, out, x, order: g * sinc_derivative(x, order + 1), smooth=True)
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


derivative(np.sinc, lambda g, out, x: g * sinc_derivative(x, 1), smooth=True)

# Kinks ----------------------------------------------------------------------------------------------------------------

for absolute in (np.absolute, np.fabs):
    derivative(absolute, lambda g, out, x: g * np.sign(x), kink=_from_zero, sign="|x|")
derivative(
    np.copysign,
    lambda g, out, x, y: g * np.copysign(np.sign(x), np.sign(x) * y),
    lambda g, out, x, y: np.zeros_like(g),
    kink=lambda out, x, y: np.abs(x),
    jump=lambda out, x, y: np.abs(y),
)


def _better_of_two(function: Any, wins: Any, sign: str = "") -> None:
    """One of its two arguments; where they are equal, half of the gradient to each."""
    derivative(
        function,
        lambda g, out, x, y: np.where(x == y, g / 2, np.where(wins(x, y), g, 0)),
        lambda g, out, x, y: np.where(x == y, g / 2, np.where(wins(y, x), g, 0)),
        kink=lambda out, x, y: np.abs(np.subtract(x, y)),
        sign=sign,
    )


_better_of_two(np.maximum, lambda x, y: x > y, "max")
_better_of_two(np.minimum, lambda x, y: x < y, "min")
# fmax and fmin prefer a number to a NaN.
_better_of_two(np.fmax, lambda x, y: (x > y) | np.isnan(y))
_better_of_two(np.fmin, lambda x, y: (x < y) | np.isnan(y))


# Inside the bounds, and on them, x gets the gradient (as in PyTorch); outside, the bound that was taken.
@composite(
    lambda g, out, x, low, high: np.where((low <= x) & (x <= high), g, 0),
    lambda g, out, x, low, high: np.where((x < low) & (low <= high), g, 0),
    lambda g, out, x, low, high: np.where((x > high) | (low > high), g, 0),
    broadcasts=True,
    kink=lambda out, x, low, high: np.minimum(np.abs(x - low), np.abs(x - high)),
)
def clip(x: Array, low: Array, high: Array) -> Array:
    """x limited to [low, high], elementwise: min(max(x, low), high)."""
    return np.clip(x, low, high)


@composed(np.clip)
def _clip(a: Array, a_min: Array = None, a_max: Array = None, *, min: Array = None, max: Array = None) -> Array:
    if not (min is max is None or a_min is a_max is None):
        raise ValueError("clip: give the bounds as a_min and a_max or as min and max, not as both")
    low = a_min if min is None else min
    high = a_max if max is None else max
    return clip(a, -math.inf if low is None else low, math.inf if high is None else high)


# A continuous function changes pieces where they are equal: a kink. Where it jumps instead, the comparison that gave
# the condition tells, and that is watched by itself. A condition that is a tensor is one: x != 0.
derivative(
    np.where,
    lambda g, out, condition, x, y: np.zeros_like(condition),
    lambda g, out, condition, x, y: np.where(condition, g, 0),
    lambda g, out, condition, x, y: np.where(condition, 0, g),
    broadcasts=True,
    kink=lambda out, condition, x, y: np.nan_to_num(np.abs(np.subtract(x, y)), nan=math.inf),  # NaN is no piece
    jump=lambda out, condition, x, y: math.inf if np.asarray(condition).dtype == bool else np.abs(condition),
)


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
    smooth=True,
)

# Steps: flat wherever they have a derivative --------------------------------------------------------------------------

derivative(np.sign, lambda g, out, x: np.zeros_like(g), jump=_from_zero)
for step, sign in ((np.floor, "⌊x⌋"), (np.ceil, "⌈x⌉")):
    derivative(step, lambda g, out, x: np.zeros_like(g), jump=lambda out, x: np.abs(x - np.rint(x)), sign=sign)
derivative(np.rint, lambda g, out, x: np.zeros_like(g), jump=lambda out, x: np.abs(x - np.floor(x) - 0.5))
for truncation in existing("trunc", "fix"):
    derivative(truncation, lambda g, out, x: np.zeros_like(g), jump=from_other_multiple)
for rounding in existing("round", "around"):
    derivative(
        rounding,
        lambda g, out, a, decimals=0: np.zeros_like(g),
        jump=lambda out, a, decimals=0: np.abs(a - np.floor(a * 10.0**decimals) / 10.0**decimals - 0.5 / 10**decimals),
    )
derivative(
    np.floor_divide,
    lambda g, out, x, y: np.zeros_like(g),
    lambda g, out, x, y: np.zeros_like(g),
    jump=from_multiple,
    sign="⌊x/y⌋",
)
# The value at 0 is the second argument.
derivative(
    np.heaviside,
    lambda g, out, x, y: np.zeros_like(g),
    lambda g, out, x, y: np.where(x == 0, g, 0),
    jump=lambda out, x, y: np.abs(x),
)
