"""Before the first update: what every recipe for training says to look at first, in one call.

Most runs that are stuck were lost before they began: inputs that are all alike, a parameter that no gradient reaches, a
loss that starts far above that of a guess. Each test here is a measurement on a copy of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.changes import standardising
from microgradopt.diagnosis.data import equal_rows, places_not_finite
from microgradopt.diagnosis.reading import constant_loss
from microgradopt.diagnosis.suspicion import listed
from microgradopt.diagnosis.trials import kept
from microgradopt.nn.module import Module
from microgradopt.notebook import shown, table
from microgradopt.optim.adaptive import Adam
from microgradopt.optim.first_order import SGD
from microgradopt.run import Run
from microgradopt.tensor import Tensor
from microgradopt.vector import ParameterVector

Array = npt.NDArray[Any]
Loss = Callable[[Any, Any], Tensor]


_RARE = 0.01  # of the samples, in a class
_HIGH = 2.0  # times the loss of the best constant output, at the start
_FITTED = 0.1  # of the loss at the start: what is left when a batch has been learnt
_RATES = 10.0 ** np.linspace(-6, 1, 71)


class Finding(NamedTuple):
    """One test. test: its name. fine: whether it was passed. says: what was measured."""

    test: str
    fine: bool
    says: str

    def __str__(self) -> str:
        return f"{'✓' if self.fine else '✗'} {self.test}: {self.says}"


@dataclass(frozen=True)
class Checked:
    """The answer of `check`: findings, in order. rates, losses: the curve of the range test, (k,)."""

    findings: list[Finding]
    rates: Array = field(repr=False)
    losses: Array = field(repr=False)

    @property
    def problems(self) -> list[Finding]:
        """What was not passed."""
        return [finding for finding in self.findings if not finding.fine]

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))

    def _repr_html_(self) -> str:
        rows = [(finding.test, "fine" if finding.fine else "look here", finding.says) for finding in self.findings]
        return shown(table("before the first update", rows, ("test", "", "measured")))


def check(
    model: Module,
    loss: Loss,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    batch_size: int = 16,
    updates: int = 400,
    rng: np.random.Generator | int | None = 0,
) -> Checked:
    """What is wrong with data, model and loss before anything is trained. The model stays as it is.

    X: (samples, …). y: (samples, …), labels or targets. loss: takes the model's output and targets. batch_size: of the
    batch that is to be learnt by heart, and of the range test. updates: of Adam, for the first.

    * numbers: is there a nan or an infinity among X and y?
    * columns: constant ones, equal ones, scales that differ more than a hundredfold.
    * rows: rows that are equal; equal rows whose targets differ, which no model can tell apart.
    * classes: those that are missing or rare.
    * shapes: outputs and targets that would broadcast against each other.
    * output: does it depend on the input?
    * gradient: does one reach every parameter?
    * start: the loss, against that of the best constant output (log K for K classes alike; the variance of y).
    * one batch: can it be learnt by heart?
    * learning rates: SGD with a rate that grows from step to step, from 1e-6 to 10 (Smith 2017): where the loss has
      fallen fastest, and where it leaves.

    Raises ValueError where X and y have not equally many rows.

    >>> import microgradopt as mg
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> checked = check(mg.nn.MLP((2, 8, 2), rng=0), mg.nn.cross_entropy, X, (X[:, 0] > 0).astype(int))
    >>> [finding.test for finding in checked.problems]
    []
    """
    X, y = np.asarray(X), np.asarray(y)
    if len(X) != len(y) or not len(X):
        raise ValueError(f"check: X has {len(X)} rows and y {len(y)}; equally many are wanted, and at least one")
    rng = np.random.default_rng(rng)
    findings = [_numbers(X, y)]
    if not findings[0].fine:
        return Checked(findings, np.zeros(0), np.zeros(0))
    vector = ParameterVector(model.parameters())
    with np.errstate(all="ignore"), kept(model, loss), vector.copied():
        for parameter in vector.parameters:
            parameter.grad = None
        out = model(X)
        findings += [_columns(X), _rows(X, y), *_classes(y, out), *_shapes(y, out), _output(X, out)]
        value = loss(out, y)
        value.backward()
        findings += [_gradient(model), _start(loss, out, y, value.item())]
        batch = rng.permutation(len(X))[:batch_size]
        findings.append(_one_batch(Run(model, loss, Adam(vector.parameters, lr=1e-2), X[batch], y[batch]), updates))
    with np.errstate(all="ignore"), kept(model, loss), vector.copied():
        sgd = SGD(vector.parameters, lr=lambda step: float(_RATES[step]))
        losses = _range_test(Run(model, loss, sgd, X, y, batch_size, rng=rng))
    findings.append(_learning_rates(losses))
    return Checked(findings, _RATES[: len(losses)], losses)


# Data -----------------------------------------------------------------------------------------------------------------


def _numbers(X: Array, y: Array) -> Finding:
    bad = places_not_finite("X", X) + places_not_finite("y", y)
    return Finding("numbers", not bad, listed(bad) or "all of X and y are finite")


def _columns(X: Array) -> Finding:
    """Scales are told by ranges: a pixel that is seldom lit has a small deviation, and does no harm."""
    flat = X.reshape(len(X), -1).astype(float)
    low, high = flat.min(axis=0), flat.max(axis=0)
    spread, middle = high - low, np.abs(high + low) / 2
    is_constant = spread <= 1e-12 * middle
    constant, varied = np.flatnonzero(is_constant).tolist(), np.flatnonzero(~is_constant).tolist()
    same = equal_rows(flat[:, varied].T) if varied else []
    equal = [(varied[columns[0]], varied[j]) for columns in same for j in columns[1:]]
    far = [j for j in varied if middle[j] > limit.HUNDREDFOLD * spread[j]]
    uneven = bool(varied) and spread[varied].max() > limit.HUNDREDFOLD * spread[varied].min()
    says = [f"column {listed(constant)} of {flat.shape[1]} constant"] if constant else []
    says += [f"equal columns: {listed(equal)}"] if equal else []
    says += [f"ranges from {spread[varied].min():.2g} to {spread[varied].max():.2g}"] if uneven else []
    says += [f"column {listed(far)} is more than {limit.HUNDREDFOLD:g} times as far from 0 as its range"] if far else []
    says += [f"standardise the inputs, {standardising('X', flat)}"] if uneven or far else []
    is_fine = not (uneven or far or equal) and bool(varied)
    return Finding("columns", is_fine, "; ".join(says) or f"{flat.shape[1]} columns of like ranges")


def _rows(X: Array, y: Array) -> Finding:
    repeated = equal_rows(X)
    differing = [rows for rows in repeated if (y[rows] != y[rows[0]]).any()]
    many = sum(len(rows) - 1 for rows in repeated)
    if many == len(X) - 1 > 0:
        return Finding("rows", False, f"all {len(X)} rows of X are equal")
    if differing:
        lost = sum(len(rows) for rows in differing)
        says = f"{lost} rows have the inputs of another and a different target, as rows {listed(differing[0])}"
        return Finding("rows", False, f"{says}: no model can tell them apart")
    return Finding("rows", many < len(X) / 2, f"{many} of {len(X)} rows repeat another" if many else "all different")


def _classes(y: Array, out: Tensor) -> list[Finding]:
    if y.dtype.kind not in "iub" or y.ndim != 1 or out.ndim != 2 or out.shape[1] < 2:
        return []
    counts = np.bincount(y.astype(int), minlength=out.shape[1])
    missing, rare = np.flatnonzero(counts == 0), np.flatnonzero((counts > 0) & (counts < _RARE * len(y)))
    says = [f"no sample of class {listed(missing)} (labels count from 0)"] if len(missing) else []
    says += [f"less than 1% of the samples in class {listed(rare)}"] if len(rare) else []
    return [
        Finding("classes", not says, "; ".join(says) or f"{len(counts)}, of {counts.min()} to {counts.max()} samples")
    ]


# Model and loss -------------------------------------------------------------------------------------------------------


def _shapes(y: Array, out: Tensor) -> list[Finding]:
    is_labelled = y.dtype.kind in "iub" and y.size < out.size  # several outputs for each label
    if is_labelled or out.shape == y.shape:
        return []
    says = f"outputs have shape {out.shape}, targets {y.shape}"
    try:
        difference = np.broadcast_shapes(out.shape, y.shape)
    except ValueError:
        return [Finding("shapes", False, f"{says}, which do not fit")]
    return [Finding("shapes", False, f"{says}: out - y is {difference}, each output against each target; y.reshape")]


def _output(X: Array, out: Tensor) -> Finding:
    values = out.data.reshape(len(X), -1)
    spread, size = float(values.std(axis=0).max(initial=0.0)), float(np.abs(values).max(initial=0.0))
    if len(X) > 1 and spread <= 1e-9 * size:
        return Finding("output", False, f"it is {listed(values[0])} for every row: it does not depend on the input")
    return Finding("output", True, f"it varies from row to row by {spread:.2g}")


def _gradient(model: Module) -> Finding:
    without = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    says = f"no gradient reaches {listed(without)}" if without else "it reaches every parameter"
    return Finding("gradient", not without, says + (f"; frozen: {listed(frozen)}" if frozen else ""))


def _start(loss: Loss, out: Tensor, y: Array, value: float) -> Finding:
    constant = constant_loss(loss, out.data, y)
    if constant is None:
        return Finding("start", True, f"the loss is {value:.4g}")
    is_fine = value <= max(_HIGH * constant, constant + abs(constant))
    says = f"the loss is {value:.4g}; the best constant output has {constant:.4g}"
    return Finding("start", bool(is_fine), says if is_fine else f"{says}: smaller weights in the last layer")


def _one_batch(run: Run, updates: int) -> Finding:
    losses = run.train(updates).loss or [np.nan]
    best, first = min(losses), losses[0]
    is_fine = best <= _FITTED * abs(first)
    says = f"{len(run.X)} samples, {len(run)} updates of Adam: the loss goes from {first:.3g} to {best:.3g}"
    return Finding("one batch", is_fine, says if is_fine else f"{says}; a model that works learns them by heart")


def _range_test(run: Run) -> Array:
    """The loss on all data after a step with each rate, until it is four times what it was."""
    start = run.value()
    losses: list[float] = []
    for _ in _RATES:
        losses.append(np.inf if run.train(1).stopped else run.value())
        if not losses[-1] <= start + 3 * abs(start):
            break
    return np.array(losses)


def _learning_rates(losses: Array) -> Finding:
    lowest = int(np.nanargmin(losses)) if np.isfinite(losses).any() else 0
    left = len(losses) < len(_RATES)
    fell = losses[0] - losses[lowest]
    leaves = f", and leaves at {_RATES[len(losses) - 1]:.2g}" if left else ""
    is_fine = bool(fell > 1e-3 * abs(losses[0]))
    says = f"SGD's loss falls until {_RATES[lowest]:.2g}{leaves}: begin with {_RATES[lowest] / 3:.1g}"
    return Finding("learning rates", is_fine, says if is_fine else f"no rate of SGD lowers the loss{leaves}")
