"""critical.compare: model bias or optimization (lecture L17)."""

import numpy as np
import pytest

from microgradopt import critical, nn, optim, training
from microgradopt.training import Run

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 6))
Y = np.argmax(X[:, :3] ** 2 + 0.3 * X[:, 3:], axis=1)


def trained(
    sizes, activation=nn.Tanh, epochs=60, lr=0.01, seed=0, optimizer=optim.Adam, data=(X, Y), loss=nn.cross_entropy
):
    model = nn.MLP((6, *sizes, 3), activation, rng=seed)
    return training.fit(model, loss, optimizer(model.parameters(), lr=lr), *data, epochs, 20, rng=seed)


def test_a_deep_net_that_does_not_train_is_optimization():
    """Ten layers of sigmoids under plain gradient descent: gradients vanish."""
    deep = trained([12] * 10, nn.Sigmoid, optimizer=optim.SGD, lr=0.1)
    found = critical.compare(trained([8], nn.Sigmoid, lr=0.05), deep)
    assert found.verdict == "optimization"
    assert found.larger[0] > found.smaller[0] * 1.3
    assert "diagnose" in found.action
    assert "optimization" in str(found)
    assert "<table>" in found._repr_html_()


def test_a_model_that_is_too_small_has_bias():
    found = critical.compare(trained([1]), trained([30]))
    assert found.verdict == "model bias"
    assert "take it" in found.action


def test_nothing_is_said_within_the_spread():
    found = critical.compare([trained([12], seed=s) for s in range(4)], [trained([13], seed=s) for s in range(4)])
    assert found.verdict == "no difference"


def test_the_larger_one_may_need_more_time():
    found = critical.compare(trained([8]), trained([30, 30], lr=1e-3, epochs=40))
    assert found.verdict == "still training"


def test_few_updates_say_nothing():
    """Of a larger model that was not trained; of a smaller one."""
    assert critical.compare(trained([8], epochs=20), trained([30], epochs=0)).verdict == "still training"
    found = critical.compare(trained([8], epochs=0), trained([30], epochs=20))
    assert "updates are too few to tell" in found.evidence[-1]


def test_what_both_have_learnt_makes_no_difference():
    """The losses of separable data fall on as the weights grow."""
    data = np.r_[X - 5, X + 5], np.repeat([0, 1], len(X))
    small, large = (trained(sizes, epochs=40, lr=0.1, data=data) for sizes in ([2], [30]))
    assert small.value() > 2 * large.value()
    assert critical.compare(small, large).verdict == "no difference"


def test_losses_that_differ_are_not_compared():
    """Penalties on the parameters cancel; a factor, or another loss, does not."""

    def penalised(sizes):
        run = trained(sizes, epochs=5)
        penalty = lambda out, t: nn.cross_entropy(out, t) + 0.1 * sum((p * p).sum() for p in run.model.parameters())  # noqa: E731
        return Run(run.model, penalty, run.optimizer, X, Y, history=run)

    assert critical.compare(penalised([4]), penalised([9])).verdict
    half = trained([9], epochs=5, loss=lambda out, t: 0.5 * nn.cross_entropy(out, t))
    with pytest.raises(ValueError, match="different losses: one gives two of the models"):
        critical.compare(trained([4], epochs=5), half)


class Masked(nn.Module):
    """Fills gaps in the data by itself, and drops units in training."""

    def __init__(self, width):
        self.net = nn.Sequential(nn.Linear(6, width, rng=0), nn.ReLU(), nn.Dropout(0.5, rng=0), nn.Linear(width, 3))

    def forward(self, x):
        return self.net(np.nan_to_num(x))


def test_gaps_that_a_model_fills_and_masks_of_training():
    gaps = np.where(X > 1, np.nan, X)
    models = [Masked(width) for width in (3, 30)]
    found = critical.compare(*(Run(m, nn.cross_entropy, optim.SGD(m.parameters()), gaps, Y) for m in models))
    expected = [nn.cross_entropy(m.eval()(gaps), Y).item() for m in models]
    assert [found.smaller[0], found.larger[0]] == pytest.approx(expected)


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU]
)
@pytest.mark.parametrize("sizes", [([5], [5, 5]), ([5], [9, 7, 5, 6]), ([6, 4], [6, 4, 4, 8]), ([4], [20])])
def test_the_copy_is_the_same_function(activation, sizes):
    """θ of the copy, written into the larger model, gives the smaller one's outputs; both runs stay as they were."""
    small, large = trained(sizes[0], activation, epochs=3), trained(sizes[1], activation, epochs=3)
    before = small.vector.theta().copy(), large.vector.theta().copy()
    found = critical.compare(small, large)
    np.testing.assert_array_equal(small.vector.theta(), before[0])
    np.testing.assert_array_equal(large.vector.theta(), before[1])
    assert found.copied == pytest.approx(small.value(), rel=2e-3)
    large.objective.theta = found.theta
    expected, scores = small.model(X).data, large.model(X).data
    # A curved activation hands on with an error of the order of its input's size, 1e-4; a layer more, a factor more.
    assert np.abs(scores - expected).max() < 2e-3 * np.abs(expected).max()
    if activation in (nn.ReLU, nn.LeakyReLU, nn.Tanh):
        assert np.abs(scores - expected).max() < 1e-6


@pytest.mark.parametrize("sizes", [([9], [4, 30]), ([5, 5], [60])])
def test_there_is_no_copy_without_room(sizes):
    assert critical.compare(trained(sizes[0], epochs=2), trained(sizes[1], epochs=2)).copied is None


def test_other_models_are_compared_without_a_copy():
    model = nn.Sequential(nn.Linear(6, 40, rng=0), nn.LayerNorm(40), nn.Tanh(), nn.Linear(40, 3, rng=1))
    large = training.fit(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=1e-9), X, Y, 30, 20, rng=0)
    found = critical.compare(trained([8]), large)
    assert found.verdict == "optimization"
    assert found.copied is None
    assert "was not tried" in found.evidence[-1]


class Square(nn.Module):
    def forward(self, x):
        return x * x


def test_an_activation_that_hands_nothing_on_is_not_called_a_copy():
    small, large = trained([4], Square, epochs=3), trained([6, 6], Square, epochs=3)
    assert critical.compare(small, large).copied is None
    assert critical.compare(small, trained([6], Square, epochs=3)).copied == pytest.approx(small.value())


def test_a_frozen_layer_is_not_written_to():
    large = trained([9, 9], epochs=2)
    frozen = next(large.model.parameters())
    frozen.requires_grad = False
    large, before = Run(large.model, large.loss_function, optim.SGD(large.model.parameters()), X, Y), frozen.data.copy()
    assert critical.compare(trained([4], epochs=2), large).copied is None
    np.testing.assert_array_equal(frozen.data, before)


def test_wrong_calls():
    small, large = trained([4], epochs=2), trained([9], epochs=2)
    with pytest.raises(ValueError, match="swapped"):
        critical.compare(large, small)
    with pytest.raises(ValueError, match="different training data"):
        critical.compare(small, trained([9], epochs=1, data=(X + 1, Y)))
    with pytest.raises(TypeError, match="a Run of a model"):
        critical.compare(small, large.model)
    with pytest.raises(TypeError, match="a Run of a model"):
        critical.compare(small, Run.of(large.objective, large.optimizer))
    with pytest.raises(ValueError, match="empty"):
        critical.compare([], large)
    large.objective.theta = np.full(large.vector.size, np.inf)
    with pytest.raises(ValueError, match="not finite"), np.errstate(all="ignore"):
        critical.compare(small, large)
