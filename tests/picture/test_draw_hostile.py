"""Anything that a user can write as a name is shown as it is."""

from __future__ import annotations

import re

import dot_parser
import numpy as np
import pytest
from dot_parser import HOSTILE
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import microgradopt as mg
from microgradopt import nn
from microgradopt.picture import draw


def needing(value):
    return mg.Tensor(value, requires_grad=True)


def read(thing, *args, **options):
    return dot_parser.parse(draw(thing, *args, **options).source)


@pytest.mark.parametrize("style", ["arrays", "scalar"])
@settings(max_examples=60)
@given(name=st.text(min_size=1, max_size=30), other=st.sampled_from(HOSTILE))
@example(name="0.A", other="<b>")
@example(name="\ud800\x00\n\u202e", other="<b>")
def test_any_name_is_what_the_label_says(name, other, style):
    assume(name != other)  # one name is one tensor's
    x, y = needing(1.0), needing(2.0)
    dot = read(x * y, {name: x, other: y}, style=style)
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name).replace("\u2060", "")
    seen = dot.label("n0")[0]
    is_path = re.fullmatch(r"(\w+\.)+[^\W\d]\w*", name)  # as "0.weight", which is written as programs write it
    if name.rstrip("0123456789") != "p" and not is_path:  # such names are those of nameless parameters
        assert seen == printable
    assert len(dot.nodes) == (3 if style == "arrays" else 4)


def test_an_empty_name_is_none_and_a_long_one_shows_both_ends():
    x = needing(1.0)
    assert read(x, {"": x}).label("n0")[0] == "float64"
    name = read(x, {"a" * 500 + "z": x}).label("n0")[0]
    assert name.startswith("aaa")
    assert name.endswith("aaz")
    assert len(name) < 100


@pytest.mark.parametrize("name", [*HOSTILE, "." * 3000, "a..b", "."])
def test_any_name_of_a_module(name):
    model = nn.Linear(2, 1, rng=0)
    dot = read(model(np.ones((1, 2))), names={name: model})
    titles = [dot_parser.lines(each.attributes["label"])[0] for key, each in dot.clusters.items() if key]
    if "." not in name:
        assert titles == [f"{name}: Linear"]
    assert len(titles) <= 16
