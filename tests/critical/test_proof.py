"""Proofs: what runs on balls holds every value in them; what is known is proved; what is false is not."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import program, steps
from truths import DEGENERATE, HIMMELBLAU, himmelblau, lecture, rosenbrock

import microgradopt as mg
from microgradopt import Objective, critical, nn, optim
from microgradopt.training import trajectory

pytest.importorskip("flint")
from microgradopt.critical import balls
from microgradopt.critical.proof import _traced

NIST = json.loads((Path(__file__).parents[1] / "optim" / "nist.json").read_text())
SAMPLES = 5


# Programs on balls ----------------------------------------------------------------------------------------------------


def held(objective, radius, rng):
    """Whether gradient and Hessian on a box hold those at points of it. None where they are refused."""
    theta = objective.theta
    with balls.precise(), np.errstate(all="ignore"):
        for compute in (lambda: objective._with_gradient()[1], objective._with_hessian):
            try:
                trace = _traced(compute, objective.parameters)
                parts = objective.vector.split(balls.balls(theta, np.full(len(theta), radius)))
                box = balls.evaluated(trace, dict(zip(objective.parameters, parts, strict=True)))
            except (balls.UndecidedError, mg.TracingError):
                return None
            if not all(ball.is_finite() for ball in box.ravel()):
                return None
            for _ in range(SAMPLES):
                with objective.vector.moved_to(theta + rng.uniform(-radius, radius, len(theta))):
                    point = compute()
                rounding = 1e-10 * max(1.0, float(np.abs(point).max()))
                for ball, value in zip(box.ravel(), point.ravel(), strict=True):
                    if not float((ball - float(value)).abs_lower()) <= rounding:
                        return False
    return True


ONE = {
    "exp": np.exp, "expm1": np.expm1, "exp2": np.exp2, "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh,
    "cosh": np.cosh, "tanh": np.tanh, "arctan": np.arctan, "arcsinh": np.arcsinh, "square": np.square,
    "cube": lambda x: x**3, "reciprocal": lambda x: np.reciprocal(2 + x), "sqrt": lambda x: np.sqrt(2 + x),
    "log": lambda x: np.log(2 + x), "log2": lambda x: np.log2(2 + x), "log10": lambda x: np.log10(2 + x),
    "log1p": lambda x: np.log1p(1 + x), "arcsin": lambda x: np.arcsin(x / 3), "arccos": lambda x: np.arccos(x / 3),
    "arctanh": lambda x: np.arctanh(x / 3), "arccosh": lambda x: np.arccosh(3 + x), "abs": np.abs, "cbrt": np.cbrt,
    "real power": lambda x: (2 + x) ** 1.7, "power of a parameter": lambda x: (2 + x) ** x, "sinc": np.sinc,
    "maximum": lambda x: np.maximum(x, 0.3), "clip": lambda x: np.clip(x, -0.5, 0.5),
    "where": lambda x: np.where(x > 0, x, x * x),
    "sigmoid": nn.functional.sigmoid, "softplus": nn.functional.softplus, "silu": nn.functional.silu,
    "gelu": nn.functional.gelu, "gelu by tanh": lambda x: nn.functional.gelu(x, "tanh"), "relu": nn.functional.relu,
    "elu": nn.functional.elu, "softmax": lambda x: mg.softmax(x, 0), "log_softmax": lambda x: mg.log_softmax(x, 0),
    "logsumexp": lambda x: mg.logsumexp(x) + 0 * x, "logaddexp": lambda x: np.logaddexp(x, 0.3 * x + 1),
    "hypot": lambda x: np.hypot(x, 2 + x), "arctan2": lambda x: np.arctan2(x, 2 + x), "mean": lambda x: x - x.mean(),
    "std": lambda x: np.std(x) * x,
    "prod": lambda x: np.prod(2 + x) * x, "cumsum": np.cumsum, "norm": lambda x: np.linalg.norm(x) * x,
    "matmul": lambda x: (x[:, None] @ x[None] @ np.array([1.5, -0.1, 3.0])),
    "einsum": lambda x: np.einsum("i,j->ij", x, x),
    "thirds": lambda x: x / 3 + x * (1 / 3), "counts": lambda x: x * (1 / np.arange(3, 6)),
    "standardize": lambda x: nn.functional.standardize(x[None], (-1,), 1e-5),
}  # fmt: skip
REFUSED = {"cbrt", "einsum"}
SOMETIMES = {"abs", "maximum", "clip", "where", "relu", "elu", "sinc", "std", "norm", "standardize"}  # not on a kink


@pytest.mark.parametrize("name", ONE)
def test_a_function_on_balls_holds_its_values(name):
    """The oracle: the same computation on numbers, at random points of the box; derivatives of both orders."""
    rng = np.random.default_rng(0)
    answers = []
    for radius in (1e-6, 0.2):
        for theta in ([0.7, -0.9, 0.2], [1e-3, 0.5, -0.5]):
            objective = Objective(lambda x: np.sum(np.tanh(ONE[name](x)) * (1 + x.sum())), theta)
            answers.append(held(objective, radius, rng))
    assert False not in answers
    assert answers == [name not in REFUSED or None] * 4 or (name in SOMETIMES and True in answers)


@settings(max_examples=60)
@given(choices=steps, seed=st.integers(0, 99), exponent=st.integers(-9, -1))
def test_random_programs_on_balls(choices, seed, exponent):
    rng, f = np.random.default_rng(seed), program(choices)
    objective = Objective(lambda v: f(v[:12].reshape(3, 4), v[12:].reshape(4, 4)), rng.normal(size=28))
    assert held(objective, 10.0**exponent, rng) is not False


@pytest.mark.parametrize("value", [1 / 3, 0.1, np.sqrt(2), np.float32(0.1), 2 / np.sqrt(np.pi), -1e300 / 3])
def test_constants_hold_what_was_rounded(value):
    with balls.precise():
        ball = balls.rounded(value)[()]
        assert ball.rad() > 0
        for neighbour in (np.nextafter(value, type(value)(-np.inf)), np.nextafter(value, type(value)(np.inf))):
            assert ball.contains(float(neighbour))
        assert all(balls.rounded(x)[()].is_exact() for x in (0.0, 0.5, -3.0, 1 / 64, 1e6, np.float32(0.75)))


# What is known is proved ----------------------------------------------------------------------------------------------


def proved(objective, theta, kind, negative, n):
    proof = critical.prove(objective, theta)
    assert proof.proved, proof.why
    assert (proof.kind, proof.negative, proof.positive) == (kind, negative, n - negative)
    return proof


@pytest.mark.parametrize(("kind", "points"), HIMMELBLAU.items())
def test_himmelblau(kind, points):
    everywhere = [np.array(theta) for each in HIMMELBLAU.values() for theta in each]
    for theta in points:
        index = {"local minimum": 0, "saddle point": 1, "local maximum": 2}[kind]
        proof = proved(Objective(himmelblau, theta), None, kind, index, 2)
        inside = [each for each in everywhere if np.all(np.abs(each - proof.theta) <= proof.radius + 1e-6)]
        assert [tuple(each) for each in inside] == [theta], "one critical point, and only one"


@pytest.mark.parametrize(
    ("f", "theta", "kind", "index"),
    [
        (lecture, [0.0, 0.0], "saddle point", 1),
        (lambda w: lecture(w, 0.3), [0.0, 0.0], "saddle point", 1),
        (lambda w: lecture(w, 0.3), [0.7**0.5] * 2, "local minimum", 0),
        (lambda w: lecture(w, 0.3), [-(0.7**0.5)] * 2, "local minimum", 0),
        (lambda w: lecture(w, 3.0), [0.0, 0.0], "local minimum", 0),
        (rosenbrock, [1.0, 1.0], "local minimum", 0),
        (lambda w: -rosenbrock(w), [1.0, 1.0], "local maximum", 2),
        (lambda w: 1e200 * (w[0] ** 2 - w[1] ** 2), [0.0, 0.0], "saddle point", 1),
        (lambda w: (1e4 * w[0]) ** 2 - (1e-4 * w[1]) ** 2, [0.0, 0.0], "saddle point", 1),
    ],
)
def test_strict_points_of_known_truths(f, theta, kind, index):
    proof = proved(Objective(f, theta), None, kind, index, 2)
    assert np.all(np.abs(proof.theta - theta) <= proof.radius)
    assert proof.assuming == ""


@pytest.mark.parametrize("a", [1e-3, 1.0, 1e5])
def test_between_two_minima(a):
    """(x² − a²)²: the maximum at 0, with curvature 12 x² − 4 a²: its box ends before a/√3, where that is 0."""
    proof = proved(Objective(lambda x: ((x**2 - a**2) ** 2).sum(), [0.0]), None, "local maximum", 1, 1)
    assert 0.1 * a < proof.radius[0] < a / 3**0.5


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), gap=st.floats(-5, 0))
def test_the_box_has_no_other_critical_point(seed, gap):
    """L′ = ∏ (x − rᵢ) in every coordinate: roots near each other, or symmetric; turned, and with other units."""
    rng = np.random.default_rng(seed)
    roots = np.append(rng.normal(size=2), [0, 10**gap]) if seed % 2 else np.array([-1, 0, 1, 1 + 10**gap])
    coefficients = np.polyint(np.poly(roots))
    Q = np.linalg.qr(rng.normal(size=(2, 2)))[0] * 10 ** rng.uniform(-3, 3)

    def f(x):
        u = Q @ x
        return sum(c * u**k for k, c in enumerate(coefficients[::-1])).sum()

    points = [np.linalg.solve(Q, roots[[a, b]]) for a in range(4) for b in range(4)]
    for point in points[::3]:
        proof = critical.prove(Objective(f, point))
        if proof.proved:
            inside = [p for p in points if np.all(np.abs(p - proof.theta) <= proof.radius * (1 - 1e-9))]
            assert len(inside) == 1
        else:
            assert np.diff(np.sort(roots)).min() < 1e-3


@pytest.mark.parametrize("name", NIST)
def test_nist(name):
    """27 problems, with NIST's own certified values, which are good to eleven digits."""
    d = NIST[name]
    x, y = np.array(d["x"]), np.array(d["y"])
    model = eval("lambda b, x: " + d["model"], {"np": np})
    proof = critical.prove(Objective(lambda b: np.sum((model(b, x) - y) ** 2), d["certified"]))
    assert proof.proved, proof.why
    assert (proof.kind, proof.negative) == ("local minimum", 0)
    certified = np.array(d["certified"])
    np.testing.assert_allclose(proof.theta, certified, rtol=1e-6, atol=1e-12)


def trained(sizes, activation, decay, loss, y, X):
    model = nn.MLP(sizes, activation, rng=0)
    objective = Objective.of(model, lambda: loss(model(X), y) + decay * sum((p * p).sum() for p in model.parameters()))
    trajectory(objective, optim.LBFGS(objective.parameters), 60)
    trajectory(objective, optim.Newton(objective.parameters), 40)
    return objective


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU])
@pytest.mark.parametrize("loss", [nn.cross_entropy, nn.mse_loss])
def test_a_net_with_decay(activation, loss):
    X = np.random.default_rng(0).normal(size=(20, 2))
    labels = (X[:, 0] * X[:, 1] > 0).astype(int)
    y = labels if loss is nn.cross_entropy else np.eye(2)[labels]
    objective = trained((2, 4, 2), activation, 1e-2, loss, y, X)
    proof = critical.prove(objective)
    assert proof.proved, proof.why
    assert (proof.kind, proof.positive) == ("local minimum", 22)
    # as the eigenvalues say at random points of the box
    rng = np.random.default_rng(0)
    for _ in range(3):
        H = objective.hessian(proof.theta + proof.radius * rng.uniform(-1, 1, 22))
        assert np.linalg.eigvalsh(H)[0] > 0


# Flat directions ------------------------------------------------------------------------------------------------------


def test_a_slice_says_what_it_assumes():
    proof = critical.prove(Objective(lecture, [1.0, 1.0]))
    assert (proof.proved, proof.kind, proof.positive, proof.flat) == (True, "local minimum", 1, 1)
    assert "assuming that L is constant along" in proof.assuming
    assert "rescaling" in str(proof)


def test_parameters_without_effect_are_proved_to_be_such():
    proof = critical.prove(Objective(lambda w: (w[0] - 1) ** 2 + 0.0 * w[1] + np.exp(w[2]) - w[2], [1.0, 7.0, 0.0]))
    assert (proof.proved, proof.flat, proof.assuming) == (True, 1, "")
    seen = critical.prove(Objective(lambda w: (w[0] - 1) ** 2 + w[1] ** 4, [1.0, 0.0]))
    assert not seen.proved or seen.assuming


# What is false is refused ---------------------------------------------------------------------------------------------

BIG, ONES, TWENTY = np.array([[2**53 + 1]]), np.array([[1.0]]), np.array([20])
FALSE = {
    "not critical": (rosenbrock, [-1.2, 1.0]),
    "linear in b": (lambda w: 1e15 * w[0] ** 2 + w[1], [0.0, 3.0]),
    "a ramp with ripples": (lambda x: x[0] + np.sin(1e4 * x[0]) / (2 * np.pi * 1e4), [-np.pi / 2e4]),
    "zero but for rounding": (lambda x: (0.1 * x**2 + 0.2 * x**2 - 0.3 * x**2).sum(), [0.0]),
    "zero but for rounding, elsewhere": (
        lambda x: (0.1 * (x - 1) ** 2 + 0.2 * (x - 1) ** 2 - 0.3 * (x - 1) ** 2).sum(), [1.0],
    ),
    "a kink": (lambda x: np.abs(x).sum() + (x * x).sum(), [0.0, 0.0]),
    "a kink that cancels at first order": (lambda x: (x * np.abs(x)).sum() + (x * x).sum(), [0.0, 0.0]),
    "relu on its kink": (lambda x: (nn.functional.relu(x) + x * x - x).sum(), [0.0]),
    "a jump": (lambda x: np.where(x > 0, 0.5, 0.0).sum() + (x * x).sum(), [0.0]),
    "pieces": (lambda x: np.where(x > 0, x * x, 2 * x * x).sum(), [0.0]),
    "a mask": (lambda x: (x * x * (2.0 * (x >= 0) - 1)).sum() + 2 * (x * x).sum(), [0.0, 0.0]),
    "an if": (lambda x: x[0] ** 2 if x[0] >= 0 else 2 * x[0] ** 2, [0.0]),
    "sorted": (lambda x: 3 * x[0] ** 2 + x[1] ** 2 - 2 * np.sort(x)[0] ** 2, [0.0, 0.0]),
    "floor": (lambda x: np.floor(x).sum() + (x * x).sum(), [0.0]),
    "log at 0": (lambda x: (x * x * np.log(x * x)).sum() + (x * x).sum(), [0.0]),
    "a double root": (lambda x: (x**3 - 3 * x**2 + 3 * x).sum(), [1.0]),
    "a point far beside the minimum": (lambda x: ((x - 1) ** 2 * (x**2 + 1)).sum(), [0.5]),
    # what once was proved
    "a sign that is asked": (lambda x: (x * x).sum() - np.where(np.sign(x) == 1, 1.0, 0.0).sum(), [0.0]),
    "two answers compared": (lambda p: (p**2).sum() - np.where((p[0] > 0) != (p[1] > 0), 1.0, 0.0), [0.0, 0.0]),
    "exp of a sign": (lambda x: (x * x - np.exp(np.sign(x))).sum(), [0.0]),
    "a mask as a number": (lambda x: (x * x).sum() - np.exp((x > 0).astype(float)).sum(), [0.0]),
    "a mask in a product": (lambda x: (x * x).sum() - ((x.reshape(1, 1) > 0) @ np.ones((1, 1))).sum(), [0.0]),
    "a mask that is summed": (lambda x: (x * x).sum() - np.exp(np.sum(x[0:1] > 0)), [0.0]),
    "a sign without effect": (lambda p: np.cosh(p[0]) + np.exp(np.sign(p[1])), [0.0, 0.0]),
    "a number as a truth": (
        lambda x: (x * x).sum() - np.where(np.logical_or(np.maximum(x, 0), False), 1.0, 0.0).sum(), [0.0],
    ),
    "not of a number": (lambda x: (x * x).sum() - np.where(np.logical_not(np.maximum(x, 0)), 0.0, 1.0).sum(), [0.0]),
    "integers beyond doubles": (lambda x: (100 * x**4).sum() + ((x + 1000 * (BIG @ ONES - 2.0**53)) ** 2).sum(), [0.0]),
    "integers cast": (lambda x: (100 * x**4).sum() + ((x + 1000 * (BIG.astype(float) - 2.0**53)) ** 2).sum(), [0.0]),
    "tanh of an integer": (lambda x: (100 * x**4).sum() + ((x + 1e20 * (1 - np.tanh(TWENTY))) ** 2).sum(), [0.0]),
    "a detached part": (lambda x: ((x - 1) ** 2).sum() + ((x.detach() - 3) ** 2).sum(), [1.0]),
    "the value itself": (lambda x: (x * x).sum() + np.arctan2(x.value, -1.0).sum(), [0.0]),
    "another answer each time": (lambda x: (x * x).sum() + np.random.default_rng().normal() * x.sum(), [0.0]),
    "the cut of arctan2": (
        lambda p: np.arctan2(p[1], p[0]) + p[1] + np.cosh(30 * (p[0] + 1)) / 90 + np.cosh(30 * p[1]) / 90, [-1.0, 0.0],
    ),
    **{name: (f, np.zeros(n)) for name, (f, n) in DEGENERATE.items() if name != "Peano"},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", FALSE)
def test_false_claims_are_refused(name):
    f, theta = FALSE[name]
    try:
        proof = critical.prove(Objective(f, theta))
    except mg.NotDifferentiableError:
        return
    assert not proof.proved or proof.assuming, proof
    if proof.proved:  # of the slice across the flat directions
        assert proof.flat
    else:
        assert proof.why
        assert str(proof).startswith("not proved: ")


def test_a_second_critical_point_stays_outside():
    """At −1/30 is another one: its gradient is 0, and a comparison decides there."""
    for mask in (lambda x: np.sign(x) == 1, lambda x: np.logical_and(np.maximum(x, 0), True)):
        f = lambda x, mask=mask: ((x - 0.1) ** 2).sum() + np.where(mask(x), 0 * x, -4 * x * x).sum()  # noqa: E731
        proof = critical.prove(Objective(f, [0.1]))
        assert not proof.proved or proof.radius[0] < 0.1


@pytest.mark.parametrize(
    "f", [lambda p: np.maximum(p[1], 0), lambda p: np.clip(p[1], 0, 1), lambda p: np.where(p[1] > 0, p[1], 0)]
)
def test_literal_integers_among_balls(f):
    proof = critical.prove(Objective(lambda p: np.cosh(p[0]) + f(p), [0.0, -1.0]))
    assert proof.proved or proof.why


def test_a_function_of_the_same_name_is_another():
    def named(name, body):
        def function(x):
            return np.array([body(v) for v in np.ravel(x)]).reshape(np.shape(x))

        function.__name__ = function.__qualname__ = name
        return function

    turns = 2 * np.pi
    sin = mg.rules.composite(lambda g, out, x: g * turns * cos(x), smooth=True)(
        named("sin", lambda v: np.sin(turns * v))
    )
    cos = mg.rules.composite(lambda g, out, x: -g * turns * sin(x), smooth=True)(
        named("cos", lambda v: np.cos(turns * v))
    )
    proof = critical.prove(Objective(lambda x: -cos(x).sum(), [0.0]))
    assert not proof.proved or proof.radius[0] < 0.5


def test_the_sentence_gives_the_narrowest_and_the_widest():
    proof = critical.prove(Objective(lambda p: np.cos(p[0]) + (p[1] * 1e-3) ** 2, [np.pi, 0.0]))
    assert proof.radius[0] < np.pi
    assert "half widths 1.3 to 8.9e+02" in str(proof)


def test_a_critical_point_elsewhere_is_no_answer():
    proof = critical.prove(Objective(himmelblau, [0.0, 0.0]))
    assert not proof.proved
    assert "0.92 away: ask there" in proof.why
    assert critical.prove(Objective(himmelblau, proof.theta)).kind == "local maximum"


def test_what_has_no_program():
    proof = critical.prove(Objective.external(lambda x: (np.sum(x**2), 2 * x), [0.0], smooth=True))
    assert "computed elsewhere" in proof.why


def test_nothing_is_changed():
    from flint import ctx

    objective, bits = Objective(rosenbrock, [0.9, 0.9]), ctx.prec
    critical.prove(objective, [1.0, 1.0])
    np.testing.assert_array_equal(objective.theta, [0.9, 0.9])
    assert ctx.prec == bits
