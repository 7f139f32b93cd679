"""What all optimizers share: groups, schedules, state, refusals; and the two that PyTorch does not have as they are here."""

import copy

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Objective, Tensor, nn, optim
from microgradopt.optim.closure import ClosureOptimizer

ALL = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "Momentum": {},
    "RMS": {},
    "Adagrad": {},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "Adadelta": {},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "Lion": {},
    "Muon": {},
    "Prodigy": {},
    "ScheduleFreeAdamW": {},
}
SHAPES = [(3, 2), (4,)]


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return [Tensor(rng.normal(size=shape), requires_grad=True) for shape in SHAPES]


def build(name, params, **settings):
    return getattr(optim, name)(params, **{**ALL[name], **settings})


def take(optimizer, params, steps, rng):
    for _ in range(steps):
        for p in params:
            p.grad = rng.normal(size=p.shape)
        optimizer.step()


def test_all_are_here():
    """But those that need a closure, and SAM, which is made around another: test_second_order.py has them."""
    public = {name for name in optim.__all__ if name[0].isupper()} - {"Optimizer", "SAM"}
    assert set(ALL) == {name for name in public if not issubclass(getattr(optim, name), ClosureOptimizer)}


@pytest.mark.parametrize("name", ALL)
def test_lowers_a_loss(name):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 3)), rng.normal(size=(64, 1))
    model = nn.MLP((3, 8, 1), activation=nn.Tanh, rng=1)
    objective = Objective.of(model, lambda: nn.mse_loss(model(X), y))
    before = objective.value()
    optimizer = build(name, model.parameters(), lr=1.0 if name == "Adadelta" else 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.mse_loss(model(X), y).backward()
        optimizer.step()
    assert objective.value() < before


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "lr", [0.01, optim.schedules.Warmup(5, optim.schedules.Cosine(0.02, 20))], ids=["number", "schedule"]
)
def test_resumed_equals_uninterrupted_bit_for_bit(name, lr):
    params = parameters()
    optimizer = build(name, params, lr=lr)
    take(optimizer, params, 7, np.random.default_rng(1))
    saved, values = copy.deepcopy(optimizer.state_dict()), [p.data.copy() for p in params]
    resumed = [Tensor(value, requires_grad=True) for value in values]
    other = getattr(optim, name)(resumed, lr=lr)  # its settings come from the state, its schedule from here
    other.load_state_dict(saved)
    take(optimizer, params, 7, np.random.default_rng(2))
    take(other, resumed, 7, np.random.default_rng(2))
    for p, q in zip(params, resumed, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("name", ALL)
def test_state_dict_is_a_copy(name):
    params = parameters()
    optimizer = build(name, params)
    take(optimizer, params, 3, np.random.default_rng(1))
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    take(optimizer, params, 3, np.random.default_rng(2))
    assert repr(saved) == repr(before)


@pytest.mark.parametrize("name", ALL)
def test_a_tensor_without_gradient_stays_as_if_it_were_not_there(name):
    together, alone = parameters(), parameters()[:1]
    both, single = build(name, together), build(name, alone)
    rng = np.random.default_rng(0)
    still = together[1].data.copy()
    for _ in range(4):
        together[0].grad = alone[0].grad = rng.normal(size=SHAPES[0])
        together[1].grad = None
        both.step()
        single.step()
    np.testing.assert_array_equal(together[0].data, alone[0].data)
    np.testing.assert_array_equal(together[1].data, still)
    assert both.state_dict()["state"][1] == {"params": [1], "step": 4, "t": 0}


@pytest.mark.parametrize("name", ALL)
def test_the_state_of_a_tensor_that_misses_a_step_stays(name):
    params = parameters()
    optimizer = build(name, params)
    take(optimizer, params, 3, np.random.default_rng(0))
    (before,) = optimizer.state_dict()["state"]
    params[1].grad = None
    optimizer.step()
    moved, still = optimizer.state_dict()["state"]
    assert (moved["params"], moved["t"], still["params"], still["t"]) == ([0], 4, [1], 3)
    for key, value in still.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, before[key][6:])


def test_a_frozen_tensor_stays():
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1, weight_decay=0.1)
    take(optimizer, params, 2, np.random.default_rng(0))
    params[0].requires_grad = False
    before = params[0].data.copy()
    take(optimizer, params, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(params[0].data, before)


@pytest.mark.parametrize("name", ALL)
def test_maximize_is_the_mirror(name):
    up, down = parameters(), parameters()
    climbing, descending = build(name, up, maximize=True), build(name, down)
    rng = np.random.default_rng(0)
    for _ in range(5):
        for p, q in zip(up, down, strict=True):
            q.grad = rng.normal(size=q.shape)
            p.grad = -q.grad
        climbing.step()
        descending.step()
    for p, q in zip(up, down, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_not_written_to(name):
    params = parameters()
    optimizer = build(name, params)
    for _ in range(3):
        for p in params:
            p.grad = np.full(p.shape, 0.5)
        optimizer.step()
        assert all((p.grad == 0.5).all() for p in params)


class TestGroups:
    def test_own_settings_and_defaults(self):
        params = parameters()
        optimizer = optim.SGD([{"params": params[:1]}, {"params": params[1:], "lr": 1.0}], lr=0.1)
        before = [p.data.copy() for p in params]
        for p in params:
            p.grad = np.ones(p.shape)
        optimizer.step()
        np.testing.assert_allclose(params[0].data, before[0] - 0.1)
        np.testing.assert_allclose(params[1].data, before[1] - 1.0)

    def test_added_later(self):
        params = parameters()
        optimizer = optim.SGD(params[:1], lr=0.1)
        optimizer.add_param_group({"params": params[1:], "lr": 0.5})
        assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]

    def test_learning_rate_changed_in_mid_run(self):
        (theta,) = params = [Tensor([0.0], requires_grad=True)]
        optimizer = optim.SGD(params, lr=0.1)
        for lr in (0.1, 0.5):
            optimizer.param_groups[0]["lr"] = lr
            theta.grad = np.ones(1)
            optimizer.step()
        assert theta.item() == pytest.approx(-0.6)

    def test_lr_is_that_of_the_next_step(self):
        params = parameters()
        optimizer = optim.SGD(params, lr=optim.schedules.Exponential(1.0, 0.5))
        assert optimizer.lr == 1.0
        take(optimizer, params, 2, np.random.default_rng(0))
        assert optimizer.lr == 0.25

    def test_repr(self):
        assert "n = 10" in repr(optim.Adam(parameters()))


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "error"),
        [
            ([], ValueError),
            ([1.0], TypeError),
            ([Tensor([1.0], requires_grad=True) * 2], ValueError),
            ([{"lr": 0.1}], ValueError),
            ([{"params": [Tensor([1.0])], "learning_rate": 0.1}], ValueError),
            ([{"params": []}], ValueError),
            ([{"params": [Tensor([1.0])]}, Tensor([1.0])], TypeError),
            ([np.ones(3)], TypeError),
            (iter(()), ValueError),
            (3.0, TypeError),
        ],
    )
    def test_parameters(self, params, error):
        with pytest.raises(error):
            optim.SGD(params)

    def test_the_same_twice(self):
        (p, _) = parameters()
        with pytest.raises(ValueError, match="twice"):
            optim.SGD([p, p])
        with pytest.raises(ValueError, match="more than one group"):
            optim.SGD([{"params": [p]}, {"params": [p]}])

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("SGD", {"lr": -1.0}),
            ("SGD", {"lr": float("nan")}),
            ("SGD", {"momentum": -0.1}),
            ("SGD", {"nesterov": True}),
            ("Adam", {"betas": (0.9, 1.0)}),
            ("Adam", {"betas": (-0.1, 0.9)}),
            ("Adam", {"eps": -1e-8}),
            ("RMSprop", {"alpha": 1.0}),
            ("RMSprop", {"start": "one"}),
            ("Muon", {"adjust_lr_fn": "other"}),
            ("Muon", {"adam_betas": (0.9, 1.0)}),
            ("Muon", {"adam_lr": -1.0}),
            ("SGD", {"lr": "fast"}),
            ("SGD", {"lr": None}),
            ("SGD", {"lr": np.inf}),
            ("SGD", {"lr": np.float32(-1.0)}),
            ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
            ("SGD", {"dampening": -np.inf}),
            ("Momentum", {"momentum": -0.1}),
            ("RMS", {"lr": -0.1}),
            ("Adagrad", {"lr_decay": -0.1}),
            ("Adagrad", {"initial_accumulator_value": -0.1}),
            ("Adadelta", {"rho": 1.0}),
            ("AdamW", {"weight_decay": -0.1}),
            ("Adamax", {"betas": (0.9,)}),
            ("NAdam", {"momentum_decay": -0.1}),
            ("RAdam", {"betas": 0.9}),
            ("Lion", {"betas": (0.9, "0.99")}),
        ],
    )
    def test_hyperparameters(self, name, settings):
        """The same in the constructor, in a group, and in a group that is added."""
        for build in (
            lambda cls: cls(parameters(), **settings),
            lambda cls: cls([{"params": parameters(), **settings}]),
            lambda cls: cls(parameters()).add_param_group({"params": parameters(), **settings}),
        ):
            with pytest.raises(ValueError, match=name):
                build(getattr(optim, name))

    @pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
    def test_a_learning_rate_in_mid_run(self, rate):
        """From a schedule, or set by hand: refused at the step, before anything moves."""
        params = parameters()
        optimizer = optim.Adam(params, lr=lambda t: [0.1, rate][t])
        take(optimizer, params, 1, np.random.default_rng(0))
        before, state = [p.data.copy() for p in params], repr(optimizer.state_dict())
        for lr in (optimizer.param_groups[0]["lr"], rate):
            optimizer.param_groups[0]["lr"] = lr
            with pytest.raises(ValueError, match="lr is a number from 0"):
                optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.1
        assert [np.array_equal(p.data, b) for p, b in zip(params, before, strict=True)] == [True, True]
        state_now = optimizer.state_dict()
        state_now["param_groups"][0].pop("lr")
        assert repr(state_now) == state

    @pytest.mark.parametrize("shape", [(2, 3), (6,), (3, 1), ()])
    def test_a_gradient_of_another_shape(self, shape):
        (p, q) = parameters()
        p.grad, q.grad = np.ones(shape), np.ones(4)
        before = p.data.copy()
        with pytest.raises(ValueError, match=r"grad: parameter 0 has shape \(3, 2\)"):
            optim.SGD([p, q], lr=0.1).step()
        np.testing.assert_array_equal(p.data, before)

    def test_a_group_that_is_refused_is_not_added(self):
        params = parameters()
        optimizer = optim.SGD(params[:1])
        for group in ({"params": params}, {"params": params[1:], "lr": -1.0}, {"params": [params[1], params[1]]}):
            with pytest.raises(ValueError, match=r"SGD|twice"):
                optimizer.add_param_group(group)
        assert len(optimizer.param_groups) == len(optimizer.state_dict()["state"]) == 1
        optimizer.add_param_group({"params": params[1]})

    def test_a_step_without_gradients(self):
        with pytest.raises(RuntimeError, match="backward"):
            optim.SGD(parameters()).step()


class TestClipping:
    @pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
    def test_bounds(self, bound):
        for clip in (optim.clip_grad_norm, optim.clip_grad_value):
            with pytest.raises(ValueError, match=clip.__name__):
                clip(parameters(), bound)

    @pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
    def test_what_is_not_finite(self, bad):
        params = parameters()
        params[0].grad, params[1].grad = np.full((3, 2), bad), np.ones(4)
        with pytest.raises(FloatingPointError, match="clip_grad_norm"):
            optim.clip_grad_norm(params, 1.0)
        np.testing.assert_array_equal(params[0].grad, np.full((3, 2), bad))
        np.testing.assert_array_equal(params[1].grad, np.ones(4))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_norm_over_all_tensors(self, dtype):
        """3, 4 and 12 make 13; a tensor without gradient does not count."""
        params = [Tensor(np.zeros(shape, dtype), requires_grad=True) for shape in ((2,), (), (3,))]
        params[0].grad, params[1].grad = np.array([3.0, 4.0], dtype), np.array(12.0, dtype)
        given = params[0].grad
        assert optim.clip_grad_norm(iter(params), 13.0) == 13.0
        assert np.array_equal(params[0].grad, given), "within the bound nothing changes"
        assert optim.clip_grad_norm(iter(params), 6.5) == 13.0
        np.testing.assert_allclose(params[0].grad, [1.5, 2.0], rtol=1e-6)
        np.testing.assert_allclose(params[1].grad, 6.0, rtol=1e-6)
        np.testing.assert_array_equal(given, [3.0, 4.0], "what was handed out is not written to")
        assert params[2].grad is None
        assert optim.clip_grad_norm(params, np.inf) == pytest.approx(6.5)
        for p in params[:2]:
            assert type(p.grad) is np.ndarray
            assert p.grad.dtype == dtype

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_value(self, dtype):
        params = [Tensor(np.zeros(shape, dtype), requires_grad=True) for shape in ((3,), (), (3,))]
        params[0].grad, params[1].grad = np.array([-3.0, 0.5, 4.0], dtype), np.array(12.0, dtype)
        optim.clip_grad_value(iter(params), 1.0)
        np.testing.assert_array_equal(params[0].grad, [-1.0, 0.5, 1.0])
        np.testing.assert_array_equal(params[1].grad, 1.0)
        for p in params[:2]:
            assert type(p.grad) is np.ndarray
            assert p.grad.dtype == dtype

    def test_one_tensor_alone(self):
        """Its rows, which iterating would give, have no gradients: nothing would be clipped."""
        p = Tensor([3.0, 4.0], requires_grad=True)
        p.grad = np.array([3.0, 4.0])
        assert optim.clip_grad_norm(p, 1.0) == 5.0
        np.testing.assert_allclose(p.grad, [0.6, 0.8])
        optim.clip_grad_value(p, 0.7)
        np.testing.assert_allclose(p.grad, [0.6, 0.7])

    def test_tiny_gradients_in_float32(self):
        """Their squares are 0 in float32; the norm is summed in float64."""
        p = Tensor(np.zeros(2, np.float32), requires_grad=True)
        p.grad = np.array([3e-30, 4e-30], np.float32)
        assert optim.clip_grad_norm([p], 1e-30) == pytest.approx(5e-30)
        np.testing.assert_allclose(p.grad, [6e-31, 8e-31], rtol=1e-6)


def test_closure_gives_the_loss():
    (p, _) = parameters()
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = np.sum(p * p)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert optimizer.step(closure).item() < first.item()


def test_two_optimizers_and_an_objective_never_see_stale_values():
    params = parameters()
    objective = Objective.of(params, lambda: sum((np.sum(p**2) for p in params), start=Tensor(0.0)))
    one, other = optim.SGD(params, lr=0.1), optim.SGD(params, lr=0.1)
    expected = objective.theta
    for optimizer in (one, other, one):
        objective.theta = objective.theta * 2
        optimizer.zero_grad()
        objective.value_and_gradient()
        for p, g in zip(params, mg.grad(objective._loss(), params), strict=True):
            p.grad = g
        optimizer.step()
        expected = expected * 2 * 0.8
        np.testing.assert_allclose(objective.theta, expected)
    params[0].data = np.zeros(SHAPES[0])
    assert (objective.theta[:6] == 0).all()


def test_a_backward_after_the_step_is_refused():
    (p, _) = parameters()
    loss = np.sum(p * p)
    p.grad = np.ones(p.shape)
    optim.SGD([p]).step()
    with pytest.raises(mg.OverwrittenError, match="multiply"):
        loss.backward()


# Lion and Muon, from their papers ---------------------------------------------------------------------------------------


def test_lion():
    rng, (theta,) = np.random.default_rng(0), parameters()[:1]
    optimizer = optim.Lion([theta], lr=0.01, betas=(0.8, 0.9), weight_decay=0.1)
    x, m = theta.data.copy(), np.zeros(theta.shape)
    for _ in range(50):
        g = theta.grad = rng.normal(size=theta.shape)
        x = x - 0.01 * (np.sign(0.8 * m + 0.2 * g) + 0.1 * x)
        m = 0.9 * m + 0.1 * g
        optimizer.step()
    np.testing.assert_allclose(theta.data, x, rtol=1e-13)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon(shape, nesterov, adjust):
    """The polynomial acts on singular values alone: transcribed through the SVD."""
    rng = np.random.default_rng(0)
    theta = Tensor(rng.normal(size=shape), requires_grad=True)
    bias = Tensor(rng.normal(size=4), requires_grad=True)
    adam_bias = Tensor(bias.data, requires_grad=True)
    optimizer = optim.Muon([theta, bias], lr=0.02, nesterov=nesterov, adam_lr=0.01, adjust_lr_fn=adjust)
    scale = np.sqrt(max(1, shape[0] / shape[1])) if adjust == "original" else 0.2 * np.sqrt(max(shape))
    adam = optim.AdamW([adam_bias], lr=0.01, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.1)
    x, buffer = theta.data.copy(), np.zeros(shape)
    for _ in range(20):
        g = theta.grad = rng.normal(size=shape)
        bias.grad = adam_bias.grad = rng.normal(size=4)
        buffer = 0.95 * buffer + 0.05 * g
        u, s, vt = np.linalg.svd(0.05 * g + 0.95 * buffer if nesterov else buffer, full_matrices=False)
        s = s / np.sqrt(np.sum(s**2))
        for _ in range(5):
            s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
        x = x * (1 - 0.02 * 0.1) - 0.02 * scale * (u * s) @ vt
        optimizer.step()
        adam.step()
    np.testing.assert_allclose(theta.data, x, rtol=1e-9)
    np.testing.assert_allclose(bias.data, adam_bias.data, rtol=1e-13)


def test_muon_with_a_matrix_that_has_no_columns():
    empty, full = Tensor(np.ones((2, 0)), requires_grad=True), Tensor(np.eye(2), requires_grad=True)
    empty.grad, full.grad = np.ones((2, 0)), np.eye(2)
    optim.Muon([empty, full], lr=0.1, weight_decay=0.0).step()
    np.testing.assert_allclose(full.data, 0.9 * np.eye(2), atol=0.05)


# Schedules --------------------------------------------------------------------------------------------------------------

s = optim.schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (s.Constant(0.1), {0: 0.1, 1000: 0.1}),
        (s.StepDecay(1.0, 10), {9: 1.0, 10: 0.1, 25: 0.01}),
        (s.Piecewise(1.0, {10: 0.1, 20: 0.5}), {9: 1.0, 10: 0.1, 20: 0.05}),
        (s.Exponential(1.0, 0.5), {0: 1.0, 3: 0.125}),
        (s.InverseTime(1.0, 0.5), {0: 1.0, 2: 0.5}),
        (s.InverseSqrt(1.0), {0: 1.0, 3: 0.5}),
        (s.Polynomial(1.0, 10, 2.0, 0.2), {0: 1.0, 5: 0.4, 10: 0.2, 99: 0.2}),
        (s.Cosine(1.0, 10, 0.2), {0: 1.0, 5: 0.6, 10: 0.2, 99: 0.2}),
        (s.Warmup(4, 1.0), {0: 0.25, 3: 1.0, 50: 1.0}),
        (s.Warmup(2, s.Exponential(1.0, 0.5)), {0: 0.5, 1: 1.0, 2: 1.0, 3: 0.5}),
        (s.Joined([s.Constant(1.0), s.Exponential(0.5, 0.5)], [3]), {2: 1.0, 3: 0.5, 4: 0.25}),
        (s.OneCycle(1.0, 100), {0: 0.04, 29: 1.0, 99: 0.04 / 1e4, 200: 0.04 / 1e4}),
        (s.OneCycle(1.0, 10, 0.1), {0: 1.0, 9: 4e-6, 20: 4e-6}),
        (s.OneCycle(1.0, 10, 1.0), {0: 0.04, 9: 1.0, 10: 4e-6}),
        (s.OneCycle(1.0, 1), {0: 4e-6, 1: 4e-6}),
        (s.Joined([s.Constant(1.0)], []), {0: 1.0, 9: 1.0}),
        (s.Warmup(1, 0.5), {0: 0.5, 1: 0.5}),
        (s.Piecewise(1.0, {}), {0: 1.0, 99: 1.0}),
        (s.Transformer(512), {3999: 512**-0.5 * 4000**-0.5, 15999: 512**-0.5 * 16000**-0.5, 0: 512**-0.5 * 4000**-1.5}),
    ],
)
def test_schedules_are_pure_functions_of_the_step(schedule, expected):
    """The same step gives the same bits, in whatever order it is asked."""
    assert {t: schedule(t) for t in expected} == pytest.approx(expected, rel=1e-12)
    forwards = [schedule(t) for t in range(60)]
    backwards = [schedule(t) for t in reversed(range(60))]
    assert forwards == backwards[::-1]
    assert all(type(rate) is float and rate >= 0 for rate in forwards)


@pytest.mark.parametrize(
    "call",
    [
        lambda: s.StepDecay(1.0, 0),
        lambda: s.Polynomial(1.0, 0),
        lambda: s.Cosine(1.0, -1),
        lambda: s.Warmup(0, 1.0),
        lambda: s.Joined([s.Constant(1.0)], [3]),
        lambda: s.Joined([s.Constant(1.0)] * 3, [3, 3]),
        lambda: s.OneCycle(1.0, 0),
        lambda: s.OneCycle(1.0, 10, 1.5),
        lambda: s.OneCycle(1.0, 10, -0.5),
        lambda: s.OneCycle(1.0, 10, start_factor=0.0),
        lambda: s.InverseTime(1.0, -0.5),
        lambda: s.Polynomial(1.0, 10, -1.0),
        lambda: s.Transformer(0),
        lambda: s.Transformer(8, float("nan")),
    ],
)
def test_schedules_refuse(call):
    with pytest.raises(ValueError, match=r"positive|boundary|warmup_fraction"):
        call()


def test_a_subclass_need_not_know_of_maximize():
    class Plain(optim.Optimizer):
        def update(self, theta, g, state, lr, group):
            return theta - lr * g

    x = Tensor([1.0], requires_grad=True)
    x.grad = np.array([2.0])
    Plain([x], lr=0.1).step()
    assert x.item() == pytest.approx(0.8)


@pytest.mark.parametrize("bound", [1.0, np.inf])
def test_clipping_a_gradient_of_zero(bound):
    x = Tensor([1.0], requires_grad=True)
    x.grad = np.zeros(1)
    assert optim.clip_grad_norm([x], bound) == 0.0
    assert x.grad.tolist() == [0.0]
