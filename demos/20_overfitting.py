"""
Overfitting or mismatch? And where each remedy acts (lecture L18)
=================================================================

The training loss is small, the loss on other data large. If the other data are of the same kind, it is overfitting, and
the lecture's remedies help: more data, augmentation, fewer parameters, early stopping, regularisation, dropout. If they
are of another kind, it is mismatch, and more data of the old kind do not help.

A minute: ``python demos/20_overfitting.py``
"""

import numpy as np
from lab import Data, digits, options, panels, save, table

import microgradopt as mg
from microgradopt import critical, nn, optim, plots
from microgradopt.training import evaluate, fit

# sphinx_gallery_thumbnail_path = "results/20_overfitting_thumbnail.png"
run = options(__doc__)
seeds, epochs = (1, 40) if run.quick else (10, 300)
few, many = 60, 200 if run.quick else 1257

# %%
# Few images
# ----------
#
# A net 64-128-128-10 with 26,122 parameters and 60 training images, Adam with η = 0.003. Its validation loss is that on
# 540 other images.


def network(seed, widths=(128, 128), dropout=0.0):
    """An MLP with dropout behind each activation."""
    rng, layers, fan_in = np.random.default_rng(seed), [], 64
    for width in widths:
        layers += [nn.Linear(fan_in, width, rng=rng), nn.ReLU()] + [nn.Dropout(dropout, rng=rng)] * (dropout > 0)
        fan_in = width
    return nn.Sequential(*layers, nn.Linear(fan_in, 10, rng=rng))


def trained(seed, images=few, model=None, decay=0.0, patience=None, change=lambda data: data):
    """A run, and its evaluation on data to validate with."""
    train, validation = digits(run.seed + seed, train=many)
    train = change(Data(train.X[:images], train.y[:images]))
    model = network(seed) if model is None else model(seed)
    adam = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=decay)
    passes = -(-epochs * few // len(train.X))  # as many updates with any number of images
    found = fit(
        model, nn.cross_entropy, adam, *train, passes, 20, seed, validation=validation, patience=patience,
        compile=mg.compile,
    )  # fmt: skip
    return found, evaluate(model, nn.cross_entropy, *validation)


def shifted(data):
    """Every image, and four more: by a pixel to each side."""
    images = data.X.reshape(-1, 8, 8)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    moved = [padded[:, 1 + i : 9 + i, 1 + j : 9 + j] for i, j in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
    return Data(np.concatenate(moved).reshape(-1, 64), np.tile(data.y, 5))


remedies = {
    "none": {},
    f"more data: {many:,} images": {"images": many},
    "augmentation: shifts by a pixel": {"change": shifted},
    "fewer parameters: 64-8-10": {"model": lambda seed: network(seed, (8,))},
    "early stopping": {"patience": 10},
    "weight decay 1": {"decay": 1.0},
    "dropout 0.5": {"model": lambda seed: network(seed, dropout=0.5)},
}
results = {name: [trained(seed, **settings) for seed in range(seeds)] for name, settings in remedies.items()}


def medians(found):
    """Training loss, validation loss and accuracy, and updates, over the seeds."""
    rows = [(one.value(), on.loss, on.accuracy, len(one)) for one, on in found]
    return np.median(rows, axis=0)


summary = {name: medians(found) for name, found in results.items()}
print(f"medians of {seeds} seeds:")
table(
    ["remedy", "training loss", "validation loss", "validation accuracy", "updates"],
    [(name, train, loss, f"{right:.1%}", int(count)) for name, (train, loss, right, count) in summary.items()],
)

# %%
# What the diagnosis says
# -----------------------

overfitted = results["none"][0][0]
print(f"without a remedy, one seed: {critical.diagnose(overfitted, budget=0)}\n")

# %%
# Mismatch
# --------
#
# The same networks, asked about images of another kind: dark on bright, or turned by a quarter. More of the old images
# do not help; images of the new kind in training do.


def dark_on_bright(data):
    """1 − x."""
    return Data(1 - data.X, data.y)


def turned(data):
    """By 90 degrees."""
    return Data(np.rot90(data.X.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64), data.y)


def both(data):
    """Images of the old and of the new kind."""
    return Data(*(np.concatenate(pair) for pair in zip(data, turned(data), strict=True)))


def elsewhere(found, change):
    """The median accuracy on changed images."""
    return np.median(
        [evaluate(one.model, nn.cross_entropy, *change(Data(*one.validation))).accuracy for one, _ in found]
    )


mixed = [trained(seed, many, change=both) for seed in range(seeds)]
rows = [
    (f"{few} images", results["none"]),
    (f"{many:,} images", results[f"more data: {many:,} images"]),
    (f"{many:,} images, and {many:,} that are turned", mixed),
]
mismatch = {
    name: [summary_accuracy, elsewhere(found, turned), elsewhere(found, dark_on_bright)]
    for name, found in rows
    for summary_accuracy in [medians(found)[2]]
}
table(
    ["trained on", "accuracy on other images", "on turned ones", "dark on bright"],
    [(name, *(f"{right:.1%}" for right in values)) for name, values in mismatch.items()],
)

# %%
# Curves
# ------

figure, axes = panels(1, 3)
many_images = f"more data: {many:,} images"
for ax, name in zip(axes, ("none", "early stopping", many_images), strict=True):
    plots.history(results[name][0][0], ax)
    ax.set(ylim=(1e-5, 10), title=f"Remedy: {name}")
save(figure, run.out / "20_overfitting.png", thumbnail=axes[0])
