"""Learning-rate schedules (L11, L12): pure functions of the step, t = 0 first, that give ηₜ.

Give one to any optimizer as its `lr`. They hold no state: a resumed run has the right rate at once.

>>> from microgradopt.optim import schedules
>>> lr = schedules.warmup(4, schedules.cosine(1.0, steps=8))
>>> [round(lr(t), 3) for t in range(13)]
[0.25, 0.5, 0.75, 1.0, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

Schedule = Callable[[int], float]


def constant(lr: float) -> Schedule:
    """ηₜ = lr."""
    return lambda t: lr


def step_decay(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """ηₜ = lr · factor^⌊t / every⌋. PyTorch's StepLR."""
    _positive("step_decay", every=every)
    return lambda t: lr * factor ** (t // every)


def piecewise(lr: float, factors: Mapping[int, float]) -> Schedule:
    """ηₜ = lr times all factors whose step has been reached: {1000: 0.1, 2000: 0.1}. PyTorch's MultiStepLR."""
    return lambda t: lr * math.prod(factor for boundary, factor in factors.items() if t >= boundary)


def exponential(lr: float, gamma: float) -> Schedule:
    """ηₜ = lr · gammaᵗ. PyTorch's ExponentialLR."""
    return lambda t: lr * gamma**t


def inverse_time(lr: float, decay: float = 1.0) -> Schedule:
    """ηₜ = lr / (1 + decay · t): Robbins and Monro's condition, Σ ηₜ = ∞ and Σ ηₜ² < ∞, holds."""
    _positive("inverse_time", decay=decay)
    return lambda t: lr / (1 + decay * t)


def inverse_sqrt(lr: float) -> Schedule:
    """ηₜ = lr / sqrt(t + 1): the lecture's decay (L11). Root Mean Square with it is Adagrad."""
    return lambda t: lr / math.sqrt(t + 1)


def polynomial(lr: float, steps: int, power: float = 1.0, final: float = 0.0) -> Schedule:
    """ηₜ = final + (lr − final) (1 − t/steps)^power up to `steps`, then final; a line for power 1. PolynomialLR."""
    _positive("polynomial", steps=steps, power=power)
    return lambda t: final + (lr - final) * (1 - min(t, steps) / steps) ** power


def cosine(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """ηₜ = final + (lr − final) (1 + cos(π t/steps)) / 2 up to `steps`, then final. Loshchilov, Hutter 2017, eq. 5."""
    _positive("cosine", steps=steps)
    return lambda t: final + (lr - final) * (1 + math.cos(math.pi * min(t, steps) / steps)) / 2


def warmup(steps: int, then: Schedule | float) -> Schedule:
    """Rise in a line to where `then` starts, in `steps` steps, and go on with it (L12).

    ηₜ = (t + 1) / steps · then(0) for t < steps, afterwards then(t − steps).
    """
    _positive("warmup", steps=steps)
    after = then if callable(then) else constant(then)
    return lambda t: (t + 1) / steps * after(0) if t < steps else after(t - steps)


def joined(schedules: list[Schedule], boundaries: list[int]) -> Schedule:
    """One schedule after the other, each from its own t = 0: the second from step boundaries[0] on, and so forth."""
    if len(boundaries) != len(schedules) - 1 or list(boundaries) != sorted(set(boundaries)):
        raise ValueError(
            f"joined: {len(schedules)} schedules need {len(schedules) - 1} rising boundaries, not {boundaries}"
        )
    starts = [0, *boundaries]

    def schedule(t: int) -> float:
        i = sum(t >= boundary for boundary in boundaries)
        return schedules[i](t - starts[i])

    return schedule


def one_cycle(
    max_lr: float, steps: int, warmup_fraction: float = 0.3, start_factor: float = 25.0, final_factor: float = 1e4
) -> Schedule:
    """Up from max_lr / start_factor and down to that / final_factor, both along a cosine. Smith and Topin 2018.

    PyTorch's OneCycleLR: the peak is at t = warmup_fraction · steps − 1, the end at t = steps − 1.
    """
    _positive("one_cycle", steps=steps, start_factor=start_factor, final_factor=final_factor)
    if not 0 <= warmup_fraction <= 1:
        raise ValueError(f"one_cycle: warmup_fraction is from 0 to 1, not {warmup_fraction}")
    peak, last = warmup_fraction * steps - 1, steps - 1
    start = max_lr / start_factor

    def between(a: float, b: float, part: float) -> float:
        return b + (a - b) * (1 + math.cos(math.pi * part)) / 2

    def schedule(t: int) -> float:
        if t <= peak:
            return between(start, max_lr, t / peak if peak else 1.0)
        return between(max_lr, start / final_factor, (t - peak) / (last - peak) if t < last else 1.0)

    return schedule


def transformer(d_model: int, warmup_steps: int = 4000, factor: float = 1.0) -> Schedule:
    """ηₜ = factor · d^−½ · min(s^−½, s · warmup^−1.5) with s = t + 1. Vaswani et al. 2017, eq. 3."""
    _positive("transformer", d_model=d_model, warmup_steps=warmup_steps)
    return lambda t: factor * d_model**-0.5 * min((t + 1) ** -0.5, (t + 1) * warmup_steps**-1.5)


def _positive(name: str, **numbers: float) -> None:
    for key, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name}: {key} is positive, not {number}")
