"""HessianOperator: products against the dense Hessian, PyTorch and SciPy."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn
from microgradopt.curvature import HessianOperator

rng = np.random.default_rng(5)


@pytest.fixture
def objective():
    model = nn.MLP([3, 5, 4, 2], activation=nn.Tanh, rng=0)
    X, y = rng.normal(size=(20, 3)), rng.integers(0, 2, 20)
    return mg.Objective.of(model, lambda: nn.cross_entropy(model(X), y))


def differences(objective, theta, v, h=1e-5):
    """H v by central differences of the gradient."""
    return (objective.gradient(theta + h * v) - objective.gradient(theta - h * v)) / (2 * h)


def test_products_are_differences_of_gradients(objective):
    theta = rng.normal(size=objective.n) / 2
    for H in (HessianOperator(objective), HessianOperator(objective, theta)):
        at = objective.theta if H.value == objective.value() else theta
        v = rng.normal(size=objective.n)
        np.testing.assert_allclose(H @ v, differences(objective, at, v), atol=1e-8)
        np.testing.assert_array_equal(H.gradient, objective.gradient(at))
        assert H.value == objective.value(at)


@pytest.mark.parametrize("k", [0, 1, 7, 300])
def test_many_columns_at_once(objective, k, monkeypatch):
    monkeypatch.setattr("microgradopt.autodiff._AT_ONCE", 1000)  # so that there are several blocks
    H = HessianOperator(objective)
    V = rng.normal(size=(objective.n, k))
    product = H @ V
    assert product.shape == V.shape
    assert H.products == k
    np.testing.assert_allclose(product, H.dense() @ V, rtol=1e-11, atol=1e-12)


def test_dense_is_the_matrix_of_the_products(objective):
    H = HessianOperator(objective)
    np.testing.assert_allclose(H.dense(), H @ np.eye(objective.n), rtol=1e-12, atol=1e-14)
    assert H.shape == (objective.n, objective.n)
    assert H.products == 2 * objective.n


@pytest.mark.parity
def test_dense_is_torchs(objective):
    torch = pytest.importorskip("torch")
    theta = objective.theta
    X, y = rng.normal(size=(9, 3)), rng.integers(0, 2, 9)
    model = objective.model
    ours = mg.Objective.of(model, lambda: nn.cross_entropy(model(X), y))
    shapes = [p.shape for p in model.parameters()]

    def loss(flat):
        parts = [part.reshape(s) for part, s in zip(flat.split([int(np.prod(s)) for s in shapes]), shapes, strict=True)]
        h = torch.tensor(X)
        for i in range(0, len(parts), 2):
            h = torch.nn.functional.linear(torch.tanh(h) if i else h, parts[i], parts[i + 1])
        return torch.nn.functional.cross_entropy(h, torch.tensor(y))

    expected = torch.autograd.functional.hessian(loss, torch.tensor(theta)).numpy()
    np.testing.assert_allclose(HessianOperator(ours).dense(), expected, rtol=1e-10, atol=1e-13)


def test_scipy_takes_it_for_a_linear_operator(objective):
    linalg = pytest.importorskip("scipy.sparse.linalg")
    H = HessianOperator(objective)
    largest = linalg.eigsh(linalg.aslinearoperator(H), 2, which="LA")[0]
    np.testing.assert_allclose(largest, np.linalg.eigvalsh(H.dense())[-2:], rtol=1e-9)
    np.testing.assert_allclose(linalg.aslinearoperator(H) @ np.eye(objective.n), H.dense(), rtol=1e-11, atol=1e-13)


def test_it_holds_what_it_recorded(objective):
    """Evaluations elsewhere do not disturb it; writing its own parameters makes it refuse."""
    H, v = HessianOperator(objective), rng.normal(size=objective.n)
    before = H @ v
    objective.gradient(objective.theta + 1)
    HessianOperator(objective, objective.theta - 1).dense()
    np.testing.assert_array_equal(H @ v, before)
    objective.theta = objective.theta + 1
    with pytest.raises(mg.OverwrittenError):
        H @ v


def test_no_curvature():
    for f in (lambda x: (2 * x).sum(), lambda x: x[0] + x[1] * 2):
        H = HessianOperator(mg.Objective(f, [1.0, 2.0]))
        assert (H @ np.ones(2)).tolist() == [0, 0]
        assert (H @ np.eye(2)).tolist() == H.dense().tolist() == [[0, 0]] * 2


def test_a_parameter_that_is_not_used():
    H = HessianOperator(
        mg.Objective.of(
            [mg.Tensor([1.0], requires_grad=True), w := mg.Tensor([2.0], requires_grad=True)], lambda: (w**3).sum()
        )
    )
    assert H.dense().tolist() == [[0, 0], [0, 12]] == (H @ np.eye(2)).tolist()


def test_float32_stays():
    H = HessianOperator(mg.Objective(lambda x: (x**3).sum(), np.ones(3, np.float32)))
    assert {H.dtype, (H @ np.ones(3)).dtype, (H @ np.eye(3)).dtype, H.dense().dtype, H.gradient.dtype} == {
        np.dtype("f4")
    }


def test_shapes_that_do_not_fit(objective):
    H = HessianOperator(objective)
    for wrong in (np.ones(objective.n + 1), np.ones((2, objective.n)), 3.0):
        with pytest.raises(ValueError, match="HessianOperator"):
            H @ wrong


def test_a_function_is_no_objective():
    with pytest.raises(TypeError, match=r"mg\.Objective\(f, x0\)"):
        HessianOperator(lambda x: x.sum(), [1.0])
