"""A cause that a loss may be stuck for: its signature, and the experiments that confirm or refute it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.case import Case
from microgradopt.diagnosis.changes import Change
from microgradopt.diagnosis.trials import Trial


class Suspicion(NamedTuple):
    """A cause whose signature is there.

    cause: its name. seen: the signature, as it was measured, in words. action: what to do, in words. cures: changes
    that would help if this is the cause. is_proof: whether the signature alone is enough, as for an error in the
    program: no experiment could refute it. is_certain: whether it is no harmless one, whatever else is cured.
    on_validation: whether a cure is judged on the validation data.
    """

    cause: str
    seen: str
    action: str
    cures: tuple[Change, ...] = ()
    is_proof: bool = False
    is_certain: bool = False
    on_validation: bool = False

    def measure(self, trial: Trial) -> float:
        """What a cure is judged by."""
        return trial.validated if self.on_validation else trial.reached

    def is_better(self, trial: Trial, before: Trial) -> bool:
        """Whether a cure comes lower than going on, by more than rounding."""
        here, there = self.measure(before), self.measure(trial)
        return there < here and not math.isclose(here, there, rel_tol=limit.SAME)


Cause = Callable[[Case], Suspicion | None]

_FEW = 6  # things that are listed


def listed(things: Iterable[Any]) -> str:
    """Some of them, and how many more there are."""
    things = list(things)
    return ", ".join(map(str, things[:_FEW])) + (f" and {len(things) - _FEW} more" if len(things) > _FEW else "")
