"""Optimizer: what all update rules share. The rule itself is one method on flat vectors, `update`."""

from __future__ import annotations

import contextlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

from microgradopt.errors import NonFiniteError
from microgradopt.optim import saving
from microgradopt.optim.blocks import Block, Move, State, Step
from microgradopt.optim.hyperparameters import Declares, Hyperparameter, rate
from microgradopt.rules.values import expect
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]
Group = dict[str, Any]
Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]
Closure = Callable[[], Tensor]
Call = tuple[Array, Array, State, float, Group]


class Optimizer(Declares, ABC):
    """Base of all optimizers: parameter groups, the learning rate at step t, steps that are whole, saving and loading.

    A subclass declares its hyperparameters (`hyperparameters`), names its state and writes its formula, `update`:

    >>> from microgradopt.optim.hyperparameters import rate
    >>> class SignDescent(Optimizer):
    ...     lr: float = rate(0.5)
    ...     def update(self, theta, g, state, lr, group):
    ...         return theta - lr * np.sign(g)
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SignDescent([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step(); w
    Tensor([ 0.75, -1.75], requires_grad=True)

    params: the tensors to optimise; or groups, dicts with "params" and hyperparameters of their own. Then the
    hyperparameters, by position or by name. An `__init__` of one's own may have more, without a range, and gives all of
    them to this one by name.

    Within a group θ, g and every state vector are flat, in the order of its tensors. `param_groups` holds the groups;
    changing ``optimizer.param_groups[0]["lr"]`` takes effect at the next step.

    Tensors that miss a step (no gradient, frozen) are from then on a block of their own, with their own state and count
    of steps: each tensor moves exactly as if it were alone.

    Raises TypeError for unknown hyperparameters, ValueError for those out of range and for parameters that are no
    leaves.
    """

    params: Parameters
    keeps: ClassVar[tuple[str, ...]] = ()
    """What the state holds after every step, besides t: flat vectors."""
    may_keep: ClassVar[tuple[str, ...]] = ()
    """What it may hold, depending on the hyperparameters."""
    numbers: ClassVar[tuple[str, ...]] = ()
    """Those of them that are numbers, not vectors."""
    squares: ClassVar[tuple[str, ...]] = ()
    """Those of them that are never negative."""
    wants_closure: ClassVar[bool] = False
    """Whether `step` evaluates the loss itself, and so cannot do without a closure."""
    wants_graph: ClassVar[bool] = False
    """Whether it asks for curvature: what the closure returns is then to have its graph."""

    def __init__(self, params: Parameters, *positional: Any, **named: Any) -> None:
        self._defaults = self._given(positional, named)
        self._rates = [key for key in self._defaults if self._declared(key).is_rate]
        self.param_groups: list[Group] = []
        self._checked: list[Group] = []  # what was in the groups when it was checked last
        self._blocks: list[list[Block]] = []
        self._steps: list[int] = []  # of each group: what its schedule is asked for
        listed: list[Any] = [params] if isinstance(params, Mapping | Tensor) else list(params)
        grouped = bool(listed) and all(isinstance(item, Mapping) for item in listed)
        for group in listed if grouped else [{"params": listed}]:
            self.add_param_group(group)

    def _given(self, positional: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        """The hyperparameters that were given, and the defaults of the others."""
        names = list(self.hyperparameters)
        own = [] if type(self).__init__ is Optimizer.__init__ else inspect.signature(type(self).__init__).parameters
        by_position = dict(zip(names, positional, strict=False))
        wrong = [*positional[len(names) :], *(by_position.keys() & named), *(named.keys() - {"lr", *names, *own})]
        if wrong:
            raise TypeError(f"{self._name}: takes {', '.join(['params', *names, *own])}, each once; not {wrong[0]!r}")
        return {name: h.default for name, h in self.hyperparameters.items()} | by_position | named

    @abstractmethod
    def update(self, theta: Array, g: Array, state: State, lr: float, group: Group) -> Array:
        """The new θ from the old one: the optimizer's formula.

        theta, g: (n,), copies. state: the vectors kept from step to step, empty at first, and "t", the number of steps
        before this one; replace its values (``m = 0.9 * m + g``), as arrays written to in place cannot be compiled.
        lr: the learning rate of this step. group: the hyperparameters at this step, and under "params" the tensors
        that theta is made of.
        """

    def check(self, group: Group) -> None:
        """Raise ValueError where the hyperparameters of a group, each in its range, do not go together."""

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Optimise more tensors, with the hyperparameters in `group` or else the defaults."""
        unknown = sorted(group.keys() - self._defaults.keys() - {"params"})
        if unknown or "params" not in group:
            raise ValueError(
                f"{self._name}: a group has params and any of {sorted(self._defaults)}; found {sorted(group)}"
            )
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        block = Block(params, State({"t": 0}))
        if not set(self.parameters()).isdisjoint(params):
            raise ValueError(f"{self._name}: a parameter is in more than one group")
        complete = self.accepted({**self._defaults, **group, "params": params})
        self.param_groups.append(complete)
        self._checked.append(self._unchanging(complete))
        self._blocks.append([block])
        self._steps.append(0)

    def accepted(self, group: Group) -> Group:
        """The group with its hyperparameters checked, as Python's own numbers. Raises ValueError."""
        complete = {
            key: value if key == "params" else self._declared(key).accepted(self._name, value)
            for key, value in group.items()
        }
        self.check(complete)
        return complete

    def _unchanging(self, group: Group) -> Group:
        """Without the rates, which are checked at each step."""
        return {key: value for key, value in group.items() if key not in self._rates}

    def _declared(self, key: str) -> Hyperparameter:
        """What is known of a hyperparameter. lr, wherever it is declared, is a learning rate."""
        return self.hyperparameters.get(key) or (_LR if key == "lr" else Hyperparameter(None, name=key))

    # The step

    @overload
    def step(self, closure: None = None, *, allow_nonfinite: bool = False) -> None: ...
    @overload
    def step(self, closure: Closure, *, allow_nonfinite: bool = False) -> Tensor: ...
    def step(self, closure: Closure | None = None, *, allow_nonfinite: bool = False) -> Tensor | None:
        """One update of all parameters from their `.grad`: of all of them or, where anything raises, of none.

        closure: clears the gradients, computes the loss, calls backward and gives the loss, which `step` returns. It is
        called first; by optimizers that evaluate the loss themselves (`wants_closure`) several times, at different θ.
        allow_nonfinite: step also where a gradient has NaN or infinity in it.

        Parameters without a gradient, and frozen ones, stay as they are, and so do their entries of the state.

        Raises RuntimeError if there is no gradient, NonFiniteError for one that is not finite, ValueError for one of
        the wrong shape and for hyperparameters out of range (a schedule's rate, or what was set since), TypeError
        without a closure that is wanted. Then, and where the closure raises, or Ctrl-C comes, parameters and state are
        those before the step.
        """
        if not (closure is None or callable(closure)):
            raise TypeError(f"{self._name}.step: the closure is a function that gives the loss, not {closure!r:.60}")
        here = [(p, p.value, p.order) for p in self.parameters()] if closure is not None else []
        try:
            step = self.prepare(closure, allow_nonfinite)
        except BaseException:
            for p, value, order in here:  # Ctrl-C may come while the closure is evaluated at another θ
                p.value, p.order = value, order
            raise
        saving.whole(lambda: self._make(step))
        return step.loss

    def prepare(self, closure: Closure | None, allow_nonfinite: bool) -> Step:
        """Compute a step. Changes nothing."""
        step = Step(None if closure is None else closure(), [], [], [])
        moving: list[Block] = []
        calls: list[Call] = []
        for i, own in enumerate(self._blocks):
            blocks, ready = _divided(own)
            step.blocks.append(blocks)
            step.steps.append(self._steps[i] + 1 if ready else self._steps[i])
            settings = self.settings(i) if ready else {}
            calls += [self._call(block, settings, allow_nonfinite) for block in ready]
            moving += ready
        if not moving:
            raise RuntimeError(f"{self._name}.step: no parameter has a gradient; call loss.backward() first")
        for block, call, theta in zip(moving, calls, self.updates(calls), strict=True):
            step.moves.append(self._move(block, theta, call[2]))
        return step

    def _move(self, block: Block, theta: Any, state: State) -> Move:
        """The move of a block to a new θ, and to the state after this step. Raises where it would not be one."""
        if getattr(theta, "shape", None) != (block.vector.size,):
            raise ValueError(f"{self._name}.step: wants a new θ, of shape ({block.vector.size},), not {theta!r:.60}")
        state["t"] += 1
        if len(state) != len(block.state):
            self._check_names(state)
        return Move(block, theta, state)

    def _call(self, block: Block, settings: Group, allow_nonfinite: bool) -> Call:
        """The arguments of `update` for a block."""
        vector = block.vector
        g = vector.gradient()
        if not (allow_nonfinite or expect(np.isfinite(g).all())):
            raise self._not_finite(vector.parameters)
        g = -g if settings.get("maximize") else g
        theta, state = vector.theta(), block.state.copy()
        if self._may_write and type(theta) is np.ndarray:
            theta, state = theta.copy(), state.apart()
        return theta, g, state, settings.get("lr", 1.0), {**settings, "params": vector.parameters}

    @property
    def _may_write(self) -> bool:
        """Whether `update` is a formula of one's own, which may write into what it is given."""
        return not self.update.__module__.startswith("microgradopt.")

    def updates(self, calls: list[Call]) -> list[Array]:
        """The new θ of every block; calls: the arguments of `update` for each. For rules that couple the blocks."""
        return [self.update(*call) for call in calls]

    def _make(self, step: Step) -> None:
        for move in step.moves:
            move.make()
        for i, (blocks, n) in enumerate(zip(step.blocks, step.steps, strict=True)):
            self._blocks[i], self._steps[i] = blocks, n

    def _not_finite(self, parameters: list[Tensor]) -> NonFiniteError:
        i, wrong = next((i, p) for i, p in enumerate(parameters) if not expect(np.isfinite(p.grad).all()))  # type: ignore[arg-type]
        return NonFiniteError(
            f"{self._name}.step: the gradient of parameter {i}, of shape {wrong.shape}, is not finite; the parameters "
            "stay as they were. mg.detect_anomaly() finds the operation; step(allow_nonfinite=True) lets it through"
        )

    def _check_names(self, state: State) -> None:
        """Whether the state has the names that were declared: a checkpoint could not be loaded otherwise."""
        unknown = sorted(state.keys() - {"t", *self.keeps, *self.may_keep})
        missing = sorted({*self.keeps} - state.keys())
        if unknown or missing:
            raise TypeError(
                f"{self._name}: after a step its state has {sorted(state)}; keeps and may_keep, in its class, are to "
                f"name them (t apart): missing {missing}, not named {unknown}"
            )

    def settings(self, i: int) -> Group:
        """The hyperparameters of group i as they are now, the rates as numbers. Raises ValueError, see `step`."""
        group = self.param_groups[i]
        if not self._checked[i].items() <= group.items():  # something has been set since
            self._checked[i] = self._unchanging(self.accepted({**self._defaults, **self._unchanging(group)}))
        return group | {key: self.rate(key, i) for key in self._rates}

    def rate(self, key: str = "lr", i: int = 0, ahead: int = 0) -> float:
        """A learning rate of group i at its next step, or so many steps ahead; 1 where there is none.

        As a Python number, which leaves float32 what it is.
        """
        rate, t = self.param_groups[i].get(key, 1.0), self._steps[i] + ahead
        rate = rate(t) if callable(rate) else rate
        rate = rate.item() if isinstance(rate, np.generic | np.ndarray | Tensor) else rate
        if isinstance(rate, bool) or not hasattr(rate, "__float__") or not 0.0 <= rate < math.inf:
            raise ValueError(f"{self._name}.step: {key} is a number from 0, not {rate!r}, at step {t}")
        return rate

    @property
    def lr(self) -> Any:
        """The learning rate that the next step of the first group will use; 1 where there is none."""
        return self.rate()

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `.grad` becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self) -> None:
        """Prepare the parameters for the next step. Changes something in `ScheduleFreeAdamW` alone."""

    def eval(self) -> None:
        """Prepare the parameters for being evaluated. Changes something in `ScheduleFreeAdamW` alone."""

    def evaluating(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the parameters are those to be evaluated: `eval`, and afterwards as before."""
        return contextlib.nullcontext()

    def parameters(self) -> Iterator[Tensor]:
        """All that it moves, group by group."""
        return (parameter for group in self.param_groups for parameter in group["params"])

    def check_moves(self, name: str, parameters: Iterable[Tensor]) -> None:
        """Raise ValueError unless it moves some of these parameters."""
        if set(self.parameters()).isdisjoint(parameters):
            raise ValueError(f"{name}: the optimizer moves none of these parameters; is it another model's?")

    def blocks(self) -> Iterator[tuple[Group, float, list[Tensor], State]]:
        """For tensors that share a state: hyperparameters, learning rate of the next step, the tensors, the state."""
        for i, group in enumerate(self.param_groups):
            for block in self._blocks[i]:
                yield group, self.settings(i).get("lr", 1.0), block.vector.parameters, block.state

    # Saving and loading

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: "optimizer", the name of its class; "state", a list; and "param_groups".

        An entry of the state is that of tensors which have made the same steps, in general all of a group: their
        positions ("params"), the steps of their group ("step") and their own ("t"), and the flat vectors.
        param_groups: hyperparameters, with the positions of tensors.

        Arrays are copies. Schedules of `optim.schedules` are in it; a function of one's own is not: give it again when
        building the optimizer.
        """
        return saving.saved(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict` of the same optimizer on parameters of the same sizes, bit for bit.

        Raises ValueError for one that does not fit: another optimizer's, other sizes, numbers out of range or not
        finite, a number for the learning rate where this one has a schedule, or the reverse. Then nothing has changed.
        """
        saving.whole(self.loading(state_dict))

    def loading(self, state_dict: Mapping[str, Any]) -> Callable[[], None]:
        """Check a `state_dict`, as `load_state_dict` does; the function that is returned then loads it."""
        return saving.loading(self, state_dict)

    def fits(self, key: str, value: Array, theta: Array) -> bool:
        """Whether a vector in a state, named `key`, is of the shape it has to have."""
        return value.shape == theta.shape

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            settings = ", ".join(f"{key}={value}" for key, value in group.items() if key != "params")
            n = sum(parameter.size for parameter in group["params"])
            lines.append(f"  group {i}: {len(group['params'])} tensors, n = {n:,}; {settings}")
        return "\n".join([f"{self._name}(", *lines, ")"])


def check_optimizer(name: str, optimizer: Any, parameters: Iterable[Tensor]) -> None:
    """Raise TypeError unless it is an Optimizer, ValueError unless it moves some of these parameters."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"{name}: optimizer is to be an Optimizer, as optim.Adam(model.parameters()), not {optimizer!r:.60}"
        )
    optimizer.check_moves(name, parameters)


def _divided(own: list[Block]) -> tuple[list[Block], list[Block]]:
    """The blocks of a group, those divided of which only some tensors have gradients; and of them those to be moved."""
    blocks, ready_blocks = [], []
    for block in own:
        ready = [p.grad is not None and p.needs_grad for p in block.vector.parameters]
        parts = [block] if all(ready) or not any(ready) else block.divided(ready)
        blocks += parts
        if any(ready):
            ready_blocks.append(parts[0])
    return blocks, ready_blocks


_LR = rate(1e-3)
_LR.name = "lr"
