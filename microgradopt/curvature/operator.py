"""The Hessian as an operator: H v for any v, without forming H."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.autodiff import RecordedGradient
from microgradopt.objective import Objective, check_depends, check_objective
from microgradopt.rules.stack import Stack
from microgradopt.tensor import Tensor
from microgradopt.vector import ParameterVector

Array = npt.NDArray[Any]


class HessianOperator:
    """H(θ) of an objective, as what it does to vectors: H v = ∇(∇L(θ)ᵀ v) (Pearlmutter 1994).

    objective: an `Objective`. theta: where, of shape (n,); by default the objective's own θ.

    compile: what makes functions quick, ``mg.compile``: for many products with one Hessian. None: as it is.

    The loss and its gradient are computed once, and recorded; every product is one sweep of that record, and costs
    about as much as a gradient. `H @ v` for v of shape (n,), `H @ V` for V of shape (n, k), many columns at once.

    Attributes: `shape` (n, n), `dtype`, `value` L(θ), `gradient` ∇L(θ), `products`, how many have been computed.
    `matvec`, `matmat` and their transposes (H is symmetric) are there so that ``scipy.sparse.linalg`` takes it for a
    LinearOperator: ``scipy.sparse.linalg.eigsh(aslinearoperator(H), 1)``.

    Raises TypeError for anything but an Objective; RuntimeError where the loss depends on none of the parameters;
    OverwrittenError when used after the objective's own θ, at which it was recorded, has been written to.

    >>> H = HessianOperator(Objective(lambda w: w[0] ** 2 - 3 * w[1] ** 2, [1.0, 1.0]))
    >>> H @ np.array([1.0, 1.0])
    array([ 2., -6.])
    """

    def __init__(
        self,
        objective: Objective,
        theta: npt.ArrayLike | None = None,
        compile: Callable[[Any], Any] | None = None,
    ) -> None:
        check_objective("HessianOperator", objective)
        with objective.at(theta) as loss:
            self._record(loss, objective.vector)
        if compile is not None:
            self._column, self._block = compile(self._column), compile(self._block)  # type: ignore[method-assign]

    @classmethod
    def of(cls, loss: Tensor, vector: ParameterVector) -> HessianOperator:
        """The Hessian of a loss that has been computed already, by the parameters gathered in `vector`."""
        operator = cls.__new__(cls)
        operator._record(loss, vector)
        return operator

    def _record(self, loss: Tensor, vector: ParameterVector) -> None:
        theta = vector.theta()
        self.shape, self.dtype = (vector.size, vector.size), theta.dtype
        self.value = loss.item()
        self.products = 0
        self._vector = vector
        check_depends(loss, vector.parameters)
        self._recorded = RecordedGradient(loss, vector.parameters)
        self.gradient = vector.join([None if g is None else g.value for g in self._recorded.gradients])

    def __matmul__(self, v: npt.ArrayLike) -> Array:
        v = np.asarray(v, self.dtype)
        if v.ndim not in (1, 2) or v.shape[0] != self.shape[0]:
            raise ValueError(f"HessianOperator: H of shape {self.shape} times an array of shape {v.shape}")
        self.products += 1 if v.ndim == 1 else v.shape[1]
        if v.ndim == 1:
            return self._column(v)
        step = self._recorded.at_once
        blocks = [self._block(v[:, i : i + step].T) for i in range(0, v.shape[1], step)]
        return np.concatenate([np.zeros((v.shape[0], 0), self.dtype), *blocks], axis=1)

    def _column(self, v: Array) -> Array:
        """H times one vector."""
        return self._vector.join(self._recorded.product(self._vector.split(v)))

    def _block(self, rows: Array) -> Array:
        """H times k vectors at once. rows: (k, n), the vectors. Gives (n, k)."""
        k, parameters = len(rows), self._vector.parameters
        parts = [
            Stack(rows[:, part].reshape(k, *parameter.shape))
            for part, parameter in zip(self._vector.slices, parameters, strict=True)
        ]
        swept = self._recorded.product(parts)
        stacks = [part.data if type(part) is Stack else np.zeros((k, *part.shape), part.dtype) for part in swept]
        return np.concatenate([stack.reshape(k, -1) for stack in stacks], axis=1).T

    def dense(self) -> Array:
        """H, (n, n), as the engine computes it: how far from symmetric it is, tells how much rounding there is."""
        self.products += self.shape[0]
        return self._recorded.hessian()

    matvec = matmat = rmatvec = rmatmat = __matmul__

    def __repr__(self) -> str:
        return f"HessianOperator(n = {self.shape[0]:,}, {self.dtype}, L = {self.value:.6g}, {self.products} products)"
