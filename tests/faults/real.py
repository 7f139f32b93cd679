"""Are the faults real? Is each run stuck, and does the same training without the fault get lower?

    python tests/faults/real.py                       the runs of unseen.py: prints what is not as it should be
    python tests/faults/real.py --all --seeds 0       and all the numbers

Nothing is diagnosed here. 400 more updates are made, and the loss is measured every 40. A run is stuck if the mean of
the last five is lower than that of the first five by less than 3 %, or by less than 5 % of what separates it from the
training without the fault; or by no more than chance, two standard errors. A fault is real if that training, with as
many updates as the run, comes to a loss that is lower by more than 10 %. A healthy run is lowered by more than 10 % by
300 more updates. A loss without a lower bound is judged by another, and data that are learnt have a loss near 0.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import runs
import unseen
from benchmark import value
from runs import Recipe

from microgradopt.training import Run

MORE, TIMES = 40, 10  # updates
HEALTHY = ("healthy",)
LEARNT = 1e-3  # a loss near 0


@dataclass(frozen=True)
class Check:
    """The loss of a run, of the same gone on, and of the training without the fault; nan where there is none."""

    name: str
    seed: int
    causes: tuple[str, ...]
    now: float
    on: float
    chance: float
    mended: float
    seconds: float

    @property
    def stuck(self) -> bool:
        if self.causes == ("separable data",):
            return self.now < LEARNT
        if not np.isfinite(self.on):
            return True
        gained = self.now - self.on
        if gained <= max(0.03 * abs(self.now), self.chance):
            return True
        return gained < 0.05 * (self.now - self.mended)

    @property
    def problem(self) -> str:
        if self.causes == HEALTHY:
            return "" if lower(self.on, self.now) else "does not go on"
        if not self.stuck:
            return "not stuck"
        return "" if np.isnan(self.mended) or lower(self.mended, self.on) else "no better without the fault"


def lower(a: float, b: float) -> bool:
    """Whether a is lower than b by more than 10 %."""
    return bool(a < b - 0.1 * abs(b)) if np.isfinite(b) else bool(np.isfinite(a))


def train(recipe: Recipe, run: Run, updates: int) -> Run:
    with np.errstate(all="ignore"):
        return recipe.loop(run, updates) if recipe.loop else run.train(updates)


def check(which: tuple[str, int]) -> Check:
    warnings.simplefilter("ignore")
    name, seed = which
    recipe = next(r for r in everything() if r.name == name)
    started = time.perf_counter()
    run = recipe.make(seed)
    seconds = time.perf_counter() - started
    chance = 0.0
    if recipe.causes == HEALTHY:
        now, on = value(run, recipe), value(train(recipe, run, 300), recipe)
    else:
        losses = [value(train(recipe, run, MORE), recipe) for _ in range(TIMES)]
        halves = np.reshape(losses, (2, -1))
        now, on = halves.mean(axis=1)
        if np.isfinite(on):
            chance = 2 * np.sqrt(np.sum(halves.var(axis=1, ddof=1)) / halves.shape[1])
    mended, begin = np.nan, getattr(recipe, "mended", None)
    if begin is not None:
        with np.errstate(all="ignore"):
            mended = value(begin(seed).train(recipe.updates), recipe)
    return Check(name, seed, recipe.causes, float(now), float(on), chance, mended, seconds)


def everything() -> list[Recipe]:
    return [*unseen.FAULTS, *unseen.HEALTHY, *runs.FAULTS, *runs.HEALTHY]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3])
    parser.add_argument("--only", default="", help="runs whose name has this in it")
    parser.add_argument("--of", choices=("unseen", "runs"), default="unseen")
    parser.add_argument("--all", action="store_true", help="print the numbers of all, not of the problems only")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    chosen = {"unseen": [*unseen.FAULTS, *unseen.HEALTHY], "runs": [*runs.FAULTS, *runs.HEALTHY]}[args.of]
    names = [(r.name, seed) for r in chosen if args.only in r.name for seed in args.seeds]
    with ProcessPoolExecutor(args.processes) as pool:
        checks = list(pool.map(check, names))
    for c in checks:
        if args.all or c.problem:
            numbers = f"now {c.now:9.4g}  on {c.on:9.4g}  mended {c.mended:9.4g}  {c.seconds:4.1f} s"
            print(f"{c.name:50} {c.seed}  {numbers}  {c.problem}")
    took = [c.seconds for c in checks] or [0.0]
    print(f"{len(checks)} checked, {sum(bool(c.problem) for c in checks)} with problems")
    print(f"{np.median(took):.2f} s to make each (median), {max(took):.1f} s at most")


if __name__ == "__main__":
    main()
