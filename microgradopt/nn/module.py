"""Module: a function with parameters, made of other modules."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.mode import clock
from microgradopt.tensor import Tensor

StateDict = dict[str, npt.NDArray[Any]]


class Module:
    """Base of all layers and networks: subclass it, assign parameters and modules in `__init__`, write `forward`.

    A leaf Tensor that requires a gradient, assigned to an attribute, is a parameter, and stays one when it is frozen
    (``requires_grad = False``). Modules assigned to attributes, also in lists and tuples, are children.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Tensor(2.0, requires_grad=True)
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> Scale()(3.0)
    Tensor(6., function=multiply)
    """

    def __setattr__(self, name: str, value: Any) -> None:
        names: dict[str, None] = self.__dict__.setdefault("_parameter_names", {})
        if isinstance(value, Tensor) and value.is_leaf and value.requires_grad:
            names[name] = None
        else:
            names.pop(name, None)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self.__dict__.get("_parameter_names", {}).pop(name, None)
        object.__delattr__(self, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes. To be written by the subclass; called by calling the module."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`."""
        started = clock.tick()
        result = self.forward(*args, **kwargs)
        if "_calls" not in self.__dict__:
            self.__dict__["_calls"] = collections.deque(maxlen=16)
        self.__dict__["_calls"].append((started, clock.tick()))
        return result

    def calls(self) -> list[tuple[int, int]]:
        """When its latest calls began and ended, by the clock that dates tensors."""
        return list(self.__dict__.get("_calls", ()))

    # What it is made of

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, with their names: "hidden", or "layers.0" inside a list."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list | tuple):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{name}.{i}", item

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, with their dotted names; this one's own is `prefix`."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

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
        for prefix, module in self.named_modules():
            for name in vars(module).get("_parameter_names", {}):
                yield (f"{prefix}.{name}" if prefix else name), getattr(module, name)

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `.grad` becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    # Saving and loading

    def state_dict(self) -> StateDict:
        """A copy of every parameter by its dotted name, named as PyTorch names them."""
        return {name: np.array(parameter.data) for name, parameter in self._all_parameters()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Write the arrays of a state_dict, PyTorch's too, into the parameters. All is checked before any is written.

        strict: names must match exactly; otherwise only those found on both sides are loaded.

        Raises KeyError for missing and unexpected names, ValueError for shapes, dtypes and numbers that do not fit.
        """
        self.loading(state_dict, strict)()

    def loading(self, state_dict: Mapping[str, Any], strict: bool = True) -> Callable[[], None]:
        """Check a state_dict, as `load_state_dict` does; the function that is returned then loads it."""
        own = dict(self._all_parameters())
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: wants a dict of arrays by name, not {type(state_dict).__name__}")
        missing, unexpected = sorted(own.keys() - state_dict.keys()), sorted(state_dict.keys() - own.keys())
        if strict and (missing or unexpected):
            raise KeyError(f"load_state_dict: missing {missing}, unexpected {unexpected}; nothing was loaded")
        arrays = {name: np.asarray(state_dict[name]) for name in own if name in state_dict}
        for name, array in arrays.items():
            if array.shape != own[name].shape or array.dtype.kind not in "fiu":
                raise ValueError(
                    f"load_state_dict: {name} is {array.dtype} of shape {array.shape}, and the parameter has shape "
                    f"{own[name].shape}; nothing was loaded"
                )
            with np.errstate(over="ignore"):
                arrays[name] = array.astype(own[name].dtype)
            if not np.array_equal(np.isinf(arrays[name]), np.isinf(array)):
                raise ValueError(f"load_state_dict: {name} is too large for {own[name].dtype}; nothing was loaded")

        def load() -> None:
            for name, array in arrays.items():
                own[name].data = array

        return load

    # In words

    def describe(self) -> str:
        """What stands in brackets after the module's name in its repr."""
        return ""

    def __repr__(self) -> str:
        shapes = [f"{name} {getattr(self, name).shape}" for name in vars(self).get("_parameter_names", {})]
        count = sum(parameter.size for parameter in self.parameters())
        counted = f"  # {', '.join([*shapes, f'{count:,} parameters'])}" if count else ""
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if not children:
            return f"{type(self).__name__}({self.describe()}){counted}"
        return "\n  ".join([f"{type(self).__name__}({counted}", *children]) + "\n)"


class Sequential(Module):
    """Modules one after the other: the output of each is the input of the next. Named 0, 1, 2, ... as in PyTorch.

    Indexing gives a module; iterating, all of them.
    """

    def __init__(self, *modules: Module) -> None:
        self._layers = modules

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules, numbered from "0"."""
        return ((str(i), module) for i, module in enumerate(self._layers))

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
