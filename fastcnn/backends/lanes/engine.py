"""Holds one network's program, arena and arrays, and runs it on some threads."""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph
from fastcnn.backends.lanes import compiled, interpreter, optimizer_kernels
from fastcnn.backends.lanes.buffers import LANES, Buffer
from fastcnn.backends.lanes.door import check_program, check_run, check_update, needs
from fastcnn.backends.lanes.lowering import lower
from fastcnn.backends.lanes.program import Program
from fastcnn.backends.lanes.threads import FAILED, PATIENCE, SPINS
from fastcnn.cores import available_cores, take_core
from fastcnn.errors import ConfigurationError

THREADS_VARIABLE = "FASTCNN_NUM_THREADS"
KINDS = {
    "sgd": optimizer_kernels.SGD,
    "adam": optimizer_kernels.ADAM,
    "adamw": optimizer_kernels.ADAMW,
    "rmsprop": optimizer_kernels.RMSPROP,
    None: optimizer_kernels.NONE,
}
# Kernels take what is empty for what is not there.
NO_BYTES, NO_FLOATS = np.zeros(0, np.uint8), np.zeros(0, np.float32)
NO_LABELS, NO_WEIGHTS = np.zeros(0, np.int64), np.zeros(0)


def default_threads() -> int:
    """Threads of the engine: ``FASTCNN_NUM_THREADS``, or the cores this process may use.

    Raises
    ------
    ConfigurationError
        If the variable is no positive integer.
    """
    chosen = os.environ.get(THREADS_VARIABLE)
    if chosen:
        if not chosen.isdigit() or int(chosen) < 1:
            raise ConfigurationError(f"{THREADS_VARIABLE} must be at least 1, got {chosen!r}")
        return int(chosen)
    return available_cores()


class Engine:
    """One program with its memory.

    Parameters
    ----------
    parameters : ndarray of float32
        The network's flat parameters; updates change it in place.
    places : dict of str to (offset, shape)
    running : mapping of str to (mean, variance, number of batches), optional
        Running statistics by name of a batch normalisation; a training run changes them in place.
    **build
        Passed to :func:`~fastcnn.backends.lanes.lowering.lower`.
    """

    def __init__(
        self,
        graph: Graph,
        batch: int,
        parameters: np.ndarray,
        places: dict[str, tuple[int, tuple[int, ...]]],
        threads: int = 1,
        running: Mapping[str, Sequence[np.ndarray]] | None = None,
        **build: Any,
    ) -> None:
        compiled.start()
        self.graph = graph
        self.threads = threads
        self.parameters = parameters
        self.running = running or {}
        self._moves_running = bool(build.get("training"))
        self.program: Program = lower(graph, batch, places, threads, **build)
        has_gradient = self.program.output_gradient is not None
        self.gradient = np.zeros_like(parameters) if has_gradient else NO_FLOATS
        check_program(self.program, parameters, self.gradient, self.running)
        self._needs = needs(self.program, self.program.phases)
        self.arena = _aligned(self.program.arena_size)
        for offset, values in self.program.constants.items():
            self.arena[offset : offset + values.size] = values
        maps = len(graph.input_shape) == 3
        factors = graph.input_shape[0] if maps else int(np.prod(graph.input_shape))
        self.normalise((1.0,) * factors, (0.0,) * factors)
        blocks = -(-batch // LANES)
        self._block_losses, self._block_hits = np.zeros(blocks), np.zeros(blocks, np.int64)
        self._squares = np.zeros(parameters.size // optimizer_kernels.UNIT + 1)
        self._places = places
        self._known_owners: dict[int, np.ndarray] = {}

    def normalise(self, scale: Any, shift: Any) -> None:
        """Set the factor and the summand of each input channel."""
        first = self.program.normalisation
        values = np.concatenate([scale, shift]).astype(np.float32)
        self.arena[first : first + values.size] = values

    def run(
        self,
        images: np.ndarray,
        order: np.ndarray,
        rates: np.ndarray,
        *,
        labels: np.ndarray = NO_LABELS,
        targets: np.ndarray = NO_FLOATS,
        weights: np.ndarray = NO_WEIGHTS,
        outputs: np.ndarray = NO_FLOATS,
        kind: str | None = None,
        settings: np.ndarray | None = None,
        slots: tuple[np.ndarray, ...] = (),
        seed: int = 0,
        first_step: int = 0,
        first_sample: int = 0,
        phases: np.ndarray | None = None,
        threads: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run the program once for each rate; returns losses, hits and gradient norms.

        ``threads`` may be less than the engine was planned for. ``first_sample`` is the place of
        the first sample in a batch that several processes share; dropout depends on it.

        Raises
        ------
        ShapeError, DataError
            If an array does not fit the program, or indices or labels are out of range.
        """
        threads = self.threads if threads is None else threads
        assert 1 <= threads <= self.threads
        steps = len(rates)
        wants = self._needs if phases is None else needs(self.program, phases)
        phases = self.program.phases if phases is None else phases
        settings = np.zeros(6) if settings is None else settings
        losses, hits, norms = np.zeros(steps), np.zeros(steps, np.int64), np.full(steps, np.nan)
        is_bytes = images.dtype == np.uint8
        flat = images.reshape(-1)
        first, second = (*slots, NO_FLOATS, NO_FLOATS)[:2]
        check_run(wants, self.program.batch, images, {
            "order": order, "rates": rates, "labels": labels, "targets": targets,
            "weights": weights, "outputs": outputs, "settings": settings,
        })  # fmt: skip
        check_update(kind, settings, self.parameters.size, self.gradient, first, second)
        arguments = (
            phases, self.program.rows, self.arena, self.program.tables, self.parameters,
            self.gradient, first, second,
            KINDS[kind], settings, rates, seed, first_step,
            first_sample, self.program.batch, len(order), order,
            flat if is_bytes else NO_BYTES, NO_FLOATS if is_bytes else flat,
            labels, targets, weights, outputs, losses, hits, norms,
            self._block_losses, self._block_hits, self._squares, self._owners(threads),
        )  # fmt: skip
        for name, (offset, channels) in self.program.running.items():
            mean, variance, _ = self.running[name]
            self.arena[offset : offset + 2 * channels] = np.concatenate([mean, variance])
        run_threads(threads, arguments)
        if self._moves_running and len(phases):
            for name, (offset, channels) in self.program.running.items():
                mean, variance, batches = self.running[name]
                mean[...] = self.arena[offset : offset + channels]
                variance[...] = self.arena[offset + channels : offset + 2 * channels]
                batches += steps
        return losses, hits, norms

    def _owners(self, threads: int) -> np.ndarray:
        """The thread that updates each unit of the parameters.

        Of each parameter a thread has the same share as in its gradient and in the forward
        product: what one core wrote and another reads takes longer than the arithmetic.
        """
        if threads not in self._known_owners:
            size, unit = self.parameters.size, optimizer_kernels.UNIT
            starts = np.arange(0, size, unit)
            owners = np.zeros(size // unit + 1, np.int64)
            for offset, shape in self._places.values():
                count = int(np.prod(shape))
                inside = np.flatnonzero((starts >= offset) & (starts < offset + count))
                middle = np.minimum(starts[inside] + unit // 2, offset + count - 1) - offset
                owners[inside] = middle * threads // count
            self._known_owners[threads] = owners
        return self._known_owners[threads]

    def read(self, buffer: Buffer, count: int) -> np.ndarray:
        """Copy a buffer out of lanes: shape (count, channels, height, width)."""
        view = self._view(buffer)
        blocks = view[: -(-count // LANES)].transpose(0, 4, 1, 2, 3)
        samples = np.empty(blocks.shape, np.float32)
        samples[...] = blocks
        return samples.reshape(-1, *view.shape[1:4])[:count]

    def write(self, buffer: Buffer, values: np.ndarray) -> None:
        """Copy an array of samples into lanes; idle lanes become zero."""
        view = self._view(buffer)
        padded = np.zeros((len(view) * LANES, *view.shape[1:4]), np.float32)
        padded[: len(values)] = values.reshape(len(values), *view.shape[1:4])
        view[...] = padded.reshape(len(view), LANES, *view.shape[1:4]).transpose(0, 2, 3, 4, 1)

    def _view(self, buffer: Buffer) -> np.ndarray:
        blocks = -(-self.program.batch // LANES)
        top, bottom, left, _ = buffer.halo
        size = blocks * buffer.size
        padded = self.arena[buffer.offset : buffer.offset + size].reshape(
            blocks, buffer.channels, buffer.height + top + bottom, -1, LANES
        )
        return padded[:, :, top : top + buffer.height, left : left + buffer.width]


def run_rows(rows: np.ndarray, arena: np.ndarray, threads: int) -> None:
    """Run rows over one block, of kernels that need no table but one of a single position 0."""
    compiled.start()
    nothing, one, none = np.zeros(1), np.zeros(1, np.int64), NO_FLOATS
    phases = np.array([[0, len(rows), 0]])
    run_threads(threads, (
        phases, rows, arena, np.zeros(1, np.int32), none, none, none, none,
        KINDS[None], np.zeros(6), nothing, 0, 0, 0, LANES, LANES, one,
        NO_BYTES, none, NO_LABELS, none, NO_WEIGHTS, none,
        np.zeros(1), one.copy(), np.zeros(1), np.zeros(1), one.copy(), np.zeros(1), one,
    ))  # fmt: skip


def run_threads(threads: int, arguments: tuple[Any, ...]) -> None:
    """Call the interpreter on this thread and ``threads - 1`` others, and wait for all."""
    sync = np.zeros(16, np.int64)
    if threads == 1:
        interpreter.run(0, 1, sync, *arguments)
        return
    has_cores = threads <= available_cores()
    # Who spins where threads outnumber cores keeps the one it waits for from running.
    sync[PATIENCE] = SPINS if has_cores else 0

    def run(index: int) -> None:
        if has_cores:
            take_core(index)
        interpreter.run(index, threads, sync, *arguments)

    helpers = [threading.Thread(target=run, args=(index,)) for index in range(1, threads)]
    started: list[threading.Thread] = []
    try:
        for helper in helpers:
            helper.start()
            started.append(helper)
        run(0)
    except BaseException:
        sync[FAILED] = 1
        raise
    finally:
        for helper in started:
            helper.join()


def _aligned(floats: int) -> np.ndarray:
    """Zeroed float32 array that starts at a cache line."""
    raw = np.zeros(floats + LANES, np.float32)
    start = (-raw.ctypes.data // 4) % LANES
    return raw[start : start + floats]
