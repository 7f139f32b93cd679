"""Folding further: what `folded` leaves, brought to a size that can be looked at.

Parameters go where they are used, and where there are still too many nodes, given values are gathered by role; groups
that are too many are joined to their neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from microgradopt.graph.cost import Cost
from microgradopt.graph.fold import _FEW, _MANY, Fold, Group, folded
from microgradopt.graph.graph import CONSTANT, FORWARD, PARAMETER, Edge, Graph, Node

Place = TypeVar("Place")


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
