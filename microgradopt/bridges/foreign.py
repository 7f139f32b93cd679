"""A function that another framework computes, as an operation of our graph, and a network made of one.

Whatever has derivatives of its own can take part: the framework is asked for y = F(x), for Jᵀg, which reverse mode
wants, and for what reverse mode over reverse mode wants: J c, and the gradient of ⟨c, Jᵀg⟩. So gradients and Hessian
products go through it; third derivatives do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from microgradopt.history import History
from microgradopt.mode import current_mode
from microgradopt.nn.module import Module
from microgradopt.rules.registry import NotDifferentiableError, composite
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]


class Foreign(Protocol):
    """y = F(x, data) of an array x of floats, as a framework computes it. data: what no gradient is wanted by."""

    def value(self, x: Array, data: Any) -> Array:
        """F(x, data)."""

    def pulled(self, x: Array, g: Array, data: Any) -> Array:
        """Jᵀg, of the shape of x; J = ∂F/∂x."""

    def pushed(self, x: Array, c: Array, data: Any) -> Array:
        """J c, of the shape of y."""

    def bent(self, x: Array, g: Array, c: Array, data: Any) -> Array:
        """The gradient by x of ⟨c, Jᵀg⟩, of the shape of x."""


def _no_third(c: Any, out: Any, *args: Any) -> Any:
    raise NotDifferentiableError("a function of another framework has second derivatives here, and no third ones")


@composite(_no_third, _no_third, None, None, smooth=True)
def _pushed(x: Array, c: Array, foreign: Foreign, data: Any) -> Array:
    return foreign.pushed(x, c, data)


@composite(_no_third, _no_third, _no_third, None, None, smooth=True)
def _bent(x: Array, g: Array, c: Array, foreign: Foreign, data: Any) -> Array:
    return foreign.bent(x, g, c, data)


@composite(
    lambda c, out, x, g, foreign, data: _bent(x, g, c, foreign, data),
    lambda c, out, x, g, foreign, data: _pushed(x, c, foreign, data),
    None,
    None,
    smooth=True,
)
def _pulled(x: Array, g: Array, foreign: Foreign, data: Any) -> Array:
    return foreign.pulled(x, g, data)


@composite(lambda g, out, x, foreign, data: _pulled(x, g, foreign, data), None, None, smooth=True)
def computed_by(x: Any, foreign: Foreign, data: Any) -> Any:
    """F(x, data)."""
    return foreign.value(x, data)


class ForeignModel(Module):
    """A network that another framework computes, with parameters of our own: our optimizers train it.

    arrays: the parameters by name, as they start. foreign: gives the output (samples, …) from θ, all parameters
    flattened in this order, and from a pair: a batch of inputs, and a seed for what the framework draws. It is 0, for
    no dropout, in an `Objective` and in evaluation, and another one in each pass of a training.
    """

    def __init__(self, arrays: Mapping[str, Array], foreign: Foreign) -> None:
        self._named = {name: Tensor(array, array.dtype, requires_grad=True) for name, array in arrays.items()}
        self.foreign, self.passes = foreign, 0

    def _parts(self) -> list[tuple[str, Any]]:
        """The parameters, under the names that the framework has for them."""
        return list(self._named.items())

    def forward(self, x: Any) -> Any:
        """The output of the framework's network, at our θ."""
        theta = np.concatenate([parameter.reshape(-1) for parameter in self._named.values()])
        draws = self.training and not current_mode.get().measuring
        self.passes += draws
        return computed_by(theta, self.foreign, (x, self.passes if draws else 0))

    def describe(self) -> str:
        """What computes it."""
        return type(self.foreign).__module__.rpartition(".")[2]


def joined(name: str, batches: Any, array: Callable[[Any], Array]) -> tuple[Array, Array, int | None]:
    """The inputs and the targets of all batches, and how many a batch has; None for one pair, all data at once.

    batches: pairs, or one pair. array: makes an array of what the framework has.
    """

    def is_pair(x: Any) -> bool:
        return isinstance(x, tuple | list) and len(x) == 2 and all(hasattr(part, "ndim") for part in x)

    is_one = isinstance(batches, tuple) and is_pair(batches)
    pairs: list[Any] = [batches] if is_one else list(batches) if isinstance(batches, Iterable) else []
    if not pairs or not all(map(is_pair, pairs)):
        raise TypeError(
            f"bridges.{name}.run: batches is a list, a DataLoader or one batch, and each batch a pair of arrays or a "
            f"pair of tensors, inputs and targets; not {batches!r:.60}"
        )
    X, y = (np.concatenate([array(pair[i]) for pair in pairs]) for i in (0, 1))
    return X, y, len(pairs[0][0]) if len(pairs) > 1 else None


def history_of(given: Any, rate: float | None = None) -> History | None:
    """A history of ours from a list of losses, or from what has a list `loss`. rate: if it has no learning rates."""
    if given is None:
        return None
    found = History()
    found.loss = [float(loss) for loss in getattr(given, "loss", given)]
    for name in ("gradient_norm", "lr", "seconds", "step_norm", "validation_loss"):
        values = [float(value) for value in getattr(given, name, ())]
        setattr(found, name, values if len(values) == len(found.loss) else [math.nan] * len(found.loss))
    if rate is not None and not np.isfinite(found.lr).any():
        found.lr = [rate] * len(found.loss)
    return found
