"""The story of a computation: every step of it, forward and back, in words and numbers, as JSON for `explain`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from microgradopt.graph.graph import CONSTANT, Edge, Graph, Node
from microgradopt.graph.modules import Frame, numbered
from microgradopt.page.formulas import of_call, of_derivative, of_share
from microgradopt.page.names import call, called, is_inlined, sign
from microgradopt.page.steps import Share
from microgradopt.picture.fold import used_in_one_place
from microgradopt.picture.words import count, prefixed
from microgradopt.tensor import Tensor

_TINY = 3  # elements of an array that a box of the picture shows whole
_SMALL = 12  # elements of an array that a step shows whole
_WHOLE = 64  # elements of an array that is shown whole where it is pointed at
_WIDE = 22  # characters of a value in a box

Json = dict[str, Any]


class Story:
    """What the page tells: `nodes`, `modules`, `edges`, `lines` of source and `steps`, as JSON has them.

    names: what the user calls a value, where that is another name than the page's.
    """

    def __init__(self, graph: Graph, tensors: dict[Node, Tensor], names: dict[Node, str]) -> None:
        self.graph, self.tensors, self.names = graph, tensors, names
        self.number = {node: i for i, node in enumerate(graph)}
        self.nodes = [self._described(node) for node in graph]
        self.modules = self._modules()
        self.edges = [[x.name(self.number), self.number[x.source], self.number[x.target]] for x in graph.edges]
        self.lines: list[Json] = []
        self.steps: list[Json] = []

    def _described(self, node: Node) -> Json:
        """A node as the picture and its tooltip have it."""
        inlined = is_inlined(node)
        return {
            "name": called(node),
            "sign": "" if inlined else sign(node),
            "call": "" if node.function is None else call(node),
            "what": self._origin(node) if node.function is None else node.role,
            "rows": ["value"] * (not inlined) + ["grad"] * self._wants_gradient(node),
            "shape": str(getattr(node.value, "shape", ())),
            "dtype": getattr(node.dtype, "__name__", str(node.dtype)),
        }

    def _origin(self, node: Node) -> str:
        """Where a given value comes from: "parameter 0.weight"."""
        if node.computed_from:
            return f"computed from {', '.join(x.name for x in node.computed_from)}, without a gradient"
        return ("given array" if node.role == CONSTANT else node.role) + prefixed(" ", self.names.get(node, ""))

    def _wants_gradient(self, node: Node) -> bool:
        return node in self.tensors and self.tensors[node].requires_grad

    def _modules(self) -> list[Json]:
        """The calls of modules, as boxes around more than one node; with the node that is the result of each.

        A parameter that is used in one of them is in it.
        """
        homes = used_in_one_place(self.graph.edges, lambda node: node.frames)
        frames = {node: node.frames if node.function is not None else homes.get(node, ()) for node in self.graph}
        sizes = Counter(own[:i] for own in frames.values() for i in range(1, len(own) + 1))
        calls = numbered(frame for own in frames.values() for frame in own)
        found: dict[tuple[Frame, ...], int] = {}
        modules: list[Json] = []
        for node, own in frames.items():
            parent = -1
            for around in (own[:i] for i in range(1, len(own) + 1)):
                if sizes[around] > 1 and around not in found:
                    frame = around[-1]
                    found[around] = len(modules)
                    modules.append({"title": frame.title, "call": calls[frame], "parent": parent})
                parent = found.get(around, parent)
                if around in found and node.function is not None:
                    modules[found[around]]["result"] = self.number[node]
            self.nodes[self.number[node]]["parent"] = parent
        return modules

    def forward(self) -> None:
        """What is given, and then one value after the other."""
        given = [node for node in self.graph if node.function is None and not is_inlined(node)]
        values = {self.number[node]: _quantity(node.value) for node in self.graph if node.function is None}
        self._step(
            "forward",
            "What is given",
            table=[
                ["", "what", "shape", "value"],
                *([x.name, self._origin(x), str(x.shape), *_boxes(x.value)] for x in given),
            ],
            nodes=list(values),
            note="→ and ← step, the space bar plays, Home and End lead to the ends. Point at a value to see all of it.",
            line=f"# given: {', '.join(node.name for node in given)}",
            values=values,
        )
        for node in self.graph:
            if node.function is not None:
                self._call(node)

    def _call(self, node: Node) -> None:
        value, formula = _quantity(node.value), of_call(node)
        operands = {x: _quantity(x.value) for x in node.inputs}
        terms = [_term("and" if i else "", called(x), "", q) for i, (x, q) in enumerate(operands.items())]
        self._step(
            "forward",
            f"{node.name} = {call(node)}",
            rows=[[*terms, _term("→", node.name, _right(formula), value)]],
            nodes=[self.number[node]],
            edges=[Edge(x, node, slot, part).name(self.number) for slot, part, x in node.operands()],
            line=formula,
            values={self.number[node]: value},
        )

    def backward(self, found: list[Share]) -> None:
        """The sweep's first 1, then share after share, then the gradients."""
        output, name = self.graph.outputs[0], self.graph.outputs[0].name
        self._step(
            "backward",
            f"The sweep starts at {name}, with d_{name} = 1",
            note=f"The derivative of {name} by itself is 1. From here on: the newest value first, and each hands a "
            "share to each of its inputs.",
            nodes=[self.number[output]],
            line=f"d_{name} = np.ones_like({name})",
            grads={self.number[output]: _quantity(np.ones(output.shape))},
        )
        awaited = {node: sum(x.edge.source is node for x in found) for node in self.graph}
        for x in found:
            awaited[x.edge.source] -= 1
            self._share(x, awaited[x.edge.source])
        self._gradients()

    def _share(self, x: Share, awaited: int) -> None:
        source, target, line = x.edge.source.name, x.edge.target.name, of_share(x, self.tensors)
        contribution = _term("=", f"contribution{_over(x.copied)}", "", _quantity(x.contribution))
        upstream = _term("×", f"upstream d_{target}", "", _quantity(x.upstream))
        if x.local is not None:
            formula = of_derivative(x)
            formula = "" if formula in ("1.0", "-1.0") else formula  # says no more than the number
            rows = [[_term("", f"local ∂{target}/∂{source}", formula, _quantity(x.local)), upstream, contribution]]
        else:
            rule = _right(line).removeprefix(f"d_{source} + ")
            rows = [[{**upstream, "sign": ""}, _term("→", "the rule", rule, None), contribution]]
        if x.before is not None:
            sofar = _term("", f"d_{source} so far", "", _quantity(x.before))
            rows.append([sofar, {**contribution, "sign": "+"}, _term("=", f"d_{source}", "", _quantity(x.after))])
        met = f"Paths meet in {source}, and their shares add up. " if x.before is not None else ""
        self._step(
            "backward",
            f"{target} hands {source} its share",
            rows=rows,
            note=(f"Broadcasting had copied {source}. " if x.copied else "") + met + _waiting(source, awaited),
            nodes=[self.number[x.edge.target]],
            to=self.number[x.edge.source],
            edges=[x.edge.name(self.number)],
            line=line,
            grads={self.number[x.edge.source]: _quantity(x.after)},
        )

    def _gradients(self) -> None:
        leaves = [node for node in self.graph if node.function is None and self._wants_gradient(node)]
        self._step(
            "backward",
            "The gradients are there",
            table=[["", "value", "gradient"], *([x.name, *_boxes(x.value, x.gradient)] for x in leaves)],
            nodes=[self.number[x] for x in leaves],
            note="How much the result changes when each of these changes by a little.",
        )

    def update(self, name: str, formula: str, found: dict[Node, list[Any]]) -> None:
        """The step of an optimizer. name: of its class. found: of each parameter, before, gradient and after."""
        self._step(
            "update",
            f"{name} takes a step",
            formula=formula,
            table=[["", "before", "gradient", "after"], *([x.name, *_boxes(*values)] for x, values in found.items())],
            nodes=[self.number[node] for node in found],
            note="θ: a parameter; g: its gradient; t: the number of steps before. Terms that are 0 are left out. "
            "This is shown, not done: your tensors and your optimizer are as they were.",
            line=f"optimizer.step()  # {name}",
            values={self.number[node]: _quantity(after) for node, (_, _, after) in found.items()},
        )

    def _step(self, phase: str, title: str, line: str = "", **told: Any) -> None:
        """Add a step. line: of source, that is added too. nodes: the current ones. rows: terms of equations.

        values, grads: what nodes show from now on.
        """
        if line:
            told["line"] = len(self.lines)
            self.lines.append({"phase": phase, "text": line})
        self.steps.append({"phase": phase, "title": title, **told})


# Words ----------------------------------------------------------------------------------------------------------------


def _right(formula: str) -> str:
    """A formula without the name of its result, if it is of one line."""
    return formula if "\n" in formula else formula.partition(" = ")[2]


def _term(sign: str, label: str, code: str, quantity: Json | None) -> Json:
    """One term of an equation: its sign, what it is, its formula, its number."""
    value, shape = (quantity["short"], quantity["shape"]) if quantity else ("", "")
    return {"sign": sign, "label": label, "code": code, "value": value, "shape": shape}


def _quantity(x: Any) -> Json:
    """A number or an array in words: for a box of the picture, for a step, in full, and its shape if it has one."""
    if isinstance(x, tuple):  # of a function with several results
        several, parts = f"{len(x)} arrays", "\n".join(_quantity(part)["full"] for part in x)
        return {"box": several, "short": several, "full": parts, "shape": ""}
    array = np.asarray(x)
    if array.ndim == 0:
        number = f"{array[()]:.6g}" if array.dtype.kind == "f" else str(array[()])
        return {"box": number, "short": number, "full": str(array[()]), "shape": ""}
    box = _array(array, _TINY if array.ndim == 1 else 1, 3)
    box = box if len(box) <= _WIDE else _array(array, 1, 3)
    return {"box": box, "short": _array(array, _SMALL, 4), "full": _array(array, _WHOLE, 6), "shape": str(array.shape)}


def _boxes(*values: Any) -> list[str]:
    return [_quantity(x)["box"] for x in values]


def _array(x: Any, most: int, digits: int) -> str:
    """An array whole if it is small, else from where to where its elements go."""
    if x.size <= most:
        return np.array2string(x, separator=", ", formatter={"float_kind": lambda number: f"{number:.{digits}g}"})
    low, high = f"{x.min():.{digits}g}", f"{x.max():.{digits}g}"
    return f"{low} … {high}" if low != high else f"all {low}"


def _over(axes: tuple[int, ...]) -> str:
    """How the sum that undoes broadcasting is told."""
    return f", summed over ax{'is' if len(axes) == 1 else 'es'} {', '.join(map(str, axes))}" if axes else ""


def _waiting(source: str, awaited: int) -> str:
    if awaited:
        return f"{source} waits for {count(awaited, 'more share')} before it hands on anything."
    return f"d_{source} is complete."
