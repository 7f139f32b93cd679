"""Derivative rules, by family. Plain NumPy throughout: nothing here knows what a Tensor is."""

import functools

from microgradopt.deprecated import old_names
from microgradopt.rules import (
    elementwise,
    indexing,
    linalg,
    numerical,
    products,
    questions,
    reductions,
    registry,
    shapes,
    special,
    statistics,
)
from microgradopt.rules.reductions import log_softmax, logsumexp, softmax
from microgradopt.rules.registry import (
    KNOWN,
    Known,
    NotDifferentiableError,
    composed,
    composite,
    derivative,
    question,
    supported,
)

__all__ = [
    "KNOWN",
    "Known",
    "NotDifferentiableError",
    "composed",
    "composite",
    "derivative",
    "elementwise",
    "indexing",
    "linalg",
    "log_softmax",
    "logsumexp",
    "numerical",
    "products",
    "question",
    "questions",
    "reductions",
    "shapes",
    "softmax",
    "special",
    "statistics",
    "supported",
]

__getattr__ = old_names(
    __name__,
    {
        "kinked": ("derivative(..., kink=distance)", registry.kinked),
        "nondifferentiable": ("question(..., smooth=True)", functools.partial(question, smooth=True)),
    },
)
