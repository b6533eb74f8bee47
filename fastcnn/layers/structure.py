"""What a model knows of its layers' arrays: their keys, who shares them, and one vector of all."""

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


#: Input shapes whose graphs a model keeps.
KEPT_GRAPHS = 16
#: One thread at a time looks at a model's layers.
_looking = forks.lock()


@dataclass
class Slot:
    """One parameter and its place in the vector.

    Attributes
    ----------
    key : str
        The state key of its first user.
    users : list of (Layer, str)
        The layers that have it, and under which name.
    offset : int
        Where it begins in the vector.
    """

    key: str
    users: list[tuple[Layer, str]]
    array: np.ndarray
    offset: int = 0


@dataclass
class Structure:
    """What is known of a model at one version of it.

    Attributes
    ----------
    seen : int
        Number of the latest change of any layer when the model was last compared.
    version : int
        Version of the model for which the rest holds.
    keys : dict of (int, str) to str
        State key of each array, by its layer's ``id`` and its own name; of arrays that are shared,
        the key of the first user.
    aliases : dict of str to str
        Every state key of a parameter, to that of the first user.
    in_vector : bool
        Whether all parameters are views of :attr:`vector`.
    state : dict or None
        All parameters and buffers by every state key, once they were asked for.
    graphs : dict
        The graphs of the last input shapes.
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
        """Remember a graph, and forget the oldest of too many."""
        self.graphs[shape] = graph
        for old in list(self.graphs)[:-KEPT_GRAPHS]:
            self.graphs.pop(old, None)
        return graph

    def aliases_of_state(self) -> dict[str, str]:
        """Every state key, to that of the array's first user."""
        return self.aliases | self.buffer_aliases

    def refresh(self, model: "Model") -> None:
        """Look at the layers again if any layer anywhere has changed since the last look."""
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
        """Find the arrays of a model's layers.

        Raises
        ------
        ConfigurationError
            If arrays overlap without being one.
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
        """Make all parameters views of one vector, the old one where it has the right size."""
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
                # Copied first: it may be in the old place of another.
                moved.append((slot, part, slot.array.copy()))
            offset += part.size
        for slot, part, value in moved:
            part[...] = value
            slot.array = part
            for layer, key in slot.users:
                layer.parameters.move(key, part)
        self.vector, self.in_vector, self.state = vector, True, None
        # Other models that have one of these layers notice; this one knows.
        self.version = model.version


def _arrays(model: "Model") -> "Iterator[tuple[str, Layer, Watched[np.ndarray]]]":
    """Parameters, then buffers, of each layer at each of its places."""
    for name, layer in model.named_leaves():
        yield name, layer, layer.parameters
        yield name, layer, layer.buffers


def _check_overlaps(arrays: list[tuple[str, np.ndarray]]) -> None:
    """Refuse arrays that have memory in common without being the same array."""
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
