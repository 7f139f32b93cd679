"""Whole loops and many runs: a training step repeated, beside jax.lax.scan and jax.vmap, in one process.

    python tests/benchmarks/loops.py                              prints the table
    python tests/benchmarks/loops.py --write docs/speed.md        and puts it into the docs

Each figure is the median, over the rounds, of microseconds for one update of one run; in each round every way takes its
turn. One thread, float64, Adam, one fixed batch. Ours records the loss, ‖g‖ and ‖Δθ‖ of each update of many runs; JAX
the loss. All ways are compared first: after 20 updates their θ are the same to rounding.
"""

from __future__ import annotations

import argparse
import functools
import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from compare import _processor, with_threads
from problems import LR, Problem

RUNS = 32
BEGIN, END = "<!-- loops -->", "<!-- /loops -->"
NETS = [((2, 16, 16, 1), 32, "mse"), ((64, 32, 10), 64, "cross_entropy"), ((784, 128, 10), 128, "cross_entropy")]
GOALS = {  # rows of the second table: what is divided by what, and for which nets which ratio is wanted
    "many runs, NumPy ÷ compiled step": ("many", "step", [0.22, 0.6]),
    "many runs, NumPy ÷ vmap in scan": ("many", "vmap", [1.6, 1.7]),
    "loop, native ÷ scan": ("native", "scan", [1.0, 1.0, 1.0]),
    "many runs, native ÷ vmap in scan": ("native many", "vmap", [1.0, 1.0]),
    "compiled step ÷ JAX's step": ("step", "jax step", []),
    "loop, NumPy ÷ scan": ("loop", "scan", []),
}
TITLES = {
    "step": "`mg.compile(step)`, called",
    "loop": "`.repeat(n)`",
    "native": '`.repeat(n)`, engine="numba"',
    "many": f"`ManyRuns` of {RUNS}",
    "native many": f'`ManyRuns` of {RUNS}, engine="numba"',
    "jax step": "JAX: jitted step, donated, flat",
    "scan": "JAX: `lax.scan`",
    "vmap": f"JAX: `vmap` of {RUNS} in `lax.scan`",
    "torch": "PyTorch: eager, fused Adam",
}
Ways = dict[str, tuple[Callable[[int], Any], int]]  # makes n updates; and of how many runs


def ours(problem: Problem, runs: int) -> tuple[Ways, Callable[[], np.ndarray]]:
    """Our ways, and what gives θ of the first after its updates."""
    from engines.ours import LOSSES, network

    import microgradopt as mg
    from microgradopt import training

    def step_of(model: Any) -> Callable[[], Any]:
        optimizer, loss = mg.optim.Adam(model.parameters(), lr=LR), LOSSES[problem.loss]

        def step() -> Any:
            optimizer.zero_grad()
            value = loss(model(problem.x), problem.y)
            value.backward()
            optimizer.step()
            return value

        return step

    native = functools.partial(mg.compile, engine="numba")
    first = network(problem)
    called, looped, machine = (
        mg.compile(step_of(first)),
        mg.compile(step_of(network(problem))),
        native(step_of(network(problem))),
    )

    def many(compile: Any) -> Callable[[int], Any]:
        models = [network(problem) for _ in range(runs)]
        made = [
            training.Run(model, LOSSES[problem.loss], mg.optim.Adam(model.parameters(), lr=LR), problem.x, problem.y)
            for model in models
        ]
        return training.ManyRuns(made, compile).train

    ways: Ways = {
        "step": (lambda n: [called() for _ in range(n)], 1),
        "loop": (lambda n: looped.repeat(n)(), 1),
        "native": (lambda n: machine.repeat(n)(), 1),
        "many": (many(mg.compile), runs),
        "native many": (many(native), runs),
    }
    return ways, lambda: np.concatenate([p.data.ravel() for p in first.parameters()])


def jaxs(problem: Problem, runs: int) -> tuple[Ways, Callable[[], np.ndarray]]:
    """JAX's ways: buffers donated, θ flat, compiled for each n."""
    import jax
    import jax.numpy as jnp
    from engines.jax_jit import adam_step, adam_update, flat, training_step

    _, begin, _ = adam_step(problem)
    loss = flat(problem)[2]

    def step(state: Any, _: Any) -> tuple[Any, Any]:
        theta, m, v, t = state
        value, g = jax.value_and_grad(loss)(theta)
        return adam_update(theta, g, m, v, t), value

    @functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
    def scanned(state: Any, n: int) -> Any:
        return jax.lax.scan(step, state, None, length=n)

    @functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
    def mapped(state: Any, n: int) -> Any:
        return jax.lax.scan(lambda state, _: jax.vmap(lambda one: step(one, None))(state), state, None, length=n)

    one = [tuple(map(jnp.array, begin))]
    all_of_them = [tuple(jnp.stack([x] * runs) for x in begin)]
    single = training_step(problem)

    def run(held: list[Any], function: Any, n: int) -> Any:
        held[0], losses = jax.block_until_ready(function(held[0], n))
        return losses

    ways: Ways = {
        "jax step": (lambda n: [single.run() for _ in range(n)], 1),
        "scan": (lambda n: run(one, scanned, n), 1),
        "vmap": (lambda n: run(all_of_them, mapped, n), runs),
    }
    return ways, lambda: np.asarray(one[0][0])


def torchs(problem: Problem, runs: int) -> tuple[Ways, Callable[[], np.ndarray]]:
    """PyTorch's loop, with its fused optimizer."""
    from engines.torch_eager import training_step

    single = training_step(problem)
    done: list[Any] = []

    def run(n: int) -> None:
        for _ in range(n):
            done[:] = [single.run()]

    return {"torch": (run, 1)}, lambda: np.concatenate([np.ravel(a) for a in single.read(done[0])])


def measured(problem: Problem, rounds: int, seconds: float) -> dict[str, float]:
    """Microseconds for one update of one run, of each way that is installed."""
    ways: Ways = {}
    thetas: list[np.ndarray] = []
    for engine in (ours, jaxs, torchs):
        try:
            found, theta = engine(problem, RUNS)
        except ModuleNotFoundError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        for run, _ in found.values():
            run(20)
        thetas.append(theta())
        ways |= found
    for theta in thetas[1:]:
        np.testing.assert_allclose(theta, thetas[0], rtol=1e-6, atol=1e-9)
    counts = {name: max(20, min(1000, round(seconds / (_time(run, 100) / 100)))) for name, (run, _) in ways.items()}
    for name, (run, _) in ways.items():
        run(counts[name])  # compiled for this count
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (run, runs) in ways.items():
            times[name].append(_time(run, counts[name]) / counts[name] / runs * 1e6)
    return {name: statistics.median(each) for name, each in times.items()}


def _time(run: Callable[[int], Any], n: int) -> float:
    gc.collect()
    start = time.perf_counter()
    run(n)
    return time.perf_counter() - start


def tables(found: list[tuple[Problem, dict[str, float]]]) -> str:
    """Microseconds, and the ratios with their goals."""
    heads = ["-".join(map(str, problem.sizes)) for problem, _ in found]
    lines = [["µs for one update of one run", *heads], ["---", *["---:"] * len(heads)]]
    for name, title in TITLES.items():
        if any(name in times for _, times in found):
            lines.append([title, *(f"{times[name]:.3g}" if name in times else "–" for _, times in found)])
    text = _markdown(lines)
    lines = [["ratio (goal)", *heads], ["---", *["---:"] * len(heads)]]
    for title, (one, other, goals) in GOALS.items():
        cells = []
        for i, (_, times) in enumerate(found):
            ratio = times.get(one, np.nan) / times.get(other, np.nan)
            missed = ", missed" if i < len(goals) and ratio > goals[i] else ""
            goal = f" (≤ {goals[i]}{missed})" if i < len(goals) else ""
            cells.append("–" if np.isnan(ratio) else f"{ratio:.2f}{goal}")
        lines.append([title, *cells])
    return f"{text}\n\n{_markdown(lines)}"


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="does it run? The figures mean nothing")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between their marks there")
    options = parser.parse_args()
    with_threads(1)
    nets = [Problem(*net) for net in (NETS[:1] if options.quick else NETS)]
    rounds, seconds = (1, 1e-3) if options.quick else (options.rounds, 0.2)
    found = [(problem, measured(problem, rounds, seconds)) for problem in nets]
    text = f"{tables(found)}\n\n({_processor()}, one thread; `python tests/benchmarks/loops.py`.)"
    print(text)
    if options.write:
        before, _, rest = options.write.read_text().partition(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
