"""Some of the stuck runs, at one seed: the cause is named, and where there is a cure it helps. All: benchmark.py."""

import numpy as np
import pytest
from benchmark import better, judged, report
from runs import FAULTS, HEALTHY
from thresholds import known

import microgradopt as mg

SOME = (
    "SGD, lr 1e-5",
    "RMSprop, lr 0.1",
    "lr 5 on squared errors",
    "a cosine that ended early",
    "weight decay 30, AdamW",
    "batches of 2, lr 0.05",
    "the first layer frozen",
    "softmax over the samples",
    "sigmoid on the output, targets beyond 1",
    "layers without activation",
    "seven layers of sigmoids",
    "pixels from 0 to 4080",
    "a score without an upper bound",
    "towards a saddle",
    "sixty noisy samples",
    "digits, clipped to 1",
    "cancer, relu, decay 1e-4",
)


@pytest.mark.long
@pytest.mark.parametrize("name", SOME)
def test_the_cause_is_named_and_the_advice_helps(name):
    recipe = next(r for r in FAULTS + HEALTHY if r.name == name)
    outcome = judged(recipe, 0)
    assert outcome.named, outcome.verdict
    assert outcome.advised is None or better(outcome.advised, outcome.before)


def test_there_are_as_many_as_promised():
    assert len(FAULTS) >= 35
    assert len(HEALTHY) >= 15
    names = [recipe.name for recipe in FAULTS + HEALTHY]
    assert len(set(names)) == len(names)
    assert {*SOME} <= {*names}


def test_the_report_counts():
    text = report([judged(FAULTS[0], 0), judged(HEALTHY[8], 2)])
    assert "| cause named | 1 of 1 | 0 of 0 | 1 of 1 |" in text
    assert "| healthy left alone | 0 of 0 | 1 of 1 | 1 of 1 |" in text


def test_every_threshold_is_listed_with_its_meaning():
    found = known()
    names = [name for name in vars(mg.diagnosis.thresholds) if name.isupper()]
    assert [name for name, _, _ in found] == names
    assert all(meaning and np.isfinite(value) for _, value, meaning in found)
