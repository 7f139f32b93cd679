"""Causes that lie in the data: numbers that are not finite, equal inputs, unlike scales, contradicting labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.diagnosis import changes
from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.case import Case
from microgradopt.diagnosis.network import here_and_fresh
from microgradopt.diagnosis.reading import OF_TWO
from microgradopt.diagnosis.suspicion import Suspicion, listed

Array = npt.NDArray[Any]

_ERRORS = ("mse_loss", "l1_loss", "huber_loss", "subtract")


def not_finite(case: Case) -> Suspicion | None:
    """A nan or an infinity among inputs or targets. The graph holds all data that act on the loss."""
    constants = [x for node in case.reading.nodes for x in node.inputs if type(x) is np.ndarray]
    named = [("X", case.run.X), ("y", case.run.y)] if case.has_data else [("the data", x) for x in constants]
    places = next(filter(None, (places_not_finite(name, data) for name, data in named)), None)
    if places is None:
        return None
    seen = f"inputs or targets are not finite: {listed(places)}"
    action = "take these rows out, or fill the gaps (with the column's median): no setting of the optimizer helps"
    return Suspicion("numbers not finite in the data", seen, action, is_proof=True)


def places_not_finite(name: str, data: Any) -> list[str]:
    """Each number that is not finite, as "X[17, 3] = nan"."""
    data = np.asarray(data)
    bad = np.argwhere(~np.isfinite(data.astype(float)))
    return [f"{name}[{', '.join(map(str, at))}] = {data[tuple(at)]}" for at in bad]


def all_the_same(case: Case) -> Suspicion | None:
    """Every row of the inputs equal to the first."""
    X = _inputs(case)
    if X is None or len(X) < 2 or (X[0] != X).any():
        return None
    seen = f"all rows of the inputs are equal, {len(X)} times the same row: the network can only answer one constant"
    return Suspicion("all inputs the same", seen, "look at how the inputs are read", is_proof=True)


def unlike_scales(case: Case) -> Suspicion | None:
    """Columns whose spreads differ, or that are far from 0, or whose numbers are far from 1.

    With inputs of spread s a weight has curvature of order s²: columns of unlike spread make a ravine (the lecture's
    L15), and an offset couples each weight with the bias.
    """
    first, X = case.reading.first, case.reading.inputs
    if first is None or X is None or len(X) < 2 or not np.isfinite(X).all():
        return None
    spread, middle = X.std(axis=0), np.abs(X.mean(axis=0))
    varied = spread > 1e-9 * (middle + spread.max())
    if not varied.any():
        return None
    low, high = np.percentile(spread[varied], [10 if varied.sum() > 20 else 0, 100])
    seen = []
    if high > limit.HUNDREDFOLD * low:
        seen.append(f"the columns of the inputs have standard deviations from {low:.3g} to {high:.3g}")
    far = np.flatnonzero(middle > limit.TENFOLD * np.where(varied, spread, 1.0))  # a constant one too, if it is large
    if len(far):
        seen.append(f"column {listed(far)} is more than {limit.TENFOLD:g} standard deviations away from 0")
    if high > limit.TENFOLD or high < 1 / limit.HUNDREDFOLD:
        seen.append(f"the inputs have standard deviations up to {high:.3g}, where the initial weights are made for 1")
    if not seen:
        return None
    is_data, change = case.has_data and np.array_equal(case.run.X, X), changes.standardised(first, X)
    cures = here_and_fresh(case, change) if is_data else (changes.LBFGS_100,)
    action = f"standardise the inputs: {change.code}, with these numbers for all later data too"
    is_blocked = any(layer.place == 0 for layer in case.blocked) and bool(np.abs(X).mean() > limit.HUNDREDFOLD)
    if is_blocked:
        seen.append(f"no unit of the first layer lets a gradient through ({case.layers[0]})")
    return Suspicion("inputs of unlike scale", "; ".join(seen), action, cures, is_proof=is_blocked and not is_data)


def unlike_targets(case: Case) -> Suspicion | None:
    """Targets of errors that are far from 1: weights have to grow for them a hundredfold, or steps are far too long."""
    output, y = case.reading.output, case.reading.target
    if case.reading.compared_by not in _ERRORS or y is None or y.shape != output.shape or output.is_leaf:
        return None
    size = float(np.abs(y).max(initial=0.0))
    if not 0 < size < np.inf or 1 / limit.HUNDREDFOLD <= size <= limit.HUNDREDFOLD:
        return None
    cause = f"targets of {'large' if size > 1 else 'small'} scale"
    seen = f"the targets are at most {size:.3g}, where initial weights are made for outputs of about 1"
    is_data, change = case.has_data and np.array_equal(case.run.y, y), changes.targets_standardised(y)
    cures = here_and_fresh(case, change) if is_data else (changes.LBFGS_100,)
    action = f"standardise the targets: {change.code}, and take that back for predictions"
    return Suspicion(cause, seen, action, cures)


def in_order(case: Case) -> Suspicion | None:
    """Batches in the order of the data, which are sorted: what each teaches the next ones undo."""
    if not case.is_in_batches or case.run.shuffle or not len(case.losses):
        return None
    trained = float(np.mean(case.losses[-case.run.in_an_epoch :]))
    y = np.asarray(case.run.y)
    alike = float(np.mean(y[1:] == y[:-1])) if y.dtype.kind in "iub" else 0.0
    if trained > limit.MOST * case.value and alike < limit.MOST:
        return None
    seen = (
        f"the batches' own losses are {trained:.3g} on average, the loss on all data is {case.value:.3g}, and "
        f"{alike:.0%} of the samples have the label of the one before: they come in the same order in each epoch, and "
        "each batch forgets what the others taught"
    )
    return Suspicion("data not shuffled", seen, "shuffle=True", (changes.SHUFFLED,))


def contradicting_labels(case: Case) -> Suspicion | None:
    """Equal rows with different targets: no network can tell them apart, and the loss has a floor above 0."""
    X, target = _inputs(case), case.reading.target
    if X is None or target is None or len(X) != len(target) or not np.isfinite(X).all():
        return None
    floor = _floor(case, X, target)
    if floor is None or floor <= 0 or case.value > (1 + limit.TENTH) * floor:
        return None
    seen = (
        f"rows with the same inputs have different targets: no network comes below a loss of {floor:.4g}, and this "
        f"one has {case.value:.4g}"
    )
    action = "look at these rows, or add features that tell them apart: with these data the training is done"
    return Suspicion("contradicting labels", seen, action, is_proof=True)


def _floor(case: Case, X: Array, target: Array) -> float | None:
    """The lowest mean loss of any function of X; None for other losses than cross entropies and squared errors."""
    comparison, loss = case.reading.comparison, case.reading.compared_by
    is_labelled, is_of_two = loss == "cross_entropy" and target.ndim == 1, loss == OF_TWO
    if comparison is None or not np.isclose(comparison.data, case.value, limit.SAME, 0).all():
        return None  # with a factor, or a penalty, the floor is another
    if not (is_labelled or is_of_two or loss == "mse_loss"):
        return None
    lost = 0.0
    for targets in (target[rows] for rows in equal_rows(X)):
        if is_labelled:
            lowest = _entropy(np.unique(targets, return_counts=True)[1] / len(targets))
        elif is_of_two:
            p = targets.mean(axis=0).ravel()
            lowest = _entropy(np.concatenate([p, 1 - p])) / p.size
        else:
            lowest = float(targets.var(axis=0).mean())
        lost += len(targets) * lowest
    return lost / len(X)


def equal_rows(X: Array) -> list[Array]:
    """The places of rows that are equal to another, group by group."""
    _, group, counts = np.unique(X.reshape(len(X), -1), axis=0, return_inverse=True, return_counts=True)
    groups = np.split(np.argsort(group.ravel(), kind="stable"), np.cumsum(counts)[:-1])
    return [rows for rows in groups if len(rows) > 1]


def _entropy(p: Array) -> float:
    return -float(p[p > 0] @ np.log(p[p > 0]))


def _inputs(case: Case) -> Array | None:
    return np.asarray(case.run.X) if case.has_data else case.reading.inputs
