"""Which runs hold each threshold: each is halved and doubled, and the verdicts that change are listed.

One run of each cause, and every third of the healthy ones.

python tests/faults/thresholds.py                                  prints the table
python tests/faults/thresholds.py --write docs/stuck.md            and puts it into the docs
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from benchmark import written
from runs import FAULTS, HEALTHY

from microgradopt import critical
from microgradopt.diagnosis import thresholds

BEGIN, END = "<!-- thresholds -->", "<!-- /thresholds -->"
SEED = 0
LINE = re.compile(r"^([A-Z]+) = (\S+)  # (.*)$", re.MULTILINE)


def known() -> list[tuple[str, float, str]]:
    """Name, value and meaning of each threshold, as its file says."""
    text = Path(thresholds.__file__).read_text()
    return [(name, float(value), meaning) for name, value, meaning in LINE.findall(text)]


def verdicts(name: str) -> list[str]:
    """The verdict on a run as things are; then with each threshold halved and doubled."""
    warnings.simplefilter("ignore")
    run = next(r for r in FAULTS + HEALTHY if r.name == name).make(SEED)
    found = [critical.diagnose(run).verdict]
    for threshold, value, _ in known():
        for factor in (0.5, 2.0):
            setattr(thresholds, threshold, value * factor)
            found.append(critical.diagnose(run).verdict)
        setattr(thresholds, threshold, value)
    return found


def table(processes: int) -> str:
    first = {recipe.causes: recipe.name for recipe in reversed(FAULTS)}  # of each cause
    names = [*reversed(first.values()), *(recipe.name for recipe in HEALTHY[::3])]
    with ProcessPoolExecutor(processes) as pool:
        answers = dict(zip(names, pool.map(verdicts, names), strict=True))
    lines = ["| threshold | | meaning | halved, other verdicts | doubled, other verdicts |", "|---|---:|---|---|---|"]
    for i, (threshold, value, meaning) in enumerate(known()):
        cells = []
        for k in (1 + 2 * i, 2 + 2 * i):
            other = [f"{name}: {found[k]}" for name, found in answers.items() if found[k] != found[0]]
            cells.append("; ".join(other) or "none")
        lines.append(f"| `{threshold}` | {value:g} | {meaning} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a document with the markers")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    text = table(args.processes)
    print(text)
    if args.write:
        written(args.write, BEGIN, END, text)


if __name__ == "__main__":
    main()
