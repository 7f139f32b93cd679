"""Symmetries: ways to move θ that leave the loss what it is, and so make flat directions that mean nothing.

Each family below is a guess from the shapes of the parameters. It is believed only after θ has been moved by it, far,
and the loss has stayed what it was. Along a symmetry a critical point belongs to a whole surface of critical points,
all equally high. If all flat directions lie in that surface and the curvature across it is positive, the point is a
minimum, though not a strict one (Morse-Bott lemma; Bott 1954).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.autodiff import jacobian
from microgradopt.objective import Objective, ParameterVector
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

_SIZE = 0.5  # how far θ is moved to try a symmetry
_ROUNDING = 1e5  # how many units of rounding may change the loss when θ is moved that far
_BLIND = 1e-4  # of the change that curvature would make: what rounding may be at most, for the trial to mean anything
_SHORT = 1e-2  # of the size of θ: a symmetry that moves it by less is not tried: x⁴ looks flat too, from nearby
_FEW = 12  # among so few parameters, all pairs are tried


class Family(NamedTuple):
    """Candidate symmetries of one kind: ``move(theta, t)`` is θ moved; t of shape (size,), and t = 0 moves nothing."""

    name: str
    size: int
    move: Callable[[Array, Any], Any]

    def generators(self, theta: Array) -> Array:
        """The directions in which θ starts to move, ∂move/∂t at t = 0: (n, size)."""
        t = Tensor(np.zeros(self.size, theta.dtype), requires_grad=True)
        return jacobian(self.move(theta, t), t)[0]


def symmetries(
    objective: Objective, theta: Array, idle: Array, norm: float, size: float, rng: np.random.Generator
) -> list[Family]:
    """The families under which the loss stays what it is, up to rounding.

    idle: which parameters seem to have no effect, boolean, (n,). norm: ‖H‖. size: of θ, what a long way is.
    """
    value = objective.value(theta)
    found = []
    if idle.any() and _without_effect(objective, theta, idle, value, rng):
        found.append(_translation("parameters without effect: dead units, inputs that are always 0", idle))
    for family in _candidates(objective.vector, theta):
        moved = family.move(theta, rng.uniform(-_SIZE, _SIZE, family.size))
        distance = float(np.linalg.norm(moved - theta))
        visible = norm * distance**2
        reach = _ROUNDING * float(np.finfo(theta.dtype).eps) * (abs(value) + visible)
        if distance >= _SHORT * size and reach <= _BLIND * visible and abs(objective.value(moved) - value) <= reach:
            found.append(family)
    return found


def explained(families: Sequence[Family], theta: Array, flat: Array, size: float) -> tuple[int, list[str]]:
    """How many of the flat directions the symmetries account for, and the families with how many each adds.

    flat: (n, k), an orthonormal basis of the flat directions. size: of θ; a symmetry that hardly moves it is left out.
    """
    shares, known = np.zeros((flat.shape[1], 0)), 0
    added: Counter[str] = Counter()
    for family in families:
        directions = family.generators(theta)
        lengths = np.linalg.norm(directions, axis=0)
        long = lengths >= _SHORT * size
        units = directions[:, long] / lengths[long]
        shares = np.concatenate([shares, flat.T @ units], axis=1)
        rank = int(np.linalg.matrix_rank(shares, tol=1e-6)) if shares.size else 0
        if rank > known:
            added[family.name] += rank - known
            known = rank
    return known, [f"{n} by {name}" for name, n in added.items()]


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
        for pair in itertools.combinations(range(len(theta)), 2):
            yield _rescaled_pair(*pair)
            yield _rotated_pair(*pair)


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


def _rescaled_pair(i: int, j: int) -> Family:
    def rescaled(theta: Array, t: Any) -> Any:
        n = len(theta)
        return theta * np.exp(t * (np.eye(n)[i] - np.eye(n)[j]))

    return Family("rescaling of two factors, one by c and one by 1/c", 1, rescaled)


def _rotated_pair(i: int, j: int) -> Family:
    def rotated(theta: Array, t: Any) -> Any:
        turned = np.eye(len(theta))[[i, j]]
        across = np.array([-theta[j], theta[i]]) @ turned
        along = np.array([theta[i], theta[j]]) @ turned
        return theta + (np.cos(t) - 1) * along + np.sin(t) * across

    return Family("rotation of two parameters", 1, rotated)


def _translation(name: str, which: Array) -> Family:
    basis = np.eye(len(which))[:, which]
    return Family(name, basis.shape[1], lambda theta, t: theta + basis @ t)


def _joined(parts: list[Any]) -> Any:
    return np.concatenate([np.ravel(part) for part in parts])


def _without_effect(objective: Objective, theta: Array, idle: Array, value: float, rng: np.random.Generator) -> bool:
    """Whether the idle parameters do nothing, to the last bit: neither to the loss nor to their own gradient.

    They are moved by little, as a dead unit may come to life when moved far.
    """
    moved = theta + np.where(idle, rng.uniform(-_SIZE, _SIZE, len(theta)) / 100, 0)
    new_value, gradient = objective.value_and_gradient(moved)
    return new_value == value and not gradient[idle].any()
