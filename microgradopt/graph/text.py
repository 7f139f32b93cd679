"""Calls in words: a node as the line of NumPy that a person would write for it.

Nothing here knows an operation beyond its name and arguments; but Python has signs for some of them.
"""

from __future__ import annotations

import functools
import inspect
import keyword
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import UFUNCS, Node
from microgradopt.rules.outputs import astype, pick, view
from microgradopt.rules.registry import KNOWN, name_of

# How tightly Python's operators bind.
COMPARISON, OR, XOR, AND, SUM, PRODUCT, SIGN, POWER, ATOM = range(9)

# The signs of functions; Python's own operators have those of the ufuncs that they are on arrays (`UFUNCS`).
_BINARY: dict[Callable[..., Any], tuple[str, int]] = {
    np.add: ("+", SUM), np.subtract: ("-", SUM), np.multiply: ("*", PRODUCT), np.divide: ("/", PRODUCT),
    np.floor_divide: ("//", PRODUCT), np.remainder: ("%", PRODUCT), np.matmul: ("@", PRODUCT),
    operator.pow: ("**", POWER), np.less: ("<", COMPARISON), np.less_equal: ("<=", COMPARISON),
    np.greater: (">", COMPARISON), np.greater_equal: (">=", COMPARISON), np.equal: ("==", COMPARISON),
    np.not_equal: ("!=", COMPARISON), np.bitwise_and: ("&", AND), np.bitwise_or: ("|", OR), np.bitwise_xor: ("^", XOR),
}  # fmt: skip
_SIGNS: dict[Callable[..., Any], str] = {np.negative: "-", np.invert: "~"}
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
Formatter = Callable[["Language", Node, Texts], Text]


class Language:
    """How a program is spelled: NumPy's way, or that of a library whose arrays have NumPy's operators and methods.

    imports: for each name that a text imports, the line that does; the first is what stands for ``np``, and is always
    there. spellings: how a function is called: a name ("np.tanh"), a method (".sum"), or a formatter,
    ``format(language, node, texts)``; operators need none. A function without one is spelled by `unlisted`.
    """

    checks = True
    """Whether a program can look at its values, and raise."""
    remarks: tuple[str, ...] = ()
    """What to know before it is run."""

    def __init__(self, imports: Mapping[str, str], spellings: Mapping[Any, str | Formatter]) -> None:
        self.imports, self.spellings = imports, dict(spellings)
        self.module = next(iter(imports))

    def unlisted(self, function: Any) -> str:
        """How a function that has no spelling of its own is called."""
        return spelled(function)

    def expression(self, node: Node, texts: Texts) -> Text:
        """The call of a node. texts: what stands for the nodes among its arguments."""
        function: Any = node.function
        arguments = node.arguments
        own = self.spellings.get(function)
        if callable(own):
            return own(self, node, texts)
        known = UFUNCS.get(function, function)
        if own is None and known in _BINARY and not node.kwargs and _is_operator(node):
            sign, binding = _BINARY[known]
            left, right = (self.argument(x, texts, node) for x in arguments)
            loose, tight = (binding + 1, SIGN) if binding == POWER else (binding, binding + 1)
            return Text(f"{left.within(loose + (binding == COMPARISON))} {sign} {right.within(tight)}", binding)
        if own is None and known in _SIGNS and not node.kwargs:
            return Text(_SIGNS[known] + self.argument(arguments[0], texts, node).within(SIGN), SIGN)
        return self.called(own or self.unlisted(function), node, texts)

    def called(self, name: str, node: Node, texts: Texts) -> Text:
        """The call of a node by the name of a function ("np.tanh") or of a method (".sum")."""
        function, arguments = node.function, node.arguments
        if not name.startswith("."):
            return Text(f"{name}({self.listed(node, arguments, texts)})")
        if type(arguments[0]) is not Node:
            return Text(f"{self.module}{name}({self.listed(node, arguments, texts)})")
        shape = arguments[1] if function is np.reshape else ()
        rest = shape if isinstance(shape, tuple) and shape else arguments[1:]
        return Text(f"{texts(arguments[0]).within(ATOM)}{name}({self.listed(node, rest, texts)})")

    def listed(self, node: Node, arguments: Iterable[Any], texts: Texts) -> str:
        """Arguments as they stand in the brackets of a node's call, and its keyword arguments."""
        given = [self.argument(x, texts, node).text for x in arguments]
        told = {key: x for key, x in node.kwargs.items() if not _is_default(node.function, key, x)}
        axis = told.get("axis")
        if type(axis) is tuple and len(axis) == 1 and node.function in _OF_ONE_AXIS:
            told["axis"] = axis[0]
        return ", ".join(given + [f"{key}={self.argument(x, texts, node).text}" for key, x in told.items()])

    def argument(self, x: Any, texts: Texts, node: Node) -> Text:
        """One argument of a node's call."""
        if type(x) is Node:
            return texts(x)
        if isinstance(x, list | tuple):
            inside = ", ".join(self.argument(part, texts, node).text for part in x)
            if isinstance(x, list):
                return Text(f"[{inside}]")
            return Text(f"({inside},)" if len(x) == 1 else f"({inside})")
        if isinstance(x, np.floating) and isinstance(node.function, np.ufunc) and _is_of_numpy(node, x.dtype):
            x = float(x)  # takes part in the dtype of the other operand, which is its own
        return self.literal(x)

    def index(self, index: Any, texts: Texts) -> str:
        """What stands between square brackets."""
        if isinstance(index, tuple) and index:
            return ", ".join(self.index(part, texts) for part in index)
        if type(index) is slice:
            parts = ["" if x is None else self.index(x, texts) for x in (index.start, index.stop, index.step)]
            return ":".join(parts if parts[2] else parts[:2])
        if type(index) is Node:
            return texts(index).text
        if isinstance(index, list):
            return f"[{', '.join(self.index(part, texts) for part in index)}]"
        return self.literal(index).text

    def literal(self, x: Any) -> Text:
        """A Python value as Python writes it; NumPy's in a way that can be read back, dtype and all."""
        if isinstance(x, np.ndarray):
            return Text(self.array(x))
        if isinstance(x, np.generic):
            return Text(self.scalar(x))
        if isinstance(x, np.dtype):
            return Text(f"{self.module}.{x.name}")
        if isinstance(x, type):
            return Text(f"{self.module}.{x.__name__}" if issubclass(x, np.generic) else x.__name__)
        if x is ...:
            return Text("...")
        if isinstance(x, int | float) and not isinstance(x, bool):
            text = self.number(x)
            return Text(text, SIGN if text.startswith("-") else ATOM)
        says: Any = type(x).__repr__
        return Text(type(x).__name__ if says is object.__repr__ else repr(x))

    def number(self, x: Any) -> str:
        """Python's own numbers, also in lists."""
        return re.sub(r"\b(inf|nan)\b", rf"{self.module}.\1", repr(x))

    def scalar(self, x: np.generic) -> str:
        """A number of NumPy's."""
        return f"{self.module}.{x.dtype.name.replace('bool', 'bool_')}({self.number(x.item())})"

    def array(self, x: np.ndarray[Any, Any]) -> str:
        """An array as the call that makes it, laid out as it is: sums go through memory, and with them the last bit."""
        if x.size > 1 and not any(x.strides):
            return f"{self.module}.broadcast_to({self.literal(x.flat[0]).text}, {x.shape})"
        if not (x.flags.c_contiguous or x.flags.f_contiguous):
            axes = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
            if axes == list(range(x.ndim)):
                return self.array(np.ascontiguousarray(x))
            rest = f".transpose({tuple(np.argsort(axes).tolist())})"
            return self.array(np.ascontiguousarray(x.transpose(axes))) + rest
        order = ', order="F"' if not x.flags.c_contiguous else ""
        if _is_range(x):
            return f"{self.module}.arange({x.size}{self.typed(x.dtype, *_READ)})"
        if x.ndim == 2 and x.size > 1 and x.shape[0] == x.shape[1] and np.array_equal(x, np.eye(len(x))):
            return f"{self.module}.eye({len(x)}{self.typed(x.dtype, np.float64)})"
        if x.size > 1 and (x == x.flat[0]).all() and not (x.flat[0] == 0 and np.signbit(x).any()):
            return f"{self.module}.full({x.shape}, {self.filling(x.flat[0])}{order})"
        if not x.size:
            return f"{self.module}.zeros({x.shape}{self.typed(x.dtype, np.float64)})"
        return f"{self.module}.{self.made_by}({self.number(x.tolist())}{self.typed(x.dtype, *_READ)}{order})"

    made_by = "array"
    """What makes an array from lists."""

    def typed(self, dtype: np.dtype[Any], *meant: Any) -> str:
        """The dtype as an argument, where it is not one that is meant without."""
        return "" if dtype in meant else f", dtype={self.module}.{dtype.name.replace('bool', 'bool_')}"

    def filling(self, x: np.generic) -> str:
        """A number that an array is filled with, and gets its dtype from."""
        return self.scalar(x)


_READ = (np.float64, np.int64, np.bool_)  # dtypes that NumPy gives to lists of Python's own numbers


def _is_range(x: np.ndarray[Any, Any]) -> bool:
    """Whether an array is 0, 1, 2, …"""
    return x.ndim == 1 and x.dtype.kind in "iu" and x.size > 2 and np.array_equal(x, np.arange(x.size))


def _selected(language: Language, node: Node, texts: Texts) -> Text:
    """x[i], also on the left of an assignment."""
    array, index = node.arguments[:2]
    return Text(f"{language.argument(array, texts, node).within(ATOM)}[{language.index(index, texts)}]")


def _assigned(language: Language, node: Node, texts: Texts) -> Text:
    """x[i] = y: a whole line."""
    return Text(f"{_selected(language, node, texts).text} = {language.argument(written(node), texts, node).text}")


def written(node: Node) -> Any:
    """What an assignment to places of an array puts there; it takes the array's dtype."""
    value = node.arguments[2]
    return value.item() if isinstance(value, np.generic) else value


def _transposed(language: Language, node: Node, texts: Texts) -> Text:
    """x.T, where the axes are not said."""
    x, *axes = node.arguments
    name = "transpose" if node.function is np.transpose else "matrix_transpose"
    if any(axis is not None for axis in axes) or node.kwargs:
        return Text(f"{language.module}.{name}({language.listed(node, node.arguments, texts)})")
    attribute = "T" if len(node.shape) == 2 or name == "transpose" else "mT"
    return Text(f"{language.argument(x, texts, node).within(ATOM)}.{attribute}")


def _zeros(language: Language, node: Node, texts: Texts) -> Text:
    """Zeros of a shape, asked for by np.zeros_like(x, shape=...) so that it could be traced."""
    if "shape" not in node.kwargs:
        return Text(f"{language.module}.zeros_like({language.listed(node, node.arguments, texts)})")
    dtype = "" if node.dtype == np.float64 else f", {language.module}.{node.dtype.name}"
    return Text(f"{language.module}.zeros({node.shape}{dtype})")


# What is spelled in its own way, in NumPy and wherever arrays have NumPy's operators and methods.
METHODS: dict[Callable[..., Any], str | Formatter] = {
    np.sum: ".sum", np.mean: ".mean", np.max: ".max", np.min: ".min", np.prod: ".prod", np.reshape: ".reshape",
    np.ravel: ".ravel", np.argmax: ".argmax", np.argmin: ".argmin", astype: ".astype", view: ".view",
    operator.getitem: _selected, pick: _selected, operator.setitem: _assigned,
    np.transpose: _transposed, np.matrix_transpose: _transposed, np.zeros_like: _zeros,
}  # fmt: skip

NUMPY = Language({"np": "import numpy as np"}, METHODS)


def literal(x: Any) -> Text:
    """A value, as NumPy spells it (see `Language.literal`)."""
    return NUMPY.literal(x)


def _is_operator(node: Node) -> bool:
    """Whether a sign says the same: not where a ufunc has Python's numbers alone."""
    return not isinstance(node.function, np.ufunc) or _is_of_numpy(node)


def _is_of_numpy(node: Node, dtype: Any = None) -> bool:
    """Whether an input is NumPy's, not a Python number; and, where one is asked for, of this dtype."""
    found = [x.dtype for x in node.inputs if isinstance(x.dtype, np.dtype)]
    return any(dtype is None or one == dtype for one in found)


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


def is_literal(x: Any) -> bool:
    """Whether Python can write the value so that it is read back as it is. A subclass of str may be anything."""
    numpys = isinstance(x, np.ndarray | np.generic) or (isinstance(x, type) and issubclass(x, np.generic))
    return numpys or x is ... or type(x) in (bool, int, float, complex, str, bytes, type(None))


def takes_values(node: Node) -> bool:
    """Whether a call takes nothing but values. Others' code is none: a loss that is computed elsewhere."""
    return all(is_literal(x) or isinstance(x, Node | np.dtype | type) for x in tree.leaves(node.arguments))


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
    return NUMPY.expression(node, _by_name).text


def place(node: Node) -> str:
    """Where a call reads or writes an array, "[0:2]"."""
    return f"[{NUMPY.index(node.arguments[1], _by_name)}]"


def _by_name(node: Node) -> Text:
    return literal(node.value) if type(node.value) in NUMBERS else Text(identifier(node.name))
