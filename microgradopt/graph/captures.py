"""What a function refers to: the tensors, arrays, numbers and objects that it finds outside of its arguments.

A program traced from the function is to read the tensors and arrays anew at each call, and is right only as long as all
else is what it was. So all of it is found here, with the place where it is kept: a closure's cell, a global's entry in
its module, an attribute, an item of a list or a dictionary.

The search follows the function's own code and that of the functions it refers to; of modules and objects it looks at
what is named in this code. Of functions of libraries only the closures are followed, not the globals.
"""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Iterator
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from microgradopt.autodiff import RecordedGradient
from microgradopt.nn.module import Module
from microgradopt.optim.optimizer import Optimizer
from microgradopt.tensor import Tensor

_PATHS = sysconfig.get_paths()
_LIBRARIES = tuple({_PATHS["stdlib"], _PATHS["purelib"], _PATHS["platlib"], os.path.dirname(os.path.dirname(__file__))})
_NUMBERS_AND_WORDS = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype)


class Place(NamedTuple):
    """Where something is kept: a cell, an entry of a dictionary or a list, an attribute of something else."""

    holder: Any
    key: Any
    name: str

    def get(self) -> Any:
        """What is kept there now."""
        if isinstance(self.holder, CellType):
            return self.holder.cell_contents
        return self.holder[self.key] if isinstance(self.holder, dict | list) else getattr(self.holder, self.key)

    def put(self, value: Any) -> None:
        """Keep something else there."""
        if isinstance(self.holder, CellType):
            self.holder.cell_contents = value
        elif isinstance(self.holder, dict | list):
            self.holder[self.key] = value
        else:
            setattr(self.holder, self.key, value)


class Captures:
    """What was found. function, others: where the search begins; others are its arguments that are objects.

    places: where arrays, numbers and objects are kept that the function can reach, each once. tensors: the leaves, with
    a name for each. optimizers, containers (lists, dictionaries), generators: those that it can reach.
    """

    def __init__(self, function: Any, others: tuple[Any, ...]) -> None:
        self._names: set[str] = set()
        known = -1
        while len(self._names) > known:  # what is found may hold code that names more
            known = len(self._names)
            self.places: list[Place] = []
            self.tensors: dict[Tensor, str] = {}
            self._of_modules: set[Tensor] = set()
            self.optimizers: list[Optimizer] = []
            self.containers: list[Any] = []
            self.generators: list[np.random.Generator] = []
            self._search([("", function), *(("", x) for x in others)])

    def _search(self, start: list[tuple[str, Any]]) -> None:
        seen: set[int] = set()
        seen_places: set[tuple[int, Any]] = set()
        alive, stack = [], start[::-1]  # `alive`, so that no address is used twice
        while stack:
            name, x = stack.pop()
            if id(x) in seen or isinstance(x, _NUMBERS_AND_WORDS):
                continue
            seen.add(id(x))
            alive.append(x)
            if isinstance(x, Tensor):
                if x.is_leaf:
                    self.tensors.setdefault(x, name)
                continue
            if isinstance(x, np.random.Generator):
                self.generators.append(x)
            elif isinstance(x, Optimizer):
                self.optimizers.append(x)
                own = [p for group in x.param_groups for p in group["params"]]
                stack += [(f"parameter_{i}", p) for i, p in enumerate(own)][::-1]
            else:
                found = list(self._inside(name, x))
                for place, _ in found:
                    if place is not None and (id(place.holder), place.key) not in seen_places:
                        seen_places.add((id(place.holder), place.key))
                        self.places.append(place)
                stack += [(place.name if place else name, value) for place, value in found[::-1]]

    def _inside(self, name: str, x: Any) -> Iterator[tuple[Place | None, Any]]:
        """What an object refers to, and where that is kept; None where it cannot change."""
        if isinstance(x, FunctionType):
            yield from self._of_function(x)
        elif isinstance(x, MethodType):
            self._read(x.__func__.__code__)
            yield None, x.__self__
            yield None, x.__func__
        elif isinstance(x, functools.partial):
            yield from ((None, part) for part in (x.func, *x.args))
            yield from _entries(x.keywords, name, x.keywords)
        elif isinstance(x, tuple | set | frozenset):
            yield from ((None, part) for part in x)
        elif isinstance(x, list):
            self.containers.append(x)
            yield from ((Place(x, i, f"{name}_{i}"), part) for i, part in enumerate(x))
        elif isinstance(x, dict):
            self.containers.append(x)
            yield from _entries(x, name, x)
        elif isinstance(x, ModuleType):
            if not _is_library(getattr(x, "__file__", None)):
                yield from _entries(vars(x), "", self._names & vars(x).keys())
        elif not isinstance(x, type | np.ndarray | BuiltinFunctionType | np.ufunc | RecordedGradient):
            yield from self._of_object(name, x)

    def _of_function(self, function: FunctionType) -> Iterator[tuple[Place | None, Any]]:
        code = function.__code__
        named = self._read(code)
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if cell != CellType():  # an empty one is not filled yet
                yield Place(cell, None, variable), cell.cell_contents
        if not _is_library(code.co_filename):
            yield from _entries(function.__globals__, "", named & function.__globals__.keys())
        if function.__defaults__:
            yield Place(function, "__defaults__", "default"), function.__defaults__
        yield from _entries(function.__kwdefaults__ or {}, "", function.__kwdefaults__ or {})

    def _of_object(self, name: str, x: Any) -> Iterator[tuple[Place | None, Any]]:
        """The attributes of an object that some code names; and what its own methods name."""
        own = getattr(x, "__dict__", {})
        if "__wrapped__" in own:  # a compiled function is what it was made of, not the programs that it holds
            yield None, own["__wrapped__"]
            return
        if isinstance(x, Module):  # its own names for its parameters go before all others
            self.tensors.update({p: label for label, p in x.named_parameters() if p not in self._of_modules})
            self._of_modules.update(x.parameters())
        for cls in type(x).__mro__[:-1]:
            for key, method in vars(cls).items():
                if key in self._names and isinstance(method, (*_NUMBERS_AND_WORDS, np.ndarray)):
                    yield Place(cls, key, key), method
                method = method.fget if isinstance(method, property) else method
                if isinstance(method, FunctionType) and (key in self._names or key in ("__call__", "forward")):
                    self._read(method.__code__)
                    if not _is_library(method.__code__.co_filename):
                        yield None, method
        prefix = f"{name}." if name else ""
        caches = getattr(type(x), "caches", ())
        for key in [key for key in own if key in self._names and key not in caches]:
            yield Place(own, key, prefix + key), own[key]

    def _read(self, code: CodeType) -> set[str]:
        """The names in a function's code, and in that of functions defined in it. They are remembered."""
        named = set(code.co_names)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                named |= self._read(constant)
        self._names |= named
        return named


def _entries(holder: dict[str, Any], name: str, keys: Any) -> Iterator[tuple[Place, Any]]:
    """Entries of a dictionary, in its own order."""
    return ((Place(holder, key, f"{name}_{key}" if name else str(key)), holder[key]) for key in holder if key in keys)


def _is_library(filename: str | None) -> bool:
    return filename is None or filename.startswith((*_LIBRARIES, "<frozen"))
