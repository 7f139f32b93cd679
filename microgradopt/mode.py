"""How results are made: recorded or not, checked or not, and when.

The mode is a context variable, so that each thread, and each asyncio task, has its own.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from contextvars import ContextVar, Token
from typing import Any, NamedTuple


class Observer:
    """Who is told what the engine does. Subclass it, and write what you want to know; `observed` switches it on."""

    def recorded(self, tensor: Any, function: Any, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        """`function` has made `tensor` from `inputs`, whose values are `values`; None has made a constant."""

    def asked(
        self, function: Any, inputs: tuple[Any, ...], values: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        """`function` has answered `out` from the values alone (``x > 0``). Some of its arguments need a gradient."""

    def swept(self, tensor: Any, g: Any, cotangents: dict[Any, Any]) -> None:
        """`g` is the whole cotangent of `tensor`, and its shares have been added to the `cotangents` of its inputs."""


class Mode(NamedTuple):
    """How results are made.

    recording: those that need a gradient remember how they were made. sweeps: inside of how many reverse sweeps they
    are being made. measuring: modules compute as in training, but draw nothing and keep nothing. observers: who is
    told.
    """

    recording: bool = True
    sweeps: int = 0
    measuring: bool = False
    observers: tuple[Observer, ...] = ()


PLAIN = Mode()
current_mode: ContextVar[Mode] = ContextVar("microgradopt_mode", default=PLAIN)


class Switched(contextlib.ContextDecorator):
    """Context manager and decorator: another mode inside, and the one before it again afterwards.

    observers: who is told as well. changes: what else is different.
    """

    def __init__(self, *observers: Observer, **changes: Any) -> None:
        self._observers, self._changes = observers, changes
        self._tokens: list[Token[Mode]] = []

    def __enter__(self) -> None:
        mode = current_mode.get()
        mode = mode._replace(observers=mode.observers + self._observers, **self._changes)
        self._tokens.append(current_mode.set(mode))

    def __exit__(self, *error: object) -> None:
        current_mode.reset(self._tokens.pop())

    def _recreate_cm(self) -> Switched:
        # Each call of a decorated function in its own thread and at its own depth.
        return Switched(*self._observers, **self._changes)

    def __call__(self, function: Any) -> Any:
        """As a decorator: the mode holds while the function runs."""
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__}: its body runs after the call has returned; use `with` in the body")
        return super().__call__(function)


def no_grad() -> Switched:
    """Record nothing: results inside need no gradient. ``with mg.no_grad():``, or ``@mg.no_grad()`` on a function.

    Holds for the current thread (or asyncio task) only, and nests. Not for a generator or coroutine function, whose
    body runs later (TypeError): put ``with`` into its body, around no ``yield``.

    >>> import microgradopt as mg
    >>> x = mg.Tensor(2.0, requires_grad=True)
    >>> with no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """
    return Switched(recording=False)


def measuring() -> Switched:
    """The loss of a training as a function of θ alone: without dropout, and batch statistics leave no trace."""
    return Switched(measuring=True)


def observed(observer: Observer) -> Switched:
    """Tell `observer`, too, what the engine does: every result, every question that a value answered, every sweep."""
    return Switched(observer)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded: True outside of `no_grad`.

    >>> is_grad_enabled()
    True
    """
    return current_mode.get().recording


class Clock:
    """Dates everything: results when they are made, leaves when they are written.

    last_write: the date of the latest write to any leaf. A sweep whose oldest node is younger needs no further check.
    """

    def __init__(self) -> None:
        self.tick = itertools.count(1).__next__
        self.last_write = 0


clock = Clock()
