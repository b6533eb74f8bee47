"""Packages that fastcnn imports lazily: errors for missing ones, and numba's version."""

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from fastcnn.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package.

    Parameters
    ----------
    module : str
        The module to import.
    extra : str
        The extra of fastcnn that installs it.

    Raises
    ------
    MissingExtraError
        If it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingExtraError(
            f"{module} is not installed: pip install 'fastcnn[{extra}]'"
        ) from None


@cache
def numba_version() -> str:
    """The version of numba that is installed; "not installed" without one.

    It is read from one of numba's files in less than a millisecond. Importing numba takes half a
    second, and reading package metadata would add 15 ms to each command.
    """
    found = find_spec("numba")
    if found is None or found.origin is None:
        return "not installed"
    written = Path(found.origin).with_name("_version.py")
    text = written.read_text(encoding="utf-8") if written.is_file() else ""
    if match := re.search(r'"version": "([^"]+)"', text):
        return match[1]
    from importlib.metadata import version

    return version("numba")
