"""The memory plan of the program for few samples: a channel in each lane, a sample per block."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph, Node
from fastcnn.backends.lanes.convolution.channel_rows import geometry as along_rows
from fastcnn.backends.lanes.convolution.channel_rows.geometry import (
    BYTES_AN_OPERATION,
    TRANSFORMING,
    Division,
)
from fastcnn.backends.lanes.convolution.channels.kernels import WHOLE, WIDTHS, blocks_of_tile
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, first_outputs
from fastcnn.backends.lanes.convolution.winograd2d.strided import tile_halo, transform_of
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS as WEIGHTS
from fastcnn.backends.lanes.planning.bands import Banded
from fastcnn.backends.lanes.planning.buffers import (
    LANES,
    NO_HALO,
    Buffer,
    Halo,
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
#: Pixels of a map from which on direct sums take longer than reading their weights; with Winograd's
#: transforms, a strip has to be full.
FEW_PIXELS = 32
#: Maximum tiles of a strip of Winograd transforms, which reads all weights.
STRIP = 16
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


def lane_blocks(channels: int) -> int:
    """Number of vectors that hold this many channels."""
    return -(-channels // LANES)


def _transformed_bytes(g: ConvGeometry) -> int:
    """Bytes of the weights of a 3x3 convolution after Winograd's transform."""
    return 4 * LANES * WEIGHTS * g.group_inputs * lane_blocks(g.out_channels)


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

    def pays_by_winograd(self, g: ConvGeometry) -> bool:
        """Whether Winograd's F(4x4, 3x3) is fastest for a convolution."""
        return self._pays(g, self._bytes_an_operation)

    def rows_by_winograd(self, g: ConvGeometry) -> Division | None:
        """How Winograd's F(4, r) along rows divides a convolution of one sample, if it pays."""
        size = self._bytes_an_operation
        if self.pays_by_winograd(g) or along_rows.operations(g, size) >= self._direct(g, size):
            return None
        return along_rows.division(g, self.workers)

    @functools.cached_property
    def _bytes_an_operation(self) -> int:
        """Bytes of weights that a core reads in the time of a vector operation."""
        size = sum(value.nbytes for value in self.state.values())
        for node in self.graph.nodes:
            if node.operation == "conv2d":
                g = self.geometry(node)
                size += _transformed_bytes(g) if self._pays(g, BYTES_AN_OPERATION) else 0
        return FAR_BYTES_AN_OPERATION if size > NEAR else BYTES_AN_OPERATION

    def _pays(self, g: ConvGeometry, bytes_an_operation: int) -> bool:
        """Whether F(4x4, 3x3) takes the fewest vector operations of a sample.

        Many samples fill strips together; a single one may have few tiles for all weights.
        """
        transform = transform_of(g)
        if transform is None or min(g.group_inputs, g.out_channels) < LANES:
            return False
        inputs, blocks = g.group_inputs, lane_blocks(g.out_channels)
        count = len(first_outputs(g.output, g.dilation))
        strips = -(-count // STRIP) if self.blocks == 1 else count / STRIP
        products = transform.products * inputs * blocks * whole(count, WHOLE)
        made = count * (transform.input * lane_blocks(inputs) + transform.output * blocks)
        read = along_rows.reading(_transformed_bytes(g), strips, bytes_an_operation)
        others = self._direct(g, bytes_an_operation), along_rows.operations(g, bytes_an_operation)
        return products + TRANSFORMING * made + read < min(others)

    def _direct(self, g: ConvGeometry, bytes_an_operation: int) -> float:
        """Vector operations of a direct sum of one group for one sample; many share weights."""
        blocks, pixels = lane_blocks(g.out_channels), g.output[0] * g.output[1]
        weights = int(np.prod(g.kernel)) * g.group_inputs * blocks
        positions = whole(pixels, WIDTHS[blocks_of_tile(blocks)])
        read = 4 * LANES * weights / bytes_an_operation if self.blocks == 1 else 0
        return weights * positions + read

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
        if self.rows_by_winograd(g):
            return False
        kernel, pixels, few = int(np.prod(g.kernel)), int(np.prod(g.output)), FEW_PIXELS
        if self.pays_by_winograd(g):
            kernel, few = WEIGHTS, STRIP * OUTPUTS**2
        weights = g.out_channels * g.group_inputs * kernel
        maps = g.group_inputs * g.groups * int(np.prod(g.input)) + g.out_channels * pixels
        return pixels < few and 4 * weights > max(KEPT_BYTES, 4 * maps)

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
                if self.pays_by_winograd(g) or self.rows_by_winograd(g):
                    return False
                if g.groups > 1 or group.sources[1:] == (index,):
                    return False
            elif group.operation != "linear":
                return False
        return bool(self.readers.get(index))

    def halo(self, index: int) -> Halo:
        """Padding of a node's output that convolutions read, also after operations that rename."""
        halo = NO_HALO
        for reader in self.readers.get(index, []):
            if reader.operation == "conv2d" and reader.source == index:
                halo = union(halo, self._convolution_halo(self.geometry(reader.node)))
            elif reader.operation == "conv_transpose2d":
                halo = union(halo, self.geometry(reader.node).gradient_halo())
            elif OPERATIONS[reader.operation].renames and reader.operation not in COPIED:
                halo = union(halo, self.halo(reader.target))
        return halo

    def _convolution_halo(self, g: ConvGeometry) -> Halo:
        """Padding of its input that a convolution reads."""
        transform, divided = transform_of(g), self.rows_by_winograd(g)
        if divided:
            return along_rows.halo(g, divided)
        if transform is None or not self.pays_by_winograd(g):
            return g.input_halo()
        return tile_halo(g, transform)
