"""Loop: many calls of a program, one after the other, without Python's calls between them; and of many runs at once.

A program reads slots (parameters, an optimizer's state) and writes them. In a loop what one call writes, the next one
reads: these values stay in local variables until the end. What differs from call to call (batches, learning rates) is
drawn before, as arrays with one entry for each.

Many runs at once are the same program on stacks (`rules.stack.Stack`): every value that differs from run to run gets a
leading axis. A run that can go no further (a check of the program fails for it) keeps the values of its last good call,
and the others go on.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, SWEEPS, Node, nodes_in
from microgradopt.graph.text import Text
from microgradopt.mode import Switched, observed
from microgradopt.program.program import RUNTIME, Program, Runner
from microgradopt.program.slots import Effect
from microgradopt.program.tape import Tape, forget
from microgradopt.program.tidy import Checks, is_write, needed, read_by
from microgradopt.program.tracer import Tracer, TracingError
from microgradopt.program.writer import Returned
from microgradopt.rules.stack import Stack, selected

# One call -------------------------------------------------------------------------------------------------------------


class Body(NamedTuple):
    """One call of a program, as a loop needs it.

    nodes: oldest first. given: the inputs, by the node of the program that each stands for. carried: of inputs that the
    call writes anew, what it writes. ends: all that it writes, in order. results: the nodes among its results, in
    order. checks: see `Tape`. k: of how many runs; 0: of one, without an axis for it. of_many: of these, what differs
    from run to run.
    """

    nodes: list[Node]
    given: dict[Node, Node]
    carried: dict[Node, Any]
    ends: list[Any]
    results: list[Node]
    checks: Checks
    k: int = 0
    of_many: frozenset[Any] = frozenset()


def result_leaves(results: Any) -> list[Any]:
    """The results of a program in a row, in the order in which `tree.leaves` has those of the function."""
    if type(results) is Returned:
        return [results.node]
    parts = tree.children(results)
    return [results] if parts is None else [leaf for part in parts for leaf in result_leaves(part)]


def body_of(
    program: Program,
    values: Mapping[Node, Any],
    stacked: Iterable[Node] = (),
    k: int = 0,
    written_as: Callable[[Any], Any] = lambda function: function,
) -> Body:
    """The call of a program, recorded once more. values: of its slots; of the `stacked` ones, k in an array.

    written_as: gives what is called in place of a function.

    Raises TracingError where a shape depends on values: calls would differ.
    """
    if any(node.function is np.shape for node, _ in program.checks):
        raise TracingError(f"{program.name}: a shape depends on values, so that one call is not like another")
    tape, given, parts = Tape(), {}, program.moving
    of_many = set(stacked)
    of_many = depending(program.nodes, of_many | {node for node, theta in parts.items() if theta in of_many})
    written = {effect.slot for effect in program.effects}
    known: dict[Node, Any] = {}

    def value(x: Any) -> Any:
        return known[x] if type(x) is Node else x

    def of_each(x: Any, node: Node) -> Any:
        """What is the same for all runs, as a Stack, where it is not to stay so."""
        if node not in of_many or isinstance(x, Stack | list | tuple):
            return x
        return Stack(np.copy(np.broadcast_to(x, (k, *node.shape))))

    with observed(tape):
        for node in program.slots:
            x = tape.input(
                values[node], node.role, node.name, of_tensor=node.of_tensor, owned=not k and node in written
            )
            given[node], known[node] = x.node, Stack(x) if node in of_many else x
        for node, theta in parts.items():
            part = known[theta][program.parts[node].place]
            known[node] = part if len(node.shape) == 1 else part.reshape(node.shape)
            _node(known[node]).name = node.name
        for node in program.nodes:
            if node in known:
                continue
            with Switched(sweeps=SWEEPS.get(node.role, 0)):
                x = tape.traced(node.value) if node.function is None else _called(node, value, written_as)
                known[node] = of_each(x, node)
    new: dict[Any, Any] = {node: _node(x) for node, x in known.items()}
    for node, x in new.items():
        if type(x) is Node and node.function is not None:
            x.whole, x.derivative_of = node.whole, new.get(node.derivative_of)
    results = [new[x] for x in result_leaves(program.results) if type(x) is Node]
    ends = [new[e.value] if type(e.value) is Node else e.value for e in program.effects]
    carried = {given[e.slot]: end for e, end in zip(program.effects, ends, strict=True) if e.slot in given}
    checks = [(new[node], expected) for node, expected in program.checks]
    wanted = [*results, *nodes_in(ends), *(node for node, _ in checks), *given.values()]
    differing = frozenset(new[node] for node in of_many if type(new.get(node)) is Node)
    return Body(needed(tape.nodes, wanted), given, carried, ends, results, checks, k, differing)


def depending(nodes: Iterable[Node], start: Iterable[Node]) -> set[Node]:
    """What depends on some nodes, these among it; and arrays that such are written into, which are made anew."""
    found, size = set(start), -1
    while len(found) > size:
        size = len(found)
        for node in nodes:
            if not found.isdisjoint(read_by(node)):
                found.add(node)
        found.update(node.arguments[0] for node in nodes if is_write(node) and node in found)
    return found


def split(body: Body, each: Iterable[Node]) -> tuple[list[Node], list[Node]]:
    """The nodes that are the same in each round, and the others: what depends on what is carried or given anew."""
    varying = depending(body.nodes, {*body.carried, *each})
    return [node for node in body.nodes if node not in varying], [node for node in body.nodes if node in varying]


def _called(node: Node, value: Callable[[Any], Any], written_as: Callable[[Any], Any]) -> Any:
    """The call of a node on other values."""
    args, kwargs = tree.mapped(value, node.arguments), tree.mapped(value, node.kwargs)
    if node.function is operator.getitem and any(type(x) is Stack for x in tree.leaves(args)):
        return args[0][args[1]] if isinstance(args[0], list | tuple) else selected(*args)
    result = written_as(node.function)(*args, **kwargs)
    return args[0] if is_write(node) else result


def _node(x: Any) -> Any:
    """The node of a value; a plain value as it is."""
    x = x.data if type(x) is Stack else x
    return x.node if type(x) is Tracer else x


# Its text -------------------------------------------------------------------------------------------------------------


class _Lines(Runner):
    """The lines of a loop: those that go before it, as they compute the same in each round, and those of a round."""

    reserved = frozenset({"n", "i", "done", "alive", "each", "results", "chosen"})

    def __init__(self, body: Body, each: Iterable[Node]) -> None:
        self._body, self._is_before = body, False
        self._before, self._round = split(body, each)
        self._in_round, self._ends = set(self._round), set(nodes_in(body.ends))
        owned = {node for node in body.carried if not body.k}
        super().__init__(body.nodes, body.results, [Effect("", "", end) for end in body.ends], body.checks, owned)
        asked = {node for node, _ in body.checks}
        last = max((i for i, node in enumerate(body.nodes) if node in asked), default=-1)
        self._after_checks = set(body.nodes[last + 1 :])

    def _may_go(self, x: Node, node: Node) -> bool:
        """What was computed before the loop is needed again; what is carried is, where a check ends the loop."""
        if x.function is None:
            return x in self._owned and node in self._after_checks
        return x in self._in_round

    def memory(self, x: Node) -> str:
        """What is carried is the loop's own."""
        return self.names[x]

    def may_be_inline(self, node: Node) -> bool:
        """What is written at the end is computed before what it is computed from is carried on."""
        return node not in self._ends and super().may_be_inline(node)

    def check(self, condition: str) -> str:
        """Where a check fails the loop ends, and what was carried is that of the last good call."""
        if self._body.k:
            return f"alive &= {condition}"
        return f"if not {condition}: {'n = 0' if self._is_before else 'break'}"

    def before(self) -> list[str]:
        """What is computed once. An array that is written to is made anew in each round."""
        self._is_before = True
        lines = self.lines_of(self._before)
        self._is_before = False
        return lines

    def round(self) -> list[str]:
        """What is computed in each round."""
        return [*self.lines_of(self._round), *self.ending()]

    def condition(self, text: Text, value: Any) -> Text:
        """Of many runs, an array: what holds for each."""
        if self._body.k and isinstance(value, bool | np.bool_) and not value:
            return Text(f"np.logical_not({text.text})")
        return super().condition(text, value)

    def ending(self) -> list[str]:
        """Keep the results, and carry on what is written."""
        kept = [f"results[{j}][i] = {self.text(node).text}" for j, node in enumerate(self._body.results)]
        pairs = [(self.names[node], self._structure(end)) for node, end in self._body.carried.items()]
        names, ends = (", ".join(column) for column in zip(*pairs, strict=True)) if pairs else ("", "")
        if not self._body.k:
            return [*kept, *([f"{names} = {ends}"] if pairs else []), "done += 1"]
        chosen = ", ".join(f"chosen(alive, {end}, {name})" for name, end in pairs)
        return [
            *kept,
            *([f"if alive.all(): {names} = {ends}", f"else: {names} = {chosen}"] if pairs else []),
            "done += alive",
            "if not alive.any(): break",
        ]

    def end(self, x: Any) -> str:
        """What is written at the end: what was carried, or else what came last."""
        carried = {id(end): self.names[node] for node, end in self._body.carried.items()}
        return carried.get(id(x)) or self._structure(x)


def chosen(alive: Any, new: Any, old: Any) -> Any:
    """Of the runs that go on the new value, of the others the old one."""
    return np.where(alive.reshape(-1, *(1,) * (np.ndim(new) - 1)), new, old)


class Given(NamedTuple):
    """What a loop gets for a slot. each: one entry for each call. stacked: one for each run, behind that."""

    value: Any
    each: bool = False
    stacked: bool = False

    @property
    def first(self) -> Any:
        """What the first call gets."""
        return self.value[0] if self.each else self.value

    def of_run(self, r: int) -> Given:
        """What one of the runs gets."""
        if not self.stacked:
            return self
        return Given(np.asarray(self.value)[:, r] if self.each else self.value[r], self.each)


class Loop:
    """n calls of a program in a row, on NumPy. `text`: the function that makes them. k: see `Body`."""

    def __init__(self, program: Program, given: Mapping[Node, Given], k: int = 0) -> None:
        stacked = [node for node, x in given.items() if x.stacked]
        self.body = body = body_of(program, {node: x.first for node, x in given.items()}, stacked, k)
        self._each = [node for node, x in given.items() if x.each]
        self._others = [node for node, x in given.items() if not x.each]
        writer = _Lines(body, [body.given[node] for node in self._each])
        self.text = self._written(writer, {node: writer.names[new] for node, new in body.given.items()})
        names = {**RUNTIME, **writer.constants, **writer.objects, "chosen": chosen}
        exec(self.text, names)
        self._function = names["loop"]
        for node in body.nodes:  # a batch would be kept alive
            if node.role != CONSTANT:
                forget(node)

    def _written(self, writer: _Lines, names: Mapping[Node, str]) -> str:
        ends = [writer.end(x) for x in self.body.ends]
        only_at_end = [end for end, x in zip(ends, self.body.ends, strict=True) if end == writer.names.get(x)]
        arguments = ["n", "done", "alive", "each", "results", *(names[node] for node in self._others)]
        lines = [
            f"def loop({', '.join(arguments)}):",
            *([f"    {' = '.join(only_at_end)} = None"] if only_at_end else []),
            *(f"    {line}" for line in writer.before()),
            "    for i in range(n):",
            *(f"        {names[node]} = each[{j}][i]" for j, node in enumerate(self._each)),
            *(f"        {line}" for line in writer.round()),
            f"    return done, [{', '.join(ends)}]",
        ]
        return "\n".join(lines) + "\n"

    def __call__(
        self, n: int, given: Mapping[Node, Given], results: list[Any], alive: Any = True
    ) -> tuple[Any, list[Any]]:
        """How many calls were made (of many runs: of each), and all that the last good one wrote.

        results: arrays with n entries, to be filled. alive: of many runs, (k,), those that go on; changed where one
        ends.
        """
        body = self.body
        own = [
            np.array(x) if isinstance(x, np.ndarray) and body.given[node] in body.carried else x
            for node, x in ((node, given[node].value) for node in self._others)
        ]
        done = np.zeros(body.k, int) if body.k else 0
        with np.errstate(all="ignore" if body.k else None):  # what one run computes is no other's fault
            return self._function(n, done, alive, [given[node].value for node in self._each], results, *own)

    def is_of_each_run(self, j: int) -> bool:
        """Whether the j-th of all that is written has one value for each run."""
        return self.body.ends[j] in self.body.of_many
