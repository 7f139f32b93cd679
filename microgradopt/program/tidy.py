"""Tidying a program: what no result needs is left out, and what is computed twice is computed once."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from microgradopt.graph.graph import CONSTANT, Node, nodes_in

Checks = list[tuple[Node, Any]]

_LARGEST = 10_000  # elements of constants that are compared with each other


def is_write(node: Node) -> bool:
    """Whether this call changes its first argument, which from then on is the value of this node."""
    return node.function is operator.setitem or getattr(node.function, "__name__", "") == "at"


def tidied(nodes: list[Node], outputs: Iterable[Node], checks: Checks) -> tuple[list[Node], dict[Node, Node]]:
    """The nodes that outputs and checks need, each once; and which node stands for each that was dropped as equal."""
    written = {node.arguments[0] for node in nodes if is_write(node)}
    first: dict[Any, Node] = {}
    same: dict[Node, Node] = {}
    for node in nodes:
        node.arguments, node.kwargs = _replaced(node.arguments, same), _replaced(node.kwargs, same)
        if isinstance(node.function, np.ufunc) and node.function.signature is None:
            node.arguments = unstretched(node)
        key = _identity(node)
        if key is None or node in written or is_write(node):
            continue
        kept = first.setdefault(key, node)
        if kept is not node:
            same[node] = kept
            kept.whole, kept.derivative_of = kept.whole or node.whole, kept.derivative_of or node.derivative_of
    for node in nodes:
        if node.derivative_of is not None:
            node.derivative_of = same.get(node.derivative_of, node.derivative_of)
    needed = {same.get(node, node) for node in [*outputs, *(node for node, _ in checks)]}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.inputs, nodes_in(list(node.kwargs.values())))
    return [node for node in nodes if node in needed], same


def unstretched(node: Node) -> tuple[Any, ...]:
    """The operands of an elementwise call, those that were stretched as they were before, where nothing changes by it.

    An operand may be taken back to its source where broadcasting gives the same shape with the others as they then are
    (one after the other: two operands that stretch each other cannot both be taken back), and where all arrays lie in
    memory in C order, so that the result does too.
    """
    found = list(node.arguments)
    for i, x in enumerate(found):
        others = [other for j, other in enumerate(found) if j != i and type(other) is Node]
        while (source := _stretched_from(x)) is not None:
            together = [source, *others]
            if np.broadcast_shapes(*(operand.shape for operand in together)) != node.shape:
                break
            if not all(_in_c_order(operand) for operand in [node, *together]):
                break
            x = found[i] = source
    return tuple(found)


def _stretched_from(x: Any) -> Node | None:
    """The array that an operand repeats along new axes and axes of length 1, or only gives new axes."""
    if type(x) is not Node or x.function not in (np.broadcast_to, np.reshape) or type(x.arguments[0]) is not Node:
        return None
    source: Node = x.arguments[0]
    new_axes = (1,) * (len(x.shape) - len(source.shape))
    return source if x.function is np.broadcast_to or x.shape == new_axes + source.shape else None


def _in_c_order(node: Node) -> bool:
    """Whether an array lies in memory in C order; a number does. The stride of an axis of length 1 does not count."""
    expected = getattr(node.dtype, "itemsize", 0)
    for n, stride in zip(reversed(node.shape), reversed(node.strides), strict=False):
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True


def _replaced(x: Any, same: Mapping[Node, Node]) -> Any:
    """Arguments with the nodes that stand for those in them."""
    if type(x) is Node:
        return same.get(x, x)
    if type(x) in (tuple, list):
        return type(x)([_replaced(part, same) for part in x])
    if type(x) is dict:
        return {key: _replaced(part, same) for key, part in x.items()}
    if type(x) is slice:
        return slice(*(_replaced(part, same) for part in (x.start, x.stop, x.step)))
    return x


def _identity(node: Node) -> Any:
    """Something that is equal for nodes that have the same value; None if nothing is known."""
    if node.function is not None:
        return node.function, _key(node.arguments), _key(node.kwargs)
    x = node.value
    if node.role == CONSTANT and isinstance(x, np.ndarray) and x.size <= _LARGEST:
        return x.dtype, x.shape, x.strides, x.tobytes()
    return None


def _key(x: Any) -> Any:
    """Something that is equal for arguments that are the same, down to the type and the sign of zero."""
    if type(x) is Node:
        return id(x)
    if isinstance(x, tuple | list):
        return (type(x), *map(_key, x))
    if type(x) is dict:
        return tuple((key, _key(part)) for key, part in x.items())
    if type(x) is slice:
        return "slice", _key((x.start, x.stop, x.step))
    return type(x), repr(x)
