"""What ends a training early: a callback, and a validation loss that no longer improves."""

import numpy as np
import pytest

from microgradopt import nn, optim, training

rng = np.random.default_rng(0)
X, OTHER = rng.normal(size=(12, 8)), rng.normal(size=(50, 8))
Y, OTHER_Y = X[:, :1] + 0.5 * rng.normal(size=(12, 1)), OTHER[:, :1]  # few samples with noise: it overfits


def fitted(epochs=200, optimizer=optim.Adam, **settings):
    model = nn.MLP((8, 32, 1), nn.Tanh, rng=0)
    run = training.fit(
        model, nn.mse_loss, optimizer(model.parameters(), lr=0.02), X, Y, epochs, 6, rng=0,
        validation=(OTHER, OTHER_Y), **settings,
    )  # fmt: skip
    return model, run


def by_epoch(run):
    return [loss for loss in run.validation_loss if np.isfinite(loss)]


@pytest.mark.parametrize("optimizer", [optim.Adam, optim.SGD, optim.ScheduleFreeAdamW])
def test_patience_stops_and_gives_the_best_model_back(optimizer):
    """As an untouched training, transcribed: the first epoch that no later one of the next five beats."""
    whole = by_epoch(fitted(optimizer=optimizer)[1])
    best = next(i for i, loss in enumerate(whole) if loss <= min(whole[: i + 6]) and len(whole) > i + 5)
    model, run = fitted(patience=5, optimizer=optimizer)
    assert by_epoch(run) == whole[: best + 6]
    assert run.loss_on(OTHER, OTHER_Y) == pytest.approx(whole[best], rel=1e-12)
    assert f"{whole[best]:.4g}" in run.stopped
    assert f"epoch {best}" in run.stopped
    assert not model.training


def test_without_patience_nothing_stops_and_nothing_is_put_back():
    run = fitted(40)[1]
    assert len(by_epoch(run)) == 40
    assert run.stopped == ""
    other = fitted(40, patience=1000)[1]
    assert by_epoch(other) == by_epoch(run)
    best = np.argmin(by_epoch(run))
    _, short = fitted(int(best) + 1)
    assert other.loss_on(OTHER, OTHER_Y) == short.loss_on(OTHER, OTHER_Y), "the best, at the end of all epochs too"


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_callback_stops(answer):
    _, run = fitted(on_epoch=lambda epoch, run: answer if epoch == 3 else None)
    assert len(by_epoch(run)) == 4
    assert run.stopped == "on_epoch returned True after epoch 3"


@pytest.mark.parametrize("answer", [None, False, 1, 0.3, "stop", [1]])
def test_only_true_stops(answer):
    _, run = fitted(5, on_epoch=lambda epoch, run: answer)
    assert len(by_epoch(run)) == 5
    assert run.stopped == ""


def test_patience_needs_validation_and_a_number_of_epochs():
    model = nn.Linear(8, 1, rng=0)
    sgd = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="validation"):
        training.fit(model, nn.mse_loss, sgd, X, Y, 3, patience=2)
    for patience in (0, -1, 2.5):
        with pytest.raises(ValueError, match="patience"):
            training.fit(model, nn.mse_loss, sgd, X, Y, 3, validation=(X, Y), patience=patience)


def test_a_validation_loss_that_is_not_finite_is_never_the_best():
    model = nn.Linear(8, 1, rng=0)
    before = model.state_dict()
    run = training.fit(
        model, nn.mse_loss, optim.SGD(model.parameters(), lr=0.1), X, Y, 50, rng=0,
        validation=(np.full_like(X, np.nan), Y), patience=3,
    )  # fmt: skip
    assert len(run) == 3
    assert np.isnan(run.validation_loss).all()
    assert (model.weight.data != before["weight"]).all(), "there is no best epoch to go back to"


def test_a_progress_bar(capfd):
    pytest.importorskip("tqdm")
    fitted(3, progress=True)
    shown = capfd.readouterr().err
    assert "3/3" in shown
    assert "validation loss=" in shown
