"""The program: what a function executes, recorded once, printed as NumPy, and called at that speed."""

from microgradopt.program.compiled import Compiled, compile
from microgradopt.program.printing import source
from microgradopt.program.program import Source
from microgradopt.program.tracer import StaleProgramError, TracingError

__all__ = ["Compiled", "Source", "StaleProgramError", "TracingError", "compile", "source"]
