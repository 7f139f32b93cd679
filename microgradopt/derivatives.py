"""Derivatives as functions of functions: f in plain NumPy, arrays in, arrays out.

.. code-block:: text

    gradient(f)(x)    ∇f(x)                     of x's shape
    jacobian(f)(x)    ∂f(x)[i] / ∂x[j]          f(x).shape + x.shape
    hessian(f)(x)     ∂²f(x) / ∂x[i] ∂x[j]      x.shape + x.shape: the Jacobian of the gradient
    hvp(f)(x, v)      H(x) v = ∇(v·∇f)(x)       of x's shape (Pearlmutter 1994)

x is a number, a list or an array of any shape. Floats stay what they are (float32 gives float32); all else becomes
float64. With several arguments the derivative is by number `argnum`; the others, and those by name, are passed on as
they are. The derivative of what does not depend on x is 0, as in JAX.

Arrays in, arrays out. f itself may ask for derivatives: ``gradient(lambda x: gradient(f)(x) ** 2)``. What it gets are
Tensors, to be differentiated again; so does whoever gives a Tensor that requires a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt import autodiff
from microgradopt.errors import ARRAYS
from microgradopt.mode import Switched, is_grad_enabled
from microgradopt.rules.registry import NotDifferentiableError
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]
Function = Callable[..., Any]

__all__ = ["gradient", "hessian", "hvp", "jacobian", "value_and_gradient"]

# Whether some f is being recorded.
_inside: ContextVar[bool] = ContextVar("microgradopt_inside", default=False)


def gradient(f: Function, argnum: int = 0) -> Function:
    """The function x ↦ ∇f(x), an array of x's shape. f: gives one number.

    Raises ValueError where f gives more than one number, TypeError for what is no number.

    >>> gradient(lambda x: np.sum(x**3))([1, 2])
    array([ 3., 12.])
    """
    both = value_and_gradient(f, argnum)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def value_and_gradient(f: Function, argnum: int = 0) -> Function:
    """The function x ↦ (f(x), ∇f(x)), a float and an array of x's shape, from one call of f. See `gradient`.

    >>> value_and_gradient(lambda x: np.sum(x**3))([1, 2])
    (9.0, array([ 3., 12.]))
    """
    _check("gradient", f, argnum)

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        x, out = recorded("gradient", f, argnum, args, kwargs)
        if out.size != 1:
            raise ValueError(
                f"gradient: f gives an array of shape {out.shape}, not one number: reduce it (.sum(), .mean()), or "
                "take jacobian(f)"
            )
        again = _again(args)
        found = autodiff.grad(out, x, create_graph=again, allow_unused=True)[0] if out.needs_grad else None
        return out if again else out.item(), np.zeros(x.shape, x.dtype) if found is None else found

    return both


def jacobian(f: Function, argnum: int = 0) -> Function:
    """The function x ↦ J, J[i..., j...] = ∂f(x)[i...] / ∂x[j...], of shape f(x).shape + x.shape.

    f: gives an array of any shape; a list, or a tuple, is stacked.

    Raises NotDifferentiableError inside of another derivative, and for a Tensor that requires a gradient: there
    `gradient`, `value_and_gradient` and `hvp` may be used.

    >>> jacobian(lambda x: [x[0] * x[1], x[1] ** 2, 1.0])([2.0, 3.0])
    array([[3., 2.],
           [0., 6.],
           [0., 0.]])
    """
    _check("jacobian", f, argnum)

    def rows(*args: Any, **kwargs: Any) -> Array:
        if _again(args):
            raise NotDifferentiableError(
                "jacobian, hessian: inside of a function that is being differentiated use gradient, "
                "value_and_gradient or hvp, or mg.grad(..., create_graph=True) row by row; of a Tensor: mg.jacobian, "
                "mg.hessian, or its .data"
            )
        x, out = recorded("jacobian", f, argnum, args, kwargs)
        return autodiff.jacobian(out, x)[0] if out.needs_grad else np.zeros(out.shape + x.shape, x.dtype)

    return rows


def hessian(f: Function, argnum: int = 0) -> Function:
    """The function x ↦ H, H[i..., j...] = ∂²f(x) / ∂x[i...] ∂x[j...], of shape x.shape + x.shape.

    The gradient is recorded once and swept for all columns. Raises as `gradient` and `jacobian`.

    >>> hessian(lambda x: x[0] ** 2 * x[1])([1.0, 2.0])
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(gradient(f, argnum), argnum)


def hvp(f: Function, argnum: int = 0) -> Function:
    """The function x, v ↦ H(x) v, of x's shape, without forming H; with several arguments, v comes last.

    Raises TypeError without v, ValueError where v is not of x's shape, and as `gradient`.

    >>> hvp(lambda x: x[0] ** 2 * x[1])([1.0, 2.0], [1.0, 0.0])
    array([4., 2.])
    """
    slopes = gradient(f, argnum)

    def product(*args_and_v: Any, **kwargs: Any) -> Any:
        if len(args_and_v) < 2:
            raise TypeError("hvp: wants x and v: hvp(f)(x, v)")
        *args, v = args_and_v

        def slope(*args: Any, **kwargs: Any) -> Any:
            g = slopes(*args, **kwargs)
            if np.shape(v) != g.shape:
                raise ValueError(f"hvp: v has shape {np.shape(v)}, and x {g.shape}; they must be equal")
            return np.sum(g * v)

        return gradient(slope, argnum)(*args, **kwargs)

    return product


def recorded(name: str, f: Function, argnum: int, args: tuple[Any, ...], kwargs: Any) -> tuple[Tensor, Tensor]:
    """x, which is args[argnum] as a tensor, and f's answer with its graph; a list of answers is stacked."""
    if not -len(args) <= argnum < len(args):
        raise TypeError(f"{name}: the derivative is by argument {argnum}, and {len(args)} were given by position")
    given = args[argnum]
    known = _again(args) and type(given) is Tensor and given.needs_grad
    x = given.copy() if known else Tensor(given, requires_grad=True)  # a copy: f may use `given` itself, as a constant
    before = _inside.set(True)
    try:
        with Switched(recording=True):
            return x, _answer(name, f(*args[:argnum], x, *args[argnum:][1:], **kwargs))
    finally:
        _inside.reset(before)


def _again(args: tuple[Any, ...]) -> bool:
    """Whether the derivative is to be differentiated again."""
    return _inside.get() or (is_grad_enabled() and any(type(a) is Tensor and a.needs_grad for a in args))


def _answer(name: str, out: Any) -> Tensor:
    if isinstance(out, list | tuple):
        out = np.stack(list(out))
    if type(out) is Tensor:
        return out
    if not isinstance(out, (*ARRAYS, float, int)):
        raise TypeError(f"{name}: f is to give numbers, not {out!r:.60}; does it return its result?")
    return Tensor(out)


def _check(name: str, f: Function, argnum: int) -> None:
    if not callable(f):
        raise TypeError(f"{name}: f is a function, not {f!r:.60}: {name}(f)(x)")
    if not isinstance(argnum, int):
        raise TypeError(f"{name}: argnum is the number of one argument, not {argnum!r:.60}")
