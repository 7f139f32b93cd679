"""Ctrl-C at any moment: an exception at a chosen bytecode of the package."""

import sys
from pathlib import Path

import microgradopt

_HOME = str(Path(microgradopt.__file__).parent)


class Interrupt:
    """Raises KeyboardInterrupt at the n-th bytecode of the package that runs inside; without `at`, only counts them."""

    def __init__(self, at=-1):
        self.at, self.count = at, 0

    def __enter__(self):
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._dropped
        sys._getframe().f_trace_opcodes = True  # Python 3.12 asks when tracing begins whether bytecodes are wanted
        sys.settrace(self._called)
        return self

    def __exit__(self, *error):
        sys.settrace(None)
        sys.unraisablehook = self._unraisable

    def _dropped(self, unraisable):
        """Python drops an interruption that comes while it closes a generator (any() that stopped early)."""
        if unraisable.exc_type is not KeyboardInterrupt:
            self._unraisable(unraisable)

    def _called(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(_HOME):
            return None
        frame.f_trace_opcodes = True
        return self._executed

    def _executed(self, frame, event, arg):
        if event == "opcode":
            self.count += 1
            if self.count == self.at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._executed
