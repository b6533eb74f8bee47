"""``fastcnn info``."""

import os
import platform

from rich.console import Console
from rich.table import Table


def info() -> None:
    """Versions, processor, the engine's instructions, tiles, threads and cache, BLAS, data."""
    import llvmlite
    import numba
    import numpy
    from threadpoolctl import threadpool_info

    import fastcnn
    from fastcnn.backends import BACKENDS, DEFAULT_BACKEND
    from fastcnn.backends.lanes import compiled
    from fastcnn.backends.lanes.engine import THREADS_VARIABLE, default_threads
    from fastcnn.backends.lanes.target import blocking, instruction_set, processor
    from fastcnn.data.sources import DATA_DIR_VARIABLE, SOURCES, find_folder
    from fastcnn.errors import DataError

    tile = blocking()
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
        "numba": f"{numba.__version__} (llvmlite {llvmlite.__version__})",
        "processor": f"{processor()[1]} ({platform.machine()}), {os.cpu_count()} cores",
        "lanes: instructions": instruction_set(),
        "lanes: register tiles": f"convolution {_size(tile.products, (8, 3))}, with pooling "
        f"{_size(tile.windows, (4, 4))}, weight gradient {_size(tile.gradients, (4, 5))} "
        "vectors of 16 floats",
        "lanes: threads": f"{default_threads()} (set {THREADS_VARIABLE} to change), "
        "plain threads in one compiled call, spinning barriers",
        "lanes: kernels": f"{compiled.kernel_folder()} "
        + ("(compiled)" if compiled.are_kept() else "(not compiled yet: fastcnn warmup)"),
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
