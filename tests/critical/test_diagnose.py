"""Diagnosis: right where the cause is known, and its advice helps. The runs are in planted.py."""

import numpy as np
import pytest
from planted import PLANTED, Run, confusion, gains, moons, outcome, run, waves

import microgradopt as mg
from microgradopt import Objective, critical, nn, optim
from microgradopt.optim.stability import step_scale
from microgradopt.training import History


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_planted_cause_is_found_and_the_advice_lowers_the_loss(planted):
    o = outcome(planted)
    assert o.right, str(o.diagnosis)
    assert o.helped
    assert o.diagnosis.evidence
    assert o.diagnosis.action


def test_table_counts_every_run():
    o = outcome(next(p for p in PLANTED if p.name == "lecture's net, towards the origin"))
    assert "| saddle point | · | 1 |" in confusion([o, o]).replace("| 2 |", "| 1 |")
    assert gains([o]).count("\n") == 2


@pytest.fixture
def half_trained():
    return run(lambda: nn.MLP((2, 8, 2), nn.Tanh, rng=0), nn.cross_entropy, moons, optim.SGD, 50, lr=0.5)()


def test_nothing_is_changed(half_trained):
    theta, state = half_trained.objective.theta, half_trained.optimizer.state_dict()
    half_trained.diagnose()
    np.testing.assert_array_equal(half_trained.objective.theta, theta)
    assert half_trained.optimizer.state_dict() == state
    assert len(half_trained.history) == 50


def test_without_optimizer_and_history_it_judges_the_point():
    assert critical.diagnose(Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0])).verdict == "saddle point"
    quadratic = Objective(lambda w: (w * w).sum() + 1, [0.0, 0.0])
    assert critical.diagnose(quadratic).verdict == "local minimum"
    quadratic.theta = [3.0, 1.0]
    assert critical.diagnose(quadratic).verdict == "still improving"


def test_a_history_may_be_any_record(half_trained):
    record = History()
    record.loss, record.gradient_norm = [1.0] * 50, [1e-9] * 50
    flat = Objective(lambda w: (w * w).sum() + 1, [0.0, 0.0])
    assert critical.diagnose(flat, history=record).verdict == "local minimum"


def test_where_numbers_stop_being_finite_is_said():
    x = mg.Tensor([-1.0], requires_grad=True)
    objective = Objective.of([x], lambda: np.log(x).sum())
    with np.errstate(all="ignore"):
        found = critical.diagnose(objective)
    assert found.verdict == "exploding"
    assert "first in log" in str(found)


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (optim.SGD, {}),
        (optim.SGD, {"momentum": 0.9}),
        (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
        (optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (optim.Momentum, {"momentum": 0.8}),
    ],
)
def test_limits_of_stability_are_exact_on_a_quadratic(optimizer, settings):
    """Just below the limit the iterates come to rest, just above they leave. Of the curvatures the largest decides."""
    curvatures = np.array([3.0, 1.0, 0.1])

    def ratio_and_sizes(lr):
        w = mg.Tensor(np.ones(3), requires_grad=True)
        descent = optimizer([w], lr=lr, **settings)
        scale = step_scale(descent, mg.objective.ParameterVector([w]))
        return (scale * curvatures).max(), sizes(descent, w, curvatures)

    limit = 1e-3 / ratio_and_sizes(1e-3)[0]
    assert ratio_and_sizes(0.98 * limit)[1][-1] < 1e-3
    assert ratio_and_sizes(1.02 * limit)[1].max() > 1e3


def sizes(descent, w, curvatures):
    """max |θ| along 3000 steps on the quadratic."""
    found = []
    for _ in range(3000):
        descent.zero_grad()
        (0.5 * curvatures * w * w).sum().backward()
        descent.step()
        found.append(np.abs(w.data).max())
        if found[-1] > 1e9:
            break
    return np.array(found)


@pytest.mark.parametrize(
    ("optimizer", "settings", "limit"),
    [
        (optim.Adam, {}, 38),
        (optim.AdamW, {"weight_decay": 0.0}, 38),
        (optim.Adam, {"betas": (0.5, 0.999)}, 6),
        (optim.RMSprop, {}, 2),
        (optim.RMSprop, {"momentum": 0.9}, 3.8),
    ],
)
def test_limits_of_those_that_divide(optimizer, settings, limit):
    """With σ held at ½ by a memory that hardly fades."""
    fading, t, curvature = 1e-12, 10**9, 3.0
    is_adam = issubclass(optimizer, optim.Adam | optim.AdamW)
    beta1 = settings.get("betas", (0.9,))[0]
    memory = {"betas": (beta1, 1 - fading)} if is_adam else {"alpha": 1 - fading}

    def ratio_and_sizes(lr):
        w = mg.Tensor([1.0], requires_grad=True)
        descent = optimizer([w], lr=lr, **{**settings, **memory, "eps": 0.0})
        w.grad = np.ones(1)
        descent.step()
        saved = descent.state_dict()
        saved["state"][0].update(t=t, v=np.full(1, 0.25 * (1 - (1 - fading) ** t if is_adam else 1)))
        saved["state"][0].update({key: np.zeros(1) for key in ("m", "b") if key in saved["state"][0]})
        descent.load_state_dict(saved)
        w.data = np.ones(1)
        scale = step_scale(descent, mg.objective.ParameterVector([w]))
        return scale[0] * curvature, sizes(descent, w, curvature)

    ratio, _ = ratio_and_sizes(1e-4)
    assert ratio == pytest.approx(1e-4 * curvature / 0.5 / limit, rel=1e-3)
    assert ratio_and_sizes(0.98e-4 / ratio)[1][-1] < 1e-3
    assert ratio_and_sizes(1.02e-4 / ratio)[1].max() > 100  # until σ has grown with it


def test_tensors_that_the_optimizer_does_not_have_do_not_count():
    w, v = mg.Tensor([1.0, 2.0], requires_grad=True), mg.Tensor([3.0], requires_grad=True)
    scale = step_scale(optim.SGD([v], lr=0.5), mg.objective.ParameterVector([w, v]))
    assert scale.tolist() == [0, 0, 0.25]
    assert step_scale(optim.Lion([v]), mg.objective.ParameterVector([w, v])) is None
    assert step_scale(optim.Adam([v]), mg.objective.ParameterVector([w, v])) is None  # no σ before a step


def test_layers_of_units():
    X, _ = moons()
    model = nn.MLP((2, 4, 3, 1), rng=0)
    _first, bias, *_ = model.parameters()
    bias.data = np.array([-50.0, 0.1, 0.2, -50.0])
    objective = Objective.of(model, lambda: model(X).sum())
    found = critical.layers(objective)
    assert [(layer.function, layer.units) for layer in found] == [("relu", 4), ("relu", 3)]
    assert found[0].stuck == 2
    assert str(found[0]) == "relu layer 0: 2 of 4 units dead"
    tanh = nn.MLP((1, 5, 1), nn.Tanh, rng=0)
    next(iter(tanh.parameters())).data = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    bias = list(tanh.parameters())[1]
    bias.data = np.array([50.0, 0, 0, 0, -50])
    x, _ = waves()
    assert critical.layers(Objective.of(tanh, lambda: tanh(x).sum()))[0].stuck == 2


def test_a_maximum_of_zero_is_a_relu():
    x = mg.Tensor(np.array([[-1.0, 2.0], [-3.0, 1.0]]), requires_grad=True)
    found = critical.layers(Objective.of([x], lambda: np.maximum(x, 0).sum()))
    assert [(layer.function, layer.units, layer.stuck) for layer in found] == [("relu", 2, 1)]


def test_run_is_deterministic():
    planted = next(p for p in PLANTED if p.verdict == "noise floor")
    assert str(planted.make().diagnose()) == str(planted.make().diagnose())
    assert isinstance(planted.make(), Run)


def test_an_optimizer_of_another_model(half_trained):
    other = nn.MLP((2, 8, 2), rng=5)
    with pytest.raises(ValueError, match="another model"):
        critical.diagnose(half_trained.objective, optim.SGD(other.parameters(), lr=0.1))
