"""compile: trace a function once, and from then on run the NumPy program that it amounts to."""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import numpy as np

from microgradopt import tree
from microgradopt.graph.cost import Cost, cost
from microgradopt.graph.graph import Graph
from microgradopt.mode import current_mode
from microgradopt.notebook import folded, shown, table
from microgradopt.optim.saving import whole
from microgradopt.program.loop import Loop
from microgradopt.program.native import native_loop
from microgradopt.program.optimizers import UnsettledError
from microgradopt.program.origins import is_of_library
from microgradopt.program.program import MISFIT, Program, Source
from microgradopt.program.repeat import Repeated
from microgradopt.program.slots import is_leaf
from microgradopt.program.state import Moment, same
from microgradopt.program.trace import CaughtError, function_name, traced
from microgradopt.program.tracer import StaleProgramError, TracingError
from microgradopt.tensor import Tensor

if TYPE_CHECKING:
    from microgradopt.picture.drawing import Drawing

P = ParamSpec("P")
T = TypeVar("T")

_LOCK = threading.RLock()  # while a function is traced its tensors hold Tracers, which no other may see

# Which calls of a program, 1 first, are compared with the function itself.
_IS_CHECKED: dict[str, Callable[[int], bool]] = {
    "doubling": lambda call: call & (call - 1) == 0,
    "always": lambda call: True,
    "never": lambda call: False,
}

_ENGINES: dict[str, Callable[..., Any]] = {"numpy": Loop, "numba": native_loop}

_PROGRAMS = 64  # as many are kept of each function; of the one unused longest, the last goes first


def compile(function: Callable[P, T], check: str = "doubling", engine: str = "numpy") -> Compiled[P, T]:
    """Make a function quick: trace it when it is first called, then run the plain NumPy program that it amounts to.

    function: of arrays and Tensors, also in lists, tuples and dictionaries; of Python values, which are constants of
    the program. It may use parameters, arrays and numbers from outside, compute gradients, call ``backward`` and an
    optimizer's ``step``. Usable as a decorator, ``@mg.compile``.

    There is one program for each combination of shapes, dtypes and Python values. Tensors and arrays from outside are
    read at each call. What else the code names (closures, globals, functions, attributes and methods of objects and
    classes, items of lists and dicts) is checked at each call, and a change makes a new program; libraries are taken as
    they are, and a schedule as a function of the step alone. Results are the same as the function's own, to the last
    bit, and are never overwritten by a later call. What a call writes (gradients, parameters, an optimizer's state) is
    written as a whole, or not at all.

    check: which calls of a program are computed by the function as well, from the same state, and compared bit for bit:
    "doubling" (calls 1, 2, 4, 8, …), "always" or "never".

    engine: what runs loops (`Compiled.repeat`, `training.fit`, `training.fit_many`): "numpy", or "numba", which makes
    machine code of them (``pip install 'microgradopt[native]'``). Its results are those of NumPy to rounding, which is
    checked for the first 8 rounds. Where a call has no native form, NumPy goes on, and a RuntimeWarning says why.

    A result that depends on tensors that require a gradient cannot be differentiated from outside
    (NotDifferentiableError): compute the gradient inside, by ``backward`` or ``mg.grad``.

    While a function is being traced, its tensors hold Tracers. Compiled functions wait for each other; other threads
    must not use these tensors then.

    Under ``mg.detect_anomaly()``, inside another compiled function, and where NumPy raises, the function itself runs.

    Raises TracingError while tracing: for ``if`` and ``while`` on a tensor's value, ``float(tensor)``, np.asarray of a
    traced value; for shapes that depend on a tensor's values (``x[x > 0]``); for what is read and cannot be watched
    (getattr, a deque, functools.cache, chance); for a function that changes Python values, or arrays that it is given.
    StaleProgramError where a check finds a difference. Then nothing has been changed. TypeError for arguments that
    cannot be hashed. ImportError, of "numba", without Numba.

    >>> import microgradopt as mg
    >>> w = mg.Tensor([1.0, 2.0], requires_grad=True)
    >>> gradient = compile(lambda x: mg.grad(((x @ w) ** 2).sum(), w))
    >>> gradient(np.eye(2))
    [array([2., 4.])]
    """
    if not callable(function) or inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"compile: wants a function that returns its result, not {function!r}")
    if check not in _IS_CHECKED:
        raise ValueError(f"compile: check is one of {', '.join(_IS_CHECKED)}, not {check!r}")
    if engine not in _ENGINES:
        raise ValueError(f"compile: engine is one of {', '.join(_ENGINES)}, not {engine!r}")
    return Compiled(function, check, engine)


def _method(function: Any, held: weakref.ref[Any]) -> Any:
    """A method of an instance, which does not keep the instance alive."""

    @functools.wraps(function)
    def method(*args: Any, **kwargs: Any) -> Any:
        return function(held(), *args, **kwargs)

    method.__signature__ = inspect.signature(function.__get__(held()))  # type: ignore[attr-defined]
    return method


class Compiled(Generic[P, T]):
    """A compiled function, made by `compile`. `source`, `graph`, `draw` and `cost` are of the program used last.

    >>> double = compile(lambda x: x * 2)
    >>> double(np.ones(2)), double
    (array([2., 2.]), Compiled(program, 1 program))
    """

    def __init__(self, function: Callable[..., Any], check: str = "doubling", engine: str = "numpy") -> None:
        functools.update_wrapper(self, function)
        self._function, self._check = function, check
        self._engine, self.engine = engine, _ENGINES[engine]
        self._programs: OrderedDict[Any, list[Program]] = OrderedDict()
        self._last: Program | None = None
        self._bound: dict[int, Compiled[..., Any]] = {}  # as methods, by the address of the instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function gives."""
        if current_mode.get().observers:
            return self._function(*args, **kwargs)
        with _LOCK:
            return self._called(args, kwargs)

    def repeat(self, n: int, over: Iterable[int] = ()) -> Repeated:
        """n calls in a row as one: what a call writes (parameters, an optimizer's state), the next one reads.

        Gives a function of the same arguments. Of those whose positions are in `over`, each call gets its own entry:
        their first axis has the length n. The results of all calls come back as arrays with a new first axis.

        The calls are those of a loop ``for i in range(n): f(x, y[i])``, with the same results to the last bit.
        Schedules go on from call to call. The first 8 are made one by one, and checked as `check` says; from then on
        nothing outside is looked at until the end: another thread must not change what is read. Where a call would
        raise, those before it are done, and the error comes.

        Raises ValueError for an n below 1, and arguments in `over` of another length.

        >>> import microgradopt as mg
        >>> w = mg.Tensor(1.0, requires_grad=True)
        >>> optimizer = mg.optim.SGD([w], lr=0.25)
        >>> def step():
        ...     optimizer.zero_grad()
        ...     loss = w * w
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
        >>> mg.compile(step).repeat(3)()
        array([1.    , 0.25  , 0.0625])
        """
        return Repeated(self, n, over)

    def program_for(self, args: Any) -> Program | None:
        """The program that is there for such a call; None, if there is none."""
        known, leaves, _ = _described(args, {})
        return next((program for program in self._programs.get(known, ()) if program.fits(leaves)), None)

    def _called(self, args: Any, kwargs: Any) -> Any:
        known, leaves, statics = _described(args, kwargs)
        for program in self._programs.get(known, ()):
            result = self._run(program, leaves, args, kwargs)
            if result is not MISFIT:
                self._last = program
                return result
        try:
            self._last = self._traced(args, kwargs, leaves, statics)
        except (UnsettledError, CaughtError):
            return self._function(*args, **kwargs)
        self._keep(known, self._last)
        result = self._run(self._last, leaves, args, kwargs)
        return self._function(*args, **kwargs) if result is MISFIT else result

    def _run(self, program: Program, leaves: list[Any], args: Any, kwargs: Any) -> Any:
        """What the program gives, or MISFIT. Where NumPy raises, the function itself decides what happens."""
        program.calls += 1
        before = program.state.now(leaves) if _IS_CHECKED[self._check](program.calls) else None
        try:
            result = program.run(leaves)
        except Exception:  # nothing has been written yet
            return self._function(*args, **kwargs)
        if before is None or result is MISFIT:
            return result
        return self._checked(program, leaves, args, kwargs, before, result)

    def _checked(self, program: Program, leaves: list[Any], args: Any, kwargs: Any, before: Moment, result: Any) -> Any:
        """The result of the program, compared with that of the function itself, bit for bit, from the same state."""
        state = program.state
        found = result, state.now(leaves)

        def plainly() -> tuple[Any, Moment]:
            state.put_back(before)
            return self._function(*args, **kwargs), state.now(leaves)

        def difference(one: tuple[Any, Moment], other: tuple[Any, Moment]) -> str:
            return "result" if not same(one[0], other[0]) else state.difference(one[1], other[1])

        end = before
        try:
            expected = plainly()
            wrong = difference(expected, found)
            # Where the function differs from itself (as some BLAS do from run to run), the program may too.
            if wrong and not difference(expected, plainly()):
                self._programs.clear()
                raise StaleProgramError(
                    f"compile: the program of {function_name(self._function)} gives another {wrong} than the function "
                    "itself: something that it reads has changed and could not be watched. Nothing was changed; the "
                    "next call traces it anew. Give what it reads as an argument"
                )
            end = found[1]
        finally:
            whole(lambda: state.put_back(end))
        return result

    def _traced(self, args: Any, kwargs: Any, leaves: list[Any], statics: tuple[Any, ...]) -> Program:
        """Traced twice: what comes out differently depends on something that a program cannot know."""
        trace = traced(self._function, args, kwargs, leaves, statics)
        first, second = (
            Program(x) for x in (trace, traced(self._function, args, kwargs, leaves, statics, before=trace))
        )
        if not first.is_same(second):
            raise TracingError(
                f"compile: {function_name(self._function)} is not the same when it is traced twice. Is there "
                "randomness in it (np.random, a Generator), or time? Give what differs as an argument"
            )
        first.let_go()
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
        key = id(instance)  # not the instance: it may be equal to another one
        if key not in self._bound:
            try:
                held = weakref.ref(instance, lambda _: self._bound.pop(key, None))
            except TypeError:  # an instance that cannot be held weakly gets a new one each time
                return Compiled(self._function.__get__(instance, owner), self._check, self._engine)
            self._bound[key] = Compiled(_method(self._function, held), self._check, self._engine)
        bound = _Bound.__new__(_Bound)
        bound.__dict__, bound.instance = self._bound[key].__dict__, instance
        return bound

    def __reduce__(self) -> Any:
        """A copy has no programs: it compiles for itself."""
        return Compiled, (self._function, self._check, self._engine)

    @property
    def _program(self) -> Program:
        if self._last is None:
            raise RuntimeError(
                f"compile: {function_name(self._function)} has no program yet: it is traced when it is first called"
            )
        return self._last

    @property
    def source(self) -> Source:
        """The program used last, as text (see `mg.source`)."""
        return self._program.source

    @property
    def graph(self) -> Graph:
        """Its graph."""
        return self._program.graph

    def draw(self, **options: Any) -> Drawing:
        """The picture of its graph. options: those of `mg.draw`."""
        from microgradopt.picture.drawing import draw  # on use: it needs the package graphviz

        return draw(self.graph, **options)

    @property
    def cost(self) -> Cost:
        """Its operations, floating-point operations, and bytes."""
        return cost(self._program.graph)

    def __repr__(self) -> str:
        count = sum(map(len, self._programs.values()))
        return f"Compiled({function_name(self._function)}, {count} program{'s' * (count != 1)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: how many programs there are; the cost of the one used last, and its source, folded."""
        name = f"Compiled({function_name(self._function)})"
        rows: list[tuple[str, object]] = [("programs", sum(map(len, self._programs.values())))]
        if self._last is None:
            return shown(table(name, [*rows, ("source", "none yet: it is traced when it is first called")]))
        units = ("operations", "floating-point operations", "bytes of all results")
        rows += [(unit, f"{count:,}") for unit, count in zip(units, self.cost, strict=True)]
        return shown(table(name, rows), folded("source of the program used last", self.source))


class _Bound(Compiled[P, T]):
    """A compiled function as the method of an instance, which it keeps alive while it is called."""

    __slots__ = ("instance",)
    instance: Any


class Itself:
    """An argument that only itself is equal to, whatever its class says."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return type(other) is Itself and self.x is other.x

    def __hash__(self) -> int:
        return id(self.x)


def _described(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], list[Any], tuple[Any, ...]]:
    """What a program for a call depends on; the arrays and tensors among the arguments; and their other objects."""
    mode = current_mode.get()
    key: list[Any] = [mode.recording, mode.measuring]
    leaves: list[Any] = []
    statics: list[Any] = []
    for x in args:
        describe(x, key, leaves, statics)
    if kwargs:
        describe(kwargs, key, leaves, statics)
    return tuple(key), leaves, tuple(statics)


def describe(x: Any, key: list[Any], leaves: list[Any], statics: list[Any]) -> None:
    """What a program depends on in an argument; the arrays and tensors in it; and its other objects."""
    kind = type(x)
    if kind in (np.ndarray, np.memmap):
        key.append((x.shape, x.strides, x.dtype))
        leaves.append(x)
    elif kind is Tensor:
        key.append((x.value.shape, x.value.dtype, x.needs_grad, x.function is None, x.grad is None))
        leaves.append(x)
    elif is_leaf(x):
        key.append(x.dtype)
        leaves.append(x)
    elif (parts := tree.children(x)) is not None:
        key.append(tree.structure(x))
        if kind not in (list, tuple, dict):  # its methods and the attributes of its class are read, too
            statics.append(kind)
        for part in parts:
            describe(part, key, leaves, statics)
    else:
        try:
            hash(x)
        except TypeError:
            raise TypeError(
                f"compile: an argument is a {kind.__name__}, which cannot be told from another one: give arrays, "
                "Tensors, or Python values that can be hashed"
            ) from None
        code = getattr(kind.__eq__, "__code__", None)
        itself = Itself(x) if code is not None and not is_of_library(code, {}) else x
        key.append((kind, repr(x) if kind is float else itself))  # 0.0 is not -0.0
        statics.append(x)
