"""
The whole engine in a hundred lines: from a tensor to the kind of a critical point
==================================================================================

All that the library is about, at its smallest: a tensor that remembers how it was computed, the derivative rules of
thirteen functions, the reverse sweep, gradients of gradients, two optimizers, and the kind of a critical point. From
``class Tensor`` to ``classify`` there are a hundred lines of code (without blank lines, comments and docstrings). Read
them from top to bottom. Then the engine is used: on the lecture's net, and to train a network on two half moons.

It is also a map of the library: each part names the file that does it in full, and what that file adds. On the same
program, engine and library give the same gradients, bit for bit (``tests/test_hundred_lines.py``).

A few seconds: ``python demos/00_hundred_lines.py``
"""

import itertools
import math

import numpy as np
from lab import moons, options, panels, save, table
from numpy import matrix_transpose as transpose
from numpy.lib.mixins import NDArrayOperatorsMixin

import microgradopt as mg
from microgradopt import nn, optim, plots
from microgradopt.training import accuracy, trajectory

# sphinx_gallery_thumbnail_path = "results/00_hundred_lines_thumbnail.png"
run = options(__doc__)

# %%
# A tensor remembers
# ------------------
#
# NumPy asks its arguments before it computes: an object that has the methods ``__array_ufunc__`` and
# ``__array_function__`` is handed the call instead. So ``np.tanh(x)`` on a Tensor comes to us. We compute the value,
# and keep the call: the function and its arguments. The mixin turns operators into such calls: ``x * y`` becomes
# ``np.multiply(x, y)``. Every tensor gets a number, and what is computed later has a higher one.
#
# In full: ``microgradopt/tensor.py``, which adds indexing, float32, constants that need no gradient, and an error where
# a gradient would be lost without a word. ``microgradopt/array_methods.py`` adds ndarray's methods, such as
# ``x.cumsum()``.


class Tensor(NDArrayOperatorsMixin):
    """An array that remembers the NumPy call that made it. A leaf was made by none."""

    numbers = itertools.count()

    def __init__(self, value, function=None, args=(), kwargs=None):
        self.value = np.asarray(value, float)
        self.shape = self.value.shape
        self.function, self.args, self.kwargs = function, args, kwargs
        self.number = next(Tensor.numbers)

    def __array_ufunc__(self, function, method, *args):
        return recorded(function, args, {}) if method == "__call__" else NotImplemented

    def __array_function__(self, function, types, args, kwargs):
        return recorded(function, args, kwargs)


def recorded(function, args, kwargs):
    """Compute a call on the values. The result remembers the call."""
    if function not in RULES:
        raise TypeError(f"{function.__name__} has no derivative rule")
    return Tensor(function(*map(plain, args), **kwargs), function, args, kwargs)


def plain(x):
    """The value of a tensor; all else as it is."""
    return x.value if isinstance(x, Tensor) else x


# %%
# Thirteen functions, and their rules
# -----------------------------------
#
# Let ``out`` be the result of a call, and ``g`` the derivative of the loss by ``out`` (its *cotangent*). A rule gives
# the cotangent of one argument. It is plain NumPy. On arrays it gives numbers. On tensors it gives tensors, which
# remember how they were computed: a gradient that has a gradient itself. For this reason the functions that rules use
# need rules too: ``transpose`` for the rules of ``matmul``, ``broadcast_to`` and ``reshape`` for that of ``sum``.
#
# Twelve of the functions are NumPy's. A function of our own can have a rule as well: the log softmax of a score x is
# x − log Σ exp(x), and its derivative follows from the result in one line. The largest score is taken off first, so
# that exp does not overflow.
#
# In full: ``microgradopt/rules/``, which has rules for over two hundred functions.
# ``microgradopt/rules/elementwise.py`` says what the derivative is at a kink (abs at 0), and where 0 meets ∞.
# ``microgradopt/rules/registry.py`` keeps, for each function, where it is not smooth.


def spread(g, shape, axis):
    """Undo a sum: every summand gets the cotangent of its sum. axis: what was summed over."""
    summed = range(len(shape)) if axis is None else np.atleast_1d(axis) % len(shape)
    kept = [1 if i in summed else n for i, n in enumerate(shape)]
    return np.broadcast_to(np.reshape(g, kept), shape)


def log_softmax(x):
    """The logarithms of the probabilities, of scores along the last axis."""
    if isinstance(x, Tensor):
        return recorded(log_softmax, (x,), {})
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


RULES = {
    np.add: (lambda g, out, x, y: g, lambda g, out, x, y: g),
    np.subtract: (lambda g, out, x, y: g, lambda g, out, x, y: -g),
    np.multiply: (lambda g, out, x, y: g * y, lambda g, out, x, y: g * x),
    np.divide: (lambda g, out, x, y: g / y, lambda g, out, x, y: -(g / y) * (x / y)),
    np.negative: (lambda g, out, x: -g,),
    np.exp: (lambda g, out, x: g * out,),
    np.tanh: (lambda g, out, x: g * (1 - out * out),),
    np.matmul: (lambda g, out, x, y: g @ transpose(y), lambda g, out, x, y: transpose(x) @ g),
    transpose: (lambda g, out, x: transpose(g),),
    np.sum: (lambda g, out, x, axis=None, keepdims=False: spread(g, x.shape, axis),),
    np.broadcast_to: (lambda g, out, x, shape: g,),
    np.reshape: (lambda g, out, x, shape: np.reshape(g, x.shape),),
    log_softmax: (lambda g, out, x: g - np.exp(out) * np.sum(g, axis=-1, keepdims=True),),
}


# %%
# The reverse sweep
# -----------------
#
# The chain rule, from the loss back to the parameters. Each tensor hands a share to every argument of the call that
# made it. A tensor may have been used several times; its cotangent is the sum of its shares. Only when all of them are
# there may it hand on. That is why the newest tensor comes first: whatever used a tensor is newer than it. There is no
# recursion, so no computation is too deep. The cotangents live in a dictionary, which ends with the sweep.
#
# In full: ``microgradopt/sweep.py``, which sorts the tensors once, visits only those that lead to the inputs, and
# raises an error where a value that it needs has been overwritten.


def grad(outputs, inputs, cotangents, record=False):
    """The derivatives of the outputs, weighted by their cotangents and summed, by each input.

    record: let the rules run on tensors, so that the derivatives can be differentiated again.
    """
    held, waiting = {}, {}
    for x, g in zip(outputs, cotangents, strict=True):
        hand_over(g, x, held, waiting)
    while waiting:
        node = waiting.pop(max(waiting))  # the newest
        g = held[node.number]
        out, args = (node, node.args) if record else (node.value, [plain(x) for x in node.args])
        for x, rule in zip(node.args, RULES.get(node.function, ()), strict=False):
            if isinstance(x, Tensor):
                hand_over(rule(g, out, *args, **node.kwargs), x, held, waiting)
    return [held.get(x.number, np.zeros(x.shape)) for x in inputs]


def hand_over(share, x, held, waiting):
    """Add a share to the cotangent of x, whose turn comes later."""
    if share.shape != x.shape:
        share = unbroadcast(share, x.shape)
    held[x.number] = held[x.number] + share if x.number in held else share
    waiting[x.number] = x


def unbroadcast(g, shape):
    """Broadcasting copies a value. Its cotangent is the sum over the copies."""
    aligned = (1,) * (len(g.shape) - len(shape)) + shape
    copied = tuple(i for i, n in enumerate(aligned) if n != g.shape[i])
    return np.reshape(np.sum(g, axis=copied), shape)


# %%
# A loss as a function of θ
# -------------------------
#
# Formulas speak of one vector θ, programs of several weights. ``split`` and ``join`` go from one to the other. For the
# Hessian H the gradient g is recorded, once. Then ∇(gᵀv) = H v, and with v = (0, …, 1, …, 0) that is one column of H.
#
# In full: ``microgradopt/autodiff.py``, which adds Jacobians, and computes many columns of H at once.
# ``microgradopt/objective.py`` adds the losses of models. Where H is too large to be formed,
# ``microgradopt/curvature/lanczos.py`` finds the ends of its spectrum by products H v alone.


class Objective:
    """L(θ) and its derivatives. loss: takes tensors of the given shapes, gives a scalar Tensor."""

    def __init__(self, loss, shapes):
        self.loss, self.shapes = loss, shapes

    def split(self, theta):
        """One flat vector as arrays of the shapes."""
        parts = np.split(theta, np.cumsum([math.prod(shape) for shape in self.shapes])[:-1])
        return [np.reshape(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def value_and_gradient(self, theta):
        """L, and its gradient as one flat vector."""
        parameters = [Tensor(part) for part in self.split(theta)]
        loss = self.loss(*parameters)
        return loss.value, join(grad([loss], parameters, [np.ones(())]))

    def hessian(self, theta):
        """All second derivatives, column by column."""
        parameters = [Tensor(part) for part in self.split(theta)]
        gradients = grad([self.loss(*parameters)], parameters, [np.ones(())], record=True)
        gradients = [g if isinstance(g, Tensor) else Tensor(g) for g in gradients]  # constants
        columns = [join(grad(gradients, parameters, self.split(v))) for v in np.eye(len(theta))]
        return np.stack(columns, axis=1)


def join(arrays):
    """Arrays of any shapes as one flat vector."""
    return np.concatenate([np.ravel(x) for x in arrays])


# %%
# Two optimizers
# --------------
#
# Each is its formula on the vector θ. What it keeps from step to step is in ``state``, empty at first. Adam's step is
# η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε). Numerator and denominator are multiplied by 1 − β₁ᵗ here, as in the
# library: that leaves fewer operations on vectors.
#
# In full: ``microgradopt/optim/first_order.py``, which adds Nesterov's look-ahead and the lecture's own momentum, and
# ``microgradopt/optim/adaptive.py``, which adds the lecture's Root Mean Square and Adam's relatives.
# ``microgradopt/optim/optimizer.py`` has what all of them share: groups of parameters, schedules for η, and saving.


def sgd(theta, g, state, lr, momentum=0.0):
    """Gradient descent with momentum μ: b ← μ b + g, θ ← θ − η b."""
    b = state["b"] = momentum * state.get("b", 0.0) + g
    return theta - lr * b


def adam(theta, g, state, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """Averages of g and of g² that forget, both corrected for having started at 0."""
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    v = state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * (g * g)
    first, second = 1 - beta1**t, 1 - beta2**t
    return theta - lr * (m / (first / second**0.5 * np.sqrt(v) + first * eps))


# %%
# A saddle, or a minimum?
# -----------------------
#
# Where the gradient is 0, the signs of the eigenvalues of H decide. If some are negative and some are positive, it is a
# saddle. If all are positive, it is a minimum. An eigenvalue of 0 decides nothing. What counts as 0 is a guess here: a
# millionth for the gradient, a billionth of the largest for an eigenvalue.
#
# In full: ``microgradopt/critical/verdict.py``, which measures the rounding errors, follows flat directions, looks for
# kinks, and tests its verdict at points nearby. ``microgradopt/critical/escape.py`` finds the way down from a saddle.


def classify(objective, theta):
    """The kind of a point, and the eigenvalues of the Hessian there, in ascending order."""
    _, g = objective.value_and_gradient(theta)
    values = np.linalg.eigvalsh(objective.hessian(theta))
    if np.linalg.norm(g) > 1e-6:
        return "not critical", values
    zero = 1e-9 * np.max(np.abs(values))
    if values[0] < -zero and values[-1] > zero:
        return "saddle point", values
    if np.min(np.abs(values)) <= zero:
        return "degenerate", values
    return "local minimum" if values[0] > 0 else "local maximum", values


# %%
# That was all of it
# ------------------
#
# From here on the engine is used. First the lecture's net, y = w₁ · w₂ · x with one sample x = 1, y = 1, so
# L = (1 − w₁w₂)². At the origin there is a saddle. At (1, 1) the loss is 0, and so it is on the whole curve w₁w₂ = 1:
# one direction is flat, and the second derivatives do not decide. The library follows the curve, and finds a minimum.
# With a penalty of 0.1 (w₁² + w₂²) one point of the curve is lower than its neighbours, and the signs decide.


def lecture(w1, w2):
    """The loss of the lecture's net."""
    error = 1 - w1 * w2
    return error * error


def penalised(w1, w2):
    """The same, with a penalty."""
    return lecture(w1, w2) + 0.1 * (w1 * w1 + w2 * w2)


rows = []
for name, loss, theta in (
    ("L", lecture, np.zeros(2)),
    ("L", lecture, np.ones(2)),
    ("L + penalty", penalised, np.zeros(2)),
    ("L + penalty", penalised, np.full(2, np.sqrt(0.9))),
):
    kind, values = classify(Objective(loss, [(), ()]), theta)
    library = mg.critical.classify(mg.Objective(lambda w, loss=loss: loss(w[0], w[1]), theta))
    rows.append((name, "({:.3g}, {:.3g})".format(*theta), "{:.3g}, {:.3g}".format(*values), kind, library.kind))
table(["loss", "at", "eigenvalues", "kind, by the signs", "kind, by the library"], rows)

# %%
# A new function is one line
# --------------------------
#
# NumPy's log is not in the table yet. Its rule says that the derivative is 1/x. The second derivative, −1/x², follows
# from the rule of ``divide``.
#
# In full: ``mg.rules.derivative`` in ``microgradopt/rules/registry.py``, which adds checks of the rule, and asks where
# the function is not smooth.

RULES[np.log] = (lambda g, out, x: g / x,)
logarithm = Objective(np.log, [()])
slope, bend = logarithm.value_and_gradient(np.array([2.0]))[1], logarithm.hessian(np.array([2.0]))
print(f"log at 2: the derivative {slope.item():g}, the second derivative {bend.item():g}\n")

# %%
# Two half moons
# --------------
#
# A network of two hidden layers. The order of its weights in θ is that of the library. So the library's own network can
# start at the same θ, and train beside ours. After all steps the two are in the same place, or, where the matrix
# products of the computer add in another order, as far apart as rounding has brought them.
#
# In full: ``microgradopt/nn/layers.py``, which adds modules that hold their weights, and ``microgradopt/nn/losses.py``,
# which adds other losses, and labels in place of rows of 0 and 1. ``microgradopt/samples.py`` adds batches,
# ``microgradopt/training.py`` histories and early stopping.

data, sizes = moons(run.seed), (2, 16, 16, 2)
right = np.eye(2)[data.y]
rng = np.random.default_rng(run.seed)
shapes, weights = [], []
for inputs, outputs in itertools.pairwise(sizes):
    for shape in ((outputs, inputs), (outputs,)):
        shapes.append(shape)
        weights.append(rng.uniform(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), shape))
start = join(weights)


def scores(x, *parameters):
    """The network: x Wᵀ + b in each layer, and tanh between two layers. Gives one score for each class."""
    for i, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        x = (np.tanh(x) if i else x) @ transpose(weight) + bias
    return x


def cross_entropy(*parameters):
    """Minus the logarithm of the probability of the right class, as the mean over the samples."""
    losses = -np.sum(right * log_softmax(scores(data.X, *parameters)), axis=1)
    return np.sum(losses) / len(right)


network = Objective(cross_entropy, shapes)
steps = 200 if run.quick else 600


def at(theta, x):
    """The scores as an array: on plain arrays nothing is remembered."""
    return scores(x, *network.split(theta))


def train(update, **hyperparameters):
    """θ after all steps, and the loss before each."""
    theta, state, losses = start, {}, []
    for _ in range(steps):
        value, g = network.value_and_gradient(theta)
        losses.append(float(value))
        theta = update(theta, g, state, **hyperparameters)
    return theta, losses


model = nn.MLP(sizes, nn.Tanh, rng=run.seed)
library = mg.Objective.of(model, lambda: nn.cross_entropy(model(data.X), data.y))
rows, curves = [], {}
for name, ours, theirs, hyperparameters in (
    ("SGD with momentum", sgd, optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    ("Adam", adam, optim.Adam, {"lr": 0.01}),
):
    theta, curves[name] = train(ours, **hyperparameters)
    library.theta = start
    difference = np.abs(trajectory(library, theirs(model.parameters(), **hyperparameters), steps)[-1] - theta).max()
    loss, _ = network.value_and_gradient(theta)
    rows.append((name, float(loss), accuracy(at(theta, data.X), data.y), difference))
print(f"{len(start)} parameters, {steps} steps")
table(["optimizer", "loss", "accuracy", "largest difference from the library's θ"], rows)

# %%
# The loss on the way, and what the network, as Adam has left it, thinks of every place in the plane.

figure, axes = panels(1, 2)
plots.decision_boundary(lambda points: at(theta, points), *data, axes[0])
axes[0].set_title(f"Adam, after {steps} steps: accuracy {rows[-1][2]:.1%}")
for name, losses in curves.items():
    axes[1].semilogy(losses, label=name)
axes[1].set_xlabel("step")
axes[1].set_ylabel("loss")
axes[1].set_title("Two optimizers, from the same start")
axes[1].legend()
save(figure, run.out / "00_hundred_lines.png", thumbnail=axes[0])
