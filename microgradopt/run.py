"""What a training is: model, loss, data, optimizer, clipping, and the history of its updates.

`Run` holds all of it. One update is one method; so a run can go on, and a changed copy of it can be tried out: with
another learning rate, without weight decay, on all data at once. Whoever asks why a loss is stuck asks a run.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from microgradopt.errors import NonFiniteError
from microgradopt.history import History
from microgradopt.mode import no_grad
from microgradopt.nn.module import Module
from microgradopt.objective import Objective, check_objective, half_square
from microgradopt.optim.clipping import clip_grad_norm, norm
from microgradopt.optim.least_squares import LeastSquares
from microgradopt.optim.optimizer import Optimizer, check_optimizer
from microgradopt.program.tracer import TracingError
from microgradopt.rules.values import expect
from microgradopt.samples import RNG, Epoch, checked_size
from microgradopt.tensor import Tensor
from microgradopt.vector import ParameterVector

Array = npt.NDArray[Any]
Loss = Callable[[Any, Any], Tensor]


class Run(History):
    """A training: what it is made of, and its history. `training.fit` gives one; one's own loop can make one.

    model, loss, optimizer, X, y, batch_size, rng, shuffle, compile: as `training.fit` takes them. max_norm: clip the
    gradient to this norm before each step. validation: (X, y) to measure `validation_loss` on, after each epoch.
    history: one to go on with; its lists are this run's.

    Attributes: these (the loss is `loss_function`; `loss` is the list of losses); `objective`, the loss on all data;
    `stopped`, why `train` has stopped early, or "".

    Raises ValueError for an optimizer that moves none of the model's parameters, and TypeError for one that is none.

    >>> import microgradopt as mg
    >>> X = np.arange(4.0).reshape(4, 1)
    >>> model = mg.nn.Linear(1, 1, rng=0)
    >>> run = Run(model, mg.nn.mse_loss, mg.optim.SGD(model.parameters(), lr=0.2), X, 2 * X)
    >>> run.train(200).objective.value() < 1e-6
    True
    """

    model: Module | None
    loss_function: Loss | None = None
    X: Any = None
    y: Any = None
    batch_size: int | None = None
    max_norm: float | None = None
    validation: tuple[Any, Any] | None = None
    compile: Callable[[Any], Any] | None = None
    shuffle = fits_residuals = False

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        X: Any,
        y: Any,
        batch_size: int | None = None,
        *,
        max_norm: float | None = None,
        validation: tuple[Any, Any] | None = None,
        rng: RNG = None,
        shuffle: bool = True,
        compile: Callable[[Any], Any] | None = None,
        history: History | None = None,
    ) -> None:
        check_optimizer("Run", optimizer, model.parameters())
        if max_norm is not None and optimizer.wants_closure:
            raise ValueError(f"Run: {type(optimizer).__name__} evaluates the loss itself; max_norm would not clip that")
        self.model, self.loss_function, self.optimizer = model, loss, optimizer
        self.X, self.y, self.batch_size, self.shuffle = X, y, batch_size, shuffle
        self.max_norm, self.validation, self.compile = max_norm, validation, compile
        self.rng = np.random.default_rng(rng)
        self.fits_residuals = isinstance(optimizer, LeastSquares)
        self._start(history)

    @classmethod
    def of(cls, objective: Objective, optimizer: Optimizer, history: History | None = None) -> Self:
        """The training of an objective, whose data are not known: each update is on all of it.

        Raises TypeError for a least squares method and an objective without residuals; else as above.

        >>> import microgradopt as mg
        >>> valley = mg.Objective(lambda w: w[0] ** 2 + 10 * w[1] ** 2, [1.0, 1.0])
        >>> Run.of(valley, mg.optim.SGD(valley.parameters, lr=0.05)).train(2)
        Run(2 updates; last loss 0.81, gradient norm 1.8)
        """
        check_objective("Run.of", objective)
        check_optimizer("Run.of", optimizer, objective.parameters)
        run = cls.__new__(cls)
        run.objective, run.model, run.optimizer = objective, objective.model, optimizer
        run.rng = np.random.default_rng(0)
        run._start(history)
        return run

    def _start(self, history: History | None) -> None:
        """Lists of its own, or another history's; the loss on all data; what an update computes."""
        super().__init__()
        if history is not None:
            vars(self).update({name: getattr(history, name, []) for name in vars(History())})
        self.stopped = ""
        self.epoch: Epoch | None = None
        model, loss = self.model, self.loss_function
        if model is not None and loss is not None:
            X, y = np.asarray(self.X), np.asarray(self.y)
            self.X, self.y = X, y
            make = Objective.least_squares if self.fits_residuals else Objective.of
            self.objective = make(model, lambda: loss(model(X), y))
        self.vector = ParameterVector(self.objective.parameters)
        self.buffers = [(module, name) for module in self.modules for name in type(module).buffers]
        self._plain_step = self._written_step()
        self.step: Any = self._plain_step
        if self.compile is not None and not self.optimizer.wants_closure:
            self.step = self.compile(self._plain_step)

    def __bool__(self) -> bool:
        """A run is one before its first update too: ``found.cure() or run``."""
        return True

    @property
    def modules(self) -> list[Module]:
        """The model, and all modules inside of it; none where it is not known."""
        return [] if self.model is None else [module for _, module in self.model.named_modules()]

    # Updates

    def update(self, *batch: Array) -> None:
        """One forward, one backward, one step, on a batch (inputs, targets), and a line in the history.

        Raises NonFiniteError for a loss or gradient that is not finite, before the step it would have spoilt.
        """
        started, lr = time.perf_counter(), self.optimizer.lr
        averages = [(module, name, getattr(module, name)) for module, name in self.buffers]
        try:
            loss, gradient_norm, step_norm = self._stepped(batch)
        except _DivergedError as error:
            for module, name, array in averages:
                setattr(module, name, array)
            raise NonFiniteError(f"fit: at step {len(self)} {error}") from None
        self.append(loss.item(), float(gradient_norm), lr, time.perf_counter() - started, float(step_norm))

    def _stepped(self, batch: tuple[Array, ...]) -> tuple[Any, Any, Any]:
        try:
            return self.step(*batch)
        except TracingError:  # an optimizer that asks for numbers; the loss and its gradient are compiled all the same
            if self.step is self._plain_step:
                raise
            self.step = self._plain_step
            return self.step(*batch)

    def updates(self, n: int) -> None:
        """n updates, on the next batches. A compiled update is repeated in loops of its own (`Compiled.repeat`)."""
        while n > 0:
            orders = self.next_orders(n)
            if hasattr(self.step, "repeat") and len(orders) > 1:
                self._repeated(orders)
            else:
                for order in orders:
                    self.update(*self.taken(order))
            n -= len(orders)

    def _repeated(self, orders: Array) -> None:
        """An update on each of these batches; in a loop, as far as that goes, and else one by one."""
        n, done = len(orders), 0
        is_one = self.batch_size is None or self.loss_function is None  # the same batch each time
        args = self.taken(orders[0]) if is_one else self.taken(orders)
        loop = self.step.repeat(n, () if is_one else range(len(args)))
        results = [np.empty(n) for _ in range(3)]
        while done < n:
            started = time.perf_counter()
            made = loop.looped(args, done, [array[done:] for array in results])
            if made:
                took = (time.perf_counter() - started) / made
                losses, lengths, steps = (x[done : done + made].tolist() for x in results)
                rates = [self.optimizer.rate(ahead=t) for t in range(-made, 0)]
                self.extend(losses, lengths, rates, [took] * made, steps)
            else:
                self.update(*(args if is_one else (x[done] for x in args)))
            done += made or 1

    def train(self, updates: int) -> Self:
        """This many updates, on the next batches. Ends early where a number is no longer finite: see `stopped`."""
        try:
            with self.training():
                self.updates(updates)
        except NonFiniteError as error:
            self.stopped = str(error)
        return self

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Inside, model and optimizer are in training, and afterwards in evaluation."""
        self.optimizer.train()
        if self.model is not None:
            Module.train(self.model)  # a network may have a method of its own by this name
        try:
            yield
        finally:
            self.optimizer.eval()
            if self.model is not None:
                Module.eval(self.model)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, model and optimizer are in evaluation, and afterwards as before."""
        with (
            self.optimizer.evaluating(),
            contextlib.nullcontext() if self.model is None else Module.evaluating(self.model),
        ):
            yield

    def next_orders(self, n: int) -> Array:
        """The indices of the samples in the next batches, (batches, size): at most n batches, all of one size."""
        if self.loss_function is None:
            return np.empty((n, 0), int)
        if self.epoch is not None and not self.epoch.left:
            self.validate()
            self.epoch = None
        if self.epoch is None:
            self.epoch = Epoch(self.X, self.y, self.batch_size, self.rng, self.shuffle)
        orders = self.epoch.take(n)
        return np.broadcast_to(orders, (n, orders.shape[1])) if self.is_endless else orders

    def put_back(self, orders: Array) -> None:
        """Give back the last batches that were drawn: they were not used."""
        if self.epoch is not None and not self.is_endless:
            self.epoch.put_back(orders.size)

    @property
    def in_an_epoch(self) -> int:
        """The number of updates in an epoch."""
        return -(-len(self.X) // checked_size(self.X, self.y, self.batch_size))

    @property
    def is_endless(self) -> bool:
        """Whether all epochs are the same batch, with nothing to be done between them."""
        return self.batch_size is None and self.validation is None

    def taken(self, order: Array) -> tuple[Array, ...]:
        """The samples with these indices, and their targets; nothing where the data are not known."""
        return () if self.loss_function is None else (self.X[order], self.y[order])

    def validate(self) -> None:
        """Measure the loss on the validation data, if there are any, as of the last update."""
        if self.validation is not None and self.validation_loss:
            self.validation_loss[-1] = self.loss_on(*self.validation)

    def loss_on(self, X: Any, y: Any) -> float:
        """The loss on other data, in evaluation."""
        assert self.model is not None
        assert self.loss_function is not None
        with self.evaluating(), no_grad(), np.errstate(all="ignore"):
            loss = self.loss_function(self.model(np.asarray(X)), np.asarray(y))
            return (half_square(loss) if self.fits_residuals else loss).item()

    def value(self) -> float:
        """The loss on all data, at the θ that the optimizer would have evaluated."""
        with self.optimizer.evaluating(), np.errstate(all="ignore"):
            return self.objective.value()

    # Copies

    def changed(self, optimizer: Optimizer | None = None, **changes: Any) -> Self:
        """The same training, with something else in it and a history of its own; the parameters are the same tensors.

        optimizer: in place of a copy of this one with its state. changes: other attributes, as ``batch_size=None``.
        """
        other = copy.copy(self)
        other.rng = np.random.default_rng(0)
        other.optimizer = copied(self.optimizer) if optimizer is None else optimizer
        vars(other).update(changes)
        other._start(None)
        return other

    # What an update computes

    def _written_step(self) -> Callable[..., tuple[Any, Any, Any]]:
        """What one update does, and gives: the loss, ‖g‖ and ‖θ after − θ before‖. It can be traced."""
        optimizer, vector, max_norm = self.optimizer, self.vector, self.max_norm
        evaluate, closure = self._evaluation()
        self._evaluate = evaluate

        def step(*batch: Array) -> tuple[Any, Any, Any]:
            loss = evaluate(*batch).value
            length = norm([vector.gradient()])
            if not expect(np.isfinite(loss) & np.isfinite(length)):
                raise _DivergedError(
                    f"the loss is {loss} and the gradient norm {length}. The parameters are those of the last good "
                    "step. A smaller learning rate or clipping may do; mg.detect_anomaly() finds the operation"
                )
            if max_norm is not None:
                clip_grad_norm(vector.parameters, max_norm)
            vectors = [block.vector for blocks in optimizer._blocks for block in blocks]
            before = [vector.theta() for vector in vectors]
            optimizer.step(functools.partial(closure, *batch) if optimizer.wants_closure else None)
            with np.errstate(all="ignore"):
                return loss, length, norm(v.theta() - theta for v, theta in zip(vectors, before, strict=True))

        return step

    def _evaluation(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        """Of a batch: what computes its loss and the gradients; and what the optimizer's step is to call."""
        optimizer, loss_of = self.optimizer, self._loss_of()
        whole = self.objective if self.loss_function is None else None
        parameters, wants_graph = list(optimizer.parameters()), optimizer.wants_graph
        if isinstance(optimizer, LeastSquares):
            return lambda *batch: optimizer.evaluate(functools.partial(loss_of, *batch))[1], loss_of

        def backward(*batch: Array) -> Tensor:
            for parameter in parameters:
                parameter.grad = None
            if whole is not None:
                return whole.backward(wants_graph)
            value = loss_of(*batch)
            if not isinstance(value, Tensor):
                raise TypeError(f"fit: the loss is to give a Tensor, a single number with its graph, not {value!r:.60}")
            value.backward()
            return value

        # A compiled result has no graph, and so no curvature.
        quick = backward if self.compile is None or wants_graph else self.compile(backward)
        return quick, quick

    def _loss_of(self) -> Callable[..., Tensor]:
        """Of a batch: its loss, with the graph; the residuals for methods that fit those."""
        model, loss, objective = self.model, self.loss_function, self.objective
        wants_residuals = isinstance(self.optimizer, LeastSquares)
        if model is not None and loss is not None:
            if self.fits_residuals and not wants_residuals:
                return lambda inputs, targets: half_square(loss(model(inputs), targets))
            return lambda inputs, targets: loss(model(inputs), targets)
        if not wants_residuals:
            return objective.loss
        if objective.residuals is None:
            raise TypeError(
                f"Run.of: {type(self.optimizer).__name__} fits residuals, and this objective has none: make it by "
                "Objective.least_squares(model, residuals)"
            )
        return objective.residuals


class _DivergedError(NonFiniteError):
    """A loss or a gradient is not finite."""


def copied(optimizer: Optimizer) -> Optimizer:
    """A copy of an optimizer, with its state, that moves the same tensors."""
    return copy.deepcopy(optimizer, {id(parameter): parameter for parameter in optimizer.parameters()})
