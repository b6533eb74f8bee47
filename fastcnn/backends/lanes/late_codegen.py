"""Compiling one function of many parts without compiling each part by itself.

numba optimises every function with all that it calls, makes machine code of it, and does so again
for each of its callers. The interpreter's parts are called from nowhere else, so it is enough to do
that once, for the whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from numba import njit
from numba.core import config
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext

#: The decorator of parts.
linked = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@contextmanager
def only_for(name: str) -> Iterator[None]:
    """While this lasts, only the function of this qualified name is optimised and made code of.

    All others are linked into it and cannot be called from Python. Other threads wait with what
    they compile.
    """
    optimize = JITCodeLibrary._optimize_final_module
    finish = JITCodeLibrary._finalize_final_module
    executable = CPUContext.get_executable

    # The tiles are unrolled and in vectors as they are: doing more to the loops around them took
    # half a second, and steps were no shorter.
    level = type(config.OPT)(min(config.OPT, 1))

    def optimize_whole(self: Any) -> None:
        if self.name == name:
            with patch.object(config, "OPT", level):
                optimize(self)

    def finish_whole(self: Any) -> None:
        if self.name == name:
            finish(self)
        else:
            self._finalize_dynamic_globals()
            self._finalized = True

    def executable_whole(self: Any, library: Any, fndesc: Any, env: Any) -> Any:
        if library.name == name:
            return executable(self, library, fndesc, env)
        # numba keeps a builtin of each function and knows the function by it; this one raises.
        return {}.__getitem__

    with (
        global_compiler_lock,
        patch.object(JITCodeLibrary, "_optimize_final_module", optimize_whole),
        patch.object(JITCodeLibrary, "_finalize_final_module", finish_whole),
        patch.object(CPUContext, "get_executable", executable_whole),
    ):
        yield
