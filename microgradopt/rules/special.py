"""SciPy's special functions: rules are registered when the first of them meets a tensor; SciPy is not imported."""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import numpy as np

from microgradopt.rules.elementwise import over
from microgradopt.rules.registry import KNOWN, Known, composite, derivative


def known_of_scipy(function: Any) -> Known | None:
    """The record of a ufunc of ``scipy.special``, where that has been imported; else None."""
    special = sys.modules.get("scipy.special")
    if special is None or not isinstance(function, np.ufunc):
        return None
    _register(special)
    if function.__name__ == "_zeta" and function not in KNOWN:  # the ufunc behind special.zeta, which is none itself
        derivative(
            function,
            None,
            lambda g, out, s, x: g * -s * special.zeta(s + 1, x),
            singular=lambda out, s, x: _from_pole(out, x),
        )
    return KNOWN.get(function)


def _from_pole(out: Any, x: Any) -> Any:
    """How far x is from 0, −1, −2, …"""
    return np.abs(x - np.minimum(np.rint(x), 0))


@functools.cache
def _register(special: Any) -> None:
    derivative(special.expit, lambda g, out, x: g * out * special.expit(-x), smooth=True, steepest=0.25)
    derivative(special.log_expit, lambda g, out, x: g * special.expit(-x), smooth=True)
    derivative(special.logit, lambda g, out, x: over(g, x * (1 - x)), singular=lambda out, x: np.minimum(x, 1 - x))
    derivative(special.erf, lambda g, out, x: g * (2 / math.sqrt(math.pi)) * np.exp(-x * x), smooth=True)
    derivative(special.erfc, lambda g, out, x: g * (-2 / math.sqrt(math.pi)) * np.exp(-x * x), smooth=True)
    derivative(special.ndtr, lambda g, out, x: g * np.exp(-x * x / 2) / math.sqrt(2 * math.pi), smooth=True)

    def _mills_rule(g: Any, out: Any, x: Any) -> Any:
        """−r (x + r), r = φ(x) / Φ(x); far below 0, where x + r is rounding alone, its series in t = 1 / x²."""
        is_far = x < -50
        near, t = np.where(is_far, -50, x), np.reciprocal(np.where(is_far, x, -50)) ** 2
        r = _mills(near)
        return -g * np.where(is_far, 1 - t * (1 - t * (6 - t * (50 - t * 518))), r * (near + r))

    @composite(_mills_rule, smooth=True)
    def _mills(x: Any) -> Any:
        """φ(x) / Φ(x), the inverse Mills ratio; far below 0, too, where exp(−x²/2 − log Φ) is rounding alone."""
        with np.errstate(over="ignore"):
            return math.sqrt(2 / math.pi) / special.erfcx(x * -math.sqrt(0.5))

    derivative(special.log_ndtr, lambda g, out, x: g * _mills(x), smooth=True)
    # x log y and x log(1 + y), 0 where x is 0.
    derivative(
        special.xlogy,
        lambda g, out, x, y: g * np.log(y),
        lambda g, out, x, y: over(g * x, y),
        singular=lambda out, x, y: np.abs(y),
    )
    derivative(
        special.xlog1py,
        lambda g, out, x, y: g * np.log1p(y),
        lambda g, out, x, y: over(g * x, 1 + y),
        singular=lambda out, x, y: np.abs(1 + y),
    )
    # ψ' is Hurwitz' ζ(2, x), and ∂ζ(s, x)/∂x = −s ζ(s + 1, x).
    derivative(special.gammaln, lambda g, out, x: g * special.psi(x), singular=_from_pole)
    derivative(special.gamma, lambda g, out, x: g * out * special.psi(x), singular=_from_pole)
    derivative(special.psi, lambda g, out, x: g * special.zeta(2.0, x), singular=_from_pole)
