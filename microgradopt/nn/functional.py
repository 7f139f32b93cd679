"""The functions that layers are made of. Each is one node of the graph, with a body in plain NumPy and its own rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgradopt.rules import log_softmax, softmax
from microgradopt.rules.registry import composite
from microgradopt.tensor import Tensor

Array = Any  # an ndarray or a Tensor; results are annotated for the second

__all__ = [
    "elu",
    "gelu",
    "leaky_relu",
    "linear",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "standardize",
]


def _rows(a: Array) -> Array:
    """All leading axes as one: (..., n) to (rows, n)."""
    return a if a.ndim == 2 else a.reshape(-1, a.shape[-1])


@composite(
    lambda h, out, g, x: x @ h.T,
    lambda h, out, g, x: g @ h,
    smooth=True,
    sign="gᵀx",
)
def _summed_pairs(g: Array, x: Array) -> Array:
    """Σ over rows of the outer products of g's row and x's: gᵀ x, as one node. g: (rows, out); x: (rows, in)."""
    return g.T @ x


@composite(
    lambda g, out, x, weight, bias=None: g @ weight,
    lambda g, out, x, weight, bias=None: _summed_pairs(_rows(g), _rows(x)),
    lambda g, out, x, weight, bias=None: _rows(g).sum(axis=0),
    smooth=True,
    sign="xWᵀ + b",
)
def linear(x: Array, weight: Array, bias: Array = None) -> Tensor:
    """x Wᵀ + b. x: (..., in); weight: (out, in); bias: (out,) or None. Gives (..., out).

    >>> linear(np.ones((1, 2)), np.array([[1.0, 2.0]]), np.array([0.5]))
    array([[3.5]])
    """
    return x @ weight.T if bias is None else x @ weight.T + bias


# Activations: elementwise, any shape ----------------------------------------------------------------------------------


@composite(lambda g, out, x: g * (out > 0), steepest=1.0)
def relu(x: Array) -> Tensor:
    """max(x, 0). Its derivative at the kink is 0, as in PyTorch.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return np.maximum(x, 0)


@composite(
    lambda g, out, x, negative_slope=0.01: np.where(x > 0, g, negative_slope * g),
    kink=lambda out, x, negative_slope=0.01: np.abs(x),
)
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope · x. Maas et al. 2013.

    >>> leaky_relu(np.array([-1.0, 2.0]))
    array([-0.01,  2.  ])
    """
    return np.where(x > 0, x, negative_slope * x)


@composite(
    lambda g, out, x, alpha=1.0: g * np.where(x > 0, 1, out + alpha),
    kink=lambda out, x, alpha=1.0: np.abs(x),
    steepest=1.0,
)
def elu(x: Array, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha · (exp(x) − 1). Clevert et al. 2016, eq. 15.

    >>> elu(np.array([-1.0, 2.0])).round(3)
    array([-0.632,  2.   ])
    """
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Tensor:
    """scale · elu(x, alpha), with the constants that keep mean 0 and variance 1. Klambauer et al. 2017.

    >>> selu(np.array([-1.0, 2.0])).round(3)
    array([-1.111,  2.101])
    """
    return 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)


@composite(lambda g, out, x: g * out * (1 - out), smooth=True, steepest=0.25)
def sigmoid(x: Array) -> Tensor:
    """1 / (1 + exp(−x)), computed from exp(−|x|), so that nothing overflows and small values keep their digits.

    >>> sigmoid(np.array([-1000.0, 0.0]))
    array([0. , 0.5])
    """
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def silu(x: Array) -> Tensor:
    """x · sigmoid(x), also called swish. Elfwing et al. 2017.

    >>> silu(np.array([-1.0, 2.0])).round(3)
    array([-0.269,  1.762])
    """
    return x * sigmoid(x)


@composite(lambda g, out, x, beta=1.0: g * sigmoid(beta * x), smooth=True)
def softplus(x: Array, beta: float = 1.0) -> Tensor:
    """log(1 + exp(βx)) / β, a smooth relu. PyTorch returns x itself beyond βx = 20, which differs by at most 2e-9.

    >>> softplus(np.array([-1.0, 1000.0])).round(3)
    array([3.13e-01, 1.00e+03])
    """
    return np.logaddexp(0, beta * x) / beta


@composite(lambda g, out, x: g * np.exp(-x * x / 2) / math.sqrt(2 * math.pi), smooth=True)
def normal_cdf(x: Array) -> Tensor:
    """Φ(x) = (1 + erf(x/√2)) / 2, the normal distribution function; from ``math.erfc``, exact in the far tail too."""
    flat = np.ravel(x) / -math.sqrt(2)
    return np.fromiter((math.erfc(v) / 2 for v in flat), flat.dtype, flat.size).reshape(np.shape(x))  # type: ignore[return-value]


def gelu(x: Array, approximate: str = "none") -> Tensor:
    """x · Φ(x), Φ the normal distribution function. Hendrycks and Gimpel 2016.

    approximate: "none" is exact and costs some 0.1 µs an element, as NumPy has no erf; "tanh" is
    0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), quicker, and within 5e-4.

    >>> gelu(np.array([-1.0, 2.0])).round(3)
    array([-0.159,  1.954])
    """
    if approximate == "none":
        return x * normal_cdf(x)
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))
    raise ValueError(f'gelu: approximate is "none" or "tanh", not {approximate!r}')


# Normalisation --------------------------------------------------------------------------------------------------------


def _standardize_rule(g: Array, out: Array, x: Array, axis: tuple[int, ...], eps: float) -> Array:
    deviation = np.sqrt(x.var(axis=axis, keepdims=True) + eps)
    along = (g * out).mean(axis=axis, keepdims=True)
    return (g - g.mean(axis=axis, keepdims=True) - out * along) / deviation


@composite(_standardize_rule, None, None)
def standardize(x: Array, axis: tuple[int, ...], eps: float) -> Tensor:
    """(x − mean) / sqrt(var + eps) over `axis`. Ba et al. 2016, eq. 4, before gain and bias.

    >>> standardize(np.array([1.0, 3.0]), (0,), 0.0)
    array([-1.,  1.])
    """
    return (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(x.var(axis=axis, keepdims=True) + eps)
