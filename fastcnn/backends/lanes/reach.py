"""How far each kernel's rows reach, and the check that a program stays inside its arrays.

Kernels check nothing: an address is a sum of a row's columns and entries of tables. Here each
kernel says which sums it makes, as ranges; a program is checked once, before its first run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.buffers import LANES
from fastcnn.backends.lanes.conv_kernels import CHUNK, SCRATCH, SUM_ROW
from fastcnn.backends.lanes.winograd import OUTPUTS, STAGGER, points
from fastcnn.backends.lanes.winograd1d import WIDTHS, Strip
from fastcnn.backends.lanes.winograd1d_kernels import OVERSHOOT
from fastcnn.backends.lanes.winograd2d_kernels import PRODUCTS, SIDE
from fastcnn.errors import ProgramError

#: Positions after a row's last that a register tile may touch, and taps that it may look up.
MORE_POSITIONS, MORE_TAPS = 7, 15
#: A block's rows run before another's: numbers above would overflow the kernels' arithmetic.
LARGEST = 2**46


@dataclass(frozen=True)
class Range:
    """Offsets from ``low`` to ``high``, both included; none if ``low`` is above ``high``."""

    low: int
    high: int

    def __add__(self, other: "Range | int") -> "Range":
        if isinstance(other, int):
            return Range(self.low + other, self.high + other)
        if self.is_empty or other.is_empty:
            return NOTHING
        return Range(self.low + other.low, self.high + other.high)

    @property
    def is_empty(self) -> bool:
        """Whether there is no offset."""
        return self.low > self.high


NOTHING = Range(0, -1)


@dataclass(frozen=True)
class Touch:
    """Offsets at which a kernel touches ``floats`` floats of an array."""

    array: str
    what: str
    offsets: Range
    floats: int = LANES


class Reach:
    """A program row, and the ranges that its columns make.

    Raises
    ------
    ProgramError
        By its methods, if a table does not have the entries that are asked for, or a number of
        things is negative.
    """

    def __init__(self, row: np.ndarray, tables: np.ndarray, blocks: int, workers: int) -> None:
        self._row = row.tolist()
        self._tables = tables
        self._blocks = blocks
        self._workers = workers

    def __getitem__(self, column: int) -> int:
        return self._row[column]

    def count(self, column: int, least: int = 0) -> int:
        """A number of things."""
        if not least <= self[column] <= LARGEST:
            raise ProgramError(f"column {_NAMES[column]} is {self[column]}")
        return self[column]

    def among(self, column: int, known: tuple[int, ...]) -> int:
        """One of some numbers."""
        if self[column] not in known:
            raise ProgramError(f"column {_NAMES[column]} is {self[column]}, not one of {known}")
        return self[column]

    def along(self, count: int, step: int) -> Range:
        """``step * i`` for ``count`` values of i."""
        if count <= 0:
            return NOTHING
        last = (count - 1) * step
        return Range(min(0, last), max(0, last))

    def entries(self, column: int, count: int) -> Range:
        """The smallest and the largest of a table's first entries."""
        found = self.table(column, count)
        return Range(int(found.min()), int(found.max())) if found.size else NOTHING

    def table(self, column: int, count: int) -> np.ndarray:
        """A table's first entries."""
        first = self[column]
        if count < 0 or (count and not 0 <= first <= len(self._tables) - count):
            raise ProgramError(
                f"{count} entries of {_NAMES[column]} from {first} on are not in tables of "
                f"{len(self._tables)}"
            )
        return self._tables[first : first + count]

    def blocks(self, place: int, step: int) -> Range:
        """A place of each block."""
        return self.along(self._blocks, self[step]) + self[place]

    def workers(self, place: int, step: int) -> Range:
        """A place of each thread."""
        return self.along(self._workers, self[step]) + self[place]

    def buffer(self, place: int) -> Range:
        """A place of X, Y, M or Z, whose block and slot strides follow it."""
        return self.blocks(place, place + 1) + self.along(self._workers, self[place + 2])


Touches = Iterator[Touch]


def _arena(what: str, offsets: Range, floats: int = LANES) -> Touch:
    return Touch("arena", what, offsets, floats)


def _parameters(what: str, offsets: Range, floats: int = 1) -> Touch:
    return Touch("parameters", what, offsets, floats)


def _gradient(what: str, offsets: Range, floats: int = 1) -> Touch:
    return Touch("gradient", what, offsets, floats)


def _optional(r: Reach, column: int, count: int) -> Range:
    """Numbers at a place, or none where it is negative."""
    return r.along(count, 1) + r[column] if r[column] >= 0 else NOTHING


def _bias(r: Reach, count: int) -> Touches:
    """Biases; tiles without read the first parameter, and forget it."""
    yield _parameters("BIAS", _optional(r, L.BIAS, count) if r[L.BIAS] >= 0 else Range(0, 0))


def _pack(r: Reach) -> Touches:
    count = r.count(L.TAPS)
    source = r.entries(L.TAP_TABLE, count)
    yield _arena("W", r.along(count, 1) + r[L.W], 1)
    yield _parameters("TAP_TABLE", Range(max(source.low, 0), source.high))


def _convolution(r: Reach) -> Touches:
    groups, channels, taps, positions = (
        r.count(column) for column in (L.GROUPS, L.CHANNELS, L.TAPS, L.POSITIONS)
    )
    outputs, pooled = groups * channels, r[L.MODE] == L.POOLED
    if not outputs * positions:
        return
    if r[L.IN] > 0:
        # What is asked for beforehand may lie anywhere; its tables must not.
        r.table(L.X_TABLE, positions + LANES - 1)
        r.table(L.EXTRA, r.count(L.IN))
    taken = r.entries(L.X_TABLE, positions + MORE_POSITIONS)
    given = positions // 4 + 1 if pooled else positions + MORE_POSITIONS
    targets = r.along(outputs, r[L.Y_CHANNEL]) + r.entries(L.Y_TABLE, given)
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP])
    yield _arena("X", x + taken + r.entries(L.TAP_TABLE, taps))
    yield _arena("Y", r.buffer(L.Y) + targets)
    if pooled:
        yield _arena("M", r.buffer(L.M) + targets)
    yield _arena("W", r.along(outputs * taps, 1) + r[L.W], 1)
    yield from _bias(r, outputs)


def _weight_gradient(r: Reach) -> Touches:
    groups, channels, taps, positions = (
        r.count(column) for column in (L.GROUPS, L.CHANNELS, L.TAPS, L.POSITIONS)
    )
    outputs = groups * channels
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP])
    x += r.entries(L.X_TABLE, positions) + r.entries(L.TAP_TABLE, taps + MORE_TAPS)
    each, scratch = r.along(outputs, r[L.Y_CHANNEL]), r.workers(L.M, L.M_SLOT)
    out = r.blocks(L.EXTRA, L.EXTRA_BLOCK)
    yield _arena("X", x)
    yield _arena("M", scratch, SCRATCH)
    yield _arena("EXTRA", out + r.along(outputs * taps, 1), 1)
    if r[L.MODE] != L.POOLED:
        yield _arena("Y", r.buffer(L.Y) + each + r.entries(L.Y_TABLE, positions))
        return
    windows = each + r.entries(L.Y_TABLE, positions // 4)
    yield _arena("Y", r.buffer(L.Y) + windows)
    yield _arena("Z", r.buffer(L.Z) + windows)
    chunk = r.entries(L.M_TABLE, positions)
    if not 0 <= chunk.low <= chunk.high <= (CHUNK - 1) * LANES:
        raise ProgramError(f"M_TABLE has places from {chunk.low} to {chunk.high} of a chunk")
    if r[L.BIAS] >= 0:
        yield _arena("BIAS", out + r[L.BIAS] + r.along(outputs, 1), 1)


def _bias_gradient(r: Reach) -> Touches:
    channels, positions = r.count(L.CHANNELS), r.count(L.POSITIONS)
    each = r.along(channels, r[L.Y_CHANNEL]) + r.entries(L.Y_TABLE, positions)
    yield _arena("Y", r.buffer(L.Y) + each)
    yield _arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(channels, 1), 1)


def _channels(r: Reach, place: int, step: int, entries: Range) -> Range:
    """Some places of each channel of a buffer."""
    return r.buffer(place) + r.along(r.count(L.CHANNELS), r[step]) + entries


def _max_pool(r: Reach) -> Touches:
    positions = r.count(L.POSITIONS)
    windows = r.entries(L.TAP_TABLE, positions * r.count(L.TAPS, 1))
    yield _arena("X", _channels(r, L.X, L.X_CHANNEL, windows))
    for place, what in ((L.Y, "Y"), (L.M, "M")):
        outputs = r.entries(L.Y_TABLE, positions)
        yield _arena(what, _channels(r, place, L.Y_CHANNEL, outputs))


def _cleared(r: Reach) -> Touches:
    """Pixels of X that are set to zero first."""
    inputs = r.entries(L.X_TABLE, r.count(L.IN))
    yield _arena("X", _channels(r, L.X, L.X_CHANNEL, inputs))


def _max_pool_backward(r: Reach) -> Touches:
    yield from _max_pool(r)
    yield from _cleared(r)


def _avg_pool(r: Reach) -> Touches:
    positions, width = r.count(L.POSITIONS), r.count(L.TAPS) + 1
    windows = r.table(L.TAP_TABLE, positions * width).reshape(-1, width)
    if not windows.size:
        return
    if windows[:, 0].max() >= width:
        raise ProgramError("TAP_TABLE has a window of more pixels than TAPS")
    inside = windows[:, 1:][np.arange(1, width) <= windows[:, :1]]
    if inside.size:
        pixels = Range(int(inside.min()), int(inside.max()))
        yield _arena("X", _channels(r, L.X, L.X_CHANNEL, pixels))
    outputs = r.entries(L.Y_TABLE, positions)
    yield _arena("Y", _channels(r, L.Y, L.Y_CHANNEL, outputs))
    yield _arena("SCALE", r.along(positions, 1) + r[L.SCALE], 1)


def _avg_pool_backward(r: Reach) -> Touches:
    yield from _avg_pool(r)
    yield from _cleared(r)


def _unpool(r: Reach) -> Touches:
    positions = r.count(L.POSITIONS)
    pixels, outputs = r.entries(L.X_TABLE, 4 * positions), r.entries(L.Y_TABLE, positions)
    yield _arena("X", _channels(r, L.X, L.X_CHANNEL, pixels))
    yield _arena("Y", _channels(r, L.Y, L.Y_CHANNEL, outputs))
    yield _arena("M", _channels(r, L.M, L.Y_CHANNEL, outputs))
    sums = r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(r[L.CHANNELS], 1)
    yield _arena("EXTRA", sums, 1)


def _elements(*names: str, numbers: int = 0) -> Callable[[Reach], Touches]:
    """Vectors of some buffers at the same elements, in runs that follow each other in memory."""

    def touches(r: Reach) -> Touches:
        positions = r.count(L.POSITIONS, 1)
        places = {name: r.table(getattr(L, f"{name}_TABLE"), positions) for name in names}
        run = min(_following(table) for table in places.values())
        left = np.arange(positions) % run
        for name, table in places.items():
            # From any element to the end of its run.
            ends = table + (run - 1 - left) * LANES
            reached = Range(int(table.min()), max(int(table.max()), int(ends.max())))
            place, step = getattr(L, name), getattr(L, f"{name}_CHANNEL")
            yield _arena(name, _channels(r, place, step, reached))
        if numbers:
            yield _arena("SCALE", Range(r[L.SCALE], r[L.SCALE]), numbers)

    return touches


def _learned(r: Reach) -> Touches:
    """A parameter of each channel, or of all."""
    each = r.along(r.count(L.CHANNELS), r.among(L.MODE, (0, 1)))
    yield _parameters("W", each + r[L.W])


def formula_reach(what: str, is_learned: bool, numbers: int) -> Callable[[Reach], Touches]:
    """That of an element-wise operation's kernel; see formula_table.py.

    Parameters
    ----------
    what : {"value", "gradient", "parameter"}
    is_learned : bool
        Whether the operation has a parameter.
    numbers : int
        That it reads at SCALE.
    """
    names = {"value": "XY", "gradient": "XYM", "parameter": "YM"}[what]
    elements = _elements(*names, numbers=numbers)

    def touches(r: Reach) -> Touches:
        yield from elements(r)
        if is_learned:
            yield from _learned(r)
        if what == "parameter":
            sums = r.along(r[L.CHANNELS] if r[L.MODE] else 1, 1)
            yield _arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + sums, 1)

    return touches


def _following(table: np.ndarray) -> int:
    """Entries at the beginning of a table that are a vector apart, as the kernels count them."""
    breaks = np.flatnonzero(np.diff(table) != LANES)
    if table[-1] - table[0] == (len(table) - 1) * LANES or not breaks.size:
        return len(table)
    return int(breaks[0]) + 1


def _linear(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.OUT)
    yield _arena("X", r.blocks(L.X, L.X_BLOCK) + r.along(inputs, LANES))
    yield _arena("Y", r.blocks(L.Y, L.Y_BLOCK) + r.along(outputs, LANES))
    yield _parameters("W", r.along(inputs * outputs, 1) + r[L.W])
    yield from _bias(r, outputs)


def _transpose(r: Reach) -> Touches:
    tiles = -(-r.count(L.IN) // LANES)
    samples = r.along(LANES, r[L.OUT])
    yield _arena("X", r.blocks(L.X, L.X_BLOCK) + r.along(tiles * LANES, LANES))
    blocks = r.blocks(L.OUT, L.OUT) + -r[L.OUT]
    rows = Range(LANES * blocks.low, LANES * blocks.high) + samples
    yield _arena("Y", rows + r[L.Y] + r.along(tiles, LANES))


def _outer(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.OUT)
    blocks = r.blocks(L.EXTRA, L.EXTRA) + -r[L.EXTRA]
    rows = Range(LANES * blocks.low, LANES * blocks.high) + r.along(LANES, r[L.EXTRA])
    yield _arena("X", rows + r[L.X] + r.along(-(-inputs // LANES), LANES))
    yield _arena("Y", r.blocks(L.Y, L.Y_BLOCK) + r.along(outputs, LANES))
    yield _arena("M", r.workers(L.M, L.M_SLOT), 4 * LANES)
    yield _gradient("W", r.along(inputs * outputs, 1) + r[L.W])


def _linear_bias_gradient(r: Reach) -> Touches:
    outputs = r.count(L.OUT)
    yield _arena("Y", r.blocks(L.Y, L.Y_BLOCK) + r.along(outputs, LANES))
    yield _gradient("BIAS", r.along(outputs, 1) + r[L.BIAS])


def _loss(r: Reach) -> Touches:
    outputs = r.along(r.count(L.IN, 1), LANES)
    yield _arena("X", r.blocks(L.X, L.X_BLOCK) + outputs)
    yield _arena("Y", r.blocks(L.Y, L.Y_BLOCK) + outputs)
    yield _arena("SCALE", Range(r[L.SCALE], r[L.SCALE]), 1)


def _reduce(r: Reach) -> Touches:
    sums = r.along(r.count(L.OUT), 1)
    yield _arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + sums, 1)
    yield _gradient("W", sums + r[L.W])


def _output(r: Reach) -> Touches:
    elements = r.entries(L.X_TABLE, r.count(L.IN, 1))
    yield _arena("X", r.blocks(L.X, L.X_BLOCK) + elements)


def _factors(r: Reach) -> Touches:
    """Factor and summand of each channel."""
    yield _arena("SCALE", r.along(2 * r.count(L.OUT, 1), 1) + r[L.SCALE], 1)


def _input(r: Reach) -> Touches:
    yield from _factors(r)
    yield _arena("Y", r.buffer(L.Y) + r.entries(L.X_TABLE, r.count(L.IN, 1)))


def _image(r: Reach) -> Touches:
    yield from _factors(r)
    yield _arena("Y", r.entries(L.X_TABLE, r.count(L.IN, 1)) + r[L.Y], 1)


def _singles(r: Reach, place: int, step: int, table: int) -> Range:
    """Single floats of each channel."""
    places = r.entries(table, r.count(L.POSITIONS))
    return r.along(r.count(L.CHANNELS), r[step]) + places + r[place]


def _clear(r: Reach) -> Touches:
    yield _arena("Y", _singles(r, L.Y, L.Y_CHANNEL, L.Y_TABLE), 1)


def _gather(r: Reach) -> Touches:
    yield _arena("X", _singles(r, L.X, L.X_CHANNEL, L.X_TABLE), 1)
    yield from _clear(r)


def _matrix_vector(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.OUT)
    yield _arena("X", r.along(inputs, 1) + r[L.X], 1)
    yield _arena("Y", r.along(outputs, 1) + r[L.Y], 1)
    yield _parameters("W", r.along(inputs * outputs, 1) + r[L.W])
    yield _parameters("BIAS", _optional(r, L.BIAS, outputs))


def _normalisation(
    *names: str, values: int = 0, sums: bool = False, learned: Callable[..., Touch] | None = None
) -> Callable[[Reach], Touches]:
    """Vectors of buffers at the same elements; numbers of each channel at BATCH, W and BIAS."""

    def touches(r: Reach) -> Touches:
        channels = r.count(L.CHANNELS)
        for name in names:
            places = r.entries(getattr(L, f"{name}_TABLE"), r.count(L.POSITIONS, 1))
            place, step = getattr(L, name), getattr(L, f"{name}_CHANNEL")
            yield _arena(name, _channels(r, place, step, places))
        if values:
            yield _arena("BATCH", r.along(values * channels, 1) + r[L.BATCH], 1)
        if sums:
            each = r.along(2 * channels, 1)
            yield _arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + each, 1)
        if learned is not None:
            yield learned("W", _optional(r, L.W, channels))
            yield learned("BIAS", _optional(r, L.BIAS, channels))

    return touches


def _statistics(r: Reach) -> Touches:
    frozen = r.among(L.MODE, (L.OF_BATCH, L.FROZEN)) == L.FROZEN
    r.count(L.POSITIONS, 1)
    yield from _normalisation(values=4, sums=not frozen, learned=_parameters)(r)
    yield _arena("SCALE", Range(r[L.SCALE], r[L.SCALE]), 2)
    running = 2 * r[L.CHANNELS]
    if frozen:
        yield _arena("RUNNING", r.along(running, 1) + r[L.RUNNING], 1)
    else:
        yield _arena("RUNNING", _optional(r, L.RUNNING, running), 1)


def _winograd2d_weights(r: Reach) -> Touches:
    units = -(-r.count(L.IN) // LANES)
    kernels = r.entries(L.TAP_TABLE, units * LANES)
    yield _parameters("TAP_TABLE", kernels + r.along(9, r.among(L.MODE, (1, -1))))
    yield _arena("W", r.along(PRODUCTS, r[L.OUT]) + r.along(units, LANES) + r[L.W])


def _tiles(r: Reach, place: int, row: int, table: int, side: int) -> Range:
    """Square tiles of maps; a tile's corner is an entry of a table."""
    tile = r.along(side, r[row]) + r.along(side, LANES)
    return r.buffer(place) + r.entries(table, r.count(L.POSITIONS)) + tile


def _winograd2d(r: Reach) -> Touches:
    inputs, outputs, strip, tiles = (
        r.count(L.IN), r.count(L.CHANNELS), r.count(L.TAPS, 1), r.count(L.POSITIONS)
    )  # fmt: skip
    each = strip * LANES
    from_step, to_step = inputs * each + STAGGER, outputs * each + STAGGER
    scratch = PRODUCTS * (from_step + to_step)
    inside = r.entries(L.M_TABLE, min(strip, tiles) + MORE_POSITIONS)
    _within("M_TABLE", inside + r.along(outputs, each), to_step)
    _within("TAP_TABLE", inside + r.entries(L.TAP_TABLE, inputs), from_step)
    x = _tiles(r, L.X, L.X_ROW, L.X_TABLE, SIDE) + r.along(inputs, r[L.X_CHANNEL])
    yield _arena("X", x)
    yield _arena("Z", r.workers(L.Z, L.Z_SLOT), scratch + LANES)
    yield _arena("W", r.along(PRODUCTS, r[L.OUT]) + r[L.W], inputs * outputs)
    pooled = r[L.MODE] == L.POOLED
    sizes = r.table(L.STRIP_TABLE, 2 * tiles).reshape(-1, 2).astype(np.int64)
    sizes = sizes.clip(0, OUTPUTS // 2 if pooled else OUTPUTS)
    corners = r.table(L.Y_TABLE, tiles).astype(np.int64)[(sizes > 0).all(axis=1)]
    for name, place in (("Y", L.Y), ("M", L.M))[: 2 if pooled else 1]:
        written = r.buffer(place) + r.along(outputs, r[L.Y_CHANNEL])
        for rows, columns in {tuple(size) for size in sizes.tolist()}:
            tile = r.along(rows, r[L.Y_ROW]) + r.along(columns, LANES)
            found = corners[(sizes[(sizes > 0).all(axis=1)] == (rows, columns)).all(axis=1)]
            if found.size:
                corner = Range(int(found.min()), int(found.max()))
                yield _arena(name, written + corner + tile)
    yield from _bias(r, outputs)


def _within(what: str, offsets: Range, size: int, floats: int = LANES) -> None:
    """Refuse offsets that leave their part of a thread's scratch."""
    if not offsets.is_empty and not 0 <= offsets.low <= offsets.high <= size - floats:
        raise ProgramError(
            f"{what} reaches from {offsets.low} to {offsets.high + floats} of {size} floats of "
            "scratch"
        )


def _winograd2d_gradient(r: Reach) -> Touches:
    inputs, outputs, strip, rows = (
        r.count(L.IN), r.count(L.CHANNELS), r.count(L.TAPS, 1), r.count(L.GROUPS, 1)
    )  # fmt: skip
    if inputs % LANES or outputs % 8:
        raise ProgramError(f"transformed gradients of {inputs} by {outputs} channels")
    x = _tiles(r, L.X, L.X_ROW, L.X_TABLE, SIDE) + r.along(inputs, r[L.X_CHANNEL])
    y = _tiles(r, L.Y, L.Y_ROW, L.Y_TABLE, OUTPUTS) + r.along(outputs, r[L.Y_CHANNEL])
    transforms = strip * LANES * (inputs + outputs) + 2 * STAGGER + LANES * LANES
    yield _arena("X", x)
    yield _arena("Y", y)
    yield _arena("Z", r.workers(L.Z, L.Z_SLOT), rows * SIDE * transforms)
    sums = r.workers(L.EXTRA, L.EXTRA_BLOCK) + r.along(PRODUCTS, r[L.OUT])
    yield _arena("EXTRA", sums, inputs * outputs)


def _winograd2d_weight_gradient(r: Reach) -> Touches:
    kernels = r.count(L.IN) // LANES * LANES
    if kernels:
        products = r.workers(L.X, L.X_SLOT) + r.along(PRODUCTS, r[L.OUT])
        yield _arena("X", products, kernels)
        weights = r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(9, r[L.IN])
        yield _arena("EXTRA", weights, kernels)


def _winograd2d_reduce(r: Reach) -> Touches:
    kernels = r.count(L.IN) // LANES * LANES
    if kernels:
        weights = r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(9, r[L.IN])
        yield _arena("EXTRA", weights, kernels)
        yield _arena("Z", r.workers(L.Z, L.Z_SLOT), 9 * LANES)
        yield _gradient("W", r.along(9 * kernels, 1) + r[L.W])


def _winograd1d_weights(r: Reach) -> Touches:
    width, units = r.among(L.TAPS, WIDTHS), -(-r.count(L.IN) // LANES)
    rows = r.entries(L.TAP_TABLE, units * LANES)
    yield _parameters("TAP_TABLE", rows + r.along(width, 1))
    yield _arena("W", r.along(points(width), r[L.OUT]) + r.along(units, LANES) + r[L.W])


def _strips(r: Reach) -> np.ndarray:
    """The table of strips, a row for each."""
    width = len(Strip._fields)
    found = r.table(L.STRIP_TABLE, width * r.count(L.POSITIONS)).reshape(-1, width)
    rows, low, high = found[:, 1:4].T
    height = r.count(L.KERNEL_ROWS, 1)
    if (found < 0).any() or (rows > r[L.STRIP_ROWS]).any() or (high > height).any() or (
        (low > high).any()
    ):  # fmt: skip
        raise ProgramError("STRIP_TABLE has strips outside of their sizes")
    return found.astype(np.int64)


def _rows_of_maps(r: Reach, place: int, row: int, rows: int, pixels: int) -> Range:
    """Some rows of tiles of maps, each of ``pixels`` pixels, four of them a tile's own."""
    along = r.along(r.count(L.GROUPS, 1), OUTPUTS * LANES) + r.along(pixels, LANES)
    return r.buffer(place) + r.along(rows, r[row]) + along


def _winograd1d(back: bool) -> Callable[[Reach], Touches]:
    def touches(r: Reach) -> Touches:
        width = r.among(L.TAPS, WIDTHS)
        inputs, outputs, height = r.count(L.IN), r.count(L.CHANNELS), r.count(L.KERNEL_ROWS, 1)
        tiles, most, parts = r.count(L.GROUPS, 1), r.count(L.STRIP_ROWS, 1), points(width)
        found = _strips(r)
        if not len(found):
            return
        row = tiles * LANES
        from_each, to_each = (most + height - 1) * row, (most * tiles + OVERSHOOT) * LANES
        from_step, to_step = inputs * from_each + STAGGER, outputs * to_each + STAGGER
        first, rows, low, high, window = found.T
        # Rows of a window are transformed once: from its first strip's first to its last one's.
        source, end = first + low - r[L.TOP], first + rows + high - 1 - r[L.TOP]
        begins = np.array([source[window == number][0] for number in window.tolist()])
        shift, deep = source - begins, end - begins
        if shift.min() < 0 or deep.max() > most + height - 1:
            raise ProgramError("STRIP_TABLE has a window of strips that its room does not hold")
        for strip in set(zip(rows.tolist(), (high - low).tolist(), shift.tolist(), strict=True)):
            inside = r.entries(L.M_TABLE, strip[0] * tiles + MORE_POSITIONS) + strip[2] * row
            # A tile may read what follows a point's transforms, and forgets it.
            room = from_step + parts * to_step
            _within("TAP_TABLE", inside + r.entries(L.TAP_TABLE, strip[1] * inputs), room)
        given = r.entries(L.M_TABLE, int(rows.max()) * tiles + MORE_POSITIONS)
        _within("M_TABLE", given + r.along(outputs, to_each), to_step)
        x = _rows_of_maps(r, L.X, L.X_ROW, r.count(L.X_ROWS), OUTPUTS if back else parts)
        yield _arena("X", x + r.along(inputs, r[L.X_CHANNEL]))
        yield _arena("Z", r.workers(L.Z, L.Z_SLOT), parts * (from_step + to_step) + LANES)
        yield _arena("W", r.along(parts, r[L.OUT]) + r[L.W], outputs * inputs * height)
        pooled = r[L.MODE] == L.POOLED and not back
        size, last = r.count(L.Y_WIDTH), int((first + rows).max())
        if (pooled and -(-size // 2) > tiles) or (r[L.MODE] == L.POOLED and back):
            raise ProgramError(f"windows of {size} pixels in {tiles} tiles")
        lines = last // 2 if pooled else last
        written = r.along(outputs, r[L.Y_CHANNEL]) + r.along(lines, r[L.Y_ROW])
        written += r.along(size, LANES)
        yield _arena("Y", r.buffer(L.Y) + written)
        if pooled:
            yield _arena("M", r.buffer(L.M) + written)
        if not back:
            yield from _bias(r, outputs)

    return touches


def _winograd1d_gradient(r: Reach) -> Touches:
    width = r.among(L.TAPS, WIDTHS)
    inputs, channels, height = r.count(L.IN), r.count(L.CHANNELS), r.count(L.KERNEL_ROWS, 1)
    tiles, most, parts = r.count(L.GROUPS, 1), r.count(L.STRIP_ROWS, 1), points(width)
    found = _strips(r)
    if not len(found):
        return
    row, taps = tiles * LANES, inputs * height
    x_each, d_each = (most + height - 1) * row, most * row
    x_step, d_step = inputs * x_each + STAGGER, channels * d_each + STAGGER
    inside = r.entries(L.M_TABLE, int(found[:, 1].max()) * tiles)
    _within("TAP_TABLE", inside + r.entries(L.TAP_TABLE, taps + MORE_TAPS), x_step)
    _within("M_TABLE", inside + r.along(channels, d_each), d_step)
    x = _rows_of_maps(r, L.X, L.X_ROW, r.count(L.X_ROWS), parts)
    yield _arena("X", x + r.along(inputs, r[L.X_CHANNEL]))
    last = int((found[:, 0] + found[:, 1]).max())
    y = _rows_of_maps(r, L.Y, L.Y_ROW, last, OUTPUTS)
    yield _arena("Y", y + r.along(channels, r[L.Y_CHANNEL]))
    scratch = parts * (x_step + d_step) + 4 * SUM_ROW + LANES
    yield _arena("Z", r.workers(L.Z, L.Z_SLOT), scratch)
    yield _arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK), parts * channels * taps)


def _winograd1d_reduce(r: Reach) -> Touches:
    width, rows = r.among(L.TAPS, WIDTHS), r.count(L.IN)
    whole = -(-rows // LANES) * LANES
    sums = r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(points(width), rows)
    yield _arena("EXTRA", sums, whole)
    yield _arena("Z", r.workers(L.Z, L.Z_SLOT), width * LANES)
    yield _gradient("W", r.along(width * rows, 1) + r[L.W])


#: By the number of a kernel in layout.py: what its rows touch.
REACHES: dict[int, Callable[[Reach], Touches]] = {
    L.K_INPUT: _input,
    L.K_PACK: _pack,
    L.K_CONV: _convolution,
    L.K_WEIGHT_GRADIENT: _weight_gradient,
    L.K_BIAS_GRADIENT: _bias_gradient,
    L.K_MAX_POOL: _max_pool,
    L.K_MAX_POOL_BACKWARD: _max_pool_backward,
    L.K_AVG_POOL: _avg_pool,
    L.K_AVG_POOL_BACKWARD: _avg_pool_backward,
    L.K_UNPOOL: _unpool,
    L.K_COPY: _elements("X", "Y"),
    L.K_DROPOUT: _elements("X", "Y", numbers=1),
    L.K_ADD: _elements("X", "Y", "M"),
    L.K_LINEAR: _linear,
    L.K_LINEAR_BACKWARD: _linear,
    L.K_TRANSPOSE: _transpose,
    L.K_OUTER: _outer,
    L.K_LINEAR_BIAS_GRADIENT: _linear_bias_gradient,
    L.K_CROSS_ENTROPY: _loss,
    L.K_MSE: _loss,
    L.K_REDUCE: _reduce,
    L.K_OUTPUT: _output,
    L.K_OUTPUT_GRADIENT: _input,
    L.K_IMAGE: _image,
    L.K_GATHER: _gather,
    L.K_CLEAR: _clear,
    L.K_MATRIX_VECTOR: _matrix_vector,
    L.K_NORM_SUMS: _normalisation("X", sums=True),
    L.K_NORM_STATISTICS: _statistics,
    L.K_NORM: _normalisation("X", "Y", values=2),
    L.K_NORM_GRADIENT_SUMS: _normalisation("X", "Y", values=4, sums=True),
    L.K_NORM_GRADIENT_STATISTICS: _normalisation(values=6, sums=True, learned=_gradient),
    L.K_NORM_GRADIENT: _normalisation("X", "Y", "Z", values=6),
    L.K_WINOGRAD2D_WEIGHTS: _winograd2d_weights,
    L.K_WINOGRAD2D: _winograd2d,
    L.K_WINOGRAD2D_GRADIENT: _winograd2d_gradient,
    L.K_WINOGRAD2D_WEIGHT_GRADIENT: _winograd2d_weight_gradient,
    L.K_WINOGRAD2D_REDUCE: _winograd2d_reduce,
    L.K_WINOGRAD1D_WEIGHTS: _winograd1d_weights,
    L.K_WINOGRAD1D: _winograd1d(back=False),
    L.K_WINOGRAD1D_TRANSPOSED: _winograd1d(back=True),
    L.K_WINOGRAD1D_GRADIENT: _winograd1d_gradient,
    L.K_WINOGRAD1D_REDUCE: _winograd1d_reduce,
}

_NAMES = {
    value: name
    for name, value in vars(L).items()
    if name.isupper() and isinstance(value, int) and not name.startswith("K_")
    and name not in ("WIDTH", "PLAIN", "MASKED", "POOLED", "ELEMENTS", "WHOLE_CHANNELS",
                     "OF_BATCH", "FROZEN", "POSITION_PAD", "FIRST_FORMULA")
}  # fmt: skip


def check_row(reach: Reach, touches: Callable[[Reach], Touches], sizes: dict[str, int]) -> None:
    """Refuse a row that touches anything outside of arrays of some sizes.

    Raises
    ------
    ProgramError
    """
    for touch in touches(reach):
        first, last = touch.offsets.low, touch.offsets.high + touch.floats
        if touch.offsets.is_empty or not touch.floats:
            continue
        if first < 0 or last > sizes[touch.array]:
            raise ProgramError(
                f"{touch.what} reaches from {first} to {last} of {touch.array} of "
                f"{sizes[touch.array]} floats"
            )
