"""Program: a trace made into a function of plain NumPy that can be run, and into its text for people."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, Graph, Node, named, nodes_in
from microgradopt.graph.text import NUMPY, Language, Text, spelled
from microgradopt.program.state import State
from microgradopt.program.tape import forget
from microgradopt.program.tidy import Checks, is_write, needed, shared, tidied
from microgradopt.program.trace import Effect, Trace
from microgradopt.program.writer import Returned, Writer, function_text
from microgradopt.rules.registry import NotDifferentiableError, derivative, name_of
from microgradopt.tensor import Tensor, constant, result

MISFIT: Any = object()  # what a program gives where it is not the one for this call
_LARGE = 2**15  # bytes; below, letting go costs more than it brings


class Ways(NamedTuple):
    """What asks whether a program fits a call, reads its slots, and writes all that it writes.

    Each takes the arrays and tensors among the arguments of the call. read gives a list, in the order of `slots`. write
    takes a value for each effect besides.
    """

    fits: Callable[[list[Any]], bool]
    read: Callable[[list[Any]], list[Any]]
    write: Callable[[list[Any], list[Any]], None]


def is_so(fits: Callable[[list[Any]], bool], leaves: list[Any]) -> bool:
    """Whether a program fits. Something that it refers to may not be there now: then it does not."""
    try:
        return fits(leaves)
    except (KeyError, IndexError, ValueError, AttributeError):
        return False


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
        runner = Runner(self.nodes, self.results, self.effects, self.checks, trace.tape.owned, trace.sources)
        self._text = self._runnable(runner)
        self._constants = runner.constants
        self.names = {**RUNTIME, **trace.objects, **runner.constants, **runner.functions}
        exec(self._text, self.names)
        self._fits, self._run = self.names["fits"], self.names["run"]

    def _runnable(self, runner: Runner) -> str:
        """The text of two functions: whether the program fits, and the program."""
        lines = [f"{runner.names[node]} = {self._trace.reads[node]}" for node in self.inputs]
        body = "\n    ".join([*lines, *runner.lines()])
        return f"{self._fits_text()}\ndef run(args):\n    {body}\n"

    def _fits_text(self) -> str:
        return f"def fits(args):\n    return {' and '.join(self._trace.conditions or ['True'])}\n"

    def let_go(self) -> None:
        """Forget the values that it was traced with: a batch would be kept alive by them."""
        self._trace.let_go()
        for node in self._trace.tape.nodes:
            if node.role != CONSTANT:
                forget(node)

    def run(self, leaves: list[Any]) -> Any:
        """The result for these arrays and tensors, or MISFIT. What the function did besides is done."""
        return self._run(leaves) if self.fits(leaves) else MISFIT

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
        exec(self._ways, names)
        return Ways(names["fits"], names["read"], names["write"])

    @functools.cached_property
    def own_ways(self) -> Ways:
        """Those of the function itself."""
        return self.ways()

    @functools.cached_property
    def _ways(self) -> Any:
        read = ", ".join(self.reads[node] for node in self.slots)
        lines = [effect.line.format(f"values[{i}]") for i, effect in enumerate(self.effects)]
        write = "".join(f"    {line}\n" for line in lines) or "    pass\n"
        text = f"{self._fits_text()}\ndef read(args):\n    return [{read}]\n\ndef write(args, values):\n{write}"
        return builtins.compile(text, "<program>", "exec")

    def fits(self, leaves: list[Any]) -> bool:
        """Whether it is the program for a call with these arrays and tensors, whose shapes are its own."""
        return is_so(self._fits, leaves)

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
    def _writer(self) -> Writer:
        return self._writer_of(NUMPY, self.nodes, self.checks)

    def _writer_of(self, language: Language, nodes: list[Node], checks: Checks) -> Writer:
        done = self._done
        taken = {node.name for node in self.inputs}
        names = {x: f"new_{name}" if name in taken else name for name, x in done.items() if type(x) is Node}
        return Writer(nodes, self.returned, checks, names, language)

    @functools.cached_property
    def source(self) -> Source:
        """The text of a function of plain NumPy calls."""
        return self._printed(self._writer)

    def source_in(self, language: Language) -> Source:
        """The same as text in another language. Where that checks nothing, what has to hold is told on top."""
        if language.checks:
            return self._printed(self._writer_of(language, self.nodes, self.checks), language.remarks)
        nodes = needed(self.nodes, self._outputs())
        writer = self._writer_of(language, nodes, [])
        conditions = [f"    {text}" for text in writer.conditions(self.nodes, self.checks)]
        told = ["Not checked here, but has to hold:", *conditions] if conditions else []
        return self._printed(writer, [*language.remarks, *told])

    def _printed(self, writer: Writer, remarks: Sequence[str] = ()) -> Source:
        name, given = self._trace.name, set(self.inputs)
        inputs = {writer.names[node]: node.value for node in writer.nodes if node in writer.given or node in given}
        return Source(function_text(name, inputs, writer, remarks), name, inputs)

    @functools.cached_property
    def graph(self) -> Graph:
        """What it computes, in the names that the source has; without what it only checks.

        Of large results, shape and dtype alone are known.
        """
        names = self._writer.names
        for node in self.nodes:
            if not node.name and not is_write(node):
                node.name = names[node]
        named(self.nodes)
        return Graph(needed(self.nodes, self._outputs()), self._outputs())


def _same(x: Any, y: Any) -> bool:
    """Whether two Python values are the same, -0.0 and 0.0 apart."""
    return type(x) is type(y) and repr(x) == repr(y)


class Runner(Writer):
    """The text that is run: constants are there as objects, and reductions go straight to the ufunc that does them."""

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
        self.functions: dict[str, Any] = {}
        self._owned, self._shared, self._sources = owned, shared(nodes), sources
        super().__init__(nodes, (results, [effect.value for effect in effects]), checks)
        self._result, self._effects = results, effects
        # Where a check fails, or NumPy raises, nothing may have happened yet: what others hold is written over later.
        asked = {node for node, _ in checks}
        last = max((i for i, node in enumerate(nodes) if node in asked or _may_raise(node)), default=-1)
        self._after_checks = set(nodes[last + 1 :])
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
            arguments = NUMPY.listed(node, node.arguments, self.text)
            lines = [f"{self.names[node]} = {spelled(node.function)}({arguments}, out={self.names[over]})"]
            dying = [x for x in dying if x is not over]
        return [*lines, *([f"del {', '.join(self.names[x] for x in dying)}"] if dying else [])]

    def _may_go(self, x: Node, node: Node) -> bool:
        """Whether an array is not needed any more by anybody after this line, its last use."""
        return x.function is not None or x in self._owned

    def _may_hold(self, x: Node, node: Node) -> bool:
        """Whether the memory of an array that is not needed any more may hold this result."""
        function = node.function
        return (
            isinstance(function, np.ufunc)
            and function.signature is None
            and not node.kwargs
            and (x.function is not None or node in self._after_checks)
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
        done = [effect.line.format(self._structure(effect.value)) for effect in self._effects]
        return [*done, f"return {self._structure(self._result)}"]

    def container(self, x: Any, parts: list[str]) -> str:
        """A new one at each call; a dataclass or dict of its own kind is made after the one that was there."""
        if type(x) in (tuple, list, dict):
            return super().container(x, parts)
        return f"_with({self.object(x)}, [{', '.join(parts)}])" if any(nodes_in(x)) else self.object(x)

    def object(self, x: Any) -> str:
        """An object among the results is there as it is."""
        name = f"_object{len(self.functions)}"
        self.functions[name] = x
        return name

    def returned(self, x: Returned) -> str:
        """A Tensor, as it is returned: one that needs a gradient marks the end of its graph."""
        text = self.text(x.node).text
        return f"_tensor({text}, [{', '.join(self._sources)}])" if x.requires_grad else f"_constant({text})"

    def spelled(self, node: Node) -> Text:
        """One call."""
        ufunc = _REDUCTIONS.get(node.function)
        told = len(node.arguments) > 1 or not node.kwargs.keys() <= {"axis", "keepdims"}  # dtype, initial, where
        if ufunc is not None and not told and node.inputs[0].shape:
            axis = node.kwargs.get("axis")
            keepdims = ", keepdims=True" if node.kwargs.get("keepdims") else ""
            return Text(f"np.{ufunc.__name__}.reduce({self.text(node.inputs[0]).text}, axis={axis}{keepdims})")
        name = spelled(node.function)
        if name.isidentifier():  # not NumPy's
            self.functions[name] = node.function
        return NUMPY.expression(node, self.text)

    def helpers(self) -> list[str]:
        """They are there as objects."""
        return []


def _may_raise(node: Node) -> bool:
    return node.function is not None and name_of(node.function).startswith("linalg.")


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


RUNTIME: dict[str, Any] = {
    "np": np, "misfit": MISFIT, "_with": tree.with_children, "_same": _same, "_tensor": _tensor, "_constant": _constant,
}  # fmt: skip
