"""From where training ended: the nearest critical point, its kind, how far and how much lower."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import critical, nn, optim, training


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def test_distance_gain_and_kind_by_the_formula():
    objective = mg.Objective(rosenbrock, [-1.2, 1.0])
    found = critical.nearest(objective)
    assert (found.point.kind, found.point.certified) == ("local minimum", True)
    np.testing.assert_allclose(found.point.theta, [1, 1], rtol=1e-9)
    assert found.distance == pytest.approx(2.2)
    assert found.gain == pytest.approx(24.2)
    assert str(found) == "24.2 above a local minimum (certified), 2.2 away"
    assert objective.theta.tolist() == [-1.2, 1.0]


def test_from_a_saddle_it_goes_down():
    found = critical.nearest(mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0]))
    assert (found.point.kind, found.gain) == ("local minimum", pytest.approx(1.0))


def test_separable_data_have_no_minimum():
    X, y = np.array([[-2.0], [-1.0], [1.0], [3.0]]), np.array([-1.0, -1.0, 1.0, 1.0])
    objective = mg.Objective(lambda w: np.mean(np.logaddexp(0, -y * (X @ w))), [0.5])
    assert "towards infinity" in str(critical.nearest(objective))


def test_the_end_of_a_training_is_a_little_above_a_minimum():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    model = nn.MLP((3, 4, 2), nn.Tanh, rng=0)

    def loss():
        return nn.cross_entropy(model(X), y) + 1e-2 * sum((p * p).sum() for p in model.parameters())

    objective = mg.Objective.of(model, loss)
    training.trajectory(objective, optim.Adam(model.parameters(), lr=1e-2), 1000)
    found = critical.nearest(objective)
    assert (found.point.kind, found.point.certified) == ("local minimum", True)
    assert 0 <= found.gain < 1e-2
    assert objective.value() - objective.value(found.point.theta) == pytest.approx(found.gain, abs=1e-12)


def test_what_is_no_objective():
    with pytest.raises(TypeError, match="nearest: an Objective is wanted"):
        critical.nearest(rosenbrock)


def test_a_certificate_says_what_it_has_survived():
    point = critical.classify(mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [1.0, 1.0]))
    told = " ".join(point.evidence)
    for word in ("Newton's steps", "eigenvalues in units of their own", "1 flat directions followed", "ways nearby"):
        assert word in told
    assert critical.classify(mg.Objective(rosenbrock, [0.0, 0.0])).evidence == ()
