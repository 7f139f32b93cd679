"""Tracer: a value that remembers every NumPy call it takes part in.

A rule is plain NumPy code, so it runs on whatever speaks NumPy; and so do the bodies of composites, the sweep, the
optimizers. On Tracers all of them compute what they always compute, and on the way write down each call: what results
is the plain NumPy program that was executed, with nothing of the engine left in it.

A Tracer knows its value, so shapes and dtypes are there to be asked for. What must not happen is that the value decides
which way Python code goes: the program would then be right for that one value only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from microgradopt import tree
from microgradopt.array_methods import ArrayMethods
from microgradopt.graph.graph import UFUNCS, Node
from microgradopt.rules.outputs import astype, view
from microgradopt.rules.registry import KNOWN, Known, is_composite, name_of
from microgradopt.rules.stack import Stack
from microgradopt.rules.values import expect, floats, read_only
from microgradopt.tensor import WRITERS, Tensor

if TYPE_CHECKING:
    from microgradopt.program.tape import Tape


class TracingError(TypeError):
    """While a program was being traced, something was asked of a value that a program cannot give."""


class UnknownAttributeError(TracingError, AttributeError):
    """A traced value was asked for what it does not have."""


class StaleProgramError(RuntimeError):
    """A compiled program gave something else than the function that it stands for."""


# Functions whose results have a shape that depends on values.
_SHAPED_BY_VALUES = {
    np.nonzero, np.flatnonzero, np.argwhere, np.compress, np.extract, np.trim_zeros, np.bincount, np.unique,
    np.unique_all, np.unique_counts, np.unique_inverse, np.unique_values, np.union1d, np.intersect1d, np.setdiff1d,
    np.setxor1d,
}  # fmt: skip

NUMPY = (np.ndarray, np.generic)


def concrete(x: Any) -> Any:
    """Arguments with values in place of Tracers."""
    return tree.mapped(_value, x)


def _value(x: Any) -> Any:
    return x.value if type(x) is Tracer else x


def _has_integers(x: Any) -> bool:
    """Whether a length, a count or a place may be among arguments, as a traced value."""
    return any(type(part) is Tracer and part.dtype.kind in "iu" for part in tree.leaves(x))


def _of_tensor(x: Any) -> bool:
    return type(x) is Tracer and x.node.of_tensor


def _shape_error(what: str) -> TracingError:
    return TracingError(
        f"{what}: the shape of the result depends on a tensor's values, and a program is the same for all of them. "
        "np.where(condition, x, 0) keeps the shape"
    )


def _operator(operate: Callable[..., Any], swapped: bool = False) -> Callable[..., Any]:
    """The method of Tracer for an operator."""

    def method(self: Tracer, *others: Any) -> Any:
        if any(_leads(other) for other in others):
            return NotImplemented
        args = (*others, self) if swapped else (self, *others)
        of_numpy = any(isinstance(x, NUMPY) for x in concrete(args))
        return self.tape.call(UFUNCS.get(operate, operate) if of_numpy else operate, args, {})

    return method


def _in_place(operate: Callable[..., Any]) -> Callable[..., Any]:
    """The method for ``x *= y``: from now on x is the result, in x's own dtype."""
    itself = getattr(operator, f"i{operate.__name__.strip('_')}")

    def method(self: Tracer, other: Any) -> Tracer:
        if not isinstance(self.value, np.ndarray):  # numbers are not changed in place, but replaced
            return operate(self, other)
        self._refuse_writing(name_of(operate))
        self.tape.computed(itself, (self.value.copy(), other), {})  # NumPy's error, where it has one
        result = operate(self, other)
        result = result if result.dtype == self.dtype else result.astype(self.dtype)
        if not isinstance(result.value, np.ndarray):  # of an array without axes NumPy makes a number
            result = self.tape.call(np.copy, (result,), {})
        self.node, self.value = result.node, result.value
        return self

    return method


def _reduction(function: Callable[..., Any]) -> Callable[..., Tracer]:
    """The method of Tracer for a reduction. Axes that are not told are not written down."""

    def method(self: Tracer, axis: Any = None, *more: Any, keepdims: bool = False, **told: Any) -> Tracer:
        if more or told:
            return function(self, axis, *more, keepdims=keepdims, **told)
        kwargs = ({} if axis is None else {"axis": axis}) | ({"keepdims": True} if keepdims else {})
        return self.tape.call(function, (self,), kwargs)

    return method


def _leads(other: Any) -> bool:
    """Whether another value is to answer in a Tracer's place: one that is made of Tracers, or asks for it (NEP 13)."""
    return type(other) in (Tensor, Stack) or getattr(other, "__array_ufunc__", ...) is None


class Tracer(ArrayMethods):
    """A value, and the node that stands for it in the program. It answers as the value would."""

    __slots__ = ("__weakref__", "node", "tape", "value")

    def __init__(self, node: Node, tape: Tape, value: Any) -> None:
        self.node, self.tape, self.value = node, tape, value

    def __getattr__(self, name: str) -> Any:
        """What depends on shape, dtype and layout alone is known."""
        if name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides", "flags"):
            return getattr(self.value if isinstance(self.value, NUMPY) else np.asarray(self.value), name)
        raise UnknownAttributeError(f"tracing: a traced {type(self.value).__name__} has no {name}")

    # NumPy's dispatch protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(map(_leads, inputs)):
            return NotImplemented
        if kwargs.get("out") is not None:
            raise TracingError(f"{ufunc.__name__}: a traced program does not write into arrays (out=, or +=)")
        if method == "at":
            target, *rest = inputs
            if type(target) is not Tracer:
                raise TracingError(f"{ufunc.__name__}.at: a traced value cannot be written into an array")
            return target._written(ufunc.at, rest)
        result = self.tape.call(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)
        return result._parts() if isinstance(result.value, tuple) else result

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        if Tensor in types or Stack in types:
            return NotImplemented
        if function in _OF_TRACERS:
            return _OF_TRACERS[function](*args, **kwargs)
        if KNOWN.get(function, Known(function)).static:
            return function(*concrete(args), **concrete(kwargs))
        if kwargs.pop("out", None) is not None or function in WRITERS:
            raise TracingError(
                f"{name_of(function)}: a traced program does not write into arrays by functions (out=): x[index] = ... "
                "writes into x, np.where makes another array"
            )
        if is_composite(function) and (body := self.tape.body_of(function)) is not None:
            return self._through_body(function, body, args, kwargs)
        result = self.tape.call(function, args, kwargs)
        result = result._parts() if isinstance(result.value, tuple | list) else result
        by_values = function in _SHAPED_BY_VALUES or (function is np.where and len(args) == 1)
        if by_values and _of_tensor(args[0]):
            raise _shape_error(name_of(function))
        if by_values or any(map(_has_integers, [*args[1:], *kwargs.values()])):
            for part in result if isinstance(result, tuple | list) else [result]:
                part._keep_shape()
        return result

    def _through_body(self, function: Callable[..., Any], body: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A composite is what its body is; one whose body cannot be traced is a call like any other."""
        nodes, checks = len(self.tape.nodes), len(self.tape.checks)
        self.tape.bodies += 1
        try:
            out = body(*map(self.tape.traced, args), **kwargs)
        except TracingError:
            del self.tape.nodes[nodes:], self.tape.checks[checks:]
            return self.tape.call(function, args, kwargs)
        finally:
            self.tape.bodies -= 1
        if not KNOWN[function].may_bend:
            self.tape.smooth.update(self.tape.nodes[nodes:])
        self.tape.made_by(function, out)
        return out

    def _parts(self) -> Any:
        """The several results of one call."""
        value = self.value
        parts = [self.tape.call(operator.getitem, (self, i), {}) for i in range(len(value))]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TracingError(
            "while a program is traced, its values are not arrays yet: np.asarray, np.array and assignment into an "
            "array would take one value for all. To fill an array, make it by np.zeros_like(x, shape=...), or put its "
            "parts together by np.stack; else do this outside"
        )

    # Shapes, selection, what is used most

    @property
    def T(self) -> Tracer:
        return self.tape.call(np.transpose, (self,), {})

    @property
    def mT(self) -> Tracer:
        return self.tape.call(np.matrix_transpose, (self,), {})

    def reshape(self, *shape: Any) -> Tracer:
        return self.tape.call(np.reshape, (self, shape[0] if len(shape) == 1 else shape), {})

    def view(self, dtype: Any) -> Tracer:
        return self.tape.call(view, (self, np.dtype(dtype)), {})

    def astype(self, dtype: Any, copy: bool = True, casting: Any = "unsafe") -> Tracer:
        if not copy and self.dtype == dtype:
            return self
        if not np.can_cast(self.dtype, dtype, casting):
            raise TypeError(f"astype: {self.dtype} does not become {np.dtype(dtype)} by casting={casting!r}")
        return self.tape.call(astype, (self, np.dtype(dtype)), {})

    sum, mean = _reduction(np.sum), _reduction(np.mean)
    max, min = _reduction(np.max), _reduction(np.min)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Tracer]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Tracer:
        parts = index if type(index) is tuple else (index,)
        masks = [part for part in parts if type(part) is Tracer and part.dtype == bool]
        if any(map(_of_tensor, masks)):
            raise _shape_error("indexing with booleans")
        result = self.tape.call(operator.getitem, (self, index), {})
        if masks or any(type(part) is slice and _has_integers(part) for part in parts):
            result._keep_shape()
        return result

    # Writing: from now on this Tracer is the array as it is afterwards

    def __setitem__(self, index: Any, value: Any) -> None:
        self._written(operator.setitem, [index, value])

    def _written(self, write: Callable[..., Any], rest: Sequence[Any]) -> None:
        self._refuse_writing(name_of(write))
        self.tape.computed(write, (self.value, *rest), {})
        node = self.tape.note(write, (self, *rest), {}, self.value).node
        node.is_view = False  # it is the array itself
        self.tape.with_views -= {self.node, node}
        self.node = node

    def _refuse_writing(self, name: str) -> None:
        """Writing to an array would change all views of it, and a view's write the array."""
        if self.node.function is None and self.node not in self.tape.owned:
            raise TracingError(f"{name}: what a program is given is not changed in it; np.copy it first")
        if self.node in self.tape.with_views:
            raise TracingError(f"{name}: in a traced program, an array that has views is not changed in place")

    # Questions that only a value can answer

    def _answer(self, question: str) -> Any:
        """The value, where the program may depend on it: it will be right for the same value only, and checks that."""
        if self.node.of_tensor or (self.tape.bodies and not isinstance(self.value, bool | np.bool_)):
            raise TracingError(
                f"{question} of a traced value, of shape {np.shape(self.value)}: a program is the same for all values "
                "of its tensors, so none may decide which way Python goes or leave the program as a number. np.where "
                "chooses between arrays; what is returned can be asked afterwards"
            )
        self.tape.checks.append((self.node, self.value))
        return self.value

    def _keep_shape(self) -> None:
        """The program is right only where this result has the same shape; it checks that."""
        shape = np.shape(self.value)
        self.tape.checks.append((self.tape.note(np.shape, (self,), {}, shape).node, shape))

    def __bool__(self) -> bool:
        truth = self if np.ndim(self.value) or isinstance(self.value, bool | np.bool_) else self != 0
        return bool(truth._answer("bool(), as in `if` and `while`,"))

    def __float__(self) -> float:
        return float(self._answer("float()"))

    def __int__(self) -> int:
        return int(self._answer("int()"))

    def __index__(self) -> int:
        return operator.index(self._answer("an index"))

    def item(self) -> Any:
        return self._answer("item()").item()

    def tolist(self) -> Any:
        return self._answer("tolist()").tolist()

    def __repr__(self) -> str:
        return f"Tracer({self.value!r})"

    def __str__(self) -> str:
        return format(self, "")

    def __format__(self, spec: str) -> str:
        return format(self.value if self.tape.fails else self._answer("text"), spec)

    __hash__ = object.__hash__

    __add__, __radd__ = _operator(operator.add), _operator(operator.add, True)
    __sub__, __rsub__ = _operator(operator.sub), _operator(operator.sub, True)
    __mul__, __rmul__ = _operator(operator.mul), _operator(operator.mul, True)
    __truediv__, __rtruediv__ = _operator(operator.truediv), _operator(operator.truediv, True)
    __floordiv__, __rfloordiv__ = _operator(operator.floordiv), _operator(operator.floordiv, True)
    __mod__, __rmod__ = _operator(operator.mod), _operator(operator.mod, True)
    __pow__, __rpow__ = _operator(operator.pow), _operator(operator.pow, True)
    __matmul__, __rmatmul__ = _operator(operator.matmul), _operator(operator.matmul, True)
    __lshift__, __rlshift__ = _operator(operator.lshift), _operator(operator.lshift, True)
    __rshift__, __rrshift__ = _operator(operator.rshift), _operator(operator.rshift, True)
    __and__, __rand__ = _operator(operator.and_), _operator(operator.and_, True)
    __or__, __ror__ = _operator(operator.or_), _operator(operator.or_, True)
    __xor__, __rxor__ = _operator(operator.xor), _operator(operator.xor, True)
    __neg__, __pos__ = _operator(operator.neg), _operator(operator.pos)
    __abs__, __invert__ = _operator(operator.abs), _operator(operator.invert)
    __lt__, __le__ = _operator(operator.lt), _operator(operator.le)
    __gt__, __ge__ = _operator(operator.gt), _operator(operator.ge)
    __eq__, __ne__ = _operator(operator.eq), _operator(operator.ne)
    __iadd__, __isub__ = _in_place(operator.add), _in_place(operator.sub)
    __imul__, __itruediv__ = _in_place(operator.mul), _in_place(operator.truediv)
    __ifloordiv__, __imod__ = _in_place(operator.floordiv), _in_place(operator.mod)
    __ipow__, __imatmul__ = _in_place(operator.pow), _in_place(operator.matmul)
    __iand__, __ior__ = _in_place(operator.and_), _in_place(operator.or_)
    __ixor__ = _in_place(operator.xor)
    __ilshift__, __irshift__ = _in_place(operator.lshift), _in_place(operator.rshift)


def _floats(data: Tracer, dtype: Any = None, name: str = "") -> Tracer:
    """A traced value is not written to: no copy."""
    target = np.dtype(dtype) if dtype is not None else data.dtype if data.dtype.kind == "f" else np.dtype(float)
    return data if data.dtype == target else data.astype(target)


# What the engine asks of a value (rules/values.py), answered by a Tracer.
_OF_TRACERS: dict[Callable[..., Any], Callable[..., Any]] = {
    read_only: lambda value: value,
    floats: _floats,
    expect: lambda condition: bool(condition.tape.expect(condition)),
}
