"""Newton's method, made safe: with a trust region, without the matrix, and with |H| in place of H."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from microgradopt.curvature.lanczos import tridiagonal
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import conjugate_gradient, norm, trust_region_step
from microgradopt.errors import NonFiniteError
from microgradopt.optim.blocks import State
from microgradopt.optim.closure import ClosureOptimizer, LocalLoss
from microgradopt.optim.hyperparameters import LearningRate, positive, rate, whole
from microgradopt.optim.optimizer import Array, Group


class TrustRegion(ClosureOptimizer):
    """Base of methods that trust the quadratic model of the loss as far as it has proved right.

    .. code-block:: text

        p ≈ argmin gᵀp + ½ pᵀH p  over ‖p‖ ≤ Δ
        ρ = (L(θ) − L(θ + p)) / −(gᵀp + ½ pᵀH p)
        Δ ← ¼ ‖p‖ if ρ < ¼;   2 Δ if ρ > ¾ and ‖p‖ = Δ
        θ ← θ + p if ρ > 10⁻⁴; else again with the smaller Δ, from the same H

    The loss never rises. Where rounding hides every decrease, θ stays, and Δ. A decrease that is predicted to be
    negative, as it may be where eigenvalues differ by more than rounding can hold, counts as ρ < ¼.

    Source: Nocedal & Wright 2006, algorithm 4.1.
    """

    keeps: ClassVar[tuple[str, ...]] = ("radius",)
    squares: ClassVar[tuple[str, ...]] = ("radius",)
    numbers = ("radius",)
    wants_graph = True

    _tries: ClassVar[int] = 30
    """Radii to try in a step, each at most `_shorter` of the one before."""
    _shorter: ClassVar[float] = 0.25

    @abstractmethod
    def model(self, around: LocalLoss, state: State, group: Group) -> Callable[[float], tuple[Array, float, float]]:
        """The function of Δ that gives p, ‖p‖, and the decrease −(gᵀp + ½ pᵀH p) it promises."""

    def longer(self, radius: float, size: float) -> float:
        """Δ after a step of this size which the model has predicted well."""
        return 2 * radius if size > 0.99 * radius else radius

    def move(self, around: LocalLoss, state: State, group: Group) -> Array:
        """The formula above, until a step lowers the loss."""
        model = self.model(around, state, group)
        radius = state.setdefault("radius", float(group["radius"]))
        for _ in range(self._tries):
            p, size, predicted = model(radius)
            if predicted <= 0 and -float(around.gradient @ p) <= around.rounding:
                return around.stay("the model predicts no decrease")
            # Predicted from a Hessian whose small eigenvalues are noise: that is no better than a step that failed.
            ratio = around.gain(around.theta + p, predicted) if predicted > 0 else -math.inf
            if 0 < predicted <= around.rounding and ratio < 0:
                return around.stay("no decrease larger than rounding is left")
            if ratio < 0.25:
                radius = size * self._shorter
            elif ratio > 0.75:
                radius = self.longer(radius, size)
            if ratio > 1e-4:
                state["radius"] = radius
                return around.theta + p
        return around.stay(f"no step lowers the loss, down to a radius of {radius:.1g}")


class Newton(TrustRegion):
    """Newton's method in a trust region, with the exact step from the eigenvalues of the Hessian.

    .. code-block:: text

        p = −(H + σ I)⁻¹ g,  with the smallest σ ≥ 0 for which H + σ I has no negative eigenvalue and ‖p‖ ≤ Δ

    Near a minimum σ = 0, and convergence is quadratic. Negative curvature is used: the method leaves saddles, even one
    that it starts on exactly, and what it ends at is a local minimum up to second order. Forms H: for n up to some
    thousands. For the rest see `TrustRegion`.

    radius: Δ at the first step. Source: Conn, Gould & Toint 2000, chapter 7; Moré & Sorensen 1983.

    >>> import microgradopt as mg
    >>> x = mg.Tensor([0.0, 0.0], requires_grad=True)  # a saddle of x² − y² + y⁴
    >>> optimizer = Newton([x])
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = x[0]**2 - x[1]**2 + x[1]**4
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(8):
    ...     _ = optimizer.step(closure)
    >>> abs(x.data).round(6)
    array([0.      , 0.707107])
    """

    radius: float = positive(1.0)

    def model(self, around: LocalLoss, state: State, group: Group) -> Callable[[float], tuple[Array, float, float]]:
        """One decomposition serves all radii."""
        values, vectors = eigenvalues(around.hessian())
        g = around.gradient

        def step(radius: float) -> tuple[Array, float, float]:
            p = trust_region_step(values, vectors, g, radius)
            q = vectors.T @ p
            return p, norm(p), -float(g @ p + q @ (values * q) / 2)

        return step


class NewtonCG(TrustRegion):
    """Newton's method in a trust region without the matrix: conjugate gradients on Hessian-vector products.

    .. code-block:: text

        H p = −g  by Steihaug's conjugate gradients, to ‖H p + g‖ ≤ min(½, √‖g‖) ‖g‖

    They stop at the boundary ‖p‖ = Δ, and go there along a direction of negative curvature where they meet one. The
    tolerance makes the convergence superlinear near a minimum, and saves products far from one. On a saddle, where
    g = 0, there is no step. For the rest see `TrustRegion`.

    radius: Δ at the first step. max_iter: products with H for one p, at most.

    Source: Steihaug 1983; Nocedal & Wright 2006, algorithm 7.2.

    >>> from microgradopt import Objective, training
    >>> valley = Objective(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, [-1.2, 1.0])
    >>> training.trajectory(valley, NewtonCG(valley.parameters), 40)[-1].round(6)
    array([1., 1.])
    """

    radius: float = positive(1.0)
    max_iter: int = whole(200)

    def model(self, around: LocalLoss, state: State, group: Group) -> Callable[[float], tuple[Array, float, float]]:
        """Conjugate gradients from zero for each radius: a path that a smaller radius cuts off earlier."""
        H, g = around.hessian(), around.gradient
        tol = min(0.5, math.sqrt(float(np.linalg.norm(g))))

        def step(radius: float) -> tuple[Array, float, float]:
            p = conjugate_gradient(H, -g, radius, tol, group["max_iter"]).x
            return p, norm(p), -float(g @ p + p @ (H @ p) / 2)

        return step


class SaddleFreeNewton(ClosureOptimizer):
    """Saddle-free Newton: |H|, the Hessian with the absolute values of its eigenvalues, in place of H.

    .. code-block:: text

        d = −(|H| + damping I)⁻¹ g
        θ ← θ + t d,   t = η, or shorter until L(θ + t d) ≤ L(θ) + 10⁻⁴ t gᵀd

    Newton's step goes towards a saddle where H has negative eigenvalues; this one goes away from it, by lengths that
    the curvature sets. d always leads down, so that a t short enough is found (Armijo); where rounding hides every
    decrease θ stays. On a saddle, where g = 0, there is no step: `Newton` and `PerturbedGD` leave it.

    rank: None forms H, for n up to some thousands. A number k does all this in the Krylov space of g, H g, …, Hᵏ⁻¹g,
    by k products (algorithm 1 of the paper, with the line search above in place of its search for the best damping).

    Source: Dauphin, Pascanu, Gulcehre, Cho, Ganguli & Bengio 2014, equation 3 (with damping) and algorithm 1.

    >>> from microgradopt import Objective, training
    >>> wells = Objective(lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, [0.5, 0.1])
    >>> training.trajectory(wells, SaddleFreeNewton(wells.parameters), 20)[-1].round(6)
    array([0.      , 0.707107])
    """

    wants_graph = True

    lr: LearningRate = rate(1.0)
    damping: float = positive(1e-3)
    rank: int | None = whole(None)

    def move(self, around: LocalLoss, state: State, group: Group) -> Array:
        H, g = around.hessian(), around.gradient
        if not g.any():
            return around.stay("the gradient is 0")
        values, vectors = eigenvalues(H) if group["rank"] is None else krylov_eigenvalues(H, g, group["rank"])
        d = -(vectors @ ((vectors.T @ g) / (np.abs(values) + group["damping"])))
        slope = float(g @ d)
        return around.searched(d, slope, group["lr"])


def eigenvalues(H: HessianOperator) -> tuple[Array, Array]:
    """Of the dense Hessian: values, ascending, and vectors. Raises NonFiniteError where H is not finite."""
    dense = H.dense()
    if not np.isfinite(dense).all():
        raise NonFiniteError(f"the Hessian, of shape {dense.shape}, is not finite; the parameters stay as they were")
    values, vectors = np.linalg.eigh(dense)
    return values, vectors


def krylov_eigenvalues(H: HessianOperator, start: Array, rank: int) -> tuple[Array, Array]:
    """Of H restricted to the Krylov space of `start`: values, (k,), and vectors, (n, k); k ≤ rank."""
    process = tridiagonal(H, start, rank)
    values, vectors = process.ritz()
    return values, process.basis @ vectors
