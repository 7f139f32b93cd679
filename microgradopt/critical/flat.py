"""Flat directions: do they lie in a surface of critical points, along which the loss is constant?

Then a point with positive curvature across is a minimum, though not a strict one (Morse-Bott lemma; Bott 1954). No list
of symmetries can be complete, and a loss that looks constant along a line proves nothing: y² + x²y does at 0. So the
surface is walked: a step along it, Newton's steps back across, and there the whole gradient has to be zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.critical.local import Local
from microgradopt.critical.nonsmooth import kinks
from microgradopt.curvature.solvers import norm
from microgradopt.rules.registry import SINGULAR

Array = npt.NDArray[Any]

_WAYS = 4  # random directions, each walked both ways: where the surface has too few dimensions, none stays in it
_RADII = (1e-3, 1e-2, 0.1, 0.3, 1.0, 2.0)  # of the size of θ
_RADII_AT_ORIGIN = tuple(10.0**k for k in range(-3, 19))  # which tells no length: until something can be seen
_LONGER = 0.1  # at most, is each at random: or a ripple as long as a radius would not be seen
_FAR = 1e-2  # a walk has to come so far, at least
_STEPS = 3  # from one of the larger radii to the next
_SHORTEST = 1e-6  # of a step, which is halved where the surface is bent too much for it: a surface ends there
_TRIES = 50  # steps of a walk, at most
_HALVINGS = 20  # of a step, up to a kink on its way
_BACK = 40  # Newton's steps back across, with one Hessian for all
_FALLS = 0.3  # of the gradient is left after each, at most
_TURNED = 300  # parameters, up to which the Hessian is computed anew at each step


def is_surface(point: Local, rng: np.random.Generator) -> bool:
    """Whether the flat directions of a critical point are tangent to a surface of critical points."""
    flat = point.flat
    for _ in range(_WAYS if flat.shape[1] > 1 else 1):
        direction = flat @ rng.normal(size=flat.shape[1])
        direction /= np.linalg.norm(direction)
        for way in (direction, -direction):
            if not _stays(point, way, rng):
                return False
    return True


def _stays(point: Local, direction: Array, rng: np.random.Generator) -> bool:
    """Whether the gradient stays zero on the way. A walk that comes to a place it cannot go on from has ended.

    A step that is too long for the bends of the surface is halved, until the place is found.
    """
    here, reached, tries, long = point, 0.0, 0, point.long(direction)
    for round_radius in _RADII if point.size else _RADII_AT_ORIGIN:
        radius = round_radius * (1 + _LONGER * rng.random())
        length = longest = (radius - reached) * long / (1 if round_radius <= _FAR or not point.size else _STEPS)
        while (radius - reached) * long > _SHORTEST * longest:
            tries += 1
            if tries > _TRIES or length < _SHORTEST * longest:
                return reached >= _FAR
            there = _across(here, here.at_step(length * direction), rng)
            if there is not None and not there.rests_along(there.flat):
                return reached >= _FAR and _ends_at_a_kink(here, there, length * direction, rng)
            ahead = None if there is None else there.flat @ (there.flat.T @ ((there.theta - here.theta) / here.units))
            if there is None or ahead is None or norm(ahead) < 0.3 * length:
                length /= 2
                continue
            here, direction, reached = there, ahead / norm(ahead), reached + length / long
            length = min(2 * length, longest, (radius - reached) * long)
    return True


def _ends_at_a_kink(here: Local, there: Local, step: Array, rng: np.random.Generator) -> bool:
    """Whether the gradient stays zero up to a kink, beyond which there is another surface: found by bisection."""
    for _ in range(_HALVINGS):
        met = kinks(here.objective, here.theta, there.theta - here.theta)
        if all(each.kind == SINGULAR for each in met):
            return False
        step = step / 2
        middle = _across(here, here.at_step(step), rng)
        if middle is None:
            break
        if middle.rests_along(middle.flat):
            here = middle
        else:
            there = middle
    return True


def _across(point: Local, theta: Array, rng: np.random.Generator) -> Local | None:
    """Newton's steps from θ across the flat directions, to where the gradient across is zero; None where they fail."""
    V, curved = point.across, point.values[point.curved]
    size = np.inf
    for _ in range(_BACK):
        gradient = point.units * (point.objective.gradient(theta) / point.scale)
        before, size = size, float(np.linalg.norm(V.T @ gradient))
        if not size <= _FALLS * before:
            break
        theta = (theta - point.units * (V @ ((V.T @ gradient) / curved))).astype(theta.dtype)
    if not np.isfinite(size):
        return None
    here = point.at(theta, rng)
    if here is None or not here.rests_along(here.across):
        return None
    return here.turned() if len(theta) <= _TURNED else here
