"""Twelve tasks, from the derivative of × to "why is this run stuck?". Each one is a file with a hole to be filled.

    python -m demos.tasks             the list, and what comes next
    python -m demos.tasks start       copies the next task into your folder, and shows it
    python -m demos.tasks check       says what is wrong, or that it is solved
    python -m demos.tasks hint 3      a sentence that helps
    python -m demos.tasks solution 3  a function that solves it

A number chooses a task: start 3, check 3. `check all` checks every task that you have started.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from pathlib import Path

from demos import tasks
from demos.tasks.folder import DEFAULT, SHEETS, Folder, title
from demos.tasks.learner import Complaint

COMMAND = "python -m demos.tasks"


def say(text: str) -> None:
    """Print: long lines wrapped, and green where the terminal shows colours."""
    lines = [line if line.startswith((" ", "picture")) else textwrap.fill(line, 100) for line in text.split("\n")]
    shows = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print("\n".join(lines).replace("✓", "\033[32m✓\033[0m" if shows else "✓"))


def listed(folder: Folder) -> str:
    """All tasks, which of them are solved, and what comes next."""
    solved = folder.solved()
    lines = [f" {'✓' if number in solved else '·'} {number:>2}  {title(number)}" for number in SHEETS]
    return "\n".join(
        ['Twelve tasks, from the derivative of × to "why is this run stuck?"', "", *lines, "", after(folder)]
    )


def called(folder: Folder) -> str:
    """The command as it was given."""
    return COMMAND if folder.path == DEFAULT else f"{COMMAND} --folder {folder.path}"


def after(folder: Folder) -> str:
    """What comes next."""
    number = folder.next()
    if number is None:
        return "All tasks are solved. `python -m demos` lists the demos, which go on from here."
    if not folder.file(number).exists():
        return f"Next: {called(folder)} start"
    return f"Next: fill the hole in {folder.file(number)}, then {called(folder)} check"


def started(folder: Folder, number: int) -> str:
    """Start a task, and show it."""
    file, then = folder.file(number), f"{called(folder)} check {number}"
    if not folder.start(number):
        return f"{file} is there already, and stays as it is. To check it: {then}"
    return f"{tasks.sheet(number)}\nThis is now in {file}. Fill the hole there, then: {then}"


def checked(folder: Folder, numbers: list[int]) -> bool:
    """Check tasks, and say what is wrong."""
    verdicts = [tasks.check(number, folder=folder.path) for number in numbers]
    say("\n\n".join(verdict.text for verdict in verdicts))
    wrong = [number for number, verdict in zip(numbers, verdicts, strict=True) if not verdict]
    say(f"\nA hint: {called(folder)} hint {wrong[0]}" if wrong else f"\n{after(folder)}")
    return all(verdicts)


def main() -> bool:
    """Do what the command line says. False where a check has found something wrong."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=DEFAULT, help=f"where your answers are ({DEFAULT})")
    parser.add_argument("command", nargs="?", default="list", choices=["list", "start", "check", "hint", "solution"])
    parser.add_argument("number", nargs="?", help="of a task; by default the first that is not solved. check: or all")
    given = parser.parse_intermixed_args()
    folder = Folder(given.folder)
    try:
        if given.command == "check" and given.number == "all":
            return checked(folder, [number for number in SHEETS if folder.file(number).exists()])
        number = chosen(folder, given.number)
        if given.command == "list":
            say(listed(folder))
        elif number is None:
            say(after(folder))
        elif given.command == "check":
            return checked(folder, [number])
        elif given.command == "start":
            print(started(folder, number))
        else:
            print(getattr(tasks, given.command)(number))
    except Complaint as wrong:
        say(str(wrong))
        return False
    return True


def chosen(folder: Folder, given: str | None) -> int | None:
    """The task with that number; by default the first that is not solved, None if all are."""
    if given is None:
        return folder.next()
    if not given.isdigit() or int(given) not in SHEETS:
        raise Complaint(f"There is no task {given}: they are numbered from 1 to {len(SHEETS)}.")
    return int(given)


if __name__ == "__main__":
    sys.exit(not main())
