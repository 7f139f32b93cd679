"""Neural networks: modules, layers, activations, losses, initial weights."""

from microgradopt.nn import functional, init
from microgradopt.nn.dropout import Dropout
from microgradopt.nn.layers import (
    ELU,
    GELU,
    MLP,
    SELU,
    Flatten,
    LeakyReLU,
    Linear,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from microgradopt.nn.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    hinge_loss,
    huber_loss,
    l1_loss,
    mse_loss,
    nll_loss,
)
from microgradopt.nn.module import Module, Sequential
from microgradopt.nn.normalization import BatchNorm1d, LayerNorm

__all__ = [
    "ELU",
    "GELU",
    "MLP",
    "SELU",
    "BatchNorm1d",
    "Dropout",
    "Flatten",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Module",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "functional",
    "hinge_loss",
    "huber_loss",
    "init",
    "l1_loss",
    "mse_loss",
    "nll_loss",
]
