"""The text of a native loop: Python that Numba makes machine code of."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from microgradopt.graph.graph import CONSTANT, Node, nodes_in
from microgradopt.graph.text import ATOM, NUMPY, Text
from microgradopt.program.loop import Body, split
from microgradopt.program.native.calls import (
    FUNCTIONS,
    NUMBERS,
    REDUCTIONS,
    TRANSPOSED,
    NotNativeError,
    cast,
    dtype_of_numbers,
    extreme,
    is_view,
    number,
    of_elements,
    places,
)
from microgradopt.program.native.plan import Nest, Plan
from microgradopt.program.tidy import is_write
from microgradopt.program.writer import Writer
from microgradopt.rules.registry import name_of

_INLINED = 16  # matrix products, at most, that are inlined: quicker for small ones, and slow to be compiled
_LARGE = 2**24  # multiplications of a matrix product, from which on BLAS is quicker


class _Named(Writer):
    """Names that the text of a native loop has no other use for."""

    reserved = frozenset({"n", "i", "j", "done", "loop", "math", "njit", *(f"i{d}" for d in range(9)), *FUNCTIONS})


class NativeText:
    """The text of a native loop, from its plan. each: the nodes that are given anew in each round."""

    def __init__(self, body: Body, each: list[Node]) -> None:
        self.body, self._each = body, each
        before, in_round = split(body, each)
        plans = [Plan(body, before), Plan(body, in_round)]
        self._before = set(before)
        self._inline = {node for plan in plans for node in plan.inline}
        self.names = _Named(body.nodes, [*body.results, *nodes_in(body.ends)], body.checks).names
        self.constants = {self.names[x]: x.value for x in body.nodes if x.role == CONSTANT and x.shape}
        self._products = sum(node.function is np.matmul for node in body.nodes)
        self.prologue: list[str] = []
        self.head: list[str] = []
        self._within: dict[Node, str] = {}
        self._joined()
        self.before, self.round = (self._lines(plan) for plan in plans)
        self.views()

    def _lines(self, plan: Plan) -> list[str]:
        self.plan = plan
        return [line for part in plan.parts for line in self._part(part)]

    # Memory

    def _joined(self) -> None:
        """What is only joined afterwards is computed where it will be: not where that changes from round to round."""
        carried = set(nodes_in(list(self.body.carried.values())))
        for node in self.body.nodes:
            if node.function is not np.concatenate or len(node.shape) != 1:
                continue
            for place, _, source in self._pieces(node):
                if self._has_memory(source) and carried.isdisjoint((node, source)):
                    shaped = place if len(source.shape) == 1 else f"{place}.reshape({source.shape})"
                    self._within.setdefault(source, shaped)
            self._allocate(node)

    def _pieces(self, node: Node) -> Iterator[tuple[str, Node, Node]]:
        """Of each array that is joined to others: its place there, itself, and what it is another shape of."""
        start = 0
        for part in node.arguments[0]:
            source = part
            while source.function in (np.ravel, np.reshape) and source.is_view:
                source = source.arguments[0]
            yield f"{self.names[node]}[{start}:{start + part.shape[0]}]", part, source
            start += part.shape[0]

    def _has_memory(self, node: Node) -> bool:
        """Whether the loop makes an array for it."""
        if not node.shape or node.function is None or node in self._inline or is_write(node):
            return False
        return of_elements(node) or node.function in (np.matmul, *REDUCTIONS)

    def _allocate(self, node: Node) -> None:
        dtype = "" if node.dtype == np.float64 else f", np.{np.dtype(node.dtype).name.replace('bool', 'bool_')}"
        line = f"{self.names[node]} = {self._within.get(node) or f'np.empty({node.shape}{dtype})'}"
        if line not in self.prologue:
            self.prologue.append(line)

    def views(self) -> None:
        """Other shapes of arrays: made once, where the array is always the same."""
        moving = {*self._each, *self.body.carried, *nodes_in(list(self.body.carried.values()))}
        for node in self.body.nodes:
            if is_view(node):
                source = node.arguments[0]
                if source in moving:
                    moving.add(node)
                text = NUMPY.expression(node, lambda x: Text(self.names[x])).text
                (self.head if node in moving else self.prologue).append(f"{self.names[node]} = {text}")

    # Parts

    def _part(self, part: Any) -> list[str]:
        if isinstance(part, Nest):
            return self._nest(part)
        if isinstance(part, list):
            return [f"{self.names[node]} = {self._text(node, [])}" for node in part]
        if isinstance(part, tuple):
            node, value = part
            wanted = "" if value is True or value is np.True_ else f" == {NUMPY.literal(value).text}"
            ended = "n = 0" if node in self._before else "break"
            return [f"if not ({self.names[node]}{wanted}): {ended}"]
        return self._single(part)

    def _nest(self, nest: Nest) -> list[str]:
        index = [f"i{d}" for d in range(len(nest.shape))]
        before: list[list[str]] = [[] for _ in range(len(index) + 1)]
        after: list[list[str]] = [[] for _ in range(len(index) + 1)]
        inner: list[str] = []
        for node in nest.nodes:
            if node.function in REDUCTIONS:
                depth, begin, each, end = self._reduction(node, index, nest)
                before[depth].append(begin)
                inner.append(each)
                after[depth] += end
                continue
            name = self.names[node]
            inner.append(f"{name}__ = {cast(node, self._text(node, index, nest))}")
            if self.plan.is_in_memory(node):
                self._allocate(node)
                inner.append(f"{name}[{', '.join(index)}] = {name}__")
        lines = ["    " * len(index) + line for line in inner]
        for d in reversed(range(len(index) + 1)):
            lines = ["    " * d + line for line in before[d]] + lines + ["    " * d + line for line in after[d]]
            lines = [f"{'    ' * (d - 1)}for i{d - 1} in range({nest.shape[d - 1]}):", *lines] if d else lines
        return lines

    def _reduction(self, node: Node, index: list[str], nest: Nest) -> tuple[int, str, str, list[str]]:
        """Inside of how many loops it begins and ends, and its lines: what begins it, each element, what ends it."""
        name, (first, step) = self.names[node], REDUCTIONS[node.function]
        first = extreme(first, node.dtype) if first in ("lowest", "highest") else first
        of = node.arguments[:2] if node.function is np.vdot else node.arguments[:1]
        elements = [self._element(x, index, nest.shape, nest, node.dtype) for x in of]
        axes, keeps = self._axes(node, nest), node.kwargs.get("keepdims")
        count = int(np.prod([nest.shape[a] for a in axes]))
        mean = f" / {count}" if node.function is np.mean else ""
        depth = len(index) - len(axes)
        is_last = axes == [*range(depth, len(index))]  # then a number is enough, that goes to memory at the end
        if node.shape:
            self._allocate(node)
        kept = ["0" if d in axes else i for d, i in enumerate(index) if keeps or d not in axes]
        place = f"{name}[{', '.join(kept)}]" if node.shape else name
        if is_last:
            total = f"{name}__total"
            return (
                depth,
                f"{total} = {cast(node, first)}",
                f"{total} = {step.format(total, *elements)}",
                [f"{place} = {total}{mean}"],
            )
        end = [f"{name} /= {count}"] if mean else []
        return 0, f"{name}[...] = {first}", f"{place} = {step.format(place, *elements)}", end

    def _axes(self, node: Node, nest: Nest) -> list[int]:
        if not node.kwargs.keys() <= {"axis", "keepdims"}:
            raise NotNativeError(f"{name_of(node.function)} with {', '.join(node.kwargs)}")  # type: ignore[arg-type]
        axis = None if node.function is np.vdot else (*node.arguments[1:2], node.kwargs.get("axis"))[0]
        n = len(nest.shape)
        return list(range(n)) if axis is None else sorted(a % n for a in np.atleast_1d(axis).tolist())

    def _single(self, node: Node) -> list[str]:
        function, name = node.function, self.names[node]
        if is_write(node):
            return self._write(node)
        if not node.shape and (of_elements(node) or function is operator.getitem):
            return [f"{name} = {self._text(node, [])}"]
        if not node.shape and function in REDUCTIONS:
            return [f"{name} = {self._element(node.arguments[0], [], (), None, node.dtype)}"]
        if function in (np.ravel, np.reshape) or (function is operator.getitem and not node.arguments[0].shape):
            return [f"{name} = {self._reshaped(node)}"]
        self._allocate(node)
        if self.plan.is_flat(node):
            (x,) = node.inputs
            each = NUMBERS.expression(node, lambda x: Text(f"{self._name(x)}__row[i]")).text
            rows = [f"{other}__row = {other}.ravel()" for other in (name, self._name(x))]
            return [*rows, f"for i in range({node.size}):", f"    {name}__row[i] = {cast(node, each)}"]
        if function is np.matmul:
            return self._product(node)
        if function is np.concatenate and node.kwargs.get("axis", 0) in (0, -len(node.shape)):
            pieces = self._pieces(node)  # those that are not there yet are copied
            return [f"{at} = {self._name(x)}" for at, x, of in pieces if not self._within.get(of, "").startswith(at)]
        if function is np.zeros_like:
            return [f"{name}[...] = 0"]
        raise NotNativeError(name_of(function))  # type: ignore[arg-type]

    def _reshaped(self, node: Node) -> str:
        """A copy in another shape; of a number, an array of it, and the other way round."""
        source = node.arguments[0]
        if not source.shape:
            return f"np.full({node.shape}, {self._name(source)})" if node.shape else self._name(source)
        copy = f"np.ascontiguousarray({self._name(source)})"
        return f"{copy}.reshape({node.shape})" if node.shape else f"{copy}.ravel()[0]"

    def _product(self, node: Node) -> list[str]:
        """C = A B: by the products of math.py; by BLAS where the matrices are too large for the cache."""
        A, B = node.arguments
        a, b, c = self._name(A), self._name(B), self.names[node]
        m, k, n = math.prod(A.shape[-2:-1]), A.shape[-1], math.prod(B.shape[1:][-1:])
        sizes, apart = f"{m}, {k}, {n}", "" if self._products <= _INLINED else "_apart"
        if len(A.shape) == len(B.shape) == 3 and A.shape[0] == B.shape[0]:
            return [f"for i in range({A.shape[0]}):", f"    multiply{apart}({a}[i], {b}[i], {c}[i], {sizes})"]
        if len(A.shape) > 2 or len(B.shape) > 2 or len(A.shape) + len(B.shape) < 3:
            raise NotNativeError(f"matmul of shapes {A.shape} and {B.shape}")
        if len(B.shape) == 1:
            return [f"multiply_transposed{apart}({a}, {b}.reshape((1, -1)), {c}.reshape((-1, 1)), {sizes})"]
        if len(A.shape) == 1:
            return [f"multiply{apart}({a}.reshape((1, -1)), {b}, {c}.reshape((1, -1)), {sizes})"]
        if m * k * n > _LARGE:
            return [f"np.dot({a}, {b}, {c})"]
        if B.function in TRANSPOSED and A.function not in TRANSPOSED and B.arguments[0].shape == B.shape[::-1]:
            return [f"multiply_transposed{apart}({a}, {self._name(B.arguments[0])}, {c}, {sizes})"]
        return [f"multiply{apart}({a}, {b}, {c}, {sizes})"]

    def _write(self, node: Node) -> list[str]:
        """Elements put, or added, to places of an array."""
        array, _, value = node.arguments
        parts = places(node)
        if node.function not in (operator.setitem, np.add.at):
            raise NotNativeError("a write by a ufunc other than add.at")
        sign = "=" if node.function is operator.setitem else "+="
        if all(type(x) is Node and len(x.shape) <= 1 and x.dtype.kind in "iu" for x in parts):
            shape = np.broadcast_shapes(*(x.shape for x in parts))
            if len(shape) == 1 and len(array.shape) == len(parts):
                at = ", ".join(self._element(x, ["j"], shape, None, None) for x in parts)
                put = self._element(value, ["j"], shape, None, node.dtype)
                return [f"for j in range({shape[0]}):", f"    {self.names[node]}[{at}] {sign} {put}"]
        if sign == "=" and all(x is ... or isinstance(x, slice | int) for x in parts):
            text = NUMPY.expression(node, lambda x: Text(self._name(x))).text
            return [text]
        raise NotNativeError("a write to these places")

    # Elements

    def _name(self, x: Any) -> str:
        """An array in memory, or a number."""
        if type(x) is not Node:
            return number(x, None)
        return self.names[x] if x.shape or x.role != CONSTANT else number(x.value, None)

    def _element(self, x: Any, index: list[str], shape: tuple[int, ...], nest: Nest | None, dtype: Any) -> str:
        """One element of an operand, at the place of the result, which has this shape, that the index says."""
        if type(x) is not Node or (x.role == CONSTANT and not x.shape):
            return number(x.value if type(x) is Node else x, dtype)
        if not x.shape:
            return self.names[x]
        skipped = len(shape) - len(x.shape)
        own = [
            "0" if n == 1 and m != 1 else i for i, n, m in zip(index[skipped:], x.shape, shape[skipped:], strict=True)
        ]
        if x in self.plan.inline:
            return self._text(x, own, nest)
        if nest is not None and x in nest.nodes and own == [f"i{d}" for d in range(len(nest.shape))]:
            return f"{self.names[x]}__"
        return f"{self.names[x]}[{', '.join(own)}]"

    def _text(self, node: Node, index: list[str], nest: Nest | None = None) -> str:
        """One element of a result."""
        if node.function is operator.getitem:
            return self._selected(node, index, nest)
        dtype = dtype_of_numbers(node)
        return NUMBERS.expression(node, lambda x: Text(self._element(x, index, node.shape, nest, dtype))).within(ATOM)

    def _selected(self, node: Node, index: list[str], nest: Nest | None) -> str:
        """An element from places that stand in arrays, or from one place."""
        array, parts = node.arguments[0], places(node)
        arrays = [x for x in parts if type(x) is Node and x.shape]
        if not all((type(x) is Node and x.dtype.kind in "iu") or isinstance(x, int | np.integer) for x in parts):
            raise NotNativeError("an index of arrays beside slices, or of booleans")
        shape = np.broadcast_shapes(*(x.shape for x in arrays)) if arrays else ()
        own, rest = index[: len(shape)], index[len(shape) :]
        at = [self._element(x, own, shape, nest, None) for x in parts]
        return f"{self._name(array)}[{', '.join([*at, *rest])}]"
