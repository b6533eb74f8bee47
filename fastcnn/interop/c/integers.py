"""Quantisation scales, and integer steps that move values or normalise within a sample.

Sums and squares of a set are exact integers; the only other number is the inverse of a standard
deviation, whose square root and division are correctly rounded everywhere.
"""

from dataclasses import dataclass, field

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.errors import ConfigurationError
from fastcnn.interop.inference_plan import Plan
from fastcnn.interop.sample_steps import MOVING, NORMS, is_bilinear, places_of, sets_of, taps_of

LOW, HIGH = -128, 127
#: Fractional bits of the factors of a sum.
ADD_BITS = 20
SAMPLE = (*MOVING, *NORMS, "softmax")
#: Fractional bits of an exponential, which is at most 1.
EXP_BITS = 20
#: Fractional bits of the weight of a pixel on each axis, of a normalised value, and of a factor.
SHARE_BITS, UNIT_BITS, FACTOR_BITS = 8, 12, 16
#: Largest size of a set for which products with 31 bits fit in 64.
LARGEST_SET = 1 << 22


@dataclass(frozen=True)
class Scale:
    """The value of an 8-bit integer ``q``: ``scale * (q - zero)``."""

    scale: float
    zero: int

    @classmethod
    def of_range(cls, low: float, high: float) -> "Scale":
        """The finest scale that covers a range; 0 is represented exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / (HIGH - LOW) if high > low else 1.0
        return cls(float(np.float32(scale)), int(np.clip(round(LOW - low / scale), LOW, HIGH)))

    def quantise(self, values: np.ndarray) -> np.ndarray:
        """The nearest 8-bit integers, as int64."""
        inverse = np.float32(1.0 / self.scale)
        nearest = np.rint(np.asarray(values, np.float32) * inverse).astype(np.float64)
        return np.clip(nearest + self.zero, LOW, HIGH).astype(np.int64)

    def real(self, quantised: np.ndarray) -> np.ndarray:
        """The values of 8-bit integers, in float64."""
        return self.scale * (np.asarray(quantised, np.float64) - self.zero)


@dataclass(frozen=True)
class IntegerStep:
    """One step in integers.

    Attributes
    ----------
    scale : Scale
        Scale of the output.
    low, high : int
        Bounds of the output: those of a ReLU fused into the step.
    arrays : dict of str to ndarray
        ``weight``, ``bias``, ``multiplier``, ``shift``; ``table``; ``factor``; ``places``; or
        ``rows``, ``columns``.
    gives_floats : bool
        Whether the output is in floats: for the last layer with weights, if its outputs are the
        network's.
    """

    node: Node
    inputs: tuple[int, ...]
    scale: Scale
    low: int = LOW
    high: int = HIGH
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    gives_floats: bool = False


#: Output scale of a softmax: units of 1 / 256.
SHARES = Scale(1 / 256, LOW)


def shifted(total: np.ndarray, bits: int) -> np.ndarray:
    """``total / 2**bits``, rounded to nearest, halves up."""
    return (total + (1 << (bits - 1))) >> bits


def rescaled(total: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``total * multiplier / 2**shift``, rounded to nearest, halves up."""
    return (total * multiplier + (np.int64(1) << (shift - 1))) >> shift


def multiplier_of(factors: np.ndarray) -> dict[str, np.ndarray]:
    """Positive factors as ``multiplier / 2**shift``, to 31 bits."""
    mantissa, exponent = np.frexp(factors)
    multiplier = np.rint(mantissa * 2**31).astype(np.int64)
    # 2**31 itself does not fit.
    over = multiplier == 2**31
    multiplier, exponent = np.where(over, 2**30, multiplier), exponent + over
    shift = 31 - exponent.astype(np.int64)
    # Factors below 2**-31 become 0; those above 1 are rare but correct.
    multiplier = np.where(shift > 62, 0, multiplier)
    return {"multiplier": multiplier, "shift": np.clip(shift, 1, 62)}


def sample_arrays(plan: Plan, node: Node, given: Scale, scale: Scale) -> dict[str, np.ndarray]:
    """A step's constants."""
    if is_bilinear(node):
        # Indices unchanged, weights in fixed point.
        units = np.array([[1], [1], [2**SHARE_BITS]])
        taps = zip(("rows", "columns"), taps_of(node), strict=True)
        return {name: np.rint(axis * units).astype(np.int64) for name, axis in taps}
    if node.operation in MOVING:
        parts, places = places_of(node)
        return {"parts": np.array(parts), "places": places}
    sets = sets_of(node)
    if node.operation == "softmax":
        below = given.scale * np.arange(HIGH - LOW + 1)
        return {"exponentials": np.rint(np.exp(-below) * 2**EXP_BITS).astype(np.int64)}
    if sets.size > LARGEST_SET:
        raise ConfigurationError(
            f"layer {node.name!r}: {node.operation} over more than {LARGEST_SET:,} values has "
            f"no integer form, got {sets.size:,}"
        )
    arrays = {"weight": _factors(np.ones(1) / scale.scale)}
    for which in ("weight", "bias"):
        if which in node.parameters:
            values = plan.state[node.parameters[which]].reshape(-1)
            arrays[which] = _factors(values / scale.scale)
    # What is added to size**2 times the variance of 8-bit numbers.
    summand = node.arguments["eps"] * sets.size**2 / given.scale**2
    return arrays | {"summand": np.array(summand, np.float64)}


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
    """Bilinear interpolation, with the weights of both axes multiplied before rounding."""
    one = 1 << SHARE_BITS
    for axis, name in ((2, "rows"), (3, "columns")):
        first, second, share = arrays[name]
        share = share.reshape(-1, *(1,) * (3 - axis))
        x = (one - share) * np.take(x, first, axis) + share * np.take(x, second, axis)
    return shifted(x, 2 * SHARE_BITS)


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
    unit = rescaled(apart, multiplier, shift).reshape(len(x), -1)
    places = np.arange(unit.shape[1]) // sets.divisor
    weight = arrays["weight"]
    scaled = unit * weight[places % len(weight)]
    if "bias" in arrays:
        scaled = scaled + (arrays["bias"][places % sets.factors] << UNIT_BITS)
    return shifted(scaled, UNIT_BITS + FACTOR_BITS).reshape(x.shape)
