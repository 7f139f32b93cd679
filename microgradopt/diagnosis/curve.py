"""What a history alone tells: whether the loss falls, and what rates and norms, if recorded, exclude as a cause."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_WINDOW = 200  # updates that count as the present
_BLOCKS = 10
FEWEST = 20  # updates that show a trend
_CLEAR = 3.0  # standard errors that make a trend
_CHANGED = 0.01  # of what it was


def read(history: Any) -> tuple[str, list[str], str]:
    """Verdict, evidence and action from a history: "healthy", "exploding" or "undecided"."""
    losses = np.array(history.loss, float)
    finite = np.isfinite(losses)
    if not finite.all():
        first = int(np.argmin(finite))
        what = "look at the data for numbers that are not finite; then start again with a smaller learning rate"
        return "exploding", [f"the loss stops being finite at update {first}"], what
    if len(losses) < FEWEST:
        return "undecided", [f"{len(losses)} updates, too few to see a trend in"], _next(history)
    recent = losses[-_WINDOW:]
    fall, errors = _trend(recent)
    seen = f"in the last {len(recent)} updates the loss went from {recent[:10].mean():.4g} to {recent[-10:].mean():.4g}"
    if errors > _CLEAR and fall > _CHANGED * abs(recent.mean()):
        return "healthy", [f"{seen}: it falls, by {errors:.1f} standard errors"], "go on"
    return "undecided", [f"{seen}: no clear fall", *_excluded(history)], _next(history)


def _trend(losses: Array) -> tuple[float, float]:
    """How much a line through the means of ten blocks falls, and how many standard errors that is."""
    means = [block.mean() for block in np.array_split(losses, _BLOCKS)]
    (slope, _), covariance = np.polyfit(np.arange(_BLOCKS), means, 1, cov=True)
    return -slope * _BLOCKS, -slope / max(math.sqrt(covariance[0, 0]), float(np.finfo(float).tiny))


def _recorded(history: Any, name: str) -> Array:
    values = np.array(getattr(history, name, []), float)
    return values[np.isfinite(values)]


def _excluded(history: Any) -> list[str]:
    """What the rates, the norms and the lengths of updates exclude."""
    norms, rates, moved = (_recorded(history, name) for name in ("gradient_norm", "lr", "step_norm"))
    lines = []
    if len(norms) >= FEWEST:
        now, start = float(np.median(norms[-FEWEST:])), max(float(np.median(norms[:FEWEST])), 1e-300)
        lines.append(f"the gradient norm is {now / start:.2g} times what it was at the start")
        # What an update of this length changes the loss by, along the gradient.
        if len(moved) and now * np.median(moved[-FEWEST:]) > _CHANGED * abs(history.loss[-1]):
            lines[-1] += ": not a critical point, θ is not at rest"
    if len(rates):
        is_ended = rates[-1] < _CHANGED * rates.max()
        told = f", and was {rates.max():.3g}: a schedule may have ended" if is_ended else ": no schedule has ended"
        lines.append(f"the learning rate is {rates[-1]:.3g}{told}")
    if len(moved):
        at_rest = "" if moved[-1] else ": nothing moves"
        lines.append(f"an update moves θ by {np.median(moved[-FEWEST:]):.2g}{at_rest}")
    return lines


def _next(history: Any) -> str:
    """The three things to measure next: those that are missing first."""
    wanted = [
        ("gradient_norm", "the norm of the gradient at each update"),
        ("lr", "the learning rate at each update"),
        ("step_norm", "how far each update moves θ, ‖Δθ‖"),
        ("validation_loss", "the loss on validation data"),
    ]
    missing = [words for name, words in wanted if not len(_recorded(history, name))]
    more = [
        "the loss after 200 updates with a tenth and with ten times the learning rate",
        "the loss after as many with all data in a batch",
        "the loss after 100 iterations of L-BFGS",
    ]
    chosen = (missing + more)[:3]
    return f"measure next: {'; '.join(chosen)}. critical.diagnose(run), with what training.fit returns, tries by itself"
