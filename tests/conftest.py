"""Configuration and fixtures shared by all tests."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before numba is imported: processes that add different signatures of one function to one cache at
# the same time can get each other's code, so each of pytest-xdist's workers has its own cache.
if "PYTEST_XDIST_WORKER" in os.environ:
    kept = Path(__file__).parents[1] / ".pytest_cache" / "numba" / os.environ["PYTEST_XDIST_WORKER"]
    os.environ["NUMBA_CACHE_DIR"] = str(kept)
    # Threads of one worker would compete with the other's; the engine's spin meanwhile. Tests of
    # the engine and of commands use all cores nevertheless: see all_cores.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    os.environ.setdefault("FASTCNN_NUM_THREADS", "1")

from fastcnn.data.sources import SOURCES, find_folder

# Set by some shells and services, they would colour and widen what commands print.
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)


def pytest_configure() -> None:
    """Make figures draw without a display, and Ctrl-C arrive."""
    import matplotlib

    matplotlib.use("Agg")
    # A script's shell lets what it starts in the background ignore it, and so what that starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse test names that differ between processes; skip the POSIX tests elsewhere."""
    if addresses := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"the name of a test has an address of memory: {addresses[0]}")
    if os.name == "posix":
        return
    for item in items:
        if item.get_closest_marker("posix"):
            item.add_marker(pytest.mark.skip(reason="needs a POSIX system"))


def pytest_collection_finish() -> None:
    """Freeze the garbage collector's objects: scanning them took a quarter of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def all_cores() -> Iterator[None]:
    """By default, training uses the same number of threads as for users: the machine's cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FASTCNN_NUM_THREADS", raising=False)
        yield


@pytest.fixture(scope="session")
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(autouse=True)
def own_folder(
    request: pytest.FixtureRequest, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Relative names of files refer to an empty folder, not to where the tests were started.

    A test with ``tmp_path`` runs there. A folder for each of the others would take longer to create
    and to remove than many of them run.
    """
    writes = "tmp_path" in request.fixturenames
    monkeypatch.chdir(request.getfixturevalue("tmp_path") if writes else empty_folder)
    yield
    if os.listdir(empty_folder):
        shutil.rmtree(empty_folder)
        empty_folder.mkdir()


@pytest.fixture
def mnist() -> None:
    """Skip a test if MNIST is not in a local folder."""
    if find_folder(SOURCES["mnist"]) is None:
        pytest.skip("MNIST is in no local folder: set FASTCNN_DATA_DIR")


@pytest.fixture
def own_kernels() -> Iterator[None]:
    """Forget the activations, losses and optimisers that a test registers."""
    from fastcnn.backends.lanes.kernel_table import KERNELS
    from fastcnn.backends.lanes.kernels import formula_table
    from fastcnn.layers import definition
    from fastcnn.layers.activation import LAYERS
    from fastcnn.losses import LOSSES
    from fastcnn.operations import OPERATIONS
    from fastcnn.operations.losses import LOSSES as ELEMENTWISE
    from fastcnn.operations.record import OWN_UPDATES
    from fastcnn.optim import OPTIMIZERS

    tables: list[dict[Any, Any]] = [
        OPERATIONS, LAYERS, definition.TYPES, LOSSES, ELEMENTWISE, OPTIMIZERS, OWN_UPDATES,
        KERNELS, formula_table._numbers,
    ]  # fmt: skip
    before = [dict(table) for table in tables]
    yield
    for table, known in zip(tables, before, strict=True):
        table.clear()
        table.update(known)
