"""A training as a value: its updates are those of a loop by hand; copies with a change leave it as it is."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn, optim
from microgradopt.run import copied
from microgradopt.training import History, Run, batches, fit

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 3)), RNG.integers(0, 2, 30)


def network():
    return nn.MLP((3, 5, 2), nn.Tanh, rng=0)


def run_of(model, batch_size=None, lr=0.1, **settings):
    return Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=lr), X, Y, batch_size, rng=1, **settings)


def theta(model):
    return np.concatenate([p.data.ravel() for p in model.parameters()])


def test_updates_are_those_of_a_loop_by_hand():
    run, model = run_of(network(), 8), network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    rng = np.random.default_rng(1)
    for _ in range(2):
        for x, y in batches(X, Y, 8, rng):
            optimizer.zero_grad()
            nn.cross_entropy(model(x), y).backward()
            optimizer.step()
    np.testing.assert_array_equal(theta(run.train(8).model), theta(model))
    again = network()
    fit(again, nn.cross_entropy, optim.SGD(again.parameters(), lr=0.1), X, Y, 2, 8, rng=1)
    np.testing.assert_array_equal(theta(again), theta(model))


def test_train_goes_on_within_an_epoch():
    one, two = run_of(network(), 8).train(7), run_of(network(), 8).train(3).train(4)
    np.testing.assert_array_equal(theta(one.model), theta(two.model))


def test_how_far_an_update_moves_is_recorded():
    run = run_of(network())
    before = theta(run.model)
    run.train(1)
    assert run.step_norm == [pytest.approx(np.linalg.norm(theta(run.model) - before))]
    assert run.step_norm[0] == pytest.approx(0.1 * run.gradient_norm[0])


def test_clipping_bounds_the_step_and_not_the_record():
    run = run_of(network(), max_norm=1e-3).train(3)
    np.testing.assert_allclose(run.step_norm, 1e-4)
    assert min(run.gradient_norm) > 0.01
    model = network()
    with pytest.raises(ValueError, match="LBFGS evaluates the loss itself; max_norm would not clip"):
        Run(model, nn.cross_entropy, optim.LBFGS(model.parameters()), X, Y, max_norm=1.0)


def test_the_validation_loss_is_measured_after_each_epoch():
    model = network()
    run = fit(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1), X, Y, 2, 10, validation=(X[:5], Y[:5]))
    assert np.isnan(run.validation_loss).tolist() == [True, True, False] * 2
    assert run.validation_loss[-1] == nn.cross_entropy(model(X[:5]), Y[:5]).item()


def test_a_history_goes_on_in_a_run():
    model, history = network(), History()
    history.append(1.0, 2.0, 0.1, 0.0)
    run = run_of(model, history=history).train(2)
    assert len(history) == len(run) == 3
    assert run.loss is history.loss
    assert bool(run_of(model))


def test_it_ends_where_a_number_is_not_finite():
    model = nn.Linear(3, 1, rng=0)
    run = Run(model, nn.mse_loss, optim.SGD(model.parameters(), lr=1e200), X, X[:, :1])
    with np.errstate(all="ignore"):
        run.train(10)
        assert "the loss is inf" in run.stopped
        assert len(run) < 10
        with pytest.raises(mg.NonFiniteError):
            run.update(X, X[:, :1])


def test_a_changed_copy_shares_the_parameters_and_leaves_the_rest():
    run = run_of(network(), 8).train(4)
    state, n = run.optimizer.state_dict(), len(run)
    with run.vector.copied():
        other = run.changed(batch_size=None).train(5)
        assert other.model is run.model
        assert len(other) == 5
    assert (len(run), run.batch_size, run.optimizer.state_dict()) == (n, 8, state)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.RMSprop, optim.LBFGS, optim.Newton, optim.SAM])
def test_a_copied_optimizer_goes_on_as_the_original(kind):
    if kind is optim.SAM:
        model = network()
        run = Run(model, nn.cross_entropy, kind(model.parameters(), lr=0.1), X, Y, rng=0).train(3)
    else:
        model = network()
        run = Run(model, nn.cross_entropy, kind(model.parameters()), X, Y, rng=0).train(3)
    at = theta(model)
    with run.vector.copied():
        run.changed(copied(run.optimizer)).train(3)
        there = theta(model)
    np.testing.assert_array_equal(theta(model), at)
    np.testing.assert_array_equal(theta(run.train(3).model), there)


def test_of_an_objective():
    valley = mg.Objective(lambda w: w[0] ** 2 + 10 * w[1] ** 2, [1.0, 1.0])
    run = Run.of(valley, optim.SGD(valley.parameters, lr=0.05)).train(1)
    np.testing.assert_allclose(valley.theta, [0.9, 0.0])
    assert (run.value(), run.loss) == (pytest.approx(0.81), [11.0])


def test_residuals_and_other_methods_have_the_same_loss():
    x = np.linspace(-2, 2, 20)[:, None]
    model = nn.MLP((1, 4, 1), nn.Tanh, rng=0)
    fitted = Run(model, lambda out, y: out - y, optim.LevenbergMarquardt(model.parameters()), x, np.sin(x))
    half = 0.5 * np.sum((model(x).data - np.sin(x)) ** 2)
    assert fitted.value() == pytest.approx(half)
    descent = fitted.changed(optim.SGD(model.parameters(), lr=1e-3))
    assert descent.value() == pytest.approx(half)
    assert descent.train(1).loss == [pytest.approx(half)]
    assert fitted.train(5).value() < half / 2


def test_wrong_arguments():
    model = network()
    with pytest.raises(TypeError, match="optimizer is to be an Optimizer"):
        Run(model, nn.cross_entropy, 5, X, Y)
    with pytest.raises(ValueError, match="moves none of these parameters"):
        Run(model, nn.cross_entropy, optim.SGD(network().parameters()), X, Y)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_norms_of_float32_are_computed_in_float64(size):
    """Their squares are 0 or infinite in float32: a norm of 0, or the end of a training that was all right."""
    line = mg.Objective(lambda w: (w * np.float32(size)).sum(), np.ones(2, np.float32))
    run = Run.of(line, optim.SGD(line.parameters, lr=float(1 / size))).train(1)
    assert run.stopped == ""
    assert run.gradient_norm == [pytest.approx(size * 2**0.5, rel=1e-6)]
    np.testing.assert_allclose(line.theta, 0.0, atol=1e-6)


def test_a_least_squares_method_wants_an_objective_with_residuals():
    bowl = mg.Objective(lambda w: (w * w).sum(), [1.0, 1.0])
    with pytest.raises(TypeError, match=r"Objective\.least_squares"):
        Run.of(bowl, optim.LevenbergMarquardt(bowl.parameters))
    with pytest.raises(TypeError, match="optimizer is to be an Optimizer"):
        Run.of(bowl, 5)
