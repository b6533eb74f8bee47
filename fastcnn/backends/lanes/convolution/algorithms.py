"""Which algorithm computes each part of a convolution: the first of a list that accepts it.

The limits are where one measured faster than another; docs/engine.md has figures.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.depthwise.algorithm import DEPTHWISE
from fastcnn.backends.lanes.convolution.direct.algorithm import DIRECT
from fastcnn.backends.lanes.convolution.direct_batch.algorithm import DIRECT_BATCH
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.input_lanes.algorithm import INPUT_LANES
from fastcnn.backends.lanes.convolution.winograd1d.algorithm import WINOGRAD_1D
from fastcnn.backends.lanes.convolution.winograd2d.algorithm import WINOGRAD_2D
from fastcnn.backends.lanes.convolution.winograd2d_batch.algorithm import WINOGRAD_2D_BATCH
from fastcnn.backends.lanes.planning.buffers import Halo, union
from fastcnn.errors import ConfigurationError

#: The best first; the last one computes everything.
ALGORITHMS: tuple[Algorithm, ...] = (
    WINOGRAD_2D_BATCH,
    WINOGRAD_2D,
    DIRECT_BATCH,
    WINOGRAD_1D,
    DEPTHWISE,
    INPUT_LANES,
    DIRECT,
)
#: Pairs of channels up to which kernels of five columns meet chosen pixels of windows of pooling.
MOST_PAIRS_OF_FIVE = 128
_forced: ContextVar[str | None] = ContextVar("convolution", default=None)


@contextmanager
def forced(name: str | None) -> Iterator[None]:
    """Programs planned meanwhile use one algorithm wherever it fits, for tests and comparisons.

    Raises ConfigurationError if there is none of that name.
    """
    names = [algorithm.name for algorithm in ALGORITHMS]
    if name is not None and name not in names:
        raise ConfigurationError(f"convolution must be one of {', '.join(names)}, got {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def algorithm(g: ConvGeometry, part: Part) -> Algorithm:
    """The first one that accepts a part of a convolution."""
    name = _forced.get()
    for found in ALGORITHMS[:-1]:
        wanted = found.pays(g, part) if name is None else found.name == name
        if wanted and found.fits(g, part):
            return found
    return ALGORITHMS[-1]


def chooses(g: ConvGeometry) -> bool:
    """Whether products with chosen pixels are faster than the weights' gradient's algorithm."""
    found = algorithm(g, Part.GRADIENT)
    if found is WINOGRAD_1D and _forced.get() is None:
        return g.kernel[1] == 3 or g.group_inputs * g.out_channels <= MOST_PAIRS_OF_FIVE
    return found is DIRECT


def shares_batch(g: ConvGeometry) -> bool:
    """Whether rows of a convolution take the whole batch: no buffer of it may be a thread's."""
    return any(algorithm(g, part).shares_batch for part in (Part.PRODUCT, Part.TRANSPOSE))


def adds(g: ConvGeometry) -> bool:
    """Whether a convolution's rows can add another map to what they store."""
    return algorithm(g, Part.PRODUCT).adds


def input_halo(g: ConvGeometry) -> Halo:
    """Zeros that a convolution and its weights' gradient read around its input."""
    first, second = algorithm(g, Part.PRODUCT), algorithm(g, Part.GRADIENT)
    return union(first.input_halo(g), second.input_halo(g))


def gradient_halo(g: ConvGeometry) -> Halo:
    """Zeros that the input's gradient and the weights' read around that of the output."""
    parts = (Part.TRANSPOSE, Part.GRADIENT)
    first, second = (algorithm(g, part).gradient_halo(g, part) for part in parts)
    return union(first, second)
