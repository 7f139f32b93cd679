"""The classifier's options and outputs; the way out; the search."""

import math

import numpy as np
import pytest
from truths import himmelblau, lecture, linear_net

import microgradopt as mg
from microgradopt import Objective, critical, nn


def quadratic(*eigenvalues):
    H = np.array(eigenvalues)
    return Objective(lambda x: (H * x * x).sum() / 2, np.zeros(len(H)))


class TestVerdict:
    def test_numbers(self):
        point = critical.classify(quadratic(-3.0, 0.0, 1.0, 5.0))
        assert (point.negative, point.zero, point.positive, point.index) == (1, 1, 2, 1)
        assert point.minimum_ratio == 0.5
        assert point.condition_number == 5
        assert point.gradient_norm == point.distance == 0
        assert 0.5 < point.margin.negative * point.tolerance < 2  # every row of D H D has the size 1
        assert 0.5 < point.margin.positive * point.tolerance < 2
        assert point.margin.zero == math.inf
        assert point.products == 4

    @pytest.mark.parametrize(
        ("eigenvalues", "kind"),
        [
            ((1.0, 2.0), "local minimum"),
            ((-1.0, -2.0), "local maximum"),
            ((-1.0, 1.0), "saddle point"),
            ((-1.0, 0.0, 1.0), "saddle point"),
            ((1e-10, 1.0), "local minimum"),
            ((-1e-10, 1.0), "saddle point"),
            ((3.0,), "local minimum"),
        ],
    )
    def test_kinds(self, eigenvalues, kind):
        point = critical.classify(quadratic(*eigenvalues))
        assert (point.kind, point.certified) == (kind, True)

    def test_constant_and_linear(self):
        assert critical.classify(Objective(lambda x: (0 * x).sum(), np.ones(2))).kind == "degenerate"
        linear = critical.classify(Objective(lambda x: x.sum(), np.ones(2)))
        assert (linear.kind, linear.distance) == ("not critical", math.inf)
        assert "without curvature" in linear.explanation

    def test_a_threshold_of_ones_own(self):
        """As the lecture counts; and it is said whether the point would have passed without."""
        objective = Objective(himmelblau, [3.0 + 2e-2, 2.0])
        assert critical.classify(objective).kind == "not critical"
        point = critical.classify(objective, gradient_tolerance=10.0)
        assert (point.kind, point.certified) == ("local minimum", False)
        assert critical.classify(objective, [3.0, 2.0], gradient_tolerance=1e-3).certified

    def test_text_and_html(self):
        point = critical.classify(Objective(lecture, [1.0, 1.0]))
        assert str(point).startswith("local minimum (certified) at L = 0\nA local minimum, but not a strict one")
        assert "<b>local minimum</b>" in point._repr_html_()
        assert "0 / 1 / 1 of 2" in point._repr_html_()
        assert "theta" not in repr(point)

    def test_theta_stays(self):
        objective = Objective(himmelblau, [1.0, 2.0])
        critical.classify(objective, [3.0, 2.0])
        assert objective.theta.tolist() == [1, 2]

    def test_not_finite(self):
        with np.errstate(all="ignore"), pytest.raises(mg.NonFiniteError, match="loss is nan"):
            critical.classify(Objective(lambda x: np.log(x).sum(), [-1.0, 1.0]))


class TestMatrixFree:
    @pytest.mark.parametrize("theta", [(3.385154, 0.073852), (-0.127961, -1.953715)])
    def test_proves_a_saddle(self, theta):
        point = critical.classify(Objective(himmelblau, theta), dense_up_to=0)
        assert (point.kind, point.certified, point.complete) == ("saddle point", True, False)
        assert math.isnan(point.minimum_ratio)
        assert point.escape().measured > 0

    def test_never_proves_a_minimum(self):
        point = critical.classify(Objective(himmelblau, [3.0, 2.0]), dense_up_to=0)
        assert (point.kind, point.certified, point.negative) == ("no negative curvature found", False, 0)
        assert "never that there is none" in point.explanation

    @pytest.mark.parametrize("stiff", [1e8, 1e15])
    @pytest.mark.parametrize("center", [0.0, 1.0])
    def test_a_slope_beside_stiff_directions_is_no_saddle(self, stiff, center):
        """Along w₂ the loss falls everywhere: there is no critical point. ‖H‖ is 1e11 times that slope and more."""
        Q = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))[0]

        def f(x):
            u = Q @ (x - center)
            return stiff * (u[0] ** 2 - u[1] ** 2) + 1e-3 * u[2]

        assert not critical.classify(Objective(f, np.full(60, center)), dense_up_to=10).certified

    @pytest.mark.parametrize(
        ("soft", "certified"),
        [
            (lambda u: 1e-5 * u, False),
            (lambda u: 1e-5 * (u + u**2 + 100 * u**3), False),
            (lambda u: 5e-6 * (u - 1) ** 2, False),
            (lambda u: 5e-6 * u**2, True),
        ],
    )
    def test_what_forty_stiff_directions_hide(self, soft, certified):
        """Their rounding, 1e-5, is as large as a slope along a soft direction: there is no critical point nearby."""
        rng = np.random.default_rng(0)
        Q, center = np.linalg.qr(rng.normal(size=(120, 60)))[0], rng.normal(size=120)

        def f(x):
            z = Q.T @ (x - center)
            return 1e10 * (z[:40] ** 2).sum() - 1e9 * z[40] ** 2 + soft(z[41])

        assert critical.classify(Objective(f, center), dense_up_to=10).certified == certified

    def test_in_float32_no_saddle_is_certified_by_products(self):
        """A slope of 1e-4 is nothing beside what rounding of θ does along the stiff direction: there is no saddle."""
        rng = np.random.default_rng(0)
        Q, center = np.linalg.qr(rng.normal(size=(120, 3)))[0], rng.normal(size=120).astype(np.float32)

        def f(x):
            z = Q.T @ (x - center)
            return 1e10 * z[0] ** 2 - 1e9 * z[1] ** 2 + 1e-4 * z[2]

        point = critical.classify(Objective(f, center), dense_up_to=10)
        assert (point.kind, point.certified) == ("saddle point", False)

    @pytest.mark.parametrize("dense_up_to", [10, 2000])
    def test_what_the_noise_where_a_step_begins_hides(self, dense_up_to):
        """A little off along stiff directions the noise is 1e-6 along all others: more than a slope there."""
        rng = np.random.default_rng(0)
        Q, center = np.linalg.qr(rng.normal(size=(120, 60)))[0], rng.normal(size=120)

        def f(x):
            z = Q.T @ (x - center)
            return 1e12 * (z[:40] ** 2).sum() - 1e11 * z[40] ** 2 + 1e-7 * z[41]

        beside = center + 1e-4 * Q[:, :40] @ rng.normal(size=40)
        assert not critical.classify(Objective(f, beside), dense_up_to=dense_up_to).certified

    @pytest.mark.parametrize("seed", [0, 1, 3])
    def test_curvature_that_is_rounding_is_no_saddle(self, seed):
        """p² and q² have coefficients of zero; computed, they are 1e-17, one positive and one negative."""
        rng = np.random.default_rng(seed)
        Q, center = np.linalg.qr(rng.normal(size=(40, 40)))[0], rng.normal(size=40)

        def f(x):
            p, q = Q[:2] @ (x - center)
            return 1e10 * (0.1 * p * p + 0.2 * p * p - 0.3 * p * p + 0.3 * q * q - 0.2 * q * q - 0.1 * q * q)

        assert not critical.classify(Objective(f, center), dense_up_to=10).certified

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_the_scale_of_the_loss_changes_nothing(self, scale):
        s = np.r_[-1.0, np.ones(59)]
        point = critical.classify(Objective(lambda x: scale * (s * x * x).sum(), np.zeros(60)), dense_up_to=10)
        assert point.verdict == "saddle point (certified)"
        np.testing.assert_allclose(point.eigenvalues[0], -2 * scale)

    def test_one_negative_direction_among_many(self):
        eigenvalues = np.linspace(0.5, 2, 500)
        eigenvalues[321] = -1e-3
        point = critical.classify(quadratic(*eigenvalues), dense_up_to=100)
        assert point.kind == "saddle point"
        assert point.eigenvalues[0] == pytest.approx(-1e-3, rel=1e-6)
        assert abs(point.eigenvectors[321, 0]) == pytest.approx(1)


KINKED = {
    "relu": (lambda x: nn.functional.relu(x).sum() + (x * x).sum(), [0.0, 1.0], "relu"),
    "abs": (lambda x: np.abs(x).sum() + (x * x).sum(), [0.0], "absolute"),
    "max": (lambda x: np.max(x * x) + (x * x).sum(), [0.0, 0.0], "max"),
    "where": (lambda x: np.where(x.data > 0, x * x, 2 * x * x).sum(), [0.0], "where"),
    "norm": (lambda x: np.linalg.norm(x) + (x * x).sum(), [0.0, 0.0], "euclidean_norm"),
    "clip": (lambda x: np.clip(x, 0.0, 1.0).sum() + (x * x).sum(), [0.0], "clip"),
    "huber": (lambda x: nn.huber_loss(x, np.zeros(1)) - x.sum() + (x - 1).sum() ** 4, [1.0], "huber_loss"),
    "l1": (lambda x: nn.l1_loss(x, np.zeros(1)) + (x * x).sum(), [0.0], "l1_loss"),
    "a root": (lambda x: ((x * x) ** 1.25).sum() + (x * x).sum(), [0.0], "power"),
}


class TestKinks:
    @pytest.mark.parametrize("name", KINKED)
    def test_are_named_and_not_certified(self, name):
        f, theta, function = KINKED[name]
        objective = Objective(f, theta)
        found = critical.kinks(objective, objective.theta)
        assert function in {kink.function for kink in found}
        assert not critical.classify(objective).certified
        assert critical.kinks(objective, objective.theta + 0.3 * np.arange(1, 1 + objective.n)) == []

    def test_one_on_the_way_to_the_critical_point(self):
        """The kink of relu is between θ and where Newton's step leads."""
        objective = Objective(lambda x: ((x - 1) ** 2 + nn.functional.relu(x - 1.0001) ** 2).sum(), [1.0 + 3e-4])
        point = critical.classify(objective)
        assert [kink.function for kink in point.kinks] == ["relu"]
        assert not point.certified

    @pytest.mark.parametrize("end", [1.1, 1.5, 1.9, 2.0, 2.1, 2.5, 3.0, 9.0])
    def test_one_anywhere_on_the_way(self, end):
        objective = Objective(lambda x: nn.functional.relu(x - 1).sum(), [0.0])
        assert [k.function for k in critical.kinks(objective, np.zeros(1), np.array([end]))] == ["relu"]

    def test_smooth_functions_have_none(self):
        objective = Objective(lambda x: (np.tanh(x) + x**3 + np.exp(x) + np.logaddexp(0, x)).sum(), np.zeros(3))
        assert critical.kinks(objective, objective.theta) == []


class TestSymmetries:
    def names(self, objective, theta=None):
        point = critical.classify(objective, theta)
        return point, " ".join(point.symmetries)

    def test_rotation(self):
        point, names = self.names(Objective(lambda x: ((x * x).sum() - 1) ** 2, [1.0, 0.0]))
        assert (point.kind, point.strict, point.explained) == ("local minimum", False, 1)
        assert "rotation" in names

    def test_softmax_shift_and_inputs_that_are_always_0(self):
        X = np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])
        y = np.array([0, 1, 1])
        model = nn.Linear(2, 2, rng=0)
        objective = Objective.of(model, lambda: nn.cross_entropy(model(X), y))
        theta = objective.theta
        for _ in range(30):
            theta = theta - np.linalg.lstsq(objective.hessian(theta), objective.gradient(theta), rcond=1e-10)[0]
        point, names = self.names(objective, theta)
        assert (point.kind, point.zero, point.explained) == ("local minimum", 4, 4)
        assert "softmax" in names

    def test_rescaled_relus_and_dead_ones(self):
        """y = relu(x), one living unit, one dead. Its three weights are flat, and two of the four others."""
        x = np.array([[0.5], [1.0], [2.0]])
        model = nn.MLP((1, 2, 1), rng=0)
        first, bias, second, last = model.parameters()
        first.data, bias.data = np.array([[2.0], [1.0]]), np.array([0.0, -9.0])
        second.data, last.data = np.array([[0.5, 1.0]]), np.zeros(1)
        objective = Objective.of(model, lambda: nn.mse_loss(model(x), x))
        point, names = self.names(objective)
        assert (point.negative, point.zero, point.explained) == (0, 5, 5)
        assert "3 by parameters without effect" in names
        assert "1 by rescaling of hidden units" in names or "1 by linear reparametrisation" in names

    @pytest.mark.parametrize(
        "f",
        [
            lambda p: p[0] ** 2 + p[1] ** 6,
            lambda p: p[0] ** 2 - p[1] ** 6,
            lambda p: p[0] ** 2 - p[1] ** 10,
            lambda p: np.cosh(p[0] - p[1]) + 1e-6 * (p[0] + p[1]) ** 4,
            lambda p: p[0] ** 2 - 1e-8 * p[1] ** 4,
        ],
    )
    def test_nearly_flat_is_not_flat(self, f):
        point = critical.classify(Objective(f, np.zeros(2)))
        assert (point.kind, point.explained) == ("degenerate", 0)


class TestEscape:
    def test_the_gradient_gives_the_sign(self):
        way = critical.classify(Objective(lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, [0.0, 1e-5])).escape()
        assert way.direction[1] > 0
        np.testing.assert_allclose(way.theta, [0, 0.5**0.5], atol=1e-5)
        assert way.predicted == pytest.approx(way.measured, rel=1e-3)
        way = critical.classify(Objective(lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, [0.0, -1e-5])).escape()
        assert way.direction[1] < 0

    def test_at_an_exact_point_the_deeper_side(self):
        for sign in (1, -1):
            objective = Objective(lambda x, s=sign: x[0] ** 2 - x[1] ** 2 + s * x[1] ** 3 + x[1] ** 4, [0.0, 0.0])
            assert critical.classify(objective).escape().theta[1] * sign < -0.5

    def test_without_a_bottom_it_comes_to_an_end(self):
        way = critical.classify(quadratic(-1.0, 1.0)).escape()
        assert way.measured == pytest.approx(way.step**2 / 2)
        assert np.isfinite(way.theta).all()

    @pytest.mark.parametrize("theta", [[3.0, 2.0], [4.0, 4.0]])
    def test_no_way_out(self, theta):
        with pytest.raises(ValueError, match=r"without negative curvature"):
            critical.classify(Objective(himmelblau, theta)).escape()


GRID = np.stack(np.meshgrid(np.linspace(-5, 5, 6), np.linspace(-5, 5, 6)), axis=-1).reshape(-1, 2)


def test_a_saddle_of_products_alone_is_seen_in_the_loss():
    s = np.ones(40)
    s[3] = -1
    wrong = Objective.external(lambda x: (x @ x / 2, x), np.zeros(40), lambda x, v: s * v, smooth=True)
    assert not critical.classify(wrong, dense_up_to=10).certified
    right = critical.classify(Objective(lambda x: (s * x * x).sum() / 2, np.zeros(40)), dense_up_to=10)
    assert right.verdict == "saddle point (certified)"
    assert "the loss falls by" in right.evidence[0]


def test_a_large_one_says_how_to_have_it_decided():
    """n = 60 taken for too many: the bound holds an eigenvalue, and the time is of the right size."""
    values = np.linspace(0.5, 3, 60)
    objective = Objective(lambda w: (values * w * w).sum() / 2, np.zeros(60))
    point = critical.classify(objective, dense_up_to=10)
    residual, seconds = point.to_decide
    assert np.abs(values - point.eigenvalues[0]).min() <= residual + 1e-12
    assert 0 < seconds < 60
    assert "To have it decided: classify(..., dense_up_to=60), in about" in point.explanation
    decided = critical.classify(objective, dense_up_to=60)
    assert (decided.kind, decided.certified, decided.to_decide) == ("local minimum", True, None)


class TestFind:
    @pytest.mark.parametrize("method", ["newton", "gradient norm", "newton-mr"])
    def test_nine_of_nine(self, method):
        found = critical.find(Objective(himmelblau, [0.0, 0.0]), GRID, method)
        assert (len(found), found.euler) == (9, 1)
        assert sorted(point.index for point in found) == [0, 0, 0, 0, 1, 1, 1, 1, 2]
        assert all(point.certified and point.gradient_norm < 1e-12 for point in found)
        assert [p.value for p in found] == sorted(p.value for p in found)
        assert "9 critical points from 36 starts" in str(found)

    def test_saddle_free_finds_minima_only(self):
        found = critical.find(Objective(himmelblau, [0.0, 0.0]), GRID, "saddle-free")
        assert [point.kind for point in found] == ["local minimum"] * 4

    @pytest.mark.parametrize(("index", "wanted"), [(1, 4), (2, 1)])
    def test_eigenvector_following(self, index, wanted):
        found = critical.find(Objective(himmelblau, [0.0, 0.0]), GRID, "eigenvector following", index=index)
        assert sum(point.index == index for point in found) == wanted

    def test_false_points_are_told_apart(self):
        """x³/3 + x + 5y² has no critical point. Its gradient is shortest at 0, where it is (1, 0), and H g = 0."""
        objective = Objective(lambda x: x[0] ** 3 / 3 + x[0] + 5 * x[1] ** 2, [0.0, 0.0])
        found = critical.find(objective, [[0.5, 1.0], [-1.0, 0.3], [2.0, -1.0]])
        assert len(found) == 0
        assert len(found.gradient_flat) == 1
        np.testing.assert_allclose(found.gradient_flat[0].theta, 0, atol=1e-3)

    @pytest.mark.parametrize(("unit", "shift"), [(1e-9, 0.0), (1e-6, 0.0), (1e6, 0.0), (1.0, 1e6), (1e-3, 1e3)])
    def test_any_units(self, unit, shift):
        found = critical.find(
            Objective(lambda w: himmelblau((w - shift) / unit), [shift, shift]), np.array(GRID) * unit + shift
        )
        assert (len(found), found.euler, found.unfinished, found.runaways) == (9, 1, 0, 0)

    @pytest.mark.parametrize("method", ["newton-mr", "saddle-free"])
    def test_parameters_of_different_units_are_polished(self, method):
        """Soft beside stiff parameters by 1e18: all the same to rounding, and each point once."""
        units, rotation = np.array([1e-4, 1e5, 3e-3]), np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
        starts = np.random.default_rng(0).uniform(-1.6, 1.6, size=(12, 3))

        def f(x):
            return (((rotation @ (x / units)) ** 2 - 1) ** 2).sum()

        found = critical.find(Objective(f, units), units * (starts @ rotation), method)
        z = np.array([rotation @ (point.theta / units) for point in found])
        np.testing.assert_allclose(z, z.round(), atol=1e-10)
        assert len(np.unique(z.round(), axis=0)) == len(found) > 1

    def test_what_stands_still_has_not_run_away(self):
        """On a plateau all points are critical; and (x − 1)³ (x − 2) has nowhere to run to."""
        flat = critical.find(Objective(lambda x: np.maximum(x[0], 0) ** 2, [1.0]), [[-1.0], [-2.0], [-3.0], [0.5]])
        assert flat.runaways == 0
        quintic = lambda x: x[0] ** 5 / 5 - 5 * x[0] ** 4 / 4 + 3 * x[0] ** 3 - 7 * x[0] ** 2 / 2 + 2 * x[0]  # noqa: E731
        assert critical.find(Objective(quintic, [0.0]), [[1.0], [0.0], [-1.0]]).runaways == 0

    def test_what_runs_away_is_counted_and_no_point(self):
        """e^(−x²) + e^(−y²): the maximum at 0 is the only point; far away the gradient vanishes as well."""
        starts = np.random.default_rng(0).uniform(-2, 2, (20, 2))
        found = critical.find(Objective(lambda w: np.exp(-(w[0] ** 2)) + np.exp(-(w[1] ** 2)), [0.0, 0.0]), starts)
        assert [p.kind for p in found] == ["local maximum"]
        assert found.runaways > 5
        assert found.runaways + found.unfinished + sum(found.hits) <= 20
        assert "ran away towards infinity" in str(found)

    @pytest.mark.parametrize("method", ["newton", "gradient norm", "newton-mr", "saddle-free", "eigenvector following"])
    def test_a_start_where_the_loss_is_not_finite_is_unfinished(self, method):
        """x − log x: at 1 is the only critical point, a minimum."""
        objective = Objective(lambda x: (x - np.log(x)).sum(), [1.0])
        found = critical.find(objective, [[0.9], [-1.0]], method, index=0)
        assert ([round(p.theta[0], 6) for p in found], found.unfinished) == ([1.0], 1)

    def test_in_several_processes(self, capsys):
        pytest.importorskip("joblib")
        objective = Objective(himmelblau, [0.5, 0.5])
        one, other = critical.find(objective, GRID[:8]), critical.find(objective, GRID[:8], jobs=2, progress=True)
        assert [p.theta.tolist() for p in one] == [p.theta.tolist() for p in other]
        assert "starts" in capsys.readouterr().err
        assert objective.theta.tolist() == [0.5, 0.5]

    def test_linear_nets_from_random_starts(self):
        """At every point found, loss and index by the formulas, for the singular modes that it keeps."""
        s = np.array([3.0, 2.0])
        objective = linear_net(2, 2, s, (), np.random.default_rng(0))
        starts = np.random.default_rng(1).normal(size=(25, objective.n))
        seen = set()
        for point in [
            *critical.find(objective, starts, "newton"),
            *critical.find(objective, starts[:5], "saddle-free"),
        ]:
            W1, W2 = objective.vector.split(point.theta)
            kept_sizes = np.linalg.svd(W2 @ W1)[1]
            kept = tuple(i for i in range(2) if np.abs(kept_sizes - s[i]).min() < 1e-6)
            others = [j for j in range(2) if j not in kept]
            r = len(kept)
            assert point.value == pytest.approx(sum(s[j] ** 2 for j in others) / 2, abs=1e-9)
            assert point.index == sum(s[j] > s[i] for i in kept for j in others) + (2 - r) * (2 - r)
            seen.add(kept)
        assert seen == {(), (0,), (1,), (0, 1)}, "of every kind there is"

    @pytest.mark.parametrize(
        ("starts", "method", "message"),
        [
            (GRID, "bfgs", "method is one of"),
            ([[1.0]], "newton", "starts are"),
            ([[1.0, np.nan]], "newton", "some numbers are NaN"),
        ],
    )
    def test_bad_arguments(self, starts, method, message):
        with pytest.raises(ValueError, match=message):
            critical.find(Objective(himmelblau, [0.0, 0.0]), starts, method)


def known(seed):
    """A random function with a critical point at x0, its eigenvalues spread over decades; x0; and its kind.

    s·Σ (½ λᵢ zᵢ² + 0.1 zᵢ³) over the curved directions and s·Σ ±cᵢ zᵢ⁴ over the flat ones, z = Qᵀ(x − x0).
    """
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 7)
    eigenvalues = rng.choice([-1, 0, 1], n) * 10.0 ** rng.uniform(-6, 6 if seed % 2 else 0, n)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    flat = eigenvalues == 0
    quartic = rng.choice([-1, 1], n) * 10.0 ** rng.uniform(-3, 1, n) * flat
    scale, x0 = 10.0 ** rng.uniform(-9, 9), rng.normal(size=n) * 10.0 ** rng.uniform(-3, 2)

    def f(x):
        z = Q.T @ (x - x0)
        return scale * ((eigenvalues * z * z).sum() / 2 + (quartic * z**4).sum() + (0.1 * ~flat * z**3).sum())

    negative, positive = (eigenvalues < 0).any(), (eigenvalues > 0).any()
    if negative and positive:
        return f, x0, "saddle point"
    return f, x0, "degenerate" if flat.any() else "local minimum" if positive else "local maximum"


@pytest.mark.parametrize("seed", range(60))
def test_a_wrong_verdict_is_never_certified(seed):
    f, x0, kind = known(seed)
    objective = Objective(f, x0)
    point = critical.classify(objective)
    assert (point.kind, point.certified) == (kind, kind != "degenerate")
    rng = np.random.default_rng(seed)
    near = critical.classify(objective, x0 + rng.normal(size=len(x0)) * 10.0 ** rng.uniform(-9, -3))
    assert near.kind == kind or not near.certified
    matrix_free = critical.classify(objective, dense_up_to=0)
    assert matrix_free.kind in (kind, "no negative curvature found", "degenerate")
    assert not matrix_free.certified or matrix_free.kind == kind == "saddle point"
