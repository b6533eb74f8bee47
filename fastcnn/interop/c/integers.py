"""What 8-bit numbers mean, and one step of a network of them."""

from dataclasses import dataclass, field

import numpy as np

from fastcnn.backends.graph import Node

LOW, HIGH = -128, 127
#: Bits after the point in the factors of a sum.
ADD_BITS = 20


@dataclass(frozen=True)
class Scale:
    """What an 8-bit number means: ``scale * (q - zero)``."""

    scale: float
    zero: int

    @classmethod
    def of_range(cls, low: float, high: float) -> "Scale":
        """The finest that covers a range; 0 is one of its numbers exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / (HIGH - LOW) if high > low else 1.0
        return cls(float(np.float32(scale)), int(np.clip(round(LOW - low / scale), LOW, HIGH)))

    def quantise(self, values: np.ndarray) -> np.ndarray:
        """The nearest 8-bit numbers, as int64."""
        inverse = np.float32(1.0 / self.scale)
        nearest = np.rint(np.asarray(values, np.float32) * inverse).astype(np.float64)
        return np.clip(nearest + self.zero, LOW, HIGH).astype(np.int64)

    def real(self, quantised: np.ndarray) -> np.ndarray:
        """The numbers that 8-bit numbers mean, in float64."""
        return self.scale * (np.asarray(quantised, np.float64) - self.zero)


@dataclass(frozen=True)
class IntegerStep:
    """One step in integers.

    Attributes
    ----------
    node : Node
    inputs : tuple of int
    scale : Scale
        Scale of the output.
    low, high : int
        Bounds of the output: those of a ReLU that is part of the step.
    arrays : dict of str to ndarray
        ``weight``, ``bias``, ``multiplier``, ``shift``; ``table``; ``factor``; ``places``; or
        ``rows``, ``columns``.
    gives_floats : bool
        Whether the output is in floats: the last layer with weights gives the network's outputs.
    """

    node: Node
    inputs: tuple[int, ...]
    scale: Scale
    low: int = LOW
    high: int = HIGH
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    gives_floats: bool = False


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
    # Factors below 2**-31 give 0, and those above 1 are rare but right.
    multiplier = np.where(shift > 62, 0, multiplier)
    return {"multiplier": multiplier, "shift": np.clip(shift, 1, 62)}
