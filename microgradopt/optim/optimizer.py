"""Optimizer: what all update rules share. The rule itself is one method on flat vectors, `update`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.objective import ParameterVector
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]
State = dict[str, Any]
Group = dict[str, Any]
Schedule = Callable[[int], float]
LearningRate = float | Schedule
Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]

# Where hyperparameters may lie: from the first number, and below the second.
_RANGES: dict[str, tuple[float, float]] = {
    "lr": (0.0, math.inf),
    "momentum": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "eps": (0.0, math.inf),
    "lr_decay": (0.0, math.inf),
    "initial_accumulator_value": (0.0, math.inf),
    "momentum_decay": (0.0, math.inf),
    "alpha": (0.0, 1.0),
    "rho": (0.0, 1.0),
    "betas": (0.0, 1.0),
    "adam_lr": (0.0, math.inf),
    "adam_betas": (0.0, 1.0),
    "adam_eps": (0.0, math.inf),
}


class Optimizer(ABC):
    """Base of all optimizers: parameter groups, the learning rate at step t, gathering and scattering, state.

    params: the tensors to optimise; or groups, dicts with "params" and hyperparameters of their own.
    lr: a number, or a schedule: a function of the step t (0 first) that gives the learning rate ηₜ.
    maximize: climb instead of descend.

    Within a group θ, g and every state vector are flat, in the order of its tensors. `param_groups` holds the groups;
    changing ``optimizer.param_groups[0]["lr"]`` takes effect at the next step.

    A subclass writes `update`. Raises ValueError for hyperparameters out of range and parameters that are no leaves.
    """

    def __init__(self, params: Parameters, **defaults: Any) -> None:
        self._defaults = defaults
        self.param_groups: list[Group] = []
        self._vectors: list[ParameterVector] = []
        self._states: list[State] = []
        listed: list[Any] = [params] if isinstance(params, Mapping | Tensor) else list(params)
        grouped = bool(listed) and all(isinstance(item, Mapping) for item in listed)
        for group in listed if grouped else [{"params": params if isinstance(params, Tensor) else listed}]:
            self.add_param_group(group)

    @abstractmethod
    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        """The new θ from the old one: the optimizer's formula.

        theta, g: (n,), not to be written to. state: the vectors kept from step to step, empty at first, and "t", the
        number of steps before this one. lr: the learning rate of this step. group: the hyperparameters.
        """

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Optimise more tensors, with the hyperparameters in `group` or else the defaults."""
        unknown = sorted(group.keys() - self._defaults.keys() - {"params"})
        if unknown or "params" not in group:
            raise ValueError(
                f"{self._name}: a group has params and any of {sorted(self._defaults)}; found {sorted(group)}"
            )
        vector = ParameterVector([group["params"]] if isinstance(group["params"], Tensor) else group["params"])
        taken = {parameter for other in self._vectors for parameter in other.parameters}
        if not taken.isdisjoint(vector.parameters):
            raise ValueError(f"{self._name}: a parameter is in more than one group")
        complete = {**self._defaults, **group, "params": vector.parameters}
        self._check(complete)
        self.param_groups.append(complete)
        self._vectors.append(vector)
        self._states.append({"t": 0})

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update of all parameters from their `.grad`.

        closure: clears the gradients, computes the loss, calls backward and gives the loss; called first, if given.
        Parameters without a gradient, and frozen ones, stay as they are, and so do their entries of the state.

        Raises RuntimeError if no parameter has a gradient.
        """
        loss = None if closure is None else closure()
        ready = [any(p.grad is not None for p in vector.parameters) for vector in self._vectors]
        if not any(ready):
            raise RuntimeError(f"{self._name}.step: no parameter has a gradient; call loss.backward() first")
        for i, has_gradient in enumerate(ready):
            if has_gradient:
                self._step_group(self.param_groups[i], self._vectors[i], self._states[i])
        return loss

    def _step_group(self, group: Group, vector: ParameterVector, state: State) -> None:
        theta, g, still = vector.theta(), vector.gradient(), vector.without_gradient()
        lr = group["lr"](state["t"]) if callable(group["lr"]) else group["lr"]
        before = _copied(state) if still else state
        moved = self.update(theta, -g if group["maximize"] else g, state, lr, group)
        for part in still:
            moved[part] = theta[part]
            for key, value in state.items():
                if isinstance(value, np.ndarray):
                    value[part] = before[key][part] if key in before else 0.0
        vector.write(moved)
        state["t"] += 1

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `.grad` becomes None."""
        for vector in self._vectors:
            for parameter in vector.parameters:
                parameter.grad = None

    @property
    def lr(self) -> float:
        """The learning rate that the next step of the first group will use."""
        lr = self.param_groups[0]["lr"]
        return float(lr(self._states[0]["t"]) if callable(lr) else lr)

    # Saving and loading

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: "state", by group, and "param_groups", hyperparameters with positions.

        Arrays are copies. Schedules, being functions, are not in it: give them again when building the optimizer.
        """
        groups, position = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            plain = {key: value for key, value in group.items() if key != "params" and not callable(value)}
            groups.append({**plain, "params": list(range(position, position + count))})
            position += count
        return {"state": [_copied(state) for state in self._states], "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict` of the same optimizer on parameters of the same sizes, bit for bit.

        Raises ValueError, before anything is changed, for one that does not fit.
        """
        if state_dict.keys() != {"state", "param_groups"}:
            raise ValueError(f"{self._name}.load_state_dict: wants state and param_groups, found {sorted(state_dict)}")
        states, groups = list(state_dict["state"]), list(state_dict["param_groups"])
        counts = [len(group["params"]) for group in self.param_groups]
        if len(states) != len(groups) or [len(group["params"]) for group in groups] != counts:
            raise ValueError(
                f"{self._name}.load_state_dict: this optimizer has groups of {counts} parameters; nothing loaded"
            )
        for group, state, vector in zip(groups, states, self._vectors, strict=True):
            unknown = group.keys() - self._defaults.keys() - {"params"}
            shapes = {key: value.shape for key, value in state.items() if isinstance(value, np.ndarray)}
            if unknown or "t" not in state or any(shape != (vector.size,) for shape in shapes.values()):
                raise ValueError(
                    f"{self._name}.load_state_dict: not a state of this optimizer with {vector.size} parameters: "
                    f"unknown {sorted(unknown)}, state {shapes}; nothing loaded"
                )
            self._check({**self._defaults, **group})
        for own, group in zip(self.param_groups, groups, strict=True):
            own.update({key: value for key, value in group.items() if key != "params"})
        self._states = [_copied(state) for state in states]

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _check(self, group: Group) -> None:
        for key, value in group.items():
            low, high = _RANGES.get(key, (-math.inf, math.inf))
            for number in value if isinstance(value, tuple | list) and key in _RANGES else [value]:
                if isinstance(number, float | int) and not low <= number < high:
                    raise ValueError(f"{self._name}: {key} is from {low} to below {high}, not {value}")

    def __repr__(self) -> str:
        lines = []
        for i, (group, vector) in enumerate(zip(self.param_groups, self._vectors, strict=True)):
            settings = ", ".join(f"{key}={value}" for key, value in group.items() if key != "params")
            lines.append(f"  group {i}: {len(vector.parameters)} tensors, n = {vector.size:,}; {settings}")
        return "\n".join([f"{self._name}(", *lines, ")"])


def _copied(state: Mapping[str, Any]) -> State:
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in state.items()}


def moving_average(state: State, key: str, x: Array, beta: float, start: Array | float = 0.0) -> Array:
    """a ← β a + (1 − β) x, where a is ``state[key]``, at first `start`. In place: fresh memory costs more than sums."""
    if key not in state:
        state[key] = np.zeros_like(x) + start
    a: Array = state[key]
    a *= beta
    a += (1 - beta) * x
    return a
