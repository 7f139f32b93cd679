"""PyTorch's models under our verdicts: the same numbers as PyTorch's own, and nothing of the user's changed."""

import copy
import itertools

import numpy as np
import pytest

from microgradopt import Objective, critical, curvature, optim

torch = pytest.importorskip("torch")

from microgradopt.bridges import torch as bridge  # noqa: E402

F = torch.nn.functional
pytestmark = [pytest.mark.parity, pytest.mark.long]

rng = np.random.default_rng(0)
X = torch.tensor(rng.normal(size=(60, 6)))
Y = torch.tensor(np.argmax(rng.normal(size=(60, 3)) + X.numpy()[:, :3], axis=1))


def network(activation=torch.nn.Tanh, seed=0, dtype=torch.float64, sizes=(6, 8, 3)):
    torch.manual_seed(seed)
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(a, b), activation()]
    return torch.nn.Sequential(*layers[:-1]).to(dtype)


class Attention(torch.nn.Module):
    """Two layers of self-attention."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 8)
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = torch.nn.Linear(8, 5)

    def forward(self, x):
        return self.out(self.layers(self.embed(x))).transpose(1, 2)


def convolutional():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(108, 10)
    )


def everything(model, optimizer=None):
    """All that a model and an optimizer hold, and the state of PyTorch's random numbers, as bytes."""
    found = [tensor.detach().numpy().tobytes() for tensor in model.state_dict().values()]
    found += [repr([module.training for module in model.modules()]), torch.get_rng_state().numpy().tobytes()]
    found += [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()]
    return found + ([repr(optimizer.state_dict())] if optimizer is not None else [])


def flat(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def dense(model, loss):
    """The Hessian, by torch.func."""
    theta, sizes = flat(model), [p.numel() for p in model.parameters()]

    def value(vector):
        pairs = zip(model.named_parameters(), vector.split(sizes), strict=True)
        parts = {name: part.view_as(p) for (name, p), part in pairs}
        return loss(torch.func.functional_call(model, parts, (X,)), Y)

    return torch.autograd.functional.hessian(value, theta).numpy()


# Objectives -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [torch.nn.Tanh, torch.nn.GELU, torch.nn.Softplus])
def test_value_gradient_products_and_hessian_are_pytorchs(activation):
    model = network(activation)
    objective = bridge.objective(model, lambda: F.cross_entropy(model(X), Y))
    loss = F.cross_entropy(model(X), Y)
    gradient = torch.cat([g.ravel() for g in torch.autograd.grad(loss, list(model.parameters()))]).numpy()
    assert objective.value() == loss.item()
    np.testing.assert_array_equal(objective.gradient(), gradient)
    H = dense(model, F.cross_entropy)
    np.testing.assert_allclose(objective.hessian(), H, rtol=1e-10, atol=1e-12)
    v = rng.normal(size=objective.n)
    np.testing.assert_allclose(objective.hvp(v), H @ v, rtol=1e-10, atol=1e-12)
    elsewhere = objective.theta + 0.1
    found = objective.hvp(v, elsewhere)
    bridge.write(model, elsewhere)
    np.testing.assert_allclose(found, dense(model, F.cross_entropy) @ v, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [network, convolutional, Attention])
def test_nothing_of_the_users_changes(make):
    torch.manual_seed(1)
    model = make()
    data = {
        network: (X, Y),
        convolutional: (torch.randn(9, 1, 8, 8), torch.arange(9)),
        Attention: (torch.randint(5, (7, 4)), torch.randint(5, (7, 4))),
    }[make]
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    F.cross_entropy(model(data[0]), data[1]).backward()
    adam.step()
    before = everything(model, adam)
    objective = bridge.objective(model, lambda: F.cross_entropy(model(data[0]), data[1]))
    assert objective.value() == objective.value(), "dropout is off"
    objective.hvp(np.ones(objective.n))
    run = bridge.run(model, F.cross_entropy, data, adam, history=[1.0] * 30)
    critical.diagnose(run, budget=60)
    run.train(3)
    assert everything(model, adam) == before


def test_verdicts_on_a_pytorch_model_are_those_on_ours():
    """The lecture's net as a torch module: a saddle at the origin, and the way out."""

    class Product(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w1, self.w2 = (torch.nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(2))

    model = Product()
    objective = bridge.objective(model, lambda: (1 - model.w1 * model.w2) ** 2)
    saddle = critical.classify(objective)
    assert (saddle.kind, saddle.certified) == ("saddle point", True)
    np.testing.assert_allclose(saddle.eigenvalues, [-2, 2], atol=1e-12)
    way = saddle.escape()
    bridge.write(model, way.theta)
    assert (model.w1 * model.w2).item() == pytest.approx(1)
    found = critical.find(objective, [[0.2, 0.1], [1.2, 0.9]])
    assert [point.kind for point in found] == ["local minimum", "saddle point"]


def test_float32_models_have_objectives_in_float32():
    model = network(dtype=torch.float32)
    objective = bridge.objective(model, lambda: F.cross_entropy(model(X.float()), Y))
    assert objective.theta.dtype == objective.gradient().dtype == np.float32
    H = critical.HessianOperator(objective)
    assert curvature.eigenpairs(H, 1, "largest").residuals[0] < 1e-4


def test_attention_has_second_derivatives():
    """PyTorch's fused attention has none; by central differences of gradients."""
    torch.manual_seed(0)
    model = Attention().double().eval()
    words = torch.randint(5, (7, 4))
    objective = bridge.objective(model, lambda: F.cross_entropy(model(words), words))
    run = bridge.run(model, F.cross_entropy, (words, words), torch.optim.SGD(model.parameters(), lr=0.1))
    v, theta, h = rng.normal(size=objective.n), objective.theta, 1e-6
    expected = (objective.gradient(theta + h * v) - objective.gradient(theta - h * v)) / (2 * h)
    np.testing.assert_allclose(objective.hvp(v), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(run.objective.hvp(v), expected, rtol=1e-4, atol=1e-6)


def test_frozen_and_tied_parameters():
    model = network()
    model[0].weight.requires_grad_(False)
    objective = bridge.objective(model, lambda: F.cross_entropy(model(X), Y))
    assert objective.n == sum(p.numel() for p in model.parameters() if p.requires_grad)
    bridge.write(model, objective.theta)
    tied = torch.nn.Linear(3, 3).double()
    twice = torch.nn.Sequential(tied, torch.nn.Tanh(), tied)
    assert bridge.objective(twice, lambda: (twice(X[:, :3]) ** 2).mean()).n == 12


class Mean(torch.nn.Module):
    """Takes off a running mean, by putting another tensor in the buffer's place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(6, dtype=torch.float64))
        self.out = torch.nn.Linear(6, 3).double()

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.out(x - self.mean)


def tied():
    """One layer in two places."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 6).double()
    return torch.nn.Sequential(layer, torch.nn.Tanh(), layer)


@pytest.mark.parametrize("make", [tied, Mean, lambda: torch.nn.DataParallel(network())])
def test_models_that_functional_call_changes_or_refuses(make):
    """A run computes what the model does, goes on as PyTorch does, and leaves each tensor where it was."""
    model = make()
    before, tensors = everything(model), [*model.parameters(), *model.buffers()]
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    run = bridge.run(model, F.cross_entropy, (X, Y), adam)
    objective = bridge.objective(model, lambda: F.cross_entropy(model(X), Y))
    np.testing.assert_allclose(run.objective.hessian(), objective.hessian(), atol=1e-12)
    run.train(3)
    assert everything(model) == before
    assert all(a is b for a, b in zip(tensors, [*model.parameters(), *model.buffers()], strict=True))
    buffers = [b.clone() for b in model.buffers()]
    for _ in range(3):
        for buffer, value in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(value)  # in a run each pass starts from the same
        adam.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        adam.step()
    np.testing.assert_allclose(run.objective.theta, flat(model).numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_of_half_precision_have_objectives_in_float32(dtype):
    model = network(dtype=dtype)
    before, sgd = [p.clone() for p in model.parameters()], torch.optim.SGD(model.parameters(), lr=0.1)
    objective = bridge.objective(model, lambda: F.cross_entropy(model(X.to(dtype)).float(), Y))
    assert objective.gradient().dtype == objective.hessian().dtype == np.float32
    run = bridge.run(model, lambda out, y: F.cross_entropy(out.float(), y), (X.to(dtype), Y), sgd)
    assert run.value() == pytest.approx(objective.value(), rel=1e-6)
    assert run.train(20).value() < objective.value()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_a_recorded_gradient_stays_that_of_its_own_pass():
    """Products at θ, after the loss was asked for elsewhere: dropout was on in them."""
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)).double()
    objective = bridge.run(model, F.cross_entropy, (X, Y), torch.optim.SGD(model.parameters(), lr=0.1)).objective
    operator, v = curvature.HessianOperator(objective), rng.normal(size=objective.n)
    first = operator @ v
    objective.value(objective.theta + 1)
    np.testing.assert_array_equal(operator @ v, first)
    np.testing.assert_allclose(first, objective.hessian() @ v, rtol=1e-9, atol=1e-12)


def test_the_model_may_be_written_between_two_products():
    """PyTorch's graph of the first does not survive that: by the user's optimizer, or by `write`."""
    model = network()
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    objective = bridge.objective(model, lambda: F.cross_entropy(model(X), Y))
    operator = curvature.HessianOperator(bridge.run(model, F.cross_entropy, (X, Y), adam).objective)
    v = rng.normal(size=objective.n)
    expected = objective.hvp(v)
    np.testing.assert_allclose(operator @ v, expected, rtol=1e-9, atol=1e-12)
    F.cross_entropy(model(X), Y).backward()
    adam.step()
    np.testing.assert_array_equal(objective.hvp(v), expected)
    bridge.write(model, objective.theta + 1)
    np.testing.assert_allclose(operator @ v, expected, rtol=1e-9, atol=1e-12)


# Runs -----------------------------------------------------------------------------------------------------------------

OPTIMIZERS = [
    (torch.optim.SGD, {"lr": 0.1}),
    (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95)}),
    (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1}),
    (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.3, "decoupled_weight_decay": True}),
]


@pytest.mark.parametrize(("make", "settings"), OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 7])
def test_a_run_goes_on_as_pytorch_does(make, settings, steps):
    """State and settings are taken over: ten more updates, on all data, lead to the same place."""
    model = network()
    optimizer = make(model.parameters(), **settings)

    def update(n):
        for _ in range(n):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()

    update(steps)
    run = bridge.run(model, F.cross_entropy, (X, Y), optimizer)
    run.train(10)
    update(10)
    np.testing.assert_allclose(run.objective.theta, flat(model).numpy(), rtol=1e-8, atol=1e-10)


def test_groups_and_parameters_without_a_step():
    """Two groups, of which one has a layer that never had a gradient."""
    model = network(sizes=(6, 8, 8, 3))
    adam = torch.optim.Adam(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": [*model[2].parameters(), *model[4].parameters()]}],
        lr=0.01,
    )
    model[2].weight.requires_grad_(False)
    for _ in range(3):
        adam.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        adam.step()
    model[2].weight.requires_grad_(True)
    run = bridge.run(model, F.cross_entropy, (X, Y), adam).train(5)
    for _ in range(5):
        adam.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        adam.step()
    np.testing.assert_allclose(run.objective.theta, flat(model).numpy(), rtol=1e-8, atol=1e-10)
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.1, 0.01]


def test_batches_clipping_scheduler_and_history():
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=1.5)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
    for _ in range(20):
        sgd.step()
        scheduler.step()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=16, shuffle=True)
    run = bridge.run(model, F.cross_entropy, loader, sgd, scheduler, clip=0.5, history=[1.1] * 300)
    assert (run.batch_size, run.shuffle, run.max_norm, len(run)) == (16, True, 0.5, 300)
    assert sorted(map(tuple, run.X)) == sorted(map(tuple, X.numpy()))
    assert run.lr[0] == 1.5
    assert run.optimizer.lr == pytest.approx(1.5 * 0.5**20)
    assert critical.diagnose(run, budget=1500).verdict == "schedule has ended"
    in_order = bridge.run(model, F.cross_entropy, [(X[:30], Y[:30]), (X[30:], Y[30:])], sgd)
    assert (in_order.batch_size, in_order.shuffle) == (30, False)
    np.testing.assert_array_equal(in_order.X, X.numpy())


@pytest.mark.parametrize("loss", [F.mse_loss, torch.nn.MSELoss(), lambda out, y: ((out - y) ** 2).mean()])
def test_losses_of_ours_and_of_pytorchs_are_the_same(loss):
    model, target = network(), torch.tensor(rng.normal(size=(60, 3)))
    run = bridge.run(model, loss, (X, target), torch.optim.SGD(model.parameters(), lr=0.1))
    value = F.mse_loss(model(X), target)
    assert run.value() == pytest.approx(value.item(), rel=1e-12)
    gradient = torch.cat([g.ravel() for g in torch.autograd.grad(value, list(model.parameters()))]).numpy()
    np.testing.assert_allclose(run.objective.gradient(), gradient, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        run.objective.hessian(), dense(model, lambda out, _: F.mse_loss(out, target)), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda out, y: F.cross_entropy(out, y)])
def test_at_many_points_at_once(loss):
    model = network(sizes=(6, 2, 3))
    objective = bridge.run(model, loss, (X, Y), torch.optim.SGD(model.parameters(), lr=0.1)).objective
    thetas = objective.theta + rng.normal(size=(30, objective.n)) / 10
    for many, one in (("values", "value"), ("gradients", "gradient"), ("hessians", "hessian")):
        expected = [getattr(objective, one)(theta) for theta in thetas]
        np.testing.assert_allclose(getattr(objective, many)(thetas), expected, rtol=1e-10, atol=1e-12)


def test_weights_of_a_loss_are_not_lost():
    weighted = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.1], dtype=torch.float64))
    model = network()
    run = bridge.run(model, weighted, (X, Y), torch.optim.SGD(model.parameters(), lr=0.1))
    assert run.value() == pytest.approx(weighted(model(X), Y).item(), rel=1e-12)


# Diagnoses ------------------------------------------------------------------------------------------------------------


def trained(model, loss, optimizer, data, updates, size=32):
    """An own loop, as PyTorch users write it; its losses."""
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(updates):
        rows = torch.randint(len(data[0]), (size,), generator=generator)
        optimizer.zero_grad()
        value = loss(model(data[0][rows]), data[1][rows])
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def pairs_of(data, size=32):
    return [(data[0][i : i + size], data[1][i : i + size]) for i in range(0, len(data[0]) - size + 1, size)]


def digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:640] / 16, dtype=torch.float32), torch.tensor(labels[:640])


def test_a_learning_rate_that_is_too_small_is_found_and_cured():
    """In float32, under torch's Adam with 1e-6; what the diagnosis advises helps in PyTorch too."""
    torch.manual_seed(0)
    data = digits()
    model = network(dtype=torch.float32, sizes=(64, 32, 10))
    adam = torch.optim.Adam(model.parameters(), lr=1e-6)
    losses = trained(model, F.cross_entropy, adam, data, 100)
    found = critical.diagnose(bridge.run(model, F.cross_entropy, pairs_of(data), adam, history=losses), budget=1500)
    assert found.verdict == "learning rate too small"
    before = np.mean(losses[-20:])
    exec(found.code, {"optimizer": adam})
    after = np.mean(trained(model, F.cross_entropy, adam, data, 200)[-20:])
    assert after < 0.8 * before


def test_dead_units_are_seen_through_hooks():
    model = network(torch.nn.ReLU)
    with torch.no_grad():
        model[0].bias[:6] = -100.0
    run = bridge.run(model, F.cross_entropy, (X, Y), torch.optim.SGD(model.parameters(), lr=0.1))
    (layer,) = critical.layers(run.objective)
    assert (layer.function, layer.units) == ("relu", 8)
    assert layer.stuck >= 6
    images = torch.randn(9, 1, 8, 8)
    conv = convolutional()
    run = bridge.run(conv, F.cross_entropy, (images, torch.arange(9)), torch.optim.SGD(conv.parameters(), lr=0.1))
    assert critical.layers(run.objective)[0].units == 3, "of a convolution the channels"


def test_a_cure_goes_back_into_the_model():
    model = network()
    adam = torch.optim.Adam(model.parameters(), lr=1e-7)
    losses = trained(model, F.cross_entropy, adam, (X, Y), 40)
    cured = critical.diagnose(bridge.run(model, F.cross_entropy, (X, Y), adam, history=losses)).cure().train(100)
    bridge.write(model, cured.objective.theta)
    assert F.cross_entropy(model(X), Y).item() == pytest.approx(cured.value(), rel=1e-10)
    assert cured.value() < 0.5 * losses[-1]


# Wrong calls ----------------------------------------------------------------------------------------------------------


def test_wrong_calls_say_what_to_do():
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for call, error, words in (
        (lambda: bridge.objective(lambda x: x, lambda: 0), TypeError, "torch.nn.Module is wanted"),
        (lambda: bridge.objective(model, F.cross_entropy(model(X), Y)), TypeError, "lambda"),
        (lambda: bridge.objective(model, lambda: 0.5), TypeError, "scalar tensor with its graph"),
        (lambda: bridge.objective(model, lambda: F.cross_entropy(model(X), Y).item()), TypeError, "scalar tensor"),
        (lambda: bridge.objective(model, lambda: model(X)), TypeError, "scalar tensor"),
        (lambda: bridge.objective(torch.nn.ReLU(), lambda: 0), ValueError, "no parameters"),
        (lambda: bridge.write(model, np.zeros(3)), ValueError, "trainable numbers"),
        (lambda: bridge.run(model, F.cross_entropy, X, sgd), TypeError, "pair of tensors"),
        (lambda: bridge.run(model, F.cross_entropy, 3, sgd), TypeError, "DataLoader"),
        (
            lambda: bridge.run(model, F.cross_entropy, (X, Y), torch.optim.Rprop(model.parameters())),
            TypeError,
            "Adagrad",
        ),
        (lambda: bridge.run(model, F.cross_entropy, (X, Y), optim.Adam), TypeError, "torch.optim"),
        (
            lambda: bridge.run(model, F.cross_entropy, (X, Y), torch.optim.SGD(network().parameters(), lr=1.0)),
            ValueError,
            "another model",
        ),
    ):
        with pytest.raises(error, match=words):
            call()


def test_a_pytorch_model_in_our_own_door_is_shown_the_bridge():
    for model in (network(), Attention(), network()[0]):
        with pytest.raises(TypeError, match=r"bridges\.torch\.objective"):
            Objective.of(model, lambda: 0)
    with pytest.raises(TypeError, match=r"bridges\.torch\.objective"):
        Objective.of(list(network().parameters()), lambda: 0)


def test_float_labels_are_refused_by_pytorch_or_us():
    model = network()
    run = bridge.run(model, F.cross_entropy, (X, Y.double()), torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises((RuntimeError, ValueError, TypeError), match=r"(?i)long|labels|expected|class"):
        run.train(1)


def test_copies_of_the_model_are_apart():
    model = network()
    other = copy.deepcopy(model)
    objective = bridge.objective(model, lambda: F.cross_entropy(model(X), Y))
    objective.theta = objective.theta + 1
    assert torch.equal(flat(model), flat(other))
