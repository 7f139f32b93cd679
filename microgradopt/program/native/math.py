"""What native loops call: functions of numbers that LLVM can make into vector instructions, and matrix products.

Imported on use: needs Numba.

exp and tanh by Cody and Waite's reduction, x = n log 2 + r with |r| ≤ log 2 / 2, and Taylor's polynomial for e^r − 1:
no branches, no calls. Errors are at most 3 units in the last place (tests/program/test_native.py).

Products compute 4 rows by 4 at a time, so that each number that is loaded is used four times. For matrices that stay in
the cache this is as quick as most BLAS, which also look at each call for what to do.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

_fast = njit(fastmath={"contract"}, error_model="numpy", inline="never")


@intrinsic
def _bits(context: Any, x: Any) -> Any:
    """The bits of a float64, as an integer."""
    return types.int64(types.float64), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.IntType(64)
    )


@intrinsic
def _from_bits(context: Any, x: Any) -> Any:
    """The float64 with these bits."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.DoubleType()
    )


_ROUNDING = 1.5 * 2.0**52  # added and taken away again, it rounds to a whole number, which is in the low bits meanwhile
_HALF = 1022 << 52  # the bits of 0.5
_LARGEST = 709.782712893384  # whose exponential is finite


@_fast
def _parts(x):
    """2ⁿ / 2 and e^r − 1, where x = n log 2 + r, for −708 ≤ x < 709.8."""
    shifted = x * 1.4426950408889634 + _ROUNDING
    n = shifted - _ROUNDING
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10  # log 2 in two parts
    p = 1 / 6227020800.0
    p = p * r + 1 / 479001600.0
    p = p * r + 1 / 39916800.0
    p = p * r + 1 / 3628800.0
    p = p * r + 1 / 362880.0
    p = p * r + 1 / 40320.0
    p = p * r + 1 / 5040.0
    p = p * r + 1 / 720.0
    p = p * r + 1 / 120.0
    p = p * r + 1 / 24.0
    p = p * r + 1 / 6.0
    p = p * r + 0.5
    return _from_bits((_bits(shifted) << 52) + _HALF), (p * r) * r + r


@_fast
def exp(x):
    """e^x; 0 below −708, where e^x is less than the smallest normal number."""
    half, less_one = _parts(min(max(np.float64(x), -708.0), _LARGEST))
    result = 2 * (half * less_one + half)
    result = 0.0 if x < -708.0 else result
    result = math.inf if x > _LARGEST else result
    return result if x == x else x  # NaN


@_fast
def tanh(x):
    """tanh x = E / (E + 2), E = e^{2|x|} − 1, with the sign of x."""
    half, less_one = _parts(min(2 * abs(np.float64(x)), 44.0))
    E = 2 * half * less_one + (2 * half - 1)
    result = math.copysign(E / (E + 2), x)
    return result if x == x else x  # NaN


@_fast
def square(x):
    return x * x


@_fast
def maximum(x, y):
    """The larger one; NaN if one is."""
    return x if x > y or x != x else y


@_fast
def minimum(x, y):
    """The smaller one; NaN if one is."""
    return x if x < y or x != x else y


@_fast
def where(condition, x, y):
    return x if condition else y


@_fast
def isfinite(x):
    return abs(x) < math.inf


@_fast
def sign(x):
    return x if x != x else (1.0 if x > 0 else (-1.0 if x < 0 else 0.0))


@_fast
def normal_cdf(x):
    return math.erfc(x / -math.sqrt(2)) / 2


# Matrix products ------------------------------------------------------------------------------------------------------

# Inlined, so that the sizes are constants there: small products become straight code.
_summed = njit(fastmath={"contract", "reassoc"}, error_model="numpy", forceinline=True)
_COLUMNS = 256  # that are computed at once: so many of four rows stay in the first cache


@_summed
def multiply(A, B, C, m, k, n):
    """C = A B, of shapes (m, k), (k, n). Quickest where the rows of B and C lie in memory in order; A may be any."""
    C[...] = 0
    for start in range(0, n, _COLUMNS):
        columns = slice(start, min(start + _COLUMNS, n))
        for i in range(0, m - m % 4, 4):
            c0, c1, c2, c3 = C[i, columns], C[i + 1, columns], C[i + 2, columns], C[i + 3, columns]
            for j in range(0, k - k % 4, 4):
                b0, b1, b2, b3 = B[j, columns], B[j + 1, columns], B[j + 2, columns], B[j + 3, columns]
                a00, a01, a02, a03 = A[i, j], A[i, j + 1], A[i, j + 2], A[i, j + 3]
                a10, a11, a12, a13 = A[i + 1, j], A[i + 1, j + 1], A[i + 1, j + 2], A[i + 1, j + 3]
                a20, a21, a22, a23 = A[i + 2, j], A[i + 2, j + 1], A[i + 2, j + 2], A[i + 2, j + 3]
                a30, a31, a32, a33 = A[i + 3, j], A[i + 3, j + 1], A[i + 3, j + 2], A[i + 3, j + 3]
                for x in range(min(_COLUMNS, n - start)):
                    c0[x] += a00 * b0[x] + a01 * b1[x] + a02 * b2[x] + a03 * b3[x]
                    c1[x] += a10 * b0[x] + a11 * b1[x] + a12 * b2[x] + a13 * b3[x]
                    c2[x] += a20 * b0[x] + a21 * b1[x] + a22 * b2[x] + a23 * b3[x]
                    c3[x] += a30 * b0[x] + a31 * b1[x] + a32 * b2[x] + a33 * b3[x]
            for j in range(k - k % 4, k):
                b0 = B[j, columns]
                for x in range(min(_COLUMNS, n - start)):
                    c0[x] += A[i, j] * b0[x]
                    c1[x] += A[i + 1, j] * b0[x]
                    c2[x] += A[i + 2, j] * b0[x]
                    c3[x] += A[i + 3, j] * b0[x]
        for i in range(m - m % 4, m):
            c0 = C[i, columns]
            for j in range(k):
                a, b0 = A[i, j], B[j, columns]
                for x in range(min(_COLUMNS, n - start)):
                    c0[x] += a * b0[x]


@_summed
def multiply_transposed(A, B, C, m, k, n):
    """C = A Bᵀ, of shapes (m, k), (n, k). Quickest where the rows of A and B lie in memory in order."""
    for j in range(0, n - n % 4, 4):
        b0, b1, b2, b3 = B[j], B[j + 1], B[j + 2], B[j + 3]
        for i in range(0, m - m % 4, 4):
            a0, a1, a2, a3 = A[i], A[i + 1], A[i + 2], A[i + 3]
            zero = A.dtype.type(0)
            c00 = c01 = c02 = c03 = c10 = c11 = c12 = c13 = zero
            c20 = c21 = c22 = c23 = c30 = c31 = c32 = c33 = zero
            for x in range(k):
                y0, y1, y2, y3 = b0[x], b1[x], b2[x], b3[x]
                c00, c01, c02, c03 = c00 + a0[x] * y0, c01 + a0[x] * y1, c02 + a0[x] * y2, c03 + a0[x] * y3
                c10, c11, c12, c13 = c10 + a1[x] * y0, c11 + a1[x] * y1, c12 + a1[x] * y2, c13 + a1[x] * y3
                c20, c21, c22, c23 = c20 + a2[x] * y0, c21 + a2[x] * y1, c22 + a2[x] * y2, c23 + a2[x] * y3
                c30, c31, c32, c33 = c30 + a3[x] * y0, c31 + a3[x] * y1, c32 + a3[x] * y2, c33 + a3[x] * y3
            C[i, j], C[i, j + 1], C[i, j + 2], C[i, j + 3] = c00, c01, c02, c03
            C[i + 1, j], C[i + 1, j + 1], C[i + 1, j + 2], C[i + 1, j + 3] = c10, c11, c12, c13
            C[i + 2, j], C[i + 2, j + 1], C[i + 2, j + 2], C[i + 2, j + 3] = c20, c21, c22, c23
            C[i + 3, j], C[i + 3, j + 1], C[i + 3, j + 2], C[i + 3, j + 3] = c30, c31, c32, c33
        for i in range(m - m % 4, m):
            for y in range(j, j + 4):
                C[i, y] = dot(A[i], B[y], k)
    for j in range(n - n % 4, n):
        for i in range(m):
            C[i, j] = dot(A[i], B[j], k)


@_summed
def dot(a, b, k):
    """aᵀ b, of k elements."""
    total = a.dtype.type(0)
    for x in range(k):
        total += a[x] * b[x]
    return total


# The same, compiled once for all places: inlined in many, they would take minutes.
multiply_apart, multiply_transposed_apart = (
    njit(fastmath={"contract", "reassoc"}, error_model="numpy")(product.py_func)
    for product in (multiply, multiply_transposed)
)
