"""Folding: a large graph as a few nodes that each stand for many."""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from microgradopt.graph.graph import CONSTANT, FORWARD, PARAMETER, Edge, Node
from microgradopt.picture.loops import View

Place = TypeVar("Place")

_MANY = 300  # nodes of a graph that is still drawn as it is
_FEW = 24  # nodes that it is then folded into, about


class Group(NamedTuple):
    """Nodes that are drawn as one."""

    name: str
    role: str


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
    found = [_by_depth(view, depth)] if depth is not None else []
    if depth is None and len(view.nodes) <= _MANY:
        found.append(Fold([], {}))
    modules = _by_depth(view, 1)
    if modules.groups and _shown(view, modules) <= _MANY:
        found.append(modules)
    runs = _in_runs(view)
    return [*found, _by_role(view, runs) if _shown(view, runs) > _MANY else runs]


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


# Ways to fold ---------------------------------------------------------------------------------------------------------


def _by_depth(view: View, depth: int) -> Fold:
    """A group for the calls that follow each other in one call of a module at this depth."""
    found = itertools.groupby(_calls(view), lambda node: node.frames[depth - 1 : depth])
    return _fold(view, [list(nodes) for frames, nodes in found if frames])


def _in_runs(view: View) -> Fold:
    """Groups of calls of one role that follow each other, about as many as can be looked at."""
    calls = _calls(view)
    by_role = itertools.groupby(calls, operator.attrgetter("role"))
    runs = [run for _, nodes in by_role for run in _parts(list(nodes), len(calls))]
    if len(runs) > _MANY:  # roles may alternate as often as they like
        runs = [list(itertools.chain.from_iterable(part)) for part in _parts(runs, len(runs))]
    return _fold(view, runs)


def _calls(view: View) -> list[Node]:
    return [node for node in view.nodes if node.function is not None]


def _parts(things: list[Any], total: int) -> list[list[Any]]:
    """A list in parts of the same length, of which a list of `total` things would have about `_FEW`."""
    length = -(-total // _FEW)
    return [things[i : i + length] for i in range(0, len(things), length)]


def _fold(view: View, members: list[list[Node]]) -> Fold:
    """Calls as groups, with the parameters and numbers that only one group uses.

    As the calls of a group follow each other, arrows lead from older to younger between groups, too.
    """
    calls = {node: number for number, nodes in enumerate(members) for node in nodes}
    used = used_in_one_place(view.edges, calls.get)
    parts = {node: number for node, number in used.items() if number is not None}
    return Fold([Group(_title(nodes), nodes[0].role) for nodes in members], calls | parts)


def _title(nodes: list[Node]) -> str:
    """The module that all these calls were made in, or what they are."""
    shared = [frame for frame in nodes[0].frames if all(frame in node.frames for node in nodes)]
    return shared[-1].title if shared else ", ".join(dict.fromkeys(node.role for node in nodes))


def _by_role(view: View, fold: Fold) -> Fold:
    """With the given values that are left, in one group for each role that has many."""
    left = [node for node in view.nodes if node.function is None and node not in fold.group_of]
    many = [role for role, count in Counter(node.role for node in left).items() if count > _FEW]
    numbers = {role: len(fold.groups) + i for i, role in enumerate(many)}
    groups = fold.groups + [Group("", role) for role in many]
    return Fold(groups, fold.group_of | {node: numbers[node.role] for node in left if node.role in numbers})


# Parts of a call ------------------------------------------------------------------------------------------------------


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
