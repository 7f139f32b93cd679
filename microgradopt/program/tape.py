"""Tape: what a run of a function on Tracers writes down.

Every NumPy call is a node, in the order in which they were made; and beside them stands what the use of the program
depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, INPUT, Node, overlap, role_at
from microgradopt.graph.text import is_literal
from microgradopt.mode import Observer, clock, current_mode
from microgradopt.program.tracer import Tracer, TracingError, concrete
from microgradopt.rules.registry import KNOWN, is_composite, name_of
from microgradopt.rules.stack import Stack
from microgradopt.tensor import Tensor, plain


class Tape(Observer):
    """What has been recorded: the nodes in order, and what the program's use depends on.

    dates: when each call was made, by the clock. checks: nodes that did decide which way Python went, with the value
    they had; only where they do not depend on a Tensor. The program is right for whatever gives them the same values.
    smooth: calls in the bodies of composites without a kink or a jump, whichever way their comparisons go.
    begun: leaves that are older than this have to be inputs of the program. body_of: gives the body of a composite, of
    which it is written down what it does; or None: then it is the call.
    """

    def __init__(
        self, begun: float = 0, body_of: Callable[[Any], Any] = lambda composite: KNOWN[composite].call
    ) -> None:
        self.begun, self.body_of = begun, body_of
        self.nodes: list[Node] = []
        self.dates: dict[Node, int] = {}
        self.checks: list[tuple[Node, Any]] = []
        self.bodies = 0  # inside of how many composites
        self.fails = False  # an error is on its way: its message may say values
        self.failed: Exception | None = None  # what NumPy raised; if the function ends nevertheless, it was caught
        self.owned: set[Node] = set()
        self.smooth: set[Node] = set()
        self.with_views: set[Node] = set()  # arrays that share their memory with others of the program
        self._constants: dict[int, Node] = {}

    def input(
        self, value: Any, role: str = INPUT, name: str = "", of_tensor: bool = False, owned: bool = False
    ) -> Tracer:
        """A value that the program is given. owned: nobody else needs it afterwards, so that it may be overwritten."""
        node = Node(None, (), {}, value, role, name)
        node.of_tensor = of_tensor
        self.nodes.append(node)
        if owned:
            self.owned.add(node)
        return Tracer(node, self, value)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tracer:
        """Compute, and write down, one call."""
        out = self.computed(function, args, kwargs)
        if out is None:
            raise TracingError(f"{name_of(function)} has no result, and what it does besides a program would not do")
        return self.note(function, args, kwargs, out)

    def computed(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a call gives. An error is remembered: the function may catch it."""
        try:
            return function(*concrete(args), **concrete(kwargs))
        except Exception as error:
            self.failed = error
            raise

    def note(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Tracer:
        """Write down a call that gave `out`."""
        node = Node(
            function,
            tree.mapped(self._noded, args),
            tree.mapped(self._noded, kwargs),
            out,
            role_at(current_mode.get().sweeps),
        )
        forget(node)
        node.of_tensor = any(x.of_tensor for x in node.inputs)
        node.is_view = any(overlap(out, concrete(x)) for x in tree.leaves(args))
        if node.is_view:
            self.with_views.update((node, *node.inputs))
        self.nodes.append(node)
        self.dates[node] = clock.tick()
        return Tracer(node, self, out)

    def expect(self, condition: Any) -> Any:
        """The value of a condition, which the program will check."""
        if type(condition) is Tracer:
            self.checks.append((condition.node, condition.value))
        self.fails = self.fails or not concrete(condition)
        return concrete(condition)

    def _noded(self, x: Any) -> Any:
        """The node of a Tracer or an array; a plain value as it is. TracingError for what no text can say."""
        if type(x) is Tracer:
            return x.node
        if isinstance(x, np.ndarray):
            return self.constant(x)
        if not (is_literal(x) or isinstance(x, np.dtype | type | slice)):
            raise TracingError(
                f"a call takes {type(x).__name__} {x!r:.60}, which a program cannot write down; a loss that is "
                "computed elsewhere is called as it is, without compile"
            )
        return x

    def constant(self, array: Any) -> Node:
        """The node of an array that was there without the program."""
        if id(array) not in self._constants:
            self._constants[id(array)] = Node(None, (), {}, array, CONSTANT)
            self.nodes.append(self._constants[id(array)])
        return self._constants[id(array)]

    def traced(self, x: Any) -> Any:
        """An array that was there without the program, as a Tracer; all else as it is."""
        return Tracer(self.constant(x), self, x) if isinstance(x, np.ndarray) else x

    def recorded(self, tensor: Tensor, function: Any, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        """Note which composite a result comes from, and check that its inputs are known."""
        if function is not None:
            self.made_by(function, tensor.value)
        self.check_inputs(inputs)

    def made_by(self, function: Callable[..., Any], out: Any) -> None:
        """`out` is the result of this function; where it is a composite, the parts of its body know only themselves."""
        if type(out) is Tracer and is_composite(function) and out.node.function is not None:
            out.node.whole = function

    def check_inputs(self, arguments: Sequence[Any]) -> None:
        """Raise TracingError for a leaf from outside that is no input: its value would become a constant."""
        for x in tree.leaves(arguments):
            if type(x) is Tensor and x.function is None and x.order < self.begun and type(x.value) is not Tracer:
                raise TracingError(
                    f"the program uses a tensor of shape {x.shape} that was not found among the arguments of the "
                    "function, nor in what it refers to: give it as an argument"
                )

    def swept(self, tensor: Any, g: Any, cotangents: dict[Any, Any]) -> None:
        """Note which node is the derivative by which."""
        g, x = (v.data if type(v) is Stack else v for v in (plain(g), plain(tensor)))
        if type(g) is Tracer and type(x) is Tracer and g.node.function is not None and g.node.derivative_of is None:
            g.node.derivative_of = x.node


_SMALL = 1024  # bytes of a value that a graph keeps, to be looked at


def forget(node: Node) -> None:
    """Let go of the value of a node, but for a small one: it would keep a batch alive, and a view of θ all of θ."""
    if node.nbytes > _SMALL:
        node.value = None
    elif getattr(node.value, "base", None) is not None:
        node.value = np.array(node.value)
