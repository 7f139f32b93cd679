"""The answer of a diagnosis: the verdict, what it rests on, what was tried, and the cure as a run that goes on."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from microgradopt.critical.point import CriticalPoint
from microgradopt.diagnosis.changes import Change
from microgradopt.diagnosis.trials import Trial
from microgradopt.diagnosis.units import Layer
from microgradopt.notebook import image, shown, table
from microgradopt.run import Run

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Considered:
    """A cause whose signature was there: what was seen, the best trial of its cures, whether that confirms it.

    closed: the share of the gap, from the loss now to the best that any trial reached, that the cure closes.
    """

    cause: str
    seen: str
    trial: Trial | None
    closed: float
    confirmed: bool


@dataclass(frozen=True)
class Diagnosis:
    """Why the loss is where it is.

    * verdict: the cause, as "learning rate too small"; or "healthy", "local minimum", "saddle point", "undecided".
    * evidence: the measurements it rests on, in words. action: what to do, in words; and, where it is of that kind,
      lr: the learning rate that was tried; theta: where to go on from, (n,).
    * considered: the causes whose signature was there, with what their cures gained. trials: all that was tried.
      not_tried: what was not, for want of budget or of data.
    * point: the verdict on θ as a critical point, if it was asked. layers: what the activations are doing.
    """

    verdict: str
    evidence: list[str]
    action: str
    lr: float | None = None
    theta: Array | None = field(default=None, repr=False)
    considered: list[Considered] = field(default_factory=list, repr=False)
    trials: list[Trial] = field(default_factory=list, repr=False)
    not_tried: list[str] = field(default_factory=list, repr=False)
    point: CriticalPoint | None = field(default=None, repr=False)
    layers: list[Layer] = field(default_factory=list, repr=False)
    run: Run | None = field(default=None, repr=False)
    change: Change | None = field(default=None, repr=False)

    @property
    def tried(self) -> list[str]:
        """Every experiment, in words."""
        return list(map(str, self.trials))

    def cure(self) -> Run | None:
        """Make the change that was tried and found to help, and give the run that goes on with it: ``.train(200)``.

        The run has a changed copy of the optimizer, the same parameters, and where the change is of that kind another
        model, other data, or another θ, which is written now. Its history begins anew; the trial's curve is in
        `trials`. None where nothing was found to help.
        """
        return None if self.change is None or self.run is None else self.change.make(self.run)

    @property
    def code(self) -> str:
        """The change as code; "" where there is none."""
        return self.change.code if self.change else ""

    def __str__(self) -> str:
        lines = [self.verdict, *(f"  · {line}" for line in self.evidence), f"  → {self.action}"]
        lines += [f"    {self.code}"] if self.code else []
        refuted = [f"{row.cause}: {row.seen}" for row in self.considered if not row.confirmed]
        for title, what in (("seen, but not the cause", refuted), ("tried", self.tried), ("not tried", self.not_tried)):
            lines += [f"  {title}:", *(f"    {line}" for line in what)] if what else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [*(("evidence", line) for line in self.evidence), ("what to do", self.action)]
        rows += [("as code", self.code)] if self.code else []
        rows += [("lr", f"{self.lr:.3g}")] if self.lr is not None else []
        rows += [("layer", str(layer)) for layer in self.layers]
        rows += [("critical point", self.point.verdict)] if self.point else []
        rows += [("not tried", line) for line in self.not_tried]
        parts = [table(f"diagnosis: {self.verdict}", rows)]
        if self.considered:
            columns = ("cause", "seen", "its cure", "closes", "")
            parts.append(table("causes", map(_row, self.considered), columns))
        return shown(*parts, *(_pictures(self) if self.trials else []))


def _row(cause: Considered) -> tuple[str, ...]:
    tried = str(cause.trial) if cause.trial else "not tried"
    closed = f"{cause.closed:.0%}" if cause.trial and math.isfinite(cause.closed) else ""
    return cause.cause, cause.seen, tried, closed, "confirmed" if cause.confirmed else ""


def _pictures(found: Diagnosis) -> list[str]:
    """The curves of what was tried, and the spectrum at θ; none where matplotlib, an extra, is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from microgradopt import plots  # loads matplotlib

    drawn = [(plots.diagnosis(found), "loss against update, for each experiment")]
    if found.point is not None and len(found.point.eigenvalues):
        drawn.append((plots.spectrum(found.point), "the eigenvalues of the Hessian"))
    shown = [image(ax.figure, description) for ax, description in drawn]
    plots.close(*(ax for ax, _ in drawn))
    return shown
