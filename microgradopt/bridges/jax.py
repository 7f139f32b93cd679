"""JAX's functions: verdicts on their losses, and diagnoses of their trainings.

A loss is a function of a tree of parameters. It is computed by JAX, compiled, in the parameters' dtype; θ is here, as
an array: the leaves of the tree, flattened in JAX's order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.flatten_util import ravel_pytree

from microgradopt import optim
from microgradopt.bridges.foreign import ForeignModel, computed_by, history_of, joined
from microgradopt.objective import Objective
from microgradopt.optim.optimizer import Optimizer
from microgradopt.run import Run
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

__all__ = ["objective", "run", "unflatten"]


def objective(f: Callable[[Any], Any], params: Any) -> Objective:
    """The loss f of a tree of parameters as a function of θ. Products H v are forward over reverse, jvp of grad.

    f: takes a tree like `params`, gives a scalar. params: where θ starts. float32 parameters, JAX's usual ones, give an
    objective in float32; for float64 see ``jax.config.update("jax_enable_x64", True)``.

    Raises TypeError for what is no function, for parameters that are no real numbers, and, of JAX, for a loss that is
    no scalar.

    >>> objective(lambda p: (1 - p["w1"] * p["w2"]) ** 2, {"w1": 0.5, "w2": 2.0}).value()
    0.0
    """
    if not callable(f):
        raise TypeError(f"bridges.jax.objective: f is a function of the parameters, not {f!r:.60}")
    theta, tree = _flattened("objective", params)

    def loss(vector: Any) -> Any:
        return _wide(jnp.asarray(f(tree(vector))))

    both = jax.jit(jax.value_and_grad(loss))
    product = _compiled(lambda vector, v: jax.jvp(jax.grad(loss), (vector,), (v,))[1])
    return Objective.external(
        lambda x: both(_like(x, theta)), np.asarray(theta), lambda x, v: product(_like(x, theta), _like(v, theta))
    )


def unflatten(params: Any, theta: npt.ArrayLike) -> Any:
    """θ as a tree like `params`: that of an objective, ``run.objective.theta``, or of an escape.

    >>> unflatten({"w": np.zeros(2)}, [1.0, 2.0])["w"].tolist()
    [1.0, 2.0]
    """
    start, tree = _flattened("unflatten", params)
    if np.shape(theta) != start.shape:
        raise ValueError(f"bridges.jax.unflatten: θ is of shape {np.shape(theta)}, and the tree has {start.shape}")
    return tree(_like(theta, start))


# A training -----------------------------------------------------------------------------------------------------------

_OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


def run(
    apply: Callable[[Any, Any], Any],
    params: Any,
    loss: Callable[[Any, Any], Any],
    batches: Any,
    optimizer: str,
    state: Any = None,
    clip: float | None = None,
    history: Any = None,
    **settings: float,
) -> Run:
    """A JAX training as a `Run`, for ``critical.diagnose(run)``.

    apply: gives the network's output from the parameters and inputs, ``model.apply``. loss: takes output and targets,
    gives a scalar. batches: a list of pairs (inputs, targets), or one such pair, all data at once. optimizer: "sgd",
    "adam" or "adamw", with its settings by our names: ``lr=1e-3, betas=(0.9, 0.999), eps=1e-8``, ``momentum=0.9``.
    state: what optax keeps for it; its moments and its count are taken over. clip: the norm that gradients are clipped
    to. history: what has a list `loss`, of each update, or a list of losses.

    The run has copies of the parameters, under the names of their places in the tree. `unflatten` makes a tree of what
    a cure has found.

    Raises ValueError for an optimizer that is not known here, TypeError for batches that are no pairs of arrays.

    >>> def line(p, x): return x * p["w"]
    >>> def error(out, y): return ((out - y) ** 2).mean()
    >>> run(line, {"w": 0.0}, error, (np.ones(4), np.ones(4)), "sgd", lr=0.1).train(2)
    Run(2 updates; last loss 0.64, gradient norm 1.6)
    """
    theta, tree = _flattened("run", params)
    if optimizer not in _OPTIMIZERS:
        raise ValueError(f"bridges.jax.run: optimizer is one of {', '.join(_OPTIMIZERS)}, not {optimizer!r}")
    paths = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    arrays = {name: _like(leaf, theta) for name, (_, leaf) in zip(names, paths, strict=True)}
    model = ForeignModel(arrays, _Function(lambda vector, data: apply(tree(vector), data[0])))
    ours = _OPTIMIZERS[optimizer](model.parameters(), **settings)
    if state is not None:
        _take_over(ours, state)
    X, y, size = joined("jax", batches, np.asarray)
    return Run(model, _loss(loss), ours, X, y, size, max_norm=clip, rng=0, history=history_of(history))


class _Function:
    """A function of JAX's as `Foreign`: of an array of floats, and of data. Compiled, one program for each shape."""

    def __init__(self, compute: Callable[[Any, Any], Any]) -> None:
        def value(x: Any, data: Any) -> Any:
            return _wide(compute(x, data))

        def pulled(x: Any, g: Any, data: Any) -> Any:
            out, back = jax.vjp(lambda v: value(v, data), x)
            return back(g.astype(out.dtype))[0]

        # Reverse mode alone: not every function of JAX's has forward mode (jax.custom_vjp).
        def pushed(x: Any, c: Any, data: Any) -> Any:
            return jax.vjp(lambda g: pulled(x, g, data), value(x, data))[1](c.astype(x.dtype))[0]

        def bent(x: Any, g: Any, c: Any, data: Any) -> Any:
            return jax.vjp(lambda v: pulled(v, g, data), x)[1](c.astype(x.dtype))[0]

        self.value, self.pulled = _compiled(value), _compiled(pulled)
        self.pushed, self.bent = _compiled(pushed), _compiled(bent)


def _compiled(function: Callable[..., Any]) -> Callable[..., Array]:
    """The function, compiled by JAX; it gives an array of NumPy's."""
    quick = jax.jit(function)
    return lambda *args: np.asarray(quick(*args))


def _loss(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Tensor]:
    foreign = _Function(loss)
    return lambda output, target: computed_by(output, foreign, target)


# Of what optax keeps: a moment, and its name here.
_MOMENTS = {"mu": "m", "nu": "v", "trace": "b"}


def _take_over(optimizer: Optimizer, state: Any) -> None:
    """Go on from optax's state: the parts of it, however they are nested, that have moments."""
    fresh, kept = optimizer.state_dict(), {}
    for part in filter(_has_moments, jax.tree.leaves(state, is_leaf=_has_moments)):
        fields = part._asdict()
        for name in fields.keys() & _MOMENTS.keys():
            kept[_MOMENTS[name]] = _like(ravel_pytree(fields[name])[0], next(optimizer.parameters()))
        kept["step"] = kept["t"] = int(fields.get("count", 1))
    optimizer.load_state_dict({**fresh, "state": [{**fresh["state"][0], **kept}]})


def _has_moments(part: Any) -> bool:
    return not _MOMENTS.keys().isdisjoint(getattr(part, "_fields", ()))


# Between trees and arrays ---------------------------------------------------------------------------------------------


def _flattened(name: str, params: Any) -> tuple[Any, Callable[[Any], Any]]:
    """θ, and what makes a tree of a vector."""
    theta, tree = ravel_pytree(params)
    if not theta.size or not all(jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in jax.tree.leaves(params)):
        raise TypeError(f"bridges.jax.{name}: params is a tree of arrays of floats, not {params!r:.60}")
    return _wide(theta), lambda vector: tree(vector.astype(theta.dtype))


def _wide(x: Any) -> Any:
    """Half precision becomes float32."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def _like(x: Any, theta: Any) -> Any:
    return np.asarray(x, theta.dtype)
