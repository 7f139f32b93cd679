"""Native loops: a program's loop, written out for Numba, and made into machine code.

NumPy computes call by call, and each result goes through memory. Here elementwise calls on arrays of one shape are one
nest of loops, with the sums over it inside; matrix products that stay in the cache are written out, large ones go to
BLAS; every result has its place in memory before the first round. Sums go in another order than NumPy's, and exp and
tanh are others: results are the same to rounding.

calls.py says what calls are, plan.py puts them in the order of a round, text.py writes the round, machine.py makes
machine code of it, math.py has what it calls, and loop.py is the loop that it becomes, checked against NumPy's.
"""

from microgradopt.program.native.loop import NativeLoop, native_loop

__all__ = ["NativeLoop", "native_loop"]
