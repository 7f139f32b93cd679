"""The engine of demos/00_hundred_lines.py: how long it is, that the map in its prose is true, and its numbers.

It has the library's gradients bit for bit: the same program, run on its tensors and on the library's. Both are judged
by central differences.
"""

import ast
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn, optim
from microgradopt.training import trajectory

ROOT = Path(__file__).parent.parent
SOURCE = (ROOT / "demos" / "00_hundred_lines.py").read_text(encoding="utf-8")
BODY = ast.parse(SOURCE).body
PLACES = {getattr(node, "name", None): place for place, node in enumerate(BODY)}
ENGINE = BODY[PLACES["Tensor"] : PLACES["classify"] + 1]


def load():
    """The engine by itself, with Python's standard library and NumPy; and the demo's network."""
    own = ("itertools", "math", "numpy", "numpy.lib.mixins")
    imports = [
        node
        for node in BODY
        if (isinstance(node, ast.Import) and all(alias.name in own for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module in own)
    ]
    names = {}
    exec(compile(ast.Module([*imports, *ENGINE, BODY[PLACES["scores"]]], []), "engine", "exec"), names)
    return SimpleNamespace(**names)


engine = load()


def same(ours, theirs):
    """Bit for bit."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_array_equal(ours, theirs)
    assert ours.tobytes() == theirs.tobytes(), "equal, but for the sign of a zero"


def differences(f, x, h=1e-6):
    """The derivative of f, a number or a vector, by each element of x."""
    steps = h * np.eye(x.size).reshape(x.size, *x.shape)
    return np.stack([(f(x + step) - f(x - step)) / (2 * h) for step in steps], axis=-1)


# How long it is, and where it leads -----------------------------------------------------------------------------------


def code_lines():
    """The engine's lines, without blank ones, comments and docstrings."""
    documented = (ast.ClassDef, ast.FunctionDef)
    docstrings = {
        number
        for top in ENGINE
        for node in ast.walk(top)
        if isinstance(node, documented) and ast.get_docstring(node)
        for number in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    numbered = enumerate(SOURCE.splitlines(), 1)
    inside = [(i, line) for i, line in numbered if ENGINE[0].lineno <= i <= ENGINE[-1].end_lineno]
    return [line for i, line in inside if line.strip() and line.lstrip()[0] != "#" and i not in docstrings]


def test_a_hundred_lines():
    lines = code_lines()
    assert 80 < len(lines) <= 100
    assert max(map(len, lines)) <= 100
    assert not any(";" in line for line in lines)


def test_the_files_that_its_prose_names_are_there():
    paths = set(re.findall(r"``((?:microgradopt|tests|docs|demos)/[\w/.]*)``", SOURCE))
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_its_functions_are_among_those_of_the_library():
    names = [function.__name__ for function in engine.RULES]
    assert len(names) == 13, "thirteen functions, says the prose"
    assert set(names) <= set(mg.rules.supported())
    assert len(mg.rules.supported()) > 200
    assert mg.rules.derivative.__module__ == "microgradopt.rules.registry"


# Every rule -----------------------------------------------------------------------------------------------------------

# Calls, of the functions by whose names they begin, and the shapes of their arguments. f: log softmax, ours or theirs.
CALLS = {
    "add": (lambda f, x, y: x + y, (3, 4), (4,)),
    "add, both broadcast": (lambda f, x, y: x + y, (3, 1), (1, 4)),
    "add, to itself": (lambda f, x: x + x, (3,)),
    "subtract": (lambda f, x, y: x - y, (), (2, 3)),
    "subtract, from a number": (lambda f, x: 1 - x, (2, 3)),
    "multiply": (lambda f, x, y: x * y, (1, 3), (2, 1, 3)),
    "multiply, by itself": (lambda f, x: x * x, (2, 3)),
    "multiply, by one": (lambda f, x, y: x * y, (1,), (1, 1)),
    "divide": (lambda f, x, y: x / y, (3, 4), (3, 1)),
    "divide, a number": (lambda f, x: 2 / x, (3,)),
    "divide, by a number": (lambda f, x: x / 7, (3,)),
    "negative": (lambda f, x: -x, (3, 2)),
    "exp": (lambda f, x: np.exp(x), (3, 2)),
    "tanh": (lambda f, x: np.tanh(x), (3, 2)),
    "tanh, a number": (lambda f, x: np.tanh(x), ()),
    "matmul": (lambda f, x, y: x @ y, (3, 4), (4, 2)),
    "matmul, a batch": (lambda f, x, y: x @ y, (5, 3, 4), (4, 2)),
    "matrix_transpose": (lambda f, x: np.matrix_transpose(x), (3, 4)),
    "matrix_transpose, a batch": (lambda f, x: np.matrix_transpose(x), (2, 3, 4)),
    "sum": (lambda f, x: np.sum(x), (3, 4)),
    "sum, a number": (lambda f, x: np.sum(x), ()),
    "sum, square": (lambda f, x: np.sum(x, axis=1), (4, 4)),
    "sum, axis by position": (lambda f, x: np.sum(x, 0), (4, 4)),
    "sum, axis kept": (lambda f, x: np.sum(x, axis=-1, keepdims=True), (3, 4)),
    "sum, two axes": (lambda f, x: np.sum(x, axis=(0, -1)), (2, 3, 4)),
    "broadcast_to": (lambda f, x: np.broadcast_to(x, (2, 3, 4)), (3, 1)),
    "reshape": (lambda f, x: np.reshape(x, (4, 3)), (2, 6)),
    "log_softmax": (lambda f, x: f(x), (5, 3)),
}


def test_every_function_is_called():
    assert {name.partition(",")[0] for name in CALLS} == {function.__name__ for function in engine.RULES}


def arguments(shapes):
    """Away from 0, for quotients."""
    rng = np.random.default_rng(len(shapes))
    return [rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2.0, shape) for shape in shapes]


@pytest.mark.parametrize("name", CALLS)
def test_rules(name):
    call, *shapes = CALLS[name]
    values = arguments(shapes)
    ours, theirs = [engine.Tensor(x) for x in values], [mg.Tensor(x, requires_grad=True) for x in values]
    out, other = call(engine.log_softmax, *ours), call(nn.functional.log_softmax, *theirs)
    same(out.value, other.data)
    g = np.random.default_rng(9).normal(size=out.shape)
    gradients = engine.grad([out], ours, [g])
    for found, expected in zip(gradients, mg.grad(other, theirs, [g]), strict=True):
        same(found, expected)
    for i, found in enumerate(gradients):

        def weighted(x, i=i):
            return np.sum(g * call(engine.log_softmax, *values[:i], x, *values[i + 1 :]))

        np.testing.assert_allclose(np.ravel(found), differences(weighted, values[i]), atol=1e-8)


def curved(log_softmax, call, args):
    """A number with second derivatives, of a call."""
    out = call(log_softmax, *args)
    return np.sum(np.tanh(out) * out)


@pytest.mark.parametrize("name", CALLS)
def test_rules_of_rules(name):
    """H v, by the gradient of the gradient."""
    call, *shapes = CALLS[name]
    values = arguments(shapes)
    vectors = [np.random.default_rng(7).normal(size=shape) for shape in shapes]
    ours, theirs = [engine.Tensor(x) for x in values], [mg.Tensor(x, requires_grad=True) for x in values]
    gradients = engine.grad([curved(engine.log_softmax, call, ours)], ours, [np.ones(())], record=True)
    products = engine.grad(gradients, ours, vectors)
    for found, expected in zip(
        products, mg.hvp(curved(nn.functional.log_softmax, call, theirs), theirs, vectors), strict=True
    ):
        if name in ("divide", "divide, a number"):
            # The library differentiates a quotient by a function of its own, which minds 0 / 0. Its formula for the
            # second derivative is another, and is rounded otherwise.
            np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)
        else:
            same(found, expected)

    def gradient(theta):
        tensors = [engine.Tensor(x) for x in objective.split(theta)]
        return engine.join(engine.grad([curved(engine.log_softmax, call, tensors)], tensors, [np.ones(())]))

    objective = engine.Objective(None, shapes)
    H = differences(gradient, engine.join(values))
    np.testing.assert_allclose(engine.join(products), H @ engine.join(vectors), atol=1e-7)


# The sweep ------------------------------------------------------------------------------------------------------------


def test_a_share_is_handed_on_when_it_is_complete():
    a = engine.Tensor(1.0)
    b = a + a
    assert engine.grad([b + b], [a], [np.ones(())]) == [4]


def test_two_parameters_with_one_gradient():
    """Of exp(x + y) the gradient by x and the gradient by y are one and the same tensor."""
    objective = engine.Objective(lambda x, y: np.exp(x + y), [(), ()])
    np.testing.assert_allclose(objective.hessian(np.zeros(2)), np.ones((2, 2)))


def test_derivatives_that_are_constant():
    objective = engine.Objective(lambda x, y: np.sum(3 * x), [(2,), (2,)])
    value, g = objective.value_and_gradient(np.ones(4))
    assert value == 6
    same(g, np.array([3.0, 3, 0, 0]))
    same(objective.hessian(np.ones(4)), np.zeros((4, 4)))


def test_no_computation_is_too_deep():
    x = y = engine.Tensor(1.0)
    for _ in range(20_000):
        y = y + 1e-3 * x
    np.testing.assert_allclose(engine.grad([y], [x], [np.ones(())]), [21])


def test_third_derivatives():
    x = engine.Tensor(0.3)
    derivative = np.exp(2 * x)
    for _ in range(3):
        (derivative,) = engine.grad([derivative], [x], [np.ones(())], record=True)
    assert derivative.value == pytest.approx(8 * np.exp(0.6))


@pytest.mark.parametrize("call", [np.sin, lambda x: x**2, lambda x: x > 0, np.max, np.add.reduce, np.cumsum])
def test_what_has_no_rule_is_refused(call):
    with pytest.raises(TypeError):
        call(engine.Tensor([1.0, 2.0]))


def test_a_new_function_is_one_line():
    """As in the demo, for log."""
    own = load()
    own.RULES[np.log] = (lambda g, out, x: g / x,)
    x, y = own.Tensor([0.5, 2.0]), mg.Tensor([0.5, 2.0], requires_grad=True)
    (g,) = own.grad([np.sum(np.log(x))], [x], [np.ones(())], record=True)
    same(g.value, mg.grad(np.sum(np.log(y)), y)[0])
    np.testing.assert_allclose(own.grad([g], [x], [np.ones(2)])[0], -1 / x.value**2, rtol=1e-15)


# The network ----------------------------------------------------------------------------------------------------------


def moons(rows, sizes, seed):
    """Samples like the demo's, rows of 0 and 1 for their classes, and the shapes and θ of the library's MLP."""
    rng = np.random.default_rng(seed)
    y = rng.integers(sizes[-1], size=rows)
    X = rng.normal(size=(rows, sizes[0])) + y[:, None]
    model = nn.MLP(sizes, nn.Tanh, rng=seed)
    theta = engine.join([p.data for p in model.parameters()])
    return X, y, np.eye(sizes[-1])[y], model, [p.shape for p in model.parameters()], theta


def loss_of(X, right, log_softmax):
    """The demo's cross-entropy. It runs on the tensors of both."""

    def loss(*parameters):
        losses = -np.sum(right * log_softmax(engine.scores(X, *parameters)), axis=1)
        return np.sum(losses) / len(right)

    return loss


def both(rows, sizes, seed):
    """The same program, as our Objective and as the library's; the objective of nn.MLP and nn.cross_entropy; and θ."""
    X, y, right, model, shapes, theta = moons(rows, sizes, seed)
    ours = engine.Objective(loss_of(X, right, engine.log_softmax), shapes)
    tensors = [mg.Tensor(part, requires_grad=True) for part in ours.split(theta)]
    loss = loss_of(X, right, nn.functional.log_softmax)
    theirs = mg.Objective.of(tensors, lambda: loss(*tensors))
    return ours, theirs, mg.Objective.of(model, lambda: nn.cross_entropy(model(X), y)), theta


@pytest.mark.parametrize("sizes", [(2, 16, 2), (2, 16, 16, 2), (5, 7, 3, 4)])
@pytest.mark.parametrize("rows", [1, 2, 33, 200])
@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_the_network(rows, sizes, seed):
    ours, theirs, layers, theta = both(rows, sizes, seed)
    value, g = ours.value_and_gradient(theta)
    expected, gradient = theirs.value_and_gradient()
    same(value, np.asarray(expected))
    same(g, gradient)
    # nn.Linear gets the gradient of W as gᵀx, the program here as (xᵀg)ᵀ: BLAS may add in another order.
    np.testing.assert_allclose(g, layers.gradient(), rtol=0, atol=4e-16)
    assert value == pytest.approx(layers.value(), rel=1e-15)


def test_gradient_of_the_network_by_differences():
    ours, _, _, theta = both(33, (2, 16, 2), 0)
    g = ours.value_and_gradient(theta)[1]
    np.testing.assert_allclose(g, differences(lambda theta: ours.value_and_gradient(theta)[0], theta), atol=1e-9)


@pytest.mark.parametrize("sizes", [(2, 4, 2), (2, 5, 3, 2)])
@pytest.mark.parametrize("rows", [1, 33, 200])
@pytest.mark.parametrize("seed", range(2))
def test_hessian_of_the_network(rows, sizes, seed):
    ours, theirs, layers, theta = both(rows, sizes, seed)
    H = ours.hessian(theta)
    same(H, np.stack([theirs.hvp(v) for v in np.eye(len(theta))], axis=1))
    # The library's own Hessian adds many columns at once, nn.Linear as above.
    np.testing.assert_allclose(H, theirs.hessian(), rtol=0, atol=2e-15)
    np.testing.assert_allclose(H, layers.hessian(), rtol=0, atol=2e-15)
    np.testing.assert_allclose(H, differences(lambda theta: ours.value_and_gradient(theta)[1], theta), atol=1e-8)


# The optimizers -------------------------------------------------------------------------------------------------------

UPDATES = [
    (engine.sgd, optim.SGD, {"lr": 0.1}, {}),
    (engine.sgd, optim.SGD, {"lr": 0.1, "momentum": 0.9}, {}),
    (engine.adam, optim.Adam, {"lr": 0.01}, {}),
    (engine.adam, optim.Adam, {"lr": 0.01, "eps": 1e-3}, {"betas": (0.8, 0.95)}),
]


@pytest.mark.parametrize(("update", "optimizer", "shared", "betas"), UPDATES)
def test_fifty_steps(update, optimizer, shared, betas):
    ours, theirs, _, theta = both(200, (2, 16, 16, 2), 0)
    way = trajectory(theirs, optimizer(theirs.parameters, **shared, **betas), 50)
    own = dict(zip(("beta1", "beta2"), betas.get("betas", ()), strict=False))
    state = {}
    for there, after in itertools.pairwise(way):
        same(theta, there)
        theta = update(theta, ours.value_and_gradient(theta)[1], state, **shared, **own)
        same(theta, after)
    assert ours.value_and_gradient(theta)[0] < 0.95 * ours.value_and_gradient(way[0])[0]


def test_adam_is_its_formula():
    """As in the paper, in the paper's order."""
    rng = np.random.default_rng(0)
    theta, m, v, state = np.zeros(5), np.zeros(5), np.zeros(5), {}
    expected = theta
    for t in range(1, 51):
        g = rng.normal(size=5)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected = expected - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        theta = engine.adam(theta, g, state, lr=0.1)
    np.testing.assert_allclose(theta, expected, rtol=1e-12)


# Critical points ------------------------------------------------------------------------------------------------------


def lecture(w1, w2):
    error = 1 - w1 * w2
    return error * error


POINTS = {
    "lecture, origin": (lecture, (0, 0), "saddle point", (-2, 2)),
    "lecture, with a penalty": (
        lambda x, y: lecture(x, y) + 0.1 * (x * x + y * y),
        (0.9**0.5, 0.9**0.5),
        "local minimum",
        (0.4, 3.6),
    ),
    "saddle": (lambda x, y: x * x - y * y, (0, 0), "saddle point", (-2, 2)),
    "minimum": (lambda x, y: x * x + y * y, (0, 0), "local minimum", (2, 2)),
    "maximum": (lambda x, y: -(x * x + y * y), (0, 0), "local maximum", (-2, -2)),
    "not critical": (lambda x, y: x * x - y * y, (1, 0), "not critical", (-2, 2)),
    "monkey saddle": (lambda x, y: x * x * x - 3 * x * y * y, (0, 0), "degenerate", (0, 0)),
    "trough with slope": (lambda x, y: x * x + y * y * y, (0, 0), "degenerate", (0, 2)),
}


@pytest.mark.parametrize("name", POINTS)
def test_kinds(name):
    loss, theta, expected, eigenvalues = POINTS[name]
    kind, values = engine.classify(engine.Objective(loss, [(), ()]), np.array(theta, float))
    verdict = mg.critical.classify(mg.Objective(lambda w: loss(w[0], w[1]), theta))
    assert kind == expected == verdict.kind
    np.testing.assert_allclose(values, eigenvalues, atol=1e-14)
    np.testing.assert_allclose(values, verdict.eigenvalues, atol=1e-14)


def test_a_flat_direction_is_left_open():
    """On the curve w₁w₂ = 1. The library follows it."""
    kind, values = engine.classify(engine.Objective(lecture, [(), ()]), np.ones(2))
    verdict = mg.critical.classify(mg.Objective(lambda w: lecture(w[0], w[1]), np.ones(2)))
    assert (kind, verdict.kind, verdict.zero) == ("degenerate", "local minimum", 1)
    np.testing.assert_allclose(values, [0, 4], atol=1e-14)
