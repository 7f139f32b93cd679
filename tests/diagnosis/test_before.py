"""Before the first update: each planted fault is found, by its own test alone or first of all; healthy ones pass."""

import random
import re

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import critical, nn, training

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int) + 2 * (X[:, 2] > 0)
TARGETS = np.sin(X[:, :1]) + X[:, 1:2]


def classifier(*more, seed=0, sizes=(4, 16, 4)):
    return nn.Sequential(nn.MLP(sizes, nn.Tanh, rng=seed), *more)


def regressor():
    return nn.MLP((4, 16, 1), nn.Tanh, rng=0)


class Detached(nn.Module):
    def __init__(self):
        self.first, self.last = nn.Linear(4, 8, rng=0), nn.Linear(8, 4, rng=1)

    def forward(self, x):
        return self.last(np.tanh(self.first(x)).detach())


class Blind(nn.Module):
    """Its output does not depend on the input."""

    def __init__(self):
        self.first, self.last = nn.Linear(4, 8, rng=0), nn.Linear(8, 4, rng=1)

    def forward(self, x):
        return self.last(np.tanh(self.first(0 * x)))


def loud():
    """A last layer that is far too large."""
    model = nn.MLP((4, 16, 4), nn.Tanh, rng=0)
    *_, weight, _ = model.parameters()
    weight.data = 50 * weight.data
    return model


def squared(out, target):
    return np.mean((out - target) ** 2)


def changed(data, index, value):
    data = data.copy()
    data[index] = value
    return data


def torn():
    """The first half of the rows again, with other labels."""
    return np.concatenate([X[:100], X[:100]]), np.concatenate([LABELS[:100], (LABELS[:100] + 1) % 4])


CE = nn.cross_entropy
HEALTHY = {
    "classifier": lambda: (classifier(), CE, X, LABELS),
    "regressor": lambda: (regressor(), nn.mse_loss, X, TARGETS),
    "relu": lambda: (nn.MLP((4, 32, 4), nn.ReLU, rng=1), CE, X, LABELS),
    "float32": lambda: (regressor(), nn.mse_loss, X.astype(np.float32), TARGETS.astype(np.float32)),
}
FAULTS = {
    "a nan": (lambda: (classifier(), CE, changed(X, (17, 3), np.nan), LABELS), "numbers", r"X\[17, 3\] = nan"),
    "an infinite target": (lambda: (regressor(), nn.mse_loss, X, changed(TARGETS, (5, 0), np.inf)),
                           "numbers", r"y\[5, 0\] = inf"),
    "scales": (lambda: (regressor(), nn.mse_loss, X * [1, 1000, 0.01, 1], TARGETS), "columns", "standardise"),
    "an offset": (lambda: (regressor(), nn.mse_loss, X + np.array([0, 5000, 0, 0]), TARGETS), "columns",
                  "column 1 is more than"),
    "equal columns": (lambda: (classifier(), CE, X[:, [0, 1, 2, 2]], LABELS), "columns", r"equal columns: \(2, 3\)"),
    "nothing varies": (lambda: (classifier(), CE, np.repeat(X[:1], 200, axis=0), LABELS), "rows", "all 200 rows"),
    "contradictions": (lambda: (classifier(), CE, *torn()), "rows",
                       "200 rows have the inputs of another and a different target"),
    "labels from 1": (lambda: (classifier(sizes=(4, 16, 5)), CE, X, LABELS + 1), "classes", "no sample of class 0"),
    "a rare class": (lambda: (classifier(sizes=(4, 16, 5)), CE, X, changed(LABELS, 3, 4)), "classes", "in class 4"),
    "shapes that broadcast": (lambda: (regressor(), squared, X, TARGETS[:, 0]), "shapes", r"out - y is \(200, 200\)"),
    "whole numbers that broadcast": (lambda: (regressor(), squared, X, LABELS), "shapes", r"out - y is \(200, 200\)"),
    "softmax over one unit": (lambda: (nn.Sequential(regressor(), nn.Softmax()), nn.mse_loss, X, TARGETS),
                              "output", "does not depend"),
    "blind": (lambda: (Blind(), CE, X, LABELS), "output", "does not depend"),
    "detached": (lambda: (Detached(), CE, X, LABELS), "gradient", "first.weight, first.bias"),
    "weights far too large": (lambda: (loud(), CE, X, LABELS), "start", "smaller weights in the last layer"),
    "softmax twice": (lambda: (classifier(nn.Softmax()), CE, X, LABELS), "one batch", "learns them by heart"),
    "a relu on the output": (lambda: (nn.Sequential(regressor(), nn.ReLU()), nn.mse_loss, X, TARGETS),
                             "one batch", "learns them by heart"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_healthy_passes(name):
    checked = critical.check(*HEALTHY[name]())
    assert checked.problems == []
    assert "✗" not in str(checked)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name):
    make, test, says = FAULTS[name]
    problems = {finding.test: finding.says for finding in critical.check(*make()).problems}
    assert test in problems
    assert re.search(says, problems[test]), problems


def test_the_best_constant_output():
    """For classes that are all alike it is log K, for squares the variance."""
    labels = np.arange(200) % 4
    starts = [
        critical.check(classifier(), CE, X, labels),
        critical.check(regressor(), nn.mse_loss, X, TARGETS),
    ]
    says = [next(f.says for f in checked.findings if f.test == "start") for checked in starts]
    assert f"the best constant output has {np.log(4):.4g}" in says[0]
    assert f"the best constant output has {TARGETS.var():.4g}" in says[1]


def test_the_range_test():
    """½ a w² with one weight: SGD leaves from 2/a on."""
    model = nn.Linear(1, 1, bias=False, rng=0)
    x = np.array([[3.0], [-3.0]])
    checked = critical.check(model, lambda out, t: np.mean((out - t) ** 2) / 2, x, 2 * x)
    assert checked.rates[-1] > 2 / 9
    assert checked.rates[np.argmin(checked.losses)] < 2 / 9
    assert len(checked.rates) == len(checked.losses)


def test_nothing_is_changed():
    model = classifier()
    model.zero_grad()
    CE(model(X), LABELS).backward()
    before = [(p.data.copy(), p.grad.copy()) for p in model.parameters()]
    np.random.seed(3)
    random.seed(3)
    expected = np.random.random(), random.random()
    np.random.seed(3)
    random.seed(3)
    critical.check(model, CE, X, LABELS)
    for p, (data, grad) in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, data)
        np.testing.assert_array_equal(p.grad, grad)
    assert (np.random.random(), random.random()) == expected
    assert str(critical.check(model, CE, X, LABELS)) == str(critical.check(model, CE, X, LABELS))


@pytest.mark.parametrize("is_training", [True, False])
def test_averages_masks_and_mode_stay(is_training):
    model = nn.Sequential(
        nn.Linear(4, 8, rng=0), nn.BatchNorm1d(8), nn.Dropout(0.5, rng=0), nn.Linear(8, 4, rng=1)
    ).train(is_training)
    before = model.state_dict(), model[2].counter.copy()
    critical.check(model, CE, X, LABELS)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[0][name])
    assert model[2].counter == before[1]
    assert [module.training for _, module in model.named_modules()] == [is_training] * 5


def test_after_training_it_passes_too():
    model = classifier()
    training.fit(model, CE, mg.optim.Adam(model.parameters(), lr=1e-2), X, LABELS, epochs=100, rng=0)
    assert not [f for f in critical.check(model, CE, X, LABELS).problems if f.test in ("start", "output", "gradient")]


def test_rows_that_do_not_fit():
    with pytest.raises(ValueError, match="X has 200 rows and y 3"):
        critical.check(classifier(), CE, X, LABELS[:3])


def test_in_a_notebook():
    html = critical.check(*HEALTHY["classifier"]())._repr_html_()
    assert "before the first update" in html
    assert "look here" not in html
