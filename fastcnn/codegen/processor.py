"""The processor for which functions are compiled: this machine's, or one named for numba.

``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` are numba's environment variables.
"""

import functools
import os

import llvmlite.binding as ll


@functools.cache
def initialise_llvm() -> None:
    """Register this machine's target with LLVM."""
    if _before_llvm_20():
        ll.initialize()
    ll.initialize_native_target()
    ll.initialize_native_asmprinter()


def _before_llvm_20() -> bool:
    return ll.llvm_version_info[0] < 20


def processor() -> tuple[str, str, str]:
    """Target triple, name and features, in LLVM's notation."""
    triple = ll.get_process_triple()
    name = os.environ.get("NUMBA_CPU_NAME")
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name else _host_features()
    return triple, name or _host_name(), features


@functools.cache
def _host_name() -> str:
    initialise_llvm()
    return str(ll.get_host_cpu_name())


@functools.cache
def _host_features() -> str:
    initialise_llvm()
    try:
        return str(ll.get_host_cpu_features().flatten())
    except RuntimeError:  # LLVM cannot query this processor
        return ""


def is_x86(triple: str) -> bool:
    """Whether a triple is x86."""
    return triple.startswith(("x86_64", "i386", "i686"))


def is_aarch64(triple: str) -> bool:
    """Whether a triple is 64-bit ARM."""
    return triple.startswith(("aarch64", "arm64"))
