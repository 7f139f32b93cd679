"""What is measured: networks with their data and starting weights, as plain arrays, the same for every engine.

A workload is a function of an engine (``engines/``) that takes a `Problem` and gives a `Contender`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray


class Contender(NamedTuple):
    """run: does the work once, and is what is timed. read: gives its results, as arrays to be compared, untimed."""

    run: Callable[[], Any]
    read: Callable[[Any], list[Array]]


@dataclass(frozen=True)
class Problem:
    """A multilayer perceptron with a loss on one batch.

    loss: "mse" (the network has tanh), "cross_entropy" (relu) or "hinge" (relu, and an L2 penalty).
    weights: [W, b, W, b, ...], W of shape (out, in). vectors: a direction of the same shapes.
    """

    sizes: tuple[int, ...]
    batch: int
    loss: str
    dtype: type = np.float64
    x: Array = field(init=False)
    y: Array = field(init=False)
    weights: list[Array] = field(init=False)
    vectors: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(7)
        shapes = [s for n, m in zip(self.sizes[:-1], self.sizes[1:], strict=True) for s in ((m, n), (m,))]
        bounds = [1 / np.sqrt(n) for n in self.sizes[:-1] for _ in range(2)]
        x = rng.standard_normal((self.batch, self.sizes[0]))
        y = np.sin(x.sum(axis=1, keepdims=True))
        if self.loss == "cross_entropy":
            y = rng.integers(0, self.sizes[-1], self.batch)
        if self.loss == "hinge":
            x, y = two_moons(self.batch, rng)
        set_once = object.__setattr__  # the problem is frozen for everybody else
        set_once(self, "x", x.astype(self.dtype))
        set_once(self, "y", y if y.dtype.kind == "i" else y.astype(self.dtype))
        weights = [rng.uniform(-bound, bound, shape) for shape, bound in zip(shapes, bounds, strict=True)]
        set_once(self, "weights", [w.astype(self.dtype) for w in weights])
        set_once(self, "vectors", [rng.standard_normal(shape).astype(self.dtype) for shape in shapes])

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch}, {np.dtype(self.dtype).name}"

    def of_run(self, r: int) -> Problem:
        """The same, of one of many runs: each has starting weights of its own, the first those of this."""
        rng, other = np.random.default_rng(r), copy.copy(self)
        if r:
            weights = [w * rng.uniform(0.5, 1.5, w.shape).astype(w.dtype) for w in self.weights]
            object.__setattr__(other, "weights", weights)
        return other

    def copied_weights(self) -> list[Array]:
        return [w.copy() for w in self.weights]


def two_moons(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two interleaved half circles with noise, labels −1 and 1 as a column: scikit-learn's make_moons(n, noise=0.1)."""
    angle = np.linspace(0, np.pi, n // 2)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([upper, [1.0, 0.5] - upper]) + rng.normal(0, 0.1, (n, 2))
    return points, np.repeat([[-1.0], [1.0]], n // 2, axis=0)


@dataclass(frozen=True)
class Chain:
    """n scalar operations one after the other: y ← y·w, y ← y + b, and so on, from y = x.

    weights: whether w and b get gradients too, or are plain numbers.
    """

    n: int
    weights: bool
    x: float = 0.5
    w: float = 0.99999
    b: float = 1e-5

    def __str__(self) -> str:
        return f"{self.n:,} operations, {'two weights' if self.weights else 'constants'}"


MOONS_DECAY = 1e-4  # the factor of the L2 penalty in micrograd's demo
MOONS_LR = 1.0  # its learning rate at the start
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8  # Adam's defaults, everywhere
