"""Twelve tasks that turn green, from the derivative of × to "why is this run stuck?": ``python -m demos.tasks``.

In a notebook, ``from demos.tasks import check, hint, sheet, solution``. Then ``print(sheet(1))`` shows a task, and
``check(1, function)``, in the last line of a cell, checks a function that was written there.

How a task is made: ``sheets/`` has what the learner sees. ``engine.py``, ``updates.py`` and ``surface.py`` have the
answers, the tests and the typical mistakes. ``checking.py`` compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from demos.tasks.folder import DEFAULT, SHEETS, Folder
from demos.tasks.learner import Complaint, Function, load, told

if TYPE_CHECKING:
    from demos.tasks.checking import Task, Verdict

__all__ = ["check", "hint", "sheet", "solution"]


def check(number: int, function: Function | None = None, folder: Path | str = DEFAULT) -> Verdict:
    """Whether a task is solved, and if not, what is wrong. A notebook shows the answer by itself.

    function: the learner's; by default that of the task's file in the folder. The folder keeps what is solved, and gets
    the picture of a solved task.
    """
    from demos.tasks.checking import Verdict, judged

    task, kept = _task(number), Folder(Path(folder))
    try:
        written = load(kept.file(number), task.name) if function is None else function
        verdict = judged(task, written, kept.picture(number))
    except Complaint as wrong:
        return Verdict(False, f"· Task {number} is not solved yet.\n{wrong}")
    try:
        kept.note(number)
    except Complaint as trouble:
        verdict.text += f"\n{trouble}"
    return verdict


def sheet(number: int) -> str:
    """The text of a task, with its hole."""
    return _known(number).read_text(encoding="utf-8")


def hint(number: int) -> str:
    """A sentence that helps."""
    return _task(number).hint


def solution(number: int) -> str:
    """A function that solves a task, as code."""
    return told(_task(number).solution)


def _known(number: int) -> Path:
    if number not in SHEETS:
        raise Complaint(f"There is no task {number}: they are numbered from 1 to {len(SHEETS)}.")
    return SHEETS[number]


def _task(number: int) -> Task:
    """What is known of a task. That loads NumPy and the library, which a list of the tasks can do without."""
    _known(number)
    from demos.tasks import engine, surface, updates

    return {task.number: task for module in (engine, updates, surface) for task in module.TASKS}[number]
