"""Learning-rate schedules (L11, L12): functions of the step, t = 0 first, that give ηₜ.

Give one to any optimizer as its `lr`. Each is a frozen dataclass: it prints, compares, pickles, and is saved with the
optimizer. It holds no state: a resumed run has the right rate at once.

>>> from microgradopt.optim import schedules
>>> lr = schedules.Warmup(4, schedules.Cosine(1.0, steps=8))
>>> [round(lr(t), 3) for t in range(13)]
[0.25, 0.5, 0.75, 1.0, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038, 0.0]
>>> lr
Warmup(steps=4, then=Cosine(lr=1.0, steps=8, final=0.0))
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from microgradopt.deprecated import old_names
from microgradopt.optim.hyperparameters import is_number, plain

_POSITIVE = ("every", "steps", "decay", "power", "start_factor", "final_factor", "d_model", "warmup_steps")


@dataclass(frozen=True)
class Schedule(ABC):
    """Base of the schedules. A subclass is a frozen dataclass with a formula, `__call__`.

    Raises ValueError for numbers out of range: rates and factors are at least 0, counts of steps are positive.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = plain(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            if field.type in ("int", "float"):
                self._check(field.name, value, whole=field.type == "int")

    def _check(self, name: str, value: Any, whole: bool) -> None:
        is_right = (
            is_number(value, 0) and (value > 0 or name not in _POSITIVE) and (isinstance(value, int) or not whole)
        )
        if not is_right:
            wanted = ("a whole number" if whole else "a number") + (", positive" if name in _POSITIVE else " from 0")
            raise ValueError(f"{type(self).__name__}: {name} is {wanted}, not {value!r}")

    @abstractmethod
    def __call__(self, t: int) -> float:
        """ηₜ, the learning rate of step t."""


@dataclass(frozen=True)
class Constant(Schedule):
    """ηₜ = lr.

    >>> Constant(0.1)(7)
    0.1
    """

    lr: float

    def __call__(self, t: int) -> float:
        return self.lr


@dataclass(frozen=True)
class StepDecay(Schedule):
    """ηₜ = lr · factor^⌊t / every⌋. PyTorch's StepLR.

    >>> StepDecay(0.5, every=10, factor=0.5)(10)
    0.25
    """

    lr: float
    every: int
    factor: float = 0.1

    def __call__(self, t: int) -> float:
        return self.lr * self.factor ** (t // self.every)


@dataclass(frozen=True)
class Piecewise(Schedule):
    """ηₜ = lr times all factors whose step has been reached: {1000: 0.1, 2000: 0.1}. PyTorch's MultiStepLR.

    >>> Piecewise(0.5, {10: 0.5, 20: 0.5})(25)
    0.125
    """

    lr: float
    factors: Mapping[int, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        factors = {plain(step): plain(factor) for step, factor in dict(self.factors).items()}
        if not all(isinstance(step, int) and is_number(step, 0) and is_number(x, 0) for step, x in factors.items()):
            raise ValueError(f"Piecewise: factors are numbers from 0, by the step they begin at, not {self.factors!r}")
        object.__setattr__(self, "factors", factors)

    def __call__(self, t: int) -> float:
        return self.lr * math.prod(factor for step, factor in self.factors.items() if t >= step)


@dataclass(frozen=True)
class Exponential(Schedule):
    """ηₜ = lr · gammaᵗ. PyTorch's ExponentialLR.

    >>> Exponential(0.5, 0.5)(2)
    0.125
    """

    lr: float
    gamma: float

    def __call__(self, t: int) -> float:
        return self.lr * self.gamma**t


@dataclass(frozen=True)
class InverseTime(Schedule):
    """ηₜ = lr / (1 + decay · t): Robbins and Monro's condition, Σ ηₜ = ∞ and Σ ηₜ² < ∞, holds.

    >>> InverseTime(1.0)(1)
    0.5
    """

    lr: float
    decay: float = 1.0

    def __call__(self, t: int) -> float:
        return self.lr / (1 + self.decay * t)


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """ηₜ = lr / sqrt(t + 1): the lecture's decay (L11). Root Mean Square with it is Adagrad.

    >>> InverseSqrt(1.0)(3)
    0.5
    """

    lr: float

    def __call__(self, t: int) -> float:
        return self.lr / math.sqrt(t + 1)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """ηₜ = final + (lr − final) (1 − t/steps)^power up to `steps`, then final; a line for power 1. PolynomialLR.

    >>> Polynomial(1.0, steps=4)(1)
    0.75
    """

    lr: float
    steps: int
    power: float = 1.0
    final: float = 0.0

    def __call__(self, t: int) -> float:
        return self.final + (self.lr - self.final) * (1 - min(t, self.steps) / self.steps) ** self.power


@dataclass(frozen=True)
class Cosine(Schedule):
    """ηₜ = final + (lr − final) (1 + cos(π t/steps)) / 2 up to `steps`, then final. Loshchilov, Hutter 2017, eq. 5.

    >>> round(Cosine(1.0, steps=4)(2), 3)
    0.5
    """

    lr: float
    steps: int
    final: float = 0.0

    def __call__(self, t: int) -> float:
        return _cosine(self.lr, self.final, min(t, self.steps) / self.steps)


@dataclass(frozen=True)
class Warmup(Schedule):
    """Rise in a line to where `then` starts, in `steps` steps, and go on with it (L12).

    ηₜ = (t + 1) / steps · then(0) for t < steps, afterwards then(t − steps). then: a schedule, or a number.

    >>> Warmup(4, 1.0)(0)
    0.25
    """

    steps: int
    then: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "then", self.then if callable(self.then) else Constant(self.then))

    def __call__(self, t: int) -> float:
        rate: float = (t + 1) / self.steps * self.then(0) if t < self.steps else self.then(t - self.steps)
        return rate


@dataclass(frozen=True)
class Joined(Schedule):
    """One schedule after the other, each from its own t = 0: the second from step boundaries[0] on, and so forth.

    >>> Joined([Constant(1.0), Constant(0.5)], [3])(3)
    0.5
    """

    schedules: Sequence[Any]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "schedules", tuple(self.schedules))
        starts = [plain(start) for start in self.boundaries]
        are_steps = all(isinstance(start, int) and is_number(start, 0) for start in starts)
        if not are_steps or len(starts) != len(self.schedules) - 1 or starts != sorted(set(starts)):
            raise ValueError(
                f"Joined: {len(self.schedules)} schedules want one boundary less, steps in rising order, not {starts}"
            )
        object.__setattr__(self, "boundaries", tuple(starts))
        if not all(callable(schedule) for schedule in self.schedules):
            raise ValueError(
                f"Joined: schedules are wanted, not {self.schedules!r}; Constant(lr) makes one of a number"
            )

    def __call__(self, t: int) -> float:
        starts = [0, *self.boundaries]
        i = sum(t >= start for start in starts) - 1
        rate: float = self.schedules[i](t - starts[i])
        return rate


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from max_lr / start_factor and down to that / final_factor, both along a cosine. Smith and Topin 2018.

    PyTorch's OneCycleLR: the peak is at t = warmup_fraction · steps − 1, the end at t = steps − 1.

    >>> round(OneCycle(1.0, steps=10)(2), 3)
    1.0
    """

    max_lr: float
    steps: int
    warmup_fraction: float = 0.3
    start_factor: float = 25.0
    final_factor: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_fraction > 1:
            raise ValueError(f"OneCycle: warmup_fraction is from 0 to 1, not {self.warmup_fraction}")

    def __call__(self, t: int) -> float:
        peak, last = self.warmup_fraction * self.steps - 1, self.steps - 1
        start = self.max_lr / self.start_factor
        if t <= peak:
            return _cosine(start, self.max_lr, t / peak if peak else 1.0)
        return _cosine(self.max_lr, start / self.final_factor, (t - peak) / (last - peak) if t < last else 1.0)


@dataclass(frozen=True)
class Transformer(Schedule):
    """ηₜ = factor · d^−½ · min(s^−½, s · warmup^−1.5) with s = t + 1. Vaswani et al. 2017, eq. 3.

    >>> round(Transformer(64, 100)(99), 4)
    0.0125
    """

    d_model: int
    warmup_steps: int = 4000
    factor: float = 1.0

    def __call__(self, t: int) -> float:
        return self.factor * self.d_model**-0.5 * min((t + 1) ** -0.5, (t + 1) * self.warmup_steps**-1.5)


def _cosine(a: float, b: float, part: float) -> float:
    """From a to b along half a cosine. part: from 0 to 1."""
    return b + (a - b) * (1 + math.cos(math.pi * part)) / 2


# As plain data, for files ---------------------------------------------------------------------------------------------

_KINDS = {kind.__name__: kind for kind in Schedule.__subclasses__()}


def encoded(value: Any) -> Any:
    """A schedule as lists, dicts and numbers; all else as it is. TypeError for functions and schedules of one's own.

    >>> encoded(Cosine(0.1, 20))
    {'schedule': 'Cosine', 'lr': 0.1, 'steps': 20, 'final': 0.0}
    """
    if isinstance(value, Schedule):
        if _KINDS.get(type(value).__name__) is not type(value):
            raise TypeError(f"the schedule {value!r} is of a class of your own, which a file cannot name")
        parts = {field.name: encoded(getattr(value, field.name)) for field in fields(value)}
        return {"schedule": type(value).__name__, **parts}
    if callable(value):
        raise TypeError(f"{value!r}, in a schedule, is a function of your own, which a file cannot name")
    if isinstance(value, Mapping):
        return {"factors": [[step, factor] for step, factor in value.items()]}
    return [encoded(item) for item in value] if isinstance(value, list | tuple) else value


def decoded(data: Any) -> Any:
    """What `encoded` was given. Raises ValueError or TypeError for what is none of that.

    >>> decoded({"schedule": "Constant", "lr": 0.1})
    Constant(lr=0.1)
    """
    if isinstance(data, dict) and "schedule" in data:
        parts = {key: decoded(part) for key, part in data.items() if key != "schedule"}
        if data["schedule"] not in _KINDS:
            raise ValueError(f"there is no schedule {data['schedule']!r}")
        return _KINDS[data["schedule"]](**parts)
    if isinstance(data, dict):
        if data.keys() != {"factors"}:
            raise ValueError(f"there is no schedule with {sorted(data)}")
        return dict(data["factors"])
    return tuple(decoded(item) for item in data) if isinstance(data, list) else data


# They were functions once: step_decay is StepDecay now.
_OLD = {re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(): (name, kind) for name, kind in _KINDS.items()}

__getattr__ = old_names(__name__, _OLD)
