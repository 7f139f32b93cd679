"""Every block of Python in the README and the docs runs; a comment "# → 4.0" promises that output."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import microgradopt

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    module.name
    for module in pkgutil.walk_packages(microgradopt.__path__, "microgradopt.")
    if "__main__" not in module.name
]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_code_blocks_run_and_print_what_they_say(page, capsys):
    code = "\n".join(blocks(page))
    exec(compile(code, str(page), "exec"), {"__name__": "docs"})
    printed = capsys.readouterr().out.splitlines()
    for promise in re.findall(r"# → (.+)$", code, re.MULTILINE):
        assert promise in printed, f"{page.name} promises {promise!r}, and printed {printed}"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_the_reference_names_every_public_name():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"microgradopt\.(\w+)$", text, re.MULTILINE))
    modules = {"critical", "curvature", "nn", "optim", "rules", "training"}
    assert set(microgradopt.__all__) - modules - {"Objective"} <= documented


def test_the_two_commands_of_the_readme_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in text.splitlines() if line.startswith("    python3 -m venv")]
    assert [command.split()[-1] for command in commands] == ["demos/digits.py", "pytest"]
