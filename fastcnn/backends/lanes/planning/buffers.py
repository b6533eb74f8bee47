"""Buffers: the layout of a network's values in the arena."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

LANES = 16
#: Zero padding stored around a map: above, below, left, right.
Halo = tuple[int, int, int, int]
NO_HALO: Halo = (0, 0, 0, 0)


def lane_blocks(channels: int) -> int:
    """Number of vectors that hold this many channels."""
    return -(-channels // LANES)


def whole(count: int, multiple: int) -> int:
    """Round up to a multiple."""
    return -(-count // multiple) * multiple


@dataclass
class Buffer:
    """One node's output (or its gradient) in lanes: [block][channel][row][column][16]."""

    channels: int
    height: int
    width: int
    halo: Halo
    offset: int = 0
    block: int = 0
    slot: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.height, self.width

    @property
    def pixel(self) -> int:
        """Floats between adjacent pixels of a row."""
        return LANES

    @property
    def row(self) -> int:
        """Floats between rows."""
        return (self.width + self.halo[2] + self.halo[3]) * self.pixel

    @property
    def channel(self) -> int:
        """Floats between channels."""
        return (self.height + self.halo[0] + self.halo[1]) * self.row

    @property
    def size(self) -> int:
        """Floats of one block."""
        return self.channels * self.channel

    def at(self, h: Any, w: Any) -> Any:
        """Offset of a pixel within its channel; may lie in the halo."""
        down, along = np.asarray(h) + self.halo[0], np.asarray(w) + self.halo[2]
        return down * self.row + along * self.pixel

    def pixels(self) -> np.ndarray:
        """Offsets of all pixels within a channel, in row-major order."""
        h, w = np.mgrid[: self.height, : self.width]
        return self.at(h, w).ravel()

    def places(self) -> np.ndarray:
        """Offsets of all elements of a sample, shape (channels, pixels)."""
        channels = np.arange(self.channels)[:, None] * self.channel
        found: np.ndarray = channels + self.pixels()
        return found

    @property
    def elements(self) -> int:
        """Elements of a sample."""
        return self.channels * self.height * self.width

    def reshaped(self, channels: int, height: int, width: int) -> "Buffer":
        """The same memory with another shape of equal size; there must not be a halo."""
        if (channels, height, width) == self.shape:
            return self
        if self.halo != NO_HALO or channels * height * width != self.size // LANES:
            raise ValueError(f"a buffer of {self} has no shape ({channels}, {height}, {width})")
        return replace(self, channels=channels, height=height, width=width)

    def part(self, first: int, channels: int) -> "Buffer":
        """A range of its channels, in the same memory."""
        return replace(self, channels=channels, offset=self.offset + first * self.channel)

    def part_as(self, first: int, shape: tuple[int, ...]) -> "Buffer":
        """A range of its channels, of one element each, as a buffer of another shape."""
        channels, height, width = map_shape(shape)
        part = self.part(first, channels * height * width)
        return part.reshaped(channels, height, width)

    def columns(self, name: str) -> dict[str, int]:
        """The program columns that address this buffer as X, Y or M."""
        return {name: self.offset, f"{name}_block": self.block, f"{name}_slot": self.slot}

    def channel_columns(self, name: str) -> dict[str, int]:
        """The same, and the step from channel to channel."""
        return self.columns(name) | {f"{name}_channel": self.channel}

    def map_columns(self, name: str, down: int = 1) -> dict[str, int]:
        """The same, and the step over ``down`` rows."""
        return self.channel_columns(name) | {f"{name}_row": down * self.row}

    def channels_in(self, lanes: np.ndarray) -> np.ndarray:
        """Offsets of channels, each in a lane, which are counted through all vectors."""
        return lanes // LANES * self.channel + lanes % LANES

    def places_of(self, lanes: np.ndarray) -> np.ndarray:
        """Offsets of all elements of such channels."""
        return (self.channels_in(lanes)[:, None] + self.pixels()).ravel()


def union(a: Halo, b: Halo) -> Halo:
    """The smallest halo that contains both."""
    return (max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


def map_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width of a buffer; inputs other than maps have a channel per element."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (int(np.prod(shape)), 1, 1)


def channels_of(shape: tuple[int, ...]) -> int:
    """Channels of a buffer."""
    return map_shape(shape)[0]
