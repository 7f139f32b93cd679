"""Curvature: the Hessian as an operator, its spectrum, and the solvers that second-order methods are made of."""

from microgradopt.curvature.lanczos import Eigenpairs, eigenpairs, tridiagonal
from microgradopt.curvature.line_search import backtracking, strong_wolfe
from microgradopt.curvature.operator import HessianOperator
from microgradopt.curvature.solvers import conjugate_gradient, minres, trust_region_step
from microgradopt.curvature.spectrum import (
    DenseSpectrum,
    Estimate,
    SpectralDensity,
    dense_spectrum,
    sharpness,
    spectral_density,
    trace,
)

__all__ = [
    "DenseSpectrum",
    "Eigenpairs",
    "Estimate",
    "HessianOperator",
    "SpectralDensity",
    "backtracking",
    "conjugate_gradient",
    "dense_spectrum",
    "eigenpairs",
    "minres",
    "sharpness",
    "spectral_density",
    "strong_wolfe",
    "trace",
    "tridiagonal",
    "trust_region_step",
]
