"""Random programs: functions of arrays, built from numbers that Hypothesis draws."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import microgradopt as mg
from microgradopt import nn

UNARY = [
    np.tanh, np.sin, np.square, np.abs, np.negative, nn.functional.sigmoid, nn.functional.relu, nn.functional.softplus,
    nn.functional.silu, nn.functional.gelu, lambda x: np.exp(-x * x), lambda x: np.sqrt(1 + x * x), lambda x: x.T,
    lambda x: x.reshape(-1), lambda x: x.reshape(x.shape[::-1]), lambda x: np.broadcast_to(x, (2, *x.shape)).sum(axis=0),
    lambda x: x - x.mean(axis=-1, keepdims=True), lambda x: x / (1 + x.sum(axis=0) ** 2), lambda x: np.flip(x, 0),
    lambda x: x[::-1], lambda x: x[..., :1] * x, lambda x: x[np.arange(len(x)) % 2], lambda x: mg.softmax(x, -1),
    lambda x: mg.log_softmax(x, -1), lambda x: mg.logsumexp(x, axis=-1, keepdims=True) + x, lambda x: np.cumsum(x, axis=0),
    lambda x: np.max(x, axis=0) * x, lambda x: np.std(x) * x, lambda x: np.linalg.norm(x) * x, lambda x: np.sort(x, axis=-1),
    lambda x: np.pad(x, 1)[(slice(1, -1),) * x.ndim], lambda x: np.clip(x, -0.5, 0.5) + 0.1 * x, lambda x: x**3,
    lambda x: np.prod(x[:2], axis=0) + x, lambda x: nn.functional.standardize(x, (-1,), 1e-5),
]  # fmt: skip
BINARY = [
    lambda x, y: x + y, lambda x, y: x - 2 * y, lambda x, y: x * y, lambda x, y: x / (1 + y * y),
    lambda x, y: np.maximum(x, y), lambda x, y: np.where(y > 0, x, 0.5 * y), lambda x, y: np.logaddexp(x, y),
    lambda x, y: np.concatenate([x, y])[: len(x)], lambda x, y: np.stack([x, y]).mean(axis=0),
    lambda x, y: x + y.sum(), lambda x, y: np.hypot(x, y + 1), lambda x, y: x * y[:1], lambda x, y: y + x,
    lambda x, y: np.arctan2(x, 2 + y * y),
]  # fmt: skip

steps = st.lists(
    st.tuples(st.booleans(), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)),
    min_size=1,
    max_size=8,
)


def program(choices):
    """A scalar function of two matrices, (3, 4) and (4, 4), after the numbers chosen."""

    def function(x, w):
        values = [x, w, np.tanh(x @ w)]
        for is_binary, which, i, j in choices:
            a = values[i % len(values)]
            if is_binary:
                same = [v for v in values if v.shape == a.shape]
                values.append(BINARY[which % len(BINARY)](a, same[j % len(same)]))
            else:
                values.append(UNARY[which % len(UNARY)](a))
        return sum((np.tanh(v) * (k + 1)).mean() for k, v in enumerate(values))

    return function


def data(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, 4)).astype(dtype), rng.normal(size=(4, 4)).astype(dtype)


def equal(a, b) -> bool:
    """The same structure of the same bits."""
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    a, b = (x.data if isinstance(x, mg.Tensor) else np.asarray(x) for x in (a, b))
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    both_nan = (a != a) & (b != b)  # whose sign means nothing
    return np.where(both_nan, 0, a).tobytes() == np.where(both_nan, 0, b).tobytes()
