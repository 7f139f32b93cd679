"""The programs that the docs show to PyTorch and JAX users, run as they stand."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from microgradopt import training

pytestmark = [pytest.mark.parity, pytest.mark.long]
FOLDER = Path(__file__).parent


def test_the_door_for_pytorch():
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    found = runpy.run_path(str(FOLDER / "door_torch.py"))
    assert found["autoencoder"].verdict in ("badly conditioned", "vanishing gradient")
    assert found["cured"].value() < 0.07, "the variance of the pixels is 0.073"
    assert found["convolutional"].verdict == found["transformer"].verdict == "learning rate too small"


def test_the_door_for_jax():
    pytest.importorskip("jax")
    pytest.importorskip("optax")
    pytest.importorskip("sklearn")
    found = runpy.run_path(str(FOLDER / "door_jax.py"))
    assert found["found"].verdict == "learning rate too small"
    scores = np.asarray(found["apply"](found["params"], found["X"]))
    assert training.accuracy(scores, found["y"]) > 0.9


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_from_model_to_verdict_in_ten_lines(name):
    text = (FOLDER / f"door_{name}.py").read_text(encoding="utf-8")
    for part in text.split("\n# ")[1:]:
        lines = [line for line in part.splitlines()[1:] if "bridge." in line or "critical." in line]
        assert len(lines) <= 10
