"""All ways of a whole loop give the same numbers, and the tables say what the times say. Nothing here is timed."""

from __future__ import annotations

import growth
import loops
import numpy as np
import pytest
from problems import Problem

NET = Problem(*loops.NETS[0])
COMPILED = {"native", "native many", "torch compiled", "torch compiled many"}  # a minute of compiling, all together


def test_all_ways_lead_to_the_same_weights():
    ways = loops.all_ways(NET, 3, set(loops.TITLES) - COMPILED)
    assert {"step", "loop", "many"} <= set(ways)
    assert len(ways) > 3 or pytest.skip("neither JAX nor PyTorch is installed")
    loops.check(ways)


@pytest.mark.parametrize("run", range(3))
def test_a_way_that_leads_elsewhere_is_found(run):
    ways = loops.all_ways(NET, 3, {"step", "many"})
    many = ways["many"]

    def wrong():
        thetas = many.thetas()
        thetas[run, 5] += 1e-5
        return thetas

    with pytest.raises(AssertionError, match="many2 against many"):
        loops.check(ways | {"many2": many._replace(thetas=wrong, run=lambda n: None)})


def test_ratios_and_goals():
    times = {"step": [40.0, 50.0, 90.0], "many": [10.0, 10.0, 30.0], "vmap": [5.0, 5.0, 10.0]}
    text = loops.tables([(NET, times)])
    assert "| many runs, NumPy ÷ compiled step | 0.25 (≤ 0.22, missed) |" in text
    assert "| many runs, NumPy ÷ vmap in scan | 2.00 (≤ 1.6, missed) |" in text
    assert "| loop, native ÷ scan | – |" in text
    assert "| `mg.compile(step)`, called | 50 |" in text


def test_the_roofline(monkeypatch):
    monkeypatch.setattr(loops, "multiplied", lambda: 50.0)
    monkeypatch.setattr(loops, "moved", lambda: 0.1)
    text = loops.roofline([(Problem(*net), {"native": [100.0], "scan": [200.0]}) for net in loops.NETS[1:]])
    assert "| multiplications and additions of matrix products | 647,000 | 52,400,000 |" in text
    assert "| bytes of θ, m and v, read and written | 116,000 | 4,880,000 |" in text
    assert "| µs for them, at 50 a nanosecond | 12.9 | 1,050 |" in text
    assert '| the larger of the two ÷ `.repeat(n)`, engine="numba" | 11.57 | 488.50 |' in text


def test_the_slope_of_a_power():
    points = [(n, 3.0 * n**1.5, 2.0 * n) for n in (1, 2, 4, 8, 16)]
    assert growth.slope(points, 1) == pytest.approx(1.5)
    assert growth.slope(points, 2) == pytest.approx(1)


def test_memory_is_what_is_allocated():
    assert growth.peak(lambda n: [np.zeros(1000) for _ in range(n)]) == pytest.approx(5 * 8000, rel=0.1)
