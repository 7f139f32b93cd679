"""The way out of a point: how far it goes, in any units, and where it ends."""

import numpy as np
import pytest
from truths import HIMMELBLAU, himmelblau, lecture

from microgradopt import Objective, critical


def monkey(p):
    return p[0] ** 3 - 3 * p[0] * p[1] ** 2


@pytest.mark.parametrize("unit", [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("saddle", HIMMELBLAU["saddle point"])
def test_units_change_nothing(saddle, unit):
    """The oracle is the same escape in units of 1: the same place, the same decrease."""
    plain = critical.classify(Objective(himmelblau, saddle), saddle).escape()
    other = critical.classify(Objective(lambda p: himmelblau(p / unit), np.array(saddle) * unit)).escape()
    assert other.measured == pytest.approx(plain.measured, rel=1e-3)
    assert other.step == pytest.approx(plain.step * unit, rel=1e-2)
    assert other.ended == plain.ended == ""


@pytest.mark.parametrize("unit", [1e-20, 1e-12, 1e-6, 1.0, 1e3])
def test_from_the_origin(unit):
    """(1 − w₁ w₂)² along (1, 1)/√2: lowest at √2, and by 1. At the origin nothing but the loss tells a length."""
    way = critical.classify(Objective(lambda w: lecture(w / unit), [0.0, 0.0])).escape()
    assert way.step == pytest.approx(2**0.5 * unit, rel=1e-3)
    assert way.measured == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    "f",
    [monkey, lambda p: -(p[0] ** 2) + 0 * p[1], lambda p: p[0] ** 2 - p[1] ** 2, lambda p: -np.cosh(p[0]) - p[1] ** 2],
)
@pytest.mark.parametrize("theta", [[0.0, 0.0], [1e-9, 0.0]])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_loss_without_a_lowest_point_is_not_followed_forever(f, theta, seed):
    point = critical.classify(Objective(f, theta), gradient_tolerance=1e-6)
    way = point.escape(rng=seed)
    assert 0 < way.measured < np.inf
    assert way.step <= 2000
    assert way.ended
    assert way.ended in str(way)


def test_overflow_is_said():
    way = critical.classify(Objective(lambda p: -np.exp(p[0] ** 2), [0.0])).escape()
    assert np.isfinite(way.value)
    assert way.ended == "at twice that step the loss is not finite"


def test_a_curvature_that_can_hardly_be_seen():
    """The curvature is −2e-160, and a step of 1e72 changes the loss by its last bit."""
    hill = Objective(lambda x: np.exp(-((x[0] / 1e80) ** 2)), [0.0])
    way = critical.classify(hill).escape()
    assert way.measured > 0
    assert critical.diagnose(Objective(lambda x: np.exp(-((x[0] / 1e80) ** 2)), [1e80])).verdict
