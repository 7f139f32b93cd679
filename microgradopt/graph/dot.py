"""Words and numbers for pictures: how a node is described, and how anything a user can write gets through DOT."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgradopt.graph.formulas import call, literal
from microgradopt.graph.graph import CONSTANT, INPUT, Node

_SIGNS = {
    "add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "matmul": "@", "negative": "−x", "square": "x²",
    "sqrt": "√", "cbrt": "∛", "reciprocal": "1/x", "absolute": "|x|", "fabs": "|x|", "power": "xʸ", "pow": "xʸ",
    "float_power": "xʸ", "exp": "eˣ", "exp2": "2ˣ", "log": "ln", "log2": "log₂", "log10": "log₁₀", "sum": "Σ",
    "prod": "Π", "mean": "mean", "maximum": "max", "minimum": "min", "transpose": "xᵀ", "matrix_transpose": "xᵀ",
    "linear": "xWᵀ + b", "logsumexp": "ln Σ eˣ", "greater": ">", "greater_equal": "≥", "less": "<",
    "less_equal": "≤", "equal": "=", "not_equal": "≠", "floor": "⌊x⌋", "ceil": "⌈x⌉", "_summed_pairs": "gᵀx",
    "norm": "‖x‖", "euclidean_norm": "‖x‖", "inv": "x⁻¹", "floor_divide": "⌊x/y⌋", "remainder": "mod",
}  # fmt: skip
COMMUTING = {"add", "multiply", "maximum", "minimum", "hypot", "logaddexp", "equal", "not_equal", "concatenate"}

_FEW = 6  # elements of an array that is shown whole
_LONG = 36  # characters of a word that is shown whole

# Words ----------------------------------------------------------------------------------------------------------------


def sign(node: Node) -> str:
    """The function of a node in mathematical form, with what it is told besides its operands: "Σ axis=0"."""
    name = node.operation.removeprefix("linalg.")
    if name == "getitem":
        return short(call(node))
    return " ".join([_SIGNS.get(name, name.strip("_")), *_settings(node)])


def _settings(node: Node) -> list[str]:
    """Arguments that are no operands, but say how: axis=0."""
    told = [(node.argument_name(i), x) for i, x in enumerate(node.arguments) if not node.is_operand(i)]
    told += [(key, x) for key, x in node.kwargs.items() if (key, x) != ("keepdims", False)]
    return [short(f"{key}={literal(x).text}") for key, x in told if x is not None and np.size(x) <= _FEW]


def number(x: Any) -> str:
    """A number with four significant digits."""
    return f"{float(x):.4g}" if np.asarray(x).dtype.kind == "f" else str(x)


def value(x: Any) -> str:
    """A value in one short line: a number, a small array, or the range of a large one. NaN and Inf in words."""
    if x is None or not isinstance(x, np.ndarray | np.generic | float | int):
        return ""
    array = np.asarray(x)
    if array.ndim == 0:
        return number(array[()])
    if array.size <= _FEW:
        return short(np.array2string(array, precision=3, separator=" ", max_line_width=10_000).replace("\n", ""))
    if array.dtype.kind != "f" or not np.isfinite(array).any():
        return ""
    known = array[np.isfinite(array)]
    if (array == known[0]).all():
        return f"all {number(known[0])}"
    return f"{number(known.min())} … {number(known.max())}"


def warning(x: Any) -> str:
    """What is wrong with a value, in words: "3 NaN, 1 Inf"; "" where nothing is."""
    if not isinstance(x, np.ndarray | np.generic | float) or np.asarray(x).dtype.kind != "f":
        return ""
    nan, infinite = int(np.isnan(x).sum()), int(np.isinf(x).sum())
    return ", ".join(f"{count} {word}" for count, word in ((nan, "NaN"), (infinite, "Inf")) if count)


def gradient(node: Node) -> str:
    """The gradient in words: "not computed" is not 0."""
    if node.role in (INPUT, CONSTANT) and node.gradient is None:
        return ""
    return "not computed" if node.gradient is None else value(node.gradient) or "computed"


def kind(node: Node) -> str:
    """Shape and dtype; of a single float64, nothing."""
    dtype = (
        "" if node.dtype in (np.dtype(np.float64), float, int) else f" {getattr(node.dtype, '__name__', node.dtype)}"
    )
    if node.value is None:
        return "several results"
    return f"{node.shape}{dtype}" if node.shape else dtype.strip()


def tooltip(node: Node) -> str:
    """All about a node, to be shown when it is pointed at."""
    made = f" = {call(node)}" if node.function is not None else ""
    return f"{node.name}{made} · {node.role} · shape {node.shape}, {getattr(node.dtype, '__name__', node.dtype)}"


def amount(count: float, unit: str) -> str:
    """A count with a prefix: 12.3 kflop."""
    for prefix in ("", "k", "M", "G"):
        if count < 1000:
            return f"{count:.3g} {prefix}{unit}"
        count /= 1000
    return f"{count:.3g} T{unit}"


def short(text: str) -> str:
    """A word that is not longer than fits."""
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


# Getting through DOT --------------------------------------------------------------------------------------------------


def _printable(text: str) -> str:
    """Control characters as the escapes that Python writes for them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def lines(*texts: str) -> str:
    """Lines of a label, the empty ones left out, as DOT has them: backslashes doubled, and no HTML ever.

    A label that begins with < and ends with > would be taken for HTML by the graphviz package: a space keeps it text.
    """
    joined = "\\n".join(_printable(text).replace("\\", "\\\\") for text in texts if text)
    return f" {joined}" if joined.startswith("<") and joined.endswith(">") else joined


def field(text: str) -> str:
    """Text in a field of a record, whose own signs are { | } < >."""
    return "".join(f"\\{c}" if c in "{}|<> " else c for c in _printable(text).replace("\\", "\\\\"))
