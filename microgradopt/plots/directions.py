"""Directions and planes in parameter space to draw along."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.objective import Objective

Array = npt.NDArray[Any]


def filter_normalised(objective: Objective, rng: np.random.Generator | int | None = 0) -> Array:
    """A random direction, (n,), in which every unit's weights move in proportion to their own size.

    Each row of a weight matrix (what leads to one unit) is scaled to the norm that it has in θ; biases do not move. Two
    networks that are the same function after rescaling a layer then look the same. Li et al. 2018, section 4.

    >>> import microgradopt as mg
    >>> W = mg.Tensor(np.eye(2), requires_grad=True)
    >>> objective = mg.Objective.of([W], lambda: np.sum(W * W))
    >>> np.linalg.norm(filter_normalised(objective).reshape(2, 2), axis=1).round(6)
    array([1., 1.])
    """
    rng = np.random.default_rng(rng)
    parts = []
    for parameter in objective.parameters:
        random = rng.normal(size=parameter.shape)
        in_row = tuple(range(1, parameter.ndim))
        own, size = (np.sqrt(np.sum(x * x, axis=in_row, keepdims=True)) for x in (parameter.data, random))
        parts.append(random * own / size if parameter.ndim > 1 else np.zeros_like(random))
    return objective.vector.join(parts)


def principal_axes(thetas: npt.ArrayLike) -> tuple[Array, tuple[Array, Array], float]:
    """The plane in which a trajectory moves most: its centre (n,), two orthonormal axes, and their share of ‖θ − θ̄‖².

    thetas: (steps, n), at least three steps of two parameters. Random planes show nothing of a trajectory, as in many
    dimensions a random direction is orthogonal to it. Li et al. 2018, section 7.

    >>> principal_axes([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 2.0, 0.0]])[2]
    1.0
    """
    thetas = np.asarray(thetas)
    centre = thetas.mean(axis=0)
    _, sizes, axes = np.linalg.svd(thetas - centre, full_matrices=False)
    share = float(np.sum(sizes[:2] ** 2) / np.sum(sizes**2))
    return centre, (axes[0], axes[1]), share


def on_plane(thetas: npt.ArrayLike, origin: Array, plane: tuple[Array, Array]) -> Array:
    """Where points of Rⁿ, (steps, n), lie on a plane: (steps, 2), the coordinates of the nearest points on it.

    >>> on_plane([[1.0, 2.0, 3.0]], np.zeros(3), (np.eye(3)[0], np.eye(3)[1])).round(6)
    array([[1., 2.]])
    """
    return np.linalg.lstsq(np.stack(plane, axis=1), (np.asarray(thetas) - origin).T)[0].T
