"""Two recent ideas: the sign of the momentum (Lion), and momentum made orthogonal, for matrices (Muon)."""

from __future__ import annotations

import math

import numpy as np

from microgradopt.optim.adaptive import adam_direction
from microgradopt.optim.blocks import State, moving_average
from microgradopt.optim.hyperparameters import (
    Betas,
    LearningRate,
    betas,
    choice,
    flag,
    number,
    rate,
    several,
    whole,
)
from microgradopt.optim.optimizer import Array, Group, Optimizer
from microgradopt.vector import ParameterVector


class Lion(Optimizer):
    """Only the sign of an interpolated momentum counts: every parameter moves by η at each step.

    .. code-block:: text

        c = β₁ m + (1 − β₁) g
        θ ← (1 − η · weight_decay) θ − η sign(c)
        m ← β₂ m + (1 − β₂) g

    Wants a learning rate 3 to 10 times smaller than Adam's. Source: Chen et al. 2023, algorithm 2.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = np.array([2.0, -4.0])
    >>> Lion([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 0.9, -1.9])
    """

    keeps = ("m",)

    lr: LearningRate = rate(1e-4)
    betas: Betas = betas(0.9, 0.99)
    weight_decay: float = number(0.0)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        beta1, beta2 = group["betas"]
        m = state.get("m", np.zeros_like(g))
        c = beta1 * m + (1 - beta1) * g
        moving_average(state, "m", g, beta2)
        return (1 - lr * group["weight_decay"]) * theta - lr * np.sign(c)


class Muon(Optimizer):
    """For matrices, momentum brought near the closest orthogonal matrix, so that all directions move alike.

    .. code-block:: text

        B ← μ B + (1 − μ) G
        U = (1 − μ) G + μ B if nesterov, else B
        X = U / max(‖U‖_F, eps);  ns_steps times:  X ← a X + (b X Xᵀ + c (X Xᵀ)²) X
        W ← (1 − η · weight_decay) W − η · s · X

    s is sqrt(max(1, rows/columns)) (adjust_lr_fn "original") or 0.2 sqrt(max(rows, columns)) ("match_rms_adamw").
    (a, b, c) = ns_coefficients: a quintic polynomial that brings all singular values near 1.

    Parameters that are not matrices (biases) are stepped by AdamW, with adam_lr, adam_betas, adam_eps and the same
    weight_decay.

    Source: Jordan et al. 2024; Liu et al. 2025 for match_rms_adamw; in the form of ``torch.optim.Muon``, which takes
    matrices only and rounds the iteration to bfloat16, where this one keeps the dtype of the parameters.

    >>> from microgradopt import Tensor
    >>> W = Tensor(np.eye(2), requires_grad=True)
    >>> W.grad = np.array([[5.0, 0.0], [0.0, 0.1]])  # both directions move alike
    >>> Muon([W], lr=0.1, weight_decay=0.0).step()
    >>> W.data.round(1)
    array([[0.9, 0. ],
           [0. , 0.9]])
    """

    keeps, squares = ("b", "m", "v"), ("v",)

    lr: LearningRate = rate(1e-3)
    weight_decay: float = number(0.1)
    momentum: float = number(0.95, below=1.0)
    nesterov: bool = flag(True)
    ns_coefficients: tuple[float, float, float] = several(3.4445, -4.775, 2.0315)
    eps: float = number(1e-7)
    ns_steps: int = whole(5)
    adjust_lr_fn: str = choice("original", "match_rms_adamw")
    adam_lr: LearningRate = rate(3e-4)
    adam_betas: Betas = betas(0.9, 0.95)
    adam_eps: float = number(1e-10)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        """The formula above for the matrices, AdamW for the rest."""
        momentum, decay = group["momentum"], group["weight_decay"]
        adam_lr = group["adam_lr"]
        adam_group = {"betas": group["adam_betas"], "eps": group["adam_eps"], "amsgrad": False}
        b = moving_average(state, "b", g, momentum)
        u = (1 - momentum) * g + momentum * b if group["nesterov"] else b
        moved = (1 - adam_lr * decay) * theta - adam_lr * adam_direction(g, state, adam_group)
        vector = ParameterVector(group["params"])
        for part, direction in zip(vector.slices, vector.split(u), strict=True):
            if direction.ndim == 2 and direction.size:
                step = lr * _scale(direction.shape, group["adjust_lr_fn"])
                orthogonal = newton_schulz(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
                moved[part] = (1 - lr * decay) * theta[part] - step * orthogonal.ravel()
        return moved


def newton_schulz(matrix: Array, coefficients: tuple[float, float, float], steps: int, eps: float) -> Array:
    """U Vᵀ of the matrix U S Vᵀ, nearly: an odd polynomial, applied `steps` times to the singular values.

    Starts from matrix / max(‖matrix‖_F, eps), whose singular values are at most 1. With Jordan's coefficients they end
    between about 0.7 and 1.2, which is near enough and quick.
    """
    a, b, c = coefficients
    x = matrix / np.maximum(np.linalg.norm(matrix), eps)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


def _scale(shape: tuple[int, ...], adjust_lr_fn: str) -> float:
    rows, columns = shape
    return math.sqrt(max(1, rows / columns)) if adjust_lr_fn == "original" else 0.2 * math.sqrt(max(rows, columns))
