"""NativeLoop: a program's loop as machine code, and what decides whether it may be used."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.graph.graph import Node
from microgradopt.program.loop import Given, Loop, body_of
from microgradopt.program.native.calls import NotNativeError, written_as
from microgradopt.program.native.machine import made
from microgradopt.program.native.text import NativeText
from microgradopt.program.program import Program
from microgradopt.program.state import near

Array = npt.NDArray[Any]

_ROUNDS = 8  # that are compared with NumPy's
_NEAR = 0.6  # power of the unit of rounding, 4e-10 in float64, 7e-5 in float32: sums in another order


class NativeLoop:
    """n calls of a program in a row, as machine code. k runs go one after the other, in as many threads as Numba has.

    text: the function, in Python. Raises NotNativeError for calls that have no native form.
    """

    def __init__(self, program: Program, given: Mapping[Node, Given], k: int = 0) -> None:
        self.k = k
        values = {node: x.of_run(0).first for node, x in given.items()}
        self.body = body = body_of(program, values, written_as=written_as)
        self._each = [node for node, x in given.items() if x.each]
        self._others = [node for node, x in given.items() if not x.each]
        writer = NativeText(body, [body.given[node] for node in self._each])
        self._constants = list(writer.constants.values())
        self.text = self._written(writer)
        self._function = made(self.text)

    def _written(self, writer: NativeText) -> str:
        body, names = self.body, writer.names
        carried = [(names[node], end) for node, end in body.carried.items()]
        swaps = [f"{name}, {names[end]} = {names[end]}, {name}" for name, end in carried if end.shape]
        moves = [f"{name} = {names[end]}" for name, end in carried if not end.shape]
        last = {id(end): names[node] for node, end in body.carried.items()}
        ends = [last.get(id(end)) or writer._name(end) for end in body.ends]
        arguments = [
            "n",
            *(f"{names[body.given[node]]}__each" for node in self._each),
            *(f"results{j}__" for j in range(len(body.results))),
            *(names[body.given[node]] for node in self._others),
            *writer.constants,
        ]
        numbers = [names[end] for end in body.ends if type(end) is Node and not end.shape and id(end) not in last]
        lines = [
            "@njit(cache=True, nogil=True, error_model='numpy', fastmath={'contract', 'reassoc'})",
            f"def loop({', '.join(arguments)}):",
            *(f"    {line}" for line in [*writer.prologue, *writer.before]),
            *(f"    {name} = 0.0" for name in numbers),
            "    done = 0",
            "    for round_ in range(n):",
            *(f"        {names[body.given[node]]} = {names[body.given[node]]}__each[round_]" for node in self._each),
            *(f"        {line}" for line in [*writer.head, *writer.round]),
            *(f"        results{j}__[round_] = {writer._name(x)}" for j, x in enumerate(body.results)),
            *(f"        {line}" for line in [*swaps, *moves]),
            "        done += 1",
            f"    return done, ({', '.join(ends)}{',' if ends else ''})",
        ]
        return "\n".join(lines) + "\n"

    def __call__(
        self, n: int, given: Mapping[Node, Given], results: list[Any], alive: Any = True
    ) -> tuple[Any, list[Any]]:
        """See `Loop`. Of many runs `alive` says which go on, and is changed where one ends."""
        if not self.k:
            return self._run(n, given, results)
        import numba

        made: list[Any] = [None] * self.k
        going = np.flatnonzero(alive)

        def train(some: Array) -> None:
            own = [np.empty((n, *x.shape[2:]), x.dtype) for x in results]
            for r in some:
                made[r] = self._run(n, {node: x.of_run(r) for node, x in given.items()}, own)
                for whole, part in zip(results, own, strict=True):
                    whole[: made[r][0], r] = part[: made[r][0]]

        threads = numba.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(train, np.array_split(going, min(len(going), 4 * threads))))
        done = np.zeros(self.k, int)
        for run in going:
            done[run] = made[run][0]
        alive &= done == n
        nothing = next(ends for ends in made if ends is not None)[1]
        columns = zip(*(nothing if one is None else one[1] for one in made), strict=True)
        return done, [np.stack(column) for column in columns]

    def _run(self, n: int, given: Mapping[Node, Given], results: list[Any]) -> tuple[int, list[Any]]:
        """The calls of one run."""
        each = [_plain(given[x].value, False) for x in self._each]
        others = [_plain(given[x].value, self.body.given[x] in self.body.carried) for x in self._others]
        done, ends = self._function(n, *each, *results, *others, *self._constants)
        return done, [np.array(end) if isinstance(end, np.ndarray) else end for end in ends]  # in memory of its own

    def is_of_each_run(self, j: int) -> bool:
        """Whether the j-th of all that is written has one value for each run."""
        return True


def _plain(x: Any, is_written: bool) -> Any:
    """An array as machine code was made for: in C order, and its own where it is written over. Numbers as they are."""
    if isinstance(x, list):
        return np.array(x, float)
    if not isinstance(x, np.ndarray):
        return x
    if not x.ndim:
        return x[()]
    is_fit = x.flags.c_contiguous and x.flags.writeable and x.flags.aligned
    return x if is_fit and not is_written else np.array(x, order="C")


def native_loop(program: Program, given: Mapping[Node, Given], k: int = 0) -> Any:
    """A `NativeLoop`, its first rounds compared with NumPy's; where there is none, a `Loop`, and a warning why."""
    from numba.core.errors import NumbaError

    try:
        loop = NativeLoop(program, given, k)
        _compare(loop, program, given)
    except (NotNativeError, NumbaError) as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"{program.name}: no native loop, NumPy goes on: {reason}", RuntimeWarning, stacklevel=2)
        return Loop(program, given, k)
    return loop


def _compare(loop: NativeLoop, program: Program, given: Mapping[Node, Given]) -> None:
    """Raise NotNativeError unless some rounds give what NumPy gives, to rounding, each from the same state."""
    state = {node: x.of_run(0) for node, x in given.items()}
    numpys = Loop(program, state)
    carried = {new: old for old, new in numpys.body.given.items()}
    dtypes = {node.dtype for node in loop.body.nodes if getattr(node.dtype, "kind", "") == "f"}
    unit = max((float(np.finfo(dtype).eps) for dtype in dtypes), default=0.0)
    rounds = min([_ROUNDS, *(len(x.value) for x in state.values() if x.each)])
    for t in range(rounds):
        one = {node: Given(x.value[t : t + 1], True) if x.each else x for node, x in state.items()}
        mine, theirs = ([np.empty((1, *x.shape), x.dtype) for x in loop.body.results] for _ in range(2))
        done, ends = loop._run(1, one, mine)
        is_done, expected = numpys(1, one, theirs)
        wrong = [f"{done} rounds for {is_done}"] if done != is_done else []
        pairs = [*zip(mine, theirs, strict=True), *(zip(ends, expected, strict=True) if done else ())]
        size = max((float(np.abs(y[np.isfinite(y)]).max(initial=0.0)) for _, y in map(_as_arrays, pairs)), default=0.0)
        wrong += [f"{x!r:.60} for {y!r:.60}" for x, y in map(_as_arrays, pairs) if not near(x, y, unit**_NEAR * size)]
        if wrong:
            raise NotNativeError(f"the native loop gives {wrong[0]}")
        if not done:
            return
        last = dict(zip(map(id, numpys.body.ends), expected, strict=True))
        state |= {carried[node]: Given(last[id(end)]) for node, end in numpys.body.carried.items()}


def _as_arrays(pair: tuple[Any, Any]) -> tuple[Array, Array]:
    return np.asarray(pair[0]), np.asarray(pair[1])
