"""The Lanczos process and eigenpairs: against closed forms, numpy.linalg.eigh and SciPy's eigsh."""

import numpy as np
import pytest

from microgradopt.curvature.lanczos import eigenpairs, tridiagonal

ENDS = ["smallest", "largest", "both", "magnitude"]
TOL = 4e-11  # the default for float64


class Diagonal:
    """diag(values), known by its products alone; counts them."""

    def __init__(self, values, dtype=np.float64):
        self.values = np.asarray(values, dtype)
        self.shape, self.dtype = (len(values), len(values)), self.values.dtype
        self.products = 0

    def __matmul__(self, v):
        self.products += 1
        assert v.dtype == self.dtype
        return self.values * v


def rotated(values, seed=0):
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    H = (Q * values) @ Q.T
    return (H + H.T) / 2


def ends(values, k, which):
    """What eigenpairs should give, of a whole spectrum."""
    values, n = np.sort(values), len(values)
    if which == "both":
        return values if 2 * k >= n else np.concatenate([values[:k], values[n - k :]])
    if which == "magnitude":
        return np.sort(values[np.argsort(-np.abs(values), kind="stable")[:k]])
    return values[:k] if which == "smallest" else values[n - k :]


def check(H, pairs, expected, tol=TOL):
    """Values, vectors, residuals and their meaning."""
    matrix = np.diag(H.values) if isinstance(H, Diagonal) else H
    norm = max(np.abs(expected).max(), np.linalg.norm(matrix, 2))
    np.testing.assert_allclose(pairs.values, expected, rtol=0, atol=2 * tol * norm)
    found = matrix @ pairs.vectors - pairs.vectors * pairs.values
    np.testing.assert_allclose(pairs.residuals, np.linalg.norm(found, axis=0), rtol=1e-3, atol=1e-14 * norm)
    assert (pairs.residuals <= 3 * tol * norm).all()
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(len(expected)), atol=1e-12)


MULTIPLE = {
    "threefold": [-1, -1, -1, 1, 1, 2],
    "identity": [1] * 7,
    "zero": [0] * 5,
    "plus and minus 2": [-2, 2],
    "plus and minus 2, many": [-2, 2] * 6,
    "one": [3],
    "minus one": [-3],
    "one negative": [0] * 9 + [-1e-6],
    "flat": [0] * 8 + [1, 4, 4],
}


@pytest.mark.parametrize("values", MULTIPLE.values(), ids=MULTIPLE.keys())
@pytest.mark.parametrize("which", ["smallest", "largest", "both"])
def test_repeated_eigenvalues_are_found_as_often_as_they_are_there(values, which):
    for k in range(1, len(values) + 1):
        for H in (Diagonal(values), rotated(np.array(values, float))):
            check(H, eigenpairs(H, k, which), ends(values, k, which))


def test_magnitude_of_plus_and_minus():
    for k, expected in [(1, [2]), (2, [2, 2]), (3, [1, 2, 2]), (4, [1, 1, 2, 2])]:
        pairs = eigenpairs(Diagonal([-2, 2, 1, -1]), k, "magnitude")
        np.testing.assert_allclose(np.sort(np.abs(pairs.values)), expected, atol=TOL)


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("n", [2, 3, 20, 150])
@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
def test_random_matrices_against_eigh(n, which, scale):
    rng = np.random.default_rng(n)
    A = rng.normal(size=(n, n)) * scale
    H = A + A.T
    for k in {1, 2, min(n, 5)}:
        check(H, eigenpairs(H, k, which, rng=k), ends(np.linalg.eigvalsh(H), k, which))


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_no_square_overflows_or_vanishes(which, scale):
    """A norm that does would make all residuals 0 after one product."""
    values = np.random.default_rng(0).normal(size=30)
    pairs = eigenpairs(rotated(values) * scale, 2, which)
    np.testing.assert_allclose(pairs.values / scale, ends(values, 2, which), atol=1e-10)
    assert (pairs.residuals / scale < 1e-9).all()


@pytest.mark.parametrize(
    ("which", "theirs"), [("smallest", "SA"), ("largest", "LA"), ("both", "BE"), ("magnitude", "LM")]
)
def test_against_eigsh(which, theirs):
    sparse = pytest.importorskip("scipy.sparse")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    n = 400
    H = sparse.random_array((n, n), density=0.02, rng=np.random.default_rng(0), format="csr")
    H = H + H.T - sparse.eye_array(n)
    pairs = eigenpairs(H, 3, which)
    expected = linalg.eigsh(H, 6 if which == "both" else 3, which=theirs, return_eigenvectors=False, v0=np.ones(n))
    check(H.toarray(), pairs, np.sort(expected))
    check(H.toarray(), eigenpairs(linalg.aslinearoperator(H), 3, which), np.sort(expected))


@pytest.mark.parametrize("which", ENDS)
def test_thick_restart(which):
    """A basis of 24 vectors, where several hundred products are needed."""
    values = np.random.default_rng(0).normal(size=500)
    pairs = eigenpairs(Diagonal(values), 3, which, max_vectors=24)
    check(Diagonal(values), pairs, ends(values, 3, which))
    assert pairs.products > 3 * 24


def test_copies_of_an_eigenvalue_that_one_krylov_space_cannot_see():
    values = np.concatenate([[-1.0] * 5, np.linspace(-0.5, 10, 495)])
    for k, expected in [(1, [-1]), (4, [-1] * 4), (6, [-1] * 5 + [-0.5])]:
        check(Diagonal(values), eigenpairs(Diagonal(values), k), np.array(expected))


def test_clusters():
    values = np.concatenate([-1 + 1e-6 * np.arange(4), -1e-3 * np.arange(50), np.linspace(0, 5, 100)])
    H = rotated(values)
    check(H, eigenpairs(H, 6), np.sort(values)[:6])


def test_ill_scaled_spectrum():
    values = np.array([-(10.0**-p) for p in range(8)] + [10.0**p for p in range(-8, 9)])
    check(Diagonal(values), eigenpairs(Diagonal(values), 3), np.sort(values)[:3])
    check(Diagonal(values), eigenpairs(Diagonal(values), 3, "largest"), np.sort(values)[-3:])


def test_a_few_eigenvalues_cost_few_products():
    H = Diagonal(np.concatenate([[-1.0], np.random.default_rng(0).random(1999) * 10]))
    pairs = eigenpairs(H)
    assert pairs.products == H.products < 250
    identity = Diagonal(np.ones(1000))
    assert eigenpairs(identity).products == identity.products == 3  # find it, look for others, measure the residual


def test_copies_that_are_not_asked_for_are_not_collected():
    """Rounding makes some of them look a little more extreme than the one that was found."""
    H = rotated(np.array([-1.0] * 200 + [1.0] * 200))
    for seed in range(4):
        assert eigenpairs(H, rng=seed).products <= 6  # two to find both, two to look for others, a residual


@pytest.mark.parametrize("max_products", [2, 3, 5, 12, 30, 100])
@pytest.mark.parametrize("which", ENDS)
def test_when_products_run_out_the_residuals_are_honest(max_products, which):
    H = Diagonal(np.random.default_rng(1).normal(size=400))
    pairs = eigenpairs(H, 3, which, max_products=max_products)
    assert pairs.products == H.products <= max_products
    assert 1 <= len(pairs.values) <= 6
    for value, residual, v in zip(pairs.values, pairs.residuals, pairs.vectors.T, strict=True):
        assert np.abs(H.values - value).min() <= residual
        np.testing.assert_allclose(residual, np.linalg.norm(H.values * v - value * v), rtol=1e-8)
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(len(pairs.values)), atol=1e-13)


def test_a_loose_tolerance_costs_less_and_is_kept():
    H = Diagonal(np.random.default_rng(2).normal(size=1000))
    products = 0
    for tol in (1e-2, 1e-5, 1e-8, 1e-14):
        pairs = eigenpairs(H, tol=tol)
        assert pairs.residuals[0] <= max(tol, 1e-13) * np.abs(H.values).max()
        assert pairs.products > products
        products = pairs.products


@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
def test_float32(scale):
    values = np.concatenate([[-2, -2], np.linspace(-1, 3, 298)])
    H = (rotated(values) * scale).astype(np.float32)
    for which in ENDS:
        pairs = eigenpairs(H, 2, which)
        assert pairs.values.dtype == pairs.vectors.dtype == pairs.residuals.dtype == np.float32
        np.testing.assert_allclose(pairs.values, scale * ends(values, 2, which), rtol=0, atol=1e-5 * scale)
        assert (pairs.residuals <= 2e-4 * scale).all()
        np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(len(pairs.values)), atol=1e-5)
    assert eigenpairs(Diagonal(values, np.float32)).values == pytest.approx([-2])


def test_whole_numbers_are_computed_with_as_float64():
    pairs = eigenpairs(np.array([[0, -2], [-2, 0]]), 2)
    assert pairs.values.dtype == np.float64
    np.testing.assert_allclose(pairs.values, [-2, 2], rtol=1e-15)


def test_same_seed_same_bits():
    A = np.random.default_rng(0).normal(size=(60, 60))
    H = A + A.T
    first, second, other = (eigenpairs(H, 2, rng=seed) for seed in (3, 3, 4))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.vectors != other.vectors).any()
    np.testing.assert_array_equal(eigenpairs(H, 2, rng=np.random.default_rng(3)).vectors, first.vectors)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_products_that_are_not_finite(value):
    H = np.eye(4)
    H[2, 2] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        eigenpairs(H)
    with pytest.raises(ValueError, match="NaN or infinite"):
        tridiagonal(H, np.ones(4), 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "between 1 and 4"),
        ({"k": 5}, "between 1 and 4"),
        ({"which": "SA"}, "'smallest', 'largest', 'both', 'magnitude'"),
        ({"tol": 0.0}, "relative"),
        ({"tol": np.nan}, "relative"),
        ({"max_products": 1}, "max_products=1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        eigenpairs(np.eye(4), **arguments)


@pytest.mark.parametrize("H", [np.ones((2, 3)), np.ones(3), np.ones((0, 0)), np.eye(2) * 1j], ids=str)
def test_bad_operators(H):
    with pytest.raises(ValueError, match="eigenpairs: H has"):
        eigenpairs(H)


# The process ----------------------------------------------------------------------------------------------------------


def matrix_of(alphas, betas):
    return np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)


def test_the_relation_that_defines_the_process():
    A = np.random.default_rng(0).normal(size=(50, 50))
    H, start = A + A.T, np.random.default_rng(1).normal(size=50)
    alphas, betas, Q = tridiagonal(H, start, 12)
    assert (alphas.shape, betas.shape, Q.shape) == ((12,), (12,), (50, 12))
    left = H @ Q - Q @ matrix_of(alphas, betas)
    np.testing.assert_allclose(left[:, :-1], 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(left[:, -1]), betas[-1], rtol=1e-12)
    np.testing.assert_allclose(Q[:, 0], start / np.linalg.norm(start), rtol=1e-14)
    assert (betas > 0).all()


def test_the_basis_stays_orthogonal_when_an_eigenvalue_dominates():
    values = np.concatenate([np.linspace(0, 1, 399), [1e4]])
    alphas, betas, Q = tridiagonal(Diagonal(values), np.random.default_rng(0).normal(size=400), 200)
    np.testing.assert_allclose(Q.T @ Q, np.eye(200), atol=1e-12)
    ritz = np.linalg.eigvalsh(matrix_of(alphas, betas))
    assert np.count_nonzero(ritz > 5e3) == 1


def test_all_steps_give_the_whole_spectrum():
    values = np.random.default_rng(0).normal(size=40)
    alphas, betas, _ = tridiagonal(Diagonal(values), np.ones(40), 100)
    assert len(alphas) == 40
    assert betas[-1] == 0
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix_of(alphas, betas)), np.sort(values), atol=1e-12)


def test_the_process_ends_where_the_space_is_invariant():
    H = Diagonal([1, 1, 1, 2, 2, 5])
    alphas, betas, Q = tridiagonal(H, np.ones(6), 6)
    assert Q.shape == (6, 3)
    assert H.products == 3
    assert betas[-1] == 0
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix_of(alphas, betas)), [1, 2, 5], rtol=1e-14)


@pytest.mark.parametrize(("start", "steps"), [(np.zeros(4), 2), (np.ones(3), 2), (np.ones(4), 0)])
def test_bad_starts(start, steps):
    with pytest.raises(ValueError, match="tridiagonal"):
        tridiagonal(np.eye(4), start, steps)
