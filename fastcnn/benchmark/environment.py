"""What a measurement was made on."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "onnxruntime", "tensorflow",
            "tensorflow-cpu",
            "tinygrad")  # fmt: skip
#: Other libraries, as the names of their contestants begin, and packages of which one is enough.
LIBRARIES = {"PyTorch": ("torch",), "JAX": ("jax",),
             "TensorFlow": ("tensorflow", "tensorflow-cpu"), "tinygrad": ("tinygrad",)}  # fmt: skip


def describe_environment() -> dict[str, str]:
    """Machine, instruction set, versions and threads, as text by name."""
    import fastcnn
    from fastcnn.backends.lanes.engine import default_threads
    from fastcnn.codegen.target import instruction_set, processor

    return {
        "fastcnn": fastcnn.__version__,
        **({"commit": name} if (name := commit()) else {}),
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


def commit() -> str | None:
    """The commit of the checkout that runs, with ``+`` where its code was changed."""
    import fastcnn

    root = Path(fastcnn.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        name = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "fastcnn")
    except (OSError, subprocess.SubprocessError):
        return None
    return name + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    return done.stdout.strip()


def installed(package: str) -> str | None:
    """A package's version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def library_installed(contestant: str) -> bool:
    """Whether the library is there that a contestant of :data:`LIBRARIES` is from."""
    return any(
        installed(package)
        for name, packages in LIBRARIES.items()
        if contestant.startswith(name)
        for package in packages
    )
