"""Writing a program: recorded calls as the text of a Python function.

One line for each value that has a name; what is used only once stands in the line that uses it.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import inspect
import operator
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import BACKWARD, CONSTANT, DOUBLE_BACKWARD, FORWARD, Node, fresh, nodes_in
from microgradopt.graph.text import (
    ATOM,
    COMPARISON,
    NUMPY,
    SUM,
    Language,
    Text,
    identifier,
    is_literal,
    literal,
    spelled,
)
from microgradopt.program.tidy import Checks, is_write, needed, read_by
from microgradopt.program.tracer import TracingError
from microgradopt.rules.registry import KNOWN, is_composite, name_of

AFTERWARDS = "after the backward pass"
_WRITTEN = 64  # elements of a constant array that is written out, whatever they are
_LONGEST = 88  # of an expression with others inside
_CUT = 160  # characters of a condition that is only told


class Returned(NamedTuple):
    """A Tensor among the results of a function: its value, and whether a gradient would flow into it."""

    node: Node
    requires_grad: bool


class Writer:
    """The text of a program.

    nodes: tidied, oldest first. results: what is returned, a structure of nodes and of values. checks: see `Tape`.
    written: the names of values that are put somewhere besides: those of an optimizer's update. language: how calls and
    values are spelled.
    """

    reserved = frozenset({"args", "misfit"})
    """Names that stand for something else in the text."""
    inline_constants = True
    """Whether constant arrays are written out, as literals; otherwise they are names, listed in `constants`."""

    def __init__(
        self,
        nodes: list[Node],
        results: Any,
        checks: Checks,
        written: Mapping[Node, str] = {},
        language: Language = NUMPY,
    ) -> None:
        self.nodes, self.results, self._written, self.language = nodes, results, written, language
        self.constants: dict[str, Any] = {}
        self._checks = dict(checks)
        self._readers: dict[Node, list[Node]] = {node: [] for node in nodes}
        for node in nodes:
            for x in read_by(node):
                self._readers[x].append(node)
        self._last_write = {node.arguments[0]: node for node in nodes if is_write(node)}
        self._returned = set(nodes_in(results))
        self.given = {node for node in nodes if self.inline_constants and _is_long(node)}
        self.names = self._named()
        self._inline: dict[Node, bool] = {}
        self._texts: dict[Node, Text] = {}

    # Names

    def _named(self) -> dict[Node, str]:
        """A short name, unique, for every node. A write has that of what is written to."""
        bases = {node: self._base(node) for node in self.nodes}
        often = Counter(bases.values())
        names: dict[Node, str] = {}
        functions = (spelled(node.function) for node in self.nodes if node.function is not None)
        taken = {*self.language.imports, *self.reserved, *functions}
        counts: dict[str, int] = {}
        for node, base in bases.items():
            if is_write(node):
                names[node] = names[node.arguments[0]]
                continue
            of = self._final(node).derivative_of
            if of in names:
                base = f"{'d' if node.role == BACKWARD else 'dd'}_{names[of]}"
            alone = often[base] <= 1 and base not in taken and not hasattr(builtins, base)
            names[node] = base if alone else fresh(base, taken, counts)
            taken.add(names[node])
        return names

    def _final(self, node: Node) -> Node:
        """The node as it is after all that is written to it."""
        while node in self._last_write:
            node = self._last_write[node]
        return node

    def _base(self, node: Node) -> str:
        if node.name:
            return identifier(node.name)
        if node in self._written:
            return identifier(self._written[node])
        if is_element(node):
            array, index = node.arguments
            return identifier("_".join(map(str, [array.name, *(index if isinstance(index, tuple) else [index])])))
        if self._is_part_of_gradient(node):
            return "part_of_gradient"
        if node in self.given:
            return "constant"
        if node.function is None:
            return literal(node.value).text.partition("(")[0].removeprefix("np.") if node.role == CONSTANT else "x"
        whole = name_of(node.whole) if node.whole is not None else ""
        name = whole if whole and not whole.startswith("_") else name_of(node.function)
        return identifier({"getitem": "part", "pow": "power"}.get(name, name.removeprefix("linalg.")).strip("_"))

    def _is_part_of_gradient(self, node: Node) -> bool:
        """Whether an array that is filled is one of the shares that add up to a gradient."""
        node = self._final(node)
        if node.function is not operator.setitem:
            return False
        while len(self._readers[node]) == 1 and self._readers[node][0].function in (np.add, operator.add):
            node = self._readers[node][0]
        return node.derivative_of is not None

    # Lines

    def lines(self) -> list[str]:
        """The body of the function."""
        return [*self.lines_of(self.nodes), *self.ending()]

    def lines_of(self, nodes: Iterable[Node]) -> list[str]:
        """What computes and checks some nodes, in order."""
        lines: list[str] = []
        section, sections = FORWARD, self._sections()
        for node in nodes:
            if not self._is_inline(node):
                if node.function is not None and sections[node] != section:
                    section = sections[node]
                    lines.append(f"# {section}")
                lines += self.line(node)
            if node in self._checks:
                lines.append(self.check(self.condition(self.text(node), self._checks[node]).within(ATOM)))
        return lines

    def _sections(self) -> dict[Node, str]:
        """The part of the program that each node is in: forward, backward, update, ..."""
        sections: dict[Node, str] = {}
        is_swept = False
        for node in self.nodes:
            is_swept = is_swept or node.role in (BACKWARD, DOUBLE_BACKWARD)
            sections[node] = AFTERWARDS if is_swept and node.role == FORWARD else node.role
        return sections

    def line(self, node: Node) -> list[str]:
        """What computes a node, and gives it its name."""
        name = self.names[node]
        if node.function is None:
            return self.constant(node) if node.role == CONSTANT else []
        if is_write(node):
            return [self._expression(node).text]
        of = node.derivative_of
        comment = f"  # gradient by {of.name}" if of is not None and of.function is None and of.name else ""
        return [f"{name} = {self._expression(node).text}{comment}"]

    def condition(self, text: Text, value: Any) -> Text:
        """That an expression has this value."""
        if isinstance(value, bool | np.bool_):
            return text if value else Text(f"not {text.within(ATOM)}", COMPARISON)
        return Text(f"{text.within(SUM)} == {literal(value).text}", COMPARISON)

    def constant(self, node: Node) -> list[str]:
        """The line that makes a constant array; a long one is given, as an argument."""
        if node in self.given:
            return []
        if self.inline_constants:
            return [f"{self.names[node]} = {self.language.literal(node.value).text}"]
        self.constants[self.names[node]] = node.value
        return []

    def check(self, condition: str) -> str:
        """The line that makes sure of a condition."""
        return f'if not {condition}: raise ValueError("not the values this was printed for")'

    def ending(self) -> list[str]:
        """The last lines: what is returned."""
        return [f"return {self._structure(self.results)}"]

    def conditions(self, nodes: list[Node], checks: Checks) -> list[str]:
        """What has to hold, where a program cannot check it: in NumPy's words, with the names that the text has.

        nodes: those of the whole program, what only checks need among them.
        """
        told: dict[Node, Text] = {}
        for node in needed(nodes, [node for node, _ in checks]):
            told[node] = self._told(node, told.__getitem__)
        return [self.condition(told[node], value).text for node, value in dict(checks).items()]

    def _told(self, node: Node, texts: Callable[[Node], Text]) -> Text:
        """A value by its name, or, where it has no line, as what it is computed from, if that is not too long."""
        if node in self.names and not self._is_inline(node):
            return Text(self.names[node])
        if node.function is None:
            return Text(identifier(node.name)) if node.name else literal(node.value)
        told = NUMPY.expression(node, texts)
        return told if len(told.text) <= _CUT else Text(f"{told.text[:_CUT]}…")

    def _structure(self, x: Any) -> str:
        """Results as they are returned."""
        if type(x) is Node:
            return self.text(x).text
        if type(x) is Returned:
            return self.returned(x)
        parts = tree.children(x)
        if parts is None or type(x) is slice:
            return self.language.literal(x).text if is_literal(x) else self.object(x)
        return self.container(x, list(map(self._structure, parts)))

    def object(self, x: Any) -> str:
        """What stands for an object among the results, of which there is no text."""
        raise TracingError(f"source: a result is {x!r:.60}, of which there is no text; compile returns it as it is")

    def container(self, x: Any, parts: list[str]) -> str:
        """A list, tuple or dict among the results. In plain NumPy a named tuple is a tuple, a dataclass a dict."""
        if isinstance(x, tuple):
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        if isinstance(x, list):
            return f"[{', '.join(parts)}]"
        keys = x if isinstance(x, dict) else [field.name for field in dataclasses.fields(x)]
        return f"{{{', '.join(f'{self._structure(key)}: {part}' for key, part in zip(keys, parts, strict=True))}}}"

    def returned(self, x: Returned) -> str:
        """A Tensor, as it is returned: its value."""
        return self.text(x.node).text

    # Expressions

    def text(self, node: Node) -> Text:
        """What stands for a node in the lines that use it: its name, or its expression."""
        if node not in self._texts:
            self._texts[node] = self._expression(node) if self._is_inline(node) else Text(self.names[node])
        return self._texts[node]

    def _expression(self, node: Node) -> Text:
        language = self.language
        return language.literal(node.value) if node.function is None else language.expression(node, self.text)

    def _is_inline(self, node: Node) -> bool:
        """Whether a node has no line of its own, but stands in the one line that uses it."""
        if node not in self._inline:
            self._inline[node] = self.may_be_inline(node) and self._fits(node)
        return self._inline[node]

    def may_be_inline(self, node: Node) -> bool:
        """Whether there is no reason for a line of its own."""
        if node.function is None:
            return node.role == CONSTANT and self.inline_constants and np.size(node.value) <= 4
        if (node in self._returned and node.function is not np.copy) or node.derivative_of is not None:
            return False
        if is_write(node) or node in self._last_write:
            return False
        if any(x in self._last_write for x in node.inputs):  # it is to read them before they are written to
            return False
        return self._used_once(node) and (node.whole is None or name_of(node.whole).startswith("_"))

    def _used_once(self, node: Node) -> bool:
        """By one later call of the same sweep, or by one check."""
        readers = self._readers[node]
        if node in self._checks or node in self._returned:
            return not readers
        return len(readers) == 1 and readers[0].role == node.role

    def _fits(self, node: Node) -> bool:
        """Whether the line that it goes into is not too long to read."""
        if node.function is None or not self._readers[node]:
            return True
        reader = self.language.expression(self._readers[node][0], lambda x: Text(self.names[x]))
        return len(self._expression(node).text) + len(reader.text) <= _LONGEST

    def last_uses(self) -> dict[Node, list[Node]]:
        """For each node with a line of its own, those whose last use is in this line."""
        last: dict[Node, Node] = {}
        for node in self.nodes:
            if not self._is_inline(node):
                last.update(dict.fromkeys(self._used(node), node))
        uses: dict[Node, list[Node]] = {}
        for x, node in last.items():
            if x not in self._returned and x not in self._checks:
                uses.setdefault(node, []).append(x)
        return uses

    def _used(self, node: Node) -> list[Node]:
        """The nodes whose names stand in a node's line."""
        found = []
        for x in read_by(node):
            found += self._used(x) if self._is_inline(x) else [x]
        return found

    # What the text needs besides

    def helpers(self) -> list[str]:
        """Functions that are not NumPy's, as their source: composites whose bodies could not be traced."""
        found = {node.function for node in self.nodes if node.function is not None} - self.language.spellings.keys()
        names = {function: name_of(function) for function in found if _is_foreign(function)}
        return sorted(_definition(function, [*names.values()].count(name) == 1) for function, name in names.items())


def _is_long(node: Node) -> bool:
    """Whether a node is a constant array that takes more than some lines to write."""
    if node.role != CONSTANT or np.size(node.value) <= _WRITTEN:
        return False
    return len(literal(node.value).text) > _WRITTEN * 10


def is_element(node: Node) -> bool:
    """Whether a node is one place of an array with a name: w[0], A[1, 2]."""
    if node.function is not operator.getitem or not node.arguments[0].name:
        return False
    index = node.arguments[1]
    return all(type(i) is int and i >= 0 for i in (index if isinstance(index, tuple) else (index,)))


def _is_foreign(function: Any) -> bool:
    """Whether neither NumPy nor Python has a function."""
    name = spelled(function)
    return not (name.startswith("np.") or hasattr(builtins, name) or function in vars(operator).values())


def _definition(function: Callable[..., Any], is_alone: bool) -> str:
    """The source of a composite, without decorators and annotations, and the modules that it names.

    Raises TracingError where that would not stand alone: another function has this name, or it uses more than modules.
    """
    refused = TracingError(
        f"source: {name_of(function)} is not NumPy's and cannot be traced, so its own source is printed, and there is "
        "none that stands alone: define it in a file, by a name of its own, of modules and Python's own functions"
    )
    if not is_alone or not is_composite(function):
        raise refused
    plain = KNOWN[function].call
    try:
        definition = ast.parse(textwrap.dedent(inspect.getsource(plain))).body[0]
    except (OSError, SyntaxError):
        raise refused from None
    used = inspect.getclosurevars(plain)
    modules = [name for name, x in used.globals.items() if inspect.ismodule(x)]
    if not isinstance(definition, ast.FunctionDef) or used.nonlocals or len(modules) < len(used.globals):
        raise refused
    definition.decorator_list, definition.returns = [], None
    for argument in definition.args.args:
        argument.annotation = None
    imports = [f"    import {name}" for name in modules if name != "np"]
    head, *body = ast.unparse(definition).splitlines()
    return "\n".join([head, *imports, *body])


def function_text(name: str, parameters: Iterable[str], writer: Writer, remarks: Sequence[str] = ()) -> str:
    """The whole text: imports, what to know, helpers, and the function. remarks: lines to stand on top."""
    body = textwrap.indent("\n".join(writer.lines()), "    ")
    helpers = [f"{text}\n\n" for text in writer.helpers()]
    first, *others = writer.language.imports.items()
    imports = [first[1], *(line for word, line in others if f"{word}." in body)]
    told = ["", *(f"# {remark}" for remark in remarks)] if remarks else []
    head = "\n".join([*imports, *told]) + "\n\n"
    return "\n".join([head, *helpers, f"def {name}({', '.join(parameters)}):", body, ""])
