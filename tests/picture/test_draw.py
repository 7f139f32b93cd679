"""Pictures on three machines: with Graphviz, with graphviz-pure alone, and with neither."""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import graphviz
import numpy as np
import pytest
from dot_parser import HOSTILE

import microgradopt as mg
from microgradopt.picture import Drawing, GraphvizMissingError, draw
from microgradopt.picture.render import rendered, svg

PROGRAMS = {
    "dot": shutil.which("dot"),
    "graphviz-pure": shutil.which("graphviz-pure", path=str(Path(sys.executable).parent)),
}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that makes this a machine where only the programs named are installed: on the path, beside Python."""
    on_path, beside = tmp_path / "on_path", tmp_path / "beside"
    on_path.mkdir()
    beside.mkdir()

    def install(*names, where=on_path):
        for name in names:
            if PROGRAMS[name] is None:
                pytest.skip(f"{name} is not installed")
            (where / name).symlink_to(PROGRAMS[name])

    monkeypatch.setenv("PATH", str(on_path))
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.chdir(tmp_path)
    install.on_path, install.beside = on_path, beside
    return install


def drawing() -> Drawing:
    x = mg.Tensor([1.0, -2.0], requires_grad=True)
    return draw(np.tanh(x) - x, names={"x": x})


def read_svg(text):
    """The ids of nodes and edges, and the texts."""
    tree = ET.fromstring(text)
    groups = [each for each in tree.iter() if each.get("class") in ("node", "edge")]
    texts = [each.text for each in tree.iter() if each.tag.endswith("}text")]
    return {each.get("id") for each in groups}, texts


SOMETHING = [("dot",), ("graphviz-pure",), ("dot", "graphviz-pure")]


@pytest.mark.parametrize("installed", SOMETHING)
def test_all_ways_to_a_picture(machine, installed):
    machine(*installed)
    d = drawing()
    ids, texts = read_svg(svg(d.source))
    assert ids == {"n0", "n1", "n2", "e0-1-0", "e1-2-0", "e0-2-1"}
    assert {"x", "tanh", "−", "output", "(2,) float64"} <= set(texts)
    for text in (
        d.pipe(encoding="utf-8"),
        d.pipe("svg").decode(),
        d._repr_image_svg_xml(),
        d.pipe(engine="dot").decode(),
    ):
        assert read_svg(text) == (ids, texts)
    assert d.pipe("png").startswith(b"\x89PNG")
    assert d._repr_mimebundle_().keys() == {"image/svg+xml"}
    assert d._repr_mimebundle_(include=["image/png"])["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("installed", SOMETHING)
def test_render_writes_the_text_and_the_picture_as_graphviz_does(machine, monkeypatch, installed, tmp_path):
    machine(*installed)
    d = drawing()
    assert d.render("a") == "a.svg"
    assert read_svg(Path("a.svg").read_text("utf-8"))[0] >= {"n0", "e0-2-1"}
    assert Path("a").read_text("utf-8") == d.source
    assert Path(d.render("b", "folder", format="png", cleanup=True)) == Path("folder/b.png")
    assert Path("folder/b.png").read_bytes().startswith(b"\x89PNG")
    assert not Path("folder/b").exists()
    d = drawing()
    assert Path(d.render(outfile="c.png")) == Path("c.png")
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")
    assert Path("c.gv").exists()
    d.format = "png"
    assert d.render(tmp_path / "d") == str(tmp_path / "d.png")
    opened = []
    monkeypatch.setattr(Drawing, "_view", lambda self, path, **options: opened.append(path))
    d.view("e")
    assert opened == ["e.png"]


def test_graphviz_pure_is_found_beside_the_python_that_runs(machine):
    machine("graphviz-pure", where=machine.beside)
    assert "n0" in read_svg(svg(drawing().source))[0]


def test_with_neither_the_error_says_both_ways_and_the_text_is_there(machine):
    d = drawing()
    for way in (d.pipe, d.render, d.view, d._repr_image_svg_xml, d._repr_image_png, lambda: svg(d.source)):
        with pytest.raises(GraphvizMissingError, match=r"graphviz\.org.*pip install 'microgradopt\[viz\]'.*\.source"):
            way()
    assert issubclass(GraphvizMissingError, RuntimeError)
    assert not list(Path.cwd().glob("*.gv"))
    assert d.source.startswith("digraph")
    assert Path(d.save("text.gv")).read_text("utf-8") == d.source


def test_with_neither_a_notebook_shows_the_text(machine):
    d = drawing()
    (text,) = d._repr_mimebundle_().values()
    assert d._repr_mimebundle_().keys() == {"text/plain"}
    assert "microgradopt[viz]" in text
    assert d.source in text


@pytest.mark.parametrize("name", ["dot", "graphviz-pure"])
def test_a_program_that_fails_is_quoted_and_a_notebook_shows_the_text(machine, name, capfd):
    broken = machine.on_path / name
    broken.write_text("#!/bin/sh\necho out of ink >&2\nexit 1\n")
    broken.chmod(0o755)
    d = drawing()
    with pytest.raises(RuntimeError, match="out of ink"):
        rendered(d.source)
    with pytest.raises((RuntimeError, subprocess.CalledProcessError), match="out of ink"):
        d.pipe()
    assert d._repr_mimebundle_().keys() == {"text/plain"}


@pytest.mark.parametrize("installed", [("dot",), ("graphviz-pure",)])
def test_what_is_no_dot_is_refused(machine, installed):
    machine(*installed)
    with pytest.raises(RuntimeError, match="syntax error"):
        svg("digraph { a -> ")


@pytest.mark.parametrize("installed", [("dot",), ("graphviz-pure",)])
@pytest.mark.parametrize("style", ["arrays", "scalar"])
def test_hostile_names_reach_the_picture(machine, installed, style):
    machine(*installed)
    tensors = [mg.Tensor(1.0, requires_grad=True) for _ in HOSTILE]
    total = np.sum(np.stack(tensors))
    text = draw(total, names=dict(zip(HOSTILE, tensors, strict=True)), style=style).pipe(encoding="utf-8")
    _, texts = read_svg(text)
    shown = [each.replace("\u2060", "").replace("\xa0", " ").strip() for each in texts]
    assert [name for name in HOSTILE if name.strip() not in shown] == []


def test_a_drawing_is_a_digraph():
    assert isinstance(drawing(), graphviz.Digraph)
    assert isinstance(drawing().copy(), Drawing)


@pytest.mark.skipif(shutil.which("dot") is None, reason="of Graphviz's own layout")
def test_fifty_steps_of_a_recurrent_network_are_drawn_in_seconds():
    """Long arrows from a few weights to every step took Graphviz minutes: their names stand beside each use."""
    cell, inside = mg.nn.Linear(4, 4, rng=0), mg.nn.Linear(4, 4, rng=1)
    h = mg.Tensor(np.zeros((2, 4)))
    for _ in range(50):
        h = np.tanh(cell(h) + inside(np.ones((2, 4))))
    text = mg.draw((h * h).sum(), names={"cell": cell}, roll=False).source
    drawn = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, timeout=30, check=True)
    assert drawn.stdout.count(b"cell_weight") >= 50
