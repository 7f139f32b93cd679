"""NumPy's own functions called on tensors: what is differentiated, what answers as NumPy, and what is refused."""

import contextlib
from collections import UserList, deque
from typing import NamedTuple

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import NotDifferentiableError, Tensor


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


MATRIX = np.array([[0.7, 1.9, 2.3], [3.1, 0.4, 1.3]])

# Methods of ufuncs ----------------------------------------------------------------------------------------------------

UFUNC_METHODS = {
    # name: (the call, the gradient of its sum by MATRIX in closed form)
    "add.reduce": (lambda x: np.add.reduce(x), lambda x: np.ones_like(x)),
    "add.reduce axis": (lambda x: np.add.reduce(x, axis=1), lambda x: np.ones_like(x)),
    "add.reduce axis by position": (lambda x: np.add.reduce(x, 1), lambda x: np.ones_like(x)),
    "add.reduce all": (lambda x: np.add.reduce(x, axis=None), lambda x: np.ones_like(x)),
    "add.reduce axes": (lambda x: np.add.reduce(x, axis=(0, 1)), lambda x: np.ones_like(x)),
    "add.reduce keepdims": (lambda x: np.add.reduce(x, axis=1, keepdims=True), lambda x: np.ones_like(x)),
    "multiply.reduce": (lambda x: np.multiply.reduce(x), lambda x: x[::-1]),
    "multiply.reduce axis": (lambda x: np.multiply.reduce(x, axis=1), lambda x: x.prod(axis=1, keepdims=True) / x),
    "maximum.reduce": (lambda x: np.maximum.reduce(x), lambda x: (x == x.max(axis=0)) * 1.0),
    "minimum.reduce": (lambda x: np.minimum.reduce(x, axis=None), lambda x: (x == x.min()) * 1.0),
    "add.accumulate": (lambda x: np.add.accumulate(x), lambda x: np.array([[2.0], [1.0]]) * np.ones_like(x)),
    "add.accumulate axis": (lambda x: np.add.accumulate(x, axis=1), lambda x: np.array([3.0, 2.0, 1.0]) + 0 * x),
    "multiply.accumulate": (lambda x: np.multiply.accumulate(x), lambda x: np.stack([1 + x[1], x[0]])),
    "multiply.outer": (lambda x: np.multiply.outer(x, [1.0, 2.0]), lambda x: 3.0 * np.ones_like(x)),
    "subtract.outer": (lambda x: np.subtract.outer([1.0, 2.0], x), lambda x: -2.0 * np.ones_like(x)),
    "power.outer": (lambda x: np.power.outer(x, np.array([2, 3])), lambda x: 2 * x + 3 * x**2),
}


@pytest.mark.parametrize(("call", "gradient"), UFUNC_METHODS.values(), ids=UFUNC_METHODS)
def test_methods_of_ufuncs(call, gradient):
    x = needing(MATRIX)
    result = call(x)
    np.testing.assert_allclose(result.data, call(MATRIX), rtol=1e-14)
    assert result.shape == np.shape(call(MATRIX))
    np.testing.assert_allclose(mg.grad(result.sum(), x)[0], gradient(MATRIX), rtol=1e-13)
    np.testing.assert_allclose(call(Tensor(MATRIX)).data, call(MATRIX), rtol=1e-14)


def test_methods_of_ufuncs_that_ask_questions():
    x = needing([0.0, 1.0])
    assert np.logical_or.reduce(x) == np.True_
    assert np.logical_and.accumulate(x).tolist() == [False, False]
    np.testing.assert_array_equal(np.less.outer(x, [0.5, 2.0]), [[True, True], [False, True]])


# What has no rule -----------------------------------------------------------------------------------------------------

NO_RULE = {
    "fft": lambda x: np.fft.fft(x),
    "nanprod": lambda x: np.nanprod(x),
    "interp with period": lambda x: np.interp(x, [0.0, 1.0], [0.0, 1.0], period=2.0),
    "nextafter": lambda x: np.nextafter(x, 9.0),
    "maximum.accumulate": lambda x: np.maximum.accumulate(x),
    "add.reduceat": lambda x: np.add.reduceat(x, [0, 1]),
    "subtract.reduce": lambda x: np.subtract.reduce(x),
    "hypot.reduce": lambda x: np.hypot.reduce(x),
    "std with mean": lambda x: np.std(x, mean=np.array([2.0])),
    "exp with dtype": lambda x: np.exp(x, dtype=np.float32, casting="same_kind"),
    "exp with where": lambda x: np.exp(x, where=np.array([True, True, True])),
}


@pytest.mark.filterwarnings("ignore:'where' used without 'out'")
@pytest.mark.parametrize("name", NO_RULE)
def test_without_a_rule_it_is_an_error_at_the_call_and_as_numpy_where_nothing_would_flow(name):
    array, call = np.array([1.0, 3.0, 2.0]), NO_RULE[name]
    x = needing(array)
    with pytest.raises(NotDifferentiableError, match=name.split(" with ")[0].replace("add.reduce", "sum|reduce")):
        call(x)
    expected = call(array)
    with mg.no_grad():
        without = call(x)
    for answer in (without, call(Tensor(array)), call(x.detach())):
        values = answer.data if type(answer) is Tensor else answer
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)
        assert (type(answer) is Tensor) == (expected.dtype.kind == "f")


def test_the_error_says_where_the_rules_are_listed():
    with pytest.raises(NotDifferentiableError, match=r"mg\.rules\.supported\(\).*\.detach\(\)"):
        np.fft.fft(needing([1.0, 2.0]))
    assert {"exp", "matmul", "linalg.norm", "concatenate"} <= set(mg.rules.supported())
    assert "fft" not in mg.rules.supported()


def test_a_gradient_hidden_in_a_list_or_a_keyword_is_found():
    x = needing([1.0, 2.0])
    for call in (
        lambda: np.nanprod(a=[x, x]),
        lambda: np.concatenate(([x], [[1.0, 2.0]])),
    ):
        with pytest.raises((NotDifferentiableError, TypeError)):
            call()


def test_no_gradient_flows_to_a_condition():
    x = needing([0.0, 1.0])
    y = needing([3.0, 4.0])
    chosen = np.where(x, y, 2.0)
    assert [g.tolist() for g in mg.grad(chosen.sum(), [x, y])] == [[0.0, 0.0], [0.0, 1.0]]
    assert [part.tolist() for part in np.where(x)] == [[1]]
    with mg.no_grad():
        assert np.where(x, 1.0, 2.0).tolist() == [2.0, 1.0]
    answer = np.where(Tensor([0.0, 1.0]), 1, 2)  # integers, as NumPy's answer is
    assert type(answer) is np.ndarray
    assert answer.tolist() == [2, 1]
    assert [part.tolist() for part in np.where(Tensor([0.0, 1.0]))] == [[1]]


# out= -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x, out: np.exp(x, out=out),
        lambda x, out: np.exp(x, out),
        lambda x, out: np.add(x, 1.0, out=out),
        lambda x, out: np.cumsum(x, out=out),
        lambda x, out: np.clip(x, 0.0, 1.5, out=out),
        lambda x, out: np.nextafter(x, 9.0, out=out),
    ],
)
def test_out_is_for_constants(call):
    array, out = np.array([1.0, 2.0]), np.zeros(2)
    with pytest.raises(NotDifferentiableError):
        call(needing(array), out)
    assert out.tolist() == [0.0, 0.0]
    # As NumPy: what was handed in comes back, and it is the caller's own array, not a tensor that shares its memory.
    assert call(Tensor(array), out) is out
    np.testing.assert_array_equal(out, call(array, np.zeros(2)))


@pytest.mark.parametrize("x", [Tensor([1.0, 2.0]), needing([1.0, 2.0])])
def test_out_none_is_no_out(x):
    assert np.sum(x, out=None).item() == 3.0
    assert np.exp(x, out=None).shape == (2,)
    assert np.max(x, axis=None, out=None).item() == 2.0
    assert np.clip(x, 0.0, 1.5, out=None).tolist() == [1.0, 1.5]


# Arguments in every spelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "join",
    [
        lambda x, y: np.concatenate([x, y]),
        lambda x, y: np.concatenate((x, y)),
        lambda x, y: np.concatenate((x, y), axis=0),
        lambda x, y: np.concatenate([x, y], 0),
        lambda x, y: np.hstack((x, y)),
        lambda x, y: np.stack((x, y)),
        lambda x, y: np.vstack([x, y]),
        lambda x, y: np.append(x, y),
    ],
)
def test_joining_lists_and_tuples(join):
    x, y = needing([1.0, 2.0]), needing([3.0, 4.0])
    weight = np.arange(1.0, 5.0)
    by_x, by_y = mg.grad((join(x, y).ravel() * weight).sum(), [x, y])
    assert (by_x.tolist(), by_y.tolist()) == ([1.0, 2.0], [3.0, 4.0])
    joined = join(x, np.array([3.0, 4.0]))
    assert mg.grad((joined.ravel() * weight).sum(), x)[0].tolist() == [1.0, 2.0]
    # The same twice, and second order.
    twice = join(x, x)
    (first,) = mg.grad((twice**3).sum(), x, create_graph=True)
    assert first.tolist() == [6.0, 24.0]
    assert mg.grad(first.sum(), x)[0].tolist() == [12.0, 24.0]


def test_joining_tensors_with_plain_lists():
    x = needing([1.0, 2.0])
    assert mg.grad(np.concatenate([[5.0], x, (6.0, 7.0)]).sum(), x)[0].tolist() == [1.0, 1.0]
    with pytest.raises(TypeError, match="cut the graph"):
        np.concatenate([x, [needing(1.0), needing(2.0)]])  # np.stack would say it


def test_lists_where_arrays_broadcast():
    x = needing([1.0, 2.0])
    assert mg.grad(np.where([True, False], x, [3, 4]).sum(), x)[0].tolist() == [1.0, 0.0]
    with pytest.raises(TypeError, match="cut the graph"):
        np.where([True, False], x, [needing(1.0), needing(2.0)])


def test_tensors_by_keyword():
    x = needing([[1.0, 2.0], [3.0, 4.0]])
    assert mg.grad(np.sum(a=x, axis=0)[0], x)[0].tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert np.clip(a=x, a_min=1.5, a_max=None).tolist() == [[1.5, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("integers", [np.int8, np.uint8, np.int16, np.int32, np.int64, bool])
@pytest.mark.parametrize("function", [np.power, np.arctan2, np.hypot, np.divide, np.float_power])
def test_rules_do_not_overflow_in_small_integers(function, integers):
    array, x = np.array([100, 1]).astype(integers), needing([3.0, 2.0])
    for call in (lambda a: function(x, a), lambda a: function(a, x)):
        (by_integers,) = mg.grad(call(array).sum(), x)
        (by_floats,) = mg.grad(call(array.astype(float)).sum(), x)
        np.testing.assert_allclose(by_integers, by_floats, rtol=1e-15)


def test_ldexp_keeps_its_integer_exponent():
    x = needing([1.0, 2.0])
    assert mg.grad(np.ldexp(x, [1, 3]).sum(), x)[0].tolist() == [2.0, 8.0]


# Errors name the operation and the shapes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: x + np.ones(3), ValueError, r"add: shapes \(2, 2\) and \(3,\) do not match"),
        (lambda x: np.ones(3) * x, ValueError, r"multiply: shapes \(3,\) and \(2, 2\)"),
        (lambda x: np.maximum(x, np.ones(3)), ValueError, r"maximum: shapes \(2, 2\) and \(3,\)"),
        (lambda x: x @ np.ones((3, 2)), ValueError, r"matmul: shapes \(2, 2\) and \(3, 2\).*"),
        (lambda x: np.ones((5, 3)) @ needing(np.ones((4, 3))), ValueError, r"did you mean .*weight\.T"),
        (lambda x: needing(np.ones((3, 5))) @ np.ones((3, 4)), ValueError, r"did you mean .*x\.T"),
        (lambda x: np.concatenate([x, np.ones(3)]), ValueError, r"concatenate.*\(2, 2\) and \(3,\)"),
        (lambda x: np.reshape(x, (3, 2)), ValueError, r"reshape.*\(2, 2\)"),
        (lambda x: np.sum(x, axis=5), ValueError, "axis 5"),
        (lambda x: x + 1j, TypeError, r"add.*complex128.*\(\)"),
        (lambda x: np.array([1j]) * x, TypeError, r"multiply.*complex128.*\(1,\)"),
        (lambda x: np.multiply(x, np.array([1j])), TypeError, r"multiply.*complex128.*\(1,\)"),
        (lambda x: x + "a", TypeError, "add.*<U1"),
        (lambda x: None - x, TypeError, r"subtract.*object"),
        (lambda x: x * np.array([None, 1]), TypeError, r"multiply.*object.*\(2,\)"),
        (lambda x: x / [object()], TypeError, r"divide.*object.*\(1,\)"),
        (lambda x: x[0, 0, 0], IndexError, "too many indices"),
        (lambda x: x["a"], IndexError, "only integers"),
        (lambda x: x[1.5], IndexError, "only integers"),
    ],
)
@pytest.mark.parametrize("requires_grad", [True, False])
def test_errors(call, error, words, requires_grad):
    with pytest.raises(error, match=words):
        call(Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=requires_grad))


def test_a_sum_over_a_missing_axis_keeps_numpys_kind_of_error():
    with pytest.raises(np.exceptions.AxisError):
        np.sum(needing([1.0]), 5)


class Pair(NamedTuple):
    first: mg.Tensor
    second: mg.Tensor


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("function", [np.stack, np.concatenate, np.vstack, np.column_stack, np.linalg.multi_dot])
@pytest.mark.parametrize("sequence", [tuple, deque, lambda pair: Pair(*pair)])
def test_tensors_in_every_kind_of_sequence(sequence, function, recording):
    """Subclasses of tuple, among them what np.linalg.eigh gives, called the function again and again without end."""
    x, y = tensors = [mg.Tensor(v, requires_grad=True) for v in ([1.0, 2.0], [3.0, 5.0])]
    with contextlib.nullcontext() if recording else mg.no_grad():
        result = function(sequence(tensors))
    np.testing.assert_array_equal(result.data, function([x.data, y.data]))
    if recording:
        expected = mg.grad(np.sum(function(tensors) ** 2), tensors)
        np.testing.assert_array_equal(mg.grad(np.sum(result**2), tensors), expected)


def test_tensors_in_an_unknown_kind_of_sequence():
    with pytest.raises(TypeError, match="stack: the tensors in its arguments are in no list or tuple"):
        np.stack(UserList([mg.Tensor(1.0, requires_grad=True)]))


def test_the_results_of_eigh_are_a_sequence():
    a = mg.Tensor([[2.0, 1.0], [1.0, 3.0]], requires_grad=True)
    with pytest.raises(ValueError, match=r"shapes \(1, 2\) and \(1, 2, 2\)"):
        np.stack(np.linalg.eigh(a))
    assert np.vstack(np.linalg.eigh(a)).shape == (3, 2)
