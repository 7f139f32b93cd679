"""
Features of unlike scale make a ravine (lecture L15)
====================================================

One feature goes from 1 to 2, another one from 100 to 200: the loss is a hundred times as steep along the second
weight, its curvature ten thousand times as large. Standardising every feature over the data makes the surface round,
and one learning rate then does for all of them.

Five seconds: ``python demos/17_feature_scale.py``
"""

import numpy as np
from lab import Data, options, panels, save, table
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

import microgradopt as mg
from microgradopt import Objective, nn, optim, plots
from microgradopt.training import History, accuracy, fit, trajectory

# sphinx_gallery_thumbnail_path = "results/17_feature_scale_thumbnail.png"
run = options(__doc__)
updates, epochs = (200, 50) if run.quick else (2_000, 500)

# %%
# A ravine
# --------
#
# Linear regression with squared error: y = b + w₁ x₁ + w₂ x₂. Its Hessian is 2/m Σ x xᵀ, with a 1 in x for b, and the
# same everywhere.

rng = np.random.default_rng(run.seed)
X = np.column_stack([rng.uniform(1, 2, 50), rng.uniform(100, 200, 50)])
y = 3 + 2 * X[:, 0] - 0.05 * X[:, 1] + rng.normal(scale=0.1, size=50)


def standardised(X, like):
    """x̃ = (x − m) / σ, with the mean m and the deviation σ of each feature of `like`."""
    return (X - like.mean(axis=0)) / like.std(axis=0)


def regression(X):
    """Squared error of b + X w, as a function of θ = (w, b)."""
    return Objective(lambda theta: nn.mse_loss(X @ theta[:2] + theta[2], y), np.zeros(3), compile=mg.compile)


surfaces = {"as they are": regression(X), "standardised": regression(standardised(X, X))}
eigenvalues = {name: np.linalg.eigvalsh(surface.hessian()) for name, surface in surfaces.items()}
condition = {name: values[-1] / values[0] for name, values in eigenvalues.items()}

# %%
# The best learning rate on each
# ------------------------------
#
# On a quadratic surface gradient descent is quickest with η = 2 / (λ_min + λ_max), and then shrinks the distance by
# (κ − 1) / (κ + 1) in each update, κ the condition number.

histories, paths = {}, {}
for name, surface in surfaces.items():
    values, history = eigenvalues[name], History()
    sgd = optim.SGD(surface.parameters, lr=2 / (values[0] + values[-1]))
    paths[name], histories[name] = trajectory(surface, sgd, updates, history), history
lowest = float(np.mean((y - np.linalg.lstsq(np.c_[X, np.ones(50)], y)[0] @ np.c_[X, np.ones(50)].T) ** 2))


def arrived(losses):
    """The first update with a loss within 1 % of the lowest, or None."""
    return next((t for t, loss in enumerate(losses) if loss < 1.01 * lowest), None)


table(
    [
        "features",
        "λ_min",
        "λ_max",
        "condition number",
        f"loss after {updates:,} updates",
        "updates to 1 % above the lowest",
    ],
    [
        (
            name,
            *eigenvalues[name][[0, -1]],
            f"{condition[name]:.3g}",
            histories[name].loss[-1],
            arrived(history.loss) or "never",
        )
        for name, history in histories.items()
    ],
)
print(f"lowest loss: {lowest:.6f}\n")

# %%
# On real data
# ------------
#
# scikit-learn's wines: 13 measurements of 178 wines from three growers, among them the hue (0.5 to 1.7) and the
# proline (278 to 1680). A net 13-16-3, Adam, each with the best of eight learning rates by its training loss. Mean and
# deviation are those of the training data, for the test data too.

raw = load_wine(return_X_y=True)
parts = train_test_split(*raw, test_size=60, random_state=run.seed, stratify=raw[1])
train, test = Data(parts[0], parts[2]), Data(parts[1], parts[3])
rates = (1e-3, 1e-2, 1e-1) if run.quick else (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def wines(X_train, X_test, optimizer):
    """The best of several learning rates: the rate, the training loss, the accuracy in the test."""
    found = []
    for lr in rates:
        model = nn.MLP((13, 16, 3), nn.Tanh, rng=run.seed)
        fitted = fit(
            model, nn.cross_entropy, optimizer(model.parameters(), lr=lr), X_train, train.y, epochs, compile=mg.compile
        )
        found.append((fitted.value(), lr, accuracy(model(X_test), test.y)))
    loss, lr, right = min(found)
    return lr, loss, right


rows = []
for name, optimizer in (("gradient descent", optim.SGD), ("Adam", optim.Adam)):
    rows.append((name, "as they are", *wines(train.X, test.X, optimizer)))
    both = standardised(train.X, train.X), standardised(test.X, train.X)
    rows.append((name, "standardised", *wines(*both, optimizer)))
table(
    ["wines", "features", "best η", f"training loss after {epochs} updates", "test accuracy"],
    [(*row[:4], f"{row[4]:.1%}") for row in rows],
)

# %%
# The surface before and after
# ----------------------------
#
# Over w₁ and w₂, with b at its best.

figure, axes = panels(1, 3)
for ax, (name, surface) in zip(axes, surfaces.items(), strict=False):
    best = np.linalg.solve(surface.hessian(np.zeros(3)), -surface.gradient(np.zeros(3)))
    plots.surface(surface, (np.eye(3)[0], np.eye(3)[1]), best, (-4, 4, -4, 4), 61, ax=ax)
    ax.plot(0, 0, "*", color="white", markersize=13, markeredgecolor="black")
    ax.set(xlabel="$w_1$, from the optimum", ylabel="$w_2$, from the optimum")
    ax.set_title(f"Features {name}: κ = {condition[name]:.3g}")
for name, history in histories.items():
    axes[2].loglog(np.arange(1, updates + 1), np.array(history.loss) - lowest, label=name)
axes[2].set(xlabel="update", title="Loss above the lowest")
axes[2].legend(fontsize="small")
save(figure, run.out / "17_feature_scale.png", thumbnail=axes[0])
