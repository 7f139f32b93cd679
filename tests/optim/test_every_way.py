"""Every optimizer takes the same steps by its own step, by trajectory, by fit, and by fit compiled."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Objective, nn, optim, training
from microgradopt.optim.least_squares import LeastSquares

CLASSES = [
    cls for _, cls in inspect.getmembers(optim, inspect.isclass) if issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
]  # fmt: skip
STEPS = 6
rng = np.random.default_rng(0)
X = rng.normal(size=(24, 2))
y = np.tanh(X[:, :1]) - X[:, 1:]
OPTIONS = {
    "PerturbedGD": {"lr": 0.1},
    "Momentum": {"lr": 0.01},
    "SGD": {"lr": 0.1},
    "Muon": {"lr": 0.01},
    "SAM": {"lr": 0.1},
}


def start():
    return nn.MLP((2, 3, 1), nn.Tanh, rng=0)


def made(cls, model):
    return cls(model.parameters(), **OPTIONS.get(cls.__name__, {}))


def loss_of(cls):
    """For least squares methods, the residuals; they minimize half of the others' loss, times n."""
    return (lambda out, t: out - t) if issubclass(cls, LeastSquares) else nn.mse_loss


def by_step(cls):
    model, loss = start(), loss_of(cls)
    optimizer = made(cls, model)

    def closure():
        optimizer.zero_grad()
        value = loss(model(X), y)
        if not issubclass(cls, LeastSquares):
            value.backward()
        return value

    for _ in range(STEPS):
        if optimizer.wants_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    optimizer.eval()
    return model


def by_trajectory(cls, **options):
    model, loss = start(), loss_of(cls)
    kind = Objective.least_squares if issubclass(cls, LeastSquares) else Objective.of
    training.trajectory(kind(model, lambda: loss(model(X), y), **options), made(cls, model), STEPS)
    return model


def by_fit(cls, **options):
    model = start()
    training.fit(model, loss_of(cls), made(cls, model), X, y, epochs=STEPS, **options)
    return model


def theta(model):
    return np.concatenate([p.data.ravel() for p in model.parameters()])


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_all_ways_are_one(cls):
    expected = theta(by_step(cls))
    assert not np.array_equal(expected, theta(start()))
    for way in (by_trajectory, by_fit):
        for compiled in (None, mg.compile):
            np.testing.assert_allclose(theta(way(cls, compile=compiled)), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cls", [optim.Newton, optim.NewtonCG, optim.SaddleFreeNewton])
@pytest.mark.parametrize("compiled", [None, mg.compile])
def test_curvature_is_known_by_trajectory(cls, compiled):
    """Without it none of them gets to the end of Rosenbrock's valley in 60 steps."""
    objective = Objective(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, [-1.2, 1.0], compile=compiled)
    training.trajectory(objective, cls(objective.parameters), 60)
    np.testing.assert_allclose(objective.theta, [1.0, 1.0], atol=1e-6)


def test_newton_in_the_readme_moves_as_newton():
    """The README's own lines. Without the Hessian its 40 steps end where the gradient is not 0."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    before, line = re.search(
        r"^```python\n(.*?)^(training\.trajectory\(loss, optim\.Newton.*?)$", readme, re.S | re.M
    ).groups()
    names = {}
    exec(before, names)
    objective = names["loss"]
    first = objective.theta
    exec(line, names)
    end = objective.theta
    assert np.linalg.norm(objective.gradient()) < 1e-9

    objective.theta = first
    optimizer = optim.Newton(objective.parameters)

    def closure():
        optimizer.zero_grad()
        with objective.at() as loss:
            loss.backward()
        return loss

    for _ in range(40):
        optimizer.step(closure)
    np.testing.assert_allclose(end, objective.theta, rtol=1e-12, atol=1e-14)


def test_least_squares_need_residuals():
    model = start()
    with pytest.raises(TypeError, match=r"Objective\.least_squares"):
        training.trajectory(
            Objective.of(model, lambda: nn.mse_loss(model(X), y)), optim.GaussNewton(model.parameters()), 1
        )


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if issubclass(cls, LeastSquares)])
def test_a_loss_where_residuals_are_wanted_is_refused(cls):
    """It would be squared once more, and the history have ½ L² for L."""
    model = start()
    optimizer, before = cls(model.parameters()), theta(model)

    def loss():
        return nn.mse_loss(model(X), y)

    for ask in (
        lambda: optimizer.step(loss),
        lambda: training.fit(model, nn.mse_loss, optimizer, X, y, epochs=1),
        lambda: Objective.least_squares(model, loss).value(),
        lambda: training.trajectory(Objective.least_squares(model, loss), optimizer, 1),
    ):
        with pytest.raises(TypeError, match="residuals are wanted"):
            ask()
    np.testing.assert_array_equal(theta(model), before)


def test_the_history_of_least_squares_is_half_of_the_squares():
    model = start()
    first = 0.5 * np.sum((model(X).data - y) ** 2)
    history = training.fit(model, lambda out, t: out - t, optim.LevenbergMarquardt(model.parameters()), X, y, epochs=20)
    assert history.loss[0] == pytest.approx(first, rel=1e-14)
    assert history.loss[-1] < 0.1 * first


# A loss that does not depend on θ -------------------------------------------------------------------------------------


def another():
    model = start()
    return Objective.of(nn.MLP((2, 3, 1), nn.Tanh, rng=1), lambda: nn.mse_loss(model(X), y))


def without_graph():
    model = start()
    return Objective.of(model, lambda: mg.Tensor(float(np.sum(model(X).data))))


@pytest.mark.parametrize("make", [another, without_graph])
@pytest.mark.parametrize(
    "ask",
    [
        lambda o: o.gradient(), lambda o: o.value_and_gradient(), lambda o: o.hvp(np.ones(o.n)), lambda o: o.hessian(),
        mg.curvature.HessianOperator, mg.critical.classify, mg.critical.diagnose,
        lambda o: mg.critical.find(o, [o.theta]),
        lambda o: training.trajectory(o, optim.Adam(o.parameters), 1),
        lambda o: training.trajectory(o, optim.Newton(o.parameters), 1),
    ],
)  # fmt: skip
def test_a_loss_that_depends_on_no_parameter_is_an_error(make, ask):
    objective = make()
    before = objective.theta
    with pytest.raises(RuntimeError, match="does not depend on any of the 4 parameters"):
        ask(objective)
    np.testing.assert_array_equal(objective.theta, before)


def test_a_linear_loss_is_none():
    objective = Objective(lambda x: 2 * x[0], [1.0, 3.0])
    np.testing.assert_array_equal(objective.gradient(), [2.0, 0.0])
    np.testing.assert_array_equal(objective.hessian(), np.zeros((2, 2)))
    np.testing.assert_array_equal(Objective(lambda x: x[0], [1.0]).hvp([1.0]), [0.0])


@pytest.mark.parametrize("cls", [optim.Newton, optim.NewtonCG, optim.SaddleFreeNewton])
def test_a_closure_whose_loss_has_no_graph_is_refused(cls):
    """Its Hessian would be taken for 0."""
    w = mg.Tensor([0.5], requires_grad=True)
    optimizer = cls([w])

    def closure():
        w.grad = 2 * w.data
        return mg.Tensor(float((w.data**2).sum()))

    with pytest.raises(RuntimeError, match="graph"):
        optimizer.step(closure)
    assert w.data == [0.5]
