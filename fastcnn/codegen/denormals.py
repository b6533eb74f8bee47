"""Flushes denormal numbers to zero while a program runs.

Gradients of saturated sigmoids fall below 1.2e-38, where an x86 core takes a hundred cycles for an
operation instead of a fraction of one: a step became 40 times slower. x86 and 64-bit ARM have a bit
for this in a control register of each thread; on other processors nothing is done.
"""

from typing import Any

from llvmlite import ir

from fastcnn.codegen.processor import is_aarch64, is_x86
from fastcnn.codegen.simd import INT32, INT64, define, emit_call

#: Bits of the x86 control register MXCSR: flush results to zero, read operands as zero.
FLUSH_TO_ZERO, DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
#: The bit of ARM's FPCR that does both.
FLUSH_ON_ARM = 1 << 24


def _mxcsr(builder: Any, name: str, place: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    emit_call(builder, f"llvm.x86.sse.{name}", kind, [builder.bitcast(place, byte)])


def emit_flush(builder: Any) -> Any:
    """Flush denormals to zero on this thread; returns the state to restore, an int64."""
    triple = builder.module.triple
    if is_x86(triple):
        place = builder.alloca(INT32)
        _mxcsr(builder, "stmxcsr", place)
        before = builder.load(place)
        bits = ir.Constant(INT32, FLUSH_TO_ZERO | DENORMALS_ARE_ZERO)
        builder.store(builder.or_(before, bits), place)
        _mxcsr(builder, "ldmxcsr", place)
        return builder.zext(before, INT64)
    if is_aarch64(triple):
        kind = ir.FunctionType(INT64, [])
        before = emit_call(builder, "llvm.aarch64.get.fpcr", kind, [])
        _set_fpcr(builder, builder.or_(before, ir.Constant(INT64, FLUSH_ON_ARM)))
        return before
    return ir.Constant(INT64, 0)


def _set_fpcr(builder: Any, value: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [INT64])
    emit_call(builder, "llvm.aarch64.set.fpcr", kind, [value])


def emit_restore(builder: Any, state: Any) -> None:
    """Undo :func:`emit_flush`."""
    triple = builder.module.triple
    if is_x86(triple):
        place = builder.alloca(INT32)
        builder.store(builder.trunc(state, INT32), place)
        _mxcsr(builder, "ldmxcsr", place)
    elif is_aarch64(triple):
        _set_fpcr(builder, state)


def are_flushed(triple: str) -> bool:
    """Whether denormals are flushed to zero on a processor; elsewhere they may make steps slow."""
    return is_x86(triple) or is_aarch64(triple)


flush_denormals = define("int64", emit_flush)
restore_denormals = define("void", emit_restore, "int64")
