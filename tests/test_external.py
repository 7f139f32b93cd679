"""An objective of plain functions: everything built on objectives gives on it what it gives on its twin of our own."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Objective, critical, curvature, nn, optim, training
from microgradopt.training import trajectory


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def quartic(x):
    return x[0] ** 2 - x[1] ** 2 + x[1] ** 4 + (x[2] - x[0]) ** 2


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def network():
    """A tanh net with weight decay, near its minimum."""
    X = np.random.default_rng(0).normal(size=(20, 2))
    model = nn.MLP((2, 2, 1), nn.Tanh, rng=0)

    def loss():
        return nn.mse_loss(model(X), X[:, :1] * X[:, 1:]) + 0.01 * sum((p * p).sum() for p in model.parameters())

    objective = Objective.of(model, loss)
    trajectory(objective, optim.LBFGS(objective.parameters), 30)
    return objective


OWN = {
    "Himmelblau": lambda: Objective(himmelblau, [3.1, 1.8]),
    "quartic": lambda: Objective(quartic, [0.1, 0.2, -0.1]),
    "Rosenbrock": lambda: Objective(rosenbrock, [-1.2, 1.0]),
    "network": network,
}


def twin(objective, products):
    """The same loss behind plain functions. The Hessian's product is by our own engine, so that is the oracle."""

    def value_and_gradient(theta):
        return objective.value_and_gradient(theta)

    def hvp(theta, v):
        return objective.hvp(v, theta)

    return Objective.external(value_and_gradient, objective.theta, hvp if products else None)


@pytest.fixture(params=OWN)
def own(request):
    return OWN[request.param]()


@pytest.fixture(params=[True, False], ids=["products", "differences"])
def pair(request, own):
    return own, twin(own, request.param), 1e-12 if request.param else 1e-8


def test_derivatives(pair):
    own, other, near = pair
    v = np.random.default_rng(0).normal(size=own.n)
    for theta in (None, own.theta + 0.3):
        assert other.value(theta) == own.value(theta)
        np.testing.assert_array_equal(other.gradient(theta), own.gradient(theta))
        scale = np.abs(own.hessian(theta)).max()
        np.testing.assert_allclose(other.hvp(v, theta), own.hvp(v, theta), atol=10 * near * scale)
        np.testing.assert_allclose(other.hessian(theta), own.hessian(theta), atol=near * scale)
        H = curvature.HessianOperator(other, theta)
        np.testing.assert_allclose(H @ np.eye(own.n), own.hessian(theta), atol=near * scale)


def test_spectrum(pair):
    own, other, near = pair
    expected = np.linalg.eigvalsh(own.hessian())
    H = curvature.HessianOperator(other)
    np.testing.assert_allclose(curvature.eigenpairs(H, own.n).values, expected, atol=10 * near * abs(expected).max())
    assert curvature.sharpness(H).value == pytest.approx(expected[-1], rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("products", [True, False])
def test_himmelblaus_nine_points(products):
    grid = [[a, b] for a in np.linspace(-5, 5, 5) for b in np.linspace(-5, 5, 5)]
    own, other = (critical.find(each, grid) for each in (OWN["Himmelblau"](), twin(OWN["Himmelblau"](), products)))
    assert [p.verdict for p in other] == [p.verdict for p in own]
    assert len(other) == 9
    np.testing.assert_allclose([p.theta for p in other], [p.theta for p in own], atol=1e-6)


@pytest.mark.long
def test_verdict_way_out_and_nearest(pair):
    own, other, _ = pair
    for theta in (None, np.zeros(own.n)) if own.n < 9 else (None,):
        expected, found = critical.classify(own, theta), critical.classify(other, theta)
        assert (found.kind, found.negative, found.zero) == (expected.kind, expected.negative, expected.zero)
        if expected.negative:
            assert found.escape().measured == pytest.approx(expected.escape().measured, rel=1e-3)
        if found.certified:
            assert "kinks were not seen" in " ".join(found.evidence)
            assert "Certified but for kinks" in found.explanation
    ours, theirs = critical.nearest(own), critical.nearest(other)
    assert (theirs.point.kind, theirs.gain) == (ours.point.kind, pytest.approx(ours.gain, rel=1e-6, abs=1e-9))


@pytest.mark.parametrize("cls", [optim.Adam, optim.LBFGS, optim.Newton, optim.NewtonCG, optim.SaddleFreeNewton])
def test_optimizers(pair, cls):
    own, other, _ = pair
    ways = [trajectory(each, cls(each.parameters), 5) for each in (own, other)]
    np.testing.assert_allclose(ways[1], ways[0], rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_diagnosis(pair):
    own, other, _ = pair
    assert critical.diagnose(other).verdict == critical.diagnose(own).verdict


def test_one_call_gives_loss_and_gradient():
    calls = []

    def counted(theta):
        calls.append(theta)
        return np.sum(theta**2), 2 * theta

    objective = Objective.external(counted, [1.0, 2.0])
    calls.clear()
    objective.value_and_gradient()
    assert len(calls) == 1


def test_what_changes_elsewhere_is_seen():
    scale = [1.0]
    objective = Objective.external(lambda x: (scale[0] * np.sum(x**2), 2 * scale[0] * x), [1.0, 2.0])
    assert objective.value() == 5.0
    scale[0] = 3.0
    assert objective.value() == 15.0


def test_a_program_cannot_hold_it():
    objective = Objective.external(lambda x: (np.sum(x**2), 2 * x), [1.0, 2.0])

    def gradient():
        with objective.at() as loss:
            return mg.grad(loss, objective.parameters)[0]

    for ask in (mg.compile(gradient), lambda: mg.source(gradient)):
        with pytest.raises(mg.TracingError, match=r"a call takes ExternalLoss .* computed elsewhere"):
            ask()
    np.testing.assert_array_equal(gradient(), [2, 4])


# What cannot be seen is not promised ----------------------------------------------------------------------------------


def test_smooth_is_the_users_word():
    functions = lambda x: (np.sum(x**2), 2 * x)  # noqa: E731
    said = critical.classify(Objective.external(functions, [0.0, 0.0], smooth=True))
    assert said.certified
    assert "that it is smooth was said" in " ".join(said.evidence)
    assert "Certified but for kinks" not in said.explanation


def test_answers_that_differ_each_time():
    rng = np.random.default_rng(0)

    def noisy(x):
        a = 1 + 3 * rng.normal()
        return np.sum(x**2) + a * x[0] ** 2, 2 * x + [2 * a * x[0], 0]

    assert not critical.classify(Objective.external(noisy, [0.0, 0.0])).certified
    assert not critical.classify(Objective.external(noisy, [1e-9, 0.0])).certified


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (abs(x[0]) + x[1] ** 2, np.array([np.sign(x[0]), 2 * x[1]])),
        lambda x: (x[1] ** 2 + (x[0] ** 2 if x[0] > 0 else -(x[0] ** 2)), np.array([2 * abs(x[0]), 2 * x[1]])),
        lambda x: (x[1] ** 2 + x[0] ** 2 - (x[0] > 0), 2 * x),
    ],
    ids=["a kink", "a saddle of two pieces", "a jump"],
)
def test_pieces_are_met_by_the_attacks(f):
    assert not critical.classify(Objective.external(f, [0.0, 0.0])).certified


@pytest.mark.parametrize("cast", [np.float32, np.float64])
@pytest.mark.parametrize("products", [True, False])
def test_single_precision_inside(cast, products):
    """Two equal columns: one eigenvalue is 0, and is not told from rounding, also where the answer comes as float64."""
    A = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    A[:, 2] = A[:, 0]
    b = np.arange(30, dtype=np.float32)

    def value_and_gradient(x):
        residuals = A @ x.astype(np.float32) - b
        return cast(residuals @ residuals), (2 * A.T @ residuals).astype(cast)

    def hvp(x, v):
        return (2 * A.T @ (A @ v.astype(np.float32))).astype(cast)

    x = np.linalg.pinv(A.astype(float)) @ b
    objective = Objective.external(value_and_gradient, x.astype(cast), hvp if products else None, smooth=True)
    assert objective.theta.dtype == cast
    point = critical.classify(objective)
    assert point.zero >= 1
    assert not (point.certified and point.kind != "local minimum")


def test_a_product_that_is_wrong():
    """θ and v the other way round, as in our own hvp(v, theta)."""
    wrong = Objective.external(
        lambda x: (np.sum(x**4 - x**2), 4 * x**3 - 2 * x), [0.5**0.5] * 2, lambda v, x: 12 * x**2 * v - 2 * v
    )
    assert not critical.classify(wrong).certified


@pytest.mark.parametrize("theta", [[1e-17, 1.0], [0.0, 1e-16], [1e-12, 3.0], [1e-9, 1e9], [1e-6, 1e-6]])
def test_a_parameter_that_is_nearly_zero(theta):
    objective = Objective.external(lambda x: ((x - 1) @ (x - 1), 2 * (x - 1)), theta)
    np.testing.assert_allclose(objective.hvp([1.0, 1.0]), [2, 2], rtol=1e-6)
    np.testing.assert_allclose(objective.hessian(), 2 * np.eye(2), atol=1e-6)


@pytest.mark.parametrize("a", [1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("sign", [1, -1])
def test_structure_is_not_taken_for_noise(a, sign):
    """A dent as narrow as a at the point: λ is −2 with it, and 2 without; or the other way round."""

    def dented(x):
        t = x[0] - 1
        e = np.exp(-((t / a) ** 2))
        return sign * (t * t + 2 * a * a * e) + x[1] ** 2, np.array([sign * (2 * t - 4 * t * e), 2 * x[1]])

    point = critical.classify(Objective.external(dented, [1.0, 0.0], smooth=True))
    assert not (point.certified and point.kind == ("local minimum" if sign == 1 else "saddle point"))


def test_a_gradient_of_one_is_not_at_rest():
    corner = Objective.external(
        lambda x: (abs(x[0] - 1) + x[1] ** 2, np.array([np.sign(x[0] - 1), 2 * x[1]])), [1 + 1e-5, 0.0]
    )
    assert critical.classify(corner).kind == "not critical"


def test_a_product_of_another_function():
    """The identity, as a Gauss-Newton product may be, for a Hessian with one eigenvalue −1 in a mixed direction."""
    n = 20
    w = np.ones(n) / n**0.5
    functions = lambda x: (x @ x / 2 - (w @ x) ** 2, x - 2 * w * (w @ x))  # noqa: E731
    assert not critical.classify(Objective.external(functions, np.zeros(n), lambda x, v: v, smooth=True)).certified
    right = Objective.external(functions, np.zeros(n), lambda x, v: v - 2 * w * (w @ v), smooth=True)
    assert critical.classify(right).verdict == "saddle point (certified)"


def test_a_loss_that_never_changes_certifies_nothing():
    assert not critical.classify(Objective.external(lambda x: (1.0, 2 * x), [0.0, 0.0], smooth=True)).certified


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Objective.external(3.0, [1.0]), TypeError, "value_and_gradient is a function, not 3.0"),
        (lambda: Objective.external(lambda x: (1.0, x), [1.0], 3), TypeError, "hvp is a function, not 3"),
        (lambda: Objective.external(lambda x: (1.0, x), 1.0), ValueError, r"a vector of shape \(n,\), not \(\)"),
        (lambda: Objective.external(lambda x: (1.0, x), []), ValueError, r"not \(0,\)"),
        (lambda: Objective.external(lambda x: 1.0, [1.0]), TypeError, r"gives a pair \(L, ∇L\), not 1.0"),
        (lambda: Objective.external(lambda x: (x, x), [1.0, 2.0]), ValueError, r"float64 of shape \(2,\); reduce it"),
        (lambda: Objective.external(lambda x: (1.0, x[:1]), [1.0, 2.0]), ValueError, r"the gradient .* shape \(1,\)"),
        (lambda: Objective.external(lambda x: (1.0, x), [1.0], lambda x, v: 1j * v).hvp([1.0]), ValueError, "H v is"),
    ],
)  # fmt: skip
def test_wrong_calls(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_there_is_no_third_derivative():
    objective = Objective.external(lambda x: (np.sum(x**2), 2 * x), [1.0, 2.0], lambda x, v: 2 * v)
    x = objective.parameters[0]
    with objective.at() as loss:
        (g,) = mg.grad(loss, x, create_graph=True)
        (Hg,) = mg.grad((g * g).sum(), x, create_graph=True)
        with pytest.raises(mg.NotDifferentiableError, match="no third derivatives"):
            mg.grad(Hg.sum(), x)


def test_the_functions_get_arrays_of_their_own():
    def meddling(x):
        g = 2 * x
        value = np.sum(x**2)
        x[:] = 0
        return value, g

    objective = Objective.external(meddling, [1.0, 2.0])
    assert objective.value() == 5
    np.testing.assert_array_equal(objective.theta, [1, 2])


def test_a_buffer_that_is_used_again():
    buffer = np.zeros(2)

    def value_and_gradient(x):
        buffer[:] = 4 * x**3
        return np.sum(x**4), buffer

    objective = Objective.external(value_and_gradient, [1.0, 2.0])
    with objective.at() as loss:
        objective.hessian([3.0, 4.0])  # asks for other gradients in between
        (g,) = mg.grad(loss, objective.parameters)
    np.testing.assert_allclose(g, [4, 32])
    np.testing.assert_allclose(objective.hessian(), np.diag([12, 48]), atol=1e-8)


def test_training_by_hand_takes_it_too():
    objective = Objective.external(lambda x: (np.sum((x - 1) ** 2), 2 * (x - 1)), [5.0, -5.0])
    history = training.History()
    trajectory(objective, optim.SGD(objective.parameters, lr=0.25), 40, history=history)
    np.testing.assert_allclose(objective.theta, 1, atol=1e-9)
    assert len(history.loss) >= 40
