"""The printed program, run with NumPy alone, gives eager's bits; and says what it should."""

from __future__ import annotations

import ast
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import BINARY, UNARY, data, equal, program, steps

import microgradopt as mg
from microgradopt import nn, optim


def run(text):
    """The result of a printed program, in a namespace that holds nothing."""
    names: dict[str, object] = {}
    exec(text, names)
    return names[text.name](**text.inputs)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # at the tip of a norm a second derivative is not finite
@settings(max_examples=60)
@given(choices=steps, dtype=st.sampled_from([np.float64, np.float32]))
def test_random_programs(choices, dtype):
    scalar = program(choices)

    def f(x, w, u, v):
        loss = scalar(x, w)
        return loss, mg.grad(loss, [x, w]), mg.hvp(loss, [x, w], [u, v])

    args = [*(mg.Tensor(a, requires_grad=True) for a in data(dtype)), *data(dtype, 7)]
    text = mg.source(f, *args)
    assert equal(run(text), f(*args)), text
    imported = {name.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for name in node.names}
    assert imported <= {"numpy", "math"}


@pytest.mark.parametrize("i", range(len(UNARY)))
def test_every_unary_step(i):
    test_random_programs.hypothesis.inner_test([(False, i, 0, 0)], np.float32)


@pytest.mark.parametrize("i", range(len(BINARY)))
def test_every_binary_step(i):
    test_random_programs.hypothesis.inner_test([(True, i, 0, 1)], np.float64)


def two_layers():
    rng = np.random.default_rng(0)
    model = nn.MLP((4, 3, 5), nn.Tanh, rng=rng)
    return model, rng.normal(size=(6, 4)), rng.integers(0, 5, 6)


def test_textbook_backpropagation():
    """The whole text of the two-layer net: what a person would have written."""
    model, x, y = two_layers()

    def gradient(x, y):
        loss = nn.cross_entropy(model(x), y)
        return loss, mg.grad(loss, list(model.parameters()))

    text = mg.source(gradient, x, y)
    assert (
        text
        == """import numpy as np


def gradient(weight_0, bias_0, weight_2, bias_2, x, y):
    linear1 = x @ weight_0.T + bias_0
    tanh = np.tanh(linear1)
    linear2 = tanh @ weight_2.T + bias_2
    subtract1 = linear2 - linear2.max(axis=1, keepdims=True)
    log_softmax = subtract1 - np.log(np.exp(subtract1).sum(axis=1, keepdims=True))
    if not (y.view(np.uint64).max() < 5): raise ValueError("not the values this was printed for")
    arange = np.arange(6)
    nll_loss = (-log_softmax[arange, y]).sum() / 6
    # backward
    d_log_softmax = np.zeros((6, 5))
    d_log_softmax[arange, y] = -0.16666666666666666
    d_linear2 = d_log_softmax - np.exp(log_softmax) * d_log_softmax.sum(axis=1, keepdims=True)
    d_tanh = d_linear2 @ weight_2
    d_weight_2 = d_linear2.T @ tanh  # gradient by 2.weight
    d_bias_2 = d_linear2.sum(axis=0)  # gradient by 2.bias
    d_linear1 = d_tanh * (1 - tanh * tanh)
    d_weight_0 = d_linear1.T @ x  # gradient by 0.weight
    d_bias_0 = d_linear1.sum(axis=0)  # gradient by 0.bias
    return (nll_loss, [d_weight_0, d_bias_0, d_weight_2, d_bias_2])
"""
    )
    assert equal(run(text), gradient(x, y))


def test_what_the_function_writes_comes_back():
    model, x, y = two_layers()
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    text = mg.source(step, x, y)
    before = [p.data.copy() for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters()), "printing changes nothing"
    loss, written = run(text)
    assert equal(before, [p.data for p in model.parameters()])
    assert equal(loss, step(x, y))
    assert equal(written["0.weight.grad"], next(iter(model.parameters())).grad)
    assert equal(written["theta"], np.concatenate([p.data.ravel() for p in model.parameters()]))
    assert set(written) == {"theta", "t", "m", "v", "step", *(f"{n}.grad" for n, _ in model.named_parameters())}


def test_dead_code_and_repetition():
    def f(x):
        np.exp(x)
        return np.sin(x) * np.cos(x) + np.sin(x)

    text = mg.source(f, np.ones(3))
    assert "exp" not in text
    assert text.count("np.sin") == text.count("np.cos") == 1


def test_a_composite_that_cannot_be_traced_stands_in_the_text():
    text = mg.source(lambda x: nn.functional.gelu(x), np.linspace(-1, 1, 5))
    assert "def normal_cdf(x):" in text
    assert "microgradopt" not in text
    assert equal(run(text), nn.functional.gelu(np.linspace(-1, 1, 5)))


def test_a_function_of_which_there_is_no_text_is_refused():
    """The text had its name alone, and was no program."""
    special = pytest.importorskip("scipy.special")
    factor = 2.0

    @mg.rules.composite(lambda g, out, x: g * factor, smooth=True)
    def by_number(x):
        return np.array([float(v) * factor for v in x])

    for f in (special.j0, np.frompyfunc(lambda v: v * 2, 1, 1), by_number):
        with pytest.raises(mg.TracingError, match="none that stands alone"):
            mg.source(lambda x, f=f: f(x) + 1, np.ones(2))


def test_constants_come_back_as_they_were():
    """Their bits, and their layout: sums go through memory in its own order."""
    table = np.array([[0.1, -np.inf], [np.nan, 1e-310]])
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    for constant in (table, table.astype(np.float32), np.arange(7), np.eye(3), np.zeros((0, 2)), np.array([True, False]),
                     np.full((3, 3), -0.0), fortran, np.array([-0.0, 0.0])):  # fmt: skip
        made = itertools.repeat(constant).__next__  # where no one looks into, so that it is a constant of the program
        text = mg.source(lambda x, made=made: (x + 1, made()), np.ones(2))
        assert equal(run(text)[1], constant), text
        assert run(text)[1].flags.f_contiguous == constant.flags.f_contiguous


def test_names_and_comments():
    """Arguments by their names, parameters by their module's; every gradient says whose it is; nothing twice."""
    model, x, y = two_layers()
    text = mg.source(lambda x, y: mg.grad(nn.cross_entropy(model(x), y), list(model.parameters())), x, y)
    for name, _ in model.named_parameters():
        assert f"# gradient by {name}" in text
    assigned = re.findall(r"^    (\w+) = ", text, re.MULTILINE)
    assert len(assigned) == len(set(assigned))
    hostile = mg.source(lambda np_, args, lambda_: np_ * args + lambda_, *(np.ones(2),) * 3)
    assert equal(run(hostile), np.full(2, 2.0))


def test_numbers_keep_their_types():
    x = np.ones(3, np.float32)
    text = mg.source(lambda x: (x * np.float64(0.1), x * 0.1, x * np.float32(0.1), x.sum() * np.float32(3)), x)
    assert equal(run(text), (x * np.float64(0.1), x * 0.1, x * np.float32(0.1), x.sum() * np.float32(3)))


def test_operators_keep_their_order():
    a, b, c = np.array([0.1]), np.array([0.7]), np.array([-0.3])
    for f in (
        lambda a, b, c: a - (b - c), lambda a, b, c: (a - b) - c, lambda a, b, c: a / (b / c), lambda a, b, c: a * (b + c),
        lambda a, b, c: -(a**2), lambda a, b, c: (-c) ** 2, lambda a, b, c: (a**2) ** 3, lambda a, b, c: 2 ** -(a + b),
        lambda a, b, c: (a < b) == (b < c), lambda a, b, c: ~(a < b) & (b > c) | (a == c), lambda a, b, c: a // (b % c),
        lambda a, b, c: a ** (b**2), lambda a, b, c: (a + b) @ (b * c), lambda a, b, c: abs(-a + b), lambda a, b, c: 1 - (2 - a),
    ):  # fmt: skip
        text = mg.source(f, a, b, c)
        assert equal(run(text), f(a, b, c)), text


def test_of_a_compiled_function():
    f = mg.compile(lambda x: np.tanh(x) + 1)
    text = mg.source(f, np.ones(2))
    assert equal(run(text), np.tanh(np.ones(2)) + 1)
    f(np.ones(2))
    assert equal(run(f.source), f(np.ones(2)))
