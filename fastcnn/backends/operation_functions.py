"""Which functions a backend has: those that its files define under the name of an operation."""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

#: Losses of classes; a record makes the functions of all others.
CLASS_LOSSES = ("cross_entropy", "nll", "focal")


def functions_in(folder: str, operations: Iterable[str], ending: str = "") -> dict[str, Any]:
    """By name the functions of operations, and of their gradients, in the files of a package.

    ``folder`` is the package's name, ``ending`` what functions have after those of operations.
    """
    found: dict[str, Any] = {}
    for file in iter_modules(import_module(folder).__path__):
        module = import_module(f"{folder}.{file.name}")
        for operation in operations:
            for name in (operation, f"{operation}_backward"):
                function = getattr(module, name + ending, None)
                # Other packages have functions of such names, which files of a backend import.
                if getattr(function, "__module__", "").startswith("fastcnn.backends."):
                    assert found.setdefault(name, function) is function, f"two functions {name}"
    return found
