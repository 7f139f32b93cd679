"""What a computation costs: floating-point operations, and bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from microgradopt.graph.graph import Node
from microgradopt.graph.tracer import TracingError, is_composite, record
from microgradopt.rules.registry import KNOWN

# Sums over axes, and what else visits each element of its argument once.
_VISITS = ("sum", "mean", "max", "amax", "min", "amin", "prod", "cumsum", "reduce", "accumulate")


class Cost(NamedTuple):
    """operations: calls of NumPy functions. flops: floating-point operations; bytes: of all results together."""

    operations: int
    flops: int
    bytes: int


def cost(nodes: Iterable[Node]) -> Cost:
    """The cost of all calls among `nodes`."""
    calls = [node for node in nodes if node.function is not None]
    return Cost(len(calls), sum(map(flops, calls)), sum(map(new_bytes, calls)))


def flops(node: Node) -> int:
    """Floating-point operations of one call, counted by shapes.

    A product of matrices is 2·m·n·k; an elementwise function 1 for each element of its result, whichever function it
    is; a sum or an extremum 1 for each element that it visits. Moving elements is none, and decompositions
    (``np.linalg``) are not counted.
    """
    function: Any = node.function
    if function is None or node.dtype is type(None):
        return 0
    if is_composite(function):
        return _flops_inside(node)
    if function is np.matmul:
        return 2 * node.size * node.inputs[0].shape[-1]
    if isinstance(function, np.ufunc):
        return node.size
    if node.operation in _VISITS:
        return max((math.prod(x.shape) for x in node.inputs), default=0)
    return 0


def _flops_inside(node: Node) -> int:
    """Those of a composite: of all that its body does, on ones in place of its values: shapes are all that counts."""
    ones = [
        np.ones(x.shape, x.dtype) if type(x) is Node and isinstance(x.dtype, np.dtype) and x.dtype.kind == "f" else x
        for x in node.arguments
    ]
    ones = [x.value if type(x) is Node else x for x in ones]
    try:
        with np.errstate(all="ignore"):
            inside = record(KNOWN[node.function].call, *ones, **node.kwargs)  # type: ignore[index]
        return sum(map(flops, inside))
    except TracingError:
        return node.size


def new_bytes(node: Node) -> int:
    """Bytes of the result; 0 for a view of an argument, which needs none."""
    return 0 if node.is_view else node.nbytes
