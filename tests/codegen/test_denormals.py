"""Flushing denormals on x86 and 64-bit ARM: the emitted code for each, on any machine."""

import llvmlite.binding as ll
import pytest
from llvmlite import ir

from fastcnn.codegen.denormals import are_flushed, emit_flush, emit_restore
from fastcnn.codegen.simd import INT64


def assembly(triple: str) -> str:
    """The assembly of a function that flushes denormals, divides and restores, for a target."""
    ll.initialize_all_targets()
    ll.initialize_all_asmprinters()
    module = ir.Module("test")
    module.triple = triple
    number = ir.DoubleType()
    function = ir.Function(module, ir.FunctionType(number, [number, number]), "divide")
    builder = ir.IRBuilder(function.append_basic_block())
    state = emit_flush(builder)
    assert state.type == INT64
    quotient = builder.fdiv(*function.args)
    emit_restore(builder, state)
    builder.ret(quotient)
    machine = ll.Target.from_triple(triple).create_target_machine()
    return machine.emit_assembly(ll.parse_assembly(str(module)))


def has(target: str) -> bool:
    ll.initialize_all_targets()
    try:
        ll.Target.from_triple(target)
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("triple", ["aarch64-unknown-linux-gnu", "arm64-apple-darwin"])
def test_arm(triple: str) -> None:
    if not has(triple):
        pytest.skip(f"this LLVM has no target {triple}")
    text = assembly(triple).lower()
    assert text.count("mrs") == 1
    assert text.count("msr\tfpcr") == 2
    assert "#0x1000000" in text or "#16777216" in text
    assert are_flushed(triple)


def test_x86() -> None:
    triple = "x86_64-unknown-linux-gnu"
    if not has(triple):
        pytest.skip(f"this LLVM has no target {triple}")
    text = assembly(triple)
    assert text.count("stmxcsr") == 1
    assert text.count("ldmxcsr") == 2
    assert are_flushed(triple)


def test_elsewhere() -> None:
    triple = "riscv64-unknown-linux-gnu"
    assert not are_flushed(triple)
    if has(triple):
        assert "csr" not in assembly(triple)
