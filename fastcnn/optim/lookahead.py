"""Lookahead: slow weights that follow the fast ones every few steps."""

import math
from dataclasses import dataclass, fields
from typing import Any

from fastcnn.errors import ConfigurationError
from fastcnn.scalars import MOST_COUNT, is_number, make_plain, plain


@dataclass(frozen=True)
class Lookahead:
    """Every ``every`` steps, slow weights move towards the fast ones, which continue from there.

    ``slow += a * (fast - slow)``, ``fast = slow``. Running statistics of batch normalisation are
    moved in the same way. Evaluation uses the slow weights, which are also those of the trained
    model.

    Attributes
    ----------
    every : int
        Steps of the fast weights between two of the slow ones.
    alpha : float
        ``a`` at the start of the training.
    final_alpha : float, optional
        ``a`` at the end, by default the same: after a fraction ``t`` of the training it is
        ``alpha + (final_alpha - alpha) * t ** power``.
    power : float
        How late ``a`` changes: 1 for evenly over the training, more for mostly at its end.

    References
    ----------
    Zhang et al., arXiv:1907.08610, algorithm 1; the change of ``a`` is that of the CIFAR-10 speed
    record airbench94 (arXiv:2404.00498): ``Lookahead(5, 1.0, 1 - 0.95**5, 3)``.
    """

    every: int = 5
    alpha: float = 0.5
    final_alpha: float | None = None
    power: float = 1.0

    def __post_init__(self) -> None:
        make_plain(self)
        is_count = type(self.every) is int and self.every >= 1
        if not is_count or self.every > MOST_COUNT:
            most = f" and at most {MOST_COUNT:,}" if is_count else ""
            raise ConfigurationError(
                f"lookahead: every must be a number of steps of at least 1{most}, got "
                f"{self.every!r}"
            )
        shares = {"alpha": self.alpha, "final_alpha": self.final_alpha}
        if self.final_alpha is None:
            del shares["final_alpha"]
        for name, value in shares.items():
            if not is_number(value) or not 0.0 < value <= 1.0:  # type: ignore[operator]
                raise ConfigurationError(
                    f"lookahead: {name} must be a number above 0 and up to 1, got {value!r}"
                )
        if not is_number(self.power) or not 0.0 < self.power < math.inf:
            raise ConfigurationError(f"lookahead: power must be above 0, got {self.power!r}")
        if self.power != 1.0 and self.final_alpha is None:
            raise ConfigurationError(
                f"lookahead: power={self.power!r} has no effect without final_alpha"
            )

    @classmethod
    def of(cls, value: Any) -> "Lookahead":
        """Lookahead from itself, a number of steps, or text such as ``"every=5,alpha=0.8"``.

        Parameters
        ----------
        value : Lookahead, int or str

        Raises
        ------
        ConfigurationError
            If it is none of these.
        """
        if isinstance(value, Lookahead):
            return value
        value = plain(value)
        if type(value) is int:
            return cls(value)
        example = 'a number of steps, or text such as "every=5,alpha=0.5"'
        if not isinstance(value, str):
            raise ConfigurationError(f"lookahead must be {example}, got {value!r}")
        known = [each.name for each in fields(cls)]
        settings: dict[str, Any] = {}
        for word in value.split(","):
            name, equals, number = word.strip().partition("=")
            if not equals:
                name, number = "every", name
            if name in settings:
                raise ConfigurationError(f"lookahead: {name} is given twice: {value!r}")
            try:
                settings[name] = int(number) if name == "every" else float(number)
            except ValueError:
                raise ConfigurationError(f"lookahead must be {example}, got {value!r}") from None
            if name not in known:
                raise ConfigurationError(
                    f"lookahead has {', '.join(known)}, not {name!r}: {value!r}"
                )
        return cls(**settings)

    def weight(self, share: float) -> float:
        """``a`` after a fraction of the training's steps.

        Parameters
        ----------
        share : float
            The fraction, in 0..1.
        """
        if self.final_alpha is None:
            return self.alpha
        return self.alpha + (self.final_alpha - self.alpha) * share**self.power
