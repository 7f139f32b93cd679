"""Reductions: every axis, weights in every shape, ties, zeros, nothing at all."""

import math

import numpy as np
import pytest
from cases import CUBE, normal, positive
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import microgradopt as mg
from microgradopt import Tensor

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)


def leaf(values):
    return Tensor(values, requires_grad=True)


@pytest.mark.parametrize(
    "f", [np.cumsum, np.cumprod, np.sort, mg.softmax, mg.log_softmax, np.average, np.amax, np.amin]
)
@settings(max_examples=20)
@given(shape=SHAPES, data=st.data())
def test_along_one_axis(f, shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = leaf(np.random.default_rng(2).permutation(math.prod(shape)).reshape(shape) / 7 - 0.9)
    np.testing.assert_allclose(f(x, axis=axis).data, f(x.data, axis=axis), rtol=1e-13)
    mg.gradcheck(lambda x: f(x, axis=axis), x, order=2)


@pytest.mark.parametrize(
    ("axis", "shape"),
    [(None, (2, 3, 4)), (0, (2,)), (-1, (4,)), ((0, 1), (2, 3)), ((2, 0), (4, 2)), ((1, 0, 2), (3, 2, 4))],
)
@pytest.mark.parametrize("keepdims", [False, True])
def test_average_weights_go_with_their_axes_in_the_order_given(axis, shape, keepdims):
    f = lambda x, w: np.average(x, axis, w, keepdims=keepdims)  # noqa: E731
    x, w = leaf(CUBE), leaf(positive(*shape))
    np.testing.assert_allclose(f(x, w).data, f(x.data, w.data), rtol=1e-13)
    np.testing.assert_allclose(f(x, w.tolist()).data, f(x.data, w.data), rtol=1e-13)
    np.testing.assert_allclose(f(CUBE, w).data, f(x.data, w.data), rtol=1e-13)
    mg.gradcheck(f, [x, w], order=2)


@pytest.mark.parametrize("f", [np.var, np.std])
@pytest.mark.parametrize("ddof", [0, 1, 1.5])
@pytest.mark.parametrize("axis", [None, 1, (0, 2)])
@pytest.mark.parametrize("name", ["ddof", "correction"])
def test_degrees_of_freedom(f, ddof, axis, name):
    g = lambda x: f(x, axis=axis, **{name: ddof})  # noqa: E731
    np.testing.assert_array_equal(g(leaf(CUBE)).data, g(CUBE))
    mg.gradcheck(g, leaf(CUBE), order=2)


@pytest.mark.parametrize("f", [np.max, np.min, np.amax, np.amin])
@pytest.mark.parametrize("keepdims", [False, True])
def test_ties_share_along_axes(f, keepdims):
    sign = 1 if f in (np.max, np.amax) else -1
    x = sign * np.array([[1.0, 5.0, 5.0], [2.0, 2.0, 2.0], [7.0, 0.0, 7.0]])
    expected = {
        0: [[0, 1, 0], [0, 0, 0], [1, 0, 1]],
        1: [[0, 1 / 2, 1 / 2], [1 / 3, 1 / 3, 1 / 3], [1 / 2, 0, 1 / 2]],
        (0, 1): [[0, 0, 0], [0, 0, 0], [1 / 2, 0, 1 / 2]],
        None: [[0, 0, 0], [0, 0, 0], [1 / 2, 0, 1 / 2]],
    }
    for axis, share in expected.items():
        t = leaf(x)
        np.sum(f(t, axis=axis, keepdims=keepdims)).backward()
        np.testing.assert_array_equal(t.grad, np.array(share, float))


@pytest.mark.parametrize("zeros", [[], [(0, 1)], [(0, 1), (0, 2)], [(0, 1), (1, 1)], [(0, 0), (0, 1), (0, 2), (0, 3)]])
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("f", [np.prod, np.cumprod])
def test_products_with_zeros_in_any_place(f, axis, zeros):
    if f is np.cumprod and axis == (0, 1):
        axis = -1
    values = positive(2, 4)
    for place in zeros:
        values[place] = 0.0
    mg.gradcheck(lambda x: f(x, axis=axis), leaf(values), order=2)


@pytest.mark.parametrize("zeros", [1, 2, 3])
def test_third_derivative_of_a_product_with_zeros(zeros):
    """∂³(abc)/∂a∂b∂c = 1, whatever a, b and c are."""
    x = leaf([0.0] * zeros + [2.0] * (3 - zeros))
    (first,) = mg.grad(np.prod(x), x, create_graph=True)
    (second,) = mg.grad(first[0], x, create_graph=True)
    assert mg.grad(second[1], x)[0].tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("f", [np.sum, np.prod, np.max, np.mean, np.var, np.std, mg.logsumexp, np.ptp])
@pytest.mark.parametrize(("shape", "axis"), [((0, 3), 1), ((2, 0, 3), 2), ((3, 0), 0), ((0, 2, 3), (1, 2))])
def test_nothing_along_the_other_axes(f, shape, axis):
    x = leaf(np.empty(shape))
    result = f(x, axis=axis)
    assert result.shape == f(np.empty(shape), axis=axis).shape
    (g,) = mg.grad(result, x, np.ones(result.shape))
    assert g.shape == shape


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("f", "value"), [(np.sum, 0.0), (np.prod, 1.0)])
def test_sums_and_products_of_nothing(f, value, keepdims):
    x = leaf(np.empty((2, 0, 3)))
    result = f(x, axis=1, keepdims=keepdims)
    np.testing.assert_array_equal(result.data, np.full(result.shape, value))
    assert mg.grad(np.sum(result), x)[0].shape == (2, 0, 3)


@pytest.mark.parametrize("axis", [(), np.int64(1), (np.int64(0), -1)])
@pytest.mark.parametrize("f", [np.sum, np.mean, np.prod, np.max, np.std, np.ptp, mg.logsumexp])
def test_axes_in_other_spellings(f, axis):
    if isinstance(axis, tuple) and not axis and f in (np.std, np.ptp):  # of single numbers: 0, and a kink
        axis = (0, 1)
    np.testing.assert_allclose(f(leaf(CUBE), axis=axis).data, f(CUBE, axis=axis), rtol=1e-13)
    mg.gradcheck(lambda x: f(x, axis=axis), leaf(CUBE), order=2)


def test_ufunc_methods():
    for f in (
        np.add.reduce,
        np.multiply.reduce,
        np.maximum.reduce,
        np.minimum.reduce,
        np.add.accumulate,
        np.multiply.accumulate,
    ):
        np.testing.assert_allclose(f(leaf(CUBE)).data, f(CUBE), rtol=1e-13)
        mg.gradcheck(lambda x, f=f: f(x, axis=1), leaf(CUBE), order=2)


def test_variances_of_constants():
    """The variance is smooth there; the deviation is the length of a vector at 0, and has subgradient 0."""
    x = leaf(np.full((2, 3), 2.0))
    mg.gradcheck(lambda x: np.var(x, axis=1), x, order=2)
    np.testing.assert_array_equal(mg.grad(np.sum(np.std(x, axis=1)), x)[0], np.zeros((2, 3)))


def test_logsumexp_does_not_hide_a_nan():
    x = leaf([math.nan, 1.0])
    assert np.isnan(mg.grad(mg.logsumexp(x), x)[0]).all()


def test_logsumexp_of_minus_infinity_alone():
    x = leaf([[-math.inf, -math.inf], [0.0, -math.inf]])
    (g,) = mg.grad(np.sum(mg.logsumexp(x, axis=1)), x)
    np.testing.assert_array_equal(g, [[0.0, 0.0], [1.0, 0.0]])


@pytest.mark.parametrize("offset", [-5, -1, 0, 2, 9])
@pytest.mark.parametrize("axes", [(0, 1), (2, 0), (-1, 1)])
def test_traces(offset, axes):
    f = lambda x: np.trace(x, offset, *axes)  # noqa: E731
    np.testing.assert_allclose(f(leaf(CUBE)).data, f(CUBE), rtol=1e-14)
    mg.gradcheck(f, leaf(CUBE), order=2)


def test_methods_are_the_functions():
    x = leaf(normal(2, 3))
    for name in ("sum", "mean", "prod", "max", "min", "var", "std", "cumsum", "cumprod"):
        one, other = getattr(x, name)(axis=1), getattr(np, name)(x, axis=1)
        np.testing.assert_array_equal(one.data, other.data)
        np.testing.assert_array_equal(mg.grad(np.sum(one**2), x)[0], mg.grad(np.sum(other**2), x)[0])


def test_a_tensor_given_by_keyword_beside_a_keyword_only_argument():
    x, w = leaf(CUBE), leaf(positive(3))
    np.testing.assert_array_equal(np.sum(a=x, axis=1, keepdims=True).data, np.sum(CUBE, axis=1, keepdims=True))
    averaged = np.average(x, axis=1, weights=w, keepdims=True)
    np.testing.assert_allclose(averaged.data, np.average(CUBE, axis=1, weights=w.data, keepdims=True), rtol=1e-13)


@pytest.mark.parametrize("f", [np.sum, np.max, np.cumsum, mg.logsumexp])
@pytest.mark.parametrize("axis", [-1, 0])
def test_a_number_along_the_axis_that_it_has_not(f, axis):
    """NumPy allows it: np.sum(z**2, axis=-1) of a single z."""
    x = leaf(1.5)
    np.testing.assert_array_equal(mg.grad(f(x * x, axis=axis).sum(), x)[0], 3.0)
