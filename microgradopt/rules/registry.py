"""What the engine knows of each NumPy function: one record per function, in one table, `KNOWN`.

There are four ways to make a record:

* ``derivative(function, rule, rule, ...)``: one rule per positional argument. The function becomes one node.
* ``composed(function)``: a body made of other functions. Its parts become the nodes; no rule is needed.
* ``composite(rule, rule, ...)``: a *new* function, from a body in plain NumPy, with rules of its own: one node, fused
  for speed or for numerical stability (``logsumexp``, a loss).
* ``question(function, ...)``: answers as NumPy does, from the values, and passes no gradient (``argmax``, ``x > 0``).

A rule is a function ``rule(g, out, *args, **kwargs)``: ``g`` is the cotangent of ``out``, the rest is the call as it
was made. It returns the cotangent of its argument, in plain NumPy code: run on arrays it gives the gradient, run on
tensors it gives a gradient that can be differentiated again. It captures nothing and changes nothing.

With its rules a function says where it is not smooth. ``smooth=True``: it is smooth wherever it is finite. Otherwise
it gives distances, functions ``distance(out, *args, **kwargs)`` that say of each element how far the call is from the
place: ``kink=`` (a derivative jumps: abs at 0), ``jump=`` (the value jumps: floor at 1), ``singular=`` (a derivative is
infinite or undefined: log at 0). One that says nothing is refused. What has a body takes this from its body, unless it
says otherwise: logsumexp is smooth though its body takes a maximum.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

# What takes no part in NumPy's dispatch protocol, or nothing but NumPy's own: most arguments are of these.
PLAIN_TYPES = frozenset({np.ndarray, int, float, str, bool, type(None), np.bool, np.float64, np.float32})

Function = Callable[..., Any]
Rule = Callable[..., Any]
P = ParamSpec("P")
T = TypeVar("T")

KINK, JUMP, SINGULAR = "kink", "jump", "singular point"


class NotDifferentiableError(TypeError):
    """A gradient would have to flow through a function, or an argument, that has no derivative rule.

    >>> import microgradopt as mg
    >>> np.fft.fft(mg.Tensor([1.0], requires_grad=True))
    Traceback (most recent call last):
        ...
    microgradopt.rules.registry.NotDifferentiableError: fft: ...
    """


class Break(NamedTuple):
    """Where a function is not smooth. kind: kink, jump or singular point. distance: how far a call is from there."""

    kind: str
    distance: Rule


class Arguments(NamedTuple):
    """The arguments a function may be called with while a gradient flows: names in order, and how many by position."""

    names: tuple[str, ...]
    positional: float


@dataclass(slots=True)
class Known:
    """All that is known of one function.

    rules: one per argument, in order, None where there is nothing to differentiate (an axis, a shape); empty for what
    is not a node of its own. body: what it is in terms of other functions, if that is known. arguments: those it takes.
    breaks: where it is not smooth, () for nowhere, None: where its body is not.
    broadcasts: whether arguments may be smaller than the result; only then does the sweep undo broadcasting.
    call: what to call on arrays, a composite's body or the function. static: the answer depends on shapes and dtypes
    alone. stacked: what it does to a `Stack`; if None, it is called on each array. sign: its name in a picture.
    steepest: of an activation, the steepest slope it has. plain: the formula without its guards, to be read.

    >>> KNOWN[np.maximum].breaks[0].kind, KNOWN[np.tanh].breaks
    ('kink', ())
    """

    call: Function
    rules: tuple[Rule | None, ...] = ()
    body: Function | None = None
    arguments: Arguments = Arguments((), 0)  # noqa: RUF009 (a tuple)
    breaks: tuple[Break, ...] | None = ()
    broadcasts: bool = False
    static: bool = False
    stacked: Function | None = None
    sign: str = ""
    steepest: float | None = None
    plain: Function | None = None

    @property
    def is_question(self) -> bool:
        """Whether it answers from the values alone."""
        return not self.rules and self.body is None

    @property
    def may_bend(self) -> bool:
        """Whether it has a kink or a jump somewhere, or its body may have."""
        return self.breaks is None or any(each.kind != SINGULAR for each in self.breaks)


KNOWN: dict[Function, Known] = {}


def derivative(
    function: Function,
    *rules: Rule | None,
    broadcasts: bool | None = None,
    smooth: bool = False,
    kink: Rule | None = None,
    jump: Rule | None = None,
    singular: Rule | None = None,
    sign: str = "",
    steepest: float | None = None,
    body: Function | None = None,
    plain: Function | None = None,
) -> None:
    """Say what is known of `function`: its rules, one per positional argument, and where it is not smooth.

    A rule is None, or left out at the end, for an argument with nothing to differentiate: an axis, a shape.

    broadcasts: does the function broadcast its arguments? By default: elementwise ufuncs do, nothing else does.
    smooth, kink, jump, singular: see above. sign: what stands for it in a picture, by default its name.
    steepest: of an activation, its steepest slope. body: what it does, in terms of other functions, as plain code.
    plain: the same without its guards, to be shown in a formula.

    Raises TypeError when the rules do not agree on the function's arguments, and when neither the function nor a body
    says anything of smoothness.

    >>> cube = dispatched(lambda x: x**3)
    >>> derivative(cube, lambda g, out, x: 3 * g * x**2, smooth=True)
    >>> import microgradopt as mg
    >>> x = mg.Tensor(2.0, requires_grad=True)
    >>> mg.grad(cube(x), x)
    [array(12.)]
    """
    if broadcasts is None:
        broadcasts = isinstance(function, np.ufunc) and function.signature is None
    breaks = _breaks(name_of(function), smooth, kink, jump, singular)
    if breaks is None and body is None:
        raise TypeError(
            f"derivative of {name_of(function)}: say whether it is smooth: smooth=True, or kink=, jump= or singular= "
            "with the distance from there"
        )
    signatures = {_arguments(rule, skip=2) for rule in rules if rule is not None}
    if len(signatures) != 1:
        raise TypeError(f"derivative of {name_of(function)}: its rules take different arguments: {sorted(signatures)}")
    arguments = signatures.pop()
    rules += (None,) * (len(arguments.names) - len(rules))
    KNOWN[function] = Known(
        body or function, rules, body, arguments, breaks, broadcasts, sign=sign, steepest=steepest, plain=plain
    )


def composite(*rules: Rule | None, **options: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: the body, in plain NumPy, becomes a differentiable function with these rules.

    Called on arrays it is its body. Called on values that speak NumPy's dispatch protocol (NEP 18) it is handed to
    them, as NumPy's own functions are. options: those of `derivative`. Where it is not smooth is found in its body,
    unless it is said here.

    >>> @composite(lambda g, out, x: g * (out > 0), kink=lambda out, x: np.abs(x))
    ... def ramp(x):
    ...     return np.maximum(x, 0)
    >>> import microgradopt as mg
    >>> x = mg.Tensor([-1.0, 2.0], requires_grad=True)
    >>> mg.grad(ramp(x).sum(), x)
    [array([0., 1.])]
    """

    def register(body: Callable[P, T]) -> Callable[P, T]:
        function = dispatched(body)
        derivative(function, *rules, body=body, **options)
        return function

    return register


def composed(*functions: Function, sign: str = "") -> Callable[[Function], Function]:
    """Decorator: the body below says what each of `functions` is in terms of others that are known.

    >>> twice = dispatched(lambda x: 2 * x)
    >>> @composed(twice)
    ... def _twice(x):
    ...     return x + x
    >>> import microgradopt as mg
    >>> twice(mg.Tensor(3.0, requires_grad=True))
    Tensor(6., function=add)
    """

    def register(body: Function) -> Function:
        for function in functions:
            KNOWN[function] = Known(function, body=body, arguments=_arguments(body), breaks=None, sign=sign)
        return body

    return register


def numpys_own(*functions: Any) -> None:
    """Say that NumPy's own code is the body of `functions`: it calls nothing but functions that are known."""
    for function in functions:
        composed(function)(function.__wrapped__)


def question(
    *functions: Function, smooth: bool = False, jump: Rule | None = None, static: bool = False, sign: str = ""
) -> None:
    """Say that `functions` answer from the values alone, as NumPy does.

    jump: how far the arguments are from another answer. smooth: the answer does not change with them, but for the
    worse (a NaN). static: it depends on shapes and dtypes alone.

    >>> near = dispatched(lambda x: bool(abs(x) < 1))
    >>> question(near, jump=lambda out, x: np.abs(np.abs(x) - 1))
    >>> import microgradopt as mg
    >>> near(mg.Tensor(0.5, requires_grad=True))
    True
    """
    for function in functions:
        breaks = _breaks(name_of(function), smooth or static, None, jump, None)
        if breaks is None:
            raise TypeError(f"question {name_of(function)}: say jump=, how near another answer is, or smooth=True")
        KNOWN[function] = Known(function, breaks=breaks, static=static, sign=sign)


def kinked(*functions: Function) -> Callable[[Rule], Rule]:
    """Decorator, of the release before: the distance below is that from the kink of each of `functions`."""

    def register(distance: Rule) -> Rule:
        for function in functions:
            KNOWN[function].breaks = (Break(KINK, distance),)
        return distance

    return register


def dispatched(body: Callable[P, T]) -> Callable[P, T]:
    """Decorator: the function hands itself to arguments that speak NumPy's dispatch protocol, as NumPy's own do."""

    @functools.wraps(body)
    def function(*args: P.args, **kwargs: P.kwargs) -> T:
        for argument in args:
            for value in argument if type(argument) is tuple else (argument,):  # an index may be a tuple of arrays
                if type(value) not in PLAIN_TYPES and hasattr(value, "__array_function__"):
                    result = value.__array_function__(function, tuple(map(type, args)), args, kwargs)
                    if result is not NotImplemented:
                        return result
        return body(*args, **kwargs)

    return function


def _breaks(
    name: str, smooth: bool, kink: Rule | None, jump: Rule | None, singular: Rule | None
) -> tuple[Break, ...] | None:
    """What has been said of smoothness; None if nothing has."""
    kinds = {KINK: kink, JUMP: jump, SINGULAR: singular}
    breaks = tuple(Break(kind, distance) for kind, distance in kinds.items() if distance is not None)
    if smooth and breaks:
        raise TypeError(f"{name}: smooth=True, and yet not smooth somewhere")
    return breaks if breaks or smooth else None


def name_of(function: Function) -> str:
    """The name a reader knows a function by: "multiply", "linalg.norm", "cross_entropy"."""
    name: str = getattr(function, "__name__", repr(function))
    return f"linalg.{name}" if getattr(function, "__module__", "") == "numpy.linalg" else name


def is_composite(function: Any) -> bool:
    """Whether a function has a body and yet is one node."""
    known = KNOWN.get(function)
    return known is not None and known.body is not None and bool(known.rules)


def existing(*names: str) -> list[Function]:
    """NumPy's functions of these names, those that this version of NumPy has."""
    return [getattr(np, name) for name in names if hasattr(np, name)]


def supported() -> list[str]:
    """The names of all functions that can be differentiated, sorted.

    >>> "tanh" in supported(), "fft.fft" in supported()
    (True, False)
    """
    names = {name_of(function) for function, known in KNOWN.items() if known.rules or known.body}
    return sorted(name for name in names if not name.startswith("_"))


def near(name: str) -> str:
    """A sentence on functions with rules whose names are like this one, or nothing."""
    import difflib  # on use: errors alone need it

    found = difflib.get_close_matches(name, supported(), n=3, cutoff=0.6)
    return f"Near by name: {', '.join(found)}. " if found else ""


def arrays(*operands: Any) -> list[Any]:
    """Operands that may be lists, or arrays of pandas or PyTorch, as arrays."""
    return [x if isinstance(x, np.generic) or hasattr(x, "__array_function__") else np.asarray(x) for x in operands]


def _arguments(function: Function, skip: int = 0) -> Arguments:
    """The arguments of a Python function after its first `skip` (a rule's own g and out)."""
    code = function.__code__
    names = code.co_varnames[skip : code.co_argcount + code.co_kwonlyargcount]
    variadic = code.co_flags & inspect.CO_VARARGS
    return Arguments(names, math.inf if variadic else code.co_argcount - skip)
