"""Import of Pad, Resize and Upsample, for samples with channels first or last."""

from typing import Any

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import MOST_ALONG, FileNode
from fastcnn.interop.onnx_map_readers import maps, of_maps, upsample
from fastcnn.interop.onnx_views import View
from fastcnn.interop.onnx_wiring import Samples, Wiring
from fastcnn.layers import Layer

#: Padding layers by ONNX's names of modes.
PADDINGS = {
    "constant": "ZeroPad",
    "reflect": "ReflectionPad",
    "edge": "ReplicationPad",
    "wrap": "CircularPad",
}
#: Rounding of a coordinate to a pixel, by ONNX's names.
ROUNDINGS: dict[str, Any] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda place: np.ceil(place - np.float32(0.5)),
    "round_prefer_ceil": lambda place: np.floor(place + np.float32(0.5)),
}


def _mapped(w: Wiring, node: FileNode) -> tuple[int, tuple[int, ...], Shape]:
    """The layer that a node reads, the order of its dimensions in the file, and its shape."""
    index, order = w.ordered(node, node.inputs[0])
    return index, order, maps(w.own_shape(index))


def _places(axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Axes as distinct non-negative indices."""
    found = tuple(axis + rank * (axis < 0) for axis in axes)
    if len(set(found)) < len(found) or not all(0 <= axis < rank for axis in found):
        raise ConfigurationError(f"axes={axes} of {rank} dimensions")
    return found


def take_pad(w: Wiring, node: FileNode) -> None:
    """Read a Pad with zeros or copies of pixels."""
    index, order, own = _mapped(w, node)
    rank = len(own) + 1
    mode = node.text("mode", "constant")
    if mode not in PADDINGS:
        raise ConfigurationError(f"a Pad with mode={mode!r}")
    value = node.constant(2)
    if node.number("value", 0.0) or (value is not None and np.any(value)):
        raise ConfigurationError("a Pad with other values than zeros")
    pads = node.whole_numbers("pads", 1) or ()
    axes = tuple(range(rank))
    if node.input(3):
        axes = _places(node.whole_numbers("axes", 3) or (), rank)
    sides = dict.fromkeys(range(rank), (0, 0))
    if len(pads) != 2 * len(axes):
        raise ConfigurationError(f"a Pad by {pads} of {len(axes)} axes of samples of {own}")
    sides |= zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True)
    by_own = {order[place - 1]: sides[place] for place in range(1, rank)}
    if any(sides[0]) or any(by_own[0]):
        raise ConfigurationError(
            f"a Pad by {pads} of samples of {own}: only pixels can be padded, not channels"
        )
    padding = [n for axis in reversed(range(1, len(own))) for n in by_own[axis]]
    if not any(padding):
        w.samples[node.output] = Samples(index, View.of(own).transposed(order))
        return
    layer: Layer = of_maps(PADDINGS[mode], own)(tuple(padding))
    w.add(node, [layer], (index,), View.of(layer.output_shape(own)).transposed(order))


def take_resize(w: Wiring, node: FileNode) -> None:
    """Read a Resize or Upsample, by nearest or linear interpolation."""
    index, order, own = _mapped(w, node)
    is_old = node.kind == "Upsample" or w.file.opset == 10
    mode = node.text("mode", "nearest")
    place = node.text("coordinate_transformation_mode", "asymmetric" if is_old else "half_pixel")
    nearest = node.text("nearest_mode", "floor" if is_old else "round_prefer_floor")
    node.expect(antialias=0, exclude_outside=0, keep_aspect_ratio_policy=b"stretch")
    node.number("cubic_coeff_a", -0.75)
    node.number("extrapolation_value", 0.0)
    sizes = _sizes(w, node, order, own, is_old)
    output = tuple(sizes[axis][0] for axis in range(1, len(own)))
    layer = None
    if min(output) > 0 and mode == "nearest" and nearest in ROUNDINGS:
        nearby = [_nearest(own[a], *sizes[a], place, nearest) for a in range(1, len(own))]
        shrinks = any(new < old for new, old in zip(output, own[1:], strict=True))
        if all(nearby) and not (is_old and shrinks):
            layer = upsample(own, output, "nearest", None)
    if min(output) > 0 and mode == "linear":
        word = "bilinear" if len(own) == 3 else "linear"
        if place == "align_corners":
            layer = upsample(own, output, word, True)
        elif all(_is_between(own[a], *sizes[a], place) for a in range(1, len(own))):
            layer = upsample(own, output, word, None)
    if layer is None:
        factors = ", ".join(f"{sizes[axis][1]:g}" for axis in range(1, len(own)))
        raise ConfigurationError(
            f"a Resize of {own[1:]} pixels by {factors}, to {output}, with mode={mode!r}, "
            f"coordinate_transformation_mode={place!r}, nearest_mode={nearest!r}"
        )
    w.add(node, [layer], (index,), View.of(layer.output_shape(own)).transposed(order))


def _sizes(
    w: Wiring, node: FileNode, order: tuple[int, ...], own: Shape, is_old: bool
) -> dict[int, tuple[int, np.float32]]:
    """New size and factor of each dimension of the layer's output."""
    rank = len(own) + 1
    axes = tuple(range(rank))
    if node.has("axes"):
        axes = _places(node.integers("axes", None, least=-rank), rank)
    shape = (1, *(own[axis] for axis in order))
    found = {place: (size, np.float32(1)) for place, size in enumerate(shape)}
    scales = node.plain("scales") if node.has("scales") else node.constant(1 if is_old else 2)
    numbers = w.numbers_of(node.input(3))
    if numbers is not None and numbers.values:
        values = numbers.values
        if len(values) != len(axes):
            raise ConfigurationError(f"a Resize of samples of {own} to {values}")
        for place, size in zip(axes, values, strict=True):
            if place == 0:
                if size not in (None, w.file.batch):
                    raise ConfigurationError(f"a Resize only for batches of {size}")
            elif size is None or size < 1:
                raise ConfigurationError(f"a Resize of samples of {own} to {values}")
            else:
                found[place] = size, np.float32(size / shape[place])
    elif scales is not None and np.size(scales) == len(axes):
        for place, factor in zip(axes, np.asarray(scales, np.float32).reshape(-1), strict=True):
            if not 0.0 < factor < 2.0**20:
                raise ConfigurationError(f"a Resize by {factor:g}")
            found[place] = int(np.floor(np.float32(shape[place]) * factor)), factor
    else:
        raise ConfigurationError("a Resize of unknown size")
    for place, (size, _) in found.items():
        if size > MOST_ALONG:
            raise ConfigurationError(f"a Resize of {shape[place]} pixels to {size}")
    by_own = {order[place - 1]: found[place] for place in range(1, rank)}
    if found[0][1] != 1 or by_own[0][0] != own[0] or by_own[0][1] != 1:
        raise ConfigurationError("a Resize of samples or channels")
    return by_own


def _positions(size: int, output: int, factor: np.float32, place: str) -> np.ndarray | None:
    """Coordinates of the output pixels in the input, computed in float32 as in runtimes."""
    steps, half = np.arange(output, dtype=np.float32), np.float32(0.5)
    if place == "asymmetric":
        return np.asarray(steps / factor)
    if place == "tf_half_pixel_for_nn":
        return np.asarray((steps + half) / factor)
    if place == "align_corners":
        return steps * np.float32(size - 1) / np.float32(max(output - 1, 1))
    if place == "pytorch_half_pixel" and output == 1:
        return np.zeros(1, np.float32)
    if place == "half_pixel_symmetric" and float(factor) * size != output:
        return None
    if place in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        return np.asarray((steps + half) / factor - half)
    return None


def _nearest(size: int, output: int, factor: np.float32, place: str, rounding: str) -> bool:
    """Whether nearest pixels are those of ``Upsample``."""
    positions = _positions(size, output, factor, place)
    if positions is None:
        return False
    taken = np.clip(ROUNDINGS[rounding](positions), 0, size - 1).astype(int)
    return bool(np.array_equal(taken, np.arange(output) * size // output))


def _is_between(size: int, output: int, factor: np.float32, place: str) -> bool:
    """Whether coordinates are those of ``Upsample``, whose factor is the ratio of the sizes."""
    positions = _positions(size, output, factor, place)
    if positions is None or place == "tf_half_pixel_for_nn":
        return False
    steps = np.arange(output, dtype=np.float64)
    wanted = np.clip((steps + 0.5) * size / output - 0.5, 0, size - 1)
    return bool(np.abs(np.clip(positions, 0, size - 1) - wanted).max() <= 1e-5 * size)


def interpolated(w: Wiring, node: FileNode) -> tuple[Layer, str] | None:
    """The linear Upsample of a sequence that PyTorch writes as ``a + (b - a) * t``.

    ``a`` and ``b`` are neighbours, gathered from a transposed sequence.
    """
    for name, scaled in (node.inputs, node.inputs[::-1]):
        product = w.made_by(scaled, "Mul")
        slope = None if product is None else w.made_by(product.inputs[0], "Sub")
        if product is None or slope is None or slope.inputs[1] != name:
            continue
        found = [_gathered(w, each) for each in (name, slope.inputs[0])]
        weights, shape = _weights(w, product.inputs[1]), w.shape(found[0][0])
        if found[0][0] != found[1][0] or shape is None or len(shape) != 2 or weights is None:
            continue
        (source, low), (_, high) = found
        size, output = shape[1], len(low)
        if not len(low) == len(high) == len(weights) or not set(high - low) <= {0, 1}:
            continue
        factor = np.float32(output / size)
        for place, corners in (("half_pixel", None), ("align_corners", True)):
            wanted = _positions(size, output, factor, place)
            assert wanted is not None
            given = low + (high - low) * weights
            if np.abs(given - np.clip(wanted, 0, size - 1)).max() <= 1e-5 * size:
                return upsample(shape, (output,), "linear", corners), source
    return None


def _weights(w: Wiring, name: str) -> np.ndarray | None:
    array = w.file.constants[name] if name in w.file.constants else np.zeros(0)
    return array if array.ndim == 1 and array.dtype.kind == "f" else None


def _gathered(w: Wiring, name: str) -> tuple[str, np.ndarray]:
    """The sequences whose points a value takes, and their indices; "" if there are none."""
    last = w.made_by(name, "Transpose")
    node = None if last is None else w.made_by(last.inputs[0], "GatherND")
    first = None if node is None else w.made_by(node.inputs[0], "Transpose")
    known = node is not None and node.inputs[1] in w.file.constants
    if last is None or node is None or first is None or not known:
        return "", np.zeros(0)
    indices = w.file.constants[node.inputs[1]]
    turned = [tuple(each.given.get("perm", ())) for each in (first, last)]
    is_taken = turned == [(2, 0, 1), (1, 2, 0)] and not node.given.get("batch_dims", 0)
    if not is_taken or indices.dtype.kind != "i" or indices.shape[1:] != (1,):
        return "", np.zeros(0)
    return first.inputs[0], indices[:, 0]
