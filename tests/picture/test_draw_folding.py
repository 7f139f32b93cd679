"""Modules in a picture, and large graphs as few nodes."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import time

import dot_parser
import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn
from microgradopt.graph import trace
from microgradopt.graph.cost import cost
from microgradopt.picture import draw


def needing(value):
    return mg.Tensor(value, requires_grad=True)


def read(thing, *args, **options):
    return dot_parser.parse(draw(thing, *args, **options).source)


# Modules and folding --------------------------------------------------------------------------------------------------


def mlp(depth=2):
    model = nn.MLP((2, *[4] * depth, 1), nn.Tanh, rng=0)
    x = np.random.default_rng(0).normal(size=(8, 2))
    return model, x, (model(x) ** 2).mean()


def test_modules_are_frames_in_frames_with_their_parameters_and_the_data_stay_outside():
    model, x, loss = mlp()
    graph = trace(loss, names={"model": model, "x": x})
    dot = read(graph)
    titles = {name: each.attributes.get("label") for name, each in dot.clusters.items()}
    parents = {titles[name]: titles[each.parent] for name, each in dot.clusters.items() if name}
    assert parents == {"model: MLP": titles[""]} | {
        f"model.{i}: {'Tanh' if i % 2 else 'Linear'}": "model: MLP" for i in range(5)
    }
    inside = {titles[name]: {dot.label(each)[0] for each in found.members} for name, found in dot.clusters.items()}
    assert inside["model.0: Linear"] == {"xWᵀ + b", "model_0_weight", "model_0_bias"}
    assert inside["model.1: Tanh"] == {"tanh"}
    assert "x" in inside[titles[""]]


def test_depth_folds_modules_with_all_they_hold_and_keeps_the_edges():
    model, x, loss = mlp()
    graph = trace(loss, names={"model": model, "x": x})
    dot = read(graph, depth=1)
    inside = cost(node for node in graph if node.module)
    lines = dot.label("g0")
    assert lines == [
        "model: MLP", "5 operations: xWᵀ + b (3), tanh (2)", "6 parameters", f"{inside.flops} flop · {inside.bytes / 1000:.3g} kB",
    ]  # fmt: skip
    assert {dot.label(name)[0] for name in dot.nodes} == {"x", "model: MLP", "x²", "mean"}
    names = {name: dot.label(name)[0] for name in dot.nodes}
    assert [(names[tail], names[head]) for tail, head, _ in dot.edges] == [
        ("x²", "mean"),
        ("x", "model: MLP"),
        ("model: MLP", "x²"),
    ]
    assert "of 14 nodes folded into 1" in dot.legend()[-1]
    assert len(read(graph, depth=2).nodes) == 3 + 5


def test_the_backward_pass_keeps_its_edges_from_what_was_folded():
    model, x, loss = mlp()
    dot = read(mg.grad(loss, list(model.parameters()), create_graph=True), names={"model": model, "x": x}, depth=1)
    assert "6 parameters" in dot.label("g0")  # the backward pass uses the weights too, but they are the model's
    assert any(tail == "g0" and head.startswith("n") and each["style"] == "dashed" for tail, head, each in dot.edges)
    assert any(each.get("label", "").endswith("×") for _, _, each in dot.edges)


def chain(length):
    y = needing(0.5)
    for _ in range(length):
        y = np.sin(y)
    return y


def many_leaves():
    return sum((p * p for p in (needing(float(i)) for i in range(1000))), start=needing(0.0))


def used_twice():
    leaves = [needing(float(i)) for i in range(1000)]
    return sum(leaves, start=needing(0.0)) * sum(leaves, start=needing(0.0))


def steps_of_descent():
    x = w = needing(2.0)
    for _ in range(400):
        w = w - 0.1 * mg.grad(w * w, w, create_graph=True)[0]
    return w + x


@pytest.mark.parametrize("make", [lambda: chain(5000), many_leaves, used_twice, steps_of_descent])
@pytest.mark.parametrize("style", ["arrays", "scalar"])
def test_large_graphs_are_folded_to_a_size_that_can_be_looked_at(make, style):
    graph = trace(make())
    dot = read(graph, style=style, roll=False)
    assert len(dot.nodes) <= 400
    assert f"of {len(graph)} nodes folded into" in dot.legend()[-1]
    assert {end for tail, head, _ in dot.edges for end in (tail, head)} <= set(dot.nodes)
    content = (" operation", " parameter", " constant")
    groups = [" ".join(dot.label(node)) for node in dot.nodes if node.startswith("g")]
    assert all(any(word in group for word in content) for group in groups)
    told = [line.split()[0] for line in dot.said() if " operation" in line]
    shown = sum(node.startswith("n") and dot.label(node)[0] in "+×−" for node in dot.nodes)
    assert sum(map(int, told)) + shown == cost(graph).operations


def test_100_000_nodes_are_quick():
    y = chain(100_000)
    start = time.perf_counter()
    draw(y)
    assert time.perf_counter() - start < 20  # 2.4 s on the machine of the author


def test_nan_is_still_seen_when_it_is_folded():
    y = chain(500)
    with np.errstate(all="ignore"):
        bad = chain(500) * np.log(y - 5.0)
    assert not any("NaN" in line for line in read(y, roll=False).said())
    assert any("NaN or Inf in" in line for line in read(bad, roll=False).said())


# The text -------------------------------------------------------------------------------------------------------------


def test_the_same_graph_gives_the_same_text_in_any_process():
    code = inspect.getsource(mlp) + inspect.getsource(chain) + inspect.getsource(needing)
    code = f"""
import numpy as np, microgradopt as mg
from microgradopt import nn
from microgradopt.picture import draw
{code}
model, x, loss = mlp()
g = mg.grad(loss, list(model.parameters()), create_graph=True)
print(draw(g, names={{"model": model}}).source, draw(chain(400)).source, draw(g, style="scalar", names=locals()).source)
"""
    texts = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()},
            capture_output=True, text=True, check=True, encoding="utf-8",
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert texts[0] == texts[1]
    assert texts[0].count("digraph") == 3


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_the_text_as_we_do():
    model, x, loss = mlp()
    drawing = draw(mg.grad(loss, list(model.parameters()), create_graph=True), names={"model": model, "<x>": x})
    dot = dot_parser.parse(drawing.source)
    theirs = json.loads(drawing.pipe("json"))
    nodes = {each["_gvid"]: each["name"] for each in theirs["objects"]}
    assert sorted(name for name in nodes.values() if name.startswith("n")) == sorted(dot.nodes)
    assert sorted((nodes[e["tail"]], nodes[e["head"]], e["id"]) for e in theirs["edges"]) == sorted(
        (tail, head, each["id"]) for tail, head, each in dot.edges
    )
    assert {e["name"]: e["label"] for e in theirs["objects"] if e["name"] in dot.nodes} == {
        name: each["label"] for name, each in dot.nodes.items()
    }
