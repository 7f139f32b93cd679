"""Random programs: compiled, printed and run as they are, bit for bit; values, gradients, products with the Hessian.

``pytest tests/program/test_random_compiled.py --programs 50000`` tries as many.
"""

import numpy as np
import pytest

import microgradopt as mg

pytest.importorskip("torch", reason="the generator of forms has PyTorch's side too")
from test_random_programs import leaves, run, steps

CHUNKS = 8


# What programs of one form after the other seldom have: two stretched operands, axis=None, shapes (1,), views.
def grown(x):
    return x.reshape((1, *x.shape))


ENDS = [
    lambda x, y: grown(x) * grown(x),
    lambda x, y: np.broadcast_to(x, (2, *x.shape)) * np.broadcast_to(x * 2.0, (2, *x.shape)),
    lambda x, y: (grown(x) - grown(np.cos(x))).sum(axis=0),
    lambda x, y: np.broadcast_to(y.sum().reshape(1), (1,)) + 1.0,
    lambda x, y: np.concatenate([x, x], axis=None).sum(axis=0),
    lambda x, y: np.add.reduce(x, axis=None) * y,
    lambda x, y: np.sum(x, axis=None, keepdims=True) * x,
    lambda x, y: np.sum(grown(x).T * grown(x).T, axis=0),
    lambda x, y: np.maximum(grown(x), grown(x * 0.5)).T,
    lambda x, y: np.where(x > 0, grown(x), grown(-x)),
    lambda x, y: np.sum(x, initial=2.0) + np.max(x, initial=0.5),
    lambda x, y: x.T[..., ::-1] * 3.0,
    lambda x, y: np.stack([x, np.sin(x)]).sum(axis=0) + x.ravel()[-1],
    lambda x, y: np.sqrt(np.square(x).sum(keepdims=True) + 1.0) / (np.square(y).sum() + 1.0),
]


def function_of(program, end):
    def f(*xs):
        made, _ = run(xs, program, 0)
        result = ENDS[end](made, xs[0]) if made.size else made
        loss = np.sum(result * 0.5)
        return result, mg.grad(loss, xs, allow_unused=True), mg.hvp(loss, xs, [np.cos(x.data) for x in xs])

    return f


def bits(x):
    if isinstance(x, tuple | list):
        return [bits(part) for part in x]
    x = np.asarray(getattr(x, "data", x))
    return x.shape, str(x.dtype), x.tobytes()


def differs(seed):
    """What differs in the program of this seed; "" if nothing does; None where it cannot be a program, or run."""
    rng = np.random.default_rng([seed, 1])
    arrays, program = leaves(rng), steps(rng)
    f = function_of(program, int(rng.integers(len(ENDS))))
    moments = [[mg.Tensor(a * scale, requires_grad=True) for a in arrays] for scale in (1.0, 0.75)]
    with np.errstate(all="ignore"):
        try:
            expected = [bits(f(*xs)) for xs in moments]
        except (IndexError, ValueError, RuntimeError, mg.NotDifferentiableError):
            return None
        try:
            compiled = mg.compile(f, check="never")
            found = [bits(compiled(*xs)) for xs in moments]
            text = mg.source(f, *moments[0])
        except mg.TracingError:
            return None
        names = {}
        exec(str(text), names)
        printed = bits(names[text.name](**text.inputs))
    if found != expected:
        return f"seed {seed}: compiled"
    return "" if printed == expected[0] else f"seed {seed}: printed"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_compiled_printed_and_eager_are_the_same(chunk, pytestconfig):
    size = pytestconfig.getoption("--programs") // CHUNKS
    found = [differs(seed) for seed in range(chunk * size, (chunk + 1) * size)]
    assert not [text for text in found if text]
    assert sum(text == "" for text in found) > size / 2
