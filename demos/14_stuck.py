"""
Why is my loss stuck? Two networks on digits, two reasons, two ways out
=======================================================================

The first network starts with all its hidden units the same, and comes to rest at a saddle. The second has a learning
rate that is too large, and goes to and fro while its gradient stays as large as ever. Both losses are flat;
``critical.diagnose`` tells them apart by trying things on copies, and its cure is followed.

Half a minute: ``python demos/14_stuck.py``
"""

import numpy as np
from lab import digits, options, panels, save

from microgradopt import critical, nn, optim, plots
from microgradopt.training import Run, accuracy

# sphinx_gallery_thumbnail_path = "results/14_stuck_thumbnail.png"
run = options(__doc__)
images, updates = (200, 300) if run.quick else (1257, 500)
train, _ = digits(run.seed, train=images)

# %%
# A network in training
# ---------------------
#
# A net 64-16-10 on all its data at once, with a penalty ‖θ‖²/100, which gives the surface a bottom that can be reached.
# A `Run` is all that a training is made of, so the diagnosis can change each part and see what that does.


def training(model, lr, momentum=0.0):
    """The network in training, stuck after so many updates."""

    def loss(scores, labels):
        return nn.cross_entropy(scores, labels) + 0.01 * sum(np.sum(p * p) for p in model.parameters())

    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    return Run(model, loss, optimizer, train.X, train.y).train(updates)


def ask(stuck):
    """The diagnosis; and the run that goes on as it says, for as many updates."""
    found = critical.diagnose(stuck)
    print(f"after {len(stuck)} updates, accuracy {accuracy(stuck.model(train.X), train.y):.1%}: {found}\n")
    cured = found.cure().train(updates)
    print(
        f"{updates} updates later: loss {cured.value():.4f}, accuracy {accuracy(cured.model(train.X), train.y):.1%}\n"
    )
    return found, cured


# %%
# Sixteen copies of one unit
# --------------------------
#
# All hidden units have the weights of the first one. They get the same gradient, and stay 16 copies of one unit: what
# such a network comes to is a saddle of the whole loss, and the way out leads to units that differ.

model = nn.MLP((64, 16, 10), nn.Tanh, rng=run.seed)
first, bias, second, _ = model.parameters()
first.data = np.broadcast_to(first.data[:1], first.shape)
bias.data = np.broadcast_to(bias.data[:1], bias.shape)
second.data = np.broadcast_to(second.data[:, :1], second.shape)
copies = training(model, lr=0.5, momentum=0.9)
point = critical.classify(copies.objective, dense_up_to=400 if run.quick else 2000)
print(f"Sixteen copies of one unit:\n{point}\n")
alike = ask(copies)

# %%
# A learning rate that is too large
# ---------------------------------

bouncing = training(nn.MLP((64, 16, 10), nn.Tanh, rng=run.seed), lr=3.0)
too_large = ask(bouncing)

# %%
# Both losses were flat
# ---------------------
#
# Left of the dotted line is what happened; right of it every experiment, from the same place. Going on as before is
# black, the cure red. Right, the eigenvalues of the Hessian where the sixteen copies came to rest.

figure, axes = panels(1, 3, height=4.2)
for ax, (found, _), title in ((axes[0], alike, "Copies of one unit"), (axes[1], too_large, "lr = 3")):
    plots.diagnosis(found, ax)
    ax.set_title(f"{title}: {found.verdict}")
plots.spectrum(point, axes[2])
axes[2].set_title(f"Copies of one unit: {point.kind}")
save(figure, run.out / "14_stuck.png", thumbnail=axes[1])
