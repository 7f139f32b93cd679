"""Words and numbers for pictures: how a node is described, and how anything a user can write gets through DOT."""

from __future__ import annotations

import math
import operator
import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Any

import graphviz
import numpy as np

from microgradopt.graph.cost import Cost
from microgradopt.graph.graph import CONSTANT, INPUT, PARAMETER, UFUNCS, Edge, Node, finite
from microgradopt.graph.text import call, identifier, literal, place
from microgradopt.rules.registry import KNOWN, name_of

_COMMUTING = {
    np.add, np.multiply, np.maximum, np.minimum, np.hypot, np.logaddexp, np.equal, np.not_equal, np.logical_and,
    np.logical_or,
}  # fmt: skip

_OF_NUMBERS = {**UFUNCS, operator.pow: np.power}  # Python's own operators look like NumPy's
_OF_MATRICES = {np.matmul, np.linalg.solve}  # broadcast stacks of them, and not their elements
_FEW = 6  # elements of an array that is shown whole
_TOLD = 30  # calls that are told one by one
_LONG = 36  # characters of a word that is shown whole
_WIDE = 48  # characters of a line of a sentence
_RECORD = re.compile(r"[{}|<>]|^ | $|(?<= ) ")
_ENTITY = re.compile(r"&(?=#?\w+;)")

# Words ----------------------------------------------------------------------------------------------------------------


def sign(node: Node) -> str:
    """The function of a node in mathematical form, with what it is told besides its operands: "Σ axis=0", "[0:2]"."""
    if node.operation in ("getitem", "pick"):
        return short(place(node))
    if node.function is operator.setitem:
        return short(f"{place(node)} ← {_setting(node.arguments[2])}")
    if node.function is np.zeros_like:
        return f"zeros {node.shape}"
    if node.function in _OF_NUMBERS and len(node.arguments) == 2 and len(node.inputs) == 1 and not node.kwargs:
        left, right = map(_setting, node.arguments)
        return short(f"{left} {symbol(node)} {right}") if node.operation not in ("pow", "power") else f"{left}^{right}"
    return " ".join([symbol(node), *_settings(node)])


def symbol(node: Node) -> str:
    """The function of a node in mathematical form: "Σ"; its own name where mathematics has no shorter one."""
    owner = getattr(node.function, "__self__", None)
    if isinstance(owner, np.ufunc):  # a method of it, add.reduce
        return f"{_symbol(owner)} {node.operation}"
    return _symbol(_of_numpy(node.function))


def _of_numpy(function: Any) -> Any:
    """NumPy's function for one of Python's operators; another as it is."""
    return _OF_NUMBERS.get(function, function)


def _symbol(function: Any) -> str:
    known = KNOWN.get(function)
    return (known and known.sign) or name_of(function).removeprefix("linalg.").strip("_")


def _settings(node: Node) -> list[str]:
    """Arguments that are no operands, but say how: axis=0."""
    told = [(node.argument_name(i), x) for i, x in enumerate(node.arguments) if not node.is_operand(i)]
    told += [(key, x) for key, x in node.kwargs.items() if (key, x) != ("keepdims", False)]
    return [short(prefixed("" if key.isdigit() else f"{key}=", _setting(x))) for key, x in told if x is not None]


def _setting(x: Any) -> str:
    """An argument as it stands in a sign: x, if it is computed."""
    if type(x) is Node:
        return "x"
    is_large = isinstance(x, np.ndarray) and x.size > _FEW
    return f"{x.shape} {x.dtype}" if is_large else literal(x).text


def argument(edge: Edge) -> str:
    """Which argument of its target an edge leads to, where that matters: "x", "arrays[1]"."""
    if _of_numpy(edge.target.function) in _COMMUTING or len(edge.target.inputs) < 2:
        return ""
    name = edge.target.argument_name(edge.slot)
    return name if edge.part is None else f"{name}[{edge.part}]"


def number(x: Any) -> str:
    """A number with four significant digits."""
    return f"{float(x):.4g}" if np.asarray(x).dtype.kind == "f" else short(str(x))


def decimals(x: Any) -> str:
    """A number with four decimals, as micrograd writes it; but none that would look like 0, or be wider than a page."""
    return f"{float(x):.4f}" if x == 0 or 1e-4 <= abs(x) < 1e9 else number(x)


def value(x: Any) -> str:
    """A value in one short line: a number, a small array, or the range of a large one. NaN and Inf in words."""
    if x is None or not isinstance(x, np.ndarray | np.generic | float | int):
        return ""
    array = np.asarray(x)
    if array.ndim == 0:
        return number(array[()])
    if array.size <= _FEW:
        return short(np.array2string(array, precision=3, separator=" ", max_line_width=10_000).replace("\n", ""))
    if array.dtype.kind == "b":
        return f"{np.count_nonzero(array)} of {array.size} True"
    known = array[np.isfinite(array)]
    if not known.size:
        return ""
    if (known == known[0]).all():
        return f"all {number(known[0])}"
    return f"{number(known.min())} … {number(known.max())}"


def shown(node: Node) -> str:
    """The value of a node in one short line."""
    return "value not kept" if node.value is None and node.dtype is not type(None) else value(node.value)


def warning(x: Any) -> str:
    """What is wrong with a value, in words: "3 NaN, 1 Inf"; "" where nothing is."""
    if finite(x):
        return ""
    nan, infinite = int(np.isnan(x).sum()), int(np.isinf(x).sum())
    return ", ".join(f"{count} {word}" for count, word in ((nan, "NaN"), (infinite, "Inf")) if count)


def failure(node: Node) -> list[str]:
    """Of a call that has failed, the shapes that met in it, and why, in short lines."""
    shapes = [x.shape for x in node.inputs if isinstance(x.dtype, np.dtype)] if node.value is None else []
    return [_met(shapes), *textwrap.wrap(node.error, _WIDE)] if node.error else []


def broadcast(node: Node) -> str:
    """That a result is larger than each of its operands: "(80, 1) with (80,) broadcasts to (80, 80)".

    With a warning where the operands have different numbers of axes: then nobody has written down the axis that NumPy
    adds on the left.
    """
    known = KNOWN.get(node.function)  # type: ignore[arg-type]
    shapes = [x.shape for x in node.inputs if x.shape]
    if known is None or not known.broadcasts or node.function in _OF_MATRICES or len(shapes) < 2:
        return ""
    if node.size <= max(map(math.prod, shapes)):
        return ""
    sign = "⚠ " if len(set(map(len, shapes))) > 1 else ""
    return f"{sign}{_met(shapes)} broadcasts to {node.shape}"


def _met(shapes: list[tuple[int, ...]]) -> str:
    """Shapes that met in a call."""
    return cut((" with " if len(shapes) == 2 else ", ").join(map(str, shapes)))


def kind(node: Node) -> str:
    """Shape and dtype, "(8, 4) float64"; of a single number the dtype alone, and nothing of a number of Python's."""
    if node.dtype is type(None):
        return "" if node.error else "several results"
    if not isinstance(node.dtype, np.dtype):
        return ""
    return f"{node.shape} {node.dtype}" if node.shape else str(node.dtype)


def tooltip(node: Node) -> str:
    """All about a node, to be shown when it is pointed at."""
    made = f" = {call(node)}" if node.function is not None else ""
    described = f"shape {node.shape}, {getattr(node.dtype, '__name__', node.dtype)}"
    told = f"{node.name}{made} · {node.role} · {kind(node) if node.dtype is type(None) else described}"
    return cut(told, 600)


def variable(name: str) -> str:
    """The name that a value has in the printed source, where it is a parameter's: "weight_0" for "0.weight"."""
    return identifier(name) if re.fullmatch(r"(\w+\.)+[^\W\d]\w*", name) else name


def described(nodes: list[Node], outputs: list[Node]) -> str:
    """A picture in words, for those who do not see it: what is given, and the calls in their order."""
    given = [variable(node.name) for node in nodes if node.function is None and np.ndim(node.value)]
    made = [f"{identifier(node.name)} = {call(node)}" for node in nodes if node.function is not None]
    most = [*made[:_TOLD], f"and {len(made) - _TOLD} more"] if len(made) > _TOLD else made
    failed = [f" Failed: {identifier(node.name)}, {node.error}" for node in nodes if node.error]
    result = ", ".join(identifier(node.name) for node in outputs[:_FEW])
    told = f"Given: {', '.join(given[:_TOLD])}. {count(len(made), 'call')}: {'; '.join(most)}."
    return "".join([told, prefixed(" Result: ", result and f"{result}."), *failed])


def short(text: str) -> str:
    """A word that is not longer than fits."""
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def cut(text: str, length: int = 60) -> str:
    """Both ends of a text that is very long."""
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-length // 2 :]}"


# Counts ---------------------------------------------------------------------------------------------------------------


def amount(count: float, unit: str) -> str:
    """A count with a prefix: 12.3 kflop."""
    for prefix in ("", "k", "M", "G"):
        if count < 1000:
            return f"{count:.3g} {prefix}{unit}"
        count /= 1000
    return f"{count:.3g} T{unit}"


def calls(nodes: Iterable[Node]) -> str:
    """How many calls there are among nodes, and of what: "67 operations: × (34), + (33)"."""
    counts = Counter(symbol(node) for node in nodes if node.function is not None)
    told = [f"{each} ({number})" if number > 1 else each for each, number in counts.most_common(3)]
    told += ["…"] * (len(counts) > 3)
    return f"{count(counts.total(), 'operation')}: {', '.join(told)}" if counts else ""


def givens(nodes: Iterable[Node]) -> list[str]:
    """How many of the values were given: "2 parameters"."""
    counts = Counter(node.role for node in nodes if node.function is None)
    return [count(counts[role], role) for role in (INPUT, PARAMETER, CONSTANT) if counts[role]]


def costs(total: Cost) -> str:
    """What calls cost, unless all that they make is a single number."""
    told = [amount(total.flops, "flop")] if total.flops > 1 else []
    return " · ".join([*told, amount(total.bytes, "B")]) if total.bytes > 8 else ""


def count(number: int, what: str) -> str:
    """So many of something: "1 operation", "2 operations"."""
    return f"{number} {what}{'s' * (number != 1)}"


def prefixed(prefix: str, text: str) -> str:
    """A text with a prefix; nothing, where there is no text."""
    return prefix + text if text else ""


# Getting through DOT --------------------------------------------------------------------------------------------------


def _literal(text: str) -> str:
    """Text that Graphviz takes word for word: no escapes, no control characters, no HTML entities.

    Control characters become the escapes that Python writes for them. Graphviz reads "&amp;" as "&", and some versions
    read what that was escaped to once more: a word joiner, which nobody sees, keeps it from being an entity at all.
    """
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return _ENTITY.sub("&\u2060", printable).replace("\\", "\\\\")


def lines(*texts: str) -> str:
    """Lines of a label, the empty ones left out, as DOT has them. Never HTML, even where they look like it: <...>."""
    joined: str = graphviz.nohtml("\\n".join(_literal(text) for text in texts if text))
    return joined


def field(text: str) -> str:
    """Text in a field of a record, whose own signs are { | } < >, and where spaces count only one by one."""
    return _RECORD.sub(r"\\\g<0>", _literal(text))
