"""``fastcnn info``."""

import os
import platform

from rich.console import Console
from rich.table import Table


def info() -> None:
    """Versions, processor, threads, BLAS and where data are found."""
    import llvmlite.binding
    import numba
    import numpy
    from threadpoolctl import threadpool_info

    import fastcnn
    from fastcnn.backends import BACKENDS, DEFAULT_BACKEND
    from fastcnn.data.sources import DATA_DIR_VARIABLE, SOURCES, find_folder

    features = llvmlite.binding.get_host_cpu_features()
    vectors = [name for name in ("avx512f", "avx2", "avx", "sse4.2", "neon") if features.get(name)]
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
        "numba": numba.__version__,
        "processor": f"{llvmlite.binding.get_host_cpu_name()} ({platform.machine()})",
        "vector instructions": ", ".join(vectors) or "none known",
        "cores": str(os.cpu_count()),
        "BLAS": "; ".join(blas) or "none found",
        "backends": ", ".join(BACKENDS) + f" (default: {DEFAULT_BACKEND})",
        DATA_DIR_VARIABLE: os.environ.get(DATA_DIR_VARIABLE, "not set"),
    }
    for name, source in SOURCES.items():
        rows[f"{name} found in"] = str(find_folder(source) or "no local folder")
    table = Table(show_header=False)
    for key, value in rows.items():
        table.add_row(key, value)
    Console(highlight=False).print(table)
