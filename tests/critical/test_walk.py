"""From where training ended: the nearest critical point, its kind, how far and how much lower."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import critical, nn, optim, training
from microgradopt.critical import walk


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def test_distance_gain_and_kind_by_the_formula():
    objective = mg.Objective(rosenbrock, [-1.2, 1.0])
    found = critical.nearest(objective)
    assert (found.end, found.point.kind, found.point.certified) == ("critical", "local minimum", True)
    np.testing.assert_allclose(found.point.theta, [1, 1], rtol=1e-9)
    assert found.distance == pytest.approx(2.2)
    assert found.gain == pytest.approx(24.2)
    assert str(found) == "24.2 above a local minimum (certified), 2.2 away"
    assert objective.theta.tolist() == [-1.2, 1.0]


def test_from_a_saddle_it_goes_down():
    found = critical.nearest(mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0]))
    assert (found.end, found.point.kind, found.gain) == ("critical", "local minimum", pytest.approx(1.0))


def test_from_a_saddle_too_large_for_whole_hessians_it_goes_down():
    n = 401
    wells = mg.Objective(lambda w: np.sum(w[1:] ** 2) + (w[0] ** 2 - 1) ** 2, np.zeros(n))
    found = critical.nearest(wells)
    assert (found.point.kind, found.gain, found.distance) == ("local minimum", pytest.approx(1), pytest.approx(1))


# Towards infinity -----------------------------------------------------------------------------------------------------

LIMITS = {
    "two points that a line separates": (lambda w: np.logaddexp(0, -w[0]), 0.5),
    "the same from the wrong side": (lambda w: np.logaddexp(0, -w[0]), -50.0),
    "a limit that is not 0": (lambda w: 0.5 + np.exp(-w[0]), 0.5),
    "a slow fall": (lambda w: 1 / (1 + w[0]), 1.0),
    "no bound below": (lambda w: -w[0], 0.0),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_loss_that_falls_for_ever(name):
    f, start = LIMITS[name]
    objective = mg.Objective(lambda w: f(w) + 0.0, [start])
    found = critical.nearest(objective)
    assert found.end == "infinity"
    assert str(found).startswith("the loss falls towards infinity along this direction: ")
    np.testing.assert_allclose(found.direction, [1.0])
    origin = 0 if start > 0 else start  # along θ itself the way is longer, and leads lower
    points = [origin + t * (found.point.theta - origin) for t in (1, 2, 4)]
    np.testing.assert_allclose(found.falls, [f(each) for each in points], rtol=1e-9)
    assert found.falls[0] > found.falls[1] > found.falls[2]
    assert objective.theta.tolist() == [start]


def test_of_two_directions_the_one_that_leads_lower_is_told():
    """Straight on from the start the first margin shrinks, and the loss has a limit of 0.001; along θ both grow."""
    X = np.array([[1.0, 1.0], [1.0, -1.0]])
    found = critical.nearest(mg.Objective(lambda w: np.mean(np.logaddexp(0, -(X @ w))), [3.0, 2.9]))
    theta = found.point.theta
    np.testing.assert_allclose(found.direction, theta / np.linalg.norm(theta))
    np.testing.assert_allclose(found.falls, [np.mean(np.log1p(np.exp(-X @ (t * theta)))) for t in (1, 2, 4)])
    assert found.falls[2] < 1e-4


@pytest.mark.parametrize("decay", [1e-10, 1e-11, 1e-12])
def test_a_minimum_far_out_is_no_infinity(decay):
    found = critical.nearest(mg.Objective(lambda w: np.logaddexp(0, -w[0]) + decay * w[0] ** 2, [1.0]))
    assert found.end != "infinity"


def test_a_loss_that_overflows_downwards_raises_nothing():
    assert str(critical.nearest(mg.Objective(lambda x: -np.cosh(x[0]), [0.5])))


@pytest.mark.parametrize(("bump", "far"), [(2.5, False), (8.0, False), (64.0, False), (0.5, True)])
def test_a_loss_that_rises_again_on_the_way_does_not_fall_for_ever(bump, far):
    """The loss 1 + exp(−w), with a bump, from 1 to 1,024."""
    objective = mg.Objective(lambda w: 1 + np.exp(-w[0]) + 0.1 * np.exp(-((w[0] - bump) ** 2) * 8), [0.0])
    assert walk._falls(objective, np.zeros(1), np.ones(1)) is far


def test_a_saddle_without_a_floor():
    found = critical.nearest(mg.Objective(lambda w: w[0] ** 2 - w[1] ** 2, [0.0, 0.0]))
    assert found.end == "infinity"
    np.testing.assert_allclose(np.abs(found.direction), [0, 1], atol=1e-9)


ENDS = {
    "a minimum far away": (lambda w: (w[0] - 5000) ** 2, 1.0, 4999),
    "a ramp that ends at a minimum": (lambda w: np.logaddexp(0, 100 - w[0]) + 1e-3 * w[0] ** 2, 0.0, None),
    "points that no line separates": (lambda w: np.logaddexp(0, -w[0]) + np.logaddexp(0, w[0] * 2), 3.0, None),
    "a quartic": (lambda w: (w[0] - 40) ** 4 + (w[0] - 40) ** 2, 1.0, 39),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_falls_for_long_but_not_for_ever(name):
    f, start, distance = ENDS[name]
    found = critical.nearest(mg.Objective(f, [start]))
    assert (found.end, found.point.kind) == ("critical", "local minimum")
    assert distance is None or found.distance == pytest.approx(distance)


def test_where_the_floor_is_flat_nothing_falls_for_ever():
    assert critical.nearest(mg.Objective(lambda w: np.maximum(100 - w[0], 0), [0.0])).end != "infinity"
    rng = np.random.default_rng(7)
    start, data = 5 * rng.normal(size=2), rng.normal(size=(3, 2))
    hinge = mg.Objective(lambda w: (np.maximum(1 - data @ w, 0) ** 2).mean(), start)
    assert critical.nearest(hinge).end != "infinity", "0 is reached at 64 times the distance"


@pytest.mark.parametrize("seed", range(3))
def test_a_minimum_at_0_is_reached(seed):
    """Exactly: what is 1e-30 where it was 1 is no longer falling."""
    rng = np.random.default_rng(seed)
    A, start = rng.normal(size=(3, 3)), rng.normal(size=3)
    found = critical.nearest(mg.Objective(lambda w: ((A @ w) ** 2).sum(), start))
    assert (found.end, found.point.kind, found.point.certified) == ("critical", "local minimum", True)
    assert found.distance == pytest.approx(np.linalg.norm(start))


# On kinks, and in between ---------------------------------------------------------------------------------------------


def corner(w):
    return 0.5 + 3 * np.abs(w[0] - 1) + np.abs(w[1] + 2)


def test_lowest_on_its_kinks():
    objective = mg.Objective(corner, [0.3, 0.4])
    found = critical.nearest(objective)
    assert found.end == "kinks"
    np.testing.assert_allclose(found.point.theta, [1, -2], atol=1e-4)
    assert found.gain == pytest.approx(4.5, abs=1e-4)
    assert found.distance == pytest.approx(2.5, abs=1e-4)
    assert objective.value(found.point.theta) - 0.5 <= found.left <= 1e-2 * 0.5
    assert (
        f"lowest on its kinks: L-BFGS (300 iterations) and 300 samples nearby gain less than {found.left:.2g}"
        in str(found)
    )


def test_near_a_kink_is_on_it():
    """0.5 + |x − y²| + (y − 1)² / 10: along the kink the gradient does not vanish."""
    objective = mg.Objective(lambda w: 0.5 + np.abs(w[0] - w[1] ** 2) + 0.1 * (w[1] - 1) ** 2, [-0.7, 0.4])
    found = critical.nearest(objective)
    assert found.end == "kinks"  # whether it comes to the kink itself, or to a bit beside it, is up to rounding
    np.testing.assert_allclose(found.point.theta, [1, 1], atol=1e-2)
    assert objective.value(found.point.theta) - 0.5 < found.left == pytest.approx(5e-5, rel=1e-3)


def test_on_a_kink_without_a_gradient():
    found = critical.nearest(mg.Objective(lambda w: 1 + np.sqrt(np.abs(w[0])), [0.0]))
    assert (found.end, found.point.kind, found.distance, found.left) == ("kinks", "on a kink", 0, 1e-4)


def test_a_smooth_minimum_of_a_loss_with_kinks_is_a_minimum():
    found = critical.nearest(mg.Objective(lambda w: np.maximum(w[0], 0) ** 2 / 2 + (w[0] - 3) ** 2, [-1.0]))
    assert (found.end, found.point.certified) == ("critical", True)
    np.testing.assert_allclose(found.point.theta, [2])


def test_flat_where_little_is_left():
    objective = mg.Objective(lambda w: 1 + 1e-6 * rosenbrock(w), [-1.2, 1.0])
    found = critical.nearest(objective, max_iter=1)
    assert (found.end, found.left) == ("flat", pytest.approx(1e-4 * found.point.value))
    x, y = found.point.theta
    H = 1e-6 * np.array([[1200 * x**2 - 400 * y + 2, -400 * x], [-400 * x, 200]])
    assert f"flat to within 0.0001: λ_min = {np.linalg.eigvalsh(H)[0]:.2g}" in str(found)


def test_where_conjugate_gradients_have_not_arrived_whole_hessians_do():
    found = critical.nearest(mg.Objective(rosenbrock, [-1.2, 1.0]), max_iter=12)
    assert (found.end, found.point.certified) == ("critical", True)
    assert found.steps == 24


def test_a_constant_divisor_is_no_kink():
    """It is listed among the singular points, infinitely far away. On kinks L-BFGS would walk on."""
    objective = mg.Objective(
        lambda w: nn.mse_loss(np.stack([10 * (w[1] - w[0] ** 2), 1 - w[0]]), np.zeros(2)), [-1.2, 1]
    )
    assert critical.nearest(objective, max_iter=1).steps == 2


def test_still_falling_where_more_is_left():
    objective = mg.Objective(rosenbrock, [-1.2, 1.0])
    found = critical.nearest(objective, max_iter=1)
    assert (found.end, found.point.kind) == ("still falling", "not critical")
    assert found.left == pytest.approx(10 * objective.value(found.point.theta))  # as L-BFGS comes down to 0
    assert str(found).startswith("still falling: ")


def test_where_the_loss_is_0_to_rounding_nothing_falls_on():
    """It would fall for ever, as log(1 + exp(−w)) does, but for a wall at 100."""
    found = critical.nearest(mg.Objective(lambda w: np.log(1 + np.exp(-w[0])) + np.maximum(w[0] - 100, 0) ** 2, [0.5]))
    assert (found.end, found.point.value, found.left) == ("flat", 0, np.finfo(float).tiny)


@pytest.mark.parametrize("loss", [rosenbrock, corner, lambda w: np.logaddexp(0, -w[0] - w[1])])
def test_the_objective_stays_as_it_was_with_its_gradients(loss):
    objective = mg.Objective(loss, [-1.2, 1.0])
    (x,) = objective.parameters
    held = x.grad = np.array([7.0, 8.0])
    critical.nearest(objective)
    assert x.grad is held
    assert held.tolist() == [7, 8]
    assert x.data.tolist() == [-1.2, 1.0]
    assert critical.nearest(objective, [1.0, 1.0]).distance < 10
    assert x.data.tolist() == [-1.2, 1.0]


def test_a_verdict_that_is_not_critical_leads_there():
    assert "critical.nearest(objective)" in critical.classify(mg.Objective(rosenbrock, [-1.2, 1.0])).explanation
    assert "nearest" not in critical.classify(mg.Objective(rosenbrock, [1.0, 1.0])).explanation


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
