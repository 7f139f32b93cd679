"""
One graph, four readers: draw it, step through it, print it, run it
===================================================================

A tensor remembers the NumPy call that made it, so what was computed is there to be read. Four readers read it: one goes
back through it for gradients, one draws it, one prints it as plain NumPy, one runs that print.

A few seconds: ``python demos/15_graph.py``
"""

import numpy as np
from lab import options, seconds, table

import microgradopt as mg
from microgradopt import nn, optim

# sphinx_gallery_thumbnail_path = "results/network_folded.png"
run = options(__doc__)


def save(drawing, name):
    """As a picture for pages, and as one for printing."""
    for kind in ("svg", "png"):
        drawing.render(run.out / name, format=kind, cleanup=True)


# %%
# A neuron, as micrograd draws it
# -------------------------------
#
# Every number with its data and its gradient; after the backward pass, for before there is none: "not computed". And a
# page to step through, with an optimizer's step at the end: open neuron.html.

x1, x2, w1, w2, b = (mg.Tensor(v, requires_grad=True) for v in (2.0, 0.0, -3.0, 1.0, 6.8813735870195432))
n = x1 * w1 + x2 * w2 + b
o = np.tanh(n)
o.backward()
neuron = {"x1": x1, "x2": x2, "w1": w1, "w2": w2, "b": b, "n": n, "o": o}
save(mg.draw(o, names=neuron, style="scalar"), "neuron")
mg.explain(o, run.out / "neuron.html", names=neuron, optimizer=optim.SGD([w1, w2, b], lr=0.1))

# %%
# A network by its modules: forward, its gradient, a Hessian-vector product
# -------------------------------------------------------------------------
#
# With ``create_graph=True`` the sweep records what it does: the gradient is a graph of its own (dashed), and going back
# through that gives second derivatives (dotted). Look how the forward values are used again on the way back.

rng = np.random.default_rng(run.seed)
model = nn.MLP((4, 8, 3), nn.Tanh, rng=rng)
X, y = rng.normal(size=(16, 4)), rng.integers(0, 3, 16)
loss = nn.cross_entropy(model(X), y)
names = {"model": model, "X": X, "loss": loss}
save(mg.draw(loss, names), "network")
save(mg.draw(loss, names, depth=1), "network_folded")
parameters = list(model.parameters())
gradients = mg.grad(loss, parameters, create_graph=True)
save(mg.draw(gradients, names), "network_gradient")
along = [rng.normal(size=p.shape) for p in parameters]
slope = sum((g * v).sum() for g, v in zip(gradients, along, strict=True))
product = mg.grad(slope, parameters, create_graph=True)
save(mg.draw(product, names), "network_hvp")
print(mg.trace(product, names=names))

# %%
# A loop, drawn once; and an error, with the picture of what led to it
# --------------------------------------------------------------------
#
# Fifty steps of a recurrent network are one cell, "× 50"; bold arrows lead from one turn to the next. And where a
# forward pass fails, `draw_on_error` shows the call that failed, and what it was made with.

into, over = nn.Linear(3, 4, rng=rng), nn.Linear(4, 4, rng=rng)
h = np.zeros((2, 4))
for x in rng.normal(size=(50, 2, 3)):
    h = np.tanh(into(x) + over(h))
save(mg.draw((h * h).mean(), names={"into": into, "over": over}), "recurrent")
try:
    with mg.draw_on_error() as wrong:
        nn.cross_entropy(nn.Sequential(nn.Linear(4, 8, rng=rng), nn.Tanh(), nn.Linear(10, 3, rng=rng))(X), y)
except ValueError as error:
    print(error)
save(wrong.drawing, "wrong")

# %%
# The program
# -----------
#
# The same engine, run on values that write down each call, gives the program that it executed: textbook
# backpropagation, which needs nothing but NumPy.


def gradient(x, y):
    """By the parameters."""
    return mg.grad(nn.cross_entropy(model(x), y), parameters)


text = mg.source(gradient, X, y)
(run.out / "gradient.txt").write_text(text, encoding="utf-8")
print(text)
alone = {}
exec(text, alone)
same = all(map(np.array_equal, alone["gradient"](**text.inputs), gradient(X, y)))
print(f"the same bits as the engine's: {same}\n")

# %%
# The same program, called
# ------------------------
#
# ``mg.compile`` keeps it and calls it: Python's share of the time is gone, NumPy's is left. A whole training step of
# three networks, with Adam; medians of as many rounds.

rounds = 1 if run.quick else 9
rows = []
for sizes, batch in (((2, 16, 16, 1), 32), ((64, 32, 10), 64), ((784, 128, 10), 128)):
    net = nn.MLP(sizes, nn.Tanh, rng=run.seed)
    inputs, targets = rng.normal(size=(batch, sizes[0])), rng.normal(size=(batch, sizes[-1]))
    adam = optim.Adam(net.parameters())

    def step(net=net, inputs=inputs, targets=targets, adam=adam):
        """Forward, backward, update."""
        adam.zero_grad()
        loss = nn.mse_loss(net(inputs), targets)
        loss.backward()
        adam.step()
        return loss

    compiled = mg.compile(step)
    ratio = np.median([seconds(step, 0.05) / seconds(compiled, 0.05) for _ in range(rounds)])
    rows.append(("-".join(map(str, sizes)), batch, ratio, compiled.cost.operations, f"{compiled.cost.flops:,}"))
table(["network", "batch", "times as quick compiled", "operations", "floating-point operations"], rows, digits=2)
print(f"pictures, the program and the page to step through are in {run.out}")
