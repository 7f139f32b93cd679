"""vary: variants of one run, as arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from microgradopt.graph.graph import Node
from microgradopt.many.traced import Traced, engine_of
from microgradopt.nn.module import Module
from microgradopt.program.loop import Given
from microgradopt.program.program import Program
from microgradopt.program.repeat import rate_of
from microgradopt.run import Array, Run
from microgradopt.tensor import Tensor

_VARIANTS = 1024  # that are trained at once
_THETAS = "thetas"


class Variants(NamedTuple):
    """k variants of a training. losses: (updates, k), NaN from where a variant has diverged. thetas: (k, n), where each
    has come to. updates: (k,), how many each has made.
    """

    losses: Array
    thetas: Array
    updates: Array


def vary(
    run: Run,
    updates: int,
    thetas: Any = None,
    compile: Callable[[Any], Any] | None = None,
    **hyperparameters: Any,
) -> Variants:
    """Train k variants of one run, as arrays: from other θ, with other learning rates and hyperparameters.

    For pictures in which each pixel is a training: no model or optimizer is made for each. The variants are on all
    data at once, the model in training, and go on from the run's state; the run itself stays as it is.

    thetas: (k, n), where each begins; None: where the run is. hyperparameters: by name, (k,), or (k, groups) where the
    groups of the optimizer differ: ``lr=rates``. compile: see `ManyRuns`.

    Raises ValueError for an optimizer that begins to keep a state with its first update, and has made none yet; for
    nothing to vary; for arrays that do not go together; and for numbers with which the formula is another one than in
    the run: zero leaves a term out. TracingError for a method that decides by numbers (L-BFGS, Newton's, Prodigy):
    `ManyRuns` trains variants of those one by one. `ScheduleFreeAdamW` wants ``optimizer.train()`` before.

    >>> import microgradopt as mg
    >>> X = np.arange(4.0).reshape(4, 1)
    >>> model = mg.nn.Linear(1, 1, rng=0)
    >>> run = mg.training.Run(model, mg.nn.mse_loss, mg.optim.SGD(model.parameters()), X, 2 * X)
    >>> vary(run, 300, lr=[0.01, 0.1, 10.0]).updates.tolist()[:2]
    [300, 300]
    """
    given = {key: np.asarray(value, float) for key, value in hyperparameters.items()}
    given |= {} if thetas is None else {_THETAS: np.asarray(thetas, run.vector.theta().dtype)}
    shapes = {key: x.shape for key, x in given.items()}
    k = next((shape[0] for shape in shapes.values() if shape), 0)
    groups = len(run.optimizer.param_groups)
    allowed = {key: [(k, run.vector.size)] if key == _THETAS else [(k,), (k, groups)] for key in given}
    if not k or any(shape not in allowed[key] for key, shape in shapes.items()):
        raise ValueError(f"vary: arrays with one entry for each variant are wanted, not of shapes {shapes}")
    blocks = [{key: x[i : i + _VARIANTS] for key, x in given.items()} for i in range(0, k, _VARIANTS)]
    engine = engine_of(compile, run)
    loops: dict[int, Any] = {}
    with contextlib.ExitStack() as stack:
        if run.model is not None:
            stack.enter_context(Module.evaluating(run.model))  # afterwards each module is in the mode that it was in
            Module.train(run.model)
        traced = Traced(run, run.taken(np.arange(0 if run.X is None else len(run.X))))
        found = [_varied(run, traced, engine, loops, updates, block) for block in blocks]
    losses, ends, made = zip(*found, strict=True)
    return Variants(np.concatenate(losses, axis=1), np.concatenate(ends), np.concatenate(made))


def _varied(
    run: Run,
    traced: Traced,
    engine: Callable[..., Any],
    loops: dict[int, Any],
    updates: int,
    changed: dict[str, Array],
) -> tuple[Array, Array, Array]:
    """The losses of some variants, where they have come to, and how many updates each has made."""
    program, k = traced.program, len(next(iter(changed.values())))
    kept = {f"{text} = {{}}" for text in program.reads.values()}
    if any(".state[" in effect.line and effect.line not in kept for effect in program.effects):
        raise ValueError("vary: the optimizer begins to keep a state: make an update before, run.train(1)")
    written = {effect.slot for effect in program.effects}
    places = dict(zip(run.vector.parameters, run.vector.slices, strict=True))
    thetas = changed.get(_THETAS, np.tile(run.vector.theta(), (k, 1)))
    given: dict[Node, Given] = {}
    for node, value in zip(program.slots, program.own_ways.read(list(traced.batch)), strict=True):
        key, group = program.rates[node][1:] if node in program.rates else program.settings.get(node, ("", 0))
        tensor = program.names.get(program.reads[node].removesuffix(".value"))
        if key in changed:
            column = changed[key] if changed[key].ndim == 1 else changed[key][:, group]
            given[node] = Given(column, stacked=True)
        elif node in program.rates:
            given[node] = rate_of(program, node, updates)
        elif node in program.moving.values():
            given[node] = Given(thetas[:, _columns(program, node, places)], stacked=True)
        elif tensor in places:
            given[node] = Given(thetas[:, places[tensor]].reshape(k, *node.shape), stacked=True)
        else:
            given[node] = Given(np.stack([value] * k), stacked=True) if node in written else Given(value)
    groups = run.optimizer.param_groups
    settings = {key for key, i in program.settings.values() if not isinstance(groups[i][key], tuple)}
    rates = {key for _, key, _ in program.rates.values()}
    if unknown := changed.keys() - {_THETAS} - settings - rates:
        raise ValueError(f"vary: {', '.join(sorted(unknown))}: no number that {type(run.optimizer).__name__} has")
    if k not in loops:
        loops[k] = engine(program, given, k)
    results = [np.full((updates, k), np.nan) for _ in range(3)]
    done, ends = loops[k](updates, given, results, np.ones(k, bool))
    _check_diverged(changed, updates, done, results)
    results[0][np.arange(updates)[:, None] >= done] = np.nan
    after = thetas.copy()
    for effect, end in zip(program.effects, ends, strict=True):
        if effect.slot in program.moving.values():
            after[:, _columns(program, effect.slot, places)] = end
    return results[0], after, done


def _check_diverged(changed: dict[str, Array], updates: int, done: Array, results: list[Array]) -> None:
    """Raise ValueError for a variant that has ended for another reason: its numbers."""
    for r in np.flatnonzero(done < updates):
        if all(np.isfinite(x[done[r], r]) for x in results[:2]):
            values = {key: x[r].tolist() for key, x in changed.items() if key != _THETAS}
            raise ValueError(
                f"vary: with {values} an update is none, or another formula than in the run (zero leaves a term out): "
                "make the run with numbers like these"
            )


def _columns(program: Program, theta: Node | None, places: dict[Tensor, slice]) -> Array:
    """Where in the run's θ the entries of a vector are that an optimizer moves."""
    nodes = [node for node, part in program.parts.items() if part.theta is theta]
    tensors = [program.names[program.reads[node].removesuffix(".value")] for node in nodes]
    return np.concatenate([np.arange(places[x].start, places[x].stop) for x in tensors])
