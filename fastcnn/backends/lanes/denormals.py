"""Denormal numbers count as zero while a program runs.

Gradients behind saturated sigmoids fall below 1.2e-38, where an x86 core takes a hundred cycles
for an operation instead of a fraction of one: a step became 40 times slower. Other processors
handle denormals at full speed and are left alone.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

INT32 = ir.IntType(32)
#: Bits of the x86 control register MXCSR: results flush to zero, operands are read as zero.
FLUSH_TO_ZERO, DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
IS_X86 = llvmlite.binding.get_default_triple().startswith(("x86_64", "i686"))


def _emit(builder: Any, name: str, pointer: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [byte]), f"llvm.x86.sse.{name}"
    )
    builder.call(function, [builder.bitcast(pointer, byte)])


@intrinsic
def flush_denormals(typing: Any) -> Any:
    """Count denormals as zero on this thread; returns the state to give back."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not IS_X86:
            return ir.Constant(INT32, 0)
        place = cgutils.alloca_once(builder, INT32)
        _emit(builder, "stmxcsr", place)
        before = builder.load(place)
        bits = ir.Constant(INT32, FLUSH_TO_ZERO | DENORMALS_ARE_ZERO)
        builder.store(builder.or_(before, bits), place)
        _emit(builder, "ldmxcsr", place)
        return before

    return types.int32(), generate


@intrinsic
def restore_denormals(typing: Any, state: Any) -> Any:
    """Undo :func:`flush_denormals`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if IS_X86:
            place = cgutils.alloca_once_value(builder, args[0])
            _emit(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), generate
