"""What the page calls things: one name for each value, the same in the picture, in the formulas and in the program."""

from __future__ import annotations

import builtins
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, Graph, Node
from microgradopt.graph.reader import Names, labels_of
from microgradopt.graph.text import NUMPY, Text, identifier, literal, spelled
from microgradopt.nn import functional
from microgradopt.picture import words

PART = "part"  # what is computed on the way to a value is called part1, part2, ...


def named(graph: Graph, names: Names | None) -> tuple[Graph, dict[Node, str]]:
    """The graph with names that Python can use; and the names that users have given where they are others.

    "0.weight" becomes weight_0. Arrays that calls were given besides, such as labels, become nodes of their own.
    """
    labels = labels_of(names)
    own, before, nodes = set(labels.values()), {}, []
    taken = {
        "np",
        *dir(builtins),
        *functional.__all__,
        *(spelled(node.function) for node in graph if node.function is not None),
    }
    for node, word in _with_data(graph, labels):
        name = _unique(identifier(node.name if node.function is not None or node.name in own else word), taken)
        if node.name in own and node.name != name:
            before[node] = node.name
        node.name = name
        nodes.append(node)
    return Graph(nodes, graph.outputs), before


def _with_data(graph: Graph, labels: dict[Any, str]) -> Iterator[tuple[Node, str]]:
    """The nodes, with one for each array among the arguments; and a word for those that nobody has given a name."""
    data: dict[int, tuple[Node, str]] = {}

    def noded(word: str, x: Any) -> Any:
        if not isinstance(x, np.ndarray) or not x.ndim:
            return x
        node = Node(None, (), {}, x, CONSTANT, labels.get(id(x), ""))
        return data.setdefault(id(x), (node, word if word.isidentifier() else "array"))[0]

    for node in graph:
        known = len(data)
        arguments = enumerate(node.arguments)
        node.arguments = tuple(tree.mapped(functools.partial(noded, node.argument_name(i)), x) for i, x in arguments)
        yield from list(data.values())[known:]
        yield node, "array" if node.role == CONSTANT else node.role


def _unique(base: str, taken: set[str]) -> str:
    """A name that is not taken yet, nor that of its cotangent; now they are."""
    base += "_" * (base.startswith(PART) and base[len(PART) :].isdigit())
    candidates = itertools.chain([base], (f"{base}_{i}" for i in itertools.count(2)))
    name = next(name for name in candidates if taken.isdisjoint({name, f"d_{name}"}))
    taken |= {name, f"d_{name}"}
    return name


def is_inlined(node: Node) -> bool:
    """Whether a node is a number that stands where it is used."""
    return node.role == CONSTANT and np.ndim(node.value) == 0


def called(node: Node) -> str:
    """A value as it stands in formulas: by its name, or as a number."""
    return _text(node).text


def call(node: Node) -> str:
    """A call as it stands in formulas: "linear(tanh1, weight_2, bias_2)"."""
    return NUMPY.expression(node, _text).text


def _text(node: Node) -> Text:
    return literal(np.asarray(node.value).item()) if is_inlined(node) else Text(node.name)


def sign(node: Node) -> str:
    """What stands beside the name of a node: its function, if the name does not say it; or the shape of an array."""
    if node.function is None:
        return str(node.shape) * bool(node.shape)
    first, _, rest = words.sign(node).partition(" ")
    return rest if node.name.rstrip("0123456789") == first else words.sign(node)
