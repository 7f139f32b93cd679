"""One walk over nested lists, tuples, named tuples, dicts, dataclasses and slices."""

from __future__ import annotations

import copy
import dataclasses
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def children(x: Any) -> list[Any] | None:
    """What is directly inside of a container, in order; None for what is no container."""
    if isinstance(x, list | tuple):
        return list(x) if type(x) in (list, tuple) or hasattr(x, "_fields") else None
    if type(x) in (dict, OrderedDict, defaultdict):
        return list(x.values())
    if type(x) is slice:
        return [x.start, x.stop, x.step]
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return [getattr(x, field.name) for field in dataclasses.fields(x)]
    return None


def structure(x: Any) -> Any:
    """What tells a container from another one with as many children: its type, and the keys of a dict."""
    return type(x), tuple(x) if isinstance(x, dict) else len(children(x) or ())


def with_children(x: Any, parts: Iterable[Any]) -> Any:
    """A container like x with other children."""
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*parts)
    if isinstance(x, list | tuple):
        return type(x)(parts)
    if type(x) is slice:
        return slice(*parts)
    other = copy.copy(x)
    if isinstance(x, dict):
        other.update(zip(x, parts, strict=True))
    else:
        for field, part in zip(dataclasses.fields(x), parts, strict=True):
            object.__setattr__(other, field.name, part)
    return other


def leaves(x: Any) -> Iterator[Any]:
    """All that is inside and is no container, in order."""
    found = children(x)
    if found is None:
        yield x
    else:
        for part in found:
            yield from leaves(part)


def mapped(function: Callable[[Any], Any], x: Any) -> Any:
    """The same containers with function(leaf) in place of each leaf; x itself, where all leaves stay what they are."""
    found = children(x)
    if found is None:
        return function(x)
    parts = [mapped(function, part) for part in found]
    return x if all(map(operator.is_, parts, found)) else with_children(x, parts)
