"""Every block of Python in the README and the docs runs; a comment "# → 4.0" promises that output."""

import doctest
import importlib
import inspect
import pkgutil
import re
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import microgradopt
import microgradopt as mg
from microgradopt.rules import KNOWN

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    module.name
    for module in pkgutil.walk_packages(microgradopt.__path__, "microgradopt.")
    if "__main__" not in module.name
]
NEEDS = {
    "microgradopt.bridges.jax": "jax",
    "microgradopt.bridges.scipy": "scipy",
    "microgradopt.bridges.torch": "torch",
    "microgradopt.program.native.math": "numba",
}


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_code_blocks_run_and_print_what_they_say(page, capsys):
    code, known = "\n".join(blocks(page)), dict(KNOWN)
    try:
        exec(compile(code, str(page), "exec"), {"__name__": "docs"})
    finally:  # some chapters add rules
        KNOWN.clear()
        KNOWN.update(known)
    printed = capsys.readouterr().out.splitlines()
    coming = iter(printed)  # each promise is looked for behind the one before
    for promise in re.findall(r"# → (.+)$", code, re.MULTILINE):
        assert promise in coming, f"{page.name} promises {promise!r} next, and printed {printed}"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    module = importlib.import_module(name)  # which may add rules
    known = dict(KNOWN)
    try:
        failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    finally:  # some examples add rules
        KNOWN.clear()
        KNOWN.update(known)
    assert failed == 0


def public():
    for place in (mg, mg.nn, mg.nn.functional, mg.nn.losses, mg.nn.init, mg.optim, mg.optim.schedules, mg.curvature,
                  mg.critical, mg.derivatives, mg.graph, mg.rules, mg.training, mg.plots):  # fmt: skip
        names = getattr(place, "__all__", None) or [name for name in vars(place) if not name.startswith("_")]
        for name in names:
            found = getattr(place, name)
            ours = callable(found) and getattr(found, "__module__", "").startswith("microgradopt")
            if ours and (name in getattr(place, "__all__", []) or found.__module__.startswith(place.__name__)):
                yield f"{found.__module__}.{found.__name__}", found


def test_every_public_name_says_what_it_is_and_all_that_does_something_has_an_example():
    """Results (a NamedTuple, a frozen dataclass) and errors are shown where they are made, bases in what they carry."""
    missing = set()
    for name, found in public():
        text = inspect.getdoc(found) or ""
        assert text, name
        is_result = isinstance(found, type) and (
            issubclass(found, tuple | BaseException) or not inspect.isfunction(found.__init__) or is_dataclass(found)
        )
        if ">>>" not in text and not is_result and "Base of" not in text:
            missing.add(name)
    assert not missing


def test_the_reference_names_every_public_name():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"microgradopt\.(\w+)$", text, re.MULTILINE))
    modules = {
        "bridges",
        "critical",
        "curvature",
        "derivatives",
        "diagnosis",
        "graph",
        "nn",
        "optim",
        "page",
        "picture",
        "plots",
        "program",
        "rules",
        "training",
    }
    assert set(microgradopt.__all__) - modules - {"Objective"} <= documented


def listed(caption):
    """The pages in a table of contents of the front page."""
    contents = re.findall(rf"caption: {caption}\n(.*?)```", (ROOT / "docs" / "index.md").read_text("utf-8"), re.DOTALL)
    return re.findall(r"^(\w+)$", contents[0], re.MULTILINE)


INSIDE = [name for name in listed("How it works inside") if name != "extend"]
CHAPTERS = [name for name in listed("The lecture") if name != "claims"] + ["stuck", "scipy", "other_machines"] + INSIDE


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_says_what_it_is_for_and_has_a_picture_exercises_with_solutions_and_sources(name):
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    opening = re.split(r"^#+ |^```", text, flags=re.MULTILINE)[1]
    assert re.search(r"At\s+the\s+end\s+of\s+this\s+chapter\s+you|On this page you", opening)
    pictures = re.findall(r"^!\[[^\]]+\]\(([^)]+)\)", text, re.MULTILINE)
    assert pictures, "one with words for those who cannot see it"
    assert all((ROOT / "docs" / picture).exists() for picture in pictures)
    exercises, sources = text.split("## Exercises")[1].split("## Sources")
    assert re.findall(r"^\*\*(\d)\.\*\* ", exercises, re.MULTILINE) == ["1", "2", "3"]
    solutions = re.findall(r"^:::\{dropdown\} Solution\n(.*?)^:::$", exercises, re.DOTALL | re.MULTILINE)
    assert len(solutions) == 3
    assert all("```python\n" in solution for solution in solutions)
    assert sources.count("\n- ") >= 2


@pytest.mark.parametrize("name", INSIDE)
def test_a_chapter_about_the_inside_shows_the_code(name):
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert text.count("```{literalinclude} ../") >= 2


def test_every_number_of_a_claim_is_what_its_demo_printed():
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (L\d+) \|[^|]*\|(.*)\| ([^|]*) \|$", text, re.MULTILINE)
    assert [claim for claim, _, _ in rows] == [f"L{i}" for i in range(1, 19)]
    for claim, found, where in rows:
        demos = re.findall(r"\d\d", where.partition(",")[0])
        printed = "".join(
            path.read_text(encoding="utf-8") for d in demos for path in (ROOT / "docs" / "results").glob(f"{d}_*.txt")
        )
        for number in re.findall(r"`([^`]+)`", found):
            assert number in printed, f"{claim}: {number} is not in what {demos} printed"


def test_the_two_commands_of_the_readme_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in text.splitlines() if line.startswith("    python3 -m venv")]
    assert [command.split()[-1] for command in commands] == ["demos/13_digits.py", "pytest"]


# In Chinese -----------------------------------------------------------------------------------------------------------

CHINESE = sorted((ROOT / "docs" / "zh").glob("*.md"))


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.stem)
def test_chinese_code_runs_and_prints_what_it_says(page, capsys):
    test_code_blocks_run_and_print_what_they_say(page, capsys) if blocks(page) else None


def test_every_number_of_a_claim_in_chinese_is_what_its_demo_printed():
    text = (ROOT / "docs" / "zh" / "claims.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (L\d+) \|[^|]*\|(.*)\| (\d\d) \|$", text, re.MULTILINE)
    assert [claim for claim, _, _ in rows] == [f"L{i}" for i in range(1, 19)]
    for claim, found, demo in rows:
        (path,) = (ROOT / "docs" / "results").glob(f"{demo}_*.txt")
        numbers = re.findall(r"`([^`]+)`", found)
        assert numbers, claim
        for number in numbers:
            assert number in path.read_text(encoding="utf-8"), f"{claim}: {number} is not what {demo} printed"


def test_the_chinese_verdicts_are_those_of_the_diagnosis():
    text = (ROOT / "docs" / "zh" / "stuck.md").read_text(encoding="utf-8")
    verdicts = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "microgradopt" / "diagnosis").glob("*.py"))
    assert len(verdicts) >= 30
    said = [f'"{verdict}"' for verdict in verdicts]
    assert not [verdict for verdict in said if verdict not in code.replace("{name} before", "softmax before")]


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.stem)
def test_chinese_names_of_the_library_exist(page):
    """Every ``room.name`` in a page: ``optim.Momentum``, ``critical.classify``."""
    text = page.read_text(encoding="utf-8")
    for room, name in re.findall(r"`(nn|optim|critical|training|plots)\.(\w+)", text):
        assert hasattr(getattr(mg, room), name), f"{room}.{name}"
