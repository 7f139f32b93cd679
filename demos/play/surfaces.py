"""The losses of the playground: functions of two parameters, and two nets that train on real or made-up data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab import Data, digits, moons

import microgradopt as mg
from microgradopt import Objective, nn

# The lecture's ten points: CP before and after evolution, y = b + w x.
X_LECTURE = (338, 333, 328, 207, 226, 25, 179, 60, 208, 606)
Y_LECTURE = (640, 633, 619, 393, 428, 27, 193, 66, 226, 1591)


@dataclass(frozen=True)
class Net:
    """A classifier: layers with tanh between them, trained with cross-entropy. samples: gives the data."""

    layers: tuple[int, ...]
    samples: Callable[[], Data]

    @property
    def is_plane(self) -> bool:
        """Whether its inputs are points of a plane, so that the decision boundary can be drawn."""
        return self.layers[0] == 2

    def model(self, seed: float) -> nn.MLP:
        """With weights drawn from this seed."""
        return nn.MLP(self.layers, nn.Tanh, rng=int(seed))


@dataclass(frozen=True)
class Surface:
    """A loss to walk on.

    f: of two parameters, a Tensor of shape (2,) or a grid of shape (2, rows, columns); or else net. formula: in TeX.
    start: θ⁰; for a net, the seed of its weights. names: of the parameters, in TeX. extent: of the picture. rates: a
    learning rate that does for gradient descent, for the optimizers that divide by σ, and for Lion. updates: how many
    show something.
    """

    formula: str
    f: Callable[[Any], Any] | None = None
    start: tuple[float, ...] = (0.0,)
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0)
    names: tuple[str, str] = ("w_1", "w_2")
    rates: tuple[float, float, float] = (0.05, 0.05, 0.02)
    updates: int = 100
    net: Net | None = None


def squared_error(w: Any) -> Any:
    """The lecture's regression: the sum of squared errors of y = b + w x on the ten points. w holds b and w."""
    return sum((y - (w[0] + w[1] * x)) ** 2 for x, y in zip(X_LECTURE, Y_LECTURE, strict=True))


def surfaces() -> dict[str, Surface]:
    """What there is to choose from."""
    return {
        "The lecture's net": Surface(
            r"L = (1 - w_1 w_2)^2", lambda w: (1 - w[0] * w[1]) ** 2, (1.6, -1.4), (-2.2, 2.2, -2.2, 2.2)
        ),
        "The lecture's regression": Surface(
            r"L = \sum_n (y_n - b - w x_n)^2", squared_error, (-120.0, -4.0), (-210.0, -90.0, -5.0, 5.0),
            ("b", "w"), (5e-7, 1.0, 0.5), 300,
        ),
        "Himmelblau": Surface(
            r"L = (w_1^2 + w_2 - 11)^2 + (w_1 + w_2^2 - 7)^2",
            lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2,
            (-0.4, -1.2), (-5.0, 5.0, -5.0, 5.0), rates=(0.005, 0.1, 0.05),
        ),
        "Rosenbrock": Surface(
            r"L = (1 - w_1)^2 + 100 (w_2 - w_1^2)^2",
            lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2,
            (-1.2, 1.0), (-2.0, 2.0, -1.0, 3.0), rates=(5e-4, 0.05, 0.02), updates=300,
        ),
        "Beale": Surface(
            r"\begin{aligned} L ={}& (1.5 - w_1 + w_1 w_2)^2 \\ &+ (2.25 - w_1 + w_1 w_2^2)^2 \\ "
            r"&+ (2.625 - w_1 + w_1 w_2^3)^2 \end{aligned}",
            lambda w: sum((c - w[0] + w[0] * w[1] ** k) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
            (-1.0, 1.5), (-4.5, 4.5, -2.5, 2.5), rates=(0.005, 0.05, 0.02), updates=300,
        ),
        "Monkey saddle": Surface(
            r"L = w_1^3 - 3 w_1 w_2^2", lambda w: w[0] ** 3 - 3 * w[0] * w[1] ** 2, (1.0, 0.01), (-1.5, 1.5, -1.5, 1.5)
        ),
        "Two moons net": Surface(
            r"L = -\tfrac{1}{200} \sum_n \ln p_\theta(y_n \mid x_n)", rates=(0.5, 0.05, 0.01), updates=200,
            names=(r"\theta_i", r"\theta_j"), net=Net((2, 8, 2), lambda: moons(0, 200)),
        ),
        "Digits net": Surface(
            r"L = -\tfrac{1}{300} \sum_n \ln p_\theta(y_n \mid x_n)", rates=(0.5, 0.01, 0.002),
            names=(r"\theta_i", r"\theta_j"), net=Net((64, 16, 10), lambda: digits(0, train=300)[0]),
        ),
    }  # fmt: skip


def objective_of(name: str, start: tuple[float, ...]) -> Objective:
    """The loss, at its start: two parameters; or, for a net, (seed,) of the weights."""
    surface = surfaces()[name]
    if surface.net is None:
        return Objective(surface.f, list(start), compile=mg.compile)
    model, data = surface.net.model(start[0]), surface.net.samples()
    return Objective.of(model, lambda: nn.cross_entropy(model(data.X), data.y), compile=mg.compile)
