"""The reverse sweep.

Visit the tensors from the newest to the oldest; each, when its turn comes, has gathered its whole cotangent (the
derivative of the output by it), and hands every input its share by that input's rule.

Newest to oldest, because a share may be handed on only when it is complete. In the diamond ``b = a + a; c = b + b``
the tensor b receives two shares of 1; were the first handed on at once, a would get 2 and then 2 again from a b that
is by then 2: 6, where dc/da is 4.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from microgradopt.errors import OverwrittenError
from microgradopt.mode import Observer, Switched, clock, current_mode
from microgradopt.rules.indexing import repeats_nothing, scatter
from microgradopt.rules.outputs import Outputs
from microgradopt.rules.registry import KNOWN
from microgradopt.tensor import Tensor, tensors_in

Cotangents = dict[Tensor, Any]

# What has no shape, or parts of several shapes: NumPy's scalars, and the results of functions that have several.
_SHAPELESS = frozenset({np.float16, np.float32, np.float64, np.longdouble, Outputs})

_date = operator.attrgetter("order")

# What is to be visited ------------------------------------------------------------------------------------------------


class Graph(NamedTuple):
    """What a sweep visits: the tensors between some outputs and some inputs, oldest first, and all of them as a set."""

    nodes: list[Tensor]
    active: set[Tensor]


def graph_of(outputs: Iterable[Tensor], inputs: Sequence[Tensor] | None = None) -> Graph:
    """The part of the graph below `outputs` that a gradient flows through: down to `inputs`, or to all leaves.

    Iterative, so that no chain is too deep; creation order is the topological order.
    """
    seen = set(outputs)
    stack = list(seen)
    nodes, leaves = [], []
    while stack:
        node = stack.pop()
        if node.function is None:
            leaves.append(node)
            continue
        nodes.append(node)
        for x in node.inputs:
            if type(x) is Tensor:
                if x.needs_grad and x not in seen:
                    seen.add(x)
                    stack.append(x)
            elif type(x) is list:
                fresh = {part for part in tensors_in(x) if part.needs_grad} - seen
                seen |= fresh
                stack += fresh
    nodes.sort(key=_date)
    if inputs is None or set(inputs).issuperset(leaves):
        return Graph(nodes, seen)
    return _leading_to(inputs, nodes)


def _leading_to(inputs: Sequence[Tensor], nodes: list[Tensor]) -> Graph:
    """Of the nodes, oldest first, those that depend on `inputs`."""
    active = {x for x in inputs if x.needs_grad}
    leading = []
    for node in nodes:
        if not active.isdisjoint(tensors_in(node.inputs)):
            leading.append(node)
            active.add(node)
    return Graph(leading, active)


# The visit ------------------------------------------------------------------------------------------------------------


def sweep(
    graph: Graph, cotangents: Cotangents, wanted: Sequence[Tensor] = (), create_graph: bool = False
) -> Cotangents:
    """Cotangents of the leaves of `graph`, and of the `wanted` tensors, given those of its outputs.

    The rules run on plain arrays; with create_graph, on the tensors themselves, so that the result is a graph as well.
    Raises OverwrittenError where a value that a rule needs has been overwritten, LinAlgError where a rule meets a
    singular matrix.
    """
    observers = current_mode.get().observers
    kept = {x for x in wanted if x.function is not None}
    if not (create_graph or observers):
        return _visit(graph, cotangents, kept, False, ())
    # The gradient's graph is wanted, also where this is called inside of no_grad.
    depth = max((node.sweeps for node in graph.nodes), default=0)
    with Switched(recording=True, sweeps=depth + 1):
        _visit(graph, cotangents, kept, create_graph, observers)
    for leaf in [x for x in cotangents if x.function is None]:
        _date_of(cotangents[leaf], leaf)
        _tell(observers, leaf, cotangents[leaf], cotangents)
    return cotangents


def _visit(
    graph: Graph, cotangents: Cotangents, kept: set[Tensor], create_graph: bool, observers: tuple[Observer, ...]
) -> Cotangents:
    """Visit the nodes, newest first: each hands its inputs their shares. Cotangents that are not `kept` are let go."""
    nodes, active = graph
    stale = bool(nodes) and clock.last_write > nodes[0].order
    is_plain = not (create_graph or observers)
    own: dict[Tensor, Any] = {}
    for node in reversed(nodes):
        g = cotangents.get(node) if node in kept else cotangents.pop(node, None)
        if g is None:
            continue
        if node.function is operator.getitem and is_plain and _is_plain_selection(node, g):
            _hand_over_there(g, node.inputs[0], node.values[1], cotangents, own)
            continue
        args, kwargs = node.inputs, node.kwargs
        out, values = (node, args) if create_graph else (node.value, node.values)
        if stale:
            values = _guarded(node, args, values, node.values)
        binary = len(values) == 2 and not kwargs
        if binary:
            left, right = values
        try:
            for x, rule in zip(args, KNOWN[node.function].rules):  # type: ignore[index]  # noqa: B905 (trailing arguments may be left out)
                if type(x) is Tensor:
                    if x in active:
                        # Two plain arguments are the common case; naming them makes the call four times as quick.
                        share = rule(g, out, left, right) if binary else rule(g, out, *values, **kwargs)  # type: ignore[misc]
                        _hand_over(share, x, node, cotangents)
                elif type(x) is list and not active.isdisjoint(tensors_in(x)):
                    _hand_over_all(rule(g, out, *values, **kwargs), x, node, cotangents, active)  # type: ignore[misc]
        except np.linalg.LinAlgError as error:
            raise np.linalg.LinAlgError(f"the derivative of {node.made_by()}: {error}") from None
        if not is_plain:
            _date_of(g, node)
            _tell(observers, node, g, cotangents)
    return cotangents


def _date_of(g: Any, x: Tensor) -> None:
    """Note in a recorded cotangent which tensor it is the derivative by, for its name in pictures."""
    if type(g) is Tensor and g.function is not None and not hasattr(g, "cotangent_of"):
        g.cotangent_of = x.order


def _tell(observers: tuple[Observer, ...], tensor: Tensor, g: Any, cotangents: Cotangents) -> None:
    for observer in observers:
        observer.swept(tensor, g, cotangents)


def _hand_over_all(
    shares: Sequence[Any], parts: list[Any], node: Tensor, cotangents: Cotangents, active: set[Tensor]
) -> None:
    """Add their shares to the cotangents of the tensors in a list."""
    for part, share in zip(parts, shares, strict=True):
        if type(part) is Tensor and part in active:
            _hand_over(share, part, node, cotangents)


def _hand_over(share: Any, x: Tensor, node: Tensor, cotangents: Cotangents) -> None:
    """Add a share to the cotangent of x."""
    data = x.value
    if type(share) is not type(data) or (
        type(data) not in _SHAPELESS and (share.shape != data.shape or share.dtype is not data.dtype)
    ):
        share = _fitted(share, x, node)
    # The sum is a new array: the one before may be somebody else's too.
    cotangents[x] = cotangents[x] + share if x in cotangents else share


def _is_plain_selection(node: Tensor, g: Any) -> bool:
    """Whether x[index] is of an array, not of a single number, and takes each place once."""
    array, index = node.values
    are_arrays = type(array) is np.ndarray and type(g) in (np.ndarray, type(node.value))
    return are_arrays and array.ndim > 0 and repeats_nothing(index)


def _hand_over_there(g: Any, x: Tensor, index: Any, cotangents: Cotangents, own: dict[Tensor, Any]) -> None:
    """Add g, the share by x[index], to the cotangent of x at this index alone: a loop over all x[i] is then linear.

    own: the tensors whose cotangents are arrays made here, so that they may be changed, with the index last added to.
    The result has the same bits as adding an array that is zero elsewhere. Adding such a zero turns -0.0 into 0.0, and
    -0.0 can stand only at the last index.
    """
    if x in own:
        total = cotangents[x]
        sum_there = total[index] + g
        total[own[x]] += 0.0
        total[index] = sum_there
    else:
        share = scatter(g, index, x.value.shape)
        cotangents[x] = cotangents[x] + share if x in cotangents else share
    own[x] = index


def _fitted(share: Any, x: Tensor, node: Tensor) -> Any:
    """A share of the cotangent of x, brought to the shape and dtype of x."""
    data = x.value
    if not hasattr(share, "shape"):
        raise TypeError(f"the derivative rule of {node.made_by()} gave {share!r}, which is no array: the rule is wrong")
    if share.shape != data.shape:
        share = _unbroadcast(share, x, node)
    if share.dtype is not data.dtype and share.dtype != data.dtype:
        share = share.astype(data.dtype)
    return share


def _unbroadcast(share: Any, x: Tensor, node: Tensor) -> Any:
    """Broadcasting copies x along new axes and axes of length 1; the cotangent of x is the sum over the copies."""
    target, given = x.shape, share.shape
    aligned = (1,) * (len(given) - len(target)) + target
    explained = len(aligned) == len(given) and all(n in (1, m) for n, m in zip(aligned, given, strict=True))
    if not (explained and KNOWN[node.function].broadcasts):  # type: ignore[index]
        raise ValueError(
            f"the derivative rule of {node.made_by()} gave a cotangent of shape {given} to an input of shape "
            f"{target}, which broadcasting does not explain: the rule is wrong"
        )
    copied = tuple(i for i, (n, m) in enumerate(zip(aligned, given, strict=True)) if n != m)
    return (share.sum(axis=copied) if copied else share).reshape(target)


# Values that have gone ------------------------------------------------------------------------------------------------


class _Overwritten(NDArrayOperatorsMixin):
    """Stands for a value that is no longer there. A rule may ask for its shape; reading it is an error."""

    __slots__ = ("_reader", "dtype", "ndim", "shape", "size")

    def __init__(self, x: Tensor, reader: str) -> None:
        self.shape, self.ndim, self.size, self.dtype = x.shape, x.ndim, x.size, x.dtype
        self._reader = reader

    def _read(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise OverwrittenError(
            f"backward: {self._reader} needs its input of shape {self.shape} as it was when recorded, and it has been "
            "overwritten since (by an optimizer's step, or by assigning .data); run the forward pass again first"
        )

    __array_ufunc__ = __array_function__ = __array__ = __getitem__ = __getattr__ = _read


def _guarded(node: Tensor, args: Sequence[Any], values: Sequence[Any], recorded: Sequence[Any]) -> tuple[Any, ...]:
    """The values with stand-ins for those that were overwritten after the node was made."""
    return tuple(
        _Overwritten(x, node.made_by())
        if type(x) is Tensor and (_written(x) > node.order or _has_moved(x, value, seen))
        else list(_guarded(node, x, value, seen))
        if type(x) is list
        else value
        for x, value, seen in zip(args, values, recorded, strict=True)
    )


def _has_moved(x: Tensor, value: Any, recorded: Any) -> bool:
    """Whether a rule would read the leaf x itself, and x no longer holds the recorded array (as inside `moved_to`)."""
    return value is x and x.function is None and x.value is not recorded


def _written(x: Tensor) -> int:
    """When the memory of x was last written: for a view of a leaf (``w.T``), when the leaf was."""
    while x.function is not None:
        source, seen = x.inputs[0], x.values[0]
        arrays = type(x.value) is type(seen) is np.ndarray
        if not (type(source) is Tensor and arrays and np.may_share_memory(x.value, seen)):
            break
        x = source
    return x.order
