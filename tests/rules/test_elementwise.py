"""Elementwise functions over shapes that Hypothesis makes, beside numbers and arrays, and where they are special."""

import math

import numpy as np
import pytest
from cases import BINARY, UNARY, apart, normal, positive
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

import microgradopt as mg
from microgradopt import Tensor

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
PAIRS = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3)
UNARY_POINTS = {name: domain(27) for name, domain in UNARY.items()}
BINARY_POINTS = {name: (left(27), right(27)) for name, (left, right) in BINARY.items()}


def leaf(points, shape=()):
    """A tensor of the first of these points."""
    return Tensor(points[: math.prod(shape)].reshape(shape), requires_grad=True)


def second(f, *at):
    """All second derivatives of the sum of f by its scalar arguments."""
    inputs = [Tensor(value, requires_grad=True) for value in at]
    return mg.hessian(np.sum(f(*inputs)), inputs)


@pytest.mark.parametrize("name", UNARY)
@settings(max_examples=12)
@given(shape=SHAPES)
def test_unary_functions_of_every_shape(name, shape):
    f, x = getattr(np, name), leaf(UNARY_POINTS[name], shape)
    np.testing.assert_array_equal(f(x).data, f(x.data))
    mg.gradcheck(f, x, order=2)


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=12)
@given(shapes=PAIRS)
def test_binary_functions_broadcast(name, shapes):
    f, (left, right) = getattr(np, name), BINARY_POINTS[name]
    x, y = leaf(left, shapes.input_shapes[0]), leaf(right, shapes.input_shapes[1])
    np.testing.assert_array_equal(f(x, y).data, f(x.data, y.data))
    mg.gradcheck(f, [x, y], order=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BINARY)
def test_one_side_may_be_a_number_or_an_array(name, dtype):
    """Its gradient is the same as beside a tensor, and a Python number never widens a float32."""
    f, (left, right) = getattr(np, name), (points[:2].astype(dtype) for points in BINARY_POINTS[name])
    x, y = Tensor(left, requires_grad=True), Tensor(right[:1], requires_grad=True)
    weight = np.array([1.5, -0.5], dtype)
    expected_x, expected_y = mg.grad(np.sum(f(x, y) * weight), [x, y])
    for number in (float(right[0]), right[:1]):
        result = f(x, number)
        assert result.dtype == (np.float64 if name == "float_power" else dtype)
        np.testing.assert_allclose(mg.grad(np.sum(result * weight), x)[0], expected_x, rtol=1e-6)
    one, two = (mg.grad(np.sum(f(float(value), y)), y)[0] for value in left)
    np.testing.assert_allclose(weight[0] * one + weight[1] * two, expected_y, rtol=1e-5)


def test_integers_beside_tensors_are_floats_to_the_rule():
    """int8 arithmetic would overflow: 100 · 100."""
    x = Tensor([1.0, 2.0], requires_grad=True)
    labels = np.array([100, 100], np.int8)
    np.testing.assert_array_equal(mg.grad(np.sum(x * labels * labels), x)[0], [10000.0, 10000.0])
    np.testing.assert_allclose(mg.grad(np.sum(labels / x), x)[0], [-100.0, -25.0])


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")  # of 0⁻¹, in the second derivative of x⁰
def test_powers_to_second_order():
    """∂²(xʸ)/∂x∂y = xʸ⁻¹ (1 + y log x), at y = 0 too: 1/x; and where both are 0 nothing is infinite or NaN."""
    for x, y in [(2.0, 0.0), (3.0, 1.0), (0.5, 2.0), (2.0, -1.5)]:
        mixed = x ** (y - 1) * (1 + y * math.log(x))
        expected = [[y * (y - 1) * x ** (y - 2), mixed], [mixed, x**y * math.log(x) ** 2]]
        np.testing.assert_allclose(second(np.power, x, y), expected, rtol=1e-14)
    assert second(lambda x: x**0, 0.0) == second(lambda x: x**1, 0.0) == 0
    assert second(lambda x: x**2, 0.0) == second(lambda x: x**2.0, 0.0) == 2
    assert second(lambda x: x**3, 0.0) == second(lambda x: x**4, 0.0) == 0
    assert second(lambda x: np.power(x, np.array([0.0, 2.0])), 0.0) == 2
    mg.gradcheck(lambda x: x**3, Tensor([-2.0, 0.0, 1.5], requires_grad=True))
    mg.gradcheck(lambda x: x**-2, Tensor([-2.0, 0.5], requires_grad=True))


def test_the_quotient_of_fmod_is_the_one_that_was_taken():
    """1 / 0.1 rounds up to 10, and yet fmod(1, 0.1) is 0.0999…, after 9 whole parts."""
    for f in (np.fmod, np.remainder):
        y = Tensor(0.1, requires_grad=True)
        assert mg.grad(f(1.0, y), y) == [-9.0]


def test_heaviside_at_0_is_its_second_argument():
    x, h = Tensor([-1.0, 0.0, 2.0], requires_grad=True), Tensor(0.5, requires_grad=True)
    of_x, of_h = mg.grad(np.sum(np.heaviside(x, h)), [x, h])
    assert of_h == 1.0
    np.testing.assert_array_equal(of_x, np.zeros(3))


@pytest.mark.parametrize("f", [np.logaddexp, np.logaddexp2])
def test_logaddexp_of_minus_infinity(f):
    for at, expected in [
        ((-math.inf, -math.inf), [0.0, 0.0]),
        ((-math.inf, 1.0), [0.0, 1.0]),
        ((800.0, 0.0), [1.0, 0.0]),
    ]:
        inputs = [Tensor(value, requires_grad=True) for value in at]
        np.testing.assert_allclose(mg.grad(f(*inputs), inputs), expected, atol=1e-200)


@pytest.mark.parametrize("sign", [1.0, -1.0, -0.0])
def test_copysign(sign):
    x = Tensor([-2.0, 0.0, 3.0], requires_grad=True)
    np.testing.assert_array_equal(mg.grad(np.sum(np.copysign(x, sign)), x)[0], np.sign(x.data) * math.copysign(1, sign))


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize(
    ("f", "slope", "curvature"),
    [
        (np.log, 0.5, -0.25),
        (np.sqrt, 0.125**0.5, -(2.0**-0.5) / 8),
        (lambda x: 1 / x, -0.25, 0.25),
        (lambda x: x**0.5, 0.125**0.5, -(2.0**-0.5) / 8),
        (lambda x: 1 / np.where(x != 0, x, 1.0), -0.25, 0.25),
    ],
)
def test_guards_hold_to_second_order(f, slope, curvature):
    """The branch that is not taken is infinite at 0: nothing comes back from it, not in the gradient's gradient either."""
    x = Tensor([0.0, 2.0], requires_grad=True)
    guarded = np.where(x > 0, f(x), 0.0)
    np.testing.assert_allclose(mg.grad(np.sum(guarded), x)[0], [0.0, slope], atol=1e-15)
    np.testing.assert_allclose(mg.hessian(np.sum(guarded), x), [[0, 0], [0, curvature]], atol=1e-15)


BOUNDS = {
    "both": (lambda x, c: np.clip(x, -c, c)), "low": (lambda x, c: np.clip(x, c, None)),
    "max=": (lambda x, c: np.clip(x, max=c)), "min=": (lambda x, c: np.clip(x, min=c)), "method": (lambda x, c: x.clip(-c, c)),
    "crossed": (lambda x, c: np.clip(x, 2 * c, -2 * c)), "array": (lambda x, c: np.clip(x, [-1.0], 2.0) * c),
}  # fmt: skip
if not hasattr(np, "unstack"):  # NumPy 2.0 does not know these arguments yet either
    del BOUNDS["min="], BOUNDS["max="]


@pytest.mark.parametrize("clip", list(BOUNDS.values()), ids=list(BOUNDS))
def test_clip_however_its_bounds_are_given(clip):
    x, c = leaf(apart(6), (2, 3)), Tensor(1.25, requires_grad=True)
    np.testing.assert_array_equal(clip(x, c).data, clip(x.data, c.data))
    mg.gradcheck(clip, [x, c], order=2)
    mg.gradcheck(lambda x: clip(x, np.array(1.25)), [x], order=2)


def test_select_takes_the_first_that_holds():
    x, y = Tensor(normal(4), requires_grad=True), Tensor(normal(2, 1), requires_grad=True)
    f = lambda x, y: np.select([x > 0, [True, False, True, False]], [x**2, x * y], y**3)  # noqa: E731
    np.testing.assert_array_equal(
        f(x, y).data, np.select([x.data > 0, [True, False, True, False]], [x.data**2, x.data * y.data], y.data**3)
    )
    mg.gradcheck(f, [x, y], order=2)


def test_several_results():
    x, y = Tensor(2 + positive(3) / 8, requires_grad=True), Tensor([0.7], requires_grad=True)
    for mine, theirs in zip(
        [*np.divmod(x, y), *np.modf(x)], [*np.divmod(x.data, y.data), *np.modf(x.data)], strict=True
    ):
        np.testing.assert_array_equal(mine.data, theirs)
    mg.gradcheck(lambda x, y: np.divmod(x, y)[0] + np.modf(x)[1] + y, [x, y])  # the whole parts are flat


def test_a_condition_is_flat():
    x, y = Tensor([0.0, 2.0], requires_grad=True), Tensor([3.0, 5.0], requires_grad=True)
    of_x, of_y = mg.grad(np.sum(np.where(x, x**2, y)), [x, y])
    assert of_x.tolist() == [0.0, 4.0]
    assert of_y.tolist() == [1.0, 0.0]


def test_astype_there_and_back():
    x = Tensor(normal(3), requires_grad=True)
    mg.gradcheck(lambda x: (x.astype(np.longdouble) ** 2).astype(np.float64), x, order=2)
    y = Tensor([1.5, 2.0], np.float32, requires_grad=True)
    (g,) = mg.grad(np.sum(y.astype(np.float64) ** 3), y)
    assert g.dtype == np.float32
    np.testing.assert_array_equal(g, [6.75, 12.0])
