"""Packages that are imported late."""

import importlib.metadata

from fastcnn.extras import numba_version


def test_version_of_numba_is_that_of_its_metadata() -> None:
    """It is read without the metadata, which take longer."""
    assert numba_version() == importlib.metadata.version("numba")
