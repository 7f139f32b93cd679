"""Limits of stability: exact on a quadratic."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import optim
from microgradopt.optim.stability import step_scale


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (optim.SGD, {}),
        (optim.SGD, {"momentum": 0.9}),
        (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
        (optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (optim.Momentum, {"momentum": 0.8}),
    ],
)
def test_limits_of_stability_are_exact_on_a_quadratic(optimizer, settings):
    """Just below the limit the iterates come to rest, just above they leave. Of the curvatures the largest decides."""
    curvatures = np.array([3.0, 1.0, 0.1])

    def ratio_and_sizes(lr):
        w = mg.Tensor(np.ones(3), requires_grad=True)
        descent = optimizer([w], lr=lr, **settings)
        scale = step_scale(descent, mg.objective.ParameterVector([w]))
        return (scale * curvatures).max(), sizes(descent, w, curvatures)

    limit = 1e-3 / ratio_and_sizes(1e-3)[0]
    assert ratio_and_sizes(0.98 * limit)[1][-1] < 1e-3
    assert ratio_and_sizes(1.02 * limit)[1].max() > 1e3


def sizes(descent, w, curvatures):
    """max |θ| along 3000 steps on the quadratic."""
    found = []
    for _ in range(3000):
        descent.zero_grad()
        (0.5 * curvatures * w * w).sum().backward()
        descent.step()
        found.append(np.abs(w.data).max())
        if found[-1] > 1e9:
            break
    return np.array(found)


@pytest.mark.parametrize(
    ("optimizer", "settings", "limit"),
    [
        (optim.Adam, {}, 38),
        (optim.AdamW, {"weight_decay": 0.0}, 38),
        (optim.Adam, {"betas": (0.5, 0.999)}, 6),
        (optim.RMSprop, {}, 2),
        (optim.RMSprop, {"momentum": 0.9}, 3.8),
    ],
)
def test_limits_of_those_that_divide(optimizer, settings, limit):
    """With σ held at ½ by a memory that hardly fades."""
    fading, t, curvature = 1e-12, 10**9, 3.0
    is_adam = issubclass(optimizer, optim.Adam | optim.AdamW)
    beta1 = settings.get("betas", (0.9,))[0]
    memory = {"betas": (beta1, 1 - fading)} if is_adam else {"alpha": 1 - fading}

    def ratio_and_sizes(lr):
        w = mg.Tensor([1.0], requires_grad=True)
        descent = optimizer([w], lr=lr, **{**settings, **memory, "eps": 0.0})
        w.grad = np.ones(1)
        descent.step()
        saved = descent.state_dict()
        saved["state"][0].update(t=t, v=np.full(1, 0.25 * (1 - (1 - fading) ** t if is_adam else 1)))
        saved["state"][0].update({key: np.zeros(1) for key in ("m", "b") if key in saved["state"][0]})
        descent.load_state_dict(saved)
        w.data = np.ones(1)
        scale = step_scale(descent, mg.objective.ParameterVector([w]))
        return scale[0] * curvature, sizes(descent, w, curvature)

    ratio, _ = ratio_and_sizes(1e-4)
    assert ratio == pytest.approx(1e-4 * curvature / 0.5 / limit, rel=1e-3)
    assert ratio_and_sizes(0.98e-4 / ratio)[1][-1] < 1e-3
    assert ratio_and_sizes(1.02e-4 / ratio)[1].max() > 100  # until σ has grown with it


def test_tensors_that_the_optimizer_does_not_have_do_not_count():
    w, v = mg.Tensor([1.0, 2.0], requires_grad=True), mg.Tensor([3.0], requires_grad=True)
    scale = step_scale(optim.SGD([v], lr=0.5), mg.objective.ParameterVector([w, v]))
    assert scale.tolist() == [0, 0, 0.25]
    assert step_scale(optim.Lion([v]), mg.objective.ParameterVector([w, v])) is None
    assert step_scale(optim.Adam([v]), mg.objective.ParameterVector([w, v])) is None  # no σ before a step


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (optim.SGD, {"momentum": 0.9, "dampening": 1.0}),
        (optim.SGD, {"momentum": 0.9, "dampening": 1.5}),
        (optim.SGD, {"momentum": 1.0}),
        (optim.SGD, {"momentum": 1.5, "nesterov": True}),
        (optim.Momentum, {"momentum": 1.2}),
        (optim.RMSprop, {"momentum": 1.0}),
    ],
)
def test_no_bound_where_no_step_is_stable(kind, settings):
    """There was a division by 0, a negative limit, or that of a momentum below 1."""
    w = mg.Tensor([1.0], requires_grad=True)
    w.grad = np.ones(1)
    optimizer = kind([w], **settings)
    optimizer.step()
    assert step_scale(optimizer, mg.objective.ParameterVector([w])) is None
