"""JavaScript of a program: functions of plain numbers, for figures in a page.

Arrays have no operators there. So the text has none: the recorded calls are made once more, on NumPy's arrays of
objects, whose elements are terms. What only moves elements (reshape, x[i], concatenate) NumPy does, and leaves no line;
sums and products of matrices become sums and products of numbers. That is for small arrays.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
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
    """The values of a program, as arrays of terms and numbers. text: of an argument's element, by name and index."""

    def __init__(self, program: Program) -> None:
        writer = program._writer
        self.checks: list[tuple[Term, Any]] = []
        self.inputs = {self.word(writer.names[node]): node for node in program.inputs}
        self.values: dict[Node, Any] = {}
        self.made: list[Term] = []
        given, checks = {node: name for name, node in self.inputs.items()}, dict(program.checks)
        for node in program.nodes:
            value = self._input(node, given[node]) if node in given else self._value(node)
            self.values[node] = value
            if node in checks:
                self._check(value, checks[node])
            self._noted(self.word(writer.names[node]), value)

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

    def _noted(self, base: str, value: Any) -> None:
        """Terms that are new get a name, in case that they need one."""
        for index, x in np.ndenumerate(value) if isinstance(value, np.ndarray) else [((), value)]:
            if type(x) is Term and not x.name:
                x.name = "_".join([base, *map(str, index)])
                self.made += [*self._unnamed(x), x]
        if len(self.made) > _MOST:
            raise TracingError(
                f'source: target="javascript" writes every element by itself, and here there are more than {_MOST:,}. '
                "It is for small arrays"
            )

    def _unnamed(self, x: Term) -> list[Term]:
        """The terms inside that were made with it, and have no name of their own; each behind those that it is of."""
        found: list[Term] = []
        stack = [(y, False) for y in x.arguments]
        while stack:
            y, is_done = stack.pop()
            if is_done:
                found.append(y)
            elif type(y) is Term and not y.name:
                y.name = f"{x.name}_"
                stack += [(y, True), *((z, False) for z in y.arguments)]
        return found

    def _value(self, node: Node) -> Any:
        if node.function is None:
            return of_objects(node.value)
        places = node.function in (operator.getitem, operator.setitem, np.add.at)
        args = [tree.mapped(self._place if i == 1 and places else self._known, x) for i, x in enumerate(node.arguments)]
        kwargs = tree.mapped(self._known, dict(node.kwargs))
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
        self.checks += [(x, y) for x, y in zip(now.flat, then.flat, strict=True) if type(x) is Term]


# The text -------------------------------------------------------------------------------------------------------------


class _Lines:
    """The lines of a function. Terms that stand in more than one place, or would make a line too long, get a name."""

    def __init__(self, terms: Terms, results: Any) -> None:
        self._terms = terms
        self._uses: dict[Term, int] = {}
        self._texts: dict[Term, Text] = {}
        self._returned = set(_terms_in(results, terms))
        checks = dict(terms.checks)
        self._count([*self._returned, *checks])
        self._taken = set(terms.inputs)
        self.lines = [line for term in terms.made if term in self._uses for line in self._line(term)]
        self.lines += [self._check(x, value) for x, value in checks.items()]
        self.lines.append(f"return {self._structure(results)};")

    def _count(self, wanted: list[Term]) -> None:
        stack = list(wanted)
        while stack:
            x = stack.pop()
            self._uses[x] = self._uses.get(x, 0) + 1
            if self._uses[x] == 1:
                stack += [y for y in x.arguments if type(y) is Term]

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
            is_logical = binding == 0
            left = parts[0].within(ATOM if is_logical else binding + (binding == COMPARISON))
            return Text(f"{left} {sign} {parts[1].within(ATOM if is_logical else binding + 1)}", binding)
        if function is np.negative:
            return Text(f"-{parts[0].within(ATOM)}", SIGN)
        if function is np.logical_not:
            return Text(f"!{parts[0].within(ATOM)}", SIGN)
        if function is np.where:
            condition, yes, no = (part.within(ATOM) for part in parts)
            return Text(f"{condition} ? {yes} : {no}", 0)
        return Text(f"{NAMES[function]}({', '.join(part.text for part in parts)})")

    def _structure(self, x: Any) -> str:
        """Results: arrays are arrays of arrays, a dictionary is an object."""
        x = x.node if type(x) is Returned else x
        x = self._terms.values[x] if type(x) is Node else x
        if isinstance(x, np.ndarray):
            x = x.tolist()
        if isinstance(x, dict):
            return f"{{{', '.join(f'{json.dumps(str(key))}: {self._structure(value)}' for key, value in x.items())}}}"
        if isinstance(x, list | tuple):
            return f"[{', '.join(map(self._structure, x))}]"
        return self._text(x).text


def _terms_in(results: Any, terms: Terms) -> Iterator[Term]:
    """The terms among the results, as often as they are there."""
    x = results.node if type(results) is Returned else results
    x = terms.values[x] if type(x) is Node else x
    if isinstance(x, dict | list | tuple):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _terms_in(part, terms)
    for one in np.ravel(np.asarray(x, object)) if not isinstance(x, dict | list | tuple) else ():
        if type(one) is Term:
            yield one


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
