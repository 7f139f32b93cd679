"""JAX's functions under our verdicts: the same numbers as JAX's own."""

import numpy as np
import pytest

from microgradopt import Objective, critical, optim

jax = pytest.importorskip("jax")

from microgradopt.bridges import jax as bridge  # noqa: E402

jnp = jax.numpy
pytestmark = [pytest.mark.parity, pytest.mark.long]

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 6))
Y = np.argmax(rng.normal(size=(60, 3)) + X[:, :3], axis=1)


@pytest.fixture(autouse=True)
def doubles():
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def parameters(dtype=float):
    draw = np.random.default_rng(1)
    return {
        "hidden": {"W": (draw.normal(size=(6, 8)) / 3).astype(dtype), "b": np.zeros(8, dtype)},
        "out": [(draw.normal(size=(8, 3)) / 3).astype(dtype), np.zeros(3, dtype)],
    }


def apply(p, x):
    return jnp.tanh(x @ p["hidden"]["W"] + p["hidden"]["b"]) @ p["out"][0] + p["out"][1]


def loss(out, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], axis=1).mean()


def whole(p):
    return loss(apply(p, X), Y)


def flat(p):
    return np.asarray(jax.flatten_util.ravel_pytree(p)[0])


def test_value_gradient_products_and_hessian_are_jaxs():
    p = parameters()
    objective = bridge.objective(whole, p)
    vector, tree = jax.flatten_util.ravel_pytree(p)
    H = np.asarray(jax.hessian(lambda v: whole(tree(v)))(vector))
    assert objective.value() == pytest.approx(float(whole(p)), rel=1e-14)
    np.testing.assert_allclose(objective.gradient(), flat(jax.grad(whole)(p)), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(objective.hessian(), H, rtol=1e-10, atol=1e-12)
    v = rng.normal(size=objective.n)
    np.testing.assert_allclose(objective.hvp(v), H @ v, rtol=1e-10, atol=1e-12)


def test_a_saddle_and_the_way_out():
    objective = bridge.objective(lambda p: (1 - p["w1"] * p["w2"]) ** 2, {"w1": 0.0, "w2": 0.0})
    saddle = critical.classify(objective)
    assert (saddle.kind, saddle.certified) == ("saddle point", True)
    found = bridge.unflatten({"w1": 0.0, "w2": 0.0}, saddle.escape().theta)
    assert float(found["w1"] * found["w2"]) == pytest.approx(1)


def test_float32_stays_float32():
    jax.config.update("jax_enable_x64", False)
    objective = bridge.objective(lambda p: loss(apply(p, X.astype("f4")), Y), parameters(np.float32))
    assert objective.theta.dtype == objective.gradient().dtype == np.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_dtypes_may_change_on_the_way(dtype):
    """Parameters of half precision under a loss in float32, and those of double precision too."""
    p = jax.tree.map(lambda x: jnp.asarray(x, dtype), parameters())

    def error(out, y):
        return loss(out.astype(jnp.float32), y)

    def outputs(p, x):
        return apply(p, jnp.asarray(x, dtype))

    objective = bridge.objective(lambda p: error(outputs(p, X), Y), p)
    run = bridge.run(outputs, p, error, (X, Y), "adam", lr=0.01)
    assert objective.theta.dtype == ("float64" if dtype == "float64" else "float32")
    assert run.value() == pytest.approx(float(error(outputs(p, X), Y)), rel=1e-6)
    assert run.train(20).value() < objective.value()
    assert jax.tree.leaves(bridge.unflatten(p, run.objective.theta))[0].dtype == dtype


def test_functions_that_have_no_forward_mode():
    @jax.custom_vjp
    def square(x):
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, g: (2 * x * g,))
    run = bridge.run(lambda w, x: x * square(w), jnp.ones(6), lambda out, y: (out**2).mean(), (X, Y), "sgd", lr=0.1)
    np.testing.assert_allclose(run.objective.hessian(), np.diag(2 * (X**2).mean(axis=0)), rtol=1e-12)  # (w² x)²


def test_names_are_places_in_the_tree():
    run = bridge.run(apply, parameters(), loss, (X, Y), "sgd", lr=0.1)
    assert [name for name, _ in run.model.named_parameters()] == ["hidden.W", "hidden.b", "out.0", "out.1"]
    np.testing.assert_array_equal(run.objective.theta, flat(parameters()))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
@pytest.mark.parametrize("steps", [0, 5])
def test_a_run_goes_on_as_optax_does(name, steps):
    optax = pytest.importorskip("optax")
    transform, ours, settings = {
        "sgd": (optax.sgd(0.1), "sgd", {"lr": 0.1}),
        "momentum": (optax.sgd(0.05, momentum=0.9), "sgd", {"lr": 0.05, "momentum": 0.9}),
        "adam": (optax.chain(optax.adam(0.01, b1=0.8)), "adam", {"lr": 0.01, "betas": (0.8, 0.999)}),
        "adamw": (optax.adamw(0.01, weight_decay=0.1), "adamw", {"lr": 0.01, "weight_decay": 0.1}),
    }[name]
    p = jax.tree.map(jnp.asarray, parameters())
    state = transform.init(p)

    def updated(p, state, n):
        for _ in range(n):
            updates, state = transform.update(jax.grad(whole)(p), state, p)
            p = optax.apply_updates(p, updates)
        return p, state

    p, state = updated(p, state, steps)
    run = bridge.run(apply, p, loss, (X, Y), ours, state, **settings).train(10)
    np.testing.assert_allclose(run.objective.theta, flat(updated(p, state, 10)[0]), rtol=1e-7, atol=1e-10)


def test_a_learning_rate_that_is_too_small_is_found_and_cured():
    run = bridge.run(
        apply, parameters(), loss, [(X[:30], Y[:30]), (X[30:], Y[30:])], "adam", history=[1.2] * 50, lr=1e-6
    )
    found = critical.diagnose(run, budget=1500)
    assert found.verdict == "learning rate too small"
    cured = found.cure().train(200)
    assert float(whole(bridge.unflatten(parameters(), cured.objective.theta))) == pytest.approx(cured.value(), rel=1e-9)
    assert cured.value() < 0.6 * float(whole(parameters()))


def test_second_derivatives_of_a_run():
    run = bridge.run(apply, parameters(), loss, (X, Y), "sgd", lr=0.1)
    np.testing.assert_allclose(
        run.objective.hessian(), bridge.objective(whole, parameters()).hessian(), rtol=1e-9, atol=1e-11
    )


def test_wrong_calls_say_what_to_do():
    for call, error, words in (
        (lambda: bridge.objective(1.0, parameters()), TypeError, "function of the parameters"),
        (lambda: bridge.objective(whole, {}), TypeError, "tree of arrays"),
        (lambda: bridge.objective(whole, {"w": np.arange(3)}), TypeError, "of floats"),
        (lambda: bridge.objective(whole, {**parameters(), "step": 3}), TypeError, "of floats"),
        (lambda: bridge.unflatten(parameters(), np.zeros(2)), ValueError, "of shape"),
        (lambda: bridge.run(apply, parameters(), loss, (X, Y), "lamb", lr=0.1), ValueError, "adamw"),
        (lambda: bridge.run(apply, parameters(), loss, [X], "sgd", lr=0.1), TypeError, "pair of arrays"),
        (lambda: Objective.of(jnp.ones(3), lambda: 0), TypeError, "bridges.jax.objective"),
        (lambda: bridge.run(apply, parameters(), loss, (X, Y), "sgd", lr=-1.0), ValueError, "lr"),
    ):
        with pytest.raises(error, match=words):
            call()


def test_adam_of_ours_moves_a_jax_network():
    run = bridge.run(apply, parameters(), loss, (X, Y), "adam", lr=0.05).train(100)
    assert isinstance(run.optimizer, optim.Adam)
    assert run.value() < 0.5 * float(whole(parameters()))
