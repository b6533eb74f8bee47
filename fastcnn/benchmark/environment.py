"""What a measurement was made on."""

import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "onnxruntime", "tensorflow",
            "tinygrad")  # fmt: skip


def describe_environment() -> dict[str, str]:
    """Machine, instruction set, versions and threads, as text by name."""
    import fastcnn
    from fastcnn.backends.lanes.engine import default_threads
    from fastcnn.backends.lanes.target import instruction_set, processor

    return {
        "fastcnn": fastcnn.__version__,
        "processor": f"{processor_name()} ({processor()[1]})",
        "instruction set": instruction_set(),
        "cores": str(os.cpu_count()),
        "threads": str(default_threads()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version for name in PACKAGES if (version := installed(name))},
    }


def processor_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed(package: str) -> str | None:
    """A package's version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
