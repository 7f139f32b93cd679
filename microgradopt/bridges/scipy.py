"""SciPy's least squares and root finding, with exact Jacobians.

SciPy computes; what it gets is the Jacobian by reverse mode, in place of its forward differences. For ``minimize`` see
`Objective.for_scipy`; SciPy's answers are what `critical.classify` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize  # type: ignore[import-untyped]

from microgradopt import autodiff
from microgradopt.derivatives import recorded
from microgradopt.tensor import Tensor, plain

Array = npt.NDArray[Any]
Function = Callable[..., Any]

__all__ = ["least_squares", "root"]


def least_squares(residuals: Function, x0: npt.ArrayLike, **settings: Any) -> Any:
    """``scipy.optimize.least_squares`` with J = ∂r/∂x, (m, n), exact: minimizes ½ ‖r(x)‖².

    residuals: r in plain NumPy, takes x of shape (n,), an array or a Tensor, and gives a vector (m,), or a list of m
    numbers. x0: where x starts, (n,) or one number. settings: SciPy's own (bounds, loss, method, args, ...); not jac.
    Gives SciPy's result.

    Raises ValueError for an r that is no vector, RuntimeError for one that does not depend on x; and as SciPy does.

    >>> t = np.arange(4.0)
    >>> least_squares(lambda x: x[0] * np.exp(-x[1] * t) - 3 * np.exp(-2 * t), [1.0, 1.0]).x.round(6)
    array([3., 2.])
    """
    r, J = _exact("least_squares", residuals)
    return optimize.least_squares(r, _vector("least_squares", x0), J, **settings)


def root(f: Function, x0: npt.ArrayLike, **settings: Any) -> Any:
    """``scipy.optimize.root`` with J = ∂f/∂x, (n, n), exact: finds f(x) = 0.

    f: in plain NumPy, takes x of shape (n,), an array or a Tensor, and gives a vector (n,), or a list of n numbers.
    x0: where x starts, (n,) or one number. settings: SciPy's own (method, tol, options, args); not jac. The methods
    "hybr", SciPy's default, and "lm" take Jacobians; SciPy warns of others. Gives SciPy's result.

    Raises ValueError for an f that does not give as many numbers as x has, RuntimeError for one that does not depend on
    x; and as SciPy does.

    >>> root(lambda x: [x[0] * np.cos(x[1]) - 4, x[0] * x[1] - x[1] - 5], [1.0, 1.0]).x.round(6)
    array([6.504097, 0.908414])
    """
    values, J = _exact("root", f)

    def square(x: Array, *args: Any) -> Array:
        out = values(x, *args)
        if out.shape != x.shape:
            raise ValueError(
                f"root: f gives {out.size} numbers for {x.size} unknowns, and root wants as many; least_squares "
                "takes more"
            )
        return out

    return optimize.root(square, _vector("root", x0), jac=J, **settings)


def _exact(name: str, f: Function) -> tuple[Function, Function]:
    """f on arrays, and its Jacobian."""
    if not callable(f):
        raise TypeError(f"{name}: a function of x is wanted, not {f!r:.60}")

    def values(x: Array, *args: Any, **kwargs: Any) -> Array:
        out: Array = np.asarray(plain(f(x, *args, **kwargs)))
        if out.ndim != 1:
            raise ValueError(
                f"{name}: f is to give a vector, not {out!r:.60} of shape {out.shape}: .ravel() makes one of an array, "
                "[out] of one number; a loss is for minimize, objective.for_scipy"
            )
        return out

    def jacobian(x: Array, *args: Any, **kwargs: Any) -> Array:
        theta, out = recorded(name, f, 0, (x, *args), kwargs)
        if not out.needs_grad:
            raise RuntimeError(
                f"{name}: what f gives does not depend on x, or its graph was cut: was it computed under no_grad, or "
                "from .data, .detach() or .item()?"
            )
        return autodiff.jacobian(out, theta)[0]

    return values, jacobian


def _vector(name: str, x0: npt.ArrayLike) -> Array:
    x = np.atleast_1d(Tensor(x0).data).astype(np.float64)
    if x.ndim != 1:
        raise ValueError(f"{name}: x0 is a vector of shape (n,), not {x.shape}: flatten it, and reshape inside of f")
    return x
