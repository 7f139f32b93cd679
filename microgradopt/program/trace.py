"""One run of a function on Tracers, so that its program is right whenever it is run later on.

Everything the function may read is found (its arguments, and captures.py), replaced by Tracers (slots.py,
optimizers.py), and put back afterwards.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import numpy as np

from microgradopt import tree
from microgradopt.array_methods import ArrayMethods
from microgradopt.graph.graph import INPUT, PARAMETER
from microgradopt.graph.modules import Calls
from microgradopt.mode import observed
from microgradopt.optim.optimizer import Optimizer
from microgradopt.optim.saving import whole
from microgradopt.program.captures import Captures, Place
from microgradopt.program.optimizers import OptimizerSlots
from microgradopt.program.origins import is_of_library
from microgradopt.program.slots import is_leaf, randomness
from microgradopt.program.tracer import Tracer, TracingError
from microgradopt.program.writer import Returned
from microgradopt.tensor import Array, Tensor, plain
from microgradopt.tensor import result as made

_TRIES = 5  # traces, until one is found in which nothing was drawn


class CaughtError(TracingError):
    """The function catches an error of NumPy's: which way it goes is known only by running it."""


class Trace(OptimizerSlots):
    """The program of one call, as it was recorded.

    result: what the function returned, with nodes in place of Tracers and `Returned` in place of Tensors. ran: the code
    that runs, where a search that knows it finds something else; None, where it does not matter. missed: code of the
    user that has run, and was not found. sources: the tensors that a gradient would flow to, as the program calls them.
    """

    def __init__(
        self,
        function: Any,
        args: Any,
        kwargs: Any,
        leaves: list[Any],
        statics: tuple[Any, ...],
        free: bool = False,
        ran: frozenset[CodeType] | None = None,
        notes: bool = False,
    ) -> None:
        super().__init__(function_name(function), free)
        self.optimizers: list[Optimizer] = []
        self.sources: list[str] = []
        self._kept: list[Array] = []  # arrays that come out
        try:
            found = Captures(function, statics, ran)
            self._find(found)
            traced = iter(self._arguments(leaves, _names(function, args, kwargs)))
            args = rebuilt(args, traced)
            noted: dict[CodeType, dict[str, Any]] = {}
            with observed(self.tape):
                with _noted(noted) if notes and found.has_classes else contextlib.nullcontext():
                    result = function(*args, **rebuilt(kwargs, traced))
                for look in self._look:
                    look()
                self.missed = {x for x, names in noted.items() if not is_of_library(x, names)} - found.codes
                idle = noted and ran is None and not found.codes <= noted.keys()
                self.ran = (ran or frozenset()) | noted.keys() if self.missed or idle else ran
                self._note_frames()
                self._check_caught()
                self.effects = [effect._replace(value=self._own(effect.value)) for effect in self.effects]
                self.result = tree.mapped(self._returned, result)
        finally:
            whole(self._undone)

    def _note_frames(self) -> None:
        """Note in each call which modules it was made in."""
        for module in self._modules:
            calls = Calls({"": module})
            for node, date in self.tape.dates.items():
                node.frames = node.frames or calls.at(date)

    def let_go(self) -> None:
        """Forget what was needed only while it was traced."""
        for held in (self._undo, self._look, self._kept, self._modules, self.tape.dates):
            held.clear()
        self._thetas.clear()

    def _check_caught(self) -> None:
        """Raise CaughtError where an error of NumPy's did not come out."""
        if self.tape.failed is not None:
            raise CaughtError(f"compile: {self.name} catches an error, {self.tape.failed!r:.100}") from self.tape.failed

    # What goes in

    def _find(self, found: Captures) -> None:
        vectors = [block.vector for o in found.optimizers for blocks in o._blocks for block in blocks]
        self._thetas = {id(vector): vector.theta() for vector in vectors}
        self.tensors, self.optimizers, self._modules = found.tensors, found.optimizers, found.modules
        for tensor, name in found.tensors.items():
            text = self._call(tensor)
            self._condition(f"{text}.needs_grad is {tensor.needs_grad}")
            self._condition(f"({text}.grad is None) is {tensor.grad is None}")
            self._tensor(tensor, text, name)
        for place in found.places:
            self._place(place)
        for text, objects in found.conditions:
            self._condition(text, *objects)
        for container in found.containers:
            self._container(container)
        for generator in found.generators:
            self._generator(generator)
        for thing in found.objects:
            self._object(thing)
        for optimizer in found.optimizers:
            self._optimizer(optimizer, self._call(optimizer))

    def _tensor(self, tensor: Tensor, text: str, name: str) -> None:
        """A leaf: its values, and its gradient."""
        self.texts[tensor] = text
        if tensor.needs_grad:
            self.sources.append(text)
        role = PARAMETER if tensor.needs_grad else INPUT
        order = tensor.order
        self._undo.append(lambda: setattr(tensor, "order", order))
        self._slot(Place(tensor, "value", name), f"{text}.value", f"{text}.write({{}})", role, of_tensor=True)
        self._slot(Place(tensor, "grad", f"{name}.grad"), f"{text}.grad", f"{text}.grad = {{}}", of_tensor=True)

    def _arguments(self, leaves: list[Any], names: dict[int, str]) -> list[Any]:
        """What the function is called with in place of arrays and tensors."""
        traced: list[Any] = []
        for i, x in enumerate(leaves):
            name, text = names.get(id(x), "x"), f"args[{i}]"
            if type(x) is not Tensor:
                traced.append(self._input(x, text, name))
            elif not x.is_leaf:
                tracer = self._input(x.value, f"{text}.value", name, of_tensor=True)
                if x.needs_grad:
                    self.sources.append(text)
                traced.append(made(None, (), {}, (), tracer, x.needs_grad))
            else:
                self.conditions += [f"({text} is {known}) is {other is x}" for other, known in self.texts.items()]
                if x not in self.texts:
                    self._tensor(x, text, name)
                traced.append(x)
        return traced

    # What comes out

    def _own(self, value: Any) -> Any:
        """The node of a value that is kept by somebody: of an array of its own."""
        if not isinstance(value, ArrayMethods | np.ndarray):
            return value
        x = plain(value)
        mine = x.value if type(x) is Tracer else x
        if isinstance(mine, np.ndarray) and (mine is x or not mine.flags.writeable or self._is_shared(mine)):
            x = self.tape.call(np.copy, (x,), {})
        return x.node if type(x) is Tracer else x

    def _is_shared(self, mine: Array) -> bool:
        """Whether somebody else has this memory: what went in, or what comes out in another place."""
        others = [*(node.value for node in self.reads), *self._kept]
        self._kept.append(mine)
        return any(isinstance(other, np.ndarray) and np.may_share_memory(mine, other) for other in others)

    def _returned(self, x: Any) -> Any:
        """Something that the function returned: the node of a Tracer, `Returned` in place of a Tensor."""
        if type(x) is not Tensor:
            return self._own(x)
        node = x.value.node if type(x.value) is Tracer else self.tape.constant(np.asarray(x.value))
        return Returned(node, x.needs_grad)


def traced(
    function: Any,
    args: Any,
    kwargs: Any,
    leaves: list[Any],
    statics: tuple[Any, ...],
    free: bool = False,
    before: Trace | None = None,
) -> Trace:
    """The Trace of one call. free: whether the hyperparameters of optimizers are inputs, not constants.

    before: one that has been made already, which knows what code runs.

    Raises TracingError for a function that draws from the global state of chance.

    That state belongs to all threads. What another one draws meanwhile is no fault of the function, and stays drawn;
    the function itself draws in each of some traces. Where code ran to which nothing had led, or code was followed that
    did not run, another trace follows what ran; what is still not found is refused.
    """
    start = _chance()
    ran = before.ran if before else None
    try:
        for _ in range(_TRIES):
            known, state = ran, _chance()
            trace = Trace(function, args, kwargs, leaves, statics, free, ran, before is None)
            after, ran = _chance(), trace.ran
            if ran != known:
                continue
            if trace.missed:
                raise TracingError(
                    f"compile: {trace.name} runs {', '.join(sorted(x.co_qualname for x in trace.missed))}, which was "
                    "not found in what its code names, so that what it reads cannot be watched: call it by its name"
                )
            if after[0] == state[0] and all(map(np.array_equal, after[1], state[1])):
                return trace
        raise randomness(function_name(function), "the global state of random or np.random")
    except BaseException:
        random.setstate(start[0])
        np.random.set_state(start[1])  # noqa: NPY002
        raise


@contextlib.contextmanager
def _noted(ran: dict[CodeType, dict[str, Any]]) -> Iterator[None]:
    """Note all Python code that is run inside, with its globals; unless a debugger and a profiler both run already."""

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            ran[frame.f_code] = frame.f_globals

    hooks = ((sys.gettrace, sys.settrace), (sys.getprofile, sys.setprofile))  # the first is told of less: quicker
    asked, put = next(((get, put) for get, put in hooks if get() is None), (lambda: None, lambda _: None))
    put(note)
    try:
        yield
    finally:
        if asked() is note:  # else a breakpoint inside has put a debugger there
            put(None)


def _chance() -> tuple[Any, Any]:
    """The global states of chance."""
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def function_name(function: Any) -> str:
    """What a function is called in texts."""
    name = getattr(function, "__name__", type(function).__name__)
    return name if name.isidentifier() else "program"


def _names(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int, str]:
    """The name of each array and tensor among the arguments, by its identity: that of the parameter it is given for."""
    try:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # a builtin has no signature; a wrong call will say so itself
        return {}
    names: dict[int, str] = {}
    for name, value in given.items():
        parts = list(filter(is_leaf, tree.leaves(value)))
        for i, part in enumerate(parts):
            names.setdefault(id(part), name if len(parts) == 1 else f"{name}_{i}")
    return names


def rebuilt(x: Any, leaves: Iterator[Any]) -> Any:
    """An argument with other arrays and tensors in their places."""
    return tree.mapped(lambda part: next(leaves) if is_leaf(part) else part, x)
