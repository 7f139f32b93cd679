"""
Warm-up: begin gently, while σ is still a guess (lecture L12)
=============================================================

Adam divides by σ, an average of squared gradients. At the start that average is over very few of them: after one batch
every parameter moves by exactly η, whatever its gradient was. How far the steps can be trusted grows with t. Warm-up
lets the learning rate grow along with it.

One minute: ``python demos/11_warmup.py``
"""

import numpy as np
from lab import digits, options, panels, save, study, table

from microgradopt import Objective, nn, optim, plots
from microgradopt.optim import schedules
from microgradopt.training import batches, evaluate, fit

# sphinx_gallery_thumbnail_path = "results/11_warmup_thumbnail.png"
run = options(__doc__)
epochs, seeds, draws = (2, 2, 30) if run.quick else (12, 8, 200)
train, _ = digits(run.seed)

# %%
# How uncertain is σ?
# -------------------
#
# At one place, the initial weights, Adam's v̂ is computed from t batches, drawn anew 200 times. The relative spread of
# 1/√v̂ over these draws, its standard deviation over its mean, is what each step's length is uncertain by. Median over
# the parameters; β₂ = 0.999. RAdam's theory (Liu et al. 2020, equation 2 and section 3) says it falls as t grows.

model = nn.MLP((64, 32, 10), nn.Tanh, rng=run.seed)
times = np.array([1, 2, 3, 5, 10, 20, 50])
beta = 0.999


def batch_gradient(rng):
    """The gradient of one random batch of 32 images, by the first layer's weights that see any ink."""
    chosen = rng.choice(len(train.X), 32, replace=False)
    objective = Objective.of(model, lambda: nn.cross_entropy(model(train.X[chosen]), train.y[chosen]))
    return objective.gradient()


rng = np.random.default_rng(run.seed)
inverse = np.empty((draws, len(times), sum(p.size for p in model.parameters())))
for draw in range(draws):
    squares = np.array([batch_gradient(rng) for _ in range(times[-1])]) ** 2
    for i, t in enumerate(times):
        weights = (1 - beta) * beta ** np.arange(t - 1, -1, -1) / (1 - beta**t)
        inverse[draw, i] = 1 / np.sqrt(np.maximum(weights @ squares[:t], 1e-30))
inked = np.ptp(inverse[:, 0], axis=0) > 0
inked &= inverse[:, 0].max(axis=0) < 1e12  # pixels that are white in a whole batch have no gradient at all
spread = np.median(inverse[:, :, inked].std(axis=0) / inverse[:, :, inked].mean(axis=0), axis=1)
table(["batches that v̂ was computed from", "relative spread of 1/√v̂"], list(zip(times, spread, strict=True)), digits=3)

# %%
# The first steps of Adam
# -----------------------
#
# In the first update m̂/√v̂ = ``g/|g|``: each of the parameters moves by η.

optimizer = optim.Adam(model.parameters(), lr=0.01)
before = [p.data.copy() for p in model.parameters()]
nn.cross_entropy(model(train.X[:32]), train.y[:32]).backward()
optimizer.step()
moved = np.concatenate([np.abs(p.data - b).ravel() for p, b in zip(model.parameters(), before, strict=True)])
moved = moved[moved > 0]
print(f"first step of Adam with η = 0.01: {len(moved)} parameters move by {moved.min():.4f} to {moved.max():.4f}\n")

# %%
# With and without
# ----------------
#
# Adam on digits, batches of 32, for learning rates from good to far too large, which fall to 0 along a cosine: from
# the start; after a warm-up over the first tenth of the updates; and RAdam, which holds the first steps back by its
# formula. Over seeds: the median final training loss, and the worst. If warm-up matters, the rate may be larger
# with it.


def trained(method, lr, seed, epochs):
    """The training loss, and test accuracy, at the end; and the largest loss of a batch on the way."""
    data, test = digits(seed)
    updates = epochs * -(-len(data.X) // 32)
    net = nn.MLP((64, 32, 32, 10), nn.Tanh, rng=seed)
    first = updates // 10 if method == "warm-up, decay" else 0
    falling = schedules.Cosine(lr, updates - first)
    rate = schedules.Warmup(first, falling) if first else falling
    adam = (optim.RAdam if method == "RAdam, decay" else optim.Adam)(net.parameters(), lr=rate)
    history = fit(net, nn.cross_entropy, adam, *data, epochs, 32, rng=seed)
    at_train, at_test = evaluate(net, nn.cross_entropy, *data), evaluate(net, nn.cross_entropy, *test)
    return {"loss": at_train.loss, "accuracy": at_test.accuracy, "peak": max(history.loss)}


rates = (0.01, 0.1) if run.quick else (0.003, 0.01, 0.03, 0.1, 0.2)
methods = ("decay", "warm-up, decay", "RAdam, decay")
cases = [
    {"method": method, "lr": lr, "seed": run.seed + seed, "epochs": epochs}
    for method in methods
    for lr in rates
    for seed in range(seeds)
]
results = study(trained, cases, run.out / "11_warmup.jsonl", 1 if run.quick else run.jobs)


def over_seeds(method, lr, key):
    """That number in all runs of a method with a learning rate."""
    return np.array([r[key] for r in results if r["method"] == method and r["lr"] == lr])


rows = []
for lr in rates:
    for method in methods:
        loss, accuracy, peak = (over_seeds(method, lr, key) for key in ("loss", "accuracy", "peak"))
        rows.append((lr, method, np.median(loss), loss.max(), f"{np.median(accuracy):.1%}", np.median(peak)))
table(["η", "", "loss, median", "worst", "test accuracy, median", "largest batch loss, median"], rows, digits=3)
print(f"{len(train.X)} images, {epochs} epochs, {seeds} seeds; {len(list(batches(*train, 32)))} updates in an epoch\n")

figure, axes = panels(1, 2, width=5.2)
axes[0].loglog(times, spread, "o-")
axes[0].set_xlabel("batches that v̂ was computed from, t")
axes[0].set_ylabel("relative spread of 1/√v̂")
axes[0].set_title("How uncertain the step is")
labels = ("Adam, decay", "Adam, warm-up, decay", "RAdam, decay")
for method, label, style in zip(methods, labels, ("o-", "s--", "^-"), strict=True):
    losses, colour = np.array([over_seeds(method, lr, "loss") for lr in rates]), plots.optimizer_colour(label)
    axes[1].loglog(rates, np.median(losses, axis=1), style, label=label, color=colour)
    axes[1].fill_between(rates, losses.min(axis=1), losses.max(axis=1), alpha=0.15, color=colour)
axes[1].set_xlabel("learning rate η")
axes[1].set_ylabel("final training loss (median, and range)")
axes[1].legend(fontsize="small", loc="lower left")
axes[1].set_title("Digits, with and without warm-up")
save(figure, run.out / "11_warmup.png", thumbnail=axes[1])
