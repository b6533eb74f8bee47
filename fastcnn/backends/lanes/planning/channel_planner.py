"""The memory plan of the program for few samples: a channel in each lane, a sample per block."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph, Node
from fastcnn.backends.lanes.convolution.algorithm import ChannelAlgorithm, Samples
from fastcnn.backends.lanes.convolution.channel_algorithms import channel_algorithm
from fastcnn.backends.lanes.convolution.channel_winograd1d.geometry import BYTES_AN_OPERATION
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.bands import Banded
from fastcnn.backends.lanes.planning.buffers import (
    LANES,
    NO_HALO,
    Buffer,
    Halo,
    lane_blocks,
    map_shape,
    union,
    whole,
)
from fastcnn.backends.lanes.planning.grouping import Group, fuse, fuse_caps, fuse_sums
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.operations import OPERATIONS

#: Operations that only rename memory if vectors hold samples: here elements are read singly, or
#: copied, between maps and vectors of channels.
COPIED = ("flatten", "unflatten", "input_part")
#: Operations that can bound their sums if ReLU6 follows.
CAPPING = ("conv2d", "conv_transpose2d", "linear", "batch_norm")
#: Maximum bytes of a layer's weights that stay in the cache from one sample to the next.
KEPT_BYTES = 1 << 17
#: Bytes of weights that stay in a core's cache, and those that a core reads from further away in
#: the time of a vector operation.
NEAR, FAR_BYTES_AN_OPERATION = 1 << 20, 6


@dataclass
class PlanarBuffer(Buffer):
    """A map of scalars: [sample][channel][row][column], which only convolutions read."""

    @property
    def pixel(self) -> int:
        """Floats between adjacent pixels of a row."""
        return 1

    def channels_in(self, lanes: np.ndarray) -> np.ndarray:
        """Offsets of channels, which are not in lanes."""
        return lanes * self.channel


class ChannelPlanner(Planner):
    """Reserves memory, packs weights and collects rows.

    ``state`` has parameters and running statistics by state key.
    """

    samples = 1

    def __init__(
        self, graph: Graph, batch: int, workers: int, state: Mapping[str, np.ndarray]
    ) -> None:
        self.state = state
        places = {key: (0, value.shape) for key, value in state.items()}
        super().__init__(Banded(graph), batch, places, workers, backward=False, training=False)
        self._weights: list[np.ndarray] = []
        self._weight_size = 0

    def algorithm(self, g: ConvGeometry) -> ChannelAlgorithm:
        """The algorithm of a convolution."""
        return channel_algorithm(g, Samples(self.blocks == 1, self._bytes_an_operation))

    @functools.cached_property
    def _bytes_an_operation(self) -> int:
        """Bytes of weights that a core reads in the time of a vector operation."""
        size = sum(value.nbytes for value in self.state.values())
        near = Samples(self.blocks == 1, BYTES_AN_OPERATION)
        for node in self.graph.nodes:
            if node.operation == "conv2d":
                g = self.geometry(node)
                size += channel_algorithm(g, near).more_bytes(g)
        return FAR_BYTES_AN_OPERATION if size > NEAR else BYTES_AN_OPERATION

    def fused(self, graph: Graph) -> list[Group]:
        """The groups of fused nodes."""
        return fuse_caps(fuse_sums(fuse(graph), "conv2d"), CAPPING)

    def _place_gradients(self) -> int:
        return 0

    def _shares_batch(self, node: Node) -> bool:
        """Whether weights are read once for all samples, as they do not stay in the cache.

        True for linear layers, and for convolutions whose maps are too small to hide the reading.
        """
        if node.operation != "conv2d":
            return node.operation == "linear"
        g = self.geometry(node)
        algorithm, pixels = self.algorithm(g), int(np.prod(g.output))
        weights = g.out_channels * g.group_inputs * algorithm.kernel(g)
        maps = g.group_inputs * g.groups * int(np.prod(g.input)) + g.out_channels * pixels
        return pixels < algorithm.few_pixels and 4 * weights > max(KEPT_BYTES, 4 * maps)

    def parameter(self, group: Group, name: str) -> np.ndarray | None:
        """A layer's parameter, or None."""
        key = group.node.parameters.get(name)
        return None if key is None else self.state[key]

    def weight(self, values: Any) -> int:
        """Append values, aligned to a vector, to the packed weights; returns their offset."""
        flat = np.asarray(values, np.float32).ravel()
        place = self._weight_size
        padded = np.zeros(whole(flat.size, LANES), np.float32)
        padded[: flat.size] = flat
        self._weights.append(padded)
        self._weight_size += padded.size
        return place

    def weights(self) -> np.ndarray:
        """All packed weights."""
        return np.concatenate([*self._weights, np.zeros(LANES, np.float32)])

    def sizes(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Vectors of channels, height and width of a buffer."""
        channels, height, width = map_shape(shape)
        return lane_blocks(channels), height, width

    def planes(self, shape: tuple[int, ...], halo: Halo, passing: bool) -> Buffer:
        """A buffer of scalars."""
        return self._placed(PlanarBuffer(*map_shape(shape), halo), passing)

    def is_planar(self, index: int) -> bool:
        """Whether all readers of the input, or of a reshape of it, read scalars."""
        for group in self.readers.get(index, []):
            if OPERATIONS[group.operation].renames:
                if not self.is_planar(group.target):
                    return False
            elif group.operation == "conv2d" and len(group.node.input_shapes[0]) == 3:
                g = self.geometry(group.node)
                if not self.algorithm(g).reads_planes or g.groups > 1:
                    return False
                if group.sources[1:] == (index,):
                    return False
            elif group.operation != "linear":
                return False
        return bool(self.readers.get(index))

    def halo(self, index: int) -> Halo:
        """Padding of a node's output that convolutions read, also after operations that rename."""
        halo = NO_HALO
        for reader in self.readers.get(index, []):
            if reader.operation == "conv2d" and reader.source == index:
                g = self.geometry(reader.node)
                halo = union(halo, self.algorithm(g).halo(g, self.workers))
            elif reader.operation == "conv_transpose2d":
                halo = union(halo, self.geometry(reader.node).gradient_halo())
            elif OPERATIONS[reader.operation].renames and reader.operation not in COPIED:
                halo = union(halo, self.halo(reader.target))
        return halo
