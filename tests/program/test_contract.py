"""The contract of compile: what the function itself gives, always, or an error. Every call here is checked."""

import collections
import contextlib
import contextvars
import copy
import dataclasses
import enum
import functools
import gc
import operator
import os
import pickle
import random
import sys
import tempfile
import threading
import types
import weakref
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from interrupt import Interrupt

import microgradopt as mg
from microgradopt import nn, optim, tree
from microgradopt.program import trace
from microgradopt.program.tracer import Tracer
from microgradopt.tensor import plain

X3 = np.arange(3.0)


def needing(x):
    return mg.Tensor(x, requires_grad=True)


def bits(x):
    x = np.asarray(getattr(x, "data", x))
    return x.shape, x.dtype, x.tobytes()


# The rewriting of programs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: (np.broadcast_to(x, (2, 3)) * np.broadcast_to(y, (2, 3))).sum(),
        lambda x, y: (x.reshape(1, 3) * y.reshape(1, 3)).sum(axis=0),
        lambda x, y: (np.atleast_2d(x) - np.atleast_2d(y))[0],
        lambda x, y: ((x.reshape(1, -1) - y.reshape(1, -1)) ** 2).mean(axis=0),
        lambda x, y: (x.reshape(1, 3) + y.reshape(1, 3))[0, 1],
        lambda x, y: np.broadcast_to(x.sum().reshape(1), (1,)) + 1.0,
        lambda x, y: np.broadcast_to(x.sum(keepdims=True), (3,)) * np.broadcast_to(y.sum(keepdims=True), (3,)),
        lambda x, y: (np.meshgrid(x, y)[0] * np.meshgrid(y, x)[0]).sum(),
        lambda x, y: np.maximum(x.reshape(1, 3), y.reshape(1, 3)),
        lambda x, y: (x.reshape(3, 1) * y.reshape(1, 3)).T.sum(axis=0),
        lambda x, y: (np.broadcast_to(x, (3, 3)).T + y).sum(axis=0),
        lambda x, y: np.concatenate([x.reshape(1, 3), y.reshape(1, 3)], axis=None).sum(axis=0),
        lambda x, y: np.add.reduce(x.reshape(1, 3), axis=None),
        lambda x, y: np.argsort(x.reshape(3, 1), axis=None),
        lambda x, y: np.sort(x.reshape(3, 1), axis=None) * y,
        lambda x, y: np.sum(x, axis=0, where=np.array([True, False, True])),
        lambda x, y: np.max(x, initial=9.0) * y,
        lambda x, y: np.sum(x.astype(np.float32), dtype=np.float64),
        lambda x, y: x.reshape(1, 3) * np.float32(2) + y,
        lambda x, y: np.cumsum(np.outer(x, y), axis=None),
    ],
)
def test_rewritten_as_computed(f):
    x, y = np.array([1.0, 2.0, -3.0]), np.array([4.0, 5.0, 6.5])
    for args in ((x, y), (needing(x), needing(y))):
        compiled = mg.compile(f, check="never")
        for _ in range(3):
            assert bits(compiled(*args)) == bits(f(*args))
        text = mg.source(f, *args)
        names = {}
        exec(str(text), names)
        assert bits(names[text.name](**text.inputs)) == bits(f(*args))


def test_a_gradient_keeps_its_shape():
    p, q = needing(2.0), needing([3.0])
    assert mg.compile(lambda: mg.grad(np.where(p < q, p * q, q).sum(), q))()[0].shape == (1,)


# A compiled part of a loss --------------------------------------------------------------------------------------------


def test_a_gradient_through_a_compiled_part_is_refused_in_every_way_of_asking():
    """It was dropped without a word, and the point where training went wrong certified as a minimum."""
    p = needing([1.0, 2.0, 3.0])
    data = mg.compile(lambda x: ((x * p) ** 2).sum())

    def loss():
        return data(X3) + 0.1 * (p * p).sum()

    objective = mg.Objective.of([p], loss)
    for ask in (
        lambda: loss().backward(),
        lambda: mg.grad(loss(), p),
        lambda: mg.grad(loss(), p, allow_unused=True),
        lambda: mg.grad(data(X3), p),
        lambda: mg.hessian(loss(), p),
        lambda: mg.hvp(loss(), p, np.ones(3)),
        lambda: mg.jacobian(data(X3) * p, p),
        objective.gradient,
        objective.hessian,
        lambda: mg.critical.classify(objective),
    ):
        with pytest.raises(mg.NotDifferentiableError, match="compiled function"):
            ask()
    assert p.grad is None


# What a function reads outside ----------------------------------------------------------------------------------------


class Settings:
    penalty, array, items = 2.0, np.ones(3), [1.0]

    @classmethod
    def read(cls):
        return cls.penalty


class Model:
    temperature, sizes = 1.0, {"a": 2.0}

    def twice(self, x):
        return x * 2.0


class Below(Model):
    def twice(self, x):
        return super().twice(x) * self.temperature

    def scaled(self, x):
        return x * self.temperature


class Meta(type):
    factor = 2.0


class Made(metaclass=Meta):
    unit = 1.0

    def __init__(self, x):
        self.scaled = x * Settings.penalty

    @property
    def power(self):
        return self.unit * 2.0

    @staticmethod
    def shifted(x):
        return x + 1.0

    @classmethod
    def of(cls, x):
        return x * cls.unit

    def times(self, k, x):
        return x * k * self.unit

    twice = functools.partialmethod(times, 2.0)


class Other(Made):
    unit = 5.0


class Kind(enum.Enum):
    SOFT = 1.0

    def __init__(self, k):
        self.weight = k

    def scaled(self, x):
        return x * self.value * Settings.penalty


@dataclass
class Range:
    low: float
    high: float


class Scaled(optim.SGD):
    factor = 1.0

    def update(self, theta, g, state, lr, group):
        return super().update(theta, g * self.factor, state, lr, group)


MADE = dict(vars(Made))


def tripled(x):
    return x * 3


class Share:
    def __init__(self):
        self.value = 2.0

    def __get__(self, instance, owner=None):
        return self if instance is None else self.value


class Row(list):
    factor, share = 2.0, Share()


class Number(float):
    pass


class Matrix(np.ndarray):
    pass


MODEL_TWICE, BELOW_SCALED = Model.twice, Below.scaled


@dataclass(slots=True)
class Slotted:
    scale: float
    array: np.ndarray


class Own:
    def __init__(self):
        self.k = 1.0

    def __getitem__(self, i):
        return self.k

    def __mul__(self, x):
        return x * self.k

    def __call__(self, x):
        return x + self.k


def watched():
    """Of each kind: a function, and a change of what it reads."""
    m, s, o, n = Model(), Slotted(2.0, np.ones(3)), Own(), types.SimpleNamespace(a=types.SimpleNamespace(b=2.0))
    Model.temperature, Model.twice, Below.scaled = 1.0, MODEL_TWICE, BELOW_SCALED
    Settings.penalty, Settings.array, Settings.items, Model.sizes = 2.0, np.ones(3), [1.0], {"a": 2.0}
    counter, ordered = collections.Counter(a=2), collections.OrderedDict(a=2.0)

    def counted(x):
        return x * counted.scale

    counted.scale = 2.0

    def doubled(x):
        return x * 2

    yield "class", lambda x: x * Settings.penalty, lambda: setattr(Settings, "penalty", 5.0)
    yield "array of a class", lambda x: x * Settings.array, lambda: setattr(Settings, "array", np.full(3, 7.0))
    yield "array of a class, written", lambda x: x * Settings.array, lambda: Settings.array.__setitem__(1, 7.0)
    yield "list of a class", lambda x: x * Settings.items[0], lambda: Settings.items.__setitem__(0, 7.0)
    yield "classmethod", lambda x: x * Settings.read(), lambda: setattr(Settings, "penalty", 6.0)
    yield (
        "default of a class, set on the instance",
        lambda x: x * m.temperature,
        lambda: setattr(m, "temperature", 10.0),
    )
    yield "dict of a class", lambda x: x * m.sizes["a"], lambda: m.sizes.__setitem__("a", 3.0)
    yield "slots", lambda x: x * s.scale, lambda: setattr(s, "scale", 3.0)
    yield "array in a slot", lambda x: x * s.array, lambda: setattr(s, "array", np.full(3, 7.0))
    yield "own __getitem__", lambda x: x * o[0], lambda: setattr(o, "k", 9.0)
    yield "own __mul__", lambda x: o * x, lambda: setattr(o, "k", 8.0)
    yield "own __call__", lambda x: o(x), lambda: setattr(o, "k", 7.0)
    yield "attribute of a function", counted, lambda: setattr(counted, "scale", 4.0)
    yield "nested namespaces", lambda x: x * n.a.b, lambda: setattr(n.a, "b", 5.0)
    first, second, below = Model(), Model(), Below()
    first.temperature, ordering = 3.0, {"a": 1.0, "b": 2.0}
    yield (
        "of a second instance",
        lambda x: x * m.temperature + second.temperature,
        lambda: setattr(second, "temperature", 9.0),
    )
    yield (
        "of an instance, later of its class",
        lambda x: x * second.temperature,
        lambda: setattr(type(second), "temperature", 4.0),
    )
    yield "a method, set on the instance", lambda x: below.scaled(x), lambda: setattr(below, "scaled", lambda x: x * 7)
    yield "a method of a class", lambda x: below.scaled(x), lambda: setattr(Below, "scaled", lambda self, x: x * 8)
    yield (
        "a method that is called by super()",
        lambda x: below.twice(x),
        lambda: setattr(Model, "twice", lambda self, x: x * 9),
    )
    yield "code, as notebooks reload it", lambda x: doubled(x), lambda: setattr(doubled, "__code__", tripled.__code__)
    yield (
        "order of a dict",
        lambda x: sum(v * x**i for i, v in enumerate(ordering.values())),
        lambda: ordering.update(a=ordering.pop("a")),
    )
    with tempfile.TemporaryFile() as file:
        row, number, mapped = Row([1.0]), Number(2.0), np.memmap(file, float, "w+", shape=3)
    number.factor, Row.share.value = 2.0, 2.0
    yield "attribute of a list", lambda x: x * row[0] * row.factor, lambda: setattr(row, "factor", 3.0)
    yield "attribute of a number", lambda x: x * number.factor, lambda: setattr(number, "factor", 3.0)
    yield "descriptor", lambda x: x * row.share, lambda: setattr(Row.share, "value", 3.0)
    yield "memory-mapped array", lambda x: x + mapped, lambda: mapped.__setitem__(0, 5.0)
    yield "Counter", lambda x: x * counter["a"], lambda: counter.update(a=3)
    yield from watched_in_classes()
    yield "OrderedDict", lambda x: x * ordered["a"], lambda: ordered.update(a=3.0)


class Gain(NamedTuple):
    gain: float

    def of(self, x):
        return x * self.gain * Settings.penalty


def watched_in_classes():
    """What Python reads and calls without that the code of the function names it."""
    for key in ("power", "shifted", "of", "unit"):
        setattr(Made, key, MADE[key])
    Meta.factor, Kind.SOFT.weight, Scaled.factor, Kind.SOFT._value_ = 2.0, 1.0, 1.0, 1.0
    made, span, same, w = Made(1.0), Range(1.0, 2.0), Range(1.0, 2.0), needing(np.ones(3))
    w.grad = np.ones(3)
    optimizer, module = Scaled([w], lr=0.5), types.ModuleType("settings_of_a_test")
    module.__file__, module.scale, sys.modules[module.__name__] = __file__, 2.0, module
    asked = types.ModuleType("asked")
    asked.__file__, asked.others = __file__, {"k": 2.0}
    exec("def __getattr__(name): return others[name]", vars(asked))

    def imported(x):
        import settings_of_a_test

        return x * settings_of_a_test.scale

    def matched(x):
        match span:
            case Range(low, high):
                return x * low + high

    def step(x):
        w.data, w.grad = np.ones(3), x.copy()
        optimizer.step()
        return w.data - 0.0

    yield "property, replaced", lambda x: x * made.power, lambda: setattr(Made, "power", property(lambda self: 7.0))
    yield "staticmethod, replaced", lambda x: Made.shifted(x), lambda: setattr(Made, "shifted", staticmethod(tripled))
    yield (
        "classmethod, replaced",
        lambda x: Other.of(x),
        lambda: setattr(Made, "of", classmethod(lambda cls, x: x * 9.0)),
    )
    yield "partialmethod", lambda x: made.twice(x), lambda: setattr(Made, "unit", 3.0)
    yield "methodcaller", lambda x: operator.methodcaller("times", 2.0, x)(made), lambda: setattr(Made, "unit", 3.0)
    yield "metaclass", lambda x: x * Made.factor, lambda: setattr(Meta, "factor", 3.0)
    yield "constructor", lambda x: Made(x).scaled, lambda: setattr(Settings, "penalty", 3.0)
    yield "another class of an object", lambda x: x * made.unit, lambda: setattr(made, "__class__", Other)
    yield "attribute of an enum's member", lambda x: x * Kind.SOFT.weight, lambda: setattr(Kind.SOFT, "weight", 3.0)
    yield "value of an enum's member", lambda x: x * Kind.SOFT.value, lambda: setattr(Kind.SOFT, "_value_", 3.0)
    yield "method of an enum", lambda x: Kind.SOFT.scaled(x), lambda: setattr(Settings, "penalty", 4.0)
    yield "comparison of dataclasses", lambda x: x * (2.0 if span == same else 1.0), lambda: setattr(span, "low", 3.0)
    gain = Gain(2.0)
    yield "method of a named tuple", lambda x: gain.of(x), lambda: setattr(Settings, "penalty", 5.0)
    yield "match", matched, lambda: setattr(span, "low", 3.0)
    yield "import in the function", imported, lambda: setattr(module, "scale", 3.0)
    yield "__getattr__ of a module", lambda x: x * asked.k, lambda: asked.others.update(k=3.0)
    yield "optimizer of one's own", step, lambda: setattr(optimizer, "factor", 3.0)


def unwatched():
    """Of each kind: a function that reads what cannot be watched, and a change of it."""
    m, variable = Model(), contextvars.ContextVar("variable", default=1.0)
    m.k = 1.0
    matrix = np.ones(3).view(Matrix)
    d, u, st = collections.deque([1.0]), collections.UserDict(a=1.0), {1.0}
    proxy, state = types.MappingProxyType(vars(m)), np.random.RandomState(0)
    yield "getattr", lambda x: x * getattr(m, "k"), lambda: setattr(m, "k", 2.0)  # noqa: B009
    yield "vars", lambda x: x * vars(m)["k"], lambda: setattr(m, "k", 7.0)
    yield "hasattr", lambda x: x * 2 if hasattr(m, "later") else x, lambda: setattr(m, "later", 1)
    yield "ContextVar", lambda x: x * variable.get(), lambda: variable.set(3.0)
    yield "__dict__", lambda x: x * m.__dict__["k"], lambda: setattr(m, "k", 2.0)
    yield "attrgetter", lambda x: x * operator.attrgetter("k")(m), lambda: setattr(m, "k", 2.0)
    yield "matrix", lambda x: x + matrix, lambda: None
    yield "deque", lambda x: x * d[0], lambda: d.__setitem__(0, 4.0)
    yield "UserDict", lambda x: x * u["a"], lambda: u.update(a=4.0)
    yield "set", lambda x: x * len(st), lambda: st.add(5.0)
    yield "MappingProxyType", lambda x: x * proxy["k"], lambda: setattr(m, "k", 3.0)
    yield "environ", lambda x: x * len(os.environ), lambda: None
    yield "errstate", lambda x: _careful(x), lambda: None
    span = Range(1.0, 2.0)
    yield "text of a dataclass", lambda x: x * len(repr(span)), lambda: None
    yield "cache", lambda x: x * _remembered(), lambda: None
    yield "asdict", lambda x: x * dataclasses.asdict(Range(1.0, 2.0))["low"], lambda: None
    yield "RandomState", lambda x: x * state.rand(), lambda: None
    w = needing([1.0, 2.0, 3.0])
    yield "text of a value", lambda x: f"{(x * w).mean():.2f}", lambda: None
    yield "str of a value", lambda x: str((x * w.data).sum()), lambda: None
    for name, draw in (("random", random.random), ("np.random", np.random.rand)):
        yield name, lambda x, draw=draw: x * 2 if draw() < 0.5 else x, lambda: None


@functools.cache
def _remembered():
    return Settings.penalty


def _careful(x):
    with np.errstate(divide="raise"):
        return 1 / (x + 1)


@pytest.mark.parametrize("check", ["always", "never"])
@pytest.mark.parametrize("kind", [case[0] for case in watched()])
def test_what_is_read_is_watched(kind, check):
    f, change = next(case[1:] for case in watched() if case[0] == kind)
    compiled = mg.compile(f, check=check)
    before = bits(compiled(X3))
    assert before == bits(f(X3))
    change()
    assert bits(compiled(X3)) == bits(f(X3)) != before


@pytest.mark.parametrize(("f", "change"), [case[1:] for case in unwatched()], ids=[case[0] for case in unwatched()])
def test_what_cannot_be_watched_is_refused(f, change):
    compiled = mg.compile(f, check="never")
    chance = random.getstate(), repr(np.random.get_state())
    with pytest.raises(mg.TracingError):
        compiled(X3)
    assert (random.getstate(), repr(np.random.get_state())) == chance


class Access(enum.IntFlag):
    READ, WRITE = 1, 2


def test_enums_remember_which_members_were_asked_for():
    compiled = mg.compile(lambda x: x * (Access.READ | Access.WRITE).value)
    assert [bits(compiled(X3)) for _ in range(3)] == [bits(X3 * 3)] * 3


NOTEBOOK = """
class Slots:
    __slots__ = ("k",)

class Answers:
    def __getattr__(self, name):
        return self.own[name]

class Trainer:
    def loss(self, x):
        return x * slots.k + answers.k

slots, answers = Slots(), Answers()
slots.k, answers.own = 2.0, {"k": 1.0}
compiled = compile(Trainer().loss)
"""


def test_cells_of_a_notebook(monkeypatch):
    """A module without a file. Its ``loss = compiled(x)`` is another thing than the method that the function names."""
    cells = types.ModuleType("cells")
    monkeypatch.setitem(sys.modules, "cells", cells)
    cells.compile = mg.compile
    exec(compile(NOTEBOOK, "/tmp/ipykernel_1/1.py", "exec"), vars(cells))
    for _ in range(5):
        cells.loss = cells.compiled(X3)
    assert repr(cells.compiled) == "Compiled(loss, 1 program)"
    cells.slots.k, cells.answers.own["k"] = 3.0, 5.0
    assert bits(cells.compiled(X3)) == bits(X3 * 3 + 5)


@pytest.mark.parametrize(("get", "put"), [(sys.getprofile, sys.setprofile), (sys.gettrace, sys.settrace)])
def test_what_runs_is_found_beside_a_profiler_or_a_debugger(get, put):
    first, second = Range(0.0, 1.0), Range(0.0, 1.0)
    compiled, own, before = mg.compile(lambda x: x * 2 if first == second else x, "never"), lambda *_: None, get()
    put(own)
    try:
        compiled(X3)
        assert get() is own
    finally:
        put(before)
    second.high = 2.0
    assert bits(compiled(X3)) == bits(X3)


def test_a_debugger_that_starts_inside_stays():
    def debugger(*_):
        return None

    before = sys.gettrace()
    sys.settrace(None)
    try:
        with trace._noted({}):
            sys.settrace(debugger)
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(before)


def test_a_spot_check_finds_what_was_not_watched():
    """In a module that is taken for a library: its globals are not searched."""
    module = types.ModuleType("elsewhere")
    module.__file__ = os.__file__
    exec(compile("scale = 2.0\ndef read(): return scale", os.__file__, "exec"), vars(module))
    read, w = module.read, needing([1.0])

    def f(x):
        w.data = w.data + 1.0
        return x * read()

    compiled = mg.compile(f)
    compiled(X3)
    module.scale = 3.0
    before = w.data.copy()
    with pytest.raises(mg.StaleProgramError, match=r"gives another result .* Nothing was changed"):
        compiled(X3)
    np.testing.assert_array_equal(w.data, before)
    np.testing.assert_array_equal(compiled(X3), X3 * 3)


def test_text_of_what_does_not_depend_on_a_tensor():
    """It decides which program is the one, as an `if` does."""
    compiled = mg.compile(lambda x: f"{x.mean():.2f}", check="never")
    assert [compiled(np.array([x])) for x in (2.0, 4.0, 2.0)] == ["2.00", "4.00", "2.00"]


def test_fields_that_the_function_does_not_name_are_not_watched():
    """A dataclass compares all its fields; a history among them grew at each call, and each call was traced anew."""

    @dataclass
    class Training:
        scale: float
        history: list

        def loss(self, x):
            return x * self.scale

    training = Training(2.0, [])
    compiled = mg.compile(training.loss)
    for i in range(5):
        compiled(X3)
        training.history.append(i)
    assert repr(compiled).endswith("1 program)")


class Cold(Model):
    temperature = 0.5


class Trainer:
    """Its history is read only by methods that a step does not run, though Python may call them, or a step names them."""

    def __init__(self):
        self.w, self.history, self.careful = needing(X3), [], False

    def __call__(self, n):
        self.history.append(n)

    def __len__(self):
        return len(self.history)

    @property
    def mean(self):
        return np.mean(self.history)

    def checked(self, x):
        return x * len(self.history)

    def step(self, x):
        loss = ((x * self.w) ** 2).mean()
        return mg.grad(self.checked(loss) if self.careful else loss, self.w)


def test_methods_that_do_not_run_are_not_watched():
    trainer, plain_one = Trainer(), Trainer()
    compiled = mg.compile(trainer.step, check="never")
    for n in range(4):
        compiled(X3)
        trainer(n)
    assert repr(compiled) == "Compiled(step, 1 program)"
    trainer.careful = plain_one.careful = True
    for n in range(3):  # from here on it is read
        trainer.history, plain_one.history = [1.0] * n, [1.0] * n
        assert bits(compiled(X3)[0]) == bits(plain_one.step(X3)[0])


def test_an_attribute_that_hides_another_has_one_program():
    """The one that was hidden was asked for at each call, and each call was traced anew."""
    model, own = Cold(), Model()
    own.temperature = 3.0
    compiled = mg.compile(lambda x: x * model.temperature + own.temperature)
    for _ in range(3):
        assert bits(compiled(X3)) == bits(X3 * 0.5 + 3.0)
    assert repr(compiled).endswith("1 program)")


def numbered(name, factor):
    """A composite of this name that cannot be traced."""

    def body(x):
        return np.array([float(v) * factor for v in x])

    body.__name__ = name
    return mg.rules.composite(lambda g, out, x: g * factor, smooth=True)(body)


@pytest.mark.parametrize("name", ["f", "run", "fits", "read", "write", "x", "misfit"])
def test_functions_have_names_of_their_own(name):
    """Two of one name were one, and one that is called as part of a program is, was that."""
    first, second = numbered(name, 2.0), numbered(name, 5.0)
    compiled = mg.compile(lambda x: first(x) - second(x), check="never")
    for _ in range(2):
        assert bits(compiled(X3)) == bits(first(X3) - second(X3))


def test_an_object_whose_getattr_raises_something_else():
    class Entries:
        def __init__(self):
            self.entries = {"k": 1.0}

        def __getattr__(self, name):
            return self.entries[name]

    thing = Entries()
    compiled = mg.compile(lambda x: x * thing.k, check="never")
    for k in (1.0, 2.0):
        thing.entries["k"] = k
        assert bits(compiled(X3)) == bits(X3 * k)


def test_how_often_is_checked():
    calls = collections.Counter()
    for check, expected in (("doubling", 5), ("always", 20), ("never", 0)):
        program = mg.compile(lambda x: x * 2, check=check)
        program._checked = lambda *a, check=check, ask=program._checked: calls.update([check]) or ask(*a)
        for _ in range(20):
            program(X3)
        assert calls[check] == expected
    with pytest.raises(ValueError, match="check is one of"):
        mg.compile(lambda x: x, check="sometimes")


def test_a_group_added_to_an_optimizer():
    ends = []
    for compiled in (False, True):
        a, b = needing([1.0]), needing([1.0])
        optimizer = optim.SGD([a], lr=0.1)

        def step(a=a, b=b, optimizer=optimizer):
            a.grad = b.grad = None
            loss = (a * a).sum() + (b * b).sum()
            loss.backward()
            optimizer.step()
            return loss

        f = mg.compile(step) if compiled else step
        f(), f()
        optimizer.add_param_group({"params": [b]})
        f(), f()
        ends.append([a.item(), b.item()])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("make", [Gain, lambda k: Batch(k, k)])
def test_methods_of_containers_that_are_arguments(make):
    Settings.penalty = 2.0
    compiled = mg.compile(lambda c, x: c.of(x), check="never")
    for penalty in (2.0, 3.0, 2.0):
        Settings.penalty = penalty
        assert bits(compiled(make(2.0), X3)) == bits(make(2.0).of(X3))


# What it writes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "k", "dtype"),
    [(getattr(operator, f"i{name}"), 2.0, float) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")]
    + [(getattr(operator, f"i{name}"), 2, int) for name in ("floordiv", "pow", "lshift", "rshift", "and", "or", "xor")]
    + [(operator.imatmul, np.eye(3) * 2.0, float), (operator.iand, False, bool), (operator.ixor, True, bool)]
    + [(operator.itruediv, 2, int), (operator.iadd, 2.5, int), (operator.iadd, np.ones((2, 3)), float)],
)
def test_operators_in_place(change, k, dtype):
    """Some were taken for ``x = x // k``: another name of the same array, and a caller's, kept the old numbers."""

    def own(x):
        y = x.copy()
        other = y
        y = change(y, k)
        return [y, other]

    x = np.array([1, 2, 3]).astype(dtype)
    compiled = mg.compile(own, check="never")
    try:
        expected = [bits(y) for y in own(x)]
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error)):
            compiled(x)
    else:
        assert [bits(y) for y in compiled(x)] == expected
    with pytest.raises(mg.TracingError, match="copy it first"):
        mg.compile(lambda x: change(x, k), check="never")(x)
    assert bits(x) == bits(np.array([1, 2, 3]).astype(dtype))


@pytest.mark.parametrize(
    "write",
    [
        lambda x: np.fill_diagonal(x, 0.0),
        lambda x: np.copyto(x, 0.0),
        lambda x: np.put(x, [0], [0.0]),
        lambda x: np.putmask(x, x > 1, 0.0),
        lambda x: np.place(x, x > 1, [0.0]),
        lambda x: np.put_along_axis(x, np.array([[0], [0]]), 0.0, axis=1),
        lambda x: np.save(os.devnull, x),
    ],
)
def test_functions_that_write_are_refused(write):
    """They have no result, and were left out as what nobody needs."""

    def f(x):
        write(x)
        return x * 2.0

    x = np.arange(4.0).reshape(2, 2)
    for given in (f, lambda x: f(x.copy())):
        with pytest.raises(mg.TracingError):
            mg.source(given, x)
    assert bits(x) == bits(np.arange(4.0).reshape(2, 2))


def test_learning_rates_as_numbers():
    w = needing(np.ones(3, np.float32))
    for lr in (0.5, lambda t: 0.5 / (1 + t)):
        optimizer = optim.SGD([w], lr=lr)

        def step(is_late, optimizer=optimizer):
            w.data, w.grad = np.ones(3, np.float32), np.ones(3, np.float32)
            before = w * optimizer.lr, np.maximum(w, optimizer.lr)
            optimizer.step()
            return [*before, optimizer.lr] if is_late else before

        compiled = mg.compile(step, check="never")
        for _ in range(2):
            steps = list(optimizer._steps)
            expected = [bits(x) for x in step(False)]
            optimizer._steps[:] = steps
            assert [bits(x) for x in compiled(False)] == expected
        if callable(lr):
            with pytest.raises(mg.TracingError, match="read the rate before step"):
                compiled(True)
        else:
            assert compiled(True)[-1] == lr


def test_numbers_in_arrays_without_axes_are_written_in_place():
    def f(x):
        y = np.copy(x)
        other = y
        y *= 3.0
        y -= 1.0
        fraction, exponent = parts = np.frexp(other)
        return [other, fraction, exponent, isinstance(parts, tuple)]

    x = np.array(2.0)
    found = mg.compile(f, check="never")(x)
    assert [bits(part) for part in found[:3]] == [bits(part) for part in f(x)[:3]]
    assert type(found[0]) is np.ndarray
    assert found[3]


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.1), lambda p: optim.Adam(p, lr=0.1)])
@pytest.mark.parametrize("repeated", [False, True])
def test_parameters_that_are_written_after_the_step(make, repeated):
    """As the weights of a critic are clipped. The step's own result had been kept in place of what was written."""
    batches, ends = np.random.default_rng(0).normal(size=(20, 3)), []
    for is_compiled in (False, True):
        w, b = needing([1.0, 2.0, 3.0]), needing(1.0)
        optimizer, second = make([w, b]), make([b])

        def step(x, w=w, b=b, optimizer=optimizer, second=second):
            optimizer.zero_grad()
            loss = ((w * x - b) ** 2).sum()
            loss.backward()
            second.step()
            optimizer.step()
            w.data = np.clip(w.data, -0.9, 0.9)
            return loss

        if not is_compiled or not repeated:
            run = mg.compile(step, check="never") if is_compiled else step
            losses = [run(x).item() for x in batches]
        else:
            losses = mg.compile(step, check="never").repeat(len(batches), over=(0,))(batches).tolist()
        ends.append((losses, w.data.tolist(), b.item()))
    assert ends[0] == ends[1]


def test_objects_that_answer_in_an_arrays_place():
    class Factor:
        __array_ufunc__ = None

        def __rmul__(self, x):
            return x * 3.0

    factor = Factor()
    np.testing.assert_array_equal(mg.compile(lambda x: x * factor)(X3), X3 * 3.0)


# Arguments and results ------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    a: object
    b: object


@dataclass
class Batch:
    x: object
    scale: object

    def of(self, x):
        return x * self.scale * Settings.penalty


@pytest.mark.parametrize(
    ("f", "arguments"),
    [
        (lambda p: p.a * p.b, [Pair(X3, X3 + 1), Pair(X3 * 2, X3)]),
        (lambda d: d["a"] * d["b"], [collections.OrderedDict(a=X3, b=X3), collections.OrderedDict(a=X3 + 1, b=X3)]),
        (lambda b: b.x * b.scale, [Batch(X3, 2.0), Batch(X3 + 1, 2.0), Batch(X3, 3.0), Batch(X3, 3)]),
        (lambda x, s: x[s] * 2, [(X3, slice(1, None)), (X3, slice(0, 2))]),
    ],
)
def test_containers_as_arguments(f, arguments):
    compiled = mg.compile(f)
    for argument in arguments:
        args = argument if type(argument) is tuple else (argument,)
        assert bits(compiled(*args)) == bits(f(*args))


def test_an_argument_that_equals_one_of_another_type():
    @dataclass(frozen=True)
    class Constant:
        k: object

    compiled, a = mg.compile(lambda x, c: x * c.k), np.array([1, 2, 3])
    assert [compiled(a, Constant(k)).dtype for k in (1, 1.0, True)] == [np.int64, np.float64, np.int64]


def test_results_that_are_objects_are_the_very_objects():
    class Colour(enum.Enum):
        RED = 1

    class Sly:
        def __repr__(self):
            return "x"

    class Word(str):
        __slots__ = ()

        def __repr__(self):
            return "1/0"

    for thing in (Colour.RED, Sly(), Word("a"), {Word("k"): 1}):
        assert mg.compile(lambda x, thing=thing: (x * 2, thing))(X3)[1] is thing or isinstance(thing, dict)
    assert list(mg.compile(lambda x: {Word("k"): x})(X3)) == ["k"]


def test_keys_with_braces():
    """The lines of a program that write have {} for what is written."""
    kept = {"{}": np.ones(3), "{a} b": 2.0}

    def f(x):
        kept["{}"] = kept["{}"] + x * kept["{a} b"]
        return kept["{}"] * 1

    compiled = mg.compile(f)
    for i in range(1, 4):
        assert bits(compiled(X3)) == bits(1 + X3 * 2 * i) == bits(kept["{}"])


def test_keys_that_are_enums():
    class Key(str, enum.Enum):  # noqa: UP042 (as people write it)
        A = "a"

    values = {Key.A: 2.0}
    np.testing.assert_array_equal(mg.compile(lambda x: x * values[Key.A])(X3), X3 * 2)


def test_errors_that_are_caught_inside_are_left_to_the_function():
    def inverse(a):
        try:
            return np.linalg.inv(a)
        except np.linalg.LinAlgError:
            return np.zeros_like(a)

    for first, second in ((np.zeros((2, 2)), np.eye(2)), (np.eye(2), np.zeros((2, 2)))):
        compiled = mg.compile(inverse, check="never")
        for a in (first, second, first):
            assert bits(compiled(a)) == bits(inverse(a))


def test_the_labels_check_holds_without_asserts():
    text = mg.source(lambda z, y: nn.cross_entropy(z, y), np.zeros((2, 3)), np.array([0, 1]))
    names = {}
    exec(compile(str(text), "<printed>", "exec", optimize=2), names)
    assert names[text.name](np.zeros((2, 3)), np.array([0, 1])) == pytest.approx(np.log(3.0))
    with pytest.raises(ValueError, match="not the values"):
        names[text.name](np.zeros((2, 3)), np.array([0, -1]))


# Copies, threads, interruptions ---------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(2, 1, rng=0)

    def forward(self, x):
        return self.layer(x)

    @mg.compile
    def predict(self, x):
        return self.layer(x)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_runs_its_own_parameters(copied):
    model, X = Net(), np.ones((1, 2))
    model.predict(X)
    best = copied(model)
    for p in model.parameters():
        p.data = p.data * 0 + 100.0
    assert bits(best.predict(X)) == bits(best(X)) != bits(model.predict(X))


class Named:
    """Equal to all of its name, whatever the weights are."""

    def __init__(self, name, w):
        self.name, self.w = name, needing(w)

    def __eq__(self, other):
        return self.name == other.name

    def __hash__(self):
        return hash(self.name)

    @mg.compile
    def loss(self, x):
        return (self.w * x).sum()


@dataclass
class Unhashable:
    scale: float

    @mg.compile
    def scaled(self, x):
        return x * self.scale


def test_methods_of_instances_that_are_equal_or_have_no_hash():
    one, other = Named("a", [1.0, 2.0, 3.0]), Named("a", [4.0, 5.0, 6.0])
    assert [one.loss(X3).item(), other.loss(X3).item(), one.loss(X3).item()] == [8.0, 17.0, 8.0]
    thing = Unhashable(2.0)
    for scale in (2.0, 3.0, 2.0):
        thing.scale = scale
        assert bits(thing.scaled(X3)) == bits(X3 * scale)
    assert repr(thing.scaled) == "Compiled(scaled, 2 programs)"


def test_a_method_of_an_object_that_nobody_else_holds():
    """It was gone when its method was called."""
    for k in (2.0, 3.0):
        assert Named("a", [k, k, k]).loss(X3).item() == 3.0 * k


def test_arguments_that_are_equal_and_not_the_same():
    one, other = Named("a", [1.0, 2.0, 3.0]), Named("a", [4.0, 5.0, 6.0])
    compiled = mg.compile(lambda x, named: named.w * x, check="never")
    assert [bits(compiled(X3, named)) for named in (one, other, one)] == [
        bits(named.w * X3) for named in (one, other, one)
    ]


def test_a_model_with_a_compiled_method_is_freed():
    model = Net()
    model.predict(np.ones((1, 2)))
    held = weakref.ref(model)
    del model
    gc.collect()
    assert held() is None


def test_a_batch_is_not_kept_alive():
    w = needing(np.ones(100))
    compiled = mg.compile(lambda x: mg.grad((x @ w).sum(), w))
    x = np.ones((1000, 100))
    held = weakref.ref(x)
    compiled(x)
    del x
    gc.collect()
    assert held() is None
    assert all(node.value is None for node in compiled.graph if node.nbytes > 1024 and node.role != "constant")


def test_eight_threads_that_make_the_first_calls_together():
    model, X = nn.MLP((20, 64, 3), nn.Tanh, rng=0), np.random.default_rng(0).normal(size=(200, 20))
    start, bad = threading.Barrier(8), []
    compiled = mg.compile(lambda x: mg.grad((model(x) ** 2).sum(), list(model.parameters())))
    expected = [bits(g) for g in mg.grad((model(X) ** 2).sum(), list(model.parameters()))]

    def work():
        start.wait()
        bad.extend(1 for _ in range(5) if [bits(g) for g in compiled(X)] != expected)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not bad
    assert {type(p.value) for p in model.parameters()} == {np.ndarray}


@pytest.mark.parametrize(("draw", "seed"), [(random.random, random.seed), (np.random.random, np.random.seed)])
def test_what_another_thread_draws_is_no_fault_of_the_function(draw, seed, monkeypatch):
    """The global state belongs to all threads: a notebook's server draws while a cell compiles."""
    made, drawn = trace.Trace, []

    def meanwhile(*call):
        if len(drawn) < 3:
            thread = threading.Thread(target=lambda: drawn.append(draw()))
            thread.start()
            thread.join()
        return made(*call)

    monkeypatch.setattr(trace, "Trace", meanwhile)
    seed(0)
    np.testing.assert_array_equal(mg.compile(lambda x: x * 2)(X3), X3 * 2)
    drawn.append(draw())
    seed(0)
    assert drawn == [draw() for _ in range(4)], "and nobody gets a number twice"


def test_an_interruption_leaves_no_tracer():
    """In 4 of 400 runs all parameters had stayed Tracers, and the weights were lost."""
    model, X = nn.MLP((2, 3, 1), nn.Tanh, rng=0), np.ones((4, 2))
    optimizer = optim.Adam(model.parameters())

    def step(x):
        model.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    with Interrupt() as whole:
        copied_model = copy.deepcopy((model, optimizer))
        mg.compile(lambda x: (copied_model[0](x) ** 2).sum())(X)
    for at in np.random.default_rng(0).integers(1, whole.count, size=60):
        with Interrupt(int(at)), contextlib.suppress(KeyboardInterrupt):
            mg.compile(step)(X)
        assert {type(p.value) for p in model.parameters()} == {np.ndarray}
        assert not any(type(v) is Tracer for _, _, _, state in optimizer.blocks() for v in state.values())
        assert type(optimizer.param_groups[0]["lr"]) is float


def test_a_new_attribute_is_taken_away_again():
    class Remembers(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 1, rng=0)

        def forward(self, x):
            self.hidden = self.layer(x)
            return self.hidden * 1.0

    model = Remembers()
    with pytest.raises(mg.TracingError, match="hidden"):
        mg.compile(lambda x: model(x))(np.ones((1, 2)))
    assert "hidden" not in vars(model)


@dataclass
class Answer:
    loss: object
    parts: list
    note: str = "n"


Pair = collections.namedtuple("Pair", "first second")


@pytest.mark.parametrize(
    "make",
    [
        lambda loss, x: Answer(loss, [x, 1.0]),
        lambda loss, x: collections.OrderedDict(b=loss, a=x),
        lambda loss, x: collections.defaultdict(list, a=[loss, x]),
        lambda loss, x: Pair(loss, {"x": (x,)}),
        lambda loss, x: [x.dtype, slice(0, 2), ..., None, (loss,)],
    ],
)
def test_results_come_back_in_containers_of_their_own_kind(make):
    w = mg.Tensor([1.0, 2.0], requires_grad=True)

    def f(x):
        y = x * 2.0
        return make((w * y).sum(), y)

    compiled = mg.compile(f)
    first, second, expected = compiled(np.ones(2)), compiled(np.ones(2)), f(np.ones(2))
    assert type(first) is type(second) is type(expected)
    assert first is not second
    leaves = [list(tree.leaves(x)) for x in (first, second, expected)]
    for one, other, eager in zip(*leaves, strict=True):
        assert type(one) is type(other) is type(eager)
        assert np.array_equal(plain(one), plain(eager)) if isinstance(plain(eager), np.ndarray) else True
        assert one is not other or not isinstance(one, np.ndarray)
    if not isinstance(expected, list):  # a dtype has no text
        names = {}
        text = mg.source(f, np.ones(2))
        exec(text, names)
        printed = list(tree.leaves(names[text.name](**text.inputs)))
        assert [np.asarray(plain(x)).tolist() for x in leaves[2]] == [np.asarray(x).tolist() for x in printed]


def test_a_dataclass_without_arrays_is_a_new_one_at_each_call():
    compiled = mg.compile(lambda x: (x, Answer(1.0, [])), check="never")
    compiled(X3)[1].parts.append(1)
    assert compiled(X3)[1].parts == []


def test_a_memory_mapped_array_is_an_array(tmp_path):
    x = np.memmap(tmp_path / "x", shape=(3,), mode="w+", dtype=float)
    compiled = mg.compile(lambda x: (x * 2.0).sum())
    for value in (1.0, 2.0):
        x[:] = value
        assert compiled(x) == 6.0 * value
