"""Graph: a computation as a plain value, for its readers to read.

A node is one call of a NumPy function, or a value that was given. Its arguments are the call's, with nodes in place of
the values that were computed; so the edges are in the arguments already, in order.
"""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt import tree
from microgradopt.graph.modules import Frame
from microgradopt.notebook import paragraph, shown
from microgradopt.rules.registry import KNOWN, name_of

INPUT, PARAMETER, CONSTANT = "input", "parameter", "constant"
FORWARD, BACKWARD, DOUBLE_BACKWARD = "forward", "backward", "double backward"


# What operators on NumPy's values are; on Python's own numbers they stay operators. ``**`` is not np.power: NumPy
# computes x**2 as a square.
UFUNCS: dict[Callable[..., Any], np.ufunc] = {
    operator.add: np.add, operator.sub: np.subtract, operator.mul: np.multiply, operator.truediv: np.divide,
    operator.floordiv: np.floor_divide, operator.mod: np.remainder, operator.matmul: np.matmul,
    operator.neg: np.negative, operator.pos: np.positive, operator.abs: np.absolute,
    operator.lt: np.less, operator.le: np.less_equal, operator.gt: np.greater, operator.ge: np.greater_equal,
    operator.eq: np.equal, operator.ne: np.not_equal,
    operator.and_: np.bitwise_and, operator.or_: np.bitwise_or, operator.xor: np.bitwise_xor,
    operator.invert: np.invert, operator.lshift: np.left_shift, operator.rshift: np.right_shift,
}  # fmt: skip


SWEEPS = {FORWARD: 0, BACKWARD: 1, DOUBLE_BACKWARD: 2}  # inside of how many reverse sweeps a call was made


def role_at(sweeps: int) -> str:
    """The role of what was computed inside of so many reverse sweeps."""
    return tuple(SWEEPS)[min(sweeps, 2)]


class Node:
    """One value, and the call that made it.

    name: unique in its graph. function: the NumPy function; None for a value that was given. arguments, kwargs: those
    of the call, nodes in place of computed values, also inside lists and tuples. value: an array, or a number; None
    where the function has several results, and where it was not kept. shape, dtype: the value's; of a Python number
    its type; of several results NoneType. role: input, parameter, constant, forward, backward or double backward.
    gradient: the derivative of the output by this value, or None: not computed. frames: the calls of modules that it
    was made in, the outermost first; module: the dotted name of the innermost, "" outside of any. is_view: whether the
    value shares the memory of an input. derivative_of: in a backward pass, what the value is the derivative by.
    computed_from: of a constant that a module has computed, without a gradient, from values that it was given.
    error: of a call that has failed, the reason in words; it may have no value.

    Where the node is a call in a traced program, it may also be known of it: `whole`, the composite function that this
    call is the last of; `of_tensor`, whether it depends on the value of a Tensor. Of large values, a traced program
    keeps shape and dtype alone.

    >>> import microgradopt as mg
    >>> x = mg.Tensor(2.0, requires_grad=True)
    >>> node = mg.trace(np.exp(x), names={"x": x}).nodes[1]
    >>> node.name, node.role
    ('exp1', 'forward')
    """

    __slots__ = (
        "arguments", "computed_from", "derivative_of", "dtype", "error", "frames", "function", "gradient", "is_view",
        "kwargs", "name", "of_tensor", "role", "shape", "strides", "value", "whole",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any] | None,
        arguments: tuple[Any, ...],
        kwargs: dict[str, Any],
        value: Any,
        role: str,
        name: str = "",
        gradient: npt.NDArray[Any] | None = None,
        frames: tuple[Frame, ...] = (),
    ) -> None:
        self.function, self.arguments, self.kwargs = function, arguments, kwargs
        self.value, self.role, self.name, self.gradient, self.frames = value, role, name, gradient, frames
        self.whole: Callable[..., Any] | None = None
        self.derivative_of: Node | None = None
        self.computed_from: tuple[Node, ...] = ()
        self.of_tensor = False
        self.error = ""
        self.shape: tuple[Any, ...] = getattr(value, "shape", ())
        self.dtype: Any = getattr(value, "dtype", type(value))
        self.strides = getattr(value, "strides", ())
        self.is_view = any(overlap(value, x.value) for x in self.inputs)

    @property
    def module(self) -> str:
        """The dotted name of the module that the call was made in; "" outside of any."""
        return self.frames[-1].path if self.frames else ""

    @property
    def size(self) -> int:
        """The number of elements of the value."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The memory that the value takes; 0 for a number."""
        return self.size * self.dtype.itemsize if self.shape else 0

    @property
    def inputs(self) -> list[Node]:
        """The nodes among the arguments, in order; one that stands in two places, twice."""
        return [node for _, _, node in self.operands()]

    def operands(self) -> Iterator[tuple[int, int | None, Node]]:
        """Position of the argument, position inside of it if it is a list or tuple, and the node there."""
        for slot, argument in enumerate(self.arguments):
            if type(argument) is Node:
                yield slot, None, argument
            else:
                for part, node in enumerate(nodes_in(argument)):
                    yield slot, part, node

    def is_operand(self, slot: int) -> bool:
        """Whether the argument in this position is computed with, rather than saying how."""
        return next(nodes_in(self.arguments[slot]), None) is not None

    @property
    def operation(self) -> str:
        """The name of the function; "" for a value that was given."""
        return "" if self.function is None else name_of(self.function)

    def argument_name(self, slot: int) -> str:
        """What the function calls its argument in this position."""
        known = KNOWN.get(self.function)  # type: ignore[arg-type]
        names = () if known is None else known.arguments.names
        return names[slot] if slot < len(names) else str(slot)

    def __repr__(self) -> str:
        made = f" = {self.operation}({', '.join(node.name for node in self.inputs)})" if self.function else ""
        return f"Node({self.name}{made}: {self.role}, shape {self.shape}, {self.dtype})"


def nodes_in(argument: Any) -> Iterator[Node]:
    """The nodes in an argument: itself, or inside lists, tuples and slices; or in a structure of results."""
    return (leaf for leaf in tree.leaves(argument) if type(leaf) is Node)


class Edge(NamedTuple):
    """From one node to the argument of another. part: the position inside that argument, if it is a list."""

    source: Node
    target: Node
    slot: int
    part: int | None

    def name(self, number: Mapping[Node, int]) -> str:
        """Its id in pictures, by the numbers of nodes: "e0-2-1"; "e0-2-1-0" where it leads to element 0 of a list."""
        part = "" if self.part is None else f"-{self.part}"
        return f"e{number[self.source]}-{number[self.target]}-{self.slot}{part}"


class Graph:
    """Nodes in creation order, oldest first, and those among them that are the outputs.

    remarks: lines that a picture shows below it.

    >>> import microgradopt as mg
    >>> x = mg.Tensor(2.0, requires_grad=True)
    >>> graph = mg.trace(x * x, names={"x": x})
    >>> len(graph.nodes), graph["x"].value
    (2, np.float64(2.0))
    """

    def __init__(self, nodes: list[Node], outputs: list[Node]) -> None:
        self.nodes, self.outputs = nodes, outputs
        self.remarks: list[str] = []

    @property
    def edges(self) -> list[Edge]:
        """All edges, by target and then by argument. ``a + a`` has two."""
        return [Edge(source, node, slot, part) for node in self.nodes for slot, part, source in node.operands()]

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        """The node of that name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no node is called {name!r}")

    def __repr__(self) -> str:
        roles = [f"{count} {role}" for role, count in self.roles().items()]
        return f"Graph({len(self)} nodes: {', '.join(roles)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the drawing; where there is nothing to draw with, the reason and the repr."""
        try:
            from microgradopt.picture.drawing import draw  # on use: it reads graphs, and needs the package graphviz

            svg = draw(self).pipe(encoding="utf-8")
        except (ImportError, RuntimeError, OSError) as error:
            return shown(paragraph(str(error)), paragraph(repr(self)))
        return shown(svg[svg.index("<svg") :])  # without the declarations of an XML file

    def roles(self) -> dict[str, int]:
        """How many nodes have each role."""
        return dict(Counter(node.role for node in self.nodes))


def named(nodes: list[Node]) -> None:
    """Give every node without a name a short one: what made it, and a number where several did. "d_x", of a derivative.

    The derivative of a derivative is "dd_x".
    """
    taken = {node.name for node in nodes if node.name}
    counts: dict[str, int] = {}
    for node in nodes:
        if not node.name:
            name = derivative_name(node)
            node.name = name if name and name not in taken else fresh(base_name(node), taken, counts)
            taken.add(node.name)


def derivative_name(node: Node) -> str:
    """The name of the derivative by a node with a name; "" of what is none."""
    if node.derivative_of is None or not node.derivative_of.name:
        return ""
    return f"{'dd' if node.role == DOUBLE_BACKWARD else 'd'}_{node.derivative_of.name}"


def base_name(node: Node) -> str:
    """The name of a node that has no better one, but for the number: its function, or a letter for its role."""
    return derivative_name(node) or node.operation.removeprefix("linalg.").strip("_") or node.role[0]


def has_own_name(node: Node) -> bool:
    """Whether the name says more than what the node is, and a number."""
    return re.fullmatch(rf"{re.escape(base_name(node))}_?\d*", node.name) is None or node.derivative_of is not None


def fresh(base: str, taken: set[str], counts: dict[str, int]) -> str:
    """`base` with the next number that makes it unique; it is then taken."""
    while True:
        counts[base] = counts.get(base, 0) + 1
        name = f"{base}{'_' * base[-1:].isdigit()}{counts[base]}"  # w_0 and a number is not w_01
        if name not in taken:
            taken.add(name)
            return name


def overlap(a: Any, b: Any) -> bool:
    """Whether two values are arrays that may share memory."""
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.may_share_memory(a, b)


def finite(value: Any) -> bool:
    """Whether a value is finite throughout; what has several parts or is no number, counts as finite."""
    return bool(np.isfinite(value).all()) if isinstance(value, np.ndarray | np.generic | float) else True
