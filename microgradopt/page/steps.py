"""One backward pass and one update, taken apart into the steps that `explain` shows.

Nothing is derived anew here: the rules are the engine's, and so is the way that a share is brought to the shape of what
it is handed to. That the shares add up to the gradients that the engine gives is asserted.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from microgradopt.autodiff import grad
from microgradopt.graph.graph import Edge, Graph, Node
from microgradopt.optim.optimizer import Optimizer
from microgradopt.rules.registry import KNOWN
from microgradopt.sweep import Cotangents, _hand_over
from microgradopt.tensor import Tensor


class Share(NamedTuple):
    """What one value hands to one of its inputs in the reverse sweep.

    edge: from the input, which receives, to the value, which gives. upstream: the whole cotangent of the value.
    local: the derivative of an elementwise function, of the value's shape; None for other functions. contribution: the
    share, in the shape of the input. copied: the axes that broadcasting had copied the input along, and that are
    summed over. before, after: what the input has gathered without the contribution (None: nothing), and with it.
    """

    edge: Edge
    upstream: Any
    local: Any
    contribution: Any
    copied: tuple[int, ...]
    before: Any
    after: Any


def shares(graph: Graph, tensors: dict[Node, Tensor]) -> list[Share]:
    """Every share of the reverse sweep, in its order: the newest value first, its inputs in theirs."""
    output = graph.outputs[0]
    cotangents: Cotangents = {tensors[output]: np.ones(output.shape, output.dtype)[()]}
    found: list[Share] = []
    with np.errstate(all="ignore"):  # the engine has said it already, when it computed the gradients
        for node in reversed(graph.nodes):
            if node.function is not None:
                found += _handed_out(node, tensors, cotangents)
    for node in graph:
        if node.gradient is not None and node in tensors and tensors[node].requires_grad:
            # By its own arithmetic and order, so to the last bit.
            assert np.array_equal(cotangents[tensors[node]], node.gradient, equal_nan=True), (
                f"the shares of {node.name} add up to {cotangents[tensors[node]]}, its gradient is {node.gradient}"
            )
    return found


def _handed_out(node: Node, tensors: dict[Node, Tensor], cotangents: Cotangents) -> Iterator[Share]:
    """The shares that a node hands out; they are added to `cotangents`."""
    tensor = tensors[node]
    g = cotangents[tensor]
    for slot, part, source in node.operands():
        x = tensors.get(source)
        if x is None or not x.requires_grad:
            continue
        given = _rule(tensor, slot, g)
        given = given if part is None else given[part]
        alone: Cotangents = {}
        _hand_over(given, x, tensor, alone)
        before = cotangents.get(x)
        cotangents[x] = alone[x] if before is None else before + alone[x]
        yield Share(
            Edge(source, node, slot, part), g, _local(tensor, slot), alone[x], _copied(given, x), before, cotangents[x]
        )


def _rule(tensor: Tensor, slot: int, g: Any) -> Any:
    """The rule for one argument of the call that made `tensor`."""
    rule = KNOWN[tensor.function].rules[slot]  # type: ignore[index]
    return rule(g, tensor.value, *tensor.values, **tensor.kwargs)  # type: ignore[misc]


def _local(tensor: Tensor, slot: int) -> Any:
    """The derivative of an elementwise function: what it hands on of a cotangent of 1. None for other functions."""
    function = tensor.function
    if not (isinstance(function, np.ufunc) and function.signature is None):
        return None
    ones = np.ones_like(tensor.value)[()]
    return np.broadcast_to(_rule(tensor, slot, ones), tensor.shape)


def _copied(share: Any, x: Tensor) -> tuple[int, ...]:
    """The axes of a share that x has not, or has only once."""
    if isinstance(share, tuple):  # of a function with several results
        return ()
    new = len(share.shape) - x.ndim
    return tuple(i for i, n in enumerate(share.shape) if i < new or n != x.shape[i - new])


def readied(optimizer: Optimizer, loss: Tensor, tensors: dict[Node, Tensor]) -> tuple[Optimizer, dict[Tensor, Tensor]]:
    """A copy of the optimizer, about to take a step with the gradients of `loss`; and of each parameter its copy there.

    Raises TypeError for what is no optimizer; ValueError for one whose step computes the loss itself, and for one that
    has none of the parameters.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"explain: wants an optimizer of microgradopt, not {type(optimizer).__name__}")
    name = type(optimizer).__name__
    if optimizer.wants_closure:
        raise ValueError(
            f"explain: a step of {name} computes the loss itself; show an optimizer that needs .grad alone"
        )
    before = list(optimizer.parameters())
    if set(before).isdisjoint(tensors.values()):
        raise ValueError(
            f"explain: the loss, as far as it is shown, depends on no parameter of this {name}; was it built for "
            "another model?"
        )
    twin = copy.deepcopy(optimizer)
    copies = dict(zip(before, twin.parameters(), strict=True))
    for x, g in zip(before, grad(loss, before, allow_unused=True), strict=True):
        copies[x].grad = g
    return twin, copies


def updates(twin: Optimizer, copies: dict[Tensor, Tensor], tensors: dict[Node, Tensor]) -> dict[Node, list[Any]]:
    """What the step of the copy does to each parameter: before, gradient, after."""
    gradients = {x: copies[x].grad for x in copies}
    twin.step()
    moved = [(node, x) for node, x in tensors.items() if x in copies and gradients[x] is not None]
    return {node: [x.data, gradients[x], copies[x].data] for node, x in moved}
