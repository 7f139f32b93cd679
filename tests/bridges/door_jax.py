"""What docs/from_jax.md shows: a JAX network trained with optax, and the verdict on it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from microgradopt import critical
from microgradopt.bridges import jax as bridge

X, y = load_digits(return_X_y=True)
X, y = (X[:640] / 16).astype(np.float32), y[:640].astype(np.int32)
rng = np.random.default_rng(0)
params = [
    {"W": rng.normal(size=shape).astype(np.float32) / 8, "b": np.zeros(shape[1], np.float32)}
    for shape in ((64, 32), (32, 10))
]


def apply(params, X):
    """The logits."""
    return jnp.tanh(X @ params[0]["W"] + params[0]["b"]) @ params[1]["W"] + params[1]["b"]


def loss(logits, y):
    """Cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


# train
adam = optax.adam(1e-6)
state, losses = adam.init(params), []
step = jax.jit(jax.value_and_grad(lambda params, X, y: loss(apply(params, X), y)))
batches = list(zip(np.split(X, 20), np.split(y, 20), strict=True))
for _ in range(5):
    for batch in batches:
        value, g = step(params, *batch)
        updates, state = adam.update(g, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
# ask
run = bridge.run(apply, params, loss, batches, "adam", state, history=losses, lr=1e-6)
found = critical.diagnose(run, budget=1500)
print(found)
cured = found.cure().train(200)
params = bridge.unflatten(params, cured.objective.theta)
print(f"loss {float(loss(apply(params, X), y)):.4f}")
# a point
objective = bridge.objective(lambda params: loss(apply(params, X), y), params)
print(objective.n, critical.classify(objective, max_products=60).kind)
# end
