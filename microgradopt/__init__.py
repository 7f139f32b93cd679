"""microgradopt: automatic differentiation and optimization in one readable codebase, from loss to update."""

from typing import TYPE_CHECKING

from microgradopt import curvature, nn, optim, rules
from microgradopt.anomaly import detect_anomaly
from microgradopt.autodiff import grad, hessian, hvp, jacobian
from microgradopt.differences import gradcheck
from microgradopt.errors import GradcheckError, NonFiniteError, OverwrittenError
from microgradopt.lazy import on_use
from microgradopt.mode import is_grad_enabled, no_grad
from microgradopt.objective import Objective
from microgradopt.rules import NotDifferentiableError, log_softmax, logsumexp, softmax
from microgradopt.tensor import Tensor

if TYPE_CHECKING:
    from microgradopt import (
        bridges,
        critical,
        derivatives,
        diagnosis,
        graph,
        page,
        picture,
        plots,
        program,
        training,
    )
    from microgradopt.graph import trace
    from microgradopt.page import explain
    from microgradopt.picture import Drawing, GraphvizMissingError, draw, draw_on_error
    from microgradopt.program import StaleProgramError, TracingError, compile, source

__version__ = "0.2.0"

__all__ = [
    "Drawing",
    "GradcheckError",
    "GraphvizMissingError",
    "NonFiniteError",
    "NotDifferentiableError",
    "Objective",
    "OverwrittenError",
    "StaleProgramError",
    "Tensor",
    "TracingError",
    "bridges",
    "compile",
    "critical",
    "curvature",
    "derivatives",
    "detect_anomaly",
    "diagnosis",
    "draw",
    "draw_on_error",
    "explain",
    "grad",
    "gradcheck",
    "graph",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacobian",
    "log_softmax",
    "logsumexp",
    "nn",
    "no_grad",
    "optim",
    "page",
    "picture",
    "plots",
    "program",
    "rules",
    "softmax",
    "source",
    "trace",
    "training",
]

_ROOMS = (
    "bridges", "critical", "derivatives", "diagnosis", "graph", "page", "picture", "plots", "program", "training",
)  # fmt: skip

__getattr__ = on_use(
    __name__,
    dict(zip(_ROOMS, _ROOMS, strict=True))
    | dict.fromkeys(("StaleProgramError", "TracingError", "compile", "source"), "program")
    | dict.fromkeys(("Drawing", "GraphvizMissingError", "draw", "draw_on_error"), "picture")
    | {"trace": "graph", "explain": "page"},
)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "__doc__", "__file__", "__name__", "__path__"])
