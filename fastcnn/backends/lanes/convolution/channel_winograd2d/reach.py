"""Memory that the kernel accesses, checked before a program runs."""

from fastcnn.backends.lanes.convolution.channel_direct.kernels import WHOLE
from fastcnn.backends.lanes.convolution.channel_direct.reach import positions_of_all
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.reach import outputs_at
from fastcnn.backends.lanes.convolution.winograd2d.strided import TRANSFORMS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena, parameters
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def channel_winograd(r: Reach, dilated: bool) -> Touches:
    """Square tiles of the input, and the part of the 4x4 output tiles inside the map."""
    transform = TRANSFORMS[r.among(L.DOWN, (1,) if dilated else tuple(TRANSFORMS))]
    spacing = r[L.SPACING] if dilated else LANES
    inputs, blocks, strip, taps = (
        r.count(column, 1) for column in (L.EXTRA, L.CHANNELS, L.TAPS, L.IN)
    )
    tiles = positions_of_all(r)
    r.count(L.GROUPS, 1)
    side = r.along(transform.side, r[L.X_ROW]) + r.along(transform.side, spacing)
    x = r.buffer(L.X) + r.along(inputs, r[L.X_CHANNEL]) + r.entries(L.X_TABLE, tiles)
    yield arena("X", x + side)
    sizes = r.table(L.STRIP_TABLE, 2 * tiles).reshape(tiles, 2).clip(0, OUTPUTS)
    for name in "Y" if r[L.M] < 0 else "YM":
        corners = r.table(getattr(L, f"{name}_TABLE"), tiles)
        yield from outputs_at(r, name, corners, sizes, spacing, steps=name)
    from_step, to_step = inputs * strip * LANES + STAGGER, blocks * strip * LANES + STAGGER
    scratch = transform.products * (from_step + to_step) + LANES
    if strip % WHOLE:
        raise ProgramError(f"strips of {strip} tiles, not a multiple of {WHOLE}")
    # A register tile rereads tiles before the end of the strip.
    read = r.entries(L.TAP_TABLE, taps) + r.along(strip, LANES)
    r.within("TAP_TABLE", read, from_step, 1)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), scratch)
    each = blocks * taps * LANES
    yield parameters("W", r.entries(L.S_TABLE, transform.products) + r.along(each, 1) + r[L.W])
    yield parameters("BIAS", r.along(blocks * LANES, 1) + r[L.BIAS])
