"""Activations and losses beside their formulas, written out in NumPy and SciPy; their limits; targets of every kind."""

import math

import numpy as np
import pytest
from scipy import special

import microgradopt as mg
from microgradopt import Tensor, nn

F = nn.functional
RNG = np.random.default_rng(4)
X = RNG.normal(size=(6, 5)) * 3
Y = RNG.normal(size=(6, 5))
T01 = (RNG.random((6, 5)) > 0.5).astype(float)
P = RNG.dirichlet(np.ones(5), 6)
LABELS = RNG.integers(0, 5, 6)
ONE_HOT = np.eye(5)[LABELS]
ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805

ACTIVATIONS = {
    "relu": (F.relu, lambda x: np.where(x > 0, x, 0)),
    "leaky_relu": (F.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
    "elu": (F.elu, lambda x: np.where(x > 0, x, np.exp(x) - 1)),
    "selu": (F.selu, lambda x: SCALE * np.where(x > 0, x, ALPHA * (np.exp(x) - 1))),
    "gelu": (F.gelu, lambda x: x * (1 + special.erf(x / math.sqrt(2))) / 2),
    "gelu_tanh": (
        lambda x: F.gelu(x, "tanh"),
        lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": (F.silu, lambda x: x / (1 + np.exp(-x))),
    "sigmoid": (F.sigmoid, special.expit),
    "softplus": (F.softplus, lambda x: np.log(1 + np.exp(x))),
    "softplus_2": (lambda x: F.softplus(x, 2.0), lambda x: np.log(1 + np.exp(2 * x)) / 2),
    "softmax": (F.softmax, lambda x: special.softmax(x, axis=-1)),
    "log_softmax": (lambda x: F.log_softmax(x, 0), lambda x: special.log_softmax(x, axis=0)),
    "normal_cdf": (F.normal_cdf, special.ndtr),
}
LOGS = special.log_softmax(X, axis=1)
LOSSES = {
    "mse": (nn.mse_loss, Y, {}, (X - Y) ** 2),
    "l1": (nn.l1_loss, Y, {}, np.abs(X - Y)),
    "huber": (nn.huber_loss, Y, {"delta": 0.7}, 0.7**2 * special.huber(1.0, (X - Y) / 0.7)),
    "bce": (
        nn.binary_cross_entropy_with_logits,
        P,
        {},
        -P * special.log_expit(X) - (1 - P) * special.log_expit(-X),
    ),
    "hinge": (nn.hinge_loss, 2 * T01 - 1, {}, np.maximum(0, 1 - (2 * T01 - 1) * X)),
    "nll": (nn.nll_loss, LABELS, {}, -np.array([row[k] for row, k in zip(X, LABELS, strict=True)])),
    "ce": (nn.cross_entropy, LABELS, {}, special.logsumexp(X, axis=1) - np.sum(X * ONE_HOT, axis=1)),
    "ce_probabilities": (nn.cross_entropy, P, {}, -np.sum(P * LOGS, axis=1)),
    "ce_smooth": (
        nn.cross_entropy,
        LABELS,
        {"label_smoothing": 0.1},
        -np.sum((0.9 * ONE_HOT + 0.1 / 5) * LOGS, axis=1),
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    function, formula = ACTIVATIONS[name]
    np.testing.assert_allclose(function(Tensor(X)).data, formula(X), rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(function(X), function(Tensor(X)).data, "on arrays it is the same function")
    whole = np.array([[-2, 0, 1], [3, 1, -1]])
    np.testing.assert_allclose(function(whole), formula(whole.astype(float)), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    loss, target, settings, each = LOSSES[name]
    for reduction, expected in (("none", each), ("sum", each.sum()), ("mean", each.mean())):
        for x in (Tensor(X), X):
            out = loss(x, target, reduction=reduction, **settings)
            np.testing.assert_allclose(getattr(out, "data", out), expected, rtol=1e-12, atol=1e-13)
    assert loss(Tensor(X), target, **settings).item() == pytest.approx(each.mean(), rel=1e-12), "mean is the default"


def test_shapes_of_losses_over_classes():
    """(C,), (N, C) and (N, C, d): each sample by itself gives the same numbers."""
    deep = np.random.default_rng(0).normal(size=(3, 4, 2))
    labels = np.random.default_rng(1).integers(0, 4, (3, 2))
    p = np.moveaxis(np.random.default_rng(2).dirichlet(np.ones(4), (3, 2)), 2, 1)
    for settings in ({}, {"label_smoothing": 0.3}):
        for target, one in ((labels, lambda i, j: labels[i, j]), (p, lambda i, j: p[i, :, j])):
            out = nn.cross_entropy(Tensor(deep), target, "none", **settings)
            assert out.shape == (3, 2)
            for i, j in np.ndindex(3, 2):
                alone = nn.cross_entropy(Tensor(deep[i, :, j]), one(i, j), "none", **settings)
                assert alone.shape == ()
                assert out.data[i, j] == pytest.approx(alone.item(), rel=1e-13)
            assert nn.cross_entropy(Tensor(deep), target, **settings).item() == pytest.approx(out.data.mean())
            mg.gradcheck(
                lambda x, t=target, s=settings: nn.cross_entropy(x, t, **s), Tensor(deep, requires_grad=True), order=2
            )


# value and slope at −10,000 and at 10,000
LIMITS = {
    "relu": (F.relu, (0, 1e4), (0, 1)),
    "leaky_relu": (F.leaky_relu, (-1e2, 1e4), (0.01, 1)),
    "elu": (F.elu, (-1, 1e4), (0, 1)),
    "selu": (F.selu, (-SCALE * ALPHA, SCALE * 1e4), (0, SCALE)),
    "gelu": (F.gelu, (0, 1e4), (0, 1)),
    "gelu_tanh": (lambda x: F.gelu(x, "tanh"), (0, 1e4), (0, 1)),
    "silu": (F.silu, (0, 1e4), (0, 1)),
    "sigmoid": (F.sigmoid, (0, 1), (0, 0)),
    "tanh": (np.tanh, (-1, 1), (0, 0)),
    "softplus": (F.softplus, (0, 1e4), (0, 1)),
    "softmax": (F.softmax, (0, 1), (0, 0)),
    "log_softmax": (F.log_softmax, (-2e4, 0), (1, -1)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LIMITS)
def test_far_out(name, dtype):
    function, values, slopes = LIMITS[name]
    x = Tensor(np.array([-1e4, 1e4], dtype), requires_grad=True)
    out = function(x)
    np.testing.assert_allclose(out.data, values, rtol=1e-6)
    (g,) = mg.grad(out.sum(), x)
    np.testing.assert_allclose(g, slopes, rtol=1e-6)
    (h,) = mg.hvp(function(x).sum(), x, np.ones(2, dtype))
    np.testing.assert_allclose(h, [0, 0], atol=1e-6)
    assert out.dtype == g.dtype == h.dtype == dtype


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (F.relu, 0.0),
        (lambda x: F.leaky_relu(x, 0.2), 0.2),
        (lambda x: F.elu(x, 0.5), 0.5),
        (F.selu, SCALE * ALPHA),
        (lambda x: nn.l1_loss(x, np.zeros(1)), 0.0),
        (lambda x: nn.hinge_loss(x + 1, np.ones(1)), 0.0),
    ],
)
def test_slopes_at_the_kink(function, slope):
    """Those from the left, as in PyTorch; 0 for the absolute value and the hinge."""
    x = Tensor([0.0], requires_grad=True)
    np.testing.assert_allclose(mg.grad(function(x).sum(), x)[0], [slope], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", [np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0.25, 0.5])])
def test_binary_cross_entropy_far_out(target, dtype):
    x = Tensor(np.array([-1e4, 1e4], dtype), requires_grad=True)
    loss = nn.binary_cross_entropy_with_logits(x, target.astype(dtype), "none")
    np.testing.assert_allclose(loss.data, 1e4 * np.abs(target - [0, 1]), rtol=1e-6)
    (g,) = mg.grad(loss.sum(), x)
    np.testing.assert_allclose(g, np.array([0, 1]) - target, rtol=1e-6)


# hinge_loss has other labels: see test_labels_that_a_loss_cannot_have.
ELEMENTWISE = [nn.mse_loss, nn.l1_loss, nn.huber_loss, nn.binary_cross_entropy_with_logits]


@pytest.mark.parametrize(
    "make", [lambda t: t.astype(int), lambda t: t.astype(np.uint8), lambda t: t > 0, lambda t: t.tolist()]
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", ELEMENTWISE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_that_are_no_floats(loss, reduction, make, dtype):
    """Labels 0 and 1 as integers, booleans or lists: the same numbers as with floats, and float32 stays float32."""
    x = X.astype(dtype)
    expected, out = (
        (loss(ours := Tensor(x, requires_grad=True), target, reduction), ours)
        for target in (T01.astype(dtype), make(T01))
    )
    np.testing.assert_array_equal(out[0].data, expected[0].data)
    assert out[0].dtype == dtype
    weight = np.ones(out[0].shape, dtype)
    for value, ours in (expected, out):
        value.backward(weight)
        assert ours.grad.dtype == dtype
    np.testing.assert_allclose(out[1].grad, expected[1].grad, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", [np.array, list, lambda x: np.array(x, np.uint8)])
@pytest.mark.parametrize("loss", ELEMENTWISE[:3])
def test_inputs_that_are_no_floats(loss, make):
    """1 − 20 is 237 in uint8."""
    assert loss(make([1, 200]), make([20, 1])) == loss(np.array([1.0, 200.0]), np.array([20.0, 1.0]))


@pytest.mark.parametrize("loss", [nn.cross_entropy, nn.nll_loss])
@pytest.mark.parametrize("labels", [LABELS, LABELS.astype(np.uint8), LABELS.tolist(), LABELS.astype(np.int32)])
def test_labels_of_every_integer_type(loss, labels):
    x = Tensor(X, requires_grad=True)
    loss(x, labels).backward()
    (expected,) = mg.grad(loss(y := Tensor(X, requires_grad=True), LABELS), y)
    np.testing.assert_array_equal(x.grad, expected)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nn.mse_loss(Tensor(np.ones((6, 1))), np.ones(6)), ValueError, r"\(6, 1\).*\(6,\)"),
        (lambda: nn.cross_entropy(Tensor(1.0), 0), ValueError, "classes"),
        (lambda: nn.nll_loss(Tensor(1.0), 0), ValueError, "classes"),
        (lambda: nn.cross_entropy(Tensor(X), LABELS, label_smoothing=-0.1), ValueError, "label_smoothing"),
        (lambda: nn.cross_entropy(Tensor(X), P[:, :4]), ValueError, "equal"),
        (lambda: nn.cross_entropy(Tensor(X), LABELS + 1, label_smoothing=0.1), ValueError, "labels from"),
        (lambda: F.gelu(Tensor(X), "erf"), ValueError, "approximate"),
        (lambda: nn.LayerNorm(()), ValueError, "LayerNorm"),
        (lambda: nn.LayerNorm(0), ValueError, "LayerNorm"),
        (lambda: nn.LayerNorm(2.5), ValueError, "LayerNorm"),
        (lambda: nn.LayerNorm(2, eps=math.nan), ValueError, "LayerNorm"),
    ],
)
def test_refusals(call, error, match):
    if "labels from" in match and LABELS.max() < 4:
        pytest.fail("the labels of this test are to reach the last class")
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("loss", [nn.hinge_loss, nn.nll_loss])
def test_no_gradient_flows_silently_past_a_target(loss):
    x, target = Tensor(X, requires_grad=True), Tensor(Y, requires_grad=True)
    with pytest.raises((mg.NotDifferentiableError, ValueError, TypeError)):
        mg.grad(loss(x, target), target)


@pytest.mark.parametrize("shape", [5, np.int64(5), (5,), [6, 5], np.array([6, 5])])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layer_norm(shape, dtype):
    layer = nn.LayerNorm(shape, dtype=dtype)
    axes = (-1,) if layer.weight.ndim == 1 else (-2, -1)
    x = (1e3 + X).astype(dtype)
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    out = layer(Tensor(x))
    assert out.dtype == dtype
    np.testing.assert_allclose(out.data, expected, rtol=1e-5, atol=1e-5)
    if dtype == np.float64:
        mg.gradcheck(layer, Tensor(X, requires_grad=True), order=2)


def test_eps_of_layer_norm():
    out = nn.LayerNorm(5, eps=0.5)(Tensor(Y)).data
    expected = (Y - Y.mean(1, keepdims=True)) / np.sqrt(Y.var(1, keepdims=True) + 0.5)
    np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("loss", "good", "bad"),
    [
        (nn.hinge_loss, [-1, 1, 1, -1], [[0, 1, 1, 0], [0.5, 1, 1, 1], [np.nan, 1, 1, 1], [True, False, True, True]]),
        (
            nn.binary_cross_entropy_with_logits,
            [0, 1, 0.5, 1],
            [[3, 0, 1, 1], [-0.1, 0, 0, 1], [np.nan, 0, 0, 1], [1, 2, 1, 2]],
        ),
    ],
)
def test_labels_that_a_loss_cannot_have(loss, good, bad):
    x = Tensor([0.3, -0.2, 1.0, 2.0], requires_grad=True)
    assert np.isfinite(loss(x, np.array(good)).item())
    compiled = mg.compile(loss)
    compiled(x, np.array(good, float))
    for labels in bad:
        with pytest.raises(ValueError, match=rf"{loss.__name__}: targets are "):
            loss(x, np.array(labels))
        with pytest.raises(ValueError, match=rf"{loss.__name__}: targets are "):
            compiled(x, np.array(labels, float))
