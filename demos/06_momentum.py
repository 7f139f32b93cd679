"""
Momentum: a ball that rolls past points where the gradient is 0 (lecture L6)
============================================================================

Gradient descent moves by the gradient alone, and where that is 0 it stands. With momentum the movement is a weighted
sum of all gradients so far,

.. math:: m^t = λ m^{t-1} − η g^{t-1} = −η \\sum_{k<t} λ^{t-1-k} g^k, \\qquad θ^t = θ^{t-1} + m^t,

so that it goes on for a while, over small bumps and plateaus, and along valleys it adds up.

Half a minute: ``python demos/06_momentum.py``
"""

import numpy as np
from lab import digits, options, panels, save, table

import microgradopt as mg
from microgradopt import Objective, nn, optim, plots
from microgradopt.training import History, trajectory

# sphinx_gallery_thumbnail_path = "results/06_momentum_thumbnail.png"
run = options(__doc__)
updates = 100 if run.quick else 1_000

# %%
# The movement is a sum of all gradients
# --------------------------------------
#
# Taken apart at some update t: what the optimizer did equals the sum, to rounding.

rng = np.random.default_rng(run.seed)
wave = Objective(lambda w: np.sum(np.cos(3 * w) + w**2 / 2), [2.9, -2.3], compile=mg.compile)
optimizer = optim.Momentum(wave.parameters, lr=0.02, momentum=0.9)
thetas = trajectory(wave, optimizer, 30)
gradients = [wave.gradient(theta) for theta in thetas[:-1]]
summed = -0.02 * sum(0.9 ** (29 - k) * g for k, g in enumerate(gradients))
difference = float(np.abs((thetas[-1] - thetas[-2]) - summed).max())
print(f"movement 30: {thetas[-1] - thetas[-2]}, as a sum of 30 gradients {summed}: {difference:.0e} apart\n")

# %%
# Over a bump and through a plateau
# ---------------------------------
#
# One parameter, one hill in its way: a local minimum, a bump, and behind them a plateau, where the gradient is nearly
# 0, before the true minimum. Same start, same learning rate. Gradient descent stops in the first hollow.


def landscape(w):
    """A slope with a hollow and a bump, a plateau, and a minimum behind it."""
    hollow = -1.2 * np.exp(-((w[0] + 2) ** 2) / 0.3)
    valley = -4.0 * np.exp(-((w[0] - 5) ** 2) / 1.5)
    return hollow + valley + 0.15 * np.logaddexp(0.0, -4 * (w[0] + 2.5))


def roll(Optimizer, lr=0.05, **settings):
    """Along the landscape, from its left end."""
    hill = Objective(landscape, [-6.0], compile=mg.compile)
    return trajectory(hill, Optimizer(hill.parameters, lr=lr, **settings), 400)[:, 0]


rolls = {"gradient descent": roll(optim.SGD), "momentum, λ = 0.95": roll(optim.Momentum, momentum=0.95)}
for name, way in rolls.items():
    print(f"{name}: from −6 to {way[-1]:.3f}, loss {float(landscape([way[-1]])):.3f}")
print()

# %%
# Along a valley
# --------------
#
# A valley 100 times as steep across as along. Both take the learning rate that is best for them on a quadratic with
# these two curvatures: 2/(a + b), and Polyak's (2/(√a + √b))² with λ = ((√b − √a)/(√b + √a))². The distance shrinks by
# (b − a)/(b + a) in each update, or by (√b − √a)/(√b + √a).

a, b = 1.0, 100.0
valley = Objective(lambda w: (a * w[0] ** 2 + b * w[1] ** 2) / 2, [-10.0, 1.0], compile=mg.compile)
root = (np.sqrt(b) - np.sqrt(a)) / (np.sqrt(b) + np.sqrt(a))
methods = {
    "gradient descent": optim.SGD(valley.parameters, lr=2 / (a + b)),
    "momentum": optim.Momentum(valley.parameters, lr=(2 / (np.sqrt(a) + np.sqrt(b))) ** 2, momentum=root**2),
}
ways = {}
for name, optimizer in methods.items():
    valley.theta = [-10.0, 1.0]
    ways[name] = trajectory(valley, optimizer, 600)
needed = {name: int(np.argmax(np.linalg.norm(way, axis=1) < 1e-3)) for name, way in ways.items()}
table(["on a valley of condition 100", "updates to 1e-3"], list(needed.items()))

# %%
# On digits
# ---------
#
# A net 64-32-10, all training images at once, the same learning rate 0.1 for both. In the long run momentum λ makes
# steps 1/(1 − λ) times as long: 10 times here. So gradient descent with lr = 1 is shown as well: what is gained beyond
# that is what the sum smooths.

train, _ = digits(run.seed)


def learned(Optimizer, **settings):
    """The history of training."""
    model = nn.MLP((64, 32, 10), nn.Tanh, rng=run.seed)
    objective = Objective.of(model, lambda: nn.cross_entropy(model(train.X), train.y), compile=mg.compile)
    history = History()
    trajectory(objective, Optimizer(objective.parameters, **settings), updates, history)
    return history


histories = {
    "gradient descent, η = 0.1": learned(optim.SGD, lr=0.1),
    "momentum 0.9, η = 0.1": learned(optim.Momentum, lr=0.1, momentum=0.9),
    "gradient descent, η = 1": learned(optim.SGD, lr=1.0),
}
marks = [updates // 10, updates // 2, updates]
table(
    ["training loss after", *(f"{k} updates" for k in marks)],
    [(name, *(history.loss[k - 1] for k in marks)) for name, history in histories.items()],
)

# %%
# The three pictures
# ------------------

figure, axes = panels(1, 3, height=4.4)
w = np.linspace(-6.2, 7.5, 600)
axes[0].plot(w, landscape([w]), color="black", linewidth=0.8)
for lift, (name, way) in zip((0.25, 0.5), rolls.items(), strict=True):
    axes[0].plot(way, landscape([way]) + lift, ".", markersize=3, label=name, color=plots.optimizer_colour(name))
    axes[0].plot(way[-1], landscape([way[-1]]) + lift, "ko", markersize=6, fillstyle="none")
axes[0].set_xlabel("$w$")
axes[0].set_ylabel("loss (paths lifted)")
plots.legend_below(axes[0])
axes[0].set_title("A bump and a plateau")

plots.surface(valley, extent=(-11, 4, -4.2, 4.2), ax=axes[1])
plots.trajectories({name: way[:60] for name, way in ways.items()}, axes[1])
plots.legend_below(axes[1])
axes[1].set_title("A valley: 60 updates")

for style, (name, history) in zip(("-", "-", "--"), histories.items(), strict=True):
    axes[2].semilogy(history.loss, style, label=name, color=plots.optimizer_colour(name))
axes[2].set_xlabel("update")
axes[2].set_ylabel("training loss")
plots.legend_below(axes[2])
axes[2].set_title("Digits, all images at once")
save(figure, run.out / "06_momentum.png", thumbnail=axes[1])
