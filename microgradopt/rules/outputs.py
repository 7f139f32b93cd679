"""Functions with several results, and changes of dtype."""

from __future__ import annotations

from typing import Any

from microgradopt.rules.registry import derivative


class Outputs(tuple[Any, ...]):
    """The value of a function with several results (``np.linalg.eigh``), and its cotangent: adds part by part.

    A part of a cotangent that nothing flows into is None.
    """

    __slots__ = ()

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shapes of the parts."""
        return tuple(part if part is None else part.shape for part in self)

    @property
    def dtype(self) -> Any:
        """The dtype of the parts."""
        return next(part.dtype for part in self if part is not None)

    def __add__(self, other: Any) -> Outputs:
        return Outputs(b if a is None else a if b is None else a + b for a, b in zip(self, other, strict=True))


def pick(outputs: Any, i: int) -> Any:
    """The i-th result of a function that has several."""
    return outputs[i]


derivative(
    pick,
    lambda g, out, outputs, i: Outputs(g if j == i else None for j in range(len(outputs))),
    smooth=True,
)


def astype(x: Any, dtype: Any) -> Any:
    """x in another floating dtype."""
    return x.astype(dtype)


derivative(astype, lambda g, out, x, dtype: g.astype(x.dtype), smooth=True)


def view(x: Any, dtype: Any) -> Any:
    """The same memory read as another dtype."""
    return x.view(dtype)
