"""The lecture's formulas, transcribed here literally from the notes, and its identities."""

import math

import numpy as np
import pytest

from microgradopt import Objective, Tensor, optim

STEPS = 60
RNG = np.random.default_rng(3)
GRADIENTS = RNG.normal(size=(STEPS, 5)) * RNG.uniform(0.01, 3.0, size=(STEPS, 1))
START = RNG.normal(size=5)


def run(optimizer_class, gradients=GRADIENTS, **settings):
    """θ after every step on given gradients."""
    theta = Tensor(START[: gradients.shape[1]], requires_grad=True)
    optimizer = optimizer_class([theta], **settings)
    path = []
    for g in gradients:
        theta.grad = g.copy()
        optimizer.step()
        path.append(theta.data.copy())
    return np.array(path), optimizer


def eta(t):
    return 0.1 / (1 + 0.05 * t)


def test_l6_momentum():
    """m⁰ = 0, mᵗ = λ mᵗ⁻¹ − η gᵗ⁻¹, θᵗ = θᵗ⁻¹ + mᵗ."""
    theta, m, expected = START.copy(), np.zeros(5), []
    for t in range(1, STEPS + 1):
        m = 0.9 * m - eta(t - 1) * GRADIENTS[t - 1]
        theta = theta + m
        expected.append(theta)
    np.testing.assert_allclose(run(optim.Momentum, lr=eta, momentum=0.9)[0], expected, rtol=1e-13)


def test_l9_root_mean_square():
    """σᵢᵗ = sqrt(1/(t+1) Σₖ₌₀..ₜ (gᵢᵏ)²), θᵢᵗ⁺¹ = θᵢᵗ − (η/σᵢᵗ) gᵢᵗ."""
    theta, expected = START.copy(), []
    for t in range(STEPS):
        sigma = np.sqrt(sum(GRADIENTS[k] ** 2 for k in range(t + 1)) / (t + 1))
        theta = theta - eta(t) / sigma * GRADIENTS[t]
        expected.append(theta)
    np.testing.assert_allclose(run(optim.RMS, lr=eta)[0], expected, rtol=1e-12)


def test_l10_rmsprop():
    """σ⁰ = sqrt((g⁰)²), σᵗ = sqrt(α (σᵗ⁻¹)² + (1 − α)(gᵗ)²)."""
    alpha, theta, expected = 0.9, START.copy(), []
    sigma = np.sqrt(GRADIENTS[0] ** 2)
    for t in range(STEPS):
        if t > 0:
            sigma = np.sqrt(alpha * sigma**2 + (1 - alpha) * GRADIENTS[t] ** 2)
        theta = theta - eta(t) / sigma * GRADIENTS[t]
        expected.append(theta)
    path, _ = run(optim.RMSprop, lr=eta, alpha=alpha, eps=0.0, start="gradient")
    np.testing.assert_allclose(path, expected, rtol=1e-12)


def test_l13_adam():
    """θᵗ⁺¹ = θᵗ − (ηᵗ / σᵗ) mᵗ with both averages divided by 1 − βᵗ."""
    beta1, beta2, eps, theta = 0.8, 0.95, 1e-8, START.copy()
    m = v = np.zeros(5)
    expected = []
    for t in range(1, STEPS + 1):
        g = GRADIENTS[t - 1]
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        sigma = np.sqrt(v / (1 - beta2**t)) + eps
        theta = theta - eta(t - 1) / sigma * (m / (1 - beta1**t))
        expected.append(theta)
    np.testing.assert_allclose(run(optim.Adam, lr=eta, betas=(beta1, beta2), eps=eps)[0], expected, rtol=1e-12)


# Identities -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer_class", "second"), [(optim.Momentum, -0.200), (optim.SGD, -0.119)])
def test_momentum_when_the_learning_rate_changes(optimizer_class, second):
    theta = Tensor([0.0], requires_grad=True)
    optimizer = optimizer_class([theta], lr=lambda t: [0.1, 0.01][t], momentum=0.9)
    for _ in range(2):
        theta.grad = np.ones(1)
        optimizer.step()
    assert theta.item() == pytest.approx(second, abs=1e-15)


def test_the_two_momenta_agree_at_a_constant_rate():
    np.testing.assert_allclose(
        run(optim.Momentum, lr=0.03, momentum=0.7)[0], run(optim.SGD, lr=0.03, momentum=0.7)[0], rtol=1e-12
    )


def test_momentum_is_a_weighted_sum_of_all_past_gradients():
    path, _ = run(optim.Momentum, lr=eta, momentum=0.9)
    t = STEPS - 1
    step = -sum(0.9 ** (t - k) * eta(k) * GRADIENTS[k] for k in range(t + 1))
    np.testing.assert_allclose(path[t] - path[t - 1], step, rtol=1e-10)


def test_root_mean_square_with_decay_is_adagrad():
    decayed = run(optim.RMS, lr=optim.schedules.InverseSqrt(0.5))[0]
    np.testing.assert_allclose(decayed, run(optim.Adagrad, lr=0.5, eps=0.0)[0], rtol=1e-12)


def test_rmsprop_averages_differ_by_the_first_gradient():
    _, lecture = run(optim.RMSprop, alpha=0.9, start="gradient")
    _, pytorch = run(optim.RMSprop, alpha=0.9)
    v_lecture, v_pytorch = (o.state_dict()["state"][0]["v"] for o in (lecture, pytorch))
    t = STEPS - 1
    np.testing.assert_allclose(v_lecture, v_pytorch + 0.9 ** (t + 1) * GRADIENTS[0] ** 2, rtol=1e-12)


def test_size_of_the_first_rmsprop_step():
    first = GRADIENTS[:1]
    lecture = run(optim.RMSprop, first, lr=0.1, alpha=0.9, eps=0.0, start="gradient")[0][0] - START
    pytorch = run(optim.RMSprop, first, lr=0.1, alpha=0.9, eps=0.0)[0][0] - START
    np.testing.assert_allclose(np.abs(lecture), 0.1, rtol=1e-12)
    np.testing.assert_allclose(np.abs(pytorch), 0.1 / math.sqrt(1 - 0.9), rtol=1e-12)


def test_adam_without_momentum_is_bias_corrected_rmsprop():
    alpha, v, theta, expected = 0.95, np.zeros(5), START.copy(), []
    for t, g in enumerate(GRADIENTS, start=1):
        v = alpha * v + (1 - alpha) * g**2
        theta = theta - 0.1 * g / np.sqrt(v / (1 - alpha**t))
        expected.append(theta)
    np.testing.assert_allclose(run(optim.Adam, lr=0.1, betas=(0.0, alpha), eps=0.0)[0], expected, rtol=1e-12)


def test_rmsprop_with_momentum_is_not_adam():
    adam = run(optim.Adam, lr=0.1, betas=(0.9, 0.9))[0]
    assert np.abs(adam - run(optim.RMSprop, lr=0.1, alpha=0.9, momentum=0.9)[0]).max() > 0.1


def test_a_parameter_without_gradient_stays_under_root_mean_square():
    gradients = np.array([[0.0, 1.0], [0.0, 2.0]])
    for optimizer_class, settings in ((optim.RMS, {}), (optim.RMSprop, {"eps": 0.0, "start": "gradient"})):
        path, _ = run(optimizer_class, gradients, **settings)
        assert (path[:, 0] == START[0]).all()
        assert np.isfinite(path).all()


# The lecture's surface: y = b + w x on ten points, sum of squared errors ------------------------------------------------

X = np.array([338.0, 333.0, 328.0, 207.0, 226.0, 25.0, 179.0, 60.0, 208.0, 606.0])
Y = np.array([640.0, 633.0, 619.0, 393.0, 428.0, 27.0, 193.0, 66.0, 226.0, 1591.0])


def surface():
    return Objective(lambda theta: np.sum((Y - (theta[0] + theta[1] * X)) ** 2), [-120.0, -4.0])


def descend(optimizer_class, steps, **settings):
    objective = surface()
    optimizer = optimizer_class(objective.parameters, **settings)
    for _ in range(steps):
        objective.parameters[0].grad = objective.gradient()
        optimizer.step()
    return objective


def test_facts_of_the_surface():
    objective = surface()
    H = objective.hessian()
    optimum = objective.theta - np.linalg.solve(H, objective.gradient())
    np.testing.assert_allclose(optimum, [-188.433, 2.6695], rtol=2e-5)
    low, high = np.linalg.eigvalsh(H)
    assert high / low == pytest.approx(3.1e5, rel=0.02)
    assert 2 / high == pytest.approx(1.14e-6, rel=0.01)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gradient_descent_bounces_or_crawls():
    best = surface().value([-188.433, 2.6695])
    assert descend(optim.SGD, 5, lr=1e-2).value() > 1e15
    crawling = descend(optim.SGD, 2000, lr=1e-7)  # and after the lecture's 100,000 updates it is still at b = −124
    assert abs(crawling.theta[0] + 188.433) > 60
    assert crawling.value() > 1.02 * best


def losses(optimizer_class, steps, **settings):
    """The loss before every step. The gradient by hand: what is asked here is of the optimizer."""
    theta = Tensor([-120.0, -4.0], requires_grad=True)
    optimizer = optimizer_class([theta], **settings)
    trace = []
    for _ in range(steps):
        error = theta.data[0] + theta.data[1] * X - Y
        trace.append(np.sum(error**2))
        theta.grad = 2 * np.array([np.sum(error), np.sum(error * X)])
        optimizer.step()
    return np.array(trace), theta.data


OPTIMUM, (LEAST,), *_ = np.linalg.lstsq(np.stack([np.ones(10), X], axis=1), Y)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("factor", "falls"), [(0.99, True), (1.01, False)])
def test_limit_of_stability(factor, falls):
    """Below 2/λ_max the loss along the steep direction shrinks, above it grows."""
    limit = 2 / np.linalg.eigvalsh(surface().hessian())[1]
    trace, _ = losses(optim.SGD, 2000, lr=factor * limit)
    assert bool(trace[-1] < trace[0]) == falls


def test_root_mean_square_arrives():
    trace, theta = losses(optim.RMS, 5000, lr=1.0)
    np.testing.assert_allclose(theta, OPTIMUM, rtol=1e-4)
    assert trace[-1] == pytest.approx(LEAST, rel=1e-5)


def test_decay_takes_the_bursts_away():
    """L9 and L11: at η = 1 the loss leaps up again on the way; with η/√(t+1) it never does."""
    bursting, _ = losses(optim.RMS, 3000, lr=1.0)
    decayed, _ = losses(optim.RMS, 3000, lr=optim.schedules.InverseSqrt(1.0))
    assert (bursting[200:] / np.minimum.accumulate(bursting)[200:]).max() > 10
    assert (np.diff(decayed[200:]) <= 0).all()
