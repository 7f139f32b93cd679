"""Line searches: how far to go along a direction that leads down.

The loss along the line is a function phi: phi(t) gives its value and its slope at the step t. A value or a slope that
is not finite means that the step was too long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

Phi = Callable[[float], tuple[float, float]]

_NEAR_END = 0.03  # of an interval: how near its ends the next step may not be
_EXPANSION = 10.0  # how many times longer the next step may be, where the slope still leads down


class LineSearch(NamedTuple):
    """Where a line search ended.

    step: t. value, slope: there. evaluations: of phi. success: whether the conditions hold. If not, t is the lowest
    step found that has a sufficient decrease; 0, with the value and slope that were given, if there is none.
    """

    step: float
    value: float
    slope: float
    evaluations: int
    success: bool


class _Point(NamedTuple):
    t: float
    value: float
    slope: float


def strong_wolfe(
    phi: Phi,
    value: float,
    slope: float,
    step: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    max_evaluations: int = 25,
) -> LineSearch:
    """A step with the strong Wolfe conditions: lower by enough, and flatter by enough.

    .. code-block:: text

        φ(t) ≤ φ(0) + c₁ t φ'(0)        |φ'(t)| ≤ c₂ |φ'(0)|

    value, slope: φ(0) and φ'(0), which is negative (else ValueError). step: the first t to try. The steps grow until an
    interval must contain an answer, and close in on it; each next step is the minimum of the cubic through two points.

    Source: Nocedal & Wright 2006, algorithms 3.5 and 3.6, equation 3.59.

    >>> found = strong_wolfe(lambda t: ((t - 3) ** 2, 2 * (t - 3)), 9.0, -6.0, c2=0.1)
    >>> round(found.step, 9), found.evaluations, found.success
    (3.0, 2, True)
    """
    _check("strong_wolfe", value, slope, step)
    start = low = before = _Point(0.0, value, slope)  # low: the lowest point with a sufficient decrease so far
    high, t = None, step  # high: once there is one, an answer lies between it and low, whose slope leads towards it
    for k in range(1, max_evaluations + 1):
        now = _at(phi, t)
        if not _decreased(now, start, c1) or now.value > low.value:
            high = now
        else:
            if abs(now.slope) <= -c2 * slope:
                return LineSearch(*now, k, True)
            before, low = low, now
            ahead = math.inf if high is None else high.t - before.t
            if now.slope * ahead >= 0:
                high = before
        t = _beyond(before, low) if high is None else _between(low, high)
        if t == low.t or (high is not None and t == high.t):  # neighbouring numbers: there is nothing between them
            break
    return LineSearch(*low, k, False)


def _beyond(before: _Point, now: _Point) -> float:
    """The next step where the slope still leads down. A cubic whose minimum is behind falls for ever ahead."""
    lowest, furthest = _cubic(before, now), _EXPANSION * now.t
    if lowest is None or lowest < now.t:
        return furthest
    return min(max(lowest, now.t + _NEAR_END * (now.t - before.t)), furthest)


def _between(low: _Point, high: _Point) -> float:
    """The next step, not too near the ends."""
    left, right = sorted((low.t, high.t))
    margin, lowest = _NEAR_END * (right - left), _cubic(low, high)
    return (left + right) / 2 if lowest is None else min(max(lowest, left + margin), right - margin)


def backtracking(
    phi: Phi, value: float, slope: float, step: float = 1.0, c1: float = 1e-4, max_evaluations: int = 50
) -> LineSearch:
    """The first step with a sufficient decrease, φ(t) ≤ φ(0) + c₁ t φ'(0), going back from `step` (Armijo 1966).

    value, slope: φ(0) and φ'(0), which is negative (else ValueError). The next t is the minimum of the parabola through
    what is known, between t / 10 and t / 2; t / 2 where φ(t) is not finite. φ'(t) is not used.

    Source: Nocedal & Wright 2006, algorithm 3.1, equation 3.57.

    >>> backtracking(lambda t: ((4 * t - 1) ** 2, 8 * (4 * t - 1)), 1.0, -8.0)
    LineSearch(step=0.25, value=0.0, slope=0.0, evaluations=2, success=True)
    """
    _check("backtracking", value, slope, step)
    start, t = _Point(0.0, value, slope), step
    for k in range(1, max_evaluations + 1):
        now = _at(phi, t)
        if _decreased(now, start, c1):
            return LineSearch(*now, k, True)
        shorter = t / 2
        if now.value < math.inf:
            shorter = -slope * t * t / (2 * (now.value - value - slope * t))
        t = min(max(shorter, t / 10), t / 2)
    return LineSearch(*start, max_evaluations, False)


def _check(name: str, value: float, slope: float, step: float) -> None:
    if not (math.isfinite(value) and -math.inf < slope < 0 < step < math.inf):
        raise ValueError(
            f"{name}: wants a finite value, a negative slope and a positive step, not {value}, {slope} and {step}; "
            "where the slope is not negative, the direction does not lead down"
        )


def _at(phi: Phi, t: float) -> _Point:
    value, slope = phi(t)
    return _Point(t, value, slope) if math.isfinite(value) and math.isfinite(slope) else _Point(t, math.inf, math.nan)


def _decreased(now: _Point, start: _Point, c1: float) -> bool:
    return now.value <= start.value + c1 * now.t * start.slope


def _cubic(a: _Point, b: _Point) -> float | None:
    """Where the cubic through the values and slopes at two points has its minimum, if it has one."""
    if not (math.isfinite(a.value) and math.isfinite(b.value)):
        return None
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    scale = max(abs(d1), abs(a.slope), abs(b.slope)) or 1.0  # so that no square overflows
    square = (d1 / scale) ** 2 - (a.slope / scale) * (b.slope / scale)
    d2 = math.copysign(scale * math.sqrt(max(square, 0.0)), b.t - a.t)
    divisor = b.slope - a.slope + 2 * d2
    return b.t - (b.t - a.t) * (b.slope + d2 - d1) / divisor if square >= 0 and divisor else None
