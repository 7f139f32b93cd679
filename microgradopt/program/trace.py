"""One run of a function on Tracers, so that its program is right whenever it is run later on.

Everything the function may read is found (its arguments, and captures.py), replaced by Tracers, and put back
afterwards. Each is a slot: a line of the program reads it anew at each call, and if the function has put something else
there, another line does that at the end. What cannot be read anew becomes a condition: the program is the one for a
call only while it holds.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np

from microgradopt import tree
from microgradopt.array_methods import ArrayMethods
from microgradopt.graph.graph import INPUT, PARAMETER, Node
from microgradopt.graph.modules import Calls
from microgradopt.mode import clock, observed
from microgradopt.optim.optimizer import Optimizer
from microgradopt.optim.saving import whole
from microgradopt.program.captures import Captures, Place, is_of_library
from microgradopt.program.tape import Tape
from microgradopt.program.tracer import Tracer, TracingError, concrete
from microgradopt.program.writer import Returned
from microgradopt.tensor import Array, Tensor, plain
from microgradopt.tensor import result as made
from microgradopt.vector import ParameterVector

_TRIES = 5  # traces, until one is found in which nothing was drawn
_SIMPLE = (bool, int, float, complex, str, bytes, type(None))


class UnsettledError(TracingError):
    """The function changes what its program would refer to, and will not do so at its next call."""


class CaughtError(TracingError):
    """The function catches an error of NumPy's: which way it goes is known only by running it."""


class Effect(NamedTuple):
    """What the function has put somewhere. name: of the place. line: what puts it there, with {} for the value.

    slot: the input that is read from there, if there is one.
    """

    name: str
    line: str
    value: Any
    slot: Node | None = None


class Part(NamedTuple):
    """Where in θ a parameter is."""

    theta: Node
    place: slice


class Trace:
    """The program of one call, as it was recorded.

    tape: what was recorded. reads: for each input, the text that reads it. conditions: texts that have to be true.
    effects: what is put where at the end. parts: the inputs that are parts of another one. rates: the inputs that are
    learning rates, with the text of their optimizer, their name and the number of their group. settings: those that are
    other hyperparameters, with name and group. texts: what each tensor is called in these texts. objects: what names in
    them stand for. result: what the function returned, with nodes in place of Tracers and `Returned` in place of
    Tensors. ran: the code that runs, where a search that knows it finds something else; None, where it does not matter.
    missed: code of the user that has run, and was not found.

    In the texts, ``args`` is the list of the arrays and tensors among the arguments.
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
        self.name = function_name(function)
        self._free = free
        self.tape = Tape(begun=clock.tick())
        self.reads: dict[Node, str] = {}
        self.conditions: list[str] = []
        self.effects: list[Effect] = []
        self.parts: dict[Node, Part] = {}
        self.rates: dict[Node, tuple[str, str, int]] = {}
        self.settings: dict[Node, tuple[str, int]] = {}
        self.objects: dict[str, Any] = {}
        self._called: dict[int, str] = {}  # what they are called, by their addresses
        self._undo: list[Callable[[], Any]] = []
        self._look: list[Callable[[], None]] = []
        self.texts: dict[Tensor, str] = {}
        self.places: list[Place] = []  # of arrays that the program reads, and may replace
        self.optimizers: list[Optimizer] = []
        self.sources: list[str] = []  # the tensors that a gradient would flow to, as the program calls them
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

    def _undone(self) -> None:
        """Everything as it was before. May be done twice."""
        for undo in reversed(self._undo):
            undo()

    def _check_caught(self) -> None:
        """Raise CaughtError where an error of NumPy's did not come out."""
        if self.tape.failed is not None:
            raise CaughtError(f"compile: {self.name} catches an error, {self.tape.failed!r:.100}") from self.tape.failed

    def _call(self, x: Any) -> str:
        """The name of an object in the texts."""
        if id(x) not in self._called:
            self._called[id(x)] = name = f"_{type(x).__name__.strip('_').lower()}{len(self.objects)}"
            self.objects[name] = x
        return self._called[id(x)]

    def _condition(self, text: str, *objects: Any) -> None:
        """What has to stay true; {} in it are objects."""
        self.conditions.append(text.format(*map(self._call, objects)))

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

    def _slot(self, place: Place, read: str, write: str, role: str = INPUT, **about: bool) -> None:
        """Replace what is kept in a place by a Tracer, until the end, if there is something."""
        value = place.get()
        tracer = None if value is None else self._input(value, read, place.name, role=role, **about)
        node = None if tracer is None else tracer.node
        self._undo.append(lambda: place.put(value))  # first: an interruption may come at any moment
        place.put(tracer)

        def look() -> None:
            now = place.get()
            if now is not tracer or getattr(now, "node", None) is not node:
                self.effects.append(Effect(place.name, write, now, node))

        self._look.append(look)

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

    def _input(self, value: Any, read: str, name: str, **about: Any) -> Tracer:
        """A value that the program reads anew at each call. about: see `Tape.input`."""
        tracer = self.tape.input(value, name=name, **about)
        self.reads[tracer.node] = read
        return tracer

    def _place(self, place: Place) -> None:
        """An array is read at each call. All else has to stay what it is."""
        value = place.get()
        text = f"{self._call(place.holder)}.{place.key}"
        if place.is_entry:
            simple = type(place.key) is int or (type(place.key) is str and place.key.isidentifier())
            text = f"{self._call(place.holder)}[{repr(place.key) if simple else self._call(place.key)}]"
        if isinstance(value, np.ndarray):
            if not is_leaf(value):
                raise TracingError(
                    f"compile: {place.name} is a {type(value).__name__}, which is more than an array: use np.asarray"
                )
            known = value.shape, value.strides, value.dtype
            self._condition(f"({text}.shape, {text}.strides, {text}.dtype) == {{}}", known)
            self._slot(place, text, f"{text} = {{}}")
            self.places.append(place)
            return
        kept = value
        if isinstance(value, tuple):  # of the arrays in it only the contents can change
            kept = self._in_tuple(value, text, place.name)
            place.put(kept)
        alike = f" or _same({text}, {{}})" if isinstance(value, _SIMPLE) else ""
        self._condition(f"({text} is {{}}{alike})", value, value)
        self._look.append(lambda: self._unchanged(place.get() is kept, place.name))
        self._undo.append(lambda: None if place.get() is value else place.put(value))

    def _in_tuple(self, x: Any, text: str, name: str) -> Any:
        """A tuple with Tracers in place of arrays; itself, if there are none in it."""
        if type(x) is np.ndarray:
            return self._input(x, text, name)
        if not isinstance(x, tuple):
            return x
        parts = [self._in_tuple(part, f"{text}[{i}]", f"{name}_{i}") for i, part in enumerate(x)]
        if all(part is before for part, before in zip(parts, x, strict=True)):
            return x
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)

    def _generator(self, generator: np.random.Generator) -> None:
        """Random numbers that the function draws would be the same at each call."""
        state = generator.bit_generator.state

        def look() -> None:
            if str(generator.bit_generator.state) != str(state):
                raise _randomness(self.name, "a Generator")

        self._look.append(look)
        self._undo.append(lambda: setattr(generator.bit_generator, "state", state))

    def _object(self, thing: Any) -> None:
        """An object that gets a new attribute has changed; it is taken away again."""
        own = getattr(thing, "__dict__", None)
        if type(own) is not dict:
            return
        before = {*own, "_calls"}

        def look() -> None:
            new = own.keys() - before
            self._unchanged(not new, f"{type(thing).__name__}.{', '.join(new)}, which is new,")

        def undo() -> None:
            for key in own.keys() - before:
                del own[key]

        self._look.append(look)
        self._undo.append(undo)

    def _container(self, container: Any) -> None:
        """A list keeps its length, a dictionary its keys and their order."""
        fixed: Callable[[Any], Any] = list if isinstance(container, dict) else len
        before, kept = container.copy(), fixed(container)
        self._condition(f"{fixed.__name__}({{}}) == {{}}", container, kept)
        self._look.append(
            lambda: self._unchanged(fixed(container) == kept, f"the size of a {type(container).__name__}")
        )
        self._undo.append(lambda: None if fixed(container) == kept else _restore(container, before))

    def _unchanged(self, is_so: bool, name: str) -> None:
        if not is_so:
            raise TracingError(
                f"compile: {self.name} changes {name} outside of it, which a program would not do: it computes with "
                "arrays. Return what is to be kept, or keep it in a Tensor or an array"
            )

    # Optimizers: their state is read and written as tensors are, and so are numbers of steps and learning rates

    def _optimizer(self, optimizer: Optimizer, text: str) -> None:
        self._condition(f"len({text}.param_groups) == {len(optimizer.param_groups)}")
        for i, group in enumerate(optimizer.param_groups):
            rates = [key for key in optimizer._rates if key in group]
            free = [key for key, value in group.items() if self._free and key not in rates and _is_real(value)]
            settings = {key: value for key, value in group.items() if key not in ("params", *rates, *free)}
            self._condition(f"all({text}.param_groups[{i}][k] == v for k, v in {{}}.items())", settings)
            blocks = list(optimizer._blocks[i])
            self._condition(f"{text}._blocks[{i}] == {{}}", blocks)
            for key in rates:
                self._undo.append(functools.partial(group.__setitem__, key, group[key]))
                rate = self._input(optimizer.rate(key, i), f"{text}.rate({key!r}, {i})", key)
                group[key] = _at(optimizer._steps[i], rate) if callable(group[key]) else rate
                self.rates[rate.node] = text, key, i
            for key in free:
                self._hyperparameter(optimizer, i, key, f"{text}.param_groups[{i}][{key!r}]")
            self._slot(Place(optimizer._steps, i, "step"), f"{text}._steps[{i}]", f"{text}._steps[{i}] = {{}}")
            self._look.append(functools.partial(self._undivided, optimizer, i, blocks))
            self._undo.append(functools.partial(optimizer._blocks.__setitem__, i, blocks))
            for j, block in enumerate(blocks):
                self._state(block.state, f"{text}._blocks[{i}][{j}].state")
                self._theta(block.vector, f"{text}._blocks[{i}][{j}].vector")

    def _hyperparameter(self, optimizer: Optimizer, i: int, key: str, read: str) -> None:
        """A number, or several, as an input: runs with other values have the same program."""
        group, checked = optimizer.param_groups[i], optimizer._checked[i]
        own = group[key]
        for holder in (group, checked):
            self._undo.append(functools.partial(holder.__setitem__, key, own))
        if isinstance(own, tuple):
            tracers = [self._input(x, f"{read}[{j}]", f"{key}{j}") for j, x in enumerate(own)]
        else:
            tracers = [self._input(own, read, key)]
        self.settings |= {tracer.node: (key, i) for tracer in tracers}
        group[key] = checked[key] = tuple(tracers) if isinstance(own, tuple) else tracers[0]

    def _undivided(self, optimizer: Optimizer, i: int, blocks: list[Any]) -> None:
        if optimizer._blocks[i] != blocks:
            raise UnsettledError(
                f"source: in {self.name}, some parameters of the optimizer have no gradient, for the first time: call "
                "the function once as it is; from then on the optimizer keeps their state apart"
            )

    def _state(self, state: dict[str, Any], text: str) -> None:
        """The vectors and numbers that an optimizer keeps; those that it begins to keep, too."""
        before = dict(state)
        self._condition(f"{text}.keys() == {{}}", set(state))
        self._undo.append(lambda: _restore(state, before))
        for key, value in before.items():
            read = f"{text}[{key!r}]"
            self._slot(Place(state, key, key), read, f"{read} = {{}}", owned=isinstance(value, np.ndarray))
        self._look.append(
            lambda: self.effects.extend(
                Effect(key, f"{text}[{key!r}] = {{}}", value) for key, value in state.items() if key not in before
            )
        )

    def _theta(self, vector: ParameterVector, text: str) -> None:
        """θ, which an optimizer holds as one array, of which its tensors are views."""
        if len(vector._dtypes) > 1:
            return
        held, theta = (vector._theta, vector._views), self._thetas[id(vector)]
        flat = self._input(theta, f"{text}.theta()", "theta", of_tensor=True)
        vector._theta, vector._views = flat, [p.value for p in vector.parameters]  # type: ignore[assignment]
        for p, place in zip(vector.parameters, vector.slices, strict=True):
            self.parts[p.value.node] = Part(flat.node, place)

        def look() -> None:
            if vector._theta is not flat:  # type: ignore[comparison-overlap]
                lines = {f"{self.texts[p]}.write({{}})" for p in vector.parameters}
                self.effects = [effect for effect in self.effects if effect.line not in lines]
                if not all(p.value.flags.c_contiguous for p in vector.parameters):
                    raise TracingError(
                        "compile: what is written to a parameter after step() has another layout: copy it"
                    )
                theta = vector.theta()  # gathered anew, where a parameter was written after the step
                self.effects.append(Effect("theta", f"{text}.write({{}})", theta, flat.node))

        def undo() -> None:
            vector._theta, vector._views = held

        self._look.append(look)
        self._undo.append(undo)

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
        raise _randomness(function_name(function), "the global state of random or np.random")
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
    hook = next((put for get, put in hooks if get() is None), lambda _: None)
    hook(note)
    try:
        yield
    finally:
        hook(None)


def _randomness(name: str, source: str) -> TracingError:
    return TracingError(
        f"compile: there is randomness in {name}: it draws from {source}, and a program would give the same numbers at "
        "each call. Give what is drawn as an argument"
    )


def _chance() -> tuple[Any, Any]:
    """The global states of chance."""
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def _at(step: int, rate: Tracer) -> Callable[[Any], Tracer]:
    """A schedule, at one step."""

    def schedule(t: Any) -> Tracer:
        if concrete(t) != step:
            raise TracingError(
                "compile: a schedule is asked for another step than this one: read the rate before step()"
            )
        return rate

    return schedule


def _is_real(x: Any) -> bool:
    """Whether a hyperparameter is a number that formulas compute with, or a tuple of such."""
    return type(x) is float or (type(x) is tuple and bool(x) and all(type(part) is float for part in x))


def _restore(container: Any, before: Any) -> None:
    container.clear()
    container.update(before) if isinstance(container, dict) else container.extend(before)


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


def is_leaf(x: Any) -> bool:
    """Whether an argument is an array or a tensor: what differs from call to call."""
    return type(x) in (np.ndarray, np.memmap, Tensor) or isinstance(x, np.generic)


def rebuilt(x: Any, leaves: Iterator[Any]) -> Any:
    """An argument with other arrays and tensors in their places."""
    return tree.mapped(lambda part: next(leaves) if is_leaf(part) else part, x)
