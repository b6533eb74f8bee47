"""The only place that decides between the engine and im2col, and logs the fallback."""

import logging
from collections.abc import Callable
from typing import TypeVar

from fastcnn.backends import DEFAULT_BACKEND, get_backend

T = TypeVar("T")
log = logging.getLogger("fastcnn.lanes")
_reported: set[str] = set()


def run(backend: str | None, on_engine: Callable[[], T], by_operations: Callable[[str], T]) -> T:
    """Compute something on the engine, or operation by operation.

    Parameters
    ----------
    backend : str or None
        The user's choice; None is the default.
    on_engine : callable
        Computes on the lanes engine; its ``Unsupported`` is logged, once per reason, and im2col
        computes instead.
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
    from fastcnn.backends.lanes import Unsupported

    try:
        return on_engine()
    except Unsupported as reason:
        if str(reason) not in _reported:
            _reported.add(str(reason))
            log.warning("%s is not supported by lanes; using the slower im2col backend", reason)
    return by_operations("im2col")
