"""Runs that are stuck for a reason that is known, because it was planted; and what diagnosing and following gains.

    python tests/critical/planted.py                                     prints the table
    python tests/critical/planted.py --write docs/stuck.md               and puts it into the docs
    python tests/critical/planted.py --seed 1                            other weights, batches and made-up data

A run trains on all data, or in batches, until it is stuck. Then it goes on twice for the same number of updates: as
before, and as `critical.diagnose` advises.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from microgradopt import Objective, Tensor, critical, nn, no_grad, optim
from microgradopt.training import History, gradient_norm

Array = np.ndarray
BEGIN, END = "<!-- diagnosis -->", "<!-- /diagnosis -->"  # where the tables go in a document
SEED = 0  # of everything that is random
VERDICTS = [
    "local minimum", "saddle point", "bouncing", "creeping", "plateau", "exploding", "noise floor", "still improving",
]  # fmt: skip


class Run:
    """A model, its loss on chosen samples, an optimizer, and what has happened."""

    def __init__(
        self,
        model: Any,
        loss: Callable[[Any, Any], Tensor],
        X: Array,
        y: Array,
        optimizer: Callable[..., optim.Optimizer],
        batch_size: int | None = None,
        decay: float = 0.0,
        **settings: Any,
    ) -> None:
        def penalised(output: Any, target: Any) -> Tensor:
            return loss(output, target) + decay * sum((p * p).sum() for p in model.parameters())

        self.model, self.X, self.y = model, X, y
        self.loss = penalised if decay else loss
        self.optimizer = optimizer(model.parameters(), **settings)
        self.batch_size = batch_size or len(X)
        self.rng = np.random.default_rng(SEED)
        self.history = History()
        self.objective = Objective.of(model, lambda: self.loss(model(X), y))
        self.start = self.objective.theta

    def train(self, updates: int) -> Run:
        for _ in range(updates):
            chosen = self.rng.permutation(len(self.X))[: self.batch_size]
            batch = slice(None) if self.batch_size == len(self.X) else chosen
            self.optimizer.zero_grad()
            with np.errstate(all="ignore"):
                loss = self.loss(self.model(self.X[batch]), self.y[batch])
                loss.backward()
                norm = gradient_norm(self.model.parameters())
            self.history.append(loss.item(), norm, self.optimizer.lr, 0.0)
            if not (np.isfinite(loss.item()) and np.isfinite(norm)):
                break
            self.optimizer.step()
        return self

    def diagnose(self) -> critical.Diagnosis:
        return critical.diagnose(self.objective, self.optimizer, self.history)

    def value(self) -> float:
        with no_grad(), np.errstate(all="ignore"):
            value = self.loss(self.model(self.X), self.y).item()
        return value if np.isfinite(value) else np.inf


@dataclass(frozen=True)
class Planted:
    """A run that is stuck. make: trains until it is. updates: how many more, as before or as advised.

    other: what the advice of starting otherwise means here, a new run (a larger network, another initialisation).
    """

    name: str
    verdict: str
    make: Callable[[], Run]
    updates: int = 200
    other: Callable[[], Run] | None = None


@dataclass(frozen=True)
class Outcome:
    planted: Planted
    diagnosis: critical.Diagnosis
    stuck: float
    as_before: float
    as_advised: float

    @property
    def right(self) -> bool:
        return self.diagnosis.verdict == self.planted.verdict

    @property
    def helped(self) -> bool:
        return self.as_advised < self.as_before


def outcome(planted: Planted) -> Outcome:
    run = planted.make()
    diagnosis = run.diagnose()
    stuck = run.value()
    before = planted.make().train(0 if diagnosis.verdict == "still improving" else planted.updates)
    return Outcome(planted, diagnosis, stuck, before.value(), followed(planted, run, diagnosis).value())


def followed(planted: Planted, run: Run, advice: critical.Diagnosis) -> Run:
    """The run that does what it was told, in as many updates."""
    if advice.verdict in ("local minimum", "plateau") and planted.other is not None:
        return planted.other().train(planted.updates)
    if advice.verdict == "exploding":
        run.objective.theta = run.start
        run.optimizer = type(run.optimizer)(run.model.parameters(), lr=run.optimizer.lr)
    if advice.theta is not None:
        run.objective.theta = advice.theta
    if advice.lr is not None:
        for group in run.optimizer.param_groups:
            group["lr"] = advice.lr
    return run.train(planted.updates)


# Data and networks ----------------------------------------------------------------------------------------------------


def digits(n: int = 300) -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X[:n] / 16, y[:n]


def moons(n: int = 100) -> tuple[Array, Array]:
    from sklearn.datasets import make_moons

    return make_moons(n, noise=0.1, random_state=SEED)


def waves(n: int = 60) -> tuple[Array, Array]:
    x = np.linspace(-2, 2, n)[:, None]
    return x, np.sin(2 * x)


def teacher() -> tuple[Array, Array]:
    X = np.random.default_rng(1).normal(size=(40, 2))
    return X, np.tanh(X[:, :1]) - np.tanh(X[:, 1:] + 0.5)


def noisy_line(n: int = 200) -> tuple[Array, Array]:
    rng = np.random.default_rng(SEED)
    X = rng.normal(size=(n, 5))
    return X, X @ np.arange(1.0, 6.0)[:, None] + 2 * rng.normal(size=(n, 1))


def lecture() -> tuple[Array, Array]:
    """The ten points of the lecture's regression (L8)."""
    x = np.array([338, 333, 328, 207, 226, 25, 179, 60, 208, 606], float)
    y = np.array([640, 633, 619, 393, 428, 27, 193, 66, 226, 1591], float)
    return x[:, None], y[:, None]


def line(slope: float = -4.0, intercept: float = -120.0) -> nn.Module:
    model = nn.Linear(1, 1, rng=SEED)
    model.weight.data, model.bias.data = np.array([[slope]]), np.array([intercept])
    return model


def squared_errors(output: Any, target: Any) -> Tensor:
    return nn.mse_loss(output, target, reduction="sum")


def twins(sizes: tuple[int, ...], activation: Any = nn.Tanh) -> nn.Module:
    """A network whose hidden units all start, and so stay, the same."""
    model = nn.MLP(sizes, activation=activation, rng=SEED + 1)
    first, bias, second, *_ = model.parameters()
    first.data = np.broadcast_to(first.data[:1], first.shape)
    bias.data = np.broadcast_to(bias.data[:1], bias.shape)
    second.data = np.broadcast_to(second.data[:, :1], second.shape)
    return model


def scaled(model: nn.Module, weights: float = 1.0, bias: float | None = None) -> nn.Module:
    """The first layer's weights made larger, and its biases put at one value: what kills or saturates units."""
    first, first_bias, *_ = model.parameters()
    first.data = first.data * weights
    if bias is not None:
        first_bias.data = np.full(first_bias.shape, bias)
    return model


def lecture_net() -> nn.Module:
    """y = w₁ w₂ x, started on the line w₁ = −w₂, from where gradient descent leads to the saddle at the origin."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False, rng=SEED), nn.Linear(1, 1, bias=False, rng=SEED))
    first, second = model.parameters()
    first.data, second.data = np.array([[0.5]]), np.array([[-0.5]])
    return model


def one() -> tuple[Array, Array]:
    return np.ones((1, 1)), np.ones((1, 1))


def zeroed(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.data = np.zeros(parameter.shape)
    return model


def one_hot_errors(scores: Any, labels: Array) -> Tensor:
    return nn.mse_loss(scores, np.eye(10)[labels])


def deep(activation: Any, layers: int, width: int = 10) -> nn.Module:
    return nn.MLP((64, *[width] * layers, 10), activation=activation, rng=SEED)


# The runs -------------------------------------------------------------------------------------------------------------

MSE, CE = nn.mse_loss, nn.cross_entropy


def run(
    model: Any, loss: Any, data: tuple[Array, Array], optimizer: Any, updates: int, **settings: Any
) -> Callable[[], Run]:
    """A function that makes a run, from functions that make its parts, and trains it."""
    return lambda: Run(model(), loss, *data(), optimizer, **settings).train(updates)


PLANTED = [
    # Steps too long
    Planted("digits, tanh, decay, SGD, lr 3", "bouncing", run(lambda: nn.MLP((64, 16, 10), nn.Tanh, rng=SEED), CE, digits, optim.SGD, 300, lr=3.0, decay=1e-2)),
    Planted("digits, linear, decay, momentum 0.9, lr 8", "bouncing", run(lambda: nn.Linear(64, 10, rng=SEED), CE, digits, optim.SGD, 300, lr=8.0, momentum=0.9, decay=1e-2)),
    Planted("digits, linear, decay, Adam, lr 3", "bouncing", run(lambda: nn.Linear(64, 10, rng=SEED), CE, digits, optim.Adam, 300, lr=3.0, decay=1e-2)),
    Planted("digits, tanh, decay, Adam, lr 1", "bouncing", run(lambda: nn.MLP((64, 16, 10), nn.Tanh, rng=SEED), CE, digits, optim.Adam, 300, lr=1.0, decay=1e-2)),
    Planted("digits, linear, decay, SGD, lr 30", "bouncing", run(lambda: nn.Linear(64, 10, rng=SEED), CE, digits, optim.SGD, 300, lr=30.0, decay=1e-2)),
    Planted("waves, tanh, RMSprop, lr 0.1", "bouncing", run(lambda: nn.MLP((1, 16, 1), nn.Tanh, rng=SEED), MSE, waves, optim.RMSprop, 300, lr=0.1)),
    Planted("lecture's line, Huber's loss, SGD, lr 1e-3", "bouncing", run(line, nn.huber_loss, lecture, optim.SGD, 300, lr=1e-3)),
    # Steps too short
    Planted("digits, relu, SGD, lr 1e-5", "creeping", run(lambda: nn.MLP((64, 16, 10), rng=SEED), CE, digits, optim.SGD, 200, lr=1e-5)),
    Planted("digits, tanh, momentum, lr 1e-6", "creeping", run(lambda: nn.MLP((64, 16, 10), nn.Tanh, rng=SEED), CE, digits, optim.Momentum, 200, lr=1e-6)),
    Planted("moons, relu, Adam, lr 1e-6", "creeping", run(lambda: nn.MLP((2, 16, 2), rng=SEED), CE, moons, optim.Adam, 200, lr=1e-6)),
    Planted("lecture's line, SGD, lr 1e-9", "creeping", run(line, squared_errors, lecture, optim.SGD, 200, lr=1e-9)),
    # Saddles
    Planted("two tanh units with the same weights", "saddle point", run(lambda: twins((2, 2, 1)), MSE, teacher, optim.SGD, 3000, lr=0.3), 1000),
    Planted("digits, 16 tanh units with the same weights", "saddle point", run(lambda: twins((64, 16, 10)), CE, digits, optim.SGD, 1000, lr=0.2, decay=1e-2), 300),
    Planted("waves, 8 tanh units with the same weights", "saddle point", run(lambda: twins((1, 8, 1)), MSE, waves, optim.SGD, 2000, lr=0.1, decay=1e-4), 500),
    Planted("lecture's net, towards the origin", "saddle point", run(lecture_net, MSE, one, optim.SGD, 200, lr=0.1), 100),
    Planted("two linear layers, all weights 0", "saddle point", run(lambda: zeroed(nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))), MSE, teacher, optim.SGD, 100, lr=0.1), 200),
    # Minima
    Planted("lecture's line, by its formula", "local minimum", run(lambda: line(2.6694640, -188.4331939), squared_errors, lecture, optim.SGD, 50, lr=5e-7), 2000, lambda: Run(nn.MLP((1, 16, 1), nn.Tanh, rng=SEED), squared_errors, (lecture()[0] - 230) / 160, lecture()[1], optim.Adam, lr=10.0)),
    Planted("waves, one tanh unit", "local minimum", run(lambda: nn.MLP((1, 1, 1), nn.Tanh, rng=SEED), MSE, waves, optim.SGD, 10000, lr=0.3), 1000, lambda: Run(nn.MLP((1, 16, 1), nn.Tanh, rng=SEED), MSE, *waves(), optim.Adam, lr=0.01)),
    Planted("moons, a line between them", "local minimum", run(lambda: nn.Linear(2, 2, rng=SEED), CE, moons, optim.SGD, 3000, lr=1.0), 500, lambda: Run(nn.MLP((2, 16, 2), rng=SEED), CE, *moons(), optim.Adam, lr=0.01)),
    # No gradient comes through
    Planted("digits, relus all dead", "plateau", run(lambda: scaled(nn.MLP((64, 16, 10), rng=SEED), bias=-20.0), CE, digits, optim.SGD, 300, lr=0.5), 300, lambda: Run(nn.MLP((64, 16, 10), rng=SEED), CE, *digits(), optim.SGD, lr=0.5)),
    Planted("digits, tanh units saturated", "plateau", run(lambda: scaled(nn.MLP((64, 16, 10), nn.Tanh, rng=SEED), bias=12.0), CE, digits, optim.SGD, 300, lr=0.5), 300, lambda: Run(nn.MLP((64, 16, 10), nn.Tanh, rng=SEED), CE, *digits(), optim.SGD, lr=0.5)),
    Planted("digits, eight layers of sigmoids", "plateau", run(lambda: deep(nn.Sigmoid, 8), CE, digits, optim.SGD, 300, lr=0.5), 300, lambda: Run(deep(nn.ReLU, 2), CE, *digits(), optim.SGD, lr=0.5)),
    Planted("digits, relus killed by the first step", "plateau", run(lambda: nn.MLP((64, 16, 10), rng=SEED), CE, digits, optim.SGD, 300, lr=30.0), 300, lambda: Run(nn.MLP((64, 16, 10), rng=SEED), CE, *digits(), optim.SGD, lr=0.5)),
    # Numbers that leave
    Planted("lecture's line, SGD, lr 1e-2", "exploding", run(line, squared_errors, lecture, optim.SGD, 200, lr=1e-2)),
    Planted("digits, linear, squared errors, lr 5", "exploding", run(lambda: nn.Linear(64, 10, rng=SEED), one_hot_errors, digits, optim.SGD, 15, lr=5.0)),
    # The noise of batches
    Planted("noisy line, batches of 2, lr 0.05", "noise floor", run(lambda: nn.Linear(5, 1, rng=SEED), MSE, noisy_line, optim.SGD, 1000, lr=0.05, batch_size=2)),
    Planted("moons, relu, Adam, batches of 4", "noise floor", run(lambda: nn.MLP((2, 4, 2), rng=SEED), CE, moons, optim.Adam, 1500, lr=0.03, batch_size=4, decay=1e-2)),
    Planted("digits, tanh, momentum, batches of 8", "noise floor", run(lambda: nn.MLP((64, 16, 10), nn.Tanh, rng=SEED), CE, digits, optim.SGD, 1500, lr=0.05, momentum=0.9, batch_size=8, decay=1e-2)),
    # Nothing wrong
    Planted("digits, relu, SGD, lr 0.2", "still improving", run(lambda: nn.MLP((64, 16, 10), rng=SEED), CE, digits, optim.SGD, 100, lr=0.2)),
    Planted("moons, tanh, Adam, lr 0.01", "still improving", run(lambda: nn.MLP((2, 16, 2), nn.Tanh, rng=SEED), CE, moons, optim.Adam, 100, lr=0.01)),
    Planted("digits in batches of 32, relu, lr 0.1", "still improving", run(lambda: nn.MLP((64, 16, 10), rng=SEED), CE, digits, optim.SGD, 100, lr=0.1, batch_size=32)),
]  # fmt: skip


# The table ------------------------------------------------------------------------------------------------------------


def confusion(outcomes: list[Outcome]) -> str:
    """Rows: what was planted; columns: what was diagnosed."""
    counts = {(p, d): 0 for p in VERDICTS for d in VERDICTS}
    for o in outcomes:
        counts[o.planted.verdict, o.diagnosis.verdict] += 1
    lines = ["| planted \\ diagnosed | " + " | ".join(VERDICTS) + " |", "|---|" + "---:|" * len(VERDICTS)]
    for p in VERDICTS:
        cells = [str(counts[p, d] or "·") for d in VERDICTS]
        lines += [f"| {p} | " + " | ".join(cells) + " |"]
    return "\n".join(lines)


def gains(outcomes: list[Outcome]) -> str:
    lines = [
        "| run | planted | diagnosed | updates more | loss when stuck | as before | as advised |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for o in outcomes:
        verdict = o.diagnosis.verdict if o.right else f"**{o.diagnosis.verdict}**"
        lines.append(
            f"| {o.planted.name} | {o.planted.verdict} | {verdict} | {o.planted.updates} | {o.stuck:.4g} | "
            f"{o.as_before:.4g} | {o.as_advised:.4g} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a file with the two markers, between which the tables go")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the batches and the made-up data")
    parser.add_argument("--only", default="", help="part of the names of the runs wanted")
    parser.add_argument("--verbose", action="store_true", help="the diagnoses in full")
    arguments = parser.parse_args()
    globals()["SEED"] = arguments.seed
    outcomes = []
    for planted in PLANTED:
        if arguments.only in planted.name:
            started = time.perf_counter()
            outcomes.append(outcome(planted))
            if arguments.verbose:
                print(f"{planted.name} [{time.perf_counter() - started:.1f} s]\n{outcomes[-1].diagnosis}\n")
    tables = f"{confusion(outcomes)}\n\n{gains(outcomes)}"
    print(tables)
    if arguments.write:
        before, rest = arguments.write.read_text().split(BEGIN)
        arguments.write.write_text(f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
