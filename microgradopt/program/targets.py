"""Targets: a program spelled for other machines, by a small table each.

JAX, PyTorch and CuPy have arrays with NumPy's operators and most of its methods, and most functions by the same names.
A table says which, and how others are called. What is not in it is refused: a program that is printed, runs.

A spelling more is a line more:

    TARGETS["jax"].spellings[np.signbit] = "jnp.signbit"
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from microgradopt.graph.graph import Node
from microgradopt.graph.text import ATOM, METHODS, NUMPY, Formatter, Language, Text, Texts, spelled, written
from microgradopt.nn.functional import normal_cdf
from microgradopt.program.tracer import TracingError
from microgradopt.rules.outputs import astype, view

# What is called as NumPy calls it: functions by the same names, and methods.
_FUNCTIONS = (
    np.absolute, np.angle, np.any, np.arccos, np.arccosh, np.arcsin, np.arcsinh, np.arctan, np.arctan2, np.arctanh,
    np.argsort, np.broadcast_to, np.ceil, np.clip, np.concatenate, np.copy, np.copysign, np.cos, np.cosh, np.cumsum,
    np.exp, np.exp2, np.expand_dims, np.expm1, np.flip, np.floor, np.fmax, np.fmin, np.heaviside, np.hypot, np.isfinite,
    np.isinf, np.isnan, np.log, np.log10, np.log1p, np.log2, np.logaddexp, np.logaddexp2, np.maximum, np.minimum,
    np.moveaxis, np.nan_to_num, np.positive, np.prod, np.reciprocal, np.round, np.sign, np.sin, np.sinc, np.sinh,
    np.sqrt, np.square, np.squeeze, np.stack, np.std, np.swapaxes, np.tan, np.tanh, np.tril, np.triu, np.trunc, np.var,
    np.where,
    np.linalg.cholesky, np.linalg.det, np.linalg.eigh, np.linalg.eigvalsh, np.linalg.inv, np.linalg.norm,
    np.linalg.pinv, np.linalg.slogdet, np.linalg.solve, np.linalg.svd,
)  # fmt: skip
_NUMPYS = (  # of the libraries that follow NumPy in all: JAX and CuPy
    np.around, np.cbrt, np.conjugate, np.convolve, np.deg2rad, np.degrees, np.einsum, np.fabs,
    np.flatnonzero, np.float_power, np.fmod, np.imag, np.power, np.rad2deg, np.radians, np.real, np.right_shift,
    np.rint, np.roll, np.searchsorted, np.take_along_axis,
)  # fmt: skip
_METHODS = (
    np.sum, np.mean, np.max, np.min, np.reshape, np.ravel, np.argmax, astype,
    operator.getitem, operator.setitem, np.transpose, np.matrix_transpose, np.zeros_like,
)  # fmt: skip


def _alike(module: str, functions: Iterable[Any]) -> dict[Any, str]:
    """The same names, of another module: np.linalg.inv is jnp.linalg.inv."""
    return {function: module + spelled(function).removeprefix("np") for function in functions}


class Target(Language):
    """A library that runs programs in NumPy's place. Constant arrays are in C order there: sums may round differently.

    name: what it is asked for by. imports, spellings: see `Language`; spellings go before the common ones. checks:
    whether a program can look at its values; under ``jax.jit`` and ``torch.compile`` none can. remarks: what to know.
    conversion: what makes an array of another dtype; integers and booleans become floats by it where NumPy makes them
    so, as the library would make others.
    """

    def __init__(
        self,
        name: str,
        imports: Mapping[str, str],
        spellings: Mapping[Any, str | Formatter],
        checks: bool = False,
        remarks: tuple[str, ...] = (),
        conversion: str = "",
    ) -> None:
        module = next(iter(imports))
        alike = _alike(module, _FUNCTIONS)
        super().__init__(imports, alike | {function: METHODS[function] for function in _METHODS} | dict(spellings))
        self.name, self.checks, self.remarks, self.conversion = name, checks, remarks, conversion

    def expression(self, node: Node, texts: Texts) -> Text:
        """The call of a node, of floats where NumPy would make such of its operands."""

        def converted(x: Node) -> Text:
            if not self.is_converted(x, node):
                return texts(x)
            return Text(f"{self.conversion}({texts(x).text}, dtype={self.literal(node.dtype).text})")

        return super().expression(node, converted)

    def is_converted(self, x: Node, node: Node) -> bool:
        """Whether an operand is given in the dtype of the result."""
        is_computed = isinstance(node.function, np.ufunc) or node.function in (np.mean, np.var, np.std)
        return bool(self.conversion) and is_computed and _is_float(node) and not any(map(_is_float, node.inputs))

    def unlisted(self, function: Any) -> str:
        """Refuse a function that the table does not have."""
        name = spelled(function)
        raise self.refused(name, f"To add its own name: program.targets.TARGETS[{self.name!r}].spellings[{name}] = ...")

    def refused(self, what: str, instead: str) -> TracingError:
        """The error for what a target has no spelling of."""
        return TracingError(f"source: there is no spelling of {what} for target={self.name!r}. {instead}")

    def listed(self, node: Node, arguments: Iterable[Any], texts: Texts) -> str:
        """Arguments and keyword arguments, without NumPy's word on which casts are safe: the values have been cast."""
        return super().listed(_with(node, casting=None), arguments, texts)

    def index(self, index: Any, texts: Texts) -> str:
        """What stands between square brackets, with an array in place of a list."""
        text = super().index(index, texts)
        return f"{self.module}.{self.made_by}({text})" if isinstance(index, list) else text

    def array(self, x: np.ndarray[Any, Any]) -> str:
        """An array as the call that makes it, in C order."""
        return super().array(np.array(x, order="C"))


def _with(node: Node, **kwargs: Any) -> Node:
    """The same call with other keyword arguments; None takes one away."""
    changed = copy.copy(node)
    changed.kwargs = {key: x for key, x in (node.kwargs | kwargs).items() if kwargs.get(key, ...) is not None}
    return changed


# JAX: arrays do not change; a write is a new array by the same name ---------------------------------------------------


def _replaced(by: str) -> Formatter:
    """x = x.at[i].set(y): a whole line."""

    def format(language: Language, node: Node, texts: Texts) -> Text:
        array, index = texts(node.arguments[0]).text, language.index(node.arguments[1], texts)
        return Text(f"{array} = {array}.at[{index}].{by}({language.argument(written(node), texts, node).text})")

    return format


def _summed(language: Language, node: Node, texts: Texts) -> Text:
    """A method; with ``initial`` the function: the method of JAX's arrays (0.10) passes over it without a word."""
    return language.called("jnp.sum" if "initial" in node.kwargs else ".sum", node, texts)


JAX = Target(
    "jax",
    {"jnp": "import jax.numpy as jnp", "jax": "import jax"},
    _alike("jnp", _NUMPYS)
    | {
        operator.setitem: _replaced("set"),
        np.add.at: _replaced("add"),
        np.sum: _summed,
        normal_cdf: "jax.scipy.special.ndtr",
    },
    remarks=('For float64: jax.config.update("jax_enable_x64", True), before the first array is made.',),
    conversion="jnp.asarray",
)


# PyTorch: other names, dtypes that are told, functions that take tensors alone ----------------------------------------


_TAKE_TENSORS = (
    np.arctan2, np.copysign, np.fmax, np.fmin, np.heaviside, np.hypot, np.logaddexp, np.logaddexp2, np.maximum,
    np.minimum, np.where,
)  # fmt: skip


def _of_tensors(name: str) -> Formatter:
    """A function that takes no numbers."""

    def format(language: Language, node: Node, texts: Texts) -> Text:
        made = [x if type(x) is Node else _as_array(x, node.dtype) for x in node.arguments]
        return Text(f"{name}({language.listed(node, made, texts)})")

    return format


def _as_array(x: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A number as an array of this dtype; a condition stays one."""
    array = np.asarray(x)
    return array if array.dtype == bool else array.astype(dtype)


def _along(name: str) -> Formatter:
    """A function of a list of tensors, along a dim."""

    def format(language: Language, node: Node, texts: Texts) -> Text:
        return Text(f"{name}({language.argument(node.arguments[0], texts, node).text}, {_axis(node, 0)})")

    return format


def _variance(name: str) -> Formatter:
    """ddof is called correction, and is 1 if not told."""

    def format(language: Language, node: Node, texts: Texts) -> Text:
        return language.called(name, _with(node, ddof=None, correction=node.kwargs.get("ddof", 0)), texts)

    return format


def _flipped(language: Language, node: Node, texts: Texts) -> Text:
    """Along axes in a tuple, and not called axis."""
    axis = _axis(node)
    axes = tuple(range(len(node.shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return Text(f"torch.flip({language.argument(node.arguments[0], texts, node).text}, {axes})")


def _permuted(language: Language, node: Node, texts: Texts) -> Text:
    """x.T of a matrix; elsewhere the axes are always told."""
    x, *axes = node.arguments
    order = next(iter(axes), None) or node.kwargs.get("axes") or tuple(reversed(range(len(node.shape))))
    text = language.argument(x, texts, node).within(ATOM)
    return Text(f"{text}.T" if order == (1, 0) else f"{text}.permute({tuple(order)})")


def _einsum(language: Language, node: Node, texts: Texts) -> Text:
    """Without ``optimize``: PyTorch finds an order of its own."""
    return language.called("torch.einsum", _with(node, optimize=None), texts)


def _rounded(language: Language, node: Node, texts: Texts) -> Text:
    """Half to even, as in NumPy."""
    x, *decimals = node.arguments
    told = _with(node, decimals=[*decimals, node.kwargs.get("decimals", 0)][0])
    return Text(f"torch.round({language.listed(told, [x], texts)})")


def _svd(language: Language, node: Node, texts: Texts) -> Text:
    """Singular values alone have a function of their own."""
    if node.kwargs.get("compute_uv", True):
        return language.called("torch.linalg.svd", node, texts)
    return Text(f"torch.linalg.svdvals({language.argument(node.arguments[0], texts, node).text})")


def _rolled(language: Language, node: Node, texts: Texts) -> Text:
    """Shifts and axes by position; PyTorch calls them otherwise."""
    told = dict(zip(("a", "shift", "axis"), node.arguments, strict=False)) | node.kwargs
    x = language.argument(told["a"], texts, node).text
    shift, axis = language.literal(told["shift"]).text, language.literal(told.get("axis")).text
    return Text(f"torch.roll({x}, {shift}, {axis})")


def _zeros(language: Language, node: Node, texts: Texts) -> Text:
    return Text(f"torch.zeros({node.shape}, dtype={language.literal(node.dtype).text})")


def _accumulated(language: Language, node: Node, texts: Texts) -> Text:
    """Positions that are there twice get both: a whole line."""
    array, index, value = node.arguments
    put = language.argument(value if type(value) is Node else np.array(value, node.dtype), texts, node).text
    return Text(f"{texts(array).text}.index_put_([{language.index(index, texts)}], {put}, accumulate=True)")


class Torch(Target):
    """PyTorch, which would make its default dtype of integers, and has no differences of booleans."""

    made_by = "tensor"

    def expression(self, node: Node, texts: Texts) -> Text:
        """The call of a node, if PyTorch has one."""
        for what, is_so in _NOT_OF_TORCH.items():
            if is_so(node):
                raise self.refused(f"{spelled(node.function)} {what}", "Write it in another way")
        return super().expression(node, texts)

    def is_converted(self, x: Node, node: Node) -> bool:
        """Whether an operand is given in the dtype of the result."""
        return super().is_converted(x, node) or (node.function is np.subtract and x.dtype == bool)

    def listed(self, node: Node, arguments: Iterable[Any], texts: Texts) -> str:
        """Arguments and keyword arguments. Axes are kept only where they are told."""
        if node.kwargs.get("keepdims") and node.kwargs.get("axis") is None:
            node = _with(node, axis=tuple(range(len(node.shape))))
        return super().listed(node, arguments, texts)

    def index(self, index: Any, texts: Texts) -> str:
        """What stands between square brackets; uint8 would be a mask."""
        if type(index) is Node and index.dtype in (np.uint8, np.int8, np.int16, np.int32):
            return f"{texts(index).within(ATOM)}.long()"
        return super().index(index, texts)

    def scalar(self, x: np.generic) -> str:
        """A number of NumPy's, as a tensor without axes."""
        return self.array(np.array(x))

    def typed(self, dtype: np.dtype[Any], *meant: Any) -> str:
        """The dtype as an argument: floats would have PyTorch's default."""
        return f", dtype={self.literal(dtype).text}"

    def filling(self, x: np.generic) -> str:
        """A number that an array is filled with, and its dtype."""
        return f"{self.number(x.item())}{self.typed(x.dtype)}"


def _is_float(node: Node) -> bool:
    return isinstance(node.dtype, np.dtype) and node.dtype.kind == "f"


def _places(node: Node) -> tuple[Any, ...]:
    """The parts of an index."""
    if node.function not in (operator.getitem, operator.setitem, np.add.at):
        return ()
    index = node.arguments[1]
    return index if isinstance(index, tuple) else (index,)


def _axis(node: Node, default: Any = None) -> Any:
    """The axis that a call is told, by position or by name."""
    return node.arguments[1] if len(node.arguments) > 1 else node.kwargs.get("axis", default)


def _goes_back(index: Any) -> bool:
    return type(index) is slice and isinstance(index.step, int) and index.step < 0


# What a call of PyTorch's function does not have, though there is one.
_NOT_OF_TORCH: dict[str, Callable[[Node], bool]] = {
    "with where= or initial=": lambda node: not node.kwargs.keys().isdisjoint({"where", "initial"}),
    "without an axis": lambda node: node.function is np.cumsum and _axis(node) is None,
    "with axis=None": lambda node: node.function in (np.concatenate, np.argsort) and _axis(node, 0) is None,
    "of several axes": lambda node: node.function is np.expand_dims and isinstance(_axis(node), tuple),
    "with a negative step": lambda node: any(_goes_back(x) for x in _places(node)),
    "at slices": lambda node: node.function == np.add.at and any(type(x) is not Node for x in _places(node)),
}

TORCH = Torch(
    "torch",
    {"torch": "import torch"},
    {
        np.max: ".amax",
        np.min: ".amin",
        astype: ".to",
        np.around: _rounded,
        np.concatenate: _along("torch.concatenate"),
        np.copy: "torch.clone",
        np.deg2rad: "torch.deg2rad",
        np.einsum: _einsum,
        np.degrees: "torch.rad2deg",
        np.fabs: "torch.abs",
        np.fmod: "torch.fmod",
        np.power: "torch.pow",
        np.rad2deg: "torch.rad2deg",
        np.radians: "torch.deg2rad",
        np.rint: "torch.round",
        np.roll: _rolled,
        np.round: _rounded,
        np.stack: _along("torch.stack"),
        np.linalg.svd: _svd,
        np.expand_dims: "torch.unsqueeze",
        np.flip: _flipped,
        np.transpose: _permuted,
        np.zeros_like: _zeros,
        np.var: _variance("torch.var"),
        np.std: _variance("torch.std"),
        np.add.at: _accumulated,
        normal_cdf: "torch.special.ndtr",
        **{function: _of_tensors(f"torch.{function.__name__}") for function in _TAKE_TENSORS},
    },
    remarks=('Constants are made on the default device: on a GPU, torch.set_default_device("cuda") goes before.',),
    conversion="torch.as_tensor",
)


# CuPy: NumPy on a GPU -------------------------------------------------------------------------------------------------

CUPY = Target(
    "cupy",
    {"cp": "import cupy as cp", "cupyx": "import cupyx.scipy.special"},
    _alike("cp", _NUMPYS)
    | {
        view: ".view",
        np.add.at: "cp.add.at",
        np.all: "cp.all",
        normal_cdf: "cupyx.scipy.special.ndtr",
    },
    checks=True,
)

TARGETS: dict[str, Language] = {"numpy": NUMPY} | {target.name: target for target in (JAX, TORCH, CUPY)}
