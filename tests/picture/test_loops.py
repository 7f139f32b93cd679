"""Loops in a picture: drawn once, with how often they ran; and graphs that would take Graphviz too long."""

import time

import dot_parser
import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn
from microgradopt.graph import trace
from microgradopt.picture import Drawing, draw, render
from microgradopt.picture.loops import rolled


def needing(value):
    return mg.Tensor(value, requires_grad=True)


class Recurrent(nn.Module):
    """h ← tanh(W x + U h + b), T times."""

    def __init__(self):
        self.into, self.over, self.out = (nn.Linear(n, m, rng=n) for n, m in ((3, 4), (4, 4), (4, 1)))

    def forward(self, X):
        h = np.zeros((2, 4))
        for x in X:
            h = np.tanh(self.into(x) + self.over(h))
        return self.out(h)


def recurrent(steps):
    model = Recurrent()
    return model, (model(np.random.default_rng(0).normal(size=(steps, 2, 3))) ** 2).mean()


def euler(steps):
    k, u = needing(0.3), mg.Tensor(np.full(4, 0.2))
    for _ in range(steps):
        u = u + 0.1 * (k * u * (1.0 - u))
    return k, (u * u).mean()


def descent(steps):
    w = start = needing(2.0)
    for _ in range(steps):
        w = w - 0.1 * mg.grad(w * w * w, w, create_graph=True)[0]
    return start, w


def collatz_like(steps):
    """Two kinds of turns that take turns: a loop of pairs."""
    x = start = needing(0.3)
    for i in range(steps):
        x = np.sin(x) * start if i % 2 else np.cos(x) + start
    return start, x


def loops_of(output):
    graph = trace(output)
    return graph, rolled(graph)


@pytest.mark.parametrize(
    ("make", "calls", "turns", "carried"),
    [
        (lambda: recurrent(50)[1], 4, 50, 1),  # into, over, +, tanh; h
        (lambda: recurrent(7)[1], 4, 7, 1),
        (lambda: euler(100)[1], 5, 99, 1),  # in the first turn 1 − u needs no gradient
        (lambda: descent(20)[1], 9, 20, 1),
        (lambda: collatz_like(40)[1], 4, 20, 1),
    ],
)
def test_a_loop_is_found(make, calls, turns, carried):
    graph, view = loops_of(make())
    assert [loop.times for loop in view.loops] == [turns]
    assert len({edge.source for edge in view.carried}) == carried
    hidden = sum(node.function is not None for node in graph) - sum(node.function is not None for node in view.nodes)
    assert hidden == len(view.loops[0].body) * (turns - 1)
    assert len(view.loops[0].body) == calls


def no_loop():
    deep = nn.MLP((4,) * 12, nn.Tanh, rng=0)
    return {
        "layers with weights of their own": deep(np.ones((2, 4))).sum(),
        "weight decay": sum(((p * p).sum() for p in deep.parameters()), start=needing(0.0)),
        "a sum of products": sum((needing(i) * needing(i) for i in range(30)), start=needing(0.0)),
        "few turns": recurrent(2)[1],
        "few calls": euler(4)[1],
        "operands from ever further back": reaching_back(20),
    }


def reaching_back(steps):
    values = [needing(1.0), needing(2.0)]
    for i in range(steps):
        values.append(values[-1] * values[i * i % len(values)])
    return values[-1]


@pytest.mark.parametrize("name", no_loop())
def test_what_is_no_loop_is_drawn_as_it_is(name):
    graph, view = loops_of(no_loop()[name])
    assert view.loops == []
    assert view.nodes == graph.nodes
    assert view.edges == graph.edges


def test_a_rolled_loop_computes_what_the_graph_computes():
    """The oracle: the picture run as a program, turn after turn, gives the output."""
    start, output = descent(20)
    graph = trace(output, names={"w": start})
    view = rolled(graph)
    (loop,) = view.loops
    known = {node: node.value for node in view.nodes if node.function is None}

    def run(node, known):
        operands = iter([known[x] for x in node.inputs])
        args = [next(operands) if node.is_operand(i) else x for i, x in enumerate(node.arguments)]
        known[node] = node.function(*args, **node.kwargs)

    body = set(loop.body)
    for node in [x for x in view.nodes if x.function is not None and x not in body]:
        if all(x in known for x in node.inputs):
            run(node, known)
    handed = {(edge.target, edge.slot): edge.source for edge in view.carried}
    for turn in range(loop.times):
        before = dict(known)
        for node in loop.body:
            args = [
                before[handed[node, i]] if turn and (node, i) in handed else known[x] if type(x) is type(node) else x
                for i, x in enumerate(node.arguments)
            ]
            known[node] = node.function(*args, **node.kwargs)
    for node in view.nodes:
        if node not in known:
            run(node, known)
    assert known[view.outputs[0]] == output.data


def test_the_picture_of_a_loop():
    model, loss = recurrent(50)
    dot = dot_parser.parse(draw(loss, names=model).source)
    titles = {name: each.attributes.get("label") for name, each in dot.clusters.items()}
    assert sorted(titles.values())[1:] == ["into: Linear", "loop: × 50", "out: Linear", "over: Linear"]
    parents = {titles[name]: titles[each.parent] for name, each in dot.clusters.items() if name}
    assert parents["into: Linear"] == parents["over: Linear"] == "loop: × 50"
    bold = [(dot.label(tail)[0], dot.label(head)[0]) for tail, head, each in dot.edges if each["style"] == "bold"]
    assert bold == [("tanh", "xWᵀ + b")]
    assert sum("another in each turn" in line for line in dot.said()) == 1  # x
    assert "203 operations" in dot.legend()[0]


def test_each_call_of_a_module_has_a_frame():
    model, loss = recurrent(3)
    dot = dot_parser.parse(draw(loss, names=model).source)
    titles = {each.attributes.get("label") for name, each in dot.clusters.items() if name}
    assert {f"over: Linear, call {i} of 3" for i in (1, 2, 3)} < titles


def test_compiled_functions_have_frames_and_their_loops():
    model, _ = recurrent(3)
    X = np.random.default_rng(0).normal(size=(30, 2, 3))
    step = mg.compile(lambda X: mg.grad((model(X) ** 2).mean(), list(model.parameters())))
    step(X)
    dot = dot_parser.parse(step.draw().source)
    titles = {each.attributes.get("label") for name, each in dot.clusters.items() if name}
    assert {"into: Linear", "over: Linear", "out: Linear"} < titles
    assert sum(title.startswith("loop: ×") for title in titles) == 2, "forward, and back"
    outputs = {line for line in dot.said() if line.startswith("output ")}
    assert outputs == {f"output d_{each}_{part}" for each in ("into", "over", "out") for part in ("weight", "bias")}


# Pictures come ------------------------------------------------------------------------------------------------------


def dense(layers):
    """Each layer reads all before it: arrows across all ranks, for which Graphviz takes minutes."""
    found = [needing(np.ones((2, 1)))]
    for _ in range(layers):
        found.append(np.tanh(np.concatenate(found, axis=1)).sum(axis=1, keepdims=True))
    return found[-1].sum()


def attention(heads=4, layers=6):
    x = needing(np.random.default_rng(0).normal(size=(5, 8)))
    for i in range(layers):
        q, k, v = (nn.Linear(8, 8, rng=3 * i + j) for j in range(3))
        parts = [
            mg.softmax(a @ b.T / np.sqrt(8 / heads), axis=-1) @ c
            for a, b, c in zip(*(np.split(f(x), heads, axis=1) for f in (q, k, v)), strict=True)
        ]
        x = x + np.concatenate(parts, axis=1)
    return x.sum()


GRAPHS = {
    "recurrent 50": lambda: recurrent(50)[1],
    "euler 100": lambda: euler(100)[1],
    "dense 40": lambda: dense(40),
    "attention": attention,
    "gradient of a recurrent net": lambda: (
        lambda model, loss: mg.grad(loss, list(model.parameters()), create_graph=True)
    )(*recurrent(40)),
}


@pytest.mark.parametrize("roll", [True, False])
@pytest.mark.parametrize("name", GRAPHS)
def test_no_picture_hangs(name, roll):
    start = time.perf_counter()
    assert draw(GRAPHS[name](), roll=roll).pipe().startswith(b"<?xml")
    assert time.perf_counter() - start < 60  # some seconds, measured; minutes without an estimate


def test_a_layout_that_takes_too_long_falls_back_to_a_folded_picture(monkeypatch):
    drawing = draw(dense(12), roll=False)
    assert drawing.smaller is not None
    given_up = []

    def slow(source, format="svg", engine="dot", timeout=None):
        if source == drawing.source:
            given_up.append(timeout)
            raise render.LayoutTimeoutError("dot: not finished")
        return b"<svg >smaller</svg>"

    monkeypatch.setattr(render, "rendered", slow)
    with pytest.warns(UserWarning, match="a picture with more folded is drawn instead"):
        assert b"smaller" in drawing.pipe()
    assert given_up == [20.0]


@pytest.mark.skipif(render.shutil.which("dot") is None, reason="of Graphviz's own layout")
def test_the_timeout_is_kept():
    from microgradopt.picture import drawing as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_COSTLY", float("inf"))
        text = draw(dense(40), roll=False).source
    start = time.perf_counter()
    with pytest.raises(render.LayoutTimeoutError, match=r"not finished after 0\.5 seconds"):
        render.rendered(text, timeout=0.5)
    assert time.perf_counter() - start < 10


def test_an_svg_says_what_it_shows():
    x = needing([1.0, 2.0])
    drawing = draw((np.tanh(x) * x).sum(), names={"x": x})
    assert isinstance(drawing, Drawing)
    text = drawing.pipe(encoding="utf-8")
    assert 'role="img"' in text
    told = text.split("<desc>")[1].split("</desc>")[0]
    assert told == "Given: x. 3 calls: tanh1 = np.tanh(x); multiply1 = tanh1 * x; sum1 = multiply1.sum(). Result: sum1."
    hostile = draw(x * 2.0, names={'"><script>': x}).pipe(encoding="utf-8")
    assert "<script>" not in hostile


# What needs no gradient ---------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self):
        self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4, rng=0)

    def forward(self, x):
        return x + self.linear(np.tanh(self.norm(x)))


@pytest.mark.parametrize("wrap", [lambda x: x, mg.Tensor, needing])
def test_the_skip_of_a_residual_block_is_seen_whatever_the_input(wrap):
    block, x = Residual(), wrap(np.random.default_rng(0).normal(size=(3, 4)))
    dot = dot_parser.parse(draw(block(x).sum(), names={"block": block, "x": x}).source)
    (data,) = [name for name in dot.nodes if dot.label(name)[0] == "x"]
    heads = [dot.label(head)[0] for tail, head, _ in dot.edges if tail == data]
    assert "+" in heads, "the skip"
    assert len(heads) == 2, "and the way through the block"


def test_a_constant_that_is_the_modules_own_is_not_said_to_come_from_the_input():
    class Masked(nn.Module):
        def __init__(self):
            self.mask, self.scale = np.array([1.0, 0.0]), needing([1.0, 2.0])

        def forward(self, x):
            return self.scale * self.mask

    model = Masked()
    graph = trace(model(np.ones(2)).sum(), names={"model": model})
    assert [node for node in graph if node.computed_from] == []
