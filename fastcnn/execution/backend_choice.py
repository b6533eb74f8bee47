"""Runs something on the backend that the user has chosen."""

from collections.abc import Callable
from typing import TypeVar

from fastcnn.backends import DEFAULT_BACKEND, get_backend

T = TypeVar("T")


def run(backend: str | None, on_engine: Callable[[], T], by_operations: Callable[[str], T]) -> T:
    """Compute something on the engine, or operation by operation.

    Parameters
    ----------
    backend : str or None
        The user's choice; None is the default.
    on_engine : callable
        Computes on the lanes engine; if it raises ``Unsupported``, im2col computes instead.
    by_operations : callable
        Computes with the functions of a backend, given by its name.

    Raises
    ------
    ConfigurationError
        If there is no backend of that name.
    """
    backend = DEFAULT_BACKEND if backend is None else backend
    get_backend(backend)
    if backend != "lanes":
        return by_operations(backend)
    from fastcnn.backends.lanes import run_or_fall_back

    return run_or_fall_back(on_engine, lambda: by_operations("im2col"))
