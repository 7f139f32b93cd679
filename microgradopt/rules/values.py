"""What the engine asks of a value, whatever kind it is: each function hands itself to values that stand for arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from microgradopt.rules.registry import dispatched


@dispatched
def read_only(value: Any) -> Any:
    """The array, as a view that cannot be written to."""
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view


@dispatched
def floats(data: Any, dtype: Any = None, name: str = "Tensor") -> Any:
    """A copy of data as an array of floats; of float64 where it has others. name: of the caller, for errors.

    Raises TypeError for complex numbers, strings, objects and masked arrays, and for a dtype that is not floating.
    """
    if is_masked(data):
        raise TypeError(f"{name}: {peculiar(data)}")
    try:
        array = np.array(data, order="C")
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{name}: {error}") from None
    check_real(name, array)
    target = np.dtype(dtype) if dtype is not None else array.dtype if array.dtype.kind == "f" else np.dtype(float)
    if target.kind != "f":
        raise TypeError(f"{name}: a Tensor holds floats, not {target}; keep integers (labels) in a plain array")
    return array if array.dtype == target else array.astype(target)


def is_masked(x: Any) -> bool:
    """Whether it is a masked array. Who has one has imported numpy.ma, which takes some milliseconds."""
    masked_arrays = sys.modules.get("numpy.ma")
    return masked_arrays is not None and isinstance(x, masked_arrays.MaskedArray)


def check_real(name: str, array: Any) -> None:
    """Raise TypeError for complex numbers, strings and objects."""
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: real numbers are wanted, not {array.dtype} of shape {array.shape}")


def peculiar(x: Any) -> str:
    """What to do with an operand that computes otherwise than arrays do; "" for all that computes like them."""
    if is_masked(x):
        return "a masked array would lose its mask; np.where(mask, 0, x) says what to do with it"
    if isinstance(x, np.matrix):
        return "a np.matrix has a product of its own; np.asarray(x) makes an array of it, whose * is elementwise"
    return ""


@dispatched
def expect(condition: Any) -> bool:
    """bool(condition), for a condition that is false only for an error. A traced program checks it at every call."""
    return bool(condition)
