"""
Why is my loss stuck? Two networks on digits, two reasons, two ways out
=======================================================================

The first network starts with all its hidden units the same, and comes to rest at a saddle. The second has a learning
rate that is too large, and bounces while its gradient stays as large as ever. Both losses are flat;
``critical.diagnose`` tells them apart, and its advice is followed.

Half a minute: ``python demos/14_stuck.py``
"""

from dataclasses import dataclass, field

import numpy as np
from lab import Data, digits, options, panels, save

import microgradopt as mg
from microgradopt import Objective, critical, nn, optim, plots
from microgradopt.training import History, accuracy, trajectory

run = options(__doc__)
images, updates, rounds = (200, 300, 6) if run.quick else (1257, 500, 6)
train, _ = digits(run.seed, train=images)

# %%
# A network in training
# ---------------------
#
# On all its data at once, with a penalty ‖θ‖²/100, which gives the surface a bottom that can be reached. To ask is to
# hand over loss, optimizer and history; to follow the advice is to take the θ or the learning rate that it names.


@dataclass
class Training:
    """A network 64-16-10, its optimizer, and where it was advised."""

    model: nn.Module
    optimizer: optim.Optimizer
    data: Data
    history: History = field(default_factory=History)
    advised: list = field(default_factory=list)

    def __post_init__(self):
        self.objective = Objective.of(self.model, self.loss, compile=mg.compile)

    def loss(self):
        """Cross-entropy and the penalty."""
        penalty = 0.01 * sum(np.sum(p * p) for p in self.model.parameters())
        return nn.cross_entropy(self.model(self.data.X), self.data.y) + penalty

    def go_on(self):
        """So many updates more."""
        trajectory(self.objective, self.optimizer, updates, self.history)

    def ask(self):
        """Diagnose, and do as advised."""
        found = critical.diagnose(self.objective, self.optimizer, self.history)
        right = accuracy(self.model(self.data.X), self.data.y)
        print(f"after {len(self.history)} updates, accuracy {right:.1%}: {found}\n")
        self.advised.append((len(self.history), found))
        if found.theta is not None:
            self.objective.theta = found.theta
        if found.lr is not None:
            self.optimizer.param_groups[0]["lr"] = found.lr
        return found


# %%
# A saddle
# --------
#
# All 16 hidden units have the weights of the first one. They get the same gradient, and stay 16 copies of one unit.

model = nn.MLP((64, 16, 10), nn.Tanh, rng=run.seed)
first, bias, second, _ = model.parameters()
first.data = np.broadcast_to(first.data[:1], first.shape)
bias.data = np.broadcast_to(bias.data[:1], bias.shape)
second.data = np.broadcast_to(second.data[:, :1], second.shape)
saddle = Training(model, optim.SGD(model.parameters(), lr=0.5, momentum=0.9), train)
saddle.go_on()
point = critical.classify(saddle.objective, dense_up_to=400 if run.quick else 2000)
print(f"Sixteen copies of one unit:\n{point}\n")
for _ in range(rounds):
    if saddle.ask().verdict != "saddle point":
        break
    saddle.go_on()

# %%
# A learning rate that is too large
# ---------------------------------

model = nn.MLP((64, 16, 10), nn.Tanh, rng=run.seed)
leaping = Training(model, optim.SGD(model.parameters(), lr=3.0), train)
for _ in range(2):
    leaping.go_on()
    leaping.ask()

# %%
# Both losses were flat
# ---------------------
#
# Left, the gradient went to 0: a saddle. Middle, it did not: bouncing. Right, the eigenvalues at the saddle.

figure, axes = panels(1, 3)
for ax, training, title in ((axes[0], saddle, "Copies of one unit"), (axes[1], leaping, "lr = 3")):
    plots.history(training.history, ax)
    for step, found in training.advised:
        ax.axvline(step, color="black", linewidth=0.7, linestyle=":")
        ax.annotate(f"{found.verdict} ", (step, 0.55), xycoords=("data", "axes fraction"), fontsize=8, ha="right")
    ax.set_title(title)
plots.spectrum(point, axes[2])
save(figure, run.out / "14_stuck.png")
