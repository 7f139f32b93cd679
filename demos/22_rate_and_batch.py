"""
Learning rate and batch size, with the reason in each cell
==========================================================

The same network on the same digits, with six learning rates and three batch sizes. Each cell of the map is one
training; its number is the training loss in the end, its colour what the diagnosis says of it: too small a rate, too
large a rate, noise of the batches, or healthy.

Two minutes: ``python demos/22_rate_and_batch.py``
"""

import time

import numpy as np
from lab import digits, options, panels, save, table
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from microgradopt import critical, nn, optim, training

# sphinx_gallery_thumbnail_path = "results/22_rate_and_batch_thumbnail.png"
run = options(__doc__)
samples, seen = (100, 2_000) if run.quick else (500, 100_000)
rates = (1e-3, 0.3) if run.quick else (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
sizes = (10, 100) if run.quick else (10, 50, 500)

# %%
# All rates at once
# -----------------
#
# A net 64-32-10 of tanh units, gradient descent with momentum 0.9. Each training sees the same number of samples:
# smaller batches make more updates. The trainings of one batch size go together (`training.fit_many`).

train, _ = digits(run.seed, samples)


def trained(size):
    """One training for each rate."""
    models = [nn.MLP((64, 32, 10), nn.Tanh, rng=run.seed) for _ in rates]
    optimizers = [optim.SGD(m.parameters(), lr=lr, momentum=0.9) for m, lr in zip(models, rates, strict=True)]
    epochs = seen // samples
    return training.fit_many(models, nn.cross_entropy, optimizers, train.X, train.y, epochs, size, rng=run.seed)


started = time.perf_counter()
runs = {size: trained(size) for size in sizes}
seconds = time.perf_counter() - started
updates = sum(len(each) for of_size in runs.values() for each in of_size)
print(f"{len(sizes) * len(rates)} trainings, {updates:,} updates in {seconds:.0f} s\n")

# %%
# Why does each stand where it stands?
# ------------------------------------
#
# The diagnosis tries its answers on copies of the run.

causes, losses = {}, {}
for size, of_size in runs.items():
    for lr, each in zip(rates, of_size, strict=True):
        with np.errstate(all="ignore"):
            causes[size, lr] = critical.diagnose(each).verdict
            losses[size, lr] = each.value()
table(
    ["batch size", *(f"η = {lr:g}" for lr in rates)],
    [(size, *(f"{losses[size, lr]:.2g}, {causes[size, lr]}" for lr in rates)) for size in sizes],
)

kinds = sorted(set(causes.values()))
colours = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222255", "#ddaa77", "#999933"]
cells = np.array([[kinds.index(causes[size, lr]) for lr in rates] for size in sizes])
figure, ax = panels(1, 1, 8.4, 4.4)
ax.imshow(cells, cmap=ListedColormap(colours[: len(kinds)]), vmin=-0.5, vmax=len(kinds) - 0.5, aspect="auto")
for i, size in enumerate(sizes):
    for j, lr in enumerate(rates):
        dark = kinds[cells[i, j]] in kinds[:2] or cells[i, j] in (2, 5, 7)
        ax.text(j, i, f"{losses[size, lr]:.2g}", ha="center", va="center", color="white" if dark else "black")
ax.set_xticks(range(len(rates)), [f"{lr:g}" for lr in rates])
ax.set_yticks(range(len(sizes)), sizes)
ax.set(xlabel="learning rate η", ylabel="batch size")
ax.set_title(f"Training loss after {seen:,} samples seen, and the diagnosis")
patches = [Patch(color=colour, label=kind) for colour, kind in zip(colours, kinds, strict=False)]
figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize="small")
save(figure, run.out / "22_rate_and_batch.png", thumbnail=ax)
