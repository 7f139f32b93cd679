"""Drawings: what the DOT text says, read by a parser of its own, is what the graph says."""

from __future__ import annotations

import math
from unittest import mock

import dot_parser
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import data, program, steps

import microgradopt as mg
from microgradopt import nn
from microgradopt.graph import Graph, trace
from microgradopt.nn.losses import nll_loss
from microgradopt.picture import draw, drawing


def needing(value):
    return mg.Tensor(value, requires_grad=True)


def read(thing, *args, **options):
    return dot_parser.parse(draw(thing, *args, **options).source)


def edges_of(graph: Graph):
    """What the edges are to be: (source, target, id)."""
    number = {node: i for i, node in enumerate(graph.nodes)}
    found = []
    for node in graph.nodes:
        for slot, part, source in node.operands():
            ending = "" if part is None else f"-{part}"
            found.append((number[source], number[node], f"e{number[source]}-{number[node]}-{slot}{ending}"))
    return found


# Nodes and edges are the graph's --------------------------------------------------------------------------------------


def traced(choices, order):
    """A random program's graph: forward, backward or double backward."""
    x, w = map(needing, data())
    output = program(choices)(x, w)
    for _ in range(order):
        g = mg.grad(output, [x, w], create_graph=True)
        output = sum((each * each).sum() for each in g)
    return trace(output, names={"x": x, "w": w})


def source_of(tail):
    """The node that an arrow comes from; of one that is repeated beside a use, its own."""
    return f"n{tail[1:].split('-')[0]}" if tail.startswith("r") else tail


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # at the tip of a norm a second derivative is not finite
@settings(max_examples=40)
@given(choices=steps, order=st.sampled_from([0, 0, 1, 2]))
def test_nodes_and_edges_are_those_of_the_graph(choices, order):
    graph = traced(choices, order)
    with mock.patch.object(drawing, "_COSTLY", math.inf):  # whatever the layout may cost
        dot = read(graph, depth=1, roll=False)  # nothing is in a module: nothing is folded
    repeated = [name for name in dot.nodes if name.startswith("r")]
    assert all(
        dot.label(name) in ("x", "w") or graph.nodes[int(name[1:].split("-")[0])].function is None for name in repeated
    )
    for name in repeated:
        del dot.nodes[name]
    assert list(dot.nodes) == [f"n{i}" for i in range(len(graph))]
    assert [(source_of(tail), head, each["id"]) for tail, head, each in dot.edges] == [
        (f"n{source}", f"n{target}", name) for source, target, name in edges_of(graph)
    ]
    for node, (name, attributes) in zip(graph.nodes, dot.nodes.items(), strict=True):
        line = {"backward": "dashed", "double backward": "dotted"}.get(node.role, "")
        assert line in attributes["style"]
        assert all(each["style"] == (line or "solid") for _, head, each in dot.edges if head == name)
        if isinstance(node.value, np.ndarray):
            assert f"{node.shape} {node.dtype}" in dot.label(name) or not node.shape
    assert all(f"{role}: " in dot.legend()[1] for role in graph.roles())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # at the tip of a norm a second derivative is not finite
@settings(max_examples=15)
@given(choices=steps)
def test_the_scalar_view_has_the_same_edges_and_an_operation_before_each_result(choices):
    graph = traced(choices, 0)
    dot = read(graph, style="scalar", depth=1, roll=False)
    made = [(f"opn{i}", f"n{i}") for i, node in enumerate(graph.nodes) if node.function is not None]
    assert [(tail, head) for tail, head, each in dot.edges if "id" not in each] == made
    found = [(source_of(tail), head, each["id"]) for tail, head, each in dot.edges if "id" in each]
    assert found == [(f"n{source}", f"opn{target}", name) for source, target, name in edges_of(graph)]


@pytest.mark.parametrize(
    ("function", "labels"),
    [
        (lambda a, b: a + a, ["", ""]),
        (lambda a, b: a * b, ["", ""]),
        (lambda a, b: a - b, [" x", " y"]),
        (lambda a, b: b / a, [" x", " y"]),
        (lambda a, b: np.concatenate([b, a, b]), [" arrays[0]", " arrays[1]", " arrays[2]"]),
        (lambda a, b: np.where(a.data > 1, b, a), [" condition", " x", " y"]),
        (lambda a, b: np.tanh(a), [""]),
    ],
)
def test_edges_say_which_argument_they_are_where_it_matters(function, labels):
    dot = read(function(needing([1.0, 2.0]), needing([3.0, 4.0])))
    assert [each.get("label", "") for _, _, each in dot.edges] == labels


@pytest.mark.parametrize(
    ("function", "sign"),
    [
        (lambda x: x * x, "×"), (lambda x: x + x, "+"), (lambda x: x - 1, "−"), (lambda x: x / 2, "÷"), (lambda x: x**2, "x²"),
        (np.sqrt, "√"), (np.tanh, "tanh"), (np.exp, "eˣ"), (lambda x: x.sum(), "Σ"), (lambda x: x.sum(axis=0), "Σ axis=0"),
        (lambda x: x @ x, "@"), (lambda x: x[0:2, 1], "[0:2, 1]"), (lambda x: x.T, "xᵀ"), (np.arctan, "arctan"),
        (lambda x: x.max(axis=1, keepdims=True), "max axis=1 keepdims=True"), (lambda x: np.linalg.eigh(x)[0], "[0]"),
    ],
)  # fmt: skip
def test_operations_are_in_mathematical_form_with_their_settings(function, sign):
    dot = read(function(needing(np.eye(3) + 1.0)))
    assert dot.label(list(dot.nodes)[-1])[0] == sign


# What a node says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (1.23456789, ["float64", "1.235"]),
        (np.float32(0.1), ["float32", "0.1"]),
        ([1.0, 2.5], ["(2,) float64", "[1.  2.5]"]),
        (np.arange(12.0).reshape(3, 4), ["(3, 4) float64", "0 … 11"]),
        (np.full((4, 4), 0.5, np.float32), ["(4, 4) float32", "all 0.5"]),
        (np.zeros((0, 3)), ["(0, 3) float64", "[]"]),
        ([np.nan, 1.0, -np.inf], ["(3,) float64", "[ nan   1. -inf]", "⚠ 1 NaN, 1 Inf"]),
        (np.where(np.arange(9) < 2, np.nan, np.arange(9)), ["(9,) float64", "2 … 8", "⚠ 2 NaN"]),
        (np.full(7, np.inf), ["(7,) float64", "⚠ 7 Inf"]),
    ],
)
def test_a_leaf_says_its_name_shape_dtype_and_value(value, lines):
    x = needing(value)
    dot = read(x, names={"weight": x})
    assert dot.label("n0") == ["weight", *lines]
    assert (dot.nodes["n0"].get("penwidth") == "3") == (not np.isfinite(value).all())
    assert not dot.edges


def test_a_large_argument_that_is_no_operand_is_told_by_its_shape():
    dot = read(nll_loss(needing(np.ones((9, 2))), np.zeros(9, int)))
    assert dot.label("n1")[0] == "nll_loss target=(9,) int64"


def test_a_mask_says_how_much_of_it_is_true():
    assert "3 of 8 True" in read(np.where(np.arange(8) < 3, needing(np.arange(8.0)), 0.0)).said()


def test_gradients_are_shown_where_there_are_some_and_never_a_zero_that_lies():
    x, w, data_ = needing(2.0), needing(0.0), mg.Tensor(3.0)
    loss = x * w * data_
    assert "gradient not computed" not in read(loss).said(), "nobody has asked for one"
    loss.backward()
    assert [line for line in read(loss).said() if "gradient" in line] == ["gradient 0", "gradient 6"]
    assert [line for line in read(loss, gradients=True).said() if "gradient" in line] == [
        "gradient 0", "gradient 6", "gradient 3", "gradient 1",
    ]  # fmt: skip
    (x * np.array(np.nan)).backward()
    assert "gradient 6" in read(loss).said(), "of w, from this loss"
    assert [line for line in read(loss).said() if line == "gradient 0"] == [], "x has gathered another one's too"
    assert read(loss).said().count("gradient not computed") == 1
    broken = needing(1.0) * np.array(np.nan)
    broken.backward()
    assert "⚠ gradient: 1 NaN" in read(broken).said()


def test_an_input_that_wants_a_gradient_says_so_and_data_do_not():
    x, y, w = needing([1.0, 2.0]), mg.Tensor([3.0, 4.0]), needing(2.0)
    loss = (x * y * w).sum()
    loss.backward()
    x.grad = None
    assert read(loss, inputs=[x, y, w]).said().count("gradient not computed") == 1


def test_costs_are_those_of_the_cost_model():
    x, w = needing(np.ones((8, 3))), needing(np.ones((3, 5)))
    dot = read(np.tanh(x @ w))
    assert dot.label("n2") == ["@", "(8, 5) float64", "all 3", "240 flop · 320 B"]
    assert dot.legend() == ["2 operations, 280 flop, 640 B", "parameter: blue · forward: white"]


@pytest.mark.parametrize(
    "function", [np.linalg.det, lambda A: np.linalg.slogdet(A)[1], lambda A: np.linalg.svd(A)[1][0]]
)
def test_a_rule_that_calls_a_function_of_several_results_is_drawn(function):
    A = needing(np.eye(3) + 1.0)
    (g,) = mg.grad(function(A), A, create_graph=True)
    graph = trace(g)
    assert [name for name in read(g).nodes if name.startswith("n")] == [f"n{i}" for i in range(len(graph))]


def test_a_loss_that_is_computed_elsewhere_is_not_called_to_be_drawn():
    calls = []
    loss = mg.Objective.external(lambda w: (calls.append(w) or w @ w, 2 * w), np.ones(3)).loss()
    before = len(calls)
    assert len(read(loss).nodes) == 2
    assert len(calls) == before


# Micrograd's picture --------------------------------------------------------------------------------------------------


def neuron():
    x1, x2, w1, w2, b = (needing(v) for v in (2.0, 0.0, -3.0, 1.0, 6.8813735870195432))
    n = x1 * w1 + x2 * w2 + b
    o = np.tanh(n)
    return o, locals()


def test_the_scalar_view_says_what_micrograd_says():
    o, names = neuron()
    o.backward()
    dot = read(o, names, style="scalar")
    records = [" | ".join(dot.label(name)) for name in dot.nodes if dot.nodes[name]["shape"] == "record"]
    assert sorted(records) == sorted([
        "x1 | data 2.0000 | grad -1.5000", "w1 | data -3.0000 | grad 1.0000", "data -6.0000 | grad 0.5000",
        "x2 | data 0.0000 | grad 0.5000", "w2 | data 1.0000 | grad 0.0000", "data 0.0000 | grad 0.5000",
        "data -6.0000 | grad 0.5000", "b | data 6.8814 | grad 0.5000", "n | data 0.8814 | grad 0.5000",
        "o | data 0.7071 | grad 1.0000",
    ])  # fmt: skip
    assert sorted(dot.label(name)[0] for name in dot.nodes if name.startswith("op")) == ["+", "+", "tanh", "×", "×"]
    assert dot.clusters[""].attributes["rankdir"] == "LR"


def grads(dot):
    return [line for line in dot.said() if line.startswith("grad")]


def test_the_scalar_view_shows_no_gradient_that_does_not_belong_to_it():
    o, names = neuron()
    assert grads(read(o, names, style="scalar")) == []
    o.backward()
    o.backward()  # the leaves' gradients are now twice those of the values between
    found = grads(read(o, names, style="scalar"))
    assert "grad -3.0000" in found
    assert found.count("grad not computed") == 5
    names["w1"].data = 1.0  # as by an optimizer's step: a sweep is no longer possible
    assert grads(read(o, names, style="scalar")).count("grad not computed") == 5


def test_the_scalar_view_has_numbers_for_all_sizes():
    x = needing(1e-9)
    y = x * 1e-9
    y.backward()
    assert read(y, style="scalar").said() == [
        "data 1e-09", "grad 1e-09", "data 1e-09", "output", "data 1e-18", "grad 1.0000", "×",
    ]  # fmt: skip
    assert "data 1e+300" in read(needing(1e300), style="scalar").said()
    assert "several results" in read(np.linalg.eigh(needing(np.eye(2)))[0], style="scalar").said()
    with np.errstate(all="ignore"):
        assert "⚠ 1 NaN" in read(np.log(needing(-1.0)), style="scalar").said()


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [None, 3.0, "x", np.ones(2), [], [needing(1.0), 2.0], {"a": 1}, nn.Linear(1, 1)])
def test_what_is_no_tensor_and_no_graph_is_refused(thing):
    with pytest.raises(TypeError, match="draw: wants a tensor, several, or a Graph, not"):
        draw(thing)


def test_options_that_would_do_nothing_are_refused():
    x = needing(1.0)
    y = x * x
    with pytest.raises(ValueError, match='style is "arrays" or "scalar"'):
        draw(y, style="micrograd")
    for depth in (0, -1, "1", 1.0, True):
        with pytest.raises(ValueError, match="depth is 1 for the outermost"):
            draw(y, depth=depth)
    for options in ({"names": {"x": x}}, {"gradients": True}, {"inputs": x}, {"inputs": [x]}):
        with pytest.raises(TypeError, match="are for tensors"):
            draw(trace(y), **options)
    with pytest.raises(ValueError, match="one scalar output"):
        draw([y, y], gradients=True)


def test_a_compiled_function_is_drawn_as_its_program():
    f = mg.compile(lambda x: np.tanh(x).sum())
    f(np.ones(3))
    dot = dot_parser.parse(f.draw().source)
    assert list(dot.nodes) == [f"n{i}" for i in range(len(f.graph))]


@pytest.mark.parametrize("style", ["arrays", "scalar"])
def test_large_values_that_a_program_has_let_go_are_not_said_to_be_zero(style):
    f = mg.compile(lambda x: np.tanh(x).sum())
    f(np.ones((300, 300)))
    said = dot_parser.parse(f.draw(style=style).source).said()
    assert any("value not kept" in line for line in said)
    assert not any("all 0" in line for line in said)
