"""What a program may write, as it is at a moment: to be put back, and compared bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from microgradopt import tree
from microgradopt.mode import clock
from microgradopt.optim.optimizer import Optimizer
from microgradopt.program.captures import Place
from microgradopt.tensor import Tensor, plain


class Moment(NamedTuple):
    """tensors: value, date and gradients of each. blocks: of each optimizer, what its blocks keep. places: arrays."""

    tensors: list[tuple[Tensor, Any, int, Any, Any]]
    blocks: list[tuple[Any, Any, Any, Any]]
    steps: list[tuple[Optimizer, list[int], list[Any]]]
    places: list[tuple[Place, Any]]


class State:
    """The tensors, with their names, the optimizers and the places of arrays that a program reads."""

    def __init__(self, tensors: dict[Tensor, str], optimizers: list[Optimizer], places: list[Place]) -> None:
        self._names, self._optimizers, self._places = tensors, optimizers, places

    def now(self, arguments: list[Any]) -> Moment:
        """As it is. An optimizer's arrays are copied: a program may write over them."""
        tensors = {*self._names, *(x for x in arguments if type(x) is Tensor and x.is_leaf)}
        blocks = [block for o in self._optimizers for own in o._blocks for block in own]
        return Moment(
            [(x, x.value, x.order, x.grad, x.graded) for x in tensors],
            [(b, b.state.apart(), b.vector._theta, b.vector._views) for b in blocks],
            [(o, list(o._steps), list(o._blocks)) for o in self._optimizers],
            [(place, place.get()) for place in self._places],
        )

    def put_back(self, moment: Moment) -> None:
        """As it was. May be done twice."""
        for x, *was in moment.tensors:
            x.value, x.order, x.grad, x.graded = was
        for block, state, theta, views in moment.blocks:
            block.state.clear()
            block.state.update(state.apart())
            block.vector._theta, block.vector._views = theta, views
        for optimizer, steps, own in moment.steps:
            optimizer._steps[:], optimizer._blocks[:] = steps, own
        for place, value in moment.places:
            place.put(value)
        clock.last_write = clock.tick()

    def difference(self, one: Moment, other: Moment) -> str:
        """The name of the first thing in which two moments differ; "" where they are the same, bit for bit."""
        pairs = zip(self._parts(one), self._parts(other), strict=False)
        return next((name for (name, x), (_, y) in pairs if not same(x, y)), "")

    def _parts(self, moment: Moment) -> Iterator[tuple[str, Any]]:
        for x, value, _, grad, _ in moment.tensors:
            name = self._names.get(x, "an argument")
            yield from ((name, value), (f"{name}.grad", grad))
        for _, state, _, _ in moment.blocks:
            yield from sorted(state.items())
        yield from (("the number of steps", steps) for _, steps, _ in moment.steps)
        yield from ((place.name, value) for place, value in moment.places)


def near(x: Any, y: Any, room: float) -> bool:
    """Whether two arrays are the same to rounding, `room`; whole numbers are the same."""
    if y.dtype.kind != "f":
        return np.array_equal(x, y)
    return bool(np.allclose(x, y, rtol=0.0, atol=room, equal_nan=True))


def same(x: Any, y: Any) -> bool:
    """Whether two results are the same bit for bit, in the containers that they are in."""
    x, y = plain(x), plain(y)
    parts, others = tree.children(x), tree.children(y)
    if parts is not None and others is not None:
        return tree.structure(x) == tree.structure(y) and all(map(same, parts, others))
    if isinstance(x, np.ndarray | np.generic):
        alike = isinstance(y, np.ndarray | np.generic) and (x.shape, x.dtype) == (y.shape, y.dtype)
        return alike and x.tobytes() == y.tobytes()
    return x is y or (type(x) is type(y) and repr(x) == repr(y))
