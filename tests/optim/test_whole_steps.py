"""A step happens as a whole or not at all: parameters, all groups, state; wherever it is interrupted."""

import contextlib
import copy
import pickle

import numpy as np
import pytest
from interrupt import Interrupt

from microgradopt import NonFiniteError, Tensor, optim
from microgradopt.optim.closure import ClosureOptimizer
from microgradopt.optim.least_squares import LeastSquares

NAMES = sorted(
    name
    for name in optim.__all__
    if isinstance(getattr(optim, name), type)
    and issubclass(getattr(optim, name), optim.Optimizer)
    and name != "Optimizer"
)
GROUPED = [n for n in NAMES if not issubclass(getattr(optim, n), ClosureOptimizer)]
X = np.random.default_rng(0).normal(size=(8, 3))


class Run:
    """An optimizer on W and b, in one group or two, with the closure that it steps by."""

    def __init__(self, name, groups):
        rng = np.random.default_rng(1)
        self.W, self.b = (Tensor(rng.normal(size=shape), requires_grad=True) for shape in ((3, 2), (2,)))
        schedule = optim.schedules.Exponential(0.01, 0.9)
        params = [self.W, self.b] if groups == 1 else [{"params": [self.W]}, {"params": [self.b], "lr": schedule}]
        self.optimizer = getattr(optim, name)(params, **({"radius": 0.1} if name == "PerturbedGD" else {}))

    def residuals(self):
        return np.tanh(X @ self.W + self.b) - 0.3

    def closure(self):
        if isinstance(self.optimizer, LeastSquares):
            return self.residuals()
        self.optimizer.zero_grad()
        loss = np.sum(self.residuals() ** 2)
        loss.backward()
        return loss

    def step(self):
        self.optimizer.step(self.closure)

    def seen(self):
        return repr((self.W.data.tolist(), self.b.data.tolist(), self.optimizer.state_dict()))


# Python does not hand on an exception from where it finishes a generator that nobody needs any more, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("name", "groups"), [(n, 1) for n in NAMES] + [(n, 2) for n in GROUPED])
def test_interrupted_anywhere_it_is_one_step_or_the_other(name, groups, pytestconfig):
    """1,000 interrupted steps, over all optimizers, by default; more with --interrupts."""
    run = Run(name, groups)
    for _ in range(3):
        run.step()
    before, done = run.seen(), copy.deepcopy(run)
    with Interrupt() as whole:
        done.step()
    after = done.seen()
    assert before != after
    rng = np.random.default_rng([groups, len(name)])
    seen = []
    for at in rng.integers(1, whole.count, size=pytestconfig.getoption("--interrupts")):
        interrupted = copy.deepcopy(run)
        with Interrupt(int(at)), contextlib.suppress(KeyboardInterrupt):
            interrupted.step()
        seen.append(interrupted.seen())
        assert seen[-1] in (before, after), f"at bytecode {at} of {whole.count}"
        interrupted.step()  # and it goes on from there
        if seen[-1] == before:
            assert interrupted.seen() == after
    assert before in seen


@pytest.mark.parametrize("name", GROUPED)
def test_a_second_group_that_fails_moves_nothing(name):
    run = Run(name, 2)
    run.step()
    before = run.seen()

    def broken(t):
        raise RuntimeError("broken schedule")

    own = run.optimizer.param_groups[1]["lr"]
    run.optimizer.param_groups[1]["lr"] = broken
    with pytest.raises(RuntimeError, match="broken schedule"):
        run.step()
    run.optimizer.param_groups[1]["lr"] = own
    assert run.seen() == before


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite(name, bad):
    run = Run(name, 2)
    if run.optimizer.wants_closure:
        pytest.skip("evaluates the loss itself")
    run.step()
    before = run.seen()
    run.closure()
    run.b.grad[1] = bad
    with pytest.raises(NonFiniteError, match=r"parameter 0, of shape \(2,\).*allow_nonfinite"):
        run.optimizer.step()
    assert run.seen() == before
    with np.errstate(all="ignore"):
        run.optimizer.step(allow_nonfinite=True)
    assert run.seen() != before


def test_a_large_gradient_is_finite():
    w = Tensor(np.zeros(2, np.float32), requires_grad=True)
    w.grad = np.array([3e38, 1.0], np.float32)
    optim.SGD([w], lr=1e-30).step()
    assert w.data[0] == pytest.approx(-3e8, rel=1e-6)


def test_another_set_of_gradients_does_not_lose_the_state_where_the_step_fails():
    w, v = (Tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = optim.LBFGS([w, v], lr=0.1, max_iter=1)

    def closure(loss):
        optimizer.zero_grad()
        out = loss()
        out.backward()
        return out

    optimizer.step(lambda: closure(lambda: w[0] ** 4 + v[0] ** 4))
    before = repr(optimizer.state_dict())
    with pytest.raises(NonFiniteError), np.errstate(all="ignore"):
        optimizer.step(lambda: closure(lambda: np.log(w[0] * 0)))
    assert repr(optimizer.state_dict()) == before


class Nameless(optim.Optimizer):
    """Keeps what it does not name."""

    lr: float = optim.hyperparameters.rate(0.1)

    def update(self, theta, g, state, lr, group):
        return theta - lr * optim.moving_average(state, "m", g, 0.9)


class Forgetful(Nameless):
    keeps = ("m", "v")


@pytest.mark.parametrize(("cls", "message"), [(Nameless, r"not named \['m'\]"), (Forgetful, r"missing \['v'\]")])
def test_names_of_the_state_are_checked_at_the_first_step(cls, message):
    """Before, the checkpoint was written, and could not be loaded."""
    w = Tensor([1.0], requires_grad=True)
    w.grad = np.array([1.0])
    with pytest.raises(TypeError, match=message):
        cls([w]).step()
    assert w.item() == 1.0


class InPlace(Nameless):
    """Writes to the array that the moving average has just given: that is this step's own."""

    keeps = ("m",)

    def update(self, theta, g, state, lr, group):
        m = optim.moving_average(state, "m", g, 0.9)
        m += 1.0
        return theta - lr * m


def test_what_a_failed_step_has_computed_is_forgotten():
    w = Tensor([1.0, 2.0], requires_grad=True)
    optimizer = InPlace([w])
    for good in (True, False, False, True):
        w.grad = np.array([1.0, 1.0])
        optimizer.param_groups[0]["lr"] = 0.1 if good else -1.0
        if good:
            optimizer.step()
        else:
            with pytest.raises(ValueError, match="lr"):
                optimizer.step()
    m = 1.1, 0.9 * 1.1 + 1.1
    np.testing.assert_allclose(optimizer.state_dict()["state"][0]["m"], np.full(2, m[1]))
    np.testing.assert_allclose(w.data, np.array([1.0, 2.0]) - 0.1 * sum(m))


@pytest.mark.parametrize("wrong", [lambda x: x[:1], lambda x: np.outer(x, x), list, lambda x: None])
def test_a_theta_of_another_shape_moves_nothing(wrong):
    """The first group was moved before the second one failed."""

    class Wrong(Nameless):
        def update(self, theta, g, state, lr, group):
            return theta - lr * g if theta.size == 1 else wrong(theta)

    first, second = Tensor([3.0], requires_grad=True), Tensor([1.0, 2.0], requires_grad=True)
    first.grad, second.grad = np.ones(1), np.ones(2)
    optimizer = Wrong([{"params": [first]}, {"params": [second]}])
    before = repr(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"Wrong\.step: wants a new θ, of shape \(2,\)"):
        optimizer.step()
    assert (first.item(), second.data.tolist()) == (3.0, [1.0, 2.0])
    assert repr(optimizer.state_dict()) == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_goes_on_alike_and_apart(name, copied):
    run = Run(name, 1)
    run.step()
    other = copied(run)
    run.step()
    other.step()
    assert run.seen() == other.seen()
    assert {run.W, run.b}.isdisjoint(other.optimizer.parameters())


@pytest.mark.parametrize("around", [lambda own, w: own([w]), lambda own, w: optim.SAM([w], own, rho=0.0)])
def test_a_formula_of_ones_own_that_writes_into_what_it_is_given(around):
    class InPlace(optim.Optimizer):
        lr: float = optim.hyperparameters.rate(0.1)
        keeps = ("m",)
        fails = False

        def update(self, theta, g, state, lr, group):
            state["m"] = state.get("m", np.zeros_like(theta))
            state["m"] *= 0.9
            state["m"] += g
            theta -= lr * state["m"]
            if InPlace.fails:
                raise RuntimeError("a step that fails")
            return theta

    w, v = (Tensor([1.0, -2.0], requires_grad=True) for _ in range(2))
    ours, known = around(InPlace, w), optim.SGD([v], lr=0.1, momentum=0.9)

    def closure():
        w.grad = v.grad = np.cos(w.data)
        return Tensor(0.0)

    for t in range(4):
        InPlace.fails = t == 2
        with pytest.raises(RuntimeError) if InPlace.fails else contextlib.nullcontext():
            ours.step(closure)
            known.step()
        np.testing.assert_array_equal(w.data, v.data)
        np.testing.assert_array_equal(ours.state_dict()["state"][0]["m"], known.state_dict()["state"][0]["b"])
