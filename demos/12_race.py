"""
All optimizers on one error surface: a race (lecture L13)
=========================================================

Adam is RMSProp with momentum: the movement m divided by σ, both freed of their bias towards the start,

.. math:: m^t = β_1 m^{t-1} + (1 − β_1) g^t, \\quad v^t = β_2 v^{t-1} + (1 − β_2) (g^t)^2, \\quad
          θ^{t+1} = θ^t − η \\frac{m^t / (1 − β_1^{t+1})}{\\sqrt{v^t / (1 − β_2^{t+1})} + ε}.

Here all the lecture's optimizers, and some that came later, run on the same surface from the same start. Such a race is
fair only if each has the learning rate that suits it for this many updates; so each one's is chosen first, and printed.

Half a minute: ``python demos/12_race.py``
"""

import numpy as np
from lab import options, panels, save, table

import microgradopt as mg
from microgradopt import Objective, optim, plots
from microgradopt.training import trajectory

# sphinx_gallery_thumbnail_path = "results/12_race_thumbnail.png"
run = options(__doc__)
updates, frames = (100, 10) if run.quick else (300, 60)
rates = np.geomspace(1e-4, 10, 11 if run.quick else 31)

# %%
# The surface, and the ten
# ------------------------
#
# Rosenbrock's banana, (1 − x)² + 20 (y − x²)²: a bent valley, steep across, nearly flat along.

start = np.array([-1.4, 1.8])
surface = Objective(lambda w: (1 - w[0]) ** 2 + 20 * (w[1] - w[0] ** 2) ** 2, start, compile=mg.compile)
parameters = surface.parameters
window = (-2, 1.8, -0.8, 2.6)  # x from, to; y from, to
makers = {
    "gradient descent": lambda lr: optim.SGD(parameters, lr=lr),
    "momentum": lambda lr: optim.Momentum(parameters, lr=lr, momentum=0.9),
    "Nesterov": lambda lr: optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True),
    "Adagrad": lambda lr: optim.Adagrad(parameters, lr=lr),
    "Root Mean Square": lambda lr: optim.RMS(parameters, lr=lr),
    "RMSProp": lambda lr: optim.RMSprop(parameters, lr=lr, start="gradient"),
    "Adadelta": lambda lr: optim.Adadelta(parameters, lr=lr),
    "Adam": lambda lr: optim.Adam(parameters, lr=lr),
    "NAdam": lambda lr: optim.NAdam(parameters, lr=lr),
    "Lion": lambda lr: optim.Lion(parameters, lr=lr),
}

# %%
# To each its own learning rate
# -----------------------------
#
# Of a geometric grid from 1e-4 to 10, the one with the lowest loss over the last tenth of the race at its worst: not
# one that happens to be low in the last update. One that leaves the picture on its way is out.


def race(name, lr):
    """The way of one optimizer from the start."""
    surface.theta = start
    with np.errstate(over="ignore", invalid="ignore"):
        return trajectory(surface, makers[name](lr), updates)


def worst(way):
    """The largest loss in the last tenth; infinite for a way that left the picture."""
    inside = len(way) == updates + 1 and np.all((way > (window[0], window[2])) & (way < (window[1], window[3])))
    return max(map(surface.value, way[-(updates // 10) :])) if inside else np.inf


chosen = {name: min(rates, key=lambda lr, name=name: worst(race(name, lr))) for name in makers}
ways = {name: race(name, lr) for name, lr in chosen.items()}
losses = {name: np.array([surface.value(theta) for theta in way]) for name, way in ways.items()}
order = sorted(ways, key=lambda name: losses[name][-1])
print(f"{updates} updates, {len(rates)} learning rates tried for each\n")
table(
    ["", "η", "loss half way", "loss at the end", "x", "y"],
    [(name, chosen[name], losses[name][updates // 2], losses[name][-1], *ways[name][-1]) for name in order],
    digits=3,
)

# %%
# What m, σ and g are doing
# -------------------------
#
# Adam's first step, by the formula: with the bias corrections m̂ = g and v̂ = g², so that each coordinate moves by η.

first = ways["Adam"][1] - start
print(f"Adam's first step: {first}, η = {chosen['Adam']:.3g}\n")

figure, axes = panels(2, 2, width=6, height=4.6)
lecture = ("gradient descent", "momentum", "Root Mean Square", "RMSProp", "Adam")
others = tuple(name for name in makers if name not in lecture)
for column, (names, title) in enumerate(((lecture, "The lecture's five"), (others, "Five more"))):
    above, below = axes[:, column]
    plots.surface(surface, extent=window, ax=above)
    plots.trajectories({name: ways[name] for name in names}, above)
    above.plot(1, 1, "*", color="white", markersize=14, markeredgecolor="black", zorder=5)
    above.set(xlim=window[:2], ylim=window[2:], title=f"{title}, {updates} updates")
    for name in names:
        label = f"{name}, η = {chosen[name]:.2g}"
        below.semilogy(losses[name], label=label, color=plots.optimizer_colour(name), linewidth=1.2)
    below.set(xlabel="update", ylabel="loss", ylim=(1e-14, 1e3), title=f"{title}: the loss")
    plots.legend_below(below, columns=2)
save(figure, run.out / "12_race.png", thumbnail=axes[0, 0])

# %%
# The race, animated
# ------------------

moving, track = panels(1, 1, width=6, height=5.2)
plots.surface(surface, extent=window, resolution=61, ax=track)
film = plots.animation({name: ways[name] for name in lecture}, track, frames=frames, trail=60)
track.set(xlim=window[:2], ylim=window[2:])
plots.legend_below(track, columns=3)
film.save(run.out / "12_race.gif", writer="pillow", dpi=80)
print(f"animation: {run.out / '12_race.gif'}")
