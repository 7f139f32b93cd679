"""The story of a computation: every step of it, forward and back, in words and numbers, as JSON for `explain`."""

from __future__ import annotations

import inspect
import itertools
import textwrap
from typing import Any

import numpy as np

from microgradopt.graph.graph import CONSTANT, Edge, Graph, Node
from microgradopt.graph.text import call, identifier
from microgradopt.optim.optimizer import Optimizer
from microgradopt.page.derivatives import local, share
from microgradopt.page.steps import Share, Update
from microgradopt.picture.words import sign
from microgradopt.tensor import Tensor

_TINY = 3  # elements of an array that a box of the picture shows whole
_SMALL = 12  # elements of an array that a step shows whole
_WHOLE = 64  # elements of an array that is shown whole where it is pointed at

Json = dict[str, Any]


class Story:
    """What the page tells: `nodes`, `lines` of source and `steps`, as JSON has them."""

    def __init__(self, graph: Graph, tensors: dict[Node, Tensor]) -> None:
        self.graph, self.tensors = graph, tensors
        self.number = {node: i for i, node in enumerate(graph)}
        self.nodes = [self._described(node) for node in graph]
        self.lines: list[Json] = []
        self.steps: list[Json] = []

    def _described(self, node: Node) -> Json:
        """A node as the picture and its tooltip have it."""
        inlined = _is_inlined(node)
        return {
            "name": str(node.value) if inlined else node.name,
            "call": "" if node.function is None else call(node),
            "sign": "" if node.function is None or node.name.rstrip("0123456789") == sign(node) else sign(node),
            "role": node.role,
            "rows": ([] if inlined else ["value"]) + (["grad"] if self._wants_gradient(node) else []),
            "shape": str(_value(node, self.tensors).shape) if node.value is None else str(node.shape),
            "dtype": getattr(node.dtype, "__name__", str(node.dtype)),
        }

    def _wants_gradient(self, node: Node) -> bool:
        return node in self.tensors and self.tensors[node].requires_grad

    def forward(self) -> None:
        """What is given, and then one value after the other."""
        given = [node for node in self.graph if node.function is None]
        named = ", ".join(identifier(node.name) for node in given if not _is_inlined(node))
        self._step(
            "forward",
            f"Given: {named}",
            nodes=[self.number[node] for node in given],
            note="→ and ← step, the space bar plays, Home and End lead to the ends. Point at a value to see all of it.",
            line=self._line("forward", f"# given: {named}"),
            values={self.number[node]: _quantity(node.value) for node in given},
        )
        for node in self.graph:
            if node.function is not None:
                self._call(node)

    def _call(self, node: Node) -> None:
        name, value = identifier(node.name), _quantity(_value(node, self.tensors))
        operands = {x: _quantity(_value(x, self.tensors)) for x in node.inputs}
        terms = [_term("and" if i else "", _called(x), "", q) for i, (x, q) in enumerate(operands.items())]
        self._step(
            "forward",
            f"{name} = {call(node)}",
            rows=[[*terms, _term("→", name, call(node), value)]],
            nodes=[self.number[node]],
            edges=[self.edge(Edge(x, node, slot, part)) for slot, part, x in node.operands()],
            line=self._line("forward", f"{name} = {call(node)}"),
            values={self.number[node]: value},
        )

    def backward(self, found: list[Share]) -> None:
        """The sweep's first 1, then share after share, then the gradients."""
        output = self.graph.outputs[0]
        one = np.ones(output.shape)
        name = identifier(output.name)
        self._step(
            "backward",
            f"The sweep starts at {name}, with d_{name} = 1",
            note=f"The derivative of {name} by itself is 1. From here on: the newest value first, and each hands a "
            "share to each of its inputs.",
            nodes=[self.number[output]],
            line=self._line("backward", f"d_{name} = np.ones_like({name})"),
            grads={self.number[output]: _quantity(one)},
        )
        awaited = {node: sum(x.edge.source is node for x in found) for node in self.graph}
        for x in found:
            awaited[x.edge.source] -= 1
            self._share(x, awaited[x.edge.source])
        self._gradients()

    def _share(self, x: Share, awaited: int) -> None:
        source, target = identifier(x.edge.source.name), identifier(x.edge.target.name)
        rule, whole = _rule(x.edge), _quantity(x.after)
        contribution = _term("=", f"contribution{_over(x.copied)}", "", _quantity(x.contribution))
        upstream = _term("×", f"upstream d_{target}", "", _quantity(x.upstream))
        formula = local(x.edge.target, x.edge.slot) if x.local is not None else None
        if formula is not None:
            formula = "" if formula in ("1.0", "-1.0") else formula  # says no more than the number
            rows = [[_term("", f"local ∂{target}/∂{source}", formula, _quantity(x.local)), upstream, contribution]]
        else:
            rows = [[{**upstream, "sign": ""}, _term("→", "the rule", rule, None), contribution]]
        if x.before is not None:
            sofar = _term("", f"d_{source} so far", "", _quantity(x.before))
            rows.append([sofar, {**contribution, "sign": "+"}, _term("=", f"d_{source}", "", whole)])
        met = f"Paths meet in {source}, and their shares add up. " if x.before is not None else ""
        self._step(
            "backward",
            f"{target} hands {source} its share",
            rows=rows,
            note=(f"Broadcasting had copied {source}. " if x.copied else "") + met + _waiting(source, awaited),
            nodes=[self.number[x.edge.target]],
            to=self.number[x.edge.source],
            edges=[self.edge(x.edge)],
            # Not +=, which would change an array that others may hold too.
            line=self._line(
                "backward", f"d_{source} = {'' if x.before is None else f'd_{source} + '}{_summed(rule, x)}"
            ),
            grads={self.number[x.edge.source]: whole},
        )

    def _gradients(self) -> None:
        leaves = [node for node in self.graph if node.function is None and self._wants_gradient(node)]
        self._step(
            "backward",
            "The gradients are there",
            table=[
                ["", "value", "gradient"],
                *([x.name, *_boxes(x.value, x.gradient)] for x in leaves),
            ],
            nodes=[self.number[x] for x in leaves],
            note="How much the result changes when each of these changes by a little.",
        )

    def update(self, optimizer: Optimizer, found: list[Update]) -> None:
        """The optimizer's step."""
        name = type(optimizer).__name__
        self._step(
            "update",
            f"{name} takes a step",
            formula=_formula(optimizer),
            table=[
                ["", "before", "gradient", "after"],
                *([x.node.name, *_boxes(x.before, x.gradient, x.after)] for x in found),
            ],
            nodes=[self.number[x.node] for x in found],
            note="Shown, not done: your tensors and your optimizer are as they were.",
            line=self._line("update", f"optimizer.step()  # {name}"),
            values={self.number[x.node]: _quantity(x.after) for x in found},
        )

    def edge(self, edge: Edge) -> str:
        """The id of an edge in the picture."""
        part = "" if edge.part is None else f"-{edge.part}"
        return f"e{self.number[edge.source]}-{self.number[edge.target]}-{edge.slot}{part}"

    def _line(self, phase: str, text: str) -> int:
        """Add a line of source; its number."""
        self.lines.append({"phase": phase, "text": text})
        return len(self.lines) - 1

    def _step(self, phase: str, title: str, **told: Any) -> None:
        """Add a step. nodes: the current ones. rows: terms of equations. values, grads: what nodes show from now on."""
        head, *body = told.get("table", [[]])
        words = [title, *map(_aloud, told.get("rows", [])), *(_row_aloud(head, row) for row in body)]
        words.append(told.get("note", ""))
        say = " ".join(f"{text.rstrip('.')}." for text in words if text)
        self.steps.append({"phase": phase, "title": title, "say": say, **told})


# Words ----------------------------------------------------------------------------------------------------------------


def _is_inlined(node: Node) -> bool:
    """Whether a node is a number that the source has where it is used."""
    return node.role == CONSTANT and np.ndim(node.value) == 0


def _called(node: Node) -> str:
    return str(node.value) if _is_inlined(node) else identifier(node.name)


def _value(node: Node, tensors: dict[Node, Tensor]) -> Any:
    """The value of a node, and of a function with several results all of them."""
    return tensors[node].value if node.value is None else node.value


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
        number = _number(array[()])
        return {"box": number, "short": number, "full": str(array[()]), "shape": ""}
    box = _array(array, _TINY if array.ndim == 1 else 1, 3)
    return {"box": box, "short": _array(array, _SMALL, 4), "full": _array(array, _WHOLE, 6), "shape": str(array.shape)}


def _boxes(*values: Any) -> list[str]:
    return [_quantity(x)["box"] for x in values]


def _number(x: Any) -> str:
    return f"{x:.6g}" if np.asarray(x).dtype.kind == "f" else str(x)


def _array(x: Any, most: int, digits: int) -> str:
    """An array whole if it is small, else from where to where its elements go."""
    if x.size <= most:
        return np.array2string(x, separator=", ", formatter={"float_kind": lambda number: f"{number:.{digits}g}"})
    low, high = f"{x.min():.{digits}g}", f"{x.max():.{digits}g}"
    return f"{low} … {high}" if low != high else f"all {low}"


def _rule(edge: Edge) -> str:
    """The rule of an edge as text. Functions with several results have no text that is NumPy's."""
    target = edge.target
    if target.value is None or any(x.value is None for x in target.inputs):
        return f"rule_of_{identifier(target.operation)}(d_{identifier(target.name)})"
    return share(target, edge.slot, edge.part)


def _summed(rule: str, x: Share) -> str:
    """The rule and the sum that undoes broadcasting."""
    if not x.copied:
        return rule
    shape = x.contribution.shape
    total = f"np.sum({rule}, axis={x.copied[0] if len(x.copied) == 1 else x.copied})"
    return f"{total}.reshape({shape})" if 1 in shape else total


def _over(axes: tuple[int, ...]) -> str:
    """How the sum that undoes broadcasting is told."""
    return f", summed over ax{'is' if len(axes) == 1 else 'es'} {', '.join(map(str, axes))}" if axes else ""


def _waiting(source: str, awaited: int) -> str:
    if awaited:
        return f"{source} waits for {awaited} more share{'s' if awaited > 1 else ''} before it hands on anything."
    return f"d_{source} is complete."


def _aloud(row: list[Json]) -> str:
    """A row of terms as a sentence, for those who listen."""
    spoken = {"×": "times ", "=": "equals ", "+": "plus ", "→": "gives ", "and": "and ", "": ""}
    return ", ".join(
        spoken[term["sign"]] + " ".join(filter(None, (term["label"], term["code"], *_spoken(term)))) for term in row
    )


def _row_aloud(head: list[str], row: list[str]) -> str:
    cells = zip(head[1:], row[1:], strict=True)
    return f"{row[0]}: {', '.join(f'{column} {cell}' for column, cell in cells)}"


def _spoken(term: Json) -> list[str]:
    return [f"of shape {term['shape']}" if term["shape"] else "", " ".join(term["value"].split())]


def _formula(optimizer: Optimizer) -> str:
    """The update in formulas, if the optimizer's docstring has it."""
    _, _, rest = (inspect.getdoc(type(optimizer)) or "").partition(".. code-block:: text\n")
    block = itertools.takewhile(lambda line: not line or line.startswith(" "), rest.splitlines())
    return textwrap.dedent("\n".join(block)).strip("\n")
