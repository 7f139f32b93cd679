"""Why is my loss stuck: causes, their signatures, and experiments that confirm or refute them."""

from microgradopt.diagnosis.answer import diagnose
from microgradopt.diagnosis.before import Checked, Finding, check
from microgradopt.diagnosis.changes import Change
from microgradopt.diagnosis.comparison import Comparison, compare
from microgradopt.diagnosis.result import Considered, Diagnosis
from microgradopt.diagnosis.trials import Trial
from microgradopt.diagnosis.units import Layer, layers

__all__ = [
    "Change",
    "Checked",
    "Comparison",
    "Considered",
    "Diagnosis",
    "Finding",
    "Layer",
    "Trial",
    "check",
    "compare",
    "diagnose",
    "layers",
]
