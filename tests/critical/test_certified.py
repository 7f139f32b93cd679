"""No certificate is false: random objectives whose answer is known, and those that once broke one.

``pytest tests/critical/test_certified.py --objectives 10000`` tries as many.
"""

import math

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import critical

MIN, MAX, SADDLE = "local minimum", "local maximum", "saddle point"
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


# Objectives with a planted answer: f of z = Q (θ − θ₀) / units, and the kinds that may be certified at z = 0 ----------


def strict(rng, n, spread=4.0):
    """½ zᵀΛz with cubic and quartic terms: the signs of Λ decide."""
    curvatures = 10 ** rng.uniform(-spread, spread, n) * rng.choice([-1, 1], n, p=[0.3, 0.7])
    if rng.random() < 0.5:
        curvatures = np.abs(curvatures)
    a, b = rng.normal(size=(2, n, n)) * np.abs(curvatures) * 0.1

    def f(z):
        return (curvatures * z * z).sum() / 2 + ((a @ z) ** 3).sum() + ((b @ z) ** 4).sum()

    kind = MIN if (curvatures > 0).all() else MAX if (curvatures < 0).all() else SADDLE
    return f, {kind}


def manifold(rng, n):
    """½ ‖F(z)‖² with fewer rows than parameters: F = 0 is a surface of minima."""
    m = int(rng.integers(1, n))
    A, B = rng.normal(size=(m, n)), rng.normal(size=(m, n)) * rng.choice([0.0, 0.3])

    def residuals(z):
        return A @ z + B @ (z * z)

    return A, lambda z: (residuals(z) ** 2).sum() / 2


def surface(rng, n):
    return manifold(rng, n)[1], {MIN}


def false_surface(rng, n):
    """A surface that the loss leaves downhill, by a third, fourth or hidden second power."""
    A, f = manifold(rng, n)
    u = np.linalg.svd(A)[2][-1]
    power, size = [(3, 1.0), (4, -1.0), (6, -1.0), (3, -1e-3)][rng.integers(4)]
    return lambda z: f(z) + size * (u @ z) ** power, set()


def bent_saddle(rng, n):
    """½ y² + y x² + c x⁴ with c below ½: a saddle along y = −x², a minimum along every line."""
    c = rng.choice([0.0, 0.2, 0.45])
    return lambda z: (z[1:] ** 2).sum() / 2 + z[1] * z[0] ** 2 + c * z[0] ** 4, set()


def higher_minimum(rng, n):
    """A minimum that second derivatives do not show: it may be certified, and need not be."""
    return lambda z: (z[1:] ** 2).sum() + z[0] ** 4, {MIN}


def kinked(rng, n):
    f, _ = strict(rng, n)
    kink = [
        lambda z: np.abs(z[0]),
        lambda z: -np.maximum(z[0], z[1]),
        lambda z: np.linalg.norm(z),
        lambda z: np.where(z[0] > 0, z[0], 0.0),
        lambda z: -np.sort(z)[0] * z[1],
    ][rng.integers(5)]
    return lambda z: f(z) + kink(z), set()


def jumping(rng, n):
    f, _ = strict(rng, n)
    jump = [
        lambda z: np.where(z[0] > 0, 0.0, -1.0),
        lambda z: np.floor(z[0]),
        lambda z: z[0] // 1.0,
        lambda z: -1.0 if z[0] < 0 else 0.0,
        lambda z: (z * z * (2.0 * (z >= 0) - 1)).sum() * 1e9,
    ][rng.integers(5)]
    return lambda z: f(z) + jump(z), set()


def cancelled(rng, n):
    """Terms that cancel: of the curvature nothing is left but rounding."""
    a, b = rng.uniform(0.1, 0.9, 2)
    return lambda z: (a * z * z + b * z * z - (a + b) * z * z).sum() * 10.0 ** rng.integers(-5, 5), set()


def noisy(rng, n):
    """Another answer at each call: of a larger size than the curvature."""
    noise = np.random.default_rng(int(rng.integers(1000)))
    return lambda z: (z * z).sum() + 30 * (noise.normal(size=n) * z * z).sum(), set()


def hidden(rng, n):
    """A stiff valley that falls along its floor, by what the stiff direction's rounding may hide."""
    A, f = manifold(rng, n)
    u = np.linalg.svd(A)[2][-1]
    return lambda z: 10.0 ** rng.integers(6, 15) * f(z) - (u @ z) ** 2, {SADDLE}


MAKERS = [
    strict, strict, surface, surface, false_surface, bent_saddle, higher_minimum, kinked, jumping, cancelled, noisy,
    hidden,
]  # fmt: skip


def planted(seed):
    """An objective, θ₀, the kinds that may be certified there, and what it is made of."""
    rng = np.random.default_rng([seed, 15])
    maker = MAKERS[rng.integers(len(MAKERS))]
    n = int(rng.integers(2, 6))
    dtype = np.float32 if maker is strict and rng.random() < 0.2 else np.float64
    f, kinds = strict(rng, n, 0.5) if dtype == np.float32 else maker(rng, n)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0] if rng.random() < 0.5 and maker not in (kinked, jumping) else np.eye(n)
    units = 10.0 ** rng.uniform(-9, 9, n) if dtype == np.float64 else np.ones(n)
    center = np.zeros(n) if rng.random() < 0.5 else rng.normal(size=n) * units
    scale = 2.0 ** rng.integers(-600, 600) if dtype == np.float64 and rng.random() < 0.3 else 1.0
    off = rng.random() < 0.1 and bool(center.any())
    theta = (center + off * 0.1 * rng.normal(size=n) * units).astype(dtype)
    Q, units, center = Q.astype(dtype), units.astype(dtype), center.astype(dtype)

    def loss(theta):
        return scale * f(Q @ ((theta - center) / units))

    return mg.Objective(loss, theta), set() if off else kinds, f"{maker.__name__}, seed {seed}"


def judged(seed):
    """ "false: ..." for a certificate that is; else "certified", or "undecided"."""
    objective, kinds, name = planted(seed)
    try:
        point = critical.classify(objective)
    except (mg.NonFiniteError, mg.NotDifferentiableError):
        return "undecided"
    if point.certified and point.kind not in kinds:
        return f"false: {name}: {point.kind}, {point.negative}/{point.zero}/{point.positive}"
    if not kinds:
        return "rightly not certified"
    return "certified" if point.certified else f"undecided: {name.partition(',')[0]}"


@pytest.mark.parametrize("chunk", range(8))
def test_no_certificate_is_false(chunk, pytestconfig):
    count = pytestconfig.getoption("--objectives")
    found = [judged(seed) for seed in range(chunk, count, 8)]
    assert [text for text in found if text.startswith("false")] == []
    counts = {text: found.count(text) for text in sorted(set(found))}
    print(counts)
    plain = counts.get("undecided: strict", 0) + counts.get("undecided: surface", 0)
    assert plain <= counts["certified"], "what second derivatives decide is decided"


# What once broke a certificate ----------------------------------------------------------------------------------------


BROKEN = {
    "y² + x²y": (lambda p: p[1] ** 2 + p[0] ** 2 * p[1], [0.0, 0.0]),
    "z² + xyz": (lambda p: p[2] ** 2 + p[2] * p[0] * p[1], [0.0, 0.0, 0.0]),
    "a circle": (lambda p: (p[0] ** 2 + p[1] ** 2 - 1) ** 2 + p[2] ** 2 + p[2] * (p[0] - 1) ** 2, [1.0, 0.0, 0.0]),
    "a hyperbola": (lambda p: (p[0] * p[1] - 1) ** 2 + p[2] ** 2 + p[2] * (p[0] - 1) ** 2, [1.0, 1.0, 0.0]),
    "a stiff hyperbola": (lambda w: 1e14 * (w[0] * w[1] - 1) ** 2 - (w[0] - 1) ** 2, [1.0, 1.0]),
    "linear in b": (lambda w: 1e15 * w[0] ** 2 + w[1], [0.0, 3.0]),
    "elsewhere": (lambda w: 1e15 * w[0] ** 2 + (w[1] - 1) ** 2, [0.0, 3.0]),
    "ripples": (lambda x: x[0] + np.sin(1e4 * x[0]) / (2 * np.pi * 1e4), [-np.pi / 2e4]),
    "cancellation": (lambda x: (0.1 * x**2 + 0.2 * x**2 - 0.3 * x**2).sum(), [0.0]),
    "Peano": (lambda p: (p[1] - p[0] ** 2) * (p[1] - 3 * p[0] ** 2), [0.0, 0.0]),
    "Peano, in other units": (
        lambda u: (2.0**30 * u[1] - (2.0**-30 * u[0]) ** 2) * (2.0**30 * u[1] - 3 * (2.0**-30 * u[0]) ** 2), [0.0, 0.0],
    ),
    "if": (lambda x: x[0] ** 2 + x[1] ** 2 if x[0] >= 0 else -1 + 0 * x[0], [0.0, 0.0]),
    "ripples as long as a step": (lambda p: p[1] ** 2 - np.sin(1000 * np.pi * p[0]) ** 6, [0.0, 0.0]),
    "noise up to a kink": (
        lambda p: p[1] ** 2 - (p[0] - 1) ** 8 + 1e3 * np.exp(p[0]) - 1e3 * np.exp(p[0])
        + 1e-30 * np.maximum(np.abs(p[0] - 1) - 0.05, 0), [1.0, 0.0],
    ),
    "a division before the fall": (lambda p: p[1] ** 2 - np.exp(-1 / (p[0] ** 2 + 1e-300)), [0.0, 0.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_broke_a_certificate_breaks_none(name):
    f, theta = BROKEN[name]
    point = critical.classify(mg.Objective(f, theta))
    assert not (point.kind in (MIN, MAX) and point.certified)


@pytest.mark.parametrize("bend", [(0.7, 1e-3, 0.03), (0.25, 2e-3, 0.14)])
def test_a_valley_is_followed_around_its_bends(bend):
    """y = g(x) bends too often for long steps; along it the loss falls, at first by less than rounding."""
    high, long, fall = bend

    def f(p):
        x = p[0] - 1
        return (p[1] - high * (np.cos(x / long) - 1)) ** 2 - fall * x**10

    assert not critical.classify(mg.Objective(f, [1.0, 0.0])).certified


@pytest.mark.parametrize("hvp", [None, lambda x, v: 2 * v])
def test_a_jump_of_a_loss_that_is_computed_elsewhere(hvp):
    """Beside θ the loss is lower by 0.1. The gradient does not tell; it is no noise."""
    center = np.array([1.0, 2.0])

    def jumping(x):
        return (x - center) @ (x - center) - 0.1 * (x[0] > 1), 2 * (x - center)

    def smooth(x):
        return (x - center) @ (x - center), 2 * (x - center)

    assert not critical.classify(mg.Objective.external(jumping, center, hvp)).certified
    assert critical.classify(mg.Objective.external(smooth, center, hvp)).certified


def test_a_one_pass_variance_is_not_certified_a_maximum():
    d = 1e8 + np.arange(3.0)
    point = critical.classify(mg.Objective(lambda t: np.mean((t[0] * d) ** 2) - np.mean(t[0] * d) ** 2, [0.0]))
    assert not (point.kind == MAX and point.certified)


# Surfaces of minima that are on no list of symmetries -----------------------------------------------------------------


def energy(n, d):
    """The Lennard-Jones energy of n points: moving and turning all of them changes nothing."""

    def f(x):
        r = x.reshape(n, d)
        pairs = [np.sum((r[i] - r[j]) ** 2) for i in range(n) for j in range(i)]
        return sum((s**-6 - 2 * s**-3 for s in pairs), start=0.0)

    return f


TRIANGLE = np.array([[0, 0], [1, 0], [0.5, math.sqrt(3) / 2]])
A = np.random.default_rng(0).normal(size=(3, 5))
B = np.random.default_rng(1).normal(size=(9, 2))[:, [0, 1, 0]]

SURFACES = {
    "the lecture's valley": (lambda w: (1 - w[0] * w[1]) ** 2, [1.0, 1.0], 1),
    "a circle": (lambda p: (p[0] ** 2 + p[1] ** 2 - 1) ** 2, [1.0, 0.0], 1),
    "a cluster in the plane": (energy(3, 2), TRIANGLE.ravel(), 3),
    "a cluster in space": (energy(3, 3), np.c_[TRIANGLE, np.zeros(3)].ravel(), 6),
    "fewer rows than parameters": (lambda w: np.sum((A @ w - 1) ** 2), np.linalg.pinv(A) @ np.ones(3), 2),
    "two equal columns": (lambda w: np.sum((B @ w - np.arange(9.0)) ** 2), np.linalg.pinv(B) @ np.arange(9.0), 1),
}


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_of_minima_is_certified(name):
    f, theta, flat = SURFACES[name]
    point = critical.classify(mg.Objective(f, theta))
    assert (point.kind, point.certified, point.zero, point.explained) == (MIN, True, flat, flat)
