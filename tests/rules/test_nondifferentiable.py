"""What has no derivative says so at the call, and what NumPy refuses is refused, with a gradient on as without."""

import inspect

import numpy as np
import pytest
from cases import CUBE

from microgradopt import NotDifferentiableError, Tensor
from microgradopt.rules.registry import KNOWN, name_of

SQUARE = CUBE[0, :, :3]
LINE = CUBE[0, 0]
LISTS = {"arrays", "tup", "condlist", "choicelist"}
UFUNC_ARGUMENTS = ["where", "casting", "order", "dtype", "subok"]


def leaf(array):
    return Tensor(array, requires_grad=True)


def parameters(function):
    try:
        return inspect.signature(function).parameters
    except ValueError:  # functions written in C have one from NumPy 2.4 on
        return {}


NUMPYS = [
    f for f, known in KNOWN.items()
    if not known.is_question and (isinstance(f, np.ufunc) or f.__module__.startswith("numpy"))
]  # fmt: skip
WRITTEN_IN_PYTHON = [f for f in NUMPYS if not isinstance(f, np.ufunc) and parameters(f)]


def unknown_arguments():
    """For every function, every argument that NumPy knows and its rule does not."""
    for f in NUMPYS:
        if f is np.full:  # NumPy hands it over only where like= says so
            continue
        known = KNOWN[f].arguments.names
        if isinstance(f, np.ufunc):
            names = UFUNC_ARGUMENTS[f.signature is not None :]
        else:
            names = [n for n, p in parameters(f).items() if p.kind in (1, 3)]
        yield from (
            pytest.param(f, name, id=f"{name_of(f)}-{name}") for name in names if name not in {*known, "newshape"}
        )


@pytest.mark.parametrize(("f", "unknown"), list(unknown_arguments()))
def test_an_argument_that_the_rule_does_not_know_is_named(f, unknown):
    x = leaf(np.ones((2, 2)))
    if isinstance(f, np.ufunc):
        args = (x,) * f.nin
    else:
        required = [n for n, p in parameters(f).items() if p.default is p.empty and p.kind in (0, 1)]
        args = [[x] if name in LISTS else x for name in required] or [x]
    value = {
        "out": np.empty((2, 2)),
        "casting": "same_kind",
        "order": "C",
        "dtype": np.float64,
        "where": np.array(True),
    }
    with pytest.raises(NotDifferentiableError, match=f"{name_of(f)}: .*{unknown}"):
        f(*args, **{unknown: value.get(unknown, True)})


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.3.0", reason="names and defaults are those of NumPy 2.3 on"
)
@pytest.mark.parametrize("f", WRITTEN_IN_PYTHON, ids=name_of)
def test_arguments_are_numpys(f):
    """The same names in the same places with the same defaults: a call means to the rule what it means to NumPy."""
    theirs, known = parameters(f), KNOWN[f].arguments
    body = KNOWN[f].body or next(rule for rule in KNOWN[f].rules if rule is not None)
    ours = inspect.signature(body).parameters
    by_name = [name for name in known.names if name in theirs and theirs[name].kind in (1, 3)]
    for name in by_name:
        default = theirs[name].default
        assert default is np._NoValue or ours[name].default == default or default is ours[name].default
    places = [name for name, p in theirs.items() if p.kind == 1]
    first = sum(p.kind == 0 for p in theirs.values())
    if known.positional < len(known.names) + 1:
        assert [n for n in known.names[first : int(known.positional)] if n in places] == places[
            : known.positional - first
        ]


# NumPy answers most of these from the shapes; a body that computes with them has to look.
REFUSED = {
    "prod: axis": lambda x: np.prod(x, axis=5),
    "prod: axes": lambda x: np.prod(x, axis=(0, 0)),
    "cumprod": lambda x: np.cumprod(x, axis=5),
    "average: axis": lambda x: np.average(x, axis=5, weights=[1.0, 2.0, 3.0]),
    "average: weights": lambda x: np.average(x, axis=1, weights=[1.0, 2.0]),
    "average: no axis": lambda x: np.average(x[:, :, 0], weights=np.ones(6)),
    "average: weights that sum to 0": lambda x: np.average(x, axis=1, weights=[1.0, 1.0, -2.0]),
    "average: axes": lambda x: np.average(x, axis=(1, 0), weights=np.ones((2, 3))),
    "trace": lambda x: np.trace(x[0, 0]),
    "norm: axis": lambda x: np.linalg.norm(x, axis=5),
    "norm: 1, axis": lambda x: np.linalg.norm(x, 1, axis=5),
    "norm: axes": lambda x: np.linalg.norm(x, "nuc", axis=(1, 1)),
    "norm: three axes": lambda x: np.linalg.norm(x, axis=(0, 1, 2)),
    "norm: 2 of a cube": lambda x: np.linalg.norm(x, 2),
    "norm: fro of a vector": lambda x: np.linalg.norm(x[0, 0], "fro"),
    "norm: word": lambda x: np.linalg.norm(x, "foo", axis=1),
    "norm: 3 of a matrix": lambda x: np.linalg.norm(x[0], 3),
    "vector_norm: axis": lambda x: np.linalg.vector_norm(x, axis=5),
    "vector_norm: axes": lambda x: np.linalg.vector_norm(x, axis=(0, 0)),
    "matrix_norm": lambda x: np.linalg.matrix_norm(x[0, 0]),
    "take: axis": lambda x: np.take(x, [0], axis=5),
    "take: place": lambda x: np.take(x, 24),
    "take_along_axis: dimensions": lambda x: np.take_along_axis(x, np.array([0, 1]), 1),
    "take_along_axis: dimensions, one place": lambda x: np.take_along_axis(x, np.array([0]), 1),
    "take_along_axis: axis": lambda x: np.take_along_axis(x, np.zeros((2, 3, 4), int), 5),
    "compress: matrix": lambda x: np.compress([[1, 0], [1, 0]], x, axis=1),
    "compress: axis": lambda x: np.compress([1], x, axis=5),
    "compress: too long": lambda x: np.compress([0, 0, 0, 1], x, axis=1),
    "sort": lambda x: np.sort(x, axis=5),
    "partition": lambda x: np.partition(x, 9),
    "diff: axis": lambda x: np.diff(x, axis=5),
    "diff: order": lambda x: np.diff(x, -1),
    "gradient: axis": lambda x: np.gradient(x, axis=5),
    "gradient: too short": lambda x: np.gradient(x[:1]),
    "gradient: spacings": lambda x: np.gradient(x, 1.0, 2.0),
    "rollaxis": lambda x: np.rollaxis(x, 7),
    "roll": lambda x: np.roll(x, 1, 5),
    "rot90: one axis": lambda x: np.rot90(x, 1, (0, -3)),
    "rot90: axis": lambda x: np.rot90(x, 1, (0, 5)),
    "fliplr": lambda x: np.fliplr(x[0, 0]),
    "matrix_transpose": lambda x: np.matrix_transpose(x[0, 0]),
    "array_split": lambda x: np.array_split(x, 0, 1),
    "split": lambda x: np.split(x, np.int64(2), 1),
    "repeat: axis": lambda x: np.repeat(x, 2, axis=5),
    "repeat: counts": lambda x: np.repeat(x, [1, 2], axis=1),
    "diag": np.diag,
    "diagonal": lambda x: np.diagonal(x, 0, 1, 1),
    "meshgrid": lambda x: np.meshgrid(x[0, 0], x[0, 1], indexing="yx"),
    "block": lambda x: np.block([[x[0]], x[1]]),
    "stack": lambda x: np.stack([x, x[:1]]),
    "select: lengths": lambda x: np.select([x > 0], [x, x]),
    "select: no booleans": lambda x: np.select([np.ones(4, int)], [x]),
    "clip": lambda x: np.clip(x, 0, 1, min=0),
    "tensordot: axis": lambda x: np.tensordot(x, x, axes=([5], [1])),
    "tensordot: too many": lambda x: np.tensordot(x[0, 0], x[0, 0], axes=2),
    "tensordot: one side": lambda x: np.tensordot(x, x, axes=([1], [1, 2])),
    "dot": lambda x: np.dot(x[0, 0], np.ones(1)),
    "inner": lambda x: np.inner(x[0], np.ones((2, 1))),
    "vdot": lambda x: np.vdot(x, np.ones(4)),
    "vecdot": lambda x: np.vecdot(x, np.ones(1)),
    "linalg.outer": lambda x: np.linalg.outer(x[0], x[1, 0]),
    "linalg.cross": lambda x: np.linalg.cross(x, x),
    "multi_dot": lambda x: np.linalg.multi_dot([x[0]]),
    "matrix_power: shape": lambda x: np.linalg.matrix_power(x, 1),
    "matrix_power: fraction": lambda x: np.linalg.matrix_power(x[:, :, :3], 2.5),
    "var: ddof and correction": lambda x: np.var(x, ddof=1, correction=2),
    "nanstd: ddof and correction": lambda x: np.nanstd(x, ddof=1, correction=1),
    "convolve: mode": lambda x: np.convolve(x[0, 0], x[0, 1], "half"),
    "svd: vector": lambda x: np.linalg.svd(x[0, 0]),
    "einsum: digit": lambda x: np.einsum("i1->i", x[0]),
    "einsum: dimensions": lambda x: np.einsum("ij", x),
    "einsum: result": lambda x: np.einsum("ij->k", x[0]),
    "einsum: result twice": lambda x: np.einsum("ij->iji", x[0]),
    "einsum: ellipsis": lambda x: np.einsum("...i->i", x),
    "einsum: diagonal": lambda x: np.einsum("ii", x[0]),
    "einsum: lengths": lambda x: np.einsum("ij,jk", x[0], x[0]),
    "einsum: operands": lambda x: np.einsum("ij,jk", x[0]),
}


@pytest.mark.parametrize("call", list(REFUSED.values()), ids=list(REFUSED))
def test_what_numpy_refuses_is_refused(call):
    errors = (ValueError, TypeError, IndexError, ZeroDivisionError)
    with pytest.raises(errors):
        call(CUBE)
    with pytest.raises(errors):
        call(leaf(CUBE))


WITHOUT_RULE = {
    "fft": np.fft.fft, "unique": np.unique, "nanpercentile": lambda x: np.nanpercentile(x, 30), "unwrap": np.unwrap, "vander": np.vander,
    "linalg.qr": lambda x: np.linalg.qr(x[:, None]), "linalg.eig": lambda x: np.linalg.eig(x[:, None] * x),
    "linalg.lstsq": lambda x: np.linalg.lstsq(x[:, None], x), "nanprod": np.nanprod, "nextafter": lambda x: np.nextafter(x, 1.0),
    "histogram": np.histogram, "maximum.accumulate": np.maximum.accumulate, "subtract.reduce": np.subtract.reduce,
    "frexp": np.frexp, "insert": lambda x: np.insert(x, 0, 1.0), "delete": lambda x: np.delete(x, 0), "polyder": np.polyder,
}  # fmt: skip


def parts(answer):
    return answer if isinstance(answer, tuple | list) else [answer]


@pytest.mark.parametrize("name", WITHOUT_RULE)
def test_a_function_without_a_rule_raises_at_the_call_only_where_a_gradient_would_flow(name):
    call = WITHOUT_RULE[name]
    with pytest.raises(NotDifferentiableError, match=name):
        call(leaf(LINE))
    for mine, expected in zip(parts(call(Tensor(LINE))), parts(call(LINE)), strict=True):
        np.testing.assert_array_equal(getattr(mine, "data", mine), expected)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: np.pad(x, 1, mode="mean"), "pad: mode 'mean'"),
        (lambda x: np.pad(x, 1, mode="linear_ramp"), "pad: mode 'linear_ramp'"),
        (lambda x: np.linalg.svd(x[0]), "full_matrices=False"),
        (lambda x: np.linalg.vector_norm(x, ord=0), "ord=0"),
        (lambda x: np.exp(x, out=np.empty(x.shape)), "in place"),
        (lambda x: np.average(x, 0, None, True), "not with returned"),
        (lambda x: np.sum(x, dtype=int), "int64"),
        (lambda x: np.nanprod(x), "Near by name: prod.*mg.rules.derivative adds one"),
        (lambda x: np.ldexp(1.0, x), "ldexp|float|int"),
    ],
)
def test_the_way_out_is_named(call, says):
    with pytest.raises(TypeError, match=says):
        call(leaf(CUBE))


TWO = {
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.logical_and, np.logical_or,
    np.logical_xor, np.allclose, np.isclose, np.array_equal, np.array_equiv, np.shares_memory, np.may_share_memory,
    np.isin,
}  # fmt: skip
ELSEWHERE = {np.savetxt, np.can_cast, np.empty_like, bool}  # a file; dtypes, not arrays; no values; one number only


def question(f):
    """A call of f, whatever else it wants to know."""
    more = {
        np.searchsorted: (0.3,), np.digitize: ([-0.5, 0.5],), np.argpartition: (1,),
    }  # fmt: skip
    if f is np.lexsort:
        return lambda x: f((x[0], x[1]))
    return (lambda x: f(x, x)) if f in TWO else lambda x: f(x, *more.get(f, ()))


QUESTIONS = sorted({f for f, known in KNOWN.items() if known.is_question} - ELSEWHERE, key=name_of)


@pytest.mark.parametrize("f", QUESTIONS, ids=name_of)
@pytest.mark.parametrize("flows", [True, False])
def test_every_question_is_answered_as_numpy_does(f, flows):
    values = np.sort(LINE) if f is np.searchsorted else SQUARE
    answer, expected = question(f)(Tensor(values, requires_grad=flows)), question(f)(values)
    assert type(answer) is type(expected)
    for mine, theirs in zip(parts(answer), parts(expected), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert np.asarray(mine).dtype == np.asarray(theirs).dtype


def test_other_questions(tmp_path):
    x = leaf(SQUARE)
    np.savetxt(tmp_path / "x.txt", x)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "x.txt"), SQUARE)
    assert np.can_cast(x.dtype, np.float64)
    assert type(np.empty_like(x)) is np.ndarray
    assert np.empty_like(x).shape == SQUARE.shape


@pytest.mark.parametrize("f", [np.sign, np.floor, np.round, lambda x: x // 0.7, lambda x: np.heaviside(x, 0.5)])
def test_steps_are_differentiable_and_flat(f):
    x = leaf(LINE)
    f(x).sum().backward()
    np.testing.assert_array_equal(x.grad, np.zeros_like(LINE))
