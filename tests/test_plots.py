"""Pictures: what is drawn are the loss's own numbers."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from microgradopt import Objective, Tensor, critical, nn
from microgradopt.curvature import spectral_density
from microgradopt.training import History

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


@pytest.mark.parametrize(
    "f",
    [lambda w: (1 - w[0] * w[1]) ** 2, lambda w: np.exp(4 * w[0]) + 1e6 * w[1] ** 2],
    ids=["the lecture's net", "a steep valley"],
)
def test_each_colour_of_a_surface_covers_the_same_area(f, monkeypatch):
    seen = []
    monkeypatch.setattr(plt.Axes, "contourf", lambda self, *a, **k: seen.append((a[2], k)) or contourf(self, *a, **k))
    plots.surface(Objective(f, [0.5, 1.0]), extent=(-2, 2, -2, 2))
    ((values, drawn),) = seen
    counts, _ = np.histogram(values, drawn["levels"])
    assert len(counts) == 24
    np.testing.assert_allclose(counts / values.size, 1 / 24, rtol=0.3)  # 161 of its 6,561 are 1
    assert len({drawn["norm"](level) for level in drawn["levels"][:-1]}) == 24, "and each has a colour of its own"
    plt.close("all")


def test_surfaces_that_are_flat_or_somewhere_infinite():
    flat = plots.surface(Objective(lambda w: 0 * w[0] + 3.0, [0.0, 0.0]), resolution=5)
    pole = plots.surface(Objective(lambda w: w[0] ** 2 + np.where(w[1] > 0, np.inf, 0.0), [0.0, 0.0]), resolution=5)
    for ax in (flat, pole):
        ax.figure.canvas.draw()
    np.testing.assert_array_equal(plots.equal_area(np.array([np.nan, 0.0, 1.0, np.inf]), 2), [0, 0.5, 1])
    with pytest.raises(ValueError, match="none of the values is finite"):
        plots.equal_area(np.array([np.nan, np.inf]))
    plt.close("all")


@pytest.mark.parametrize(
    "levels", [np.geomspace(1e-7, 1, 24), np.geomspace(1e5, 5e7, 24), 1 + 1e-6 * np.arange(9), np.linspace(-3, 4, 7)]
)
def test_no_two_labels_of_a_colour_bar_are_alike(levels):
    figure, ax = plt.subplots()
    a, b = np.meshgrid(*2 * [np.linspace(0, 1, 5)])
    bar = plots.colour_bar(ax.contourf(a, b, levels[0] + (a + b) * levels[-1], levels=levels), ax=ax)
    figure.canvas.draw()
    labels = [label.get_text() for label in bar.ax.get_yticklabels()]
    assert len(labels) == len(set(labels)) >= 5
    np.testing.assert_allclose([float(label) for label in labels], bar.get_ticks(), rtol=0.05)
    assert not bar.ax.yaxis.get_offset_text().get_text()
    plt.close("all")


def test_directions_and_numbers_may_be_lists_and_numpy_s(objective, drawn):
    plots.surface(objective, ([1, 1], [0, 1]), resolution=3, levels=np.int64(4))
    a, b, values = drawn[0]
    assert values[2, 0] == pytest.approx(bowl([a[0], a[0] + b[2]]))
    ax = plots.slice_along(objective, [0, 1], [0, 1], (-1, 1), resolution=5)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 2 * (1 + ax.lines[0].get_xdata()) ** 2)


def test_what_is_shown_of_a_surface_is_extent(objective):
    with pytest.raises(ValueError, match=r"two directions \(u, v\) of 2 numbers each, not \(-2, 2, -2, 2\).* extent="):
        plots.surface(objective, (-2, 2, -2, 2))
    with pytest.raises(ValueError, match="of 2 numbers each"):
        plots.surface(objective, (np.ones(3), np.ones(3)))


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


@pytest.mark.parametrize("smallest", [0.0073, 1e-3, 0.99, 5.0, 1e-9])
def test_ticks_of_a_spectrum_are_apart(smallest):
    """On a symlog axis those next to 0 fall on one another if the linear part holds more than one."""
    values = np.concatenate([[-0.2], np.full(1208, smallest), [max(4.3, smallest)]])
    point = SimpleNamespace(eigenvalues=values, tolerance=1e-14, complete=True, certified=True, kind="saddle point")
    ax = plots.spectrum(point, plt.subplots(figsize=(3.9, 3.8), layout="constrained")[1])
    ax.figure.canvas.draw()
    for axis, low in ((ax.yaxis, "y0"), (ax.xaxis, "x0")):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
        boxes.sort(key=lambda box, low=low: getattr(box, low))
        assert not any(one.overlaps(next_) for one, next_ in pairwise(boxes))
    highest = ax.transData.transform((1209, values[-1]))[1]
    assert highest < ax.bbox.y1 - 4, "no dot is cut by the frame"
    plt.close("all")


def test_points_and_path(objective):
    _, ax = plt.subplots()
    plots.mark([critical.classify(objective, [-0.5, 0.0])], ax)
    plots.path([np.zeros(2), np.ones(2)], ax, label="way")
    assert ax.collections[0].get_label() == "local minimum"
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[-0.5, 0]])
    assert ax.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]


# Paths ----------------------------------------------------------------------------------------------------------------


def test_trajectories_from_a_white_dot_to_a_coloured_one():
    paths = {"a": np.array([[0.0, 1.0], [2.0, 3.0]]), "b": np.array([[5.0, 5.0], [6.0, 7.0], [8.0, 8.0]])}
    ax = plots.trajectories(paths, plt.subplots()[1])
    assert [line.get_label() for line in ax.lines] == ["a", "b"]
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), paths["b"])
    dots = [dot.get_offsets()[0].tolist() for dot in ax.collections]
    assert dots == [[2, 3], [0, 1], [8, 8], [5, 5]]
    plt.close("all")


def test_an_optimizer_has_one_colour(tmp_path):
    """In a still, in the film, as a path, and by the lecture's name; another word for it has no other."""
    names = ["SGD", "momentum, λ = 0.9", "Root Mean Square", "RMSProp, PyTorch's", "Adam", "AdamW, lr = 1"]
    colours = [plots.OPTIMIZER_COLOURS[n] for n in ("SGD", "Momentum", "RMS", "RMSprop", "Adam", "AdamW")]
    paths = {name: np.eye(2) for name in names}
    still, track = (plt.subplots()[1] for _ in range(2))
    plots.trajectories(dict(reversed(paths.items())), still)
    film = plots.animation(paths, track, frames=2)
    film.save(tmp_path / "film.gif", writer="pillow")
    assert [line.get_color() for line in still.lines] == colours[::-1]
    assert [line.get_color() for line in track.lines] == 2 * colours, "the lines, and their heads"
    assert [plots.path(np.eye(2), track, label=name).lines[-1].get_color() for name in names] == colours
    assert plots.optimizer_colour("gradient descent") == plots.optimizer_colour("sgd") == colours[0]
    assert plots.optimizer_colour("Adamax") is plots.optimizer_colour("way") is None
    assert len(set(plots.OPTIMIZER_COLOURS.values())) == len(plots.OPTIMIZER_COLOURS)
    plt.close("all")


def test_colours_by_name(tmp_path):
    paths, colours = {"a": np.eye(2), "Adam": np.eye(2)}, {"a": "#123456", "Adam": "#654321"}
    still, track = (plt.subplots()[1] for _ in range(2))
    plots.trajectories(paths, still, colours)
    film = plots.animation(paths, track, frames=2, colours=colours)
    film.save(tmp_path / "film.gif", writer="pillow")
    assert [line.get_color() for ax in (still, track) for line in ax.lines[:2]] == 2 * list(colours.values())
    plt.close("all")


def test_a_legend_below_covers_nothing():
    figure, ax = plt.subplots(layout="constrained")
    ax.set_xlabel("update")
    legend = plots.legend_below(plots.trajectories({"a": np.eye(2), "b": np.eye(2)}, ax), columns=2)
    figure.canvas.draw()
    box = legend.get_window_extent()
    assert not box.overlaps(ax.bbox)
    assert not box.overlaps(ax.xaxis.get_tightbbox())
    assert figure.bbox.contains(box.x0, box.y0)
    plt.close("all")


def test_animation_runs_all_at_the_same_pace(tmp_path):
    paths = {"short": np.arange(6.0).reshape(3, 2), "long": np.arange(22.0).reshape(11, 2)}
    ax = plt.subplots()[1]
    film = plots.animation(paths, ax, frames=3, trail=2)
    film._func(1)
    short, long = (line.get_xydata() for line in ax.lines[:2])
    np.testing.assert_array_equal(short, paths["short"][-2:])
    np.testing.assert_array_equal(long, paths["long"][4:6])
    assert ax.get_title() == "update 5"
    film.save(tmp_path / "film.gif", writer="pillow")
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF")
    plt.close("all")


# Histories, spectra, boundaries ---------------------------------------------------------------------------------------


def test_history_has_both():
    run = History()
    for k in range(1, 4):
        run.append(1 / k, 10 / k, 0.1, 0.0)
    ax = plots.history(run)
    assert [list(line.get_ydata()) for line in ax.lines] == [run.loss, run.gradient_norm]
    assert ax.get_yscale() == "log"
    plt.close("all")


def test_density_is_that_of_the_eigenvalues():
    """With as many steps as eigenvalues quadrature is exact: Gaussians at the eigenvalues."""
    eigenvalues = np.array([-1.0, 0.5, 2.0])
    found = spectral_density(np.diag(eigenvalues), probes=4, steps=3)
    ax = plots.density(found, sigma=0.1)
    t, values = ax.lines[0].get_data()
    expected = np.exp(-((t[:, None] - eigenvalues) ** 2) / 0.02).sum(axis=1) / 3 / (0.1 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(values, expected, atol=1e-8)
    plt.close("all")


@pytest.mark.parametrize("columns", [None, 1, 2, 3])
def test_decision_boundary(columns, drawn):
    """The class with the highest score; of one score, its sign."""

    def scores(X):
        side = X[:, 0] - X[:, 1]
        if columns is None:
            return side
        return Tensor(np.stack([side, -side, np.full_like(side, -9.0)][:columns], axis=1))

    X, y = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.5]]), np.array([1, 0, 0])
    plots.decision_boundary(scores, X, y, resolution=5)
    a, b, chosen = drawn[0]
    right = a[None, :] > b[:, None]
    np.testing.assert_array_equal(chosen, right if columns in (None, 1) else ~right)
    plt.close("all")


def test_decision_boundary_of_more_classes_than_colours():
    ax = plots.decision_boundary(lambda X: np.concatenate([X] * 6, axis=1), [[0.0, 1.0]] * 12, range(12), resolution=5)
    colours = [tuple(colour) for colour in ax.collections[-1].get_facecolors()]
    assert colours[0] == colours[10] != colours[1]
    plt.close("all")


@pytest.mark.parametrize("scale", [0.0, 3.0, -2.0])
def test_density_of_eigenvalues_that_are_all_alike(scale):
    ax = plots.density(spectral_density(scale * np.eye(3), probes=2, steps=2))
    t, values = ax.lines[0].get_data()
    assert t[values.argmax()] == pytest.approx(scale, abs=1e-3)
    plt.close("all")


# Directions -----------------------------------------------------------------------------------------------------------


def test_filter_normalised_directions():
    """Every row of a weight matrix as long as the weights' own; biases do not move; the same seed, the same bits."""
    model = nn.MLP((3, 4, 2), nn.Tanh, rng=0)
    objective = Objective.of(model, lambda: None)
    direction = plots.filter_normalised(objective, 1)
    parts = objective.vector.split(direction)
    for part, parameter in zip(parts, model.parameters(), strict=True):
        own = np.linalg.norm(parameter.data, axis=1) if parameter.ndim == 2 else 0
        np.testing.assert_allclose(np.linalg.norm(part, axis=1) if part.ndim == 2 else part, own)
    assert np.array_equal(direction, plots.filter_normalised(objective, 1))
    assert not np.array_equal(direction, plots.filter_normalised(objective, 2))


def test_principal_axes_of_a_trajectory_in_a_plane():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(7, 2)))[0].T
    inside = rng.normal(size=(20, 2)) * [5.0, 1.0]
    thetas = 3 + inside @ basis
    centre, plane, share = plots.principal_axes(thetas)
    assert share == pytest.approx(1)
    np.testing.assert_allclose(np.stack(plane) @ np.stack(plane).T, np.eye(2), atol=1e-12)
    back = centre + plots.on_plane(thetas, centre, plane) @ np.stack(plane)
    np.testing.assert_allclose(back, thetas)


def test_nearest_points_on_an_oblique_plane():
    u, v = np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(plots.on_plane([[3.0, 2.0, 9.0]], np.array([0.0, 0.0, 1.0]), (u, v)), [[1.0, 2.0]])


def test_the_validation_loss_is_drawn_where_there_is_one():
    run = History()
    for i, validation in enumerate([np.nan, 3.0, np.nan, 4.0]):
        run.append(2.0 - i / 10, 1.0, 0.1, 0.0, validation_loss=validation)
    (line,) = [line for line in plots.history(run).lines if line.get_label() == "validation loss"]
    np.testing.assert_array_equal(line.get_xydata(), [[1, 3], [3, 4]])
