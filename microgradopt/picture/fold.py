"""Folding: a large graph as a few nodes that each stand for many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from microgradopt.graph.cost import Cost, cost
from microgradopt.graph.graph import CONSTANT, FORWARD, PARAMETER, Edge, Node
from microgradopt.picture.loops import View

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

    def edges(self, edges: list[Edge]) -> dict[tuple[Any, Any], list[Edge]]:
        """All edges, by the nodes or groups (numbers) that they lead from and to; those inside a group left out."""
        found: dict[tuple[Any, Any], list[Edge]] = {}
        for edge in edges:
            source, target = (self.group_of.get(x, x) for x in (edge.source, edge.target))
            if source is not target and source != target:
                found.setdefault((source, target), []).append(edge)
        return found


def folds(view: View, depth: int | None) -> list[Fold]:
    """Ways to fold a graph, from that which was asked for to those that fold more.

    depth: fold the calls made in a module at this depth or deeper. None: nothing, where the graph is small enough. Then
    come the outermost modules, and runs of calls, with at most some hundreds of nodes, whatever the graph.

    With the calls go the parameters and numbers that only one group of them uses. Arrays that were given stay to be
    seen: they are the data.
    """
    found = [_with_parts(view, _by_depth(view, depth))] if depth is not None else []
    if depth is None and len(view.nodes) <= _MANY:
        found.append(Fold([], {}))
    modules = _with_parts(view, _by_depth(view, 1))
    if modules.groups and _shown(view, modules) <= _MANY:
        found.append(modules)
    return [*found, _with_parts(view, _in_runs(view), most=_MANY)]


def _in_runs(view: View) -> Fold:
    calls = sum(node.function is not None for node in view.nodes)
    fold = _fold(view, _runs(view.nodes, max(1, -(-calls // _FEW))))
    return _joined(fold) if len(fold.groups) > _MANY else fold


def _with_parts(view: View, fold: Fold, most: float = math.inf) -> Fold:
    """A fold with the parameters and numbers of its calls; and, where still more than `most` are left, by roles."""
    calls = {node: group for node, group in fold.group_of.items() if node.function is not None}
    used = used_in_one_place(view.edges, calls.get)
    fold = Fold(fold.groups, calls | {node: group for node, group in used.items() if group is not None})
    return _by_role(view, fold) if _shown(view, fold) > most else fold


def _shown(view: View, fold: Fold) -> int:
    """How many nodes and groups are left to be seen."""
    return len(view.nodes) - len(fold.group_of) + len(fold.groups)


def layout_cost(edges: list[Edge], fold: Fold) -> int:
    """What Graphviz's time grows with: how many ranks the edges cross, each node as near to its first use as can be."""
    drawn = [(source, target, len(found)) for (source, target), found in fold.edges(edges).items()]
    ranks: dict[Any, int] = {}
    for source, target, _ in drawn:  # a call is below all that it needs
        ranks[target] = max(ranks.get(target, 0), ranks.get(source, 0) + 1)
    used = {source for source, _, _ in drawn}
    late = {node: rank for node, rank in ranks.items() if node not in used}
    for source, target, _ in reversed(drawn):
        late[source] = min(late.get(source, late[target]), late[target] - 1)
    return sum((late[target] - late[source]) * count for source, target, count in drawn)


def _by_depth(view: View, depth: int) -> Fold:
    """One group for each call of a module at this depth."""
    return _fold(view, [(node.frames[depth - 1] if len(node.frames) >= depth else None, node) for node in view.nodes])


def _runs(nodes: list[Node], length: int) -> list[tuple[Any, Node]]:
    """Calls of one role that follow each other, up to `length` of them, under one key."""
    keyed: list[tuple[Any, Node]] = []
    count, role = 0, ""
    for node in nodes:
        if node.function is not None:
            count = count + 1 if node.role == role else (count // length + 1) * length
            role = node.role
        keyed.append(((role, count // length), node))
    return keyed


def _fold(view: View, keyed: Iterable[tuple[Any, Node]]) -> Fold:
    """Groups of calls with the same key, where no other key comes in between; and the constants only they use.

    As the calls of a group follow each other, arrows lead from older to younger between groups, too.
    """
    group_of: dict[Node, int] = {}
    members: list[list[Node]] = []
    before = None
    for key, node in keyed:
        if node.function is None:
            continue
        if key is not None and key != before:
            members.append([])
        if key is not None:
            group_of[node] = len(members) - 1
            members[-1].append(node)
        before = key
    _take_constants(view, group_of)
    return Fold([Group(_title(nodes), nodes[0].role, cost(nodes)) for nodes in members], group_of)


def _title(nodes: list[Node]) -> str:
    """The module that all these calls were made in, or what they are."""
    shared = [frame for frame in nodes[0].frames if all(frame in node.frames for node in nodes)]
    return f"{shared[-1].path}: {shared[-1].kind}" if shared else nodes[0].role


def _take_constants(view: View, group_of: dict[Node, int]) -> None:
    readers: dict[Node, set[int | None]] = {}
    for edge in view.edges:
        if edge.source.role == CONSTANT and edge.source.function is None:
            readers.setdefault(edge.source, set()).add(group_of.get(edge.target))
    for node, groups in readers.items():
        (group,) = groups if len(groups) == 1 else (None,)
        if group is not None:
            group_of[node] = group


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
    if node.function is not None:
        return False
    return node.role == PARAMETER or bool(node.computed_from) or (node.role == CONSTANT and np.ndim(node.value) == 0)


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


def _by_role(view: View, fold: Fold) -> Fold:
    """The given values that are left, one group for each role that has many."""
    left = [node for node in view.nodes if node.function is None and node not in fold.group_of]
    many = [role for role, count in Counter(node.role for node in left).items() if count > _FEW]
    numbers = {role: len(fold.groups) + i for i, role in enumerate(many)}
    groups = fold.groups + [Group("", role, Cost(0, 0, 0)) for role in many]
    return Fold(groups, fold.group_of | {node: numbers[node.role] for node in left if node.role in numbers})
