"""Blocks: tensors that have made the same steps, with the state that an optimizer keeps of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.tensor import Tensor
from microgradopt.vector import ParameterVector

Array = npt.NDArray[Any]


class State(dict[str, Any]):
    """What an optimizer keeps of a block from step to step, by name: flat vectors and numbers.

    A step gets a copy, and what it changes takes effect with the step as a whole: values are replaced, the arrays
    themselves are not written to.
    """

    def __init__(self, values: Any = (), room: dict[str, tuple[Array, Array]] | None = None) -> None:
        super().__init__(values)
        self._room = {} if room is None else room

    def copy(self) -> State:
        """The same arrays, in a dictionary of its own."""
        return State(self, self._room)

    def apart(self) -> State:
        """The same values, in arrays of its own."""
        return State({key: value.copy() if isinstance(value, np.ndarray) else value for key, value in self.items()})

    def clear(self) -> None:
        """Empty it, and free the arrays of `room`."""
        super().clear()
        self._room.clear()

    def room(self, key: str, like: Any) -> Array | None:
        """An array to compute the next ``state[key]`` in; None while a program is traced.

        Two arrays take turns, because that of the last step is still needed. With a fresh one at each step, Adam takes
        twice as long from 100,000 parameters on.
        """
        if type(like) is not np.ndarray:
            return None
        if key not in self._room:
            self._room[key] = np.empty_like(like), np.empty_like(like)
        one, other = self._room[key]
        return other if self.get(key) is one else one


def moving_average(state: State, key: str, x: Array, beta: float, start: Array | float | None = None) -> Array:
    """a ← β a + (1 − β) x, where a is ``state[key]``, at first `start`, by default zeros.

    >>> state = State()
    >>> moving_average(state, "m", np.ones(2), 0.5), moving_average(state, "m", np.ones(2), 0.5)
    (array([0.5, 0.5]), array([0.75, 0.75]))
    """
    before = state.get(key)
    if before is None:
        before = np.zeros_like(x) if start is None else np.full_like(x, start)
    a: Array = np.multiply(before, beta, state.room(key, before))
    a += (1 - beta) * x
    state[key] = a
    return a


class Block:
    """Tensors of one group that have made the same steps: they share the vectors of one state."""

    __slots__ = ("state", "vector")

    def __init__(self, parameters: list[Tensor], state: State) -> None:
        self.vector, self.state = ParameterVector(parameters), state

    def divided(self, ready: list[bool]) -> list[Block]:
        """Two blocks in place of this one, those that are ready first; each takes its own parts of the state."""
        both = []
        for wanted in (True, False):
            chosen = [i for i, is_ready in enumerate(ready) if is_ready is wanted]
            parts = [self.vector.slices[i] for i in chosen]
            state = {
                key: np.concatenate([value[part] for part in parts]) if np.ndim(value) else value
                for key, value in self.state.items()
            }
            both.append(Block([self.vector.parameters[i] for i in chosen], State(state)))
        return both


class Move(NamedTuple):
    """What a step is about to do to a block: its new θ, None where that stays, and its new state."""

    block: Block
    theta: Array | None
    state: State

    def make(self) -> None:
        """Do it. May be done twice."""
        if self.theta is not None:
            self.block.vector.write(self.theta)
        state = self.block.state
        if len(state) > len(self.state):
            for key in state.keys() - self.state.keys():
                del state[key]
        state.update(self.state)


class Step(NamedTuple):
    """A step that has been computed, and not yet made: the loss, the moves; and of each group its blocks and steps."""

    loss: Tensor | None
    moves: list[Move]
    blocks: list[list[Block]]
    steps: list[int]
