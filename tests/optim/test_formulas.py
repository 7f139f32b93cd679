"""Every optimizer beside its formula, written out here in NumPy from the papers: no engine, no PyTorch."""

import math

import numpy as np
import pytest

from microgradopt import Tensor, optim

RNG = np.random.default_rng(11)
GRADIENTS = RNG.normal(size=(80, 6)) * 10.0 ** RNG.uniform(-2, 1, size=(80, 1))
START = RNG.normal(size=6)


def eta(t):
    return 0.05 / (1 + 0.1 * t)


def sgd(x, gradients, momentum=0.8, dampening=0.3, weight_decay=0.1):
    b = None
    for t, g in enumerate(gradients):
        g = g + weight_decay * x
        b = g if b is None else momentum * b + (1 - dampening) * g
        x = x - eta(t) * b
    return x


def nesterov(x, gradients, momentum=0.8, weight_decay=0.1):
    b = 0 * x
    for t, g in enumerate(gradients):
        g = g + weight_decay * x
        b = momentum * b + g
        x = x - eta(t) * (g + momentum * b)
    return x


def adagrad(x, gradients, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.5, eps=1e-3):
    s = np.full(6, initial_accumulator_value)
    for t, g in enumerate(gradients):
        g = g + weight_decay * x
        s = s + g**2
        x = x - eta(t) / (1 + t * lr_decay) * g / (np.sqrt(s) + eps)
    return x


def rmsprop(x, gradients, alpha=0.9, momentum=0.7, weight_decay=0.1, centered=True, eps=1e-3):
    v = a = b = 0 * x
    for t, g in enumerate(gradients):
        g = g + weight_decay * x
        v = alpha * v + (1 - alpha) * g**2
        a = alpha * a + (1 - alpha) * g
        b = momentum * b + g / (np.sqrt(v - a**2) + eps)
        x = x - eta(t) * b
    return x


def adadelta(x, gradients, rho=0.8, weight_decay=0.1, eps=1e-4):
    v = u = 0 * x
    for t, g in enumerate(gradients):
        g = g + weight_decay * x
        v = rho * v + (1 - rho) * g**2
        step = np.sqrt(u + eps) / np.sqrt(v + eps) * g
        u = rho * u + (1 - rho) * step**2
        x = x - eta(t) * step
    return x


def averages(gradients, betas):
    """m and v of Kingma and Ba's algorithm 1, as sums over all gradients so far."""
    beta1, beta2 = betas
    for t in range(1, len(gradients) + 1):
        fade = np.arange(t - 1, -1, -1)[:, None]
        m = (1 - beta1) * np.sum(beta1**fade * gradients[:t], axis=0)
        v = (1 - beta2) * np.sum(beta2**fade * gradients[:t] ** 2, axis=0)
        yield t, m, v


def amsgrad(x, gradients, betas=(0.8, 0.95), eps=1e-3):
    largest = 0 * x
    for t, m, v in averages(gradients, betas):
        largest = np.maximum(largest, v)
        x = x - eta(t - 1) * (m / (1 - betas[0] ** t)) / (np.sqrt(largest / (1 - betas[1] ** t)) + eps)
    return x


def adamw(x, gradients, betas=(0.8, 0.95), weight_decay=0.1, eps=1e-3):
    for t, m, v in averages(gradients, betas):
        step = (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        x = x - eta(t - 1) * (step + weight_decay * x)
    return x


def adamax(x, gradients, betas=(0.8, 0.95), eps=1e-3):
    for t, m, _ in averages(gradients, betas):
        u = np.max(betas[1] ** np.arange(t - 1, -1, -1)[:, None] * (np.abs(gradients[:t]) + eps), axis=0)
        x = x - eta(t - 1) / (1 - betas[0] ** t) * m / u
    return x


def nadam(x, gradients, betas=(0.8, 0.95), momentum_decay=0.01, weight_decay=0.1, eps=1e-3):
    def mu(k):
        return betas[0] * (1 - 0.5 * 0.96 ** (k * momentum_decay))

    for t, m, v in averages(gradients, betas):
        products = [math.prod(mu(k) for k in range(1, last + 1)) for last in (t, t + 1)]
        m_hat = mu(t + 1) * m / (1 - products[1]) + (1 - mu(t)) * gradients[t - 1] / (1 - products[0])
        x = (1 - eta(t - 1) * weight_decay) * x
        x = x - eta(t - 1) * m_hat / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return x


def radam(x, gradients, betas=(0.8, 0.95), weight_decay=0.1, eps=1e-3):
    longest = 2 / (1 - betas[1]) - 1
    for t, m, v in averages(gradients, betas):
        length = longest - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
        m_hat, factor = m / (1 - betas[0] ** t), 1.0
        if length > 5:
            r = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            factor = math.sqrt(r) * math.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps)
        x = (1 - eta(t - 1) * weight_decay) * x - eta(t - 1) * factor * m_hat
    return x


BETAS = {"betas": (0.8, 0.95), "eps": 1e-3}
FORMULAS = {
    sgd: ("SGD", {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1}),
    nesterov: ("SGD", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    adagrad: ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    rmsprop: ("RMSprop", {"alpha": 0.9, "momentum": 0.7, "weight_decay": 0.1, "centered": True, "eps": 1e-3}),
    adadelta: ("Adadelta", {"rho": 0.8, "weight_decay": 0.1, "eps": 1e-4}),
    amsgrad: ("Adam", {**BETAS, "amsgrad": True}),
    adamw: ("AdamW", {**BETAS, "weight_decay": 0.1}),
    adamax: ("Adamax", BETAS),
    nadam: ("NAdam", {**BETAS, "momentum_decay": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    radam: ("RAdam", {**BETAS, "weight_decay": 0.1, "decoupled_weight_decay": True}),
}


def run(name, gradients, start=START, **settings):
    theta = Tensor(start, requires_grad=True)
    optimizer = getattr(optim, name)([theta], **settings)
    for g in gradients:
        theta.grad = g.copy()
        optimizer.step()
    return theta.data


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.__name__)
def test_is_its_formula(formula):
    name, settings = FORMULAS[formula]
    np.testing.assert_allclose(run(name, GRADIENTS, lr=eta, **settings), formula(START, GRADIENTS), rtol=1e-11)


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam"])
def test_weight_decay_through_the_gradient(name):
    """With the gradient made by hand to include weight_decay · θ, the two runs are the same."""
    theta = [Tensor(START, requires_grad=True) for _ in range(2)]
    decayed, plain = (getattr(optim, name)([p], 0.01, weight_decay=d) for p, d in zip(theta, (0.3, 0.0), strict=True))
    for g in GRADIENTS:
        theta[0].grad, theta[1].grad = g, g + 0.3 * theta[1].data
        decayed.step()
        plain.step()
    np.testing.assert_allclose(theta[0].data, theta[1].data, rtol=1e-12)


# η, whatever the gradient, for those that divide by the gradient's own size or take its sign
FIRST_STEPS = {
    "RMS": ({}, 1.0),
    "Adagrad": ({"eps": 0.0}, 1.0),
    "Adam": ({"eps": 0.0}, 1.0),
    "AdamW": ({"eps": 0.0, "weight_decay": 0.0}, 1.0),
    "Adamax": ({"eps": 0.0}, 1.0),
    "Lion": ({}, 1.0),
    "RMSprop": ({"eps": 0.0, "alpha": 0.75}, 2.0),
}


@pytest.mark.parametrize("name", FIRST_STEPS)
def test_size_of_the_first_step(name):
    settings, size = FIRST_STEPS[name]
    g = np.array([1e-6, -1e-2, 3.0, -4e5])
    step = run(name, [g], np.zeros(4), lr=0.1, **settings)
    np.testing.assert_allclose(step, -0.1 * size * np.sign(g), rtol=1e-12)


@pytest.mark.parametrize("name", ["RMS", "Adagrad", "RMSprop"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_that_are_always_zero_move_nothing_without_eps(name, sign):
    """A pixel that is always 0: no NaN from 0/0, and its neighbours move as ever."""
    gradients = sign * np.array([[0.0, 1.0], [0.0, 2.0]])
    path = run(name, gradients, np.ones(2), **({} if name == "RMS" else {"eps": 0.0}))
    assert path[0] == 1.0
    assert np.isfinite(path[1])
    assert path[1] != 1.0


@pytest.mark.parametrize("g", [0.1, 0.3, 0.7, 1.1, 1e-3, 123.4])
def test_centered_with_a_constant_gradient_makes_no_nan(g):
    """v − a² is then 0 up to rounding, which can be below 0."""
    assert np.isfinite(run("RMSprop", np.full((2000, 1), g), np.zeros(1), centered=True, alpha=0.9)).all()


def test_adam_takes_the_root_before_eps():
    """θ ← θ − η m̂/(√v̂ + ε), not m̂/√(v̂ + ε): for g = ε the step is η/2, and not η/√2 (or nearly 0)."""
    assert run("Adam", [np.array([1e-3])], np.zeros(1), lr=1.0, eps=1e-3)[0] == pytest.approx(-0.5, rel=1e-12)
