"""Change tracking: how a model notices that a layer was changed after its first use.

Every change of a layer (an attribute, an array, a child) gets the next number of a global counter.
A model compares the counter with the number it last saw: one comparison per call if nothing has
changed.
"""

from collections import UserDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from fastcnn import forks
from fastcnn.arguments import plain_array
from fastcnn.errors import ConfigurationError

_latest = 0
_lock = forks.lock()

T = TypeVar("T")
#: Returns the value to keep for a key of a mapping, or raises a ConfigurationError.
Check = Callable[[str, Mapping[str, Any], str, Any], Any]


def latest_change() -> int:
    """Number of the latest change of any layer."""
    return _latest


def next_change(above: int = 0) -> int:
    """Record a change; returns its number, above ``above``, a number from another process."""
    global _latest
    with _lock:
        _latest = max(_latest, above) + 1
        return _latest


class Watched(UserDict[str, T]):
    """A dictionary that checks its values, and numbers its changes.

    When called, it returns its values as a list, like PyTorch's ``module.parameters()``.

    Parameters
    ----------
    values : mapping, optional
        The initial content, not checked.
    owner : str
        Type of the layer, for messages.
    check : callable, optional
        Checks each value that is set later.
    """

    def __init__(
        self, values: Mapping[str, T] | None = None, owner: str = "", check: Check | None = None
    ) -> None:
        self.owner = owner
        self.check = None
        self.version = next_change()
        super().__init__(values or {})
        self.check = check

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.version = next_change(self.version)

    def __call__(self) -> list[T]:
        """The values as a list."""
        return list(self.data.values())

    def __setitem__(self, key: str, value: T) -> None:
        if self.check is not None:
            value = self.check(self.owner, self.data, key, value)
        self.data[key] = value
        self.version = next_change()

    def __delitem__(self, key: str) -> None:
        del self.data[key]
        self.version = next_change()

    def __ior__(self, other: Any) -> "Watched[T]":  # type: ignore[override, misc]
        self.update(other)
        return self

    def move(self, key: str, value: T) -> None:
        """Replace a value by the same one elsewhere in memory, unchecked."""
        self.data[key] = value
        self.version = next_change()


def check_array(owner: str, arrays: Mapping[str, np.ndarray], key: str, value: Any) -> np.ndarray:
    """Check a new array, which must have the shape and kind of the one it replaces.

    Raises
    ------
    ConfigurationError
        If there is no such array, or the new one does not match.
    """
    if key not in arrays:
        raise ConfigurationError(
            f"{owner} has no array {key!r}; it has {', '.join(arrays) or 'none'}. "
            "To change which arrays a layer has, replace it by a new layer"
        )
    old, new = arrays[key], plain_array(f"{owner}: {key}", value)
    if old.dtype.kind == "i" and new.dtype.kind in "iu":
        new = new.astype(old.dtype)
    if new.shape != old.shape or (
        new.dtype not in (np.float32, np.float64) and new.dtype != old.dtype
    ):
        raise ConfigurationError(
            f"{owner}: {key} must be an array of shape {old.shape} and of type float32 or float64, "
            f"got shape {new.shape} and type {new.dtype}"
        )
    return new if new.flags.writeable else new.copy()
