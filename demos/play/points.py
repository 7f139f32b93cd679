"""What kind of point is here, which critical point is near, and where is the way out? And why is this run stuck?"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from play.optimizers import Settings
from play.trajectory import training_of

from microgradopt import Objective, critical

BUDGET = 2_400  # updates of all experiments together, 100 in each: some seconds at most


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is found at a point: the point itself, the critical point Newton's method leads to, and the way out.

    way_from: the point that the way out starts at.
    """

    here: critical.CriticalPoint
    nearest: critical.CriticalPoint | None
    way: critical.Escape | None
    way_from: critical.CriticalPoint


def judge(objective: Objective, theta: np.ndarray) -> Verdict:
    """Classify θ, search the critical point near it, and the way out of that, or of θ where there is none.

    With many parameters no critical point is searched: Newton's method takes too long for a click.
    """
    here = critical.classify(objective, theta)
    found = critical.find(objective, [theta], max_iter=100).points if objective.n == 2 else []
    nearest = found[0] if found else None
    start = here if nearest is None else nearest
    try:
        return Verdict(here, nearest, start.escape(), start)
    except ValueError:  # there is none to be found
        return Verdict(here, nearest, None, start)


@functools.lru_cache(maxsize=32)
def diagnosis_of(settings: Settings) -> critical.Diagnosis:
    """Why the loss is where it is at the end of the run: causes, each tried on a copy."""
    return critical.diagnose(training_of(settings), budget=BUDGET)
