"""Hyperparameters: declared on the optimizer's class, each with its default and its range.

    class Mine(Optimizer):
        lr: LearningRate = rate(1e-3)
        momentum: float = number(0.9, below=1.0)

The class then takes them, in this order, after the parameters: ``Mine(params, 0.1, momentum=0.5)``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, dataclass_transform

import numpy as np

Schedule = Callable[[int], float]
LearningRate = float | Schedule
Betas = tuple[float, float]


@dataclass
class Hyperparameter:
    """One declared hyperparameter. On an optimizer, as an attribute, it is the value of the first group.

    default: its value where none is given. wanted: its range, in words. holds: whether a value is in the range.
    is_rate: whether it may be a schedule, a function of the step; the attribute is then the value at the next step.
    """

    default: Any
    wanted: str = "anything"
    holds: Callable[[Any], bool] = lambda value: True
    is_rate: bool = False
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Any, owner: type | None = None) -> Any:
        if optimizer is None:
            return self
        return optimizer.rate(self.name) if self.is_rate else optimizer.param_groups[0][self.name]

    def __set__(self, optimizer: Any, value: Any) -> None:
        raise AttributeError(f"{self.name}: set it in a group, optimizer.param_groups[0][{self.name!r}] = {value!r}")

    def accepted(self, owner: str, value: Any) -> Any:
        """The value, NumPy's numbers as Python's. Raises ValueError where it is out of range."""
        value = plain(value)
        if not ((self.is_rate and callable(value)) or self.holds(value)):
            raise ValueError(f"{owner}: {self.name} is {self.wanted}, not {value!r}")
        return value


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's: those leave float32 what it is, and can be written as JSON."""
    if isinstance(value, np.generic):
        return value.item()
    return type(value)(plain(item) for item in value) if type(value) in (tuple, list) else value


def is_number(value: Any, low: float = -math.inf, below: float = math.inf) -> bool:
    """Whether it is a finite number (not a bool), from `low` to less than `below`."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and low <= value < below and value > -math.inf


# The kinds. Each is Any to type checkers, so that ``lr: float = number(0.1)`` declares a float.


def number(default: float | None, low: float = 0.0, below: float = math.inf) -> Any:
    """A number, low ≤ x < below; the default too, where that is outside of this range (None, infinity)."""
    return _ranged(default, f"a number from {low} to below {below}", lambda value: is_number(value, low, below))


def rate(default: float) -> Any:
    """A learning rate: a number from 0, or a schedule."""
    return Hyperparameter(default, "a number from 0, or a schedule", lambda value: is_number(value, 0.0), is_rate=True)


def positive(default: float, below: float = math.inf) -> Any:
    """A number, 0 < x < below."""
    return Hyperparameter(default, "a positive number", lambda value: is_number(value, 0.0, below) and value > 0)


def whole(default: int | None, low: int = 1) -> Any:
    """A whole number from `low`; the default too, where that is something else (None)."""
    return _ranged(default, f"a whole number from {low}", lambda x: isinstance(x, int) and is_number(x, low))


def _ranged(default: Any, wanted: str, holds: Callable[[Any], bool]) -> Hyperparameter:
    if holds(default):
        return Hyperparameter(default, wanted, holds)
    return Hyperparameter(default, f"{wanted}, or {default}", lambda value: holds(value) or value == default)


def flag(default: bool) -> Any:
    """True or False."""
    return Hyperparameter(default, "True or False", lambda value: isinstance(value, bool))


def choice(default: str, *others: str) -> Any:
    """One of some words."""
    words = (default, *others)
    return Hyperparameter(default, f"one of {words}", lambda value: isinstance(value, str) and value in words)


def several(*defaults: float, low: float = -math.inf, below: float = math.inf) -> Any:
    """As many numbers as there are defaults, each low ≤ x < below."""
    between = "" if (low, below) == (-math.inf, math.inf) else f" from {low} to below {below}"

    def holds(xs: Any) -> bool:
        is_list = isinstance(xs, tuple | list) and len(xs) == len(defaults)
        return is_list and all(is_number(x, low, below) for x in xs)

    return Hyperparameter(defaults, f"{len(defaults)} numbers{between}", holds)


def betas(beta1: float, beta2: float) -> Any:
    """The decay rates β of two moving averages: from 0 to below 1."""
    return several(beta1, beta2, low=0.0, below=1.0)


def seed(default: int) -> Any:
    """A seed: a whole number from 0. A Generator may be given too: a seed is drawn from it."""
    return Seed(default, "a seed from 0, or a Generator", lambda x: isinstance(x, int) and is_number(x, 0))


class Seed(Hyperparameter):
    """A seed, which can be saved, where a Generator could not."""

    def accepted(self, owner: str, value: Any) -> Any:
        """The seed."""
        return super().accepted(owner, int(value.integers(2**32)) if isinstance(value, np.random.Generator) else value)


@dataclass_transform()
class Declares:
    """Base of a class that declares hyperparameters. `hyperparameters`: those declared, by name.

    An annotated plain value is a hyperparameter without a range; a ClassVar, or what a base has already, is none. A
    plain value for a hyperparameter of a base is another default, and one named lr a learning rate.
    """

    hyperparameters: ClassVar[dict[str, Hyperparameter]] = {}

    def __init_subclass__(cls) -> None:
        annotations, declared = inspect.get_annotations(cls), {}
        for name, value in list(vars(cls).items()):
            if isinstance(value, Hyperparameter):
                declared[name] = value
            elif hasattr(value, "__get__"):  # a method, or a property
                continue
            elif name in cls.hyperparameters:
                declared[name] = replace(cls.hyperparameters[name], default=value)
            elif name == "lr":
                declared[name] = replace(rate(value), name=name)
            elif "ClassVar" not in str(annotations.get(name, "ClassVar")) and not hasattr(super(cls, cls), name):
                declared[name] = Hyperparameter(value, name=name)
        for name, hyperparameter in declared.items():
            setattr(cls, name, hyperparameter)
        cls.hyperparameters = {**cls.hyperparameters, **declared}
        kind, signature = inspect.Parameter.POSITIONAL_OR_KEYWORD, None
        if "__init__" not in vars(cls):
            named = [inspect.Parameter(name, kind, default=h.default) for name, h in cls.hyperparameters.items()]
            signature = inspect.Signature([inspect.Parameter("params", kind), *named])
        cls.__signature__ = signature  # type: ignore[attr-defined]  # for help(); None: that of __init__
