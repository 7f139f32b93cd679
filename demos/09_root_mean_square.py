"""
Root Mean Square: it arrives, and bursts; and the cure (lecture L9, L11)
========================================================================

One learning rate for each parameter: divide by the root of the mean of all its squared gradients so far,

.. math:: σ_i^t = \\sqrt{\\frac{1}{t+1} \\sum_{k=0}^{t} (g_i^k)^2}, \\qquad θ_i^{t+1} = θ_i^t − \\frac{η}{σ_i^t} g_i^t.

On the surface that was too much for gradient descent it arrives. But on the valley's floor many small gradients make σ
of the steep direction small, until a step leaps out of the valley: a burst. Large gradients make σ large again, and it
comes back. A learning rate that decays cures it.

Half a minute: ``python demos/09_root_mean_square.py``
"""

import numpy as np
from lab import options, panels, save, table

import microgradopt as mg
from microgradopt import Objective, optim, plots
from microgradopt.optim import schedules
from microgradopt.training import History, trajectory

# sphinx_gallery_thumbnail_path = "results/09_root_mean_square_thumbnail.png"
run = options(__doc__)
updates = 2_500 if run.quick else 30_000

# %%
# The lecture's surface again
# ---------------------------

x = np.array([338.0, 333, 328, 207, 226, 25, 179, 60, 208, 606])
y = np.array([640.0, 633, 619, 393, 428, 27, 193, 66, 226, 1591])
start, optimum = np.array([-120.0, -4.0]), np.linalg.lstsq(np.stack([np.ones_like(x), x], axis=1), y)[0]
surface = Objective(lambda theta: np.sum((y - (theta[0] + theta[1] * x)) ** 2), start, compile=mg.compile)
lowest = surface.value(optimum)

# %%
# η = 1, constant and decaying
# ----------------------------
#
# Both with η = 1; the second with η/√(t+1), which takes the 1/(t+1) out of the mean: that is Adagrad, exactly. It is
# run as well, to see that.

optimizers = {
    "Root Mean Square, η = 1": optim.RMS(surface.parameters, lr=1.0),
    "Root Mean Square, η = 1/√(t+1)": optim.RMS(surface.parameters, lr=schedules.InverseSqrt(1.0)),
    "Root Mean Square, η = 10/√(t+1)": optim.RMS(surface.parameters, lr=schedules.InverseSqrt(10.0)),
    "Adagrad, η = 1": optim.Adagrad(surface.parameters, lr=1.0, eps=0.0),
}
ways, losses = {}, {}
for name, optimizer in optimizers.items():
    surface.theta, history = start, History()
    ways[name] = trajectory(surface, optimizer, updates, history)
    losses[name] = np.array(history.loss)


def bursts(loss):
    """The updates at which the loss comes to be more than ten times the lowest before, after it had been below."""
    high = loss > 10 * np.minimum.accumulate(loss)
    return np.flatnonzero(high[1:] & ~high[:-1]) + 1


found = {name: bursts(loss) for name, loss in losses.items()}
table(
    ["", "b", "w", "loss at the end", "bursts", "first burst"],
    [(name, *ways[name][-1], losses[name][-1], len(found[name]), *found[name][:1]) for name in ways],
    digits=6,
)
print(f"optimum: b = {optimum[0]:.4f}, w = {optimum[1]:.5f}, loss {lowest:.1f}")
constant = found["Root Mean Square, η = 1"]
print(f"bursts with η = 1 at the updates {', '.join(map(str, constant[:8]))}, ...")
same = np.abs(ways["Root Mean Square, η = 1/√(t+1)"] - ways["Adagrad, η = 1"]).max()
print(f"the decaying one and Adagrad: never more than {same:.0e} apart\n")

# %%
# Why it bursts
# -------------
#
# σ of w falls like 1/√t while there is nothing but small gradients; the step in w stays stable only while η/σ times the
# curvature is below 2. Where the dashed line is crossed, the next burst begins. Then σ is large for a while.

curvature_w = float(surface.hessian()[1, 1])
gradients = np.array([surface.gradient(theta)[1] for theta in ways["Root Mean Square, η = 1"][: min(updates, 5000)]])
sigma = np.sqrt(np.cumsum(gradients**2) / np.arange(1, len(gradients) + 1))
reach = curvature_w / sigma
first = constant[0]
print(f"η/σ times the curvature in w, 20 updates before the first burst: {reach[first - 20]:.2f}; stable below 2\n")

figure, axes = panels(1, 3, height=4.4)
window = (-200, -100, -5, 8)
adagrad = plots.optimizer_colour("Adagrad")  # which is what the decaying one is
colours = {name: adagrad for name in ways if "√" in name}
plots.surface(surface, extent=window, resolution=61, ax=axes[0])
few = {name: way[:: max(1, updates // 3000)] for name, way in list(ways.items())[:2]}
plots.trajectories(few, axes[0], colours, linewidth=0.8)
axes[0].plot(*optimum, "*", color="white", markersize=12, markeredgecolor="black", label="optimum", zorder=5)
axes[0].set_xlim(window[:2])
axes[0].set_ylim(window[2:])
axes[0].set_xlabel("b")
axes[0].set_ylabel("w")
axes[0].set_title("Down into the valley, and out of it")
plots.legend_below(axes[0])
for (name, loss), style in zip(losses.items(), ("-", "-", "--"), strict=False):
    colour = colours.get(name, plots.optimizer_colour(name))
    axes[1].semilogy(loss - lowest, style, color=colour, linewidth=1.0, label=name)
axes[1].set_ylim(1e-8, 1e9)  # below is rounding
axes[1].set_xlabel("update")
axes[1].set_ylabel("loss above the lowest")
plots.legend_below(axes[1])
axes[1].set_title("The bursts, and the cure")
axes[2].plot(reach, label="curvature · η/σ, for w", color=plots.optimizer_colour("RMS"))
axes[2].axhline(2, color="black", linestyle="--", linewidth=0.8, label="limit of stability")
for k in constant[constant < len(reach)]:
    axes[2].axvline(k, color="black", linewidth=0.5, linestyle=":", zorder=0)
axes[2].set_xlabel("update; dotted: a burst begins")
plots.legend_below(axes[2])
axes[2].set_title("When a burst comes")
save(figure, run.out / "09_root_mean_square.png", thumbnail=axes[0])
