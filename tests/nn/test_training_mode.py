"""Layers that differ between training and evaluation: batch normalisation and dropout, held against PyTorch."""

import copy

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn, optim, training
from microgradopt.nn.dropout import random_bits

X = np.random.default_rng(0).normal(size=(24, 2)) * [1.0, 30.0] + [0.0, 100.0]
Y = np.arange(24) % 3


def network(p=0.0, dtype=np.float64):
    return nn.Sequential(
        nn.Linear(2, 5, rng=0, dtype=dtype),
        nn.BatchNorm1d(5, dtype=dtype),
        nn.Tanh(),
        nn.Dropout(p, rng=1),
        nn.Linear(5, 3, rng=2, dtype=dtype),
    )


def twin(model):
    """The same network in PyTorch, without dropout."""
    torch = pytest.importorskip("torch")
    other = torch.nn.Sequential(
        torch.nn.Linear(2, 5), torch.nn.BatchNorm1d(5), torch.nn.Tanh(), torch.nn.Dropout(0.0), torch.nn.Linear(5, 3)
    ).double()
    other.load_state_dict({name: torch.tensor(array) for name, array in model.state_dict().items()})
    return other


# Batch normalisation --------------------------------------------------------------------------------------------------


def test_batch_normalisation_steps_with_pytorch():
    """Losses, parameters and running averages, over 30 steps; then evaluation."""
    torch = pytest.importorskip("torch")
    model = network()
    other = twin(model)
    ours, theirs = optim.Adam(model.parameters(), lr=0.05), torch.optim.Adam(other.parameters(), lr=0.05)
    for i in range(30):
        rows = slice(i % 3 * 8, i % 3 * 8 + 8)
        ours.zero_grad()
        theirs.zero_grad()
        loss = nn.cross_entropy(model(X[rows]), Y[rows])
        expected = torch.nn.functional.cross_entropy(other(torch.tensor(X[rows])), torch.tensor(Y[rows]))
        loss.backward()
        expected.backward()
        ours.step()
        theirs.step()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, other.state_dict()[name].numpy(), rtol=1e-7, atol=1e-9, err_msg=name)
    model.eval()
    other.eval()
    np.testing.assert_allclose(model(X).data, other(torch.tensor(X)).detach().numpy(), rtol=1e-7)


def test_second_derivatives_through_the_batch():
    torch = pytest.importorskip("torch")
    model = network()
    other = twin(model)
    hessian = mg.Objective.of(model, lambda: nn.cross_entropy(model(X), Y)).hessian()
    names = [name for name, _ in other.named_parameters()]
    sizes = [p.numel() for p in other.parameters()]

    def loss(theta):
        parts = theta.split(sizes)
        values = {n: part.view_as(p) for n, part, p in zip(names, parts, other.parameters(), strict=True)}
        buffers = {name: b.clone() for name, b in other.named_buffers()}
        out = torch.func.functional_call(other, {**values, **buffers}, (torch.tensor(X),))
        return torch.nn.functional.cross_entropy(out, torch.tensor(Y))

    theta = torch.cat([p.detach().ravel() for p in other.parameters()])
    expected = torch.autograd.functional.hessian(loss, theta).numpy()
    np.testing.assert_allclose(hessian, expected, rtol=1e-8, atol=1e-10)


def test_state_dicts_go_both_ways_and_keep_the_averages():
    torch = pytest.importorskip("torch")
    model = network()
    other = twin(model)
    other(torch.tensor(X))
    model.load_state_dict(other.state_dict())
    assert model[1].num_batches_tracked == 1
    np.testing.assert_array_equal(model[1].running_var, other[1].running_var.numpy())
    before = model.state_dict()
    with pytest.raises(KeyError, match=r"missing \['1.running_var'\]"):
        model.load_state_dict({name: array + 1 for name, array in before.items() if name != "1.running_var"})
    with pytest.raises(ValueError, match="running_mean"):
        model.load_state_dict({**before, "1.running_mean": np.zeros(4)})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_checkpoint_has_the_averages(tmp_path):
    model, other = network(), network()
    model(X)
    training.save_checkpoint(tmp_path / "run.npz", model)
    training.load_checkpoint(tmp_path / "run.npz", other)
    np.testing.assert_array_equal(other[1].running_mean, model[1].running_mean)
    assert other[1].num_batches_tracked.shape == ()
    assert other[1].num_batches_tracked == 1


def test_an_objective_uses_the_batch_and_changes_nothing():
    model = network(p=0.5)
    objective = mg.Objective.of(model, lambda: nn.cross_entropy(model(X), Y))
    before, counter = model.state_dict(), model[3].counter.copy()
    values = {objective.value(), objective.value_and_gradient()[0]}
    objective.hessian()
    objective.hvp(np.ones(objective.n))
    values.add(objective.value())
    model.eval()
    values.add(objective.value())
    assert len(values) == 1, "the same, again and again, in training and in evaluation"
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert model[3].counter == counter
    z = X @ model[0].weight.data.T + model[0].bias.data
    hidden = np.tanh((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5))
    scores = hidden @ model[4].weight.data.T + model[4].bias.data
    expected = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(24), Y])
    assert values.pop() == pytest.approx(expected, rel=1e-12)


def test_residuals_are_measured_without_dropout():
    model = nn.Sequential(nn.Linear(2, 3, rng=0), nn.Dropout(0.5, rng=0), nn.Linear(3, 1, rng=1))
    objective = mg.Objective.least_squares(model, lambda: model(X / 100) - 1)
    assert objective.residuals().data.tolist() == objective.residuals().data.tolist()


@pytest.mark.parametrize("shape", [(1, 5), (4, 4), (4,), (2, 5, 3)])
def test_wrong_batches_are_refused_and_change_nothing(shape):
    layer = nn.BatchNorm1d(5)
    with pytest.raises(ValueError, match="BatchNorm1d"):
        layer(np.ones(shape))
    assert layer.num_batches_tracked == 0
    assert not layer.running_mean.any()


@pytest.mark.parametrize(
    "settings", [{"num_features": 0}, {"num_features": 2.5}, {"num_features": 3, "eps": -1.0},
                 {"num_features": 3, "momentum": 1.5}]
)  # fmt: skip
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match="BatchNorm1d"):
        nn.BatchNorm1d(**settings)


def test_float32_stays_float32():
    model = network(0.3, np.float32)
    loss = nn.cross_entropy(model(X.astype(np.float32)), Y)
    loss.backward()
    assert loss.dtype == np.float32
    assert {array.dtype for name, array in model.state_dict().items() if "tracked" not in name} == {np.dtype("f4")}
    assert model.eval()(X.astype(np.float32)).dtype == np.float32


def test_averages_keep_the_dtype_of_the_layer():
    """One batch in float64, or of whole numbers, once made every later output of a float32 layer float64."""
    layer = nn.BatchNorm1d(2, dtype=np.float32)
    for batch in (X, X.astype(int)):
        layer(batch)
        assert layer.running_mean.dtype == layer.running_var.dtype == np.float32
    assert layer.eval()(X.astype(np.float32)).dtype == np.float32


# Dropout --------------------------------------------------------------------------------------------------------------


def test_splitmix64():
    """The first numbers of its reference implementation (Vigna, prng.di.unimi.it/splitmix64.c), seed 0."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert random_bits(np.arange(4, dtype=np.uint64)).tolist() == expected


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_independently(p):
    layer, n = nn.Dropout(p, rng=0), 100_000
    one, two = (layer(np.ones(n)) for _ in range(2))
    assert set(np.unique(one)) == {0.0, 1 / (1 - p)}
    error = np.sqrt(p * (1 - p) / n)
    for dropped in (one == 0, two == 0):
        assert abs(dropped.mean() - p) < 5 * error
        assert abs(np.corrcoef(dropped[1:], dropped[:-1])[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(n)


def test_the_gradient_has_the_mask_of_the_forward():
    x = mg.Tensor(np.ones((4, 6)), requires_grad=True)
    out = nn.Dropout(0.4, rng=3)(x)
    out.sum().backward()
    np.testing.assert_array_equal(x.grad, out.data)


def test_seeds_repeat_and_differ():
    masks = [nn.Dropout(0.5, rng=seed)(np.ones(64)).tolist() for seed in (0, 0, 1)]
    assert masks[0] == masks[1] != masks[2]
    layer = nn.Dropout(0.5, rng=0)
    other = copy.deepcopy(layer)
    assert layer(np.ones(9)).tolist() == other(np.ones(9)).tolist()


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, np.nan])
def test_wrong_probabilities_are_refused(p):
    with pytest.raises(ValueError, match="Dropout: p"):
        nn.Dropout(p)


def test_whole_numbers_are_divided_too():
    out = nn.Dropout(0.3, rng=0)(np.ones(50, int))
    assert set(np.unique(out)) == {0.0, 1 / 0.7}


def test_nothing_is_dropped_with_p_0_or_in_evaluation():
    x = np.ones(5)
    assert nn.Dropout(0.0)(x) is x
    assert nn.Dropout(0.5).eval()(x) is x


# Modes ----------------------------------------------------------------------------------------------------------------


def test_train_and_eval_reach_all_modules_and_give_the_module_back():
    model = nn.Sequential(network(), nn.ReLU())
    model.heads = [nn.Dropout()]
    assert model.eval() is model
    assert not any(module.training for _, module in model.named_modules())
    model[0].train()
    with model.evaluating():
        assert not model[0].training
    assert [model[0].training, model.training] == [True, False], "each as it was before"


def test_compiled_steps_are_the_same_bits():
    """Running averages and masks are state of a program: nine steps, and a change of mode in between."""
    models = network(0.4), network(0.4)
    steps = []
    for model in models:
        optimizer = optim.Adam(model.parameters())

        def step(x, y, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = nn.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss, model(x)

        steps.append(step)
    compiled = mg.compile(steps[1], check="always")
    for i in range(9):
        for model in models:
            model.train(i not in (3, 4))
        (loss, out), (same, other) = steps[0](X, Y), compiled(X, Y)
        assert loss.item() == same.item()
        assert np.array_equal(out.data, other.data)
    for name, array in models[0].state_dict().items():
        assert array.tobytes() == models[1].state_dict()[name].tobytes(), name
    assert models[0][3].counter == models[1][3].counter
    assert "running_mean_1" in compiled.source, "named by its module"


def test_a_compiled_function_knows_whether_an_objective_asks():
    model = network(0.5)
    value = mg.compile(lambda: model(X).sum())
    objective = mg.Objective.of(model, value)
    first = value().item()
    assert objective.value() == objective.value() != first
    assert value().item() != first, "dropout outside"


def test_flatten():
    torch = pytest.importorskip("torch")
    images = np.arange(24.0).reshape(2, 3, 4)
    for start in (0, 1, 2):
        expected = torch.nn.Flatten(start)(torch.tensor(images)).numpy()
        np.testing.assert_array_equal(nn.Flatten(start)(images), expected)
    assert nn.Flatten()(np.ones((0, 3, 4))).shape == (0, 12)
    with pytest.raises(ValueError, match="no axis 1"):
        nn.Flatten()(np.ones(3))


# Training -------------------------------------------------------------------------------------------------------------


def test_fit_trains_in_training_and_leaves_evaluation():
    model = network(0.2)
    modes = []
    training.fit(
        model, nn.cross_entropy, optim.Adam(model.parameters()), X, Y, 2, 8, rng=0,
        on_epoch=lambda epoch, run: modes.append(model.training),
    )  # fmt: skip
    assert modes == [False, False]
    assert not model.training
    assert model[1].num_batches_tracked == 6
    before = model[1].running_mean.copy()
    assert training.evaluate(model, nn.cross_entropy, X, Y) == training.evaluate(model, nn.cross_entropy, X, Y)
    np.testing.assert_array_equal(model[1].running_mean, before)


def test_a_refused_step_leaves_the_averages_too():
    model = network()
    run = training.Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1), X, Y)
    run.train(2)
    before = model.state_dict()
    model.train()
    with pytest.raises(mg.NonFiniteError):
        run.update(np.where(X[0, 0] == X, np.nan, X), Y)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_diagnosis_leaves_averages_masks_and_mode():
    model = network(0.3)
    run = training.fit(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=1e-4), X, Y, 40, 8, rng=0)
    before, counter = model.state_dict(), model[3].counter.copy()
    mg.critical.diagnose(run, budget=60)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert model[3].counter == counter
    assert not model.training
