"""The live figures of the chapters: what each shows. `conf.py` writes them while the pages are built.

A figure is made of programs that the library derives (`microgradopt/page/explorable.py`); this file has the losses, the
optimizers and the words. ``python docs/figures.py FOLDER`` writes each as a page of its own; with ``--stills`` after it
also the pictures docs/results/live_*.png, which readers without script see (that needs Chromium).
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import microgradopt as mg
from microgradopt import critical, nn, optim, training
from microgradopt.page.explorable import called, page_of, surface

ORIGIN = "docs/figures.py"


def saddle() -> dict[str, Any]:
    """Chapter critical_points: a saddle between two minima."""
    return surface(
        lambda w: w[0] ** 2 - w[1] ** 2 + w[1] ** 4 / 4,
        {
            "SGD": lambda p: optim.SGD(p, lr=0.05),
            "Momentum": lambda p: optim.Momentum(p, lr=0.05),
            "Adam": lambda p: optim.Adam(p, lr=0.1),
        },
        (1.5, 0.001),
        ((-2, 2), (-2, 2)),
        title="L = w1² − w2² + w2⁴/4. Click: what is this point? Drag the start.",
        origin=ORIGIN,
    )


def himmelblau() -> dict[str, Any]:
    """Chapter update: optimizers on one surface, each update in numbers."""
    return surface(
        lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2,
        {
            "SGD": lambda p: optim.SGD(p, lr=0.005),
            "Momentum": lambda p: optim.Momentum(p, lr=0.003),
            "Adam": lambda p: optim.Adam(p, lr=0.1),
        },
        (-0.2, -0.9),
        ((-6, 6), (-6, 6)),
        title="Four minima, four saddles, one maximum (Himmelblau 1972): the formula of each update, and its numbers",
        origin=ORIGIN,
    )


def ellipse() -> dict[str, Any]:
    """Chapter rates: a quadratic, its condition number κ, and 2/λ_max (lecture L8)."""
    return surface(
        lambda w, kappa: (w[0] ** 2 + kappa * w[1] ** 2) / 2,
        {"SGD": lambda p: optim.SGD(p, lr=0.09), "Momentum": lambda p: optim.Momentum(p, lr=0.05)},
        (-9, 2.5),
        ((-10, 10), (-4, 4)),
        title="L = (w1² + κ w2²)/2: what one learning rate can do",
        given={"κ": (1.0, 100.0, 20.0)},
        limit=True,
        origin=ORIGIN,
    )


def adaptive() -> dict[str, Any]:
    """Chapter rates: what Root Mean Square, RMSProp and Adam divide by (lecture L9 to L13)."""
    figure = surface(
        lambda w: 0.02 * (w[0] - 4) ** 2 + (0.1 + 4 / (1 + np.exp(-2 * w[0]))) * w[1] ** 2,
        {
            "RMS": lambda p: optim.RMS(p, lr=0.3),
            "RMSprop": lambda p: optim.RMSprop(p, lr=0.1, alpha=0.9),
            "Adam": lambda p: optim.Adam(p, lr=0.1, betas=(0.9, 0.9)),
        },
        (-8, 2.5),
        ((-9, 6), (-3, 3)),
        title="A valley that becomes steep. The ellipses: η/σ along each weight",
        bursts=True,
        reach=2.0,
        updates=300,
        origin=ORIGIN,
    )
    two = np.ones(2)
    sigmas = {
        "RMS": called(lambda sum, t: np.sqrt(sum / t), {"sum": two, "t": 1.0}),
        "RMSprop": called(lambda v: np.sqrt(v), {"v": two}),
        "Adam": called(lambda v, t, beta: np.sqrt(v / (1 - beta**t)), {"v": two, "t": 1.0, "betas1": 0.9}),
    }
    for walker in figure["walkers"]:
        walker["sigma"] = sigmas[walker["name"]]
    return figure


def landscape(w: Any) -> Any:
    """A slope with a hollow and a bump, a plateau, and a minimum behind it: that of demo 06."""
    hollow = -1.2 * np.exp(-((w[0] + 2) ** 2) / 0.3)
    valley = -4.0 * np.exp(-((w[0] - 5) ** 2) / 1.5)
    return hollow + valley + 0.15 * np.logaddexp(0.0, -4 * (w[0] + 2.5))


def momentum() -> dict[str, Any]:
    """Chapter update: a ball over a bump, and the gradients that it remembers (lecture L6)."""
    optimizers = {
        "SGD": lambda p: optim.SGD(p, lr=0.05),
        "Momentum": lambda p: optim.Momentum(p, lr=0.05, momentum=0.95),
    }
    figure = surface(landscape, optimizers, [-6.0], [(-7.0, 8.0)], title="Over a bump, or not", search=False)
    return figure | {"kind": "ball", "extent": [-7.0, 8.0], "updates": 400, "origin": ORIGIN}


def noise() -> dict[str, Any]:
    """Chapter batches: the gradients of batches at one θ (lecture L5)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = 1.0 + 0.5 * x + 0.7 * rng.normal(size=40)
    figure = surface(
        lambda w: np.mean((w[0] + w[1] * x - y) ** 2),
        {"SGD": lambda p: optim.SGD(p, lr=0.1)},
        (-1.5, 2.0),
        ((-2, 4), (-2, 3)),
        title="A line through 40 points: drag the start, and see the gradients of batches there",
        names=("b", "w"),
        updates=60,
        origin=ORIGIN,
    )

    def of_sample(w: Any, x: Any, y: Any) -> Any:
        return mg.grad((w[0] + w[1] * x - y) ** 2, w)[0]

    gradient = called(of_sample, {"w": mg.Tensor([0.0, 0.0], requires_grad=True), "x": 1.0, "y": 1.0})
    samples = [{"x": float(a), "y": float(b)} for a, b in zip(x, y, strict=True)]
    return figure | {"kind": "noise", "gradient": gradient, "samples": samples}


def terrain() -> dict[str, Any]:
    """Chapter terrain: cross-entropy against squared error over two logits (lecture L14)."""
    target = np.array([[1.0, 0.0, 0.0]])

    def logits(z: Any) -> Any:
        return np.concatenate([z, [-1000.0]]).reshape(1, 3)

    losses = {
        "cross-entropy": lambda z: -np.sum(target * mg.log_softmax(logits(z), -1)),
        "squared error": lambda z: nn.mse_loss(mg.softmax(logits(z), -1), target),
    }
    figures = [
        surface(
            loss,
            {"SGD": lambda p: optim.SGD(p, lr=1.0)},
            (-9.0, 9.0),
            ((-10, 10), (-10, 10)),
            title=name,
            names=("z1", "z2"),
            search=False,
            updates=100,
            origin=ORIGIN,
        )
        for name, loss in losses.items()
    ]
    title = "Two losses of the same logits, one start: where is there a slope?"
    return {"kind": "pair", "title": title, "figures": figures}


# Why is it stuck? -----------------------------------------------------------------------------------------------------


def stuck() -> dict[str, Any]:
    """Chapter stuck: six trainings, and what the diagnosis says of each."""
    cases = [case(about, run) for about, run in trainings()]
    causes = sorted({each["cause"] for each in cases})
    heads = ["cause that was considered", "what was seen", "experiment", "closes of the gap", ""]
    title = "Why is it stuck? Guess, then see the diagnosis"
    return {"kind": "stuck", "title": title, "cases": cases, "causes": causes, "heads": heads, "origin": ORIGIN}


def trainings() -> list[tuple[str, training.Run]]:
    """Small trainings that do not get on, and one that does."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(64, 2))
    y = np.sin(2 * X[:, :1]) * X[:, 1:]
    noisy = y + 0.5 * rng.normal(size=y.shape)

    def trained(epochs: int, optimizer: Any, batch: int | None = None, targets: Any = y, model: Any = None):
        model = nn.MLP((2, 16, 1), nn.Tanh, rng=0) if model is None else model
        return training.fit(model, nn.mse_loss, optimizer(model.parameters()), X, targets, epochs, batch, rng=0)

    alike = nn.MLP((2, 16, 1), nn.Tanh, rng=0)
    for parameter in alike.parameters():
        parameter.data = np.full(parameter.shape, 0.1)
    dead = nn.MLP((2, 16, 1), nn.ReLU, rng=0)
    next(p for name, p in dead.named_parameters() if name.endswith("bias")).data = np.full(16, -8.0)
    return [
        ("Gradient descent on all data, 300 updates.", trained(300, lambda p: optim.SGD(p, lr=3e-4))),
        ("Gradient descent on all data, 300 updates.", trained(300, lambda p: optim.SGD(p, lr=0.5))),
        ("Batches of 2 of noisy data, 40 epochs.", trained(40, lambda p: optim.SGD(p, lr=0.15), 2, noisy)),
        (
            "Adam on all data, 300 updates; every weight began at 0.1.",
            trained(300, lambda p: optim.Adam(p, lr=0.01), model=alike),
        ),
        ("Adam on all data, 300 updates.", trained(300, lambda p: optim.Adam(p, lr=0.01), model=dead)),
        ("Adam on all data, 60 updates.", trained(60, lambda p: optim.Adam(p, lr=0.02))),
    ]


def case(about: str, run: training.Run) -> dict[str, Any]:
    """A training, and the answer, as the page shows it."""
    with np.errstate(all="ignore"):
        found = critical.diagnose(run, budget=3_000)
    rows = [
        [
            c.cause,
            c.seen,
            str(c.trial or "not tried"),
            f"{c.closed:.0%}" if c.trial else "",
            "confirmed" if c.confirmed else "",
        ]
        for c in found.considered
    ]
    return {
        "about": about,
        "loss": [float(x) for x in run.loss],
        "gradient_norm": [float(x) for x in run.gradient_norm],
        "cause": found.verdict,
        "evidence": "; ".join(found.evidence),
        "action": found.action,
        "rows": rows,
    }


FIGURES = {each.__name__: each for each in (saddle, himmelblau, ellipse, adaptive, momentum, noise, terrain, stuck)}

BEFORE = {  # what a still picture shows besides the end of its walks
    "saddle": "live.shown.figure.ask([0, 0], [99, 99])",
    "stuck": "live.shown.figure.choose(2); live.shown.figure.guess('noise of the batches')",
}


def still(page: Path, picture: Path, script: str) -> None:
    """A picture of a figure, by Chromium, for readers without script."""
    from selenium import webdriver  # in the extra "test"

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    browser = webdriver.Chrome(service=webdriver.ChromeService(shutil.which("chromedriver")), options=options)
    media = [{"name": "prefers-reduced-motion", "value": "reduce"}]  # play gives the end at once
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    size = {"width": 820, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.resolve().as_uri())
    browser.execute_script(f"document.querySelectorAll('.live-play').forEach(one => one.click()); {script}")
    time.sleep(0.5)  # until it is drawn
    browser.find_element("css selector", "figure.live").screenshot(str(picture))
    browser.quit()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        page = folder / f"{name}.html"
        page.write_text(page_of(make()), encoding="utf-8")
        if "--stills" in sys.argv:
            still(page, Path(__file__).parent / "results" / f"live_{name}.png", BEFORE.get(name, ""))
        print(page)
