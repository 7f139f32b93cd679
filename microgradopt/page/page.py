"""explain: a computation to step through, forward and back, in one HTML file that needs nothing else.

Everything that the page shows is put into words in story.py, from the graph and from the steps of its sweep; the page
itself, ``explain.html``, only shows step after step. All text goes into the page as JSON, none of it into the picture.
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

from microgradopt.autodiff import _starting_cotangent, listed_tensors
from microgradopt.graph.reader import Names, trace
from microgradopt.optim.optimizer import Optimizer
from microgradopt.page.steps import shares, tensors_of, updates
from microgradopt.page.story import Story
from microgradopt.picture.render import svg
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
            f'<iframe title="A computation, step by step" srcdoc="{html.escape(self.html)}" sandbox="allow-scripts" '
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
    product, which is added where paths meet. It is played or stepped by buttons, keys and a slider, and loads nothing
    from anywhere.

    loss: a scalar. path: where to write the page. names, inputs: as for `trace`; ``names=locals()`` gives values the
    names that they have in the program. optimizer: its next step is shown at the end. It is done to copies only: no
    tensor, no ``.grad`` and no optimizer's state is changed.

    Returns the `Page`, which a notebook shows.

    Raises TypeError and RuntimeError for what has no graph, ValueError for what is no single number, and for more than
    300 calls. GraphvizMissingError where neither Graphviz nor graphviz-pure is installed.

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
    graph = trace(loss, begin, names)
    calls = sum(node.function is not None for node in graph)
    if calls > _MOST:
        raise ValueError(
            f"explain: {calls} calls are more than anybody would step through, and than the {_MOST} that a page takes; "
            "begin later, with inputs=, or explain a smaller network, or fewer steps of it"
        )
    graph = trace(loss, begin, names, gradients=True)
    tensors = tensors_of(graph, loss, begin)
    story = Story(graph, tensors)
    story.forward()
    story.backward(shares(graph, tensors))
    if optimizer is not None:
        story.update(optimizer, updates(optimizer, loss, tensors))
    page = Page(_page(story))
    if path is not None:
        page.save(path)
    return page


# The page -------------------------------------------------------------------------------------------------------------

_CHARACTER, _LINE, _INCH = 7.3, 17, 72  # a character's width and a line's height, in points; points in an inch


def _page(story: Story) -> str:
    """The template with the picture and the story in it."""
    template = resources.files("microgradopt.page").joinpath("explain.html").read_text(encoding="utf-8")
    for i, node in enumerate(story.nodes):
        node["width"] = _width(story, i)
    data = {"nodes": story.nodes, "lines": story.lines, "steps": story.steps}
    # JSON escapes all but ASCII; without <, nothing in it can end the script.
    escaped = json.dumps(data).replace("<", "\\u003c")
    return template.replace("<!--picture-->", _picture(story)).replace("<!--story-->", escaped)


def _picture(story: Story) -> str:
    """The graph laid out: boxes of the size of what they are to show. The text comes with the steps."""
    nodes = [
        f"n{i} [id=n{i} width={node['width'] / _INCH:.2f} height={(1.5 + len(node['rows'])) * _LINE / _INCH:.2f}]"
        for i, node in enumerate(story.nodes)
    ]
    edges = [
        f'n{story.number[edge.source]} -> n{story.number[edge.target]} [id="{story.edge(edge)}"]'
        for edge in story.graph.edges
    ]
    look = "graph [rankdir=LR nodesep=0.2 ranksep=0.45 bgcolor=transparent]; edge [arrowsize=0.7]; "
    box = 'node [shape=box style=rounded fixedsize=true label="."]; '
    drawn = svg("digraph { " + look + box + "; ".join(nodes + edges) + " }")
    drawn = drawn[drawn.index("<svg") :]  # without the declarations of an XML file
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", drawn)


def _width(story: Story, i: int) -> float:
    """The width of a box, in points: that of the longest text it will show at any step."""
    shown = [step[key][i]["box"] for step in story.steps for key in ("values", "grads") if i in step.get(key, {})]
    node = story.nodes[i]
    longest = max(len(f"{node['name']} {node['sign']}"), *(6 + len(text) for text in shown), 2)
    return (longest + 2) * _CHARACTER
