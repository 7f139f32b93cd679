"""Gradients and Hessians of NumPy functions beside those of numdifftools, of jacobi, and of central differences.

    python tests/benchmarks/derivatives.py                          prints the table
    python tests/benchmarks/derivatives.py --write docs/scipy.md    and puts it into the docs

Wants ``pip install numdifftools jacobi``; without them their columns are missing. The error is the largest of all
elements', each relative to the element, or to the largest one where it is 0; against the closed form in extended
precision (NumPy's longdouble, 64 bits of mantissa on x86). An evaluation is one call of f. The CPU time is the least of
several calls, after one that warms up. jacobi has no Hessians: it is asked for the Jacobian of its gradient.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import microgradopt as mg
from microgradopt import derivatives

BEGIN, END = "<!-- derivatives -->", "<!-- /derivatives -->"  # where the table goes in a document
LONG = np.longdouble
EXACT, COMPILED = "exact", "exact, compiled"
PEERS = ("numdifftools", "jacobi")
Function = Callable[[Any], Any]


class Task(NamedTuple):
    """A function, a point, and the closed forms there, in extended precision. They are given x in it."""

    name: str
    f: Function
    x: np.ndarray
    gradient: Function
    hessian: Function


class Measured(NamedTuple):
    """What one way of differentiation has cost, and how wrong it is."""

    error: float
    evaluations: int
    seconds: float


# The functions --------------------------------------------------------------------------------------------------------


def rosenbrock(n: int) -> Task:
    def f(x: Any) -> Any:
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def gradient(x: Any) -> Any:
        g, steep = np.zeros_like(x), 200 * (x[1:] - x[:-1] ** 2)
        g[:-1] = -2 * x[:-1] * steep - 2 * (1 - x[:-1])
        g[1:] += steep
        return g

    def hessian(x: Any) -> Any:
        diagonal = np.full_like(x, 200)
        diagonal[-1], diagonal[0] = 200, 0
        diagonal[:-1] += 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
        return np.diag(diagonal) + np.diag(-400 * x[:-1], 1) + np.diag(-400 * x[:-1], -1)

    return Task(f"Rosenbrock, n = {n}", f, np.tile([-1.2, 1.0], n // 2), gradient, hessian)


def log_likelihood() -> Task:
    """Logistic regression on the 569 tumours of scikit-learn, 30 standardised features and a constant."""
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    X = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))])
    sign = 2.0 * y - 1

    def likely(w: Any) -> Any:
        return 1 / (1 + np.exp(sign * (X.astype(LONG) @ w)))  # the probability of the other class

    def hessian(w: Any) -> Any:
        p = likely(w)
        return (X.astype(LONG).T * (p * (1 - p))) @ X.astype(LONG)

    return Task(
        "log-likelihood, n = 31",
        lambda w: np.sum(np.logaddexp(0, -sign * (X @ w))),
        np.random.default_rng(0).normal(size=X.shape[1]) / 10,
        lambda w: -X.astype(LONG).T @ (sign * likely(w)),
        hessian,
    )


def badly_scaled() -> Task:
    """Brown's badly scaled function (Moré, Garbow & Hillstrom, number 4), near its minimum at (10⁶, 2·10⁻⁶)."""
    six, small = LONG(1e6), LONG(2e-6)

    def f(x: Any) -> Any:
        return (x[0] - 1e6) ** 2 + (x[1] - 2e-6) ** 2 + (x[0] * x[1] - 2) ** 2

    def gradient(x: Any) -> Any:
        left = x[0] * x[1] - 2
        return 2 * np.array([x[0] - six + left * x[1], x[1] - small + left * x[0]])

    def hessian(x: Any) -> Any:
        mixed = 4 * x[0] * x[1] - 4
        return np.array([[2 + 2 * x[1] ** 2, mixed], [mixed, 2 + 2 * x[0] ** 2]])

    return Task("Brown, badly scaled", f, np.array([1e6 + 100, 3e-6]), gradient, hessian)


def micrometres() -> Task:
    """20 thicknesses in metres, about 1.5 µm: minus the log-likelihood of mean and standard deviation."""
    d = np.random.default_rng(0).normal(1.5e-6, 0.3e-6, size=20)

    def sums(x: Any) -> tuple[Any, Any]:
        left = d.astype(LONG) - x[0]
        return left.sum(), (left**2).sum()

    def gradient(x: Any) -> Any:
        first, second = sums(x)
        return np.array([-first / x[1] ** 2, d.size / x[1] - second / x[1] ** 3])

    def hessian(x: Any) -> Any:
        first, second = sums(x)
        mixed = 2 * first / x[1] ** 3
        return np.array([[d.size / x[1] ** 2, mixed], [mixed, 3 * second / x[1] ** 4 - d.size / x[1] ** 2]])

    def f(x: Any) -> Any:
        return d.size * np.log(x[1]) + np.sum((d - x[0]) ** 2) / (2 * x[1] ** 2)

    return Task("thicknesses in metres, n = 2", f, np.array([1.4e-6, 0.2e-6]), gradient, hessian)


def tasks() -> Iterator[Task]:
    for n in (2, 10, 50):
        yield rosenbrock(n)
    yield log_likelihood()
    yield badly_scaled()
    yield micrometres()


# The ways: each takes f, and gives the function x ↦ ∇f(x), or x ↦ H(x) ------------------------------------------------


def central_gradient(f: Function) -> Function:
    """(f(x + h) − f(x − h)) / 2h in every direction, with h = ε^⅓ max(1, |x|), which makes the error least."""

    def gradient(x: np.ndarray) -> np.ndarray:
        steps = np.diag(np.finfo(float).eps ** (1 / 3) * np.maximum(1, np.abs(x)))
        return np.array([f(x + step) - f(x - step) for step in steps]) / (2 * steps.diagonal())

    return gradient


def central_hessian(f: Function) -> Function:
    """Four values for each two directions, with h = ε^¼ max(1, |x|)."""

    def hessian(x: np.ndarray) -> np.ndarray:
        h = np.finfo(float).eps ** (1 / 4) * np.maximum(1, np.abs(x))
        H, steps = np.zeros((len(x), len(x))), np.diag(h)
        for i, a in enumerate(steps):
            for j, b in enumerate(steps[: i + 1]):
                corners = f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)
                H[i, j] = H[j, i] = corners / (4 * h[i] * h[j])
        return H

    return hessian


def by_jacobi(f: Function) -> Function:
    from jacobi import jacobi

    return lambda x: jacobi(f, x)[0]


def by_numdifftools(kind: str) -> Callable[[Function], Function]:
    def way(f: Function) -> Function:
        import numdifftools

        return getattr(numdifftools, kind)(f)

    return way


WAYS = {
    "gradient": {
        EXACT: derivatives.gradient,
        COMPILED: lambda f: mg.compile(derivatives.gradient(f)),
        "central differences": central_gradient,
        "numdifftools": by_numdifftools("Gradient"),
        "jacobi": by_jacobi,
    },
    "Hessian": {
        EXACT: derivatives.hessian,
        COMPILED: lambda f: mg.compile(derivatives.hessian(f)),
        "central differences": central_hessian,
        "numdifftools": by_numdifftools("Hessian"),
        "jacobi": lambda f: by_jacobi(by_jacobi(f)),
    },
}


def evaluations(way: Callable[[Function], Function], task: Task) -> int:
    """How often f is called."""
    calls: list[None] = []

    def counted(x: Any) -> Any:
        calls.append(None)
        return task.f(x)

    way(counted)(task.x)
    return len(calls)


def measured(name: str, way: Callable[[Function], Function], task: Task, truth: np.ndarray, budget: float) -> Measured:
    """budget: seconds after which no further call is timed."""
    calls = 0 if name == COMPILED else evaluations(way, task)  # a program has in it what f computes
    timed, seconds = way(task.f), []
    found = timed(task.x)  # to warm up, and to compile
    while not seconds or (sum(seconds) < budget and len(seconds) < 200):
        started = time.process_time()
        found = timed(task.x)
        seconds.append(time.process_time() - started)
    size = np.where(truth == 0, np.abs(truth).max(), np.abs(truth))
    return Measured(float(np.max(np.abs(found - truth) / size)), calls, min(seconds))


def measure(wanted: list[Task], budget: float = 0.5) -> dict[tuple[str, str], dict[str, Measured]]:
    """By function and derivative, all ways that are installed."""
    rows = {}
    for task in wanted:
        truth = {"gradient": task.gradient(task.x.astype(LONG)), "Hessian": task.hessian(task.x.astype(LONG))}
        for kind, ways in WAYS.items():
            there = {name: way for name, way in ways.items() if name not in PEERS or find_spec(name)}
            with np.errstate(all="ignore"), warnings.catch_warnings():  # differences may leave the domain
                warnings.simplefilter("ignore")
                found = {name: measured(name, way, task, truth[kind], budget) for name, way in there.items()}
            rows[task.name, kind] = found
    return rows


# The table ------------------------------------------------------------------------------------------------------------


def table(rows: dict[tuple[str, str], dict[str, Measured]]) -> str:
    ways = list(next(iter(rows.values())))
    lines = ["| function | derivative | " + " | ".join(ways) + " |", "|---|---|" + "---:|" * len(ways)]
    for (function, kind), found in rows.items():
        lines.append(f"| {function} | {kind} | " + " | ".join(map(cell, found.values())) + " |")
    return "\n".join([*lines, "", *ahead(rows)])


def cell(found: Measured) -> str:
    return f"{found.error:.0e} · {found.evaluations:,} · {duration(found.seconds)}"


def duration(seconds: float) -> str:
    unit, name = next(((size, name) for size, name in ((1, "s"), (1e-3, "ms")) if seconds >= size), (1e-6, "µs"))
    return f"{float(f'{seconds / unit:.2g}'):g} {name}"


def ahead(rows: dict[tuple[str, str], dict[str, Measured]]) -> Iterator[str]:
    """Where others are ahead of ours: in time of "exact" as it is written, in error by more than rounding."""
    for what, noise in (("seconds", 0.0), ("error", 4 * float(np.finfo(float).eps))):
        places = [
            f"{name} ({function}, {kind})"
            for (function, kind), found in rows.items()
            for name, other in found.items()
            if name not in (EXACT, COMPILED)
            and np.isfinite(other.error)
            and getattr(other, what) + noise < getattr(found[EXACT], what)
        ]
        yield f"Ahead of `exact` in {'time' if what == 'seconds' else what}: {'; '.join(places) or 'none'}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a file with the two markers, between which the table goes")
    parser.add_argument("--quick", action="store_true", help="the smallest function only, each way timed once")
    arguments = parser.parse_args()
    rows = measure([rosenbrock(2)], 0.0) if arguments.quick else measure(list(tasks()))
    print(table(rows))
    if arguments.write:
        before, rest = arguments.write.read_text(encoding="utf-8").split(BEGIN)
        text = f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.split(END)[1]}"
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
