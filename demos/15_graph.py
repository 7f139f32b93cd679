# %% [markdown]
# # One graph, four readers
#
# A tensor remembers the NumPy call that made it, so what was computed is there to be read. Four readers read it: one
# goes back through it for gradients, one draws it, one prints it as plain NumPy, one runs that print.
#
#     python demos/graph.py            half a minute: pictures, a page to step through, programs, a table of times
#     python demos/graph.py --quick    a few seconds
"""Draw a neuron and a network, forward and backward; step through; print as NumPy; compile."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import microgradopt as mg
from microgradopt import nn, optim

# %% [markdown]
# ## A neuron, as micrograd draws it
#
# Every number with its data and its gradient; after the backward pass, for before there is none: "not computed".


# %%
def neuron(out: Path) -> None:
    """Draw it, and make the page that steps through it."""
    x1, x2, w1, w2, b = (mg.Tensor(v, requires_grad=True) for v in (2.0, 0.0, -3.0, 1.0, 6.8813735870195432))
    n = x1 * w1 + x2 * w2 + b
    o = np.tanh(n)
    o.backward()
    save(mg.draw(o, names=locals(), style="scalar"), out / "neuron")
    mg.explain(o, out / "neuron.html", names=locals(), optimizer=optim.SGD([w1, w2, b], lr=0.1))


# %% [markdown]
# ## A network, by its modules: forward, its gradient, and a Hessian-vector product
#
# With `create_graph=True` the sweep records what it does: the gradient is a graph of its own (dashed), and going back
# through that gives second derivatives (dotted). Look how the forward values are used again on the way back.


# %%
def network(out: Path, seed: int) -> tuple[nn.MLP, np.ndarray, np.ndarray]:
    """Draw all three."""
    rng = np.random.default_rng(seed)
    model = nn.MLP((4, 8, 3), nn.Tanh, rng=rng)
    X, y = rng.normal(size=(16, 4)), rng.integers(0, 3, 16)
    loss = nn.cross_entropy(model(X), y)
    names = {"model": model, "X": X, "loss": loss}
    save(mg.draw(loss, names), out / "network")
    save(mg.draw(loss, names, depth=1), out / "network_folded")
    parameters = list(model.parameters())
    gradients = mg.grad(loss, parameters, create_graph=True)
    save(mg.draw(gradients, names), out / "network_gradient")
    along = [rng.normal(size=p.shape) for p in parameters]
    slope = sum((g * v).sum() for g, v in zip(gradients, along, strict=True))
    product = mg.grad(slope, parameters, create_graph=True)
    save(mg.draw(product, names), out / "network_hvp")
    print(mg.trace(product, names=names))
    return model, X, y


def save(drawing: mg.Drawing, path: Path) -> None:
    """As a picture for pages, and as one for printing."""
    for kind in ("svg", "png"):
        drawing.render(path, format=kind, cleanup=True)


# %% [markdown]
# ## The program
#
# The same engine, run on values that write down each call, gives the program that it executed: textbook
# backpropagation, which needs nothing but NumPy.


# %%
def program(model: nn.MLP, X: np.ndarray, y: np.ndarray, out: Path) -> str:
    """Print the gradient as NumPy, and try it with NumPy alone."""

    def gradient(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        return mg.grad(nn.cross_entropy(model(x), y), list(model.parameters()))

    text = mg.source(gradient, X, y)
    (out / "gradient.txt").write_text(text, encoding="utf-8")
    print(text)
    alone: dict[str, Callable[..., list[np.ndarray]]] = {}
    exec(text, alone)  # type: ignore[arg-type]
    same = all(map(np.array_equal, alone["gradient"](**text.inputs), gradient(X, y)))
    print(f"the same bits as the engine's: {same}\n")
    return text


# %% [markdown]
# ## The same program, called
#
# `mg.compile` keeps it and calls it: Python's share of the time is gone, NumPy's is left.


# %%
def times(rounds: int) -> list[tuple[str, float]]:
    """A training step by three networks: how many times as quick compiled."""
    found = []
    for sizes, batch in (((2, 16, 16, 1), 32), ((64, 32, 10), 64), ((784, 128, 10), 128)):
        rng = np.random.default_rng(0)
        model = nn.MLP(sizes, nn.Tanh, rng=rng)
        X, y = rng.normal(size=(batch, sizes[0])), rng.normal(size=(batch, sizes[-1]))
        optimizer = optim.Adam(model.parameters())

        def step(model: nn.MLP = model, X: np.ndarray = X, y: np.ndarray = y, by: optim.Adam = optimizer) -> mg.Tensor:
            by.zero_grad()
            loss = nn.mse_loss(model(X), y)
            loss.backward()
            by.step()
            return loss

        compiled = mg.compile(step)
        ratios = [seconds(step) / seconds(compiled) for _ in range(rounds)]
        cost = compiled.cost
        name = "-".join(map(str, sizes))
        found.append((name, statistics.median(ratios)))
        print(f"{name:12} {found[-1][1]:4.1f} times as quick; {cost.operations} operations, {cost.flops:,} flop")
    return found


def seconds(run: Callable[[], mg.Tensor], runs: int = 20) -> float:
    """For one call, after one to warm up."""
    run()
    started = time.perf_counter()
    for _ in range(runs):
        run()
    return (time.perf_counter() - started) / runs


# %%
def main(arguments: Sequence[str] | None = None) -> tuple[str, list[tuple[str, float]]]:
    """All of it. Returns the printed program and the speed-ups."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds of timing")
    parser.add_argument("--seed", type=int, default=0, help="of the network and its data")
    parser.add_argument("--out", type=Path, default=Path("demos/out"), help="where pictures go")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    neuron(options.out)
    text = program(*network(options.out, options.seed), options.out)
    found = times(1 if options.quick else 15)
    print(f"\npictures, programs and the page to step through are in {options.out}")
    return text, found


if __name__ == "__main__":
    main()
