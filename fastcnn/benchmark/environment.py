"""The environment of a measurement: machine, versions, and which other libraries work."""

import importlib.metadata
import logging
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

log = logging.getLogger("fastcnn.bench")

PACKAGES = (
    "numpy",
    "numba",
    "llvmlite",
    "torch",
    "jax",
    "jaxlib",
    "onnxruntime",
    "tensorflow",
    "tensorflow-cpu",
    "tinygrad",
)
#: Other libraries for training, by the prefix of their contestants' names, with packages any one of
#: which is sufficient.
LIBRARIES = {
    "PyTorch": ("torch",),
    "JAX": ("jax",),
    "TensorFlow": ("tensorflow", "tensorflow-cpu"),
    "tinygrad": ("tinygrad",),
}
#: A program for each that adds two numbers: a library may be installed and still not work, such as
#: tinygrad without clang.
TRIALS = {
    "PyTorch": "import torch; torch.ones(1) + 1",
    "JAX": "import jax.numpy; jax.numpy.ones(1) + 1",
    "TensorFlow": "import tensorflow; tensorflow.ones(1) + 1",
    "tinygrad": "import tinygrad; (tinygrad.Tensor([1.0]) + 1).numpy()",
    "ONNX Runtime": "import onnx, onnxruntime",
}


#: How to install each of them.
EXTRAS = {
    "PyTorch": "pip install 'fastcnn[torch]'",
    "JAX": "pip install jax",
    "TensorFlow": "pip install tensorflow-cpu",
    "tinygrad": "pip install tinygrad",
    "ONNX Runtime": "pip install onnxruntime 'fastcnn[onnx]'",
}


def describe_environment() -> dict[str, str]:
    """Machine, instruction set, versions and threads, as text by name."""
    import fastcnn
    from fastcnn.backends.lanes import default_threads
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
    """The processor's name, as reported by the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str | None:
    """The checked-out commit, with ``+`` if its code has been changed."""
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
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return done.stdout.strip()


def installed(package: str) -> str | None:
    """A package's version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def why_absent(library: str) -> str | None:
    """Why a library of :data:`TRIALS` cannot be measured on this machine; None if it can.

    Tried once, in a separate process, in case the library aborts.
    """
    done = subprocess.run(
        [sys.executable, "-c", TRIALS[library]],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode == 0:
        return None
    *_, reason = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    why = f"cannot be used ({reason})"
    if reason.startswith("ModuleNotFoundError"):
        why = "is not installed"
    log.warning("not measured: %s, which %s: %s", library, why, EXTRAS[library])
    return reason


def can_run(contestant: str) -> bool:
    """Whether a contestant's library works here; if not, the reason is logged once per library."""
    return all(why_absent(name) is None for name in TRIALS if contestant.startswith(name))
