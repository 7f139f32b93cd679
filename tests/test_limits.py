"""How deep, how long, how light: a million operations, no reference cycles, and an import of NumPy alone."""

import gc
import json
import subprocess
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


# Depth ----------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_million_operations():
    """micrograd and MyGrad fail near depth 1,200 to 1,500. The recursion limit here is low on purpose."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        x = needing(1.0)
        y = x
        for _ in range(1_000_000):
            y = y + x
        (gradient,) = mg.grad(y, x)
        assert gradient == 1_000_001.0
        last = weakref.ref(y)
        middle = weakref.ref(y.inputs[0].inputs[0])
        del y
        assert (last(), middle()) == (None, None)
    finally:
        sys.setrecursionlimit(limit)


def test_second_order_on_a_long_chain():
    """y = x·c·c·… + … with y'' known: (1 + n·1e-6)-fold squares would overflow, so sums of squares."""
    n = 50_000
    x = needing(0.5)
    y = x * 0.0
    for _ in range(n // 2):
        y = y + x * x
    (first,) = mg.grad(y, x, create_graph=True)
    (second,) = mg.grad(first, x)
    assert (first.item(), second) == (n // 2, n)
    reference = weakref.ref(first)
    del first, y
    assert reference() is None


@pytest.mark.long
def test_a_wide_sum():
    leaves = [needing(float(i)) for i in range(20_000)]
    total = sum(leaf * leaf for leaf in leaves)
    assert [g.item() for g in mg.grad(total, leaves)] == [2.0 * i for i in range(20_000)]
    assert mg.grad(np.concatenate([leaf.reshape(1) for leaf in leaves]).sum(), leaves[-1])[0] == 1.0


# No reference cycles --------------------------------------------------------------------------------------------------


@pytest.fixture
def without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def garbage():
    """What only the collector could free, of ours: tensors, arrays, and what microgradopt defines."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    ours = [x for x in gc.garbage if type(x).__module__.startswith("microgradopt") or type(x) is np.ndarray]
    gc.garbage.clear()
    return ours


PROGRAMS = {
    "operators": lambda x: ((x * 2 + 1) / x - x**2).sum(),
    "functions": lambda x: np.exp(np.tanh(x)).mean(),
    "lists": lambda x: (np.concatenate([x, x * 2]) ** 3).sum(),
    "composed": lambda x: np.var(x) + np.prod(x),
    "several outputs": lambda x: sum(part.sum() for part in np.linalg.eigh(np.outer(x, x) + np.diag([1.0, 2.0]))),
    "composites": lambda x: mg.logsumexp(x) + mg.softmax(x)[0],
}


@pytest.mark.long
@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_results_are_freed_at_once(program):
    x = needing([1.0, 2.0])

    def died(make):
        made = make()
        references = [weakref.ref(t) for t in made if type(t) is Tensor]
        assert references
        del made
        return all(reference() is None for reference in references)

    def interior(result):
        nodes, stack = [], [result]
        while stack:
            node = stack.pop()
            if type(node) is Tensor and not node.is_leaf:
                nodes.append(node)
            if type(node) is Tensor:
                stack += [p for a in node.inputs for p in (a if type(a) is list else [a])]
        return nodes

    def backward():
        result = program(x)
        result.backward()
        return interior(result)

    def twice():
        result = program(x)
        (first,) = mg.grad(result, x, create_graph=True)
        mg.grad(first.sum(), x)
        return [first, *interior(result)]

    def anomaly():
        with mg.detect_anomaly():
            return backward()

    for make in (lambda: interior(program(x)), backward, twice, anomaly):
        assert died(make)
    assert mg.hessian(program(x), x).shape == (2, 2)
    assert garbage() == []


@pytest.mark.long
@pytest.mark.usefixtures("without_collector")
def test_errors_hold_on_to_nothing():
    x = needing([1.0, 2.0])
    y = x * x
    reference = weakref.ref(y)
    with pytest.raises(ValueError, match="shape"):
        y.backward()
    x.data = [0.0, 0.0]
    with pytest.raises(mg.OverwrittenError):
        y.sum().backward()
    with pytest.raises(ValueError, match="do not match"):
        y + np.ones(3)
    gc.collect()  # pytest's own record of the exceptions
    del y
    assert reference() is None


@pytest.mark.long
@pytest.mark.usefixtures("without_collector")
def test_ten_thousand_steps_do_not_grow():
    rng = np.random.default_rng(0)
    data, target = rng.standard_normal((4, 2)), rng.standard_normal((4, 1))
    w, b = needing(rng.standard_normal((1, 2))), needing(np.zeros(1))

    def steps(n):
        for _ in range(n):
            residual = data @ w.T + b - target
            loss = (residual * residual).mean()
            w.grad = b.grad = None
            loss.backward()
            w.data = w.data - 0.01 * w.grad
            b.data = b.data - 0.01 * b.grad
        return loss.item()

    first = steps(3_000)  # Python's own free lists of tuples and floats fill up first
    tracemalloc.start()
    steps(100)
    before = tracemalloc.get_traced_memory()[0]
    last = steps(10_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert last < first
    assert grown < 100_000  # bytes; one small tensor kept per step would be megabytes
    assert garbage() == []


# Imports --------------------------------------------------------------------------------------------------------------


def test_the_import_pulls_in_numpy_and_the_standard_library_alone():
    program = (
        "import sys, json; import numpy; before = set(sys.modules); import microgradopt; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    foreign = set(json.loads(printed)) - set(sys.stdlib_module_names) - {"microgradopt", "numpy"}
    assert foreign == set()
