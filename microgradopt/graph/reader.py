"""trace: the graph that tensors already are, as a plain value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from microgradopt.autodiff import listed_tensors
from microgradopt.graph.graph import CONSTANT, INPUT, PARAMETER, Graph, Node, named, role_at
from microgradopt.graph.modules import Calls
from microgradopt.nn.module import Module
from microgradopt.rules.registry import KNOWN
from microgradopt.sweep import graph_of, sweep
from microgradopt.tensor import Tensor, plain, tensors_in

Names = Mapping[str, Any] | Module

_date = operator.attrgetter("order")


def trace(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor] = (),
    names: Names | None = None,
    gradients: bool = False,
) -> Graph:
    """The computation of `outputs`, as a `Graph`: every call that was recorded, and every value that went in.

    inputs: tensors to begin at; what they were computed from is left out. By default the graph begins at the leaves.
    names: a module, whose parameters' names are used; or tensors, arrays and modules by name: ``locals()`` does, and
    what is none of these is passed over. All others get short names: the function and a number.
    gradients: compute the derivative of the output by every value on the way, for `Node.gradient`; `outputs` is then
    one scalar. Otherwise that is what a backward pass of `outputs` has left in a leaf's ``.grad``, or None.

    What a sweep with ``create_graph=True`` recorded has the role "backward", what a sweep of that did, "double
    backward". The modules that calls were made in are known for the latest 512 calls of each module in `names`.

    Iterative: as deep as memory allows. Values are not copied.

    Raises TypeError for outputs that are no tensors, and as `backward` does, where gradients are asked for.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> [node.name for node in trace(np.sum(x * x), names={"x": x}).nodes]
    ['x', 'multiply1', 'sum1']
    """
    return traced(listed_tensors("trace", outputs), listed_tensors("trace", inputs), names, gradients)[0]


def traced(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], names: Names | None, gradients: bool
) -> tuple[Graph, dict[Node, Tensor]]:
    """The graph of tensors, as `trace` gives it; and which tensor each node stands for, where it stands for one."""
    begin = set(inputs)  # by identity: tensors in a list would be compared by their values
    found = reached(outputs, begin)
    labels = labels_of(names)
    results = _cotangents(outputs, found) if gradients else {}
    calls = Calls(by_name(names))
    orders: dict[int, Node] = {}
    made: dict[int, Node] = {}  # by identity: tensors, and the arrays among arguments
    tensors: dict[Node, Tensor] = {}
    nodes: list[Node] = []

    def add(x: Any, node: Node) -> Node:
        if isinstance(x, Tensor | np.ndarray):
            made[id(x)] = node
        if type(x) is Tensor:
            tensors[node], orders[x.order] = x, node
            node.derivative_of = orders.get(getattr(x, "cotangent_of", 0))
        nodes.append(node)
        return node

    def given(x: Any, value: Any, date: int) -> Node:
        """The node of an argument that no recorded call has made. value, date: what it was, and when it was used."""
        if id(x) in made:
            return made[id(x)]
        if type(x) is Tensor:
            role = INPUT if x in begin else PARAMETER if x.needs_grad else CONSTANT
            gradient = results.get(x, _gradient_of(outputs, x))
            node = Node(None, (), {}, value, role, labels.get(x, ""), gradient, calls.at(x.order))
        else:
            node = Node(None, (), {}, value, CONSTANT, labels.get(id(x), ""))
        if node.role == CONSTANT and np.ndim(value) and not node.name:
            node.computed_from = tuple(given(y, plain(y), date) for y in calls.unrecorded(date, x))
        return add(x, node)

    for tensor in found:
        if tensor.function is None or tensor in begin:
            given(tensor, tensor.value, tensor.order)
            continue
        arguments = _arguments(tensor, given)
        role = role_at(tensor.sweeps)
        value = tensor.value if hasattr(tensor.value, "dtype") and not isinstance(tensor.value, tuple) else None
        name, frames = labels.get(tensor, ""), calls.at(tensor.order)
        add(tensor, Node(tensor.function, arguments, tensor.kwargs, value, role, name, results.get(tensor), frames))
    named(nodes)
    return Graph(nodes, [made[id(output)] for output in outputs]), tensors


def _gradient_of(outputs: Sequence[Tensor], x: Tensor) -> Any:
    """What a backward pass of these outputs has left in a leaf; None where it was another's, or several together."""
    date, left = x.graded or (0, lambda: None)
    return x.grad if left() is x.grad and date in [output.order for output in outputs] else None


def reached(outputs: Sequence[Tensor], begin: Set[Tensor] = frozenset()) -> list[Tensor]:
    """The outputs and the results they were computed from, oldest first; leaves appear where they are first used."""
    seen, stack = set(outputs), list(dict.fromkeys(outputs))
    while stack:
        tensor = stack.pop()
        if tensor.function is not None and tensor not in begin:
            fresh = [x for x in tensors_in(tensor.inputs) if x.function is not None and x not in seen]
            seen.update(fresh)
            stack += fresh
    return sorted(seen, key=_date)


def _arguments(tensor: Tensor, given: Callable[[Any, Any, int], Node]) -> tuple[Any, ...]:
    """The arguments of a recorded call: nodes where there is something to differentiate, all else as it was."""
    rules = KNOWN[tensor.function].rules  # type: ignore[index]
    return tuple(
        x
        if x is None or (rule is None and type(x) is not Tensor)
        else [given(part, seen, tensor.order) for part, seen in zip(x, value, strict=True)]
        if type(x) is list
        else given(x, value, tensor.order)
        for x, value, rule in zip(tensor.inputs, tensor.values, rules, strict=False)
    )


def by_name(names: Names | None) -> Mapping[str, Any]:
    """What has a name, by its name; a module that is given alone has none."""
    known = {} if names is None else {"": names} if isinstance(names, Module) else names
    if not isinstance(known, Mapping) or not all(isinstance(name, str) for name in known):
        raise TypeError(f"names: a module, or a dictionary of tensors, modules and arrays by name, not {names!r:.80}")
    return known


def labels_of(names: Names | None) -> dict[Any, str]:
    """The name of each tensor, and of each array by its identity, that has one; the first, if it has several."""
    found: dict[Any, str] = {}
    for name, thing in by_name(names).items():
        if isinstance(thing, Tensor):
            found.setdefault(thing, name)
        elif isinstance(thing, np.ndarray):
            found.setdefault(id(thing), name)
        elif isinstance(thing, Module):
            for inner, parameter in thing.named_parameters():
                found.setdefault(parameter, f"{name}.{inner}" if name else inner)
    return found


def _cotangents(outputs: Sequence[Tensor], tensors: Sequence[Tensor]) -> dict[Tensor, Any]:
    """The derivative of the one output by everything it depends on."""
    if len(outputs) != 1 or outputs[0].size != 1:
        raise ValueError("trace: gradients are those of one scalar output; .sum() or .mean() makes one")
    output = outputs[0]
    if not output.needs_grad:
        return {}
    start = {output: np.ones(output.shape, output.dtype)[()]}
    return {x: np.asarray(g) for x, g in sweep(graph_of(outputs), start, tensors).items() if hasattr(g, "ndim")}
