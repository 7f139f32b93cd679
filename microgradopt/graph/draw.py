"""draw: the picture of a computation.

A value that was given is a rounded box, a call a plain one; arrows go from arguments to results. What sort of value it
is, and in which sweep a call was made, is told by colour, and once more by the line or in words, for eyes and printers
that have no colours. Calls made in a module stand together in its frame. Everything else there is to know of a node is
in its tooltip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import graphviz
import numpy as np

from microgradopt.graph import dot
from microgradopt.graph.cost import cost, flops, new_bytes
from microgradopt.graph.fold import Fold, folded
from microgradopt.graph.graph import (
    BACKWARD,
    CONSTANT,
    DOUBLE_BACKWARD,
    FORWARD,
    INPUT,
    PARAMETER,
    Graph,
    Node,
    base_name,
)
from microgradopt.graph.render import GraphvizMissingError, picture
from microgradopt.graph.trace import Names, trace
from microgradopt.tensor import Tensor

_FONT = {"fontname": "Helvetica,Arial,sans-serif", "fontsize": "11"}
_LOOKS = {
    INPUT: {"shape": "box", "style": "rounded,filled", "fillcolor": "#eef6ee", "color": "#4b8b4b"},
    PARAMETER: {"shape": "box", "style": "rounded,filled", "fillcolor": "#e8f0fb", "color": "#3a6cb5"},
    CONSTANT: {"shape": "box", "style": "rounded,filled", "fillcolor": "#f4f4f4", "color": "#9a9a9a"},
    FORWARD: {"shape": "box", "style": "filled", "fillcolor": "#ffffff", "color": "#333333"},
    BACKWARD: {"shape": "box", "style": "filled,dashed", "fillcolor": "#fff3e2", "color": "#b3690c"},
    DOUBLE_BACKWARD: {"shape": "box", "style": "filled,dotted", "fillcolor": "#f6ebfa", "color": "#7c3a97"},
}
_WRONG = {"color": "#c01818", "penwidth": "3"}
_LINES = {FORWARD: "solid", BACKWARD: "dashed", DOUBLE_BACKWARD: "dotted"}


class Drawing(graphviz.Digraph):  # type: ignore[misc]
    """A picture of a graph: `source` is its DOT text, `render` and `pipe` draw it; notebooks show it by themselves.

    It is drawn by Graphviz's ``dot``, or where that is not installed by graphviz-pure (``microgradopt[viz]``). Without
    either, drawing raises GraphvizMissingError, and a notebook shows the text instead.
    """

    def pipe(self, format: str | None = None, *args: Any, encoding: str | None = None, **options: Any) -> Any:
        """The picture as bytes, or, with an encoding, as text. format: "svg", "png", "pdf", ... Raises as `picture`."""
        drawn = picture(self.source, format or "svg", options.get("engine") or self.engine)
        return drawn if encoding is None else drawn.decode(encoding)

    def render(
        self,
        filename: str | Path | None = None,
        directory: str | Path | None = None,
        view: bool = False,
        cleanup: bool = False,
        format: str | None = None,
        *args: Any,
        **options: Any,
    ) -> str:
        """Write the DOT text, and the picture beside it, whose path is returned. As ``graphviz.Digraph.render``.

        format: "svg" unless given. cleanup: keep the picture alone. view: open it.
        """
        kind = format or "svg"
        drawn = self.pipe(kind, engine=options.get("engine"))
        saved = Path(self.save(filename, directory))
        target = Path(f"{saved}.{kind}")
        target.write_bytes(drawn)
        if cleanup:
            saved.unlink()
        if view:
            self._view(str(target), format=kind, quiet=False)
        return str(target)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **options: Any) -> dict[str, Any]:
        try:
            shown: dict[str, Any] = super()._repr_mimebundle_(include, exclude, **options)
        except (GraphvizMissingError, RuntimeError) as error:
            return {"text/plain": f"{error}\n\n{self.source}"}
        return shown


def draw(
    thing: Tensor | Sequence[Tensor] | Graph,
    names: Names | None = None,
    inputs: Tensor | Sequence[Tensor] = (),
    style: str = "arrays",
    depth: int | None = None,
    gradients: bool = False,
) -> Drawing:
    """The picture of a computation.

    thing: what was computed, a tensor or several; or a `Graph`, of `trace` or of a compiled function.
    names, inputs, gradients: as for `trace`; for tensors only.
    style: "arrays" shows every call with the shape and range of its result; "scalar", for expressions of numbers, shows
    what micrograd shows: name, data and grad of every value, and between them the operations.
    depth: fold what was done in a module at this depth, or deeper, into one node: 1 for the outermost. By default
    graphs of more than 300 nodes are folded, into runs of calls where there are no modules.

    The same graph gives the same DOT text. Node i of the graph has the id "ni" in an SVG, the edge from it to argument
    k of node j "ei-j-k".

    Raises TypeError for anything else, ValueError for an unknown style.
    """
    if style not in ("arrays", "scalar"):
        raise ValueError(f'draw: style is "arrays" or "scalar", not {style!r}')
    if isinstance(thing, Graph):
        graph = thing
    else:
        graph = trace(thing, inputs, names, gradients=gradients or (style == "scalar" and _is_swept(thing)))
    drawing = Drawing("computation", engine="dot", graph_attr={"rankdir": "LR" if style == "scalar" else "TB"})
    drawing.attr("graph", **_FONT, labelloc="b", nodesep="0.25", ranksep="0.35", bgcolor="white")
    drawing.attr("node", **_FONT, margin="0.12,0.06", height="0.3")
    drawing.attr("edge", **_FONT | {"fontsize": "9"}, color="#666666", arrowsize="0.6")
    if style == "scalar":
        _draw_scalars(drawing, graph)
    else:
        _draw_arrays(drawing, graph, folded(graph, depth))
    return drawing


def _is_swept(thing: Any) -> bool:
    """Whether a backward pass has been made: then intermediate values have gradients too, for micrograd shows them."""
    one = thing[0] if isinstance(thing, list | tuple) and len(thing) == 1 else thing
    if not isinstance(one, Tensor) or one.size != 1:
        return False
    return any(node.gradient is not None for node in trace(one))


# Arrays ---------------------------------------------------------------------------------------------------------------


def _draw_arrays(drawing: Drawing, graph: Graph, fold: Fold) -> None:
    ids = {node: f"n{i}" for i, node in enumerate(graph.nodes)}
    frames = _Frames(drawing)
    for node in graph.nodes:
        if node not in fold.group_of:
            frames.at(node.module).node(ids[node], _label(node, node in graph.outputs), **_attributes(node, ids[node]))
    for i, group in enumerate(fold.groups):
        costs = _costs(group.cost.flops, group.cost.bytes)
        label = dot.lines(group.name, _count(group.cost.operations), *costs)
        drawing.node(f"g{i}", label, **_LOOKS[group.role] | {"shape": "box3d", "id": f"g{i}"})
    frames.close()
    for (source, target), edges in fold.edges(graph).items():
        tail, head = (ids[x] if isinstance(x, Node) else f"g{x}" for x in (source, target))
        if isinstance(target, Node) and isinstance(source, Node):
            for edge in edges:
                part = "" if edge.part is None else f"-{edge.part}"
                name, line = f"e{tail[1:]}-{head[1:]}-{edge.slot}{part}", _LINES.get(target.role, "solid")
                drawing.edge(tail, head, _edge_label(target, edge.slot), id=name, style=line)
        else:
            drawing.edge(tail, head, f"{len(edges)} ×" if len(edges) > 1 else "")
    drawing.attr("graph", label=_legend(graph, fold))


def _attributes(node: Node, name: str) -> dict[str, str]:
    wrong = _WRONG if dot.warning(node.value) or dot.warning(node.gradient) else {}
    return _LOOKS[node.role] | wrong | {"id": name, "tooltip": dot.lines(dot.tooltip(node))}


def _label(node: Node, is_output: bool) -> str:
    """What stands in the box: what it is, its name, shape and values, its gradient; what is wrong with it."""
    given = node.function is None
    wrong = dot.warning(node.value)
    gradient = dot.gradient(node) if given or node.gradient is not None else ""
    bad_gradient = dot.warning(node.gradient)
    return dot.lines(
        "" if given else dot.sign(node),
        node.name if is_output or not _is_numbered(node) else "",
        dot.kind(node),
        dot.value(node.value),
        f"⚠ {wrong}" if wrong else "",
        f"gradient {gradient}" if gradient else "",
        f"⚠ gradient: {bad_gradient}" if bad_gradient else "",
        *([] if given else _costs(flops(node), new_bytes(node))),
    )


def _is_numbered(node: Node) -> bool:
    """Whether the name is only a number behind what it is anyway, and so says nothing new."""
    return node.name.rstrip("0123456789") == base_name(node)


def _costs(operations: int, size: int) -> list[str]:
    told = [dot.amount(operations, "flop")] if operations > 1 else []
    return [" · ".join([*told, dot.amount(size, "B")])] if size > 8 else []


def _count(operations: int) -> str:
    return f"{operations} operation{'s' * (operations != 1)}"


def _edge_label(target: Node, slot: int) -> str:
    """Which argument this is, where it matters."""
    if target.operation in dot.COMMUTING or len(target.inputs) < 2:
        return ""
    return dot.lines(target.argument_name(slot))


def _legend(graph: Graph, fold: Fold) -> str:
    """What the lines under the picture say: totals, what is dashed, what was folded."""
    total = cost(graph.nodes)
    said = [f"{_count(total.operations)}, {dot.amount(total.flops, 'flop')}, {dot.amount(total.bytes, 'B')}"]
    later = [f"{role}: {_LINES[role]}" for role in (BACKWARD, DOUBLE_BACKWARD) if graph.roles().get(role)]
    if later:
        said.append(", ".join(["forward: solid", *later]))
    if fold.groups:
        said.append(
            f"{len(fold.group_of)} of {len(graph)} nodes folded into {len(fold.groups)}; depth= unfolds modules"
        )
    return dot.lines(*said)


class _Frames:
    """A frame for each module, inside of that of the module around it. They are drawn when they are closed."""

    def __init__(self, drawing: Drawing) -> None:
        self._open: dict[str, Any] = {"": drawing}

    def at(self, path: str) -> Any:
        """The drawing that a module's nodes go into."""
        if path not in self._open:
            frame = graphviz.Digraph(f"cluster_{len(self._open)}")
            frame.attr(label=dot.lines(path), style="rounded", color="#bbbbbb", fontcolor="#666666", labeljust="l")
            self.at(_parent(path))
            self._open[path] = frame
        return self._open[path]

    def close(self) -> None:
        """Put every frame into the one around it, the innermost first."""
        for path in sorted(self._open, key=lambda path: -path.count(".") if path else 1):
            if path:
                self._open[_parent(path)].subgraph(self._open[path])


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


# Numbers: micrograd's picture -----------------------------------------------------------------------------------------


def _draw_scalars(drawing: Drawing, graph: Graph) -> None:
    """A record for each value, { name | data | grad }, and a circle for the operation that made it."""
    ids = {node: f"n{i}" for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        name = "" if _is_numbered(node) else dot.field(node.name)
        data = f"{node.value:.4f}" if np.ndim(node.value) == 0 else dot.value(node.value)
        grad = dot.gradient(node)
        fields = [name, f"data {dot.field(data)}", *([f"grad {dot.field(_four(node))}"] if grad else [])]
        fields += [dot.field(f"⚠ {dot.warning(node.value)}")] if dot.warning(node.value) else []
        label = "{ " + " | ".join(x for x in fields if x) + " }"
        drawing.node(ids[node], label, **_attributes(node, ids[node]) | {"shape": "record"})
        if node.function is not None:
            made = f"op{ids[node]}"
            drawing.node(made, dot.lines(dot.sign(node)), shape="circle", margin="0.02", id=made)
            drawing.edge(made, ids[node])
    for edge in graph.edges:
        tail, head = ids[edge.source], ids[edge.target]
        drawing.edge(tail, f"op{head}", _edge_label(edge.target, edge.slot), id=f"e{tail[1:]}-{head[1:]}-{edge.slot}")


def _four(node: Node) -> str:
    """A gradient with four decimals, as micrograd writes it."""
    if node.gradient is None or np.ndim(node.gradient):
        return dot.gradient(node)
    return f"{float(node.gradient):.4f}"
