"""Formulas: what a call, a derivative rule and an optimizer's step compute, as lines of NumPy.

None of them is written down here. All three are plain NumPy code, so they are run once more on values that record what
is done to them, and the record is printed, as `mg.source` does it.
"""

from __future__ import annotations

import builtins
import inspect
import itertools
import operator
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, UFUNCS, Node, nodes_in
from microgradopt.graph.text import identifier, literal, takes_values
from microgradopt.mode import observed
from microgradopt.nn import functional
from microgradopt.optim.optimizer import Call, Optimizer, _divided
from microgradopt.page.names import PART, call, is_inlined
from microgradopt.page.steps import Share
from microgradopt.program.tape import Tape
from microgradopt.program.tidy import is_write, tidied
from microgradopt.program.tracer import Tracer
from microgradopt.program.writer import Writer
from microgradopt.rules.outputs import Outputs
from microgradopt.rules.registry import KNOWN, is_composite, name_of
from microgradopt.sweep import _hand_over
from microgradopt.tensor import Tensor

_SHORT = 24  # characters of a constant array that stands where it is used
_UPDATE = 12  # lines of an update that is shown as it is computed


# Calls and shares -----------------------------------------------------------------------------------------------------


def of_call(node: Node) -> str:
    """What a call computes: "linear1 = x @ weight_0.T + bias_0"."""
    line = f"{node.name} = {call(node)}"
    if not (is_composite(node.function) and takes_values(node)):
        return line
    body = KNOWN[node.function].call  # type: ignore[index]
    return _written(node.name, lambda tape: body(*tape.arguments(node), **node.kwargs)) or line


def of_share(x: Share, tensors: Mapping[Node, Tensor]) -> str:
    """What an input has gathered, with what a value hands to it: "d_a = d_a + d_tanh1 * (1 - tanh1 * tanh1)"."""
    source, target = x.edge.source, x.edge.target
    name = f"d_{source.name}"

    def computed(tape: _Recorded) -> Any:
        share = tape.share(x, tape.value(x.upstream, f"d_{target.name}"))
        cotangents = {} if x.before is None else {tensors[source]: tape.value(x.before, name)}
        _hand_over(share, tensors[source], tensors[target], cotangents)
        return cotangents[tensors[source]]

    sofar = f"{name} + " * (x.before is not None)
    text = _written(name, computed) if takes_values(target) else ""
    return text or f"{name} = {sofar}rule_of_{identifier(target.operation)}(d_{target.name})"


def of_derivative(x: Share) -> str:
    """The derivative of an elementwise function alone, "1 - tanh1 * tanh1": its rule, with a cotangent of 1."""
    text = _written("local", lambda tape: tape.share(x, 1.0))
    return re.sub(r"^(-?)1\.0 \* ", r"\1", text.removeprefix("local = "))


def _written(name: str, compute: Callable[[_Recorded], Any]) -> str:
    """What `compute` does, as lines; "" where it cannot be recorded."""
    tape = _Recorded()
    try:
        with observed(tape):
            return _lines(tape.nodes, {name: _noded(compute(tape))})
    except (TypeError, AttributeError):  # a rule or body that does not take what records
        return ""


def _shown_as(composite: Callable[..., Any]) -> Callable[..., Any] | None:
    """What is shown in place of a call: the formula without its guards, or the body; the call, of what users call."""
    known = KNOWN[composite]
    return known.plain or (None if name_of(composite) in functional.__all__ else known.call)


class _Recorded(Tape):
    """A tape for one formula, on which values have the names of the graph."""

    def __init__(self) -> None:
        super().__init__(body_of=_shown_as)
        self._given: dict[Node, Any] = {}

    def share(self, x: Share, g: Any) -> Any:
        """What the rule of an edge gives for a cotangent."""
        node = x.edge.target
        rule: Any = KNOWN[node.function].rules[x.edge.slot]  # type: ignore[index]
        share = rule(g, self._node(node), *self.arguments(node), **node.kwargs)
        return share if x.edge.part is None else share[x.edge.part]

    def arguments(self, node: Node) -> Any:
        """The arguments of a call."""
        return tree.mapped(lambda x: self._node(x) if type(x) is Node else x, node.arguments)

    def _node(self, node: Node) -> Any:
        if is_inlined(node):
            return node.value[()] if isinstance(node.value, np.ndarray) else node.value
        if node not in self._given:
            self._given[node] = self.value(node.value, node.name, node.role != CONSTANT)
        return self._given[node]

    def value(self, x: Any, name: str, of_tensor: bool = True) -> Any:
        """A value by a name; of several results each by its place."""
        value = self.input(x, name=name, of_tensor=of_tensor)
        if not isinstance(x, tuple):
            return value
        return Outputs(None if y is None else self.call(operator.getitem, (value, i), {}) for i, y in enumerate(x))


class _Lines(Writer):
    """The lines of a record."""

    def may_be_inline(self, node: Node) -> bool:
        """A constant array may, if it is short: np.arange(16)."""
        is_short = node.role == CONSTANT and node.function is None and len(literal(node.value).text) <= _SHORT
        return is_short or super().may_be_inline(node)


def _lines(nodes: list[Node], results: Mapping[str, Any]) -> str:
    """Recorded calls as text. results: what is computed, by name. It may be the name of an input: ``d_a = d_a + 1``."""
    for node in nodes:
        if node.function is np.zeros_like and "shape" in node.kwargs:
            node.arguments = ()  # np.zeros of that shape
    nodes, same = tidied(nodes, nodes_in(list(results.values())), [])
    results = {name: tree.mapped(lambda x: same.get(x, x) if type(x) is Node else x, x) for name, x in results.items()}
    for i, node in enumerate(nodes):
        node.name = node.name or f"{PART}{i}"
    for name, x in results.items():
        if type(x) is Node and x.function is not None:
            _array(x).name = f"new_{name}"
    writer = _Lines(nodes, results, [])
    texts = {name: writer._structure(x) for name, x in results.items()}
    lines = [*writer.lines()[:-1], *(f"{name} = {text}" for name, text in texts.items() if text != f"new_{name}")]
    text = "\n".join(lines)
    for name in results:
        after = text.partition(f"new_{name} = ")[2].partition("\n")[2]
        if not re.search(rf"(?<!\.)\b{name}\b", after):  # what had this name before is not needed any more
            text = re.sub(rf"\bnew_{name}\b", name, text)
    parts = list(dict.fromkeys(re.findall(rf"^{PART}\d+", text, re.M)))
    return re.sub(rf"\b{PART}\d+\b", lambda part: f"{PART}{parts.index(part[0]) + 1}", text)


def _noded(x: Any) -> Any:
    """The node of a traced value; of several results a tuple of them."""
    return tuple(map(_noded, x)) if isinstance(x, tuple) else x.node if type(x) is Tracer else x


def _array(node: Node) -> Node:
    """The node of an array before all writes to it."""
    while is_write(node):
        node = node.arguments[0]
    return node


# An optimizer's step --------------------------------------------------------------------------------------------------

_SPELLED = (
    (r"\(([^\W\d]\w*) \* \1\)|(?<![*/] )\b([^\W\d]\w*) \* \2\b", r"\1\2²"),
    (" = ", " ← "), (r"np\.", ""), (r" \*\* ", "^"), (r" \* ", " · "), (" - ", " − "),
)  # fmt: skip
"""How an update is written: patterns and replacements, as of `re.sub`."""


def of_step(optimizer: Optimizer, names: Mapping[Tensor, str], taken: set[str]) -> str:
    """The formula of an optimizer's next step, and the numbers in it; for each set of parameters that has its own.

    names: of the parameters. taken: names that mean something else on the page; the optimizer's b is then b_SGD. Where
    a step cannot be recorded, or is long, it is the formula of the optimizer's docstring.
    """
    moving = [(i, block) for i, own in enumerate(optimizer._blocks) for block in _divided(own)[1]]
    is_coupled = type(optimizer).updates is not Optimizer.updates and len(moving) > 1
    found: dict[str, list[str]] = {}
    for i, block in moving:
        text = "" if is_coupled else _update(optimizer, optimizer._call(block, optimizer.settings(i), True), taken)
        text = text if 0 < text.count("\n") <= _UPDATE else _described(optimizer)
        found.setdefault(text, []).extend(names.get(x, "another") for x in block.vector.parameters)
    return "\n\n".join(f"{', '.join(of)}:\n" * (len(found) > 1) + text for text, of in found.items())


def _update(optimizer: Optimizer, arguments: Call, taken: set[str]) -> str:
    """The lines of an update, and below them the numbers."""
    theta, g, state, lr, group = arguments
    tape, numbers = Tape(), {}

    def spelled(name: str) -> str:
        return f"{name}_{type(optimizer).__name__}" if name in taken or hasattr(builtins, name) else name

    def given(name: str, x: Any) -> Tracer:
        if np.ndim(x) == 0:
            numbers[spelled(name)] = x
        return tape.input(x, name=spelled(name))

    def setting(name: str, x: Any) -> Any:  # one that is 0 stays a 0
        if isinstance(x, tuple):
            return tuple(setting(name.removesuffix("s").replace("beta", "β") + "₁₂₃"[i], y) for i, y in enumerate(x))
        return given(name, x) if type(x) in (int, float) and x != 0 else x

    rate = given("η", lr)
    settings = {key: rate if key == "lr" else setting(key, x) for key, x in group.items()}
    before = {key: given(key, x) for key, x in state.items()}
    state.update(before)
    gradient = -given("g", -g) if group.get("maximize") else given("g", g)
    try:
        with observed(tape), np.errstate(all="ignore"):
            traced: Any = (given("θ", theta), gradient, state, rate, settings)
            (state["θ"],) = optimizer.updates([traced])
    except (TypeError, AttributeError):  # something that cannot be recorded; TracingError is a TypeError
        return ""
    changed = {key: x.node for key, x in state.items() if type(x) is Tracer and x is not before.get(key)}
    same = _without_zeros(tape.nodes)
    text = _lines(tape.nodes, {spelled(key): same.get(node, node) for key, node in changed.items()})
    told = [f"{x} = {numbers[x]:.6g}" for x in dict.fromkeys(re.findall(r"\w+", text)) if x in numbers]
    for pattern, replacement in _SPELLED:
        text = re.sub(pattern, replacement, text)
    return f"{text}\n{',  '.join(told)}"


def _without_zeros(nodes: list[Node]) -> dict[Node, Any]:
    """What stands for the calls that a formula does without: they add 0, or multiply by 0 or 1."""
    same: dict[Node, Any] = {}
    for node in nodes:
        node.arguments = tree.mapped(lambda x: same.get(x, x) if type(x) is Node else x, node.arguments)
        if node.function is not None and (simpler := _simpler(node)) is not None:
            same[node] = simpler
    return same


def _simpler(node: Node) -> Any:
    function, (x, y, z) = UFUNCS.get(node.function, node.function), (*node.arguments, None, None)[:3]  # type: ignore[arg-type]
    zero, one = ([type(number) in (int, float) and number == n for number in (x, y)] for n in (0, 1))
    if function is np.zeros_like or (function is np.full_like and zero[1]) or (function is np.multiply and any(zero)):
        return 0
    if (function is np.add and zero[0]) or (function is np.multiply and one[0]):
        return y
    if (function in (np.multiply, np.divide) and one[1]) or (function in (np.add, np.subtract) and zero[1]):
        return x
    if function is np.add and _is_guard(y):
        return x
    return z if function is np.where and _is_guard(x) else x if function is np.copy else None


def _is_guard(x: Any) -> bool:
    """Whether something is where a divisor is 0."""
    return type(x) is Node and x.function is np.equal and type(x.arguments[1]) is int


def _described(optimizer: Optimizer) -> str:
    _, _, rest = (inspect.getdoc(type(optimizer)) or "").partition(".. code-block:: text\n")
    block = itertools.takewhile(lambda line: not line or line.startswith(" "), rest.splitlines())
    return textwrap.dedent("\n".join(block)).strip("\n")
