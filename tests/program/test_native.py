"""Native loops: the results of NumPy, to rounding; machine code that is kept, and never taken from a stranger.

``pytest tests/program/test_native.py --programs 2000`` makes machine code of random programs, too.
"""

import functools
import itertools

import numpy as np
import pytest
from programs import data, program

import microgradopt as mg
from microgradopt import nn, optim
from microgradopt.optim import schedules
from microgradopt.training import ManyRuns, Run, vary

pytest.importorskip("numba")
pytestmark = pytest.mark.long

NATIVE = functools.partial(mg.compile, check="never", engine="numba")
NUMPY = functools.partial(mg.compile, check="never")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("machine code")


@pytest.fixture(autouse=True)
def kept_there(folder, monkeypatch):
    monkeypatch.setenv("MICROGRADOPT_CACHE", str(folder))


# Functions of numbers ---------------------------------------------------------------------------------------------------

rng = np.random.default_rng(4)
NUMBERS = np.concatenate(
    [
        rng.uniform(-708, 709.7, 4000),
        rng.normal(size=2000),
        rng.normal(size=500) * 1e-3,
        2.0 ** -rng.integers(1, 900, 200),
    ]
)
EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e308, -1e308, 709.78, 709.79, -745.0, 5e-324, -5e-324, 22.0, -22.5, 1.0]


def units(found, exact):
    """How many units in the last place are between a float64 and the exact number."""
    return np.abs((found.astype(np.longdouble) - exact) / np.spacing(np.abs(exact.astype(float)))).astype(float)


@pytest.mark.parametrize(("name", "room"), [("exp", 2.0), ("tanh", 3.0)])
def test_functions_of_numbers(name, room):
    from microgradopt.program.native import math

    mine, numpys = getattr(math, name), getattr(np, name)
    assert np.finfo(np.longdouble).eps < 1e-18, "the oracle needs more digits"
    found = np.array([mine(x) for x in NUMBERS])
    assert units(found, numpys(NUMBERS.astype(np.longdouble))).max() <= room
    with np.errstate(all="ignore"):
        for x in EDGES:
            y, expected = mine(x), numpys(x)
            assert abs(y - expected) <= 3e-308 or y == pytest.approx(expected, rel=1e-15, nan_ok=True)
            assert np.signbit(y) == np.signbit(expected) or np.isnan(x)


# Products ---------------------------------------------------------------------------------------------------------------

SIZES = [*itertools.product(range(1, 10), repeat=3), (17, 33, 5), (4, 3, 300), (8, 8, 513), (5, 100, 256), (31, 2, 31)]


def laid_out(A, layout):
    if layout == "transposed":
        return np.ascontiguousarray(A.T).T
    if layout == "strided":
        wide = np.full((2 * A.shape[0], 3 * A.shape[1]), np.nan, A.dtype)
        wide[::2, ::3] = A
        return wide[::2, ::3]
    return A


@pytest.mark.parametrize(
    ("dtype", "layout"), [(np.float64, "in order"), (np.float32, "transposed"), (np.float64, "strided")]
)
def test_products(dtype, layout):
    from microgradopt.program.native.math import multiply, multiply_transposed

    for m, k, n in SIZES:
        A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        room = 4 * k * np.finfo(dtype).eps * (np.abs(A) @ np.abs(B))
        mine, other = np.full((2, m, n), np.nan, dtype)
        multiply(laid_out(A, layout), B, mine, m, k, n)
        multiply_transposed(laid_out(A, layout), np.ascontiguousarray(B.T), other, m, k, n)
        assert (np.abs(mine - A @ B) <= room).all(), (m, k, n)
        assert (np.abs(other - A @ B) <= room).all(), (m, k, n)


# Programs ---------------------------------------------------------------------------------------------------------------

W, V = rng.normal(size=(3, 1, 4)), rng.normal(size=(5, 4))
PLACES = rng.integers(0, 5, size=(2, 6))
F = nn.functional
LOSSES = {
    "sums": lambda w, v: sum((np.mean(w * v, axis=a, keepdims=k) ** 2).sum() for a, k in ((1, False), ((0, 2), True), (None, True))),
    "extremes": lambda w, v: (np.max(w * v, axis=1, keepdims=True) * v).sum() + np.min(w + v, axis=(0, 2)).sum() + np.var(v, axis=1).sum(),
    "branches": lambda w, v: (np.where(w * v > 0, w * v, np.exp(-v)) + np.clip(v, -0.5, 0.5)).sum() + (np.maximum(v, 0) * ~(v > 1)).sum(),
    "functions": lambda w, v: sum(f(v).sum() for f in (F.gelu, np.abs, np.sin, lambda x: np.log(1 + x * x), lambda x: x**3)),
    "softmax": lambda w, v: (mg.softmax(v, -1) * v).sum() + (F.standardize(v, (-1,), 1e-5)[0] ** 3).sum(),
    "stretched": lambda w, v: (w * np.ones((3, 5, 4)) + v).sum() ** 2 / 100 + (w.sum(axis=1) * w[:, 0]).sum() + np.exp(w[0, 0, 0]) * v[1, 2],
    "a product": lambda w, v: np.tanh(v @ w[:, 0].T).sum(),
    "picked": lambda w, v: (v[PLACES[0], np.array([0, 1, 2, 3, 0, 0])] ** 2).sum(),
}  # fmt: skip


def trained(loss, dtype, compile, n=20):
    ps = [mg.Tensor(x.astype(dtype), requires_grad=True) for x in (W, V)]
    objective = mg.Objective.of(ps, lambda: np.tanh(loss(*ps) * 0.1) + 0.1 * sum((p * p).sum() for p in ps))
    run = Run.of(objective, optim.Adam(ps, lr=schedules.Exponential(1e-3, 0.9)))
    run.step = compile(run._plain_step)
    with run.training():
        run.updates(n)
    return run


def assert_near(found, expected, near):
    for x, y in [
        (found.vector.theta(), expected.vector.theta()),
        *((getattr(found, name), getattr(expected, name)) for name in ("loss", "gradient_norm", "lr", "step_norm")),
    ]:
        np.testing.assert_allclose(x, y, rtol=near, atol=near * np.max(np.abs(y)))


@pytest.mark.parametrize("name", LOSSES)
def test_programs(name):
    """A RuntimeWarning, that there is no native form, would be an error here."""
    dtype, near = (np.float32, 1e-4) if name in ("sums", "branches") else (np.float64, 1e-10)
    found = trained(LOSSES[name], dtype, NATIVE)
    assert found.vector.theta().dtype == dtype
    assert_near(found, trained(LOSSES[name], dtype, NUMPY), near)


def network(i):
    return nn.Sequential(nn.Linear(4, 3, rng=i), nn.BatchNorm1d(3), nn.Dropout(0.2, rng=i))


def line(i):
    return nn.Linear(4, 3, rng=i)


X, LABELS = rng.normal(size=(40, 4)), rng.integers(0, 3, size=40)


def runs(model, compile, rates=(0.05,)):
    models = [model(i) for i in range(len(rates))]
    optimizers = [optim.SGD(m.parameters(), lr=rate, momentum=0.9) for m, rate in zip(models, rates, strict=True)]
    given = {"batch_size": 8, "compile": compile}
    return [Run(m, nn.cross_entropy, o, X, LABELS, rng=0, **given) for m, o in zip(models, optimizers, strict=True)]


def test_a_network_its_buffers_and_its_chance():
    (found,), (expected,) = runs(network, NATIVE), runs(network, NUMPY)
    for run in (found, expected):
        run.train(40)
    assert_near(found, expected, 1e-8)
    for (mine, name), (other, _) in zip(found.buffers, expected.buffers, strict=True):
        np.testing.assert_allclose(getattr(mine, name), getattr(other, name), rtol=1e-8)


def test_many_runs_in_threads():
    rates = (0.05, 0.01, 1e200, 0.1)
    with np.errstate(all="ignore"):
        found = ManyRuns(runs(line, None, rates), NATIVE).train(3).train(20).runs
        expected = ManyRuns(runs(line, None, rates)).train(23).runs
    for mine, other in zip(found, expected, strict=True):
        assert bool(mine.stopped) == bool(other.stopped)
        assert_near(mine, other, 1e-7)


def test_variants():
    run = Run(m := line(0), nn.cross_entropy, optim.SGD(m.parameters(), lr=0.1), X, LABELS)
    with np.errstate(all="ignore"):
        mine, other = (vary(run, 9, lr=[0.1, 0.2, 1e308, 0.0], compile=c) for c in (NATIVE, NUMPY))
    np.testing.assert_array_equal(mine.updates, other.updates)
    np.testing.assert_allclose(mine.losses, other.losses, rtol=1e-10)
    np.testing.assert_allclose(mine.thetas, other.thetas, rtol=1e-10)


# What decides whether it is used ------------------------------------------------------------------------------------------


def squares(compile, batches, way=np.sum):
    w = mg.Tensor(np.linspace(-1.0, 1.0, 6), requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = way((w * x - 1) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    repeated = compile(step).repeat(len(batches), over=(0,))
    return repeated, lambda: (repeated(batches), w.data)


def test_what_has_no_native_form_is_numpy_s():
    batches = rng.normal(size=(20, 6))
    _, run = squares(NATIVE, batches, lambda x: np.cumsum(x)[-1])
    with pytest.warns(RuntimeWarning, match="no native loop, NumPy goes on: cumsum"):
        found = run()
    for x, y in zip(found, squares(NUMPY, batches, lambda x: np.cumsum(x)[-1])[1](), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.long
def test_parameters_that_are_written_after_the_step():
    """They are joined to θ, whose memory is another one in each round; parts of it had been computed in that of one."""
    batches, ends = rng.normal(size=(20, 5, 3)), []
    for engine in (NATIVE, NUMPY):
        model = nn.Linear(3, 2, rng=0)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            for p in model.parameters():
                p.data = np.clip(p.data, -0.3, 0.3)
            return loss

        losses = engine(step).repeat(len(batches), over=(0,))(batches)
        ends.append((losses, *(p.data for p in model.parameters())))
    for found, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_a_number_that_is_not_finite_ends_it_there():
    batches = np.ones((30, 6))
    batches[17, 2] = np.nan
    states = []
    for engine in (NATIVE, NUMPY):
        _, run = squares(engine, batches)
        with pytest.raises(mg.NonFiniteError) as error:
            run()
        states.append(str(error.value))
    assert states[0] == states[1]


def test_a_text_that_was_tampered_with_is_written_anew(folder):
    from microgradopt.program.native.machine import made

    repeated, run = squares(NATIVE, rng.normal(size=(12, 6)), lambda x: np.sum(x) * 0.75)
    before = set(folder.glob("loop_*.py"))
    found, _ = run()
    (path,) = {p for p in folder.glob("loop_*.py") if "0.75" in p.read_text()} - before
    text = path.read_text()
    assert repeated.source in text
    path.write_text("raise SystemExit('not ours')\n" + text)
    made.cache_clear()
    assert made(repeated.source) is not None
    assert path.read_text() == text
    assert not list(folder.glob("*.[0-9]*"))
    assert np.isfinite(found).all()
    assert any(path.parent.rglob("loop_*.nbi"))  # machine code is kept beside it


@pytest.mark.filterwarnings("ignore:.*no native loop")
def test_random_programs(pytestconfig):
    """Each from drawn numbers: its loss and gradient, 12 steps."""
    for seed in range(max(1, pytestconfig.getoption("--programs") // 200)):
        draw = np.random.default_rng([seed, 7])
        choices = [(bool(draw.integers(2)), *draw.integers(0, 10**6, 3).tolist()) for _ in range(draw.integers(1, 7))]
        found, expected = (_descended(program(choices), compile) for compile in (NATIVE, NUMPY))
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-9, err_msg=f"seed {seed}")


def _descended(function, compile):
    x, w = (mg.Tensor(a, requires_grad=True) for a in data())
    optimizer = optim.SGD([x, w], lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss = function(x, w)
        loss.backward()
        optimizer.step()
        return loss

    return compile(step).repeat(20)(), x.data, w.data
