"""The record that lowers an operation to rows; each is defined next to the operation's kernels.

Its functions are called with the walk over a network, which knows the buffers of values and
gradients, and with the group whose rows they add to the program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward
    from fastcnn.backends.lanes.planning.grouping import Group


@dataclass(frozen=True)
class Lowering:
    """The functions that lower an operation to rows."""

    #: ``forward(walk, group)``.
    forward: "Callable[[Forward, Group], None]"
    #: ``backward(walk, group, grad)``, with the gradient of the group's output; batch normalisation
    #: also accepts two gradients, whose sum it is.
    backward: "Callable[..., None]"
    #: The forward pass with a channel in each lane; without it, networks with the operation always
    #: run in blocks of 16 samples.
    channels: "Callable[[ChannelForward, Group], None] | None" = None
    #: Whether that pass keeps each channel in the lane of the input.
    keeps_lanes: bool = False


#: By operation name; all element-wise ones are "elementwise".
LOWERINGS: dict[str, Lowering] = {}


def lowered(*operations: str, **fields: Any) -> None:
    """Register the lowering of some operations, by the fields of a :class:`Lowering`."""
    LOWERINGS.update(dict.fromkeys(operations, Lowering(**fields)))
