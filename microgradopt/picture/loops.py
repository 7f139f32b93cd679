"""Loops in a graph: calls that repeat, so that a picture can show them once.

Nothing in a graph says "for". A loop is found where the same calls come again and again, with operands that lie as far
back each time, or are the same, or are given anew each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from microgradopt.graph.graph import PARAMETER, Edge, Graph, Node

_LEAST_TIMES, _LEAST_CALLS = 3, 24  # a loop that runs less often, or makes fewer calls in all, is drawn as it is
_LONGEST = 1000  # calls of one turn
_TRIED = 50


class Loop(NamedTuple):
    """Calls that are made several times. body: those of the first turn. times: how often."""

    body: list[Node]
    times: int


class View(NamedTuple):
    """A graph as it is drawn: of each loop the first turn alone.

    edges: those between the nodes that are left; what comes out of a later turn comes out of the first. carried: from a
    turn to a later one. varying: values and calls of a first turn that are others in the next.
    """

    nodes: list[Node]
    edges: list[Edge]
    outputs: list[Node]
    loops: list[Loop]
    carried: list[Edge]
    varying: set[Node]


def whole(graph: Graph) -> View:
    """A graph without looking for loops."""
    return View(graph.nodes, graph.edges, graph.outputs, [], [], set())


def rolled(graph: Graph) -> View:
    """A graph with its loops drawn once."""
    calls = [node for node in graph.nodes if node.function is not None]
    found = list(_loops(calls))
    if not found:
        return whole(graph)
    first: dict[Node, Node] = {}  # of a later turn's call, that of the first turn
    turn: dict[Node, tuple[int, int]] = {}  # the loop of a call, and in which turn it is made
    for number, (start, period, times) in enumerate(found):
        for i in range(period * times):
            turn[calls[start + i]] = number, i // period
            if i >= period:
                first[calls[start + i]] = calls[start + i % period]
    edges: list[Edge] = []
    carried: dict[Edge, None] = {}
    varying: set[Node] = set()
    for edge in graph.edges:
        source, target = first.get(edge.source, edge.source), first.get(edge.target, edge.target)
        if edge.target not in first:
            edges.append(edge._replace(source=source))
            continue
        (loop, before), (same, now) = turn.get(edge.source, (-1, 0)), turn[edge.target]
        if loop == same and before != now:
            carried[edge._replace(source=source, target=target)] = None
    for later, once in first.items():
        varying.update(x for x, y in zip(once.inputs, later.inputs, strict=True) if _is_another(x, y))
        if _settings(once) != _settings(later):
            varying.add(once)
    used = {edge.source for edge in edges} | set(graph.outputs)
    nodes = [node for node in graph.nodes if node not in first and (node.function is not None or node in used)]
    loops = [Loop(calls[start : start + period], times) for start, period, times in found]
    outputs = list(dict.fromkeys(first.get(node, node) for node in graph.outputs))
    return View(nodes, edges, outputs, loops, list(carried), varying)


def _is_another(x: Node, y: Node) -> bool:
    """Whether two given values differ: numbers by value, and arrays where they are not the same object."""
    if x is y or x.function is not None or y.function is not None:
        return False
    return bool(x.shape) or x.value != y.value


def _loops(calls: list[Node]) -> Iterator[tuple[int, int, int]]:
    """Start, length of a turn, and number of turns of each loop: first that which takes up most calls."""
    number = {node: i for i, node in enumerate(calls)}
    kinds: dict[Any, int] = {}
    sequence = np.array([kinds.setdefault(_kind(node), len(kinds)) for node in calls])
    taken = np.zeros(len(calls), bool)
    for start, period, length in sorted(_repeats(sequence), key=lambda x: (-x[2], x[1], x[0]))[:_TRIED]:
        ways = []
        for first in range(start, start + min(period, length - _LEAST_TIMES * period + 1)):
            times = (start + length - first) // period
            is_free = not taken[first : first + times * period].any() and times * period >= _LEAST_CALLS
            if is_free and _is_loop(calls, number, first, period, times):
                ways.append((len(_handed_on(calls, number, first, period)), first, times))
        if ways:
            _, first, times = min(ways)  # a turn begins where least is handed on to the next
            taken[first : first + times * period] = True
            yield first, period, times


def _handed_on(calls: list[Node], number: dict[Node, int], start: int, period: int) -> set[Node]:
    """What the second turn takes from the first."""
    second = calls[start + period : start + 2 * period]
    return {x for node in second for x in node.inputs if start <= number.get(x, -1) < start + period}


def _repeats(sequence: Any) -> Iterator[tuple[int, int, int]]:
    """Start, period and length of the stretches that repeat with a period, at least three times."""
    for period in range(1, min(len(sequence) // _LEAST_TIMES, _LONGEST) + 1):
        again = np.concatenate([[False], sequence[:-period] == sequence[period:], [False]])
        ends = np.flatnonzero(again[1:] != again[:-1])
        for start, end in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True):
            length = end - start + period
            if length >= max(_LEAST_TIMES * period, _LEAST_CALLS):
                yield start, period, length


def _kind(node: Node) -> Any:
    """What is the same for the calls of one line in a loop."""
    return node.function, node.role, node.shape, node.dtype, node.module, len(node.inputs)


def _settings(node: Node) -> Any:
    """The arguments that are no operands."""
    return repr([x for i, x in enumerate(node.arguments) if not node.is_operand(i)]), repr(node.kwargs)


def _is_loop(calls: list[Node], number: dict[Node, int], start: int, period: int, times: int) -> bool:
    """Whether operands lie as they do in a loop: each as in the turn before, from the second turn on."""
    for i in range(start, start + period):
        turns = [calls[i + k * period].inputs for k in range(times)]
        for operands in zip(*turns, strict=True):
            if not _is_regular(operands, number, start, period):
                return False
    return True


def _is_regular(operands: tuple[Node, ...], number: dict[Node, int], start: int, period: int) -> bool:
    """One operand of one call, turn by turn."""
    places = [number.get(x) for x in operands]
    is_carried = places[1] is not None and places[1] >= start
    if is_carried and (places[0] is None or places[0] < start):  # into the first turn it comes from elsewhere
        operands, places = operands[1:], places[1:]
    if None in places:
        same_kind = {(x.role, x.shape, x.function) for x in operands}
        return len(same_kind) == 1 and (operands[0].role != PARAMETER or len(set(operands)) == 1)
    steps = {later - earlier for earlier, later in itertools.pairwise(places)}  # type: ignore[operator]
    return len(steps) <= 1
