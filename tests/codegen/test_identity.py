"""What the key of a compiled function is made of."""

import importlib.metadata

from fastcnn.codegen.identity import numba_version


def test_version_of_numba_is_that_of_its_metadata() -> None:
    """It is read without the metadata, which take longer than all else in a key."""
    assert numba_version() == importlib.metadata.version("numba")
