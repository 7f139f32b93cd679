"""The tasks of `python -m demos.tasks`: right answers go green, wrong ones are told what is wrong, nothing is lost."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demos import tasks
from demos.tasks import __main__ as terminal
from demos.tasks import checking, engine, surface, updates
from demos.tasks.folder import SHEETS, Folder, title
from demos.tasks.learner import Complaint
from microgradopt import critical

for package in ("sklearn", "matplotlib", "tqdm", "tabulate", "joblib"):
    pytest.importorskip(package)

ROOT = Path(__file__).parent.parent
TASKS = [task for module in (engine, updates, surface) for task in module.TASKS]


@pytest.fixture(autouse=True)
def _without_windows(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")


def filled(number, code):
    """A sheet with code in place of its hole."""
    hole = r"    return \{.*?\n    \}" if number == 12 else r"    return \.\.\.[^\n]*"
    lines = "\n".join(f"    {line}" for line in code.split("\n"))
    text, count = re.subn(hole, lambda _: lines, tasks.sheet(number), flags=re.DOTALL)
    assert count == 1, "one hole"
    return text


def answered(folder, number, code):
    """The verdict on a sheet that was filled in a learner's folder."""
    Folder(folder).start(number)
    Folder(folder).file(number).write_text(filled(number, code), encoding="utf-8")
    return tasks.check(number, folder=folder)


# Right answers --------------------------------------------------------------------------------------------------------


def test_there_are_twelve():
    assert list(SHEETS) == [task.number for task in TASKS] == list(range(1, 13))
    assert (title(1), title(12)) == ("the derivative of ×", "why is this run stuck?")


@pytest.mark.parametrize("number", SHEETS)
def test_its_solution_goes_green(number, tmp_path):
    """As a learner would paste it; and the example under the sheet is true of it."""
    folder = Folder(tmp_path / "new")
    folder.start(number)
    code = f"import numpy as np\n\n{tasks.solution(number)}\n"
    folder.file(number).write_text(code, encoding="utf-8")
    verdict = tasks.check(number, folder=folder.path)
    assert verdict, verdict.text
    assert verdict.text.startswith(f"✓ Task {number} is solved.\n")
    assert len(verdict.text.splitlines()) >= 2, "what it was used for"
    assert folder.solved() == [number]
    if number not in (1, 3):
        assert verdict.picture.read_bytes().startswith(b"\x89PNG")
        assert str(verdict.picture) in verdict.text
        assert '<img alt="the answer in use" src="data:image/png;base64,' in verdict._repr_html_()


@pytest.mark.parametrize("number", range(1, 12))
def test_what_the_sheet_says_is_right_is_right(number, tmp_path, capsys):
    text = tasks.sheet(number)
    path = tmp_path / "sheet.py"
    path.write_text(text.replace("if __name__", f"{tasks.solution(number)}\n\nif __name__"), encoding="utf-8")
    runpy.run_path(str(path), run_name="__main__")
    printed = numbers(re.sub(r"array\(|np\.str_", "", capsys.readouterr().out))
    said = numbers(re.search("# right: (.*)", text).group(1).partition(" or ")[0])
    assert np.abs(printed) == pytest.approx(np.abs(said), abs=1e-3) if number == 11 else printed == said


def numbers(text):
    return [float(x) for x in re.findall(r"-?\d+\.?\d*", text)]


def test_an_answer_written_in_another_way(tmp_path):
    """In place, with a list of all gradients, of another sign, longer: right all the same."""
    assert answered(tmp_path, 5, "theta -= lr * g\nreturn theta")
    assert answered(
        tmp_path,
        7,
        "all = state.setdefault('all', [])\nall.append(g)\nreturn theta - lr * g / np.std([*all, *-np.array(all)], 0)",
    )
    assert answered(
        tmp_path, 11, "w, V = np.linalg.eigh(H)\nif w[0] > 0: return 'minimum', None\n"
        "return ('saddle' if w[-1] > 0 else 'maximum'), -3 * V[:, 0]"
    )  # fmt: skip


# Wrong answers --------------------------------------------------------------------------------------------------------

ADAM = """t = state["t"] = state.get("t", 0) + 1
m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
v = state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g**2
"""
LOOPS = "for k in {}:\n    for i, slope in calls[k]:\n        gradient[i] {}\nreturn gradient"
NEWEST_FIRST = "range(len(calls) - 1, -1, -1)"
A, B, C = (
    '"A": ("learning rate too large", "lr / 10")',
    '"B": ("saddle point", "escape")',
    '"C": ("saddle point", "escape")',
)

WRONG = {  # a task's hole, filled wrongly; and a few words of the hint
    1: [
        ("return y, x", "without g"),
        ("return g * x, g * y", "the *other* factor"),
        ("return g, g", "the rule of +"),
        ("return g * y, x", "without g"),
        ("return g * y, -g * x", "∂L/∂y has the wrong sign in every element"),
        ("return 2 * g * y, g * x", "∂L/∂x is 2 times what is wanted, in every element"),
        ("return g * y * np.sign(x), g * x", "Element [2] of ∂L/∂x has the wrong sign: 1 is wanted, yours is -1."),
        ("return g * y + g * x", "Two values are wanted"),
    ],
    2: [
        ("return 1 - out**2", "without g"),
        ("return g / np.cosh(out) ** 2", "tanh a second time"),
        ("return g * (1 - out)", "The square is missing"),
        ("return g * (1 - out) * out", "is wanted, yours is"),
        ("return g * out", "4 of 4 elements of ∂L/∂x are wrong. At [0], 0.96 is wanted, yours is 0.9."),
    ],
    3: [
        ("return g", "Sum the rows"),
        ("return np.mean(g, axis=0)", "It is to be the sum"),
        ("return np.sum(g, 1)", "summed over the units"),
        ("return g.sum()", "summed over everything"),
        ("return g.sum(axis=0, keepdims=True)", "has the shape (1, 2); (2,) is wanted"),
    ],
    4: [
        (LOOPS.format(NEWEST_FIRST, "= gradient[k] * slope"), "overwritten"),
        (LOOPS.format("range(len(calls))", "+= gradient[k] * slope"), "oldest"),
        (LOOPS.format(NEWEST_FIRST, "+= slope"), "the slopes alone"),
        (LOOPS.format(NEWEST_FIRST, "+= gradient[k]"), "At [0], 24 is wanted, yours is 4."),
    ],
    5: [
        ("return theta + lr * g", "uphill"),
        ("return -g * lr", "the movement −η g alone"),
        ("return theta - g", "learning rate is missing"),
        ("return theta - lr * np.sign(g)", "of the new θ are wrong"),
    ],
    6: [
        ('m = state["m"] = lam * state.get("m", 0) + g\nreturn theta - lr * m', "PyTorch's form"),
        ('m = state["m"] = lam * state.get("m", 0) - lr * g\nreturn theta - m', "uphill"),
        ('m = lam * state.get("m", 0) - lr * g\nreturn theta + m', "not kept"),
        ('m = state["m"] = lam * state.get("m", 0) - (1 - lam) * lr * g\nreturn theta + m', "only 1 − λ"),
        ('m = state["m"] = state.get("m", 0) - lr * g\nreturn theta + m', "Right so far: θ after update 1."),
    ],
    7: [
        ('a = state.setdefault("a", [])\na.append(g**2)\nreturn theta - lr * g / np.mean(a, 0)', "not by σ"),
        ('a = state.setdefault("a", [])\na.append(g**2)\nreturn theta - lr * g / np.sqrt(np.sum(a, 0))', "Adagrad"),
        ('a = state.setdefault("a", [])\na.append(abs(g))\nreturn theta - lr * g / np.mean(a, 0)', "mean of |g|"),
        ('a = state.setdefault("a", [])\na.append(g**2)\nreturn theta - lr * g / np.mean(a) ** 0.5', "one σ for all"),
        ('a = state["a"] = state.get("a", 0) + g**2\nreturn theta - lr * g / np.sqrt(a * 0)', "divided by 0"),
    ],
    8: [
        ('v = state["v"] = alpha * state.get("v", 0) + (1 - alpha) * g**2\nreturn theta - lr * g / v**0.5', "PyTorch"),
        ('v = state["v"] = state.get("v", g**2) * (1 - alpha) + alpha * g**2\nreturn theta - lr * g / v**0.5', "exch"),
        ('a = abs(g)\ns = state["s"] = a + alpha * (state.get("s", a) - a)\nreturn theta - lr * g / s', "|g|"),
        ('v = state["v"] = alpha * state.get("v", g**2) + (1 - alpha) * g**2\nreturn theta - lr * g / v', "not by σ"),
        ('v = state.get("v", g**2) * alpha + (1 - alpha) * g**2\nreturn theta - lr * g / v**0.5', "θ after update 2"),
    ],
    9: [
        (f"{ADAM}return theta - lr * m / (v**0.5 + eps)", "bias correction is missing"),
        (f"{ADAM}return theta - lr * m / (1 - beta1**t) / ((v / (1 - beta2**t) + eps) ** 0.5)", "inside of the root"),
        (f"{ADAM}return theta - lr * m / (1 - beta1) / ((v / (1 - beta2)) ** 0.5 + eps)", "not by 1 − βᵗ"),
        (f"{ADAM}return theta - lr * m / (1 - beta1**t) / (v**0.5 + eps)", "v is not"),
        (f"{ADAM}return theta - lr * g / ((v / (1 - beta2**t)) ** 0.5 + eps)", "θ after update 2"),
    ],
    10: [
        ("return peak * min(t / warmup, (warmup / max(t, 1)) ** 0.5)", "The first rate is 0"),
        ("s = t + 1\nreturn peak * s / warmup if s <= warmup else peak / s**0.5", "jumps down"),
        ("s = t + 1\nreturn peak * min(s / warmup, 1)", "stays at its peak"),
        ("s = t + 1\nreturn peak * min(s / warmup, warmup / s)", "The root is missing"),
        ("s = t + 1\nreturn peak * (s / warmup) ** 0.5", "is wanted, yours is"),
    ],
    11: [
        ("w, V = np.linalg.eigh(H)\nreturn 'saddle', V[:, -1]", "*highest* eigenvalue"),
        ("w, V = np.linalg.eigh(H)\nreturn 'saddle', V[0]", "This is a row"),
        ("w, V = np.linalg.eigh(H)\nreturn ('minimum' if w[0] > 0 else 'saddle'), V[:, 0]", "every way leads down"),
        ("return 'saddle', np.eye(len(H))[H.diagonal().argmin()]", "diagonal"),
        ("return 'saddle point', np.linalg.eigh(H)[1][:, 0]", '"saddle" is wanted, not "saddle point"'),
    ],
    12: [
        (f'return {{"A": ("local minimum", "train longer"), {B}, {C}}}', "A flat loss is not a small gradient"),
        (f'return {{"A": ("learning rate too large", "train longer"), {B}, {C}}}', '"train longer" was tried'),
        (f'return {{{A}, "B": ("local minimum", "lr / 10"), {C}}}', "λ_min is −1.3"),
        (f"return {{{A}, {B}, {C}}}", "Run C is not at a saddle point"),
        (f'return {{{A}, "B": ("saddle", "escape"), {C}}}', '"saddle" is not in the list'),
        (f"return {{{A}}}", '"B" is not there'),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code", "words"), [(number, *case) for number, cases in WRONG.items() for case in cases]
)
def test_a_wrong_answer_is_told_what_is_wrong(number, code, words, tmp_path):
    verdict = answered(tmp_path, number, code)
    assert not verdict
    assert words in verdict.text
    assert Folder(tmp_path).solved() == []


def test_every_task_has_its_typical_mistakes():
    """Each of the table's wrong functions is recognised by its own sentence."""
    for task in TASKS:
        assert len(task.mistakes) >= 3
        for hint, wrong in task.mistakes.items():
            with pytest.raises(Complaint) as complaint:
                checking.judged(task, wrong, Path("nowhere.png"))
            assert str(complaint.value) == hint


@pytest.mark.parametrize("number", SHEETS)
def test_an_untouched_sheet_is_a_hole_to_be_filled(number, tmp_path):
    Folder(tmp_path).start(number)
    verdict = tasks.check(number, folder=tmp_path)
    assert not verdict
    assert f"Fill the hole: put your own code in the place of the `...` in the function `{TASKS[number - 1].name}`" in (
        verdict.text
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("return theta - lr * (g", "Python cannot read line 21 of"),
        ("z = lr * g\nreturn theta - zz", "Line 22 of task_05_descent.py raises NameError"),
        ("return theta - state['m']", "Line 21 of task_05_descent.py raises NameError: name 'state'"),
        ("return {}['m']", 'state.get("m", 0.0)'),
        ("return 1 / 0", "raises ZeroDivisionError: division by zero"),
        ("return descend(theta, g, lr)", "calls itself without end"),
        ("import sys\nsys.exit()", "raises SystemExit"),
        ("raise KeyboardInterrupt", "You stopped it. Line 21 of"),
        ("theta - lr * g", "gives None as the new θ"),
        ("return theta - lr * ...", "Fill the hole"),
        ("return np.inf * g", "is something divided by 0?"),
        ("return 'theta'", 'an array is wanted, not "theta"'),
        ("return (theta - lr * g)[:2]", "has the shape (2,); (3,) is wanted"),
        ("return theta - lr * g[:2]", "Line 21 of task_05_descent.py raises ValueError"),
    ],
)
def test_broken_code_is_told_its_line(code, words, tmp_path):
    """In one sentence, with the learner's line, and nothing of ours."""
    verdict = answered(tmp_path, 5, code)
    assert not verdict
    assert words in verdict.text
    assert "Traceback" not in verdict.text
    assert "checking.py" not in verdict.text


def test_files_that_do_not_run(tmp_path):
    folder = Folder(tmp_path)
    assert "There is no file" in tasks.check(5, folder=tmp_path).text
    for text, words in (
        ("import nosuchmodule", "Line 1 of task_05_descent.py raises ModuleNotFoundError"),
        ("def other(): pass", "There is no function `descend` in"),
    ):
        folder.file(5).write_text(text, encoding="utf-8")
        assert words in tasks.check(5, folder=tmp_path).text
    folder.file(5).write_bytes("# é".encode("latin-1"))
    assert "not saved as UTF-8" in tasks.check(5, folder=tmp_path).text


def test_what_is_right_on_the_tests_alone_fails_in_use(tmp_path):
    code = "if theta.size == 2: return theta / 0\nreturn theta - lr * g"
    assert "Used in earnest it fails:\nafter 1 updates θ is not finite" in answered(tmp_path, 5, code).text


# In a notebook --------------------------------------------------------------------------------------------------------


def test_a_function_of_a_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tasks.check(1, lambda g, x, y: (g * y, g * x))
    assert json.loads(Path("microgradopt_tasks/progress.json").read_text()) == {"solved": [1]}
    wrong = tasks.check(2, lambda g, out: 1 - out**2)
    assert repr(wrong) == f"· Task 2 is not solved yet.\n{next(iter(TASKS[1].mistakes))}"
    assert "without g" in wrong._repr_html_()
    assert "It was called as `tanh_rule(g, out)`" in tasks.check(2, lambda out: 1 - out**2).text
    cell = {}
    exec(compile("def f(g, out):\n    return g * nothing", "<cell 3>", "exec"), cell)
    assert "Line 2 of <cell 3> raises NameError: name 'nothing' is not defined." in tasks.check(2, cell["f"]).text
    assert "by 1" not in tasks.hint(3)
    with pytest.raises(Complaint, match="no task 13"):
        tasks.sheet(13)


# The folder -----------------------------------------------------------------------------------------------------------


def test_what_was_written_is_never_overwritten(tmp_path):
    folder = Folder(tmp_path / "mine")
    assert folder.start(1)
    folder.file(1).write_text("my work", encoding="utf-8")
    assert not folder.start(1)
    assert folder.file(1).read_text(encoding="utf-8") == "my work"


def test_progress_is_kept_whole(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    assert (folder.solved(), folder.next()) == ([], 1)
    for number in (2, 1, 2):
        folder.note(number)
    assert (folder.solved(), folder.next()) == ([1, 2], 3)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            folder.note(3)
    assert folder.solved() == [1, 2]


@pytest.mark.parametrize("damage", ["", '{"solved": [1', "[1, 2]", '{"solved": 3}', '{"done": [1]}'])
def test_a_damaged_progress_file_is_left_alone(damage, tmp_path):
    folder = Folder(tmp_path)
    folder.progress.write_text(damage, encoding="utf-8")
    with pytest.raises(Complaint, match="is damaged"):
        folder.solved()
    verdict = answered(tmp_path, 5, "return theta - lr * g")
    assert verdict
    assert "is damaged" in verdict.text
    assert folder.progress.read_text(encoding="utf-8") == damage


# The command ----------------------------------------------------------------------------------------------------------


def command(cwd, *options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    called = [sys.executable, "-m", "demos.tasks", *options]
    done = subprocess.run(called, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_a_learner_at_a_terminal(tmp_path):
    code, listed = command(tmp_path)
    assert code == 0
    assert [line[:4] for line in listed.splitlines() if line.startswith(" ·")] == [f" · {n:>2}"[:4] for n in SHEETS]
    assert listed.endswith("Next: python -m demos.tasks start\n")
    assert not list(tmp_path.iterdir()), "a list writes nothing"

    code, shown = command(tmp_path, "start")
    file = tmp_path / "microgradopt_tasks" / "task_01_times.py"
    assert code == 0
    assert file.read_text(encoding="utf-8") in shown

    code, verdict = command(tmp_path, "check")
    assert code == 1
    assert "Fill the hole" in verdict
    file.write_text(filled(1, "return g * y, g * x"), encoding="utf-8")
    code, verdict = command(tmp_path, "check")
    assert code == 0
    assert verdict.startswith("✓ Task 1 is solved.\n")
    assert verdict.endswith("Next: python -m demos.tasks start\n")

    code, again = command(tmp_path, "start", "1")
    assert "is there already, and stays as it is" in again
    code, listed = command(tmp_path)
    assert " ✓  1  the derivative of ×\n ·  2 " in listed


def test_other_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def said(*options):
        monkeypatch.setattr(sys, "argv", ["tasks", *options])
        return terminal.main(), capsys.readouterr().out

    assert "def tanh_rule(g, out):" in said("solution", "2")[1]
    assert "Square `out`" in said("hint", "2")[1]
    assert said("check", "13") == (False, "There is no task 13: they are numbered from 1 to 12.\n")
    folder = Folder(tmp_path / "mine")
    for number in (3, 5):
        folder.start(number)
    folder.file(5).write_text(filled(5, "return theta - lr * g"), encoding="utf-8")
    right, verdicts = said("--folder", "mine", "check", "all")
    assert not right
    assert "· Task 3 is not solved yet." in verdicts
    assert "✓ Task 5 is solved." in verdicts
    for number in SHEETS:
        folder.note(number)
    assert "All tasks are solved." in said("--folder", "mine")[1]
    folder.progress.write_text("?", encoding="utf-8")
    assert "progress.json is damaged" in said("--folder", "mine")[1]


# The runs of task 12 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", surface.RIGHT)
def test_what_the_sheet_says_of_the_runs(name):
    """The table is measured; the causes are those that the library finds by itself; one cure of four helps."""
    run = surface.stuck(name)
    values = np.linalg.eigvalsh(run.objective.hessian())
    measured = [run.loss[-200], run.value(), run.gradient_norm[-1], values[0], values[-1], 2 / run.optimizer.lr]
    (row,) = re.findall(rf"^    {name} +(.*)", tasks.sheet(12), re.MULTILINE)
    said = row.split()
    assert measured == pytest.approx([float(x) for x in said[:6]], rel=0.05, abs=0.06)
    before = run.objective.theta
    first = run.train(1).objective.theta - before
    second = run.train(1).objective.theta - before - first
    if name != "B":
        cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
        assert cosine == pytest.approx(float(said[6]), abs=0.01)
        assert critical.diagnose(surface.stuck(name)).verdict == surface.RIGHT[name][0]
    else:
        assert np.abs(first).max() < 1e-12
    helped = [cure for cure in surface.CURES if surface.tried(name, cure)[1] < surface.tried(name, cure)[0] / 2]
    assert helped == [surface.RIGHT[name][1]]
