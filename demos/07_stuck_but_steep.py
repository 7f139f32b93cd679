"""
The loss is stuck, the gradient is not small: bouncing between walls (lecture L7)
=================================================================================

When the loss stops falling, the usual guess is a critical point: the gradient has become 0. Look before believing it.
On this real run the loss hardly moves for hundreds of updates while the gradient *grows*. The parameters jump to and
fro between the walls of a valley whose curvature is just what the learning rate bears: λ_max ≈ 2/η.

Half a minute: ``python demos/07_stuck_but_steep.py``
"""

import numpy as np
from lab import digits, options, panels, save, table

import microgradopt as mg
from microgradopt import Objective, critical, curvature, nn, optim, plots
from microgradopt.training import History, trajectory

# sphinx_gallery_thumbnail_path = "results/07_stuck_but_steep_thumbnail.png"
run = options(__doc__)
updates, every = (600, 50) if run.quick else (3_000, 50)
lr = 1.0

# %%
# Gradient descent on digits, all images at once
# ----------------------------------------------
#
# A net 64-16-10 of tanh units, squared errors, η = 1. Every 50 updates the largest eigenvalue of the Hessian is
# measured, by the Lanczos process on Hessian-vector products.

train, _ = digits(run.seed)
targets = np.eye(10)[train.y]
model = nn.MLP((64, 16, 10), nn.Tanh, rng=run.seed)
objective = Objective.of(model, lambda: np.mean((model(train.X) - targets) ** 2), compile=mg.compile)
optimizer = optim.SGD(objective.parameters, lr=lr)
history, at, sharpness = History(), [], []
thetas = [objective.theta]
for k in range(0, updates, every):
    at.append(k)
    sharpness.append(curvature.sharpness(curvature.HessianOperator(objective)).value)
    thetas.extend(trajectory(objective, optimizer, every, history)[1:])

loss, norm = np.array(history.loss), np.array(history.gradient_norm)
quietest = int(norm[: updates // 2].argmin())
table(
    ["update", "loss", "gradient norm", "λ_max", "2/η"],
    [(k, loss[k], norm[k], s, 2 / lr) for k, s in zip(at, sharpness, strict=True)][:: max(1, len(at) // 12)],
)
late = slice(updates - 200, updates)
print(f"The gradient is smallest at update {quietest}: {norm[quietest]:.4f}, the loss there {loss[quietest]:.4f}.")
print(
    f"Over the last 200 updates its norm is {np.median(norm[late]):.4f} (median), the loss {np.median(loss[late]):.4f}:"
)
print(f"the gradient is {np.median(norm[late]) / norm[quietest]:.0f} times as large, and so near to 2/η = {2 / lr:g}")
print(f"λ_max stays: {np.median(sharpness[len(sharpness) // 2 :]):.2f} in the second half.\n")

# %%
# Bouncing, seen in the steps
# ---------------------------
#
# If the parameters run along a valley, each step has the direction of the one before. If they bounce, each step goes
# back on the one before: the cosine is negative. That begins at about update 200, and ends with the smaller η below.


def cosines_of(thetas):
    """The cosine of the angle between each step and the one before."""
    steps = np.diff(thetas, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    return np.sum(steps[1:] * steps[:-1], axis=1) / lengths[1:] / lengths[:-1]


cosines = cosines_of(thetas[-every - 1 :])
print(f"cosine of the angle between neighbouring steps, median of the last {len(cosines)}: {np.median(cosines):.2f}")
budget = 480 if run.quick else None  # updates of all experiments
print(f"diagnosis: {critical.diagnose(objective, optimizer, history, budget=budget)}\n")

# %%
# A smaller learning rate
# -----------------------
#
# From the same place, η = 0.2. If the gradient had been the trouble, smaller steps would be no help. The gradient norm
# drops at once: the walls are gone, and what is left is the slope along the valley.

optimizer.param_groups[0]["lr"] = 0.2
calm = History()
thetas.extend(trajectory(objective, optimizer, 200, calm)[1:])
print(f"with η = 0.2, 200 updates later: loss {calm.loss[-1]:.4f}, gradient norm {calm.gradient_norm[-1]:.4f}\n")

figure, axes = panels(1, 3)
both = History()
both.loss, both.gradient_norm = history.loss + calm.loss, history.gradient_norm + calm.gradient_norm
plots.history(both, axes[0])
axes[0].set_title("Loss and gradient norm")
axes[1].plot(at, sharpness, "o-", markersize=3, label="λ_max of the Hessian")
axes[1].axhline(2 / lr, color="black", linewidth=0.8, linestyle="--", label="2/η")
axes[1].set_ylim(0, 1.4 * 2 / lr)
axes[1].legend(fontsize="small", loc="lower left")
axes[1].set_title("The curvature that the learning rate bears")
axes[2].plot(cosines_of(thetas), linewidth=0.8)
axes[2].set_ylabel("cosine of the angle")
axes[2].set_title("Does a step go on (1) or back on the last (−1)?")
for ax in axes:
    ax.axvline(updates, color="black", linewidth=0.7, linestyle=":")
    ax.set_xlabel("update; dotted: η from 1 to 0.2")
    ax.set_xlim(-updates / 30, updates + 260)
save(figure, run.out / "07_stuck_but_steep.png", thumbnail=axes[0])
