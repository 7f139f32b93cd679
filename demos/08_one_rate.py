"""
One learning rate is not enough: a long ellipse (lecture L8)
============================================================

The lecture's example: fit y = b + w·x to ten points by gradient descent. The loss is convex, its surface one long
valley: in the direction of w it is 300,000 times as steep as along the floor. A learning rate small enough not to jump
out of the valley is far too small to walk along it.

Ten seconds: ``python demos/08_one_rate.py``
"""

import numpy as np
from lab import options, panels, save, table

import microgradopt as mg
from microgradopt import Objective, optim, plots
from microgradopt.training import History, trajectory

# sphinx_gallery_thumbnail_path = "results/08_one_rate_thumbnail.png"
run = options(__doc__)
updates = 2_000 if run.quick else 100_000

# %%
# The surface
# -----------
#
# Ten points, sum of squared errors. It is a quadratic bowl: its Hessian is the same everywhere, and its two eigenvalues
# say all. Gradient descent is stable below η = 2/λ_max, and the slow direction shrinks by 1 − η λ_min in each update.

x = np.array([338.0, 333, 328, 207, 226, 25, 179, 60, 208, 606])
y = np.array([640.0, 633, 619, 393, 428, 27, 193, 66, 226, 1591])


def line(theta):
    """Σ (y − b − w x)²."""
    return np.sum((y - (theta[0] + theta[1] * x)) ** 2)


start = np.array([-120.0, -4.0])
surface = Objective(line, start, compile=mg.compile)
optimum = np.linalg.lstsq(np.stack([np.ones_like(x), x], axis=1), y)[0]
flat, steep = np.linalg.eigvalsh(surface.hessian())
limit = 2 / steep
print(f"optimum b = {optimum[0]:.3f}, w = {optimum[1]:.4f}, loss {surface.value(optimum):.1f}")
print(f"eigenvalues {flat:.3f} and {steep:.4g}; condition number {steep / flat:.3g}; stable below η = {limit:.3g}\n")

# %%
# Three learning rates
# --------------------
#
# The lecture's two, 1e-2 and 1e-7, and one at nine tenths of the limit. 100,000 updates for each that survives. With
# 1e-2 every update multiplies the distance in the steep direction by 1 − ηλ, which is about −17,500.


def descend(lr, steps):
    """Where gradient descent goes from the start."""
    surface.theta = start
    history = History()
    with np.errstate(over="ignore", invalid="ignore"):
        thetas = trajectory(surface, optim.SGD(surface.parameters, lr=lr), steps, history)
    return thetas, history


rates = {"too large, 1e-2": 1e-2, "0.9 of the limit": 0.9 * limit, "the lecture's, 1e-7": 1e-7}
runs = {name: descend(lr, updates) for name, lr in rates.items()}


def distance(theta):
    """From the optimum, as a part of where it was at the start, in b."""
    return abs(theta[0] - optimum[0]) / abs(start[0] - optimum[0])


table(
    ["learning rate", "updates", "b", "w", "loss", "part of the way in b still to go"],
    [
        (name, len(thetas) - 1, *thetas[-1], history.loss[-1], distance(thetas[-1]))
        for name, (thetas, history) in runs.items()
    ],
)
factor = abs(1 - 1e-2 * steep)
print(f"With 1e-2 each update multiplies the distance by {factor:.0f}: out of the picture in one.")
print(f"With 0.9 of the limit the floor's distance halves in {np.log(2) / (0.9 * limit * flat):,.0f} updates,")
print(f"with 1e-7 in {np.log(2) / (1e-7 * flat):,.0f}.\n")

# %%
# On the surface
# --------------
#
# Both slow runs drop into the valley at once and then crawl along its floor, which looks flat from above.

figure, axes = panels(1, 2, width=5.4, height=4.4)
window = (-200, -100, -5, 8)
colours = dict(zip(rates, ("#999999", "#0072b2", "#000000"), strict=True))
plots.surface(surface, extent=window, resolution=61, ax=axes[0])
shown = {name: thetas[:: max(1, len(thetas) // 2000)] for name, (thetas, _) in runs.items() if len(thetas) > 100}
plots.trajectories(shown, axes[0], colours)
axes[0].plot(*optimum, "*", color="white", markersize=14, markeredgecolor="black", label="optimum")
axes[0].set_xlim(window[:2])
axes[0].set_ylim(window[2:])
axes[0].set_xlabel("b")
axes[0].set_ylabel("w")
plots.legend_below(axes[0])
axes[0].set_title(f"The valley, {updates:,} updates")
for name, (_, history) in runs.items():
    label = f"{name}: out of the picture in one update" if history.loss[1] > 1e10 else name
    loss = np.minimum(history.loss, 1e15)
    axes[1].loglog(np.arange(1, len(loss) + 1), loss, label=label, color=colours[name])
axes[1].set_ylim(3e4, 1e10)
axes[1].axhline(surface.value(optimum), color="black", linewidth=0.6, linestyle=":", label="the lowest there is")
axes[1].set_xlabel("update")
axes[1].set_ylabel("loss")
plots.legend_below(axes[1])
axes[1].set_title("The loss of each update")
save(figure, run.out / "08_one_rate.png", thumbnail=axes[0])
