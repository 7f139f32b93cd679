"""Losses and activations beside PyTorch: values, gradients, Hessian-vector products, both dtypes."""

import math

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor, nn

F = nn.functional
rng = np.random.default_rng(0)
X = rng.normal(size=(5, 4)) * 2
Y = rng.normal(size=(5, 4))
SIGNS = np.where(rng.random((5, 4)) > 0.5, 1.0, -1.0)
P = rng.dirichlet(np.ones(4), size=5)
LABELS = rng.integers(0, 4, 5)
DEEP, DEEP_LABELS = rng.normal(size=(2, 3, 4)), rng.integers(0, 3, (2, 4))

ACTIVATIONS = {
    "relu": (F.relu, "relu", {}),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), "leaky_relu", {"negative_slope": 0.2}),
    "elu": (lambda x: F.elu(x, 0.7), "elu", {"alpha": 0.7}),
    "selu": (F.selu, "selu", {}),
    "gelu": (F.gelu, "gelu", {}),
    "gelu_tanh": (lambda x: F.gelu(x, "tanh"), "gelu", {"approximate": "tanh"}),
    "silu": (F.silu, "silu", {}),
    "sigmoid": (F.sigmoid, "sigmoid", {}),
    "tanh": (np.tanh, "tanh", {}),
    "softplus": (lambda x: F.softplus(x, 1.5), "softplus", {"beta": 1.5, "threshold": 1e9}),
    "softmax": (lambda x: F.softmax(x, 1), "softmax", {"dim": 1}),
    "log_softmax": (lambda x: F.log_softmax(x, 0), "log_softmax", {"dim": 0}),
}
LOSSES = {
    "mse": (nn.mse_loss, "mse_loss", X, Y, {}),
    "l1": (nn.l1_loss, "l1_loss", X, Y, {}),
    "huber": (nn.huber_loss, "huber_loss", X, Y, {"delta": 0.7}),
    "bce": (nn.binary_cross_entropy_with_logits, "binary_cross_entropy_with_logits", X, P, {}),
    "ce": (nn.cross_entropy, "cross_entropy", X, LABELS, {}),
    "ce_smooth": (nn.cross_entropy, "cross_entropy", X, LABELS, {"label_smoothing": 0.1}),
    "ce_probabilities": (nn.cross_entropy, "cross_entropy", X, P, {}),
    "ce_probabilities_smooth": (nn.cross_entropy, "cross_entropy", X, P, {"label_smoothing": 0.2}),
    "ce_one": (nn.cross_entropy, "cross_entropy", X[0], LABELS[0], {}),
    "ce_deep": (nn.cross_entropy, "cross_entropy", DEEP, DEEP_LABELS, {}),
    "nll": (nn.nll_loss, "nll_loss", X, LABELS, {}),
    "nll_deep": (nn.nll_loss, "nll_loss", DEEP, DEEP_LABELS, {}),
}


def compared(mine, theirs, x, dtype, tolerance):
    """Value, gradient and Hessian-vector product of a weighted sum of the outputs, on both sides."""
    torch = pytest.importorskip("torch")
    x = x.astype(dtype)
    ours, reference = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out, expected = mine(ours), theirs(torch.nn.functional, reference)
    assert out.dtype == dtype
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    weight = np.random.default_rng(1).normal(size=out.shape).astype(dtype)
    v = np.random.default_rng(2).normal(size=x.shape).astype(dtype)
    (g,) = mg.grad(np.sum(out * weight), ours)
    (h,) = mg.hvp(np.sum(mine(ours) * weight), ours, v)
    (g_expected,) = torch.autograd.grad((expected * torch.tensor(weight)).sum(), reference, create_graph=True)
    np.testing.assert_allclose(g, g_expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    if g_expected.requires_grad:
        (h_expected,) = torch.autograd.grad((g_expected * torch.tensor(v)).sum(), reference)
        np.testing.assert_allclose(h, h_expected.numpy(force=True), rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parity
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_pytorchs(name, dtype, tolerance):
    mine, theirs, settings = ACTIVATIONS[name]
    compared(mine, lambda functional, x: getattr(functional, theirs)(x, **settings), X, dtype, tolerance)


@pytest.mark.parity
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_pytorchs(name, reduction, dtype, tolerance):
    mine, theirs, x, target, settings = LOSSES[name]
    target = target.astype(dtype) if np.asarray(target).dtype.kind == "f" else np.asarray(target)
    compared(
        lambda x: mine(x, target, reduction=reduction, **settings),
        lambda functional, x: getattr(functional, theirs)(
            x, pytest.importorskip("torch").tensor(target), reduction=reduction, **settings
        ),
        x,
        dtype,
        tolerance,
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_against_central_differences(name):
    mg.gradcheck(ACTIVATIONS[name][0], Tensor(X, requires_grad=True), order=2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_against_central_differences(name, reduction):
    mine, _, x, target, settings = LOSSES[name]
    mg.gradcheck(lambda x: mine(x, target, reduction=reduction, **settings), Tensor(x, requires_grad=True), order=2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "loss", [nn.mse_loss, nn.l1_loss, nn.huber_loss, nn.binary_cross_entropy_with_logits, nn.cross_entropy]
)
def test_gradients_by_the_target(loss, reduction):
    inputs = [Tensor(X, requires_grad=True), Tensor(P, requires_grad=True)]
    mg.gradcheck(lambda x, t: loss(x, t, reduction=reduction), inputs, order=2)


def test_hinge_is_the_formula():
    expected = np.maximum(0, 1 - SIGNS * X)
    np.testing.assert_allclose(nn.hinge_loss(Tensor(X), SIGNS, reduction="none").data, expected, rtol=1e-15)
    assert nn.hinge_loss(Tensor(X), SIGNS).item() == pytest.approx(expected.mean(), rel=1e-14)
    mg.gradcheck(lambda x: nn.hinge_loss(x, SIGNS), Tensor(X, requires_grad=True), order=2)


def test_normal_distribution_far_out():
    """Against the asymptotic series of Mills' ratio: Φ(−x) ≈ φ(x)/x (1 − 1/x² + 3/x⁴ − 15/x⁶)."""
    x = 20.0
    series = math.exp(-x * x / 2) / math.sqrt(2 * math.pi) / x * (1 - x**-2 + 3 * x**-4 - 15 * x**-6)
    assert F.normal_cdf(np.array([-x]))[0] == pytest.approx(series, rel=1e-7)


@pytest.mark.parametrize("size", [1e4, 1e2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_stable_for_large_logits(size, dtype):
    logits = (size * np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.5]])).astype(dtype)
    x = Tensor(logits, requires_grad=True)
    wrong = nn.cross_entropy(x, np.array([1, 0]))
    assert wrong.item() == pytest.approx(2 * size, rel=1e-6)
    (g,) = mg.grad(wrong, x)
    np.testing.assert_allclose(g, [[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0]], atol=1e-6)
    one = Tensor(logits[0], requires_grad=True)
    loss = nn.binary_cross_entropy_with_logits(one, np.array([0.0, 1.0, 1.0], dtype), reduction="none")
    np.testing.assert_allclose(loss.data, [size, size, math.log(2)], rtol=1e-6)
    assert np.isfinite(mg.grad(loss.sum(), one)[0]).all()
    for activation, _, _ in ACTIVATIONS.values():
        (g,) = mg.grad(activation(x).sum(), x)
        assert np.isfinite(g).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: nn.mse_loss(x, np.zeros(5)),
        lambda x: nn.l1_loss(x, np.zeros((5, 1))),
        lambda x: nn.huber_loss(x, np.zeros((1, 4))),
        lambda x: nn.binary_cross_entropy_with_logits(x, np.zeros((4, 5))),
        lambda x: nn.hinge_loss(x, np.ones(4)),
        lambda x: nn.cross_entropy(x, np.zeros((5, 1), int)),
        lambda x: nn.cross_entropy(x, np.zeros(4, int)),
        lambda x: nn.cross_entropy(x, np.array([0, 1, 2, 3, 4])),
        lambda x: nn.cross_entropy(x, np.array([0, 1, 2, 3, -1])),
        lambda x: nn.cross_entropy(x, np.zeros(5)),
        lambda x: nn.cross_entropy(x, np.zeros(5, bool)),
        lambda x: nn.nll_loss(x, np.zeros(5)),
        lambda x: nn.cross_entropy(x, LABELS, label_smoothing=1.5),
        lambda x: nn.mse_loss(x, Y, reduction="average"),
    ],
)
def test_refusals(call):
    with pytest.raises(ValueError, match=r"must be equal|labels|label_smoothing|reduction"):
        call(Tensor(X, requires_grad=True))


@pytest.mark.parametrize("dtype", [">i8", "<i4", ">u2", "i1", "u1"])
def test_labels_of_every_size_and_byte_order(dtype):
    """Labels of big-endian files were read as huge numbers."""
    logits, labels = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([0, 1], dtype)
    assert nn.cross_entropy(Tensor(logits), labels).item() == nn.cross_entropy(Tensor(logits), [0, 1]).item()
    with pytest.raises(ValueError, match="labels from 0 to 2, but classes from 0 to 1"):
        nn.cross_entropy(Tensor(logits), np.array([0, 2], dtype))
