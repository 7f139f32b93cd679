"""Pictures: what is drawn are the loss's own numbers."""

import numpy as np
import pytest

from microgradopt import Objective, critical

plt = pytest.importorskip("matplotlib.pyplot")
plots = pytest.importorskip("microgradopt.plots")
plt.switch_backend("Agg")

contourf = plt.Axes.contourf


def bowl(w):
    return w[0] ** 2 + 2 * w[1] ** 2 + w[0]


@pytest.fixture
def objective():
    yield Objective(bowl, [0.5, 1.0])
    plt.close("all")


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of every contourf."""
    seen = []
    monkeypatch.setattr(plt.Axes, "contourf", lambda self, *a, **k: seen.append(a) or contourf(self, *a, **k))
    return seen


def test_surface_draws_the_loss(objective, drawn):
    plots.surface(objective, extent=(-1, 1, -2, 2), resolution=5)
    a, b, values = drawn[0]
    np.testing.assert_allclose(values, a[None, :] ** 2 + 2 * b[:, None] ** 2 + a[None, :])
    assert (a[0], a[-1], b[0], b[-1]) == (-1, 1, -2, 2)
    assert objective.theta.tolist() == [0.5, 1.0], "θ stays where it was"


def test_surface_on_a_plane(objective, drawn):
    u, v = np.array([1.0, 1.0]), np.array([0.0, 1.0])
    ax = plots.surface(objective, (u, v), origin=[1.0, 0.0], resolution=3, levels=[0, 1, 2, 4])
    a, b, values = drawn[0]
    assert values[2, 0] == pytest.approx(bowl([1 + a[0], a[0] + b[2]]))
    assert ax.get_xlabel() == "along u"


def test_surface_of_many_parameters_needs_a_plane():
    with pytest.raises(ValueError, match="3 parameters: say on which plane"):
        plots.surface(Objective(lambda w: (w * w).sum(), np.zeros(3)))


def test_slice_and_its_model(objective):
    ax = plots.slice_along(objective, [0.0, 1.0], np.array([0.0, 1.0]), (-1, 1), resolution=5)
    loss, model = ax.lines
    np.testing.assert_allclose(loss.get_ydata(), 2 * (1 + loss.get_xdata()) ** 2)
    np.testing.assert_allclose(model.get_ydata(), 2 * (1 + model.get_xdata()) ** 2)  # of a quadratic, itself


def test_spectrum_colours_by_sign(objective):
    point = critical.classify(Objective(lambda w: w[0] ** 2 - 3 * w[1] ** 2 + w[2] ** 4, np.zeros(3)))
    ax = plots.spectrum(point)
    drawn = {c.get_label(): c.get_offsets().data.tolist() for c in ax.collections if not c.get_label().startswith("_")}
    assert drawn == {"1 negative": [[0, -6]], "1 zero": [[1, 0]], "1 positive": [[2, 2]]}
    assert ax.get_title() == "saddle point"


def test_points_and_path(objective):
    _, ax = plt.subplots()
    plots.mark([critical.classify(objective, [-0.5, 0.0])], ax)
    plots.path([np.zeros(2), np.ones(2)], ax, label="way")
    assert ax.collections[0].get_label() == "local minimum"
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[-0.5, 0]])
    assert ax.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
