"""Rows of the backward passes of poolings, and of what moves pixels."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.lowering.backward import Backward
from fastcnn.backends.lanes.planning.buffers import NO_HALO, Buffer
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.rows import adaptive_row, pool_row
from fastcnn.backends.lanes.planning.sampling import sampling_row, taps_of


class MapsBackward(Backward):
    """The walk with the operations that read windows, or single pixels, of a map."""

    def _max_pool2d(self, group: Group, grad: Buffer) -> None:
        """To the winners."""
        grad_x = self.wanted(group)
        if grad_x is not None:
            winner = self.winners[group.target]
            self.planner.emit(
                f"{group.node.name}: gradient of max pooling",
                pool_row(self.planner, L.K_MAX_POOL_BACKWARD, group, grad_x, grad, winner),
            )

    def _avg_pool2d(self, group: Group, grad: Buffer) -> None:
        """Spread over the windows."""
        grad_x = self.wanted(group)
        if grad_x is not None:
            self.planner.emit(
                f"{group.node.name}: gradient of average pooling",
                pool_row(self.planner, L.K_AVG_POOL_BACKWARD, group, grad_x, grad, None),
            )

    def _adaptive_pool(self, group: Group, grad: Buffer) -> None:
        grad_x, winners = self.wanted(group), self.winners.get(group.target)
        if grad_x is not None:
            kernel = L.K_MAX_POOL_BACKWARD if winners else L.K_AVG_POOL_BACKWARD
            self.planner.emit(
                f"{group.node.name}: gradient of adaptive pooling",
                adaptive_row(self.planner, kernel, grad_x, grad, winners),
            )

    _adaptive_avg_pool2d = _adaptive_max_pool2d = _adaptive_pool

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
