"""JavaScript of a program: functions of plain numbers, for figures in a page.

Arrays have no operators there. So the text has none: the recorded calls are made once more, on NumPy's arrays of
objects, whose elements are terms. What only moves elements (reshape, x[i], concatenate) NumPy does, and leaves no line;
sums and products of matrices become sums and products of numbers. That is for small arrays.
"""

from __future__ import annotations

import json
import operator
from typing import Any

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import Node
from microgradopt.graph.text import ATOM, COMPARISON, SIGN, SUM, Text
from microgradopt.program.program import Program, Source
from microgradopt.program.terms import NAMES, SIGNS, Term, added, called, of_objects, refused
from microgradopt.program.tidy import is_write
from microgradopt.program.tracer import TracingError
from microgradopt.program.writer import Returned

_MOST = 100_000  # terms of a program
_LONGEST = 100  # of an expression with others inside
_RESERVED = frozenset(
    """arguments await break case catch class const continue debugger default delete do else enum eval export extends
    false finally for function if implements import in instanceof interface let new null package private protected
    public return static super switch this throw true try typeof undefined var void while with yield Math
    Number""".split()  # noqa: SIM905
)


class Terms:
    """The values of a program, as arrays of terms and numbers.

    inputs: the arguments of the text, by name. checks: terms that must have a certain value.
    """

    def __init__(self, program: Program) -> None:
        writer, begun = program.writer, Term(None).number
        self.checks: dict[Term, Any] = {}
        self.inputs = {self.word(writer.names[node]): node for node in program.inputs}
        self.values: dict[Node, Any] = {}
        given, checks = {node: name for name, node in self.inputs.items()}, dict(program.checks)
        for node in program.nodes:
            value = self._input(node, given[node]) if node in given else self._value(node)
            self.values[node] = value
            if node in checks:
                self._check(value, checks[node])
            self._name_elements(self.word(writer.names[node]), value)
            if Term(None).number - begun > _MOST:
                raise TracingError(
                    f'source: target="javascript" writes every element by itself, and here there are more than '
                    f"{_MOST:,} terms. It is for small arrays"
                )

    def word(self, name: str) -> str:
        """A name as JavaScript can use it."""
        return f"{name}_" if name in _RESERVED else name

    def _input(self, node: Node, name: str) -> Any:
        if not node.shape:
            return Term(None, name=name)
        array = np.empty(node.shape, object)
        for index in np.ndindex(node.shape):
            array[index] = Term(None, name=name + "".join(f"[{i}]" for i in index))
        return array

    def _name_elements(self, base: str, value: Any) -> None:
        """Give terms that are new a name, in case that they need one."""
        for index, x in np.ndenumerate(value) if isinstance(value, np.ndarray) else [((), value)]:
            if type(x) is Term and not x.name:
                x.name = "_".join([base, *map(str, index)])

    def _value(self, node: Node) -> Any:
        if node.function is None:
            return of_objects(node.value)
        places = node.function in (operator.getitem, operator.setitem, np.add.at)
        args = [tree.mapped(self._place if i == 1 and places else self._known, x) for i, x in enumerate(node.arguments)]
        kwargs = tree.mapped(self._known, dict(node.kwargs))
        if is_write(node) and not places:
            raise refused(node)
        if is_write(node):
            (operator.setitem if node.function is operator.setitem else added)(*args)
            return args[0]
        kwargs = {key: x for key, x in kwargs.items() if key not in ("dtype", "casting") and x is not None}
        try:
            value = called(node, args, kwargs)
            may_be_one = node.function in (np.reshape, np.squeeze, np.copy)
            return value[()] if may_be_one else value  # no array around one term
        except (TypeError, ValueError, IndexError) as error:
            raise refused(node) from error

    def _known(self, x: Any) -> Any:
        return self.values[x] if type(x) is Node else x

    def _place(self, x: Any) -> Any:
        """An index, such as labels: as it was when the program was recorded. That it is so is checked."""
        if type(x) is not Node:
            return x
        self._check(self.values[x], x.value)
        return x.value

    def _check(self, value: Any, expected: Any) -> None:
        """Note that each term has to have this value."""
        now, then = np.broadcast_arrays(np.asarray(value, object), np.asarray(expected))
        self.checks |= {x: y for x, y in zip(now.flat, then.flat, strict=True) if type(x) is Term}

    def result(self, x: Any) -> Any:
        """Results with terms and numbers in place of nodes; arrays are lists."""
        x = self._known(x.node if type(x) is Returned else x)
        if isinstance(x, dict):
            return {key: self.result(value) for key, value in x.items()}
        if isinstance(x, list | tuple):
            return [self.result(part) for part in x]
        return x.tolist() if isinstance(x, np.ndarray) else x


# The text -------------------------------------------------------------------------------------------------------------


class _Lines:
    """The lines of a function. Terms that stand in more than one place, or would make a line too long, get a name."""

    def __init__(self, terms: Terms, results: Any) -> None:
        results = terms.result(results)
        self._returned = {x for x in tree.leaves(results) if type(x) is Term}
        self._uses: dict[Term, int] = {}
        self._texts: dict[Term, Text] = {}
        self._taken = set(terms.inputs)
        self._count([*self._returned, *terms.checks])
        in_order = sorted(self._uses, key=lambda term: term.number)
        for term in reversed(in_order):
            for x in term.terms:
                x.name = x.name or f"{term.name.rstrip('_')}_"
        self.lines = [line for term in in_order if term.function is not None for line in self._line(term)]
        self.lines += [self._check(x, value) for x, value in terms.checks.items()]
        self.lines.append(f"return {self._structure(results)};")

    def _count(self, stack: list[Term]) -> None:
        """How often each term stands in others, in results and in checks."""
        while stack:
            x = stack.pop()
            self._uses[x] = self._uses.get(x, 0) + 1
            if self._uses[x] == 1:
                stack += x.terms

    def _line(self, term: Term) -> list[str]:
        text = self._expression(term)
        if self._uses[term] == 1 and len(text.text) <= _LONGEST and term not in self._returned:
            self._texts[term] = text
            return []
        name = term.name
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        self._texts[term] = Text(name)
        return [f"const {name} = {text.text};"]

    def _check(self, x: Term, value: Any) -> str:
        text = self._text(x)
        if isinstance(value, bool | np.bool_):
            wrong = f"!{text.within(ATOM)}" if value else text.text
        else:
            wrong = f"{text.within(SUM)} !== {_literal(value).text}"
        return f'if ({wrong}) throw new Error("not the values this was printed for");'

    def _text(self, x: Any) -> Text:
        if type(x) is not Term:
            return _literal(x)
        return Text(x.name) if x.function is None else self._texts[x]

    def _expression(self, term: Term) -> Text:
        function, parts = term.function, [self._text(x) for x in term.arguments]
        if function in SIGNS:
            sign, binding = SIGNS[function]
            left, right = (binding + (binding == COMPARISON), binding + 1) if binding else (ATOM, ATOM)
            return Text(f"{parts[0].within(left)} {sign} {parts[1].within(right)}", binding)
        if function is np.negative:
            return Text(f"-{parts[0].within(ATOM)}", SIGN)
        if function is np.logical_not:
            return Text(f"!{parts[0].within(ATOM)}", SIGN)
        if function is np.where:
            condition, yes, no = (part.within(ATOM) for part in parts)
            return Text(f"{condition} ? {yes} : {no}", 0)
        return Text(f"{NAMES[function]}({', '.join(part.text for part in parts)})")

    def _structure(self, x: Any) -> str:
        """A dictionary is an object; lists are arrays."""
        if isinstance(x, dict):
            return f"{{{', '.join(f'{json.dumps(str(key))}: {self._structure(value)}' for key, value in x.items())}}}"
        return f"[{', '.join(map(self._structure, x))}]" if isinstance(x, list) else self._text(x).text


def _literal(x: Any) -> Text:
    """A number, a truth value, a string or nothing, as JavaScript writes it."""
    if x is None or isinstance(x, bool | np.bool_ | str):
        return Text(json.dumps(x.item() if isinstance(x, np.bool_) else x))
    value = x.item() if isinstance(x, np.generic | np.ndarray) else x
    if not isinstance(value, int | float):
        raise TracingError(f'source: target="javascript" has no spelling of {x!r:.60}')
    text = repr(value).replace("inf", "Infinity").replace("nan", "NaN")
    return Text(text, SIGN if text.startswith("-") else ATOM)


def javascript(program: Program) -> Source:
    """The text of a function in JavaScript."""
    terms = Terms(program)
    lines = "\n".join(f"  {line}" for line in _Lines(terms, program.returned).lines)
    name = terms.word(program.name)
    text = f"function {name}({', '.join(terms.inputs)}) {{\n{lines}\n}}\n"
    return Source(text, name, {word: node.value for word, node in terms.inputs.items()})
