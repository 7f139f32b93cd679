"""Folding: a large graph as a few nodes that each stand for many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from microgradopt.graph.cost import Cost, cost
from microgradopt.graph.graph import CONSTANT, FORWARD, PARAMETER, Edge, Graph, Node

Place = TypeVar("Place")

_MANY = 300  # nodes of a graph that is still drawn as it is
_FEW = 24  # nodes that it is then folded into, about


class Group(NamedTuple):
    """Nodes that are drawn as one."""

    name: str
    role: str
    cost: Cost


class Fold(NamedTuple):
    """Which group each folded node is in."""

    groups: list[Group]
    group_of: dict[Node, int]

    def edges(self, graph: Graph) -> dict[tuple[Any, Any], list[Edge]]:
        """All edges, by the nodes or groups (numbers) that they lead from and to; those inside a group left out."""
        found: dict[tuple[Any, Any], list[Edge]] = {}
        for edge in graph.edges:
            source, target = (self.group_of.get(x, x) for x in (edge.source, edge.target))
            if source is not target and source != target:
                found.setdefault((source, target), []).append(edge)
        return found


def folded(graph: Graph, depth: int | None) -> Fold:
    """Fold the calls made in a module at this depth or deeper. None: nothing, or as much as it takes to be readable.

    Groups are made of calls that follow each other, so that between groups, too, arrows lead from older to younger.
    """
    if depth is not None:
        return _fold(graph, [(_module(node, depth), node) for node in graph.nodes])
    if len(graph) <= _MANY:
        return Fold([], {})
    keyed = [(_module(node, 1), node) for node in graph.nodes]
    if any(key for key, _ in keyed):
        fold = _fold(graph, keyed)
        if len(graph) - len(fold.group_of) + len(fold.groups) <= _MANY:
            return fold
    calls = sum(node.function is not None for node in graph.nodes)
    length = max(1, -(-calls // _FEW))
    return _fold(graph, _runs(graph.nodes, length))


def _module(node: Node, depth: int) -> str:
    """The module at this depth that a node is inside of; "" for none."""
    parts = node.module.split(".") if node.module else []
    return ".".join(parts[:depth]) if 0 < depth <= len(parts) else ""


def _runs(nodes: list[Node], length: int) -> list[tuple[str, Node]]:
    """Calls of one role that follow each other, up to `length` of them, under one key."""
    keyed, count, role = [], 0, ""
    for node in nodes:
        if node.function is None:
            keyed.append(("", node))
            continue
        count = count + 1 if node.role == role else (count // length + 1) * length
        role = node.role
        keyed.append((f"{role} {count // length}", node))
    return keyed


def _fold(graph: Graph, keyed: Iterable[tuple[str, Node]]) -> Fold:
    """Groups of calls with the same key, where no other key comes in between; and the constants only they use."""
    group_of: dict[Node, int] = {}
    members: list[tuple[str, list[Node]]] = []
    before = ""
    for key, node in keyed:
        if node.function is None:
            continue
        if key and key != before:
            members.append((key, []))
        if key:
            group_of[node] = len(members) - 1
            members[-1][1].append(node)
        before = key
    _take_constants(graph, group_of)
    groups = [Group(name if nodes[0].module else nodes[0].role, nodes[0].role, cost(nodes)) for name, nodes in members]
    return Fold(groups, group_of)


def _take_constants(graph: Graph, group_of: dict[Node, int]) -> None:
    readers: dict[Node, set[int | None]] = {}
    for edge in graph.edges:
        if edge.source.role == CONSTANT and edge.source.function is None:
            readers.setdefault(edge.source, set()).add(group_of.get(edge.target))
    for node, groups in readers.items():
        (group,) = groups if len(groups) == 1 else (None,)
        if group is not None:
            group_of[node] = group


def gathered(graph: Graph, depth: int | None) -> Fold:
    """Fold a graph as `folded` does, and with the calls the parameters and numbers that only one group of them uses.

    Arrays that were given stay to be seen: they are the data. Without a depth there are then, apart from what stands
    for itself in small graphs, some hundreds of nodes at most, whatever the graph.
    """
    fold = folded(graph, depth)
    if depth is None and len(fold.groups) > _MANY:
        fold = _joined(fold)
    calls = {node: group for node, group in fold.group_of.items() if node.function is not None}
    used = used_in_one_place(graph.edges, calls.get)
    fold = Fold(fold.groups, calls | {node: group for node, group in used.items() if group is not None})
    if depth is None and len(graph) - len(fold.group_of) + len(fold.groups) > _MANY:
        fold = _by_role(graph, fold)
    return fold


def used_in_one_place(edges: Iterable[Edge], place: Callable[[Node], Place]) -> dict[Node, Place]:
    """The place of each parameter or number that was given, if all forward calls which use it are in that one.

    The backward pass uses it too; but a weight belongs to its layer.
    """
    users: dict[Node, set[Place]] = {}
    for edge in edges:
        if edge.target.role == FORWARD and _is_part_of_a_call(edge.source):
            users.setdefault(edge.source, set()).add(place(edge.target))
    return {node: next(iter(places)) for node, places in users.items() if len(places) == 1}


def _is_part_of_a_call(node: Node) -> bool:
    """Whether a given value says what a call is, rather than what it is called on."""
    return node.function is None and (node.role == PARAMETER or (node.role == CONSTANT and np.ndim(node.value) == 0))


def _joined(fold: Fold) -> Fold:
    """Neighbours joined: roles may alternate as often as they like."""
    length = -(-len(fold.groups) // _FEW)
    parts = [fold.groups[i : i + length] for i in range(0, len(fold.groups), length)]
    groups = [
        Group(
            ", ".join(dict.fromkeys(group.name for group in part)),
            part[0].role,
            Cost(*(sum(counts) for counts in zip(*(group.cost for group in part), strict=True))),
        )
        for part in parts
    ]
    return Fold(groups, {node: group // length for node, group in fold.group_of.items()})


def _by_role(graph: Graph, fold: Fold) -> Fold:
    """The given values that are left, one group for each role that has many."""
    left = [node for node in graph.nodes if node.function is None and node not in fold.group_of]
    many = [role for role, count in Counter(node.role for node in left).items() if count > _FEW]
    numbers = {role: len(fold.groups) + i for i, role in enumerate(many)}
    groups = fold.groups + [Group("", role, Cost(0, 0, 0)) for role in many]
    return Fold(groups, fold.group_of | {node: numbers[node.role] for node in left if node.role in numbers})
