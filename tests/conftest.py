"""What all tests share."""

import pytest

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
