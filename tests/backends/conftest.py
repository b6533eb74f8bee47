"""The engine is tested with as many threads as the machine has cores."""

import pytest

import fastcnn.codegen.numba_frontend  # noqa: F401  (numba learns the types of tiles)


@pytest.fixture(autouse=True, scope="module")
def threads_of_the_machine(all_cores: None) -> None:
    """For every test of this folder."""
