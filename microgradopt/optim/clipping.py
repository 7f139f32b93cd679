"""Gradient clipping: a bound on the gradient before the step."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from microgradopt.rules.values import expect
from microgradopt.tensor import Array, Tensor


def norm(arrays: Iterable[Array]) -> Any:
    """‖x‖₂ over several arrays, in float64: the squares of small float32 numbers would be 0 in float32."""
    wide = [array.astype(np.float64, copy=False) for array in arrays]
    squares = [np.vdot(x, x) for x in wide] or [np.float64(0.0)]
    return np.sqrt(functools.reduce(operator.add, squares))


def clip_grad_norm(parameters: Iterable[Tensor] | Tensor, max_norm: float) -> float:
    """Scale all gradients together so that ‖g‖₂ ≤ max_norm: g ← g · min(1, max_norm / ‖g‖). Gives ‖g‖ before.

    Keeps the direction. Pascanu et al. 2013, algorithm 1. PyTorch's ``clip_grad_norm_``, without its 1e-6 in the
    denominator.

    Raises ValueError for a bound that is not positive, FloatingPointError for a norm that is not finite; then nothing
    is changed.

    >>> w = Tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = np.array([3.0, 4.0])
    >>> float(clip_grad_norm([w], 1.0)), w.grad.round(3)
    (5.0, array([0.6, 0.8]))
    """
    _check_bound("clip_grad_norm", max_norm)
    clipped = _with_gradient(parameters)
    with np.errstate(over="ignore"):  # what overflows is no longer finite, and said so
        length: float = norm(g for _, g in clipped)
    if not expect(np.isfinite(length)):
        raise FloatingPointError(
            f"clip_grad_norm: the norm of the gradient is {length}; mg.detect_anomaly() finds where"
        )
    factor = np.minimum(length, max_norm) / np.where(length > 0, length, 1.0)
    for parameter, g in clipped:
        parameter.grad = np.copy(g * factor.astype(g.dtype))  # of 0-d arrays too an array, as .grad is
    return length


def clip_grad_value(parameters: Iterable[Tensor] | Tensor, max_value: float) -> None:
    """Limit every element of every gradient to [−max_value, max_value]. Changes the direction.

    Raises ValueError for a bound that is not positive.

    >>> w = Tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = np.array([3.0, -0.5])
    >>> clip_grad_value([w], 1.0)
    >>> w.grad
    array([ 1. , -0.5])
    """
    _check_bound("clip_grad_value", max_value)
    for parameter, g in _with_gradient(parameters):
        parameter.grad = np.copy(np.clip(g, -max_value, max_value))


def _with_gradient(parameters: Iterable[Tensor] | Tensor) -> list[tuple[Tensor, Array]]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]  # iterating it would give its rows, which have no gradients
    found = list(parameters) if isinstance(parameters, Iterable) else [None]
    if not all(isinstance(parameter, Tensor) for parameter in found):
        raise TypeError(f"clip_grad: tensors are wanted, as model.parameters() gives them, not {parameters!r:.60}")
    return [(parameter, parameter.grad) for parameter in found if parameter.grad is not None]


def _check_bound(name: str, bound: float) -> None:
    if not (isinstance(bound, float | int | np.floating | np.integer) and bound > 0):
        raise ValueError(f"{name}: the bound is a positive number, not {bound!r}")
