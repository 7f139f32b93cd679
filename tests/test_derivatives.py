"""Derivatives as functions of functions: against JAX, HIPS autograd, closed forms; and what is refused."""

import autograd
import autograd.numpy as anp
import derivatives as benchmark
import numpy as np
import pytest

import microgradopt as mg
from microgradopt.derivatives import gradient, hessian, hvp, jacobian, value_and_gradient

RNG = np.random.default_rng(0)


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


SCALARS = {  # f, written for any NumPy, and a point of every shape
    "a number": (lambda np, x: np.exp(x) * np.sin(3 * x), np.array(0.7)),
    "a vector": (lambda np, x: rosenbrock(x), RNG.normal(size=5)),
    "a matrix": (lambda np, x: np.sum(np.tanh(x @ x.T)) + np.log(np.sum(x**2)), RNG.normal(size=(2, 3))),
    "no curvature": (lambda np, x: np.sum(3 * x), RNG.normal(size=4)),
}
ARRAYS = {
    "a vector of a vector": (lambda np, x: np.sin(x) * np.sum(x**2), RNG.normal(size=3)),
    "a matrix of a vector": (lambda np, x: np.outer(x, np.exp(x[:2])), RNG.normal(size=3)),
    "a vector of a matrix": (lambda np, x: np.sum(x * x, axis=0), RNG.normal(size=(2, 3))),
    "a number of a vector": (lambda np, x: np.prod(x), RNG.normal(size=3)),
    "a vector of a number": (lambda np, x: np.array([1.0, 2.0]) * x**3, np.array(2.0)),
}


@pytest.fixture(scope="module")
def jax():
    jax = pytest.importorskip("jax")
    with jax.enable_x64():
        yield jax


def close(found, wanted):
    assert type(found) is np.ndarray
    assert found.shape == np.shape(wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("name", SCALARS)
def test_of_a_scalar_against_jax(name, jax):
    f, x = SCALARS[name]
    v = RNG.normal(size=x.shape)

    def theirs(x):
        return f(jax.numpy, x)

    def ours(x):
        return f(np, x)

    value, g = value_and_gradient(ours)(x)
    assert type(value) is float
    assert value == pytest.approx(float(theirs(x)), rel=1e-13)
    close(g, jax.grad(theirs)(x))
    close(gradient(ours)(x), jax.grad(theirs)(x))
    close(hessian(ours)(x), jax.hessian(theirs)(x))
    close(hvp(ours)(x, v), jax.jvp(jax.grad(theirs), (x,), (v,))[1])


@pytest.mark.long
@pytest.mark.parametrize("name", ARRAYS)
def test_jacobian_against_jax(name, jax):
    f, x = ARRAYS[name]
    close(jacobian(lambda x: f(np, x))(x), jax.jacobian(lambda x: f(jax.numpy, x))(x))


@pytest.mark.parametrize("name", [name for name in SCALARS if name != "no curvature"])  # there it fails itself
def test_against_autograd(name):
    f, x = SCALARS[name]
    v = RNG.normal(size=x.shape)
    close(gradient(lambda x: f(np, x))(x), autograd.grad(lambda x: f(anp, x))(x))
    close(hessian(lambda x: f(np, x))(x), autograd.hessian(lambda x: f(anp, x))(x))
    close(hvp(lambda x: f(np, x))(x, v), autograd.hessian_vector_product(lambda x: f(anp, x))(x, v))


@pytest.mark.parametrize("task", list(benchmark.tasks()), ids=lambda task: task.name)
def test_against_closed_forms(task):
    """Those of the benchmark, in extended precision: to rounding, element by element."""
    x = task.x.astype(np.longdouble)
    for way, truth in ((gradient, task.gradient(x)), (hessian, task.hessian(x))):
        np.testing.assert_allclose(way(task.f)(task.x), truth.astype(float), rtol=1e-12, atol=0)


# What goes in ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (2, np.float64),
        (2.0, np.float64),
        ([1, 2], np.float64),
        ([[1.0, 2.0]], np.float64),
        (np.array([1, 2], np.int8), np.float64),
        (np.ones(3, np.float32), np.float32),
        (np.float32(2), np.float32),
    ],
)
def test_numbers_lists_and_dtypes(x, dtype):
    def f(x):
        return np.sum(x**3)

    shape = np.shape(x)
    for found, wanted in (
        (gradient(f)(x), shape),
        (jacobian(lambda x: x**2)(x), shape + shape),
        (hessian(f)(x), shape + shape),
        (hvp(f)(x, np.ones(shape)), shape),
    ):
        assert type(found) is np.ndarray
        assert (found.shape, found.dtype) == (wanted, dtype)


def test_several_arguments():
    def f(a, b, power=1):
        return np.sum(a * b**power)

    a, b = np.array([2.0, 3.0]), np.array([5.0, 7.0])
    assert gradient(f)(a, b, power=2).tolist() == [25, 49]
    assert gradient(f, 1)(a, b, power=2).tolist() == [20, 42]
    assert gradient(f, -1)(a, b, power=2).tolist() == [20, 42]
    assert hessian(f, 1)(a, b, power=2).tolist() == [[4, 0], [0, 6]]
    assert hvp(f, 1)(a, b, [1.0, 1.0], power=2).tolist() == [4, 6]
    assert jacobian(lambda a, b: a * b, 1)(a, b).tolist() == [[2, 0], [0, 3]]
    assert gradient(lambda a, b: a * b**2, 1)(a[0], a[0]) == 8  # the same array twice


def test_a_list_of_numbers_is_stacked():
    assert jacobian(lambda x: [x[0] * x[1], 1.0, 3 * x[1]])([2.0, 3.0]).tolist() == [[3, 2], [0, 0], [0, 3]]
    assert jacobian(lambda x: (x[0], x[1]))([2.0, 3.0]).tolist() == [[1, 0], [0, 1]]


def test_f_is_called_once():
    calls = []

    def f(x):
        return calls.append(x) or np.sum(x**4)

    for way in (gradient(f), value_and_gradient(f), jacobian(f), hessian(f), lambda x: hvp(f)(x, x)):
        calls.clear()
        way([1.0, 2.0, 3.0])
        assert len(calls) == 1


def test_what_does_not_depend_on_x_has_derivative_zero():
    """As in JAX."""
    for f in (lambda x: 1.0, lambda x: np.array(2), lambda x: mg.Tensor(3.0, requires_grad=True) ** 2):
        assert gradient(f)([1.0, 2.0]).tolist() == [0, 0]
        assert hessian(f)([1.0, 2.0]).tolist() == [[0, 0], [0, 0]]
        assert hvp(f)([1.0, 2.0], [1.0, 1.0]).tolist() == [0, 0]
        assert gradient(f)(np.float32([1, 2])).dtype == jacobian(f)(np.float32([1, 2])).dtype == np.float32


def test_under_no_grad_too():
    with mg.no_grad():
        assert gradient(lambda x: x**2)(3.0) == 6
        assert hessian(lambda x: x**3)(3.0) == 18
        assert not mg.is_grad_enabled()


# In each other --------------------------------------------------------------------------------------------------------


def test_gradients_of_gradients():
    assert gradient(gradient(gradient(lambda x: x**5)))(2.0) == 240
    assert jacobian(gradient(rosenbrock))([1.0, 2.0]).tolist() == hessian(rosenbrock)([1.0, 2.0]).tolist()
    third = gradient(lambda x: np.sum(hvp(rosenbrock)(x, [1.0, 0.0])))([1.0, 2.0])  # ∂³/∂x₀³ + ∂³/∂x₀²∂x₁, …
    np.testing.assert_allclose(third, [2400 * 1.0 - 400, -400])
    assert gradient(lambda x: value_and_gradient(lambda y: y**3)(x)[0])(2.0) == 12


def test_inner_and_outer_variables_are_not_confused():
    """ "Perturbation confusion" (Siskind and Pearlmutter 2005)."""
    assert gradient(lambda x: x * gradient(lambda y: x + y)(1.0))(1.0) == 1
    assert gradient(lambda x: x * gradient(lambda y: x * y)(x))(3.0) == 6
    assert gradient(lambda x: x * gradient(lambda y: 2 * y)(x))(3.0) == 2
    assert gradient(lambda a: gradient(lambda x: a * x**2)(3.0))(2.0) == 6


def test_in_an_objective_and_of_tensors():
    squared_slope = mg.Objective(lambda w: np.sum(gradient(rosenbrock)(w) ** 2), [1.5, 2.0])
    x = squared_slope.theta
    np.testing.assert_allclose(squared_slope.gradient(), 2 * hessian(rosenbrock)(x) @ gradient(rosenbrock)(x))
    w = mg.Tensor([1.5, 2.0], requires_grad=True)
    assert type(gradient(rosenbrock)(w)) is mg.Tensor
    with mg.no_grad():
        found = gradient(rosenbrock)(w)
    assert type(found) is np.ndarray
    assert found.tolist() == gradient(rosenbrock)([1.5, 2.0]).tolist()


def test_an_error_in_f_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError):
        gradient(lambda x: 1 / 0)(1.0)
    assert type(gradient(lambda x: x**2)(1.0)) is np.ndarray


def test_compiled():
    f, x, v = rosenbrock, np.array([-1.2, 1.0, 0.5]), np.array([1.0, 2.0, 3.0])
    for way, args in ((gradient, (x,)), (hessian, (x,)), (hvp, (x, v))):
        program = mg.compile(way(f))
        program(*args)
        for moved in (args, [a + 1 for a in args]):
            assert program(*moved).tolist() == way(f)(*moved).tolist()


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: gradient(lambda x: x)([1.0, 2.0]), ValueError, r"shape \(2,\).*\.sum\(\).*jacobian\(f\)"),
        (lambda: hessian(lambda x: x)([1.0, 2.0]), ValueError, r"shape \(2,\)"),
        (lambda: hvp(lambda x: x)([1.0, 2.0], [1.0, 2.0]), ValueError, r"shape \(2,\)"),
        (lambda: gradient(lambda x: None)(1.0), TypeError, "not None; does it return"),
        (lambda: gradient(lambda x: "a")(1.0), TypeError, "not 'a'"),
        (lambda: gradient(3.0), TypeError, r"f is a function.*gradient\(f\)\(x\)"),
        (lambda: jacobian(3.0), TypeError, r"jacobian\(f\)\(x\)"),
        (lambda: gradient(np.sum, (0, 1)), TypeError, "argnum"),
        (lambda: gradient(lambda x: x)(x=1.0), TypeError, "argument 0, and 0 were given by position"),
        (lambda: gradient(lambda x: x, 1)(1.0), TypeError, "argument 1, and 1 were given"),
        (lambda: gradient(lambda x: x)(1j), TypeError, "real numbers"),
        (lambda: gradient(lambda x: x)("a"), TypeError, "real numbers"),
        (lambda: hvp(rosenbrock)([1.0, 2.0]), TypeError, r"hvp\(f\)\(x, v\)"),
        (lambda: hvp(rosenbrock)([1.0, 2.0], [1.0]), ValueError, r"v has shape \(1,\), and x \(2,\)"),
        (lambda: jacobian(lambda x: [x, x[0]])([1.0, 2.0]), ValueError, r"shapes"),
        (lambda: gradient(lambda x: np.sum(jacobian(np.exp)(x)))([1.0]), mg.NotDifferentiableError, "gradient, value_"),
        (lambda: hessian(rosenbrock)(mg.Tensor([1.0, 2.0], requires_grad=True)), mg.NotDifferentiableError, r"\.data"),
        (lambda: gradient(lambda x: float(x))(1.0), TypeError, r"float\(\)"),
    ],
)
def test_refused(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong()


# The benchmark --------------------------------------------------------------------------------------------------------


def test_the_benchmark_at_its_smallest(monkeypatch, capsys, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{benchmark.BEGIN}\nold\n{benchmark.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["derivatives.py", "--quick", "--write", str(page)])
    benchmark.main()
    printed, written = capsys.readouterr().out, page.read_text(encoding="utf-8")
    assert written == f"before\n{benchmark.BEGIN}\n{printed}{benchmark.END}\nafter\n"
    first, second = (line for line in printed.splitlines() if line.startswith("| Rosenbrock, n = 2"))
    assert " · 1 · " in first.split("|")[3]
    assert " · 4 · " in first.split("|")[5]
    assert " · 12 · " in second.split("|")[5]


def test_the_benchmark_finds_who_is_ahead():
    slow, quick, wrong = (
        benchmark.Measured(1e-9, 1, 2.0),
        benchmark.Measured(1e-8, 4, 1.0),
        benchmark.Measured(np.nan, 4, 1.0),
    )
    rows = {("f", "gradient"): {benchmark.EXACT: slow, "differences": quick, "broken": wrong}}
    assert list(benchmark.ahead(rows)) == [
        "Ahead of `exact` in time: differences (f, gradient).",
        "Ahead of `exact` in error: none.",
    ]
    assert [benchmark.duration(s) for s in (12.3, 0.456, 7.89e-5)] == ["12 s", "460 ms", "79 µs"]


def test_the_benchmark_measures_the_error_of_each_way():
    task = benchmark.rosenbrock(2)

    def wrong(f):
        return lambda x: gradient(f)(x) * (1 + 1e-6)

    found = benchmark.measured("wrong", wrong, task, task.gradient(task.x.astype(np.longdouble)), 0.0)
    assert found.error == pytest.approx(1e-6)
    assert found.evaluations == 1
