"""``fastcnn info``."""

import os
import platform

from rich.console import Console
from rich.table import Table


def info() -> None:
    """Show versions, processor, instruction set, threads, cache folder, BLAS and data folders."""
    from importlib.metadata import version

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
    from fastcnn.errors import DataError

    tile, sources = blocking(), all_sources()
    blas = [
        f"{pool['internal_api']} {pool.get('version')} ({pool.get('architecture')}, "
        f"{pool['num_threads']} threads)"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    rows = {
        "fastcnn": fastcnn.__version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "numba": f"{version('numba')} (llvmlite {version('llvmlite')})",
        "processor": f"{processor()[1]} ({platform.machine()}), {os.cpu_count()} cores",
        "lanes: instructions": instruction_set(),
        "lanes: register tiles": f"convolution {_size(tile.products, (8, 3))}, with pooling "
        f"{_size(tile.windows, (4, 4))}, weight gradient {_size(tile.gradients, (4, 5))} "
        "vectors of 16 floats",
        "lanes: threads": f"{default_threads()} (set {THREADS_VARIABLE} to change), "
        "plain threads in one compiled call, spinning barriers",
        "lanes: kernels": f"{kept(sources)} of {len(sources)} compiled, kept in "
        f"{object_folder() or 'no folder'} (fastcnn warmup compiles all)",
        "lanes: denormals": "count as zero" if are_flushed(processor()[0]) else "computed with",
        "BLAS": "; ".join(blas) or "none found",
        "backends": ", ".join(BACKENDS) + f" (default: {DEFAULT_BACKEND})",
        DATA_DIR_VARIABLE: os.environ.get(DATA_DIR_VARIABLE, "not set"),
    }
    for name, source in SOURCES.items():
        try:
            rows[f"{name} found in"] = str(find_folder(source) or "no local folder")
        except DataError as error:
            rows[f"{name} found in"] = str(error)
    table = Table(show_header=False)
    for key, value in rows.items():
        table.add_row(key, value)
    Console(highlight=False).print(table)


def _size(block: tuple[int, int], whole: tuple[int, int]) -> str:
    """The part of a whole tile that is computed at a time."""
    return f"{min(block[0], whole[0])}x{min(block[1], whole[1])}"
