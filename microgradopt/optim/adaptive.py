"""A learning rate for each parameter, from the size of its gradients: from Root Mean Square to Adam and its kin.

In order of growth: RMS (the lecture's) and Adagrad count all gradients alike; RMSprop forgets the old ones; Adadelta
also sets the units right; Adam adds momentum, and its descendants change one thing each.

All operations are elementwise on flat vectors: g² is g * g.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from microgradopt.optim.blocks import State, moving_average
from microgradopt.optim.hyperparameters import Betas, LearningRate, betas, choice, flag, number, rate
from microgradopt.optim.optimizer import Array, Group, Optimizer


def _decayed(g: Array, theta: Array, group: Group) -> Array:
    """L2 regularisation: g + weight_decay · θ."""
    return g + group["weight_decay"] * theta if group["weight_decay"] else g


def decayed(theta: Array, g: Array, lr: float, group: Group, decoupled: bool) -> tuple[Array, Array]:
    """Weight decay in either form: on θ directly, or through the gradient."""
    if decoupled:
        return (1 - lr * group["weight_decay"]) * theta, g
    return theta, _decayed(g, theta, group)


def _quotient(g: Array, sigma: Array) -> Array:
    """g / σ; 0 where σ is 0: a parameter whose gradients have all been 0 stays where it is."""
    is_zero = sigma == 0
    return np.where(is_zero, 0, g / (sigma + is_zero))


class RMS(Optimizer):
    """The lecture's Root Mean Square (L9): every gradient so far counts alike.

    .. code-block:: text

        σᵢᵗ = sqrt( 1/(t+1) Σₖ₌₀..ₜ (gᵢᵏ)² )
        θᵢᵗ⁺¹ = θᵢᵗ − (ηᵗ / σᵢᵗ) gᵢᵗ

    A parameter whose gradients have all been 0 stays where it is. With ηᵗ = η / sqrt(t+1) this is Adagrad, exactly
    (with its eps at 0). Source: the lecture.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = np.array([2.0, -4.0])
    >>> RMS([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 0.9, -1.9])
    """

    keeps = squares = ("sum",)

    lr: LearningRate = rate(1e-2)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        total = state["sum"] = state.get("sum", 0.0) + g * g
        sigma = np.sqrt(total / (state["t"] + 1))
        return theta - lr * _quotient(g, sigma)


class Adagrad(Optimizer):
    """Root mean square without the mean: steps shrink as gradients accumulate.

    .. code-block:: text

        g ← g + weight_decay · θ
        s ← s + g²                              s starts at initial_accumulator_value
        θ ← θ − η / (1 + t · lr_decay) · g / (sqrt(s) + eps)

    Source: Duchi, Hazan, Singer 2011, in the form of ``torch.optim.Adagrad``.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = np.array([2.0, -4.0])
    >>> Adagrad([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 0.9, -1.9])
    """

    keeps = squares = ("sum",)

    lr: LearningRate = rate(1e-2)
    lr_decay: float = number(0.0)
    weight_decay: float = number(0.0)
    initial_accumulator_value: float = number(0.0)
    eps: float = number(1e-10)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        g = _decayed(g, theta, group)
        s = state["sum"] = state.get("sum", group["initial_accumulator_value"]) + g * g
        return theta - lr / (1 + state["t"] * group["lr_decay"]) * _quotient(g, np.sqrt(s) + group["eps"])


class RMSprop(Optimizer):
    """Root mean square with a memory that fades: old gradients are forgotten at the rate α.

    .. code-block:: text

        g ← g + weight_decay · θ
        v ← α v + (1 − α) g²                   v starts at 0 (start="zero", PyTorch's)
                                               or at g² of the first step (start="gradient", the lecture's L10)
        a ← α a + (1 − α) g,  σ² = v − a²      if centered; else σ² = v
        b ← μ b + g / (σ + eps)
        θ ← θ − η b

    The lecture's form has start="gradient" and eps=0. Its v is PyTorch's plus αᵗ⁺¹ (g⁰)², and its first step has the
    size η, where PyTorch's has η / sqrt(1 − α).

    Source: Tieleman and Hinton 2012; centered: Graves 2013; in the form of ``torch.optim.RMSprop``.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = np.array([2.0, -4.0])
    >>> RMSprop([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 0., -1.])
    """

    keeps, may_keep, squares = ("v",), ("a", "b"), ("v",)

    lr: LearningRate = rate(1e-2)
    alpha: float = number(0.99, below=1.0)
    eps: float = number(1e-8)
    weight_decay: float = number(0.0)
    momentum: float = number(0.0)
    centered: bool = flag(False)
    start: str = choice("zero", "gradient")
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        alpha, momentum = group["alpha"], group["momentum"]
        g = _decayed(g, theta, group)
        first = g * g if group["start"] == "gradient" else 0.0
        v = variance = moving_average(state, "v", g * g, alpha, first)
        if group["centered"]:
            a = moving_average(state, "a", g, alpha)
            variance = np.maximum(v - a * a, 0.0)  # rounding can bring it below 0 once g no longer changes
        sigma = np.sqrt(variance) + group["eps"]
        b = _quotient(g, sigma)
        if momentum:
            b = state["b"] = momentum * state.get("b", 0.0) + b
        return theta - lr * b


class Adadelta(Optimizer):
    """RMSprop whose step has the units of θ: scaled by the root mean square of the steps so far.

    .. code-block:: text

        g ← g + weight_decay · θ
        v ← ρ v + (1 − ρ) g²
        Δ = g · sqrt(u + eps) / sqrt(v + eps)
        u ← ρ u + (1 − ρ) Δ²
        θ ← θ − η Δ

    Source: Zeiler 2012, algorithm 1, in the form of ``torch.optim.Adadelta``. eps is inside of the roots.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = np.array([2.0, -4.0])
    >>> Adadelta([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 1., -2.])
    """

    keeps = squares = ("v", "u")

    lr: LearningRate = rate(1.0)
    rho: float = number(0.9, below=1.0)
    eps: float = number(1e-6)
    weight_decay: float = number(0.0)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        rho, eps = group["rho"], group["eps"]
        g = _decayed(g, theta, group)
        u = state.get("u", np.zeros_like(g))
        v = moving_average(state, "v", g * g, rho)
        delta = g * np.sqrt(u + eps) / np.sqrt(v + eps)
        moving_average(state, "u", delta * delta, rho)
        return theta - lr * delta


class Adam(Optimizer):
    """RMSprop with momentum (L13), both corrected for having started at 0.

    .. code-block:: text

        g ← g + weight_decay · θ
        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) g²                   amsgrad: the largest v so far in its place below
        θ ← θ − η · (m / (1 − β₁ᵗ)) / (sqrt(v / (1 − β₂ᵗ)) + eps)        t = 1 at the first step

    With β₁ = 0 it is RMSprop with the bias corrected.

    Source: Kingma and Ba 2015, algorithm 1; amsgrad: Reddi et al. 2018; in the form of ``torch.optim.Adam``, which adds
    eps outside of the root and takes the maximum of v before it is corrected.

    >>> import microgradopt as mg
    >>> w = mg.Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step(); w
    Tensor([ 0.9, -1.9], requires_grad=True)
    """

    keeps, may_keep, squares = ("m", "v"), ("v_max",), ("v", "v_max")

    lr: LearningRate = rate(1e-3)
    betas: Betas = betas(0.9, 0.999)
    eps: float = number(1e-8)
    weight_decay: float = number(0.0)
    amsgrad: bool = flag(False)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        return theta - lr * adam_direction(_decayed(g, theta, group), state, group)


def adam_direction(g: Array, state: State, group: dict[str, Any]) -> Array:
    """Adam's step at learning rate 1: the corrected m over the root of the corrected v. Updates the state."""
    (beta1, beta2), t = group["betas"], state["t"] + 1
    m = moving_average(state, "m", g, beta1)
    v = moving_average(state, "v", g * g, beta2)
    if group["amsgrad"]:
        v = state["v_max"] = np.maximum(state.get("v_max", 0.0), v)
    # The corrections are numbers: they are applied to numbers, not to vectors.
    return m / ((1 - beta1**t) / (1 - beta2**t) ** 0.5 * np.sqrt(v) + (1 - beta1**t) * group["eps"])


class AdamW(Adam):
    """Adam with decoupled weight decay: θ shrinks by itself, whatever the size of its gradients.

    .. code-block:: text

        θ ← (1 − η · weight_decay) θ
        θ ← θ − η · (m / (1 − β₁ᵗ)) / (sqrt(v / (1 − β₂ᵗ)) + eps)        m and v as in `Adam`, from g alone

    Source: Loshchilov and Hutter 2019, algorithm 2, in the form of ``torch.optim.AdamW``.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = np.array([2.0, -4.0])
    >>> AdamW([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 0.899, -1.898])
    """

    weight_decay: float = number(1e-2)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        return (1 - lr * group["weight_decay"]) * theta - lr * adam_direction(g, state, group)


class Adamax(Optimizer):
    """Adam with a fading maximum of abs(g) in place of the root mean square.

    .. code-block:: text

        g ← g + weight_decay · θ
        m ← β₁ m + (1 − β₁) g
        u ← max(β₂ u, |g| + eps)
        θ ← θ − η / (1 − β₁ᵗ) · m / u

    Source: Kingma and Ba 2015, algorithm 2, in the form of ``torch.optim.Adamax``.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = np.array([2.0, -4.0])
    >>> Adamax([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 0.9, -1.9])
    """

    keeps, squares = ("m", "u"), ("u",)

    lr: LearningRate = rate(2e-3)
    betas: Betas = betas(0.9, 0.999)
    eps: float = number(1e-8)
    weight_decay: float = number(0.0)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        (beta1, beta2), t = group["betas"], state["t"] + 1
        g = _decayed(g, theta, group)
        m = moving_average(state, "m", g, beta1)
        u = state["u"] = np.maximum(beta2 * state.get("u", 0.0), np.abs(g) + group["eps"])
        return theta - lr / (1 - beta1**t) * m / u


class NAdam(Optimizer):
    """Adam with Nesterov's look-ahead: the momentum of the next step is applied already now.

    .. code-block:: text

        μₜ = β₁ (1 − ½ · 0.96^(t · momentum_decay))
        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) g²
        d = (1 − μₜ) g / (1 − Πᵢ₌₁..ₜ μᵢ) + μₜ₊₁ m / (1 − Πᵢ₌₁..ₜ₊₁ μᵢ)
        θ ← θ − η d / (sqrt(v / (1 − β₂ᵗ)) + eps)

    weight_decay is added to g, or, with decoupled_weight_decay, shrinks θ as in `AdamW`.

    Source: Dozat 2016, in the form of ``torch.optim.NAdam``.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = np.array([2.0, -4.0])
    >>> NAdam([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 0.894, -1.894])
    """

    keeps, numbers, squares = ("m", "v", "mu_product"), ("mu_product",), ("v", "mu_product")

    lr: LearningRate = rate(2e-3)
    betas: Betas = betas(0.9, 0.999)
    eps: float = number(1e-8)
    weight_decay: float = number(0.0)
    momentum_decay: float = number(4e-3)
    decoupled_weight_decay: bool = flag(False)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        (beta1, beta2), t = group["betas"], state["t"] + 1
        theta, g = decayed(theta, g, lr, group, group["decoupled_weight_decay"])
        m = moving_average(state, "m", g, beta1)
        v = moving_average(state, "v", g * g, beta2)
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (k * group["momentum_decay"])) for k in (t, t + 1))
        product = state["mu_product"] = state.get("mu_product", 1.0) * mu
        direction = (1 - mu) / (1 - product) * g + mu_next / (1 - product * mu_next) * m
        return theta - lr * direction / (np.sqrt(v / (1 - beta2**t)) + group["eps"])


class RAdam(Optimizer):
    """Adam that trusts σ only once it is known well enough: its own warm-up (L12).

    .. code-block:: text

        ρ_∞ = 2 / (1 − β₂) − 1
        ρₜ = ρ_∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)
        m, v as in Adam;  m̂ = m / (1 − β₁ᵗ)
        ρₜ > 5:  r = sqrt( (ρₜ−4)(ρₜ−2) ρ_∞ / ((ρ_∞−4)(ρ_∞−2) ρₜ) )
                 θ ← θ − η r m̂ · sqrt(1 − β₂ᵗ) / (sqrt(v) + eps)
        else:    θ ← θ − η m̂

    weight_decay is added to g, or, with decoupled_weight_decay, shrinks θ as in `AdamW`.

    Source: Liu et al. 2020, algorithm 2 (which has ρₜ > 4), in the form of ``torch.optim.RAdam``.

    >>> from microgradopt import Tensor
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = np.array([2.0, -4.0])
    >>> RAdam([w], lr=0.1).step()
    >>> w.data.round(3)
    array([ 0.8, -1.6])
    """

    keeps, squares = ("m", "v"), ("v",)

    lr: LearningRate = rate(1e-3)
    betas: Betas = betas(0.9, 0.999)
    eps: float = number(1e-8)
    weight_decay: float = number(0.0)
    decoupled_weight_decay: bool = flag(False)
    maximize: bool = flag(False)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        (beta1, beta2), t = group["betas"], state["t"] + 1
        theta, g = decayed(theta, g, lr, group, group["decoupled_weight_decay"])
        m = moving_average(state, "m", g, beta1)
        v = moving_average(state, "v", g * g, beta2)
        m_hat = m / (1 - beta1**t)
        rho_inf = 2 / (1 - beta2) - 1
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        if rho <= 5:
            return theta - lr * m_hat
        r = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
        return theta - lr * r * m_hat * (1 - beta2**t) ** 0.5 / (np.sqrt(v) + group["eps"])
