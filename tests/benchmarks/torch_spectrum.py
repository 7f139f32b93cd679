"""The ends of a PyTorch model's Hessian and its trace, by our bridge and by others, on one model in one process.

    pip install pyhessian curvlinops-for-pytorch hessian-eigenthings
    python tests/benchmarks/torch_spectrum.py                                      prints the tables
    python tests/benchmarks/torch_spectrum.py --write docs/from_pytorch.md         and puts them into the docs

The small model's dense Hessian, in float64, is the oracle. Each tool has its own defaults, or what its own examples
use. Products with H are counted inside of PyTorch: every double backward.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from microgradopt import critical, curvature
from microgradopt.bridges import torch as bridge

BEGIN, END = "<!-- torch spectrum -->", "<!-- /torch spectrum -->"
F = torch.nn.functional


def trained(sizes: tuple[int, ...], dtype: torch.dtype, updates: int) -> tuple[Any, Any, Any]:
    """A network on the digits after some updates of Adam, and the data."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    X, y = torch.tensor(images / 16, dtype=dtype), torch.tensor(labels)
    layers: list[Any] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1]).to(dtype)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(updates):
        adam.zero_grad()
        F.cross_entropy(model(X), y).backward()
        adam.step()
    return model, X, y


class Counted:
    """How many double backwards there were: gradients of what needs a graph of its own."""

    def __enter__(self) -> Counted:
        self.count, self.grad = 0, torch.autograd.grad

        def grad(*args: Any, **kwargs: Any) -> Any:
            self.count += not kwargs.get("create_graph", False) and (len(args) > 2 or "grad_outputs" in kwargs)
            return self.grad(*args, **kwargs)

        torch.autograd.grad = grad
        return self

    def __exit__(self, *error: object) -> None:
        torch.autograd.grad = self.grad


def ours(model: Any, X: Any, y: Any) -> tuple[float, float, float]:
    """λ_max, λ_min and the trace."""
    H = critical.HessianOperator(bridge.objective(model, lambda: F.cross_entropy(model(X), y)))
    low, high = curvature.eigenpairs(H, 1, "both").values
    return high, low, curvature.trace(H, products=100).value


def pyhessian(model: Any, X: Any, y: Any) -> tuple[float, float, float]:
    """Its largest eigenvalue by power iteration, which is by magnitude; it has no smallest."""
    from pyhessian import hessian

    found = hessian(model, F.cross_entropy, data=(X, y), cuda=False)
    return found.eigenvalues()[0][0], np.nan, float(np.mean(found.trace()))


def curvlinops(model: Any, X: Any, y: Any) -> tuple[float, float, float]:
    """Its operator in SciPy's eigsh, and its Hutch++."""
    import curvlinops as peer
    from scipy.sparse.linalg import eigsh

    H = peer.HessianLinearOperator(
        model, torch.nn.CrossEntropyLoss(), list(model.parameters()), [(X, y)], check_deterministic=False
    )
    values = eigsh(H.to_scipy(), 2, which="BE", return_eigenvectors=False)
    return max(values), min(values), float(peer.hutchpp_trace(H, num_matvecs=99))


def eigenthings(model: Any, X: Any, y: Any) -> tuple[float, float, float]:
    """Its Lanczos method, once for each end, and its Hutch++. With k=1 its defaults stop too early, at 0.745."""
    import hessian_eigenthings as peer

    H = peer.HessianOperator(model, [(X, y)], lambda m, batch: F.cross_entropy(m(batch[0]), batch[1]))
    high, low = (peer.lanczos(H, k=5, which=which, seed=0).eigenvalues for which in ("LA", "SA"))
    return float(max(high)), float(min(low)), float(peer.trace(H, num_matvecs=100, seed=0).estimate)


TOOLS: dict[str, Callable[..., tuple[float, float, float]]] = {
    "microgradopt": ours, "PyHessian": pyhessian, "curvlinops": curvlinops, "hessian-eigenthings": eigenthings,
}  # fmt: skip


def small() -> str:
    """Errors against the dense Hessian."""
    model, X, y = trained((64, 16, 10), torch.float64, 50)
    values = np.linalg.eigvalsh(bridge.objective(model, lambda: F.cross_entropy(model(X), y)).hessian())
    exact = np.array([values[-1], values[0], values.sum()])
    lines = [
        "| tool | error of λ_max | of λ_min | of the trace | products | seconds |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, tool in TOOLS.items():
        try:
            with Counted() as counted:
                started = time.perf_counter()
                found = np.array(tool(model, X, y))
                seconds = time.perf_counter() - started
        except ImportError:
            lines.append(f"| {name} | not installed | | | | |")
            continue
        errors = [f"{e:.1e}" if np.isfinite(e) else "–" for e in np.abs(found / exact - 1)]
        lines.append(f"| {name} | {' | '.join(errors)} | {counted.count} | {seconds:.2f} |")
    what = f"64-16-10, {len(values):,} parameters, float64: λ_max = {exact[0]:.4g}, λ_min = {exact[1]:.4g}"
    return f"{what}, trace {exact[2]:.4g}\n\n" + "\n".join(lines)


def large(width: int) -> str:
    """A product through the bridge beside PyTorch's own; the largest eigenvalue in bounded memory."""
    model, X, y = trained((64, width, width, 10), torch.float32, 5)
    X, y = X[:256], y[:256]
    parameters = list(model.parameters())
    objective = bridge.objective(model, lambda: F.cross_entropy(model(X), y))
    v = np.random.default_rng(0).normal(size=objective.n).astype(np.float32)
    theta = objective.theta
    gradients = torch.autograd.grad(F.cross_entropy(model(X), y), parameters, create_graph=True)
    parts = [
        part.view_as(p)
        for part, p in zip(torch.tensor(v).split([p.numel() for p in parameters]), parameters, strict=True)
    ]

    def own() -> None:
        torch.autograd.grad(gradients, parameters, parts, retain_graph=True)

    H = critical.HessianOperator(objective)
    ratios = []
    for _ in range(15):
        times = []
        for work in (lambda: H @ v, own):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        ratios.append(times[0] / times[1])
    started = time.perf_counter()
    found = curvature.eigenpairs(H, 1, "largest", max_vectors=20, max_products=200, tol=1e-3)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    del theta
    return (
        f"64-{width}-{width}-10, {objective.n:,} parameters, float32, 256 samples: a product through the bridge takes "
        f"{np.median(ratios):.2f} of the time of PyTorch's own double backward, the gradient being recorded for both. "
        f"λ_max = {found.values[0]:.4g}, residual {found.residuals[0]:.1e}, with {found.products} products in "
        f"{seconds:.1f} s ({seconds / found.products / times[1]:.2f} of as many products of PyTorch's own), 20 vectors "
        f"of {4 * objective.n / 2**20:.0f} MiB kept; the whole process had {peak:.0f} MiB at most."
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=950, help="of the large model's hidden layers")
    parser.add_argument("--write", type=Path, help="a file with the two markers, between which the tables go")
    arguments = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = f"{small()}\n\n{large(arguments.width)}"
    print(text)
    if arguments.write:
        before, rest = arguments.write.read_text(encoding="utf-8").split(BEGIN)
        arguments.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
