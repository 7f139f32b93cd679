"""
Five optimizers on real handwritten digits (lecture L13)
========================================================

The same small network (64-32-10) learns scikit-learn's 1,797 digits with gradient descent, momentum, Root Mean Square,
RMSProp and Adam: all in the lecture's own formulas, all from the same start. Comparing optimizers is fair only if each
has the learning rate that suits it; so each one's is chosen first, on held-out training images.

Half a minute: ``python demos/13_digits.py``
"""

import numpy as np
from lab import Data, digits, options, panels, save, table
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import microgradopt as mg
from microgradopt import Objective, nn, optim, plots
from microgradopt.training import evaluate, fit

# sphinx_gallery_thumbnail_path = "results/13_digits_thumbnail.png"
run = options(__doc__)
epochs, rates = (6, (0.003, 0.03, 0.3)) if run.quick else (40, (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0))
batch_size = 32

# %%
# The five
# --------
#
# Each as the lecture writes it. ``SGD`` without momentum is plain gradient descent.

makers = {
    "SGD": optim.SGD,
    "Momentum": optim.Momentum,
    "RMS": optim.RMS,
    "RMSProp": lambda params, lr: optim.RMSprop(params, lr, start="gradient"),
    "Adam": optim.Adam,
}

# %%
# Training
# --------
#
# The same seed gives every optimizer the same initial weights and the same batches in the same order.

train, test = digits(run.seed)
bar = tqdm(total=len(makers) * (len(rates) + 1) * epochs, unit="epoch", disable=None)


def trained(name, lr, data, held):
    """The history of a run, and loss and accuracy on both sets after every epoch."""
    model = nn.MLP((64, 32, 10), nn.Tanh, rng=run.seed)
    by_epoch = []

    def on_epoch(epoch, history):
        by_epoch.append([evaluate(model, nn.cross_entropy, *part) for part in (data, held)])
        bar.set_postfix_str(f"{name}, lr {lr:g}: loss {by_epoch[-1][0].loss:.4f}")
        bar.update()

    optimizer = makers[name](model.parameters(), lr=lr)
    history = fit(
        model, nn.cross_entropy, optimizer, *data, epochs, batch_size, rng=run.seed + 1, on_epoch=on_epoch,
        compile=mg.compile,
    )  # fmt: skip
    whole = Objective.of(model, lambda: nn.cross_entropy(model(data.X), data.y))
    return history, by_epoch, float(np.linalg.norm(whole.gradient()))


# %%
# To each its own learning rate: the one with the lowest loss, after as many epochs, on a fifth of the training images
# that is held out.

X, X_held, y, y_held = train_test_split(*train, test_size=0.2, random_state=run.seed, stratify=train.y)
chosen, runs = {}, {}
for name in makers:
    held_losses = {lr: trained(name, lr, Data(X, y), Data(X_held, y_held))[1][-1][1].loss for lr in rates}
    chosen[name] = min(held_losses, key=held_losses.__getitem__)
    runs[name] = trained(name, chosen[name], train, test)
bar.close()

print(f"{len(train.X)} training images, {len(test.X)} test images; {epochs} epochs, batches of {batch_size};")
print(f"lr: the best of {', '.join(f'{rate:g}' for rate in rates)} on a held-out fifth of the training images\n")
table(
    ["", "lr", "training loss", "test loss", "training accuracy", "test accuracy", "gradient norm", "µs per update"],
    [
        (
            name,
            chosen[name],
            ends[-1][0].loss,
            ends[-1][1].loss,
            f"{ends[-1][0].accuracy:.2%}",
            f"{ends[-1][1].accuracy:.2%}",
            norm,
            round(np.median(history.seconds) * 1e6),
        )
        for name, (history, ends, norm) in runs.items()
    ],
    digits=3,
)

# %%
# What to notice
# --------------

accuracies = [ends[-1][1].accuracy for _, ends, _ in runs.values()]
smallest, largest = min(chosen, key=chosen.get), max(chosen, key=chosen.get)
print(f"The learning rates differ {chosen[largest] / chosen[smallest]:.0f}-fold: {largest} wants {chosen[largest]:g},")
print(f"{smallest} {chosen[smallest]:g}. Dividing by σ changes the units of η; one η for all would be no comparison.")
print(
    f"On the test set the five end within {np.ptp(accuracies):.1%} of each other; one image is {1 / len(test.X):.1%}."
)


def largest_rise(ends):
    """The largest factor by which the training loss rose from one epoch to the next, and the epoch it rose in."""
    losses = np.array([at_train.loss for at_train, _ in ends])
    factors = losses[1:] / losses[:-1]
    return float(factors.max()), int(factors.argmax()) + 2


rises = {name: largest_rise(ends) for name, (_, ends, _) in runs.items()}
bursting = max(rises, key=rises.get)
print(
    f"{bursting} has the largest burst: in epoch {rises[bursting][1]} its loss rises {rises[bursting][0]:.1f}-fold.\n"
)

figure, axes = panels(1, 3, width=4.6, height=4.4)
for name, (history, ends, _) in runs.items():
    at = np.arange(1, epochs + 1)
    style = {"label": f"{name}, η = {chosen[name]:g}", "color": plots.optimizer_colour(name)}
    axes[0].semilogy(at, [at_train.loss for at_train, _ in ends], **style)
    axes[1].semilogy(at, np.array(history.gradient_norm).reshape(epochs, -1).mean(axis=1), **style)
    axes[2].plot(at, [100 * at_test.accuracy for _, at_test in ends], **style)
axes[0].set_title("Loss on the training set")
axes[1].set_title("Gradient norm of a batch, mean over the epoch")
axes[2].set_title("Accuracy on the test set, %")
axes[2].set_ylim(90, 100)
for ax in axes:
    ax.set_xlabel("epoch")
    ax.grid(alpha=0.3)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(runs))
save(figure, run.out / "13_digits.png", thumbnail=axes[0])
