"""Stacks, asked forward: whatever one array can be asked, k at once answer as each would. The oracle is a loop."""

import itertools
import operator
import warnings

import numpy as np
import pytest
from cases import CASES

from microgradopt.rules.indexing import scatter
from microgradopt.rules.stack import Stack

K = 3
rng = np.random.default_rng(8)


class Many:
    """K arrays, to be given as a Stack, and one by one."""

    def __init__(self, data):
        self.data = np.asarray(data)


def many(*shape):
    return Many(rng.normal(size=(K, *shape)))


def places(n, *shape):
    return Many(rng.integers(0, n, size=(K, *shape)))


def as_each(f, *args):
    """Compare a call on stacks with the calls on each of their arrays. None where NumPy itself refuses."""
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        try:
            expected = [np.asarray(f(*(a.data[k].copy() if type(a) is Many else a for a in args))) for k in range(K)]
        except (ValueError, IndexError, TypeError):
            return None
        found = f(*(Stack(a.data.copy()) if type(a) is Many else a for a in args))
    if type(found) is not Stack:  # the same for all, as a shape is
        return all(np.array_equal(found, x) for x in expected)
    return (
        found.shape == expected[0].shape
        and found.dtype == expected[0].dtype
        and np.allclose(found.data, np.stack(expected), rtol=1e-12, atol=1e-13, equal_nan=True)
    )


FOR_ARRAYS_ALONE = {"full", "full_like"}  # NumPy does not ask what they fill with


@pytest.mark.parametrize("name", sorted(CASES.keys() - FOR_ARRAYS_ALONE))
def test_every_function_with_a_rule(name):
    for f, args in CASES[name]:
        for which in itertools.product((False, True), repeat=len(args)):
            stacks = [
                Many(np.stack([np.roll(a, k) * (1 + 0.01 * k) for k in range(K)])) if w else a
                for a, w in zip(map(np.asarray, args), which, strict=True)
            ]
            assert not any(which) or as_each(f, *stacks) in (True, None), (which, [np.shape(a) for a in args])


SHAPES = [(), (1,), (3,), (2, 3), (2, 1), (1, 3), (4, 2, 3), (4, 1, 1), (K,), (K, K)]
PAIRS = {
    "add": operator.add, "power": operator.pow, "ufunc": np.maximum, "compare": operator.lt, "modulo": operator.mod,
    "where": lambda x, y: np.where(x > 0, x, y), "clip": lambda x, y: np.clip(x, -0.5, y),
    "clip by name": lambda x, y: np.clip(x, min=y), "stack": lambda x, y: np.stack([x, y], axis=-1),
    "concatenate all": lambda x, y: np.concatenate([x, y], axis=None), "vdot": np.vdot,
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_shapes(name):
    for a, b, (x, y) in itertools.product(SHAPES, SHAPES, [(many, many), (many, None), (None, many)]):
        if name == "vdot" and a != b:
            continue
        args = [make(*s) if make else rng.normal(size=s) for make, s in ((x, a), (y, b))]
        assert as_each(PAIRS[name], *args) in (True, None), (a, b, x, y)


def test_products_of_all_ranks():
    shapes = [(3,), (1,), (2, 3), (3, 2), (3, 3), (1, 3), (3, 1), (4, 2, 3), (4, 3, 2), (5, 1, 2, 3), (0, 3), (3, 0)]
    for f, a, b in itertools.product([operator.matmul, np.dot], shapes, shapes):
        for x, y in [(many, many), (many, None), (None, many)]:
            args = [make(*s) if make else rng.normal(size=s) for make, s in ((x, a), (y, b))]
            assert as_each(f, *args) in (True, None), (f, a, b, x, y)


CUBE = many(2, 3, 4)
ASKED = {
    **{
        f"{f} over {axis}, {keepdims}": lambda x, f=f, a=axis, k=keepdims: getattr(np, f)(x, axis=a, keepdims=k)
        for f in ("sum", "mean", "prod", "max", "min", "all", "any", "var", "std")
        for axis in (None, 0, -1, (0, 2), (0, 1, 2), ())
        for keepdims in (False, True)
    },
    **{
        f"{f} of {axis}, {keepdims}": lambda x, f=f, a=axis, k=keepdims: getattr(x, f)(axis=a, keepdims=k)
        for f in ("argmax", "argmin", "sum", "max")
        for axis in (None, 0, -1)
        for keepdims in (False, True)
    },
    "sum told a dtype": lambda x: x.sum(0, np.float32),
    "max from": lambda x: np.max(x, axis=1, initial=0.1),
    "sum where": lambda x: np.sum(x, where=np.arange(4) > 1),
    "sum where each has its own": lambda x: np.sum(x, where=x > 0),
    "mean where each has its own": lambda x: np.mean(x, axis=1, where=x > -9),
    "variance about a mean": lambda x: np.var(x, mean=np.mean(x, keepdims=True)),
    "cumsum of all": lambda x: np.cumsum(x, dtype=np.float32),
    "Fortran's order": lambda x: np.reshape(x, (4, 6), order="F") + x.reshape(4, 6, order="F"),
    "swapaxes by name": lambda x: np.swapaxes(x, axis1=0, axis2=0) + np.swapaxes(x, 2, -1),
    "size of an axis": lambda x: np.size(x, 1),
    "zeros of a shape": lambda x: np.zeros_like(x, shape=3),
    "reduce": lambda x: np.add.reduce(x, axis=(0, 1)),
    "outer": lambda x: np.multiply.outer(x[0, 0], x[1, 1]),
    "accumulate": lambda x: np.add.accumulate(x, axis=1),
    "several results": lambda x: np.divmod(x, 0.3)[1] + np.modf(x)[0],
    "named results": lambda x: np.linalg.eigh(x[0, :, :3] @ x[0, :, :3].T).eigenvalues,
    "one after the other": lambda x: np.stack(list(x)),
    "weights": lambda x: np.average(np.ones(4), weights=x[0, 0] ** 2),
}


@pytest.mark.parametrize("name", ASKED)
def test_asked_in_every_way(name):
    assert as_each(ASKED[name], CUBE) is True


@pytest.mark.parametrize("f", [np.cumsum, np.argmax, np.argmin, np.sum, np.ravel, np.transpose])
def test_single_numbers(f):
    assert as_each(f, many())
    assert f not in (np.cumsum, np.argmax, np.argmin) or as_each(lambda x: f(x, axis=0), many())


@pytest.mark.parametrize("f", [operator.iadd, operator.imul, operator.ipow, operator.itruediv])
def test_in_place(f):
    def changed(x, y):
        x = np.copy(x)
        alias = x
        x = f(x, y)
        return np.stack([x, alias])

    for y in (many(2, 3, 4), many(4), many(), rng.normal(size=(3, 4)), 2.0):
        assert as_each(changed, Many(np.abs(CUBE.data)), y)


def test_float32_stays():
    x = Many(rng.normal(size=(K, 3)).astype(np.float32))
    for f in (lambda x: x * 2.0, lambda x: x**2, lambda x: np.where(x > 0, x, 0.0), np.mean, lambda x: x.sum() * 2.5):
        assert as_each(f, x)
        assert as_each(lambda x, f=f: f(x[0] * x), x)


A = np.array
MASK = rng.normal(size=(2, 3)) > 0
INDICES = [
    0, -1, slice(1, None), slice(None, None, -1), ..., None, (0, 1), (0, 1, 2), (slice(None), 1), (..., 1), (None, 0), (0, None),
    [0, 1], A([1, 0, 1]), A([[0, 1], [1, 0]]), (A([0, 1]), A([1, 2])), (slice(None), A([0, 1]), A([1, 3])), (A([1, 0]), 0),
    (0, A([1, 0])), (None, A([0, 1])), (A([0, 1]), None), MASK, (MASK, 1), (slice(None), A([True, False, True])), A(1), (A(1), A(0)),
    np.int64(1), True, False, A([], int), ([[0], [1]], [0, 2, 2]), (A([[0], [1]]), A([0, 1, 2])), (0, A([0, 1]), 0), (0, 0, A([0, 1])),
    (slice(None), 0, A([0, 1])), ((0, 1),),
]  # fmt: skip
APART = [
    (A([0, 1]), slice(None), A([1, 3])), (0, slice(None), A([1, 3])), (A([0, 1]), ..., 0), (A([0, 1]), None, A([0, 1])),
    ([1, 0], slice(None), 0), (None, A([0, 1]), None, A([0, 1])), (A(1), slice(None), A(0)),
]  # fmt: skip


def put(x, index, value):
    x = np.copy(x)
    x[index] = value
    return x


def added_at(x, index, value):
    x = np.copy(x)
    np.add.at(x, index, value)
    return x


def added(x, index, value):
    x = np.copy(x)
    x[index] += value
    return x


@pytest.mark.parametrize("index", [*INDICES, *APART], ids=repr)
def test_read_by_index(index):
    assert as_each(lambda x: x[index], CUBE)
    assert as_each(lambda g: scatter(g, index, (2, 3, 4)), many(*np.zeros((2, 3, 4))[index].shape))


@pytest.mark.parametrize("index", INDICES, ids=repr)
@pytest.mark.parametrize("write", [put, added_at, added])
def test_written_by_index(write, index):
    shape = np.zeros((2, 3, 4))[index].shape
    for value in (2.5, rng.normal(size=shape), many(*shape), many(), many(*shape[-1:]), rng.normal(size=shape[-1:])):
        assert as_each(lambda x, value: write(x, index, value), CUBE, value)


@pytest.mark.parametrize("index", APART, ids=repr)
def test_writes_that_are_refused(index):
    with pytest.raises(TypeError, match="slices"):
        put(Stack(CUBE.data), index, 1.0)


OF_EACH = {
    "one": (lambda i: i, places(2)), "row": (lambda i: i, places(2, 5)), "table": (lambda i: i, places(2, 5, 2)),
    "two": (lambda i, j: (i, j), places(2, 5), places(3, 5)), "a plain one": (lambda i, j: (i, j), A([0, 1, 1]), places(3, 3)),
    "stretched": (lambda i, j: (i, j), A([[0], [1]]), places(3, 5)), "both": (lambda i, j: (i, j), places(2, 2, 1), places(3, 5)),
    "three": (lambda i, j, k: (i, j, k), places(2, 5), places(3, 5), places(4, 5)), "as many as arrays": (lambda i, j: (i, j), A([0, 1, 0]), places(3, K)),
}  # fmt: skip
BESIDE = [
    lambda i: (i, 0),
    lambda i: (slice(None), i),
    lambda i: (..., i),
    lambda i: (i, None),
    lambda i: (i, slice(1, 2)),
]


@pytest.mark.parametrize("name", OF_EACH)
def test_indices_that_differ(name):
    index, *parts = OF_EACH[name]
    assert as_each(lambda x, *p: x[index(*p)], CUBE, *parts)
    shape = np.zeros((2, 3, 4))[index(*(p.data[0] if type(p) is Many else p for p in parts))].shape
    for write, value in itertools.product((put, added_at), (1.5, many(), rng.normal(size=shape), many(*shape))):
        assert as_each(lambda x, v, *p, write=write: write(x, index(*p), v), CUBE, value, *parts)
    for g in (many(*shape), rng.normal(size=shape)):
        assert as_each(lambda g, *p: scatter(g, index(*p), (2, 3, 4)), g, *parts)


@pytest.mark.parametrize("index", BESIDE)
def test_indices_that_differ_beside_slices(index):
    assert as_each(lambda x, i: x[index(i)], CUBE, places(2, 5))
    with pytest.raises(TypeError, match="slices"):
        put(Stack(CUBE.data), index(Stack(np.zeros((K, 5), int))), 1.0)


def test_what_has_one_answer_for_all_is_refused():
    x = Stack(np.ones((K, 3)))
    for f in (bool, np.asarray, lambda x: np.copyto(np.zeros(3), x), lambda x: np.add(x, 1.0, out=np.zeros((K, 3)))):
        with pytest.raises(TypeError, match="Stack"):
            f(x)
    with pytest.raises(np.exceptions.AxisError):
        np.sum(x, axis=1)
