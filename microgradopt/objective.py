"""Objective: a scalar loss as a function of one flat vector θ ∈ Rⁿ.

Papers write θ, g, m, σ; so does the code. Its gradient, Hessian-vector product and Hessian are vectors and matrices of
the same Rⁿ.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.autodiff import RecordedGradient, basis, grad, hessian, hvp
from microgradopt.external import ExternalLoss, external_loss
from microgradopt.mode import Observer, measuring, observed
from microgradopt.nn.module import Module
from microgradopt.notebook import shown, table
from microgradopt.rules.stack import Stack
from microgradopt.rules.values import check_real
from microgradopt.sweep import graph_of
from microgradopt.tensor import Tensor
from microgradopt.vector import ParameterVector, way_in

Array = npt.NDArray[Any]

_POINTS = 256  # at which a loss is computed at once

# The methods of SciPy's minimize, by what they take besides L(θ).
_OF_SCIPY = {
    "nothing": ("Nelder-Mead", "Powell", "COBYLA", "COBYQA"),
    "the gradient": ("CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP"),
    "the Hessian": ("dogleg", "trust-exact"),
    "products": ("Newton-CG", "trust-ncg", "trust-krylov", "trust-constr"),
}


def half_square(residuals: Tensor) -> Tensor:
    """½ ‖r‖². Raises TypeError for a single number: a loss already."""
    if np.ndim(residuals) == 0:
        raise TypeError(
            "least squares: the residuals are wanted, a Tensor like `out - y`, not a single number, as a loss is; "
            "a single residual has shape (1,)"
        )
    return (residuals * residuals).sum() / 2


def check_objective(name: str, objective: Any) -> None:
    """Raise TypeError unless it is an Objective."""
    if not isinstance(objective, Objective):
        raise TypeError(
            f"{name}: an Objective is wanted, not {type(objective).__name__}: mg.Objective(f, x0) for a function of a "
            "vector, mg.Objective.of(model, lambda: loss) for a model"
        )


def check_depends(loss: Tensor, parameters: Sequence[Tensor]) -> None:
    """Raise RuntimeError unless the loss depends on one of the parameters, at least."""
    if not (graph_of([loss], parameters).nodes or loss in set(parameters)):
        raise RuntimeError(
            f"the loss does not depend on any of the {len(parameters)} parameters, or has no graph: is it the loss of "
            "another model, or of a copy? Was it computed under no_grad, or from .data, .detach() or .item()?"
        )


class Objective:
    """L(θ), a scalar loss as a function of a flat vector θ of shape (n,), with its derivatives.

    f: takes a Tensor of shape (n,), gives a scalar Tensor. x0: where θ starts, (n,); float32 stays float32, all else
    is float64. For a model, or any tensors, see `Objective.of`.
    compile: what makes functions quick, ``mg.compile``; None computes each value as it is written.

    Attributes: `vector`, the `ParameterVector` behind θ; `model`, if it was made of one; `residuals`, the function
    that gives r, if it is one of least squares (`Objective.least_squares`); `external_loss`, if it was made by
    `Objective.external`; else None.

    Every method takes a `theta` to be evaluated at, and then leaves the current θ as it was; without, it is evaluated
    at the current θ. Derivatives raise RuntimeError where the loss depends on none of the parameters.

    >>> rosenbrock = Objective(lambda x: (1 - x[0])**2 + 100 * (x[1] - x[0]**2)**2, [-1.0, 1.0])
    >>> rosenbrock.value(), rosenbrock.gradient()
    (4.0, array([-4.,  0.]))
    """

    residuals: Callable[[], Tensor] | None = None
    external_loss: ExternalLoss | None = None
    _function: Callable[[Tensor], Tensor] | None = None
    """Of θ, where that is a tensor of its own."""
    _loss: Callable[[], Tensor]

    def __init__(
        self, f: Callable[[Tensor], Tensor], x0: npt.ArrayLike, compile: Callable[[Any], Any] | None = None
    ) -> None:
        if not callable(f):
            raise TypeError(f"Objective: f is a function of θ, a Tensor of shape (n,), not {f!r:.60}")
        x = Tensor(x0, requires_grad=True)
        if x.ndim != 1:
            raise ValueError(f"Objective: x0 is a vector of shape (n,), not {x.shape}")
        self.vector = ParameterVector([x])
        self.model: Module | None = None
        self._function = f
        self._set(compile)

    @classmethod
    def of(
        cls,
        model: Module | Iterable[Tensor],
        loss: Callable[[], Tensor],
        compile: Callable[[Any], Any] | None = None,
    ) -> Objective:
        """The objective whose θ is all trainable parameters of a model, or the given tensors, flattened in order.

        loss: takes nothing, computes the loss from the model as it is, gives a scalar Tensor:
        ``Objective.of(model, lambda: nn.cross_entropy(model(X), y))``. Should be deterministic. Inside, dropout is off
        and batch normalisation uses the batch, whether the model is in training or in evaluation, and changes nothing.
        """
        if isinstance(model, Tensor):
            raise TypeError(
                "Objective.of: a model or a list of tensors is wanted, not one tensor: put it in [brackets]"
            )
        if not isinstance(model, Module | Iterable):
            raise TypeError(
                f"Objective.of: a model of mg.nn or a list of tensors is wanted, not {model!r:.60}{way_in(model)}"
            )
        if not callable(loss):
            raise TypeError(f"Objective.of: loss is a function without arguments, lambda: ..., not {loss!r:.60}")
        tensors = model.parameters() if isinstance(model, Module) else model
        objective = cls.__new__(cls)
        objective.vector = ParameterVector(p for p in tensors if not isinstance(p, Tensor) or p.requires_grad)
        objective.model = model if isinstance(model, Module) else None
        objective._loss = loss
        objective._set(compile)
        return objective

    @classmethod
    def least_squares(
        cls,
        model: Module | Iterable[Tensor],
        residuals: Callable[[], Tensor],
        compile: Callable[[Any], Any] | None = None,
    ) -> Objective:
        """L = ½ ‖r‖², for optimizers that fit residuals too. For the rest see `of`.

        residuals: gives r, a Tensor of any shape but (). Derivatives and values raise TypeError for any other.

        >>> w = Tensor([0.0, 0.0], requires_grad=True)
        >>> Objective.least_squares([w], lambda: w[0] + w[1] * np.arange(3.0) - 1).value()
        1.5
        """
        objective = cls.of(model, lambda: half_square(residuals()), compile)
        objective.residuals = measuring()(residuals)
        return objective

    @classmethod
    def external(
        cls,
        value_and_gradient: Callable[[Array], tuple[Any, Any]],
        theta: npt.ArrayLike,
        hvp: Callable[[Array, Array], Any] | None = None,
        smooth: bool = False,
    ) -> Objective:
        """The objective of a loss that other code computes: PyTorch, JAX, SciPy's functions, plain NumPy.

        value_and_gradient: takes θ, an array of shape (n,); gives L and ∇L, (n,). theta: where θ starts, (n,).
        hvp: takes θ and v, gives H(θ) v, both (n,), as ``hessp`` in SciPy; without it, H v is a difference of four
        gradients. smooth: whether L is known to be smooth everywhere. Kinks, and rounding inside of the loss, cannot
        be seen from here; a verdict says so.

        All that takes an objective takes this one. It is float32 where θ or the gradient is, and float64 otherwise.

        Raises TypeError and ValueError for answers that are no pair of a real number and a vector of θ's shape: of the
        first, at once.

        >>> quartic = Objective.external(lambda x: (np.sum(x**4), 4 * x**3), [1.0, 2.0], lambda x, v: 12 * x**2 * v)
        >>> quartic.hessian()
        array([[12.,  0.],
               [ 0., 48.]])
        """
        start = Tensor(theta).value
        loss = ExternalLoss(value_and_gradient, start, hvp, smooth)
        objective = cls(lambda x: external_loss(x, loss), start.astype(loss.dtype))
        objective.external_loss = loss
        return objective

    def __deepcopy__(self, memo: dict[int, Any]) -> Objective:
        """A copy with a θ of its own. TypeError for one of a model, or of tensors: its loss would still be of those."""
        if self._function is None:
            raise TypeError(
                "Objective: one of a model or of tensors cannot be copied: its loss is a function of these very ones. "
                "Copy the model, and make an objective of the copy"
            )
        other = memo[id(self)] = type(self).__new__(type(self))
        vars(other).update(vars(self))
        other.vector = copy.deepcopy(self.vector, memo)
        other._set(self._compile)
        return other

    def _set(self, compile: Callable[[Any], Any] | None) -> None:
        """The computations, at the tensors' current values; compiled, if wanted."""
        self._compile = compile
        if self._function is not None:
            self._loss = functools.partial(self._function, *self.vector.parameters)
        made = compile or (lambda computation: computation)
        self._value: Callable[[], Tensor] = made(self.loss)
        self._value_and_gradient: Callable[[], tuple[Tensor, Array]] = made(self._with_gradient)
        self._value_and_gradients: Callable[[], tuple[Tensor, list[Array | None]]] = made(self._with_gradients)
        self._product: Callable[[Array], Array] = made(self._with_product)
        self._whole: Callable[[], Array] = made(self._with_hessian)
        self._steps: Callable[[], list[int]] = made(self._with_steps)
        self._rows: list[Callable[[Array], Array]] = [
            made(functools.partial(self._with_rows, i)) for i in range(len(self.vector.parameters))
        ]
        self._second = self._whole if compile is None else self._in_blocks

    def _with_gradients(self) -> tuple[Tensor, list[Array | None]]:
        """The loss, and its gradient by each tensor; None by one that it does not depend on."""
        loss, parameters = self.loss(), self.vector.parameters
        gradients = grad(loss, parameters, allow_unused=True) if loss.needs_grad else [None for _ in parameters]
        if all(gradient is None for gradient in gradients):
            check_depends(loss, parameters)
        return loss, gradients

    def _with_gradient(self) -> tuple[Tensor, Array]:
        loss, gradients = self._with_gradients()
        return loss, self.vector.join(gradients)

    def _with_product(self, vector: Array) -> Array:
        return self.vector.join(hvp(self._dependent(), self.vector.parameters, self.vector.split(vector)))

    def _with_hessian(self) -> Array:
        return hessian(self._dependent(), self.vector.parameters)

    def _with_steps(self) -> list[int]:
        return self._recorded().steps()

    def _with_rows(self, i: int, vectors: Array) -> Array:
        return np.concatenate([part.reshape(len(vectors), -1) for part in self._recorded().rows(i, vectors)], axis=1)

    def _recorded(self) -> RecordedGradient:
        return RecordedGradient(self._dependent(), self.vector.parameters)

    def _in_blocks(self) -> Array:
        """H, by one program for the rows of each parameter, some at a time: one program for all rows would be as long
        as H.
        """
        parameters, steps = self.vector.parameters, self._steps()
        if all(step == 0 or step >= parameter.size for parameter, step in zip(parameters, steps, strict=True)):
            return self._whole()
        H = np.zeros_like(self.vector.theta(), shape=(self.n, self.n))
        for rows, parameter, place, step in zip(self._rows, parameters, self.vector.slices, steps, strict=True):
            for first, vectors in basis(parameter, step):
                start = place.start + first
                H[start : start + len(vectors)] = rows(vectors)
        return H

    @property
    def n(self) -> int:
        """The number of parameters."""
        return self.vector.size

    @property
    def parameters(self) -> list[Tensor]:
        """The tensors that θ is gathered from."""
        return list(self.vector.parameters)

    @property
    def theta(self) -> Array:
        """The current θ, a copy of shape (n,). Assigning writes the tensors."""
        return self.vector.theta().copy()

    @theta.setter
    def theta(self, theta: npt.ArrayLike) -> None:
        self.vector.write(self._checked("theta", theta).copy())

    @contextlib.contextmanager
    def at(self, theta: npt.ArrayLike | None = None) -> Iterator[Tensor]:
        """Inside, the tensors hold θ; gives the loss there, as a tensor with its graph."""
        with self._moved(theta):
            yield self.loss()

    def loss(self) -> Tensor:
        """L(θ) at the current θ, as a tensor with its graph. ValueError for what is no scalar."""
        with measuring():
            loss = self._loss()
        if not isinstance(loss, Tensor) or math.prod(loss.shape) != 1:
            found = f"a Tensor of shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"Objective: the loss is to be a scalar Tensor, not {found}; reduce it: .sum() or .mean()")
        return loss

    def value(self, theta: npt.ArrayLike | None = None) -> float:
        """L(θ)."""
        with self._moved(theta):
            return self._value().item()

    def gradient(self, theta: npt.ArrayLike | None = None) -> Array:
        """∇L(θ), of shape (n,)."""
        return self.value_and_gradient(theta)[1]

    def value_and_gradient(self, theta: npt.ArrayLike | None = None) -> tuple[float, Array]:
        """L(θ) and ∇L(θ), from one forward and one reverse sweep."""
        with self._moved(theta):
            loss, gradient = self._value_and_gradient()
            return loss.item(), gradient

    def backward(self, graph: bool = False) -> Tensor:
        """L(θ) at the current θ; the tensors' `.grad` is its gradient then, None for one that L does not depend on.

        graph: give L with its graph, for curvature; a compiled loss has none, and is then computed as it is written.
        """
        loss, gradients = self._with_gradients() if graph else self._value_and_gradients()
        for parameter, gradient in zip(self.vector.parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def hvp(self, v: npt.ArrayLike, theta: npt.ArrayLike | None = None) -> Array:
        """H(θ) v, of shape (n,), H the Hessian of L, without forming it."""
        vector = self._checked("hvp: v", v)
        with self._moved(theta):
            return self._product(vector)

    def hessian(self, theta: npt.ArrayLike | None = None) -> Array:
        """H(θ), of shape (n, n)."""
        with self._moved(theta):
            return self._second()

    # At many θ at once

    def values(self, thetas: npt.ArrayLike) -> Array:
        """L at k points, (k,). thetas: (k, n), one θ in each row.

        The loss is computed once, on parameters that are k arrays each (`rules.stack.Stack`): much quicker than k
        calls while the arrays are small. A loss that cannot be computed so (its code asks for a number, or another
        framework computes it) is computed point by point. Equal to `value` at each point to rounding, and so for
        `gradients` and `hessians`.

        Raises ValueError for another shape.

        >>> bowl = Objective(lambda x: (x * x).sum(), [1.0, 2.0])
        >>> bowl.values([[0.0, 0.0], [3.0, 4.0]])
        array([ 0., 25.])
        """
        return self._at_many(thetas, (), lambda: self.loss().value, self.value)

    def gradients(self, thetas: npt.ArrayLike) -> Array:
        """∇L at k points, (k, n). thetas: (k, n). See `values`.

        >>> bowl = Objective(lambda x: (x * x).sum(), [1.0, 2.0])
        >>> bowl.gradients([[0.0, 0.0], [3.0, 4.0]])
        array([[0., 0.],
               [6., 8.]])
        """
        return self._at_many(thetas, (self.n,), lambda: self._with_gradient()[1], self.gradient)

    def hessians(self, thetas: npt.ArrayLike) -> Array:
        """The Hessian at k points, (k, n, n). thetas: (k, n). See `values`.

        >>> Objective(lambda x: (x**3).sum(), [1.0, 2.0]).hessians([[1.0, 1.0], [2.0, 0.0]])[1]
        array([[12.,  0.],
               [ 0.,  0.]])
        """
        # One point alone has n columns to be computed at once: with fewer points than that, that is quicker.
        together = self._with_columns if self.n <= len(np.atleast_2d(thetas)) else None
        return self._at_many(thetas, (self.n, self.n), together, self.hessian)

    def _with_columns(self) -> Any:
        """H, column by column, each at all points at once."""
        recorded = RecordedGradient(self._dependent(), self.vector.parameters)
        basis = np.eye(self.n, dtype=self.vector.theta().dtype)
        return np.stack([self.vector.join(recorded.product(self.vector.split(e))) for e in basis], axis=-1)

    def _at_many(
        self,
        thetas: npt.ArrayLike,
        shape: tuple[int, ...],
        together: Callable[[], Any] | None,
        alone: Callable[[Array], Any],
    ) -> Array:
        """What is asked at each of k points. together: computes it at the current θ, a Stack. alone: at one θ."""
        points = self._real("thetas", thetas)
        if points.ndim != 2 or points.shape[1] != self.n:
            raise ValueError(f"thetas have shape {points.shape}; wanted is (k, {self.n}), one θ in each row")
        out = np.empty((len(points), *shape), points.dtype)
        for first in range(0, len(points), _POINTS):
            some = points[first : first + _POINTS]
            found = self._on_stack(some, together)
            out[first : first + len(some)] = [alone(theta) for theta in some] if found is None else found
        return out

    def _on_stack(self, thetas: Array, compute: Callable[[], Any] | None) -> Array | None:
        """The result at all of these points; None where the loss cannot be computed on stacks."""
        if compute is None or self.external_loss is not None:
            return None
        try:
            # An observer, so that functions are handed to the Stack, which knows them, not their bodies.
            with self.vector.moved_to(Stack(thetas)), observed(Observer()):  # type: ignore[arg-type]
                found = compute()
        except (TypeError, ValueError, IndexError, AttributeError):  # if it is the user's, one by one will raise it too
            return None
        return found.data if type(found) is Stack else np.broadcast_to(found, (len(thetas), *np.shape(found)))

    def for_scipy(self, method: str) -> dict[str, Any]:
        """The arguments of ``scipy.optimize.minimize`` for L, from the current θ, with all derivatives that it takes.

        method: one of SciPy's, upper or lower case. Always: fun, x0, method. Where the gradient is used, fun gives it
        together with L, from one forward and one reverse sweep, and jac=True says so. dogleg and trust-exact get
        hess, H(θ); Newton-CG, trust-ncg, trust-krylov and trust-constr get hessp, H(θ) v. θ itself stays as it is.

        Raises ValueError for a method that SciPy does not have.

        >>> from scipy.optimize import minimize
        >>> rosenbrock = Objective(lambda x: (1 - x[0])**2 + 100 * (x[1] - x[0]**2)**2, [-1.0, 1.0])
        >>> minimize(**rosenbrock.for_scipy("trust-exact")).x.round(6)
        array([1., 1.])
        """
        kinds = {name.lower(): kind for kind, names in _OF_SCIPY.items() for name in names}
        if not isinstance(method, str) or method.lower() not in kinds:
            known = "; ".join(f"with {kind}: {', '.join(names)}" for kind, names in _OF_SCIPY.items())
            raise ValueError(f"for_scipy: method is one of SciPy's minimize ({known}), not {method!r:.60}")

        def both(theta: Array) -> tuple[float, Array]:
            value, gradient = self.value_and_gradient(theta)
            return value, gradient.astype(np.float64)  # TNC and SLSQP take no other

        first: dict[str, Any] = {"fun": both, "jac": True}
        derivatives: dict[str, dict[str, Any]] = {
            "nothing": {"fun": self.value},
            "the gradient": first,
            "the Hessian": {**first, "hess": self.hessian},
            "products": {**first, "hessp": lambda theta, v: self.hvp(v, theta)},
        }
        return {**derivatives[kinds[method.lower()]], "x0": self.theta.astype(np.float64), "method": method}

    def _repr_html_(self) -> str:
        """What a notebook shows: the loss at the current θ, computed once without `compile`, and the parameters."""
        names = {} if self.model is None else {p: name for name, p in self.model.named_parameters()}
        try:
            with np.errstate(all="ignore"):
                loss = f"{self.loss().item():.6g}"
        except Exception as error:  # of the user's own function; the rest is shown all the same
            loss = f"{type(error).__name__}: {error}"
        tensors = [(names.get(p, i), p.shape, p.dtype) for i, p in enumerate(self.parameters)]
        return shown(
            table("Objective", [("loss at θ", loss), ("size of θ", f"{self.n:,}")]),
            table("Parameters", tensors, ("name", "shape", "dtype")),
        )

    def _moved(self, theta: npt.ArrayLike | None) -> contextlib.AbstractContextManager[None]:
        if theta is None:
            return contextlib.nullcontext()
        return self.vector.moved_to(self._checked("theta", theta).copy())

    def _checked(self, name: str, vector: npt.ArrayLike) -> Array:
        array = self._real(name, vector)
        if array.shape != (self.n,):
            raise ValueError(f"{name} has shape {array.shape}; this objective's vectors have {(self.n,)}")
        return array

    def _real(self, name: str, given: npt.ArrayLike) -> Array:
        """An array of θ's dtype. TypeError for complex numbers, strings and objects."""
        array = np.asarray(given)
        check_real(name, array)
        return array.astype(self.vector.theta().dtype, copy=False)

    def _dependent(self) -> Tensor:
        """The loss, with its graph. Raises RuntimeError where that leads to none of the parameters."""
        loss = self.loss()
        check_depends(loss, self.vector.parameters)
        return loss
