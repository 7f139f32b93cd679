"""
The first gradient: what a derivative says, and how a program gets all of them at once
=======================================================================================

A loss is a number that a program computes from its parameters θ. The gradient says how much the loss changes when each
parameter changes a little: enough to know which way is down. This demo computes it three ways: by its meaning (change
one parameter, look what happens), by the chain rule going backwards through the program, and by the program that the
chain rule amounts to. Then it takes the first steps down.

A few seconds: ``python demos/01_first_gradient.py``
"""

import numpy as np
from lab import digits, moons, options, panels, save, seconds, table

import microgradopt as mg
from microgradopt import Objective, nn, optim, plots
from microgradopt.training import trajectory

# sphinx_gallery_thumbnail_path = "results/01_boundary_thumbnail.png"
run = options(__doc__)

# %%
# A loss on real data
# -------------------
#
# Handwritten digits, 8 × 8 pixels. A network of two layers gives ten scores to each image; the loss says how little
# probability these give to the right digit.

train, _ = digits(run.seed, train=200)
model = nn.MLP((64, 8, 10), nn.Tanh, rng=run.seed)
objective = Objective.of(model, lambda: nn.cross_entropy(model(train.X), train.y))
theta, n = objective.theta, objective.n
print(f"{n} parameters; the loss at the start is {objective.value():.4f}, ln 10 = {np.log(10):.4f} would be guessing\n")

# %%
# By its meaning
# --------------
#
# Change one parameter by h and look: (L(θ + h) − L(θ − h)) / 2h. Small h is nearer to the limit, until rounding takes
# over: the difference of two nearly equal numbers has few right digits left. The best h is about ε^(1/3) = 6e-6, and
# the error there about 1e-10. The gradient by the chain rule has no such trouble.

gradient = objective.gradient()
one = np.eye(n)[np.abs(gradient).argmax()]
slope = float(gradient @ one)
steps = 10.0 ** np.arange(-1, -13, -1)
errors = [
    abs((objective.value(theta + h * one) - objective.value(theta - h * one)) / (2 * h) - slope) / abs(slope)
    for h in steps
]
table(["h", "relative error of the difference"], list(zip(steps, errors, strict=True)), digits=2)

# %%
# All at once
# -----------
#
# Differences need two losses for each parameter; the reverse sweep gets all n derivatives for the price of about two
# more forward passes, whatever n is. That is what makes learning with many parameters possible.

loss_seconds = seconds(objective.value)
sweep_seconds = seconds(objective.gradient)
print(f"one loss {loss_seconds * 1e6:.0f} µs; loss and all {n} derivatives {sweep_seconds * 1e6:.0f} µs,")
print(f"{sweep_seconds / loss_seconds:.1f} times as much; by differences it would be {2 * n} times\n")

# %%
# What the chain rule amounts to is a program, and can be read: forward first, then the same way back.

print(mg.source(lambda x, y: mg.grad(nn.cross_entropy(model(x), y), list(model.parameters())), train.X, train.y))

# %%
# Downhill
# --------
#
# Against the gradient the loss falls, at first as fast as the gradient says (the dashed line: L − s ‖g‖), and more
# slowly the further one goes. How far to go is what the other demos are about.

distances = np.linspace(0, 3, 31)
down = -gradient / np.linalg.norm(gradient)
losses = np.array([objective.value(theta + s * down) for s in distances])
promised = losses[0] - distances * np.linalg.norm(gradient)
figure, axes = panels(1, 2)
axes[0].loglog(steps, errors, "o-")
axes[0].set_xlabel("h")
axes[0].set_ylabel("relative error of the difference quotient")
axes[0].set_title("Too large, just right, too small")
axes[1].plot(distances, losses, label="loss")
axes[1].plot(distances, promised, "--", label="what the gradient promises")
axes[1].set_ylim(losses.min() - 0.2, losses[0] + 0.1)
axes[1].set_xlabel("way against the gradient, s")
axes[1].set_title("Against the gradient")
axes[1].legend()
save(figure, run.out / "01_first_gradient.png")

# %%
# Step after step
# ---------------
#
# Two half moons, a net 2-16-2. What it thinks of every place in the plane: at random, after 30 steps against the
# gradient, after 1,000. The same three lines each time: loss, gradient, step.

half_moons = moons(run.seed)
net = nn.MLP((2, 16, 2), nn.Tanh, rng=run.seed)
on_moons = Objective.of(net, lambda: nn.cross_entropy(net(half_moons.X), half_moons.y), compile=mg.compile)
descent = optim.SGD(net.parameters(), lr=1.0)
figure, axes = panels(1, 3)
done, on_the_way = 0, []
for ax, upto in zip(axes, (0, 30, 1000), strict=True):
    trajectory(on_moons, descent, upto - done)
    done = upto
    on_the_way.append((upto, on_moons.value(), np.mean(net(half_moons.X).argmax(axis=1) == half_moons.y)))
    plots.decision_boundary(net, *half_moons, ax)
    ax.set_title(f"after {upto:,} steps: loss {on_the_way[-1][1]:.3f}")
table(["steps", "loss", "accuracy"], on_the_way, digits=3)
save(figure, run.out / "01_boundary.png", thumbnail=axes[2])
