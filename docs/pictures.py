"""The chapters' own pictures: ``python docs/pictures.py``, or some of them: ``python docs/pictures.py start sweep``.

They are written to docs/results, like those of the demos. What a chapter draws by its own code is drawn by that code.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import microgradopt as mg

DOCS = Path(__file__).parent
RESULTS = DOCS / "results"
SHADES = ("#0072b2", "#e69f00", "#009e73")


def chapter(name: str) -> dict[str, Any]:
    """The variables of a chapter, after its code has run."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "docs"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec("\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)), names)
    return names


def save(name: str) -> None:
    """The current figure."""
    plt.gcf().savefig(RESULTS / f"{name}.png", dpi=110)
    plt.close("all")


def draw(drawing: Any, name: str) -> None:
    """A drawing, as SVG."""
    drawing.render(RESULTS / name, format="svg", cleanup=True)


# The pictures ---------------------------------------------------------------------------------------------------------


def start() -> None:
    """The surface with both ways, and the computation of L, as the chapter's code draws them."""
    names = chapter("start")
    names["ax"].set(title="The lecture's net: $L = (1 - w_1 w_2)^2$")
    save("start")
    draw(names["drawing"], "start_graph")


def tensors() -> None:
    """The computation that the first block of the chapter records."""
    x = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = np.tanh(x) * x
    draw(mg.draw(y, names={"x": x, "y": y}), "record")


def rules() -> None:
    """A row is added to every row of a table, and its gradient is the sum over the rows."""
    _, axes = plt.subplots(1, 2, figsize=(10, 2.9), layout="constrained", width_ratios=(11.8, 7.8))
    x, b, g = np.arange(12.0).reshape(4, 3), np.array([[10.0, 20.0, 30.0]]), np.array([[1.0, 2.0, 0.0]] * 4)
    g[2] = 5
    _tables(axes[0], ("x (4, 3)", x), "+", ("b (3,), used 4 times", b), "=", ("z (4, 3)", x + b))
    axes[0].set_title("forward: b is copied to every row")
    _tables(axes[1], ("gradient of z (4, 3)", g), "→", ("gradient of b (3,)", g.sum(axis=0, keepdims=True)))
    axes[1].set_title("backward: the shares of all copies are summed")
    save("broadcast")


def _tables(ax: Any, *parts: Any) -> None:
    """Arrays as tables of numbers beside each other, with signs between them."""
    left = 0.0
    for part in parts:
        if isinstance(part, str):
            ax.text(left + 0.2, 2, part, fontsize=16, ha="center", va="center")
            left += 0.8
            continue
        name, array = part
        top = 2 + len(array) / 2
        for (i, j), value in np.ndenumerate(array):
            ax.add_patch(plt.Rectangle((left + j, top - i - 1), 1, 1, facecolor="#d6e4f0", edgecolor="black"))
            ax.text(left + j + 0.5, top - i - 0.5, f"{value:g}", ha="center", va="center")
        ax.text(left + array.shape[1] / 2, -0.5, name, ha="center", va="center", fontsize="small")
        left += array.shape[1] + 0.4
    ax.set(xlim=(-0.2, left), ylim=(-0.9, 4.2), aspect="equal")
    ax.axis("off")


def sweep() -> None:
    """The diamond, with the gradients; and in which order the cotangents come."""
    a = mg.Tensor(1.0, requires_grad=True)
    b = a + a
    c = b + b
    c.backward()
    draw(mg.draw(c, names={"a": a, "b": b, "c": c}, style="scalar"), "diamond")


def higher() -> None:
    """x³, the graph of its derivative, and the graph of the derivative of that."""
    x = mg.Tensor(2.0, requires_grad=True)
    y = x * x * x
    (slope,) = mg.grad(y, x, create_graph=True)
    draw(mg.draw(slope, names={"x": x, "y": y, "slope": slope}), "second")


def speed() -> None:
    """A whole training step beside others', as docs/benchmarks.md has it."""
    lines = (DOCS / "benchmarks.md").read_text(encoding="utf-8").splitlines()
    header = next(line for line in lines if "÷ hand-written NumPy" in line).split("|")
    columns = {name: header.index(f" ÷ {name} ") for name in ("hand-written NumPy", "torch eager", "jax.jit")}
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained", sharex=True, sharey=True)
    for ax, title in zip(axes, ("training step", "training step, compiled"), strict=True):
        rows = [line.split("|") for line in lines if line.startswith(f"| {title}: ") and "float64" in line]
        for i, (name, column) in enumerate(columns.items()):
            ratios = [float(row[column]) for row in rows]
            ax.barh(np.arange(len(rows)) + 0.25 * i, ratios, 0.22, label=f"÷ {name}", color=SHADES[i])
        ax.axvline(1, color="black", linewidth=0.8, linestyle=":")
        ax.set_yticks(np.arange(len(rows)) + 0.25, [row[1].split(": ")[1].split(",")[0] for row in rows])
        ax.set(title=title, xlabel="time ÷ that of the other: left of the line we are quicker")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    save("speed")


def scipy_bridge() -> None:
    """The error of differences by their step; and error against time, from the table in the chapter."""
    _, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    x, steps = np.linspace(0.1, 2, 20)[:, None], np.logspace(-14, 0, 100)

    def f(x: Any) -> Any:
        return np.exp(np.sin(x))

    precise = x.astype(np.longdouble)
    slope = np.cos(precise) * f(precise)
    differences = {"forward": (f(x + steps) - f(x)) / steps, "central": (f(x + steps) - f(x - steps)) / (2 * steps)}
    for (name, found), color in zip(differences.items(), SHADES[1:], strict=False):
        left.loglog(steps, np.abs(found / slope - 1).max(axis=0), label=f"{name} difference", color=color)
    exact = mg.derivatives.gradient(lambda x: np.sum(f(x)))(x)
    left.axhline(np.abs(exact / slope - 1).max(), label="exact", color=SHADES[0])
    left.set(xlabel="step h", ylabel="largest relative error", title="the derivative of $e^{\\sin x}$, at 20 points")
    left.legend(loc="lower left", bbox_to_anchor=(0, 0.08))
    _times_and_errors(right)
    save("scipy")


def _times_and_errors(ax: Any) -> None:
    """Each tool's gradients and Hessians, from the table in docs/scipy.md."""
    lines = [line.split("|")[1:-1] for line in (DOCS / "scipy.md").read_text(encoding="utf-8").splitlines()]
    header = next(line for line in lines if line[:1] == [" function "])
    rows = [line for line in lines if line[1:2] in ([" gradient "], [" Hessian "])]
    units = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}
    for column, color in zip(range(2, len(header)), (*SHADES, "#d55e00", "#cc79a7"), strict=False):
        for kind, marker in ((" gradient ", "o"), (" Hessian ", "s")):
            cells = [row[column].split(" · ") for row in rows if row[1] == kind]
            times = [float(time.split()[0]) * units[time.split()[1]] for _, _, time in cells]
            label = header[column].strip() if marker == "o" else None
            ax.loglog(times, [float(error) for error, _, _ in cells], marker, color=color, label=label, alpha=0.8)
    ax.set(xlabel="seconds", ylabel="largest relative error", title="the table: gradients ●, Hessians ■")
    ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


PICTURES: dict[str, Callable[[], None]] = {
    found.__name__: found for found in (start, tensors, rules, sweep, higher, speed, scipy_bridge)
}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or PICTURES:
        PICTURES[wanted]()
