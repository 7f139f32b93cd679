"""Order statistics and statistics without NaNs: values are NumPy's to the edges; gradients those of JAX and PyTorch."""

import warnings

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor

inf, nan = np.inf, np.nan


def leaf(values, dtype=float):
    return Tensor(np.asarray(values, dtype), requires_grad=True)


def gradient(f, values, dtype=float):
    x = leaf(values, dtype)
    return mg.grad(np.sum(f(x)), x)[0]


def same_as_numpy(f, values):
    """Recorded or not, the value and its dtype are NumPy's, NaNs and infinities too."""
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        for x in (leaf(values), Tensor(values)):
            result, expected = f(x), f(np.asarray(values))
            assert result.dtype == np.asarray(expected).dtype
            np.testing.assert_allclose(result.data, expected, rtol=4 * np.finfo(result.dtype).eps)


EDGES = [[1, 2, inf], [-inf, 1, 2], [-inf, inf, 1.0], [inf, inf], [1, nan, 2], [4.0], [3, 3, 3], [0.1, 0.1, 0.1, 0.7]]


@pytest.mark.parametrize("values", EDGES)
def test_medians_at_infinities_and_nans(values):
    same_as_numpy(np.median, np.array(values, float))
    same_as_numpy(np.nanmedian, np.array(values, float))


@pytest.mark.parametrize("method", ["linear", "hazen", "midpoint", "lower", "higher", "nearest", "inverted_cdf"])
@pytest.mark.parametrize("values", EDGES)
def test_quantiles_at_infinities_and_nans(values, method):
    same_as_numpy(lambda x: np.quantile(x, 0.35, method=method), np.array(values, float))
    same_as_numpy(lambda x: np.quantile(x, [0.5, 0.8], method=method), np.array(values, float))


def test_the_median_of_nothing():
    same_as_numpy(np.median, np.zeros(0))
    same_as_numpy(lambda x: np.median(x, axis=0), np.zeros((0, 3)))


def test_a_quantile_between_equals_is_the_same_number():
    """0.7 a + 0.3 a may differ from a in the last bit."""
    values = np.full(5, 0.1)
    for q in np.linspace(0, 1, 23):
        assert np.quantile(leaf(values), q).item() == 0.1


@pytest.mark.parametrize("method", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 0.77, 1.0])
def test_gradients_of_quantiles_are_pytorchs(method, q):
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=(3, 6))
    x = torch.tensor(values, requires_grad=True)
    weight = np.array([1.0, -2.0, 0.5])
    (torch.quantile(x, q, dim=1, interpolation=method) * torch.tensor(weight)).sum().backward()
    ours = gradient(lambda x: np.quantile(x, q, axis=1, method=method) * weight, values)
    np.testing.assert_allclose(ours, x.grad.numpy(), rtol=1e-13, atol=1e-15)


HOLES = np.where(np.arange(24).reshape(2, 3, 4) % 5 == 0, nan, np.random.default_rng(1).normal(size=(2, 3, 4)))


@pytest.mark.parametrize("name", ["nansum", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin", "nanmedian"])
@pytest.mark.parametrize("axis", [None, 1, (0, 2)])
def test_without_nans_gradients_are_jaxs(name, axis):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        f = getattr(jax.numpy, name)
        theirs = jax.grad(lambda x: jax.numpy.sum(f(x, axis=axis) ** 2))(jax.numpy.asarray(HOLES))
        # JAX leaves NaN at the NaNs of a variance; what does not count has no influence.
        expected = np.where(np.isnan(HOLES), 0, theirs)
    np.testing.assert_allclose(
        gradient(lambda x: getattr(np, name)(x, axis=axis) ** 2, HOLES), expected, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("name", ["nansum", "nanmean", "nanvar", "nanstd"])
def test_without_nans_and_where(name):
    where = np.arange(4) % 2 == 0
    f = getattr(np, name)
    same_as_numpy(lambda x: f(x, axis=1, where=where), HOLES)
    same_as_numpy(lambda x: f(x, 1, np.float32, keepdims=True), HOLES.astype(np.float32))
    assert f(leaf(HOLES, np.float32), dtype=np.float64).dtype == np.float64
    used = gradient(lambda x: f(x, where=where), HOLES) != 0
    np.testing.assert_array_equal(used, ~np.isnan(HOLES) & where)


@pytest.mark.parametrize("f", [np.nanvar, np.nanstd])
@pytest.mark.parametrize("values", [[nan, 1.0], [nan, 1.0, 3.0], [nan, nan]])
@pytest.mark.parametrize("ddof", [0, 1, 2, 3])
def test_without_degrees_of_freedom_there_is_no_deviation(f, values, ddof):
    same_as_numpy(lambda x: f(x, ddof=ddof), np.array(values))


@pytest.mark.parametrize("f", [np.var, np.std])
@pytest.mark.parametrize("ddof", [0, 2, 3])
def test_nor_where_few_elements_count(f, ddof):
    same_as_numpy(lambda x: f(x, ddof=ddof, where=np.array([True, False, True])), np.array([1.0, 5.0, 2.0]))


@pytest.mark.parametrize("f", [np.var, np.std])
def test_a_slope_without_degrees_of_freedom_is_no_number(f):
    """The value is infinite; its slope was −2 (x − mean) for ddof = n + 1."""
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="Degrees of freedom"):
        assert not np.isfinite(gradient(lambda x: f(x, ddof=3), [1.0, 3.0])).any()


@pytest.mark.parametrize(
    "f", [np.std, np.nanstd, lambda x: np.std(x, where=~np.isnan(x)), lambda x: np.nanstd(x, axis=0, keepdims=True)]
)
def test_the_deviation_of_a_constant_has_subgradient_zero(f):
    values = [2.0, 2.0, 2.0] if f is np.std else [2.0, nan, 2.0]
    assert gradient(f, values).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("f", [np.nanmean, np.nanstd, lambda x: np.std(x, where=~np.isnan(x))])
def test_many_numbers_of_float32(f):
    """A sum with `where` alone adds one by one: of half a million numbers near 100, the deviation was 0.44."""
    values = (100 + np.random.default_rng(0).random(10**6)).astype(np.float32)
    values[::2] = nan
    assert f(leaf(values, np.float32)).item() == pytest.approx(f(values.astype(float)), rel=1e-5)


def test_no_gradient_flows_to_a_quantiles_place():
    with pytest.raises(TypeError, match="detach"):
        np.quantile(leaf([1.0, 2.0]), leaf(0.3))
    assert np.quantile(leaf([1.0, 2.0]), Tensor(0.25)).item() == 1.25


@pytest.mark.parametrize("ddof", [0, 1, 5, 9])
def test_covariances(ddof):
    same_as_numpy(lambda x: np.cov(x, ddof=ddof), np.random.default_rng(2).normal(size=(3, 5)))


def test_a_covariance_of_more_than_matrices_is_refused():
    with pytest.raises(ValueError, match="cov"):
        np.cov(leaf(np.ones((2, 2, 2))))


def test_an_initial_value_makes_a_kink():
    """max(x, initial=0) is relu: at 0 it has a kink, and near it, one is near."""
    lead = mg.rules.KNOWN[np.max].breaks[0].distance
    for x, distance in ((0.0, 0.0), (1e-9, 1e-9), (-0.25, 0.25)):
        a = np.array([x])
        assert lead(np.max(a, initial=0.0), a, initial=0.0) == distance
    a = np.array([1.0, 1.0 - 1e-12, -2.0])
    where = np.array([True, False, True])
    assert lead(np.float64(1.0), a, initial=-inf, where=where) == 3.0


def test_products_with_an_initial_value_keep_their_dtype():
    assert np.prod(leaf([2.0, 3.0], np.float32), initial=np.float64(2.0)).dtype == np.float32
    s = leaf(2.0)
    assert mg.grad(np.prod(leaf([2.0, 3.0]), initial=s), s)[0] == 6.0


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running_ones_with_a_dtype(name):
    x = leaf([1.0, 2.0, 3.0], np.float32)
    for result in (getattr(x, name)(dtype=np.float64), getattr(np, name)(x, None, np.float64)):
        assert result.dtype == np.float64
        assert mg.grad(np.sum(result), x)[0].dtype == np.float32


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("f", [np.median, np.nanmedian, np.nanmean])
def test_of_nothing(f):
    for shape, axis in (((0,), None), ((3, 0), 1)):
        x = Tensor(np.zeros(shape), requires_grad=True)
        np.testing.assert_array_equal(f(x, axis=axis).data, f(x.data, axis=axis))
