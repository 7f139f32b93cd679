"""Machine code: the function that a text defines, made by Numba, and kept on disk."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any


def _cache() -> Path:
    """The folder of texts and machine code: $MICROGRADOPT_CACHE, or microgradopt in the user's own cache."""
    own = os.environ.get("MICROGRADOPT_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "microgradopt"


@functools.cache
def made(text: str) -> Callable[..., Any]:
    """The function that a text defines, for Numba. The text goes into a file, beside which Numba keeps machine code."""
    import numba

    from microgradopt.program.native import math

    mathematics = Path(math.__file__).read_bytes()
    functions = ", ".join(name for name in vars(math) if f"{name}(" in text and not name.startswith("_"))
    head = "import math\n\nimport numpy as np\nfrom numba import njit\n"
    head += f"from microgradopt.program.native.math import {functions}\n\n\n" if functions else "\n\n"
    digest = sha256(mathematics + numba.__version__.encode() + (head + text).encode()).hexdigest()[:32]
    path = _cache() / f"loop_{digest}.py"
    if not path.exists() or path.read_text() != head + text:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(head + text)
        fresh.replace(path)
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(specification)  # Numba finds it there
    specification.loader.exec_module(module)
    return module.loop
