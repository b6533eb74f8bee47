"""Atomic counters for threads that run the same program: a spinning barrier.

Launching work on a thread pool costs microseconds to a hundred, and numba's pools differ by
platform; plain threads that stay inside one compiled call only need a place to wait for each other.
"""

from typing import Any

from llvmlite import ir

from fastcnn.codegen import linked
from fastcnn.codegen.processor import is_aarch64, is_x86
from fastcnn.codegen.simd import INT32, INT64, define, emit_call

#: Spins before a waiting thread yields, if each thread has a core.
SPINS = 20_000
#: Indices in the array through which threads synchronise: arrivals, failure, spins before yielding.
ARRIVED, FAILED, PATIENCE = 0, 1, 2


def _emit_atomic_add(builder: Any, array: Any, index: Any, value: Any) -> Any:
    return builder.atomic_rmw("add", builder.gep(array, [index]), value, "seq_cst")


def _emit_atomic_load(builder: Any, array: Any, index: Any) -> Any:
    return builder.load_atomic(builder.gep(array, [index]), "seq_cst", 8)


def _emit_atomic_store(builder: Any, array: Any, index: Any, value: Any) -> None:
    builder.store_atomic(value, builder.gep(array, [index]), "release", 8)


def _emit_sched_yield(builder: Any) -> Any:
    kind = ir.FunctionType(INT32, [])
    return builder.sext(emit_call(builder, "sched_yield", kind, ()), INT64)


def _emit_relax(builder: Any) -> Any:
    if is_x86(builder.module.triple):
        emit_call(builder, "llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), []), ())
    elif is_aarch64(builder.module.triple):
        kind = ir.FunctionType(ir.VoidType(), [INT32])
        emit_call(builder, "llvm.aarch64.hint", kind, (ir.Constant(INT32, 1),))  # yield


#: Add to an int64 of an array and return the old value, sequentially consistent.
atomic_add = define("int64", _emit_atomic_add, None, "int64", "int64")
#: Read an int64 that other threads modify.
atomic_load = define("int64", _emit_atomic_load, None, "int64")
#: Write an int64 that other threads read, and that none of them modifies.
atomic_store = define("void", _emit_atomic_store, None, "int64", "int64")
#: Hint to the processor that this thread spins: the core's other hardware thread runs faster.
relax = define("void", _emit_relax)
#: Let another thread run on this core (the C library's function of the same name).
sched_yield = define("int64", _emit_sched_yield)


@linked
def barrier(sync, threads):
    """Wait until all threads have arrived.

    Returns False if one of them failed, or could not be started.
    """
    if threads == 1:
        return True
    target = (atomic_add(sync, ARRIVED, 1) // threads + 1) * threads
    spins, patience = 0, sync[PATIENCE]
    while atomic_load(sync, ARRIVED) < target:
        spins += 1
        if spins >= patience:
            if atomic_load(sync, FAILED):
                return False
            sched_yield()
    return True
