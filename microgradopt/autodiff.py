"""The reverse sweep, and what follows from it: gradients, Hessian-vector products, Jacobians, Hessians, a checker.

Reverse mode in one sentence: visit the tensors from the newest to the oldest; each, when its turn comes, has gathered
its whole cotangent (the derivative of the output by it), and hands every input its share by that input's rule.

Newest to oldest, because a share may be handed on only when it is complete. In the diamond ``b = a + a; c = b + b``
the tensor b receives two shares of 1; were the first handed on at once, a would get 2 and then 2 again from a b that
is by then 2: 6, where dc/da is 4.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from microgradopt.rules.registry import DERIVATIVES, name_of
from microgradopt.tensor import Array, ArrayLike, Switched, Tensor, _mode, _result, check_finite, clock

Cotangents = dict[Tensor, Any]


class OverwrittenError(RuntimeError):
    """A backward pass needs a value that was overwritten after it had been recorded."""


class GradcheckError(AssertionError):
    """A derivative disagrees with central differences."""


# The sweep ------------------------------------------------------------------------------------------------------------


class Graph(NamedTuple):
    """What a sweep visits: the tensors between some outputs and some inputs, oldest first, and all of them as a set."""

    nodes: list[Tensor]
    active: set[Tensor]


def _graph(outputs: Iterable[Tensor], inputs: Sequence[Tensor] | None = None) -> Graph:
    """The part of the graph below `outputs` that a gradient flows through: down to `inputs`, or to all leaves.

    Iterative, so that no chain is too deep; creation order is the topological order.
    """
    seen = set(outputs)
    stack = list(seen)
    nodes = []
    while stack:
        node = stack.pop()
        if node._record is None:
            continue
        nodes.append(node)
        for x in node._record[1]:
            if type(x) is Tensor:
                if x._requires_grad and x not in seen:
                    seen.add(x)
                    stack.append(x)
            elif type(x) is list:
                fresh = {part for part in _tensors([x]) if part._requires_grad} - seen
                seen |= fresh
                stack += fresh
    nodes.sort(key=_date)
    if inputs is None:
        return Graph(nodes, seen)
    active = {x for x in inputs if x._requires_grad}
    leading = []
    for node in nodes:
        assert node._record is not None
        if any(part in active for part in _tensors(node._record[1])):
            leading.append(node)
            active.add(node)
    return Graph(leading, active)


_date = operator.attrgetter("_order")


def _tensors(args: Iterable[Any]) -> Iterable[Tensor]:
    """The tensors among arguments, inside lists too."""
    for x in args:
        if type(x) is Tensor:
            yield x
        elif type(x) is list:
            yield from (part for part in x if type(part) is Tensor)


def _sweep(  # noqa: C901 (every operation passes here: branches are cheaper than calls)
    graph: Graph, cotangents: Cotangents, wanted: Sequence[Tensor] = (), create_graph: bool = False
) -> Cotangents:
    """Cotangents of the leaves of `graph`, and of the `wanted` tensors, given those of its outputs.

    The rules run on plain arrays; with create_graph, on the tensors themselves, so that the result is a graph as well.
    """
    nodes, active = graph
    stale = bool(nodes) and clock.last_write > nodes[0]._order
    checking = _mode.get().checking
    interior = {x: None for x in wanted if x._record is not None}
    for node in reversed(nodes):
        g = cotangents.pop(node, None)
        if g is None:
            continue
        if interior and node in interior:
            interior[node] = g
        function, args, kwargs, values = node._record  # type: ignore[misc]
        out = node._data
        if create_graph:
            values, out = args, node
        if stale:
            values = _guarded(node, args, values)
        binary = len(values) == 2 and not kwargs
        if binary:
            left, right = values
        for x, rule in zip(args, DERIVATIVES[function].rules):  # noqa: B905 (trailing arguments may be left out)
            if type(x) is Tensor:
                if x not in active:
                    continue
                # Two plain arguments are the common case, and naming them makes the call four times as quick.
                share = rule(g, out, left, right) if binary else rule(g, out, *values, **kwargs)  # type: ignore[misc]
                data = x._data
                if type(share) is not type(data) or (
                    type(data) is np.ndarray and (share.shape != data.shape or share.dtype is not data.dtype)
                ):
                    share = _fitted(share, x, node)
                # The sum is a new array: the one before may be somebody else's too.
                cotangents[x] = cotangents[x] + share if x in cotangents else share
                if checking:
                    check_finite(_plain(share), function, (_plain(g), *node._record[3]), "gradient")  # type: ignore[index]
            elif type(x) is list and not active.isdisjoint(_tensors(x)):
                for part, share in zip(x, rule(g, out, *values, **kwargs), strict=True):  # type: ignore[misc]
                    if type(part) is Tensor and part in active:
                        share = _fitted(share, part, node)
                        cotangents[part] = cotangents[part] + share if part in cotangents else share
    cotangents.update((x, g) for x, g in interior.items() if g is not None)
    return cotangents


def _fitted(share: Any, x: Tensor, node: Tensor) -> Any:
    """A share of the cotangent of x, brought to the shape and dtype of x."""
    data = x._data
    if not hasattr(share, "shape"):
        raise TypeError(
            f"the derivative rule of {node._made_by()} gave {share!r}, which is no array: the rule is wrong"
        )
    if share.shape != data.shape:
        share = _unbroadcast(share, x, node)
    if share.dtype is not data.dtype and share.dtype != data.dtype:
        share = share.astype(data.dtype)
    return share


def _unbroadcast(share: Any, x: Tensor, node: Tensor) -> Any:
    """Broadcasting copies x along new axes and axes of length 1; the cotangent of x is the sum over the copies."""
    target, given = x.shape, share.shape
    aligned = (1,) * (len(given) - len(target)) + target
    explained = len(aligned) == len(given) and all(n in (1, m) for n, m in zip(aligned, given, strict=True))
    function: Any = node.function
    if not (explained and DERIVATIVES[function].broadcasts):
        raise ValueError(
            f"the derivative rule of {name_of(function)} gave a cotangent of shape {given} to an input of shape "
            f"{target}, which broadcasting does not explain: the rule is wrong"
        )
    copied = tuple(i for i, (n, m) in enumerate(zip(aligned, given, strict=True)) if n != m)
    return (share.sum(axis=copied) if copied else share).reshape(target)


class _Overwritten:
    """Stands for a value that is no longer there. A rule may ask for its shape; reading it is an error."""

    __slots__ = ("_reader", "dtype", "ndim", "shape", "size")

    def __init__(self, x: Tensor, reader: str) -> None:
        self.shape, self.ndim, self.size, self.dtype = x.shape, x.ndim, x.size, x.dtype
        self._reader = reader

    def _read(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise OverwrittenError(
            f"backward: {self._reader} needs its input of shape {self.shape} as it was when recorded, and it has been "
            "overwritten since (by an optimizer's step, or by assigning .data); run the forward pass again first"
        )

    __array_ufunc__ = __array_function__ = __array__ = __getitem__ = __getattr__ = _read
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _read
    __matmul__ = __rmatmul__ = __pow__ = __rpow__ = __neg__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _read


def _guarded(node: Tensor, args: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values with stand-ins for those that were overwritten after the node was made."""
    return tuple(
        _Overwritten(x, node._made_by())
        if type(x) is Tensor and _written(x) > node._order
        else list(_guarded(node, tuple(x), tuple(value)))
        if type(x) is list
        else value
        for x, value in zip(args, values, strict=True)
    )


def _written(x: Tensor) -> int:
    """When the memory of x was last written: for a view of a leaf (``w.T``), when the leaf was."""
    while x._record is not None:
        source, seen = x._record[1][0], x._record[3][0]
        if type(source) is not Tensor or not np.may_share_memory(x._data, seen):
            break
        x = source
    return x._order


# Gradients ------------------------------------------------------------------------------------------------------------


def backward(self: Tensor, gradient: ArrayLike = None) -> None:
    """Add the gradient of this tensor to the `.grad` of every leaf it depends on.

    gradient: the cotangent to start from, of this tensor's shape; may be left out for a single number, and is then 1.

    ``.grad`` is a plain array of the leaf's shape and dtype. It accumulates: a second backward adds to it, until it is
    set to None (``zero_grad``).

    Raises RuntimeError where there is no graph, ValueError where the cotangent is missing or misshapen,
    OverwrittenError where a value that is needed has been overwritten. Then no ``.grad`` has changed.
    """
    start = {self: _starting_cotangent("backward", self, gradient)}
    cotangents = _sweep(_graph([self]), start)
    owned = _owned(list(cotangents.values()))
    for leaf, g in zip(cotangents, owned, strict=True):
        leaf.grad = g if leaf.grad is None else leaf.grad + g


Tensor.backward = backward  # type: ignore[method-assign]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> list[Any]:
    """Gradients of the sum of `outputs`, weighted by `grad_outputs`, by each of `inputs`: Jᵀ·grad_outputs.

    outputs: a tensor or several. inputs: a tensor or several, leaves or results on the way.
    grad_outputs: one cotangent per output, of its shape; may be left out for single numbers, and is then 1.
    create_graph: give Tensors that are graphs themselves, to be differentiated again, instead of arrays.
    allow_unused: give None, rather than raise, for an input that the outputs do not depend on.

    Returns a list, one entry per input, of that input's shape and dtype. Touches no ``.grad``.

    Raises RuntimeError for outputs without a graph and for unused inputs, ValueError for cotangents that are missing
    or misshapen, OverwrittenError where a needed value has been overwritten. As ``torch.autograd.grad``.
    """
    outputs, inputs = _listed_tensors("grad", outputs), _listed_tensors("grad", inputs)
    weights = [None] * len(outputs) if grad_outputs is None else _listed(grad_outputs)
    if len(weights) != len(outputs):
        raise ValueError(f"grad: {len(outputs)} outputs need as many grad_outputs, not {len(weights)}")
    start: Cotangents = {}
    for output, weight in zip(outputs, weights, strict=True):
        g = _starting_cotangent("grad", output, weight, create_graph)
        start[output] = start[output] + g if output in start else g
    # The gradient's graph is wanted whether or not this is called inside of no_grad.
    with Switched(recording=True) if create_graph else contextlib.nullcontext():
        cotangents = _sweep(_graph(outputs, inputs), start, inputs, create_graph)
    unused = [i for i, x in enumerate(inputs) if x not in cotangents]
    if unused and not allow_unused:
        raise RuntimeError(
            f"grad: the outputs do not depend on inputs {unused} (shapes {[inputs[i].shape for i in unused]}), or "
            "these do not require a gradient; allow_unused=True gives None for them"
        )
    results = [cotangents.get(x) for x in inputs]
    return [None if g is None else _tensor(g) for g in results] if create_graph else _owned(results)


def _starting_cotangent(name: str, output: Tensor, weight: Any, create_graph: bool = False) -> Any:
    if not output._requires_grad:
        raise RuntimeError(
            f"{name}: this tensor has no graph: it was made from nothing that requires a gradient, or under no_grad, "
            "or detached; create the leaves with requires_grad=True"
        )
    if weight is None:
        if output.size != 1:
            raise ValueError(
                f"{name}: the output has shape {output.shape}, not a single number: give a cotangent of that shape, or "
                "reduce it to a loss first (.sum(), .mean())"
            )
        return np.ones(output.shape, output.dtype)[()]
    g = weight if create_graph and type(weight) is Tensor else np.array(_plain(weight), dtype=output.dtype)
    if g.shape != output.shape:
        raise ValueError(f"{name}: the cotangent has shape {g.shape}, the output {output.shape}; they must be equal")
    return g


def _listed(x: Any) -> list[Any]:
    return list(x) if isinstance(x, list | tuple) else [x]


def _listed_tensors(name: str, x: Any) -> list[Tensor]:
    tensors = _listed(x)
    for x in tensors:
        if type(x) is not Tensor:
            raise TypeError(f"{name}: wants tensors, not {type(x).__name__}")
    return tensors


def _differentiable(name: str, inputs: Any) -> list[Tensor]:
    tensors = _listed_tensors(name, inputs)
    constant = [i for i, x in enumerate(tensors) if not x._requires_grad]
    if constant:
        raise RuntimeError(f"{name}: inputs {constant} do not require a gradient; make them with requires_grad=True")
    return tensors


def _plain(x: Any) -> Any:
    return x._data if type(x) is Tensor else x


def _tensor(g: Any) -> Tensor:
    return g if type(g) is Tensor else _result(None, (), {}, (), g, False)


def _owned(results: list[Any]) -> list[Any]:
    """Each result as an array of its own: no views, no read-only broadcasts, no array that is handed out twice."""
    seen: set[int] = set()
    owned = []
    for g in results:
        if type(g) is not np.ndarray or g.base is not None or id(g) in seen:
            g = None if g is None else np.array(g)
        seen.add(id(g))
        owned.append(g)
    return owned


# Derivatives of derivatives -------------------------------------------------------------------------------------------


def hvp(output: Tensor, inputs: Tensor | Sequence[Tensor], vectors: Any) -> list[Array]:
    """Hessian-vector product: H v, where H is the Hessian of the scalar `output` by `inputs`, without forming H.

    H v = ∇(gᵀv) with g = ∇output (Pearlmutter 1994): the gradient is recorded, and swept once with cotangent v.

    vectors: one per input, of its shape. Returns a list of arrays, likewise. Raises as `grad` does.
    """
    inputs = _differentiable("hvp", inputs)
    gradients = grad(output, inputs, create_graph=True, allow_unused=True)
    vectors = _listed(vectors)
    _check_shapes("hvp", inputs, vectors)
    return _vector_product(gradients, inputs, vectors)


def _vector_product(gradients: Sequence[Any], inputs: Sequence[Tensor], vectors: Sequence[Any]) -> list[Array]:
    """One sweep of recorded gradients. Those that depend on nothing (of a linear function) have no curvature."""
    pairs = [(g, v) for g, v in zip(gradients, vectors, strict=True) if g is not None and g._requires_grad]
    if not pairs:
        return [np.zeros(x.shape, x.dtype) for x in inputs]
    swept = grad([g for g, _ in pairs], inputs, [v for _, v in pairs], allow_unused=True)
    return [np.zeros(x.shape, x.dtype) if h is None else h for h, x in zip(swept, inputs, strict=True)]


def _check_shapes(name: str, inputs: Sequence[Tensor], vectors: Sequence[Any]) -> None:
    shapes, given = [x.shape for x in inputs], [np.shape(v) for v in vectors]
    if shapes != given:
        raise ValueError(f"{name}: inputs of shapes {shapes} need vectors of the same shapes, not {given}")


def jacobian(output: Tensor, inputs: Tensor | Sequence[Tensor]) -> list[Array]:
    """All first derivatives: J[i..., j...] = ∂output[i...] / ∂input[j...], one sweep per element of the output.

    Returns a list, one array per input, of shape output.shape + input.shape. An input that is not used gets zeros.
    """
    inputs = _differentiable("jacobian", inputs)
    _starting_cotangent("jacobian", output, np.zeros(output.shape))
    rows = list(_rows(output, inputs))
    return [
        np.array([row[k] for row in rows], dtype=x.dtype).reshape(output.shape + x.shape) for k, x in enumerate(inputs)
    ]


def _rows(output: Tensor, inputs: list[Tensor]) -> Iterable[list[Array]]:
    """The gradient of each element of the output in turn, over one walk of the graph."""
    graph = _graph([output], inputs)
    for i in range(output.size):
        one_hot = np.zeros(output.size, output.dtype)
        one_hot[i] = 1
        cotangents = _sweep(graph, {output: one_hot.reshape(output.shape)}, inputs)
        yield [np.zeros(x.shape, x.dtype) if x not in cotangents else cotangents[x] for x in inputs]


def hessian(output: Tensor, inputs: Tensor | Sequence[Tensor]) -> Array:
    """All second derivatives of a scalar: H[i, j] = ∂²output / ∂θᵢ ∂θⱼ, θ the inputs flattened and concatenated.

    The gradient is recorded once and swept once per column (reverse over reverse). Returns an (n, n) array. It is not
    made symmetric: how far it is from symmetry says how much rounding there is.

    Raises as `grad` does.
    """
    inputs = _differentiable("hessian", inputs)
    gradients = grad(output, inputs, create_graph=True, allow_unused=True)
    size = sum(x.size for x in inputs)
    columns: list[Array] = []
    for g, x in zip(gradients, inputs, strict=True):
        if g is None or not g._requires_grad:
            columns += [np.zeros(size, output.dtype)] * x.size
        else:
            columns += [np.concatenate([part.ravel() for part in row]) for row in _rows(g, inputs)]
    return np.array(columns).reshape(size, size)


# Checking -------------------------------------------------------------------------------------------------------------


def gradcheck(
    f: Callable[..., Tensor],
    inputs: Tensor | Sequence[Tensor],
    order: int = 2,
    eps: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    rng: np.random.Generator | None = None,
) -> bool:
    """Compare the derivatives of f with central differences; True, or an error that says where they part.

    f: takes the inputs, gives a tensor of any shape. inputs: float64 tensors; those that require a gradient are
    checked, element by element. order: 1 checks gradients, 2 also the gradients of gradients. eps: the step.

    With a random cotangent w the first order compares ∇(w·f) with (w·f(x + εe) − w·f(x − εe)) / 2ε; the second does
    the same with u·∇(w·f) for a random u. rng: where w and u come from; by default a fixed seed.

    Raises GradcheckError naming the input, the element, the analytic and the numeric value; ValueError for inputs that
    are not float64.
    """
    inputs = _listed_tensors("gradcheck", inputs)
    rng = np.random.default_rng(0) if rng is None else rng
    checked = [i for i, x in enumerate(inputs) if x._requires_grad]
    if not checked or any(inputs[i].dtype != np.float64 for i in checked):
        raise ValueError("gradcheck: wants inputs that require a gradient, all float64")
    weight = rng.standard_normal(f(*inputs).shape)

    def first(points: list[Tensor]) -> Tensor:
        return np.sum(f(*points) * weight)

    _compare("gradient", first, inputs, checked, eps, rtol, atol)
    if order == 1:
        return True
    directions = [rng.standard_normal(inputs[i].shape) for i in checked]

    def second(points: list[Tensor]) -> Tensor:
        wanted = [points[i] for i in checked]
        gradients = grad(first(points), wanted, create_graph=True, allow_unused=True)
        parts = [np.sum(g * u) for g, u in zip(gradients, directions, strict=True) if g is not None]
        return sum(parts, start=Tensor(0.0))

    _compare("second derivative", second, inputs, checked, eps, rtol, atol)
    return True


def _compare(
    what: str,
    scalar: Callable[[list[Tensor]], Tensor],
    inputs: list[Tensor],
    checked: list[int],
    eps: float,
    rtol: float,
    atol: float,
) -> None:
    value = scalar(inputs)
    wanted = [inputs[i] for i in checked]
    analytic = grad(value, wanted, allow_unused=True) if value._requires_grad else [None] * len(wanted)
    for i, by_rule in zip(checked, analytic, strict=True):
        x = inputs[i]
        exact = np.zeros(x.shape) if by_rule is None else by_rule
        for index in np.ndindex(x.shape):
            numeric = _central_difference(scalar, inputs, i, index, eps)
            if not abs(exact[index] - numeric) <= atol + rtol * abs(numeric):
                raise GradcheckError(
                    f"{what} of input {i} (shape {x.shape}), element {index}: analytic {exact[index]:.10g}, "
                    f"numeric {numeric:.10g}"
                )


def _central_difference(
    scalar: Callable[[list[Tensor]], Tensor], inputs: list[Tensor], i: int, index: tuple[int, ...], eps: float
) -> float:
    def at(step: float) -> float:
        moved = np.array(inputs[i].data)
        moved[index] += step
        points = [*inputs[:i], Tensor(moved, requires_grad=True), *inputs[i + 1 :]]
        return scalar(points).item()

    return (at(eps) - at(-eps)) / (2 * eps)


__all__ = [
    "GradcheckError",
    "OverwrittenError",
    "backward",
    "grad",
    "gradcheck",
    "hessian",
    "hvp",
    "jacobian",
]
