"""Optimizers that evaluate the loss themselves, several times in a step: what all of them share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from microgradopt.curvature.line_search import Phi
from microgradopt.curvature.operator import HessianOperator
from microgradopt.errors import NonFiniteError
from microgradopt.objective import ParameterVector
from microgradopt.optim.optimizer import Array, Group, Optimizer, State, _Block
from microgradopt.tensor import Tensor

Closure = Callable[[], Tensor]

_POSITIVE = ("radius", "damping")
_COUNTS = ("history_size", "max_iter", "rank", "interval")


class Surroundings:
    """The loss at θ and around it, within one step.

    Attributes: `theta` (n,), `value` L(θ), `gradient` ∇L(θ), all where the step starts; `output`, what the closure gave
    there, with its graph; `vector`, the tensors that move; `rounding`, a difference of losses too small to be told.

    Raises NonFiniteError where the value or the gradient is not finite.
    """

    def __init__(
        self,
        name: str,
        evaluate: Callable[[], tuple[Tensor, Tensor]],
        vector: ParameterVector,
        output: Tensor,
        loss: Tensor,
    ) -> None:
        self._evaluate, self._loss = evaluate, loss
        self.vector, self.output, self.value = vector, output, loss.item()
        self.theta, self.gradient = vector.theta(), vector.gradient()
        self.rounding = 10 * float(np.finfo(self.theta.dtype).eps) * abs(self.value)
        if not (math.isfinite(self.value) and np.isfinite(self.gradient).all()):
            raise NonFiniteError(
                f"{name}.step: the loss is {self.value}, or its gradient not finite; the parameters stay as they were; "
                "mg.detect_anomaly() finds the operation"
            )

    def at(self, theta: Array) -> tuple[float, Array]:
        """L and ∇L at another θ, by the closure. Afterwards the tensors are as if they had never been there."""
        with np.errstate(all="ignore"), self.vector.moved_to(theta):
            _, loss = self._evaluate()
            return loss.item(), self.vector.gradient()

    def along(self, d: Array) -> Phi:
        """The loss along a line, for a line search: φ(t) = L(θ + t d), with its slope."""

        def phi(t: float) -> tuple[float, float]:
            value, g = self.at(self.theta + t * d)
            return value, slope_along(g, d)

        return phi

    def gain(self, theta: Array, predicted: float) -> float:
        """The decrease of the loss at another θ over the predicted one; −inf where the loss is not finite.

        Where rounding hides a decrease as small as that: 1 if the loss is not higher.
        """
        value, _ = self.at(theta)
        if not math.isfinite(value):
            return -math.inf
        if predicted <= self.rounding and value <= self.value:
            return 1.0
        return (self.value - value) / predicted

    def hessian(self) -> HessianOperator:
        """H(θ)."""
        return HessianOperator.of(self._loss, self.vector)


def slope_along(g: Array, d: Array) -> float:
    """The slope gᵀd; not finite, without a warning, where g is not."""
    with np.errstate(all="ignore"):
        return float(g @ d)


class ClosureOptimizer(Optimizer):
    """Base of optimizers that need the loss elsewhere, or its curvature: `step` wants a closure.

    One parameter group only: curvature couples all tensors. Those that are frozen, or have no gradient, stay; when
    other tensors than before have gradients, the state starts anew.

    A step ends at a finite θ, or raises and leaves θ as it was. `.grad` is then that of the last evaluation.

    A subclass writes `move`.
    """

    wants_closure = True

    @abstractmethod
    def move(self, around: Surroundings, state: State, group: Group) -> Array:
        """The new θ. state, group: as `update` has them, but that the arrays in state are replaced, not written to."""

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        """Not these: a gradient at one θ is too little for them."""
        raise NotImplementedError(f"{self._name} steps by move(), not by update()")

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """The one group. Raises ValueError for another one."""
        if self.param_groups:
            raise ValueError(f"{self._name}: one parameter group only, since curvature couples all tensors")
        super().add_param_group(group)

    def check(self, group: Group) -> None:
        """Radii and dampings are positive, and counts at least 1."""
        super().check(group)
        for key in _POSITIVE:
            value = group.get(key, 1.0)
            if not (isinstance(value, float | int) and 0 < value < math.inf):
                raise ValueError(f"{self._name}: {key} is a positive number, not {value!r}")
        for key in _COUNTS:
            value = group.get(key)
            if key in group and not (isinstance(value, int) and value >= 1) and (key, value) != ("rank", None):
                raise ValueError(f"{self._name}: {key} is a whole number from 1, not {value!r}")

    def step(self, closure: Closure | None = None) -> Tensor:
        """One step. closure: clears the gradients, computes the loss, calls backward and gives the loss.

        Called several times, at different θ; should be deterministic. Returns the loss where the step started.

        Raises TypeError without a closure, RuntimeError if there is no gradient, NonFiniteError where the loss or its
        gradient is not finite at the start. Then nothing has changed.
        """
        if closure is None:
            raise TypeError(
                f"{self._name}.step: wants a closure, a function that clears the gradients, computes the loss, calls "
                "backward and returns the loss: it is evaluated several times in a step"
            )
        output, loss = self.evaluate(closure)
        block = self._moving_block()
        around = Surroundings(self._name, lambda: self.evaluate(closure), block.vector, output, loss)
        group = dict(self.param_groups[0])
        if "lr" in group:
            group["lr"] = self._rate(0, "lr")
        state = dict(block.state)  # of its own, so that a closure that raises half-way leaves the state as it was too
        theta = self.move(around, state, group)
        if not np.isfinite(theta).all():
            raise NonFiniteError(f"{self._name}.step: the step is not finite; the parameters stay as they were")
        if theta is not around.theta:
            block.vector.write(theta)
        block.state = {**state, "t": state["t"] + 1}
        self._steps[0] += 1
        return loss

    def evaluate(self, closure: Closure) -> tuple[Tensor, Tensor]:
        """What the closure gives, and the loss; afterwards the tensors have their gradients."""
        loss = closure()
        if not isinstance(loss, Tensor):
            raise TypeError(f"{self._name}.step: the closure is to return the loss, a Tensor, not {loss!r}")
        return loss, loss

    def _moving_block(self) -> _Block:
        """The tensors that have gradients, as one block."""
        params = self.param_groups[0]["params"]
        moving = {p for p in params if p.grad is not None and p.needs_grad}
        if not moving:
            raise RuntimeError(f"{self._name}.step: no parameter has a gradient; the closure is to call backward()")
        for block in self._blocks[0]:
            if set(block.vector.parameters) == moving:
                return block
        parts = [[p for p in params if (p in moving) is wanted] for wanted in (True, False)]
        self._blocks[0] = [_Block(part, {"t": 0}) for part in parts if part]
        return self._blocks[0][0]

    @property
    def lr(self) -> float:
        """The learning rate of the next step; 1 for those that have none, and find the length of their step."""
        return self._rate(0, "lr") if "lr" in self.param_groups[0] else 1.0
