"""ndarray's methods: each is the NumPy function of its name, and comes back through NumPy's dispatch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy

if TYPE_CHECKING:
    from microgradopt.tensor import Tensor

np: Any = numpy  # whose type stubs do not know that it gives tensors back for tensors


def _method(function: Any) -> Callable[..., Tensor]:
    """The method that a NumPy function is: it takes the same arguments, in the same order."""

    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__doc__ = f"As ``np.{function.__name__}`` of this array."
    return method


class ArrayMethods:
    """What an array can be asked to do. To be inherited by whatever speaks NumPy's dispatch protocols."""

    __slots__ = ()

    # The most used, which Tensor and Tracer have in their own way

    sum: Any = _method(np.sum)
    mean: Any = _method(np.mean)
    max: Any = _method(np.max)
    min: Any = _method(np.min)

    @property
    def T(self: Any) -> Any:
        return np.transpose(self)

    @property
    def mT(self: Any) -> Any:
        return np.swapaxes(self, -1, -2)

    # Shapes

    swapaxes = _method(np.swapaxes)
    squeeze = _method(np.squeeze)
    repeat = _method(np.repeat)
    diagonal = _method(np.diagonal)

    def ravel(self: Any, order: Any = "C") -> Tensor:
        return np.ravel(self) if order == "C" else np.ravel(self, order)

    flatten = ravel

    def transpose(self: Any, *axes: Any) -> Tensor:
        return np.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def copy(self: Any, order: Any = "C") -> Tensor:
        return np.copy(self)  # the order is one of memory, which no gradient depends on

    # Selection

    take = _method(np.take)

    def compress(self: Any, condition: Any, axis: int | None = None) -> Tensor:
        return np.compress(condition, self, axis)

    # Arithmetic

    prod = _method(np.prod)
    var = _method(np.var)
    std = _method(np.std)
    cumsum = _method(np.cumsum)
    cumprod = _method(np.cumprod)
    trace = _method(np.trace)
    dot = _method(np.dot)
    round = _method(np.round)

    def clip(self: Any, min: Any = None, max: Any = None) -> Tensor:
        return np.clip(self, min, max)

    # Real numbers are their own real part and conjugate

    @property
    def real(self: Any) -> Tensor:
        return np.real(self)

    @property
    def imag(self: Any) -> Tensor:
        return np.imag(self)

    def conj(self: Any) -> Tensor:
        return np.conjugate(self)

    conjugate = conj

    # Questions: the answer is no tensor

    argmax: Any = _method(np.argmax)
    argmin: Any = _method(np.argmin)
    argsort: Any = _method(np.argsort)
    nonzero: Any = _method(np.nonzero)
    any: Any = _method(np.any)
    all: Any = _method(np.all)
