"""Stack: what it answers is what each of its arrays would. (That every rule runs on it: test_rules.py.)"""

import operator

import numpy as np
import pytest

from microgradopt.rules.indexing import scatter
from microgradopt.rules.registry import composite
from microgradopt.rules.stack import Stack

rng = np.random.default_rng(3)
K = 5
CUBES, MATRICES, VECTORS, NUMBERS = (rng.normal(size=(K, *shape)) for shape in [(2, 3, 4), (3, 4), (4,), ()])
MATRIX, VECTOR, COLUMN = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(3, 1))
SPLIT = (np.array([0, 1]), slice(None), np.array([1, 3]))

CALLS = {
    "aligned from the right": (np.add, CUBES, VECTORS),
    "a plain array of fewer axes": (np.multiply, CUBES, VECTOR),
    "a plain array of more axes": (np.subtract, VECTORS, MATRIX.T),
    "numbers": (operator.mul, 2.0, NUMBERS),
    "a NumPy number first": (operator.sub, np.float64(2), MATRICES),
    "comparison": (np.greater, MATRICES, 0.1),
    "logic": (lambda x: (x > 0) & (x < 1), MATRICES),
    "matrix @ plain matrix": (operator.matmul, MATRICES, MATRIX),
    "plain matrix @ matrix": (operator.matmul, MATRIX, MATRICES),
    "matrix @ matrix": (lambda x: x @ x.T, MATRICES),
    "cube @ plain matrix": (operator.matmul, CUBES, MATRIX),
    "plain cube @ matrix": (operator.matmul, CUBES[0], np.swapaxes(MATRICES, 1, 2)),
    "vector @ plain matrix": (operator.matmul, VECTORS, MATRIX),
    "plain matrix @ vector": (operator.matmul, MATRIX.T, VECTORS),
    "vector @ vector": (operator.matmul, VECTORS, VECTOR),
    "vectors @ cube": (operator.matmul, rng.normal(size=(K, 3)), CUBES[0]),
    "sum": (lambda x: x.sum(axis=-1), CUBES),
    "sum of all": (np.sum, CUBES),
    "sum, kept": (lambda x: np.sum(x, axis=(0, 2), keepdims=True), CUBES),
    "mean": (lambda x: np.mean(x, axis=1), CUBES),
    "reshape": (lambda x: x.reshape(4, 6), CUBES),
    "reshape, guessed": (lambda x: np.reshape(x, (-1, 2)), CUBES),
    "ravel": (np.ravel, CUBES),
    "T": (lambda x: x.T, CUBES),
    "mT": (lambda x: x.mT, CUBES),
    "transpose": (lambda x: np.transpose(x, (1, -1, 0)), CUBES),
    "swapaxes": (lambda x: np.swapaxes(x, 0, -1), CUBES),
    "flip": (np.flip, MATRICES),
    "flip one": (lambda x: np.flip(x, -1), CUBES),
    "broadcast_to": (lambda x: np.broadcast_to(x, (3, 2, 4)), VECTORS),
    "broadcast a number": (lambda x: np.broadcast_to(x, (3,)), NUMBERS),
    "where": (lambda x: np.where(MATRIX.T > 0, x, 0), VECTORS),
    "concatenate": (lambda x: np.concatenate([x, x], axis=1), MATRICES),
    "index": (lambda x: x[1], CUBES),
    "slice": (lambda x: x[:, ::2], CUBES),
    "new axis": (lambda x: x[..., None, :], CUBES),
    "mask": (lambda x: x[MATRIX.T > 0], MATRICES),
    "two lists": (lambda x: x[np.array([0, 1]), np.array([2, 0])], CUBES),
    "lists apart": (lambda x: x[SPLIT], CUBES),
    "list after a slice": (lambda x: x[:, np.array([2, 2, 0])], CUBES),
    "number and list apart": (lambda x: x[0, :, np.array([1, 3])], CUBES),
    "scatter": (lambda g: scatter(g, (slice(None), 1), (4, 3)), VECTORS),
    "scatter repeatedly": (lambda g: scatter(g, np.array([1, 1, 0, 2]), (3,)), VECTORS),
    "scatter apart": (lambda g: scatter(g, SPLIT, (2, 3, 4)), rng.normal(size=(K, 2, 3))),
    "not in the table": (lambda x: np.linalg.inv(x[:, :3]), MATRICES),
    "several results": (lambda x: np.linalg.eigh(x[:, :3] + x[:, :3].T)[0], MATRICES),
    "cumsum": (lambda x: np.cumsum(x, 0), MATRICES),
    "tril of a vector": (np.tril, VECTORS),
    "shape": (lambda x: np.ones(np.shape(x)) * x, CUBES),
}


@pytest.mark.parametrize(("f", "args"), [pytest.param(f, args, id=name) for name, (f, *args) in CALLS.items()])
def test_as_each_of_its_arrays(f, args):
    is_stack = [np.shape(a)[:1] == (K,) for a in args]
    result = f(*(Stack(a) if many else a for a, many in zip(args, is_stack, strict=True)))
    for k in range(K):
        expected = f(*(a[k] if many else a for a, many in zip(args, is_stack, strict=True)))
        assert result.shape == expected.shape
        np.testing.assert_allclose(result.data[k], expected, rtol=1e-13, atol=1e-14)


def test_a_composite_that_writes_into_arrays_is_called_on_each():
    @composite(None, lambda g, out, x, n: g)
    def placed(n, x):
        result = np.zeros((n, *x.shape))
        result[0] = x
        return result

    assert placed(2, Stack(VECTORS)).data.shape == (K, 2, 4)


def test_it_is_not_one_array():
    with pytest.raises(TypeError, match="many arrays"):
        np.asarray(Stack(VECTORS))
