"""Native loops: a program's loop, written out for Numba, and made into machine code.

NumPy computes call by call, and each result goes through memory. Here elementwise calls on arrays of one shape are one
nest of loops, with the sums over it inside; matrix products that stay in the cache are written out, large ones go to
BLAS; every result has its place in memory before the first round. Sums go in another order than NumPy's, and exp and tanh are those of
program/native_math.py: results are the same to rounding.

First each node gets a place in the order of a round (`_Plan`), then the text is written (`_Writer`).
"""

from __future__ import annotations

import functools
import importlib.util
import math
import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from microgradopt.graph.graph import CONSTANT, Node, nodes_in
from microgradopt.graph.text import NUMPY, Text, expression
from microgradopt.nn.functional import normal_cdf
from microgradopt.program.loop import Body, Given, Loop, body_of
from microgradopt.program.program import Program
from microgradopt.program.tidy import is_write
from microgradopt.program.tracer import TracingError
from microgradopt.program.writer import Writer
from microgradopt.rules.outputs import astype, view
from microgradopt.rules.registry import name_of

_ROUNDS = 8  # that are compared with NumPy's
_NEAR = 1e6  # units of rounding: sums in another order
_LARGE = 2**24  # multiplications of a matrix product, from which on BLAS is quicker


class NotNativeError(TracingError):
    """A call has no native form."""


# What calls are -------------------------------------------------------------------------------------------------------

_SAME = (np.copy, np.broadcast_to)  # elements are those of the first argument
_REDUCTIONS: dict[Any, tuple[str, str]] = {  # what it begins with, and what each element does
    np.sum: ("0", "{} + {}"), np.mean: ("0", "{} + {}"), np.prod: ("1", "{} * {}"),
    np.max: ("lowest", "maximum({}, {})"), np.min: ("highest", "minimum({}, {})"),
    np.all: ("True", "{} & ({} != 0)"), np.any: ("False", "{} | ({} != 0)"), np.vdot: ("0", "{} + {} * {}"),
}  # fmt: skip
_VIEWS = (np.reshape, np.ravel, np.transpose, np.matrix_transpose, np.swapaxes, np.expand_dims, operator.getitem)
_TRANSPOSED = (np.transpose, np.matrix_transpose, np.swapaxes)
_COSTLY = (np.exp, np.tanh, np.log)  # worth a loop of their own, where the last axis is too short for vectors
_SHORT = 16
_NAMED: dict[Any, str] = {  # functions of numbers, where they are not called as NumPy's are
    np.exp: "exp", np.tanh: "tanh", np.square: "square", np.maximum: "maximum", np.minimum: "minimum",
    np.where: "where", np.isfinite: "isfinite", np.sign: "sign", np.absolute: "abs", np.sqrt: "math.sqrt",
    normal_cdf: "normal_cdf",
}  # fmt: skip
_FUNCTIONS = {"multiply", "multiply_transposed", *(name for name in _NAMED.values() if name.isidentifier())}


def _is_elementwise(node: Node) -> bool:
    """Whether each element of the result comes from one element of each operand."""
    function = node.function
    if function in (np.where, np.clip, astype, normal_cdf, *_SAME):
        return True
    if function is view:
        return node.dtype.kind in "iu" and node.inputs[0].dtype.kind in "iu"
    if isinstance(function, np.ufunc):
        return function.signature is None and function.nout == 1 and node.kwargs.keys() <= {"dtype"}
    is_operator = getattr(function, "__module__", "") == "_operator"
    return is_operator and not is_write(node) and function is not operator.getitem


def _is_gather(node: Node) -> bool:
    """Whether it takes elements from places that stand in arrays."""
    return node.function is operator.getitem and any(type(x) is Node for x in _places(node))


def _places(node: Node) -> tuple[Any, ...]:
    """The parts of an index."""
    index = node.arguments[1]
    return index if isinstance(index, tuple) else (index,)


def _of_elements(node: Node) -> bool:
    return _is_elementwise(node) or _is_gather(node)


def _operands(node: Node) -> list[Any]:
    """What elements are computed from."""
    return list(node.arguments[:1] if node.function in (astype, view, *_SAME) else node.arguments)


# The order of a round -------------------------------------------------------------------------------------------------


class _Nest:
    """Loops over all places of one shape, and the nodes whose elements are computed, or added up, in them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.nodes: list[Node] = []


class _Plan:
    """Where in a round everything is computed.

    parts: nests, single nodes, and checks (a node and its value), in order. The first is a list of numbers that depend
    on nothing else of the round. place: for each node the part after which it is there. inline: nodes that have no
    place in memory: their expression stands where an element is needed.
    """

    def __init__(self, body: Body) -> None:
        self.body = body
        self.readers: dict[Node, list[Node]] = {node: [] for node in body.nodes}
        for node in body.nodes:
            for x in _all_inputs(node):
                self.readers[x].append(node)
        self.wanted = {*body.results, *nodes_in(body.ends), *(node for node, _ in body.checks)}
        self.inline: set[Node] = set()
        self.parts: list[Any] = [[]]
        self.place: dict[Node, int] = {}
        self._leaves: dict[Node, set[Node]] = {}
        for node in body.nodes:
            self._put(node)
            self.parts += [check for check in body.checks if check[0] is node]
        self.users: dict[Node, set[Node]] = {node: set() for node in body.nodes}
        for node in body.nodes:
            if node not in self.inline:
                for x in self.leaves(node):
                    self.users[x].add(node)

    def leaves(self, node: Node) -> set[Node]:
        """What a node is computed from, with the operands of expressions in place of these."""
        if node not in self._leaves:
            found: set[Node] = set()
            for x in _all_inputs(node):
                found |= self.leaves(x) if x in self.inline else {x}
            self._leaves[node] = found
        return self._leaves[node]

    def _put(self, node: Node) -> None:
        after = max((self.place[x] for x in self.leaves(node)), default=0)
        if node.function is None:
            self.place[node] = 0
        elif self._is_inline(node):
            self.inline.add(node)
        elif node.function in _REDUCTIONS and node.arguments[0].shape:
            self._put_in_nest(node, node.arguments[0].shape)
        elif _of_elements(node) and node.shape and not self.is_flat(node):
            self._put_in_nest(node, node.shape)
        elif node.function in _VIEWS and node.shape:
            self.place[node] = self.place[node.arguments[0]]
        elif not node.shape and after == 0 and _is_elementwise(node):
            self.parts[0].append(node)
            self.place[node] = 0
        else:
            self.parts.append(node)
            self.place[node] = len(self.parts) - 1

    def is_flat(self, node: Node) -> bool:
        """Whether it has a loop of its own over all elements in a row."""
        is_short = len(node.shape) > 1 and node.shape[-1] < _SHORT <= node.size
        return node.function in _COSTLY and is_short and node.arguments[0].function not in _VIEWS

    def _is_inline(self, node: Node) -> bool:
        """One reader, that goes element by element and has as many: or nothing to compute."""
        readers = self.readers[node]
        if node in self.wanted or not node.shape or not _of_elements(node) or any(map(self.is_flat, [node, *readers])):
            return False
        if not all(_of_elements(reader) or reader.function in _REDUCTIONS for reader in readers):
            return False
        if any(_is_gather(reader) and reader.arguments[0] is node for reader in readers):
            return False
        if node.function in _SAME:
            return True
        reads = [x for reader in readers for x in _all_inputs(reader) if x is node]
        return len(reads) == 1 and (readers[0].size == node.size or readers[0].function in _REDUCTIONS)

    def _put_in_nest(self, node: Node, shape: tuple[int, ...]) -> None:
        """In the last nest of this shape before which all that is needed is there, or in which it is made."""
        for i in range(len(self.parts) - 1, 0, -1):
            nest = self.parts[i]
            if isinstance(nest, _Nest) and nest.shape == shape:
                if all(self.place[x] < i or self._is_element_of(x, nest, node) for x in self.leaves(node)):
                    nest.nodes.append(node)
                    self.place[node] = i
                    return
        nest = _Nest(shape)
        nest.nodes.append(node)
        self.parts.append(nest)
        self.place[node] = len(self.parts) - 1

    def _is_element_of(self, x: Node, nest: _Nest, node: Node) -> bool:
        """Whether x is computed in a nest, and read by the node only where it is just being computed."""
        if x not in nest.nodes or x.shape != nest.shape or x.function in _REDUCTIONS:
            return False
        return not self._is_gathered_from(x, node)

    def _is_gathered_from(self, x: Node, node: Node) -> bool:
        """Whether x is the array that elements are taken from, here or in an expression that is part of this."""
        if _is_gather(node) and node.arguments[0] is x:
            return True
        return any(self._is_gathered_from(x, y) for y in _all_inputs(node) if y in self.inline)

    def is_in_memory(self, node: Node) -> bool:
        """Whether elements are needed elsewhere than in the nest that computes them."""
        nest = self.parts[self.place[node]]
        return node in self.wanted or any(user not in nest.nodes or not self._is_element_of(node, nest, user) for user in self.users[node])


def _all_inputs(node: Node) -> list[Node]:
    return [*node.inputs, *nodes_in(list(node.kwargs.values()))]


# The text -------------------------------------------------------------------------------------------------------------


class _Named(Writer):
    """Names that the text of a native loop has no other use for."""

    reserved = frozenset({"n", "i", "j", "done", "loop", "math", "njit", *(f"i{d}" for d in range(9)), *_FUNCTIONS})


class _Writer:
    """The text of a native loop, from its plan. each: the nodes that are given anew in each round."""

    def __init__(self, body: Body, each: list[Node]) -> None:
        self.plan, self.body, self._each = _Plan(body), body, each
        self.names = _Named(body.nodes, [*body.results, *nodes_in(body.ends)], body.checks).names
        self.constants = {self.names[x]: x.value for x in body.nodes if x.role == CONSTANT and x.shape}
        self.prologue: list[str] = []
        self.head: list[str] = []
        self._within: dict[Node, str] = {}
        self._joined()
        self.round = [line for part in self.plan.parts for line in self._part(part)]
        self.views()

    # Memory

    def _joined(self) -> None:
        """What is only joined afterwards is computed where it will be."""
        for node in self.body.nodes:
            if node.function is not np.concatenate or len(node.shape) != 1:
                continue
            start = 0
            for part in node.arguments[0]:
                source = part
                while source.function in (np.ravel, np.reshape):
                    source = source.arguments[0]
                place = f"{self.names[node]}[{start}:{start + part.size}]"
                if self._has_memory(source) and source not in self.body.carried.values():
                    shaped = place if len(source.shape) == 1 else f"{place}.reshape({source.shape})"
                    self._within.setdefault(source, shaped)
                start += part.size
            self._allocate(node)

    def _has_memory(self, node: Node) -> bool:
        """Whether the loop makes an array for it."""
        if not node.shape or node.function is None or node in self.plan.inline or is_write(node):
            return False
        return _of_elements(node) or node.function in (np.matmul, *_REDUCTIONS)

    def _allocate(self, node: Node) -> None:
        dtype = "" if node.dtype == np.float64 else f", np.{np.dtype(node.dtype).name.replace('bool', 'bool_')}"
        line = f"{self.names[node]} = {self._within.get(node) or f'np.empty({node.shape}{dtype})'}"
        if line not in self.prologue:
            self.prologue.append(line)

    def views(self) -> None:
        """Other shapes of arrays: made once, where the array is always the same."""
        moving = {*self._each, *self.body.carried, *nodes_in(list(self.body.carried.values()))}
        for node in self.body.nodes:
            if node.function in _VIEWS and node.shape and not _is_gather(node):
                source = node.arguments[0]
                if source in moving:
                    moving.add(node)
                text = NUMPY.expression(node, lambda x: Text(self.names[x])).text
                (self.head if node in moving else self.prologue).append(f"{self.names[node]} = {text}")

    # Parts

    def _part(self, part: Any) -> list[str]:
        if isinstance(part, _Nest):
            return self._nest(part)
        if isinstance(part, list):
            return [self._number(node) for node in part]
        if isinstance(part, tuple):
            node, value = part
            wanted = "" if value is True or value is np.True_ else f" == {NUMPY.literal(value).text}"
            return [f"if not ({self.names[node]}{wanted}): break"]
        return self._single(part)

    def _number(self, node: Node) -> str:
        return f"{self.names[node]} = {self._text(node, [])}"

    def _nest(self, nest: _Nest) -> list[str]:
        index = [f"i{d}" for d in range(len(nest.shape))]
        before: list[list[str]] = [[] for _ in range(len(index) + 1)]
        after: list[list[str]] = [[] for _ in range(len(index) + 1)]
        inner: list[str] = []
        for node in nest.nodes:
            if node.function in _REDUCTIONS:
                depth, begin, each, end = self._reduction(node, index, nest)
                before[depth].append(begin)
                inner.append(each)
                after[depth] += end
                continue
            name = self.names[node]
            inner.append(f"{name}__ = {_cast(node, self._text(node, index, nest))}")
            if self.plan.is_in_memory(node):
                self._allocate(node)
                inner.append(f"{name}[{', '.join(index)}] = {name}__")
        lines = ["    " * len(index) + line for line in inner]
        for d in reversed(range(len(index) + 1)):
            lines = ["    " * d + line for line in before[d]] + lines + ["    " * d + line for line in after[d]]
            lines = [f"{'    ' * (d - 1)}for i{d - 1} in range({nest.shape[d - 1]}):", *lines] if d else lines
        return lines

    def _reduction(self, node: Node, index: list[str], nest: _Nest) -> tuple[int, str, str, list[str]]:
        """Inside of how many loops it begins and ends, and its lines: what begins it, each element, what ends it."""
        name, (first, step) = self.names[node], _REDUCTIONS[node.function]
        first = _extreme(first, node.dtype) if first in ("lowest", "highest") else first
        operands = node.arguments[:2] if node.function is np.vdot else node.arguments[:1]
        elements = [self._element(x, index, nest.shape, nest, node.dtype) for x in operands]
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
            return depth, f"{total} = {_cast(node, first)}", f"{total} = {step.format(total, *elements)}", [f"{place} = {total}{mean}"]
        end = [f"{name} /= {count}"] if mean else []
        return 0, f"{name}[...] = {first}", f"{place} = {step.format(place, *elements)}", end

    def _axes(self, node: Node, nest: _Nest) -> list[int]:
        if not node.kwargs.keys() <= {"axis", "keepdims"}:
            raise NotNativeError(f"{name_of(node.function)} with {', '.join(node.kwargs)}")  # type: ignore[arg-type]
        axis = None if node.function is np.vdot else (*node.arguments[1:2], node.kwargs.get("axis"))[0]
        n = len(nest.shape)
        return list(range(n)) if axis is None else sorted(a % n for a in np.atleast_1d(axis).tolist())

    def _single(self, node: Node) -> list[str]:
        function, name = node.function, self.names[node]
        if is_write(node):
            return self._write(node)
        if not node.shape and (_of_elements(node) or function is operator.getitem):
            return [f"{name} = {self._text(node, [])}"]
        if not node.shape and function in _REDUCTIONS:
            return [f"{name} = {self._element(node.arguments[0], [], (), None, node.dtype)}"]
        self._allocate(node)
        if self.plan.is_flat(node):
            (x,) = node.inputs
            each = self._call(node, [f"{self._name(x)}__row[i]"])
            rows = [f"{other}__row = {other}.ravel()" for other in (name, self._name(x))]
            return [*rows, f"for i in range({node.size}):", f"    {name}__row[i] = {_cast(node, each)}"]
        if function is np.matmul:
            return self._product(node)
        if function is np.concatenate and node.kwargs.get("axis", 0) in (0, -len(node.shape)):
            return self._concatenation(node)
        if function is np.zeros_like:
            return [f"{name}[...] = 0"]
        raise NotNativeError(name_of(function))  # type: ignore[arg-type]

    def _concatenation(self, node: Node) -> list[str]:
        """What is not there yet is copied."""
        lines, start = [], 0
        for part in node.arguments[0]:
            source = part
            while source.function in (np.ravel, np.reshape):
                source = source.arguments[0]
            end = start + part.shape[0]
            if not self._within.get(source, "").startswith(f"{self.names[node]}[{start}:{end}]"):
                lines.append(f"{self.names[node]}[{start}:{end}] = {self._name(part)}")
            start = end
        return lines

    def _product(self, node: Node) -> list[str]:
        """C = A B: by native_math's products; by BLAS where the matrices are too large for the cache."""
        A, B = node.arguments
        a, b, c = self._name(A), self._name(B), self.names[node]
        m, k, n = math.prod(A.shape[-2:-1]), A.shape[-1], math.prod(B.shape[1:][-1:])
        sizes = f"{m}, {k}, {n}"
        if len(A.shape) == len(B.shape) == 3 and A.shape[0] == B.shape[0]:
            return [f"for i in range({A.shape[0]}):", f"    multiply({a}[i], {b}[i], {c}[i], {sizes})"]
        if len(A.shape) > 2 or len(B.shape) > 2 or len(A.shape) + len(B.shape) < 3:
            raise NotNativeError(f"matmul of shapes {A.shape} and {B.shape}")
        if len(B.shape) == 1:
            return [f"multiply_transposed({a}, {b}.reshape((1, -1)), {c}.reshape((-1, 1)), {sizes})"]
        if len(A.shape) == 1:
            return [f"multiply({a}.reshape((1, -1)), {b}, {c}.reshape((1, -1)), {sizes})"]
        if m * k * n > _LARGE:
            return [f"np.dot({a}, {b}, {c})"]
        if B.function in _TRANSPOSED and A.function not in _TRANSPOSED and B.arguments[0].shape == B.shape[::-1]:
            return [f"multiply_transposed({a}, {self._name(B.arguments[0])}, {c}, {sizes})"]
        return [f"multiply({a}, {b}, {c}, {sizes})"]

    def _write(self, node: Node) -> list[str]:
        """Elements put, or added, to places of an array."""
        array, _, value = node.arguments
        places = _places(node)
        sign = "=" if node.function is operator.setitem else "+="
        if all(type(x) is Node and len(x.shape) <= 1 and x.dtype.kind in "iu" for x in places):
            shape = np.broadcast_shapes(*(x.shape for x in places))
            if len(shape) == 1 and len(array.shape) == len(places):
                at = ", ".join(self._element(x, ["j"], shape, None, None) for x in places)
                put = self._element(value, ["j"], shape, None, node.dtype)
                return [f"for j in range({shape[0]}):", f"    {self.names[node]}[{at}] {sign} {put}"]
        if sign == "=" and all(x is ... or isinstance(x, slice | int) for x in places):
            text = NUMPY.expression(node, lambda x: Text(self._name(x))).text
            return [text]
        raise NotNativeError("a write to these places")

    # Elements

    def _name(self, x: Any) -> str:
        """An array in memory, or a number."""
        if type(x) is not Node:
            return _literal(x, None)
        return self.names[x] if x.shape or x.role != CONSTANT else _literal(x.value, None)

    def _element(self, x: Any, index: list[str], shape: tuple[int, ...], nest: _Nest | None, dtype: Any) -> str:
        """One element of an operand, at the place of the result, which has this shape, that the index says."""
        if type(x) is not Node or (x.role == CONSTANT and not x.shape):
            return _literal(x.value if type(x) is Node else x, dtype)
        if not x.shape:
            return self.names[x]
        skipped = len(shape) - len(x.shape)
        own = ["0" if n == 1 and m != 1 else i for i, n, m in zip(index[skipped:], x.shape, shape[skipped:], strict=True)]
        if x in self.plan.inline:
            return self._text(x, own, nest)
        if nest is not None and x in nest.nodes and own == [f"i{d}" for d in range(len(nest.shape))]:
            return f"{self.names[x]}__"
        return f"{self.names[x]}[{', '.join(own)}]"

    def _text(self, node: Node, index: list[str], nest: _Nest | None = None) -> str:
        """One element of a result."""
        function = node.function
        if function is operator.getitem:
            return self._selected(node, index, nest)
        dtype = next((x.dtype for x in node.inputs if getattr(x.dtype, "kind", "") in "fu"), None)
        parts = [self._element(x, index, node.shape, nest, dtype) for x in _operands(node)]
        return self._call(node, parts)

    def _call(self, node: Node, parts: list[str]) -> str:
        """The call of a node, on one element of each operand."""
        function = node.function
        if function in _SAME:
            return parts[0]
        if function in (astype, view):
            return f"np.{node.dtype.name}({parts[0]})"
        if function is np.clip:
            return f"minimum(maximum({parts[0]}, {parts[1]}), {parts[2]})"
        if function in (np.power, operator.pow):
            return _power(*parts)
        if function in _NAMED:
            return f"{_NAMED[function]}({', '.join(parts)})"
        if function in _SIGNS:
            return self._signed(node, parts)
        if not isinstance(function, np.ufunc):
            raise NotNativeError(name_of(function))  # type: ignore[arg-type]
        return f"np.{function.__name__}({', '.join(parts)})"

    def _signed(self, node: Node, parts: list[str]) -> str:
        """Numbers with an operator between them, or a sign in front."""
        sign = _SIGNS[node.function]
        return f"({sign}{parts[0]})" if len(parts) == 1 else f"({parts[0]} {sign} {parts[1]})"

    def _selected(self, node: Node, index: list[str], nest: _Nest | None) -> str:
        """An element from places that stand in arrays, or from one place."""
        array, places = node.arguments[0], _places(node)
        arrays = [x for x in places if type(x) is Node and x.shape]
        if not all((type(x) is Node and x.dtype.kind in "iu") or isinstance(x, int | np.integer) for x in places):
            raise NotNativeError("an index of arrays beside slices, or of booleans")
        shape = np.broadcast_shapes(*(x.shape for x in arrays)) if arrays else ()
        own, rest = index[: len(shape)], index[len(shape) :]
        at = [self._element(x, own, shape, nest, None) for x in places]
        return f"{self._name(array)}[{', '.join([*at, *rest])}]"


_SIGNS = {
    function: sign
    for sign, functions in {
        "+": (np.add, operator.add, np.positive, operator.pos), "-": (np.subtract, operator.sub, np.negative, operator.neg),
        "*": (np.multiply, operator.mul), "/": (np.divide, operator.truediv), "//": (np.floor_divide, operator.floordiv),
        "%": (np.remainder, operator.mod), "<": (np.less, operator.lt), "<=": (np.less_equal, operator.le),
        ">": (np.greater, operator.gt), ">=": (np.greater_equal, operator.ge), "==": (np.equal, operator.eq),
        "!=": (np.not_equal, operator.ne), "&": (np.bitwise_and, operator.and_, np.logical_and),
        "|": (np.bitwise_or, operator.or_, np.logical_or), "^": (np.bitwise_xor, operator.xor),
        ">>": (np.right_shift,), "<<": (np.left_shift,), "not ": (np.logical_not, operator.not_),
        "~": (np.invert, operator.invert),
    }.items()
    for function in functions
}  # fmt: skip


def _extreme(which: str, dtype: Any) -> str:
    """The number that none of this dtype is below, or above."""
    if dtype.kind == "f":
        return "-np.inf" if which == "lowest" else "np.inf"
    limits = np.iinfo(dtype)
    return f"np.{dtype.name}({limits.min if which == 'lowest' else limits.max})"


def _power(base: str, exponent: str) -> str:
    """Squares and roots as such."""
    if exponent in ("2", "2.0"):
        return f"square({base})"
    return f"math.sqrt({base})" if exponent == "0.5" else f"({base}) ** ({exponent})"


def _literal(x: Any, dtype: Any) -> str:
    """A number; of float32 and unsigned integers as such, so that results are."""
    text = NUMPY.literal(x.item() if isinstance(x, np.generic) else x).text
    kind = getattr(dtype, "name", "float64")
    return text if kind == "float64" or isinstance(x, bool | np.bool_) else f"np.{kind}({text})"


def _cast(node: Node, text: str) -> str:
    """Rounded to the dtype of a result."""
    return f"np.{node.dtype.name}({text})" if getattr(node.dtype, "name", "") in ("float32", "float16") else text


# The loop -------------------------------------------------------------------------------------------------------------


class NativeLoop:
    """n calls of a program in a row, as machine code. k runs go one after the other, in as many threads as Numba has.

    text: the function, in Python. Raises NotNativeError for calls that have no native form.
    """

    def __init__(self, program: Program, given: Mapping[Node, Given], k: int = 0) -> None:
        self.k = k
        values = {node: _of_run(x.first, x.stacked, 0) for node, x in given.items()}
        self.body = body = body_of(program, values)
        self._each = [node for node, x in given.items() if x.each]
        self._others = [node for node, x in given.items() if not x.each]
        writer = _Writer(body, [body.given[node] for node in self._each])
        self._constants = list(writer.constants.values())
        self.text = self._written(writer)
        self._function = _made(self.text)

    def _written(self, writer: _Writer) -> str:
        body, names = self.body, writer.names
        carried = [(names[node], end) for node, end in body.carried.items()]
        swaps = [f"{name}, {names[end]} = {names[end]}, {name}" for name, end in carried if end.shape]
        moves = [f"{name} = {names[end]}" for name, end in carried if not end.shape]
        last = {id(end): names[node] for node, end in body.carried.items()}
        ends = [last.get(id(end)) or writer._name(end) for end in body.ends]
        arguments = [
            "n",
            *(f"{names[body.given[node]]}__each" for node in self._each),
            *(f"results{j}__" for j in range(len(body.results))),
            *(names[body.given[node]] for node in self._others),
            *writer.constants,
        ]
        numbers = [names[end] for end in body.ends if type(end) is Node and not end.shape and id(end) not in last]
        lines = [
            "@njit(cache=True, nogil=True, error_model='numpy', fastmath={'contract', 'reassoc'})",
            f"def loop({', '.join(arguments)}):",
            *(f"    {line}" for line in writer.prologue),
            *(f"    {name} = 0.0" for name in numbers),
            "    done = 0",
            "    for round_ in range(n):",
            *(f"        {names[body.given[node]]} = {names[body.given[node]]}__each[round_]" for node in self._each),
            *(f"        {line}" for line in [*writer.head, *writer.round]),
            *(f"        results{j}__[round_] = {writer._name(x)}" for j, x in enumerate(body.results)),
            *(f"        {line}" for line in [*swaps, *moves]),
            "        done += 1",
            f"    return done, ({', '.join(ends)}{',' if ends else ''})",
        ]
        return "\n".join(lines) + "\n"

    def __call__(
        self, n: int, given: Mapping[Node, Given], results: list[Any], alive: Any = True
    ) -> tuple[Any, list[Any]]:
        """See `Loop`. Of many runs `alive` says which go on, and is changed where one ends."""
        if not self.k:
            return self._run(n, given, results, None)
        import numba

        made: list[Any] = [None] * self.k
        going = np.flatnonzero(alive)

        def train(r: int) -> None:
            own = [np.empty((n, *x.shape[2:]), x.dtype) for x in results]
            made[r] = self._run(n, given, own, r)
            for whole, part in zip(results, own, strict=True):
                whole[:, r] = part

        with ThreadPoolExecutor(numba.get_num_threads()) as pool:
            list(pool.map(train, going))
        done = np.zeros(self.k, int)
        for r in going:
            done[r] = made[r][0]
        alive &= done == n
        nothing = next(ends for ends in made if ends is not None)[1]
        columns = zip(*(nothing if one is None else one[1] for one in made), strict=True)
        return done, [np.stack(column) for column in columns]

    def _run(self, n: int, given: Mapping[Node, Given], results: list[Any], r: int | None) -> tuple[int, list[Any]]:
        each = [_plain(_of_run(given[x].value, given[x].stacked, r, given[x].each), False) for x in self._each]
        others = [
            _plain(_of_run(given[x].value, given[x].stacked, r), self.body.given[x] in self.body.carried)
            for x in self._others
        ]
        done, ends = self._function(n, *each, *results, *others, *self._constants)
        return done, [np.array(end) if isinstance(end, np.ndarray) else end for end in ends]

    def is_of_each_run(self, j: int) -> bool:
        """Whether the j-th of all that is written has one value for each run."""
        return True


def _of_run(value: Any, stacked: bool, r: int | None, each: bool = False) -> Any:
    """What one of the runs gets."""
    if not stacked:
        return value
    return np.asarray(value)[:, r] if each else value[r]


def _plain(x: Any, is_written: bool) -> Any:
    """An array as machine code was made for: in C order, and its own where it is written over. Numbers as they are."""
    if isinstance(x, list):
        return np.array(x, float)
    if not isinstance(x, np.ndarray):
        return x
    if not x.ndim:
        return x[()]
    is_fit = x.flags.c_contiguous and x.flags.writeable and x.flags.aligned
    return x if is_fit and not is_written else np.array(x, order="C")


def native_loop(program: Program, given: Mapping[Node, Given], k: int = 0) -> Any:
    """A `NativeLoop`, its first rounds compared with NumPy's; where there is none, a `Loop`, and a warning why."""
    from numba.core.errors import NumbaError

    try:
        loop = NativeLoop(program, given, k)
        _compare(loop, program, given)
    except (NotNativeError, NumbaError) as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"{program.name}: no native loop, NumPy goes on: {reason}", RuntimeWarning, stacklevel=2)
        return Loop(program, given, k)
    return loop


def _compare(loop: NativeLoop, program: Program, given: Mapping[Node, Given]) -> None:
    """Raise NotNativeError unless some rounds give what NumPy gives, to rounding, each from the same state."""
    state = {node: Given(_of_run(x.value, x.stacked, 0, x.each), x.each) for node, x in given.items()}
    numpys = Loop(program, state)
    carried = {new: old for old, new in numpys.body.given.items()}
    rounds = min([_ROUNDS, *(len(x.value) for x in state.values() if x.each)])
    for t in range(rounds):
        one = {node: Given(x.value[t : t + 1], True) if x.each else x for node, x in state.items()}
        mine, theirs = ([np.empty((1, *x.shape), x.dtype) for x in loop.body.results] for _ in range(2))
        done, ends = loop._run(1, one, mine, None)
        is_done, expected = numpys(1, one, theirs)
        wrong = [f"{done} rounds for {is_done}"] if done != is_done else []
        pairs = [*zip(mine, theirs, strict=True), *(zip(ends, expected, strict=True) if done else ())]
        wrong += [f"{x!r:.60} for {y!r:.60}" for x, y in pairs if not _is_near(x, y)]
        if wrong:
            raise NotNativeError(f"the native loop gives {wrong[0]}")
        if not done:
            return
        last = dict(zip(map(id, numpys.body.ends), expected, strict=True))
        state |= {carried[node]: Given(last[id(end)]) for node, end in numpys.body.carried.items()}


def _is_near(x: Any, y: Any) -> bool:
    """Whether two results are the same to rounding, in units of the largest."""
    x, y = np.asarray(x), np.asarray(y)
    if y.dtype.kind != "f":
        return np.array_equal(x, y)
    finite = y[np.isfinite(y)]
    room = _NEAR * float(np.finfo(y.dtype).eps) * float(np.abs(finite).max(initial=0.0))
    return bool(np.allclose(x, y, rtol=0.0, atol=room, equal_nan=True))


# Machine code ---------------------------------------------------------------------------------------------------------


def _cache() -> Path:
    """The folder of texts and machine code: $MICROGRADOPT_CACHE, or microgradopt in the user's own cache."""
    own = os.environ.get("MICROGRADOPT_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "microgradopt"


@functools.cache
def _made(text: str) -> Callable[..., Any]:
    """The function that a text defines, for Numba. The text goes into a file, beside which Numba keeps machine code."""
    import numba

    from microgradopt.program import native_math

    mathematics = Path(native_math.__file__).read_bytes()
    functions = ", ".join(name for name in vars(native_math) if f"{name}(" in text and not name.startswith("_"))
    head = "import math\n\nimport numpy as np\nfrom numba import njit\n"
    head += f"from microgradopt.program.native_math import {functions}\n\n\n" if functions else "\n\n"
    digest = sha256(mathematics + numba.__version__.encode() + (head + text).encode()).hexdigest()[:32]
    path = _cache() / f"loop_{digest}.py"
    if not path.exists() or path.read_text() != head + text:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(head + text)
        fresh.replace(path)
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(specification)  # Numba finds it there
    specification.loader.exec_module(module)
    return module.loop
