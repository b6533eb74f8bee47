"""Weights for PyTorch: a state_dict as a safetensors file, written without PyTorch."""

from pathlib import Path

from fastcnn.files import atomic_write
from fastcnn.layers import Model
from fastcnn.layers.connections import as_model
from fastcnn.layers.description import file_metadata
from fastcnn.weights import check_values, weights_to_bytes


def save_state(model: Model, path: str | Path) -> None:
    """Write a model's state under PyTorch's keys and layouts, and its preprocessing as metadata.

    Parameters
    ----------
    model : Model
    path : path
        A ``.safetensors`` file.

    Raises
    ------
    NonFiniteError
        If a weight or a running statistic is NaN or infinite.
    OSError
        If the file cannot be written.
    """
    check_values(f"{path} was not written", as_model(model).state_dict())
    atomic_write(path, weights_to_bytes(model.state_dict(), file_metadata(model)))
