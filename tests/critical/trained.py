"""What is there where ordinary training ends: 36 runs, what `critical.nearest` answers, and whether that is right.

    python tests/critical/trained.py                                          prints the table
    python tests/critical/trained.py --seed 1 --write docs/critical_points.md and puts it into the docs
    python tests/critical/trained.py --only tanh                              only some of the runs

A run is a network with one hidden layer (8 units; 16 for digits), tanh, ReLU or GELU, with and without weight decay,
after 3,000 updates by Adam on all data. Inputs are standardised (digits: divided by 16), and so is diabetes' target.

An answer is right when SciPy, and samples, which know nothing of the walk, find it so. θ is where training ended, θ*
where the walk did; "tried" are 300 iterations of SciPy's L-BFGS-B from θ*, with little memory and with much, and 1,000
samples around θ*, at distances from 1e-6 to 0.1 of the size of θ.

* In each case but the second: 1,000 iterations of L-BFGS-B from θ end no more than 1% lower than θ*, or else more than
  twice as far away.
* "X above a local minimum, d away": what was tried gains less than 1e-6 of the loss; of the Hessian by central
  differences no eigenvalue is below -1e-6 of the largest; X and d are L(θ) - L(θ*) and ‖θ* - θ‖.
* "falls towards infinity": from θ* along the direction, at 1, 2, 4, ..., 1,024 times ‖θ*‖ the loss is lower than at θ*,
  and at none higher than at the one before; and L-BFGS-B from θ leaves too: θ grows, the loss falls to a thousandth.
* "lowest on its kinks, ... gain less than x": what was tried gains less than x; x is at most 1% of the loss; and the
  gradient jumps: within 1e-5 of the size of θ it changes by a tenth of itself.
* "flat to within x: λ_min": what was tried gains less than x, which is at most 1% of the loss; λ_min is that of the
  Hessian by central differences, to 1e-6 of the largest eigenvalue.
* "still falling" is no answer.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.optimize
from sklearn import datasets

sys.path.insert(0, str(Path(__file__).parents[2]))

import microgradopt as mg
from microgradopt import critical, nn, optim, training

Array = np.ndarray
BEGIN, END = "<!-- trained -->", "<!-- /trained -->"  # where the table goes in a document
UPDATES = 3000
DATA = ("breast_cancer", "wine", "diabetes", "digits")
RUNS = list(itertools.product(("Tanh", "ReLU", "GELU"), (0, 1e-3, 1e-2), DATA))
RADII = 10.0 ** np.arange(-6, 0)  # of the size of θ: how far the samples are


def name(run: tuple[str, float, str]) -> str:
    activation, decay, data = run
    return f"{data.replace('_', ' ')}, {'tanh' if activation == 'Tanh' else activation}, decay {decay:g}"


def trained(run: tuple[str, float, str], seed: int) -> mg.Objective:
    """The loss of a network, at where its training ended."""
    activation, decay, data = run
    X, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    X, y = (X[:300] / 16, y[:300]) if data == "digits" else (standardised(X), y)
    regression = data == "diabetes"
    y = standardised(y)[:, None] if regression else y
    sizes = (X.shape[1], 16 if data == "digits" else 8, 1 if regression else int(y.max()) + 1)
    model = nn.MLP(sizes, getattr(nn, activation), rng=seed)
    error = nn.mse_loss if regression else nn.cross_entropy

    def loss() -> mg.Tensor:
        penalty = decay * sum((p * p).sum() for p in model.parameters())
        return error(model(X), y) + penalty

    objective = mg.Objective.of(model, loss, compile=mg.compile)
    training.trajectory(objective, optim.Adam(model.parameters(), lr=0.01), UPDATES)
    return objective


def standardised(x: Array) -> Array:
    return (x - x.mean(axis=0)) / x.std(axis=0)


# The oracle -----------------------------------------------------------------------------------------------------------


def lbfgs(objective: mg.Objective, theta: Array, iterations: int, memory: int = 20) -> scipy.optimize.OptimizeResult:
    options = {"maxiter": iterations, "maxfun": 10 * iterations, "maxcor": memory, "ftol": 0.0, "gtol": 0.0}
    return scipy.optimize.minimize(objective.value_and_gradient, theta, jac=True, method="L-BFGS-B", options=options)


def around(theta: Array, radii: Array, count: int) -> Array:
    """Points at these distances from θ, in units of its size, `count` in all: one a row."""
    v = np.random.default_rng(12345).normal(size=(count, theta.size))
    far = np.resize(radii, count) * max(1.0, np.linalg.norm(theta))
    return theta + far[:, None] * v / np.linalg.norm(v, axis=1, keepdims=True)


def gain(objective: mg.Objective, theta: Array) -> float:
    """What is gained from θ by all that is tried."""
    ends = [lbfgs(objective, theta, 300, memory).fun for memory in (10, 100)]
    ends += [objective.value(there) for there in around(theta, RADII, 1000)]
    return objective.value(theta) - min(ends)


def eigenvalues(objective: mg.Objective, theta: Array) -> Array:
    """Of the Hessian by central differences of the gradient."""
    h = 1e-5 * np.maximum(1.0, np.abs(theta))
    rows = [objective.gradient(theta + h * e) - objective.gradient(theta - h * e) for e in np.eye(theta.size)]
    H = np.array(rows) / (2 * h[:, None])
    return scipy.linalg.eigvalsh((H + H.T) / 2)


def jumps(objective: mg.Objective, theta: Array) -> bool:
    g = objective.gradient(theta)
    changes = [np.linalg.norm(objective.gradient(there) - g) for there in around(theta, RADII[:2], 100)]
    return max(changes) >= 0.1 * np.linalg.norm(g)


def lowest_nearby(objective: mg.Objective, theta: Array, found: critical.Nearest) -> bool:
    """Whether L-BFGS-B from θ itself comes no lower, but for places further away."""
    other = lbfgs(objective, theta, 1000)
    return other.fun >= 0.99 * found.point.value or np.linalg.norm(other.x - theta) > 2 * found.distance


def leaves(objective: mg.Objective, theta: Array, found: critical.Nearest) -> bool:
    end, other = found.point.theta, lbfgs(objective, theta, 1000)
    far = np.linalg.norm(end) * 2.0 ** np.arange(11)
    losses = np.array([objective.value(end + t * found.direction) for t in far])
    falls = bool((losses < objective.value(end)).all() and (np.diff(losses) <= 0).all())
    grown = np.linalg.norm(other.x) > np.linalg.norm(theta) and other.fun <= 1e-3 * objective.value(theta)
    return falls and bool(grown)


def is_right(objective: mg.Objective, theta: Array, found: critical.Nearest) -> bool:
    """Whether the answer stands: see above."""
    end, value = found.point.theta, objective.value(found.point.theta)
    told = np.isclose(found.distance, np.linalg.norm(end - theta)) and np.isclose(
        found.gain, objective.value(theta) - value, atol=1e-12
    )
    if found.end == "infinity":
        return bool(told) and leaves(objective, theta, found)
    if not told or found.end == "still falling" or not lowest_nearby(objective, theta, found):
        return False
    gained = gain(objective, end)
    if found.end == "critical":
        values = eigenvalues(objective, end)
        is_minimum = found.point.kind == "local minimum" and values[0] >= -1e-6 * values[-1]
        return bool(is_minimum and gained <= 1e-6 * abs(value))
    if gained >= found.left or found.left > 0.01 * abs(value):
        return False
    if found.end == "kinks":
        return jumps(objective, end)
    values = eigenvalues(objective, end)
    return bool(abs(values[0] - found.point.eigenvalues[0]) <= 1e-6 * values[-1])


# The table ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    name: str
    n: int
    loss: float
    kind: str
    found: critical.Nearest
    right: bool


def outcome(run: tuple[str, float, str], seed: int) -> Outcome:
    started = time.perf_counter()
    objective = trained(run, seed)
    theta = objective.theta
    kind = critical.classify(objective).kind
    walking = time.perf_counter()
    found = critical.nearest(objective)
    walked = time.perf_counter()
    right = is_right(objective, theta, found)
    o = Outcome(name(run), objective.n, objective.value(), kind, found, right)
    times = f"walk {walked - walking:.1f} s, all {time.perf_counter() - started:.1f} s"
    print(f"{o.name} [{times}]: {o.kind}; {found}{'' if right else '  WRONG'}", file=sys.stderr, flush=True)
    return o


def table(outcomes: list[Outcome], seed: int) -> str:
    right, silent = sum(o.right for o in outcomes), sum(o.kind == "not critical" for o in outcomes)
    lines = [
        f'Seed {seed}: {right} of {len(outcomes)} answers are right; `classify` alone said "not critical" of {silent}.',
        "",
        "| run | n | loss | `classify` | `nearest` | right |",
        "|---|---:|---:|---|---|---|",
    ]
    lines += [
        f"| {o.name} | {o.n:,} | {o.loss:.3g} | {o.kind} | {o.found} | {'yes' if o.right else '**no**'} |"
        for o in outcomes
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a file with the two markers, between which the table goes")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--only", default="", help="part of the names of the runs wanted")
    arguments = parser.parse_args()
    wanted = [run for run in RUNS if arguments.only.lower() in name(run).lower()]
    made = table([outcome(run, arguments.seed) for run in wanted], arguments.seed)
    print(made)
    if arguments.write:
        before, rest = arguments.write.read_text().split(BEGIN)
        arguments.write.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
