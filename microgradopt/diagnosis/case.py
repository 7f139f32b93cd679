"""What can be measured about a training that may be stuck: at its θ, in its history, and by trying things."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from microgradopt.autodiff import hvp
from microgradopt.critical.escape import Escape, escape, size_of
from microgradopt.critical.point import DEGENERATE, CriticalPoint
from microgradopt.critical.verdict import classify
from microgradopt.curvature.lanczos import eigenpairs
from microgradopt.curvature.operator import HessianOperator
from microgradopt.diagnosis import changes
from microgradopt.diagnosis import thresholds as limit
from microgradopt.diagnosis.reading import Reading, constant_loss
from microgradopt.diagnosis.trials import Trial, Trials
from microgradopt.diagnosis.units import Layer, layers
from microgradopt.mode import no_grad
from microgradopt.nn.module import Sequential
from microgradopt.optim.first_order import SGD, Momentum
from microgradopt.optim.stability import step_scale
from microgradopt.run import Run
from microgradopt.samples import batches
from microgradopt.tensor import Tensor

Array = npt.NDArray[Any]

_PRODUCTS = 150  # with H, for the ends of its spectrum, where there are more parameters than _DENSE
_DENSE = 400  # parameters up to which all of the Hessian's eigenvalues are computed
_BATCHES = 32  # whose gradients are measured


class Case:
    """A training that may be stuck. Each thing is measured when it is first asked for.

    run: the training. has_optimizer: whether it is known how it is trained; else the run's optimizer stands still.
    """

    def __init__(self, run: Run, has_optimizer: bool, trials: Trials, rng: np.random.Generator) -> None:
        self.run, self.optimizer, self.has_optimizer = run, run.optimizer, has_optimizer
        self.trials, self.rng = trials, rng
        self.objective = run.objective
        self.theta = self.objective.theta
        self.losses = np.array(run.loss, float)
        norms = np.array(run.gradient_norm, float)
        self.norms = norms if len(norms) == len(self.losses) else np.zeros(len(self.losses))  # not recorded
        self.rates = np.array(run.lr, float)
        with np.errstate(all="ignore"):
            self.value, self.gradient = self.objective.value_and_gradient()
            self.norm = float(np.linalg.norm(self.gradient))
        self.size = size_of(self.theta)

    @property
    def has_data(self) -> bool:
        """Whether model, loss and data are known, so that they can be changed."""
        return self.run.loss_function is not None

    @property
    def sequence(self) -> Sequential | None:
        """The model, if it is one whose layers can be changed."""
        return self.run.model if self.has_data and isinstance(self.run.model, Sequential) else None

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are, at θ."""
        return math.isfinite(self.value) and math.isfinite(self.norm)

    @functools.cached_property
    def reading(self) -> Reading:
        """What the loss's graph tells."""
        return Reading(self.objective)

    @functools.cached_property
    def layers(self) -> list[Layer]:
        """What the activations are doing."""
        return layers(self.objective)

    @property
    def blocked(self) -> list[Layer]:
        """Those that let no gradient through, on any sample: what is before them is cut off."""
        return [layer for layer in self.layers if layer.stuck == layer.units]

    @functools.cached_property
    def constant(self) -> float | None:
        """The loss of the best constant output."""
        run, reading = self.run, self.reading
        loss, output, target = reading.loss_function, reading.output, reading.target
        if run.loss_function is not None and run.model is not None:
            with no_grad(), np.errstate(all="ignore"):
                loss, output, target = run.loss_function, run.model(np.asarray(run.X)), np.asarray(run.y)
        if loss is None or target is None or not isinstance(output, Tensor):
            return None
        return constant_loss(loss, output.data, target)

    # Trying

    @functools.cached_property
    def as_before(self) -> Trial | None:
        """Going on as before; None where it is not known how."""
        return self.trials(changes.AS_BEFORE) if self.has_optimizer else None

    @property
    def now(self) -> float:
        """The loss that trials start from: for going on that goes to and fro, its mean at first if that is higher."""
        before = self.as_before
        return max(self.value, before.begun) if before is not None and math.isfinite(before.begun) else self.value

    @property
    def best(self) -> float:
        """The lowest loss that any trial has reached."""
        return min([self.now, *(trial.reached for trial in self.trials.done.values())])

    @property
    def gap(self) -> float:
        """How much can be gained: from the loss now to the best that was reached."""
        return self.now - self.best

    @property
    def is_gap_worth(self) -> bool:
        """Whether there is anything to gain: a hundredth of the loss, or of what training has gained if that is less.

        A loss may have an offset: but less than three thousandths of it is nothing. Without a history all that is no
        rounding counts.
        """
        if not len(self.losses):
            return self.gap > limit.SAME * abs(self.now)
        so_far = float(np.nanmax(self.losses[:5])) - self.value
        worth = limit.WORTH * (min(abs(self.now), so_far) if so_far > 0 else abs(self.now))
        return self.gap > max(worth, limit.LEAST * abs(self.now))

    def closes(self, trial: Trial | None) -> float:
        """The share of the gap that a trial closes."""
        if trial is None or not self.gap > 0:
            return 0.0
        return (self.now - trial.reached) / self.gap if math.isfinite(trial.reached) else -math.inf

    @property
    def progress(self) -> float:
        """The share of the gap that going on closes; 0 where that is no more than going to and fro.

        To and fro: how far the highest loss of the trial's second half is above the mean of that half.
        """
        before = self.as_before
        if before is None or not math.isfinite(before.reached):
            return -math.inf
        late = before.losses[len(before.losses) // 2 :]
        fall, swing = float(before.losses[0]) - before.reached, float(late.max() - late.mean())
        return fall / self.gap if self.gap > 0 and fall > limit.CHANCE * swing else 0.0

    # Curvature and steps

    @functools.cached_property
    def hessian(self) -> HessianOperator:
        """The Hessian at θ."""
        return HessianOperator(self.objective)

    @functools.cached_property
    def scale(self) -> Array | None:
        """d, the step that the optimizer makes of a gradient, in limits of stability: see `optim.stability`.

        None where it is not known, or nothing moves.
        """
        scale = step_scale(self.optimizer, self.objective.vector)
        return scale if scale is not None and scale.any() else None

    @functools.cached_property
    def ratio(self) -> float | None:
        """The learning rate against the limit of stability: λ_max(D^½ H D^½). None where not known, or not positive."""
        if self.scale is None:
            return None
        largest = self._largest(_Scaled(self.hessian, np.sqrt(self.scale)))
        return largest if largest > 0 else None

    @functools.cached_property
    def sharpness(self) -> float:
        """λ_max of the Hessian."""
        return self._largest(self.hessian)

    def _largest(self, operator: Any) -> float:
        return float(eigenpairs(operator, 1, "largest", tol=1e-2, max_products=100, rng=self.rng).values[-1])

    @functools.cached_property
    def point(self) -> CriticalPoint:
        """The verdict on θ as a critical point."""
        return classify(self.objective, dense_up_to=_DENSE, max_products=_PRODUCTS, rng=self.rng)

    @functools.cached_property
    def way_out(self) -> Escape | None:
        """Down along negative curvature, or along flat directions of a degenerate point; None where there is none."""
        try:
            return self.point.escape(self.rng) if self.point.negative or self.point.kind == DEGENERATE else None
        except ValueError:
            return None

    @functools.cached_property
    def descent(self) -> Escape:
        """The best that one step in the optimizer's direction can do: −D g, or −g, with a perfect step length."""
        direction = self.gradient if self.scale is None else self.scale * self.gradient
        return escape(self.objective, self.theta, direction, self.size)

    # Noise

    @functools.cached_property
    def expected_change(self) -> tuple[float, float, float] | None:
        """What one update changes on average, its standard error, and the part of it that is due to noise.

        −gᵀD g + ½ gᵀD H D g + ½ tr(D H D Σ) / B, from the gradients g_b of batches: the mean of
        −gᵀD g_b + ½ (D g_b)ᵀ H (D g_b). D = diag(η / σ), with momentum β divided by 1 − β: what a gradient moves θ by
        in the end. The last term, that of noise, is the difference to a batch of all data.
        """
        if self.scale is None or not self.is_in_batches:
            return None
        step = self.scale * 2 * (1 + self.momentum) / (1 - self.momentum)

        def change(g: Array) -> float:
            d = step * g
            return -float(self.gradient @ d) + float(d @ (self.hessian @ d)) / 2

        found = [change(g) for _, g in self.batches]
        mean = float(np.mean(found))
        return mean, float(np.std(found, ddof=1)) / math.sqrt(len(found)), mean - change(self.gradient)

    @functools.cached_property
    def batch_sharpness(self) -> float | None:
        """Curvature of a batch along its own gradient, g_bᵀ H_b g_b / ‖g_b‖², against its limit 2 (1 − β) / η.

        The mean over batches. For gradient descent with momentum β in small batches; None for other methods.
        Andreyev & Beneventano 2024, and for momentum Andreyev et al. 2026.
        """
        run, optimizer = self.run, self.optimizer
        if not self.is_in_batches or not isinstance(optimizer, SGD | Momentum) or not self.rate:
            return None
        found, loss_of = [], run._loss_of()
        for batch, g in self.batches:
            if g.any():
                parts = hvp(loss_of(*batch), run.vector.parameters, run.vector.split(g))
                found.append(float(g @ run.vector.join(parts)) / float(g @ g))
        return float(np.mean(found)) * self.rate / (2 * (1 - self.momentum)) if found else None

    @property
    def is_in_batches(self) -> bool:
        """Whether updates are on batches smaller than all data."""
        run = self.run
        return run.batch_size is not None and run.X is not None and run.batch_size < len(run.X)

    @property
    def has_rate(self) -> bool:
        """Whether the method has a learning rate, and it is not 0."""
        return "lr" in self.optimizer.param_groups[0] and self.rate > 0

    @property
    def rate(self) -> float:
        """The learning rate of the next step, the largest of all groups; 1 for a method without."""
        return max(changes.rates_of(self.optimizer))

    @property
    def momentum(self) -> float:
        """β, or β₁."""
        group = self.optimizer.param_groups[0]
        return float(group.get("momentum", group.get("betas", (0.0,))[0]))

    @functools.cached_property
    def batches(self) -> list[tuple[tuple[Array, Array], Array]]:
        """Some batches, with their gradients."""
        run, rng = self.run, np.random.default_rng(0)
        found: list[tuple[tuple[Array, Array], Array]] = []
        with self.trials.vector.copied():
            while len(found) < _BATCHES:
                for batch in batches(run.X, run.y, run.batch_size, rng):
                    run._evaluate(*batch)
                    found.append((batch, run.vector.gradient()))
        return found[:_BATCHES]


class _Scaled:
    """D^½ H D^½, as an operator."""

    def __init__(self, H: HessianOperator, root: Array) -> None:
        self.H, self.root, self.shape, self.dtype = H, root, H.shape, H.dtype

    def __matmul__(self, v: Array) -> Array:
        return self.root * (self.H @ (self.root * v))
