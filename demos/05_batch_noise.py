"""
Small batches: do they train and generalise better? (lecture L5)
================================================================

The lecture's claim: noise helps. Small batches end with better accuracy in training and in the test, and in flatter
places. Whether that shows depends on what is held equal: the number of epochs, the number of updates, or the training
loss that is reached. All three are measured here.

A minute and a half: ``python demos/05_batch_noise.py``
"""

from math import comb

import numpy as np
from lab import digits, options, panels, save, study, table

from microgradopt import curvature, nn, optim, plots
from microgradopt.training import ManyRuns, Run, evaluate

# sphinx_gallery_thumbnail_path = "results/05_batch_noise_thumbnail.png"
run = options(__doc__)
sizes = (8, 128, 1257) if run.quick else (2, 8, 32, 128, 1257)
seeds, epochs, updates, most = (2, 4, 100, 300) if run.quick else (20, 20, 1_500, 12_000)

# %%
# The same net, the same learning rate
# ------------------------------------
#
# 64-32-10 on digits, SGD with η = 0.05, 1,257 images to train and 540 to test. Stopped after as many epochs; after as
# many updates; or as soon as the training loss, looked at every 20 updates, is down to 0.1. λ_max, the sharpness, is
# that of the loss on all training images where training ended.
#
# Each seed has a network, a split into training and test, and an order of the batches of its own. All seeds are trained
# at once (`training.ManyRuns`): an update of all of them is one computation. One by one, six seeds took 115 s of one
# processor; at once 34 s, with the same digits. What is saved goes into more seeds, 20.


def trained(batch, first, seeds, stop, amount):
    """Train until `amount` epochs or updates, or a training loss of 0.1 within so many updates. What came out."""
    data = [digits(seed) for seed in range(first, first + seeds)]
    models = [nn.MLP((64, 32, 10), nn.Tanh, rng=seed) for seed in range(first, first + seeds)]
    runs = [
        Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.05), *train, batch, rng=first + i)
        for i, (model, (train, _)) in enumerate(zip(models, data, strict=True))
    ]
    many = ManyRuns(runs)
    if stop == "loss":
        for _ in range(0, amount, 20):
            many.train(20)
            for each in runs:
                each.stopped = each.stopped or ("there" if each.objective.value() <= 0.1 else "")
            if all(each.stopped for each in runs):
                break
    else:
        many.train(amount * runs[0].in_an_epoch if stop == "epochs" else amount)
    at_train, at_test = (
        [evaluate(model, nn.cross_entropy, *part) for model, part in zip(models, parts, strict=True)]
        for parts in zip(*data, strict=True)
    )
    return {
        "updates": [len(each) for each in runs],
        "train_loss": [found.loss for found in at_train],
        "train_accuracy": [found.accuracy for found in at_train],
        "test_loss": [found.loss for found in at_test],
        "test_accuracy": [found.accuracy for found in at_test],
        "sharpness": [curvature.sharpness(curvature.HessianOperator(each.objective)).value for each in runs],
    }


stops = {"epochs": epochs, "updates": updates, "loss": most}
cases = [
    {"batch": batch, "first": run.seed, "seeds": seeds, "stop": stop, "amount": amount}
    for stop, amount in stops.items()
    for batch in sizes
]
results = study(trained, cases, run.out / "05_batch_noise.jsonl", 1 if run.quick else run.jobs)


def over_seeds(stop, batch, key):
    """That number in all runs."""
    (found,) = (r[key] for r in results if r["stop"] == stop and r["batch"] == batch)
    return np.array(found)


# %%
# What came out
# -------------
#
# Medians over the seeds, and in brackets the interval that holds the true median in at least 95% of such studies. Each
# value lies above the true median with probability 1/2, so the interval from the k-th lowest to the k-th highest misses
# it with probability 2 P(fewer than k of n are above): for 20 seeds k is 6.


def median_interval(values):
    """Median, and the interval that holds the true one with probability 95% or more; of fewer than 6 values, all."""
    values, n = np.sort(values, axis=-1), np.shape(values)[-1]
    missed = 2 * np.cumsum([comb(n, k) for k in range(n)]) / 2**n  # by the (k + 1)-th lowest and highest
    k = max(0, np.searchsorted(missed, 0.05, side="right") - 1)
    return np.median(values, axis=-1), values[..., k], values[..., n - 1 - k]


def spread(values, form):
    """Median (interval)."""
    return "{0:{form}} ({1:{form}} to {2:{form}})".format(*median_interval(values), form=form)


titles = {
    "epochs": f"equal epochs: {epochs}",
    "updates": f"equal updates: {updates}",
    "loss": f"equal training loss: 0.1 (at most {most:,} updates)",
}
for stop, title in titles.items():
    print(title)
    table(
        ["batch", "updates", "training loss", "test accuracy", "sharpness λ_max"],
        [
            (
                batch,
                int(np.median(over_seeds(stop, batch, "updates"))),
                spread(over_seeds(stop, batch, "train_loss"), ".3f"),
                spread(over_seeds(stop, batch, "test_accuracy"), ".1%"),
                spread(over_seeds(stop, batch, "sharpness"), ".2f"),
            )
            for batch in sizes
        ],
    )

gaps = {}
for stop in stops:  # the same data and the same first weights: seed by seed
    gap = over_seeds(stop, sizes[0], "test_accuracy") - over_seeds(stop, sizes[-1], "test_accuracy")
    gaps[stop] = float(np.median(gap))
    print(f"test accuracy, batch {sizes[0]} minus all data, at equal {stop}, in points: {spread(100 * gap, '+.1f')}")
print(
    "published, for large nets (Keskar et al. 2017, table 2: batch 256 minus a tenth of the data), in points:\n"
    "F1 +0.22, F2 +4.57, C1 +2.78, C2 +1.98, C3 +3.13, C4 +5.27\n"
)

figure, axes = panels(2, 3, width=4.2, height=3.5)
for column, (stop, title) in enumerate(titles.items()):
    for row, (keys, label) in enumerate(
        [(("train_accuracy", "test_accuracy"), "accuracy"), (("sharpness",), "sharpness λ_max")]
    ):
        ax = axes[row, column]
        for key in keys:
            values = np.array([over_seeds(stop, batch, key) for batch in sizes])
            middle, low, high = median_interval(values)
            ax.plot(sizes, middle, "o-", label=key.replace("_", " "))
            ax.fill_between(sizes, low, high, alpha=0.2)
        ax.set_xscale("log")
        ax.set_xlabel("batch size")
        ax.set_ylabel(label)
        ax.set_title(title, fontsize="medium")
    plots.legend_below(axes[0, column], columns=2)
save(figure, run.out / "05_batch_noise.png", thumbnail=axes[1, 0])
