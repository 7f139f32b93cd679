"""What goes wrong, in words: the operation, the shapes, the way out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from microgradopt.array_methods import ArrayMethods
from microgradopt.rules.registry import name_of

ARRAYS: Any = (np.ndarray, np.generic, ArrayMethods)  # what has ndarray's methods


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity where a finite number is needed.

    >>> issubclass(NonFiniteError, FloatingPointError)
    True
    """


class OverwrittenError(RuntimeError):
    """A backward pass needs a value that was overwritten after it had been recorded.

    >>> import microgradopt as mg
    >>> w = mg.Tensor(2.0, requires_grad=True)
    >>> loss = w * w
    >>> w.data = 3.0
    >>> loss.backward()
    Traceback (most recent call last):
        ...
    microgradopt.errors.OverwrittenError: backward: ...
    """


class GradcheckError(AssertionError):
    """A derivative disagrees with central differences."""


def cut(what: str) -> TypeError:
    """The error for a gradient that would be cut off without a word."""
    return TypeError(
        f"{what} of a tensor that requires a gradient would cut the graph. To put tensors together: np.stack (for a "
        "list of them, or in place of an array that is filled element by element), np.concatenate, np.block; to repeat "
        "one: np.full_like, np.broadcast_to. Beside pandas or a sparse matrix: frame.to_numpy(), A.toarray(). In place "
        "of the math module: NumPy functions, np.exp for math.exp. Where a plain number or array is meant: .item(), "
        ".data, or .detach() for a constant"
    )


def check_finite(out: Any, function: Any, values: tuple[Any, ...], what: str) -> None:
    """Raise NonFiniteError, naming the operation, unless `out` is finite throughout."""
    parts = [part for part in (out if isinstance(out, tuple) else (out,)) if part is not None]
    bad = next((part for part in parts if not np.isfinite(part).all()), None)
    if function is not None and bad is not None:
        first = np.argwhere(~np.isfinite(np.asarray(bad)))[0].tolist()
        raise NonFiniteError(
            f"{name_of(function)}: its {what}, of shape {np.shape(bad)}, is not finite, first at {first}; "
            f"it was called with {_described(values)}"
        )


def _arrays(values: tuple[Any, ...]) -> list[Any]:
    """The arrays among values, inside lists too."""
    parts = itertools.chain.from_iterable(v if type(v) is list else [v] for v in values)
    return [part for part in parts if isinstance(part, ARRAYS)]


def _described(values: tuple[Any, ...]) -> str:
    arrays = _arrays(values)
    return "shapes " + " and ".join(str(v.shape) for v in arrays) + " of " + ", ".join(str(v.dtype) for v in arrays)


def explained(function: Callable[..., Any], values: tuple[Any, ...], error: Exception) -> Exception:
    """NumPy's error with the operation, the shapes and the way out; an error that names the operation as it is."""
    is_ours = type(error).__module__.startswith(__package__)  # NotDifferentiableError, TracingError, ...
    if is_ours or (not isinstance(function, np.ufunc) and str(error).startswith(f"{name_of(function)}: ")):
        return error
    shapes = [array.shape for array in _arrays(values) if array.ndim]
    hint = ""
    if function is np.matmul and len(shapes) == 2:
        x, y = shapes
        if len(y) >= 2 and x[-1] == y[-1]:
            hint = "; did you mean the second one transposed, weight.T?"
        elif len(x) >= 2 and x[-2] == y[max(-2, -len(y))]:
            hint = "; did you mean the first one transposed, x.T?"
    elif isinstance(function, np.ufunc):
        hint = "; shapes broadcast where, read from the right, they are equal or 1"
    listed = " and ".join(map(str, shapes))
    problem = (
        f"shapes {listed} do not match{hint}" if isinstance(function, np.ufunc) else f"called with shapes {listed}"
    )
    kind = type(error) if isinstance(error, ValueError) else TypeError
    return kind(f"{name_of(function)}: {problem} ({error})")
