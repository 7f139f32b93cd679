"""What the demos share: options, data, tables and pictures, and studies that can be stopped and taken up again."""

from __future__ import annotations

import argparse
import atexit
import hashlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_digits, make_moons
from sklearn.model_selection import train_test_split
from tabulate import tabulate
from tqdm import tqdm

# Options --------------------------------------------------------------------------------------------------------------


class Options(argparse.Namespace):
    """quick: at the smallest setting. seed. out: the folder for pictures and results. jobs: processes for studies.

    show: open the pictures in windows.
    """

    quick: bool
    seed: int
    out: Path
    jobs: int
    show: bool


def options(doc: str | None) -> Options:
    """What the command line says; in a notebook, what it says by itself. doc: the demo's docstring."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest setting: a few seconds")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and made-up data (0)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where pictures and results go")
    parser.add_argument("--jobs", type=int, default=-1, help="processes for studies over seeds (-1: one for each core)")
    parser.add_argument("--show", action="store_true", help="open the pictures in windows, at the end")
    found = parser.parse_args([] if "ipykernel" in sys.modules else None, namespace=Options())
    found.out.mkdir(parents=True, exist_ok=True)
    if found.show:
        atexit.register(plt.show)
    return found


# Data -----------------------------------------------------------------------------------------------------------------


class Data(NamedTuple):
    """Samples as rows, and their labels, integers from 0."""

    X: np.ndarray
    y: np.ndarray


def digits(seed: int, train: int = 1257) -> tuple[Data, Data]:
    """Real handwritten digits, as rows of 64 numbers from 0 to 1: training images, and 540 to test with.

    From scikit-learn's 1,797, every digit in the same proportion in both.
    """
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, train_size=train, test_size=540, random_state=seed, stratify=y
    )
    return Data(X_train, y_train), Data(X_test, y_test)


def moons(seed: int, samples: int = 200) -> Data:
    """Two half moons in the plane, each in the other's arms, and blurred."""
    return Data(*make_moons(samples, noise=0.15, random_state=seed))


# Results --------------------------------------------------------------------------------------------------------------


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], digits: int = 4) -> None:
    """Print a table; numbers with so many significant digits."""
    print(tabulate(rows, headers, tablefmt="simple", floatfmt=f".{digits}g", missingval="–"), end="\n\n")


def save(figure: Figure, path: Path, thumbnail: Axes | None = None) -> None:
    """Save a picture, say where, and leave it open: a notebook or the documentation shows it.

    thumbnail: what the gallery shows, the inside of one panel, which is to be made out when it is small.
    """
    figure.savefig(path, dpi=110)
    if thumbnail is not None:
        picture = plt.imread(path)
        height, width = picture.shape[:2]
        left, bottom, right, top = (thumbnail.get_position().extents * (width, height, width, height)).astype(int)
        inside = picture[height - top : height - bottom, left:right]
        plt.imsave(path.with_name(f"{path.stem}_thumbnail.png"), inside)
    print(f"picture: {path}")


def panels(rows: int, columns: int, width: float = 4.6, height: float = 3.8) -> tuple[Figure, Any]:
    """A figure of several Axes."""
    figure, axes = plt.subplots(rows, columns, figsize=(columns * width, rows * height), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04)  # between a colour bar and the next panel
    return figure, axes


# Studies --------------------------------------------------------------------------------------------------------------


def study(
    work: Callable[..., Mapping[str, Any]], cases: Sequence[Mapping[str, Any]], path: Path, jobs: int = 1
) -> list[dict[str, Any]]:
    """``work(**case)`` for every case, in parallel; each result is a line of a file as soon as it is there.

    work: gives a dictionary of numbers, lists and words. path: of the file, JSON Lines: case and result of each.
    Called again, it does what is not in the file yet. What another version of `work` has computed does not count.

    Returns, for each case in order, case and result in one dictionary.
    """
    version = hashlib.sha256(inspect.getsource(work).encode()).hexdigest()[:12]
    keys = [json.dumps({"work": version, **case}, sort_keys=True) for case in cases]
    known = _known(path)
    missing = [(key, case) for key, case in zip(keys, cases, strict=True) if key not in known]
    if not missing:
        print(f"all {len(cases)} results are in {path}")
        return [{**case, **known[key]} for key, case in zip(keys, cases, strict=True)]
    tasks = (delayed(_done)(work, key, dict(case)) for key, case in missing)
    with path.open("a", encoding="utf-8") as file:
        results = Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
        for key, result in tqdm(results, total=len(missing), desc=path.stem, disable=None):
            known[key] = result
            file.write(json.dumps({"case": json.loads(key), "result": result}) + "\n")
            file.flush()
    return [{**case, **known[key]} for key, case in zip(keys, cases, strict=True)]


def _done(work: Callable[..., Mapping[str, Any]], key: str, case: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return key, dict(work(**case))


def _known(path: Path) -> dict[str, dict[str, Any]]:
    """The results in a file. A line that was cut off in the middle is dropped, and the file made whole again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found, whole = {}, []
    for line in lines:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[json.dumps(entry["case"], sort_keys=True)] = entry["result"]
        whole.append(line)
    if len(whole) < len(lines):
        path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
    return found


def times(work: Callable[[], object], least: float = 0.2) -> np.ndarray:
    """How long calls take: of as many as fit into `least` seconds, at least five, after one to warm up."""
    work()
    found: list[float] = []
    while len(found) < 5 or sum(found) < least:
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return np.array(found)


def seconds(work: Callable[[], object], least: float = 0.2) -> float:
    """How long a call takes: the median."""
    return float(np.median(times(work, least)))
