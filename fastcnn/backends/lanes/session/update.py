"""The update at the end of a step: its parts of the parameters, divided among threads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernel_table import FOLLOWING, update_record
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels import optimizers as K
from fastcnn.backends.lanes.kernels.linear import K_SUM_PLACES
from fastcnn.backends.lanes.kernels.linear_gradients import K_OUTER, outer_tiles
from fastcnn.backends.lanes.lowering.linear import update_may_follow
from fastcnn.backends.lanes.planning.buffers import LANES
from fastcnn.errors import ConfigurationError, ShapeError


@dataclass(frozen=True)
class UpdatePart:
    """A range of the parameters with one update."""

    #: Its first and last + 1 parameter.
    first: int
    end: int
    #: Name of the update.
    kernel: str
    #: Settings of its formula.
    numbers: tuple[float, ...] = ()
    #: Factor of the learning rate.
    factor: float = 1.0
    #: Coupled weight decay, added to the gradient, and decoupled, subtracted from the parameters.
    decay: float = 0.0
    decoupled: float = 0.0
    #: Number of steps before its first one.
    began: int = 0
    #: Rows and columns, if the update is of a whole matrix.
    shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class Units:
    """The division of an update among a number of threads."""

    #: ndarray of int64. For each unit its first and last + 1 parameter, and its row of settings.
    spans: np.ndarray
    #: ndarray of int64. The thread of each unit.
    owners: np.ndarray
    #: The update of each unit.
    kernels: list[str]
    #: The program's rows; those of gradients that their update follows have these units.
    rows: np.ndarray
    #: By index of such a row, the kernel that computes both.
    following: dict[int, str]
    #: Number of partial sums of the gradient's norm.
    squares: int


def slot_stride(size: int) -> int:
    """Floats from one slot of some parameters to the next."""
    return -(-size // LANES) * LANES


class Update:
    """The updates of all trained parameters, with the memory of their state.

    Parameters
    ----------
    parts : sequence of UpdatePart
        In the order of the parameters.
    state : ndarray of float32, shape (slots, stride)
        State of each parameter; a kernel's slots are the first rows.
    limit : float
        Maximum norm of the gradient; 0 for no limit.
    """

    def __init__(self, parts: Sequence[UpdatePart], state: np.ndarray, limit: float = 0.0) -> None:
        self.parts = tuple(parts)
        self.state = state
        self.limit = limit
        self.settings = np.zeros((len(self.parts), K.SETTINGS))
        self.kernels = tuple(dict.fromkeys(part.kernel for part in self.parts))
        records = [update_record(part.kernel) for part in self.parts]
        room = 0
        for part, record in zip(self.parts, records, strict=True):
            if record is not None and record.scratch is not None and part.shape is not None:
                room = max(room, record.scratch(*part.shape))
        for row, part in zip(self.settings, self.parts, strict=True):
            row[: len(part.numbers)] = part.numbers
            row[K.FACTOR :] = part.factor, part.decay, part.decoupled, part.began, room
        #: Floats of each thread's scratch.
        self.room = room

    def check(self, size: int) -> None:
        """Refuse updates that would leave their arrays; ``size`` is the number of parameters.

        Raises ConfigurationError if an update does not exist, or a part is outside the parameters;
        ShapeError if the state is too small.
        """
        end = 0
        for part in self.parts:
            record = update_record(part.kernel)
            if record is None or len(part.numbers) > K.FACTOR:
                raise ConfigurationError(f"the engine has no update called {part.kernel!r}")
            if not end <= part.first <= part.end <= size:
                raise ConfigurationError(
                    f"{part.kernel}: parameters {part.first} to {part.end} of {size}, after {end}"
                )
            end = part.end
            rows, columns = part.shape or (0, 0)
            whole = record.scratch is not None
            if whole and (rows < 1 or columns < 1 or rows * columns != part.end - part.first):
                raise ConfigurationError(
                    f"{part.kernel}: a matrix of shape {part.shape} of {part.end - part.first} "
                    "parameters"
                )
            state, wanted = self.state, (record.slots, slot_stride(size))
            fits = state.ndim == 2 and state.shape[0] >= wanted[0] and state.shape[1] == wanted[1]
            if record.slots and not (fits and state.dtype == np.float32 and state.flags.carray):
                raise ShapeError(
                    f"{part.kernel}: the state must be {wanted} float32, got {state.shape} "
                    f"{state.dtype}"
                )

    def units(self, threads: int, places: Any, size: int, rows: np.ndarray) -> Units:
        """The units of work, and the thread of each.

        A thread has the same share of each parameter as in its gradient and in the forward product:
        reading what another core wrote takes longer than the arithmetic. A whole matrix goes to the
        thread with the fewest.

        ``places`` has the offset and shape of parameters, and the groups of inputs that are divided
        among threads; ``size`` is the number of all parameters. Updates may directly follow weight
        gradients computed by the program's ``rows``.
        """
        starts, nearest = _pieces(threads, places, size)
        ends = np.append(starts[1:], size)
        spans: list[tuple[int, int, int]] = []
        owners: list[int] = []
        kernels: list[str] = []
        load = [0.0] * threads
        following = self._following(rows)
        done = sorted((first, end) for first, end, _ in following.values())
        for row, part in enumerate(self.parts):
            if part.shape is not None:
                owner = load.index(min(load))
                load[owner] += min(part.shape) * (part.end - part.first)
                pieces = [(part.first, part.end, owner)]
            else:
                pieces = []
                for first, end in _without(done, part.first, part.end):
                    inside = slice(np.searchsorted(ends, first, "right"),
                                   np.searchsorted(starts, end))  # fmt: skip
                    here = np.maximum(starts[inside], first), np.minimum(ends[inside], end)
                    pieces += zip(*(a.tolist() for a in (*here, nearest[inside])), strict=True)
            for first, end, owner in pieces:
                if first < end:
                    spans.append((first, end, row))
                    owners.append(owner)
                    kernels.append(part.kernel)
        rows, squares = rows.copy(), len(spans)
        names = {}
        for index, (_, _, number) in following.items():
            rows[index, L.KEY], rows[index, L.SCALE] = number, squares
            squares += outer_tiles(rows[index])
            names[index] = FOLLOWING + self.parts[number].kernel
        flat = np.array(spans, np.int64).reshape(-1)
        return Units(flat, np.array(owners, np.int64), kernels, rows, names, squares)

    def _following(self, rows: np.ndarray) -> dict[int, tuple[int, int, int]]:
        """By index of a weight-gradient row that an update may follow: the weights, and their part.

        Not for few weights, nor for the gradient of one of several uses.
        """
        several = rows[rows[:, L.KERNEL] == K_SUM_PLACES, L.W]
        found = {}
        for index in np.flatnonzero(rows[:, L.KERNEL] == K_OUTER):
            first, count = int(rows[index, L.W]), int(rows[index, L.IN] * rows[index, L.OUT])
            end = first + count
            if first in several or not update_may_follow(count):
                continue
            for number, part in enumerate(self.parts):
                record = update_record(part.kernel)
                fits = part.first <= first and end <= part.end
                if fits and record is not None and record.step is not None:
                    found[int(index)] = first, end, number
        return found


def _without(ranges: Iterable[tuple[int, int]], first: int, end: int) -> Iterator[tuple[int, int]]:
    """What remains of a range without others, given in order."""
    for begin, stop in ranges:
        if first <= begin and stop <= end:
            yield first, begin
            first = stop
    yield first, end


def _pieces(threads: int, places: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts of the pieces of parameters, the same for any number of threads; and their threads."""
    starts = np.arange(0, size, K.UNIT)
    nearest = np.zeros(len(starts), np.int64)
    for offset, shape, groups in places:
        count = int(np.prod(shape))
        inside = (starts >= offset) & (starts < offset + count)
        if groups == 1:
            middle = np.minimum(starts[inside] + K.UNIT // 2, offset + count - 1) - offset
            nearest[inside] = middle * threads // count
            continue
        rows, columns = shape
        vectors = -(-columns // LANES)
        parts = np.arange(groups)
        first = offset + np.arange(rows)[:, None] * columns + vectors * parts // groups * LANES
        owners = np.broadcast_to((2 * parts + 1) * threads // (2 * groups), first.shape)
        after = [offset + count] if offset + count < size else []
        # What follows, up to the next piece, belongs to the next parameter.
        starts = np.concatenate([starts[~inside], first.ravel(), after]).astype(np.int64)
        nearest = np.concatenate([nearest[~inside], owners.ravel(), [0] * len(after)])
        starts, kept = np.unique(starts, return_index=True)
        nearest = nearest[kept].astype(np.int64)
    return starts, nearest
