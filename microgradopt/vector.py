"""θ: the tensors of a model as one flat vector of Rⁿ. The one place where they are gathered, and scattered back."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.errors import ARRAYS
from microgradopt.mode import clock
from microgradopt.rules.values import check_real
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]


class ParameterVector:
    """Leaf tensors seen as one flat vector: in their order, each flattened row by row.

    parameters: leaves, each once. Raises TypeError for anything else, ValueError for none, repeats, or non-leaves.
    """

    caches = ("_theta", "_views")
    """Attributes that are derived from the tensors: a compiled function need not watch them."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        if isinstance(parameters, Tensor):
            raise TypeError("parameters: a list of tensors is wanted, not one tensor: put it in [brackets]")
        self.parameters = list(parameters)
        for i, parameter in enumerate(self.parameters):
            if not isinstance(parameter, Tensor):
                raise TypeError(
                    f"parameters: number {i} is a {type(parameter).__name__}, not a Tensor{way_in(parameter)}"
                )
            if not parameter.is_leaf:
                raise ValueError(f"parameters: number {i}, of shape {parameter.shape}, is a result, not a leaf")
        if not self.parameters:
            raise ValueError("parameters: there are none (an iterator that was already used up?)")
        if len(set(self.parameters)) < len(self.parameters):
            raise ValueError("parameters: one is listed twice")
        ends = list(itertools.accumulate(parameter.size for parameter in self.parameters))
        self.size = ends[-1]
        self._dtypes = {parameter.dtype for parameter in self.parameters}
        self._dtype = np.result_type(*self._dtypes)
        self.slices = [slice(i, j) for i, j in zip([0, *ends], ends, strict=False)]
        self._theta: Array | None = None
        self._views: list[Array] = []

    def theta(self) -> Array:
        """θ, gathered from the tensors as they are now. Not to be written to."""
        held = self._theta
        if held is None or any(p.value is not view for p, view in zip(self.parameters, self._views, strict=True)):
            held = self.join([parameter.value for parameter in self.parameters])
        return held

    def write(self, theta: Array) -> None:
        """Scatter θ: every tensor becomes a view of this very array, which then must not be changed any more."""
        self._views = [
            part if part.dtype is parameter.value.dtype else part.astype(parameter.dtype)
            for part, parameter in zip(self.split(theta), self.parameters, strict=True)
        ]
        for parameter, view in zip(self.parameters, self._views, strict=True):
            parameter.write(view)
        self._views = [parameter.value for parameter in self.parameters]
        # Where a part was rounded to its tensor's dtype, the array given is not θ: the next call of theta() gathers it.
        self._theta = theta if self._dtypes == {theta.dtype} else None

    def split(self, vector: Array) -> list[Array]:
        """A vector of Rⁿ as arrays of the parameters' shapes (views)."""
        return [
            vector[part].reshape(parameter.value.shape)
            for part, parameter in zip(self.slices, self.parameters, strict=True)
        ]

    def join(self, arrays: Sequence[Any]) -> Array:
        """Arrays of the parameters' shapes as one vector of Rⁿ (a copy). None stands for zeros."""
        parts = [
            np.zeros(parameter.size, parameter.dtype) if array is None else array.ravel()
            for array, parameter in zip(arrays, self.parameters, strict=True)
        ]
        return np.concatenate(parts)

    def gradient(self) -> Array:
        """The tensors' `.grad` as one vector of θ's dtype; zeros where there is none.

        Raises ValueError for a gradient whose shape is not its tensor's.
        """
        for i, parameter in enumerate(self.parameters):
            g = parameter.grad
            if g is not None and not (isinstance(g, ARRAYS) and g.shape == parameter.value.shape):
                found = f"is of shape {g.shape}" if isinstance(g, ARRAYS) else f"is a {type(g).__name__}"
                raise ValueError(f"grad: parameter {i} has shape {parameter.shape}, and its .grad {found}")
        joined = self.join([parameter.grad for parameter in self.parameters])
        if joined.dtype == self._dtype:
            return joined
        check_real("grad", joined)
        return joined.astype(self._dtype)

    @contextlib.contextmanager
    def moved_to(self, theta: Array) -> Iterator[None]:
        """Inside, the tensors have the values θ; afterwards their own again, as if they had never been written."""
        before = [(parameter, parameter.value, parameter.order) for parameter in self.parameters]
        held = self._theta, self._views
        try:
            self.write(theta)
            yield
        finally:
            for parameter, data, order in before:
                parameter.value, parameter.order = data, order
            self._theta, self._views = held
            clock.last_write = clock.tick()

    @contextlib.contextmanager
    def copied(self, theta: Array | None = None) -> Iterator[None]:
        """Inside, the tensors hold θ, by default as now, and may be trained; afterwards `.grad` too is what it was."""
        gradients = [parameter.grad for parameter in self.parameters]
        try:
            with self.moved_to(self.theta().copy() if theta is None else theta):
                yield
        finally:
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient


def way_in(x: Any) -> str:
    """The door for what another framework has made."""
    frameworks = {cls.__module__.partition(".")[0].removesuffix("lib") for cls in type(x).__mro__}
    ways = {"torch": "mg.bridges.torch.objective(model, loss)", "jax": "mg.bridges.jax.objective(f, params)"}
    return "".join(f"; it is of {name}: {way}" for name, way in ways.items() if name in frameworks)
