"""
The loss changes the terrain: cross-entropy and squared error (lecture L14)
===========================================================================

A classifier ends in softmax. Behind it, squared error is flat where the answer is far wrong: the gradient is as good as
0 there, and training does not begin. Cross-entropy is steep at the same place. Same network, same data, another
surface.

Ten seconds: ``python demos/16_classification.py``
"""

import numpy as np
from lab import digits, options, panels, save, table

import microgradopt as mg
from microgradopt import Objective, critical, nn, optim, plots
from microgradopt.training import accuracy, fit, trajectory

# sphinx_gallery_thumbnail_path = "results/16_classification_thumbnail.png"
run = options(__doc__)
updates, epochs = (100, 20) if run.quick else (1_000, 10)

# %%
# Three logits
# ------------
#
# The lecture's example: three classes, the true one is the first. The third logit is fixed at −1000, so its class is
# out of the question; the first two go from −10 to 10. At (−10, 10) the network is sure, and wrong.

target = np.array([1.0, 0.0, 0.0])


def logits(z):
    """(z₁, z₂, −1000)."""
    return np.concatenate([z, [-1000.0]]).reshape(1, 3)


def cross_entropy(z):
    """−ln softmax(z)₁."""
    return nn.cross_entropy(logits(z), np.array([0]))


def squared_error(z):
    """Mean of (softmax(z) − target)², as ``nn.mse_loss`` and PyTorch's have it."""
    return nn.mse_loss(nn.functional.softmax(logits(z)), target.reshape(1, 3))


start = np.array([-10.0, 10.0])
losses = {"cross-entropy": Objective(cross_entropy, start), "squared error": Objective(squared_error, start)}
norms = {name: float(np.linalg.norm(loss.gradient(start))) for name, loss in losses.items()}
table(
    ["loss", "at (−10, 10)", "gradient norm there"],
    [(name, loss.value(start), norms[name]) for name, loss in losses.items()],
)

# %%
# A run from the corner
# ---------------------
#
# Gradient descent with η = 1. On the surface of the squared error it would need as many updates as it takes to move by
# 10 in steps of 4e-9.

paths = {
    name: trajectory(loss, optim.SGD(loss.parameters, lr=1.0), updates) for name, loss in losses.items()
}  # each on its own surface
table(
    ["loss", f"z after {updates:,} updates", "probability of the true class"],
    [
        (name, np.array2string(way[-1], precision=4), 1 / (1 + np.exp(way[-1][1] - way[-1][0])))
        for name, way in paths.items()
    ],
)
flat = critical.classify(losses["squared error"], start)
print(
    f"Squared error at the start: {flat.kind}. The gradient is small ({norms['squared error']:.1g}), but it is not 0.\n"
)

# %%
# On digits, from a far start
# ---------------------------
#
# A net 64-32-10 whose last bias is wrong by 30 for every image: it begins sure of class 0. (Such starts are made by a
# last layer that is too large.) Both losses, SGD with η = 0.5, batches of 32.

train, test = digits(run.seed, train=200 if run.quick else 1257)


def from_afar(loss, labels):
    """Train from a far start. The run, and the accuracy in the test."""
    model = nn.MLP((64, 32, 10), nn.Tanh, rng=run.seed)
    model[2].bias.data = model[2].bias.data + 30 * (np.arange(10) == 0)
    found = fit(
        model, loss, optim.SGD(model.parameters(), lr=0.5), train.X, labels, epochs, 32, run.seed, compile=mg.compile
    )
    return found, accuracy(model(test.X), test.y)


def behind_softmax(scores, labels):
    """Squared error behind softmax."""
    return nn.mse_loss(nn.functional.softmax(scores), labels)


runs = {
    "cross-entropy": from_afar(nn.cross_entropy, train.y),
    "squared error": from_afar(behind_softmax, np.eye(10)[train.y]),
}
table(
    ["loss", "gradient norm, first batch", "loss, first batch", "training loss at the end", "test accuracy"],
    [(name, r.gradient_norm[0], r.loss[0], r.value(), f"{right:.1%}") for name, (r, right) in runs.items()],
)

# %%
# Both surfaces
# -------------

figure, axes = panels(1, 3)
for ax, (name, loss) in zip(axes, losses.items(), strict=False):
    levels = np.linspace(0, 1.001 * loss.value(start), 24)  # alike, so that colours show how steep it is
    plots.surface(loss, extent=(-11, 11, -11, 11), resolution=61, levels=levels, ax=ax)
    plots.trajectories({"gradient descent, η = 1": paths[name]}, ax)
    ax.set(xlabel="$z_1$, of the true class", ylabel="$z_2$", title=f"{name}: ‖g‖ = {norms[name]:.2g} at the start")
    ax.legend(fontsize="small", loc="lower right")
for name, (found, _) in runs.items():
    axes[2].semilogy(found.gradient_norm, linewidth=0.8, label=name)
axes[2].set(xlabel="update", title="Digits from a far start: gradient norm")
axes[2].legend(fontsize="small")
save(figure, run.out / "16_classification.png", thumbnail=axes[1])
