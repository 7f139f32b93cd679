"""Module: a function with parameters, made of other modules."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Set, ValuesView
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from microgradopt.mode import clock
from microgradopt.rules.values import is_masked, peculiar
from microgradopt.tensor import Tensor

StateDict = dict[str, npt.NDArray[Any]]

_ROUNDING = 1e-3  # relative: float16 has three digits


class Call(NamedTuple):
    """When a module was called: begin and end by the clock that dates tensors; and its arguments without a gradient."""

    start: int
    end: int
    unrecorded: tuple[weakref.ref[Any], ...]


class Module:
    """Base of all layers and networks: subclass it, assign parameters and modules in `__init__`, write `forward`.

    A leaf Tensor that requires a gradient is a parameter, and stays one when it is frozen (``requires_grad = False``):
    in an attribute, or in lists, tuples, dicts and dataclasses in one. Modules there are children. Names are dotted:
    "scale", "layers.0.weight", "heads.left.bias". Sets and deques of them, which have no places to name, are refused;
    other objects are not looked into.

    Raises TypeError where a parameter is replaced by a result (``self.w = self.w - step``) or a constant: assign to its
    ``.data`` instead.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Tensor(2.0, requires_grad=True)
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> Scale()(3.0)
    Tensor(6., function=multiply)
    """

    training = True
    buffers: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        known: set[Tensor] = self.__dict__.setdefault("_known", set())
        before = self.__dict__.get(name)
        if type(value) is Tensor and not _is_new(value) and type(before) is Tensor and before in known:
            raise TypeError(
                f"{type(self).__name__}.{name}: a parameter cannot be replaced by a "
                f"{'constant' if value.is_leaf else 'result'}; to write it, assign to its data: "
                f"self.{name}.data = ...; to make it something else, del self.{name} first"
            )
        found = {x for _, x in _inside(name, value) if type(x) is Tensor and _is_new(x)}
        known -= {x for _, x in _inside(name, before) if type(x) is Tensor}
        known |= found
        object.__setattr__(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes. To be written by the subclass; called by calling the module."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """`forward`; its result, in general a Tensor."""
        started = clock.tick()
        try:
            result: Tensor = self.forward(*args, **kwargs)
        finally:  # a call that fails is noted too: a picture of the error shows the module
            if "_calls" not in self.__dict__:
                self.__dict__["_calls"] = collections.deque(maxlen=512)
            unrecorded = tuple(weakref.ref(x) for x in args if _needs_no_gradient(x))
            self.__dict__["_calls"].append(Call(started, clock.tick(), unrecorded))
        return result

    def calls(self) -> list[Call]:
        """Its latest calls, for pictures."""
        return list(self.__dict__.get("_calls", ()))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_calls"}

    # What it is made of

    def _parts(self) -> list[tuple[str, Any]]:
        """The tensors and modules in its attributes, with their names."""
        return _inside("", {name: x for name, x in vars(self).items() if name not in ("_known", "_calls")})

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, with their names: "hidden", or "layers.0" inside a list."""
        return ((name, x) for name, x in self._parts() if isinstance(x, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, with their dotted names; this one's own is `prefix`.

        Raises ValueError for a module that contains itself.
        """
        return ((name, module) for name, module, _ in self._walk(prefix, ()))

    def _walk(self, prefix: str, above: tuple[Module, ...]) -> Iterator[tuple[str, Module, list[tuple[str, Any]]]]:
        """This module and all inside it, and what they are made of, all with their dotted names."""
        if self in above:
            raise ValueError(f"{type(self).__name__}: contains itself, as {prefix}")
        parts = [(_dotted(prefix, name), x) for name, x in self._parts()]
        yield prefix, self, parts
        for name, child in parts:
            if isinstance(child, Module):
                yield from child._walk(name, (*above, self))

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """All parameters with their dotted names, own ones first; a shared one once, under its first name."""
        seen = set()
        for name, parameter in self._all_parameters():
            if parameter not in seen:
                seen.add(parameter)
                yield name, parameter

    def parameters(self) -> Iterator[Tensor]:
        """All parameters, own ones first; a shared one once."""
        return (parameter for _, parameter in self.named_parameters())

    def _all_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every name that a parameter goes by."""
        for _, module, parts in self._walk("", ()):
            for name, x in parts:
                if type(x) is Tensor and module._holds(x):
                    yield name, x

    def _holds(self, x: Tensor) -> bool:
        """Whether a tensor in an attribute is a parameter. Once it is, it stays one."""
        known: set[Tensor] = self.__dict__["_known"]
        if _is_new(x):
            known.add(x)
        return x in known

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `.grad` becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Self:
        """Compute as in training from now on, with all modules inside; as in evaluation with ``train(False)``."""
        for _, module in self.named_modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Compute as in evaluation from now on, with all modules inside: no dropout, running averages in place of
        batch statistics.
        """
        return Module.train(self, False)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, it computes as in evaluation, and afterwards each module as before."""
        modes = [(module, module.training) for _, module in self.named_modules()]
        try:
            Module.eval(self)  # a network may have a method of its own by this name
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    # Saving and loading

    def named_buffers(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """All arrays that are kept and not trained, with their dotted names: running averages."""
        state = self._state().items()
        return ((name, getattr(owner, attribute)) for name, (owner, attribute) in state if isinstance(owner, Module))

    def _state(self) -> dict[str, tuple[Any, str]]:
        """Where the array of every parameter and buffer is, by its dotted name: an object, and its attribute."""
        places: list[tuple[str, Any]] = [(name, (parameter, "data")) for name, parameter in self._all_parameters()]
        for prefix, module in self.named_modules():
            places += [(_dotted(prefix, name), (module, name)) for name in type(module).buffers]
        if len(dict(places)) < len(places):
            raise ValueError(f"{type(self).__name__}: a name is there twice: {sorted(name for name, _ in places)}")
        return dict(places)

    def state_dict(self) -> StateDict:
        """A copy of every parameter and buffer by its dotted name, named as PyTorch names them.

        Raises ValueError where two have the same name, as the keys "1" and 1 of a dict would give.
        """
        return {name: np.array(getattr(owner, attribute)) for name, (owner, attribute) in self._state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Write a state_dict, PyTorch's too, into parameters and buffers. All is checked before any is written.

        strict: names must match exactly; otherwise only those found on both sides are loaded.

        Raises KeyError for missing and unexpected names, ValueError for shapes, dtypes and numbers that do not fit,
        TypeError for a masked array.
        """
        self.loading(state_dict, strict)()

    def loading(self, state_dict: Mapping[str, Any], strict: bool = True) -> Callable[[], None]:
        """Check a state_dict, as `load_state_dict` does; the function that is returned then loads it."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: wants a dict of arrays by name, not {type(state_dict).__name__}")
        state, own = self._state(), self.state_dict()
        missing, unexpected = sorted(own.keys() - state_dict.keys()), sorted(state_dict.keys() - own.keys())
        if strict and (missing or unexpected):
            raise KeyError(f"load_state_dict: missing {missing}, unexpected {unexpected}; nothing was loaded")
        arrays = {}
        for name in [name for name in own if name in state_dict]:
            if is_masked(state_dict[name]):
                raise TypeError(f"load_state_dict: {name}: {peculiar(state_dict[name])}")
            array, dtype = np.asarray(state_dict[name]), own[name].dtype
            if array.shape != own[name].shape or array.dtype.kind not in "fiu":
                raise ValueError(
                    f"load_state_dict: {name} is {array.dtype} of shape {array.shape}, and the model's has shape "
                    f"{own[name].shape}; nothing was loaded"
                )
            with np.errstate(over="ignore", invalid="ignore"):
                arrays[name] = array.astype(dtype)
            if not np.allclose(arrays[name], array, rtol=_ROUNDING, equal_nan=True):
                wrong = "too large for" if dtype.kind == "f" else "not of"
                raise ValueError(f"load_state_dict: {name} is {wrong} {dtype}; nothing was loaded")

        def load() -> None:
            for name, array in arrays.items():
                setattr(*state[name], array)

        return load

    # In words

    def describe(self) -> str:
        """What stands in brackets after the module's name in its repr."""
        return ""

    def __repr__(self) -> str:
        shapes = [f"{name} {x.shape}" for name, x in self._parts() if type(x) is Tensor and self._holds(x)]
        count = sum(parameter.size for parameter in self.parameters())
        counted = f"  # {', '.join([*shapes, f'{count:,} parameters'])}" if count else ""
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if not children:
            return f"{type(self).__name__}({self.describe()}){counted}"
        return "\n  ".join([f"{type(self).__name__}({counted}", *children]) + "\n)"


def _needs_no_gradient(x: Any) -> bool:
    return type(x) is np.ndarray or (type(x) is Tensor and not x.needs_grad)


def _is_new(x: Tensor) -> bool:
    """Whether a tensor that is not known yet is a parameter."""
    return x.function is None and x.needs_grad


def _inside(name: str, value: Any) -> list[tuple[str, Any]]:
    """Tensors and modules: a value that is one, or those in a list, tuple, dict or dataclass, with their dotted names.

    Raises TypeError for those in a set or deque, or in ``d.values()``.
    """
    if isinstance(value, Tensor | Module):
        return [(name, value)]
    if isinstance(value, list | tuple):
        items: Iterable[tuple[Any, Any]] = enumerate(value)
    elif isinstance(value, Mapping):
        items = value.items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        if isinstance(value, Set | ValuesView | collections.deque) and any(_inside("", item) for item in value):
            raise TypeError(
                f"{name}: tensors and modules in a {type(value).__name__} have no names; put them in a list or a dict"
            )
        return []
    return [found for key, item in items for found in _inside(_dotted(name, key), item)]


def _dotted(prefix: str, name: Any) -> str:
    return f"{prefix}.{name}" if prefix else str(name)


class Sequential(Module):
    """Modules one after the other: the output of each is the input of the next. Named 0, 1, 2, ... as in PyTorch.

    Indexing gives a module; iterating, all of them.

    >>> import microgradopt as mg
    >>> Sequential(mg.nn.Linear(2, 3, rng=0), mg.nn.Tanh())(np.ones((1, 2))).shape
    (1, 3)
    """

    def __init__(self, *modules: Module) -> None:
        self._layers = modules

    def _parts(self) -> list[tuple[str, Any]]:
        """The modules are numbered from "0"; a subclass may have more."""
        return [(name.removeprefix("_layers."), x) for name, x in super()._parts()]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, i: int) -> Module:
        return self._layers[i]

    def forward(self, x: Any) -> Any:
        """The modules, in order, on x."""
        for module in self._layers:
            x = module(x)
        return x
