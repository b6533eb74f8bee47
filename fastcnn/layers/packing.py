"""Packing of several inputs into one array, and unpacking of several outputs.

A network reads one array and writes one. With several inputs, the array concatenates the elements
of all of them, and likewise with several outputs.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn.arguments import sample_array
from fastcnn.backends.graph import Port
from fastcnn.data.preprocessing import Preprocessing, measure_normalisation
from fastcnn.errors import ShapeError, counted


def given(what: str, ports: Sequence[Port], values: Any) -> list[Any]:
    """The values for each port, given by position or by name.

    Raises
    ------
    ShapeError
        If there are too few or too many.
    """
    names = ", ".join(port.name for port in ports)
    if isinstance(values, Mapping):
        if set(values) != {port.name for port in ports}:
            raise ShapeError(f"{what} must be given for {names}, got {', '.join(map(str, values))}")
        return [values[port.name] for port in ports]
    if not isinstance(values, (tuple, list)) or len(values) != len(ports):
        count = len(values) if isinstance(values, (tuple, list)) else type(values).__name__
        raise ShapeError(
            f"the model has the {what} {names}: give a tuple of as many arrays, or a dictionary; "
            f"got {count}"
        )
    return list(values)


def pack_inputs(ports: Sequence[Port], values: Any) -> np.ndarray:
    """Pack the samples of several inputs into one array of shape (N, elements).

    Bytes stay bytes if all inputs are; otherwise they are divided by 255.

    Raises
    ------
    ShapeError, DataError
        If they do not match the inputs, or each other.
    """
    size = ports[-1].stop
    if isinstance(values, np.ndarray) and values.shape[1:] == (size,):
        return values
    parts: list[np.ndarray] = []
    for port, value in zip(ports, given("inputs", ports, values), strict=True):
        array = sample_array(f"input {port.name!r}: samples", value)
        if array.shape[1:] != port.shape or array.ndim == 0:
            wanted = ", ".join(map(str, port.shape))
            raise ShapeError(
                f"input {port.name!r} takes samples of shape (N, {wanted}), got {array.shape}"
            )
        if parts and len(array) != len(parts[0]):
            raise ShapeError(
                f"input {port.name!r} has {counted(len(array), 'sample')}, {ports[0].name!r} "
                f"{len(parts[0])}"
            )
        parts.append(array.reshape(len(array), prod(port.shape)))
    kinds = {part.dtype for part in parts}
    if len(kinds) > 1:
        kind = np.result_type(np.float32, *(part.dtype for part in parts if part.dtype.kind == "f"))
        parts = [
            part.astype(kind) / kind.type(255 if part.dtype == np.uint8 else 1) for part in parts
        ]
    return np.concatenate(parts, axis=1)


def measured(ports: Sequence[Port], samples: np.ndarray) -> Preprocessing:
    """The preprocessing that normalises each channel of each input to mean 0 and deviation 1.

    Parameters
    ----------
    samples : ndarray
        All inputs, as packed by :func:`pack_inputs`.
    """
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pixels: tuple[int, ...] = ()
    for port, own in zip(ports, unpack(ports, samples).values(), strict=True):
        found = measure_normalisation(own)
        mean, std = mean + found.mean, std + found.std
        pixels += (prod(port.shape[1:]),) * len(found.mean)
    return Preprocessing(mean, std, pixels=pixels)


def unpack(ports: Sequence[Port], array: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of packed samples by name, in their shapes."""
    return {
        port.name: array[:, port.start : port.stop].reshape(len(array), *port.shape)
        for port in ports
    }
