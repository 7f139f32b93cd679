"""The traced graph is the computation: every call and value, in order, with its edges, names, roles and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from programs import data, program, steps

import microgradopt as mg
from microgradopt import nn
from microgradopt.graph import Node, trace
from microgradopt.graph.cost import cost, flops
from microgradopt.graph.text import call, identifier


def leaf(value, requires_grad=True):
    return mg.Tensor(value, requires_grad=requires_grad)


def replayed(node: Node):
    """A node's value computed from its inputs': its function called as the node says."""

    def value(x):
        if type(x) is Node:
            return x.value
        return type(x)(value(part) for part in x) if isinstance(x, list) else x

    return node.function(*map(value, node.arguments), **node.kwargs)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # at the tip of a norm a second derivative is not finite
@settings(max_examples=40)
@given(choices=steps)
def test_every_node_is_its_call(choices):
    x, w = (leaf(a) for a in data())
    graph = trace(program(choices)(x, w))
    before: set[Node] = set()
    for node in graph:
        assert set(node.inputs) <= before, "creation order"
        before.add(node)
        if node.function is not None and node.value is not None:
            np.testing.assert_array_equal(replayed(node), node.value)
    assert len({node.name for node in graph}) == len(graph)
    assert [edge.target for edge in graph.edges] == [node for node in graph for _ in node.inputs]


def test_edges_in_order_with_slots():
    a, b = leaf(2.0), leaf(3.0)
    graph = trace([a + a, np.power(a, b), np.concatenate([a[None], b[None], a[None]])], names={"a": a, "b": b})
    assert [(e.source.name, e.slot, e.part) for e in graph.edges if e.target.name == "add1"] == [
        ("a", 0, None),
        ("a", 1, None),
    ]
    assert [(e.source.name, e.slot) for e in graph.edges if e.target.name == "power1"] == [("a", 0), ("b", 1)]
    joined = [(e.slot, e.part) for e in graph.edges if e.target.name == "concatenate1"]
    assert joined == [(0, 0), (0, 1), (0, 2)]
    assert [node.name for node in graph.outputs] == ["add1", "power1", "concatenate1"]
    assert graph["add1"].argument_name(1) == "y"


def test_names_from_modules_callers_and_else_short_ones():
    model = nn.MLP((2, 3, 1), nn.Tanh, rng=0)
    X = np.ones((4, 2))
    score = model(X).sum()
    graph = trace(score, names=model)
    assert {n.name for n in graph if n.role == "parameter"} == {n for n, _ in model.named_parameters()}
    graph = trace(score, names=locals())
    assert graph["X"].role == "constant"
    assert graph["model.0.weight"].role == "parameter"
    assert graph.outputs[0].name == "score"
    assert [n.name for n in trace(score) if n.role != "parameter"] == ["c1", "linear1", "tanh1", "linear2", "sum1"]


def test_roles():
    x, c = leaf([1.0, 2.0]), leaf([3.0, 4.0], requires_grad=False)
    loss = np.sum(np.tanh(x * c) ** 2)
    (g,) = mg.grad(loss, x, create_graph=True)
    (h,) = mg.grad(g.sum(), x, create_graph=True)
    graph = trace([loss, h], inputs=[], names=locals())
    roles = graph.roles()
    assert (graph["x"].role, graph["c"].role, graph["loss"].role) == ("parameter", "constant", "forward")
    assert roles["forward"] == 4, "g.sum() is not needed for its gradient"
    assert roles["backward"] > 0
    assert roles["double backward"] > 0
    assert graph["h"].role == "double backward"
    assert trace(loss, inputs=[x], names=locals())["x"].role == "input"


def test_it_begins_at_the_inputs():
    x = leaf(0.5)
    middle = np.exp(x)
    graph = trace(np.sin(middle), inputs=[middle], names={"middle": middle})
    assert [(n.name, n.role) for n in graph] == [("middle", "input"), ("sin1", "forward")]
    assert graph["middle"].inputs == []


def test_gradients():
    x, w = (leaf(a) for a in data())
    y = np.tanh(x @ w)
    loss = (y * y).sum()
    graph = trace(loss, names=locals())
    assert all(node.gradient is None for node in graph), "nothing computed yet"
    graph = trace(loss, names=locals(), gradients=True)
    for name, g in zip("xwy", mg.grad(loss, [x, w, y]), strict=True):
        np.testing.assert_array_equal(graph[name].gradient, g)
    assert x.grad is None, "touches no .grad"
    loss.backward()
    np.testing.assert_array_equal(trace(loss, names=locals())["x"].gradient, x.grad)
    with pytest.raises(ValueError, match="one scalar"):
        trace(y, gradients=True)


def test_values_are_those_that_were_used():
    w = leaf([1.0, 2.0])
    loss = (w * w).sum()
    w.data = np.array([5.0, 5.0])
    np.testing.assert_array_equal(trace(loss, names=locals())["w"].value, [1.0, 2.0])


def test_modules():
    model = nn.Sequential(nn.Linear(2, 3, rng=0), nn.Sequential(nn.Tanh(), nn.Linear(3, 1, rng=0)))
    loss = (model(np.ones((4, 2))) ** 2).mean()
    where = {n.name: n.module for n in trace(loss, names={"m": model}) if n.function}
    assert where == {"linear1": "m.0", "tanh1": "m.1.0", "linear2": "m.1.1", "square1": "", "mean1": ""}


def test_depth_and_single_leaves():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    assert len(trace(y)) == 200_001
    assert [n.role for n in trace(x)] == ["parameter"]
    with pytest.raises(TypeError, match="wants tensors, not ndarray"):
        trace(np.ones(3))


def test_shared_arrays_are_one_node_and_numbers_one_each():
    X, w = np.ones((3, 2)), leaf(np.ones(2))
    graph = trace((X @ w + X @ (w * 2.0)).sum() + 2.0)
    assert [n.role for n in graph].count("constant") == 3


# Costs: closed forms --------------------------------------------------------------------------------------------------


def test_flops_by_shapes():
    x, w, b = leaf(np.ones((7, 5))), leaf(np.ones((3, 5))), leaf(np.ones(3))
    matmul = trace(x @ w.T)
    assert cost(matmul.nodes) == (2, 2 * 7 * 5 * 3, 8 * 7 * 3), "the transpose is a view, and free"
    linear = trace(nn.functional.linear(x, w, b)).outputs[0]
    assert flops(linear) == 2 * 7 * 5 * 3 + 7 * 3
    assert flops(trace(x.sum(axis=0)).outputs[0]) == 35
    assert flops(trace(np.tanh(x)).outputs[0]) == 35
    assert flops(trace(x.reshape(5, 7)).outputs[0]) == 0
    assert flops(trace(nn.functional.gelu(x)).outputs[0]) == 35


# Formulas -------------------------------------------------------------------------------------------------------------


def test_calls_in_words():
    a, b = leaf(np.ones((2, 3))), leaf(np.ones(3))
    graph = trace(((a * b - a) / 2.0).sum(axis=0)[1:].max() + np.where(b > 0, b, 0.0)[0], names=locals())
    names = {identifier(n.name): n.value for n in graph} | {"np": np}
    for node in graph:
        if node.function is not None:
            np.testing.assert_array_equal(eval(call(node), names), node.value)
    assert call(graph["multiply1"]) == "a * b"
    assert [identifier(n) for n in ("0.weight", "layers.0.bias", "lambda", "a b", "", "0")] == [
        "weight_0", "layers_0_bias", "lambda_", "a_b", "_", "_0"
    ]  # fmt: skip


@pytest.mark.parametrize("names", [5, ["w"], {1: 2.0}])
def test_names_that_are_none(names):
    w = mg.Tensor(1.0, requires_grad=True)
    with pytest.raises(TypeError, match=r"names: a module, or a dictionary"):
        mg.trace(w * 2, names=names)
