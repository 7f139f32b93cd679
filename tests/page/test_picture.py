"""The picture on the page of `explain`: its layout, folding, the map."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn
from microgradopt.page.page import explain

RNG = np.random.default_rng(0)


def parameter(value):
    return mg.Tensor(value, requires_grad=True)


def neuron():
    x1, x2, w1, w2, b = map(parameter, (2.0, 0.0, -3.0, 1.0, 6.88))
    return explain(np.tanh(x1 * w1 + x2 * w2 + b) ** 2, names=locals())


def mlp():
    model = nn.MLP((2, 4, 3), nn.Tanh, rng=0)
    X, y = RNG.normal(size=(16, 2)), RNG.integers(0, 3, 16)
    return explain(nn.cross_entropy(model(X), y), names={"model": model, "X": X, "y": y})


class Block(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.norm, self.lin = nn.LayerNorm(4), nn.Linear(4, 4, rng=rng)

    def forward(self, x):
        return x + np.tanh(self.lin(self.norm(x)))


def residual():
    net = nn.Sequential(*(Block(i) for i in range(8)), nn.Linear(4, 1, rng=9))
    X, y = parameter(RNG.normal(size=(8, 4))), RNG.normal(size=(8, 1))
    return explain(nn.mse_loss(net(X), y), names={"net": net, "X": X, "y": y})


class Inner(nn.Module):
    def forward(self, a, z):
        early = np.tanh(a)
        return early, np.sin(early) * z


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x, z):
        early, late = self.inner(np.exp(x) + x, z)
        return early, np.cos(late * late)


def nested():
    """Arrows that cross columns of two frames on their way in, and on their way out."""
    x, z, outer = parameter(0.5), parameter(2.0), Outer()
    early, late = outer(np.sin(x), np.exp(z))
    return explain(early * late, names={"x": x, "z": z, "outer": outer})


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.wx, self.wh = nn.Linear(2, 4, rng=0), nn.Linear(4, 4, rng=1)

    def forward(self, x, h):
        return np.tanh(self.wx(x) + self.wh(h))


def rnn(steps=8):
    cell, h, X = Cell(), np.zeros((3, 4)), RNG.normal(size=(steps, 3, 2))
    for x in X:
        h = cell(x, h)
    return explain((h * h).mean(), names={"cell": cell})


def ode(steps):
    a, b, c, x = map(parameter, (0.5, 1.5, 0.7, 0.3))
    names = {"a": a, "b": b, "c": c, "x": x}
    for _ in range(steps):
        x = x + 0.05 * (b * np.tanh(c * x) - a * x)
    return explain(x, names=names)


def diamond():
    a = parameter(1.5)
    return explain((a + a) * (a + a), names={"a": a})


def leaf():
    return explain(parameter([0.5]))


PICTURE = """
const canvas = document.getElementById("canvas").getBoundingClientRect();
const place = element => {
  const {left, top, width, height} = element.getBoundingClientRect();
  return [left - canvas.left, top - canvas.top, width, height];
};
const shown = selector => [...document.querySelectorAll(selector)].filter(element => !element.hidden);
return {
  size: [canvas.width, canvas.height],
  boxes: shown(".node, .chip, .module:not(.open)").map(place), nodes: shown(".node").map(element => element.id),
  folded: shown(".module:not(.open)").map(element => element.querySelector(".head").textContent),
  open: Object.fromEntries(frames.filter(({isOpen, element}) => isOpen && !element.hidden).map(frame =>
    [frame.title + " " + modules[frames.indexOf(frame)].call, [place(frame.element), things(frame)]])),
  wires: wires.map(({element, from, to}) => {
    const [start, end] = [element.getPointAtLength(0), element.getPointAtLength(element.getTotalLength() * .999)];
    return [[start.x, start.y, ...place(from.element)], [end.x, end.y, ...place(to.element)]];
  }),
  crossed: wires.map(({element, from, to}) => {
    const ends = [from.element, to.element, ...around(from).map(f => f.element), ...around(to).map(f => f.element)];
    const others = shown(".node, .module:not(.open)").filter(other => !ends.includes(other)).map(place);
    let [crossed, before] = [0, -Infinity];
    for (let part = 0; part <= 1; part += 1 / 200) {
      const {x, y} = element.getPointAtLength((element.getTotalLength() - 22) * part);  // without the head of the arrow
      if (x < before - 1) return 9;  // it goes back
      before = x;
      crossed += others.some(([left, top, w, h]) => x > left + 2 && x < left + w - 2 && y > top + 2 && y < top + h - 2);
    }
    return crossed / 200;
  }),
  current: shown("#canvas > .current").map(element => element.id || element.querySelector(".head").textContent),
};
function things(frame) { return seen.filter(thing => around(thing).includes(frame)).map(({element}) => place(element)); }
"""


def picture(browser):
    return SimpleNamespace(**browser.execute_script(PICTURE))


def apart(a, b):
    """Whether two boxes do not touch."""
    return a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]


def inside(a, b):
    return b[0] < a[0] and a[0] + a[2] < b[0] + b[2] and b[1] < a[1] and a[1] + a[3] < b[1] + b[3]


def check_layout(seen):
    """Boxes apart from each other, all of a frame in it and nothing else, arrows from box to box, left to right."""
    for i, box in enumerate(seen.boxes):
        assert all(apart(box, other) for other in seen.boxes[:i])
        assert min(box[:2]) >= -1
        assert box[0] + box[2] <= seen.size[0] + 1
        assert box[1] + box[3] <= seen.size[1] + 1
    for frame, members in seen.open.values():
        assert members
        assert all(inside(box, frame) for box in members)
        assert all(box in members or apart(box, frame) for box in seen.boxes)
    for (x, y, *source), (u, v, *target) in seen.wires:
        np.testing.assert_allclose(x, source[0] + source[2], atol=1)
        np.testing.assert_allclose(u, target[0], atol=8)  # the head of the arrow
        assert source[1] <= y <= source[1] + source[3]
        assert target[1] <= v <= target[1] + target[3] + 5
        assert source[0] + source[2] <= target[0]
    assert max(seen.crossed, default=0) <= 1
    assert sum(part > 0.02 for part in seen.crossed) <= 0.1 * len(seen.crossed), seen.crossed


@pytest.mark.parametrize("make", [neuron, mlp, residual, nested, rnn, diamond, leaf, lambda: ode(8)])
def test_the_layout_folded_and_unfolded(open_page, make):
    browser = open_page(make())
    check_layout(picture(browser))
    if browser.find_element("id", "fold").is_displayed():
        for _ in range(2):
            browser.find_element("id", "fold").click()
            seen = picture(browser)
            check_layout(seen)
            assert bool(seen.open) != (browser.find_element("id", "fold").text == "Unfold")


def test_small_pictures_open_unfolded_and_long_ones_folded(open_page):
    seen = picture(open_page(mlp()))
    assert sorted(seen.open) == ["model.0: Linear ", "model.2: Linear ", "model: MLP "]
    assert not seen.folded
    seen = picture(open_page(residual()))
    assert list(seen.open) == ["net: Sequential "]
    assert seen.folded == [*(f"net.{i}: Block" for i in range(8)), "net.8: Linear"]
    seen = picture(open_page(rnn()))
    assert not seen.open
    assert seen.folded == [f"cell: Cell {i} of 8" for i in range(1, 9)]


FRAME = "return frames.find(({title, element}) => title === arguments[0] && !element.hidden).element"


@pytest.mark.parametrize("press", ["click", "\ue007", " "])  # Enter, space
def test_a_module_folds_and_unfolds(open_page, press):
    browser = open_page(mlp())
    everything = picture(browser)
    frame = browser.execute_script(FRAME, "model.0: Linear")
    head = frame.find_element("class name", "head")

    def fold():
        if press == "click":
            head.click()
        else:
            browser.execute_script("arguments[0].focus()", frame)
            frame.send_keys(press)

    assert (frame.accessible_name, frame.get_attribute("aria-expanded")) == ("model.0: Linear", "true")
    fold()
    seen = picture(browser)
    check_layout(seen)
    assert seen.folded == ["model.0: Linear"]
    assert set(everything.nodes) - set(seen.nodes) == {"n1", "n2", "n3"}  # weight, bias, linear
    assert seen.size[0] < everything.size[0]
    assert frame.get_attribute("aria-expanded") == "false"
    assert frame.accessible_name.startswith("model.0: Linear linear1 = linear(X, model_0_weight, model_0_bias)")
    assert browser.execute_script("return now") == 0  # the space bar folds, and does not play
    fold()
    assert picture(browser) == everything
    if press != "click":
        assert browser.switch_to.active_element == frame


def test_it_is_stepped_through_folded(open_page):
    page = mlp()
    browser = open_page(page)
    steps, parents, results = browser.execute_script(
        "return [steps, nodes.map(n => n.parent), modules.map(m => m.result)]"
    )
    browser.find_element("id", "fold").click()
    frames = [browser.execute_script("return frames[arguments[0]].element", i) for i in range(len(results))]
    for k, step in enumerate(steps):
        browser.execute_script("show(arguments[0])", k)
        seen = picture(browser)
        assert set(seen.current) == {f"n{i}" if parents[i] < 0 else "model: MLP" for i in step["nodes"]}
        value = frames[0].find_element("class name", "value").text
        told = [s["values"][str(results[0])]["box"] for s in steps[: k + 1] if str(results[0]) in s.get("values", {})]
        assert value == (told[-1] if told else "·")
        to = step.get("to")
        is_inside = to is not None and parents[to] >= 0 and not all(parents[i] >= 0 for i in step["nodes"])
        assert ("receives" in frames[0].get_attribute("class").split()) == is_inside


def test_a_value_with_many_uses_stands_beside_them(open_page):
    browser = open_page(ode(8))
    chips = browser.execute_script("return chips.map(({element}) => element.textContent)")
    assert sorted(chips) == ["a"] * 7 + ["b"] * 7 + ["c"] * 7
    steps, names = browser.execute_script("return [steps, nodes.map(node => node.name)]")
    used = [edge for step in steps if step["phase"] == "forward" for edge in step.get("edges", [])]
    for k, step in enumerate(steps):
        if "to" in step and names[step["to"]] in "abc":
            first = next(edge for edge in used if edge.startswith(f"e{step['to']}-"))
            browser.execute_script("show(arguments[0])", k)
            beside = browser.execute_script(
                "return chips.map(c => c.element).filter(e => e.className.includes('receives'))"
            )
            assert [chip.text for chip in beside] == ([] if step["edges"] == [first] else [names[step["to"]]])


def test_300_calls_within_seconds(open_page):
    begin = time.monotonic()
    page = ode(42)
    browser = open_page(page)
    assert browser.execute_script("layOut(); return boxes.length") > 290
    assert time.monotonic() - begin < 15
    check = browser.execute_script("const t = performance.now(); show(500); return performance.now() - t")
    assert check < 1000
    begin = time.monotonic()
    assert len(picture(open_page(rnn(50))).folded) == 50
    assert time.monotonic() - begin < 15


def test_the_map(open_page):
    browser = open_page(ode(20))
    overview, graph = browser.find_element("id", "map"), browser.find_element("id", "graph")
    assert overview.is_displayed()
    scroll = "const {scrollLeft, scrollWidth, clientWidth} = document.getElementById('graph'); return [scrollLeft, scrollWidth, clientWidth]"
    assert browser.execute_script(scroll)[0] == 0
    actions = pytest.importorskip("selenium.webdriver").ActionChains(browser, duration=0)
    actions.move_to_element(overview).click().perform()
    left, width, seen = browser.execute_script(scroll)
    assert abs(left + seen / 2 - width / 2) < width / overview.rect["width"]
    marked = browser.execute_script("return document.getElementById('window').getBoundingClientRect().toJSON()")
    place = overview.rect
    np.testing.assert_allclose(marked["width"] / place["width"], seen / width, atol=0.01)
    np.testing.assert_allclose((marked["x"] - place["x"]) / place["width"], left / width, atol=0.01)
    actions.click_and_hold().move_by_offset(100, 0).release().perform()
    assert abs(browser.execute_script(scroll)[0] - left - 100 * width / place["width"]) < width / place["width"]
    browser.find_element("tag name", "body").send_keys("\ue010")
    browser.execute_script("show(40)")
    assert browser.execute_script("return document.querySelectorAll('#map .current').length") == 1
    assert graph.is_displayed()
    browser = open_page(diamond())
    assert not browser.find_element("id", "map").is_displayed()
    assert not browser.find_element("id", "fold").is_displayed()


def test_no_title_makes_a_box_wide_and_the_tooltip_has_all(open_page):
    name = "a_name_that_is_longer_than_any_box_could_be_wide_enough_for"
    x = parameter(2.0)
    browser = open_page(explain(nn.mse_loss(x * mg.Tensor(3.0), np.array(1.0), "sum"), names={name: x}))
    for _, _, width, _ in picture(browser).boxes:
        assert width <= 24 * 7.5 + 20
    actions = pytest.importorskip("selenium.webdriver").ActionChains(browser, duration=0)
    actions.move_to_element(browser.find_element("id", "n0")).perform()
    assert browser.find_element("id", "tooltip").text.startswith(f"{name}\n")


def test_a_hostile_name_of_a_module_is_only_text(open_page):
    name, net = "<img src=x onerror=alert(1)></script>", nn.MLP((2, 3, 1), nn.Tanh, rng=0)
    x = parameter(RNG.normal(size=(4, 2)))
    browser = open_page(explain(net(x).sum(), names={name: net}))
    assert browser.find_element("css selector", ".module .head").text == f"{name}: MLP"
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("make", [mlp, residual])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_480_wide(open_page, make, scheme):
    browser = open_page(make(), **{"prefers-color-scheme": scheme})
    size = {"width": 480, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for step in range(0, browser.execute_script("return steps.length"), 5):
            browser.execute_script("show(arguments[0])", step)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 480
        browser.find_element("id", "fold").click()
        check_layout(picture(browser))
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
