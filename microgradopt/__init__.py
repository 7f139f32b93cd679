"""microgradopt: automatic differentiation and optimization in one readable codebase, from loss to update."""


from microgradopt import rules
from microgradopt.autodiff import GradcheckError, OverwrittenError, grad, gradcheck, hessian, hvp, jacobian
from microgradopt.rules import NotDifferentiableError, log_softmax, logsumexp, softmax
from microgradopt.tensor import NonFiniteError, Tensor, detect_anomaly, is_grad_enabled, no_grad, tensor
