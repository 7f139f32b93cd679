"""microgradopt: automatic differentiation and optimization in one readable codebase, from loss to update."""

from microgradopt import critical, nn, optim, rules
from microgradopt.autodiff import grad, hessian, hvp, jacobian
from microgradopt.errors import GradcheckError, NonFiniteError, OverwrittenError
from microgradopt.gradcheck import gradcheck
from microgradopt.mode import detect_anomaly, is_grad_enabled, no_grad
from microgradopt.objective import Objective
from microgradopt.rules import NotDifferentiableError, log_softmax, logsumexp, softmax
from microgradopt.tensor import Tensor

__version__ = "0.1.0"

__all__ = [
    "GradcheckError",
    "NonFiniteError",
    "NotDifferentiableError",
    "Objective",
    "OverwrittenError",
    "Tensor",
    "critical",
    "detect_anomaly",
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
]
