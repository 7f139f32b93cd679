"""The learner's folder: the task files, pictures, and `progress.json`, which says what is solved."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

from demos.tasks.learner import Complaint

DEFAULT = Path("microgradopt_tasks")
SHEETS = {int(path.stem[5:7]): path for path in sorted((Path(__file__).parent / "sheets").glob("task_*.py"))}


def title(number: int) -> str:
    """What a task is about: the first line of its sheet, without "Task 1: "."""
    doc = ast.get_docstring(ast.parse(SHEETS[number].read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0].partition(": ")[2].rstrip(".")


class Folder:
    """Where a learner works. It is made when something is written for the first time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.progress = path / "progress.json"

    def file(self, number: int) -> Path:
        """The learner's file of a task."""
        return self.path / SHEETS[number].name

    def picture(self, number: int) -> Path:
        """The picture of a solved task."""
        return self.file(number).with_suffix(".png")

    def start(self, number: int) -> bool:
        """Copy a sheet into the folder. False, and nothing is touched, if the file is there already."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with self.file(number).open("x", encoding="utf-8") as file:
                file.write(SHEETS[number].read_text(encoding="utf-8"))
        except FileExistsError:
            return False
        return True

    def solved(self) -> list[int]:
        """The numbers of the solved tasks. Raises Complaint for a damaged file."""
        if not self.progress.exists():
            return []
        try:
            found = json.loads(self.progress.read_text(encoding="utf-8"))["solved"]
            return sorted(set(SHEETS) & set(found))
        except (ValueError, TypeError, KeyError) as error:
            raise Complaint(
                f"{self.progress} is damaged ({type(error).__name__}). It is left as it is, and so are your answers in "
                f"{self.path}. Give it another name; `python -m demos.tasks check all` then finds again what is solved."
            ) from None

    def next(self) -> int | None:
        """The first task that is not solved."""
        solved = self.solved()
        return next((number for number in SHEETS if number not in solved), None)

    def note(self, number: int) -> None:
        """Note a task as solved. The file is replaced at once, so that it is always whole."""
        solved = sorted({*self.solved(), number})
        self.path.mkdir(parents=True, exist_ok=True)
        new = self.progress.with_suffix(".new")
        new.write_text(json.dumps({"solved": solved}) + "\n", encoding="utf-8")
        os.replace(new, self.progress)
