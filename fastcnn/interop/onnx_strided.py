"""Samples gathered from the flat batch by computed indices.

PyTorch's exporter writes ``as_strided`` this way: a Reshape of the batch to one dimension, and a
Gather of ``range(N) * size + place``.
"""

import math
from dataclasses import dataclass

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_constants import MOST_DIMENSIONS
from fastcnn.interop.onnx_file import FileNode
from fastcnn.interop.onnx_wiring import Samples, Wiring

#: Most nodes to follow between a Range and the Gather: files may have any number.
MOST_NODES = 12


@dataclass(frozen=True)
class _Places:
    """Indices ``factor * sample + offsets`` for each sample.

    Attributes
    ----------
    offsets : ndarray
        The first dimension, of size 1, is that of the samples.
    """

    factor: int
    offsets: np.ndarray


def take_strided(w: Wiring, node: FileNode) -> bool:
    """Read a Gather of the flat batch that only reshapes samples; returns whether it was one."""
    flat = w.nodes.get(node.inputs[0])
    if flat is None or flat.kind != "Reshape" or flat.inputs[0] not in w.samples:
        return False
    wanted = w.numbers_of(flat.inputs[1])
    if wanted is None or wanted.values != (-1,) or node.integer("axis", 0) not in (0, -1):
        return False
    value = w.value(flat.inputs[0])
    size = math.prod(value.shape)
    places = _places(w, node.inputs[1], size, MOST_NODES)
    if (
        places is None
        or value.view.is_expanded
        or places.factor != size
        or not np.array_equal(places.offsets.reshape(-1), np.arange(size))
    ):
        raise ConfigurationError("it takes other elements than each sample's own, in their order")
    view = value.view.reshaped(places.offsets.shape[1:])
    w.samples[node.output] = Samples(value.layer, view)
    return True


def _places(w: Wiring, name: str, size: int, depth: int) -> _Places | None:
    """The indices in a value; None if it holds something else."""
    if name in w.file.constants:
        return _of_constant(w, name, size)
    node = w.nodes.get(name)
    if node is None or depth == 0:
        return None
    if node.kind == "Range":
        bounds = [w.numbers_of(each) for each in node.inputs]
        whole = [bound.values if bound else () for bound in bounds] == [(0,), (None,), (1,)]
        return _Places(1, np.zeros(1, np.int64)) if whole else None
    if node.kind == "Unsqueeze":
        found = _places(w, node.inputs[0], size, depth - 1)
        axes = w.numbers_of(node.input(1))
        if found is None or axes is None or len(axes.values) > MOST_DIMENSIONS:
            return None
        rank, more = found.offsets.ndim, len(axes.values)
        if axes.values != tuple(range(rank, rank + more)):
            return None
        return _Places(found.factor, found.offsets.reshape(*found.offsets.shape, *(1,) * more))
    if node.kind not in ("Add", "Mul"):
        return None
    for value, other in (node.inputs, node.inputs[::-1]):
        if value in w.file.constants or other not in w.file.constants:
            continue
        found, constant = _places(w, value, size, depth - 1), w.file.constants[other]
        if found is None or constant.dtype.kind != "i" or constant.size > size:
            return None
        if node.kind == "Mul":
            if constant.size != 1 or constant.ndim > found.offsets.ndim:
                return None
            factor = int(constant.item())
            return _Places(found.factor * factor, found.offsets * factor)
        if constant.ndim != found.offsets.ndim or constant.shape[0] != 1:
            return None
        shape = np.broadcast_shapes(found.offsets.shape, constant.shape)
        return _Places(found.factor, found.offsets + constant) if math.prod(shape) <= size else None
    return None


def _of_constant(w: Wiring, name: str, size: int) -> _Places | None:
    """Indices precomputed for the file's fixed batch size."""
    array, batch = w.file.constants[name], w.file.batch
    if batch is None or array.dtype.kind != "i" or array.ndim < 2 or len(array) != batch:
        return None
    steps = np.arange(batch).reshape(-1, *(1,) * (array.ndim - 1)) * size
    return (
        _Places(size, array[:1]) if np.array_equal(array - steps, array[:1] + 0 * steps) else None
    )
