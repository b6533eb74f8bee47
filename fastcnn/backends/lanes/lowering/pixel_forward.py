"""The forward pass of one sample, with a pixel in each lane.

A block of 16 samples takes as long for one of them as for all. Here the 16 floats of a vector are
neighbouring pixels of one map, one row after the other: a tap of a convolution is the same
distance away for all of them, so its kernel is that of 16 samples with other tables. What falls
between the rows is computed too, and set to zero where a convolution reads it. Maps that are read
and written at the same places have rows of one length.
"""

import numpy as np

from fastcnn.backends.graph import INPUT, Node
from fastcnn.backends.lanes.convolution.direct import rows as direct_rows
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.forward import Forward
from fastcnn.backends.lanes.planning.buffers import NO_HALO, Halo, PixelBuffer, union
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import copy, fused, parameter_offset
from fastcnn.operations import OPERATIONS

#: What renames an output by another shape.
RESHAPING = ("flatten", "unflatten")
#: What writes single pixels, and nothing between them.
SINGLE = ("pad", "interpolate", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle")


class PixelForward(Forward):
    """Adds the rows of one sample's forward pass, group by group."""

    def __init__(self, planner: Planner) -> None:
        super().__init__(planner)
        self._halos = {index: self._zeros_read(index) for index in self._indices()}
        self._widths = self._row_lengths()

    def _indices(self) -> range:
        return range(INPUT, len(self.planner.graph.nodes))

    def _shape(self, index: int) -> tuple[int, int, int]:
        """Channels, height and width of a node's output; a vector is a single row."""
        graph = self.planner.graph
        shape = graph.input_shape if index == INPUT else graph.nodes[index].output_shape
        if len(shape) == 3:
            return shape[0], shape[1], shape[2]
        return 1, 1, int(np.prod(shape))

    def _zeros_read(self, index: int) -> Halo:
        """Zeros around a node's output that convolutions read, also after what only renames it."""
        halo = NO_HALO
        for reader in self.planner.readers.get(index, []):
            if reader.operation == "conv2d":
                halo = union(halo, self.planner.geometry(reader.node).input_halo())
            elif OPERATIONS[reader.operation].renames and reader.operation not in RESHAPING:
                halo = union(halo, self._zeros_read(reader.target))
        return halo

    def _row_lengths(self) -> dict[int, int]:
        """Floats of a row by node: the most that any map needs that is tied to this one."""
        first = {index: index for index in self._indices()}

        def root(index: int) -> int:
            while first[index] != index:
                index = first[index]
            return index

        need = dict.fromkeys(self._indices(), 0)
        for group in self.planner.groups:
            strided = group.operation == "conv2d" and _is_strided(group.node)
            if strided:
                g = self.planner.geometry(group.node)
                need[group.target] = _phase_size(g, 1)
            maps = len(group.node.output_shape) == 3
            if OPERATIONS[group.operation].keeps_places or (
                (group.operation == "concat" and maps)
                or (group.operation == "conv2d" and not strided and not group.pooled)
            ):
                if group.operation == "flatten":
                    continue
                for source in group.sources:
                    first[root(source)] = root(group.target)
        lengths: dict[int, int] = {}
        for index in self._indices():
            halo, width = self._halos[index], self._shape(index)[2]
            length = max(width + halo[2] + halo[3], need[index])
            lengths[root(index)] = max(lengths.get(root(index), 0), length)
        return {index: lengths[root(index)] for index in self._indices()}

    def _buffer(
        self, channels: int, height: int, width: int, halo: Halo, length: int, planes: int = 1
    ) -> PixelBuffer:
        """A buffer whose rows are ``length`` floats apart."""
        top, bottom, left, _ = halo
        made = PixelBuffer(
            channels, height, width, (top, bottom, left, length - width - left), planes=planes
        )
        made.offset = self.planner.allocate(made.size)
        return made

    def output(self, group: Group) -> PixelBuffer:
        """The buffer that a group fills."""
        return self._value(group.target)

    def _value(self, index: int) -> PixelBuffer:
        made = self._buffer(*self._shape(index), self._halos[index], self._widths[index])
        self.values[index] = made
        return made

    def add_group(self, group: Group) -> None:
        """Add a group's rows, and the row that clears what lies between its pixels."""
        self.method(group.operation)(group)
        y = self.values[group.target]
        assert isinstance(y, PixelBuffer)
        alone = group.pooled or "pool" in group.operation or OPERATIONS[group.operation].renames
        alone = alone or group.operation in SINGLE
        if self._halos[group.target] != NO_HALO and not alone:
            between = y.between()
            self.planner.emit(
                f"{group.node.name}: clear between rows",
                row(
                    L.K_CLEAR,
                    **y.columns("y"),
                    y_channel=y.channel,
                    channels=y.channels,
                    positions=len(between),
                    y_table=self.planner.table(between),
                ),
            )

    def input_row(self) -> int:
        """Normalise the image; returns the place of factors and summands."""
        planner, y = self.planner, self._value(INPUT)
        elements = y.channels * y.height * y.width
        # If samples are not maps, each element has factors of its own.
        channels = y.channels if len(planner.graph.input_shape) == 3 else elements
        normalisation = planner.allocate(2 * channels)
        columns: dict[str, int] = {"in": elements, "out": channels}
        places = np.arange(y.channels)[:, None] * y.channel + y.pixels()
        planner.emit(
            "input",
            row(
                L.K_IMAGE,
                **y.columns("y"),
                x_table=planner.table(places),
                scale=normalisation,
                **columns,
            ),
        )
        return normalisation

    def conv2d(self, group: Group) -> None:
        """Convolution; a strided one reads the phases of its input, each a map by itself."""
        planner, name, y = self.planner, group.node.name, self.output(group)
        g, x = planner.geometry(group.node), self.values[group.source]
        assert isinstance(x, PixelBuffer)
        target, length = y, self._widths[group.target]
        if _is_strided(group.node):
            if group.pooled:
                length = max(length, _phase_size(g, 1))
            x, taps = self._phases(name, g, x, length)
            start = 0
        else:
            taps, start, length = direct_rows.input_taps(g, x), int(x.at(*_corner(g))), x.row
        if group.pooled:
            height, width = g.output
            target = self._buffer(g.out_channels, height, width, NO_HALO, length)
        source = parameter_offset(planner, group, "weight") + np.arange(g.out_channels * g.taps)
        to = target.vectors()
        direct_rows.emit(
            planner,
            f"{name}: convolution" + (" + ReLU" if group.relu else ""),
            g,
            x,
            target,
            taps,
            source.reshape(g.groups, -1, g.taps),
            start + to - to[0],
            to,
            g.group_inputs,
            1,
            {"relu": int(group.relu), "bias": parameter_offset(planner, group, "bias")},
        )
        if group.pooled:
            self._pool(L.K_MAX_POOL, f"{name}: 2x2 max pooling", target, y, (2, 2), (2, 2))

    def _phases(
        self, name: str, g: ConvGeometry, x: PixelBuffer, length: int
    ) -> tuple[PixelBuffer, np.ndarray]:
        """The input's pixels that are equal modulo the stride, in planes; and the taps in them."""
        down, along = g.stride
        height, width = _phase_size(g, 0), _phase_size(g, 1)
        z = self._buffer(x.channels, height, width, NO_HALO, length, down * along)
        c, kh, kw = np.mgrid[: g.group_inputs, : g.kernel[0], : g.kernel[1]]
        kh, kw = kh * g.dilation[0], kw * g.dilation[1]
        plane = kh % down * along + kw % along
        taps = c * z.channel + plane * z.plane + kh // down * z.row + kw // along
        number, h, w = (
            values.ravel()
            for values in np.meshgrid(
                np.unique(plane), np.arange(height), np.arange(width), indexing="ij"
            )
        )
        from_h = h * down + number // along - g.padding[0]
        from_w = w * along + number % along - g.padding[1]
        inside = (from_h >= 0) & (from_h < x.height) & (from_w >= 0) & (from_w < x.width)
        self._gather(
            f"{name}: phases of the stride",
            x,
            z,
            x.at(from_h, from_w)[inside],
            (number * z.plane + z.at(h, w))[inside],
        )
        return z, taps.ravel()

    def _gather(
        self, name: str, x: PixelBuffer, y: PixelBuffer, sources: np.ndarray, targets: np.ndarray
    ) -> None:
        planner = self.planner
        self.planner.emit(
            name,
            row(
                L.K_GATHER,
                **x.columns("x"),
                **y.columns("y"),
                channels=x.channels,
                positions=len(sources),
                x_table=planner.table(sources),
                y_table=planner.table(targets),
                x_channel=x.channel,
                y_channel=y.channel,
            ),
        )

    def conv_transpose2d(self, group: Group) -> None:
        """Not for one sample alone."""
        raise Unsupported("a transposed convolution of one sample")

    def linear(self, group: Group) -> None:
        """Fully connected layer."""
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        outputs, inputs = planner.parameters[group.node.parameters["weight"]][1]
        sizes: dict[str, int] = {"in": inputs, "out": outputs}
        planner.emit(
            f"{group.node.name}: linear" + fused(group),
            row(
                L.K_MATRIX_VECTOR,
                **x.columns("x"),
                **y.columns("y"),
                relu=int(group.relu),
                w=parameter_offset(planner, group, "weight"),
                bias=parameter_offset(planner, group, "bias"),
                **sizes,
            ),
        )

    def flatten(self, group: Group) -> None:
        """The pixels alone, one after the other."""
        x, y = self.values[group.source], self.output(group)
        assert isinstance(x, PixelBuffer)
        pixels = x.pixels()
        columns = {"channels": x.channels, "positions": len(pixels), "y_channel": len(pixels)}
        self.planner.emit(
            group.node.name,
            row(
                L.K_GATHER,
                **x.columns("x"),
                **y.columns("y"),
                **columns,
                x_channel=x.channel,
                x_table=self.planner.table(pixels),
                y_table=self.planner.table(np.arange(len(pixels))),
            ),
        )

    def input_part(self, group: Group) -> None:
        """A copy of the input's elements, which are a single row."""
        x, y = self.values[INPUT], self.output(group)
        assert isinstance(x, PixelBuffer)
        pixels = y.pixels()
        start = int(x.pixels()[group.node.arguments["start"]])
        self.planner.emit(
            group.node.name,
            row(
                L.K_GATHER,
                **x.columns("x"),
                **y.columns("y"),
                channels=y.channels,
                positions=len(pixels),
                x_table=self.planner.table(start + np.arange(len(pixels))),
                y_table=self.planner.table(pixels),
                x_channel=len(pixels),
                y_channel=y.channel,
            ),
        )

    def concat(self, group: Group) -> None:
        """Copies of all inputs; of vectors, which are single rows, one after the other."""
        y, first = self.output(group), 0
        for source in group.sources:
            x = self.values[source]
            assert isinstance(x, PixelBuffer)
            if len(group.node.output_shape) == 3:
                copy(self.planner, group.node.name, x, y.part(first, x.channels))
                first += x.channels
            else:
                pixels = x.pixels()
                self._gather(group.node.name, x, y, pixels, first + np.arange(len(pixels)))
                first += len(pixels)

    def dropout(self, group: Group) -> None:
        """The same memory."""
        self.values[group.target] = self.values[group.source]

    dropout2d = dropout

    def elementwise(self, group: Group) -> None:
        """A function of each element."""
        if group.node.parameters and len(group.node.output_shape) != 3:
            raise Unsupported(f"{group.operation} of one sample's vector")
        super().elementwise(group)

    def _normalise_samples(self, group: Group) -> None:
        """Not for one sample alone: a lane would hold a part of a set."""
        raise Unsupported(f"{group.operation} of one sample")

    layer_norm = layer_norm2d = group_norm = rms_norm = _normalise_samples
    softmax = log_softmax = local_response_norm = _normalise_samples

    def batch_norm(self, group: Group) -> None:
        """Batch normalisation of maps by the running statistics."""
        if len(group.node.output_shape) != 3 or not group.node.arguments["track_running_stats"]:
            raise Unsupported("batch normalisation of one sample's vector")
        super().batch_norm(group)

    def max_pool2d(self, group: Group) -> None:
        """Max pooling that is not fused."""
        self._pooling(L.K_MAX_POOL, group, "max pooling")

    def avg_pool2d(self, group: Group) -> None:
        """Average pooling."""
        self._pooling(L.K_AVG_POOL, group, "average pooling")

    def _pooling(self, kernel: int, group: Group, what: str) -> None:
        arguments, size = group.node.arguments, group.node.input_shapes[0][1:]
        window = (arguments["kernel_size"], arguments["stride"], arguments["padding"])
        if arguments.get("dilation", (1, 1)) != (1, 1) or arguments.get("divisor_override"):
            raise Unsupported("a pooling of one sample with dilation or another divisor")
        if arguments.get("ceil_mode"):
            floors = [
                (length + 2 * pad - kernel) // stride + 1
                for length, kernel, stride, pad in zip(size, *window, strict=True)
            ]
            if floors != list(group.node.output_shape[1:]):
                raise Unsupported("windows of one sample that reach out of the map")
        x, y = self.values[group.source], self.output(group)
        assert isinstance(x, PixelBuffer)
        name = f"{group.node.name}: {what}"
        if arguments["padding"] != (0, 0):
            if not arguments.get("count_include_pad", True):
                raise Unsupported("an average over unequal windows of one sample")
            x = self._padded(name, x, arguments["padding"], kernel == L.K_MAX_POOL)
        self._pool(kernel, name, x, y, arguments["kernel_size"], arguments["stride"])

    def _padded(
        self, name: str, x: PixelBuffer, padding: tuple[int, int], lowest: bool
    ) -> PixelBuffer:
        """A copy with zeros around it that count as pixels, or the lowest of numbers."""
        height, width = x.height + 2 * padding[0], x.width + 2 * padding[1]
        z = PixelBuffer(x.channels, height, width, NO_HALO)
        z.offset = self.planner.constant(np.full(z.size, -np.inf if lowest else 0.0))
        h, w = (part.ravel() for part in np.mgrid[: x.height, : x.width])
        self._gather(f"{name}, padding", x, z, x.pixels(), z.at(h + padding[0], w + padding[1]))
        return z

    def adaptive_avg_pool2d(self, group: Group) -> None:
        """Pooling to a fixed output size, where it divides the input's."""
        is_max = group.operation == "adaptive_max_pool2d"
        x, y = self.values[group.source], self.output(group)
        assert isinstance(x, PixelBuffer)
        size = x.height // y.height, x.width // y.width
        if (size[0] * y.height, size[1] * y.width) != (x.height, x.width):
            raise Unsupported("unequal windows of adaptive pooling of one sample")
        name = f"{group.node.name}: adaptive pooling"
        self._pool(L.K_MAX_POOL if is_max else L.K_AVG_POOL, name, x, y, size, size)

    adaptive_max_pool2d = adaptive_avg_pool2d

    def _pool(
        self,
        kernel: int,
        name: str,
        x: PixelBuffer,
        y: PixelBuffer,
        size: tuple[int, int],
        stride: tuple[int, int],
    ) -> None:
        """Pool at every pixel, as if the stride were 1, and keep those of the stride."""
        planner = self.planner
        h, w = (np.arange(n) * s for n, s in zip((y.height, y.width), stride, strict=True))
        every = self._buffer(x.channels, int(h[-1]) + 1, int(w[-1]) + 1, NO_HALO, x.row)
        to, (kh, kw) = every.vectors(), (part.ravel() for part in np.mgrid[: size[0], : size[1]])
        offsets = x.at(kh, kw) + to[:, None]
        columns = {
            "channels": x.channels,
            "positions": len(to),
            "taps": offsets.shape[1],
            "x_channel": x.channel,
            "y_channel": every.channel,
            "y_table": planner.table(to),
        }
        if kernel == L.K_MAX_POOL:
            columns |= {"tap_table": planner.table(offsets), "m": planner.allocate(every.size)}
        else:
            counted = np.insert(offsets, 0, offsets.shape[1], axis=1)
            shares = np.full(len(to), 1.0 / offsets.shape[1])
            columns |= {"tap_table": planner.table(counted), "scale": planner.constant(shares)}
        planner.emit(name, row(kernel, **x.columns("x"), **every.columns("y"), **columns))
        sources = every.at(*(part.ravel() for part in np.meshgrid(h, w, indexing="ij")))
        self._gather(f"{name}, outputs", every, y, sources, y.pixels())


def _is_strided(node: Node) -> bool:
    return tuple(node.arguments["stride"]) != (1, 1)


def _phase_size(g: ConvGeometry, axis: int) -> int:
    """Rows (or columns) of each phase of a strided convolution's input that it reads."""
    reach = (g.kernel[axis] - 1) * g.dilation[axis] // g.stride[axis]
    return g.output[axis] + reach


def _corner(g: ConvGeometry) -> tuple[int, int]:
    """The input pixel under the first tap of the first output; it may lie in the zeros."""
    return -g.padding[0], -g.padding[1]
