"""The reverse sweep: gradients, what is visited and what is not, and the errors.

The oracles are closed forms.
"""

import itertools
import math

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor, sweep
from microgradopt.mode import Observer, observed
from microgradopt.rules.indexing import scatter


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


# backward -------------------------------------------------------------------------------------------------------------


def test_a_second_backward_adds_the_same_again():
    """micrograd keeps cotangents on its nodes: its second backward gives 45 in place of 27."""
    x = needing(3.0)
    square = x * x
    cube = square * x
    cube.backward()
    assert x.grad == 27.0
    x.grad = None
    cube.backward()
    assert x.grad == 27.0
    cube.backward()
    assert x.grad == 54.0
    assert type(x.grad) is np.ndarray


@pytest.mark.parametrize(
    ("f", "derivative"),
    [
        (lambda a: a + a, 2.0),
        (lambda a: a * a, 6.0),
        (lambda a: a - a, 0.0),
        (lambda a: a * a * a + a / a, 27.0),
        (lambda a: (a + a) + (a + a), 4.0),
        (lambda a: a**a, 27.0 * (1 + math.log(3.0))),
    ],
)
def test_every_edge_counts_where_an_input_is_used_again(f, derivative):
    a = needing(3.0)
    f(a).backward()
    np.testing.assert_allclose(a.grad, derivative, rtol=1e-15, atol=0)


def test_the_diamond():
    """b must not hand its share on before it is complete: a would then get 6."""
    a = needing(1.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad == 4.0
    ladder = a
    for _ in range(60):  # 2⁶⁰ paths, each tensor visited once
        ladder = ladder + ladder
    assert mg.grad(ladder, a)[0] == 2.0**60


def test_gradients_are_arrays_of_ones_own():
    """In DeZero p + q gives both the same gradient object, and weight decay then hits both twice."""
    p, q = needing([1.0, 2.0]), needing([3.0, 4.0])
    cotangent = np.array([1.0, 1.0])
    y = p + q
    y.backward(cotangent)
    assert p.grad is not q.grad
    assert not any(np.shares_memory(p.grad, other) for other in (q.grad, cotangent, p.data, q.data, y.data))
    p.grad *= 100.0
    assert q.grad.tolist() == [1.0, 1.0]
    assert cotangent.tolist() == [1.0, 1.0]
    y.backward(cotangent)
    assert q.grad.tolist() == [2.0, 2.0]


ALIASING = {
    "sum": lambda p, q: p.sum() + q.sum(),  # its cotangent is a read-only broadcast
    "reshape": lambda p, q: (p.reshape(2, 1) + q.reshape(2, 1)).sum(axis=0),
    "positive": lambda p, q: (+p) + (+q),
    "concatenate": lambda p, q: np.concatenate([p, q, p]),
    "index": lambda p, q: p[:1] + q[1:],
    "copy": lambda p, q: p.copy() + q.ravel(),
    "product": lambda p, q: p * q,
    "exp": lambda p, q: np.exp(p) + np.exp(q),
    "where": lambda p, q: np.where([True, False], p, q),
    "transpose": lambda p, q: (p.T + q.T).T,
}


@pytest.mark.parametrize("f", ALIASING.values(), ids=ALIASING)
def test_no_gradient_is_a_view_or_an_alias_of_anything(f):
    p, q = needing([1.0, 2.0]), needing([3.0, 4.0])
    y = f(p, q)
    cotangent = np.ones(y.shape)
    y.backward(cotangent)
    found = [p.grad, q.grad, *mg.grad(y, [p, q, p], cotangent)]
    arrays = [*found, cotangent, y.data, p.data, q.data]
    assert all(type(g) is np.ndarray and g.base is None and g.flags.writeable for g in found)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    expected = [g.copy() for g in found[2:]]
    for g in found:
        g[...] = np.nan
    for g, e in zip(mg.grad(y, [p, q, p], cotangent), expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_a_gradient_given_by_hand_is_added_to():
    x = (needing([1.0]) * 2).detach()
    x.requires_grad = True
    x.grad = np.array([5.0])
    (x * 3).sum().backward()
    assert x.grad.tolist() == [8.0]


def test_gradients_accumulate_until_reset():
    x = needing([1.0, 2.0])
    (x * 2).sum().backward()
    first = x.grad
    (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 6.0]
    assert first.tolist() == [2.0, 2.0]  # the sum is a new array
    x.grad = None
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_backward_reaches_leaves_alone():
    x, constant = needing([1.0, 2.0]), Tensor([1.0, 2.0])
    middle = x * constant
    middle.sum().backward()
    assert (middle.grad, constant.grad) == (None, None)
    x.grad = None
    leaf = needing(2.0)
    leaf.backward()
    assert leaf.grad == 1.0


@pytest.mark.parametrize(
    "cotangent", [[1.0, 3.0], np.array([1, 3]), Tensor([1.0, 3.0]), np.array([1.0, 3.0], np.float32)]
)
def test_backward_from_a_cotangent(cotangent):
    x = needing([1.0, 2.0])
    (x * x).backward(cotangent)
    assert x.grad.tolist() == [2.0, 12.0]
    assert x.grad.dtype == np.float64


def test_one_number_in_any_shape_needs_no_cotangent():
    x = needing([[3.0]])
    (x * x).backward()
    assert x.grad.tolist() == [[6.0]]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: (x * 2).backward(), ValueError, r"shape \(2,\).*\.sum\(\)"),
        (lambda x: (x * 2).backward([1.0]), ValueError, r"\(1,\).*\(2,\)"),
        (lambda x: (x * 2).backward(1.0), ValueError, r"\(\).*\(2,\)"),
        (lambda x: Tensor(1.0).backward(), RuntimeError, "requires_grad=True"),
        (lambda x: (x * 2).sum().detach().backward(), RuntimeError, "no graph"),
        (lambda x: mg.no_grad()(lambda: (x * 2).sum())().backward(), RuntimeError, "no_grad"),
        (lambda x: mg.grad(x * 2, x), ValueError, r"\(2,\)"),
        (lambda x: mg.grad([x.sum(), x.sum()], x, [1.0]), ValueError, "2 outputs.*not 1"),
        (lambda x: mg.grad(x.sum(), x, np.ones(2)), ValueError, r"\(2,\).*\(\)"),
        (lambda x: mg.grad(x.sum(), [x, needing(np.ones((2, 3)))]), RuntimeError, r"\[1\].*\(2, 3\).*allow_unused"),
        (lambda x: mg.grad(x.sum(), Tensor([1.0])), RuntimeError, "require a gradient"),
        (lambda x: mg.grad(Tensor(1.0), x), RuntimeError, "no graph"),
        (lambda x: mg.grad(1.0, x), TypeError, "grad.*float"),
        (lambda x: mg.grad(x.sum(), np.ones(2)), TypeError, "grad.*ndarray"),
        (lambda x: mg.hvp(x.sum(), x, np.ones(3)), ValueError, r"hvp.*\(2,\).*\(3,\)"),
        (lambda x: mg.hvp(x.sum(), x, [np.ones(2)] * 2), ValueError, "hvp"),
        (lambda x: mg.hvp((x * Tensor([1.0])).sum(), Tensor([1.0]), np.ones(1)), RuntimeError, "hvp.*require"),
        (lambda x: mg.hessian(x * x, x), ValueError, r"\(2,\)"),
        (lambda x: mg.hessian(x.sum(), [x, Tensor([1.0])]), RuntimeError, r"hessian.*\[1\]"),
        (lambda x: mg.jacobian(Tensor([1.0]), x), RuntimeError, "jacobian"),
        (lambda x: mg.jacobian(x * x, Tensor([1.0])), RuntimeError, r"jacobian.*\[0\]"),
        (lambda x: mg.gradcheck(lambda y: y * y, Tensor([1.0])), ValueError, "gradcheck"),
        (lambda x: mg.gradcheck(lambda y: y * y, needing([1.0], np.float32)), ValueError, "float64"),
    ],
)
def test_what_cannot_be_differentiated(call, error, words):
    x = needing([1.0, 2.0])
    with pytest.raises(error, match=words):
        call(x)
    assert x.grad is None


# grad -----------------------------------------------------------------------------------------------------------------


def test_grad_gives_a_list_and_touches_no_grad():
    x, y = needing([1.0, 2.0]), needing([3.0, 4.0])
    x.grad = np.array([7.0, 7.0])
    result = mg.grad((x * y).sum(), (x, y))
    assert [g.tolist() for g in result] == [[3.0, 4.0], [1.0, 2.0]]
    assert (x.grad.tolist(), y.grad) == ([7.0, 7.0], None)
    assert type(mg.grad(x.sum(), x)) is list


def test_several_outputs_and_cotangents():
    x = needing([1.0, 2.0])
    square, cube = x**2, x**3
    assert mg.grad([square, cube], x, [np.ones(2), [10.0, 0.0]])[0].tolist() == [32.0, 4.0]
    assert mg.grad([square.sum(), cube.sum()], x)[0].tolist() == [5.0, 16.0]
    assert mg.grad([square.sum(), cube.sum()], x, [None, 2.0])[0].tolist() == [8.0, 28.0]
    # The same output twice counts twice; one output may be made from another, or be the input itself.
    assert mg.grad([square, square], x, [np.ones(2), np.ones(2)])[0].tolist() == [4.0, 8.0]
    assert mg.grad([square.sum(), (square * square).sum(), x.sum()], x)[0].tolist() == [7.0, 37.0]
    assert mg.grad([square, x], [x, square], [np.ones(2)] * 2)[0].tolist() == [3.0, 5.0]


def test_inputs_on_the_way():
    x = needing(2.0)
    y = x * x
    z = y * y + y * x
    by_y, by_x = mg.grad(z, [y, x])
    assert (by_y, by_x) == (10.0, 4 * 8.0 + 3 * 4.0)
    assert mg.grad(z, [z, y, y]) == [1.0, 10.0, 10.0]
    assert mg.grad(y, y) == [1.0]
    assert mg.grad(x, x) == [1.0]
    assert y.grad is None


def test_what_lies_below_an_input_is_not_visited():
    x = needing(2.0)

    @mg.rules.composite(lambda g, out, a: pytest.fail("this lies below the input"))
    def below(a):
        return a * 1.0

    y = below(x)
    assert mg.grad(y * 3.0, y) == [3.0]


def test_unused_inputs():
    x, unused = needing([1.0]), needing([[1.0, 2.0]])
    assert mg.grad(x.sum(), [unused, x], allow_unused=True) == [None, np.ones(1)]
    above = x * 2  # made after the output, so unused
    assert mg.grad(x.sum(), [above], allow_unused=True) == [None]
    assert mg.grad((x.detach() * x).sum(), [unused, x], create_graph=True, allow_unused=True)[0] is None


def test_a_constant_has_no_gradient_rather_than_a_part_of_it():
    """c·c was not recorded, so that a sweep for c could only find the part of the gradient through x·c."""
    x, c = needing(3.0), Tensor(2.0)
    y = x * c + x * (c * c)
    with pytest.raises(RuntimeError, match="require a gradient"):
        mg.grad(y, c)
    assert mg.grad(y, [c, x], allow_unused=True) == [None, 6.0]


# Selections: their shares are added in place --------------------------------------------------------------------------

SELECTIONS = [
    0, 2, -1, np.int64(3), slice(1, 4), slice(None, None, -2), [0, 0, 3], np.array([4, 4, 4]), ..., None,
    np.array([True, False, True, False, True]), (slice(2), None), np.array([[1, 2], [2, 1]]), slice(3, 3),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_selections_of_one_tensor(seed):
    """L = Σₖ cₖ ‖x[iₖ]‖² has the Hessian diag(2 Σₖ cₖ nₖ), nₖ how often iₖ has a place, and the gradient H x."""
    rng = np.random.default_rng(seed)
    x = needing(rng.integers(-4, 5, size=5))
    y = x * 1.0  # a result on the way; x itself is used as a whole, too
    chosen = [(int(rng.integers(-3, 4)), SELECTIONS[rng.integers(len(SELECTIONS))]) for _ in range(8)]
    loss = (y * y).sum() + sum(c * (part * part).sum() for c, part in ((c, y[index]) for c, index in chosen))
    weights = np.full(5, 2.0)
    for c, index in chosen:
        np.add.at(weights, index, 2.0 * c)
    by_x, by_y = mg.grad(loss, [x, y])
    np.testing.assert_array_equal(by_x, weights * x.data)
    np.testing.assert_array_equal(by_y, by_x)
    recorded, _ = mg.grad(loss, [x, y], create_graph=True)
    np.testing.assert_array_equal(recorded.data, by_x)
    np.testing.assert_array_equal(mg.hessian(loss, x), np.diag(weights))
    np.testing.assert_array_equal(mg.jacobian(recorded, x)[0], np.diag(weights))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(20))
def test_selections_give_the_bits_of_whole_arrays(seed, dtype):
    """The signs of zeros, too. With an observer the sweep adds whole arrays."""
    rng = np.random.default_rng(seed)
    x = needing(rng.normal(size=5), dtype)
    weights = rng.choice([-0.0, 0.0, -0.3, 0.7], size=8, p=[0.6, 0.1, 0.1, 0.2])
    indices = [SELECTIONS[i] for i in rng.integers(len(SELECTIONS), size=8)] if seed % 2 else rng.integers(2, size=8)
    loss = sum((x[index] * w).sum() for w, index in zip(weights, indices, strict=True))
    (there,) = mg.grad(loss, x)
    with observed(Observer()):
        (whole,) = mg.grad(loss, x)
    assert there.dtype == dtype
    assert there.tobytes() == whole.tobytes()


def test_selections_leave_other_cotangents_alone():
    """x + y hands one array to both; what is then added to the cotangent of x must not reach y's, or the caller's."""
    x, y, start = needing([1.0, 2.0]), needing([3.0, 4.0]), np.array([1.0, 1.0])
    parts = [x[0], x[1], x[0]]
    found = mg.grad([sum(parts), x + y], [x, y], [1.0, start])
    np.testing.assert_array_equal(found, [[3.0, 2.0], [1.0, 1.0]])
    np.testing.assert_array_equal(start, [1.0, 1.0])


def test_selections_of_a_single_number():
    """The sum of two 0-d arrays is a scalar, which cannot be written to."""
    w = needing([2.0])
    x = w.reshape(())
    assert mg.grad(x[()] * 2 + x * 3 + x[()] * 5 + x[None].sum(), w)[0].tolist() == [11.0]


def test_a_loop_over_elements_is_linear(monkeypatch):
    made = []
    monkeypatch.setattr(sweep, "scatter", lambda g, index, shape: made.append(1) or scatter(g, index, shape))
    x, weights = needing(np.ones(1000)), np.arange(1000.0)
    total = 0.0
    for i in range(1000):
        total = total + x[i] * weights[i]
    np.testing.assert_array_equal(mg.grad(total, x)[0], weights)
    assert len(made) == 1


# Pruning, and rules that are wrong ------------------------------------------------------------------------------------


def two_arguments(counts):
    def rule(which, factor):
        def by_argument(g, out, x, y):
            counts[which] += 1
            return g * factor

        return by_argument

    @mg.rules.composite(rule(0, 2.0), rule(1, 3.0))
    def combined(x, y):
        return 2 * x + 3 * y

    return combined


def test_rules_of_arguments_that_need_no_gradient_are_never_called():
    x, y, array = needing([1.0]), needing([2.0]), np.array([3.0])
    for arguments, inputs, expected in [
        ((x, array), [x], [1, 0]),
        ((array, y), [y], [0, 1]),
        ((x, y.detach()), [x], [1, 0]),
        ((x, y), [x], [1, 0]),
        ((x, y), [x, y], [1, 1]),
        ((x * 2, y * 2), [y], [0, 1]),
        ((x, x), [x], [1, 1]),
    ]:
        counts = [0, 0]
        mg.grad(two_arguments(counts)(*arguments), inputs)
        assert counts == expected
    counts = [0, 0]
    two_arguments(counts)(x, array).backward()
    assert counts == [1, 0]


def test_a_rule_is_called_once_for_a_result_used_many_times():
    counts, x = [0, 0], needing([1.0])
    y = two_arguments(counts)(x, 1.0)
    mg.grad(y * y + y + np.exp(y), x)
    assert counts == [1, 0]


@pytest.mark.parametrize(
    ("share", "error", "words"),
    [
        (np.ones(2), ValueError, r"doubled.*\(2,\).*\(3,\).*rule is wrong"),
        (np.ones((2, 3)), ValueError, r"doubled.*\(2, 3\).*\(3,\)"),
        (np.ones(()), ValueError, r"doubled.*\(\).*\(3,\)"),
        (np.ones(1), ValueError, r"doubled.*\(1,\).*\(3,\)"),
        (2.0, TypeError, "doubled.*2.0"),
        (None, TypeError, "doubled.*None"),
    ],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_misshapen_cotangent_is_no_broadcast(share, error, words, create_graph):
    @mg.rules.composite(lambda g, out, x: share)
    def doubled(x):
        return 2 * x

    x = needing(np.ones(3))
    y = doubled(x).sum()
    with pytest.raises(error, match=words):
        mg.grad(y, x, create_graph=create_graph)


def test_broadcasting_is_undone_for_functions_that_broadcast():
    shapes = [(), (1,), (3,), (2, 1), (1, 3), (2, 3), (1, 1, 1), (2, 1, 3), (0, 1, 1)]
    for left, right in itertools.product(shapes, shapes):
        if {left, right} != {(2, 1, 3), (0, 1, 1)}:  # these two do not meet
            x, y = needing(np.full(left, 2.0)), needing(np.full(right, 3.0))
            out = x * y
            by_x, by_y = mg.grad(out.sum(), [x, y])
            np.testing.assert_array_equal(by_x, np.full(left, 3.0 * out.size / max(x.size, 1)))
            np.testing.assert_array_equal(by_y, np.full(right, 2.0 * out.size / max(y.size, 1)))


def test_each_input_gets_its_own_dtype():
    single, double = needing([1.0, 2.0], np.float32), needing([3.0, 4.0])
    y = (single * double + np.exp(single)).sum()
    assert y.dtype == np.float64
    by_single, by_double = mg.grad(y, [single, double])
    assert (by_single.dtype, by_double.dtype) == (np.float32, np.float64)
    y.backward()
    assert (single.grad.dtype, double.grad.dtype) == (np.float32, np.float64)
    assert [h.dtype for h in mg.hvp(y, [single, double], [np.ones(2)] * 2)] == [np.float32, np.float64]
    assert [j.dtype for j in mg.jacobian(single * double, [single, double])] == [np.float32, np.float64]
    big_endian = needing(np.array([1.0, 2.0], ">f8"))
    assert mg.grad((big_endian * big_endian).sum(), big_endian)[0].tolist() == [2.0, 4.0]
