"""Tensor: an array that remembers the NumPy call that made it.

The graph of a computation is nothing but its tensors. A result holds a record of the call:
the NumPy function, the arguments as they were given (tensors, arrays, numbers, lists of them), its keyword arguments,
and the plain values it was computed from. And it holds a number from one global clock, so that creation order is a
topological order: every input is older than what was made from it.

There are two ways in. Operators (``x * y``) come straight to `_binary`. NumPy's own functions (``np.tanh(x)``) come
through the dispatch protocols NEP 13 and NEP 18 to `dispatch`. Both end in `result`, the one place that records.
"""

from __future__ import annotations

import inspect
import itertools
import math
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import ref

import numpy as np
import numpy.typing as npt

from microgradopt import tree
from microgradopt.array_methods import ArrayMethods
from microgradopt.errors import ARRAYS, cut, explained
from microgradopt.mode import PLAIN, clock, current_mode
from microgradopt.rules.outputs import Outputs, astype, pick
from microgradopt.rules.registry import KNOWN, PLAIN_TYPES, Known, NotDifferentiableError, arrays, name_of, near
from microgradopt.rules.special import known_of_scipy
from microgradopt.rules.values import check_real, floats, peculiar, read_only

Array = npt.NDArray[Any]
ArrayLike = Any
Function = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]

_tick = clock.tick
_NO_KWARGS: Kwargs = {}


def _operators(function: np.ufunc, operate: Function) -> tuple[Function, Function]:
    """The methods for an operator with the tensor on its left and on its right.

    operate: Python's own operator where it equals the function, as it is quicker.
    """

    def method(self: Tensor, other: Any) -> Tensor:
        return _binary(function, operate, self, other)

    def swapped(self: Tensor, other: Any) -> Tensor:
        return _binary(function, operate, other, self)

    return method, swapped


def _comparison(function: np.ufunc, operate: Function) -> Callable[[Any, Any], Any]:
    """The method for a comparison: a plain array of booleans."""

    def method(self: Tensor, other: Any) -> Any:
        return _told(function, (self, other), _NO_KWARGS, operate(self.value, _value(other)))

    return method


def _reduction(function: Function) -> Callable[..., Tensor]:
    """The method for a reduction. The short way takes an axis and keepdims; all else goes through `dispatch`."""
    name = function.__name__

    def method(self: Tensor, axis: Any = None, *more: Any, keepdims: bool = False, **options: Any) -> Tensor:
        if more or options:
            options = {**options, "keepdims": True} if keepdims else options
            reduced: Tensor = dispatch(function, (self, axis, *more), options)
            return reduced
        value, options = self.value, {"axis": axis, "keepdims": keepdims}
        return result(function, (self,), options, (value,), getattr(value, name)(**options), self.needs_grad)

    return method


class Tensor(ArrayMethods):
    """An array of floats that remembers how it was computed, so that gradients can flow back through it.

    data: anything ``np.asarray`` takes. It is copied. Integers and booleans become float64; labels stay plain arrays.
    dtype: a floating dtype; by default that of `data` where it is floating, else float64.
    requires_grad: whether gradients with respect to this tensor are wanted.

    Attributes: `data` (the values, read-only; assigning writes them), `grad` (an array, or None before a backward
    pass), `requires_grad`, `shape`, `ndim`, `size`, `dtype`, `T`, `mT`.

    And its record, for all that reads the graph; it is not to be written to:
    value: the array itself; a NumPy scalar where the result of an operation is 0-d, which computes several times as
    quickly. order: the date of the value, from the clock: when it was made or, for a leaf, last written.
    function: what made it; None for a leaf. inputs, kwargs: the arguments of that call. values: those of `inputs`, as
    plain arrays. needs_grad: whether a gradient flows through it. sweeps: how many reverse sweeps, one inside the
    other, it was made in. graded: the date of the output whose backward pass left `grad`, and a weak reference to that
    array (a strong one would keep it after `zero_grad`); None if several passes did. cotangent_of: set only in the
    results of a recorded sweep: the date of the tensor that this is the derivative by.

    NumPy's functions work on tensors (``np.exp(x)``), and so do operators and ndarray's methods (``x.sum(axis=0)``).
    While operations are recorded, a tensor that requires a gradient does not become a plain number or array by itself
    (``float(x)``, ``np.asarray(x)``, ``a[i] = x``): that would cut the gradient silently. `item` and `data` do it.

    Raises TypeError for complex numbers, strings, objects and masked arrays.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4.])
    """

    __slots__ = (
        "__weakref__", "cotangent_of", "function", "grad", "graded", "inputs", "kwargs", "needs_grad", "order",
        "sweeps", "value", "values",
    )  # fmt: skip

    value: Any
    order: int
    function: Function | None
    inputs: Args
    kwargs: Kwargs
    values: Args
    needs_grad: bool
    sweeps: int
    grad: Array | None
    graded: tuple[int, ref[Array]] | None
    cotangent_of: int

    __pandas_priority__ = 5000  # above a DataFrame's: in `series * tensor` pandas leaves the answer to the tensor

    def __init__(self, data: ArrayLike, dtype: npt.DTypeLike | None = None, requires_grad: bool = False) -> None:
        array = floats(data.__array__() if type(data) is Tensor else data, dtype)
        self.value, self.order = _unwrapped(array), _tick()
        self.function, self.inputs, self.kwargs, self.values = None, (), _NO_KWARGS, ()
        self.needs_grad, self.sweeps = bool(requires_grad), 0
        self.grad = self.graded = None

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("Tensor is final: hold a Tensor in your class, or write a function of Tensors")

    # The value

    @property
    def data(self) -> Array:
        """The values, as a read-only view. Assign to write: ``w.data = w.data - lr * w.grad`` (leaves only; copied).

        A write is dated: a later backward pass through what was computed from the old values raises an error.
        """
        view: Array = read_only(self.value)
        return view

    @data.setter
    def data(self, values: ArrayLike) -> None:
        if self.function is not None:
            raise ValueError(f"data: only a leaf can be written, and this tensor is the result of {self.made_by()}")
        array = floats(values.__array__() if type(values) is Tensor else values, self.dtype, name="data")
        if array.shape != self.shape:
            raise ValueError(f"data: an array of shape {array.shape} cannot be written to a tensor of {self.shape}")
        self.write(array)

    def write(self, array: Array) -> None:
        """Give a leaf a new array, unchecked. The old one stays: what was computed from it keeps its values."""
        self.value = _unwrapped(array)
        self.order = clock.last_write = _tick()

    @property
    def requires_grad(self) -> bool:
        """Whether gradients with respect to this tensor are wanted, or flow through it. Settable on leaves."""
        return self.needs_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if self.function is not None:
            raise ValueError("requires_grad: only a leaf can be switched; .detach() gives a result without its graph")
        self.needs_grad = bool(wanted)

    def detach(self) -> Tensor:
        """The same values, outside of the graph: a constant."""
        return constant(self.value)

    def item(self) -> float:
        """The value of a one-element tensor, as a Python float."""
        if self.size != 1:
            raise ValueError(
                f"item: a tensor of shape {self.shape} is not of size 1; .data or .tolist() give all of it"
            )
        return float(self.value.item())

    def tolist(self) -> Any:
        """The values as nested lists of Python floats."""
        return self.value.tolist()

    def numpy(self) -> Array:
        """The values as an array of one's own. As ``np.asarray``, it refuses where a gradient would be cut off."""
        return self.__array__().copy()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self.needs_grad and current_mode.get().recording:
            raise cut("np.asarray")
        return np.array(self.data, dtype=dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.value.shape
        return shape

    @property
    def ndim(self) -> int:
        return int(self.value.ndim)

    @property
    def size(self) -> int:
        return int(self.value.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.value.dtype
        return dtype

    # The graph

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was given rather than computed. Leaves are where `backward` leaves gradients."""
        return self.function is None

    def made_by(self) -> str:
        """The name of the function that made this tensor."""
        return "nothing" if self.function is None else name_of(self.function)

    if TYPE_CHECKING:  # given by autodiff.py, the next chapter

        def backward(self, gradient: ArrayLike = None) -> None: ...

    # NumPy's dispatch protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        known = KNOWN.get(ufunc)
        if method == "__call__":
            if kwargs or known is None or not known.rules:
                return dispatch(ufunc, inputs, kwargs)
            return _unary(ufunc, *inputs) if len(inputs) == 1 else _binary(ufunc, ufunc, *inputs)
        if method == "at" and type(inputs[0]) is Tensor:
            raise TypeError(f"{ufunc.__name__}.at: a Tensor is not changed in place")
        if method == "outer":
            first, second = arrays(*inputs)
            return ufunc(first.reshape(first.shape + (1,) * second.ndim), second, **kwargs)
        if known is not None and known.is_question:
            return _answered(ufunc, getattr(ufunc, method), inputs, kwargs)
        function = _UFUNC_METHODS.get((ufunc, method))
        if function is None:
            return _values_only(getattr(ufunc, method), inputs, kwargs, f"{ufunc.__name__}.{method}")
        return dispatch(function, inputs, {"axis": 0, **kwargs})

    def __array_function__(self, function: Function, types: Any, args: Args, kwargs: Kwargs) -> Any:
        if Tensor not in types:  # inside a tuple only, which a composite takes apart itself
            return NotImplemented
        return dispatch(function, args, kwargs)

    # Operators

    __add__, __radd__ = _operators(np.add, operator.add)
    __sub__, __rsub__ = _operators(np.subtract, operator.sub)
    __mul__, __rmul__ = _operators(np.multiply, operator.mul)
    __truediv__, __rtruediv__ = _operators(np.divide, operator.truediv)
    __matmul__, __rmatmul__ = _operators(np.matmul, operator.matmul)
    __floordiv__, __rfloordiv__ = _operators(np.floor_divide, np.floor_divide)
    __mod__, __rmod__ = _operators(np.remainder, np.remainder)
    _power, __rpow__ = _operators(np.power, operator.pow)

    def __pow__(self, exponent: Any) -> Tensor:
        if type(exponent) in (int, float) and exponent in _POWERS:
            return _unary(_POWERS[exponent], self)
        return self._power(exponent)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __neg__(self) -> Tensor:
        return _unary(np.negative, self)

    def __pos__(self) -> Tensor:
        return _unary(np.positive, self)

    def __abs__(self) -> Tensor:
        return _unary(np.absolute, self)

    # Questions: answers from the values

    __lt__, __le__ = _comparison(np.less, operator.lt), _comparison(np.less_equal, operator.le)
    __gt__, __ge__ = _comparison(np.greater, operator.gt), _comparison(np.greater_equal, operator.ge)
    __eq__, __ne__ = _comparison(np.equal, operator.eq), _comparison(np.not_equal, operator.ne)
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(_told(bool, (self,), _NO_KWARGS, bool(self.value)))

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(self == value))

    def __float__(self) -> float:
        return self._number(float)

    def __int__(self) -> int:
        return self._number(int)

    def __complex__(self) -> complex:
        return self._number(complex)

    def _number(self, kind: Callable[[Any], Any]) -> Any:
        number = kind(self.value)
        if self.needs_grad and current_mode.get().recording:
            raise cut(f"{kind.__name__}()")
        return number

    def __len__(self) -> int:
        if type(self.value) is not Outputs and not self.value.ndim:
            raise TypeError("len() of a tensor of shape ()")
        return len(self.value)

    def __iter__(self) -> Iterator[Tensor]:
        if type(self.value) is Outputs:
            return (dispatch(pick, (self, i), {}) for i in range(len(self.value)))
        if self.ndim == 0:
            raise TypeError("iteration over a tensor of shape ()")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Tensor:
        values = (self.value, _value(index))
        return result(operator.getitem, (self, index), _NO_KWARGS, values, values[0][values[1]], self.needs_grad)

    def _method(self, function: Function, out: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Record an ndarray method that has been called: `out` is its value, `function` its NumPy equivalent."""
        return result(function, (self, *args), kwargs, (self.value, *args), out, self.needs_grad)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(
            "a Tensor is not changed in place: build a new one with np.where, np.concatenate or indexing; "
            "to write a leaf, assign to its .data"
        )

    def __repr__(self) -> str:
        values = np.array2string(np.asarray(self.value), separator=", ", prefix="Tensor(")
        made = "" if self.function is None else f", function={self.made_by()}"
        wanted = ", requires_grad=True" if self.needs_grad and not made else ""
        dtype = "" if self.dtype == np.float64 else f", dtype={self.dtype}"
        return f"Tensor({values}{dtype}{wanted}{made})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __reduce__(self) -> Any:
        if self.function is not None:
            raise TypeError("only leaves can be copied or pickled; .detach() gives a result without its graph")
        return Tensor, (np.asarray(self.value), None, self.needs_grad), (None, {"grad": self.grad})

    # The ndarray methods that are used most: the short way. All others are in ArrayMethods.

    @property
    def T(self) -> Tensor:
        return self._method(np.transpose, self.value.T)

    @property
    def mT(self) -> Tensor:
        return self._method(np.swapaxes, self.value.mT, -1, -2)

    def reshape(self, *shape: Any) -> Tensor:
        target = shape[0] if len(shape) == 1 else shape
        return self._method(np.reshape, self.value.reshape(target), target)

    sum, mean = _reduction(np.sum), _reduction(np.mean)
    max, min = _reduction(np.max), _reduction(np.min)

    def astype(self, dtype: npt.DTypeLike) -> Tensor:
        """The same values in another floating dtype; gradients come back in this tensor's own."""
        target = np.dtype(dtype)
        if target.kind != "f":
            raise TypeError(f"astype: a Tensor holds floats, not {target}; .data.astype({target}) gives an array")
        return self if target == self.dtype else dispatch(astype, (self, target), _NO_KWARGS)


# x ** 2 is a square, as it is for ndarray: quicker than a power, and exact.
_POWERS: dict[float, np.ufunc] = {2: np.square, 1: np.positive, 0.5: np.sqrt, -1: np.reciprocal}

# Functions that write into their first argument, a plain array.
WRITERS = {np.put, np.copyto, np.place, np.putmask, np.fill_diagonal, np.put_along_axis}

_UFUNC_METHODS: dict[tuple[np.ufunc, str], Function] = {
    (np.add, "reduce"): np.sum,
    (np.multiply, "reduce"): np.prod,
    (np.maximum, "reduce"): np.max,
    (np.minimum, "reduce"): np.min,
    (np.add, "accumulate"): np.cumsum,
    (np.multiply, "accumulate"): np.cumprod,
}


# Making results -------------------------------------------------------------------------------------------------------

_new = object.__new__


def result(function: Any, inputs: Args, kwargs: Kwargs, values: Args, out: Any, needs_grad: bool) -> Tensor:
    """The tensor for `out`, recorded if a gradient is to flow. Everything that is ever recorded is recorded here."""
    tensor = _new(Tensor)
    tensor.value = out
    tensor.order = _tick()
    tensor.grad = tensor.graded = None
    mode = current_mode.get()
    if needs_grad and (mode is PLAIN or mode.recording):
        tensor.needs_grad = True
        tensor.function = function
        tensor.inputs = inputs
        tensor.kwargs = kwargs
        tensor.values = values
    else:
        tensor.needs_grad = False
        tensor.function = None
        tensor.inputs = tensor.values = ()
        tensor.kwargs = _NO_KWARGS
    if mode is PLAIN:
        tensor.sweeps = 0
        return tensor
    tensor.sweeps = mode.sweeps
    for observer in mode.observers:
        observer.recorded(tensor, function, inputs, values)
    return tensor


def constant(value: Any) -> Tensor:
    """A tensor outside of every graph."""
    return result(None, (), _NO_KWARGS, (), value, False)


def _unary(function: np.ufunc, x: Tensor) -> Tensor:
    value = x.value
    return result(function, (x,), _NO_KWARGS, (value,), function(value), x.needs_grad)


def _binary(function: np.ufunc, operate: Function, x: Any, y: Any) -> Tensor:
    """The short way of operators: no protocol, no search. `operate` is `function`, or the operator that equals it."""
    needs_grad = False
    if type(x) is Tensor:
        left, needs_grad = x.value, x.needs_grad
    else:
        left = x = _operand(function, x, 0, y)
    if type(y) is Tensor:
        right, needs_grad = y.value, needs_grad or y.needs_grad
    elif type(y) is float:
        right = y
    else:
        right = y = _operand(function, y, 1, x)
    try:
        out = operate(left, right)
    except ValueError as error:
        raise explained(function, (left, right), error) from None
    return result(function, (x, y), _NO_KWARGS, (left, right), out, needs_grad)


def _operand(function: Function, x: Any, place: int, other: Tensor) -> Any:
    """A number or an array to compute with: Python's own floats and ints as they are, all else as NumPy sees it.

    Integers and booleans become the floats that NumPy would compute with, so that rules never overflow in an int8.
    """
    if type(x) is float or type(x) is int:
        return x
    if problem := peculiar(x):
        raise TypeError(f"{name_of(function)}: {problem}")
    array = x if isinstance(x, ARRAYS) else np.asarray(x)
    if array.dtype.kind == "f":
        return array
    check_real(name_of(function), array)
    if KNOWN[function].rules[place] is None:
        return array
    return array.astype(np.result_type(array.dtype, other.value.dtype))


def dispatch(function: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call a NumPy function on tensors: find what is known of it, compute its value, record it."""
    known = KNOWN.get(function) or known_of_scipy(function)
    if known is None:
        return _values_only(function, args, kwargs, name_of(function))
    if known.rules and not kwargs and len(args) <= known.arguments.positional:
        return _apply(function, known, args, _NO_KWARGS)
    if known.is_question or (function is np.full_like and _of_numbers((*args[1:], *kwargs.values()))):
        return _answered(function, function, args, kwargs)
    if not (current_mode.get().recording and _needs_grad((*args, *kwargs.values()))):
        return _values_only(function, args, kwargs, name_of(function))
    args, kwargs = _fitting(function, known, args, kwargs)
    return _apply(function, known, args, kwargs) if known.rules else known.body(*args, **kwargs)  # type: ignore[misc]


def _of_numbers(fill: Args) -> bool:
    """Whether there is no tensor in it: np.full_like then gives an array to be written to, as np.zeros_like does."""
    return not _needs_grad(fill) and next(tensors_in(fill), None) is None


def _answered(function: Function, call: Function, args: Args, kwargs: Kwargs) -> Any:
    """Answer a question from the values. call: what to call; `function`, or one of its methods."""
    return _told(function, args, kwargs, call(*_value(args, _read_only), **_value(kwargs, _read_only)))


def _told(function: Function, args: Args, kwargs: Kwargs, out: Any) -> Any:
    """`out`, the answer to a question. Observers are told of it if one of the arguments needs a gradient."""
    observers = current_mode.get().observers
    if observers and _needs_grad((*args, *kwargs.values())):
        for observer in observers:
            observer.asked(function, args, _value(args), _value(kwargs), out)
    return out


def _fitting(function: Function, known: Known, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    """The arguments as the rules or the body take them. NotDifferentiableError for those that they do not know."""
    names, positional = known.arguments
    if len(args) > positional:
        args, kwargs = _by_name(function, int(positional), args, kwargs)
    # What is left at NumPy's own default need not be known: dtype=None, out=None.
    kwargs = {k: v for k, v in kwargs.items() if v is not np._NoValue and (v is not None or k in names)}
    if "out" in kwargs:
        raise NotDifferentiableError(
            f"{name_of(function)}: an array cannot be changed in place to hold a result that needs a gradient "
            "(out=, or `array += tensor`); make a new one, `array = array + tensor`"
        )
    if _needs_grad(kwargs.values()):  # tensors given by keyword, np.sum(a=x), go to the position that their rule has
        free = names[len(args) : len(names) if positional == math.inf else int(positional)]
        leading = list(itertools.takewhile(kwargs.__contains__, free))
        args = (*args, *[kwargs.pop(name) for name in leading])
        if known.rules and (left := [name for name, x in kwargs.items() if _needs_grad((x,))]):
            raise NotDifferentiableError(f"{name_of(function)}: no gradient flows to {', '.join(left)}; .detach() it")
    if len(args) > positional or not kwargs.keys() <= set(names):
        unknown = ", ".join(sorted(kwargs.keys() - set(names))) or f"{len(args)} positional arguments"
        raise NotDifferentiableError(
            f"{name_of(function)}: a gradient can flow with the arguments {', '.join(names)}; not with {unknown}"
        )
    return args, kwargs


def _by_name(function: Function, positional: int, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    """Name the arguments after those that rules take by position as NumPy does: ddof in np.var(x, 0, None, None, 1)."""
    try:
        names = list(inspect.signature(function).parameters)
    except ValueError:  # some that are written in C do not say
        return args, kwargs
    if len(args) > len(names):
        return args, kwargs
    return args[:positional], {**dict(zip(names[positional:], args[positional:], strict=False)), **kwargs}


def _apply(function: Function, known: Known, args: Args, kwargs: Kwargs) -> Any:
    """One call of a function with rules of its own."""
    args, values, needs_grad = _arguments(function, known, args)
    # A composite's body would not show observers what it is part of.
    call = function if current_mode.get().observers else known.call
    try:
        out = call(*values, **kwargs)
    except (ValueError, TypeError) as error:
        raise explained(function, values, error) from None
    several = isinstance(out, tuple)
    if (out[0] if several else out).dtype.kind != "f" or (several and not needs_grad):
        if needs_grad and not several and current_mode.get().recording:  # several: of np.where(x), places
            raise NotDifferentiableError(f"{name_of(function)}: no gradient flows through a result of {out.dtype}")
        return _constants(out)
    if several:
        node = result(function, args, kwargs, values, Outputs(out), True)
        return tree.with_children(out, node)
    return result(function, args, kwargs, values, out, needs_grad)


def _arguments(function: Function, known: Known, args: Args) -> tuple[Args, Args, bool]:
    """The arguments as they are recorded, their values, and whether a gradient is to flow into any of them."""
    inputs, values = [], []
    needs_grad = False
    for x, rule in zip(args, known.rules):  # noqa: B905 (trailing arguments may be left out)
        if type(x) is Tensor:
            flows, value = x.needs_grad, x.value
        elif type(x) is np.ndarray:
            flows, value = False, x
        elif problem := peculiar(x):
            raise TypeError(f"{name_of(function)}: {problem}")
        else:
            flows = isinstance(x, _SEQUENCES) and _needs_grad(x)
            x = x if rule is None else _of_arrays(x, known.broadcasts)
            value = _value(x)
        if flows:
            if rule is None and current_mode.get().recording:
                raise NotDifferentiableError(f"{name_of(function)}: no gradient flows to this argument; .detach() it")
            needs_grad = True
        inputs.append(x)
        values.append(value)
    return tuple(inputs), tuple(values), needs_grad


def _of_arrays(x: Any, is_one: bool) -> Any:
    """An argument that is no tensor, as rules take it. is_one: a list stands for one array, not for several to join."""
    if isinstance(x, _SEQUENCES):
        return np.asarray(x) if is_one else [part if isinstance(part, ArrayMethods) else np.asarray(part) for part in x]
    return np.asarray(x) if not isinstance(x, ARRAYS) and _is_like_an_array(x) else x


def _is_like_an_array(x: Any) -> bool:
    """Whether x can be turned into an array, as a pandas DataFrame, and does not answer NumPy's dispatch itself."""
    return hasattr(x, "__array__") and not hasattr(x, "__array_function__")


def _values_only(function: Function, args: Args, kwargs: Kwargs, name: str) -> Any:
    """Call a function without using rules. Raises if an argument needs a gradient; gives floats as constant tensors."""
    if current_mode.get().recording and _needs_grad((*args, *kwargs.values())):
        if function in WRITERS:
            raise cut(name)
        raise NotDifferentiableError(
            f"{name}: no derivative rule, and a gradient would flow through it. {near(name)}mg.rules.supported() lists "
            f"the functions that have one; mg.rules.derivative adds one in a line; .detach() or .data take the values "
            "without the gradient"
        )
    out = kwargs.get("out")
    if any(type(x) is Tensor for x in (out if type(out) is tuple else (out,))):
        raise TypeError(f"{name}: a Tensor is not changed in place (out=)")
    values, options = _value(args, _read_only), _value(kwargs, _read_only)
    if all(map(operator.is_, (*values, *options.values()), (*args, *kwargs.values()))):
        raise TypeError(f"{name}: the tensors in its arguments are in no list or tuple; put them into one")
    answer = function(*values, **options)
    return _constants(answer) if out is None else answer


def _constants(out: Any) -> Any:
    if isinstance(out, ARRAYS) and out.dtype.kind == "f":
        return constant(out)
    return tree.with_children(out, map(_constants, out)) if isinstance(out, list | tuple) else out


def _unwrapped(array: Array) -> Any:
    """A 0-d array as the scalar it holds, which computes several times as quickly."""
    return array if array.ndim else array[()]


# Tensors among arguments ----------------------------------------------------------------------------------------------


# What may hold tensors: NumPy looks into these, subclasses (the results of np.linalg.eigh) included.
_SEQUENCES = (list, tuple, deque)

# How to read a tensor. Functions that might write to their arguments (np.copyto, out=) get read-only views.
_raw = operator.attrgetter("value")
_read_only = operator.attrgetter("data")


def _value(x: Any, read: Callable[[Tensor], Any] = _raw) -> Any:
    """x with the tensors in it replaced by their values, inside lists, tuples and dicts too."""
    if type(x) is Tensor:
        return read(x)
    if type(x) in PLAIN_TYPES:
        return x
    if isinstance(x, _SEQUENCES):
        parts = [_value(part, read) for part in x]
        return tuple(parts) if isinstance(x, tuple) else parts
    if type(x) is dict:
        return {key: _value(part, read) for key, part in x.items()}
    return x


def _needs_grad(args: Iterable[Any]) -> bool:
    """Whether a gradient flows into any of these, inside lists and tuples too."""
    for x in args:
        if type(x) is Tensor:
            if x.needs_grad:
                return True
        elif isinstance(x, _SEQUENCES) and _needs_grad(x):
            return True
    return False


def tensors_in(args: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among the inputs of a call, inside lists too."""
    for x in args:
        if type(x) is Tensor:
            yield x
        elif type(x) is list:
            yield from (part for part in x if type(part) is Tensor)


def plain(x: Any) -> Any:
    """The value of a tensor; all else as it is."""
    return x.value if type(x) is Tensor else x
