"""Training: batches, the loop with its history, evaluation, and checkpoints (checkpoints.py).

A step is three lines anyone can write (zero_grad, backward, step). `fit` adds what a real run needs: shuffled batches,
a record of what happened, and a stop, with the last good state kept, when a number is no longer finite.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.checkpoints import load_checkpoint as load_checkpoint
from microgradopt.checkpoints import save_checkpoint as save_checkpoint
from microgradopt.errors import NonFiniteError
from microgradopt.mode import no_grad
from microgradopt.nn.module import Module
from microgradopt.objective import Objective, check_objective
from microgradopt.optim.least_squares import LeastSquares
from microgradopt.optim.optimizer import Optimizer
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]
Loss = Callable[[Any, Any], Tensor]
RNG = np.random.Generator | int | None

# Data -----------------------------------------------------------------------------------------------------------------


def batches(
    X: Any, y: Any, batch_size: int | None = None, rng: RNG = None, shuffle: bool = True
) -> Iterator[tuple[Array, Array]]:
    """The samples once, in batches: of `batch_size`, the last one perhaps smaller, or all at once (None).

    X, y: arrays with equally many rows, or what NumPy makes arrays of (lists, pandas): rows are taken by position.
    shuffle: draw another order first, from `rng`, a seed or a Generator; None draws a fresh one. All at once keeps the
    order that there is.

    Raises ValueError for unequal lengths, no samples and a batch_size below 1, TypeError for what is no array of
    numbers.

    >>> [len(x) for x, _ in batches(np.zeros((5, 2)), np.zeros(5), 2, rng=0)]
    [2, 2, 1]
    """
    X, y = _array("X", X), _array("y", y)
    if len(X) != len(y) or not len(X):
        raise ValueError(f"batches: X has {len(X)} samples and y {len(y)}; equally many are wanted, and at least one")
    size = len(X) if batch_size is None else batch_size
    if not (isinstance(size, int) and size >= 1):
        raise ValueError(f"batches: batch_size is a whole number from 1, or None, not {size!r}")
    in_order = batch_size is None or not shuffle
    order = np.arange(len(X)) if in_order else np.random.default_rng(rng).permutation(len(X))
    for start in range(0, len(X), size):
        chosen = order[start : start + size]
        yield X[chosen], y[chosen]


def _array(name: str, data: Any) -> Array:
    array = np.asarray(data)
    if array.dtype.kind not in "fiub" or not array.ndim:
        raise TypeError(f"batches: {name} is to be an array of numbers, one row for each sample, not {data!r:.60}")
    return array


# Evaluation -----------------------------------------------------------------------------------------------------------


def accuracy(scores: Any, labels: Array) -> float:
    """The fraction of samples whose highest score is that of their label.

    scores: (samples, classes), Tensor or array. labels: (samples,), integers.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    chosen = scores.argmax(axis=-1)
    if chosen.shape != np.shape(labels):
        raise ValueError(
            f"accuracy: scores of shape {scores.shape} choose {chosen.shape}, labels are {np.shape(labels)}"
        )
    return float(np.mean(chosen == labels))


class Evaluation(NamedTuple):
    """Loss and accuracy on some data."""

    loss: float
    accuracy: float


def evaluate(model: Module, loss: Loss, X: Array, y: Array) -> Evaluation:
    """Loss and accuracy of a classifier on all of X, y, without recording a graph. ValueError for no samples.

    >>> import microgradopt as mg
    >>> model = mg.nn.MLP((2, 2), rng=0)
    >>> evaluate(model, mg.nn.cross_entropy, np.zeros((1, 2)), np.array([0])).accuracy in (0.0, 1.0)
    True
    """
    if not len(X):
        raise ValueError("evaluate: there are no samples")
    with no_grad():
        scores = model(X)
        return Evaluation(loss(scores, y).item(), accuracy(scores, y))


# The loop -------------------------------------------------------------------------------------------------------------


class History:
    """What happened at every update, as lists of equal length: `loss`, `gradient_norm`, `lr`, `seconds`.

    loss: of the batch, before the update. gradient_norm: ‖g‖₂ over all parameters. lr: of the first group.
    seconds: of the whole update (forward, backward, step), by the wall clock.

    >>> history = History()
    >>> history.append(loss=1.0, gradient_norm=2.0, lr=0.1, seconds=0.0)
    >>> history
    History(1 updates; last loss 1, gradient norm 2)
    """

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.gradient_norm: list[float] = []
        self.lr: list[float] = []
        self.seconds: list[float] = []

    def __len__(self) -> int:
        return len(self.loss)

    def append(self, loss: float, gradient_norm: float, lr: float, seconds: float) -> None:
        """Note one update."""
        self.loss.append(loss)
        self.gradient_norm.append(gradient_norm)
        self.lr.append(lr)
        self.seconds.append(seconds)

    def __repr__(self) -> str:
        last = f"; last loss {self.loss[-1]:.4g}, gradient norm {self.gradient_norm[-1]:.4g}" if self.loss else ""
        return f"History({len(self)} updates{last})"


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """‖g‖₂ over all parameters that have a gradient.

    >>> w = Tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = np.array([3.0, 4.0])
    >>> gradient_norm([w])
    5.0
    """
    return math.sqrt(sum(float(np.vdot(p.grad, p.grad)) for p in parameters if p.grad is not None))


def fit(
    model: Module,
    loss: Loss,
    optimizer: Optimizer,
    X: Array,
    y: Array,
    epochs: int,
    batch_size: int | None = None,
    rng: RNG = None,
    history: History | None = None,
    on_epoch: Callable[[int, History], object] | None = None,
    compile: Callable[[Any], Any] | None = None,
    shuffle: bool = True,
) -> History:
    """Train: for every batch of every epoch, one forward, one backward, one step.

    Optimizers that evaluate the loss themselves (L-BFGS, Newton's method, SAM) do so on that batch: give them all the
    data at once, or batches large enough for their curvature to mean something.

    loss: takes the model's output and the targets, gives a scalar Tensor: ``nn.cross_entropy``. For least squares
    methods it gives the residuals r, not one number, ``lambda out, y: out - y``; the history then has ½ ‖r‖².
    X, y: as `batches` takes them. batch_size: None is the whole set. shuffle: draw another order for every epoch, from
    `rng`, a seed or a Generator; None draws fresh ones.
    history: one to append to, from an earlier call. on_epoch: called after each epoch with its number and the history.
    compile: what makes functions quick, ``mg.compile``, for loss and gradient; None computes them as they are written,
    and so do second-order methods, which need the graph of the loss.

    Returns the history. Raises NonFiniteError at the first loss or gradient that is not finite, before the step it
    would have spoilt: the parameters and the optimizer stay as the last good step left them. Raises TypeError for a
    least squares method and a loss that is a single number.

    >>> import microgradopt as mg
    >>> X = np.arange(4.0).reshape(4, 1)
    >>> model = mg.nn.Linear(1, 1, rng=0)
    >>> fit(model, mg.nn.mse_loss, mg.optim.SGD(model.parameters(), lr=0.2), X, 2 * X, epochs=200).loss[-1] < 1e-6
    True
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"fit: optimizer is to be an Optimizer, as optim.Adam(model.parameters()), not {optimizer!r}")
    if not (isinstance(epochs, int) and epochs >= 0):
        raise ValueError(f"fit: epochs is a whole number from 0, not {epochs!r}")
    history = History() if history is None else history
    rng = np.random.default_rng(rng)
    parameters = list(model.parameters())
    optimizer.check_moves("fit", parameters)
    evaluate, closure_of = _evaluation(model, loss, optimizer, compile)
    optimizer.train()
    try:
        for epoch in range(epochs):
            for inputs, targets in batches(X, y, batch_size, rng, shuffle):
                started = time.perf_counter()
                value = evaluate(inputs, targets)
                norm = gradient_norm(parameters)
                _check_finite(value.item(), norm, len(history))
                lr = optimizer.lr
                optimizer.step(functools.partial(closure_of, inputs, targets) if optimizer.wants_closure else None)
                history.append(value.item(), norm, lr, time.perf_counter() - started)
            if on_epoch is not None:
                with optimizer.evaluating():
                    on_epoch(epoch, history)
    finally:
        optimizer.eval()
    return history


def trajectory(objective: Objective, optimizer: Optimizer, steps: int, history: History | None = None) -> Array:
    """The way of an optimizer over an error surface: θ⁰, θ¹, ... as rows, (steps + 1, n). θ stays where it came to.

    optimizer: of ``objective.parameters``. history: one to append to.

    Where the loss or the gradient is no longer finite, the way ends early, and θ is the last one where they were.

    A compiled objective's loss is computed as it is written where the optimizer asks for curvature: that needs the
    graph. Raises TypeError for a least squares method and an objective that is not `Objective.least_squares`;
    RuntimeError where the loss depends on none of the parameters.

    >>> import microgradopt as mg
    >>> objective = mg.Objective(lambda w: np.sum(w * w), [1.0])
    >>> trajectory(objective, mg.optim.SGD(objective.parameters, lr=0.25), 3)
    array([[1.   ],
           [0.5  ],
           [0.25 ],
           [0.125]])
    """
    check_objective("trajectory", objective)
    if not (isinstance(steps, int) and steps >= 0):
        raise ValueError(f"trajectory: steps is a whole number from 0, not {steps!r}")
    optimizer.check_moves("trajectory", objective.parameters)
    history = History() if history is None else history
    thetas = [objective.theta]

    def evaluate() -> float:
        value, g = objective.value_and_gradient()
        for parameter, part in zip(objective.parameters, objective.vector.split(g), strict=True):
            parameter.grad = part
        return value

    closure = _closure(objective, optimizer, evaluate)
    optimizer.train()
    for _ in range(steps):
        started, lr = time.perf_counter(), optimizer.lr
        value, norm = evaluate(), gradient_norm(objective.parameters)
        if not (math.isfinite(value) and math.isfinite(norm)):
            if len(thetas) > 1:
                thetas.pop()
            objective.theta = thetas[-1]
            break
        optimizer.step(closure if optimizer.wants_closure else None)
        history.append(value, norm, lr, time.perf_counter() - started)
        with optimizer.evaluating():
            thetas.append(objective.theta)
    optimizer.eval()
    return np.array(thetas)


def _closure(objective: Objective, optimizer: Optimizer, evaluate: Callable[[], float]) -> Callable[[], Tensor]:
    """What the optimizer's step is to call: gives residuals; the loss with its graph; or the loss as a number."""
    if isinstance(optimizer, LeastSquares):
        if objective.residuals is None:
            raise TypeError(
                f"trajectory: {type(optimizer).__name__} fits residuals, and this objective has none: make it by "
                "Objective.least_squares(model, residuals)"
            )
        return objective.residuals

    def with_graph() -> Tensor:
        optimizer.zero_grad()
        with objective.at() as loss:
            loss.backward()
        return loss

    return with_graph if optimizer.wants_graph else lambda: Tensor(evaluate())


def _evaluation(
    model: Module, loss: Loss, optimizer: Optimizer, compile: Callable[[Any], Any] | None
) -> tuple[Callable[[Array, Array], Tensor], Callable[[Array, Array], Tensor]]:
    """Of a batch: what computes its loss and the gradients; and what the optimizer's step is to call."""
    if isinstance(optimizer, LeastSquares):

        def residuals(inputs: Array, targets: Array) -> Tensor:
            return loss(model(inputs), targets)

        return lambda *batch: optimizer.evaluate(functools.partial(residuals, *batch))[1], residuals
    backward = _backward(model, loss, optimizer)
    # A compiled result has no graph, and so no curvature.
    quick = backward if compile is None or optimizer.wants_graph else compile(backward)
    return quick, quick


def _backward(model: Module, loss: Loss, optimizer: Optimizer) -> Callable[[Array, Array], Tensor]:
    """Clears the gradients, computes the loss of a batch, and the gradients."""
    parameters = list(optimizer.parameters())

    def backward(inputs: Array, targets: Array) -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        value = loss(model(inputs), targets)
        if not isinstance(value, Tensor):
            raise TypeError(f"fit: the loss is to give a Tensor, a single number with its graph, not {value!r:.60}")
        value.backward()
        return value

    return backward


def _check_finite(loss: float, norm: float, step: int) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise NonFiniteError(
            f"fit: at step {step} the loss is {loss} and the gradient norm {norm}. The parameters are those of the "
            "last good step. A smaller learning rate or clipping may do; mg.detect_anomaly() finds the operation"
        )
