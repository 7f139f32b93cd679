"""Every rule: NumPy's value, first and second derivatives against central differences and HIPS autograd, dtypes."""

import types

import autograd
import autograd.numpy as anp
import cases
import numpy as np
import pytest
from cases import CASES
from scipy import special

import microgradopt as mg
from microgradopt import Tensor, nn
from microgradopt.rules.registry import KNOWN, derivative, name_of

ALL = [pytest.param(f, args, id=f"{name}-{i}") for name, cases in CASES.items() for i, (f, args) in enumerate(cases)]
OF_NN = {name for name in vars(nn.functional) if not name.startswith("_")} | set(nn.__all__) | {"normal_cdf"}


def leaves(arrays, dtype=np.float64):
    return [Tensor(array, dtype, requires_grad=True) for array in arrays]


def test_every_supported_function_has_a_case():
    """A new rule without a case fails here. Functions of nn, of SciPy and losses elsewhere have their own tests."""
    of_tests = {name_of(f) for f in KNOWN if "test" in (getattr(f, "__module__", "") or "")}
    elsewhere = OF_NN | set(vars(special)) | of_tests | {"external_loss", "computed_by"}
    assert set(mg.rules.supported()) - elsewhere == set(CASES) - elsewhere


@pytest.mark.parametrize(("f", "args"), ALL)
def test_value_is_numpys(f, args):
    recorded, constant = f(*leaves(args)), f(*[Tensor(a) for a in args])
    expected = f(*args)
    for result in (recorded, constant):
        assert result.shape == np.shape(expected)
        np.testing.assert_allclose(result.data, expected, rtol=1e-13, atol=1e-14)


EXACT = {"getitem"} | {
    name_of(f) for f, known in KNOWN.items() if known.rules and (isinstance(f, np.ufunc) or f.__module__.startswith("numpy"))
}  # fmt: skip
EXACT -= {"matmul"}  # of Tensors by `@`, of arrays by the ufunc: their sums may be in another order


@pytest.mark.parametrize(("f", "args"), [case for case in ALL if case.id.rsplit("-", 1)[0] in EXACT])
def test_value_is_numpys_to_the_last_bit(f, args):
    """Where the function has a rule of its own, it is NumPy's that computes."""
    np.testing.assert_array_equal(f(*leaves(args)).data, f(*args))


@pytest.mark.parametrize(("f", "args"), ALL)
def test_first_and_second_derivatives(f, args):
    mg.gradcheck(f, leaves(args), order=2)


@pytest.mark.parametrize(("f", "args"), ALL)
def test_float32_stays(f, args):
    inputs = leaves(args, np.float32)
    result = f(*inputs)
    if f is np.float_power:
        assert result.dtype == np.float64, "as NumPy's: float_power is at least double"
        return
    assert result.dtype == np.float32
    for g in mg.grad(result.sum(), inputs, allow_unused=True):
        assert g is None or g.dtype == np.float32


@pytest.fixture
def dtypes_of_rules(monkeypatch):
    """Notes what every rule was given and gives: the sweep would hide a wrong dtype by casting it back."""
    seen = set()

    def watched(function, rule):
        def noting(g, out, *args, **kwargs):
            share = rule(g, out, *args, **kwargs)
            for what, value in (("g", g), ("out", out), ("share", share)):
                parts = value if isinstance(value, list | tuple) else [value]
                seen.update((name_of(function), what, part.dtype) for part in parts if part is not None)
            return share

        return noting

    for function, known in KNOWN.items():
        monkeypatch.setattr(known, "rules", tuple(rule and watched(function, rule) for rule in known.rules))
    return seen


@pytest.mark.parametrize(("f", "args"), ALL)
def test_rules_themselves_keep_float32(f, args, dtypes_of_rules):
    if f is np.float_power:  # at least double, see above
        return
    inputs = leaves(args, np.float32)
    weight = np.random.default_rng(0).normal(size=np.shape(f(*args))).astype(np.float32)
    gradients = mg.grad(np.sum(f(*inputs) * weight), inputs, create_graph=True, allow_unused=True)
    again = sum((np.sum(g * g) for g in gradients if g is not None), start=Tensor(0.0, np.float32))
    if again.requires_grad:
        assert all(g is None or g.dtype == np.float32 for g in mg.grad(again, inputs, allow_unused=True))
    assert {entry for entry in dtypes_of_rules if entry[2] != np.float32} == set()
    assert dtypes_of_rules


@pytest.mark.parametrize(("f", "args"), ALL)
def test_rules_run_on_stacks(f, args):
    """All rows of Jacobian and Hessian at once are what they are one by one."""
    inputs = leaves(args)
    result = f(*inputs)
    weight = np.random.default_rng(2).normal(size=result.shape)
    gradients = mg.grad(np.sum(weight * result * result), inputs, create_graph=True, allow_unused=True)
    for output in [result, *(g for g in gradients if g is not None and g.requires_grad)]:
        units = np.eye(output.size).reshape(output.size, *output.shape)
        single = [mg.grad(output, inputs, unit, allow_unused=True) for unit in units]
        for i, (x, stacked) in enumerate(zip(inputs, mg.jacobian(output, inputs), strict=True)):
            expected = [np.zeros(x.shape) if row[i] is None else row[i] for row in single]
            expected = np.array(expected).reshape(output.shape + x.shape)
            np.testing.assert_allclose(stacked, expected, rtol=1e-12, atol=1e-13)


# What HIPS autograd has no rule for, or a wrong one (tile, var with correction); or our call is not its own.
NOT_HIPS = {
    "positive", "cbrt", "fmod", "float_power", "copysign", "heaviside", "ptp", "logsumexp", "softmax", "log_softmax",
    "cumprod", "average", "divmod", "modf", "ldexp", "where", "copy", "matrix_transpose", "linalg.matrix_transpose",
    "broadcast_arrays", "meshgrid", "flip", "rot90", "pad", "unstack", "diagonal", "linalg.diagonal", "gradient", "take",
    "take_along_axis", "sort", "partition", "compress", "extract", "outer", "linalg.outer", "vdot", "vecdot", "astype",
    "linalg.vecdot", "linalg.tensordot", "linalg.cross", "linalg.matrix_power", "thin_svd", "linalg.svdvals", "pick",
    "linalg.trace", "linalg.vector_norm", "linalg.matrix_norm", "trace-1", "clip-1", "clip-2", "rollaxis-2",
    "broadcast_to-0", "repeat-1", "tile-0", "tile-2", "roll-1", "atleast_1d-1", "concatenate-1", "hsplit-1", "diag-3",
    "diag-4", "diag-5", "cross-0", "linalg.slogdet-0", "linalg.solve-2", "linalg.solve-3", "linalg.solve-4",
    "linalg.svd-6", "variance-1", "linalg.norm-2", "linalg.norm-3", "linalg.norm-4", "linalg.norm-5", "linalg.norm-6",
    "linalg.norm-7", "linalg.norm-8", "linalg.norm-11", "linalg.norm-12", "linalg.norm-13", "linalg.norm-14",
    "linalg.norm-15", "linalg.norm-16", "getitem-8", "einsum-3", "einsum-4", "einsum-14", "einsum-17", "linalg.cholesky-2",
    "linalg.eigh-0", "linalg.eigvalsh", "direction", "gaps",
    "real", "imag", "angle", "real_if_close", "linspace", "full_like", "full", "trapezoid",
    "interp", "polyval", "full_convolution", "convolve", "correlate", "cumulative_sum", "cumulative_prod", "quantile",
    "percentile", "median", "nanmedian", "only", "nansum", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin", "cov", "corrcoef",
    "linalg.matmul", "matvec", "vecmat", "linalg.pinv", "vstack-1", "einsum-19", "einsum-20", "einsum-21",
}  # fmt: skip
NOT_HIPS |= {f"{name}-{i}" for name in ("sum", "mean", "prod", "max", "min", "var", "std") for i in range(10, 15)}


def autograds(f):
    """The same call written with autograd's own NumPy."""
    if not isinstance(f, types.FunctionType) or f.__module__ != cases.__name__:
        return getattr(anp.linalg if getattr(f, "__module__", "") == "numpy.linalg" else anp, f.__name__)
    inner = (cell.cell_contents for cell in f.__closure__ or ())
    closure = tuple(types.CellType(autograds(value) if callable(value) else value) for value in inner)
    copied = types.FunctionType(f.__code__, {**vars(cases), "np": anp}, f.__name__, f.__defaults__, closure)
    copied.__kwdefaults__ = f.__kwdefaults__
    return copied


@pytest.mark.filterwarnings("ignore:Output seems independent of input")
@pytest.mark.parametrize(("f", "args"), [case for case in ALL if not NOT_HIPS & {case.id, case.id.rsplit("-", 1)[0]}])
def test_gradient_and_hessian_vector_product_are_autograds(f, args):
    rng = np.random.default_rng(1)
    args = tuple(np.asarray(a) for a in args)
    weight = rng.normal(size=np.shape(f(*args)))
    vectors = [rng.normal(size=a.shape) for a in args]

    inputs, theirs = leaves(args), autograds(f)
    ours = mg.grad(np.sum(weight * f(*inputs) ** 2), inputs)
    ours_hvp = mg.hvp(np.sum(weight * f(*inputs) ** 2), inputs, vectors)
    gradient = autograd.grad(lambda packed: anp.sum(weight * theirs(*packed) ** 2))
    along = autograd.grad(lambda p: sum(anp.sum(g * v) for g, v in zip(gradient(p), vectors, strict=True)))
    for mine, other in zip([*ours, *ours_hvp], [*gradient(args), *along(args)], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-11)


def test_a_planted_wrong_rule_is_found():
    """The harness itself can fail."""

    @mg.rules.composite(lambda g, out, x: -g * np.sin(x))
    def wrong(x):
        return np.sin(x)

    with pytest.raises(mg.GradcheckError, match="input 0"):
        mg.gradcheck(wrong, leaves([np.ones(2)]))


def test_rules_must_agree_on_their_arguments():
    with pytest.raises(TypeError, match="different arguments"):
        derivative(np.add.reduce, lambda g, out, x: g, lambda g, out, x, y: g, smooth=True)
    assert np.add.reduce not in KNOWN


def test_a_composite_takes_tuples_apart_itself():
    """Tensors in a tuple are what its body computes with, like any other calls."""

    @mg.rules.composite(None, lambda g, out, pair, weight: np.sum(g * (pair[0] + pair[1])))
    def weighted(pair, weight):
        return (pair[0] + pair[1]) * weight

    x, y = (mg.Tensor([v], requires_grad=True) for v in (1.0, 2.0))
    np.sum(weighted((x, y), 3.0)).backward()
    assert x.grad == y.grad == 3.0
