"""Model bias or optimization? A smaller and a larger network, trained on the same data, tell.

Whatever the smaller network computes the larger one can compute too: its first layers copy the smaller network, and the
others hand their input on. So where the larger one has the larger training loss, a better θ exists and was not found:
that is a failure of optimization, and no larger model will mend it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.diagnosis import curve
from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.reading import Reading, constant_loss
from microgradopt.mode import no_grad
from microgradopt.nn.layers import Linear
from microgradopt.nn.module import Module, Sequential
from microgradopt.notebook import shown, table
from microgradopt.run import Run
from microgradopt.tensor import plain

Array = npt.NDArray[Any]
Runs = Run | Sequence[Run]

_SMALL = 1e-4  # where activations are nearly straight: the pre-activations of a layer that hands its input on
_ACTIONS = {
    "optimization": "not a larger model but better training is needed: critical.diagnose(run) of the larger tries what",
    "model bias": "a larger model helps: take it, and then look at the validation loss",
    "still training": "train the larger one on, and compare again",
    "no difference": "size does not decide here: critical.diagnose(run) tries what else may hold the loss",
}


@dataclass(frozen=True)
class Comparison:
    """What two sizes of a model tell.

    * verdict: "optimization", "model bias" (of the smaller), "still training", or "no difference".
    * evidence: the measurements it rests on. action: what to do.
    * smaller, larger: the training losses, of each run. copied: the loss of the larger model with the function of the
      smaller one copied into it, and theta, (n,), where that is; None where the two are not of one kind.
    """

    verdict: str
    evidence: list[str]
    action: str
    smaller: list[float] = field(repr=False)
    larger: list[float] = field(repr=False)
    copied: float | None = field(default=None, repr=False)
    theta: Array | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return "\n".join([self.verdict, *(f"  · {line}" for line in self.evidence), f"  → {self.action}"])

    def _repr_html_(self) -> str:
        rows = [*(("evidence", line) for line in self.evidence), ("what to do", self.action)]
        return shown(table(f"comparison: {self.verdict}", rows))


def compare(smaller: Runs, larger: Runs) -> Comparison:
    """Whether a large training loss comes of the model or of its training: by a smaller, shallower model beside it.

    smaller, larger: what `training.fit` returned for each, on the same data and with the same loss; or several runs of
    each, from different seeds, whose median losses are compared. The losses are those on all training data.

    They differ where the medians are further apart than 5 % of the smaller model's loss, and than the median absolute
    deviation of each model's losses; not where both have learnt every sample, and only the weights grow on. The larger
    loss then says what is wrong (Hung-yi Lee 2021; He et al. 2016, on 20 and 56 layers). Where both models are linear
    layers and activations of one kind, the smaller one's function is also copied into the larger one, and its loss
    measured: θ of both runs stay as they are.

    Raises TypeError for what is no run of a model, ValueError for runs on other data or with other losses (but for
    penalties on the parameters), for a larger model that has fewer parameters, and where a loss is not finite.

    >>> import microgradopt as mg
    >>> X = np.linspace(-1, 1, 20).reshape(-1, 1)
    >>> def run(*sizes):
    ...     model = mg.nn.MLP(sizes, mg.nn.Tanh, rng=0)
    ...     adam = mg.optim.Adam(model.parameters(), lr=0.02)
    ...     return mg.training.fit(model, mg.nn.mse_loss, adam, X, X**2, epochs=400)
    >>> compare(run(1, 1), run(1, 8, 1)).verdict
    'model bias'
    """
    small, large = _runs("smaller", smaller), _runs("larger", larger)
    with contextlib.ExitStack() as stack:
        for run in (*small, *large):
            stack.enter_context(run.evaluating())
        return _compared(small, large)


def _compared(small: list[Any], large: list[Any]) -> Comparison:
    _check_data(small, large)
    below, above = ([run.value() for run in runs] for runs in (small, large))
    if not np.isfinite([*below, *above]).all():
        raise ValueError("compare: a training loss is not finite; there is nothing to compare")
    _check_losses([*small, *large])
    copied, theta = _copied(small[int(np.argmin(below))], large[0], min(below)) or (None, None)
    is_learnt = all(map(_is_learnt, (*small, *large)))
    verdict = "no difference" if is_learnt else _verdict(below, above, large)
    evidence = [_told("smaller", small, below), _told("larger", large, above)]
    if verdict == "optimization":
        evidence.append(
            "that the larger model can compute what the smaller one does is assumed; it was not tried by a copy"
            if copied is None
            else f"with the smaller one's function copied into it, the larger model has a loss of {copied:.4g}: there "
            "is such a θ (found.theta, which can be trained on), and training has not found it"
        )
    if is_learnt:
        evidence.append("both have learnt every sample: their losses go to 0 as the weights grow, and say no more")
    if verdict == "model bias" and _is_training(small):
        what = "loss still falls" if len(small[0]) >= curve.FEWEST else "updates are too few to tell"
        evidence.append(f"the smaller model's {what}: training it on may do as well")
    if verdict == "still training":
        evidence.append(curve.read(large[0])[1][0])
    return Comparison(verdict, evidence, _ACTIONS[verdict], below, above, copied, theta)


def _verdict(below: list[float], above: list[float], large: list[Any]) -> str:
    gap = float(np.median(above) - np.median(below))
    spread = max(float(np.median(np.abs(np.subtract(losses, np.median(losses))))) for losses in (below, above))
    if abs(gap) <= max(limit.STUCK * abs(float(np.median(below))), spread):
        return "no difference"
    if gap < 0:
        return "model bias"
    return "still training" if _is_training(large) else "optimization"


def _is_training(runs: list[Any]) -> bool:
    """Whether the loss of each still falls clearly, or there were too few updates to tell."""
    return all(len(run) < curve.FEWEST or curve.read(run)[0] == "healthy" for run in runs)


def _is_learnt(run: Run) -> bool:
    """Whether every sample is classified right, with next to no loss: what is left falls as the weights grow."""
    reading = Reading(run.objective)
    if reading.right != 1.0 or run.loss_function is None:
        return False
    constant = constant_loss(run.loss_function, reading.output.data, run.y)
    return constant is not None and run.value() <= limit.LEARNT * constant


def _told(name: str, runs: list[Any], losses: list[float]) -> str:
    linear = sum(isinstance(module, Linear) for module in runs[0].modules)
    size = f"{linear} linear layer{'s' * (linear != 1)}, {runs[0].vector.size:,} parameters"
    seeds = f", the median of {len(losses)} from {min(losses):.4g} to {max(losses):.4g}" if len(losses) > 1 else ""
    return f"the {name} model ({size}) has a training loss of {np.median(losses):.4g}{seeds}"


# What may be compared -------------------------------------------------------------------------------------------------


def _runs(name: str, given: Runs) -> list[Any]:
    runs: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    for run in runs:
        if not isinstance(run, Run) or run.model is None or run.loss_function is None:
            raise TypeError(f"compare: {name} is a Run of a model, as training.fit returns, or a list; not {run!r:.60}")
    if not runs:
        raise ValueError(f"compare: {name} is an empty list")
    return runs


def _check_data(small: list[Any], large: list[Any]) -> None:
    first = small[0]
    for run in (*small, *large):
        if not (_are_equal(run.X, first.X) and _are_equal(run.y, first.y)):
            raise ValueError("compare: the runs are on different training data; their losses say nothing together")
    if max(run.vector.size for run in small) >= min(run.vector.size for run in large):
        raise ValueError("compare: the larger model is to have more parameters than the smaller one; swapped?")


def _are_equal(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")  # a model may fill gaps by itself


def _check_losses(runs: list[Any]) -> None:
    """Each is to tell two models apart by as much as the first does; so penalties on the parameters cancel."""
    first = runs[0]
    for run in runs[1:]:
        own, others = run.value(), run.changed(model=first.model).value()
        across, firsts = first.changed(model=run.model).value(), first.value()
        if not abs((own - others) - (across - firsts)) <= limit.LEAST * max(map(abs, (own, others, across, firsts))):
            raise ValueError(
                f"compare: the runs have different losses: one gives two of the models {others:.4g} and {own:.4g}, "
                f"another {firsts:.4g} and {across:.4g}; train all with the same"
            )


# The copy -------------------------------------------------------------------------------------------------------------


def _copied(small: Run, large: Run, loss: float) -> tuple[float, Array] | None:
    """Loss and θ of the larger model with the function of the smaller, whose loss is given.

    None where they are of other kinds, or the activation can hand nothing on.
    """
    inner, outer = _Layers.of(small.model), _Layers.of(large.model)
    if inner is None or outer is None or not outer.has_room_for(inner):
        return None
    found = []
    for way in _ways(inner, np.asarray(small.X)):
        with large.vector.copied(), np.errstate(all="ignore"):
            _write(inner, outer, way)
            found.append((large.value(), large.vector.theta().copy()))
    same = limit.SAME * abs(loss)  # of two that are as good the first: training goes on best from there
    copied, theta = min(found, key=lambda copy: max(abs(copy[0] - loss), same) if np.isfinite(copy[0]) else np.inf)
    return (copied, theta) if abs(copied - loss) <= limit.LEAST * abs(loss) else None


class _Layers(NamedTuple):
    """A network of linear layers with an activation of one kind between each two."""

    linear: list[Linear]
    activation: Module

    @classmethod
    def of(cls, model: Module | None) -> _Layers | None:
        layers = list(model) if isinstance(model, Sequential) else []
        linear = [layer for layer in layers[::2] if type(layer) is Linear and layer.bias is not None]
        kinds = {repr(layer) for layer in layers[1::2]}
        is_one = len(layers) > 2 and len(layers) % 2 and len(linear) == len(layers[::2]) and len(kinds) == 1
        is_trained = all(p.requires_grad for layer in linear for p in layer.parameters())
        return cls(linear, layers[1]) if is_one and is_trained else None

    @property
    def widths(self) -> list[int]:
        return [layer.out_features for layer in self.linear[:-1]]

    def has_room_for(self, inner: _Layers) -> bool:
        if repr(inner.activation) != repr(self.activation) or len(inner.linear) > len(self.linear):
            return False
        needed = inner.widths + [inner.widths[-1]] * (len(self.widths) - len(inner.widths))
        return all(a <= b for a, b in zip(needed, self.widths, strict=True))


class _Way(NamedTuple):
    """How a layer hands on its input a: with o = φ(epsilon a + shift), the next one gets a = scale o + offset."""

    epsilon: float
    shift: float
    scale: float
    offset: float


def _ways(network: _Layers, X: Array) -> list[_Way]:
    """Three of them: as it is, where the activation leaves it so (ReLU); moved above 0 (leaky ReLU); and for others.

    Others are nearly a straight line near 0, φ(εa) ≈ φ(0) + φ'(0) ε a, for ε small against all a of the last hidden
    layer.
    """
    with no_grad():
        a: Any = X
        for layer in network.linear[:-1]:
            a = network.activation(layer(a))
        zero, up, down = np.asarray(plain(network.activation(np.array([0.0, _SMALL, -_SMALL]))))
    size = max(float(np.abs(a.data).max()), 1e-300)
    epsilon, slope = _SMALL / size, (up - down) / (2 * _SMALL)
    with np.errstate(all="ignore"):
        straight = _Way(epsilon, 0.0, 1 / (slope * epsilon), -zero / (slope * epsilon))
    return [_Way(1.0, 0.0, 1.0, 0.0), _Way(1.0, size, 1.0, -size), straight]


def _write(inner: _Layers, outer: _Layers, way: _Way) -> None:
    """Write the inner network into the outer one; layers that it has not hand their input on."""
    layers = [tuple(p.data for p in layer.parameters()) for layer in inner.linear]
    extra, width = len(outer.linear) - len(layers), inner.widths[-1]
    if extra:
        hand_on = way.epsilon * np.eye(width), np.full(width, way.shift)
        after = [(way.scale * W, b + way.offset * W.sum(axis=1)) for W, b in (hand_on, layers[-1])]
        layers[-1:] = [hand_on, *after[:1] * (extra - 1), after[1]]
    for layer, arrays in zip(outer.linear, layers, strict=True):
        for p, array in zip(layer.parameters(), arrays, strict=True):
            room = [(0, there - here) for there, here in zip(p.shape, array.shape, strict=True)]
            p.data = np.pad(array, room).astype(p.dtype)
