"""What was measured: spectra, histories, diagnoses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from microgradopt.critical.point import CriticalPoint
from microgradopt.curvature.spectrum import SpectralDensity
from microgradopt.diagnosis import Diagnosis
from microgradopt.plots.style import COLOURS, axes_of, legend_below
from microgradopt.training import History

Array = npt.NDArray[Any]


def spectrum(point: CriticalPoint, ax: Axes | None = None) -> Axes:
    """The eigenvalues of the Hessian in order, coloured by sign; those within the tolerance, the band, are zero.

    >>> import microgradopt as mg
    >>> spectrum(mg.critical.classify(mg.Objective(lambda w: np.sum(w * w), [0.0, 0.0]))).get_xlabel()
    'eigenvalue number'
    """
    ax = axes_of(ax)
    values, tolerance = point.eigenvalues, point.tolerance
    places = np.arange(len(values))
    signs = {"negative": values < -tolerance, "zero": np.abs(values) <= tolerance, "positive": values > tolerance}
    for name, which in signs.items():
        if which.any():
            label = f"{int(which.sum())} {name}"
            ax.scatter(places[which], values[which], s=14, color=COLOURS[name], label=label, zorder=2)
    ax.axhspan(-tolerance, tolerance, color=COLOURS["zero"], alpha=0.3)
    ax.axhline(0, color="black", linewidth=0.5)
    smallest = np.abs(values[~signs["zero"]]).min(initial=np.inf)
    linear = max(min(smallest, 1.0), 10 * tolerance, 1e-12)
    ax.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(linear)), linscale=1.0)  # a tick, not one within
    ax.yaxis.get_major_locator().set_params(numticks=9)  # type: ignore[call-arg]
    ax.autoscale()
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlabel("eigenvalue number" if point.complete else "eigenvalue number, of those found")
    ax.set_ylabel("eigenvalue of the Hessian")
    ax.set_title(f"{point.kind}{'' if point.certified else ' (not certified)'}", fontsize="medium")
    ax.legend(fontsize="small")
    return ax


def density(found: SpectralDensity, ax: Axes | None = None, sigma: float | None = None, resolution: int = 801) -> Axes:
    """The distribution of the Hessian's eigenvalues, each smoothed by a Gaussian of width sigma; logarithmic.

    sigma: by default 1/100 of the range of the eigenvalues; where all are alike, of their size.

    >>> import microgradopt as mg
    >>> density(mg.curvature.spectral_density(np.diag([1.0, 2.0, 3.0]), probes=2, steps=3)).get_yscale()
    'log'
    """
    ax = axes_of(ax)
    nodes = found.nodes[found.weights > 0]
    low, high = nodes.min(), nodes.max()
    if sigma is None:
        is_one = high - low <= 1e-10 * abs(high)  # but for rounding
        sigma = (abs(high) or 1.0) / 100 if is_one else (high - low) / 100
    t = np.linspace(low - 4 * sigma, high + 4 * sigma, resolution)
    values = found.density(t, sigma)
    ax.semilogy(t, values, color="black", linewidth=0.8)
    for name, which in (("negative", t < 0), ("positive", t >= 0)):
        ax.fill_between(t, values, 1e-12, where=which, color=COLOURS[name], alpha=0.4, linewidth=0)
    ax.set_ylim(max(values.max() * 1e-7, 1e-12), values.max() * 2)
    ax.set_xlabel("eigenvalue of the Hessian")
    ax.set_ylabel("density")
    return ax


def history(run: History, ax: Axes | None = None, **style: Any) -> Axes:
    """Loss and gradient norm of every update, on one logarithmic axis: a flat loss is not a small gradient.

    Where there is a validation loss, it is drawn too; where it rises and the loss falls, the network overfits.

    >>> run = History()
    >>> run.append(1.0, 2.0, 0.1, 0.0)
    >>> history(run).get_xlabel()
    'update'
    """
    if not (hasattr(run, "loss") and hasattr(run, "gradient_norm")):
        raise TypeError(f"history: wants a training.History, not {run!r:.60}")
    ax = axes_of(ax)
    ax.semilogy(run.loss, **{"label": "loss", "color": "#2471a3", "linewidth": 1.2, **style})
    ax.semilogy(run.gradient_norm, **{"label": "gradient norm", "color": "#e67e22", "linewidth": 0.8, **style})
    validated = np.array(getattr(run, "validation_loss", []), float)
    at = np.flatnonzero(np.isfinite(validated))
    if len(at):
        ax.semilogy(at, validated[at], **{"label": "validation loss", "color": "#c0392b", "linewidth": 1.5, **style})
    ax.set_xlabel("update")
    ax.legend(fontsize="small")
    return ax


def diagnosis(found: Diagnosis, ax: Axes | None = None) -> Axes:
    """What was tried: the loss so far, grey, and from now on that of every experiment.

    Going on as before is black, the experiment that the verdict rests on red, all others grey.

    >>> from microgradopt import Objective, critical
    >>> diagnosis(critical.diagnose(Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0]))).get_xlabel()
    'update, from now on'
    """
    if not (hasattr(found, "trials") and hasattr(found, "change")):
        raise TypeError(f"diagnosis: wants what critical.diagnose returns, not {found!r:.60}")
    ax = axes_of(ax)
    longest = max((trial.updates[-1] for trial in found.trials), default=1)
    so_far = np.array(found.run.loss[-longest:] if found.run is not None else [], float)
    now = found.trials[0].losses[0] if found.trials else 1.0
    ax.plot(np.arange(-len(so_far), 0), _near(so_far, now), color=COLOURS["zero"], linewidth=0.5)
    colours = {"going on as before": "black"}
    if found.change is not None:
        colours[found.change.name] = COLOURS["negative"]
    for trial in found.trials:
        told: dict[str, Any] = {"color": COLOURS["zero"], "linewidth": 0.5}
        if trial.name in colours:
            told = {"color": colours[trial.name], "label": trial.name}
        at = trial.updates * (longest / max(trial.updates[-1], 1))
        ax.plot(at, _near(trial.losses, now), **told)
    losses = np.concatenate([_near(so_far, now), *(_near(trial.losses, now) for trial in found.trials)])
    losses = losses[np.isfinite(losses)]
    if len(losses) and losses.min() > 0:
        ax.set_yscale("log")
        ax.set_ylim(max(losses.min() / 1.5, 1e-5 * now), 5 * min(max(now, np.median(losses)), losses.max()))
    ax.axvline(0, color="black", linewidth=0.5, linestyle=":")
    ax.set(xlabel="update, from now on", ylabel="loss", title=found.verdict)
    if ax.get_legend_handles_labels()[0]:
        legend_below(ax)
    return ax


def _near(losses: Array, now: float) -> Array:
    """Losses, without those that have run away from the one now, which no axis could show."""
    bound = 1e6 * abs(now) if np.isfinite(now) and now else 1e6
    return np.where(np.abs(losses) < bound, losses, np.nan)
