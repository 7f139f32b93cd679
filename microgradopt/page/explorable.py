"""live: a surface to play with, in one HTML file: optimizers walk on it, and a click asks what a point is.

Nothing in the page is written by hand a second time. Loss, gradient, Hessian and whole optimizer steps are traced, and
printed as JavaScript (`program.javascript`); critical points and their verdicts are those of `critical.find`. The page
draws (live.js). The documentation's figures are made of the same parts (docs/figures.py).
"""

from __future__ import annotations

import contextlib
import html
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from microgradopt import critical
from microgradopt.autodiff import grad, hvp
from microgradopt.errors import NonFiniteError
from microgradopt.graph.graph import Node
from microgradopt.objective import Objective
from microgradopt.optim.optimizer import Optimizer
from microgradopt.page.formulas import of_step
from microgradopt.page.page import Page, escaped, file_text
from microgradopt.program.javascript import javascript
from microgradopt.program.printing import source
from microgradopt.program.program import MISFIT, Program, Source
from microgradopt.program.trace import traced
from microgradopt.tensor import Tensor

Loss = Callable[..., Any]
Maker = Callable[[list[Tensor]], Optimizer]

_TRIED = 200  # updates, in which all formulas of an optimizer are to be seen
_UPDATES = 1000  # that a page makes, at most
_GRADIENT = "the gradient"  # what the page calls w.grad
_SEARCHED = 7  # starts along each side of the picture, for critical points


def live(
    loss: Objective | Loss,
    optimizers: Mapping[str, Maker],
    start: Sequence[float],
    extent: Sequence[Sequence[float]],
    title: str = "A surface to play with",
    path: str | os.PathLike[str] | None = None,
) -> Page:
    """A surface of two parameters as a page: optimizers walk on it, played or step by step, from a start to be dragged.

    loss: an `Objective` of two parameters, or a function of a Tensor of shape (2,). optimizers: by name, what makes
    each of a list of parameters; hyperparameters get sliders, except those that are 0, and rates that follow a
    schedule. start: of all. extent: of the picture, ((low, high), (low, high)). path: where to write the page.

    The page shows loss and ‖g‖ of every update, the formula of the update, and its numbers. A click asks what a point
    is: gradient, eigenvalues, and near a critical point that `critical.find` has found its kind, and the way out. It
    loads nothing from anywhere.

    Raises ValueError for other than two parameters, for an extent that is none, and for optimizers that evaluate the
    loss themselves; TracingError for a loss or an optimizer that cannot be printed as JavaScript (`mg.source`).

    >>> import microgradopt as mg
    >>> saddle = lambda w: w[0] ** 2 - w[1] ** 2 + w[1] ** 4 / 4
    >>> page = live(saddle, {"SGD": lambda p: mg.optim.SGD(p, lr=0.1)}, (1.5, 0.01), ((-2, 2), (-2, 2)))
    >>> path = page.save("saddle.html")  # doctest: +SKIP
    """
    if np.shape(start) != (2,):
        raise ValueError(f"live: start is two numbers, not {start!r:.60}")
    if np.shape(extent) != (2, 2) or not all(low < high for low, high in extent):
        raise ValueError(f"live: extent is ((low, high), (low, high)), not {extent!r:.60}")
    page = Page(page_of(surface(loss, optimizers, start, extent, title=title)))
    if path is not None:
        page.save(path)
    return page


def page_of(figure: Mapping[str, Any]) -> str:
    """A figure as a page of its own."""
    script, style = (asset(name) for name in ("live.js", "live.css"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(figure['title'])}</title>\n<style>\n{style}</style>\n</head>\n"
        '<body class="live-page">\n<figure class="live" data-figure="figure"></figure>\n'
        f"<script>\n{script}\n{script_of('figure', figure)}</script>\n</body>\n</html>\n"
    )


def script_of(name: str, figure: Mapping[str, Any]) -> str:
    """What gives a figure to the page: numbers and words as JSON, functions, whose only words are keys, as they are."""
    functions: list[str] = []

    def told(x: Any) -> Any:
        if isinstance(x, Source) and x.startswith("function "):
            functions.append(x.strip().replace("</", r"<\/"))
            return {"function": len(functions) - 1}
        if isinstance(x, Mapping):
            return {key: told(part) for key, part in x.items()}
        return list(map(told, x)) if isinstance(x, list | tuple) else x

    words = escaped([name, told(figure)])[1:-1]
    listed = ",\n".join(functions)
    return f"live.add({words}, [\n{listed}\n]);\n"


def asset(name: str) -> str:
    """The text of live.js or live.css, without its indentation."""
    return re.sub(r"^ +", "", file_text(name), flags=re.MULTILINE)


# A surface, and who walks on it ---------------------------------------------------------------------------------------


def surface(
    loss: Objective | Loss,
    optimizers: Mapping[str, Maker],
    start: Sequence[float],
    extent: Sequence[Sequence[float]],
    title: str,
    names: Sequence[str] = ("w1", "w2"),
    given: Mapping[str, tuple[float, float, float]] | None = None,
    search: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """What the page needs to know of a surface.

    given: numbers that the loss takes besides, by name, each with its lowest, highest and first value; they get
    sliders. search: whether critical points are looked for. more: what the figure shows besides, see live.js.
    """
    w, loss_of = _read(loss, start)
    given = given or {}
    numbers = [np.float64(first) for _, _, first in given.values()]
    begin = np.array(start, float)
    with _kept(w, begin), np.errstate(all="ignore"):  # an optimizer may diverge
        return {
            "kind": "surface",
            "title": title,
            "names": list(names),
            "start": begin.tolist(),
            "extent": np.asarray(extent, float).tolist(),
            "given": {name: list(limits) for name, limits in given.items()},
            "value": _printed(loss_of, numbers, w),
            "curvature": _printed(_curvature(loss_of, w), numbers, w),
            "numpy": source(_curvature(loss_of, w), *numbers),
            "points": _points(lambda: loss_of(*numbers), w, extent) if search else [],
            "walkers": [walker(name, make, loss_of, w, numbers, begin) for name, make in optimizers.items()],
            **more,
        }


def called(function: Callable[..., Any], arguments: Mapping[Any, Any]) -> dict[str, Any]:
    """A function of arrays and tensors in JavaScript, and by what names the page is to call it."""
    values = [
        x if isinstance(x, Tensor) else np.asarray(x, float) if np.ndim(x) else np.float64(x)
        for x in arguments.values()
    ]
    return {"text": source(function, *values, target="javascript"), "reads": list(arguments)}


def _read(loss: Objective | Loss, start: Sequence[float]) -> tuple[Tensor, Loss]:
    """The parameter, and the loss at it as a function of all other numbers."""
    if not np.all(np.isfinite(start)):
        raise ValueError(f"live: start is of finite numbers, not {start!r:.60}")
    if not isinstance(loss, Objective):
        w, function = Tensor(np.array(start, float), requires_grad=True), loss
        return w, lambda *given: function(w, *given)
    if [p.shape for p in loss.parameters] != [(2,)]:
        shapes = ", ".join(str(p.shape) for p in loss.parameters)
        raise ValueError(f"live: a surface is that of one parameter of shape (2,), not of {shapes}")
    return loss.parameters[0], loss.loss


@contextlib.contextmanager
def _kept(w: Tensor, begin: np.ndarray[Any, Any]) -> Iterator[None]:
    """Inside, w begins at a point; afterwards it is as before."""
    value, gradient = w.data.copy(), w.grad
    w.data = begin.astype(w.dtype)
    try:
        yield
    finally:
        w.data, w.grad = value, gradient


def _curvature(loss_of: Loss, w: Tensor) -> Callable[..., Any]:
    """Value, gradient, and the columns of the Hessian."""

    def curvature(*given: Any) -> Any:
        value = loss_of(*given)
        return value, grad(value, w)[0], [hvp(value, w, e)[0] for e in np.eye(w.size)]

    return curvature


def _points(loss: Callable[[], Tensor], w: Tensor, extent: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """The critical points in the picture, with their verdicts."""
    objective = Objective.of([w], loss)
    low, high = np.asarray(extent, float).T
    grid = np.stack(np.meshgrid(*np.linspace(low, high, _SEARCHED).T), axis=-1).reshape(-1, 2)
    is_known = np.isfinite(objective.values(grid)) & np.isfinite(objective.hessians(grid)).all(axis=(1, 2))
    starts = grid[is_known]  # a loss may have a smaller domain than the picture
    found = critical.find(objective, starts).points if len(starts) else []
    inside = [p for p in found if np.all((low <= p.theta) & (p.theta <= high))]
    return [
        {
            "at": p.theta.tolist(),
            "kind": p.kind,
            "certified": bool(p.certified),
            "value": float(p.value),
            "eigenvalues": np.asarray(p.eigenvalues).tolist(),
            "lowest": np.asarray(p.eigenvectors)[:, :1].ravel().tolist(),
        }
        for p in inside
    ]


def walker(
    name: str, make: Maker, loss_of: Loss, w: Tensor, numbers: Sequence[Any], begin: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """An optimizer: the programs of its steps, what they read, and where they begin.

    programs: later formulas behind earlier ones; each gives the loss, and by name what is written. state: what they
    read, before the first step. settings: the learning rate, and hyperparameters that are not 0, by name. rates: of
    each update, where the learning rate follows a schedule.
    """
    from microgradopt.plots import optimizer_colour  # on use: it needs matplotlib

    w.data, w.grad = begin.astype(w.dtype), None
    optimizer = make([w])
    if optimizer.wants_closure:
        raise ValueError(
            f"live: {name} evaluates the loss several times in a step, which is no program that can be printed"
        )
    is_scheduled = callable(optimizer.param_groups[0]["lr"])
    rates = [optimizer.rate("lr", 0, t) for t in range(_UPDATES)] if is_scheduled else None

    def step(*given: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(*given)
        loss.backward()
        optimizer.step()
        return loss

    formula, state = "", {}
    settings: dict[str, float] = {}
    outside: dict[str, Any] = {}
    programs: list[dict[str, Any]] = []
    made: Program | None = None
    for t in range(_TRIED):
        if made is not None and made.run(list(numbers)) is not MISFIT:
            continue
        try:
            made = Program(traced(step, tuple(numbers), {}, list(numbers), (), free=True))
        except NonFiniteError:
            break
        now = made.read(list(numbers))
        program = _program(made, now, w, outside, optimizer)
        programs += [program] if program not in programs else []
        for node, key, x in zip(made.inputs, program["reads"], now, strict=True):
            if key in state or key in outside or type(key) is int or key == "w":
                continue
            if node in made.rates or node in made.settings:
                settings[key] = float(x)
            if t == 0 or key in settings:
                state[key] = np.asarray(x).tolist()  # as it is now
        if t:
            formula = of_step(optimizer, {w: "w"}, set()).rpartition("\n")[0]
        made.run(list(numbers))
    shown = {key: x for key, x in settings.items() if x != 0 and not (key == "lr" and rates)}
    colour = optimizer_colour(name) or "#666666"
    state |= _as_lists(outside)
    parts = {"programs": programs, "state": state, "settings": shown, "formula": formula, "rates": rates}
    return {"name": name, "colour": colour, **parts}


def _printed(function: Loss, numbers: Sequence[Any], w: Tensor) -> dict[str, Any]:
    """A function in JavaScript, and what its arguments are; data: those from outside, by key."""
    made = Program(traced(function, tuple(numbers), {}, list(numbers), ()))
    outside: dict[str, Any] = {}
    program = _program(made, made.read(list(numbers)), w, outside)
    return program | {"data": _as_lists(outside)}


def _as_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: np.asarray(x).tolist() for key, x in values.items()}


def _program(
    made: Program, now: Sequence[Any], w: Tensor, outside: dict[str, Any], optimizer: Optimizer | None = None
) -> dict[str, Any]:
    """Its text, and the keys of its arguments.

    They are "w"; a position among the numbers; a name, of what is the optimizer's or is written; and numbers for arrays
    from outside, which may have any name: these are added to `outside`. now: what the arguments are.
    """
    values, gradients = ({f"{name}.{key}" for name, x in made.names.items() if x is w} for key in ("value", "grad"))
    own = tuple(f"{name}." for name, x in made.names.items() if x is not None and x is optimizer)
    thetas = {part.theta for part in made.parts.values()}
    written = {effect.slot for effect in made.effects}
    for i, effect in enumerate(made.effects):
        if effect.line.partition(" = ")[0] in gradients:
            made.effects[i] = effect._replace(name=_GRADIENT)

    def key(node: Node, x: Any) -> str | int:
        text = made.reads[node]
        if text.startswith("args["):
            return int(text[5:-1])
        if node in thetas or text in values:
            return "w"
        if node in written or text.startswith(own):
            return node.name
        known = next((key for key, y in outside.items() if y is x), f"outside {len(outside)}")
        outside[known] = x
        return known

    return {"text": javascript(made), "reads": [key(node, x) for node, x in zip(made.inputs, now, strict=True)]}
