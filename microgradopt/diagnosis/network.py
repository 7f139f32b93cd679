"""Causes that lie in the network and its loss: what the graph shows, and what the units are doing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.autodiff import grad
from microgradopt.diagnosis import changes
from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.case import Case
from microgradopt.diagnosis.changes import Change
from microgradopt.diagnosis.reading import LABELLED, OF_TWO, Product, depends, made_by
from microgradopt.diagnosis.suspicion import Suspicion, listed
from microgradopt.tensor import Tensor

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
    """A softmax or sigmoid before a loss that has its own, or that takes logarithms: the loss gets probabilities."""
    loss = case.reading.compared_by
    if loss not in (*LABELLED, OF_TWO):
        return None
    output = case.reading.output.data
    if output.ndim == 2 and output.shape[1] > 1 and (output >= 0).all() and np.allclose(output.sum(axis=1), 1):
        name, says = "softmax", "each row of the output sums to 1, as after a softmax"
    elif loss != "nll_loss" and _is_sigmoid(case.reading.output):
        name, says = "sigmoid", "the output comes out of a sigmoid"
    else:
        return None
    seen = f"{says}, and nn.{loss} takes logits and has its own: it is applied twice, and the loss cannot be near 0"
    action, cures = f"leave out the {name}: nn.{loss} of the last layer's output", _without_last(case)
    if loss == "nll_loss":
        seen, cures = f"{says}, and nn.nll_loss takes the logarithms of probabilities", ()
        action = "nn.cross_entropy of the last layer's output, without the softmax; or nn.nll_loss of np.log of it"
    if case.has_data and not cures:
        cures = here_and_fresh(case, changes.LOGITS_OF_TWO if loss == OF_TWO else changes.LOGITS)
    return Suspicion(f"{name} before the loss", seen, action, cures, is_proof=True)


def _is_sigmoid(output: Tensor) -> bool:
    """Whether it was made by a sigmoid, or is 1 / (1 + exp(…)), by hand."""
    if made_by(output) != "divide":
        return made_by(output) in ("sigmoid", "expit")
    above, below = output.values[0], output.inputs[1]
    return bool(np.all(above == 1)) and depends(below) and "exp" in map(made_by, filter(depends, below.inputs))


def out_of_reach(case: Case) -> Suspicion | None:
    """An activation on the output, and targets that it cannot give."""
    reading, last = case.reading, case.reading.last
    if last not in _RANGES or reading.target is None:
        return None
    low, high = _RANGES[last]
    cause, action, cures = "output cannot reach the targets", f"no {last} on the output", _without_last(case)
    if reading.compared_by == "cross_entropy":
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
    """A loss that falls as the error of the network grows, and, where it has several, as each of them grows.

    By hand, an error is a difference from targets, or the logarithm of a probability: then the loss has to be negative.
    """
    known = [node for node in case.reading.comparisons if not node.ndim]
    nodes = known or ([] if case.value >= 0 else _by_hand(case))
    slopes = grad(case.reading.loss, nodes, allow_unused=True) if nodes else []
    found = [(slope, 1.0 if known else node.data) for slope, node in zip(slopes, nodes, strict=True)]
    growing = [np.zeros(1) if slope is None else slope * error for slope, error in found]
    if not growing or not all(x.min() < 0 and x.max() <= -limit.SAME * x.min() for x in growing):
        return None
    seen = f"the loss falls as {made_by(nodes[-1])} grows in size, the error: it has the wrong sign"
    cures = here_and_fresh(case, changes.NEGATED) if case.has_data else ()
    return Suspicion("gradient ascent", seen, "minimise the error itself, without the minus", cures, is_proof=True)


def _by_hand(case: Case) -> list[Tensor]:
    """Differences of what the network computes from constant data; logarithms of what is at most 1, no entropy's."""
    nodes = case.reading.nodes
    differences = [n for n in case.reading.comparisons if not any(depends(x) and x.is_leaf for x in n.inputs)]
    logarithms = [n for n in nodes if made_by(n) == "log" and n.ndim and (n.data < limit.SAME).all()]
    weighted = [x for n in nodes if sum(map(depends, n.inputs)) > 1 for x in n.inputs]  # p log p
    return differences + [n for n in logarithms if all(n is not x for x in weighted)]


# Parameters -----------------------------------------------------------------------------------------------------------


def unreached(case: Case) -> Suspicion | None:
    """Parameters that the loss does not depend on, or from which it is cut off."""
    reading, reached = case.reading, set(case.reading.leaves)
    cut = [p for p in reading.parameters if p not in reached]
    if not cut:
        return None
    rng, vector = np.random.default_rng(0), case.objective.vector
    noise = {p: rng.standard_normal(p.shape) * np.abs(p.data).max(initial=0.0) for p in cut}
    acts = case.objective.value(case.theta + vector.join([noise.get(p) for p in vector.parameters])) != case.value
    seen = f"no gradient reaches {listed(reading.names[p] for p in cut)}: the loss "
    if acts:
        seen += "changes with them, and is cut off from them, by .detach(), .data or no_grad"
        action = "compute the loss from the tensors themselves, without .detach() or .data"
    else:
        seen, action = f"{seen}does not depend on them", "use them in the computation of the loss, or leave them out"
    is_meant = acts and not set(cut).isdisjoint(case.optimizer.parameters())
    return Suspicion("parameters without gradient", seen, action, is_proof=True, is_certain=is_meant)


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
    """Units of a hidden layer with the same weights and the same gradient: they stay the same."""
    for i, product in enumerate(case.reading.products[:-1]):
        different, units = _different(case, product), len(product.units)
        if units > 1 and different <= units / 2:
            seen = (
                f"the {units} units of layer {i} have {different} different sets of weights: units with the same "
                "weights get the same gradient here, and stay the same"
            )
            action = "break the symmetry: draw the initial weights at random (nn.init)"
            out = () if case.way_out is None else (changes.way_out(case.way_out.theta),)
            cures = (changes.apart(_initial_sizes(case)), fresh(case), *out)
            return Suspicion("identical units", seen, action, cures)
    return None


def _different(case: Case, product: Product) -> int:
    """How many units there are that differ by more than rounding, in their weights or in the gradient of these.

    Weights are compared by their own size, gradients by that of the largest there has been: at rest they are rounding.
    """
    own, vector = [p for p in (product.weight, product.bias) if p is not None], case.objective.vector
    split = [dict(zip(vector.parameters, vector.split(flat), strict=True)) for flat in (case.theta, case.gradient)]
    weights, gradients = (np.column_stack([product.oriented(of[own[0]]), *(of[p] for p in own[1:])]) for of in split)
    sizes = np.abs(weights).max(axis=1, keepdims=True)
    largest = max(case.norm, *case.norms[np.isfinite(case.norms)], np.finfo(float).tiny)
    if not (np.isfinite(sizes).all() and np.isfinite(largest)):
        return len(weights)
    sizes = np.where(sizes > 0, sizes, 1.0)
    compared = np.column_stack([weights / sizes, np.log(sizes), gradients / largest])
    return len(np.unique(np.round(compared / limit.SAME), axis=0))


def stuck_units(case: Case) -> Suspicion | None:
    """Relus that are 0 for every sample, sigmoids and tanhs at their ends: no gradient comes through."""
    dead = [x for x in case.layers if x.function == "relu" and x.stuck >= limit.HALF * x.units]
    saturated = [x for x in case.layers if x.function != "relu" and x.flat >= limit.MOST]
    if not dead and not saturated:
        return None
    seen = "; ".join(map(str, dead or saturated)) + ": no gradient comes through them"
    action = "start again with weights drawn for these activations, and a learning rate that does not push them there"
    action += "; or a leaky relu" if dead else ""
    # Above the limit of stability, a smaller rate is the cure of that.
    is_stable = case.ratio is None or case.ratio <= 1
    slower = [fresh(case, case.rate * less) for less in (0.1, 0.01)] if case.has_rate and is_stable else []
    return Suspicion("dead units" if dead else "saturated units", seen, action, (fresh(case), *slower))


def vanishing_gradient(case: Case) -> Suspicion | None:
    """The network has learnt no more than a constant output, and the first layers get hardly any gradient."""
    constant = case.constant
    if len(case.reading.products) < 3 or constant is None or case.value < (1 - limit.TENTH) * constant:
        return None
    sizes = case.reading.slopes
    if not sizes or not min(sizes) < sizes[-1] / limit.TENFOLD:
        return None
    seen = (
        f"the loss {case.value:.4g} is that of a constant output, {constant:.4g}: the network knows only the mean; and "
        f"layer by layer, from the last one back, the weights' gradient is {listed(f'{s:.1g}' for s in sizes[::-1])}"
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
    """Tensors whose gradient is exactly 0, behind a function of slope 0 (sign, round) or a mask; not stuck units.

    At a minimum a gradient may be 0 as well: so it has to be 0 nearby too, and others have to have a gradient, or a
    function of slope 0 to be seen.
    """
    if not case.is_finite or case.blocked:
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
    products = case.reading.products
    names = [activation or layer.function for layer in case.layers[: len(products) - 1]] + ["linear"] * len(products)
    layers: dict[Tensor, tuple[Tensor, Tensor | None, str]] = {}
    for p, name in zip(products, names, strict=False):
        is_recurrent = p.weight in layers and p.weight.shape[0] == p.weight.shape[1]
        layers[p.weight] = (p.weight, p.bias, "recurrent" if is_recurrent else name)
    return changes.fresh_start(list(layers.values()), lr)


def _initial_sizes(case: Case) -> Array:
    """The size that each parameter has at the start: 1/√inputs."""
    layers = [(p, layer) for layer in case.reading.products for p in (layer.weight, layer.bias) if p is not None]
    parts = {p: np.full(p.shape, layer.units.shape[1] ** -0.5) for p, layer in layers}
    return case.objective.vector.join([parts.get(p) for p in case.objective.parameters])


def _without_last(case: Case) -> tuple[Change, ...]:
    """The network without its last layer, if that has no parameters: from θ, and from fresh weights."""
    is_possible = case.sequence is not None and not list(case.sequence[-1].parameters())
    return here_and_fresh(case, changes.WITHOUT_LAST) if is_possible else ()


def here_and_fresh(case: Case, *cures: Change) -> tuple[Change, ...]:
    """Each of them from θ, and then from fresh weights: units that an error has saturated, or drawn to 0, stay so."""
    return *cures, *(changes.then(cure, fresh(case)) for cure in cures)
