"""Loading of models and weights from files of :meth:`Model.save` and PyTorch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fastcnn.errors import CheckpointError, ConfigurationError, FastcnnError
from fastcnn.layers.container import Model
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import METADATA
from fastcnn.layers.state import LoadReport
from fastcnn.weights import check_values, read_weights


def load(path: str | Path) -> Model:
    """Load a model with its weights, preprocessing and kind of predictions.

    Parameters
    ----------
    path : path
        A file written by :meth:`~fastcnn.layers.Model.save`, or a weights file in a run's folder.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not a safetensors file, or lacks a model's definition.
    NonFiniteError
        If a weight in it is NaN or infinite.

    Examples
    --------
    >>> import fastcnn
    >>> fastcnn.models.lenet5(seed=0).save("lenet5.safetensors")  # doctest: +SKIP
    >>> model = fastcnn.load("lenet5.safetensors")  # doctest: +SKIP
    """
    state, metadata = read_weights(path)
    check_values(str(path), state)
    if METADATA not in metadata:
        raise CheckpointError(
            f"{path} has weights, but no definition of the model: build it yourself and call "
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


def load_state(
    model: Model,
    path: str | Path,
    names: Mapping[str, str] | None = None,
    *,
    strict: bool = True,
    skip: Sequence[str] = (),
) -> LoadReport:
    """Load a safetensors file, as written by PyTorch's ``save_file(module.state_dict(), path)``.

    The preprocessing in a file written by fastcnn is loaded as well; PyTorch's files have none, and
    leave the model's unchanged.

    Parameters
    ----------
    model : Model
    path : path
    names : mapping of str to str, optional
        Maps prefixes of the file's keys to those of the model, such as ``{"features.0": "conv1"}``,
        or ``{"module": ""}`` to remove one. The longest matching prefix applies.
    strict, skip
        As in :meth:`fastcnn.layers.Model.load_state_dict`, applied to the renamed keys:
        ``strict=False`` loads matching arrays, ``skip=["fc.*"]`` leaves out a last layer.

    Returns
    -------
    LoadReport
        Keys that were loaded, and those that did not match.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, nothing matches, or a key is missing or unexpected or a
        shape differs (``strict``); the model is then unchanged.
    ConfigurationError
        If a pattern of ``skip`` matches no key; the model is then unchanged.
    NonFiniteError
        If a weight in the file is NaN or infinite; the model is then unchanged.
    """
    state, metadata = read_weights(path)
    check_values(str(path), state)
    renamed: dict[str, np.ndarray] = {}
    for key, value in state.items():
        name = _renamed(key, names or {})
        if name in renamed:
            raise CheckpointError(f"{path}: two arrays would be called {name!r}")
        renamed[name] = value
    before = model.metadata()
    try:
        model.load_metadata(metadata)
    except ConfigurationError as error:
        raise CheckpointError(f"{path}: its metadata do not match the model ({error})") from None
    try:
        return model.load_state_dict(renamed, strict, skip)
    except (CheckpointError, ConfigurationError) as error:
        model.load_metadata(before)
        raise type(error)(f"{path}: {error}") from None


def _renamed(key: str, names: Mapping[str, str]) -> str:
    """The key with its longest matching prefix replaced, or removed if the new one is empty."""
    found = [prefix for prefix in names if key == prefix or key.startswith(f"{prefix}.")]
    if not found:
        return key
    prefix = max(found, key=len)
    return (names[prefix] + key[len(prefix) :]).removeprefix(".")
