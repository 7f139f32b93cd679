"""Optimizers: from a gradient to an update."""

from microgradopt.optim import schedules
from microgradopt.optim.adaptive import RMS, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop
from microgradopt.optim.clipping import clip_grad_norm, clip_grad_value
from microgradopt.optim.first_order import SGD, Momentum
from microgradopt.optim.modern import Lion, Muon
from microgradopt.optim.optimizer import Optimizer

__all__ = [
    "RMS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Momentum",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
    "schedules",
]
