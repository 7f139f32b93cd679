"""The hand-written programs are right, all engines agree, and the comparison runs. No test here depends on timing."""

from __future__ import annotations

import os
import subprocess
import sys

import compare
import pytest

ROWS = list(compare.rows(quick=True))
TITLES = [row.title for row in ROWS]


@pytest.fixture(scope="module")
def by_hand():
    return compare.engines(["ours", "by_hand"])


@pytest.mark.parametrize("row", [row for row in ROWS if row.workload != "scalar_moons"], ids=lambda row: row.title)
def test_hand_written_programs_agree(row, by_hand):
    taking_part = compare.contenders(row, by_hand)
    assert taking_part.keys() == {compare.OURS, compare.HAND}
    compare.check(row, taking_part)


def test_disagreement_is_found(by_hand):
    row = ROWS[0]
    taking_part = compare.contenders(row, by_hand)
    hand = taking_part[compare.HAND]
    wrong = hand._replace(read=lambda result: [a * (1 + 1e-7) for a in hand.read(result)])
    with pytest.raises(AssertionError, match=r"differs from microgradopt by 1\.0e-07"):
        compare.check(row, {**taking_part, compare.HAND: wrong})


def test_goals_are_computed():
    samples = {compare.OURS: [2.0, 4.0, 9.0], compare.HAND: [1.0, 2.0, 3.0]}
    goals = {compare.HAND: 2.5, compare.TORCH: 0.4}
    cells = compare.line("a row", samples, goals, compare.duration)
    assert cells[:3] == ["a row", "4 s", "2"]
    assert cells[-1] == "yes, not measured"
    assert compare.line("a row", samples, {compare.HAND: 1.9}, compare.duration)[-1] == "no (2)"


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, while it is imported
@pytest.mark.parametrize("row", [row for row in ROWS if row.workload != "scalar_moons"], ids=lambda row: row.title)
def test_torch_agrees(row, by_hand):
    pytest.importorskip("torch")
    available = by_hand | compare.engines(["torch_eager"])
    taking_part = compare.contenders(row, available)
    assert compare.TORCH in taking_part
    compare.check(row, taking_part)


@pytest.mark.long
def test_quick_run_prints_all_rows(tmp_path):
    file = tmp_path / "table.md"
    command = [sys.executable, compare.__file__, "--quick", "--peers", "micrograd_scalars", "--write", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=300)
    assert done.returncode == 0, done.stderr
    table = [text.split(" | ")[0].removeprefix("| ") for text in done.stdout.splitlines() if text.startswith("| ")]
    assert table[2:-2] == TITLES
    assert table[-2].startswith("import")
    assert table[-1].startswith("memory")
    assert done.stdout.strip() in file.read_text()
