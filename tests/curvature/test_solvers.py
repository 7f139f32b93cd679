"""Solvers, against dense linear algebra, the least squares of their Krylov spaces, and conditions of optimality."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import conjugate_gradient, minres, trust_region_step

SEEDS = pytest.mark.parametrize("seed", range(20))


def symmetric(values, rng):
    Q, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    A = Q * values @ Q.T
    return (A + A.T) / 2


def krylov(A, b, k):
    """An orthonormal basis of span{b, A b, …}, by QR of Lanczos-like vectors."""
    Q = (b / np.linalg.norm(b))[:, None]
    while Q.shape[1] < k:
        v = A @ Q[:, -1]
        for _ in range(2):
            v = v - Q @ (Q.T @ v)
        Q = np.column_stack([Q, v / np.linalg.norm(v)])
    return Q


def model(A, b, x):
    return x @ A @ x / 2 - b @ x


class TestConjugateGradient:
    @SEEDS
    def test_solves(self, seed):
        rng = np.random.default_rng(seed)
        n = rng.integers(1, 40)
        A, b = symmetric(10 ** rng.uniform(-2, 2, n), rng), rng.normal(size=n)
        found = conjugate_gradient(A, b)
        assert (found.status, found.direction) == ("converged", None)
        assert found.residual <= 1e-10 * np.linalg.norm(b)
        np.testing.assert_allclose(A @ found.x, b, atol=1e-8 * np.linalg.norm(b))

    def test_ends_after_as_many_iterations_as_there_are_eigenvalues(self):
        rng = np.random.default_rng(0)
        found = conjugate_gradient(symmetric(np.repeat([1.0, 3.0, 10.0], 7), rng), rng.normal(size=21))
        assert found.iterations == 3

    @SEEDS
    @pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
    def test_the_path_is_cut_at_the_boundary(self, seed, radius):
        """Its corners are the minima in the Krylov spaces."""
        rng = np.random.default_rng(seed)
        A, b = symmetric(rng.uniform(0.1, 2, 8), rng), rng.normal(size=8)
        corners = [np.zeros(8)]
        for k in range(1, 9):
            Q = krylov(A, b, k)
            corners.append(Q @ np.linalg.solve(Q.T @ A @ Q, Q.T @ b))
        found = conjugate_gradient(A, b, radius)
        if np.linalg.norm(corners[-1]) < radius:
            assert found.status == "converged"
            np.testing.assert_allclose(found.x, corners[-1], atol=1e-8)
            return
        k = next(k for k in range(9) if np.linalg.norm(corners[k]) >= radius)
        way = corners[k] - corners[k - 1]
        roots = np.roots([way @ way, 2 * way @ corners[k - 1], corners[k - 1] @ corners[k - 1] - radius**2])
        np.testing.assert_allclose(found.x, corners[k - 1] + max(roots) * way, atol=1e-8)
        assert (found.status, found.iterations) == ("boundary", k)
        assert found.residual == pytest.approx(np.linalg.norm(b - A @ found.x))

    @SEEDS
    def test_negative_curvature(self, seed):
        rng = np.random.default_rng(seed)
        A, b = symmetric(np.r_[-1.0, rng.uniform(0.5, 2, 7)], rng), rng.normal(size=8)
        found = conjugate_gradient(A, b)
        d = found.direction
        assert found.status == "negative curvature"
        assert d @ A @ d < 0
        assert b @ d > 0, "it leads down"
        inside = 1.01 * np.linalg.norm(found.x) + 0.1
        at_boundary = conjugate_gradient(A, b, inside)
        if at_boundary.status == "negative curvature":
            np.testing.assert_array_equal(at_boundary.direction, d)
            assert np.linalg.norm(at_boundary.x) == pytest.approx(inside)
            assert model(A, b, at_boundary.x) < model(A, b, found.x) <= 0
            assert at_boundary.residual == pytest.approx(np.linalg.norm(b - A @ at_boundary.x))

    def test_zero_curvature_leads_to_the_boundary(self):
        found = conjugate_gradient(np.zeros((2, 2)), np.array([3.0, 4.0]), 10.0)
        np.testing.assert_allclose(found.x, [6, 8])
        assert found.status == "negative curvature"

    @pytest.mark.parametrize("size", [1e-180, 1e180])
    def test_a_right_hand_side_far_from_the_radius(self, size):
        assert conjugate_gradient(-np.eye(2), np.array([0.6, 0.8]) * size, 0.0).x.tolist() == [0, 0]
        found = conjugate_gradient(-np.eye(2) * size, np.array([0.6, 0.8]) * size, 10.0)
        np.testing.assert_allclose(found.x, [6, 8])
        assert conjugate_gradient(np.zeros((2, 2)), np.array([0.6, 0.8]) * size, 1e3).x.tolist() == pytest.approx(
            [600, 800]
        )

    def test_no_right_hand_side_and_no_iterations(self):
        assert conjugate_gradient(np.eye(3), np.zeros(3)).status == "converged"
        found = conjugate_gradient(np.diag([1.0, 2.0, 3.0]), np.ones(3), max_iter=2)
        assert (found.status, found.iterations) == ("iterations", 2)
        assert conjugate_gradient(np.eye(2), np.ones(2), max_iter=0).x.tolist() == [0, 0]


class TestMinres:
    @SEEDS
    @pytest.mark.parametrize("zeros", [0, 2])
    def test_solves_what_is_indefinite_or_singular(self, seed, zeros):
        """A singular system that has solutions: the shortest one."""
        rng = np.random.default_rng(seed)
        n = rng.integers(3, 30)
        values = rng.choice([-1, 1], n) * 10 ** rng.uniform(-1, 1, n)
        values[:zeros] = 0
        A = symmetric(values, rng)
        b = A @ rng.normal(size=n)
        found = minres(A, b)
        assert (found.status, found.direction) == ("converged", None)
        np.testing.assert_allclose(found.x, np.linalg.pinv(A, 1e-10) @ b, atol=1e-7 * np.linalg.norm(b))

    @SEEDS
    def test_least_squares_where_there_is_no_solution(self, seed):
        rng = np.random.default_rng(seed)
        A, b = symmetric(np.r_[0, 0, rng.uniform(-2, 2, 8)], rng), rng.normal(size=10)
        found = minres(A, b)
        least = np.linalg.norm(b - A @ np.linalg.pinv(A, 1e-10) @ b)
        assert found.status == "converged"
        assert found.residual == pytest.approx(least, rel=1e-8)
        assert np.linalg.norm(b - A @ found.x) == pytest.approx(least, rel=1e-8)

    @SEEDS
    def test_each_iterate_has_the_smallest_residual_of_its_space(self, seed):
        rng = np.random.default_rng(seed)
        A, b = symmetric(rng.uniform(-2, 2, 9), rng), rng.normal(size=9)
        for k in range(1, 9):
            Q = krylov(A, b, k)
            best = Q @ np.linalg.lstsq(A @ Q, b, rcond=None)[0]
            found = minres(A, b, max_iter=k)
            np.testing.assert_allclose(found.x, best, atol=1e-7)
            assert (found.status, found.iterations) == ("iterations", k)
            assert found.residual == pytest.approx(np.linalg.norm(b - A @ best), abs=1e-8)

    @SEEDS
    def test_negative_curvature_is_told_at_the_first_residual_that_shows_it(self, seed):
        rng = np.random.default_rng(seed)
        A, b = symmetric(np.r_[-0.3, rng.uniform(0.1, 2, 8)], rng), rng.normal(size=9)
        residuals = [b]
        for k in range(1, 9):
            Q = krylov(A, b, k)
            residuals.append(b - A @ Q @ np.linalg.lstsq(A @ Q, b, rcond=None)[0])
        k = next(k for k, r in enumerate(residuals) if r @ A @ r <= 0)
        found = minres(A, b, stop_at_negative_curvature=True)
        assert (found.status, found.iterations) == ("negative curvature", k + 1)
        np.testing.assert_allclose(found.direction, residuals[k], atol=1e-8)
        np.testing.assert_allclose(b - A @ found.x, found.direction, atol=1e-8)
        assert b @ found.direction == pytest.approx(found.direction @ found.direction), "it leads down"

    @SEEDS
    def test_there_is_none_where_there_is_none(self, seed):
        """Singular and ill-conditioned: rounding does not make it."""
        rng = np.random.default_rng(seed)
        A = symmetric(np.r_[0, 0, 10 ** rng.uniform(-6, 3, 12)], rng)
        found = minres(A, A @ rng.normal(size=14), stop_at_negative_curvature=True)
        assert found.direction is None
        for tol in (1e-13, 1e-15, 0.0):  # beyond what there is to gain, the recurrence alone would see it
            d = minres(A, A @ rng.normal(size=14), tol, stop_at_negative_curvature=True).direction
            assert d is None or d @ (A @ d) <= 0

    def test_the_lectures_saddle(self):
        """(1 − w₁w₂)² at the origin, eigenvalues ±2: the first residual has curvature 0."""
        A = np.array([[0.0, -2.0], [-2.0, 0.0]])
        assert minres(A, [1.0, 0.0]).x.tolist() == [0, -0.5]
        found = minres(A, [1.0, 0.0], stop_at_negative_curvature=True)
        assert (found.status, found.direction.tolist()) == ("negative curvature", [1, 0])

    def test_no_right_hand_side_and_no_matrix(self):
        assert minres(np.eye(3), np.zeros(3)).x.tolist() == [0, 0, 0]
        found = minres(np.zeros((3, 3)), np.ones(3))
        assert (found.status, found.residual, found.x.tolist()) == ("converged", pytest.approx(3**0.5), [0, 0, 0])


@pytest.mark.parametrize("solve", [conjugate_gradient, minres])
class TestBoth:
    def test_on_a_hessian(self, solve):
        objective = mg.Objective(lambda x: ((x - 1) ** 2).sum() + (x[0] * x[1]) ** 2, np.zeros(3))
        H = HessianOperator(objective, [0.1, 0.2, 0.3])
        found = solve(H, -H.gradient)
        assert H.products == found.iterations
        np.testing.assert_allclose(H.dense() @ found.x, -H.gradient, atol=1e-9)

    @pytest.mark.parametrize("of_A", [1e-150, 1.0, 1e150])
    @pytest.mark.parametrize("of_b", [1e-150, 1.0, 1e150])
    def test_no_square_overflows_or_vanishes(self, solve, of_A, of_b):
        rng = np.random.default_rng(0)
        A, b = symmetric(rng.uniform(0.5, 2, 12), rng), rng.normal(size=12)
        found = solve(A * of_A, b * of_b)
        assert found.status == "converged"
        assert found.residual / of_b < 1e-9
        np.testing.assert_allclose(found.x * of_A / of_b, np.linalg.solve(A, b), atol=1e-9)

    def test_float32_stays(self, solve):
        found = solve(np.diag([1, 2, 3]).astype(np.float32), np.ones(3, np.float32), tol=1e-6)
        assert found.x.dtype == np.float32
        np.testing.assert_allclose(found.x, [1, 1 / 2, 1 / 3], rtol=1e-5)

    @pytest.mark.parametrize("b", [np.ones((2, 1)), 1.0, [], [np.nan, 1.0]])
    def test_a_bad_right_hand_side(self, solve, b):
        with pytest.raises(ValueError, match=solve.__name__):
            solve(np.eye(2), b)


def assert_optimal(A, g, radius, p):
    """(A + σ I) p = −g with σ ≥ max(0, −λ₁), and σ = 0 or ‖p‖ = radius: necessary and sufficient."""
    size, largest = np.linalg.norm(p), np.abs(A).max()
    assert size <= radius * (1 + 1e-10)
    sigma = 0.0 if size < radius * (1 - 1e-8) else -(p @ (A @ p + g)) / (p @ p)
    assert sigma >= max(0.0, -np.linalg.eigvalsh(A)[0]) - 1e-9 * largest
    assert np.linalg.norm(A @ p + sigma * p + g) <= 1e-11 * (np.linalg.norm(g) + largest * size)


class TestTrustRegionStep:
    @pytest.mark.parametrize("kind", ["indefinite", "positive", "hard", "nearly hard", "saddle", "repeated"])
    @pytest.mark.parametrize("seed", range(30))
    def test_conditions_of_optimality(self, kind, seed):
        rng = np.random.default_rng(seed)
        n = rng.integers(2, 9)
        A = symmetric(rng.normal(size=n), rng)
        if kind == "positive":
            A = A @ A
        if kind == "repeated":
            A = symmetric(np.r_[-1.0, -1.0, rng.uniform(-1, 1, n)], rng)
        values, vectors = np.linalg.eigh(A)
        g = rng.normal(size=len(A)) * 10 ** rng.uniform(-6, 6)
        if kind in ("hard", "nearly hard"):
            g = g - vectors[:, 0] * (vectors[:, 0] @ g) * (1 if kind == "hard" else 1 - 1e-9)
        if kind == "saddle":
            g, radius = np.zeros(n), 0.5
        for radius in 10 ** rng.uniform(-3, 3, 5):
            assert_optimal(A, g, radius, trust_region_step(values, vectors, g, radius))

    def test_by_hand(self):
        """p = −g / (λ + σ), and in the hard case the rest along the first eigenvector."""
        step = trust_region_step(np.array([-1.0, 1.0]), np.eye(2), np.array([0.0, 2.0]), 2.0)
        np.testing.assert_allclose(np.abs(step), [3**0.5, 1])
        step = trust_region_step(np.array([-1.0, 1.0]), np.eye(2), np.array([1e-300, 2.0]), 2.0)
        np.testing.assert_allclose(step, [-(3**0.5), -1])
        step = trust_region_step(np.array([2.0, 2.0]), np.eye(2), np.array([3.0, 4.0]), 1.0)
        np.testing.assert_allclose(step, [-0.6, -0.8])

    def test_noise_is_not_followed(self):
        """A flat direction, as a symmetry makes it: eigenvalue and slope are what rounding leaves of zero."""
        for values in ([-1e-17, 1.0], [1e-17, 1.0]):
            for slope in (1e-17, -1e-17):
                step = trust_region_step(np.array(values), np.eye(2), np.array([slope, 1.0]), 5.0)
                np.testing.assert_allclose(step, [0, -1])

    def test_a_flat_direction_with_a_slope_leads_to_the_boundary(self):
        step = trust_region_step(np.array([0.0, 1.0]), np.eye(2), np.array([1.0, 0.0]), 5.0)
        np.testing.assert_allclose(step, [-5, 0])

    @pytest.mark.parametrize("of_H", [1e-200, 1e200])
    @pytest.mark.parametrize("of_p", [1e-80, 1e80])
    def test_no_square_overflows_or_vanishes(self, of_H, of_p):
        values, g = np.array([-1.0, 0.5, 2.0]), np.array([1.0, -2.0, 3.0])
        plain = trust_region_step(values, np.eye(3), g, 2.0)
        other = trust_region_step(values * of_H, np.eye(3), g * of_H * of_p, 2.0 * of_p)
        np.testing.assert_allclose(other / of_p, plain, rtol=1e-9)

    def test_a_slope_far_above_the_curvature(self):
        values, g = np.array([1e-25, 1e-24], np.float32), np.array([3.0, 4.0], np.float32)
        np.testing.assert_allclose(
            trust_region_step(values, np.eye(2, dtype=np.float32), g, 1.0), [-0.6, -0.8], rtol=1e-6
        )

    def test_nothing_to_do(self):
        assert trust_region_step(np.array([0.0, 1.0]), np.eye(2), np.zeros(2), 5.0).tolist() == [0, 0]
        assert trust_region_step(np.zeros(2), np.eye(2), np.zeros(2), 5.0).tolist() == [0, 0]

    def test_float32_stays(self):
        values, vectors = np.linalg.eigh(np.diag([-1, 2]).astype(np.float32))
        step = trust_region_step(values, vectors, np.ones(2, np.float32), 1.0)
        assert step.dtype == np.float32
        assert np.linalg.norm(step) == pytest.approx(1, rel=1e-6)
