"""Weights from and for PyTorch: a state_dict in a safetensors file, without PyTorch."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import CheckpointError
from fastcnn.files import atomic_write, expanded
from fastcnn.layers import Model


def save_state(model: Model, path: str | Path) -> None:
    """Write a model's state under PyTorch's keys and layouts, and its preprocessing as metadata.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from safetensors.numpy import save

    # safetensors writes the memory of an array as it lies: only C order is safe.
    state = {key: np.ascontiguousarray(value).reshape(value.shape)
             for key, value in model.state_dict().items()}  # fmt: skip
    atomic_write(path, save(state, model.preprocessing.to_metadata()))


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
        ``{"module": ""}`` to take one away. Of several that fit the longest counts.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, a key is missing or unexpected, or a shape differs; the
        model is then unchanged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = expanded(path)
    try:
        content = path.read_bytes()
        state = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        preprocessing = Preprocessing.from_metadata(metadata)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} {_what_ails(error)}") from None
    renamed: dict[str, np.ndarray] = {}
    for key, value in state.items():
        name = _renamed(key, names or {})
        if name in renamed:
            raise CheckpointError(f"{path}: two arrays would be called {name!r}")
        renamed[name] = value
    model.load_state_dict(renamed)
    if preprocessing is not None:
        model.preprocessing = preprocessing


def _what_ails(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    return (
        f"is damaged, or no safetensors file of types that numpy has ({error}); of PyTorch's own "
        ".pt and .pth files safetensors.torch.save_file(module.state_dict(), path) makes one"
    )


def _renamed(key: str, names: Mapping[str, str]) -> str:
    """The key under the longest prefix's other name; an empty one takes the prefix away."""
    found = [prefix for prefix in names if key == prefix or key.startswith(f"{prefix}.")]
    if not found:
        return key
    prefix = max(found, key=len)
    return (names[prefix] + key[len(prefix) :]).removeprefix(".")
