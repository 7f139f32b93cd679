"""The optimizers of the playground, what their sliders can be set to, and an optimizer made from settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from microgradopt import optim

RATES = [float(f"{digit}e{power}") for power in range(-8, 2) for digit in (1, 2, 5)] + [100.0]
MEMORY = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999]
UPDATES = [10, 20, 50, 100, 200, 300, 500, 1000]
HYPERPARAMETERS = {
    "momentum": (MEMORY, r"momentum $\lambda$"),
    "alpha": (MEMORY, r"memory $\alpha$"),
    "beta1": (MEMORY, r"memory of $g$, $\beta_1$"),
    "beta2": (MEMORY, r"memory of $g^2$, $\beta_2$"),
    "weight_decay": ([0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.5], r"weight decay $\kappa$"),
}
"""For each hyperparameter, the values of its slider, and its label."""


def optimizers() -> dict[str, tuple[type[optim.Optimizer], dict[str, float], int]]:
    """Class; hyperparameters with where their sliders start; which of a surface's learning rates does for it."""
    betas = {"beta1": 0.9, "beta2": 0.999}
    return {
        "SGD": (optim.SGD, {"momentum": 0.0, "weight_decay": 0.0}, 0),
        "Momentum": (optim.Momentum, {"momentum": 0.9}, 0),
        "RMS": (optim.RMS, {}, 1),
        "Adagrad": (optim.Adagrad, {"weight_decay": 0.0}, 1),
        "RMSprop": (optim.RMSprop, {"alpha": 0.9, "weight_decay": 0.0}, 1),
        "Adam": (optim.Adam, {**betas, "weight_decay": 0.0}, 1),
        "AdamW": (optim.AdamW, {**betas, "weight_decay": 0.01}, 1),
        "NAdam": (optim.NAdam, {**betas, "weight_decay": 0.0}, 1),
        "Lion": (optim.Lion, {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0}, 2),
    }


@dataclass(frozen=True)
class Settings:
    """All that a run depends on. hyper: the hyperparameters by name, sorted, so that settings can be looked up."""

    surface: str
    optimizer: str
    lr: float
    updates: int
    start: tuple[float, ...]
    hyper: tuple[tuple[str, float], ...] = ()
    decay: bool = False
    warmup: int = 0


def make_optimizer(settings: Settings, parameters: Any) -> optim.Optimizer:
    """The optimizer with its schedule: η, or η/√(t+1); risen to in a line."""
    schedules = optim.schedules
    rate = schedules.InverseSqrt(settings.lr) if settings.decay else schedules.Constant(settings.lr)
    hyper = dict(settings.hyper)
    if "beta1" in hyper:
        hyper["betas"] = (hyper.pop("beta1"), hyper.pop("beta2"))
    cls = optimizers()[settings.optimizer][0]
    return cls(parameters, lr=schedules.Warmup(settings.warmup, rate) if settings.warmup else rate, **hyper)
