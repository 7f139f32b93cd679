"""JavaScript that was derived gives, in Chromium, what the engine gives, to 1e-12."""

from __future__ import annotations

import json

import numpy as np
import pytest
from programs import data, program

import microgradopt as mg
from microgradopt import nn, optim
from microgradopt.program.program import MISFIT, Program
from microgradopt.program.trace import traced
from microgradopt.program.tracer import TracingError

SCRIPT = """
const [texts, calls] = arguments;
const functions = texts.map(text => (0, eval)("(" + text + ")"));
const told = (key, x) => typeof x === "number" ? "#" + x : x;
return JSON.stringify(calls.map(([i, args]) => {
  try { return functions[i](...args); } catch (error) { return "error: " + error.message; }
}), told);
"""


def number(x):
    """What came back, with numbers again."""
    if isinstance(x, dict):
        return {key: number(value) for key, value in x.items()}
    if isinstance(x, list):
        return [number(part) for part in x]
    return float(x[1:].replace("Infinity", "inf")) if isinstance(x, str) and x.startswith("#") else x


def plain(x):
    """What the engine gives or takes, as a page has it."""
    x = getattr(x, "data", x) if isinstance(x, mg.Tensor) else x
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    return [plain(part) for part in x] if isinstance(x, list | tuple) else np.asarray(x).tolist()


def run(chromium, texts, calls):
    """The results of calls, each the number of a text and its arguments."""
    found = chromium.execute_script(SCRIPT, list(texts), [[i, plain(list(args))] for i, args in calls])
    return [number(x) for x in json.loads(found)]


def numbers(x):
    if isinstance(x, dict):
        return [n for key in sorted(x) for n in numbers(x[key])]
    return [n for part in x for n in numbers(part)] if isinstance(x, list) else [x]


def assert_near(found, expected, near=1e-12):
    """To `near`, or, where numbers are larger than 1, of the largest of them."""
    found, expected = numbers(found), numbers(plain(expected))
    assert len(found) == len(expected), found[:3]
    size = max([1.0, *(abs(x) for x in expected if np.isfinite(x))])
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=0, atol=near * size)


# Surfaces, and steps on them ------------------------------------------------------------------------------------------

SURFACES = {
    "ellipse": lambda w: w[0] ** 2 + 20 * w[1] ** 2,
    "Rosenbrock": lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2,
    "Himmelblau": lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2,
    "saddle": lambda w: w[0] ** 2 - w[1] ** 2 + w[1] ** 4 / 4,
    "hills": lambda w: np.sin(w[0]) * np.cos(w[1]) + 0.1 * np.exp(-w[0] * w[1] / 10) + np.tanh(w).sum(),
}


@pytest.mark.parametrize("name", SURFACES)
def test_value_gradient_and_hessian(name, chromium):
    f, points = SURFACES[name], np.random.default_rng(0).normal(size=(50, 2)) * 2

    def all_of(w):
        value = f(w)
        return value, mg.grad(value, w)[0], mg.hvp(value, w, np.array([1.0, -2.0]))[0]

    text = mg.source(all_of, mg.Tensor(points[0], requires_grad=True), target="javascript")
    expected = [all_of(mg.Tensor(w, requires_grad=True)) for w in points]
    for found, one in zip(run(chromium, [text], [(0, [w]) for w in points]), expected, strict=True):
        assert_near(found, one)


RATES = {"Muon": 0.02, "Lion": 0.02, "RMS": 0.1, "Adagrad": 0.3, "Adadelta": 1.0, "SGD": 1e-3, "Momentum": 1e-3}
FIRST_ORDER = [
    (optim.SGD, {}), (optim.SGD, {"momentum": 0.9, "nesterov": True}), (optim.Momentum, {}), (optim.RMS, {}),
    (optim.Adagrad, {}), (optim.RMSprop, {"centered": True}), (optim.Adadelta, {}), (optim.Adam, {}),
    (optim.Adam, {"amsgrad": True}), (optim.AdamW, {}), (optim.Adamax, {}), (optim.NAdam, {}), (optim.RAdam, {}),
    (optim.Lion, {}), (optim.ScheduleFreeAdamW, {}), (optim.Muon, {}),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "options"), FIRST_ORDER)
def test_two_hundred_single_steps_on_each_surface(optimizer, options, chromium):
    """Each from the engine's own state: whole runs are chaotic. With hyperparameters as arguments."""
    texts, calls, expected = [], [], []
    for name, f in SURFACES.items():
        w = mg.Tensor([-1.2, 1.0], requires_grad=True)
        mover = optimizer([w], lr=RATES.get(optimizer.__name__, 0.05) / (50 if name == "Rosenbrock" else 1), **options)

        def step(f=f, w=w, mover=mover):
            mover.zero_grad()
            loss = f(w)
            loss.backward()
            mover.step()
            return loss

        step()
        made = None
        for _ in range(200):
            given = [] if made is None else made.read([])
            if made is None or (loss := made.run([])) is MISFIT:  # another formula from now on: RAdam's, after 5 steps
                made = Program(traced(step, (), {}, [], (), free=True))
                texts.append(mg.source(step, target="javascript", hyperparameters=True))
                given = made.read([])
                loss = made.run([])
            calls.append((len(texts) - 1, given))
            state = next(iter(mover.blocks()))[-1]
            expected.append(plain([loss, w.grad, dict(state), w]))
    for (i, _), found, (loss, grad, state, theta) in zip(calls, run(chromium, texts, calls), expected, strict=True):
        assert isinstance(found, list), (texts[i], found)
        value, done = found
        assert_near(value, loss)
        assert_near(next(x for key, x in done.items() if key.endswith("grad")), grad)
        assert_near(done["theta"], theta)
        for key in done.keys() & state.keys():
            assert_near(done[key], state[key])


def test_a_whole_run_on_the_ellipse(chromium):
    w = mg.Tensor([2.0, 1.0], requires_grad=True)
    adam = optim.Adam([w], lr=0.05)

    def step():
        adam.zero_grad()
        loss = SURFACES["ellipse"](w)
        loss.backward()
        adam.step()
        return loss

    step()
    text = mg.source(step, target="javascript")
    loop = """(given, n) => { for (let i = 0; i < n; i++) {
        const [, done] = step(given.theta, given.lr, given.step, given.t, given.m, given.v, given.theta);
        given = {...given, ...done}; } return given.theta; }"""
    assert list(text.inputs)[1:] == ["lr", "step", "t", "m", "v", "theta"]
    found = chromium.execute_script(f"{text}; return ({loop})(...arguments)", plain(text.inputs), 300)
    for _ in range(300):
        step()
    np.testing.assert_allclose(found, w.data, rtol=1e-9)


# Networks, and programs of all kinds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.Softplus, nn.ELU, nn.SiLU])
@pytest.mark.parametrize("loss", [nn.mse_loss, nn.cross_entropy, nn.huber_loss])
def test_networks(activation, loss, chromium):
    rng, model = np.random.default_rng(0), nn.MLP((2, 4, 3), activation, rng=0)
    y = rng.integers(0, 3, 6) if loss is nn.cross_entropy else rng.normal(size=(6, 3))

    def gradient(x):
        value = loss(model(x), y)
        return value, mg.grad(value, list(model.parameters()))

    X = rng.normal(size=(6, 2))
    text = mg.source(gradient, X, target="javascript")
    (found,) = run(chromium, [text], [(0, text.inputs.values())])
    assert_near(found, gradient(X))


def test_random_programs(chromium):
    """Values and gradients of programs of all functions that a generator knows; what is refused, says so."""
    rng = np.random.default_rng(0)
    texts, calls, expected = [], [], []
    for _ in range(200):
        made = program([(bool(rng.integers(2)), *rng.integers(0, 10**6, size=3)) for _ in range(rng.integers(1, 5))])
        x, w = data(seed=int(rng.integers(10**6)))
        x, w = x[:2, :2], mg.Tensor(w[:2, :2], requires_grad=True)

        def derived(x, w, made=made):
            value = made(x, w)
            return value, mg.grad(value, w)

        try:
            texts.append(mg.source(derived, x, w, target="javascript"))
        except TracingError:
            continue
        calls.append((len(texts) - 1, texts[-1].inputs.values()))
        expected.append(derived(x, w))
    for found, one in zip(run(chromium, texts, calls), expected, strict=True):
        assert_near(found, one, 1e-10)
    assert len(texts) > 120


A, B = np.random.default_rng(1).normal(size=(2, 3)), np.random.default_rng(2).normal(size=3)


def in_place(x):
    y = np.zeros_like(x)
    y[1:] = x[1:] * 2
    return y + x


CALLS = {
    "broadcast": lambda a, b: a * b + b, "mask": lambda a, b: (a > 0) * a, "counted": lambda a, b: ((a > 0).sum(), (a > 0).mean()),
    "one truth value": lambda a, b: (a[:1, :1] > 0).sum() == 1, "both": lambda a, b: np.where((a > 0) & (a < 1), a, -a),
    "either": lambda a, b: np.where((a > 0) ^ (a < 1), a, -a), "not": lambda a, b: np.where(~(a > 0), a, -a),
    "remainders": lambda a, b: (a % 0.7, a // 0.7), "backwards": lambda a, b: a[-1, ::-1], "places": lambda a, b: a[[0, 0, 1], [1, 1, 2]],
    "std": lambda a, b: np.std(a, axis=1, ddof=1), "var": lambda a, b: np.var(a, axis=(0, 1), keepdims=True),
    "largest": lambda a, b: (np.max(a), np.min(a, axis=(0,), keepdims=True)), "einsum": lambda a, b: np.einsum("ij,j->i", a, b),
    "products": lambda a, b: (b @ b, a @ b, np.stack([a, a]) @ a.T), "none of them": lambda a, b: (a[:0] * 2, a[:0].sum() + 1),
    "words": lambda a, b: {'a"b</script>': a, "y": (a * 2, None, "text", [True, 3])}, "powers": lambda a, b: (a**3, a**2, a**1, a**0, a**-1, 2**a),
    "signs": lambda a, b: -np.negative(-a) - (-(a * -1)), "brackets": lambda a, b: a - (b - a) - (a - (b - (a - b))) / (b / a) / (a * (b / (a * b))),
    "limits": lambda a, b: np.minimum(a, np.inf) + np.maximum(a, -np.inf), "far": lambda a, b: (np.logaddexp(a * 200, 0.0), mg.softmax(a * 500, -1)),
    "sums": lambda a, b: (np.cumsum(a, axis=1), np.prod(a, axis=1), np.trace(a @ a.T), np.outer(b, b)),
    "moved": lambda a, b: (np.pad(a, 1), np.roll(a, 1, axis=1), np.flip(a), np.tile(a, (2, 1)), np.repeat(a, 2, axis=0), np.swapaxes(a, 0, 1)),
    "logarithms": lambda a, b: np.log2(a * a) + np.log10(a * a) + np.log1p(a * a) + np.expm1(a) + np.exp2(a),
    "circles": lambda a, b: np.sin(a) + np.cos(a) + np.tan(a) + np.arctan(a) + np.sinh(a) + np.arcsinh(a) + np.arctan2(a, a * a + 1),
    "not numbers": lambda a, b: (np.isfinite(np.log(a)), np.log(a), 1 / (a * 0)), "asked": lambda a, b: (np.all(a > -9), np.any(a > 9, axis=0)),
    "cast": lambda a, b: ((a > 0).astype(float) * 2 == 2.0, (a * 3).astype(int)), "compared": lambda a, b: (a == a, a != b, a <= b),
    "one of one": lambda a, b: in_place(np.stack([a.reshape(-1)[:1].reshape(()), b[1]])), "in place": lambda a, b: in_place(b), "long": lambda a, b: (b * np.arange(300.0).reshape(100, 3)).sum(),
    "standardised": lambda a, b: nn.functional.standardize(a, (-1,), 1e-5), "heaviside": lambda a, b: np.heaviside(a, 0.5),
    "logits": lambda a, b: nn.binary_cross_entropy_with_logits(a, (A > 0) * 1.0), "shares": lambda a, b: nn.cross_entropy(a, np.full((2, 3), 1 / 3)),
}  # fmt: skip


def test_calls_of_all_kinds(chromium):
    texts, expected = [], []
    with np.errstate(all="ignore"):
        for function in CALLS.values():
            texts.append(mg.source(function, A, B, target="javascript"))
            expected.append(function(A, B))
    found = run(chromium, texts, [(i, text.inputs.values()) for i, text in enumerate(texts)])
    for name, one, other in zip(CALLS, found, expected, strict=True):
        mine, theirs = numbers(one), numbers(plain(other))
        assert [type(x) for x in mine if not isinstance(x, float | int)] == [
            type(x) for x in theirs if not isinstance(x, float | int)
        ], name
        is_number = [isinstance(x, float | int) for x in theirs]
        np.testing.assert_allclose(
            np.array([x for x, of in zip(mine, is_number, strict=True) if of], float),
            np.array([x for x, of in zip(theirs, is_number, strict=True) if of], float),
            rtol=1e-11, atol=1e-12, err_msg=name,
        )  # fmt: skip
        assert [x for x, of in zip(mine, is_number, strict=True) if not of] == [
            x for x, of in zip(theirs, is_number, strict=True) if not of
        ]


# What is written, and what is not -------------------------------------------------------------------------------------


def test_each_term_that_stands_twice_has_a_name():
    text = mg.source(lambda x: np.tanh(x) * np.exp(np.tanh(x)).sum(), np.ones(2), target="javascript")
    assert text.count("Math.tanh(x[0])") == text.count("Math.tanh(x[1])") == 1
    assert text.startswith("function program(x) {\n  const tanh_0 = Math.tanh(x[0]);\n")


def test_words_of_javascript_are_no_names(chromium):
    def function(new, var, let):
        return new * var + let

    text = mg.source(function, 1.5, np.ones(2), np.array([0.5, -0.5]), target="javascript")
    (found,) = run(chromium, [text], [(0, text.inputs.values())])
    assert_near(found, function(1.5, np.ones(2), np.array([0.5, -0.5])))


@pytest.mark.parametrize(
    "function",
    [np.sort, np.linalg.inv, lambda x: np.linalg.norm(np.linalg.inv(x)), np.argmax, lambda x: x[np.argmax(x[0])]],
)
def test_what_there_is_no_spelling_of(function):
    with pytest.raises(TracingError, match="javascript"):
        mg.source(function, np.eye(2), target="javascript")


def test_large_arrays_are_refused():
    with pytest.raises(TracingError, match="small arrays"):
        mg.source(lambda x: np.tanh(x @ x), np.eye(60), target="javascript")


def test_labels_are_checked(chromium):
    def labelled(x, y):
        return nn.cross_entropy(x, y)

    texts = [
        mg.source(mg.compile(lambda x: np.where(x > 0, x, -x)), B, target="javascript"),
        mg.source(labelled, A, np.array([2, 0]), target="javascript"),
    ]
    calls = [(0, [B]), (1, [A, [2, 0]]), (1, [A, [2, 1]]), (1, [A, [-1, 0]])]
    found = run(chromium, texts, calls)
    assert_near(found[0], np.abs(B))
    assert_near(found[1], labelled(A, np.array([2, 0])))
    assert found[2] == found[3] == "error: not the values this was printed for"


def test_what_has_to_hold_is_checked(chromium):
    w = mg.Tensor([1.0, 2.0], requires_grad=True)
    sgd = optim.SGD([w], lr=0.1)

    def step():
        sgd.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        sgd.step()
        return loss

    text = mg.source(step, target="javascript")
    right, wrong = run(chromium, [text], [(0, text.inputs.values()), (0, (text.inputs | {"lr": -1.0}).values())])
    assert isinstance(right, list)
    assert wrong == "error: not the values this was printed for"
