"""SciPy's special functions: values are SciPy's, derivatives those of central differences and of closed forms."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import special

import microgradopt as mg
from microgradopt import NotDifferentiableError, Tensor

POINTS = np.array([0.3, 0.6, 0.9])
FUNCTIONS = [
    (special.expit, 4 * POINTS), (special.log_expit, 4 * POINTS), (special.logit, POINTS), (special.erf, POINTS),
    (special.erfc, POINTS), (special.ndtr, POINTS), (special.log_ndtr, -3 * POINTS), (special.gammaln, 3 * POINTS),
    (special.gamma, 3 * POINTS), (special.psi, 3 * POINTS), (lambda x: special.zeta(2.5, x), POINTS),
]  # fmt: skip


@pytest.mark.parametrize(("f", "at"), FUNCTIONS)
def test_of_one_argument(f, at):
    x = Tensor(at, requires_grad=True)
    np.testing.assert_array_equal(f(x).data, f(at))
    mg.gradcheck(f, x, order=2)


@pytest.mark.parametrize("f", [special.xlogy, special.xlog1py])
def test_of_two_arguments(f):
    x, y = Tensor(POINTS[:, None], requires_grad=True), Tensor(1 + POINTS, requires_grad=True)
    mg.gradcheck(f, [x, y], order=2)


def test_gammaln_to_third_order():
    """Its second and third derivatives are polygammas."""
    x = Tensor(2.5, requires_grad=True)
    (first,) = mg.grad(special.gammaln(x), x, create_graph=True)
    (second,) = mg.grad(first, x, create_graph=True)
    (third,) = mg.grad(second, x)
    assert first.item() == pytest.approx(special.digamma(2.5), rel=1e-14)
    assert second.item() == pytest.approx(special.polygamma(1, 2.5), rel=1e-13)
    assert third == pytest.approx(special.polygamma(2, 2.5), rel=1e-13)


@pytest.mark.parametrize("x", [-10.0, -1e3, -1e5, -1e8, 0.0, 5.0, 40.0, 1e4])
def test_log_ndtr_far_out(x):
    """φ/Φ is sqrt(2/π) / erfcx(−x/√2): near −x far below 0, and 0 far above."""
    t = Tensor(x, requires_grad=True)
    (first,) = mg.grad(special.log_ndtr(t), t, create_graph=True)
    assert first.item() == pytest.approx(np.sqrt(2 / np.pi) / special.erfcx(-x / np.sqrt(2)), rel=1e-13)
    (second,) = mg.grad(first, t)
    # Far below 0, r (x + r) of that r is rounding alone, and its asymptotic series is not.
    mills = first.item() * (x + first.item()) if x > -100 else 1 - 1 / x**2 + 6 / x**4
    assert -1 <= second <= 0
    assert second == pytest.approx(-mills, rel=1e-11)


@pytest.mark.parametrize("f", [special.expit, special.gammaln, special.log_ndtr, lambda x: special.xlogy(x, x)])
def test_compiled_they_are_the_same(f):
    x = Tensor(POINTS, requires_grad=True)

    def value_and_slopes(x):
        total = np.sum(f(x))
        return total, *mg.grad(total, x), *mg.hvp(total, x, POINTS)

    for ours, eager in zip(mg.compile(value_and_slopes)(x), value_and_slopes(x), strict=True):
        np.testing.assert_array_equal(getattr(ours, "data", ours), getattr(eager, "data", eager))


def test_the_slope_of_a_saturated_sigmoid():
    """1 − expit(x) keeps few digits at 30, and none at 40."""
    x = Tensor([-40.0, -30.0, 30.0, 40.0], requires_grad=True)
    expected = np.exp(-np.abs(x.data))
    for f, right in (
        (special.expit, expected),
        (lambda x: mg.grad(special.log_expit(-x).sum(), x, create_graph=True)[0], -expected),
    ):
        np.testing.assert_allclose(mg.grad(f(x).sum(), x)[0], right, rtol=1e-12)


def test_the_entropy_of_a_certain_outcome():
    """x log x, 0 at 0 by xlogy."""
    p = Tensor([0.0, 1.0], requires_grad=True)
    with np.errstate(all="ignore"):
        assert special.xlogy(p, p).data.tolist() == [0.0, 0.0]
        assert mg.grad(np.sum(special.xlogy(p, p)), p)[0][1] == 1.0


def test_one_without_a_rule_says_so():
    with pytest.raises(NotDifferentiableError, match="j0: no derivative rule"):
        special.j0(Tensor(1.0, requires_grad=True))


def test_scipy_is_not_imported_for_it():
    program = "import sys, microgradopt; print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
