"""The faults of unseen.py are what they are said to be. Nothing is diagnosed here. All of them: real.py."""

import pytest
from real import check
from unseen import FAULTS, HEALTHY

SOME = (
    "iris, SGD 1e-6",
    "friedman, SGD 1.5, all data",
    "clipped to 1e-4, momentum",
    "outputs rounded",
    "iris, softmax twice",
    "counts, a relu in the logarithm",
    "weights below 0, pixels above",
    "each row with both labels",
    "the wrong axis",
    "iris, SGD 0.1",
    "a loss divided by 1000, and Adam",
    "a loss below 0",
)


@pytest.mark.parametrize("name", SOME)
def test_the_fault_is_real_or_the_run_is_healthy(name):
    assert check((name, 0)).problem == ""


def test_each_has_a_name_of_its_own():
    names = [recipe.name for recipe in FAULTS + HEALTHY]
    assert len(set(names)) == len(names)
    assert {*SOME} <= {*names}


def test_a_seed_says_everything():
    for recipe in (FAULTS[0], HEALTHY[2]):
        assert recipe.make(3).loss == recipe.make(3).loss
        assert recipe.make(3).loss != recipe.make(4).loss
