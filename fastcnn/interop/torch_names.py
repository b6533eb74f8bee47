"""Weights from and for PyTorch: a state_dict in a safetensors file, without PyTorch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastcnn.errors import CheckpointError
from fastcnn.files import atomic_write
from fastcnn.layers import Model


def save_state(model: Model, path: str | Path) -> None:
    """Write a model's state under PyTorch's keys and layouts.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from safetensors.numpy import save

    # safetensors writes the memory of an array as it lies: only C order is safe.
    state = {key: np.ascontiguousarray(value).reshape(value.shape)
             for key, value in model.state_dict().items()}  # fmt: skip
    atomic_write(path, save(state))


def load_state(model: Model, path: str | Path, names: Mapping[str, str] | None = None) -> None:
    """Load a safetensors file, such as PyTorch's ``save_file(module.state_dict(), path)`` writes.

    Parameters
    ----------
    model : Model
    path : path
    names : mapping of str to str, optional
        Prefixes of the file's keys to those of the model, such as ``{"features.0": "conv1"}``.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, a key is missing or unexpected, or a shape differs; the
        model is then unchanged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        state = load(Path(path).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({error})") from None
    for prefix, other in (names or {}).items():
        state = {_renamed(key, prefix, other): value for key, value in state.items()}
    model.load_state_dict(state)


def _renamed(key: str, prefix: str, other: str) -> str:
    belongs = key == prefix or key.startswith(f"{prefix}.")
    return other + key[len(prefix) :] if belongs else key
