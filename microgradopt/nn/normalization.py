"""Layers that standardize: over the features of a sample (LayerNorm), over the samples of a batch (BatchNorm1d)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.mode import current_mode
from microgradopt.nn import functional, init
from microgradopt.nn.module import Module
from microgradopt.tensor import Tensor, plain


class LayerNorm(Module):
    """(x − mean) / sqrt(var + eps) · weight + bias, over the last axes of x. Ba et al. 2016.

    normalized_shape: the lengths of those axes, an int for one. weight starts at 1, bias at 0; both have that shape.

    >>> LayerNorm(2)(np.array([[1.0, 3.0]])).data.round(3)
    array([[-1.,  1.]])
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, dtype: npt.DTypeLike = np.float64
    ) -> None:
        shape: tuple[Any, ...] = tuple(np.atleast_1d(np.asarray(normalized_shape)).tolist())
        if not shape or not eps >= 0:
            raise ValueError(f"LayerNorm: normalized_shape has an axis or more, and eps is from 0; not {shape}, {eps}")
        for size in shape:
            init.check_size("LayerNorm: each length in normalized_shape", size)
        self.normalized_shape, self.eps = shape, eps
        self.weight = Tensor(np.ones(shape), dtype, requires_grad=True)
        self.bias = Tensor(np.zeros(shape), dtype, requires_grad=True)

    def forward(self, x: Any) -> Any:
        """Standardized over the last axes, then scaled and shifted."""
        if x.shape[-len(self.normalized_shape) :] != self.normalized_shape:
            raise ValueError(f"LayerNorm: x of shape {x.shape} does not end in {self.normalized_shape}")
        axes = tuple(range(-len(self.normalized_shape), 0))
        return functional.standardize(x, axes, self.eps) * self.weight + self.bias

    def describe(self) -> str:
        """The shape."""
        return f"{self.normalized_shape}, eps={self.eps}"


class BatchNorm1d(Module):
    """(x − μ) / sqrt(σ² + eps) · weight + bias, feature by feature. Ioffe and Szegedy 2015, algorithm 1.

    x: (batch, num_features). weight (the paper's γ) starts at 1, bias (β) at 0, both of shape (num_features,).

    In training (``model.train()``, how a module starts) μ and σ² are the mean and the variance of the batch, so each
    output depends on the whole batch, and running averages follow them:

        running_mean ← (1 − momentum) · running_mean + momentum · μ

    and so does running_var, with the unbiased variance σ² · batch / (batch − 1), as in PyTorch. The lecture's p is
    1 − momentum. In evaluation (``model.eval()``) the running averages take the place of μ and σ². An `Objective` uses
    the batch, and leaves the running averages as they are.

    Raises ValueError for a batch of one in training, which has no variance, and for another number of features.

    >>> BatchNorm1d(1)(np.array([[1.0], [3.0]])).data.round(3)
    array([[-1.],
           [ 1.]])
    """

    buffers = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, dtype: npt.DTypeLike = np.float64
    ) -> None:
        init.check_size("BatchNorm1d: num_features", num_features)
        if not (eps >= 0 and 0 <= momentum <= 1):
            raise ValueError(f"BatchNorm1d: eps is from 0, and momentum from 0 to 1; not {eps!r}, {momentum!r}")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = Tensor(np.ones(num_features), dtype, requires_grad=True)
        self.bias = Tensor(np.zeros(num_features), dtype, requires_grad=True)
        self.running_mean, self.running_var = np.zeros(num_features, dtype), np.ones(num_features, dtype)
        self.num_batches_tracked = np.zeros((), np.int64)

    def forward(self, x: Any) -> Any:
        """Standardized, by the batch or by the running averages; then scaled and shifted."""
        if x.ndim != 2 or x.shape[1] != self.num_features:
            raise ValueError(f"BatchNorm1d: wants x of shape (batch, {self.num_features}), not {x.shape}")
        measuring = current_mode.get().measuring
        if not (self.training or measuring):
            standardized = (x - self.running_mean) / np.sqrt(self.running_var + self.eps)
            return standardized * self.weight + self.bias
        if len(x) < 2:
            raise ValueError(
                f"BatchNorm1d: a batch of {len(x)} has no variance: use larger batches, or model.eval() for the "
                "running averages"
            )
        if not measuring:
            self._follow(plain(x).astype(self.running_mean.dtype, copy=False))
        return functional.standardize(x, (0,), self.eps) * self.weight + self.bias

    def _follow(self, batch: Any) -> None:
        """Move the running averages towards the mean and the variance of a batch."""
        kept, momentum = 1 - self.momentum, self.momentum
        self.running_mean = kept * self.running_mean + momentum * batch.mean(axis=0)
        self.running_var = kept * self.running_var + momentum * batch.var(axis=0, ddof=1)
        # By way of an axis: NumPy gives a sum of shape () as a number, and the count has to stay an array.
        self.num_batches_tracked = (self.num_batches_tracked[None] + 1).reshape(())

    def describe(self) -> str:
        """The sizes."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
