"""Optimizers: from a gradient to an update."""

from microgradopt.optim import hyperparameters, schedules
from microgradopt.optim.adaptive import RMS, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop
from microgradopt.optim.blocks import moving_average
from microgradopt.optim.clipping import clip_grad_norm, clip_grad_value
from microgradopt.optim.first_order import SGD, Momentum
from microgradopt.optim.free import Prodigy, ScheduleFreeAdamW
from microgradopt.optim.lbfgs import LBFGS
from microgradopt.optim.least_squares import GaussNewton, LevenbergMarquardt
from microgradopt.optim.modern import Lion, Muon
from microgradopt.optim.optimizer import Optimizer
from microgradopt.optim.perturbed import SAM, PerturbedGD
from microgradopt.optim.second_order import Newton, NewtonCG, SaddleFreeNewton

__all__ = [
    "LBFGS",
    "RMS",
    "SAM",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GaussNewton",
    "LevenbergMarquardt",
    "Lion",
    "Momentum",
    "Muon",
    "NAdam",
    "Newton",
    "NewtonCG",
    "Optimizer",
    "PerturbedGD",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "SaddleFreeNewton",
    "ScheduleFreeAdamW",
    "clip_grad_norm",
    "clip_grad_value",
    "hyperparameters",
    "moving_average",
    "schedules",
]
