"""compile: trace a function once, and from then on run the NumPy program that it amounts to."""

from __future__ import annotations

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from microgradopt.graph.cost import Cost, cost
from microgradopt.graph.formulas import Text, expression
from microgradopt.graph.graph import Graph, Node, named
from microgradopt.graph.tidy import tidied
from microgradopt.graph.tracer import TracingError
from microgradopt.graph.tracing import Trace, function_name, is_leaf
from microgradopt.graph.writer import Returned, Writer, function_text, structure_nodes
from microgradopt.mode import current_mode
from microgradopt.rules.registry import NotDifferentiableError, derivative
from microgradopt.tensor import Tensor, _result

_LARGE = 2**14  # bytes; below, letting go costs more than it brings
_PROGRAMS = 64  # as many are kept of each function; of the one unused longest, the last goes first


def compile(function: Callable[..., Any]) -> Compiled:
    """Make a function quick: trace it when it is first called, then run the plain NumPy program that it amounts to.

    function: of arrays and Tensors, also in lists, tuples and dictionaries; of Python values, which are constants of the
    program. It may use parameters, arrays and numbers from outside, compute gradients, call ``backward`` and an
    optimizer's ``step``. Usable as a decorator, ``@mg.compile``.

    There is one program for each combination of shapes, dtypes and Python values. Parameters and arrays from outside
    are read at each call; a Python value from outside that has changed makes a new program. Results are the same as the
    function's own, to the last bit, and are never overwritten by a later call.

    A result that depends on tensors that require a gradient cannot be differentiated from outside
    (NotDifferentiableError): compute the gradient inside, by ``backward`` or ``mg.grad``.

    Under ``mg.detect_anomaly()``, and inside another compiled function, it is the function itself that runs.

    Raises TracingError while tracing: for ``if`` and ``while`` on a tensor's value, ``float(tensor)``, np.asarray of a
    traced value; for a function that is not the same when traced twice, because of randomness inside, say; for one that
    changes Python values outside of it. Then nothing has been changed. TypeError for arguments that cannot be hashed.

    >>> import microgradopt as mg
    >>> w = mg.Tensor([1.0, 2.0], requires_grad=True)
    >>> gradient = compile(lambda x: mg.grad(((x @ w) ** 2).sum(), w))
    >>> gradient(np.eye(2))
    [array([2., 4.])]
    """
    return Compiled(function)


class Compiled:
    """A compiled function; made by `compile`. `source`, `graph`, `draw` and `cost` are those of the program used last."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._programs: OrderedDict[Any, list[Program]] = OrderedDict()
        self._last: Program | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives."""
        mode = current_mode.get()
        if mode.tape is not None or mode.checking:
            return self._function(*args, **kwargs)
        key: list[Any] = [mode.recording]
        leaves: list[Any] = []
        statics: list[Any] = []
        for x in args:
            _describe(x, key, leaves, statics)
        if kwargs:
            _describe(kwargs, key, leaves, statics)
        known = tuple(key)
        for program in self._programs.get(known, ()):
            result = program.run(leaves)
            if result is not _MISFIT:
                self._last = program
                return result
        self._last = self._traced(args, kwargs, leaves, tuple(statics))
        self._keep(known, self._last)
        result = self._last.run(leaves)
        return self._function(*args, **kwargs) if result is _MISFIT else result

    def _traced(self, args: Any, kwargs: Any, leaves: list[Any], statics: tuple[Any, ...]) -> Program:
        """Traced twice: what comes out differently depends on something that a program cannot know."""
        first, second = (Program(Trace(self._function, args, kwargs, leaves, statics)) for _ in range(2))
        if not first.is_same(second):
            raise TracingError(
                f"compile: {function_name(self._function)} is not the same when it is traced twice. Is there randomness "
                "in it (np.random, a Generator), or time? Give what differs as an argument"
            )
        return first

    def _keep(self, key: Any, program: Program) -> None:
        self._programs.setdefault(key, []).insert(0, program)
        self._programs.move_to_end(key)
        if sum(map(len, self._programs.values())) > _PROGRAMS:
            oldest, programs = next(iter(self._programs.items()))
            programs.pop()
            if not programs:
                del self._programs[oldest]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: a compiled function for each instance."""
        if instance is None:
            return self
        bound = Compiled(self._function.__get__(instance, owner))
        with contextlib.suppress(AttributeError):  # an instance without a __dict__ gets a new one each time
            instance.__dict__[self._function.__name__] = bound
        return bound

    @property
    def _program(self) -> Program:
        if self._last is None:
            raise RuntimeError(
                f"compile: {function_name(self._function)} has no program yet: it is traced when it is first called"
            )
        return self._last

    @property
    def source(self) -> str:
        """The program used last, as text (see `mg.source`)."""
        return self._program.source

    @property
    def graph(self) -> Graph:
        """Its graph."""
        return self._program.graph

    @property
    def cost(self) -> Cost:
        """Its operations, floating-point operations, and bytes."""
        return cost(self._program.graph)

    def __repr__(self) -> str:
        count = sum(map(len, self._programs.values()))
        return f"Compiled({function_name(self._function)}, {count} program{'s' * (count != 1)})"


def _describe(x: Any, key: list[Any], leaves: list[Any], statics: list[Any]) -> None:
    """What a program depends on in an argument; the arrays and tensors in it; and its other objects."""
    kind = type(x)
    if kind is np.ndarray:
        key.append((x.shape, x.strides, x.dtype))
        leaves.append(x)
    elif kind is Tensor:
        key.append((x._data.shape, x._data.dtype, x._requires_grad, x._function is None, x.grad is None))
        leaves.append(x)
    elif is_leaf(x):
        key.append(x.dtype)
        leaves.append(x)
    elif kind in (tuple, list):
        key.append((kind, len(x)))
        for part in x:
            _describe(part, key, leaves, statics)
    elif kind is dict:
        key.append((kind, tuple(x)))
        for part in x.values():
            _describe(part, key, leaves, statics)
    else:
        try:
            hash(x)
        except TypeError:
            raise TypeError(
                f"compile: an argument is a {kind.__name__}, which cannot be told from another one: give arrays, Tensors, "
                "or Python values that can be hashed"
            ) from None
        key.append((kind, repr(x) if kind is float else x))  # 0.0 is not -0.0
        statics.append(x)


# The program ----------------------------------------------------------------------------------------------------------

_MISFIT: Any = object()  # what a program gives where it is not the one for this call


class Program:
    """One program. run(leaves), of the arrays and tensors among the arguments, gives the result, or _MISFIT.

    graph: what it computes. source: that as text, for people.
    """

    def __init__(self, trace: Trace) -> None:
        outputs = structure_nodes((trace.result, [effect.value for effect in trace.effects]))
        nodes, same = tidied(trace.tape.nodes, outputs, trace.tape.checks)
        results = _exchanged(trace.result, same)
        effects = [effect._replace(value=_exchanged(effect.value, same)) for effect in trace.effects]
        checks = [(same.get(node, node), value) for node, value in trace.tape.checks]
        self._trace, self._nodes, self._results, self._effects, self._checks = trace, nodes, results, effects, checks
        needed = set(nodes)
        self.inputs = [node for node in trace.reads if node in needed]
        runner = _Runner(nodes, (results, [effect.value for effect in effects]), checks)
        runner.results, runner.effects = results, effects
        self._text = self._runnable(runner)
        self._constants = runner.constants
        self._objects = {**trace.objects, **runner.constants, **runner.functions, **_RUNTIME}
        exec(self._text, self._objects)
        self._fits, self._run = self._objects["fits"], self._objects["run"]

    def _runnable(self, runner: _Runner) -> str:
        """The text of two functions: whether the program fits, and the program."""
        conditions = self._trace.conditions or ["True"]
        lines = [f"{runner.names[node]} = {self._trace.reads[node]}" for node in self.inputs]
        body = "\n    ".join([*lines, *runner.lines()])
        return f"def fits(args):\n    return {' and '.join(conditions)}\n\ndef run(args):\n    {body}\n"

    def run(self, leaves: list[Any]) -> Any:
        """The result for these arrays and tensors, or _MISFIT."""
        try:
            if not self._fits(leaves):
                return _MISFIT
        except (KeyError, IndexError, ValueError, AttributeError):  # something the program refers to is not there now
            return _MISFIT
        return self._run(leaves)

    def is_same(self, other: Program) -> bool:
        """Whether another program computes the same from the same."""
        mine, theirs = self._constants, other._constants
        return self._text == other._text and all(
            np.array_equal(mine[name], theirs[name], equal_nan=mine[name].dtype.kind == "f") for name in mine
        )

    @functools.cached_property
    def source(self) -> str:
        """The text of a function of plain NumPy calls."""
        results = self._results
        if self._effects:
            done = {effect.name: effect.value for effect in self._effects if effect.value is not None}
            results = done if results is None else (results, done)
        writer = Writer(self._nodes, results, self._checks)
        return function_text(self._trace.name, [writer.names[node] for node in self.inputs], writer)

    @functools.cached_property
    def graph(self) -> Graph:
        """What it computes."""
        outputs = structure_nodes((self._results, [effect.value for effect in self._effects]))
        named(self._nodes)
        return Graph(self._nodes, outputs)


def _exchanged(x: Any, same: dict[Node, Node]) -> Any:
    """A structure of results, with the nodes that stand for those in it."""
    if type(x) is Node:
        return same.get(x, x)
    if type(x) is Returned:
        return x._replace(node=same.get(x.node, x.node))
    if isinstance(x, tuple | list):
        return type(x)([_exchanged(part, same) for part in x])
    return {key: _exchanged(part, same) for key, part in x.items()} if type(x) is dict else x


def _same(x: Any, y: Any) -> bool:
    """Whether two Python values are the same, -0.0 and 0.0 apart."""
    return type(x) is type(y) and repr(x) == repr(y)


class _Runner(Writer):
    """The text that is run: constants are there as objects, and reductions go straight to the ufunc that does them."""

    inline_constants = False
    effects: Any = ()

    def __init__(self, *args: Any) -> None:
        self.functions: dict[str, Any] = {}
        super().__init__(*args)
        self._dying = self.last_uses()

    def line(self, node: Node) -> list[str]:
        """Large arrays are let go after their last use, so that the next ones take their place in the cache."""
        dying = [x for x in self._dying.get(node, ()) if _is_large(x) and self._final(x) is x]
        return [*super().line(node), *([f"del {', '.join(self.names[x] for x in dying)}"] if dying else [])]

    def check(self, condition: str) -> str:
        """Where a check fails, another program is needed."""
        return f"if not ({condition}): return _misfit"

    def ending(self) -> list[str]:
        """First what the function did, then what it returned."""
        done = [effect.line.format(self._structure(effect.value)) for effect in self.effects]
        return [*done, f"return {self._structure(self.results)}"]

    def returned(self, x: Returned) -> str:
        """A Tensor, as it is returned: one that needs a gradient marks the end of its graph."""
        return f"_{'tensor' if x.requires_grad else 'constant'}({self.text(x.node).text})"

    def spelled(self, node: Node) -> Text:
        """One call."""
        ufunc = _REDUCTIONS.get(node.function)
        if ufunc is not None and isinstance(node.inputs[0].value, np.ndarray):
            axis = node.kwargs.get("axis")
            keepdims = ", keepdims=True" if node.kwargs.get("keepdims") else ""
            return Text(f"np.{ufunc.__name__}.reduce({self.text(node.inputs[0]).text}, axis={axis}{keepdims})")
        if node.function in _opaque_functions(node):
            self.functions[node.function.__name__] = node.function  # type: ignore[union-attr]
        return expression(node, self.text)

    def helpers(self) -> list[str]:
        """They are there as objects."""
        return []


def _is_large(node: Node) -> bool:
    return node.function is not None and isinstance(node.value, np.ndarray) and node.value.nbytes >= _LARGE


_REDUCTIONS: dict[Any, np.ufunc] = {np.sum: np.add, np.prod: np.multiply, np.max: np.maximum, np.min: np.minimum}


def _opaque_functions(node: Node) -> tuple[Any, ...]:
    module = getattr(node.function, "__module__", "") or ""
    return (node.function,) if module.startswith("microgradopt") or not module.startswith("numpy") else ()


# Results that need a gradient: their graph ends here ------------------------------------------------------------------


def compiled_function(inside: Any) -> Any:
    """What has made the results of compiled functions, as far as a graph can tell. inside: stands for all that it is."""
    return inside


def _refuse(g: Any, out: Any, inside: Any) -> Any:
    raise NotDifferentiableError(
        "backward: a result of a compiled function has no graph to go back through. Compute the gradient inside of the "
        "compiled function, by loss.backward() or mg.grad"
    )


derivative(compiled_function, _refuse)
_INSIDE = Tensor(0.0, requires_grad=True)


def _tensor(out: Any) -> Tensor:
    return _result(compiled_function, (_INSIDE,), {}, (_INSIDE._data,), out, True)


def _constant(out: Any) -> Tensor:
    return _result(None, (), {}, (), out, False)


_RUNTIME: dict[str, Any] = {
    "np": np, "_misfit": _MISFIT, "_same": _same, "_tensor": _tensor, "_constant": _constant,
}  # fmt: skip
