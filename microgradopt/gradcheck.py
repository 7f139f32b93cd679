"""gradcheck: are the derivatives right? Asked of central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from microgradopt.autodiff import grad, listed_tensors
from microgradopt.errors import GradcheckError
from microgradopt.tensor import Tensor


def gradcheck(
    f: Callable[..., Tensor],
    inputs: Tensor | Sequence[Tensor],
    order: int = 2,
    eps: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    rng: np.random.Generator | None = None,
) -> bool:
    """Compare the derivatives of f with central differences; True, or an error that says where they part.

    f: takes the inputs, gives a tensor of any shape. inputs: float64 tensors; those that require a gradient are
    checked, element by element. order: 1 checks gradients, 2 also the gradients of gradients. eps: the step.

    With a random cotangent w the first order compares ∇(w·f) with (w·f(x + εe) − w·f(x − εe)) / 2ε; the second does
    the same with u·∇(w·f) for a random u. rng: where w and u come from; by default a fixed seed.

    Raises GradcheckError naming the input, the element, the analytic and the numeric value; ValueError for inputs that
    are not float64.
    """
    inputs = listed_tensors("gradcheck", inputs)
    rng = np.random.default_rng(0) if rng is None else rng
    checked = [i for i, x in enumerate(inputs) if x.needs_grad]
    if not checked or any(inputs[i].dtype != np.float64 for i in checked):
        raise ValueError("gradcheck: wants inputs that require a gradient, all float64")
    weight = rng.standard_normal(f(*inputs).shape)

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
        exact = np.zeros(x.shape) if by_rule is None else by_rule
        for index in np.ndindex(x.shape):
            numeric = _central_difference(scalar, inputs, i, index, eps)
            if not abs(exact[index] - numeric) <= atol + rtol * abs(numeric):
                raise GradcheckError(
                    f"{what} of input {i} (shape {x.shape}), element {index}: analytic {exact[index]:.10g}, "
                    f"numeric {numeric:.10g}"
                )


def _central_difference(
    scalar: Callable[[list[Tensor]], Tensor], inputs: list[Tensor], i: int, index: tuple[int, ...], eps: float
) -> float:
    def at(step: float) -> float:
        moved = np.array(inputs[i].data)
        moved[index] += step
        points = [*inputs[:i], Tensor(moved, requires_grad=True), *inputs[i + 1 :]]
        return scalar(points).item()

    return (at(eps) - at(-eps)) / (2 * eps)
