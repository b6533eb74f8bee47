"""What a sweep varies: values or a range of each option."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.arguments import as_number
from fastcnn.errors import ConfigurationError
from fastcnn.scalars import make_plain


@dataclass(frozen=True)
class Span:
    """A range from which a random search draws numbers.

    Attributes
    ----------
    low, high : float
    log : bool
        Draw the logarithm evenly, as befits learning rates.
    whole : bool
        Draw integers, both ends included.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        make_plain(self)
        for name in ("low", "high"):
            as_number("a range", name, getattr(self, name))
        if not self.low < self.high or (self.log and self.low <= 0.0):
            raise ConfigurationError(
                f"a range needs low < high, and low > 0 if it is logarithmic: got {self}"
            )
        if self.whole and (self.low % 1 or self.high % 1):
            raise ConfigurationError(f"a range of whole numbers needs whole ends, got {self}")

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{self.low:g}..{self.high:g}"

    def draw(self, generator: np.random.Generator) -> float | int:
        """One number."""
        low, high = np.log([self.low, self.high]) if self.log else (self.low, self.high)
        if self.whole and not self.log:
            return int(generator.integers(int(self.low), int(self.high) + 1))
        value = generator.uniform(low, high)
        value = float(np.exp(value)) if self.log else float(value)
        return round(value) if self.whole else float(f"{value:.4g}")


Space = Mapping[str, Sequence[Any] | Span]


def check_space(space: Space) -> None:
    """Refuse what is neither values nor a range, and parameters without a value.

    Raises
    ------
    ConfigurationError
    """
    for name, values in space.items():
        several = isinstance(values, (Sequence, np.ndarray)) and not isinstance(values, str)
        if not isinstance(values, Span) and not (several and len(values)):
            raise ConfigurationError(f"{name}: needs a list of values or a Span, got {values!r}")
