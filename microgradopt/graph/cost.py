"""What a computation costs: floating-point operations, and bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import Node
from microgradopt.graph.text import takes_values
from microgradopt.rules.registry import KNOWN, is_composite, name_of

# Sums over axes, and what else visits each element of its argument once.
_VISITS = {
    "sum", "mean", "max", "amax", "min", "amin", "prod", "cumsum", "reduce", "accumulate", "variance", "deviation",
}  # fmt: skip


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
    if node.function is None or node.dtype is type(None):
        return 0
    if is_composite(node.function) and node.operation not in _VISITS and takes_values(node):
        return _flops_inside(node)
    return _of_call(node.function, [x.shape for x in node.inputs], node.shape)


def _of_call(function: Any, operands: list[tuple[int, ...]], shape: tuple[int, ...]) -> int:
    """Those of a call of NumPy's, by the shapes of its operands and of its result."""
    size = math.prod(shape)
    if getattr(function, "__name__", "") in _VISITS:
        return max(map(math.prod, operands), default=0)
    if function is np.matmul:
        return 2 * size * operands[0][-1]
    return size if isinstance(function, np.ufunc) else 0


class _Counting(np.ndarray[Any, Any]):
    """An array that counts the operations it takes part in, into the list `counts`, and so do the results."""

    counts: list[int]

    def __array_finalize__(self, x: Any) -> None:
        self.counts = getattr(x, "counts", [])

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self._called(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if is_composite(function) and name_of(function) not in _VISITS:
            return KNOWN[function].call(*args, **kwargs)
        return self._called(function, args, kwargs)

    def _called(self, function: Any, args: Any, kwargs: Any) -> Any:
        out = function(*tree.mapped(_plain, args), **tree.mapped(_plain, kwargs))
        operands = [x.shape for x in tree.leaves(args) if isinstance(x, np.ndarray)]
        self.counts.append(_of_call(function, operands, np.shape(out[0] if isinstance(out, tuple) else out)))
        return tree.mapped(lambda x: _counting(x, self.counts), out)


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if type(x) is _Counting else x


def _counting(x: Any, counts: list[int]) -> Any:
    """An array that counts in place of an array or a number of NumPy's."""
    if not isinstance(x, np.ndarray | np.generic):
        return x
    array = np.asarray(x).view(_Counting)
    array.counts = counts
    return array


def _flops_inside(node: Node) -> int:
    """Those of a composite: of all that its body does, on ones in place of its values: shapes are all that counts."""
    counts: list[int] = []

    def ones(x: Any) -> Any:
        if type(x) is not Node:
            return x
        is_floating = isinstance(x.dtype, np.dtype) and x.dtype.kind == "f"
        return _counting(np.ones(x.shape, x.dtype), counts) if is_floating else x.value

    with np.errstate(all="ignore"):
        KNOWN[node.function].call(*tree.mapped(ones, node.arguments), **node.kwargs)  # type: ignore[index]
    return sum(counts)


def new_bytes(node: Node) -> int:
    """Bytes of the result; 0 for a view of an argument, which needs none."""
    return 0 if node.is_view else node.nbytes
