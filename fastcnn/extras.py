"""Packages that fastcnn imports lazily: errors for missing ones, and numba's version."""

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from fastcnn.errors import IncompatibleNumbaError, MissingExtraError

#: The first and the last version of numba whose private parts fit codegen/numba_frontend.py.
TESTED_NUMBA = (0, 61), (0, 68)


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


#: The version of numba without numba.
NOT_INSTALLED = "not installed"


@cache
def numba_version() -> str:
    """The version of numba that is installed; "not installed" without one.

    It is read from one of numba's files in less than a millisecond. Importing numba takes half a
    second, and reading package metadata would add 15 ms to each command.
    """
    found = find_spec("numba")
    if found is None or found.origin is None:
        return NOT_INSTALLED
    written = Path(found.origin).with_name("_version.py")
    text = written.read_text(encoding="utf-8") if written.is_file() else ""
    if match := re.search(r'"version": "([^"]+)"', text):
        return match[1]
    from importlib.metadata import version

    return version("numba")


def refuse_untested_numba(error: Exception) -> None:
    """If numba's version is not a tested one, name the version as the cause of an error of numba.

    There is no upper bound in pyproject.toml: most later versions work, and a bound would keep
    fastcnn from being installed with them.

    Raises
    ------
    IncompatibleNumbaError
        If the version is not in :data:`TESTED_NUMBA`.
    """
    version = numba_version()
    first, last = TESTED_NUMBA
    release = re.match(r"(\d+)\.(\d+)", version)
    if release is None or first <= tuple(map(int, release.groups())) <= last:
        return
    oldest, newest, next_one = (
        f"{major}.{minor}" for major, minor in (first, last, (last[0], last[1] + 1))
    )
    reason = (str(error).splitlines() or [""])[0]
    raise IncompatibleNumbaError(
        f"numba {version} cannot compile fastcnn's kernels ({type(error).__name__}: {reason}); "
        f"this version of fastcnn is tested with numba {oldest} to {newest}: "
        f"pip install 'numba>={oldest},<{next_one}'"
    ) from error
