"""Stuck runs, each with a fault that people make, and healthy ones.

The kinds follow published catalogues of faulty training programs: DeepFD (Cao et al. 2022), AUTOTRAINER (Zhang et al.
2021), DeepLocalize (Wardat et al. 2021), UMLAUT (Schoop et al. 2021), and recipes for training (Karpathy 2019). All
are small, on scikit-learn's data, and train for a second or less. A seed draws rows, weights and batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import datasets

from microgradopt import nn, optim
from microgradopt.optim import schedules
from microgradopt.training import Run, gradient_norm

Array = np.ndarray
Begin = Callable[[int, int], Run]  # seed, and how many times as many hidden units


@dataclass(frozen=True)
class Recipe:
    """A training. begin: makes it, untrained. updates: until it is stuck. causes: what may be named.

    loop: trains it, where people write their own loop.
    """

    name: str
    causes: tuple[str, ...]
    begin: Begin
    updates: int
    loop: Callable[[Run, int], Run] | None = None
    yardstick: Any = None  # a loss to judge by, where the run's own is what is wrong

    def make(self, seed: int) -> Run:
        """The run, trained until it is stuck."""
        run = self.begin(seed, 1)
        with np.errstate(all="ignore"):
            return self.loop(run, self.updates) if self.loop else run.train(self.updates)

    def restart(self, seed: int, updates: int, width: int = 1) -> Run:
        """Another start of the same recipe."""
        run = self.begin(seed + 1000, width)
        with np.errstate(all="ignore"):
            return self.loop(run, updates) if self.loop else run.train(updates)


# Data -----------------------------------------------------------------------------------------------------------------


def _rows(X: Array, y: Array, n: int, seed: int) -> tuple[Array, Array]:
    rows = np.random.default_rng(seed).permutation(len(X))[:n]
    return X[rows], y[rows]


def _standard(X: Array) -> Array:
    return (X - X.mean(axis=0)) / X.std(axis=0)


def digits(seed: int, n: int = 400) -> tuple[Array, Array]:
    X, y = datasets.load_digits(return_X_y=True)
    return _rows(X / 16, y, n, seed)


def wine(seed: int) -> tuple[Array, Array]:
    X, y = datasets.load_wine(return_X_y=True)
    return _rows(_standard(X), y, 150, seed)


def raw_wine(seed: int) -> tuple[Array, Array]:
    return _rows(*datasets.load_wine(return_X_y=True), 150, seed)


def cancer(seed: int) -> tuple[Array, Array]:
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return _rows(_standard(X), y, 300, seed)


def diabetes(seed: int) -> tuple[Array, Array]:
    X, y = datasets.load_diabetes(return_X_y=True)
    return _rows(_standard(X), _standard(y[:, None]), 300, seed)


def moons(seed: int) -> tuple[Array, Array]:
    return datasets.make_moons(200, noise=0.1, random_state=seed)


def circles(seed: int) -> tuple[Array, Array]:
    return datasets.make_circles(200, noise=0.05, factor=0.5, random_state=seed)


def blobs(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1, 2], 30)
    return np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 8.0]])[y] + rng.normal(size=(90, 2)), y


def waves(seed: int) -> tuple[Array, Array]:
    x = np.random.default_rng(seed).uniform(-2, 2, size=(80, 1))
    return x, np.sin(2 * x)


def noisy_line(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, 5))
    return X, X @ np.arange(1.0, 6.0)[:, None] + 2 * rng.normal(size=(200, 1))


def long_valley(seed: int) -> tuple[Array, Array]:
    """Correlated features, of spreads 1 to 0.01 along hidden axes: columns of like scale."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    X = rng.normal(size=(200, 6)) * np.geomspace(1, 0.01, 6) @ turned
    return X, X @ turned.T @ (1 / np.geomspace(1, 0.01, 6))[:, None]


def with_(change: Callable[[Array, Array, np.random.Generator], tuple[Array, Array]], data: Any) -> Any:
    """Data with something done to it."""
    return lambda seed: change(*data(seed), np.random.default_rng(seed))


def _nan_somewhere(X: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    X = X.copy()
    X[rng.integers(len(X)), rng.integers(X.shape[1])] = np.nan
    return X, y


def _infinite_target(X: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    y = y.copy()
    y[rng.integers(len(y))] = np.inf
    return X, y


def _ten_times_each(X: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    return np.repeat(X[:20], 10, axis=0), rng.integers(0, 2, 200)


def column(X: Array, y: Array, rng: Any) -> tuple[Array, Array]:
    """Labels 0 and 1 as targets (n, 1)."""
    return X, y[:, None].astype(float)


def flat(X: Array, y: Array, rng: Any) -> tuple[Array, Array]:
    return X, y.ravel()


# Networks -------------------------------------------------------------------------------------------------------------


def mlp(*sizes: int, act: Any = nn.ReLU, end: Any = None) -> Callable[[int, int], nn.Sequential]:
    """A function that makes a network, of a seed and a factor for the hidden layers. end: a last activation."""

    def make(seed: int, width: int) -> nn.Sequential:
        hidden = [size * width for size in sizes[1:-1]]
        net = nn.MLP((sizes[0], *hidden, sizes[-1]), act, rng=seed)
        return nn.Sequential(*net, end()) if end else net

    return make


def linear_stack(*sizes: int) -> Callable[[int, int], nn.Sequential]:
    def make(seed: int, width: int) -> nn.Sequential:
        sizes_now = [sizes[0], *[size * width for size in sizes[1:-1]], sizes[-1]]
        return nn.Sequential(*[nn.Linear(a, b, rng=seed + i) for i, (a, b) in enumerate(itertools.pairwise(sizes_now))])

    return make


def changed(make: Any, change: Callable[[list[Any]], None]) -> Callable[[int, int], nn.Module]:
    """A network with something done to its parameters."""

    def made(seed: int, width: int) -> nn.Module:
        net = make(seed, width)
        change(list(net.parameters()))
        return net

    return made


def all_equal(value: float) -> Callable[[list[Any]], None]:
    def change(parameters: list[Any]) -> None:
        for p in parameters:
            p.data = np.full(p.shape, value)

    return change


def first_bias(value: float) -> Callable[[list[Any]], None]:
    def change(parameters: list[Any]) -> None:
        parameters[1].data = np.full(parameters[1].shape, value)

    return change


def large(factor: float) -> Callable[[list[Any]], None]:
    def change(parameters: list[Any]) -> None:
        for p in parameters:
            p.data = factor * p.data

    return change


def freeze(n: int) -> Callable[[list[Any]], None]:
    def change(parameters: list[Any]) -> None:
        for p in parameters[:n]:
            p.requires_grad = False

    return change


class Detached(nn.Module):
    """The first layer's result is taken as data."""

    def __init__(self, inputs: int, hidden: int, outputs: int, seed: int) -> None:
        self.first, self.last = nn.Linear(inputs, hidden, rng=seed), nn.Linear(hidden, outputs, rng=seed + 1)

    def forward(self, x: Any) -> Any:
        return self.last(np.tanh(self.first(x)).detach())


class Ignored(Detached):
    """The second layer is computed, and not used."""

    def __init__(self, inputs: int, hidden: int, outputs: int, seed: int) -> None:
        super().__init__(inputs, hidden, outputs, seed)
        self.short = nn.Linear(inputs, outputs, rng=seed + 2)

    def forward(self, x: Any) -> Any:
        self.last(np.tanh(self.first(x)))
        return self.short(x)


class Twins(nn.Module):
    """y = w₁ w₂ x, from where gradient descent leads to the saddle at the origin."""

    def __init__(self, seed: int) -> None:
        start = 0.3 + 0.1 * seed
        net = nn.Sequential(nn.Linear(1, 1, bias=False, rng=0), nn.Linear(1, 1, bias=False, rng=0))
        for layer, value in zip(net, (start, -start), strict=True):
            layer.weight.data = np.array([[value]])
        self.net = net

    def forward(self, x: Any) -> Any:
        return self.net(x)


# Trainings ------------------------------------------------------------------------------------------------------------

CE, MSE, BCE = nn.cross_entropy, nn.mse_loss, nn.binary_cross_entropy_with_logits
SGD, Adam, AdamW, RMSprop = optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop


def begin(
    data: Any, net: Any, loss: Any, optimizer: Any, batch: int | None = None, held_out: float = 0.0,
    moves: Any = slice(None), max_norm: float | None = None, penalty: float = 0.0, **settings: Any,
) -> Begin:  # fmt: skip
    """A function that makes a run. held_out: the share of rows for validation. moves: which are optimised."""

    def made(seed: int, width: int = 1) -> Run:
        X, y = data(seed % 1000)
        model = net(seed, width)
        parameters = [p for p in model.parameters() if p.requires_grad]
        n = int(len(X) * held_out)
        compare = loss
        if penalty:
            compare = lambda out, t: loss(out, t) + penalty * sum((p * p).sum() for p in parameters)  # noqa: E731
        return Run(
            model, compare, optimizer(parameters[moves], **settings), X[n:], y[n:], batch, max_norm=max_norm,
            validation=(X[:n], y[:n]) if n else None, rng=seed,
        )  # fmt: skip

    return made


def without_clearing(run: Run, updates: int) -> Run:
    """Somebody's own loop, which forgets zero_grad."""
    rng = np.random.default_rng(0)
    for _ in range(updates):
        size = run.batch_size or len(run.X)
        rows = rng.permutation(len(run.X))[:size] if run.batch_size else slice(None)
        value = run.loss_function(run.model(run.X[rows]), run.y[rows])
        value.backward()
        run.append(value.item(), gradient_norm(run.model.parameters()), run.optimizer.lr, 0.0)
        if not np.isfinite(run.gradient_norm[-1]):
            break
        run.optimizer.step()
    return run


def by_hand(out: Any, t: Any) -> Any:
    """Squared errors, as they are written by hand: (n, 1) against (n,) makes (n, n)."""
    return np.mean((out - t) ** 2)


def log_likelihood(out: Any, t: Any) -> Any:
    """The logarithm of an output that may be negative."""
    return -np.mean(np.log(out) * t + np.log(1 - out) * (1 - t))


def negative(loss: Any) -> Any:
    return lambda out, t: -loss(out, t)


def product(out: Any, t: Any) -> Any:
    """A score, to be made as large as can be; it can be made as large as one likes."""
    return -np.mean(out * (2 * t - 1))


RATES = ("learning rate too small",)
LARGE = ("learning rate too large",)
TANH_DIGITS = mlp(64, 16, 10, act=nn.Tanh)

FAULTS = [
    # The learning rate
    Recipe("SGD, lr 1e-5", RATES, begin(digits, mlp(64, 16, 10), CE, SGD, 32, lr=1e-5), 300),
    Recipe("SGD with momentum, lr 1e-6", RATES, begin(diabetes, mlp(10, 16, 1, act=nn.Tanh), MSE, SGD, 32, lr=1e-6, momentum=0.9), 300),
    Recipe("Adam, lr 1e-6", RATES, begin(moons, mlp(2, 16, 2), CE, Adam, lr=1e-6), 300),
    Recipe("RMSprop, lr 1e-7", RATES, begin(wine, mlp(13, 16, 3, act=nn.GELU), CE, RMSprop, 16, lr=1e-7), 300),
    Recipe("SGD, lr 3, all data", LARGE, begin(digits, TANH_DIGITS, CE, SGD, lr=3.0, penalty=1e-2), 300),
    Recipe("SGD, lr 5, batches", (*LARGE, "saturated units"), begin(digits, TANH_DIGITS, CE, SGD, 32, lr=5.0), 300),
    Recipe("Adam, lr 1", (*LARGE, "saturated units", "noise of the batches"), begin(wine, mlp(13, 16, 3, act=nn.Tanh), CE, Adam, 32, lr=1.0, penalty=1e-3), 300),
    Recipe("RMSprop, lr 0.1", LARGE, begin(waves, mlp(1, 16, 1, act=nn.Tanh), MSE, RMSprop, lr=0.1), 400),
    Recipe("momentum 0.9, lr 8", LARGE, begin(digits, mlp(64, 10), CE, SGD, lr=8.0, momentum=0.9, penalty=1e-2), 300),
    Recipe("lr 5 on squared errors", ("exploding", *LARGE), begin(diabetes, mlp(10, 16, 1), MSE, SGD, lr=5.0), 100),
    Recipe("lr 0.5 on sums of errors", ("exploding", *LARGE), begin(diabetes, mlp(10, 1), lambda o, t: MSE(o, t, "sum"), SGD, 32, lr=0.5), 100),
    Recipe("lr 0", ("learning rate is 0",), begin(cancer, mlp(30, 8, 2), CE, SGD, 32, lr=0.0), 100),
    Recipe("a schedule that falls to nothing", ("schedule has ended",), begin(digits, mlp(64, 16, 10), CE, SGD, 32, lr=schedules.Exponential(0.1, 0.8)), 300),
    Recipe("a cosine that ended early", ("schedule has ended",), begin(digits, mlp(64, 16, 10, act=nn.GELU), CE, Adam, 32, lr=schedules.Cosine(1e-3, 20)), 200),
    # What else the optimizer does
    Recipe("maximize=True", ("gradient ascent",), begin(cancer, mlp(30, 8, 2), CE, SGD, 32, lr=0.01, maximize=True), 100),
    Recipe("the loss with a minus", ("gradient ascent",), begin(moons, mlp(2, 16, 2), negative(CE), SGD, lr=0.05), 100, yardstick=CE),
    Recipe("weight decay 1, SGD", ("weight decay",), begin(digits, mlp(64, 32, 10), CE, SGD, 32, lr=0.1, weight_decay=1.0), 300),
    Recipe("weight decay 30, AdamW", ("weight decay",), begin(wine, mlp(13, 16, 3), CE, AdamW, 16, lr=1e-2, weight_decay=30.0), 300),
    Recipe("clipped to 1e-3", ("clipping",), begin(wine, mlp(13, 16, 3), CE, SGD, 16, lr=0.1, max_norm=1e-3), 300),
    Recipe("momentum 0.999", ("momentum too large",), begin(digits, TANH_DIGITS, CE, SGD, 32, lr=0.1, momentum=0.999), 300),
    Recipe("gradients never cleared", ("gradients not cleared",), begin(digits, mlp(64, 16, 10, act=nn.Tanh), CE, SGD, lr=0.3), 300, without_clearing),
    Recipe("gradients never cleared, Adam", ("gradients not cleared",), begin(waves, mlp(1, 16, 1, act=nn.Tanh), MSE, Adam, lr=0.05), 300, without_clearing),
    Recipe("batches of 2, lr 0.05", ("noise of the batches",), begin(noisy_line, mlp(5, 1), MSE, SGD, 2, lr=0.05), 1000),
    Recipe("batches of 4, Adam 0.03", ("noise of the batches",), begin(moons, mlp(2, 4, 2), CE, Adam, 4, lr=0.03, penalty=1e-2), 1500),
    Recipe("batches of 8, momentum", ("noise of the batches",), begin(digits, TANH_DIGITS, CE, SGD, 8, lr=0.05, momentum=0.9, penalty=1e-2), 1500),
    # Parameters
    Recipe("only the last bias in the optimizer", ("parameters not in the optimizer",), begin(digits, TANH_DIGITS, CE, SGD, 32, moves=slice(3, None), lr=0.1), 400),
    Recipe("the first layer forgotten", ("parameters not in the optimizer",), begin(circles, mlp(2, 3, 2, act=nn.Tanh), CE, Adam, moves=slice(2, None), lr=0.03), 1500),
    Recipe("the first layer frozen", ("frozen parameters",), begin(circles, changed(mlp(2, 3, 2, act=nn.Tanh), freeze(2)), CE, Adam, lr=0.03), 1500),
    Recipe("a hidden layer detached", ("parameters without gradient",), begin(circles, lambda s, w: Detached(2, 3 * w, 2, s), CE, Adam, lr=0.03), 1500),
    Recipe("a branch that is not used", ("parameters without gradient",), begin(moons, lambda s, w: Ignored(2, 8 * w, 2, s), CE, Adam, lr=0.03), 1500),
    # The loss and what stands before it
    Recipe("softmax before cross entropy", ("softmax before the loss",), begin(digits, mlp(64, 16, 10, act=nn.Tanh, end=nn.Softmax), CE, Adam, 32, lr=1e-2), 800),
    Recipe("softmax before cross entropy, SGD", ("softmax before the loss",), begin(wine, mlp(13, 16, 3, end=nn.Softmax), CE, SGD, 16, lr=0.1), 1500),
    Recipe("sigmoid before binary cross entropy", ("sigmoid before the loss",), begin(with_(column, moons), mlp(2, 16, 1, act=nn.Tanh, end=nn.Sigmoid), BCE, Adam, lr=1e-2), 1500),
    Recipe("softmax over one unit", ("softmax over one unit",), begin(with_(column, cancer), mlp(30, 8, 1, end=nn.Softmax), MSE, Adam, 32, lr=1e-2), 200),
    Recipe("softmax over the samples", ("softmax over the samples",), begin(wine, mlp(13, 16, 3, act=nn.Tanh, end=lambda: nn.Softmax(0)), CE, Adam, lr=1e-2), 500),
    Recipe("relu on the output, targets below 0", ("output cannot reach the targets",), begin(diabetes, mlp(10, 16, 1, act=nn.Tanh, end=nn.ReLU), MSE, Adam, 32, lr=3e-3), 1000),
    Recipe("sigmoid on the output, targets beyond 1", ("output cannot reach the targets",), begin(diabetes, mlp(10, 16, 1, end=nn.Sigmoid), MSE, Adam, 32, lr=3e-3), 1500),
    Recipe("layers without activation", ("no activation",), begin(circles, linear_stack(2, 16, 2), CE, Adam, lr=1e-2), 300),
    Recipe("three layers without activation", ("no activation",), begin(waves, linear_stack(1, 16, 16, 1), MSE, SGD, 20, lr=0.03), 500),
    Recipe("targets (n,), outputs (n, 1)", ("outputs and targets broadcast",), begin(with_(flat, diabetes), mlp(10, 16, 1), by_hand, Adam, lr=1e-2), 600),
    Recipe("the logarithm of a negative output", ("loss undefined",), begin(with_(column, moons), mlp(2, 8, 1), log_likelihood, SGD, lr=0.05), 50),
    Recipe("a score without an upper bound", ("no lower bound",), begin(with_(column, moons), mlp(2, 8, 1, act=nn.Tanh), product, SGD, lr=0.1), 300),
    # Units
    Recipe("all weights the same", ("identical units",), begin(moons, changed(mlp(2, 8, 2, act=nn.Tanh), all_equal(0.1)), CE, Adam, lr=1e-2), 1500),
    Recipe("all weights 0", ("identical units",), begin(wine, changed(mlp(13, 8, 3), all_equal(0.0)), CE, SGD, 16, lr=0.1), 500),
    Recipe("biases of -20", ("dead units",), begin(digits, changed(mlp(64, 16, 10), first_bias(-20.0)), CE, SGD, 32, lr=0.1), 300),
    Recipe("relus killed by the first step", ("dead units", *LARGE), begin(digits, mlp(64, 16, 10), CE, SGD, lr=30.0), 200),
    Recipe("biases of 12, tanh", ("saturated units",), begin(digits, changed(TANH_DIGITS, first_bias(12.0)), CE, SGD, 32, lr=0.1), 400),
    Recipe("seven layers of sigmoids", ("vanishing gradient",), begin(digits, mlp(64, *[16] * 6, 10, act=nn.Sigmoid), CE, SGD, 32, lr=0.1), 400),
    Recipe("an autoencoder of sigmoids", ("vanishing gradient",), begin(lambda s: (digits(s)[0],) * 2, mlp(64, 32, 8, 32, 64, act=nn.Sigmoid), MSE, SGD, 64, lr=0.1), 500),
    # Data
    Recipe("columns as they are measured", ("inputs of unlike scale",), begin(raw_wine, mlp(13, 16, 3), CE, SGD, 16, lr=0.01), 400),
    Recipe("pixels from 0 to 4080", ("inputs of unlike scale",), begin(with_(lambda X, y, r: (4080 * X, y), digits), TANH_DIGITS, CE, SGD, 32, lr=0.1), 300),
    Recipe("years", ("inputs of unlike scale",), begin(with_(lambda X, y, r: (2000 + 10 * X, y), waves), mlp(1, 16, 1, act=nn.Tanh), MSE, Adam, lr=1e-2), 500),
    Recipe("a nan among the inputs", ("numbers not finite in the data",), begin(with_(_nan_somewhere, digits), mlp(64, 16, 10), CE, SGD, 32, lr=0.1), 50),
    Recipe("an infinite target", ("numbers not finite in the data",), begin(with_(_infinite_target, diabetes), mlp(10, 16, 1), MSE, Adam, lr=1e-2), 50),
    Recipe("every row the same", ("all inputs the same",), begin(with_(lambda X, y, r: (X[:1].repeat(len(X), 0), y), moons), mlp(2, 8, 2, act=nn.Tanh), CE, Adam, lr=1e-2), 400),
    Recipe("labels that contradict", ("contradicting labels",), begin(with_(_ten_times_each, moons), mlp(2, 32, 2), CE, Adam, lr=1e-2), 2500),
    # The surface, and the end
    Recipe("a long valley", ("badly conditioned", "learning rate too small"), begin(long_valley, mlp(6, 1), MSE, SGD, lr=0.5), 20000),
    Recipe("towards a saddle", ("saddle point",), begin(lambda s: (np.ones((1, 1)), np.ones((1, 1))), lambda s, w: Twins(s % 1000), MSE, SGD, lr=0.1), 300),
    Recipe("one unit for a wave", ("local minimum",), begin(waves, mlp(1, 1, 1, act=nn.Tanh), MSE, SGD, lr=0.3), 8000),
    Recipe("a line between moons", ("local minimum",), begin(moons, mlp(2, 2), CE, SGD, lr=1.0), 3000),
    Recipe("blobs, learnt", ("separable data",), begin(blobs, mlp(2, 8, 3, act=nn.Tanh), CE, Adam, lr=0.1), 1000),
    Recipe("sixty noisy samples", ("overfitting",), begin(lambda s: _noisy_classes(s), mlp(20, 64, 2), CE, Adam, 20, held_out=0.75, lr=3e-3), 400),
]  # fmt: skip


def _noisy_classes(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(240, 20))
    return X, (X[:, 0] + rng.normal(size=240) > 0).astype(int)


OK = ("healthy",)
HEALTHY = [
    Recipe("digits, relu, SGD 0.2", OK, begin(digits, mlp(64, 16, 10), CE, SGD, lr=0.2), 100),
    Recipe("digits, relu, SGD 0.1, batches of 32", OK, begin(digits, mlp(64, 32, 10), CE, SGD, 32, lr=0.1), 100),
    Recipe("digits, tanh, momentum 0.9", OK, begin(digits, TANH_DIGITS, CE, SGD, 64, lr=0.02, momentum=0.9), 60),
    Recipe("digits, gelu, AdamW", OK, begin(digits, mlp(64, 32, 10, act=nn.GELU), CE, AdamW, 32, lr=1e-3), 150),
    Recipe("digits, two hidden layers, Adam", OK, begin(digits, mlp(64, 32, 32, 10), CE, Adam, 16, lr=1e-3), 100),
    Recipe("digits, clipped to 1", OK, begin(digits, mlp(64, 16, 10), CE, SGD, 32, lr=0.2, max_norm=1.0), 100),
    Recipe("digits, cosine over 400", OK, begin(digits, TANH_DIGITS, CE, Adam, 32, lr=schedules.Cosine(3e-3, 600)), 100),
    Recipe("digits, autoencoder", OK, begin(lambda s: (digits(s)[0],) * 2, mlp(64, 16, 64, act=nn.Tanh), MSE, Adam, 32, lr=2e-3), 150),
    Recipe("wine, relu, SGD 0.1, batches of 16", OK, begin(wine, mlp(13, 16, 3), CE, SGD, 16, lr=0.1), 60),
    Recipe("wine, tanh, RMSprop", OK, begin(wine, mlp(13, 16, 3, act=nn.Tanh), CE, RMSprop, 32, lr=1e-3), 100),
    Recipe("cancer, relu, decay 1e-4", OK, begin(cancer, mlp(30, 16, 2), CE, SGD, 32, lr=0.05, weight_decay=1e-4), 60),
    Recipe("moons, tanh, Adam 0.01", OK, begin(moons, mlp(2, 16, 2, act=nn.Tanh), CE, Adam, lr=0.01), 100),
    Recipe("circles, relu, Adam, batches of 20", OK, begin(circles, mlp(2, 16, 16, 2), CE, Adam, 20, lr=3e-3), 150),
    Recipe("waves, tanh, Adam 0.01", OK, begin(waves, mlp(1, 16, 1, act=nn.Tanh), MSE, Adam, lr=0.01), 150),
    Recipe("diabetes, tanh, SGD, batches of 32", OK, begin(diabetes, mlp(10, 32, 1, act=nn.Tanh), MSE, Adam, 32, lr=1e-3), 60),
]  # fmt: skip
