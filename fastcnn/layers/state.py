"""Arrays of a model by state key, and loading of states."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from fastcnn.arguments import as_flag, plain_array, words_of
from fastcnn.backends.graph import Shape
from fastcnn.errors import CheckpointError, ConfigurationError
from fastcnn.weights import check_variances


class NamedArrays(Mapping[str, np.ndarray]):
    """A model's parameters or buffers by state key; when called, returns the arrays as a list."""

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


@dataclass(frozen=True)
class LoadReport:
    """Report of what was loaded from a state into a model, and what did not match.

    Attributes
    ----------
    loaded : tuple of str
        Keys of the model's arrays that were set.
    missing : tuple of str
        Keys of the model that are missing in the state; unchanged.
    unexpected : tuple of str
        Keys of the state that the model does not have.
    mismatched : dict of str to (tuple of int, tuple of int)
        Keys with different shapes, the model's and the state's; unchanged.
    skipped : tuple of str
        Keys of the model or the state that were skipped.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether everything except skipped keys was loaded."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        shapes = [f"{key} {own}, not {other}" for key, (own, other) in self.mismatched.items()]
        parts = (
            ("loaded", self.loaded),
            ("skipped", self.skipped),
            ("of another shape", shapes),
            ("missing", self.missing),
            ("unexpected", self.unexpected),
        )
        return "\n".join(f"{what}: {_named(names)}" for what, names in parts if names)


#: The last part of keys that may be missing, as in PyTorch: files of old versions have none.
COUNTER = "num_batches_tracked"
#: Number of keys named on a line.
NAMED = 6


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"{len(keys)} ({', '.join(keys[:NAMED])}{more})"


def matched(
    own: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
    aliases: Mapping[str, str],
    strict: bool,
    skip: Iterable[str] = (),
) -> tuple[dict[str, np.ndarray], LoadReport]:
    """Match a state to a model's arrays, by the key of each array's first user.

    Parameters
    ----------
    own : mapping of str to ndarray
        The model's state.
    state : mapping of str to array_like
    aliases : mapping of str to str
        Maps every state key of the model to that of the array's first user.
    strict : bool
        Whether missing and unexpected keys and mismatched shapes are errors.
    skip : sequence of str
        Patterns of keys to leave out.

    Raises
    ------
    CheckpointError
        If keys are missing or unexpected or a shape differs (``strict``), nothing matches, values
        cannot be converted to the type of the model's array, or the state has different values for
        a shared array.
    ConfigurationError
        If a pattern matches no key.
    """
    if not isinstance(state, Mapping):
        raise ConfigurationError(
            "state must be a dictionary of arrays, such as model.state_dict(), got "
            f"{type(state).__name__}"
        )
    keys = [*own, *(key for key in state if key not in own)]
    skipped = _skipped(keys, skip)
    users: dict[str, list[str]] = {}
    for key, first in aliases.items():
        users.setdefault(first, []).append(key)
    users = {first: used for first, used in users.items() if not skipped & set(used)}
    given = {first: [key for key in used if key in state] for first, used in users.items()}
    missing = [
        first for first, used in given.items() if not used and first.split(".")[-1] != COUNTER
    ]
    unexpected = [key for key in state if key not in own and key not in skipped]
    if as_flag("load_state_dict", "strict", strict) and (missing or unexpected):
        raise CheckpointError(
            f"state does not match the model: missing {missing}, unexpected {unexpected}"
        )
    values: dict[str, np.ndarray] = {}
    mismatched: dict[str, tuple[Shape, Shape]] = {}
    for first, used in given.items():
        for key in used:
            value = plain_array(key, state[key])
            if value.shape != own[key].shape:
                if strict:
                    raise CheckpointError(
                        f"{key}: the model has shape {own[key].shape}, the state {value.shape}"
                    )
                mismatched[key] = own[key].shape, value.shape
                continue
            value = _cast(key, value, own[key].dtype)
            if not np.array_equal(value, values.setdefault(first, value), equal_nan=True):
                raise CheckpointError(
                    f"{used[0]} and {key} are one array in the model, but two in the state"
                )
    check_variances("the state", values)
    report = LoadReport(
        tuple(values),
        tuple(missing),
        tuple(unexpected),
        mismatched,
        tuple(key for key in keys if key in skipped),
    )
    if own and not values:
        raise CheckpointError(f"nothing in the state fits the model: {report}".replace("\n", "; "))
    return values, report


def _skipped(keys: Sequence[str], skip: Iterable[str]) -> set[str]:
    """The keys that match any pattern."""
    patterns = words_of(skip)
    if patterns is None:
        raise ConfigurationError(f"skip must be a list of patterns such as ['fc.*'], got {skip!r}")
    found: set[str] = set()
    for pattern in patterns:
        fitting = [key for key in keys if fnmatchcase(key, pattern)]
        if not fitting:
            raise ConfigurationError(
                f"skip: no key of the model or the state matches {pattern!r}; there are "
                f"{', '.join(keys)}"
            )
        found.update(fitting)
    return found


def _cast(key: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    # Where all values of a state were made floats, so were its counters.
    counts = dtype.kind + value.dtype.kind == "if" and bool((np.trunc(value) == value).all())
    try:
        with np.errstate(over="raise", invalid="raise"):
            return value.astype(dtype, casting="unsafe" if counts else "same_kind", copy=False)
    except (TypeError, FloatingPointError):
        raise CheckpointError(
            f"{key}: values of type {value.dtype} do not fit the model's {dtype}"
        ) from None
