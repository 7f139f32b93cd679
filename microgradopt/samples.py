"""Samples in batches: which ones each update of a training is on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.optim.hyperparameters import is_number, plain

Array = npt.NDArray[Any]
RNG = np.random.Generator | int | None


def batches(
    X: Any, y: Any, batch_size: int | None = None, rng: RNG = None, shuffle: bool = True
) -> Iterator[tuple[Array, Array]]:
    """The samples once, in batches: of `batch_size`, the last one perhaps smaller, or all at once (None).

    X, y: arrays with equally many rows, or what NumPy makes arrays of (lists, pandas): rows are taken by position.
    shuffle: draw another order first, from `rng`, a seed or a Generator; None draws a fresh one. All at once keeps the
    order that there is.

    Raises ValueError for unequal lengths, no samples and a batch_size below 1, TypeError for what is no array of
    numbers.

    >>> [len(x) for x, _ in batches(np.zeros((5, 2)), np.zeros(5), 2, rng=0)]
    [2, 2, 1]
    """
    X, y = _array("X", X), _array("y", y)
    epoch = Epoch(X, y, batch_size, rng, shuffle)
    while epoch.left:
        (chosen,) = epoch.take(1)
        yield X[chosen], y[chosen]


class Epoch:
    """One pass over the samples, batch by batch, as indices into the data."""

    def __init__(self, X: Array, y: Array, batch_size: int | None, rng: RNG, shuffle: bool) -> None:
        size = checked_size(X, y, batch_size)
        in_order = batch_size is None or not shuffle
        self._order = np.arange(len(X)) if in_order else np.random.default_rng(rng).permutation(len(X))
        self._size, self._start = size, 0

    @property
    def left(self) -> int:
        """The number of samples that have not been taken yet."""
        return len(self._order) - self._start

    def take(self, n: int) -> Array:
        """The indices of the next batches, (batches, size): at most n, all of one size."""
        size = min(self._size, self.left)
        n = min(n, self.left // size)
        chosen = self._order[self._start : self._start + n * size].reshape(n, size)
        self._start += n * size
        return chosen

    def put_back(self, samples: int) -> None:
        """Give back this number of samples, the last that were taken: they were not used."""
        self._start -= samples


def checked_size(X: Array, y: Array, batch_size: int | None) -> int:
    """How many samples a batch has. ValueError for unequal lengths, no samples, or no size."""
    if len(X) != len(y) or not len(X):
        raise ValueError(f"batches: X has {len(X)} samples and y {len(y)}; equally many are wanted, and at least one")
    return len(X) if batch_size is None else counted("batches: batch_size", batch_size, 1)


def counted(name: str, n: Any, least: int) -> int:
    """A whole number as Python's. ValueError for anything else, and for less than the least."""
    n = plain(n)
    if not (isinstance(n, int) and is_number(n, least)):
        raise ValueError(f"{name} is a whole number from {least}, not {n!r}")
    return n


def _array(name: str, data: Any) -> Array:
    array = np.asarray(data)
    if array.dtype.kind not in "fiub" or not array.ndim:
        raise TypeError(f"batches: {name} is to be an array of numbers, one row for each sample, not {data!r:.60}")
    return array
