"""Least squares, L = ½ ‖r‖²: the Jacobian of the residuals gives the curvature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from microgradopt.autodiff import jacobian
from microgradopt.curvature.solvers import norm, trust_region_step
from microgradopt.errors import NonFiniteError
from microgradopt.objective import half_square
from microgradopt.optim.blocks import State
from microgradopt.optim.closure import ClosureOptimizer, LocalLoss
from microgradopt.optim.hyperparameters import LearningRate, positive, rate
from microgradopt.optim.optimizer import Array, Closure, Group
from microgradopt.optim.second_order import TrustRegion
from microgradopt.tensor import Tensor


class LeastSquares(ClosureOptimizer):
    """Base of methods for L = ½ ‖r‖², whose closure computes the residuals r and returns them.

    r: a Tensor of any shape but (): `step` raises TypeError for a loss. The closure need not clear gradients nor call
    backward. `step` returns L where it started.
    """

    wants_graph = True

    def evaluate(self, closure: Closure) -> tuple[Tensor, Tensor]:
        """The residuals, and ½ ‖r‖²."""
        self.zero_grad()
        residuals = closure()
        if not isinstance(residuals, Tensor):
            raise TypeError(f"{self._name}.step: the closure is to return the residuals, a Tensor, not {residuals!r}")
        loss = half_square(residuals)
        loss.backward()
        return residuals, loss

    def jacobian(self, around: LocalLoss) -> Array:
        """J = ∂r/∂θ, (m, n)."""
        r = around.output
        J = np.concatenate([part.reshape(r.size, -1) for part in jacobian(r, around.vector.parameters)], axis=1)
        if not np.isfinite(J).all():
            raise NonFiniteError(
                f"{self._name}.step: the Jacobian, of shape {J.shape}, is not finite; the parameters stay as they were"
            )
        return J


def decomposed(J: Array, r: Tensor) -> tuple[Array, Array, Array]:
    """J as U diag(s) Vᵀ; gives s, Vᵀ and Uᵀr."""
    U, s, Vt = np.linalg.svd(J, full_matrices=False)
    return s, Vt, U.T @ r.data.ravel()


class GaussNewton(LeastSquares):
    """Gauss-Newton: Newton's method for ½ ‖r‖² without the curvature of r itself.

    .. code-block:: text

        p = −J⁺ r            the shortest p with JᵀJ p = −Jᵀr
        θ ← θ + t p          t = η, or shorter until L(θ + t p) ≤ L(θ) + 10⁻⁴ t gᵀp

    Converges quadratically where r = 0 at the solution. Singular values of J below max(m, n) ε of the largest count as
    zero. Where J is nearly singular far from a solution `LevenbergMarquardt` is better.

    Source: Nocedal & Wright 2006, section 10.3.

    >>> import microgradopt as mg
    >>> w, x, y = mg.Tensor([0.0, 0.0], requires_grad=True), np.arange(4.0), np.array([1.0, 3.0, 5.0, 7.0])
    >>> GaussNewton([w]).step(lambda: w[0] + w[1] * x - y).item(), w.data.round(12)
    (42.0, array([1., 2.]))
    """

    lr: LearningRate = rate(1.0)

    def move(self, around: LocalLoss, state: State, group: Group) -> Array:
        s, Vt, r = decomposed(self.jacobian(around), around.output)
        zero = max(around.output.size, around.vector.size) * float(np.finfo(s.dtype).eps) * s.max()
        p = -(Vt.T @ np.divide(r, s, out=np.zeros_like(s), where=s > zero))
        slope = float(around.gradient @ p)
        return around.searched(p, slope, group["lr"])


class LevenbergMarquardt(TrustRegion, LeastSquares):
    """Levenberg-Marquardt: Gauss-Newton in a trust region, in Moré's form, scaled by the columns of J.

    .. code-block:: text

        D = diag(the longest that each column of J has been)
        p = −(JᵀJ + μ D²)⁻¹ Jᵀr,  with the smallest μ ≥ 0 for which ‖D p‖ ≤ Δ
        ρ = (L(θ) − L(θ + p)) / −(rᵀJ p + ½ ‖J p‖²)
        Δ ← ½ ‖D p‖ if ρ < ¼;   max(Δ, 2 ‖D p‖) if ρ > ¾
        θ ← θ + p if ρ > 10⁻⁴; else again with the smaller Δ, from the same J

    At first Δ = radius ‖D θ‖, or radius ‖r‖ where θ = 0. μ follows from Δ, and may change by any factor from one step
    to the next; in a curved valley a rule for μ itself stays with short steps. The steps do not depend on the units of
    the parameters. The loss never rises; where no step lowers it, θ stays.

    radius: Δ at the first step, in lengths of D θ (Moré's factor: 0.1 to 100; large ones may leave for regions where
    the loss is flat).

    Source: Levenberg 1944; Marquardt 1963; Moré 1978, algorithm 7.1, with the exact μ, ½ for its factor from 0.1 to ½,
    and a Δ that a good step does not shorten.

    >>> import microgradopt as mg
    >>> w, x = mg.Tensor([1.0, -1.0], requires_grad=True), np.linspace(0, 1, 5)
    >>> y = 3 * np.exp(-2 * x)
    >>> optimizer = LevenbergMarquardt([w])
    >>> for _ in range(10):
    ...     loss = optimizer.step(lambda: w[0] * np.exp(w[1] * x) - y)
    >>> w.data.round(6)
    array([ 3., -2.])
    """

    keeps = squares = ("radius", "scale")

    radius: float = positive(1.0)

    _tries, _shorter = 50, 0.5

    def model(self, around: LocalLoss, state: State, group: Group) -> Callable[[float], tuple[Array, float, float]]:
        """One decomposition of J serves all radii."""
        J = self.jacobian(around)
        longest = np.maximum(state.get("scale", 0.0), np.linalg.norm(J, axis=0))
        D = np.where(longest > 0, longest, 1)
        s, Vt, r = decomposed(J / D, around.output)
        far = float(np.linalg.norm(D * around.theta)) or float(np.linalg.norm(r)) or 1.0
        state.setdefault("radius", group["radius"] * far)
        state["scale"] = longest

        def step(radius: float) -> tuple[Array, float, float]:
            q = trust_region_step(s * s, np.eye(s.size, dtype=s.dtype), s * r, radius)  # Vᵀ D p
            promised = -float(r @ (s * q) + np.sum((s * q) ** 2) / 2)
            return (Vt.T @ q) / D, norm(q), promised

        return step

    def longer(self, radius: float, size: float) -> float:
        """The Δ that a good step leads to: it does not shorten it."""
        return max(radius, 2 * size)
