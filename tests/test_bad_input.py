"""What bad input to the engine gets: an error that says what was wrong, at the call, with nothing changed."""

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor


def needing(values, dtype=None):
    return Tensor(values, dtype, requires_grad=True)


# Into NumPy, and out of it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        np.array,
        np.asanyarray,
        lambda x: np.asarray(x, dtype=np.float32),
        lambda x: np.array([x, x]),
        lambda x: np.full(3, x),
        lambda x: x.numpy(),
        lambda x: np.zeros(2).__setitem__(slice(None), x),
        lambda x: np.random.default_rng(0).normal(x),
    ],
)
@pytest.mark.parametrize("make", [lambda: needing([1.0, 2.0]), lambda: needing([1.0, 2.0]) * 2.0])
def test_an_array_of_what_needs_a_gradient_is_refused_with_the_ways_out(convert, make):
    with pytest.raises(TypeError, match=r"np\.stack.*np\.block.*np\.full_like.*\.item\(\), \.data, or \.detach\(\)"):
        convert(make())


# Refusals -------------------------------------------------------------------------------------------------------------


def test_elements_are_not_assigned():
    x = needing([1.0, 2.0])
    with pytest.raises(TypeError, match=r"in place.*np\.where"):
        x[0] = 5.0
    assert x.tolist() == [1.0, 2.0]


def test_there_are_no_subclasses_and_no_further_attributes():
    with pytest.raises(TypeError, match="final"):
        type("Special", (Tensor,), {})
    with pytest.raises(AttributeError):
        needing([1.0]).colour = "red"


WRITERS = {
    "copyto": lambda x: np.copyto(x, 5.0),
    "put": lambda x: np.put(x, [0], 5.0),
    "place": lambda x: np.place(x, np.array([True, False]), 5.0),
    "putmask": lambda x: np.putmask(x, np.array([True, False]), 5.0),
    "fill_diagonal": lambda x: np.fill_diagonal(np.atleast_2d(x), 5.0),
    "add.at": lambda x: np.add.at(x, [0], 5.0),
    "out= of a function with a rule": lambda x: np.exp(np.zeros(2), out=x),
    "out= of a reduction": lambda x: np.sum(np.ones((2, 2)), axis=0, out=x),
    "out= of a question": lambda x: np.isnan(np.ones(2), out=x),
    "out= of a function without a rule": lambda x: np.nextafter(np.ones(2), 2.0, out=x),
}


@pytest.mark.parametrize("requires_grad", [True, False])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_numpy_cannot_write_into_a_tensor_behind_the_clock(write, requires_grad):
    x = Tensor([1.0, 2.0], requires_grad=requires_grad)
    with pytest.raises((TypeError, ValueError)):
        write(x)
    with mg.no_grad(), pytest.raises((TypeError, ValueError)):
        write(x)
    assert x.tolist() == [1.0, 2.0]
