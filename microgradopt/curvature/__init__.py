"""Curvature: the Hessian as an operator, its spectrum, and the solvers that second-order methods are made of."""

from microgradopt.curvature.operator import HessianOperator

__all__ = ["HessianOperator"]
