"""Lazily imported packages."""

import importlib.metadata
import tomllib
from pathlib import Path

from fastcnn.extras import TESTED_NUMBA, numba_version


def test_version_of_numba_is_that_of_its_metadata() -> None:
    """It is read without the package metadata, which is slow."""
    assert numba_version() == importlib.metadata.version("numba")


def test_the_oldest_tested_numba_is_the_oldest_that_is_installed() -> None:
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    (wanted,) = (each for each in project["project"]["dependencies"] if each.startswith("numba"))
    assert wanted == "numba>={}.{}".format(*TESTED_NUMBA[0])
