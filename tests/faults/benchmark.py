"""How often the diagnosis is right, and what following it gains.

    python tests/faults/benchmark.py                                   prints the tables
    python tests/faults/benchmark.py --write docs/stuck.md             and puts them into the docs
    python tests/faults/benchmark.py --seeds 0 --only schedule         some of the runs

Each run is judged three ways: is the cause named; does following the advice (`Diagnosis.cure`) do better than going on
as before for as many updates, and than another start; is anything misleading said. Seeds 0 and 1 were used for setting
thresholds, 2 and 3 were not.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from runs import FAULTS, HEALTHY, Recipe

from microgradopt import critical, optim
from microgradopt.training import Run

BEGIN, END = "<!-- faults -->", "<!-- /faults -->"  # where the tables go in a document
UPDATES = 200  # as before, and as advised
SILENT = ("undecided", "healthy")  # says nothing that could mislead
HALVES = {"seeds 0 and 1": (0, 1), "seeds 2 and 3, held back": (2, 3), "all": range(100)}
OTHERWISE = ("lr / 10", "lr × 10", "Adam, lr = 0.001", "twice the hidden units")


@dataclass(frozen=True)
class Outcome:
    """What was said of a run, and what the loss came to: as before, advised (None: no advice), and otherwise."""

    name: str
    seed: int
    wanted: tuple[str, ...]
    verdict: str
    before: float
    again: float
    advised: float | None
    otherwise: tuple[float, ...]
    seconds: float

    @property
    def named(self) -> bool:
        return self.verdict in self.wanted

    @property
    def is_healthy(self) -> bool:
        return self.wanted == ("healthy",)

    @property
    def misleads(self) -> bool:
        return not self.named and self.verdict not in SILENT


def value(run: Run, recipe: Recipe) -> float:
    """The loss on validation data where there are some, else on all data; infinite where it is not finite."""
    if recipe.yardstick:
        run = run.changed(loss_function=recipe.yardstick)
    with np.errstate(all="ignore"):
        found = run.loss_on(*run.validation) if run.validation else run.value()
    return found if math.isfinite(found) and not run.stopped else math.inf


def judged(recipe: Recipe, seed: int) -> Outcome:
    """Diagnose a run, follow the advice, and do otherwise."""
    warnings.simplefilter("ignore")
    run = recipe.make(seed)
    started, advised = time.perf_counter(), None
    try:
        found = critical.diagnose(run)
        verdict, seconds = found.verdict, time.perf_counter() - started
        cure = found.cure()
        advised = None if cure is None else value(cure.train(UPDATES), recipe)
    except Exception as error:  # a crash is an answer too, a wrong one
        verdict, seconds = f"{type(error).__name__}: {error}", time.perf_counter() - started
    before = value(gone_on(recipe, recipe.make(seed)), recipe)
    return Outcome(
        recipe.name, seed, recipe.causes, verdict, before, value(recipe.restart(seed, UPDATES), recipe), advised,
        tuple(value(other, recipe) for other in others(recipe, seed)), seconds,
    )  # fmt: skip


def gone_on(recipe: Recipe, run: Run) -> Run:
    with np.errstate(all="ignore"):
        return recipe.loop(run, UPDATES) if recipe.loop else run.train(UPDATES)


def others(recipe: Recipe, seed: int) -> list[Run]:
    """What a user would try without a diagnosis."""
    found = []
    for factor in (0.1, 10.0):
        run = recipe.make(seed)
        run.optimizer.param_groups[0]["lr"] = run.optimizer.lr * factor
        found.append(gone_on(recipe, run))
    run = recipe.make(seed)
    found.append(gone_on(recipe, run.changed(optim.Adam(run.vector.parameters))))
    return [*found, recipe.restart(seed, UPDATES, width=2)]


def better(a: float | None, b: float) -> bool:
    """Whether a is clearly lower than b, by 1%."""
    return a is not None and a < b - 0.01 * abs(b) if math.isfinite(b) else a is not None and math.isfinite(a)


# Tables ---------------------------------------------------------------------------------------------------------------


def share(outcomes: list[Outcome], holds: list[bool]) -> str:
    return f"{sum(holds)} of {len(outcomes)}"


def kinds(outcomes: list[Outcome]) -> str:
    """One line for each kind of fault."""
    lines = [
        "| run | named | misleading | advice better than going on | than another start | verdicts |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name in dict.fromkeys(o.name for o in outcomes):
        own = [o for o in outcomes if o.name == name]
        advised = [o for o in own if o.advised is not None]
        verdicts = ", ".join(f"{v}" + (f" × {n}" if n > 1 else "") for v, n in Counter(o.verdict for o in own).items())
        told = [share(advised, [better(o.advised, x) for o in advised for x in [o.before]]) if advised else "–"]
        told.append(share(advised, [better(o.advised, o.again) for o in advised]) if advised else "–")
        told.insert(0, str(sum(o.misleads for o in own) or "–"))
        lines.append(f"| {name} | {share(own, [o.named for o in own])} | {' | '.join(told)} | {verdicts} |")
    return "\n".join(lines)


def totals(outcomes: list[Outcome], groups: Mapping[str, Collection[int]]) -> str:
    """Of each group of seeds. The first table of a report."""
    lines = [f"| | {' | '.join(groups)} |", "|---|" + "---:|" * len(groups)]
    chosen = [[o for o in outcomes if o.seed in seeds] for seeds in groups.values()]
    faults = [[o for o in some if not o.is_healthy] for some in chosen]
    healthy = [[o for o in some if o.is_healthy] for some in chosen]
    advised = [[o for o in some if o.advised is not None] for some in faults]
    rows = {
        "cause named": [share(some, [o.named for o in some]) for some in faults],
        "misleading": [share(some, [o.misleads for o in some]) for some in faults],
        "healthy left alone": [share(some, [o.named for o in some]) for some in healthy],
        "advice better than going on": [share(some, [better(o.advised, o.before) for o in some]) for some in advised],
        "advice better than another start": [
            share(some, [better(o.advised, o.again) for o in some]) for some in advised
        ],
    }
    return "\n".join(lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()])


def alternatives(faults: list[Outcome]) -> str:
    """The same runs without a diagnosis. Where it gives no advice it counts as no better."""
    lines = ["| what a user would do | better than going on |", "|---|---:|"]
    for i, name in enumerate(OTHERWISE):
        lines.append(f"| {name} | {share(faults, [better(o.otherwise[i], o.before) for o in faults])} |")
    lines.append(f"| another start | {share(faults, [better(o.again, o.before) for o in faults])} |")
    lines.append(f"| as diagnosed | {share(faults, [better(o.advised, o.before) for o in faults])} |")
    return "\n".join(lines)


def report(outcomes: list[Outcome], groups: Mapping[str, Collection[int]] = HALVES, each: bool = True) -> str:
    """All tables. each: with one line for each run."""
    faults = [o for o in outcomes if not o.is_healthy]
    wrong = [f"* {o.name}, seed {o.seed}: {o.verdict}" for o in outcomes if not o.named]
    parts = [totals(outcomes, groups), alternatives(faults)]
    parts += [kinds(faults), kinds([o for o in outcomes if o.is_healthy])] if each else []
    parts += [f"A diagnosis took {np.median([o.seconds for o in outcomes]):.1f} s (median)."]
    return "\n\n".join(parts + ["Not named:\n\n" + "\n".join(wrong)] * bool(wrong))


def written(document: Path, begin: str, end: str, text: str) -> None:
    """Put a text between two markers of a document."""
    old = document.read_text()
    document.write_text(f"{old.split(begin)[0]}{begin}\n{text}\n{end}{old.split(end)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3])
    parser.add_argument("--only", default="", help="runs whose name has this in it")
    parser.add_argument("--write", type=Path, help="a document with the markers")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    chosen = [(recipe, seed) for recipe in FAULTS + HEALTHY for seed in args.seeds if args.only in recipe.name]
    with ProcessPoolExecutor(args.processes) as pool:
        outcomes = list(pool.map(_by_name, [(recipe.name, seed) for recipe, seed in chosen]))
    text = report(outcomes)
    print(text)
    if args.write:
        written(args.write, BEGIN, END, text)


def _by_name(which: tuple[str, int]) -> Outcome:
    recipe = next(r for r in FAULTS + HEALTHY if r.name == which[0])
    return judged(recipe, which[1])


if __name__ == "__main__":
    main()
