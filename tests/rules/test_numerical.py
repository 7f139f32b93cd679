"""Making arrays, interpolation, running sums: dtypes, argument forms and what NumPy refuses."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor


def leaf(values, dtype=float):
    return Tensor(np.asarray(values, dtype), requires_grad=True)


@pytest.mark.parametrize(
    "f",
    [
        lambda s: np.linspace(0.0, s, 5),
        lambda s: np.linspace(s, 3, 5),
        lambda s: np.linspace([0.0, 1.0], s, 3),
        lambda s: np.linspace(0.0, s, 4, dtype=np.float64),
        lambda s: np.linspace(0, s, 4, True, True)[1],
        lambda s: np.linspace(0, s, 4, endpoint=False, retstep=True)[0],
        lambda s: np.linspace(start=0.0, stop=s, num=3),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linspace_has_numpys_values_and_dtype(f, dtype):
    s = leaf(2.0, dtype)
    expected = f(s.data)
    assert f(s).dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(f(s).data, expected, rtol=1e-6)


def test_the_step_of_linspace():
    s = leaf(2.0)
    points, step = np.linspace(0.0, s, 5, retstep=True)
    assert mg.grad(step, s)[0] == 0.25
    assert mg.grad(points.sum(), s)[0] == 2.5
    assert np.isnan(np.linspace(0.0, s, 1, retstep=True)[1].data)


@pytest.mark.parametrize("of", [leaf(np.ones((2, 3))), Tensor(np.ones((2, 3)))])
@pytest.mark.parametrize(
    "options",
    [{}, {"dtype": np.int64}, {"dtype": bool}, {"order": "C"}, {"subok": False}, {"shape": (4,)}],
)
@pytest.mark.parametrize("recording", [True, False])
def test_full_like_of_a_number_is_an_array_to_be_filled(of, options, recording):
    def made():
        return np.full_like(of, 3, **options), np.full_like(of, fill_value=3, **options)

    if recording:
        results = made()
    else:
        with mg.no_grad():
            results = made()
    for result in results:
        expected = np.full_like(of.data, 3, **options)
        assert type(result) is np.ndarray
        assert result.flags.writeable
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("fill", [lambda x, s: np.full_like(x, s), lambda x, s: np.full(x.shape, s, like=x)])
def test_full_of_a_tensor_has_its_gradient(fill):
    x, s = leaf(np.ones((2, 3))), leaf(2.0)
    assert mg.grad(np.sum(fill(x, s)), s)[0] == 6.0
    with mg.no_grad():
        assert type(fill(x, s)) is Tensor
    assert type(fill(x, Tensor(2.0))) is Tensor


@pytest.mark.parametrize("kind", [list, tuple])
def test_full_like_refuses_tensors_in_a_list(kind):
    with pytest.raises(TypeError, match="stack"):
        np.full_like(leaf(np.ones(2)), kind([leaf(1.0), 2.0]))


def test_interp_outside_at_its_knots_and_at_nan():
    x = np.array([-1, 0, 0.3, 1, 1.7, 2, 3, np.nan])
    xp, fp = [0.0, 1.0, 2.0], [5.0, 7.0, 1.0]
    np.testing.assert_allclose(np.interp(leaf(x), xp, fp).data, np.interp(x, xp, fp), rtol=1e-15)
    np.testing.assert_allclose(np.interp(leaf(x), xp, fp, 0, 9).data, np.interp(x, xp, fp, 0, 9), rtol=1e-15)


@pytest.mark.parametrize(("xp", "fp"), [([0.0, 1.0], [1.0, 2.0, 3.0]), ([], []), ([[0.0, 1.0]], [[1.0, 2.0]])])
def test_interp_refuses_what_numpy_refuses(xp, fp):
    with pytest.raises(ValueError, match=r"length|empty|object too deep"):
        np.interp([0.5], xp, fp)
    with pytest.raises(ValueError, match="interp"):
        np.interp(leaf([0.5]), xp, fp)


def test_interp_between_constants_compiles():
    x = leaf([0.2, 1.4])

    def f(x):
        return mg.grad(np.sum(np.interp(x, [0.0, 1.0, 2.0], np.array([5.0, 7.0, 1.0])) ** 2), x)[0]

    np.testing.assert_array_equal(mg.compile(f)(x), f(x))


def test_gradients_of_interp_are_jaxs():
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    x, xp, fp = rng.uniform(-1, 6, size=(3, 4)), np.sort(rng.uniform(0, 5, size=6)), rng.normal(size=6)
    with jax.enable_x64(True):
        theirs = jax.grad(lambda *a: jax.numpy.sum(jax.numpy.interp(*a) ** 2), argnums=(0, 1, 2))(x, xp, fp)
    inputs = [leaf(a) for a in (x, xp, fp)]
    for ours, other in zip(mg.grad(np.sum(np.interp(*inputs) ** 2), inputs), theirs, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-12, atol=1e-13)


@pytest.mark.skipif(not hasattr(np, "cumulative_sum"), reason="since NumPy 2.1")
def test_running_sums_by_their_newer_names():
    assert np.cumulative_sum(leaf(3.0)).data.tolist() == [3.0]
    assert np.cumulative_prod(leaf([2.0, 3.0], np.float32), dtype=np.float64).dtype == np.float64
    x = leaf([2.0, 3.0], np.float32)
    assert np.cumulative_sum(x, dtype=np.float64, include_initial=True).data.tolist() == [0.0, 2.0, 5.0]
    with pytest.raises(ValueError, match="axis"):
        np.cumulative_sum(leaf(np.ones((2, 2))))


ALL_BY_POSITION = [
    (np.sum, (0, np.float64, None, True)),
    (np.mean, (0, None, None, True)),
    (np.prod, (0, None, None, True, 2.5)),
    (np.max, (0, None, True)),
    (np.var, (0, None, None, 1, True)),
    (np.std, (0, None, None, 1)),
    (np.median, (0, None, False, True)),
    (np.quantile, (0.3, 0, None, False, "hazen", True)),
    (np.linspace, (3.0, 4, False, False, None, 1)),
    (np.ptp, (0, None, True)),
    (np.nansum, (0, None, None, True)),
]


@pytest.mark.parametrize(("f", "more"), ALL_BY_POSITION)
def test_all_arguments_may_go_by_position(f, more):
    if f is np.median or f is np.quantile:  # what is not NumPy's default is named in the error
        more = tuple(None if value is False else value for value in more)
    values = np.array([[3.0, 1.0], [2.0, 7.0], [0.5, 4.0]])
    np.testing.assert_allclose(f(leaf(values), *more).data, f(values, *more), rtol=1e-14)


@pytest.mark.parametrize("f", [np.sum, np.max])
def test_no_gradient_flows_to_an_initial_value(f):
    with pytest.raises(mg.NotDifferentiableError, match="initial"):
        f(leaf([1.0]), initial=leaf(2.0))


def test_too_many_by_position_are_refused():
    with pytest.raises(TypeError, match="positional"):
        np.sum(leaf([1.0]), 0, None, None, True, 0, True, 1)
    with pytest.raises(mg.NotDifferentiableError, match="3 positional"):
        mg.softmax(leaf([1.0]), -1, 5)
    with pytest.raises(mg.NotDifferentiableError, match="not with overwrite_input"):
        np.median(leaf([1.0]), 0, None, True)


@pytest.mark.parametrize("mode", [0, 1, 2, "valid", "same", "full"])
@pytest.mark.parametrize("shapes", [(5, 3), (3, 5), (4, 2), (2, 4), (3, 3), (1, 4)])
def test_modes_of_convolutions_are_numpys(shapes, mode):
    """NumPy knows them by number too."""
    a, v = (np.arange(1.0, n + 1) for n in shapes)
    for f in (np.convolve, np.correlate):
        expected = f(a, v, mode)
        np.testing.assert_allclose(f(mg.Tensor(a, requires_grad=True), v, mode).data, expected, rtol=1e-14)
