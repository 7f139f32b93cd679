"""Whose code is: the user's, which is searched and watched, or a library's, which is taken as it is."""

from __future__ import annotations

import os
import sys
import sysconfig
from types import CodeType
from typing import Any

_PATHS = sysconfig.get_paths()
_PLACES = _PATHS["stdlib"], _PATHS["purelib"], _PATHS["platlib"], os.path.dirname(os.path.dirname(__file__))
_LIBRARIES = (*(place + os.sep for place in _PLACES), "<frozen")


def is_library(filename: str | None) -> bool:
    """Whether a file is a library's; what has no file is Python's own."""
    return filename is None or filename.startswith(_LIBRARIES)


def is_class_of_library(cls: type) -> bool:
    """Whether a class is a library's, Python's or ours."""
    return is_library(file_of(cls.__module__))


def file_of(module: Any) -> Any:
    """The file of a module; without one, as in a notebook, its name; None of one that is Python's own."""
    return None if module in sys.builtin_module_names else getattr(sys.modules.get(module), "__file__", module)


def is_of_library(code: CodeType, names: dict[str, Any]) -> bool:
    """Whether code is a library's, or was made for it, as for a named tuple. names: its globals."""
    file = code.co_filename
    return is_library(file_of(names.get("__name__")) if file == "<string>" else file) or (
        names.get("__name__", "").startswith("namedtuple_")
    )
