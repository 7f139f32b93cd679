"""JavaScript of a program: functions of plain numbers, for figures in a page.

Arrays have no operators there. So the text has none: the recorded calls are made once more, on NumPy's arrays of
objects, whose elements are terms. What only moves elements (reshape, x[i], concatenate) NumPy does, and leaves no line;
sums and products of matrices become sums and products of numbers. That is for small arrays.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import Node
from microgradopt.graph.text import ATOM, COMPARISON, PRODUCT, SIGN, SUM, Text, spelled
from microgradopt.program.program import Program, Source
from microgradopt.program.tidy import is_write
from microgradopt.program.tracer import TracingError
from microgradopt.program.writer import Returned
from microgradopt.rules.outputs import astype, view

_MOST = 100_000  # terms of a program
_LONGEST = 100  # of an expression with others inside
_RESERVED = frozenset(
    """arguments await break case catch class const continue debugger default delete do else enum eval export extends
    false finally for function if implements import in instanceof interface let new null package private protected
    public return static super switch this throw true try typeof undefined var void while with yield Math
    Number""".split()  # noqa: SIM905
)

# Between numbers: signs, and how tightly they bind; functions by their names.
_SIGNS: dict[Any, tuple[str, int]] = {
    np.add: ("+", SUM), np.subtract: ("-", SUM), np.multiply: ("*", PRODUCT), np.divide: ("/", PRODUCT),
    np.less: ("<", COMPARISON), np.less_equal: ("<=", COMPARISON), np.greater: (">", COMPARISON),
    np.greater_equal: (">=", COMPARISON), np.equal: ("===", COMPARISON), np.not_equal: ("!==", COMPARISON),
    np.logical_and: ("&&", 0), np.logical_or: ("||", 0),
}  # fmt: skip
_NAMES: dict[Any, str] = {
    **{f: f"Math.{f.__name__}" for f in (
        np.exp, np.expm1, np.log, np.log1p, np.log2, np.log10, np.sqrt, np.cbrt, np.sin, np.cos, np.tan, np.sinh,
        np.cosh, np.tanh, np.hypot, np.sign, np.floor, np.ceil, np.trunc,
    )},
    np.arcsin: "Math.asin", np.arccos: "Math.acos", np.arctan: "Math.atan", np.arctan2: "Math.atan2",
    np.arcsinh: "Math.asinh", np.arccosh: "Math.acosh", np.arctanh: "Math.atanh", np.absolute: "Math.abs",
    np.maximum: "Math.max", np.minimum: "Math.min", np.power: "Math.pow",
    np.isfinite: "Number.isFinite", np.isnan: "Number.isNaN", float: "Number",
}  # fmt: skip
_PYTHONS: dict[Any, Any] = {  # Python's operators do what these do
    operator.add: np.add, operator.sub: np.subtract, operator.mul: np.multiply, operator.truediv: np.divide,
    operator.pow: np.power, operator.neg: np.negative, operator.lt: np.less, operator.le: np.less_equal,
    operator.gt: np.greater, operator.ge: np.greater_equal, operator.eq: np.equal, operator.ne: np.not_equal,
    operator.floordiv: np.floor_divide, operator.mod: np.remainder,
}  # fmt: skip
_OF_TRUTH_VALUES: dict[Any, Any] = {
    np.bitwise_and: np.logical_and, np.bitwise_or: np.logical_or, np.bitwise_xor: np.not_equal,
    np.invert: np.logical_not, operator.invert: np.logical_not, np.logical_xor: np.not_equal,
}  # fmt: skip


class Term:
    """A number that is computed: a function of terms and numbers, or (function None) a text, an argument's element."""

    __slots__ = ("arguments", "function", "name")

    def __init__(self, function: Any, *arguments: Any, name: str = "") -> None:
        self.function, self.arguments, self.name = function, arguments, name

    def __add__(self, other: Any) -> Any:
        return number(np.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return number(np.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return number(np.subtract, self, other)

    def __rsub__(self, other: Any) -> Any:
        return number(np.subtract, other, self)

    def __mul__(self, other: Any) -> Any:
        return number(np.multiply, self, other)

    def __rmul__(self, other: Any) -> Any:
        return number(np.multiply, other, self)

    def __truediv__(self, other: Any) -> Any:
        return number(np.divide, self, other)


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
_OF_NUMBERS = {*_SIGNS, *_NAMES, *_REWRITTEN, np.negative, np.logical_not, np.where}

# What NumPy does with an array of objects as with any other.
_MOVES = {
    np.reshape, np.ravel, np.transpose, np.matrix_transpose, np.swapaxes, np.moveaxis, np.expand_dims, np.squeeze,
    np.broadcast_to, np.concatenate, np.stack, np.copy, np.flip, np.roll, np.repeat, np.tile, np.take, np.diagonal,
    np.trace, np.sum, np.mean, np.prod, np.cumsum, np.cumprod, np.matmul, np.dot, np.inner, np.outer,
    np.tensordot, np.einsum, np.vdot, np.full_like, np.pad,
}  # fmt: skip
_REDUCTIONS: dict[Any, Any] = {np.max: np.maximum, np.min: np.minimum, np.all: np.logical_and, np.any: np.logical_or}


# Arrays of terms ------------------------------------------------------------------------------------------------------


class Terms:
    """The values of a program, as arrays of terms and numbers. text: of an argument's element, by name and index."""

    def __init__(self, program: Program) -> None:
        writer = program._writer
        self.checks: list[tuple[Any, Any]] = []
        self.inputs = {
            self.word(writer.names[node]): node
            for node in program.nodes
            if node in writer.given or node in program.inputs
        }
        self.values: dict[Node, Any] = {}
        self.made: list[Term] = []
        given = {node: name for name, node in self.inputs.items()}
        for node in program.nodes:
            value = self._input(node, given[node]) if node in given else self._value(node)
            self.values[node] = value
            self.checks += [(value, expected) for checked, expected in program.checks if checked is node]
            self._noted(self.word(writer.names[node]), value)

    def word(self, name: str) -> str:
        """A name as JavaScript can use it."""
        return f"{name}_" if name in _RESERVED else name

    def _input(self, node: Node, name: str) -> Any:
        if not node.shape:
            return Term(None, name=name)
        array = np.empty(node.shape, object)
        for index in np.ndindex(node.shape):
            array[index] = Term(None, name=name + "".join(f"[{i}]" for i in index))
        return array

    def _noted(self, base: str, value: Any) -> None:
        """Terms that are new get a name, in case that they need one."""
        for index, x in np.ndenumerate(value) if isinstance(value, np.ndarray) else [((), value)]:
            if type(x) is Term and not x.name:
                x.name = "_".join([base, *map(str, index)])
                self.made += [*self._unnamed(x), x]
        if len(self.made) > _MOST:
            raise TracingError(
                f'source: target="javascript" writes every element by itself, and here there are more than {_MOST:,}. '
                "It is for small arrays"
            )

    def _unnamed(self, x: Term) -> list[Term]:
        """The terms inside that were made with it, and have no name of their own; each behind those that it is of."""
        found: list[Term] = []
        stack = [(y, False) for y in x.arguments]
        while stack:
            y, is_done = stack.pop()
            if is_done:
                found.append(y)
            elif type(y) is Term and not y.name:
                y.name = f"{x.name}_"
                stack += [(y, True), *((z, False) for z in y.arguments)]
        return found

    def _value(self, node: Node) -> Any:
        if node.function is None:
            return _of_objects(node.value)
        places = node.function in (operator.getitem, operator.setitem, np.add.at)
        args = [tree.mapped(self._place if i == 1 and places else self._known, x) for i, x in enumerate(node.arguments)]
        kwargs = tree.mapped(self._known, dict(node.kwargs))
        if is_write(node):
            (operator.setitem if node.function is operator.setitem else _added)(*args)
            return args[0]
        kwargs = {key: x for key, x in kwargs.items() if key not in ("dtype", "casting") and x is not None}
        try:
            return _called(node, args, kwargs)
        except (TypeError, ValueError, IndexError) as error:
            raise _refused(node) from error

    def _known(self, x: Any) -> Any:
        return self.values[x] if type(x) is Node else x

    def _place(self, x: Any) -> Any:
        """An index, such as labels: as it was when the program was recorded. That it is so is checked."""
        if type(x) is not Node:
            return x
        now, then = np.broadcast_arrays(np.asarray(self.values[x], object), np.asarray(x.value))
        self.checks += [pair for pair in zip(now.flat, then.flat, strict=True) if type(pair[0]) is Term]
        return x.value


def _called(node: Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The call of a node, of arrays of terms."""
    function: Any = _PYTHONS.get(node.function, node.function)
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
    if function is np.var:
        return _variance(*args, **kwargs)
    if function is np.std:
        return _elementwise(np.sqrt, [_variance(*args, **kwargs)])
    if function is np.clip:
        return _clipped(*args, **kwargs)
    if function is view and node.dtype.kind == "u" and node.dtype.itemsize == node.inputs[0].dtype.itemsize:
        x, size = args[0], 2.0 ** (8 * node.dtype.itemsize)  # negative numbers are read as huge ones
        return _elementwise(np.where, [_elementwise(np.less, [x, 0]), _elementwise(np.add, [x, size]), x])
    if function is astype:
        return _cast(args[0], node)
    raise _refused(node)


def _refused(node: Node) -> TracingError:
    return TracingError(
        f'source: there is no spelling of {spelled(node.function)} as it is called here for target="javascript", which '
        "has the functions of single numbers, sums and products, and what moves elements"
    )


def _is_computed(x: Any) -> bool:
    """Whether a place depends on values."""
    return type(x) is Term or (isinstance(x, np.ndarray) and x.dtype == object)


def _of_objects(x: Any) -> Any:
    return x.astype(object) if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim else x


def _elementwise(function: Any, args: Iterable[Any]) -> Any:
    args = list(args)
    return np.frompyfunc(lambda *xs: number(function, *xs), len(args), 1)(*args)


def _added(array: Any, index: Any, value: Any) -> None:
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


def _variance(x: Any, axis: Any = None, ddof: Any = 0, keepdims: bool = False) -> Any:
    centred = x - np.mean(x, axis=axis, keepdims=True)
    total = np.sum(centred * centred, axis=axis, keepdims=keepdims)
    return total / (x.size // np.size(total) - ddof)


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
    return (
        _elementwise(np.trunc, [x]) if (before, kind) in (("f", "i"), ("f", "u")) else np.copy(x) if np.ndim(x) else x
    )


# The text -------------------------------------------------------------------------------------------------------------


class _Lines:
    """The lines of a function. Terms that stand in more than one place, or would make a line too long, get a name."""

    def __init__(self, terms: Terms, results: Any) -> None:
        self._terms = terms
        self._uses: dict[Term, int] = {}
        self._texts: dict[Term, Text] = {}
        self._returned = set(_terms_in(results, terms))
        conditions = [(x, value) for x, value in dict(terms.checks).items() if type(x) is Term]
        self._count([*self._returned, *(x for x, _ in conditions)])
        self._taken = set(terms.inputs)
        self.lines = [line for term in terms.made if term in self._uses for line in self._line(term)]
        self.lines += [self._check(x, value) for x, value in conditions]
        self.lines.append(f"return {self._structure(results)};")

    def _count(self, wanted: list[Term]) -> None:
        stack = list(wanted)
        while stack:
            x = stack.pop()
            self._uses[x] = self._uses.get(x, 0) + 1
            if self._uses[x] == 1:
                stack += [y for y in x.arguments if type(y) is Term]

    def _line(self, term: Term) -> list[str]:
        text = self._expression(term)
        if self._uses[term] == 1 and len(text.text) <= _LONGEST and term not in self._returned:
            self._texts[term] = text
            return []
        name = term.name
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        self._texts[term] = Text(name)
        return [f"const {name} = {text.text};"]

    def _check(self, x: Term, value: Any) -> str:
        text = self._text(x)
        if isinstance(value, bool | np.bool_):
            wrong = f"!{text.within(ATOM)}" if value else text.text
        else:
            wrong = f"{text.within(SUM)} !== {_literal(value).text}"
        return f'if ({wrong}) throw new Error("not the values this was printed for");'

    def _text(self, x: Any) -> Text:
        if type(x) is not Term:
            return _literal(x)
        return Text(x.name) if x.function is None else self._texts[x]

    def _expression(self, term: Term) -> Text:
        function, parts = term.function, [self._text(x) for x in term.arguments]
        if function in _SIGNS:
            sign, binding = _SIGNS[function]
            is_logical = binding == 0
            left = parts[0].within(ATOM if is_logical else binding + (binding == COMPARISON))
            return Text(f"{left} {sign} {parts[1].within(ATOM if is_logical else binding + 1)}", binding)
        if function is np.negative:
            return Text(f"-{parts[0].within(ATOM)}", SIGN)
        if function is np.logical_not:
            return Text(f"!{parts[0].within(ATOM)}", SIGN)
        if function is np.where:
            condition, yes, no = (part.within(ATOM) for part in parts)
            return Text(f"{condition} ? {yes} : {no}", 0)
        return Text(f"{_NAMES[function]}({', '.join(part.text for part in parts)})")

    def _structure(self, x: Any) -> str:
        """Results: arrays are arrays of arrays, a dictionary is an object."""
        x = x.node if type(x) is Returned else x
        x = self._terms.values[x] if type(x) is Node else x
        if isinstance(x, np.ndarray):
            x = x.tolist()
        if isinstance(x, dict):
            return f"{{{', '.join(f'{json.dumps(str(key))}: {self._structure(value)}' for key, value in x.items())}}}"
        if isinstance(x, list | tuple):
            return f"[{', '.join(map(self._structure, x))}]"
        return self._text(x).text


def _terms_in(results: Any, terms: Terms) -> Iterator[Term]:
    """The terms among the results, as often as they are there."""
    x = results.node if type(results) is Returned else results
    x = terms.values[x] if type(x) is Node else x
    if isinstance(x, dict | list | tuple):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _terms_in(part, terms)
    for one in np.ravel(np.asarray(x, object)) if not isinstance(x, dict | list | tuple) else ():
        if type(one) is Term:
            yield one


def _literal(x: Any) -> Text:
    """A number, a truth value, a string or nothing, as JavaScript writes it."""
    if x is None or isinstance(x, bool | np.bool_ | str):
        return Text(json.dumps(x.item() if isinstance(x, np.bool_) else x))
    value = x.item() if isinstance(x, np.generic | np.ndarray) else x
    if not isinstance(value, int | float):
        raise TracingError(f'source: target="javascript" has no spelling of {x!r:.60}')
    text = repr(value).replace("inf", "Infinity").replace("nan", "NaN")
    return Text(text, SIGN if text.startswith("-") else ATOM)


def javascript(program: Program) -> Source:
    """The text of a function in JavaScript."""
    terms = Terms(program)
    results, done = program.results, {e.name: e.value for e in program.effects if e.value is not None}
    if program.effects:
        results = done if results is None else (results, done)
    lines = "\n".join(f"  {line}" for line in _Lines(terms, results).lines)
    name = terms.word(program.name)
    text = f"function {name}({', '.join(terms.inputs)}) {{\n{lines}\n}}\n"
    return Source(text, name, {word: node.value for word, node in terms.inputs.items()})
