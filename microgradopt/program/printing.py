"""source: the program that a function amounts to, as text for a language."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from microgradopt import tree
from microgradopt.graph.graph import CONSTANT, SWEEPS, Graph, Node, fresh
from microgradopt.graph.reader import trace
from microgradopt.graph.text import identifier
from microgradopt.mode import Switched
from microgradopt.program.compiled import Compiled, describe
from microgradopt.program.javascript import javascript
from microgradopt.program.program import Program, Source
from microgradopt.program.targets import TARGETS
from microgradopt.program.trace import traced
from microgradopt.tensor import Tensor


def _again(graph: Graph) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """A function that computes the outputs of a graph once more, and the arrays that it is called with, by name."""
    given: dict[str, Any] = {}
    names: dict[Any, str] = {}  # by identity: of nodes, and of arrays that say how (labels)
    for node in graph:
        places: list[tuple[str, Any]] = [(node.name, node)] if node.function is None else []
        places += [(node.argument_name(i), x) for i, x in enumerate(node.arguments) if isinstance(x, np.ndarray)]
        for name, x in places:
            value = x.value if type(x) is Node else x
            if np.ndim(value) or (type(x) is Node and x.role != CONSTANT):
                names[id(x)] = identifier(name) if identifier(name) not in given else fresh(name, set(given), {})
                given[names[id(x)]] = value

    def program(**values: Any) -> Any:
        known: dict[int, Any] = {key: values[name] for key, name in names.items()}

        def value(x: Any) -> Any:
            return known[id(x)] if id(x) in known else x.value if type(x) is Node else x

        for node in graph:
            if node.function is not None:
                with Switched(sweeps=SWEEPS[node.role]):
                    known[id(node)] = node.function(*tree.mapped(value, node.arguments), **node.kwargs)
        outputs = [known[id(node)] for node in graph.outputs]
        return outputs[0] if len(outputs) == 1 else outputs

    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in given]
    program.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return program, (), given


def source(
    function: Callable[..., Any] | Tensor,
    *args: Any,
    target: str = "numpy",
    hyperparameters: bool = False,
    **kwargs: Any,
) -> Source:
    """The program that a function amounts to, in plain NumPy (or JAX, PyTorch, CuPy, JavaScript), as a function's text.

    function: what `compile` takes. args, kwargs: what it is called with; nothing is changed by that. Or a tensor that
    is there already, and how it was computed is printed; then ``names=`` is as for `trace`.

    The text needs ``import numpy as np`` and nothing else, and says it. Forward comes first, then what reverse mode
    derived, as it ran: composite functions as their bodies, without what no result needs, nothing computed twice. Its
    arguments are the arrays and parameters that it reads; where the function wrote gradients, parameters or an
    optimizer's state, these come back in a dictionary behind the result. The dtypes and shapes are those of this call.

    target: "numpy", "jax", "torch" or "cupy", the library that the text is for. Results are the same to rounding. The
    text says on top what it needs; for "jax" and "torch", whose compilers allow no checks, also what has to hold of the
    inputs. These are NumPy arrays for every target (``jnp.asarray``, ``torch.from_numpy``, ``cp.asarray``), and numbers
    stay numbers. "javascript" is for small arrays, and for pages: every element of an array is a number by itself, so
    that the text needs no library; arguments and results are numbers and arrays of arrays; it checks as NumPy's does.

    hyperparameters: whether those of optimizers (learning rates always) are arguments of the text, for sliders, in
    place of constants. An argument of the function that is itself called target or so is given by position.

    Returns a `Source`, a str with `inputs`, the values of its arguments by name: ``exec(text, names)``, then
    ``names[text.name](**text.inputs)`` gives the function's result, bit for bit.

    Raises TracingError, as `compile` does, and for a call that the target has no spelling of. ValueError for another
    target.

    >>> print(source(lambda x: x * 2 + 1, np.ones(2)).splitlines()[-2].strip())
    add = x * 2 + 1
    >>> print(source(lambda x: np.tanh(x), np.ones(2), target="torch").splitlines()[-2].strip())
    tanh = torch.tanh(x)
    >>> print(source(lambda x: np.sum(x * x), np.ones(2), target="javascript"))
    function program(x) {
      const sum1 = x[0] * x[0] + x[1] * x[1];
      return sum1;
    }
    <BLANKLINE>
    """
    names = [*TARGETS, "javascript"]
    if not isinstance(target, str) or target not in names:
        raise ValueError(
            f"source: target is one of {', '.join(names)}, not {target!r:.60}; an argument of the function that is "
            "called target is given by position"
        )
    if isinstance(function, Tensor):
        function, args, kwargs = _again(trace(function, *args, **kwargs))
    if isinstance(function, Compiled):
        function = function.__wrapped__  # type: ignore[attr-defined]
    if not callable(function):
        raise TypeError(f"source: wants a function and what it is called with, not {function!r:.60}")
    leaves: list[Any] = []
    statics: list[Any] = []
    describe((args, kwargs), [], leaves, statics)
    program = Program(traced(function, args, kwargs, leaves, tuple(statics), free=hyperparameters))
    return javascript(program) if target == "javascript" else program.source_in(TARGETS[target])
