"""Random programs of NumPy calls: value, gradient and Hessian-vector product, against PyTorch.

``python tests/rules/test_random_programs.py 100000`` tries as many, and prints the first that differ.
"""

import sys

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn

torch = pytest.importorskip("torch", reason="the oracle")
pytestmark = pytest.mark.parity

PROGRAMS, CHUNKS = 2000, 8
HAS_MATVEC = hasattr(np, "matvec")
F = nn.functional


# Each form: for our side and for PyTorch's. Arguments are kept where the function is smooth, or where both sides have
# the same convention: of ties in maxima each has its share, and abs, relu and clip are flat at their kinks.
def apart(x):
    """x without ties, for either side: who comes first of equal ones is not settled."""
    steps = 1e-3 * np.arange(float(np.prod(tuple(x.shape)))).reshape(tuple(x.shape))
    return x + (torch.tensor(steps) if isinstance(x, torch.Tensor) else steps)


UNARY = [
    (np.exp, torch.exp), (np.sin, torch.sin), (np.cos, torch.cos), (np.tanh, torch.tanh), (np.arctan, torch.arctan),
    (np.square, torch.square), (np.negative, torch.negative), (np.abs, torch.abs), (np.sinh, torch.sinh),
    (lambda x: np.sqrt(x * x + 1), lambda x: torch.sqrt(x * x + 1)), (lambda x: np.log(x * x + 1), lambda x: torch.log(x * x + 1)),
    (lambda x: np.log1p(x**2), lambda x: torch.log1p(x**2)), (lambda x: np.cbrt(x * x + 1), lambda x: (x * x + 1) ** (1 / 3)),
    (lambda x: x**3, lambda x: x**3), (lambda x: (x * x + 1) ** 1.5, lambda x: (x * x + 1) ** 1.5), (lambda x: 2.0**x, lambda x: 2.0**x),
    (lambda x: np.arcsinh(x), torch.arcsinh), (lambda x: np.sinc(x), torch.sinc), (lambda x: 1 / (x * x + 0.5), lambda x: 1 / (x * x + 0.5)),
    (F.sigmoid, torch.sigmoid), (F.relu, torch.relu), (F.gelu, torch.nn.functional.gelu), (F.softplus, lambda x: torch.nn.functional.softplus(x, threshold=1e3)),
    (lambda x: np.clip(x, -0.5, 0.75), lambda x: torch.clip(x, -0.5, 0.75)), (np.expm1, torch.expm1), (np.exp2, torch.exp2),
    (lambda x: x - np.floor(x), lambda x: x - torch.floor(x)), (lambda x: np.where(x > 0.1, x * x, -x), lambda x: torch.where(x > 0.1, x * x, -x)),
    (lambda x: x.astype(np.float32) * np.ones(1), lambda x: x.float() * torch.ones(1, dtype=torch.float64)),
    (np.copy, torch.clone), (lambda x: np.nan_to_num(x), torch.nan_to_num), (lambda x: np.arctan2(x, x * x + 1), lambda x: torch.arctan2(x, x * x + 1)),
]  # fmt: skip
BINARY = [
    (np.add, torch.add), (np.subtract, torch.subtract), (np.multiply, torch.multiply), (np.maximum, torch.maximum), (np.minimum, torch.minimum),
    (lambda x, y: x / (y * y + 1), lambda x, y: x / (y * y + 1)), (lambda x, y: np.hypot(x, y * y + 1), lambda x, y: torch.hypot(x, y * y + 1)),
    (lambda x, y: np.arctan2(x, y * y + 1), lambda x, y: torch.arctan2(x, y * y + 1)), (np.logaddexp, torch.logaddexp),
    (lambda x, y: np.where(x > y, x * y, x - y), lambda x, y: torch.where(x > y, x * y, x - y)),
    (lambda x, y: (x * x + 1) ** (y * y + 0.5), lambda x, y: (x * x + 1) ** (y * y + 0.5)),  # at y = 0 PyTorch's second derivative is wrong
    (lambda x, y: np.remainder(x, y * y + 3), lambda x, y: torch.remainder(x, y * y + 3)),
]  # fmt: skip
VECTORS = [  # of arrays with an axis, at least
    (lambda x, a, k: np.sum(x, axis=a, keepdims=k), lambda x, a, k: torch.sum(x, dim=a, keepdim=k)),
    (lambda x, a, k: np.mean(x, axis=a, keepdims=k), lambda x, a, k: torch.mean(x, dim=a, keepdim=k)),
    (lambda x, a, k: x.sum(axis=a, keepdims=k), lambda x, a, k: x.sum(dim=a, keepdim=k)),
    (lambda x, a, k: np.max(x, axis=a, keepdims=k), lambda x, a, k: torch.amax(x, dim=a, keepdim=k)),
    (lambda x, a, k: np.min(x, axis=a, keepdims=k), lambda x, a, k: torch.amin(x, dim=a, keepdim=k)),
    (lambda x, a, k: mg.logsumexp(x, a, keepdims=k), lambda x, a, k: torch.logsumexp(x, dim=a, keepdim=k)),
    (lambda x, a, k: np.var(x, axis=a, keepdims=k), lambda x, a, k: torch.var(x, dim=a, keepdim=k, correction=0)),
    (lambda x, a, k: np.prod(x, axis=a, keepdims=k), lambda x, a, k: torch.prod(x, dim=a, keepdim=k)),
    (lambda x, a, k: np.linalg.norm(x - 7.3, axis=a, keepdims=k) ** 3, lambda x, a, k: torch.linalg.vector_norm(x - 7.3, dim=a, keepdim=k) ** 3),
    (lambda x, a, k: np.cumsum(x, axis=a), lambda x, a, k: torch.cumsum(x, dim=a)),
    (lambda x, a, k: mg.softmax(x, a), lambda x, a, k: torch.softmax(x, dim=a)),
    (lambda x, a, k: mg.log_softmax(x, a), lambda x, a, k: torch.log_softmax(x, dim=a)),
    (lambda x, a, k: np.flip(x, a), lambda x, a, k: torch.flip(x, (a,))), (lambda x, a, k: np.roll(x, 1, a), lambda x, a, k: torch.roll(x, 1, a)),
    (lambda x, a, k: np.concatenate([x, x * 2.0], axis=a), lambda x, a, k: torch.cat([x, x * 2.0], dim=a)),
    (lambda x, a, k: np.stack([x, -x], axis=a), lambda x, a, k: torch.stack([x, -x], dim=a)),
    (lambda x, a, k: np.repeat(x, 2, axis=a), lambda x, a, k: torch.repeat_interleave(x, 2, dim=a)),
    (lambda x, a, k: np.take(x, [0, -1, 0], axis=a), lambda x, a, k: torch.index_select(x, a, torch.tensor([0, x.shape[a] - 1, 0]))),
    (lambda x, a, k: np.expand_dims(x, a), lambda x, a, k: torch.unsqueeze(x, a)), (lambda x, a, k: np.diff(x, axis=a), lambda x, a, k: torch.diff(x, dim=a)),
    (lambda x, a, k: np.sum(x, axis=a, where=np.arange(x.shape[-1]) % 2 == 0), lambda x, a, k: torch.sum(x * (torch.arange(x.shape[-1]) % 2 == 0), dim=a)),
    (lambda x, a, k: np.trapezoid(x, axis=a), lambda x, a, k: torch.trapezoid(x, dim=a)),
    (lambda x, a, k: np.quantile(apart(x), 0.3, axis=a, keepdims=k), lambda x, a, k: torch.quantile(apart(x), 0.3, dim=a, keepdim=k)),
]  # fmt: skip
SHAPES = [
    (lambda x: x.reshape(-1), lambda x: x.reshape(-1)), (lambda x: x.T, lambda x: x.permute(*range(x.ndim)[::-1])), (lambda x: x[..., None], lambda x: x[..., None]),
    (lambda x: x[None], lambda x: x[None]), (lambda x: x[::2], lambda x: x[::2]), (lambda x: x[0], lambda x: x[0]), (lambda x: x[-1:], lambda x: x[-1:]),
    (lambda x: x[[0, 0, -1]], lambda x: x[[0, 0, -1]]), (lambda x: x[np.arange(x.shape[0]) % 2 == 0], lambda x: x[torch.arange(x.shape[0]) % 2 == 0]),
    (lambda x: x[..., -1], lambda x: x[..., -1]), (lambda x: x[1:0], lambda x: x[1:0]), (lambda x: np.tile(x, 2), lambda x: torch.tile(x, (2,))),
    (lambda x: np.broadcast_to(x, (2, *x.shape)), lambda x: torch.broadcast_to(x, (2, *x.shape))), (lambda x: np.ravel(x)[::-1], lambda x: torch.flip(x.reshape(-1), (0,))),
    (lambda x: np.squeeze(x), torch.squeeze), (lambda x: np.pad(np.ravel(x), 1), lambda x: torch.nn.functional.pad(x.reshape(-1), (1, 1))),
]  # fmt: skip


def square_of(x):
    """A positive definite matrix from any array, for either side."""
    row = x.reshape(1, -1)[:, :3]
    a = row.T @ row
    return a / (1 + (a * a).sum()) if isinstance(x, torch.Tensor) else a / (1 + np.sum(a * a))


def regular(x):
    a = square_of(x)
    return a + (
        torch.diag(torch.arange(1.0, 1 + len(a), dtype=a.dtype))
        if isinstance(x, torch.Tensor)
        else np.diag(np.arange(1.0, 1 + len(a)))
    )


MATRICES = [
    (lambda x: np.linalg.inv(regular(x)), lambda x: torch.linalg.inv(regular(x))), (lambda x: np.linalg.det(regular(x)), lambda x: torch.linalg.det(regular(x))),
    (lambda x: np.linalg.slogdet(regular(x))[1], lambda x: torch.linalg.slogdet(regular(x))[1]), (lambda x: np.linalg.cholesky(regular(x)), lambda x: torch.linalg.cholesky(regular(x))),
    (lambda x: np.linalg.eigvalsh(regular(x)), lambda x: torch.linalg.eigvalsh(regular(x))), (lambda x: np.linalg.svdvals(regular(x)), lambda x: torch.linalg.svdvals(regular(x))),
    (lambda x: np.linalg.solve(regular(x), square_of(x)), lambda x: torch.linalg.solve(regular(x), square_of(x))), (lambda x: np.linalg.pinv(regular(x)), lambda x: torch.linalg.pinv(regular(x))),
    (lambda x: np.einsum("ij,kj->ik", regular(x), square_of(x)), lambda x: torch.einsum("ij,kj->ik", regular(x), square_of(x))),
    (lambda x: np.einsum("ii", regular(x)), lambda x: torch.einsum("ii", regular(x))), (lambda x: np.trace(regular(x)), lambda x: torch.trace(regular(x))),
    (lambda x: np.einsum(regular(x), [0, 1], square_of(x), [1, 2], [2, 0]), lambda x: torch.einsum("ij,jk->ki", regular(x), square_of(x))),
    (lambda x: np.tril(regular(x)) @ x.reshape(-1)[: regular(x).shape[0]], lambda x: torch.tril(regular(x)) @ x.reshape(-1)[: regular(x).shape[0]]),
    (lambda x: np.kron(regular(x), square_of(x)), lambda x: torch.kron(regular(x), square_of(x))), (lambda x: np.matvec(regular(x), x.reshape(-1)[: regular(x).shape[0]]) if HAS_MATVEC else regular(x)[0], lambda x: regular(x) @ x.reshape(-1)[: regular(x).shape[0]] if HAS_MATVEC else regular(x)[0]),
]  # fmt: skip


def leaves(rng):
    """Two or three arrays: 0-d, empty, of few values, so that they tie, or of many."""
    shapes = [(), (3,), (2, 3), (3, 1), (1,), (2, 1, 3), (0,), (0, 3), (4, 4)]
    odds = [3, 5, 5, 3, 2, 2, 1, 1, 2]
    found = []
    for i in rng.choice(len(shapes), size=rng.integers(2, 4), p=np.array(odds) / sum(odds)):
        values = rng.normal(size=shapes[i])
        found.append(np.round(2 * values) / 2 + 0.3 if rng.random() < 0.2 else values)
    return found


def steps(rng):
    """A program: which form is applied to which values made so far, as choices that both sides read alike."""
    return rng.integers(0, 2**31, size=(rng.integers(2, 7), 5)).tolist()


def run(arrays, program, side):
    """The result of a program on one side, 0 or 1; and what it did, in words."""
    pool, said = list(arrays), []
    for kind, which, first, second, option in program:
        x, y = pool[first % len(pool)], pool[second % len(pool)]
        kinds = (
            ["unary", "binary", "binary"]
            + ["vector", "shape"] * (x.ndim > 0 and 0 not in x.shape)
            + ["matrix"] * (x.ndim > 0 and 0 not in x.shape)
        )
        name = kinds[kind % len(kinds)]
        if name == "binary" and not broadcast(x.shape, y.shape):
            name = "unary"
        forms = {"unary": UNARY, "binary": BINARY, "vector": VECTORS, "shape": SHAPES, "matrix": MATRICES}[name]
        form = forms[which % len(forms)][side]
        more = {"binary": (y,), "vector": (option % max(x.ndim, 1) - (option % 3 == 0) * x.ndim, option % 2 == 0)}.get(
            name, ()
        )
        said.append(f"{name} {which % len(forms)} {tuple(x.shape)} {more[-1] if name == 'vector' else ''}")
        pool.append(form(x, *more))
    return pool[-1] + sum(v.sum() for v in pool[: len(arrays)]), said


def broadcast(a, b):
    return all(n == m or 1 in (n, m) for n, m in zip(a[::-1], b[::-1], strict=False))


def ours(arrays, program, weight, vectors):
    inputs = [mg.Tensor(a, requires_grad=True) for a in arrays]
    result, said = run(inputs, program, 0)
    loss = np.sum(result * weight(result.shape))
    return result.data, mg.grad(loss, inputs), mg.hvp(loss, inputs, vectors), said


def theirs(arrays, program, weight, vectors):
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    result, _ = run(inputs, program, 1)
    loss = torch.sum(result * torch.tensor(weight(tuple(result.shape))))
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    along = sum((g * torch.tensor(v)).sum() for g, v in zip(first, vectors, strict=True))
    second = torch.autograd.grad(along, inputs, allow_unused=True) if along.requires_grad else [None] * len(inputs)
    second = [np.zeros(x.shape) if h is None else h.numpy() for h, x in zip(second, inputs, strict=True)]
    return result.detach().numpy(), [g.detach().numpy() for g in first], second


def differs(seed):
    """What differs in the program of this seed, in words; "" if nothing does; None where it leaves the usual range."""
    rng = np.random.default_rng(seed)
    arrays, program = leaves(rng), steps(rng)
    vectors = [rng.normal(size=a.shape) for a in arrays]
    weight = lambda shape: np.random.default_rng(seed + 1).normal(size=shape)  # noqa: E731
    try:
        expected = theirs(arrays, program, weight, vectors)
    except (IndexError, RuntimeError):  # PyTorch has no such call: an axis of length 0, a shape
        return None
    flat = [np.ravel(part) for part in [expected[0], *expected[1], *expected[2]]]
    if not all(np.isfinite(part).all() and np.abs(part).max(initial=0.0) < 1e5 for part in flat):
        return None
    with np.errstate(all="ignore"):
        *found, said = ours(arrays, program, weight, vectors)
    # A gradient through float32 has seven digits.
    rounding = 1e-5 if any(text.startswith("unary 28") for text in said) else 1e-9
    scale = max(1.0, *(np.abs(part).max(initial=0.0) for part in flat))
    pairs = zip([found[0], *found[1], *found[2]], [expected[0], *expected[1], *expected[2]], strict=True)
    for i, (mine, other) in enumerate(pairs):
        if np.shape(mine) != np.shape(other) or not np.allclose(mine, other, rtol=rounding, atol=rounding * scale):
            return f"seed {seed}, number {i}: {mine} instead of {other}; {said}; {[a.shape for a in arrays]}"
    return ""


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_programs_are_pytorchs(chunk):
    size = PROGRAMS // CHUNKS
    found = [differs(seed) for seed in range(chunk * size, (chunk + 1) * size)]
    assert [text for text in found if text] == []
    assert found.count("") > 0.8 * size


def test_a_wrong_rule_is_found(monkeypatch):
    """The comparison itself can fail, at first and at second order."""
    known = mg.rules.KNOWN[np.tanh]
    for wrong in (lambda g, out, x: g * (1 - out), lambda g, out, x: g * (1 - np.square(getattr(out, "value", out)))):
        monkeypatch.setattr(known, "rules", (wrong,))
        assert any(differs(seed) for seed in range(400))


if __name__ == "__main__":
    count = int(sys.argv[1])
    counts = {"": 0, None: 0}
    for seed in range(count):
        text = differs(seed)
        if text:
            print(text)
        counts[text if text in counts else "differ"] = counts.get(text if text in counts else "differ", 0) + 1
    print(f"{counts['']} agree, {counts.get('differ', 0)} differ, {counts[None]} left the range, of {count}")
