"""Critical points: what kind a point is, the way out, how to find them, and why a loss is stuck."""

from typing import TYPE_CHECKING

from microgradopt.critical.escape import Escape
from microgradopt.critical.nonsmooth import Kink, kinks
from microgradopt.critical.point import CriticalPoint, Margin
from microgradopt.critical.proof import Proof, prove
from microgradopt.critical.search import Found, find
from microgradopt.critical.verdict import classify
from microgradopt.critical.walk import Nearest, nearest
from microgradopt.curvature.operator import HessianOperator
from microgradopt.lazy import on_use

if TYPE_CHECKING:
    from microgradopt.diagnosis import Checked, Comparison, Diagnosis, Finding, Layer, check, compare, diagnose, layers

__all__ = [
    "Checked",
    "Comparison",
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
    "compare",
    "diagnose",
    "find",
    "kinks",
    "layers",
    "nearest",
    "prove",
]

# The diagnosis asks of a point as one thing among others: it stands above this room, and is shown here too.
__getattr__ = on_use(
    "microgradopt",
    dict.fromkeys(
        ("Checked", "Comparison", "Diagnosis", "Finding", "Layer", "check", "compare", "diagnose", "layers"),
        "diagnosis",
    ),
)
