"""A rule gives the right number or says that there is none: at the ends of the range, at tips, at singular points."""

import math

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor, nn

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def leaf(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


def slope(f, *at):
    inputs = [leaf(x) for x in at]
    found = mg.grad(np.sum(f(*inputs)), inputs)
    return found[0] if len(found) == 1 else found


# The ends of the range ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [1e-22, 1e-23, 1e-30, 3e19, 1e30])
def test_quotients_of_float32(y):
    y = np.float32(y)
    assert slope(lambda v: y / v, y) * y == pytest.approx(-1, rel=1e-5)
    assert slope(lambda v: v / y, y) * y == pytest.approx(1, rel=1e-5)
    assert slope(np.reciprocal, np.float32(1e15)) * np.float32(1e30) == pytest.approx(-1, rel=1e-5)


@pytest.mark.parametrize("y", [1e-162, 1e-300, 1e160, 1e300])
def test_quotients_of_float64(y):
    assert slope(lambda v: y / v, y) * y == pytest.approx(-1, rel=1e-12)


@pytest.mark.parametrize("v", [1e-162, 1e-300, 1e160, 1e300])
def test_arctan2(v):
    """atan2(v, v) is π/4 whatever v > 0 is; so the derivative of v · atan2(v, v) is π/4."""
    assert slope(lambda v: np.arctan2(v, v) * v, v) == pytest.approx(math.pi / 4, rel=1e-12)
    of_y, of_x = slope(np.arctan2, v, 2 * v)
    assert of_y * v == pytest.approx(2 / 5, rel=1e-12)
    assert of_x * v == pytest.approx(-1 / 5, rel=1e-12)


@pytest.mark.parametrize("v", [1e160, 1e300])
@pytest.mark.parametrize("f", [np.arcsinh, np.arccosh])
def test_logarithms_of_large_numbers(f, v):
    """arcsinh(v) and arccosh(v) are log(2v) there, with slope 1 / v."""
    assert slope(f, v) * v == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("f", [mg.logsumexp, lambda a: np.logaddexp(a[0], a[1]), lambda a: np.logaddexp2(a[0], a[1])])
@pytest.mark.parametrize(("dtype", "far"), [(np.float64, 1e16), (np.float32, -1e8)])
def test_what_a_large_log_of_a_sum_has_lost(f, dtype, far):
    """log(eˣ + eʸ) has slope ½ at x = y, wherever that is; x + log 2 is rounded to x there."""
    x = leaf([far, far], dtype)
    np.testing.assert_allclose(mg.grad(f(x), x)[0], [0.5, 0.5], rtol=1e-6)
    curvature = mg.hessian(f(near := leaf([0.0, 0.0])), near)
    np.testing.assert_allclose(mg.hessian(f(x), x), curvature, rtol=1e-6)


def test_expm1_far_below():
    assert slope(np.expm1, -40.0) == pytest.approx(math.exp(-40), rel=1e-14)


def test_the_svd_of_large_and_small_matrices():
    """The nuclear norm scales: its gradient U Vᵀ does not."""
    a = np.random.default_rng(0).normal(size=(3, 3))
    expected = slope(lambda a: np.linalg.svd(a, compute_uv=False), a)
    for scale in (1e170, 1e-170):
        np.testing.assert_allclose(slope(lambda a: np.linalg.svd(a, compute_uv=False), scale * a), expected, rtol=1e-9)
        u = lambda a: np.linalg.svd(a)[0]  # noqa: E731
        np.testing.assert_allclose(slope(u, scale * a) * scale, slope(u, a), rtol=1e-9, atol=1e-12)


def test_float16_counts_and_sums():
    many = np.ones(70_000, np.float16)
    assert slope(np.mean, many)[0] == pytest.approx(1 / 70_000, rel=1e-2)
    assert slope(np.max, many)[0] == pytest.approx(1 / 70_000, rel=1e-2)
    assert mg.log_softmax(many)[0].item() == pytest.approx(-math.log(70_000), rel=1e-3)
    assert mg.logsumexp(many).item() == pytest.approx(1 + math.log(70_000), rel=1e-3)
    assert mg.softmax(many)[0].item() == pytest.approx(1 / 70_000, rel=1e-2)
    for f in (mg.log_softmax, mg.softmax, mg.logsumexp, np.mean, np.max):
        assert f(leaf(many)).dtype == np.float16


# NaN: which argument was chosen is not known ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        np.max, np.ptp, lambda x: np.max(x, initial=0), lambda x: np.min(x, initial=0), np.median,
        lambda x: np.quantile(x, 0.3), lambda x: np.percentile(x, 30, method="lower"),
        lambda x: nn.hinge_loss(x, np.ones(3)), lambda x: nn.huber_loss(x, np.ones(3)),
    ],
)  # fmt: skip
def test_nan_has_no_finite_slope(f):
    x = leaf([1.0, math.nan, 3.0])
    assert np.isnan(np.sum(f(x)).item())
    assert np.isnan(slope(f, [1.0, math.nan, 3.0])[1])


def test_nan_in_one_column_leaves_the_others():
    found = slope(lambda a: np.median(a, axis=0), [[1.0, math.nan], [3.0, 1.0], [2.0, 0.0]])
    np.testing.assert_array_equal(found, [[0, math.nan], [0, math.nan], [1, math.nan]])
    np.testing.assert_array_equal(slope(np.fmax, math.nan, 1.0), [0, 1])


# Tips: the derivative is a subgradient, the second is right or not finite ---------------------------------------------


def honest(H, right):
    """Not finite somewhere, or right."""
    return not np.isfinite(H).all() or np.allclose(H, right)


@pytest.mark.parametrize(
    ("f", "at", "right"),
    [
        (lambda x: np.linalg.norm(x) ** 2, [0.0, 0.0], 2 * np.eye(2)),
        (lambda x: np.exp(-0.5 * np.linalg.norm(x) ** 2), [0.0, 0.0], -np.eye(2)),
        (lambda x: np.linalg.norm(x) ** 2 - 0.5 * np.sum(x * x), [0.0, 0.0], np.eye(2)),
        (lambda x: np.hypot(x[0], x[1]) ** 2, [0.0, 0.0], 2 * np.eye(2)),
        (lambda x: np.std(x) ** 2, [1.0, 1.0], [[0.5, -0.5], [-0.5, 0.5]]),
        (lambda x: np.linalg.norm(x.reshape(2, 2), axis=1)[0] ** 2, [0.0, 0.0, 1.0, 2.0], np.diag([2.0, 2.0, 0.0, 0.0])),
        (lambda x: np.linalg.norm(x, 3) ** 3, [0.0, 0.0], np.zeros((2, 2))),
        (lambda x: np.sum(np.linalg.svd(x.reshape(2, 2), compute_uv=False) ** 2), [0.0] * 4, 2 * np.eye(4)),
        (lambda x: np.sum(np.linalg.svd(x.reshape(2, 2), compute_uv=False) ** 2), [1.0] * 4, 2 * np.eye(4)),
        (lambda x: np.sum(np.linalg.svd(x.reshape(2, 2), compute_uv=False) ** 2), [0.6, -0.8, 0.8, 0.6], 2 * np.eye(4)),
        (lambda x: np.sum(np.linalg.svd(x.reshape(2, 3), compute_uv=False) ** 2), [1.0] * 6, 2 * np.eye(6)),
        (lambda x: np.sum(np.linalg.eigvalsh(x.reshape(2, 2)) ** 2), [1.0, 0.0, 0.0, 1.0], np.diag([2.0, 1.0, 1.0, 2.0])),
    ],
)  # fmt: skip
def test_a_second_derivative_at_a_tip_is_right_or_not_finite(f, at, right):
    H = mg.hessian(f(x := leaf(at)), x)
    assert honest(H, right), H
    assert honest(mg.hvp(f(x), x, np.ones(len(at)))[0], np.asarray(right).sum(axis=1))


@pytest.mark.parametrize(
    "f", [np.linalg.norm, np.std, lambda x: np.hypot(x[0], x[1]), lambda x: np.linalg.norm(1e3 * x)]
)
def test_there_is_none_where_there_is_none(f):
    assert not np.isfinite(mg.hessian(f(x := leaf([0.0, 0.0])), x)).all()


@pytest.mark.parametrize(
    "f", [np.abs, nn.functional.relu, lambda x: np.max(np.stack([x, x])), lambda x: np.std(x[None])]
)
def test_kinks_keep_their_zero(f):
    assert mg.hessian(f(x := leaf(0.0)), x) == 0


def test_the_svd_at_nearly_equal_singular_values():
    """A random orthogonal matrix: they differ by rounding alone, and so would what is divided by their differences."""
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]

    def rebuilt(a):
        u, s, vt = np.linalg.svd(a)
        return ((u * s) @ vt) ** 2

    found = slope(rebuilt, q)
    assert not np.isfinite(found).all() or np.allclose(found, 2 * q)


# Zero times infinity --------------------------------------------------------------------------------------------------

ONE = {  # each is x, with derivative 1, from the right at least
    "exp log": lambda x: np.exp(np.log(x)), "sqrt²": lambda x: np.sqrt(x) ** 2, "cbrt³": lambda x: np.cbrt(x) ** 3,
    "1 / (1 / x)": lambda x: 1 / (1 / x), "x^½²": lambda x: (x**0.5) ** 2, "reciprocal": lambda x: np.reciprocal(np.reciprocal(x)),
    "2^log2": lambda x: np.exp2(np.log2(x)), "expm1 log": lambda x: np.exp(np.log1p(x - 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_where_the_convention_decides_numpy_says_so(name):
    x = leaf(0.0)
    y = ONE[name](x)
    with np.errstate(invalid="raise"), pytest.raises(FloatingPointError, match="invalid value"):
        mg.grad(y, x)


@pytest.mark.filterwarnings("error")
def test_a_guard_before_the_function_is_free_of_it():
    x = leaf([0.0, 2.0])
    assert mg.grad(np.sum(np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), 0.0)), x)[0].tolist() == [0.0, 0.5]
    assert mg.grad(np.sum(x**0 + x**1 + x**2 + x**3), x)[0].tolist() == [1.0, 17.0]
    assert mg.grad(np.sum(np.linalg.norm(x[:1]) ** 2), x)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("f", "at"),
    [
        (lambda z: z[1] * np.sqrt(z[0]), [0.0, 0.0]), (lambda z: z[0] ** z[1], [0.0, 1.0]), (lambda z: z[1] * np.cbrt(z[0]), [0.0, 0.0]),
        (lambda z: z[1] * np.log(z[0]), [0.0, 0.0]), (lambda z: z[1] / z[0], [0.0, 0.0]), (lambda z: z[1] * z[0] ** 0.5, [0.0, 0.0]),
        (lambda z: z[1] * np.arcsin(z[0]), [1.0, 0.0]),
    ],
)  # fmt: skip
def test_mixed_derivatives_at_a_singular_point_agree_or_are_nan(f, at):
    H = mg.hessian(f(z := leaf(at)), z)
    assert np.isnan(H).any() or (np.isinf(H[0, 1]) and H[0, 1] == H[1, 0]), H


# Determinants ---------------------------------------------------------------------------------------------------------


def minors(a):
    """The Hessian of det by its polynomial, for 3 × 3: det has degree 1 in each element, so differences are exact."""
    H = np.zeros((9, 9))
    for i in range(9):
        for j in range(9):
            e = lambda k: np.eye(9)[k].reshape(3, 3)  # noqa: E731
            det = lambda m: float(sum(np.prod([m[r, p[r]] for r in range(3)]) * s for p, s in PERMUTATIONS))  # noqa: E731
            H[i, j] = det(a + e(i) + e(j)) - det(a + e(i)) - det(a + e(j)) + det(a) if i != j else 0.0
    return H


PERMUTATIONS = [((0, 1, 2), 1), ((1, 2, 0), 1), ((2, 0, 1), 1), ((0, 2, 1), -1), ((2, 1, 0), -1), ((1, 0, 2), -1)]


@pytest.mark.parametrize(
    "a", [np.zeros((3, 3)), np.arange(9.0).reshape(3, 3), np.ones((3, 3)), np.eye(3), np.diag([1.0, 0.0, 0.0])]
)
def test_the_hessian_of_det(a):
    H = mg.hessian(np.linalg.det(t := leaf(a)), t)
    np.testing.assert_allclose(H, minors(a), atol=1e-12)


def test_det_of_2_by_2_is_a_saddle():
    H = mg.hessian(np.linalg.det(a := leaf(np.zeros((2, 2)))), a)
    np.testing.assert_allclose(np.linalg.eigvalsh(H), [-1, -1, 1, 1], atol=1e-14)


@pytest.mark.parametrize("f", [lambda a: np.linalg.slogdet(a)[1], np.linalg.inv])
def test_singular_matrices_are_named(f):
    with pytest.raises(np.linalg.LinAlgError, match=r"slogdet|Singular matrix"):
        slope(f, np.zeros((2, 2)))


def test_the_derivative_that_failed_is_named():
    with pytest.raises(np.linalg.LinAlgError, match=r"the derivative of linalg\.slogdet: Singular matrix"):
        slope(lambda a: np.linalg.slogdet(a)[1], np.zeros((2, 2)))
