"""Arrays of a model by their state keys, and states that come from elsewhere."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastcnn.errors import CheckpointError


class NamedArrays(Mapping[str, np.ndarray]):
    """A model's parameters or buffers by state key; called, a list of the arrays."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(arrays)

    def __getitem__(self, key: str) -> np.ndarray:
        return self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __call__(self) -> list[np.ndarray]:
        """The arrays as a list."""
        return list(self._arrays.values())


def matched(
    own: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
    aliases: Mapping[str, str],
    strict: bool,
) -> dict[str, np.ndarray]:
    """The values of a state for a model's arrays, by the key of each array's first user.

    Parameters
    ----------
    own : mapping of str to ndarray
        The model's state.
    state : mapping of str to array_like
    aliases : mapping of str to str
        Every state key of the model, to that of the array's first user.
    strict : bool
        Whether missing and unexpected keys are errors.

    Raises
    ------
    CheckpointError
        If keys are missing or unexpected (``strict``), a shape differs, values do not fit the type
        of the model's array, or the state has different values for one array.
    """
    users: dict[str, list[str]] = {}
    for key, first in aliases.items():
        users.setdefault(first, []).append(key)
    given = {first: [key for key in keys if key in state] for first, keys in users.items()}
    missing = [first for first, keys in given.items() if not keys]
    unexpected = [key for key in state if key not in own]
    if strict and (missing or unexpected):
        raise CheckpointError(
            f"state does not fit the model: missing {missing}, unexpected {unexpected}"
        )
    values: dict[str, np.ndarray] = {}
    for first, keys in given.items():
        for key in keys:
            value = np.asarray(state[key])
            if value.shape != own[key].shape:
                raise CheckpointError(
                    f"{key}: the model has shape {own[key].shape}, the state {value.shape}"
                )
            value = _cast(key, value, own[key].dtype)
            if not np.array_equal(value, values.setdefault(first, value), equal_nan=True):
                raise CheckpointError(
                    f"{keys[0]} and {key} are one array in the model, but two in the state"
                )
    return values


def _cast(key: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    try:
        with np.errstate(over="raise", invalid="raise"):
            return value.astype(dtype, casting="same_kind", copy=False)
    except (TypeError, FloatingPointError):
        raise CheckpointError(
            f"{key}: values of type {value.dtype} do not fit the model's {dtype}"
        ) from None
