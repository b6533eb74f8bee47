"""Lazily imported packages."""

import importlib.metadata

from fastcnn.extras import numba_version


def test_version_of_numba_is_that_of_its_metadata() -> None:
    """It is read without the package metadata, which is slow."""
    assert numba_version() == importlib.metadata.version("numba")
