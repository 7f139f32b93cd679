"""What follows from the reverse sweep: gradients, Hessian-vector products, Jacobians, Hessians."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import ref

import numpy as np

from microgradopt.rules.registry import arrays
from microgradopt.rules.stack import Stack
from microgradopt.rules.values import check_real
from microgradopt.sweep import Cotangents, Graph, graph_of, sweep
from microgradopt.tensor import Array, ArrayLike, Tensor, constant, plain

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
        if leaf.grad is None:
            leaf.grad, leaf.graded = g, (self.order, ref(g))
        else:
            total = leaf.grad + g
            leaf.grad = total if total.ndim else np.copy(total)  # the sum of 0-d arrays is a scalar
            again = leaf.graded is not None and leaf.graded[0] == self.order
            leaf.graded = (self.order, ref(leaf.grad)) if again else None


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

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> grad(np.sum(x**3), x)
    [array([ 3., 12.])]
    """
    outputs, inputs = listed_tensors("grad", outputs), listed_tensors("grad", inputs)
    if not (outputs and inputs):
        raise ValueError("grad: wants outputs and inputs, at least one of each")
    weights = [None] * len(outputs) if grad_outputs is None else _listed(grad_outputs)
    if len(weights) != len(outputs):
        raise ValueError(f"grad: {len(outputs)} outputs need as many grad_outputs, not {len(weights)}")
    start: Cotangents = {}
    for output, weight in zip(outputs, weights, strict=True):
        g = _starting_cotangent("grad", output, weight, create_graph)
        start[output] = start[output] + g if output in start else g
    cotangents = sweep(graph_of(outputs, inputs), start, inputs, create_graph)
    unused = [i for i, x in enumerate(inputs) if x not in cotangents]
    if unused and not allow_unused:
        raise RuntimeError(
            f"grad: the outputs do not depend on inputs {unused} (shapes {[inputs[i].shape for i in unused]}), or "
            "these do not require a gradient; allow_unused=True gives None for them"
        )
    results = [cotangents.get(x) for x in inputs]
    if not create_graph:
        return _owned(results)
    return [g if g is None or type(g) is Tensor else constant(g) for g in results]


def _starting_cotangent(name: str, output: Tensor, weight: Any, create_graph: bool = False) -> Any:
    if not output.needs_grad:
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
        return np.ones(output.shape, output.dtype) if output.ndim else output.dtype.type(1)
    g = weight if create_graph and type(weight) is Tensor else _real(name, weight, output.dtype)
    if g.shape != output.shape:
        raise ValueError(f"{name}: the cotangent has shape {g.shape}, the output {output.shape}; they must be equal")
    return g


def _real(name: str, vector: Any, dtype: Any) -> Any:
    """A cotangent, or a vector, as an array of real numbers."""
    (array,) = arrays(plain(vector))
    check_real(name, array)
    return array.astype(dtype)


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
    if not tensors:
        raise ValueError(f"{name}: wants an input, and there is none")
    constant = [i for i, x in enumerate(tensors) if not x.needs_grad]
    if constant:
        raise RuntimeError(f"{name}: inputs {constant} do not require a gradient; make them with requires_grad=True")
    return tensors


def _owned(results: list[Any]) -> list[Any]:
    """Each result as an array of its own: no views, no read-only broadcasts, no array that is handed out twice."""
    seen: set[int] = set()
    owned = []
    for g in results:
        if g is not None and (not g.ndim or (type(g) is np.ndarray and (g.base is not None or id(g) in seen))):
            g = np.copy(g)
        seen.add(id(g))
        owned.append(g)
    return owned


# Derivatives of derivatives -------------------------------------------------------------------------------------------


def hvp(output: Tensor, inputs: Tensor | Sequence[Tensor], vectors: Any) -> list[Array]:
    """Hessian-vector product: H v, where H is the Hessian of the scalar `output` by `inputs`, without forming H.

    H v = ∇(gᵀv) with g = ∇output (Pearlmutter 1994): the gradient is recorded, and swept once with cotangent v.

    vectors: one per input, of its shape. Returns a list of arrays, likewise. Raises as `grad` does.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> hvp(np.sum(x**3), x, [np.array([1.0, 0.0])])
    [array([6., 0.])]
    """
    inputs = _differentiable("hvp", inputs)
    vectors = _listed(vectors)
    shapes, given = [x.shape for x in inputs], [np.shape(v) for v in vectors]
    if shapes != given:
        raise ValueError(f"hvp: inputs of shapes {shapes} need vectors of the same shapes, not {given}")
    vectors = [_real("hvp", v, x.dtype) for v, x in zip(vectors, inputs, strict=True)]
    return _owned(RecordedGradient(output, inputs).product(vectors))


def hessian(output: Tensor, inputs: Tensor | Sequence[Tensor], symmetric: bool = False) -> Array:
    """All second derivatives of a scalar: H[i, j] = ∂²output / ∂θᵢ ∂θⱼ, θ the inputs flattened and concatenated.

    The gradient is recorded once and swept for all columns (reverse over reverse). Returns an (n, n) array. It is not
    made symmetric: how far it is from symmetry says how much rounding there is.

    symmetric: compute the block of each two inputs once, and take its transpose for the other: with several inputs
    about half the work.

    Raises as `grad` does.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> hessian(x[0] ** 2 * x[1], x)
    array([[4., 2.],
           [2., 0.]])
    """
    return RecordedGradient(output, _differentiable("hessian", inputs)).hessian(symmetric)


class RecordedGradient:
    """g = ∇output as a graph of its own, recorded once; every sweep of it with cotangent v gives H v = ∇(gᵀv).

    output: a scalar. inputs: tensors that require a gradient. Raises as `grad` does.

    Attributes: `gradients`, one Tensor per input, or None where the output does not depend on it; `at_once`, how many
    products are quickest done together.
    """

    def __init__(self, output: Tensor, inputs: Sequence[Tensor]) -> None:
        self.inputs = list(inputs)
        self.gradients = grad(output, self.inputs, create_graph=True, allow_unused=True)
        # The gradient of what is linear is constant: it has no graph, and no curvature.
        self._curved = [i for i, g in enumerate(self.gradients) if g is not None and g.needs_grad]
        self._graph = graph_of([self.gradients[i] for i in self._curved], self.inputs)
        self.at_once = _at_once(self._graph)

    def product(self, vectors: Sequence[Any]) -> list[Any]:
        """H v by parts. vectors: one per input, of its shape: arrays, or Stacks of k arrays for k products at once."""
        start: Cotangents = {}
        for i in self._curved:
            g, v = self.gradients[i], vectors[i]
            start[g] = start[g] + v if g in start else v  # two inputs may share one gradient (of x + y)
        swept = sweep(self._graph, start, self.inputs)
        return [swept[x] if x in swept else np.zeros(x.shape, x.dtype) for x in self.inputs]

    def steps(self) -> list[int]:
        """How many rows of H `hessian` computes at once, for each input; 0 where they are all zeros."""
        graphs = {i: graph_of([self.gradients[i]], self.inputs) for i in self._curved}
        return [_at_once(graphs[i]) if i in graphs else 0 for i in range(len(self.inputs))]

    def rows(self, i: int, vectors: Array) -> list[Array]:
        """H v by parts, where all of v but the part of input i is 0. vectors: k of these parts, (k, *its shape)."""
        g = self.gradients[i]
        return _swept(graph_of([g], self.inputs), g, self.inputs, vectors)

    def hessian(self, symmetric: bool = False) -> Array:
        """H, (n, n), all inputs flattened in order: one block of rows for each input. symmetric: see `hessian`."""
        ends = np.cumsum([x.size for x in self.inputs]).tolist()
        # np.zeros would not do while a program is traced: it has no argument to be traced by.
        dtype = np.result_type(*(x.dtype for x in self.inputs))
        H = np.zeros_like(self.inputs[0].value, shape=(ends[-1], ends[-1]), dtype=dtype)
        places = [slice(end - x.size, end) for end, x in zip(ends, self.inputs, strict=True)]
        # With the small ones first, the largest of all has no row but its own block left to compute.
        order = sorted(self._curved, key=lambda i: self.inputs[i].size) if symmetric else self._curved
        for done, i in enumerate(order):
            columns = order[done:] if symmetric else range(len(self.inputs))
            blocks = _rows(self.gradients[i], [self.inputs[j] for j in columns])
            for j, block in zip(columns, blocks, strict=True):
                H[places[i], places[j]] = block = block.reshape(self.inputs[i].size, self.inputs[j].size)
                if symmetric and i != j:
                    H[places[j], places[i]] = block.T
        return H


def jacobian(output: Tensor, inputs: Tensor | Sequence[Tensor]) -> list[Array]:
    """All first derivatives: J[i..., j...] = ∂output[i...] / ∂input[j...], one row per element of the output.

    Returns a list, one array per input, of shape output.shape + input.shape. An input that is not used gets zeros.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> jacobian(np.exp(x) * [1, 0], x)[0].round(3)
    array([[2.718, 0.   ],
           [0.   , 0.   ]])
    """
    inputs = _differentiable("jacobian", inputs)
    (output,) = listed_tensors("jacobian", output)
    _starting_cotangent("jacobian", output, np.zeros(output.shape))
    return [rows.reshape(output.shape + x.shape) for rows, x in zip(_rows(output, inputs), inputs, strict=True)]


# How many numbers a sweep of several rows at once may have in its largest array: as many as stay in a core's cache.
_AT_ONCE = 2**15


def _at_once(graph: Graph) -> int:
    """How many rows to sweep at once."""
    largest = max((getattr(node.value, "size", 0) for node in graph.nodes), default=0)  # Outputs have no size
    return max(1, _AT_ONCE // max(largest, 1))


def _rows(output: Tensor, inputs: list[Tensor]) -> list[Array]:
    """The gradients of each element of the output, as the rows of one array per input: (output.size, *input.shape)."""
    graph = graph_of([output], inputs)
    found = [_swept(graph, output, inputs, e) for _, e in basis(output, _at_once(graph))]
    found = found or [[np.zeros((0, *x.shape), x.dtype) for x in inputs]]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _swept(graph: Graph, output: Tensor, inputs: list[Tensor], cotangents: Array) -> list[Array]:
    """Some of these rows, k of them: cotangents, (k, *output.shape); one array per input, (k, *input.shape)."""
    swept = sweep(graph, {output: Stack(cotangents)}, inputs)
    return [swept[x].data if x in swept else np.zeros((len(cotangents), *x.shape), x.dtype) for x in inputs]


def basis(x: Tensor, step: int) -> Iterator[tuple[int, Array]]:
    """The unit vectors in the space of x, so many at once: where they begin, and an array, (step, *x.shape).

    The last array may be shorter. No step, no vectors.
    """
    for first in range(0, x.size, step) if step else ():
        k = min(step, x.size - first)
        yield first, np.eye(k, x.size, first, dtype=x.dtype).reshape(k, *x.shape)
