"""Stuck runs, as a new user would write them: the cause is named, tried, and its cure helps; nothing misleads.

The runs here are few and each for a sentence of its own. How often the diagnosis is right is measured by the runs of
tests/faults.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine, make_moons

import microgradopt as mg
from microgradopt import critical, nn, optim
from microgradopt.diagnosis.reading import Reading
from microgradopt.training import History, Run, fit, gradient_norm

DIGITS = load_digits(return_X_y=True)
X, Y = DIGITS[0][:200] / 16, DIGITS[1][:200]
XM, YM = make_moons(200, noise=0.1, random_state=3)
BUDGET = 1440  # of updates, where nothing else is wanted: 60 for each experiment


def by_hand(model, loss, optimizer, x, y, updates, batch=None, before_step=None, clear=True, budget=BUDGET):
    """Somebody's own loop, and the diagnosis by objective, optimizer and history."""
    rng, history = np.random.default_rng(0), History()
    for _ in range(updates):
        rows = slice(None) if batch is None else rng.permutation(len(x))[:batch]
        if clear:
            optimizer.zero_grad()
        value = loss(model(x[rows]), y[rows])
        value.backward()
        norm = gradient_norm(model.parameters())
        if before_step:
            before_step()
        history.append(value.item(), norm, optimizer.lr, 0.0)
        if not (np.isfinite(value.item()) and np.isfinite(norm)):
            break
        optimizer.step()
    return critical.diagnose(mg.Objective.of(model, lambda: loss(model(x), y)), optimizer, history, budget=budget)


# Own loops ------------------------------------------------------------------------------------------------------------


def faded():
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    optimizer = optim.SGD(model.parameters(), lr=optim.schedules.Exponential(0.1, 0.8))
    return by_hand(model, nn.cross_entropy, optimizer, X, Y, 150, budget=None)


def ended():
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    optimizer = optim.Adam(model.parameters(), lr=optim.schedules.Cosine(1e-3, 100))
    return by_hand(model, nn.cross_entropy, optimizer, X, Y, 250)


def clipped():
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    parameters = list(model.parameters())
    optimizer = optim.SGD(parameters, lr=0.1)
    clip = lambda: optim.clip_grad_norm(parameters, 1e-3)  # noqa: E731
    return by_hand(model, nn.cross_entropy, optimizer, X, Y, 100, before_step=clip, budget=None)


def decayed():
    model = nn.MLP((64, 32, 10), nn.ReLU, rng=0)
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=1.0)
    return by_hand(model, nn.cross_entropy, optimizer, X, Y, 300)


def forgotten():
    model = nn.MLP((64, 32, 10), nn.Tanh, rng=0)
    optimizer = optim.SGD(list(model.parameters())[-1:], lr=0.1)
    return by_hand(model, nn.cross_entropy, optimizer, X, Y, 300)


def nan_in_an_input():
    x = X.copy()
    x[17, 3] = np.nan
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    return by_hand(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1), x, Y, 5)


def softmax_of_one():
    model = nn.Sequential(nn.Linear(2, 8, rng=0), nn.Tanh(), nn.Linear(8, 1, rng=1), nn.Softmax())
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    return by_hand(model, nn.mse_loss, optimizer, XM, YM[:, None].astype(float), 200)


def softmax_twice():
    model = nn.Sequential(nn.Linear(64, 16, rng=0), nn.Tanh(), nn.Linear(16, 10, rng=1), nn.Softmax())
    return by_hand(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=1e-2), X, Y, 800)


def all_weights_the_same():
    model = nn.MLP((2, 8, 2), nn.Tanh, rng=0)
    for p in model.parameters():
        p.data = np.full(p.shape, 0.1)
    return by_hand(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=1e-2), XM, YM, 1000, budget=None)


def unlike_scales():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) * [1, 1000, 0.01] + [0, 5000, 0]
    y = np.sin(x[:, :1]) + (x[:, 1:2] - 5000) / 1000 + 100 * x[:, 2:]
    model = nn.MLP((3, 32, 1), nn.ReLU, rng=0)
    return by_hand(model, nn.mse_loss, optim.Adam(model.parameters(), lr=1e-3), x, y, 480, batch=50)


def mean_of_the_digits():
    model = nn.MLP((64, 32, 8, 32, 64), nn.Sigmoid, rng=0)
    return by_hand(model, nn.mse_loss, optim.SGD(model.parameters(), lr=0.1), X, X, 280, batch=64)


def targets_in_a_row():
    x = np.linspace(-2, 2, 80)[:, None]
    model = nn.MLP((1, 16, 1), nn.Tanh, rng=0)
    squares = lambda out, t: np.mean((out - t) ** 2)  # noqa: E731
    return by_hand(model, squares, optim.Adam(model.parameters(), lr=1e-2), x, np.sin(2 * x[:, 0]), 800)


class Detached(nn.Module):
    def __init__(self):
        self.first, self.last = nn.Linear(2, 8, rng=0), nn.Linear(8, 2, rng=1)

    def forward(self, x):
        return self.last(np.tanh(self.first(x)).detach())


def detached():
    model = Detached()
    return by_hand(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=1e-2), XM, YM, 400)


def uphill():
    model = nn.MLP((2, 8, 2), nn.Tanh, rng=0)
    return by_hand(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1, maximize=True), XM, YM, 300)


def one_row():
    model = nn.MLP((2, 8, 2), nn.Tanh, rng=0)
    x = np.repeat(XM[:1], 200, axis=0)
    return by_hand(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=1e-2), x, YM, 400)


def never_cleared():
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    return by_hand(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.05), X, Y, 100, clear=False)


def learnt():
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=(40, 2)) - 4, rng.normal(size=(40, 2)) + 4]
    model = nn.MLP((2, 8, 2), nn.Tanh, rng=0)
    return by_hand(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=0.1), x, np.repeat([0, 1], 40), 800)


def wine_in_batches():
    wine = load_wine()
    x = (wine.data - wine.data.mean(0)) / wine.data.std(0)
    model = nn.MLP((13, 16, 3), nn.ReLU, rng=0)
    return by_hand(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1), x, wine.target, 200, batch=16)


@pytest.mark.parametrize(
    ("run", "verdict", "says"),
    [
        (faded, "schedule has ended", "from 0.1 to"),
        (ended, "schedule has ended", "from 0.001 to 0"),
        (clipped, "clipping", "is clipped to 0.001"),
        (decayed, "weight decay", "weight_decay = 1 pulls"),
        (forgotten, "parameters not in the optimizer", "3 of 4 tensors, 2,400 of 2,410 parameters"),
        (nan_in_an_input, "numbers not finite in the data", "[17, 3] = nan"),
        (softmax_of_one, "softmax over one unit", "always 1"),
        (softmax_twice, "softmax before the loss", "each row of the output sums to 1"),
        (all_weights_the_same, "identical units", "the 8 units of layer 0 have 1 different sets of weights"),
        (unlike_scales, "inputs of unlike scale", "standard deviations from 0.00"),
        (mean_of_the_digits, "vanishing gradient", "the network knows only the mean"),
        (targets_in_a_row, "outputs and targets broadcast", "(80, 1) and (80,) gives (80, 80)"),
        (detached, "parameters without gradient", "no gradient reaches first.weight, first.bias"),
        (uphill, "gradient ascent", "maximize=True"),
        (one_row, "all inputs the same", "200 times the same row"),
        (never_cleared, "gradients not cleared", "older gradients are added up"),
        (learnt, "separable data", "accuracy 100%"),
        (wine_in_batches, "healthy", "of the way to"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_the_cause_is_named(run, verdict, says):
    found = run()
    assert found.verdict == verdict, str(found)
    assert any(says in line for line in found.evidence), found.evidence
    assert found.action


def test_full_batches_have_no_noise():
    model = nn.MLP((64, 1, 32, 10), nn.Tanh, rng=0)
    found = by_hand(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=1e-2), X, Y, 300)
    assert found.verdict != "noise of the batches"
    assert not any(row.cause == "noise of the batches" for row in found.considered)


# The principle --------------------------------------------------------------------------------------------------------


def digits_run(updates=200, **settings):
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    optimizer = settings.pop("optimizer", optim.SGD)(model.parameters(), **{"lr": 0.1, **settings})
    return Run(model, nn.cross_entropy, optimizer, X, Y, batch_size=32, rng=0).train(updates)


def test_nothing_is_changed():
    run = digits_run(50, momentum=0.9)
    theta, state, n = run.objective.theta, run.optimizer.state_dict(), len(run)
    gradients = [np.array(p.grad) for p in run.vector.parameters]
    critical.diagnose(run, budget=480)
    np.testing.assert_array_equal(run.objective.theta, theta)
    for before, after in zip(state["state"], run.optimizer.state_dict()["state"], strict=True):
        for key in before:
            np.testing.assert_array_equal(before[key], after[key])
    assert len(run) == n
    for before, parameter in zip(gradients, run.vector.parameters, strict=True):
        np.testing.assert_array_equal(before, parameter.grad)


def test_the_same_twice():
    first, second = (str(critical.diagnose(digits_run(lr=1e-5), budget=240)) for _ in range(2))
    assert first == second


def test_a_cure_is_a_run_that_does_better():
    run = digits_run(lr=1e-5)
    found = critical.diagnose(run, budget=BUDGET)
    assert found.verdict == "learning rate too small"
    assert found.lr in [trial.lr for trial in found.trials]  # any number that is advised was tried
    theta, before = run.vector.theta().copy(), run.changed().train(200).value()
    run.objective.theta = theta
    cured = found.cure()
    assert cured.optimizer.lr == pytest.approx(found.lr)
    assert cured.train(200).value() < 0.9 * before
    assert run.optimizer.lr == 1e-5  # the cure has a copy


def test_every_trial_is_listed_and_each_cause_has_its_row():
    found = critical.diagnose(digits_run(lr=1e-5), budget=BUDGET)
    assert len(found.tried) == len(found.trials) > 4
    (row,) = [row for row in found.considered if row.confirmed]
    assert row.cause == found.verdict
    assert row.closed > 0.2
    assert found.trials[0].name == "going on as before"
    for trial in found.trials:
        assert trial.losses.shape == trial.updates.shape


def test_healthy_runs_are_left_alone():
    for lr, updates in ((0.1, 50), (0.3, 100)):
        found = critical.diagnose(digits_run(updates, lr=lr), budget=BUDGET)
        assert (found.verdict, found.cure(), found.lr) == ("healthy", None, None)


def test_fit_gives_what_is_wanted():
    model = nn.MLP((64, 16, 10), rng=0)
    run = fit(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=1e-7), X, Y, epochs=5, batch_size=32, rng=0)
    assert critical.diagnose(run, budget=BUDGET).verdict == "learning rate too small"


def test_the_budget_bounds_what_is_tried():
    run = digits_run(lr=1e-5)
    found = critical.diagnose(run, budget=480)
    assert sum(100 if "L-BFGS" in trial.name else trial.updates[-1] for trial in found.trials) <= 480
    assert len(found.trials) > 4
    nothing = critical.diagnose(run, budget=0)
    assert (nothing.verdict, nothing.trials) == ("undecided", [])
    assert "going on as before (budget)" in nothing.not_tried


def test_a_progress_bar(capsys):
    pytest.importorskip("tqdm")
    critical.diagnose(digits_run(20), budget=48, progress=True)
    assert "experiments" in capsys.readouterr().err


def test_without_an_optimizer_it_judges_the_point():
    assert (
        critical.diagnose(mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0]), budget=BUDGET).verdict
        == "saddle point"
    )
    quadratic = mg.Objective(lambda w: (w * w).sum() + 1, [0.0, 0.0])
    assert critical.diagnose(quadratic, budget=BUDGET).verdict == "local minimum"
    quadratic.theta = [3.0, 1.0]
    assert critical.diagnose(quadratic, budget=BUDGET).verdict == "undecided"


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4])
def test_an_offset_makes_no_minimum(offset):
    f = mg.Objective(lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2 + offset, [-1.2, 1.0])
    assert critical.diagnose(f, budget=BUDGET).verdict != "local minimum"


def test_what_could_not_be_tried_is_said():
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    optimizer = optim.SGD(model.parameters(), lr=1e-6)
    found = by_hand(model, nn.cross_entropy, optimizer, X, Y, 100, budget=240)
    assert "these need a training.Run" in found.not_tried[-1]
    assert critical.diagnose(digits_run(20), budget=BUDGET).not_tried == []


def test_a_fresh_optimizer_is_judged_by_trying():
    """B1 of a PyTorch user: the history is another program's, and Adam here has made no step."""
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    objective = mg.Objective.of(model, lambda: nn.cross_entropy(model(X), Y))
    history = SimpleNamespace(loss=[objective.value()] * 300, gradient_norm=[0.3] * 300)
    found = critical.diagnose(objective, optim.Adam(model.parameters(), lr=1e-6), history, budget=BUDGET)
    assert found.verdict == "learning rate too small"


def test_an_overflow_is_a_diagnosis():
    found = critical.diagnose(mg.Objective(lambda x: np.exp(-((x[0] / 1e80) ** 2)), [1e80]), budget=BUDGET)
    assert found.verdict


def test_where_numbers_stop_being_finite_is_said():
    x = mg.Tensor([-1.0], requires_grad=True)
    with np.errstate(all="ignore"):
        found = critical.diagnose(mg.Objective.of([x], lambda: np.log(x).sum()), budget=BUDGET)
    assert found.verdict == "loss undefined"
    assert "first in log" in str(found)


# Others' models and methods -------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """A shortcut, a LayerNorm, a product by hand."""

    def __init__(self):
        self.first, self.second, self.norm = nn.Linear(64, 16, rng=0), nn.Linear(16, 16, rng=1), nn.LayerNorm(16)
        self.last = mg.Tensor(np.random.default_rng(2).normal(size=(16, 10)) * 0.1, requires_grad=True)

    def forward(self, x):
        h = np.tanh(self.first(x))
        return (h + np.maximum(self.second(self.norm(h)), 0)) @ self.last


def single_precision():
    return nn.MLP((64, 16, 10), rng=0, dtype=np.float32)


@pytest.mark.parametrize(
    ("model", "optimizer", "settings", "verdict"),
    [
        pytest.param(Residual, optim.NAdam, {"lr": 1e-3}, "healthy", marks=pytest.mark.long),
        (Residual, optim.Lion, {"lr": 1e-8}, "learning rate too small"),
        pytest.param(Residual, optim.Adagrad, {"lr": 1e-6}, "learning rate too small", marks=pytest.mark.long),
        (single_precision, optim.SGD, {"lr": 1e-9}, "learning rate too small"),
        (single_precision, optim.Adam, {"lr": 1e-3}, "healthy"),
        (Residual, optim.ScheduleFreeAdamW, {"lr": 3e-3}, "healthy"),
        pytest.param(Residual, optim.SAM, {"lr": 0.02}, "healthy", marks=pytest.mark.long),
    ],
)
def test_any_model_and_method(model, optimizer, settings, verdict):
    model = model()
    x = X.astype(next(model.parameters()).dtype)
    run = Run(model, nn.cross_entropy, optimizer(model.parameters(), **settings), x, Y, 32, rng=0).train(60)
    assert critical.diagnose(run, budget=BUDGET).verdict == verdict


def test_residuals():
    model = nn.MLP((1, 4, 1), nn.Tanh, rng=0)
    x = np.linspace(-2, 2, 40)[:, None]
    run = Run(model, lambda out, y: out - y, optim.LevenbergMarquardt(model.parameters()), x, np.sin(2 * x)).train(3)
    assert critical.diagnose(run, budget=BUDGET).verdict == "healthy"


def test_a_penalty_on_the_parameters_leaves_their_gradients():
    """The best constant output is found with the loss itself, which may have a penalty in it."""
    model = nn.Linear(2, 2, rng=0)
    penalised = lambda out, t: nn.cross_entropy(out, t) + 1e-3 * (model.weight * model.weight).sum()  # noqa: E731
    run = Run(model, penalised, optim.Newton(model.parameters()), XM, YM).train(30)
    before = [np.array(p.grad) for p in model.parameters()]
    assert critical.diagnose(run, budget=BUDGET).verdict == "local minimum"
    for g, p in zip(before, model.parameters(), strict=True):
        np.testing.assert_array_equal(g, p.grad)


def test_an_external_loss():
    value = lambda w: (float(w[0] ** 2 + 100 * w[1] ** 2), np.array([2 * w[0], 200 * w[1]]))  # noqa: E731
    objective = mg.Objective.external(value, [1.0, 1.0])
    run = Run.of(objective, optim.SGD(objective.parameters, lr=1e-7)).train(50)
    assert critical.diagnose(run, budget=BUDGET).verdict == "learning rate too small"


def test_two_groups_keep_their_ratio():
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    first, *rest = model.parameters()
    optimizer = optim.SGD([{"params": [first], "lr": 1e-6}, {"params": rest, "lr": 1e-5}])
    found = critical.diagnose(Run(model, nn.cross_entropy, optimizer, X, Y, 32, rng=0).train(100), budget=BUDGET)
    assert found.verdict == "learning rate too small"
    rates = [group["lr"] for group in found.cure().optimizer.param_groups]
    assert rates[1] == pytest.approx(10 * rates[0])


# What another author's runs broke ------------------------------------------------------------------------------------


class Between(nn.Module):
    """Two layers of four and three, and something done between them."""

    def __init__(self, do):
        self.first, self.last, self.do = nn.Linear(2, 8, rng=0), nn.Linear(8, 2, rng=1), do

    def forward(self, x):
        return self.last(self.do(np.tanh(self.first(x))))


def moons_run(model, loss=nn.cross_entropy, y=YM, updates=300, optimizer=optim.Adam, **settings):
    batch_size, shuffle = settings.pop("batch_size", None), settings.pop("shuffle", True)
    optimizer = optimizer(model.parameters(), **{"lr": 1e-2, **settings})
    return Run(model, loss, optimizer, XM, y, batch_size, rng=0, shuffle=shuffle).train(updates)


def identity():
    return nn.LeakyReLU(1.0)


COLUMN = YM[:, None].astype(float)
BCE = nn.binary_cross_entropy_with_logits


@pytest.mark.parametrize(
    ("run", "verdict"),
    [
        (lambda: moons_run(Between(np.sign), updates=600), "parameters without gradient"),
        (lambda: moons_run(Between(lambda h: h * np.zeros(8))), "parameters without gradient"),
        (lambda: moons_run(nn.MLP((2, 8, 2), identity, rng=0), lr=0.1), "no activation"),
        (
            lambda: moons_run(nn.Sequential(nn.Linear(2, 1, rng=0), nn.Softplus()), nn.mse_loss, COLUMN - 3),
            "output cannot reach the targets",
        ),
        (lambda: moons_run(nn.MLP((2, 8, 1), nn.Tanh, rng=0), BCE, COLUMN, lr=0.1, updates=1500), "separable data"),
        (lambda: digits_run(300, lr=0.1, momentum=0.9999, nesterov=True), "momentum too large"),
    ],
    ids=["signs", "mask", "identity", "softplus", "two classes", "nesterov"],
)
def test_the_cause_of_others_is_named(run, verdict):
    found = critical.diagnose(run(), budget=BUDGET)
    assert found.verdict == verdict, str(found)


def test_sums_of_gradients_in_batches_are_told_from_gradients():
    for clear, verdict in ((False, "gradients not cleared"), (True, "healthy")):
        model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
        run = Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.02, momentum=0.5), X, Y, 20, rng=0)
        for i in range(60):
            rows = slice(20 * (i % 10), 20 * (i % 10) + 20)
            if clear:
                run.optimizer.zero_grad()
            value = nn.cross_entropy(model(X[rows]), Y[rows])
            value.backward()
            run.append(value.item(), gradient_norm(model.parameters()), 0.02, 0.0)
            run.optimizer.step()
        assert critical.diagnose(run, budget=BUDGET).verdict == verdict


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "verdict"),
    [({"lr": 30.0}, {"dead units", "learning rate too large"}), ({"weight_decay": 2.0}, {"weight decay"})],
)
def test_the_same_of_runs(settings, verdict):
    model = nn.MLP((64, 16, 10), rng=0)
    optimizer = optim.SGD(model.parameters(), **{"lr": 0.1, **settings})
    run = Run(model, nn.cross_entropy, optimizer, X, Y, rng=0).train(200)
    assert critical.diagnose(run, budget=BUDGET).verdict in verdict


@pytest.mark.long
def test_sigmoids_that_know_the_mean():
    model = nn.MLP((64, *[16] * 6, 10), nn.Sigmoid, rng=0)
    run = Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1), X, Y, 30, rng=0).train(300)
    found = critical.diagnose(run, budget=BUDGET)
    assert found.verdict == "vanishing gradient"
    assert "the network knows only the mean" in found.evidence[0]


class Counting(nn.Module):
    """With a state besides its parameters: a running mean, a generator, a number of calls."""

    def __init__(self):
        self.net, self.mean, self.calls = nn.MLP((2, 8, 2), rng=0), np.zeros(2), 0
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        self.mean, self.calls = 0.9 * self.mean + 0.1 * x.mean(axis=0), self.calls + 1
        return self.net(x + 0.01 * self.rng.normal(size=x.shape))


def test_what_modules_hold_besides_parameters_stays():
    run = moons_run(Counting(), updates=30)
    mean, calls, state = run.model.mean, run.model.calls, run.model.rng.bit_generator.state
    critical.diagnose(run, budget=480)
    np.testing.assert_array_equal(run.model.mean, mean)
    assert (run.model.calls, run.model.rng.bit_generator.state) == (calls, state)


class Holding(nn.Module):
    """With a state in lists, dicts, an array that is written in place, and an attribute that a call adds."""

    def __init__(self):
        self.net, self.seen, self.told, self.mean = nn.MLP((2, 8, 2), rng=0), [], {"calls": 0}, np.zeros(2)
        self.drawn = np.random.RandomState(0)

    def forward(self, x):
        self.seen.append(len(x))
        self.told["calls"] += 1
        self.mean[:] = 0.9 * self.mean + 0.1 * x.mean(axis=0)
        out = self.net(x + 0.01 * self.drawn.normal(size=x.shape))
        self.latest = out.data
        return out


class Counted:
    """A loss that is an object."""

    calls = 0

    def __call__(self, out, t):
        self.calls += 1
        return nn.cross_entropy(out, t)


def test_what_model_and_loss_write_to_is_put_back():
    run = moons_run(Holding(), Counted(), updates=30)
    model, mean = run.model, run.model.mean
    del model.latest
    before = len(model.seen), model.told["calls"], mean.tolist(), run.loss_function.calls
    drawn = model.drawn.get_state()[1].tolist(), model.drawn.get_state()[2]
    critical.diagnose(run, budget=480)
    assert (len(model.seen), model.told["calls"], mean.tolist(), run.loss_function.calls) == before
    assert model.mean is mean
    assert not hasattr(model, "latest")
    assert (model.drawn.get_state()[1].tolist(), model.drawn.get_state()[2]) == drawn


@pytest.mark.parametrize("batch_size", [None, 20])
def test_a_tensor_of_the_optimizer_alone_stays(batch_size):
    """The logarithm of a variance, which no module holds: it is trained in trials, and is no stranger."""
    model, s = nn.MLP((2, 8, 1), nn.Tanh, rng=0), mg.Tensor([0.0], requires_grad=True)
    loss = lambda out, t: (np.exp(-s) * (out - t) ** 2 + s).mean()  # noqa: E731
    run = Run(model, loss, optim.Adam([*model.parameters(), s], lr=1e-6), XM, COLUMN, batch_size, rng=0).train(60)
    before = s.data.copy(), s.grad.copy()
    found = critical.diagnose(run, budget=480)
    np.testing.assert_array_equal(s.data, before[0])
    np.testing.assert_array_equal(s.grad, before[1])
    assert found.verdict == "learning rate too small"
    assert not any(row.cause == "parameters not in the model" for row in found.considered)


class Pairs(nn.Module):
    """Differences of outputs, each with each."""

    def __init__(self):
        self.first, self.last = nn.Linear(2, 1, rng=0), mg.Tensor(np.full((40, 1), 0.1), requires_grad=True)

    def forward(self, x):
        h = self.first(x)
        return np.exp(-((h - h[:, 0]) ** 2)) @ self.last


class Centres(nn.Module):
    """As many centres as samples."""

    def __init__(self):
        self.at = mg.Tensor(np.linspace(-2, 2, 40), requires_grad=True)
        self.last = mg.Tensor(np.full((40, 1), 0.1), requires_grad=True)

    def forward(self, x):
        return np.exp(-((x[:, :1] - self.at) ** 2)) @ self.last


@pytest.mark.parametrize("model", [Pairs, Centres])
def test_a_model_that_broadcasts_does_not_compare_with_targets(model):
    model = model()
    run = Run(model, nn.mse_loss, optim.Adam(model.parameters(), lr=1e-7), XM[:40], COLUMN[:40]).train(30)
    found = critical.diagnose(run, budget=240)
    assert found.verdict == "learning rate too small"
    assert not any(row.cause == "outputs and targets broadcast" for row in found.considered)


def test_a_part_of_the_loss_that_falls_is_no_wrong_sign():
    """Cross entropy, and a reward for a small distance from other outputs, which is bounded."""
    target = np.zeros((200, 2))

    def loss(out, t):
        return nn.cross_entropy(out, t) - 0.001 * np.tanh(nn.mse_loss(out, target))

    found = critical.diagnose(moons_run(nn.MLP((2, 8, 2), nn.Tanh, rng=0), loss, updates=60, lr=0.1), budget=BUDGET)
    assert found.verdict == "healthy", str(found)


@pytest.mark.parametrize("most", [1 + 1e-12, 1.1])
def test_one_target_out_of_reach_is_not_what_holds_the_loss(most):
    y = 1 / (1 + np.exp(-XM[:, :1]))
    y = (y - y.min()) / (y.max() - y.min())
    model = nn.Sequential(nn.Linear(2, 8, rng=0), nn.Tanh(), nn.Linear(8, 1, rng=1), nn.Sigmoid())
    optimizer = optim.Adam(model.parameters(), lr=1e-6)
    found = critical.diagnose(
        Run(model, nn.mse_loss, optimizer, XM, np.where(y == 1, most, y)).train(60), budget=BUDGET
    )
    assert found.verdict == "learning rate too small"


def test_lists_by_hand_in_batches():
    """Only losses and norms were noted; and a validation loss for some of the updates."""
    model = nn.MLP((2, 8, 2), nn.Tanh, rng=0)
    run = Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1), XM, YM, 20, validation=(XM[:9], YM[:9]))
    run.loss += [0.7] * 30
    run.gradient_norm += [0.1] * 30
    run.validation_loss += list(np.linspace(1, 2, 40))
    assert critical.diagnose(run, budget=240).verdict != "overfitting"


def test_a_converged_tensor_is_not_cut_off():
    """A gradient that is exactly 0 at a minimum; and a hinge loss that is 0."""
    quadratic = mg.Objective(lambda w: (w[0] - 1) ** 2, [1.0])
    run = Run.of(quadratic, optim.SGD(quadratic.parameters, lr=0.1)).train(30)
    assert critical.diagnose(run, budget=BUDGET).verdict == "local minimum"
    model = nn.Linear(2, 1, rng=0)
    blobs = np.r_[XM[:50] - 9, XM[:50] + 9]
    labels = np.repeat([[-1.0], [1.0]], 50, axis=0)
    learnt = Run(model, nn.hinge_loss, optim.SGD(model.parameters(), lr=0.1), blobs, labels).train(300)
    assert learnt.value() == 0
    assert critical.diagnose(learnt, budget=BUDGET).verdict != "parameters without gradient"


def own_loop(loss=nn.cross_entropy, after=lambda model: None, norm=gradient_norm, skip=(), lr=0.1, updates=60):
    """A healthy loop on the moons, with something done after backward."""
    model = nn.MLP((2, 8, 2), nn.Tanh, rng=0)
    run = Run(model, loss, optim.SGD(model.parameters(), lr=lr), XM, YM)
    for i in range(updates):
        run.optimizer.zero_grad()
        value = loss(model(XM), YM)
        value.backward()
        after(model)
        run.append(np.nan if i in skip else value.item(), norm(model.parameters()), lr, 0.0)
        if i not in skip:
            run.optimizer.step()
    return run


def decay_by_hand(model):
    for p in model.parameters():
        p.grad = p.grad + 0.02 * p.data


@pytest.mark.parametrize(
    "settings",
    [{"norm": lambda parameters: np.nan}, {"skip": (7,)}, {"after": decay_by_hand}],
    ids=["norms not measured", "a batch that was skipped", "decay by hand"],
)
def test_healthy_loops_are_left_alone(settings):
    assert critical.diagnose(own_loop(**settings), budget=BUDGET).verdict == "healthy"


def test_what_is_left_in_grad_is_no_clipping():
    """A smaller loss's gradient, after training."""
    run = own_loop()
    (1e-4 * nn.cross_entropy(run.model(XM[:3]), YM[:3])).backward()
    history = SimpleNamespace(loss=run.loss, gradient_norm=run.gradient_norm)
    run.optimizer.zero_grad()
    (1e-4 * nn.cross_entropy(run.model(XM[:3]), YM[:3])).backward()
    found = critical.diagnose(run.objective, run.optimizer, history, budget=BUDGET)
    assert found.verdict == "healthy"
    assert not any(row.cause == "clipping" for row in found.considered)


class WithASpare(nn.Module):
    def __init__(self):
        self.net, self.spare = nn.MLP((64, 16, 10), nn.Tanh, rng=0), nn.Linear(64, 3, rng=1)

    def forward(self, x):
        return self.net(x)


def test_a_part_that_is_not_used_does_not_hide_the_cause():
    model = WithASpare()
    run = Run(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=1e-6), X, Y, 32, rng=0).train(100)
    found = critical.diagnose(run, budget=BUDGET)
    assert found.verdict == "learning rate too small"
    assert any("spare.bias: the loss does not depend on them" in row.seen for row in found.considered)


def test_a_factor_moves_the_floor_of_contradicting_targets():
    x, y = np.repeat(XM[:50], 2, axis=0), np.random.default_rng(0).normal(size=(100, 1))
    model = nn.MLP((2, 8, 1), nn.Tanh, rng=0)
    half = lambda out, t: 0.5 * nn.mse_loss(out, t)  # noqa: E731
    run = Run(model, half, optim.SGD(model.parameters(), lr=1e-6), x, y).train(100)
    assert critical.diagnose(run, budget=BUDGET).verdict != "contradicting labels"


def test_a_budget_below_0():
    with pytest.raises(ValueError, match="budget is a number of updates from 0, not -3"):
        critical.diagnose(digits_run(5), budget=-3)


def test_a_history_of_losses_alone():
    model = nn.MLP((2, 8, 2), rng=0)
    run = Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1), XM, YM)
    run.loss += [0.7] * 40
    assert critical.diagnose(run, budget=BUDGET).verdict == "healthy"


def test_both_labels_for_each_row():
    model = nn.MLP((2, 8, 1), nn.Tanh, rng=0)
    x, y = np.repeat(XM[:50], 2, axis=0), np.tile([[0.0], [1.0]], (50, 1))
    run = Run(model, BCE, optim.Adam(model.parameters(), lr=1e-2), x, y).train(500)
    found = critical.diagnose(run, budget=BUDGET)
    assert found.verdict == "contradicting labels"
    assert f"{np.log(2):.4g}" in found.evidence[0]


def test_a_density_below_0_is_no_loss_without_a_bound():
    """Minus the logarithm of a normal density: negative, and falling, in a healthy training."""

    def density(out, t):
        return 0.5 * np.mean(out[:, 1:] + np.square(out[:, :1] - t) * np.exp(-out[:, 1:]))

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x[:, :1] + 0.1 * rng.normal(size=(200, 1))
    model = nn.MLP((3, 16, 2), nn.Tanh, rng=0)
    run = Run(model, density, optim.Adam(model.parameters(), lr=1e-2), x, y, rng=0).train(100)
    assert run.value() < 0
    assert critical.diagnose(run, budget=BUDGET).verdict == "healthy"


# A history alone ------------------------------------------------------------------------------------------------------


def test_a_history_alone_says_what_to_measure_next():
    flat = SimpleNamespace(loss=[1.0 + 0.001 * (-1) ** i for i in range(200)])
    found = critical.diagnose(history=flat)
    assert found.verdict == "undecided"
    assert found.action.count(";") == 2  # three things
    assert "the norm of the gradient" in found.action
    falling = SimpleNamespace(loss=list(np.exp(-np.arange(200) / 100)))
    assert critical.diagnose(history=falling).verdict == "healthy"
    broken = SimpleNamespace(loss=[1.0, 2.0, np.nan])
    assert critical.diagnose(history=broken).verdict == "exploding"


def test_a_history_alone_excludes():
    history = History()
    for i in range(200):
        history.append(1.0 + 0.01 * np.sin(i), 3.0, 0.1, 0.0, step_norm=0.3)
    text = str(critical.diagnose(history=history))
    assert "not a critical point" in text
    assert "no schedule has ended" in text


@pytest.mark.parametrize("more", [{}, {"step_norm": [1e-16] * 100}])
def test_a_history_at_rest_is_not_said_to_move(more):
    history = SimpleNamespace(loss=[1.0] * 100, gradient_norm=[1e-14] * 100, **more)
    assert "not a critical point" not in str(critical.diagnose(history=history))


def test_wrong_arguments():
    run = digits_run(5)
    with pytest.raises(TypeError, match="has its optimizer and history already"):
        critical.diagnose(run, run.optimizer)
    with pytest.raises(TypeError, match="a Run, an Objective or a history is wanted"):
        critical.diagnose()
    other = nn.MLP((2, 8, 2), rng=5)
    with pytest.raises(ValueError, match="another model"):
        critical.diagnose(run.objective, optim.SGD(other.parameters(), lr=0.1))


# What newcomers' runs broke -------------------------------------------------------------------------------------------


def considered(found):
    return {row.cause for row in found.considered}


@pytest.mark.parametrize("zeroed", [False, True], ids=["one input", "zeros that differ behind"])
def test_units_that_will_differ_are_not_identical(zeroed):
    """Weights of one input are multiples of each other; equal units with other weights behind get other gradients."""
    model = nn.Sequential(nn.Linear(1 + zeroed, 8, bias=False, rng=0), nn.Tanh(), nn.Linear(8, 2, rng=1))
    if zeroed:
        model[0].weight.data = np.zeros((8, 2))
    x = XM[:, : 1 + zeroed]
    run = Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=1e-5), x, YM).train(30)
    if zeroed:
        model[0].weight.data = np.zeros((8, 2))
    assert "identical units" not in considered(critical.diagnose(run, budget=240))


class Recurrent(nn.Module):
    """tanh(x_t w + h W + b), 12 times; the output from the last h. steps: weights of their own for each step."""

    def __init__(self, steps=1):
        rng = np.random.default_rng(0)
        w, W = rng.normal(size=(1, 6)), 0.1 * rng.normal(size=(6, 6))
        self.w = [mg.Tensor(w, requires_grad=True) for _ in range(steps)]
        self.W = [mg.Tensor(W, requires_grad=True) for _ in range(steps)]
        self.b, self.last = mg.Tensor(np.zeros(6), requires_grad=True), nn.Linear(6, 2, rng=1)

    def forward(self, x):
        h = np.zeros((len(x), 6))
        for t in range(12):
            h = np.tanh(x[:, t : t + 1] @ self.w[t % len(self.w)] + h @ self.W[t % len(self.W)] + self.b)
        return self.last(h)


def first_bit():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 12)), rng.integers(0, 2, 60)
    x[:, 0] = 2 * y - 1
    return x, y


def test_a_gradient_that_vanishes_through_time():
    x, y = first_bit()
    model = Recurrent()
    run = Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1), x, y, 20, rng=0).train(200)
    before, found = run.value(), critical.diagnose(run, budget=3600)
    assert found.verdict == "vanishing gradient", str(found)
    assert found.cure().train(200).value() < 0.9 * before


def test_the_gradient_of_each_step_is_that_of_weights_of_its_own():
    x, y = first_bit()
    shared, own = (
        Reading(mg.Objective.of(model, lambda model=model: nn.cross_entropy(model(x), y)))
        for model in (Recurrent(), Recurrent(12))
    )
    own.loss.backward()
    sizes = [np.sqrt(np.mean(p.weight.grad**2)) for p in own.products if np.any(p.x)]
    np.testing.assert_allclose(shared.slopes, sizes, rtol=1e-9)


def test_probabilities_for_their_logarithms():
    model = nn.Sequential(nn.Linear(2, 8, rng=0), nn.Tanh(), nn.Linear(8, 2, rng=1), nn.Softmax())
    found = critical.diagnose(
        Run(model, nn.nll_loss, optim.SGD(model.parameters(), lr=1e-4), XM, YM).train(30), budget=480
    )
    seen = next(row.seen for row in found.considered if row.cause == "softmax before the loss")
    assert "nll_loss takes the logarithms" in seen
    assert "cross_entropy" not in seen
    assert not any(trial.name.startswith("without its last layer") for trial in found.trials)


def one_in(x):
    return 1 / (1 + np.exp(-x))


def likelihood(p, t):
    return np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))


@pytest.mark.parametrize(
    ("end", "loss", "y", "is_wrong"),
    [
        (lambda z: z, lambda out, t: -((t - out) ** 2).mean(), COLUMN, True),
        (one_in, likelihood, COLUMN, True),
        (lambda z: nn.functional.softmax(z, -1), lambda p, t: np.log(p)[np.arange(200), t].mean(), YM, True),
        (lambda z: z, lambda out, t: -np.exp(-((t - out) ** 2)).mean(), COLUMN, False),
        (one_in, lambda p, t: -likelihood(p, t) - 9, COLUMN, False),
        (lambda z: nn.functional.softmax(z, -1), lambda p, t: (p * np.log(p)).sum(), YM, False),
    ],
    ids=["squares", "two classes", "classes", "a kernel", "an offset", "entropy"],
)
@pytest.mark.parametrize("has_data", [True, False])
def test_the_sign_of_a_loss_by_hand(end, loss, y, is_wrong, has_data):
    net = nn.MLP((2, 8, 2 if y.ndim == 1 else 1), nn.Tanh, rng=0)
    model = nn.Sequential(net, Ending(end))
    run = Run(model, loss, optim.SGD(model.parameters(), lr=0.02), XM, y).train(30)
    found = critical.diagnose(run, budget=240) if has_data else critical.diagnose(run.objective, run.optimizer, run)
    assert (found.verdict == "gradient ascent") == is_wrong, str(found)


class Ending(nn.Module):
    def __init__(self, do):
        self.do = do

    def forward(self, x):
        return self.do(x)


@pytest.mark.parametrize(("end", "loss", "y"), [(one_in, BCE, COLUMN), (nn.Softmax(), nn.cross_entropy, YM)])
def test_probabilities_out_of_forward_are_cured_by_their_logits(end, loss, y):
    model = nn.Sequential(nn.MLP((2, 8, 2 if y.ndim == 1 else 1), nn.Tanh, rng=0), nn.Flatten())
    model.forward = lambda x: end(nn.Sequential.forward(model, x))
    run = Run(model, loss, optim.Adam(model.parameters(), lr=1e-2), XM, y).train(900)
    found = critical.diagnose(run, budget=BUDGET)
    assert found.verdict.endswith("before the loss"), str(found)
    assert found.cure().train(100).value() < run.value() / 2


def test_what_is_cut_off_is_told_from_what_is_not_used():
    """A larger rate for the last layer gains much, too: that makes the cut no harmless one."""
    cut = Between(lambda h: h.detach())
    run = Run(cut, nn.cross_entropy, optim.SGD(cut.parameters(), lr=1e-5), XM, YM).train(30)
    found = critical.diagnose(run, budget=BUDGET)
    assert (found.verdict, found.cure()) == ("parameters without gradient", None)
    assert "the loss changes with them" in found.evidence[0]


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (optim.AdamW, {"lr": 0.03}),
        (optim.Adam, {"weight_decay": 1e-3}),
        (optim.SGD, {"weight_decay": 1e-3, "lr": 0.02}),
    ],
)
def test_gradients_not_cleared_with_a_decay(optimizer, settings):
    model = nn.MLP((2, 8, 2), nn.Tanh, rng=0)
    optimizer = optimizer(model.parameters(), **settings)
    assert by_hand(model, nn.cross_entropy, optimizer, XM, YM, 100, clear=False).verdict == "gradients not cleared"
    optimizer.zero_grad()
    assert by_hand(model, nn.cross_entropy, optimizer, XM, YM, 30).verdict != "gradients not cleared"


@pytest.mark.parametrize(("optimizer", "verdict"), [(optim.Adam, "targets of large scale"), (optim.SGD, "exploding")])
def test_targets_in_hundreds_of_thousands(optimizer, verdict):
    model = nn.MLP((2, 8, 1), rng=0)
    y = 3e5 + 1e5 * XM[:, :1]
    run = Run(model, nn.mse_loss, optimizer(model.parameters(), lr=1e-2), XM, y, 50, rng=0)
    with np.errstate(all="ignore"):
        found = critical.diagnose(run.train(200), budget=BUDGET)
    assert found.verdict == verdict, str(found)
    assert found.cure().train(200).value() < y.var() / 10
    assert "standardise the targets" in found.action


def test_batches_clipped_by_hand():
    model = nn.MLP((64, 16, 10), nn.Tanh, rng=0)
    parameters = list(model.parameters())
    clip = lambda: optim.clip_grad_norm(parameters, 1e-3)  # noqa: E731
    sgd = optim.SGD(parameters, lr=0.1)
    found = by_hand(model, nn.cross_entropy, sgd, X, Y, 100, batch=32, before_step=clip, budget=None)
    assert found.verdict == "clipping", str(found)


def test_units_that_inputs_have_saturated_are_no_minimum():
    x = np.column_stack([1.7e9 + 1e6 * np.random.default_rng(0).random(200), XM])
    model = nn.MLP((3, 8, 2), nn.Tanh, rng=0)
    found = by_hand(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=1e-3), x, YM, 300)
    assert found.verdict == "inputs of unlike scale", str(found)
    assert "tanh layer 0: 8 of 8 units saturated" in found.evidence[0]
    assert found.cure() is None


def test_what_new_weights_alone_cure_is_not_the_decay():
    model = nn.MLP((2, 8, 2), nn.Tanh, rng=0)
    for p in model.parameters():
        p.data = 300 * p.data
    run = Run(model, nn.cross_entropy, optim.AdamW(model.parameters(), lr=1e-3), XM, YM).train(100)
    found = critical.diagnose(run, budget=BUDGET)
    assert "weight decay" in considered(found)
    assert found.verdict != "weight decay", str(found)


def test_the_noise_of_masks_is_told():
    model = nn.Sequential(nn.Linear(64, 16, rng=0), nn.ReLU(), nn.Dropout(0.95, rng=0), nn.Linear(16, 10, rng=1))
    run = Run(model, nn.cross_entropy, optim.Adam(model.parameters(), lr=3e-3), X, Y, 32, rng=0).train(200)
    seen = [row.seen for row in critical.diagnose(run, budget=240).considered if row.cause == "noise of the batches"]
    assert "the noise of batches of 32 and of dropout" in seen[0]


@pytest.mark.parametrize(
    ("x", "y", "loss", "optimizer", "settings", "verdict"),
    [
        (XM, COLUMN * 1e-4, nn.mse_loss, optim.Adam, {"lr": 0.1}, "targets of small scale"),
        (XM * [1, 1e5], YM, nn.cross_entropy, optim.SGD, {"lr": 0.1}, "exploding"),
        (np.c_[XM, np.full(200, 1e4)], YM, nn.cross_entropy, optim.Adam, {"lr": 1e-2}, "inputs of unlike scale"),
        (XM, YM, nn.cross_entropy, optim.SGD, {"lr": 50.0, "momentum": 0.9}, "saturated units"),
    ],
    ids=["small targets", "large inputs", "a constant column", "too long steps"],
)
def test_advice_helps_another_seed(x, y, loss, optimizer, settings, verdict):
    """The change, made by hand in the code of a run with other weights and batches."""

    def trained(seed, x, y, **settings):
        activation = nn.ReLU if verdict == "exploding" else nn.Tanh
        model = nn.MLP((x.shape[1], 8, y.shape[1] if y.ndim > 1 else 2), activation, rng=seed)
        with np.errstate(all="ignore"):
            return Run(model, loss, optimizer(model.parameters(), **settings), x, y, 10, rng=seed).train(150)

    found = critical.diagnose(trained(0, x, y, **settings), budget=2400)
    assert found.verdict == verdict, str(found)
    data = {"X": x, "y": y, "np": np}
    exec(found.code.split("; ")[0] if "standardised" in found.change.name else "", data)
    advised = trained(1, data["X"], data["y"], **{**settings, "lr": found.lr or settings["lr"]}).value()
    constant = data["y"].var() if y.ndim > 1 else np.log(2)
    assert advised < constant / 2
    assert not trained(1, x, y, **settings).value() < advised * (y.var() if y.ndim > 1 else 1)
