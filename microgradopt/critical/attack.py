"""Attacks on a verdict, before it is given: does the loss itself do what the kind of the point says?

The second derivatives are what the engine computed; the loss is what it is. So it is asked at points nearby: along
single eigenvectors, flat and curved ones mixed, and at random. On each way the first change that stands out from the
noise decides, and the gradient has to change as H says. A kink that nobody recorded, a jump, a wrong rule, a minimum
along every straight line that is none: each is seen by one of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.critical.local import Local

Array = npt.NDArray[Any]

_WAYS = 16  # eigenvectors, those with the least curvature first; and as many mixtures, and random directions
_RADII = 4  # from where curvature stands out from the noise, each ten times the one before
_VISIBLE = 4.0  # times the radius at which the change is as large as its noise
_SMALLEST = 1e-9  # of the size of θ
_MIXED = (0.1, 1e-3)  # shares of a curved direction, added to a flat one
_SLOPE = 0.5  # share of the gradient's change, as H foretells it, that may be missing


def breaks(point: Local, sign: int, rng: np.random.Generator) -> tuple[list[str], int]:
    """What contradicts the verdict, in words, and along how many ways the loss was seen to change.

    sign: 1 for a minimum, -1 for a maximum, 0 for a saddle.
    """
    found, ways = [], 0
    for name, direction, curvature in _directions(point, rng):
        expected = sign or (math.copysign(1, curvature) if name == "an eigenvector" else 0)
        for way in (direction, -direction):
            radius, change = _first_change(point, way, curvature, rng)
            ways += change != 0
            if expected and change * expected < 0:
                found.append(f"along {name} the loss changes by {change:.2g} at a distance of {radius:.2g}")
            if name == "an eigenvector" and not _turns_as_foretold(point, way, curvature, radius, rng):
                found.append(f"along {name} the gradient does not change as the Hessian says, at {radius:.2g}")
    return list(dict.fromkeys(found)), ways


def _directions(point: Local, rng: np.random.Generator) -> Iterator[tuple[str, Array, float]]:
    """Ways to go, each with its name and its curvature."""
    order = np.argsort(np.where(point.curved, np.abs(point.values), np.inf))[: point.curved.sum()]
    for i in dict.fromkeys([*order[:_WAYS], *order[-2:]]):
        yield "an eigenvector", point.vectors[:, i], float(point.values[i])
    for _ in range(_WAYS):
        random = _unit(rng.normal(size=len(point.theta)))
        yield "a random direction", random, float(random @ point.A @ random)
        if point.flat.shape[1] and point.curved.any():
            flat, across = (_unit(V @ rng.normal(size=V.shape[1])) for V in (point.flat, point.across))
            for share in _MIXED:
                mixed = _unit(flat + share * across)
                yield "flat and curved directions mixed", mixed, float(mixed @ point.A @ mixed)


def _unit(v: Array) -> Array:
    return v / np.linalg.norm(v)


def _first_change(point: Local, way: Array, curvature: float, rng: np.random.Generator) -> tuple[float, float]:
    """The distance of the first change of the loss that stands out from the noise, and that change; 0 for none."""
    bend = max(abs(curvature), point.tolerance, float(np.finfo(float).tiny))
    radius = max(_VISIBLE * math.sqrt(2 * point.value_noise / bend), _SMALLEST * point.long(way))
    for _ in range(_RADII):
        there = point.moved(radius * way, rng)
        change = math.nan if there is None else there.value - point.value
        if there is None or not math.isfinite(change):
            return radius, 0.0
        if abs(change) > there.value_noise + point.value_noise:
            return radius, change
        radius *= 10
    return radius / 10, 0.0


def _turns_as_foretold(point: Local, way: Array, curvature: float, radius: float, rng: np.random.Generator) -> bool:
    """Whether ∇L(θ + t v) − ∇L(θ) along v is t vᵀH v, at two distances below that of a change that can be seen."""
    for t in (1e-2 * radius, 1e-4 * radius):
        there = point.moved(t * way, rng)
        if there is None:
            continue
        got, foretold = float(way @ (there.gradient - point.gradient)), t * curvature
        noise = float(np.abs(there.noise @ way).max() + np.abs(point.noise @ way).max())
        noise += 2 * point.eps * float(np.abs(way @ point.A) @ (np.abs(point.y) + t))
        if abs(got - foretold) > noise + _SLOPE * abs(foretold):
            return False
    return True
