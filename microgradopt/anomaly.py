"""detect_anomaly: an observer that finds the operation which first made a number that is not finite."""

from __future__ import annotations

from typing import Any

from microgradopt.errors import check_finite
from microgradopt.mode import Observer, Switched, observed
from microgradopt.rules.stack import Stack
from microgradopt.tensor import Tensor, tensors_in


class _Finite(Observer):
    """Raises NonFiniteError for results, and for shares of cotangents, that are not finite."""

    def recorded(self, tensor: Tensor, function: Any, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        check_finite(tensor.value, function, values, "value")

    def swept(self, tensor: Tensor, g: Any, cotangents: dict[Tensor, Any]) -> None:
        for x in tensors_in(tensor.inputs):
            if x in cotangents:
                values = (_array(g), *tensor.values)
                check_finite(_array(cotangents[x]), tensor.function, values, "gradient")


def _array(g: Any) -> Any:
    """The numbers of a cotangent, be it an array, a tensor, or a stack."""
    return g.data if type(g) in (Tensor, Stack) else g


def detect_anomaly() -> Switched:
    """Check every result, forward and backward, and raise NonFiniteError at the operation that first made a NaN or Inf.

    Costs a pass over every array: for finding the cause, not for training. Usable as ``@mg.detect_anomaly()`` too.

    >>> import numpy as np, microgradopt as mg
    >>> x = mg.Tensor(0.0, requires_grad=True)
    >>> with detect_anomaly(), np.errstate(all="ignore"):
    ...     np.log(x)
    Traceback (most recent call last):
        ...
    microgradopt.errors.NonFiniteError: log: ...
    """
    return observed(_Finite())
