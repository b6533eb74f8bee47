"""Atomic counters for threads that run the same program: a barrier that spins.

A thread pool's launch costs microseconds to a hundred, and numba's pools differ by platform; plain
threads that stay inside one compiled call need only a place to wait for each other.
"""

import ctypes
import sys
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastcnn.backends.lanes.late_codegen import linked
from fastcnn.backends.lanes.simd import INT64, data_pointer

#: Spins before a waiting thread lets others run, where each has a core.
SPINS = 20_000
#: Places in the array by which threads meet: arrivals, failure, spins before a thread yields.
ARRIVED, FAILED, PATIENCE = 0, 1, 2

if sys.platform == "win32":
    binding.add_symbol(
        "sched_yield", ctypes.cast(ctypes.windll.kernel32.SwitchToThread, ctypes.c_void_p).value
    )


@intrinsic
def atomic_add(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Add to an int64 of an array and return the old value, in sequential order."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = data_pointer(context, builder, signature.args[0], args[0])
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), args[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), generate


@intrinsic
def atomic_load(typing: Any, array: Any, index: Any) -> Any:
    """Read an int64 that other threads change."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = data_pointer(context, builder, signature.args[0], args[0])
        return builder.load_atomic(builder.gep(data, [args[1]]), "seq_cst", 8)

    return types.int64(array, types.intp), generate


@intrinsic
def sched_yield(typing: Any) -> Any:
    """Let another thread run on this core (the C library's call of that name)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), []), "sched_yield"
        )
        return builder.sext(builder.call(function, ()), INT64)

    return types.int64(), generate


@linked
def barrier(sync, arrived, threads):
    """Wait until all threads have come here; ``arrived`` counts this thread's barriers.

    Returns False when one of them could not be started.
    """
    if threads == 1:
        return True
    atomic_add(sync, ARRIVED, 1)
    target = (arrived + 1) * threads
    spins, patience = 0, sync[PATIENCE]
    while atomic_load(sync, ARRIVED) < target:
        spins += 1
        if spins >= patience:
            if atomic_load(sync, FAILED):
                return False
            sched_yield()
    return True
