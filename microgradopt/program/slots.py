"""What a function reads and writes outside of it, as lines of its program.

Each array is a slot: a line of the program reads it anew at each call, and if the function has put something else
there, another line does that at the end. What cannot be read anew becomes a condition: the program is the one for a
call only while it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from microgradopt.graph.graph import INPUT, Node
from microgradopt.mode import clock
from microgradopt.program.captures import Place
from microgradopt.program.tape import Tape
from microgradopt.program.tracer import Tracer, TracingError
from microgradopt.tensor import Tensor

_SIMPLE = (bool, int, float, complex, str, bytes, type(None))


class Effect(NamedTuple):
    """What the function has put somewhere. name: of the place. line: what puts it there, with {} for the value.

    slot: the input that is read from there, if there is one.
    """

    name: str
    line: str
    value: Any
    slot: Node | None = None


class Slots:
    """Slots and conditions of one run. name: of the function.

    tape: what was recorded. reads: for each input, the text that reads it. conditions: texts that have to be true.
    effects: what is put where at the end. objects: what names in the texts stand for. places: of the arrays that the
    program reads, and may replace.

    In the texts, ``args`` is the list of the arrays and tensors among the arguments.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tape = Tape(begun=clock.tick())
        self.reads: dict[Node, str] = {}
        self.conditions: list[str] = []
        self.effects: list[Effect] = []
        self.objects: dict[str, Any] = {}
        self._called: dict[int, str] = {}  # what they are called, by their addresses
        self.places: list[Place] = []
        self._look: list[Callable[[], None]] = []  # after the run: what the function has changed
        self._undo: list[Callable[[], Any]] = []

    def _undone(self) -> None:
        """Everything as it was before. May be done twice."""
        for undo in reversed(self._undo):
            undo()

    def _call(self, x: Any) -> str:
        """The name of an object in the texts."""
        if id(x) not in self._called:
            self._called[id(x)] = name = f"_{type(x).__name__.strip('_').lower()}{len(self.objects)}"
            self.objects[name] = x
        return self._called[id(x)]

    def _condition(self, text: str, *objects: Any) -> None:
        """What has to stay true; {} in it are objects."""
        self.conditions.append(text.format(*map(self._call, objects)))

    def _input(self, value: Any, read: str, name: str, **about: Any) -> Tracer:
        """A value that the program reads anew at each call. about: see `Tape.input`."""
        tracer = self.tape.input(value, name=name, **about)
        self.reads[tracer.node] = read
        return tracer

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
                raise randomness(self.name, "a Generator")

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
        self._undo.append(lambda: None if fixed(container) == kept else restore(container, before))

    def _unchanged(self, is_so: bool, name: str) -> None:
        if not is_so:
            raise TracingError(
                f"compile: {self.name} changes {name} outside of it, which a program would not do: it computes with "
                "arrays. Return what is to be kept, or keep it in a Tensor or an array"
            )


def randomness(name: str, source: str) -> TracingError:
    """The error for a function that draws from a source of chance."""
    return TracingError(
        f"compile: there is randomness in {name}: it draws from {source}, and a program would give the same numbers at "
        "each call. Give what is drawn as an argument"
    )


def restore(container: Any, before: Any) -> None:
    """What is in a list or a dictionary, as it was before."""
    container.clear()
    container.update(before) if isinstance(container, dict) else container.extend(before)


def is_leaf(x: Any) -> bool:
    """Whether an argument is an array or a tensor: what differs from call to call."""
    return type(x) in (np.ndarray, np.memmap, Tensor) or isinstance(x, np.generic)
