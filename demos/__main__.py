"""List the demos, or run some of them: ``python -m demos``, ``python -m demos 03 07 --quick``, ``python -m demos all``.

Each one's pictures and results go to the folder --out, and there, too, what it prints, as a text file by its name.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

FOLDER = Path(__file__).parent
DEMOS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def title(demo: Path) -> str:
    """The first line of a demo's docstring."""
    return (ast.get_docstring(ast.parse(demo.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def chosen(names: list[str]) -> list[Path]:
    """The demos whose names begin with one of these."""
    unknown = [name for name in names if not any(demo.name.startswith(name) for demo in DEMOS)]
    if unknown and names != ["all"]:
        raise SystemExit(f"demos: there is no {', '.join(unknown)}; `python -m demos` lists them")
    return [demo for demo in DEMOS if names == ["all"] or demo.name.startswith(tuple(names))]


def run(demo: Path, options: list[str], out: Path) -> None:
    """Run one in a process of its own; what it prints goes to a file, and is shown if it fails."""
    path = out / f"{demo.stem}.txt"
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(demo), *options, "--out", str(out)]
    with path.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{path.read_text(encoding='utf-8')}\n{done.stderr}\n{demo.name} failed")


def main() -> None:
    """List, or run."""
    parser = argparse.ArgumentParser(prog="python -m demos", description=__doc__)
    parser.add_argument("names", nargs="*", help="how their names begin, or: all. None: list them")
    parser.add_argument("--out", type=Path, default=FOLDER / "out", help="where pictures and results go")
    parser.add_argument("--show", action="store_true", help="show what they print")
    known, options = parser.parse_known_args()
    if not known.names:
        print("\n".join(f"{demo.stem:<24}{title(demo)}" for demo in DEMOS))
        print("\nRun one: python -m demos 02 --show    all: python -m demos all    at their smallest: --quick")
        print(f"--show prints what they found; pictures are in {FOLDER / 'out'}. Small tasks: python -m demos.tasks")
        return
    known.out.mkdir(parents=True, exist_ok=True)
    for demo in (bar := tqdm(chosen(known.names), unit="demo")):
        bar.set_description(demo.stem)
        started = time.perf_counter()
        run(demo, options, known.out)
        bar.write(f"{demo.stem:<24}{time.perf_counter() - started:6.1f} s   {known.out / demo.stem}.txt")
        if known.show:
            bar.write((known.out / f"{demo.stem}.txt").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
