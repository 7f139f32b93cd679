"""The sliders of the playground, for what the surface and the optimizer chosen have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import marimo as mo
from play.optimizers import HYPERPARAMETERS, RATES, UPDATES, optimizers
from play.surfaces import Surface

WHEN_LET_GO: dict[str, Any] = {"show_value": True, "debounce": True}


def update_slider(updates: int) -> mo.ui.slider:
    """How many updates a run has."""
    return mo.ui.slider(steps=UPDATES, value=updates, label="updates", **WHEN_LET_GO)


def start_sliders(place: Surface, at: Sequence[float]) -> mo.ui.array:
    """Where a run starts: both parameters, which the run follows while they are dragged; for a net, the seed."""
    if place.net is not None:
        return mo.ui.array([mo.ui.number(0, 99, step=1, value=0, label="seed", full_width=False)])
    sides = zip(place.extent[::2], place.extent[1::2], at, place.names, strict=True)
    return mo.ui.array(
        [
            mo.ui.slider(low, high, step=0.01, value=x, label=f"start ${name}$", show_value=True)
            for low, high, x, name in sides
        ]
    )


def rate_and_memory(optimizer: str, place: Surface) -> tuple[mo.ui.slider, mo.ui.dictionary]:
    """Of an optimizer: the learning rate, at one that does on this surface, and its other hyperparameters."""
    _, hyper, rate = optimizers()[optimizer]
    lr = mo.ui.slider(steps=RATES, value=place.rates[rate], label=r"learning rate $\eta$", **WHEN_LET_GO)
    others = {
        name: mo.ui.slider(steps=HYPERPARAMETERS[name][0], value=value, label=HYPERPARAMETERS[name][1], **WHEN_LET_GO)
        for name, value in hyper.items()
    }
    return lr, mo.ui.dictionary(others)
