"""Symmetries: ways to move θ that leave the loss what it is, and so make flat directions that mean nothing.

Each family below is a guess from the shapes of the parameters. It is believed only after θ has been moved by it, far,
and the whole gradient has stayed zero. It names what flat.py finds by walking.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.autodiff import jacobian
from microgradopt.critical.local import Local
from microgradopt.tensor import Tensor
from microgradopt.vector import ParameterVector

Array = npt.NDArray[Any]

_SIZE = 0.5  # how far θ is moved to try a symmetry
_SHORT = 1e-2  # of the size of θ: a symmetry that moves it by less is not tried: x⁴ looks flat too, from nearby
_FEW = 12  # among so few parameters, all pairs are tried
_TERMS = 16  # of exp(t G) with ‖t G‖ ≤ ½: no more can be seen


class Family(NamedTuple):
    """Candidate symmetries of one kind: ``move(theta, t)`` is θ moved; t of shape (size,), and t = 0 moves nothing."""

    name: str
    size: int
    move: Callable[[Array, Any], Any]

    def generators(self, theta: Array) -> Array:
        """The directions in which θ starts to move, ∂move/∂t at t = 0: (n, size)."""
        t = Tensor(np.zeros(self.size, theta.dtype), requires_grad=True)
        return jacobian(self.move(theta, t), t)[0]


def symmetries(point: Local, rng: np.random.Generator) -> tuple[int, list[str]]:
    """How many flat directions of a critical point symmetries account for, and the families with how many each adds.

    A symmetry that hardly moves θ is left out.
    """
    directions, known = np.zeros((len(point.theta), 0)), 0
    added: Counter[str] = Counter()
    for family in _found(point, rng):
        moves = family.generators(point.theta.astype(float)) / point.units[:, None]
        lengths = np.linalg.norm(moves, axis=0)
        long = lengths >= _SHORT * (point.size or 1.0)
        directions = np.concatenate([directions, moves[:, long] / lengths[long]], axis=1)
        rank = int(np.linalg.matrix_rank(point.flat.T @ directions, tol=1e-6)) if directions.size else 0
        added[family.name] += rank - known
        known = rank
    return known, [f"{n} by {name}" for name, n in added.items() if n]


def _found(point: Local, rng: np.random.Generator) -> Iterator[Family]:
    """The families that move a critical point, and leave it critical."""
    theta = point.theta.astype(float)
    idle = np.logical_not(np.any(point.A, axis=1))
    if idle.any() and _is_without_effect(point, idle, rng):
        basis = np.eye(len(theta))[:, idle]
        name = "parameters without effect: dead units, inputs that are always 0"
        yield Family(name, basis.shape[1], lambda theta, t: theta + basis @ t)
    for family in _candidates(point.objective.vector, theta):
        step = (family.move(theta, rng.uniform(-_SIZE, _SIZE, family.size)) - theta) / point.units
        if np.linalg.norm(step) >= _SHORT * (point.size or 1.0):
            there = point.moved(step, rng)
            if there and np.isfinite(there.gradient).all() and there.rests_along(np.eye(len(theta))):
                yield family


# The candidates -------------------------------------------------------------------------------------------------------


def _candidates(vector: ParameterVector, theta: Array) -> Iterator[Family]:
    shapes = [parameter.shape for parameter in vector.parameters]
    matrices = [i for i, shape in enumerate(shapes) if len(shape) == 2]
    for i, j in itertools.permutations(matrices, 2):
        # Weights are (out, in), as in Linear, or (in, out), as in x @ w.
        for units_of_i, units_of_j in ((0, 1), (1, 0)):
            if shapes[i][units_of_i] == shapes[j][units_of_j]:
                yield from _between_layers(vector, i, j, units_of_i)
    for i, shape in enumerate(shapes):
        for axis in range(len(shape)):
            yield _shift(vector, i, axis)
    if len(theta) <= _FEW:
        basis = np.eye(len(theta))
        for a, b in itertools.combinations(basis, 2):
            yield _linear("rescaling of two factors, one by c and one by 1/c", np.outer(a, a) - np.outer(b, b))
            yield _linear("rotation of two parameters", np.outer(b, a) - np.outer(a, b))


def _between_layers(vector: ParameterVector, i: int, j: int, units: int) -> Iterator[Family]:
    """Weights i lead to hidden units (along their axis `units`), weights j lead on; biases of the units stand between.

    W₁ → M W₁, b → M b, W₂ → W₂ M⁻¹: any M where the units are linear, a positive diagonal one where they are relus.
    """
    size = vector.parameters[i].shape[units]
    biases = [k for k in range(min(i, j) + 1, max(i, j)) if vector.parameters[k].shape == (size,)]

    def moved(theta: Array, M: Any, inverse: Any) -> Any:
        parts: list[Any] = vector.split(theta)
        for k in biases:
            parts[k] = M @ parts[k]
        parts[i] = M @ parts[i] if units == 0 else parts[i] @ M.T
        parts[j] = parts[j] @ inverse if units == 0 else inverse.T @ parts[j]
        return _joined(parts)

    def mixed(theta: Array, t: Any) -> Any:
        M = np.eye(size) + np.reshape(t, (size, size)) / size
        return moved(theta, M, np.linalg.inv(M))

    def rescaled(theta: Array, t: Any) -> Any:
        return moved(theta, np.diag(np.exp(t)), np.diag(np.exp(-t)))

    yield Family("linear reparametrisation of a hidden layer", size * size, mixed)
    yield Family("rescaling of hidden units, inputs by c and outputs by 1/c", size, rescaled)


def _shift(vector: ParameterVector, i: int, axis: int) -> Family:
    """The same added to a tensor all along one axis: softmax does not see it when the axis is that of the classes."""
    shape = list(vector.parameters[i].shape)
    shape[axis] = 1

    def shifted(theta: Array, t: Any) -> Any:
        parts: list[Any] = vector.split(theta)
        parts[i] = parts[i] + np.reshape(t, shape)
        return _joined(parts)

    return Family("shift of all outputs, which softmax does not see", int(np.prod(shape)), shifted)


def _linear(name: str, G: Array) -> Family:
    """θ ↦ exp(t G) θ, by its power series."""

    def moved(theta: Array, t: Any) -> Any:
        term = total = theta
        for k in range(1, _TERMS):
            term = G @ term * (t / k)
            total = total + term
        return total

    return Family(name, 1, moved)


def _joined(parts: list[Any]) -> Any:
    return np.concatenate([np.ravel(part) for part in parts])


def _is_without_effect(point: Local, idle: Array, rng: np.random.Generator) -> bool:
    """Whether the idle parameters do nothing, to the last bit: neither to the loss nor to their own gradient.

    They are moved by little, as a dead unit may come to life when moved far.
    """
    moved = point.theta + np.where(idle, rng.uniform(-_SIZE, _SIZE, len(idle)) / 100, 0).astype(point.theta.dtype)
    value, gradient = point.objective.value_and_gradient(moved)
    return value == point.value * point.scale and not gradient[idle].any()
