"""Stack: many arrays of one shape, computed with at once.

A rule is plain NumPy code, so it runs on whatever speaks NumPy. A Stack does: it holds k arrays of one shape along a
hidden first axis, and answers every question as each of the k would. A sweep whose cotangents are stacks gives k
gradients (rows of a Jacobian, columns of a Hessian) for the dispatch of one. Parameters that are stacks give k losses,
and a program that is called on stacks is k trainings at once. JAX calls this vmap.

Most functions need only know where the hidden axis is; `stacked` below says so in their records. A function without
such an entry is called on each of the k arrays: slower, with the same result.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from microgradopt import tree
from microgradopt.array_methods import ArrayMethods
from microgradopt.rules.indexing import scatter
from microgradopt.rules.reductions import checked_axes
from microgradopt.rules.registry import KNOWN, Known

Array = Any
Function = Callable[..., Any]


def _reduction(function: Function) -> Function:
    """The method for a reduction. The short way takes an axis and keepdims; all else goes through NumPy's dispatch."""
    name = function.__name__

    def method(self: Stack, axis: Any = None, *more: Any, keepdims: bool = False, **options: Any) -> Any:
        if more or options:
            return function(self, axis, *more, keepdims=keepdims, **options)
        return Stack(getattr(self.data, name)(axis=_hidden_first(self, axis), keepdims=keepdims))

    return method


class Stack(ArrayMethods, NDArrayOperatorsMixin):
    """k arrays of one shape. data: (k, *shape). `shape`, `ndim` and `size` are those of each.

    Axes, indices and shapes, in all that is asked of it, are those of each array too.
    """

    __slots__ = ("data",)

    def __init__(self, data: Array) -> None:
        self.data = data

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.data.shape[1:]
        return shape

    @property
    def ndim(self) -> int:
        return int(self.data.ndim) - 1

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        target = shape[0] if len(shape) == 1 else shape
        if order != "C":
            return _each(np.reshape, self, target, order=order)
        return Stack(self.data.reshape((len(self.data), *np.atleast_1d(target).tolist())))

    sum, mean = _reduction(np.sum), _reduction(np.mean)
    max, min = _reduction(np.max), _reduction(np.min)

    def astype(self, dtype: Any) -> Stack:
        return Stack(self.data.astype(dtype))

    def view(self, dtype: Any) -> Stack:
        return Stack(self.data.view(dtype))

    def __pow__(self, other: Any) -> Any:
        """With a number not np.power: NumPy computes x**2 as a square."""
        if type(other) in (int, float) or (type(other) is not Stack and np.ndim(other) == 0):
            return Stack(self.data**other)
        return np.power(self, other)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Stack:
        return selected(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        places, shape = _places(self, index)
        self.data[places] = _grown(value, len(shape)) if type(value) is Stack else value

    def __bool__(self) -> NoReturn:
        raise TypeError("bool() of a Stack: each of its arrays may have another answer")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a Stack is many arrays, not one")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(_holds_stacks(type(x)) for x in inputs):
            return NotImplemented
        if method == "__call__" and not kwargs and ufunc is np.matmul:
            return Stack(_matmul(*inputs))
        if "out" in kwargs:  # x += y
            (target,) = kwargs.pop("out")
            target[...] = getattr(ufunc, method)(*inputs, **kwargs)
            return target
        is_elementwise = method == "__call__" and ufunc.signature is None and ufunc.nout == 1
        if is_elementwise and Stack not in map(type, kwargs.values()):
            return Stack(ufunc(*_aligned(inputs), **kwargs))
        if method == "at":
            target, index, value = inputs
            places, shape = _places(target, index)
            return ufunc.at(target.data, places, _grown(value, len(shape)) if type(value) is Stack else value)
        return _each(ufunc if method == "__call__" else getattr(ufunc, method), *inputs, **kwargs)

    def __array_function__(self, function: Function, types: Any, args: Any, kwargs: Any) -> Any:
        if any(map(_holds_stacks, types)):
            return NotImplemented
        known = KNOWN.get(function, Known(function))
        together = known.stacked or (known.call if known.call is not function else None)
        if together is None or Stack in map(type, kwargs.values()):
            return _each(function, *args, **kwargs)
        try:
            return together(*args, **kwargs)
        except TypeError:  # an argument that it does not take, or the body of a composite that writes into an array
            return _each(function, *args, **kwargs)


def _holds_stacks(kind: type) -> bool:
    """Whether this is Tensor: a tensor's value may be a stack, and a stack holds no tensors."""
    return hasattr(kind, "requires_grad")


def _each(function: Function, *args: Any, **kwargs: Any) -> Any:
    """The function called on the first of every stack, the second of every stack, and so on."""
    first = next((leaf for leaf in tree.leaves((args, kwargs)) if type(leaf) is Stack), None)
    if first is None:
        raise TypeError(f"{function.__name__}: no way to tell it of a Stack")
    results = []
    for i in range(len(first.data)):
        own, told = tree.mapped(functools.partial(_nth, i), (args, kwargs))
        results.append(function(*own, **told))
    if isinstance(results[0], list | tuple):
        return tree.with_children(results[0], [Stack(np.stack(parts)) for parts in zip(*results, strict=True)])
    if results[0] is None:
        raise TypeError(f"{function.__name__} writes into an array, which a Stack is not")
    return Stack(np.stack(results))


def _nth(i: int, x: Any) -> Any:
    return x.data[i] if type(x) is Stack else x


# Where the hidden axis is ---------------------------------------------------------------------------------------------


def _hidden_first(x: Stack, axis: Any) -> tuple[int, ...]:
    """Axes of each array as axes of the whole."""
    return tuple(range(1, x.ndim + 1)) if axis is None else tuple(i + 1 for i in checked_axes(x.ndim, axis))


def _aligned(operands: Any) -> list[Any]:
    """Operands of an elementwise function, such that NumPy's broadcasting leaves the hidden axis in front."""
    ndim = max(np.ndim(x) if type(x) is not Stack else x.ndim for x in operands)
    return [_grown(x, ndim) if type(x) is Stack else x for x in operands]


def _grown(x: Stack, ndim: int) -> Array:
    """The data of x with axes of length 1 behind the hidden one, until each has `ndim` axes."""
    return x.data if x.ndim >= ndim else x.data.reshape((len(x.data), *(1,) * (ndim - x.ndim), *x.shape))


def _matmul(x: Any, y: Any) -> Array:
    # One large product, unless the stack would have to be copied for it: that costs more than many small products.
    if type(x) is Stack and x.ndim == 2 and type(y) is not Stack and y.ndim == 2 and x.data.flags.c_contiguous:
        k, rows, inner = x.data.shape
        return (x.data.reshape(k * rows, inner) @ y).reshape(k, rows, y.shape[1])
    row, column = x.ndim == 1, y.ndim == 1
    left, right = x[None, :] if row else x, y[:, None] if column else y
    out = np.matmul(*_aligned([left, right]))
    out = out[..., 0, :] if row else out
    return out[..., 0] if column else out


def selected(x: Any, index: Any) -> Any:
    """x[index], where x or parts of the index are stacks."""
    parts = _as_tuple(index)
    if not any(type(part) is Stack for part in parts):
        return Stack(x.data[(slice(None), *parts)]) if _keeps_places(parts) else _each(operator.getitem, x, parts)
    if not all(map(_is_advanced, parts)):
        return _each(operator.getitem, x, parts)
    if type(x) is Stack:
        return Stack(x.data[_places(x, index)[0]])
    return Stack(x[tuple(_aligned(parts))])


def _places(x: Stack, index: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """The index into the data of all that stands for `index` into each array, and the shape of what each has there.

    Raises TypeError for slices beside stacks of indices: no single index stands for these.
    """
    parts = _as_tuple(index)
    anywhere = tuple(np.zeros(part.shape, int) if _is_advanced(part) else part for part in parts)
    shape = np.broadcast_to(0, x.shape)[anywhere].shape
    if not any(type(part) is Stack for part in parts) and _keeps_places(parts):
        return (slice(None), *parts), shape
    if not all(map(_is_advanced, parts)):
        raise TypeError("a stack of indices goes with no slices")
    aligned = _aligned(parts)
    ndim = max(part.ndim for part in aligned)
    return (np.arange(len(x.data)).reshape(-1, *(1,) * (ndim - 1)), *aligned), shape


def _as_tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _is_advanced(part: Any) -> bool:
    """Whether a part of an index is an array of places."""
    return type(part) is Stack or (hasattr(part, "dtype") and part.dtype.kind in "iu")


def _keeps_places(index: tuple[Any, ...]) -> bool:
    """Whether a slice put in front leaves the result's axes in order: unless arrays stand apart in the index."""
    advanced = [i for i, part in enumerate(index) if isinstance(part, list | int) or hasattr(part, "dtype")]
    basic = all(isinstance(index[i], int | np.integer) for i in advanced)
    return basic or advanced == list(range(advanced[0], advanced[-1] + 1))


# What functions do to stacks ------------------------------------------------------------------------------------------


def stacked(function: Function) -> Callable[[Any], Any]:
    """Decorator: the body is what `function` does to a Stack."""

    def register(body: Any) -> Any:
        KNOWN[function].stacked = body
        return body

    return register


def _reduced(function: Function) -> Function:
    return lambda a, axis=None, **kwargs: Stack(function(a.data, axis=_hidden_first(a, axis), **kwargs))


def _of_one_axis(function: Function) -> Function:
    """For functions that take all elements in a row where no axis is told."""

    def of_stack(a: Stack, axis: int | None = None, **kwargs: Any) -> Stack:
        if axis is None and not kwargs:
            a, axis = a.reshape(-1), 0
        if axis is None or not a.ndim:
            raise TypeError("each array by itself")
        return Stack(function(a.data, axis=_hidden_first(a, axis)[0], **kwargs))

    return of_stack


stacked(np.shape)(lambda a: a.shape)
stacked(np.ndim)(lambda a: a.ndim)
stacked(np.size)(lambda a, axis=None: a.size if axis is None else a.shape[axis])
_function: Function
for _function in (np.sum, np.mean, np.prod, np.max, np.min, np.all, np.any, np.var, np.std):
    stacked(_function)(_reduced(_function))
for _function in (np.cumsum, np.argmax, np.argmin):
    stacked(_function)(_of_one_axis(_function))
stacked(np.reshape)(lambda a, shape: a.reshape(shape))
stacked(np.ravel)(lambda a: a.reshape(-1))
stacked(np.copy)(lambda a: Stack(a.data.copy()))
stacked(np.swapaxes)(
    lambda a, axis1, axis2: Stack(np.swapaxes(a.data, *_hidden_first(a, axis1), *_hidden_first(a, axis2)))
)
stacked(np.flip)(lambda a, axis=None: Stack(np.flip(a.data, _hidden_first(a, axis))))
stacked(np.where)(lambda *args: Stack(np.where(*_aligned(args))))
stacked(np.clip)(lambda *args: Stack(np.clip(*_aligned(args))))
stacked(np.expand_dims)(lambda a, axis: a.reshape(np.expand_dims(np.broadcast_to(0, a.shape), axis).shape))


for _function in (np.vdot, np.matrix_transpose, np.stack):  # whose bodies call what has been told
    stacked(_function)(KNOWN[_function].body)


@stacked(np.concatenate)
def _concatenate(parts: Any, axis: int = 0, **kwargs: Any) -> Stack:  # where axis is None, a TypeError
    k = next(len(part.data) for part in parts if type(part) is Stack)
    whole = [
        part.data if type(part) is Stack else np.broadcast_to(part, (k, *np.shape(part)))  # the same for each
        for part in parts
    ]
    return Stack(np.concatenate(whole, axis=axis % (whole[0].ndim - 1) + 1, **kwargs))


@stacked(np.zeros_like)
def _zeros_like(a: Stack, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None) -> Stack:
    shape = a.shape if shape is None else shape
    return Stack(np.zeros_like(a.data, dtype=dtype, order=order, shape=(len(a.data), *shape)))


@stacked(np.transpose)
def _transpose(a: Stack, axes: Any = None) -> Stack:
    order = range(a.ndim - 1, -1, -1) if axes is None else axes
    return Stack(np.transpose(a.data, (0, *_hidden_first(a, tuple(order)))))


@stacked(np.broadcast_to)
def _broadcast_to(a: Stack, shape: Any) -> Stack:
    shape = tuple(np.atleast_1d(shape).tolist())
    return Stack(np.broadcast_to(_grown(a, len(shape)), (len(a.data), *shape)))


@stacked(scatter)
def _scatter(g: Any, index: Any, shape: tuple[int, ...]) -> Stack:
    parts = _as_tuple(index)
    if any(type(part) is Stack for part in parts) or not _keeps_places(parts):
        return _each(scatter, g, parts, shape)
    data: Array = scatter(g.data, (slice(None), *parts), (len(g.data), *shape))
    return Stack(data)
