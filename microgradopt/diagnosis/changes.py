"""Experiments on a run: each is one change, made on a copy, and then as many updates as going on without it.

A change takes a run and gives the changed one, whose parameters are the same tensors: it may write θ. Whoever tries it
sees to it that θ comes back (trials.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt import nn
from microgradopt.diagnosis.reading import Product
from microgradopt.nn import init
from microgradopt.nn.module import Module
from microgradopt.optim.adaptive import Adam
from microgradopt.optim.first_order import SGD, Momentum
from microgradopt.optim.lbfgs import LBFGS
from microgradopt.optim.optimizer import Optimizer
from microgradopt.run import Loss, Run, copied
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

ITERATIONS = 100  # of L-BFGS


class Change(NamedTuple):
    """One experiment. name: what is changed, in words. code: the same as code. make: gives the changed run.

    iterations: how many calls of `train` it lasts, and cost: how many updates these count as, where they are not the
    run's own. restarts: whether it begins anew, and not from θ. lr: the learning rate, if that is changed.
    """

    name: str
    code: str
    make: Callable[[Run], Run]
    iterations: int | None = None
    cost: int | None = None
    restarts: bool = False
    lr: float | None = None


def then(first: Change, second: Change) -> Change:
    """Two changes, one after the other."""
    code = "; ".join(filter(None, (first.code, second.code)))
    name, restarts = f"{first.name}, {second.name}", first.restarts or second.restarts
    return Change(name, code, lambda run: second.make(first.make(run)), restarts=restarts, lr=second.lr or first.lr)


AS_BEFORE = Change("going on as before", "", lambda run: run.changed())


# The optimizer's settings ---------------------------------------------------------------------------------------------


def learning_rate(lr: float) -> Change:
    """Another learning rate, constant; those of other groups change by the same factor."""

    def make(run: Run) -> Run:
        other, rates = copied(run.optimizer), rates_of(run.optimizer)
        for group, rate in zip(other.param_groups, rates, strict=True):
            group["lr"] = lr * (rate / max(rates) if max(rates) else 1.0)
        return run.changed(other)

    return Change(f"lr = {lr:.3g}", f'for group in optimizer.param_groups: group["lr"] = {lr:.3g}', make, lr=lr)


def rates_of(optimizer: Optimizer) -> list[float]:
    """The learning rate of each group at the next step; [1] for a method that has none."""
    groups = optimizer.param_groups
    return [optimizer.rate("lr", i) if "lr" in group else 1.0 for i, group in enumerate(groups)]


def setting(name: str, value: Any, words: str) -> Change:
    """Another value of a hyperparameter, in all groups that have it."""

    def make(run: Run) -> Run:
        other = copied(run.optimizer)
        for group in other.param_groups:
            if name in group:
                group[name] = value
        return run.changed(other)

    return Change(words, f'for group in optimizer.param_groups: group["{name}"] = {value!r}', make)


def renewed(optimizer: Optimizer, parameters: list[Tensor] | None = None, lr: float | None = None) -> Optimizer:
    """A new optimizer of the same kind, without a state. parameters: to move these, with the first group's settings.

    lr: of all groups; None: as it is now, constant, since a schedule would begin anew.
    """
    groups = optimizer.param_groups if parameters is None else [{**optimizer.param_groups[0], "params": parameters}]
    other = copy.copy(optimizer)
    other.param_groups, other._checked, other._blocks, other._steps = [], [], [], []
    for i, group in enumerate(groups):
        rate = {"lr": optimizer.rate("lr", i) if lr is None else lr} if "lr" in group else {}
        other.add_param_group({**group, **rate})
    return other


UNCLIPPED = Change("without clipping", "max_norm=None", lambda run: run.changed(max_norm=None))
SHUFFLED = Change("shuffled", "shuffle=True", lambda run: run.changed(shuffle=True))
ALL_DATA = Change("all data in a batch", "batch_size=None", lambda run: run.changed(batch_size=None))


def with_parameters(names: list[str], parameters: list[Tensor]) -> Change:
    """An optimizer that moves all of them."""

    def make(run: Run) -> Run:
        other = copied(run.optimizer)
        first = {key: value for key, value in other.param_groups[0].items() if key != "params"}
        other.add_param_group({**first, "params": parameters})
        return run.changed(other)

    code = f"optimizer.add_param_group({{'params': [{', '.join(names)}]}})"
    return Change("all parameters in the optimizer", code, make)


# Other methods --------------------------------------------------------------------------------------------------------


def _lbfgs(run: Run) -> Run:
    optimizer = LBFGS(run.vector.parameters, max_iter=5, tolerance_grad=0.0, tolerance_change=0.0)
    return run.changed(optimizer, batch_size=None, max_norm=None)


LBFGS_100 = Change(
    f"{ITERATIONS} iterations of L-BFGS",
    "optimizer = optim.LBFGS(model.parameters())  # on all data: batch_size=None",
    _lbfgs,
    iterations=ITERATIONS // 5,
    cost=ITERATIONS,
)


def adam(lr: float) -> Change:
    """Adam in place of the run's optimizer."""
    code = f"optimizer = optim.Adam(model.parameters(), lr={lr:g})"
    return Change(f"Adam, lr = {lr:g}", code, lambda run: run.changed(Adam(run.vector.parameters, lr=lr)))


# θ --------------------------------------------------------------------------------------------------------------------


def _moved(words: str, code: str, to: Callable[[Array], Array]) -> Change:
    """Another θ, and an optimizer that has no memory of this one."""

    def make(run: Run) -> Run:
        theta = run.vector.theta()
        run.vector.write(to(theta).astype(theta.dtype))
        return run.changed(renewed(run.optimizer))

    return Change(words, code, make)


def way_out(theta: Array) -> Change:
    """On from where the way out of a saddle leads."""
    return _moved("on from the way out of the saddle", "objective.theta = found.theta", lambda _: theta)


def apart(sizes: Array) -> Change:
    """θ moved at random by a tenth of what weights are at the start: units that are the same become different."""
    noise = np.random.default_rng(0).standard_normal(len(sizes)) * 0.1 * sizes
    code = "weight.data = weight.data + 0.1 * rng.standard_normal(weight.shape)"
    return _moved("weights moved apart at random", code, lambda theta: theta + noise)


def fresh_start(layers: list[tuple[Tensor, Tensor | None, str]], lr: float | None = None) -> Change:
    """New weights, drawn for the activations behind them; biases 0. layers: weight, bias, name of the activation.

    lr: with another learning rate as well.
    """
    words = "fresh weights, drawn for their activations" + ("" if lr is None else f", lr = {lr:.3g}")

    def make(run: Run) -> Run:
        rng = np.random.default_rng(0)
        for weight, bias, activation in layers:
            weight.data = initial(weight.data, activation, rng)
            if bias is not None:
                # A sigmoid's output is ½ on average: the bias takes that out of the next layer's sums.
                bias.data = np.zeros(bias.shape)
        return run.changed(renewed(run.optimizer, lr=lr))

    code = "nn.init: xavier_uniform for tanh, 4 times that for sigmoid, kaiming_uniform for relu"
    return Change(words, code, make, restarts=True, lr=lr)


def initial(weight: Array, activation: str, rng: np.random.Generator) -> Array:
    """Weights that keep the size of what goes through: He's for relu and its kin, Glorot's × 1, × 4 for sigmoid.

    Those of a recurrent network are orthogonal: any number of steps keeps the size (Saxe et al. 2014).
    A sigmoid's slope is ¼ at most (Glorot and Bengio 2010): with 4 times the weights the gradient keeps its size.
    """
    if activation in ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus"):
        return init.kaiming_uniform(weight.shape, rng=rng).astype(weight.dtype)
    if activation == "recurrent":
        return init.orthogonal(weight.shape, rng=rng).astype(weight.dtype)
    gain = 4.0 if activation == "sigmoid" else 1.0
    return init.xavier_uniform(weight.shape, gain, rng).astype(weight.dtype)


# The network and its data ---------------------------------------------------------------------------------------------


def standardised(first: Product, X: Array) -> Change:
    """x̂ = (x − m) / s for x, and Ŵ = W s, b̂ = b + W m in the first layer: the function stays what it is."""
    spread = X.std(axis=0)
    scale = np.where(spread > 1e-12 * np.abs(X).max(axis=0), spread, 1.0)
    mean = X.mean(axis=0) if first.bias is not None else np.zeros(X.shape[1])

    def make(run: Run) -> Run:
        if first.bias is not None:
            first.bias.data = first.bias.data + first.units @ mean
        first.weight.data = first.oriented(first.units * scale)
        validation = run.validation and ((np.asarray(run.validation[0]) - mean) / scale, run.validation[1])
        return run.changed(renewed(run.optimizer), X=(np.asarray(run.X) - mean) / scale, validation=validation)

    return Change("inputs standardised", f"X = {standardising('X', X)}", make)


def standardising(name: str, data: Array) -> str:
    """(x − m) / s as code; a column that is constant is divided by 1."""
    spread = f"{name}.std(0)" if data.std(axis=0).all() else f"np.where({name}.std(0) > 0, {name}.std(0), 1)"
    return f"({name} - {name}.mean(0)) / {spread}"


def targets_standardised(y: Array) -> Change:
    """ŷ = (y − m) / s for y. The loss is still that in the units of y, with s ŷ + m for the output."""
    mean, spread = y.mean(axis=0), float(y.std(axis=0).mean()) or 1.0
    words, code = "targets standardised", f"y = {standardising('y', y)}"
    # The gradient of squared errors is s² times that in the units of ŷ.
    return _of_loss(words, code, lambda loss: lambda output, y: loss(output * spread + mean, y), spread**2)


def _of_loss(words: str, code: str, other: Callable[[Loss], Loss], larger: float = 1.0) -> Change:
    """Another loss, made of the run's own. larger: how many times larger its gradients are, for steps that follow."""

    def make(run: Run) -> Run:
        assert run.loss_function is not None
        follows = larger != 1 and isinstance(run.optimizer, SGD | Momentum)
        optimizer = renewed(run.optimizer, lr=max(rates_of(run.optimizer)) / larger if follows else None)
        return run.changed(optimizer, loss_function=other(run.loss_function))

    return Change(words, code, make)


NEGATED = _of_loss(
    "the loss without its minus",
    "loss = nn.cross_entropy  # not its negative",
    lambda loss: lambda output, target: -loss(output, target),
)


def _of_logits(logits: Callable[[Any], Any]) -> Change:
    """The loss of the logits behind an output of probabilities."""
    words, code = "the loss of the logits", "return logits  # in forward(), in place of probabilities"
    return _of_loss(words, code, lambda loss: lambda output, target: loss(logits(output), target))


LOGITS, LOGITS_OF_TWO = _of_logits(np.log), _of_logits(lambda p: np.log(p) - np.log1p(-p))


def _of_layers(words: str, code: str, layers: Callable[[list[Module]], list[Module]]) -> Change:
    """Other layers in a `nn.Sequential`, around the same parameters."""

    def make(run: Run) -> Run:
        assert isinstance(run.model, nn.Sequential)
        return run.changed(renewed(run.optimizer), model=nn.Sequential(*layers(list(run.model))))

    return Change(words, code, make)


WITHOUT_LAST = _of_layers(
    "without its last layer", "model = nn.Sequential(*list(model)[:-1])", lambda layers: layers[:-1]
)


def _with_relus(layers: list[Module]) -> list[Module]:
    """A relu between each two linear layers, in place of what is there."""
    linear: list[Module] = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return [part for layer in linear[:-1] for part in (layer, nn.ReLU())] + linear[-1:]


WITH_RELUS = _of_layers("relus between the layers", "model = nn.Sequential(nn.Linear(…), nn.ReLU(), …)", _with_relus)
SOFTMAX_OVER_CLASSES = _of_layers(
    "softmax over the classes",
    "nn.Softmax(dim=-1)",
    lambda layers: [nn.Softmax(-1) if isinstance(layer, nn.Softmax) else layer for layer in layers],
)
WITH_TANH = _of_layers(
    "tanh in place of sigmoid",
    "nn.Tanh() in place of nn.Sigmoid(), but for the output",
    lambda layers: [nn.Tanh() if isinstance(layer, nn.Sigmoid) else layer for layer in layers[:-1]] + layers[-1:],
)


def targets_shaped(shape: tuple[int, ...]) -> Change:
    """The targets in the shape of the outputs."""
    make = lambda run: run.changed(renewed(run.optimizer), y=np.asarray(run.y).reshape(shape))  # noqa: E731
    return Change(f"targets of shape {shape}", f"y = y.reshape({shape})", make)


def _unfrozen(run: Run) -> Run:
    model = copy.deepcopy(run.model)
    assert model is not None
    parameters = [p for _, p in model._all_parameters()]
    for parameter in parameters:
        parameter.requires_grad = True
    return run.changed(renewed(run.optimizer, parameters), model=model)


UNFROZEN = Change("all parameters trained", "parameter.requires_grad = True", _unfrozen)
