"""Second-order methods beside SciPy's, on NIST's regressions and on the functions of Moré, Garbow & Hillstrom.

    python tests/benchmarks/second_order.py                                  prints the table
    python tests/benchmarks/second_order.py --write docs/second_order.md     and puts it into the docs

A run ends where its method stops by itself, after 3,000 evaluations, or when it has been at the goal for 20. An
evaluation is one call of the residuals r(θ), or of L(θ) = ‖r(θ)‖² with its gradient; Jacobians, Hessians and products
with them are not counted, on either side. The table has the evaluations until the goal. Our `step` evaluates where it
starts, which SciPy remembers from its last trial: so the points, each counted once, are compared too.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from optim.reference_sets import problems, regressions

import microgradopt as mg
from microgradopt import optim

BEGIN, END = "<!-- reference sets -->", "<!-- /reference sets -->"  # where the table goes in a document
BUDGET, MORE = 3000, 20  # evaluations; and those after the goal, which see that the method stays there
Residuals = Callable[[Any], Any]


class Task(NamedTuple):
    """A problem from one start. set: the column it belongs to."""

    set: str
    name: str
    residuals: Residuals
    start: np.ndarray
    reached: Callable[[np.ndarray], bool]


class Spent(Exception):  # noqa: N818
    """The budget is."""


class Counted:
    """The residuals, which count their calls, and remember the lowest point, where a run ends.

    reached: whether that is at the goal. first, points: the evaluations until then, and at how many points they were.
    """

    def __init__(self, task: Task, budget: int = BUDGET) -> None:
        self.task, self.budget, self.calls, self.first, self.points = task, budget, 0, 0, 0
        self.seen: set[bytes] = set()
        self.lowest, self.value, self.reached = task.start, np.inf, False

    def __call__(self, x: Any) -> Any:
        if self.calls == self.budget or (self.first and self.calls == self.first + MORE):
            raise Spent
        self.calls += 1
        r = self.task.residuals(x)
        theta, residuals = (np.array(a.data if isinstance(a, mg.Tensor) else a) for a in (x, r))
        self.seen.add(theta.tobytes())
        value = float(np.sum(residuals**2))
        if value < self.value:
            self.value, self.lowest, self.reached = value, theta, self.task.reached(theta)
        if not self.reached:
            self.first = 0  # the value of another minimum may be passed on the way
        elif not self.first:
            self.first, self.points = self.calls, len(self.seen)
        return r


# The methods: each runs on counted residuals --------------------------------------------------------------------------


def ours(name: str, **settings: Any) -> Callable[[Counted], None]:
    def run(r: Counted) -> None:
        theta = mg.Tensor(r.task.start, requires_grad=True)
        optimizer = getattr(optim, name)([theta], **settings)

        def loss() -> mg.Tensor:
            optimizer.zero_grad()
            value = np.sum(r(theta) ** 2)
            value.backward()
            return value

        closure = (lambda: r(theta)) if name in ("GaussNewton", "LevenbergMarquardt") else loss
        while not optimizer.stopped:
            optimizer.step(closure)

    return run


def scipy_minimize(method: str, hess: str = "", **options: float) -> Callable[[Counted], None]:
    """hess: "hess" for the Hessian, "hessp" for products with it."""

    def run(r: Counted) -> None:
        from scipy.optimize import minimize

        model = mg.Objective(lambda x: np.sum(r.task.residuals(x) ** 2), r.task.start)  # for derivatives: not counted

        def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
            return float(np.sum(r(x) ** 2)), model.gradient(x)

        more = {"hess": {"hess": model.hessian}, "hessp": {"hessp": lambda x, v: model.hvp(v, x)}}.get(hess, {})
        minimize(
            value_and_gradient, r.task.start, jac=True, method=method, options={"maxiter": BUDGET, **options}, **more
        )

    return run


def scipy_least_squares(method: str) -> Callable[[Counted], None]:
    def run(r: Counted) -> None:
        from scipy.optimize import least_squares

        def jacobian(x: np.ndarray) -> np.ndarray:
            theta = mg.Tensor(x, requires_grad=True)
            return mg.jacobian(r.task.residuals(theta), theta)[0]

        tolerances = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15)
        least_squares(r, r.task.start, jacobian, method=method, x_scale="jac", max_nfev=BUDGET, **tolerances)

    return run


OURS = {
    "GaussNewton": ours("GaussNewton"),
    "LevenbergMarquardt": ours("LevenbergMarquardt"),
    "Newton": ours("Newton"),
    "NewtonCG": ours("NewtonCG"),
    "SaddleFreeNewton": ours("SaddleFreeNewton"),
    "LBFGS": ours("LBFGS", tolerance_grad=0.0, tolerance_change=0.0),
}
SCIPYS = {
    "SciPy least_squares, lm": scipy_least_squares("lm"),
    "SciPy least_squares, trf": scipy_least_squares("trf"),
    "SciPy trust-exact": scipy_minimize("trust-exact", "hess", gtol=1e-14),
    "SciPy trust-ncg": scipy_minimize("trust-ncg", "hessp", gtol=1e-14),
    "SciPy Newton-CG": scipy_minimize("Newton-CG", "hessp", xtol=1e-15),
    "SciPy BFGS": scipy_minimize("BFGS", gtol=1e-14),
    "SciPy L-BFGS-B": scipy_minimize("L-BFGS-B", ftol=0.0, gtol=1e-14, maxfun=BUDGET),
}
METHODS = OURS | SCIPYS
BESIDE = {  # the same idea in SciPy
    "LevenbergMarquardt": "SciPy least_squares, lm",
    "Newton": "SciPy trust-exact",
    "NewtonCG": "SciPy trust-ncg",
    "LBFGS": "SciPy L-BFGS-B",
}


def tasks() -> Iterator[Task]:
    for regression in regressions():
        for i, start in enumerate(regression.starts):
            yield Task(
                f"NIST {i + 1}", regression.name, regression.residuals, np.array(start, float), regression.reached
            )
    for problem in problems():
        yield Task("MGH", problem.name, problem.residuals, problem.start, problem.reached)


def solve(method: str, task: Task, budget: int = BUDGET) -> Counted:
    """A run. An error ends it: what had been reached before counts."""
    counted = Counted(task, budget)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(Spent, mg.NonFiniteError, ValueError, np.linalg.LinAlgError):
            METHODS[method](counted)
    return counted


# The table ------------------------------------------------------------------------------------------------------------


def table(runs: dict[str, list[Counted]]) -> str:
    sets = {run.task.set: 0 for run in next(iter(runs.values()))}
    for run in next(iter(runs.values())):
        sets[run.task.set] += 1
    lines = [
        "| method | " + " | ".join(f"{name}, of {size}" for name, size in sets.items())
        + " | evaluations, median | beside SciPy's | evaluations ÷ its | points ÷ its |",
        "|---|" + "---:|" * (len(sets) + 1) + "---|---:|---:|",
    ]  # fmt: skip
    for method, done in runs.items():
        reached = [run for run in done if run.reached]
        cells = [str(sum(run.task.set == name for run in reached)) for name in sets]
        cells += [f"{np.median([run.first for run in reached]):.0f}"]
        beside = BESIDE.get(method, "–")
        both = [pair for pair in zip(done, runs.get(beside, []), strict=False) if all(run.reached for run in pair)]
        cells += [beside.removeprefix("SciPy "), ratio(both, "first"), ratio(both, "points")]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(pairs: list[tuple[Counted, Counted]], count: str) -> str:
    """The median of ours over theirs, on the problems that both reach."""
    return f"{np.median([getattr(a, count) / getattr(b, count) for a, b in pairs]):.2f}" if pairs else "–"


def missed(runs: dict[str, list[Counted]]) -> str:
    """What each of our methods misses."""
    lines = []
    for method in OURS.keys() & runs.keys():
        names = [f"{run.task.name} ({run.task.set})" for run in runs[method] if not run.reached]
        lines.append(f"{method}: {', '.join(names) or 'none'}")
    return "\n".join(sorted(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a file with the two markers, between which the table goes")
    parser.add_argument("--only", default="", help="part of the names of the methods wanted")
    arguments = parser.parse_args()
    wanted = [method for method in METHODS if arguments.only in method]
    runs = {method: [solve(method, task) for task in tasks()] for method in wanted}
    print(table(runs), missed(runs), sep="\n\n")
    if arguments.write:
        before, rest = arguments.write.read_text().split(BEGIN)
        arguments.write.write_text(f"{before}{BEGIN}\n{table(runs)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
