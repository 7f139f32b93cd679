"""What calls are to a native loop: element by element, sums, views, or something that has no native form."""

from __future__ import annotations

import copy
import operator
from typing import Any

import numpy as np

from microgradopt.graph.graph import Node
from microgradopt.graph.text import NUMPY, Language, Text, Texts, spelled
from microgradopt.nn.functional import normal_cdf
from microgradopt.program.tidy import is_write
from microgradopt.program.tracer import TracingError
from microgradopt.rules.outputs import astype, view
from microgradopt.rules.registry import name_of


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


# Single numbers -------------------------------------------------------------------------------------------------------


class _Numbers(Language):
    """NumPy's way, with the functions of numbers that math.py has. No call is told a dtype: results are cast."""

    def expression(self, node: Node, texts: Texts) -> Text:
        """The call of a node, on one element of each operand."""
        untold = copy.copy(node)
        untold.kwargs = {}
        return super().expression(untold, texts)

    def unlisted(self, function: Any) -> str:
        """NumPy's name of a ufunc, which Numba knows, too."""
        if not (isinstance(function, np.ufunc) and spelled(function).startswith("np.")):
            raise NotNativeError(name_of(function))
        return spelled(function)

    def argument(self, x: Any, texts: Texts, node: Node) -> Text:
        """An operand; a number in the dtype of the others."""
        return texts(x) if type(x) is Node else Text(number(x, dtype_of_numbers(node)))


def _unchanged(language: Language, node: Node, texts: Texts) -> Text:
    return language.argument(node.arguments[0], texts, node)


def _converted(language: Language, node: Node, texts: Texts) -> Text:
    return Text(f"np.{node.dtype.name}({language.argument(node.arguments[0], texts, node).text})")


def _clipped(language: Language, node: Node, texts: Texts) -> Text:
    x, low, high = (language.argument(part, texts, node).text for part in node.arguments)
    return Text(f"minimum(maximum({x}, {low}), {high})")


def _power(language: Language, node: Node, texts: Texts) -> Text:
    """Squares and roots as such."""
    base, exponent = (language.argument(x, texts, node).text for x in node.arguments)
    if exponent in ("2", "2.0"):
        return Text(f"square({base})")
    return Text(f"math.sqrt({base})" if exponent == "0.5" else f"(({base}) ** ({exponent}))")


_NAMES: dict[Any, str] = {
    np.exp: "exp", np.tanh: "tanh", np.square: "square", np.maximum: "maximum", np.minimum: "minimum",
    np.where: "where", np.isfinite: "isfinite", np.sign: "sign", np.absolute: "abs", np.sqrt: "math.sqrt",
    normal_cdf: "normal_cdf",
}  # fmt: skip
NUMBERS = _Numbers(
    {"np": ""},
    {
        **_NAMES,
        **dict.fromkeys(SAME, _unchanged),
        **dict.fromkeys((astype, view), _converted),
        **dict.fromkeys((np.power, operator.pow), _power),
        np.clip: _clipped,
    },
)
FUNCTIONS = {"multiply", "multiply_transposed", "multiply_apart", "multiply_transposed_apart", *_NAMES.values()}


def dtype_of_numbers(node: Node) -> Any:
    """The dtype that numbers in a call have: that of an operand, if it says something."""
    return next((x.dtype for x in node.inputs if getattr(x.dtype, "kind", "") in "fu"), None)


def number(x: Any, dtype: Any) -> str:
    """A number; of float32 and unsigned integers as such, so that results are."""
    text = NUMPY.literal(x.item() if isinstance(x, np.generic) else x).text
    kind = getattr(dtype, "name", "float64")
    return text if kind == "float64" or isinstance(x, bool | np.bool_) else f"np.{kind}({text})"


def extreme(which: str, dtype: Any) -> str:
    """The number that none of this dtype is below, or above."""
    if dtype.kind == "f":
        return "-np.inf" if which == "lowest" else "np.inf"
    limits = np.iinfo(dtype)
    return f"np.{dtype.name}({limits.min if which == 'lowest' else limits.max})"


def cast(node: Node, text: str) -> str:
    """Rounded to the dtype of a result."""
    return f"np.{node.dtype.name}({text})" if getattr(node.dtype, "name", "") in ("float32", "float16") else text
