"""
Model bias or optimization? Ask a smaller network (lecture L17)
===============================================================

The training loss is large. Is the model too small, or was a good θ not found? A deeper network can copy a smaller one
and hand the rest on, so its loss need not be larger. Where it is larger, optimization has failed.
``critical.compare`` says which, and makes that copy.

Half a minute: ``python demos/19_bias_or_optimization.py``
"""

import numpy as np
from lab import digits, options, panels, save, table

import microgradopt as mg
from microgradopt import critical, nn, optim, plots
from microgradopt.training import Run, fit

# sphinx_gallery_thumbnail_path = "results/19_bias_or_optimization_thumbnail.png"
run = options(__doc__)
depths = (1, 6) if run.quick else tuple(range(1, 9))
seeds, epochs, images = (1, 10, 400) if run.quick else (3, 20, 1257)
train, _ = digits(run.seed, train=images)

# %%
# Depth and training loss
# -----------------------
#
# One to eight hidden layers of 32 ReLUs on digits, SGD with η = 0.03 and momentum 0.9, batches of 64. Initial weights
# as PyTorch draws them for a linear layer, U(±1/√n), and He's, which keep the size of the signal through ReLUs; and
# batch normalisation.


def network(depth, seed, cure):
    """64-32-...-32-10."""
    rng, layers = np.random.default_rng(seed), []
    for fan_in in (64, *[32] * (depth - 1)):
        linear = nn.Linear(fan_in, 32, rng=rng)
        if cure == "He initialisation":
            linear.weight.data = nn.init.kaiming_normal(linear.weight.shape, rng=rng)
            linear.bias.data = np.zeros(32)
        layers += [linear, nn.BatchNorm1d(32), nn.ReLU()] if cure == "batch normalisation" else [linear, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 10, rng=rng))


def trained(depth, seed, cure="no cure"):
    """The run."""
    model = network(depth, seed, cure)
    sgd = optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    with np.errstate(over="ignore", invalid="ignore"):  # of the deepest
        return fit(model, nn.cross_entropy, sgd, *train, epochs, 64, seed, compile=mg.compile)


cures = ("no cure", "He initialisation", "batch normalisation")
runs = {
    (cure, depth): [trained(depth, run.seed + seed, cure) for seed in range(seeds)]
    for cure in cures
    for depth in depths
}
losses = {key: np.array([found.value() for found in several]) for key, several in runs.items()}
table(
    ["hidden layers", *(f"training loss, {cure}" for cure in cures)],
    [(depth, *(np.median(losses[cure, depth]) for cure in cures)) for depth in depths],
)

# %%
# What the comparison says
# ------------------------
#
# The deepest net against the shallowest one, without a cure, and with each.

verdicts = {}
for cure in cures:
    verdicts[cure] = critical.compare(runs[cure, depths[0]], runs[cure, depths[-1]])
    print(f"{depths[0]} and {depths[-1]} hidden layers, {cure}: {verdicts[cure]}\n")

# %%
# And a model that is too small
# -----------------------------
#
# Two hidden units, against 32.


def narrow(width):
    """64-width-10, trained by Adam."""
    model = nn.MLP((64, width, 10), nn.Tanh, rng=run.seed)
    adam = optim.Adam(model.parameters(), lr=0.01)
    return fit(model, nn.cross_entropy, adam, *train, epochs, 64, run.seed, compile=mg.compile)


bias = critical.compare(narrow(2), narrow(32))
print(f"2 and 32 hidden units: {bias}\n")

# %%
# From the copy
# -------------
#
# The deep network with the function of the shallow one in its first layer: it begins at the shallow one's loss, and
# goes on down. The θ was there all the time.

stuck, found = runs["no cure", depths[-1]][0], verdicts["no cure"]
stuck.objective.theta = found.theta
print(
    f"the copy in the deep network: loss {stuck.objective.value():.6f}; the best shallow one: {min(found.smaller):.6f}"
)
copied = Run(stuck.model, nn.cross_entropy, optim.SGD(stuck.model.parameters(), lr=0.01), *train, 64, rng=run.seed)
copied.train(epochs * -(-images // 64))
print(f"trained on for {epochs} epochs: {copied.value():.6f}\n")

# %%
# Loss by depth
# -------------

figure, axes = panels(1, 2)
for cure in cures:
    values = np.array([losses[cure, depth] for depth in depths])
    axes[0].semilogy(depths, np.median(values, axis=1), "o-", label=cure)
    axes[0].fill_between(depths, values.min(axis=1), values.max(axis=1), alpha=0.2)
axes[0].set(xlabel="hidden layers", ylabel=f"training loss after {epochs} epochs", title="Deeper is not lower")
lengths = {"shallow": runs["no cure", depths[0]][0], "deep": stuck, "deep, from the copy of the shallow": copied}
for name, one in lengths.items():
    axes[1].semilogy(np.arange(epochs) + 0.5, np.reshape(one.loss, (epochs, -1)).mean(axis=1), label=name)
axes[1].set(xlabel="epoch", ylabel="mean loss of its batches", title=f"{depths[-1]} hidden layers, from two starts")
for ax in axes:
    plots.legend_below(ax, 3)
save(figure, run.out / "19_bias_or_optimization.png", thumbnail=axes[0])
