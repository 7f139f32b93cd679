"""Layers, activations as layers, and the multilayer perceptron."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.nn import functional, init
from microgradopt.nn.init import RNG
from microgradopt.nn.module import Module, Sequential
from microgradopt.tensor import Tensor


class Linear(Module):
    """x Wᵀ + b, with weight W of shape (out_features, in_features) and bias b of shape (out_features,).

    x: (..., in_features), Tensor or array. Gives (..., out_features).

    bias: whether there is one. rng: a Generator or a seed for the initial values, U(±1/√in_features) as in PyTorch.
    dtype: of the parameters.

    >>> Linear(3, 2, rng=0)(np.ones((4, 3))).shape
    (4, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, rng: RNG = None, dtype: npt.DTypeLike = np.float64
    ) -> None:
        init.check_size("Linear: in_features", in_features)
        init.check_size("Linear: out_features", out_features)
        rng = np.random.default_rng(rng)
        self.in_features, self.out_features = in_features, out_features
        weight = init.linear_default((out_features, in_features), in_features, rng)
        self.weight = Tensor(weight, dtype, requires_grad=True)
        self.bias: Tensor | None = None
        if bias:
            self.bias = Tensor(init.linear_default((out_features,), in_features, rng), dtype, requires_grad=True)

    def forward(self, x: Any) -> Any:
        """x Wᵀ + b."""
        return functional.linear(x, self.weight, self.bias)

    def describe(self) -> str:
        """The sizes."""
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Flatten(Module):
    """All axes from `start_dim` on as one: images of shape (batch, 8, 8) become rows (batch, 64).

    >>> Flatten()(np.ones((5, 8, 8))).shape
    (5, 64)
    """

    def __init__(self, start_dim: int = 1) -> None:
        self.start_dim = start_dim

    def forward(self, x: Any) -> Any:
        """x, with its last axes as one."""
        if not 0 <= self.start_dim < x.ndim:
            raise ValueError(f"Flatten: x of shape {x.shape} has no axis {self.start_dim} to begin at")
        return x.reshape(*x.shape[: self.start_dim], math.prod(x.shape[self.start_dim :]))


# Activations ----------------------------------------------------------------------------------------------------------


class ReLU(Module):
    """max(x, 0).

    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def forward(self, x: Any) -> Any:
        """max(x, 0)."""
        return functional.relu(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope · x.

    >>> LeakyReLU()(np.array([-1.0, 2.0]))
    array([-0.01,  2.  ])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        """`functional.leaky_relu`."""
        return functional.leaky_relu(x, self.negative_slope)


class ELU(Module):
    """x where x > 0, else alpha · (exp(x) − 1).

    >>> ELU()(np.array([-1.0, 2.0])).round(3)
    array([-0.632,  2.   ])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        """`functional.elu`."""
        return functional.elu(x, self.alpha)


class SELU(Module):
    """The self-normalising scale · elu(x, alpha).

    >>> SELU()(np.array([-1.0, 2.0])).round(3)
    array([-1.111,  2.101])
    """

    def forward(self, x: Any) -> Any:
        """`functional.selu`."""
        return functional.selu(x)


class GELU(Module):
    """x · Φ(x); approximate="tanh" for the quicker form.

    >>> GELU()(np.array([-1.0, 2.0])).round(3)
    array([-0.159,  1.954])
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """`functional.gelu`."""
        return functional.gelu(x, self.approximate)


class SiLU(Module):
    """x · sigmoid(x).

    >>> SiLU()(np.array([-1.0, 2.0])).round(3)
    array([-0.269,  1.762])
    """

    def forward(self, x: Any) -> Any:
        """`functional.silu`."""
        return functional.silu(x)


class Tanh(Module):
    """tanh(x).

    >>> Tanh()(np.array([-1.0, 2.0])).round(3)
    array([-0.762,  0.964])
    """

    def forward(self, x: Any) -> Any:
        """tanh(x)."""
        return np.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(−x)).

    >>> Sigmoid()(np.array([-1.0, 2.0])).round(3)
    array([0.269, 0.881])
    """

    def forward(self, x: Any) -> Any:
        """`functional.sigmoid`."""
        return functional.sigmoid(x)


class Softplus(Module):
    """log(1 + exp(βx)) / β.

    >>> Softplus()(np.array([-1.0, 2.0])).round(3)
    array([0.313, 2.127])
    """

    def __init__(self, beta: float = 1.0) -> None:
        if not beta > 0:
            raise ValueError(f"Softplus: beta is positive, not {beta}")
        self.beta = beta

    def forward(self, x: Any) -> Any:
        """`functional.softplus`."""
        return functional.softplus(x, self.beta)


class Softmax(Module):
    """exp(x) / Σ exp(x) along `dim`.

    >>> Softmax()(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """`functional.softmax`."""
        return functional.softmax(x, self.dim)


class MLP(Sequential):
    """A multilayer perceptron: linear layers of the given sizes, with an activation between each two.

    sizes: from inputs to outputs, (64, 32, 10) for one hidden layer of 32. activation: what makes the activations, such
    as ``nn.Tanh``. rng: a Generator or a seed for all the initial values. dtype: of the parameters.

    Its parameters are named as in a torch.nn.Sequential of the same layers: "0.weight", "0.bias", "2.weight", ...

    Raises ValueError for fewer than two sizes.

    >>> MLP((2, 3, 1), rng=0)
    MLP(  # 13 parameters
      (0): Linear(2, 3)  # weight (3, 2), bias (3,), 9 parameters
      (1): ReLU()
      (2): Linear(3, 1)  # weight (1, 3), bias (1,), 4 parameters
    )
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable[[], Module] = ReLU,
        rng: RNG = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        if not isinstance(sizes, Sequence | np.ndarray) or len(sizes) < 2:
            raise ValueError(f"MLP: sizes is a list, at least of the sizes of the input and the output, not {sizes!r}")
        if isinstance(activation, Module):
            raise TypeError(
                f"MLP: activation is what makes the activations, nn.{type(activation).__name__}, not one of them, "
                f"nn.{type(activation).__name__}()"
            )
        rng = np.random.default_rng(rng)
        layers: list[Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [Linear(fan_in, fan_out, rng=rng, dtype=dtype), activation()]
        super().__init__(*layers[:-1])
