"""The layout of values whose vectors hold channels: the offset and lane of every element."""

import numpy as np

from fastcnn.backends.lanes.kernels.channel_move import K_MOVE, RUN
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.shared_forward import SharedForward, lowering_of
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, lane_blocks, map_shape
from fastcnn.backends.lanes.planning.channel_planner import ChannelPlanner
from fastcnn.backends.lanes.planning.grouping import Group


class ChannelValues(SharedForward):
    """Creates and finds the buffers of values."""

    planner: ChannelPlanner

    def __init__(self, planner: ChannelPlanner) -> None:
        self.planner = planner
        self.values: dict[int, Buffer] = {}
        #: By node the lane of each channel, counted over all channel blocks: after a concatenation
        #: some lanes may be idle. Flattened maps have none.
        self.lanes: dict[int, np.ndarray] = {}
        #: Offset of each element of a node's output, in the order of the flattened output.
        self.places: dict[int, np.ndarray] = {}

    def keep(self, index: int, buffer: Buffer, lanes: np.ndarray) -> Buffer:
        """Register a node's output."""
        self.values[index], self.lanes[index] = buffer, lanes
        self.places[index] = buffer.places_of(lanes)
        return buffer

    def rename(self, group: Group) -> None:
        """Use the same memory for the output."""
        self.values[group.target] = self.values[group.source]
        self.places[group.target] = self.places[group.source]
        lanes = self.lanes.get(group.source)
        if lanes is not None and len(lanes) == map_shape(self.planner.shape(group.target))[0]:
            self.lanes[group.target] = lanes

    def is_usual(self, index: int) -> bool:
        """Whether channels are in consecutive lanes."""
        lanes = self.lanes.get(index)
        return lanes is not None and np.array_equal(lanes, np.arange(len(lanes)))

    def channels(self, index: int) -> np.ndarray:
        """The offset of each channel of a map."""
        places = self.places[index].reshape(map_shape(self.planner.shape(index))[0], -1)
        found: np.ndarray = places[:, 0] - self.values[index].pixels()[0]
        return found

    def output(self, group: Group) -> Buffer:
        """The buffer that a group fills."""
        planner, index = self.planner, group.target
        channels, height, width = map_shape(planner.shape(index))
        if not lowering_of(group.operation).keeps_lanes:
            return self.keep(index, planner.value_buffer(index), np.arange(channels))
        lanes = self._lanes_of(group)
        blocks = lane_blocks(int(lanes.max()) + 1)
        if blocks == lane_blocks(channels):
            return self.keep(index, planner.value_buffer(index), lanes)
        shape = (blocks * LANES, height, width)
        made = planner.buffer(shape, planner.halo(index), planner.value_passes(index))
        return self.keep(index, made, lanes)

    def _lanes_of(self, group: Group) -> np.ndarray:
        """The lanes of the inputs, or consecutive lanes if inputs differ."""
        known = [self.lanes.get(source) for source in group.sources]
        first = known[0]
        if first is not None and all(_alike(first, other) for other in known[1:]):
            return first
        return np.arange(map_shape(group.node.output_shape)[0])

    def joined(self, group: Group) -> list[Buffer]:
        """The inputs of a group, with the same channel in the same lane."""
        lanes = self._lanes_of(group)
        same = all(_alike(lanes, self.lanes.get(source)) for source in group.sources)
        return [self.values[source] if same else self.usual(source) for source in group.sources]

    def usual(self, index: int, passing: bool = True) -> Buffer:
        """A node's output with channels in consecutive lanes, copied if needed."""
        if self.is_usual(index):
            return self.values[index]
        shape, halo = self.planner.shape(index), self.planner.halo(index)
        made = self.planner.buffer(shape, halo, passing)
        places = made.places_of(np.arange(map_shape(shape)[0]))
        self.move("channels into lanes", index, self.places[index], made, places)
        return made

    def move(
        self, name: str, index: int, sources: np.ndarray, y: Buffer, targets: np.ndarray
    ) -> None:
        """Add a row that copies elements of a node's output."""
        runs = _runs(sources, targets)
        self.planner.emit(
            name,
            row(
                K_MOVE,
                **self.values[index].columns("x"),
                **y.columns("y"),
                positions=len(runs),
                tap_table=self.planner.table(runs),
            ),
        )

    def move_numbers(
        self, group: Group, source: int, sources: np.ndarray, targets: np.ndarray
    ) -> None:
        """Copy a value's elements, given by their indices in flattened samples."""
        y = self.output(group)
        name = f"{group.node.name}: {group.operation.replace('_', ' ')}"
        places = self.places[source][sources], self.places[group.target][targets]
        self.move(name, source, places[0], y, places[1])


def _alike(lanes: np.ndarray, others: np.ndarray | None) -> bool:
    return others is not None and np.array_equal(lanes, others)


def _runs(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Runs of elements with constant steps on both sides: first offsets, lengths and steps."""
    steps = np.stack([np.diff(sources), np.diff(targets)], axis=1)
    changes = np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1
    starts = [0]
    for change in changes.tolist():
        # The step before a run's first element belongs to no run.
        if change > starts[-1]:
            starts.append(change + 1)
    first = np.array(starts)
    counts = np.diff([*starts, len(sources)])
    found = np.zeros((len(first), RUN), np.int64)
    found[:, 0], found[:, 1], found[:, 2] = sources[first], targets[first], counts
    longer = counts > 1
    found[longer, 3:] = steps[first[longer]]
    return found
