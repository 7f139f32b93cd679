"""Every optimizer that PyTorch has, in lockstep with it: 500 steps on the same gradients, random hyperparameters."""

import numpy as np
import pytest

from microgradopt import Tensor, optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

SHAPES = [(3, 2), (4,), ()]


@pytest.fixture(autouse=True)
def double():
    """PyTorch keeps some numbers of its state (NAdam's product of momenta) in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


SETTINGS = {
    "SGD": {"momentum": (0.0, 0.9), "dampening": (0.0, 0.3), "weight_decay": (0.0, 0.1)},
    "Adagrad": {"lr_decay": (0.0, 0.01), "weight_decay": (0.0, 0.1), "initial_accumulator_value": (0.0, 0.5)},
    "RMSprop": {"alpha": (0.8, 0.99), "weight_decay": (0.0, 0.1), "momentum": (0.0, 0.9), "centered": None},
    "Adadelta": {"rho": (0.8, 0.99), "weight_decay": (0.0, 0.1)},
    "Adam": {"weight_decay": (0.0, 0.1), "amsgrad": None},
    "AdamW": {"weight_decay": (0.0, 0.1), "amsgrad": None},
    "Adamax": {"weight_decay": (0.0, 0.1)},
    "NAdam": {"weight_decay": (0.0, 0.1), "momentum_decay": (0.0, 0.01), "decoupled_weight_decay": None},
    "RAdam": {"weight_decay": (0.0, 0.1), "decoupled_weight_decay": None},
}
WITH_BETAS = {"Adam", "AdamW", "Adamax", "NAdam", "RAdam"}


def drawn(name, rng):
    """Random hyperparameters; each that may be 0 is 0 half of the time."""
    chosen = {"lr": float(10 ** rng.uniform(-4, -1)), "maximize": bool(rng.integers(2))}
    for key, bounds in SETTINGS[name].items():
        if bounds is None:
            chosen[key] = bool(rng.integers(2))
        else:
            low, high = bounds
            chosen[key] = 0.0 if low == 0.0 and rng.integers(2) else float(rng.uniform(low, high))
    if name in WITH_BETAS:
        chosen["betas"] = (float(rng.uniform(0, 0.95)), float(rng.uniform(0.8, 0.9999)))
    if name == "SGD" and chosen["momentum"] and rng.integers(2):
        chosen |= {"nesterov": True, "dampening": 0.0}
    if name != "SGD":
        chosen["eps"] = float(10 ** rng.uniform(-10, -3))
    return chosen


def pair(dtype, rng):
    """The same tensors for both."""
    start = [rng.normal(size=shape).astype(dtype) for shape in SHAPES]
    ours = [Tensor(array, requires_grad=True) for array in start]
    theirs = [torch.tensor(array, requires_grad=True) for array in start]
    return ours, theirs


def give_gradients(ours, theirs, rng):
    scale = 10 ** rng.uniform(-3, 1)
    for p, q in zip(ours, theirs, strict=True):
        g = (scale * rng.normal(size=p.shape)).astype(p.dtype)
        p.grad, q.grad = g, torch.tensor(g)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", SETTINGS)
def test_500_steps_in_lockstep(name, seed):
    rng = np.random.default_rng([seed, len(name)])
    chosen, other = drawn(name, rng), drawn(name, rng)
    if name == "Adagrad":  # PyTorch starts every group at the constructor's value
        other["initial_accumulator_value"] = chosen["initial_accumulator_value"]
    if chosen.get("nesterov"):  # PyTorch checks its conditions in the constructor alone, and we in every group
        other |= {"momentum": other["momentum"] or 0.5, "dampening": 0.0}
    ours, theirs = pair(np.float64, rng)
    groups = [slice(0, 2), slice(2, 3)]

    def build(library, parameters):
        cls = getattr(library, name)
        first, second = ({"params": parameters[part]} for part in groups)
        return cls([first, {**second, **other}], **chosen)

    mine, reference = build(optim, ours), build(torch.optim, theirs)
    for step in range(500):
        give_gradients(ours, theirs, rng)
        if step % 100 == 99:  # a schedule by hand, in mid-run
            for optimizer in (mine, reference):
                optimizer.param_groups[0]["lr"] = chosen["lr"] / (1 + step)
        mine.step()
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            scale = 1 + np.abs(q.detach().numpy())
            assert np.all(np.abs(p.data - q.detach().numpy()) <= 1e-10 * scale), (step, chosen)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SETTINGS)
def test_in_lockstep_when_tensors_miss_steps(name, seed):
    """PyTorch counts the steps of every tensor for itself."""
    rng = np.random.default_rng([seed, 7, len(name)])
    chosen = drawn(name, rng)
    ours, theirs = pair(np.float64, rng)
    mine, reference = getattr(optim, name)(ours, **chosen), getattr(torch.optim, name)(theirs, **chosen)
    for step in range(100):
        give_gradients(ours, theirs, rng)
        for i in np.flatnonzero(rng.random(len(ours)) < 0.4)[: len(ours) - 1]:
            ours[i].grad = theirs[i].grad = None
        mine.step()
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-10, atol=1e-10, err_msg=f"{step} {chosen}")


@pytest.mark.parametrize("name", SETTINGS)
def test_defaults_are_pytorchs(name):
    ours, theirs = Tensor([1.0], requires_grad=True), torch.ones(1, requires_grad=True)
    mine, reference = getattr(optim, name)([ours]).param_groups[0], getattr(torch.optim, name)([theirs]).param_groups[0]
    assert mine.keys() - {"start"} <= reference.keys()
    for key in mine.keys() - {"params", "start"}:
        assert mine[key] == reference[key], key


@pytest.mark.parametrize("name", SETTINGS)
def test_float32_stays_and_agrees(name):
    rng = np.random.default_rng(0)
    ours, theirs = pair(np.float32, rng)
    mine, reference = getattr(optim, name)(ours), getattr(torch.optim, name)(theirs)
    for _ in range(50):
        give_gradients(ours, theirs, rng)
        mine.step()
        reference.step()
    for p, q in zip(ours, theirs, strict=True):
        assert p.dtype == np.float32
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_as_far_as_bfloat16_goes(adjust):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(6, 3))
    ours, theirs = Tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    mine = optim.Muon([ours], lr=0.02, adjust_lr_fn=adjust)
    reference = torch.optim.Muon([theirs], lr=0.02, adjust_lr_fn=adjust)
    for _ in range(10):
        g = rng.normal(size=(6, 3))
        ours.grad, theirs.grad = g, torch.tensor(g)
        mine.step()
        reference.step()
    assert np.abs(ours.data - theirs.detach().numpy()).max() < 0.02 * np.abs(ours.data - start).max()


def schedule_pairs():
    s, t = optim.schedules, torch.optim.lr_scheduler
    yield "step", s.StepDecay(0.3, 7, 0.5), lambda o: t.StepLR(o, 7, 0.5)
    yield "piecewise", s.Piecewise(0.3, {5: 0.1, 20: 0.1}), lambda o: t.MultiStepLR(o, [5, 20], 0.1)
    yield "exponential", s.Exponential(0.3, 0.9), lambda o: t.ExponentialLR(o, 0.9)
    yield "polynomial", s.Polynomial(0.3, 20, 2.0), lambda o: t.PolynomialLR(o, 20, 2.0)
    yield "linear", s.Polynomial(0.3, 20, 1.0, 0.03), lambda o: t.LinearLR(o, 1.0, 0.1, 20)
    yield "cosine", s.Cosine(0.3, 40, 0.01), lambda o: t.CosineAnnealingLR(o, 40, 0.01)
    yield "one_cycle", s.OneCycle(0.3, 40), lambda o: t.OneCycleLR(o, 0.3, 40, cycle_momentum=False)
    yield (
        "one_cycle_2",
        s.OneCycle(0.3, 40, 0.45, 10.0, 100.0),
        lambda o: t.OneCycleLR(
            o, 0.3, 40, None, None, 0.45, div_factor=10.0, final_div_factor=100.0, cycle_momentum=False
        ),
    )
    yield "constant", s.Constant(0.3), lambda o: t.ConstantLR(o, 1.0)
    yield "sqrt", s.InverseSqrt(0.3), lambda o: t.LambdaLR(o, lambda k: (k + 1) ** -0.5)
    yield "warmup", s.Warmup(8, 0.3), lambda o: t.LinearLR(o, 1 / 8, 1.0, 7)
    yield (
        "warmup_cosine",
        s.Warmup(8, s.Cosine(0.3, 32)),
        lambda o: t.SequentialLR(o, [t.LinearLR(o, 1 / 8, 1.0, 7), t.CosineAnnealingLR(o, 32)], [8]),
    )
    yield (
        "joined",
        s.Joined([s.Constant(0.3), s.Exponential(0.3, 0.9), s.Polynomial(0.3, 9)], [10, 20]),
        lambda o: t.SequentialLR(o, [t.ConstantLR(o, 1.0), t.ExponentialLR(o, 0.9), t.PolynomialLR(o, 9)], [10, 20]),
    )
    yield (
        "transformer",
        s.Transformer(16, 10, 0.3),
        lambda o: t.LambdaLR(o, lambda k: 16**-0.5 * min((k + 1) ** -0.5, (k + 1) * 10**-1.5)),
    )
    yield "inverse_time", s.InverseTime(0.3, 0.2), lambda o: t.LambdaLR(o, lambda k: 1 / (1 + 0.2 * k))


@pytest.mark.filterwarnings("ignore:.*epoch parameter:UserWarning")  # PyTorch's, of its own SequentialLR
@pytest.mark.parametrize(("mine", "theirs"), [pytest.param(*pair, id=name) for name, *pair in schedule_pairs()])
def test_schedules_at_every_step(mine, theirs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = theirs(optimizer)
    for t in range(40):
        assert mine(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-15)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("bound", [0.1, 100.0])
def test_clipping(bound):
    rng = np.random.default_rng(0)
    ours, theirs = pair(np.float64, rng)
    give_gradients(ours, theirs, rng)
    norm = optim.clip_grad_norm(ours, bound)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, bound).item(), rel=1e-12)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-4)  # PyTorch adds 1e-6 to the norm
    give_gradients(ours, theirs, rng)
    optim.clip_grad_value(ours, bound)
    torch.nn.utils.clip_grad_value_(theirs, bound)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(p.grad, q.grad.numpy())
