"""The Lanczos process, and the ends of a symmetric operator's spectrum from its products with vectors alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from microgradopt.curvature.solvers import norm

Array = npt.NDArray[Any]

_RESOLVED = 1e-3  # of the gap: how sure an eigenvalue must be before it counts as the less extreme one
_ASYMMETRY = 1e-2  # of ‖H‖: more is no rounding


class SymmetricOperator(Protocol):
    """H, symmetric, known by its products with vectors: an ndarray, a `HessianOperator`, a LinearOperator of SciPy."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, n)."""

    @property
    def dtype(self) -> Any:
        """Of the products."""

    def __matmul__(self, v: Any, /) -> Any: ...


class Tridiagonal(NamedTuple):
    """H Q = Q T + β_m q eₘᵀ, with T = tridiag(β, α, β) and orthonormal columns Q.

    alphas: α, (m,). betas: β, (m,); the last is the norm of what is left over, 0 if span Q is invariant.
    basis: Q, (n, m).
    """

    alphas: Array
    betas: Array
    basis: Array

    def ritz(self) -> tuple[Array, Array]:
        """θ, Y: T Y = Y diag(θ). The columns of Q Y are the Ritz vectors."""
        theta, Y = np.linalg.eigh(np.diag(self.alphas) + np.diag(self.betas[:-1], -1))  # which reads the lower triangle
        return theta, Y


class Eigenpairs(NamedTuple):
    """values θ: ascending, (k,). vectors: orthonormal columns, (n, k). residuals: ‖H v − θ v‖, (k,).

    The residuals are those of fresh products: some eigenvalue of H lies within each of them. products: how many H v.
    """

    values: Array
    vectors: Array
    residuals: Array
    products: int


def tridiagonal(H: SymmetricOperator, start: npt.ArrayLike, steps: int) -> Tridiagonal:
    """The Lanczos process: H projected onto span{s, H s, H² s, …}, from s = `start` of shape (n,).

    H q_j = β_{j−1} q_{j−1} + α_j q_j + β_j q_{j+1}. Each new vector is orthogonalised twice against all before it: the
    recurrence by itself loses orthogonality as soon as an eigenvalue is found, and then finds it again and again.

    One product for each of the `steps`, of which there are fewer where the space is found to be invariant.

    Raises ValueError for a start that is zero or misshapen, steps < 1, products that are not finite.
    Source: Lanczos 1950; twice is enough: Giraud, Langou, Rozložník and van den Eshof 2005.

    >>> tridiagonal(np.diag([1.0, 2.0, 3.0]), [1.0, 1.0, 1.0], 3).ritz()[0].round(6)
    array([1., 2., 3.])
    """
    n, dtype = operator_size("tridiagonal", H)
    start = np.asarray(start, dtype)
    if start.shape != (n,) or not start.any():
        raise ValueError(f"tridiagonal: the start must be of shape ({n},) and not zero; this one is {start.shape}")
    if steps < 1:
        raise ValueError(f"tridiagonal: {steps} steps; at least 1 is needed")
    krylov = _Krylov(H, np.empty((0, n), dtype), start, min(steps, n))
    while krylov.size < krylov.limit and krylov.beta > 0:
        krylov.grow()
    T = krylov.T[: krylov.size, : krylov.size]
    betas = np.append(np.diagonal(T, -1), krylov.beta).astype(dtype)
    return Tridiagonal(np.diagonal(T).astype(dtype), betas, krylov.rows[: krylov.size].T)


def eigenpairs(
    H: SymmetricOperator,
    k: int = 1,
    which: str = "smallest",
    tol: float | None = None,
    max_products: int | None = None,
    rng: np.random.Generator | int | None = 0,
    max_vectors: int = 300,
) -> Eigenpairs:
    """The k eigenvalues at an end of the spectrum of H, with their vectors, from products H v alone.

    which: "smallest", "largest", "both" (k from each end, none of them twice; all n where 2k ≥ n), or "magnitude" (the
    k largest |λ|). tol: a pair has converged when its residual is about tol·‖H‖; ε^(2/3) by default, which is 4e-11
    for float64, 2e-5 for float32. The error of the value is then far smaller: residual² over the gap.
    max_products: when these are used up, what there is is returned, converged or not: the residuals tell. There may be
    fewer than k, when there are fewer than two products for each; of "both", the small ones come first.
    max_vectors: how many vectors of n numbers are kept at the most, beside those that are returned: the memory. Fewer
    need more products. At least four for each pair are kept.

    Lanczos' method, with all vectors orthogonalised twice, restarted thickly when the basis is full. From one start it
    sees each eigenvalue once, however often it is repeated. So what has converged is set aside, and the process is run
    again, from a random vector orthogonal to that, until it finds nothing that is more extreme by more than tol·‖H‖.

    That is convincing, and no proof: an eigenvalue is missed if every random start is orthogonal to its vectors.
    A residual is a proof, but only that there is some eigenvalue within it.

    Raises ValueError for H that is not square, is complex, or has products that are not finite; for bad arguments.
    Source: Wu and Simon 2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems".

    >>> eigenpairs(np.diag([1.0, 2.0, 9.0]), 1, "largest").values.round(6)
    array([9.])
    """
    n, dtype = operator_size("eigenpairs", H)
    _check_arguments(n, k, which, tol, max_products, max_vectors)
    if which == "both" and 2 * k >= n:
        which, k = "smallest", n
    wanted = k * len(_KEYS[which])
    tol = max(_rounding(n, dtype), float(np.finfo(dtype).eps) ** (2 / 3) if tol is None else tol)
    max_products = 20 * n + 200 if max_products is None else max_products
    budget = max_products - min(wanted, max_products // 2)  # the rest is for the residuals

    rng = np.random.default_rng(rng)
    values, rows = np.empty(0), np.empty((0, n), dtype)
    products, scale, nothing_left = 0, 0.0, False
    while not nothing_left and products < budget:
        start = rng.standard_normal(n).astype(dtype)
        krylov = _Krylov(H, rows, start, max(max_vectors, 4 * wanted), scale)
        new_values, new_rows, nothing_left = _search(krylov, values, k, which, tol, budget - products)
        values, rows = np.append(values, new_values), np.concatenate([rows, new_rows])
        products, scale = products + krylov.products, krylov.scale
    chosen = _most_extreme(values, np.empty(0), k, which, 0.0)[: max_products - products]
    return _measured(H, rows[chosen], products)


def operator_size(name: str, H: SymmetricOperator) -> tuple[int, np.dtype[Any]]:
    """The n of H, and the dtype to compute in: float32 for float32, float64 for all else. ValueError if it has none."""
    if len(H.shape) != 2 or H.shape[0] != H.shape[1] or H.shape[0] == 0:
        raise ValueError(f"{name}: H has shape {tuple(H.shape)}; it must be square, and not empty")
    dtype = np.dtype(H.dtype)
    if dtype.kind not in "fiub":
        raise ValueError(f"{name}: H has dtype {dtype}; it must be of real numbers")
    if isinstance(H, np.ndarray) and np.isfinite(H).all() and norm(H - H.T) > _ASYMMETRY * norm(H):
        raise ValueError(f"{name}: H, of shape {H.shape}, is not symmetric")
    return H.shape[0], dtype if dtype == np.float32 else np.dtype(np.float64)


def product(H: SymmetricOperator, v: Array) -> Array:
    """H v, of v's dtype. Raises ValueError where it is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        w = np.asarray(H @ v, v.dtype)
    finite = np.isfinite(w)
    if not finite.all():
        raise ValueError(
            f"H @ v: {np.count_nonzero(~finite)} of {w.size} elements are NaN or infinite; has the loss overflowed, or "
            "is a derivative infinite here? mg.detect_anomaly() finds the operation"
        )
    return w


def _rounding(n: int, dtype: np.dtype[Any]) -> float:
    """What is nothing but rounding in H v, relative to ‖H‖."""
    return float(np.finfo(dtype).eps) * n**0.5


def _check_arguments(n: int, k: int, which: str, tol: float | None, max_products: int | None, max_vectors: int) -> None:
    if which not in _KEYS:
        raise ValueError(f"eigenpairs: which={which!r}; one of {', '.join(map(repr, _KEYS))} is wanted")
    if k < 1 or (k > n and which != "both"):
        raise ValueError(f"eigenpairs: k={k}; H of shape ({n}, {n}) has between 1 and {n} eigenpairs to give")
    if tol is not None and not 0 < tol < 1:
        raise ValueError(f"eigenpairs: tol={tol}; it is relative to the norm of H: between 0 and 1, or None")
    if max_products is not None and max_products < 2:
        raise ValueError(f"eigenpairs: max_products={max_products}; one to find a pair and one for its residual: 2")
    if not (isinstance(max_vectors, int | np.integer) and max_vectors >= 1):
        raise ValueError(f"eigenpairs: max_vectors={max_vectors!r}; it is a whole number from 1")


# Which eigenvalues are wanted: those with the smallest keys.
_KEYS: dict[str, list[Callable[[Array], Array]]] = {
    "smallest": [np.positive],
    "largest": [np.negative],
    "both": [np.positive, np.negative],
    "magnitude": [lambda values: -np.abs(values)],
}


def _most_extreme(known: Array, found: Array, k: int, which: str, margin: float) -> Array:
    """Indices of the wanted ones among `known` and `found`, which must be more extreme by `margin` to be preferred."""
    taken: list[int] = []
    for key in _KEYS[which]:
        keys = np.concatenate([key(known), key(found) + margin])
        keys[taken] = np.inf
        taken += [i for i in np.argsort(keys, kind="stable")[:k].tolist() if i not in taken]
    return np.array(taken, dtype=int)


class _Krylov:
    """A basis that H makes: H Qᵀ = Qᵀ T + β q eₘᵀ, all in the complement of the vectors that are `locked`.

    `rows` holds the locked vectors, then Q, m = `size` of them, then q. Of T only the lower triangle is filled in.
    """

    def __init__(self, H: SymmetricOperator, locked: Array, start: Array, limit: int, scale: float = 0.0) -> None:
        self.locked, n = locked.shape
        self.H, self.size, self.products = H, 0, 0
        self.limit = min(limit, n - self.locked)
        self.scale = scale  # ‖H‖, from below
        self.rounding = _rounding(n, start.dtype)
        self.T = np.zeros((self.limit, self.limit))
        self.rows = np.empty((self.locked + self.limit + 1, n), start.dtype)
        self.rows[: self.locked] = locked
        q, _ = _orthogonalised(start / norm(start), locked)
        self.beta = norm(q)
        self.rows[self.locked] = q / self.beta

    def grow(self) -> None:
        """Add one basis vector (one product). β = 0 afterwards where span Q has turned out to be invariant."""
        last = self.locked + self.size
        w = product(self.H, self.rows[last])
        self.products += 1
        self.scale = max(self.scale, norm(w))
        w, along = _orthogonalised(w, self.rows[: last + 1])
        self.T[self.size, : self.size + 1] = along[self.locked :]
        self.size += 1
        self.beta = norm(w)
        if self.whole or self.beta <= self.rounding * self.scale:
            self.beta = 0.0
        else:
            self.rows[last + 1] = w / self.beta

    @property
    def whole(self) -> bool:
        """Is this, with what is locked, all of Rⁿ?"""
        return self.locked + self.size == self.rows.shape[1]

    def ritz(self) -> tuple[Array, Array, Array]:
        """θ, Y, r: T Y = Y diag(θ); Qᵀ Y are the Ritz vectors, and r = β·|last row of Y| their residuals."""
        theta, Y = np.linalg.eigh(self.T[: self.size, : self.size])
        return theta, Y, self.beta * np.abs(Y[-1])

    def vectors(self, Y: Array) -> Array:
        """Qᵀ Y, as rows."""
        return Y.T.astype(self.rows.dtype) @ self.rows[self.locked : self.locked + self.size]

    def compress(self, theta: Array, Y: Array) -> None:
        """Thick restart: go on from these Ritz vectors and q. The couplings to q come with the next product."""
        kept = np.concatenate([self.vectors(Y), self.rows[[self.locked + self.size]]])
        self.rows[self.locked : self.locked + len(kept)] = kept
        self.T[:] = 0.0
        self.size = len(theta)
        np.fill_diagonal(self.T[: self.size, : self.size], theta)


def _orthogonalised(w: Array, rows: Array) -> tuple[Array, Array]:
    """w minus its components along the orthonormal rows, and these. Once leaves rounding of the size of what went."""
    along = rows @ w
    w = w - along @ rows
    again = rows @ w
    return w - again @ rows, along + again


def _search(krylov: _Krylov, known: Array, k: int, which: str, tol: float, budget: int) -> tuple[Array, Array, bool]:
    """Grow a basis until its wanted pairs have converged, the space is invariant, or the budget is used up.

    Gives the values and vectors (rows) of the pairs that are wanted beside the `known` ones, and whether the search is
    over: because there are none, or because the basis, with the known ones, is the whole space.
    """
    look_at = 1
    while True:
        krylov.grow()
        stop = krylov.beta == 0 or krylov.products == budget
        full = krylov.size == krylov.limit
        # A look costs m³, so it is taken each time that m has grown by a tenth.
        if not stop and not full and krylov.size < look_at:
            continue
        theta, Y, residuals = krylov.ritz()
        tolerance = tol * krylov.scale
        chosen = _most_extreme(known, theta, k, which, tolerance)
        new = chosen[chosen >= len(known)] - len(known)
        if stop or _decided(theta, residuals, new, known, k, which, tolerance):
            return theta[new], krylov.vectors(Y[:, new]), krylov.whole or not len(new)
        if full:
            keep = _most_extreme(np.empty(0), theta, krylov.limit // (2 * len(_KEYS[which])), which, 0.0)
            krylov.compress(theta[keep], Y[:, keep])
        look_at = krylov.size + 1 + krylov.size // 10


def _decided(theta: Array, residuals: Array, new: Array, known: Array, k: int, which: str, tolerance: float) -> bool:
    """Have the new pairs converged? If there are none: is it sure that the ends found are behind the known ones?"""
    if len(new):
        return bool((residuals[new] <= tolerance).all())
    for key in _KEYS[which]:
        best = np.argmin(key(theta))
        gap = key(theta)[best] - np.sort(key(known))[k - 1]
        if residuals[best] > max(tolerance, _RESOLVED * gap):
            return False
    return True


def _measured(H: SymmetricOperator, rows: Array, products: int) -> Eigenpairs:
    """The pairs with these vectors: one fresh product each gives the Rayleigh quotient, and the residual."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    images = np.array([product(H, v) for v in rows])
    values = np.sum(rows * images, axis=1)
    residuals = np.array([norm(row) for row in images - values[:, None] * rows], rows.dtype)
    order = np.argsort(values, kind="stable")
    return Eigenpairs(values[order], rows[order].T, residuals[order], products + len(rows))
