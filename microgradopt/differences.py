"""gradcheck: compare derivatives with central differences."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microgradopt.autodiff import grad, listed_tensors
from microgradopt.errors import GradcheckError
from microgradopt.tensor import Tensor

_EPSILON = float(np.finfo(float).eps)


def gradcheck(
    f: Callable[..., Tensor],
    inputs: Tensor | Sequence[Tensor],
    order: int = 2,
    eps: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    rng: np.random.Generator | int | None = 0,
) -> bool:
    """Compare the derivatives of f with central differences; True, or an error that says where they part.

    f: takes the inputs, gives a tensor of any shape. inputs: float64 tensors; those that require a gradient are
    checked, element by element. order: 1 checks gradients, 2 also the gradients of gradients.

    With a random cotangent w the first order compares ∇(w·f) with (w·f(x + hε) − w·f(x − hε)) / 2h; the second does
    the same with u·∇(w·f) for a random u. rng: a seed or a Generator for w and u; None draws fresh ones.

    eps: the step is h = eps · max(1, |x|). Where the two then differ, steps of eps times the size of the element, and
    of the whole input, are tried as well, and the one that agrees best with half its own length decides.
    rtol, atol: a derivative d may be off by rtol · |d| + atol · max |d| over the input, and by rounding.

    Raises GradcheckError naming the input, the element, the analytic and the numeric value; ValueError for inputs that
    are not float64, and for other arguments out of range.

    >>> x = Tensor([0.5, 2.0], requires_grad=True)
    >>> gradcheck(lambda x: np.sin(x) * x, x)
    True
    """
    inputs = listed_tensors("gradcheck", inputs)
    if order not in (1, 2) or not all(0 < number < math.inf for number in (eps, rtol, atol)):
        raise ValueError(
            f"gradcheck: order is 1 or 2, and eps, rtol and atol are positive; not {order}, {eps}, {rtol}, {atol}"
        )
    rng = np.random.default_rng(rng)
    checked = [i for i, x in enumerate(inputs) if x.needs_grad]
    if not checked or any(inputs[i].dtype != np.float64 for i in checked):
        raise ValueError("gradcheck: wants inputs that require a gradient, all float64")
    weight = rng.standard_normal(_result(f, inputs).shape)

    def first(points: list[Tensor]) -> Tensor:
        return np.sum(f(*points) * weight)

    _compare("gradient", first, inputs, checked, eps, rtol, atol)
    if order == 1:
        return True
    directions = [rng.standard_normal(inputs[i].shape) for i in checked]

    def second(points: list[Tensor]) -> Tensor:
        wanted = [points[i] for i in checked]
        gradients = grad(first(points), wanted, create_graph=True, allow_unused=True)
        parts = [np.sum(g * u) for g, u in zip(gradients, directions, strict=True) if g is not None]
        return sum(parts, start=Tensor(0.0))

    _compare("second derivative", second, inputs, checked, eps, rtol, atol)
    return True


def _result(f: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
    out = f(*inputs)
    if not isinstance(out, Tensor):
        raise TypeError(f"gradcheck: f is to give a Tensor, not {type(out).__name__}")
    return out


def _compare(
    what: str,
    scalar: Callable[[list[Tensor]], Tensor],
    inputs: list[Tensor],
    checked: list[int],
    eps: float,
    rtol: float,
    atol: float,
) -> None:
    value = scalar(inputs)
    wanted = [inputs[i] for i in checked]
    analytic = grad(value, wanted, allow_unused=True) if value.needs_grad else [None] * len(wanted)
    for i, by_rule in zip(checked, analytic, strict=True):
        x = inputs[i]
        difference = functools.partial(_difference, scalar, inputs, i)
        found = {index: difference(index, eps * max(1.0, abs(float(x.data[index])))) for index in np.ndindex(x.shape)}
        size = max((abs(numeric) for numeric, _ in found.values() if math.isfinite(numeric)), default=0.0)
        for index, (numeric, noise) in found.items():
            exact = 0.0 if by_rule is None else by_rule[index]
            if not abs(exact - numeric) <= rtol * abs(numeric) + atol * size + noise + _EPSILON:
                numeric, noise = _best(difference, index, x.data, eps)
            if not abs(exact - numeric) <= rtol * abs(numeric) + atol * size + noise + _EPSILON:
                raise GradcheckError(
                    f"{what} of input {i} (shape {x.shape}), element {index}: analytic {exact:.10g}, "
                    f"numeric {numeric:.10g}"
                )


def _best(difference: Callable[..., tuple[float, float]], index: tuple[int, ...], x: Any, eps: float) -> Any:
    """The difference quotient whose step, of several sizes, agrees best with half of it; and its noise."""
    sizes = {size for size in (1.0, abs(float(x[index])), float(np.abs(x).max())) if size}
    pairs = [(difference(index, eps * size), difference(index, eps * size / 2)) for size in sizes]
    return min(pairs, key=lambda pair: np.nan_to_num(abs(pair[0][0] - pair[1][0]) + pair[1][1], nan=math.inf))[1]


def _difference(
    scalar: Callable[[list[Tensor]], Tensor], inputs: list[Tensor], i: int, index: tuple[int, ...], h: float
) -> tuple[float, float]:
    """The central difference quotient with step h, and what rounding of the function may change it by."""

    def at(step: float) -> float:
        moved = np.array(inputs[i].data)
        moved[index] += step
        points = [*inputs[:i], Tensor(moved, requires_grad=True), *inputs[i + 1 :]]
        with np.errstate(all="ignore"):  # a step may leave the domain; a smaller one is tried then
            return scalar(points).item()

    above, below = at(h), at(-h)
    return (above - below) / (2 * h), _EPSILON * (abs(above) + abs(below)) / h
