"""What can be measured about a loss that may be stuck: its trend, its curvature, and what steps would gain."""

from __future__ import annotations

import functools
import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from microgradopt.critical.escape import Escape, escape, size_of
from microgradopt.critical.point import DEGENERATE, CriticalPoint
from microgradopt.critical.units import Layer, layers
from microgradopt.critical.verdict import classify
from microgradopt.curvature.lanczos import eigenpairs
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import conjugate_gradient
from microgradopt.objective import Objective
from microgradopt.optim.optimizer import Optimizer
from microgradopt.optim.stability import step_scale

Array = npt.NDArray[Any]

_PRODUCTS = 150  # with H, for the ends of its spectrum, where there are more parameters than that
_DENSE = 400  # parameters up to which all of the Hessian's eigenvalues are computed
WINDOW = 200  # updates of the history that count as the present
_BLOCKS = 10  # that the window is divided into
FEWEST = 20  # updates that a history needs to tell anything
WORTH = 0.01  # of the loss: a gain that is worth having, per window
TINY = float(np.finfo(float).tiny)


class Record(Protocol):
    """What is read of a history: see `training.History`."""

    loss: list[float]
    gradient_norm: list[float]


class Evidence:
    """A loss that may be stuck. Each thing is measured when it is first asked for."""

    def __init__(
        self, objective: Objective, optimizer: Optimizer | None, history: Record | None, rng: np.random.Generator
    ) -> None:
        if optimizer is not None:
            optimizer.check_moves("diagnose", objective.parameters)
        self.objective, self.optimizer, self.rng = objective, optimizer, rng
        self.theta = objective.theta
        self.losses = np.array([] if history is None else history.loss, float)
        self.norms = np.array([] if history is None else history.gradient_norm, float)
        with np.errstate(all="ignore"):
            self.value, self.gradient = objective.value_and_gradient()
            self.norm = float(np.linalg.norm(self.gradient))
        self.size = size_of(self.theta)

    @functools.cached_property
    def hessian(self) -> HessianOperator:
        """The Hessian at θ."""
        return HessianOperator(self.objective)

    @functools.cached_property
    def scale(self) -> Array | None:
        """d, the step that the optimizer makes of a gradient, in limits of stability: see `optim.stability`.

        None where it is not known, or nothing moves.
        """
        scale = None if self.optimizer is None else step_scale(self.optimizer, self.objective.vector)
        return scale if scale is not None and scale.any() else None

    @functools.cached_property
    def ratio(self) -> float | None:
        """The learning rate against the limit of stability: λ_max(D^½ H D^½). None where it is not known."""
        return self._ratio(self.hessian)

    @functools.cached_property
    def stable_lr(self) -> float | None:
        """Half the learning rate that would be at the limit, here and where the best step leads, whichever is less.

        Where the loss is flat here the limit is high, and says nothing of the slope that the step may come to.
        """
        if self.optimizer is None or self.ratio is None:
            return None
        ahead = self._ratio(HessianOperator(self.objective, self.descent.theta)) or 0.0
        return self.optimizer.lr / (2 * max(self.ratio, ahead))

    def _ratio(self, H: HessianOperator) -> float | None:
        if self.scale is None:
            return None
        scaled = _Scaled(H, np.sqrt(self.scale))
        return float(eigenpairs(scaled, 1, "largest", tol=1e-2, max_products=100, rng=self.rng).values[-1])

    @functools.cached_property
    def trend(self) -> tuple[float, float]:
        """How much the loss falls in 200 updates, relative to itself, and how many standard errors that is.

        A line is fitted to the means of ten blocks: single losses are not independent where training goes to and fro.
        """
        recent = self.losses[-WINDOW:]
        if len(recent) < FEWEST:
            return 0.0, 0.0
        means = np.array([block.mean() for block in np.array_split(recent, _BLOCKS)])
        t = np.arange(_BLOCKS) - (_BLOCKS - 1) / 2
        slope = float(t @ means / (t @ t))
        residuals = means - means.mean() - slope * t
        error = math.sqrt(float(residuals @ residuals) / (_BLOCKS - 2) / float(t @ t))
        fall = -slope * _BLOCKS * WINDOW / len(recent)
        return fall / max(abs(float(means.mean())), TINY), -slope / max(error, TINY)

    @functools.cached_property
    def point(self) -> CriticalPoint:
        """The verdict on θ as a critical point."""
        return classify(self.objective, dense_up_to=_DENSE, max_products=_PRODUCTS, rng=self.rng)

    @functools.cached_property
    def layers(self) -> list[Layer]:
        """What the activations are doing."""
        return layers(self.objective)

    @functools.cached_property
    def descent(self) -> Escape:
        """The best that one step in the optimizer's direction can do: −D g, or −g, with a perfect step length."""
        direction = self.gradient if self.scale is None else self.scale * self.gradient
        return escape(self.objective, self.theta, direction, self.size)

    @functools.cached_property
    def newton_gain(self) -> float:
        """What Newton's step promises, where the curvature is positive: ½ gᵀH⁺g."""
        p = conjugate_gradient(self.hessian, -self.gradient, tol=1e-3, max_iter=50).x
        return max(0.0, -float(self.gradient @ p + p @ (self.hessian @ p) / 2))

    @functools.cached_property
    def way_out(self) -> Escape | None:
        """Down along negative curvature, or along flat directions of a degenerate point; None where there is none."""
        try:
            return self.point.escape(self.rng) if self.point.negative or self.point.kind == DEGENERATE else None
        except ValueError:
            return None

    @functools.cached_property
    def overshoot(self) -> float:
        """How many times longer than the best step in its direction a plain step is; 0 if a plain step goes down.

        A plain step is −2 d g: for gradient descent −η g, and for other methods what is as near their limit.
        """
        if self.scale is None or not self.descent.step:
            return 0.0
        step = 2 * self.scale * self.gradient
        with np.errstate(all="ignore"):
            falls = self.objective.value(self.theta - step) < self.value
        return 0.0 if falls else float(np.linalg.norm(step)) / self.descent.step

    @functools.cached_property
    def weight_curvatures(self) -> list[float]:
        """How much of the curvature is in each matrix of weights: ‖(H v) there‖ / ‖v‖, for a random v in it alone."""
        vector = self.objective.vector
        found = []
        for part, parameter in zip(vector.slices, vector.parameters, strict=True):
            if parameter.ndim >= 2:
                v = np.zeros_like(self.theta)
                v[part] = self.rng.standard_normal(parameter.size)
                found.append(float(np.linalg.norm((self.hessian @ v)[part]) / np.linalg.norm(v)))
        return found

    @property
    def foretold(self) -> float:
        """What 200 plain steps would gain, did the gradient stay what it is."""
        return 0.0 if self.scale is None else WINDOW * float(self.gradient @ (2 * self.scale * self.gradient))

    def worth(self, gain: float) -> bool:
        """Whether a gain is worth having: a hundredth of the loss."""
        return gain >= WORTH * abs(self.value)


class _Scaled:
    """D^½ H D^½, as an operator."""

    def __init__(self, H: HessianOperator, root: Array) -> None:
        self.H, self.root, self.shape, self.dtype = H, root, H.shape, H.dtype

    def __matmul__(self, v: Array) -> Array:
        return self.root * (self.H @ (self.root * v))
