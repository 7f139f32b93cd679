"""microgradopt beside hand-written NumPy and its peers, in one table: ``python tests/benchmarks/compare.py``.

Every figure is microgradopt's time divided by another's: below 1, microgradopt is the quicker one. In each round every
engine runs the same work once, in rotating order, all in one process; a figure is the median over the rounds of the
ratio within the round, so that what slows the machine down for a while slows both sides of a ratio. Before anything is
timed, all engines are checked to give the same numbers. What is measured is in ``problems.py`` and ``engines/``.

The garbage collector is on. It is run before each turn, so that an engine pays for its own garbage only; and what
exists before the timing starts is frozen (``gc.freeze``), so that none pays for the objects of another's modules.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from problems import Chain, Contender, Problem

OURS, HAND, TORCH, JAX = "microgradopt", "hand-written NumPy", "torch eager", "jax.jit"
TORCH_COMPILED = "torch.compile"
GRADIENT = "its own gradient"
ENGINES = ["ours", "by_hand", "torch_eager", "torch_compile", "jax_jit", "hips_autograd", "micrograd_scalars"]
COLUMNS = [HAND, TORCH, TORCH_COMPILED, JAX, "HIPS autograd", "micrograd", GRADIENT]
TOLERANCES = {"float64": 1e-9, "float32": 2e-4}  # relative to the largest element
FEWEST, LONGEST = 7, 25.0  # rounds of a row; and the seconds after which it is to be content with fewer than asked for
REPOSITORY = Path(__file__).resolve().parents[2]

Samples = dict[str, list[float]]  # of each engine, one for each round
Goals = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    workload: the function of the engines; instead: another one for some engine. goals: ratios not to be exceeded.
    """

    title: str
    workload: str
    problem: Any
    goals: Goals = field(default_factory=dict)
    instead: dict[str, str] = field(default_factory=dict)


def rows(quick: bool) -> Iterator[Row]:
    """What is timed in this process."""
    nets = [((2, 16, 16, 1), 32, "mse"), ((64, 32, 10), 64, "cross_entropy"), ((784, 128, 10), 128, "cross_entropy")]
    problems = [Problem(*net, dtype=dtype) for dtype in (np.float64, np.float32) for net in nets]
    gradient_goals = [{HAND: 2.2, TORCH: 0.4}, {HAND: 1.7, TORCH: 0.4}, {HAND: 1.3}] * 2
    hvp_goals = [{TORCH: 0.6}, {TORCH: 0.6}, {}] * 2
    for problem, goals in zip(problems, gradient_goals, strict=True):
        yield Row(f"gradient: {problem}", "gradient", problem, goals)
    for problem in problems:
        yield Row(f"Adam step: {problem}", "adam", problem, {TORCH: 0.25})
    for problem in problems:
        yield Row(f"training step: {problem}", "training_step", problem)
    for problem, goals in zip(problems, hvp_goals, strict=True):
        yield Row(f"HVP: {problem}", "hvp", problem, goals)
    for problem in problems[:3]:
        title = f"HVP, ours with the gradient recorded before, all others whole: {problem}"
        yield Row(title, "product", problem, {GRADIENT: 2.5}, dict.fromkeys(COLUMNS, "hvp"))
    small = Problem((2, 4, 4, 1), 32, "mse") if quick else problems[0]
    yield Row(f"dense Hessian, n = {parameters(small)}: {small}", "hessian", small, {TORCH: 1.0})
    yield from compiled_rows(problems[:3], [small] if quick else problems[:2])
    for weights in (False, True):
        chain = Chain(1000 if quick else 100_000, weights)
        yield Row(f"scalar chain, forward and backward: {chain}", "chain", chain, {TORCH: 0.4})
    moons = Problem((2, 16, 16, 1), 10 if quick else 100, "hinge")
    yield Row(f"micrograd's moons demo, one step: {moons}", "moons", moons)
    yield Row("the same, as a program of scalars", "scalar_moons", moons)


def compiled_rows(nets: list[Problem], hessians: list[Problem]) -> Iterator[Row]:
    """The same work by compiled functions."""
    for problem in nets:
        goals = {HAND: 1.1, JAX: 1.0}
        yield Row(f"gradient, compiled: {problem}", "gradient", problem, goals, {OURS: "compiled_gradient"})
    for problem in nets:
        yield Row(f"Adam step, compiled: {problem}", "adam", problem, {JAX: 1.0}, {OURS: "compiled_adam"})
    for problem in nets:
        own = {OURS: "compiled_training_step"}
        yield Row(f"training step, compiled: {problem}", "training_step", problem, {}, own)
    for problem in nets:
        yield Row(f"HVP, compiled: {problem}", "hvp", problem, {GRADIENT: 2.0, JAX: 0.8}, {OURS: "compiled_hvp"})
    for problem in hessians:
        title = f"dense Hessian, symmetric, compiled, n = {parameters(problem)}: {problem}"
        yield Row(title, "hessian", problem, {JAX: 0.6}, {OURS: "compiled_hessian"})


def parameters(problem: Problem) -> int:
    """How many there are."""
    return sum(w.size for w in problem.weights)


# Timing ---------------------------------------------------------------------------------------------------------------


def engines(names: list[str]) -> dict[str, ModuleType]:
    """Those that are installed, by the name of their column."""
    found = {}
    for name in names:
        try:
            module = importlib.import_module(f"engines.{name}")
        except ImportError as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
        else:
            found[module.NAME] = module
    return found


def contenders(row: Row, available: dict[str, ModuleType]) -> dict[str, Contender]:
    """All engines that have this row's workload."""
    found = {}
    for name, module in available.items():
        workload = getattr(module, row.instead.get(name, row.workload), None)
        if workload is not None:
            found[name] = workload(row.problem)
    return found


def check(row: Row, taking_part: dict[str, Contender], runs: int = 3) -> None:
    """Raise AssertionError unless all engines give the numbers that microgradopt gives, after some runs."""
    results = {}
    for name, contender in taking_part.items():
        for _ in range(runs):
            result = contender.run()
        results[name] = [np.array(a) for a in contender.read(result)]
    for name, arrays in results.items():
        for own, other in zip(results[OURS], arrays, strict=True):
            tolerance = TOLERANCES[str(own.dtype)]
            assert own.dtype == other.dtype, f"{row.title}: {name} gives {other.dtype}, {OURS} {own.dtype}"
            difference = np.max(np.abs(own - other)) / np.max(np.abs(own))
            assert difference <= tolerance, f"{row.title}: {name} differs from {OURS} by {difference:.1e}"


def timed(row: Row, available: dict[str, ModuleType], rounds: int, seconds: float) -> Samples:
    """Seconds for one run, of each engine in each round. seconds: how long a turn lasts."""
    taking_part = contenders(row, available)
    check(row, taking_part)
    runs = {name: contender.run for name, contender in taking_part.items()}
    if row.workload in ("hvp", "product", "hessian"):
        own = "compiled_gradient" if row.instead.get(OURS) else "gradient"
        runs[GRADIENT] = getattr(available[OURS], own)(row.problem).run
    gc.collect()
    gc.freeze()
    repeats = {name: max(1, round(seconds / _time(run, 1))) for name, run in runs.items()}
    one_round = sum(_time(run, repeats[name]) * repeats[name] for name, run in runs.items())
    rounds = min(rounds, max(FEWEST, round(LONGEST / one_round)))
    samples: Samples = {name: [] for name in runs}
    order = list(runs)
    for i in range(rounds):
        turn = i % len(order)
        for name in order[turn:] + order[:turn]:
            samples[name].append(_time(runs[name], repeats[name]))
    return samples


def _time(run: Callable[[], Any], repeats: int) -> float:
    gc.collect()  # what the engine before has left in cycles is not this one's to clear away
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


# In processes of their own: imports and memory ------------------------------------------------------------------------

MODULES = {
    OURS: "microgradopt",
    HAND: "numpy",
    TORCH: "torch",
    "jax.jit": "jax",
    "HIPS autograd": "autograd.numpy",
    "micrograd": "micrograd.nn",
}
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"

LEAVES = {
    OURS: "import microgradopt as mg; x = mg.Tensor(0.5, requires_grad=True)",
    TORCH: "import torch; x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)",
    "HIPS autograd": (
        "import autograd.numpy; from autograd.tracer import new_box; from autograd.core import VJPNode; "
        "x = new_box(0.5, 0, VJPNode.new_root())"
    ),
    "micrograd": "from micrograd.engine import Value; x = Value(0.5)",
}
# The growth of the process, so that memory outside of Python's is counted as well. Linux only.
MEMORY = """
import os
{}
def chain(y, n):
    for _ in range(n // 2):
        y = y * 0.99999
        y = y + 1e-5
    return y
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
chain(x, 1000)
before = resident()
y = chain(x, 200_000)
print((resident() - before) / 200_000, flush=True)
os._exit(0)
"""


def printed(programs: dict[str, str], rounds: int) -> Samples:
    """The number that each program prints, in each round."""
    samples: Samples = {name: [] for name in programs}
    path = _with_repository(os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}  # as installed
    for i in range(rounds + 1):  # the first reads the files from disk and writes the byte code: not counted
        for name, program in programs.items():
            done = subprocess.run(
                [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
            )
            if i or rounds == 1:
                samples[name].append(float(done.stdout))
        if rounds == 1:
            break
    return samples


# The table ------------------------------------------------------------------------------------------------------------


def line(title: str, samples: Samples, goals: Goals, unit: Callable[[float], str]) -> list[str]:
    """One line of the table, as cells."""
    ratios = {
        name: statistics.median(own / other for own, other in zip(samples[OURS], others, strict=True))
        for name, others in samples.items()
    }
    cells = [f"{ratios[name]:.2g}" if name in ratios else "–" for name in COLUMNS]
    wanted = [f"≤ {goal} {name}" for name, goal in goals.items()]
    reached = [
        "not measured" if name not in ratios else "yes" if ratios[name] <= goal else f"no ({ratios[name]:.3g})"
        for name, goal in goals.items()
    ]
    return [title, unit(statistics.median(samples[OURS])), *cells, ", ".join(wanted), ", ".join(reached)]


def spread(samples: Samples) -> list[float]:
    """How far the ratios' quartiles are apart, relative to their median."""
    found = []
    for name, others in samples.items():
        if name != OURS and len(others) > 3:
            ratios = [own / other for own, other in zip(samples[OURS], others, strict=True)]
            low, median, high = statistics.quantiles(ratios, n=4)
            found.append((high - low) / median)
    return found


def duration(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def markdown(lines: list[list[str]]) -> str:
    header = ["", f"{OURS}", *[f"÷ {name}" for name in COLUMNS], "goal", "reached"]
    rule = ["---", *["---:"] * (len(COLUMNS) + 1), "---", "---"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *lines])


def conditions(threads: int, rounds: int) -> str:
    """The machine, the versions, the settings, the command."""
    versions = [f"Python {platform.python_version()}"]
    for package in ("numpy", "torch", "jax", "autograd", "micrograd"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} not installed")
    return "\n".join(
        [
            f"- machine: {_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
            f"- versions: {', '.join(versions)}",
            f"- threads: {threads} for every engine, on as many cores; garbage collector on",
            f"- rounds: {rounds}, fewer where slow",
            "- glibc keeps freed memory (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_), for every engine",
            f"- command: `python {' '.join(['tests/benchmarks/compare.py', *sys.argv[1:]])}`",
        ]
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for text in cpuinfo.read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(": ")[2]
    return platform.processor() or "unknown processor"


def with_threads(threads: int) -> None:
    """Start this program again with the number of threads in the environment, where every library reads it once.

    On so many cores too, where the system can: XLA takes a second thread for large products, whatever its flags say.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    single = "false" if threads == 1 else "true"
    wanted = {
        "OPENBLAS_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "NUMBA_NUM_THREADS": str(threads),
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={single} intra_op_parallelism_threads={threads}",
        "JAX_PLATFORMS": "cpu",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # or a pool of processes waits beside what is measured
        # glibc otherwise gives memory back to the system, and fetches it again, or not, as chance puts things in a row.
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
        "PYTHONPATH": _with_repository(os.environ.get("PYTHONPATH", "")),
    }
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def written(document: Path, begin: str, end: str, text: str) -> None:
    """Put a text between two marks of a document."""
    before, _, rest = document.read_text().partition(begin)
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


def _with_repository(path: str) -> str:
    """A PYTHONPATH with this repository in front of what was there."""
    others = [place for place in path.split(os.pathsep) if place not in ("", str(REPOSITORY))]
    return os.pathsep.join([str(REPOSITORY), *others])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="does it run? Few short rounds; the figures mean nothing")
    parser.add_argument("--rounds", type=int, help="rounds for each row (31)")
    parser.add_argument("--threads", type=int, default=1, help="threads for every engine (1)")
    parser.add_argument("--only", default="", help="only rows with this in their title")
    parser.add_argument("--peers", help="which, by the names of engines/*.py; all, of --quick without torch_compile")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there too")
    options = parser.parse_args()
    with_threads(options.threads)
    rounds = options.rounds or (2 if options.quick else 31)
    peers = [name for name in ENGINES[2:] if not (options.quick and name == "torch_compile")]
    if options.peers is not None:
        peers = [name for name in options.peers.split(",") if name]
    available = engines([*ENGINES[:2], *peers])
    if TORCH in available:
        available[TORCH].torch.set_num_threads(options.threads)

    lines, spreads = [], []

    def add(title: str, samples: Samples, goals: Goals, unit: Callable[[float], str]) -> None:
        lines.append(line(title, samples, goals, unit))
        spreads.extend(spread(samples))
        print("| " + " | ".join(lines[-1]) + " |", file=sys.stderr, flush=True)

    for row in rows(options.quick):
        if options.only in row.title:
            add(row.title, timed(row, available, rounds, 1e-4 if options.quick else 2e-2), row.goals, duration)
    title = "import, ÷ import numpy"
    few = 1 if options.quick else min(rounds, 11)
    if options.only in title:
        imports = {name: IMPORT.format(module) for name, module in MODULES.items() if name in available}
        add(title, printed(imports, few), {HAND: 1.3}, duration)
    title = "memory for each recorded scalar operation"
    if options.only in title and Path("/proc/self/statm").exists():
        leaves = {name: MEMORY.format(leaf) for name, leaf in LEAVES.items() if name in available}
        add(title, printed(leaves, 1), {}, lambda size: f"{size:.0f} bytes")

    report = f"{markdown(lines)}\n\n{conditions(options.threads, rounds)}"
    if spreads:
        report += f"\n- spread: the middle half of the rounds lies within {statistics.median(spreads):.0%} of a figure"
    print(report)
    if options.write:
        explained = __doc__.partition("\n\n")[2]
        options.write.write_text(f"# Measured\n\n{explained}\n{report}\n")


if __name__ == "__main__":
    main()
