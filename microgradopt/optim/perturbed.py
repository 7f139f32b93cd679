"""Gradients taken elsewhere than at θ: uphill, for a flat minimum (SAM), or at random, to leave a saddle."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgradopt.optim.blocks import State, Step
from microgradopt.optim.closure import ClosureOptimizer, LocalLoss, check_finite
from microgradopt.optim.first_order import SGD
from microgradopt.optim.hyperparameters import LearningRate, flag, number, positive, rate, seed, whole
from microgradopt.optim.optimizer import Array, Closure, Group, Optimizer, Parameters
from microgradopt.tensor import Tensor
from microgradopt.vector import ParameterVector


class SAM(Optimizer):
    """Sharpness-aware minimisation: another optimizer, with the gradient from the highest point nearby.

    .. code-block:: text

        ε = ρ g / ‖g‖                    or, adaptive, with T = diag |θ|:  ε = ρ T² g / ‖T g‖
        θ ← base(θ, ∇L(θ + ε))

    It prefers minima around which the loss is low as well. The norm is over all tensors that have gradients, of all
    groups. Two evaluations a step: `step` wants a closure. As with the base, the loss may rise.

    base: the class of the other optimizer. rho: ρ; for the adaptive form about ten times larger. The base's own
    hyperparameters follow by name, and are those of the groups: ``SAM(params, optim.Adam, lr=0.01)``.

    Source: Foret, Kleiner, Mobahi & Neyshabur 2021, equation 2; adaptive: Kwon, Kim, Park & Choi 2021, equation 8.

    >>> import microgradopt as mg
    >>> w = mg.Tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = SAM([w], rho=1.0, lr=0.5)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (w * w).sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item(), w.data.round(12)
    (12.5, array([1.2, 1.6]))
    """

    wants_closure = True
    rho: float = number(0.05)
    adaptive: bool = flag(False)

    def __init__(
        self,
        params: Parameters,
        base: type[Optimizer] = SGD,
        rho: float = 0.05,
        adaptive: bool = False,
        **base_hyperparameters: Any,
    ) -> None:
        if not (isinstance(base, type) and issubclass(base, Optimizer)):
            raise TypeError(f"SAM: base is the class of an optimizer, as optim.Adam, not {base!r}")
        if issubclass(base, ClosureOptimizer | SAM):
            raise ValueError(f"SAM: the base is an optimizer that steps by one gradient, not {base.__name__}")
        if taken := base.hyperparameters.keys() & SAM.hyperparameters.keys():
            raise ValueError(f"SAM({base.__name__}): the base has {', '.join(taken)} of its own")
        # Only its formula and its checks are used; the groups and the state are SAM's own.
        self._base = base([Tensor(0.0, requires_grad=True)], **base_hyperparameters)
        for name in ("keeps", "may_keep", "numbers", "squares"):
            setattr(self, name, getattr(base, name))
        self._declare()
        super().__init__(params, **self._base._defaults, rho=rho, adaptive=adaptive)

    def _declare(self) -> None:
        self.hyperparameters = {**self._base.hyperparameters, **SAM.hyperparameters}  # type: ignore[misc]

    def __getstate__(self) -> dict[str, Any]:  # what is declared belongs to the classes, and does not pickle
        return {key: value for key, value in vars(self).items() if key != "hyperparameters"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._declare()

    @property
    def _name(self) -> str:
        return f"SAM({type(self._base).__name__})"

    @property
    def _may_write(self) -> bool:
        return self._base._may_write

    def check(self, group: Group) -> None:
        """What the base checks; and there is no climbing."""
        self._base.check(group)
        if group.get("maximize"):
            raise ValueError(f"{self._name}: maximize has no sharpness to avoid; negate the loss")

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        """The base's formula."""
        return self._base.update(theta, g, state, lr, group)

    def prepare(self, closure: Closure | None, allow_nonfinite: bool) -> Step:
        """Compute a step. A loss or gradient that is not finite, at θ or at θ + ε, is refused in any case."""
        if closure is None:
            raise TypeError(f"{self._name}.step: wants a closure: the gradient is wanted at two points")
        loss = closure()
        moving = [
            (p, group) for group in self.param_groups for p in group["params"] if p.grad is not None and p.requires_grad
        ]
        if not moving:
            raise RuntimeError(f"{self._name}.step: no parameter has a gradient; the closure is to call backward()")
        vector = ParameterVector(p for p, _ in moving)
        check_finite(f"{self._name}.step: at θ", loss.item(), vector.gradient(), "a smaller rho may do")
        theta = vector.theta()
        rho = vector.join([np.full(p.shape, group["rho"], p.dtype) for p, group in moving])
        scale = vector.join([abs(p.data) if group["adaptive"] else np.ones(p.shape, p.dtype) for p, group in moving])
        g = scale * vector.gradient()
        norm = float(np.linalg.norm(g.astype(np.float64, copy=False)))  # float32's squares of small numbers are 0
        if norm > 0:
            with np.errstate(all="ignore"), vector.moved_to(theta + rho * scale * g / norm):
                value = closure().item()
                check_finite(f"{self._name}.step: at θ + ε", value, vector.gradient(), "a smaller rho may do")
        return super().prepare(None, False)._replace(loss=loss)


class PerturbedGD(ClosureOptimizer):
    """Gradient descent that adds noise where the gradient is small: it does not stay at saddles.

    .. code-block:: text

        ‖∇L(θ)‖ ≤ gradient_threshold, and no noise in the last `interval` steps:
            θ ← θ + ξ,  ξ uniform in the ball of radius r
        θ ← θ − η ∇L(θ)

    Where the curvature is negative in any direction, almost every ξ has a part along it that grows. Near a minimum the
    noise goes on, and costs up to ½ λ r² of loss each time: keep the best θ, or make r small. So the loss may rise, as
    it may with an η that is too large. Left out of algorithm 2 is its end: no fall in `interval` steps after noise.

    radius: r. In the paper, for a loss whose gradient is ℓ- and whose Hessian is ρ-Lipschitz, and accuracy ε:
    η = c/ℓ, r = √c ε / χ²ℓ, gradient_threshold = √c ε / χ², interval = χ ℓ / c²√(ρε), with χ of the order of log n.

    rng: a seed; or a Generator, that a seed is drawn from. The noise of step t is that of the seed [rng, t]: a resumed
    run makes the same.

    Source: Jin, Ge, Netrapalli, Kakade & Jordan 2017, algorithm 2.

    >>> import microgradopt as mg
    >>> x = mg.Tensor([0.0, 0.0], requires_grad=True)  # a saddle of x² − y² + y⁴
    >>> optimizer = PerturbedGD([x], lr=0.1, rng=0)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = x[0]**2 - x[1]**2 + x[1]**4
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(60):
    ...     _ = optimizer.step(closure)
    >>> abs(x.data).round(3)
    array([0.   , 0.707])
    """

    keeps = numbers = ("noise",)
    lr: LearningRate = rate(1e-3)
    radius: float = positive(1e-3)
    gradient_threshold: float = number(1e-3)
    interval: int = whole(100)
    rng: np.random.Generator | int = seed(0)

    def move(self, around: LocalLoss, state: State, group: Group) -> Array:
        """The formula above. state["noise"]: the last step that noise was added at."""
        theta, g, t = around.theta, around.gradient, state["t"]
        last = state.setdefault("noise", -group["interval"] - 1)
        if np.linalg.norm(g) <= group["gradient_threshold"] and t - last > group["interval"]:
            theta = theta + group["radius"] * _in_ball(theta.size, np.random.default_rng([group["rng"], t]))
            value, g = around.at(theta)
            after = f"{self._name}.step: after noise of radius {group['radius']}"
            check_finite(after, value, g, "a smaller radius may do")
            state["noise"] = t
        return theta - group["lr"] * g


def _in_ball(n: int, rng: np.random.Generator) -> Array:
    """A point drawn uniformly from the unit ball of Rⁿ: a direction, and the n-th root of a uniform number."""
    z = rng.standard_normal(n)
    return float(rng.random()) ** (1 / n) / float(np.linalg.norm(z)) * z
