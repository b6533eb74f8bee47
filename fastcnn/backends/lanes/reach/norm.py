"""Memory that rows of batch normalisation access."""

from collections.abc import Callable

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Reach, Touch, Touches, arena, parameters


def normalisation(
    *names: str, values: int = 0, sums: bool = False, learned: Callable[..., Touch] | None = None
) -> Callable[[Reach], Touches]:
    """Vectors of buffers at the same elements; per-channel values at BATCH, W and BIAS."""

    def touches(r: Reach) -> Touches:
        channels = r.count(L.CHANNELS)
        # Rows over elements may have some of all channels.
        of_all = r.count(L.OUT, channels) if names else channels
        for name in names:
            yield r.pixels(name, r.count(L.POSITIONS, 1))
        if values:
            each = r.along(values, of_all) + r.along(channels, 1)
            yield arena("BATCH", each + r[L.BATCH], 1)
        if sums:
            each = r.along(2, of_all) + r.along(channels, 1)
            yield r.sums(each)
        if learned is not None:
            yield learned("W", r.optional(L.W, channels))
            yield learned("BIAS", r.optional(L.BIAS, channels))

    return touches


def join(r: Reach) -> Touches:
    strips = r.count(L.TAPS, 1)
    r.table(L.TAP_TABLE, strips)
    each = r.along(2 * r.count(L.CHANNELS) * strips, 1)
    yield r.sums(each)


def joined_gradient_sums(r: Reach) -> Touches:
    mask = "M" if r.among(L.MODE, (L.PLAIN, L.MASKED)) == L.MASKED else ""
    other = "Z" if r.among(L.ADDS, (0, 1)) else ""
    yield from normalisation("X", "Y", *mask, *other, values=4, sums=True)(r)


def statistics(r: Reach) -> Touches:
    frozen = r.among(L.MODE, (L.OF_BATCH, L.FROZEN)) == L.FROZEN
    r.count(L.POSITIONS, 1)
    yield from normalisation(values=4, sums=not frozen, learned=parameters)(r)
    yield r.floats("SCALE", 2)
    running = 2 * r[L.CHANNELS]
    if frozen:
        yield arena("RUNNING", r.along(running, 1) + r[L.RUNNING], 1)
    else:
        yield arena("RUNNING", r.optional(L.RUNNING, running), 1)
