"""PyTorch's models: verdicts on their losses, and diagnoses of their trainings.

The model computes, where it is and in its own dtype; θ is here, as an array. Models and optimizers stay as they are:
only `write` changes a model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.modules.dropout import _DropoutNd

from microgradopt import nn, optim
from microgradopt.bridges.foreign import ForeignModel, computed_by, history_of
from microgradopt.mode import current_mode, measuring
from microgradopt.objective import Objective
from microgradopt.optim.optimizer import Optimizer
from microgradopt.run import Run
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

__all__ = ["objective", "run", "write"]


# A loss as a function of θ --------------------------------------------------------------------------------------------


def objective(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Objective:
    """The loss of a PyTorch model as a function of θ, its trainable parameters flattened in order.

    loss: takes nothing, gives a scalar tensor: ``lambda: F.cross_entropy(model(X), y)``. A product H v is a double
    backward. Dropout is off, and buffers such as running averages are put back; apart from that the model computes in
    the mode that it is in. float32 parameters give an objective in float32.

    Raises TypeError for what is no torch module, no function, or a loss that is no scalar tensor; ValueError for a
    model without trainable parameters, and for data on another device than the model.

    >>> layer = torch.nn.Linear(2, 1).double()
    >>> X = torch.ones(3, 2, dtype=torch.float64)
    >>> objective(layer, lambda: (layer(X) ** 2).mean()).hessian().shape
    (3, 3)
    """
    parameters = _trainable("objective", model)
    if not callable(loss):
        raise TypeError(f"bridges.torch.objective: loss is a function without arguments, lambda: ..., not {loss!r:.60}")
    recorded: list[Any] = [None, []]  # θ, and the gradient there with its graph: many products are asked for at one θ

    def value_and_gradient(theta: Array) -> tuple[Array, Array]:
        with _holding(model, parameters, theta):
            value = _scalar(loss, model)
            found = torch.autograd.grad(value, parameters, allow_unused=True)
        return _array(value), _flat(found, parameters)

    def product(theta: Array, v: Array) -> Array:
        with _holding(model, parameters, theta):
            if recorded[0] is None or not np.array_equal(recorded[0], theta):
                found = torch.autograd.grad(_scalar(loss, model), parameters, create_graph=True, allow_unused=True)
                recorded[:] = theta, found
            pairs = zip(recorded[1], _split(v, parameters), strict=True)
            curved = [(g, part) for g, part in pairs if g is not None and g.requires_grad]
            if not curved:
                return np.zeros_like(v)
            gradients, along = zip(*curved, strict=True)
            found = torch.autograd.grad(gradients, parameters, along, retain_graph=True, allow_unused=True)
        return _flat(found, parameters)

    return Objective.external(value_and_gradient, _flat(parameters, parameters), product)


def write(model: torch.nn.Module, theta: npt.ArrayLike) -> None:
    """Write θ into a model's trainable parameters: that of an objective, ``run.objective.theta``, or of an escape.

    Raises ValueError for a θ of another size.

    >>> layer = torch.nn.Linear(2, 1)
    >>> write(layer, [1.0, 2.0, 3.0])
    >>> layer.bias.item()
    3.0
    """
    parameters = _trainable("write", model)
    array, n = np.array(theta), sum(p.numel() for p in parameters)
    if array.shape != (n,):
        raise ValueError(f"bridges.torch.write: θ is of shape {array.shape}, and the model has {n} trainable numbers")
    with torch.no_grad():
        for parameter, part in zip(parameters, _split(array, parameters), strict=True):
            parameter.copy_(part)


@contextlib.contextmanager
def _holding(model: torch.nn.Module, parameters: list[torch.Tensor], theta: Array) -> Iterator[None]:
    """Inside, the parameters hold θ, and dropout is off; afterwards all is as it was, buffers too."""
    before = [p.data for p in parameters]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        for parameter, part in zip(parameters, _split(theta, parameters), strict=True):
            parameter.data = part
        with torch.enable_grad(), _repeatable(parameters), _without_dropout(model):
            yield
    finally:
        for parameter, data in zip(parameters, before, strict=True):
            parameter.data = data
        for buffer, value in buffers:
            buffer.data.copy_(value)


@contextlib.contextmanager
def _without_dropout(model: torch.nn.Module) -> Iterator[None]:
    """Inside, the modules that drop elements do not; all others are in the mode that they were in."""
    dropping = [module for module in model.modules() if isinstance(module, _DropoutNd) and module.training]
    try:
        for module in dropping:
            module.training = False
        yield
    finally:
        for module in dropping:
            module.training = True


@contextlib.contextmanager
def _repeatable(parameters: Sequence[torch.Tensor], seed: int = 0) -> Iterator[None]:
    """Inside, PyTorch's random numbers are those of a seed; its own generators stay as they are.

    Attention is computed in the plain way: the fused ones have no second derivatives.
    """
    with (
        torch.random.fork_rng(devices={p.device for p in parameters if p.is_cuda}),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        torch.manual_seed(seed)
        yield


# A training -----------------------------------------------------------------------------------------------------------


def run(
    model: torch.nn.Module,
    loss: Loss,
    batches: Any,
    optimizer: torch.optim.Optimizer,
    scheduler: Any = None,
    clip: float | None = None,
    history: Any = None,
) -> Run:
    """A PyTorch training as a `Run`, for ``critical.diagnose(run)``. Model, optimizer and scheduler stay as they are.

    loss: takes the model's output and the targets, ``F.cross_entropy``. batches: a DataLoader, a list of pairs (inputs,
    targets), or one such pair, all data at once. optimizer: SGD, Adam, AdamW, RMSprop or Adagrad, whose settings and
    state are taken over: our own optimizers go on from there with the same numbers (tests/optim/test_parity.py).
    scheduler: of which the first learning rate is taken. clip: the norm that gradients are clipped to. history: what
    has a list `loss`, of each update, and perhaps `gradient_norm`, `lr`, or a list of losses.

    The run has copies of the parameters, in float32 if they are, under the model's own names; its trials compute loss
    and gradients by the model. `write` takes what a cure has found back into the model.

    Raises TypeError for what is no such thing, ValueError for an optimizer that is not known here.

    >>> layer = torch.nn.Linear(2, 1)
    >>> sgd = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> run(layer, torch.nn.functional.mse_loss, (torch.ones(4, 2), torch.ones(4, 1)), sgd).train(2)
    Run(2 updates; last loss ..., gradient norm ...)
    """
    parameters = _trainable("run", model)
    X, y, size, shuffle = _data(batches)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    network = ForeignModel({name: _array(p) for name, p in named.items()}, _Network(model, named))
    ours = dict(zip(parameters, network.parameters(), strict=True))
    return Run(
        network, _loss(loss, parameters), _optimizer(optimizer, ours), X, y, size, max_norm=clip, shuffle=shuffle,
        rng=0, history=history_of(history, None if scheduler is None else max(scheduler.base_lrs)),
    )  # fmt: skip


class _Function:
    """A function of PyTorch's as `Foreign`: of an array of floats, and of data."""

    def __init__(self, compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], like: list[torch.Tensor]) -> None:
        self.compute, self.like = compute, like
        self.draws = 0  # so that each update has a dropout of its own
        self._last: tuple[Any, Any, Any, Any] = (None, None, None, None)

    def _recorded(self, x: Array, data: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """x as a tensor, and the result with its graph; that of the last call where it is the same."""
        if self._last[0] is not x or self._last[1] is not data:
            given = _tensor(x, self.like[0]).requires_grad_()
            self.draws += not current_mode.get().measuring
            with torch.enable_grad(), _repeatable(self.like, self.draws):
                self._last = x, data, given, self.compute(given, _tensor(data, self.like[0]))
        return self._last[2], self._last[3]

    def value(self, x: Array, data: Any) -> Array:
        return _array(self._recorded(x, data)[1])

    def pulled(self, x: Array, g: Array, data: Any) -> Array:
        given, out = self._recorded(x, data)
        return _array(torch.autograd.grad(out, given, _tensor(g, out), retain_graph=True)[0])

    def pushed(self, x: Array, c: Array, data: Any) -> Array:
        # J c is the derivative of Jᵀu by u, with cotangent c: a double backward.
        given, out = self._recorded(x, data)
        u = torch.zeros_like(out, requires_grad=True)
        (pulled,) = torch.autograd.grad(out, given, u, create_graph=True)
        return _array(torch.autograd.grad(pulled, u, _tensor(c, given), retain_graph=True)[0])

    def bent(self, x: Array, g: Array, c: Array, data: Any) -> Array:
        given, out = self._recorded(x, data)
        (pulled,) = torch.autograd.grad(out, given, _tensor(g, out), create_graph=True)
        if not pulled.requires_grad:
            return np.zeros_like(x)
        (found,) = torch.autograd.grad(pulled, given, _tensor(c, given), retain_graph=True, allow_unused=True)
        return np.zeros_like(x) if found is None else _array(found)


_ACTIVATIONS: dict[type, Any] = {
    torch.nn.ReLU: nn.functional.relu,
    torch.nn.Tanh: np.tanh,
    torch.nn.Sigmoid: nn.functional.sigmoid,
}


class _Network(_Function):
    """A model as a function of its flat θ and a batch."""

    def __init__(self, model: torch.nn.Module, named: dict[str, torch.Tensor]) -> None:
        super().__init__(_outputs(model, named), list(named.values()))
        self.model = model

    def activations(self, theta: Array, foreign: Any, X: Array) -> list[tuple[Any, Array, Array]]:
        """What its activations that are modules do: our function, input and output, units along the last axis."""
        found: list[tuple[Any, Array, Array]] = []

        def note(module: Any, given: Any, out: torch.Tensor) -> None:
            # Of a convolution (samples, channels, height, width) the channels are the units.
            x, y = (_array(part.movedim(1, -1) if part.ndim > 3 else part) for part in (given[0], out))
            found.append((_ACTIVATIONS[type(module)], x, y))

        hooks = [m.register_forward_hook(note) for m in self.model.modules() if type(m) in _ACTIVATIONS]
        try:
            with torch.no_grad(), measuring(), _repeatable(self.like):
                self.compute(_tensor(theta, self.like[0]), _tensor(X, self.like[0]))
        finally:
            for hook in hooks:
                hook.remove()
        return found


def _outputs(model: torch.nn.Module, named: dict[str, torch.Tensor]) -> Any:
    """The output of a model as a function of its flat θ and a batch."""

    def outputs(theta: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
        parts = theta.split([p.numel() for p in named.values()])
        values = {name: part.view_as(p).to(p.dtype) for (name, p), part in zip(named.items(), parts, strict=True)}
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with _without_dropout(model) if current_mode.get().measuring else contextlib.nullcontext():
            found: torch.Tensor = torch.func.functional_call(model, {**values, **buffers}, (X,))
        return found

    return outputs


def _loss(loss: Loss, like: list[torch.Tensor]) -> Callable[[Any, Any], Tensor]:
    """A loss of PyTorch's: one of ours where it is the same, since a diagnosis knows what these compare."""
    foreign = _Function(lambda output, target: loss(output, target), like)
    own = {"cross_entropy": nn.cross_entropy, "mse_loss": nn.mse_loss}.get(_name_of(loss))

    def computed(output: Any, target: Array) -> Any:
        is_table = output.ndim == 2 and (target.shape == output.shape or target.dtype.kind in "iu")
        return own(output, target) if own is not None and is_table else computed_by(output, foreign, target)

    return computed


def _name_of(loss: Any) -> str:
    """The name of a function of torch.nn.functional; that of a loss module as it is made by default."""
    functional = torch.nn.functional
    if loss in (functional.cross_entropy, functional.mse_loss):
        return str(loss.__name__)
    modules = {torch.nn.CrossEntropyLoss: "cross_entropy", torch.nn.MSELoss: "mse_loss"}
    is_default = type(loss) in modules and repr(vars(loss)) == repr(vars(type(loss)()))
    return modules[type(loss)] if is_default else ""


def _data(batches: Any) -> tuple[Array, Array, int | None, bool]:
    """Inputs, targets, the size of a batch, and whether they are shuffled."""
    if isinstance(batches, tuple) and len(batches) == 2 and all(map(_is_data, batches)):
        return _array(batches[0]), _array(batches[1]), None, False
    if not isinstance(batches, Iterable):
        raise TypeError(
            f"bridges.torch.run: batches is a DataLoader, or pairs of inputs and targets, not {batches!r:.60}"
        )
    pairs = list(batches)
    if not pairs or not all(isinstance(p, tuple | list) and len(p) == 2 and all(map(_is_data, p)) for p in pairs):
        raise TypeError("bridges.torch.run: each batch is a pair of tensors, inputs and targets")
    X, y = (np.concatenate([_array(pair[i]) for pair in pairs]) for i in (0, 1))
    is_shuffled = isinstance(getattr(batches, "sampler", None), torch.utils.data.RandomSampler)
    return X, y, len(pairs[0][0]) if len(pairs) > 1 else None, is_shuffled


def _is_data(x: Any) -> bool:
    return isinstance(x, torch.Tensor | np.ndarray)


# Optimizers -----------------------------------------------------------------------------------------------------------

# Of each: ours, the settings that both have, and what PyTorch calls what ours keeps.
_KNOWN: dict[str, tuple[type[Optimizer], tuple[str, ...], dict[str, str]]] = {
    "SGD": (
        optim.SGD, ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"), {"b": "momentum_buffer"},
    ),
    "Adam": (
        optim.Adam, ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize"),
        {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"},
    ),
    "AdamW": (
        optim.AdamW, ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize"),
        {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"},
    ),
    "RMSprop": (
        optim.RMSprop, ("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize"),
        {"v": "square_avg", "a": "grad_avg", "b": "momentum_buffer"},
    ),
    "Adagrad": (optim.Adagrad, ("lr", "lr_decay", "eps", "weight_decay", "maximize"), {"sum": "sum"}),
}  # fmt: skip


def _optimizer(given: Any, ours: dict[Any, Tensor]) -> Optimizer:
    """Our optimizer in the place of PyTorch's: on our tensors, with its settings and state."""
    name = type(given).__name__
    if not isinstance(given, torch.optim.Optimizer) or name not in _KNOWN:
        raise TypeError(
            f"bridges.torch.run: optimizer is one of torch.optim's {', '.join(_KNOWN)}, not {given!r:.60}; for another "
            "one give that which is nearest, made anew with its learning rate"
        )
    is_decoupled = name == "Adam" and given.param_groups[0].get("decoupled_weight_decay", False)
    make, settings, states = _KNOWN["AdamW" if is_decoupled else name]
    groups, entries, first = [], [], 0
    for group in given.param_groups:
        moved = [p for p in group["params"] if p in ours]
        if not moved:
            continue
        values = {key: _setting(group[key]) for key in settings}
        groups.append({**values, "params": [ours[p] for p in moved]})
        entries += _states(moved, given.state, states, first)
        first += len(moved)
    if not groups:
        raise ValueError(
            "bridges.torch.run: the optimizer moves none of this model's parameters; is it another model's?"
        )
    optimizer = make(groups)
    fresh = optimizer.state_dict()
    optimizer.load_state_dict({**fresh, "state": entries})
    return optimizer


def _setting(value: Any) -> Any:
    """A hyperparameter as a number: PyTorch may keep a learning rate in a tensor."""
    return value.item() if isinstance(value, torch.Tensor) else value


def _states(moved: list[Any], state: Any, names: dict[str, str], first: int) -> list[dict[str, Any]]:
    """What PyTorch keeps of the parameters of a group, as entries of a state_dict of ours."""
    steps = [int(_setting(state[p]["step"])) if "step" in state.get(p, {}) else int(bool(state.get(p))) for p in moved]
    entries = []
    for t in sorted(set(steps)):
        chosen = [i for i, step in enumerate(steps) if step == t]
        kept = {
            ours: np.concatenate([_array(state[moved[i]][theirs]).ravel() for i in chosen])
            for ours, theirs in names.items()
            if all(isinstance(state.get(moved[i], {}).get(theirs), torch.Tensor) for i in chosen)
        }
        entries.append({"params": [first + i for i in chosen], "step": max(steps), "t": t, **kept})
    return entries


# Between tensors and arrays -------------------------------------------------------------------------------------------


def _trainable(name: str, model: Any) -> list[Any]:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"bridges.torch.{name}: a torch.nn.Module is wanted, not {model!r:.60}")
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"bridges.torch.{name}: the model has no parameters that require a gradient")
    return parameters


def _scalar(loss: Callable[[], Any], model: torch.nn.Module) -> torch.Tensor:
    try:
        value = loss()
    except RuntimeError as error:
        if "device" not in str(error):
            raise
        device = next(model.parameters()).device
        raise ValueError(
            f"bridges.torch: the model is on {device}, and its data are not: X.to({str(device)!r})"
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
        raise TypeError(
            "bridges.torch.objective: the loss is to be a scalar tensor with its graph, as F.cross_entropy gives it, "
            f"not {value!r:.60}"
        )
    return value


def _array(x: Any) -> Array:
    """A tensor, from wherever it is, or an array, as an array of its own."""
    return x.detach().cpu().numpy().copy() if isinstance(x, torch.Tensor) else np.array(x)


def _tensor(x: Any, like: torch.Tensor) -> torch.Tensor:
    """An array as a tensor on the device of another one; floats in its dtype too."""
    array = np.asarray(x, order="C")
    return torch.tensor(array, device=like.device, dtype=like.dtype if array.dtype.kind == "f" else None)


def _flat(parts: Iterable[torch.Tensor | None], parameters: list[Any]) -> Array:
    """Tensors of the parameters' shapes as one vector; None stands for zeros."""
    filled = [torch.zeros_like(p) if part is None else part for part, p in zip(parts, parameters, strict=True)]
    return torch.cat([part.detach().reshape(-1) for part in filled]).cpu().numpy()


def _split(theta: Array, parameters: list[Any]) -> list[torch.Tensor]:
    """A vector as tensors of the parameters' shapes, dtypes and devices."""
    flat = torch.as_tensor(theta, device=parameters[0].device)
    parts = flat.split([p.numel() for p in parameters])
    return [part.view_as(p).to(p.dtype) for part, p in zip(parts, parameters, strict=True)]
