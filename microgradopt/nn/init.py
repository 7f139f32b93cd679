"""Initial weights: how large they start decides whether signals and gradients keep their size from layer to layer.

Each function takes the shape of a weight, (fan_out, fan_in) as `Linear` has it, and gives an array of float64.
`rng` is a numpy Generator, a seed, or None for fresh randomness, as ``np.random.default_rng`` takes it.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
RNG: TypeAlias = "np.random.Generator | int | None"  # a string, so that importing does not load numpy.random

__all__ = [
    "kaiming_normal",
    "kaiming_uniform",
    "linear_default",
    "orthogonal",
    "xavier_normal",
    "xavier_uniform",
]


def xavier_uniform(shape: tuple[int, int], gain: float = 1.0, rng: RNG = None) -> Array:
    """U(−a, a) with a = gain · sqrt(6 / (fan_in + fan_out)). For tanh and sigmoid; Glorot and Bengio 2010, eq. 16.

    >>> xavier_uniform((2, 3), rng=0).shape
    (2, 3)
    """
    limit = gain * math.sqrt(6 / sum(_fans("xavier_uniform", shape)))
    return np.random.default_rng(rng).uniform(-limit, limit, shape)


def xavier_normal(shape: tuple[int, int], gain: float = 1.0, rng: RNG = None) -> Array:
    """N(0, s²) with s = gain · sqrt(2 / (fan_in + fan_out)). Glorot and Bengio 2010, eq. 12.

    >>> xavier_normal((2, 3), rng=0).shape
    (2, 3)
    """
    return np.random.default_rng(rng).normal(0.0, gain * math.sqrt(2 / sum(_fans("xavier_normal", shape))), shape)


def kaiming_uniform(shape: tuple[int, int], gain: float = math.sqrt(2), rng: RNG = None) -> Array:
    """He's: U(−a, a) with a = gain · sqrt(3 / fan_in), the variance of `kaiming_normal`. gain √2 is that of relu.

    >>> kaiming_uniform((2, 3), rng=0).shape
    (2, 3)
    """
    limit = gain * math.sqrt(3 / _fans("kaiming_uniform", shape)[0])
    return np.random.default_rng(rng).uniform(-limit, limit, shape)


def kaiming_normal(shape: tuple[int, int], gain: float = math.sqrt(2), rng: RNG = None) -> Array:
    """He's: N(0, s²) with s = gain / sqrt(fan_in). He et al. 2015, eq. 10.

    >>> kaiming_normal((2, 3), rng=0).shape
    (2, 3)
    """
    return np.random.default_rng(rng).normal(0.0, gain / math.sqrt(_fans("kaiming_normal", shape)[0]), shape)


def orthogonal(shape: tuple[int, int], gain: float = 1.0, rng: RNG = None) -> Array:
    """gain · Q with orthonormal rows or columns, whichever are fewer, uniform over all such Q. Saxe et al. 2014.

    Q comes from the QR decomposition of a normal matrix; the signs of R's diagonal make it uniform (Mezzadri 2007).

    >>> W = orthogonal((2, 3), rng=0)
    >>> np.allclose(W @ W.T, np.eye(2))
    True
    """
    fan_in, fan_out = _fans("orthogonal", shape)
    normal = np.random.default_rng(rng).normal(size=(max(fan_in, fan_out), min(fan_in, fan_out)))
    q, r = np.linalg.qr(normal)
    q *= np.sign(np.diagonal(r))
    return gain * (q if fan_out >= fan_in else q.T)


def linear_default(shape: tuple[int, ...], fan_in: int, rng: RNG = None) -> Array:
    """U(−1/sqrt(fan_in), 1/sqrt(fan_in)): what ``torch.nn.Linear`` starts its weights and its biases with.

    >>> bool((np.abs(linear_default((2, 100), 100, rng=0)) <= 0.1).all())
    True
    """
    limit = 1 / math.sqrt(fan_in) if fan_in else 0.0
    return np.random.default_rng(rng).uniform(-limit, limit, shape)


def check_size(name: str, size: Any) -> None:
    """Raise ValueError, for ``name``, unless it is a whole number from 1."""
    if not (isinstance(size, int | np.integer) and size >= 1):
        raise ValueError(f"{name} is a whole number from 1, not {size!r}")


def _fans(name: str, shape: Any) -> tuple[int, int]:
    if np.shape(shape) != (2,) or min(shape) < 1:
        raise ValueError(f"{name}: wants the shape (fan_out, fan_in) of a weight, not {shape}")
    fan_out, fan_in = shape
    return fan_in, fan_out
