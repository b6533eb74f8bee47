"""Argument checks of :mod:`fastcnn.functional`, with messages that name the problem."""

import inspect
import math
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError, DataError, ShapeError, counted
from fastcnn.scalars import MOST_COUNT, is_integer, is_number, plain

#: How GELU is computed: with the normal distribution function, or an approximation of it.
APPROXIMATIONS = ("none", "tanh")
#: Up to here, float64 has all integers.
EXACT = 2**53


def plain_array(name: str, value: Any) -> np.ndarray:
    """Convert a user's value to an array.

    Raises
    ------
    DataError
        If it has masked values, which would be used like any others, or is a ragged list, or a
        sparse matrix.
    """
    # Masked arrays can exist only once this module, which takes 10 ms to import, was imported.
    if "numpy.ma" in sys.modules and np.ma.is_masked(value):
        raise DataError(
            f"{name}: {counted(np.ma.count_masked(value), 'masked value')}: masks are not "
            "supported: fill them, or leave those samples out"
        )
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # as of tensors with a gradient
        raise DataError(f"{name}: not an array ({error})") from None
    if array.dtype.kind == "O" and hasattr(value, "toarray"):
        kind = type(value).__name__
        raise DataError(f"{name}: not an array, got {kind}: pass what its toarray() returns")
    return array


def sample_array(name: str, value: Any) -> np.ndarray:
    """A user's samples: bytes, or floating-point numbers.

    Booleans and other integers are values like these, and are converted to them. Raises DataError
    for anything else, and for integers that would be rounded.
    """
    array = plain_array(name, value)
    if array.dtype.kind in "iub" and array.dtype != np.uint8:
        if array.dtype.itemsize == 8 and array.size:
            largest = max(-int(array.min()), int(array.max()))
            if largest > EXACT:
                raise DataError(f"{name} must be integers up to 2**53, got {largest}: scale them")
        array = array.astype(np.result_type(array.dtype, np.float32))
    if array.dtype.kind != "f" and array.dtype != np.uint8:
        raise DataError(f"{name} must be real numbers, got dtype {array.dtype}")
    return array


def as_array(operation: str, name: str, value: Any, ndim: int | None = None) -> np.ndarray:
    array = plain_array(f"{operation}: {name}", value)
    # Arrays of foreign byte order or unaligned memory are copied here: compiled loops can read
    # neither.
    array = np.require(array, array.dtype.newbyteorder("="), ["ALIGNED"])
    if array.dtype not in (np.float32, np.float64):
        raise ConfigurationError(
            f"{operation}: {name} must be float32 or float64, got {array.dtype}"
        )
    if ndim is not None and array.ndim != ndim:
        raise ShapeError(
            f"{operation}: {name} must have {ndim} dimensions, got shape {array.shape}"
        )
    if array.ndim == 0 or array.size == 0:
        raise ShapeError(f"{operation}: {name} is empty or a scalar, shape {array.shape}")
    return array


def as_same_type(operation: str, x: np.ndarray, name: str, value: Any, ndim: int) -> np.ndarray:
    array = as_array(operation, name, value, ndim)
    if array.dtype != x.dtype:
        raise ConfigurationError(f"{operation}: {name} is {array.dtype} but x is {x.dtype}")
    return array


def as_gradient(operation: str, value: Any, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    array = as_same_type(operation, x, "grad_output", value, len(shape))
    if array.shape != shape:
        raise ShapeError(
            f"{operation}: grad_output has shape {array.shape}, the forward pass gives {shape}"
        )
    return array


def as_optional(
    operation: str, x: np.ndarray, name: str, value: Any, shape: tuple[int, ...]
) -> np.ndarray | None:
    """An array of a given shape, such as a bias, or None."""
    if value is None:
        return None
    array = as_same_type(operation, x, name, value, len(shape))
    if array.shape != shape:
        raise ShapeError(f"{operation}: {name} must have shape {shape}, got {array.shape}")
    return array


class naming:
    """Context manager that prefixes the messages of shape errors with their location."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, ShapeError):
            raise ShapeError(f"{self.where}: {error}") from None


def as_flag(owner: str, name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ConfigurationError(f"{owner}: {name} must be True or False, got {value!r}")
    return bool(value)


def check_constructor(kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise an error that lists a constructor's arguments if it does not accept these."""
    signature = inspect.signature(kind)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        taken = ", ".join(signature.parameters)
        raise ConfigurationError(
            f"{kind.__name__}: {error}; it takes {taken or 'no arguments'}"
        ) from None


def as_dtype(owner: str, value: Any) -> np.dtype:
    """float32 or float64."""
    try:
        dtype = None if value is None else np.dtype(value)
    except (TypeError, ValueError, SyntaxError):  # numpy parses text and dictionaries
        dtype = None
    if dtype is None or dtype not in (np.float32, np.float64):
        raise ConfigurationError(f"{owner}: dtype must be float32 or float64, got {value!r}")
    return dtype


def as_divisor(owner: str, value: Any) -> int | None:
    """The divisor of an average pooling that replaces the window's size, or None."""
    return None if value is None else as_count(owner, "divisor_override", value)


def words_of(value: Any) -> tuple[str, ...] | None:
    """The strings in a list or other iterable, or None if it is something else."""
    is_number = isinstance(value, np.ndarray) and value.ndim == 0
    if isinstance(value, str) or is_number or not isinstance(value, Iterable):
        return None
    words = tuple(value)
    return words if all(isinstance(word, str) for word in words) else None


def is_unicode(text: str) -> bool:
    """Whether a text can be written to files: it has no lone surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def check_layer_name(name: Any) -> None:
    """Refuse a layer name that cannot be used in a weights file."""
    if not isinstance(name, str) or not name or "." in name:
        raise ConfigurationError(f"layer name {name!r} must be non-empty, without dots")
    if not is_unicode(name):
        raise ConfigurationError(f"layer name {name!r} is not Unicode: it has a lone surrogate")


#: Channels of a window of local response normalisation.
MOST_WINDOW = 65_536


MOST_THREADS = 1024


def as_count(owner: str, name: str, value: Any, least: int = 1, most: int = MOST_COUNT) -> int:
    """An integer from ``least``, by default 1, to ``most``."""
    whole = is_integer(value)
    if not whole or not least <= value <= most:
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        too_large = whole and value > most
        limit = (
            f" {'of' if least == 1 else 'and'} at most {most:,}"
            if too_large or most < MOST_COUNT
            else ""
        )
        raise ConfigurationError(f"{owner}: {name} must be {kind}{limit}, got {value!r}")
    return int(value)


def convolution_groups(owner: str, groups: Any, in_channels: int, out_channels: int) -> int:
    """The groups of a convolution, which must divide its channels."""
    groups = as_count(owner, "groups", groups)
    if in_channels % groups or out_channels % groups:
        raise ConfigurationError(
            f"{owner}: groups={groups} must divide in_channels={in_channels} "
            f"and out_channels={out_channels}"
        )
    return groups


def classification_arguments(
    operation: str, logits: Any, target: Any
) -> tuple[np.ndarray, np.ndarray]:
    logits = as_array(operation, "logits", logits, 2)
    target = plain_array(f"{operation}: target", target)
    if target.ndim == 2 and target.dtype.kind == "f":
        if target.shape != logits.shape:
            raise ShapeError(
                f"{operation}: probabilities have shape {target.shape}, logits {logits.shape}"
            )
        if not are_probabilities(target):
            raise ConfigurationError(f"{operation}: rows of probabilities must sum to 1")
        return logits, target.astype(logits.dtype, copy=False)
    if target.dtype.kind not in "iu" or target.shape != (len(logits),):
        raise ShapeError(
            f"{operation}: target must be integers of shape ({len(logits)},) for logits of shape "
            f"{logits.shape}, got {target.dtype} of shape {target.shape}"
        )
    if target.min() < 0 or target.max() >= logits.shape[1]:
        raise ConfigurationError(
            f"{operation}: target must lie in 0..{logits.shape[1] - 1}, "
            f"got {target.min()}..{target.max()}"
        )
    return logits, target.astype(np.int64, copy=False)


def are_probabilities(target: np.ndarray) -> bool:
    """Whether the rows of an array are probability distributions: non-negative, summing to 1."""
    return bool(np.all(target >= 0.0) and np.allclose(target.sum(axis=1), 1.0, atol=1e-3))


def regression_arguments(
    operation: str, prediction: Any, target: Any
) -> tuple[np.ndarray, np.ndarray]:
    prediction = as_array(operation, "prediction", prediction)
    target = plain_array(f"{operation}: target", target)
    if target.dtype.kind not in "fiub":
        raise ConfigurationError(f"{operation}: target must be numbers, got {target.dtype}")
    target = target.astype(prediction.dtype, copy=False)
    if target.shape != prediction.shape:
        raise ShapeError(
            f"{operation}: target has shape {target.shape}, prediction {prediction.shape}"
        )
    return prediction, target


def as_sample_weight(operation: str, value: Any, *shapes: tuple[int, ...]) -> np.ndarray | None:
    """Sample or target weights as float64, in one of the given shapes; None if there are none."""
    if value is None:
        return None
    weight = plain_array(f"{operation}: sample_weight", value)
    if weight.dtype.kind not in "fiub":
        raise ConfigurationError(
            f"{operation}: sample_weight must be numbers, got an array of {weight.dtype}"
        )
    weight = np.ascontiguousarray(weight, np.float64)
    if weight.shape not in shapes:
        raise ShapeError(
            f"{operation}: sample_weight must have shape {' or '.join(map(str, shapes))}, got "
            f"{weight.shape}"
        )
    if not np.isfinite(weight).all() or weight.min() < 0.0 or weight.sum() == 0.0:
        raise ConfigurationError(
            f"{operation}: sample_weight must be finite, at least 0, and not all 0"
        )
    return weight


def as_number(owner: str, name: str, value: Any, above: float = -math.inf) -> float:
    """A finite number above a bound."""
    number = plain(value)  # a bound does not fit into float32
    if not is_number(number) or not above < number <= sys.float_info.max:
        bound = "" if above == -math.inf else f" above {above:g}"
        bound = " of at least 0" if math.nextafter(above, 1.0) == 0.0 else bound
        raise ConfigurationError(f"{owner}: {name} must be a finite number{bound}, got {value!r}")
    return float(number)


def as_choice(owner: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of several words."""
    if not isinstance(value, str) or value not in choices:
        raise ConfigurationError(
            f"{owner}: {name} must be one of {', '.join(choices)}, got {value!r}"
        )
    return str(value)


def as_share(owner: str, name: str, value: Any) -> float:
    """A number in [0, 1]."""
    number = plain(value)
    if not is_number(number) or not 0.0 <= number <= 1.0:
        raise ConfigurationError(f"{owner}: {name} must be between 0 and 1, got {value!r}")
    return float(number)


def as_key(key: Any) -> int:
    """The key that determines a dropout's mask."""
    if not is_integer(key) or not 0 <= key < 2**64:
        raise ConfigurationError(f"dropout: key must lie in 0..2**64 - 1, got {key!r}")
    return int(key)


def as_sample_shape(value: Any) -> tuple[int, ...]:
    """The shape of a sample as a tuple of positive integers."""
    try:
        shape = tuple(value)
    except TypeError:
        shape = ()
    whole = all(map(is_integer, shape))
    if not shape or not whole or min(shape) < 1:
        raise ConfigurationError(
            f"input_shape must be a tuple of positive integers, such as (1, 28, 28), got {value!r}"
        )
    return tuple(int(size) for size in shape)
