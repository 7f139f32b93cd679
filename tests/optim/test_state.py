"""What an optimizer keeps from step to step: per tensor, in the right dtype, saved and loaded whole."""

import copy
import weakref

import numpy as np
import pytest

from microgradopt import Objective, Tensor, optim
from microgradopt.optim import Optimizer

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Momentum", {}),
    ("RMS", {}),
    ("Adagrad", {"initial_accumulator_value": 0.5, "lr_decay": 0.1}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("RMSprop", {"start": "gradient", "eps": 0.0}),
    ("Adadelta", {"weight_decay": 0.1}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"eps": 0.0}),
    ("AdamW", {}),
    ("Adamax", {}),
    ("NAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("RAdam", {}),
    ("Lion", {"weight_decay": 0.1}),
    ("Muon", {"adam_lr": 0.01}),
]
SHAPES = [(3, 2), (4,), (2, 2), ()]
every_case = pytest.mark.parametrize(("name", "settings"), CASES, ids=lambda v: v if isinstance(v, str) else "")
SCHEDULE = optim.schedules.Warmup(5, optim.schedules.Cosine(0.02, 20))


def tensors(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [Tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in SHAPES]


def steps(optimizer, params, seed, count, missing=0.0):
    """Steps on random gradients; each tensor misses each with the given probability, but never all."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        has = rng.random(len(params)) >= missing
        has[rng.integers(len(params))] = True
        for p, given in zip(params, has, strict=True):
            g = rng.normal(size=p.shape)
            p.grad = np.asarray(g, p.dtype) if given else None
        optimizer.step()


def assert_same(params, others):
    for p, q in zip(params, others, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@every_case
def test_each_tensor_moves_as_if_it_were_alone(name, settings):
    """Whatever steps the others make: the first step, bias corrections and averages are each tensor's own."""
    together, apart = tensors(), tensors()
    one = getattr(optim, name)(together, lr=0.01, **settings)
    own = [getattr(optim, name)([p], lr=0.01, **settings) for p in apart]
    rng = np.random.default_rng(1)
    for _ in range(30):
        has = rng.random(len(SHAPES)) < 0.5
        has[rng.integers(len(SHAPES))] = True
        for p, q, optimizer, given in zip(together, apart, own, has, strict=True):
            p.grad = q.grad = rng.normal(size=p.shape) if given else None
            if given:
                optimizer.step()
        one.step()
        assert_same(together, apart)


@every_case
@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("lr", [0.01, SCHEDULE], ids=["number", "schedule"])
def test_resumed_equals_uninterrupted(name, settings, lr, missing):
    params = tensors()
    optimizer = getattr(optim, name)([{"params": params[:3]}, {"params": params[3:]}], lr=lr, **settings)
    steps(optimizer, params, 1, 7, missing)
    resumed = [Tensor(p.data, requires_grad=True) for p in params]
    saved = optimizer.state_dict()
    other = getattr(optim, name)([{"params": resumed[:3]}, {"params": resumed[3:]}], lr=lr)
    other.load_state_dict(saved)
    written = repr(saved)
    steps(optimizer, params, 2, 7, missing)
    steps(other, resumed, 2, 7, missing)
    assert_same(params, resumed)
    assert repr(optimizer.state_dict()) == repr(other.state_dict())
    assert repr(saved) == written, "it shares no array with either"


def test_a_schedule_follows_the_steps_of_its_group():
    """Tensors that join late get the rate of now; their own averages start anew."""
    early, late = (Tensor([0.0], requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([early, late], lr=lambda t: [1.0, 10.0, 100.0, 1000.0][t])
    for t in range(4):
        early.grad, late.grad = np.ones(1), np.ones(1) if t >= 2 else None
        if t == 3:
            fresh = optim.SGD([early, late], lr=lambda t: [1.0, 10.0, 100.0, 1000.0][t])
            fresh.load_state_dict(optimizer.state_dict())
            optimizer = fresh
        optimizer.step()
    assert (early.item(), late.item()) == (-1111.0, -1100.0)


def test_one_with_all_tensors_frozen_does_not_step():
    params = tensors()
    optimizer = optim.Adam(params)
    steps(optimizer, params, 0, 2)
    before = repr(optimizer.state_dict())
    for p in params:
        p.requires_grad = False
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        optimizer.step()
    assert repr(optimizer.state_dict()) == before


def test_a_graph_through_a_tensor_that_stays_is_still_good():
    moving, still = Tensor([1.0], requires_grad=True), Tensor([2.0], requires_grad=True)
    loss = np.sum(still * still)
    moving.grad = np.ones(1)
    optim.SGD([moving, still]).step()
    loss.backward()
    assert still.grad == [4.0]


# Dtypes -----------------------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("number", [float, np.float64, np.float32])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_state_has_the_dtype_of_the_tensors(name, settings, number, dtype):
    """NumPy's float64 numbers would turn float32 vectors into float64 ones."""
    params = tensors(dtype)
    settings = {key: number(value) if type(value) is float else value for key, value in settings.items()}
    if name == "Adam":
        settings["betas"] = (number(0.9), number(0.99))
    optimizer = getattr(optim, name)(params, lr=number(0.01), **settings)
    steps(optimizer, params, 0, 2)
    optimizer.param_groups[0]["lr"] = number(0.02)
    for p in params:
        p.grad = np.ones(p.shape, np.float64)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = lambda t: np.float64(0.03)
    for p in params:
        p.grad = np.ones(p.shape, int)
    optimizer.step()
    assert {p.dtype for p in params} == {np.dtype(dtype)}
    for entry in optimizer.state_dict()["state"]:
        assert all(value.dtype == dtype for value in entry.values() if isinstance(value, np.ndarray))


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_tensors_of_two_dtypes_in_one_group_resume(name):
    """θ is what the tensors hold, rounded as they are, and not a finer copy of it that a resumed run has not."""

    def mixed():
        return [Tensor(np.full(300, 0.1, dtype), requires_grad=True) for dtype in (np.float32, np.float64)]

    params, resumed = mixed(), mixed()
    optimizer, other = getattr(optim, name)(params, lr=0.1), getattr(optim, name)(resumed, lr=0.1)
    steps(optimizer, params, 1, 5)
    objective = Objective.of(mixed(), lambda: None)
    objective.theta = np.full(600, 0.7)
    np.testing.assert_array_equal(objective.theta[:300], np.float32(0.7))
    np.testing.assert_array_equal(objective.theta[300:], 0.7)
    for p, q in zip(params, resumed, strict=True):
        q.data = p.data
    other.load_state_dict(optimizer.state_dict())
    steps(optimizer, params, 2, 5)
    steps(other, resumed, 2, 5)
    assert_same(params, resumed)


# Refusals ---------------------------------------------------------------------------------------------------------------


def spoilt():
    """Name, what to do to a good state_dict of Adam after three steps on four tensors in one group."""
    entry, group = (lambda s: s["state"][0]), (lambda s: s["param_groups"][0])
    yield "v missing", lambda s: entry(s).pop("v")
    yield "t missing", lambda s: entry(s).pop("t")
    yield "step missing", lambda s: entry(s).pop("step")
    yield "positions missing", lambda s: entry(s).pop("params")
    yield "one more vector", lambda s: entry(s).update(w=np.zeros(15))
    yield "another shape", lambda s: entry(s).update(v=np.zeros(14))
    yield "a matrix", lambda s: entry(s).update(v=np.zeros((3, 5)))
    yield "words", lambda s: entry(s).update(v=np.array(["a"] * 15))
    yield "complex", lambda s: entry(s).update(v=np.zeros(15, complex))
    yield "objects", lambda s: entry(s).update(v=np.array([None] * 15))
    yield "a list", lambda s: entry(s).update(v=[0.0] * 15)
    yield "negative t", lambda s: entry(s).update(t=-1)
    yield "t is a word", lambda s: entry(s).update(t="3")
    yield "t is a fraction", lambda s: entry(s).update(t=2.5)
    yield "t is true", lambda s: entry(s).update(t=True)
    yield "a tensor twice", lambda s: entry(s).update(params=[0, 1, 2, 2])
    yield "a tensor too few", lambda s: entry(s).update(params=[0, 1, 2])
    yield "one more entry", lambda s: s["state"].append({"params": [4], "step": 0, "t": 0})
    yield "no entry", lambda s: s["state"].clear()
    yield "entry is a number", lambda s: s["state"].__setitem__(0, 3)
    yield "state is nothing", lambda s: s.update(state=None)
    yield "no state", lambda s: s.pop("state")
    yield "one more key", lambda s: s.update(more=1)
    yield "one more group", lambda s: s["param_groups"].append(copy.deepcopy(group(s)))
    yield "no group", lambda s: s["param_groups"].clear()
    yield "group without tensors", lambda s: group(s).pop("params")
    yield "tensors are a number", lambda s: group(s).update(params=4)
    yield "other tensors", lambda s: group(s).update(params=[0, 1, 3, 2])
    yield "hyperparameter missing", lambda s: group(s).pop("eps")
    yield "lr missing", lambda s: group(s).pop("lr")
    yield "hyperparameter unknown", lambda s: group(s).update(rho=0.5)
    yield "hyperparameter out of range", lambda s: group(s).update(lr=-1.0)
    yield "hyperparameter is a word", lambda s: group(s).update(eps="small")
    yield "betas are one", lambda s: group(s).update(betas=(0.9,))


@pytest.mark.parametrize("spoil", [pytest.param(spoil, id=name) for name, spoil in spoilt()])
def test_a_bad_state_changes_nothing(spoil):
    params = tensors()
    optimizer = optim.Adam(params)
    steps(optimizer, params, 0, 3)
    before = repr(optimizer.state_dict())
    bad = copy.deepcopy(optimizer.state_dict())
    bad["param_groups"][0]["weight_decay"] = 0.5
    spoil(bad)
    with pytest.raises(ValueError, match=r"load_state_dict: .*nothing loaded"):
        optimizer.load_state_dict(bad)
    assert repr(optimizer.state_dict()) == before


@pytest.mark.parametrize("bad", [None, [], 3, "state", {}])
def test_what_is_no_state_dict(bad):
    with pytest.raises(ValueError, match="load_state_dict"):
        optim.SGD(tensors()).load_state_dict(bad)


def test_states_of_a_group_that_disagree():
    params = tensors()
    optimizer = optim.Adam(params)
    steps(optimizer, params, 0, 5, missing=0.5)
    bad = optimizer.state_dict()
    assert len(bad["state"]) > 1
    bad["state"][0]["step"] += 1
    with pytest.raises(ValueError, match="disagree"):
        optimizer.load_state_dict(bad)


def test_the_state_of_another_optimizer():
    """Not even where the names of the vectors are the same: the hyperparameters differ."""
    params = tensors()
    saved = {}
    for name in {name for name, _ in CASES}:
        optimizer = getattr(optim, name)(params)
        steps(optimizer, params, 0, 1)
        saved[name] = optimizer.state_dict()
    same_state = {"Adam", "AdamW"}
    for name in saved:
        for other in saved.keys() - {name} - (same_state if name in same_state else set()):
            with pytest.raises(ValueError, match="load_state_dict"):
                getattr(optim, name)(params).load_state_dict(saved[other])


# One's own optimizer ----------------------------------------------------------------------------------------------------


class SignDescent(Optimizer):
    """θ ← θ − η sign(g + g of the step before)."""

    keeps = ("last",)

    def __init__(self, params, lr=0.1, *, maximize=False):
        super().__init__(params, lr=lr, maximize=maximize)

    def update(self, theta, g, state, lr, group):
        step = np.sign(g + state.get("last", 0.0))
        state["last"] = g.copy()
        return theta - lr * step


def test_a_subclass_needs_its_formula_alone():
    params, resumed = tensors(), tensors()
    optimizer, other = SignDescent(params, lr=SCHEDULE), SignDescent(resumed, lr=SCHEDULE)
    steps(optimizer, params, 0, 5, missing=0.3)
    for p, q in zip(params, resumed, strict=True):
        q.data = p.data
    other.load_state_dict(optimizer.state_dict())
    steps(optimizer, params, 1, 5)
    steps(other, resumed, 1, 5)
    assert_same(params, resumed)


def test_a_subclass_without_a_formula():
    class Nothing(Optimizer):
        pass

    with pytest.raises(TypeError, match="update"):
        Nothing(tensors())


def test_a_state_that_is_emptied_keeps_no_memory():
    """A compiled step puts its own arrays in: those that were there to be computed in would stay, and not be used."""
    w = Tensor([1.0, -2.0], requires_grad=True)
    w.grad = np.ones(2)
    optimizer = optim.Adam([w])
    for _ in range(3):
        optimizer.step()
    ((_, _, _, state),) = optimizer.blocks()
    arrays = [weakref.ref(x) for pair in state._room.values() for x in pair]
    assert len(arrays) == 4
    state.clear()
    assert [ref() for ref in arrays] == [None] * 4
