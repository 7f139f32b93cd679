"""The formulas on the page of `explain`: run as they are shown, they give what the engine and the optimizers give."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn, optim
from microgradopt.nn import functional
from microgradopt.page import formulas
from microgradopt.page.names import named
from microgradopt.page.page import explain
from microgradopt.rules.registry import derivative, dispatched


def story(page):
    return json.loads(re.search(r'<script type="application/json" id="story">(.*?)</script>', page.html, re.S)[1])


def program(told):
    return [line["text"] for line in told["lines"] if line["phase"] != "update"]


def run(told, loss, names):
    """The values after the program, which needs NumPy and what users call themselves."""
    graph, _ = named(mg.trace(loss, names=names), names)
    arrays = {node.name: node.value for node in graph if node.function is None}
    values = {name: arrays[name] for name in program(told)[0].removeprefix("# given: ").split(", ")}
    public = {name: getattr(functional, name) for name in functional.__all__}
    exec("\n".join(program(told)), {"np": np, "normal_cdf": functional.normal_cdf, **public}, values)
    return values


# The program: run with NumPy, and the functions that users call themselves ---------------------------------------------

RNG = np.random.default_rng(0)
T = RNG.normal(size=(4, 3))
LABELS = np.array([0, 1, 2, 0])
PROBABILITIES = np.abs(T) / np.abs(T).sum(axis=1, keepdims=True)

OF_ONE = {
    "cross-entropy": lambda x: nn.cross_entropy(x, LABELS),
    "cross-entropy of probabilities": lambda x: nn.cross_entropy(x, PROBABILITIES, "sum"),
    "smoothed": lambda x: nn.cross_entropy(x, LABELS, label_smoothing=0.1),
    "cross-entropy of images": lambda x: nn.cross_entropy(x.reshape(2, 3, 2), np.array([[0, 1], [2, 0]])),
    "mse": lambda x: nn.mse_loss(x, T),
    "mse of the target": lambda x: nn.mse_loss(T, x, "sum"),
    "l1": lambda x: nn.l1_loss(x, T),
    "huber": lambda x: nn.huber_loss(x, T),
    "bce": lambda x: nn.binary_cross_entropy_with_logits(x, (T > 0) * 1.0),
    "hinge": lambda x: nn.hinge_loss(x, np.sign(T)),
    "linear": nn.Linear(3, 2, rng=0),
    "linear of more axes": lambda x: nn.Linear(3, 2, rng=0)(x.reshape(2, 2, 3)),
    "layer norm": nn.LayerNorm(3),
    "batch norm": nn.BatchNorm1d(3) if hasattr(nn, "BatchNorm1d") else nn.LayerNorm(3),
    **{name: getattr(functional, name) for name in (
        "softmax", "log_softmax", "relu", "leaky_relu", "elu", "selu", "sigmoid", "silu", "softplus", "gelu",
    )},
    "variance": lambda x: np.var(x, axis=0),
    "deviation": np.std,
    "norm": np.linalg.norm,
    "max": lambda x: np.max(x, axis=0),
    "where": lambda x: np.where(x > 0, x, 0.5),
    "clip": lambda x: np.clip(x, -1, 1),
    "power": lambda x: np.abs(x) ** x,
    "prod": lambda x: np.prod(x, axis=1),
    "cumsum": lambda x: np.cumsum(x, axis=0),
    "sort": lambda x: np.sort(x, axis=0),
    "indices": lambda x: x[[0, 0, 1]],
    "more indices": lambda x: x[np.array([0, 1, 2, 3, 0, 1, 2, 3]), 1],
    "stack": lambda x: np.stack([x, np.sin(x)]),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "det": lambda x: np.linalg.det(x[:3]),
    "solve": lambda x: np.linalg.solve(x[:3], np.ones(3)),
    "cholesky": lambda x: np.linalg.cholesky(x.T @ x),
    "eigenvalues": lambda x: np.linalg.eigvalsh(x.T @ x),
    "eigh": lambda x: np.linalg.eigh(x.T @ x)[0] * np.linalg.eigh(x.T @ x)[1] ** 2,
    "svd": lambda x: np.linalg.svd(x, full_matrices=False)[1],
    "float32": lambda x: x.astype(np.float32) * np.float32(3.0) + 1.5,
    "constant": lambda x: x * mg.Tensor(3.0) + mg.Tensor(np.float64(-2.0)) ** 2,
}  # fmt: skip


@pytest.mark.parametrize("function", OF_ONE.values(), ids=OF_ONE)
def test_the_program_runs_and_gives_what_the_engine_gives(function):
    x = mg.Tensor(RNG.normal(size=(4, 3)), requires_grad=True)
    out = function(x)
    loss = (out * out).sum() if out.size > 1 else out
    told = story(explain(loss, names={"x": x, "loss": loss, "layer": function}))
    values = run(told, loss, {"x": x, "loss": loss, "layer": function})
    tolerance = 1e-5 if function is OF_ONE["float32"] else 1e-11
    np.testing.assert_allclose(values["loss"], loss.data, rtol=tolerance)
    np.testing.assert_allclose(values["d_x"], mg.grad(loss, x)[0], rtol=tolerance, atol=1e-13)
    assert not re.search(r"\brule_of|\b_[a-z]", "\n".join(program(told)))


def test_cross_entropy_backward_is_two_lines_and_as_source_prints_them():
    model = nn.MLP((2, 8, 3), nn.Tanh, rng=0)
    X, y = RNG.normal(size=(16, 2)), RNG.integers(0, 3, 16)
    loss = nn.cross_entropy(model(X), y)
    lines = program(story(explain(loss, names={"model": model, "X": X, "y": y, "loss": loss})))
    assert lines[-9:-6] == [
        "d_loss = np.ones_like(loss)",
        "d_log_softmax1 = np.zeros((16, 3))\nd_log_softmax1[np.arange(16), y] = -(d_loss / 16)",
        "d_linear2 = d_log_softmax1 - np.exp(log_softmax1) * d_log_softmax1.sum(axis=1, keepdims=True)",
    ]
    assert lines[-1] == "d_model_0_bias = d_linear1.sum(axis=0)"
    text = mg.source(lambda X: mg.grad(nn.cross_entropy(model(X), y), list(model.parameters())), X)
    printed = text.replace("log_softmax", "log_softmax1").replace("log_softmax11", "log_softmax1")
    assert lines[-7].partition(" = ")[2] in printed
    assert lines[-8].partition("\n")[0] in printed


def test_paths_that_meet_and_take_several_lines():
    a = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    loss = a[0] * a[2] + a[1:].sum()
    names = {"a": a, "loss": loss}
    told = story(explain(loss, names=names))
    assert "part1 = np.zeros((3,))\npart1[0] = d_getitem2\nd_a = d_a + part1" in [
        line.replace("getitem1", "getitem2") for line in program(told)
    ]
    np.testing.assert_allclose(run(told, loss, names)["d_a"], mg.grad(loss, a)[0])


ODD_NAMES = ["np", "sum", "part1", "a", "d_a", "linear", "sigmoid", "lambda", "a.b", "a_b", "d_multiply1", "new_a", "θ"]


def test_names_do_not_meet():
    tensors = {name: mg.Tensor(1.0 + i, requires_grad=True) for i, name in enumerate(ODD_NAMES)}
    product = tensors["np"]
    for x in list(tensors.values())[1:]:
        product = functional.softplus(product * x)
    product = product * tensors["a"]  # its cotangent comes early: it must not take the name of the value d_a
    told = story(explain(product, names=tensors))
    values = run(told, product, tensors)
    assert len({node["name"] for node in told["nodes"]}) == len(told["nodes"])
    gradients = sorted(float(g) for g in mg.grad(product, list(tensors.values())))
    found = sorted(float(values[f"d_{row[0]}"]) for row in told["steps"][-1]["table"][1:])
    np.testing.assert_allclose(found, gradients, rtol=1e-12)


def test_a_name_is_the_same_everywhere_and_the_dotted_one_is_said_once():
    model = nn.MLP((2, 3, 2), nn.Tanh, rng=0)
    X, y = RNG.normal(size=(8, 2)), RNG.integers(0, 2, 8)
    told = story(explain(nn.cross_entropy(model(X), y), names=model, optimizer=optim.Adam(model.parameters())))
    assert told["steps"][0]["table"] == [
        ["", "what", "shape", "value"],
        *([name, what, shape, told["steps"][0]["values"][str(i)]["box"]] for i, name, what, shape in (
            (0, "array", "given array", "(8, 2)"), (1, "weight_0", "parameter 0.weight", "(3, 2)"),
            (2, "bias_0", "parameter 0.bias", "(3,)"), (5, "weight_2", "parameter 2.weight", "(2, 3)"),
            (6, "bias_2", "parameter 2.bias", "(2,)"), (9, "target", "given array", "(8,)"),
        )),
    ]  # fmt: skip
    rest = json.dumps([told["lines"], told["steps"][1:], [{**node, "what": ""} for node in told["nodes"]]])
    assert "0.weight" not in rest
    for node in told["nodes"]:
        assert re.search(rf"\b{node['name']}\b", "\n".join(program(told)))


def test_data_has_the_name_that_it_has():
    w, b = mg.Tensor([1.0, 2.0], requires_grad=True), mg.Tensor([0.5, 0.1], requires_grad=True)
    x, labels = RNG.normal(size=(5, 2)), np.array([0, 1, 1, 0, 1])
    told = story(explain(nn.cross_entropy(x * w + b, labels), names={"x": x, "labels": labels, "w": w}))
    assert program(told)[0] == "# given: x, w, parameter, labels"
    assert [node["sign"] for node in told["nodes"] if not node["call"]] == ["(5, 2)", "(2,)", "(2,)", "(5,)"]
    plain = story(explain(nn.cross_entropy(x * w + b, labels)))
    assert program(plain)[0] == "# given: array, parameter, parameter_2, target"


@pytest.mark.parametrize(
    ("function", "local"),
    [
        (lambda a, b: a * b, "b"), (lambda a, b: np.cos(a) + b, "-np.sin(a)"), (lambda a, b: a / b, "1.0 / b"),
        (lambda a, b: np.tanh(a) - b, "1 - tanh1 * tanh1"), (lambda a, b: a + b, ""), (lambda a, b: b - a, ""),
        (lambda a, b: np.exp(a) * b, "exp1"), (lambda a, b: np.sqrt(a) * b, "1.0 / (2 * sqrt1)"),
    ],
)  # fmt: skip
def test_local_derivatives(function, local):
    a, b = mg.Tensor(0.5, requires_grad=True), mg.Tensor(2.0, requires_grad=True)
    told = story(explain(function(a, b), names={"a": a, "b": b}))
    (row,) = (step["rows"][0] for step in told["steps"] if step.get("to") == 0)
    assert row[0]["code"] == local


def test_what_a_module_computed_without_a_gradient_is_said():
    X, net = RNG.normal(size=(4, 3)), nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1, rng=0))
    told = story(explain(net(X).sum(), names={"net": net, "X": X}))
    assert told["steps"][0]["table"][2][:2] == ["array", "computed from X, without a gradient"]


def test_a_rule_that_cannot_be_recorded_is_a_call():
    cube = dispatched(lambda x: x**3)
    derivative(cube, lambda g, out, x: g * np.asarray(3 * x**2), smooth=True)
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    told = story(explain(cube(x).sum(), names={"x": x}))
    assert program(told)[-1].startswith("d_x = rule_of_")
    assert told["steps"][-1]["table"][1] == ["x", "[1, 2]", "[3, 12]"]


def test_a_loss_that_is_computed_elsewhere_is_a_call():
    """Its code is called with arrays, and never to see what it does."""

    def value_and_gradient(w):
        if type(w) is not np.ndarray:
            raise ValueError("not an array")
        return w @ w, 2 * w

    objective = mg.Objective.external(value_and_gradient, np.array([1.0, 2.0]))
    told = story(explain(objective.loss(), names={"w": objective.parameters[0]}))
    assert program(told)[1] == "external_loss1 = external_loss(w, ExternalLoss)"
    assert told["steps"][-1]["table"][1] == ["w", "[1, 2]", "[2, 4]"]


# The optimizer's step -------------------------------------------------------------------------------------------------

STEPPED = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, {"maximize": True},
            {"momentum": 0.5, "dampening": 0.3}],
    "Momentum": [{}, {"maximize": True}], "RMS": [{}], "Adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.2}],
    "RMSprop": [{}, {"centered": True, "momentum": 0.9}, {"start": "gradient", "eps": 0.0}],
    "Adadelta": [{}], "Adam": [{}, {"amsgrad": True, "weight_decay": 0.1}], "AdamW": [{}, {"weight_decay": 0.0}],
    "Adamax": [{}], "NAdam": [{}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "RAdam": [{}, {"weight_decay": 0.1}], "Lion": [{}, {"weight_decay": 0.1}], "Prodigy": [{}, {"d0": 0.1}],
    "ScheduleFreeAdamW": [{}, {"warmup_steps": 5, "weight_decay": 0.1}],
}  # fmt: skip


def optimizer_after(steps, name, **options):
    w = mg.Tensor([0.5, -1.5, 2.0], requires_grad=True)
    optimizer = getattr(optim, name)([w], **options)
    for _ in range(steps):
        optimizer.zero_grad()
        (np.tanh(w) * w).sum().backward()
        optimizer.step()
    optimizer.zero_grad()
    (np.tanh(w) * w).sum().backward()
    return w, optimizer


@pytest.mark.parametrize("steps", [0, 1, 8])
@pytest.mark.parametrize(("name", "options"), [(name, options) for name, each in STEPPED.items() for options in each])
def test_the_formula_of_an_update_gives_the_update(monkeypatch, name, options, steps):
    monkeypatch.setattr(formulas, "_SPELLED", ())
    w, optimizer = optimizer_after(steps, name, **options)
    *lines, numbers = formulas.of_step(optimizer, {w: "w"}, set()).replace("₁", "1").replace("₂", "2").splitlines()
    state = next(optimizer.blocks())[3]
    values = {f"sum_{name}" if key == "sum" else key: x for key, x in state.items()} | {"θ": w.data, "g": w.grad}
    for told in filter(None, numbers.split(",  ")):
        letter, _, number = told.partition(" = ")
        np.testing.assert_allclose(values.setdefault(letter, float(number)), float(number), rtol=1e-5)
    assert "maximize" not in options or "-g" in "".join(lines)
    exec("\n".join(lines), {"np": np}, values)  # a name that is not told would be an error
    optimizer.step()
    np.testing.assert_allclose(values.get("new_θ", values["θ"]), w.data, rtol=1e-4)
    for key, x in next(optimizer.blocks())[3].items():
        if key != "t":
            key = "sum_" + name if key == "sum" else key
            np.testing.assert_allclose(values.get(f"new_{key}", values.get(key)), x, rtol=1e-4, atol=1e-12)


def test_every_optimizer_that_steps_by_the_gradient_is_tested():
    kinds = {name for name in optim.__all__ if isinstance(getattr(optim, name), type)}
    kinds = {name for name in kinds if issubclass(getattr(optim, name), optim.Optimizer)}
    assert {*STEPPED, "Muon", "Optimizer"} == {name for name in kinds if not getattr(optim, name).wants_closure}


FORMULAS = [
    ("SGD", {"lr": 0.1}, ["θ ← θ − η · g", "η = 0.1"]),
    ("SGD", {"lr": 0.1, "momentum": 0.9}, ["b ← momentum · b + g", "θ ← θ − η · b", "momentum = 0.9,  η = 0.1"]),
    ("SGD", {"lr": lambda t: 0.1 / (1 + t), "weight_decay": 0.01},
     ["θ ← θ − η · (g + weight_decay · θ)", "η = 0.0333333,  weight_decay = 0.01"]),
    ("RMS", {}, ["sum_RMS ← sum_RMS + g²", "θ ← θ − η · (g / sqrt(sum_RMS / (t + 1)))", "η = 0.01,  t = 2"]),
    ("Adam", {"lr": 0.1},
     ["part1 ← t + 1", "m ← m · β₁ + (1 − β₁) · g", "v ← v · β₂ + (1 − β₂) · g²", "part2 ← 1 − β₁^part1",
      "part3 ← η · (m / (part2 / (1 − β₂^part1)^0.5 · sqrt(v) + part2 · eps))", "θ ← θ − part3",
      "t = 2,  β₁ = 0.9,  β₂ = 0.999,  η = 0.1,  eps = 1e-08"]),
    ("Lion", {"lr": 0.5},
     ["new_m ← m · β₂ + (1 − β₂) · g", "θ ← θ − η · sign(β₁ · m + (1 − β₁) · g)", "β₂ = 0.99,  η = 0.5,  β₁ = 0.9"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "expected"), FORMULAS)
def test_only_what_is_set_is_in_the_formula(name, options, expected):
    w, optimizer = optimizer_after(2, name, **options)
    assert formulas.of_step(optimizer, {w: "w"}, set()).splitlines() == expected


def test_letters_that_mean_something_else_on_the_page():
    w, b = mg.Tensor(2.0, requires_grad=True), mg.Tensor(-1.0, requires_grad=True)
    optimizer = optim.SGD([w, b], lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        loss = (w * w + b) ** 2
        loss.backward()
        optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    step = story(explain((w * w + b) ** 2, names={"w": w, "b": b}, optimizer=optimizer))["steps"][-1]
    assert step["formula"].splitlines()[:2] == ["b_SGD ← momentum · b_SGD + g", "θ ← θ − η · b_SGD"]
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_groups_have_formulas_of_their_own():
    w, b = mg.Tensor(2.0, requires_grad=True), mg.Tensor(-1.0, requires_grad=True)
    optimizer = optim.SGD([{"params": [w], "lr": 0.3}, {"params": [b], "momentum": 0.5}], lr=0.1)
    step = story(explain(w * b, names={"w": w, "b": b}, optimizer=optimizer))["steps"][-1]
    assert step["formula"] == "w:\nθ ← θ − η · g\nη = 0.3\n\nb:\nθ ← θ − η · g\nb_SGD ← g\nη = 0.1"


@pytest.mark.parametrize("kind", [optim.Muon, optim.Prodigy])
def test_where_it_is_long_or_of_several_groups_at_once_the_docstring_has_the_formula(kind):
    W, b = mg.Tensor(np.eye(2), requires_grad=True), mg.Tensor([1.0, 2.0], requires_grad=True)
    optimizer = kind([{"params": [W]}, {"params": [b]}] if kind is optim.Prodigy else [W, b])
    formula = story(explain((W @ b).sum(), names={"W": W, "b": b}, optimizer=optimizer))["steps"][-1]["formula"]
    assert formula.splitlines()[-1].strip() in kind.__doc__


def test_an_optimizer_of_ones_own():
    class Clumsy(optim.Optimizer):
        """Moves by 1.

        .. code-block:: text

            θ ← θ − 1
        """

        lr: float = optim.hyperparameters.rate(0.5)

        def update(self, theta, g, state, lr, group):
            return theta - np.asarray(g) / np.asarray(g)

    class Signs(Clumsy):
        scale: float = 2.0

        def update(self, theta, g, state, lr, group):
            return theta - lr * group["scale"] * np.sign(g)

    w = mg.Tensor([0.5, -1.5], requires_grad=True)
    for kind, expected in ((Clumsy, "θ ← θ − 1"), (Signs, "θ ← θ − η · scale · sign(g)\nη = 0.5,  scale = 2")):
        told = story(explain((w * w).sum(), names={"w": w}, optimizer=kind([w])))
        assert told["steps"][-1]["formula"] == expected
