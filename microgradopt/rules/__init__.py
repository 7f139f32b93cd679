"""Derivative rules, by family. Plain NumPy throughout: nothing here knows what a Tensor is."""

from microgradopt.rules import elementwise, indexing, linalg, questions, reductions, shapes
from microgradopt.rules.reductions import log_softmax, logsumexp, softmax
from microgradopt.rules.registry import (
    NotDifferentiableError,
    composed,
    composite,
    derivative,
    kinked,
    nondifferentiable,
    supported,
)

__all__ = [
    "NotDifferentiableError",
    "composed",
    "composite",
    "derivative",
    "elementwise",
    "indexing",
    "kinked",
    "linalg",
    "log_softmax",
    "logsumexp",
    "nondifferentiable",
    "questions",
    "reductions",
    "shapes",
    "softmax",
    "supported",
]
