"""Gradient descent and momentum: PyTorch's form and the lecture's."""

from __future__ import annotations

import math

from microgradopt.optim.blocks import State
from microgradopt.optim.hyperparameters import LearningRate, flag, number, rate
from microgradopt.optim.optimizer import Array, Group, Optimizer


class SGD(Optimizer):
    r"""Gradient descent, with momentum μ, dampening τ and Nesterov's look-ahead: PyTorch's.

    .. code-block:: text

        g ← g + weight_decay · θ
        b ← g                     at the first step
        b ← μ b + (1 − τ) g       afterwards
        d ← g + μ b if nesterov, else b
        θ ← θ − η d

    The learning rate stays outside of b; in the lecture's form, `Momentum`, it is inside. Equal while η is constant.

    Source: Polyak 1964; Nesterov 1983; Sutskever et al. 2013, in the form of ``torch.optim.SGD``.

    >>> import microgradopt as mg
    >>> w = mg.Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step(); w
    Tensor([ 0.8, -1.6], requires_grad=True)
    """

    may_keep = ("b",)

    lr: LearningRate = rate(1e-3)
    momentum: float = number(0.0)
    dampening: float = number(0.0, low=-math.inf)
    weight_decay: float = number(0.0)
    nesterov: bool = flag(False)
    maximize: bool = flag(False)

    def check(self, group: Group) -> None:
        """Nesterov's form is defined with a momentum, and without dampening."""
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum, and no dampening")

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        momentum = group["momentum"]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * theta
        if momentum:
            b = momentum * state["b"] + (1 - group["dampening"]) * g if "b" in state else g.copy()
            state["b"] = b
            g = g + momentum * b if group["nesterov"] else b
        return theta - lr * g


class Momentum(Optimizer):
    """The lecture's momentum (L6): the learning rate is inside the movement m, so that a past step keeps its size.

    .. code-block:: text

        m⁰ = 0
        mᵗ⁺¹ = λ mᵗ − ηᵗ gᵗ
        θᵗ⁺¹ = θᵗ + mᵗ⁺¹            so mᵗ⁺¹ = −Σₖ λᵗ⁻ᵏ ηᵏ gᵏ

    PyTorch's, `SGD`, keeps η outside. They are equal while η is constant, and differ once it changes: with g = 1,
    λ = 0.9 and η = 0.1 then 0.01, two steps lead to −0.200 here and to −0.119 there.

    momentum: λ. Source: the lecture; Polyak 1964.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = w.data * 2
    >>> Momentum([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 0.8, -1.6])
    """

    keeps = ("m",)

    lr: LearningRate = rate(1e-3)
    momentum: float = number(0.9)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        m = state["m"] = group["momentum"] * state.get("m", 0.0) - lr * g
        return theta + m
