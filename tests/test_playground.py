"""The playground: its numbers are the library's, and a browser shows them."""

import contextlib
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Objective, critical, optim
from microgradopt.training import Run, trajectory

for package in ("marimo", "sklearn", "matplotlib", "tqdm", "tabulate", "joblib"):
    pytest.importorskip(package)

plots = pytest.importorskip("microgradopt.plots")
clock, formulas, optimizers, pictures, planes, points, surfaces, texts, trajectories = (
    pytest.importorskip(f"play.{name}")
    for name in (
        "clock", "formulas", "optimizers", "pictures", "plane", "points", "surfaces", "texts", "trajectory",
    )
)  # fmt: skip

ROOT = Path(__file__).parent.parent
NAMES = list(surfaces.surfaces())
OPTIMIZERS = list(optimizers.optimizers())
walk = trajectories.walk


def settings(surface="Himmelblau", optimizer="Adam", updates=20, lr=None, **more):
    """With the defaults of the page."""
    place = surfaces.surfaces()[surface]
    _, hyper, kind = optimizers.optimizers()[optimizer]
    hyper = {**hyper, **more.pop("hyper", {})}
    return optimizers.Settings(
        surface, optimizer, lr or place.rates[kind], updates, more.pop("start", place.start),
        tuple(sorted(hyper.items())), **more,
    )  # fmt: skip


# The way --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_way_is_that_of_the_library(name):
    chosen = settings(name, "Adam", 12)
    run = walk(chosen)
    objective = surfaces.objective_of(name, chosen.start)
    thetas = trajectory(objective, optim.Adam(objective.parameters, lr=chosen.lr), 12)
    np.testing.assert_array_equal(run.thetas, thetas)
    assert not run.stopped
    losses = [objective.value(theta) for theta in thetas]
    np.testing.assert_allclose(run.history.loss, losses, rtol=1e-12)
    norms = [np.linalg.norm(objective.gradient(theta)) for theta in thetas]
    np.testing.assert_allclose(run.history.gradient_norm, norms, rtol=1e-12)
    assert f"{losses[-1]:.5g}" in texts.outcome(run)


def test_the_surfaces_are_what_they_are_called():
    known = {
        "The lecture's net": ((1, 1), 0), "Himmelblau": ((3, 2), 0), "Rosenbrock": ((1, 1), 0), "Beale": ((3, 0.5), 0),
        "Monkey saddle": ((0, 0), 0),
    }  # fmt: skip
    for name, (theta, value) in known.items():
        objective = surfaces.objective_of(name, theta)
        assert objective.value() == pytest.approx(value, abs=1e-14)
        np.testing.assert_allclose(objective.gradient(), 0, atol=1e-12)
    x, y = np.array(surfaces.X_LECTURE), np.array(surfaces.Y_LECTURE)
    w, b = np.polyfit(x, y, 1)
    regression = surfaces.objective_of("The lecture's regression", (b, w))
    assert regression.value() == pytest.approx(np.sum((y - b - w * x) ** 2))
    np.testing.assert_allclose(regression.gradient(), 0, atol=1e-5)


@pytest.mark.parametrize("decay", [False, True])
def test_decay_and_warmup(decay):
    run = walk(settings("Himmelblau", "SGD", 8, lr=0.01, decay=decay, warmup=4))
    after = [0.01 / math.sqrt(t + 1) if decay else 0.01 for t in range(4)]
    np.testing.assert_allclose([step.lr for step in run.steps], [0.0025, 0.005, 0.0075, 0.01, *after], rtol=1e-12)


def test_a_way_that_diverges_ends_with_a_sentence():
    run = walk(settings("Rosenbrock", "SGD", 50, lr=1.0))
    t = len(run.steps)
    assert t < 50
    assert np.isfinite(run.thetas).all()
    assert f"Diverged: after update {t + 1} the loss or its gradient is too large" in texts.outcome(run)
    assert "learning rate" in texts.outcome(run)
    shown = planes.plane_of((run.settings,))
    pictures.draw_surface([run], shown, t - 1).figure.canvas.draw()
    pictures.draw_history([run], t - 1).canvas.draw()
    assert "theta" in "".join(formulas.formula_blocks(run, t - 1))


def test_one_that_diverges_at_once_has_a_picture_too():
    for name in ("The lecture's net", "Digits net"):
        run = walk(settings(name, "SGD", 10, hyper={"weight_decay": 0.5}, lr=1e300))
        shown = planes.plane_of((run.settings,))
        pictures.draw_surface([run], shown, 0).figure.canvas.draw()
        assert run.stopped
        assert "".join(formulas.formula_blocks(run, 0))


def test_the_plane_of_the_net_holds_the_end_and_the_losses():
    chosen = settings("Digits net", "Adam", 20)
    run, shown = walk(chosen), planes.plane_of((chosen,))
    np.testing.assert_allclose(shown.paths[0][-1], 0, atol=1e-12)
    centred = run.thetas - run.thetas.mean(axis=0)
    expected = np.linalg.svd(centred)[1] ** 2
    assert shown.share == pytest.approx(expected[:2].sum() / expected.sum())
    theta = shown.point(shown.a[3], shown.b[5])
    assert run.objective.value(theta) == pytest.approx(shown.values[5, 3], rel=1e-12)
    np.testing.assert_allclose(np.array(shown.axes) @ np.array(shown.axes).T, np.eye(2), atol=1e-12)


# The formula ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_formula_gives_what_the_library_does(name, decay):
    hyper = {"weight_decay": decay} if "weight_decay" in optimizers.optimizers()[name][1] else {}
    if name == "SGD":
        hyper["momentum"] = 0.9 * (decay > 0)
    chosen = settings("Himmelblau", name, 15, hyper=hyper, decay=True, warmup=5)
    run = walk(chosen)
    assert len(run.steps) == 15
    for t, step in enumerate(run.steps):
        for i in range(2):
            lines = formulas.update_lines(chosen, step, i)
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
    run = walk(settings("The lecture's net", "Momentum", 5, lr=0.1, start=(1.0, 0.5)))
    # g = −2 (1 − w₁w₂) (w₂, w₁): at (1, 0.5) it is (−0.5, −1); m = −0.1 g
    text = "".join(formulas.formula_blocks(run, 0))
    assert r"0.9 \cdot 0 - 0.1 \cdot (-0.5) = \mathbf{0.05}" in text
    assert r"1 + 0.05 = \mathbf{1.05}" in text
    assert r"0.5 + 0.1 = \mathbf{0.6}" in text
    # at (1.05, 0.6): 1 − 0.63 = 0.37, g = (−0.444, −0.777)
    text = "".join(formulas.formula_blocks(run, 1))
    assert r"0.9 \cdot 0.05 - 0.1 \cdot (-0.444) = \mathbf{0.0894}" in text
    assert r"0.9 \cdot 0.1 - 0.1 \cdot (-0.777) = \mathbf{0.1677}" in text


def test_numbers_in_tex():
    assert [formulas.tex(x) for x in (0.0, -1.5, 1e-7)] == ["0", "-1.5", r"1 \cdot 10^{-7}"]
    assert formulas.tex(-2.5e10, True) == r"(-2.5 \cdot 10^{10})"


# What kind of point ---------------------------------------------------------------------------------------------------


def test_a_click_near_the_saddle():
    objective = Objective(lambda w: (1 - w[0] * w[1]) ** 2, [1.0, 1.0])
    found = points.judge(objective, np.array([-0.2, 0.1]))
    np.testing.assert_allclose(found.nearest.theta, 0, atol=1e-9)
    assert (found.here.kind, found.nearest.kind) == ("not critical", "saddle point")
    # along (1, 1)/√2 the loss is (1 − s²/2)²: at s = √2 it is 0
    assert found.way.step == pytest.approx(math.sqrt(2), rel=1e-3)
    assert found.way.measured == pytest.approx(1, rel=1e-6)
    text = texts.verdict_text(found)
    gradient = np.linalg.norm(objective.gradient([-0.2, 0.1]))
    assert f"(-0.2, 0.1): **not critical**, loss 1.0404; the gradient is not 0 (its norm is {gradient:.3g})" in text
    assert "(0, 0): **saddle point** (certified), loss 1. The loss curves down along 1 and up along 1 of 2" in text
    assert "(eigenvalues of the Hessian: -2, 2)" in text
    assert (
        "go 1.414 along the arrow, a direction of curvature -2. The loss falls by 1, to 0; predicted was a fall" in text
    )


def test_a_minimum_has_no_way_out():
    objective = surfaces.objective_of("Himmelblau", (0.0, 0.0))
    found = points.judge(objective, np.array([3.1, 2.1]))
    np.testing.assert_allclose(found.nearest.theta, [3, 2], atol=1e-9)
    assert found.way is None
    assert "No way out" in texts.verdict_text(found)


@pytest.mark.parametrize(("name", "n"), [("Two moons net", 42), ("Digits net", 1210)])
def test_a_click_on_a_net(name, n):
    chosen = settings(name, "Adam", 12)
    run, shown = walk(chosen), planes.plane_of((chosen,))
    found = points.judge(run.objective, shown.point(0.1, 0.2))
    assert found.nearest is None
    assert found.here.n == n
    pictures.draw_surface([run], shown, 3, found).figure.canvas.draw()
    listed = re.search(r"eigenvalues of the Hessian: ([^)]*)", texts.verdict_text(found))[1].split(", ")
    assert listed == [
        f"{x:.5g}" if x is not None else "..."
        for x in (*found.here.eigenvalues[:3], None, *found.here.eigenvalues[-3:])
    ]


@pytest.mark.parametrize("theta", [(0.0, 0.0), (0.5, 0.1), (-1.0, 0.8)])
def test_a_way_out_without_an_end_is_said_to_have_none(theta):
    found = points.judge(surfaces.objective_of("Monkey saddle", (0.0, 0.0)), np.array(theta))
    text = texts.verdict_text(found)
    assert found.way.ended
    assert "no lowest point was found that way" in text
    assert "it looks unbounded" in text
    shown = planes.plane_of((settings("Monkey saddle", "Adam", 5),))
    ax = pictures.draw_surface([walk(settings("Monkey saddle", "Adam", 5))], shown, 0, found)
    arrow = next(line for line in ax.lines if line.get_label() == "way out").get_xydata()
    assert np.abs(arrow).max() == pytest.approx(1.5), "it goes to the edge of the picture"


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("net") or "lecture" in name])
def test_what_is_said_of_a_click_is_readable(name):
    objective, shown = surfaces.objective_of(name, (0.0, 0.0)), planes.plane_of((settings(name, "Adam", 5),))
    for a, b in ((5, 5), (60, 60), (100, 30)):
        text = texts.verdict_text(points.judge(objective, shown.point(shown.a[a], shown.b[b])))
        assert not re.search(r"e\+\d\d\d?\b(?<!e\+0\d)", text), text  # no 5.12e+17
        assert "times the size of θ" not in text
        assert "**Way out**" in text or "**No way out" in text


# Two runs, and what moves ---------------------------------------------------------------------------------------------


def test_two_runs_lie_on_one_surface_each_in_its_own_colour():
    chosen = (settings("Himmelblau", "Momentum"), settings("Himmelblau", "Adam"))
    runs, shown = [walk(each) for each in chosen], planes.plane_of(chosen)
    ax = pictures.draw_surface(runs, shown, 7)
    for name, run in zip(("Momentum", "Adam"), runs, strict=True):
        line = next(line for line in ax.lines if line.get_label().startswith(f"{name}, η = {run.settings.lr:g}"))
        assert line.get_color() == plots.OPTIMIZER_COLOURS[name]
        np.testing.assert_array_equal(line.get_xydata(), run.thetas[:8])
    history = pictures.draw_history(runs, 7).axes[0]
    losses = {line.get_label(): line for line in history.lines if "loss" in line.get_label()}
    for name, run in zip(("Momentum", "Adam"), runs, strict=True):
        np.testing.assert_array_equal(losses[f"loss, {name}"].get_ydata(), run.history.loss)
        assert losses[f"loss, {name}"].get_color() == plots.OPTIMIZER_COLOURS[name]


def test_the_same_optimizer_twice_can_be_told_apart():
    chosen = (settings("Himmelblau", "Adam"), settings("Himmelblau", "Adam", lr=0.01))
    ax = pictures.draw_surface([walk(each) for each in chosen], planes.plane_of(chosen), 7)
    styles = {line.get_label(): line.get_linestyle() for line in ax.lines if line.get_label().startswith("Adam")}
    assert styles == {"Adam, η = 0.1": "-", "Adam, η = 0.01": "--"}


def test_a_run_that_ended_before_the_other_stays_at_its_end():
    chosen = (settings("Rosenbrock", "SGD", 50, lr=1.0), settings("Rosenbrock", "Adam", 50))
    runs = [walk(each) for each in chosen]
    assert runs[0].at(40) == len(runs[0].steps) < 40 == runs[1].at(40)
    ax = pictures.draw_surface(runs, planes.plane_of(chosen), 40)
    drawn = [len(line.get_xydata()) for line in ax.lines if "η" in line.get_label()]
    assert drawn == [len(runs[0].thetas), 41]
    pictures.draw_history(runs, 40).canvas.draw()


@pytest.mark.parametrize("last", [0, 1, 29, 30, 31, 1000])
def test_t_goes_to_the_last_update_and_no_further(last):
    ts = [0]
    while ts[-1] < last:
        ts.append(clock.forward(ts[-1], last))
        assert ts[-1] > ts[-2]
    assert ts[-1] == clock.forward(last, last) == last
    assert len(ts) <= clock.FRAMES + 1


def box(x_min, x_max, y_min, y_max):
    return SimpleNamespace(x_min=x_min, x_max=x_max, y_min=y_min, y_max=y_max)


@pytest.mark.parametrize("start", [(1.6, -1.4), (2.2, -2.2)])
def test_the_handle_is_dragged_and_the_rest_is_clicked(start):
    shown = planes.plane_of((settings("The lecture's net", "Adam", 5),))
    handle = planes.handle_of(shown, np.array(start))
    (x0, x1), (y0, y1) = handle["x"], handle["y"]
    assert x0 <= start[0] <= x1 <= 2.2
    assert -2.2 <= y0 <= start[1] <= y1
    assert planes.selected(shown, box(x0, x1, y0, y1), handle)[0] == "nothing"
    done, by = planes.selected(shown, box(x0 - 2, x1 - 2, y0 + 1, y1 + 1), handle)
    assert done == "dragged"
    np.testing.assert_allclose(by, (-2, 1))
    for handle_or_none in (handle, None):
        done, at = planes.selected(shown, box(0.3, 0.3, -0.2, -0.2), handle_or_none)
        assert done == "clicked"
        np.testing.assert_allclose(at, (0.3, -0.2))


# The net in the plane -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0, 60])
def test_the_boundary_is_that_of_the_net_at_that_update(t):
    run = walk(settings("Two moons net", "Adam", 60))
    data = surfaces.surfaces()["Two moons net"].net.samples()
    ax = pictures.draw_boundaries([run], t).axes[0]
    # The net by hand, with the weights of that update.
    W, b, V, c = np.split(run.thetas[t], [16, 24, 40])

    def chosen(X):
        return (np.tanh(X @ W.reshape(8, 2).T + b) @ V.reshape(2, 8).T + c).argmax(axis=1)

    assert ax.get_title() == f"Adam after {t}: {np.mean(chosen(data.X) == data.y):.1%} right"
    (regions,) = [each for each in ax.collections if hasattr(each, "levels")]
    first, second = regions.get_paths()
    apart = np.random.default_rng(0).uniform(data.X.min(0), data.X.max(0), (200, 2))
    found = np.where(second.contains_points(apart), 1, np.where(first.contains_points(apart), 0, -1))
    assert np.mean(found == chosen(apart)) > 0.97  # the grid has 80 points a side


def test_it_learns():
    run = walk(settings("Two moons net", "Adam", 200))
    right = [
        float(re.search(r"([\d.]+)% right", pictures.draw_boundaries([run], t).axes[0].get_title())[1])
        for t in (0, 200)
    ]
    assert right[0] < 90
    assert right[1] > 97


# The diagnosis --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_run_to_be_diagnosed_is_the_one_on_screen(name):
    chosen = settings(name, "Adam", 12, decay=True, warmup=3)
    run, training = walk(chosen), trajectories.training_of(chosen)
    np.testing.assert_array_equal(training.objective.theta, run.thetas[-1])
    np.testing.assert_allclose(training.loss, run.history.loss[:-1], rtol=1e-12)
    assert (training.model is None) == (surfaces.surfaces()[name].net is None)


def test_the_diagnosis_is_the_library_s():
    # On the line w₂ = −w₁ the gradient leads into the saddle at 0, and there it ends.
    chosen = settings("The lecture's net", "SGD", 100, start=(1.0, -1.0))
    found = points.diagnosis_of(chosen)
    objective = Objective(lambda w: (1 - w[0] * w[1]) ** 2, [1.0, -1.0])
    expected = critical.diagnose(Run.of(objective, optim.SGD(objective.parameters, lr=0.05)).train(100), budget=2_400)
    assert (found.verdict, found.evidence, found.action) == (expected.verdict, expected.evidence, expected.action)
    assert found.verdict == "saddle point"
    said = texts.diagnosis_text(walk(chosen), found)
    assert "SGD, after 100 updates: saddle point" in said
    assert all(line in said for line in expected.evidence)
    assert f"**What to do:** {expected.action}" in said
    assert all(line in texts.tried_text(found) for line in expected.tried)


@pytest.mark.parametrize("name", ["Two moons net", "Digits net", "Monkey saddle"])
def test_a_diagnosis_keeps_to_its_budget(name):
    found = points.diagnosis_of(settings(name, "Adam", 40))
    assert 0 < max(trial.updates[-1] for trial in found.trials) <= 100
    assert sum(trial.updates[-1] for trial in found.trials) <= points.BUDGET
    pictures.draw_diagnosis(found).canvas.draw()


def test_a_run_that_diverged_is_diagnosed_too():
    chosen = settings("Rosenbrock", "SGD", 50, lr=1.0)
    assert "learning rate" in texts.diagnosis_text(walk(chosen), points.diagnosis_of(chosen))


# As a script and in the browser ---------------------------------------------------------------------------------------

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}


def test_as_a_script():
    command = [sys.executable, str(ROOT / "demos" / "playground.py"), "--quick"]
    said = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True, timeout=60).stdout
    assert said.strip() == texts.outcome(walk(settings("The lecture's net", "Momentum", 20)))


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of the running app."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", str(ROOT / "demos" / "playground.py"), "--headless", "--no-token"]
    with (tmp_path_factory.mktemp("server") / "log").open("w") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log, env=ENVIRONMENT)
    try:
        _wait_for(port, process)  # a browser that was refused once may show so without an error
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port, process):
    """Until the server listens."""
    until = time.monotonic() + 90
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError("the playground's server does not listen")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    driver = shutil.which("chromedriver")
    if CHROMIUM is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(service=webdriver.ChromeService(executable_path=driver), options=options)
    laptop = {"width": 1500, "height": 857, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", laptop)
    yield browser
    browser.quit()


@pytest.fixture
def page(server, chromium):
    """A page that was just opened. At the end, nothing went wrong on it, and nothing came from elsewhere."""
    page = Page(chromium, server)
    page.shows(texts.outcome(walk(FIRST)), "Click on the surface")
    yield page
    for bad in ("Traceback", "Exception", "An internal error", "raised an error"):
        assert bad not in page.text()
    assert [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "ERROR")] == []
    names = chromium.execute_script("return performance.getEntriesByType('resource').map(r => r.name)")
    assert [name for name in names if name.startswith("http") and not name.startswith(server)] == []
    assert page.labels().count("") == 0, "each slider is there"


FIRST = settings("The lecture's net", "Momentum", 100)


class Page:
    """What a visitor does, and sees."""

    def __init__(self, browser, address):
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver import ActionChains
        from selenium.webdriver.support.ui import Select, WebDriverWait

        self.browser, self.Select, self.ActionChains = browser, Select, ActionChains
        self.wait = WebDriverWait(browser, 60, 0.1, ignored_exceptions=[WebDriverException])
        browser.get(address)

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

    def labels(self):
        """Of all sliders; "" of one that the browser has lost."""
        script = "return [...document.querySelectorAll('marimo-slider')].map(e => e.shadowRoot?.textContent ?? '')"
        return self.browser.execute_script(script)

    def slider(self, label, place=0):
        """The slider with that label, the first or a later one."""
        script = (
            "return [...document.querySelectorAll('marimo-slider')].map(e => e.shadowRoot).filter("
            "e => e.querySelector('label').textContent.includes(arguments[0])).map("
            "e => e.querySelector('[role=slider]'))[arguments[1]]"
        )
        return self.browser.execute_script(script, label, place)

    def value(self, label, place=0):
        """What that slider is at."""
        return float(self.slider(label, place).get_attribute("aria-valuenow"))

    def move(self, label, keys, place=0):
        """Move a slider."""
        self.slider(label, place).send_keys(keys)

    def t(self):
        """Where the slider of t is."""
        return self.wait.until(lambda _: int(self.value("update t")) + 1) - 1  # 0 would be waited on

    def buttons(self):
        """What is on them."""
        script = "return [...document.querySelectorAll('marimo-button')].map(e => e.shadowRoot.textContent.trim())"
        return self.browser.execute_script(script)

    def press(self, text):
        """Press the button with this text, as soon as it is there."""
        script = (
            "const all = [...document.querySelectorAll('marimo-button')]"
            ".map(e => e.shadowRoot.querySelector('button'));"
            "const found = all.find(e => e?.textContent.trim() === arguments[0]);"
            "found?.click(); return found !== undefined;"
        )
        self.wait.until(lambda browser: browser.execute_script(script, text))

    def canvas(self):
        """The surface, as long as it takes clicks."""

        def found(browser):
            return browser.find_element("tag name", "marimo-matplotlib").shadow_root.find_element(
                "css selector", "canvas"
            )

        return self.wait.until(found)

    def offset(self, chosen, theta):
        """Where θ is on the canvas, from its middle."""
        ax = pictures.draw_surface([walk(chosen)], planes.plane_of((chosen,)), 0)
        ax.figure.canvas.draw()
        x, y = ax.transData.transform(theta)
        width, height = ax.figure.get_size_inches() * ax.figure.get_dpi()
        scale = self.canvas().rect["width"] / width
        return round((x - width / 2) * scale), round((height / 2 - y) * scale)

    def click(self, chosen, theta):
        """Click on the surface, at θ."""
        mouse = self.ActionChains(self.browser, duration=0)
        mouse.move_to_element_with_offset(self.canvas(), *self.offset(chosen, theta)).click().perform()

    def drag(self, chosen, start, end):
        """Press the button at one θ, and release it at another."""
        mouse, canvas = self.ActionChains(self.browser, duration=50), self.canvas()
        mouse.move_to_element_with_offset(canvas, *self.offset(chosen, start)).click_and_hold()
        mouse.move_to_element_with_offset(canvas, *self.offset(chosen, end)).release().perform()

    def surface_is(self, *chosen, t):
        """Wait until the picture of the surface is that of these runs at t."""
        figure = pictures.draw_surface([walk(each) for each in chosen], planes.plane_of(chosen), t).figure
        self.holds(pictures.address(figure))

    def holds(self, address):
        """Wait until a picture is on the page, to be clicked on or not."""
        script = (
            "return [...document.querySelectorAll('img')].map(e => e.src).concat("
            "[...document.querySelectorAll('marimo-matplotlib')].map(e => JSON.parse(e.dataset.chartBase64)))"
            ".includes(arguments[0])"
        )
        self.wait.until(lambda browser: browser.execute_script(script, address))


def test_what_is_chosen_is_what_is_shown(page):
    place = page.canvas().rect
    assert place["y"] + place["height"] < 857, "the surface is in view"
    assert place["width"] > 600, "and not made smaller"
    # A slider: the learning rate one notch up.
    page.move("learning rate", "\ue014")
    faster = settings("The lecture's net", "Momentum", 100, lr=0.1)
    objective = Objective(lambda w: (1 - w[0] * w[1]) ** 2, faster.start, compile=mg.compile)
    way = trajectory(objective, optim.Momentum(objective.parameters, lr=0.1, momentum=0.9), 100)
    page.shows("η = 0.1", f"at ({way[-1][0]:.5g}, {way[-1][1]:.5g})" if np.isfinite(way[-1]).all() else "Diverged")
    # Another optimizer, another surface.
    page.choose("optimizer", "RMSprop")
    page.shows(texts.outcome(walk(settings("The lecture's net", "RMSprop", 100))))
    page.choose("surface", "Himmelblau")
    adaptive = settings("Himmelblau", "RMSprop", 100)
    page.shows(texts.outcome(walk(adaptive)), "Update 0, RMSprop")
    page.move("updates", "\ue014")  # the number of updates: 200
    more = settings("Himmelblau", "RMSprop", 200)
    page.shows(texts.outcome(walk(more)))
    # Along the trajectory: the numbers in the formula are those of update 1.
    page.move("update t", "\ue014")
    page.shows("Update 1, RMSprop")
    step = walk(more).steps[1]
    page.shows(*(f"{formulas.tex(line.value)}" for line in formulas.update_lines(more, step, 0) if line.value > 0))
    # A click near the maximum of Himmelblau's function: not critical itself, but the critical point near it has a way.
    page.click(more, (-0.2, -0.7))
    page.shows("The critical point near it", "Way out from the local maximum")
    seen = page.text()
    x, y = map(float, re.search(r"The point clicked \(([^,]+), ([^)]+)\)", seen).groups())
    assert math.hypot(x + 0.2, y + 0.7) < 0.05
    found = points.judge(surfaces.objective_of("Himmelblau", (0.0, 0.0)), np.array([x, y]))
    assert f"its norm is {found.here.gradient_norm:.3g}" in seen
    assert f"(certified), loss {found.nearest.value:.5g}" in seen
    # Which of the two ways along an eigenvector is taken, rounding decides.
    fall, end = map(float, re.search(r"The loss falls by ([^,]+), to ([^;]+);", seen).groups())
    assert fall + end == pytest.approx(found.nearest.value, rel=1e-4)
    # Too fast: a sentence, no traceback.
    page.choose("optimizer", "SGD")
    page.move("learning rate", "\ue010")  # End: 100
    page.shows("Diverged: after update", "A smaller learning rate may help")


def test_it_plays_and_pauses_and_steps(page):
    page.press("Play")
    page.wait.until(lambda _: page.t() >= 2 * clock.stride(100))
    page.press("Pause")
    page.wait.until(lambda _: "Play" in page.buttons())
    t = page.t()
    time.sleep(3 * clock.SECONDS)
    assert page.t() == t, "it stays"
    assert t % clock.stride(100) == 0
    page.shows(f"Update {t}, Momentum")
    page.surface_is(FIRST, t=t)
    page.press("Step ▶")
    page.shows(f"Update {t + 1}, Momentum")
    # To the end, where it stops by itself, and from there back to the start.
    page.move("update t", "\ue010")  # End
    page.wait.until(lambda _: page.t() == 100)
    page.press("◀ Step")
    page.wait.until(lambda _: page.t() == 99)
    page.press("Play")
    page.wait.until(lambda _: page.t() == 100 and "Play" in page.buttons())
    page.press("Play")
    page.wait.until(lambda _: 0 < page.t() < 99)


def test_the_start_is_dragged(page):
    page.drag(FIRST, FIRST.start, (-1.0, 0.5))
    page.wait.until(lambda _: page.value("start") != 1.6)
    start = tuple(page.value("start", k) for k in (0, 1))
    np.testing.assert_allclose(start, (-1.0, 0.5), atol=0.03)
    moved = settings("The lecture's net", "Momentum", 100, start=start)
    page.shows(texts.outcome(walk(moved)))
    page.surface_is(moved, t=0)
    page.move("start", "\ue014")  # 0.01 to the right
    page.shows(
        texts.outcome(walk(settings("The lecture's net", "Momentum", 100, start=(round(start[0] + 0.01, 2), start[1]))))
    )


def test_two_optimizers_their_boundaries_and_diagnoses(page):
    page.choose("surface", "Two moons net")
    page.choose("compare with", "Adam")
    chosen = settings("Two moons net", "Momentum", 200), settings("Two moons net", "Adam", 200)
    runs = [walk(each) for each in chosen]
    page.shows(*map(texts.outcome, runs))
    page.surface_is(*chosen, t=0)
    page.holds(pictures.address(pictures.draw_boundaries(runs, 0)))
    page.press("Step ▶")
    page.shows("Update 1, Momentum", "Update 1, Adam")
    page.surface_is(*chosen, t=1)
    page.holds(pictures.address(pictures.draw_boundaries(runs, 1)))
    # Its own learning rate.
    page.move("learning rate", "\ue014", 1)
    faster = settings("Two moons net", "Adam", 200, lr=0.1)
    page.shows(texts.outcome(walk(faster)), texts.outcome(runs[0]))
    page.press("Diagnose: why is the loss where it is?")
    for run, each in zip((runs[0], walk(faster)), (chosen[0], faster), strict=True):
        found = points.diagnosis_of(each)
        page.shows(f"{run.settings.optimizer}, after 200 updates: {found.verdict}", *found.evidence, found.action)
