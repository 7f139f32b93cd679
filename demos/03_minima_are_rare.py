"""
Local minima are rare: the minimum ratio of many critical points (lecture L3)
=============================================================================

In many dimensions a point where the gradient is 0 has to curve up in every one of them to be a minimum. The lecture's
picture: many small networks are brought to a critical point, and the training loss is plotted against the *minimum
ratio*, the part of the Hessian's eigenvalues that is positive. Most points are saddles, and the ratio comes near to 1
only where the loss is low.

Two minutes: ``python demos/03_minima_are_rare.py``
"""

from collections import Counter

import numpy as np
from lab import options, panels, save, study, table
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from microgradopt import Objective, critical, nn, optim, plots
from microgradopt.training import ManyRuns, Run

# sphinx_gallery_thumbnail_path = "results/03_minima_are_rare_thumbnail.png"
run = options(__doc__)
widths, nets, iterations = ((2,), 12, 60) if run.quick else ((2, 3, 4, 6), 250, 100)

# %%
# A net, a critical point
# -----------------------
#
# 150 real digits (0, 1, 2), each described by its three leading principal components; a net 3-h-3 of tanh units;
# squared errors and a small penalty, without which many critical points lie at infinity. Descent finds minima only. So
# each net is trained for a while, for 1, 10, 100 or 1,000 updates, and from there on it is not the loss that is made
# smaller but the norm of the gradient, by Newton's method for ∇L = 0 with a trust region. That ends
#
# - at a critical point, which is then polished to rounding, classified and certified;
# - or where the norm of the gradient itself has a minimum that is not 0 ("gradient-flat"). Such points are false, and
#   counted;
# - or nowhere within the iterations allowed.
#
# The lecture calls a point critical below ‖g‖ = 1e-3. A gradient-flat point may pass that, so both are told apart.
#
# All nets of a width are trained at once (`training.ManyRuns`), and searched from at once: what the searches ask for at
# the same time, gradients and Hessians at many θ, is one computation (`Objective.gradients`, `Objective.hessians`). One
# by one, 400 nets took 145 s of one processor; at once 69 s, most of it for certificates. What is saved goes into more
# nets. Points that several nets lead to are counted once.


def loss_of(model):
    """Squared errors on the digits 0, 1 and 2, and a penalty."""
    X, y = load_digits(n_class=3, return_X_y=True)
    X = PCA(3, svd_solver="full").fit_transform(X[:150])
    X, targets = X / X.std(axis=0), np.eye(3)[y[:150]]
    return lambda: np.mean((model(X) - targets) ** 2) + 1e-3 * sum(np.sum(p * p) for p in model.parameters())


def ends_of(width, first, nets, iterations):
    """Train nets of this width, then search for critical points from there."""
    runs, updates = [], []
    for seed in range(first, first + nets):
        rng = np.random.default_rng([width, seed])
        model = nn.MLP((3, width, 3), nn.Tanh, rng=rng)
        objective = Objective.of(model, loss_of(model))
        objective.theta = objective.theta * rng.choice([0.1, 1.0, 2.0])
        runs.append(Run.of(objective, optim.SGD(objective.parameters, lr=0.3, momentum=0.9)))
        updates.append(10 ** rng.integers(4))
    starts, many, done = {}, ManyRuns(runs), 0
    for count in sorted(set(updates)):
        many.train(int(count) - done)
        done = int(count)
        starts |= {i: each.objective.theta for i, each in enumerate(runs) if updates[i] == count}
    found = critical.find(runs[0].objective, [starts[i] for i in range(nets)], max_iter=iterations)
    kinds = [point.kind for point in found.points] + ["gradient-flat"] * len(found.gradient_flat)
    return {
        "nets": nets,
        "unfinished": found.unfinished + found.runaways,
        "points": [
            {
                "kind": kind,
                "certified": bool(point.certified),
                "loss": point.value,
                "gradient_norm": point.gradient_norm,
                "ratio": point.minimum_ratio,
            }
            for kind, point in zip(kinds, found.points + found.gradient_flat, strict=True)
        ],
    }


# %%
# Hundreds of them
# ----------------
#
# In parallel; each result is kept in a file as soon as it is there, so that a run that is stopped goes on from there.

cases = [{"width": width, "first": run.seed, "nets": nets, "iterations": iterations} for width in widths]
found = study(ends_of, cases, run.out / "03_minima_are_rare.jsonl", 1 if run.quick else run.jobs)
results = [point for each in found for point in each["points"]]
points = [r for r in results if r.get("certified") and r["kind"] != "gradient-flat"]
counts = Counter(r["kind"] for r in results)
print(f"{len(widths) * nets:,} nets; {sum(each['unfinished'] for each in found)} came to no end")
print("different points: " + ", ".join(f"{count} × {kind}" for kind, count in counts.most_common()))
print(f"{len(points)} certified critical points\n")

rows = []
for low, high in ((0.95, 1.001), (0.85, 0.95), (0.75, 0.85), (0.0, 0.75)):
    losses = [r["loss"] for r in points if low <= r["ratio"] < high]
    part = f"{low:.2f} to {min(high, 1):.2f}"
    rows.append((part, len(losses), *(np.quantile(losses, (0, 0.5, 1)) if losses else (None, None, None))))
table(["minimum ratio", "points", "lowest loss", "median", "highest"], rows)

minima = [r for r in points if r["kind"] == "local minimum"]
correlation = float(np.corrcoef([r["ratio"] for r in points], [r["loss"] for r in points])[0, 1])
print(f"{len(minima)} of {len(points)} are minima; loss and ratio correlate by {correlation:.2f}")
near = [r for r in results if r["kind"] == "gradient-flat" and r["gradient_norm"] < 1e-3]
print(f"{len(near)} gradient-flat points are below the lecture's ‖g‖ < 1e-3, and are not critical points\n")

# %%
# The picture
# -----------
#
# Left, as in the lecture: loss against minimum ratio; crosses are the false ones. Right: all ratios that were found. A
# ratio of 1, a minimum, needs a low loss.

figure, axes = panels(1, 2, width=5.4)
false = [r for r in results if r["kind"] == "gradient-flat"]
for shown, label, style in (
    (false, "gradient-flat, not critical", {"marker": "x", "color": "#999999"}),
    (points, "certified critical point", {"marker": "o", "color": "#0072b2", "alpha": 0.6, "edgecolors": "none"}),
):
    axes[0].scatter([r["ratio"] for r in shown], [r["loss"] for r in shown], s=26, label=label, **style)
axes[0].set(xlabel="minimum ratio: positive eigenvalues / all", ylabel="training loss")
axes[0].set_title("The loss at critical points")
plots.legend_below(axes[0], columns=2)
saddles = [r["ratio"] for r in points if r["kind"] != "local minimum"]
axes[1].hist(
    [saddles, [r["ratio"] for r in minima]],
    bins=np.linspace(0.6, 1, 21),
    stacked=True,
    color=["#0072b2", "#e69f00"],
    label=["saddle point", "local minimum"],
)
axes[1].set(xlabel="minimum ratio: positive eigenvalues / all", ylabel="certified critical points")
axes[1].set_title("How many of them are minima")
plots.legend_below(axes[1], columns=2)
save(figure, run.out / "03_minima_are_rare.png", thumbnail=axes[0])
