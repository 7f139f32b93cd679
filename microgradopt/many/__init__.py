"""Many trainings of one shape, as one.

One update of one run is traced; its program is then called on stacks: θ, the optimizer's state, batches, learning rates
and hyperparameters get a leading axis, one entry for each run (program/loop.py). What a run has of its own is found by
walking through it and the first run side by side (traced.py). together.py holds the values of all runs while they are
trained, runs.py decides which go together, and variants.py is for variants of one run that are arrays alone.
"""

from microgradopt.many.runs import ManyRuns, shared
from microgradopt.many.variants import Variants, vary

__all__ = ["ManyRuns", "Variants", "shared", "vary"]
