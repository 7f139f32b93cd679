"""explain: a computation to step through, forward and back, in one HTML file that needs nothing else.

Everything that the page shows is put into words in story.py, from the graph and from the steps of its sweep; the page
itself, ``explain.html``, lays the graph out and shows step after step. All text goes into the page as JSON.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from microgradopt.autodiff import _starting_cotangent, listed_tensors
from microgradopt.graph.reader import Names, traced
from microgradopt.optim.optimizer import Optimizer
from microgradopt.page.formulas import of_step
from microgradopt.page.names import named
from microgradopt.page.steps import readied, shares, updates
from microgradopt.page.story import Story
from microgradopt.tensor import Tensor

_MOST = 300  # calls that a person might step through


@dataclass(frozen=True)
class Page:
    """An HTML page: its text is `html`. A notebook shows it in a frame."""

    html: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, and give its path."""
        Path(path).write_text(self.html, encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="A page of microgradopt" srcdoc="{html.escape(self.html)}" sandbox="allow-scripts" '
            'style="width: 100%; height: 760px; border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Page({len(self.html)} characters)"


def explain(
    loss: Tensor,
    path: str | os.PathLike[str] | None = None,
    *,
    names: Names | None = None,
    inputs: Tensor | Sequence[Tensor] = (),
    optimizer: Optimizer | None = None,
) -> Page:
    """The computation of `loss` as a page to step through: values forward, then gradients back, share by share.

    At each step of the reverse sweep the page shows the derivative's formula, what arrives from above, and their
    product, which is added where paths meet. It is played or stepped by buttons, keys and a slider. The calls of a
    module stand in a box that a click, or Enter, folds and unfolds. The page loads nothing from anywhere.

    loss: a scalar. path: where to write the page. names, inputs: as for `trace`; ``names=locals()`` gives values the
    names that they have in the program. optimizer: its next step is shown at the end. It is done to copies only: no
    tensor, no ``.grad`` and no optimizer's state is changed.

    Returns the `Page`, which a notebook shows.

    Raises TypeError and RuntimeError for what has no graph, ValueError for what is no single number, and for more than
    300 calls.

    >>> import numpy as np
    >>> import microgradopt as mg
    >>> a = mg.Tensor(2.0, requires_grad=True)
    >>> page = explain(np.tanh(a) * a, names=locals(), optimizer=mg.optim.SGD([a], lr=0.1))
    >>> path = page.save("tanh.html")  # doctest: +SKIP
    """
    (loss,) = listed_tensors("explain", [loss])
    if loss.size != 1:
        raise ValueError(f"explain: wants a single number, not shape {loss.shape}; .sum() or .mean() makes one")
    _starting_cotangent("explain", loss, None)
    begin = listed_tensors("explain", inputs)
    graph, tensors = traced([loss], begin, names, gradients=True)
    calls = sum(node.function is not None for node in graph)
    if calls > _MOST:
        raise ValueError(
            f"explain: {calls} calls are more than anybody would step through, and than the {_MOST} that a page takes; "
            "begin later, with inputs=, or explain a smaller network, or fewer steps of it"
        )
    for node, x in tensors.items():
        if node.function is not None:
            node.value = x.value  # also of functions with several results
    graph, called = named(graph, names)
    story = Story(graph, tensors, called)
    story.forward()
    story.backward(shares(graph, tensors))
    if optimizer is not None:
        twin, copies = readied(optimizer, loss, tensors)
        parameters = {copies[x]: node.name for node, x in tensors.items() if x in copies}
        formula = of_step(twin, parameters, {node.name for node in graph})
        story.update(type(optimizer).__name__, formula, updates(twin, copies, tensors))
    page = Page(_page(story))
    if path is not None:
        page.save(path)
    return page


def _page(story: Story) -> str:
    """The template with its script and the story in it."""
    data = {key: getattr(story, key) for key in ("nodes", "modules", "edges", "lines", "steps")}
    return file_text("explain.html").replace("<!--story-->", escaped(data))


def file_text(name: str) -> str:
    """The text of a file beside this one, with scripts where their names stand in it, as /*picture.js*/."""
    text = resources.files("microgradopt.page").joinpath(name).read_text(encoding="utf-8")
    return re.sub(r"/\*(\w+\.js)\*/", lambda script: file_text(script[1]), text)


def escaped(data: Any) -> str:
    """JSON for a script. It escapes all but ASCII; without <, nothing in it can end the script."""
    return json.dumps(data).replace("<", "\\u003c")
