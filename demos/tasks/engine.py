"""Tasks 1 to 4: how an engine for derivatives works. Their oracles are differences and a system of equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import microgradopt as mg
from demos.tasks.answers import called, saved
from demos.tasks.checking import Case, Task
from demos.tasks.learner import Function
from microgradopt import nn
from microgradopt.rules.registry import derivative, dispatched

Array = np.ndarray
H = 1e-5  # of central differences


# 1: × -----------------------------------------------------------------------------------------------------------------


def times_rule(g: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """∂L/∂x and ∂L/∂y of out = x · y."""
    return g * y, g * x


def _times_by_differences(case: Case) -> Mapping[str, Any]:
    g, x, y = case.values()
    by_x = g * ((x + H) * y - (x - H) * y) / (2 * H)
    by_y = g * (x * (y + H) - x * (y - H)) / (2 * H)
    return {"∂L/∂x": by_x, "∂L/∂y": by_y}


def _in_the_engine(rule: Function, picture: Path) -> str:
    times = dispatched(lambda x, y: x * y)
    derivative(times, lambda g, out, x, y: rule(g, x, y)[0], lambda g, out, x, y: rule(g, x, y)[1], smooth=True)
    w = mg.Tensor([3.0, -2.0], requires_grad=True)
    loss = (1 - times(w[0], w[1])) ** 2
    loss.backward()
    return (
        "The engine has used your rule. The gradient of the lecture's net L = (1 − w₁w₂)² at (3, −2) is "
        f"({w.grad[0]:g}, {w.grad[1]:g}) with it; −2 (1 − w₁w₂) (w₂, w₁), the formula, gives (28, -42)."
    )


# 2: tanh --------------------------------------------------------------------------------------------------------------


def tanh_rule(g: Array, out: Array) -> Array:
    """∂L/∂x of out = tanh(x)."""
    return g * (1 - out * out)


def _tanh_by_differences(case: Case) -> Mapping[str, Any]:
    g, out = case.values()
    x = np.arctanh(out)
    return {"∂L/∂x": g * (np.tanh(x + H) - np.tanh(x - H)) / (2 * H)}


def _slopes(rule: Function, picture: Path) -> str:
    from demos.lab import panels

    figure, ax = panels(1, 1)
    x = np.linspace(-4, 4, 200)
    slope = rule(np.ones_like(x), np.tanh(x))
    ax.plot(x, np.tanh(x), label="tanh(x)")
    ax.plot(x, slope, "--", label="its slope, by your rule")
    ax.set_xlabel("x")
    ax.legend()
    saved(figure, picture)
    return (
        f"By your rule the slope of tanh is {np.interp(0, x, slope):.2f} at x = 0, and {slope[-1]:.4f} at x = 4. There "
        "the unit is saturated: hardly any gradient passes."
    )


# 3: broadcasting ------------------------------------------------------------------------------------------------------


def bias_rule(g: Array) -> Array:
    """∂L/∂b of out = z + b."""
    return g.sum(axis=0)


def _bias_by_differences(case: Case) -> Mapping[str, Any]:
    g = case["g"]
    z, steps = np.zeros_like(g), H * np.eye(g.shape[1])
    return {"∂L/∂b": np.array([np.sum(g * ((z + step) - (z - step))) / (2 * H) for step in steps])}


def _beside_a_layer(rule: Function, picture: Path) -> str:
    layer, X = nn.Linear(2, 8, rng=0), np.random.default_rng(0).normal(size=(200, 2))
    out = layer(X)
    loss = np.mean(np.tanh(out))
    loss.backward()
    (g,) = mg.grad(loss, out)
    apart = np.abs(rule(g) - layer.bias.grad).max()
    return (
        f"A layer of 8 units, 200 samples: your rule and the library's engine are {apart:.1g} apart. The engine sums "
        "over every axis that was copied, whatever the shapes: microgradopt/sweep.py."
    )


# 4: the sweep ---------------------------------------------------------------------------------------------------------


def sweep(calls: list[list[tuple[int, float]]]) -> Array:
    """The derivative of the last value by every value."""
    gradient = np.zeros(len(calls))
    gradient[-1] = 1.0
    for k in reversed(range(len(calls))):
        for i, slope in calls[k]:
            gradient[i] += gradient[k] * slope
    return gradient


def _swept(share: Callable[[float, float, float], float], newest_first: bool = True) -> Function:
    """A sweep that is wrong. share: gives an input's new gradient from its old one, that of the call, and the slope."""

    def wrong(calls: Any) -> Array:
        gradient = np.zeros(len(calls))
        gradient[-1] = 1.0
        for k in reversed(range(len(calls))) if newest_first else range(len(calls)):
            for i, slope in calls[k]:
                gradient[i] = share(gradient[i], gradient[k], slope)
        return gradient

    return wrong


def _too_early(calls: Any) -> Array:
    gradient = np.zeros(len(calls))
    gradient[-1] = 1.0

    def hand_on(k: int) -> None:
        for i, slope in calls[k]:
            gradient[i] += gradient[k] * slope
            hand_on(i)

    hand_on(len(calls) - 1)
    return gradient


def _by_equations(case: Case) -> Mapping[str, Any]:
    """gradient = last + slopesᵀ gradient, solved for the gradient."""
    n = len(case["calls"])
    slopes = np.zeros((n, n))
    for k, call in enumerate(case["calls"]):
        for i, slope in call:
            slopes[k, i] += slope
    return {"gradient": np.linalg.solve(np.eye(n) - slopes.T, np.eye(n)[-1])}


def _many_turns(swept: Function, picture: Path) -> str:
    a = mg.Tensor(3.0, requires_grad=True)
    b = a + a
    c = b * b
    c.backward()
    picture.write_bytes(mg.draw(c, {"a": a, "b": b, "c": c}, style="scalar").pipe("png"))
    w = mg.Tensor(0.9, requires_grad=True)
    z: Any = mg.Tensor(0.5)
    calls: list[list[tuple[int, float]]] = [[], []]  # w and z
    for _ in range(20):
        product = w * z
        calls.append([(0, float(z.data)), (len(calls) - 1, 0.9)])
        z = np.tanh(product)
        calls.append([(len(calls) - 1, 1 - float(z.data) ** 2)])
    z.backward()
    return (
        f"Twenty turns of z ← tanh(w z): w is used in each of them. The derivative by w is {swept(calls)[0]:.6f} by "
        f"your sweep, {float(w.grad):.6f} by the library."
    )


TASKS = [
    Task(
        1,
        times_rule,
        [{"g": np.array([1.5, -2.0, 0.5]), "x": np.array([3.0, 0.25, -4.0]), "y": np.array([-1.0, 5.0, 2.0])}],
        called("∂L/∂x", "∂L/∂y"),
        _times_by_differences,
        {
            "This is the slope of × alone, without g. Multiply it by g = ∂L/∂out: that is the chain rule.": (
                lambda g, x, y: (y, x)
            ),
            "You have taken the wrong factor: ∂L/∂x is g times the *other* factor, y. In the picture, a step dx adds "
            "an area of y · dx.": lambda g, x, y: (g * x, g * y),
            "This is the rule of +, where a step dx adds dx. In x · y a step dx adds y · dx.": lambda g, x, y: (g, g),
        },
        "A step dx adds y · dx to the area. So ∂out/∂x is y. Then multiply by g.",
        _in_the_engine,
    ),
    Task(
        2,
        tanh_rule,
        [{"g": np.array([1.5, -2.0, 0.5, 3.0]), "out": np.array([0.6, -0.3, 0.0, -0.9])}],
        called("∂L/∂x"),
        _tanh_by_differences,
        {
            "This is the slope of tanh alone, without g. Multiply it by g = ∂L/∂out: that is the chain rule.": (
                lambda g, out: 1 - out**2
            ),
            "You have taken tanh a second time. `out` is tanh(x) already, so the slope is 1 − out².": (
                lambda g, out: g * (1 - np.tanh(out) ** 2)
            ),
            "The square is missing: the slope is 1 − out², not 1 − out.": lambda g, out: g * (1 - out),
            "Check the sign of the square: 1 + out² belongs to tan. The slope of tanh falls: 1 − out².": (
                lambda g, out: g * (1 + out**2)
            ),
        },
        "Square `out`, take it from 1, and multiply by g.",
        _slopes,
    ),
    Task(
        3,
        bias_rule,
        [
            {"g": np.array([[1.0, -2.0], [0.5, 4.0], [3.0, 0.25]])},
            {"g": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]])},
        ],
        called("∂L/∂b"),
        _bias_by_differences,
        {
            "This is g itself: one row for each copy of b. Sum the rows: every copy moves with b.": lambda g: g,
            "This is the mean over the samples. It is to be the sum: if the loss is a mean, its 1/n is in g already.": (
                lambda g: g.mean(axis=0)
            ),
            "You have summed over the units, and kept the samples. Sum along axis 0, the samples: one number for each "
            "unit is left.": lambda g: g.sum(axis=1),
            "You have summed over everything. Each unit has its own bias: sum over the samples alone, along axis 0.": (
                lambda g: g.sum()
            ),
        },
        "NumPy sums over the rows with `.sum(axis=0)`.",
        _beside_a_layer,
    ),
    Task(
        4,
        sweep,
        [
            {"calls": [[], [(0, 1.0), (0, 1.0)], [(1, 6.0), (1, 6.0)]]},
            {"calls": [[], [(0, 2.0)], [(0, -1.0), (1, 3.0)], [(1, 0.5)], [(2, 4.0), (3, 5.0), (0, 1.0)]]},
        ],
        called("gradient"),
        _by_equations,
        {
            "A share has overwritten the one before. b = a + a uses a twice: add both shares, with `+=`.": (
                _swept(lambda own, above, slope: above * slope)
            ),
            "You begin with the oldest value. Its gradient is still 0 then, so it hands on nothing. Begin with the "
            "newest: `reversed(range(len(calls)))`.": _swept(
                lambda own, above, slope: own + above * slope, newest_first=False
            ),
            "You add the slopes alone. A share is gradient[k] · slope: the chain rule.": (
                _swept(lambda own, above, slope: own + slope)
            ),
            "A value hands on before it has all of its shares, and so it hands on some of them twice. Finish a value "
            "before you go on: newest first, and each one once.": _too_early,
        },
        "for k in reversed(range(len(calls))): and in it, for i, slope in calls[k]: add a share to gradient[i].",
        _many_turns,
    ),
]
