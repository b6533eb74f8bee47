"""One sample's forward pass: what moves pixels."""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.pixel_forward import PixelForward
from fastcnn.backends.lanes.planning.buffers import PixelBuffer
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported
from fastcnn.backends.lanes.planning.sampling import places, taps_of


class PixelMaps(PixelForward):
    """The walk with the operations that copy single pixels to other places."""

    def sampling(self, group: Group) -> None:
        """Copies of single pixels; sums of several are not for one sample alone."""
        x, y, taps = self.values[group.source], self.output(group), taps_of(group.node)
        assert isinstance(x, PixelBuffer)
        if (taps.weight != 1).any():
            raise Unsupported(f"{group.operation} of one sample, which mixes pixels")
        self.planner.emit(
            f"{group.node.name}: {group.operation.replace('_', ' ')}",
            row(
                L.K_GATHER,
                **x.columns("x"),
                **y.columns("y"),
                channels=taps.groups,
                positions=len(taps.weight),
                x_table=self.planner.table(places(x, taps.x_steps, taps.x)),
                y_table=self.planner.table(places(y, taps.y_steps, taps.y)),
                x_channel=taps.x_steps[0] * x.channel,
                y_channel=taps.y_steps[0] * y.channel,
            ),
        )

    pad = interpolate = pixel_shuffle = pixel_unshuffle = channel_shuffle = sampling

    def unflatten(self, group: Group) -> None:
        """The elements of a vector as a map; other shapes are not for one sample alone."""
        if len(group.node.input_shapes[0]) != 1:
            raise Unsupported("another shape of one sample's map")
        x, y = self.values[group.source], self.output(group)
        assert isinstance(x, PixelBuffer)
        targets = np.arange(y.channels)[:, None] * y.channel + y.pixels()
        self._gather(group.node.name, x, y, x.pixels(), targets.ravel())
