# %% [markdown]
# # Why is my loss stuck? Two networks on handwritten digits, two reasons, two ways out
#
# The first network starts with all its hidden units the same. The gradient keeps them the same, and training comes to
# rest at a saddle (lecture L1, L2). The second has a learning rate that is too large, and bounces while its gradient
# stays as large as ever (L7). Both losses are flat; `critical.diagnose` tells them apart, and its advice is followed.
#
#     python demos/stuck.py            about a minute
#     python demos/stuck.py --quick    a few seconds
"""Digits: get stuck at a saddle, and by a wrong learning rate; diagnose both, follow the advice, plot."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from microgradopt import Objective, Tensor, critical, nn, optim, plots
from microgradopt.training import History, accuracy, gradient_norm

SIZES = (64, 16, 10)
DECAY = 1e-2  # of the penalty DECAY·‖θ‖², which gives the surface a bottom that can be reached
ROUNDS = 6  # of getting stuck and following the advice


@dataclass
class Run:
    """A network in training on all its data at once, and where it was advised."""

    model: nn.Module
    X: np.ndarray
    y: np.ndarray
    optimizer: optim.Optimizer

    def __post_init__(self) -> None:
        self.history = History()
        self.objective = Objective.of(self.model, self.loss)
        self.advised: list[tuple[int, critical.Diagnosis]] = []

    def loss(self) -> Tensor:
        """Cross-entropy and the penalty."""
        penalty = sum((p * p).sum() for p in self.model.parameters())
        return nn.cross_entropy(self.model(self.X), self.y) + DECAY * penalty

    def train(self, updates: int) -> None:
        """Go on."""
        for _ in range(updates):
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            norm = gradient_norm(self.model.parameters())
            self.history.append(loss.item(), norm, self.optimizer.lr, 0.0)
            self.optimizer.step()

    def ask(self) -> critical.Diagnosis:
        """Diagnose, and do as advised."""
        found = critical.diagnose(self.objective, self.optimizer, self.history)
        print(f"after {len(self.history)} updates, accuracy {accuracy(self.model(self.X), self.y):.1%}: {found}\n")
        self.advised.append((len(self.history), found))
        if found.theta is not None:
            self.objective.theta = found.theta
        if found.lr is not None:
            self.optimizer.param_groups[0]["lr"] = found.lr
        return found


# %% [markdown]
# ## A saddle
#
# All 16 hidden units have the weights of the first one. They get the same gradient, and stay 16 copies of one unit.


# %%
def copies(rng: int) -> nn.Module:
    """A network whose hidden units are all the same."""
    model = nn.MLP(SIZES, activation=nn.Tanh, rng=rng)
    first, bias, second, _ = model.parameters()
    first.data = np.broadcast_to(first.data[:1], first.shape)
    bias.data = np.broadcast_to(bias.data[:1], bias.shape)
    second.data = np.broadcast_to(second.data[:, :1], second.shape)
    return model


def at_a_saddle(
    X: np.ndarray, y: np.ndarray, updates: int, seed: int, dense_up_to: int
) -> tuple[Run, critical.CriticalPoint]:
    """Train, get stuck, step off along negative curvature; as often as it is needed."""
    model = copies(seed)
    run = Run(model, X, y, optim.SGD(model.parameters(), lr=0.5, momentum=0.9))
    run.train(updates)
    point = critical.classify(run.objective, dense_up_to=dense_up_to)
    print(f"Sixteen copies of one unit:\n{point}\n")
    for _ in range(ROUNDS):
        if run.ask().verdict != "saddle point":
            break
        run.train(updates)
    return run, point


# %% [markdown]
# ## A learning rate that is too large


# %%
def bouncing(X: np.ndarray, y: np.ndarray, updates: int, seed: int) -> Run:
    """Train with a step that is too long, ask, go on with the step that is advised."""
    model = nn.MLP(SIZES, activation=nn.Tanh, rng=seed)
    run = Run(model, X, y, optim.SGD(model.parameters(), lr=3.0))
    run.train(updates)
    run.ask()
    run.train(updates)
    run.ask()
    return run


def picture(saddle: Run, point: critical.CriticalPoint, leaping: Run, path: Path) -> None:
    """Loss and gradient norm of both runs, and the spectrum at the first saddle."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
    for ax, run, title in ((axes[0], saddle, "Copies of one unit"), (axes[1], leaping, "lr = 3")):
        ax.semilogy(run.history.loss, label="loss")
        ax.semilogy(run.history.gradient_norm, label="gradient norm", alpha=0.7)
        for step, found in run.advised:
            ax.axvline(step, color="black", linewidth=0.7, linestyle=":")
            ax.annotate(f"{found.verdict} ", (step, 0.03), xycoords=("data", "axes fraction"), fontsize=9, ha="right")
        ax.set_title(title)
        ax.set_xlabel("update")
        ax.legend(loc="best", fontsize="small")
    plots.spectrum(point, axes[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> tuple[Run, Run]:
    """Get stuck twice, and out again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images: a few seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args(arguments)
    X, y = load_digits(return_X_y=True)
    images, updates = (200, 300) if options.quick else (1500, 500)
    X, y = X[:images] / 16, y[:images]

    saddle, point = at_a_saddle(X, y, updates, options.seed, dense_up_to=400 if options.quick else 2000)
    print("A learning rate of 3:")
    leaping = bouncing(X, y, updates, options.seed)

    path = options.out / "stuck.png"
    picture(saddle, point, leaping, path)
    print(f"The picture: {path}")
    return saddle, leaping


# %%
if __name__ == "__main__":
    main()
