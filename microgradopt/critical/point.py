"""CriticalPoint: a verdict, the numbers it rests on, and what to do with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.critical.escape import Escape, escape, search, size_of
from microgradopt.critical.nonsmooth import Kink
from microgradopt.notebook import paragraph, shown, table
from microgradopt.objective import Objective

Array = npt.NDArray[Any]

MINIMUM, MAXIMUM, SADDLE = "local minimum", "local maximum", "saddle point"
DEGENERATE, NOT_CRITICAL = "degenerate", "not critical"
NO_NEGATIVE = "no negative curvature found"
ON_KINK = "on a kink"
ELSEWHERE = "the loss is computed elsewhere, and what happens inside of it cannot be seen"

NEAR = 1e-3  # how far the critical point may be, for θ of size 1
_SAME_VALUE = 1 - 1e-6  # of the lowest eigenvalue: those below are the same one, repeated
_ROUNDING = 1e3  # a decrease below so many units of rounding is none


class Margin(NamedTuple):
    """How clear the counts are, each at least 1, infinite where nothing was counted.

    negative, positive: the smallest |λ| counted, in tolerances. zero: the tolerance, in units of the largest counted.
    """

    negative: float = math.inf
    zero: float = math.inf
    positive: float = math.inf


def counted(values: Array, tolerance: float) -> dict[str, Any]:
    """How many eigenvalues lie below −tolerance, within it and above it, and how clearly: fields of a CriticalPoint."""
    sizes = np.abs(values)
    negative, zero, positive = values < -tolerance, sizes <= tolerance, values > tolerance

    def ratio(numerator: float, denominator: float) -> float:
        return float(numerator / denominator) if denominator > 0 else math.inf

    return {
        "negative": int(negative.sum()),
        "zero": int(zero.sum()),
        "positive": int(positive.sum()),
        "tolerance": tolerance,
        "margin": Margin(
            ratio(sizes[negative].min(initial=math.inf), tolerance),
            ratio(tolerance, sizes[zero].max(initial=0.0)),
            ratio(sizes[positive].min(initial=math.inf), tolerance),
        ),
    }


@dataclass(frozen=True, kw_only=True)
class CriticalPoint:
    """A point of a loss and what kind it is: the answer of `classify`.

    * kind: "local minimum", "local maximum", "saddle point", "degenerate" (the second-order test is silent),
      "not critical"; when the spectrum is known in part only, "no negative curvature found"; and "on a kink" where
      the second derivatives are not finite.
    * certified: whether the verdict follows from the numbers: the point is critical to within rounding and what its
      distance from the true one can change, all signs that matter are decided, and nothing is on a kink.
    * theta, value, gradient_norm: θ, L(θ), ‖∇L(θ)‖.
    * distance: how far the critical point is that Newton's steps lead to, max |θ*ᵢ − θᵢ| / |θᵢ|; infinite where they
      lead to none. Does not change when the loss or a parameter is scaled.
    * negative, zero, positive: how many eigenvalues of D H D at that point lie below −tolerance, within it, above it.
      H has as many (Sylvester's law). Where `complete` is False, how many were found, of H itself.
    * units: the diagonal of D, which gives every row of D H D the size 1; None where H itself was taken.
    * tolerance: the noise of D H D.
    * margin: how clear the counts are.
    * eigenvalues: of H at θ, ascending, (n,), or those found. eigenvectors: their columns. flat: an orthonormal basis
      of the directions without curvature, (n, zero).
    * explained: how many of the flat directions lie in a surface of critical points; symmetries: by what.
    * kinks: operations that are not smooth here: on a kink, at a jump or a singular point.
    * evidence: what a verdict was tried against. broken: what was found nearby that contradicts it; then it is not
      certified, and the point is "degenerate".
    * complete: whether all eigenvalues are known. products: Hessian-vector products spent.
    * to_decide: where they are not: how far the lowest one found may be from an eigenvalue, and about how many seconds
      it would take to compute them all.
    """

    objective: Objective = field(repr=False)
    kind: str
    certified: bool
    theta: Array = field(repr=False)
    value: float
    gradient_norm: float
    distance: float = math.inf
    negative: int = 0
    zero: int = 0
    positive: int = 0
    tolerance: float = 0.0
    margin: Margin = field(default_factory=Margin)
    eigenvalues: Array = field(repr=False)
    eigenvectors: Array = field(repr=False)
    flat: Array = field(repr=False)
    products: int
    units: Array | None = field(default=None, repr=False)
    explained: int = 0
    symmetries: tuple[str, ...] = ()
    kinks: tuple[Kink, ...] = ()
    evidence: tuple[str, ...] = field(default=(), repr=False)
    broken: tuple[str, ...] = ()
    complete: bool = True
    to_decide: tuple[float, float] | None = field(default=None, repr=False, compare=False)

    @property
    def n(self) -> int:
        """The number of parameters."""
        return len(self.theta)

    @property
    def index(self) -> int:
        """The number of negative eigenvalues."""
        return self.negative

    @property
    def minimum_ratio(self) -> float:
        """Positive eigenvalues over all eigenvalues: 1 at a strict minimum. NaN where not all are known."""
        return self.positive / self.n if self.complete else math.nan

    @property
    def condition_number(self) -> float:
        """The largest |λ| over the smallest that is not zero; NaN where none is, or not all are known."""
        sizes = np.sort(np.abs(self.eigenvalues))[self.zero :]
        return float(sizes.max() / sizes.min()) if sizes.size and self.complete else math.nan

    @property
    def strict(self) -> bool:
        """Whether no direction is flat."""
        return self.zero == 0

    def escape(self, rng: np.random.Generator | int | None = 0) -> Escape:
        """The way down: along the most negative curvature, or, where there is none but flat directions, a search.

        rng: for the search. Raises ValueError where there is no way down to be found: at a minimum; and where none is
        needed, as the point is not critical and has no negative curvature: follow the gradient.
        """
        size = size_of(self.theta)
        if self.negative:
            lowest = self.eigenvectors[:, self.eigenvalues <= _SAME_VALUE * self.eigenvalues[0]]
            if lowest.shape[1] > 1:  # which of them the solver gives is up to rounding: they are not equally good
                return search(self.objective, self.theta, lowest, size, np.random.default_rng(rng))
            return escape(self.objective, self.theta, self.eigenvectors[:, 0], size)
        if self.kind == DEGENERATE and self.zero:
            found = search(self.objective, self.theta, self.flat, size, np.random.default_rng(rng))
            scale = abs(self.value) + float(np.abs(self.eigenvalues).max()) * size**2
            if found.measured > _ROUNDING * float(np.finfo(self.theta.dtype).eps) * scale:
                return found
        way = "follow the gradient" if self.kind == NOT_CRITICAL else "no way down was found"
        raise ValueError(f"escape: {self.kind}, without negative curvature; {way}")

    # In words

    @property
    def verdict(self) -> str:
        """The kind, and whether it is certified."""
        return f"{self.kind} ({'certified' if self.certified else 'not certified'})"

    @property
    def explanation(self) -> str:
        """What was decided, what was not, and why."""
        return " ".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        yield self._headline()
        if self.kind not in (NOT_CRITICAL, ON_KINK):
            yield self._counts()
        if self.zero and not (self.negative and self.positive):
            yield self._flat_directions()
        if self.to_decide is not None and not self.negative:
            residual, seconds = self.to_decide
            yield (
                f"The lowest eigenvalue found, in {self.products} products with H, is {self.eigenvalues[0]:.3g} ± "
                f"{residual:.1g}. Products prove negative curvature when they find it, never that there is none. To "
                f"have it decided: classify(..., dense_up_to={self.n}), in about {_about(seconds)}."
            )
        if self.kinks:
            listed = "; ".join(map(str, self.kinks[:3])) + ("; ..." if len(self.kinks) > 3 else "")
            yield f"Not certified: not smooth here, so that the Hessian says nothing about the other side: {listed}."
        if self.certified and self.objective.external_loss is not None and not self.objective.external_loss.smooth:
            yield f"Certified but for kinks: {ELSEWHERE}."
        if self.broken:
            yield f"Not certified: {self.broken[0]}."
        if self.negative and self.kind != NOT_CRITICAL:
            yield "The way out is along the eigenvector of the most negative eigenvalue: .escape()."
        if self.kind == NOT_CRITICAL:
            yield "What is nearby, how far and how much lower: critical.nearest(objective) walks there."

    def _headline(self) -> str:
        if self.kind == ON_KINK:
            return f"On a kink: the second derivatives are not finite. The gradient norm is {self.gradient_norm:.3g}."
        near = f"gradient norm {self.gradient_norm:.3g}; it vanishes within {self.distance:.1g} of the size of θ"
        if self.kind == NOT_CRITICAL:
            far = f"by Newton's step {self.distance:.2g} times the size of θ away" if self.distance < math.inf else ""
            far = far or "out of reach of Newton's step: the gradient leads along directions without curvature"
            return f"Not critical: the gradient norm is {self.gradient_norm:.3g}, and a critical point {far}."
        described = {
            MINIMUM: "A local minimum" if self.strict else "A local minimum, but not a strict one",
            MAXIMUM: "A local maximum" if self.strict else "A local maximum, but not a strict one",
            SADDLE: "A saddle point",
            DEGENERATE: "Degenerate: the second derivatives do not decide",
            NO_NEGATIVE: "No negative curvature found",
        }[self.kind]
        return f"{described} ({near})."

    def _counts(self) -> str:
        least = "" if self.complete else "at least "
        spread = f" from {self.eigenvalues[0]:.4g} to {self.eigenvalues[-1]:.4g}" if len(self.eigenvalues) else ""
        return (
            f"Eigenvalues{spread}: {least}{self.negative} negative, {self.zero} zero, {self.positive} positive, of "
            f"{self.n}, with a tolerance of {self.tolerance:.2g} in units of their own."
        )

    def _flat_directions(self) -> str:
        if self.explained:
            reasons = "; ".join(self.symmetries)
            rest = self.zero - self.explained
            more = f"; {rest} are not explained" if rest else "; along these the loss is constant"
            return f"Flat directions in a surface of critical points: {self.explained} of {self.zero}, {reasons}{more}."
        only = "Not a minimum, but a saddle or a maximum: " if self.negative else ""
        directions = "direction" if self.zero == 1 else "directions"
        return f"{only}{self.zero} flat {directions}, along which the gradient does not stay zero."

    def __str__(self) -> str:
        return f"{self.verdict} at L = {self.value:.6g}\n{self.explanation}"

    def _repr_html_(self) -> str:
        rows = {
            "loss": f"{self.value:.6g}",
            "gradient norm": f"{self.gradient_norm:.3g}",
            "certified": "yes" if self.certified else "no",
            "distance, relative to θ": f"{self.distance:.2g}",
            "eigenvalues" if self.complete else "eigenvalues found": short(self.eigenvalues),
            "negative / zero / positive": f"{self.negative} / {self.zero} / {self.positive} of {self.n}",
            "tolerance": f"{self.tolerance:.3g}",
            "margins of these counts": " / ".join(f"{margin:.3g}" for margin in self.margin),
            "minimum ratio": f"{self.minimum_ratio:.3f}",
            "condition number": f"{self.condition_number:.3g}",
            "products H v": self.products,
        }
        return shown(table(self.kind, rows.items()), paragraph(self.explanation))


def _about(seconds: float) -> str:
    """A time in words, to one digit."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds > 1.5 * unit:
            return f"{float(f'{seconds / unit:.1g}'):g} {name}"
    return f"{float(f'{seconds:.1g}'):g} s"


def short(numbers: Array) -> str:
    """Six numbers in words; of more, the first three and the last three."""
    words = [f"{number:.4g}" for number in numbers]
    return ", ".join(words if len(words) <= 6 else [*words[:3], "…", *words[-3:]])
