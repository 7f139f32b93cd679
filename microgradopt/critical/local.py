"""A point in units of its own: the Hessian equilibrated, and the noise of all that is decided there.

Parameters have units: a slope may be 1e-9 where an offset is 1e6. With D H D in place of H, for a diagonal D that gives
every row the size 1, nothing depends on them, and the signs of the eigenvalues are the same (Sylvester's law).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.critical.noise import first_order, measured
from microgradopt.curvature.solvers import norm, power_of_two, scale_of
from microgradopt.errors import NonFiniteError
from microgradopt.objective import Objective

Array = npt.NDArray[Any]

_RESTS = 3.0  # a gradient below so many times its noise is zero
_ROUNDING = 10.0  # the eigenvalues of an n × n matrix of size 1 are known to so many n ε
_SWEEPS = 40
_NEWTON = 8


@dataclass(frozen=True)
class Local:
    """θ, and the loss near it in coordinates y = θ/d.

    scale: the loss is divided by it, so that the largest element of H is about 1. value, value_noise: of the loss.
    hessian: H, (n, n). units: d, (n,), powers of two. A: D H D. values, vectors: its eigenvalues, ascending, and
    eigenvectors. tolerance: an eigenvalue nearer to 0 is zero. gradient: D ∇L. noise: (runs, n), how it differs from
    run to run.
    """

    objective: Objective
    theta: Array
    scale: float
    value: float
    value_noise: float
    hessian: Array
    units: Array
    A: Array
    values: Array
    vectors: Array
    tolerance: float
    gradient: Array
    noise: Array

    @property
    def eps(self) -> float:
        """The unit of rounding of θ."""
        return float(np.finfo(self.theta.dtype).eps)

    @property
    def y(self) -> Array:
        """θ in these units."""
        return self.theta / self.units

    @property
    def size(self) -> float:
        """‖y‖."""
        return float(np.linalg.norm(self.y))

    def long(self, way: Array) -> float:
        """What is a long way in a direction: ‖y‖; at the origin, not more than 1 for θ."""
        return self.size or min(1.0, 1.0 / float(np.linalg.norm(self.units * way)))

    @property
    def curved(self) -> Array:
        """Which eigenvalues are not zero: (n,), booleans."""
        return np.abs(self.values) > self.tolerance

    @property
    def across(self) -> Array:
        """The directions with curvature: (n, k)."""
        return self.vectors[:, self.curved]

    @property
    def flat(self) -> Array:
        """The directions without: (n, n − k)."""
        return self.vectors[:, ~self.curved]

    def rests(self) -> bool:
        """Whether the gradient is zero: across, and along the flat directions, each against its own noise."""
        return self.rests_along(self.across) and self.rests_along(self.flat)

    def rests_along(self, V: Array) -> bool:
        """Whether Vᵀg is zero, but for its noise."""
        leak = _ROUNDING * len(self.theta) * self.eps * norm(self.gradient)  # as V itself is rounded
        return is_noise(V.T @ self.gradient, self.noise @ V, leak)

    def newton(self) -> Array:
        """−A⁺ D∇L: Newton's step across, in these units."""
        V = self.across
        return -V @ ((V.T @ self.gradient) / self.values[self.curved])

    def at_step(self, step: Array) -> Array:
        """θ + D step."""
        return (self.theta + self.units * step).astype(self.theta.dtype)

    def moved(self, step: Array, rng: np.random.Generator) -> Local | None:
        """The same at θ + D step; None where the loss cannot be computed."""
        return self.at(self.at_step(step), rng)

    def at(self, theta: Array, rng: np.random.Generator) -> Local | None:
        """The same units and Hessian, with loss and gradient of another θ; None where they cannot be computed."""
        try:
            m = first_order(self.objective, theta, rng).over(self.scale)
        except (NonFiniteError, FloatingPointError, np.linalg.LinAlgError):
            return None
        return replace(
            self, theta=theta, value=m.value, value_noise=m.value_noise,
            gradient=self.units * m.gradient, noise=self.units * m.gradients,
        )  # fmt: skip

    def turned(self) -> Local:
        """The same units, with the Hessian of where it is, and as many flat directions: those of least curvature."""
        H = self.objective.hessian(self.theta).astype(float) / self.scale
        A = self.units[:, None] * ((H + H.T) / 2) * self.units
        values, vectors = np.linalg.eigh(A)
        flattest = np.argsort(np.abs(values))[: self.flat.shape[1]]
        values[flattest] = 0.0
        return replace(self, A=A, values=values, vectors=vectors)


def is_noise(part: Array, noise: Array, leak: float) -> bool:
    """Whether a part of the gradient is no larger than its noise, (runs, n), and a leak of others into it."""
    return norm(part) <= _RESTS * max(map(norm, noise)) + leak


def local(objective: Objective, theta: Array, rng: np.random.Generator) -> Local:
    """The loss near θ, in units of its own. Raises NonFiniteError where it is not finite."""
    m = measured(objective, theta, rng)
    if not (np.isfinite(m.value) and np.isfinite(m.gradient).all() and np.isfinite(m.hessian).all()):
        raise NonFiniteError(
            f"classify: the loss is {m.value}, the gradient norm {np.linalg.norm(m.gradient)}, and of the Hessian "
            f"{np.count_nonzero(~np.isfinite(m.hessian))} elements are not finite; mg.detect_anomaly() finds where"
        )
    scale = scale_of(m.hessian)
    m = m.over(scale)
    H = (m.hessian + m.hessian.T) / 2
    different = [m.hessian - m.hessian.T, *np.nan_to_num(m.hessians, nan=np.inf)]
    d = units_of(np.abs(H), np.max(np.abs(different), axis=0), theta)
    A = d[:, None] * H * d
    values, vectors = np.linalg.eigh(A)
    largest = float(np.abs(values).max(initial=0.0))
    noise = max(float(np.linalg.norm(d[:, None] * each * d)) for each in different)
    rounding = _ROUNDING * len(d) * float(np.finfo(theta.dtype).eps) * largest
    return Local(
        objective, theta, scale, m.value, m.value_noise, H, d, A, values, vectors, noise + rounding,
        d * m.gradient, d * m.gradients,
    )  # fmt: skip


def units_of(H: Array, noise: Array, theta: Array) -> Array:
    """d, so that the largest element of every row of D |H| D is about 1.

    Rows and columns are divided by the square roots of their largest elements, again and again (Ruiz 2001). Powers of
    two, so that D H D is not rounded. A row that is zero within its noise tells no unit: that of θ itself, or 1, is
    taken to be as long a way as ‖y‖ is for the others.
    """
    H = np.where(noise >= H, 0.0, H)
    is_zero = ~H.any(axis=1)
    exponents = np.where(H > 0, np.log2(np.where(H > 0, H, 1.0)), -np.inf)  # which neither overflow nor vanish
    d = np.zeros(len(H))
    for _ in range(_SWEEPS):
        rows = np.max(exponents + d[:, None] + d, axis=1, initial=-np.inf)
        rows = np.where(np.isfinite(rows), rows, 0.0)
        if np.abs(rows).max(initial=0.0) < 1:
            break
        d -= rows / 2
    d = np.exp2(np.round(d))
    size = float(np.linalg.norm(theta[~is_zero] / d[~is_zero])) or 1.0
    d[is_zero] = [power_of_two(max(abs(float(x)), 1.0) / size) for x in theta[is_zero]]
    return d


def settled(here: Local, rng: np.random.Generator) -> Local | None:
    """The critical point that Newton's steps lead to; None where they lead to none.

    Each step has to bring the gradient down, by half at least, and the last one to its own noise: at the end, or, as
    near 0 that is smaller with every step, where the step began.
    """
    for _ in range(_NEWTON):
        if here.rests():
            return here
        theta = here.at_step(here.newton())
        if np.array_equal(theta, here.theta) or not np.isfinite(theta).all():
            return None
        try:
            there = local(here.objective, theta, rng)
        except (NonFiniteError, np.linalg.LinAlgError):
            return None
        left = there.gradient / there.units * (there.scale / here.scale) * here.units
        if replace(here, gradient=left).rests():
            return there
        if norm(left) > norm(here.gradient) / 2 and not there.rests():
            return None
        here = there
    return here if here.rests() else None
