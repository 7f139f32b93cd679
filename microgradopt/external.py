"""A loss that is computed elsewhere, as one operation of our own graph.

Whoever has a loss in PyTorch, JAX or plain NumPy has two functions: θ ↦ (L, ∇L), and perhaps (θ, v) ↦ H v. With the
rules below they are nodes like all others: reverse mode asks for ∇L, reverse mode over reverse mode for H v, and all
that is built on an objective works. A third derivative has no rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.rules.registry import NotDifferentiableError, composite
from microgradopt.rules.stack import Stack, stacked

Array = npt.NDArray[Any]

_ALIKE = 3.0  # decades
_DIFFERENCE = 0.2  # ε to this power is the step: rounding ε/h and what is left out, h⁴, are then alike


class ExternalLoss:
    """L of a vector θ, as other code computes it.

    value_and_gradient: takes θ (n,), gives L and ∇L (n,). hvp: takes θ and v (n,), gives H(θ) v; None: differences of
    gradients, see `product`. smooth: whether L is known to be smooth; it cannot be seen here.

    dtype: float32 if θ or the gradient is; all decisions then assume that precision. has_products: whether there is
    an `hvp`.
    """

    def __init__(
        self,
        value_and_gradient: Callable[[Array], tuple[Any, Any]],
        theta: Array,
        hvp: Callable[[Array, Array], Any] | None,
        smooth: bool,
    ) -> None:
        for name, function in (("value_and_gradient", value_and_gradient), ("hvp", hvp)):
            if not (callable(function) or (name == "hvp" and function is None)):
                raise TypeError(f"Objective.external: {name} is a function, not {function!r:.60}")
        if theta.ndim != 1 or not theta.size:
            raise ValueError(f"Objective.external: theta is a vector of shape (n,), not {theta.shape}")
        self._value_and_gradient, self._hvp, self.smooth, self.shape = value_and_gradient, hvp, smooth, theta.shape
        self.has_products = hvp is not None
        self.dtype: np.dtype[Any] = np.dtype(np.float32)  # until the first call has told
        self._ahead: tuple[Array, Array] | None = None  # a gradient that came with a value, and where
        single = theta.dtype, self.both(theta.copy())[1].dtype
        self.dtype = np.dtype(np.float32 if np.float32 in single or np.float16 in single else np.float64)

    def both(self, theta: Array) -> tuple[Any, Array]:
        """L and ∇L."""
        answer = self._value_and_gradient(theta.copy())
        if not (isinstance(answer, tuple | list) and len(answer) == 2):
            raise TypeError(f"Objective.external: value_and_gradient gives a pair (L, ∇L), not {answer!r:.60}")
        value = np.asarray(answer[0])
        if value.size != 1 or value.dtype.kind not in "fiu":
            raise ValueError(
                f"Objective.external: L is to be a real number, not {value.dtype} of shape {value.shape}; reduce it"
            )
        return value.reshape(()), self._vector("the gradient", answer[1])

    def value(self, theta: Array) -> Array:
        """L(θ). The gradient that came with it is kept for the next question."""
        value, gradient = self.both(theta)
        self._ahead = theta.copy(), gradient
        return value.astype(self.dtype)

    def gradient(self, theta: Array) -> Array:
        """∇L(θ). One that came with a value is given once: an answer that is not the same each time has to show."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and np.array_equal(ahead[0], theta):
            return ahead[1].astype(self.dtype)
        return self.both(theta)[1].astype(self.dtype)

    def product(self, theta: Array, v: Array, stretch: float = 1.0) -> Array:
        """H(θ) v. Without `hvp`: (8 (g(h) − g(−h)) − (g(2h) − g(−2h))) / 12h, with g(t) = ∇L(θ + t v).

        The error is h⁴/30 times the fifth derivative of L, and rounding ε ‖g‖/h. h moves no parameter by more than
        ε^⅕ of its size, or of 1, whichever agrees better with twice that step: a parameter that is nearly 0 tells no
        size. stretch: times h; two of them tell how large the error is.
        """
        if self._hvp is not None:
            return self._vector("H v", self._hvp(theta.copy(), v.copy())).astype(self.dtype)
        return self.difference(theta, v, stretch).astype(self.dtype)

    def difference(self, theta: Array, v: Array, stretch: float = 1.0) -> Array:
        """H(θ) v by differences of gradients, in double precision; parameters of like sizes together."""
        size = np.abs(theta).astype(float)
        tiny = np.where(size > 0, size, 1.0)
        scales = np.where(v == 0, np.nan, np.round(np.log10(np.abs(v / tiny) + np.finfo(float).tiny) / _ALIKE))
        total = np.zeros(v.shape)
        for scale in np.unique(scales[v != 0]):
            part = np.where(scales == scale, v, 0.0)
            found = []
            for longest in {float(np.max(np.abs(part) / s)) for s in (tiny, np.maximum(size, 1.0))}:
                h = stretch * float(np.finfo(self.dtype).eps) ** _DIFFERENCE / longest
                once, twice = self._central(theta, part, h), self._central(theta, part, 2 * h)
                found.append((float(np.linalg.norm(once - twice)) if once.any() else np.inf, once))
            total += min(found, key=lambda each: each[0])[1]
        return total

    def _central(self, theta: Array, v: Array, h: float) -> Array:
        near, far = (self.both(theta + t * v)[1].astype(float) - self.both(theta - t * v)[1] for t in (h, 2 * h))
        return (8 * near - far) / (12 * h)

    def products(self, theta: Array, V: Array, stretch: float = 1.0) -> Array:
        """H(θ) V, (n, k), column by column."""
        columns = [self.product(theta, v, stretch) for v in V.T.astype(self.dtype)]
        return np.stack(columns, axis=1) if columns else V

    def _vector(self, name: str, answer: Any) -> Array:
        vector = np.array(answer)  # a copy: some functions give the same buffer each time
        if vector.shape != self.shape or vector.dtype.kind not in "fiu":
            raise ValueError(
                f"Objective.external: {name} is to be of shape {self.shape} as θ is, real; it is {vector.dtype} of "
                f"shape {vector.shape}"
            )
        return vector


def _by_x(g: Any, out: Any, x: Any, v: Any, loss: ExternalLoss) -> Any:
    raise NotDifferentiableError("external loss: there are products H v, and no third derivatives")


def _by_v(g: Any, out: Any, x: Any, v: Any, loss: ExternalLoss) -> Any:
    return _product(x, g, loss)  # H is symmetric


@composite(_by_x, _by_v, smooth=True)
def _product(x: Array, v: Array, loss: ExternalLoss) -> Array:
    """H(x) v, linear in v."""
    return loss.product(x, v)


stacked(_product)(lambda x, v, loss: Stack(np.stack([_product(x, each, loss) for each in v.data])))


@composite(lambda g, out, x, loss: _product(x, g, loss), smooth=True)
def _gradient(x: Array, loss: ExternalLoss) -> Array:
    """∇L(x)."""
    return loss.gradient(x)


@composite(lambda g, out, x, loss: g * _gradient(x, loss), smooth=True)
def external_loss(x: Any, loss: ExternalLoss) -> Any:
    """L(x)."""
    return loss.value(x)
