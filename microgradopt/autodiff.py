"""What follows from the reverse sweep: gradients, Hessian-vector products, Jacobians, Hessians."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from microgradopt.mode import Switched
from microgradopt.sweep import Cotangents, graph_of, plain, sweep
from microgradopt.tensor import Array, ArrayLike, Tensor, _result

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
    cotangents = sweep(graph_of([self]), start)
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
    outputs, inputs = listed_tensors("grad", outputs), listed_tensors("grad", inputs)
    weights = [None] * len(outputs) if grad_outputs is None else _listed(grad_outputs)
    if len(weights) != len(outputs):
        raise ValueError(f"grad: {len(outputs)} outputs need as many grad_outputs, not {len(weights)}")
    start: Cotangents = {}
    for output, weight in zip(outputs, weights, strict=True):
        g = _starting_cotangent("grad", output, weight, create_graph)
        start[output] = start[output] + g if output in start else g
    # The gradient's graph is wanted whether or not this is called inside of no_grad.
    with Switched(recording=True) if create_graph else contextlib.nullcontext():
        cotangents = sweep(graph_of(outputs, inputs), start, inputs, create_graph)
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
    g = weight if create_graph and type(weight) is Tensor else np.array(plain(weight), dtype=output.dtype)
    if g.shape != output.shape:
        raise ValueError(f"{name}: the cotangent has shape {g.shape}, the output {output.shape}; they must be equal")
    return g


def _listed(x: Any) -> list[Any]:
    return list(x) if isinstance(x, list | tuple) else [x]


def listed_tensors(name: str, x: Any) -> list[Tensor]:
    """One tensor, or several, as a list. Raises TypeError, in the name of the caller, for anything else."""
    tensors = _listed(x)
    for x in tensors:
        if type(x) is not Tensor:
            raise TypeError(f"{name}: wants tensors, not {type(x).__name__}")
    return tensors


def _differentiable(name: str, inputs: Any) -> list[Tensor]:
    tensors = listed_tensors(name, inputs)
    constant = [i for i, x in enumerate(tensors) if not x._requires_grad]
    if constant:
        raise RuntimeError(f"{name}: inputs {constant} do not require a gradient; make them with requires_grad=True")
    return tensors


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
    graph = graph_of([output], inputs)
    for i in range(output.size):
        one_hot = np.zeros(output.size, output.dtype)
        one_hot[i] = 1
        cotangents = sweep(graph, {output: one_hot.reshape(output.shape)}, inputs)
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
