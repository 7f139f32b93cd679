"""All ways of a whole loop give the same numbers, and the tables say what the times say. Nothing here is timed."""

from __future__ import annotations

import growth
import loops
import numpy as np
import pytest
from problems import Problem


def test_all_ways_lead_to_the_same_weights():
    problem = Problem(*loops.NETS[0])
    thetas = []
    for engine in (loops.ours, loops.jaxs, loops.torchs):
        try:
            ways, theta = engine(problem, 3)
        except ModuleNotFoundError:
            continue
        for name, (run, _) in ways.items():
            if "native" not in name:
                run(15)
        thetas.append(theta())
    assert len(thetas) > 1 or pytest.skip("neither JAX nor PyTorch is installed")
    for theta in thetas[1:]:
        np.testing.assert_allclose(theta, thetas[0], rtol=1e-9, atol=1e-12)


def test_ratios_and_goals():
    times = {"step": 40.0, "many": 10.0, "vmap": 5.0}
    text = loops.tables([(Problem(*loops.NETS[0]), times)])
    assert "| many runs, NumPy ÷ compiled step | 0.25 (≤ 0.22, missed) |" in text
    assert "| many runs, NumPy ÷ vmap in scan | 2.00 (≤ 1.6, missed) |" in text
    assert "| loop, native ÷ scan | – |" in text


def test_the_slope_of_a_power():
    assert growth.slope([(n, 3.0 * n**1.5) for n in (1, 2, 4, 8, 16)]) == pytest.approx(1.5)
