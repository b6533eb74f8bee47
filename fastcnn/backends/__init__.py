"""Backends, which compute a network. All export the same functions with the same semantics.

``reference`` has loops next to equations, ``im2col`` numpy and GEMM, ``lanes`` the compiled engine.
"""

import functools
from importlib import import_module
from types import ModuleType

from fastcnn.errors import ConfigurationError

__all__ = ["BACKENDS", "DEFAULT_BACKEND", "get_backend"]

#: Names of the backends, from the specification to the fastest.
BACKENDS: tuple[str, ...] = ("reference", "im2col", "lanes")
DEFAULT_BACKEND = "lanes"


def get_backend(name: str | None = None) -> ModuleType:
    """Return the package with a backend's functions, imported at first use.

    Parameters
    ----------
    name : str, optional
        One of :data:`BACKENDS`; None is :data:`DEFAULT_BACKEND`.

    Raises
    ------
    ConfigurationError
        If there is no backend of that name.
    """
    name = DEFAULT_BACKEND if name is None else name
    if not isinstance(name, str) or name not in BACKENDS:
        raise ConfigurationError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    return _package(f"fastcnn.backends.{name}")


#: Faster than a repeated import, for functional forms of small arrays.
_package = functools.cache(import_module)
