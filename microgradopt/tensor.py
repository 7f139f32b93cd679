"""Tensor: an array that remembers the NumPy call that made it.

The graph of a computation is nothing but its tensors. A result holds a record of the call:
the NumPy function, the arguments as they were given (tensors, arrays, numbers, lists of them), its keyword arguments,
and the plain values it was computed from. And it holds a number from one global clock, so that creation order is a
topological order: every input is older than what was made from it.

There are two ways in. Operators (``x * y``) come straight to `_binary`. NumPy's own functions (``np.tanh(x)``) come
through the dispatch protocols NEP 13 and NEP 18 to `dispatch`. Both end in `_result`, the one place that records.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from microgradopt.array_methods import ArrayMethods
from microgradopt.errors import ARRAYS, check_finite, explained
from microgradopt.mode import PLAIN, clock, current_mode
from microgradopt.rules.outputs import Outputs, astype, pick
from microgradopt.rules.registry import (
    ARGUMENTS,
    BODIES,
    COMPOSED,
    DERIVATIVES,
    NONDIFFERENTIABLE,
    NotDifferentiableError,
    name_of,
)

Array = npt.NDArray[Any]
ArrayLike = Any

_tick = clock.tick
_NO_KWARGS: dict[str, Any] = {}


class Tensor(ArrayMethods):
    """An array of floats that remembers how it was computed, so that gradients can flow back through it.

    data: anything ``np.asarray`` takes. It is copied. Integers and booleans become float64; labels stay plain arrays.
    dtype: a floating dtype; by default that of `data` where it is floating, else float64.
    requires_grad: whether gradients with respect to this tensor are wanted.

    Attributes: `data` (the values, read-only; assigning writes them), `grad` (an array, or None before a backward
    pass), `requires_grad`, `shape`, `ndim`, `size`, `dtype`, `T`, `mT`; and the graph: `function`, `inputs`, `kwargs`.

    NumPy's functions work on tensors (``np.exp(x)``), and so do operators and ndarray's methods (``x.sum(axis=0)``).

    Raises TypeError for complex numbers, strings and objects.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4.])
    """

    __slots__ = (
        "__weakref__", "_data", "_function", "_inputs", "_kwargs", "_order", "_requires_grad", "_sweeps", "_values",
        "grad",
    )  # fmt: skip

    _data: Any  # an ndarray; a NumPy scalar where the result of an operation is 0-d (much quicker than a 0-d array)
    _order: int  # the date from the clock: when the value was made, or, for a leaf, last written
    _function: Callable[..., Any] | None  # the record; a leaf has no function, and the rest of it is not set
    _inputs: tuple[Any, ...]
    _kwargs: dict[str, Any]
    _values: tuple[Any, ...]
    _requires_grad: bool
    _sweeps: int  # inside of how many sweeps it was made; not set outside of any
    grad: Array | None

    def __init__(self, data: ArrayLike, dtype: npt.DTypeLike | None = None, requires_grad: bool = False) -> None:
        self._data = _unwrapped(_floating("Tensor", data, dtype))
        self._order = _tick()
        self._function = None
        self._requires_grad = bool(requires_grad)
        self.grad = None

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("Tensor is final: hold a Tensor in your class, or write a function of Tensors")

    # The value

    @property
    def data(self) -> Array:
        """The values, as a read-only view. Assign to write: ``w.data = w.data - lr * w.grad`` (leaves only; copied).

        A write is dated: a later backward pass through what was computed from the old values raises an error.
        """
        if isinstance(self._data, ArrayMethods):  # while a program is traced: cannot be written to anyway
            return self._data  # type: ignore[return-value]
        view = np.asarray(self._data).view()
        view.flags.writeable = False
        return view

    @data.setter
    def data(self, values: ArrayLike) -> None:
        if self._function is not None:
            raise ValueError(f"data: only a leaf can be written, and this tensor is the result of {self._made_by()}")
        array = _floating("data", values, self.dtype)
        if array.shape != self.shape:
            raise ValueError(f"data: an array of shape {array.shape} cannot be written to a tensor of {self.shape}")
        self._write(array)

    def _write(self, array: Array) -> None:
        """Give a leaf a new array. The old one is not touched: what was computed from it keeps its values."""
        self._data = _unwrapped(array)
        self._order = clock.last_write = _tick()

    @property
    def requires_grad(self) -> bool:
        """Whether gradients with respect to this tensor are wanted, or flow through it. Settable on leaves."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if self._function is not None:
            raise ValueError("requires_grad: only a leaf can be switched; .detach() gives a result without its graph")
        self._requires_grad = bool(wanted)

    def detach(self) -> Tensor:
        """The same values, outside of the graph: a constant."""
        return _result(None, (), _NO_KWARGS, (), self._data, False)

    def item(self) -> float:
        """The value of a one-element tensor, as a Python float."""
        return float(self._data.item())

    def tolist(self) -> Any:
        """The values as nested lists of Python floats."""
        return self._data.tolist()

    def numpy(self) -> Array:
        """The values as an array of one's own. As ``np.asarray``, it refuses where a gradient would be cut off."""
        return self.__array__().copy()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self._requires_grad:
            raise TypeError(
                "np.asarray of a tensor that requires a gradient would cut the graph: use .detach() for a constant "
                "tensor, .data for the values"
            )
        return np.array(self.data, dtype=dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self._data.shape
        return shape

    @property
    def ndim(self) -> int:
        return int(self._data.ndim)

    @property
    def size(self) -> int:
        return int(self._data.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self._data.dtype
        return dtype

    # The graph

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was given rather than computed. Leaves are where `backward` leaves gradients."""
        return self._function is None

    @property
    def function(self) -> Callable[..., Any] | None:
        """The function that made this tensor; None for a leaf."""
        return self._function

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The arguments it was made from, in order."""
        return () if self._function is None else self._inputs

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments of that call."""
        return {} if self._function is None else dict(self._kwargs)

    def _made_by(self) -> str:
        return "nothing" if self._function is None else name_of(self._function)

    if TYPE_CHECKING:  # given by autodiff.py, the next chapter

        def backward(self, gradient: ArrayLike = None) -> None: ...

    # NumPy's dispatch protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__":
            if kwargs or ufunc not in DERIVATIVES:
                return dispatch(ufunc, inputs, kwargs)
            return _unary(ufunc, *inputs) if len(inputs) == 1 else _binary(ufunc, ufunc, *inputs)
        if method == "at" and type(inputs[0]) is Tensor:
            raise TypeError(f"{ufunc.__name__}.at: a Tensor is not changed in place")
        if ufunc in NONDIFFERENTIABLE and method != "outer":
            return getattr(ufunc, method)(*_value(inputs, _read_only), **_value(kwargs, _read_only))
        if method == "outer":
            first, second = (np.asarray(x) if not hasattr(x, "ndim") else x for x in inputs)
            return ufunc(first.reshape(first.shape + (1,) * second.ndim), second, **kwargs)
        function = _UFUNC_METHODS.get((ufunc, method))
        if function is None:
            return _values_only(getattr(ufunc, method), inputs, kwargs, f"{ufunc.__name__}.{method}")
        return dispatch(function, inputs, {"axis": 0, **kwargs})

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if Tensor not in types:  # inside a tuple only, which a composite takes apart itself
            return NotImplemented
        return dispatch(function, args, kwargs)

    # Operators

    def __add__(self, other: Any) -> Tensor:
        return _binary(np.add, operator.add, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _binary(np.add, operator.add, other, self)

    def __sub__(self, other: Any) -> Tensor:
        return _binary(np.subtract, operator.sub, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _binary(np.subtract, operator.sub, other, self)

    def __mul__(self, other: Any) -> Tensor:
        return _binary(np.multiply, operator.mul, self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _binary(np.multiply, operator.mul, other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return _binary(np.divide, operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _binary(np.divide, operator.truediv, other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return _binary(np.floor_divide, np.floor_divide, self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return _binary(np.floor_divide, np.floor_divide, other, self)

    def __mod__(self, other: Any) -> Tensor:
        return _binary(np.remainder, np.remainder, self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return _binary(np.remainder, np.remainder, other, self)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __pow__(self, exponent: Any) -> Tensor:
        if type(exponent) in (int, float) and exponent in _POWERS:
            return _unary(_POWERS[exponent], self)
        return _binary(np.power, np.power, self, exponent)

    def __rpow__(self, base: Any) -> Tensor:
        return _binary(np.power, np.power, base, self)

    def __matmul__(self, other: Any) -> Tensor:
        return _binary(np.matmul, operator.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _binary(np.matmul, operator.matmul, other, self)

    def __neg__(self) -> Tensor:
        return _unary(np.negative, self)

    def __pos__(self) -> Tensor:
        return _unary(np.positive, self)

    def __abs__(self) -> Tensor:
        return _unary(np.absolute, self)

    def __lt__(self, other: Any) -> Any:
        return self._data < _value(other)

    def __le__(self, other: Any) -> Any:
        return self._data <= _value(other)

    def __gt__(self, other: Any) -> Any:
        return self._data > _value(other)

    def __ge__(self, other: Any) -> Any:
        return self._data >= _value(other)

    def __eq__(self, other: Any) -> Any:
        return self._data == _value(other)

    def __ne__(self, other: Any) -> Any:
        return self._data != _value(other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def __int__(self) -> int:
        return int(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(self._data == _value(value)))

    def __iter__(self) -> Iterator[Tensor]:
        if type(self._data) is Outputs:
            return (dispatch(pick, (self, i), {}) for i in range(len(self._data)))
        if self.ndim == 0:
            raise TypeError("iteration over a tensor of shape ()")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Tensor:
        values = (self._data, _value(index))
        return _result(operator.getitem, (self, index), _NO_KWARGS, values, values[0][values[1]], self._requires_grad)

    def _method(self, function: Callable[..., Any], out: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The short way of ndarray's methods: `out` is what the method gave, `function` the NumPy function it is."""
        return _result(function, (self, *args), kwargs, (self._data, *args), out, self._requires_grad)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(
            "a Tensor is not changed in place: build a new one with np.where, np.concatenate or indexing; "
            "to write a leaf, assign to its .data"
        )

    def __repr__(self) -> str:
        values = np.array2string(np.asarray(self._data), separator=", ", prefix="Tensor(")
        made = "" if self._function is None else f", function={self._made_by()}"
        wanted = ", requires_grad=True" if self._requires_grad and not made else ""
        dtype = "" if self.dtype == np.float64 else f", dtype={self.dtype}"
        return f"Tensor({values}{dtype}{wanted}{made})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __reduce__(self) -> Any:
        if self._function is not None:
            raise TypeError("only leaves can be copied or pickled; .detach() gives a result without its graph")
        return Tensor, (np.asarray(self._data), None, self._requires_grad), (None, {"grad": self.grad})

    # The ndarray methods that are used most: the short way. All others are in ArrayMethods.

    @property
    def T(self) -> Tensor:
        return self._method(np.transpose, self._data.T)

    @property
    def mT(self) -> Tensor:
        return self._method(np.swapaxes, self._data.mT, -1, -2)

    def reshape(self, *shape: Any) -> Tensor:
        target = shape[0] if len(shape) == 1 else shape
        return self._method(np.reshape, self._data.reshape(target), target)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        out = self._data.sum(axis=axis, keepdims=keepdims)
        return self._method(np.sum, out, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        out = self._data.mean(axis=axis, keepdims=keepdims)
        return self._method(np.mean, out, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        out = self._data.max(axis=axis, keepdims=keepdims)
        return self._method(np.max, out, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        out = self._data.min(axis=axis, keepdims=keepdims)
        return self._method(np.min, out, axis=axis, keepdims=keepdims)

    def astype(self, dtype: npt.DTypeLike) -> Tensor:
        """The same values in another floating dtype; gradients come back in this tensor's own."""
        target = np.dtype(dtype)
        if target.kind != "f":
            raise TypeError(f"astype: a Tensor holds floats, not {target}; .data.astype({target}) gives an array")
        return self if target == self.dtype else dispatch(astype, (self, target), _NO_KWARGS)


# x ** 2 is a square, as it is for ndarray: quicker than a power, and exact.
_POWERS: dict[float, np.ufunc] = {2: np.square, 1: np.positive, 0.5: np.sqrt, -1: np.reciprocal}

_UFUNC_METHODS: dict[tuple[np.ufunc, str], Callable[..., Any]] = {
    (np.add, "reduce"): np.sum,
    (np.multiply, "reduce"): np.prod,
    (np.maximum, "reduce"): np.max,
    (np.minimum, "reduce"): np.min,
    (np.add, "accumulate"): np.cumsum,
    (np.multiply, "accumulate"): np.cumprod,
}


# Making results -------------------------------------------------------------------------------------------------------

_new = object.__new__


def _result(
    function: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any], values: tuple[Any, ...], out: Any, requires: bool
) -> Tensor:
    """The tensor for `out`, recorded if a gradient is to flow. Everything that is ever recorded is recorded here."""
    result = _new(Tensor)
    result._data = out
    result._order = _tick()
    result.grad = None
    mode = current_mode.get()
    if requires and (mode is PLAIN or mode.recording):
        result._requires_grad = True
        result._function = function
        result._inputs = inputs
        result._kwargs = kwargs
        result._values = values
    else:
        result._requires_grad = False
        result._function = None
    if mode is not PLAIN:
        if mode.sweeps:
            result._sweeps = mode.sweeps
        if mode.tape is not None:
            mode.tape.made_by(function, out)
            mode.tape.check_inputs(inputs)
        if mode.checking:
            check_finite(out, function, values, "value")
    return result


def _unary(function: np.ufunc, x: Tensor) -> Tensor:
    value = x._data
    return _result(function, (x,), _NO_KWARGS, (value,), function(value), x._requires_grad)


def _binary(function: np.ufunc, operate: Callable[[Any, Any], Any], x: Any, y: Any) -> Tensor:
    """The short way of operators: no protocol, no search. `operate` is `function`, or the operator that equals it."""
    requires = False
    if type(x) is Tensor:
        left, requires = x._data, x._requires_grad
    else:
        left = x = _operand(function, x, 0, y)
    if type(y) is Tensor:
        right, requires = y._data, requires or y._requires_grad
    elif type(y) is float:
        right = y
    else:
        right = y = _operand(function, y, 1, x)
    try:
        out = operate(left, right)
    except ValueError as error:
        raise explained(function, (left, right), error) from None
    return _result(function, (x, y), _NO_KWARGS, (left, right), out, requires)


def _operand(function: Callable[..., Any], x: Any, place: int, other: Tensor) -> Any:
    """A number or an array to compute with: Python's own floats and ints as they are, all else as NumPy sees it.

    Integers and booleans become the floats that NumPy would compute with, so that rules never overflow in an int8.
    """
    if type(x) is float or type(x) is int:
        return x
    array = x if isinstance(x, ARRAYS) else np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name_of(function)}: real numbers are wanted, not {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "f" or DERIVATIVES[function].rules[place] is None:
        return array
    return array.astype(np.result_type(array.dtype, other._data.dtype))


def dispatch(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a NumPy function on tensors: find what is known of it, compute its value, record it."""
    if not kwargs and function in DERIVATIVES and len(args) <= ARGUMENTS[function].positional:
        return _apply(function, args, _NO_KWARGS)
    if function in NONDIFFERENTIABLE:
        return function(*_value(args, _read_only), **_value(kwargs, _read_only))
    known = ARGUMENTS.get(function)
    if known is None or not (current_mode.get().recording and (_requires(args) or _requires(kwargs.values()))):
        return _values_only(function, args, kwargs, name_of(function))
    # What is left at NumPy's own default need not be known: dtype=None, out=None.
    kwargs = {k: v for k, v in kwargs.items() if v is not np._NoValue and (v is not None or k in known.names)}
    if "out" in kwargs:
        raise NotDifferentiableError(
            f"{name_of(function)}: an array cannot be changed in place to hold a result that needs a gradient "
            "(out=, or `array += tensor`); make a new one, `array = array + tensor`"
        )
    args, kwargs = _positional(function, args, kwargs)
    if len(args) > known.positional or not kwargs.keys() <= set(known.names):
        unknown = ", ".join(sorted(kwargs.keys() - set(known.names))) or f"{len(args)} positional arguments"
        raise NotDifferentiableError(
            f"{name_of(function)}: a gradient can flow with the arguments {', '.join(known.names)}; not with {unknown}"
        )
    if function in COMPOSED:
        return COMPOSED[function](*args, **kwargs)
    return _apply(function, args, kwargs)


def _apply(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of a function with rules of its own."""
    args, values, requires = _arguments(function, args)
    # On arrays a composite is its body; while a program is traced it finds its own way to it.
    call = BODIES.get(function, function) if current_mode.get().tape is None else function
    try:
        out = call(*values, **kwargs)
    except ValueError as error:
        raise explained(function, values, error) from None
    several = isinstance(out, tuple)
    if (out[0] if several else out).dtype.kind != "f" or (several and not requires):
        return _constants(out)
    if several:
        node = _result(function, args, kwargs, values, Outputs(out), True)
        return type(out)(*node) if hasattr(out, "_fields") else tuple(node)
    return _result(function, args, kwargs, values, out, requires)


def _arguments(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...], bool]:
    """The arguments as they are recorded, their values, and whether a gradient is to flow into any of them."""
    rules, broadcasts = DERIVATIVES[function]
    inputs, values = [], []
    requires = False
    for x, rule in zip(args, rules, strict=False):
        if type(x) is Tensor:
            flows = x._requires_grad
        elif type(x) is list or type(x) is tuple:
            flows = _requires(x)
            if rule is not None:  # several arrays to join; or, where arguments broadcast, one array spelled as a list
                x = np.asarray(x) if broadcasts else [part if type(part) is Tensor else np.asarray(part) for part in x]
        else:
            flows = False
        if flows and rule is None and current_mode.get().recording:
            raise NotDifferentiableError(f"{name_of(function)}: no gradient flows to this argument; .detach() it")
        requires = requires or flows
        inputs.append(x)
        values.append(_value(x))
    return tuple(inputs), tuple(values), requires


def _values_only(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    """No gradient is to flow: NumPy's answer, its floats as constant tensors. An error if one would have to flow."""
    if current_mode.get().recording and (_requires(args) or _requires(kwargs.values())):
        raise NotDifferentiableError(
            f"{name}: no derivative rule, and a gradient would flow through it. mg.rules.supported() lists the "
            "functions that have one; .detach() or .data take the values without the gradient"
        )
    out = kwargs.get("out")
    if any(type(x) is Tensor for x in (out if type(out) is tuple else (out,))):
        raise TypeError(f"{name}: a Tensor is not changed in place (out=)")
    answer = function(*_value(args, _read_only), **_value(kwargs, _read_only))
    return _constants(answer) if out is None else answer


def _constants(out: Any) -> Any:
    if isinstance(out, ARRAYS) and out.dtype.kind == "f":
        return _result(None, (), _NO_KWARGS, (), out, False)
    if isinstance(out, list | tuple):
        parts = [_constants(part) for part in out]
        return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)
    return out


def _unwrapped(array: Array) -> Any:
    """A 0-d array as the scalar it holds, which computes several times as quickly."""
    return array if array.ndim else array[()]


# Small things ---------------------------------------------------------------------------------------------------------


# How to read a tensor. Functions that might write to their arguments (np.copyto, out=) get read-only views.
_raw = operator.attrgetter("_data")
_read_only = operator.attrgetter("data")


def _value(x: Any, read: Callable[[Tensor], Any] = _raw) -> Any:
    """x with the tensors in it replaced by their values, inside lists, tuples and dicts too."""
    kind = type(x)
    if kind is Tensor:
        return read(x)
    if kind is tuple or kind is list:
        return kind([_value(part, read) for part in x])
    if kind is dict:
        return {key: _value(part, read) for key, part in x.items()}
    return x


def _requires(args: Any) -> bool:
    """Whether a gradient flows into any of these, inside lists and tuples too."""
    for x in args:
        if type(x) is Tensor:
            if x._requires_grad:
                return True
        elif type(x) in (list, tuple) and _requires(x):
            return True
    return False


def _positional(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Tensors given by keyword, np.sum(a=x), moved to the position that their rule has."""
    if not _requires(kwargs.values()):
        return args, kwargs
    moved = dict(kwargs)
    known = ARGUMENTS[function]
    names = known.names[len(args) : len(known.names) if known.positional == math.inf else int(known.positional)]
    leading = itertools.takewhile(moved.__contains__, names)
    return (*args, *[moved.pop(name) for name in leading]), moved


def _floating(name: str, data: ArrayLike, dtype: npt.DTypeLike | None) -> Array:
    """A copy of data, as an array of floats."""
    array: Any = data
    if type(data) is Tensor or not isinstance(data, ArrayMethods):  # what is traced is not written to: no copy
        array = np.array(data, order="C")  # of a tensor that requires a gradient: refused, see __array__
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: real numbers are wanted, not {array.dtype} of shape {array.shape}")
    target = np.dtype(dtype) if dtype is not None else array.dtype if array.dtype.kind == "f" else np.dtype(float)
    if target.kind != "f":
        raise TypeError(f"{name}: a Tensor holds floats, not {target}; keep integers (labels) in a plain array")
    return array if array.dtype == target else array.astype(target)
