"""Fuses the nodes of a network into groups, and assigns groups to stages of a pass."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fastcnn.backends.graph import Graph, Node
from fastcnn.operations import OPERATIONS


class Unsupported(Exception):
    """The engine does not support this network; another backend must run it."""


@dataclass
class Group:
    """Nodes that run as one: an operation and those fused to it."""

    operation: str
    node: Node
    #: The nodes whose outputs it reads.
    sources: tuple[int, ...]
    #: The last node, whose output other groups read.
    target: int
    #: Whether ReLU, or 2x2 max pooling (after ReLU, if both), is fused to the operation.
    relu: bool = False
    pooled: bool = False
    #: Whether ReLU6 is fused to the operation.
    capped: bool = False
    #: Whether the second source is added to the operation's result, before ReLU.
    adds: bool = False
    #: Whether all threads divide the whole batch; otherwise each thread has its own blocks.
    whole: bool = False
    #: Whether a linear layer processes one block after the other.
    by_block: bool = False
    #: Stages of the forward pass. Between two stages every thread has finished all blocks; a value
    #: that is written and read in the same stage need not outlive its block.
    reads: int = 0
    writes: int = 0
    #: All nodes of the group.
    members: list[int] = field(default_factory=list)
    #: By part of a convolution, such as ``"forward"``: the algorithm of its rows.
    algorithms: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> int:
        """The only, or first, node whose output is read."""
        return self.sources[0]


def fuse(graph: Graph, pools: Callable[[Node], bool] = lambda node: True) -> list[Group]:
    """Group nodes: ReLU is fused to the operation before it, 2x2 max pooling to a convolution.

    Max pooling only to convolutions for which ``pools`` is true.
    """
    readers = Counter(source for node in graph.nodes for source in node.inputs)
    groups: list[Group] = []
    makers: dict[int, Group] = {}
    for index, node in enumerate(graph.nodes):
        source = node.inputs[0]
        last = makers.get(source) if readers[source] == 1 and not node.parameters else None
        if last and not last.pooled and _fuses(last, node, pools):
            last.relu |= node.operation == "relu"
            last.pooled = node.operation == "max_pool2d"
            last.target = index
        else:
            last = Group(node.operation, node, node.inputs, index)
            groups.append(last)
        last.members.append(index)
        makers[index] = last
    return groups


def _fuses(last: Group, node: Node, pools: Callable[[Node], bool]) -> bool:
    if node.operation == "relu":
        return OPERATIONS[last.operation].fuses_relu and not last.relu
    if last.operation != "conv2d" or node.operation != "max_pool2d":
        return False
    arguments = node.arguments
    tiles = arguments["kernel_size"] == arguments["stride"] == (2, 2)
    tiles = tiles and arguments["padding"] == (0, 0)
    whole = not any(size % 2 for size in node.input_shapes[0][1:])
    return (
        tiles
        and arguments.get("dilation", (1, 1)) == (1, 1)
        and (whole or not arguments.get("ceil_mode", False))
        and pools(last.node)
    )


def fuse_sums(
    groups: list[Group], operation: str, adds: Callable[[Group], bool] = lambda group: True
) -> list[Group]:
    """Fuse the sum that is an operation's only reader; the group runs in the sum's place.

    Only for groups for which ``adds`` is true.
    """
    readers = Counter(source for group in groups for source in group.sources)
    found: list[Group] = []
    makers: dict[int, Group] = {}
    for group in groups:
        if group.operation == "add":
            for own, other in (sorted(group.sources, reverse=True), sorted(group.sources)):
                last = makers.get(own)
                if (
                    last is not None
                    and last.operation == operation
                    and not (last.relu or last.pooled or last.adds)
                    and readers[own] == 1
                    and adds(last)
                    and _may_wait(last, found)
                ):
                    found.remove(last)
                    last.sources, last.adds = (last.source, other), True
                    last.relu, last.target = group.relu, group.target
                    last.members += group.members
                    group = last
                    break
        found.append(group)
        makers[group.target] = group
    return found


def fuse_caps(groups: list[Group], operations: tuple[str, ...]) -> list[Group]:
    """Fuse ReLU6 to some operations of which it is the only reader."""
    readers = Counter(source for group in groups for source in group.sources)
    found: list[Group] = []
    makers: dict[int, Group] = {}
    for group in groups:
        last = makers.get(group.source) if group.operation == "relu6" else None
        fuses = last is not None and last.operation in operations
        if last and fuses and not last.pooled and readers[group.source] == 1:
            last.capped, last.target = True, group.target
            last.members += group.members
            group = last
        else:
            found.append(group)
        makers[group.target] = group
    return found


def _may_wait(group: Group, groups: list[Group]) -> bool:
    """Whether no later group updates the same running statistics."""
    after, buffers = groups[groups.index(group) + 1 :], group.node.buffers
    return not buffers or all(other.node.buffers != buffers for other in after)


def number_stages(groups: list[Group], training: bool) -> int:
    """Set each group's stages; returns the last one.

    Linear layers, and some convolutions, process many blocks at a time, in a separate stage; batch
    normalisation by the batch's statistics ends a stage between its sums and their use.
    """
    stage = 0
    for group in groups:
        if group.whole or (group.operation == "linear" and not group.by_block):
            group.reads = group.writes = stage + 1
            stage += 2
        elif group.node.takes_batch_statistics(training):
            group.reads, group.writes = stage, stage + 1
            stage += 1
        else:
            group.reads = group.writes = stage
    return stage
