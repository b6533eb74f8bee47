"""Checkpoints: everything needed to continue a training run exactly, in one file.

A checkpoint is a safetensors file: arrays by name, with a JSON text and a checksum in the file's
metadata. It is replaced atomically, so that a run killed at any moment leaves the previous one
intact.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.errors import CheckpointError, ConfigurationError
from fastcnn.files import read_bytes
from fastcnn.weights import weights_from_bytes, weights_to_bytes

FORMAT = "fastcnn-checkpoint-3"
LAST, BEST = "checkpoints/last.safetensors", "checkpoints/best.safetensors"
#: Placeholder in the JSON text for an array of the file.
ARRAY = "$array"


@dataclass(frozen=True)
class Checkpoint:
    """A run's state between two steps: nested dicts and lists of numbers, text, None and arrays."""

    state: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The file's content."""
        arrays: dict[str, np.ndarray] = {}
        try:
            text = json.dumps(_without_arrays(self.state, "", arrays))
        except TypeError as error:
            raise ConfigurationError(
                f"{error}: the state_dict() of a callback must return Python's numbers, text, "
                "lists, dictionaries and arrays"
            ) from None
        return weights_to_bytes(arrays, {"format": FORMAT, "state": text})

    @classmethod
    def from_bytes(cls, content: bytes, path: Path) -> "Checkpoint":
        """The checkpoint in a file's content; ``path`` is for messages.

        Raises CheckpointError if the content is damaged or not a checkpoint.
        """
        arrays, metadata = weights_from_bytes(content, path)
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path} is not a checkpoint of fastcnn ({FORMAT})")
        try:
            return cls(_with_arrays(json.loads(metadata["state"]), arrays))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged ({error})") from None

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """The checkpoint in a file.

        Raises CheckpointError if it is missing, cannot be read, is damaged or is not a checkpoint.
        """
        try:
            content = read_bytes(path)
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing: there is nothing to resume") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
        return cls.from_bytes(content, path)


def _without_arrays(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The value with each array replaced by its name; collects the arrays."""
    if isinstance(value, dict):
        return {key: _without_arrays(v, f"{name}/{key}", arrays) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(v, f"{name}/{i}", arrays) for i, v in enumerate(value)]
    if isinstance(value, np.ndarray):
        # safetensors writes an array's raw memory: only C order is safe.
        arrays[name] = np.asarray(value, order="C")
        return {ARRAY: name}
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of :func:`_without_arrays`."""
    if isinstance(value, dict):
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        return {key: _with_arrays(v, arrays) for key, v in value.items()}
    if isinstance(value, list):
        return [_with_arrays(v, arrays) for v in value]
    return value
