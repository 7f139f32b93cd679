"""Selection, joining and rearranging: indices of every kind, lists that mix tensors and arrays, unusual spellings."""

import numpy as np
import pytest
from cases import CUBE, apart, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import microgradopt as mg
from microgradopt import Tensor


def leaf(values):
    return Tensor(values, requires_grad=True)


def parts(answer):
    return list(answer) if isinstance(answer, tuple | list) else [answer]


def agrees(f, *arrays):
    """f of tensors is f of the arrays, and its derivatives are right, for each of its results."""
    results, expected = parts(f(*[leaf(a) for a in arrays])), parts(f(*arrays))
    assert len(results) == len(expected)
    for i, (mine, theirs) in enumerate(zip(results, expected, strict=True)):
        np.testing.assert_allclose(mine.data, theirs, rtol=1e-13)
        mg.gradcheck(lambda *a, i=i: parts(f(*a))[i] ** 2, [leaf(a) for a in arrays], order=2)


@st.composite
def indices(draw):
    """A shape, and an index that mixes integers, slices, new axes, an ellipsis, masks and arrays of integers."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    length = draw(st.integers(1, 3))  # of all arrays in the index: they are broadcast together
    index, axis = [], 0
    while axis < len(shape):
        n = shape[axis]
        kind = draw(st.sampled_from(["slice", "int", "array", "list", "column", "new", "mask"]))
        within = st.integers(-n, n - 1)
        if kind == "new":
            index.append(None)
            continue
        axis += 1
        if kind == "slice":
            index.append(draw(st.slices(n)))
        elif kind == "int":
            index.append(draw(within))
        elif kind == "mask":  # exactly as many as the arrays are long, or one
            places = draw(st.permutations(range(n)))[: length if length <= n else 1]
            index.append(np.isin(np.arange(n), places))
        else:
            values = draw(st.lists(within, min_size=length, max_size=length))
            index.append({"list": values, "array": np.array(values), "column": np.array(values)[:, None]}[kind])
    if draw(st.booleans()):
        index = [*index[: draw(st.integers(0, len(index)))], ...]
    return shape, tuple(index)


@settings(max_examples=60)
@given(indices())
def test_any_index(case):
    shape, index = case
    values = np.random.default_rng(0).normal(size=shape)
    agrees(lambda x: x[index], values)


@settings(max_examples=60)
@given(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3), st.data())
def test_masks_over_several_axes(shape, data):
    mask = data.draw(hnp.arrays(bool, shape[: data.draw(st.integers(1, len(shape)))]))
    agrees(lambda x: x[mask], np.random.default_rng(0).normal(size=shape))


@pytest.mark.parametrize(
    "index",
    [True, False, np.True_, (0, True), [True, False], [[True, False, True], [False, True, True]], (), [], np.int8(1)],
    ids=repr,
)
def test_indices_that_look_like_others(index):
    """A boolean is a mask and not a position; a list of booleans too."""
    agrees(lambda x: x[index], CUBE)


def test_a_position_read_twice_counts_twice():
    x = leaf([1.0, 2.0, 3.0])
    assert mg.grad(np.sum(x[[0, 0, -3, 2]]), x)[0].tolist() == [3.0, 0.0, 1.0]
    assert mg.grad(np.sum(x[np.array([[0, 1], [1, 1]])]), x)[0].tolist() == [1.0, 3.0, 0.0]
    assert mg.grad(np.sum(np.take(x, [2, 2])), x)[0].tolist() == [0.0, 0.0, 2.0]
    assert mg.grad(np.sum(np.repeat(x, [2, 0, 3])), x)[0].tolist() == [2.0, 0.0, 3.0]


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("f", [np.sort, np.partition, np.take, np.compress, np.repeat, np.take_along_axis])
def test_selection_along_an_axis(f, axis):
    x = apart(3, 2, 4)
    more = {np.partition: (0,), np.take: ([[1, -1]],), np.repeat: (2,)}
    if f is np.compress:
        agrees(lambda x: f([False, True], x, axis=axis), x)
    elif f is np.take_along_axis:
        agrees(lambda x: f(x, np.argsort(-x, axis=axis), axis), x)
    elif f is np.partition:  # of which only the first is in a known order
        agrees(lambda x: np.min(np.take(f(x, 0, axis=axis), 0, axis=axis)), x)
        assert set(f(leaf(x), 1, axis=axis).data.ravel()) == set(x.ravel())
    else:
        agrees(lambda x: f(x, *more.get(f, ()), axis=axis), x)


def test_sorting_ties():
    """Whichever of two equal numbers comes first takes that place's gradient: a stable sort keeps their order."""
    x = leaf([2.0, 1.0, 2.0, 1.0])
    weight = np.array([1.0, 10.0, 100.0, 1000.0])
    assert mg.grad(np.sum(np.sort(x, stable=True) * weight), x)[0].tolist() == [100.0, 1.0, 1000.0, 10.0]


SPELLINGS = {
    "take: booleans": lambda x: np.take(x, [True, False], axis=0),
    "take: nothing": lambda x: np.take(x, [], axis=1),
    "take: one": lambda x: np.take(x, np.int64(-1), axis=1),
    "take_along_axis: broadcast": lambda x: np.take_along_axis(x, np.array([[[0, 1, 1, 0]]]), 1),
    "roll: lists": lambda x: np.roll(x, [1, 2], [0, 1]),
    "roll: arrays": lambda x: np.roll(x, np.array([1, -2]), (0, 1)),
    "roll: one for two": lambda x: np.roll(x, 1, (0, 1)),
    "array_split: int64": lambda x: np.array_split(x, np.int64(3), -1),
    "split: int64": lambda x: np.split(x, np.int64(3), 1),
    "split: array": lambda x: np.split(x, np.array([1, 2]), 1),
    "split: from the end": lambda x: np.array_split(x, [-1], 1),
    "split: beyond": lambda x: np.array_split(x, [1, 9], 1),
    "tile: int64": lambda x: np.tile(x, np.int64(2)),
    "tile: array": lambda x: np.tile(x, np.array([1, 2])),
    "tile: none": lambda x: np.tile(x, 0),
    "tile: as it is": lambda x: np.tile(x, ()),
    "repeat: number": lambda x: np.repeat(x[0, 0, 0], 3),
    "repeat: list of one": lambda x: np.repeat(x, [2], axis=1),
    "tril: vector": lambda x: np.tril(x[0, 0], -1),
    "triu: vector": lambda x: np.triu(x[0, 0]),
    "triu: batch": lambda x: np.triu(x, -1),
    "diag: nothing": lambda x: np.diag(x[0, 0, :0], 1) + np.sum(x),
    "diag: below": lambda x: np.diag(x[0, 0], -2),
    "diag: of a matrix": lambda x: np.diag(x[0], 1),
    "diagonal: backwards": lambda x: np.diagonal(x, -1, -1, 0),
    "pad: constants": lambda x: np.pad(x, 1, constant_values=((1, 2), (3, 4), (5, 6))),
    "pad: one pair": lambda x: np.pad(x, ((1, 2),)),
    "pad: nothing": lambda x: np.pad(x[:, :0], 1, constant_values=2.0),
    "pad: again and again": lambda x: np.pad(x, 7, mode="wrap"),
    "pad: to and fro": lambda x: np.pad(x, 9, mode="reflect"),
    "gradient: spacings": lambda x: np.gradient(x, 2.0, [0, 1, 3], 0.5),
    "gradient: axes": lambda x: np.gradient(x, axis=(-1, 0)),
    "gradient: edges": lambda x: np.gradient(x, 0.1, axis=1, edge_order=2),
    "diff: to nothing": lambda x: np.diff(x, 9),
    "diff: none": lambda x: np.diff(x, 0),
    "meshgrid: three": lambda x: np.meshgrid(x[0, 0], x[0, 1, :2], x[1, 0, :3]),
    "meshgrid: number": lambda x: np.meshgrid(x[0, 0], x[0, 0, 0]),
    "meshgrid: one": lambda x: np.meshgrid(x[0, 0]),
    "rollaxis: from the end": lambda x: np.rollaxis(x, -1, -2),
    "moveaxis: lists": lambda x: np.moveaxis(x, [0, 1], [-1, -2]),
    "transpose: from the end": lambda x: np.transpose(x, [-1, 0, -2]),
    "broadcast_to: number": lambda x: np.broadcast_to(x[0, 0, 0], 3),
    "squeeze: axes": lambda x: np.squeeze(x[:1, :, :1], (0, -1)),
    "astype": lambda x: x.astype(np.float64),
}  # fmt: skip
if hasattr(np, "unstack"):  # since NumPy 2.1
    SPELLINGS["unstack: last"] = lambda x: np.unstack(x, axis=-1)


@pytest.mark.parametrize("f", list(SPELLINGS.values()), ids=list(SPELLINGS))
def test_every_spelling_numpy_takes(f):
    agrees(f, CUBE)


JOINS = {
    "concatenate": lambda x, y, c: np.concatenate([x, c, y], axis=-1),
    "concatenate: tuple": lambda x, y, c: np.concatenate((c, x, x, y)),
    "concatenate: flat": lambda x, y, c: np.concatenate([x, 3.0, c[0], y[0, 0]], axis=None),
    "concatenate: lists": lambda x, y, c: np.concatenate([x, [[1.0, 2.0, 3.0]], y], axis=0),
    "stack": lambda x, y, c: np.stack([c, x, y], axis=1),
    "stack: last": lambda x, y, c: np.stack((x, c, y, x), axis=-1),
    "stack: numbers": lambda x, y, c: np.stack([x[0, 0], 2.0, y[1, 1]]),
    "vstack": lambda x, y, c: np.vstack([x, c[0], y]),
    "hstack": lambda x, y, c: np.hstack([x, c, y]),
    "hstack: numbers": lambda x, y, c: np.hstack([x[0, 0], c[0], 1.0, y[0]]),
    "dstack": lambda x, y, c: np.dstack([x, c, y]),
    "column_stack": lambda x, y, c: np.column_stack([x[:, 0], c, y]),
    "append": lambda x, y, c: np.append(x, c),
    "append: list": lambda x, y, c: np.append(x, [1.0, 2.0]) * np.sum(y),
    "append: axis": lambda x, y, c: np.append(c, y, axis=1) * np.sum(x),
    "block": lambda x, y, c: np.block([[x, c], [c, y]]),
    "block: depth": lambda x, y, c: np.block([[[x]], [[y]]]) + np.sum(c),
    "block: numbers": lambda x, y, c: np.block([x[0, 0], 2.0, y[1]]),
    "broadcast_arrays": lambda x, y, c: np.broadcast_arrays(x, y[:, :1])[1] * c,
    "atleast": lambda x, y, c: np.atleast_3d(x, y[0])[1] * np.sum(x),
}


@pytest.mark.parametrize("join", list(JOINS.values()), ids=list(JOINS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_joining_tensors_with_arrays(join, dtype):
    x, y, c = normal(2, 3), normal(2, 3), normal(2, 3)
    agrees(lambda x, y: join(x, y, c), x, y)
    if dtype == np.float32:
        assert (
            join(Tensor(x, dtype), Tensor(y, dtype), c.astype(dtype)).dtype
            == join(x.astype(dtype), y.astype(dtype), c.astype(dtype)).dtype
        )


@pytest.mark.parametrize("f", [np.concatenate, np.stack, np.vstack, np.hstack, np.dstack, np.column_stack, np.block])
def test_one_tensor_stands_for_the_list_of_its_rows(f):
    agrees(f, CUBE)


@pytest.mark.parametrize("axis", [1, -1, None])
def test_one_tensor_concatenated(axis):
    agrees(lambda x: np.concatenate(x, axis=axis), CUBE)


def test_no_part_shares_memory_with_another():
    """x joined with itself: each of its gradients is the sum of two pieces, and no view of either."""
    x = leaf(normal(3))
    weight = np.arange(6.0)
    (g,) = mg.grad(np.sum(np.concatenate([x, x]) * weight), x)
    np.testing.assert_array_equal(g, weight[:3] + weight[3:])
    g += 1  # it is ours


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.concatenate([x, x]), lambda x: np.stack([x, x], -1), lambda x: np.repeat(x, 2, axis=0), lambda x: np.tile(x, 2),
        lambda x: np.roll(x, 1), lambda x: np.diff(x, axis=0), lambda x: np.pad(x, 1), lambda x: np.expand_dims(x, 0), lambda x: x[..., None],
        lambda x: np.take(x, [], axis=0), lambda x: np.flip(x), lambda x: np.broadcast_to(x, (2, *x.shape)), lambda x: x[x > 0],
    ],
)  # fmt: skip
def test_nothing_to_move(f, shape):
    if shape[0] == 2 and f(np.empty(shape)).shape == (1, 0, 3):
        shape = (0, 2, 3)
    x = leaf(np.empty(shape))
    result = f(x)
    np.testing.assert_array_equal(result.data, f(np.empty(shape)))
    assert mg.grad(result, x, np.ones(result.shape))[0].shape == shape


@pytest.mark.parametrize("index", [0, (slice(None), [0, 0, 1]), CUBE > 0])
def test_scatter_is_indexing_backwards(index):
    agrees(lambda g: mg.rules.indexing.scatter(g, index, CUBE.shape), CUBE[index])
