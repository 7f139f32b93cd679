"""Saving what an optimizer keeps, and loading it: everything is checked before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from microgradopt.optim.blocks import Block, State
from microgradopt.optim.schedules import Schedule
from microgradopt.tensor import Tensor

if TYPE_CHECKING:
    from microgradopt.optim.optimizer import Group, Optimizer

_MOST_STEPS = 2**63


def whole(change: Callable[[], None]) -> None:
    """Make a change whole: where Ctrl-C interrupts it, it is made again, to its end, before the interrupt goes on.

    change: gives the same when it is made twice.
    """
    try:
        change()
    except BaseException:
        change()
        raise


def saved(optimizer: Optimizer) -> dict[str, Any]:
    """See `Optimizer.state_dict`."""
    position = _positions(optimizer)
    states = [
        {"params": [position[p] for p in block.vector.parameters], "step": step, **block.state.apart()}
        for blocks, step in zip(optimizer._blocks, optimizer._steps, strict=True)
        for block in blocks
    ]
    groups = [
        {key: value for key, value in group.items() if not _is_foreign(value)}
        | {"params": [position[p] for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    return {"optimizer": optimizer._name, "state": states, "param_groups": groups}


def loading(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> Callable[[], None]:
    """See `Optimizer.loading`."""
    try:
        groups = _groups(optimizer, state_dict)
        blocks, steps = _blocks(optimizer, state_dict)
    except Exception as error:  # a file may hold anything
        what = str(error) or type(error).__name__
        raise ValueError(f"{optimizer._name}.load_state_dict: {what}; nothing loaded") from error

    def load() -> None:
        for own, group in zip(optimizer.param_groups, groups, strict=True):
            own.update(group)
        optimizer._blocks[:], optimizer._steps[:] = blocks, steps

    return load


def _is_foreign(value: Any) -> bool:
    """Whether it is a function that cannot be saved."""
    return callable(value) and not isinstance(value, Schedule)


def _positions(optimizer: Optimizer) -> dict[Tensor, int]:
    return {p: i for i, p in enumerate(optimizer.parameters())}


def _groups(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> list[Group]:
    """The hyperparameters in a state_dict, checked, without the positions."""
    if not isinstance(state_dict, Mapping) or state_dict.keys() != {"optimizer", "state", "param_groups"}:
        found = sorted(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__
        raise ValueError(f"wants a dict with optimizer, state and param_groups, found {found}")
    if state_dict["optimizer"] != optimizer._name:
        raise ValueError(f"it is the state of {state_dict['optimizer']}")
    wanted, loaded = saved(optimizer)["param_groups"], list(state_dict["param_groups"])
    if [list(group["params"]) for group in loaded] != [group["params"] for group in wanted]:
        raise ValueError(f"this optimizer has groups of {[len(group['params']) for group in wanted]} parameters")
    return [_group(optimizer, own, group) for own, group in zip(optimizer.param_groups, loaded, strict=True)]


def _group(optimizer: Optimizer, own: Group, loaded: Mapping[str, Any]) -> Group:
    unfit = (own.keys() ^ loaded.keys()) - {key for key, value in own.items() if _is_foreign(value)}
    if unfit:
        raise ValueError(f"a group has {sorted(own)}; missing or unknown {sorted(unfit)}")
    for key in loaded.keys() - {"params"}:
        if callable(loaded[key]) != callable(own[key]):
            raise ValueError(
                f"{key} is {loaded[key]!r} there, and {own[key]!r} in this optimizer: build it with a schedule, or "
                "without, as the saved one was, and change it after loading"
            )
    accepted = optimizer.accepted({**own, **loaded, "params": own["params"]})
    return {key: accepted[key] for key in loaded if key != "params"}


def _blocks(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> tuple[list[list[Block]], list[int]]:
    """The state in a state_dict, checked and copied, by group; and the steps of the groups."""
    position, entries = _positions(optimizer), list(state_dict["state"])
    if sorted(i for entry in entries for i in entry["params"]) != list(range(len(position))):
        raise ValueError(f"its states are not those of {len(position)} parameters")
    blocks, steps = [], []
    for group in optimizer.param_groups:
        own = {position[p]: p for p in group["params"]}
        found = [entry for entry in entries if not own.keys().isdisjoint(entry["params"])]
        blocks.append([_block(optimizer, [own[i] for i in entry["params"]], entry) for entry in found])
        steps.append(found[0]["step"])
        if any(entry["step"] != steps[-1] for entry in found):
            raise ValueError("the states of a group disagree about its steps")
    return blocks, steps


def _block(optimizer: Optimizer, parameters: list[Tensor], entry: Mapping[str, Any]) -> Block:
    block = Block(parameters, State({key: entry[key] for key in entry if key not in ("params", "step")}).apart())
    state = block.state
    if not all(type(entry[key]) is int and 0 <= entry[key] < _MOST_STEPS for key in ("t", "step")):
        raise ValueError(f"t and step count steps: found {entry['t']!r:.50} and {entry['step']!r:.50}")
    missing = [key for key in optimizer.keeps if key not in state and state["t"]]
    unknown = sorted(state.keys() - {"t", *optimizer.keeps, *optimizer.may_keep})
    if missing or unknown:
        raise ValueError(f"in the state, missing {missing}, unknown {unknown}")
    for key in state.keys() - {"t"}:
        _check_value(optimizer, key, state[key], block.vector.theta())
    return block


def _check_value(optimizer: Optimizer, key: str, value: Any, theta: Any) -> None:
    if key in optimizer.numbers:
        if type(value) not in (float, int):
            raise ValueError(f"{key} in the state is a number, not {value!r:.50}")
    elif not (isinstance(value, np.ndarray) and value.dtype == theta.dtype and optimizer.fits(key, value, theta)):
        raise ValueError(f"{key} in the state is not a vector of {theta.dtype} of shape {theta.shape}")
    if not np.isfinite(value).all() or (key in optimizer.squares and np.min(value, initial=0.0) < 0):
        least = " and not negative" if key in optimizer.squares else ""
        raise ValueError(f"{key} in the state is not finite{least}")
