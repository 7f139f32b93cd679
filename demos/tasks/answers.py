"""What the tasks have in common: answers of one call, and pictures."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demos.tasks.checking import Case, Part
from demos.tasks.learner import Complaint, Function
from microgradopt import plots


def called(*names: str) -> Any:
    """An answer that is what the function returns: one value, or a pair."""

    def answer(function: Function, case: Case) -> Iterator[Part]:
        result = function(*copy.deepcopy(list(case.values())))
        yield from zip(names, pair(result, names) if len(names) > 1 else (result,), strict=True)

    return answer


def pair(result: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """What was returned, as the two values that are wanted. A hole stays one."""
    if result is Ellipsis or result is None:
        return result, result
    if not isinstance(result, tuple | list) or len(result) != 2:
        wanted = f"Two values are wanted, {' and '.join(names)}: `return first, second`."
        raise Complaint(f"{wanted} Yours is one {type(result).__name__}.")
    return tuple(result)


def saved(figure: Any, picture: Path) -> None:
    """Save a figure, and forget it."""
    figure.savefig(picture, dpi=110)
    plots.close(*figure.axes)
