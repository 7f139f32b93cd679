"""Tasks 5 to 10: optimizers and a schedule.

Their oracles are sums over all gradients so far, with the weights written out, where the optimizers keep a memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import microgradopt as mg
from demos.tasks.answers import called, saved
from demos.tasks.checking import Case, Part, Task, numbers
from demos.tasks.learner import Complaint, Function
from microgradopt import nn, optim, plots
from microgradopt.training import History, accuracy, trajectory

Array = np.ndarray
State = dict[str, Any]

# Updates one after the other ------------------------------------------------------------------------------------------

START = np.array([1.0, -2.0, 0.5])
GRADIENTS = np.array([[2.0, -0.5, 1.0], [1.0, 0.25, -3.0], [-0.5, 4.0, 0.125], [3.0, 1.0, -1.0]])


def stepped(function: Function, case: Case) -> Iterator[Part]:
    """An answer that is θ after each update; it ends where θ has lost its shape."""
    theta, gradients, rates, *settings = case.values()
    shape: tuple[int, ...] = theta.shape
    state: State = {}
    for t, (g, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        result = function(theta.copy(), g.copy(), state, lr, *settings)
        yield f"θ after update {t}", result
        theta = numbers(f"θ after update {t}", result)
        if theta.shape != shape:
            return


def summed(moves: Callable[..., Array]) -> Callable[[Case], Mapping[str, Any]]:
    """What is right: θ⁰ and all movements so far. moves: all of them, as rows, from gradients, rates and settings."""

    def expected(case: Case) -> Mapping[str, Any]:
        theta, *arguments = case.values()
        thetas = theta + np.cumsum(moves(*arguments), axis=0)
        return {f"θ after update {t}": theta for t, theta in enumerate(thetas, 1)}

    return expected


def fading(beta: float, values: Array) -> Array:
    """For each t the sum Σ βᵗ⁻ᵏ of values k ≤ t."""
    t = np.arange(len(values))
    return np.tril(beta ** np.maximum(t[:, None] - t, 0)) @ values


def walked(objective: mg.Objective, step: Function, start: Any, updates: int) -> Array:
    """The way of a learner's optimizer: θ⁰, θ¹, ... as rows. step: takes θ and g."""
    thetas = [np.array(start, dtype=float)]
    for _ in range(updates):
        theta = numbers("the new θ", step(thetas[-1].copy(), objective.gradient(thetas[-1])))
        if not np.isfinite(theta).all():
            raise Complaint(f"after {len(thetas)} updates θ is not finite any more: {theta}")
        thetas.append(theta)
    return np.array(thetas)


def remembering(step: Function, *settings: float) -> Function:
    """A learner's optimizer that takes θ and g, with a state of its own."""
    state: State = {}
    return lambda theta, g: step(theta, g, state, *settings)


def compared(picture: Path, surface: mg.Objective, extent: Any, paths: Mapping[str, Array], title: str) -> None:
    """Ways over a surface, as a picture."""
    from demos.lab import panels

    figure, ax = panels(1, 1, width=6, height=5)
    plots.surface(surface, extent=extent, resolution=61, ax=ax)
    plots.trajectories(paths, ax)
    ax.set(xlim=extent[:2], ylim=extent[2:], title=title)
    plots.legend_below(ax)
    saved(figure, picture)


# 5: gradient descent --------------------------------------------------------------------------------------------------


def descend(theta: Array, g: Array, lr: float) -> Array:
    """θᵗ⁺¹ = θᵗ − η gᵗ."""
    return theta - lr * g


def _descent_by_element(case: Case) -> Mapping[str, Any]:
    theta, g, lr = case.values()
    return {"the new θ": np.array([theta[i] - lr * g[i] for i in range(len(theta))])}


def _on_the_lectures_net(step: Function, picture: Path) -> str:
    net = mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0])
    starts = {"from (1.8, −0.2)": (1.8, -0.2), "from (0.9, −0.9)": (0.9, -0.9)}
    ways = {name: walked(net, lambda theta, g: step(theta, g, 0.1), start, 60) for name, start in starts.items()}
    down, stuck = (net.value(way[-1]) for way in ways.values())
    compared(picture, net, (-2, 2, -2, 2), ways, "Your gradient descent on L = (1 − w₁w₂)²")
    return (
        f"60 of your updates with η = 0.1, on the lecture's net: from (1.8, −0.2) to a loss of {down:.4f}. From (0.9, "
        f"−0.9) to a loss of {stuck:.4f}, and no further: that is a saddle. Task 11 leaves it."
    )


# 6: momentum ----------------------------------------------------------------------------------------------------------


def momentum_step(theta: Array, g: Array, state: State, lr: float, lam: float) -> Array:
    """m ← λ m − η g, θ ← θ + m."""
    state["m"] = lam * state.get("m", 0.0) - lr * g
    return theta + state["m"]


def _rate_outside(theta: Array, g: Array, state: State, lr: float, lam: float) -> Array:
    state["m"] = lam * state.get("m", 0.0) + g
    return theta - lr * state["m"]


def _uphill(theta: Array, g: Array, state: State, lr: float, lam: float) -> Array:
    state["m"] = lam * state.get("m", 0.0) + lr * g
    return theta + state["m"]


def _never_kept(theta: Array, g: Array, state: State, lr: float, lam: float) -> Array:
    return theta + lam * state.get("m", 0.0) - lr * g


def _averaged(theta: Array, g: Array, state: State, lr: float, lam: float) -> Array:
    state["m"] = lam * state.get("m", 0.0) - (1 - lam) * lr * g
    return theta + state["m"]


def _momentum_moves(g: Array, lr: Array, lam: float) -> Array:
    return -fading(lam, lr[:, None] * g)


def _in_a_valley(step: Function, picture: Path) -> str:
    valley = mg.Objective(lambda w: (w[0] ** 2 + 100 * w[1] ** 2) / 2, [-10.0, 1.0], compile=mg.compile)
    own = walked(valley, remembering(step, 0.033, 0.67), [-10.0, 1.0], 600)
    plain = trajectory(valley, optim.SGD(valley.parameters, lr=2 / 101), 600)
    ways = {"momentum, yours": own, "gradient descent": plain}
    needed = [int(np.argmax(np.linalg.norm(way, axis=1) < 1e-3)) for way in ways.values()]
    short = {name: way[:60] for name, way in ways.items()}
    compared(picture, valley, (-11, 4, -4.2, 4.2), short, "A long valley: 60 updates")
    return (
        f"In a valley that is 100 times as steep across as along, your momentum needs {needed[0]} updates to the "
        f"minimum; gradient descent, with the best η, needs {needed[1]}."
    )


# 7: Root Mean Square --------------------------------------------------------------------------------------------------


def rms_step(theta: Array, g: Array, state: State, lr: float) -> Array:
    """Divide η by the root of the mean of all squared gradients so far."""
    state["sum"] = state.get("sum", 0.0) + g * g
    state["count"] = state.get("count", 0) + 1
    return theta - lr * g / np.sqrt(state["sum"] / state["count"])


def _divided(by: Callable[[Array], Any]) -> Function:
    """Root Mean Square, divided by something else. by: takes all gradients so far, as rows."""

    def wrong(theta: Array, g: Array, state: State, lr: float) -> Array:
        state["all"] = [*state.get("all", []), g]
        return theta - lr * g / by(np.array(state["all"]))

    return wrong


def _rms_moves(g: Array, lr: Array) -> Array:
    means = np.array([np.mean(g[: t + 1] ** 2, axis=0) for t in range(len(g))])
    return -lr[:, None] * g / np.sqrt(means)


def _on_the_lectures_line(step: Function, picture: Path) -> str:
    from demos.lab import panels

    x = np.array([338.0, 333, 328, 207, 226, 25, 179, 60, 208, 606])
    y = np.array([640.0, 633, 619, 393, 428, 27, 193, 66, 226, 1591])
    line = mg.Objective(lambda w: np.sum((y - (w[0] + w[1] * x)) ** 2), [-120.0, -4.0], compile=mg.compile)
    way = walked(line, remembering(step, 1.0), [-120.0, -4.0], 2500)
    losses = np.array([line.value(theta) for theta in way])
    figure, ax = panels(1, 1, width=6)
    ax.semilogy(losses, color=plots.optimizer_colour("RMS"), linewidth=0.8)
    ax.set(xlabel="update", ylabel="loss", title="Your Root Mean Square on the lecture's line, η = 1")
    saved(figure, picture)
    return (
        "The lecture's line y = b + w x, where gradient descent does not arrive in 100,000 updates: yours is at "
        f"b = {way[-1][0]:.1f}, w = {way[-1][1]:.3f} after 2,500 (the best is −188.4, 2.669). The picture has bursts: "
        "σ has become small among small gradients, and then a step is too long. A learning rate that falls is the cure."
    )


# 8: RMSProp -----------------------------------------------------------------------------------------------------------


def rmsprop_step(theta: Array, g: Array, state: State, lr: float, alpha: float) -> Array:
    """σ² ← α σ² + (1 − α) g², which begins at g²."""
    square = g * g
    state["v"] = alpha * state.get("v", square) + (1 - alpha) * square
    return theta - lr * g / np.sqrt(state["v"])


def _from_zero(theta: Array, g: Array, state: State, lr: float, alpha: float) -> Array:
    state["v"] = alpha * state.get("v", 0.0) + (1 - alpha) * g * g
    return theta - lr * g / np.sqrt(state["v"])


def _exchanged(theta: Array, g: Array, state: State, lr: float, alpha: float) -> Array:
    return rmsprop_step(theta, g, state, lr, 1 - alpha)


def _mean_of_sigmas(theta: Array, g: Array, state: State, lr: float, alpha: float) -> Array:
    sigma = state["sigma"] = alpha * state.get("sigma", np.abs(g)) + (1 - alpha) * np.abs(g)
    return theta - lr * g / sigma


def _by_sigma_squared(theta: Array, g: Array, state: State, lr: float, alpha: float) -> Array:
    state["v"] = alpha * state.get("v", g * g) + (1 - alpha) * g * g
    return theta - lr * g / state["v"]


def _rmsprop_moves(g: Array, lr: Array, alpha: float) -> Array:
    squares = g**2
    v = (1 - alpha) * fading(alpha, squares) + alpha ** np.arange(1, len(g) + 1)[:, None] * squares[0]
    return -lr[:, None] * g / np.sqrt(v)


def _over_a_wall(step: Function, picture: Path) -> str:
    def wall(w: Any) -> Any:
        return 50 * np.logaddexp(0.0, -8 * (w[0] + 3)) / 8 + (w[0] - 3) ** 2 / 200 + w[1] ** 2 / 2

    surface = mg.Objective(wall, [-4.0, 1.0], compile=mg.compile)
    own = walked(surface, remembering(step, 0.01, 0.99), [-4.0, 1.0], 2000)
    mean = trajectory(surface, optim.RMS(surface.parameters, lr=0.01), 2000)
    ways = {"RMSProp, yours": own, "Root Mean Square": mean}
    compared(picture, surface, (-4.2, 3.5, -1, 1.2), ways, "A wall, then a gentle slope to (3, 0): 2,000 updates")
    return (
        f"Over a wall with slope 50, then down a gentle slope to w₁ = 3. After 2,000 updates yours is at "
        f"{own[-1][0]:.2f}, and Root Mean Square, which does not forget the wall, is at {mean[-1][0]:.2f}."
    )


# 9: Adam --------------------------------------------------------------------------------------------------------------


def adam_step(theta: Array, g: Array, state: State, lr: float, beta1: float, beta2: float, eps: float) -> Array:
    """Averages of g and of g², both corrected for having begun at 0."""
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    v = state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g * g
    return theta - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)


def _variant(step: Function) -> Function:
    """Adam with another last line: step(η, m, v, t, β₁, β₂, ε)."""

    def wrong(theta: Array, g: Array, state: State, lr: float, beta1: float, beta2: float, eps: float) -> Array:
        t = state["t"] = state.get("t", 0) + 1
        m = state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
        v = state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g * g
        return theta - step(lr, m, v, np.float64(t), beta1, beta2, eps)

    return wrong


def _adam_moves(g: Array, lr: Array, beta1: float, beta2: float, eps: float) -> Array:
    ones = np.ones_like(g)
    m, v = fading(beta1, g) / fading(beta1, ones), fading(beta2, g**2) / fading(beta2, ones)
    return -lr[:, None] * m / (np.sqrt(v) + eps)


def _on_two_moons(step: Function, picture: Path) -> str:
    from demos.lab import moons, panels

    data, model = moons(0), nn.MLP((2, 16, 16, 2), nn.Tanh, rng=0)
    loss = mg.Objective.of(model, lambda: nn.cross_entropy(model(data.X), data.y), compile=mg.compile)
    before = loss.value()
    way = walked(loss, remembering(step, 0.03, 0.9, 0.999, 1e-8), loss.theta, 200)
    loss.theta = way[-1]
    right = accuracy(model(data.X), data.y)
    figure, ax = panels(1, 1, width=5.5, height=4.5)
    plots.decision_boundary(model, *data, ax)
    ax.set_title(f"Two half moons, 200 updates of your Adam: {right:.1%}")
    saved(figure, picture)
    return (
        f"Your Adam has trained a network on two half moons: loss {before:.3f} before, {loss.value():.3f} after 200 "
        f"updates, and {right:.1%} of the points right."
    )


# 10: warm-up ----------------------------------------------------------------------------------------------------------


def learning_rate(t: int, peak: float, warmup: int) -> float:
    """Up along a line, then down with 1/√s."""
    s = t + 1
    return peak * s / warmup if s <= warmup else peak * (warmup / s) ** 0.5


def _rates(function: Function, case: Case) -> Iterator[Part]:
    rates = [function(int(t), case["peak"], case["warmup"]) for t in case["t"]]
    yield "η", next((rate for rate in rates if rate is None or rate is Ellipsis), rates)


def _as_in_the_transformer(case: Case) -> Mapping[str, Any]:
    """peak √W · min(s^−½, s · W^−1.5)."""
    s, warmup = case["t"] + 1.0, float(case["warmup"])
    return {"η": case["peak"] * warmup**0.5 * np.minimum(s**-0.5, s * warmup**-1.5)}


def _warm_and_cold(rate: Function, picture: Path) -> str:
    from demos.lab import moons, panels

    data, peak, curves = moons(0), 0.3, {}
    schedules = {"Adam, your warm-up and decay": lambda t: float(rate(t, peak, 20)), "Adam, η constant": peak}
    for name, lr in schedules.items():
        model, curves[name] = nn.MLP((2, 16, 16, 2), nn.Tanh, rng=0), History()
        loss = mg.Objective.of(model, lambda model=model: nn.cross_entropy(model(data.X), data.y), compile=mg.compile)
        trajectory(loss, optim.Adam(loss.parameters, lr=lr), 200, curves[name])
    figure, axes = panels(1, 2)
    for style, (name, history) in zip(("-", "--"), curves.items(), strict=True):
        axes[0].plot(history.lr, style)
        axes[1].semilogy(history.loss, style, label=name)
    axes[0].set(xlabel="update", ylabel="η", title="The learning rate")
    axes[1].set(xlabel="update", ylabel="loss", title="Two half moons")
    axes[1].legend(fontsize="small")
    saved(figure, picture)
    highest = [max(history.loss[1:]) for history in curves.values()]
    return (
        f"Adam on two half moons, with a large rate of {peak:g}. With your schedule the loss never rises above "
        f"{highest[0]:.2f}; without warm-up the first updates throw it up to {highest[1]:.2f}."
    )


def _case(rates: tuple[float, ...], **settings: float) -> Case:
    return {"θ⁰": START, "g": GRADIENTS[: len(rates)], "η": np.array(rates), **settings}


TASKS = [
    Task(
        5,
        descend,
        [{"θ": START, "g": GRADIENTS[0], "η": 0.1}],
        called("the new θ"),
        _descent_by_element,
        {
            "The sign is wrong: this goes with the gradient, uphill. A step goes against it: minus.": (
                lambda theta, g, lr: theta + lr * g
            ),
            "This is the movement −η g alone. The new θ is the old θ plus the movement.": lambda theta, g, lr: -lr * g,
            "The learning rate is missing: this is θ − g. Multiply g by `lr`.": lambda theta, g, lr: theta - g,
            "This moves by −g/η. The learning rate is a factor, not a divisor: a small η makes small steps.": (
                lambda theta, g, lr: theta - g / lr
            ),
        },
        "Start at theta, and take away lr times g.",
        _on_the_lectures_net,
    ),
    Task(
        6,
        momentum_step,
        [_case((0.1, 0.01, 0.05, 0.05), λ=0.9)],
        stepped,
        summed(_momentum_moves),
        {
            "η stands outside of the momentum: that is PyTorch's form. The lecture has it inside: mᵗ⁺¹ = λ mᵗ − ηᵗ gᵗ. "
            "They differ as soon as η changes.": _rate_outside,
            "The sign is wrong: this movement goes with the gradient, uphill. It is λ m − η g, and θ + m.": _uphill,
            'The movement is not kept: each update begins with m = 0. Write it to state["m"].': _never_kept,
            "The gradient counts only 1 − λ here: that is an average, as in Adam. The lecture adds all of −η g.": (
                _averaged
            ),
        },
        'm = lam * state.get("m", 0.0) − lr * g. Then keep m in state["m"], and give theta + m.',
        _in_a_valley,
    ),
    Task(
        7,
        rms_step,
        [_case((0.1, 0.1, 0.1, 0.05))],
        stepped,
        summed(_rms_moves),
        {
            "You have divided by σ², not by σ: the root of the mean is missing.": (
                _divided(lambda g: np.mean(g * g, axis=0))
            ),
            "You have divided by the root of the sum: that is Adagrad. The mean is missing: divide the sum by the "
            "number of gradients so far, t + 1.": _divided(lambda g: np.sqrt(np.sum(g * g, axis=0))),
            "This is the mean of |g|. The lecture takes the mean of the squares, and then the root.": (
                _divided(lambda g: np.mean(np.abs(g), axis=0))
            ),
            "You have one σ for all parameters. Each parameter has its own: take no mean over the elements of g.": (
                _divided(lambda g: np.sqrt(np.mean(g * g)))
            ),
            "You divide the sum by t, which is 0 at the first update. There are t + 1 gradients then.": (
                _divided(lambda g: np.sqrt(np.sum(g * g, axis=0) / np.float64(len(g) - 1)))
            ),
        },
        'Keep the sum of g * g, and how many there were. σ is np.sqrt(state["sum"] / state["count"]).',
        _on_the_lectures_line,
    ),
    Task(
        8,
        rmsprop_step,
        [_case((0.1, 0.1, 0.1, 0.05), α=0.8)],
        stepped,
        summed(_rmsprop_moves),
        {
            "Your average begins at 0: that is PyTorch's form, whose first step is too long. The lecture begins at "
            "σ⁰ = |g⁰|.": _from_zero,
            "α and 1 − α are exchanged: the past counts α, the new square 1 − α.": _exchanged,
            "You average |g|. Average the squares, and take the root after that.": _mean_of_sigmas,
            "You have divided by σ², not by σ: the root is missing.": _by_sigma_squared,
        },
        'state.get("v", g * g) is g² at the first update, and α g² + (1 − α) g² is g² again.',
        _over_a_wall,
    ),
    Task(
        9,
        adam_step,
        [_case((0.1, 0.1, 0.1, 0.05), β1=0.9, β2=0.99, ε=0.1)],
        stepped,
        summed(_adam_moves),
        {
            "The bias correction is missing. m and v begin at 0, and are too small at first: divide them by 1 − β₁ᵗ "
            "and 1 − β₂ᵗ.": _variant(lambda lr, m, v, t, beta1, beta2, eps: lr * m / (np.sqrt(v) + eps)),
            "m is corrected, v is not: divide v by 1 − β₂ᵗ before you take the root.": _variant(
                lambda lr, m, v, t, beta1, beta2, eps: lr * m / (1 - beta1**t) / (np.sqrt(v) + eps)
            ),
            "v is corrected, m is not: divide m by 1 − β₁ᵗ.": _variant(
                lambda lr, m, v, t, beta1, beta2, eps: lr * m / (np.sqrt(v / (1 - beta2**t)) + eps)
            ),
            "ε is inside of the root. Here it is added after the root: √v̂ + ε.": _variant(
                lambda lr, m, v, t, beta1, beta2, eps: lr * m / (1 - beta1**t) / np.sqrt(v / (1 - beta2**t) + eps)
            ),
            "The root is missing: you have divided by v̂, not by √v̂.": _variant(
                lambda lr, m, v, t, beta1, beta2, eps: lr * m / (1 - beta1**t) / (v / (1 - beta2**t) + eps)
            ),
            "Your t is 0 at the first update, so 1 − βᵗ is 0. Count it up before you use it: t = 1 first.": _variant(
                lambda lr, m, v, t, beta1, beta2, eps: (
                    lr * m / (1 - beta1 ** (t - 1)) / (np.sqrt(v / (1 - beta2 ** (t - 1))) + eps)
                )
            ),
            "Your correction does not change: it divides by 1 − β, not by 1 − βᵗ. Count the updates in `state`.": (
                _variant(lambda lr, m, v, t, beta1, beta2, eps: lr * m / (1 - beta1) / (np.sqrt(v / (1 - beta2)) + eps))
            ),
        },
        "Three things are kept: t, which grows by 1; m; and v. Correct copies of m and v, not what is kept.",
        _on_two_moons,
    ),
    Task(
        10,
        learning_rate,
        [{"t": np.arange(9), "peak": 0.5, "warmup": 4}, {"t": np.array([0, 9, 99, 9999]), "peak": 0.1, "warmup": 10}],
        _rates,
        _as_in_the_transformer,
        {
            "The first rate is 0: the first update would do nothing. Count from 1: s = t + 1.": (
                lambda t, peak, warmup: peak * t / warmup if t <= warmup else peak * (warmup / t) ** 0.5
            ),
            "The rate jumps down after the warm-up: peak / √s. To go on from the peak it is peak · √(W / s).": (
                lambda t, peak, warmup: peak * (t + 1) / warmup if t + 1 <= warmup else peak / (t + 1) ** 0.5
            ),
            "The root is missing: W / s falls too fast.": (
                lambda t, peak, warmup: peak * (t + 1) / warmup if t + 1 <= warmup else peak * warmup / (t + 1)
            ),
            "After the warm-up the rate stays at its peak. It is to fall: peak · √(W / s).": (
                lambda t, peak, warmup: peak * min((t + 1) / warmup, 1)
            ),
            "There is no warm-up: the rate is to grow along a line while s ≤ W.": (
                lambda t, peak, warmup: peak * (warmup / (t + 1)) ** 0.5
            ),
        },
        "Let s = t + 1. While s ≤ warmup it is peak * s / warmup, else peak * (warmup / s) ** 0.5.",
        _warm_and_cold,
    ),
]
