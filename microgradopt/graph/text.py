"""Calls in words: a node as the line of NumPy that a person would write for it.

Nothing here knows an operation beyond its name and arguments; but Python has signs for some of them.
"""

from __future__ import annotations

import functools
import inspect
import keyword
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from microgradopt.graph.graph import Node
from microgradopt.rules.outputs import astype, pick, view
from microgradopt.rules.registry import KNOWN, name_of

# How tightly Python's operators bind.
COMPARISON, OR, XOR, AND, SUM, PRODUCT, SIGN, POWER, ATOM = range(9)

_BINARY: dict[Callable[..., Any], tuple[str, int]] = {
    np.add: ("+", SUM), np.subtract: ("-", SUM),
    np.multiply: ("*", PRODUCT), np.divide: ("/", PRODUCT), np.floor_divide: ("//", PRODUCT),
    np.remainder: ("%", PRODUCT), np.matmul: ("@", PRODUCT),
    operator.add: ("+", SUM), operator.sub: ("-", SUM), operator.mul: ("*", PRODUCT), operator.truediv: ("/", PRODUCT),
    operator.floordiv: ("//", PRODUCT), operator.mod: ("%", PRODUCT), operator.pow: ("**", POWER),
    np.less: ("<", COMPARISON), np.less_equal: ("<=", COMPARISON), np.greater: (">", COMPARISON),
    np.greater_equal: (">=", COMPARISON), np.equal: ("==", COMPARISON), np.not_equal: ("!=", COMPARISON),
    operator.lt: ("<", COMPARISON), operator.le: ("<=", COMPARISON), operator.gt: (">", COMPARISON),
    operator.ge: (">=", COMPARISON), operator.eq: ("==", COMPARISON), operator.ne: ("!=", COMPARISON),
    np.bitwise_and: ("&", AND), np.bitwise_or: ("|", OR), np.bitwise_xor: ("^", XOR),
}  # fmt: skip
_SIGNS: dict[Callable[..., Any], str] = {np.negative: "-", np.invert: "~", operator.neg: "-", operator.invert: "~"}
_ATTRIBUTES: dict[Callable[..., Any], str] = {np.transpose: "T", np.matrix_transpose: "mT"}
_METHODS: dict[Callable[..., Any], str] = {
    np.sum: "sum", np.mean: "mean", np.max: "max", np.min: "min", np.prod: "prod", np.reshape: "reshape",
    np.ravel: "ravel", np.argmax: "argmax", np.argmin: "argmin", astype: "astype", view: "view",
}  # fmt: skip
_OF_ONE_AXIS = (np.sum, np.mean, np.max, np.min, np.prod)  # take an axis or a tuple of axes
NUMBERS = (bool, int, float)  # Python's own: they have no name, but stand where they are used


class Text(NamedTuple):
    """An expression, and how tightly its outermost operator binds."""

    text: str
    binding: int = ATOM

    def within(self, binding: int) -> str:
        """The expression as an operand of an operator that binds like this: in brackets where it binds less."""
        return self.text if self.binding >= binding else f"({self.text})"


Texts = Callable[[Node], Text]


def expression(node: Node, texts: Texts, operators: bool = True) -> Text:
    """The call of a node. texts: what stands for the nodes among its arguments. operators: ``a + b`` for np.add."""
    if not operators:
        return Text(f"{spelled(node.function)}({_listed(node.arguments, node.kwargs, texts, node)})")
    function, arguments = node.function, node.arguments
    if function in _BINARY and not node.kwargs and (not isinstance(function, np.ufunc) or _is_of_numpy(node)):
        sign, binding = _BINARY[function]
        left, right = (_argument(x, texts, node) for x in arguments)
        loose, tight = (binding + 1, SIGN) if binding == POWER else (binding, binding + 1)
        return Text(f"{left.within(loose + (binding == COMPARISON))} {sign} {right.within(tight)}", binding)
    if function in _SIGNS and not node.kwargs:
        return Text(_SIGNS[function] + _argument(arguments[0], texts, node).within(SIGN), SIGN)
    if function in (operator.getitem, pick):
        return Text(f"{_argument(arguments[0], texts, node).within(ATOM)}[{_index(arguments[1], texts)}]")
    if function in _ATTRIBUTES and not any(x is not None for x in arguments[1:]) and not node.kwargs:
        attribute = "T" if len(node.shape) == 2 else _ATTRIBUTES[function]
        return Text(f"{_argument(arguments[0], texts, node).within(ATOM)}.{attribute}")
    if function in _METHODS and type(arguments[0]) is Node:
        shape = arguments[1] if function is np.reshape else ()
        rest = shape if isinstance(shape, tuple) and shape else arguments[1:]
        listed = _listed(rest, node.kwargs, texts, node)
        return Text(f"{texts(arguments[0]).within(ATOM)}.{_METHODS[function]}({listed})")
    if function is np.zeros_like and "shape" in node.kwargs:  # asked for in this way so that it could be traced
        return Text(f"np.zeros({node.shape}{'' if node.dtype == np.float64 else f', np.{node.dtype.name}'})")
    return Text(f"{spelled(function)}({_listed(arguments, node.kwargs, texts, node)})")


def _listed(arguments: Any, kwargs: Mapping[str, Any], texts: Texts, node: Node) -> str:
    given = [_argument(x, texts, node).text for x in arguments]
    told = {key: x for key, x in kwargs.items() if not _is_default(node.function, key, x)}
    axis = told.get("axis")
    if type(axis) is tuple and len(axis) == 1 and node.function in _OF_ONE_AXIS:
        told["axis"] = axis[0]
    return ", ".join(given + [f"{key}={_argument(x, texts, node).text}" for key, x in told.items()])


def _is_default(function: Any, key: str, x: Any) -> bool:
    """Whether an argument may be left out: the function has this very value without it."""
    if key == "keepdims" and x is False and function in KNOWN:
        return True  # NumPy leaves it to the array's class, and ndarray says False
    return (x is None or x is False) and _defaults(function).get(key, ...) is x


@functools.cache
def _defaults(function: Any) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some that are written in C do not say
        return {}
    return {name: parameter.default for name, parameter in parameters.items()}


def _argument(x: Any, texts: Texts, node: Node) -> Text:
    """One argument of a node's call."""
    if type(x) is Node:
        return texts(x)
    if isinstance(x, list | tuple):
        inside = ", ".join(_argument(part, texts, node).text for part in x)
        if isinstance(x, list):
            return Text(f"[{inside}]")
        return Text(f"({inside},)" if len(x) == 1 else f"({inside})")
    if isinstance(x, np.floating) and isinstance(node.function, np.ufunc) and _is_of_numpy(node, x.dtype):
        x = float(x)  # takes part in the dtype of the other operand, which is its own
    return literal(x)


def _is_of_numpy(node: Node, dtype: Any = None) -> bool:
    """Whether an input is NumPy's, not a Python number; and, where one is asked for, of this dtype."""
    found = [x.dtype for x in node.inputs if isinstance(x.dtype, np.dtype)]
    return any(dtype is None or one == dtype for one in found)


def _index(index: Any, texts: Texts) -> str:
    if isinstance(index, tuple) and index:
        return ", ".join(_index(part, texts) for part in index)
    if type(index) is slice:
        start, stop, step = ("" if x is None else _index(x, texts) for x in (index.start, index.stop, index.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    if type(index) is Node:
        return texts(index).text
    if isinstance(index, list):
        return f"[{', '.join(_index(part, texts) for part in index)}]"
    return literal(index).text


def is_literal(x: Any) -> bool:
    """Whether Python can write the value so that it is read back as it is. A subclass of str may be anything."""
    numpys = isinstance(x, np.ndarray | np.generic) or (isinstance(x, type) and issubclass(x, np.generic))
    return numpys or x is ... or type(x) in (bool, int, float, complex, str, bytes, type(None))


def literal(x: Any) -> Text:
    """A Python value as Python writes it; NumPy's in a way that can be read back, dtype and all."""
    if isinstance(x, np.ndarray):
        return Text(_array(x))
    if isinstance(x, np.generic):
        return Text(f"np.{x.dtype.name.replace('bool', 'bool_')}({_number(x.item())})")
    if isinstance(x, np.dtype):
        return Text(f"np.{x.name}")
    if isinstance(x, type):
        return Text(f"np.{x.__name__}" if issubclass(x, np.generic) else x.__name__)
    if x is ...:
        return Text("...")
    if isinstance(x, int | float) and not isinstance(x, bool):
        text = _number(x)
        return Text(text, SIGN if text.startswith("-") else ATOM)
    return Text(repr(x))


def _number(x: Any) -> str:
    return re.sub(r"\b(inf|nan)\b", r"np.\1", repr(x))


def _array(x: np.ndarray[Any, Any]) -> str:
    """An array as the call that makes it, in the same layout in memory: sums go by it, and with them the last bit."""
    if x.size > 1 and not any(x.strides):
        return f"np.broadcast_to({literal(x.flat[0]).text}, {x.shape})"
    if not (x.flags.c_contiguous or x.flags.f_contiguous):
        axes = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
        if axes == list(range(x.ndim)):
            return _array(np.ascontiguousarray(x))
        return f"{_array(np.ascontiguousarray(x.transpose(axes)))}.transpose({tuple(np.argsort(axes).tolist())})"
    order = ', order="F"' if not x.flags.c_contiguous else ""
    dtype = "" if x.dtype in (np.float64, np.int64, np.bool_) else f", dtype=np.{x.dtype.name}"
    if x.ndim == 1 and x.dtype.kind in "iu" and x.size > 2 and np.array_equal(x, np.arange(x.size)):
        return f"np.arange({x.size}{dtype})"
    if x.ndim == 2 and x.size > 1 and x.shape[0] == x.shape[1] and np.array_equal(x, np.eye(len(x))):
        return f"np.eye({len(x)}{_told_dtype(x)})"
    if x.size > 1 and (x == x.flat[0]).all() and not (x.flat[0] == 0 and np.signbit(x).any()):
        return f"np.full({x.shape}, {literal(x.flat[0]).text}{order})"
    if not x.size:
        return f"np.zeros({x.shape}{_told_dtype(x)})"
    return f"np.array({_number(x.tolist())}{dtype}{order})"


def _told_dtype(x: np.ndarray[Any, Any]) -> str:
    """The dtype as an argument, where it is not the float64 that NumPy makes."""
    return "" if x.dtype == np.float64 else f", dtype=np.{x.dtype.name.replace('bool', 'bool_')}"


def spelled(function: Any) -> str:
    """How a program with ``import numpy as np`` calls a function; its bare name, if it is not NumPy's."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ufunc):
        return f"np.{owner.__name__}.{function.__name__}"
    name = name_of(function)
    bare = name.removeprefix("linalg.")
    for place, prefix in ((np, "np."), (np.linalg, "np.linalg.")):
        if getattr(place, bare, None) is function:
            return prefix + bare
    return bare


def identifier(name: str) -> str:
    """A name as Python can use it: "0.weight" becomes weight_0, "layers.0.weight" layers_0_weight."""
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts) if not part.isdigit()), 0)  # a word goes before the numbers
    parts = parts[first:] + parts[:first]
    text = re.sub(r"\W", "_", "_".join(parts)) or "_"
    text = f"_{text}" if text[0].isdigit() else text
    return f"{text}_" if keyword.iskeyword(text) or text == "np" else text


def call(node: Node) -> str:
    """The call of a node in its arguments' names: "np.tanh(multiply1)"."""
    return expression(node, _by_name).text


def _by_name(node: Node) -> Text:
    return literal(node.value) if type(node.value) in NUMBERS else Text(identifier(node.name))
