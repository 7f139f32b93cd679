"""What a notebook shows, read back by an HTML parser: the object's own numbers, and names as they were written."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import critical, nn, notebook
from microgradopt.program.program import Source

HOSTILE = ["<script>alert(1)</script>", "</td></table>", '" onclick="x', "&lt;b&gt;", "a & b", "$x$", "θ → 'ü'", "]]>"]


class Read(HTMLParser):
    """Tables as {caption: rows of cells}; the texts outside of them; all tags and attributes that there are."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.texts, self.tags, self.attributes, self.open = {}, [], set(), set(), []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag != "img":  # which has no end
            self.open.append(tag)
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "table":
            self.caption, self.rows = "", []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        elif "caption" in self.open:
            self.caption += data
        else:
            self.texts.append(data)


TAGS = {"div", "table", "caption", "b", "tr", "th", "td", "p", "details", "summary", "pre", "img"}


def read(x):
    """What an object shows, with nothing in it that this package does not write, and no colours."""
    html = x if isinstance(x, str) else x._repr_html_()
    found = Read(html)
    assert found.tags <= TAGS
    assert found.attributes <= {"class", "style", "alt", "src"}
    assert "color" not in html
    assert "background" not in html
    return found


def fields(x):
    """The table of two columns that an object shows, as a dictionary."""
    (rows,) = read(x).tables.values()
    return dict(rows)


def quadratic(*eigenvalues):
    return mg.Objective(lambda w: (np.array(eigenvalues) * w * w).sum() / 2, np.zeros(len(eigenvalues)))


def saddle():
    return mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0])


# Tables ---------------------------------------------------------------------------------------------------------------


def test_all_text_is_read_back_as_it_was_written():
    rows = [(text, text) for text in HOSTILE]
    found = read(notebook.table(HOSTILE[0], rows, HOSTILE[1:3]))
    assert found.tables == {HOSTILE[0]: [list(HOSTILE[1:3]), *map(list, rows)]}
    for text in HOSTILE:
        assert read(notebook.shown(notebook.paragraph(text), notebook.folded(text, text))).texts == [text] * 3


def test_a_long_table_is_cut_and_says_so():
    (rows,) = read(notebook.table("long", [(i, -i) for i in range(1234)])).tables.values()
    assert rows == [*([str(i), str(-i)] for i in range(100)), ["and 1,134 more"]]


def test_dollars_are_no_mathematics():
    """The classes that MathJax leaves alone, by its documentation."""
    assert notebook.shown("$x$") == '<div class="tex2jax_ignore mathjax_ignore">$x$</div>'


# Graphs and programs --------------------------------------------------------------------------------------------------


def a_graph(name="x"):
    x = mg.Tensor([1.0, -2.0], requires_grad=True)
    return mg.trace(np.tanh(x) - x, names={name: x})


@pytest.mark.parametrize("name", ["x", *HOSTILE])
def test_a_graph_shows_its_drawing(name):
    graph = a_graph(name)
    html = graph._repr_html_()
    parts = [each for each in ET.fromstring(html).iter() if each.get("class") in ("node", "edge")]
    edges = {f"e{graph.nodes.index(e.source)}-{graph.nodes.index(e.target)}-{e.slot}" for e in graph.edges}
    assert {each.get("id") for each in parts} == {"n0", "n1", "n2"} | edges
    assert "script" not in Read(html).tags
    assert "onclick" not in Read(html).attributes


def test_with_nothing_to_draw_with_a_graph_shows_the_reason_and_its_repr(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    graph = a_graph()
    reason, shown = read(graph).texts
    assert "pip install 'microgradopt[viz]'" in reason
    assert shown == repr(graph) == "Graph(3 nodes: 1 parameter, 2 forward)"


def test_pictures_are_loaded_when_a_graph_is_shown():
    code = """
        import sys
        if {missing}: sys.modules["graphviz"] = None
        import numpy as np, microgradopt as mg
        x = mg.Tensor([1.0, 2.0], requires_grad=True)
        graph = mg.trace(np.tanh(x))
        assert "microgradopt.picture" not in sys.modules
        html = graph._repr_html_()
        assert ("Graph(2 nodes" in html and "graphviz" in html) if {missing} else "<svg" in html
    """
    for missing in (True, False):
        lines = [line.strip() for line in code.format(missing=missing).splitlines()]
        subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_a_source_is_a_block_of_python():
    x = mg.Tensor([1.0, -2.0], requires_grad=True)
    text = mg.source(lambda a: mg.grad(np.tanh(x * a).sum(), x), np.ones(2))
    first, *lines, last = text._repr_markdown_().split("\n")
    assert (first, "\n".join(lines), last) == ("```python", text, "```")


def test_no_text_ends_its_block():
    """In CommonMark a block is ended by a line of at least as many backticks as began it."""
    first, *lines, last = Source("a = 1\n```\n<script>\n````\n", "f", {})._repr_markdown_().split("\n")
    assert first == f"{last}python"
    assert set(last) == {"`"}
    assert not any(line.startswith(last) for line in lines)


def test_a_compiled_function_shows_its_cost_and_its_source():
    x = mg.Tensor([1.0, -2.0], requires_grad=True)

    @mg.compile
    def step(a):
        return dict.fromkeys(HOSTILE, np.tanh(x * a) @ np.ones((2, 3)))

    waiting = fields(step)
    assert waiting == {"programs": "0", "source": "none yet: it is traced when it is first called"}
    step(np.ones(2))
    step(2.0)
    calls = [program.calls for programs in step._programs.values() for program in programs]
    found = read(step)
    rows = {"programs": "2", "operations": "3", "floating-point operations": "16", "bytes of all results": "56"}
    assert found.tables == {"Compiled(step)": [list(row) for row in rows.items()]}
    assert found.texts == ["source of the program used last", step.source]
    assert HOSTILE[0] in step.source
    assert calls == [program.calls for programs in step._programs.values() for program in programs]


# Objectives and critical points ---------------------------------------------------------------------------------------


class Named(nn.Module):
    def __init__(self):
        self.parts = {name: mg.Tensor(np.full((2, i + 1), 0.5), requires_grad=True) for i, name in enumerate(HOSTILE)}

    def forward(self):
        return sum((w * w).sum() for w in self.parts.values())


def test_an_objective_shows_its_loss_and_its_parameters():
    model, calls = Named(), []

    def loss():
        calls.append(1)
        return model()

    objective = mg.Objective.of(model, loss, compile=mg.compile)
    theta = objective.theta
    found = read(objective)
    sizes = [2 * (i + 1) for i in range(len(HOSTILE))]
    assert found.tables["Objective"] == [["loss at θ", f"{sum(sizes) / 4:g}"], ["size of θ", str(sum(sizes))]]
    shapes = [[f"parts.{name}", f"(2, {i + 1})", "float64"] for i, name in enumerate(HOSTILE)]
    assert found.tables["Parameters"] == [["name", "shape", "dtype"], *shapes]
    assert len(calls) == 1  # nothing is compiled for it
    assert all(p.grad is None for p in model.parameters())
    assert np.array_equal(objective.theta, theta)


def test_parameters_without_names_have_numbers():
    tensors = [mg.Tensor(np.ones(3, np.float32), requires_grad=True), mg.Tensor(1.0, requires_grad=True)]
    found = read(mg.Objective.of(tensors, lambda: tensors[0].sum() * tensors[1]))
    assert found.tables["Parameters"][1:] == [["0", "(3,)", "float32"], ["1", "()", "float64"]]


@pytest.mark.parametrize("text", HOSTILE)
def test_an_objective_whose_loss_fails_is_shown(text):
    def loss(x):
        raise ArithmeticError(text)

    found = read(mg.Objective(loss, [1.0, 2.0]))
    assert found.tables["Objective"] == [["loss at θ", f"ArithmeticError: {text}"], ["size of θ", "2"]]


def test_a_loss_that_is_not_finite_is_shown_without_a_warning():
    found = read(mg.Objective(lambda x: np.log(x).sum(), [-1.0]))
    assert found.tables["Objective"][0] == ["loss at θ", "nan"]


@pytest.mark.parametrize(
    ("eigenvalues", "shown", "counts"),
    [((-2, 3), "-2, 3", "1 / 0 / 1 of 2"), (range(1, 9), "1, 2, 3, …, 6, 7, 8", "0 / 0 / 8 of 8")],
)
def test_a_critical_point_shows_its_numbers(eigenvalues, shown, counts):
    point = critical.classify(quadratic(*eigenvalues))
    found = fields(point)
    assert list(read(point).tables) == [point.kind]
    assert found["eigenvalues"] == shown
    assert found["negative / zero / positive"] == counts
    assert found["certified"] == "yes"
    assert (float(found["loss"]), float(found["gradient norm"])) == (0, 0)
    assert float(found["tolerance"]) == pytest.approx(point.tolerance, rel=1e-2)
    assert [float(x) for x in found["margins of these counts"].split("/")] == pytest.approx(point.margin, rel=1e-2)
    assert float(found["condition number"]) == pytest.approx(max(np.abs(eigenvalues)) / min(np.abs(eigenvalues)))
    assert read(point).texts == [point.explanation]


def test_of_a_spectrum_that_is_known_in_part_it_says_so():
    found = fields(critical.classify(quadratic(*range(1, 31)), dense_up_to=10))
    assert "eigenvalues found" in found
    assert found["certified"] == "no"


def test_an_escape_shows_the_losses_on_its_way():
    objective = mg.Objective(lambda w: w[0] ** 4 / 4 - w[0] ** 2 / 2 + w[1] ** 2 + 7, [0.0, 0.0])
    way = critical.classify(objective).escape()
    found = fields(way)
    assert float(found["loss at the start"]) == 7
    assert float(found["loss at the end"]) == pytest.approx(6.75, abs=1e-4)
    assert float(found["decrease, measured"]) == float(found["decrease, predicted"]) == 0.25
    assert float(found["step"]) == pytest.approx(1, rel=1e-2)
    assert float(found["curvature along it"]) == -1
    assert int(found["evaluations of the loss"]) == way.evaluations


def test_a_search_shows_each_point_once_and_how_many_starts_led_there():
    def wells(w):
        return ((w * w - 1) ** 2).sum() + 0.5

    starts = [[1.0], [1.0], [1.0], [-1.0], [0.0], [1e6]]  # the last is too far away
    found = critical.find(mg.Objective(wells, [0.5]), starts, max_iter=1)
    shown = read(found)
    (heading, *rows), summary = next(iter(shown.tables.values())), str(found).splitlines()
    assert heading == ["loss", "gradient norm", "kind", "index", "eigenvalues", "starts", "θ"]
    minimum, maximum = "local minimum (certified)", "local maximum (certified)"
    assert sorted(rows) == [  # the second derivative is 12 w² - 4
        ["0.5", "0", minimum, "0", "8", "1", "-1"],
        ["0.5", "0", minimum, "0", "8", "3", "1"],
        ["1.5", "0", maximum, "1", "-4", "1", "0"],
    ]
    assert (list(shown.tables), shown.texts) == (summary[:1], summary[1:2])
    assert (sum(found.hits), found.unfinished) == (5, 1)
    assert "hits" not in repr(found)


def test_a_diagnosis_shows_its_evidence_and_what_to_do():
    found = critical.diagnose(saddle())
    shown = read(found)
    rows = shown.tables["diagnosis: saddle point"]
    assert [row[1] for row in rows if row[0] == "evidence"] == found.evidence
    assert rows[len(found.evidence) :][:2] == [["what to do", found.action], ["as code", found.code]]
    assert rows[-1] == ["critical point", "saddle point (certified)"]
    causes = shown.tables["causes"]
    assert causes[0] == ["cause", "seen", "its cure", "closes", ""]
    assert ["saddle point", "100%", "confirmed"] in [[row[0], row[3], row[4]] for row in causes]
    assert found._repr_html_().count("<img ") == 2  # the curves, and the spectrum


@pytest.mark.parametrize("text", HOSTILE)
def test_a_diagnosis_shows_numbers_and_layers_where_there_are_any(text):
    layer = critical.Layer(0, text, 5, 4)
    found = critical.Diagnosis("undecided", [text], text, lr=0.0, layers=[layer, layer], not_tried=[text])
    assert read(found).tables["diagnosis: undecided"] == [
        ["evidence", text], ["what to do", text], ["lr", "0"], *[["layer", str(layer)]] * 2, ["not tried", text]
    ]  # fmt: skip


def test_results_are_shown_without_any_evaluation():
    is_over = False

    def loss(w):
        assert not is_over
        return (1 - w[0] * w[1]) ** 2

    objective = mg.Objective(loss, [0.0, 0.0])
    point = critical.classify(objective)
    shown = point, point.escape(), critical.diagnose(objective), critical.find(objective, [[0.1, 0.1]])
    is_over = True
    for x in shown:
        before = repr(x)
        assert read(x).tables
        assert repr(x) == before


# IPython --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def formatter():
    formatters = pytest.importorskip("IPython.core.formatters")
    return formatters.DisplayFormatter()


def everything():
    x = mg.Tensor([1.0, -2.0], requires_grad=True)
    double = mg.compile(lambda a: a * x)
    double(2.0)
    point = critical.classify(saddle())
    found = critical.find(saddle(), [[0.1, 0.1]])
    return [a_graph(), double.source, double, point, point.escape(), found, critical.diagnose(saddle()), saddle()]


def test_ipython_shows_html_and_sources_as_markdown(formatter):
    for x in everything():
        kind, method = ("markdown", "_repr_markdown_") if isinstance(x, Source) else ("html", "_repr_html_")
        shown, _ = formatter.format(x)
        assert shown == {"text/plain": shown["text/plain"], f"text/{kind}": getattr(x, method)()}


def test_in_a_terminal_nothing_is_drawn(formatter, monkeypatch):
    formatter.active_types = ["text/plain"]
    drawn = []
    for x in everything():
        monkeypatch.setattr(type(x), "_repr_html_", drawn.append, raising=False)
        shown, _ = formatter.format(x)
        assert shown.keys() == {"text/plain"}
    assert not drawn
