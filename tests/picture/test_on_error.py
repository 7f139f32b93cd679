"""draw_on_error: the call that failed is the red one, with its operands before it; and the error stays what it is."""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import threading
import traceback
import types
import warnings

import dot_parser
import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn
from microgradopt.mode import PLAIN, current_mode
from microgradopt.picture import drawing

RED = drawing._FAILED["fillcolor"]
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="of Graphviz")


def needing(value):
    return mg.Tensor(value, requires_grad=True)


def ones(*shape):
    return needing(np.ones(shape))


def failing(function, **options):
    """The error of a function, and what the picture says."""
    with pytest.raises(Exception) as caught, mg.draw_on_error(**options) as wrong:  # noqa: PT011
        function()
    return caught.value, dot_parser.parse(wrong.drawing.source)


def red(dot):
    return [name for name, attributes in dot.nodes.items() if attributes.get("fillcolor") == RED]


def before(dot, name):
    """The labels of the nodes that arrows to this one come from."""
    return [dot.label(tail) for tail, head, _ in dot.edges if head == name]


# Which call -----------------------------------------------------------------------------------------------------------

W = ones(3, 4)
NUMBER = needing(2.0)


def overwritten():
    w = needing([1.0, 2.0])
    loss = np.exp(w * w).sum()
    w.data = [0.0, 0.0]
    loss.backward()


def overwritten_and_recorded():
    w = needing([1.0, 2.0])
    loss = np.exp(w * w).sum()
    w.data = [0.0, 0.0]
    mg.grad(loss, w, create_graph=True)


def made_nan():
    with mg.detect_anomaly(), np.errstate(all="ignore"):
        np.log(ones(3) - 2.0) * 3.0


def made_nan_of_a_constant():
    with mg.detect_anomaly(), np.errstate(all="ignore"):
        np.log(mg.Tensor([-1.0]))


def made_a_nan_gradient():
    with mg.detect_anomaly(), np.errstate(all="ignore"):
        np.sqrt(needing([0.0, 1.0])).sum().backward()


def put_into_an_array():
    np.zeros(3)[0] = NUMBER


FAILURES = {  # the sign of the call, how many arrows lead to it, what it says
    "matmul": (lambda: W @ ones(3, 4), "@", 2, ["(3, 4) with (3, 4)", "weight.T?"]),
    "matmul with an array": (lambda: np.ones((2, 2)) @ W, "@", 2, ["(2, 2) with (3, 4)", "do not match"]),
    "an operator": (lambda: W + ones(5), "+", 2, ["(3, 4) with (5,)", "do not match"]),
    "a ufunc": (lambda: np.maximum(W, np.ones(5)), "max", 2, ["(3, 4) with (5,)", "do not match"]),
    "a comparison": (lambda: ones(3, 4) >= ones(5), "≥", 2, ["(3, 4) with (5,)", "broadcast"]),
    "concatenate": (lambda: np.concatenate([W, ones(2, 5)]), "concatenate", 2, ["(3, 4) with (2, 5)", "size 5"]),
    "a method": (lambda: W.reshape(5, 2), "reshape shape=(5, 2)", 1, ["(3, 4)", "size 12"]),
    "a method with an axis": (lambda: W.sum(axis=5), "Σ axis=5", 1, ["(3, 4)", "axis 5"]),
    "an index": (lambda: W[7], "[7]", 1, ["(3, 4)", "index 7"]),
    "labels": (
        lambda: nn.cross_entropy(W, np.array([0, 1, 9])), "nll_loss reduction='mean'", 2, ["(3, 4) with (3,)", "0 to 9"],
    ),
    "targets": (lambda: nn.mse_loss(ones(3, 1), np.ones(3)), "mse_loss", 2, ["(3, 1) with (3,)", "must be equal"]),
    "part of another function": (lambda: np.stack([ones(3), ones(4)]), "concatenate", 2, ["(1, 3) with (1, 4)"]),
    "asarray": (lambda: np.array([W[0, 0], 1.0]), "asarray", 1, ["()", "would cut the graph."]),
    "math": (lambda: math.exp(NUMBER), "float", 1, ["()", "would cut the graph."]),
    "an element of an array": (put_into_an_array, "float", 1, ["would cut the graph."]),
    "item": (lambda: W.item(), "item", 1, ["(3, 4)", "not of size 1"]),
    "an element written": (lambda: W.__setitem__(0, NUMBER), "setitem index=0", 2, ["not changed in place"]),
    "no rule": (lambda: np.fft.fft(W), "fft", 1, ["(3, 4)", "no derivative rule"]),
    "no rule of a method": (lambda: np.logaddexp.accumulate(W), "logaddexp accumulate", 1, ["no derivative rule"]),
    "out": (lambda: np.add(W, W, out=np.zeros((3, 4))), "+", 2, ["cannot be changed in place"]),
    "text": (lambda: W + np.array("a"), "+", 1, ["real numbers are wanted"]),
    "a singular matrix": (lambda: np.linalg.inv(ones(3, 3)), "x⁻¹", 1, ["(3, 3)", "Singular"]),
    "no gradient is recorded": (lambda: mg.no_grad()(lambda: W @ W)(), "@", 2, ["(3, 4) with (3, 4)"]),
    "a NaN": (made_nan, "ln", 1, ["not finite", "⚠ 3 NaN"]),
    "a NaN without a gradient": (made_nan_of_a_constant, "ln", 1, ["(1,)", "not finite"]),
    "a NaN of a derivative": (made_a_nan_gradient, "√", 1, ["its gradient"]),
    "backward of a value written since": (overwritten, "×", 2, ["multiply needs its input", "overwritten since"]),
    "a recorded backward pass": (overwritten_and_recorded, "×", 2, ["multiply needs its input", "overwritten since"]),
    "backward of an array": (lambda: W.backward(), "backward", 1, ["(3, 4)", "not a single number"]),
    "a compiled function": (lambda: mg.compile(lambda x: x @ W)(np.ones((2, 2))), "@", 2, ["(2, 2) with (3, 4)"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_the_failing_call_is_red_with_the_shapes_that_met_and_the_reason(name):
    function, sign, operands, said = FAILURES[name]
    _, dot = failing(function)
    (failed,) = red(dot)
    assert dot.label(failed)[0].startswith(sign)
    assert len(before(dot, failed)) == operands
    text = " ".join(dot.label(failed))
    assert [each for each in said if each not in text] == []
    assert "output" not in dot.label(failed)


@pytest.mark.parametrize("name", FAILURES)
def test_the_error_is_what_it_is_without(name):
    function = FAILURES[name][0]
    with pytest.raises(Exception) as plain:  # noqa: PT011
        function()
    error, _ = failing(function)
    assert (type(error), str(error)) == (type(plain.value), str(plain.value))
    (note,) = error.__notes__
    assert note.startswith("draw_on_error: ")
    assert "no picture" not in note
    last = [traceback.extract_tb(each.__traceback__)[-1] for each in (error, plain.value)]
    assert (last[0].filename, last[0].lineno) == (last[1].filename, last[1].lineno)
    assert current_mode.get() is PLAIN


def test_what_leads_to_the_call_is_drawn_by_the_names_of_the_variables_in_the_frames_of_the_modules():
    model = nn.Sequential(nn.Linear(4, 8, rng=0), nn.Tanh(), nn.Linear(10, 3, rng=1))
    x, unrelated = np.ones((32, 4)), ones(2)

    def loss():
        scale = unrelated * 2.0
        return model(x) * scale

    _, dot = failing(lambda: (loss(), model, x))
    (failed,) = red(dot)
    assert dot.label(failed)[:2] == ["xWᵀ + b", "(32, 8), (3, 10), (3,)"]
    assert sorted(each[0] for each in before(dot, failed)) == ["model_2_bias", "model_2_weight", "tanh"]
    frames = {dot_parser.lines(each.attributes["label"])[0]: each for name, each in dot.clusters.items() if name}
    assert frames.keys() == {"model: Sequential", "model.0: Linear", "model.1: Tanh", "model.2: Linear"}
    assert failed in frames["model.2: Linear"].members
    assert "x" in [each[0] for each in map(dot.label, dot.nodes)]
    assert not [line for line in dot.said() if "unrelated" in line], "does not lead to it"
    assert not [line for line in dot.said() if "output" in line], "there is none yet"


def test_names_are_as_for_draw():
    w = ones(2)
    _, dot = failing(lambda: w @ ones(3), names={"weights": w})
    assert before(dot, *red(dot))[0][0] == "weights"
    _, dot = failing(lambda: np.exp(ones(2)) @ ones(3))
    assert [label[0] for label in before(dot, *red(dot))] == ["eˣ", "(3,) float64"], "not what the engine calls them"
    layer = nn.Linear(2, 1, rng=0)
    _, dot = failing(lambda: layer(np.ones(3)), names=layer)
    assert {"weight", "bias"} <= {label[0] for label in before(dot, *red(dot))}


def test_where_no_call_has_failed_what_was_computed_is_drawn_and_the_error_is_below():
    def lookup():
        w = ones(2)
        h = w * 3.0
        kept = np.exp(h), np.sin(h)
        np.cos(w)  # gone
        return kept, {}["labels"]

    error, dot = failing(lookup)
    assert type(error) is KeyError
    assert red(dot) == []
    assert dot.legend()[-1] == "KeyError: 'labels'"
    assert not [line for line in dot.said() if line.startswith("output ")], "h is none: others were made from it"
    assert [label[0] for label in map(dot.label, dot.nodes) if "output" in label] == ["eˣ", "sin"]
    assert "cos" not in dot.said()
    _, dot = failing(lambda: {}["labels"])
    assert dot.nodes == {}


def test_an_error_from_before_the_block_is_not_taken_for_the_one_in_it():
    try:
        W @ W
    except ValueError:
        error, dot = failing(lambda: {}["labels"])
    assert type(error.__context__) is ValueError
    assert red(dot) == []


def test_an_error_raised_because_of_another_shows_the_call_of_that():
    def unpacked():
        try:
            W @ W
        except ValueError as error:
            raise RuntimeError("my own") from error

    error, dot = failing(unpacked)
    assert type(error) is RuntimeError
    assert len(red(dot)) == 1


def test_errors_that_come_from_each_other():
    def in_a_circle():
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    _, dot = failing(in_a_circle)
    assert dot.legend()[-1] == "ValueError: first"


def test_of_a_large_graph_the_newest_sixty_calls_are_shown():
    def chain():
        x = ones(3)
        for i in range(2000):
            x = np.sin(x) if i % 7 else np.cos(x)
        return x @ ones(4)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("microgradopt.picture.loops._LEAST_CALLS", 1000)  # no loops
        _, dot = failing(chain)
    signs = [dot.label(name)[0] for name in dot.nodes]
    assert signs.count("sin") + signs.count("cos") == 60
    assert len(before(dot, *red(dot))) == 2
    assert dot.legend()[-1] == "the newest 60 calls; what they begin with is shown as input"
    _, dot = failing(lambda: np.concatenate([ones(1, 1 + i % 2) for i in range(500)]))
    assert len(dot.nodes) < 60
    assert len(red(dot)) == 1


# Not finite, and no error ---------------------------------------------------------------------------------------------


def test_a_result_that_is_not_finite_is_warned_of_and_its_first_cause_is_red():
    w = needing([-1.0, 2.0])
    with (
        pytest.warns(RuntimeWarning, match=r"draw_on_error: the result is not finite, first in log; ") as told,
        mg.draw_on_error() as wrong,
        np.errstate(all="ignore"),
    ):
        loss = (np.log(w * 2.0) * np.exp(w)).sum()
    assert told[0].filename == __file__
    dot = dot_parser.parse(wrong.drawing.source)
    assert [dot.label(name)[0] for name in red(dot)] == ["ln"]
    assert "w" in dot.said()
    assert [label[1] for label in map(dot.label, dot.nodes) if label[0] == "Σ"] == ["output loss"]
    assert np.isnan(loss.item())
    given = needing(np.nan)
    with pytest.warns(RuntimeWarning, match="first in what was given"), mg.draw_on_error():
        loss = given * w[0]


def test_infinities_on_the_way_to_a_finite_result_are_no_failure():
    with warnings.catch_warnings(), np.errstate(all="ignore"), mg.draw_on_error() as wrong:
        warnings.simplefilter("error")
        kept = np.exp(np.log(ones(2) - 1.0))
    assert np.isfinite(kept.data).all()
    assert wrong.drawing is None


# Files, notebooks -----------------------------------------------------------------------------------------------------


@needs_dot
@pytest.mark.parametrize(("name", "begin"), [("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_the_picture_is_written_in_the_format_of_the_ending(tmp_path, name, begin):
    error, _ = failing(lambda: W @ W, path=tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begin)
    assert error.__notes__ == [f"draw_on_error: the graph up to here is in {tmp_path / name}"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["a.dot", "a.gv"])
def test_the_text_is_written_without_graphviz(tmp_path, monkeypatch, name):
    monkeypatch.setattr("microgradopt.picture.render._pure", lambda: None)
    monkeypatch.setenv("PATH", "")
    _, dot = failing(lambda: W @ W, path=str(tmp_path / name))
    assert dot_parser.parse((tmp_path / name).read_text("utf-8")) == dot


def test_where_nothing_can_draw_the_text_is_written_and_the_note_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("microgradopt.picture.render._pure", lambda: None)
    monkeypatch.setenv("PATH", "")
    error, dot = failing(lambda: W @ W, path=tmp_path / "a.svg")
    assert [each.name for each in tmp_path.iterdir()] == ["a.dot"]
    assert dot_parser.parse((tmp_path / "a.dot").read_text("utf-8")) == dot
    assert "a.dot, as text: no Graphviz to draw with" in error.__notes__[0]


class UnprintableError(Exception):
    def __str__(self):
        raise ZeroDivisionError("no words")


def unprintable():
    raise UnprintableError


@pytest.mark.parametrize(
    ("function", "path", "said"),
    [(lambda: W @ W, "no/such/folder/a.dot", "FileNotFoundError"), (unprintable, None, "ZeroDivisionError: no words")],
)
def test_a_failure_to_draw_is_a_note_and_not_in_place_of_the_error(tmp_path, function, path, said):
    with pytest.raises((ValueError, UnprintableError)) as caught, mg.draw_on_error(path and tmp_path / path):
        function()
    assert caught.value.__notes__[0].startswith("draw_on_error: no picture: ")
    assert said in caught.value.__notes__[0]
    assert current_mode.get() is PLAIN


@pytest.mark.parametrize("shell", [None, object()])
def test_a_notebook_shows_the_picture(monkeypatch, shell):
    shown = []
    notebook, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    notebook.get_ipython = lambda: shell
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    with pytest.raises(ValueError, match="matmul") as caught, mg.draw_on_error() as wrong:
        W @ W
    assert shown == ([wrong.drawing] if shell else [])
    assert ("drawn above" in caught.value.__notes__[0]) == bool(shell)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"path": lambda: 1}, TypeError, "path is the name of a file, not function"),
        ({"path": "wrong"}, ValueError, "ends with its format"),
        ({"names": 5}, TypeError, "names is a module, or a dictionary by name, not int"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options, error, said):
    with pytest.raises(error, match=f"draw_on_error: .*{said}"):
        mg.draw_on_error(**options)


# Blocks ---------------------------------------------------------------------------------------------------------------


def test_without_an_error_nothing_is_drawn_and_nothing_is_left_switched_on(tmp_path):
    with mg.draw_on_error(tmp_path / "a.dot") as wrong:
        y = W * 2.0
        assert current_mode.get() is not PLAIN
    assert current_mode.get() is PLAIN
    assert wrong.drawing is None
    assert not list(tmp_path.iterdir())
    assert y.function is np.multiply


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_failure_is_not_drawn(kind):
    with pytest.raises(kind) as caught, mg.draw_on_error() as wrong:
        raise kind
    assert wrong.drawing is None
    assert not hasattr(caught.value, "__notes__")
    assert current_mode.get() is PLAIN


def test_blocks_nest_and_each_draws(tmp_path):
    inner, outer = tmp_path / "inner.dot", tmp_path / "outer.dot"
    with pytest.raises(ValueError, match="matmul") as caught, mg.draw_on_error(outer):  # noqa: PT012
        with contextlib.suppress(KeyError), mg.draw_on_error():
            raise KeyError
        with mg.draw_on_error(inner):
            W @ W
    assert inner.read_text("utf-8") == outer.read_text("utf-8")
    assert [note.split()[-1] for note in caught.value.__notes__] == [str(inner), str(outer)]
    assert current_mode.get() is PLAIN


def test_as_a_decorator_it_draws_each_call(tmp_path):
    @mg.draw_on_error(tmp_path / "a.dot")
    def product(x, depth=0):
        return product(x, depth + 1) if depth < 3 else W @ x

    assert product(np.ones(4)).shape == (3,)
    with pytest.raises(ValueError, match="matmul"):
        product(np.ones(5))
    dot = dot_parser.parse((tmp_path / "a.dot").read_text("utf-8"))
    assert [label[0] for label in before(dot, *red(dot))] == ["W", "x"]
    with pytest.raises(TypeError, match="use `with` in the body"):
        mg.draw_on_error()(lambda: (yield))


def test_threads_have_blocks_of_their_own():
    found, together = {}, threading.Barrier(4)

    def work(size):
        together.wait()
        with contextlib.suppress(ValueError), mg.draw_on_error() as wrong:
            together.wait()
            np.exp(W) @ ones(size, 1)
        together.wait()
        found[size] = dot_parser.parse(wrong.drawing.source), current_mode.get()

    threads = [threading.Thread(target=work, args=(size,)) for size in (5, 6, 7, 8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for size, (dot, mode) in found.items():
        assert dot.label(*red(dot))[1] == f"(3, 4) with ({size}, 1)"
        assert mode is PLAIN
    assert len(found) == 4


def test_results_are_not_kept_alive():
    with mg.draw_on_error() as wrong:
        for _ in range(5):
            y = W * 2.0
        assert [each is y for each in wrong._results.alive()] == [True]
    with contextlib.suppress(KeyError), wrong:
        raise KeyError
    assert dot_parser.parse(wrong.drawing.source).nodes == {}, "y is of the block before"


# Broadcasts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: ones(80, 1) - np.ones(80), "⚠ (80, 1) with (80,) broadcasts to (80, 80)"),
        (lambda: np.add(ones(5), np.ones((4, 1))), "⚠ (5,) with (4, 1) broadcasts to (4, 5)"),
        (lambda: ones(80, 1) - np.ones((1, 80)), "(80, 1) with (1, 80) broadcasts to (80, 80)"),
        (lambda: np.where(np.ones((2, 1), bool), ones(3), 0.0), "⚠ (2, 1) with (3,) broadcasts to (2, 3)"),
        (lambda: ones(8, 4) + ones(4), ""),
        (lambda: ones(8, 1) * np.ones((8, 4)), ""),
        (lambda: ones(8, 1) * 2.0, ""),
        (lambda: ones(8, 1) * NUMBER, ""),
        (lambda: ones(3, 1) @ ones(1, 3), ""),
        (lambda: np.concatenate([ones(3), ones(4)]), ""),
    ],
)
def test_a_result_that_is_larger_than_each_operand_says_what_was_broadcast(function, said):
    dot = dot_parser.parse(mg.draw(function()).source)
    assert [line for line in dot.said() if "broadcasts" in line] == ([said] if said else [])
    brown = [name for name, each in dot.nodes.items() if each["color"] == drawing._BROADCAST["color"]]
    assert [said in dot.label(name) for name in brown] == ([True] if said else [])


def test_a_broadcast_is_marked_in_the_picture_of_an_error_and_of_a_program():
    def loss():
        prediction = ones(80, 1) * 2.0
        squares = (prediction - np.ones(80)) ** 2
        return squares.mean() @ NUMBER

    _, dot = failing(loss)
    assert "⚠ (80, 1) with (80,) broadcasts to (80, 80)" in dot.said()
    f = mg.compile(lambda x, y: (x - y).sum())
    f(np.ones((80, 1)), np.ones(80))
    assert "⚠ (80, 1) with (80,) broadcasts to (80, 80)" in dot_parser.parse(f.draw().source).said()


def test_a_module_with_two_names_has_one_frame():
    model = nn.Sequential(nn.Linear(2, 1, rng=0))
    node = mg.trace(model(np.ones(2)), names={"net": model, "model": model, "layer": model[0]}).outputs[0]
    assert [frame.path for frame in node.frames] == ["net", "net.0"]
