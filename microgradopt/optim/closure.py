"""Optimizers that evaluate the loss themselves, several times in a step: what all of them share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from microgradopt.curvature.line_search import backtracking
from microgradopt.curvature.operator import HessianOperator
from microgradopt.errors import NonFiniteError
from microgradopt.optim.blocks import Block, State, Step
from microgradopt.optim.optimizer import Array, Closure, Group, Optimizer
from microgradopt.tensor import Tensor
from microgradopt.vector import ParameterVector


class LocalLoss:
    """The loss at θ and around it, within one step.

    Attributes: `theta` (n,), `value` L(θ), `gradient` ∇L(θ), all where the step starts; `output`, what the closure gave
    there, with its graph; `vector`, the tensors that move; `rounding`: differences of losses below this are rounding;
    `stopped`: why the method has stopped, in words, "" if it goes on.

    Raises NonFiniteError where the value or the gradient is not finite.
    """

    stopped = ""

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
        check_finite(f"{name}.step:", self.value, self.gradient, "mg.detect_anomaly() finds the operation")

    def stay(self, why: str) -> Array:
        """The θ where the step started, for a method that has stopped."""
        self.stopped = why
        return self.theta

    def at(self, theta: Array) -> tuple[float, Array]:
        """L and ∇L at another θ, by the closure. Afterwards the tensors are as if they had never been there."""
        with np.errstate(all="ignore"), self.vector.moved_to(theta):
            _, loss = self._evaluate()
            return loss.item(), self.vector.gradient()

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

    def searched(self, d: Array, slope: float, lr: float) -> Array:
        """θ + t d, with t = lr or shorter until the loss is low enough (Armijo's condition); θ where there is none.

        Where rounding hides the decrease, θ + lr d if that halves the gradient.
        """
        if not (slope < 0 and lr):  # the slope may underflow
            return self.stay("the loss has no slope along the step, or the learning rate is 0")
        if -slope * lr <= self.rounding:
            value, g = self.at(self.theta + lr * d)
            halved = value <= self.value and np.linalg.norm(g) < np.linalg.norm(self.gradient) / 2
            return self.theta + lr * d if halved else self.stay("no decrease larger than rounding is left")
        t = backtracking(Line(self, self.theta, d), self.value, slope, lr).step
        return self.theta + t * d if t else self.stay("no step along the direction lowers the loss")

    def hessian(self) -> HessianOperator:
        """H(θ)."""
        return HessianOperator.of(self._loss, self.vector)


class Line:
    """φ(t) = L(θ + t d) with its slope, for a line search. `reached`: θ + t d and the gradient there, by t."""

    def __init__(self, around: LocalLoss, theta: Array, d: Array) -> None:
        self._around, self._theta, self._d = around, theta, d
        self.reached: dict[float, tuple[Array, Array]] = {}

    def __call__(self, t: float) -> tuple[float, float]:
        theta = self._theta + t * self._d
        value, g = self._around.at(theta)
        self.reached[t] = theta, g
        return value, slope_along(g, self._d)


def check_finite(where: str, value: float, g: Array, way_out: str) -> None:
    """Raise NonFiniteError unless a loss and its gradient are finite."""
    if not (math.isfinite(value) and np.isfinite(g).all()):
        raise NonFiniteError(
            f"{where} the loss is {value}, or its gradient not finite; the parameters stay as they were; {way_out}"
        )


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

    stopped: after a step, why the method has stopped ("the gradient is 0"), or "" if it goes on. A method that has
    stopped stays where it is.
    """

    wants_closure = True
    stopped: ClassVar[str] = ""

    @abstractmethod
    def move(self, around: LocalLoss, state: State, group: Group) -> Array:
        """The new θ. state, group: as `update` has them."""

    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        """Unused: these optimizers implement `move`."""
        raise NotImplementedError(f"{self._name} steps by move(), not by update()")

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """The one group. Raises ValueError for another one."""
        if self.param_groups:
            raise ValueError(f"{self._name}: one parameter group only, since curvature couples all tensors")
        super().add_param_group(group)

    def prepare(self, closure: Closure | None, allow_nonfinite: bool) -> Step:
        """Compute a step. A loss or gradient that is not finite where it starts is refused in any case."""
        if closure is None:
            raise TypeError(
                f"{self._name}.step: wants a closure, a function that clears the gradients, computes the loss, calls "
                "backward and returns the loss: it is evaluated several times in a step"
            )
        output, loss = self.evaluate(closure)
        blocks = self._divided()
        around = LocalLoss(self._name, lambda: self.evaluate(closure), blocks[0].vector, output, loss)
        state = blocks[0].state.copy()
        theta = self.move(around, state, self.settings(0))
        if not np.isfinite(theta).all():
            raise NonFiniteError(f"{self._name}.step: the step is not finite; the parameters stay as they were")
        if theta is not around.theta and np.array_equal(theta, around.theta):
            theta = around.stay("the step is smaller than the rounding of θ")
        move = self._move(blocks[0], theta, state)
        self.stopped = around.stopped  # type: ignore[misc]
        if theta is around.theta:
            move = move._replace(theta=None)
        return Step(loss, [move], [blocks], [self._steps[0] + 1])

    def evaluate(self, closure: Closure) -> tuple[Tensor, Tensor]:
        """What the closure gives, and the loss; afterwards the tensors have their gradients."""
        loss = closure()
        if not isinstance(loss, Tensor):
            raise TypeError(f"{self._name}.step: the closure is to return the loss, a Tensor, not {loss!r}")
        return loss, loss

    def _divided(self) -> list[Block]:
        """The tensors that have gradients as one block, the first; the others as another."""
        params = self.param_groups[0]["params"]
        moving = {p for p in params if p.grad is not None and p.needs_grad}
        if not moving:
            raise RuntimeError(f"{self._name}.step: no parameter has a gradient; the closure is to call backward()")
        both = sorted(self._blocks[0], key=lambda block: set(block.vector.parameters) != moving)
        if set(both[0].vector.parameters) == moving:
            return both
        parts = [[p for p in params if (p in moving) is wanted] for wanted in (True, False)]
        return [Block(part, State({"t": 0})) for part in parts if part]
