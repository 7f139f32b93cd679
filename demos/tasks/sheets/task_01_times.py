"""Task 1: the derivative of ×.

An engine for derivatives has one rule for each function. The rule gets g = ∂L/∂out, the derivative of the loss L by the
result `out`. It returns the derivative of the loss by each argument.

    out = x · y          ∂out/∂x = y          ∂out/∂y = x
    ∂L/∂x = ∂L/∂out · ∂out/∂x                 (the chain rule)

The area x · y of a rectangle shows why. If x grows by dx, the area grows by y · dx:

         x         dx
     ┌─────────┬────────┐
   y │  x · y  │ y · dx │
     ├─────────┼────────┤
  dy │ x · dy  │        │
     └─────────┴────────┘

Fill the hole: return the two derivatives of the loss, ∂L/∂x and ∂L/∂y.
"""

import numpy as np


def times_rule(g, x, y):
    """∂L/∂x and ∂L/∂y of out = x · y. g, x, y: arrays of the same shape."""
    return ...


if __name__ == "__main__":  # try it: python task_01_times.py
    print(times_rule(g=np.array([1.0, 10.0]), x=np.array([2.0, 3.0]), y=np.array([4.0, 5.0])))
    # right: (array([ 4., 50.]), array([ 2., 30.]))
