"""The whole spectrum: exactly, of a matrix; in outline, of an operator: its trace, largest eigenvalue and density."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microgradopt.curvature.lanczos import SymmetricOperator, eigenpairs, operator_size, product, tridiagonal

Array = npt.NDArray[Any]

_ROUNDING = 10.0  # units of the largest eigenvalue: nothing is nearer to a node


class DenseSpectrum(NamedTuple):
    """values: all n, ascending. vectors: orthonormal columns, (n, n). asymmetry: ‖H − Hᵀ‖_F. norm: ‖H‖_F.

    A Hessian is symmetric, so the asymmetry of a computed one tells how much rounding there is in it.
    """

    values: Array
    vectors: Array
    asymmetry: float
    norm: float


class Estimate(NamedTuple):
    """value, its error (what kind of error, each function says), and how many products H v it took."""

    value: float
    error: float
    products: int


def dense_spectrum(H: npt.ArrayLike) -> DenseSpectrum:
    """All eigenvalues and eigenvectors of a matrix, of (H + Hᵀ)/2 to be precise. float32 stays float32.

    Raises ValueError for a matrix that is not square, or not finite.

    >>> dense_spectrum(np.diag([3.0, 1.0])).values
    array([1., 3.])
    """
    matrix = np.asarray(H)
    _, dtype = operator_size("dense_spectrum", matrix)
    matrix = matrix.astype(dtype, copy=False)
    bad = np.count_nonzero(~np.isfinite(matrix))
    if bad:
        raise ValueError(f"dense_spectrum: {bad} elements of H, of shape {matrix.shape}, are NaN or infinite")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return DenseSpectrum(values, vectors, float(np.linalg.norm(matrix - matrix.T)), float(np.linalg.norm(matrix)))


def trace(H: SymmetricOperator, products: int = 30, rng: np.random.Generator | int | None = 0) -> Estimate:
    """tr H from a few products: the large eigenvalues by projection, the rest by random signs (Hutch++).

    Q = an orthonormal basis of H S, for random signs S; then, with P = I − Q Qᵀ and m columns g of random signs,

        tr H = tr QᵀH Q + tr P H P ≈ tr QᵀH Q + (1/m) Σ gᵀP H P g.

    products: how many are spent, a third on each of the three parts. If n of them suffice, tr H = Σ eᵢᵀH eᵢ, exactly.
    error: the standard error of the mean over the g, which is the only part that is random given Q; 0 if exact.

    Raises ValueError for too few products. Source: Meyer, Musco, Musco and Woodruff 2021, algorithm 1.

    >>> trace(np.diag([1.0, 2.0, 3.0, 4.0])).value
    10.0
    """
    n, dtype = operator_size("trace", H)
    if n <= products:
        return Estimate(float(sum(product(H, e)[i] for i, e in enumerate(np.eye(n, dtype=dtype)))), 0.0, n)
    if products < 4:
        raise ValueError(f"trace: {products} products give no error estimate for n = {n}; at least 4 are needed")
    rng = np.random.default_rng(rng)
    size = products // 3
    sketch = np.stack([product(H, _signs(n, dtype, rng)) for _ in range(size)], axis=1)
    Q, _ = np.linalg.qr(sketch)
    projected = sum(float(q @ product(H, q)) for q in Q.T)
    samples = []
    for _ in range(products - 2 * size):
        g = _signs(n, dtype, rng)
        g = g - Q @ (Q.T @ g)
        samples.append(float(g @ product(H, g)))
    mean, error = _mean(np.array(samples))
    return Estimate(projected + mean, error, products)


def sharpness(H: SymmetricOperator, tol: float = 1e-4, rng: np.random.Generator | int | None = 0) -> Estimate:
    """λ_max of H, by Lanczos' method (`eigenpairs`). Gradient descent is stable where it is below 2/lr.

    tol: what the error should be, relative to ‖H‖.
    error: the residual ‖H v − θ v‖, a rigorous bound on how far some eigenvalue is from θ. The value is vᵀH v of a unit
    vector, so λ_max is not below it but for rounding. That nothing is far above it is only as sure as random starts.

    >>> round(sharpness(np.diag([1.0, 5.0])).value, 3)
    5.0
    """
    pairs = eigenpairs(H, 1, "largest", tol, rng=rng)
    return Estimate(float(pairs.values[0]), float(pairs.residuals[0]), pairs.products)


class SpectralDensity(NamedTuple):
    """The distribution of the n eigenvalues of H, as each of several random probes sees it: weights at nodes.

    nodes, weights: (probes, steps). The weights of a probe add up to 1; some may be 0. residuals: (probes, steps), how
    far each node is spread: the norm of H v − θ v for the vector v that it stands for.
    n: how many eigenvalues there are. products: how many H v it took.

    The standard errors are over the probes. What too few steps blur, all probes may blur alike: it is not in them.
    """

    nodes: Array
    weights: Array
    n: int
    products: int
    residuals: Array

    def density(self, grid: npt.ArrayLike, sigma: float) -> Array:
        """φ(t) at the points of the grid, each eigenvalue smoothed by a Gaussian of width σ; ∫φ = 1.

        φ(t) = mean over probes of Σ_j w_j exp(−(t − θ_j)²/2σ²) / (σ√2π). Of the grid's shape. ValueError for σ ≤ 0.
        """
        if not sigma > 0:
            raise ValueError(f"density: sigma={sigma}; the width of the Gaussians must be positive")
        z = (np.asarray(grid, float)[..., None] - self.nodes.ravel()) / sigma
        return np.exp(-z * z / 2) @ self.weights.ravel() / (len(self.nodes) * sigma * np.sqrt(2 * np.pi))

    def moment(self, k: int) -> Estimate:
        """∫ tᵏ φ(t) dt = tr(Hᵏ)/n. Gauss quadrature is exact up to k = 2·steps − 1; error: the standard error."""
        return self._mean_of(self.nodes**k)

    def count_below(self, x: float) -> Estimate:
        """How many eigenvalues are less than x.

        error: the standard error, and what of the nodes' weights may lie on the other side of x. A node θ is the mean
        of many eigenvalues, with the deviation ρ, its residual; not more than the share ρ² / (x − θ)² of them is as
        far from it as x (Chebyshev's inequality). In a gap of the spectrum that is nothing, in a crowd it is all of it.
        """
        value, error, products = self._mean_of(self.nodes < x)
        apart = np.abs(x - self.nodes)
        share = np.square(np.minimum(1.0, self.residuals / np.where(apart > 0, apart, np.inf)))
        beyond = np.sum(self.weights * np.where(apart > 0, share, 1.0), axis=1)
        return Estimate(self.n * value, self.n * (error + float(np.mean(beyond))), products)

    def _mean_of(self, f: Array) -> Estimate:
        """The integral of a function that has these values at the nodes."""
        return Estimate(*_mean(np.sum(self.weights * f, axis=1)), self.products)


def spectral_density(
    H: SymmetricOperator, probes: int = 10, steps: int = 80, rng: np.random.Generator | int | None = 0
) -> SpectralDensity:
    """How the eigenvalues of H are distributed, by stochastic Lanczos quadrature: probes · steps products.

    Each probe g, of random signs over √n, starts the Lanczos process. The eigenvalues θ of its tridiagonal matrix are
    the nodes, and the squares of the first components of the eigenvectors the weights, of Gauss quadrature:

        Σ_j w_j f(θ_j) ≈ gᵀf(H) g,    whose mean over g is tr f(H)/n.

    probes: at least 2, for there to be a standard error. steps: how fine the nodes are; n at the most.
    Source: Ubaru, Chen and Saad 2017; for Hessians of networks, Ghorbani, Krishnan and Xiao 2019.

    >>> spectral_density(np.diag([1.0, 2.0, 3.0]), probes=2, steps=3).nodes.shape
    (2, 3)
    """
    n, dtype = operator_size("spectral_density", H)
    if probes < 2 or steps < 1:
        raise ValueError(f"spectral_density: {probes} probes, {steps} steps; at least 2 and 1 are needed")
    rng = np.random.default_rng(rng)
    nodes, weights, residuals = np.zeros((3, probes, min(steps, n)))
    products = 0
    for i in range(probes):
        T = tridiagonal(H, _signs(n, dtype, rng), steps)
        theta, Y = T.ritz()
        m = len(theta)
        nodes[i, :m], weights[i, :m] = theta, Y[0] ** 2
        rounding = _ROUNDING * float(np.finfo(dtype).eps) * float(np.abs(theta).max())
        residuals[i, :m] = np.abs(T.betas[-1] * Y[-1]) + rounding
        products += m
    return SpectralDensity(nodes, weights, n, products, residuals)


def _signs(n: int, dtype: npt.DTypeLike, rng: np.random.Generator) -> Array:
    """+1 and −1 with equal chance: E gᵀA g = tr A, with the least variance that independent elements can have."""
    return rng.choice(np.array([-1, 1], dtype), n)


def _mean(samples: Array) -> tuple[float, float]:
    """The mean, and its standard error."""
    return float(np.mean(samples)), float(np.std(samples, ddof=1) / np.sqrt(len(samples)))
