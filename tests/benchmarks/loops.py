"""Whole loops and many runs: a training step repeated, beside jax.lax.scan and jax.vmap, in one process.

    python tests/benchmarks/loops.py                              prints the table
    python tests/benchmarks/loops.py --write docs/speed.md        and puts it into the docs

Microseconds for one update of one run: the median over the rounds, in each of which every way takes its turn. A ratio
is the median over the rounds of the ratio within a round. One thread, float64, Adam, one fixed batch; each of many runs
has its own starting weights. Ours records the loss, ‖g‖ and ‖Δθ‖ of each update of many runs; JAX the loss. Before
anything is timed, all ways make 20 updates, and the θ of all runs are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import itertools
import statistics
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from compare import _processor, with_threads, written
from problems import LR, Array, Contender, Problem

RUNS, FIRST = 32, 20  # runs at once; updates before the comparison: training is chaotic, and more would part them
BEGIN, END = "<!-- loops -->", "<!-- /loops -->"
NETS = [((2, 16, 16, 1), 32, "mse"), ((64, 32, 10), 64, "cross_entropy"), ((784, 128, 10), 128, "cross_entropy")]
GOALS = {  # rows of the second table: what is divided by what, and for which nets which ratio is wanted
    "many runs, NumPy ÷ compiled step": ("many", "step", [0.22, 0.6]),
    "many runs, NumPy ÷ vmap in scan": ("many", "vmap", [1.6, 1.7]),
    "loop, native ÷ scan": ("native", "scan", [1.0, 1.0, 1.0]),
    "many runs, native ÷ vmap in scan": ("native many", "vmap", [1.0, 1.0]),
    "loop, NumPy ÷ scan": ("loop", "scan", []),
    "compiled step ÷ JAX's step": ("step", "jax step", []),
    "compiled step ÷ torch.compile's": ("step", "torch compiled", []),
    "many runs, NumPy ÷ torch.compile's": ("many", "torch compiled many", []),
}
TITLES = {
    "step": "`mg.compile(step)`, called",
    "loop": "`.repeat(n)`",
    "native": '`.repeat(n)`, engine="numba"',
    "many": f"`ManyRuns` of {RUNS}",
    "native many": f'`ManyRuns` of {RUNS}, engine="numba"',
    "jax step": "JAX: jitted step, donated, synchronous",
    "scan": "JAX: `lax.scan`",
    "vmap": f"JAX: `vmap` of {RUNS} in `lax.scan`",
    "torch": "PyTorch: eager, fused Adam",
    "torch many": f"PyTorch: eager, {RUNS} runs as one stack, fused Adam",
    "torch compiled": "PyTorch: `torch.compile` of the step",
    "torch compiled many": f"PyTorch: `torch.compile` of `vmap` of {RUNS}",
}


class Way(NamedTuple):
    """run: makes n updates of so many runs. thetas: what their θ are then, one in each row."""

    run: Callable[[int], Any]
    runs: int
    thetas: Callable[[], Array]


Ways = dict[str, Way]
Times = dict[str, list[float]]  # of each way, in each round


def rows(weights: list[Any], runs: int) -> Array:
    """θ of each run, of weights that have a leading axis of runs where there are many."""
    return np.concatenate([np.reshape(w, (runs, -1)) for w in weights], axis=1)


# Engines --------------------------------------------------------------------------------------------------------------


def stepped(problem: Problem, compile: Callable[[Any], Any]) -> tuple[Any, Callable[[], Array]]:
    """A compiled training step of ours, and its θ."""
    from engines.ours import LOSSES, network

    import microgradopt as mg

    model, loss = network(problem), LOSSES[problem.loss]
    optimizer = mg.optim.Adam(model.parameters(), lr=LR)

    def step() -> Any:
        optimizer.zero_grad()
        value = loss(model(problem.x), problem.y)
        value.backward()
        optimizer.step()
        return value

    return compile(step), lambda: rows([p.data for p in model.parameters()], 1)


def together(problem: Problem, runs: int, compile: Callable[[Any], Any]) -> Way:
    """Many runs of ours."""
    from engines.ours import LOSSES, network

    import microgradopt as mg
    from microgradopt import training

    models = [network(problem.of_run(r)) for r in range(runs)]
    made = [
        training.Run(model, LOSSES[problem.loss], mg.optim.Adam(model.parameters(), lr=LR), problem.x, problem.y)
        for model in models
    ]
    many = training.ManyRuns(made, compile)
    return Way(many.train, runs, lambda: np.concatenate([rows([p.data for p in m.parameters()], 1) for m in models]))


def ours(problem: Problem, runs: int, names: set[str]) -> Ways:
    """On NumPy alone, and with Numba."""
    import microgradopt as mg

    ways: Ways = {}
    if "step" in names:
        called, theta = stepped(problem, mg.compile)
        ways["step"] = Way(lambda n: [called() for _ in range(n)], 1, theta)
    for loop, many, engine in (("loop", "many", "numpy"), ("native", "native many", "numba")):
        compile = functools.partial(mg.compile, engine=engine)
        try:
            if loop in names:
                looped, theta = stepped(problem, compile)
                ways[loop] = Way(lambda n, looped=looped: looped.repeat(n)(), 1, theta)
            if many in names:
                ways[many] = together(problem, runs, compile)
        except ImportError as error:
            print(f"left out: {engine} ({error})", file=sys.stderr)
    return ways


def single(contender: Contender, runs: int = 1) -> Way:
    """A contender that makes one step."""
    last: list[Any] = [None]

    def run(n: int) -> None:
        for _ in range(n):
            last[0] = contender.run()

    return Way(run, runs, lambda: rows(contender.read(last[0]), runs))


def jaxs(problem: Problem, runs: int, names: set[str]) -> Ways:
    """JAX's ways: buffers donated, compiled for each n; why on lists of weights, engines/jax_jit.py says."""
    import jax
    import jax.numpy as jnp
    from engines.jax_jit import adam_start, adam_step, start, training_step

    step = adam_step(problem)
    each = jax.vmap(step, in_axes=((0, 0, 0, None), None), out_axes=((0, 0, 0, None), 0))  # t is the same for all

    def looped(step: Callable[[Any, Any], Any], state: Any, runs: int) -> Way:
        @functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
        def scanned(state: Any, n: int) -> Any:
            return jax.lax.scan(step, state, None, length=n)

        held = [jax.tree.map(jnp.array, state)]

        def run(n: int) -> Any:
            held[0], losses = jax.block_until_ready(scanned(held[0], n))
            return losses

        return Way(run, runs, lambda: rows([np.asarray(w) for w in held[0][0]], runs))

    starts = [start(problem.of_run(r)) for r in range(runs)]
    stacked = [jnp.stack(w) for w in zip(*starts, strict=True)]
    makers: dict[str, Callable[[], Way]] = {
        "jax step": lambda: single(training_step(problem)),
        "scan": lambda: looped(step, adam_start(starts[0]), 1),
        "vmap": lambda: looped(each, adam_start(stacked), runs),
    }
    return {name: make() for name, make in makers.items() if name in names}


def torchs(problem: Problem, runs: int, names: set[str]) -> Ways:
    """PyTorch's loop, with its fused optimizer; many runs as one stack."""
    from engines.torch_eager import many_steps, training_step

    ways = {"torch": single(training_step(problem))} if "torch" in names else {}
    return ways | ({"torch many": single(many_steps(problem, runs), runs)} if "torch many" in names else {})


def torchs_compiled(problem: Problem, runs: int, names: set[str]) -> Ways:
    """The same under torch.compile."""
    if not names & {"torch compiled", "torch compiled many"}:
        return {}
    from engines.torch_compile import many_steps, training_step

    ways = {"torch compiled": single(training_step(problem))} if "torch compiled" in names else {}
    return ways | (
        {"torch compiled many": single(many_steps(problem, runs), runs)} if "torch compiled many" in names else {}
    )


def all_ways(problem: Problem, runs: int, names: set[str]) -> Ways:
    """Those of the engines that are installed."""
    ways: Ways = {}
    for engine in (ours, jaxs, torchs, torchs_compiled):
        try:
            ways |= engine(problem, runs, names)
        except ImportError as error:
            print(f"left out: {engine.__name__} ({error})", file=sys.stderr)
    return ways


# Timing ---------------------------------------------------------------------------------------------------------------


def check(ways: Ways, updates: int = FIRST) -> None:
    """Raise AssertionError unless all ways lead to the same θ, run by run."""
    thetas = {}
    for name, way in ways.items():
        way.run(updates)
        thetas[name] = way.thetas()
    most = max(thetas, key=lambda name: len(thetas[name]))
    for name, theta in thetas.items():
        wanted = thetas[most][: len(theta)]
        np.testing.assert_allclose(theta, wanted, rtol=1e-6, atol=1e-9, err_msg=f"{name} against {most}")


def measured(problem: Problem, rounds: int, seconds: float, names: set[str] | None = None, runs: int = RUNS) -> Times:
    """Microseconds for one update of one run, of each way, in each round. seconds: how long a turn lasts."""
    ways = all_ways(problem, runs, set(TITLES) if names is None else names)
    check(ways)
    counts = {name: max(10, min(1000, round(seconds * FIRST / _time(way.run, FIRST)))) for name, way in ways.items()}
    for name, way in ways.items():
        way.run(counts[name])  # compiled for this count
    gc.collect()
    gc.freeze()
    times: Times = {name: [] for name in ways}
    order = list(ways)
    for i in range(rounds):
        for name in order[i % len(order) :] + order[: i % len(order)]:
            times[name].append(_time(ways[name].run, counts[name]) / counts[name] / ways[name].runs * 1e6)
    gc.unfreeze()
    return times


def _time(run: Callable[[int], Any], n: int) -> float:
    gc.collect()
    start = time.perf_counter()
    run(n)
    return time.perf_counter() - start


# The tables -----------------------------------------------------------------------------------------------------------


def tables(found: list[tuple[Problem, Times]]) -> str:
    """Microseconds, and the ratios with their goals."""
    heads = ["-".join(map(str, problem.sizes)) for problem, _ in found]
    lines = [["µs for one update of one run", *heads], ["---", *["---:"] * len(heads)]]
    for name, title in TITLES.items():
        if any(name in times for _, times in found):
            cells = [shown(statistics.median(times[name])) if name in times else "–" for _, times in found]
            lines.append([title, *cells])
    text = markdown(lines)
    lines = [["ratio (goal)", *heads], ["---", *["---:"] * len(heads)]]
    for title, (one, other, goals) in GOALS.items():
        cells = []
        for i, (_, times) in enumerate(found):
            if one not in times or other not in times:
                cells.append("–")
                continue
            ratio = statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))
            missed = ", missed" if i < len(goals) and ratio > goals[i] else ""
            cells.append(f"{ratio:.2f}" + (f" (≤ {goals[i]}{missed})" if i < len(goals) else ""))
        lines.append([title, *cells])
    return f"{text}\n\n{markdown(lines)}"


def roofline(found: list[tuple[Problem, Times]]) -> str:
    """How near each loop is to what the machine can do: as many multiplications and bytes, and nothing else."""
    flops_each_ns, bytes_each_ns = multiplied(), moved()
    heads = ["-".join(map(str, problem.sizes)) for problem, _ in found]
    flops = [float(products(problem)) for problem, _ in found]
    sizes = [48.0 * sum(w.size for w in problem.weights) for problem, _ in found]
    bounds = [max(f / flops_each_ns, b / bytes_each_ns) / 1e3 for f, b in zip(flops, sizes, strict=True)]
    rows: dict[str, list[float]] = {
        "multiplications and additions of matrix products": flops,
        f"µs for them, at {flops_each_ns:.0f} a nanosecond": [f / flops_each_ns / 1e3 for f in flops],
        "bytes of θ, m and v, read and written": sizes,
        f"µs for them, at {bytes_each_ns:.0f} a nanosecond": [b / bytes_each_ns / 1e3 for b in sizes],
    }
    lines = [["the least that a step can take", *heads], ["---", *["---:"] * len(heads)]]
    lines += [[title, *map(shown, cells)] for title, cells in rows.items()]
    for name in ("native", "scan"):
        if all(name in times for _, times in found):
            shares = [bound / statistics.median(times[name]) for bound, (_, times) in zip(bounds, found, strict=True)]
            lines.append([f"the larger of the two ÷ {TITLES[name]}", *(f"{share:.2f}" for share in shares)])
    return markdown(lines)


def products(problem: Problem) -> int:
    """Multiplications and additions: each layer's product, the weights' and, but for the data, the inputs' gradient."""
    pairs = itertools.pairwise(problem.sizes)
    return sum(2 * problem.batch * n * m * (3 if i else 2) for i, (n, m) in enumerate(pairs))


def multiplied(n: int = 512) -> float:
    """Multiplications and additions in a nanosecond of a product of n × n matrices, NumPy's or JAX's."""
    a = np.random.default_rng(0).normal(size=(n, n))
    ways: list[Callable[[], Any]] = [lambda: a @ a]
    with contextlib.suppress(ImportError):
        import jax

        b, product = jax.numpy.array(a), jax.jit(lambda b: b @ b)
        ways.append(lambda: jax.block_until_ready(product(b)))
    return 2 * n**3 / (1e9 * min(quickest(way) for way in ways))


def moved(n: int = 100_000) -> float:
    """Bytes in a nanosecond that a sum of two arrays of n reads and writes: as many as the largest net has weights."""
    a, b, total = np.ones(n), np.ones(n), np.empty(n)
    return 24 * n / (1e9 * quickest(lambda: np.add(a, b, out=total)))


def quickest(call: Callable[[], Any]) -> float:
    """Seconds."""
    return min(timeit.repeat(call, number=5, repeat=20)) / 5


def shown(x: float) -> str:
    """Three digits, without powers of ten."""
    return f"{float(f'{x:.3g}'):,.15g}"


def markdown(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="does it run? NumPy alone; the figures mean nothing")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between their marks there")
    options = parser.parse_args()
    with_threads(1)
    if options.quick:
        nets = [Problem(*NETS[0])]
        found = [(nets[0], measured(nets[0], 1, 1e-3, {"step", "loop", "many"}, 3))]
    else:
        found = [(problem, measured(problem, options.rounds, 0.2)) for problem in (Problem(*net) for net in NETS)]
    text = f"{tables(found)}\n\n{roofline(found)}\n\n({_processor()}, one thread; `python tests/benchmarks/loops.py`.)"
    print(text)
    if options.write:
        written(options.write, BEGIN, END, text)


if __name__ == "__main__":
    main()
