"""What all tests share."""

import os
from pathlib import Path

import pytest

# Before numba is imported: processes that add different types of one function to one cache at once
# can be given each other's code, so that each of pytest-xdist's workers has a cache of its own.
if "PYTEST_XDIST_WORKER" in os.environ:
    kept = Path(__file__).parents[1] / ".pytest_cache" / "numba" / os.environ["PYTEST_XDIST_WORKER"]
    os.environ["NUMBA_CACHE_DIR"] = str(kept)
    # Pools of other libraries would take all cores in each worker; the engine's threads are tested.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from fastcnn.data.sources import SOURCES, find_folder


def pytest_configure() -> None:
    """Make figures draw without a display."""
    import matplotlib

    matplotlib.use("Agg")


@pytest.fixture
def mnist() -> None:
    """Skip a test where MNIST is in no local folder."""
    if find_folder(SOURCES["mnist"]) is None:
        pytest.skip("MNIST is in no local folder: set FASTCNN_DATA_DIR")
