"""Models read from the files that :meth:`Model.save` writes."""

import json
from pathlib import Path

import numpy as np

from fastcnn.errors import CheckpointError, ConfigurationError, FastcnnError
from fastcnn.files import expanded
from fastcnn.layers.container import Model
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import METADATA
from fastcnn.weights import read_weights


def load(path: str | Path) -> Model:
    """Read a model with its weights, preprocessing and what it predicts.

    Parameters
    ----------
    path : path
        A file of :meth:`~fastcnn.layers.Model.save`, or one of the weights in a run's folder.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not a safetensors file, or has no definition of a model.

    Examples
    --------
    >>> import fastcnn
    >>> fastcnn.models.lenet5(seed=0).save("lenet5.safetensors")  # doctest: +SKIP
    >>> model = fastcnn.load("lenet5.safetensors")  # doctest: +SKIP
    """
    path = expanded(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: name a file in it, such as best.safetensors")
    state, metadata = read_weights(path)
    if METADATA not in metadata:
        raise CheckpointError(
            f"{path} has weights, but not how the model is built: build it yourself and call "
            "fastcnn.interop.load_state"
        )
    try:
        model = from_definition(json.loads(metadata[METADATA]))
        if any(value.dtype == np.float64 for value in state.values()):
            model.to(np.float64)
        model.load_metadata(metadata)
        model.load_state_dict(state)
    except (ValueError, RecursionError, ConfigurationError, CheckpointError) as error:
        reason = error if isinstance(error, FastcnnError) else "its definition is damaged"
        raise CheckpointError(f"{path}: {reason}") from None
    return model
