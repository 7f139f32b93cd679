"""Critical points: what kind a point is, the way out, how to find them, and why a loss is stuck."""

from microgradopt.critical.before import Checked, Finding, check
from microgradopt.critical.diagnosis import Diagnosis, diagnose
from microgradopt.critical.escape import Escape
from microgradopt.critical.nonsmooth import Kink, kinks
from microgradopt.critical.point import CriticalPoint, Margin
from microgradopt.critical.proof import Proof, prove
from microgradopt.critical.search import Found, find
from microgradopt.critical.units import Layer, layers
from microgradopt.critical.verdict import classify
from microgradopt.critical.walk import Nearest, nearest
from microgradopt.curvature.operator import HessianOperator

__all__ = [
    "Checked",
    "CriticalPoint",
    "Diagnosis",
    "Escape",
    "Finding",
    "Found",
    "HessianOperator",
    "Kink",
    "Layer",
    "Margin",
    "Nearest",
    "Proof",
    "check",
    "classify",
    "diagnose",
    "find",
    "kinks",
    "layers",
    "nearest",
    "prove",
]
