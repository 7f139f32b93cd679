"""How large a learning rate an optimizer bears: its limit of stability on a quadratic.

On L = ½ λ θ² each of these methods is linear, and its iterates stay bounded up to a certain η λ. A method that divides
by σ sees the curvature λ / σ, σ nearly constant from step to step. For many parameters: stable as long as the largest
eigenvalue of D^½ H D^½, D = diag(η / (limit · σ)), is at most 1.

.. code-block:: text

    gradient descent     2 / η                           RMSprop, Adagrad, RMS   2 / η, of H / σ
    heavy ball           2 (1 + β) / η                   with momentum β         2 (1 + β) / η
    Nesterov             2 (1 + β) / ((1 + 2 β) η)       Adam and its kin        2 (1 + β₁) / ((1 − β₁) η), of H / σ

Dampening τ makes the gradient (1 − τ) times as large. Weight decay counts as part of L, and is left out here.

Source: Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of stability", appendix B;
Cohen et al. 2022, "Adaptive gradient methods at the edge of stability" (38 / η for Adam with β₁ = 0.9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from microgradopt.optim.adaptive import RMS, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop
from microgradopt.optim.blocks import State
from microgradopt.optim.first_order import SGD, Momentum
from microgradopt.optim.optimizer import Array, Group, Optimizer
from microgradopt.vector import ParameterVector


class Bound(NamedTuple):
    """Stable up to η λ / sigma = limit. sigma: what the method divides by, (n,) or 1."""

    limit: float
    sigma: Any


def _heavy_ball(group: Group, state: State) -> Bound | None:
    beta, share = group["momentum"], 1.0
    if group.get("nesterov"):
        share = 1 + 2 * beta
    elif beta:
        share = 1 - group.get("dampening", 0.0)
    return Bound(2 * (1 + beta) / share, 1.0) if share > 0 else None


def _rms(group: Group, state: State) -> Bound:
    return Bound(2.0, np.sqrt(state["sum"] / state["t"]))


def _adagrad(group: Group, state: State) -> Bound:
    return Bound(2.0, (1 + state["t"] * group["lr_decay"]) * (np.sqrt(state["sum"]) + group["eps"]))


def _rmsprop(group: Group, state: State) -> Bound:
    variance = state["v"] - state["a"] ** 2 if group["centered"] else state["v"]
    return Bound(2 * (1 + group["momentum"]), np.sqrt(np.maximum(variance, 0.0)) + group["eps"])


def _adam(group: Group, state: State) -> Bound:
    beta1, beta2 = group["betas"]
    v = state.get("v_max", state["v"])
    return Bound(2 * (1 + beta1) / (1 - beta1), np.sqrt(v / (1 - beta2 ** state["t"])) + group["eps"])


def _adamax(group: Group, state: State) -> Bound:
    beta1, _ = group["betas"]
    return Bound(2 * (1 + beta1) / (1 - beta1), state["u"])


_BOUNDS: dict[type[Optimizer], Callable[[Group, State], Bound | None]] = {
    SGD: _heavy_ball,
    Momentum: _heavy_ball,
    RMS: _rms,
    Adagrad: _adagrad,
    RMSprop: _rmsprop,
    Adam: _adam,
    AdamW: _adam,
    NAdam: _adam,
    RAdam: _adam,
    Adamax: _adamax,
}


def step_scale(optimizer: Optimizer, vector: ParameterVector) -> Array | None:
    """The diagonal d of D, (n,), in the order of `vector`: the next step is stable while λ_max(D^½ H D^½) ≤ 1.

    0 for tensors that the optimizer does not move. None where no bound is known: for other optimizers, for those that
    divide by σ before their first step, and for momentum or dampening of 1 or more.
    """
    bound = _BOUNDS.get(type(optimizer))
    if bound is None:
        return None
    parts: dict[Any, Array] = {}
    for group, lr, parameters, state in optimizer.blocks():
        if not state["t"] and bound is not _heavy_ball:
            return None
        found = bound(group, state)
        if found is None or group.get("momentum", 0.0) >= 1:
            return None
        limit, sigma = found
        n = sum(parameter.size for parameter in parameters)
        scale = lr / (limit * np.broadcast_to(np.maximum(sigma, np.finfo(float).tiny), (n,)))
        parts.update(zip(parameters, ParameterVector(parameters).split(scale), strict=True))
    return vector.join([parts.get(parameter) for parameter in vector.parameters])
