"""The graph that leads to an error: which call has failed, and what it was made with.

That is read from the traceback: the engine's functions are in it, with the arguments that they were called with. So the
engine does nothing for it, and is as quick as before.
"""

from __future__ import annotations

import operator
import re
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, FORWARD, Graph, Node, finite, named
from microgradopt.graph.modules import Calls
from microgradopt.graph.reader import Names, by_name, reached, trace
from microgradopt.nn.module import Module
from microgradopt.rules.registry import KNOWN
from microgradopt.sweep import _visit
from microgradopt.tensor import Tensor, _binary, _unary, dispatch, result, tensors_in

_MOST = 60  # calls that are drawn, the newest
_LONG = 300  # characters of a sentence

Variables = Mapping[str, Any]

# The failing call -----------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call that has failed. made: its result, where it has one, and `output`, what was computed from that."""

    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    made: Tensor | None = None
    output: Tensor | None = None


def _in_sweep(at: Variables) -> Call:
    node: Tensor = at["node"]
    return Call(node.function, node.inputs, node.kwargs, node, at["nodes"][-1])


def _in_result(at: Variables) -> Call:
    """An observer has refused a result."""
    tensor: Tensor = at["tensor"]
    made = None if tensor.function is None else tensor
    return Call(at["function"], at["inputs"], at["kwargs"], made, made)


def _in_ufunc(at: Variables) -> Call:
    ufunc, method = at["ufunc"], at["method"]
    return Call(ufunc if method == "__call__" else getattr(ufunc, method), at["inputs"], at["kwargs"])


# How to read a call off the local variables of the engine's functions.
# Functions that are made alike, all comparisons and all reductions, share their code.
_CALLS: dict[Any, Callable[[Variables], Call]] = {
    _unary: lambda at: Call(at["function"], (at["x"],), {}),
    _binary: lambda at: Call(at["function"], (at["x"], at["y"]), {}),
    dispatch: lambda at: Call(at["function"], at["args"], at["kwargs"]),
    result: _in_result,
    _visit: _in_sweep,
    Tensor.__array_ufunc__: _in_ufunc,
    Tensor.__gt__: lambda at: Call(at["function"], (at["self"], at["other"]), {}),
    Tensor.sum: lambda at: Call(
        at["function"], (at["self"],), {name: at[name] for name in ("axis", "keepdims") if at[name] is not None}
    ),
    Tensor.__getitem__: lambda at: Call(operator.getitem, (at["self"], at["index"]), {}),
    Tensor.__array__: lambda at: Call(np.asarray, (at["self"],), {}),
    Tensor._number: lambda at: Call(at["kind"], (at["self"],), {}),
    Tensor.reshape: lambda at: Call(np.reshape, (at["self"], at["target"]), {}),
}


def _of_method(method: Any) -> Callable[[Variables], Call]:
    """How to read a call off the local variables of any other method."""
    names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    numpys = getattr(np, method.__name__, None)
    function = numpys if numpys in KNOWN else method
    return lambda at: Call(function, (at["self"],), {name: at[name] for name in names if at[name] is not None})


_METHODS = [x for name, x in vars(Tensor).items() if hasattr(x, "__code__") and name != "__init__"]
_READERS = {method.__code__: _of_method(method) for method in _METHODS}
_READERS |= {function.__code__: reader for function, reader in _CALLS.items()}


def _failing_call(frames: Iterable[FrameType]) -> Call | None:
    """The innermost call; in a backward pass, the forward call whose derivative was being computed."""
    found = [frame for frame in frames if frame.f_code in _READERS]
    sweeps = [frame for frame in found if frame.f_code is _visit.__code__]
    return next((_READERS[frame.f_code](frame.f_locals) for frame in reversed(sweeps or found)), None)


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _chain(error: BaseException | None, before: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from, as Python shows them; but none that was there before."""
    seen = {id(before)}
    while error is not None and id(error) not in seen:  # errors may come from each other
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _sentence(error: BaseException) -> str:
    """What an error says first: a sentence; of shapes that do not match all but NumPy's own words, in brackets."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = re.sub(r"Input operand .*\((size \d+ is different from \d+)\)", r"\1", line)  # NumPy's of a product
    first = re.match(r".*?([.?!](?=\s|$)|do not match[^(]*(?= \())", line)
    return textwrap.shorten(first[0] if first else line, _LONG, placeholder=" …")


# The graph ------------------------------------------------------------------------------------------------------------


def leading_to(
    error: BaseException, results: Sequence[Tensor], names: Names | None, before: BaseException | None
) -> Graph:
    """The graph that leads to an error; where no call has failed, the graph of the results.

    results: what was made before the error. names: as for `trace`; None for the variables of the functions in the
    traceback. before: an error that was already being handled.
    """
    frames = _frames(error)
    names = variables(frames) if names is None else by_name(names)
    found = ((each, _failing_call(_frames(each))) for each in _chain(error, before))
    cause, call = next(((each, call) for each, call in found if call is not None), (error, None))
    if call is None:
        used = {x for tensor in results for x in tensors_in(tensor.inputs)}
        graph = _newest([tensor for tensor in results if tensor not in used], names)
        graph.remarks.append(f"{type(error).__name__}: {_sentence(error)}")
    elif call.made is not None and call.output is not None:
        graph = marked(call.made, call.output, _sentence(cause), names)
    else:
        graph = _with_call(call, _sentence(cause), names, frames)
    return graph


def first_not_finite(x: Tensor) -> Tensor:
    """The result or the leaf that the NaN or the infinity in x came from."""
    while wrong := [y for y in tensors_in(x.inputs) if not finite(y.value)]:
        x = wrong[0]
    return x


def marked(x: Tensor, output: Tensor, error: str, names: Names) -> Graph:
    """The graph of an output, with an error at a value x in it; of a large graph only what leads to x."""
    outputs = [output] if output is not x and not _beginning([output]) else []
    graph = _newest([x, *outputs], names)
    graph.outputs.pop(0).error = error
    return graph


def _with_call(call: Call, error: str, names: Variables, frames: Iterable[FrameType]) -> Graph:
    """The graph that leads to a call, and the call itself, which has no result."""
    tensors = [x for x in tree.leaves([call.args, call.kwargs]) if type(x) is Tensor]
    graph = _newest(tensors, names)
    known = dict(zip(map(id, tensors), graph.outputs, strict=True))
    known |= {id(node.value): node for node in graph.nodes if node.function is None}

    def operand(x: Any) -> Any:
        if not isinstance(x, Tensor) and not (isinstance(x, np.ndarray) and x.dtype.kind in "biuf"):
            return x
        if id(x) not in known:
            name = next((name for name, thing in names.items() if thing is x), "")
            known[id(x)] = Node(None, (), {}, x, CONSTANT, name)
            graph.nodes.append(known[id(x)])
        return known[id(x)]

    args, kwargs = tree.mapped(operand, call.args), dict(call.kwargs)
    if not isinstance(call.function, np.ufunc):  # of which out= and where= are no operands
        named_operands = {key: x for key, x in tree.mapped(operand, kwargs).items() if x is not kwargs[key]}
        args = (*args, *named_operands.values())
        kwargs = {key: x for key, x in kwargs.items() if key not in named_operands}
    failed = Node(call.function, args, kwargs, None, FORWARD, frames=Calls(names).at(_latest_module(frames)))
    failed.error = error
    graph.nodes.append(failed)
    graph.outputs = []
    named(graph.nodes)
    return graph


def _newest(tensors: Sequence[Tensor], names: Names) -> Graph:
    """The graph of tensors; of a large one the newest calls."""
    if not tensors:
        return Graph([], [])
    beginning = _beginning(tensors)
    graph = trace(tensors, beginning, names)
    if beginning:
        graph.remarks.append(f"the newest {_MOST} calls; what they begin with is shown as input")
    return graph


def _beginning(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The results that the newest calls begin with; none, where there are not more calls than can be shown."""
    calls = [x for x in reached(tensors) if x.function is not None]
    newest = set(calls[-_MOST:])
    used = {*tensors, *(x for call in newest for x in tensors_in(call.inputs))}
    return [x for x in used - newest if x.function is not None]


def variables(frames: Iterable[FrameType]) -> Variables:
    """The variables of the user's functions, by name; where two have one name, that of the outer function."""
    found: dict[str, Any] = {}
    for frame in frames:
        if str(frame.f_globals.get("__name__")).partition(".")[0] != "microgradopt":
            for name, x in (*frame.f_locals.items(), *frame.f_globals.items()):
                if not name.startswith("_"):
                    found.setdefault(name, x)
    return found


def _latest_module(frames: Iterable[FrameType]) -> int:
    """When the call of a module began that is the innermost in a traceback."""
    calls = [frame.f_locals["started"] for frame in frames if frame.f_code is Module.__call__.__code__]
    return max(calls, default=0)
