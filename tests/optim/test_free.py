"""Prodigy and Schedule-Free AdamW: in lockstep with their authors' packages, prodigyopt and schedulefree."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Objective, Tensor, nn, optim, training

SHAPES = [(3, 2), (4,)]
X = np.random.default_rng(0).normal(size=(32, 3))
Y = np.sin(X[:, :1])


def pair(torch, rng):
    """The same tensors for both."""
    start = [rng.normal(size=shape) for shape in SHAPES]
    return (
        [Tensor(a, requires_grad=True) for a in start],
        [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in start],
    )


def give(ours, theirs, torch, rng, pull=0.0):
    """The same gradients: noise, and a pull towards 0."""
    for p, q in zip(ours, theirs, strict=True):
        p.grad = rng.normal(size=p.shape) + pull * p.data
        q.grad = torch.tensor(p.grad)


def compare(ours, theirs, tolerance):
    for p, q in zip(ours, theirs, strict=True):
        q = q.detach().numpy()
        assert np.all(np.abs(p.data - q) <= tolerance * (1 + np.abs(q)))


PRODIGY = [
    {},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decouple": False},
    {"use_bias_correction": True, "safeguard_warmup": True},
    {"beta3": 0.9, "d0": 1e-4, "d_coef": 0.5, "growth_rate": 1.05},
    {"betas": (0.8, 0.95), "lr": 0.5},
]


@pytest.mark.parity
@pytest.mark.parametrize("settings", PRODIGY)
@pytest.mark.parametrize("groups", [1, 2])
def test_prodigy_is_its_authors(settings, groups):
    torch = pytest.importorskip("torch")
    prodigyopt = pytest.importorskip("prodigyopt")
    rng = np.random.default_rng(len(settings))
    ours, theirs = pair(torch, rng)
    split = [ours, theirs] if groups == 1 else [[{"params": [p]} for p in ps] for ps in (ours, theirs)]
    mine, reference = optim.Prodigy(split[0], **settings), prodigyopt.Prodigy(split[1], **settings)
    for _ in range(300):
        give(ours, theirs, torch, rng, pull=2.0)
        mine.step()
        reference.step()
        compare(ours, theirs, 1e-10)
    assert mine.state_dict()["state"][0]["d"] == pytest.approx(reference.param_groups[0]["d"], rel=1e-10)
    assert reference.param_groups[0]["d"] > 10 * reference.param_groups[0]["d0"]


def test_prodigy_where_all_gradients_are_zero_stays():
    w = Tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.Prodigy([w], weight_decay=0.1)
    for _ in range(3):
        w.grad = np.zeros(2)
        optimizer.step()
    assert w.data.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_prodigy_finds_its_rate_at_any_scale_of_the_parameters(scale):
    """No rate is chosen: Adam at its default would need 1,000 times the steps at the largest scale."""
    w = Tensor(np.array([3.0, -2.0]) * scale, requires_grad=True)
    optimizer = optim.Prodigy([w])
    for _ in range(500):
        optimizer.zero_grad()
        np.sum((w / scale - 1) ** 2).backward()
        optimizer.step()
    np.testing.assert_allclose(w.data / scale, 1.0, atol=0.02)


SCHEDULE_FREE = [
    {},
    {"weight_decay": 0.1},
    {"lr": 0.1, "warmup_steps": 20, "betas": (0.95, 0.99)},
    {"r": 1.0, "weight_lr_power": 0.0, "eps": 1e-3},
]


@pytest.mark.parity
@pytest.mark.parametrize("settings", SCHEDULE_FREE)
@pytest.mark.parametrize("package", ["AdamWScheduleFree", "AdamWScheduleFreeReference"])
def test_schedule_free_is_its_authors(settings, package):
    torch = pytest.importorskip("torch")
    reference_class = getattr(pytest.importorskip("schedulefree"), package)
    rng = np.random.default_rng(len(settings))
    ours, theirs = pair(torch, rng)
    mine, reference = optim.ScheduleFreeAdamW(ours, **settings), reference_class(theirs, foreach=False, **settings)
    reference.train()
    for step in range(300):
        give(ours, theirs, torch, rng, pull=2.0)
        mine.step()
        reference.step()
        compare(ours, theirs, 1e-9)
        if step % 50 == 49:
            mine.eval()
            reference.eval()
            compare(ours, theirs, 1e-9)
            mine.train()
            reference.train()
            compare(ours, theirs, 1e-9)


def schedule_free(steps=20):
    model = nn.MLP((3, 4, 1), nn.Tanh, rng=0)
    optimizer = optim.ScheduleFreeAdamW(model.parameters(), lr=0.05)
    history = training.fit(model, nn.mse_loss, optimizer, X, Y, steps)
    return model, optimizer, history


def test_the_two_sequences_are_exchanged_without_loss():
    model, optimizer, _ = schedule_free()
    x = model.state_dict()
    optimizer.train()
    y = model.state_dict()
    assert any(not np.array_equal(x[name], y[name]) for name in x)
    for _ in range(3):
        optimizer.eval()
        assert all(np.array_equal(x[name], array) for name, array in model.state_dict().items())
        optimizer.train()
        assert all(np.array_equal(y[name], array) for name, array in model.state_dict().items())


def test_it_does_not_step_from_the_average():
    model, optimizer, _ = schedule_free()
    before = model.state_dict()
    nn.mse_loss(model(X), Y).backward()
    with pytest.raises(RuntimeError, match=r"optimizer\.train\(\)"):
        optimizer.step()
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


def test_trajectory_and_diagnosis_read_the_average():
    objective = Objective(lambda w: np.sum(w**2), [2.0, -1.0])
    optimizer = optim.ScheduleFreeAdamW(objective.parameters, lr=0.1)
    thetas = training.trajectory(objective, optimizer, 30)
    assert np.array_equal(objective.theta, thetas[-1])
    np.testing.assert_array_equal(thetas[-1], optimizer.state_dict()["state"][0]["x"])
    optimizer.train()
    y = objective.theta
    found = mg.critical.diagnose(objective, optimizer)
    np.testing.assert_array_equal(found.point.theta if found.point else thetas[-1], thetas[-1])
    assert np.array_equal(objective.theta, y)


def test_an_epoch_is_judged_by_the_average():
    model = nn.MLP((3, 4, 1), nn.Tanh, rng=0)
    optimizer = optim.ScheduleFreeAdamW(model.parameters(), lr=0.05)
    seen = []
    training.fit(
        model, nn.mse_loss, optimizer, X, Y, 5, on_epoch=lambda *_: seen.append(optimizer.param_groups[0]["training"])
    )
    assert seen == [False] * 5


def test_a_run_goes_on_from_a_checkpoint_in_either_mode(tmp_path):
    for training_mode in (False, True):
        model, optimizer, _ = schedule_free()
        if training_mode:
            optimizer.train()
        training.save_checkpoint(tmp_path / "run.npz", model, optimizer)
        other, theirs, _ = schedule_free(1)
        training.load_checkpoint(tmp_path / "run.npz", other, theirs)
        for m, o in ((model, optimizer), (other, theirs)):
            training.fit(m, nn.mse_loss, o, X, Y, 5)
        assert all(
            np.array_equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
        )
