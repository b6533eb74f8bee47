"""Object files, each with one compiled function and one visible symbol, and how they are loaded."""

import ctypes
import sys
from typing import Any

import llvmlite.binding as ll

from fastcnn import forks
from fastcnn.codegen.processor import initialise_llvm, is_x86, processor

#: Functions of the C library that compiled functions may call.
SYSTEM = {
    *("acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "erf", "erfc", "exp", "exp2"),
    *("expm1", "fabs", "floor", "fmod", "hypot", "log", "log10", "log1p", "log2", "memcpy"),
    *("memmove", "memset", "pow", "round", "sched_yield", "sin", "sinh", "sqrt", "tan", "tanh"),
    "trunc",
}
SYSTEM |= {f"{name}f" for name in SYSTEM}
_lock = forks.lock()
_engine: Any = None
_loaded: dict[str, int] = {}


def target_machine() -> Any:
    """LLVM's code generator for the processor, set up as MCJIT requires."""
    initialise_llvm()
    triple, name, features = processor()
    return ll.Target.from_triple(triple).create_target_machine(
        cpu=name,
        features=features,
        opt=3,
        reloc="static" if is_x86(triple) else "default",
        codemodel="jitdefault",
        jit=True,
    )


def make_object(module: Any, symbol: str, strength_reduction: bool = True) -> bytes:
    """Machine code of a module in which only ``symbol`` is visible.

    Optimised at level 1: tiles are already unrolled and vectorised, and optimising the loops around
    them took time and made no step shorter. Without ``strength_reduction``, LLVM does not search
    for the cheapest way to compute the addresses in loops, which takes most of the time to machine
    code where tiles have many addresses.
    """
    machine = target_machine()
    keep_only(module, symbol)
    tuning = ll.create_pipeline_tuning_options(speed_level=1)
    tuning.loop_vectorization = True
    tuning.slp_vectorization = False
    builder = ll.create_pass_builder(machine, tuning)
    passes = builder.getModulePassManager()
    passes.run(module, builder)
    _check_symbols(module, symbol)
    # An option of the process: only this call may differ from LLVM's default.
    ll.set_option("fastcnn", f"-disable-lsr={str(not strength_reduction).lower()}")
    try:
        return bytes(machine.emit_object(module))
    finally:
        ll.set_option("fastcnn", "-disable-lsr=false")


def _check_symbols(module: Any, symbol: str) -> None:
    """Refuse modules that a process without numba could not load."""
    for function in module.functions:
        name = function.name
        if function.is_declaration and not name.startswith("llvm.") and name not in SYSTEM:
            raise TypeError(f"{symbol} cannot be compiled: it needs {name} of numba's runtime")


def keep_only(module: Any, symbol: str) -> None:
    """Hide all symbols of a module but one, so that LLVM drops unused functions."""
    for function in module.functions:
        if not function.is_declaration and function.name != symbol:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"


def load(symbol: str, content: bytes) -> int:
    """Address of a symbol of an object file, which is loaded once per process.

    Raises ValueError if the object does not define the symbol.
    """
    global _engine
    with _lock:
        if symbol not in _loaded:
            if _engine is None:
                _add_system_symbols()
                _engine = ll.create_mcjit_compiler(ll.parse_assembly(""), target_machine())
            _engine.add_object_file(ll.ObjectFileRef.from_data(content))
            _engine.finalize_object()
            address = _engine.get_function_address(symbol)
            if not address:
                raise ValueError(f"the object file does not define {symbol}")
            _loaded[symbol] = address
        return _loaded[symbol]


def _add_system_symbols() -> None:
    if sys.platform == "win32":
        switch = ctypes.windll.kernel32.SwitchToThread
        ll.add_symbol("sched_yield", ctypes.cast(switch, ctypes.c_void_p).value)
