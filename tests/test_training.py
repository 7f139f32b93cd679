"""Batches, fit, evaluation and checkpoints."""

import copy
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from interrupt import Interrupt

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
    @pytest.mark.parametrize("shuffle", [True, False])
    def test_rows_go_by_position(self, shuffle):
        """A pandas Series was indexed by its labels, and a DataFrame by its columns: targets of other rows."""
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(X).assign(target=2 * X[:, 0]).sample(frac=1, random_state=1)
        ways = [(frame[[0, 1]], frame["target"]), (frame[[0, 1]].to_numpy().tolist(), frame["target"].tolist())]
        for inputs, targets in ways:
            for a, b in batches(inputs, targets, 16, rng=0, shuffle=shuffle):
                assert a.shape == (len(b), 2)
                np.testing.assert_array_equal(b, 2 * a[:, 0])

    @pytest.mark.parametrize("bad", [[["a"], ["b"]], 3.0, [None, 1], np.array([object(), 1])])
    def test_what_is_no_array_of_numbers(self, bad):
        with pytest.raises(TypeError, match="batches: X is to be an array of numbers"):
            list(batches(bad, [0, 1]))

    def test_the_order(self):
        """Shuffled by the seed; afresh without one; not at all if so wished, and not where all are one batch."""
        order = [
            np.concatenate([a for a, _ in batches(X[:, 0], y, 7, rng=rng)]).tolist() for rng in (0, 0, 1, None, None)
        ]
        assert order[0] == order[1]
        assert len({str(o) for o in order}) == 4
        for options in ({"batch_size": 7, "shuffle": False}, {"rng": 0}):
            assert np.concatenate([a for a, _ in batches(X[:, 0], y, **options)]).tolist() == X[:, 0].tolist()

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
        assert again.loss is history.loss
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

    def rewritten(self, path, change):
        """The file with something else in it."""
        with np.load(path) as archive:
            arrays = dict(archive)
        state = json.loads(str(arrays["optimizer"]))
        result = change(arrays, state)
        arrays["optimizer"] = np.array(result if isinstance(result, str) else json.dumps(state))
        np.savez(path, **arrays)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a, s: "[" * 100_000 + "]" * 100_000, ""),
            (lambda a, s: s.update(param_groups=[5]), ""),
            (lambda a, s: s.update(param_groups=5), ""),
            (lambda a, s: s.update(state=[None]), ""),
            (lambda a, s: s.update(optimizer="AdamW"), "AdamW"),
            (lambda a, s: s["names"][0].reverse(), "moves"),
            (lambda a, s: s.pop("names"), "moves"),
            (lambda a, s: s["state"][0].update(t=10**400), "count steps"),
            (lambda a, s: s["state"][0].update(t=-1), "count steps"),
            (lambda a, s: a.pop("state/0/m") is None or s["state"][0].update(m=1e300), "is not a vector"),
            (lambda a, s: s["param_groups"][0].update(lr=True), "lr"),
            (lambda a, s: s["param_groups"][0].update(betas=[0.9]), "betas"),
            (lambda a, s: s["param_groups"][0].update(lr={"schedule": "Exec", "lr": 1.0}), "Exec"),
            (lambda a, s: s["param_groups"][0].update(lr={"schedule": "Constant", "lr": 1.0}), "build it with"),
            (lambda a, s: a["model/0.weight"].__setitem__((0, 0), np.nan), "0.weight is not finite"),
            (lambda a, s: a["state/0/m"].__setitem__(0, np.inf), "m in the state is not finite"),
            (lambda a, s: a["state/0/v"].__setitem__(0, -1.0), "v in the state is not finite and not negative"),
            (lambda a, s: a.update({"state/0/m": a["state/0/m"].astype(np.float32)}), "vector of float64"),
            (lambda a, s: a.update({"state/7/m": a["state/0/m"]}), ""),
            (lambda a, s: a.update({"state/-1/m": a["state/0/m"]}), "state/-1/m"),
            (lambda a, s: a.update(more=np.ones(1)), "more"),
            (lambda a, s: s["param_groups"][0].update(lr={"rate": 1.0}), "no schedule with"),
        ],
    )
    def test_a_file_that_says_something_else_changes_nothing(self, tmp_path, change, message):
        path = tmp_path / "run.npz"
        model, optimizer = trained()
        save_checkpoint(path, model, optimizer)
        self.rewritten(path, change)
        parameters, state = model.state_dict(), repr(optimizer.state_dict())
        with pytest.raises(ValueError, match=rf"load_checkpoint: .*{message}.*nothing was loaded"):
            load_checkpoint(path, model, optimizer)
        assert all(np.array_equal(parameters[name], array) for name, array in model.state_dict().items())
        assert repr(optimizer.state_dict()) == state

    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # between open() and with there is no way
    def test_interrupted_anywhere_all_is_loaded_or_nothing(self, tmp_path):
        path = tmp_path / "run.npz"
        save_checkpoint(path, *trained())
        start = network(5)
        run = start, optim.Adam(start.parameters(), lr=0.2)
        copied = copy.deepcopy(run)
        with Interrupt() as whole:
            load_checkpoint(path, *copied)
        states = {repr((m.state_dict(), o.state_dict())) for m, o in (run, trained())}
        for at in np.random.default_rng(0).integers(1, whole.count, size=60):
            model, optimizer = copy.deepcopy(run)
            with Interrupt(int(at)), pytest.raises(KeyboardInterrupt):
                load_checkpoint(path, model, optimizer)
            assert repr((model.state_dict(), optimizer.state_dict())) in states

    def test_schedules_are_saved(self, tmp_path):
        path, s = tmp_path / "run.npz", optim.schedules
        schedule = s.Warmup(3, s.Joined([s.Piecewise(0.1, {2: 0.5}), s.Cosine(0.1, 20)], [7]))
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=schedule)
        fit(model, nn.cross_entropy, optimizer, X, y, 2, 16, rng=0)
        save_checkpoint(path, model, optimizer)
        other = optim.SGD(model.parameters(), lr=s.Constant(1.0))
        load_checkpoint(path, model, other)
        assert other.param_groups[0]["lr"] == schedule
        assert other.lr == optimizer.lr
        with pytest.raises(ValueError, match="build it with a schedule"):
            load_checkpoint(path, model, optim.SGD(model.parameters(), lr=0.1))

    def test_the_mode_of_the_file_and_links(self, tmp_path):
        path, link = tmp_path / "run.npz", tmp_path / "latest.npz"
        before = os.umask(0o022)
        try:
            save_checkpoint(path, network())
            assert path.stat().st_mode & 0o777 == 0o644
            path.chmod(0o664)
            save_checkpoint(path, network())
            assert path.stat().st_mode & 0o777 == 0o664
        finally:
            os.umask(before)
        link.symlink_to(path)
        save_checkpoint(link, network(3))
        assert link.is_symlink()
        other = network()
        load_checkpoint(path, other)
        np.testing.assert_array_equal(other[0].weight.data, network(3)[0].weight.data)

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        """200 times kill -9 had left 130 files."""
        code = (
            "import os, sys, numpy as np; from microgradopt import nn, training\n"
            "np.savez = lambda *args, **kwargs: os.kill(os.getpid(), 9)\n"
            "training.save_checkpoint(sys.argv[1], nn.MLP((2, 2), rng=0))"
        )
        for _ in range(2):
            subprocess.run([sys.executable, "-c", code, str(tmp_path / "run.npz")], check=False)
            assert len(list(tmp_path.iterdir())) == 1
        save_checkpoint(tmp_path / ("long" * 60 + ".npz"), network())
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_folder_and_a_foreign_tensor(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="is a folder"):
            save_checkpoint(tmp_path, network())
        with pytest.raises(ValueError, match="no parameter of this model"):
            save_checkpoint(tmp_path / "run.npz", network(), optim.SGD(network(1).parameters()))
        assert not list(tmp_path.iterdir())

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


def test_trajectory_ends_in_evaluation_where_the_loss_raises():
    calls = iter([False] * 3 + [True])

    def loss(w):
        if next(calls):
            raise RuntimeError("broken loss")
        return np.sum(w * w)

    objective = Objective(loss, [1.0, -1.0])
    optimizer = optim.ScheduleFreeAdamW(objective.parameters, lr=0.1)
    with pytest.raises(RuntimeError, match="broken loss"):
        trajectory(objective, optimizer, 5)
    np.testing.assert_array_equal(objective.theta, optimizer.state_dict()["state"][0]["x"])


@pytest.mark.parametrize("compile", [None, mg.compile])
def test_trajectory_leaves_what_the_loss_does_not_depend_on(compile):
    """As a step by hand does. It had a gradient of 0, and weight decay moved it."""
    used, unused = (mg.Tensor([1.0], requires_grad=True) for _ in range(2))
    objective = Objective.of([used, unused], lambda: (used * used).sum(), compile)
    thetas = trajectory(objective, optim.SGD([used, unused], lr=0.1, weight_decay=0.5), 3)
    np.testing.assert_allclose(thetas, np.stack([0.75 ** np.arange(4), np.ones(4)], axis=1))


def test_trajectory_hands_on_an_error_of_a_step():
    """Only a loss or gradient that is not finite ends it: here the Hessian is not."""
    objective = Objective(lambda w: (w**1.5).sum(), [0.0, 1.0])
    with np.errstate(all="ignore"), pytest.raises(mg.NonFiniteError, match="Hessian"):
        trajectory(objective, optim.Newton(objective.parameters), 5)
    np.testing.assert_array_equal(objective.theta, [0.0, 1.0])


def test_numpys_whole_numbers_are_whole_numbers():
    model = network()
    run = fit(model, nn.cross_entropy, optim.SGD(model.parameters(), 0.1), X, y, np.int64(2), np.int64(25))
    assert len(run) == 4
    for n in (2.0, "2", True, None):
        with pytest.raises(ValueError, match="fit: epochs is a whole number from 0"):
            fit(model, nn.cross_entropy, optim.SGD(model.parameters(), 0.1), X, y, n)
