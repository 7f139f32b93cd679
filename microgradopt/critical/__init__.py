"""Critical points: what kind a point is, the way out, how to find them, and why a loss is stuck."""

from microgradopt.critical.classify import classify
from microgradopt.critical.diagnose import Diagnosis, diagnose
from microgradopt.critical.escape import Escape
from microgradopt.critical.find import Found, find
from microgradopt.critical.kinks import Kink, kinks
from microgradopt.critical.layers import Layer, layers
from microgradopt.critical.point import CriticalPoint, Margin
from microgradopt.curvature.operator import HessianOperator

__all__ = [
    "CriticalPoint",
    "Diagnosis",
    "Escape",
    "Found",
    "HessianOperator",
    "Kink",
    "Layer",
    "Margin",
    "classify",
    "diagnose",
    "find",
    "kinks",
    "layers",
]
