"""The lecture's claims, by the numbers of the demos at their smallest setting; and what runs the demos."""

import importlib
import json
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn, optim, training

for package in ("sklearn", "matplotlib", "tqdm", "tabulate", "joblib"):
    pytest.importorskip(package)

plt = pytest.importorskip("matplotlib.pyplot")

pytestmark = pytest.mark.long

DEMOS = Path(__file__).parent.parent / "demos"
NAMES = sorted(path.stem for path in DEMOS.glob("[0-9][0-9]_*.py"))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture
def demo(out, monkeypatch):
    """Runs a demo, and gives its variables."""
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def ran(name):
        plt.switch_backend("Agg")
        (path,) = DEMOS.glob(f"{name}_*.py")
        monkeypatch.setattr(sys, "argv", [str(path), "--quick", "--out", str(out)])
        with plt.rc_context(), warnings.catch_warnings():  # a script may set its own sizes
            warnings.simplefilter("ignore", ResourceWarning)
            found = runpy.run_path(str(path), run_name="__main__")
        plt.close("all")
        pictures = [out / f"{path.stem}.png"] if name != "15" else list(out.glob("n*.png"))
        assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
        return found

    return ran


# The claims -----------------------------------------------------------------------------------------------------------


def test_00_hundred_lines(demo):
    """The whole engine beside the library: the same kinds of points, the same way of training."""
    found = demo("00")
    assert (found["slope"].item(), found["bend"].item()) == (0.5, -0.25)
    assert [name for name, *_ in found["rows"]] == ["SGD with momentum", "Adam"]
    for _, loss, right, difference in found["rows"]:
        assert loss < 0.05
        assert right > 0.95
        assert difference < 1e-9, "0 where BLAS adds in the same order"
    assert all(losses[-1] < 0.1 * losses[0] for losses in found["curves"].values())


def test_01_first_gradient(demo):
    found = demo("01")
    errors = np.array(found["errors"])
    assert errors.min() < 1e-9
    assert 3 <= errors.argmin() <= 6, "neither the largest h nor the smallest is the best"
    assert found["losses"].min() < found["losses"][0] - 0.05
    assert [accuracy for *_, accuracy in found["on_the_way"]] == sorted(
        accuracy for *_, accuracy in found["on_the_way"]
    )
    assert found["on_the_way"][-1][2] > 0.95


def test_02_saddles(demo):
    """L1, L2."""
    found = demo("02")
    assert [point.kind for point in found["points"]] == ["saddle point"] + 3 * ["local minimum"]
    assert found["points"][0].eigenvalues == pytest.approx([-2, 2])
    assert found["way"].measured == pytest.approx(found["way"].step ** 2 - found["way"].step ** 4 / 4)
    _, predicted, measured = found["rows"][0]
    assert measured == pytest.approx(predicted, rel=0.02), "a small step falls as the eigenvalue says"
    assert found["stuck"].kind == "saddle point"
    assert found["history"].loss[-1] < 0.7 * found["stuck"].value
    assert found["after"] > found["before"] + 0.3


def test_03_minima_are_rare(demo):
    """L3: the nearer to 1 the ratio is, the lower the loss."""
    found = demo("03")
    (each,) = found["found"]
    assert each["nets"] == 12 >= sum(found["counts"].values()) + each["unfinished"]
    points = found["points"]
    assert len(points) >= 5
    assert all(r["gradient_norm"] < 1e-12 for r in points), "certified"
    assert found["correlation"] < -0.7
    assert 0 < len(found["minima"]) < len(points)
    assert max(r["loss"] for r in found["minima"]) < np.median([r["loss"] for r in points if r["ratio"] < 0.9])


def test_04_time_and_noise_of_batches(demo):
    """L4. The times are the machine's, and not asserted; the noise is."""
    found = demo("04")
    assert found["measured"].shape == found["measured_compiled"].shape == (len(found["sizes"]), 3)
    assert np.all(np.diff(found["measured"]) >= 0), "quartiles"
    noise, law = np.array(found["noise"][:-1]), np.array(found["law"][:-1])
    np.testing.assert_allclose(noise, law, rtol=0.3)
    assert found["noise"][-1] < 1e-12
    assert np.all(np.diff(found["cosine"]) > 0)


def test_05_small_batches_at_equal_epochs_and_equal_updates(demo):
    """L5: ahead at equal epochs; hardly any difference at equal updates."""
    found = demo("05")
    gaps = found["gaps"]
    assert gaps["epochs"] > 0.3
    assert abs(gaps["updates"]) < 0.15
    assert abs(gaps["loss"]) < 0.05
    for seed in range(2):  # the many trainings at once are those of `fit`
        train, _ = found["digits"](seed)
        model = nn.MLP((64, 32, 10), nn.Tanh, rng=seed)
        training.fit(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.05), *train, 4, 128, rng=seed)
        alone = training.evaluate(model, nn.cross_entropy, *train)
        assert found["over_seeds"]("epochs", 128, "train_loss")[seed] == pytest.approx(alone.loss, rel=1e-6)


def test_06_momentum(demo):
    """L6."""
    found = demo("06")
    assert found["difference"] < 1e-12, "a weighted sum of all gradients"
    stopped, rolled = found["rolls"].values()
    assert stopped[-1] == pytest.approx(-2, abs=0.1)
    assert rolled[-1] == pytest.approx(5, abs=0.1)
    assert found["needed"]["gradient descent"] == pytest.approx(np.log(1e-4) / np.log(99 / 101), rel=0.02)
    assert found["needed"]["momentum"] < found["needed"]["gradient descent"] / 5


def test_07_a_flat_loss_with_a_large_gradient(demo):
    """L7: at the edge of stability."""
    found = demo("07")
    late = np.array(found["sharpness"][4:])
    assert np.all(np.abs(late / (2 / found["lr"]) - 1) < 0.15), "λ_max stays at 2/η"
    assert np.median(found["norm"][-200:]) > 3 * found["norm"].min()
    assert np.median(found["cosines"]) < -0.9, "each step goes back on the one before"
    assert found["calm"].gradient_norm[-1] < 0.2 * np.median(found["norm"][-200:])


def test_08_one_learning_rate_on_a_long_ellipse(demo):
    """L8, by the closed form of gradient descent on a quadratic."""
    found = demo("08")
    assert found["optimum"] == pytest.approx([-188.433, 2.6695], rel=1e-4)
    assert found["steep"] / found["flat"] == pytest.approx(3.1e5, rel=0.02)
    assert found["limit"] == pytest.approx(1.14e-6, rel=0.01)
    leapt, at_limit, small = (thetas for thetas, _ in found["runs"].values())
    assert abs(leapt[1] - found["optimum"]).max() > 10_000
    values, vectors = np.linalg.eigh(found["surface"].hessian())
    for thetas, lr in ((at_limit, 0.9 * found["limit"]), (small, 1e-7)):
        along = vectors.T @ (found["start"] - found["optimum"])
        expected = found["optimum"] + vectors @ ((1 - lr * values) ** (len(thetas) - 1) * along)
        np.testing.assert_allclose(thetas[-1], expected, rtol=1e-6)
        assert found["distance"](thetas[-1]) > 0.5


def test_09_root_mean_square_bursts_and_decay_cures_it(demo):
    """L9, L11, with the update transcribed from the lecture."""
    found = demo("09")
    x, y = found["x"], found["y"]
    theta, squares = found["start"].copy(), np.zeros(2)
    way = found["ways"]["Root Mean Square, η = 1"]
    for t in range(200):
        residual = theta[0] + theta[1] * x - y
        g = np.array([2 * residual.sum(), 2 * (residual * x).sum()])
        squares += g**2
        theta = theta - g / np.sqrt(squares / (t + 1))
        np.testing.assert_allclose(way[t + 1], theta, rtol=1e-9)
    counts = {name: len(bursts) for name, bursts in found["found"].items()}
    assert counts["Root Mean Square, η = 1"] >= 3
    assert [n for name, n in counts.items() if name != "Root Mean Square, η = 1"] == [0, 0, 0]
    assert found["same"] < 1e-10, "η/√(t+1) is Adagrad"
    assert found["reach"][found["first"] - 20] > 2, "a burst comes when η/σ · curvature is beyond 2"


def test_10_rmsprop_forgets(demo):
    """L10; and by how much the first steps of the two forms differ."""
    found = demo("10")
    assert found["arrivals"]["Root Mean Square"] is None
    ends = {name: way[-1, 0] for name, way in found["ways"].items()}
    assert ends["RMSProp, the lecture's"] > ends["Root Mean Square"] + 3
    first = {name: way[1, 0] - way[0, 0] for name, way in found["ways"].items()}
    assert first["RMSProp, the lecture's"] == pytest.approx(0.01)
    assert first["RMSProp, PyTorch's"] == pytest.approx(0.01 / np.sqrt(1 - 0.99), rel=1e-3)


def test_11_warm_up(demo):
    """L12: σ is a poor estimate at first; a learning rate that is too large is borne better with warm-up."""
    found = demo("11")
    assert np.all(np.diff(found["spread"]) < 0)
    assert found["spread"][0] > 5 * found["spread"][-1]
    assert found["moved"].min() > 0.0098
    assert found["moved"].max() < 0.0101
    worst = {method: found["over_seeds"](method, 0.1, "peak").max() for method in found["methods"]}
    assert worst["warm-up, decay"] < worst["decay"]


def test_12_race(demo, out):
    """L13."""
    found = demo("12")
    assert found["first"] == pytest.approx(
        -found["chosen"]["Adam"] * np.sign(found["surface"].gradient(found["start"])), rel=1e-6
    )
    ends = {name: loss[-1] for name, loss in found["losses"].items()}
    assert ends["momentum"] < ends["gradient descent"]
    assert ends["Adam"] < ends["gradient descent"]
    assert (out / "12_race.gif").read_bytes().startswith(b"GIF")


def test_13_digits(demo):
    """L13 on digits: all five from the same start, and all learn."""
    runs = demo("13")["runs"]
    assert list(runs) == ["SGD", "Momentum", "RMS", "RMSProp", "Adam"]
    assert len({history.loss[0] for history, _, _ in runs.values()}) == 1, "the first loss is before any step"
    assert all(history.loss[-1] < history.loss[0] / 2 for history, _, _ in runs.values())
    assert max(ends[-1][1].accuracy for _, ends, _ in runs.values()) > 0.94


def test_14_stuck(demo):
    """Both get stuck, for the reason planted, and get out."""
    found = demo("14")
    for key, stuck, verdict in (
        ("alike", "copies", "identical units"),
        ("too_large", "bouncing", "learning rate too large"),
    ):
        diagnosis, cured = found[key]
        assert diagnosis.verdict == verdict
        assert cured.loss[-1] < 0.6 * found[stuck].loss[-1]
    assert found["copies"].gradient_norm[-1] < 1e-4


def test_15_graph(demo, out):
    found = demo("15")
    assert found["same"]
    assert "d_weight_0 = d_linear1.T @ x  # gradient by 0.weight" in found["text"]
    for name in ("neuron", "network", "network_folded", "network_gradient", "network_hvp"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (out / f"{name}.svg").read_text(encoding="utf-8")
    assert "</html>" in (out / "neuron.html").read_text(encoding="utf-8")


def test_16_the_loss_changes_the_terrain(demo):
    """L14, by the closed form: L = 2 (1 − p)²/3 for the squared error, with p = 1 / (1 + e²⁰)."""
    found = demo("16")
    p = 1 / (1 + np.exp(20.0))
    assert found["norms"]["cross-entropy"] == pytest.approx(np.sqrt(2) * (1 - p), rel=1e-9)
    assert found["norms"]["squared error"] == pytest.approx(np.sqrt(2) * 4 / 3 * (1 - p) ** 2 * p, rel=1e-6)
    walked, stayed = (np.linalg.norm(way[-1] - way[0]) for way in found["paths"].values())
    assert walked > 10
    assert stayed < 1e-6
    assert found["flat"].kind == "not critical"
    (learnt, right), (stuck, wrong) = found["runs"].values()
    assert learnt.loss[-1] < 0.1 * learnt.loss[0]
    assert max(stuck.gradient_norm) < 1e-9
    assert right > 0.6 > 0.2 > wrong


def test_17_standardised_features_make_the_surface_round(demo):
    """L15."""
    found = demo("17")
    design = np.column_stack([found["X"], np.ones(50)])
    values = np.linalg.svd(design, compute_uv=False) ** 2  # of XᵀX, another way than by a Hessian
    assert found["condition"]["as they are"] == pytest.approx(values[0] / values[-1], rel=1e-6)
    assert found["condition"]["as they are"] == pytest.approx(1.6e6, rel=0.01)
    assert found["condition"]["standardised"] == pytest.approx(1.08, abs=0.005)
    assert found["arrived"](found["histories"]["standardised"].loss) < 5
    assert found["arrived"](found["histories"]["as they are"].loss) is None
    accuracies = {row[:2]: row[4] for row in found["rows"]}
    for name in ("gradient descent", "Adam"):
        assert accuracies[name, "standardised"] > accuracies[name, "as they are"] + 0.2


def test_18_batch_normalisation(demo):
    """L16."""
    found = demo("18")
    np.testing.assert_allclose(found["standard"].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found["standard"].std(axis=0), 1)
    losses = found["losses"]
    assert min(losses["Sigmoid", "without", lr] for lr in found["rates"]) > 2.2, "nothing learnt: ln 10 = 2.303"
    assert min(losses["Sigmoid", "before", lr] for lr in found["rates"]) < 1
    assert found["at_start"]["Tanh", "before"] > found["at_start"]["Tanh", "without"]
    accuracies = [right for _, right in found["rows"]]
    assert accuracies[0] < accuracies[-1], "a batch of two has poor statistics"


def test_19_the_deep_network_could_have_copied_the_shallow_one(demo):
    """L17."""
    found = demo("19")
    assert found["verdicts"]["no cure"].verdict == "optimization"
    assert found["verdicts"]["no cure"].copied == pytest.approx(min(found["verdicts"]["no cure"].smaller), rel=1e-9)
    assert found["bias"].verdict == "model bias"
    assert found["copied"].value() < found["verdicts"]["no cure"].smaller[0]


def test_20_overfitting_and_mismatch(demo):
    """L18."""
    found = demo("20")
    none, more = found["summary"]["none"], found["summary"]["more data: 200 images"]
    assert none[0] < 0.1 * none[1], "learnt by heart"
    assert more[2] > none[2] + 0.05
    assert found["summary"]["early stopping"][3] < none[3]
    assert found["summary"]["early stopping"][1] < none[1]
    old, turned, _ = found["mismatch"]["200 images"]
    assert old > turned + 0.4
    assert found["mismatch"]["200 images, and 200 that are turned"][1] > turned + 0.4


def test_21_the_boundary_of_trainability(demo):
    """Windows lie in each other; what each pixel says is what training alone gives; the line is that of I − D H."""
    found = demo("21")
    for outer, inner in zip(found["windows"][:-1], found["windows"][1:], strict=True):
        assert outer[0] <= inner[0] < inner[1] <= outer[1] + 1e-9
        assert outer[2] <= inner[2] < inner[3] <= outer[3] + 1e-9
        assert (inner[1] - inner[0]) * 8 == pytest.approx(outer[1] - outer[0])
    assert all(0.1 < np.mean(good) < 0.9 for good in found["converged"])
    rates, (means, late) = found["middles"](found["windows"][0]), found["pictures"][0]
    for i in (0, found["pixels"] ** 2 - 1):
        model = nn.MLP((8, 8, 1), nn.Tanh, rng=0)
        layers = [{"params": list(model[j].parameters()), "lr": lr} for j, lr in zip((0, 2), rates[i], strict=True)]
        alone = training.Run(model, nn.mse_loss, optim.SGD(layers), found["X"], found["y"]).train(found["updates"])
        assert np.isfinite(means.flat[i]) == (i == 0)
        if i == 0:
            assert means.flat[i] == pytest.approx(np.mean(alone.loss) / alone.loss[0], rel=1e-6)
        else:
            assert late.flat[i] == np.argmax(np.array([*alone.loss, np.inf]) > 1e3 * alone.loss[0])
    for H in found["hessians"].values():
        for rates in 10.0 ** np.array([(-2.0, -2.0), (0.5, -2.0), (-2.0, 0.3), (-0.9, -0.4)]):
            each = np.where(np.arange(len(H)) < 72, *rates)
            multipliers = np.linalg.eigvals(np.eye(len(H)) - each[:, None] * H)
            assert found["largest"](H, rates) == pytest.approx(1 - np.min(multipliers.real), rel=1e-9)
    straight = np.tile(np.arange(found["pixels"]) < 10, (found["pixels"], 1))
    assert found["dimension"](found["edge"](straight), found["sizes"]) == pytest.approx(1, abs=0.01)


def test_21_on_a_quadratic_the_boundary_is_where_curvature_says():
    """L = ½ (a x² + 2 b x y + c y²), rates η for x and ζ for y: stable below ζ = (4 − 2 a η) / (2 c − η (a c − b²)).

    That is λ_max(D^½ H D^½) = 2 with the eigenvalues of a 2 × 2 matrix written out.
    """
    a, b, c = 3.0, 1.0, 2.0
    x, y = (mg.Tensor([1.0], requires_grad=True) for _ in range(2))
    layers = [{"params": [x]}, {"params": [y]}]
    quadratic = mg.Objective.of([x, y], lambda: ((a * x * x + 2 * b * x * y + c * y * y) / 2).sum())
    bowl = training.Run.of(quadratic, optim.SGD(layers))
    first = np.linspace(0.02, 0.6, 32)  # below 2 / a
    boundary = (4 - 2 * a * first) / (2 * c - first * (a * c - b * b))
    rates = np.stack([np.tile(first, 2), np.concatenate([0.99 * boundary, 1.01 * boundary])], axis=1)
    ends = np.linalg.norm(training.vary(bowl, 3_000, lr=rates).thetas, axis=1)
    assert np.all(ends[:32] < 0.01)
    assert np.all(ends[32:] > 10)
    H = np.array([[a, b], [b, c]])
    for each, expected in ((rates[:32], True), (rates[32:], False)):
        roots = np.sqrt(each)
        assert np.all((np.linalg.eigvalsh(roots[:, :, None] * H * roots[:, None])[:, -1] < 2) == expected)


def test_22_learning_rate_and_batch_size(demo):
    """As many samples seen in each cell; a verdict for each; of the smallest rate, that it is too small."""
    found = demo("22")
    assert set(found["causes"]) == {(size, lr) for size in found["sizes"] for lr in found["rates"]}
    assert set(found["order"]) == set(found["causes"].values())
    assert found["causes"][100, 1e-3] == "learning rate too small"
    for size in found["sizes"]:
        assert all(len(each) * size == found["seen"] for each in found["runs"][size])
        assert found["losses"][size, 0.3] < found["losses"][size, 1e-3], "the small rate has not come so far"
    model = nn.MLP((64, 32, 10), nn.Tanh, rng=0)
    alone = training.fit(
        model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.3, momentum=0.9), *found["train"], 20
    )
    assert found["runs"][100][1].loss == pytest.approx(alone.loss, rel=1e-6)


def test_every_demo_is_tested():
    here = Path(__file__).read_text(encoding="utf-8")
    assert all(f'demo("{name[:2]}")' in here for name in NAMES)


# What runs them -------------------------------------------------------------------------------------------------------


def python_m_demos(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "demos", *arguments], capture_output=True, text=True, cwd=DEMOS.parent, check=False
    )


def test_they_are_listed_with_a_line_each():
    done = python_m_demos()
    assert [line.split()[0] for line in done.stdout.splitlines()[: len(NAMES)]] == NAMES
    assert "Where the gradient is zero: a saddle, and the way off it (lecture L1, L2)" in done.stdout


def test_one_is_run_and_what_it_prints_kept(tmp_path):
    done = python_m_demos("01", "--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "610 parameters" in (tmp_path / "01_first_gradient.txt").read_text(encoding="utf-8")
    assert (tmp_path / "01_first_gradient.png").exists()


def test_one_that_is_not_there():
    done = python_m_demos("77")
    assert done.returncode == 1
    assert "there is no 77" in done.stderr


# Studies --------------------------------------------------------------------------------------------------------------


def square(x, fail=False):
    if fail:
        raise RuntimeError("stopped")
    return {"square": x * x}


@pytest.fixture
def lab():
    return importlib.import_module("lab")


def test_a_study_goes_on_where_it_was_stopped(lab, tmp_path, capsys):
    path = tmp_path / "squares.jsonl"
    with pytest.raises(RuntimeError, match="stopped"):
        lab.study(square, [{"x": 1}, {"x": 2}, {"x": 3, "fail": True}, {"x": 4}], path)
    assert [json.loads(line)["result"]["square"] for line in path.read_text().splitlines()] == [1, 4]
    path.write_text(path.read_text() + '{"case": {"x"')  # cut off in the middle of a line
    assert lab.study(square, [{"x": x} for x in (4, 1, 2)], path) == [
        {"x": 4, "square": 16},
        {"x": 1, "square": 1},
        {"x": 2, "square": 4},
    ]
    assert len(path.read_text().splitlines()) == 3
    lab.study(square, [{"x": 4}], path)
    assert "all 1 results are in" in capsys.readouterr().out


def test_a_study_in_processes_gives_the_same(lab, tmp_path):
    cases = [{"x": x} for x in range(6)]
    assert lab.study(square, cases, tmp_path / "two", jobs=2) == lab.study(square, cases, tmp_path / "one", jobs=1)


def test_another_version_of_the_work_is_done_again(lab, tmp_path):
    path = tmp_path / "squares.jsonl"
    lab.study(square, [{"x": 3}], path)

    def cube(x):
        return {"square": x**3}

    assert lab.study(cube, [{"x": 3}], path) == [{"x": 3, "square": 27}]
