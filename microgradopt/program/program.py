"""Program: a trace made into a function of plain NumPy that can be run, and into its text for people."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, Graph, Node, named, nodes_in
from microgradopt.graph.text import NUMPY, Language, Text, Texts, identifier, spelled
from microgradopt.optim.saving import whole
from microgradopt.program.captures import found_in
from microgradopt.program.slots import Effect
from microgradopt.program.state import State, same
from microgradopt.program.tape import forget
from microgradopt.program.tidy import Checks, is_write, needed, shared, tidied
from microgradopt.program.trace import Trace
from microgradopt.program.writer import Returned, Writer, function_text
from microgradopt.rules.registry import NotDifferentiableError, derivative
from microgradopt.tensor import Tensor, constant, result

MISFIT: Any = object()  # what a program gives where it is not the one for this call
_LARGE = 2**15  # bytes; below, letting go costs more than it brings


class Ways(NamedTuple):
    """What asks whether a program fits a call, runs it, reads its slots, and writes all that it writes.

    Each takes the arrays and tensors among the arguments of the call. run gives the result. read gives a list, in the
    order of `slots`. write takes a value for each effect besides.
    """

    fits: Callable[[list[Any]], bool]
    run: Callable[[list[Any]], Any]
    read: Callable[[list[Any]], list[Any]]
    write: Callable[[list[Any], list[Any]], None]


class Source(str):
    """The text of a program. name: of its function. inputs: the values of its arguments when it was traced, by name."""

    name: str
    inputs: dict[str, Any]

    def __new__(cls, text: str, name: str, inputs: dict[str, Any]) -> Source:  # noqa: D102 (see the class)
        self = super().__new__(cls, text)
        self.name, self.inputs = name, inputs
        return self

    def _repr_markdown_(self) -> str:
        """What a notebook shows: the text, highlighted."""
        fence = "```"
        while fence in self:
            fence += "`"
        return f"{fence}python\n{self}\n{fence}"


class Program:
    """One program. run(leaves), of the arrays and tensors among the arguments, gives the result, or MISFIT.

    nodes: tidied, oldest first. inputs: those of what it reads. results, effects, checks: as in its `Trace`. names:
    what the names in its texts stand for. graph: what it computes. source: that as text, for people.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.state = State(trace.tensors, trace.optimizers, trace.places)
        self.calls = 0
        self.loops: dict[Any, Any] = {}
        outputs = nodes_in((trace.result, [effect.value for effect in trace.effects]))
        self.nodes, same = tidied(trace.tape.nodes, outputs, trace.tape.checks)

        def exchanged(x: Any) -> Any:
            return same.get(x, x) if type(x) is Node else x

        self.results, self.effects = tree.mapped(exchanged, (trace.result, trace.effects))
        self.checks = [(same.get(node, node), value) for node, value in trace.tape.checks]
        self.name, self.reads, self.parts = trace.name, trace.reads, trace.parts
        self.rates, self.settings = trace.rates, trace.settings
        kept = set(self.nodes)
        self.inputs = [node for node in self.reads if node in kept]
        owned = trace.tape.owned & {effect.slot for effect in self.effects}
        runner = Runner(self.nodes, self.results, self.effects, self.checks, owned, trace.sources)
        self._text = self._written(runner)
        self._code = builtins.compile(self._text, "<program>", "exec")
        self._constants = runner.constants
        self.names = {**RUNTIME, **trace.objects, **runner.constants, **runner.objects, "spare__": Spares()}
        self.own_ways = self.ways()

    def _written(self, runner: Runner) -> str:
        """The text of the `Ways`."""
        inputs = [f"{runner.names[node]} = {self.reads[node]}" for node in self.inputs]
        slots = ", ".join(self.reads[node] for node in self.slots)
        effects = [effect.line.format(f"values[{i}]") for i, effect in enumerate(self.effects)]
        functions = {
            "fits__(args)": [
                f"try: return {' and '.join(dict.fromkeys(self._trace.conditions)) or 'True'}",
                "except (KeyError, IndexError, ValueError, AttributeError): return False  # something is not there now",
            ],
            "run__(args)": [*inputs, *runner.lines()],
            "read__(args)": [f"return [{slots}]"],
            "write__(args, values)": effects or ["pass"],
        }
        return "".join("\n    ".join([f"def {head}:", *lines]) + "\n" for head, lines in functions.items())

    def let_go(self) -> None:
        """Forget the values that it was traced with: a batch would be kept alive by them."""
        self._trace.let_go()
        for node in self._trace.tape.nodes:
            if node.role != CONSTANT:
                forget(node)

    def run(self, leaves: list[Any]) -> Any:
        """The result for these arrays and tensors, or MISFIT. What the function did besides is done."""
        return self.own_ways.run(leaves) if self.fits(leaves) else MISFIT

    @functools.cached_property
    def slots(self) -> list[Node]:
        """What many calls in a row begin with: the inputs, and θ in place of the parameters that are parts of it."""
        return list(dict.fromkeys(self.moving.get(node, node) for node in self.inputs))

    @functools.cached_property
    def moving(self) -> dict[Node, Node]:
        """The parameters that an optimizer moves as parts of one vector: the input that is this vector, θ."""
        written = {effect.slot for effect in self.effects}
        return {node: part.theta for node, part in self.parts.items() if part.theta in written}

    def ways(self, counterpart: Callable[[Any], Any] = lambda x: x) -> Ways:
        """How to ask whether it fits, and to read and write its slots. counterpart: gives what another run has."""
        names = {name: counterpart(x) for name, x in self.names.items()}
        exec(self._code, names)
        return Ways(*(names[f"{name}__"] for name in Ways._fields))

    def fits(self, leaves: list[Any]) -> bool:
        """Whether it is the program for a call with these arrays and tensors, whose shapes are its own."""
        return self.own_ways.fits(leaves)

    def is_same(self, other: Program) -> bool:
        """Whether another program computes the same from the same."""
        mine, theirs = self._constants, other._constants
        return self._text == other._text and all(
            np.array_equal(mine[name], theirs[name], equal_nan=mine[name].dtype.kind == "f") for name in mine
        )

    def _outputs(self) -> list[Node]:
        """What it returns, and what it writes."""
        return list(dict.fromkeys(nodes_in((self.results, [effect.value for effect in self.effects]))))

    @property
    def _done(self) -> dict[str, Any]:
        """What it writes, by name."""
        return {effect.name: effect.value for effect in self.effects if effect.value is not None}

    @property
    def returned(self) -> Any:
        """What it returns as a text: its results, and what it writes, by name."""
        if not self.effects:
            return self.results
        return self._done if self.results is None else (self.results, self._done)

    def read(self, leaves: list[Any]) -> list[Any]:
        """What its inputs are now, in order. leaves: the arrays and tensors among the arguments."""
        return [eval(self.reads[node], self.names | {"args": leaves}) for node in self.inputs]

    @functools.cached_property
    def writer(self) -> Writer:
        """What writes it in NumPy."""
        return self._writer_in(NUMPY)

    def _writer_in(self, language: Language) -> Writer:
        """What writes it in a language; where that checks nothing, without what only checks need."""
        nodes, checks = (self.nodes, self.checks) if language.checks else (needed(self.nodes, self._outputs()), [])
        taken = {node.name for node in self.inputs}
        names = {x: f"new_{name}" if name in taken else name for name, x in self._done.items() if type(x) is Node}
        return Writer(nodes, self.returned, checks, names, language)

    @functools.cached_property
    def source(self) -> Source:
        """The text of a function of plain NumPy calls."""
        return self._printed(self.writer)

    def source_in(self, language: Language) -> Source:
        """The same as text in another language."""
        return self.source if language is NUMPY else self._printed(self._writer_in(language))

    def _printed(self, writer: Writer) -> Source:
        """The text that a writer makes. Where its language checks nothing, what has to hold is told on top."""
        remarks = list(writer.language.remarks)
        if self.checks and not writer.language.checks:
            conditions = writer.conditions(self.nodes, self.checks)
            remarks += ["Not checked here, but has to hold:", *(f"    {condition}" for condition in conditions)]
        inputs = {writer.names[x]: x.value for x in writer.nodes if x in writer.given or x in self.inputs}
        return Source(function_text(self.name, inputs, writer, remarks), self.name, inputs)

    @functools.cached_property
    def graph(self) -> Graph:
        """What it computes, in the names that the source has; without what it only checks.

        Of large results, shape and dtype alone are known.
        """
        names = self.writer.names
        for node in self.nodes:
            if not node.name and not is_write(node):
                node.name = names[node]
        named(self.nodes)
        return Graph(needed(self.nodes, self._outputs()), self._outputs())


class Spares:
    """Memory for what is kept next. What is kept now stays whole: an error, or Ctrl-C, may come before the end."""

    def __init__(self) -> None:
        self._arrays: dict[str, Any] = {}

    def __call__(self, name: str, x: Any) -> Any:
        """An array like x, which is kept now; x itself is the next one."""
        spare, self._arrays[name] = self._arrays.get(name), x
        return np.empty_like(x) if spare is None or spare is x else spare


class _Objects(Language):
    """NumPy's way; what has no text is there as an object: functions that are not NumPy's, objects among results."""

    def __init__(self) -> None:
        super().__init__(NUMPY.imports, NUMPY.spellings)
        self.objects: dict[str, Any] = {}
        self._names: dict[int, str] = {}

    def name(self, x: Any, name: str) -> str:
        """The name of an object: two functions may have the same, and it may be that of a value."""
        own = self._names.setdefault(id(x), f"{identifier(name)}__{len(self._names)}")
        self.objects[own] = x
        return own

    def expression(self, node: Node, texts: Texts) -> Text:
        """The call of a node. Reductions go straight to the ufunc that does them."""
        ufunc = _REDUCTIONS.get(node.function)
        told = len(node.arguments) > 1 or not node.kwargs.keys() <= {"axis", "keepdims"}  # dtype, initial, where
        if ufunc is None or told or not node.inputs[0].shape:
            return super().expression(node, texts)
        axis = node.kwargs.get("axis")
        keepdims = ", keepdims=True" if node.kwargs.get("keepdims") else ""
        return Text(f"np.{ufunc.__name__}.reduce({texts(node.inputs[0]).text}, axis={axis}{keepdims})")

    def unlisted(self, function: Any) -> str:
        """NumPy's name of a function, or its name here."""
        name = spelled(function)
        return name if name.startswith("np.") else self.name(function, name)

    def ufunc(self, node: Node, texts: Texts, told: str) -> Text:
        """The call of a ufunc by its name, not as an operator. told: what it is told besides."""
        return Text(f"{self.unlisted(node.function)}({self.listed(node, node.arguments, texts)}, {told})")


class Runner(Writer):
    """The text that is run: constants are there as objects."""

    inline_constants = False

    def __init__(
        self,
        nodes: list[Node],
        results: Any,
        effects: list[Effect],
        checks: Checks,
        owned: set[Node],
        sources: Sequence[str] = (),
    ) -> None:
        self._own = _Objects()
        self.objects = self._own.objects
        self._owned, self._shared, self._sources = owned, shared(nodes), sources
        super().__init__(nodes, (results, [effect.value for effect in effects]), checks, language=self._own)
        self._result, self._effects = results, effects
        self._dying = self.last_uses()

    def line(self, node: Node) -> list[str]:
        """Large arrays are let go after their last use, so that the next ones take their place in the cache.

        Or the result is written over one of them.
        """
        own = [x for x in self._dying.get(node, ()) if self._may_go(x, node)]
        dying = [x for x in own if _is_large(x) and self._final(x) is x]
        over = next((x for x in dying if self._may_hold(x, node)), None)
        lines = super().line(node)
        if over is not None:
            call = self._own.ufunc(node, self.text, f"out={self.memory(over)}")
            lines = [f"{self.names[node]} = {call.text}"]
            dying = [x for x in dying if x is not over]
        return [*lines, *([f"del {', '.join(self.names[x] for x in dying)}"] if dying else [])]

    def _may_go(self, x: Node, node: Node) -> bool:
        """Whether an array is not needed any more by anybody after this line, its last use."""
        return x.function is not None or x in self._owned

    def memory(self, x: Node) -> str:
        """The memory of an array that is not needed any more; in place of what is kept outside, that of a spare one."""
        return self.names[x] if x.function is not None else f"spare__({self.names[x]!r}, {self.names[x]})"

    def _may_hold(self, x: Node, node: Node) -> bool:
        """Whether the memory of an array that is not needed any more may hold this result."""
        function = node.function
        return (
            isinstance(function, np.ufunc)
            and function.signature is None
            and not node.kwargs
            and x not in self._shared
            and (x.shape, x.dtype, x.strides) == (node.shape, node.dtype, node.strides)
        )

    def may_be_inline(self, node: Node) -> bool:
        """A large result has a line of its own, so that another may be written over it."""
        return super().may_be_inline(node) and (node.function is None or not _is_large(node))

    def check(self, condition: str) -> str:
        """Where a check fails, another program is needed."""
        return f"if not {condition}: return misfit"

    def ending(self) -> list[str]:
        """First what the function did, then what it returned."""
        values = ", ".join(self._structure(effect.value) for effect in self._effects)
        done = [f"whole__(write__, args, [{values}])"] if self._effects else []
        return [*done, f"return {self._structure(self._result)}"]

    def container(self, x: Any, parts: list[str]) -> str:
        """A new one at each call; a dataclass or dict of its own kind is made after the one that was there."""
        if type(x) in (tuple, list, dict):
            return super().container(x, parts)
        return f"_with({self.object(x)}, [{', '.join(parts)}])"

    def object(self, x: Any) -> str:
        """An object among the results is there as it is."""
        return self._own.name(x, type(x).__name__)

    def returned(self, x: Returned) -> str:
        """A Tensor, as it is returned: one that needs a gradient marks the end of its graph."""
        text = self.text(x.node).text
        return f"_tensor({text}, [{', '.join(self._sources)}])" if x.requires_grad else f"_constant({text})"

    def helpers(self) -> list[str]:
        """They are there as objects."""
        return []


def _is_large(node: Node) -> bool:
    """Whether it takes much memory of its own."""
    return node.nbytes >= _LARGE and not node.is_view


_REDUCTIONS: dict[Any, np.ufunc] = {np.sum: np.add, np.prod: np.multiply, np.max: np.maximum, np.min: np.minimum}


# Results that need a gradient: their graph ends here ------------------------------------------------------------------


def _compiled_function(sources: Any) -> Any:
    """Placeholder for a compiled program: a node that leads to the tensors it depends on, and has no derivative."""
    return sources


def _refuse(g: Any, out: Any, sources: Any) -> Any:
    raise NotDifferentiableError(
        "a gradient would flow through the result of a compiled function, which has no graph to go back through. "
        "Compute the gradient inside of the compiled function, by loss.backward() or mg.grad, or leave mg.compile out"
    )


derivative(_compiled_function, _refuse, smooth=True)


def _tensor(out: Any, sources: list[Tensor]) -> Tensor:
    return result(_compiled_function, (sources,), {}, ([x.value for x in sources],), out, True)


def _constant(out: Any) -> Tensor:
    return constant(out if out.ndim else out[()])


def _write_whole(write: Callable[[list[Any], list[Any]], None], args: list[Any], values: list[Any]) -> None:
    whole(lambda: write(args, values))


RUNTIME: dict[str, Any] = {
    "np": np, "misfit": MISFIT, "_with": tree.with_children, "_same": same, "_found": found_in, "_tensor": _tensor,
    "_constant": _constant, "whole__": _write_whole,
}  # fmt: skip
