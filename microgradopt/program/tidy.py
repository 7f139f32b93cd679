"""Tidying a program: what changes no bit of any result is left out.

Each rule stands beside the condition under which it holds. There are two sorts. The first gives a call simpler
arguments. The second finds an array that is there already and may stand in place of the call's result.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, Node, nodes_in
from microgradopt.rules.outputs import astype

Checks = list[tuple[Node, Any]]

_LARGEST = 10_000  # elements of constants that are compared with each other
_FOLDED = 1024  # bytes of a constant that is computed beforehand


def is_write(node: Node) -> bool:
    """Whether this call changes its first argument, which from then on is the value of this node."""
    return node.function is operator.setitem or getattr(node.function, "__name__", "") == "at"


def tidied(nodes: list[Node], outputs: Iterable[Node], checks: Checks) -> tuple[list[Node], dict[Node, Node]]:
    """The nodes that outputs and checks need, each once; and which node stands for each that was left out."""
    memory = Memory(nodes, outputs)
    before: dict[Any, Node] = {}
    same: dict[Node, Any] = {}
    for node in nodes:
        _exchange(node, same)
        for simplify in SIMPLER:
            simplify(node)
        kept = next((x for rule in STAND_INS if (x := rule(node)) and memory.may_stand(x, node)), None)
        kept = kept or _folded(node, memory)
        known = kept or node
        if not memory.is_written(known) and (key := _identity(known)) is not None:
            first = before.setdefault(key, known)
            kept = first if first is not node and memory.may_stand(first, node) else kept
        if kept is not None:
            same[node] = kept
            if kept.role == node.role:
                kept.whole, kept.derivative_of = kept.whole or node.whole, kept.derivative_of or node.derivative_of
    for node in nodes:
        node.derivative_of = same.get(node.derivative_of, node.derivative_of)  # type: ignore[arg-type]
    wanted = [same.get(node, node) for node in [*memory.outputs, *(node for node, _ in checks)]]
    placed = dict.fromkeys(same.get(node, node) for node in nodes)  # a folded constant stands where its call stood
    return needed(list(placed), wanted), same


def needed(nodes: list[Node], wanted: Iterable[Node]) -> list[Node]:
    """Those of the nodes, oldest first, that lead to what is wanted."""
    found = set(wanted)
    for node in reversed(nodes):
        if node in found:
            found.update(read_by(node))
    return [node for node in nodes if node in found]


def read_by(node: Node) -> list[Node]:
    """The nodes among the arguments, those by keyword too."""
    return list(nodes_in((node.arguments, node.kwargs)))


def _exchange(node: Node, same: dict[Node, Any]) -> None:
    """Read the nodes that stand for those among the arguments."""

    def exchanged(x: Any) -> Any:
        return same.get(x, x) if type(x) is Node else x

    node.arguments, node.kwargs = tree.mapped(exchanged, node.arguments), tree.mapped(exchanged, node.kwargs)


class Memory:
    """Which arrays are written to, handed out, or seen through views: when one may stand in place of another."""

    def __init__(self, nodes: list[Node], outputs: Iterable[Node]) -> None:
        self.outputs = set(outputs)
        self._written = {node.arguments[0] for node in nodes if is_write(node)}
        self._viewed = shared(nodes)

    def is_written(self, node: Node) -> bool:
        """Whether the node is an array before or after a write."""
        return node in self._written or is_write(node)

    def may_stand(self, x: Node, node: Node) -> bool:
        """Whether x may be used wherever the equal value of `node` is.

        They must be laid out alike, as sums go by the layout. Nobody may write to either. And results are arrays of
        their own: what is handed out, itself or as a view of it, has to be an array that the program has made, and that
        is not handed out or viewed a second time.
        """
        if not _alike(x, node) or node in self._written or x in self._written:
            return False
        is_flattened_twice = node.function is np.ravel and x.is_view and _identity(x) == _identity(node)
        is_same_memory = node.is_view and (x in node.inputs or is_flattened_twice)
        kinds = [kind for kind in (self.outputs, self._viewed) if node in kind] if _is_array(node) else []
        if kinds and not is_same_memory and (x in self.outputs or x in self._viewed or not _is_made_here(x)):
            return False
        if is_same_memory and node in self.outputs and (x in self.outputs or not _is_made_here(x)):
            return False
        for kind in kinds:  # x takes the place of the node, as what is handed out, or what a view is of
            kind.add(x)
        return True


def _is_made_here(x: Node) -> bool:
    """Whether the program itself makes an array, perhaps to write to it afterwards."""
    while is_write(x):
        x = x.arguments[0]
    return x.function is not None


def shared(nodes: Iterable[Node]) -> set[Node]:
    """The nodes that share their memory with others: views, and what they are views of."""
    return {x for node in nodes if node.is_view for x in (node, *node.inputs)}


def _is_array(node: Node) -> bool:
    return bool(node.shape) or isinstance(node.value, np.ndarray)


def _alike(x: Node, node: Node) -> bool:
    """Whether two equal values are also of one type and layout."""
    if _is_array(x) != _is_array(node) or (x.shape, x.dtype) != (node.shape, node.dtype):
        return False
    return all(n == 1 or a == b for n, a, b in zip(x.shape, x.strides, node.strides, strict=True))


# Simpler arguments ----------------------------------------------------------------------------------------------------


def unstretched(node: Node) -> None:
    """An operand that was stretched, as it was before: x + np.broadcast_to(b, x.shape) is x + b.

    Holds for an elementwise function, where broadcasting gives the same shape with the other operands as they then are
    (two that stretch each other cannot both be taken back), and where all arrays lie in memory in C order, so that the
    result does too.
    """
    if not _is_elementwise(node):
        return
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
    node.arguments = tuple(found)


def _stretched_from(x: Any) -> Node | None:
    """The array that an operand repeats along new axes and axes of length 1, or only gives new axes."""
    if type(x) is not Node or x.function not in (np.broadcast_to, np.reshape) or type(x.arguments[0]) is not Node:
        return None
    source: Node = x.arguments[0]
    new_axes = (1,) * (len(x.shape) - len(source.shape))
    return source if x.function is np.broadcast_to or x.shape == new_axes + source.shape else None


def uniform(node: Node) -> None:
    """A constant array of equal elements, as a number: np.full(3, 2.0) * x is 2.0 * x.

    Holds for an elementwise function of two operands, where the other alone has the result's shape, dtype and C order.
    The number keeps the array's dtype.
    """
    if not _is_elementwise(node) or len(node.arguments) != 2:
        return
    x, y = node.arguments
    if _is_uniform(x) and _decides(y, node, x.dtype):
        node.arguments = x.value.flat[0], y
    elif _is_uniform(y) and _decides(x, node, y.dtype):
        node.arguments = x, y.value.flat[0]


def _decides(x: Any, node: Node, dtype: Any) -> bool:
    """Whether an operand alone gives a call its shape and layout, and has this dtype."""
    return type(x) is Node and (x.shape, x.dtype) == (node.shape, dtype) and _in_c_order(x) and _in_c_order(node)


def _is_uniform(x: Any) -> bool:
    """Whether an operand is a constant array of equal numbers, -0.0 and 0.0 apart."""
    if type(x) is not Node or x.role != CONSTANT or not _is_array(x) or x.dtype.kind != "f":
        return False
    if not 0 < x.size <= _LARGEST:
        return False
    signs = np.signbit(x.value)
    return bool((x.value == x.value.flat[0]).all() and (signs == signs.flat[0]).all())


def own_dtype(node: Node) -> None:
    """A ufunc is not told the dtype that it computes in anyway.

    Holds where all operands are arrays of that dtype, and so is the result.
    """
    told = node.kwargs.get("dtype")
    if told is None or not isinstance(node.function, np.ufunc) or node.dtype != told:
        return
    if all(type(x) is Node and x.dtype == told for x in node.arguments):
        node.kwargs = {key: x for key, x in node.kwargs.items() if key != "dtype"}


SIMPLER: tuple[Callable[[Node], None], ...] = (unstretched, uniform, own_dtype)


def _is_elementwise(node: Node) -> bool:
    return isinstance(node.function, np.ufunc) and node.function.signature is None


def _in_c_order(node: Node) -> bool:
    """Whether an array lies in memory in C order; a number does. The stride of an axis of length 1 does not count."""
    expected = getattr(node.dtype, "itemsize", 0)
    for n, stride in zip(reversed(node.shape), reversed(node.strides), strict=False):
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True


# Something that is there already, if `Memory.may_stand` allows it -----------------------------------------------------


def copied(node: Node) -> Node | None:
    """np.copy(x) is x, and so is np.concatenate([x])."""
    if node.kwargs or len(node.arguments) != 1:
        return None
    if node.function is np.concatenate and len(node.arguments[0]) == 1:
        return next(nodes_in(node.arguments[0]), None)
    return _operand(node, 0) if node.function is np.copy else None


def of_its_dtype(node: Node) -> Node | None:
    """x.astype(x.dtype) is x."""
    return _operand(node, 0) if node.function is astype else None


def times_one(node: Node) -> Node | None:
    """1 * x and x / 1 are x, to the last bit, NaN and -0.0 too; x - 0.0 is. (x + 0.0 is not: -0.0 + 0.0 is 0.0.)

    Holds where x alone has the result's shape and dtype.
    """
    if node.kwargs or len(node.arguments) != 2:
        return None
    left, right = node.arguments
    if node.function in (np.multiply, operator.mul) and _is_number(left, 1):
        return _operand(node, 1)
    if node.function in (np.multiply, operator.mul, np.divide, operator.truediv) and _is_number(right, 1):
        return _operand(node, 0)
    if node.function in (np.subtract, operator.sub) and _is_number(right, 0) and not np.signbit(right):
        return _operand(node, 0)
    return None


def same_view(node: Node) -> Node | None:
    """A view of all of x, laid out as x is, is x: x.reshape(x.shape), x.ravel() of a vector, x[:].

    Holds where the shape or index is known, not computed: another would give another view.
    """
    is_fixed = node.is_view and node.function in _VIEWS and len(node.inputs) == 1
    return _operand(node, 0) if is_fixed else None


def written_whole(node: Node) -> Node | None:
    """An array that gets all its elements by one write is what was written.

    Holds where the write selects all of the array by slices, and the value has its shape and is the program's own.
    """
    if node.function is not operator.setitem or is_write(node.arguments[0]):
        return None
    array, index, _ = node.arguments
    value = _operand(node, 2)
    parts = index if isinstance(index, tuple) else (index,)
    is_whole = all(x is ... or (type(x) is slice and x.step in (None, 1) and not list(nodes_in(x))) for x in parts)
    if value is None or value.function is None or not is_whole:
        return None
    chosen = np.broadcast_to(0, array.shape)[index]
    return value if chosen.shape == array.shape == value.shape else None


STAND_INS: tuple[Callable[[Node], Node | None], ...] = (copied, of_its_dtype, times_one, same_view, written_whole)

_VIEWS = (np.reshape, np.ravel, np.transpose, np.matrix_transpose, np.broadcast_to, operator.getitem)


def _operand(node: Node, i: int) -> Node | None:
    x = node.arguments[i]
    return x if type(x) is Node else None


def _is_number(x: Any, number: int) -> bool:
    return (type(x) in (int, float) or isinstance(x, np.floating)) and bool(x == number)


# Computed before, or once ---------------------------------------------------------------------------------------------


def _folded(node: Node, memory: Memory) -> Node | None:
    """The result of a call whose operands are all constants, as a constant: np.eye(2).T.

    Holds where the result is an array that nobody writes to and nobody gets. Small ones only, as they are printed.
    """
    operands = read_by(node)
    if node.function is None or not operands or not all(x.role == CONSTANT for x in operands):
        return None
    if node in memory.outputs or memory.is_written(node) or not _is_array(node) or node.nbytes > _FOLDED:
        return None

    def value(x: Any) -> Any:
        return x.value if type(x) is Node else x

    with np.errstate(all="ignore"):
        result = node.function(*tree.mapped(value, node.arguments), **tree.mapped(value, node.kwargs))
    return Node(None, (), {}, result, CONSTANT)


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
    parts = tree.children(x)
    return (type(x), repr(x)) if parts is None else (tree.structure(x), *map(_key, parts))
