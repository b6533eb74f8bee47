"""Import of Clip, Max and Min: activations with bounds."""

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import FileNode, shortest
from fastcnn.interop.onnx_wiring import Bounds, Wiring
from fastcnn.layers import Hardtanh, Layer, ReLU, ReLU6

#: A bound at or beyond this has no effect.
LARGEST = float(np.finfo(np.float32).max)


def take_bounds(w: Wiring, node: FileNode) -> None:
    """Read a Clip, or a Max or Min of samples and a number."""
    found = _bounds(w, node)
    bounds = found.low, found.high
    layer: Layer
    if bounds == (-np.inf, np.inf):
        w.samples[node.output] = w.value(found.source)
        return
    if bounds == (0.0, np.inf):
        layer = ReLU()
    elif bounds == (0.0, 6.0):
        layer = ReLU6()
    else:
        layer = Hardtanh(max(found.low, -LARGEST), min(found.high, LARGEST))
    value = w.value(found.source)
    if value.view.is_expanded:
        raise ConfigurationError(f"it reads {found.source!r}, which an Expand has repeated")
    w.add(node, [layer], (value.layer,), value.view)
    if not np.isfinite(bounds).all():
        w.one_sided[node.output] = found


def _bounds(w: Wiring, node: FileNode) -> Bounds:
    if node.kind == "Clip":
        source = node.inputs[0]
        numbers = [
            node.number(name, np.nan) if node.has(name) else _number(w, node, place, source)
            for place, name in ((1, "min"), (2, "max"))
        ]
        low, high = numbers
        low, high = -np.inf if low is None else low, np.inf if high is None else high
    else:
        sources = [name for name in node.inputs if name not in w.file.constants]
        if len(sources) != 1:
            raise ConfigurationError("a maximum or minimum of a number and several samples")
        (source,) = sources
        places = [place for place, name in enumerate(node.inputs) if name != source]
        numbers = [_number(w, node, place, source) for place in places]
        given = [number for number in numbers if number is not None]
        low, high = -np.inf, np.inf
        if given and node.kind == "Max":
            low = max(given)
        elif given:
            high = min(given)
    if np.isnan(low) or np.isnan(high):
        raise ConfigurationError("its bounds are not numbers")
    before = w.one_sided.get(source)
    if before and max(low, before.low) < min(high, before.high):
        source, low, high = before.source, max(low, before.low), min(high, before.high)
    if low > high:
        raise ConfigurationError(f"its bounds, {low:g} and {high:g}, leave a single value")
    low, high = -np.inf if low <= -LARGEST else low, np.inf if high >= LARGEST else high
    if low == np.inf or high == -np.inf:
        raise ConfigurationError("its bounds are not finite")
    return Bounds(source, low, high)


def _number(w: Wiring, node: FileNode, place: int, source: str) -> float | None:
    """A scalar constant, which must not add dimensions to the samples."""
    if not node.input(place):
        return None
    if node.inputs[place] not in w.file.constants:
        raise ConfigurationError("its bounds must be constants")
    array = node.weight(place)
    value = w.samples.get(w.one_sided[source].source if source in w.one_sided else source)
    if array.size != 1 or (value is not None and array.ndim > 1 + len(value.shape)):
        raise ConfigurationError(f"a bound of shape {array.shape}, not one number")
    return shortest(array.item())
