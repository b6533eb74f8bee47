"""Weights from and for PyTorch: a state_dict in a safetensors file, without PyTorch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastcnn.errors import CheckpointError, ConfigurationError
from fastcnn.files import atomic_write
from fastcnn.layers import Model
from fastcnn.layers.description import file_metadata
from fastcnn.weights import read_weights, weights_to_bytes


def save_state(model: Model, path: str | Path) -> None:
    """Write a model's state under PyTorch's keys and layouts, and its preprocessing as metadata.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    atomic_write(path, weights_to_bytes(model.state_dict(), file_metadata(model)))


def load_state(model: Model, path: str | Path, names: Mapping[str, str] | None = None) -> None:
    """Load a safetensors file, such as PyTorch's ``save_file(module.state_dict(), path)`` writes.

    The model takes over the preprocessing of a file that fastcnn wrote; PyTorch's files have none,
    and leave the model's as it is.

    Parameters
    ----------
    model : Model
    path : path
    names : mapping of str to str, optional
        Prefixes of the file's keys to those of the model, such as ``{"features.0": "conv1"}``, or
        ``{"module": ""}`` to take one away. If several fit, the longest counts.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, a key is missing or unexpected, or a shape differs; the
        model is then unchanged.
    """
    state, metadata = read_weights(path)
    renamed: dict[str, np.ndarray] = {}
    for key, value in state.items():
        name = _renamed(key, names or {})
        if name in renamed:
            raise CheckpointError(f"{path}: two arrays would be called {name!r}")
        renamed[name] = value
    before = model.metadata()
    try:
        model.load_metadata(metadata)
        model.load_state_dict(renamed)
    except ConfigurationError as error:
        raise CheckpointError(f"{path}: its metadata do not fit the model ({error})") from None
    except CheckpointError:
        model.load_metadata(before)
        raise


def _renamed(key: str, names: Mapping[str, str]) -> str:
    """The key under the longest prefix's other name; an empty one takes the prefix away."""
    found = [prefix for prefix in names if key == prefix or key.startswith(f"{prefix}.")]
    if not found:
        return key
    prefix = max(found, key=len)
    return (names[prefix] + key[len(prefix) :]).removeprefix(".")
