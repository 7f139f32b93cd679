"""Find the critical points of a loss, of every kind, from many starts.

A minimiser finds minima. To find saddles and maxima as well, solve ∇L(θ) = 0 instead: most methods below make ½‖g‖²
smaller. Its own minima may be false, points where H g = 0 though g ≠ 0 ("gradient-flat": Frye et al. 2021); they are
told apart, and reported.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.critical.local import units_of
from microgradopt.critical.point import NOT_CRITICAL, CriticalPoint, short
from microgradopt.critical.verdict import classify
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import minres, norm, scale_of, trust_region_radius, trust_region_step
from microgradopt.curvature.spectrum import dense_spectrum
from microgradopt.deprecated import old_arguments
from microgradopt.errors import NonFiniteError
from microgradopt.notebook import paragraph, shown, table
from microgradopt.objective import Objective, check_objective

Array = npt.NDArray[Any]
Question = tuple[str, Array]
Search = Generator[Question, Any, Any]  # asks for what it needs at θ; see _answered

_SMALL = 64  # parameters: so many that H is a matrix
_FLAT = 1e-3  # of ‖H‖ ‖g‖: where H g is smaller, descending ½‖g‖² has come to its end
_SAME = 1e-5  # of the spread of the starts: points that are nearer to each other are one
_FAR = 3.0  # times the spread of the starts
_SMALLEST_STEP = 1e-12  # of the spread of the starts
_ARMIJO = 1e-4
_HALVINGS = 40


@dataclass(frozen=True)
class Found:
    """What a search found.

    points: the critical points, each once, by ascending loss. gradient_flat: false ones, where H g ≈ 0 and g ≠ 0.
    unfinished: how many starts led to neither. starts: how many there were. hits: how many led to each of the points.
    runaways: how many led towards infinity, where the gradient vanishes and there is no critical point.
    """

    points: list[CriticalPoint]
    gradient_flat: list[CriticalPoint]
    unfinished: int
    starts: int
    hits: list[int] = field(repr=False)
    runaways: int = 0

    @property
    def euler(self) -> int:
        """Σ (−1)^index. For a loss that grows towards infinity, its points all non-degenerate: 1 if none is missing."""
        return sum((-1) ** point.index for point in self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[CriticalPoint]:
        return iter(self.points)

    def _summary(self) -> list[str]:
        """Two lines: what was found, and what was not."""
        kinds = Counter(point.kind for point in self.points)
        listed = ", ".join(f"{n} × {kind}" for kind, n in kinds.items()) or "none"
        return [
            f"{len(self.points)} critical points from {self.starts} starts: {listed}; Σ(−1)^index = {self.euler}",
            f"{len(self.gradient_flat)} gradient-flat points, not critical; {self.unfinished} starts unfinished"
            + (f"; {self.runaways} ran away towards infinity" if self.runaways else ""),
        ]

    def __str__(self) -> str:
        return "\n".join(
            [*self._summary(), *(f"  L = {p.value:<12.6g} index {p.index:<4} {p.kind}" for p in self.points)]
        )

    def _repr_html_(self) -> str:
        columns = ("loss", "gradient norm", "kind", "index", "eigenvalues", "starts", "θ")
        rows = [
            (f"{p.value:.6g}", f"{p.gradient_norm:.3g}", p.verdict, p.index, short(p.eigenvalues), hits, short(p.theta))
            for p, hits in zip(self.points, self.hits, strict=True)
        ]
        caption, rest = self._summary()
        return shown(table(caption, rows, columns), paragraph(rest))


@old_arguments(iterations="max_iter")
def find(
    objective: Objective,
    starts: npt.ArrayLike,
    method: str = "newton",
    max_iter: int = 200,
    index: int = 1,
    jobs: int = 1,
    progress: bool = False,
    **settings: Any,
) -> Found:
    """Search from every start, polish to rounding, drop duplicates, classify.

    starts: (m, n). method:

    * "newton": Newton's method for ∇L = 0 with a trust region (least squares of g + H p; finds every index; dense);
    * "gradient norm": descent of ½‖g‖², along −H g, with Barzilai and Borwein's step lengths (matrix-free);
    * "newton-mr": steps −H⁺g by MINRES and a line search on ½‖g‖² (Roosta et al. 2022; matrix-free);
    * "saddle-free": steps −|H|⁻¹g (Dauphin et al. 2014), downhill only: minima (dense);
    * "eigenvector following": uphill along the lowest `index` eigenvectors, downhill along all others (Cerjan and
      Miller 1981): points of that index (dense).

    max_iter: at most, from each start. jobs: processes to share the starts among (needs joblib); -1 for all cores.
    progress: show a bar (needs tqdm). settings: for `classify`.

    θ itself stays as it is. Points on a connected surface of critical points are all different ones here.

    Raises ValueError for a method that is not there, or starts that do not fit.

    >>> import microgradopt as mg
    >>> wells = mg.Objective(lambda w: np.sum((w * w - 1) ** 2), [0.5])
    >>> [p.theta.round(6).tolist() for p in find(wells, [[0.8], [-0.7], [0.1]]).points]
    [[1.0], [-1.0], [0.0]]
    """
    check_objective("find", objective)
    if not (isinstance(max_iter, int) and max_iter > 0):
        raise ValueError(f"find: max_iter is a whole number from 1, not {max_iter!r}")
    if method not in _METHODS:
        raise ValueError(f"find: method is one of {', '.join(_METHODS)}, not {method!r}")
    starts = np.atleast_2d(np.asarray(starts, objective.theta.dtype))
    if starts.ndim != 2 or starts.shape[1] != objective.n:
        raise ValueError(f"find: starts are (m, {objective.n}), one row each, not {starts.shape}")
    if not np.isfinite(starts).all():
        raise ValueError(f"find: of the starts, {starts.shape}, some numbers are NaN or infinite")
    descend = functools.partial(_METHODS[method], index=index) if method == _FOLLOWING else _METHODS[method]
    spread = _spread(starts)
    search = functools.partial(_search, objective, descend, max_iter, float(np.linalg.norm(spread)))
    ends = _from_all(objective, search, starts, jobs, progress)
    middle = np.median(starts, axis=0)
    critical, false, runaways = [], [], 0
    for end, hits in _different([end for end in ends if end is not None], spread):
        try:
            point = classify(objective, end, **settings)
        except NonFiniteError:
            continue
        if not point.certified and _runs_away(objective, point, middle, spread):
            runaways += hits
        elif point.kind != NOT_CRITICAL:
            critical.append((point, hits))
        elif _is_gradient_flat(objective, point):
            false.append((point, hits))
    critical.sort(key=lambda found: found[0].value)
    unfinished = len(starts) - runaways - sum(hits for _, hits in critical + false)
    points, counts = [point for point, _ in critical], [hits for _, hits in critical]
    return Found(points, [point for point, _ in false], unfinished, len(starts), counts, runaways)


def _from_all(
    objective: Objective, search: Callable[[Array], Search], starts: Array, jobs: int, progress: bool
) -> list[Array | None]:
    """The search from every start, in order; here, or in several processes."""
    if jobs == 1:
        return _ends(objective, search, starts, progress)
    from joblib import Parallel, delayed, effective_n_jobs

    parts = np.array_split(starts, min(len(starts), 4 * effective_n_jobs(jobs)))
    found = Parallel(n_jobs=jobs, return_as="generator")(delayed(_ends)(objective, search, part) for part in parts)
    return [end for part in _bar(found, len(parts), "parts of the starts", progress) for end in part]


def _ends(
    objective: Objective, search: Callable[[Array], Search], starts: Array, progress: bool = False
) -> list[Array | None]:
    """Of some starts, in order."""
    ends = dict(_bar(_answered(objective, list(map(search, starts))), len(starts), "starts", progress))
    return [ends[i] for i in range(len(starts))]


def _bar(things: Iterable[Any], total: int, what: str, progress: bool) -> Iterable[Any]:
    if not progress:
        return things
    from tqdm.auto import tqdm

    bar: Iterable[Any] = tqdm(things, total=total, desc=what)
    return bar


def _answered(objective: Objective, searches: list[Search]) -> Iterator[tuple[int, Array | None]]:
    """Run all searches side by side; what they ask at the same time is answered at once. Gives number and end of each.

    A search is a generator: it yields a question, the name of a method of Objective for many θ, and θ.
    """
    answers: dict[int, Any] = dict.fromkeys(range(len(searches)))
    while answers:
        asked: dict[str, list[tuple[int, Array]]] = {}
        ended = []
        with np.errstate(all="ignore"):
            for i, answer in answers.items():
                try:
                    question, theta = searches[i].send(answer)
                except StopIteration as end:
                    ended.append((i, end.value))
                else:
                    asked.setdefault(question, []).append((i, theta))
            answers = {}
            for question, some in asked.items():
                found = getattr(objective, question)(np.array([theta for _, theta in some]))
                answers.update(zip((i for i, _ in some), found, strict=True))
        yield from ended


def _search(objective: Objective, descend: Callable[..., Search], max_iter: int, size: float, start: Array) -> Search:
    """Where the method leads, polished; None where numbers stopped being finite."""
    try:
        end = yield from descend(objective, start, max_iter, size)
        return (yield from _polished(objective, end))
    except NonFiniteError:
        return None


def _spread(starts: Array) -> Array:
    """What is a long way for each parameter: how far starts are from their median; where they are not, max(1, |θ|).

    The median of these distances: one start that is far out says nothing of the others.
    """
    apart = np.abs(starts.astype(float) - np.median(starts, axis=0))
    medians = [np.median(column[column > 0]) if column.any() else 0.0 for column in apart.T]
    return np.where(np.array(medians) > 0, medians, np.maximum(1.0, np.abs(starts[0])))


def _different(ends: list[Array], spread: Array) -> list[tuple[Array, int]]:
    """The ends that are different points, each with how many there are of it."""
    hits: list[int] = []
    points = np.empty((0, len(spread)))
    for end in ends:
        same = np.flatnonzero(np.linalg.norm((points - end) / spread, axis=1) <= _SAME)
        if len(same):
            hits[same[0]] += 1
        else:
            points, hits = np.concatenate([points, [end]]), [*hits, 1]
    return list(zip(points, hits, strict=True))


def _runs_away(objective: Objective, point: CriticalPoint, middle: Array, spread: Array) -> bool:
    """Whether it is far from where the starts were, and twice and four times as far the gradient is smaller still."""
    way = point.theta - middle
    norms = [float(np.linalg.norm(objective.gradient(middle + times * way))) for times in (1, 2, 4)]
    is_far = np.linalg.norm(way / spread) > _FAR
    return bool(is_far and norms[0] > 0 and not norms[1] > norms[0] and not norms[2] > norms[1])


def _is_gradient_flat(objective: Objective, point: CriticalPoint) -> bool:
    g = objective.gradient(point.theta)
    g = g / scale_of(g)
    largest = float(np.abs(point.eigenvalues).max(initial=0.0))
    return norm(objective.hvp(g, point.theta)) <= _FLAT * largest * norm(g)


# The methods: each a function of objective, start, number of iterations and size, to where it comes ------------------


def _matrix(theta: Array) -> Generator[Question, Any, tuple[Array, Array]]:
    """H and g. Raises NonFiniteError where they are not finite."""
    g = yield "gradients", theta
    H = yield "hessians", theta
    if not (np.isfinite(g).all() and np.isfinite(H).all()):
        raise NonFiniteError
    return H, g


def _spectrum(theta: Array) -> Generator[Question, Any, tuple[Array, Array, Array]]:
    """g along the eigenvectors of H, the eigenvalues, and the eigenvectors."""
    H, g = yield from _matrix(theta)
    values, vectors, _, _ = dense_spectrum(H)
    return vectors.T @ g, values, vectors


def _curvature(objective: Objective, theta: Array) -> Generator[Question, Any, tuple[Any, Array]]:
    """H, to be multiplied with, and g: a matrix while that is small."""
    if objective.n <= _SMALL:
        return (yield from _matrix(theta))
    H = HessianOperator(objective, theta)
    if not np.isfinite(H.gradient).all():
        raise NonFiniteError
    return H, H.gradient


def _newton(objective: Objective, theta: Array, max_iter: int, size: float) -> Search:
    """min ‖g + H p‖ over ‖p‖ ≤ radius, the radius by how well ‖g‖ was foretold (Nocedal and Wright 2006, 11.2)."""
    radius = size
    for _ in range(max_iter):
        g, values, vectors = yield from _spectrum(theta)
        p = trust_region_step(values**2, np.eye(len(values)), values * g, radius)
        new = theta + vectors @ p
        ahead = yield "gradients", new
        before, after = float(g @ g), float(ahead @ ahead)
        foretold = before - float(np.sum((g + values * p) ** 2))
        ratio = (before - after) / foretold if foretold > 0 else 0.0
        length = norm(p)
        radius = trust_region_radius(radius, length, ratio)
        if ratio > _ARMIJO:
            theta = new
        if min(length, radius) <= _SMALLEST_STEP * size:
            break
    return theta


def _gradient_norm(objective: Objective, theta: Array, max_iter: int, size: float) -> Search:
    """Descent of f = ½‖g‖², ∇f = H g; the first trial of each step is Barzilai and Borwein's (1988, eq. 5)."""
    H, g = yield from _curvature(objective, theta)
    slope, rate = H @ g, 0.0
    for _ in range(max_iter):
        if not rate > 0:
            rate = 1e-3 * size / max(float(np.linalg.norm(slope)), np.finfo(slope.dtype).tiny)
        step = yield from _line_search(theta, -slope, g, float(slope @ slope), rate)
        if step is None or _is_over(step, size):
            break
        theta = theta + step
        H, g = yield from _curvature(objective, theta)
        change = H @ g - slope
        slope = slope + change
        rate = float(step @ step) / float(step @ change) if step @ change != 0 else 0.0
    return theta


def _stepwise(
    step_from: Callable[..., Search], objective: Objective, theta: Array, max_iter: int, size: float, **settings: Any
) -> Search:
    """θ + the step from there, again and again, until there is none, or one too small for more to follow."""
    for _ in range(max_iter):
        step = yield from step_from(objective, theta, size, **settings)
        if step is None:
            break
        theta = theta + step
        if _is_over(step, size):
            break
    return theta


def _newton_mr(objective: Objective, theta: Array, size: float) -> Search:
    """p = −H⁺g by MINRES; then f = ½‖g‖² falls along it at the rate −gᵀH p = ‖g‖² − ‖r‖² (Roosta et al. 2022)."""
    H, g = yield from _curvature(objective, theta)
    p = minres(H, -g).x
    return (yield from _line_search(theta, p, g, -float((H @ g) @ p), 1.0))


def _line_search(theta: Array, p: Array, g: Array, rate: float, t: float) -> Search:
    """A step t p along which ½‖g‖² falls enough (Armijo), found by halving; None where there is none."""
    f = float(g @ g) / 2
    for _ in range(_HALVINGS):
        ahead = yield "gradients", theta + t * p
        if float(ahead @ ahead) / 2 <= f - _ARMIJO * t * rate:
            return t * p
        t /= 2
    return None


def _saddle_free(objective: Objective, theta: Array, size: float) -> Search:
    """−|H|⁻¹g (Dauphin et al. 2014, section 4), no longer than the size of θ, halved until the loss falls."""
    g, values, vectors = yield from _spectrum(theta)
    p = _shortened(vectors @ -(g / _sizes(values)), size)
    value = yield "values", theta
    for _ in range(_HALVINGS):
        if (yield "values", theta + p) < value:
            return p
        p = p / 2
    return None


def _follow(objective: Objective, theta: Array, size: float, index: int) -> Search:
    """Along eigenvector i, Newton's step for a maximum if i < index, for a minimum if not; no longer than 0.1 of θ."""
    g, values, vectors = yield from _spectrum(theta)
    uphill = np.where(np.arange(objective.n) < index, 1, -1)
    return _shortened(vectors @ (uphill * g / _sizes(values)), 0.1 * size)


def _is_over(step: Array, size: float) -> bool:
    """Whether a step is too small for more to follow."""
    return bool(np.linalg.norm(step) <= _SMALLEST_STEP * size)


def _shortened(p: Array, longest: float) -> Array:
    """p, no longer than that."""
    return p * min(1.0, longest / max(float(np.linalg.norm(p)), np.finfo(p.dtype).tiny))


def _sizes(values: Array) -> Array:
    """|λ|, kept away from 0."""
    sizes = np.abs(values)
    return np.maximum(sizes, max(1e-10 * float(sizes.max()), float(np.finfo(values.dtype).tiny)))


def _polished(objective: Objective, theta: Array, steps: int = 10) -> Search:
    """Newton's steps −H⁺g as long as they make the gradient smaller, at least by half: to rounding.

    While H is a matrix, in units of its own: MINRES ends before soft parameters are exact beside stiff ones.
    """
    for _ in range(steps):
        H, g = yield from _curvature(objective, theta)
        D: Any = np.ones(objective.n, theta.dtype)
        if isinstance(H, np.ndarray):
            D = units_of(np.abs(H), np.zeros_like(H), theta).astype(theta.dtype)
            H = D[:, None] * H * D
        new = theta + D * minres(H, -D * g).x
        if not norm(D * (yield "gradients", new)) < norm(D * g) / 2:
            break
        theta = new
    return theta


_FOLLOWING = "eigenvector following"
_METHODS: dict[str, Callable[..., Search]] = {
    "newton": _newton,
    "gradient norm": _gradient_norm,
    "newton-mr": functools.partial(_stepwise, _newton_mr),
    "saddle-free": functools.partial(_stepwise, _saddle_free),
    _FOLLOWING: functools.partial(_stepwise, _follow),
}
