"""The interface common to forward walks with a sample, or a channel, in each lane."""

from fastcnn.backends.lanes.kernels.operation import LOWERINGS, Lowering
from fastcnn.backends.lanes.planning.buffers import Buffer
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.operations import OPERATIONS, Elementwise


class SharedForward:
    """Adds the rows of a network, group by group."""

    planner: Planner
    #: Each node's output.
    values: dict[int, Buffer]

    def add_group(self, group: Group) -> None:
        """Add a group's rows."""
        raise NotImplementedError

    def add_groups(self) -> None:
        """Add the rows of all groups."""
        for place, group in enumerate(self.planner.groups):
            self.planner.enter(group)
            self.add_group(group)
            self.planner.release_read(place, self.values)

    def output(self, group: Group) -> Buffer:
        """The buffer that a group fills."""
        raise NotImplementedError

    def joined(self, group: Group) -> list[Buffer]:
        """The inputs of a group."""
        return [self.values[source] for source in group.sources]


def lowering_of(operation: str) -> Lowering:
    """The lowering of an operation; raises Unsupported if there is none."""
    name = "elementwise" if isinstance(OPERATIONS[operation], Elementwise) else operation
    if name not in LOWERINGS:
        raise Unsupported(f"the operation {operation}")
    return LOWERINGS[name]
