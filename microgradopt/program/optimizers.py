"""Optimizers in a trace: state, θ, numbers of steps and learning rates are read and written as tensors are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from microgradopt.graph.graph import Node
from microgradopt.optim.optimizer import Optimizer
from microgradopt.program.captures import Place
from microgradopt.program.slots import Effect, Slots, restore
from microgradopt.program.tracer import Tracer, TracingError, concrete
from microgradopt.tensor import Tensor
from microgradopt.vector import ParameterVector


class UnsettledError(TracingError):
    """The function changes what its program would refer to, and will not do so at its next call."""


class Part(NamedTuple):
    """Where in θ a parameter is."""

    theta: Node
    place: slice


class OptimizerSlots(Slots):
    """Slots and conditions of optimizers, too. free: whether their hyperparameters are inputs, not constants.

    parts: the inputs that are parts of another one. rates: the inputs that are learning rates, with the text of their
    optimizer, their name and the number of their group. settings: those that are other hyperparameters, with name and
    group. texts: what each tensor is called in the texts.
    """

    def __init__(self, name: str, free: bool) -> None:
        super().__init__(name)
        self._free = free
        self.parts: dict[Node, Part] = {}
        self.rates: dict[Node, tuple[str, str, int]] = {}
        self.settings: dict[Node, tuple[str, int]] = {}
        self.texts: dict[Tensor, str] = {}
        self._thetas: dict[int, Any] = {}

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
        self._undo.append(lambda: restore(state, before))
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
