"""Reordered samples: the effect of Reshape, Transpose and Squeeze on a layer's output."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.layers import ChannelShuffle, Flatten, Layer, PixelShuffle, PixelUnshuffle, Unflatten

#: A stride in the flat sample, and the number of elements at that stride.
Run = tuple[int, int]
#: Most orders tried in the search for several layers that produce one.
MOST_TRIED = 2_000


@dataclass(frozen=True)
class View:
    """A strided view: the position in a flat sample of each element of another shape.

    Attributes
    ----------
    dims : tuple of tuple of (int, int)
        For each dimension the strides and sizes of its runs, from the outermost. A stride of 0
        repeats.
    """

    dims: tuple[tuple[Run, ...], ...]

    @classmethod
    def of(cls, shape: Shape) -> "View":
        """The contiguous view of a sample."""
        runs, step = list[tuple[Run, ...]](), 1
        for size in reversed(shape):
            runs.append(((step, size),) if size > 1 else ())
            step *= size
        return cls(tuple(reversed(runs)))

    @property
    def shape(self) -> Shape:
        return tuple(math.prod(size for _, size in runs) for runs in self.dims)

    @property
    def is_expanded(self) -> bool:
        """Whether any element is repeated."""
        return any(step == 0 for runs in self.dims for step, _ in runs)

    def transposed(self, order: Sequence[int]) -> "View":
        return View(tuple(self.dims[axis] for axis in order))

    def reshaped(self, shape: Shape) -> "View":
        """The same elements in the same order, in another shape."""
        waiting = [run for runs in self.dims for run in runs][::-1]
        dims = []
        for size in shape:
            taken, needed = list[Run](), size
            while needed > 1:
                step, count = waiting.pop()
                part = min(needed, count)
                if needed % part or count % part:
                    raise ConfigurationError(f"it divides {self.shape} into {shape} unevenly")
                if count > part:
                    waiting.append((step, count // part))
                taken.append((step * (count // part), part))
                needed //= part
            dims.append(_merged(taken))
        return View(tuple(dims))

    def expanded(self, shape: Shape) -> "View":
        """Broadcast dimensions of size 1 to a shape."""
        dims = []
        for runs, own, size in zip(self.dims, self.shape, shape, strict=True):
            if size not in (own, 1) and own != 1:
                raise ConfigurationError(f"it expands {self.shape} to {shape}")
            dims.append(((0, size),) if own == 1 and size > 1 else runs)
        return View(tuple(dims))

    def unexpanded(self) -> "View":
        """The view without repetitions."""
        return View(tuple(tuple(run for run in runs if run[0]) for runs in self.dims))

    def orders(self, own: Shape) -> list[tuple[int, ...]]:
        """The permutations of a layer's output dimensions that result in this view."""
        whole = View.of(own)
        if len(own) != len(self.dims) or len(own) > 4:
            return []
        return [p for p in permutations(range(len(own))) if whole.transposed(p) == self]


def _merged(runs: Sequence[Run]) -> tuple[Run, ...]:
    made = list[Run]()
    for step, size in runs:
        if made and made[-1][0] == step * size:
            made[-1] = (step, made[-1][1] * size)
        else:
            made.append((step, size))
    return tuple(made)


def arranged(own: Shape, view: View) -> list[Layer]:
    """Layers that rearrange a layer's output to a view."""
    whole, shape = View.of(own), view.shape
    if view == whole:
        return []
    if math.prod(shape) == math.prod(own):
        if is_reshaped(whole, view):
            return _reshape(own, shape)
        if found := _shuffle(own, view) or _pixels(own, view):
            return found
        # Swapping two groups of dimensions is a channel shuffle.
        runs = _merged([run for runs in view.dims for run in runs])
        if len(runs) == 2 and runs[0][0] < runs[1][0] and len(shape) <= 3:
            size = math.prod(own)
            flat = [*_reshape(own, (size, 1, 1)), ChannelShuffle(runs[1][1])]
            return [*flat, *_reshape((size, 1, 1), shape)]
        if found := _several(own, view):
            return found
    raise ConfigurationError(
        f"it reads samples of {own} in another order, as {shape}, for which fastcnn has no layer"
    )


def is_reshaped(whole: View, view: View) -> bool:
    """Whether a view has the elements of another in the same order."""
    try:
        return whole.reshaped(view.shape) == view
    except ConfigurationError:
        return False


def _reshape(own: Shape, shape: Shape) -> list[Layer]:
    if not 1 <= len(shape) <= 3:
        raise ConfigurationError(f"samples of {own} were reshaped to {shape}")
    made: list[Layer] = [Flatten()] if len(own) > 1 else []
    return [*made, Unflatten(1, shape)] if len(shape) > 1 else made


def shuffled(view: View, groups: int) -> View:
    """The view after a ChannelShuffle."""
    channels, *size = view.shape
    split = view.reshaped((groups, channels // groups, *size))
    return split.transposed((1, 0, *range(2, 2 + len(size)))).reshaped(view.shape)


def pixels_shuffled(view: View, factor: int) -> View:
    """The view after a PixelShuffle."""
    channels, rows, columns = view.shape
    split = view.reshaped((channels // factor**2, factor, factor, rows, columns))
    return split.transposed((0, 3, 1, 4, 2)).reshaped(
        (channels // factor**2, rows * factor, columns * factor)
    )


def pixels_unshuffled(view: View, factor: int) -> View:
    """The view after a PixelUnshuffle."""
    channels, rows, columns = view.shape
    split = view.reshaped((channels, rows // factor, factor, columns // factor, factor))
    return split.transposed((0, 2, 4, 1, 3)).reshaped(
        (channels * factor**2, rows // factor, columns // factor)
    )


def _shuffle(own: Shape, view: View) -> list[Layer]:
    if view.shape != own or len(own) < 2 or len(view.dims[0]) != 2:
        return []
    groups = view.dims[0][1][1]
    return [ChannelShuffle(groups)] if shuffled(View.of(own), groups) == view else []


def _pixels(own: Shape, view: View) -> list[Layer]:
    if len(own) != 3 or len(view.dims) != 3:
        return []
    whole, (channels, rows, _), new = View.of(own), own, view.shape
    up, down = new[1] // rows, rows // new[1]
    if up > 1 and new == (channels // up**2, rows * up, own[2] * up) and channels % up**2 == 0:
        if pixels_shuffled(whole, up) == view:
            return [PixelShuffle(up)]
        # TensorFlow's order of channels.
        if pixels_shuffled(shuffled(whole, up**2), up) == view:
            return [ChannelShuffle(up**2), PixelShuffle(up)]
    if down > 1 and new == (channels * down**2, rows // down, own[2] // down):
        made = pixels_unshuffled(whole, down)
        if made == view:
            return [PixelUnshuffle(down)]
        if shuffled(made, channels) == view:
            return [PixelUnshuffle(down), ChannelShuffle(channels)]
    return []


def _several(own: Shape, view: View) -> list[Layer]:
    """The shortest found sequence of pixel unshuffles and channel shuffles that gives a view."""
    if len(own) != 3 or len(view.dims) != 3 or own[1] % view.shape[1]:
        return []
    known: dict[View, list[Layer]] = {View.of(own): []}
    for made in (waiting := list(known)):
        for layers, reached in _next(made, view.shape[1]):
            if reached not in known:
                known[reached] = [*known[made], *layers]
                waiting.append(reached)
            if reached == view:
                return known[reached]
        if len(known) > MOST_TRIED:
            break
    return []


def _next(view: View, rows: int) -> Iterator[tuple[list[Layer], View]]:
    """Views after one layer, or two for TensorFlow's order, towards maps with ``rows`` rows."""
    channels, *size = view.shape
    with_pixels = [(list[Layer](), view)]
    for factor in range(2, size[0] // rows + 1):
        if size[0] % (rows * factor) == size[1] % factor == 0:
            with suppress(ConfigurationError):  # not a view of the flat sample
                made = pixels_unshuffled(view, factor)
                with_pixels.append(([PixelUnshuffle(factor)], made))
                yield with_pixels[-1]
    for layers, made in with_pixels:
        for groups in range(2, made.shape[0]) if not layers else (channels,):
            if made.shape[0] % groups == 0:
                with suppress(ConfigurationError):
                    yield [*layers, ChannelShuffle(groups)], shuffled(made, groups)
