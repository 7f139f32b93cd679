"""Figures that live: what a reader does to them, and that the numbers on the screen are the engine's."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn, optim, plots
from microgradopt.page.explorable import asset, page_of, script_of
from microgradopt.page.page import Page
from microgradopt.program.tracer import TracingError

ActionChains = pytest.importorskip("selenium.webdriver").ActionChains
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

DOCS = Path(__file__).parents[2] / "docs"
specification = importlib.util.spec_from_file_location("docs_figures", DOCS / "figures.py")
figures = importlib.util.module_from_spec(specification)
specification.loader.exec_module(figures)


def saddle(w):
    return w[0] ** 2 - w[1] ** 2 + w[1] ** 4 / 4


OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.05),
    "Momentum": lambda p: optim.Momentum(p, lr=0.05),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
}


def opened_page(**more):
    return plots.live(saddle, OPTIMIZERS, (1.5, 0.3), ((-2, 2), (-2, 2)), **more)


@pytest.fixture
def figure(open_page):
    return open_page(opened_page())


def walkers(browser, what):
    return browser.execute_script(f"return live.shown.figure.walkers.map(walker => walker.{what})")


def press(browser, text):
    next(b for b in browser.find_elements("css selector", "button") if b.text == text).click()


# A surface ------------------------------------------------------------------------------------------------------------


def test_every_update_is_the_engine_s(figure):
    """Each from the engine's state, and all of them: on this surface runs are not chaotic."""
    for _ in range(40):
        press(figure, "Step")
    for (name, make), path, losses in zip(
        OPTIMIZERS.items(), walkers(figure, "path"), walkers(figure, "losses"), strict=True
    ):
        objective = mg.Objective(saddle, [1.5, 0.3])
        thetas = mg.training.trajectory(objective, make(objective.parameters), 40)
        np.testing.assert_allclose(path, thetas, rtol=0, atol=1e-10, err_msg=name)
        np.testing.assert_allclose(losses, [objective.value(theta) for theta in thetas[:-1]], rtol=0, atol=1e-10)
    shown = figure.find_element("css selector", ".live-numbers").text
    assert "Adam, update 40" in shown
    assert "θ ← θ − η · g" in shown


def test_play_pause_and_restart(open_page):
    browser = open_page(opened_page(), **{"prefers-reduced-motion": "no-preference"})
    press(browser, "Play")
    time.sleep(0.6)
    press(browser, "Pause")
    made = walkers(browser, "steps.length")
    assert made[0] > 3
    time.sleep(0.3)
    assert walkers(browser, "steps.length") == made, "paused"
    press(browser, "Restart")
    assert walkers(browser, "steps.length") == [0, 0, 0]


def test_who_wants_no_motion_gets_the_end(figure):
    press(figure, "Play")
    assert walkers(figure, "steps.length") == [200, 200, 200]


def at(browser, x, y):
    """The place of a point of the surface, from the middle of its canvas."""
    canvas = browser.find_element("css selector", "canvas")
    return canvas, round(x / 4 * canvas.size["width"]), round(-y / 4 * canvas.size["height"])


def test_the_start_is_dragged_and_stands_in_the_address(figure):
    canvas, x, y = at(figure, 1.5, 0.3)
    _, dx, dy = at(figure, -2.5, 0.7)
    ActionChains(figure).move_to_element_with_offset(canvas, x, y).click_and_hold().move_by_offset(
        dx, dy
    ).release().perform()
    start = figure.execute_script("return live.shown.figure.start")
    np.testing.assert_allclose(start, [-1.0, 1.0], atol=0.02)
    address = figure.execute_script("return location.href")
    assert "#figure?start=-1" in address
    figure.get("about:blank")
    figure.get(address)
    np.testing.assert_allclose(figure.execute_script("return live.shown.figure.start"), start, atol=1e-3)


@pytest.mark.parametrize(
    ("where", "answer"),
    [
        ((0.02, -0.02), "A saddle point (certified)"),
        ((0.0, 1.42), "A local minimum (certified)"),
        ((1.0, 0.5), "Not a critical point"),
    ],
)
def test_a_click_asks_what_a_point_is(figure, where, answer):
    canvas, x, y = at(figure, *where)
    ActionChains(figure).move_to_element_with_offset(canvas, x, y).click().perform()
    verdict = figure.find_element("css selector", ".live-verdict").text
    assert answer in verdict
    if "saddle" in answer:
        assert "eigenvalues −2 and 2" in verdict
        assert "way out" in verdict


def test_keys(figure):
    canvas = figure.find_element("css selector", "canvas")
    canvas.send_keys(Keys.ARROW_LEFT, Keys.ARROW_UP)
    np.testing.assert_allclose(figure.execute_script("return live.shown.figure.start"), [1.46, 0.34], atol=1e-9)
    canvas.send_keys("s", "s")
    assert walkers(figure, "steps.length") == [2, 2, 2]
    canvas.send_keys("r", Keys.ENTER)
    assert walkers(figure, "steps.length") == [0, 0, 0]
    assert "Not a critical point" in figure.find_element("css selector", ".live-verdict").text
    canvas.send_keys(" ")
    assert walkers(figure, "steps.length") == [200, 200, 200]


def test_sliders_and_boxes(figure):
    slider = figure.find_element("css selector", "input[type=range]")
    slider.send_keys(Keys.END)
    assert walkers(figure, "values.lr")[0] == pytest.approx(1.5)
    figure.find_elements("css selector", "input[type=checkbox]")[1].click()
    press(figure, "Step")
    assert walkers(figure, "steps.length") == [1, 0, 1]
    address = figure.execute_script("return location.hash")
    assert "on=SGD%2CAdam" in address
    assert "SGD.lr=1.5" in address
    path = walkers(figure, "path")[0]
    np.testing.assert_allclose(path[1], [1.5 - 1.5 * 3.0, 0.3 - 1.5 * (0.3**3 - 0.6)])


def test_what_diverges_says_so(open_page):
    page = plots.live(lambda w: (w**4).sum(), {"SGD": lambda p: optim.SGD(p, lr=10.0)}, (2, 2), ((-3, 3), (-3, 3)))
    browser = open_page(page)
    press(browser, "Play")
    assert "diverged" in browser.find_element("css selector", ".live-numbers").text


def test_an_optimizer_whose_formula_changes(open_page):
    """RAdam's, after five updates; what was printed for the first ones is not used for the others."""
    make = {"RAdam": lambda p: optim.RAdam(p, lr=0.1)}
    browser = open_page(plots.live(saddle, make, (1.5, 0.3), ((-2, 2), (-2, 2))))
    press(browser, "Play")
    objective = mg.Objective(saddle, [1.5, 0.3])
    thetas = mg.training.trajectory(objective, make["RAdam"](objective.parameters), 200)
    np.testing.assert_allclose(walkers(browser, "path")[0], thetas, atol=1e-8)


def test_a_rate_that_follows_a_schedule(open_page):
    make = {"SGD": lambda p: optim.SGD(p, lr=optim.schedules.Cosine(0.2, 60))}
    browser = open_page(plots.live(saddle, make, (1.5, 0.3), ((-2, 2), (-2, 2))))
    assert not browser.find_elements("css selector", ".live-row input[type=range]")
    press(browser, "Play")
    objective = mg.Objective(saddle, [1.5, 0.3])
    thetas = mg.training.trajectory(objective, make["SGD"](objective.parameters), 200)
    np.testing.assert_allclose(walkers(browser, "path")[0], thetas, atol=1e-10)


@pytest.mark.parametrize("optimizer", [optim.LBFGS, optim.Newton, optim.SAM])
def test_methods_that_evaluate_the_loss_are_refused(optimizer):
    with pytest.raises(ValueError, match="evaluates the loss several times"):
        plots.live(saddle, {"it": lambda p: optimizer(p)}, (1.5, 0.3), ((-2, 2), (-2, 2)))


def test_a_loss_with_data_and_constants(open_page):
    """Arrays from outside are arguments of the programs, those from inside stand in them."""
    x = np.random.default_rng(0).normal(size=7)

    def loss(w):
        grid = np.arange(200.0) / 200
        return np.mean((w[0] + w[1] * x - 1) ** 2) + np.mean(np.sin(3 * w[0] * grid)) / 10

    browser = open_page(plots.live(loss, {"SGD": lambda p: optim.SGD(p, lr=0.2)}, (1.5, 0.3), ((-2, 2), (-2, 2))))
    press(browser, "Play")
    objective = mg.Objective(loss, [1.5, 0.3])
    thetas = mg.training.trajectory(objective, optim.SGD(objective.parameters, lr=0.2), 200)
    np.testing.assert_allclose(walkers(browser, "path")[0], thetas, atol=1e-10)


def data_named_as_the_pages_own():
    """What a page calls its parameter, an optimizer's state and its rate, and two arrays of one name."""
    w, m, lr, theta = (np.array(x) for x in ([0.5, -0.5], [0.2, 0.1], [1.0, 3.0], [0.1, 0.3]))

    def squares(m):
        return lambda x: (x - m) ** 2

    other = squares(np.array([0.7, 0.4]))
    return lambda x: (lr * (x - w) ** 2 + m * x + (x - theta) ** 4 + other(x)).sum()


def objective_of_another_name():
    v = mg.Tensor([0.0, 0.0], requires_grad=True)
    return mg.Objective.of([v], lambda: saddle(v))


def through_a_network():
    network, w = nn.Linear(2, 1, rng=0), mg.Tensor([0.5, -0.5])
    return lambda x: (network(x) ** 2).sum() + ((x - w) ** 2).sum()


@pytest.mark.parametrize(
    "make",
    [data_named_as_the_pages_own, objective_of_another_name, lambda: mg.Objective(saddle, [0, 0.0]), through_a_network],
)
def test_whatever_the_parameter_and_the_data_are_called(open_page, make):
    loss = make()
    browser = open_page(plots.live(loss, OPTIMIZERS, (1.5, 0.3), ((-2, 2), (-2, 2))))
    press(browser, "Play")
    for (name, optimizer), path in zip(OPTIMIZERS.items(), walkers(browser, "path"), strict=True):
        objective = loss if isinstance(loss, mg.Objective) else mg.Objective(loss, [0.0, 0.0])
        objective.theta = [1.5, 0.3]
        thetas = mg.training.trajectory(objective, optimizer(objective.parameters), 200)
        np.testing.assert_allclose(path, thetas, rtol=0, atol=1e-8, err_msg=name)
    gradients = walkers(browser, "gradients[0]")
    objective.theta = [1.5, 0.3]
    np.testing.assert_allclose(gradients, [objective.gradient()] * 3)


# Pages ----------------------------------------------------------------------------------------------------------------


def test_an_objective_is_not_changed():
    objective = mg.Objective(saddle, [0.5, -0.5])
    w = objective.parameters[0]
    w.grad = np.array([7.0, 8.0])
    plots.live(objective, OPTIMIZERS, (1.5, 0.3), ((-2, 2), (-2, 2)))
    np.testing.assert_array_equal(objective.theta, [0.5, -0.5])
    np.testing.assert_array_equal(w.grad, [7.0, 8.0])


@pytest.mark.parametrize("start", [(1.0,), (1.0, 2.0, 3.0), (1.0, np.nan)])
def test_a_start_that_is_none(start):
    with pytest.raises(ValueError, match="start"):
        plots.live(saddle, OPTIMIZERS, start, ((-2, 2), (-2, 2)))


@pytest.mark.parametrize("extent", [(-2, 2), ((-2, 2),), ((0, 0), (1, 2)), ((2, -2), (-2, 2)), ((0, np.nan), (0, 1))])
def test_an_extent_that_is_none(extent):
    with pytest.raises(ValueError, match="extent is"):
        plots.live(saddle, OPTIMIZERS, (1.5, 0.3), extent)


@pytest.mark.parametrize("part", [np.log, np.sqrt, lambda x: np.where(x > 0, 0.0, np.inf)])
def test_a_loss_with_a_smaller_domain_than_the_picture(part):
    """Its critical points there are found."""
    page = plots.live(lambda w: w[0] ** 2 - part(w[0]) + w[1] ** 2, OPTIMIZERS, (1.5, 0.3), ((-2, 2), (-2, 2)))
    figure = json.loads("[" + page.html.rpartition("live.add(")[2].partition(", [\nfunction")[0] + "]")[1]
    found = [point["at"] for point in figure["points"] if point["kind"] == "local minimum"]
    where = {np.log: [[np.sqrt(0.5), 0.0]], np.sqrt: [[0.25 ** (2 / 3), 0.0]]}.get(part, [])
    np.testing.assert_allclose(np.reshape(found, (-1, 2)), np.reshape(where, (-1, 2)), atol=1e-8)


def test_a_network_is_refused():
    model = nn.MLP((2, 3, 1))
    objective = mg.Objective.of(model, lambda: (model(np.ones((1, 2))) ** 2).sum())
    with pytest.raises(ValueError, match="one parameter of shape"):
        plots.live(objective, OPTIMIZERS, (1, 1), ((-2, 2), (-2, 2)))


def test_a_loss_without_a_spelling_is_refused():
    with pytest.raises(TracingError, match="javascript"):
        plots.live(lambda w: np.sort(w)[0] ** 2, OPTIMIZERS, (1, 2), ((-2, 2), (-2, 2)))


def test_words_are_escaped(open_page):
    title = "</script><b>x</b> & \u2028"
    page = opened_page(title=title)
    assert title not in page.html
    browser = open_page(page)
    assert browser.find_element("css selector", "figcaption").text == "</script><b>x</b> &"


def test_small_and_without_network():
    script, style = asset("live.js"), asset("live.css")
    assert len(script.encode()) + len(style.encode()) < 40 * 1024
    assert "http" not in script + style


# The documentation's --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    return {name: make() for name, make in figures.FIGURES.items()}


@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 1200)])
@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_is_there(name, scheme, width, made, open_page):
    browser = open_page(Page(page_of(made[name])), **{"prefers-color-scheme": scheme})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for button in browser.find_elements("css selector", ".live-play"):
        browser.execute_script("arguments[0].click()", button)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    canvases = browser.find_elements("css selector", "canvas")
    assert len(canvases) >= 2
    time.sleep(0.1)
    painted = (
        "const c = arguments[0]; return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert all(browser.execute_script(painted, canvas) > 3 for canvas in canvases), "something is drawn"
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_bars_sum_to_the_movement(made, open_page):
    browser = open_page(Page(page_of(made["momentum"])))
    for _ in range(30):
        press(browser, "Step")
    told = browser.find_element("css selector", "p[data-sum]")
    assert float(told.get_attribute("data-sum")) == pytest.approx(float(told.get_attribute("data-moved")), abs=1e-14)
    press(browser, "Play")
    assert walkers(browser, "w[0]") == pytest.approx([-1.991, 5.0], abs=0.01), "demo 06's"


def test_the_cloud_of_batches_follows_the_law(made, open_page):
    browser = open_page(Page(page_of(made["noise"])))
    samples, w = made["noise"]["samples"], np.array([-1.5, 2.0])
    each = np.array([2 * (w[0] + w[1] * s["x"] - s["y"]) * np.array([1.0, s["x"]]) for s in samples])
    for size in (1, 4, 20):
        found = browser.execute_script("live.shown.figure.size = arguments[0]; return live.shown.figure.cloud", size)
        law = each.var(axis=0).sum() / size * (40 - size) / 39
        assert found["law"] == pytest.approx(law)
        assert found["spread"] == pytest.approx(law, rel=0.25)


def test_the_ellipse_s_limit(made, open_page):
    browser = open_page(Page(page_of(made["ellipse"])))
    told = browser.find_element("css selector", ".live-rate").text
    assert "Eigenvalues 1 and 20; 2/λ_max = 0.1" in told
    assert "0.91 and 0.8" in told
    (mark, _) = browser.execute_script(
        "return [...document.querySelectorAll('datalist option')].map(x => Number(x.value))"
    )
    assert mark == round(1000 * np.log(0.1 / 0.0009) / np.log(3000)), "the slider's place of 2/λ_max"


def test_both_surfaces_have_one_start(made, open_page):
    browser = open_page(Page(page_of(made["terrain"])))
    browser.find_elements("css selector", "canvas.live-map")[1].send_keys(Keys.ARROW_RIGHT)
    starts = browser.execute_script("return live.shown.figure.map(one => one.start)")
    assert starts[0] == starts[1] == pytest.approx([-8.8, 9.0])


@pytest.mark.parametrize(
    ("name", "query", "told"),
    [
        ("terrain", "figure-1?start=3,-4", "live.shown.figure.map(one => one.start)"),
        ("noise", "figure?batch=20&start=1,1", "[live.shown.figure.cloud.size, live.shown.figure.start]"),
        ("ellipse", "figure?κ=50&SGD.lr=0.03", "[live.shown.figure.given, live.shown.figure.walkers[0].values.lr]"),
        ("momentum", "figure?start=2", "live.shown.figure.walkers[0].path[0]"),
        ("stuck", "figure?case=3", "document.querySelector('[aria-pressed=true]').textContent"),
    ],
)
def test_an_address_sets_a_figure(name, query, told, made, chromium, tmp_path):
    wanted = {
        "terrain": [[3, -4], [3, -4]],
        "noise": [20, [1, 1]],
        "ellipse": [[50], 0.03],
        "momentum": [2],
        "stuck": "Run 4",
    }
    path = Page(page_of(made[name])).save(tmp_path / "page.html")
    chromium.get(f"{path.as_uri()}#{query}")
    assert chromium.execute_script(f"return {told}") == wanted[name]


def test_what_the_ball_writes_to_the_address_sets_it(made, open_page):
    """A start below 0 and a rate of its own, read back."""
    browser = open_page(Page(page_of(made["momentum"])))
    browser.find_element("css selector", "canvas").send_keys(Keys.ARROW_RIGHT)
    browser.find_element("css selector", "input[type=range]").send_keys(Keys.END)
    found = walkers(browser, "path[0][0]"), walkers(browser, "values.lr")
    assert found[0] == pytest.approx([-5.85, -5.85])
    assert found[1] == pytest.approx([1.5, 0.05])
    address = browser.execute_script("return location.href")
    browser.get("about:blank")
    browser.get(address)
    assert (walkers(browser, "path[0][0]"), walkers(browser, "values.lr")) == found


@pytest.mark.parametrize("query", ["start=1", "start=x,y", "start=1,Infinity", "SGD.lr=fast&batch=much"])
def test_an_address_that_says_nothing_changes_nothing(query, made, chromium, tmp_path):
    path = Page(page_of(made["noise"])).save(tmp_path / "page.html")
    chromium.get(f"{path.as_uri()}#figure?{query}")
    told = "const one = live.shown.figure; return [one.start, one.walkers[0].values.lr, one.cloud.size]"
    assert chromium.execute_script(told) == [[-1.5, 2], 0.1, 4]


def test_a_guess_is_answered(made, open_page):
    browser = open_page(Page(page_of(made["stuck"])))
    for i, each in enumerate(made["stuck"]["cases"]):
        press(browser, f"Run {i + 1}")
        assert each["cause"] not in browser.find_element("css selector", "[aria-live]").text
        press(browser, each["cause"])
        answer = browser.find_element("css selector", "[aria-live]").text
        assert f"Yes: {each['cause']}" in answer
        assert each["action"] in answer
    press(browser, next(c for c in made["stuck"]["causes"] if c != each["cause"]))
    assert f"The diagnosis says: {each['cause']}" in browser.find_element("css selector", "[aria-live]").text


def test_the_script_of_a_figure_is_one_call():
    text = script_of("a</script>", {"kind": "surface", "text": mg.source(saddle, np.ones(2), target="javascript")})
    assert text.startswith('live.add("a\\u003c/script>"')
    assert text.count("function ") == 1
    assert json.loads("[" + text[len("live.add(") :].partition(", [\n")[0] + "]")[1]["text"] == {"function": 0}
