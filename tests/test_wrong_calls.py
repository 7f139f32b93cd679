"""Wrong calls over the whole public API: each with the error it must give, and the proof that nothing has changed."""

import math

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import NonFiniteError, NotDifferentiableError, Tensor, critical, curvature, nn, optim, plots, training
from microgradopt.optim import schedules

LinAlgError, AxisError = np.linalg.LinAlgError, np.exceptions.AxisError


def needing(array):
    return Tensor(array, requires_grad=True)


def generator():
    yield 1


class World:
    """What the calls are made on: tensors, a model and its optimizer in the middle of a run."""

    def __init__(self):
        self.x, self.M, self.s = needing([1.0, 2.0, 3.0]), needing(np.arange(6.0).reshape(2, 3)), needing(2.0)
        self.model = nn.MLP((3, 4, 2), nn.Tanh, rng=0)
        self.X, self.y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])
        self.objective = mg.Objective(lambda v: (v * v).sum(), [1.0, 2.0])
        self.optimizer = optim.Adam(self.model.parameters())
        self.loss().backward()
        self.optimizer.step()

    def loss(self):
        return nn.cross_entropy(self.model(self.X), self.y)

    def sgd(self, **settings):
        return optim.SGD(self.model.parameters(), **settings)

    def step_from(self, g):
        parameter = needing([1.0])
        parameter.grad = g
        optim.SGD([parameter], lr=0.1).step()

    def seen(self, gradients=True):
        tensors = [self.x, self.M, self.s, *self.model.parameters()]
        records = [
            (t.data.tolist(), t.grad.tolist() if gradients and t.grad is not None else None, t.requires_grad)
            for t in tensors
        ]
        data = self.X.tolist(), self.y.tolist(), self.objective.theta.tolist(), np.random.get_state()[1].tolist()
        return repr((records, data, self.optimizer.state_dict()))


CALLS = [
    ("tensor of complex", lambda w: mg.Tensor([1j]), TypeError, r"Tensor: real numbers are wanted, not"),
    ("tensor of strings", lambda w: mg.Tensor(["a"]), TypeError, r"Tensor: real numbers are wanted, not <U1 of"),
    ("tensor of objects", lambda w: mg.Tensor([None]), TypeError, r"Tensor: real numbers are wanted, not object"),
    ("tensor ragged", lambda w: mg.Tensor([[1.0, 2.0], [3.0]]), ValueError, r"Tensor: setting an array element with a"),
    (
        "tensor int dtype",
        lambda w: mg.Tensor([1.0], dtype=int),
        TypeError,
        r"Tensor: a Tensor holds floats, not int64;",
    ),
    (
        "tensor masked",
        lambda w: mg.Tensor(np.ma.array([1.0, 2.0], mask=[0, 1])),
        TypeError,
        r"Tensor: a masked array would lose its mask;",
    ),
    (
        "data wrong shape",
        lambda w: setattr(w.x, "data", [1.0, 2.0]),
        ValueError,
        r"data: an array of shape \(2,\) cannot be",
    ),
    (
        "data of a result",
        lambda w: setattr(w.x * 2, "data", [1.0, 2.0, 3.0]),
        ValueError,
        r"data: only a leaf can be written, and this",
    ),
    (
        "requires_grad of a result",
        lambda w: setattr(w.x * 2, "requires_grad", False),
        ValueError,
        r"requires_grad: only a leaf can be switched;",
    ),
    ("item of many", lambda w: w.x.item(), ValueError, r"item: a tensor of shape \(3,\) is not of size"),
    ("setitem", lambda w: w.x.__setitem__(0, 1.0), TypeError, r"a Tensor is not changed in place: build a"),
    ("bool of many", lambda w: bool(w.x), ValueError, r"The truth value of an array with more than"),
    ("float of needing", lambda w: float(w.s), TypeError, r"float\(\) of a tensor that requires a"),
    ("asarray of needing", lambda w: np.asarray(w.x), TypeError, r"np\.asarray of a tensor that requires a"),
    ("iterate 0-d", lambda w: list(w.s), TypeError, r"iteration over a tensor of shape \(\)"),
    ("len 0-d", lambda w: len(w.s), TypeError, r"len\(\) of a tensor of shape \(\)"),
    ("index out of range", lambda w: w.x[5], IndexError, r"index 5 is out of bounds for axis 0 with"),
    ("index float", lambda w: w.x[1.5], IndexError, r"only integers, slices \(`:`\), ellipsis"),
    ("copy a result", lambda w: __import__("copy").copy(w.x * 2), TypeError, r"only leaves can be copied or pickled;"),
    (
        "matmul shapes",
        lambda w: w.M @ needing(np.ones((2, 3))),
        ValueError,
        r"matmul: shapes \(2, 3\) and \(2, 3\) do not",
    ),
    ("add shapes", lambda w: w.x + needing([1.0, 2.0]), ValueError, r"add: shapes \(3,\) and \(2,\) do not match;"),
    ("add None", lambda w: w.x + None, TypeError, r"add: real numbers are wanted, not object of"),
    ("pow complex", lambda w: w.x**1j, TypeError, r"power: real numbers are wanted, not"),
    ("reshape", lambda w: w.x.reshape(2, 2), ValueError, r"cannot reshape array of size 3 into shape"),
    ("astype int", lambda w: w.x.astype(int), TypeError, r"astype: a Tensor holds floats, not int64;"),
    (
        "concatenate shapes",
        lambda w: np.concatenate([w.x, w.M]),
        ValueError,
        r"concatenate: called with shapes \(3,\) and",
    ),
    ("no rule", lambda w: np.fft.fft(w.x), NotDifferentiableError, r"fft: no derivative rule, and a gradient"),
    (
        "out=",
        lambda w: np.exp(w.x, out=np.zeros(3)),
        NotDifferentiableError,
        r"exp: an array cannot be changed in place to",
    ),
    (
        "in place add of array",
        lambda w: np.zeros(3).__iadd__(w.x),
        NotDifferentiableError,
        r"add: an array cannot be changed in place to",
    ),
    ("ufunc at", lambda w: np.add.at(w.x, [0], 1.0), TypeError, r"add\.at: a Tensor is not changed in place"),
    ("sum axis", lambda w: w.x.sum(axis=3), AxisError, r"axis 3 is out of bounds for array of"),
    ("einsum", lambda w: np.einsum("ij,jk", w.x, w.M), ValueError, r"einsum: .ij,jk. does not fit operands of"),
    (
        "linalg inv not square",
        lambda w: np.linalg.inv(w.M),
        LinAlgError,
        r"linalg\.inv: called with shapes \(2, 3\) \(Last",
    ),
    ("array of tensors", lambda w: np.array([w.x, w.x]), TypeError, r"np\.asarray of a tensor that requires a"),
    ("math.exp", lambda w: math.exp(w.s), TypeError, r"float\(\) of a tensor that requires a"),
    ("backward non scalar", lambda w: w.x.backward(), ValueError, r"backward: the output has shape \(3,\), not a"),
    (
        "backward no graph",
        lambda w: mg.Tensor([1.0]).sum().backward(),
        RuntimeError,
        r"backward: this tensor has no graph: it was",
    ),
    (
        "backward cotangent shape",
        lambda w: (w.x * 2).backward([1.0, 2.0]),
        ValueError,
        r"backward: the cotangent has shape \(2,\), the",
    ),
    (
        "backward complex",
        lambda w: (w.x * 2).backward(np.array([1j, 1, 1])),
        TypeError,
        r"backward: real numbers are wanted, not",
    ),
    (
        "backward string",
        lambda w: (w.x * 2).sum().backward("a"),
        TypeError,
        r"backward: real numbers are wanted, not <U1",
    ),
    ("grad unused", lambda w: mg.grad(w.x.sum(), w.s), RuntimeError, r"grad: the outputs do not depend on inputs"),
    ("grad of number", lambda w: mg.grad(1.0, w.x), TypeError, r"grad: wants tensors, not float"),
    ("grad wrt number", lambda w: mg.grad(w.x.sum(), 1.0), TypeError, r"grad: wants tensors, not float"),
    (
        "grad wrong number of cotangents",
        lambda w: mg.grad([w.x.sum()], w.x, [1.0, 2.0]),
        ValueError,
        r"grad: 1 outputs need as many grad_outputs,",
    ),
    (
        "grad constant input",
        lambda w: mg.grad(w.x.sum(), mg.Tensor([1.0])),
        RuntimeError,
        r"grad: the outputs do not depend on inputs",
    ),
    ("hessian of vector", lambda w: mg.hessian(w.x * 2, w.x), ValueError, r"grad: the output has shape \(3,\), not a"),
    (
        "hessian no inputs",
        lambda w: mg.hessian(w.x.sum(), []),
        ValueError,
        r"hessian: wants an input, and there is none",
    ),
    ("grad no inputs", lambda w: mg.grad(w.x.sum(), []), ValueError, r"grad: wants outputs and inputs, at least"),
    (
        "hvp shapes",
        lambda w: mg.hvp((w.x * w.x).sum(), w.x, np.ones(2)),
        ValueError,
        r"hvp: inputs of shapes \[\(3,\)\] need vectors",
    ),
    (
        "hvp complex",
        lambda w: mg.hvp((w.x * w.x).sum(), w.x, np.ones(3) * 1j),
        TypeError,
        r"hvp: real numbers are wanted, not",
    ),
    ("jacobian of number", lambda w: mg.jacobian(1.0, w.x), TypeError, r"jacobian: wants tensors, not float"),
    (
        "jacobian constant",
        lambda w: mg.jacobian(w.x * 2, mg.Tensor([1.0])),
        RuntimeError,
        r"jacobian: inputs \[0\] do not require a",
    ),
    (
        "gradcheck order",
        lambda w: mg.gradcheck(lambda a: a.sum(), w.x, order=7),
        ValueError,
        r"gradcheck: order is 1 or 2, and eps, rtol",
    ),
    (
        "gradcheck rtol inf",
        lambda w: mg.gradcheck(lambda a: a.sum(), w.x, rtol=math.inf),
        ValueError,
        r"gradcheck: order is 1 or 2, and eps, rtol",
    ),
    (
        "gradcheck float",
        lambda w: mg.gradcheck(lambda a: 1.0, w.x),
        TypeError,
        r"gradcheck: f is to give a Tensor, not float",
    ),
    (
        "gradcheck float32",
        lambda w: mg.gradcheck(lambda a: a.sum(), mg.Tensor(np.ones(2, np.float32), requires_grad=True)),
        ValueError,
        r"gradcheck: wants inputs that require a",
    ),
    (
        "gradcheck no tensor",
        lambda w: mg.gradcheck(lambda a: a.sum(), 5),
        TypeError,
        r"gradcheck: wants tensors, not int",
    ),
    ("objective f", lambda w: mg.Objective(5, [1.0, 2.0]), TypeError, r"Objective: f is a function of θ, a Tensor"),
    (
        "objective x0 shape",
        lambda w: mg.Objective(lambda v: v.sum(), [[1.0]]),
        ValueError,
        r"Objective: x0 is a vector of shape \(n,\),",
    ),
    (
        "objective vector value",
        lambda w: mg.Objective(lambda v: v * 2, [1.0, 2.0]).value(),
        ValueError,
        r"Objective: the loss is to be a scalar",
    ),
    (
        "objective number value",
        lambda w: mg.Objective(lambda v: 1.0, [1.0, 2.0]).value(),
        ValueError,
        r"Objective: the loss is to be a scalar",
    ),
    (
        "objective of other model",
        lambda w: mg.Objective.of(nn.MLP((3, 4, 2), rng=1), w.loss).gradient(),
        RuntimeError,
        r"the loss does not depend on any of the 4",
    ),
    (
        "objective of value",
        lambda w: mg.Objective.of(w.model, w.loss()),
        TypeError,
        r"Objective\.of: loss is a function without",
    ),
    (
        "objective of nothing",
        lambda w: mg.Objective.of([], w.loss),
        ValueError,
        r"parameters: there are none \(an iterator",
    ),
    (
        "objective of tensor",
        lambda w: mg.Objective.of(w.x, lambda: w.x.sum()),
        TypeError,
        r"Objective\.of: a model or a list of tensors",
    ),
    (
        "objective of number",
        lambda w: mg.Objective.of(5, w.loss),
        TypeError,
        r"Objective\.of: a model of mg\.nn or a list of",
    ),
    (
        "objective theta shape",
        lambda w: w.objective.value([1.0]),
        ValueError,
        r"theta has shape \(1,\); this objective.s",
    ),
    (
        "objective set theta",
        lambda w: setattr(w.objective, "theta", [1.0, 2.0, 3.0]),
        ValueError,
        r"theta has shape \(3,\); this objective.s",
    ),
    ("objective hvp shape", lambda w: w.objective.hvp([1.0]), ValueError, r"hvp: v has shape \(1,\); this objective.s"),
    (
        "least squares scalar",
        lambda w: mg.Objective.least_squares([w.x], lambda: w.x.sum()).value(),
        TypeError,
        r"least squares: the residuals are wanted, a",
    ),
    ("linear sizes", lambda w: nn.Linear(-1, 3), ValueError, r"Linear: in_features is a whole number from"),
    ("linear float sizes", lambda w: nn.Linear(2.5, 3), ValueError, r"Linear: in_features is a whole number from"),
    (
        "linear width",
        lambda w: nn.Linear(3, 2, rng=0)(np.ones((4, 5))),
        ValueError,
        r"linear: called with shapes \(4, 5\) and \(2,",
    ),
    (
        "linear of string",
        lambda w: nn.Linear(3, 2, rng=0)("a"),
        TypeError,
        r"linear: called with shapes \(2, 3\) and \(2,\)",
    ),
    (
        "mlp activation instance",
        lambda w: nn.MLP((2, 3), activation=nn.Tanh()),
        TypeError,
        r"MLP: activation is what makes the",
    ),
    ("mlp one size", lambda w: nn.MLP((3,)), ValueError, r"MLP: sizes is a list, at least of the sizes"),
    ("mlp no sizes", lambda w: nn.MLP(3), ValueError, r"MLP: sizes is a list, at least of the sizes"),
    ("layernorm eps", lambda w: nn.LayerNorm(3, eps=-1.0), ValueError, r"LayerNorm: normalized_shape has an axis or"),
    (
        "layernorm shape",
        lambda w: nn.LayerNorm(3)(np.ones((2, 4))),
        ValueError,
        r"LayerNorm: x of shape \(2, 4\) does not end",
    ),
    ("softplus beta", lambda w: nn.Softplus(-1.0), ValueError, r"Softplus: beta is positive, not -1\.0"),
    ("module no forward", lambda w: nn.Module()(1), NotImplementedError, r"Module has no forward method"),
    (
        "load_state_dict missing",
        lambda w: w.model.load_state_dict({}),
        KeyError,
        r".load_state_dict: missing \[.0\.bias.,",
    ),
    (
        "load_state_dict type",
        lambda w: w.model.load_state_dict(5),
        TypeError,
        r"load_state_dict: wants a dict of arrays by",
    ),
    (
        "load_state_dict shape",
        lambda w: w.model.load_state_dict({k: np.ones(1) for k in w.model.state_dict()}),
        ValueError,
        r"load_state_dict: 0\.weight is float64 of",
    ),
    (
        "parameter replaced",
        lambda w: setattr(w.model[0], "weight", w.model[0].weight * 2),
        TypeError,
        r"Linear\.weight: a parameter cannot be",
    ),
    ("mse shapes", lambda w: nn.mse_loss(w.M, w.x), ValueError, r"mse_loss: the input has shape \(2, 3\) and"),
    (
        "mse reduction",
        lambda w: nn.mse_loss(w.x, w.x.data, "avg"),
        ValueError,
        r"mse_loss: called with shapes \(3,\) and \(3,\)",
    ),
    (
        "cross entropy labels range",
        lambda w: nn.cross_entropy(w.M, np.array([0, 3])),
        ValueError,
        r"nll_loss: labels from 0 to 3, but classes",
    ),
    (
        "cross entropy negative",
        lambda w: nn.cross_entropy(w.M, np.array([0, -1])),
        ValueError,
        r"nll_loss: labels from -1 to 0, but classes",
    ),
    (
        "cross entropy float labels",
        lambda w: nn.cross_entropy(w.M, np.array([0.0, 1.0])),
        ValueError,
        r"cross_entropy: labels are integers, not",
    ),
    (
        "cross entropy shape",
        lambda w: nn.cross_entropy(w.M, np.array([0, 1, 2])),
        ValueError,
        r"nll_loss: for an input of shape \(2, 3\) the",
    ),
    (
        "cross entropy smoothing",
        lambda w: nn.cross_entropy(w.M, np.array([0, 1]), label_smoothing=2.0),
        ValueError,
        r"cross_entropy: label_smoothing is from 0 to",
    ),
    (
        "cross entropy 0-d",
        lambda w: nn.cross_entropy(w.s, 0),
        ValueError,
        r"cross_entropy: the input is \(classes,\) or",
    ),
    ("hinge 0/1", lambda w: nn.hinge_loss(w.x, [0, 1, 1]), ValueError, r"hinge_loss: targets are −1 or 1 \(2 \* y − 1"),
    (
        "bce 3",
        lambda w: nn.binary_cross_entropy_with_logits(w.x, [3, 0, 1]),
        ValueError,
        r"binary_cross_entropy_with_logits: targets",
    ),
    (
        "huber delta",
        lambda w: nn.huber_loss(w.x, w.x.data, delta=-1.0),
        ValueError,
        r"huber_loss: delta is positive, not -1\.0",
    ),
    ("nll labels", lambda w: nn.nll_loss(w.M, [0.5, 1.0]), ValueError, r"nll_loss: for an input of shape \(2, 3\) the"),
    ("xavier shape", lambda w: nn.init.xavier_uniform((3,)), ValueError, r"xavier_uniform: wants the shape \(fan_out,"),
    ("orthogonal shape", lambda w: nn.init.orthogonal((3,)), ValueError, r"orthogonal: wants the shape \(fan_out,"),
    (
        "sgd nesterov without momentum",
        lambda w: w.sgd(nesterov=True),
        ValueError,
        r"SGD: nesterov needs a momentum, and no",
    ),
    (
        "adam lr True",
        lambda w: optim.Adam(w.model.parameters(), lr=True),
        ValueError,
        r"Adam: lr is a number from 0, or a schedule,",
    ),
    (
        "adam lr nan",
        lambda w: optim.Adam(w.model.parameters(), lr=math.nan),
        ValueError,
        r"Adam: lr is a number from 0, or a schedule,",
    ),
    (
        "adam lr string",
        lambda w: optim.Adam(w.model.parameters(), lr="0.1"),
        ValueError,
        r"Adam: lr is a number from 0, or a schedule,",
    ),
    (
        "adam betas",
        lambda w: optim.Adam(w.model.parameters(), betas=0.9),
        ValueError,
        r"Adam: betas is 2 numbers from 0\.0 to below",
    ),
    (
        "adam betas 1",
        lambda w: optim.Adam(w.model.parameters(), betas=(0.9, 1.0)),
        ValueError,
        r"Adam: betas is 2 numbers from 0\.0 to below",
    ),
    (
        "adam eps True",
        lambda w: optim.Adam(w.model.parameters(), eps=True),
        ValueError,
        r"Adam: eps is a number from 0\.0 to below",
    ),
    (
        "adam unknown",
        lambda w: optim.Adam(w.model.parameters(), momentum=0.9),
        TypeError,
        r"Adam: takes params, lr, betas, eps,",
    ),
    (
        "muon ns_steps",
        lambda w: optim.Muon(w.model.parameters(), ns_steps=-1),
        ValueError,
        r"Muon: ns_steps is a whole number from 1,",
    ),
    (
        "muon ns_steps 1.5",
        lambda w: optim.Muon(w.model.parameters(), ns_steps=1.5),
        ValueError,
        r"Muon: ns_steps is a whole number from 1,",
    ),
    (
        "muon coefficients",
        lambda w: optim.Muon(w.model.parameters(), ns_coefficients=(1.0, 2.0)),
        ValueError,
        r"Muon: ns_coefficients is 3 numbers, not",
    ),
    ("optimizer twice", lambda w: optim.SGD([w.x, w.x]), ValueError, r"parameters: one is listed twice"),
    ("optimizer none", lambda w: optim.SGD([]), ValueError, r"parameters: there are none \(an iterator"),
    ("optimizer result", lambda w: optim.SGD([w.x * 2]), ValueError, r"parameters: number 0, of shape \(3,\), is a"),
    ("optimizer array", lambda w: optim.SGD([np.ones(2)]), TypeError, r"parameters: number 0 is a ndarray, not a"),
    ("optimizer model", lambda w: optim.SGD(w.model), TypeError, r"parameters: number 0 is a Linear, not a"),
    (
        "optimizer two groups same",
        lambda w: optim.SGD([{"params": [w.x]}, {"params": [w.x]}]),
        ValueError,
        r"SGD: a parameter is in more than one group",
    ),
    (
        "optimizer group without params",
        lambda w: optim.SGD([{"lr": 0.1}]),
        ValueError,
        r"SGD: a group has params and any of",
    ),
    (
        "optimizer group unknown",
        lambda w: optim.SGD([{"params": [w.x], "beta": 1}]),
        ValueError,
        r"SGD: a group has params and any of",
    ),
    (
        "step without gradient",
        lambda w: optim.SGD([needing([1.0])]).step(),
        RuntimeError,
        r"SGD\.step: no parameter has a gradient; call",
    ),
    ("grad a list", lambda w: w.step_from([1.0]), ValueError, r"grad: parameter 0 has shape \(1,\), and its"),
    ("grad shape", lambda w: w.step_from(np.ones(2)), ValueError, r"grad: parameter 0 has shape \(1,\), and its"),
    (
        "grad nan",
        lambda w: w.step_from(np.array([np.nan])),
        NonFiniteError,
        r"SGD\.step: the gradient of parameter 0, of",
    ),
    ("grad complex", lambda w: w.step_from(np.array([1j])), TypeError, r"grad: real numbers are wanted, not"),
    ("grad string", lambda w: w.step_from("a"), ValueError, r"grad: parameter 0 has shape \(1,\), and its"),
    (
        "newton without closure",
        lambda w: optim.Newton([w.x]).step(),
        TypeError,
        r"Newton\.step: wants a closure, a function",
    ),
    (
        "newton closure float",
        lambda w: optim.Newton([w.x]).step(lambda: 1.0),
        TypeError,
        r"Newton\.step: the closure is to return the",
    ),
    (
        "newton two groups",
        lambda w: optim.Newton([{"params": [w.x]}, {"params": [w.s]}]),
        ValueError,
        r"Newton: one parameter group only, since",
    ),
    (
        "newton radius",
        lambda w: optim.Newton([w.x], radius=0.0),
        ValueError,
        r"Newton: radius is a positive number, not 0\.0",
    ),
    (
        "newton closure no backward",
        lambda w: optim.Newton([needing([1.0])]).step(lambda: mg.Tensor(1.0)),
        RuntimeError,
        r"Newton\.step: no parameter has a gradient;",
    ),
    (
        "gauss newton loss",
        lambda w: optim.GaussNewton([w.x]).step(lambda: w.x.sum()),
        TypeError,
        r"least squares: the residuals are wanted, a",
    ),
    (
        "gauss newton None",
        lambda w: optim.GaussNewton([w.x]).step(lambda: None),
        TypeError,
        r"GaussNewton\.step: the closure is to return",
    ),
    (
        "sam base string",
        lambda w: optim.SAM([w.x], base="SGD"),
        TypeError,
        r"SAM: base is the class of an optimizer, as",
    ),
    (
        "sam base lbfgs",
        lambda w: optim.SAM([w.x], base=optim.LBFGS),
        ValueError,
        r"SAM: the base is an optimizer that steps by",
    ),
    (
        "sam maximize",
        lambda w: optim.SAM([w.x], maximize=True),
        ValueError,
        r"SAM\(SGD\): maximize has no sharpness to",
    ),
    ("sam without closure", lambda w: optim.SAM([w.x]).step(), TypeError, r"SAM\(SGD\)\.step: wants a closure: the"),
    ("step closure not callable", lambda w: w.sgd().step(5), TypeError, r"SGD\.step: the closure is a function that"),
    (
        "perturbed rng",
        lambda w: optim.PerturbedGD([w.x], rng=-1),
        ValueError,
        r"PerturbedGD: rng is a seed from 0, or a",
    ),
    (
        "load_state_dict other",
        lambda w: optim.Adam([w.x]).load_state_dict(optim.SGD([w.x]).state_dict()),
        ValueError,
        r"Adam\.load_state_dict: it is the state of",
    ),
    (
        "load_state_dict None",
        lambda w: optim.Adam([w.x]).load_state_dict(None),
        ValueError,
        r"Adam\.load_state_dict: wants a dict with",
    ),
    (
        "load_state_dict torch",
        lambda w: optim.Adam([w.x]).load_state_dict({"state": {}, "param_groups": [{"lr": 1}]}),
        ValueError,
        r"Adam\.load_state_dict: wants a dict with",
    ),
    ("schedule cosine", lambda w: schedules.Cosine(-1.0, 10), ValueError, r"Cosine: lr is a number from 0, not -1\.0"),
    ("schedule cosine a", lambda w: schedules.Cosine("a", 10), ValueError, r"Cosine: lr is a number from 0, not .a."),
    (
        "schedule gamma",
        lambda w: schedules.Exponential(0.1, math.nan),
        ValueError,
        r"Exponential: gamma is a number from 0, not",
    ),
    (
        "schedule none",
        lambda w: optim.SGD([w.x], lr=lambda t: None).lr,
        ValueError,
        r"SGD\.step: lr is a number from 0, not None,",
    ),
    ("clip model", lambda w: optim.clip_grad_norm(w.model, 1.0), TypeError, r"clip_grad: tensors are wanted, as"),
    ("clip bound", lambda w: optim.clip_grad_norm([w.x], -1.0), ValueError, r"clip_grad_norm: the bound is a positive"),
    (
        "clip bound string",
        lambda w: optim.clip_grad_norm([w.x], "a"),
        ValueError,
        r"clip_grad_norm: the bound is a positive",
    ),
    (
        "clip value bound",
        lambda w: optim.clip_grad_value([w.x], 0),
        ValueError,
        r"clip_grad_value: the bound is a positive",
    ),
    (
        "fit optimizer None",
        lambda w: training.fit(w.model, nn.cross_entropy, None, w.X, w.y, 1),
        TypeError,
        r"fit: optimizer is to be an Optimizer, as",
    ),
    (
        "fit epochs",
        lambda w: training.fit(w.model, nn.cross_entropy, w.sgd(), w.X, w.y, -1),
        ValueError,
        r"fit: epochs is a whole number from 0, not -1",
    ),
    (
        "fit batch_size",
        lambda w: training.fit(w.model, nn.cross_entropy, w.sgd(), w.X, w.y, 1, 0),
        ValueError,
        r"batches: batch_size is a whole number from",
    ),
    (
        "fit batch_size float",
        lambda w: training.fit(w.model, nn.cross_entropy, w.sgd(), w.X, w.y, 1, 1.5),
        ValueError,
        r"batches: batch_size is a whole number from",
    ),
    (
        "fit loss float",
        lambda w: training.fit(w.model, lambda o, t: 1.0, w.sgd(), w.X, w.y, 1),
        TypeError,
        r"fit: the loss is to give a Tensor, a single",
    ),
    (
        "fit loss vector",
        lambda w: training.fit(w.model, lambda o, t: o[:, 0], w.sgd(), w.X, w.y, 1),
        ValueError,
        r"backward: the output has shape \(4,\), not a",
    ),
    (
        "fit lengths",
        lambda w: training.fit(w.model, nn.cross_entropy, w.sgd(), w.X, w.y[:2], 1),
        ValueError,
        r"batches: X has 4 samples and y 2; equally",
    ),
    (
        "fit no samples",
        lambda w: training.fit(w.model, nn.cross_entropy, w.sgd(), w.X[:0], w.y[:0], 1),
        ValueError,
        r"batches: X has 0 samples and y 0; equally",
    ),
    (
        "fit other optimizer",
        lambda w: training.fit(nn.MLP((3, 4, 2), rng=1), nn.cross_entropy, w.sgd(), w.X, w.y, 1),
        ValueError,
        r"fit: the optimizer moves none of these",
    ),
    (
        "fit nan data",
        lambda w: training.fit(w.model, nn.cross_entropy, w.sgd(), w.X * np.nan, w.y, 1),
        NonFiniteError,
        r"fit: at step 0 the loss is nan and the",
    ),
    (
        "evaluate none",
        lambda w: training.evaluate(w.model, nn.cross_entropy, w.X[:0], w.y[:0]),
        ValueError,
        r"evaluate: there are no samples",
    ),
    (
        "accuracy shapes",
        lambda w: training.accuracy(np.ones((3, 2)), [0, 1]),
        ValueError,
        r"accuracy: scores of shape \(3, 2\) choose",
    ),
    (
        "trajectory no objective",
        lambda w: training.trajectory(5, w.sgd(), 3),
        TypeError,
        r"trajectory: an Objective is wanted, not",
    ),
    (
        "trajectory steps",
        lambda w: training.trajectory(w.objective, optim.SGD(w.objective.parameters), -3),
        ValueError,
        r"trajectory: steps is a whole number from 0,",
    ),
    (
        "trajectory other optimizer",
        lambda w: training.trajectory(w.objective, w.sgd(), 3),
        ValueError,
        r"trajectory: the optimizer moves none of these",
    ),
    (
        "save folder",
        lambda w: training.save_checkpoint("/tmp", w.model),
        IsADirectoryError,
        r"save_checkpoint: ./tmp. is a folder, not",
    ),
    (
        "save empty",
        lambda w: training.save_checkpoint("", w.model),
        IsADirectoryError,
        r"save_checkpoint: .. is a folder, not the",
    ),
    ("classify model", lambda w: critical.classify(w.model), TypeError, r"classify: an Objective is wanted,"),
    ("classify number", lambda w: critical.classify(5), TypeError, r"classify: an Objective is wanted,"),
    (
        "classify theta",
        lambda w: critical.classify(w.objective, [1.0]),
        ValueError,
        r"theta has shape \(1,\); this objective.s",
    ),
    (
        "diagnose number",
        lambda w: critical.diagnose(5),
        TypeError,
        r"diagnose: a Run \(training.fit returns one\) or an Objective is wanted, not int:",
    ),
    (
        "diagnose model",
        lambda w: critical.diagnose(w.model),
        TypeError,
        r"diagnose: a Run \(training.fit returns one\) or an Objective is wanted, not MLP:",
    ),
    (
        "diagnose history",
        lambda w: critical.diagnose(w.objective, history=5),
        TypeError,
        r"diagnose: history has lists loss and",
    ),
    (
        "diagnose optimizer",
        lambda w: critical.diagnose(w.objective, 5),
        TypeError,
        r"diagnose: optimizer is the one that",
    ),
    (
        "diagnose other optimizer",
        lambda w: critical.diagnose(w.objective, w.sgd()),
        ValueError,
        r"diagnose: the optimizer moves none of these",
    ),
    (
        "find starts",
        lambda w: critical.find(w.objective, [[1.0]]),
        ValueError,
        r"find: starts are \(m, 2\), one row each, not",
    ),
    (
        "find method",
        lambda w: critical.find(w.objective, [[1.0, 2.0]], method="gradient-norm"),
        ValueError,
        r"find: method is one of newton, gradient",
    ),
    (
        "find max_iter",
        lambda w: critical.find(w.objective, [[1.0, 2.0]], max_iter=-1),
        ValueError,
        r"find: max_iter is a whole number from 1,",
    ),
    ("layers number", lambda w: critical.layers(5), TypeError, r"layers: an Objective is wanted, not int:"),
    ("kinks number", lambda w: critical.kinks(5), TypeError, r"kinks\(\) missing 1 required positional"),
    (
        "eigenpairs nonsymmetric",
        lambda w: curvature.eigenpairs(np.array([[1.0, 2.0], [0.0, 1.0]]), 1),
        ValueError,
        r"eigenpairs: H, of shape \(2, 2\), is not",
    ),
    (
        "dense spectrum nonsymmetric",
        lambda w: curvature.dense_spectrum(np.array([[1.0, 2.0], [0.0, 1.0]])),
        ValueError,
        r"dense_spectrum: H, of shape \(2, 2\), is not",
    ),
    (
        "eigenpairs k",
        lambda w: curvature.eigenpairs(np.eye(3), 0),
        ValueError,
        r"eigenpairs: k=0; H of shape \(3, 3\) has",
    ),
    (
        "eigenpairs which",
        lambda w: curvature.eigenpairs(np.eye(3), 1, "biggest"),
        ValueError,
        r"eigenpairs: which=.biggest.; one of",
    ),
    (
        "cg shapes",
        lambda w: curvature.conjugate_gradient(np.eye(3), np.ones(2)),
        ValueError,
        r"conjugate_gradient: b is a vector of shape",
    ),
    (
        "cg not square",
        lambda w: curvature.conjugate_gradient(np.ones((2, 3)), np.ones(2)),
        ValueError,
        r"conjugate_gradient: b is a vector of shape",
    ),
    (
        "minres nan",
        lambda w: curvature.minres(np.eye(2), np.array([1.0, np.nan])),
        ValueError,
        r"minres: b, of shape \(2,\), is not finite",
    ),
    (
        "trace products",
        lambda w: curvature.trace(np.eye(3), products=0),
        ValueError,
        r"trace: 0 products give no error estimate",
    ),
    (
        "operator of number",
        lambda w: curvature.HessianOperator(5),
        TypeError,
        r"HessianOperator: an Objective is wanted,",
    ),
    ("compile number", lambda w: mg.compile(5), TypeError, r"compile: wants a function that returns its"),
    ("compile None", lambda w: mg.compile(None), TypeError, r"compile: wants a function that returns its"),
    ("compile generator", lambda w: mg.compile(generator), TypeError, r"compile: wants a function that returns its"),
    ("draw number", lambda w: mg.draw(5), TypeError, r"draw: wants a tensor, several, or a Graph,"),
    ("trace number", lambda w: mg.trace(5), TypeError, r"trace: wants tensors, not int"),
    ("source number", lambda w: mg.source(5), TypeError, r"source: wants a function and what it is"),
    ("explain number", lambda w: mg.explain(5), TypeError, r"explain: wants tensors, not int"),
    (
        "draw style",
        lambda w: mg.draw(w.x.sum(), style="pretty"),
        ValueError,
        r"draw: style is .arrays. or .scalar., not",
    ),
    (
        "trace gradients vector",
        lambda w: mg.trace(w.x * 2, gradients=True),
        ValueError,
        r"trace: gradients are those of one scalar",
    ),
    (
        "derivative says nothing",
        lambda w: mg.rules.derivative(lambda a: a, lambda g, out, a: g),
        TypeError,
        r"derivative of <lambda>: say whether it is",
    ),
    (
        "surface of 3",
        lambda w: plots.surface(mg.Objective(lambda v: v.sum(), [1.0, 2.0, 3.0])),
        ValueError,
        r"surface: the loss has 3 parameters: say on",
    ),
    ("history none", lambda w: plots.history(5), TypeError, r"history: wants a training\.History, not 5"),
    (
        "sgd maximize='false'",
        lambda w: w.sgd(maximize="false"),
        ValueError,
        r"SGD: maximize is True or False, not .false.",
    ),
    ("sgd nesterov='no'", lambda w: w.sgd(nesterov="no"), ValueError, r"SGD: nesterov is True or False, not .no."),
    ("sgd dampening=nan", lambda w: w.sgd(dampening=math.nan), ValueError, r"SGD: dampening is a number from -inf to"),
    ("sgd momentum='a'", lambda w: w.sgd(momentum="a"), ValueError, r"SGD: momentum is a number from 0\.0 to below"),
    ("sgd lr=-1.0", lambda w: w.sgd(lr=-1.0), ValueError, r"SGD: lr is a number from 0, or a schedule,"),
    (
        "sgd weight_decay=-1.0",
        lambda w: w.sgd(weight_decay=-1.0),
        ValueError,
        r"SGD: weight_decay is a number from 0\.0 to",
    ),
]


@pytest.mark.parametrize(("name", "call", "error", "message"), CALLS, ids=[row[0] for row in CALLS])
def test_a_wrong_call_says_what_is_wrong_and_changes_nothing(name, call, error, message):
    """But that `fit` has cleared gradients, which are its own."""
    world, gradients = World(), not name.startswith("fit")
    before = world.seen(gradients)
    with np.errstate(all="ignore"), pytest.raises(error, match=message) as caught:
        call(world)
    assert caught.type is error
    assert world.seen(gradients) == before


def test_there_are_enough_of_them():
    assert len(CALLS) >= 120
    assert len({row[0] for row in CALLS}) == len(CALLS)
