"""Optimizer: what all update rules share. The rule itself is one method on flat vectors, `update`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    "tolerance_grad": (0.0, math.inf),
    "tolerance_change": (0.0, math.inf),
    "gradient_threshold": (0.0, math.inf),
}
_PAIRS = ("betas", "adam_betas")
_RATES = ("lr", "adam_lr")  # may be schedules
_CHOICES: dict[str, tuple[str, ...]] = {
    "start": ("zero", "gradient"),
    "adjust_lr_fn": ("original", "match_rms_adamw"),
}


class _Block:
    """Tensors of one group that have made the same steps: they share the vectors of one state."""

    __slots__ = ("state", "vector")

    def __init__(self, parameters: list[Tensor], state: State) -> None:
        self.vector, self.state = ParameterVector(parameters), state

    def divided(self, ready: list[bool]) -> list[_Block]:
        """Two blocks in place of this one, those that are ready first; each takes its own parts of the state."""
        both = []
        for wanted in (True, False):
            chosen = [i for i, is_ready in enumerate(ready) if is_ready is wanted]
            parts = [self.vector.slices[i] for i in chosen]
            state = {
                key: np.concatenate([value[part] for part in parts]) if np.ndim(value) else value
                for key, value in self.state.items()
            }
            both.append(_Block([self.vector.parameters[i] for i in chosen], state))
        return both


class Optimizer(ABC):
    """Base of all optimizers: parameter groups, the learning rate at step t, gathering and scattering, state.

    params: the tensors to optimise; or groups, dicts with "params" and hyperparameters of their own.
    lr: a number, or a schedule: a function of the step t (0 first) that gives the learning rate ηₜ.
    maximize: climb instead of descend.

    Within a group θ, g and every state vector are flat, in the order of its tensors. `param_groups` holds the groups;
    changing ``optimizer.param_groups[0]["lr"]`` takes effect at the next step.

    Tensors that miss a step (no gradient, frozen) are from then on a block of their own, with their own state and count
    of steps: each tensor moves exactly as if it were alone.

    A subclass writes `update`, and names its state in `keeps` and `may_keep`, so that a state_dict can be checked.

    Raises ValueError for hyperparameters out of range and parameters that are no leaves.
    """

    keeps: tuple[str, ...] = ()
    """What the state holds after every step, besides t."""
    wants_closure: bool = False
    """Whether `step` evaluates the loss itself, and so cannot do without a closure."""
    wants_graph: bool = False
    """Whether it asks for curvature: what the closure returns is then to have its graph."""
    may_keep: tuple[str, ...] = ()
    """What it may hold, depending on the hyperparameters."""

    def __init__(self, params: Parameters, **defaults: Any) -> None:
        self._defaults = defaults
        self.param_groups: list[Group] = []
        self._blocks: list[list[_Block]] = []
        self._steps: list[int] = []  # of each group: what its schedule is asked for
        listed: list[Any] = [params] if isinstance(params, Mapping | Tensor) else list(params)
        grouped = bool(listed) and all(isinstance(item, Mapping) for item in listed)
        for group in listed if grouped else [{"params": params if isinstance(params, Tensor) else listed}]:
            self.add_param_group(group)

    @abstractmethod
    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        """The new θ from the old one: the optimizer's formula.

        theta, g: (n,), not to be written to; g is overwritten by the next step. state: the vectors kept from step to
        step, empty at first, and "t", the number of steps before this one. lr: the learning rate of this step. group:
        the hyperparameters at this step, and under "params" the tensors that theta is made of.
        """

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Optimise more tensors, with the hyperparameters in `group` or else the defaults."""
        unknown = sorted(group.keys() - self._defaults.keys() - {"params"})
        if unknown or "params" not in group:
            raise ValueError(
                f"{self._name}: a group has params and any of {sorted(self._defaults)}; found {sorted(group)}"
            )
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        block = _Block(params, {"t": 0})
        if not {parameter for other in self.param_groups for parameter in other["params"]}.isdisjoint(params):
            raise ValueError(f"{self._name}: a parameter is in more than one group")
        complete = {key: _plain(value) for key, value in {**self._defaults, **group}.items()} | {"params": params}
        self.check(complete)
        self.param_groups.append(complete)
        self._blocks.append([block])
        self._steps.append(0)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update of all parameters from their `.grad`.

        closure: clears the gradients, computes the loss, calls backward and gives the loss; called first, if given.
        Parameters without a gradient, and frozen ones, stay as they are, and so do their entries of the state.

        Raises RuntimeError if there is no gradient, ValueError for a learning rate out of range (a schedule's, or one
        set since) or a gradient of the wrong shape. A group is moved as a whole or, where its update raises, not.
        """
        loss = None if closure is None else closure()
        ready = [self._ready_blocks(i) for i in range(len(self.param_groups))]
        if not any(ready):
            raise RuntimeError(f"{self._name}.step: no parameter has a gradient; call loss.backward() first")
        for i, blocks in enumerate(ready):
            if blocks:
                self._step_group(i, blocks)
        return loss

    def _ready_blocks(self, i: int) -> list[_Block]:
        """The blocks of group i whose tensors all have gradients. One of which only some have is divided first."""
        blocks, ready_blocks = [], []
        for block in self._blocks[i]:
            ready = [p.grad is not None and p.needs_grad for p in block.vector.parameters]
            parts = block.divided(ready) if any(ready) and not all(ready) else [block]
            blocks += parts
            if any(ready):
                ready_blocks.append(parts[0])
        self._blocks[i] = blocks
        return ready_blocks

    def _step_group(self, i: int, blocks: list[_Block]) -> None:
        group = self.param_groups[i]
        rates = {key: self._rate(i, key) for key in _RATES if key in group}
        for block in blocks:
            vector, state = block.vector, block.state
            g = vector.gradient()
            settings = {**group, **rates, "params": vector.parameters}
            vector.write(self.update(vector.theta(), -g if group.get("maximize") else g, state, rates["lr"], settings))
            state["t"] += 1
        self._steps[i] += 1

    def _rate(self, i: int, key: str) -> float:
        """A learning rate of group i as it is now, as a Python number, which leaves float32 what it is."""
        rate = self.param_groups[i][key]
        rate = rate(self._steps[i]) if callable(rate) else rate
        rate = rate.item() if isinstance(rate, np.generic | np.ndarray) else rate
        if not 0.0 <= rate < math.inf:
            raise ValueError(f"{self._name}.step: {key} is from 0 to below inf, not {rate}, at step {self._steps[i]}")
        return rate

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `.grad` becomes None."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @property
    def lr(self) -> float:
        """The learning rate that the next step of the first group will use."""
        return self._rate(0, "lr")

    def blocks(self) -> Iterator[tuple[Group, float, list[Tensor], State]]:
        """For tensors that share a state: hyperparameters, learning rate of the next step, the tensors, the state."""
        for i, group in enumerate(self.param_groups):
            for block in self._blocks[i]:
                yield group, self._rate(i, "lr"), block.vector.parameters, block.state

    # Saving and loading

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: "state", a list, and "param_groups", hyperparameters with positions of tensors.

        An entry of the state is that of tensors which have made the same steps, in general all of a group: their
        positions ("params"), the steps of their group ("step") and their own ("t"), and the flat vectors.

        Arrays are copies. Schedules, being functions, are not in it: give them again when building the optimizer.
        """
        position = self._positions()
        states = [
            {"params": [position[p] for p in block.vector.parameters], "step": step, **_copied(block.state)}
            for blocks, step in zip(self._blocks, self._steps, strict=True)
            for block in blocks
        ]
        groups = [
            {
                **{key: value for key, value in group.items() if not callable(value)},
                "params": [position[p] for p in group["params"]],
            }
            for group in self.param_groups
        ]
        return {"state": states, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict` of the same optimizer on parameters of the same sizes, bit for bit.

        Raises ValueError, before anything is changed, for one that does not fit.
        """
        try:
            groups = self._loaded_groups(state_dict)
            blocks, steps = self._loaded_blocks(state_dict)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{self._name}.load_state_dict: {error}; nothing loaded") from error
        for own, group in zip(self.param_groups, groups, strict=True):
            own.update(group)
        self._blocks, self._steps = blocks, steps

    def _positions(self) -> dict[Tensor, int]:
        return {p: i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}

    def _loaded_groups(self, state_dict: Mapping[str, Any]) -> list[Group]:
        """The hyperparameters in a state_dict, checked, without the positions."""
        if state_dict.keys() != {"state", "param_groups"}:
            raise ValueError(f"wants state and param_groups, found {sorted(state_dict)}")
        wanted, loaded = self.state_dict()["param_groups"], list(state_dict["param_groups"])
        if [list(group["params"]) for group in loaded] != [group["params"] for group in wanted]:
            raise ValueError(f"this optimizer has groups of {[len(group['params']) for group in wanted]} parameters")
        groups = []
        for own, group in zip(self.param_groups, loaded, strict=True):
            # A schedule is not saved. What this optimizer has for it then stays.
            unfit = (own.keys() ^ group.keys()) - {key for key in _RATES if callable(own.get(key))}
            if unfit:
                raise ValueError(f"a group has {sorted(own)}; missing or unknown {sorted(unfit)}")
            groups.append({key: _plain(value) for key, value in group.items() if key != "params"})
            self.check({**own, **groups[-1]})
        return groups

    def _loaded_blocks(self, state_dict: Mapping[str, Any]) -> tuple[list[list[_Block]], list[int]]:
        """The state in a state_dict, checked and copied, by group; and the steps of the groups."""
        position, entries = self._positions(), list(state_dict["state"])
        if sorted(i for entry in entries for i in entry["params"]) != list(range(len(position))):
            raise ValueError(f"its states are not those of {len(position)} parameters")
        blocks, steps = [], []
        for group in self.param_groups:
            own = {position[p]: p for p in group["params"]}
            found = [entry for entry in entries if not own.keys().isdisjoint(entry["params"])]
            blocks.append([self._loaded_block([own[i] for i in entry["params"]], entry) for entry in found])
            steps.append(found[0]["step"])
            if any(entry["step"] != steps[-1] for entry in found):
                raise ValueError("the states of a group disagree about its steps")
        return blocks, steps

    def _loaded_block(self, parameters: list[Tensor], entry: Mapping[str, Any]) -> _Block:
        block = _Block(parameters, _copied({key: entry[key] for key in entry if key not in ("params", "step")}))
        theta, state = block.vector.theta(), block.state
        if not all(type(entry[key]) is int and entry[key] >= 0 for key in ("t", "step")):
            raise ValueError(f"t and step count steps: found {entry['t']!r} and {entry['step']!r}")
        missing = [key for key in self.keeps if key not in state and state["t"]]
        unknown = sorted(state.keys() - {"t", *self.keeps, *self.may_keep})
        if missing or unknown:
            raise ValueError(f"in the state, missing {missing}, unknown {unknown}")
        for key, value in state.items():
            is_vector = isinstance(value, np.ndarray) and value.dtype.kind == "f" and self._fits(value, theta)
            if not is_vector and not isinstance(value, float | int):
                raise ValueError(f"{key} in the state is not a vector of {theta.dtype} of shape {theta.shape}")
        return block

    def _fits(self, value: Array, theta: Array) -> bool:
        """Whether an array in a state is of the shape it has to have."""
        return value.shape == theta.shape

    @property
    def _name(self) -> str:
        return type(self).__name__

    def check(self, group: Group) -> None:
        """Raise ValueError where the hyperparameters of a group are out of range, or are not what they should be."""
        for key, value in group.items():
            if key in _CHOICES and value not in _CHOICES[key]:
                raise ValueError(f"{self._name}: {key} is one of {_CHOICES[key]}, not {value!r}")
            if key not in _RANGES or (key in _RATES and callable(value)):
                continue
            numbers = value if key in _PAIRS and isinstance(value, tuple | list) else [value]
            low, high = _RANGES[key]
            wanted = 2 if key in _PAIRS else 1
            if len(numbers) != wanted or not all(isinstance(x, float | int) and low <= x < high for x in numbers):
                kind = "two numbers" if key in _PAIRS else "a number"
                raise ValueError(f"{self._name}: {key} is {kind} from {low} to below {high}, not {value!r}")

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            settings = ", ".join(f"{key}={value}" for key, value in group.items() if key != "params")
            n = sum(parameter.size for parameter in group["params"])
            lines.append(f"  group {i}: {len(group['params'])} tensors, n = {n:,}; {settings}")
        return "\n".join([f"{self._name}(", *lines, ")"])


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's: those leave float32 what it is, and can be written as JSON."""
    if isinstance(value, np.generic):
        return value.item()
    return type(value)(_plain(item) for item in value) if type(value) in (tuple, list) else value


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
