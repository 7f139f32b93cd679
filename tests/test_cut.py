"""A gradient is never cut without a word: a tensor does not become a plain number or array, and the error says how."""

import array
import math

import numpy as np
import pytest
from scipy import integrate, optimize

import microgradopt as mg
from microgradopt import Tensor


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


def chain(error):
    """The text of an error and of those that it came from."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return " ".join(texts)


def euler(p):
    y = np.zeros(20)
    y[0] = 1.0
    for i in range(19):
        y[i + 1] = y[i] - 0.1 * p[0] * y[i]
    return np.sum((y - 1) ** 2) + 0.01 * np.sum(p**2)


W = needing([1.5, 0.3])
CUTS = {
    "an element of an array": lambda: euler(needing([0.7])),
    "an element by a tuple": lambda: np.zeros((2, 2)).__setitem__((0, 1), W[0]),
    "a slice": lambda: np.zeros(3).__setitem__(slice(0, 2), W[0]),
    "a mask": lambda: np.zeros(2).__setitem__(np.array([True, False]), W[0]),
    "put": lambda: np.put(np.zeros(2), 0, W[0]),
    "fill": lambda: np.zeros(2).fill(W[0]),
    "fill_diagonal": lambda: np.fill_diagonal(np.zeros((2, 2)), W[0]),
    "full": lambda: np.full(3, W[0]),
    "fromiter": lambda: np.fromiter((v for v in W), float),
    "array.array": lambda: array.array("d", list(W)),
    "math.exp": lambda: math.exp(W[0]) * W[0],
    "math.hypot": lambda: math.hypot(W[0], W[1]),
    "math.fsum": lambda: math.fsum(W),
    "float": lambda: float(W[0]),
    "int": lambda: int(W[0]),
    "complex": lambda: complex(W[0]),
    "np.float64": lambda: np.float64(W[0]),
    "quad": lambda: integrate.quad(lambda x: x * W[0], 0, 1),
    "brentq": lambda: optimize.brentq(lambda x: x - W[0], 0, 2),
    "np.array of a list": lambda: np.array([W[0], W[1]]),
    "np.array of lists": lambda: np.array([[W[0], 0.0], [0.0, W[1]]]),
    "sum of a list": lambda: np.sum([W[0], W[1]]),
    "mean of a list": lambda: np.mean([W, W], axis=0),
    "max of a list": lambda: np.max([W[0], W[1]]),
    "dot with a list": lambda: np.dot([W[0], W[1]], [1.0, 2.0]),
    "exp of a list": lambda: np.exp([W[0], W[1]]),
    "times a list": lambda: W * [W[0], W[1]],
    "diag of a list": lambda: np.diag([W[0], W[1]]),
    "r_": lambda: np.r_[W[0], 1.0],
    "vectorize": lambda: np.vectorize(lambda x: x * W[0])(np.ones(2)),
    "Tensor of a list": lambda: Tensor([W[0], W[1]]),
}


@pytest.mark.parametrize("name", CUTS)
def test_is_refused_with_the_way_out(name):
    with pytest.raises((TypeError, ValueError, SystemError)) as caught:  # the last is what SciPy makes of it
        CUTS[name]()
    assert "np.stack" in chain(caught.value)
    assert "np.exp for math.exp" in chain(caught.value)
    assert ".item()" in chain(caught.value)


def test_the_way_out_leads_to_the_right_gradient():
    """Euler's method with a list and np.stack: yᵢ = (1 − 0.1 p)ⁱ. Against central differences of that."""

    def listed(p):
        y = [1.0]
        for _ in range(19):
            y.append(y[-1] - 0.1 * p[0] * y[-1])
        return np.sum((np.stack(y) - 1) ** 2) + 0.01 * np.sum(p**2)

    p = needing([0.7])
    value = lambda p: sum(((1 - 0.1 * p) ** i - 1) ** 2 for i in range(20)) + 0.01 * p**2  # noqa: E731
    numeric = (value(0.7 + 1e-6) - value(0.7 - 1e-6)) / 2e-6
    assert mg.grad(listed(p), p)[0][0] == pytest.approx(numeric, rel=1e-8)


def test_numbers_that_are_meant_stay():
    x = needing([1.0])
    assert (x * 2).sum().item() == 2.0
    assert float((x * 2).sum().detach()) == 2.0
    with mg.no_grad():
        assert float((x * 2).sum()) == 2.0
        assert np.asarray(x).tolist() == [1.0]
        assert np.array([x[0], x[0]]).tolist() == [1.0, 1.0]
    assert f"{(x * 2).sum():.2f}" == "2.00"
    assert "1." in repr(x)
    assert "1." in str(x)


def test_masked_arrays_are_refused():
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    for call in (
        lambda: masked * needing([1.0, 2.0]), lambda: needing([1.0, 2.0]) * masked, lambda: np.maximum(masked, needing([1.0, 2.0])),
        lambda: np.where([True, False], masked, needing([1.0, 2.0])), lambda: Tensor(masked),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            call()


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrices_whose_product_is_another_are_refused():
    """``array * matrix`` is a product of matrices, and the slope recorded for it was that of elementwise products."""
    matrix = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    x = needing([[2.0, 0.0], [0.0, 2.0]])
    for call in (
        lambda: x * matrix, lambda: matrix * x, lambda: x @ matrix, lambda: np.multiply(x, matrix), lambda: x.detach() * matrix,
        lambda: np.where(x.data > 0, x, matrix),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"np\.asarray\(x\) makes an array of it"):
            call()
    assert (x * Tensor(matrix)).data.tolist() == [[2, 0], [0, 8]]


@pytest.mark.parametrize("weight", [np.array([1 + 5j]), [1j], np.array(["a"])])
def test_cotangents_and_vectors_are_real(weight):
    x = needing([1.0])
    with pytest.raises(TypeError, match="real numbers are wanted"):
        mg.grad(x * 1.0, x, [weight])
    with pytest.raises(TypeError, match="real numbers are wanted"):
        (x * 1.0).backward(np.asarray(weight))
    with pytest.raises(TypeError, match="real numbers are wanted"):
        mg.hvp((x**3).sum(), x, [np.asarray(weight)])


def test_full_like_repeats_a_tensor():
    """Σ s·s over three elements: 3 s², with derivative 6 s = 12. A plain number gives a plain array to write into."""
    s = needing(2.0)
    assert mg.grad(np.sum(np.full_like(needing([1.0, 2.0, 3.0]), s) * s), s)[0] == 12.0
    plain = np.full_like(needing([1.0, 2.0]), 0.5)
    plain[0] = 1.0
    assert type(plain) is np.ndarray
    with pytest.raises(TypeError):
        np.full_like(needing([1.0]), s, dtype=int)


def test_a_gradient_left_by_another_loss_is_not_shown():
    w = needing(3.0)
    first = w * w
    first.backward()
    assert "grad 6" in mg.draw(first, names={"w": w}, style="scalar").source
    w.data = 5.0
    assert "grad 6" not in mg.draw(w * w, names={"w": w}, style="scalar").source
    loss = w * w
    loss.backward()
    assert "grad 10" not in mg.draw(loss, names={"w": w}, style="scalar").source  # 16: of two losses together
    w.grad = None
    loss.backward()
    assert "grad 10" in mg.draw(loss, names={"w": w}, style="scalar").source
    assert "grad 10" not in mg.draw(w * 2.0, names={"w": w}, style="scalar").source
