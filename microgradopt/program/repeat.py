"""Repeated: n calls of a compiled function in a row, as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import Node
from microgradopt.optim.saving import whole
from microgradopt.program.loop import Given, result_leaves
from microgradopt.program.program import Program
from microgradopt.program.slots import Effect, is_leaf
from microgradopt.program.tracer import TracingError
from microgradopt.tensor import plain

if TYPE_CHECKING:
    from microgradopt.program.compiled import Compiled

_FIRST = 8  # calls that are made one by one, and checked
AT_ONCE = 1000  # calls in one loop: between loops Ctrl-C is heard, and what is done is done


class Repeated:
    """n calls of a compiled function, made by `Compiled.repeat`. `source`: the text of the loop used last."""

    def __init__(self, function: Compiled[..., Any], n: int, over: Iterable[int]) -> None:
        if not (isinstance(n, int) and n >= 1):
            raise ValueError(f"repeat: n is a whole number from 1, not {n!r}")
        self.function, self.n, self.over = function, n, frozenset(over)
        self.source = ""

    def __call__(self, *args: Any) -> Any:
        """The results of all calls: each array gets a leading axis of n. A Tensor comes back as an array."""
        self._check(args)
        first = self._single(args, 0)
        arrays = [np.empty((self.n, *x.shape), x.dtype) for x in _numbers(first)]
        _put(arrays, 0, first)
        done = 1
        while done < self.n:
            made = self.looped(args, done, [array[done:] for array in arrays])
            if not made:  # this call is to be checked, or raises, or needs another program
                _put(arrays, done, self._single(args, done))
            done += made or 1
        together = iter(arrays)
        return tree.mapped(lambda x: next(together) if _is_number(x) else x, first)

    def _check(self, args: tuple[Any, ...]) -> None:
        for i in self.over:
            is_there = isinstance(i, int) and 0 <= i < len(args)
            if not (is_there and np.shape(args[i])[:1] == (self.n,)):
                found = f"argument {i} has shape {np.shape(args[i])}" if is_there else f"there is no argument {i}"
                raise ValueError(f"repeat: arguments in `over` have one entry for each of {self.n} calls; {found}")

    def _of_call(self, args: tuple[Any, ...], i: int) -> list[Any]:
        """The arguments of one call."""
        return [x[i] if j in self.over else x for j, x in enumerate(args)]

    def _single(self, args: tuple[Any, ...], i: int) -> Any:
        return self.function(*self._of_call(args, i))

    def looped(self, args: tuple[Any, ...], start: int, results: list[Any]) -> int:
        """Make some calls from `start` on in a loop; how many were made. Where one does not go on, it ends before that.

        results: arrays for the results of the calls from there on, in order. 0, and nothing is changed, where the next
        call is to be checked, or needs a program that is not there yet.
        """
        program = self.function.program_for(self._of_call(args, start))
        if program is None or program.calls < _FIRST:
            return 0
        n = min(self.n - start, AT_ONCE)
        leaves, each = self._leaves(args)
        single = [x[start] if j in each else x for j, x in enumerate(leaves)]
        ways = program.own_ways
        given = {node: Given(x) for node, x in zip(program.slots, ways.read(single), strict=True)}
        batches = {f"args[{j}]": Given(leaves[j][start : start + n], each=True) for j in each}
        given |= {node: batches[program.reads[node]] for node in given if program.reads[node] in batches}
        given |= {node: rate_of(program, node, n) for node in given if node in program.rates}
        loop = self._loop(program, given)
        if loop is None:
            return 0
        try:
            done, ends = loop(n, given, _changing(program, results))
        except Exception:  # where NumPy raises, the function itself decides what happens
            return 0
        if done:
            kept = [own(effect, end) for effect, end in zip(program.effects, ends, strict=True)]
            whole(lambda: ways.write(single, kept))
        self.source = loop.text
        return int(done)

    def _loop(self, program: Program, given: dict[Node, Given]) -> Any:
        """The loop of a program, None where its calls differ from each other."""
        key = frozenset(node for node, x in given.items() if x.each)
        if key not in program.loops:
            try:
                program.loops[key] = self.function.engine(program, given)
            except TracingError:
                program.loops[key] = None
        return program.loops[key]

    def _leaves(self, args: tuple[Any, ...]) -> tuple[list[Any], set[int]]:
        """The arrays and tensors among the arguments, and which of them have one entry for each call."""
        leaves: list[Any] = []
        each: set[int] = set()
        for i, x in enumerate(args):
            found = list(filter(is_leaf, tree.leaves(x)))
            if i in self.over:
                each.update(range(len(leaves), len(leaves) + len(found)))
            leaves += found
        return leaves, each


def own(effect: Effect, x: Any) -> Any:
    """What a loop has left for a place, as it is kept there: an array of its own, or a number as there was one."""
    dtype = None if effect.slot is None else effect.slot.dtype
    if isinstance(dtype, np.dtype):
        return np.array(x, dtype)
    if isinstance(x, np.ndarray) and (dtype is None or x.ndim):
        return x.copy()
    return x.item() if isinstance(x, np.ndarray | np.generic) else x


def rate_of(program: Program, node: Node, n: int) -> Given:
    """A learning rate of the next n calls."""
    text, key, i = program.rates[node]
    optimizer = program.names[text]
    moves = any(effect.line == f"{text}._steps[{i}] = {{}}" for effect in program.effects)
    if not (moves and callable(optimizer.param_groups[i][key])):
        return Given(optimizer.rate(key, i))
    return Given([optimizer.rate(key, i, t) for t in range(n)], each=True)


def _changing(program: Program, results: list[Any]) -> list[Any]:
    """The arrays for what a program computes; those for numbers that are the same in each of its calls are filled."""
    leaves = [x for x in result_leaves(program.results) if type(x) is Node or _is_number(x)]
    for array, x in zip(results, leaves, strict=True):
        if type(x) is not Node:
            array[...] = x
    return [array for array, x in zip(results, leaves, strict=True) if type(x) is Node]


def _numbers(result: Any) -> list[Any]:
    """The arrays and numbers in the result of a call, as arrays."""
    return [np.asarray(plain(x)) for x in tree.leaves(result) if _is_number(x)]


def _put(arrays: list[Any], i: int, result: Any) -> None:
    """Keep the result of a call as the i-th."""
    for array, x in zip(arrays, _numbers(result), strict=True):
        array[i] = x


def _is_number(x: Any) -> bool:
    return np.asarray(plain(x)).dtype.kind in "fiub"
