"""ndarray's methods, for Tensor: each is the NumPy function of its name, and comes back through NumPy's dispatch.

Those that training uses most (``x.sum()``, ``x.T``, ``x.reshape``) have a shorter way, in tensor.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

if TYPE_CHECKING:
    from microgradopt.tensor import Tensor

np: Any = numpy  # whose type stubs do not know that it gives tensors back for tensors


class ArrayMethods:
    """What an array can be asked to do. To be inherited by whatever speaks NumPy's dispatch protocols."""

    __slots__ = ()

    # Shapes

    def ravel(self: Any, order: Any = "C") -> Tensor:
        return np.ravel(self) if order == "C" else np.ravel(self, order)

    def flatten(self: Any) -> Tensor:
        return np.ravel(self)

    def transpose(self: Any, *axes: Any) -> Tensor:
        return np.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def swapaxes(self: Any, axis1: int, axis2: int) -> Tensor:
        return np.swapaxes(self, axis1, axis2)

    def squeeze(self: Any, axis: Any = None) -> Tensor:
        return np.squeeze(self, axis)

    def repeat(self: Any, repeats: Any, axis: int | None = None) -> Tensor:
        return np.repeat(self, repeats, axis)

    def diagonal(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return np.diagonal(self, offset, axis1, axis2)

    def copy(self: Any) -> Tensor:
        return np.copy(self)

    # Selection

    def take(self: Any, indices: Any, axis: int | None = None) -> Tensor:
        return np.take(self, indices, axis)

    def compress(self: Any, condition: Any, axis: int | None = None) -> Tensor:
        return np.compress(condition, self, axis)

    # Arithmetic

    def prod(self: Any, axis: Any = None, dtype: Any = None, out: None = None, **more: Any) -> Tensor:
        return np.prod(self, axis=axis, dtype=dtype, out=out, **more)

    def var(self: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0, **more: Any) -> Tensor:
        return np.var(self, axis=axis, dtype=dtype, out=out, ddof=ddof, **more)

    def std(self: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0, **more: Any) -> Tensor:
        return np.std(self, axis=axis, dtype=dtype, out=out, ddof=ddof, **more)

    def cumsum(self: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
        return np.cumsum(self, axis) if dtype is None else np.cumsum(self, axis, dtype)

    def cumprod(self: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
        return np.cumprod(self, axis) if dtype is None else np.cumprod(self, axis, dtype)

    def trace(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return np.trace(self, offset, axis1, axis2)

    def dot(self: Any, b: Any) -> Tensor:
        return np.dot(self, b)

    def clip(self: Any, min: Any = None, max: Any = None) -> Tensor:
        return np.clip(self, min, max)

    def round(self: Any, decimals: int = 0) -> Tensor:
        return np.round(self, decimals)

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

    # Questions

    def argmax(self: Any, axis: int | None = None, keepdims: bool = False) -> Any:
        return np.argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self: Any, axis: int | None = None, keepdims: bool = False) -> Any:
        return np.argmin(self, axis=axis, keepdims=keepdims)

    def argsort(self: Any, axis: int | None = -1, stable: bool | None = None) -> Any:
        return np.argsort(self, axis=axis, stable=stable)

    def nonzero(self: Any) -> Any:
        return np.nonzero(self)

    def any(self: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return np.any(self, axis=axis, keepdims=keepdims)

    def all(self: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return np.all(self, axis=axis, keepdims=keepdims)
