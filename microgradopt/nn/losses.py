"""Losses: how wrong, as one number. PyTorch's names, reductions and numbers.

reduction: "mean" (over elements, or over samples where there are classes), "sum", or "none" for one loss each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from microgradopt.nn.functional import log_softmax, sigmoid
from microgradopt.rules.registry import arrays, composite
from microgradopt.rules.values import expect
from microgradopt.tensor import Tensor

Array = Any  # an ndarray or a Tensor; results are annotated for the second

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "hinge_loss",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "nll_loss",
]


def _reduced(losses: Array, reduction: str) -> Array:
    if reduction == "mean":
        return losses.sum() / losses.size  # np.mean says the same, in twice the time
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')


def _share(g: Array, size: int, reduction: str) -> Array:
    """The cotangent of each single loss, given that of the reduced one: a number for all, or one each."""
    return g / size if reduction == "mean" else g


def _checked(name: str, input: Array, target: Array) -> tuple[Array, Array]:
    """Input and target, of one shape, as arrays of floats. Labels 0 and 1, lists, numbers take the input's dtype."""
    (input,) = arrays(input)
    if np.shape(input) != np.shape(target):
        raise ValueError(
            f"{name}: the input has shape {np.shape(input)} and the target {np.shape(target)}; they must be equal, as "
            "broadcasting them would compare each with every other"
        )
    input = _floats(input, np.float64)
    return input, _floats(target, input.dtype) if hasattr(target, "dtype") else np.asarray(target, input.dtype)


def _floats(x: Array, dtype: Any) -> Array:
    return x if x.dtype.kind == "f" else x.astype(dtype)


def _check_labels(name: str, are_right: Array, wanted: str, target: Array) -> None:
    if not expect(np.all(are_right)):
        raise ValueError(f"{name}: targets are {wanted}; found {np.min(target):.3g} to {np.max(target):.3g}")


# Regression -----------------------------------------------------------------------------------------------------------


@composite(
    lambda g, out, input, target, reduction="mean": _share(g, input.size, reduction) * 2 * (input - target),
    lambda g, out, input, target, reduction="mean": _share(g, input.size, reduction) * 2 * (target - input),
)
def mse_loss(input: Array, target: Array, reduction: str = "mean") -> Tensor:
    """Squared error, (input − target)². Both of any, equal, shape.

    >>> float(mse_loss(np.array([1.0, 2.0]), np.array([0.0, 0.0])))
    2.5
    """
    input, target = _checked("mse_loss", input, target)
    return _reduced(np.square(input - target), reduction)


@composite(
    lambda g, out, input, target, reduction="mean": _share(g, input.size, reduction) * np.sign(input - target),
    lambda g, out, input, target, reduction="mean": _share(g, input.size, reduction) * np.sign(target - input),
)
def l1_loss(input: Array, target: Array, reduction: str = "mean") -> Tensor:
    """Absolute error, abs(input − target). Both of any, equal, shape.

    >>> float(l1_loss(np.array([1.0, -2.0]), np.array([0.0, 0.0])))
    1.5
    """
    input, target = _checked("l1_loss", input, target)
    return _reduced(np.abs(input - target), reduction)


@composite(
    lambda g, out, input, target, reduction="mean", delta=1.0: (
        _share(g, input.size, reduction) * np.clip(input - target, -delta, delta)
    ),
    lambda g, out, input, target, reduction="mean", delta=1.0: (
        _share(g, input.size, reduction) * np.clip(target - input, -delta, delta)
    ),
    kink=lambda out, input, target, reduction="mean", delta=1.0: np.abs(np.abs(input - target) - delta),
)
def huber_loss(input: Array, target: Array, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """½e² where abs(e) ≤ delta, else delta · (abs(e) − ½ delta), e = input − target. Huber 1964.

    Both of any, equal, shape.

    >>> huber_loss(np.array([0.5, 3.0]), np.array([0.0, 0.0]), "none")
    array([0.125, 2.5  ])
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta is positive, not {delta}")
    input, target = _checked("huber_loss", input, target)
    size = np.abs(input - target)
    return _reduced(np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta)), reduction)


# Classification: two classes ------------------------------------------------------------------------------------------


@composite(
    lambda g, out, input, target, reduction="mean": _share(g, input.size, reduction) * (sigmoid(input) - target),
    lambda g, out, input, target, reduction="mean": _share(g, input.size, reduction) * -input,
    smooth=True,
)
def binary_cross_entropy_with_logits(input: Array, target: Array, reduction: str = "mean") -> Tensor:
    """−t log σ(x) − (1 − t) log(1 − σ(x)) for logits x, as max(x, 0) − x t + log(1 + exp(−|x|)): nothing overflows.

    input: logits; target: probabilities, 0 to 1. Both of any, equal, shape. Raises ValueError for other targets.

    >>> binary_cross_entropy_with_logits(np.array([0.0, 100.0]), np.array([1, 1]), "none").round(4)
    array([0.6931, 0.    ])
    """
    input, target = _checked("binary_cross_entropy_with_logits", input, target)
    _check_labels(
        "binary_cross_entropy_with_logits", (target >= 0) & (target <= 1), "probabilities, from 0 to 1", target
    )
    return _reduced(np.maximum(input, 0) - input * target + np.log1p(np.exp(-np.abs(input))), reduction)


@composite(
    lambda g, out, input, target, reduction="mean": (
        _share(g, input.size, reduction) * (np.sign(np.minimum(target * input - 1, 0)) * target)
    ),
    None,
)
def hinge_loss(input: Array, target: Array, reduction: str = "mean") -> Tensor:
    """max(0, 1 − target · input), the support vector machine's. target: −1 or 1. Both of any, equal, shape.

    Raises ValueError for other targets.

    >>> hinge_loss(np.array([0.5, 2.0]), np.array([1, 1]), "none")
    array([0.5, 0. ])
    """
    input, target = _checked("hinge_loss", input, target)
    _check_labels("hinge_loss", np.abs(target) == 1, "−1 or 1 (2 * y − 1 makes them of 0 and 1)", target)
    return _reduced(np.maximum(0, 1 - target * input), reduction)


# Classification: many classes -----------------------------------------------------------------------------------------


def _class_axis(shape: tuple[int, ...]) -> int:
    """Where the classes stand in an input of shape (classes,) or (samples, classes, ...)."""
    if not shape:
        raise ValueError("cross_entropy: the input is (classes,) or (samples, classes, ...), not of shape ()")
    return min(1, len(shape) - 1)


def _checked_labels(labels: Array, shape: tuple[int, ...]) -> Array:
    """Labels for an input of that shape, as an array."""
    (labels,), axis = arrays(labels), _class_axis(shape)
    batch, classes = shape[:axis] + shape[axis + 1 :], shape[axis]
    if labels.dtype.kind not in "iu" or labels.shape != batch:
        raise ValueError(
            f"nll_loss: for an input of shape {shape} the labels are integers of shape {batch}, not "
            f"{labels.dtype} of shape {labels.shape}"
        )
    unsigned = labels.view(labels.dtype.str.replace("i", "u"))  # a negative one is huge, read so
    if labels.size and not unsigned.max() < classes:
        raise ValueError(f"nll_loss: labels from {labels.min()} to {labels.max()}, but classes from 0 to {classes - 1}")
    return labels


def _own_class(labels: Array) -> tuple[Array, ...]:
    """The index of each sample's own class, in an array whose classes stand in axis 1 (axis 0 for a single sample)."""
    if labels.ndim == 1:
        return np.arange(len(labels)), labels
    grid = np.indices(labels.shape, sparse=True)
    return (*grid[:1], labels, *grid[1:])


@composite(lambda h, out, g, labels, shape: h[_own_class(labels)], None, None, broadcasts=True, smooth=True)
def _place(g: Array, labels: Array, shape: tuple[int, ...]) -> Array:
    """Zeros of the given shape with g at each sample's own class."""
    result = np.zeros_like(g if hasattr(g, "__array_function__") else labels, g.dtype, "C", shape=shape)
    result[_own_class(labels)] = g
    return result


@composite(
    lambda g, out, input, target, reduction="mean": _place(
        -_share(g, np.size(target), reduction), arrays(target)[0], input.shape
    ),
    None,
)
def nll_loss(input: Array, target: Array, reduction: str = "mean") -> Tensor:
    """Minus the log-probability of the right class.

    input: log-probabilities, (samples, classes), or (classes,), or (samples, classes, ...). target: integer labels,
    the shape of the input without the classes.

    >>> float(nll_loss(np.log([[0.5, 0.5], [0.25, 0.75]]), np.array([0, 1]), "sum").round(4))
    0.9808
    """
    return _reduced(-input[_own_class(_checked_labels(target, input.shape))], reduction)


def cross_entropy(input: Array, target: Array, reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """−Σ_c p_c log softmax(input)_c, stable for any logits.

    input: logits, (samples, classes), or (classes,), or (samples, classes, ...).
    target: integer labels, the shape of the input without the classes; or probabilities, floats of the input's shape.
    label_smoothing: ε mixes the target with the uniform distribution, (1 − ε) p + ε / classes. Szegedy et al. 2016.
    reduction: "mean" is over samples.

    >>> float(cross_entropy(np.array([[2.0, 0.0, 0.0]]), np.array([0])).round(4))
    0.2395
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing is from 0 to 1, not {label_smoothing}")
    axis = _class_axis(input.shape)
    log_probabilities = log_softmax(input, axis)
    if arrays(target)[0].dtype.kind != "f":  # labels, no probabilities
        if not label_smoothing:
            return nll_loss(log_probabilities, target, reduction)
        target = _place(np.ones((), input.dtype), _checked_labels(target, input.shape), input.shape)
    if np.shape(target) == input.shape[:axis] + input.shape[axis + 1 :] != input.shape:
        raise ValueError(f"cross_entropy: labels are integers, not {target.dtype}; .astype(int) makes them so")
    _, target = _checked("cross_entropy", input, target)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / input.shape[axis]
    return _reduced(-(log_probabilities * target).sum(axis=axis), reduction)
