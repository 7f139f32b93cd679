"""What is said of versions in several places agrees."""

import re
import tomllib
from pathlib import Path

import yaml

import microgradopt as mg

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SUPPORTED = ["3.11", "3.12", "3.13"]


def page(name):
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def test_the_version_is_the_changelog_s_newest_and_the_one_to_cite():
    assert re.findall(r"^## (\S+)", page("changelog"), re.MULTILINE)[0] == mg.__version__
    assert f"version = {{{mg.__version__}}}" in page("cite")


def test_the_pythons_are_those_of_metadata_workflow_and_docs():
    named = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert named == SUPPORTED
    assert PROJECT["requires-python"] == f">={SUPPORTED[0]}"
    assert f"| Python | {', '.join(SUPPORTED)} |" in page("versions")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["run"]
    assert job["strategy"]["matrix"]["python"] == [*SUPPORTED, "3.14"]
    assert any(step.get("run", "").startswith(".ci/run") for step in job["steps"])


def test_the_oldest_numpy_is_the_one_that_docs_name():
    oldest = next(re.fullmatch(r"numpy>=([\d.]+)", name) for name in PROJECT["dependencies"] if "numpy" in name)
    assert f"| NumPy | {oldest[1]} and newer |" in page("versions")


def test_issue_forms_can_be_read():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name != "config.yml":
            assert form["name"]
            assert form["description"]
            ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
            assert len(ids) == len(set(ids))


def test_pre_commit_lints_with_the_version_of_the_tests():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    pinned = {name for hook in hooks for name in hook.get("additional_dependencies", []) if name.startswith("ruff")}
    allowed = next(name for name in PROJECT["optional-dependencies"]["test"] if name.startswith("ruff"))
    assert pinned == {allowed}
