"""
Batch normalisation: hidden layers with features of one scale (lecture L16)
===========================================================================

What standardising does for the inputs, batch normalisation does for the inputs of every layer, with the mean and the
deviation of the batch. A deep net of sigmoids that does not train at all then trains, and larger learning rates become
possible. What it costs: the outputs for one sample depend on the batch, so a batch of one is refused, and in evaluation
running averages take the batch's place.

Half a minute: ``python demos/18_batch_norm.py``
"""

import numpy as np
from lab import digits, options, panels, save, table

import microgradopt as mg
from microgradopt import NonFiniteError, Objective, curvature, nn, optim, plots
from microgradopt.training import accuracy, evaluate, fit

# sphinx_gallery_thumbnail_path = "results/18_batch_norm_thumbnail.png"
run = options(__doc__)
epochs, images = (5, 300) if run.quick else (10, 1257)
rates = (0.1, 1.0) if run.quick else (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
train, test = digits(run.seed, train=images)

# %%
# The formula
# -----------
#
# z̃ = (z − μ)/σ with mean and deviation of the batch, then ẑ = γ ⊙ z̃ + β, where γ starts at 1 and β at 0. Meanwhile the
# running averages follow: μ̄ ← p μ̄ + (1 − p) μ. In evaluation they take the place of μ and σ.

layer = nn.BatchNorm1d(2, eps=0.0)
z = np.random.default_rng(run.seed).normal([5.0, -100.0], [2.0, 50.0], size=(500, 2))
standard = layer(z).data
print(f"in training: mean {standard.mean(0).round(3) + 0.0}, standard deviation {standard.std(0).round(3)}")
print(
    f"running mean after one batch, {1 - layer.momentum:.1f} · 0 + {layer.momentum} · μ: {layer.running_mean.round(3)}"
)
for _ in range(99):
    layer(z)
print(f"after a hundred {layer.running_mean.round(3)}, of the data {z.mean(0).round(3)}")
try:
    layer(z[:1])
except ValueError as error:
    print(f"a batch of one: {error}")
print(f"in evaluation one sample will do: {layer.eval()(z[:1]).data.round(3)}\n")

# %%
# Which learning rates train
# --------------------------
#
# Four hidden layers of 32 units on digits, SGD, batches of 64. Without normalisation, with it before each activation,
# and after it.


def network(where, activation):
    """64-32-32-32-32-10."""
    rng, layers = np.random.default_rng(run.seed), []
    for fan_in in (64, 32, 32, 32):
        norm = nn.BatchNorm1d(32)
        linear, active = nn.Linear(fan_in, 32, rng=rng), activation()
        layers += {"without": [linear, active], "before": [linear, norm, active], "after": [linear, active, norm]}[
            where
        ]
    return nn.Sequential(*layers, nn.Linear(32, 10, rng=rng))


def trained(model, lr):
    """The run; None where the loss stopped being finite."""
    sgd = optim.SGD(model.parameters(), lr=lr)
    try:
        with np.errstate(all="ignore"):
            return fit(model, nn.cross_entropy, sgd, *train, epochs, 64, run.seed, compile=mg.compile)
    except NonFiniteError:
        return None


def sharpness(model):
    """λ_max of the loss on all training data."""
    loss = Objective.of(model, lambda: nn.cross_entropy(model(train.X), train.y))
    return curvature.sharpness(curvature.HessianOperator(loss)).value


places, activations = ("without", "before", "after"), (nn.Tanh, nn.Sigmoid)
losses, ends, at_start = {}, {}, {}
for activation in activations:
    for where in places:
        key = activation.__name__, where
        at_start[key] = sharpness(network(where, activation))
        for lr in rates:
            model = network(where, activation)
            found = trained(model, lr)
            losses[*key, lr] = np.inf if found is None else min(found.value(), np.inf)
            ends[*key, lr] = None if found is None else model

best = {key: min(rates, key=lambda lr, key=key: losses[*key, lr]) for key in at_start}
trains = {key: [lr for lr in rates if losses[*key, lr] < 1.0] for key in at_start}
table(
    ["activation", "normalisation", "λ_max at the start", "η with a loss below 1", "best η", "training loss with it",
     "λ_max after that training", "test accuracy"],
    [
        (
            *key,
            at_start[key],
            f"{min(trains[key])} to {max(trains[key])}" if trains[key] else "none",
            best[key],
            losses[*key, best[key]],
            sharpness(ends[*key, best[key]]),
            f"{evaluate(ends[*key, best[key]], nn.cross_entropy, *test).accuracy:.1%}",
        )
        for key in at_start
    ],
)  # fmt: skip
print("λ_max at the start is larger with normalisation, not smaller: without it the signal dies on its way through the")
print("layers, and the loss hardly depends on the weights. Yet learning rates of a wider range train.\n")

# %%
# Training and evaluation differ
# ------------------------------
#
# The same trained network, tested in batches: with the statistics of the test batch, and with the running averages.

model = ends["Tanh", "before", best["Tanh", "before"]]
averaged = accuracy(model.eval()(test.X), test.y)
rows = []
for size in (2, 4, 16, 64):
    model.train()
    scores = np.concatenate([model(test.X[i : i + size]).data for i in range(0, len(test.X) - size + 1, size)])
    rows.append((size, accuracy(scores, test.y[: len(scores)])))
model.eval()
table(
    ["batch size in the test", "accuracy with mean and variance of the test batch", "with running averages"],
    [(size, f"{right:.1%}", f"{averaged:.1%}") for size, right in rows],
)

# %%
# Loss against learning rate
# --------------------------

figure, axes = panels(1, 2)
for ax, activation in zip(axes, activations, strict=True):
    for where in places:
        values = [losses[activation.__name__, where, lr] for lr in rates]
        ax.loglog(
            rates,
            np.minimum(values, 10),
            "o-",
            label=f"{where} normalisation" if where == "without" else f"{where} the activation",
        )
    ax.axhline(np.log(10), color="black", linewidth=0.6, linestyle=":")
    ax.set(xlabel="learning rate η", ylabel=f"training loss after {epochs} epochs", ylim=(None, 12))
    ax.set_title(f"{activation.__name__}; dotted: ln 10, nothing learnt")
for ax in axes:
    plots.legend_below(ax, 3)
save(figure, run.out / "18_batch_norm.png", thumbnail=axes[0])
