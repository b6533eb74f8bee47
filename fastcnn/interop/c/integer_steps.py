"""Steps in 8-bit integers that move numbers or normalise within a sample.

Sums and squares of a set are exact integers; the only number that is not one is the inverse of a
standard deviation, of which square root and division are rounded alike everywhere.
"""

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.errors import ConfigurationError
from fastcnn.interop.c.integers import HIGH, LOW, IntegerStep, Scale
from fastcnn.interop.inference_plan import Plan
from fastcnn.interop.sample_steps import MOVING, NORMS, is_bilinear, places_of, sets_of, taps_of

SAMPLE = (*MOVING, *NORMS, "softmax")
#: What a softmax gives: shares of 256.
SHARES = Scale(1 / 256, LOW)
#: Bits after the point: of an exponential of at most 1.
EXP_BITS = 20
#: Bits after the point: of the share of a pixel on each axis, of a normalised number, of a factor.
SHARE_BITS, UNIT_BITS, FACTOR_BITS = 8, 12, 16
#: Numbers of a set, so that products with 31 bits fit 64.
LARGEST_SET = 1 << 22


def sample_arrays(plan: Plan, node: Node, given: Scale, scale: Scale) -> dict[str, np.ndarray]:
    """A step's constants.

    Raises
    ------
    ConfigurationError
        If a set that is normalised is too large.
    """
    if is_bilinear(node):
        taps = [np.concatenate([axis[:2], _shares(axis[2:])]) for axis in taps_of(node)]
        return {
            name: axis.astype(np.int64)
            for name, axis in zip(("rows", "columns"), taps, strict=True)
        }
    if node.operation in MOVING:
        parts, places = places_of(node)
        return {"parts": np.array(parts), "places": places}
    sets = sets_of(node)
    if node.operation == "softmax":
        below = given.scale * np.arange(HIGH - LOW + 1)
        return {"exponentials": np.rint(np.exp(-below) * 2**EXP_BITS).astype(np.int64)}
    if sets.size > LARGEST_SET:
        raise ConfigurationError(
            f"layer {node.name!r}: {node.operation} of more than {LARGEST_SET:,} numbers together "
            f"has no integers, got {sets.size:,}"
        )
    arrays = {"weight": _factors(np.ones(1) / scale.scale)}
    for which in ("weight", "bias"):
        if which in node.parameters:
            values = plan.state[node.parameters[which]].reshape(-1)
            arrays[which] = _factors(values / scale.scale)
    # What is added to size**2 times the variance of 8-bit numbers.
    summand = node.arguments["eps"] * sets.size**2 / given.scale**2
    return arrays | {"summand": np.array(summand, np.float64)}


def _shares(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 2**SHARE_BITS)


def _factors(values: np.ndarray) -> np.ndarray:
    limit = 2**31 - 1
    return np.clip(np.rint(values * 2.0**FACTOR_BITS), -limit, limit).astype(np.int64)


def sample_step(step: IntegerStep, x: np.ndarray, zero: int) -> np.ndarray:
    """The step on an int64 array."""
    node, arrays = step.node, step.arrays
    if "rows" in arrays:
        return zero + _between(x - zero, arrays)
    if "places" in arrays:
        parts = x.reshape(len(x), int(arrays["parts"]), -1)
        padded = np.pad(parts, ((0, 0), (0, 0), (1, 0)), constant_values=zero)
        return padded[:, :, arrays["places"] + 1].reshape(len(x), *node.output_shape)
    if "exponentials" in arrays:
        powers = arrays["exponentials"][x.max(axis=1, keepdims=True) - x]
        total = powers.sum(axis=1, keepdims=True)
        return np.clip((512 * powers + total) // (2 * total) + LOW, LOW, HIGH)
    return np.clip(step.scale.zero + _normalised(node, arrays, x - zero), LOW, HIGH)


def _between(x: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Pixels between pixels, with the shares of both axes multiplied before rounding."""
    one = 1 << SHARE_BITS
    for axis, name in ((2, "rows"), (3, "columns")):
        first, second, share = arrays[name]
        share = share.reshape(-1, *(1,) * (3 - axis))
        x = (one - share) * np.take(x, first, axis) + share * np.take(x, second, axis)
    return (x + (1 << (2 * SHARE_BITS - 1))) >> 2 * SHARE_BITS


def _normalised(node: Node, arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    sets = sets_of(node)
    parts = x.reshape(len(x), sets.outer, sets.size, sets.inner)
    total = parts.sum(axis=2, keepdims=True)
    if node.operation == "rms_norm":
        total = np.zeros_like(total)
    squares = (parts * parts).sum(axis=2, keepdims=True)
    variance = (sets.size * squares - total * total).astype(np.float64) + arrays["summand"]
    positive = np.where(variance > 0.0, variance, 1.0)
    inverse = np.where(variance > 0.0, 2.0**UNIT_BITS / np.sqrt(positive), 0.0)
    mantissa, exponent = np.frexp(inverse)
    multiplier = np.floor(mantissa * 2.0**31 + 0.5).astype(np.int64)
    shift = np.clip(31 - exponent.astype(np.int64), 1, 62)
    apart = sets.size * parts - total
    unit = ((apart * multiplier + (np.int64(1) << (shift - 1))) >> shift).reshape(len(x), -1)
    places = np.arange(unit.shape[1]) // sets.divisor
    weight = arrays["weight"]
    scaled = unit * weight[places % len(weight)]
    if "bias" in arrays:
        scaled = scaled + (arrays["bias"][places % sets.count] << UNIT_BITS)
    bits = UNIT_BITS + FACTOR_BITS
    return ((scaled + (1 << (bits - 1))) >> bits).reshape(x.shape)
