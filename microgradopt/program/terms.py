"""Terms: numbers that are computed, and NumPy's calls on arrays of them.

NumPy computes with an array of objects as with any other. Where its elements are terms, what only moves elements is
done, and a sum or a product of matrices becomes sums and products of terms.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from microgradopt.graph.graph import UFUNCS, Node
from microgradopt.graph.text import COMPARISON, PRODUCT, SUM, spelled
from microgradopt.program.native.calls import written_as
from microgradopt.program.tracer import TracingError
from microgradopt.rules.outputs import astype, view

# Between numbers: signs, and how tightly they bind; functions by their names.
SIGNS: dict[Any, tuple[str, int]] = {
    np.add: ("+", SUM), np.subtract: ("-", SUM), np.multiply: ("*", PRODUCT), np.divide: ("/", PRODUCT),
    np.less: ("<", COMPARISON), np.less_equal: ("<=", COMPARISON), np.greater: (">", COMPARISON),
    np.greater_equal: (">=", COMPARISON), np.equal: ("===", COMPARISON), np.not_equal: ("!==", COMPARISON),
    np.logical_and: ("&&", 0), np.logical_or: ("||", 0),
}  # fmt: skip
NAMES: dict[Any, str] = {
    **{f: f"Math.{f.__name__}" for f in (
        np.exp, np.expm1, np.log, np.log1p, np.log2, np.log10, np.sqrt, np.cbrt, np.sin, np.cos, np.tan, np.sinh,
        np.cosh, np.tanh, np.hypot, np.sign, np.floor, np.ceil, np.trunc,
    )},
    np.arcsin: "Math.asin", np.arccos: "Math.acos", np.arctan: "Math.atan", np.arctan2: "Math.atan2",
    np.arcsinh: "Math.asinh", np.arccosh: "Math.acosh", np.arctanh: "Math.atanh", np.absolute: "Math.abs",
    np.maximum: "Math.max", np.minimum: "Math.min", np.power: "Math.pow",
    np.isfinite: "Number.isFinite", np.isnan: "Number.isNaN", float: "Number",
}  # fmt: skip
_UFUNCS: dict[Any, Any] = UFUNCS | {operator.pow: np.power}  # what Python's operators do
_OF_TRUTH_VALUES: dict[Any, Any] = {
    np.bitwise_and: np.logical_and, np.bitwise_or: np.logical_or, np.bitwise_xor: np.not_equal,
    np.invert: np.logical_not, np.logical_xor: np.not_equal,
}  # fmt: skip
_numbers = itertools.count()


def _operator(function: Any, swapped: bool = False) -> Callable[..., Any]:
    """The method of Term for an operator."""
    return lambda self, other: number(function, *((other, self) if swapped else (self, other)))


class Term:
    """A number that is computed: a function of terms and numbers, or (function None) an element of an argument.

    name: what a text calls it. number: of two terms, that of the later one is larger.
    """

    __slots__ = ("arguments", "function", "name", "number")

    def __init__(self, function: Any, *arguments: Any, name: str = "") -> None:
        self.function, self.arguments, self.name, self.number = function, arguments, name, next(_numbers)

    @property
    def terms(self) -> list[Term]:
        """The terms among the arguments."""
        return [x for x in self.arguments if type(x) is Term]

    __add__, __radd__ = _operator(np.add), _operator(np.add, True)
    __sub__, __rsub__ = _operator(np.subtract), _operator(np.subtract, True)
    __mul__, __rmul__ = _operator(np.multiply), _operator(np.multiply, True)
    __truediv__ = _operator(np.divide)


def number(function: Any, *xs: Any) -> Any:
    """A function of single numbers: computed, where all are known, else a Term."""
    if not any(type(x) is Term for x in xs):
        with np.errstate(all="ignore"):
            return function(*xs)
    if function in _REWRITTEN:
        return _REWRITTEN[function](*xs)
    if function is np.add and any(_is(x, 0) for x in xs):
        return xs[1] if _is(xs[0], 0) else xs[0]
    if function is np.multiply and any(_is(x, 1) for x in xs):
        return xs[1] if _is(xs[0], 1) else xs[0]
    return Term(function, *xs)


def _is(x: Any, value: float) -> bool:
    return type(x) is not Term and bool(x == value)


def _power(x: Any, y: Any) -> Any:
    """Small powers are products."""
    if _is(y, 1):
        return x
    if _is(y, 2):
        return number(np.multiply, x, x)
    return number(np.sqrt, x) if _is(y, 0.5) else Term(np.power, x, y)


def _logaddexp(x: Any, y: Any) -> Any:
    apart = number(np.exp, number(np.negative, number(np.absolute, number(np.subtract, x, y))))
    return number(np.add, number(np.maximum, x, y), number(np.log1p, apart))


def _floored(x: Any, y: Any) -> Any:
    return number(np.floor, number(np.divide, x, y))


# What JavaScript has no sign and no name for, in terms of what it has.
_REWRITTEN: dict[Any, Callable[..., Any]] = {
    np.square: lambda x: number(np.multiply, x, x),
    np.reciprocal: lambda x: number(np.divide, 1, x),
    np.positive: lambda x: x,
    np.power: _power,
    np.float_power: _power,
    np.exp2: lambda x: Term(np.power, 2, x),
    np.logaddexp: _logaddexp,
    np.floor_divide: _floored,
    np.remainder: lambda x, y: number(np.subtract, x, number(np.multiply, y, _floored(x, y))),
    np.heaviside: lambda x, y: number(np.where, number(np.equal, x, 0), y, number(np.greater, x, 0)),
}
_OF_NUMBERS = {*SIGNS, *NAMES, *_REWRITTEN, np.negative, np.logical_not, np.where}


# Arrays of terms ------------------------------------------------------------------------------------------------------

# What NumPy does with an array of objects as with any other.
_MOVES = {
    np.reshape, np.ravel, np.transpose, np.matrix_transpose, np.swapaxes, np.moveaxis, np.expand_dims, np.squeeze,
    np.broadcast_to, np.concatenate, np.stack, np.copy, np.flip, np.roll, np.repeat, np.tile, np.take, np.diagonal,
    np.trace, np.sum, np.mean, np.prod, np.cumsum, np.cumprod, np.matmul, np.dot, np.inner, np.outer,
    np.tensordot, np.einsum, np.vdot, np.full_like, np.pad,
}  # fmt: skip
_REDUCTIONS: dict[Any, Any] = {np.max: np.maximum, np.min: np.minimum, np.all: np.logical_and, np.any: np.logical_or}


def called(node: Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The call of a node, of arrays of terms."""
    function: Any = _UFUNCS.get(node.function, node.function)
    are_truth_values = all(x.dtype == bool for x in node.inputs)
    if are_truth_values:
        function = _OF_TRUTH_VALUES.get(function, function)
    if function in _OF_NUMBERS and not kwargs:
        return _elementwise(function, args)
    if function is operator.getitem:
        return args[0][args[1]]
    if function in _MOVES and not any(map(_is_computed, args[1:] if function is np.take else ())):
        counted = are_truth_values and node.dtype != bool
        return function(*([_elementwise(float, args[:1]), *args[1:]] if counted else args), **kwargs)
    if function in _REDUCTIONS and kwargs.keys() <= {"axis", "keepdims"} and len(args) <= 2:
        return _reduced(_REDUCTIONS[function], *args, **kwargs)
    if function is np.zeros_like:
        return np.full(node.shape, 0.0, object)
    if function in (np.var, np.std):
        variance = written_as(np.var)(*args, **kwargs)
        return variance if function is np.var else _elementwise(np.sqrt, [variance])
    if function is np.clip:
        return _clipped(*args, **kwargs)
    if function is view and node.dtype.kind == "u" and node.dtype.itemsize == node.inputs[0].dtype.itemsize:
        x, size = args[0], 2.0 ** (8 * node.dtype.itemsize)  # negative numbers are read as huge ones
        return _elementwise(np.where, [_elementwise(np.less, [x, 0]), _elementwise(np.add, [x, size]), x])
    if function is astype:
        return _cast(args[0], node)
    raise refused(node)


def refused(node: Node) -> TracingError:
    """The error for a call that there is no spelling of."""
    return TracingError(
        f'source: there is no spelling of {spelled(node.function)} as it is called here for target="javascript", which '
        "has the functions of single numbers, sums and products, and what moves elements"
    )


def _is_computed(x: Any) -> bool:
    """Whether a place depends on values."""
    return type(x) is Term or (isinstance(x, np.ndarray) and x.dtype == object)


def of_objects(x: Any) -> Any:
    """A constant, in an array of objects if it is one of floats."""
    return x.astype(object) if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim else x


def _elementwise(function: Any, args: Iterable[Any]) -> Any:
    args = list(args)
    return np.frompyfunc(lambda *xs: number(function, *xs), len(args), 1)(*args)


def added(array: Any, index: Any, value: Any) -> None:
    """np.add.at: places that are there twice get both."""
    places = np.arange(array.size).reshape(array.shape)[index]
    values = np.broadcast_to(np.asarray(value, object), places.shape)
    for place, x in zip(places.ravel(), values.ravel(), strict=True):
        array[np.unravel_index(place, array.shape)] += x


def _reduced(function: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """One axis after the other."""
    if not np.ndim(x):
        return x
    axes = range(np.ndim(x)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    step = np.frompyfunc(lambda a, b: number(function, a, b), 2, 1)
    for i in sorted((i % np.ndim(x) for i in axes), reverse=True):
        x = step.reduce(x, axis=i, keepdims=keepdims)
    return x


def _clipped(x: Any, low: Any = None, high: Any = None, **names: Any) -> Any:
    low, high = names.get("min", low), names.get("max", high)
    x = x if low is None else _elementwise(np.maximum, [x, low])
    return x if high is None else _elementwise(np.minimum, [x, high])


def _cast(x: Any, node: Node) -> Any:
    """Between truth values, whole numbers and others; all numbers are alike."""
    kind, before = np.dtype(node.dtype).kind, np.dtype(node.inputs[0].dtype).kind
    if kind != before and kind == "b":
        return _elementwise(np.not_equal, [x, 0])
    if kind != before and before == "b":
        return _elementwise(float, [x])
    if before == "f" and kind in "iu":
        return _elementwise(np.trunc, [x])
    return np.copy(x) if np.ndim(x) else x
