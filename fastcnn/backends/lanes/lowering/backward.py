"""The backward walk over a network: the buffers of gradients, who may overwrite them, and rows."""

from typing import Any

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.elements import copy
from fastcnn.backends.lanes.kernels.formula_table import formula_kernel
from fastcnn.backends.lanes.kernels.join import K_ADD
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.linear import K_REDUCE
from fastcnn.backends.lanes.lowering.elementwise import elementwise
from fastcnn.backends.lanes.lowering.shared_forward import lowering_of
from fastcnn.backends.lanes.planning.buffers import Buffer, union
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import element_columns
from fastcnn.operations import OPERATIONS, Elementwise


class Backward:
    """The gradients of a network's outputs, from the last node to the first.

    ``values``, ``winners`` and ``kept`` are the forward pass's, ``gradient`` is that of the
    network's output.
    """

    def __init__(
        self,
        planner: Planner,
        values: dict[int, Buffer],
        winners: dict[int, Buffer],
        kept: dict[int, Any],
        gradient: Buffer,
        input_gradient: bool,
    ) -> None:
        self.planner = planner
        self.values = values
        self.winners = winners
        self.kept = kept
        self.input_gradient = input_gradient
        #: Gradients of each node's output, one from each reader.
        self.contributions: dict[int, list[Buffer]] = {len(planner.graph.nodes) - 1: [gradient]}
        #: Offsets of gradients with several readers, which must not be overwritten.
        self.shared: set[int] = set()
        # By node whose output is read in parts: its gradients, and the parts that each one has.
        self._divided: dict[int, list[tuple[Buffer, list[Group]]]] = {}
        # By node that is such a part: its buffer within one of these gradients.
        self._places: dict[int, Buffer] = {}
        #: By convolution whose bias gradient is already summed: columns of the sums.
        self.bias_sums: dict[int, dict[str, int]] = {}
        #: By element-wise node whose gradient is that of its averages: the pooling.
        self.averaged: dict[int, Group] = {}
        #: Nodes whose gradient is already masked by their ReLU.
        self.masked: set[int] = set()
        # Outputs of a fused ReLU: the row that computes their gradient may also mask it.
        self.rectified = {
            g.target
            for g in planner.groups
            if g.relu and not g.pooled and (g.operation != "batch_norm" or g.adds)
        }
        for group in planner.groups:
            renamed = values[group.target].offset == values[group.source].offset
            renamed = renamed and OPERATIONS[group.operation].renames
            maker = planner.makers.get(group.source)
            # Pooling routes gradients to what its ReLU left; a dropout in between saves its hashes.
            drops = maker and maker.relu and maker.pooled and OPERATIONS[group.operation].random
            if renamed and (group.source in self.rectified or drops):
                self.rectified.add(group.target)

    def add(self, group: Group) -> None:
        """Add one group's rows, if its output is used and any requested gradient depends on it."""
        if group.target in self.contributions and self.is_needed(group.target):
            # The first pass of batch normalisation can read and add two gradients.
            most = 2 if group.operation == "batch_norm" else 1
            lowering_of(group.operation).backward(self, group, *self.gathered(group.target, most))

    def collected(self, index: int) -> Buffer:
        """The gradient of a node's output: the sum over its readers."""
        return self.gathered(index, 1)[0]

    def gathered(self, index: int, most: int) -> list[Buffer]:
        """The gradient of a node's output, as ``most`` summands at most; if any may be overwritten,
        the first may."""
        parts = self.contributions[index]
        for whole, groups in self._divided.get(index, []):
            if sum(self.values[group.target].channels for group in groups) < whole.channels:
                # Adding in place would fill channels that nobody writes and that must stay zero.
                self.shared.add(whole.offset)
        parts.sort(key=lambda part: part.offset in self.shared)
        while len(parts) > most:
            part = parts.pop()
            x, total = parts[0], self._writable(parts[0], index)
            columns = element_columns(self.planner, x=x, y=total, m=part)
            self.planner.emit(
                f"{self.planner.makers[index].node.name if index != INPUT else 'input'}: "
                "sum of gradients",
                row(K_ADD, **columns),
            )
            parts[0] = total
        return parts

    def _writable(self, grad: Buffer, index: int) -> Buffer:
        """A buffer for the gradient of a node's output: ``grad``, unless others read it."""
        if grad.offset not in self.shared:
            return grad
        return self.planner.like(self.values[index], self.planner.gradient_passes(index))

    def wanted(self, group: Group) -> Buffer | None:
        """A buffer for the gradient of the group's input, or None if it is not needed."""
        if self.takes_place(group) and self.is_needed(group.source):
            made = self.values[group.source]
            self.contributions.setdefault(group.source, []).append(made)
            return made
        return self.contribution(group.source)

    def is_needed(self, source: int) -> bool:
        """Whether the gradient of a node's output leads to a trained parameter, or to the input."""
        return self.input_gradient or source in self.planner.trained

    def trains(self, group: Group, name: str) -> bool:
        """Whether the gradient of one of a layer's parameters is needed."""
        return (group.target, name) in self.planner.gradients

    def contribution(self, source: int) -> Buffer | None:
        """A buffer for one reader's gradient of a node's output, or None if it is not needed."""
        if not self.is_needed(source):
            return None
        maker = self.planner.makers.get(source)
        if maker is not None and maker.operation == "narrow" and source not in self._places:
            made = self.place_of_part(maker)
            self.contributions.setdefault(source, []).append(made)
            return made
        return self._own_contribution(source)

    def _own_contribution(self, source: int) -> Buffer:
        """A new buffer for one reader's gradient of a node's output, not part of another one."""
        made = self.planner.like(self.values[source], self.planner.gradient_passes(source))
        self.contributions.setdefault(source, []).append(made)
        return made

    def place_of_part(self, group: Group) -> Buffer:
        """The gradient of a range of channels, within the gradient of all channels."""
        if group.target not in self._places:
            part = self._whole_of(group).part(
                group.node.arguments["start"], self.values[group.target].channels
            )
            self._places[group.target] = part
        return self._places[group.target]

    def _whole_of(self, group: Group) -> Buffer:
        """A gradient of all channels in which this part's are free; the others may be zero."""
        divided = self._divided.setdefault(group.source, [])
        for whole, groups in divided:
            if not any(_overlap(group, other) for other in groups):
                groups.append(group)
                return whole
        # Not part of another gradient: adding to that would fill channels that must stay zero.
        made = self._own_contribution(group.source)
        divided.append((made, [group]))
        return made

    def takes_place(self, group: Group) -> bool:
        """Whether the input's gradient may overwrite the input, which is not read any more."""
        if not OPERATIONS[group.operation].frees_input:
            return False
        source = group.source
        while len(self.planner.readers[source]) == 1 and not self.planner.is_joined(source):
            maker = self.planner.makers.get(source)
            if maker is None:
                return True
            if not OPERATIONS[maker.operation].renames or self.values[maker.source].offset != (
                self.values[source].offset
            ):
                masks = OPERATIONS[group.operation].masks_gradient
                masks = masks or source not in self.rectified
                return masks and not OPERATIONS[maker.operation].gradient_reads_output
            source = maker.source
        return False

    def spreads(self, group: Group) -> bool:
        """Whether the gradient row of the function before an average pooling computes both."""
        maker, source = self.planner.makers.get(group.source), group.source
        if maker is None or not self.is_needed(source) or self.planner.is_joined(source):
            return False
        if maker.writes != group.writes:  # the gradient of the averages may not outlive its stage
            return False
        record = OPERATIONS[maker.operation]
        alone = len(self.planner.readers[source]) == 1 and not record.parameters
        return alone and isinstance(record, Elementwise)

    def rectify(self, group: Group, grad: Buffer) -> Buffer:
        """The gradient before the group's fused ReLU."""
        if not group.relu or group.pooled or group.target in self.masked:
            return grad
        target = self._writable(grad, group.target)
        columns = element_columns(self.planner, x=target, y=grad, m=self.values[group.target])
        kernel = formula_kernel(elementwise("relu"), {}, "gradient")
        self.planner.emit(f"{group.node.name}: gradient of ReLU", row(kernel, **columns))
        return target

    def mask(self, group: Group) -> dict[str, int]:
        """Columns that mask the input's gradient by the rectified input that it overwrites."""
        if group.source not in self.rectified or not self.takes_place(group):
            return {}
        self.masked.add(group.source)
        return {"mode": L.MASKED}

    def fits(self, index: int, grad: Buffer) -> bool:
        """Whether the backward pass of the node's group can read a gradient of this layout."""
        if grad.halo == self.values[index].halo:
            return True
        needed = self.planner.gradient_halo(index)
        return self.planner.takes_any_layout(index) and union(needed, grad.halo) == grad.halo

    def hand_on(self, group: Group, source: int, grad: Buffer) -> None:
        """Pass a gradient on unchanged: the same memory, if the layout is usable."""
        if not self.is_needed(source):
            return
        if source == INPUT or not self.fits(source, grad):
            given = self.planner.like(self.values[source])
            copy(self.planner, group.node.name, grad, given)
            grad = given
        self.contributions.setdefault(source, []).append(grad)

    def sum_blocks(self, group: Group, target: int, partial: dict[str, int], count: int) -> None:
        """Plan one sum over blocks; adjacent ones are merged into one row."""
        reductions = self.planner.reductions
        if reductions and reductions[-1][1][L.KERNEL] == K_REDUCE:
            last = reductions[-1][1]
            end = last[L.OUT]
            if (last[L.W] + end, last[L.EXTRA] + end) == (target, partial["extra"]):
                last[L.OUT] += count
                return
        values = row(K_REDUCE, w=target, **partial, out=count)
        reductions.append((f"{group.node.name}: sum gradients", values))

    def renamed(self, group: Group, grad: Buffer) -> None:
        """Use the same memory, or copy into the map with a halo."""
        x, y = self.values[group.source], self.values[group.target]
        if not self.is_needed(group.source):
            return
        grad = grad.reshaped(*x.shape)
        if x.offset == y.offset and self.fits(group.source, grad):
            self.contributions.setdefault(group.source, []).append(grad)
            if group.target in self.masked and len(self.planner.readers[group.source]) == 1:
                self.masked.add(group.source)
            return
        grad_x = self.wanted(group)
        if grad_x is not None:
            copy(self.planner, group.node.name, grad, grad_x)

    def partial(
        self, group: Group, weights: int, biases: int
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Columns of each block's weight gradient, followed by its bias gradient."""
        partial = self.planner.for_each_block(weights + biases)
        bias = partial | {"extra": partial["extra"] + weights}
        return partial, self.bias_sums.get(group.target, bias)

    def needs_sums(self, group: Group) -> bool:
        """Whether the sums of the output's gradient are needed, and not yet computed."""
        return self.trains(group, "bias") and group.target not in self.bias_sums

    def sums_biases(self, group: Group) -> bool:
        """Whether the sums of the output's gradient are a convolution's bias gradient."""
        is_product = group.operation in ("conv2d", "conv_transpose2d")
        return is_product and not group.pooled and self.trains(group, "bias")


def _overlap(group: Group, other: Group) -> bool:
    """Whether two parts of one map have channels in common."""
    (first, length), (second, theirs) = (
        (part.node.arguments["start"], part.node.arguments["length"]) for part in (group, other)
    )
    return bool(first < second + theirs and second < first + length)
