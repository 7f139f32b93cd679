"""L-BFGS: the curvature met on the way, in place of the Hessian."""

from __future__ import annotations

import numpy as np

from microgradopt.curvature.line_search import strong_wolfe
from microgradopt.optim.blocks import State
from microgradopt.optim.closure import ClosureOptimizer, Line, LocalLoss, slope_along
from microgradopt.optim.hyperparameters import LearningRate, number, rate, whole
from microgradopt.optim.optimizer import Array, Group


class LBFGS(ClosureOptimizer):
    """Limited-memory BFGS with a strong Wolfe line search; up to `max_iter` iterations in a step.

    .. code-block:: text

        d = −B g         B from the last pairs s = θ₊ − θ, y = g₊ − g by the two loops, starting from (sᵀy / yᵀy) I
        θ ← θ + t d      φ(t) ≤ φ(0) + 10⁻⁴ t φ'(0),  |φ'(t)| ≤ 0.9 |φ'(0)|

    The first t to try is η; before there are pairs min(1, 1/‖g‖₁) η. The line search ensures sᵀy > 0; a pair without is
    left out. Where the search fails the pairs are forgotten, and steepest descent is tried; where that fails too, or
    rounding hides the decrease, θ stays. The loss never rises.

    lr: η. history_size: pairs kept. A step ends early at max |g| ≤ tolerance_grad, or when no entry of θ, or the loss,
    changed by more than tolerance_change. The arguments are those of ``torch.optim.LBFGS``, whose line_search_fn is
    always "strong_wolfe" here; its history_size is 100 by default.

    Source: Liu & Nocedal 1989; Nocedal & Wright 2006, algorithms 7.4 and 7.5.

    >>> import microgradopt as mg
    >>> x = mg.Tensor([-1.2, 1.0], requires_grad=True)
    >>> optimizer = LBFGS([x], max_iter=100)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (1 - x[0])**2 + 100 * (x[1] - x[0]**2)**2
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure); x.data.round(6)
    array([1., 1.])
    """

    may_keep = ("pairs",)

    lr: LearningRate = rate(1.0)
    max_iter: int = whole(20)
    tolerance_grad: float = number(1e-7)
    tolerance_change: float = number(1e-9)
    history_size: int = whole(10)

    def move(self, around: LocalLoss, state: State, group: Group) -> Array:
        """The formula above, until one of its ends."""
        theta, value, g = around.theta, around.value, around.gradient
        for _ in range(group["max_iter"]):
            if np.abs(g).max() <= group["tolerance_grad"] or not group["lr"]:
                around.stopped = "the gradient is at most tolerance_grad, or the learning rate 0"
                break
            pairs = state.get("pairs", np.zeros((0, 2, theta.size), theta.dtype))
            d = -two_loops(pairs, g)
            slope = slope_along(g, d)
            first = group["lr"] * (1.0 if len(pairs) else min(1.0, 1 / float(np.abs(g).sum())))
            line = Line(around, theta, d)
            found = strong_wolfe(line, value, slope, first) if slope < 0 else None
            if found is None or not found.step:
                if not len(pairs):
                    around.stopped = "no step along the gradient lowers the loss"
                    break
                del state["pairs"]
                continue
            theta_after, g_after = line.reached[found.step]
            s, y = theta_after - theta, g_after - g
            # As much curvature as rounding lets see, at every scale of θ and of the loss.
            if float(s @ y) > float(np.finfo(s.dtype).eps) * -found.step * slope:
                state["pairs"] = np.concatenate([pairs, [[s, y]]])[-group["history_size"] :]
            fall, theta, value, g = value - found.value, theta_after, found.value, g_after
            if np.abs(s).max() <= group["tolerance_change"] or fall < group["tolerance_change"]:
                around.stopped = "θ or the loss changes by at most tolerance_change"
                break
        return theta

    def fits(self, key: str, value: Array, theta: Array) -> bool:
        return value.shape[1:] == (2, *theta.shape)


def two_loops(pairs: Array, g: Array) -> Array:
    """B g, where B approximates the inverse of the Hessian. pairs: (k, 2, n), of (s, y), oldest first.

    Source: Nocedal & Wright 2006, algorithm 7.4.
    """
    q, alphas = g, []
    for s, y in pairs[::-1]:
        alphas.append(float(s @ q) / float(s @ y))
        q = q - alphas[-1] * y
    if len(pairs):
        s, y = pairs[-1]
        q = float(s @ y) / float(y @ y) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + (alpha - float(y @ q) / float(s @ y)) * s
    return q
