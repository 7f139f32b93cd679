"""Hyperparameters: declared on the class that has them, with their ranges; schedules as values."""

import copy
import inspect
import pickle

import numpy as np
import pytest

from microgradopt import Tensor, nn, optim, training
from microgradopt.optim import schedules
from microgradopt.optim.hyperparameters import choice, flag, number, positive, rate, several, whole
from microgradopt.optim.schedules import Schedule, decoded, encoded

CLASSES = [
    cls for name in optim.__all__ if isinstance(cls := getattr(optim, name), type) and issubclass(cls, optim.Optimizer)
]


def w(*shape):
    return Tensor(np.ones(shape or (1,)), requires_grad=True)


class Mine(optim.Optimizer):
    """Names as it likes, with ranges that other optimizers' parameters of these names do not have."""

    lr: float = rate(0.1)
    alpha: float = number(2.0, low=1.0, below=5.0)
    start: str = choice("hot", "cold")
    bold: bool = flag(False)
    size: float = positive(1.0)
    count: int = whole(3)
    pair: tuple = several(1.0, 2.0)
    theta_decay: float = 0.5  # declared without a range

    def update(self, theta, g, state, lr, group):
        return theta - lr * group["alpha"] * g


def test_an_optimizer_is_its_docstring_its_declarations_its_formula():
    optimizer = Mine([w()], 0.2, alpha=3.0)
    optimizer.param_groups[0]["params"][0].grad = np.array([1.0])
    optimizer.step()
    assert optimizer.param_groups[0]["params"][0].item() == pytest.approx(1 - 0.6)
    assert (optimizer.alpha, optimizer.start, optimizer.lr, optimizer.theta_decay) == (3.0, "hot", 0.2, 0.5)
    assert list(inspect.signature(Mine).parameters) == ["params", *Mine.hyperparameters]
    assert inspect.signature(Mine).parameters["alpha"].default == 2.0


BAD = {
    "lr": [-1.0, np.nan, np.inf, True, "0.1", None, [0.1]],
    "alpha": [0.9, 5.0, np.nan, "2", True],
    "start": ["warm", None, 1],
    "bold": ["false", "no", 1, None],
    "size": [0.0, -1.0, np.inf, np.nan],
    "count": [0, 1.5, True, np.nan, "3"],
    "pair": [(1.0,), 1.0, (1.0, np.nan), (1.0, 2.0, 3.0), ("a", 1.0)],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_out_of_range(key, value):
    with pytest.raises(ValueError, match=rf"Mine: {key} is "):
        Mine([w()], **{key: value})
    with pytest.raises(ValueError, match=rf"Mine: {key} is "):
        Mine([{"params": [w()], key: value}])
    optimizer = Mine([parameter := w()])
    optimizer.param_groups[0][key] = value  # set later: refused at the step
    parameter.grad = np.array([1.0])
    with pytest.raises(ValueError, match=rf"Mine(\.step)?: {key} is "):
        optimizer.step()
    assert parameter.item() == 1.0


def test_what_the_base_has_is_no_hyperparameter():
    class Annotated(Mine):
        keeps: tuple[str, ...] = ("m",)
        wants_closure: bool = False

        def update(self, theta, g, state, lr, group):
            return theta - lr * optim.moving_average(state, "m", g, 0.5)

    assert Annotated.keeps == ("m",)
    assert Annotated.hyperparameters.keys() == Mine.hyperparameters.keys()


def test_anything_goes_where_no_range_is_declared():
    assert Mine([w()], theta_decay="oops").param_groups[0]["theta_decay"] == "oops"


class Older(optim.Optimizer):
    """With an __init__ of its own: nothing is declared, and all that it names is known."""

    def __init__(self, params, lr=0.1, alpha=2.0, start="hot", **more):
        super().__init__(params, lr=lr, alpha=alpha, start=start, **more)

    def update(self, theta, g, state, lr, group):
        return theta - lr * group["alpha"] * g


def test_names_that_nobody_has():
    assert Older([w()], alpha=-3.0).param_groups[0]["alpha"] == -3.0
    for make in (
        lambda: Older([w()], theta_decay="oops"),
        lambda: Mine([w()], beta=1),
        lambda: Mine([w()], 0.1, lr=0.2),
        lambda: optim.Adam([w()], 1e-3, (0.9, 0.99), 1e-8, 0.0, False, False, 5),
        lambda: optim.SAM([w()], momentun=0.9),
    ):
        with pytest.raises(TypeError, match=r"takes params, .*not "):
            make()


def test_a_subclass_inherits_and_changes_a_default():
    class Slow(optim.Adam):
        lr: float = rate(1e-5)
        patience: int = whole(2)

    assert Slow([w()]).lr == 1e-5
    assert list(Slow.hyperparameters) == [*optim.Adam.hyperparameters, "patience"]
    assert optim.Adam([w()]).lr == 1e-3


def test_a_plain_value_is_another_default():
    """It was ignored: the group had the old one, and the attribute the new one."""

    class Slow(optim.Adam):
        lr = 1e-5
        betas: tuple[float, float] = (0.5, 0.9)

    optimizer = Slow([w()])
    assert (optimizer.lr, optimizer.betas, optimizer.param_groups[0]["betas"]) == (1e-5, (0.5, 0.9), (0.5, 0.9))
    assert inspect.signature(Slow).parameters["lr"].default == 1e-5
    assert list(Slow.hyperparameters) == list(optim.Adam.hyperparameters)
    with pytest.raises(ValueError, match="Slow: betas is 2 numbers"):
        Slow([w()], betas=(0.5, 1.0))


@pytest.mark.parametrize("annotations", [{}, {"lr": float}])
def test_a_plain_lr_is_a_learning_rate(annotations):
    """It was no hyperparameter, since the base has an attribute of this name: steps were made with a rate of 1."""

    def update(self, theta, g, state, lr, group):
        return theta - lr * g

    plain = type("Plain", (optim.Optimizer,), {"lr": 0.25, "update": update, "__annotations__": annotations})
    parameter = w()
    for rate_given, expected in (({}, 0.75), ({"lr": lambda t: 0.5}, 0.25)):
        parameter.grad = np.array([1.0])
        optimizer = plain([parameter], **rate_given)
        optimizer.step()
        assert parameter.item() == expected
    with pytest.raises(ValueError, match="lr is a number from 0"):
        plain([parameter], lr=-1.0)


def test_an_attribute_is_not_the_way_to_set_one():
    optimizer = optim.Adam([w()])
    with pytest.raises(AttributeError, match=r"param_groups\[0\]\['betas'\]"):
        optimizer.betas = (0.5, 0.5)
    assert optimizer.betas == (0.9, 0.999)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_declared_number_refuses_nan(cls):
    for key, declared in cls.hyperparameters.items():
        if isinstance(declared.default, float):
            with pytest.raises(ValueError, match=f"{key} is "):
                cls([w(2, 2)], **{key: np.nan})


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_default_is_in_its_range_and_numpys_numbers_become_pythons(cls):
    for key, declared in cls.hyperparameters.items():
        assert declared.accepted("x", declared.default) == declared.default
        if isinstance(declared.default, float):
            value = cls([w(2, 2)], **{key: np.float64(declared.default)}).param_groups[0][key]
            assert type(value) is float


SCHEDULES = [
    schedules.Constant(0.1),
    schedules.StepDecay(0.1, 5),
    schedules.Piecewise(0.1, {3: 0.5, 6: 0.1}),
    schedules.Exponential(0.1, 0.9),
    schedules.InverseTime(0.1, 0.5),
    schedules.InverseSqrt(0.1),
    schedules.Polynomial(0.1, 10, 2.0, 0.01),
    schedules.Cosine(0.1, 10),
    schedules.Warmup(3, 0.1),
    schedules.Joined([schedules.Constant(0.1), schedules.Warmup(2, schedules.Cosine(0.1, 5))], [4]),
    schedules.OneCycle(0.1, 10),
    schedules.Transformer(64, 5),
]


def test_all_schedules_are_here():
    assert {type(schedule) for schedule in SCHEDULES} == set(Schedule.__subclasses__())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_a_schedule_is_a_value(schedule):
    ways = (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule)), decoded(encoded(schedule)))
    ways += (eval(repr(schedule), vars(schedules)),)
    for other in ways:
        assert other == schedule
        assert [other(t) for t in range(20)] == [schedule(t) for t in range(20)]
    with pytest.raises(AttributeError):
        schedule.lr = 5.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.Cosine(-1.0, 10),
        lambda: schedules.Cosine("a", 10),
        lambda: schedules.Cosine(0.1, 0),
        lambda: schedules.Cosine(0.1, 2.5),
        lambda: schedules.Constant(np.nan),
        lambda: schedules.Exponential(0.1, -1.0),
        lambda: schedules.Exponential(0.1, np.nan),
        lambda: schedules.Piecewise(0.1, {1.5: 0.1}),
        lambda: schedules.Piecewise(0.1, {1: -0.1}),
        lambda: schedules.Warmup(2, "fast"),
        lambda: schedules.Joined([0.1, 0.2], [3]),
        lambda: schedules.OneCycle(0.1, 10, 1.5),
        lambda: schedules.Transformer(0),
    ],
)
def test_schedules_that_make_no_sense(make):
    with pytest.raises(ValueError, match=r"[A-Z]\w+: "):
        make()


def test_the_old_names_of_schedules():
    with pytest.warns(DeprecationWarning, match=r"optim\.schedules\.cosine is now Cosine"):
        old = schedules.cosine
    assert old(0.1, 10) == schedules.Cosine(0.1, 10)
    with pytest.raises(AttributeError):
        _ = schedules.sine


@pytest.mark.parametrize("value", [None, "fast", True, -0.1, np.nan, [0.1]])
def test_a_schedule_of_ones_own_that_gives_nonsense(value):
    parameter = w()
    parameter.grad = np.array([1.0])
    with pytest.raises(ValueError, match="lr is a number from 0, not"):
        optim.SGD([parameter], lr=lambda t: value).step()
    assert parameter.item() == 1.0


def test_second_order_methods_say_why_they_stopped():
    x = w(2)

    def closure_of(optimizer, loss):
        def closure():
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        return closure

    for make in (optim.Newton, optim.NewtonCG, optim.SaddleFreeNewton, optim.LBFGS):
        x.data = np.array([1.0, -2.0])
        optimizer = make([x])
        closure = closure_of(optimizer, lambda: np.sum((x - 3) ** 4) + np.sum(x**2))
        assert optimizer.stopped == ""
        for _ in range(200):
            optimizer.step(closure)
            if optimizer.stopped:
                break
        assert optimizer.stopped
        assert np.abs(x.grad).max() < 1e-6
    for make in (optim.GaussNewton, optim.LevenbergMarquardt):
        x.data = np.array([1.0, -2.0])
        optimizer = make([x])
        for _ in range(200):
            optimizer.step(lambda: np.exp(x) - 2.0 + x * x)
            if optimizer.stopped:
                break
        assert optimizer.stopped
        assert np.abs(x.grad).max() < 1e-6


@pytest.mark.parametrize("scale", [1e9, 1e12, 1e-9])
def test_newton_on_a_badly_scaled_quadratic(scale):
    x = Tensor([1 / scale, 6.5], requires_grad=True)
    optimizer = optim.Newton([x])

    def closure():
        optimizer.zero_grad()
        loss = (scale * x[0]) ** 2 + (x[1] - 1) ** 2
        loss.backward()
        return loss

    for _ in range(80):
        loss = optimizer.step(closure)
    assert loss.item() < 1e-9
    assert x.data[1] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("power", [-30, -10, 10, 30])
def test_levenberg_marquardt_does_not_depend_on_the_units_of_its_parameters(power):
    """Marquardt's D: with a parameter measured in units 2^±30 times as large the steps are the same, bit for bit."""
    t = np.linspace(0, 3, 20)
    target = 2.0 * np.exp(-1.5 * t) + 0.5
    ways = []
    for unit in (1.0, 2.0**power):
        x = Tensor([0.1, 1.0 * unit, 3.0], requires_grad=True)
        optimizer = optim.LevenbergMarquardt([x])
        for _ in range(12):
            optimizer.step(lambda x=x, unit=unit: x[0] * np.exp(x[1] / unit * t) + x[2] - target)
        ways.append(x.data / [1.0, unit, 1.0])
    np.testing.assert_allclose(*ways, rtol=1e-9)


@pytest.mark.parametrize("boundaries", [[2.5], [-3], [True], ["a"], [np.nan], [3, 5], []])
def test_the_boundaries_of_joined_schedules_are_steps(boundaries):
    with pytest.raises(ValueError, match="one boundary less, steps in rising order"):
        schedules.Joined([schedules.Constant(0.1), schedules.Constant(0.2)], boundaries)


def test_what_a_file_cannot_name_is_said(tmp_path):
    """NumPy's boundaries are numbers; a function of one's own inside of a schedule is not."""
    model = nn.Linear(2, 1, rng=0)
    joined = schedules.Joined([schedules.Constant(0.1), schedules.Constant(0.2)], np.array([3]))
    optimizer = optim.SGD(model.parameters(), lr=joined)
    training.save_checkpoint(tmp_path / "run.npz", model, optimizer)
    training.load_checkpoint(tmp_path / "run.npz", model, optimizer)
    assert optimizer.param_groups[0]["lr"] == joined
    optimizer.param_groups[0]["lr"] = schedules.Warmup(2, lambda t: 0.1)
    with pytest.raises(TypeError, match="a function of your own, which a file cannot name"):
        training.save_checkpoint(tmp_path / "other.npz", model, optimizer)
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_a_rate_that_is_a_tensor_is_a_number():
    """The parameter's values were a Tensor from then on."""
    parameter = w()
    parameter.grad = np.array([1.0])
    optim.SGD([parameter], lr=lambda t: Tensor(0.25)).step()
    assert type(parameter.value) is np.ndarray
    assert parameter.item() == 0.75
