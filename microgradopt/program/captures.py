"""What a function refers to: the tensors, arrays, numbers and objects that it finds outside of its arguments.

A program traced from the function is to read the tensors and arrays anew at each call, and is right only as long as all
else is what it was. So all of it is found here, with the place where it is kept: a closure's cell, a global's entry in
its module, an attribute, an item of a list or a dictionary.

The search follows the function's own code and that of the functions it refers to; of modules and objects it looks at
what is named in this code. Of functions of libraries only the closures are followed, not the globals. A second search
knows what code has run, and follows this alone; also that to which no name leads (a constructor, a comparison of
dataclasses).
"""

from __future__ import annotations

import collections
import datetime
import decimal
import dis
import enum
import fractions
import functools
import re
import sys
import weakref
from collections.abc import Container, Iterable, Iterator
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GenericAlias,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple

import numpy as np

from microgradopt.autodiff import RecordedGradient
from microgradopt.graph.graph import Graph
from microgradopt.nn.module import Module
from microgradopt.optim.optimizer import Optimizer
from microgradopt.program.origins import is_class_of_library, is_library
from microgradopt.program.tracer import TracingError
from microgradopt.rules.registry import KNOWN
from microgradopt.tensor import Tensor

_NUMBERS_AND_WORDS = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype)
_PLAIN = (*_NUMBERS_AND_WORDS, np.ndarray)
# Followed only where they have run.
_NOT_FOLLOWED = {"__init__", "__new__", "__repr__", "__str__", "__init_subclass__", "__reduce__", "__post_init__"}
_OF_GLOBALS = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_OF_OPTIMIZERS = {"param_groups", "_checked", "_blocks", "_steps", "_rates", "_defaults"}  # optimizers.py looks at them


# What cannot change, though it is no number or word; or is looked at elsewhere.
_UNCHANGING = (
    np.ndarray, BuiltinFunctionType, CodeType, np.ufunc, RecordedGradient, Graph,
    range, slice, type(...), PurePath, decimal.Decimal, fractions.Fraction, datetime.date, datetime.time,
    datetime.timedelta, re.Pattern, GenericAlias, MethodWrapperType, WrapperDescriptorType, MethodDescriptorType,
    ClassMethodDescriptorType, GetSetDescriptorType, MemberDescriptorType,
    collections._tuplegetter,  # type: ignore[attr-defined]
)  # fmt: skip

# Names in the code of a function by which it reads what cannot be watched, and what to write instead.
_UNWATCHED = {
    **dict.fromkeys(("getattr", "hasattr", "vars", "globals", "locals", "eval", "exec"), "name the attribute itself"),
    **dict.fromkeys(("__dict__", "__getattribute__", "attrgetter"), "name the attribute itself"),
    **dict.fromkeys(("asdict", "astuple"), "name the fields"),
    **dict.fromkeys(("import_module", "__import__"), "write an import statement"),
    **dict.fromkeys(("setattr", "delattr"), "do it outside"),
    **dict.fromkeys(("environ", "getenv"), "read it outside, and give it as an argument"),
    **dict.fromkeys(("errstate", "seterr", "geterr", "catch_warnings"), "put it around the compiled function"),
}


class Place(NamedTuple):
    """Where something is kept: an entry of a dictionary or a list, an attribute of something else (of a cell, too)."""

    holder: Any
    key: Any
    name: str

    @property
    def is_entry(self) -> bool:
        """Whether it is an entry, not an attribute."""
        return isinstance(self.holder, dict | list)

    def get(self) -> Any:
        """What is kept there now."""
        return self.holder[self.key] if self.is_entry else getattr(self.holder, self.key)

    def put(self, value: Any) -> None:
        """Keep something else there."""
        if self.is_entry:
            self.holder[self.key] = value
        else:
            setattr(self.holder, self.key, value)


class Captures:
    """What was found. function, others: where the search begins; others are its arguments that are objects.

    ran: the code that the function runs, if that is known; then no other is followed.

    places: where arrays, numbers and objects are kept that the function can reach, each once. conditions: texts that
    have to stay true besides, so that the same is found in classes, and the objects that stand in the places of their
    {}. has_classes: whether there are classes that are not a library's, of which Python calls methods that no code
    names. codes: the user's code that was followed. tensors: the leaves, with a name for each. modules: those that are
    in no other. optimizers, containers (lists, dictionaries), generators, objects: those that it can reach.
    """

    def __init__(self, function: Any, others: tuple[Any, ...], ran: Container[CodeType] | None = None) -> None:
        self._ran = ran
        self._names: set[str] = set()
        self.codes: set[CodeType] = set()
        self.has_classes = False
        known = -1
        while len(self._names) > known:  # what is found may hold code that names more
            known = len(self._names)
            self.places: list[Place] = []
            self.conditions: list[tuple[str, tuple[Any, ...]]] = []
            self.tensors: dict[Tensor, str] = {}
            self._of_modules: set[Tensor] = set()
            self.modules: list[Module] = []
            self._inner: dict[Module, str] = {}  # modules inside of others, with their dotted names
            self.optimizers: list[Optimizer] = []
            self.containers: list[Any] = []
            self.generators: list[np.random.Generator] = []
            self.objects: list[Any] = []
            self._search([("", function), *(("", x) for x in others)])

    def _search(self, start: list[tuple[str, Any]]) -> None:
        seen: set[int] = set()
        seen_places: set[tuple[int, Any]] = set()
        alive, stack = [], start[::-1]  # `alive`, so that no address is used twice
        while stack:
            name, x = stack.pop()
            if id(x) in seen or (isinstance(x, _NUMBERS_AND_WORDS) and not hasattr(x, "__dict__")):
                continue
            seen.add(id(x))
            alive.append(x)
            if isinstance(x, Tensor):
                if x.is_leaf:
                    self.tensors.setdefault(x, name)
                continue
            if isinstance(x, np.random.Generator):
                self.generators.append(x)
            else:
                if isinstance(x, Optimizer):
                    self.optimizers.append(x)
                    stack += [(f"parameter_{i}", p) for i, p in enumerate(x.parameters())][::-1]
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
        elif isinstance(x, ModuleType):
            if not is_library(vars(x).get("__file__")):
                yield from _entries(vars(x), "", {*self._names, "__getattr__"})
        elif isinstance(x, type):
            yield from self._of_class(x, None)
            yield from self._of_class(type(x), x) if type(x) is not type else ()
        elif isinstance(x, list | dict):
            self.containers.append(x)
            yield from _entries(x, name)
            yield from self._of_object(name, x) if hasattr(x, "__dict__") else ()
        elif (parts := _parts(x)) is not None:
            yield from ((None, part) for part in parts)
            yield from self._of_object(name, x) if isinstance(x, tuple) and type(x) is not tuple else ()
        elif not isinstance(x, _UNCHANGING):
            if not _can_be_watched(x):
                raise TracingError(
                    f"compile: {name or 'the function'} is a {type(x).__name__}, which cannot be watched for changes: "
                    "use a list, a dict or an object with attributes, or give what is in it as an argument"
                )
            yield from self._of_object(name, x)

    def _of_function(self, function: FunctionType) -> Iterator[tuple[Place | None, Any]]:
        code = function.__code__
        if function in KNOWN:  # a function with rules of its own
            rules = (x for x in KNOWN[function].rules if isinstance(x, FunctionType))
            yield from ((None, x) for x in rules if not is_library(x.__code__.co_filename))
        if not self._may_run(code):
            return
        named = self._read(code)
        if not is_library(code.co_filename):
            self._refuse_unwatched(function, named)
            yield Place(function, "__code__", function.__name__), code
            yield from _entries(vars(function), function.__name__, named - {"__wrapped__"})
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if cell != CellType():  # an empty one is not filled yet
                yield Place(cell, "cell_contents", variable), cell.cell_contents
        if not is_library(code.co_filename):
            yield from _entries(function.__globals__, "", _globals_in(code))
            package = function.__globals__.get("__package__")
            for x in named if _has(code, "IMPORT_NAME") else ():
                yield None, sys.modules.get(x) or sys.modules.get(f"{package}.{x}")
        if function.__defaults__:
            yield Place(function, "__defaults__", "default"), function.__defaults__
        yield from _entries(function.__kwdefaults__ or {}, "")

    def _of_object(self, name: str, x: Any) -> Iterator[tuple[Place | None, Any]]:
        """The attributes of an object that some code names; and what its own methods name."""
        own = getattr(x, "__dict__", {})
        self.objects.append(x)
        if "__wrapped__" in own:  # a compiled function is what it was made of, not the programs that it holds
            yield None, own["__wrapped__"]
            return
        if isinstance(x, Module):  # its own names for its parameters go before all others
            self.tensors.update({p: label for label, p in x.named_parameters() if p not in self._of_modules})
            self._of_modules.update(x.parameters())
            if x not in self._inner:
                self.modules.append(x)
                self._inner.update({module: label for label, module in x.named_modules()})
            name = self._inner[x]
        own_class = not is_class_of_library(type(x))
        if own_class:
            held = weakref.ref(x) if type(x).__weakrefoffset__ else lambda: x
            self.conditions.append(("{}().__class__ is {}", (held, type(x))))
        if own_class or not isinstance(x, Optimizer):
            yield from self._of_class(type(x), x)
        prefix = f"{name}." if name else ""
        caches = _OF_OPTIMIZERS if isinstance(x, Optimizer) else getattr(type(x), "caches", ())
        if isinstance(x, enum.Enum):
            yield Place(own, "_value_", f"{prefix}value"), x._value_
        for key in [key for key in own if key in self._names and key not in caches]:
            yield Place(own, key, prefix + key), own[key]
        for key in [key for key in _slots(type(x)) if key in self._names and hasattr(x, key)]:
            yield Place(x, key, prefix + key), getattr(x, key)

    def _of_class(self, x: type, instance: Any) -> Iterator[tuple[Place | None, Any]]:
        """The attributes of a class that some code names, read from an instance or from the class itself; its methods.

        Python calls some methods unnamed: ``o[0]`` is __getitem__. Those of a user's class are all followed, until it
        is known which have run.
        """
        own_dict = getattr(instance, "__dict__", None)
        before = set(own_dict or ())  # attributes that are found before those of a class
        for cls in x.__mro__[:-1]:
            own = not is_class_of_library(cls)
            self.has_classes |= own
            for key, kept in list(vars(cls).items()):
                behind = kept.fget if isinstance(kept, property) else getattr(kept, "__func__", kept)
                code = getattr(behind, "__code__", None)
                if not self._is_asked(key, kept, code, own):
                    continue
                if code is not None and self._may_run(code):
                    self._read(code)
                if isinstance(kept, FunctionType) or not hasattr(kept, "__get__"):
                    if own or isinstance(kept, _PLAIN) or (code and not is_library(code.co_filename)):
                        yield Place(cls, key, key), kept
                        if key not in before and own_dict is not None:
                            self.conditions.append((f"{key!r} not in {{}}", (own_dict,)))
                        if key not in before and x is not cls:
                            self.conditions.append((f"{{}}.{key} is {{}}.{key}", (x, cls)))
                    if key == "__match_args__":
                        self._names.update(kept)
                elif own:  # a descriptor is code, and may keep something
                    yield None, kept
                    if key not in before:
                        self.conditions.append((f"_found({{}}, {key!r}) is {{}}", (x, kept)))
            before |= vars(cls).keys()

    def _may_run(self, code: CodeType) -> bool:
        return self._ran is None or code in self._ran

    def _is_asked(self, key: str, kept: Any, code: CodeType | None, own: bool) -> bool:
        """Whether an entry of a class is named in code, or is a method that Python may call unnamed."""
        if key == "_value2member_map_":  # what an enum remembers of the calls that asked for its members
            return False
        if key in self._names:
            return True
        if self._ran is not None and code is not None:
            return code in self._ran and not (key in _NOT_FOLLOWED and is_library(code.co_filename))
        unnamed = key.startswith("__") and key not in _NOT_FOLLOWED and (own or key == "__call__")
        if isinstance(kept, FunctionType):  # those of a dataclass compare all fields: they would all be watched
            return key == "forward" or (unnamed and kept.__code__.co_filename != "<string>")
        return unnamed and isinstance(kept, classmethod | staticmethod)

    def _refuse_unwatched(self, function: FunctionType, named: set[str]) -> None:
        for name in sorted(named & _UNWATCHED.keys() - function.__globals__.keys()):
            raise TracingError(
                f"compile: {function.__name__} uses {name}: what that reads or changes cannot be watched; "
                f"{_UNWATCHED[name]}"
            )

    def _read(self, code: CodeType) -> set[str]:
        """The names in a function's code, and in that of functions defined in it. They are remembered."""
        if not is_library(code.co_filename):
            self.codes.add(code)
        named = set(code.co_names)
        if _has(code, "MATCH_CLASS"):
            named |= {"__match_args__", *(x for part in code.co_consts if isinstance(part, tuple) for x in part)}
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                named |= self._read(constant)
        self._names |= named
        return named


def _entries(holder: Any, name: str, keys: Any = None) -> Iterator[tuple[Place, Any]]:
    """Entries of a dictionary or a list, in its own order. keys: those that are wanted, by default all."""
    for key in range(len(holder)) if isinstance(holder, list) else holder:
        if keys is None or key in keys:
            yield Place(holder, key, f"{name}_{key}" if name else str(key)), holder[key]


def _parts(x: Any) -> Iterable[Any] | None:
    """What an object consists of for good; None of what may change."""
    if isinstance(x, tuple | frozenset):
        return x
    if isinstance(x, MethodType):
        return x.__self__, x.__func__
    if isinstance(x, functools.partial | functools.partialmethod):
        return x.func, *x.args, x.keywords
    if isinstance(x, classmethod | staticmethod):
        return (x.__func__,)
    if isinstance(x, property):
        return x.fget, x.fset, x.fdel
    return (x(),) if isinstance(x, weakref.ref) else None


def _can_be_watched(x: Any) -> bool:
    """Whether its attributes say all of it: not where a class of a library has its own ways to keep something."""
    if isinstance(x, functools._lru_cache_wrapper):
        return is_library(x.__wrapped__.__code__.co_filename)
    for cls in () if isinstance(x, enum.Enum) else type(x).__mro__[:-1]:
        ways = vars(cls).keys() & {"__getitem__", "__getattr__", "__iter__"}
        theirs = is_class_of_library(cls) and not cls.__module__.startswith("microgradopt.")
        if theirs and (ways or not hasattr(x, "__dict__")):
            return False
    return True


def found_in(cls: type, key: str) -> Any:
    """What a class keeps under a name, itself or by inheritance; a property as it is."""
    return next((vars(x)[key] for x in cls.__mro__ if key in vars(x)), None)


@functools.lru_cache(1024)
def _globals_in(code: CodeType) -> frozenset[str]:
    """The names that code looks up among its globals: an attribute of the same name is another thing."""
    own = frozenset(x.argval for x in dis.get_instructions(code) if x.opname in _OF_GLOBALS)
    return own.union(*(_globals_in(x) for x in code.co_consts if isinstance(x, CodeType)))


def _has(code: CodeType, operation: str) -> bool:
    return dis.opmap[operation] in code.co_code[::2]


def _slots(cls: type) -> list[str]:
    slots = [getattr(base, "__slots__", ()) for base in cls.__mro__]
    return [name for names in slots for name in ((names,) if isinstance(names, str) else names)]
