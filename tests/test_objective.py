"""The objective: a loss as a function of one flat vector, on functions and networks whose derivatives are known."""

import copy

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Objective, Tensor, nn
from microgradopt.objective import ParameterVector


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def network(seed=0, dtype=np.float64):
    model = nn.MLP((3, 4, 2), activation=nn.Tanh, rng=seed, dtype=dtype)
    X = np.random.default_rng(1).normal(size=(7, 3)).astype(dtype)
    y = np.array([0, 1, 0, 1, 1, 0, 1])
    return model, lambda: nn.cross_entropy(model(X), y)


class TestFunctions:
    def test_rosenbrock_at_its_minimum(self):
        objective = Objective(rosenbrock, [1.0, 1.0])
        assert objective.n == 2
        assert objective.value() == 0.0
        np.testing.assert_array_equal(objective.gradient(), [0.0, 0.0])
        np.testing.assert_allclose(
            np.linalg.eigvalsh(objective.hessian()), [501 - np.sqrt(250601), 501 + np.sqrt(250601)], rtol=1e-10
        )

    @pytest.mark.parametrize(
        ("at", "value"),
        [
            ((3.0, 2.0), 0.0),
            ((3.584428, -1.848127), 0.0),
            ((3.385154, 0.073852), 13.3119),
            ((-0.270845, -0.923039), 181.6165),
        ],
    )
    def test_himmelblau(self, at, value):
        objective = Objective(himmelblau, [0.0, 0.0])
        assert objective.value(at) == pytest.approx(value, abs=1e-4)
        assert np.linalg.norm(objective.gradient(at)) < 1e-3
        x, y = at
        exact = [[12 * x**2 + 4 * y - 42, 4 * x + 4 * y], [4 * x + 4 * y, 12 * y**2 + 4 * x - 26]]
        np.testing.assert_allclose(objective.hessian(at), exact, rtol=1e-12)
        np.testing.assert_allclose(objective.hvp([1.0, 2.0], at), np.array(exact) @ [1.0, 2.0], rtol=1e-12)

    def test_value_and_gradient_together(self):
        objective = Objective(rosenbrock, [-1.2, 1.0])
        value, g = objective.value_and_gradient()
        assert value == objective.value() == pytest.approx(24.2)
        np.testing.assert_allclose(g, [-215.6, -88.0])

    def test_linear_and_constant(self):
        linear = Objective(lambda x: np.sum(x * np.array([1.0, 2.0])), [0.0, 0.0])
        np.testing.assert_array_equal(linear.gradient(), [1.0, 2.0])
        np.testing.assert_array_equal(linear.hessian(), np.zeros((2, 2)))
        np.testing.assert_array_equal(linear.hvp([1.0, 1.0]), [0.0, 0.0])
        constant = Objective(lambda x: Tensor(3.0), [0.0, 0.0])
        assert constant.value() == 3.0
        for derivative in (constant.gradient, constant.hessian, lambda: constant.hvp([1.0, 1.0])):
            with pytest.raises(RuntimeError, match="does not depend"):
                derivative()

    def test_float32(self):
        objective = Objective(rosenbrock, np.array([1.0, 2.0], np.float32))
        for result in (objective.theta, objective.gradient(), objective.hvp([1, 0]), objective.hessian()):
            assert result.dtype == np.float32

    @pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
    def test_losses_of_one_element(self, shape):
        objective = Objective(lambda x: np.reshape(np.sum(x**3), shape), [1.0, 2.0])
        assert objective.value() == 9.0
        np.testing.assert_array_equal(objective.gradient(), [3.0, 12.0])
        np.testing.assert_array_equal(objective.hessian(), np.diag([6.0, 12.0]))
        np.testing.assert_array_equal(objective.hvp([1.0, 1.0]), [6.0, 12.0])

    def test_what_comes_out_is_ones_own(self):
        objective = Objective(rosenbrock, [1.0, 2.0])
        for call in (objective.gradient, objective.hessian, lambda: objective.hvp([1.0, 0.0])):
            first = call().copy()
            call()[:] = 99.0
            np.testing.assert_array_equal(call(), first)

    @pytest.mark.parametrize("x0", [1.0, [[1.0, 2.0]]])
    def test_x0_is_a_vector(self, x0):
        with pytest.raises(ValueError, match="vector"):
            Objective(rosenbrock, x0)

    @pytest.mark.parametrize("f", [lambda x: x, lambda x: 3.0, lambda x: x.data.sum()])
    def test_the_loss_is_a_scalar_tensor(self, f):
        with pytest.raises(ValueError, match="scalar Tensor"):
            Objective(f, [1.0, 2.0]).value()


class TestModels:
    def test_theta_is_all_parameters_in_order(self):
        model, loss = network()
        objective = Objective.of(model, loss)
        np.testing.assert_array_equal(objective.theta, np.concatenate([p.data.ravel() for p in model.parameters()]))
        assert objective.parameters == list(model.parameters())

    def test_gradient_is_backwards(self):
        model, loss = network()
        g = Objective.of(model, loss).gradient()
        assert all(p.grad is None for p in model.parameters())
        loss().backward()
        np.testing.assert_array_equal(g, np.concatenate([p.grad.ravel() for p in model.parameters()]))

    def test_second_derivatives(self):
        objective = Objective.of(*network())
        H, theta, eps = objective.hessian(), objective.theta, 1e-5
        for i in range(0, objective.n, 5):
            e = np.eye(objective.n)[i]
            numeric = (objective.gradient(theta + eps * e) - objective.gradient(theta - eps * e)) / (2 * eps)
            np.testing.assert_allclose(H[i], numeric, atol=1e-9)
            np.testing.assert_allclose(objective.hvp(e), H[i], atol=1e-15)
        np.testing.assert_allclose(H, H.T, atol=1e-15)

    def test_setting_theta_writes_the_model(self):
        model, loss = network()
        objective = Objective.of(model, loss)
        objective.theta = np.arange(objective.n)
        np.testing.assert_array_equal(model[0].weight.data, np.arange(12.0).reshape(4, 3))
        theta = objective.theta
        theta[:] = 0.0
        assert objective.theta[1] == 1.0, "what is handed out is a copy"
        given = np.ones(objective.n)
        objective.theta = given
        given[:] = 5.0
        assert (objective.theta == 1.0).all(), "and so is what is taken"

    def test_a_given_theta_leaves_the_current_one_as_it_was(self):
        model, loss = network()
        objective = Objective.of(model, loss)
        before, elsewhere = objective.theta, np.full(objective.n, 0.1)
        outstanding = loss()
        for call in (objective.value, objective.gradient, objective.hessian, objective.value_and_gradient):
            call(elsewhere)
        objective.hvp(before, elsewhere)
        np.testing.assert_array_equal(objective.theta, before)
        outstanding.backward()  # what was recorded before is still right
        np.testing.assert_array_equal(
            objective.gradient(), np.concatenate([p.grad.ravel() for p in model.parameters()])
        )

    @pytest.mark.parametrize("method", ["value", "gradient", "value_and_gradient", "hessian", "hvp"])
    @pytest.mark.parametrize("fails", [lambda: 1 / 0, lambda: 3.0])
    def test_restored_when_the_loss_fails(self, method, fails):
        """The values, and the graph that was recorded at them."""
        model, loss = network()
        objective = Objective.of(model, fails)
        before, outstanding = objective.theta, loss()
        vectors = [np.ones(objective.n)] if method == "hvp" else []
        with pytest.raises((ZeroDivisionError, ValueError)):
            getattr(objective, method)(*vectors, before + 1)
        np.testing.assert_array_equal(objective.theta, before)
        outstanding.backward()
        expected = mg.grad(loss(), list(model.parameters()))
        for p, g in zip(model.parameters(), expected, strict=True):
            np.testing.assert_array_equal(p.grad, g)

    @pytest.mark.parametrize("method", ["value", "gradient", "value_and_gradient", "hessian", "hvp"])
    def test_at_a_given_theta_it_is_as_if_it_were_the_current_one(self, method):
        (model, loss), (other, other_loss) = network(), network(1)
        here, there = Objective.of(model, loss), Objective.of(other, other_loss)
        vectors = [np.linspace(-1, 1, here.n)] if method == "hvp" else []
        given = getattr(here, method)(*vectors, there.theta.tolist())
        current = getattr(there, method)(*vectors)
        for a, b in zip(*([v] if not isinstance(v, tuple) else v for v in (given, current)), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_second_derivatives_outstanding_at_the_current_theta(self):
        """A graph of gradients, recorded before, survives an evaluation elsewhere too."""
        model, loss = network()
        objective, parameters = Objective.of(model, loss), list(model.parameters())
        gradients = mg.grad(loss(), parameters, create_graph=True)
        objective.hessian(objective.theta + 1)
        norm = sum((np.sum(g * g) for g in gradients), start=Tensor(0.0))
        norm.backward()
        g = objective.gradient()
        found = np.concatenate([p.grad.ravel() for p in parameters])
        np.testing.assert_allclose(found, 2 * objective.hvp(g), rtol=1e-10, atol=1e-14)

    def test_evaluation_elsewhere_inside_of_an_evaluation(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        inner = Objective.of([x], lambda: np.sum(x**3))
        outer = Objective.of([x], lambda: np.sum(x * inner.gradient([10.0, 20.0])))
        np.testing.assert_array_equal(outer.gradient([5.0, 5.0]), [300.0, 1200.0])
        np.testing.assert_array_equal(x.data, [1.0, 2.0])

    def test_unused_and_frozen_parameters(self):
        used, unused, frozen = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(3))
        frozen.requires_grad = False
        objective = Objective.of([used, unused, frozen], lambda: np.sum(used**3))
        np.testing.assert_array_equal(objective.gradient(), [3.0, 12.0, 0.0, 0.0])
        np.testing.assert_array_equal(objective.hessian(), np.diag([6.0, 12.0, 0.0, 0.0]))

    def test_one_tensor_is_put_in_brackets(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        with pytest.raises(TypeError, match="brackets"):
            Objective.of(x, lambda: np.sum(x))
        assert Objective.of([x], lambda: np.sum(x)).n == 2

    def test_of_nothing(self):
        for nothing in ([], nn.ReLU(), [Tensor([1.0])]):
            with pytest.raises(ValueError, match="there are none"):
                Objective.of(nothing, lambda: Tensor(1.0))

    def test_float32_network(self):
        objective = Objective.of(*network(dtype=np.float32))
        reference = Objective.of(*network())
        reference.theta = objective.theta
        v = np.linspace(-1, 1, objective.n)
        for result, expected in (
            (objective.gradient(), reference.gradient()),
            (objective.hvp(v), reference.hvp(v)),
            (objective.hessian(), reference.hessian()),
            (objective.gradient(objective.theta.astype(np.float64) + 1), reference.gradient(reference.theta + 1)),
        ):
            assert result.dtype == np.float32
            np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-5)

    def test_no_gradients_are_left_or_touched(self):
        model, loss = network()
        objective = Objective.of(model, loss)
        for p in model.parameters():
            p.grad = np.full(p.shape, 7.0)
        objective.value_and_gradient()
        objective.hessian()
        objective.hvp(objective.theta, objective.theta + 1)
        assert all((p.grad == 7.0).all() for p in model.parameters())

    def test_wrong_lengths(self):
        objective = Objective.of(*network())
        for call in (objective.value, objective.hvp, lambda v: setattr(objective, "theta", v)):
            with pytest.raises(ValueError, match=r"shape \(3,\)"):
                call(np.ones(3))

    def test_changes_made_elsewhere_are_seen(self):
        model, loss = network()
        objective = Objective.of(model, loss)
        _ = objective.theta
        model[0].bias.data = np.full(4, 9.0)
        assert (objective.theta[12:16] == 9.0).all()

    @pytest.mark.parity
    def test_hessian_is_pytorchs(self):
        torch = pytest.importorskip("torch")
        model, loss = network()
        X = torch.tensor(np.random.default_rng(1).normal(size=(7, 3)))
        y = torch.tensor([0, 1, 0, 1, 1, 0, 1])

        def reference(theta):
            w1, b1, w2, b2 = theta[:12].view(4, 3), theta[12:16], theta[16:24].view(2, 4), theta[24:]
            return torch.nn.functional.cross_entropy(torch.tanh(X @ w1.T + b1) @ w2.T + b2, y)

        objective = Objective.of(model, loss)
        expected = torch.autograd.functional.hessian(reference, torch.tensor(objective.theta))
        np.testing.assert_allclose(objective.hessian(), expected.numpy(), rtol=1e-10, atol=1e-13)

    def test_a_compiled_hessian_has_one_program_for_many_blocks(self):
        A = np.random.default_rng(0).normal(size=(5000, 20))  # 6 rows at once: 3 blocks, and 2 more rows
        x, c, unused = (Tensor(np.linspace(-1, 1, n), requires_grad=True) for n in (20, 3, 2))

        def loss():
            return np.sum((A @ x) ** 4) / 12 + c.sum()

        objective = Objective.of([c, x, unused], loss, compile=mg.compile)
        expected = np.zeros((25, 25))
        expected[3:23, 3:23] = A.T @ ((A @ x.data)[:, None] ** 2 * A)
        H = objective.hessian()
        np.testing.assert_allclose(H, expected, rtol=1e-11, atol=1e-9)
        np.testing.assert_array_equal(H, Objective.of([c, x, unused], loss).hessian())
        np.testing.assert_array_equal(H, mg.compile(objective.hessian)())
        assert "2 programs" in repr(objective._rows[1])
        assert len(objective._rows[1].source.splitlines()) < 40


class TestParameterVector:
    def test_mixed_dtypes_keep_their_own(self):
        tensors = [Tensor(np.ones(2, np.float32), requires_grad=True), Tensor(np.ones(3), requires_grad=True)]
        vector = ParameterVector(tensors)
        assert vector.theta().dtype == np.float64
        vector.write(np.arange(5.0))
        assert [t.dtype for t in tensors] == [np.float32, np.float64]
        np.testing.assert_array_equal(vector.theta(), np.arange(5.0))

    def test_scalars_and_empty_tensors(self):
        tensors = [Tensor(2.0, requires_grad=True), Tensor(np.empty((0, 3)), requires_grad=True)]
        vector = ParameterVector(tensors)
        vector.write(np.array([5.0]))
        assert tensors[0].item() == 5.0
        np.testing.assert_array_equal(vector.theta(), [5.0])

    def test_one_tensor_is_no_list(self):
        with pytest.raises(TypeError, match="brackets"):
            ParameterVector(Tensor([1.0, 2.0]))

    def test_writing_is_dated(self):
        x = Tensor([1.0], requires_grad=True)
        y = x * x
        ParameterVector([x]).write(np.array([2.0]))
        with pytest.raises(mg.OverwrittenError):
            y.backward()


def test_what_was_recorded_elsewhere_is_not_mixed_with_what_is_here():
    """A loss that left `at`: its values are those of there, and where a rule would read θ as it is here, it refuses."""
    objective = Objective(lambda x: (x * x * x).sum(), [1.0, 2.0])
    with objective.at([3.0, 4.0]) as loss:
        inside = mg.grad(loss, objective.parameters, create_graph=True)[0].data.copy()
    np.testing.assert_array_equal(mg.grad(loss, objective.parameters)[0], inside)
    np.testing.assert_array_equal(inside, [27, 48])
    with pytest.raises(mg.OverwrittenError):
        mg.grad(loss, objective.parameters, create_graph=True)
    assert objective.theta.tolist() == [1, 2]


# At many θ at once: the same as one by one ----------------------------------------------------------------------------

M = np.random.default_rng(3).normal(size=(6, 5))


def one_by_one(w):
    """Python chooses, by value."""
    return (w * w).sum() if w.data[0] > 0 else np.sin(w).sum()


def by_number(w):
    return w.sum() ** 2 * (1.0 if float(w.detach().sum().item()) > 0 else 2.0)


def in_place(w):
    y = w * 2.0
    y += w[0]
    y **= 2
    return y.sum()


LOSSES = {
    "a bowl": lambda w: (w * w).sum(),
    "products": lambda w: np.sum(np.tanh(M @ w) ** 2),
    "rows": lambda w: (np.outer(w, w) @ M.T[:, 0]).sum() ** 2,
    "indices": lambda w: (
        (w[[0, 0, 2]] * w[1:4]).sum() + w[-1] ** 3 + w[np.array([True, False, True, False, True])].prod()
    ),
    "powers": lambda w: (np.abs(w) ** np.array([1.0, 2, 3, 2, 1])).sum(),
    "where": lambda w: np.where(w > 0, w * w, np.exp(w)).sum(),
    "clipped": lambda w: np.clip(w, -0.5, None).sum() ** 2 + np.clip(w, None, 0.2).sum(),
    "largest": lambda w: np.max(w) * np.min(w) + mg.logsumexp(w),
    "spread": lambda w: np.var(w, ddof=1) + np.std(w) + np.linalg.norm(w),
    "sorted": lambda w: np.sort(w)[1] ** 2 + np.median(w) ** 2,
    "weights": lambda w: np.average(np.arange(5.0), weights=w * w + 1),
    "running": lambda w: (np.cumsum(w) * np.cumprod(w)).sum(),
    "einsum": lambda w: np.einsum("i,ij,j->", w, M[:5], w),
    "matrices": lambda w: (
        np.linalg.slogdet(np.eye(5) * 9 + np.outer(w, w)).logabsdet
        + np.linalg.inv(np.eye(5) * 9 + np.outer(w, w)).sum()
    ),
    "stacked": lambda w: (np.stack([w, w * w]) @ w).prod() + np.concatenate([w, w[:2]], axis=None).sum() ** 2,
    "chosen": lambda w: w[int(np.argmax(w.data))] ** 2,
    "branches": one_by_one,
    "numbers": by_number,
    "in place": in_place,
    "filled": lambda w: np.full_like(w, w[0] * w[1]).sum() + np.sum(w, where=np.arange(5) > 1),
    "padded": lambda w: (np.pad(w, 1)[:-2] * w).sum(),
    "gelu": lambda w: nn.functional.gelu(w).sum() + nn.functional.softplus(w).sum(),
    "constant in one": lambda w: w[1:].sum() ** 2,
    "scalars": lambda w: w[0] * w[1] / (1 + w[2] ** 2),
}


def assert_one_by_one(objective, thetas, near=1e-11):
    before, gradients = objective.theta, [p.grad for p in objective.parameters]
    for many, one in (("values", "value"), ("gradients", "gradient"), ("hessians", "hessian")):
        found = getattr(objective, many)(thetas)
        expected = np.array([getattr(objective, one)(theta) for theta in thetas])
        assert found.dtype == before.dtype
        assert found.shape == (len(thetas), *(objective.n,) * ("values", "gradients", "hessians").index(many))
        np.testing.assert_allclose(
            found, expected.reshape(found.shape), rtol=near, atol=near * np.max(np.abs(expected), initial=1)
        )
    np.testing.assert_array_equal(objective.theta, before)
    assert [p.grad for p in objective.parameters] == gradients


class TestAtManyPoints:
    @pytest.mark.parametrize("name", LOSSES)
    def test_losses(self, name):
        objective = Objective(LOSSES[name], [0.3, -0.4, 0.5, 0.9, -1.1])
        for k in (1, 3, 8):  # fewer points than parameters, and more
            assert_one_by_one(objective, np.random.default_rng(k).normal(size=(k, 5)))

    def test_of_one_and_two_parameters(self):
        assert_one_by_one(Objective(lambda w: w[0] ** 3, [2.0]), [[1.0], [-2.0], [0.5]])
        assert_one_by_one(Objective(rosenbrock, [0.0, 0.0]), np.random.default_rng(0).normal(size=(300, 2)))

    @pytest.mark.parametrize("k", [0, 1, 256, 257, 300])
    def test_numbers_of_points(self, k):
        assert_one_by_one(Objective(himmelblau, [0.0, 0.0]), np.random.default_rng(k).normal(size=(k, 2)))

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("compile", [None, mg.compile])
    def test_networks(self, dtype, compile):
        objective = Objective.of(*network(dtype=dtype), compile=compile)
        thetas = np.random.default_rng(1).normal(size=(30, objective.n)).astype(dtype)
        assert_one_by_one(objective, thetas, 1e-11 if dtype == np.float64 else 1e-5)

    def test_buffers_stay_what_they_are(self):
        model = nn.Sequential(nn.Linear(3, 2, rng=0), nn.BatchNorm1d(2), nn.Dropout(0.5, rng=0), nn.Linear(2, 2, rng=1))
        X = np.random.default_rng(1).normal(size=(7, 3))
        objective = Objective.of(model, lambda: nn.mse_loss(model(X), np.ones((7, 2))))
        before = [getattr(m, name).copy() for _, m in model.named_modules() for name in type(m).buffers]
        assert_one_by_one(objective, np.random.default_rng(2).normal(size=(20, objective.n)), 1e-9)
        after = [getattr(m, name) for _, m in model.named_modules() for name in type(m).buffers]
        assert all(map(np.array_equal, before, after))

    def test_other_ways_to_make_one(self):
        w = Tensor([1.0, 2.0], requires_grad=True)
        thetas = np.random.default_rng(0).normal(size=(4, 2))
        assert_one_by_one(Objective.least_squares([w], lambda: w[0] * np.arange(4.0) + w[1] ** 2 - 1), thetas)
        quartic = Objective.external(lambda x: (np.sum(x**4), 4 * x**3), [1.0, 2.0], lambda x, v: 12 * x**2 * v)
        assert_one_by_one(quartic, thetas)

    def test_an_error_is_the_loss_s_own_and_theta_stays(self):
        def loss(w):
            raise KeyError("mine")

        objective = Objective(loss, [1.0, 2.0])
        for f in (objective.values, objective.gradients, objective.hessians):
            with pytest.raises(KeyError, match="mine"):
                f(np.ones((3, 2)))
        with pytest.raises(np.exceptions.AxisError):
            Objective(lambda w: np.sum(w, axis=1), [1.0, 2.0]).values(np.ones((3, 2)))
        assert objective.theta.tolist() == [1, 2]

    @pytest.mark.parametrize("thetas", [np.ones(2), np.ones((3, 1)), np.ones((1, 3, 2)), 1.0])
    def test_wrong_shapes(self, thetas):
        objective = Objective(rosenbrock, [1.0, 2.0])
        for f in (objective.values, objective.gradients, objective.hessians):
            with pytest.raises(ValueError, match=r"\(k, 2\)"):
                f(thetas)


def test_a_copy_has_a_theta_of_its_own():
    """Its loss was computed at the θ of the original: the function had kept that tensor."""
    for compile in (None, mg.compile):
        first = Objective(lambda x: (x**4).sum(), [1.0, 2.0], compile)
        assert (first.value(), first.gradient()[0]) == (17.0, 4.0)
        optimizer = mg.optim.SGD(first.parameters, lr=0.25)
        other, moving = copy.deepcopy((first, optimizer))
        mg.training.trajectory(other, moving, 1)
        np.testing.assert_array_equal(other.theta, [0.0, -6.0])
        assert (other.value(), other.hessian()[1, 1]) == (6.0**4, 12 * 36.0)
        assert (first.value(), first.theta.tolist()) == (17.0, [1.0, 2.0])
    elsewhere = Objective.external(lambda x: (np.sum(x**2), 2 * x), [1.0])
    other = copy.deepcopy(elsewhere)
    other.theta = [3.0]
    assert (elsewhere.value(), other.value()) == (1.0, 9.0)


def test_what_is_a_function_of_a_model_is_not_copied():
    model = nn.Linear(2, 1, rng=0)
    for objective in (
        Objective.of(model, lambda: model(np.ones((1, 2))).sum()),
        Objective.least_squares(model, lambda: model(np.ones((1, 2)))),
    ):
        with pytest.raises(TypeError, match="make an objective of the copy"):
            copy.deepcopy(objective)


@pytest.mark.parametrize("theta", [np.array([1j, 2.0]), [1j, 2.0], ["1", "2"], [1.0, None]])
def test_a_theta_of_something_else_than_real_numbers(theta):
    """Of complex numbers the real part was taken, None was NaN."""
    bowl = Objective(lambda x: (x * x).sum(), [1.0, 2.0])
    asked = (
        bowl.value,
        bowl.gradient,
        bowl.hessian,
        bowl.hvp,
        lambda x: bowl.values([x]),
        lambda x: bowl.hessians([x]),
    )
    for ask in (*asked, lambda x: setattr(bowl, "theta", x)):
        with pytest.raises(TypeError, match="real numbers are wanted"):
            ask(theta)
    assert bowl.theta.tolist() == [1.0, 2.0]


def test_backward_leaves_the_gradient_in_the_tensors():
    used, unused = (mg.Tensor([2.0], requires_grad=True) for _ in range(2))
    for compile in (None, mg.compile):
        objective = Objective.of([used, unused], lambda: (used**3).sum(), compile)
        for graph in (False, True):
            used.grad = unused.grad = np.ones(1)
            assert objective.backward(graph).item() == 8.0
            assert (used.grad, unused.grad) == ([12.0], None)
    (second,) = mg.grad(mg.grad(objective.backward(graph=True), used, create_graph=True)[0].sum(), used)
    assert second == [12.0]
