"""Dropout, and the random numbers that it draws: computed from a counter, so that a compiled program draws them too."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.mode import current_mode
from microgradopt.nn.init import RNG
from microgradopt.nn.module import Module

Array = npt.NDArray[Any]


class Dropout(Module):
    """In training, sets each element to 0 with probability p, and divides the others by 1 − p. Srivastava et al. 2014.

    So the expected value of each element stays what it was. In evaluation (``model.eval()``), and in an `Objective`,
    dropout is off: x comes back as it is. rng: a Generator or a seed for the masks; each call draws another one.

    Raises ValueError for p outside of [0, 1).

    >>> layer = Dropout(0.5, rng=0)
    >>> sorted(set(layer(np.ones(100)).tolist()))
    [0.0, 2.0]
    >>> layer.eval()(np.ones(2))
    array([1., 1.])
    """

    def __init__(self, p: float = 0.5, rng: RNG = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p is a probability from 0 on, below 1, not {p!r}")
        self.p = p
        self.counter = np.random.default_rng(rng).integers(2**64, size=1, dtype=np.uint64)

    def forward(self, x: Any) -> Any:
        """x, with some elements 0, in training; x itself otherwise."""
        if not self.training or current_mode.get().measuring or self.p == 0:
            return x
        numbers = self.counter + np.arange(x.size, dtype=np.uint64)
        self.counter = self.counter + np.uint64(x.size)
        kept = random_bits(numbers).reshape(x.shape) >= np.uint64(int(self.p * 2.0**64))
        return x * (kept / (1 - self.p)).astype(np.result_type(x.dtype, np.float16))

    def describe(self) -> str:
        """The probability."""
        return f"p={self.p}"


def random_bits(counter: Array) -> Array:
    """64 random bits for each number of an array: SplitMix64 (Steele, Lea and Flood 2014, figure 17). uint64.

    >>> random_bits(np.arange(2, dtype=np.uint64))
    array([16294208416658607535,  7960286522194355700], dtype=uint64)
    """
    z = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
