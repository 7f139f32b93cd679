"""The learner's code: loaded from a file, called, and what goes wrong there said in one sentence, with its line."""

from __future__ import annotations

import ast
import inspect
import linecache
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Function = Callable[..., Any]
HOLE = "Fill the hole: put your own code in the place of the `...` in the function `{name}`."
_ADVICE = {
    KeyError: ' At the first update `state` is empty: `state.get("m", 0.0)` gives 0 then.',
    NameError: " Is it spelt as in the line that begins with `def`? NumPy is `np`.",
    RecursionError: " The function calls itself without end.",
}


class Complaint(Exception):  # noqa: N818 (no error of the program: what is to be said to the learner)
    """What is wrong, in words for the learner."""


def load(path: Path, name: str) -> Function:
    """The function of that name in a learner's file. Raises Complaint for a file that does not run."""
    if not path.exists():
        raise Complaint(f"There is no file {path}: `start` makes it.")
    linecache.checkcache(str(path))
    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise Complaint(f"Python cannot read line {error.lineno} of {path}: {error.msg}.\n    {line}") from None
    except UnicodeDecodeError:
        raise Complaint(f"{path} is not saved as UTF-8.") from None
    except (Exception, SystemExit) as error:
        raise Complaint(_said(error, str(path), path.name)) from None
    if not callable(names.get(name)):
        raise Complaint(f"There is no function `{name}` in {path}. Has it another name now?")
    return names[name]


def guarded(function: Function, name: str, arguments: str) -> Function:
    """The same function; what it raises becomes a Complaint. arguments: those of its sheet, in words."""
    file = getattr(getattr(function, "__code__", None), "co_filename", "")

    def called(*args: Any) -> Any:
        try:
            with np.errstate(all="ignore"):  # what is not finite is seen in the result
                return function(*args)
        except KeyboardInterrupt as error:
            raise Complaint(f"You stopped it. {_said(error, file, name)} Does a loop there never end?") from None
        except (Exception, SystemExit) as error:
            if "ellipsis" in str(error).lower():
                raise Complaint(HOLE.format(name=name)) from None
            raise Complaint(f"{_said(error, file, name)}\nIt was called as `{name}{arguments}`.") from None

    return called


def _said(error: BaseException, file: str, name: str) -> str:
    """An exception in one sentence, with the learner's line where it came from."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), "")
    place = f"Line {own[-1].lineno} of {Path(file).name}" if own else f"Calling `{name}`"
    code = f"\n    {own[-1].line}" if own and own[-1].line else ""
    return f"{place} raises {what}.{advice}{code}"


def told(function: Function) -> str:
    """A function as code, without type hints, whose names a learner's file does not have."""
    tree = ast.parse(inspect.getsource(function))
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    definition.returns = None
    for argument in definition.args.args:
        argument.annotation = None
    return ast.unparse(tree)
