"""The order of a round: where each node of a program's call is computed."""

from __future__ import annotations

from typing import Any, NamedTuple

from microgradopt.graph.graph import Node, nodes_in
from microgradopt.program.loop import Body
from microgradopt.program.native.calls import (
    COSTLY,
    REDUCTIONS,
    SAME,
    SHORT,
    VIEWS,
    is_elementwise,
    is_gather,
    is_view,
    of_elements,
)
from microgradopt.program.tidy import read_by


class Nest(NamedTuple):
    """Loops over all places of one shape, and the nodes whose elements are computed, or added up, in them."""

    shape: tuple[int, ...]
    nodes: list[Node]


class Plan:
    """Where some nodes of a loop are computed: those of a round, or those that go before it.

    parts: nests, single nodes, and checks (a node and its value), in order. The first is a list of numbers that depend
    on none of the others. place: for each node the part after which it is there. inline: nodes that have no
    place in memory: their expression stands where an element is needed.
    """

    def __init__(self, body: Body, nodes: list[Node]) -> None:
        self.readers: dict[Node, list[Node]] = {node: [] for node in body.nodes}
        for node in body.nodes:
            for x in read_by(node):
                self.readers[x].append(node)
        self.wanted = {*body.results, *nodes_in(body.ends), *(node for node, _ in body.checks)}
        own = set(nodes)
        self.wanted |= {x for node in body.nodes if node not in own for x in read_by(node)}
        self.inline: set[Node] = set()
        self.parts: list[Any] = [[]]
        self.place: dict[Node, int] = dict.fromkeys(body.nodes, 0)
        self._leaves: dict[Node, set[Node]] = {}
        for node in nodes:
            self._put(node)
            self.parts += [check for check in body.checks if check[0] is node]
        self.users: dict[Node, set[Node]] = {node: set() for node in body.nodes}
        for node in nodes:
            if node not in self.inline:
                for x in self.leaves(node):
                    self.users[x].add(node)

    def leaves(self, node: Node) -> set[Node]:
        """What a node is computed from, with the operands of expressions in place of these."""
        if node not in self._leaves:
            found: set[Node] = set()
            for x in read_by(node):
                found |= self.leaves(x) if x in self.inline else {x}
            self._leaves[node] = found
        return self._leaves[node]

    def _put(self, node: Node) -> None:
        after = max((self.place[x] for x in self.leaves(node)), default=0)
        if node.function is None:
            self.place[node] = 0
        elif self._is_inline(node):
            self.inline.add(node)
        elif node.function in REDUCTIONS and node.arguments[0].shape:
            self._put_in_nest(node, node.arguments[0].shape)
        elif of_elements(node) and node.shape and not self.is_flat(node):
            self._put_in_nest(node, node.shape)
        elif is_view(node):
            self.place[node] = self.place[node.arguments[0]]
        elif not node.shape and after == 0 and is_elementwise(node):
            self.parts[0].append(node)
            self.place[node] = 0
        else:
            self.parts.append(node)
            self.place[node] = len(self.parts) - 1

    def is_flat(self, node: Node) -> bool:
        """Whether it has a loop of its own over all elements in a row."""
        is_short = len(node.shape) > 1 and node.shape[-1] < SHORT <= node.size
        return node.function in COSTLY and is_short and node.arguments[0].function not in VIEWS

    def _is_inline(self, node: Node) -> bool:
        """One reader, that goes element by element and has as many: or nothing to compute."""
        readers = self.readers[node]
        if node in self.wanted or not node.shape or not of_elements(node) or any(map(self.is_flat, [node, *readers])):
            return False
        if not all(of_elements(reader) or reader.function in REDUCTIONS for reader in readers):
            return False
        if any(is_gather(reader) and reader.arguments[0] is node for reader in readers):
            return False
        if node.function in SAME:
            return True
        reads = [x for reader in readers for x in read_by(reader) if x is node]
        return len(reads) == 1 and (readers[0].size == node.size or readers[0].function in REDUCTIONS)

    def _put_in_nest(self, node: Node, shape: tuple[int, ...]) -> None:
        """In the last nest of this shape before which all that is needed is there, or in which it is made."""
        for i in range(len(self.parts) - 1, 0, -1):
            nest = self.parts[i]
            is_alike = isinstance(nest, Nest) and nest.shape == shape
            if is_alike and all(self.place[x] < i or self._is_element_of(x, nest, node) for x in self.leaves(node)):
                nest.nodes.append(node)
                self.place[node] = i
                return
        self.parts.append(Nest(shape, [node]))
        self.place[node] = len(self.parts) - 1

    def _is_element_of(self, x: Node, nest: Nest, node: Node) -> bool:
        """Whether x is computed in a nest, and read by the node only where it is just being computed."""
        if x not in nest.nodes or x.shape != nest.shape or x.function in REDUCTIONS:
            return False
        return not self._is_gathered_from(x, node)

    def _is_gathered_from(self, x: Node, node: Node) -> bool:
        """Whether x is the array that elements are taken from, here or in an expression that is part of this."""
        if is_gather(node) and node.arguments[0] is x:
            return True
        return any(self._is_gathered_from(x, y) for y in read_by(node) if y in self.inline)

    def is_in_memory(self, node: Node) -> bool:
        """Whether elements are needed elsewhere than in the nest that computes them."""
        nest = self.parts[self.place[node]]
        return node in self.wanted or any(
            user not in nest.nodes or not self._is_element_of(node, nest, user) for user in self.users[node]
        )
