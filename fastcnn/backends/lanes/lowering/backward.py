"""Rows of each operation's backward pass."""

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.convolution import rows as conv_rows
from fastcnn.backends.lanes.convolution.algorithm import Part
from fastcnn.backends.lanes.convolution.algorithms import gradient_halo
from fastcnn.backends.lanes.convolution.direct import rows as direct_rows
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.sample_norm import SampleNormBackward
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, map_shape
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.rows import (
    copy,
    dropout_row,
    element_columns,
    elements,
    formula_columns,
    gradient_offset,
    parameter_offset,
    product_row,
    product_sums_row,
    windows_of_two,
)
from fastcnn.operations import OPERATIONS, Elementwise


class Backward(SampleNormBackward):
    """Adds the backward rows of one group after the other, from the last."""

    def add(self, group: Group) -> None:
        """Add one group's rows, if anything depends on its output, and it on what is wanted."""
        if group.target in self.contributions and self._is_needed(group.target):
            is_elementwise = isinstance(OPERATIONS[group.operation], Elementwise)
            name = "elementwise" if is_elementwise else group.operation
            # The first pass of batch normalisation sums up two gradients as it reads them.
            most = 2 if group.operation == "batch_norm" else 1
            getattr(self, f"_{name}")(group, *self.gathered(group.target, most))

    def _conv2d(self, group: Group, grad: Buffer) -> None:
        task = self._task(group)
        g = task.g
        trains, needed = self._trains(group, "weight"), self._is_needed(group.source)
        x = self.values[group.source]
        chooses = group.pooled and conv_rows.chooses_pixels(g, x)
        sums_own = conv_rows.sums_own_gradient(g) and not chooses
        weights = 0 if sums_own else g.out_channels * g.taps
        partial, bias = self._partial(group, weights, g.out_channels)
        if trains and not group.pooled and conv_rows.are_made_together(g):
            grad = self.rectify(group, grad)
            self._reduce(group, partial, bias, weights, g.out_channels)
            place = weights if self._needs_sums(group) else -1
            columns = partial | {"bias": place} | self.mask(group)
            conv_rows.gradients(task, x, grad, self.wanted(group), **columns)
            return
        # Sums over taps meet windows if they choose pixels, or where no other row needs all pixels.
        meets = bool(group.pooled and weights and trains and (chooses or not needed))
        parts = [Part.GRADIENT] * (trains and not meets) + [Part.TRANSPOSE] * needed
        reads = group.pooled and conv_rows.unpools(g, parts)
        sums = trains and self._needs_sums(group) and (reads if meets else conv_rows.sums_biases(g))
        if meets:
            winners, place = self.winners[group.target], weights if sums else -1
            direct_rows.pooled_weight_gradient(task, x, grad, winners, partial, place)
        sent: dict[str, int] = {}
        if reads and (sums or not self._needs_sums(group)):
            sent = self.winners[group.target].columns("m")
        elif group.pooled:
            grad, sums = self._before_pooling(group, grad, bias), False
        else:
            grad = self.rectify(group, grad)
            if not sums:
                self._bias_gradient(group, grad, bias)
        if meets or not trains:
            pass
        elif weights:
            place = weights if sums else -1
            direct_rows.weight_gradient(task, x, grad, partial, place)
        else:
            places = {"biases": bias} if sums else {}
            places |= {"winners": sent} if sent else {}
            target = task._replace(weight=gradient_offset(self.planner, group, "weight"))
            conv_rows.summed_weight_gradient(target, x, grad, **places)
        self._reduce(group, partial, bias, weights, g.out_channels)
        grad_x = self.wanted(group)
        if grad_x is not None:
            task = task._replace(name=f"{task.name}: input gradient")
            conv_rows.transpose(task, grad, grad_x, **sent, **self.mask(group))

    def _task(self, group: Group) -> Task:
        """The group's convolution, whose rows are to be added."""
        planner, node = self.planner, group.node
        weight = parameter_offset(planner, group, "weight")
        return Task(planner, node.name, planner.geometry(node), weight)

    def _conv_transpose2d(self, group: Group, grad: Buffer) -> None:
        task = self._task(group)
        count, channels = task.g.out_channels * task.g.taps, group.node.output_shape[0]
        partial, bias = self._partial(group, count, channels)
        grad = self.rectify(group, grad)
        self._bias_gradient(group, grad, bias)
        if self._trains(group, "weight"):
            x = self.values[group.source]
            direct_rows.weight_gradient(task, grad, x, partial)
        self._reduce(group, partial, bias, count, channels)
        grad_x = self.wanted(group)
        if grad_x is not None:
            task = task._replace(name=f"{task.name}: input gradient")
            conv_rows.product(task, grad, grad_x, False, **self.mask(group))

    def _partial(
        self, group: Group, weights: int, biases: int
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Columns of each block's gradient of the weights, and after it that of the biases."""
        block = -(-(weights + biases) // LANES) * LANES
        partial = self.planner.allocate(block * self.planner.blocks)
        bias = {"extra": partial + weights, "extra_block": block}
        return {"extra": partial, "extra_block": block}, self.bias_sums.get(group.target, bias)

    def _needs_sums(self, group: Group) -> bool:
        """Whether the sums of the output's gradient are wanted, and not yet there."""
        return self._trains(group, "bias") and group.target not in self.bias_sums

    def _bias_gradient(self, group: Group, grad: Buffer, bias: dict[str, int]) -> None:
        if self._needs_sums(group):
            columns = element_columns(self.planner, y=grad) | bias
            self.planner.emit(
                f"{group.node.name}: bias gradient", row(L.K_BIAS_GRADIENT, **columns)
            )

    def _before_pooling(self, group: Group, pooled: Buffer, bias: dict[str, int]) -> Buffer:
        """The gradient of a convolution's own output, from that of what is pooled after it."""
        planner, node = self.planner, group.node
        halo = gradient_halo(planner.geometry(node))
        grad = planner.buffer(node.output_shape, halo, passing=not group.whole)
        h, w = windows_of_two(*node.output_shape[1:])
        planner.emit(
            f"{node.name}: gradients of pooling and bias",
            row(
                L.K_UNPOOL,
                **grad.columns("x"),
                **pooled.columns("y"),
                **self.winners[group.target].columns("m"),
                channels=grad.channels,
                positions=len(h) // 4,
                x_table=planner.table(grad.at(h, w)),
                y_table=planner.table(pooled.pixels()),
                x_channel=grad.channel,
                y_channel=pooled.channel,
                **bias,
            ),
        )
        return grad

    def _reduce(
        self, group: Group, partial: dict[str, int], bias: dict[str, int], weights: int, biases: int
    ) -> None:
        """Plan the sums over blocks of the gradients."""
        if weights and self._trains(group, "weight"):
            target = gradient_offset(self.planner, group, "weight")
            self.sum_blocks(group, target, partial, weights)
        if self._trains(group, "bias"):
            self.sum_blocks(group, gradient_offset(self.planner, group, "bias"), bias, biases)

    def _linear(self, group: Group, grad: Buffer) -> None:
        planner, node = self.planner, group.node
        grad = self.rectify(group, grad)
        offset, (outputs, inputs) = planner.parameters[node.parameters["weight"]]
        sizes: dict[str, int] = {"in": inputs, "out": outputs}
        gradients = []
        if self._trains(group, "weight"):
            width, transposed = planner.transposed[group.target]
            columns = grad.columns("y") | {
                "x": transposed,
                "extra": width,
                "w": gradient_offset(planner, group, "weight"),
                "m": planner.allocate(64 * planner.workers),
                "m_slot": 64,
                "groups": planner.grouped.get(offset, 1),
            }
            gradients.append((f"{node.name}: weight gradient", row(L.K_OUTER, **columns, **sizes)))
        if self._trains(group, "bias"):
            bias = gradient_offset(planner, group, "bias")
            values = row(L.K_LINEAR_BIAS_GRADIENT, **grad.columns("y"), bias=bias, **sizes)
            gradients.append((f"{node.name}: bias gradient", values))
        if group.whole:
            for index, (name, values) in enumerate(gradients):
                planner.emit(name, values, whole=True, apart=index == 0)
        else:
            planner.reductions += gradients
        grad_x = self.wanted(group)
        if grad_x is not None:
            sizes = {"in": outputs, "out": inputs, "by_block": int(group.by_block)}
            planner.emit(
                f"{node.name}: input gradient",
                row(
                    L.K_LINEAR_BACKWARD,
                    **grad.columns("x"),
                    **grad_x.columns("y"),
                    w=offset,
                    bias=-1,
                    **self.mask(group),
                    **sizes,
                ),
                group.whole,
                apart=not gradients,
            )

    def _renamed(self, group: Group, grad: Buffer) -> None:
        """The same memory, or a copy into the map with a halo."""
        x, y = self.values[group.source], self.values[group.target]
        if not self._is_needed(group.source):
            return
        grad = grad.reshaped(x.channels, x.height, x.width)
        if x.offset == y.offset and self._fits(group.source, grad):
            self.contributions.setdefault(group.source, []).append(grad)
            if group.target in self.masked and len(self.planner.readers[group.source]) == 1:
                self.masked.add(group.source)
            return
        grad_x = self.wanted(group)
        if grad_x is not None:
            copy(self.planner, group.node.name, grad, grad_x)

    _flatten = _renamed

    def _elementwise(self, group: Group, grad: Buffer) -> None:
        by_output = OPERATIONS[group.operation].gradient_reads_output
        seen = self.values[group.target if by_output else group.source]
        self._parameter_gradient(group, grad, seen)
        grad_x = self.wanted(group)
        if grad_x is not None:
            columns = formula_columns(self.planner, group, "gradient")
            columns |= element_columns(self.planner, x=grad_x, y=grad, m=seen)
            self.planner.emit(f"{group.node.name}: gradient of {group.operation}", row(**columns))

    def _parameter_gradient(self, group: Group, grad: Buffer, x: Buffer) -> None:
        """The gradient of an element-wise operation's parameter, if it has one."""
        for name, key in group.node.parameters.items():
            if not self._trains(group, name):
                continue
            _, (size,) = self.planner.parameters[key]
            partial, _ = self._partial(group, size, 0)
            columns = formula_columns(self.planner, group, "parameter")
            columns |= element_columns(self.planner, y=grad, m=x) | partial
            self.planner.emit(f"{group.node.name}: gradient of its parameter", row(**columns))
            self.sum_blocks(group, gradient_offset(self.planner, group, name), partial, size)

    def _add(self, group: Group, grad: Buffer) -> None:
        """The gradient goes to both sides as it is: the same memory, where its layout suits."""
        grad = self.rectify(group, grad)
        self.shared.add(grad.offset)
        for source in group.sources:
            self._hand_on(group, source, grad)

    def _subtract(self, group: Group, grad: Buffer) -> None:
        """The gradient as it is, and its negative."""
        grad = self.rectify(group, grad)
        first, second = group.sources
        negative = self._contribution(second)
        if negative is not None:
            columns = element_columns(self.planner, x=grad, y=negative)
            name = f"{group.node.name}: gradient of the second input"
            self.planner.emit(name, row(L.K_NEGATE, **columns))
        self._hand_on(group, first, grad)

    def _multiply(self, group: Group, grad: Buffer) -> None:
        """The gradient times the other input, summed where a factor stood for many elements."""
        grad = self.rectify(group, grad)
        for source, other in zip(group.sources, reversed(group.sources), strict=True):
            made, factor = self._contribution(source), self.values[other]
            if made is None:
                continue
            if elements(made) < elements(grad):
                values = product_sums_row(self.planner, grad, factor, made)
            else:
                values = product_row(self.planner, grad, factor, made)
            self.planner.emit(f"{group.node.name}: gradient of multiply", values)

    def _input_part(self, group: Group, grad: Buffer) -> None:
        """To its place in the gradient of the whole input."""
        if not self.input_gradient:
            return
        if INPUT not in self.contributions:
            self.contributions[INPUT] = [self.planner.like(self.values[INPUT])]
        (whole,) = self.contributions[INPUT]
        channels, height, width = map_shape(group.node.output_shape)
        part = whole.part(group.node.arguments["start"], channels * height * width)
        part = part.reshaped(channels, height, width)
        copy(self.planner, group.node.name, grad.reshaped(channels, height, width), part)

    def _concat(self, group: Group, grad: Buffer) -> None:
        """To each input its channels of the gradient: where they are, if the layout suits."""
        first, is_shared = 0, grad.offset in self.shared
        for source in group.sources:
            channels = self.values[source].channels
            part = grad.part(first, channels)
            if is_shared:
                self.shared.add(part.offset)
            self._hand_on(group, source, part)
            first += channels

    def _narrow(self, group: Group, grad: Buffer) -> None:
        """To its channels of the input's gradient, where it may have been written at once."""
        if self._is_needed(group.source):
            place = self.place_of_part(group)
            if place.offset != grad.offset:
                copy(self.planner, group.node.name, grad, place)

    def _batch_norm(self, group: Group, grad: Buffer, other: Buffer | None = None) -> None:
        """Two passes; the first also adds two gradients up, and takes them through a sum's ReLU."""
        planner, node = self.planner, group.node
        masks = group.adds and group.relu and group.target not in self.masked
        trains = any(self._trains(group, name) for name in ("weight", "bias"))
        trains = trains or self._is_needed(group.source)
        if not trains or (other is not None and grad.offset in self.shared):
            grad, other = self.collected(group.target), None
        if masks and (not trains or grad.offset in self.shared):
            grad, masks = self.rectify(group, grad), False
        if trains:
            block = -(-2 * self.values[group.source].channels // LANES) * LANES
            of_batch = node.takes_batch_statistics(planner.training)
            columns = {
                "batch": planner.statistics[group.target],
                "relu": int(group.relu and not group.adds),
                "extra": planner.allocate(block * planner.blocks),
                "extra_block": block,
                "w": gradient_offset(planner, group, "weight"),
                "bias": gradient_offset(planner, group, "bias"),
                "mode": L.OF_BATCH if of_batch else L.FROZEN,
            }
            self._norm_sums(group, columns, grad, other, masks)
            if masks or other is not None:
                columns["relu"] = 0
        if group.adds:
            self.shared.add(grad.offset)
            self._hand_on(group, group.sources[1], grad)
        if trains:
            self._norm_gradient(group, columns, grad)

    def _norm_sums(
        self,
        group: Group,
        columns: dict[str, int],
        grad: Buffer,
        other: Buffer | None,
        masks: bool,
    ) -> None:
        """The sums of the first pass; with a summand or a mask it writes the gradient, too."""
        buffers, kernel = {"x": self.values[group.source], "y": grad}, L.K_NORM_GRADIENT_SUMS
        if other is not None or masks:
            kernel = L.K_NORM_JOINED_GRADIENT_SUMS
            columns = columns | {
                "mode": L.MASKED if masks else L.PLAIN,
                "adds": int(other is not None),
            }
        if masks:
            buffers["m"] = self.values[group.target]
        if other is not None:
            buffers["z"] = other
        columns = element_columns(self.planner, **buffers) | columns
        name = f"{group.node.name}: gradient of batch normalisation, "
        name += "sum and " if other is not None else ""
        name += "ReLU and " if masks else ""
        self.planner.emit(f"{name}sums", row(kernel, **columns))

    def _norm_gradient(self, group: Group, columns: dict[str, int], grad: Buffer) -> None:
        """The statistics and the second pass."""
        planner, x = self.planner, self.values[group.source]
        name = f"{group.node.name}: gradient of batch normalisation"
        sizes = {"channels": x.channels, "positions": x.height * x.width}
        statistics = row(L.K_NORM_GRADIENT_STATISTICS, **sizes, **columns)
        if columns["mode"] == L.OF_BATCH:
            planner.emit(f"{name}, statistics", statistics, whole=True)
        else:
            planner.reductions.append((f"{name}, statistics", statistics))
        grad_x = self.wanted(group)
        if grad_x is not None:
            elements = element_columns(planner, x=x, y=grad, z=grad_x)
            planner.emit(name, row(L.K_NORM_GRADIENT, **elements, **columns))

    def _dropout(self, group: Group, grad: Buffer) -> None:
        """The same mask as forward, in place unless others see the gradient."""
        source = group.source
        if not self.planner.training:
            self._renamed(group, grad)
            return
        grad_x: Buffer | None = grad
        if source == INPUT or grad.offset in self.shared or not self._fits(source, grad):
            grad_x = self.wanted(group)
        elif self._is_needed(source):
            self.contributions.setdefault(source, []).append(grad)
        else:
            grad_x = None
        if grad_x is None:
            return
        self.planner.emit(
            f"{group.node.name}: gradient of {group.operation}",
            dropout_row(self.planner, group, grad, grad_x),
        )
        if group.target in self.masked:
            self.masked.add(source)

    _dropout2d = _dropout
