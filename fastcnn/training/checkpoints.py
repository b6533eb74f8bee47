"""Everything a training run needs to go on as if it had never stopped, in one file.

A checkpoint is a safetensors file: arrays by name, and beside them one JSON text and a checksum in
the file's metadata. It is replaced as a whole, so that a run killed at any moment leaves the one
before.
"""

import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.errors import CheckpointError
from fastcnn.files import atomic_write, expanded

FORMAT = "fastcnn-checkpoint-2"
#: Stands in the JSON text for an array of the file.
ARRAY = "$array"


@dataclass
class Checkpoint:
    """A run's state between two steps.

    Attributes
    ----------
    state : dict
        Nested dicts and lists of numbers, text, None and arrays.
    """

    state: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file's content."""
        from safetensors.numpy import save

        arrays: dict[str, np.ndarray] = {}
        text = json.dumps(_without_arrays(self.state, "", arrays))
        checksum = _checksum(text, arrays)
        return save(arrays, metadata={"format": FORMAT, "checksum": checksum, "state": text})

    def write(self, path: Path) -> None:
        """Write the file atomically.

        Raises
        ------
        OSError
            If it cannot be written; what stood there is then untouched.
        """
        atomic_write(path, self.to_bytes())

    @classmethod
    def from_bytes(cls, content: bytes, path: Path) -> "Checkpoint":
        """The checkpoint in a file's content; ``path`` is for messages.

        Raises
        ------
        CheckpointError
            If the content is damaged or no checkpoint.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + length]).get("__metadata__", {})
            if header.get("format") != FORMAT:
                raise CheckpointError(f"{path} is no checkpoint of fastcnn ({FORMAT})")
            arrays = load(content)
            if header["checksum"] != _checksum(header["state"], arrays):
                raise CheckpointError(f"{path} is damaged (its checksum does not fit)")
            return cls(_with_arrays(json.loads(header["state"]), arrays))
        except (
            SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError
        ) as error:  # fmt: skip
            raise CheckpointError(f"{path} is damaged ({error})") from None

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read a file back.

        Raises
        ------
        CheckpointError
            If it is missing, cannot be read, is damaged or is no checkpoint.
        """
        return cls.from_bytes(read_file(path), path)


def read_file(path: Path) -> bytes:
    """A checkpoint file's content.

    Raises
    ------
    CheckpointError
        If it is missing or cannot be read.
    """
    try:
        with expanded(path).open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) == 8 and length > os.fstat(file.fileno()).st_size:
                # A file of another kind, perhaps a huge one: its first bytes say so.
                raise CheckpointError(f"{path} is damaged, or no checkpoint of fastcnn")
            return start + file.read()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: there is nothing to resume") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None


def _checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    """CRC-32 of the text and the arrays, as eight hexadecimal digits.

    safetensors finds a file of a wrong length damaged, but not one of other bits.
    """
    value = zlib.crc32(text.encode())
    for name, array in sorted(arrays.items()):
        value = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), value)
        value = zlib.crc32(array.tobytes(), value)
    return f"{value:08x}"


def _without_arrays(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The value with each array replaced by its name; collects the arrays."""
    if isinstance(value, dict):
        return {key: _without_arrays(v, f"{name}/{key}", arrays) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(v, f"{name}/{i}", arrays) for i, v in enumerate(value)]
    if isinstance(value, np.ndarray):
        # safetensors writes the memory of an array as it lies: only C order is safe.
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


def differences(saved: Any, now: Any, path: str = "") -> list[str]:
    """What differs between two configs, in words; only keys of both are compared."""
    if isinstance(saved, dict) and isinstance(now, dict):
        return [
            line
            for key in saved.keys() & now.keys()
            for line in differences(saved[key], now[key], f"{path}.{key}" if path else key)
        ]
    return [] if saved == now else [f"{path} was {saved!r} and is now {now!r}"]
