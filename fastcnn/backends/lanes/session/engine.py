"""The engine: one network's program, arena and arrays, run on some threads."""

import ctypes
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn.backends.alignment import aligned
from fastcnn.backends.graph import Graph
from fastcnn.backends.lanes.kernel_table import (
    SQUARES,
    conductor_sources,
    dispatcher_source,
    kernel_source,
)
from fastcnn.backends.lanes.kernels.arrays import K_OUTPUT
from fastcnn.backends.lanes.kernels.context import array_type, check_arrays, make_contexts
from fastcnn.backends.lanes.kernels.layout import KERNEL
from fastcnn.backends.lanes.lowering.plan import Purpose, plan
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.reach.door import Needs, check_program, check_run, needs
from fastcnn.backends.lanes.session import dispatcher
from fastcnn.backends.lanes.session.batches import NO_BATCHES, NO_BYTES, NO_FLOATS, Batches, Moment
from fastcnn.backends.lanes.session.dispatcher import ENTRY
from fastcnn.backends.lanes.session.loading import check_enabled, check_own_kernels, load_kernels
from fastcnn.backends.lanes.session.schedule import CALLS, MIDDLE, Between, Callback, plain_schedule
from fastcnn.backends.lanes.session.update import Units, Update
from fastcnn.codegen import build
from fastcnn.codegen.threads import FAILED, PATIENCE, SPINS
from fastcnn.cores import available_cores, take_core
from fastcnn.errors import ConfigurationError

THREADS_VARIABLE = "FASTCNN_NUM_THREADS"
#: Maximum threads, each of which has its own memory.
MOST_THREADS = 1024
_RUN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
START, ONE_RUN = Moment(), np.zeros(1)
#: Runs the dispatcher, as :func:`run_threads` does.
Launch = Callable[[int, dict[str, Any], dict[str, Any]], None]
NO_UPDATE = Update((), np.zeros((0, 0), np.float32))


def default_threads() -> int:
    """Threads of the engine: ``FASTCNN_NUM_THREADS``, or the cores this process may use.

    Raises ConfigurationError if the variable is not an integer of 1 to 1,024.
    """
    chosen = os.environ.get(THREADS_VARIABLE)
    if chosen:
        if not chosen.isdecimal() or not 1 <= int(chosen) <= MOST_THREADS:
            raise ConfigurationError(
                f"{THREADS_VARIABLE} must be an integer of 1 to {MOST_THREADS}, got {chosen!r}"
            )
        return int(chosen)
    return available_cores()


class Engine:
    """One program with its memory.

    Parameters
    ----------
    parameters : ndarray of float32
        The network's flat parameters; updates change it in place.
    running : mapping of str to (mean, variance, number of batches), optional
        Running statistics by the state key of the mean; a training run changes them in place.
    **options
        The :class:`~fastcnn.backends.lanes.lowering.plan.Purpose` of its program.
    """

    def __init__(
        self,
        graph: Graph,
        batch: int,
        parameters: np.ndarray,
        places: dict[str, tuple[int, tuple[int, ...]]],
        threads: int = 1,
        running: Mapping[str, Sequence[np.ndarray]] | None = None,
        **options: Any,
    ) -> None:
        check_enabled()
        self.graph = graph
        self.threads = threads
        self.parameters = parameters
        self.running = running or {}
        self._moves_running = bool(options.get("training"))
        self.program: Program = plan(graph, batch, places, threads, Purpose(**options))
        check_own_kernels(self.program.rows[:, KERNEL].tolist())
        has_gradient = self.program.output_gradient is not None
        size = self.program.gradient_size if has_gradient else 1
        self._gradients = aligned(size)
        #: The gradients in the order of the parameters.
        self.gradient = self._gradients[: parameters.size]
        check_program(self.program, parameters, self._gradients, self.running)
        # Requirements on a run's arrays, by phases.
        self._needs: dict[tuple[Any, ...], Needs] = {}
        self.arena = aligned(self.program.arena_size)
        for offset, values in self.program.constants.items():
            self.arena[offset : offset + values.size] = values
        maps = len(graph.input_shape) in (2, 3)
        factors = graph.input_shape[0] if maps else int(np.prod(graph.input_shape))
        self.normalise((1.0,) * factors, (0.0,) * factors)
        blocks = -(-batch // LANES)
        self._block_losses, self._block_hits = np.zeros(blocks), np.zeros(blocks, np.int64)
        self._entries: dict[tuple[str, ...], tuple[np.ndarray, dict[str, int]]] = {}
        grouped = self.program.grouped
        self._places = [(*place, grouped.get(place[0], 1)) for place in places.values()]
        self._checked: Update | None = None
        # Units of the last update, and of none, by threads, and whether updates follow gradients.
        self._units: dict[tuple[bool, int, bool], Units] = {}
        uses = [
            None if node.frozen_statistics else node.buffers.get("running_mean")
            for node in graph.nodes
        ]
        self._uses = {name: uses.count(name) for name in self.program.running}

    @property
    def bytes(self) -> int:
        """Memory of the engine, without the parameters."""
        return self.program.bytes + self._gradients.nbytes

    def normalise(self, scale: Any, shift: Any) -> None:
        """Set the scale and offset of each input channel."""
        first = self.program.normalisation
        values = np.concatenate([scale, shift]).astype(np.float32)
        self.arena[first : first + values.size] = values

    def run(
        self,
        batches: Batches,
        rates: np.ndarray = ONE_RUN,
        *,
        update: Update | None = None,
        moment: Moment = START,
        phases: np.ndarray | None = None,
        threads: int | None = None,
        between: Between | None = None,
        launch: Launch | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run the program once for each learning rate; returns losses, hits and gradient norms.

        An ``update``, if given, follows each run. ``threads`` may be less than the engine was
        planned for. Without a schedule in ``between``, batches are consecutive. ``launch`` replaces
        :func:`run_threads`.
        """
        threads = self.threads if threads is None else threads
        assert 1 <= threads <= self.threads
        steps, is_whole = len(rates), phases is None
        phases = self.program.phases if phases is None else phases
        wants = self._wants(phases)
        schedule = (
            plain_schedule(steps, self.program.batch, len(batches.order), moment)
            if between is None
            else between.schedule
        )
        losses, hits, norms = np.zeros(steps), np.zeros(steps, np.int64), np.full(steps, np.nan)
        arrays = batches._asdict() | {"rates": rates}
        images = arrays.pop("images")
        if not batches.mean_weights.size:
            arrays["mean_weights"] = np.ones(max(steps * wants.losses, 1))
        check_run(wants, self.program.batch, schedule, images, arrays)
        update = NO_UPDATE if update is None else update
        # Otherwise the whole gradient is read, or needed before the first update.
        follows = is_whole and not (update.limit or (schedule[:, CALLS] & ~MIDDLE).any())
        units = self._units_of(update, threads, follows)
        rows, entries, addresses = self._loaded(update, units)
        squares = np.zeros(units.squares + 1)
        fields = self._fields(batches, wants, update, units, threads)
        fields |= {"squares": squares, "seed": moment.seed}
        callback = None
        if between is not None and schedule[:, CALLS].any():
            callback = Callback(self._with_running(between.function))
        step_values = {
            "phases": phases,
            "rows": rows.reshape(-1),
            "entries": entries,
            "rates": rates,
            "schedule": schedule,
            "function": 0 if callback is None else callback.address,
            "middle": self.program.first_backward,
            "mean_weights": arrays["mean_weights"],
            "losses": losses,
            "hits": hits,
            "norms": norms,
            "block_losses": self._block_losses,
            "block_hits": self._block_hits,
            "squares": squares,
            "owners": units.owners,
            "updates": np.array([addresses[name] for name in units.kernels], np.int64),
            "limit": update.limit,
            "square": addresses.get(SQUARES, 0),
        }
        self._load_running()
        try:
            (launch or run_threads)(threads, fields, step_values)
        except RuntimeError:
            if callback is not None and callback.error is not None:
                raise callback.error from None
            raise
        if update is not NO_UPDATE and not update.parts:
            norms[:] = 0.0
        # A program may run in parts: the one that reads the samples updates the statistics.
        if self._moves_running and wants.images:
            self._store_running()
            for name in self.program.running:
                self.running[name][2][...] += steps * self._uses[name]
        return losses, hits, norms

    def _units_of(self, update: Update, threads: int, follows: bool) -> Units:
        """The units of an update, some of which may directly follow their gradients' kernels."""
        updates, size = bool(update.parts), self.parameters.size
        if updates and update is not self._checked:
            update.check(size)
            self._checked = update
            self._units.clear()
        shared = updates, threads, updates and follows
        if shared not in self._units:
            rows = self.program.rows if shared[2] else self.program.rows[:0]
            self._units[shared] = update.units(threads, self._places, size, rows)
        return self._units[shared]

    def _loaded(
        self, update: Update, units: Units
    ) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """The rows of a run, their entries, and the addresses of updates' kernels by name."""
        entries, addresses = self.prepare(*update.kernels, *dict.fromkeys(units.following.values()))
        if not units.following:
            return self.program.rows, entries, addresses
        entries = entries.copy()
        for index, name in units.following.items():
            entries[index, ENTRY] = addresses[name]
        return units.rows, entries, addresses

    def _fields(
        self, batches: Batches, wants: Needs, update: Update, units: Units, threads: int
    ) -> dict[str, Any]:
        """The kernels' arguments, see context.py."""
        flat, is_bytes = batches.images.reshape(-1), batches.images.dtype == np.uint8
        return {
            "A": self.arena,
            "T": self.program.tables,
            "P": self.parameters,
            "G": self._gradients,
            "S": update.state.reshape(-1),
            "settings": update.settings.reshape(-1),
            "scratch": aligned(threads * update.room) if update.room else NO_FLOATS,
            "bytes_": flat if is_bytes else NO_BYTES,
            "floats": NO_FLOATS if is_bytes else flat,
            "order": batches.order,
            "target_order": (
                np.arange(len(batches.order)) if wants.gives_gradient else batches.order
            ),
            "labels": batches.labels,
            "targets": batches.targets,
            "weights": batches.weights,
            "outputs": batches.outputs,
            "losses": self._block_losses,
            "hits": self._block_hits,
            "spans": units.spans,
        }

    def _load_running(self) -> None:
        for name, (offset, channels) in self.program.running.items():
            mean, variance, _ = self.running[name]
            self.arena[offset : offset + 2 * channels] = np.concatenate([mean, variance])

    def _store_running(self) -> None:
        for name, (offset, channels) in self.program.running.items():
            mean, variance, _ = self.running[name]
            mean[...] = self.arena[offset : offset + channels]
            variance[...] = self.arena[offset + channels : offset + 2 * channels]

    def _with_running(self, function: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """Wrap a function called between passes, so that it sees the model's running statistics."""
        if not self._moves_running or not self.program.running:
            return function

        def called(index: int, place: int) -> None:
            self._store_running()
            function(index, place)
            self._load_running()

        return called

    def _wants(self, phases: np.ndarray) -> Needs:
        key = phases.shape, phases.dtype.str, phases.tobytes()
        if key not in self._needs:
            self._needs[key] = needs(self.program, phases)
        return self._needs[key]

    def pack_weights(self) -> Program:
        """Run the phases that precede every pass; returns the program without them.

        Until parameters change, passes on a copy of the arena are then valid.
        """
        count = self.program.preparations
        if count:
            self.run(NO_BATCHES, phases=self.program.phases[:count], threads=1)
        return replace(self.program, phases=self.program.phases[count:])

    def prepare(self, *updates: str) -> tuple[np.ndarray, dict[str, int]]:
        """Compile and load the program's kernels and those of updates.

        Returns for each row its kernel's address and whether it processes many blocks together; and
        by name the addresses of updates and of the kernel of the norm's sums.
        """
        if updates not in self._entries:
            names = [*updates, SQUARES] if updates else []
            # Training is followed by evaluation.
            ahead = [kernel_source(K_OUTPUT), *conductor_sources()] if updates else []
            more = [*map(kernel_source, names), dispatcher_source()]
            entries, *found = load_kernels(self.program.rows, more, ahead)
            self._entries[updates] = entries, dict(zip(names, found, strict=False))
        return self._entries[updates]

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
    """Run rows over one block; their kernels may need only a table with the single position 0."""
    entries, _ = load_kernels(rows, [dispatcher_source()])
    steps = {
        # One pass, with neither a loss nor an update.
        **{name: _one_zero(kind) for name, kind in dispatcher.KINDS.items()},
        "phases": np.array([[0, len(rows), 0]]),
        "rows": rows.reshape(-1),
        "entries": entries,
        "schedule": np.array([[0, LANES, 0, 0, 0]]),
        "updates": np.zeros(0, np.int64),
    }
    run_threads(
        threads, {"A": arena, "T": np.zeros(1, np.int32), "order": np.zeros(1, np.int64)}, steps
    )


def _one_zero(kind: str) -> Any:
    """A zero, or an array of one, as an argument of some type."""
    of_array = array_type(kind)
    return 0 if of_array is None else np.zeros(1, of_array)


def run_threads(threads: int, fields: Mapping[str, Any], steps: Mapping[str, Any]) -> None:
    """Call the dispatcher on this thread and ``threads - 1`` others, and wait for all.

    ``fields`` are the kernels' arguments, see context.py, ``steps`` the dispatcher's, except for
    those of a thread. Raises RuntimeError if a kernel failed.
    """
    check_arrays(fields)
    (address,) = build.addresses([dispatcher_source()])
    entry = _RUN(address)
    sync = np.zeros(16, np.int64)
    contexts = make_contexts(threads, fields)
    has_cores = threads <= available_cores()
    # With more threads than cores, a spinning thread keeps the one it waits for from running.
    sync[PATIENCE] = SPINS if has_cores and threads > 1 else 0
    arguments = [
        packed(
            dispatcher.KINDS,
            {
                **steps,
                "thread": index,
                "threads": threads,
                "sync": sync,
                "context": contexts[index],
                "numbers": contexts[index].view(np.float64),
            },
        )
        for index in range(threads)
    ]

    def run(index: int) -> None:
        if has_cores and threads > 1:
            take_core(index)
        entry(arguments[index].ctypes.data)

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
    if sync[FAILED]:
        raise RuntimeError("a kernel of the lanes engine failed")


def packed(kinds: Mapping[str, str], values: Mapping[str, Any]) -> np.ndarray:
    """Pack the arguments of a compiled function in the order that its entry reads."""
    made: list[Any] = []
    for name, kind in kinds.items():
        value = values[name]
        if (expected := array_type(kind)) is not None:
            assert value.dtype == expected, name
            assert value.flags.c_contiguous, name
            made += [value.ctypes.data if value.size else 0, *value.shape]
        else:
            made.append(np.float64(value).view(np.int64) if kind == "float64" else value)
    return np.array(made, np.int64)
