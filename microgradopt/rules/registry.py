"""How the engine learns a derivative: three ways to say what a NumPy function means to it.

* ``derivative(function, rule, rule, ...)``: one rule per positional argument. The function becomes one node.
* ``composed(function)``: a body made of other NumPy functions. Its parts become the nodes; no rule is needed.
* ``nondifferentiable(function, ...)``: answers as NumPy does, from the values (``argmax``, ``isnan``, ``x > 0``).

``kinked(function)`` adds, where derivatives jump, how far a call is from the place where they do.

And ``composite(rule, rule, ...)`` makes a *new* function from a body in plain NumPy, with rules of its own: one node,
fused for speed or for numerical stability (``logsumexp``, a loss).

A rule is a function ``rule(g, out, *args, **kwargs)``: ``g`` is the cotangent of ``out``, the rest is the call as it
was made. It returns the cotangent of its argument, in plain NumPy code: run on arrays it gives the gradient, run on
tensors it gives a gradient that can be differentiated again. It captures nothing and changes nothing.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Function = Callable[..., Any]
Rule = Callable[..., Any]


class NotDifferentiableError(TypeError):
    """A gradient would have to flow through a function, or an argument, that has no derivative rule."""


class Derivative(NamedTuple):
    """What is known of one function.

    rules: one per argument, in order, None where there is nothing to differentiate (an axis, a shape).
    broadcasts: whether arguments may be smaller than the result; only then does the sweep undo broadcasting.
    """

    rules: tuple[Rule | None, ...]
    broadcasts: bool


class Arguments(NamedTuple):
    """The arguments a function may be called with while a gradient flows: names in order, and how many by position."""

    names: tuple[str, ...]
    positional: float


DERIVATIVES: dict[Function, Derivative] = {}
COMPOSED: dict[Function, Function] = {}
ARGUMENTS: dict[Function, Arguments] = {}
KINKS: dict[Function, Rule] = {}
BODIES: dict[Function, Function] = {}  # of composites: what to call on arrays
NONDIFFERENTIABLE: set[Function] = set()


def derivative(function: Function, *rules: Rule | None, broadcasts: bool | None = None) -> None:
    """Register the rules of `function`, one per positional argument.

    broadcasts: does the function broadcast its arguments? By default: elementwise ufuncs do, nothing else does.

    Raises TypeError when the rules do not agree on the function's arguments.
    """
    if broadcasts is None:
        broadcasts = isinstance(function, np.ufunc) and function.signature is None
    signatures = {_arguments(rule, skip=2) for rule in rules if rule is not None}
    if len(signatures) != 1:
        raise TypeError(f"derivative of {name_of(function)}: its rules take different arguments: {sorted(signatures)}")
    known = ARGUMENTS[function] = signatures.pop()
    DERIVATIVES[function] = Derivative(rules + (None,) * (len(known.names) - len(rules)), broadcasts)


def composed(*functions: Function) -> Callable[[Function], Function]:
    """Decorator: the body below says what each of `functions` is in terms of others that have rules."""

    def register(body: Function) -> Function:
        for function in functions:
            COMPOSED[function] = body
            ARGUMENTS[function] = _arguments(body)
        return body

    return register


def kinked(*functions: Function) -> Callable[[Rule], Rule]:
    """Decorator: `functions` have kinks (their first or second derivative jumps), and the function below says how near.

    ``distance(out, *args, **kwargs)`` gives, for every element, how far what decides on the side is from the kink:
    abs(x) for relu. A Hessian taken on a kink says nothing about the other side.
    """

    def register(distance: Rule) -> Rule:
        KINKS.update(dict.fromkeys(functions, distance))
        return distance

    return register


def nondifferentiable(*functions: Function) -> None:
    """Register functions that answer from the values alone, as NumPy does."""
    NONDIFFERENTIABLE.update(functions)


def composite(*rules: Rule | None, broadcasts: bool = False) -> Callable[[Function], Function]:
    """Decorator: the body, in plain NumPy, becomes a differentiable function with these rules.

    Called on arrays it is its body. Called on values that speak NumPy's dispatch protocol (NEP 18) it is handed to
    them, as NumPy's own functions are.
    """

    def register(body: Function) -> Function:
        @functools.wraps(body)
        def function(*args: Any, **kwargs: Any) -> Any:
            for argument in args:
                for value in argument if type(argument) is tuple else (argument,):  # an index may be a tuple of arrays
                    if type(value) is not np.ndarray and hasattr(value, "__array_function__"):
                        result = value.__array_function__(function, tuple(map(type, args)), args, kwargs)
                        if result is not NotImplemented:
                            return result
            return body(*args, **kwargs)

        derivative(function, *rules, broadcasts=broadcasts)
        BODIES[function] = body
        return function

    return register


def name_of(function: Function) -> str:
    """The name a reader knows a function by: "multiply", "linalg.norm", "cross_entropy"."""
    name: str = getattr(function, "__name__", repr(function))
    return f"linalg.{name}" if getattr(function, "__module__", "") == "numpy.linalg" else name


def supported() -> list[str]:
    """The names of all functions that can be differentiated, sorted."""
    names = {name_of(function) for function in (*DERIVATIVES, *COMPOSED)}
    return sorted(name for name in names if not name.startswith("_"))


def arrays(*operands: Any) -> list[Any]:
    """Operands that may be spelled as lists, as arrays."""
    return [x if hasattr(x, "ndim") else np.asarray(x) for x in operands]


def _arguments(function: Function, skip: int = 0) -> Arguments:
    """The arguments of a Python function after its first `skip` (a rule's own g and out)."""
    code = function.__code__
    names = code.co_varnames[skip : code.co_argcount + code.co_kwonlyargcount]
    variadic = code.co_flags & inspect.CO_VARARGS
    return Arguments(names, math.inf if variadic else code.co_argcount - skip)
