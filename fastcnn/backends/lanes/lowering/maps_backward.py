"""Rows of the backward passes of poolings, and of what moves pixels."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.lowering.backward import Backward
from fastcnn.backends.lanes.planning.buffers import NO_HALO, Buffer
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.rows import (
    average_row,
    pool_offsets,
    winner_gradient_row,
)
from fastcnn.backends.lanes.planning.sampling import sampling_row, taps_of


class MapsBackward(Backward):
    """The walk with the operations that read windows, or single pixels, of a map."""

    def _max_pool2d(self, group: Group, grad: Buffer) -> None:
        self._to_winners(group, grad, "gradient of max pooling")

    def _adaptive_max_pool2d(self, group: Group, grad: Buffer) -> None:
        self._to_winners(group, grad, "gradient of adaptive pooling")

    def _to_winners(self, group: Group, grad: Buffer, name: str) -> None:
        """To the winners, of which a window that a ReLU closed has none.

        What a convolution's gradient gets nothing else is summed up at once for its biases.
        """
        planner, takes_place = self.planner, self._takes_place(group)
        grad_x = self.wanted(group)
        if grad_x is None:
            return
        self.mask(group)
        windows, _ = pool_offsets(group, grad_x, grad)
        values = winner_gradient_row(planner, grad_x, grad, self.winners[group.target], windows)
        planner.emit(f"{group.node.name}: {name}", values)
        maker = planner.makers.get(group.source)
        if takes_place and maker is not None and self._sums_biases(maker):
            _, bias = self._partial(maker, 0, grad_x.channels)
            values[L.EXTRA], values[L.EXTRA_BLOCK] = bias["extra"], bias["extra_block"]
            self.bias_sums[group.source] = bias

    def _sums_biases(self, group: Group) -> bool:
        """Whether the sums of its output's gradient are the gradient of a convolution's biases."""
        is_product = group.operation in ("conv2d", "conv_transpose2d")
        return is_product and not group.pooled and self._trains(group, "bias")

    def _avg_pool2d(self, group: Group, grad: Buffer) -> None:
        """Spread over the windows."""
        grad_x = self.wanted(group)
        if grad_x is not None:
            self.planner.emit(
                f"{group.node.name}: gradient of average pooling",
                average_row(self.planner, L.K_AVG_POOL_BACKWARD, group, grad_x, grad),
            )

    def _adaptive_avg_pool2d(self, group: Group, grad: Buffer) -> None:
        """Spread over the windows."""
        grad_x = self.wanted(group)
        if grad_x is not None:
            self.planner.emit(
                f"{group.node.name}: gradient of adaptive pooling",
                average_row(self.planner, L.K_AVG_POOL_BACKWARD, group, grad_x, grad),
            )

    def _sampling(self, group: Group, grad: Buffer) -> None:
        """Back to the pixels of which the output's were made."""
        grad_x = self.wanted(group)
        if grad_x is not None:
            name = f"{group.node.name}: gradient of {group.operation.replace('_', ' ')}"
            taps = taps_of(group.node).backward
            self.planner.emit(name, sampling_row(self.planner, taps, grad, grad_x))

    _pad = _interpolate = _pixel_shuffle = _pixel_unshuffle = _channel_shuffle = _sampling

    def _unflatten(self, group: Group, grad: Buffer) -> None:
        """The same memory, unless it has another layout."""
        if grad.halo == NO_HALO:
            self._renamed(group, grad)
        else:
            self._sampling(group, grad)
