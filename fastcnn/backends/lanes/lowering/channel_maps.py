"""Rows that move numbers, or look across lanes, with a channel in each lane."""

from dataclasses import replace

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.channel_maps import line_floats
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.channel_values import ChannelValues
from fastcnn.backends.lanes.planning.buffers import LANES, channels_of
from fastcnn.backends.lanes.planning.channel_planner import PlanarBuffer
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.rows import (
    copy,
    element_columns,
    fused,
    pool_offsets,
    stored_eps,
    winner_row,
)
from fastcnn.backends.lanes.planning.sampling import sampling_row, taps_of
from fastcnn.backends.sample_sets import Sets, sets_of


class ChannelMaps(ChannelValues):
    """The rows of one group after the other."""

    def concat(self, group: Group) -> None:
        """Copies of blocks of channels; each begins with a vector, so lanes may stay idle."""
        planner, values, lanes = self.planner, [], []
        for source in group.sources:
            known = self.lanes.get(source)
            values.append(self.usual(source) if known is None else self.values[source])
            usual = np.arange(channels_of(planner.shape(source)))
            lanes.append(usual if known is None else known)
        firsts = np.cumsum([0, *(x.channels for x in values)])
        _, height, width = (*planner.shape(group.target), 1, 1)[:3]
        halo, passes = planner.halo(group.target), planner.value_passes(group.target)
        y = planner.buffer((int(firsts[-1]) * LANES, height, width), halo, passes)
        together = [first * LANES + each for first, each in zip(firsts[:-1], lanes, strict=True)]
        self.keep(group.target, y, np.concatenate(together))
        for first, x in zip(firsts[:-1].tolist(), values, strict=True):
            copy(planner, group.node.name, x, y.part(first, x.channels))

    def narrow(self, group: Group) -> None:
        """Channels where they are, in the lanes that they have."""
        x, lanes = self.values[group.source], self.lanes.get(group.source)
        start, length = (group.node.arguments[name] for name in ("start", "length"))
        if lanes is None:
            numbers = np.arange(length)
            self._moved(group, group.source, start + numbers, numbers)
        elif isinstance(x, PlanarBuffer):
            self.keep(group.target, x.part(start, length), np.arange(length))
        else:
            mine = lanes[start : start + length]
            first, last = int(mine.min()) // LANES, int(mine.max()) // LANES
            self.keep(group.target, x.part(first, last + 1 - first), mine - first * LANES)

    def sampling(self, group: Group) -> None:
        """Pixels of each channel at other places, or mixed."""
        x, y = self.values[group.source], self.output(group)
        taps = replace(taps_of(group.node), groups=x.channels)
        name = f"{group.node.name}: {group.operation.replace('_', ' ')}"
        self.planner.emit(name, sampling_row(self.planner, taps, x, y))

    pad = interpolate = sampling

    def shuffle(self, group: Group) -> None:
        """Numbers that change their channel."""
        node, taps = group.node, taps_of(group.node)
        each = np.arange(taps.groups)[:, None]
        sources, targets = (
            np.ravel_multi_index(
                (
                    each * steps[0] + pixels[0] * steps[1],
                    *(np.broadcast_to(part, (taps.groups, len(part))) for part in pixels[1:]),
                ),
                shape,
            ).ravel()
            for steps, pixels, shape in (
                (taps.x_steps, taps.x, node.input_shapes[0]),
                (taps.y_steps, taps.y, node.output_shape),
            )
        )
        self._moved(group, group.source, sources, targets)

    pixel_shuffle = pixel_unshuffle = channel_shuffle = shuffle

    def unflatten(self, group: Group) -> None:
        """A vector as a map."""
        numbers = np.arange(len(self.places[group.source]))
        self._moved(group, group.source, numbers, numbers)

    def input_part(self, group: Group) -> None:
        """Some of the input's numbers."""
        numbers = np.arange(int(np.prod(group.node.output_shape)))
        self._moved(group, INPUT, group.node.arguments["start"] + numbers, numbers)

    def _moved(self, group: Group, source: int, sources: np.ndarray, targets: np.ndarray) -> None:
        """Move a value's numbers by their numbers in flattened samples."""
        y = self.output(group)
        name = f"{group.node.name}: {group.operation.replace('_', ' ')}"
        places = self.places[source][sources], self.places[group.target][targets]
        self.move(name, source, places[0], y, places[1])

    def max_pool2d(self, group: Group) -> None:
        """Max pooling that is not fused."""
        self._max_pool(group, "max pooling")

    def adaptive_max_pool2d(self, group: Group) -> None:
        """Max pooling to a fixed output size."""
        self._max_pool(group, "adaptive max pooling")

    def _max_pool(self, group: Group, what: str) -> None:
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        windows, _ = pool_offsets(group, x, y)
        planner.emit(f"{group.node.name}: {what}", winner_row(planner, x, y, None, windows))

    def normalised(self, group: Group) -> None:
        """Normalisation within samples."""
        columns = {"mode": L.AROUND_ZERO if group.operation == "rms_norm" else L.CENTRED}
        columns |= {"scale": self.planner.constant([stored_eps(group.node)])}
        self._sets(group, relu=int(group.relu), **columns)

    layer_norm = layer_norm2d = group_norm = rms_norm = normalised

    def softmax(self, group: Group) -> None:
        """The softmax, or its logarithm."""
        mode = L.LOGARITHM if group.operation == "log_softmax" else L.PROBABILITY
        columns: dict[str, int] = {"in": 1, "mode": mode}
        self._sets(group, **columns)

    log_softmax = softmax

    def _sets(self, group: Group, **columns: int) -> None:
        """Rows of the sets of a sample; those of one row have their members alike in memory."""
        planner, node = self.planner, group.node
        x, y = self.values[group.source], self.output(group)
        sets = sets_of(group.operation, node.arguments, node.input_shapes[0])
        sources, targets = (
            _by_set(sets, self.places[index]) for index in (group.source, group.target)
        )
        numbers = _by_set(sets, sets.weight_numbers())
        patterns = np.concatenate([sources - sources[:, :1], targets - targets[:, :1]], axis=1)
        found: list[int] = np.unique(patterns, axis=0, return_inverse=True)[1].ravel().tolist()
        for pattern in sorted(set(found)):
            mine = np.array([index for index, one in enumerate(found) if one == pattern])
            values = row(
                L.K_CHANNEL_SETS,
                **x.columns("x"),
                **y.columns("y"),
                groups=len(mine),
                positions=sets.members,
                **{
                    f"{name}_table": planner.table(
                        np.concatenate([places[mine, 0], places[mine[0]] - places[mine[0], 0]])
                    )
                    for name, places in (("x", sources), ("y", targets))
                },
                **self._lines(group, numbers[mine]),
                **columns,
            )
            name = f"{node.name}: {group.operation}" + fused(group)
            planner.emit(name, planner.with_scratch(values, sets.members))

    def _lines(self, group: Group, numbers: np.ndarray) -> dict[str, int]:
        """Weights and biases in the order of each set's members; once, if all have the same."""
        same = bool((numbers == numbers[0]).all())
        numbers = numbers[:1] if same else numbers
        length = -(-numbers.shape[1] // LANES) * LANES
        columns: dict[str, int] = {"w": -1, "bias": -1, "out": 0 if same else length}
        for name, column in (("weight", "w"), ("bias", "bias")):
            values = self.planner.parameter(group, name)
            if values is not None:
                lines = np.zeros((len(numbers), length), np.float32)
                lines[:, : numbers.shape[1]] = values.ravel()[numbers]
                columns[column] = self.planner.weight(lines)
        return columns

    def local_response_norm(self, group: Group) -> None:
        """Division by a power of what the channels around hold."""
        planner, a = self.planner, group.node.arguments
        x, y = self.usual(group.source), self.output(group)
        channels: dict[str, int] = {"in": group.node.output_shape[0]}
        values = row(
            L.K_CHANNEL_LOCAL_RESPONSE,
            **element_columns(planner, x=x, y=y),
            **channels,
            taps=a["size"],
            scale=planner.constant([a["alpha"] / a["size"], a["beta"], a["k"]]),
        )
        name = f"{group.node.name}: {group.operation}"
        planner.emit(name, planner.with_scratch(values, line_floats(x.channels, a["size"])))


def _by_set(sets: Sets, values: np.ndarray) -> np.ndarray:
    """What belongs to each element of a sample, a row for each set."""
    others = [axis for axis in range(len(sets.view)) if axis not in sets.axes]
    order = values.reshape(sets.view).transpose(*others, *sets.axes)
    return order.reshape(sets.count, sets.members)
