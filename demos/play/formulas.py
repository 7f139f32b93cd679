"""Update formulas with numbers in them, for the playground: each rule for one parameter, in symbols and in numbers.

A rule takes the hyperparameters, θ, g, η, the state before the update and t (1 in the first), and gives its lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from play.optimizers import Settings
from play.trajectory import Run, Step, parameter_names


@dataclass(frozen=True)
class Line:
    """One line of an update rule for one parameter: what it gives, in symbols, with numbers, and the result."""

    name: str
    symbols: str
    numbers: str
    value: float


def tex(x: float, signed: bool = False) -> str:
    """A number to five digits in TeX; in parentheses if it is negative, where it follows a sign."""
    mantissa, _, power = f"{x:.5g}".partition("e")
    text = mantissa + (rf" \cdot 10^{{{int(power)}}}" if power else "")
    return f"({text})" if signed and x < 0 else text


def average(name: str, beta: str, b: float, a: float, x: float, of: str = "g") -> Line:
    """The line of a moving average: a ← β a + (1 − β) x, or of x², where `of` is g^2 (x is then g)."""
    power = "^2" if of == "g^2" else ""
    numbers = rf"{tex(b)} \cdot {tex(a, True)} + {tex(1 - b)} \cdot {tex(x, True)}{power}"
    return Line(name, rf"{beta}\, {name} + (1 - {beta})\, {of}", numbers, b * a + (1 - b) * (x * x if power else x))


def moved(theta: float, lr: float, symbol: str, by: float) -> Line:
    """The last line: θ ← θ − η times something."""
    numbers = rf"{tex(theta)} - {tex(lr)} \cdot {tex(by, True)}"
    return Line(r"\theta", rf"\theta - \eta\, {symbol}", numbers, theta - lr * by)


def divided(theta: float, lr: float, g: float, sigma: float, eps: float = 0.0) -> Line:
    """The last line where g is divided by σ; a parameter whose gradients have all been 0 stays."""
    bottom, symbols = tex(sigma), r"\sigma"
    if eps:
        bottom, symbols = rf"{bottom} + {tex(eps)}", r"\sigma + \epsilon"
    if sigma + eps == 0:
        return Line(r"\theta", r"\theta \quad (\sigma = 0)", tex(theta), theta)
    numbers = rf"{tex(theta)} - {tex(lr)} \cdot \frac{{{tex(g)}}}{{{bottom}}}"
    return Line(r"\theta", rf"\theta - \eta\, \frac{{g}}{{{symbols}}}", numbers, theta - lr * g / (sigma + eps))


def sgd_lines(hyper: dict, theta: float, g: float, lr: float, old: dict, t: int) -> list[Line]:
    """PyTorch's: η stays outside of b, which begins as g."""
    mu = hyper["momentum"]
    if not mu:
        return [moved(theta, lr, "g", g)]
    if "b" not in old:
        first = Line("b", r"g \quad (t = 0)", tex(g), g)
    else:
        numbers = rf"{tex(mu)} \cdot {tex(old['b'], True)} + {tex(g, True)}"
        first = Line("b", r"\lambda\, b + g", numbers, mu * old["b"] + g)
    return [first, moved(theta, lr, "b", first.value)]


def momentum_lines(hyper: dict, theta: float, g: float, lr: float, old: dict, t: int) -> list[Line]:
    """The lecture's: η inside of the movement m."""
    lam, m = hyper["momentum"], old.get("m", 0.0)
    numbers = rf"{tex(lam)} \cdot {tex(m, True)} - {tex(lr)} \cdot {tex(g, True)}"
    first = Line("m", r"\lambda\, m - \eta\, g", numbers, lam * m - lr * g)
    last = rf"{tex(theta)} + {tex(first.value, True)}"
    return [first, Line(r"\theta", r"\theta + m", last, theta + first.value)]


def by_root(
    square: Line, symbols: str, x: float, numbers: str, theta: float, lr: float, g: float, eps: float = 0.0
) -> list[Line]:
    """A square that is kept, σ as the root of x, which follows from it, and the step that g / σ makes."""
    sigma = Line(r"\sigma", rf"\sqrt{{{symbols}}}", rf"\sqrt{{{numbers}}}", math.sqrt(x))
    return [square, sigma, divided(theta, lr, g, sigma.value, eps)]


def summed(old: dict, g: float) -> Line:
    """The sum of all squared gradients so far."""
    before = old.get("sum", 0.0)
    return Line("s", "s + g^2", rf"{tex(before)} + {tex(g, True)}^2", before + g * g)


def rms_lines(hyper: dict, theta: float, g: float, lr: float, old: dict, t: int) -> list[Line]:
    """The lecture's Root Mean Square: all squared gradients so far count alike."""
    s = summed(old, g)
    return by_root(s, "s / (t + 1)", s.value / t, f"{tex(s.value)} / {t}", theta, lr, g)


def adagrad_lines(hyper: dict, theta: float, g: float, lr: float, old: dict, t: int) -> list[Line]:
    """Root mean square without the mean."""
    s = summed(old, g)
    return by_root(s, "s", s.value, tex(s.value), theta, lr, g, 1e-10)


def rmsprop_lines(hyper: dict, theta: float, g: float, lr: float, old: dict, t: int) -> list[Line]:
    """A mean square that forgets; it begins at 0, as PyTorch's does."""
    v = average("v", r"\alpha", hyper["alpha"], old.get("v", 0.0), g, "g^2")
    return by_root(v, "v", v.value, tex(v.value), theta, lr, g, 1e-8)


def adam_lines(hyper: dict, theta: float, g: float, lr: float, old: dict, t: int) -> list[Line]:
    """m and v, both corrected for having begun at 0."""
    b1, b2 = hyper["beta1"], hyper["beta2"]
    m = average("m", r"\beta_1", b1, old.get("m", 0.0), g)
    v = average("v", r"\beta_2", b2, old.get("v", 0.0), g, "g^2")
    m_hat = corrected("m", r"\beta_1", m.value, b1, t)
    v_hat = corrected("v", r"\beta_2", v.value, b2, t)
    return [m, v, m_hat, v_hat, over_root(theta, lr, r"\hat m", m_hat.value, v_hat.value)]


def corrected(name: str, beta: str, x: float, b: float, t: int) -> Line:
    """The line of a bias correction: x / (1 − βᵗ), t = 1 in the first update."""
    symbols = rf"{name} / (1 - {beta}^{{t+1}})"
    return Line(rf"\hat {name}", symbols, rf"{tex(x)} / (1 - {tex(b)}^{{{t}}})", x / (1 - b**t))


def over_root(theta: float, lr: float, symbol: str, top: float, v_hat: float) -> Line:
    """The last line of Adam and its kin."""
    eps = 1e-8
    symbols = rf"\theta - \eta\, \frac{{{symbol}}}{{\sqrt{{\hat v}} + \epsilon}}"
    numbers = rf"{tex(theta)} - {tex(lr)} \cdot \frac{{{tex(top)}}}{{\sqrt{{{tex(v_hat)}}} + {tex(eps)}}}"
    return Line(r"\theta", symbols, numbers, theta - lr * top / (math.sqrt(v_hat) + eps))


def nadam_lines(hyper: dict, theta: float, g: float, lr: float, old: dict, t: int) -> list[Line]:
    """Adam's, with the momentum of the next step applied already; μ rises to β₁."""
    b1, b2 = hyper["beta1"], hyper["beta2"]
    m = average("m", r"\beta_1", b1, old.get("m", 0.0), g)
    v = average("v", r"\beta_2", b2, old.get("v", 0.0), g, "g^2")
    v_hat = corrected("v", r"\beta_2", v.value, b2, t)
    mu, ahead = (b1 * (1 - 0.5 * 0.96 ** (k * 4e-3)) for k in (t, t + 1))
    product = old.get("mu_product", 1.0) * mu
    here, there = (1 - mu) / (1 - product), ahead / (1 - product * ahead)
    symbols = r"\frac{1 - \mu}{1 - \Pi}\, g + \frac{\mu'}{1 - \Pi \mu'}\, m"
    numbers = rf"{tex(here)} \cdot {tex(g, True)} + {tex(there)} \cdot {tex(m.value, True)}"
    d = Line("d", symbols, numbers, here * g + there * m.value)
    return [m, v, v_hat, d, over_root(theta, lr, "d", d.value, v_hat.value)]


def lion_lines(hyper: dict, theta: float, g: float, lr: float, old: dict, t: int) -> list[Line]:
    """Only the sign counts."""
    m = old.get("m", 0.0)
    c = average("c", r"\beta_1", hyper["beta1"], m, g)
    c = Line("c", r"\beta_1\, m + (1 - \beta_1)\, g", c.numbers, c.value)
    sign = moved(theta, lr, r"\operatorname{sign}(c)", float(np.sign(c.value)))
    return [c, sign, average("m", r"\beta_2", hyper["beta2"], m, g)]


RULES = {
    "SGD": sgd_lines, "Momentum": momentum_lines, "RMS": rms_lines, "Adagrad": adagrad_lines,
    "RMSprop": rmsprop_lines, "Adam": adam_lines, "AdamW": adam_lines, "NAdam": nadam_lines, "Lion": lion_lines,
}  # fmt: skip
"""For each optimizer, the lines of its update of one parameter."""


def update_lines(settings: Settings, step: Step, i: int) -> list[Line]:
    """The optimizer's formula for parameter i of those shown, computed from θ, g and the state before the update."""
    hyper, theta, g, lr = dict(settings.hyper), float(step.theta[i]), float(step.g[i]), step.lr
    old = {key: float(x[i]) if np.ndim(x) else x for key, x in step.state.items()}
    decay, t = hyper.get("weight_decay", 0.0), step.state["t"] + 1
    lines: list[Line] = []
    decoupled = settings.optimizer in ("AdamW", "Lion")
    if decay and decoupled:
        shrunk = (1 - lr * decay) * theta
        numbers = rf"(1 - {tex(lr)} \cdot {tex(decay)}) \cdot {tex(theta, True)}"
        lines.append(Line(r"\theta", r"(1 - \eta \kappa)\, \theta", numbers, shrunk))
        theta = shrunk
    elif decay:
        numbers = rf"{tex(g)} + {tex(decay)} \cdot {tex(theta, True)}"
        lines.append(Line("g", r"g + \kappa\, \theta", numbers, g + decay * theta))
        g = lines[-1].value
    return lines + RULES[settings.optimizer](hyper, theta, g, lr, old, t)


def formula_blocks(run: Run, t: int) -> list[str]:
    """The update from θᵗ to θᵗ⁺¹ as Markdown: in symbols, and with the numbers of either parameter."""
    if not run.steps:
        return ["No update was finite: there are no numbers to show."]
    step, names = run.steps[t], parameter_names(run)
    both = [update_lines(run.settings, step, i) for i in range(2)]
    symbols = r" \\ ".join(rf"{line.name} &\leftarrow {line.symbols}" for line in both[0])
    blocks = [rf"$$\begin{{aligned}} {symbols} \end{{aligned}}$$"]
    for name, lines, theta, g in zip(names, both, step.theta, step.g, strict=True):
        given = rf"{name} = {tex(theta)},\quad g = {tex(g)},\quad \eta = {tex(step.lr)}"
        rows = r" \\ ".join(rf"{line.name} &\leftarrow {line.numbers} = \mathbf{{{tex(line.value)}}}" for line in lines)
        blocks.append(f"For ${given}$:\n\n" + rf"$$\begin{{aligned}} {rows} \end{{aligned}}$$")
    return blocks
