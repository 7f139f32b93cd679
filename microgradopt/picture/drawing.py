"""draw: the picture of a computation.

A value that was given is a rounded box, a call a plain one; arrows go from arguments to results. What sort of value it
is, and in which sweep a call was made, is told by colour, and once more by the line or in words, for eyes and printers
that have no colours. Calls made in a module stand together in its frame, and the calls of a loop are drawn once. Where
broadcasting makes a result larger than each of its operands, the box is brown and says so. Everything else there is to
know of a node is in its tooltip.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from microgradopt.autodiff import listed_tensors
from microgradopt.errors import OverwrittenError
from microgradopt.graph.cost import cost
from microgradopt.graph.graph import (
    BACKWARD,
    CONSTANT,
    DOUBLE_BACKWARD,
    FORWARD,
    INPUT,
    PARAMETER,
    Edge,
    Graph,
    Node,
    has_own_name,
)
from microgradopt.graph.reader import Names, trace
from microgradopt.picture import words
from microgradopt.picture.fold import Fold, folds, layout_cost, used_in_one_place
from microgradopt.picture.frames import QUIET, Framed
from microgradopt.picture.loops import View, rolled, whole
from microgradopt.picture.render import Drawing
from microgradopt.tensor import Tensor

__all__ = ["Drawing", "draw"]

_FONT = {"fontname": "Helvetica,Arial,sans-serif", "fontsize": "11"}
_LOOKS = {
    INPUT: {"style": "rounded,filled", "fillcolor": "#eef6ee", "color": "#4b8b4b"},
    PARAMETER: {"style": "rounded,filled", "fillcolor": "#e8f0fb", "color": "#3a6cb5"},
    CONSTANT: {"style": "rounded,filled", "fillcolor": "#f4f4f4", "color": "#9a9a9a"},
    FORWARD: {"style": "filled", "fillcolor": "#ffffff", "color": "#333333"},
    BACKWARD: {"style": "filled,dashed", "fillcolor": "#fff3e2", "color": "#b3690c"},
    DOUBLE_BACKWARD: {"style": "filled,dotted", "fillcolor": "#f6ebfa", "color": "#7c3a97"},
}
_WRONG = {"color": "#c01818", "penwidth": "3"}
_FAILED = _WRONG | {"style": "filled", "fillcolor": "#fbe3e3"}
_BROADCAST = {"color": "#8a3f1d", "fontcolor": "#8a3f1d", "penwidth": "2"}
_LINES = {FORWARD: "solid", BACKWARD: "dashed", DOUBLE_BACKWARD: "dotted"}
_COLOURS = {
    INPUT: "green", PARAMETER: "blue", CONSTANT: "grey", FORWARD: "white",
    BACKWARD: "orange, dashed", DOUBLE_BACKWARD: "violet, dotted",
}  # fmt: skip


def draw(
    thing: Tensor | Sequence[Tensor] | Graph,
    names: Names | None = None,
    inputs: Tensor | Sequence[Tensor] = (),
    style: str = "arrays",
    depth: int | None = None,
    gradients: bool = False,
    roll: bool = True,
) -> Drawing:
    """The picture of a computation.

    thing: what was computed, a tensor or several; or a `Graph`, of `trace` or of a compiled function.
    names, inputs, gradients: as for `trace`; for tensors only.
    style: "arrays" shows every call with the shape and range of its result; "scalar", for expressions of numbers, shows
    what micrograd shows: name, data and grad of every value, and between them the operations. The gradients of values
    on the way are computed for it where the leaves have theirs from a backward pass through the same computation.
    depth: fold what was done in one call of a module into one node, and its parameters with it: 1 for the outermost
    modules, 2 for those in them. By default graphs of more than 300 nodes are folded, into runs of calls where there
    are no modules.
    roll: draw a loop once, with how often it ran and with bold arrows for what one turn hands to the next. A loop is
    what repeats the same calls with the same parameters, 24 calls or more.

    The same graph gives the same DOT text. Node i of the graph has the id "ni" in an SVG, the edge from it to argument
    k of node j "ei-j-k", or "ei-j-k-l" where it is element l of a list.

    Raises TypeError for anything else, and for names, inputs or gradients of a `Graph`; ValueError for an unknown
    style, and for a depth below 1.

    >>> x = Tensor(2.0, requires_grad=True)
    >>> "digraph" in draw(x * x, names={"x": x}).source
    True
    """
    if style not in ("arrays", "scalar"):
        raise ValueError(f'draw: style is "arrays" or "scalar", not {style!r}')
    if depth is not None and (type(depth) is not int or depth < 1):
        raise ValueError(f"draw: depth is 1 for the outermost modules, 2 for those in them, ...; not {depth!r}")
    if isinstance(thing, Graph):
        if names is not None or gradients or not isinstance(inputs, tuple) or inputs:
            raise TypeError("draw: names, inputs and gradients are for tensors; those of a Graph are in it already")
        graph = thing
    else:
        graph = _traced(thing, names, inputs, gradients, style)
    view = rolled(graph) if roll else whole(graph)
    return _drawn(graph, view, folds(view, depth), style == "scalar", _wanting(inputs))


_COSTLY = 2500  # measured: below, Graphviz takes less than some seconds; above, soon minutes


def _drawn(graph: Graph, view: View, ways: list[Fold], is_scalar: bool, wanting: set[int]) -> Drawing:
    """The picture, folded in the first way that Graphviz can lay out; the next, in case it takes too long after all."""
    while len(ways) > 1 and layout_cost(_arrows(view.edges, ways[0]), ways[0]) > _COSTLY:
        ways = ways[1:]
    drawing = _Picture(graph, view, ways[0], is_scalar, wanting).drawing()
    if ways[1:]:
        drawing.smaller = functools.partial(_drawn, graph, view, ways[1:], is_scalar, wanting)
    return drawing


def _arrows(edges: list[Edge], fold: Fold) -> list[Edge]:
    repeated = _repeated(edges, fold)
    return [edge for edge in edges if edge not in repeated]


def _traced(thing: Any, names: Names | None, inputs: Any, gradients: bool, style: str) -> Graph:
    """The graph of tensors, with the gradients that are to be shown."""
    several = list(thing) if isinstance(thing, list | tuple) else [thing]
    wrong = [x for x in several if not isinstance(x, Tensor)]
    if not several or wrong:
        hint = ""
        if wrong and hasattr(wrong[0], "draw"):
            hint = "; a compiled function has a method draw()"
        elif wrong and callable(wrong[0]):
            hint = "; call it first, and draw what it gives"
        kind = type(wrong[0]).__name__ if wrong else "an empty list"
        raise TypeError(f"draw: wants a tensor, several, or a Graph, not {kind}{hint}")
    graph = trace(several, inputs, names, gradients)
    if style == "scalar" and not gradients and len(several) == 1 and several[0].size == 1:
        return _after_backward(graph, several[0], names, inputs)
    return graph


def _after_backward(graph: Graph, output: Tensor, names: Names | None, inputs: Any) -> Graph:
    """The graph with the gradients of all values on the way, if those of the leaves come from a backward pass through
    it; as it is, if they come from elsewhere, or of several passes: it would show numbers that do not belong together.
    """
    known = [i for i, node in enumerate(graph.nodes) if node.function is None and node.gradient is not None]
    if not known:
        return graph
    try:
        with np.errstate(all="ignore"):  # what is wrong is marked in the picture
            swept = trace(output, inputs, names, gradients=True)
    except OverwrittenError:  # an optimizer's step came since, and only the leaves' gradients are still to be had
        return graph
    pairs = [(graph.nodes[i].gradient, swept.nodes[i].gradient) for i in known]
    return swept if all(np.allclose(left, now, equal_nan=True) for left, now in pairs) else graph  # type: ignore[arg-type]


def _wanting(inputs: Any) -> set[int]:
    """By identity, the values of the inputs that want a gradient; a node does not know this of an input."""
    return {id(x.value) for x in listed_tensors("draw", inputs) if x.requires_grad}


_USES = 8  # of a given value, that get an arrow from its box


def _repeated(edges: list[Edge], fold: Fold) -> set[Edge]:
    """The uses of given values that are used often, but for the first: there the name is repeated.

    Layout is slow where a few boxes have arrows to every step of a loop: Graphviz needs minutes for 50 steps.
    """
    uses: dict[Node, list[Edge]] = {}
    for edge in edges:
        if edge.source.function is None and not {edge.source, edge.target} & fold.group_of.keys():
            uses.setdefault(edge.source, []).append(edge)
    return {edge for found in uses.values() if len(found) > _USES for edge in found[1:]}


class _Picture:
    """What is drawn, and how: `drawing` puts it together."""

    def __init__(self, graph: Graph, view: View, fold: Fold, is_scalar: bool, wanting: set[int]) -> None:
        self.graph, self.view, self.fold, self.is_scalar, self.wanting = graph, view, fold, is_scalar, wanting
        self.number = {node: i for i, node in enumerate(graph.nodes)}
        self.ids = {node: f"n{i}" for node, i in self.number.items()}
        self.outputs = set(view.outputs)
        self.repeated = _repeated(view.edges, fold)
        self.referred = {node.derivative_of for node in view.nodes}
        self.is_swept = any(node.gradient is not None for node in graph.nodes)

    def drawing(self) -> Drawing:
        drawing = Drawing("computation", format="svg", engine="dot")
        direction = "LR" if self.is_scalar else "TB"
        page = {"rankdir": direction, "nodesep": "0.25", "ranksep": "0.35", "newrank": "true", "bgcolor": "white"}
        drawing.attr("graph", **_FONT | page)
        drawing.attr("node", **_FONT, shape="box", margin="0.12,0.06", height="0.3")
        drawing.attr("edge", **_FONT | {"fontsize": "9"}, color=QUIET, fontcolor=QUIET, arrowsize="0.6")
        self._draw_nodes(drawing)
        self._draw_groups(drawing)
        self._draw_edges(drawing)
        drawing.attr("graph", label=self._legend(), labelloc="b", fontcolor=QUIET)
        drawing.description = words.described(self.view.nodes, self.view.outputs)
        return drawing

    # Nodes

    def _draw_nodes(self, drawing: Drawing) -> None:
        frames = Framed(drawing, self.view)
        homes = used_in_one_place(self.view.edges, frames.of)
        draw_one = self._draw_number if self.is_scalar else self._draw_box
        for node in self.view.nodes:
            if node not in self.fold.group_of:
                draw_one(frames.at(homes[node] if node in homes else frames.of(node)), node)
        frames.close()

    def _draw_box(self, frame: Any, node: Node) -> None:
        """A box: what it is, its name, shape and values, its gradient; what is wrong with it, and what it costs."""
        value = [self._sign(node), self._name(node), words.kind(node), words.shown(node)]
        label = words.lines(*value, *self._said(node, "gradient"), words.costs(cost([node])))
        frame.node(self.ids[node], label, **self._attributes(node))

    def _draw_number(self, frame: Any, node: Node) -> None:
        """Micrograd's record, { name | data | grad }, and a circle for the operation that made it."""
        data = words.shown(node) if node.value is None or node.shape else words.decimals(node.value)
        fields = [self._name(node), words.prefixed("data ", data) or words.kind(node), *self._said(node, "grad")]
        label = "{ " + " | ".join(words.field(text) for text in fields if text) + " }"
        attributes = self._attributes(node)
        frame.node(self.ids[node], label, **attributes | {"shape": "record"})
        if node.function is not None:
            made = self._receiver(node)
            round_ = {"id": made, "shape": "circle", "margin": "0.02"}
            frame.node(made, words.lines(self._sign(node)), **attributes | round_)
            frame.edge(made, self.ids[node], style=_LINES[node.role])

    def _said(self, node: Node, gradient: str) -> list[str]:
        """What is wrong with a value, and its gradient. gradient: what that is called."""
        return [
            words.broadcast(node),
            *words.failure(node),
            words.prefixed("⚠ ", words.warning(node.value)),
            words.prefixed(f"{gradient} ", self._gradient(node)),
            words.prefixed(f"⚠ {gradient}: ", words.warning(node.gradient)),
        ]

    def _attributes(self, node: Node) -> dict[str, str]:
        looks = _LOOKS[node.role] | (_BROADCAST if words.broadcast(node) else {})
        looks |= _WRONG if words.warning(node.value) or words.warning(node.gradient) else {}
        looks |= _FAILED if node.error else {}
        return looks | {"id": self.ids[node], "tooltip": words.lines(words.tooltip(node))}

    def _sign(self, node: Node) -> str:
        """What the call is; of a value that is another in each turn of a loop, that it is."""
        sign = words.sign(node) if node.function is not None else ""
        return ", ".join(filter(None, [sign, "another in each turn" * (node in self.view.varying)]))

    def _name(self, node: Node) -> str:
        """The name, if it says more than what the node is, or another refers to it ("d_sum1"); what is an output."""
        name = words.cut(words.variable(node.name)) if has_own_name(node) or node in self.referred else ""
        is_output = node in self.outputs and node.function is not None
        return f"output {name}".strip() if is_output and not (name and self.is_scalar) else name

    def _gradient(self, node: Node) -> str:
        """The gradient in words. Where a backward pass has been made, "not computed" is not 0."""
        if node.gradient is not None:
            is_number = self.is_scalar and not np.ndim(node.gradient)
            return words.decimals(node.gradient) if is_number else words.value(node.gradient) or "computed"
        is_wanted = node.role == PARAMETER or id(node.value) in self.wanting
        is_wanted = is_wanted or (self.is_scalar and node.function is not None)
        return "not computed" if self.is_swept and is_wanted else ""

    # Groups

    def _draw_groups(self, drawing: Drawing) -> None:
        members: list[list[Node]] = [[] for _ in self.fold.groups]
        for node, number in self.fold.group_of.items():
            members[number].append(node)
        for number, (group, nodes) in enumerate(zip(self.fold.groups, members, strict=True)):
            wrong = sum(words.warning(node.value) != "" for node in nodes)
            label = words.lines(
                group.name,
                words.calls(nodes),
                *words.givens(nodes),
                f"⚠ NaN or Inf in {words.count(wrong, 'value')}" if wrong else "",
                words.costs(cost(nodes)),
                *[line for node in nodes for line in words.failure(node)],
            )
            looks = _LOOKS[group.role] | (_WRONG if wrong else {})
            looks |= _FAILED if any(node.error for node in nodes) else {}
            drawing.node(f"g{number}", label, **looks | {"peripheries": "2", "id": f"g{number}"})

    # Edges

    def _draw_edges(self, drawing: Drawing) -> None:
        folded = self.fold.group_of
        for edge in self.view.edges:
            if edge.source not in folded and edge.target not in folded:
                label = words.prefixed(" ", words.lines(words.argument(edge)))  # the space keeps it off the line
                name, line = edge.name(self.number), _LINES[edge.target.role]
                source = self._reference(drawing, edge) if edge in self.repeated else self.ids[edge.source]
                drawing.edge(source, self._receiver(edge.target), label or None, id=name, style=line)
        for (source, target), edges in self.fold.edges(self.view.edges).items():
            if not (isinstance(source, Node) and isinstance(target, Node)):
                several = f" {len(edges)} ×" if len(edges) > 1 else None
                self._between(drawing, source, target, several, style=_LINES[edges[0].target.role])
        for source, target in self.fold.edges(self.view.carried):
            self._between(drawing, source, target, " next turn", style="bold", constraint="false")
        for node in self.view.nodes:
            for given in node.computed_from:
                self._between(drawing, self._end(given), self._end(node), " not recorded: no gradient", style="dotted")

    def _end(self, node: Node) -> Node | int:
        """What stands for a node: itself, or the group that it is in."""
        return self.fold.group_of.get(node, node)

    def _between(self, drawing: Drawing, source: Node | int, target: Node | int, label: str | None, **to: str) -> None:
        """An arrow between nodes or groups. to: its looks."""
        tail = self.ids[source] if isinstance(source, Node) else f"g{source}"
        head = self._receiver(target) if isinstance(target, Node) else f"g{target}"
        drawing.edge(tail, head, label, id=f"e-{tail}-{head}", **to)

    def _reference(self, drawing: Drawing, edge: Edge) -> str:
        """The name of a given value beside one more of its uses: a long arrow to each would hide the rest."""
        reference = f"r{edge.name(self.number)[1:]}"
        looks = {"shape": "plaintext", "fontcolor": QUIET, "id": reference}
        tooltip = words.lines(words.tooltip(edge.source))
        drawing.node(reference, words.lines(words.variable(edge.source.name)), tooltip=tooltip, **looks)
        return reference

    def _receiver(self, node: Node) -> str:
        """Where the arrows to a node's arguments end."""
        return f"op{self.ids[node]}" if self.is_scalar and node.function is not None else self.ids[node]

    # In words

    def _legend(self) -> str:
        """What the lines under the picture say: totals, colours, what was folded."""
        said = []
        if not self.is_scalar:
            total = cost(self.graph.nodes)
            counted = words.count(total.operations, "operation")
            said.append(f"{counted}, {words.amount(total.flops, 'flop')}, {words.amount(total.bytes, 'B')}")
        roles = {node.role for node in self.view.nodes}
        said.append(" · ".join(f"{role}: {colour}" for role, colour in _COLOURS.items() if role in roles))
        if self.view.loops:
            said.append("of each loop the first turn is shown, with its values; bold arrows lead to the next")
        if self.fold.groups:
            counts = f"{len(self.fold.group_of)} of {len(self.graph)} nodes folded into {len(self.fold.groups)}"
            said.append(f"{counts}; depth= unfolds modules")
        return words.lines(*said, *self.graph.remarks)
