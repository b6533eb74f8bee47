"""Constants of an ONNX file; sizes are checked before decoding."""

import math
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError, counted

MOST_DIMENSIONS = 8
#: How much more than the file layers may hold: constants shared by several of them are copied.
MOST_COPIES, FREE_BYTES = 4, 1 << 24
#: ONNX's type numbers: their name, numpy's type, and the tensor field for values that are not raw
#: bytes.
TYPES: dict[int, tuple[str, Any, str]] = {
    1: ("FLOAT", np.float32, "float_data"),
    2: ("UINT8", np.uint8, "int32_data"),
    3: ("INT8", np.int8, "int32_data"),
    6: ("INT32", np.int32, "int32_data"),
    7: ("INT64", np.int64, "int64_data"),
    9: ("BOOL", np.bool_, "int32_data"),
    10: ("FLOAT16", np.float16, "int32_data"),
    11: ("DOUBLE", np.float64, "double_data"),
    16: ("BFLOAT16", np.uint16, "int32_data"),
}


class Constants:
    """Values independent of a model's input, by name.

    Parameters
    ----------
    folder : Path
        Folder of external weight files.
    size : int
        Bytes of the ONNX file.
    """

    def __init__(self, tensors: Iterable[Any], folder: Path, size: int) -> None:
        self._folder = folder
        self._room = MOST_COPIES * size + FREE_BYTES
        self._tensors: dict[str, Any] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._files: set[Path] = set()
        for tensor in tensors:
            if tensor.name in self._tensors:
                raise ConfigurationError(f"two constants are called {tensor.name!r}")
            self._tensors[tensor.name] = tensor

    def names(self) -> list[str]:
        """Names of the constants listed in the file."""
        return list(self._tensors)

    def claim(self, size: int) -> None:
        """Count the bytes to be held by a layer."""
        self._room -= size
        if self._room < 0:
            raise ConfigurationError("its layers would hold much more than the file")

    def __contains__(self, name: str) -> bool:
        """Whether a value does not depend on the input."""
        return name in self._tensors or name in self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        """A constant; bfloat16 becomes float32."""
        if name not in self._arrays:
            if name not in self._tensors:
                raise ConfigurationError(f"{name!r} must be a constant")
            try:
                self._arrays[name] = self.decode(self._tensors[name])
            except ConfigurationError as error:
                raise ConfigurationError(f"constant {name!r}: {error}") from None
        return self._arrays[name]

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        """Store the result of a node that depends only on constants."""
        self._arrays[name] = value

    def type_of(self, name: str) -> int:
        """ONNX's type number of a constant."""
        if name in self._tensors:
            return int(self._tensors[name].data_type)
        dtype = self._arrays[name].dtype
        return next((number for number, (_, kind, _) in TYPES.items() if dtype == kind), 0)

    def decode(self, tensor: Any) -> np.ndarray:
        """The array in a tensor of the file, after checking its size."""
        sizes = tuple(tensor.dims)
        if tensor.data_type not in TYPES:
            raise ConfigurationError(f"it holds {type_name(tensor.data_type)}, which is unknown")
        _, dtype, field = TYPES[tensor.data_type]
        if len(sizes) > MOST_DIMENSIONS or any(size < 0 for size in sizes):
            raise ConfigurationError(f"it has the shape {sizes[:MOST_DIMENSIONS]}")
        count = math.prod(sizes)
        if count == 0 and len(sizes) > 1:
            raise ConfigurationError(f"it is empty, shape {sizes}")
        wanted = count * np.dtype(dtype).itemsize
        if tensor.data_location == tensor.EXTERNAL:
            array = np.frombuffer(self._read_external(tensor, wanted), dtype)
        elif tensor.HasField("raw_data"):
            if len(tensor.raw_data) != wanted:
                raise ConfigurationError(
                    f"its shape {sizes} takes {wanted} bytes, it has {len(tensor.raw_data)}"
                )
            array = np.frombuffer(tensor.raw_data, dtype)
        else:
            values = getattr(tensor, field)
            if len(values) != count:
                raise ConfigurationError(
                    f"its shape {sizes} takes {counted(count, 'value')}, it has {len(values)}"
                )
            array = np.array(values)
            if tensor.data_type in (10, 16):
                array = array.astype(np.uint16).view(dtype)
        if tensor.data_type == 16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
            dtype = np.float32
        return array.astype(dtype, copy=False).reshape(sizes)

    def _read_external(self, tensor: Any, wanted: int) -> bytes:
        """Bytes of an external weight file, which must be in the ONNX file's folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        folder = self._folder.resolve()
        try:
            path = (folder / location).resolve()
            offset, length = (
                int(entries.get(key, value))
                for key, value in (("offset", "0"), ("length", str(wanted)))
            )
        except (OSError, ValueError, RuntimeError):
            raise ConfigurationError(f"it is in another file, {location!r}") from None
        if not location or path.parent != folder:
            raise ConfigurationError(f"its weight file {location!r} is not in the same folder")
        try:
            information = path.stat()
            if not stat.S_ISREG(information.st_mode):
                raise ConfigurationError(f"its weight file {location!r} is not a regular file")
            if length != wanted or not 0 <= offset <= information.st_size - wanted:
                raise ConfigurationError(
                    f"it takes {wanted} bytes, {length} from {offset} on in {location!r}, which "
                    f"has {information.st_size}"
                )
            # Several constants may share bytes: all bytes read are counted, the file's size once.
            if path not in self._files:
                self._files.add(path)
                self._room += (1 + MOST_COPIES) * information.st_size
            self.claim(wanted)
            with path.open("rb") as file:
                file.seek(offset)
                content = file.read(wanted)
        except OSError as error:
            raise ConfigurationError(
                f"its weight file {location!r} cannot be read ({error.strerror})"
            ) from None
        return content


def type_name(number: int) -> str:
    return TYPES[number][0] if number in TYPES else f"type {number}"
