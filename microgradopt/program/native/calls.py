"""What calls are to a native loop: element by element, sums, views, or something that has no native form."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from microgradopt.graph.graph import Node
from microgradopt.graph.text import NUMPY
from microgradopt.nn.functional import normal_cdf
from microgradopt.program.tidy import is_write
from microgradopt.program.tracer import TracingError
from microgradopt.rules.outputs import astype, view


class NotNativeError(TracingError):
    """A call has no native form."""


SAME = (np.copy, np.broadcast_to)  # elements are those of the first argument
REDUCTIONS: dict[Any, tuple[str, str]] = {  # what it begins with, and what each element does
    np.sum: ("0", "{} + {}"), np.mean: ("0", "{} + {}"), np.prod: ("1", "{} * {}"),
    np.max: ("lowest", "maximum({}, {})"), np.min: ("highest", "minimum({}, {})"),
    np.all: ("True", "{} & ({} != 0)"), np.any: ("False", "{} | ({} != 0)"), np.vdot: ("0", "{} + {} * {}"),
}  # fmt: skip
VIEWS = (np.reshape, np.ravel, np.transpose, np.matrix_transpose, np.swapaxes, np.expand_dims, operator.getitem)
TRANSPOSED = (np.transpose, np.matrix_transpose, np.swapaxes)
COSTLY = (np.exp, np.tanh, np.log)  # worth a loop of their own, where the last axis is too short for vectors
SHORT = 16
NAMED: dict[Any, str] = {  # functions of numbers, where they are not called as NumPy's are
    np.exp: "exp", np.tanh: "tanh", np.square: "square", np.maximum: "maximum", np.minimum: "minimum",
    np.where: "where", np.isfinite: "isfinite", np.sign: "sign", np.absolute: "abs", np.sqrt: "math.sqrt",
    normal_cdf: "normal_cdf",
}  # fmt: skip
FUNCTIONS = {"multiply", "multiply_transposed", "multiply_apart", "multiply_transposed_apart"} | {
    *(name for name in NAMED.values() if name.isidentifier())
}


def _variance(x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False, **none: Any) -> Any:
    if any(value is not None for value in none.values()):
        raise NotNativeError(f"var with {', '.join(none)}")
    deviations = x - np.mean(x, axis=axis, keepdims=True)
    squares = np.sum(deviations * deviations, axis=axis, keepdims=keepdims)
    return squares / (x.size // np.size(squares) - ddof)


def _deviation(x: Any, **how: Any) -> Any:
    return np.sqrt(_variance(x, **how))


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord not in (None, "fro"):
        raise NotNativeError(f"linalg.norm with ord={ord!r}")
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


_WRITTEN_AS: dict[Any, Any] = {np.var: _variance, np.std: _deviation, np.linalg.norm: _norm}


def written_as(function: Any) -> Any:
    """What a function is in terms of others, where it has no native form itself."""
    return _WRITTEN_AS.get(function, function)


def is_elementwise(node: Node) -> bool:
    """Whether each element of the result comes from one element of each operand."""
    function = node.function
    if function in (np.where, np.clip, astype, normal_cdf, *SAME):
        return True
    if function is view:
        return node.dtype.kind in "iu" and node.inputs[0].dtype.kind in "iu"
    if isinstance(function, np.ufunc):
        return function.signature is None and function.nout == 1 and node.kwargs.keys() <= {"dtype"}
    is_operator = getattr(function, "__module__", "") == "_operator"
    return is_operator and not is_write(node) and function is not operator.getitem


def is_view(node: Node) -> bool:
    """Whether it is another shape of the same memory; of a transposed array, np.ravel is a copy."""
    of_array = node.function in VIEWS and bool(node.shape) and bool(node.arguments[0].shape)
    return of_array and node.is_view and not is_gather(node)


def is_gather(node: Node) -> bool:
    """Whether it takes elements from places that stand in arrays."""
    return node.function is operator.getitem and any(type(x) is Node for x in places(node))


def places(node: Node) -> tuple[Any, ...]:
    """The parts of an index."""
    index = node.arguments[1]
    return index if isinstance(index, tuple) else (index,)


def of_elements(node: Node) -> bool:
    """Whether each element of the result is computed by itself."""
    return is_elementwise(node) or is_gather(node)


def operands(node: Node) -> list[Any]:
    """What elements are computed from."""
    return list(node.arguments[:1] if node.function in (astype, view, *SAME) else node.arguments)


# Single numbers -------------------------------------------------------------------------------------------------------

SIGNS: dict[Any, str] = {
    function: sign
    for sign, functions in {
        "+": (np.add, operator.add, np.positive, operator.pos),
        "-": (np.subtract, operator.sub, np.negative, operator.neg),
        "*": (np.multiply, operator.mul), "/": (np.divide, operator.truediv),
        "//": (np.floor_divide, operator.floordiv), "%": (np.remainder, operator.mod),
        "<": (np.less, operator.lt), "<=": (np.less_equal, operator.le),
        ">": (np.greater, operator.gt), ">=": (np.greater_equal, operator.ge), "==": (np.equal, operator.eq),
        "!=": (np.not_equal, operator.ne), "&": (np.bitwise_and, operator.and_, np.logical_and),
        "|": (np.bitwise_or, operator.or_, np.logical_or), "^": (np.bitwise_xor, operator.xor),
        ">>": (np.right_shift,), "<<": (np.left_shift,), "not ": (np.logical_not, operator.not_),
        "~": (np.invert, operator.invert),
    }.items()
    for function in functions
}  # fmt: skip


def extreme(which: str, dtype: Any) -> str:
    """The number that none of this dtype is below, or above."""
    if dtype.kind == "f":
        return "-np.inf" if which == "lowest" else "np.inf"
    limits = np.iinfo(dtype)
    return f"np.{dtype.name}({limits.min if which == 'lowest' else limits.max})"


def power(base: str, exponent: str) -> str:
    """Squares and roots as such."""
    if exponent in ("2", "2.0"):
        return f"square({base})"
    return f"math.sqrt({base})" if exponent == "0.5" else f"({base}) ** ({exponent})"


def number(x: Any, dtype: Any) -> str:
    """A number; of float32 and unsigned integers as such, so that results are."""
    text = NUMPY.literal(x.item() if isinstance(x, np.generic) else x).text
    kind = getattr(dtype, "name", "float64")
    return text if kind == "float64" or isinstance(x, bool | np.bool_) else f"np.{kind}({text})"


def cast(node: Node, text: str) -> str:
    """Rounded to the dtype of a result."""
    return f"np.{node.dtype.name}({text})" if getattr(node.dtype, "name", "") in ("float32", "float16") else text
