"""
Where the gradient is zero: a saddle, and the way off it (lecture L1, L2)
=========================================================================

A point with gradient 0 need not be a minimum. Near it L(θ + v) ≈ L(θ) + ½ vᵀHv, and the signs of the eigenvalues of H
decide. Where one is negative, the loss falls along its eigenvector: a saddle is no dead end.

First the smallest network that has one, y = w₁ · w₂ · x with one sample x = 1, y = 1; then a network on real digits
that training has brought to a saddle.

A quarter of a minute: ``python demos/02_saddle.py``
"""

import numpy as np
from lab import digits, options, panels, save, table

import microgradopt as mg
from microgradopt import Objective, critical, curvature, nn, optim, plots
from microgradopt.training import History, accuracy, trajectory

# sphinx_gallery_thumbnail_path = "results/02_saddle_thumbnail.png"
run = options(__doc__)

# %%
# The lecture's net
# -----------------
#
# L = (1 − w₁w₂)². Gradient descent started on the line w₁ = −w₂ walks into the origin and stays: on that line it is the
# lowest point.

net = Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.9, -0.9])
into = trajectory(net, optim.SGD(net.parameters, lr=0.1), 60)
print(f"from (0.9, −0.9) to ({into[-1][0]:.1e}, {into[-1][1]:.1e}), loss {net.value():.4f}\n")

points = [critical.classify(net, theta) for theta in ([0.0, 0.0], [1.0, 1.0], [2.0, 0.5], [-1.0, -1.0])]
for point in points:
    print(f"({point.theta[0]:g}, {point.theta[1]:g}): {point}\n")

# %%
# Off the saddle
# --------------
#
# Along (1, 1)/√2 a step of s lowers the loss by s² − s⁴/4. The way out goes as far as that pays: s = √2, all the way
# down to 0.

saddle = points[0]
way = saddle.escape()
s = way.step
print(f"from the origin, {way}")
print(f"by the formula s² − s⁴/4 = {s**2 - s**4 / 4:.6f}; measured {way.measured:.6f}\n")

figure, axes = panels(1, 2, width=5.4, height=4.4)
plots.surface(net, extent=(-2.2, 2.2, -2.2, 2.2), resolution=31 if run.quick else 121, ax=axes[0])
plots.path(into, axes[0], label="gradient descent, into the saddle")
plots.path([saddle.theta, way.theta], axes[0], color="black", label="the way out")
plots.mark(points, axes[0])
plots.legend_below(axes[0], columns=2)
axes[0].set_title("L = (1 − w₁w₂)²")
plots.slice_along(net, saddle.theta, saddle.eigenvectors[:, 0], (-1.8, 1.8), ax=axes[1])
axes[1].set_title("Through the saddle, along v of λ = −2")
save(figure, run.out / "02_saddle.png", thumbnail=axes[0])

# %%
# The same on digits
# ------------------
#
# A net 64-16-10 whose hidden units all start with the weights of the first one. They get the same gradient, and stay 16
# copies of one unit: training comes to rest at the best that one unit can do. A penalty ‖θ‖²/100 gives the loss a
# bottom that can be reached.

images, updates = (200, 400) if run.quick else (1257, 800)
train, _ = digits(run.seed, train=images)
model = nn.MLP((64, 16, 10), nn.Tanh, rng=run.seed)
first, bias, second, _ = model.parameters()
first.data = np.broadcast_to(first.data[:1], first.shape)
bias.data = np.broadcast_to(bias.data[:1], bias.shape)
second.data = np.broadcast_to(second.data[:, :1], second.shape)


def loss():
    """Cross-entropy and the penalty."""
    return nn.cross_entropy(model(train.X), train.y) + 0.01 * sum(np.sum(p * p) for p in model.parameters())


objective = Objective.of(model, loss, compile=mg.compile)
trajectory(objective, optim.SGD(objective.parameters, lr=0.5, momentum=0.9), updates)
stuck = critical.classify(objective, dense_up_to=400 if run.quick else 2000)
before = accuracy(model(train.X), train.y)
print(f"stuck after {updates} updates, accuracy {before:.1%}:\n{stuck}\n")

# %%
# What the quadratic model promises and what is found, along the eigenvector of the lowest eigenvalue. On the way out
# the copies part: the eigenvector moves them in different directions.

direction = stuck.eigenvectors[:, 0]
lowest = stuck.eigenvalues[0]
rows = []
for t in (0.1, 0.3, 1.0, 3.0):
    # Of the two ways along the line, the one that is lower: the gradient is 0, the cubic term is not.
    found = stuck.value - min(objective.value(stuck.theta + sign * t * direction) for sign in (1, -1))
    rows.append((t, -lowest * t**2 / 2, found))
table(["step", "decrease predicted, −½λs²", "decrease found"], rows)

out = stuck.escape()
print(f"the way out: {out}")
objective.theta = out.theta
history = History()
trajectory(objective, optim.SGD(objective.parameters, lr=0.5, momentum=0.9), updates, history)
after = accuracy(model(train.X), train.y)
print(f"{updates} updates later: loss {stuck.value:.4f} → {objective.value():.4f}, accuracy {before:.1%} → {after:.1%}")

# %%
# What a picture of the surface shows
# -----------------------------------
#
# Below, the loss around the saddle on two planes. In two random directions (each unit's weights scaled to their own
# size, as is usual) it looks like a bowl: of 1,210 directions 120 lead down, and a random one is hardly among them. In
# the directions of the lowest and the highest eigenvalue it is what it is.

objective.theta = stuck.theta
rng = np.random.default_rng(run.seed)
random = tuple(plots.filter_normalised(objective, rng) for _ in range(2))
lowest_and_highest = (stuck.eigenvectors[:, 0], stuck.eigenvectors[:, -1])
H = curvature.HessianOperator(objective)
density = curvature.spectral_density(H, probes=4, steps=60)
resolution = 21 if run.quick else 61

figure, axes = panels(2, 3)
plots.spectrum(stuck, axes[0, 0])
plots.density(density, axes[0, 1])
axes[0, 1].set_title("By Lanczos, without the matrix")
plots.slice_along(objective, stuck.theta, direction, (-6, 6), ax=axes[0, 2])
axes[0, 2].set_title(f"Through the saddle, along λ = −{-lowest:.3f}")
for ax, plane, extent, title in (
    (axes[1, 0], random, (-1, 1, -1, 1), "In two random directions: a bowl"),
    (axes[1, 1], lowest_and_highest, (-5, 5, -1, 1), "Along λ lowest (u) and λ highest (v)"),
):
    plots.surface(objective, plane, stuck.theta, extent, resolution, ax=ax)
    ax.plot(0, 0, "X", color="white", markeredgecolor="black", markersize=9)
    ax.set_title(title)
plots.history(history, axes[1, 2])
axes[1, 2].set_title("Going on from where the way out leads")
save(figure, run.out / "02_saddle_digits.png")
