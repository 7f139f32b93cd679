"""Many trainings as one: each is what it would have been alone. The oracle is the same runs, trained one by one."""

import functools
import warnings

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn, optim
from microgradopt.many.traced import Traced
from microgradopt.optim import schedules
from microgradopt.training import ManyRuns, Run, fit, fit_many, vary

rng = np.random.default_rng(5)
X, LABELS = rng.normal(size=(20, 4)), rng.integers(0, 3, size=20)
OTHER = rng.normal(size=(6, 4)), rng.integers(0, 3, size=6)
LISTS = ("loss", "gradient_norm", "lr", "step_norm", "validation_loss")


def net(seed, activation=nn.Tanh):
    return nn.MLP((4, 6, 3), activation=activation, rng=seed)


def between(*layers):
    """Networks with a layer of their own in the middle: the i-th has the i-th, seeds differ."""
    return lambda i: nn.Sequential(nn.Linear(4, 8, rng=i), layers[i % len(layers)](i), nn.Linear(8, 3, rng=i + 9))


def runs_of(
    options, optimizer=optim.SGD, model=net, loss=lambda i: nn.cross_entropy, data=lambda i: (X, LABELS), **of_all
):
    """Runs, one for each of the options of its optimizer; what is under "run" is the run's."""
    made = []
    for i, own in enumerate(options):
        parameters = (m := model(i)).parameters()
        mover = optimizer(parameters, **{key: x for key, x in own.items() if key != "run"})
        made.append(Run(m, loss(i), mover, *data(i), **{"rng": i, **of_all, **own.get("run", {})}))
    return made


def numbers(x):
    """All numbers of a state, in order."""
    if isinstance(x, dict | list | tuple):
        return [n for part in (x.values() if isinstance(x, dict) else x) for n in numbers(part)]
    return [np.asarray(x)] if isinstance(x, int | float | np.ndarray | np.generic) else []


def assert_same(found, expected, near):
    """θ, state, buffers, gradients, history and the reason for stopping, to `near` of the largest number in each."""

    def parts(run):
        yield [run.vector.theta()]
        yield numbers(run.optimizer.state_dict())
        yield [getattr(module, name) for module, name in run.buffers]
        yield [p.grad for p in run.vector.parameters if p.grad is not None]
        yield [np.array(getattr(run, name)) for name in LISTS]

    for mine, theirs in zip(parts(found), parts(expected), strict=True):
        for x, y in zip(mine, theirs, strict=True):
            assert x.shape == y.shape
            assert x.dtype == y.dtype
            size = np.max(np.abs(y[np.isfinite(y)]), initial=0.0) if y.dtype.kind == "f" else 0.0
            np.testing.assert_allclose(x, y, rtol=0, atol=near * size)
    assert found.stopped == expected.stopped
    assert len(found.seconds) == len(expected.seconds)


def assert_as_alone(make, parts=(3, 1), near=1e-12, groups=None, compile=None):
    """Train so many updates, and so many more; together and alone. The first three each run makes by itself."""
    together, alone = make(), make()
    with np.errstate(all="ignore"):
        many = ManyRuns(together, compile)
        for n in parts:
            many.train(n)
        for run in alone:
            for n in parts:
                _ = run.stopped or run.train(n)
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected, near)
    sizes = [len(group.runs) if hasattr(group, "runs") else 1 for group in many._groups]
    if groups is not None:
        assert sizes == groups
        assert bool(many.source) == (max(groups) > 1)  # they were trained together indeed
    return many


# Every optimizer ------------------------------------------------------------------------------------------------------

D = dict
OPTIONS = {
    "SGD": [D(lr=0.1), D(lr=0.05)], "Momentum": [D(lr=0.1), D(lr=0.1, momentum=0.5)], "RMS": [D(), D(lr=0.1)],
    "SGD with momentum": [D(lr=0.1, momentum=0.9), D(lr=0.2, momentum=0.5)],
    "SGD by Nesterov": [D(lr=0.1, momentum=m, nesterov=True, weight_decay=w) for m, w in ((0.9, 0.01), (0.5, 0.1))],
    "SGD damped": [D(lr=0.1, momentum=0.9, dampening=d) for d in (0.1, 0.3)], "SGD upwards": [D(lr=0.01, maximize=True)],
    "Adagrad": [D(lr=0.1, lr_decay=0.1, weight_decay=w, initial_accumulator_value=w) for w in (0.1, 0.2)],
    "RMSprop": [D(), D(alpha=0.9, eps=1e-3)], "RMSprop centred": [D(centered=True, momentum=m, weight_decay=0.1) for m in (0.9, 0.5)],
    "Adadelta": [D(weight_decay=0.1), D(rho=0.5, weight_decay=0.2)], "Adam": [D(), D(lr=0.1, betas=(0.5, 0.9), eps=1e-3)],
    "Adam, AMSGrad": [D(amsgrad=True, weight_decay=w) for w in (0.1, 0.2)], "AdamW": [D(), D(weight_decay=0.5)],
    "Adamax": [D(), D(betas=(0.5, 0.5))], "NAdam": [D(weight_decay=w, decoupled_weight_decay=True) for w in (0.1, 0.2)],
    "RAdam": [D(), D(betas=(0.5, 0.5))], "Lion": [D(lr=0.01, weight_decay=w) for w in (0.1, 0.2)],
    "Muon": [D(lr=0.01), D(lr=0.02, momentum=0.5, weight_decay=0.2, adam_lr=0.1)], "ScheduleFreeAdamW": [D(), D(lr=0.1, betas=(0.5, 0.9))],
    "ScheduleFreeAdamW, more": [D(warmup_steps=5, weight_decay=w, r=r) for w, r in ((0.1, 1.0), (0.2, 0.5))],
    "LBFGS": [D(lr=0.1, max_iter=3), D(lr=0.2, max_iter=2)], "SAM": [D(lr=0.1), D(lr=0.1, rho=0.1)], "PerturbedGD": [D(lr=0.1), D(lr=0.2)],
    "Prodigy": [D(), D(d0=1e-3)], "Newton": [D(), D(radius=0.1)], "NewtonCG": [D(), D(radius=0.1)], "SaddleFreeNewton": [D(), D(lr=0.1)],
    "GaussNewton": [D(), D(lr=0.5)], "LevenbergMarquardt": [D(), D(radius=0.5)],
}  # fmt: skip
BY_THEMSELVES = {
    "LBFGS",
    "SAM",
    "PerturbedGD",
    "Prodigy",
    "Newton",
    "NewtonCG",
    "SaddleFreeNewton",
    "GaussNewton",
    "LevenbergMarquardt",
}
TARGETS = rng.normal(size=(20, 3))


@pytest.mark.parametrize("name", OPTIONS)
def test_one_update_of_every_optimizer(name):
    optimizer, options = getattr(optim, name.split()[0].strip(",")), OPTIONS[name]
    residuals = name in ("GaussNewton", "LevenbergMarquardt")
    given = {"loss": lambda i: lambda out, y: out - y, "data": lambda i: (X, TARGETS)} if residuals else {}
    k = len(options) + 1
    groups = [1] * k if name in BY_THEMSELVES else [k]
    assert_as_alone(lambda: runs_of([*options, options[0]], optimizer, **given), groups=groups)


def test_every_optimizer_is_here():
    classes = {name for name in optim.__all__ if isinstance(getattr(optim, name), type)} - {"Optimizer"}
    assert classes == {name.split()[0].strip(",") for name in OPTIONS}


@pytest.mark.parametrize("name", ["SGD by Nesterov", "Adam", "RAdam", "RMSprop centred", "ScheduleFreeAdamW, more"])
@pytest.mark.parametrize("parts", [(22,), (2, 3, 17)])
def test_twenty_updates_in_batches(name, parts):
    optimizer = getattr(optim, name.split()[0].strip(","))
    assert_as_alone(lambda: runs_of(OPTIONS[name], optimizer, batch_size=7), parts, near=1e-9)


ZEROS = [D(lr=0.1, momentum=0.9), D(lr=0.1), D(lr=0.1, momentum=0.9, weight_decay=0.1), D(lr=0.1, momentum=0.5)]


def test_a_term_that_is_zero_is_another_formula():
    assert_as_alone(lambda: runs_of(ZEROS), (2, 9), groups=[2, 1, 1])


# Schedules, batches, data -----------------------------------------------------------------------------------------------

RATES = {
    "one": [0.1, 0.1], "two": [0.1, 0.05], "schedules": [schedules.Cosine(0.1, 30), schedules.Exponential(0.2, 0.9)],
    "one schedule": [schedules.Cosine(0.1, 30)] * 2, "a schedule and a number": [schedules.Warmup(5, 0.1), 0.1],
    "one that has no hash": [schedules.Piecewise(0.1, {3: 0.5}), schedules.Piecewise(0.1, {4: 0.1})], "a function": [lambda t: 0.1 / (1 + t)] * 2,
}  # fmt: skip


@pytest.mark.parametrize("validation", [None, OTHER], ids=["", "validated"])
@pytest.mark.parametrize("batch_size", [None, 7, 20, 64])
@pytest.mark.parametrize("rates", RATES)
def test_rates_batches_and_validation(rates, batch_size, validation):
    options = [D(lr=rate) for rate in RATES[rates]]
    for parts in ((2, 1), (2, 3, 9), (14,)):
        assert_as_alone(
            lambda: runs_of(options, batch_size=batch_size, validation=validation), parts, 1e-10, groups=[2]
        )


FLOAT32 = lambda i: nn.MLP((4, 5, 3), activation=nn.Tanh, rng=i, dtype=np.float32)  # noqa: E731
SETTINGS = {
    "clipped": (D(max_norm=0.1), [3]), "in order": (D(shuffle=False), [3]), "other data": (D(data=lambda i: (X + i, (LABELS + i) % 3)), [3]),
    "other targets": (D(data=lambda i: (X, (LABELS + i) % 3)), [3]), "other lengths": (D(data=lambda i: (X[i % 2 :], LABELS[i % 2 :])), [2, 1]),
    "whole numbers": (D(data=lambda i: (np.arange(80).reshape(20, 4) % 7 - 3, LABELS)), [3]), "seeds alike": (D(rng=0), [3]),
    "float32": (D(model=FLOAT32, data=lambda i: (X.astype(np.float32), LABELS)), [3]),
    "two dtypes": (D(model=lambda i: FLOAT32(i) if i == 1 else nn.MLP((4, 5, 3), activation=nn.Tanh, rng=i)), [2, 1]),
    "a missing number": (D(data=lambda i: (np.where((np.arange(20) == 7)[:, None] & (i == 1), np.nan, X), LABELS)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    setting, groups = SETTINGS[name]
    near = 1e-5 if name in ("float32", "two dtypes") else 1e-10
    assert_as_alone(lambda: runs_of([D(lr=0.1)] * 3, **{"batch_size": 6, **setting}), (2, 9), near, groups)


OF_EACH = {
    "clipping": ([D(max_norm=0.1), D(max_norm=0.5), D(), D(max_norm=0.1)], [2, 1, 1]),
    "batch sizes": ([D(batch_size=5), D(batch_size=6), D(batch_size=5), D(batch_size=None)], [2, 1, 1]),
    "validation": ([D(validation=OTHER), D(), D(validation=OTHER), D()], [2, 2]),
    "compiled": ([D(compile=mg.compile), D(), D(), D(compile=mg.compile)], [2, 2]),
}


@pytest.mark.parametrize("name", OF_EACH)
def test_settings_of_their_own(name):
    own, groups = OF_EACH[name]
    made = [D(lr=0.1, run={"batch_size": 6, **run}) for run in own]
    assert_as_alone(lambda: runs_of(made), (2, 11), 1e-10, groups)


def test_groups_of_parameters():
    def make():
        models = [net(i) for i in range(3)]
        split = [list(m.parameters()) for m in models]
        first = [D(params=p[:2], lr=0.1 * (i + 1)) for i, p in enumerate(split)]
        second = [D(params=p[2:], lr=schedules.Exponential(0.05, 0.9), momentum=0.9) for p in split]
        optimizers = [optim.SGD([a, b], lr=0.01) for a, b in zip(first, second, strict=True)]
        return [Run(m, nn.cross_entropy, o, X, LABELS, 6, rng=0) for m, o in zip(models, optimizers, strict=True)]

    assert_as_alone(make, (2, 9), 1e-10, [3])


def test_objectives_without_data():
    def make():
        found = [
            mg.Objective(lambda w: (w[0] - 1) ** 2 + 10 * (w[1] - w[0] ** 2) ** 2, [0.1 * i, 1.0]) for i in range(3)
        ]
        return [Run.of(objective, optim.SGD(objective.parameters, lr=0.01)) for objective in found]

    assert_as_alone(make, (2, 30), 1e-10, [3])


def test_runs_that_have_come_to_different_places():
    def make():
        runs = runs_of([D(lr=schedules.Exponential(0.1, 0.9))] * 4, optim.Adam)
        for run, n in zip(runs, (0, 3, 4, 0), strict=True):
            run.train(n)
        return runs

    assert_as_alone(make, (2, 9), 1e-9)


def test_a_run_that_was_trained_alone_in_between():
    """Its batches are then of other sizes than those of the others."""

    def train(runs, all_of_them):
        all_of_them(5)
        runs[1].train(3)
        all_of_them(9)
        return runs

    together, alone = (runs_of([D(lr=0.1), D(lr=0.2), D(lr=0.3)], batch_size=7) for _ in range(2))
    train(together, ManyRuns(together).train)
    train(alone, lambda n: [run.train(n) for run in alone])
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected, 1e-10)


# Models and losses of their own: never silently the first one's ----------------------------------------------------------


class Calls(nn.Module):
    def __init__(self, function):
        self.function = function

    def forward(self, x):
        return self.function(x)


class Scaled(nn.Module):
    factor = 2.0

    def __init__(self, *parts):
        self.parts = parts

    def forward(self, x):
        return np.tanh(x) * self.parts[0] * self.factor


class ScaledMore(Scaled):
    factor = 3.0


class Weighted:
    def __init__(self, weight):
        self.weight = weight

    def loss(self, out, y):
        return nn.cross_entropy(out * self.weight, y)

    __call__ = loss


LAYERS = {
    "activations": between(lambda i: nn.ELU(), lambda i: nn.GELU(), lambda i: nn.SiLU(), lambda i: nn.ELU()),
    "gelu": between(lambda i: nn.GELU()), "slopes": between(*(lambda i, s=s: nn.LeakyReLU(s) for s in (0.1, 0.2, 0.1))),
    "dropout": between(lambda i: nn.Dropout(0.5, rng=i)), "dropout of one seed": between(lambda i: nn.Dropout(0.3, rng=7)),
    "dropouts": between(*(lambda i, p=p: nn.Dropout(p, rng=i) for p in (0.5, 0.2, 0.5, 0.0))), "batch norm": between(lambda i: nn.BatchNorm1d(8)),
    "momenta": between(*(lambda i, m=m: nn.BatchNorm1d(8, momentum=m) for m in (0.1, 0.2))),
    "layer norm": between(*(lambda i, e=e: nn.LayerNorm(8, eps=e) for e in (1e-5, 1e-3))),
    "functions": between(*(lambda i, f=f: Calls(f) for f in (np.tanh, np.sin, np.tanh))), "a class": between(lambda i: Scaled(1.0), lambda i: ScaledMore(1.0)),
    "composites": between(*(lambda i, f=f: Calls(f) for f in (nn.functional.relu, nn.functional.softplus))),
    "code": between(lambda i: Calls(lambda x: np.tanh(x)), lambda i: Calls(lambda x: np.sin(x))), "float32 numbers": between(lambda i: Scaled(np.float32(1 + i))),
    "numbers in a tuple": between(lambda i: Scaled(1.0 + i)), "arrays in a tuple": between(lambda i: Scaled(np.ones(8) * (1 + i))),
    "shapes in a tuple": between(lambda i: Scaled(np.ones(1 + 7 * (i % 2)))), "whole and truth": between(lambda i: Scaled([1, True, 1.0][i % 3])),
    "partials": between(lambda i: Calls(functools.partial(nn.functional.softplus, beta=1.0 + i))), "by position": between(lambda i: Calls(functools.partial(np.add, 1.0 + i))),
    "a dict": between(lambda i: Calls((lambda d: lambda x: x * d["a"])({"a": 1.0 + i}))), "arrays": between(lambda i: Calls((lambda a: lambda x: x * a)(np.arange(8.0) + i))),
    "0-d": between(lambda i: Calls((lambda a: lambda x: x * a)(np.array(1.0 + i)))), "lengths": lambda i: nn.Sequential(nn.Linear(4, 3, rng=i), *[nn.Tanh()] * (1 + i % 2)),
    "widths": lambda i: nn.MLP((4, 5 + i % 2, 3), activation=nn.Tanh, rng=i),
}  # fmt: skip
LOSSES = {
    "a method": lambda i: Weighted(1.0 + i).loss, "an object": lambda i: Weighted(np.array([1.0, 2.0, 3.0]) * (i + 1)),
    "a default": lambda i: lambda out, y, w=1.0 + i: w * nn.cross_entropy(out, y), "a closure": lambda i: lambda out, y: (1.0 + i) * nn.cross_entropy(out, y),
    "by name": lambda i: lambda out, y, *, w=1.0 + i: w * nn.cross_entropy(out, y), "a tensor": lambda i: Weighted(mg.Tensor(1.0 + i)),
    "smoothing": lambda i: functools.partial(nn.cross_entropy, label_smoothing=0.1 * i),
}  # fmt: skip


GROUPED = {
    "activations": [2, 1, 1], "gelu": [4], "dropout": [4], "dropouts": [2, 1, 1], "batch norm": [4], "momenta": [2, 2], "arrays": [4], "widths": [2, 2],
    "arrays in a tuple": [4], "shapes in a tuple": [2, 2],
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_their_own(name):
    made = {"model": LAYERS[name], "batch_size": 6}
    assert_as_alone(lambda: runs_of([D(lr=0.1)] * 4, **made), (2, 7), 1e-9, GROUPED.get(name))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_their_own(name):
    assert_as_alone(lambda: runs_of([D(lr=0.1)] * 4, loss=LOSSES[name], batch_size=6), (2, 7), 1e-9)


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_a_program_that_is_wrong_for_a_run_is_not_used_for_it(wrong, batch_size, monkeypatch):
    """If all that decides who fits were mistaken, an update that each run makes by itself would show it."""
    monkeypatch.setattr(Traced, "fits", lambda self, run, batch: True)
    given = {"model": lambda i: net(i, nn.ReLU if i == wrong else nn.Tanh), "batch_size": batch_size}
    many = assert_as_alone(lambda: runs_of([D(lr=0.1)] * 4, **given), parts=(3, 1, 4))
    (group,) = many._groups
    expected = {many.runs[wrong]} if wrong else set(many.runs[1:])  # the program is that of the first
    assert group.apart == expected


def test_a_run_that_stops_while_it_is_checked():
    def make():
        runs = runs_of([D(lr=0.1), D(lr=0.1), D(lr=0.1)], optim.SGD)
        runs[1].optimizer.param_groups[0]["lr"] = lambda t: 0.1 if t < 1 else 1e308
        return runs

    many = assert_as_alone(make, parts=(5, 3))
    assert [bool(run.stopped) for run in many.runs] == [False, True, False]


def test_what_has_no_program_for_stacks_is_trained_alone():
    def chosen(x):
        return x * np.where(x > 0, 1.0, 0.5) + np.pad(x, 1)[1:-1, 1:-1]

    many = assert_as_alone(
        lambda: runs_of([D(lr=0.1)] * 3, model=between(lambda i: Calls(chosen)), batch_size=6), (2, 7), 1e-9
    )
    assert many.source == ""


def test_an_error_of_numpy_is_the_run_s_own():
    def solved(x):
        return np.linalg.inv(np.eye(8) * 1e-3 * x.sum() ** 2 + 1) @ np.ones(8) * x

    assert_as_alone(lambda: runs_of([D(lr=0.01)] * 3, model=between(lambda i: Calls(solved))), (2, 4), 1e-6)


# Where runs end ---------------------------------------------------------------------------------------------------------

ENDS = {
    "one": [0.1, 1e200, 0.2, 1e308], "the first": [1e200, 0.1, 0.2], "all": [1e200, 1e200],
    "later": [schedules.Piecewise(0.1, {6: 1e300}), 0.1, schedules.Piecewise(0.1, {9: 1e300})],
}  # fmt: skip


@pytest.mark.parametrize("validation", [None, OTHER], ids=["", "validated"])
@pytest.mark.parametrize("batch_size", [None, 6])
@pytest.mark.parametrize("name", ENDS)
def test_a_run_that_diverges_disturbs_no_other(name, batch_size, validation):
    def make():
        made = D(batch_size=batch_size, validation=validation, model=lambda i: net(i, nn.ReLU))
        return runs_of([D(lr=rate, momentum=0.5) for rate in ENDS[name]], **made)

    for parts in ((2, 20), (2, 3, 4, 9)):
        many = assert_as_alone(make, parts, 1e-9)
        assert any(run.stopped for run in many.runs)
        assert all(np.isfinite(run.vector.theta()).all() for run in many.runs)


def test_a_run_that_leaves_the_others_goes_on_with_its_own_batches():
    made = [
        D(lr=0.1),
        D(lr=0.1, betas=(0.9, 0.5)),
        D(lr=0.1),
    ]  # RAdam's other formula comes after other numbers of steps
    assert_as_alone(lambda: runs_of(made, optim.RAdam, batch_size=3), (2, 20), 1e-9, [3])


# fit_many ---------------------------------------------------------------------------------------------------------------


def fitted(train, **how):
    models = [net(i) for i in range(4)]
    optimizers = [optim.Adam(m.parameters(), lr=lr) for m, lr in zip(models, (0.01, 0.1, 1e250, 0.05), strict=True)]
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        return train(models, optimizers, {"batch_size": 6, "validation": OTHER, "epochs": 5, **how})


def one_by_one(models, optimizers, how):
    runs = []
    for i, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
        try:
            runs.append(fit(model, nn.cross_entropy, optimizer, X, LABELS, rng=i, **how))
        except mg.NonFiniteError:
            runs.append(None)
    return runs


def at_once(models, optimizers, how):
    return fit_many(models, nn.cross_entropy, optimizers, X, LABELS, rng=list(range(4)), **how)


def assert_fitted_alike(**how):
    for found, expected in zip(fitted(at_once, **how), fitted(one_by_one), strict=True):
        assert bool(found.stopped) == (expected is None)
        if expected is not None:
            assert_same(found, expected, 1e-9)


def test_fit_many_is_fit():
    assert_fitted_alike()


def test_fit_many_in_two_processes():
    pytest.importorskip("joblib")
    assert_fitted_alike(jobs=2)


@pytest.mark.filterwarnings("ignore")  # dask's own
def test_fit_many_and_find_on_a_cluster():
    joblib, distributed = pytest.importorskip("joblib"), pytest.importorskip("distributed")
    well = mg.Objective(lambda w: ((w * w - 1) ** 2).sum(), [0.3, -0.2])
    starts = rng.normal(size=(8, 2))
    expected = sorted(p.theta.round(6).tolist() for p in mg.critical.find(well, starts).points)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        assert_fitted_alike(jobs=2)
        found = mg.critical.find(well, starts, jobs=2).points
    assert sorted(p.theta.round(6).tolist() for p in found) == expected


def test_wrong_lists():
    (run,) = runs_of([D()])
    with pytest.raises(TypeError, match=r"training\.Run"):
        ManyRuns([run, net(0)])
    with pytest.raises(ValueError, match="same parameters"):
        ManyRuns([run, run])
    with pytest.raises(ValueError, match="1 models and 2 optimizers"):
        fit_many([run.model], nn.cross_entropy, [run.optimizer] * 2, X, LABELS, 1)
    with pytest.raises(ValueError, match="2 seeds"):
        fit_many([run.model], nn.cross_entropy, [run.optimizer], X, LABELS, 1, rng=[0, 1])
    assert ManyRuns([]).train(3).runs == []


# vary -------------------------------------------------------------------------------------------------------------------

(START,) = runs_of([D()])
THETAS = rng.normal(size=(3, START.vector.size))


def two_groups():
    parameters = list((model := net(0)).parameters())
    return Run(
        model, nn.cross_entropy, optim.SGD([D(params=parameters[2:]), D(params=parameters[:2])], lr=0.1), X, LABELS
    )


def only(part, **options):
    model = net(0)
    return Run(model, nn.cross_entropy, optim.SGD(list(model.parameters())[part], lr=0.1, **options), X, LABELS)


VARIED = {  # the run; updates before; what is varied
    "rates": (D(), 0, D(lr=[0.01, 0.5, 1e300, 0.0])), "starts": (D(lr=0.1), 0, D(thetas=THETAS)), "both": (D(), 0, D(thetas=THETAS, lr=[0.1, 0.2, 0.3])),
    "momentum": (D(lr=0.1, momentum=0.9), 1, D(momentum=[0.9, 0.5, 0.1])), "a schedule": (D(lr=schedules.Exponential(0.1, 0.9)), 2, D(thetas=THETAS)),
    "decay": (D(lr=schedules.Cosine(0.1, 9), weight_decay=0.1), 2, D(weight_decay=[0.1, 0.9])), "many": (D(), 0, D(lr=np.linspace(0.01, 0.1, 1030))),
    "groups": (two_groups, 1, D(lr=[[0.1, 0.2], [0.3, 0.0]])), "groups alike": (two_groups, 0, D(lr=[0.1, 0.3])), "starts of groups": (two_groups, 1, D(thetas=THETAS)),
    "some parameters": (lambda: only(slice(2, None)), 1, D(thetas=THETAS)), "each second one": (lambda: only(slice(None, None, 2)), 0, D(thetas=THETAS)),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIED)
def test_variants_are_runs(name):
    options, before, varied = VARIED[name]
    updates = 3 if name == "many" else 12

    def make():
        run = options() if callable(options) else runs_of([options])[0]
        return run.train(before) if before else run

    run, state = make(), make()
    with np.errstate(all="ignore"):
        found = vary(run, updates, **varied)
    assert_same(run, state, 0)
    varied = dict(varied)
    thetas = varied.pop("thetas", None)
    k = found.thetas.shape[0]
    for i in range(0, k, 1 + k // 50):
        alone = make()
        if thetas is not None:
            alone.vector.write(thetas[i].copy())
        for key, values in varied.items():
            for g, (group, checked) in enumerate(
                zip(alone.optimizer.param_groups, alone.optimizer._checked, strict=True)
            ):
                group[key] = checked[key] = float(values[i] if np.ndim(values) == 1 else values[i][g])
        with np.errstate(all="ignore"):
            alone.train(updates)
        losses = alone.loss[before:]
        assert found.updates[i] == len(losses)
        np.testing.assert_allclose(found.losses[:, i], losses + [np.nan] * (updates - len(losses)), rtol=1e-10)
        np.testing.assert_allclose(found.thetas[i], alone.vector.theta(), rtol=1e-10, atol=1e-13)


def test_variants_of_an_objective():
    valley = mg.Objective(lambda w: w[0] ** 2 + 10 * w[1] ** 2, [1.0, 1.0])
    found = vary(Run.of(valley, optim.SGD(valley.parameters, lr=0.04)), 5, thetas=[[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(found.thetas, np.diag([0.92**5, 0.2**5]), rtol=1e-12)


def test_variants_are_trained_in_training():
    """With dropout and batch statistics, in whatever mode the model is; and are left in that."""

    def make():
        layers = nn.BatchNorm1d(8), nn.Dropout(0.5, rng=1)
        model = nn.Sequential(nn.Linear(4, 8, rng=0), *layers, nn.Linear(8, 3, rng=1))
        return Run(model, nn.cross_entropy, optim.SGD(model.parameters(), lr=0.1), X, LABELS).train(2)

    run, alone = make(), make()
    found = vary(run, 5, lr=[0.3, 0.1])
    assert not run.model.training
    assert_same(run, alone, 0)
    np.testing.assert_allclose(found.losses[:, 1], alone.train(5).loss[2:], rtol=1e-10)


def test_a_pair_is_no_number():
    """Both betas are one hyperparameter: a column of numbers does not say which."""
    with pytest.raises(ValueError, match="betas: no number that Adam has"):
        vary(runs_of([D()], optim.Adam)[0].train(1), 3, betas=[0.5, 0.9])


@pytest.mark.parametrize("lr", [[[0.1], [0.2]], [[0.1] * 3] * 2, np.ones((2, 2, 2)), [[]]])
def test_rates_of_as_many_groups_as_there_are(lr):
    with pytest.raises(ValueError, match="one entry for each"):
        vary(two_groups(), 3, lr=lr)


WRONG = [
    (D(momentum=0.9), D(momentum=[0.1, 0.2]), r"run\.train\(1\)"), (D(), D(), "one entry for each"), (D(), D(lr=0.1), "one entry for each"), (D(), D(lr=[]), "one entry"),
    (D(), D(lr=[0.1, 0.2], thetas=THETAS), "one entry for each"), (D(), D(thetas=THETAS[:, :3]), "one entry"), (D(), D(thetas=np.ones((2, 60))), "one entry"),
    (D(), D(strength=[1.0]), "strength"), (D(), D(weight_decay=[0.0, 0.1]), "another formula"), (D(), D(lr=[0.1, -0.1]), "another formula"), (D(), D(lr=[np.nan]), "another formula"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "varied", "message"), WRONG)
def test_what_cannot_be_varied(options, varied, message):
    with pytest.raises(ValueError, match=message):
        vary(runs_of([options])[0], 5, **varied)
