"""
RMSProp: a memory that fades (lecture L10)
==========================================

Root Mean Square counts all gradients alike, from the first to the last. Where the steepness of the surface changes on
the way, what was measured at the start is of no use any more. RMSProp lets it fade:

.. math:: σ^0 = |g^0|, \\qquad σ^t = \\sqrt{α (σ^{t-1})^2 + (1 − α) (g^t)^2}.

A few seconds: ``python demos/10_rmsprop.py``
"""

import numpy as np
from lab import options, panels, save, table

import microgradopt as mg
from microgradopt import Objective, optim, plots
from microgradopt.training import trajectory

# sphinx_gallery_thumbnail_path = "results/10_rmsprop_thumbnail.png"
run = options(__doc__)
updates = 2_000 if run.quick else 20_000

# %%
# A surface whose steepness changes along one coordinate
# ------------------------------------------------------
#
# A wall, steep to the left of w₁ = −3, and behind it a long gentle slope, 1,000 times less steep, to the minimum at
# w₁ = 3. Across, in w₂, it is a bowl everywhere the same.


def surface(w):
    """A wall 50 (−3 − w₁), a gentle bowl (w₁ − 3)²/200 around 3, and across (w₂)²/2."""
    return 50 * np.logaddexp(0.0, -8 * (w[0] + 3)) / 8 + (w[0] - 3) ** 2 / 200 + w[1] ** 2 / 2


start = [-4.0, 1.0]
objective = Objective(surface, start, compile=mg.compile)
alpha, lr = 0.99, 0.01

optimizers = {
    "Root Mean Square": optim.RMS(objective.parameters, lr=lr),
    "RMSProp, the lecture's": optim.RMSprop(objective.parameters, lr=lr, alpha=alpha, eps=0.0, start="gradient"),
    "RMSProp, PyTorch's": optim.RMSprop(objective.parameters, lr=lr, alpha=alpha),
}
ways = {}
for name, optimizer in optimizers.items():
    objective.theta = start
    ways[name] = trajectory(objective, optimizer, updates)


def arrival(way):
    """The first update after which w₁ is within 0.1 of the minimum; None if there is none."""
    near = np.flatnonzero(np.abs(way[:, 0] - 3) < 0.1)
    return int(near[0]) if near.size else None


arrivals = {name: arrival(way) for name, way in ways.items()}
table(
    ["", "first step in w₁", "over the wall (w₁ > −3) at", "at the minimum at", "w₁ at the end"],
    [(name, w[1, 0] - w[0, 0], int((w[:, 0] > -3).argmax()), arrivals[name], w[-1, 0]) for name, w in ways.items()],
)

# %%
# What σ remembers
# ----------------
#
# For Root Mean Square the wall's gradient of 50 stays in the mean for ever and fades like 1/√t. RMSProp forgets it by
# the factor α in each update: after 1/(1 − α) = 100 of them it counts for a third. The two RMSProps differ at the start
# only: the lecture's σ begins at ``|g⁰|``, PyTorch's mean at 0, so that its first step is η/√(1 − α), 10 times as long.

gradients = {name: np.array([objective.gradient(theta)[0] for theta in way[:2000]]) for name, way in ways.items()}


def faded(g, weights):
    """σ by the recursion with weights (α, 1 − α) for each t."""
    squares = [g[0] ** 2]
    for t, x in enumerate(g[1:], start=1):
        keep = weights(t)
        squares.append(keep * squares[-1] + (1 - keep) * x**2)
    return np.sqrt(squares)


sigmas = {
    "Root Mean Square": faded(gradients["Root Mean Square"], lambda t: t / (t + 1)),
    "RMSProp, the lecture's": faded(gradients["RMSProp, the lecture's"], lambda t: alpha),
}

figure, axes = panels(1, 3, height=4.4)
plots.surface(objective, extent=(-4.2, 3.6, -1.2, 1.2), ax=axes[0])
for k, ((name, way), style) in enumerate(zip(ways.items(), ("-", "-", "--"), strict=True)):
    plots.trajectories({name: way[:2000]}, axes[0], linestyle=style, zorder=2 - 0.1 * k)  # the shortest on top
    axes[1].plot(way[:, 0], style, label=name, color=plots.optimizer_colour(name))
plots.legend_below(axes[0])
axes[0].set_title("2,000 updates")
axes[1].axhline(3, color="black", linewidth=0.6, linestyle=":")
axes[1].set_xscale("symlog", linthresh=10)
axes[1].set_xlim(0, updates)
axes[1].set_xlabel("update")
axes[1].set_ylabel("$w_1$")
plots.legend_below(axes[1])
axes[1].set_title("Along the surface")
for name, sigma in sigmas.items():
    axes[2].semilogy(sigma, label=f"σ: {name}", color=plots.optimizer_colour(name))
    axes[2].semilogy(np.abs(gradients[name]), ":", label=f"|g|: {name}", color=plots.optimizer_colour(name))
axes[2].set_xlabel("update")
plots.legend_below(axes[2])
axes[2].set_title("What the past weighs, for $w_1$")
save(figure, run.out / "10_rmsprop.png", thumbnail=axes[2])
