"""
Batches: few steady steps or many noisy ones, and what each costs (lecture L4)
==============================================================================

With all the data at once an update follows the true gradient; with one sample it follows a noisy one, but there are as
many updates in an epoch as there are samples. How much does an update cost? Not in proportion to the batch: up to some
size the machine is not full, and a larger batch costs hardly more.

Half a minute: ``python demos/04_batch_time.py``
"""

import numpy as np
from lab import digits, options, panels, save, table, times

import microgradopt as mg
from microgradopt import Objective, nn, optim

# sphinx_gallery_thumbnail_path = "results/04_batch_time_thumbnail.png"
run = options(__doc__)
train, _ = digits(run.seed)
samples = len(train.X)
sizes = (1, 16, 256, samples) if run.quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, samples)
least, draws = (0.05, 20) if run.quick else (0.5, 200)

# %%
# Time of an update, time of an epoch
# -----------------------------------
#
# A net 64-32-10 and SGD on digits. One whole update: forward, backward, step. As it is written, where Python's own work
# comes on top, and compiled, where NumPy's calls are all there is.

model = nn.MLP((64, 32, 10), nn.Tanh, rng=run.seed)
optimizer = optim.SGD(model.parameters(), lr=0.05)


def update(X, y):
    """Forward, backward, step."""
    optimizer.zero_grad()
    nn.cross_entropy(model(X), y).backward()
    optimizer.step()


compiled = mg.compile(update)
measured, measured_compiled = (
    np.array(
        [np.quantile(times(lambda B=B, f=f: f(train.X[:B], train.y[:B]), least), (0.25, 0.5, 0.75)) for B in sizes]
    )
    for f in (update, compiled)
)
per_update, per_update_compiled = measured[:, 1], measured_compiled[:, 1]
updates = np.array([-(-samples // B) for B in sizes])


def spread(quartiles):
    """Median, and the quartiles in brackets, in µs."""
    low, median, high = (f"{t * 1e6:.0f}" for t in quartiles)
    return f"{median} ({low} to {high})"


table(
    ["batch", "updates per epoch", "µs per update", "s per epoch", "compiled: µs per update", "s per epoch"],
    [
        (B, n, spread(t), t[1] * n, spread(c), c[1] * n)
        for B, n, t, c in zip(sizes, updates, measured, measured_compiled, strict=True)
    ],
    digits=3,
)
grown = per_update_compiled[-1] / per_update_compiled[0]
print(f"{samples} samples in a batch instead of 1: an update takes {grown:.0f} times as long, not {samples} times;")
print(f"an epoch with batches of 1 takes {samples / grown:.0f} times as long.\n")

# %%
# How noisy a step is
# -------------------
#
# At the initial weights: how far the gradient of a random batch is from that of all data, as a part of its length, and
# the cosine of the angle between them. Drawing B of N samples without replacement, the distance falls like
# √((1/B)(1 − B/N)): four times the batch, half the noise.

fresh = nn.MLP((64, 32, 10), nn.Tanh, rng=run.seed)
rng = np.random.default_rng(run.seed)


def gradient(chosen):
    """The gradient of the loss on these samples."""
    return Objective.of(fresh, lambda: nn.cross_entropy(fresh(train.X[chosen]), train.y[chosen])).gradient()


true = gradient(np.arange(samples))
noise, cosine = [], []
for B in sizes:
    found = [gradient(rng.choice(samples, B, replace=False)) for _ in range(draws if samples > B else 2)]
    noise.append(np.mean([np.sum((g - true) ** 2) for g in found]) ** 0.5 / np.linalg.norm(true))
    cosine.append(np.mean([g @ true / np.linalg.norm(g) / np.linalg.norm(true) for g in found]))
one = noise[0] / np.sqrt(1 - 1 / samples)
law = one * np.sqrt((1 - np.array(sizes) / samples) / np.array(sizes))
table(["batch", "noise of the gradient", "by the law", "cosine"], list(zip(sizes, noise, law, cosine, strict=True)), 3)

figure, axes = panels(1, 3)
for found, label in ((measured, "as written"), (measured_compiled, "compiled")):
    axes[0].loglog(sizes, found[:, 1] * 1e6, "o-", label=label)
    axes[0].fill_between(sizes, found[:, 0] * 1e6, found[:, 2] * 1e6, alpha=0.3)
axes[0].set(ylabel="µs per update", title="Time of an update")
axes[1].loglog(sizes, per_update * updates, "o-", label="as written")
axes[1].loglog(sizes, per_update_compiled * updates, "o-", label="compiled")
axes[1].set(ylabel="seconds per epoch", title="Time of an epoch")
axes[2].loglog(sizes[:-1], noise[:-1], "o", label="measured")
axes[2].loglog(sizes[:-1], law[:-1], "--", color="black", linewidth=0.8, label="√((1/B)(1 − B/N)), through the first")
axes[2].set(ylabel="‖batch gradient − gradient‖ / ‖gradient‖", title="Noise of a batch's gradient")
axes[2].set_ylim(0.1, 20)
for ax in axes:
    ax.set_xlabel("batch size")
    ax.legend(fontsize="small")
save(figure, run.out / "04_batch_time.png", thumbnail=axes[1])
