"""Growth: how time and memory grow with width, depth, batch, number of runs, and size of the graph.

    python tests/benchmarks/growth.py                                   prints the table
    python tests/benchmarks/growth.py --write docs/speed.md             and puts it into the docs
    python tests/benchmarks/growth.py --picture docs/results/growth.png    and draws it

A training step (gradient and Adam) of a net of tanh units, one thread, float64. The slope is that of the logarithm of
time over the last half of the sizes: 1 is linear, 2 quadratic. JAX: lax.scan, buffers donated.
"""

from __future__ import annotations

import argparse
import functools
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from compare import _processor, with_threads
from problems import LR, Problem

import microgradopt as mg
from microgradopt import nn, training

BEGIN, END = "<!-- growth -->", "<!-- /growth -->"
Point = tuple[float, float]  # size, microseconds or bytes
SIZES = {
    "width": [8, 16, 32, 64, 128, 256, 512, 1024],
    "depth": [2, 4, 8, 16, 32, 64],
    "batch": [1, 4, 16, 64, 256, 1024, 4096],
    "runs": [1, 2, 4, 8, 16, 32, 64, 128, 256],
    "operations": [1_000, 10_000, 100_000, 1_000_000],
}


def net(width: int = 16, depth: int = 2, batch: int = 32) -> Problem:
    """width units in each of `depth` hidden layers."""
    return Problem((2, *(width,) * depth, 1), batch, "mse")


def steps(problem: Problem) -> dict[str, Callable[[int], Any]]:
    """What makes n steps, of each engine."""
    from engines.ours import network

    def made(wrap: Callable[[Any], Any]) -> Any:
        model = network(problem)
        optimizer = mg.optim.Adam(model.parameters(), lr=LR)

        def step() -> None:
            optimizer.zero_grad()
            nn.mse_loss(model(problem.x), problem.y).backward()
            optimizer.step()

        return wrap(step)

    eager, compiled = made(lambda step: step), made(mg.compile)
    ways: dict[str, Callable[[int], Any]] = {
        "eager": lambda n: [eager() for _ in range(n)],
        "loop": lambda n: compiled.repeat(n)(),
    }
    try:
        native = made(functools.partial(mg.compile, engine="numba"))
        ways["native loop"] = lambda n: native.repeat(n)()
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
    try:
        from loops import jaxs

        ways["JAX, lax.scan"] = jaxs(problem, 1)[0]["scan"][0]
    except ModuleNotFoundError as error:
        print(f"left out: {error}", file=sys.stderr)
    return ways


def many(k: int) -> dict[str, Callable[[int], Any]]:
    """n updates of k runs."""
    from engines.ours import network

    problem = net()

    def made(compile: Any) -> Callable[[int], Any]:
        models = [network(problem) for _ in range(k)]
        runs = [
            training.Run(model, nn.mse_loss, mg.optim.Adam(model.parameters(), lr=LR), problem.x, problem.y)
            for model in models
        ]
        return training.ManyRuns(runs, compile).train

    return {"ManyRuns, NumPy": made(None)}


def chain(n: int) -> tuple[float, float, float]:
    """Seconds to build a chain of n operations, to sweep it, and bytes of each operation."""
    x = mg.Tensor(0.5, requires_grad=True)
    tracemalloc.start()
    y = _built(x, min(n, 10_000))
    size = tracemalloc.get_traced_memory()[0] / min(n, 10_000)
    tracemalloc.stop()
    del y
    gc.collect()
    started = time.perf_counter()
    y = _built(x, n)
    built = time.perf_counter()
    y.backward()
    return built - started, time.perf_counter() - built, size


def _built(y: Any, n: int) -> Any:
    for _ in range(n // 2):
        y = y * 0.99999
        y = y + 1e-5
    return y


def microseconds(run: Callable[[int], Any], seconds: float) -> float:
    """For one of n steps; n so that they take about so long; the best of three."""
    run(10)  # compiled, and beyond the calls that are checked
    once = _time(run, 10) / 10
    n = max(10, min(1000, round(seconds / once)))
    run(n)
    return min(_time(run, n) for _ in range(3)) / n * 1e6


def _time(run: Callable[[int], Any], n: int) -> float:
    started = time.perf_counter()
    run(n)
    return time.perf_counter() - started


def slope(points: list[Point]) -> float:
    """Of log time against log size, over the last half."""
    size, value = np.log(np.array(points[len(points) // 2 - 1 :])).T
    return float(np.polyfit(size, value, 1)[0])


def measured(seconds: float, largest: int) -> dict[str, dict[str, list[Point]]]:
    """For each thing that grows, the points of each engine. largest: how many of its sizes."""
    found: dict[str, dict[str, list[Point]]] = {}
    for what in ("width", "depth", "batch"):
        curves = found.setdefault(f"{what}, µs for one step", {})
        for size in SIZES[what][:largest]:
            for name, run in steps(net(**{what: size})).items():
                curves.setdefault(name, []).append((size, microseconds(run, seconds)))
    curves = found.setdefault("runs, µs for one step of all", {})
    for k in SIZES["runs"][:largest]:
        for name, run in many(k).items():
            curves.setdefault(name, []).append((k, microseconds(run, seconds)))
    curves = found.setdefault("operations, µs for each", {})
    for n in SIZES["operations"][: max(2, largest // 2)]:
        built, swept, _ = chain(n)
        curves.setdefault("built", []).append((n, built / n * 1e6))
        curves.setdefault("swept", []).append((n, swept / n * 1e6))
    return found


def table(found: dict[str, dict[str, list[Point]]]) -> str:
    """First and last value of each curve, and its slope."""
    lines = ["| | | smallest | largest | slope |", "| --- | --- | ---: | ---: | ---: |"]
    for what, curves in found.items():
        for name, points in curves.items():
            (first, low), (last, high) = points[0], points[-1]
            cells = [what, name, f"{low:.3g} at {first:,}", f"{high:.3g} at {last:,}", f"{slope(points):.2f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found: dict[str, dict[str, list[Point]]], path: Path) -> None:
    """One panel for each thing that grows, log against log."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(4 * len(found), 3.6), layout="constrained")
    for ax, (what, curves) in zip(axes, found.items(), strict=True):
        for name, points in curves.items():
            ax.loglog(*zip(*points, strict=True), "o-", label=name, markersize=3)
        thing, _, unit = what.partition(", ")
        ax.set(xlabel=thing, ylabel=unit, title=f"Growth with {thing}")
        ax.legend(fontsize="small")
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
        before, _, rest = options.write.read_text().partition(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
