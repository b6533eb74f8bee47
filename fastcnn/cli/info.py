"""``fastcnn info``."""

import os
import platform
import shutil
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from rich.table import Table

from fastcnn.cli.screen import Screen


def info() -> None:
    """Show versions, processor, threads and folders, and how to install what is missing."""
    import llvmlite
    import numpy
    from threadpoolctl import threadpool_info

    import fastcnn
    from fastcnn.backends import BACKENDS, DEFAULT_BACKEND
    from fastcnn.backends.lanes import THREADS_VARIABLE, all_sources, default_threads
    from fastcnn.codegen.build import kept
    from fastcnn.codegen.denormals import are_flushed
    from fastcnn.codegen.store import object_folder
    from fastcnn.codegen.target import blocking, instruction_set, processor
    from fastcnn.data.sources import DATA_DIR_VARIABLE, SOURCES, find_folder
    from fastcnn.errors import DataError, counted
    from fastcnn.extras import numba_version
    from fastcnn.files import cache_folder

    tile, sources = blocking(), all_sources()
    blas = [
        f"{pool['internal_api']} {pool.get('version')} ({pool.get('architecture')}, "
        f"{pool['num_threads']} thread{'s' if pool['num_threads'] > 1 else ''})"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    rows = {
        "fastcnn": fastcnn.__version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "numba": f"{numba_version()} (llvmlite {llvmlite.__version__})",
        "processor": f"{processor()[1]} ({platform.machine()}), "
        f"{counted(os.cpu_count() or 1, 'core')}",
        "lanes: instructions": instruction_set(),
        "lanes: register tiles": f"convolution {_size(tile.products, (8, 3))}, with pooling "
        f"{_size(tile.windows, (4, 4))}, weight gradient {_size(tile.gradients, (4, 5))} "
        "vectors of 16 floats",
        "lanes: threads": f"{default_threads()} (set {THREADS_VARIABLE} to change), "
        "plain threads in one compiled call, spinning barriers",
        "lanes: kernels": f"{kept(sources)} of {len(sources)} compiled, kept in "
        f"{object_folder() or 'no folder'} (fastcnn warmup compiles all)",
        "lanes: denormals": "flushed to zero" if are_flushed(processor()[0]) else "kept",
        "BLAS": "; ".join(blas) or "none found",
        "backends": ", ".join(BACKENDS) + f" (default: {DEFAULT_BACKEND})",
        "cache folder": _parts(cache_folder()),
        DATA_DIR_VARIABLE: os.environ.get(DATA_DIR_VARIABLE, "not set"),
    }
    for name, source in SOURCES.items():
        try:
            rows[f"{name} found in"] = str(find_folder(source) or "no local folder")
        except DataError as error:
            rows[f"{name} found in"] = str(error)
    console = Screen()
    console.show(_table("", rows))
    missing = _missing(kept(sources) < len(sources), rows["mnist found in"])
    if missing:
        console.show(_table("Missing, and how to get it", missing))
    else:
        console.say("nothing is missing")


def _table(title: str, rows: dict[str, str]) -> Table:
    table = Table(show_header=False, title=title or None, title_justify="left")
    for key, value in rows.items():
        table.add_row(key, value)
    return table


#: What fastcnn keeps in the cache folder, in which a user may keep other files.
CACHED = ("arrays", "cifar-*", "fashion_mnist", "kernels", "mnist", "unpacked")
#: Optional packages: what needs them, and how to install them.
OPTIONAL = {
    "onnx": ("ONNX files (export, import)", "pip install 'fastcnn[onnx]'"),
    "sklearn": ("scikit-learn's estimators", "pip install 'fastcnn[sklearn]'"),
    "torch": ("comparisons with PyTorch", "pip install 'fastcnn[torch]'"),
    "onnxruntime": ("comparisons with ONNX Runtime", "pip install onnxruntime"),
    "mpi4py": ("training on several MPI processes", "pip install 'fastcnn[mpi]'"),
    "tensorboardX": ("train --tensorboard", "pip install 'fastcnn[tensorboard]'"),
}


def _missing(to_compile: bool, mnist: str) -> dict[str, str]:
    """What is missing, and how to install it."""
    found = {}
    if shutil.which("fastcnn") is None:
        folder = Path(sys.executable).parent
        found["fastcnn on the path"] = f"source {folder / 'activate'}, or type {folder / 'fastcnn'}"
    if find_spec("numba") is None:
        found["numba: the fast backend"] = "pip install numba"
    elif to_compile:
        found["compiled kernels"] = "fastcnn warmup; otherwise compiled by the first training run"
    if mnist == "no local folder":
        found["MNIST"] = "downloaded at first use; or set FASTCNN_DATA_DIR to a folder with it"
    for module, (purpose, how) in OPTIONAL.items():
        if find_spec(module) is None:
            found[purpose] = how
    return found


def _parts(folder: Path) -> str:
    """A folder, and how much fastcnn keeps in each of its parts."""
    parts = []
    for part in sorted(path for name in CACHED for path in folder.glob(name)):
        size = 0
        for path in (part, *part.rglob("*")):
            with suppress(OSError):  # another process may have removed it
                size += path.stat().st_size
        parts.append(f"{part.name} {size / 1e6:,.1f} MB")
    return f"{folder} ({', '.join(parts)}; may be deleted)" if parts else f"{folder} (nothing yet)"


def _size(block: tuple[int, int], whole: tuple[int, int]) -> str:
    """The part of a tile that is computed at a time."""
    return f"{min(block[0], whole[0])}x{min(block[1], whole[1])}"
