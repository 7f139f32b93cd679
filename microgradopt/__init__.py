"""microgradopt: automatic differentiation and optimization in one readable codebase, from loss to update."""

from typing import Any

from microgradopt import curvature, nn, optim, rules
from microgradopt.anomaly import detect_anomaly
from microgradopt.autodiff import grad, hessian, hvp, jacobian
from microgradopt.errors import GradcheckError, NonFiniteError, OverwrittenError
from microgradopt.gradcheck import gradcheck
from microgradopt.mode import is_grad_enabled, no_grad
from microgradopt.objective import Objective
from microgradopt.rules import NotDifferentiableError, log_softmax, logsumexp, softmax
from microgradopt.tensor import Tensor

__version__ = "0.1.0"

__all__ = [
    "Drawing",
    "GradcheckError",
    "GraphvizMissingError",
    "NonFiniteError",
    "NotDifferentiableError",
    "Objective",
    "OverwrittenError",
    "Tensor",
    "TracingError",
    "compile",
    "critical",
    "curvature",
    "detect_anomaly",
    "draw",
    "explain",
    "grad",
    "gradcheck",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacobian",
    "log_softmax",
    "logsumexp",
    "nn",
    "no_grad",
    "optim",
    "rules",
    "softmax",
    "source",
    "trace",
]


_GRAPH = ("Drawing", "GraphvizMissingError", "TracingError", "compile", "draw", "explain", "source", "trace")


def __getattr__(name: str) -> Any:
    """What is loaded when it is first asked for: importing the library is to cost little more than NumPy."""
    if name == "critical":
        import microgradopt.critical

        return microgradopt.critical
    if name in _GRAPH:
        import microgradopt.graph

        return getattr(microgradopt.graph, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
