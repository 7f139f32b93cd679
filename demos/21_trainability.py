"""
The boundary of trainability (curvature, and many runs at once)
===============================================================

Gradient descent with too large a learning rate diverges. Where does "too large" begin? Near a minimum the answer is a
line: η < 2/λ_max. Over a whole training it is not: each layer of a small network gets a learning rate of its own, and
each pixel of the picture is one training of 500 updates. The edge between those that converge and those that diverge
has structure at every scale that was looked at (Sohl-Dickstein 2024 found it a fractal).

Two to three minutes with Numba, five without: ``python demos/21_trainability.py``
"""

import functools
import importlib.util
import time

import numpy as np
from lab import options, panels, save, table
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

import microgradopt as mg
from microgradopt import critical, nn, optim, training

# sphinx_gallery_thumbnail_path = "results/21_trainability_thumbnail.png"
run = options(__doc__)
pixels, updates = (32, 60) if run.quick else (512, 500)
tile = 16_384  # trainings in one call: their losses fit into memory

has_numba = importlib.util.find_spec("numba") is not None
engine = functools.partial(mg.compile, engine="numba" if has_numba else "numpy")

# %%
# One training
# ------------
#
# A net 8-8-1 with tanh, 8 samples, squared error, all data in each update. Two groups of parameters: the first layer
# has the learning rate η₁, the second one η₂.

rng = np.random.default_rng(run.seed)
X, y = rng.normal(size=(8, 8)), rng.normal(size=(8, 1))
model = nn.MLP((8, 8, 1), nn.Tanh, rng=run.seed)
parameters = list(model.parameters())
layers = [{"params": parameters[:2]}, {"params": parameters[2:]}]
sgd = training.Run(model, nn.mse_loss, optim.SGD(layers), X, y)
at_start = sgd.value()

# %%
# A picture of trainings
# ----------------------
#
# Each is written as one number: how fast it converged, the mean over the updates of loss / loss at the start, as −log;
# or, where it diverged (the loss is not finite, or above that at the start in the end), minus the part of the updates
# that it took to get there.


def outcome(window):
    """A square of trainings. window: log10 of η₁ from, to, and of η₂ from, to."""
    first, second = np.meshgrid(np.linspace(*window[:2], pixels), np.linspace(*window[2:], pixels))
    rates = 10.0 ** np.stack([first.ravel(), second.ravel()], axis=1)
    parts = [score(rates[i : i + tile]) for i in range(0, len(rates), tile)]
    return np.concatenate(parts).reshape(pixels, pixels)


def score(rates):
    """Above 0 where training converged, below 0 where it diverged."""
    found = training.vary(sgd, updates, lr=rates, compile=engine)
    relative = found.losses / at_start
    high = ~(relative <= 1e3)  # or NaN
    left = np.where(high.any(axis=0), high.argmax(axis=0), updates) / updates
    with np.errstate(invalid="ignore"):
        converged = (found.updates == updates) & (relative[-1] < 1)
        speed = -np.log10(np.clip(relative, 1e-12, 1).mean(axis=0))
    return np.where(converged, np.maximum(speed, 1e-3), -np.maximum(left, 1e-3))


def edge(picture):
    """The pixels that converged beside one that did not."""
    converged = picture > 0
    other = np.zeros_like(converged)
    other[:, 1:] |= converged[:, 1:] != converged[:, :-1]
    other[1:] |= converged[1:] != converged[:-1]
    return other


def closer(window, picture, times=8):
    """A window as many times smaller, where the edge has most pixels."""
    size = pixels // times
    counts = edge(picture)[: size * times, : size * times].reshape(times, size, times, size).sum(axis=(1, 3))
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    wide, high = (window[1] - window[0]) / times, (window[3] - window[2]) / times
    left, low = window[0] + column * wide, window[2] + row * high
    return (left, left + wide, low, low + high)


started = time.perf_counter()
windows = [(-2.0, 0.0, -1.5, 0.5)]
pictures = [outcome(windows[0])]
for _ in range(2):
    windows.append(closer(windows[-1], pictures[-1]))
    pictures.append(outcome(windows[-1]))
seconds = time.perf_counter() - started
print(f"{3 * pixels**2:,} trainings of {updates} updates in {seconds:.0f} s, by {'Numba' if has_numba else 'NumPy'}\n")

# %%
# What curvature says
# -------------------
#
# With D = diag(η₁, …, η₂, …), gradient descent is stable at a minimum while λ_max(D^½ H D^½) < 2. H is that of a
# minimum: where a training with small rates ends.

small = training.fit(model, nn.mse_loss, optim.SGD(parameters, lr=0.05), X, y, epochs=300 if run.quick else 20_000)
point = critical.classify(small.objective)
H = small.objective.hessian()
first_layer = np.arange(len(H)) < sum(p.size for p in parameters[:2])


def sharpness(log_rates):
    """λ_max(D^½ H D^½) for these log10 η₁, η₂."""
    root = np.sqrt(np.where(first_layer, 10.0 ** log_rates[0], 10.0 ** log_rates[1]))
    return np.linalg.eigvalsh(root[:, None] * H * root)[-1]


grids = np.linspace(-2, 0, 41), np.linspace(-1.5, 0.5, 41)
stable = np.array([[sharpness((a, b)) for a in grids[0]] for b in grids[1]])

# %%
# How rough is the edge?
# ----------------------
#
# Cover the edge with boxes of b pixels: the number of boxes grows like b⁻ᵈ. A smooth curve has d = 1.

boxes = [b for b in (1, 2, 4, 8, 16, 32) if b <= pixels // 8]


def dimension(picture):
    """The slope of the number of boxes against their size."""
    marked = edge(picture)
    counts = [marked.reshape(pixels // b, b, pixels // b, b).any(axis=(1, 3)).sum() for b in boxes]
    return -np.polyfit(np.log(boxes), np.log(counts), 1)[0]


dimensions = [dimension(picture) for picture in pictures]
table(
    ["window", "log10 η₁", "log10 η₂", "converged", f"dimension of the edge, boxes of 1 to {boxes[-1]} pixels"],
    [
        (
            name,
            f"{window[0]:.4f} to {window[1]:.4f}",
            f"{window[2]:.4f} to {window[3]:.4f}",
            f"{np.mean(picture > 0):.1%}",
            f"{d:.2f}",
        )
        for name, window, picture, d in zip(
            ("whole", "8 times", "64 times"), windows, pictures, dimensions, strict=True
        )
    ],
)
print(f"the minimum that small rates lead to: {point.kind}, λ_max(H) = {np.linalg.eigvalsh(H)[-1]:.3g}\n")

figure, axes = panels(1, 3)
for i, (ax, window, picture) in enumerate(zip(axes, windows, pictures, strict=True)):
    good = ax.imshow(np.where(picture > 0, picture, np.nan), extent=window, origin="lower", cmap="viridis")
    late = np.where(picture > 0, np.nan, -picture * updates)
    bad = ax.imshow(late, extent=window, origin="lower", cmap="copper_r", norm=LogNorm(1, updates))
    ax.set(xlabel="log10 η₁, first layer", ylabel="log10 η₂, second layer")
    ax.set_title(("Each pixel is a training", "8 times closer", "64 times closer")[i])
    if i < 2:
        left, right, low, high = windows[i + 1]
        ax.add_patch(Rectangle((left, low), right - left, high - low, fill=False, edgecolor="white", linewidth=1.5))
lines = axes[0].contour(*grids, stable, levels=[2.0], colors="red", linewidths=2)
axes[0].plot([], [], color="red", linewidth=2, label="λ_max(D^½ H D^½) = 2 at the minimum")
axes[0].legend(fontsize="small", loc="upper right")
figure.colorbar(good, ax=axes[1], label="converged: −log10 of the mean loss", shrink=0.8)
figure.colorbar(bad, ax=axes[2], label="diverged: after so many updates", shrink=0.8)
save(figure, run.out / "21_trainability.png", thumbnail=axes[1])
