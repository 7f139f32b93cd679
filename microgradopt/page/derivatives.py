"""A derivative rule as text: what one value hands to one of its inputs, in the names of the graph."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from microgradopt.graph.graph import CONSTANT, Node
from microgradopt.graph.text import NUMBERS, Text, expression, identifier, literal
from microgradopt.mode import Switched
from microgradopt.program.tape import Tape
from microgradopt.program.tracer import Tracer
from microgradopt.rules.registry import KNOWN, name_of
from microgradopt.tensor import plain


def share(node: Node, slot: int, part: int | None = None) -> str:
    """What a node hands to one of its arguments, as the rule says it: "d_tanh1 * (1 - tanh1 * tanh1)".

    The cotangent of tanh1 is called d_tanh1.
    """
    return _rule_text(node, slot, part, f"d_{identifier(node.name)}")


def local(node: Node, slot: int) -> str | None:
    """The derivative of an elementwise function alone, "1 - tanh1 * tanh1": its rule, with a cotangent of 1."""
    if not (isinstance(node.function, np.ufunc) and node.function.signature is None and node.value is not None):
        return None
    text = _rule_text(node, slot, None, "")
    plain = re.fullmatch(r"1\.0 \* \(([^()]*)\)", text)  # 1.0 * (1 - tanh * tanh)
    return plain[1] if plain else re.sub(r"^(-?)1\.0 \* ", r"\1", text)


def _rule_text(node: Node, slot: int, part: int | None, upstream: str) -> str:
    """A rule run on values that write down what happens to them. upstream: the cotangent's name; "" for a 1."""
    tape = Tape(body_of=_readable)

    def traced(x: Any) -> Any:
        if isinstance(x, list):
            return [traced(each) for each in x]
        if type(x) is not Node:
            return x
        if type(x.value) in NUMBERS:
            return x.value
        return tape.input(x.value, name=identifier(x.name), of_tensor=True)

    arguments = [traced(x) for x in node.arguments]
    out = tape.input(node.value, name=identifier(node.name), of_tensor=True)
    one = np.ones_like(node.value)[()]
    g = tape.input(one, name=upstream, of_tensor=True) if upstream else 1.0
    rule = KNOWN[node.function].rules[slot]  # type: ignore[index]
    assert rule is not None
    with Switched(tape, sweeps=1):
        result = rule(g, out, *arguments, **node.kwargs)
    result = plain(result[part] if part is not None else result)
    return _nested(result.node).text if type(result) is Tracer else literal(result).text


def _readable(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """What a composite is shown as: its plain formula; its body, where only rules know it and it is one expression."""
    known = KNOWN[function]
    if known.plain is not None:
        return known.plain
    return known.call if name_of(function).startswith("_") and _is_one_expression(known.call) else None


def _is_one_expression(body: Callable[..., Any]) -> bool:
    """Whether a body is a formula without places of an array; not where its text is not there (in a REPL)."""
    try:
        return "[" not in inspect.getsource(body).partition('"""')[2]
    except OSError:
        return False


def _nested(node: Node) -> Text:
    """A node with all that led to it in one expression."""
    if node.function is not None:
        return expression(node, _nested)
    return literal(node.value) if node.role == CONSTANT else Text(node.name)
