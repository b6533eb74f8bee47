"""How operations become rows: functions that are written where their kernels are.

Each is called with what walks over a network, which knows where values and gradients are, and with
the group whose rows it adds to the program.
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
    """What adds the rows of an operation."""

    #: ``forward(walk, group)``.
    forward: "Callable[[Forward, Group], None]"
    #: ``backward(walk, group, grad)``, ``grad`` being the gradient of the group's output. That of
    #: batch normalisation also takes two gradients whose sum it is.
    backward: "Callable[..., None]"
    #: The forward pass with a channel in each lane; without it networks that have the operation
    #: take 16 samples at a time.
    channels: "Callable[[ChannelForward, Group], None] | None" = None
    #: Whether that pass has each channel of the output in the lane of the input's.
    keeps_lanes: bool = False


#: By the name of an operation; all element-wise ones are "elementwise".
LOWERINGS: dict[str, Lowering] = {}


def lowered(*operations: str, **fields: Any) -> None:
    """Note how some operations become rows, by the fields of a :class:`Lowering`."""
    LOWERINGS.update(dict.fromkeys(operations, Lowering(**fields)))
