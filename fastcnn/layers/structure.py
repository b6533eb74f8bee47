"""The arrays of a model's layers: their keys, sharing, and the common parameter vector."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastcnn import forks
from fastcnn.backends.alignment import aligned, is_aligned
from fastcnn.backends.graph import Graph, Shape
from fastcnn.errors import ConfigurationError
from fastcnn.layers.base import Layer
from fastcnn.layers.changes import Watched, latest_change

if TYPE_CHECKING:
    from fastcnn.layers.container import Model


#: Number of input shapes for which a model caches graphs.
KEPT_GRAPHS = 16
#: Held by the one thread that inspects a model's layers.
_looking = forks.lock()


@dataclass
class Slot:
    """A parameter and its position in the vector.

    Attributes
    ----------
    key : str
        The state key of its first user.
    users : list of (Layer, str)
        The layers that have it, with its name in each.
    offset : int
        Its offset in the vector.
    """

    key: str
    users: list[tuple[Layer, str]]
    array: np.ndarray
    offset: int = 0


@dataclass
class Structure:
    """Information on one version of a model.

    Attributes
    ----------
    seen : int
        Number of the latest change of any layer when the model was last compared.
    version : int
        Version of the model that the rest describes.
    keys : dict of (int, str) to str
        State key of each array, by its layer's ``id`` and its own name; for shared arrays, the key
        of the first user.
    aliases : dict of str to str
        Maps every state key of a parameter to that of the first user.
    in_vector : bool
        Whether all parameters are views of :attr:`vector`.
    state : dict or None
        All parameters and buffers by every state key, once requested.
    graphs : dict
        The graphs of recent input shapes.
    """

    seen: int = -1
    version: int = -1
    keys: dict[tuple[int, str], str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    buffer_aliases: dict[str, str] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    vector: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    in_vector: bool = False
    state: dict[str, np.ndarray] | None = None
    graphs: dict[Shape, Graph] = field(default_factory=dict)

    def keep_graph(self, shape: Shape, graph: Graph) -> Graph:
        """Cache a graph, and drop the oldest if there are too many."""
        self.graphs[shape] = graph
        for old in list(self.graphs)[:-KEPT_GRAPHS]:
            self.graphs.pop(old, None)
        return graph

    def aliases_of_state(self) -> dict[str, str]:
        """Maps every state key to that of the array's first user."""
        return self.aliases | self.buffer_aliases

    def refresh(self, model: "Model") -> None:
        """Re-inspect the layers if any layer anywhere has changed since the last inspection."""
        if self.seen == latest_change():
            return
        with _looking:
            seen = latest_change()
            try:
                version = model.version
            except RecursionError:
                raise ConfigurationError("the model contains itself") from None
            if self.version != version:
                self.collect(model, version)
            self.seen = seen

    def collect(self, model: "Model", version: int) -> None:
        """Collect the arrays of a model's layers.

        Raises
        ------
        ConfigurationError
            If arrays overlap without being the same array.
        """
        self.keys, self.aliases, self.buffer_aliases, self.slots = {}, {}, {}, []
        self.in_vector, self.state = False, None
        self.graphs = {}
        known: dict[tuple[object, ...], str] = {}
        by_key: dict[str, Slot] = {}
        buffers: list[tuple[str, np.ndarray]] = []
        for name, layer, arrays in _arrays(model):
            learned = arrays is layer.parameters
            for key, array in arrays.items():
                full = f"{name}.{key}"
                place = (array.ctypes.data, array.shape, array.strides, array.dtype, learned)
                first = known.setdefault(place, full)
                (self.aliases if learned else self.buffer_aliases)[full] = first
                self.keys.setdefault((id(layer), key), first)
                if learned:
                    if first == full:
                        by_key[full] = Slot(full, [], array)
                        self.slots.append(by_key[full])
                    if not any(user is layer for user, _ in by_key[first].users):
                        by_key[first].users.append((layer, key))
                elif first == full:
                    buffers.append((full, array))
        _check_overlaps([*buffers, *((slot.key, slot.array) for slot in self.slots)])
        self.version = version

    def move_to_vector(self, model: "Model") -> None:
        """Make all parameters views of one vector, reusing the old one if it has the right size."""
        with _looking:
            if not self.in_vector:
                self._move(model)

    def _move(self, model: "Model") -> None:
        arrays = [slot.array for slot in self.slots]
        types: dict[np.dtype, str] = {}
        for slot in self.slots:
            types.setdefault(slot.array.dtype, slot.key)
        if len(types) > 1:
            raise ConfigurationError(
                "parameters have different types: "
                + ", ".join(f"{key} is {dtype}" for dtype, key in types.items())
                + "; model.to(dtype) converts all"
            )
        dtype = next(iter(types), np.dtype(np.float32))
        size = sum(array.size for array in arrays)
        vector = self.vector
        if vector.size != size or vector.dtype != dtype or not is_aligned(vector):
            vector = aligned(size, dtype, np.empty)
        offset, moved = 0, []
        for slot in self.slots:
            slot.offset = offset
            part = vector[offset : offset + slot.array.size].reshape(slot.array.shape)
            if part.ctypes.data != slot.array.ctypes.data or not slot.array.flags.c_contiguous:
                # Copied first: its memory may be the new place of another.
                moved.append((slot, part, slot.array.copy()))
            offset += part.size
        for slot, part, value in moved:
            part[...] = value
            slot.array = part
            for layer, key in slot.users:
                layer.parameters.move(key, part)
        self.vector, self.in_vector, self.state = vector, True, None
        # Other models with one of these layers will notice; this one already knows.
        self.version = model.version


def _arrays(model: "Model") -> "Iterator[tuple[str, Layer, Watched[np.ndarray]]]":
    """Parameters, then buffers, of each layer, for each of its uses."""
    for name, layer in model.named_leaves():
        yield name, layer, layer.parameters
        yield name, layer, layer.buffers


def _check_overlaps(arrays: list[tuple[str, np.ndarray]]) -> None:
    """Refuse arrays that share memory without being the same array."""
    spans = sorted((*_bounds(array), key, array) for key, array in arrays)
    last = spans[0] if spans else None
    for span in spans[1:]:
        assert last is not None
        if span[0] < last[1] and np.shares_memory(span[3], last[3]):
            raise ConfigurationError(
                f"{last[2]} and {span[2]} share memory without being one array of one shape: "
                "share the same array, or copy it"
            )
        last = max(last, span, key=lambda known: known[1])


def _bounds(array: np.ndarray) -> tuple[int, int]:
    """First and last + 1 byte of an array."""
    steps = [(size - 1) * step for size, step in zip(array.shape, array.strides, strict=True)]
    low = sum(step for step in steps if step < 0)
    high = sum(step for step in steps if step > 0) + array.itemsize
    return array.ctypes.data + low, array.ctypes.data + high
