"""The demos run at their smallest, and say what they should."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

DEMOS = Path(__file__).parent.parent / "demos"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("pictures")
    main = runpy.run_path(str(DEMOS / "digits.py"))["main"]
    return main(["--quick", "--out", str(out)]), out


def test_digits_trains_all_five_from_the_same_start(quick):
    runs, _ = quick
    assert list(runs) == ["SGD", "Momentum", "RMS", "RMSProp", "Adam"]
    assert len({run.history.loss[0] for run in runs.values()}) == 1, "the first loss is before any step"
    for run in runs.values():
        assert run.history.loss[-1] < run.history.loss[0] / 2


def test_digits_learns(quick):
    runs, _ = quick
    assert max(run.by_epoch[-1][1].accuracy for run in runs.values()) > 0.94


def test_digits_saves_its_picture(quick):
    _, out = quick
    assert (out / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_digits_same_seed_same_bits(tmp_path):
    main = runpy.run_path(str(DEMOS / "digits.py"))
    train_set, test_set = main["digits"](seed=3)

    class Bar:
        set_postfix_str = update = staticmethod(lambda *args: None)

    first, second = (main["train"]("Adam", 0.01, train_set, test_set, 1, 3, Bar()) for _ in range(2))
    assert first.history.loss == second.history.loss


def test_error_surface(tmp_path):
    points, way = runpy.run_path(str(DEMOS / "error_surface.py"))["main"](["--quick", "--out", str(tmp_path)])
    assert [point.kind for point in points] == ["saddle point"] + 3 * ["local minimum"]
    assert way.measured == pytest.approx(way.step**2 - way.step**4 / 4)
    assert (tmp_path / "error_surface.png").read_bytes().startswith(b"\x89PNG")


def test_stuck(tmp_path):
    """Both get stuck, for the reason planted, and get out."""
    saddle, leaping = runpy.run_path(str(DEMOS / "stuck.py"))["main"](["--quick", "--out", str(tmp_path)])
    for run, verdict in ((saddle, "saddle point"), (leaping, "bouncing")):
        step, first = run.advised[0]
        assert first.verdict == verdict
        assert run.history.loss[-1] < 0.6 * run.history.loss[step - 1]
    assert saddle.history.gradient_norm[saddle.advised[0][0] - 1] < 1e-4
    assert (tmp_path / "stuck.png").read_bytes().startswith(b"\x89PNG")


def test_graph(tmp_path):
    text, times = runpy.run_path(str(DEMOS / "graph.py"))["main"](["--quick", "--out", str(tmp_path)])
    assert "d_weight_0 = d_linear1.T @ x  # gradient by 0.weight" in text
    assert [name for name, _ in times] == ["2-16-16-1", "64-32-10", "784-128-10"]
    for name in ("neuron", "network", "network_folded", "network_gradient", "network_hvp"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    assert "</html>" in (tmp_path / "neuron.html").read_text(encoding="utf-8")
