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
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, Node
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


def exact(x: npt.ArrayLike) -> Array:
    """Numbers as balls of radius 0."""
    return np.array(np.frompyfunc(lambda each: _arb()(float(each)), 1, 1)(np.asarray(x)), object)


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
    A, B = (x if x.dtype == object else exact(x) for x in (A, B))
    if A.ndim != 2 or B.ndim != 2:
        return np.array(np.matmul(A, B), object)
    from flint import arb_mat

    left, right = (arb_mat(x.tolist()) for x in (A, B))
    return np.array((left * right).entries(), object).reshape(A.shape[0], B.shape[1])


def _is_ball(x: Any) -> bool:
    """Whether it is a ball, or an array of some."""
    return isinstance(x, _arb()) or (isinstance(x, np.ndarray) and x.dtype.kind == "O")


# What functions are on balls -----------------------------------------------------------------------------------------

# By name, as some are NumPy's, some SciPy's, some composites of our own.
_OF_ONE: dict[str, Callable[[Any], Any]] = {
    **{name: operator.methodcaller(name) for name in (
        "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "erf", "erfc", "digamma",
    )},
    "arcsin": operator.methodcaller("asin"), "arccos": operator.methodcaller("acos"),
    "arctan": operator.methodcaller("atan"), "arcsinh": operator.methodcaller("asinh"),
    "arccosh": operator.methodcaller("acosh"), "arctanh": operator.methodcaller("atanh"),
    "sinc": operator.methodcaller("sinc_pi"), "gammaln": operator.methodcaller("lgamma"),
    "exp2": lambda x: (x * _arb()(2).log()).exp(),
    "log2": lambda x: x.log() / _arb()(2).log(), "log10": lambda x: x.log() / _arb()(10).log(),
    "expit": lambda x: 1 / (1 + (-x).exp()), "log_expit": lambda x: -(-x).exp().log1p(),
    **dict.fromkeys(("normal_cdf", "ndtr"), lambda x: (1 + (x / _arb()(2).sqrt()).erf()) / 2),
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
_WRITES = frozenset({operator.setitem, np.add.at, np.put_along_axis})


def _compared(less: Callable[[Any, Any], bool], not_less: Callable[[Any, Any], bool]) -> Callable[..., Any]:
    """True, False, or None for: not the same all over the balls."""
    return np.frompyfunc(lambda x, y: True if less(x, y) else False if not_less(x, y) else None, 2, 1)


_lt, _le = _compared(operator.lt, operator.ge), _compared(operator.le, operator.gt)
_gt, _ge = _compared(operator.gt, operator.le), _compared(operator.ge, operator.lt)
_eq, _ne = _compared(operator.eq, operator.ne), _compared(operator.ne, operator.eq)
_not = np.frompyfunc(lambda x: None if x is None else not x, 1, 1)
_and = np.frompyfunc(lambda x, y: False if x is False or y is False else None if None in (x, y) else True, 2, 1)
_or = np.frompyfunc(lambda x, y: True if x is True or y is True else None if None in (x, y) else False, 2, 1)
_is_finite = np.frompyfunc(lambda x: True if _arb()(x).is_finite() else None, 1, 1)


def _chosen(condition: Any, x: Any, y: Any) -> Any:
    """One of two; a ball that holds both where it is not decided which."""
    if condition is None:
        return _arb()(x).union(_arb()(y))
    return x if condition else y


def _sign(x: Any) -> Any:
    return 1 if x > 0 else -1 if x < 0 else 0 if x == 0 else None


def _power(x: Any, p: Any) -> Any:
    """x**p: a whole exponent is a product, also of what is negative or 0, where exp(p log x) is not known."""
    x, p = _arb()(x), _arb()(p)
    whole = p.unique_fmpz() if p.is_exact() else None
    if whole is None:
        return x**p
    n, power = abs(int(whole)), _arb()(1)
    while n:
        power, x, n = power * x if n % 2 else power, x * x, n // 2
    return power if whole >= 0 else 1 / power


def _log_add_exp(x: Any, y: Any) -> Any:
    return _arb()(x) + (_arb()(y) - x).exp().log1p()


def _max(x: Any, y: Any) -> Any:
    return _arb()(x).max(_arb()(y))


def _min(x: Any, y: Any) -> Any:
    return _arb()(x).min(_arb()(y))


_sqrt = np.frompyfunc(lambda x: _arb()(x).sqrt(), 1, 1)


def _norm(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
    return _sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def _var(x: Array, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Array:
    apart = x - np.mean(x, axis=axis, keepdims=True)
    total = np.sum(apart * apart, axis=axis, keepdims=keepdims)
    return total / (x.size // np.size(total) - ddof)


def _cast(x: Array, dtype: Any) -> Array:
    if np.dtype(dtype).kind != "f":
        raise UndecidedError(f"astype({dtype}) on balls")
    return x


def _reduced(f: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    ufunc = np.frompyfunc(f, 2, 1)

    def reduced(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
        """Over an axis, or several."""
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        for i in sorted((a % x.ndim for a in axes), reverse=True):
            x = np.asarray(ufunc.reduce(x, axis=i, keepdims=keepdims), object)
        return x

    return reduced


_CALLS: dict[Any, Callable[..., Any]] = {
    np.less: _lt, np.less_equal: _le, np.greater: _gt, np.greater_equal: _ge, np.equal: _eq, np.not_equal: _ne,
    operator.lt: _lt, operator.le: _le, operator.gt: _gt, operator.ge: _ge, operator.eq: _eq, operator.ne: _ne,
    np.bitwise_and: _and, np.bitwise_or: _or, np.invert: _not, operator.and_: _and, operator.or_: _or,
    np.logical_and: _and, np.logical_or: _or, np.logical_not: _not, operator.invert: _not,
    np.isfinite: _is_finite, np.isinf: lambda x: _not(_is_finite(x)), np.isnan: lambda x: _not(_is_finite(x)),
    np.where: np.frompyfunc(_chosen, 3, 1), np.sign: np.frompyfunc(_sign, 1, 1),
    np.power: np.frompyfunc(_power, 2, 1), np.float_power: np.frompyfunc(_power, 2, 1),
    operator.pow: np.frompyfunc(_power, 2, 1),
    np.maximum: np.frompyfunc(_max, 2, 1), np.minimum: np.frompyfunc(_min, 2, 1),
    np.max: _reduced(_max), np.min: _reduced(_min),
    np.clip: lambda x, low, high: np.frompyfunc(lambda a, b, c: _min(_max(a, b), c), 3, 1)(x, low, high),
    np.linalg.norm: _norm, np.var: _var, np.std: lambda x, *args, **kwargs: _sqrt(_var(x, *args, **kwargs)),
    np.logaddexp: np.frompyfunc(_log_add_exp, 2, 1),
    np.hypot: np.frompyfunc(lambda x, y: (_arb()(x) ** 2 + _arb()(y) ** 2).sqrt(), 2, 1),
    np.arctan2: np.frompyfunc(lambda x, y: _arb().atan2(_arb()(x), _arb()(y)), 2, 1),
    np.matmul: product, operator.matmul: product, astype: _cast,
}  # fmt: skip
_QUESTIONS = frozenset({
    np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.bitwise_and, np.bitwise_or,
    np.invert, np.logical_and, np.logical_or, np.logical_not, np.isfinite, np.isinf, np.isnan, operator.lt,
    operator.le, operator.gt, operator.ge, operator.eq, operator.ne, operator.and_, operator.or_, operator.invert,
})  # fmt: skip


def _on_balls(function: Any) -> Callable[..., Any]:
    """What a function is on balls. UndecidedError where that is not known."""
    if function in _CALLS:
        return _CALLS[function]
    if function in _OPERATORS or function in _STRUCTURE:
        return function
    if name_of(function) not in _OF_ONE:
        raise UndecidedError(f"{name_of(function)} is not known on balls")
    of_one = _OF_ONE[name_of(function)]
    return np.frompyfunc(lambda x: of_one(_arb()(x)), 1, 1)


def evaluated(trace: Trace, given: Mapping[Tensor, Array]) -> Any:
    """The result of a traced program, with balls for tensors that it reads.

    All other floats that it reads are exact, as they are the data; constants of the text may have been rounded.
    Raises UndecidedError.
    """
    named = {f"{trace.texts[tensor]}.value": ball for tensor, ball in given.items()}
    values: dict[Node, Any] = {}
    for node in trace.tape.nodes:
        if node.function is None:
            read = trace.reads.get(node)
            values[node] = named[read] if read in named else _plain(node)
        else:
            values[node] = _called(node, values, node in trace.tape.smooth)
    return tree.mapped(lambda x: values[x] if type(x) is Node else x, trace.result)


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
    if getattr(node.dtype, "kind", "f") == "f":
        kwargs.pop("dtype", None)
    try:
        if function in _WRITES:
            written = np.array(args[0], object if node.dtype.kind == "f" else None)
            function(written, *args[1:], **kwargs)
            return written
        if not any(map(_is_ball, tree.leaves(args))):
            return _of_integers(function, function(*args, **kwargs))
        if function is np.isinf and smooth:  # where(g == 0 and slope infinite, 0, g * slope): 0 is right at all slopes
            return np.logical_not(np.equal(_is_finite(args[0]), True))
        if function is np.where and not smooth and any(x is None for x in np.ravel(args[0])):
            raise UndecidedError("where: the answer is not the same all over the box: a kink or a jump")
        out = _on_balls(function)(*args, **kwargs)
    except (TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise UndecidedError(f"{name_of(function)} on balls: {error}") from error
    if function in _QUESTIONS and not any(x is None for x in np.ravel(out)):
        return np.asarray(out, bool)
    return out if isinstance(out, tuple | list) else np.asarray(out)


def _of_integers(function: Any, out: Any) -> Any:
    """What comes of indices, labels and counts. A float among these, 1/n, has been rounded once."""
    if getattr(out, "dtype", np.asarray(0).dtype).kind != "f" and not isinstance(out, float):
        return out
    if not (isinstance(function, np.ufunc) or function in _OPERATORS or function in _STRUCTURE or function is astype):
        raise UndecidedError(f"{name_of(function)} of integers is not known on balls")
    return rounded(out)
