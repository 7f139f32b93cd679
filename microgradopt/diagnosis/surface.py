"""Causes that lie in the loss surface, and the ends that a training can come to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.diagnosis import changes
from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.case import Case
from microgradopt.diagnosis.network import fresh
from microgradopt.diagnosis.suspicion import Suspicion

Array = npt.NDArray[Any]


def separable(case: Case) -> Suspicion | None:
    """Every sample is right, and the loss falls as the last layer's weights grow: it goes to 0 at infinity."""
    right, constant, products = case.reading.right, case.constant, case.reading.products
    if right != 1.0 or constant is None or case.value > limit.LEARNT * constant or not products:
        return None
    last = {p for p in (products[-1].weight, products[-1].bias) if p is not None}
    doubled = case.objective.vector.join([p.data * 2 if p in last else p.data for p in case.objective.parameters])
    grown = case.objective.value(doubled)
    if not grown < case.value:
        return None
    seen = (
        f"every sample is classified right (accuracy 100%), the loss is {case.value:.3g}, and with the last layer's "
        f"weights twice as large it is {grown:.3g}: the data are separable, and the loss has no minimum but goes to 0 "
        "as the weights grow to infinity"
    )
    action = "done: what is to be learnt has been learnt; look at data that were not trained on"
    return Suspicion("separable data", seen, action, is_proof=True)


def overfitting(case: Case) -> Suspicion | None:
    """The validation loss has passed its lowest point, while the training loss went on falling."""
    losses = np.array(case.run.validation_loss, float)
    at = np.flatnonzero(np.isfinite(losses))
    if case.run.validation is None or len(at) < 5 or len(losses) != len(case.losses):
        return None
    lowest = at[np.argmin(losses[at])]
    now = float(np.median(losses[at[-3:]]))
    if now < (1 + limit.TENTH) * losses[lowest] or not case.value < case.losses[lowest]:
        return None
    seen = (
        f"the validation loss was lowest at update {lowest}, {losses[lowest]:.4g}, and is {now:.4g} now, while the "
        f"training loss fell from {case.losses[lowest]:.4g} to {case.value:.4g}"
    )
    action = (
        "stop at the lowest validation loss (training.fit with patience), more data, fewer parameters, or weight decay"
    )
    decays = [changes.setting("weight_decay", decay, f"weight_decay = {decay:g}") for decay in (0.01, 0.1, 1.0)]
    return Suspicion("overfitting", seen, action, (*decays, fresh(case)), is_proof=True, on_validation=True)


def no_lower_bound(case: Case) -> Suspicion | None:
    """A loss below 0 that L-BFGS brings down without end."""
    trial = case.trials(changes.LBFGS_100) if case.value < 0 else None
    if trial is None:
        return None
    end = trial.losses[-1]
    if math.isfinite(end) and not end < limit.TENFOLD * case.value and not _falls_faster(case):
        return None
    seen = f"the loss is negative, {case.value:.3g}, and 100 iterations of L-BFGS bring it to {end:.3g}"
    action = "a loss that is bounded below: look at its sign, and at logarithms and variances that may go to 0"
    return Suspicion("no lower bound", f"{seen}: it has no lowest value", action, is_proof=True)


def _falls_faster(case: Case) -> bool:
    """Whether the loss is far below 0, and has fallen more in the second half of the history than in the first."""
    if len(case.losses) < 2 or case.value > -limit.HUNDREDFOLD * abs(case.losses[0]):
        return False
    first, middle = case.losses[0], case.losses[len(case.losses) // 2]
    return bool(middle - case.value > first - middle)


def saddle(case: Case) -> Suspicion | None:
    """Negative curvature, and a way down along it."""
    way = case.way_out
    if way is None or not case.point.negative or not way.measured * limit.HALF > case.descent.measured:
        return None
    least = "" if case.point.complete else "at least "
    seen = (
        f"the gradient has norm {case.norm:.3g}, the Hessian {least}{case.point.negative} negative eigenvalues, the "
        f"lowest {case.point.eigenvalues[0]:.3g}: {way}"
    )
    action = "go on from there (.theta); inside of training optim.PerturbedGD or optim.Newton does it by itself"
    return Suspicion("saddle point", seen, action, (changes.way_out(way.theta),))


def badly_conditioned(case: Case) -> Suspicion | None:
    """The surface is much steeper across the way than along it."""
    trial = case.trials(changes.LBFGS_100)
    if trial is None or trial.theta.shape != case.theta.shape or not np.isfinite(trial.theta).all():
        return None
    way = trial.theta - case.theta
    length = float(np.linalg.norm(way))
    if not length:
        return None
    steepest = case.sharpness
    along = abs(float(way @ (case.hessian @ way))) / length**2
    if not steepest > limit.HUNDREDFOLD * along:
        return None
    seen = (
        f"the curvature is {steepest:.3g} along the steepest direction and {along:.2g} along the way that L-BFGS went: "
        "a step that is short enough for the one hardly moves along the other"
    )
    action = "a method that scales itself: optim.LBFGS on all data, or Adam; or inputs and layers of like scale"
    return Suspicion("badly conditioned", seen, action, (changes.LBFGS_100, changes.adam(1e-3), changes.adam(1e-2)))
