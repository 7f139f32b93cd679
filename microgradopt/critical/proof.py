"""prove: a verdict that is a theorem, computed with balls in place of numbers.

In coordinates z with θ = θ̂ + D W z, W the eigenvectors of D H D over √|λ|, the Hessian at θ̂ is S = diag(±1), but for
rounding. Let B(z) = Wᵀ D H D W and f = Wᵀ D ∇L(θ̂), and let q bound ‖B(z) − S‖_∞ for all |z|_∞ ≤ r. If

    q < 1   and   ‖f‖_∞ < (1 − q) r,

then in this box: z ↦ z − S Wᵀ D ∇L is a contraction into it, so there is exactly one z with ∇L = 0 (Krawczyk 1969);
and B has as many negative and positive eigenvalues as S everywhere (Gershgorin), and H as many as B (Sylvester).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt import tree
from microgradopt.critical.balls import UndecidedError, balls, evaluated, exact, largest, precise, product
from microgradopt.critical.flat import is_surface
from microgradopt.critical.local import Local, local, settled
from microgradopt.critical.point import MAXIMUM, MINIMUM, NEAR, SADDLE
from microgradopt.critical.symmetry import symmetries
from microgradopt.errors import NonFiniteError, OverwrittenError
from microgradopt.graph.graph import Node, nodes_in
from microgradopt.mode import Observer, observed
from microgradopt.objective import Objective, check_objective
from microgradopt.program.trace import Trace, traced
from microgradopt.program.tracer import Tracer, TracingError
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

_SMALLEST = 1e-10  # the first box, in coordinates in which θ is about 1
_ABOVE = 4.0  # times what is needed to hold the critical point
_FILLED = 0.8  # the curvature may change by so much in a box: what is tried after the first
_GROW, _SHRINK = 1e8, 1e-2  # times a box, from one try to the next
_TRIES = 12
_ROUNDED = 1 - 1e-12  # what is compared in doubles is so much smaller, at least


@dataclass(frozen=True)
class Proof:
    """The answer of `prove`.

    proved: whether there is a theorem. kind: "local minimum", "local maximum", "saddle point"; "" without a theorem.
    theta: θ̂, the middle of the box, (n,). radius: half its widths, (n,): in the parallelepiped that it contains there
    is exactly one critical point. negative, positive: how many eigenvalues H has of these signs, all over it.
    flat: how many directions the theorem leaves out. assuming: what it takes for granted, "" for nothing.
    why: why there is none.
    """

    proved: bool
    kind: str
    theta: Array = field(repr=False)
    radius: Array = field(repr=False)
    negative: int
    positive: int
    flat: int
    assuming: str
    why: str

    def __str__(self) -> str:
        if not self.proved:
            return f"not proved: {self.why}"
        widths = sorted({f"{width:.2g}" for width in (self.radius.min(), self.radius.max())}, key=float)
        where = f"one critical point, and only one, in a box of half widths {' to '.join(widths)} around θ"
        text = f"proved: {where}, a {self.kind}: {self.negative} negative and {self.positive} positive eigenvalues"
        return f"{text}; {self.assuming}" if self.assuming else text


def prove(objective: Objective, theta: npt.ArrayLike | None = None, rng: np.random.Generator | int | None = 0) -> Proof:
    """A box near θ in which there is exactly one critical point, and its kind; or why there is no proof.

    theta: (n,), near a critical point, from where Newton's steps lead to it; by default the objective's own. rng: for
    what is tried before.

    The loss that the theorem is about is the program that the objective computes, in real numbers: its data are taken
    as they are, its constants with the roundings that they may have. The program is derived, and run on balls that hold
    all values which its numbers can take in the box (arb, by python-flint: ``pip install 'microgradopt[proof]'``).
    Whatever is not the same all over the box, as at a kink, is refused; and so are functions that are not known on
    balls, losses that are computed elsewhere, parts cut from the graph (``.detach()``), and an ``if`` on a value. What
    Python or NumPy has computed from literals alone counts as a constant. A derivative rule that is not the library's
    (``rules.composite``) is taken at its word.

    Where directions are flat, the theorem is about the slice across them, and `assuming` says so; parameters without
    any effect in the box, whose derivative is exactly 0, are proved to be such.

    For nets of up to some hundred parameters. Raises ImportError without python-flint.
    Source: Krawczyk 1969; Rump 2010, "Verification methods", sections 10 and 13.

    >>> import microgradopt as mg
    >>> proof = prove(mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0]))
    >>> proof.kind, proof.negative, proof.positive
    ('saddle point', 1, 1)
    """
    check_objective("prove", objective)
    rng = np.random.default_rng(rng)
    theta = objective.theta if theta is None else np.array(theta, objective.theta.dtype)
    with np.errstate(all="ignore"), precise():
        try:
            start = local(objective, theta, rng)
            point = settled(start, rng)
        except (NonFiniteError, np.linalg.LinAlgError) as error:
            return _refused(theta, str(error))
        if point is None:
            return _refused(theta, "Newton's steps lead to no critical point from here")
        negative, positive = (int(np.sum(sign * point.values > point.tolerance)) for sign in (-1, 1))
        if not negative + positive:
            return _refused(point.theta, "no direction has curvature")
        once, again = (objective.value_and_gradient(point.theta) for _ in range(2))
        if once[0] != again[0] or not np.array_equal(once[1], again[1]):
            return _refused(point.theta, "the loss does not give the same answer each time: it is many functions")
        try:
            program = _Program(objective, point)
            radius, without_effect = program.box()
        except (UndecidedError, TracingError, OverwrittenError) as error:
            return _refused(point.theta, str(error))
    away = np.abs(theta - point.theta)
    if np.any(away > np.maximum(radius, NEAR * np.abs(theta))):
        return _refused(
            point.theta, f"the critical point that Newton's steps lead to is {away.max():.2g} away: ask there"
        )
    flat = point.flat.shape[1]
    assuming = "" if without_effect else _assumption(point, rng)
    kind = SADDLE if negative and positive else MINIMUM if positive else MAXIMUM
    return Proof(True, kind, point.theta, radius, negative, positive, flat, assuming, "")


def _refused(theta: Array, why: str) -> Proof:
    return Proof(False, "", theta, np.full(len(theta), math.nan), 0, 0, 0, "", why)


def _assumption(point: Local, rng: np.random.Generator) -> str:
    """What has to hold for a slice to speak for the loss."""
    if not point.flat.shape[1]:
        return ""
    named = symmetries(point, rng)[1] if is_surface(point, rng) else []
    along = "; ".join(named) or f"{point.flat.shape[1]} flat directions"
    return f"on the slice across the flat directions, assuming that L is constant along them ({along})"


class _Program:
    """The gradient and the Hessian at a critical point, as programs on balls, in coordinates z."""

    def __init__(self, objective: Objective, point: Local) -> None:
        self.point, parameters = point, objective.parameters
        if objective.external_loss is not None:
            raise UndecidedError("the loss is computed elsewhere: there is no program")
        self._vector = objective.vector
        cuts = _Cuts()
        with self._vector.moved_to(point.theta.copy()):
            with observed(cuts):
                self._value = _traced(objective.loss, parameters)
            self._gradient = _traced(lambda: objective._with_gradient()[1], parameters)
            self._hessian = _traced(objective._with_hessian, parameters)
        cuts.check(self._value, parameters)
        self.values, self.vectors = point.values[point.curved], point.across
        self.W, self.S = self.vectors / np.sqrt(np.abs(self.values)), np.sign(self.values)
        self._scale = exact(point.scale)[()]
        idle = ~np.any(point.A, axis=1)
        self.idle = np.flatnonzero(idle) if int(idle.sum()) == point.flat.shape[1] else np.zeros(0, int)
        self._DW = product(exact(np.diag(point.units)), exact(self.W))

    def box(self) -> tuple[Array, bool]:
        """Half the widths of a box with exactly one critical point, and whether parameters left out have no effect."""
        here = self._evaluated(self._gradient, np.zeros(self._vector.size))
        f = largest(product(self._DW.T, here[:, None]) / self._scale)
        r, low, high = max(_ABOVE * f, _SMALLEST * self._size()), 0.0, math.inf
        for _ in range(_TRIES):
            try:
                q, why = self._change(r), ""
            except UndecidedError as error:
                q, why = math.inf, str(error)
            if f < (1 - q) * r * _ROUNDED:
                low = r
            else:
                high = r
            if low and (_FILLED / 2 < q < 1 or high < 4 * low):
                break
            if low and high < math.inf:
                r = math.sqrt(low * high)
            else:  # the change of curvature grows with r
                r *= min(max(_FILLED / q, _SHRINK), _GROW) if 0 < q < math.inf else _GROW if q == 0 else _SHRINK
            if r <= f:
                break
        if not low:
            raise UndecidedError(
                why or f"in a box that holds Newton's step, {f:.2g}, the curvature changes by {q:.2g} of itself"
            )
        reach = self._reach(low)
        if not all(each.is_finite() for each in self._evaluated(self._value, reach).ravel()):
            raise UndecidedError("the loss is not known to be finite all over the box")
        return reach, bool(len(self.idle)) and self._has_no_effect(reach)

    def _size(self) -> float:
        """How large θ is in coordinates z; 1 for 0."""
        z = np.sqrt(np.abs(self.values)) * (self.vectors.T @ self.point.y)
        return float(np.abs(z).max()) or 1.0

    def _change(self, r: float) -> float:
        """q: a bound of ‖B(z) − S‖_∞ for |z|_∞ ≤ r."""
        H = self._evaluated(self._hessian, self._reach(r)) / self._scale
        B = product(product(self._DW.T, H), self._DW) - exact(np.diag(self.S))
        return largest(np.abs(B).sum(axis=1))

    def _reach(self, r: float) -> Array:
        """How far θ can be from θ̂ for |z|_∞ ≤ r, parameter by parameter, from above."""
        return (self.point.units * np.sum(np.abs(self.W), axis=1) * r / _ROUNDED).astype(float)

    def _has_no_effect(self, reach: Array) -> bool:
        """Whether the gradient by the parameters left out is exactly 0, wherever they are and the others in the box."""
        wide = reach.copy()
        wide[self.idle] = np.maximum(1.0, np.abs(self.point.theta[self.idle]))
        return all(each == 0 for each in self._evaluated(self._gradient, wide)[self.idle])

    def _evaluated(self, trace: Trace, reach: Array) -> Array:
        theta = balls(self.point.theta.astype(float), reach)
        parts = self._vector.split(theta)
        return evaluated(trace, dict(zip(self._vector.parameters, parts, strict=True)))


class _Cuts(Observer):
    """Finds what depends on θ without being in the graph of the loss: the derivative does not know of it."""

    def __init__(self) -> None:
        self.met: list[tuple[Node, bool]] = []

    def recorded(self, tensor: Tensor, function: Any, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        for x in tree.leaves(inputs):
            value = x.value if type(x) is Tensor else x
            if type(value) is Tracer:
                self.met.append((value.node, type(x) is Tensor and x.needs_grad))

    def check(self, trace: Trace, parameters: list[Tensor]) -> None:
        """Raise UndecidedError for a float that depends on θ and enters the graph as a constant."""
        names = {f"{trace.texts[parameter]}.value" for parameter in parameters}
        known = {node for node, read in trace.reads.items() if read in names}
        for node in trace.tape.nodes:
            if not known.isdisjoint([*node.inputs, *nodes_in(list(node.kwargs.values()))]):
                known.add(node)
        cut = {node for node, in_graph in self.met if not in_graph and getattr(node.dtype, "kind", "f") == "f"}
        if not known.isdisjoint(cut):
            raise UndecidedError(
                "a part of the loss that depends on θ is cut from its graph: .detach(), .data, no_grad"
            )


def _traced(compute: Any, parameters: list[Any]) -> Trace:
    """The program of a computation on the parameters."""

    def program(*parameters: Any) -> Any:
        return compute()

    return traced(program, tuple(parameters), {}, parameters, ())
