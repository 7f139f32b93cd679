"""Rules over shapes that Hypothesis makes: broadcasting, size-0 axes, 0-d to 3-d, every axis."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import microgradopt as mg
from microgradopt import Tensor

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


def leaf(shape, seed=0, low=0.5, high=2.0):
    return Tensor(np.random.default_rng([seed, *shape]).uniform(low, high, shape), requires_grad=True)


@pytest.mark.parametrize(
    "f", [np.add, np.subtract, np.multiply, np.divide, np.power, np.hypot, np.arctan2, np.logaddexp]
)
@settings(max_examples=25)
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3))
def test_elementwise_functions_broadcast(f, shapes):
    x, y = leaf(shapes.input_shapes[0]), leaf(shapes.input_shapes[1], 1)
    assert f(x, y).shape == shapes.result_shape
    mg.gradcheck(f, [x, y], order=2)


@settings(max_examples=25)
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=2))
def test_where_and_clip_broadcast(shapes):
    one, two, three = shapes.input_shapes
    condition = np.random.default_rng(0).random(one) > 0.5
    mg.gradcheck(lambda x, y: np.where(condition, x, y), [leaf(two), leaf(three, 1)], order=2)
    mg.gradcheck(lambda x, low: np.clip(x, low, 1.7), [leaf(one), leaf(two, 1, 0.0, 0.4)], order=2)


@settings(max_examples=25)
@given(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, min_side=0, max_side=3))
def test_matmul_in_every_dimension_case(shapes):
    x, y = leaf(shapes.input_shapes[0]), leaf(shapes.input_shapes[1], 1)
    product = x @ y
    assert product.shape == shapes.result_shape
    np.testing.assert_allclose(product.data, x.data @ y.data, rtol=1e-14)
    mg.gradcheck(np.matmul, [x, y], order=2)


@st.composite
def reductions(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3))
    axis = draw(
        st.none()
        | hnp.valid_tuple_axes(len(shape))
        | (st.integers(-len(shape), len(shape) - 1) if shape else st.none())
    )
    return shape, axis, draw(st.booleans())


@pytest.mark.parametrize("f", [np.sum, np.mean, np.prod, np.max, np.min, np.var, np.std, np.ptp, mg.logsumexp])
@settings(max_examples=25)
@given(reductions())
def test_reductions_over_every_axis(f, case):
    shape, axis, keepdims = case
    size = int(np.prod(shape))
    values = np.random.default_rng(1).permutation(size).reshape(shape) + 0.5  # far apart: nothing ties
    x = Tensor(values / 3, requires_grad=True)
    lonely = (
        f in (np.std, np.ptp)
        and int(np.prod([shape[i] for i in np.atleast_1d(axis)] if axis is not None else shape)) == 1
    )
    result = f(x, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(result.data, f(x.data, axis=axis, keepdims=keepdims), rtol=1e-13)
    if not lonely:  # one number has no spread, and that 0 is a kink
        mg.gradcheck(lambda x: f(x, axis=axis, keepdims=keepdims), x, order=2)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
@pytest.mark.parametrize("f", [np.sum, np.prod, np.cumsum, np.exp, np.ravel, np.transpose, np.flip, np.sort, np.tril])
def test_size_0(f, shape):
    x = Tensor(np.empty(shape), requires_grad=True)
    result = f(x)
    np.testing.assert_array_equal(result.data, f(np.empty(shape)))
    (g,) = mg.grad(result, x, np.ones(result.shape))
    assert g.shape == shape


@settings(max_examples=25)
@given(SHAPES, st.data())
def test_indexing(shape, data):
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True) if shape else st.sampled_from([(), ..., None]))
    x = leaf(shape)
    result = x[index]
    np.testing.assert_array_equal(result.data, x.data[index])
    mg.gradcheck(lambda x: x[index] ** 2, x, order=2)


@settings(max_examples=25)
@given(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3), st.data())
def test_integer_indexing_adds_up_repeats(shape, data):
    index = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
    x = leaf(shape)
    weight = np.random.default_rng(0).normal(size=x.data[index].shape)
    (g,) = mg.grad(np.sum(x[index] * weight), x)
    expected = np.zeros(shape)
    np.add.at(expected, index, weight)
    np.testing.assert_array_equal(g, expected)
    mg.gradcheck(lambda x: x[index] ** 2, x, order=2)
