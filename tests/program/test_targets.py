"""A program printed for JAX, PyTorch and CuPy gives, run there, what it gives in NumPy, to rounding."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import warnings

import numpy as np
import pytest
from cases import CASES as CALLS
from hypothesis import assume, given, settings
from programs import BINARY, UNARY, data, program, steps

import microgradopt as mg
from microgradopt import nn, optim
from microgradopt.program.targets import TARGETS

ROUNDING = {np.float64: 1e-12, np.float32: 2e-5}
OTHERS = [name for name in TARGETS if name != "numpy"]
MACHINES = [pytest.param(name, marks=pytest.mark.parity) for name in OTHERS]
COMPILING = [pytest.param(name, marks=pytest.mark.parity) for name in OTHERS if name != "cupy"]


# What is printed ------------------------------------------------------------------------------------------------------


def network(*layers, dtype=np.float64, bias=True):
    return nn.Sequential(nn.Linear(4, 6, rng=0, dtype=dtype, bias=bias), *layers, nn.Linear(6, 3, rng=1, dtype=dtype))


NETWORKS = {
    "tanh": lambda dtype: network(nn.Tanh(), dtype=dtype),
    "relu": lambda dtype: network(nn.ReLU(), dtype=dtype),
    "gelu": lambda dtype: network(nn.GELU(), dtype=dtype),
    "sigmoid": lambda dtype: network(nn.Sigmoid(), dtype=dtype),
    "elu": lambda dtype: network(nn.ELU(), nn.LeakyReLU(), dtype=dtype),
    "softplus": lambda dtype: network(nn.Softplus(), nn.SiLU(), dtype=dtype),
    "layer norm": lambda dtype: network(nn.LayerNorm(6, dtype=dtype), nn.GELU(), dtype=dtype),
    # No bias before it: its gradient would be 0, which is rounding alone, and Adam divides by it.
    "batch norm": lambda dtype: network(nn.BatchNorm1d(6, dtype=dtype), nn.Tanh(), dtype=dtype, bias=False),
}
LOSSES = {
    "mse": (nn.mse_loss, lambda rng, dtype: rng.normal(size=(8, 3)).astype(dtype)),
    "cross-entropy": (nn.cross_entropy, lambda rng, dtype: rng.integers(0, 3, 8)),
    "two classes": (
        nn.binary_cross_entropy_with_logits,
        lambda rng, dtype: rng.integers(0, 2, (8, 3)).astype(dtype),
    ),
    "huber": (nn.huber_loss, lambda rng, dtype: rng.normal(size=(8, 3)).astype(dtype)),
}


def derivatives(name, loss="cross-entropy", dtype=np.float64):
    """Value, gradient and Hessian-vector product of a network's loss; and what they are computed of."""
    rng, model, (measure, target) = np.random.default_rng(0), NETWORKS[name](dtype), LOSSES[loss]
    parameters = list(model.parameters())
    directions = [rng.normal(size=p.shape).astype(dtype) for p in parameters]

    def derivatives(x, y, directions):
        value = measure(model(x), y)
        return value, mg.grad(value, parameters), mg.hvp(value, parameters, directions)

    return derivatives, (rng.normal(size=(8, 4)).astype(dtype), target(rng, dtype), directions)


def training_step(name, optimizer=optim.Adam, dtype=np.float64):
    """A whole step of training, the third: parameters, state and running averages are written."""
    rng, model = np.random.default_rng(0), NETWORKS[name](dtype)
    optimizer = optimizer(model.parameters(), lr=0.01)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    args = rng.normal(size=(8, 4)).astype(dtype), rng.integers(0, 3, 8)
    step(*args)
    step(*args)
    return step, args


def dropout():
    layer, x = nn.Dropout(0.4, rng=0), np.random.default_rng(0).normal(size=(8, 4))
    return lambda x: layer(x), (x,)


def random_program(choices, dtype=np.float64):
    scalar = program(choices)

    def derivatives(x, w, u, v):
        loss = scalar(x, w)
        return loss, mg.grad(loss, [x, w]), mg.hvp(loss, [x, w], [u, v])

    return derivatives, (*(mg.Tensor(a, requires_grad=True) for a in data(dtype)), *data(dtype, 7))


def of_numbers(x, k, choose):
    """What depends on how a library reads integers, booleans and numbers."""
    whole = x.astype(int) if choose else x
    return (
        k / 3, np.sqrt(np.abs(k)), k.mean(), np.std(k), np.argsort(x, axis=0), np.where(k > 1, 1.0, 0.5), np.hypot(k, 1), (k > 1) / 0.5, whole.sum(axis=0),
        k.astype(np.int8), x[k.astype(np.int32)], x.argmax(axis=1), np.transpose(np.stack([x, x]), (2, 0, 1)), x.mT,
        np.stack([x, x]).T, np.matrix_transpose(np.stack([x, x])), x[None, 1:, ..., 0], np.ones((2, 3)), np.eye(3),
        np.arange(7), np.zeros((0, 2)), np.array([0.1, np.inf]), np.asfortranarray(x.shape), x * np.float64(0.1),
        np.float32(0.1), np.array([True, False]), np.full((2, 2), 3), x[[0, 2]], np.isfinite(x), np.ones(2, np.float32),
        x.min(axis=0), 1 - (k > 1), (k > 1).mean(), (k > 1).std(axis=0), counted(k),
    )  # fmt: skip


def counted(k):
    """Twice at one place."""
    found = np.zeros_like(k)
    np.add.at(found, np.array([0, 0, 2]), 1)
    return found


CASES = {
    **{f"{name}, {loss}": (derivatives, name, loss) for name in NETWORKS for loss in ("mse", "cross-entropy")},
    **{f"tanh, {loss}": (derivatives, "tanh", loss) for loss in ("two classes", "huber")},
    **{f"{name}, a step of Adam": (training_step, name) for name in NETWORKS},
    "a step of SGD": (training_step, "tanh", optim.SGD),
}
TEXTS = {
    **CASES,
    **{f"unary {i}": (random_program, [(False, i, 0, 0)]) for i in range(len(UNARY))},
    **{f"binary {i}": (random_program, [(True, i, 0, 1)]) for i in range(len(BINARY))},
    "numbers": (lambda: (of_numbers, (np.random.default_rng(0).normal(size=(4, 3)), np.arange(4), True)),),
    "dropout": (dropout,),
}
BACKWARDS = "unary 19"  # x[::-1]
REFUSED = {"torch": {"dropout": "right_shift", BACKWARDS: "negative step"}}


def printed(case, target="numpy"):
    make, *about = TEXTS[case]
    function, args = make(*about)
    return mg.source(function, *args, target=target)


# How it is run --------------------------------------------------------------------------------------------------------


class Machine:
    """A library: array(x), of NumPy's x; compiled(function); numpy(x), back again."""

    def __init__(self, name):
        with warnings.catch_warnings():  # some warn while they are imported
            warnings.simplefilter("ignore")
            self.library = pytest.importorskip(name)
            getattr(self, name)()

    def jax(self):
        self.array, self.numpy, self.compiled = (
            importlib.import_module("jax.numpy").asarray,
            np.asarray,
            self.library.jit,
        )

    def torch(self):
        self.array, self.numpy = self.library.as_tensor, lambda x: x.numpy()
        self.compiled = lambda f: self.library.compile(f, backend="aot_eager", dynamic=False)

    def cupy(self):
        if not self.library.cuda.is_available():
            pytest.skip("CuPy has no GPU")
        self.array, self.numpy, self.compiled = self.library.asarray, self.library.asnumpy, None


@pytest.fixture
def machine(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Machine(request.param)
    if request.param == "jax":
        with found.library.enable_x64(True):
            yield request.param, found
    else:
        yield request.param, found


def function_of(text):
    names = {}
    exec(text, names)
    return names[text.name]


def result(text, machine, compiled=False):
    """What a text gives in another library, with NumPy's arrays for its inputs."""
    run = machine.compiled(function_of(text)) if compiled else function_of(text)
    return run(**{name: machine.array(x) if hasattr(x, "dtype") else x for name, x in text.inputs.items()})


def compare(found, expected, machine, rounding):
    """The same structure of the same dtypes and, to rounding, numbers."""
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            compare(a, b, machine, rounding)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            compare(found[key], expected[key], machine, rounding)
    else:
        found = machine.numpy(found) if hasattr(found, "dtype") else np.asarray(found)
        if hasattr(expected, "dtype"):
            assert found.dtype == expected.dtype
        scale = np.max(np.abs(expected), initial=0, where=np.isfinite(expected))
        np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding * scale)


def same_as_numpy(text, plain, machine, rounding=ROUNDING[np.float64], compiled=False):
    with np.errstate(all="ignore"):
        expected = function_of(plain)(**plain.inputs)
    assert text.inputs.keys() <= plain.inputs.keys()
    compare(result(text, machine, compiled), expected, machine, rounding)


@pytest.mark.long
@pytest.mark.parametrize("machine", MACHINES, indirect=True)
@pytest.mark.parametrize("case", TEXTS)
def test_same_results(machine, case):
    target, library = machine
    if case in REFUSED.get(target, ()):
        pytest.skip("refused")
    same_as_numpy(printed(case, target), printed(case), library)


@pytest.mark.long
@pytest.mark.parametrize("machine", COMPILING, indirect=True)
@pytest.mark.parametrize("case", CASES)
def test_same_results_when_compiled(machine, case):
    same_as_numpy(printed(case, machine[0]), printed(case), machine[1], compiled=True)


@pytest.mark.long
@pytest.mark.parametrize("machine", MACHINES, indirect=True)
@pytest.mark.parametrize("name", NETWORKS)
def test_float32_stays_float32(machine, name):
    target, library = machine
    for function, args in (derivatives(name, dtype=np.float32), training_step(name, dtype=np.float32)):
        texts = (mg.source(function, *args, target=target) for target in (target, "numpy"))
        same_as_numpy(*texts, library, rounding=ROUNDING[np.float32])


def value_and_gradient(call, *tensors):
    """What is computed of the numbers a call gives, and its gradients."""
    out = call(*tensors)
    total = sum(np.sum(x * x) for x in (out if isinstance(out, list | tuple) else [out]))
    return [total, *(g for g in mg.grad(total, tensors, allow_unused=True) if g is not None)]


@pytest.mark.long
@pytest.mark.parametrize("machine", MACHINES, indirect=True)
@pytest.mark.parametrize("name", CALLS)
def test_what_has_a_rule_is_refused_or_the_same(machine, name):
    """Each function that can be differentiated, as it is called in the tests of its rule."""
    target, library = machine
    for call, arrays in CALLS[name][:2]:
        tensors = [mg.Tensor(np.asarray(x, float), requires_grad=True) for x in arrays]
        function = functools.partial(value_and_gradient, call)
        try:
            text, plain = mg.source(function, *tensors, target=target), mg.source(function, *tensors)
        except mg.TracingError:
            continue
        same_as_numpy(text, plain, library, rounding=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("machine", MACHINES, indirect=True)
def test_random_programs(machine):
    target, library = machine

    @settings(max_examples=40)
    @given(choices=steps)
    def check(choices):
        function, args = random_program(choices)
        try:
            text = mg.source(function, *args, target=target)
        except mg.TracingError:
            assume(False)
        same_as_numpy(text, mg.source(function, *args), library, rounding=1e-9)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # at the tip of a norm a second derivative is not finite
        check()


@pytest.mark.long
@pytest.mark.parametrize("machine", [pytest.param("torch", marks=pytest.mark.parity)], indirect=True)
def test_a_step_by_the_inductor(machine):
    """torch.compile's own compiler, which writes C++."""
    _, library = machine
    library.compiled = library.library.compile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same_as_numpy(printed("tanh, a step of Adam", "torch"), printed("tanh, a step of Adam"), library, compiled=True)


# Without the libraries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize("case", TEXTS)
def test_all_that_networks_do_has_a_spelling(target, case):
    why = REFUSED.get(target, {}).get(case)
    if why is not None:
        with pytest.raises(mg.TracingError, match=f"{why}.*target='{target}'"):
            printed(case, target)
    else:
        compile(printed(case, target), case, "exec")


class Recording(dict):
    """A table that knows which of its entries were asked for."""

    def __init__(self, table):
        super().__init__(table)
        self.asked = set()

    def get(self, key):
        self.asked.add(key)
        return super().get(key)


@pytest.mark.long
@pytest.mark.parametrize("target", OTHERS)
def test_no_dead_spellings(target, monkeypatch):
    recording = Recording(TARGETS[target].spellings)
    monkeypatch.setattr(TARGETS[target], "spellings", recording)
    for case in TEXTS.keys() - REFUSED.get(target, {}).keys():
        printed(case, target)
    for call, arrays in itertools.chain(*CALLS.values()):
        tensors = [mg.Tensor(np.asarray(x, float), requires_grad=True) for x in arrays]
        with contextlib.suppress(mg.TracingError):
            mg.source(functools.partial(value_and_gradient, call), *tensors, target=target)
    assert not recording.keys() - recording.asked


@pytest.mark.parametrize("case", CASES)
def test_cupy_is_numpy_by_another_name(case):
    """What can be said without a GPU: the text has NumPy's names, and its checks."""
    special = pytest.importorskip("scipy.special")
    plain, text = printed(case), printed(case, "cupy")
    assert ("raise ValueError" in text) == ("raise ValueError" in plain)
    renamed = text.replace("import cupy as cp", "import numpy as cp").replace("import cupyx.scipy.special", "")
    names = {"cupyx": type("cupyx", (), {"scipy": type("scipy", (), {"special": special})})}
    exec(renamed, names)
    numpy = type("numpy", (), {"numpy": staticmethod(np.asarray)})
    compare(names[text.name](**text.inputs), function_of(plain)(**plain.inputs), numpy, ROUNDING[np.float64])


def test_what_has_to_hold_is_told_once_and_not_checked():
    for target in ("jax", "torch"):
        text = printed("batch norm, a step of Adam", target)
        assert "raise" not in text
        assert "view" not in text.partition("def ")[2], "what only a check needs is not computed"
        told = text.partition("Not checked here, but has to hold:\n")[2].partition("\n\n")[0].splitlines()
        assert told == [
            "#     y.view(np.uint64).max() < 3",
            "#     lr >= 0.0",
            "#     lr < np.inf",
            "#     np.all(np.isfinite(concatenate))",
        ]
    assert "has to hold" not in printed("tanh, mse", "jax")

    def decided(x, y):
        for _ in range(60):
            y = y + y
        return x if y.sum() > 3 and not y.sum() > 1e30 else -x

    told = mg.source(decided, np.ones(2), np.ones(2), target="jax")
    assert max(map(len, told.splitlines())) < 200, "a long condition is cut off"
    assert "#     not " in told
    assert list(told.inputs) == ["x"]


def test_two_layers_in_jax():
    """The whole text."""
    rng = np.random.default_rng(0)
    model, x, y = nn.MLP((4, 3, 5), nn.Tanh, rng=rng), rng.normal(size=(6, 4)), rng.integers(0, 5, 6)

    def gradient(x, y):
        loss = nn.cross_entropy(model(x), y)
        return loss, mg.grad(loss, list(model.parameters()))

    assert (
        mg.source(gradient, x, y, target="jax")
        == """import jax.numpy as jnp

# For float64: jax.config.update("jax_enable_x64", True), before the first array is made.
# Not checked here, but has to hold:
#     y.view(np.uint64).max() < 5


def gradient(weight_0, bias_0, weight_2, bias_2, x, y):
    linear1 = x @ weight_0.T + bias_0
    tanh = jnp.tanh(linear1)
    linear2 = tanh @ weight_2.T + bias_2
    subtract1 = linear2 - linear2.max(axis=1, keepdims=True)
    log_softmax = subtract1 - jnp.log(jnp.exp(subtract1).sum(axis=1, keepdims=True))
    arange = jnp.arange(6)
    nll_loss = (-log_softmax[arange, y]).sum() / 6
    # backward
    d_log_softmax = jnp.zeros((6, 5))
    d_log_softmax = d_log_softmax.at[arange, y].set(-0.16666666666666666)
    d_linear2 = d_log_softmax - jnp.exp(log_softmax) * d_log_softmax.sum(axis=1, keepdims=True)
    d_tanh = d_linear2 @ weight_2
    d_weight_2 = d_linear2.T @ tanh  # gradient by 2.weight
    d_bias_2 = d_linear2.sum(axis=0)  # gradient by 2.bias
    d_linear1 = d_tanh * (1 - tanh * tanh)
    d_weight_0 = d_linear1.T @ x  # gradient by 0.weight
    d_bias_0 = d_linear1.sum(axis=0)  # gradient by 0.bias
    return (nll_loss, [d_weight_0, d_bias_0, d_weight_2, d_bias_2])
"""
    )


def test_names_of_the_library_are_not_taken():
    for target, name in (("jax", "jnp"), ("jax", "jax"), ("torch", "torch"), ("cupy", "cp"), ("cupy", "cupyx")):
        parameters = {name: np.ones(2)}
        text = mg.source(eval(f"lambda {name}: {name} + 1"), *parameters.values(), target=target)
        assert list(text.inputs) == [f"{name}1"]


def test_a_function_without_a_spelling_is_refused_at_once():
    for target in OTHERS:
        with pytest.raises(mg.TracingError, match=rf"np.signbit for target='{target}'.*TARGETS\['{target}'\]"):
            mg.source(lambda x: np.signbit(x), np.eye(3), target=target)


OF_TORCH = {
    "np.cumsum without an axis": lambda w: np.cumsum(w),
    "np.max with where= or initial=": lambda w: np.max(w, axis=0, initial=0.0),
    "np.concatenate with axis=None": lambda w: np.concatenate([w, w], axis=None),
    "np.expand_dims of several axes": lambda w: np.expand_dims(w, (0, 2)),
    "getitem with a negative step": lambda w: w[:, ::-1],
    "np.add.at at slices": lambda w: mg.grad(np.square(w[:, [0, 0]]).sum(), w),
}


@pytest.mark.parametrize("what", OF_TORCH)
def test_what_a_function_of_torch_does_not_do_is_refused_at_once(what):
    w = mg.Tensor(np.eye(3), requires_grad=True)
    with pytest.raises(mg.TracingError, match=f"no spelling of {what} for target='torch'"):
        mg.source(OF_TORCH[what], w, target="torch")
    for target in ("jax", "cupy"):
        mg.source(OF_TORCH[what], w, target=target)


@pytest.mark.parametrize("target", ["jax", "torch", "javascript"])
@pytest.mark.parametrize("write", [np.subtract.at, np.multiply.at, np.maximum.at])
def test_only_sums_are_made_at_places(write, target):
    """JavaScript added where it should have multiplied."""

    def f(x):
        y = x * 2.0
        write(y, np.array([0, 0, 2]), 3.0)
        return y

    with pytest.raises(mg.TracingError, match=f"np.{write.__self__.__name__}.at"):
        mg.source(f, np.ones(3), target=target)


def test_a_spelling_more(monkeypatch):
    monkeypatch.setitem(TARGETS["jax"].spellings, np.signbit, "jnp.signbit")
    assert "jnp.signbit(x)" in mg.source(lambda x: np.signbit(x), np.eye(3), target="jax")


def test_another_target_is_refused():
    with pytest.raises(ValueError, match="numpy, jax, torch, cupy, javascript, not 'fortran'"):
        mg.source(np.tanh, np.ones(2), target="fortran")
    with pytest.raises(ValueError, match="given by position"):
        mg.source(lambda x, target: x - target, np.ones(2), target=np.ones(2))
    assert "x - target" in mg.source(lambda x, target: x - target, np.ones(2), np.ones(2))
