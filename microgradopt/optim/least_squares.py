"""Least squares, L = ½ ‖r‖²: the Jacobian of the residuals gives the curvature."""

from __future__ import annotations

import numpy as np

from microgradopt.autodiff import jacobian
from microgradopt.errors import NonFiniteError
from microgradopt.objective import half_square
from microgradopt.optim.blocks import State
from microgradopt.optim.closure import ClosureOptimizer, LocalLoss
from microgradopt.optim.hyperparameters import LearningRate, positive, rate
from microgradopt.optim.optimizer import Array, Closure, Group
from microgradopt.tensor import Tensor

_FAR = 10  # of the size of θ: the first step is no longer (Moré 1978, section 6)
_TRIES = 20  # dampings to try in a step; the growth grows itself


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


class LevenbergMarquardt(LeastSquares):
    """Levenberg-Marquardt: Gauss-Newton, damped as much as it needs, with Nielsen's rule for the damping μ.

    .. code-block:: text

        D = diag(the longest that each column of J has been)
        p = −(JᵀJ + μ D²)⁻¹ Jᵀr
        ρ = (L(θ) − L(θ + p)) / ½ pᵀ(μ D² p − g)
        ρ > 0:  θ ← θ + p;   μ ← μ max(⅓, 1 − (2ρ − 1)³);   ν ← 2
        else:   μ ← μ ν;   ν ← 2 ν;   and again, from the same J

    At first μ = damping, or as large as keeps ‖D p‖ ≤ 10 ‖D θ‖, and ν = 2. D is Marquardt's scaling, in Moré's form:
    the steps do not depend on the units of the parameters. The loss never rises; where no step lowers it, θ stays.

    damping: 10⁻³ for a start near the solution, up to 1 for one that is not.

    Source: Levenberg 1944; Marquardt 1963; Moré 1978, section 6 (D); Nielsen 1999; Madsen, Nielsen & Tingleff 2004,
    algorithm 3.16 (μ).

    >>> import microgradopt as mg
    >>> w, x = mg.Tensor([1.0, -1.0], requires_grad=True), np.linspace(0, 1, 5)
    >>> y = 3 * np.exp(-2 * x)
    >>> optimizer = LevenbergMarquardt([w])
    >>> for _ in range(10):
    ...     loss = optimizer.step(lambda: w[0] * np.exp(w[1] * x) - y)
    >>> w.data.round(6)
    array([ 3., -2.])
    """

    keeps = squares = ("mu", "nu", "scale")
    numbers = ("mu", "nu")

    damping: float = positive(1e-3)

    def move(self, around: LocalLoss, state: State, group: Group) -> Array:
        """The formula above. One decomposition of J serves all dampings."""
        J = self.jacobian(around)
        longest = np.maximum(state.get("scale", 0.0), np.linalg.norm(J, axis=0))
        D = np.where(longest > 0, longest, 1)
        s, Vt, r = decomposed(J / D, around.output)

        def scaled_step(mu: float) -> Array:  # D p
            return -(Vt.T @ np.divide(s * r, s * s + mu, out=np.zeros_like(s), where=s > 0))

        mu, nu = state.get("mu", float(group["damping"])), state.get("nu", 2.0)
        while "mu" not in state and np.linalg.norm(scaled_step(mu)) > _FAR * np.linalg.norm(D * around.theta) > 0:
            mu *= 4
        state.update(mu=mu, nu=nu, scale=longest)
        for _ in range(_TRIES):
            q = scaled_step(mu)
            p = q / D
            predicted = float(mu * (q @ q) - p @ around.gradient) / 2
            if predicted <= 0:
                return around.stay("the model predicts no decrease")
            ratio = around.gain(around.theta + p, predicted)
            if ratio > 0:
                state.update(mu=mu * max(1 / 3, 1 - (2 * ratio - 1) ** 3), nu=2.0)
                return around.theta + p
            if predicted <= around.rounding:
                return around.stay("no decrease larger than rounding is left")
            mu, nu = mu * nu, 2 * nu
            state.update(mu=mu, nu=nu)
        return around.stay(f"no step lowers the loss, up to a damping of {mu:.1g}")
