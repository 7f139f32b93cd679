"""What the rules give where a derivative does not exist, or is infinite: stated in docs/rules.md, held to here."""

import math

import numpy as np
import pytest
from scipy import special

import microgradopt as mg
from microgradopt import NotDifferentiableError, Tensor, nn


def gradient(f, *values):
    inputs = [Tensor(value, requires_grad=True) for value in values]
    gradients = mg.grad(np.sum(f(*inputs)), inputs)
    return gradients[0] if len(gradients) == 1 else gradients


@pytest.mark.parametrize(
    ("f", "at", "expected"),
    [
        (np.abs, 0.0, 0.0),
        (np.fabs, -0.0, 0.0),
        (nn.functional.relu, 0.0, 0.0),
        (lambda x: np.clip(x, 0.0, 1.0), [0.0, 1.0, -1.0, 2.0], [1.0, 1.0, 0.0, 0.0]),
        (np.max, [1.0, 3.0, 3.0], [0.0, 0.5, 0.5]),
        (lambda x: np.min(x, axis=1), [[1.0, 1.0], [2.0, 3.0]], [[0.5, 0.5], [1.0, 0.0]]),
        (np.std, [2.0, 2.0], [0.0, 0.0]),
        (np.linalg.norm, [0.0, 0.0], [0.0, 0.0]),
        (lambda x: np.linalg.norm(x) ** 2, [0.0, 0.0], [0.0, 0.0]),
        (lambda x: x**0, 0.0, 0.0),
        (lambda x: x**1, 0.0, 1.0),
        (lambda x: x**2.0, 0.0, 0.0),
        (lambda x: x**3, 0.0, 0.0),
        (lambda x: x ** np.array([0.0, 1.0, 2.0]), [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
        (lambda x: np.power(0.0, x), 2.0, 0.0),
        (np.sign, [-2.0, 0.0, 2.0], [0.0, 0.0, 0.0]),
        (np.nan_to_num, [math.nan, math.inf, 1.0], [0.0, 0.0, 1.0]),
    ],
)
def test_stated_gradients(f, at, expected):
    np.testing.assert_array_equal(gradient(f, at), expected)


@pytest.mark.parametrize("f", [np.maximum, np.minimum, np.fmax, np.fmin])
def test_ties_are_shared(f):
    assert gradient(f, 1.0, 1.0) == [0.5, 0.5]


@pytest.mark.parametrize(("f", "chosen"), [(np.fmax, 1), (np.fmin, 1)])
def test_numbers_are_preferred_to_nan(f, chosen):
    assert gradient(f, math.nan, 1.0)[chosen] == 1.0


def test_hypot_at_the_origin():
    assert gradient(np.hypot, 0.0, 0.0) == [0.0, 0.0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "f", [np.sqrt, np.cbrt, np.log, np.reciprocal, lambda x: x**0.5, lambda x: x**0.25, lambda x: 1 / x]
)
def test_infinite_if_anything_flows(f):
    assert np.isinf(gradient(f, 0.0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "f",
    [
        np.log, np.log2, np.log10, np.sqrt, np.cbrt, np.reciprocal, lambda x: 1 / x, lambda x: x / x, lambda x: x**0.5,
        lambda x: x**-1.5, lambda x: np.log1p(x - 1), lambda x: np.arcsin(1 + x), lambda x: np.arccosh(1 + x),
        lambda x: np.arctanh(1 + x), lambda x: np.arctan2(x, x), lambda x: np.arccos(1 - x),
    ],
)  # fmt: skip
def test_where_guards(f):
    """The branch that is not taken is infinite at 0, and nothing comes back from it: no NaN."""
    assert gradient(lambda x: np.where(x > 0.25, f(x), 2 * x), [0.0, 0.2])[0] == 2.0


@pytest.mark.parametrize("zeros", [[1], [1, 2], [0, 1, 2, 3]])
@pytest.mark.parametrize("f", [np.prod, np.cumprod])
def test_products_with_zeros(f, zeros):
    values = np.array([1.5, -2.0, 0.7, 3.0])
    values[zeros] = 0.0
    mg.gradcheck(f, Tensor(values, requires_grad=True), order=2)


@pytest.mark.parametrize("x", [0.0, 1e-12, 1e-6, 1e-3, 0.3, 1.0, 2.5, 7.0])
def test_sinc_to_third_order(x):
    """Against the spherical Bessel function: sinc(x) = j₀(πx), with j₀' = −j₁ and j₁' = j₀ − 2 j₁/y."""
    t = Tensor(x, requires_grad=True)
    (first,) = mg.grad(np.sinc(t), t, create_graph=True)
    (second,) = mg.grad(first, t, create_graph=True)
    (third,) = mg.grad(second, t)
    y, pi = math.pi * x, math.pi
    j0, j1, j2, j3 = (special.spherical_jn(n, y) for n in range(4))
    # From (2n+1) jₙ' = n jₙ₋₁ − (n+1) jₙ₊₁, applied again.
    assert first.item() == pytest.approx(-pi * j1, abs=1e-13)
    assert second.item() == pytest.approx(pi**2 * -(j0 - 2 * j2) / 3, abs=1e-12)
    assert third.item() == pytest.approx(pi**3 * (3 * j1 - 2 * j3) / 5, abs=1e-11)


def test_det_of_singular_matrices():
    """The gradient is the matrix of cofactors, which a singular matrix has as well."""
    rank_2 = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    cofactors = [[-3.0, 6.0, -3.0], [6.0, -12.0, 6.0], [-3.0, 6.0, -3.0]]
    np.testing.assert_allclose(gradient(np.linalg.det, rank_2), cofactors, atol=1e-12)
    np.testing.assert_array_equal(gradient(np.linalg.det, np.zeros((3, 3))), np.zeros((3, 3)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_repeated_eigenvalues():
    """Their sum has a gradient; eigenvectors of one eigenvalue have none, and it comes out infinite or NaN, not wrong."""
    np.testing.assert_allclose(gradient(lambda a: np.linalg.eigh(a)[0], np.eye(3)), np.eye(3))
    through_vectors = gradient(lambda a: np.linalg.eigh(a)[1] * np.arange(9.0).reshape(3, 3), np.eye(3))
    assert not np.isfinite(through_vectors).all()


def test_logsumexp_of_minus_infinity():
    values = [-math.inf, 0.0, 1.0]
    np.testing.assert_allclose(gradient(mg.logsumexp, values), special.softmax(values))
    assert mg.logsumexp(np.array([-math.inf, -math.inf])) == -math.inf


@pytest.mark.parametrize("f", [mg.logsumexp, mg.softmax, mg.log_softmax])
@pytest.mark.parametrize("scale", [1.0, 1e4, -1e4])
def test_log_sum_exp_family_is_stable(f, scale):
    values = scale * np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
    oracle = {"logsumexp": special.logsumexp, "softmax": special.softmax, "log_softmax": special.log_softmax}[
        f.__name__
    ]
    axis = {} if f is mg.logsumexp else {"axis": -1}
    np.testing.assert_allclose(f(values, **axis), oracle(values, **axis), rtol=1e-12)
    assert np.isfinite(gradient(lambda x: f(x, **axis), values)).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x: np.std(x, mean=0.2), "mean"),
        (lambda x: np.exp(x, where=[True, False, True]), "where"),
        (lambda x: np.add(x, 1.0, dtype=np.float32), "dtype"),
        (lambda x: np.take(x, [0], mode="clip"), "mode"),
        (lambda x: np.quantile(x, 0.5, weights=[1.0, 2.0, 1.0], method="inverted_cdf"), "weights"),
        (lambda x: np.interp(x, [0.0, 1.0], [0.0, 1.0], period=2.0), "period"),
        (lambda x: np.unique(x), "unique"),
        (lambda x: np.bincount([0, 1, 1], weights=x), "bincount"),
        (lambda x: np.histogram([0, 1, 1], weights=x), "histogram"),
        (lambda x: np.spacing(np.frexp(x)[0]), "frexp"),
        (lambda x: np.linalg.norm(x, 0), "norm"),
    ],
)
def test_no_silent_constants(call, named):
    """What has no rule says so at the call, and answers as NumPy does where no gradient would flow."""
    with pytest.raises(NotDifferentiableError, match=named):
        call(Tensor([0.1, 0.2, 0.3], requires_grad=True))


@pytest.mark.parametrize(
    "f",
    [
        np.argmax, np.argmin, np.argsort, np.isnan, np.isfinite, np.isinf, np.signbit, np.nonzero, np.flatnonzero,
        np.count_nonzero, np.any, np.all, np.shape, np.ndim, np.size, np.zeros_like, np.ones_like, np.logical_not,
        lambda x: np.equal(x, 1.0), lambda x: np.less(x, 1.0), lambda x: np.greater_equal(1.0, x), lambda x: np.isclose(x, 1.0),
        lambda x: np.allclose(x, x), lambda x: np.searchsorted(x, 1.5), lambda x: np.result_type(x), lambda x: np.where(x > 1),
        lambda x: np.where(x), lambda x: np.argpartition(x, 1), lambda x: np.digitize(x, [0.0, 1.0]), np.array2string,
    ],
)  # fmt: skip
def test_questions_answer_as_numpy_does(f):
    values = np.array([0.0, 1.0, 2.0])
    answer, expected = f(Tensor(values, requires_grad=True)), f(values)
    assert type(answer) is type(expected)
    for mine, theirs in zip(np.atleast_1d(answer), np.atleast_1d(expected), strict=True):
        np.testing.assert_array_equal(mine, theirs)
