"""Forward rows that are the same with a sample, or a channel, in each lane."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import Buffer
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import (
    average_row,
    element_columns,
    elements,
    fused,
    product_row,
)
from fastcnn.operations import OPERATIONS, Elementwise


class SharedForward:
    """What adds the rows of one group after the other, each by the method of its operation.

    Attributes
    ----------
    values : dict of int to Buffer
        Each node's output.
    """

    planner: Planner
    values: dict[int, Buffer]

    def add_group(self, group: Group) -> None:
        """Add a group's rows."""
        is_elementwise = isinstance(OPERATIONS[group.operation], Elementwise)
        method = self.elementwise if is_elementwise else getattr(self, group.operation)
        method(group)

    def output(self, group: Group) -> Buffer:
        """The buffer that a group fills."""
        raise NotImplementedError

    def elementwise(self, group: Group) -> None:
        """A function of each element."""
        raise NotImplementedError

    def joined(self, group: Group) -> list[Buffer]:
        """What meets in a group."""
        return [self.values[source] for source in group.sources]

    def add(self, group: Group) -> None:
        """Sum of two maps."""
        self._combine(group, L.K_ADD)

    def subtract(self, group: Group) -> None:
        """Difference of two maps."""
        self._combine(group, L.K_SUBTRACT)

    def _combine(self, group: Group, kernel: int) -> None:
        x, m = self.joined(group)
        columns = element_columns(self.planner, x=x, y=self.output(group), m=m)
        self.planner.emit(
            f"{group.node.name}: {group.operation}" + fused(group),
            row(kernel, **columns, relu=int(group.relu)),
        )

    def multiply(self, group: Group) -> None:
        """Product of two maps, one of which may be a factor for each channel, or each pixel."""
        x, m = sorted(self.joined(group), key=elements, reverse=True)
        self.planner.emit(
            f"{group.node.name}: multiply" + fused(group),
            product_row(self.planner, x, m, self.output(group), relu=int(group.relu)),
        )

    def avg_pool2d(self, group: Group) -> None:
        """Average pooling."""
        x, y = self.values[group.source], self.output(group)
        self.planner.emit(
            f"{group.node.name}: average pooling",
            average_row(self.planner, L.K_AVG_POOL, group, x, y),
        )

    def adaptive_avg_pool2d(self, group: Group) -> None:
        """Average pooling to a fixed output size."""
        x, y = self.values[group.source], self.output(group)
        self.planner.emit(
            f"{group.node.name}: adaptive average pooling",
            average_row(self.planner, L.K_AVG_POOL, group, x, y),
        )
