# %% [markdown]
# # The lecture's net: an error surface, its critical points, and the way off a saddle
#
# The smallest network that has a saddle: y = w₁ · w₂ · x, one sample x = 1, y = 1, L = (1 − w₁ w₂)² (lecture L1, L2).
#
#     python demos/error_surface.py            a few seconds
#     python demos/error_surface.py --quick    the same with a coarser picture
"""The lecture's net w1·w2·x: its error surface, its points classified, the escape from the saddle drawn."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from microgradopt import Objective, critical, optim, plots

# %% [markdown]
# The loss, as a function of θ = (w₁, w₂).

# %%
LEVELS = (0, 0.02, 0.1, 0.25, 0.5, 0.8, 1, 1.25, 1.6, 2.2, 3, 4.5, 7, 10)
net = Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0])


# %% [markdown]
# Gradient descent started on the line w₁ = −w₂ walks into the saddle, and stays: on that line it is the lowest point.


# %%
def descended(start: list[float], lr: float = 0.1, steps: int = 60) -> list[np.ndarray]:
    """The path of gradient descent."""
    net.theta = start
    optimizer = optim.SGD(net.parameters, lr=lr)
    thetas = [net.theta]
    for _ in range(steps):
        for parameter, g in zip(net.parameters, net.vector.split(net.gradient()), strict=True):
            parameter.grad = g
        optimizer.step()
        thetas.append(net.theta)
    return thetas


def picture(points: list[critical.CriticalPoint], into: list, out_of: list, resolution: int, path: Path) -> None:
    """The surface with the points and both paths; and the slice through the saddle along the way out."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.6), layout="constrained")
    plots.surface(net, extent=(-2.2, 2.2, -2.2, 2.2), resolution=resolution, levels=LEVELS, ax=left)
    plots.path(into, left, label="gradient descent, into the saddle")
    plots.path(out_of, left, color="#c0392b", label="the way out")
    plots.mark(points, left)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize="small")
    left.set_title("L = (1 − w₁w₂)²")
    saddle = points[0]
    plots.slice_along(net, saddle.theta, saddle.eigenvectors[:, 0], (-1.8, 1.8), ax=right)
    right.set_title("Through the saddle, along the eigenvector of λ = −2")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> tuple[list[critical.CriticalPoint], critical.Escape]:
    """Walk into the saddle, classify, walk out, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a coarser picture")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args(arguments)

    into = descended([0.9, -0.9])
    print(f"Gradient descent from (0.9, −0.9) ends at ({into[-1][0]:.1e}, {into[-1][1]:.1e}), loss {net.value():.4f}.")
    print(critical.diagnose(net), "\n")

    points = [critical.classify(net, theta) for theta in ([0.0, 0.0], [1.0, 1.0], [2.0, 0.5], [-1.0, -1.0])]
    for point in points:
        print(f"({point.theta[0]:g}, {point.theta[1]:g}): {point}\n")

    way = points[0].escape()
    s = way.step
    print(f"From the origin, {way}.")
    print(f"By the formula, a step of s lowers it by s² − s⁴/4 = {s**2 - s**4 / 4:.6f}; measured: {way.measured:.6f}.")
    path = options.out / "error_surface.png"
    picture(points, into, [points[0].theta, way.theta], 31 if options.quick else 121, path)
    print(f"\nThe picture: {path}")
    return points, way


# %%
if __name__ == "__main__":
    main()
