"""The playground: its numbers are the library's, and a browser shows them."""

import math
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Objective, critical, optim
from microgradopt.training import trajectory

for package in ("marimo", "sklearn", "matplotlib", "tqdm", "tabulate", "joblib"):
    pytest.importorskip(package)

playground = pytest.importorskip("playground")

ROOT = Path(__file__).parent.parent
NAMES = list(playground.surfaces())
OPTIMIZERS = list(playground.optimizers())


def settings(surface="Himmelblau", optimizer="Adam", updates=20, lr=None, **more):
    """With the defaults of the page."""
    place = playground.surfaces()[surface]
    _, hyper, kind = playground.optimizers()[optimizer]
    hyper = {**hyper, **more.pop("hyper", {})}
    return playground.Settings(
        surface, optimizer, lr or place.rates[kind], updates, more.pop("start", place.start),
        tuple(sorted(hyper.items())), **more,
    )  # fmt: skip


# The way --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_way_is_that_of_the_library(name):
    chosen = settings(name, "Adam", 12)
    run = playground.walk(chosen)
    objective = playground.objective_of(name, chosen.start)
    thetas = trajectory(objective, optim.Adam(objective.parameters, lr=chosen.lr), 12)
    np.testing.assert_array_equal(run.thetas, thetas)
    assert not run.stopped
    losses = [objective.value(theta) for theta in thetas]
    np.testing.assert_allclose(run.history.loss, losses, rtol=1e-12)
    norms = [np.linalg.norm(objective.gradient(theta)) for theta in thetas]
    np.testing.assert_allclose(run.history.gradient_norm, norms, rtol=1e-12)
    assert f"{losses[-1]:.5g}" in playground.outcome(run)


def test_the_surfaces_are_what_they_are_called():
    known = {
        "The lecture's net": ((1, 1), 0), "Himmelblau": ((3, 2), 0), "Rosenbrock": ((1, 1), 0), "Beale": ((3, 0.5), 0),
        "Monkey saddle": ((0, 0), 0),
    }  # fmt: skip
    for name, (theta, value) in known.items():
        objective = playground.objective_of(name, theta)
        assert objective.value() == pytest.approx(value, abs=1e-14)
        np.testing.assert_allclose(objective.gradient(), 0, atol=1e-12)
    x, y = np.array(playground.X_LECTURE), np.array(playground.Y_LECTURE)
    w, b = np.polyfit(x, y, 1)
    regression = playground.objective_of("The lecture's regression", (b, w))
    assert regression.value() == pytest.approx(np.sum((y - b - w * x) ** 2))
    np.testing.assert_allclose(regression.gradient(), 0, atol=1e-5)


@pytest.mark.parametrize("decay", [False, True])
def test_decay_and_warmup(decay):
    run = playground.walk(settings("Himmelblau", "SGD", 8, lr=0.01, decay=decay, warmup=4))
    after = [0.01 / math.sqrt(t + 1) if decay else 0.01 for t in range(4)]
    np.testing.assert_allclose([step.lr for step in run.steps], [0.0025, 0.005, 0.0075, 0.01, *after], rtol=1e-12)


def test_a_way_that_diverges_ends_with_a_sentence():
    run = playground.walk(settings("Rosenbrock", "SGD", 50, lr=1.0))
    t = len(run.steps)
    assert t < 50
    assert np.isfinite(run.thetas).all()
    assert f"after update {t + 1} the loss is" in playground.outcome(run)
    assert "learning rate" in playground.outcome(run)
    shown = playground.picture(run.settings)
    playground.draw_surface(run, shown, t - 1).figure.canvas.draw()
    playground.draw_history(run, t - 1).canvas.draw()
    assert "theta" in "".join(playground.formula_blocks(run, t - 1))


def test_one_that_diverges_at_once_has_a_picture_too():
    for name in ("The lecture's net", "Digits net"):
        run = playground.walk(settings(name, "SGD", 10, hyper={"weight_decay": 0.5}, lr=1e300))
        shown = playground.picture(run.settings)
        playground.draw_surface(run, shown, 0).figure.canvas.draw()
        assert run.stopped
        assert "".join(playground.formula_blocks(run, 0))


def test_the_plane_of_the_net_holds_the_end_and_the_losses():
    chosen = settings("Digits net", "Adam", 20)
    run, shown = playground.walk(chosen), playground.picture(chosen)
    np.testing.assert_allclose(shown.path[-1], 0, atol=1e-12)
    centred = run.thetas - run.thetas.mean(axis=0)
    expected = np.linalg.svd(centred)[1] ** 2
    assert shown.share == pytest.approx(expected[:2].sum() / expected.sum())
    theta = shown.point(shown.a[3], shown.b[5])
    assert run.objective.value(theta) == pytest.approx(shown.values[5, 3], rel=1e-12)
    np.testing.assert_allclose(np.array(shown.plane) @ np.array(shown.plane).T, np.eye(2), atol=1e-12)


# The formula ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_formula_gives_what_the_library_does(name, decay):
    hyper = {"weight_decay": decay} if "weight_decay" in playground.optimizers()[name][1] else {}
    if name == "SGD":
        hyper["momentum"] = 0.9 * (decay > 0)
    chosen = settings("Himmelblau", name, 15, hyper=hyper, decay=True, warmup=5)
    run = playground.walk(chosen)
    assert len(run.steps) == 15
    for t, step in enumerate(run.steps):
        for i in range(2):
            lines = playground.update_lines(chosen, step, i)
            new = next(line.value for line in reversed(lines) if line.name == r"\theta")
            assert new == pytest.approx(run.thetas[t + 1][i], rel=1e-9, abs=1e-12), (t, lines)
            assert all(math.isclose(calculated(line.numbers), line.value, rel_tol=2e-3, abs_tol=2e-4) for line in lines)


def calculated(text):
    """What a right-hand side comes to: its TeX, turned into Python."""
    text = re.sub(r"10\^\{(-?\d+)\}", r"(10.0**(\1))", text)
    text = re.sub(r"\\sqrt\{((?:[^{}])*)\}", r"((\1)**0.5)", text)
    text = re.sub(r"\\frac\{((?:[^{}])*)\}\{((?:[^{}])*)\}", r"((\1)/(\2))", text)
    text = re.sub(r"\^\{(\d+)\}", r"**\1", text).replace("^2", "**2").replace(r"\cdot", "*")
    return eval(text, {"__builtins__": {}})


def test_momentum_by_hand():
    run = playground.walk(settings("The lecture's net", "Momentum", 5, lr=0.1, start=(1.0, 0.5)))
    # g = −2 (1 − w₁w₂) (w₂, w₁): at (1, 0.5) it is (−0.5, −1); m = −0.1 g
    text = "".join(playground.formula_blocks(run, 0))
    assert r"0.9 \cdot 0 - 0.1 \cdot (-0.5) = \mathbf{0.05}" in text
    assert r"1 + 0.05 = \mathbf{1.05}" in text
    assert r"0.5 + 0.1 = \mathbf{0.6}" in text
    # at (1.05, 0.6): 1 − 0.63 = 0.37, g = (−0.444, −0.777)
    text = "".join(playground.formula_blocks(run, 1))
    assert r"0.9 \cdot 0.05 - 0.1 \cdot (-0.444) = \mathbf{0.0894}" in text
    assert r"0.9 \cdot 0.1 - 0.1 \cdot (-0.777) = \mathbf{0.1677}" in text


def test_numbers_in_tex():
    assert [playground.tex(x) for x in (0.0, -1.5, 1e-7)] == ["0", "-1.5", r"1 \cdot 10^{-7}"]
    assert playground.tex(-2.5e10, True) == r"(-2.5 \cdot 10^{10})"


# What kind of point ---------------------------------------------------------------------------------------------------


def test_a_click_near_the_saddle():
    objective = Objective(lambda w: (1 - w[0] * w[1]) ** 2, [1.0, 1.0])
    found = playground.judge(objective, np.array([-0.2, 0.1]))
    np.testing.assert_allclose(found.nearest.theta, 0, atol=1e-9)
    assert (found.here.kind, found.nearest.kind) == ("not critical", "saddle point")
    # along (1, 1)/√2 the loss is (1 − s²/2)²: at s = √2 it is 0
    assert found.way.step == pytest.approx(math.sqrt(2), rel=1e-3)
    assert found.way.measured == pytest.approx(1, rel=1e-6)
    text = playground.verdict_text(found)
    assert critical.classify(objective, [-0.2, 0.1]).explanation in text
    assert found.nearest.explanation in text
    assert f"predicted {found.way.predicted:.5g}" in text


def test_a_minimum_has_no_way_out():
    objective = playground.objective_of("Himmelblau", (0.0, 0.0))
    found = playground.judge(objective, np.array([3.1, 2.1]))
    np.testing.assert_allclose(found.nearest.theta, [3, 2], atol=1e-9)
    assert found.way is None
    assert "No way out" in playground.verdict_text(found)


def test_a_click_on_the_net():
    chosen = settings("Digits net", "Adam", 12)
    run, shown = playground.walk(chosen), playground.picture(chosen)
    found = playground.judge(run.objective, shown.point(0.1, 0.2))
    assert found.nearest is None
    assert found.here.n == 1210
    assert playground.eigenvalue_text(found.here).count(",") == 6
    playground.draw_surface(run, shown, 3, found).figure.canvas.draw()
    assert "no critical point is searched" in playground.verdict_text(found)


# As a script and in the browser ---------------------------------------------------------------------------------------

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}


def test_as_a_script():
    command = [sys.executable, str(ROOT / "demos" / "playground.py"), "--quick"]
    said = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True, timeout=60).stdout
    assert said.strip() == playground.outcome(playground.walk(settings("The lecture's net", "Momentum", 20)))


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1400,1900"
)


@pytest.fixture
def server(tmp_path):
    """The address of the running app."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", str(ROOT / "demos" / "playground.py"), "--headless", "--no-token"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log, env=ENVIRONMENT)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def chromium(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    driver = shutil.which("chromedriver")
    if CHROMIUM is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(service=webdriver.ChromeService(executable_path=driver), options=options)
    yield browser
    browser.quit()


class Page:
    """What a visitor does, and sees."""

    def __init__(self, browser, address):
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver import ActionChains
        from selenium.webdriver.support.ui import Select, WebDriverWait

        self.browser, self.Select, self.ActionChains = browser, Select, ActionChains
        self.wait = WebDriverWait(browser, 60, 0.1, ignored_exceptions=[WebDriverException])

        def opened(browser):
            browser.get(address)  # raises until the server listens
            return True

        self.wait.until(opened)

    def text(self):
        """All that is to be read, formulas as their TeX."""
        return self.browser.execute_script(
            "const read = node => node.nodeType === 3 ? node.data : (node.tagName === 'STYLE' ? '' : "
            "[...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].map(read).join(' '));"
            "return read(document.getElementById('root') ?? document.body).replace(/\\s+/g, ' ');"
        )

    def shows(self, *texts):
        """Wait until all of them are to be read."""
        wanted = [" ".join(text.split()) for text in texts]
        try:
            self.wait.until(lambda _: all(text in self.text() for text in wanted))
        except Exception as error:
            raise AssertionError(f"{wanted} is not in {self.text()}") from error

    def choose(self, label, option):
        """Choose from the list with that label."""
        for element in self.browser.find_elements("tag name", "marimo-dropdown"):
            if label in element.shadow_root.find_element("css selector", "label").text:
                self.Select(element.shadow_root.find_element("css selector", "select")).select_by_visible_text(option)
                return
        raise AssertionError(f"no list {label}")

    def move(self, label, keys):
        """Move the slider with that label."""
        for element in self.browser.find_elements("tag name", "marimo-slider"):
            if label in element.shadow_root.find_element("css selector", "label").text:
                element.shadow_root.find_element("css selector", "[role=slider]").send_keys(keys)
                return
        raise AssertionError(f"no slider {label}")

    def click(self, chosen, theta):
        """Click on the surface, at θ."""
        run, shown = playground.walk(chosen), playground.picture(chosen)
        ax = playground.draw_surface(run, shown, 0)
        ax.figure.canvas.draw()
        x, y = ax.transData.transform(theta)
        width, height = ax.figure.get_size_inches() * ax.figure.get_dpi()
        canvas = self.browser.find_element("tag name", "marimo-matplotlib").shadow_root.find_element(
            "css selector", "canvas"
        )
        scale = canvas.rect["width"] / width
        offset = round((x - width / 2) * scale), round((height / 2 - y) * scale)
        self.ActionChains(self.browser, duration=0).move_to_element_with_offset(canvas, *offset).click().perform()


def test_in_the_browser(server, chromium):
    page = Page(chromium, server)
    # It opens, with the numbers of the library.
    first = settings("The lecture's net", "Momentum", 100)
    page.shows(playground.outcome(playground.walk(first)), "Click on the surface")
    # A slider: the learning rate one notch up.
    page.move("learning rate", "\ue014")
    faster = settings("The lecture's net", "Momentum", 100, lr=0.1)
    objective = Objective(lambda w: (1 - w[0] * w[1]) ** 2, faster.start, compile=mg.compile)
    way = trajectory(objective, optim.Momentum(objective.parameters, lr=0.1, momentum=0.9), 100)
    page.shows("η = 0.1", f"at ({way[-1][0]:.5g}, {way[-1][1]:.5g})" if np.isfinite(way[-1]).all() else "Diverged")
    # Another optimizer, another surface.
    page.choose("optimizer", "RMSprop")
    page.shows(playground.outcome(playground.walk(settings("The lecture's net", "RMSprop", 100))))
    page.choose("surface", "Himmelblau")
    adaptive = settings("Himmelblau", "RMSprop", 100)
    page.shows(playground.outcome(playground.walk(adaptive)), "Update 0, RMSprop")
    # Along the trajectory: the numbers in the formula are those of update 1.
    page.move("updates", "\ue014")  # the number of updates: 200
    more = settings("Himmelblau", "RMSprop", 200)
    page.shows(playground.outcome(playground.walk(more)))
    page.move("at update t", "\ue014")
    page.shows("Update 1, RMSprop")
    step = playground.walk(more).steps[1]
    page.shows(*(f"{playground.tex(line.value)}" for line in playground.update_lines(more, step, 0) if line.value > 0))
    # A click near the maximum of Himmelblau's function: not critical itself, but the critical point near it has a way.
    page.click(more, (-0.3, -0.9))
    page.shows("The critical point that Newton's method leads to", "local maximum", "Escape from the critical point")
    seen = page.text()
    x, y = map(float, re.search(r"The point clicked \(([^,]+), ([^)]+)\)", seen).groups())
    assert math.hypot(x + 0.3, y + 0.9) < 0.05
    found = playground.judge(playground.objective_of("Himmelblau", (0.0, 0.0)), np.array([x, y]))
    here = critical.classify(playground.objective_of("Himmelblau", (0.0, 0.0)), [x, y])
    assert f": {here.kind} (" in seen.replace(" :", ":")
    assert found.nearest.explanation.split(".")[0] in seen
    assert f"measured {found.way.measured:.5g}" in seen
    # Too fast: a sentence, no traceback.
    page.choose("optimizer", "SGD")
    page.move("learning rate", "\ue010")  # End: 100
    page.shows("Diverged: after update", "The pictures show the way until then")
    for bad in ("Traceback", "Exception", "An internal error", "raised an error"):
        assert bad not in page.text()
    assert [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "ERROR")] == []
    elsewhere = (
        "return performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith(arguments[0]))"
    )
    assert [name for name in chromium.execute_script(elsewhere, server) if name.startswith("http")] == []
