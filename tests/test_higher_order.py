"""Derivatives of derivatives: any order, Hessian-vector products, Jacobians, Hessians, and the checker of gradients.

The oracles are closed forms, and PyTorch where it is installed (marked `parity`).
"""

import math
import re

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


# Higher orders --------------------------------------------------------------------------------------------------------

HIGHER = {
    # f and its derivatives in order
    "x⁴": (lambda x: x**4, [lambda x: 4 * x**3, lambda x: 12 * x**2, lambda x: 24 * x, lambda x: 24 + 0 * x]),
    "exp(2x)": (lambda x: np.exp(2 * x), [lambda x, n=n: 2**n * np.exp(2 * x) for n in range(1, 5)]),
    "sin": (np.sin, [np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin]),
    "1/x": (lambda x: 1 / x, [lambda x, n=n: (-1) ** n * math.factorial(n) / x ** (n + 1) for n in range(1, 5)]),
    "log": (np.log, [lambda x, n=n: (-1) ** (n - 1) * math.factorial(n - 1) / x**n for n in range(1, 5)]),
    "x·x·x": (lambda x: x * x * x, [lambda x: 3 * x**2, lambda x: 6 * x, lambda x: 6 + 0 * x]),
    "tanh": (
        np.tanh,
        [
            lambda x: 1 - np.tanh(x) ** 2,
            lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2),
            lambda x: (1 - np.tanh(x) ** 2) * (6 * np.tanh(x) ** 2 - 2),
            lambda x: (1 - np.tanh(x) ** 2) * np.tanh(x) * (16 - 24 * np.tanh(x) ** 2),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HIGHER)
@pytest.mark.parametrize("point", [0.7, [0.3, 1.4], [[0.5], [2.0]]])
def test_orders_up_to_four(name, point):
    f, derivatives = HIGHER[name]
    x = needing(point)
    y = f(x)
    for derivative in derivatives:
        (y,) = mg.grad(y.sum(), x, create_graph=True)
        assert type(y) is Tensor
        np.testing.assert_allclose(y.data, derivative(x.data), rtol=1e-12)
    assert x.grad is None


def test_create_graph_with_a_cotangent_that_is_differentiated_too():
    x, w = needing([2.0, 3.0]), needing([5.0, 7.0])
    (g,) = mg.grad(x**2, x, w, create_graph=True)  # 2xw
    by_x, by_w = mg.grad(g.sum(), [x, w])
    assert (by_x.tolist(), by_w.tolist()) == ([10.0, 14.0], [4.0, 6.0])


def test_backward_through_a_gradient():
    """The gradient penalty: ‖∇f‖² differentiated by what f depends on."""
    x, w = needing([1.0, 2.0]), needing([3.0, 4.0])
    (g,) = mg.grad((w * x * x).sum(), x, create_graph=True)
    (g * g).sum().backward()  # Σ (2wx)²
    np.testing.assert_allclose(w.grad, 8 * w.data * x.data**2)
    np.testing.assert_allclose(x.grad, 8 * w.data**2 * x.data)


# Hessian-vector products, Jacobians, Hessians -------------------------------------------------------------------------


def rosenbrock(x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def rosenbrock_hessian(x):
    hessian = np.zeros((len(x), len(x)))
    for i in range(len(x) - 1):
        hessian[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        hessian[i, i + 1] = hessian[i + 1, i] = -400 * x[i]
        hessian[i + 1, i + 1] += 200
    return hessian


@pytest.mark.parametrize("point", [[1.0, 1.0], [-1.2, 1.0], [0.3, -0.7, 1.9, 0.2]])
def test_rosenbrock(point):
    x = needing(point)
    expected = rosenbrock_hessian(np.array(point))
    np.testing.assert_allclose(mg.hessian(rosenbrock(x), x), expected, rtol=1e-12)
    v = np.cos(np.arange(len(point)))
    (product,) = mg.hvp(rosenbrock(x), x, v)
    np.testing.assert_allclose(product, expected @ v, rtol=1e-12)
    (gradient,) = mg.grad(rosenbrock(x), x, create_graph=True)
    (jacobian,) = mg.jacobian(gradient, x)
    np.testing.assert_allclose(jacobian, expected, rtol=1e-12)
    assert x.grad is None


def test_a_quadratic_form_over_several_inputs():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((9, 9))
    x, y, z = needing(rng.standard_normal((2, 3))), needing(0.5), needing(rng.standard_normal(2))
    theta = np.concatenate([x.ravel(), y.reshape(1), z])
    loss = theta @ a @ theta / 2
    expected = (a + a.T) / 2
    hessian = mg.hessian(loss, [x, y, z])
    assert type(hessian) is np.ndarray
    np.testing.assert_allclose(hessian, expected, atol=1e-14)
    vectors = [rng.standard_normal((2, 3)), np.array(2.0), rng.standard_normal(2)]
    products = mg.hvp(loss, [x, y, z], vectors)
    assert [type(p) for p in products] == [np.ndarray] * 3
    assert [p.shape for p in products] == [(2, 3), (), (2,)]
    flat = np.concatenate([np.ravel(v) for v in vectors])
    np.testing.assert_allclose(np.concatenate([p.ravel() for p in products]), expected @ flat, atol=1e-14)
    # By one of the inputs: its own block.
    np.testing.assert_allclose(mg.hessian(loss, z), expected[7:, 7:], atol=1e-14)


def test_a_linear_function_has_no_curvature():
    x, y = needing([1.0, 2.0]), needing([[3.0]], np.float32)
    for loss in (x.sum() + y.sum(), (x * np.array([2.0, 3.0])).sum() - 4 * y.sum()):
        assert mg.hessian(loss, [x, y]).tolist() == np.zeros((3, 3)).tolist()
        products = mg.hvp(loss, [x, y], [np.ones(2), np.ones((1, 1))])
        assert [p.tolist() for p in products] == [[0.0, 0.0], [[0.0]]]
        assert [p.dtype for p in products] == [np.float64, np.float32]


def test_inputs_that_do_not_matter_have_zeros():
    x, unused = needing([1.0, 2.0]), needing([[5.0]])
    loss = (x**3).sum()
    np.testing.assert_array_equal(mg.hessian(loss, [x, unused]), np.diag([6.0, 12.0, 0.0]))
    by_x, by_unused = mg.hvp(loss, [x, unused], [np.ones(2), np.ones((1, 1))])
    assert (by_x.tolist(), by_unused.tolist()) == ([6.0, 12.0], [[0.0]])
    of_x, of_unused = mg.jacobian(x**2, [x, unused])
    assert of_x.tolist() == [[2.0, 0.0], [0.0, 4.0]]
    assert of_unused.tolist() == [[[0.0]], [[0.0]]]
    # x enters quadratically, y linearly: the block of y alone is zero, those between them are not.
    y = needing(3.0)
    np.testing.assert_array_equal(mg.hessian((x * x).sum() * y, [x, y]), [[6, 0, 2], [0, 6, 4], [2, 4, 0]])


def test_jacobian_shapes_and_values():
    x, w = needing(np.arange(6.0).reshape(2, 3)), needing(np.arange(3.0))
    by_x, by_w = mg.jacobian(x @ w, [x, w])
    np.testing.assert_array_equal(by_x, np.einsum("ik,j->ikj", np.eye(2), w.data))
    np.testing.assert_array_equal(by_w, x.data)
    assert mg.jacobian(x * 2, x)[0].shape == (2, 3, 2, 3)
    assert mg.jacobian(x.sum(), x)[0].tolist() == np.ones((2, 3)).tolist()
    assert mg.jacobian(x[:0], x)[0].shape == (0, 3, 2, 3)
    y = w * w
    assert mg.jacobian(y * w, y)[0].tolist() == np.diag(w.data).tolist()
    single = needing([1.0, 2.0], np.float32)
    assert mg.jacobian(single**2, single)[0].dtype == np.float32


def test_nothing_has_a_hessian_of_shape_zero():
    x = needing(np.zeros((0, 3)))
    assert mg.hessian((x * x).sum(), x).shape == (0, 0)
    assert mg.hvp((x * x).sum(), x, np.zeros((0, 3)))[0].shape == (0, 3)
    assert mg.jacobian(x * x, x)[0].shape == (0, 3, 0, 3)


@pytest.mark.parametrize("vectors", [[np.array([1.0, 0.0])], (Tensor([1.0, 0.0]),), np.array([1, 0])])
def test_vectors_in_every_spelling(vectors):
    x = needing([1.0, 2.0])
    assert mg.hvp((x**3).sum(), [x], vectors)[0].tolist() == [6.0, 0.0]


def test_curvature_asked_for_inside_of_no_grad():
    """Without a recorded gradient it would be zero: silently wrong."""
    x = needing([1.0, 2.0])
    loss = (x**3).sum()
    with mg.no_grad():
        assert mg.hvp(loss, x, np.ones(2))[0].tolist() == [6.0, 12.0]
        assert mg.hessian(loss, x).tolist() == [[6.0, 0.0], [0.0, 12.0]]
        assert mg.grad(loss, x, create_graph=True)[0].requires_grad
        assert not mg.is_grad_enabled()


# A small network of every kind of operation, for PyTorch --------------------------------------------------------------


def network(xp, x, w1, b1, w2, scale):
    """One program for both: NumPy's names on tensors of ours, torch's on torch's."""
    hidden = xp.tanh(x @ w1.T + b1)
    hidden = hidden * xp.exp(-(hidden**2)) + xp.sqrt(hidden * hidden + 1.0)
    out = (hidden @ w2.T) / (1.0 + scale**2)
    return (xp.log(xp.exp(out).sum(axis=1)) - out[:, 0]).mean() + 0.1 * (w1**2).sum() * scale


NETWORK_SHAPES = [(5, 4), (3, 4), (3,), (2, 3), ()]


def network_values():
    rng = np.random.default_rng(7)
    return [rng.standard_normal(shape) for shape in NETWORK_SHAPES]


@pytest.mark.parity
def test_gradients_and_curvature_equal_pytorchs():
    torch = pytest.importorskip("torch")
    values, rng = network_values(), np.random.default_rng(8)
    ours = [needing(v) for v in values]
    theirs = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    loss, their_loss = network(np, *ours), network(torch, *theirs)
    np.testing.assert_allclose(loss.item(), their_loss.item(), rtol=1e-13)
    for g, t in zip(mg.grad(loss, ours), torch.autograd.grad(their_loss, theirs, retain_graph=True), strict=True):
        np.testing.assert_allclose(g, t.numpy(), rtol=1e-11, atol=1e-14)

    vectors = [rng.standard_normal(shape) for shape in NETWORK_SHAPES]

    def function(*args):
        return network(torch, *args)

    _, their_products = torch.autograd.functional.hvp(
        function, tuple(t.detach() for t in theirs), tuple(torch.tensor(v) for v in vectors)
    )
    for h, t in zip(mg.hvp(loss, ours, vectors), their_products, strict=True):
        np.testing.assert_allclose(h, t.numpy(), rtol=1e-10, atol=1e-13)

    blocks = torch.autograd.functional.hessian(function, tuple(t.detach() for t in theirs))
    expected = np.block([[b.numpy().reshape(x.size, y.size) for b, y in zip(row, values, strict=True)]
                         for row, x in zip(blocks, [np.asarray(v) for v in values], strict=True)])  # fmt: skip
    hessian = mg.hessian(loss, ours)
    np.testing.assert_allclose(hessian, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-10, atol=1e-12)


@pytest.mark.parity
def test_jacobians_equal_pytorchs():
    torch = pytest.importorskip("torch")

    def f(xp, x, w):
        return xp.tanh(x @ w.T) * x[:, :1] + xp.exp(w.sum(axis=1))

    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 3)), rng.standard_normal((4, 3))
    ours = [needing(x), needing(w)]
    theirs = torch.autograd.functional.jacobian(lambda *a: f(torch, *a), (torch.tensor(x), torch.tensor(w)))
    for j, t in zip(mg.jacobian(f(np, *ours), ours), theirs, strict=True):
        assert j.shape == tuple(t.shape)
        np.testing.assert_allclose(j, t.numpy(), rtol=1e-12, atol=1e-14)


def test_third_order_tensor_of_a_cubic_form():
    rng = np.random.default_rng(1)
    c = rng.standard_normal((3, 3, 3))
    symmetric = sum(np.transpose(c, p) for p in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
    x = needing(rng.standard_normal(3))
    form = ((c @ x) @ x) @ x
    (g,) = mg.grad(form, x, create_graph=True)
    rows = [mg.grad(g[i], x, create_graph=True)[0] for i in range(3)]
    third = np.array([mg.jacobian(row, x)[0] for row in rows])
    np.testing.assert_allclose(third, symmetric, rtol=1e-11, atol=1e-12)


# The checker, checked -------------------------------------------------------------------------------------------------


def planted(*rules):
    """The product x·y·y with the given rules."""
    return mg.rules.composite(*rules)(lambda x, y: x * y * y)


def by_x(g, out, x, y):
    return g * y * y


def by_y(g, out, x, y):
    return g * 2 * x * y


def only_at(i, wrong, right):
    def rule(g, out, x, y):
        share = right(g, out, x, y)
        elsewhere = np.arange(share.size).reshape(share.shape) != i
        return np.where(elsewhere, share, wrong)

    return rule


def frozen(g, out, x, y):
    """The right number without its graph: right to first order, no derivative beyond."""
    return g * np.asarray(y.data if type(y) is Tensor else y) ** 2


X, Y = [[0.5, 1.5], [2.5, -1.0]], [[1.25, -0.5], [0.75, 2.0]]
PLANTED = {
    # what is wrong: (rules, order, which derivative, which input, which element)
    "factor": ((lambda g, out, x, y: g * y * y * 1.001, by_y), 1, "gradient", 0, (0, 0)),
    "sign": ((by_x, lambda g, out, x, y: -g * 2 * x * y), 1, "gradient", 1, (0, 0)),
    "second input only": ((by_x, lambda g, out, x, y: g * x * y), 1, "gradient", 1, (0, 0)),
    "one element of the first": ((only_at(2, 0.123, by_x), by_y), 1, "gradient", 0, (1, 0)),
    "one element of the second": ((by_x, only_at(3, 0.5, by_y)), 1, "gradient", 1, (1, 1)),
    "second order only": ((frozen, by_y), 2, "second derivative", 1, (0, 0)),
    "not a number": ((lambda g, out, x, y: g * np.nan, by_y), 1, "gradient", 0, (0, 0)),
    "nothing at all": ((lambda g, out, x, y: g * 0.0, by_y), 1, "gradient", 0, (0, 0)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_wrong_rules_are_found_and_named(name):
    rules, order, what, which, element = PLANTED[name]
    f = planted(*rules)
    for checked_order in range(order, 3):
        with pytest.raises(mg.GradcheckError) as found:
            mg.gradcheck(f, [needing(X), needing(Y)], order=checked_order)
        place = re.escape(f"{what} of input {which} (shape (2, 2)), element {element}")
        numbers = re.match(place + r": analytic (\S+), numeric (\S+)", str(found.value))
        assert numbers, found.value
        analytic, numeric = map(float, numbers.groups())
        assert not abs(analytic - numeric) < 1e-4 * abs(numeric)
    if order == 2:
        assert mg.gradcheck(f, [needing(X), needing(Y)], order=1)
    if which == 1 and order == 1:  # not asked about the wrong one, it finds nothing
        assert mg.gradcheck(f, [needing(X), Tensor(Y)], order=1)


def test_right_rules_pass():
    f = planted(by_x, by_y)
    x, y = needing(X), needing(Y)
    assert mg.gradcheck(f, [x, y]) is True
    assert mg.gradcheck(f, (x, Tensor(Y)))
    assert (x.grad, y.grad) == (None, None)
    assert mg.gradcheck(np.tanh, x)
    assert mg.gradcheck(lambda a, b: (a @ b).sum(axis=0), [needing(np.eye(2, 3)), needing(np.eye(3, 2) + 1)])
    assert mg.gradcheck(lambda a: a * 2.0 + 1.0, needing(1.0))  # no second derivative
    assert mg.gradcheck(lambda a, b: a * 1.0, [needing(1.0), needing(2.0)])  # an input that does not matter
    assert mg.gradcheck(lambda a: np.concatenate([a, a * a]), needing(np.zeros((0, 2))))
    assert mg.gradcheck(lambda a: np.exp(a), x, rng=np.random.default_rng(5))


def test_the_cotangent_is_random_so_that_errors_do_not_cancel():
    """Summed with ones, the two wrong elements would cancel out: softmax's sum is constant."""

    @mg.rules.composite(lambda g, out, x: g * out)  # the right one subtracts out · Σ g·out
    def softmax_with_half_a_rule(x):
        return np.exp(x) / np.exp(x).sum()

    with pytest.raises(mg.GradcheckError):
        mg.gradcheck(softmax_with_half_a_rule, needing([0.1, 0.7]))

    @mg.rules.composite(lambda g, out, x: g * 0.0)  # right for g = 1
    def softmax_without_a_rule(x):
        return np.exp(x) / np.exp(x).sum()

    with pytest.raises(mg.GradcheckError):
        mg.gradcheck(softmax_without_a_rule, needing([0.1, 0.7]))


def test_inputs_that_share_one_gradient():
    """Of f(x + y) the gradients by x and by y are one tensor; the vectors of both count."""
    x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    by_x, by_y = mg.hvp(((x + y) ** 3).sum(), [x, y], [np.array([1.0, 0.0]), np.array([0.5, 2.0])])
    np.testing.assert_allclose(by_x, 6 * np.array([4.0, 6.0]) * [1.5, 2.0])
    np.testing.assert_allclose(by_y, by_x)
