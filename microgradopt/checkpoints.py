"""Checkpoints: a model's parameters and an optimizer's state in one ``.npz`` file. Nothing in it is pickled."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from microgradopt.nn.module import Module
from microgradopt.optim.optimizer import Optimizer
from microgradopt.optim.saving import whole
from microgradopt.optim.schedules import decoded, encoded

Array = npt.NDArray[Any]
FilePath = str | os.PathLike[str]


def save_checkpoint(path: FilePath, model: Module, optimizer: Optimizer | None = None) -> None:
    """Write the parameters, and the optimizer's state with its schedules, to one ``.npz`` file.

    The file appears whole or not at all: it is written beside its place, and then moved there. It has the mode of the
    file that it replaces, or else that of the umask; a symbolic link is followed.

    Raises ValueError for a parameter of the optimizer that is none of the model's, and OSError as `open` does.

    >>> import tempfile, microgradopt as mg
    >>> model = mg.nn.Linear(2, 1, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/run.npz", model)
    ...     load_checkpoint(f"{folder}/run.npz", model)
    """
    arrays = {f"model/{name}": array for name, array in model.state_dict().items()}
    if optimizer is not None:
        state = optimizer.state_dict()
        plain: list[dict[str, Any]] = []
        for i, entry in enumerate(state["state"]):
            arrays |= {f"state/{i}/{key}": value for key, value in entry.items() if isinstance(value, np.ndarray)}
            plain.append({key: value for key, value in entry.items() if not isinstance(value, np.ndarray)})
        groups = [{key: encoded(value) for key, value in group.items()} for group in state["param_groups"]]
        whole_state = {**state, "state": plain, "param_groups": groups, "names": _names(model, optimizer)}
        arrays["optimizer"] = np.array(json.dumps(whole_state))
    with _replaced(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numbers and text: nothing is pickled


def load_checkpoint(path: FilePath, model: Module, optimizer: Optimizer | None = None) -> None:
    """Read what `save_checkpoint` wrote into a model, and an optimizer, of the same make. Bit for bit.

    Raises ValueError for a file that is truncated, foreign or pickled, that has numbers which are not finite, or does
    not fit: other parameters, in another order, or another optimizer; FileNotFoundError if there is none. Then, and if
    Ctrl-C comes, nothing has been changed.

    >>> import tempfile, microgradopt as mg
    >>> model, other = (mg.nn.Linear(2, 1, rng=seed) for seed in (0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/run.npz", model)
    ...     load_checkpoint(f"{folder}/run.npz", other)
    >>> bool((other.weight.data == model.weight.data).all())
    True
    """
    arrays = _read_arrays(path)
    unknown = [name for name in arrays if not re.fullmatch(r"optimizer|model/.*|state/\d+/.*", name, re.DOTALL)]
    parameters = {name.removeprefix("model/"): a for name, a in arrays.items() if name.startswith("model/")}
    try:
        if unknown:
            raise ValueError(f"it holds {unknown} too, which is no part of a checkpoint")
        for name, array in parameters.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite")
        changes = [model.loading(parameters)]
        if optimizer is not None:
            changes.append(optimizer.loading(_optimizer_state(arrays, model, optimizer)))
    except Exception as error:  # a file may hold anything
        reason = error.args[0] if isinstance(error, KeyError) else str(error) or type(error).__name__
        reason = str(reason).removesuffix("; nothing was loaded").removesuffix("; nothing loaded")
        raise ValueError(f"load_checkpoint: {os.fspath(path)} does not fit: {reason}; nothing was loaded") from error
    whole(lambda: [change() for change in changes])  # type: ignore[arg-type]


def _names(model: Module, optimizer: Optimizer) -> list[list[str]]:
    """The names that the model has for the tensors of each group."""
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    groups = [group["params"] for group in optimizer.param_groups]
    if any(parameter not in name_of for group in groups for parameter in group):
        raise ValueError("checkpoint: the optimizer moves a tensor that is no parameter of this model")
    return [[name_of[parameter] for parameter in group] for group in groups]


def _optimizer_state(arrays: dict[str, Array], model: Module, optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's state_dict in a file."""
    if "optimizer" not in arrays:
        raise ValueError("it holds no optimizer state")
    state: dict[str, Any] = json.loads(str(arrays["optimizer"]))
    names = state.pop("names", None)
    if names != _names(model, optimizer):
        raise ValueError(f"its optimizer moves {names}, and this one {_names(model, optimizer)}")
    for name, array in arrays.items():
        if name.startswith("state/"):
            _, entry, key = name.split("/", 2)
            state["state"][int(entry)][key] = array
    for group in state["param_groups"]:
        group.update({key: decoded(value) for key, value in group.items() if key != "params"})
    return state


# Files ----------------------------------------------------------------------------------------------------------------


def _read_arrays(path: FilePath) -> dict[str, Array]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if damaged := archive.zip.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
            return {name: archive[f"{name}.npy"] for name in archive.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise ValueError(f"load_checkpoint: {os.fspath(path)} is not a whole checkpoint: {error}") from error


@contextmanager
def _replaced(path: FilePath) -> Iterator[IO[bytes]]:
    """A new file, that takes the place of the one at `path` once it is written."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"save_checkpoint: {os.fspath(path)!r} is a folder, not the name of a file")
    _sweep_up(target.parent)
    temporary = target.parent / f".checkpoint-{os.getpid()}-{threading.get_ident()}.part"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _sweep_up(folder: Path) -> None:
    """Remove what processes that were killed while they saved have left."""
    if os.name != "posix":  # elsewhere os.kill asks nothing, it kills
        return
    for part in folder.glob(".checkpoint-*-*.part"):
        process = part.name.split("-")[1]
        if process.isdigit() and not _runs(int(process)):
            part.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # it is another's, or no number of a process
        pass
    return True
