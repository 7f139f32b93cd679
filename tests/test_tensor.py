"""Tensor as a value: construction, reading and writing, Python's own protocols, and what it refuses."""

import copy
import math
import pickle
import re

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


# Construction ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (2, np.float64),
        (True, np.float64),
        (2.5, np.float64),
        ([1, 2], np.float64),
        ([True, False], np.float64),
        ([[1.0], [2.0]], np.float64),
        ((), np.float64),
        (range(3), np.float64),
        (np.arange(3, dtype=np.int8), np.float64),
        (np.arange(3, dtype=np.uint64), np.float64),
        (np.array([True, False]), np.float64),
        (np.float32(1.5), np.float32),
        (np.ones(2, np.float16), np.float16),
        (np.ones(2, np.float32), np.float32),
        (np.ones(2, np.longdouble), np.longdouble),
        (np.zeros((0, 3), np.float32), np.float32),
    ],
)
def test_floats_keep_their_dtype_and_all_else_becomes_float64(data, dtype):
    made = Tensor(data)
    assert made.dtype == dtype
    assert made.shape == np.shape(data)
    assert (made.ndim, made.size) == (np.ndim(data), np.size(data))
    np.testing.assert_array_equal(made.data, np.asarray(data, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("f4"), np.float16, np.longdouble, float])
def test_a_dtype_can_be_asked_for(dtype):
    assert Tensor([1, 2], dtype).dtype == np.dtype(dtype)
    assert Tensor(np.ones(2, np.float32), dtype=dtype).dtype == np.dtype(dtype)


def test_values_that_are_tensors():
    assert Tensor([Tensor(1.0), Tensor(2.0)]).tolist() == [1.0, 2.0]
    original = needing([1.0])
    made = Tensor(original.detach())
    assert not made.requires_grad
    original.data = [2.0]
    assert made.tolist() == [1.0]
    with pytest.raises(TypeError, match="detach"):
        Tensor(original)


def test_construction_copies():
    array = np.ones(3)
    made = Tensor(array)
    array[0] = 5.0
    assert made.tolist() == [1.0, 1.0, 1.0]


def test_the_functional_spelling():
    made = Tensor([1, 2], np.float32, requires_grad=True)
    assert (made.dtype, made.requires_grad, made.grad, made.is_leaf) == (np.float32, True, None, True)
    assert Tensor(1.0).requires_grad is False


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1j, "complex128", "()"),
        (np.ones((2, 3), np.complex64), "complex64", "(2, 3)"),
        ("abc", "<U3", "()"),
        (["a", "b"], "<U1", "(2,)"),
        (b"abc", "|S3", "()"),
        ([None, 1.0], "object", "(2,)"),
        ([object()], "object", "(1,)"),
        (10**30, "object", "()"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64[D]", "(1,)"),
        (np.zeros(2, [("a", float)]), "[('a', '<f8')]", "(2,)"),
    ],
)
def test_what_is_no_real_number_is_refused_by_dtype_and_shape(data, dtype, shape):
    with pytest.raises(TypeError, match=re.escape(dtype)) as refusal:
        Tensor(data)
    assert shape in str(refusal.value)


@pytest.mark.parametrize("dtype", [int, bool, complex, object, "U3"])
def test_dtypes_other_than_floats_are_refused(dtype):
    with pytest.raises(TypeError, match=re.escape(str(np.dtype(dtype)))):
        Tensor([1.0], dtype=dtype)


def test_ragged_lists_are_refused():
    with pytest.raises(ValueError, match="inhomogeneous"):
        Tensor([[1.0], [1.0, 2.0]])


def test_a_list_of_tensors_that_need_gradients_is_refused_as_it_would_cut_the_graph():
    with pytest.raises(TypeError, match=r"\.detach\(\)"):
        Tensor([needing(1.0), needing(2.0)])


# Reading and writing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: needing([1.0, 2.0]), lambda: needing([1.0, 2.0]) * 2, lambda: needing(1.0)])
def test_data_is_read_only(make):
    x = make()
    assert type(x.data) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        x.data[...] = 0.0
    with pytest.raises(ValueError, match="read-only"):
        x.data += 1.0


def test_assigning_data_copies_and_keeps_the_dtype():
    w = needing([1.0, 2.0], np.float32)
    values = np.array([3.0, 4.0])
    w.data = values
    values[0] = 9.0
    assert w.tolist() == [3.0, 4.0]
    assert w.dtype == np.float32
    assert w.requires_grad
    w.data = Tensor([5.0, 6.0])
    assert w.tolist() == [5.0, 6.0]
    w.data = [7, 8]
    assert w.tolist() == [7.0, 8.0]


def test_a_view_taken_before_a_write_keeps_the_old_values():
    w = needing([1.0, 2.0])
    before, result = w.data, w.T
    w.data = [3.0, 4.0]
    assert before.tolist() == [1.0, 2.0]
    assert result.tolist() == [1.0, 2.0]


def test_a_scalar_leaf_is_written_too():
    w = needing(1.0)
    w.data = w.data - 0.25
    assert w.item() == 0.75
    assert w.shape == ()


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ([1.0, 2.0, 3.0], ValueError, r"\(3,\).*\(2,\)"),
        (1.0, ValueError, r"\(\).*\(2,\)"),
        ([[1.0, 2.0]], ValueError, r"\(1, 2\).*\(2,\)"),
        ([1j, 2j], TypeError, "complex128"),
        (["a", "b"], TypeError, "<U1"),
        ([None, None], TypeError, "object"),
    ],
)
def test_what_cannot_be_written(values, error, words):
    w = needing([1.0, 2.0])
    with pytest.raises(error, match=words):
        w.data = values
    assert w.tolist() == [1.0, 2.0]


def test_only_leaves_can_be_written_and_the_error_names_the_operation():
    y = needing([1.0]) * 2.0
    with pytest.raises(ValueError, match="multiply"):
        y.data = [1.0]
    constant = Tensor([1.0]) * 2.0  # nothing was recorded, so this is a leaf
    constant.data = [5.0]
    assert constant.tolist() == [5.0]


def test_requires_grad_is_switched_on_leaves_only():
    x = Tensor([1.0])
    x.requires_grad = True
    assert (x * 2.0).requires_grad
    x.requires_grad = False
    assert not (x * 2.0).requires_grad
    with pytest.raises(ValueError, match=r"leaf.*detach"):
        (needing([1.0]) * 2.0).requires_grad = False


def test_detach_gives_a_constant_that_is_written_apart():
    x = needing([1.0, 2.0])
    y = x * 3.0
    constant = y.detach()
    assert (constant.requires_grad, constant.is_leaf, constant.function) == (False, True, None)
    constant.data = [0.0, 0.0]
    assert y.tolist() == [3.0, 6.0]
    # In x · detach(x) the second factor is a constant.
    assert mg.grad((x * x.detach()).sum(), x)[0].tolist() == [1.0, 2.0]


def test_item_and_tolist():
    assert needing([[2.5]]).item() == 2.5
    assert type(needing([2.5], np.float32).item()) is float
    assert type((needing(2.0) * 2.0).item()) is float
    with pytest.raises(ValueError, match="size 1"):
        needing([1.0, 2.0]).item()
    assert needing([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]
    assert (needing(2.0) * 2.0).tolist() == 4.0
    assert needing(np.zeros((0, 2))).tolist() == []


def test_the_graph_can_be_read():
    x, a = needing([[1.0, 2.0]]), np.array([[3.0], [4.0]])
    y = x @ a
    assert (y.function, y.is_leaf, y.kwargs) == (np.matmul, False, {})
    assert y.inputs[0] is x
    assert y.inputs[1] is a
    assert y.sum(axis=0).kwargs == {"axis": 0, "keepdims": False}
    assert (x.function, x.inputs, x.kwargs) == (None, (), {})
    x.sum().kwargs["axis"] = 5  # a copy: the record is not changed through it
    assert x.sum().kwargs["axis"] is None


def test_an_array_of_a_constant():
    x = Tensor([1.0, 2.0])
    assert not np.asarray(x).flags.writeable  # a view of the values
    for own in (x.numpy(), np.array(x), np.asarray(x, copy=True)):
        own[0] = 5.0
    assert x.tolist() == [1.0, 2.0]
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    assert not np.asarray(x, copy=False).flags.writeable
    with pytest.raises(ValueError, match="copy"):
        np.asarray(x, dtype=np.float32, copy=False)


# Python's own protocols -----------------------------------------------------------------------------------------------


def test_numbers_of_python():
    x = needing(2.75)
    for read in (x.detach(), Tensor(2.75)):
        assert (float(read), int(read), bool(read), math.floor(read), complex(read)) == (2.75, 2, True, 2, 2.75)
    with mg.no_grad():
        assert (float(x * 2), int(x * 2), bool(x * 0)) == (5.5, 5, False)
        assert math.sin(x) == math.sin(2.75)
    assert (x * 2).item() == 5.5
    assert bool(x)
    assert not bool(x * 0)
    assert bool(needing([1.0]))
    assert f"{x:.1f} {x}" == "2.8 Tensor(2.75, requires_grad=True)"


@pytest.mark.parametrize("x", [needing([1.0, 2.0]), needing([])])
def test_the_truth_of_many_numbers_is_refused(x):
    with pytest.raises((ValueError, DeprecationWarning), match="truth value"):  # of none, NumPy 2.0 only warns
        bool(x)


def test_len_iter_contains():
    x = needing([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    rows = list(x)
    assert [row.tolist() for row in rows] == [[1.0, 2.0], [3.0, 4.0]]
    first, second = x
    np.testing.assert_array_equal(mg.grad((first * 2 + second * 3).sum(), x)[0], [[2.0, 2.0], [3.0, 3.0]])
    assert 3.0 in x
    assert 5.0 not in x
    assert len(needing(np.zeros((0, 2)))) == 0
    assert list(needing(np.zeros((0, 2)))) == []


@pytest.mark.parametrize("zero_dim", [lambda: needing(1.0), lambda: needing(1.0) * 2])
@pytest.mark.parametrize("ask", [len, iter, lambda x: x[0]])
def test_a_number_has_no_length_and_no_elements(ask, zero_dim):
    with pytest.raises((TypeError, IndexError)):
        ask(zero_dim())


def test_a_tensor_is_no_index():
    with pytest.raises(TypeError):
        [1, 2, 3][needing(1.0)]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (Tensor([1.0, 2.0]), "Tensor([1., 2.])"),
        (needing([1.0, 2.0]), "Tensor([1., 2.], requires_grad=True)"),
        (needing(2.0), "Tensor(2., requires_grad=True)"),
        (Tensor([1.0], np.float32), "Tensor([1.], dtype=float32)"),
        (needing([1.0, 2.0]) * 2, "Tensor([2., 4.], function=multiply)"),
        (np.linalg.norm(needing([3.0, 4.0])), "Tensor(5., function="),
        (needing([[1.0, 2.0], [3.0, 4.0]]), "Tensor([[1., 2.],\n        [3., 4.]], requires_grad=True)"),
    ],
)
def test_repr_says_values_dtype_and_origin(x, expected):
    assert repr(x).startswith(expected)
    assert str(x) == repr(x)


def test_format_of_one_number_takes_its_format_and_of_many_the_string():
    assert f"{needing(2.0):.3f}" == "2.000"
    assert f"{needing(2.0) * 2:8.1e}" == " 4.0e+00"
    assert f"{needing([[2.0]]):.2f}" == "2.00"
    assert f"{needing([1.0, 2.0])}" == "Tensor([1., 2.], requires_grad=True)"


def test_tensors_are_keys_by_identity():
    x, same = needing([1.0, 2.0]), needing([1.0, 2.0])
    table = {x: "x", same: "same", x * 1: "result"}
    assert (table[x], table[same], len(table)) == ("x", "same", 3)
    assert len({x, x, same}) == 2
    assert hash(x) != hash(same)


# Copies ---------------------------------------------------------------------------------------------------------------

COPIERS = [copy.deepcopy, copy.copy, *(lambda x, p=p: pickle.loads(pickle.dumps(x, protocol=p)) for p in range(2, 6))]


@pytest.mark.parametrize("duplicate", COPIERS)
@pytest.mark.parametrize("requires_grad", [True, False])
def test_leaves_are_copied(duplicate, requires_grad):
    x = Tensor(np.arange(4, dtype=np.float32).reshape(2, 2), requires_grad=requires_grad)
    x.grad = np.full((2, 2), 3.0, np.float32)
    twin = duplicate(x)
    assert twin is not x
    assert (twin.dtype, twin.requires_grad, twin.is_leaf) == (np.float32, requires_grad, True)
    np.testing.assert_array_equal(twin.data, x.data)
    np.testing.assert_array_equal(twin.grad, x.grad)
    twin.data = np.zeros((2, 2))
    assert x.data[1, 1] == 3.0


def test_a_deep_copy_shares_no_gradient_and_keeps_identities():
    x = needing([1.0])
    x.grad = np.ones(1)
    first, again = copy.deepcopy([x, x])
    assert first is again
    first.grad[0] = 5.0
    assert x.grad[0] == 1.0


@pytest.mark.parametrize("duplicate", COPIERS)
def test_results_are_not_copied(duplicate):
    with pytest.raises(TypeError, match=r"leaves.*detach"):
        duplicate(needing([1.0]) * 2)
    assert duplicate((needing([1.0]) * 2).detach()).tolist() == [2.0]
