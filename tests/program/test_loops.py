"""repeat: n calls as one are n calls, to the last bit: results, what was written, and where it ends.

``pytest tests/program/test_loops.py --programs 20000`` repeats as many random programs.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from programs import data, equal, program

import microgradopt as mg
from microgradopt import nn, optim, tree
from microgradopt.optim import schedules

N = 20
CHUNKS = 4
rng = np.random.default_rng(2)


def stacked(results):
    """What repeat gives for these results: each array and number with a new first axis."""
    columns = list(zip(*map(tree.leaves, results), strict=True))

    def together(column):
        first = column[0].data if isinstance(column[0], mg.Tensor) else column[0]
        is_number = np.asarray(first).dtype.kind in "fiub"
        return (
            np.stack([getattr(x, "data", x) if isinstance(x, mg.Tensor) else x for x in column]) if is_number else first
        )

    left = iter([together(column) for column in columns])
    return tree.mapped(lambda x: next(left), results[0])


def assert_repeats(make, args=(), over=(), n=N, looped=True):
    """make: gives a function, and one that tells what it has written. Called in a loop, and repeated."""
    (function, written), (other, other_written) = make(), make()
    repeated = mg.compile(other, check="never").repeat(n, over)
    results, error = [], None
    try:
        for i in range(n):
            results += [function(*(x[i] if j in over else x for j, x in enumerate(args)))]
    except Exception as raised:
        error = raised
    if error is None:
        assert equal(repeated(*args), stacked(results))
    else:
        with pytest.raises(type(error)) as found:
            repeated(*args)
        assert str(found.value) == str(error)
    assert equal(other_written(), written())
    assert bool(repeated.source) == looped
    return repeated


# Trainings --------------------------------------------------------------------------------------------------------------


def state(x):
    """The numbers in an optimizer's state."""
    if isinstance(x, dict | list | tuple):
        return [n for part in (x.values() if isinstance(x, dict) else x) for n in state(part)]
    return [x] if isinstance(x, int | float | np.ndarray) else []


def training(loss, optimizer, shapes=((3, 2),), groups=None, **options):
    def make():
        draw = np.random.default_rng(1)
        ps = [mg.Tensor(draw.normal(size=shape), requires_grad=True) for shape in shapes]
        mover = optimizer(ps if groups is None else groups(ps), **options)

        def step(*batch):
            mover.zero_grad()
            value = loss(*ps, *batch)
            value.backward()
            mover.step()
            return value

        return step, lambda: [[p.data for p in ps], [p.grad for p in ps], state(mover.state_dict())]

    return make


BATCHES = rng.normal(size=(N, 4, 3))
MOVERS = {
    "SGD": (optim.SGD, {"lr": 0.1, "momentum": 0.9}), "a schedule": (optim.Adam, {"lr": schedules.Cosine(0.1, 15)}),
    "a warm-up": (optim.RMSprop, {"lr": schedules.Warmup(12, 0.1), "centered": True}), "another formula later": (optim.RAdam, {"lr": 0.1}),
    "matrices": (optim.Muon, {"lr": 0.1}), "averages": (optim.ScheduleFreeAdamW, {"lr": 0.1, "warmup_steps": 3}), "a rate of t": (optim.Lion, {"lr": lambda t: 0.1 / (1 + t)}),
    "no rate": (optim.Adadelta, {}), "AMSGrad": (optim.AdamW, {"lr": 0.01, "amsgrad": True}), "products of t": (optim.NAdam, {"lr": 0.1}),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVERS)
def test_training(name):
    optimizer, options = MOVERS[name]
    assert_repeats(training(lambda w, x: np.sum(np.tanh(x @ w) ** 2), optimizer, **options), (BATCHES,), (0,))
    assert_repeats(training(lambda w: np.sum((w * w - 1) ** 2), optimizer, **options), n=30)


def test_groups_go_by_their_own_schedules():
    def groups(ps):
        return [
            {"params": ps[:1], "lr": schedules.Exponential(0.1, 0.9)},
            {"params": ps[1:], "lr": schedules.StepDecay(0.2, 4), "momentum": 0.5},
        ]

    loss = lambda w, b, x: np.mean((np.tanh(x @ w) + b) ** 2)  # noqa: E731
    assert_repeats(training(loss, optim.SGD, ((3, 2), (2,)), groups, lr=0.1), (BATCHES,), (0,))


def test_more_than_are_made_at_once():
    assert_repeats(training(lambda w: np.sum(w * w), optim.SGD, lr=schedules.InverseTime(0.1)), n=2500)


def test_buffers_and_counters():
    def make():
        model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.BatchNorm1d(4), nn.Dropout(0.5, rng=0), nn.Linear(4, 1, rng=1))
        mover = optim.Adam(model.parameters(), lr=0.1)

        def step(x):
            mover.zero_grad()
            value = (model(x) ** 2).mean()
            value.backward()
            mover.step()
            return value

        kept = [(module, name) for _, module in model.named_modules() for name in type(module).buffers]
        drawn = next(m for _, m in model.named_modules() if isinstance(m, nn.Dropout))
        return step, lambda: [
            [p.data for p in model.parameters()],
            [getattr(m, name) for m, name in kept],
            drawn.counter,
        ]

    assert_repeats(make, (rng.normal(size=(N, 5, 3)),), (0,))
    assert_repeats(make, (rng.normal(size=(5, 3)),))


@pytest.mark.parametrize("at", [0, 2, 8, 17])
@pytest.mark.parametrize("loss", [lambda w, x: np.sum((w * x - 1) ** 2), lambda w, x: np.sum(w * x)])
def test_what_is_done_before_an_error_is_done(loss, at):
    batches = np.ones((N, 6))
    batches[at, 1] = np.nan
    make = training(loss, optim.SGD, ((6,),), lr=0.1, momentum=0.9)

    def without_gradients():  # the plain step has cleared them when it fails; a compiled one changes nothing
        step, written = make()
        return step, lambda: [part for i, part in enumerate(written()) if i != 1]

    assert_repeats(without_gradients, (batches,), (0,), looped=at > 8)


def test_where_numpy_raises_the_function_decides():
    def make():
        w = mg.Tensor(np.eye(3), requires_grad=True)

        def inverse(x):
            w.grad = None
            value = np.linalg.inv(w * x).sum()
            value.backward()
            return value

        return inverse, lambda: w.data

    factors = np.ones(N)
    factors[15] = 0
    assert_repeats(make, (factors,), (0,), looped=False)


# What is read, written and given back --------------------------------------------------------------------------------------


class Pair(NamedTuple):
    first: Any
    second: Any


X, Y = rng.normal(size=(N, 3)), np.arange(1.0, 4.0)
RESULTS = {
    "a tuple": lambda x, y: (x, y, x * y), "names": lambda x, y: Pair(x * y, [x, {"a": y}]), "one twice": lambda x, y: (x * y,) * 2, "a view": lambda x, y: (x * y)[::-1],
    "truth": lambda x, y: x > 0, "whole numbers": lambda x, y: np.argmax(x), "float32": lambda x, y: x.astype(np.float32), "a tensor": lambda x, y: mg.Tensor(x) * y,
    "what is given": lambda x, y: x, "a number first": lambda x, y: (3.0, (x * y).sum()), "truth and whole numbers": lambda x, y: {"k": True, "l": (x * y).sum(), "n": 7},
    "nothing": lambda x, y: (None, (x * y).sum()), "a constant array": lambda x, y: (np.ones(2), (x * y).sum()),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_results(name):
    assert_repeats(lambda: (RESULTS[name], list), (X, Y), (0,))


GIVEN = {
    "two": ((X, X[::-1]), (0, 1)), "one of two": ((Y, X), (1,)), "in another order": ((np.asfortranarray(X), Y), (0,)), "numbers": ((np.arange(float(N)), 2.5), (0,)),
    "none": ((Y, Y), ()), "whole numbers": ((np.arange(N), Y), (0,)),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_arguments(name):
    args, over = GIVEN[name]
    assert_repeats(lambda: (lambda x, y: (x * y).sum() if name != "whole numbers" else y[x % 3], list), args, over)


WORDS = ["n", "i", "done", "results", "each", "alive", "x__", "theta", "chosen", "loop", "misfit", "np", "args", "values", "range", "break_", "batch", "_x", "lr", "step"]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("over", [(0,), (1,), (0, 1)])
def test_names_of_arguments(word, over):
    def make():
        w = mg.Tensor(np.linspace(-1.0, 1.0, 3), requires_grad=True)
        names = {"w": w, "mover": optim.SGD([w], lr=0.1), word: None}
        text = f"""
def step({word}, other):
    mover.zero_grad()
    {word}2 = {word} * w
    value = (({word}2 + other) ** 2).sum()
    value.backward()
    mover.step()
    return {{"{word}": value, "other": {word} * 2}}
"""
        exec(text, names)
        return names["step"], lambda: w.data

    args = [rng.normal(size=(N, 3) if j in over else 3) for j in (0, 1)]
    assert_repeats(make, args, over)


def kept(step):
    """A function of a dict of arrays that it writes to."""

    def make():
        d = {"a": np.ones(3), "b": np.arange(3.0)}
        return lambda x: step(d, x), lambda: [d["a"], d["b"]]

    return make


def swapped(d, x):
    d["a"], d["b"] = d["b"], d["a"] + d["b"] * x
    return d["a"]


def alike(d, x):
    d["a"] = d["b"] = x * d["a"]
    return d["b"]


def one_from_the_other(d, x):
    d["b"] = d["a"]
    d["a"] = d["a"] * x
    return d["a"] + d["b"]


def more_than_the_other(d, x):
    d["b"] = d["a"] + 1
    d["a"] = d["a"] * x
    return d["a"]


def replaced(d, x):
    d["a"] = x
    return d["b"] * x


@pytest.mark.parametrize("step", [swapped, alike, one_from_the_other, more_than_the_other, replaced])
def test_arrays_that_are_kept(step):
    assert_repeats(kept(step), (rng.uniform(0.9, 1.1, (N, 3)),), (0,))
    assert_repeats(kept(step), (np.full(3, 1.01),))


def test_gradients_that_add_up():
    def make():
        w = mg.Tensor(np.ones(3), requires_grad=True)

        def step(x):
            (w * x).sum().backward()
            return w.grad.sum()

        return step, lambda: w.grad

    assert_repeats(make, (X,), (0,))


def test_results_are_nobody_else_s():
    w = mg.Tensor(np.ones(3), requires_grad=True)
    repeated = mg.compile(lambda x: w * x).repeat(N, (0,))
    found, batches = repeated(X), X.copy()
    before = found.copy()
    repeated(2 * X)
    np.testing.assert_array_equal(found, before)
    np.testing.assert_array_equal(batches, X)


def test_wrong_numbers_of_calls():
    double = mg.compile(lambda x: x * 2)
    for n in (0, -1, 2.0, None):
        with pytest.raises(ValueError, match="whole number from 1"):
            double.repeat(n)
    for over, found in (((0,), r"shape \(3,\)"), ((1,), "no argument 1"), ((-1,), "no argument -1")):
        with pytest.raises(ValueError, match=found):
            double.repeat(4, over)(Y)


# Random programs ----------------------------------------------------------------------------------------------------------


def descending(choices):
    function = program(choices)

    def make():
        x, w = (mg.Tensor(a, requires_grad=True) for a in data())
        mover = optim.SGD([x, w], lr=1e-3, momentum=0.5)

        def step(factor):
            mover.zero_grad()
            loss = function(x * factor, w)
            loss.backward()
            mover.step()
            return loss

        return step, lambda: [x.data, w.data, x.grad, w.grad]

    return make


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_programs(chunk, pytestconfig):
    size = pytestconfig.getoption("--programs") // CHUNKS // 2
    for seed in range(chunk * size, (chunk + 1) * size):
        draw = np.random.default_rng([seed, 3])
        choices = [(bool(draw.integers(2)), *draw.integers(0, 10**6, 3).tolist()) for _ in range(draw.integers(1, 8))]
        assert_repeats(descending(choices), (np.linspace(0.9, 1.1, 12),), (0,), n=12)
