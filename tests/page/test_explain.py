"""The page of `explain`: its numbers are the engine's at every step, and a browser shows them so."""

from __future__ import annotations

import copy
import html
import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn
from microgradopt.graph.reader import trace
from microgradopt.page import steps
from microgradopt.page.page import Page, explain
from microgradopt.picture import render
from microgradopt.rules.indexing import scatter

# Losses to explain ----------------------------------------------------------------------------------------------------


def tensor(data):
    return mg.Tensor(data, requires_grad=True)


def scalar():
    a, b = tensor(2.0), tensor(-0.3)
    s = a * b
    loss = np.tanh(s) + s**2 + a * a - 3
    return loss, locals(), [a, b]


def diamond():
    a = tensor(1.5)
    b = a + a
    c = b + b
    return c, locals(), [a]


def mlp():
    rng = np.random.default_rng(0)
    net = nn.MLP([3, 4, 2], activation=nn.Tanh, rng=rng)
    X = mg.Tensor(rng.normal(size=(5, 3)))
    loss = nn.cross_entropy(net(X), np.array([0, 1, 1, 0, 1]))
    return loss, {"net": net, "X": X, "loss": loss}, list(net.parameters())


def broadcasting():
    rng = np.random.default_rng(1)
    x, row, column, one = (tensor(rng.normal(size=shape)) for shape in ((3, 4), (4,), (3, 1), ()))
    loss = ((x * row + column) * one).sum()
    return loss, locals(), [x, row, column, one]


def joining():
    a, b = tensor([1.0, 2.0]), tensor([3.0])
    loss = (np.concatenate([a, np.sin(b), a]) ** 2)[1:].sum()
    return loss, locals(), [a, b]


def several_results():
    A = tensor(np.random.default_rng(2).normal(size=(3, 3)))
    w, v = np.linalg.eigh(A + A.T)
    loss = (w * w).sum() + v[0, 0]
    return loss, {"A": A, "loss": loss}, [A]


def shared():
    a, b = tensor([1.0, 2.0]), tensor([3.0, 5.0])
    t = a + b
    loss = (t + a).sum()  # t and a are handed the same array, and a gets more later
    return loss, locals(), [a, b]


def single():
    a = tensor([0.5])
    return a, locals(), [a]


LOSSES = [scalar, diamond, mlp, broadcasting, joining, shared, several_results, single]


def story(page):
    return json.loads(re.search(r'<script type="application/json" id="story">(.*?)</script>', page.html, re.S)[1])


# What is to be seen, computed anew: each share is the gradient that the engine gives for one call alone ----------------


def one_call(node, slot, part, upstream):
    """What `node` hands to one argument: the engine's gradient of that call, by that argument."""
    values = [[x.value for x in a] if type(a) is list else getattr(a, "value", a) for a in node.arguments]
    leaf = mg.Tensor(values[slot] if part is None else values[slot][part], requires_grad=True)
    values[slot] = leaf if part is None else [*values[slot][:part], leaf, *values[slot][part + 1 :]]
    return mg.grad(node.function(*values, **node.kwargs), leaf, upstream)[0]


def wanted(loss, names):
    """The steps that a page is to have: what is current, and the numbers, as arrays."""
    graph = trace(loss, (), names, gradients=True)
    calls = [node for node in graph if node.function is not None]
    labels = {node: {i: x for i, x in enumerate(node.arguments) if isinstance(x, np.ndarray)} for node in calls}
    order = [x for node in graph for x in (*map(Data, labels.get(node, {}).values()), node)]  # data has a box as well
    number = {node: i for i, node in enumerate(dict.fromkeys(order))}
    given = {i: node.value for node, i in number.items() if getattr(node, "function", None) is None}
    found = [SimpleNamespace(nodes=set(given), edges=set(), values=given, grads={}, share=None)]
    for node in calls:
        edges = {edge_id(number, x, node, slot, part) for slot, part, x in node.operands()}
        edges |= {edge_id(number, Data(x), node, slot, None) for slot, x in labels[node].items()}
        i = number[node]
        found.append(SimpleNamespace(nodes={i}, edges=edges, values={i: node.value}, grads={}, share=None))
    top = graph.outputs[0]
    gathered = {top: np.ones(top.shape)}
    grads = {number[top]: gathered[top]}
    found.append(SimpleNamespace(nodes={number[top]}, edges=set(), values={}, grads=grads, share=None))
    for node in reversed(calls):
        for slot, part, x in node.operands():
            if x.role == "constant":
                continue
            share = one_call(node, slot, part, gathered[node])
            before = gathered.get(x)
            gathered[x] = share if before is None else before + share
            shown = [gathered[node], share] if before is None else [gathered[node], share, before, share, gathered[x]]
            found.append(
                SimpleNamespace(
                    nodes={number[node]},
                    edges={edge_id(number, x, node, slot, part)},
                    values={},
                    grads={number[x]: gathered[x]},
                    share=shown,
                    to=number[x],
                )
            )
    for node, g in gathered.items():
        np.testing.assert_allclose(g, node.gradient, rtol=1e-12, atol=1e-15)
    return graph, found


class Data:
    """An array among the arguments of a call, by its identity."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value is getattr(other, "value", None)

    def __hash__(self):
        return id(self.value)


def edge_id(number, source, target, slot, part):
    return f"e{number[source]}-{number[target]}-{slot}" + ("" if part is None else f"-{part}")


NUMBER = r"-?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf)|nan"


def shows(text, x, most, rtol=6e-3):
    """Whether a text shows the elements of x; or, of more than `most`, the least and the greatest."""
    x = np.asarray(x, float)
    numbers = [float(number) for number in re.findall(NUMBER, text)]
    if text.startswith("all "):
        return len(numbers) == 1 and np.allclose(x, numbers[0], rtol=rtol)
    expected = x.ravel() if x.size <= most else [x.min(), x.max()]
    return len(numbers) == len(expected) and np.allclose(numbers, expected, rtol=rtol, atol=1e-12)


def in_a_box(text, x, rtol=6e-3):
    """Whether a text shows x as a box of the picture does: at most three elements one by one, if they are short."""
    return len(text) <= 26 and (shows(text, x, 1, rtol) or (np.ndim(x) == 1 and shows(text, x, 3, rtol)))


# In Python ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [scalar, diamond, mlp, broadcasting, joining, shared, single])
def test_every_step_has_the_numbers_of_the_engine(make):
    loss, names, _ = make()
    _, expected = wanted(loss, names)
    told = story(explain(loss, names=names))["steps"]
    assert len(told) == len(expected) + 1  # the last: the gradients
    for step, e in zip(told, expected, strict=False):
        assert (set(step["nodes"]), set(step.get("edges", []))) == (e.nodes, e.edges)
        for key, numbers in (("values", e.values), ("grads", e.grads)):
            assert {int(i) for i in step.get(key, {})} == set(numbers)
            for i, x in numbers.items():
                quantity = step[key][str(i)]
                assert shows(quantity["full"], x, 64, 2e-5), (step["title"], quantity, x)
                assert quantity["shape"] == ("" if np.ndim(x) == 0 else str(np.shape(x)))
        if e.share:
            assert step["to"] == e.to
            numbers = [term for row in step["rows"] for term in row if not term["label"].startswith(("local", "the r"))]
            assert len(numbers) == len(e.share)
            assert all(shows(term["value"], x, 12) for term, x in zip(numbers, e.share, strict=True))


@pytest.mark.parametrize("make", LOSSES)
def test_the_last_step_has_the_gradients(make):
    loss, names, leaves = make()
    told = story(explain(loss, names=names))
    table = {row[0]: row[2] for row in told["steps"][-1]["table"][1:]}
    graph = trace(loss, (), names)
    found = [node.name.replace(".", "_") for node in graph if node.role == "parameter"]
    assert list(table) == found
    assert len(found) == len(leaves)
    by_name = {name: x for name, x in names.items() if isinstance(x, mg.Tensor)}
    if "net" in names:
        by_name = {f"net_{name.replace('.', '_')}": x for name, x in names["net"].named_parameters()}
    for name, text in table.items():
        (g,) = mg.grad(loss, by_name[name])
        assert in_a_box(text, g)


def test_the_local_derivative_times_the_upstream_is_the_contribution():
    loss, names, _ = scalar()
    for step in story(explain(loss, names=names))["steps"]:
        for row in step.get("rows", []):
            if row[0]["label"].startswith("local"):
                local, upstream, contribution = (float(term["value"]) for term in row)
                assert [term["sign"] for term in row] == ["", "×", "="]
                assert local * upstream == pytest.approx(contribution, rel=1e-4)
                if row[0]["code"]:
                    values = {k: x.item() for k, x in names.items() if isinstance(x, mg.Tensor)}
                    values["tanh1"] = np.tanh(values["s"])
                    assert eval(row[0]["code"], values) == pytest.approx(local, rel=1e-5)


def test_the_formulas_of_a_tanh():
    a = tensor(0.5)
    told = story(explain(np.tanh(a), names={"a": a}))
    (row,) = told["steps"][3]["rows"]
    assert row[0]["code"].strip("()") == "1 - tanh1 * tanh1"
    assert [line["text"] for line in told["lines"]] == [
        "# given: a", "tanh1 = np.tanh(a)", "d_tanh1 = np.ones_like(tanh1)", "d_a = d_tanh1 * (1 - tanh1 * tanh1)",
    ]  # fmt: skip


@pytest.mark.parametrize("make", [scalar, diamond, broadcasting, joining, shared])
def test_the_program_runs(make):
    loss, names, leaves = make()
    lines = [line["text"] for line in story(explain(loss, names=names))["lines"]]
    given = {name: x for name, x in names.items() if x in set(leaves)}
    values = {name: x.data for name, x in given.items()}
    exec("\n".join(lines), {"np": np, "scatter": scatter}, values)
    assert np.array_equal(values["c" if make is diamond else "loss"], loss.data)
    for name, x in given.items():
        np.testing.assert_allclose(values[f"d_{name}"], mg.grad(loss, x)[0], rtol=1e-13)


def test_where_paths_meet_shares_are_added_and_waited_for():
    loss, names, _ = diamond()
    told = [step for step in story(explain(loss, names=names))["steps"] if "to" in step]
    assert [len(step["rows"]) for step in told] == [1, 2, 1, 2]
    assert [step["rows"][-1][-1]["value"] for step in told] == ["1", "2", "2", "4"]
    assert [step["note"].rpartition(". ")[2] for step in told] == [
        "b waits for 1 more share before it hands on anything.", "d_b is complete.",
        "a waits for 1 more share before it hands on anything.", "d_a is complete.",
    ]  # fmt: skip


def test_undone_broadcasting_is_said():
    loss, names, _ = broadcasting()
    told = story(explain(loss, names=names))
    last = [step["rows"][0][-1]["label"] for step in told["steps"] if "copied" in step.get("note", "")]
    assert last == [f"contribution, summed over {axes}" for axes in ("axes 0, 1", "axis 1", "axis 0")]
    assert "d_column = d_add1.sum(axis=1).reshape(3, 1)" in [line["text"] for line in told["lines"]]


OPTIMIZERS = {
    "state": lambda p: mg.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "schedule": lambda p: mg.optim.Adam(p, lr=lambda t: 0.1 / (1 + t)),
    "some": lambda p: mg.optim.Momentum(p[:1], lr=0.5),
    "groups": lambda p: mg.optim.SGD([{"params": p[:1], "lr": 0.3}, {"params": p[1:]}], lr=0.2, maximize=True),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("steps_before", [0, 2])
def test_the_optimizers_step_is_shown_and_not_done(make, steps_before):
    rng = np.random.default_rng(3)
    w, b = tensor(rng.normal(size=3)), tensor(0.5)
    optimizer = make([w, b])

    def evaluated():
        return (np.tanh(w * 2 + b) ** 2).sum()

    for _ in range(steps_before):
        optimizer.zero_grad()
        evaluated().backward()
        optimizer.step()
    w.grad = marker = np.full(3, 7.0)
    loss = evaluated()
    before = copy.deepcopy((w.data, b.data, b.grad, optimizer.state_dict()))
    step = story(explain(loss, names={"w": w, "b": b}, optimizer=optimizer))["steps"][-1]
    assert w.grad is marker
    assert np.array_equal(marker, np.full(3, 7.0))
    np.testing.assert_equal((w.data, b.data, b.grad, optimizer.state_dict()), before)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = mg.grad(loss, held)
    optimizer.zero_grad()
    loss.backward()  # what was explained can still be done
    optimizer.step()
    assert step["phase"] == "update"
    assert len(step["table"]) == 1 + len(held)
    rows = {row[0]: row[1:] for row in step["table"][1:]}
    for name, x, old in (("w", w, before[0]), ("b", b, before[1])):
        if x in set(held):
            (g,) = (g for p, g in zip(held, gradients, strict=True) if p is x)
            assert all(in_a_box(text, y) for text, y in zip(rows[name], (old, g, x.data), strict=True))
    assert "θ ← " in step["formula"]


def test_nothing_of_the_users_is_changed():
    loss, names, leaves = mlp()
    before = [x.data.copy() for x in leaves]
    first = explain(loss, names=names)
    assert all(x.grad is None for x in leaves)
    assert all(np.array_equal(x.data, y) for x, y in zip(leaves, before, strict=True))
    assert explain(loss, names=names) == first


def test_a_page_begins_at_the_inputs():
    a = tensor(0.3)
    h = np.sin(np.exp(a))
    told = story(explain(h * h, names={"h": h}, inputs=h))
    assert [line["text"] for line in told["lines"]][:2] == ["# given: h", "multiply1 = h * h"]
    assert [row[0] for row in told["steps"][-1]["table"]] == ["", "h"]
    assert float(told["steps"][-1]["table"][1][2]) == pytest.approx(2 * h.item(), rel=1e-5)


def test_constants_and_frozen_tensors_have_no_gradient():
    a, frozen = tensor(2.0), tensor(3.0)
    (a * frozen).backward()
    frozen.requires_grad = False
    told = story(explain(a * frozen * 5, names={"a": a, "frozen": frozen}))
    assert [(node["name"], node["rows"]) for node in told["nodes"]] == [
        ("a", ["value", "grad"]), ("3.0", []), ("multiply1", ["value", "grad"]), ("5", []),
        ("multiply2", ["value", "grad"]),
    ]  # fmt: skip


def test_empty_arrays_and_infinities():
    a, b = tensor(np.zeros((0, 2))), tensor([0.0, 1.0])
    loss = a.sum() + np.sqrt(b).sum() * 0.5
    with np.errstate(divide="ignore"):
        told = story(explain(loss, names={"a": a, "b": b}))
    assert told["steps"][-1]["table"][1:] == [["a", "[]", "[]"], ["b", "[0, 1]", "[inf, 0.25]"]]


def test_shares_that_do_not_add_up_are_noticed(monkeypatch):
    rule = steps._rule
    monkeypatch.setattr(steps, "_rule", lambda *args: 1.0000001 * rule(*args))
    loss, names, _ = scalar()
    with pytest.raises(AssertionError, match="add up to"):
        explain(loss, names=names)


EVIL = [
    '</script><script>document.title="evil"</script>',
    "<!--story-->",
    "\u2028\u2029",
    '"><img src=x onerror=evil()>',
]


def evil():
    x = [tensor(1.0 + i) for i in range(len(EVIL))]
    return sum(x[1:], x[0]), dict(zip(EVIL, x, strict=True)), x


def test_names_cannot_leave_the_data():
    loss, names, _ = evil()
    page = explain(loss, names=names)
    assert not any(name in page.html for name in EVIL)
    assert page.html.count("</script>") == 2
    assert {node["what"] for node in story(page)["nodes"]} > {f"parameter {name}" for name in EVIL}
    assert all(node["name"].isidentifier() for node in story(page)["nodes"])


def test_the_page_refers_to_nothing_outside():
    loss, names, _ = mlp()
    page = explain(loss, names=names)
    assert not re.search(r"https?:|src=|href|@import|url\(|xmlns|fetch\(|import\(", page.html)
    assert "default-src 'none'" in page.html
    assert len(page.html) < 80_000


def test_a_page_is_saved_and_shown_in_a_notebook(tmp_path):
    loss, names, _ = scalar()
    page = explain(loss, tmp_path / "page.html", names=names)
    assert isinstance(page, Page)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page.html
    assert page.save(str(tmp_path / "again.html")) == tmp_path / "again.html"
    frame = re.fullmatch(r'<iframe [^>]*srcdoc="([^"]*)"[^>]*></iframe>', page._repr_html_())
    assert html.unescape(frame[1]) == page.html
    assert repr(page) == f"Page({len(page.html)} characters)"


def test_what_cannot_be_explained():
    a = tensor([1.0, 2.0])
    loss = (a * a).sum()
    with pytest.raises(TypeError, match="explain: wants tensors, not float"):
        explain(1.0)
    with pytest.raises(ValueError, match=r"explain: wants a single number, not shape \(2,\)"):
        explain(a * 2)
    with pytest.raises(RuntimeError, match="explain: this tensor has no graph"):
        explain(loss.detach())
    with pytest.raises(TypeError, match="explain: wants tensors, not str"):
        explain(loss, inputs=["a"])
    with pytest.raises(TypeError, match="wants an optimizer of microgradopt, not str"):
        explain(loss, optimizer="SGD")
    with pytest.raises(ValueError, match="no parameter of this SGD"):
        explain(loss, optimizer=mg.optim.SGD([tensor(1.0)], lr=0.1))
    with pytest.raises(ValueError, match="computes the loss"):
        explain(loss, optimizer=mg.optim.LBFGS([a]))
    a.data = [0.0, 0.0]
    with pytest.raises(mg.OverwrittenError):
        explain(loss)


def test_a_graph_too_large_is_refused():
    x = tensor(1.0)
    for i in range(400):
        x = np.tanh(x)
        if i == 200:
            begin = x
    with pytest.raises(ValueError, match=r"400 calls .* inputs="):
        explain(x)
    assert len(story(explain(x, inputs=begin))["nodes"]) == 200


def test_it_needs_no_graphviz(monkeypatch):
    monkeypatch.setattr(render.shutil, "which", lambda name: None)
    monkeypatch.setattr(render, "_pure", lambda: None)
    loss, names, _ = scalar()
    assert story(explain(loss, names=names))["steps"]


# In a browser ---------------------------------------------------------------------------------------------------------

SCREEN = """
const texts = selector => [...document.querySelectorAll(selector)].map(element => element.textContent);
const lines = selector => [...document.querySelectorAll(selector)].map(li => [...li.children].map(line => line.textContent).join("\\n"));
const ids = selector => [...document.querySelectorAll(selector)].map(element => element.id);
const boxes = row => Object.fromEntries([...document.querySelectorAll(`.node .${row}`)].map(
  text => [text.closest(".node").id.slice(1), text.textContent]));
return {
  values: boxes("value"), grads: boxes("grad"), pending: ids(".node.pending"), nodes: ids(".node.current"),
  to: ids(".node.receives"), edges: ids(".edge.current"), lines: lines("#source li.current"), done: lines("#source li.done"),
  terms: [...document.querySelectorAll(".term")].map(term =>
    [term.querySelector(".label").textContent, term.querySelector(".value")?.textContent ?? ""]),
  counter: document.getElementById("counter").textContent, slider: document.getElementById("slider").value,
  title: document.getElementById("title").textContent, live: document.getElementById("live").textContent,
  table: [...document.querySelectorAll("#told tbody tr")].map(row => [...row.cells].map(cell => cell.textContent)),
};
"""


def screen(browser):
    return SimpleNamespace(**browser.execute_script(SCREEN))


def check(seen, expected, k, lines, last):
    """What is on the screen is step k of `expected`."""
    assert (seen.counter, seen.slider) == (f"{k + 1} / {last + 1}", str(k))
    e = expected[k]
    values = {i: x for step in expected[: k + 1] for i, x in step.values.items()}
    grads = {i: x for step in expected[: k + 1] for i, x in step.grads.items()}
    for texts, numbers in ((seen.values, values), (seen.grads, grads)):
        for i, text in texts.items():
            if int(i) in numbers:
                x = numbers[int(i)]
                assert in_a_box(text, x, 6e-3 if np.ndim(x) else 1e-5), (k, i, text, x)
            else:
                assert text == "·", (k, i)
    assert set(seen.nodes) == {f"n{i}" for i in e.nodes}
    assert set(seen.edges) == e.edges
    assert seen.to == ([f"n{e.to}"] if e.share else [])
    assert {int(i[1:]) for i in seen.pending}.isdisjoint(values)
    assert seen.lines == [lines[k]]
    assert seen.done == lines[: k + 1]
    assert seen.live.startswith(f"Step {k + 1} of {last + 1}, ")
    assert seen.title in seen.live
    if e.share:
        numbers = [text for label, text in seen.terms if not label.startswith(("local", "the rule"))]
        assert len(numbers) == len(e.share)
        for text, x in zip(numbers, e.share, strict=True):
            assert shows(text, x, 12)
            assert " ".join(text.split()) in seen.live
    elif k and e.values:
        (x,) = e.values.values()
        assert shows(seen.terms[-1][1], x, 12)


def by_button(browser, k, ahead):
    browser.find_element("id", "next" if ahead else "back").click()


def by_key(browser, k, ahead):
    browser.find_element("tag name", "body").send_keys("\ue014" if ahead else "\ue012")  # → and ←


def by_slider(browser, k, ahead):
    slider = browser.find_element("id", "slider")
    most = int(slider.get_attribute("max"))
    thumb = 16
    offset = (k / most - 0.5) * (slider.rect["width"] - thumb)
    actions = pytest.importorskip("selenium.webdriver").ActionChains(browser, duration=0)
    actions.move_to_element_with_offset(slider, round(offset), 0).click().perform()


@pytest.mark.parametrize(
    ("make", "move"),
    [(scalar, by_button), (scalar, by_key), (scalar, by_slider), (mlp, by_key), (joining, by_button)],
)
def test_all_steps_on_the_screen(open_page, make, move):
    loss, names, _ = make()
    _, expected = wanted(loss, names)
    page = explain(loss, names=names)
    lines = [line["text"] for line in story(page)["lines"]]
    browser, last = open_page(page), len(expected)
    check(screen(browser), expected, 0, lines, last)
    for k, ahead in [(k, True) for k in range(1, last)] + [(k, False) for k in reversed(range(last - 1))]:
        move(browser, k, ahead)
        check(screen(browser), expected, k, lines, last)


def test_the_last_steps_on_the_screen(open_page):
    loss, names, (a, b) = scalar()
    optimizer = mg.optim.SGD([a, b], lr=0.1)
    browser = open_page(explain(loss, names=names, optimizer=optimizer))
    body = browser.find_element("tag name", "body")
    body.send_keys("\ue010")  # End
    gradients = mg.grad(loss, [a, b])
    seen = screen(browser)
    after = [x.item() - 0.1 * g for x, g in zip((a, b), gradients, strict=True)]
    assert [row[0] for row in seen.table] == ["a", "b"]
    numbers = [[float(cell) for cell in row[1:]] for row in seen.table]
    expected = [[x.item(), g, y] for x, g, y in zip((a, b), gradients, after, strict=True)]
    np.testing.assert_allclose(numbers, expected, rtol=1e-5)
    np.testing.assert_allclose([float(seen.values["0"]), float(seen.values["1"])], after, rtol=1e-5)
    assert seen.nodes == ["n0", "n1"]
    assert seen.lines == ["optimizer.step()  # SGD"]
    assert f"after {seen.table[0][3]}" in seen.live
    body.send_keys("\ue014")  # → leads no further
    assert screen(browser) == seen
    body.send_keys("\ue012")
    seen = screen(browser)
    assert seen.title == "The gradients are there"
    np.testing.assert_allclose([float(row[2]) for row in seen.table], gradients, rtol=1e-5)
    assert float(seen.values["0"]) == a.item()
    body.send_keys("\ue011")  # Home
    assert screen(browser).slider == "0"
    body.send_keys("\ue012")
    assert screen(browser).slider == "0"
    for button, step in (("last", seen.counter.split(" / ")[1]), ("first", "1")):
        browser.find_element("id", button).click()
        assert screen(browser).counter.startswith(f"{step} / ")


def test_playing(open_page):
    loss, names, _ = scalar()
    browser = open_page(explain(loss, names=names))
    play, body = browser.find_element("id", "play"), browser.find_element("tag name", "body")
    assert play.text == "Play"
    body.send_keys(" ")
    assert play.text == "Pause"
    time.sleep(1.9)
    assert screen(browser).slider == "1"
    play.send_keys(" ")  # the button's own space: once, not twice
    assert play.text == "Play"
    browser.find_element("id", "last").click()
    play.click()  # from the end: from the beginning
    assert (play.text, screen(browser).slider) == ("Pause", "0")
    body.send_keys("\ue014")
    assert (play.text, screen(browser).slider) == ("Play", "1")
    browser.find_element("id", "next").send_keys(" ")  # presses that button, and does not play
    assert (play.text, screen(browser).slider) == ("Play", "2")


def luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


COLORS = """
const color = (selector, property) => {
  const first = [...document.querySelectorAll(selector)].at(-1);
  for (let e = first; e; e = e.parentElement) {
    const found = getComputedStyle(e)[property];
    if (found !== "rgba(0, 0, 0, 0)") return found;
  }
};
return arguments[0].map(([front, property, back]) => [color(front, property), color(back, "backgroundColor")]);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(open_page, scheme):
    loss, names, (a, b) = scalar()
    page = explain(loss, names=names, optimizer=mg.optim.SGD([a, b], lr=0.1))
    browser = open_page(page, **{"prefers-color-scheme": scheme})
    toggle = browser.find_element("id", "theme")
    where = [
        ("#title", "color", "#step"), ("#phase", "color", "#phase"), ("#told > *, #told .label", "color", "#step"),
        ("#source li.current", "color", "#source li.current"), ("#source li:last-child", "color", "#source"),
        ("#play", "color", "#play"), ("#next", "color", "#next"), ("#counter", "color", "#controls"),
        (".node .head", "color", ".node"), (".node .label", "color", ".node"), (".node .grad", "color", ".node"),
    ]  # fmt: skip
    for expected in (scheme, {"light": "dark", "dark": "light"}[scheme]):
        for step in (0, 5, 11, 21):
            browser.execute_script("show(arguments[0])", step)
            pairs = browser.execute_script(COLORS, where)
            for name, pair in zip(where, pairs, strict=True):
                front, back = (luminance([float(x) for x in re.findall(r"[\d.]+", color)[:3]]) for color in pair)
                assert (max(front, back) + 0.05) / (min(front, back) + 0.05) >= 4.5, (name, pair, step)
                assert name[0] != "#title" or (back > front) == (expected == "light")
        assert toggle.text.split()[1].lower() != expected  # it says what it leads to
        toggle.click()
    assert toggle.text.split()[1].lower() != scheme


def test_shapes_and_values_where_one_points_or_tabs(open_page):
    loss, names, _ = broadcasting()
    browser = open_page(explain(loss, names=names))
    tooltip = browser.find_element("id", "tooltip")
    actions = pytest.importorskip("selenium.webdriver").ActionChains(browser, duration=0)
    assert not tooltip.is_displayed()
    actions.move_to_element(browser.find_element("id", "n1")).perform()
    assert tooltip.text.startswith("row\nparameter, shape (4,), float64\nvalue [")
    assert shows(tooltip.text.split("value ")[1], names["row"].data, 64, 1e-5)
    browser.find_element("tag name", "body").send_keys("\ue00c")  # Escape
    assert not tooltip.is_displayed()
    browser.find_element("tag name", "body").send_keys("\ue010")
    browser.execute_script("document.getElementById('n1').focus()")
    assert shows(tooltip.text.split("gradient ")[1], mg.grad(loss, names["row"])[0], 64, 1e-5)
    label = browser.find_element("id", "n1").get_attribute("aria-label")
    assert label == browser.execute_script("return document.getElementById('tooltip').textContent")


def test_it_can_be_used_without_seeing_or_pointing(open_page):
    loss, names, _ = scalar()
    browser = open_page(explain(loss, names=names), **{"prefers-reduced-motion": "no-preference"})
    body = browser.find_element("tag name", "body")
    reached = []
    for _ in range(12):
        browser.switch_to.active_element.send_keys("\ue004")  # Tab
        reached.append(browser.switch_to.active_element)
    assert [x.get_attribute("id") for x in reached[:9]] == [
        "first", "back", "play", "next", "last", "slider", "theme", "graph", "n0",
    ]  # fmt: skip
    assert [x.accessible_name for x in reached[:8]] == [
        "First step", "Step back", "Play", "Step forward", "Last step", "Step", "☾ Dark", "The graph",
    ]  # fmt: skip
    focused = "return getComputedStyle(document.activeElement).outlineWidth"
    assert browser.execute_script(focused) == "3px"  # the focus is seen
    assert browser.find_element("id", "live").get_attribute("aria-live") == "polite"
    body.send_keys(*["\ue014"] * 10)
    edge = "return getComputedStyle(document.querySelector('.edge.current')).animationName"
    assert browser.execute_script(edge) == "flow"
    open_page(explain(loss, names=names))
    browser.find_element("tag name", "body").send_keys(*["\ue014"] * 10)
    assert browser.execute_script(edge) == "none"


def test_hostile_names_are_only_text(open_page):
    loss, names, _ = evil()
    browser = open_page(explain(loss, names=names))
    browser.find_element("tag name", "body").send_keys("\ue010")
    assert browser.title == "Step by step"
    assert len(screen(browser).table) == len(EVIL)
    browser.find_element("tag name", "body").send_keys("\ue011")
    assert [row[1] for row in screen(browser).table] == [f"parameter {name}" for name in EVIL]
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_it_works_in_the_frame_of_a_notebook(open_page):
    loss, names, _ = diamond()
    page = explain(loss, names=names)
    browser = open_page(Page(f"<!DOCTYPE html><meta charset=utf-8><title>notebook</title>{page._repr_html_()}"))
    browser.switch_to.frame(0)
    browser.find_element("id", "next").click()
    seen = screen(browser)
    assert (seen.values["1"], seen.lines) == ("3", ["b = a + a"])


LAYOUT = """
const box = id => document.getElementById(id).getBoundingClientRect();
return {
  right: Math.max(document.documentElement.scrollWidth, ...[...document.querySelectorAll(".panel")].map(p => p.getBoundingClientRect().right)),
  stacked: box("controls").bottom <= box("graph").top && box("graph").bottom <= box("step").top && box("step").bottom <= box("source").top,
  cut: ["step", "source"].filter(id => document.getElementById(id).scrollWidth > document.getElementById(id).clientWidth),
};
"""


def test_on_a_narrow_screen_all_is_one_column(open_page):
    loss, names, _ = mlp()
    page = explain(loss, names={"a_name_" * 12: names["X"], "net": names["net"], "the_loss_of_it_all_" * 4: loss})
    told = story(page)["steps"]
    browser = open_page(page)
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for i, step in enumerate(told):
            browser.execute_script("show(arguments[0])", i)
            seen = SimpleNamespace(**browser.execute_script(LAYOUT))
            assert seen.right <= 360
            assert seen.stacked
            assert not seen.cut or "table" in step, step["title"]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
