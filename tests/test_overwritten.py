"""Values overwritten between the forward and the backward pass: an error where they are needed, and only there."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import OverwrittenError, Tensor


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


SQUARE = [[1.0, 2.0], [3.0, 4.0]]

NEEDED = {
    # The loss of (x, w) for which the gradient by x, or by w itself, needs the old w: (program, operation to name)
    "product": (lambda x, w: (x * w).sum(), "multiply"),
    "square": (lambda x, w: (x + w**2).sum(), "square"),
    "product with itself": (lambda x, w: (w * w + x).sum(), "multiply"),
    "matmul": (lambda x, w: (x @ w).sum(), "matmul"),
    "quotient": (lambda x, w: (x / w).sum(), "divide"),
    "power": (lambda x, w: (x + w**3).sum(), "power"),
    "maximum": (lambda x, w: np.maximum(x, w).sum(), "maximum"),
    "sine": (lambda x, w: (x + np.sin(w)).sum(), "sin"),
    "remainder": (lambda x, w: np.remainder(w, x + 5).sum() + np.sin(w).sum(), "sin"),
    "through .T": (lambda x, w: (x @ w.T).sum(), "matmul"),
    "through .mT and a slice": (lambda x, w: (x * w.mT[::-1]).sum(), "multiply"),
    "through reshape": (lambda x, w: (x.ravel() * w.reshape(-1)).sum(), "multiply"),
    "through a row": (lambda x, w: (x * w[0]).sum(), "multiply"),
    "through rows": (lambda x, w: sum((row * x).sum() for row in w), "multiply"),
    "through broadcast_to": (lambda x, w: (x * np.broadcast_to(w[1], (2, 2))).sum(), "multiply"),
    "through views of views": (lambda x, w: np.exp(x * w.T.reshape(2, 2).T.swapaxes(0, 1)[:]).sum(), "multiply"),
    "in an extremum": (lambda x, w: x.sum() + w.max(), "max"),
    "in a variance": (lambda x, w: x.sum() + np.var(w), "variance"),
    "in a composite": (lambda x, w: (x * mg.softmax(w)).sum() + mg.logsumexp(w), "logsumexp"),
}

NOT_NEEDED = {
    # and for which it does not, with the gradients by x and w as they were before
    "bias": lambda x, w: (x * 3.0 + w).sum(),
    "difference": lambda x, w: (x - w).sum(),
    "sum": lambda x, w: x.sum() + w.sum(),
    "mean": lambda x, w: x.mean() + w.mean(axis=0).sum(),
    "reshape": lambda x, w: (x.ravel() + w.reshape(-1)).sum(),
    "transpose": lambda x, w: (x + w.T).sum(),
    "index": lambda x, w: (x + w[0]).sum() + w[1, 1],
    "concatenate": lambda x, w: (np.concatenate([x, w]) * np.arange(4.0)[:, None]).sum(),
    "scaled": lambda x, w: (x + 2.0 * w).sum(),
    "output is enough": lambda x, w: (x + np.exp(w) + np.tanh(w)).sum(),
    "softmax": lambda x, w: (x + mg.softmax(w)).sum(),
    "cumulated": lambda x, w: (x + np.cumsum(w, axis=0)).sum(),
    "product with a constant array": lambda x, w: (x * np.eye(2)).sum() + (w @ np.eye(2)).sum(),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", NEEDED)
def test_where_the_value_is_needed(name, create_graph):
    program, operation = NEEDED[name]
    x, w, bystander = needing(SQUARE), needing(SQUARE), needing(1.0)
    loss = program(x, w) + bystander
    before = mg.grad(loss, [x, w], create_graph=create_graph)
    assert before[0] is not None
    w.data = np.full((2, 2), 7.0)
    with pytest.raises(OverwrittenError, match=rf"backward: {operation} needs its input of shape"):
        mg.grad(loss, [x, w], create_graph=create_graph)
    bystander.grad = np.array(5.0)
    with pytest.raises(OverwrittenError, match="forward pass again"):
        loss.backward()
    assert (x.grad, w.grad, bystander.grad) == (None, None, 5.0)  # nothing was changed
    # After a fresh forward all is as for new tensors.
    program(x, w).backward()
    fresh_x, fresh_w = needing(SQUARE), needing(np.full((2, 2), 7.0))
    program(fresh_x, fresh_w).backward()
    np.testing.assert_array_equal(x.grad, fresh_x.grad)
    np.testing.assert_array_equal(w.grad, fresh_w.grad)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", NOT_NEEDED)
def test_where_it_is_not_needed(name, create_graph):
    x, w = needing(SQUARE), needing([[0.1, 0.2], [0.3, 0.4]])
    loss = NOT_NEEDED[name](x, w)
    expected = mg.grad(loss, [x, w])
    w.data = np.full((2, 2), 7.0)
    x.data = np.full((2, 2), -7.0)
    for g, e in zip(mg.grad(loss, [x, w], create_graph=create_graph), expected, strict=True):
        np.testing.assert_array_equal(g.data if create_graph else g, e)
    loss.backward()
    np.testing.assert_array_equal(w.grad, expected[1])


def test_the_gradient_of_an_argument_that_does_not_need_the_written_one():
    """x @ W.T: the gradient by W needs x, and not W. A first layer, whose input needs no gradient, never raises."""
    data, w = np.array(SQUARE), needing(SQUARE)
    loss = (data @ w.T).sum()
    w.data = np.zeros((2, 2))
    loss.backward()
    np.testing.assert_array_equal(w.grad, np.ones((2, 2)).T @ data)


def test_an_overwritten_list_member():
    x, w = needing([1.0, 2.0]), needing([3.0, 4.0])

    @mg.rules.composite(lambda g, out, arrays: [g * arrays[1], g * arrays[0]])
    def product_of(arrays):
        return arrays[0] * arrays[1]

    # A function of a list is dispatched by NumPy's own joins alone; here, by the protocol directly.
    loss = w.__array_function__(product_of, (Tensor,), ([x, w],), {}).sum()
    assert [g.tolist() for g in mg.grad(loss, [x, w])] == [[3.0, 4.0], [1.0, 2.0]]
    w.data = [0.0, 0.0]
    for create_graph in (False, True):
        with pytest.raises(OverwrittenError, match="product_of"):
            mg.grad(loss, x, create_graph=create_graph)


def test_a_training_step_in_the_wrong_order():
    """The realistic case: two layers, the step taken before the backward pass."""
    rng = np.random.default_rng(0)
    first, second = needing(rng.standard_normal((4, 3))), needing(rng.standard_normal((1, 4)))
    data = rng.standard_normal((5, 3))

    def forward():
        return (np.tanh(data @ first.T) @ second.T).sum()

    loss = forward()
    loss.backward()
    stale = forward()
    for parameter in (first, second):
        parameter.data = parameter.data - 0.1 * parameter.grad
    held = [first.grad.copy(), second.grad.copy()]
    with pytest.raises(OverwrittenError, match="matmul"):
        stale.backward()
    np.testing.assert_array_equal(first.grad, held[0])
    np.testing.assert_array_equal(second.grad, held[1])
    forward().backward()
    assert not np.array_equal(first.grad, held[0])


def test_a_recorded_gradient_of_old_values():
    """The Hessian of a gradient that was recorded before the step."""
    w = needing([1.0, 2.0])
    (g,) = mg.grad(np.sin(w).sum(), w, create_graph=True)
    np.testing.assert_allclose(mg.grad(g.sum(), w)[0], -np.sin([1.0, 2.0]))
    w.data = [0.0, 0.0]
    with pytest.raises(OverwrittenError):
        mg.grad(g.sum(), w)
    np.testing.assert_allclose(g.data, np.cos([1.0, 2.0]))


def test_uses_before_and_after_a_write_are_told_apart():
    w = needing([1.0, 2.0])
    linear_before = w * 3.0
    w.data = [5.0, 6.0]
    square_after = w * w
    assert mg.grad((linear_before + square_after).sum(), w)[0].tolist() == [13.0, 15.0]
    w.data = [5.0, 6.0]  # the same numbers: a write all the same
    with pytest.raises(OverwrittenError):
        mg.grad(square_after.sum(), w)


def test_writes_to_others_do_not_matter():
    w, other = needing([1.0, 2.0]), needing([1.0])
    loss = (w * w).sum()
    other.data = [2.0]
    assert mg.grad(loss, w)[0].tolist() == [2.0, 4.0]
    copied = w.copy()  # not a view
    product = (copied * 3.0 * copied).sum()
    w.data = [0.0, 0.0]
    assert mg.grad(product, w)[0].tolist() == [6.0, 12.0]


@pytest.mark.parametrize(
    "program",
    [
        lambda m: sum(part.sum() for part in np.linalg.eigh(m)),
        lambda m: sum(part.sum() for part in np.linalg.svd(m)),
        lambda m: np.concatenate([m[0], m[0] * m[1]]).sum() + np.stack([m, m]).prod(),
        lambda m: np.sum(np.divmod(m, 0.6)[1]) + np.einsum("ij,jk->", m, m) + m[0][0] * m[1][1],
        lambda m: np.linalg.slogdet(m)[1] + np.linalg.solve(m, [1.0, 2.0]).sum(),
    ],
)
def test_programs_of_every_kind_of_record_pass_the_dating(program):
    """The check for stale values walks through lists, scalars, and functions with several results alike."""
    m, other = needing([[2.0, 0.5], [0.5, 1.0]]), needing(1.0)
    loss = program(m) + other
    expected = mg.grad(loss, m)[0]
    other.data = 2.0
    np.testing.assert_array_equal(mg.grad(loss, m)[0], expected)
    (recorded,) = mg.grad(loss, m, create_graph=True)
    np.testing.assert_allclose(recorded.data, expected, rtol=1e-13, atol=1e-15)
    before = mg.grad(recorded.sum(), m)[0]
    other.data = 3.0
    np.testing.assert_array_equal(mg.grad(recorded.sum(), m)[0], before)


def test_a_constant_leaf_is_dated_too():
    x, c = needing([1.0, 2.0]), Tensor([3.0, 4.0])
    loss = (x * c).sum()
    c.data = [0.0, 0.0]
    with pytest.raises(OverwrittenError, match="multiply"):
        loss.backward()
