"""
Learning rate and batch size, with the reason in each cell
==========================================================

The same network on the same digits, with seven learning rates and four batch sizes. Each cell of the map is one
training that has seen 100,000 samples. Its number is the training loss in the end, its colour what the diagnosis says:
too small a rate, too large a rate, noise of the batches, or a training that goes well.

Half a minute: ``python demos/22_rate_and_batch.py``
"""

import time

import numpy as np
from lab import digits, options, panels, save, table
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from tqdm import tqdm

from microgradopt import critical, nn, optim, training

# sphinx_gallery_thumbnail_path = "results/22_rate_and_batch_thumbnail.png"
run = options(__doc__)
samples, seen = (100, 2_000) if run.quick else (500, 100_000)
rates = (1e-3, 0.3) if run.quick else (1e-4, 1e-3, 0.01, 0.1, 0.3, 1.0, 3.0)
sizes = (10, 100) if run.quick else (5, 20, 100, 500)

# %%
# All rates at once
# -----------------
#
# A net 64-32-10 of tanh units on 500 images, gradient descent with momentum 0.9, all from the same start. Equal is the
# number of samples seen, 200 epochs: batches of 5 make 20,000 updates of them, all images at once 200. The trainings of
# one batch size are one computation (``training.fit_many``).

train, _ = digits(run.seed, samples)


def trained(size):
    """One training for each rate."""
    models = [nn.MLP((64, 32, 10), nn.Tanh, rng=run.seed) for _ in rates]
    optimizers = [optim.SGD(m.parameters(), lr=lr, momentum=0.9) for m, lr in zip(models, rates, strict=True)]
    epochs = seen // samples
    return training.fit_many(models, nn.cross_entropy, optimizers, train.X, train.y, epochs, size, rng=run.seed)


started = time.perf_counter()
runs = {size: trained(size) for size in tqdm(sizes, disable=None)}
seconds = time.perf_counter() - started
updates = sum(len(each) for of_size in runs.values() for each in of_size)
print(f"{len(sizes) * len(rates)} trainings, {updates:,} updates in {seconds:.0f} s\n")

# %%
# Why does each stand where it stands?
# ------------------------------------
#
# The diagnosis tries its answers on copies of the run: another rate, all data at once, fresh weights. "Separable data"
# is a good end: no image is wrong any more, and the loss falls for ever, towards infinite weights.

started = time.perf_counter()
causes, losses = {}, {}
cells = [(size, lr, each) for size, of_size in runs.items() for lr, each in zip(rates, of_size, strict=True)]
for size, lr, each in tqdm(cells, disable=None):
    with np.errstate(all="ignore"):
        causes[size, lr] = critical.diagnose(each, budget=2_400).verdict
        losses[size, lr] = each.value()
print(f"{len(cells)} diagnoses in {time.perf_counter() - started:.0f} s\n")


def number(loss):
    """A loss, short."""
    return f"{loss:,.0f}" if loss >= 10 else f"{loss:.2g}"


table(
    ["batch size", *(f"η = {lr:g}" for lr in rates)],
    [(size, *(f"{number(losses[size, lr])}: {causes[size, lr]}" for lr in rates)) for size in sizes],
)

# %%
# The map
# -------
#
# The best rate grows with the batch. Below it a rate is too small for the number of updates that there are; above it
# the trainings burst, or jump about at a high loss.

kinds = {
    "learning rate too small": "#4477aa",
    "healthy": "#99ccdd",
    "separable data": "#225555",
    "noise of the batches": "#ccbb44",
    "learning rate too large": "#cc3311",
}
others = dict(
    zip(sorted(set(causes.values()) - set(kinds)), ("#aa3377", "#777777", "#997700", "#ddaa77"), strict=False)
)
colours = {kind: colour for kind, colour in (kinds | others).items() if kind in causes.values()}
order = list(colours)
figure, ax = panels(1, 1, 8.4, 4.4)
codes = np.array([[order.index(causes[size, lr]) for lr in rates] for size in sizes])
ax.imshow(codes, cmap=ListedColormap(colours.values()), vmin=-0.5, vmax=len(order) - 0.5, aspect="auto")
for i, size in enumerate(sizes):
    for j, lr in enumerate(rates):
        is_light = colours[causes[size, lr]] in ("#99ccdd", "#ccbb44")
        colour = "black" if is_light else "white"
        ax.text(j, i, number(losses[size, lr]), ha="center", va="center", color=colour, fontsize="large")
ax.set_xticks(range(len(rates)), [f"{lr:g}" for lr in rates])
ax.set_yticks(range(len(sizes)), sizes)
ax.set(xlabel="learning rate η", ylabel="batch size")
ax.set_title(f"Training loss after {seen:,} samples seen, and what the diagnosis says")
patches = [Patch(color=colour, label=kind) for kind, colour in colours.items()]
figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize="small", frameon=False)
save(figure, run.out / "22_rate_and_batch.png", thumbnail=ax)
