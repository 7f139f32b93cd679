"""What `critical.prove` proves, and how long it takes.

python tests/critical/proved.py                        prints the table
python tests/critical/proved.py --write docs/proof.md  and puts it into the docs
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from truths import HIMMELBLAU, himmelblau, lecture, rosenbrock

from microgradopt import Objective, critical, nn, optim
from microgradopt.training import trajectory

BEGIN, END = "<!-- proved -->", "<!-- /proved -->"
NIST = json.loads((Path(__file__).parents[1] / "optim" / "nist.json").read_text())


def functions() -> Iterator[Objective]:
    for decay, theta in ((0.0, 0.0), (0.3, 0.0), (0.3, 0.7**0.5), (0.3, -(0.7**0.5)), (3.0, 0.0)):
        yield Objective(lambda w, decay=decay: lecture(w, decay), [theta, theta])
    yield Objective(rosenbrock, [1.0, 1.0])


def nine_points() -> Iterator[Objective]:
    for points in HIMMELBLAU.values():
        yield from (Objective(himmelblau, theta) for theta in points)


def nist() -> Iterator[Objective]:
    for d in NIST.values():
        x, y, model = np.array(d["x"]), np.array(d["y"]), eval("lambda b, x: " + d["model"], {"np": np})
        yield Objective(lambda b, x=x, y=y, model=model: np.sum((model(b, x) - y) ** 2), d["certified"])


def net(sizes: tuple[int, ...], samples: int, loss: str, decay: float) -> Objective:
    """A tanh net with decay, trained to a minimum."""
    X = np.random.default_rng(0).normal(size=(samples, sizes[0]))
    model, target = nn.MLP(sizes, nn.Tanh, rng=0), np.sin(2 * X[:, :1]) * X[:, -1:]

    def value():
        out = model(X)
        fit = nn.mse_loss(out, target) if loss == "squares" else nn.cross_entropy(out, (target[:, 0] > 0).astype(int))
        return fit + decay * sum((p * p).sum() for p in model.parameters())

    objective = Objective.of(model, value)
    trajectory(objective, optim.LBFGS(objective.parameters), 100)
    trajectory(objective, optim.Newton(objective.parameters), 60)
    return objective


SETS = {
    "the lecture's net, with and without decay; Rosenbrock": lambda: list(functions()),
    "Himmelblau's nine points": lambda: list(nine_points()),
    "NIST's 27 regression problems, at their certified values": lambda: list(nist()),
    "a 1-3-1 tanh net, 30 samples, squares, decay 1e-3": lambda: [net((1, 3, 1), 30, "squares", 1e-3)],
    "a 2-4-2 tanh net, 20 samples, cross-entropy, decay 1e-2": lambda: [net((2, 4, 2), 20, "entropy", 1e-2)],
    "a 4-16-1 tanh net, 97 parameters, 100 samples, decay 1e-2": lambda: [net((4, 16, 1), 100, "squares", 1e-2)],
}  # fmt: skip


def table() -> str:
    lines = ["| points | proved | half widths of the boxes | seconds for each |", "|---|---:|---:|---:|"]
    for name, make in SETS.items():
        proofs, seconds = [], []
        for objective in make():
            started = time.perf_counter()
            proofs.append(critical.prove(objective))
            seconds.append(time.perf_counter() - started)
        widths = [float(proof.radius.max()) for proof in proofs if proof.proved]
        spread = f"{min(widths):.2g}" + (f" to {max(widths):.2g}" if len(widths) > 1 else "")
        lines.append(f"| {name} | {len(widths)} of {len(proofs)} | {spread} | {np.mean(seconds):.2g} |")
    return "\n".join(lines)


def picture(path: Path) -> None:
    """Himmelblau's function, and around each critical point the box in which there is no other."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from microgradopt import plots

    figure = Figure(figsize=(6.4, 5.2), dpi=110, layout="constrained")
    ax = figure.add_subplot()
    a, b = np.meshgrid(np.linspace(-5, 5, 200), np.linspace(-5, 5, 200))
    ax.contour(a, b, himmelblau(np.stack([a, b])), levels=np.geomspace(1, 600, 16), colors="0.75", linewidths=0.8)
    for objective in nine_points():
        proof = critical.prove(objective)
        colour = {"local minimum": "tab:blue", "saddle point": "tab:orange", "local maximum": "tab:red"}[proof.kind]
        corner, width = proof.theta - proof.radius, 2 * proof.radius
        first = proof.kind not in ax.get_legend_handles_labels()[1]
        ax.add_patch(Rectangle(corner, *width, fill=False, edgecolor=colour, linewidth=1.5, zorder=3))
        ax.plot(*proof.theta, plots.MARKERS.get(proof.kind, "s"), color=colour, label=proof.kind if first else None)
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    ax.set_aspect("equal")
    ax.set_title("In each box there is one critical point, and only one: proved")
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a file with the two markers, between which the table goes")
    parser.add_argument("--picture", type=Path, help="where to draw the nine boxes; then there is no table")
    arguments = parser.parse_args()
    if arguments.picture:
        picture(arguments.picture)
        return
    text = table()
    print(text)
    if arguments.write:
        before, rest = arguments.write.read_text().split(BEGIN)
        arguments.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
