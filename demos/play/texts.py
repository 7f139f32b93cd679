"""What the playground says, in words that need no more than a first lecture; all numbers are the library's."""

from __future__ import annotations

import numpy as np
from play.points import Verdict
from play.trajectory import Run

from microgradopt import critical
from microgradopt.critical.point import DEGENERATE, MINIMUM, NOT_CRITICAL

NAMES = {DEGENERATE: "degenerate point"}


def outcome(run: Run) -> str:
    """What came of a run, in a sentence or two."""
    loss, norm, s = run.history.loss, run.history.gradient_norm, run.settings
    made = f"{s.optimizer} with η = {s.lr:g}, {len(run.steps)} updates"
    if run.stopped:
        helps = (
            "This surface has no lowest point" if s.surface == "Monkey saddle" else "A smaller learning rate may help"
        )
        return f"{made}: the loss goes from {loss[0]:.5g} to {loss[-1]:.2g}. {run.stopped} {helps}."
    end = "" if len(run.thetas[-1]) > 2 else f" at ({run.thetas[-1][0]:.5g}, {run.thetas[-1][1]:.5g})"
    return f"{made}: the loss goes from {loss[0]:.5g} to {loss[-1]:.5g}{end}; the gradient norm is {norm[-1]:.3g}."


# A point that was clicked ---------------------------------------------------------------------------------------------


def verdict_text(verdict: Verdict) -> str:
    """What was found where one clicked, as Markdown."""
    parts = [point_text("The point clicked", verdict.here)]
    if verdict.here.kind == NOT_CRITICAL and verdict.nearest is not None:
        parts.append(point_text("The critical point near it", verdict.nearest))
    elif verdict.here.kind == NOT_CRITICAL and len(verdict.here.theta) == 2:
        parts.append("Newton's method, started here, finds no critical point.")
    return "\n\n".join([*parts, way_text(verdict)])


def point_text(title: str, point: critical.CriticalPoint) -> str:
    """One point: where, what kind, how the loss curves."""
    x, y = np.round(point.theta[:2], 12) + 0.0  # no 1e-165, and no −0
    where = f" ({x:.5g}, {y:.5g})" if len(point.theta) == 2 else ""
    if point.kind == NOT_CRITICAL:
        rests = f"the gradient is not 0 (its norm is {point.gradient_norm:.3g}), so an update still moves from here"
        return f"**{title}**{where}: **{point.kind}**, loss {point.value:.5g}; {rests}. {curvature_text(point)}"
    sure = "certified" if point.certified else "not certified"
    return f"**{title}**{where}: **{point.kind}** ({sure}), loss {point.value:.5g}. {curvature_text(point)}"


def curvature_text(point: critical.CriticalPoint) -> str:
    """In how many directions the loss curves up and down, and the eigenvalues that say so."""
    counts = {"down": point.negative, "not at all": point.zero, "up": point.positive}
    told = " and ".join(f"{how} along {count}" for how, count in counts.items() if count)
    silent = ". That does not decide what kind of point it is" if point.kind == DEGENERATE else ""
    values = [f"{x:.5g}" for x in point.eigenvalues]
    listed = ", ".join(values if len(values) <= 6 else [*values[:3], "...", *values[-3:]])
    return f"The loss curves {told} of {point.n} directions (eigenvalues of the Hessian: {listed}){silent}."


def way_text(verdict: Verdict) -> str:
    """The way out, or why there is none."""
    way, start = verdict.way, verdict.way_from
    if way is None and start.kind == MINIMUM:
        return "**No way out**: around a minimum the loss is nowhere lower."
    if way is None and start.kind == NOT_CRITICAL:
        return "**No way out is needed**: the gradient leads down from here."
    if way is None:
        return "**No way out** was found."
    origin = "point clicked" if start is verdict.here else NAMES.get(start.kind, start.kind)
    if way.ended:
        return (
            f"**Way out** from the {origin}: **no lowest point was found that way.** The loss falls as far as it was "
            "followed, along the arrow, and is still falling there: it looks unbounded."
        )
    shown = "" if len(start.theta) == 2 else " The picture shows how much of it lies in its plane."
    value = way.value if abs(way.value) > 1e-12 * way.measured else 0.0  # less than rounding
    return (
        f"**Way out** from the {origin}: go {way.step:.4g} along the arrow, a direction of curvature "
        f"{way.curvature:.4g}. The loss falls by {way.measured:.5g}, to {value:.5g}; predicted was a fall by "
        f"{way.predicted:.5g}.{shown}"
    )


# A diagnosis ----------------------------------------------------------------------------------------------------------


def diagnosis_text(run: Run, found: critical.Diagnosis) -> str:
    """Why the loss is where it is at the end of a run: the verdict, what it rests on, what to do."""
    after = f"{run.settings.optimizer}, after {len(run.steps)} updates"
    lines = [f"**{after}: {found.verdict}**", *(f"- {line}" for line in found.evidence)]
    code = f"\n\n```python\n{found.code}\n```" if found.code else ""
    return "\n".join(lines) + f"\n\n**What to do:** {found.action}{code}"


def tried_text(found: critical.Diagnosis) -> str:
    """All that a diagnosis looked at: experiments, and causes that were not it."""
    refuted = [f"{row.cause}: {row.seen}" for row in found.considered if not row.confirmed]
    titled = {"Tried, each on a copy of the run": found.tried, "Seen, but not the cause": refuted}
    return "\n\n".join(
        "\n".join([f"**{title}**\n", *(f"- {line}" for line in what)]) for title, what in titled.items() if what
    )
