"""The memory plan of one network; collects the rows while they are lowered."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes.convolution import algorithms
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.constraints import K_LIMIT_NORMS
from fastcnn.backends.lanes.kernels.linear import K_SUM_PLACES
from fastcnn.backends.lanes.planning.bands import Banded
from fastcnn.backends.lanes.planning.buffers import (
    LANES,
    NO_HALO,
    Buffer,
    Halo,
    channels_of,
    map_shape,
    whole,
)
from fastcnn.backends.lanes.planning.collector import Collector
from fastcnn.backends.lanes.planning.grouping import Group, fuse, fuse_sums, number_stages
from fastcnn.backends.lanes.planning.layouts import Layouts
from fastcnn.operations import OPERATIONS, Elementwise

#: Kinds of per-thread scratch: a row's own, and what it passes to the next row.
SCRATCH, PASSED = 0, 1
#: Operations, besides element-wise ones, that write all of their output.
FILLING = (
    "conv2d",
    "add",
    "subtract",
    "multiply",
    "batch_norm",
    "max_pool2d",
    "avg_pool2d",
    "adaptive_avg_pool2d",
)
#: Weights of a linear layer that stay in the second-level cache next to the blocks.
FITS_BESIDE = 64 * 1024
#: Floats of a block's outputs, in total and per weight of linear layers, from which on blocks
#: should run through these layers one by one.
LEAVES_CACHE, OUTPUTS_PER_WEIGHT = 128 * 1024, 8


class Planner(Layouts, Collector):
    """Reserves memory and collects rows.

    Parameters
    ----------
    parameters : dict of str to (offset, shape)
        Position of each parameter in the flat array.
    workers : int
        Threads, each of which processes one block at a time.
    backward : bool
        Whether gradients are computed, so that outputs are kept until the backward pass.
    keep : bool
        Whether all outputs are kept to the end.
    training : bool
        Whether dropout is active and batch normalisation uses the batch's statistics.
    frozen : collection of str
        Parameters whose gradients are not computed.
    """

    #: Samples of a block.
    samples = LANES
    #: The group whose rows are added.
    group: Group

    def __init__(
        self,
        network: Banded,
        batch: int,
        parameters: dict[str, tuple[int, tuple[int, ...]]],
        workers: int,
        *,
        backward: bool,
        training: bool,
        keep: bool = False,
        frozen: Collection[str] = (),
    ) -> None:
        self.graph = graph = network.graph
        self._network = network
        self.blocks = -(-batch // self.samples)
        self.batch = batch
        self.parameters = parameters
        self.workers = workers
        self.backward = backward
        self.training = training
        self.keep = keep or backward
        #: Whether a block may turn: its backward pass directly follows its forward pass.
        self.turns = backward and not keep
        self.frozen = frozenset(frozen)
        #: Nodes whose output depends on a parameter that is trained.
        self.trained = graph.leads_to_parameters(parameters.keys() - self.frozen)
        self.groups = self.fused(graph)
        for group in self.groups:
            group.whole = self._shares_batch(group.node)
        if self.turns:
            self._take_by_block()
        self.last_stage = number_stages(self.groups, training)
        self._turning = self._find_turning()
        self._relate_values()
        self.size = 0
        # Buffers that are no longer read, by layout: the zeros of a halo are preserved.
        self._free: dict[tuple[Any, ...], list[Buffer]] = {}
        #: By node the index of the last group that reads its output.
        self._last_readers = {
            source: place for place, group in enumerate(self.groups) for source in group.sources
        }
        # Rows that need per-thread scratch, and their columns of its offset and stride.
        self._rooms: tuple[list[tuple[np.ndarray, tuple[int, int]]], ...] = ([], [])
        self._room_sizes = [0, 0]
        # Strips change no bit. A block that threads share would wait for them after each strip.
        Collector.__init__(self, backward and self.blocks % workers == 0)
        self.tables: list[np.ndarray] = []
        self.table_size = 0
        self._known_tables: dict[bytes, int] = {}
        self.constants: dict[int, np.ndarray] = {}
        #: Rows that run first: constraints on weights.
        self.constraints: list[tuple[str, np.ndarray]] = []
        #: Rows that run before all others except these, such as packing weights.
        self.preparations: list[tuple[str, np.ndarray]] = []
        #: Rows that run after all others, such as sums of gradients over blocks.
        self.reductions: list[tuple[str, np.ndarray]] = []
        #: By node of a linear layer: the offset of its input with a row per sample.
        self.transposed: dict[int, int] = {}
        #: By offset of weights whose inputs are divided among threads: the number of groups.
        self.grouped: dict[int, int] = {}
        #: By node of a batch normalisation: the offset of its statistics.
        self.statistics: dict[int, int] = {}
        #: By state key of a running mean: offset and size of the running statistics in the arena.
        self.running: dict[str, tuple[int, int]] = {}
        #: By node and name of a trained parameter: the offset of its gradient.
        self.gradients: dict[tuple[int, str], int] = {}
        #: Offset, second offset and size of gradients that are added at the end.
        self.summed: list[tuple[int, int, int]] = []
        self.gradient_size = self._place_gradients()

    def _relate_values(self) -> None:
        """Find which groups make and read each value, and which values are parts of others."""
        self.makers = {group.target: group for group in self.groups}
        self.readers = {}
        for group in self.groups:
            for source in group.sources:
                self.readers.setdefault(source, []).append(group)
        self.parts = {}
        for group in self.groups:
            if group.operation == "concat":
                self._adjoin(group)
            elif group.operation == "narrow":
                self.parts[group.target] = group.source, group.node.arguments["start"]

    def fused(self, graph: Graph) -> list[Group]:
        """The groups of fused nodes."""
        groups = fuse_sums(fuse(graph, lambda n: algorithms.pools(self.geometry(n))), "batch_norm")
        if self.keep or self.training:
            return groups
        return fuse_sums(groups, "conv2d", lambda last: algorithms.adds(self.geometry(last.node)))

    def enter(self, group: Group) -> None:
        """Let the rows that are added be those of a group, with its bands."""
        self.group, self.bands = group, self._network.bands.get(group.target, 0)

    def number(self, group: Group) -> int:
        """The number of a group's last node in the network."""
        return self._network.numbers.get(group.target, group.target)

    def _place_gradients(self) -> int:
        """Assign an offset to every gradient; returns the size of the gradient array.

        A gradient has its parameter's offset. A parameter that is used several times has a gradient
        from each use: all but the first follow the parameters' own.
        """
        end = max((o + int(np.prod(shape)) for o, shape in self.parameters.values()), default=0)
        taken: set[int] = set()
        for group in self.groups:
            for name, key in group.node.parameters.items():
                if key in self.frozen:
                    continue
                offset, shape = self.parameters[key]
                place = offset
                if offset in taken:
                    place, size = end, int(np.prod(shape))
                    self.summed.append((offset, place, size))
                    end += whole(size, LANES)
                taken.add(offset)
                self.gradients[group.target, name] = place
        return end

    def _adjoin(self, group: Group) -> None:
        """Let inputs of a concatenation be written directly to its output, where possible."""
        first = 0
        for source in group.sources:
            maker = self.makers.get(source)
            if maker and source not in self.parts and not OPERATIONS[maker.operation].renames:
                self.parts[source] = group.target, first
            first += channels_of(self.shape(source))

    def allocate(self, floats: int) -> int:
        """Reserve floats of the arena, aligned to a vector."""
        offset = self.size
        self.size += whole(floats, LANES)
        return offset

    def for_each_block(self, floats: int) -> dict[str, int]:
        """Columns of EXTRA with some floats for each block of the batch."""
        size = whole(floats, LANES)
        return {"extra": self.allocate(size * self.blocks), "extra_block": size}

    def with_scratch(self, values: np.ndarray, floats: int) -> np.ndarray:
        """Give a row per-thread scratch as Z; all rows share the same memory."""
        self._reserve(values, (L.Z, L.Z_SLOT), SCRATCH, floats)
        return values

    def with_shared_scratch(self, values: np.ndarray, floats: int) -> np.ndarray:
        """Give a row scratch of all threads together as Z: the threads' scratch is contiguous."""
        return self.with_scratch(values, -(-floats // self.workers))

    def pass_on(self, writer: np.ndarray, reader: np.ndarray, floats: int) -> None:
        """Let a row pass floats of a block, as EXTRA, to the next row, which reads them as X.

        All such pairs share the same memory.
        """
        self._reserve(writer, (L.EXTRA, L.EXTRA_BLOCK), PASSED, floats)
        self._reserve(reader, (L.X, L.X_SLOT), PASSED, floats)

    def _reserve(
        self, values: np.ndarray, columns: tuple[int, int], room: int, floats: int
    ) -> None:
        self._rooms[room].append((values, columns))
        self._room_sizes[room] = max(self._room_sizes[room], whole(floats, LANES))

    def place_scratch(self) -> None:
        """Reserve the scratch memory, once all rows are known."""
        for rows, size in zip(self._rooms, self._room_sizes, strict=True):
            place = self.allocate(size * self.workers)
            for values, (first, step) in rows:
                values[first], values[step] = place, size

    def constant(self, values: Any) -> int:
        """Store constant values in the arena."""
        values = np.asarray(values, np.float32).ravel()
        offset = self.allocate(values.size)
        self.constants[offset] = values
        return offset

    def table(self, values: Any, repeat: int = 0) -> int:
        """Offset of a table; its last ``repeat`` entries, or all, are repeated to fill a tile."""
        values = np.asarray(values).ravel().astype(np.int32)
        if repeat and values.size:
            values = np.concatenate([values, np.resize(values[-repeat:], L.POSITION_PAD)])
        content = values.tobytes()
        if content not in self._known_tables:
            self._known_tables[content] = self.table_size
            self.tables.append(values)
            self.table_size += values.size
        return self._known_tables[content]

    def value_buffer(self, index: int) -> Buffer:
        """A buffer for a node's output: a reused one, if the operation fills all of it."""
        shape, halo, passing = self.shape(index), self.halo(index), self.value_passes(index)
        maker = self.makers.get(index)
        if maker is None or not passing or self.is_joined(index):
            return self.buffer(shape, halo, passing)
        filled = isinstance(OPERATIONS[maker.operation], Elementwise)
        filled |= maker.operation in FILLING
        return self.reused(shape, halo) if filled else self.buffer(shape, halo, passing)

    def reused(self, shape: tuple[int, ...], halo: Halo = NO_HALO) -> Buffer:
        """A transient buffer that its writer fills; a reused one, if available."""
        free = self._free.get((self.sizes(shape), halo))
        return free.pop() if free else self.buffer(shape, halo, passing=True)

    def release(self, buffer: Buffer) -> None:
        """Make a transient buffer available for reuse."""
        if buffer.slot and buffer.pixel == LANES:
            self._free.setdefault((buffer.shape, buffer.halo), []).append(buffer)

    def release_read(self, place: int, values: Mapping[int, Buffer]) -> None:
        """Release the outputs whose last reader is the group at an index.

        Not in training, whose backward pass reads every output again.
        """
        if self.keep or self.training:
            return
        read = {values[index].offset: values[index] for index in self.groups[place].sources}
        for buffer in read.values():
            same = [index for index, other in values.items() if other.offset == buffer.offset]
            readers = [self._last_readers.get(index, len(self.groups)) for index in same]
            if max(readers) <= place and not any(map(self.is_joined, same)):
                self.release(buffer)

    def sizes(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Channels, height and width of a buffer."""
        return map_shape(shape)

    def buffer(self, shape: tuple[int, ...], halo: Halo = NO_HALO, passing: bool = False) -> Buffer:
        """A buffer for every block of the batch.

        With ``passing``, only for the block that each thread is processing: the content does not
        outlive the block's pass through the stage.
        """
        return self._placed(Buffer(*self.sizes(shape), halo), passing)

    def like(self, other: Buffer, passing: bool = False) -> Buffer:
        """Another buffer of the same layout."""
        return self._placed(Buffer(*other.shape, other.halo), passing)

    def _placed(self, made: Buffer, passing: bool) -> Buffer:
        step = whole(made.size, LANES)
        made.slot, made.block = (step, 0) if passing else (0, step)
        made.offset = self.allocate(step * (self.workers if passing else self.blocks))
        return made

    def value_passes(self, index: int) -> bool:
        """Whether a node's output is only read in the stage in which it is written."""
        return all(self._passes(part) for part in self._together(index))

    def _passes(self, index: int) -> bool:
        readers = self.readers.get(index, [])
        if not readers or (self.keep and not self._turns(index)):
            return False
        stage = self._written(index)
        renamed = [group.target for group in readers if OPERATIONS[group.operation].renames]
        return all(group.reads == group.writes == stage for group in readers) and all(
            target in self.parts or self.value_passes(target) for target in renamed
        )

    def winners_pass(self, group: Group) -> bool:
        """Whether the argmax of a group's pooling is only read during the block's own pass."""
        return not group.whole and (not self.backward or self._turns(group.target))

    def _turns(self, index: int) -> bool:
        """Whether the gradient of a node's output is computed and used in the stage of the output.

        A linear layer's is read once more at the end.
        """
        return index in self._turning

    def _find_turning(self) -> set[int]:
        """The nodes for which this holds."""
        found: set[int] = set()
        if not self.turns:
            return found
        if self.last_stage == 0:
            found.add(INPUT)
        for group in self.groups:
            if self.last_stage == group.reads == group.writes and group.operation != "linear":
                record = OPERATIONS[group.operation]
                hands_on = group.adds or record.hands_gradient_on or record.renames
                # A gradient passed on unchanged, or overwritten in place, may share the output's
                # memory, and must be used up in its new role.
                if not hands_on or found.issuperset(group.sources):
                    found.add(group.target)
        return found

    def gradient_passes(self, index: int) -> bool:
        """Whether the gradient of a node's output is read in the stage that writes it."""
        maker = self.makers.get(index)
        if maker is None or maker.reads != maker.writes or maker.operation == "linear":
            return False
        if maker.adds or OPERATIONS[maker.operation].hands_gradient_on:
            return False
        if any(reader.writes != maker.writes for reader in self._gradient_writers(index)):
            return False
        return not OPERATIONS[maker.operation].renames or self.gradient_passes(maker.source)

    def _gradient_writers(self, index: int) -> Iterator[Group]:
        """The groups that write a node's output gradient: its readers, and those of its parts."""
        for reader in self.readers.get(index, []):
            yield reader
            if reader.operation == "narrow":
                yield from self._gradient_writers(reader.target)

    def _take_by_block(self) -> None:
        """Let the last linear layers process one block after the other if that is faster.

        They would read their weights once for many blocks, but each block would wait for this, and
        would turn when its outputs have left the caches.
        """
        linear, weights, outputs = [], 0, 0
        for group in reversed(self.groups):
            if group.operation == "linear":
                linear.append(group)
                weights += self._weights_of(group.node)
            elif group.whole or group.node.takes_batch_statistics(self.training):
                break
            outputs += LANES * int(np.prod(self.shape(group.target)))
        if outputs > max(LEAVES_CACHE, OUTPUTS_PER_WEIGHT * weights):
            for group in linear:
                group.by_block, group.whole = True, False

    def _weights_of(self, node: Node) -> int:
        return int(np.prod(self.parameters[node.parameters["weight"]][1]))

    def _shares_batch(self, node: Node) -> bool:
        """Whether each thread should use a part of a layer's weights rather than all of them.

        With its own blocks a thread waits for no other and reads no others' activations, but needs
        all weights. A few blocks that do not divide evenly make some threads wait.
        """
        if node.operation == "conv2d":
            return algorithms.shares_batch(self.geometry(node))
        uneven = self.blocks < 2 * self.workers and self.blocks % self.workers > 0
        return node.operation == "linear" and (self._weights_of(node) > FITS_BESIDE or uneven)

    def _written(self, index: int) -> int:
        return 0 if index == INPUT else self.makers[index].writes

    def emit_reductions(self) -> None:
        """Add the rows that run after all others, as one phase."""
        for index, (name, values) in enumerate(self.reductions):
            self.emit(name, values, whole=True, apart=index == 0)
        for index, (first, other, count) in enumerate(self.summed):
            values = L.row(K_SUM_PLACES, w=first, extra=other, out=count)
            # A thread has the same elements in each row: three uses need no barrier between.
            self.emit("sum gradients over places", values, whole=True, apart=index == 0)

    def constrain(self, largest: Mapping[str, float]) -> None:
        """Limit the norm of each output's weights, by the weights' state keys."""
        for key, norm in largest.items():
            offset, (rows, *columns) = self.parameters[key]
            sizes = {"in_": int(np.prod(columns)), "out": rows}
            values = L.row(K_LIMIT_NORMS, w=offset, scale=self.constant([norm]), **sizes)
            self.constraints.append((f"{key}: largest norm", values))

    def put_preparations_first(self) -> int:
        """Prepend the phases of the rows that run first; returns the number of phases added."""
        added = 0
        for before in (self.preparations, self.constraints):
            count = len(before)
            if not count:
                continue
            self.phases = [
                (0, count, 1),
                *((first + count, last + count, whole) for first, last, whole in self.phases),
            ]
            self.names = [name for name, _ in before] + self.names
            self.rows = [values for _, values in before] + self.rows
            added += 1
        return added
