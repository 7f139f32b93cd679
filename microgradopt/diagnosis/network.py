"""Causes that lie in the network and its loss: what the graph shows, and what the units are doing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt import nn
from microgradopt.autodiff import grad
from microgradopt.diagnosis import changes
from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.case import Case
from microgradopt.diagnosis.changes import Change
from microgradopt.diagnosis.reading import depends, made_by
from microgradopt.diagnosis.suspicion import Suspicion, listed
from microgradopt.nn.losses import nll_loss

Array = npt.NDArray[Any]


# What the last function of a network can give.
_RANGES = dict.fromkeys(("relu", "maximum", "softplus", "exp", "square", "absolute"), (0.0, np.inf))
_RANGES |= {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0)}

_NO_SLOPE = ("sign", "round", "around", "rint", "floor", "ceil", "trunc", "heaviside", "floor_divide")

# The loss -------------------------------------------------------------------------------------------------------------


def softmax_over_one(case: Case) -> Suspicion | None:
    """A softmax over one number is 1, whatever the number."""
    always = {"softmax": 1.0, "log_softmax": 0.0}
    nodes = [node for node in case.reading.nodes if made_by(node) in always and node.size > 1]
    if not any((node.data == always[made_by(node)]).all() for node in nodes):
        return None
    seen = "there is a softmax over one unit, which is always 1: the output does not depend on the input or the weights"
    action = (
        "for two classes: two output units and nn.cross_entropy without a softmax, or one unit without one and "
        "nn.binary_cross_entropy_with_logits"
    )
    return Suspicion("softmax over one unit", seen, action, _without_last(case), is_proof=True)


def softmax_over_samples(case: Case) -> Suspicion | None:
    """A softmax along axis 0: the samples share out the probability among them, class by class."""
    tables = [n for n in case.reading.nodes if made_by(n) == "softmax" and n.ndim == 2 and min(n.shape) > 1]
    sums = [(node.shape, *(node.data.sum(axis=axis) for axis in (0, 1))) for node in tables]
    shapes = [shape for shape, down, across in sums if np.allclose(down, 1) and not np.allclose(across, 1)]
    if not shapes:
        return None
    seen = f"the softmax of shape {shapes[0]} sums to 1 over axis 0, the samples, and not over the classes"
    action = "nn.Softmax(dim=-1); before nn.cross_entropy no softmax at all"
    cures = (changes.SOFTMAX_OVER_CLASSES, *_without_last(case)) if _without_last(case) else ()
    return Suspicion("softmax over the samples", seen, action, cures, is_proof=True)


def probabilities_before_the_loss(case: Case) -> Suspicion | None:
    """A softmax or sigmoid before a loss that has its own: the loss gets probabilities for logits."""
    reading = case.reading
    losses: dict[Any, str] = {
        nll_loss: "cross_entropy",
        nn.binary_cross_entropy_with_logits: "binary_cross_entropy_with_logits",
    }
    loss = None if reading.comparison is None else losses.get(reading.comparison.function)
    if loss is None or reading.output is None:
        return None
    output = reading.output.data
    if output.ndim == 2 and output.shape[1] > 1 and (output >= 0).all() and np.allclose(output.sum(axis=1), 1):
        name, says = "softmax", "each row of the output sums to 1, as after a softmax"
    elif reading.last in ("sigmoid", "expit"):
        name, says = "sigmoid", "the output comes out of a sigmoid"
    else:
        return None
    seen = f"{says}, and nn.{loss} takes logits and has its own: it is applied twice, and the loss cannot come near 0"
    action = f"leave out the {name}: nn.{loss} of the last layer's output"
    return Suspicion(f"{name} before the loss", seen, action, _without_last(case), is_proof=True)


def out_of_reach(case: Case) -> Suspicion | None:
    """An activation on the output, and targets that it cannot give."""
    reading, last = case.reading, case.reading.last
    if last not in _RANGES or reading.target is None:
        return None
    low, high = _RANGES[last]
    cause, action, cures = "output cannot reach the targets", f"no {last} on the output", _without_last(case)
    if reading.is_cross_entropy:
        seen = f"the logits come out of {last}, which cannot be below {low:g}"
        return None if last in ("sigmoid", "softmax") else Suspicion(cause, seen, action, cures)
    outside = float(np.mean((reading.target < low) | (reading.target > high)))
    if not outside:
        return None
    seen = (
        f"the output comes out of {last}, from {low:g} to {high:g}, and {outside:.0%} of the targets, from "
        f"{reading.target.min():.3g} to {reading.target.max():.3g}, are outside of that"
    )
    return Suspicion(cause, seen, f"{action}, or targets scaled to its range", cures, is_proof=True)


def broadcast(case: Case) -> Suspicion | None:
    """Outputs (n, 1) and targets (n,): their difference is (n, n), each output against each target."""
    for node in case.reading.nodes:
        if not isinstance(node.function, np.ufunc) or node.ndim != 2:
            continue
        n, shapes = len(node), [np.shape(value) for value in node.values[:2]]
        outputs = [x for x in node.inputs[:2] if depends(x)]
        is_of_targets = len(outputs) == 1 and not outputs[0].is_leaf
        if n > 1 and sorted(shapes) == [(n,), (n, 1)] and is_of_targets:
            seen = (
                f"{made_by(node)} of shapes {shapes[0]} and {shapes[1]} gives {node.shape}: it compares each output "
                "with each target, and the best output is the mean of all targets"
            )
            action = f"targets of the output's shape: y = y.reshape{n, 1}"
            cures = (changes.targets_shaped((n, 1)),) if case.has_data and np.size(case.run.y) == n else ()
            return Suspicion("outputs and targets broadcast", seen, action, cures, is_proof=True)
    return None


def wrong_sign(case: Case) -> Suspicion | None:
    """A loss that falls as the error of the network grows, and, where it has several, as each of them grows."""
    nodes = [node for node in case.reading.comparisons if not node.ndim]
    slopes = grad(case.reading.loss, nodes, allow_unused=True) if nodes else []
    falling = [node for node, slope in zip(nodes, slopes, strict=True) if slope is not None and slope < 0]
    if not falling or len(falling) < len(nodes):
        return None
    seen = f"the loss falls as {made_by(falling[-1])} rises: it has the wrong sign"
    cures = (changes.NEGATED, changes.then(changes.NEGATED, fresh(case))) if case.has_data else ()
    return Suspicion("gradient ascent", seen, "minimise the error itself, without the minus", cures, is_proof=True)


# Parameters -----------------------------------------------------------------------------------------------------------


def unreached(case: Case) -> Suspicion | None:
    """Parameters that the loss does not depend on, or from which it is cut off."""
    reading, reached = case.reading, set(case.reading.leaves)
    names = [reading.names[p] for p in reading.parameters if p not in reached]
    if not names:
        return None
    seen = (
        f"no gradient reaches {listed(names)}: the loss does not depend on them, or is cut off from them by .detach(), "
        ".data or no_grad"
    )
    action = "compute the loss from the tensors themselves, without .detach() or .data"
    return Suspicion("parameters without gradient", seen, action, is_proof=True)


def frozen(case: Case) -> Suspicion | None:
    """Parameters that are not trained."""
    names = case.reading.frozen
    if not names:
        return None
    cures = (changes.UNFROZEN,) if case.has_data else ()
    seen = f"{listed(names)} do not require a gradient and stay what they are"
    return Suspicion("frozen parameters", seen, "parameter.requires_grad = True", cures)


def strangers(case: Case) -> Suspicion | None:
    """Tensors that want a gradient and act on the loss, and are neither among its parameters nor in the optimizer."""
    known = {*case.reading.parameters, *case.optimizer.parameters()}
    shapes = [x.shape for x in case.reading.leaves if x not in known]
    if not shapes:
        return None
    seen = f"the loss depends on tensors of shape {listed(shapes)} that are not parameters of the model"
    action = "assign them to attributes of the module, or to lists and dicts in one"
    return Suspicion("parameters not in the model", seen, action, is_proof=case.has_optimizer)


# Units ----------------------------------------------------------------------------------------------------------------


def identical_units(case: Case) -> Suspicion | None:
    """Units of a hidden layer with the same weights: they get the same gradient, and stay the same."""
    for i, product in enumerate(case.reading.products[:-1]):
        units = product.units if product.bias is None else np.column_stack([product.units, product.bias.data])
        different = _different(units)
        if len(units) > 1 and different <= len(units) / 2:
            seen = (
                f"the {len(units)} units of layer {i} have {different} different sets of weights: units with the same "
                "weights get the same gradient, and stay the same"
            )
            action = "break the symmetry: draw the initial weights at random (nn.init)"
            out = () if case.way_out is None else (changes.way_out(case.way_out.theta),)
            cures = (changes.apart(_initial_sizes(case)), fresh(case), *out)
            return Suspicion("identical units", seen, action, cures)
    return None


def _different(units: Array) -> int:
    """How many rows there are that differ by more than rounding, each by its own size."""
    sizes = np.abs(units).max(axis=1, keepdims=True)
    if not np.isfinite(sizes).all():
        return len(units)
    return len(np.unique(np.round(units / np.where(sizes > 0, limit.SAME * sizes, 1.0)), axis=0))


def stuck_units(case: Case) -> Suspicion | None:
    """Relus that are 0 for every sample, sigmoids and tanhs at their ends: no gradient comes through."""
    dead = [x for x in case.layers if x.function == "relu" and x.stuck >= limit.HALF * x.units]
    saturated = [x for x in case.layers if x.function != "relu" and x.flat >= limit.MOST]
    if not dead and not saturated:
        return None
    seen = "; ".join(map(str, dead or saturated)) + ": no gradient comes through them"
    action = "start again with weights drawn for these activations, and a learning rate that does not push them there"
    action += "; or a leaky relu" if dead else ""
    return Suspicion("dead units" if dead else "saturated units", seen, action, (fresh(case),))


def vanishing_gradient(case: Case) -> Suspicion | None:
    """The network has learnt no more than a constant output, and the first layers get hardly any gradient."""
    products, constant = case.reading.products, case.constant
    if len(products) < 3 or constant is None or case.value < (1 - limit.TENTH) * constant:
        return None
    gradients = dict(zip(case.objective.parameters, case.objective.vector.split(case.gradient), strict=True))
    sizes = [float(np.sqrt(np.mean(np.square(gradients[p.weight])))) for p in products]
    if not min(sizes) < sizes[-1] / limit.TENFOLD:
        return None
    seen = (
        f"the loss {case.value:.4g} is that of a constant output, {constant:.4g}: the network knows only the mean; and "
        f"layer by layer, from the first on, the weights' gradient is {', '.join(f'{s:.1g}' for s in sizes)}"
    )
    action = (
        "the gradient vanishes on its way back: an initialisation that keeps its size (nn.init), relu or tanh in place "
        "of sigmoid, LayerNorm between the layers, or fewer layers"
    )
    cures = [fresh(case), changes.adam(1e-3), changes.adam(1e-2)]
    if case.sequence is not None and any(layer.function == "sigmoid" for layer in case.layers):
        cures.append(changes.then(changes.WITH_TANH, fresh(case, activation="tanh")))
    return Suspicion("vanishing gradient", seen, action, tuple(cures))


def zero_gradient(case: Case) -> Suspicion | None:
    """Tensors whose gradient is exactly 0, behind a function of slope 0 (sign, round) or a mask; not dead relus.

    At a minimum a gradient may be 0 as well: so it has to be 0 nearby too, and others have to have a gradient, or a
    function of slope 0 to be seen.
    """
    if not case.is_finite or any(layer.function == "relu" and layer.stuck == layer.units for layer in case.layers):
        return None
    vector = case.objective.vector
    sizes = vector.join([np.full(p.shape, np.abs(p.data).max(initial=0.0)) for p in vector.parameters])
    near = case.theta + limit.WORTH * np.random.default_rng(0).standard_normal(len(case.theta)) * sizes
    gradients = vector.split(case.gradient), vector.split(case.objective.gradient(near))
    parts = zip(vector.parameters, *gradients, strict=True)
    without = [case.reading.names[p] for p, g, there in parts if p.data.any() and not (g.any() or there.any())]
    is_flat = any(made_by(node) in _NO_SLOPE for node in case.reading.nodes)
    if not without or (len(without) == len(vector.parameters) and not is_flat):
        return None
    seen = (
        f"the gradient of {listed(without)} is exactly 0: a function of slope 0 (np.sign, np.round, a comparison) or a "
        "mask of zeros stands between them and the loss"
    )
    action = "functions with a slope: tanh in place of sign, the loss of the numbers before they are rounded"
    return Suspicion("parameters without gradient", seen, action, is_proof=True)


def no_activation(case: Case) -> Suspicion | None:
    """Layers without an activation between them are one linear layer."""
    if not case.reading.linear_pairs:
        return None
    seen = (
        f"{case.reading.linear_pairs + 1} layers follow each other without an activation between them: together they "
        "are one linear layer"
    )
    cures = (changes.WITH_RELUS,) if case.sequence is not None else ()
    return Suspicion("no activation", seen, "an activation, as nn.ReLU(), between the layers", cures)


def fresh(case: Case, lr: float | None = None, activation: str = "") -> Change:
    """A fresh start for all layers that the graph shows, each followed by the next activation, or by the one given."""
    hidden = len(case.reading.products) - 1
    names = [activation or layer.function for layer in case.layers[:hidden]] + ["linear"] * (hidden + 1)
    layers = [(p.weight, p.bias, name) for p, name in zip(case.reading.products, names, strict=False)]
    return changes.fresh_start(layers, lr)


def _initial_sizes(case: Case) -> Array:
    """The size that each parameter has at the start: 1/√inputs."""
    layers = [(p, layer) for layer in case.reading.products for p in (layer.weight, layer.bias) if p is not None]
    parts = {p: np.full(p.shape, layer.units.shape[1] ** -0.5) for p, layer in layers}
    return case.objective.vector.join([parts.get(p) for p in case.objective.parameters])


def _without_last(case: Case) -> tuple[Change, ...]:
    """The network without its last layer, if that has no parameters: from θ, and from fresh weights."""
    if case.sequence is None or list(case.sequence[-1].parameters()):
        return ()
    return changes.WITHOUT_LAST, changes.then(changes.WITHOUT_LAST, fresh(case))
