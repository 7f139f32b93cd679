"""Batches, fit, evaluation and checkpoints."""

import os
import zipfile

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Objective, nn, optim
from microgradopt.training import (
    History,
    accuracy,
    batches,
    evaluate,
    fit,
    gradient_norm,
    load_checkpoint,
    save_checkpoint,
    trajectory,
)

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 4))
y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def network(seed=0):
    return nn.MLP((4, 8, 3), activation=nn.Tanh, rng=seed)


class TestBatches:
    def test_every_sample_once(self):
        parts = list(batches(np.arange(50), np.arange(50) * 2, 16, rng=0))
        assert [len(a) for a, _ in parts] == [16, 16, 16, 2]
        assert sorted(np.concatenate([a for a, _ in parts])) == list(range(50))
        assert all((b == 2 * a).all() for a, b in parts)

    def test_order_is_kept_without_rng_and_shuffled_with(self):
        in_order = np.concatenate([a for a, _ in batches(np.arange(50), np.arange(50), 7, shuffle=False)])
        shuffled = np.concatenate([a for a, _ in batches(np.arange(50), np.arange(50), 7, rng=0)])
        assert (in_order == np.arange(50)).all()
        assert (shuffled != np.arange(50)).any()

    def test_none_is_all_at_once(self):
        ((a, _),) = batches(X, y)
        assert a.shape == X.shape

    @pytest.mark.parametrize(("rows", "size"), [(49, 10), (50, 0)])
    def test_bad_arguments(self, rows, size):
        with pytest.raises(ValueError, match="batches"):
            list(batches(X, y[:rows], size))


class TestFit:
    @pytest.mark.parametrize("name", ["Newton", "NewtonCG", "SaddleFreeNewton", "LBFGS", "SAM", "PerturbedGD"])
    def test_optimizers_that_evaluate_the_loss_themselves(self, name, tmp_path):
        model = network()
        optimizer = getattr(optim, name)(model.parameters())
        history = fit(model, nn.cross_entropy, optimizer, X, y, epochs=5)
        assert history.loss[-1] < history.loss[0]
        save_checkpoint(tmp_path / "saved.npz", model, optimizer)
        again = network(1)
        loaded = getattr(optim, name)(again.parameters())
        load_checkpoint(tmp_path / "saved.npz", again, loaded)
        first, second = (
            fit(*run, X, y, 2).loss for run in ((model, nn.cross_entropy, optimizer), (again, nn.cross_entropy, loaded))
        )
        assert first == second

    def test_is_the_three_lines(self):
        """Against the loop anyone would write, bit for bit."""
        model, by_hand = network(), network()
        history = fit(
            model, nn.cross_entropy, optim.Adam(model.parameters(), 0.01), X, y, epochs=3, batch_size=16, rng=5
        )
        optimizer, order, losses = optim.Adam(by_hand.parameters(), 0.01), np.random.default_rng(5), []
        for _ in range(3):
            permutation = order.permutation(50)
            for start in range(0, 50, 16):
                chosen = permutation[start : start + 16]
                optimizer.zero_grad()
                loss = nn.cross_entropy(by_hand(X[chosen]), y[chosen])
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        assert history.loss == losses
        assert all(
            np.array_equal(p.data, q.data) for p, q in zip(model.parameters(), by_hand.parameters(), strict=True)
        )

    def test_history(self):
        model = network()
        schedule = optim.schedules.Exponential(0.1, 0.5)
        history = fit(model, nn.cross_entropy, optim.SGD(model.parameters(), schedule), X, y, epochs=4)
        assert history.lr == [0.1, 0.05, 0.025, 0.0125]
        assert len(history) == len(history.gradient_norm) == len(history.seconds) == 4
        assert "4 updates" in repr(history)
        again = fit(model, nn.cross_entropy, optim.SGD(model.parameters(), 0.1), X, y, epochs=2, history=history)
        assert again is history
        assert len(history) == 6

    def test_gradient_norm_is_the_flat_one(self):
        model = network()
        nn.cross_entropy(model(X), y).backward()
        flat = mg.Objective.of(model, lambda: nn.cross_entropy(model(X), y)).gradient()
        assert gradient_norm(model.parameters()) == pytest.approx(np.linalg.norm(flat), rel=1e-14)

    def test_on_epoch(self):
        model, seen = network(), []
        optimizer = optim.SGD(model.parameters(), 0.1)
        fit(model, nn.cross_entropy, optimizer, X, y, 3, 25, on_epoch=lambda epoch, h: seen.append((epoch, len(h))))
        assert seen == [(0, 2), (1, 4), (2, 6)]

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_stops_before_a_step_that_would_spoil(self):
        model, history = network(), History()
        optimizer = optim.SGD(model.parameters(), 0.1)
        bad = X.copy()
        bad[30] = np.nan  # in the fourth batch of ten
        with pytest.raises(mg.NonFiniteError, match="step 3 the loss is nan"):
            fit(model, nn.cross_entropy, optimizer, bad, y, 1, 10, history=history, shuffle=False)
        reference = network()
        fit(reference, nn.cross_entropy, optim.SGD(reference.parameters(), 0.1), X[:30], y[:30], 1, 10, shuffle=False)
        assert len(history) == 3
        assert all(
            np.array_equal(p.data, q.data) for p, q in zip(model.parameters(), reference.parameters(), strict=True)
        )


class TestEvaluation:
    def test_evaluate(self):
        model = network()
        result = evaluate(model, nn.cross_entropy, X, y)
        scores = model(X).data
        assert result.accuracy == np.mean(scores.argmax(axis=1) == y)
        log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        assert result.loss == pytest.approx(-log_p[np.arange(50), y].mean(), rel=1e-12)

    def test_accuracy_of_tensors_and_arrays(self):
        scores = np.array([[1.0, 2.0], [3.0, 0.0]])
        assert accuracy(scores, np.array([1, 1])) == accuracy(mg.Tensor(scores), np.array([1, 1])) == 0.5
        with pytest.raises(ValueError, match="accuracy"):
            accuracy(scores, np.array([[1], [1]]))


def trained(optimizer_class=optim.Adam, **settings):
    model = network()
    optimizer = optimizer_class(model.parameters(), 0.01, **settings)
    fit(model, nn.cross_entropy, optimizer, X, y, 2, 16, rng=1)
    return model, optimizer


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("optimizer_class", "settings"),
        [(optim.SGD, {"momentum": 0.9}), (optim.Adam, {"amsgrad": True}), (optim.NAdam, {}), (optim.Muon, {})],
    )
    def test_resumed_equals_uninterrupted(self, tmp_path, optimizer_class, settings):
        model, optimizer = trained(optimizer_class, **settings)
        save_checkpoint(tmp_path / "run.npz", model, optimizer)
        resumed = network(seed=9)
        resumed_optimizer = optimizer_class(resumed.parameters(), 0.5)
        load_checkpoint(tmp_path / "run.npz", resumed, resumed_optimizer)
        for m, o in ((model, optimizer), (resumed, resumed_optimizer)):
            fit(m, nn.cross_entropy, o, X, y, 2, 16, rng=2)
        assert all(
            np.array_equal(p.data, q.data) for p, q in zip(model.parameters(), resumed.parameters(), strict=True)
        )

    def test_nothing_is_pickled_and_nothing_else_is_left(self, tmp_path):
        save_checkpoint(tmp_path / "run.npz", *trained())
        assert os.listdir(tmp_path) == ["run.npz"]
        with np.load(tmp_path / "run.npz", allow_pickle=False) as archive:
            assert all(archive[name].dtype != object for name in archive.files)

    def test_a_failed_save_keeps_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "run.npz"
        model, optimizer = trained()
        save_checkpoint(path, model, optimizer)
        before = path.read_bytes()

        def full_disk(*args, **kwargs):
            raise OSError("no space left on device")

        monkeypatch.setattr(np, "savez", full_disk)
        with pytest.raises(OSError, match="no space"):
            save_checkpoint(path, model, optimizer)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["run.npz"]

    def damaged(self, path, how):
        whole = path.read_bytes()
        match how:
            case "truncated":
                path.write_bytes(whole[: len(whole) // 2])
            case "empty":
                path.write_bytes(b"")
            case "foreign":
                path.write_text("hello")
            case "pickled":
                with open(path, "wb") as file:
                    np.savez(file, **{"model/0.weight": np.array([{"a": 1}], dtype=object)})
            case "misshapen":
                save_checkpoint(path, nn.MLP((4, 9, 3), rng=0))
            case "missing":
                save_checkpoint(path, nn.Sequential(nn.Linear(4, 8, rng=0)))
            case "extra":
                save_checkpoint(path, nn.MLP((4, 8, 3, 3), rng=0))
            case "without optimizer":
                save_checkpoint(path, network())
            case "flipped":
                with zipfile.ZipFile(path) as archive:
                    offset = archive.infolist()[0].header_offset + 200
                path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 255]) + whole[offset + 1 :])

    @pytest.mark.parametrize(
        "how",
        [
            "truncated",
            "empty",
            "foreign",
            "pickled",
            "misshapen",
            "missing",
            "extra",
            "without optimizer",
            "flipped",
        ],
    )
    def test_a_bad_file_changes_nothing(self, tmp_path, how):
        path = tmp_path / "run.npz"
        save_checkpoint(path, *trained())
        self.damaged(path, how)
        model, optimizer = trained()
        parameters, state = model.state_dict(), optimizer.state_dict()
        with pytest.raises(ValueError, match="load_checkpoint"):
            load_checkpoint(path, model, optimizer)
        assert all(np.array_equal(parameters[name], array) for name, array in model.state_dict().items())
        assert repr(optimizer.state_dict()) == repr(state)

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load_checkpoint(tmp_path / "none.npz", network())


# Over an error surface ------------------------------------------------------------------------------------------------


def bowl(w):
    return w[0] ** 2 + 10 * w[1] ** 2


def test_trajectory_of_gradient_descent_is_known():
    """On Σ aᵢ wᵢ² every coordinate shrinks by 1 − 2 a η."""
    objective, history = Objective(bowl, [1.0, -1.0]), History()
    thetas = trajectory(objective, optim.SGD(objective.parameters, lr=0.04), 5, history)
    k = np.arange(6)
    np.testing.assert_allclose(thetas, np.stack([0.92**k, -(0.2**k)], axis=1))
    np.testing.assert_allclose(history.loss, [bowl(w) for w in thetas[:-1]])
    np.testing.assert_allclose(history.gradient_norm, [np.hypot(2 * a, 20 * b) for a, b in thetas[:-1]])
    assert np.array_equal(objective.theta, thetas[-1])


def test_trajectory_with_a_closure():
    objective = Objective(bowl, [1.0, -1.0])
    thetas = trajectory(objective, optim.LBFGS(objective.parameters), 4)
    assert thetas.shape == (5, 2)
    assert np.abs(thetas[-1]).max() < 1e-6


def test_trajectory_that_leaves_the_finite_ends_where_it_was_finite():
    objective = Objective(lambda w: np.sum(w**4), [3.0])
    with np.errstate(all="ignore"):
        thetas = trajectory(objective, optim.SGD(objective.parameters, lr=1.0), 1000)
    assert 2 < len(thetas) < 20
    with np.errstate(over="ignore"):
        assert np.isfinite(np.linalg.norm(objective.gradient()))
    assert np.array_equal(objective.theta, thetas[-1])
