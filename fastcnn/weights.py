"""Arrays in safetensors files, with a checksum that detects any corrupt bit.

safetensors itself detects a wrong file length, but not flipped bits. The checksum is an entry of
the file's metadata, so that other programs can read these files like any others.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.errors import CheckpointError, ConfigurationError, NonFiniteError
from fastcnn.files import atomic_write, expanded, read_bytes

#: Metadata entries that identify a file as written by fastcnn. Both are always present, so that
#: damage to one of them is noticed.
FORMAT, CHECKSUM = "format", "fastcnn_checksum"
WEIGHTS = "fastcnn-weights-1"
#: First bytes of files of torch.save or numpy.savez: zip archives, or pickles.
PYTORCH = (b"PK\x03\x04", b"\x80\x02")
#: Suffixes of other formats of models, and what writes these or reads safetensors there.
OTHER_FORMATS = {
    ".onnx": "; fastcnn.interop.export_onnx writes ONNX",
    ".npz": "; numpy.savez writes the arrays of model.state_dict()",
    **dict.fromkeys((".pt", ".pth"), ", which PyTorch reads with safetensors.torch.load_file"),
    **dict.fromkeys((".h5", ".hdf5", ".keras", ".pkl", ".pickle"), ""),
}
#: safetensors' names of types, and numpy's.
TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}


def not_finite(arrays: Mapping[str, Any]) -> str | None:
    """Describe the first array that is not finite, for a message.

    Parameters
    ----------
    arrays : mapping of str to ndarray

    Returns
    -------
    str or None
        None if all are finite.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            return f"{array.size - int(finite.sum())} of {array.size} values of {name}"
    return None


def check_values(what: str, arrays: Mapping[str, Any]) -> None:
    """Refuse invalid weights, which are neither written to nor read from a file.

    Raises
    ------
    NonFiniteError
        If any is not finite; the message begins with ``what``.
    CheckpointError
        If a running variance is negative.
    """
    problem = not_finite(arrays)
    if problem is not None:
        raise NonFiniteError(f"{what}: NaN or infinity: {problem}")
    check_variances(what, arrays)


def check_variances(what: str, arrays: Mapping[str, Any]) -> None:
    """Refuse negative running variances."""
    for name, array in arrays.items():
        if name.split(".")[-1] == "running_var" and array.size and (least := array.min()) < 0:
            raise CheckpointError(f"{what}: {name} holds a negative variance, {least:.6g}")


def write_weights(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write a model's state to a file of a user's choice.

    Raises
    ------
    ConfigurationError
        If the file's suffix is that of another format.
    NonFiniteError, CheckpointError
        As :func:`check_values`.
    OSError
        If the file cannot be written.
    """
    suffix = expanded(path).suffix.lower()
    if suffix in OTHER_FORMATS:
        raise ConfigurationError(
            f"{path} would be a safetensors file: call it .safetensors{OTHER_FORMATS[suffix]}"
        )
    check_values(f"{path} was not written", arrays)
    atomic_write(path, weights_to_bytes(arrays, metadata))


def weights_to_bytes(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The content of a safetensors file.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    metadata : mapping of str to str, optional
        Further texts to store in the file; ``format`` names the kind of file.
    """
    whole = {key: _little_endian(value) for key, value in arrays.items()}
    texts = {FORMAT: WEIGHTS, **(metadata or {})}
    texts[CHECKSUM] = _checksum(whole, texts)
    # safetensors' own writer orders the metadata differently each time.
    header: dict[str, Any] = {"__metadata__": texts}
    # Large item sizes first, so that each array is aligned.
    order = sorted(whole, key=lambda name: (-whole[name].itemsize, name))
    end = 0
    for name in order:
        array = whole[name]
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": NAMES[array.dtype.newbyteorder("=")],
            "shape": array.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(whole[name].data for name in order)])


def _little_endian(value: np.ndarray) -> np.ndarray:
    return np.asarray(value, np.asarray(value).dtype.newbyteorder("<"), order="C")


def weights_from_bytes(
    content: bytes, path: str | Path
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata in a safetensors file's content.

    Files of other programs have no such checksum and are read without it.

    Parameters
    ----------
    content : bytes
    path : path
        For messages.

    Returns
    -------
    arrays : dict of str to ndarray
        May be read-only; bfloat16 becomes float32.
    metadata : dict of str to str

    Raises
    ------
    CheckpointError
        If the content is damaged, is not a safetensors file or has a type unknown to numpy.
    """
    from safetensors import SafetensorError, deserialize

    # A safetensors file begins with its header's length, which may be the same bytes.
    if content.startswith(PYTORCH) and content[8:9] != b"{":
        raise CheckpointError(
            f"{path} is a file of torch.save or numpy.savez; write a safetensors file instead, "
            "such as with safetensors.torch.save_file(module.state_dict(), path)"
        )
    try:
        found = deserialize(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, AttributeError, RecursionError, MemoryError) as error:
        raise CheckpointError(f"{path} is damaged, or not a safetensors file ({error})") from None
    arrays = {name: _array(name, entry, path) for name, entry in found}
    checksum = metadata.pop(CHECKSUM, None)
    if checksum is None and not str(metadata.get(FORMAT)).startswith("fastcnn-"):
        return arrays, metadata
    if checksum != _checksum(arrays, metadata):
        raise CheckpointError(f"{path} is damaged (its checksum does not match)")
    return arrays, metadata


def read_weights(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata in a safetensors file; see :func:`weights_from_bytes`.

    Raises
    ------
    CheckpointError
        If the file is missing, cannot be read, is damaged or is not a safetensors file.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        inside = sorted(expanded(path).glob("*.safetensors"))
        meant = f"; did you mean {inside[0]}?" if inside else ""
        raise CheckpointError(f"{path} cannot be read ({error.strerror}){meant}") from None
    return weights_from_bytes(content, path)


def _array(name: str, entry: Mapping[str, Any], path: str | Path) -> np.ndarray:
    kind, shape = entry["dtype"], entry["shape"]
    if kind == "BF16":
        # The upper half of a float32.
        halves = np.frombuffer(entry["data"], np.uint16)
        return (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if kind not in TYPES:
        raise CheckpointError(f"{path}: {name!r} has the type {kind}, which numpy does not have")
    return np.frombuffer(entry["data"], TYPES[kind]).reshape(shape)


def _checksum(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    """CRC-32 of names, types, shapes, values and texts, as eight hexadecimal digits."""
    value = zlib.crc32(json.dumps(sorted(texts.items())).encode())
    for name, array in sorted(arrays.items()):
        value = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), value)
        value = zlib.crc32(array.data, value)
    return f"{value:08x}"
