"""Dense spectrum, trace, sharpness, spectral density: against closed forms and numpy.linalg.eigh."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn
from microgradopt.curvature import HessianOperator
from microgradopt.curvature.spectrum import dense_spectrum, sharpness, spectral_density, trace


def rotated(values, seed=0):
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    H = (Q * values) @ Q.T
    return (H + H.T) / 2


@pytest.fixture(scope="module")
def hessian():
    """Of a network: a few large eigenvalues, most near zero, some negative."""
    rng = np.random.default_rng(5)
    model = nn.MLP([3, 6, 5, 2], activation=nn.Tanh, rng=0)
    X, y = rng.normal(size=(20, 3)), rng.integers(0, 2, 20)
    return HessianOperator(mg.Objective.of(model, lambda: nn.cross_entropy(model(X), y)))


@pytest.fixture(scope="module")
def dense(hessian):
    return dense_spectrum(hessian.dense())


# Dense ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [1.0, 2.0, -3.0])
def test_dense_spectrum_of_the_lectures_net(w):
    """L = (1 − w₁ w₂)² on its curve of minima: eigenvalues 0 and 2(w₁² + w₂²), along (w₁, −w₂) and (w₂, w₁)."""
    a, b = w, 1 / w
    spectrum = dense_spectrum([[2 * b * b, 2.0], [2.0, 2 * a * a]])
    np.testing.assert_allclose(spectrum.values, [0, 2 * (a * a + b * b)], atol=1e-14)
    np.testing.assert_allclose(np.abs(spectrum.vectors[:, 0]), np.abs([a, b]) / np.hypot(a, b), rtol=1e-14)
    assert spectrum.asymmetry == 0
    assert spectrum.norm == pytest.approx(2 * (a * a + b * b))


def test_dense_spectrum_tells_the_asymmetry():
    H = np.array([[1.0, 2.0], [2.0 + 1e-8, -1.0]])
    spectrum = dense_spectrum(H)
    assert spectrum.asymmetry == pytest.approx(np.sqrt(2) * 1e-8)
    np.testing.assert_allclose(spectrum.values, [-np.sqrt(5), np.sqrt(5)], rtol=1e-8)
    assert H[1, 0] == 2.0 + 1e-8
    with pytest.raises(ValueError, match="is not symmetric"):  # the eigenvalues of (H + Hᵀ)/2 are others
        dense_spectrum([[0, 3], [1, 0]])


def test_dense_spectrum_of_float32_and_of_whole_numbers():
    assert dense_spectrum(np.eye(3, dtype=np.float32)).vectors.dtype == np.float32
    assert dense_spectrum(np.array([[0, 2], [2, 0]])).values.tolist() == pytest.approx([-2, 2])


@pytest.mark.parametrize("H", [np.ones((2, 3)), np.ones(2), np.full((2, 2), np.nan), np.diag([1, np.inf])], ids=str)
def test_dense_spectrum_of_what_has_none(H):
    with pytest.raises(ValueError, match="dense_spectrum"):
        dense_spectrum(H)


# Trace ----------------------------------------------------------------------------------------------------------------


def test_trace_of_a_small_matrix_is_exact():
    H = rotated(np.random.default_rng(0).normal(size=30))
    assert trace(H, 30) == (pytest.approx(np.trace(H), rel=1e-12), 0, 30)
    assert trace(np.array([[-3.0]]), 1) == (-3, 0, 1)


@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
def test_trace_is_within_four_standard_errors(scale):
    H = rotated(np.random.default_rng(1).normal(size=200)) * scale
    z = []
    for seed in range(30):
        estimate = trace(H, 60, seed)
        z.append((estimate.value - np.trace(H)) / estimate.error)
        assert estimate.products == 60
    assert np.abs(z).max() < 4
    assert 0.5 < np.std(z) < 2  # the error is neither too large nor too small
    assert abs(np.mean(z)) < 4 / np.sqrt(30)


def test_trace_of_few_large_eigenvalues_needs_few_products():
    H = rotated(np.concatenate([[100.0, 50.0, -20.0], 1e-3 * np.ones(297)]))
    estimate = trace(H, 30)
    assert estimate.error < 0.01  # of random signs alone, with 30 products: 30
    assert estimate.value == pytest.approx(130.297, abs=4 * estimate.error + 1e-10)


def test_trace_of_zero_and_identity():
    assert trace(np.zeros((50, 50)), 12) == (0, 0, 12)
    assert trace(np.eye(50), 12).value == pytest.approx(50, abs=4 * trace(np.eye(50), 12).error)


def test_trace_of_a_network(hessian, dense):
    estimate = trace(hessian, 40)
    assert estimate.value == pytest.approx(dense.values.sum(), abs=4 * estimate.error)


def test_trace_of_too_few_products():
    with pytest.raises(ValueError, match="at least 4"):
        trace(np.eye(9), 3)


# Sharpness ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[-5, -5, -1], [0, 0, 0], [2, 2, -2], [-7, 3, 1, 1]])
def test_sharpness_of_small_matrices(values):
    H = rotated(np.array(values, float))
    estimate = sharpness(H)
    assert estimate.value == pytest.approx(max(values), abs=1e-12)
    assert estimate.error < 1e-12


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-8])
def test_sharpness_is_within_its_error(tol):
    for seed in range(10):
        values = np.random.default_rng(seed).normal(size=200)
        estimate = sharpness(rotated(values, seed), tol, seed)
        assert np.abs(values - estimate.value).min() <= estimate.error + 1e-13
        assert estimate.error <= tol * np.abs(values).max()
        assert estimate.value <= values.max() + 1e-13
        assert estimate.value == pytest.approx(values.max(), abs=tol * np.abs(values).max())


def test_sharpness_of_a_network(hessian, dense):
    before = hessian.products
    estimate = sharpness(hessian)
    assert estimate.value == pytest.approx(dense.values[-1], rel=1e-6)
    assert estimate.products == hessian.products - before < hessian.shape[0]


# Density --------------------------------------------------------------------------------------------------------------


def test_density_of_diagonal_matrices_is_exact():
    """Signs see every eigenvalue of a diagonal matrix alike, so that only quadrature is left, and it is complete."""
    values = np.array([-2.0, -2, 0, 1, 1, 1, 3])
    density = spectral_density(np.diag(values), 3, 50)
    assert density.products == 3 * 4
    for k in range(6):
        value, error, _ = density.moment(k)
        assert value == pytest.approx(np.mean(values**k), abs=1e-12)
        assert error < 1e-12
    for x, count in [(-2.1, 0), (-1, 2), (0.5, 3), (2, 6), (3.1, 7)]:
        assert density.count_below(x).value == pytest.approx(count, abs=1e-12)
    grid = np.linspace(-4, 5, 7)
    exact = np.mean(np.exp(-((grid[:, None] - values) ** 2) / 2 / 0.3**2), axis=1) / 0.3 / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(density.density(grid, 0.3), exact, atol=1e-12)


def test_moments_and_counts_are_within_four_standard_errors():
    values = np.concatenate(
        [np.random.default_rng(2).normal(-3, 0.5, 80), np.random.default_rng(3).normal(3, 0.5, 120)]
    )
    H = rotated(values)
    z = []
    for seed in range(20):
        density = spectral_density(H, 8, 30, seed)
        for k in (1, 2, 3):
            estimate = density.moment(k)
            z.append((estimate.value - np.mean(values**k)) / estimate.error)
        count = density.count_below(0.0)
        z.append((count.value - 80) / count.error)
        assert density.moment(0).value == pytest.approx(1, abs=1e-12)
        assert (density.weights >= 0).all()
    assert np.count_nonzero(np.abs(z) > 4) <= 1  # with 7 degrees of freedom, 0.5 % of 80 are beyond 4
    assert 0.5 < np.std(z) < 2


@pytest.mark.parametrize("crowd", [1e-9, 1e-6, 1e-3, 0.1])
def test_counts_in_a_crowd_are_honest(crowd):
    """300 of 400 eigenvalues are as near to 0 as that, as in networks: no quadrature tells which side they are on."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values = np.concatenate([crowd * rng.normal(size=300), rng.uniform(1, 2, 100)])
        density = spectral_density(rotated(values), 6, 30, seed)
        for x in (0.0, crowd / 3, 0.5, 1.5):
            count = density.count_below(x)
            assert abs(count.value - np.count_nonzero(values < x)) <= 4 * count.error
        assert density.count_below(0.0).error > 20
        gap = density.count_below(0.7)  # the standard error is all that is left
        assert gap.error < 30 * (1 + crowd)


@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
def test_density_is_the_smoothed_spectrum(scale):
    values = np.random.default_rng(2).normal(size=300) * scale
    density = spectral_density(rotated(values), 20, 60)
    grid, sigma = np.linspace(-6, 6, 601) * scale, 0.3 * scale
    exact = np.mean(np.exp(-((grid[:, None] - values) ** 2) / (2 * sigma**2)), axis=1) / (sigma * np.sqrt(2 * np.pi))
    found = density.density(grid, sigma)
    np.testing.assert_allclose(found, exact, atol=0.03 / scale)
    assert np.sum(found) * (grid[1] - grid[0]) == pytest.approx(1, rel=1e-6)
    assert density.density(0.0, sigma).shape == ()


def test_density_of_a_network(hessian, dense):
    density = spectral_density(hessian, 10, hessian.shape[0])
    x = -1e-3
    count = density.count_below(x)
    assert count.value == pytest.approx(np.count_nonzero(dense.values < x), abs=4 * count.error)
    trace_over_n = density.moment(1)
    assert trace_over_n.value == pytest.approx(dense.values.mean(), abs=4 * trace_over_n.error)


def test_same_seed_same_bits():
    H = rotated(np.random.default_rng(0).normal(size=70))
    for f in (trace, sharpness, lambda H, rng: spectral_density(H, 3, 10, rng)):
        for a, b in zip(f(H, rng=1), f(H, rng=np.random.default_rng(1)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert trace(H, rng=1) != trace(H, rng=2)


def test_float32():
    values = np.random.default_rng(0).normal(size=200)
    H = rotated(values).astype(np.float32)
    estimate = trace(H, 60)
    assert estimate.value == pytest.approx(values.sum(), abs=4 * estimate.error)
    assert sharpness(H).value == pytest.approx(values.max(), rel=1e-4)
    density = spectral_density(H, 8, 40)
    assert density.moment(2).value == pytest.approx(np.mean(values**2), abs=4 * density.moment(2).error)


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least 2 and 1"):
        spectral_density(np.eye(3), probes=1)
    with pytest.raises(ValueError, match="at least 2 and 1"):
        spectral_density(np.eye(3), steps=0)
    with pytest.raises(ValueError, match="sigma"):
        spectral_density(np.eye(3)).density([0.0], 0.0)
    for f in (trace, sharpness, spectral_density):
        with pytest.raises(ValueError, match="square"):
            f(np.ones((2, 3)))
        with pytest.raises(ValueError, match="NaN or infinite"):
            f(np.full((3, 3), np.nan))
