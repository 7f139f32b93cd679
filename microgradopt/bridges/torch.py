"""PyTorch's models: verdicts on their losses, and diagnoses of their trainings.

The model computes, where it is and in its own dtype; θ is here, as an array. Models and optimizers stay as they are:
only `write` changes a model.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.modules.dropout import _DropoutNd

from microgradopt import nn, optim
from microgradopt.bridges.foreign import ForeignModel, computed_by, history_of, joined
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
    backward. Dropout modules are off, all else that is random is the same each time, and buffers such as running
    averages are put back; apart from that the model computes in the mode that it is in. float64 parameters give an
    objective in float64, all others one in float32.

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
    of_theta, data = _OfModel(lambda _: _scalar(loss, model), model, parameters), (None, 0)
    one = np.ones(())
    return Objective.external(
        lambda theta: (of_theta.value(theta, data), of_theta.pulled(theta, one, data)),
        _flat(parameters, parameters),
        lambda theta, v: of_theta.bent(theta, one, v, data),
    )


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

    The run has copies of the parameters, in float64 if they are and else in float32, under the model's own names; its
    trials compute loss and gradients by the model. `write` takes what a cure has found back into the model.

    Raises TypeError for what is no such thing, ValueError for an optimizer that is not known here.

    >>> layer = torch.nn.Linear(2, 1)
    >>> sgd = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> run(layer, torch.nn.functional.mse_loss, (torch.ones(4, 2), torch.ones(4, 1)), sgd).train(2)
    Run(2 updates; last loss ..., gradient norm ...)
    """
    parameters = _trainable("run", model)
    X, y, size = joined("torch", batches, _array)
    arrays = {name: _array(p) for name, p in model.named_parameters() if p.requires_grad}
    network = ForeignModel(arrays, _OfModel(model, model, parameters))
    ours = dict(zip(parameters, network.parameters(), strict=True))
    is_shuffled = isinstance(getattr(batches, "sampler", None), torch.utils.data.RandomSampler)
    return Run(
        network, _loss(loss, parameters[0]), _optimizer(optimizer, ours), X, y, size, max_norm=clip,
        shuffle=is_shuffled, rng=0, history=history_of(history, None if scheduler is None else max(scheduler.base_lrs)),
    )  # fmt: skip


class _Function:
    """A function of PyTorch's as `Foreign`. compute: takes a tensor and one of data. like: has their device, dtype."""

    def __init__(self, compute: Callable[..., torch.Tensor], like: torch.Tensor) -> None:
        self.compute, self.like = compute, like
        self._last: tuple[Any, ...] | None = None  # x, their versions, data, the tensors that hold x, and the result
        self._pulled: tuple[Any, ...] | None = None  # g, and Jᵀg with its graph, of that result

    @contextlib.contextmanager
    def _given(self, x: Array) -> Iterator[list[torch.Tensor]]:
        """Inside, the tensors that are given hold x."""
        yield [_tensor(x, self.like).requires_grad_()]

    def _computed(self, inputs: list[torch.Tensor], data: Any) -> torch.Tensor:
        with _repeatable(self.like, 0):
            return self.compute(*inputs, _tensor(data, self.like))

    @contextlib.contextmanager
    def _recorded(self, x: Array, data: Any) -> Iterator[tuple[list[torch.Tensor], torch.Tensor]]:
        """The inputs and the result; those of the last call where they are the same: many products are at one point."""
        with self._given(x) as inputs, torch.enable_grad():
            last, versions = self._last, [tensor._version for tensor in inputs]  # a write in place spoils a graph
            if last is None or last[1] != versions or not _are_same(last[2], data) or not np.array_equal(last[0], x):
                out = self._computed(inputs, data)
                if not out.requires_grad:
                    raise RuntimeError("bridges.torch: the result has no graph; was it computed under torch.no_grad()?")
                last = self._last = (x.copy(), versions, data, inputs, out)
                self._pulled = None
            yield last[3:]

    def value(self, x: Array, data: Any) -> Array:
        with self._recorded(x, data) as (_, out):
            return _array(out)

    def pulled(self, x: Array, g: Array, data: Any) -> Array:
        with self._recorded(x, data) as (inputs, out):
            return _flat(_gradients([out], inputs, [_tensor(g, out)]), inputs).reshape(x.shape)

    def pushed(self, x: Array, c: Array, data: Any) -> Array:
        # J c is the derivative of Jᵀu by u, with cotangent c: a double backward.
        with self._recorded(x, data) as (inputs, out):
            u = torch.zeros_like(out, requires_grad=True)
            pulled = _gradients([out], inputs, [u], create_graph=True)
            return _flat(_gradients(pulled, [u], _split(c, inputs)), [u]).reshape(u.shape)

    def bent(self, x: Array, g: Array, c: Array, data: Any) -> Array:
        with self._recorded(x, data) as (inputs, out):
            if self._pulled is None or not np.array_equal(self._pulled[0], g):
                self._pulled = g.copy(), _gradients([out], inputs, [_tensor(g, out)], create_graph=True)
            return _flat(_gradients(self._pulled[1], inputs, _split(c, inputs)), inputs).reshape(x.shape)


def _are_same(one: Any, other: Any) -> bool:
    """Whether data are the very same. A pair is made anew on its way through a graph, what is in it is not."""
    is_pair = isinstance(one, tuple) and isinstance(other, tuple)
    return all(map(operator.is_, one, other)) if is_pair else one is other


def _gradients(
    outputs: Sequence[torch.Tensor | None],
    inputs: list[torch.Tensor],
    cotangents: list[torch.Tensor],
    create_graph: bool = False,
) -> Sequence[torch.Tensor | None]:
    """The gradient by the inputs of the sum of all ⟨cotangent, output⟩. None stands for zeros."""
    pairs = [(x, c) for x, c in zip(outputs, cotangents, strict=True) if x is not None and x.requires_grad]
    if not pairs:
        return [None] * len(inputs)
    chosen, along = zip(*pairs, strict=True)
    return torch.autograd.grad(chosen, inputs, along, retain_graph=True, create_graph=create_graph, allow_unused=True)


_ACTIVATIONS: dict[type, Any] = {
    torch.nn.ReLU: nn.functional.relu,
    torch.nn.Tanh: np.tanh,
    torch.nn.Sigmoid: nn.functional.sigmoid,
}


class _OfModel(_Function):
    """What is computed with a model, as a function of θ. data: a batch of inputs, and a seed; 0 is without dropout."""

    def __init__(
        self, compute: Callable[..., torch.Tensor], model: torch.nn.Module, parameters: list[torch.nn.Parameter]
    ) -> None:
        super().__init__(compute, parameters[0])
        self.model, self.parameters = model, parameters

    @contextlib.contextmanager
    def _given(self, x: Array) -> Iterator[list[torch.Tensor]]:
        """Inside, the parameters hold θ. Not by `torch.func.functional_call`, which replaces tied parameters for good,
        and has no way to a loss that is a closure.
        """
        before = [p.data for p in self.parameters]
        try:
            for parameter, part in zip(self.parameters, _split(x, self.parameters), strict=True):
                parameter.data = part
            yield list(self.parameters)
        finally:
            for parameter, value in zip(self.parameters, before, strict=True):
                parameter.data = value

    def _computed(self, inputs: list[torch.Tensor], data: Any) -> torch.Tensor:
        X, seed = data
        with _repeatable(self.like, seed), _put_back(self.model, seed == 0):
            return self.compute(None if X is None else _tensor(X, self.like))

    def activations(self, theta: Array, foreign: Any, data: Any) -> list[tuple[Any, Array, Array]]:
        """What its activations that are modules do: our function, input and output, units along the last axis."""
        found: list[tuple[Any, Array, Array]] = []

        def note(module: Any, given: Any, out: torch.Tensor) -> None:
            # Of a convolution (samples, channels, height, width) the channels are the units.
            x, y = (_array(part.movedim(1, -1) if part.ndim > 3 else part) for part in (given[0], out))
            found.append((_ACTIVATIONS[type(module)], x, y))

        hooks = [m.register_forward_hook(note) for m in self.model.modules() if type(m) in _ACTIVATIONS]
        try:
            with torch.no_grad(), self._given(theta) as inputs:
                self._computed(inputs, data)
        finally:
            for hook in hooks:
                hook.remove()
        return found


@contextlib.contextmanager
def _put_back(model: torch.nn.Module, without_dropout: bool) -> Iterator[None]:
    """Inside, dropout may be off; the modules are else in the modes that they are in. Afterwards buffers are as before.

    A forward pass writes to buffers, or puts others in their place.
    """
    modules = [m for m in model.modules() if without_dropout and isinstance(m, _DropoutNd) and m.training]
    buffers = [(m, name, x, x.clone()) for m in model.modules() for name, x in m.named_buffers(recurse=False)]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module in modules:
            module.training = True
        for owner, name, buffer, value in buffers:
            setattr(owner, name, buffer)
            buffer.data.copy_(value)


@contextlib.contextmanager
def _repeatable(like: torch.Tensor, seed: int) -> Iterator[None]:
    """Inside, PyTorch's random numbers are those of a seed; its own generators stay as they are.

    Attention is computed in the plain way: the fused ones have no second derivatives.
    """
    with (
        torch.random.fork_rng(devices=[like.device] if like.is_cuda else []),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        torch.manual_seed(seed)
        yield


def _loss(loss: Loss, like: torch.Tensor) -> Callable[[Any, Any], Tensor]:
    """A loss of PyTorch's: one of ours where it is the same, since a diagnosis knows what these compare."""
    foreign, ours = _Function(loss, like), _ours(loss)

    def computed(output: Any, target: Array) -> Any:
        is_table = output.ndim == 2 and (target.shape == output.shape or target.dtype.kind in "iu")
        return ours(output, target) if ours is not None and is_table else computed_by(output, foreign, target)

    return computed


def _ours(loss: Any) -> Callable[..., Tensor] | None:
    """Our loss for a function of torch.nn.functional, or for a loss module as it is made by default."""
    same = {torch.nn.CrossEntropyLoss: nn.cross_entropy, torch.nn.MSELoss: nn.mse_loss}
    if type(loss) in same:
        return same[type(loss)] if repr(vars(loss)) == repr(vars(type(loss)())) else None
    functional = {"cross_entropy": nn.cross_entropy, "mse_loss": nn.mse_loss}
    return next((ours for name, ours in functional.items() if loss is getattr(torch.nn.functional, name)), None)


# Optimizers -----------------------------------------------------------------------------------------------------------

_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"}

# The optimizers that both have by these names, and with these settings; and what PyTorch calls what ours keeps.
_KNOWN: dict[str, dict[str, str]] = {
    "SGD": {"b": "momentum_buffer"},
    "Adam": _MOMENTS,
    "AdamW": _MOMENTS,
    "RMSprop": {"v": "square_avg", "a": "grad_avg", "b": "momentum_buffer"},
    "Adagrad": {"sum": "sum"},
}


def _optimizer(given: Any, ours: dict[Any, Tensor]) -> Optimizer:
    """Our optimizer in the place of PyTorch's: on our tensors, with its settings and state."""
    name = type(given).__name__
    if not isinstance(given, torch.optim.Optimizer) or name not in _KNOWN:
        raise TypeError(
            f"bridges.torch.run: optimizer is one of torch.optim's {', '.join(_KNOWN)}, not {given!r:.60}; for another "
            "one give that which is nearest, made anew with its learning rate"
        )
    is_decoupled = name == "Adam" and given.param_groups[0].get("decoupled_weight_decay", False)
    make: type[Optimizer] = getattr(optim, "AdamW" if is_decoupled else name)
    groups, entries, first = [], [], 0
    for group in given.param_groups:
        moved = [p for p in group["params"] if p in ours]
        if moved:
            given_here = {key: group[key] for key in make.hyperparameters if key in group}
            settings = {key: x.item() if isinstance(x, torch.Tensor) else x for key, x in given_here.items()}
            groups.append({**settings, "params": [ours[p] for p in moved]})
            entries += _states([given.state.get(p, {}) for p in moved], _KNOWN[name], first)
            first += len(moved)
    if not groups:
        raise ValueError(
            "bridges.torch.run: the optimizer moves none of this model's parameters; is it another model's?"
        )
    optimizer = make(groups)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
    return optimizer


def _states(given: list[dict[str, Any]], names: dict[str, str], first: int) -> list[dict[str, Any]]:
    """What PyTorch keeps of each parameter of a group, as entries of a state_dict of ours."""
    steps = [int(kept.get("step", bool(kept))) for kept in given]
    entries = []
    for t in sorted(set(steps)):
        chosen = [i for i, step in enumerate(steps) if step == t]
        vectors = {
            ours: np.concatenate([_array(given[i][theirs]).ravel() for i in chosen])
            for ours, theirs in names.items()
            if all(isinstance(given[i].get(theirs), torch.Tensor) for i in chosen)
        }
        entries.append({"params": [first + i for i in chosen], "step": max(steps), "t": t, **vectors})
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
    return value.reshape(())


def _array(x: Any) -> Array:
    """A tensor, from wherever it is, or an array, as an array of its own. Half precision becomes float32."""
    if not isinstance(x, torch.Tensor):
        return np.array(x)
    x = x.detach().cpu()
    return (x.float() if x.is_floating_point() and x.element_size() < 4 else x).numpy().copy()


def _tensor(x: Any, like: torch.Tensor) -> torch.Tensor:
    """An array as a tensor on the device of another one; floats in its dtype too."""
    array = np.asarray(x, order="C")
    return torch.tensor(array, device=like.device, dtype=like.dtype if array.dtype.kind == "f" else None)


def _flat(parts: Iterable[torch.Tensor | None], like: list[Any]) -> Array:
    """Tensors of these shapes as one vector; None stands for zeros."""
    filled = [torch.zeros_like(p) if part is None else part for part, p in zip(parts, like, strict=True)]
    return _array(torch.cat([part.reshape(-1) for part in filled]))


def _split(x: Array, like: list[Any]) -> list[torch.Tensor]:
    """The numbers of an array as tensors of these shapes, dtypes and devices."""
    parts = torch.tensor(np.asarray(x, order="C")).reshape(-1).split([p.numel() for p in like])
    return [part.view_as(p).to(p) for part, p in zip(parts, like, strict=True)]
