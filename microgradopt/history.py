"""History: what happened at every update of a training."""

from __future__ import annotations

import math
from collections.abc import Iterable

from microgradopt.optim.clipping import norm
from microgradopt.tensor import Tensor


class History:
    """What happened at every update, as lists of equal length.

    loss: of the batch, before the update. gradient_norm: ‖g‖₂ over all parameters, before clipping. lr: of the first
    group. seconds: of the whole update (forward, backward, step), by the wall clock. step_norm: ‖θ after − θ before‖₂.
    validation_loss: on data that is not trained on, after the update. NaN where one was not measured.

    >>> history = History()
    >>> history.append(loss=1.0, gradient_norm=2.0, lr=0.1, seconds=0.0)
    >>> history
    History(1 updates; last loss 1, gradient norm 2)
    """

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.gradient_norm: list[float] = []
        self.lr: list[float] = []
        self.seconds: list[float] = []
        self.step_norm: list[float] = []
        self.validation_loss: list[float] = []

    def __len__(self) -> int:
        return len(self.loss)

    def append(
        self,
        loss: float,
        gradient_norm: float,
        lr: float,
        seconds: float,
        step_norm: float = math.nan,
        validation_loss: float = math.nan,
    ) -> None:
        """Note one update."""
        self.extend([loss], [gradient_norm], [lr], [seconds], [step_norm])
        self.validation_loss[-1] = validation_loss

    def extend(
        self,
        losses: Iterable[float],
        gradient_norms: Iterable[float],
        lrs: Iterable[float],
        seconds: Iterable[float],
        step_norms: Iterable[float],
    ) -> None:
        """Note several updates."""
        self.loss.extend(losses)
        self.gradient_norm.extend(gradient_norms)
        self.lr.extend(lrs)
        self.seconds.extend(seconds)
        self.step_norm.extend(step_norms)
        self.validation_loss.extend([math.nan] * (len(self.loss) - len(self.validation_loss)))

    def __repr__(self) -> str:
        last = f"; last loss {self.loss[-1]:.4g}, gradient norm {self.gradient_norm[-1]:.4g}" if self.loss else ""
        return f"{type(self).__name__}({len(self)} updates{last})"


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """‖g‖₂ over all parameters that have a gradient.

    >>> import numpy as np
    >>> w = Tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = np.array([3.0, 4.0])
    >>> gradient_norm([w])
    5.0
    """
    return float(norm(p.grad for p in parameters if p.grad is not None))
