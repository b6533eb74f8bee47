"""The register tiles of convolutions, as reported by ``describe``."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Row
from fastcnn.backends.lanes.kernels.record import clipped
from fastcnn.codegen.target import blocking, tile_heights

#: Positions of a convolution's tile by its channels, as in direct/kernels.py.
CONV_WIDTHS = {8: 3, 6: 4, 4: 4, 2: 8, 1: 8}


def product_tile(r: Row, pooled: bool = False) -> str:
    height = next(height for height in tile_heights(pooled) if height <= r[L.CHANNELS])
    largest = blocking().windows if pooled else blocking().products
    return clipped((height, CONV_WIDTHS[height]), largest)


def gradient_tile(r: Row, taps: int, run: int = 1, pooled: bool = False) -> str:
    """The largest tile of a weight gradient, as in direct/gradient_kernels.py."""
    if pooled and r[L.KERNEL_ROWS]:
        largest = blocking().windowed
        rows = 2 if r[L.KERNEL_ROWS] in (2, 4) else 3
        return f"1x{min(rows, largest[0]) * min(run, largest[1])}"
    wide = 9 if run == 3 else run
    if run == 1:
        wide = 6 if pooled or -(-taps // 6) * 6 <= -(-taps // 5) * 5 else 5
    high = 2 if pooled or wide == 9 else 3 if wide == 7 else 4
    return clipped((min(high, r[L.CHANNELS]), wide), blocking().gradients)
