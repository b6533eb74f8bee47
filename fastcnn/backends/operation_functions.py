"""Collects a backend's functions: those that its files define under the name of an operation."""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

#: Losses over classes; the functions of all others are generated from records.
CLASS_LOSSES = ("cross_entropy", "nll", "focal")


def functions_in(folder: str, operations: Iterable[str], ending: str = "") -> dict[str, Any]:
    """By name the functions of operations and of their gradients, in the files of a package.

    ``folder`` is the package's name, ``ending`` a suffix of the functions' names.
    """
    found: dict[str, Any] = {}
    for file in iter_modules(import_module(folder).__path__):
        module = import_module(f"{folder}.{file.name}")
        for operation in operations:
            for name in (operation, f"{operation}_backward"):
                function = getattr(module, name + ending, None)
                # Backend files import functions of the same names from other packages.
                if getattr(function, "__module__", "").startswith("fastcnn.backends."):
                    known = found.setdefault(name, function)
                    assert known is function, f"two functions {name}"
    return found
