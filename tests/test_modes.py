"""no_grad and detect_anomaly: as context and decorator, nested, through exceptions, across threads and tasks."""

import asyncio
import threading

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import NonFiniteError, Tensor


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


def recorded():
    """Whether an operation is recorded here, asked by doing one in each of the ways that there are."""
    x = needing([1.0])
    results = [x * 2, np.exp(x), np.concatenate([x, x]), x.sum(), x[0], np.var(x), np.sum(x, axis=0), x.T]
    assert len({r.requires_grad for r in results}) == 1
    assert all(r.is_leaf != r.requires_grad for r in results)
    assert mg.is_grad_enabled() == results[0].requires_grad
    return mg.is_grad_enabled()


# no_grad --------------------------------------------------------------------------------------------------------------


def test_context_and_nesting():
    assert recorded()
    with mg.no_grad():
        assert not recorded()
        with mg.no_grad():
            assert not recorded()
        assert not recorded()
    assert recorded()


def test_values_and_new_leaves_are_as_ever():
    x = needing([1.0, 2.0])
    with mg.no_grad():
        y = np.exp(x) * x + np.var(x)
        leaf = needing([1.0])
    np.testing.assert_allclose(y.data, (np.exp(x) * x + np.var(x)).data, rtol=1e-15)
    assert leaf.requires_grad
    assert (leaf * 2).requires_grad


def test_a_backward_pass_inside_is_a_backward_pass():
    x = needing([1.0, 2.0])
    loss = (x * x).sum()
    with mg.no_grad():
        loss.backward()
        assert mg.grad(loss, x)[0].tolist() == [2.0, 4.0]
    assert x.grad.tolist() == [2.0, 4.0]


def test_an_exception_leaves_the_mode_as_it_was():
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert recorded()
    with mg.no_grad():
        with pytest.raises(ZeroDivisionError), mg.no_grad():
            raise ZeroDivisionError
        assert not recorded()


def test_one_object_used_again_and_within_itself():
    off = mg.no_grad()
    for _ in range(2):
        with off:
            assert not recorded()
            with off:
                assert not recorded()
            assert not recorded()
        assert recorded()


def test_decorator():
    @mg.no_grad()
    def depth(n):
        """Says how deep."""
        assert not recorded()
        return n if n == 0 else depth(n - 1)

    assert depth(3) == 0
    assert recorded()
    assert (depth.__name__, depth.__doc__) == ("depth", "Says how deep.")

    @mg.no_grad()
    def failing():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert recorded()


def test_a_decorator_that_would_have_no_effect_is_refused():
    """Calling a generator function runs nothing of its body: the mode would be over before it starts."""

    def generator():
        yield 1

    async def coroutine():
        return 1

    for function in (generator, coroutine):
        with pytest.raises(TypeError, match=f"{function.__name__}.*with"):
            mg.no_grad()(function)
        with pytest.raises(TypeError, match=f"{function.__name__}.*with"):
            mg.detect_anomaly()(function)


def test_a_generator_that_switches_between_its_yields():
    def values():
        for i in range(3):
            with mg.no_grad():
                value = needing([1.0]) * i
            yield value

    for value in values():
        assert not value.requires_grad
        assert recorded()


def test_threads_have_modes_of_their_own():
    inside, asked, answers = threading.Event(), threading.Event(), {}

    def other():
        answers["new thread"] = recorded()  # though it was started inside of no_grad
        with mg.no_grad():
            answers["its own"] = recorded()
            inside.set()
            asked.wait(10)
        answers["after"] = recorded()

    thread = threading.Thread(target=other)
    with mg.no_grad():
        thread.start()
        inside.wait(10)
    answers["main, while the other is inside"] = recorded()
    asked.set()
    thread.join(10)
    assert answers == {"new thread": True, "its own": False, "main, while the other is inside": True, "after": True}


def test_a_decorated_function_in_many_threads_at_once():
    barrier, answers = threading.Barrier(4), []

    @mg.no_grad()
    def work(i):
        barrier.wait(10)
        answers.append(recorded())
        barrier.wait(10)

    def run(i):
        work(i)
        answers.append(not recorded())

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == [False] * 8


def test_threads_record_one_graph_each_in_a_right_order():
    results = {}

    def work(i):
        x = needing(float(i + 1))
        y = x
        for _ in range(300):
            y = y * 1.001 + x * 0.001
        y.backward()
        results[i] = x.grad

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    expected = 1.0
    for _ in range(300):
        expected = expected * 1.001 + 0.001
    for i in range(4):
        np.testing.assert_allclose(results[i], expected, rtol=1e-12)


def test_asyncio_tasks_have_modes_of_their_own():
    answers = []

    async def without():
        with mg.no_grad():
            for _ in range(3):
                answers.append(("without", recorded()))
                await asyncio.sleep(0)

    async def ordinary():
        for _ in range(3):
            answers.append(("ordinary", recorded()))
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(without(), ordinary(), without())

    asyncio.run(main())
    assert len(answers) == 9
    assert all(answer == (who == "ordinary") for who, answer in answers)
    assert recorded()


# detect_anomaly -------------------------------------------------------------------------------------------------------

FORWARD = {
    # the operation to blame: a program in which it is the first to go wrong, and others follow
    "log": lambda x: np.exp(np.log(x)).sum() * 2,
    "divide": lambda x: (1.0 / x).sum(),
    "sqrt": lambda x: (np.sqrt(x - 1) * x).sum(),
    "multiply": lambda x: np.concatenate([x * np.array([1.0, np.inf]), x]).mean(),
    "exp": lambda x: np.exp(x * 1e5).sum(),
    "sum": lambda x: ((x + 1.7e308) + 0.0).sum() - 1.0,
    "concatenate": lambda x: np.concatenate([x, [np.nan]]) * 2,
    "square": lambda x: (x * 1e200) ** 2,
}


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("requires_grad", [True, False])
def test_the_first_bad_value_names_its_operation(name, requires_grad):
    x = Tensor([0.0, 1.0], requires_grad=requires_grad)
    with np.errstate(all="ignore"):
        FORWARD[name](x)  # unasked, nothing is said
        with mg.detect_anomaly(), pytest.raises(NonFiniteError, match=rf"^{name}: its value.*\(\d*,?\)"):
            FORWARD[name](x)
        FORWARD[name](x)


BACKWARD = {
    "sqrt": lambda x: np.sqrt(x).sum() * 3,
    "cbrt": lambda x: (np.cbrt(x) + x).sum(),
    "power": lambda x: (x**0.25).sum(),
    "arcsin": lambda x: np.arcsin(x).sum(),
}


@pytest.mark.parametrize("name", BACKWARD)
@pytest.mark.parametrize("create_graph", [True, False])
def test_the_first_bad_gradient_names_its_operation(name, create_graph):
    x = needing([0.0, 1.0])
    with np.errstate(all="ignore"), mg.detect_anomaly():
        y = BACKWARD[name](x)  # finite
        # A recorded gradient is itself made of operations: then the one inside of the rule is named.
        with pytest.raises(NonFiniteError, match="its value" if create_graph else f"^{name}: its gradient"):
            mg.grad(y, x, create_graph=create_graph)
        with pytest.raises(NonFiniteError):
            y.backward()
    assert x.grad is None
    with np.errstate(all="ignore"):
        assert not np.isfinite(mg.grad(y, x)[0]).all()


def test_the_message_says_where():
    with np.errstate(all="ignore"), mg.detect_anomaly():
        with pytest.raises(NonFiniteError, match=r"divide.*shape \(2, 2\).*first at \[1, 0\].*float32"):
            needing([[1.0, 2.0], [3.0, 4.0]], np.float32) / np.array([[1, 1], [0, 0]], np.float32)
        with pytest.raises(NonFiniteError, match=r"divide.*shape \(\)"):
            needing(1.0) / 0.0


def test_finite_computations_pass():
    x = needing([1.0, 2.0])
    with mg.detect_anomaly():
        (np.exp(x) * np.log(x) + np.concatenate([x[:1], x[1:]])).sum().backward()
        assert mg.hessian((x**3).sum(), x).shape == (2, 2)
        values, vectors = np.linalg.eigh(needing(np.diag([1.0, 2.0])))
        assert values.requires_grad
        assert vectors.requires_grad
        with mg.no_grad(), np.errstate(all="ignore"), pytest.raises(NonFiniteError):
            np.log(x * 0)
    assert issubclass(NonFiniteError, FloatingPointError)
