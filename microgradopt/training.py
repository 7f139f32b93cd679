"""Training: batches, the loop with its history, evaluation, and checkpoints (checkpoints.py).

A step is three lines anyone can write (zero_grad, backward, step). `fit` adds what a real run needs: shuffled batches,
a record of what happened, and a stop, with the last good state kept, when a number is no longer finite.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.checkpoints import load_checkpoint as load_checkpoint
from microgradopt.checkpoints import save_checkpoint as save_checkpoint
from microgradopt.errors import NonFiniteError
from microgradopt.history import History as History
from microgradopt.history import gradient_norm as gradient_norm
from microgradopt.many import ManyRuns as ManyRuns
from microgradopt.many import Variants as Variants
from microgradopt.many import shared
from microgradopt.many import vary as vary
from microgradopt.mode import no_grad
from microgradopt.nn.module import Module
from microgradopt.objective import Objective, check_objective
from microgradopt.optim.clipping import norm
from microgradopt.optim.optimizer import Optimizer, check_optimizer
from microgradopt.run import Loss
from microgradopt.run import Run as Run
from microgradopt.samples import RNG, counted
from microgradopt.samples import batches as batches

Array = npt.NDArray[Any]

# Evaluation -----------------------------------------------------------------------------------------------------------


def accuracy(scores: Any, labels: Array) -> float:
    """The fraction of samples whose highest score is that of their label.

    scores: (samples, classes), Tensor or array. labels: (samples,), integers.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    chosen = scores.argmax(axis=-1)
    if chosen.shape != np.shape(labels):
        raise ValueError(
            f"accuracy: scores of shape {scores.shape} choose {chosen.shape}, labels are {np.shape(labels)}"
        )
    return float(np.mean(chosen == labels))


class Evaluation(NamedTuple):
    """Loss and accuracy on some data."""

    loss: float
    accuracy: float


def evaluate(model: Module, loss: Loss, X: Array, y: Array) -> Evaluation:
    """Loss and accuracy of a classifier on all of X, y, in evaluation, without recording a graph.

    Raises ValueError for no samples.

    >>> import microgradopt as mg
    >>> model = mg.nn.MLP((2, 2), rng=0)
    >>> evaluate(model, mg.nn.cross_entropy, np.zeros((1, 2)), np.array([0])).accuracy in (0.0, 1.0)
    True
    """
    if not len(X):
        raise ValueError("evaluate: there are no samples")
    with Module.evaluating(model), no_grad():
        scores = model(X)
        return Evaluation(loss(scores, y).item(), accuracy(scores, y))


# The loop -------------------------------------------------------------------------------------------------------------


def fit(
    model: Module,
    loss: Loss,
    optimizer: Optimizer,
    X: Array,
    y: Array,
    epochs: int,
    batch_size: int | None = None,
    rng: RNG = None,
    history: History | None = None,
    on_epoch: Callable[[int, Run], object] | None = None,
    compile: Callable[[Any], Any] | None = None,
    shuffle: bool = True,
    max_norm: float | None = None,
    validation: tuple[Any, Any] | None = None,
    patience: int | None = None,
    progress: bool = False,
) -> Run:
    """Train: for every batch of every epoch, one forward, one backward, one step.

    The model is in training meanwhile (``model.train()``), and in evaluation afterwards.

    Optimizers that evaluate the loss themselves (L-BFGS, Newton's method, SAM) do so on that batch: give them all the
    data at once, or batches large enough for their curvature to mean something.

    loss: takes the model's output and the targets, gives a scalar Tensor: ``nn.cross_entropy``. For least squares
    methods it gives the residuals r, not one number, ``lambda out, y: out - y``; the history then has ½ ‖r‖².
    X, y: as `batches` takes them. batch_size: None is the whole set. shuffle: draw another order for every epoch, from
    `rng`, a seed or a Generator; None draws fresh ones. max_norm: clip the gradient to this norm before each step.
    history: one to append to, from an earlier call. compile: what makes functions quick, ``mg.compile``, for loss and
    gradient; None computes them as they are written, and so do second-order methods, which need the graph of the loss.
    validation: (X, y), other data; the loss on them after each epoch is recorded, in evaluation. patience: stop early,
    once the validation loss has not improved for so many epochs (Prechelt 1998); the model is then that of the best
    epoch. on_epoch: called after each epoch, with its number and the run, in evaluation; training stops where it
    returns True. progress: show a bar (needs tqdm).

    Returns the `Run`: the history, and all that the training was made of. ``critical.diagnose`` takes it. Raises
    NonFiniteError at the first loss or gradient that is not finite, before the step it would have spoilt: the
    parameters and the optimizer stay as the last good step left them. Raises TypeError for a least squares method and a
    loss that is a single number, ValueError for max_norm with an optimizer that evaluates the loss itself, and for
    patience without validation data.

    >>> import microgradopt as mg
    >>> X = np.arange(4.0).reshape(4, 1)
    >>> model = mg.nn.Linear(1, 1, rng=0)
    >>> fit(model, mg.nn.mse_loss, mg.optim.SGD(model.parameters(), lr=0.2), X, 2 * X, epochs=200).loss[-1] < 1e-6
    True
    """
    check_optimizer("fit", optimizer, model.parameters())
    epochs = counted("fit: epochs", epochs, 0)
    run = Run(
        model, loss, optimizer, X, y, batch_size, rng=rng, history=history, compile=compile, shuffle=shuffle,
        max_norm=max_norm, validation=validation,
    )  # fmt: skip
    best = None if patience is None else _Best(run, patience)
    with run.training(), _bar(epochs, progress) as bar:
        at_once = epochs if run.is_endless and not (on_epoch or best or progress) else 1
        for epoch in range(0, epochs, at_once):
            run.updates(at_once * run.in_an_epoch)
            run.validate()
            run.epoch = None
            bar(run)
            if _is_stopped(epoch, run, on_epoch, best):
                break
    if best is not None:
        best.restore()
    return run


def fit_many(
    models: Sequence[Module],
    loss: Loss,
    optimizers: Sequence[Optimizer],
    X: Array,
    y: Array,
    epochs: int,
    batch_size: int | None = None,
    rng: RNG | Sequence[RNG] = None,
    compile: Callable[[Any], Any] | None = None,
    shuffle: bool = True,
    max_norm: float | None = None,
    validation: tuple[Any, Any] | None = None,
    jobs: int = 1,
) -> list[Run]:
    """Train k models on the same data at once, each with its own optimizer, seed and order of batches.

    For studies over seeds, learning rates, schedules and hyperparameters: one update of all models is one computation,
    where their shapes and the classes of their optimizers are the same (`ManyRuns`). Each update is what `fit` would do
    from the same state, to rounding.

    models, optimizers: k of each; ``optimizers[i]`` moves the parameters of ``models[i]``. rng: of the order of the
    batches, one for each model, or one that k are drawn from. jobs: processes to share the models among (needs joblib);
    -1 for all cores; ``joblib.parallel_config(backend="dask")`` takes them to other machines. The rest: see `fit`.
    compile: None is ``mg.compile``.

    Returns k runs, each with its history. Does not raise where a number is no longer finite: that run has ended with
    its last good state, and says why in `stopped`. Raises ValueError for another number of optimizers than of models,
    and for two runs with the same parameters.

    >>> import microgradopt as mg
    >>> X = np.arange(4.0).reshape(4, 1)
    >>> models = [mg.nn.Linear(1, 1, rng=0) for _ in range(3)]
    >>> optimizers = [mg.optim.SGD(m.parameters(), lr=lr) for m, lr in zip(models, (0.01, 0.1, 10.0))]
    >>> runs = fit_many(models, mg.nn.mse_loss, optimizers, X, 2 * X, epochs=300)
    >>> [bool(run.stopped) for run in runs], runs[1].loss[-1] < 1e-6
    ([False, False, True], True)
    """
    k, X, y = len(models), np.asarray(X), np.asarray(y)
    if len(optimizers) != k:
        raise ValueError(f"fit_many: there are {k} models and {len(optimizers)} optimizers; one for each is wanted")
    seeds = list(rng) if isinstance(rng, Sequence) else np.random.default_rng(rng).spawn(k)
    if len(seeds) != k:
        raise ValueError(f"fit_many: there are {k} models and {len(seeds)} seeds; one for each, or one, is wanted")
    runs = [
        Run(
            model, loss, optimizer, X, y, batch_size, rng=seed, compile=compile, shuffle=shuffle, max_norm=max_norm,
            validation=validation,
        )
        for model, optimizer, seed in zip(models, optimizers, seeds, strict=True)
    ]  # fmt: skip
    updates = epochs * runs[0].in_an_epoch if runs else 0
    ManyRuns(runs, compile).train(updates) if jobs == 1 else shared(runs, compile, updates, jobs)
    for run in runs:
        run.validate()
    return runs


def _is_stopped(epoch: int, run: Run, on_epoch: Callable[[int, Run], object] | None, best: _Best | None) -> bool:
    """Whether training ends after this epoch; `run.stopped` says why."""
    with run.evaluating():
        if on_epoch is not None:
            answer = on_epoch(epoch, run)
            if isinstance(answer, bool | np.bool_) and answer:
                run.stopped = f"on_epoch returned True after epoch {epoch}"
        if best is not None and best.is_over(epoch):
            run.stopped = (
                f"no validation loss below {best.loss:.4g}, that of epoch {best.epoch}, for {best.patience} epochs"
            )
    return bool(run.stopped)


class _Best:
    """The epoch with the lowest validation loss so far, and the model then."""

    def __init__(self, run: Run, patience: int) -> None:
        if run.validation is None:
            raise ValueError("fit: patience needs validation data: validation=(X, y)")
        self.run, self.patience = run, counted("fit: patience", patience, 1)
        self.epoch, self.loss = -1, math.inf
        self.state: dict[str, Array] | None = None

    def is_over(self, epoch: int) -> bool:
        """Note the epoch that has just ended; whether too many have passed since the best."""
        assert self.run.model is not None
        loss = self.run.validation_loss[-1]
        if loss < self.loss:
            self.epoch, self.loss, self.state = epoch, loss, self.run.model.state_dict()
        return epoch - self.epoch >= self.patience

    def restore(self) -> None:
        """The model as it was after the best epoch."""
        if self.state is not None and self.run.model is not None:
            self.run.model.load_state_dict(self.state)


@contextlib.contextmanager
def _bar(epochs: int, progress: bool) -> Iterator[Callable[[Run], None]]:
    """A progress bar, to be moved on after each epoch; or nothing."""
    if not progress:
        yield lambda run: None
        return
    from tqdm.auto import tqdm  # an extra

    with tqdm(total=epochs, unit="epoch") as bar:

        def moved(run: Run) -> None:
            losses = {"loss": run.loss[-1], "validation loss": run.validation_loss[-1]}
            bar.set_postfix(
                {name: f"{loss:.4g}" for name, loss in losses.items() if math.isfinite(loss)}, refresh=False
            )
            bar.update()

        yield moved


def trajectory(objective: Objective, optimizer: Optimizer, steps: int, history: History | None = None) -> Array:
    """The way of an optimizer over an error surface: θ⁰, θ¹, ... as rows, (steps + 1, n). θ stays where it came to.

    optimizer: of ``objective.parameters``. history: one to append to.

    Where the loss or the gradient is no longer finite, the way ends early, and θ is the last one where they were.

    A compiled objective's loss is computed as it is written where the optimizer asks for curvature: that needs the
    graph. Raises TypeError for a least squares method and an objective that is not `Objective.least_squares`;
    RuntimeError where the loss depends on none of the parameters.

    >>> import microgradopt as mg
    >>> objective = mg.Objective(lambda w: np.sum(w * w), [1.0])
    >>> trajectory(objective, mg.optim.SGD(objective.parameters, lr=0.25), 3)
    array([[1.   ],
           [0.5  ],
           [0.25 ],
           [0.125]])
    """
    check_objective("trajectory", objective)
    steps = counted("trajectory: steps", steps, 0)
    check_optimizer("trajectory", optimizer, objective.parameters)
    run = Run.of(objective, optimizer, history)
    thetas = [objective.theta]
    optimizer.train()
    try:
        for _ in range(steps):
            run.update()
            with optimizer.evaluating():
                thetas.append(objective.theta)
    except NonFiniteError:
        value, g = objective.value_and_gradient()
        if math.isfinite(value) and np.isfinite(norm([g])):  # then it is the step that failed
            raise
        thetas = thetas[:-1] or thetas
        objective.theta = thetas[-1]
    finally:
        optimizer.eval()
    return np.array(thetas)
