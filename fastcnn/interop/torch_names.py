"""Weights for PyTorch: a state_dict as a safetensors file, written without PyTorch."""

from pathlib import Path

from fastcnn.layers import Model
from fastcnn.layers.connections import as_model
from fastcnn.layers.description import file_metadata
from fastcnn.weights import write_weights


def save_state(model: Model, path: str | Path) -> None:
    """Write a model's state under PyTorch's keys and layouts, and its preprocessing as metadata.

    Parameters
    ----------
    model : Model
    path : path
        A ``.safetensors`` file.

    Raises
    ------
    ConfigurationError
        If the file's suffix is that of another format, such as ``.pt``.
    NonFiniteError
        If a weight or a running statistic is NaN or infinite.
    OSError
        If the file cannot be written.
    """
    write_weights(path, as_model(model).state_dict(), file_metadata(model))
