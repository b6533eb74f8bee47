"""Rows of each operation's forward pass."""

from typing import Any

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.convolution import rows as conv_rows
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.sample_norm import SampleNormForward
from fastcnn.backends.lanes.planning.buffers import LANES, NO_HALO, Buffer, map_shape
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported
from fastcnn.backends.lanes.planning.planner import FITS_BESIDE, Planner
from fastcnn.backends.lanes.planning.rows import (
    copy,
    dropout_row,
    element_columns,
    formula_columns,
    fused,
    is_rectified,
    parameter_offset,
    pool_offsets,
    stored_eps,
    winner_row,
)
from fastcnn.backends.lanes.planning.sampling import sampling_row, taps_of
from fastcnn.operations import OPERATIONS

#: Groups of inputs of a large linear layer at most, and inputs of a group at least.
MOST_GROUPS, LEAST_INPUTS = 8, 256


class Forward(SampleNormForward):
    """Adds the forward rows of one group after the other.

    Attributes
    ----------
    values : dict of int to Buffer
        Each node's output.
    winners : dict of int to Buffer
        Which pixel of each window was the maximum.
    kept : dict of int to int or Buffer
        By node what else its backward pass needs again.
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.values: dict[int, Buffer] = {}
        self.winners: dict[int, Buffer] = {}
        self.kept: dict[int, Any] = {}
        #: By node of a convolution whose row also writes its output's moments: where they are.
        self.moments: dict[int, dict[str, int]] = {}

    def input_row(self) -> int:
        """Gather, normalise and pack the images; returns the place of factors and summands."""
        planner = self.planner
        shape, halo = planner.graph.input_shape, planner.halo(INPUT)
        buffer = planner.buffer(shape, halo, planner.value_passes(INPUT))
        self.values[INPUT] = buffer
        normalisation = planner.allocate(2 * buffer.channels)
        channel = np.arange(buffer.channels)[:, None] * buffer.channel
        columns: dict[str, int] = {
            "in": buffer.channels * buffer.height * buffer.width,
            "out": buffer.channels,
            "x_table": planner.table(channel + buffer.pixels()),
            "scale": normalisation,
        }
        planner.emit("input", row(L.K_INPUT, **buffer.columns("y"), **columns))
        return normalisation

    def gradient_row(self, buffer: Buffer, name: str = "output gradient") -> None:
        """Pack the gradient of the network's output, or targets, from an array into a buffer."""
        channel = np.arange(buffer.channels)[:, None] * buffer.channel
        # One channel, as they all have the same factor 1.
        columns: dict[str, int] = {
            "in": buffer.channels * buffer.height * buffer.width,
            "out": 1,
            "x_table": self.planner.table(channel + buffer.pixels()),
            "scale": self.planner.constant([1.0, 0.0]),
        }
        self.planner.emit(name, row(L.K_OUTPUT_GRADIENT, **buffer.columns("y"), **columns))

    def output_row(self, buffer: Buffer) -> None:
        """Copy a buffer, such as the network's output, to a row for each sample."""
        channel = np.arange(buffer.channels)[:, None] * buffer.channel
        table = self.planner.table(channel + buffer.pixels())
        size: dict[str, int] = {"in": buffer.channels * buffer.height * buffer.width}
        self.planner.emit("output", row(L.K_OUTPUT, **buffer.columns("x"), x_table=table, **size))

    def output(self, group: Group) -> Buffer:
        """The buffer that a group fills."""
        return self._value(group.target)

    def _value(self, index: int) -> Buffer:
        """The buffer of a node's output: its own, or its channels in what it is put into."""
        planner = self.planner
        if index not in self.values:
            shape = planner.shape(index)
            if index in planner.parts:
                whole, first = planner.parts[index]
                made = self._value(whole).part(first, map_shape(shape)[0])
            else:
                made = planner.value_buffer(index)
            self.values[index] = made
        return self.values[index]

    def conv2d(self, group: Group) -> None:
        """Convolution, with what is fused to it."""
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        columns = {"relu": int(group.relu), "bias": parameter_offset(planner, group, "bias")}
        if group.pooled:
            winners = planner.like(y, passing=planner.winners_pass(group))
            self.winners[group.target] = winners
            columns |= winners.columns("m") | {"mode": L.POOLED}
        if group.adds:
            columns |= self._summand(group, y).columns("m") | {"mode": L.ADDED}
        strips = self._strips(group)
        if strips:
            size = -(-2 * y.channels * len(strips) // LANES) * LANES
            sums = {"extra": planner.allocate(size * planner.blocks), "extra_block": size}
            self.moments[group.target] = sums
            columns |= sums | {"moments": 1}
        task = self._task(group, "convolution")
        conv_rows.product(task, x, y, group.pooled, **columns)
        if len(strips) > 1:
            count = {"channels": y.channels, "taps": len(strips)}
            values = row(L.K_NORM_JOIN, tap_table=planner.table(strips), **count, **sums)
            planner.emit(f"{group.node.name}: sums of strips", values)

    def _summand(self, group: Group, y: Buffer) -> Buffer:
        """What is added to a convolution, laid out as its output."""
        other = self.values[group.sources[1]]
        if (other.row, other.channel) == (y.row, y.channel):
            return other
        made = self.planner.like(y, passing=not group.whole)
        copy(self.planner, group.node.name, other, made)
        return made

    def _strips(self, group: Group) -> list[int]:
        """Pixels of each part of a convolution's output whose moments batch normalisation reads."""
        planner = self.planner
        readers = planner.readers.get(group.target, [])
        norms = [
            reader for reader in readers if reader.node.takes_batch_statistics(planner.training)
        ]
        if len(norms) != 1 or norms[0].source != group.target:
            return []
        return conv_rows.moment_strips(planner.geometry(group.node), group.pooled)

    def conv_transpose2d(self, group: Group) -> None:
        """Transposed convolution."""
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        columns = {"relu": int(group.relu), "bias": parameter_offset(planner, group, "bias")}
        conv_rows.transpose(self._task(group, "transposed convolution"), x, y, **columns)

    def _task(self, group: Group, what: str) -> Task:
        """The group's convolution, whose rows are to be added."""
        planner, name = self.planner, f"{group.node.name}: {what}{fused(group)}"
        weight = parameter_offset(planner, group, "weight")
        return Task(planner, name, planner.geometry(group.node), weight)

    def linear(self, group: Group) -> None:
        """Fully connected layer."""
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        if x.halo != NO_HALO or y.halo != NO_HALO:
            raise Unsupported("a linear layer on a padded map")
        outputs, inputs = planner.parameters[group.node.parameters["weight"]][1]
        weight = parameter_offset(planner, group, "weight")
        groups = _input_groups(inputs, outputs) if planner.backward and group.whole else 1
        sizes: dict[str, int] = {"in": inputs, "by_block": int(group.by_block)}
        bias: dict[str, int] = {"bias": parameter_offset(planner, group, "bias")}
        ends = y.columns("y") | bias | {"relu": int(group.relu)}
        name, sums = f"{group.node.name}: linear", None
        if groups > 1:
            planner.grouped[weight] = groups
            size = groups * outputs * LANES
            place = planner.allocate(size * planner.blocks)
            columns: dict[str, int] = {"x": place, "x_block": size, "out": outputs}
            sums = row(L.K_LINEAR_JOIN, **columns, groups=groups, **ends)
            ends = {"y": place, "y_block": size, "bias": -1}
        columns = x.columns("x") | sizes | {"w": weight, "out": outputs, "groups": groups}
        planner.emit(
            name + ("" if groups > 1 else fused(group)),
            row(L.K_LINEAR, **columns, **ends),
            group.whole,
        )
        if (group.target, "weight") in planner.gradients and planner.backward:
            # Rows of inputs for the weight gradient, made here because no barrier is needed.
            # Rows of samples must not all meet in one set of the cache.
            width = -(-inputs // 64) * 64 + LANES
            transposed = planner.allocate(planner.blocks * LANES * width)
            planner.transposed[group.target] = width, transposed
            planner.emit(
                f"{group.node.name}: transpose input",
                row(L.K_TRANSPOSE, **x.columns("x"), **sizes, y=transposed, out=width),
                group.whole,
                apart=False,
            )
        if sums is not None:
            planner.emit(f"{name}, sums" + fused(group), sums)

    def flatten(self, group: Group) -> None:
        """Another shape of the same memory, unless the map has a halo."""
        x = y = self.values[group.source]
        if x.halo != NO_HALO:
            y = self.planner.buffer((x.channels, x.height, x.width))
            copy(self.planner, group.node.name, x, y)
        self.values[group.target] = y.reshaped(x.channels * x.height * x.width, 1, 1)

    def elementwise(self, group: Group) -> None:
        """A function of each element."""
        x, y = self.values[group.source], self.output(group)
        columns = element_columns(self.planner, x=x, y=y)
        columns |= formula_columns(self.planner, group, "value")
        self.planner.emit(f"{group.node.name}: {group.operation}", row(**columns))

    def input_part(self, group: Group) -> None:
        """The input's elements where they are, or a copy into a map with a halo."""
        planner, (channels, height, width) = self.planner, map_shape(group.node.output_shape)
        first = group.node.arguments["start"]
        part = self.values[INPUT].part(first, channels * height * width)
        part = part.reshaped(channels, height, width)
        if planner.halo(group.target) == NO_HALO:
            self.values[group.target] = part
        else:
            copy(planner, group.node.name, part, self.output(group))

    def concat(self, group: Group) -> None:
        """Copies of those inputs that were not written to their places at once."""
        y, first = self.output(group), 0
        for source in group.sources:
            x = self.values[source]
            part = y.part(first, x.channels)
            if self.planner.parts.get(source) != (group.target, first):
                copy(self.planner, group.node.name, x, part)
            first += x.channels

    def narrow(self, group: Group) -> None:
        """The channels where they are."""
        self.output(group)

    def batch_norm(self, group: Group) -> None:
        """Batch normalisation, by the statistics of the batch or by the running ones."""
        planner, node = self.planner, group.node
        x, y = self.values[group.source], self.output(group)
        # Scale, shift, mean, 1 / std, and two coefficients of the backward pass.
        statistics = planner.allocate(6 * x.channels)
        planner.statistics[group.target] = statistics
        running = -1
        if node.arguments["track_running_stats"]:
            key = node.buffers["running_mean"]
            if key not in planner.running:
                planner.running[key] = planner.allocate(2 * x.channels), x.channels
            running = planner.running[key][0]
        of_batch = node.takes_batch_statistics(planner.training)
        columns = {
            "channels": x.channels,
            "positions": x.height * x.width,
            "batch": statistics,
            "running": running,
            "w": parameter_offset(planner, group, "weight"),
            "bias": parameter_offset(planner, group, "bias"),
            "scale": planner.constant([stored_eps(node), node.arguments["momentum"] or 0.0]),
            "mode": L.OF_BATCH if of_batch else L.FROZEN,
        }
        name = f"{node.name}: batch normalisation"
        if of_batch:
            if group.source in self.moments:
                columns |= self.moments[group.source]
            else:
                block = -(-2 * x.channels // LANES) * LANES
                columns |= {"extra": planner.allocate(block * planner.blocks), "extra_block": block}
                sums = element_columns(planner, x=x) | columns
                planner.emit(f"{name}, sums", row(L.K_NORM_SUMS, **sums))
            planner.emit(f"{name}, statistics", row(L.K_NORM_STATISTICS, **columns), whole=True)
        else:
            planner.preparations.append(
                (f"{name}, statistics", row(L.K_NORM_STATISTICS, **columns))
            )
        kernel, buffers = L.K_NORM, {"x": x, "y": y}
        if group.adds:
            kernel, buffers["m"] = L.K_NORM_ADD, self.values[group.sources[1]]
        columns = element_columns(planner, **buffers) | {"batch": statistics}
        planner.emit(name + fused(group), row(kernel, **columns, relu=int(group.relu)))

    def dropout(self, group: Group) -> None:
        """Dropout, in place if nothing else needs its input; outside training the same memory, or
        a copy where halos differ."""
        planner, x = self.planner, self.values[group.source]
        same = planner.halo(group.target) == x.halo
        if same and (not planner.training or self._is_free(group.source)):
            self.values[group.target] = x
        y = self.output(group)
        if planner.training:
            planner.emit(f"{group.node.name}: {group.operation}", dropout_row(planner, group, x, y))
        elif y is not x:
            copy(planner, group.node.name, x, y)

    dropout2d = dropout

    def _is_free(self, source: int) -> bool:
        """Whether the only reader of a node's output may overwrite it with zeros and multiples.

        The backward pass reads of a ReLU's output only which elements are above zero.
        """
        planner = self.planner
        while planner.turns and len(planner.readers[source]) == 1 and not planner.is_joined(source):
            maker = planner.makers.get(source)
            if maker is None:
                return False
            renames = OPERATIONS[maker.operation].renames
            if not renames or self.values[maker.source].offset != self.values[source].offset:
                return not OPERATIONS[maker.operation].gradient_reads_output
            source = maker.source
        return False

    def max_pool2d(self, group: Group) -> None:
        """Max pooling that is not fused."""
        self._max_pool(group, "max pooling")

    def adaptive_max_pool2d(self, group: Group) -> None:
        """Max pooling to a fixed output size."""
        self._max_pool(group, "adaptive max pooling")

    def _max_pool(self, group: Group, what: str) -> None:
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        winners = None
        if planner.backward:
            winners = planner.like(y, passing=planner.winners_pass(group))
            self.winners[group.target] = winners
        windows, _ = pool_offsets(group, x, y)
        values = winner_row(planner, x, y, winners, windows)
        values[L.RELU] = is_rectified(planner, group.source)
        planner.emit(f"{group.node.name}: {what}", values)

    def sampling(self, group: Group) -> None:
        """What copies pixels to other places, or mixes them."""
        x, y = self.values[group.source], self.output(group)
        name = f"{group.node.name}: {group.operation.replace('_', ' ')}"
        self.planner.emit(name, sampling_row(self.planner, taps_of(group.node), x, y))

    pad = interpolate = pixel_shuffle = pixel_unshuffle = channel_shuffle = sampling

    def unflatten(self, group: Group) -> None:
        """Another shape of the same memory, unless there are zeros around a map."""
        x = self.values[group.source]
        if x.halo == NO_HALO and self.planner.halo(group.target) == NO_HALO:
            channels, height, width = map_shape(group.node.output_shape)
            self.values[group.target] = x.reshaped(channels, height, width)
        else:
            self.sampling(group)


def _input_groups(inputs: int, outputs: int) -> int:
    """Groups of a linear layer's inputs that have sums of their own.

    With whole groups a thread has the same weights forward, in both gradients and in the update.
    Others need nothing of its inputs and weights but these sums.
    """
    groups = 1
    if inputs * outputs > FITS_BESIDE:
        while groups < MOST_GROUPS and inputs >= 2 * groups * LEAST_INPUTS:
            groups *= 2
    return groups
