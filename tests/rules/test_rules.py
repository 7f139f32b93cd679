"""Every rule: NumPy's value, first and second derivatives against central differences and HIPS autograd, dtypes."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from cases import BINARY, CASES, UNARY

import microgradopt as mg
from microgradopt import Tensor, nn
from microgradopt.rules.registry import COMPOSED, DERIVATIVES, derivative

ALL = [pytest.param(f, args, id=f"{name}-{i}") for name, cases in CASES.items() for i, (f, args) in enumerate(cases)]
OF_NN = {name for name in vars(nn.functional) if not name.startswith("_")} | set(nn.__all__) | {"normal_cdf"}


def leaves(arrays, dtype=np.float64):
    return [Tensor(array, dtype, requires_grad=True) for array in arrays]


def test_every_supported_function_has_a_case():
    """A new rule without a case fails here. The functions of nn have their own tests."""
    assert set(mg.rules.supported()) - OF_NN == set(CASES) - OF_NN


@pytest.mark.parametrize(("f", "args"), ALL)
def test_value_is_numpys(f, args):
    recorded, constant = f(*leaves(args)), f(*[Tensor(a) for a in args])
    expected = f(*args)
    for result in (recorded, constant):
        assert result.shape == np.shape(expected)
        np.testing.assert_allclose(result.data, expected, rtol=1e-13, atol=1e-14)


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


def calls_of_rules():
    """Each rule of an elementwise function, to be called by itself: the sweep would hide a dtype by casting it back."""
    for name, domain in UNARY.items():
        yield name, [domain(3).astype(np.float32)]
    for name, (left, right) in BINARY.items():
        yield name, [left(3).astype(np.float32), right(3).astype(np.float32)]


@pytest.mark.parametrize(("name", "args"), [pytest.param(*call, id=call[0]) for call in calls_of_rules()])
def test_rules_themselves_keep_float32(name, args):
    if name == "float_power":
        pytest.skip("is at least double")
    function = getattr(np, name)
    out = function(*args)
    for rule in DERIVATIVES[function].rules[: len(args)]:
        assert rule(np.ones_like(out), out, *args).dtype == np.float32


HIPS = [
    *[(name, (lambda np_, name=name: getattr(np_, name)), (CASES[name][0][1])) for name in UNARY if hasattr(anp, name)],
    *[
        (name, (lambda np_, name=name: getattr(np_, name)), (CASES[name][0][1]))
        for name in BINARY
        if hasattr(anp, name)
    ],
    ("matmul", lambda np_: np_.matmul, CASES["matmul"][4][1]),
    ("einsum", lambda np_: lambda a, b: np_.einsum("ij,jk->ik", a, b), CASES["einsum"][0][1]),
    ("tensordot", lambda np_: np_.tensordot, CASES["tensordot"][0][1]),
    ("inv", lambda np_: np_.linalg.inv, CASES["linalg.inv"][0][1]),
    ("det", lambda np_: np_.linalg.det, CASES["linalg.det"][0][1]),
    ("slogdet", lambda np_: lambda a: np_.linalg.slogdet(a)[1], CASES["linalg.inv"][0][1]),
    ("solve", lambda np_: np_.linalg.solve, CASES["linalg.solve"][1][1]),
    ("std", lambda np_: lambda a: np_.std(a, axis=1), CASES["std"][0][1]),
    ("var", lambda np_: lambda a: np_.var(a, axis=(0, 2)), CASES["var"][0][1]),
    ("max", lambda np_: lambda a: np_.max(a, axis=1), CASES["max"][0][1]),
    ("sort", lambda np_: lambda a: np_.sort(a.reshape(-1)), CASES["sort"][0][1]),
    ("norm", lambda np_: np_.linalg.norm, CASES["linalg.norm"][0][1]),
]


# What autograd has no rule for, or only the answer that the output is independent of the input.
NOT_HIPS = {
    "positive", "conjugate", "nan_to_num", "sign", "floor", "ceil", "trunc", "rint", "fix", "round", "cbrt", "fmod",
    "floor_divide", "heaviside", "copysign", "float_power",
}  # fmt: skip


@pytest.mark.parametrize(("name", "of", "args"), [c for c in HIPS if c[0] not in NOT_HIPS], ids=lambda c: str(c)[:12])
def test_gradient_and_hessian_vector_product_are_autograds(name, of, args):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=np.shape(of(np)(*args)))
    vectors = [rng.normal(size=np.shape(a)) for a in args]

    def scalar(np_, *inputs):
        return np_.sum(weight * of(np_)(*inputs) ** 2)

    inputs = leaves(args)
    ours = mg.grad(scalar(np, *inputs), inputs)
    ours_hvp = mg.hvp(scalar(np, *inputs), inputs, vectors)
    gradient = autograd.grad(lambda packed: scalar(anp, *packed))
    theirs = gradient(tuple(args))
    theirs_hvp = autograd.grad(lambda p: sum(anp.sum(g * v) for g, v in zip(gradient(p), vectors, strict=True)))(
        tuple(args)
    )
    for mine, other in zip([*ours, *ours_hvp], [*theirs, *theirs_hvp], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12)


def test_a_planted_wrong_rule_is_found():
    """The harness itself can fail."""

    @mg.rules.composite(lambda g, out, x: -g * np.sin(x))
    def wrong(x):
        return np.sin(x)

    with pytest.raises(mg.GradcheckError, match="input 0"):
        mg.gradcheck(wrong, leaves([np.ones(2)]))


def test_rules_must_agree_on_their_arguments():
    with pytest.raises(TypeError, match="different arguments"):
        derivative(np.add.reduce, lambda g, out, x: g, lambda g, out, x, y: g)
    assert np.add.reduce not in DERIVATIVES


def test_nothing_is_said_twice():
    assert not set(DERIVATIVES) & set(COMPOSED)
