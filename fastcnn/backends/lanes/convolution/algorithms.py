"""Selects the algorithm of each part of a convolution: the first in a list that accepts it.

Used when a program is lowered.

The thresholds are measured crossovers; docs/engine.md has figures.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import gcd

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.depthwise.algorithm import DEPTHWISE
from fastcnn.backends.lanes.convolution.direct.algorithm import DIRECT
from fastcnn.backends.lanes.convolution.direct_batch.algorithm import DIRECT_BATCH
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.input_lanes.algorithm import INPUT_LANES
from fastcnn.backends.lanes.convolution.winograd1d.algorithm import WINOGRAD_1D
from fastcnn.backends.lanes.convolution.winograd2d.algorithm import WINOGRAD_2D
from fastcnn.backends.lanes.convolution.winograd2d_batch.algorithm import WINOGRAD_2D_BATCH
from fastcnn.backends.lanes.convolution.winograd2d_phases.algorithm import WINOGRAD_2D_PHASES
from fastcnn.backends.lanes.planning.buffers import Halo, union
from fastcnn.errors import ConfigurationError

#: In order of preference; the last one computes everything.
ALGORITHMS: tuple[Algorithm, ...] = (
    WINOGRAD_2D_BATCH,
    WINOGRAD_2D,
    WINOGRAD_2D_PHASES,
    DIRECT_BATCH,
    WINOGRAD_1D,
    DEPTHWISE,
    INPUT_LANES,
    DIRECT,
)
#: Maximum channel pairs at which kernels of five columns select pixels of pooling windows.
MOST_PAIRS_OF_FIVE = 128
#: Sets of a second-level cache of a megabyte, and cache lines that fit in one.
SETS, WAYS = 1024, 16
log = logging.getLogger("fastcnn.lanes")
_forced: ContextVar[str | None] = ContextVar("conv_algorithm", default=None)
_reported: set[str] = set()


@contextmanager
def conv_algorithm(name: str | None) -> Iterator[None]:
    """Context manager in which convolutions use one algorithm wherever it fits.

    By default, the engine uses the algorithm that measured fastest for each convolution, and for
    each of its parts: the forward pass and the gradients of input and weight. With this, algorithms
    can be compared. It applies to what ``lanes`` plans in the block, in the same thread: training,
    sessions, functions of :mod:`fastcnn.functional`, and :func:`fastcnn.plan`, whose ``describe``
    shows the algorithms. A session made in the block keeps its algorithm.

    Parameters
    ----------
    name : str or None
        Such as ``"direct"`` or ``"winograd2d"``: "How the engine works" has a table of all; None
        lets the engine choose. ``"direct"`` computes the parts that the algorithm does not fit, and
        a warning in the log names them. Sessions on up to 16 samples have fewer algorithms.

    Raises
    ------
    ConfigurationError
        If there is no algorithm of that name.

    Examples
    --------
    >>> import fastcnn
    >>> model = fastcnn.models.lenet5(seed=0)
    >>> with fastcnn.conv_algorithm("direct"):
    ...     program = fastcnn.plan(model, batch_size=64)
    >>> program.algorithms[0]
    ('conv1', {'forward': 'direct', 'weight gradient': 'direct'})
    """
    names = [algorithm.name for algorithm in ALGORITHMS]
    if name is not None and name not in names:
        raise ConfigurationError(f"no algorithm {name!r}: must be one of {', '.join(names)}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def forced_algorithm() -> str | None:
    """The name of the algorithm that is forced, if any."""
    return _forced.get()


def report_refused(used: Iterable[tuple[str, dict[str, str]]]) -> None:
    """Log, once, which parts of a program's convolutions the forced algorithm does not fit."""
    name = forced_algorithm()
    if name is None:
        return
    refused = [
        f"{layer} ({', '.join(parts)})"
        for layer, found in used
        if (parts := [part for part, other in found.items() if other != name])
    ]
    text = f"{name} does not fit, and {ALGORITHMS[-1].name} computes: {', '.join(refused)}"
    if refused and text not in _reported:
        _reported.add(text)
        log.warning("%s", text)


def algorithm(g: ConvGeometry, part: Part) -> Algorithm:
    """The first algorithm that accepts a part of a convolution."""
    name = forced_algorithm()
    for found in ALGORITHMS[:-1]:
        asked = name is None or found.name == name
        if asked and found.fits(g, part) and (name or found.pays(g, part)):
            return found
    return ALGORITHMS[-1]


def chooses(g: ConvGeometry) -> bool:
    """Whether the weight gradient is faster with selected pixels than by the usual algorithm."""
    found = algorithm(g, Part.GRADIENT)
    if found is WINOGRAD_1D and forced_algorithm() is None:
        return g.kernel[1] == 3 or g.group_inputs * g.out_channels <= MOST_PAIRS_OF_FIVE
    return found is DIRECT


def shares_batch(g: ConvGeometry) -> bool:
    """Whether a convolution's rows process the whole batch: its buffers cannot be per thread."""
    return any(algorithm(g, part).shares_batch for part in (Part.PRODUCT, Part.TRANSPOSE))


def adds(g: ConvGeometry) -> bool:
    """Whether a convolution's rows can add another map to their output before storing it."""
    return algorithm(g, Part.PRODUCT).adds


def pools(g: ConvGeometry) -> bool:
    """Whether a convolution's rows can also compute the 2x2 max pooling that follows."""
    return algorithm(g, Part.PRODUCT).pools(g)


def input_halo(g: ConvGeometry) -> Halo:
    """Zero padding that a convolution and its weight gradient read around the input."""
    first, second = algorithm(g, Part.PRODUCT), algorithm(g, Part.GRADIENT)
    found = union(first.input_halo(g), second.input_halo(g))
    return _apart(found, g.input, g.group_inputs * g.groups) if first is DIRECT else found


def gradient_halo(g: ConvGeometry) -> Halo:
    """Zero padding read around the output gradient by the input and weight gradients."""
    parts = (Part.TRANSPOSE, Part.GRADIENT)
    first, second = (algorithm(g, part) for part in parts)
    found = union(first.gradient_halo(g, parts[0]), second.gradient_halo(g, parts[1]))
    return _apart(found, g.output, g.out_channels) if first is DIRECT else found


def _apart(halo: Halo, size: tuple[int, ...], channels: int) -> Halo:
    """A column more where the channels of a pixel would not fit in the cache's sets they map to."""
    top, bottom, left, right = halo
    lines = (size[0] + top + bottom) * (size[1] + left + right)
    if channels * gcd(lines, SETS) <= SETS * WAYS:
        return halo
    return top, bottom, left, right + 1
