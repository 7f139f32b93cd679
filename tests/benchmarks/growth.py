"""Growth: how time and memory grow with width, depth, batch, number of runs, and size of the graph.

    python tests/benchmarks/growth.py                                      prints the table
    python tests/benchmarks/growth.py --write docs/speed.md                and puts it into the docs
    python tests/benchmarks/growth.py --picture docs/results/growth.png    and draws it

A training step (gradient and Adam) of a net of tanh units, one thread, float64, the ways of loops.py. A time is the
best of three turns. Memory is the peak of what tracemalloc sees in five steps: Python's and NumPy's, nothing of JAX's.
A slope is that of the logarithm over the last half of the sizes: 1 is linear, 2 quadratic.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from compare import _processor, with_threads, written
from loops import Way, Ways, _time, check, jaxs, markdown, ours, shown, stepped
from problems import Problem

import microgradopt as mg

BEGIN, END = "<!-- growth -->", "<!-- /growth -->"
SIZES = {
    "width": [8, 16, 32, 64, 128, 256, 512, 1024],
    "depth": [2, 4, 8, 16, 32, 64],
    "batch": [1, 4, 16, 64, 256, 1024, 4096],
    "runs": [1, 2, 4, 8, 16, 32, 64, 128, 256],
    "operations": [1_000, 10_000, 100_000, 1_000_000],
}
NAMES = {
    "eager": "eager",
    "loop": "`.repeat(n)`",
    "native": "`.repeat(n)`, native",
    "scan": "JAX: `lax.scan`",
    "many": "`ManyRuns`",
    "native many": "`ManyRuns`, native",
    "vmap": "JAX: `vmap` in `lax.scan`",
}
COLOURS = {"JAX": "tab:red", "native": "tab:green", "repeat": "tab:orange", "ManyRuns": "tab:orange",
           "swept": "tab:orange", "eager": "tab:blue"}  # fmt: skip
Point = tuple[int, float, float]  # size, time, memory (nan where it is not seen)
Curves = dict[str, list[Point]]


def net(width: int = 16, depth: int = 2, batch: int = 32) -> Problem:
    """width units in each of `depth` hidden layers."""
    return Problem((2, *(width,) * depth, 1), batch, "mse")


def of_one(problem: Problem) -> Ways:
    """The ways to train one net."""
    called, thetas = stepped(problem, lambda step: step)
    eager = {"eager": Way(lambda n: [called() for _ in range(n)], 1, thetas)}
    return eager | ours(problem, 1, {"loop", "native"}) | _of_jax(problem, 1, {"scan"})


def of_many(problem: Problem, runs: int) -> Ways:
    """The ways to train many nets of one shape."""
    return ours(problem, runs, {"many", "native many"}) | _of_jax(problem, runs, {"vmap"})


def _of_jax(problem: Problem, runs: int, names: set[str]) -> Ways:
    try:
        return jaxs(problem, runs, names)
    except ImportError:
        return {}


def measured(seconds: float, largest: int) -> dict[str, Curves]:
    """For each thing that grows, the points of each way. largest: how many of its sizes."""
    makers: dict[str, Callable[[int], Ways]] = {
        "width": lambda n: of_one(net(width=n)),
        "depth": lambda n: of_one(net(depth=n)),
        "batch": lambda n: of_one(net(batch=n)),
        "runs": lambda n: of_many(net(), n),
    }
    found: dict[str, Curves] = {what: {} for what in SIZES}
    for what, make in makers.items():
        for size in SIZES[what][:largest]:
            ways = make(size)
            check(ways, 3)
            for name, way in ways.items():
                space = float("nan") if name in ("scan", "vmap") else peak(way.run) / 1e3
                found[what].setdefault(name, []).append((size, microseconds(way.run, seconds), space))
    for size in SIZES["operations"][: max(2, largest // 2)]:
        chain(size, found["operations"])
    return found


def microseconds(run: Callable[[int], Any], seconds: float) -> float:
    """For one of n steps, n so that they take about so long."""
    run(10)  # compiled: JAX for each n
    n = max(10, min(1000, round(10 * seconds / _time(run, 10))))
    run(n)
    return min(_time(run, n) for _ in range(3)) / n * 1e6


def peak(run: Callable[[int], Any]) -> float:
    """Bytes at the peak of five steps, of what they allocate."""
    run(10)  # compiled, and beyond the calls that are checked
    gc.collect()
    tracemalloc.start()
    run(5)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return largest


def chain(n: int, curves: Curves) -> None:
    """A graph of n operations on a scalar: built, and swept."""
    x = mg.Tensor(0.5, requires_grad=True)
    gc.collect()
    started = time.perf_counter()
    y = _built(x, n)
    built = time.perf_counter()
    y.backward()
    ended = time.perf_counter()
    del y
    tracemalloc.start()
    kept = _built(x, n)
    size = tracemalloc.get_traced_memory()[0] / 1e3
    tracemalloc.stop()
    del kept
    curves.setdefault("built", []).append((n, (built - started) / n * 1e6, size))
    curves.setdefault("swept", []).append((n, (ended - built) / n * 1e6, float("nan")))


def _built(y: Any, n: int) -> Any:
    for _ in range(n // 2):
        y = y * 0.99999
        y = y + 1e-5
    return y


def slope(points: list[Point], of: int) -> float:
    """Of log time (1) or log memory (2) against log size, over the last half."""
    last = np.log([(point[0], point[of]) for point in points[len(points) // 2 - 1 :]])
    return float(np.polyfit(*last.T, 1)[0])


def table(found: dict[str, Curves]) -> str:
    """First and last value of each curve, and its slope."""
    heads = ["", "", "µs, smallest", "largest", "slope", "kB, smallest", "largest", "slope"]
    lines = [heads, ["---", "---", *["---:"] * 6]]
    for what, curves in found.items():
        for name, points in curves.items():
            first, last = points[0][0], points[-1][0]
            cells = []
            for of in (1, 2):
                ends = [shown(points[i][of]) for i in (0, -1)]
                seen = not np.isnan(points[0][of])
                cells += [*ends, f"{slope(points, of):.2f}"] if seen else ["–"] * 3
            lines.append([f"{what} {first:,} to {last:,}", NAMES.get(name, name), *cells])
    return markdown(lines)


def draw(found: dict[str, Curves], path: Path) -> None:
    """Time above, memory below; a column for each thing that grows, log against log."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    figure, axes = plt.subplots(2, len(found), figsize=(4 * len(found), 6.6), layout="constrained")
    for (what, curves), column in zip(found.items(), axes.T, strict=True):
        for of, ax in zip((1, 2), column, strict=True):
            for name, points in curves.items():
                label = NAMES.get(name, name).replace("`", "")
                colour = COLOURS[next((word for word in COLOURS if word in label), "eager")]
                ax.loglog([p[0] for p in points], [p[of] for p in points], "o-", c=colour, label=label, markersize=3)
            ax.set_xlabel(what)
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_minor_formatter(NullFormatter())
        column[0].set_title(f"Growth with {what}")
        column[0].legend(fontsize="small")
    axes[0, 0].set_ylabel("µs for one step of all runs\n(operations: for each)")
    axes[1, 0].set_ylabel("kB")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="does it run? The figures mean nothing")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marks there")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    options = parser.parse_args()
    with_threads(1)
    found = measured(*((1e-3, 2) if options.quick else (0.1, 99)))
    text = f"{table(found)}\n\n({_processor()}, one thread; `python tests/benchmarks/growth.py`.)"
    print(text)
    if options.write:
        written(options.write, BEGIN, END, text)
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
