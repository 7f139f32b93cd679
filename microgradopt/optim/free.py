"""Without a learning rate to choose (Prodigy), and without a schedule (Schedule-Free AdamW)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np

from microgradopt.optim.adaptive import decayed
from microgradopt.optim.blocks import State, Step, moving_average
from microgradopt.optim.hyperparameters import Betas, LearningRate, betas, flag, number, positive, rate, whole
from microgradopt.optim.optimizer import Array, Call, Closure, Group, Optimizer
from microgradopt.optim.saving import whole as to_the_end


class Prodigy(Optimizer):
    r"""Adam whose learning rate estimates itself: d, a lower bound of the distance ‖θ⁰ − θ*‖ to a solution.

    .. code-block:: text

        λ = d η c                                   c = sqrt(1 − β₂ᵗ) / (1 − β₁ᵗ) with use_bias_correction, else 1
        m ← β₁ m + (1 − β₁) d g
        v ← β₂ v + (1 − β₂) d² g²
        s ← β₃ s + (d λ / d₀) g                     d² / d₀ in place of d λ / d₀ with safeguard_warmup
        r ← β₃ r + (d λ / d₀) gᵀ(θ⁰ − θ)
        d̂ = d_coef · r / ‖s‖₁                       over all groups
        d ← max(d, d̂) while d = d₀;  d ← min(max of all d̂ and d₀, d · growth_rate)
        θ ← (1 − λ · weight_decay) θ − λ m / (sqrt(v) + d eps)       decoupled; else g ← g + weight_decay · θ at first

    d grows from d₀ within some tens of steps and then stays. lr: η, 1 unless it diverges; a schedule may lower it, from
    1. d_coef: how bold the estimate is, the number to change first. beta3: β₃, sqrt(β₂) where it is None.
    growth_rate: by how much d may grow in a step. All tensors are to have gradients at each step: d is one number for
    all of them.

    Source: Mishchenko and Defazio 2024, algorithm 4, in the form of the authors' package ``prodigyopt`` (without its
    slice_p).

    >>> import microgradopt as mg
    >>> w = mg.Tensor([5.0, -3.0], requires_grad=True)
    >>> optimizer = Prodigy([w])
    >>> for _ in range(300):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> bool(np.abs(w.data).max() < 0.01)
    True
    """

    keeps = ("m", "v", "s", "start", "r", "d", "d_max")
    numbers = ("r", "d", "d_max")
    squares = ("v", "d", "d_max")

    lr: LearningRate = rate(1.0)
    betas: Betas = betas(0.9, 0.999)
    beta3: float | None = number(None, below=1.0)
    eps: float = number(1e-8)
    weight_decay: float = number(0.0)
    decouple: bool = flag(True)
    use_bias_correction: bool = flag(False)
    safeguard_warmup: bool = flag(False)
    d0: float = positive(1e-6)
    d_coef: float = positive(1.0)
    growth_rate: float = number(math.inf, low=1.0)
    maximize: bool = flag(False)

    def updates(self, calls: list[Call]) -> list[Array]:
        """The formula above: first what d needs of all blocks, then their steps."""
        states, group = [call[2] for call in calls], calls[0][4]
        latest = max(states, key=lambda state: state["t"])
        known = [latest[key] for key in ("d", "d_max", "r") if key in latest]
        d, d_max, r = known or (group["d0"], group["d0"], 0.0)
        shares = [self._gathered(d, *call) for call in calls]
        r = _beta3(group) * r + sum(gain for gain, _ in shares)
        size = sum(size for _, size in shares)
        after = d
        if size:  # else all gradients so far were 0
            d_hat = group["d_coef"] * r / size
            d_max = max(d_max, d_hat)
            after = min(d_max, (max(d, d_hat) if d == group["d0"] else d) * group["growth_rate"])
        for state in states:
            state.update(d=after, d_max=d_max, r=r)
        return [self._moved(d, *call) if size else call[0] for call in calls]

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        """The step of one block alone."""
        return self.updates([(theta, g, state, lr, group)])[0]

    def _gathered(self, d: float, theta: Array, g: Array, state: State, lr: float, group: Group) -> tuple[float, float]:
        """Update m, v and s. Gives this block's shares in r and in ‖s‖₁."""
        (beta1, beta2), d0 = group["betas"], group["d0"]
        step = d * lr * _correction(state, group)
        _, g = decayed(theta, g, step, group, group["decouple"])
        start = state.setdefault("start", theta)
        moving_average(state, "m", d * g, beta1)
        moving_average(state, "v", d * d * (g * g), beta2)
        s = state["s"] = _beta3(group) * state.get("s", 0.0) + d / d0 * (d if group["safeguard_warmup"] else step) * g
        return d / d0 * step * float(g @ (start - theta)), float(np.abs(s).sum())

    def _moved(self, d: float, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        step = d * lr * _correction(state, group)
        shrunk = (1 - step * group["weight_decay"]) * theta if group["decouple"] else theta
        return shrunk - step * state["m"] / (np.sqrt(state["v"]) + state["d"] * group["eps"])


def _beta3(group: Group) -> float:
    return math.sqrt(group["betas"][1]) if group["beta3"] is None else float(group["beta3"])


def _correction(state: State, group: Group) -> float:
    (beta1, beta2), t = group["betas"], state["t"] + 1
    return float((1 - beta2**t) ** 0.5 / (1 - beta1**t)) if group["use_bias_correction"] else 1.0


class ScheduleFreeAdamW(Optimizer):
    r"""AdamW that averages its iterates in place of letting the learning rate fall.

    .. code-block:: text

        v ← β₂ v + (1 − β₂) g²                                 g = ∇L(y)
        ĝ = g / (sqrt(v / (1 − β₂ᵗ)) + eps) + weight_decay · y
        z ← z − η ĝ                                            η rises in a line within warmup_steps
        x ← (1 − c) x + c z                                    c = w / Σw,  w = tʳ (max η so far)^weight_lr_power
        y = β₁ x + (1 − β₁) z

    Three sequences: z makes the steps, x is their average, and the gradient is taken at y, between them. The parameters
    hold y while it trains, and x, the better one, after `eval`; `train` gives them y again. So: ``optimizer.eval()``
    before the model is evaluated or saved, ``optimizer.train()`` before the next step. `training.fit` and `trajectory`
    do both, and end with x; `critical.diagnose` looks at x.

    training: whether the parameters hold y. `step` raises RuntimeError where they do not.

    Source: Defazio et al. 2024, algorithm 1, in the form of the authors' package ``schedulefree``.

    >>> import microgradopt as mg
    >>> w = mg.Tensor([5.0, -3.0], requires_grad=True)
    >>> optimizer = ScheduleFreeAdamW([w], lr=0.1)
    >>> for _ in range(400):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> optimizer.eval()
    >>> bool(np.abs(w.data).max() < 0.1)
    True
    """

    keeps = ("x", "z", "v", "lr_max", "weight_sum")
    numbers = ("lr_max", "weight_sum")
    squares = ("v", "lr_max", "weight_sum")

    lr: LearningRate = rate(2.5e-3)
    betas: Betas = betas(0.9, 0.999)
    eps: float = number(1e-8)
    weight_decay: float = number(0.0)
    warmup_steps: int = whole(0, low=0)
    r: float = number(0.0)
    weight_lr_power: float = number(2.0)
    maximize: bool = flag(False)
    training: bool = flag(True)

    def prepare(self, closure: Closure | None, allow_nonfinite: bool) -> Step:
        """Compute a step, from y."""
        if not all(group["training"] for group in self.param_groups):
            raise RuntimeError(f"{self._name}.step: the parameters hold the average x; call optimizer.train() first")
        return super().prepare(closure, allow_nonfinite)

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        beta2, t = group["betas"][1], state["t"] + 1
        v = moving_average(state, "v", g * g, beta2)
        direction = g / (np.sqrt(v / (1 - beta2**t)) + group["eps"]) + group["weight_decay"] * theta
        lr = lr * min(1.0, t / max(group["warmup_steps"], 1))
        lr_max = max(lr, state.get("lr_max", 0.0))
        weight = t ** group["r"] * lr_max ** group["weight_lr_power"]
        total = state.get("weight_sum", 0.0) + weight
        c = weight / total if total else 0.0
        z = state.get("z", theta) - lr * direction
        x = (1 - c) * state.get("x", theta) + c * z
        state.update(x=x, z=z, lr_max=lr_max, weight_sum=total)
        return _between(x, z, group)

    def train(self) -> None:
        """Give the parameters y, where the next gradient is to be taken."""
        self._hold(True)

    def eval(self) -> None:
        """Give the parameters x, the average."""
        self._hold(False)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, the parameters hold x; afterwards what they held before."""
        before = all(group["training"] for group in self.param_groups)
        self.eval()
        try:
            yield
        finally:
            self._hold(before)

    def _hold(self, training: bool) -> None:
        def write() -> None:
            for group, blocks in zip(self.param_groups, self._blocks, strict=True):
                for block in blocks:
                    if "x" in block.state and group["training"] is not training:
                        x, z = block.state["x"], block.state["z"]
                        block.vector.write(_between(x, z, group) if training else x.copy())
            for group in self.param_groups:
                group["training"] = training

        to_the_end(write)


def _between(x: Array, z: Array, group: Group) -> Array:
    beta1, _ = group["betas"]
    y: Array = beta1 * x + (1 - beta1) * z
    return y
