"""Which units let no gradient through: as planted."""

import numpy as np

import microgradopt as mg
from microgradopt import Objective, critical, nn


def test_layers_of_units():
    X = np.random.default_rng(0).normal(size=(100, 2))
    model = nn.MLP((2, 4, 3, 1), rng=0)
    _first, bias, *_ = model.parameters()
    bias.data = np.array([-50.0, 0.1, 0.2, -50.0])
    objective = Objective.of(model, lambda: model(X).sum())
    found = critical.layers(objective)
    assert [(layer.function, layer.units) for layer in found] == [("relu", 4), ("relu", 3)]
    assert found[0].stuck == 2
    assert str(found[0]) == "relu layer 0: 2 of 4 units dead"
    tanh = nn.MLP((1, 5, 1), nn.Tanh, rng=0)
    next(iter(tanh.parameters())).data = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    bias = list(tanh.parameters())[1]
    bias.data = np.array([50.0, 0, 0, 0, -50])
    x = np.linspace(-2, 2, 60)[:, None]
    assert critical.layers(Objective.of(tanh, lambda: tanh(x).sum()))[0].stuck == 2


def test_a_maximum_of_zero_is_a_relu():
    x = mg.Tensor(np.array([[-1.0, 2.0], [-3.0, 1.0]]), requires_grad=True)
    found = critical.layers(Objective.of([x], lambda: np.maximum(x, 0).sum()))
    assert [(layer.function, layer.units, layer.stuck) for layer in found] == [("relu", 2, 1)]
