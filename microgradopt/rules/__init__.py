"""Derivative rules, by family. Plain NumPy throughout: nothing here knows what a Tensor is."""

from microgradopt.rules import (
    elementwise,
    indexing,
    linalg,
    numerical,
    products,
    questions,
    reductions,
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
