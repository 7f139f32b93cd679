"""What the recorded graph of a loss tells of the network behind it: inputs, outputs, targets, layers, parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt import nn
from microgradopt.autodiff import grad
from microgradopt.errors import NonFiniteError
from microgradopt.nn.functional import linear
from microgradopt.nn.losses import nll_loss
from microgradopt.objective import Objective
from microgradopt.optim.lbfgs import LBFGS
from microgradopt.rules.registry import name_of
from microgradopt.sweep import graph_of
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

_LOSSES = {nll_loss, nn.mse_loss, nn.l1_loss, nn.huber_loss, nn.hinge_loss, nn.binary_cross_entropy_with_logits}
_MATRIX_PRODUCTS = (linear, np.matmul, np.dot)
LABELLED, OF_TWO = ("cross_entropy", "nll_loss"), "binary_cross_entropy_with_logits"  # losses of classes, by name


class Product(NamedTuple):
    """A layer x Wᵀ + b (`linear`), or x W. x: what goes in, an array. weight, bias: parameters, or bias None."""

    node: Tensor
    x: Any
    weight: Tensor
    bias: Tensor | None

    @property
    def units(self) -> Array:
        """The weights that lead to each unit, one row each."""
        return self.oriented(self.weight.data)

    def oriented(self, weight: Array) -> Array:
        """Rows of units from what has the weight's shape, or the other way round."""
        return weight if self.node.function is linear else weight.T


class Reading:
    """A loss at θ, read from its graph. Each thing is read when it is first asked for."""

    def __init__(self, objective: Objective) -> None:
        self.parameters = objective.parameters
        with np.errstate(all="ignore"):
            self.loss = objective.loss()
        self.nodes = graph_of([self.loss]).nodes if self.loss.requires_grad else []
        named = dict(objective.model.named_parameters()) if objective.model is not None else {}
        self.names = {p: f"parameter {i} of shape {p.shape}" for i, p in enumerate(self.parameters)}
        self.names |= {p: name for name, p in named.items()}
        self.frozen = [name for name, p in named.items() if not p.requires_grad]

    # Parameters

    @functools.cached_property
    def leaves(self) -> list[Tensor]:
        """The tensors that a gradient comes to."""
        inputs = [self.loss, *(x for node in self.nodes for x in node.inputs if type(x) is Tensor)]
        return [x for x in dict.fromkeys(inputs) if x.is_leaf and x.requires_grad]

    # Layers

    @functools.cached_property
    def products(self) -> list[Product]:
        """The layers that are matrix products with a parameter, in the order in which they are computed."""
        own, found = set(self.parameters), []
        for node in self.nodes:
            if node.function in _MATRIX_PRODUCTS and len(node.values) >= 2 and node.inputs[1] in own:
                weight = node.inputs[1]
                bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] in own else None
                if weight.ndim == 2:
                    found.append(Product(node, node.values[0], weight, bias))
        return found

    @property
    def slopes(self) -> list[float]:
        """The gradient of the weights, root mean square, that each layer gives: of shared weights, step by step."""
        products = [p for p in self.products if np.any(p.x)]  # not the state that a recurrent network begins with
        found = grad(self.loss, [p.node for p in products], allow_unused=True)
        rows = [(np.reshape(p.x, (-1, np.shape(p.x)[-1])), g) for p, g in zip(products, found, strict=True)]
        return [float(np.sqrt(np.mean(np.square(x.T @ g.reshape(len(x), -1))))) for x, g in rows if g is not None]

    @functools.cached_property
    def first(self) -> Product | None:
        """The layer that takes the data, if they are a table: rows of samples, columns of features."""
        return next((p for p in self.products if not depends(p.node.inputs[0]) and np.ndim(p.x) == 2), None)

    @functools.cached_property
    def inputs(self) -> Array | None:
        """The data, as the first layer gets them, (samples, features)."""
        return None if self.first is None else np.asarray(self.first.x, float)

    @functools.cached_property
    def linear_pairs(self) -> int:
        """How many layers take the result of another layer as it is, with nothing in between."""
        nodes = {product.node for product in self.products}
        return sum(type(p.node.inputs[0]) is Tensor and _through(p.node.inputs[0]) in nodes for p in self.products)

    # The loss

    @functools.cached_property
    def comparisons(self) -> list[Tensor]:
        """The nodes that compare outputs with targets: those of nn's losses, or else differences with constant data."""
        known = [node for node in self.nodes if node.function in _LOSSES]
        differences = [node for node in self.nodes if node.function is np.subtract and min(map(np.ndim, node.values))]
        return known or [node for node in differences if sum(map(depends, node.inputs)) == 1]

    @property
    def comparison(self) -> Tensor | None:
        """The last of them."""
        return self.comparisons[-1] if self.comparisons else None

    @functools.cached_property
    def output(self) -> Any:
        """What the loss compares with the targets: a Tensor; for cross entropy the logits. None where not seen."""
        if self.comparison is None:
            return None
        output = next(x for x in self.comparison.inputs if depends(x))
        return output.inputs[0] if self.compared_by == "cross_entropy" else output

    @functools.cached_property
    def target(self) -> Array | None:
        """The targets."""
        if self.comparison is None:
            return None
        sides = zip(self.comparison.inputs[:2], self.comparison.values[:2], strict=False)
        return next((np.asarray(value) for x, value in sides if not depends(x)), None)

    @functools.cached_property
    def compared_by(self) -> str:
        """The name of the loss in nn; "subtract" for a difference; "" where no comparison is seen."""
        if self.comparison is None:
            return ""
        takes_logits = any(type(x) is Tensor and made_by(x) == "log_softmax" for x in self.comparison.inputs[:1])
        name = made_by(self.comparison)
        return "cross_entropy" if name == "nll_loss" and takes_logits else name

    @property
    def last(self) -> str:
        """The name of the function that made the output."""
        return "" if self.output is None else made_by(self.output)

    @functools.cached_property
    def loss_function(self) -> Callable[[Any, Any], Any] | None:
        """What compares outputs and targets, as a function of both, if it is one of nn's with its usual reduction."""
        if self.comparison is None or self.comparison.function not in _LOSSES or self.comparison.ndim:
            return None
        rest = self.comparison.values[2:]
        function = nn.cross_entropy if self.compared_by == "cross_entropy" else self.comparison.function
        return lambda output, target: function(output, target, *rest)

    @functools.cached_property
    def right(self) -> float | None:
        """The share of samples that are classified right; None where there are no classes."""
        has_labels = self.target is not None and self.target.shape == self.output.shape[:1]
        if self.compared_by in LABELLED and has_labels and self.output.ndim == 2:
            return float(np.mean(self.output.data.argmax(axis=1) == self.target))
        middle = {OF_TWO: 0.5, "hinge_loss": 0.0}.get(self.compared_by)
        if middle is None or self.target is None:
            return None
        return float(np.mean((self.output.data > 0) == (self.target > middle)))


def constant_loss(loss: Callable[[Any, Any], Any], output: Array, target: Array) -> float | None:
    """The loss of the best constant output, the same for each sample, found by L-BFGS; None where there is none.

    output: of the network, for its shape and as a start. For cross entropy it is the entropy of the classes' shares,
    log K for K classes alike; for squared errors the variance of the targets.
    """
    guess = Tensor(np.median(output, axis=0), requires_grad=True)
    objective = Objective.of([guess], lambda: loss(np.broadcast_to(guess, output.shape), target))
    optimizer = LBFGS([guess], max_iter=100, tolerance_grad=0.0, tolerance_change=0.0)

    def closure() -> Tensor:
        at = objective.loss()
        guess.grad = grad(at, [guess])[0]  # of the guess alone: the loss may have a penalty on the parameters
        return at

    try:
        with np.errstate(all="ignore"):
            optimizer.step(closure)
            best = objective.value()
    except (NonFiniteError, RuntimeError, ValueError, TypeError):
        return None
    return best if np.isfinite(best) else None


def made_by(x: Tensor) -> str:
    """The name of the function that made a tensor; "" for a leaf."""
    return "" if x.function is None else name_of(x.function)


def depends(x: Any) -> bool:
    """Whether parameters act on it."""
    return type(x) is Tensor and x.needs_grad


def _through(x: Tensor) -> Tensor:
    """The node behind additions of a bias, changes of shape, and what does nothing to these data."""
    while x.function is not None and depends(x.inputs[0]):
        if x.function not in (np.add, np.reshape, np.transpose) and not np.array_equal(x.value, x.values[0]):
            break
        x = x.inputs[0]
    return x
