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
