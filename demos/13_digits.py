# %% [markdown]
# # Five optimizers on real handwritten digits
#
# The same small network (64-32-10) learns scikit-learn's 1,797 digits with gradient descent, momentum, Root Mean
# Square, RMSProp and Adam: all in the lecture's own formulas, all from the same start. Comparing optimizers is fair
# only if each has the learning rate that suits it; so each one's is chosen first, on held-out training images.
#
#     python demos/digits.py            about a minute
#     python demos/digits.py --quick    a few seconds
"""Train a 64-32-10 MLP on scikit-learn's digits with five optimizers from the same start, and compare them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from microgradopt import Objective, nn, optim
from microgradopt.training import Evaluation, History, evaluate, fit

SIZES = (64, 32, 10)
BATCH_SIZE = 32
LEARNING_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

# %% [markdown]
# The five, each as the lecture writes it. `SGD` without momentum is plain gradient descent.

# %%
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": optim.SGD,
    "Momentum": optim.Momentum,
    "RMS": optim.RMS,
    "RMSProp": lambda params, lr: optim.RMSprop(params, lr, start="gradient"),
    "Adam": optim.Adam,
}


class Data(NamedTuple):
    """Images as rows of 64 numbers from 0 to 1, labels as integers."""

    X: np.ndarray
    y: np.ndarray


class Run(NamedTuple):
    """One training run."""

    lr: float
    history: History
    by_epoch: list[tuple[Evaluation, Evaluation]]  # train and test, after every epoch
    gradient_norm: float  # of the whole training loss, at the end


def digits(seed: int) -> tuple[Data, Data]:
    """Training and test set: 1,257 and 540 images, every digit in the same proportion."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.3, random_state=seed, stratify=y)
    return Data(X_train, y_train), Data(X_test, y_test)


# %% [markdown]
# Training. The same seed gives every optimizer the same initial weights and the same batches in the same order.


# %%
def train(name: str, lr: float, train_set: Data, test_set: Data, epochs: int, seed: int, bar: tqdm) -> Run:
    """Train from the start that `seed` gives."""
    model = nn.MLP(SIZES, activation=nn.Tanh, rng=seed)
    optimizer = OPTIMIZERS[name](model.parameters(), lr=lr)
    by_epoch: list[tuple[Evaluation, Evaluation]] = []

    def on_epoch(epoch: int, history: History) -> None:
        evaluated = tuple(evaluate(model, nn.cross_entropy, data.X, data.y) for data in (train_set, test_set))
        by_epoch.append(evaluated)
        bar.set_postfix_str(f"{name}, lr {lr:g}: loss {evaluated[0].loss:.4f}")
        bar.update()

    history = fit(model, nn.cross_entropy, optimizer, *train_set, epochs, BATCH_SIZE, rng=seed + 1, on_epoch=on_epoch)
    whole = Objective.of(model, lambda: nn.cross_entropy(model(train_set.X), train_set.y))
    return Run(lr, history, by_epoch, float(np.linalg.norm(whole.gradient())))


def chosen_lr(name: str, train_set: Data, epochs: int, seed: int, rates: tuple[float, ...], bar: tqdm) -> float:
    """The learning rate with the lowest loss, after as many epochs, on a fifth of the training set that is held out."""
    X, X_held, y, y_held = train_test_split(*train_set, test_size=0.2, random_state=seed, stratify=train_set.y)
    runs = [train(name, lr, Data(X, y), Data(X_held, y_held), epochs, seed, bar) for lr in rates]
    return min(runs, key=lambda run: run.by_epoch[-1][1].loss).lr


# %% [markdown]
# What came out: a table, a picture, and what to notice.


# %%
def table(runs: dict[str, Run]) -> str:
    """One row per optimizer."""
    header = (
        f"{'optimizer':<10}{'lr':>8}{'train loss':>12}{'test loss':>11}{'train acc':>11}{'test acc':>10}"
        f"{'grad norm':>11}{'µs/update':>11}"
    )
    rows = []
    for name, run in runs.items():
        at_train, at_test = run.by_epoch[-1]
        rows.append(
            f"{name:<10}{run.lr:>8g}{at_train.loss:>12.5f}{at_test.loss:>11.4f}{at_train.accuracy:>11.2%}"
            f"{at_test.accuracy:>10.2%}{run.gradient_norm:>11.1e}{np.median(run.history.seconds) * 1e6:>11.0f}"
        )
    return "\n".join([header, "-" * len(header), *rows])


def notice(runs: dict[str, Run], test_images: int) -> str:
    """The numbers in words."""
    final = {name: run.by_epoch[-1] for name, run in runs.items()}
    best_train = min(final, key=lambda name: final[name][0].loss)
    best_test = max(final, key=lambda name: final[name][1].accuracy)
    accuracies = [at_test.accuracy for _, at_test in final.values()]
    lrs = {name: run.lr for name, run in runs.items()}
    smallest, largest = min(lrs, key=lrs.__getitem__), max(lrs, key=lrs.__getitem__)
    batch_norms = runs[best_train].history.gradient_norm[-40:]
    jumps = {name: biggest_jump(run) for name, run in runs.items()}
    bursting = max(jumps, key=lambda name: jumps[name][0])
    spread = max(accuracies) - min(accuracies)
    rise, epoch = jumps[bursting]
    lines = [
        f"The learning rates differ {lrs[largest] / lrs[smallest]:.0f}-fold: {largest} wants {lrs[largest]:g}, "
        f"{smallest} {lrs[smallest]:g}. Dividing by σ changes the units of η; one η for all would be no comparison.",
        f"{best_train} gets the training loss lowest, {final[best_train][0].loss:.5f}; {best_test} the test accuracy "
        f"highest, {final[best_test][1].accuracy:.2%}."
        + ("" if best_train == best_test else " Lower in training is not the same as better in the test."),
        f"On the test set the five end within {spread:.1%} of each other, where one image is {1 / test_images:.1%}: "
        + (
            "tuned, they differ less in where they get than in how soon." if spread < 0.015 else "not all have arrived."
        ),
        f"{bursting} has the largest burst: in epoch {epoch} its training loss rises {rise:.0f}-fold."
        + (
            " Many small gradients make σ small; then one large gradient makes a large step (lecture, L9). It recovers."
            if bursting.startswith("RMS")
            else ""
        ),
        f"The gradient of a batch is noisy: over the last epoch of {best_train} its norm ran from "
        f"{min(batch_norms):.1e} to {max(batch_norms):.1e}, while that of the whole training set is "
        f"{runs[best_train].gradient_norm:.1e}.",
    ]
    return "\n".join(["What to notice:", *(f"- {line}" for line in lines)])


def biggest_jump(run: Run) -> tuple[float, int]:
    """The largest factor by which the training loss rose from one epoch to the next, and the epoch it rose in."""
    losses = np.array([at_train.loss for at_train, _ in run.by_epoch])
    factors = losses[1:] / losses[:-1]
    return float(factors.max()), int(factors.argmax()) + 2


def picture(runs: dict[str, Run], path: Path) -> None:
    """Training loss, gradient norm and test accuracy against epochs."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
    for name, run in runs.items():
        epochs = np.arange(1, len(run.by_epoch) + 1)
        per_epoch = np.array(run.history.gradient_norm).reshape(len(epochs), -1).mean(axis=1)
        label = f"{name}, η = {run.lr:g}"
        axes[0].semilogy(epochs, [at_train.loss for at_train, _ in run.by_epoch], label=label)
        axes[1].semilogy(epochs, per_epoch, label=label)
        axes[2].plot(epochs, [100 * at_test.accuracy for _, at_test in run.by_epoch], label=label)
    axes[0].set_title("Loss on the training set")
    axes[1].set_title("Gradient norm of a batch, mean over the epoch")
    axes[2].set_title("Accuracy on the test set, %")
    axes[2].set_ylim(90, 100)
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(runs))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict[str, Run]:
    """Choose the rates, train, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few epochs and few learning rates: a few seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the initial weights and the batches")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args(arguments)
    epochs, rates = (6, (0.003, 0.03, 0.3)) if options.quick else (40, LEARNING_RATES)

    train_set, test_set = digits(options.seed)
    runs = {}
    with tqdm(total=len(OPTIMIZERS) * (len(rates) + 1) * epochs, unit="epoch") as bar:
        for name in OPTIMIZERS:
            lr = chosen_lr(name, train_set, epochs, options.seed, rates, bar)
            runs[name] = train(name, lr, train_set, test_set, epochs, options.seed, bar)

    print(f"\n{len(train_set.X)} training images, {len(test_set.X)} test images;")
    print(f"{epochs} epochs, batches of {BATCH_SIZE};")
    print("lr: the best of", ", ".join(f"{rate:g}" for rate in rates), "on a held-out fifth of the training images\n")
    print(table(runs))
    print()
    print(notice(runs, len(test_set.X)))
    path = options.out / "digits.png"
    picture(runs, path)
    print(f"\nThe curves: {path}")
    return runs


# %%
if __name__ == "__main__":
    main()
