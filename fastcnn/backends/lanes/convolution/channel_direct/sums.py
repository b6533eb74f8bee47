"""What rows with a channel in each lane share: a sum to lower, and the order of its weights."""

from dataclasses import dataclass, field, replace

import numpy as np

from fastcnn.backends.lanes.convolution.channel_direct.kernels import blocks_of_tile
from fastcnn.backends.lanes.kernels.division import share
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, lane_blocks
from fastcnn.backends.lanes.planning.channel_planner import ChannelPlanner


@dataclass
class Sum:
    """A convolution to lower: products with X, plus ``bias``, plus ``added``, rectified, into Y."""

    #: The name reported by ``describe``.
    name: str
    x: Buffer
    y: Buffer
    weight: np.ndarray
    bias: np.ndarray
    #: 1 for ReLU, ``tiles.RELU6`` for ReLU6.
    relu: int = 0
    added: Buffer | None = None
    #: The lane of each channel of X, counted across all channel blocks.
    lanes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    #: Whether a row processes all samples together; X, Y and the summand then outlive a sample.
    whole: bool = False

    def channels(self) -> np.ndarray:
        """Offset of each channel of X."""
        return self.x.channels_in(self.lanes)

    def columns(self, name: str, buffer: Buffer) -> dict[str, int]:
        """The columns that address X, Y or M; if a row covers all samples, tables address these."""
        return {name: buffer.offset} if self.whole else buffer.columns(name)

    def table(self, planner: ChannelPlanner, buffer: Buffer, places: np.ndarray, pad: int) -> int:
        """A table of offsets in a buffer, of every sample if a row covers all of them."""
        if self.whole:
            places = (np.arange(planner.blocks)[:, None] * buffer.block + places).ravel()
        return planner.table(places, pad)

    def size(self, planner: ChannelPlanner, count: int) -> dict[str, int]:
        """Columns for the positions of a row, of which a sample has ``count``."""
        if self.whole:
            return {"positions": planner.blocks * count, "mode": count}
        return {"positions": count}

    def part(self, block: int, weight: np.ndarray) -> "Sum":
        """The part that computes one block of Y."""
        return replace(
            self,
            y=self.y.part(block, 1),
            weight=weight,
            bias=self.bias[block * LANES : (block + 1) * LANES],
            added=None if self.added is None else self.added.part(block, 1),
        )


def packed(matrix: np.ndarray, packs: int = 1) -> np.ndarray:
    """Weights (outputs, taps) in the order in which tiles read them, outputs padded to blocks.

    With several packs of blocks, no tile spans two of them.
    """
    outputs, taps = matrix.shape
    blocks = lane_blocks(outputs)
    padded = np.zeros((blocks * LANES, taps), np.float32)
    padded[:outputs] = matrix
    parts = []
    for pack in range(packs):
        c, end = share(blocks, pack, packs)
        while c < end:
            rows = blocks_of_tile(end - c)
            parts.append(padded[c * LANES : (c + rows) * LANES].T.ravel())
            c += rows
    return np.concatenate(parts)


def biases(planner: ChannelPlanner, values: np.ndarray, groups: int = 1) -> int:
    """Store biases, each group's padded to whole vectors, and return their offset."""
    each = values.reshape(groups, -1)
    padded = np.zeros((groups, lane_blocks(each.shape[1]) * LANES))
    padded[:, : each.shape[1]] = each
    return planner.weight(padded)
