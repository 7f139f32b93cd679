"""Causes that lie in the updates: the learning rate and its schedule, weight decay, clipping, momentum, noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.anomaly import detect_anomaly
from microgradopt.diagnosis import changes
from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.case import Case
from microgradopt.diagnosis.data import unlike_scales, unlike_targets
from microgradopt.diagnosis.network import fresh, here_and_fresh
from microgradopt.diagnosis.suspicion import Suspicion, listed
from microgradopt.errors import NonFiniteError
from microgradopt.nn import Dropout
from microgradopt.optim.adaptive import Adam, AdamW
from microgradopt.optim.first_order import SGD, Momentum

Array = npt.NDArray[Any]

_RUNGS = 9  # of a ladder of learning rates
_UNDEFINED = ("log", "sqrt", "divide", "power", "arcsin", "arccos", "arctanh", "log1p", "reciprocal")


def exploding(case: Case) -> Suspicion | None:
    """Numbers that are not finite; a loss that has grown and grows; an operation where it is not defined."""
    finite = np.isfinite(case.losses)
    known = case.losses[finite]
    start = float(np.median(known[:5])) if len(known) else math.nan
    grown = len(known) > 1 and known.max() - start > limit.TENFOLD * abs(start)
    grows = len(known) > 5 and (known[-5:] - start > limit.TENFOLD * abs(start)).all() and known[-1] >= known.max()
    if case.is_finite and finite[-1:].all() and not grows:  # a single batch before that does not matter
        return None
    seen = [] if finite.all() else [f"the loss stops being finite at update {int(np.argmin(finite))}"]
    if grown:
        seen.append(f"the loss grew from {start:.3g} to {known.max():.3g}")
    largest = float(np.abs(case.theta).max(initial=0.0))
    if not case.is_finite:
        where = _where_not_finite(case)
        first = f"; first in {where}" if where else ""
        seen.append(f"at θ the loss is {case.value:.3g} and the gradient norm {case.norm:.3g}{first}")
        if not grown and largest < limit.HUNDREDFOLD and any(where.startswith(name) for name in _UNDEFINED):
            action = "keep its argument away from there: np.log(x + 1e-12), np.maximum, or a loss that takes logits"
            return Suspicion("loss undefined", "; ".join(seen), action, is_proof=True)
    seen.append(f"the largest parameter is {largest:.3g}")
    cures = [fresh(case, case.rate / shrink) for shrink in (10, 100, 1000)] if case.has_optimizer else []
    action = "start again with a smaller learning rate, or clip the gradient (max_norm)"
    for scale in filter(None, (unlike_scales(case), unlike_targets(case))):
        seen.append(scale.seen)
        cures, action = [*scale.cures[1:], *cures], f"{scale.action}; or {action}"
    return Suspicion("exploding", "; ".join(seen), action, tuple(cures), is_proof=True)


def _where_not_finite(case: Case) -> str:
    """The operation that makes the first number that is not finite."""
    try:
        with detect_anomaly(), np.errstate(all="ignore"):
            case.objective.value_and_gradient()
    except NonFiniteError as error:
        return str(error)
    return ""


# The learning rate ----------------------------------------------------------------------------------------------------


def ascending(case: Case) -> Suspicion | None:
    """maximize=True."""
    if not any(group.get("maximize") for group in case.optimizer.param_groups):
        return None
    seen = f"{type(case.optimizer).__name__} has maximize=True: it goes uphill, and the loss rises"
    cures = here_and_fresh(case, changes.setting("maximize", False, "maximize=False"))
    return Suspicion("gradient ascent", seen, "maximize=False", cures, is_proof=True)


def no_rate(case: Case) -> Suspicion | None:
    """A learning rate of 0, or one that a schedule has brought to nothing."""
    optimizer = case.optimizer
    if not case.has_optimizer or "lr" not in optimizer.param_groups[0]:
        return None
    rate = optimizer.param_groups[0]["lr"]
    largest = max([case.rate, *case.rates[np.isfinite(case.rates)], *([rate(0)] if callable(rate) else [])])
    if case.rate > largest / limit.HUNDREDFOLD or (case.rate and largest == case.rate) or not _is_short(case):
        return None
    if not largest:
        lr = 1e-2 if isinstance(optimizer, SGD | Momentum) else 1e-3
        cures = tuple(map(changes.learning_rate, (lr, 10 * lr, lr / 10)))
        return Suspicion("learning rate is 0", "the learning rate is 0: nothing moves", "set the learning rate", cures)
    what = f"the schedule {rate!r:.80}" if callable(rate) else "the schedule"
    seen = f"{what} has brought the learning rate from {largest:.3g} to {case.rate:.3g}: too small to move θ"
    action = "a schedule that lasts as long as the training, or a constant rate"
    return Suspicion("schedule has ended", seen, action, tuple(map(changes.learning_rate, (largest, largest / 10))))


def too_short(case: Case) -> Suspicion | None:
    """The best step in the direction of an update is many times as long as the update."""
    if not case.has_rate or case.as_before is None or not _is_short(case):
        return None
    step, best = case.as_before.step, case.descent.step
    seen = f"an update moves θ by {step:.2g}, and the best step in its direction is {best:.2g}"
    if case.ratio:
        seen += f"; lr is {case.ratio:.1g} of the limit of stability here"
    cures = tuple(map(changes.learning_rate, _larger(case)))
    return Suspicion("learning rate too small", seen, "a larger learning rate", cures)


def _is_short(case: Case) -> bool:
    return case.as_before is not None and case.descent.step > limit.TENFOLD * case.as_before.step


def too_long(case: Case) -> Suspicion | None:
    """The learning rate is above the limit of stability, or the loss goes to and fro."""
    before = case.as_before
    if not case.has_rate or before is None:
        return None
    rises = float(np.mean(np.diff(before.losses) > 0)) if np.isfinite(before.losses).all() else 1.0
    above = case.ratio is not None and case.ratio > 1
    sharp = case.batch_sharpness
    if not above and rises < limit.OFTEN and not (sharp and sharp > 1):
        return None
    seen = [f"going on, the loss on all data rises {rises:.0%} of the times that it is measured"]
    if above:
        seen.append(
            f"lr = {case.rate:.3g} is {case.ratio:.3g} times the limit of stability of "
            f"{type(case.optimizer).__name__} at this curvature: each step overshoots the minimum along the steepest "
            "direction"
        )
    if sharp and sharp > 1:
        seen.append(f"a batch's curvature along its own gradient is {sharp:.3g} times its limit 2 (1 − β) / η")
    lr = case.rate
    smaller = [lr / 10, lr / 100, lr / 1000, *(stable for stable in _stable(case) if stable < lr)]
    # Units that long steps have killed or saturated do not come back.
    cures = [*map(changes.learning_rate, smaller), fresh(case, lr * 0.1), fresh(case, lr * 0.01)]
    return Suspicion("learning rate too large", "; ".join(seen), "a smaller learning rate", tuple(cures))


def _larger(case: Case) -> list[float]:
    """Rates that grow tenfold as long as each reaches a lower loss than the one before; and half the stable limit."""
    a_parameter = (case.as_before.step if case.as_before else 0.0) / math.sqrt(case.objective.n)
    bound = case.rate * limit.STEP / a_parameter if a_parameter else math.inf
    stable = [rate for rate in _stable(case) if case.rate < rate <= bound]
    rates, reached = [case.rate * 10], math.inf
    while rates[-1] <= bound and len(rates) < _RUNGS:
        trial = case.trials(changes.learning_rate(rates[-1]))
        if trial is None or not trial.reached < reached:
            break
        reached = trial.reached
        rates.append(rates[-1] * 10)
    return [*rates[:-1], *stable]


def _stable(case: Case) -> list[float]:
    """Half the limit of stability, and a tenth of that: curvature may be larger where the steps lead."""
    return [case.rate / (2 * case.ratio), case.rate / (20 * case.ratio)] if case.ratio else []


def noise(case: Case) -> Suspicion | None:
    """What an update gains on average, the noise of the batches takes back: with all data in a batch the loss falls.

    A smaller learning rate makes noise smaller, and helps where steps are too long for any batch as well: so it is
    noise only if it takes back a third or so, and as long steps without it gain half as much. At rest it takes
    back all, on average.
    """
    change = case.expected_change
    if change is None:
        return None
    mean, error, from_noise = change
    without = mean - from_noise
    if from_noise <= max(without, limit.OFTEN * abs(without)):
        return None
    slower = [changes.learning_rate(case.rate / 10), changes.learning_rate(case.rate / 3)]
    best = max(case.closes(case.trials(cure)) for cure in slower)
    if case.closes(case.trials(changes.ALL_DATA)) < limit.HALF * best:
        return None
    masks = " and of dropout" if any(isinstance(x, Dropout) and x.p for x in case.run.modules) else ""
    seen = (
        f"an update changes the loss by {mean:.2g} ± {error:.1g} on average, of which {from_noise:.2g} is due to the "
        f"noise of batches of {case.run.batch_size}{masks}: without it, {without:.2g}"
    )
    action = "a smaller learning rate from here on (a schedule that falls), or larger batches"
    return Suspicion("noise of the batches", seen, action, (*slower, changes.ALL_DATA))


# What comes between gradient and step ---------------------------------------------------------------------------------


def clipping(case: Case) -> Suspicion | None:
    """Gradients that are clipped to a small part of themselves."""
    norms, most = case.norms[np.isfinite(case.norms)][-50:], case.run.max_norm
    if most is None or not len(norms) or np.median(norms) < limit.TENFOLD * most:
        return None
    seen = (
        f"the gradient has norm {np.median(norms):.3g}, and is clipped to {most:.3g}: each update is "
        f"{np.median(norms) / most:.3g} times shorter, too small to move anything"
    )
    action = "clip at a norm above what gradients usually have (their median in the history), or not at all"
    return Suspicion("clipping", seen, action, (changes.UNCLIPPED,))


def not_cleared(case: Case) -> Suspicion | None:
    """The gradient that the last step used is not that of the loss: older ones were added.

    On all data: it is compared with the gradient at θ before that step. In batches: with the gradients of batches now,
    if the loop is one's own (`Run.update` clears).
    """
    if not case.has_optimizer or not len(case.norms):
        return None
    own = case.run.vector.gradient()
    held = float(np.linalg.norm(own))
    size = _size_in_batches(case, held) if case.is_in_batches else _size_on_all_data(case, own)
    # If it is another number than the history's, it was clipped in between.
    if size is None or not abs(held - case.norms[-1]) <= limit.SAME * held < math.inf:
        return None
    seen = (
        f"before the last step the loss had a gradient of norm {size:.3g}, and .grad, which that step used, has norm "
        f"{held:.3g}: older gradients are added up in it"
    )
    return Suspicion("gradients not cleared", seen, "optimizer.zero_grad() before each backward()", is_proof=True)


def _size_in_batches(case: Case, held: float) -> float | None:
    """The largest norm of a batch's gradient; None where `.grad` is not far above it, or `Run.update` has cleared."""
    size = max(float(np.linalg.norm(g)) for _, g in case.batches)
    is_own_loop = not case.run.step_norm or math.isnan(case.run.step_norm[-1])
    return size if is_own_loop and held > limit.TENFOLD * size else None


def _size_on_all_data(case: Case, own: Array) -> float | None:
    """The norm of the gradient at θ before the last step; None where that is not known, or `.grad` is no sum."""
    theta = _before_last_step(case)
    if theta is None:
        return None
    with np.errstate(all="ignore"):
        value, gradient = case.objective.value_and_gradient(theta)
    is_all_data = abs(value - case.losses[-1]) <= limit.SAME * abs(value)
    size, held = float(np.linalg.norm(gradient)), float(np.linalg.norm(own))
    is_sum = held > size and np.linalg.norm(own - gradient) > limit.HALF * held  # not a penalty added by hand
    return size if is_all_data and is_sum else None


def _before_last_step(case: Case) -> Array | None:
    """θ before the last step of SGD, Adam or AdamW, from `.grad` and the state; None where it cannot be told."""
    optimizer, own, theta = case.optimizer, list(case.objective.parameters), case.theta
    group, blocks = optimizer.param_groups[0], list(optimizer.blocks())
    is_plain = not any(group.get(key) for key in ("maximize", "amsgrad", "nesterov"))
    if not is_plain or len(blocks) != 1 or blocks[0][2] != own or any(p.grad is None for p in own):
        return None
    _, lr, _, state = blocks[0]
    if type(optimizer) is SGD and group["momentum"]:
        return theta + lr * state["b"]
    if type(optimizer) is SGD:
        return (theta + lr * case.run.vector.gradient()) / (1 - lr * group["weight_decay"])
    if type(optimizer) not in (Adam, AdamW) or not state["t"]:
        return None
    beta1, beta2 = group["betas"]
    m, v = state["m"] / (1 - beta1 ** state["t"]), state["v"] / (1 - beta2 ** state["t"])
    decay = group["weight_decay"] if type(optimizer) is AdamW else 0.0  # Adam's is in m
    return (theta + lr * m / (np.sqrt(v) + group["eps"])) / (1 - lr * decay)


def weight_decay(case: Case) -> Suspicion | None:
    """A decay that is as strong as the gradient, while the network has learnt little."""
    decay = max(group.get("weight_decay", 0.0) for group in case.optimizer.param_groups)
    if not decay:
        return None
    has_validation = case.run.validation is not None
    if not has_validation and (case.constant is None or case.value < limit.HALF * case.constant):
        return None
    seen = f"weight_decay = {decay:g} pulls θ to 0 with {decay * np.linalg.norm(case.theta):.3g}"
    seen += f" against a gradient of {case.norm:.3g}"
    if case.constant is not None:
        seen += f", and the loss {case.value:.4g} is {case.value / case.constant:.0%} of the best constant output's"
    without = changes.setting("weight_decay", 0.0, "without weight decay")
    less = changes.setting("weight_decay", decay / 100, f"weight_decay = {decay / 100:.3g}")
    action = "less weight decay, by a factor of 10 or 100 at a time, judged on validation data"
    cures = here_and_fresh(case, without, less)
    return Suspicion("weight decay", seen, action, cures, on_validation=has_validation)


def momentum(case: Case) -> Suspicion | None:
    """A momentum that remembers for so long that the loss swings."""
    beta, betas = case.momentum, case.optimizer.param_groups[0].get("betas")
    remembered = 1 / max(1 - beta, 1e-9)
    if remembered < limit.HUNDREDFOLD * (1 - limit.SAME):
        return None
    less = changes.setting("momentum", 0.9, "momentum = 0.9")
    if betas:
        less = changes.setting("betas", (0.9, *betas[1:]), "beta1 = 0.9")
    seen = f"with momentum {beta:g} an update adds up {remembered:.0f} gradients: θ swings through the minimum and back"
    action = "a smaller momentum, 0.9, and a learning rate as much larger"
    return Suspicion("momentum too large", seen, action, here_and_fresh(case, less))


def forgotten(case: Case) -> Suspicion | None:
    """Parameters that the optimizer does not have."""
    own, moved = case.objective.parameters, set(case.optimizer.parameters())
    missing = [p for p in own if p not in moved]
    if not missing:
        return None
    names = [case.reading.names[p] for p in missing]
    sizes = f"{sum(p.size for p in missing):,} of {case.objective.n:,} parameters"
    seen = f"{len(missing)} of {len(own)} tensors, {sizes}, are not in the optimizer and never move: {listed(names)}"
    action = "give the optimizer all of them: model.parameters()"
    return Suspicion("parameters not in the optimizer", seen, action, (changes.with_parameters(names, missing),))
