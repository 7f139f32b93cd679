"""
Small batches: do they train and generalise better? (lecture L5)
================================================================

The lecture's claim: noise helps. Small batches end with better accuracy in training and in the test, and in flatter
places. Whether that shows depends on what is held equal: the number of epochs, the number of updates, or the training
loss that is reached. All three are measured here.

Two minutes: ``python demos/05_batch_noise.py``
"""

import numpy as np
from lab import digits, options, panels, save, study, table

import microgradopt as mg
from microgradopt import Objective, curvature, nn, optim, plots
from microgradopt.training import batches, evaluate, fit

# sphinx_gallery_thumbnail_path = "results/05_batch_noise_thumbnail.png"
run = options(__doc__)
sizes = (8, 128, 1257) if run.quick else (2, 8, 32, 128, 1257)
seeds, epochs, updates, most = (2, 4, 100, 300) if run.quick else (6, 20, 1_500, 12_000)

# %%
# The same net, the same learning rate
# ------------------------------------
#
# 64-32-10 on digits, SGD with η = 0.05, 1,257 images to train and 540 to test. Stopped after as many epochs; after as
# many updates; or as soon as the training loss, looked at every 20 updates, is down to 0.1. λ_max, the sharpness, is
# that of the loss on all training images where training ended.


def trained(batch, seed, stop, amount):
    """Train until `amount` epochs or updates, or a training loss of 0.1 within so many updates. What came out."""
    train, test = digits(seed)
    model = nn.MLP((64, 32, 10), nn.Tanh, rng=seed)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    whole = Objective.of(model, lambda: nn.cross_entropy(model(train.X), train.y), compile=mg.compile)
    per_epoch = -(-len(train.X) // batch)
    limit = amount * per_epoch if stop == "epochs" else amount
    rng, done, reached = np.random.default_rng(seed), 0, False
    while done < limit and not reached:
        for X, y in batches(*train, batch, rng):
            fit(model, nn.cross_entropy, optimizer, X, y, 1, compile=None)
            done += 1
            reached = stop == "loss" and done % 20 == 0 and whole.value() <= 0.1
            if done == limit or reached:
                break
    at_train, at_test = (evaluate(model, nn.cross_entropy, *data) for data in (train, test))
    return {
        "updates": done,
        "train_loss": at_train.loss,
        "train_accuracy": at_train.accuracy,
        "test_loss": at_test.loss,
        "test_accuracy": at_test.accuracy,
        "sharpness": curvature.sharpness(curvature.HessianOperator(whole)).value,
    }


stops = {"epochs": epochs, "updates": updates, "loss": most}
cases = [
    {"batch": batch, "seed": run.seed + seed, "stop": stop, "amount": amount}
    for stop, amount in stops.items()
    for batch in sizes
    for seed in range(seeds)
]
results = study(trained, cases, run.out / "05_batch_noise.jsonl", 1 if run.quick else run.jobs)


def over_seeds(stop, batch, key):
    """That number in all runs."""
    return np.array([r[key] for r in results if r["stop"] == stop and r["batch"] == batch])


# %%
# What came out
# -------------
#
# Medians over the seeds, and in brackets the least and the greatest.


def spread(values, form):
    """Median (least to greatest)."""
    return f"{np.median(values):{form}} ({values.min():{form}} to {values.max():{form}})"


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

gaps = {
    stop: float(
        np.median(over_seeds(stop, sizes[0], "test_accuracy")) - np.median(over_seeds(stop, sizes[-1], "test_accuracy"))
    )
    for stop in stops
}
for stop, gap in gaps.items():
    print(f"test accuracy, batch {sizes[0]} minus all data, at equal {stop}: {100 * gap:+.1f} points")
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
            ax.plot(sizes, np.median(values, axis=1), "o-", label=key.replace("_", " "))
            ax.fill_between(sizes, values.min(axis=1), values.max(axis=1), alpha=0.2)
        ax.set_xscale("log")
        ax.set_xlabel("batch size")
        ax.set_ylabel(label)
        ax.set_title(title, fontsize="medium")
    plots.legend_below(axes[0, column], columns=2)
save(figure, run.out / "05_batch_noise.png", thumbnail=axes[1, 0])
