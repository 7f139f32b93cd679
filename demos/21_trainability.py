"""
The boundary of trainability: 786,432 trainings in a picture
============================================================

Gradient descent with too large a learning rate diverges. Where does "too large" begin? Curvature answers for a minimum:
where 2 = λ_max of D H, with the learning rates on the diagonal of D. For a whole training the answer is a picture: the
two layers of a small network get learning rates of their own, and each pixel is one training of 500 updates. The edge
between those that converge and those that diverge has structure at every scale that was looked at; Sohl-Dickstein
(2024, arXiv:2402.06184), whose experiment this is, found it to be fractal.

Three minutes on two cores with Numba, five without: ``python demos/21_trainability.py``
"""

import functools
import importlib.util
import time

import matplotlib.pyplot as plt
import numpy as np
from lab import options, panels, save, table
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from tqdm import tqdm

import microgradopt as mg
from microgradopt import critical, nn, optim, training

# sphinx_gallery_thumbnail_path = "results/21_trainability_thumbnail.png"
run = options(__doc__)
pixels, updates, sample = (48, 60, 100) if run.quick else (512, 500, 2_000)
tile = 16_384  # trainings in one call: their losses fit into memory

engine = "numba" if importlib.util.find_spec("numba") else "numpy"
compiled = functools.partial(mg.compile, engine=engine)

# %%
# One training
# ------------
#
# A net 8-8-1 with tanh, 8 random samples with random targets, squared error, all data in each update. Two groups of
# parameters: the first layer has the learning rate η₁, the second layer η₂.

rng = np.random.default_rng(run.seed)
X, y = rng.normal(size=(8, 8)), rng.normal(size=(8, 1))
model = nn.MLP((8, 8, 1), nn.Tanh, rng=run.seed)
layers = [{"params": list(model[i].parameters())} for i in (0, 2)]
net = training.Run(model, nn.mse_loss, optim.SGD(layers), X, y)
loss, start = net.objective, net.objective.theta

# %%
# A picture of trainings
# ----------------------
#
# ``training.vary`` takes one run and an array of learning rates, and trains all of them at once: no model is made for a
# pixel. A training has converged if after 500 updates its loss is finite and below that at the start; its colour is the
# mean of its losses. Of one that diverged it is the update in which the loss had grown a thousandfold.


def trained(rates):
    """The mean of loss / loss at the start, with NaN for trainings that diverged; and when those did, NaN for others.

    rates: (k, 2), η₁ and η₂ of each.
    """
    means, ends = [], []
    for i in tqdm(range(0, len(rates), tile), disable=None):
        found = training.vary(net, updates, lr=rates[i : i + tile], compile=compiled)
        relative = found.losses / loss.value(start)
        is_good = (found.updates == updates) & (relative[-1] < 1)
        is_high = ~(relative <= 1e3)  # or NaN
        end = np.where(is_high.any(axis=0), is_high.argmax(axis=0), updates)
        means.append(np.where(is_good, np.clip(relative, 1e-12, 1e3).mean(axis=0), np.nan))
        ends.append(np.where(is_good, np.nan, np.maximum(end, 1)))
    return np.concatenate(means), np.concatenate(ends)


def middles(window):
    """Of the pixels: η₁ and η₂ of each. window: log10 of η₁ from, to, and of η₂ from, to."""
    steps = (np.arange(pixels) + 0.5) / pixels
    first, second = (low + steps * (high - low) for low, high in (window[:2], window[2:]))
    return 10.0 ** np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)


def picture(window):
    """The trainings of a window, as two arrays (pixels, pixels)."""
    return [part.reshape(pixels, pixels) for part in trained(middles(window))]


# %%
# Where to look closer
# --------------------
#
# Not by eye: of all windows an eighth as wide in which between a quarter and three quarters of the trainings converge,
# the one with the longest edge.


def edge(converged):
    """The pixels whose left or lower neighbour came out otherwise."""
    marked = np.zeros_like(converged)
    marked[:, 1:] |= converged[:, 1:] != converged[:, :-1]
    marked[1:] |= converged[1:] != converged[:-1]
    return marked


def closer(window, converged, times=8):
    """The window to enlarge."""
    size = pixels // times
    places = [(i, j) for i in range(0, pixels - size + 1, size // 4) for j in range(0, pixels - size + 1, size // 4)]
    marked = edge(converged)

    def length(place):
        inside = tuple(slice(x, x + size) for x in place)
        return marked[inside].sum() if 0.25 <= converged[inside].mean() <= 0.75 else -1

    row, column = max(places, key=length)
    wide, high = (window[1] - window[0]) / pixels, (window[3] - window[2]) / pixels
    left, low = window[0] + column * wide, window[2] + row * high
    return (left, left + size * wide, low, low + size * high)


started, processor = time.perf_counter(), time.process_time()
windows = [(-1.75, 0.25, -1.5, 0.5)]
pictures = [picture(windows[0])]
for _ in range(2):
    windows.append(closer(windows[-1], np.isfinite(pictures[-1][0])))
    pictures.append(picture(windows[-1]))
seconds, processor = time.perf_counter() - started, time.process_time() - processor
converged = [np.isfinite(means) for means, _ in pictures]
print(
    f"{3 * pixels**2:,} trainings of {updates} updates by {engine}: {seconds:.0f} s ({processor:.0f} s of processors)\n"
)

# %%
# How rough is the edge?
# ----------------------
#
# Cover the edge with boxes of b pixels: their number grows like b to the power −d, and d is the dimension. A smooth
# curve has d = 1. A fractal has the same d at every scale; a picture of 512 pixels has few scales, so d is given for
# small and for large boxes.

sizes = [b for b in (1, 2, 4, 8, 16, 32, 64) if pixels % b == 0 and b <= pixels // 8]
middle = len(sizes) // 2


def boxes(marked, b):
    """How many boxes of b pixels have some of the edge in them."""
    return marked.reshape(pixels // b, b, pixels // b, b).any(axis=(1, 3)).sum()


def dimension(marked, sizes):
    """The slope of the number of boxes against their size, in logarithms."""
    return -np.polyfit(np.log(sizes), np.log([boxes(marked, b) for b in sizes]), 1)[0]


ranges = {f"boxes of {part[0]} to {part[-1]} pixels": part for part in (sizes[: middle + 1], sizes[middle:])}
dimensions = [[dimension(edge(good), part) for part in ranges.values()] for good in converged]
table(
    ["window", "log10 η₁", "log10 η₂", "converged", *(f"d, {name}" for name in ranges)],
    [
        (name, "{:.4f} to {:.4f}".format(*window[:2]), "{:.4f} to {:.4f}".format(*window[2:]), f"{good.mean():.1%}", *d)
        for name, window, good, d in zip(("whole", "8 ×", "64 ×"), windows, converged, dimensions, strict=True)
    ],
    digits=3,
)

# %%
# What curvature says
# -------------------
#
# Near a minimum gradient descent is stable if λ_max(D^½ H D^½) < 2; this is the largest eigenvalue of D H too. The
# condition at the start, and at the minimum that training with small rates leads to:

quiet = training.vary(net, 20 * updates, lr=[[0.05, 0.05]], compile=compiled).thetas[0]
point = critical.classify(loss, quiet)
hessians = {"at the start": loss.hessian(start), "at the minimum of small rates": loss.hessian(quiet)}
is_first = np.arange(loss.n) < model[0].weight.size + model[0].bias.size


def largest(H, rates):
    """λ_max(D^½ H D^½). H: (..., n, n). rates: (..., 2)."""
    root = np.sqrt(np.where(is_first, rates[..., :1], rates[..., 1:]))
    return np.linalg.eigvalsh(root[..., :, None] * H * root[..., None, :])[..., -1]


diagonal = np.logspace(-1.5, 0.5, sample)  # η₁ = η₂
good = np.isfinite(trained(np.stack([diagonal, diagonal], axis=1))[0])
print(f"The minimum of small rates: {point.kind}, loss {point.value:.1e}. Along η₁ = η₂:")
table(
    ["", "η"],
    [
        *((f"2 / λ_max {name}", 2 / largest(H, np.ones(2))) for name, H in hessians.items()),
        (f"the smallest of {sample:,} rates that diverges", diagonal[~good].min()),
        ("the largest that converges", diagonal[good].max()),
    ],
)

# %%
# The trainings with large rates do not end at that minimum. They find another, where the condition holds for their own
# rates: of some of the pixels that converged, drawn at random, H was computed where each ended.

chosen = np.random.default_rng(run.seed).choice(np.flatnonzero(converged[0].ravel()), sample, replace=False)
rates = middles(windows[0])[chosen]
ends = training.vary(net, updates, lr=rates, compile=compiled).thetas
at_end = np.concatenate([largest(loss.hessians(ends[i : i + 250]), rates[i : i + 250]) for i in range(0, sample, 250)])
beyond = np.array([largest(hessians["at the minimum of small rates"], each) > 2 for each in rates])
print(
    f"{beyond.mean():.1%} of {sample:,} trainings that converge have rates too large for the minimum of small rates;\n"
    f"λ_max of D H where each ended is below 2 in {np.mean(at_end < 2):.1%}, its median is {np.median(at_end):.2f}\n"
)

# %%
# The picture
# -----------
#
# Blue: converged, the darker the sooner. Yellow to brown: diverged, the darker the later. Each box is the next panel.

low_high = [np.nanquantile(np.stack(parts), (0.01, 0.99)) for parts in zip(*pictures, strict=True)]
scales = [
    ScalarMappable(LogNorm(*ends), colormaps[name]) for ends, name in zip(low_high, ("Blues_r", "YlOrBr"), strict=True)
]
plt.rcParams["font.size"] = 13
figure, axes = panels(1, 3, 6.0, 5.4)
titles = ("Each pixel is a training", "8 times closer", "64 times closer")
for ax, window, parts, title in zip(axes, windows, pictures, titles, strict=True):
    colours = [scale.to_rgba(np.nan_to_num(part, nan=1.0)) for scale, part in zip(scales, parts, strict=True)]
    ax.imshow(np.where(np.isfinite(parts[0])[..., None], *colours), extent=window, origin="lower")
    ax.set(xlabel="log10 η₁, first layer", ylabel="log10 η₂, second layer", title=title)
    ax.locator_params(nbins=5)
for ax, (left, right, low, high) in zip(axes, windows[1:], strict=False):
    ax.add_patch(Rectangle((left, low), right - left, high - low, fill=False, edgecolor="black", linewidth=1.5))
exponents = np.linspace(*windows[0][:2], 41), np.linspace(*windows[0][2:], 41)
grid = 10.0 ** np.stack(np.meshgrid(*exponents), axis=-1)
for (name, H), style, colour in zip(hessians.items(), ("--", "-"), ("black", "#cc3311"), strict=True):
    axes[0].contour(*exponents, largest(H, grid), levels=[2.0], colors=colour, linestyles=style)
    axes[0].plot([], [], color=colour, linestyle=style, label=f"λ_max(D H) = 2 {name}")
axes[0].legend(fontsize="x-small", loc="lower left")
labels = "converged: mean of loss / loss at the start", "diverged: in update"
for scale, label, ticks in zip(scales, labels, ([0.01, 0.02, 0.05, 0.1, 0.2], [3, 5, 10, 20, 50, 100]), strict=True):
    bar = figure.colorbar(scale, ax=axes, label=label, ticks=ticks, format="%g", pad=0.01, aspect=30, extend="both")
    bar.minorticks_off()
save(figure, run.out / "21_trainability.png", thumbnail=axes[2])
