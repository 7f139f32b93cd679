"""Programs on balls: each number an interval m ± r, that holds every value it can have (arb: Johansson 2017).

A derived program is NumPy calls, one after the other, and NumPy calls the operators of what its arrays hold. So the
nodes are called as they are, on arrays of balls; named below is what is not an operator, and what has to be refused:
a comparison that is not the same all over the balls, and every function that is not known to be right on them.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, Node
from microgradopt.nn import functional
from microgradopt.program.writer import Returned
from microgradopt.rules.outputs import astype, pick
from microgradopt.rules.registry import name_of

if TYPE_CHECKING:
    from microgradopt.program.trace import Trace
    from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

_BITS = 100
_ULPS = 8.0  # that the roundings of a constant may come to: 1/n, √(2π), 0.01 · 2


class UndecidedError(Exception):
    """The balls are too large, or of a function that is not known on them."""


class _Undecided:
    """The answer to a question that is not the same all over the balls. Nothing can be done with it."""

    def _refuse(self, *_: Any) -> Any:
        raise UndecidedError("a comparison is not the same all over the box: a kink or a jump")

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __abs__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = _refuse
    __float__ = __int__ = __index__ = _refuse
    __hash__ = object.__hash__


_UNDECIDED = _Undecided()


@functools.cache
def _arb() -> Any:
    try:
        from flint import arb
    except ImportError:
        raise ImportError("prove: needs python-flint: pip install 'microgradopt[proof]'") from None
    return arb


def precise() -> contextlib.AbstractContextManager[Any]:
    """Inside, balls have 100 bits: a proof should not fail for rounding."""
    _arb()
    from flint import ctx

    return ctx.workprec(_BITS)


# Balls ----------------------------------------------------------------------------------------------------------------


def ball(x: Any) -> Any:
    """A number as a ball of radius 0; a ball as it is."""
    arb = _arb()
    return x if isinstance(x, arb) else arb(int(x) if isinstance(x, bool | int | np.integer | np.bool) else float(x))


def exact(x: npt.ArrayLike) -> Array:
    """Numbers as balls of radius 0; balls as they are."""
    return np.array(np.frompyfunc(ball, 1, 1)(np.asarray(x)), object)


def balls(middle: npt.ArrayLike, radius: npt.ArrayLike) -> Array:
    """m ± r, elementwise."""
    return np.array(np.frompyfunc(lambda m, r: _arb()(float(m), float(r)), 2, 1)(middle, radius), object)


def rounded(x: npt.ArrayLike) -> Array:
    """Constants, that may have been rounded on the way, as balls; those with few bits as they are: 0.5, 3, 1/64."""
    x = np.asarray(x)
    with np.errstate(invalid="ignore"):  # infinities
        is_short = np.isinf(x) | (np.ldexp(np.frexp(x)[0], np.finfo(x.dtype).nmant // 2) % 1 == 0)
        return balls(x, np.where(is_short, 0.0, _ULPS * np.spacing(np.abs(x)).astype(float)))


def largest(x: Array) -> float:
    """The largest absolute value that there may be, from above; infinite where that is not known."""
    if not x.size:
        return 0.0
    if not all(each.is_finite() for each in x.ravel()):
        return math.inf
    return max(float(np.nextafter(float(abs(each).upper()), math.inf)) for each in x.ravel())


def product(A: Array, B: Array) -> Array:
    """A @ B, of balls or exact numbers; two matrices as arb's own."""
    A, B = exact(A), exact(B)
    if A.ndim != 2 or B.ndim != 2:
        return np.array(np.matmul(A, B), object)
    from flint import arb_mat

    left, right = (arb_mat(x.tolist()) for x in (A, B))
    return np.array((left * right).entries(), object).reshape(A.shape[0], B.shape[1])


def _is_ball(x: Any) -> bool:
    """Whether it is a ball, or an array of some."""
    return isinstance(x, _arb()) or (isinstance(x, np.ndarray) and x.dtype.kind == "O")


# What functions are on balls -----------------------------------------------------------------------------------------

# By name, as some are NumPy's, some SciPy's, and one our own: see _is_of.
_OF_ONE: dict[str, Callable[[Any], Any]] = {
    **{name: operator.methodcaller(name) for name in (
        "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "erf", "erfc", "digamma",
    )},
    "arcsin": operator.methodcaller("asin"), "arccos": operator.methodcaller("acos"),
    "arctan": operator.methodcaller("atan"), "arcsinh": operator.methodcaller("asinh"),
    "arccosh": operator.methodcaller("acosh"), "arctanh": operator.methodcaller("atanh"),
    "psi": operator.methodcaller("digamma"),
    "sinc": operator.methodcaller("sinc_pi"), "gammaln": operator.methodcaller("lgamma"),
    "exp2": lambda x: (x * ball(2).log()).exp(),
    "log2": lambda x: x.log() / ball(2).log(), "log10": lambda x: x.log() / ball(10).log(),
    "expit": lambda x: 1 / (1 + (-x).exp()), "log_expit": lambda x: -(-x).exp().log1p(),
    **dict.fromkeys(("normal_cdf", "ndtr"), lambda x: (1 + (x / ball(2).sqrt()).erf()) / 2),
}  # fmt: skip
_OPERATORS = frozenset({
    np.add, np.subtract, np.multiply, np.divide, np.negative, np.positive, np.reciprocal, np.square, np.absolute,
    operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pos, operator.abs,
    np.sum, np.mean, np.prod, np.cumsum, np.dot, np.add.reduce, np.add.at,
})  # fmt: skip
_STRUCTURE = frozenset({
    np.reshape, np.transpose, np.matrix_transpose, np.ravel, np.concatenate, np.stack, np.hstack, np.vstack, np.append,
    np.broadcast_to, np.squeeze, np.expand_dims, np.swapaxes, np.moveaxis, np.atleast_1d, np.atleast_2d, np.take,
    np.take_along_axis, np.diagonal, np.diag, np.trace, np.tril, np.triu, np.repeat, np.tile, np.flip, np.roll,
    np.split, np.zeros_like, np.ones_like, np.full_like, np.copy, np.shape, np.outer, np.kron, operator.getitem, pick,
})  # fmt: skip
_REDUCTIONS = frozenset({np.sum, np.mean, np.prod, np.cumsum, np.max, np.min, np.var, np.std, np.linalg.norm})
_WRITES = frozenset({operator.setitem, np.add.at, np.put_along_axis})


def _compared(holds: Callable[[Any, Any], bool], fails: Callable[[Any, Any], bool]) -> Callable[..., Any]:
    """True, False, or undecided."""

    def answer(x: Any, y: Any) -> Any:
        x, y = ball(x), ball(y)
        return True if holds(x, y) else False if fails(x, y) else _UNDECIDED

    return np.frompyfunc(answer, 2, 1)


_lt, _le = _compared(operator.lt, operator.ge), _compared(operator.le, operator.gt)
_gt, _ge = _compared(operator.gt, operator.le), _compared(operator.ge, operator.lt)
_eq, _ne = _compared(operator.eq, operator.ne), _compared(operator.ne, operator.eq)


def _truth(x: Any) -> Any:
    """An answer as it is; of a number, whether it is not 0."""
    return x if isinstance(x, bool | _Undecided) else bool(x) if isinstance(x, np.bool) else _ne(x, 0)


def _not_true(x: Any) -> Any:
    x = _truth(x)
    return x if x is _UNDECIDED else not x


def _both(x: Any, y: Any) -> Any:
    x, y = _truth(x), _truth(y)
    return False if x is False or y is False else _UNDECIDED if x is _UNDECIDED or y is _UNDECIDED else True


def _any_of(x: Any, y: Any) -> Any:
    return _not_true(_both(_not_true(x), _not_true(y)))


_not, _and, _or = np.frompyfunc(_not_true, 1, 1), np.frompyfunc(_both, 2, 1), np.frompyfunc(_any_of, 2, 1)
_is_finite = np.frompyfunc(lambda x: True if ball(x).is_finite() else _UNDECIDED, 1, 1)


def _chosen(condition: Any, x: Any, y: Any) -> Any:
    """One of two; a ball that holds both where it is not decided which."""
    condition = _truth(condition)
    return ball(x).union(ball(y)) if condition is _UNDECIDED else ball(x) if condition else ball(y)


def _sign(x: Any) -> Any:
    x = ball(x)
    return ball(1 if x > 0 else -1 if x < 0 else 0) if x > 0 or x < 0 or x == 0 else _UNDECIDED


def _power(x: Any, p: Any) -> Any:
    """x**p: a whole exponent is a product, also of what is negative or 0, where exp(p log x) is not known."""
    x, p = ball(x), ball(p)
    whole = p.unique_fmpz() if p.is_exact() else None
    if whole is None:
        return x**p
    n, power = abs(int(whole)), ball(1)
    while n:
        power, x, n = power * x if n % 2 else power, x * x, n // 2
    return power if whole >= 0 else 1 / power


def _angle(y: Any, x: Any) -> Any:
    y, x = ball(y), ball(x)
    if not (x > 0 or y > 0 or y < 0):
        raise UndecidedError("arctan2: the box reaches its cut")
    return _arb().atan2(y, x)


def _log_add_exp(x: Any, y: Any) -> Any:
    return ball(x) + (ball(y) - ball(x)).exp().log1p()


def _max(x: Any, y: Any) -> Any:
    return ball(x).max(ball(y))


def _min(x: Any, y: Any) -> Any:
    return ball(x).min(ball(y))


_sqrt = np.frompyfunc(lambda x: ball(x).sqrt(), 1, 1)


def _norm(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
    return _sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def _var(x: Array, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Array:
    apart = x - np.mean(x, axis=axis, keepdims=True)
    total = np.sum(apart * apart, axis=axis, keepdims=keepdims)
    return total / (x.size // np.size(total) - ddof)


def _cast(x: Array, dtype: Any) -> Array:
    if np.dtype(dtype).kind != "f":
        raise UndecidedError(f"astype({dtype}) on balls")
    return exact(x)


def _reduced(f: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    ufunc = np.frompyfunc(f, 2, 1)

    def reduced(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
        """Over an axis, or several."""
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        for i in sorted((a % x.ndim for a in axes), reverse=True):
            x = np.asarray(ufunc.reduce(x, axis=i, keepdims=keepdims), object)
        return x

    return reduced


_QUESTIONS: dict[Any, Callable[..., Any]] = {
    np.less: _lt, np.less_equal: _le, np.greater: _gt, np.greater_equal: _ge, np.equal: _eq, np.not_equal: _ne,
    operator.lt: _lt, operator.le: _le, operator.gt: _gt, operator.ge: _ge, operator.eq: _eq, operator.ne: _ne,
    np.bitwise_and: _and, np.bitwise_or: _or, np.invert: _not, operator.and_: _and, operator.or_: _or,
    np.logical_and: _and, np.logical_or: _or, np.logical_not: _not, operator.invert: _not,
    np.isfinite: _is_finite, np.isinf: lambda x: _not(_is_finite(x)), np.isnan: lambda x: _not(_is_finite(x)),
}  # fmt: skip
_CALLS: dict[Any, Callable[..., Any]] = {
    **_QUESTIONS,
    np.where: np.frompyfunc(_chosen, 3, 1), np.sign: np.frompyfunc(_sign, 1, 1),
    np.power: np.frompyfunc(_power, 2, 1), np.float_power: np.frompyfunc(_power, 2, 1),
    operator.pow: np.frompyfunc(_power, 2, 1),
    np.maximum: np.frompyfunc(_max, 2, 1), np.minimum: np.frompyfunc(_min, 2, 1),
    np.max: _reduced(_max), np.min: _reduced(_min),
    np.clip: lambda x, low, high: np.frompyfunc(lambda a, b, c: _min(_max(a, b), c), 3, 1)(x, low, high),
    np.linalg.norm: _norm, np.var: _var, np.std: lambda x, *args, **kwargs: _sqrt(_var(x, *args, **kwargs)),
    np.logaddexp: np.frompyfunc(_log_add_exp, 2, 1),
    np.hypot: np.frompyfunc(lambda x, y: (ball(x) * x + ball(y) * y).sqrt(), 2, 1),
    np.arctan2: np.frompyfunc(_angle, 2, 1),
    np.matmul: product, operator.matmul: product, astype: _cast,
}  # fmt: skip


def _is_of(function: Any, name: str) -> bool:
    """Whether it is NumPy's, SciPy's or our own function of that name, and no other."""
    places = np, sys.modules.get("scipy.special"), functional
    return any(getattr(place, name, None) is function for place in places)


def _on_balls(function: Any) -> Callable[..., Any]:
    """What a function is on balls. UndecidedError where that is not known."""
    if function in _CALLS:
        return _CALLS[function]
    if function in _OPERATORS or function in _STRUCTURE:
        return function
    name = name_of(function)
    if name not in _OF_ONE or not _is_of(function, name):
        raise UndecidedError(f"{name} is not known on balls")
    of_one = _OF_ONE[name]
    return np.frompyfunc(lambda x: of_one(ball(x)), 1, 1)


def evaluated(trace: Trace, given: Mapping[Tensor, Array]) -> Any:
    """The result of a traced program, with balls for tensors that it reads.

    All other floats that it reads are exact, as they are the data; constants of the text may have been rounded.
    Raises UndecidedError.
    """
    named = {f"{trace.texts[tensor]}.value": part for tensor, part in given.items()}
    values: dict[Node, Any] = {}
    for node in trace.tape.nodes:
        if node.function is None:
            read = trace.reads.get(node)
            values[node] = named[read] if read in named else _plain(node)
        else:
            values[node] = _called(node, values, node in trace.tape.smooth)
    result = trace.result.node if type(trace.result) is Returned else trace.result
    return tree.mapped(lambda x: exact(values[x]) if type(x) is Node else x, result)


def _plain(node: Node) -> Any:
    """A value that was there: floats as balls, integers and booleans as they are."""
    value = np.asarray(node.value)
    if value.dtype.kind != "f":
        return node.value
    if not np.isfinite(value).all():
        raise UndecidedError("a number that it reads is not finite")
    return (rounded if node.role == CONSTANT else exact)(value)


def _called(node: Node, values: dict[Node, Any], smooth: bool) -> Any:
    """One call. smooth: inside of a function that is smooth though its body compares: any branch is right there."""

    def meant(x: Any) -> Any:
        return values[x] if type(x) is Node else rounded(x)[()] if isinstance(x, float | np.floating) else x

    args, kwargs = tree.mapped(meant, node.arguments), tree.mapped(meant, node.kwargs)
    function: Any = node.function
    is_float = getattr(node.dtype, "kind", "f") == "f" and node.dtype is not type(None)
    if is_float:
        kwargs.pop("dtype", None)
    try:
        if function in _WRITES:
            written = exact(args[0]) if is_float else np.array(args[0])
            function(written, *args[1:], **kwargs)
            return written
        if not any(map(_is_ball, tree.leaves(args))):
            return _of_integers(function, args, kwargs) if is_float else function(*args, **kwargs)
        if function is np.isinf and smooth:  # where(g == 0 and slope infinite, 0, g * slope): 0 is right at all slopes
            return np.frompyfunc(lambda x: not ball(x).is_finite(), 1, 1)(args[0])
        if function is np.where and not smooth:
            for condition in np.ravel(np.asarray(args[0], object)):
                bool(_truth(condition))  # which raises where it is undecided
        out = _on_balls(function)(*args, **kwargs)
    except (TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise UndecidedError(f"{name_of(function)} on balls: {error}") from error
    if function in _QUESTIONS and not any(x is _UNDECIDED for x in np.ravel(out)):
        return np.asarray(out, bool)
    return out if isinstance(out, tuple | list) else np.asarray(out)


def _of_integers(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A float that comes of integers: indices, labels and counts. They are exact, and so 1/n is a ball."""
    if function in _STRUCTURE:
        return exact(function(*args, **kwargs))
    numbers = args[:1] if function in _REDUCTIONS or function is astype else args  # what follows says how
    balls_of = [exact(x) for x in numbers]
    return np.asarray(_on_balls(function)(*balls_of, *args[len(balls_of) :], **kwargs))
