"""Operators, ndarray's methods and NumPy's protocols on tensors: NumPy's values and dtypes, and right gradients.

The oracles are NumPy itself (the same expression on plain arrays) and central differences of that.
"""

import operator

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


def central_differences(f, x, weight, eps=1e-6):
    """The gradient of (weight * f(x)).sum() for a plain NumPy f."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += eps
        down[index] -= eps
        gradient[index] = np.sum(weight * (f(up) - f(down))) / (2 * eps)
    return gradient


def agrees_with_numpy(f, array):
    """Values, shape and dtype of f(Tensor) are those of f(array); its gradient, f's central differences."""
    x = needing(array)
    result, expected = f(x), f(array)
    assert type(result) is Tensor
    assert result.dtype == expected.dtype
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result.data, expected, rtol=1e-14)
    weight = np.cos(np.arange(np.size(expected)) + 1.0).reshape(np.shape(expected))
    (gradient,) = mg.grad(result, x, weight)
    assert gradient.dtype == array.dtype
    np.testing.assert_allclose(gradient, central_differences(f, array, weight), rtol=1e-6, atol=1e-8)
    # And where nothing is recorded the values are the same.
    np.testing.assert_allclose(f(Tensor(array)).data, expected, rtol=1e-14)


# Operators ------------------------------------------------------------------------------------------------------------

ARITHMETIC = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
    "//": operator.floordiv, "%": operator.mod,
}  # fmt: skip
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
MATRIX = np.array([[0.7, 1.9, 2.3], [3.1, 0.43, 1.3]])
OTHERS = {
    "int": 2,
    "float": 1.7,
    "bool": True,
    "list": [1.2, 2.5, 0.9],
    "nested list": [[2], [3]],
    "np.float64": np.float64(1.7),
    "np.float32": np.float32(1.7),
    "np.int64": np.int64(3),
    "np.bool": np.True_,
    "0-d array": np.array(1.7),
    "0-d int array": np.array(3),
    "row": np.array([1.2, 2.5, 0.9]),
    "column": np.array([[1.2], [2.5]]),
    "matrix": MATRIX[::-1] + 0.37,
    "more axes": np.array([[[1.2]], [[2.5]]]),
    "ints": np.array([1, 2, 3]),
    "small ints": np.array([1, 2, 100], np.int8),
    "unsigned": np.array([1, 2, 200], np.uint8),
    "bools": np.array([True, True, False]),
    "float32": np.array([1.2, 2.5, 0.9], np.float32),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("side", ["left", "right"])
def test_arithmetic_with_anything_on_either_side(name, other, side):
    value, apply = OTHERS[other], ARITHMETIC[name]
    if other == "bools" and side == "right" and name in ("/", "//", "%"):
        value = np.array([True, True, True])  # no division by zero
    if side == "left":
        agrees_with_numpy(
            lambda x: apply(np.asarray(value) if type(x) is np.ndarray and type(value) is list else value, x), MATRIX
        )
    else:
        agrees_with_numpy(lambda x: apply(x, value), MATRIX)


@pytest.mark.parametrize("apply", COMPARISONS)
@pytest.mark.parametrize("other", OTHERS)
def test_comparisons_answer_with_plain_booleans(apply, other):
    value, x = OTHERS[other], needing(MATRIX)
    for answer, expected in [
        (apply(x, value), apply(MATRIX, value)),
        (apply(value, x), apply(np.asarray(value), MATRIX)),
    ]:
        assert type(answer) is np.ndarray
        assert answer.dtype == bool
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("apply", COMPARISONS)
def test_comparisons_of_tensors(apply):
    x, y = needing(MATRIX), Tensor(MATRIX[::-1])
    answer = apply(x, y)
    assert type(answer) is np.ndarray
    np.testing.assert_array_equal(answer, apply(MATRIX, MATRIX[::-1]))
    assert isinstance(apply(needing(1.0), needing(2.0)), (bool, np.bool))


def test_equality_with_what_is_no_number_is_false_as_in_numpy():
    assert not (needing([1.0]) == None).any()  # noqa: E711
    assert (needing([1.0]) != "a").all()


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_of_two_tensors(name):
    left, right = MATRIX, np.array([1.2, 2.5, 0.9])
    agrees_with_numpy(lambda x: ARITHMETIC[name](x, Tensor(right) if type(x) is Tensor else right), left)
    agrees_with_numpy(lambda x: ARITHMETIC[name](Tensor(left) if type(x) is Tensor else left, x), right)


def test_integers_too_large_for_numpys_own():
    x = needing([1.0, 2.0])
    np.testing.assert_array_equal((x * 10**30).data, [1e30, 2e30])
    assert mg.grad((10**30 / x).sum(), x)[0].tolist() == [-1e30, -1e30 / 4]


@pytest.mark.parametrize("operate", [operator.neg, operator.pos, operator.abs])
def test_unary_operators(operate):
    agrees_with_numpy(operate, MATRIX - 1.0)
    agrees_with_numpy(operate, np.array(-1.5))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 0.5, 1.5, 2.0, -1.0, True, np.float64(2), [1, 2, 3]])
def test_powers(exponent):
    agrees_with_numpy(lambda x: x**exponent, MATRIX)


def test_a_square_is_exact_and_safe_where_a_power_is_not():
    x = needing([-3.0, 0.0])
    assert mg.grad((x**2).sum(), x)[0].tolist() == [-6.0, 0.0]
    assert mg.grad((x**0).sum(), x)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 3)])
@pytest.mark.parametrize("other", [(3,), (3, 2), (4, 3, 2)])
def test_matmul_with_an_array_on_either_side(shape, other):
    a = np.sin(np.arange(np.prod(shape)) + 1.0).reshape(shape)
    b = np.cos(np.arange(np.prod(other)) + 2.0).reshape(other)
    agrees_with_numpy(lambda x: x @ b, a)
    agrees_with_numpy(lambda y: a @ y, b)
    agrees_with_numpy(lambda x: x @ b.tolist(), a)


def test_divmod():
    for x in (7.5, np.array([7.5, 8.0])):
        quotient, rest = divmod(x, needing([2.0, 3.0]))
        np.testing.assert_array_equal(quotient.data, np.array(x) // [2.0, 3.0])
        np.testing.assert_array_equal(rest.data, np.array(x) % [2.0, 3.0])
    agrees_with_numpy(lambda x: divmod(x, 0.6)[0], MATRIX)
    agrees_with_numpy(lambda x: divmod(x, 0.6)[1], MATRIX)
    agrees_with_numpy(lambda x: np.divmod(x, 0.6)[1], MATRIX)
    agrees_with_numpy(lambda x: divmod(7.1, x)[1], MATRIX)


@pytest.mark.parametrize("name", ["+", "-", "*", "/", "**"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize(
    "other",
    [2, 2.5, True, np.float32(2), np.float64(2), np.int64(2), np.ones(2, np.int8), np.ones(2, np.int32),
     np.ones(2, bool),     np.ones(2, np.float16), np.ones(2, np.float32), np.ones(2), np.ones(2, np.longdouble)],
    ids=lambda v: f"{type(v).__name__} {getattr(v, 'dtype', '')}",
)  # fmt: skip
def test_the_dtype_of_results_is_numpys_and_of_gradients_the_inputs_own(name, dtype, other):
    apply, array = ARITHMETIC[name], np.array([1.5, 2.5], dtype)
    for f in (lambda x: apply(x, other), lambda x: apply(other, x)):
        x = needing(array)
        result = f(x)
        assert result.dtype == f(array).dtype
        np.testing.assert_array_equal(result.data, f(array))
        assert mg.grad(result.sum(), x)[0].dtype == dtype
        second = mg.grad(f(x).sum(), x, create_graph=True)[0]
        assert second.dtype == dtype


def test_float32_stays_float32_through_a_long_expression():
    x = needing([0.5, 1.5], np.float32)
    y = np.exp(-(x**2) / 2) * 0.4 + np.sqrt(x + 1) - 1 / (1 + x)
    assert (y.dtype, y.sum().dtype, y.mean().dtype, (y[0] * 2.0).dtype) == (np.float32,) * 4
    (first,) = mg.grad(y.sum() * 3.0, x, create_graph=True)
    assert first.dtype == np.float32
    assert mg.grad(first.sum(), x)[0].dtype == np.float32


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)])
def test_nothing_at_all_is_computed_with(shape):
    x = needing(np.zeros(shape))
    for y in (x * 2, 2 - x, x / x, x**2, -x, x @ np.zeros((3, 4)) if shape[-1] == 3 else x, np.exp(x) + x):
        assert mg.grad(y.sum(), x)[0].shape == shape
    assert x.sum().item() == 0.0


def test_shapes_that_only_meet_by_broadcasting_to_nothing():
    x, row = needing(np.ones((0, 1))), needing(np.ones(3))
    assert (x * row).shape == (0, 3)
    by_x, by_row = mg.grad((x * row).sum(), [x, row])
    assert (by_x.shape, by_row.tolist()) == ((0, 1), [0.0, 0.0, 0.0])


def test_in_place_operators_on_a_tensor_bind_a_new_one():
    x = needing([1.0, 2.0])
    y = x
    y += 1
    y *= x
    y @= np.ones(2)
    assert x.tolist() == [1.0, 2.0]
    assert y.item() == 8.0
    assert mg.grad(y, x)[0].tolist() == [3.0, 5.0]


@pytest.mark.parametrize("apply", [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow])
def test_an_array_changed_in_place_by_a_tensor(apply):
    array = np.array([1.0, 2.0])
    with pytest.raises(mg.NotDifferentiableError, match="in place"):
        apply(array, needing([3.0, 4.0]))
    assert array.tolist() == [1.0, 2.0]
    # A constant flows no gradient: as between arrays, the array keeps its name and is an array still.
    same = apply(array, Tensor([3.0, 4.0]))
    assert same is array
    np.testing.assert_array_equal(array, apply(np.array([1.0, 2.0]), np.array([3.0, 4.0])))


# Methods --------------------------------------------------------------------------------------------------------------

CUBE = np.sin(np.arange(24.0) * 1.7 + 0.3).reshape(2, 3, 4) + 1.5
METHODS = {
    "sum": [{}, {"axis": 0}, {"axis": -1}, {"axis": (0, 2)}, {"axis": 1, "keepdims": True}, {"axis": ()}],
    "mean": [{}, {"axis": 0}, {"axis": (0, 2), "keepdims": True}],
    "prod": [{}, {"axis": 1}, {"axis": (0, 1), "keepdims": True}],
    "max": [{}, {"axis": 0}, {"axis": (1, 2), "keepdims": True}],
    "min": [{}, {"axis": -1}, {"keepdims": True}],
    "var": [{}, {"axis": 0, "ddof": 1}, {"axis": (0, 1), "keepdims": True}],
    "std": [{}, {"axis": 2, "ddof": 1}, {"keepdims": True}],
    "cumsum": [{}, {"axis": 0}, {"axis": -1}],
    "cumprod": [{}, {"axis": 1}],
    "ravel": [{}, {"order": "C"}],
    "flatten": [{}, {"order": "C"}],
    "copy": [{}, {"order": "C"}],
    "squeeze": [{}],
    "round": [{}, {"decimals": 1}],
    "diagonal": [{}, {"offset": 1}, {"offset": -1, "axis1": 1, "axis2": 2}],
    "trace": [{}, {"offset": 1, "axis1": 0, "axis2": 2}],
    "clip": [{"min": 1.0}, {"max": 2.0}, {"min": 1.0, "max": 2.0}],
    "repeat": [{"repeats": 2}, {"repeats": 2, "axis": 1}, {"repeats": [1, 0, 2], "axis": 1}],
    "take": [{"indices": [0, 5, 5]}, {"indices": [[2, 0], [1, 1]], "axis": 1}, {"indices": 1, "axis": -1}],
    "compress": [{"condition": [True, False, True]}, {"condition": [False, True], "axis": 1}],
    "swapaxes": [{"axis1": 0, "axis2": 2}, {"axis1": -1, "axis2": 1}],
}  # fmt: skip
POSITIONAL = {"repeat", "take", "compress", "swapaxes"}  # ndarray's swapaxes takes no keywords


@pytest.mark.parametrize(("name", "options"), [(name, options) for name in METHODS for options in METHODS[name]])
def test_methods_of_ndarray(name, options):
    if name in POSITIONAL:
        agrees_with_numpy(lambda x: getattr(x, name)(*options.values()), CUBE)
    else:
        agrees_with_numpy(lambda x: getattr(x, name)(**options), CUBE)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.reshape(4, 6), lambda x: x.reshape((4, 6)), lambda x: x.reshape([4, 6]), lambda x: x.reshape(-1),
        lambda x: x.reshape(2, -1), lambda x: x.reshape((2, -1, 1)), lambda x: x.reshape(np.int64(24)),
        lambda x: x[0, 0, :1].reshape(()), lambda x: x.T.reshape(6, 4), lambda x: x.transpose(),
        lambda x: x.transpose(None), lambda x: x.transpose(2, 0, 1), lambda x: x.transpose((2, 0, 1)),
        lambda x: x.transpose([1, 0, 2]), lambda x: x.transpose(0, -1, 1), lambda x: x[0, 0].transpose(0),
        lambda x: x.sum().transpose(), lambda x: x.T, lambda x: x.mT, lambda x: x[0].T, lambda x: x[0, 0].T,
        lambda x: x[:, :1].squeeze(1), lambda x: x[:, :1].squeeze(axis=(1,)), lambda x: x[:1, :1].squeeze(),
        lambda x: x.dot(np.arange(4.0)), lambda x: x[0].dot(np.ones((4, 2))), lambda x: x.sum(0),
        lambda x: x.mean(0, keepdims=True), lambda x: x.max(1), lambda x: x.clip(1.0, 2.0), lambda x: x[1],
        lambda x: x[..., 0], lambda x: x[:, None, 1:, ::-2], lambda x: x[[1, 1, 0]], lambda x: x[-1, 2, 3],
        lambda x: x[[0, 1], :, [2, 2]], lambda x: x[np.asarray(CUBE > 1.5)], lambda x: x[...], lambda x: x[()],
        lambda x: x[:, np.array([True, False, True])], lambda x: x[5:],
    ],
)  # fmt: skip
def test_call_forms_of_methods_and_indices(call):
    agrees_with_numpy(call, CUBE)


@pytest.mark.parametrize("call", [lambda x: x.transpose(0), lambda x: x.transpose(0, 1), lambda x: x.reshape(5, 5)])
def test_call_forms_that_ndarray_refuses(call):
    with pytest.raises(ValueError):  # noqa: PT011 (NumPy's own words differ between versions)
        call(CUBE)
    with pytest.raises(ValueError):  # noqa: PT011
        call(needing(CUBE))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("argmax", {}), ("argmax", {"axis": 1}), ("argmax", {"axis": 1, "keepdims": True}), ("argmin", {"axis": 0}),
        ("argsort", {}), ("argsort", {"axis": None}), ("argsort", {"axis": 0, "stable": True}), ("nonzero", {}),
        ("any", {}), ("any", {"axis": 0}), ("all", {"axis": (0, 1), "keepdims": True}),
    ],
)  # fmt: skip
def test_methods_that_answer_with_plain_arrays(name, options):
    array = CUBE * (CUBE > 1.2)
    answer, expected = getattr(needing(array), name)(**options), getattr(array, name)(**options)
    assert type(answer) is type(expected)
    np.testing.assert_array_equal(answer, expected)


def test_astype():
    x = needing(CUBE)
    assert x.astype(np.float64) is x
    y = x.astype(np.float32)
    assert (y.dtype, y.requires_grad) == (np.float32, True)
    (gradient,) = mg.grad((y * y).sum(), x)
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, 2 * CUBE.astype(np.float32), rtol=1e-7)
    for dtype in (int, bool, complex):
        with pytest.raises(TypeError, match=str(np.dtype(dtype))):
            x.astype(dtype)


def test_with_pandas_on_either_side():
    pandas = pytest.importorskip("pandas")
    array = np.array([1.0, 2.0, 0.0])
    series = pandas.Series(array, index=[5, 3, 4])  # rows go by position
    frame = pandas.DataFrame(np.diag(array) + 1)
    w = Tensor([0.5, -1.0, 3.0], requires_grad=True)
    for f in (lambda a, m: a * w + m, lambda a, m: ((a - w) ** 2).mean(), lambda a, m: np.dot(m, w), lambda a, m: w @ a,
              lambda a, m: np.interp(w, np.sort(a), a), lambda a, m: np.average(w, weights=a),
              lambda a, m: mg.nn.cross_entropy(np.outer(a, w), a.astype(int))):  # fmt: skip
        ours, plain = f(series, frame), f(array, frame.to_numpy())
        assert type(ours) is type(plain)
        np.testing.assert_array_equal(getattr(ours, "data", ours), getattr(plain, "data", plain))
