"""What is wrong with an answer: it is compared with the right one, then with known wrong ones, element by element.

A task lists its typical mistakes as functions, each with the sentence that helps. If a learner's numbers are those of
such a function, wherever they are wrong, the learner has most likely made that mistake.
"""

from __future__ import annotations

import base64
import html
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import microgradopt as mg
from demos.tasks.learner import HOLE, Complaint, Function, guarded

Case = Mapping[str, Any]  # arguments, by the names that the sheet gives them
Part = tuple[str, Any]  # what a part of the answer is called, and its value: an array, or a word


@dataclass(frozen=True)
class Task:
    """A task.

    solution: has the name and the arguments of the sheet's function. cases: what it is tried on, one after the other.
    answer: calls a function on a case, and gives the parts of its answer. expected: the right ones, found in another
    way. mistakes: what to say, and the function that is wrong so. use: puts a right answer to use, draws a picture to
    the path, and says what came of it.
    """

    number: int
    solution: Function
    cases: Sequence[Case]
    answer: Callable[[Function, Case], Iterator[Part]]
    expected: Callable[[Case], Mapping[str, Any]]
    mistakes: Mapping[str, Function]
    hint: str
    use: Callable[[Function, Path], str]

    @property
    def name(self) -> str:
        """The name of the function to be written."""
        return self.solution.__name__

    def guarded(self, function: Function) -> Function:
        """A function whose exceptions become complaints."""
        return guarded(function, self.name, f"({', '.join(inspect.signature(self.solution).parameters)})")


@dataclass
class Verdict:
    """solved, or not; text: what to say; picture: its file, if there is one. Shown as its text."""

    solved: bool
    text: str
    picture: Path | None = None

    def __bool__(self) -> bool:
        return self.solved

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        image = base64.b64encode(self.picture.read_bytes()).decode() if self.picture else ""
        shown = f'<br><img alt="the answer in use" src="data:image/png;base64,{image}" width="600">' if image else ""
        return f'<pre style="white-space: pre-wrap">{html.escape(self.text)}</pre>{shown}'


def judged(task: Task, function: Function, picture: Path) -> Verdict:
    """The verdict on an answer that is right, after it has been used. Raises Complaint for one that is not."""
    own = task.guarded(function)
    for case in task.cases:
        _compare(task, own, case)
    picture.parent.mkdir(parents=True, exist_ok=True)
    try:
        story = task.use(own, picture)
    except Complaint as wrong:
        raise Complaint(f"It is right on the tests. Used in earnest it fails:\n{wrong}") from None
    except (ImportError, mg.GraphvizMissingError) as missing:
        story = f"(It was not put to use, for that needs more: {missing})"
    drawn = picture if picture.exists() else None
    shown = f"\npicture: {picture}" if drawn else ""
    return Verdict(True, f"✓ Task {task.number} is solved.\n{story}{shown}", drawn)


def _compare(task: Task, function: Function, case: Case) -> None:
    """Raise Complaint where a function is wrong on a case."""
    right = task.expected(case)
    found = _parts(task, function, case)
    wrong = [name for name in found if not _same(found[name], right[name])]
    if not wrong:
        return
    for text, mistake in task.mistakes.items():
        theirs = _parts(task, task.guarded(mistake), case)
        if all(name in theirs and _same(found[name], theirs[name]) for name in wrong):
            raise Complaint(text)
    before = list(found)[: list(found).index(wrong[0])]
    correct = f"Right so far: {', '.join(before)}.\n" if before else ""
    given = "\n".join(f"    {name} = {_shown(value)}" for name, value in case.items())
    called = f"\nThis was tried with\n{given}" if given else ""
    raise Complaint(correct + difference(wrong[0], found[wrong[0]], right[wrong[0]]) + called)


def _parts(task: Task, function: Function, case: Case) -> dict[str, Any]:
    """The parts of an answer. Raises Complaint where there are none."""
    found = {}
    for name, value in task.answer(function, case):
        if value is Ellipsis:
            raise Complaint(HOLE.format(name=task.name))
        if value is None:
            raise Complaint(f"`{task.name}` gives None as {name}. Does every way through it end with a `return`?")
        found[name] = value if isinstance(value, str) else numbers(name, value)
    return found


def numbers(name: str, value: Any) -> np.ndarray:
    """A value as an array. Raises Complaint where it is none."""
    try:
        return np.array(value, dtype=float)
    except (TypeError, ValueError):
        raise Complaint(f"{name}: an array of numbers is wanted, not {value!r:.60}") from None


def _same(a: Any, b: Any) -> bool:
    """Equal up to rounding, and the errors of central differences."""
    if isinstance(a, str) or isinstance(b, str):
        return bool(np.array_equal(a, b))
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True)


def difference(name: str, found: Any, right: Any) -> str:
    """How a part of an answer differs from the right one, in words."""
    if isinstance(found, str) or isinstance(right, str):
        return f"{name}: {_shown(right) if isinstance(right, str) else 'an array'} is wanted, not {_shown(found)}."
    if found.shape != right.shape:
        return f"{name} has the shape {found.shape}; {right.shape} is wanted."
    differs = ~np.isclose(found, right, rtol=1e-6, atol=1e-9)
    place = tuple(int(i) for i in np.argwhere(differs)[0])
    element = f"Element {list(place)} of {name}" if place else name
    values = f"{right[place]:.6g} is wanted, yours is {found[place]:.6g}"
    if not np.isfinite(found[place]):
        return f"{element} is {found[place]}: is something divided by 0? {right[place]:.6g} is wanted."
    factor = _factor(found, right)
    if factor is not None:
        return f"{name} is {factor:.6g} times what is wanted, in every element ({element}: {values})."
    if np.allclose(found, -right, rtol=1e-6, atol=1e-9):
        return f"{name} has the wrong sign in every element ({element}: {values})."
    if found[place] * right[place] < 0:
        return f"{element} has the wrong sign: {values}."
    return f"{differs.sum()} of {differs.size} elements of {name} are wrong. At {list(place)}, {values}."


def _factor(found: np.ndarray, right: np.ndarray) -> float | None:
    """The number, other than −1, that all elements are off by; None if there is none. One element tells nothing."""
    counts = right != 0
    if counts.sum() < 2 or found[~counts].any():
        return None
    factors = found[counts] / right[counts]
    same = np.ptp(factors) <= 1e-6 * abs(factors[0])
    return float(factors[0]) if same and not np.isclose(factors[0], -1) else None


def _shown(value: Any) -> str:
    """An argument in words."""
    if isinstance(value, np.ndarray):
        return np.array2string(value, separator=", ", precision=4, suppress_small=True, prefix=" " * 8)
    return f'"{value}"' if isinstance(value, str) else str(value)
