"""SciPy with exact derivatives: beside derivatives written by hand, on published problems, and what is refused."""

import subprocess
import sys

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from optim import reference_sets
from scipy import optimize

import microgradopt as mg
from microgradopt import critical, nn
from microgradopt.bridges import scipy as bridge

METHODS = {  # what each is to be given besides fun, x0, method
    **dict.fromkeys(("Nelder-Mead", "Powell", "COBYLA", "COBYQA"), ()),
    **dict.fromkeys(("CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP"), ("jac",)),
    **dict.fromkeys(("dogleg", "trust-exact"), ("jac", "hess")),
    **dict.fromkeys(("Newton-CG", "trust-ncg", "trust-krylov", "trust-constr"), ("jac", "hessp")),
}
HERE = [name for name in METHODS if name.lower() in optimize._minimize.MINIMIZE_METHODS]  # COBYQA came with SciPy 1.14
OPTIONS = {"COBYLA": {"tol": 1e-8, "options": {"maxiter": 20_000}}}


# The functions, with derivatives by hand ------------------------------------------------------------------------------


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def rosenbrock_gradient(x):
    steep = 200 * (x[1] - x[0] ** 2)
    return np.array([-2 * (1 - x[0]) - 2 * x[0] * steep, steep])


def rosenbrock_hessian(x):
    return np.array([[2 - 400 * x[1] + 1200 * x[0] ** 2, -400 * x[0]], [-400 * x[0], 200.0]])


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def himmelblau_gradient(x):
    a, b = x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7
    return np.array([4 * x[0] * a + 2 * b, 2 * a + 4 * x[1] * b])


def himmelblau_hessian(x):
    mixed = 4 * (x[0] + x[1])
    return np.array([[12 * x[0] ** 2 + 4 * x[1] - 42, mixed], [mixed, 4 * x[0] + 12 * x[1] ** 2 - 26]])


FUNCTIONS = {
    "Rosenbrock": (rosenbrock, rosenbrock_gradient, rosenbrock_hessian, [-1.2, 1.0], [1.0, 1.0]),
    "Himmelblau": (himmelblau, himmelblau_gradient, himmelblau_hessian, [4.0, 3.0], [3.0, 2.0]),
}


# minimize -------------------------------------------------------------------------------------------------------------


def test_every_method_of_scipy_is_known():
    assert {name.lower() for name in METHODS} >= set(optimize._minimize.MINIMIZE_METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gets_what_it_takes(method):
    objective = mg.Objective(rosenbrock, [-1.2, 1.0])
    for name in (method, method.lower(), method.upper()):
        arguments = objective.for_scipy(name)
        assert arguments.keys() == {"fun", "x0", "method", *METHODS[method]}
        assert arguments["method"] == name


@pytest.mark.long
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("method", HERE)
def test_minimize_in_no_more_evaluations_than_with_derivatives_by_hand(method, function):
    f, gradient, hessian, start, minimum = FUNCTIONS[function]
    objective = mg.Objective(f, start)
    more = OPTIONS.get(method, {})
    ours = optimize.minimize(**objective.for_scipy(method), **more)
    np.testing.assert_allclose(ours.x, minimum, atol=1e-3)
    assert ours.success
    assert objective.theta.tolist() == start
    if METHODS[method]:
        by_hand = {"jac": gradient, "hess": hessian, "hessp": lambda x, v: hessian(x) @ v}
        theirs = optimize.minimize(f, start, method=method, **{name: by_hand[name] for name in METHODS[method]}, **more)
        for count in ("nfev", "njev", "nhev", "nit"):
            assert ours.get(count, 0) <= theirs.get(count, 0), count


def test_value_and_gradient_come_from_one_call():
    calls = []
    objective = mg.Objective(lambda x: (calls.append(x), rosenbrock(x))[1], [-1.2, 1.0])
    optimum = optimize.minimize(**objective.for_scipy("BFGS"))
    assert len(calls) == optimum.nfev == optimum.njev


@pytest.mark.parametrize("method", HERE)
def test_single_precision(method):
    """SciPy's own code wants float64, of TNC and SLSQP."""
    objective = mg.Objective(himmelblau, np.float32([4, 3]))
    assert objective.for_scipy(method)["x0"].dtype == np.float64
    found = optimize.minimize(**objective.for_scipy(method), **OPTIONS.get(method, {}))
    np.testing.assert_allclose(found.x, [3, 2], atol=1e-2)
    assert objective.theta.dtype == np.float32


def test_x0_is_where_the_objective_is_and_a_copy():
    objective = mg.Objective(himmelblau, [4.0, 3.0])
    objective.theta = [1.0, 2.0]
    arguments = objective.for_scipy("BFGS")
    assert arguments["x0"].tolist() == [1, 2]
    arguments["x0"][:] = 0
    assert objective.theta.tolist() == [1, 2]


def test_a_network():
    X = np.random.default_rng(0).normal(size=(30, 2))
    y = np.sin(X[:, :1])
    model = nn.MLP((2, 5, 1), nn.Tanh, rng=0)
    loss = mg.Objective.of(model, lambda: nn.mse_loss(model(X), y))
    before = loss.value()
    found = optimize.minimize(**loss.for_scipy("L-BFGS-B"))
    assert loss.value() == before
    loss.theta = found.x
    assert loss.value() == found.fun < before / 10


@pytest.mark.parametrize("method", ["Adam", "", None, lambda *args: None])
def test_unknown_methods_are_refused_and_the_known_listed(method):
    with pytest.raises(ValueError, match="for_scipy: method is one of SciPy's") as error:
        mg.Objective(rosenbrock, [0.0, 0.0]).for_scipy(method)
    assert all(name in str(error.value) for name in METHODS)


def test_scipy_is_imported_on_use():
    code = (
        "import sys; sys.modules['scipy'] = None\n"
        "import microgradopt as mg\n"
        "o = mg.Objective(lambda x: (x * x).sum(), [1.0])\n"
        "assert o.for_scipy('BFGS')['fun'](o.theta)[0] == 1\n"
        "assert mg.derivatives.gradient(lambda x: x * x)(1.0) == 2\n"
        "assert mg.critical.classify(o, [0.0]).kind == 'local minimum'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Least squares --------------------------------------------------------------------------------------------------------

MGH = {problem.name: problem for problem in reference_sets.problems()}


def by_columns(*columns):
    return np.stack(np.broadcast_arrays(*columns), axis=1)


def beale(x):
    i = np.arange(1, 4.0)
    return by_columns(-(1 - x[1] ** i), x[0] * i * x[1] ** (i - 1))


def bard(x):
    u = np.arange(1, 16.0)
    v = 16 - u
    w = np.minimum(u, v)
    below = (v * x[1] + w * x[2]) ** 2
    return by_columns(-1.0 + 0 * u, u * v / below, u * w / below)


def box(x):
    t = np.arange(1, 11) / 10
    return by_columns(-t * np.exp(-t * x[0]), t * np.exp(-t * x[1]), np.exp(-10 * t) - np.exp(-t))


def kowalik_osborne(x):
    u = reference_sets.KOWALIK_U
    above, below = u**2 + u * x[1], u**2 + u * x[2] + x[3]
    return by_columns(-above / below, -x[0] * u / below, x[0] * above * u / below**2, x[0] * above / below**2)


def meyer(x):
    t = 45 + 5 * np.arange(1, 17)
    e = np.exp(x[1] / (t + x[2]))
    return by_columns(e, x[0] * e / (t + x[2]), -x[0] * x[1] * e / (t + x[2]) ** 2)


def brown_dennis(x):
    t = np.arange(1, 21) / 5
    a, b = x[0] + t * x[1] - np.exp(t), x[2] + x[3] * np.sin(t) - np.cos(t)
    return by_columns(2 * a, 2 * a * t, 2 * b, 2 * b * np.sin(t))


def powell_badly_scaled(x):
    return np.array([[1e4 * x[1], 1e4 * x[0]], [-np.exp(-x[0]), -np.exp(-x[1])]])


CLOSED = {
    "1 Rosenbrock": lambda x: np.array([[-20 * x[0], 10], [-1, 0]]),
    "2 Freudenstein and Roth": lambda x: np.array(
        [[1, 10 * x[1] - 3 * x[1] ** 2 - 2], [1, 3 * x[1] ** 2 + 2 * x[1] - 14]]
    ),
    "3 Powell badly scaled": powell_badly_scaled,
    "4 Brown badly scaled": lambda x: np.array([[1, 0], [0, 1], [x[1], x[0]]]),
    "5 Beale": beale,
    "8 Bard": bard,
    "10 Meyer": meyer,
    "12 Box, three dimensions": box,
    "15 Kowalik and Osborne": kowalik_osborne,
    "16 Brown and Dennis": brown_dennis,
}
SETTINGS = {"x_scale": "jac", "xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12, "max_nfev": 2000}


def agree(ours, theirs, wanted):
    """The same answer, in no more evaluations, from the same Jacobian. Of more than 100 rounding may decide some."""
    assert ours.nfev <= 1.1 * theirs.nfev
    assert ours.njev <= 1.1 * theirs.njev
    np.testing.assert_allclose(ours.jac, theirs.jac, rtol=1e-6, atol=1e-6 * np.abs(theirs.jac).max())
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-6, abs=1e-20)
    assert wanted(ours.x)


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("method", ["trf", "lm"])
def test_least_squares_on_problems_with_closed_jacobians(name, method):
    problem = MGH[name]
    ours = bridge.least_squares(problem.residuals, problem.start, method=method, **SETTINGS)
    theirs = optimize.least_squares(problem.residuals, problem.start, CLOSED[name], method=method, **SETTINGS)
    agree(ours, theirs, problem.reached)


NIST = {regression.name: regression for regression in reference_sets.regressions()}


@pytest.mark.long
@pytest.mark.parametrize("name", NIST)
def test_least_squares_on_nists_problems(name):
    """From the second start, beside the Jacobian of HIPS autograd."""
    regression = NIST[name]
    _, x, y = regression.residuals.args
    model = eval(f"lambda b, x: {reference_sets.json.loads(SOURCE)[name]['model']}", {"np": anp})
    jacobian = autograd.jacobian(lambda b: model(b, x) - y)
    start = np.array(regression.starts[1], float)
    ours = bridge.least_squares(regression.residuals, start, **SETTINGS)
    theirs = optimize.least_squares(regression.residuals, start, jacobian, **SETTINGS)
    agree(ours, theirs, regression.reached)


SOURCE = reference_sets.Path(reference_sets.__file__).with_name("nist.json").read_text()


def test_settings_of_least_squares_are_scipys():
    t = np.arange(5.0)

    def model(x, t, height=1.0):
        return height * np.exp(-x[0] * t) - 2 * np.exp(-3 * t)

    found = bridge.least_squares(model, 1, args=(t,), kwargs={"height": 2.0}, bounds=(0, 2.5), loss="soft_l1")
    assert isinstance(found, optimize.OptimizeResult)  # without bounds x = 3
    assert found.x == pytest.approx([2.5])
    straight = bridge.least_squares(lambda x, t, height=1.0: height * t * x[0], 1, args=(t,), kwargs={"height": 2.0})
    assert straight.jac.tolist() == [[2 * each] for each in t]
    with pytest.raises(TypeError, match="jac"):
        bridge.least_squares(model, 1.0, jac="3-point")


def test_a_list_of_residuals_and_integers():
    found = bridge.least_squares(lambda x: [10 * (x[1] - x[0] ** 2), 1 - x[0]], [-1, 1])
    np.testing.assert_allclose(found.x, [1, 1])


# Roots ----------------------------------------------------------------------------------------------------------------

SYSTEMS = {
    "Powell badly scaled": (MGH["3 Powell badly scaled"], powell_badly_scaled),
    "Rosenbrock": (MGH["1 Rosenbrock"], CLOSED["1 Rosenbrock"]),
    "Broyden tridiagonal": (
        MGH["30 Broyden tridiagonal, n = 10"],
        lambda x: np.diag(3 - 4 * x) - np.eye(10, k=-1) - 2 * np.eye(10, k=1),
    ),
    "trigonometric": (
        MGH["26 trigonometric, n = 10"],
        lambda x: np.sin(x) + np.diag(np.arange(1, 11) * np.sin(x) - np.cos(x)),
    ),
    "discrete boundary value": (
        MGH["28 discrete boundary value, n = 10"],
        lambda x: (
            2 * np.eye(10) - np.eye(10, k=1) - np.eye(10, k=-1)
            + np.diag(3 * (x + np.arange(1, 11) / 11 + 1) ** 2 / 242)
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_root_beside_fsolve(name):
    problem, jacobian = SYSTEMS[name]
    ours = bridge.root(problem.residuals, problem.start)
    x, info, flag, _ = optimize.fsolve(problem.residuals, problem.start, fprime=jacobian, full_output=True)
    assert ours.success == (flag == 1)
    assert ours.nfev <= info["nfev"]
    assert ours.njev == info["njev"]
    np.testing.assert_allclose(ours.x, x, rtol=1e-8)
    assert problem.reached(ours.x) or name == "trigonometric"  # a local minimum of ‖f‖ there


def test_root_by_the_other_method_of_a_list_and_with_arguments():
    def f(x, right):
        return [x[0] * np.cos(x[1]) - right, x[0] * x[1] - x[1] - 5]  # SciPy's own example

    for method in ("hybr", "lm"):
        found = bridge.root(f, [1, 1], method=method, args=(4,), tol=1e-12)
        np.testing.assert_allclose(found.x, [6.50409711, 0.90841421], rtol=1e-8)
        assert found.njev >= 1
    assert bridge.root(lambda x: x + 2 * np.cos(x), 0.3).x == pytest.approx([-1.02986653])


def test_residuals_run_on_plain_arrays_and_jacobians_on_tensors():
    """SciPy asks for values more often than for Jacobians: those need no graph."""
    kinds = []
    found = bridge.root(lambda x: (kinds.append(type(x)), x**3 - 8)[1], [1.0])
    assert kinds.count(mg.Tensor) == found.njev + 1  # one more, by which SciPy sees its shape
    assert kinds.count(np.ndarray) == found.nfev
    assert found.nfev > found.njev


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: bridge.least_squares(lambda x: np.sum(x**2), [1.0, 2.0]), ValueError, r"of shape \(\).*for_scipy"),
        (lambda: bridge.least_squares(lambda x: np.outer(x, x), [1.0, 2.0]), ValueError, r"\(2, 2\).*\.ravel\(\)"),
        (lambda: bridge.least_squares(lambda x: None, [1.0, 2.0]), ValueError, "not array.None"),
        (lambda: bridge.least_squares(lambda x: np.ones(2), [1.0, 2.0]), RuntimeError, r"does not depend on x.*\.data"),
        (lambda: bridge.least_squares(3, [1.0]), TypeError, "least_squares: a function"),
        (lambda: bridge.least_squares(lambda x: x, [[1.0]]), ValueError, r"x0 is a vector.*\(1, 1\)"),
        (lambda: bridge.least_squares(lambda x: x, [1j]), TypeError, "real numbers"),
        (lambda: bridge.least_squares(lambda x: [np.exp(float(x[0]))], [1.0]), TypeError, r"float\(\)"),
        (lambda: bridge.root(lambda x: [x[0], x[1], 1.0], [1.0, 2.0]), ValueError, "3 numbers for 2.*least_squares"),
        (lambda: bridge.root(lambda x: x[0], [1.0, 2.0]), ValueError, r"root: .*of shape \(\)"),
        (lambda: bridge.root(lambda x: np.zeros(2), [1.0, 2.0]), RuntimeError, "root: .*does not depend on x"),
        (lambda: bridge.root(None, [1.0]), TypeError, "root: a function"),
        (lambda: bridge.root(lambda x: x, np.eye(2)), ValueError, r"root: x0 is a vector.*\(2, 2\)"),
    ],
)
def test_refused(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong()


# What kind of point SciPy has come to ---------------------------------------------------------------------------------


def test_success_and_it_is_a_saddle():
    """The lecture's surface, from a start on the ridge."""
    surface = mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.5, -0.5])
    result = optimize.minimize(**surface.for_scipy("BFGS"))
    point = critical.classify(surface, result)
    assert result.success
    assert point.kind == "saddle point"
    assert point.certified
    assert point.evidence[0] == "SciPy: success=True, 'Optimization terminated successfully.'; it is: saddle point"
    assert point.theta.tolist() == result.x.tolist()
    assert surface.theta.tolist() == [0.5, -0.5]
    assert critical.classify(surface, point.escape().theta).kind == "local minimum"
    plain = critical.classify(surface, result.x)
    assert point.evidence[1:] == plain.evidence
    assert point.explanation == plain.explanation


def test_all_arguments_of_classify_reach_it():
    bowl = mg.Objective(lambda w: (w * w).sum() + 1e-3 * np.sum(w**4), [1.0, 1.0])
    result = optimize.OptimizeResult(x=np.array([1e-2, 0.0]), success=False, message="stopped")
    assert critical.classify(bowl, result, gradient_tolerance=1e-3).kind == "not critical"
    assert critical.classify(bowl, result, gradient_tolerance=1e-1).kind == "local minimum"
    wide = mg.Objective(lambda w: np.sum(np.arange(1, 101) * w**2), np.ones(100))
    result.x = np.zeros(100)
    for settings in ({"max_products": 8, "rng": 1}, {"max_products": 8, "rng": 2}, {"max_products": 20, "rng": 1}):
        outlined = critical.classify(wide, result, dense_up_to=1, **settings)
        assert outlined.evidence[0].startswith("SciPy: success=False, 'stopped'; it is: ")
        plain = critical.classify(wide, result.x, dense_up_to=1, **settings)
        assert outlined.eigenvalues.tolist() == plain.eigenvalues.tolist()


def test_answers_of_the_other_functions_are_read_too():
    def f(x):
        return [10 * (x[1] - x[0] ** 2), 1 - x[0]]

    half = mg.Objective(lambda x: (np.stack(f(x)) ** 2).sum() / 2, [-1.2, 1.0])
    for result in (bridge.least_squares(f, [-1.2, 1.0]), bridge.root(f, [-1.2, 1.0])):
        point = critical.classify(half, result)
        assert (point.kind, point.certified) == ("local minimum", True)
        assert f"success=True, {result.message!r}" in point.evidence[0]


def test_on_a_kink_too():
    edge = mg.Objective(lambda w: np.sum(np.sqrt(np.abs(w))), [1.0, 1.0])
    result = optimize.OptimizeResult(x=np.zeros(2), success=True, message="done")
    with np.errstate(all="ignore"):
        assert critical.classify(edge, result).evidence[0].startswith("SciPy: success=True, 'done'")


def test_a_result_of_another_size_is_refused():
    result = optimize.minimize(lambda x: x @ x, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        critical.classify(mg.Objective(rosenbrock, [0.0, 0.0]), result)
