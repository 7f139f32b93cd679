"""Task 4: the reverse sweep.

A computation is a list of calls, in the order in which they were made. Each call gives one value. It knows which values
it has used, and the slope by each of them. The last value is the loss.

    a = 3            value 0    uses nothing
    b = a + a        value 1    uses value 0 twice, slopes 1 and 1
    c = b · b        value 2    uses value 1 twice, slopes 6 and 6 (b is 6)

    calls = [[], [(0, 1.0), (0, 1.0)], [(1, 6.0), (1, 6.0)]]

        ┌─ 1 ─┐   ┌─ 6 ─┐
      a         b         c            derivative of c by c: 1
        └─ 1 ─┘   └─ 6 ─┘              by b: 6 + 6 = 12        by a: 12 + 12 = 24

The sweep goes back from the loss. Value k hands a share to every value i that it has used:

    share = gradient[k] · slope of k by i

A value that was used several times gets several shares. They are added. Only when a value has all of its shares may it
hand on. So the newest value comes first.

Fill the hole: write two loops, and return the gradient. The outer loop goes over all calls, the inner loop over the
values that a call has used.
"""

import numpy as np


def sweep(calls):
    """The derivative of the last value by every value. calls[k]: pairs (i, slope of value k by value i)."""
    gradient = np.zeros(len(calls))
    gradient[-1] = 1.0  # of the loss by itself
    # Here the two loops go.
    return ...


if __name__ == "__main__":  # try it: python task_04_sweep.py
    print(sweep([[], [(0, 1.0), (0, 1.0)], [(1, 6.0), (1, 6.0)]]))
    # right: [24. 12.  1.]
