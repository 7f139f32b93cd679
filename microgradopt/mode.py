"""How results are made: recorded or not, checked or not, and when.

The mode is a context variable, so that each thread, and each asyncio task, has its own.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from contextvars import ContextVar, Token
from typing import Any, NamedTuple


class Mode(NamedTuple):
    """How results are made.

    recording: those that need a gradient remember how they were made. checking: they must be finite. sweeps: inside of
    how many reverse sweeps they are being made. tape: where a program is being traced (graph/tracer.py), else None.
    """

    recording: bool = True
    checking: bool = False
    sweeps: int = 0
    tape: Any = None


PLAIN = Mode()
current_mode: ContextVar[Mode] = ContextVar("microgradopt_mode", default=PLAIN)


class Switched(contextlib.ContextDecorator):
    """Context manager and decorator: another mode inside, and the one before it again afterwards."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self._tokens: list[Token[Mode]] = []

    def __enter__(self) -> None:
        self._tokens.append(current_mode.set(current_mode.get()._replace(**self._changes)))

    def __exit__(self, *error: object) -> None:
        current_mode.reset(self._tokens.pop())

    def _recreate_cm(self) -> Switched:
        return Switched(**self._changes)  # each call of a decorated function in its own thread and at its own depth

    def __call__(self, function: Any) -> Any:
        """As a decorator: the mode holds while the function runs."""
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__}: its body runs after the call has returned; use `with` in the body")
        return super().__call__(function)


def no_grad() -> Switched:
    """Record nothing: results inside need no gradient. ``with mg.no_grad():``, or ``@mg.no_grad()`` on a function.

    Holds for the current thread (or asyncio task) only, and nests. Not for a generator or coroutine function, whose
    body runs later (TypeError): put ``with`` into its body, around no ``yield``.
    """
    return Switched(recording=False)


def detect_anomaly() -> Switched:
    """Check every result, forward and backward, and raise NonFiniteError at the operation that first made a NaN or Inf.

    Costs a pass over every array: for finding the cause, not for training. Usable as ``@mg.detect_anomaly()`` too.
    """
    return Switched(checking=True)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded: True outside of `no_grad`."""
    return current_mode.get().recording


def expect(condition: Any) -> bool:
    """Whether a condition holds that is false only for an error. A program that is being traced checks it at each call.

    For conditions on a tensor's value, which otherwise must not decide anything in a traced program.
    """
    tape = current_mode.get().tape
    return bool(condition if tape is None else tape.expect(condition))


class Clock:
    """Dates everything: results when they are made, leaves when they are written.

    last_write: the date of the latest write to any leaf. A sweep whose oldest node is younger needs no further check.
    """

    def __init__(self) -> None:
        self.tick = itertools.count(1).__next__
        self.last_write = 0


clock = Clock()
