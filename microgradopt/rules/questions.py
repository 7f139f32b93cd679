"""Functions that answer from the values alone, exactly as NumPy does: questions, comparisons, positions, counts."""

import numpy as np

from microgradopt.rules.registry import nondifferentiable

nondifferentiable(
    # comparisons and logic
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.logical_and, np.logical_or, np.logical_xor, np.logical_not,
    np.all, np.any, np.allclose, np.isclose, np.array_equal, np.array_equiv,
    # what kind of number
    np.isnan, np.isinf, np.isfinite, np.isposinf, np.isneginf, np.signbit, np.iscomplexobj, np.isrealobj, np.isreal,
    # positions, orders and counts
    np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.argpartition, np.argwhere, np.lexsort,
    np.nonzero, np.flatnonzero, np.count_nonzero, np.searchsorted, np.digitize,
    # shapes and types
    np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.min_scalar_type, np.common_type, np.shares_memory,
    np.may_share_memory, np.zeros_like, np.ones_like, np.empty_like, np.full_like,
    # words, files and resolutions
    np.array2string, np.array_repr, np.array_str, np.savetxt, np.spacing, np.linalg.matrix_rank,
)  # fmt: skip
