"""A forward pass as a program, divided into segments for threads, with the memory of its runs."""

import ctypes
import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn.backends.alignment import aligned
from fastcnn.backends.lanes.kernel_table import conductor_sources
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.context import make_contexts
from fastcnn.backends.lanes.kernels.record import KERNELS
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.session import conductor, team
from fastcnn.backends.lanes.session.bell import ring_address
from fastcnn.backends.lanes.session.callers import room
from fastcnn.backends.lanes.session.dispatcher import MANY
from fastcnn.backends.lanes.session.engine import packed
from fastcnn.backends.lanes.session.loading import load_kernels

#: FLOPs of a row per nanosecond, and bytes for blocks that do or do not stay in the cache: measured
#: on a Zen 5, to choose the program and to decide whether threads share a row.
FLOPS_A_NS, BYTES_A_NS, FAR_BYTES_A_NS = 250.0, 110.0, 52.0
#: Bytes of a block that stay in a core's cache.
NEAR = 1 << 20
#: Bytes of a block from which on computing rows wait for memory as well, and the share of their
#: speed that is left; measured on an Emerald Rapids.
DISTANT, DISTANT_SPEED = 4 << 20, 0.8
#: Nanoseconds of a row from which on threads share it.
WORTH_SHARING = 400.0
#: Nanoseconds of a pass from which on threads share it: meeting a helper takes about a microsecond.
WORTH_MEETING = 3_000.0
#: Nanoseconds of a pass up to which the interpreter's lock is held: releasing and reacquiring it
#: takes longer when other threads are running. Up to the second limit, one caller holds it;
#: several, of which each would wait until another has held it for milliseconds, do not.
SHORT, SHORT_ALONE = 15_000.0, 50_000.0
#: Maximum idle memories kept for each program.
KEPT = 4

_FREE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
_HELD = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


class Pass:
    """One program of a network's forward pass, with the resources of its runs.

    Parameters
    ----------
    parameters : ndarray of float32
        Read by its rows.
    arena : ndarray of float32, optional
        Initial contents of the arena, such as packed weights, which runs only read. The first run
        uses it directly, concurrent ones use copies.
    """

    def __init__(
        self,
        program: Program,
        parameters: np.ndarray,
        threads: int,
        group: team.Team | None,
        arena: np.ndarray | None = None,
    ) -> None:
        self.program = program
        self.arena = arena
        self._untaken = [] if arena is None else [arena]
        self.parameters = parameters
        self._threads = threads if group is not None else 1
        self._group = group
        self._order = np.arange(program.batch)
        self._rows = np.ascontiguousarray(program.rows).reshape(-1)
        self._nanoseconds = self._estimates()
        self._segments: dict[int, tuple[np.ndarray, int, float]] = {}
        self._idle: list[_Memory] = []

    @functools.cached_property
    def loaded(self) -> tuple[np.ndarray, Any, Any]:
        """Entries of the rows, and the functions that run the pass without and with Python's lock.

        Compiled and loaded at first use: some passes are only compared with others.
        """
        entries, lead, _, _ = load_kernels(self.program.rows, conductor_sources())
        return entries, _FREE(lead), _HELD(lead)

    def _estimates(self) -> np.ndarray:
        """Nanoseconds of each row: per sample, and for what a run reads in any case."""
        size, found = self.program.samples, []
        one, two = (replace(self.program, batch=n * size).costs() for n in (1, 2))
        for row, first, both in zip(self.program.rows, one, two, strict=True):
            far = first.bytes > NEAR
            speed = _reached(row) * (DISTANT_SPEED if first.bytes > DISTANT else 1.0)
            rates = FLOPS_A_NS * speed, FAR_BYTES_A_NS if far else BYTES_A_NS
            flops, bytes_ = both.flops - first.flops, both.bytes - first.bytes
            each = max(flops / rates[0], bytes_ / rates[1])
            once = max((first.flops - flops) / rates[0], (first.bytes - bytes_) / rates[1])
            found.append((each / size, once))
        return np.array(found)

    def nanoseconds(self, count: int) -> float:
        """Estimated time of a run of some samples on one thread."""
        blocks = -(-count // self.program.samples)
        rows = np.concatenate([np.arange(*phase[:2]) for phase in self.program.phases])
        each, once = self._nanoseconds[rows].sum(axis=0)
        return float(each * blocks * self.program.samples + once)

    def segments(self, blocks: int) -> tuple[np.ndarray, int, float]:
        """The segments of a run of some blocks, how it runs, and its estimated nanoseconds.

        Raises ValueError if the program has no memory for them.
        """
        if blocks not in self._segments:
            if blocks > self.program.blocks:
                raise ValueError(f"{blocks} blocks of a program for {self.program.blocks}")
            time = self.nanoseconds(blocks * self.program.samples)
            threads, how = self._threads, conductor.TOGETHER
            if time < WORTH_MEETING:
                threads, how = 1, conductor.ALONE
            self._segments[blocks] = self._cut(blocks, threads), how, time
        return self._segments[blocks]

    def _cut(self, blocks: int, threads: int) -> np.ndarray:
        found: list[list[int]] = []
        for first, last, whole in self.program.phases:
            if whole:
                found += [self._shared(n, 0, blocks, threads) for n in range(first, last)]
                continue
            for start, end, many in self._runs(int(first), int(last)):
                rounds = blocks - blocks % threads
                if many:
                    each = -(-blocks // threads)
                    units = -(-blocks // each)
                    found.append([start, end, units, conductor.PIECES, 0, blocks, each])
                    continue
                if rounds:
                    found.append([start, end, rounds, conductor.PIECES, 0, rounds, 1])
                for block in range(rounds, blocks):
                    found += [self._shared(n, block, 1, threads) for n in range(start, end)]
        return np.array(_joined(found), np.int64)

    def _runs(self, first: int, last: int) -> list[tuple[int, int, bool]]:
        """Rows of a phase in runs that process one block, or many together."""
        found: list[tuple[int, int, bool]] = []
        for n in range(first, last):
            many = bool(self.loaded[0][n, MANY])
            if found and not many and not found[-1][2]:
                found[-1] = (found[-1][0], n + 1, False)
            else:
                found.append((n, n + 1, many))
        return found

    def _shared(self, n: int, block: int, blocks: int, threads: int) -> list[int]:
        """The segment of a row for which threads divide one or more blocks."""
        each, once = self._nanoseconds[n]
        time = each * blocks * self.program.samples + once
        parts = threads if time > WORTH_SHARING else 1
        return [n, n + 1, parts, conductor.SHARES, block, blocks, 1]

    def run(
        self, images: np.ndarray, outputs: np.ndarray, factors: np.ndarray, place: tuple[int, int]
    ) -> None:
        """Run the pass on some samples.

        ``factors`` are scales and offsets of the input's channels, ``place`` the addresses of
        images and outputs. Raises RuntimeError if a kernel failed.
        """
        segments, how, time = self.segments(-(-len(images) // self.program.samples))
        if time < SHORT or (time < SHORT_ALONE and room.has_one_caller()):
            self._run(self.loaded[2], segments, images, outputs, factors, place, how)
        else:
            room.run(
                functools.partial(
                    self._run, self.loaded[1], segments, images, outputs, factors, place
                )
            )

    def _run(
        self,
        run: Any,
        segments: np.ndarray,
        images: np.ndarray,
        outputs: np.ndarray,
        factors: np.ndarray,
        place: tuple[int, int],
        how: int,
    ) -> None:
        try:
            memory = self._idle.pop()
        except IndexError:
            memory = _Memory(self)
        memory.take(factors)
        memory.cut(segments)
        words = memory.words
        is_bytes = images.dtype.itemsize == 1
        words[0], words[1] = (place[0], 0) if is_bytes else (0, place[0])
        words[2], words[3], words[4] = images.size, place[1], outputs.size
        words[5], words[6] = len(images), how
        run(memory.address)
        if memory.counters[conductor.FAILED]:
            raise RuntimeError("a kernel of the lanes engine failed")
        if len(self._idle) < KEPT:
            self._idle.append(memory)

    @property
    def bytes(self) -> int:
        """Memory of one run, and memory shared by all."""
        return self.program.bytes + self.parameters.nbytes


class _Memory:
    """The memory of one run of a pass."""

    def __init__(self, owner: Pass) -> None:
        program = owner.program
        self._normalisation = program.normalisation
        try:
            self.arena = owner._untaken.pop()
        except IndexError:
            self.arena = aligned(program.arena_size)
            if owner.arena is not None:
                self.arena[...] = owner.arena
        for offset, values in program.constants.items():
            self.arena[offset : offset + values.size] = values
        self._factors: np.ndarray | None = None
        most = max(len(program.rows) * owner._threads * 2, 1)
        self.counters = aligned(conductor.FIRST_SEGMENT + conductor.OF_SEGMENT * most, np.int64)
        fields = {
            "A": self.arena,
            "T": program.tables,
            "P": owner.parameters,
            "order": owner._order,
        }
        self._context = make_contexts(1, fields)[0]
        self._segments: np.ndarray | None = None
        group = owner._group
        counters = np.zeros(1, np.int64) if group is None else group.counters
        given: dict[str, Any] = dict.fromkeys(conductor.PASS_KINDS, 0)
        given |= {
            "counters": self.counters,
            "segments": np.zeros((1, 7), np.int64),
            "rows": owner._rows,
            "entries": owner.loaded[0],
            "context": self._context,
            "threads": owner._threads,
            "team": counters,
            "moves": np.zeros(0, np.int64) if group is None else group.moves,
            "wake": ring_address(),
            "bell": 0 if group is None else group.bell.handle,
        }
        self._kept = (owner._rows, owner.loaded[0], counters, program.tables, owner.parameters)
        self._packed = packed(conductor.PASS_KINDS, given)
        self.address = self._packed.ctypes.data
        view = memoryview(self._packed.data)
        places = _words(conductor.PASS_KINDS)
        view[places["here"]] = self.address
        first = places["bytes_"]
        self.words = view[first : first + 7]
        self._view, self._segment_place = view, places["segments"]

    def take(self, factors: np.ndarray) -> None:
        """Set other scales and offsets."""
        if self._factors is not factors:
            first = self._normalisation
            self.arena[first : first + factors.size] = factors
            self._factors = factors

    def cut(self, segments: np.ndarray) -> None:
        """Set other segments."""
        if self._segments is not segments:
            place = self._segment_place
            self._view[place], self._view[place + 1] = segments.ctypes.data, len(segments)
            self._segments = segments


def _reached(row: np.ndarray) -> float:
    """Share of a core's peak FLOPs that a row's kernel reaches."""
    kernel = KERNELS[int(row[L.KERNEL])]
    return kernel.speed * (kernel.one_vector if row[L.CHANNELS] == 1 else 1.0)


def _words(kinds: Mapping[str, str]) -> dict[str, int]:
    """Index of the first word of each packed argument."""
    places, place = {}, 0
    for name, kind in kinds.items():
        places[name] = place
        place += 1 + kind.count(":")
    return places


def _joined(segments: list[list[int]]) -> list[list[int]]:
    """Merge consecutive segments that a single thread runs in any case."""
    found: list[list[int]] = []
    for segment in segments:
        last = found[-1] if found else None
        if (
            last is not None
            and last[3:6] == segment[3:6]
            and last[2] == segment[2] == 1
            and last[3] == conductor.SHARES
            and last[1] == segment[0]
        ):
            last[1] = segment[1]
        else:
            found.append(list(segment))
    return found
